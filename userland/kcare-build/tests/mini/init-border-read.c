// SPDX-License-Identifier: GPL-2.0
// Behind the border is memory that has been freed.
//#Refused: answer: refers to `_sinittext`, which is freed after boot
#include "mini.h"

extern char _sinittext[];

init void setup(void)
{
	say("setup");
}

int answer(int x)
{
#ifdef PATCHED
	return _sinittext[x];
#endif
	return x;
}
