// SPDX-License-Identifier: GPL-2.0
// Tables of places in a function are its own, whether the compiler makes them of a switch or the source has them, and
// so is the place that an instruction is at.
//#Func: answer question
//#New: answer answer.cold ways.0
//#Extern: question
#include "mini.h"

ORC(answer);
ORC(question);

__attribute__((cold, __noinline__)) int fail(const char *why)
{
	say(why);
	return 0;
}

__attribute__((optimize("jump-tables"))) int answer(int x)
{
#ifdef PATCHED
	switch (x) {
	case 0: say("nought"); break;
	case 1: say("one"); return 5;
	case 2: give(&x); break;
	case 3: say("three"); return 17;
	case 4: fail("four"); return 3;
	case 5: say("five"); return 2;
	case 6: give("six"); break;
	case 7: say("seven"); return 90;
	}
#endif
	return x;
}

int question(int x)
{
#ifdef PATCHED
	static const void *const ways[] = { &&more, &&less, &&none };

	give(&&none);
	give(question);
	goto *ways[x];
more:
	say("more");
	return x + 1;
less:
	say("less");
	return x - 1;
none:
	say("none");
#endif
	return x;
}
