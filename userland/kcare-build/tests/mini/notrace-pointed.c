// SPDX-License-Identifier: GPL-2.0
//#Refused: helper: has no fentry and cannot be redirected (it is notrace, and data points to it)
#include "mini.h"

static notrace int helper(int x)
{
#ifdef PATCHED
	return x * 3;
#else
	return x * 2;
#endif
}

int (*const pointer)(int) = helper;
