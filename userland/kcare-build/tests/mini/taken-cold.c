// SPDX-License-Identifier: GPL-2.0
// Pointers to a patched function go to the original where its cold part takes them, too.
//#Func: answer
//#New: answer.cold
//#Extern: answer
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
		give(answer);
	}
#endif
	return x;
}
