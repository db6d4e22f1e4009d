// SPDX-License-Identifier: GPL-2.0
// Code that moves into a new function may have meant to take its variable along; the old function keeps another one.
//#Func: first
//#New: second
//#Note: variable `calls` of `second` is new and begins with its initial value
#include "mini.h"

ORC(first);

#ifdef PATCHED
static noinline int second(int x)
{
	static int calls;

	return x + calls++;
}
#endif

int first(int x)
{
	static int calls;

#ifdef PATCHED
	calls += 3;
	return second(x) + calls;
#else
	return x + calls++;
#endif
}
