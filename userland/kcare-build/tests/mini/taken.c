// SPDX-License-Identifier: GPL-2.0
// Pointers to a patched function go to the original, so that they outlive the payload.
//#Func: answer
//#Extern: answer
#include "mini.h"

ORC(answer);
void answer(void);

void (*volatile saved)(void);

void answer(void)
{
#ifdef PATCHED
	say("new");
#endif
	saved = answer;
}
