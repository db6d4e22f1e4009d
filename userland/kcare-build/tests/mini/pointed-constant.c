// SPDX-License-Identifier: GPL-2.0
//#Refused: table: is a constant that changed
#include "mini.h"

#ifdef PATCHED
static const int table[] = { 1, 2, 3, 5, 8 };
#else
static const int table[] = { 1, 2, 3, 4, 5 };
#endif

const int *const pointer = table;

int answer(int x)
{
	return pointer[x % 5u];
}
