// SPDX-License-Identifier: GPL-2.0
// A thunk is the payload's code, though what it leads to stays.
//#Func: answer
//#New: thunk.say
//#Escapes: thunk.say=words
#include "mini.h"

ORC(answer);

#ifdef PATCHED
static void (*const volatile words[])(const char *text) = { say };
#endif

void answer(int x)
{
#ifdef PATCHED
	words[x]("answer");
#endif
	say("answer");
}
