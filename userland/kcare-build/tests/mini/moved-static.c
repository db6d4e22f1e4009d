// SPDX-License-Identifier: GPL-2.0
// It cannot be told whether the variable is the same one.
//#Refused: second: uses the static variable `calls
#include "mini.h"

int first(int x)
{
#ifndef PATCHED
	static int calls;

	x += calls++;
#endif
	return x;
}

int second(int x)
{
#ifdef PATCHED
	static int calls;

	x += calls++;
#endif
	return x;
}
