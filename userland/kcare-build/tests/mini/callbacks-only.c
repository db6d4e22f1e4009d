// SPDX-License-Identifier: GPL-2.0
//#Func:
//#Callback: pre_patch=set
//#Same: answer
#include "mini.h"

static int setting;

#ifdef PATCHED
#include <linux/livepatch_helpers.h>

static int set(struct klp_object *object)
{
	setting = 42;
	return 0;
}
KLP_PRE_PATCH_CALLBACK(set);
#endif

int answer(int x)
{
	setting += x;
	return setting;
}
