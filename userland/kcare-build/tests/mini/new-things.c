// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#New: helper words limit seen.0
#include "mini.h"

ORC(answer);

#ifdef PATCHED
static const char *const words[] = { "one", "two", "three" };
static volatile unsigned limit = 2;

static noinline const char *helper(unsigned n)
{
	return words[n < limit ? n : limit];
}
#endif

int answer(int x)
{
#ifdef PATCHED
	static int seen;

	say(helper(x));
	return x + seen++;
#else
	return x;
#endif
}
