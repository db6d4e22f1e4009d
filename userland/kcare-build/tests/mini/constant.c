// SPDX-License-Identifier: GPL-2.0
// Who reads a constant that changed has to be redirected, though its code is the same.
//#Func: answer
//#New: table
#include "mini.h"

ORC(answer);

#ifdef PATCHED
static const int table[] = { 1, 2, 3, 5, 8 };
#else
static const int table[] = { 1, 2, 3, 4, 5 };
#endif

int answer(int x)
{
	return table[x % 5u];
}
