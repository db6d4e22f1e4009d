// SPDX-License-Identifier: GPL-2.0
//#Error: KPATCH_IGNORE_FUNCTION names `helpr`, which is no function of this file
#include "mini.h"

int answer(int x)
{
	return x;
}

#ifdef PATCHED
#include "kpatch-macros.h"
KPATCH_IGNORE_FUNCTION(helpr);
#endif
