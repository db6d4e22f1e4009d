// SPDX-License-Identifier: GPL-2.0
//#Error: previous definition
#include "mini.h"

int answer(int x)
{
	return x;
}

#ifdef PATCHED
#include "kpatch-macros.h"

static void first(patch_object *object)
{
	say("first");
}
KPATCH_POST_PATCH_CALLBACK(first);

static void second(patch_object *object)
{
	say("second");
}
KPATCH_POST_PATCH_CALLBACK(second);
#endif
