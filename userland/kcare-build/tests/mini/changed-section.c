// SPDX-License-Identifier: GPL-2.0
//#Refused: changed-section.c: changes section `rules`
#include "mini.h"

#ifdef PATCHED
asm(".pushsection rules, \"a\"\n .long 1, 2\n .popsection");
#else
asm(".pushsection rules, \"a\"\n .long 1\n .popsection");
#endif

int answer(int x)
{
	return x;
}
