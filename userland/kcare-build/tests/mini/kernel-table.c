// SPDX-License-Identifier: GPL-2.0
//#Refused: kernel-table.c: changes section `.initcall6.init`
#include "mini.h"

init void setup(void)
{
	say("setup");
}

init void later(void)
{
	say("later");
}

#ifdef PATCHED
asm(".pushsection .initcall6.init, \"a\"\n.long later - .\n.popsection");
#else
asm(".pushsection .initcall6.init, \"a\"\n.long setup - .\n.popsection");
#endif
