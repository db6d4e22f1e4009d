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
#else
	return step(x) + limit;
#endif
}
ORC(first);
