// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#Same: helper
//#Note: the patch asks to leave the change of `helper` out
#include "mini.h"

ORC(answer);

noinline int helper(int x)
{
#ifdef PATCHED
	return x * 5;
#else
	return x * 3;
#endif
}

int answer(int x)
{
#ifdef PATCHED
	return helper(x + 1);
#else
	return helper(x);
#endif
}

#ifdef PATCHED
#include "kpatch-macros.h"
KPATCH_IGNORE_FUNCTION(helper);
#endif
