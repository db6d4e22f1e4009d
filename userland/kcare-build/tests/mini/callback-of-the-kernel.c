// SPDX-License-Identifier: GPL-2.0
//#Refused: reset: is the post_patch callback and a function of the running kernel
#include "mini.h"
#include <linux/livepatch_helpers.h>

void reset(struct klp_object *object)
{
	give(object);
}

#ifdef PATCHED
KLP_POST_PATCH_CALLBACK(reset);
#endif
