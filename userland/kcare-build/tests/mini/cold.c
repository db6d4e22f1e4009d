// SPDX-License-Identifier: GPL-2.0
// A function comes with its cold part, and the cold part of the original is told to the kernel.
//#Func: answer
//#New: answer.cold
//#Cold: answer
#include "mini.h"

ORC(answer);
__attribute__((cold, __noinline__)) void fail(const char *why)
{
	say(why);
}

int answer(int x)
{
#ifdef PATCHED
	if (__builtin_expect(x > 100, 0)) {
		fail("above");
		return -2;
	}
#endif
	if (__builtin_expect(x < 0, 0)) {
		fail("below");
		return -1;
	}
	return x;
}
