// SPDX-License-Identifier: GPL-2.0
// To compare with a border of init memory is right also when it has been freed.
//#Func: answer
//#Extern: _sinittext _einittext
#include "mini.h"

ORC(answer);

extern char _sinittext[], _einittext[];

init void setup(void)
{
	say("setup");
}

int answer(unsigned long addr)
{
#ifdef PATCHED
	if (addr >= (unsigned long)_sinittext && addr < (unsigned long)_einittext)
		return -1;
#endif
	return addr & 1;
}
