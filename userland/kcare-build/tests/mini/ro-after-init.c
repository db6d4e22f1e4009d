// SPDX-License-Identifier: GPL-2.0
// What init code may have set is the running kernel's, although nothing writes to it now.
//#Refused: limit: is a variable whose initial value changed
#include "mini.h"

#ifdef PATCHED
#define LIMIT 6
#else
#define LIMIT 5
#endif

static int limit __attribute__((section(".data..ro_after_init"))) = LIMIT;

init void setup(int x)
{
	limit = x;
}

int answer(int x)
{
	return x + limit;
}
