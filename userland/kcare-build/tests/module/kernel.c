// SPDX-License-Identifier: GPL-2.0
// The unit of vmlinux; the rest of it is ../mini/core.c.
#include "module.h"

int greet(int x)
{
#if FIX == 1 || FIX >= 4
	return x + kernel_news(x);
#else
	return x;
#endif
}
ORC(greet);

#if FIX == 1 || FIX >= 4
noinline int kernel_news(int x)
{
	return x * 5;
}
ORC(kernel_news);
#endif
