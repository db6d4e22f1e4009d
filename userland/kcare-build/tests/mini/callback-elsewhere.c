// SPDX-License-Identifier: GPL-2.0
//#Error: the post_patch callback is no function of the file that declares it
#include "mini.h"
#include <linux/livepatch_helpers.h>

int answer(int x)
{
	return x;
}

#ifdef PATCHED
void elsewhere(struct klp_object *object);
KLP_POST_PATCH_CALLBACK(elsewhere);
#endif
