// SPDX-License-Identifier: GPL-2.0
//#Refused: answer: takes the address of `say`, whose ENDBR the kernel seals
#include "mini.h"

void answer(void)
{
#ifdef PATCHED
	give(say);
#endif
	say("answer");
}
