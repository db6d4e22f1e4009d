// SPDX-License-Identifier: GPL-2.0
#include "module.h"

static int count = 5;
static char warned once;

static noinline int step(int x)
{
	count -= x;
	if (!warned) {
		warned = 2;
		say("step two");
	}
	return count;
}

#if FIX == 1
noinline int second_news(int x)
{
	return step(x) * 3;
}
#endif

int second(int x)
{
#if FIX == 1
	return step(x + 1);
#else
	return step(x);
#endif
}
ORC(second);
