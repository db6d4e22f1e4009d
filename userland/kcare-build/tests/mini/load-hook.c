// SPDX-License-Identifier: GPL-2.0
//#Error: no load hooks: make start a KPATCH_PRE_PATCH_CALLBACK
#include "mini.h"

void start(void)
{
	say("start");
}

#ifdef PATCHED
#include "kpatch-macros.h"
KPATCH_LOAD_HOOK(start);
#endif
