// SPDX-License-Identifier: GPL-2.0
// A variable leaves its function; the running kernel's would be lost.
//#Refused: answer: uses the static variable `calls`
#include "mini.h"

#ifdef PATCHED
static int calls;
#endif

int answer(int x)
{
#ifndef PATCHED
	static int calls;
#endif

	if (x < 0)
		calls = 0;
#ifdef PATCHED
	if (x > 100)
		calls = 1;
#endif
	return x + calls++;
}
