// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#New: thunk.say
//#Escapes: thunk.say=answer
#include "mini.h"

ORC(answer);

void answer(void)
{
#ifdef PATCHED
	give(say);
#endif
	say("answer");
}
