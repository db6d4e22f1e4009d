// SPDX-License-Identifier: GPL-2.0
//#Refused: answer: takes the address of `helper`, which has no ENDBR
#include "mini.h"

static noinline void helper(void)
{
	say("helper");
}

void answer(void)
{
#ifdef PATCHED
	give(helper);
#endif
	helper();
}
