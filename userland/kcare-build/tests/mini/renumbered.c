// SPDX-License-Identifier: GPL-2.0
// A new static variable shifts the compiler's numbers; only its function changes.
//#Func: first
//#New: extra.1
//#Same: second
#include "mini.h"

ORC(first);

int first(int x)
{
#ifdef PATCHED
	static int extra;

	x += extra++;
#endif
	return x;
}

int second(int x)
{
	static int calls;

	return x + calls++;
}
