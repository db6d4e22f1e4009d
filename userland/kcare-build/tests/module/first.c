// SPDX-License-Identifier: GPL-2.0
// Has names in common with second.c; FIX selects what the patch does.
#include "module.h"

static int count = 3;
static percpu int hits;
static char warned once;
int limit ro_after_init = 7;

static noinline int step(int x)
{
	count += x;
	if (!warned) {
		warned = 1;
		say("step");
	}
	return count;
}

#if FIX == 5
static int own_news(int x)
{
	return x * 7;
}
#endif

int first(int x)
{
	hits += x;
#if FIX == 1
	/* Something of each kind: own, percpu, of vmlinux, of the other unit, of another module, new in both. */
	say("patched");
	return step(x) + second(limit) + helped(count) + kernel_news(x) + second_news(hits);
#elif FIX == 2
	return step(x) + strange(x);
#elif FIX == 3
	return step(x) + stranger(x);
#elif FIX == 4
	/* What the fix adds to vmlinux goes to a timer. */
	give(kernel_news);
	return step(x) + limit;
#elif FIX == 5
	/* What it adds to the module does. */
	give(own_news);
	return step(x) + kernel_news(limit);
#elif FIX == 6
	return step(x) + kernel_news(limit);
#else
	return step(x) + limit;
#endif
}
ORC(first);
