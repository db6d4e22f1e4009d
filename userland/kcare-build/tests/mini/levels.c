// SPDX-License-Identifier: GPL-2.0
// Two patches for the test of `kcare-build diff`; here the first one.
//#Func: answer question counted gone
//#New: helper limit
#include "mini.h"

ORC(answer);
ORC(question);
ORC(counted);
ORC(gone);
ORC(other);

#ifdef PATCHED
static volatile int limit = PATCHED + 1;

static noinline int helper(int x)
{
	return x > limit ? limit : x + (PATCHED == 2 ? x * 77 : 0);
}
#endif

int answer(int x)
{
#ifdef PATCHED
	say(PATCHED == 2 ? "two" : "one");
	return helper(x);
#else
	return x;
#endif
}

int other(int x)
{
#if PATCHED == 2
	static volatile int extra = 7;

	return x + extra++;
#else
	return x;
#endif
}

int question(int x)
{
#ifdef PATCHED
	say("question");
#endif
	return x - 1;
}

int counted(int x)
{
#ifdef PATCHED
	static volatile int count = 9;

	return x + count++;
#else
	return x;
#endif
}

int gone(int x)
{
#if PATCHED == 1
	return x * 3;
#else
	return x;
#endif
}
