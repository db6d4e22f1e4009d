// SPDX-License-Identifier: GPL-2.0
//#Refused: limit: is a variable whose initial value changed
#include "mini.h"

#ifdef PATCHED
int limit = 20;
#else
int limit = 10;
#endif

int answer(int x)
{
	return x < limit;
}
