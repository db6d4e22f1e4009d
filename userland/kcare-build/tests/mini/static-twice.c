// SPDX-License-Identifier: GPL-2.0
// Inlining brings two variables of one name into one function; debug information tells which is which, whatever
// their numbers.
//#Func: answer
//#Extern: calls.0 calls.1
//#New: third
#include "mini.h"

ORC(answer);

#ifdef PATCHED
// Shifts the numbers.
static noinline int third(int x)
{
	static int calls[2];

	calls[x & 1]++;
	return calls[0];
}
#endif

static inline int first(int x)
{
	static int calls;

	return x + calls++;
}

static inline int second(int x)
{
	static int calls;

	return x - calls++;
}

int answer(int x)
{
#ifdef PATCHED
	if (x < 0)
		return third(x);
	return second(x) + first(x);
#else
	return first(x) + second(x);
#endif
}
