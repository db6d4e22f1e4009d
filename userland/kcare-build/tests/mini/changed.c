// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#Extern: say count __fentry__
//#Same: other
#include "mini.h"

ORC(answer);
static int count;

noinline int other(int x)
{
	return x * count;
}

int answer(int x)
{
	count += x;
#ifdef PATCHED
	say("checked");
	if (x > 100)
		return -1;
#endif
	return count;
}
