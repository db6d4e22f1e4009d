// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#Note: KPATCH_IGNORE_FUNCTION of `helper` has no effect: it has no code of its own
#include "mini.h"

ORC(answer);

static inline int helper(int x)
{
#ifdef PATCHED
	return x * 5;
#else
	return x * 3;
#endif
}

int answer(int x)
{
	return helper(x);
}

#ifdef PATCHED
#include "kpatch-macros.h"
KPATCH_IGNORE_FUNCTION(helper);
#endif
