// SPDX-License-Identifier: GPL-2.0
//#Func: answer helper
//#New: thunk.helper
//#Escapes: thunk.helper=answer
#include "mini.h"

ORC(answer);
ORC(helper);

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
