// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#New: thunk.say
#include "mini.h"

ORC(answer);

void answer(void)
{
#ifdef PATCHED
	give(say);
#endif
	say("answer");
}
