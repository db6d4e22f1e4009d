// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#Note: the patch asks to leave changes in section `rules` out (all of it)
//#Note: the patch asks to leave changes in section `names` out (answer_name)
#include "mini.h"

ORC(answer);

#ifdef PATCHED
#include "kpatch-macros.h"
asm(".pushsection rules, \"a\"\n .long 1, 2\n .popsection");
KPATCH_IGNORE_SECTION("rules");
__attribute__((section("names"))) int answer_name = 2;
KPATCH_IGNORE_SECTION("names");
#else
asm(".pushsection rules, \"a\"\n .long 1\n .popsection");
__attribute__((section("names"))) int answer_name = 1;
#endif

int answer(int x)
{
#ifdef PATCHED
	return x + 1;
#else
	return x;
#endif
}
