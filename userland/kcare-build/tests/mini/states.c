// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#Callback: pre_patch=take_over post_unpatch=give_back
//#State: 0x2a=3 0x100000001=1
//#Extern: klp_get_state
// PATCHED is 2 for a patch without all that, for the test of `kcare-build diff`.
#include "mini.h"

ORC(answer);

#if PATCHED == 1
#include "kcare.h"

KCARE_STATE(0x100000001, 1);
KCARE_STATE(42, 3);
/* Saying it twice is as good as once. */
KCARE_STATE(42, 3);

static int take_over(struct klp_object *object)
{
	struct klp_state *state = kcare_state(object, 42);
	struct klp_state *previous = kcare_previous_state(object, 42);

	if (!state)
		return -22;
	state->data = previous ? previous->data : 0;
	return 0;
}
KLP_PRE_PATCH_CALLBACK(take_over);

static void give_back(struct klp_object *object)
{
	give(kcare_state(object, 42)->data);
}
KLP_POST_UNPATCH_CALLBACK(give_back);
#endif

int answer(int x)
{
#ifdef PATCHED
	return x + 1;
#else
	return x;
#endif
}
