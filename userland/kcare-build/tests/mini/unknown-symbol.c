// SPDX-License-Identifier: GPL-2.0
//#Refused: answer: refers to `missing`, which vmlinux does not have
#include "mini.h"

void missing(void);

void answer(void)
{
#ifdef PATCHED
	missing();
#endif
	say("answer");
}
