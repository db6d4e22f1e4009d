// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#Callback: pre_patch=may_start post_patch=started pre_unpatch=ends post_unpatch=ended
//#New: may_start started ends ended limit
//#Extern: say count
#include "mini.h"

ORC(answer);
static int count;

#ifdef PATCHED
#include <linux/livepatch_helpers.h>

static volatile int limit = 2;

static int may_start(struct klp_object *object)
{
	return count < limit ? 0 : -19;
}
KLP_PRE_PATCH_CALLBACK(may_start);

static void started(struct klp_object *object)
{
	say(object->name);
}
KLP_POST_PATCH_CALLBACK(started);

static void ends(struct klp_object *object)
{
	limit = 0;
}
KLP_PRE_UNPATCH_CALLBACK(ends);

static void ended(struct klp_object *object)
{
	count = 0;
}
KLP_POST_UNPATCH_CALLBACK(ended);
#endif

int answer(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;
#endif
	count += x;
	return count;
}
