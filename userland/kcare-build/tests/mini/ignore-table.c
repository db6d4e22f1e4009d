// SPDX-License-Identifier: GPL-2.0
//#Error: KPATCH_IGNORE_SECTION names `__ex_table`, which is part of what functions do
#include "mini.h"

int answer(int x)
{
	return x;
}

#ifdef PATCHED
#include "kpatch-macros.h"
KPATCH_IGNORE_SECTION("__ex_table");
#endif
