// SPDX-License-Identifier: GPL-2.0
// A place in a function is its own only as long as nothing else gets at the table that has it.
//#Func: answer question other
//#New: held seen given
//#Escapes: answer=given,question,seen
#include "mini.h"

ORC(answer);
ORC(question);
ORC(other);

#ifdef PATCHED
/* Of answer() alone; of question(), too; with a pointer to it. */
asm(".pushsection .rodata.held, \"a\"\n.type held, @object\n"
    "held: .quad answer + 5\n.size held, . - held\n.popsection\n"
    ".pushsection .rodata.seen, \"a\"\n.type seen, @object\n"
    "seen: .quad answer + 6\n.size seen, . - seen\n.popsection\n"
    ".pushsection .rodata.given, \"a\"\n.type given, @object\n"
    "given: .quad answer + 7\n.size given, . - given\n.popsection\n");
extern const long held __asm__("held"), seen __asm__("seen"), given __asm__("given");
static const long *volatile where = &given;
#endif

int answer(int x)
{
#ifdef PATCHED
	return x + held + seen + given;
#else
	return x;
#endif
}

int question(int x)
{
#ifdef PATCHED
	asm volatile("mov $answer + 8, %0" : "=r"(x));
	return x + seen;
#else
	return x;
#endif
}

int other(int x)
{
#ifdef PATCHED
	return x + *where;
#else
	return x;
#endif
}
