// SPDX-License-Identifier: GPL-2.0
// One variable is gone and another of its name and size is new in the same place of the code: not the same one.
//#Refused: answer: uses the static variable `calls
#include "mini.h"

#ifdef PATCHED
static inline int second(int x)
#else
static inline int first(int x)
#endif
{
	static int calls;

	return x + calls++;
}

int answer(int x)
{
#ifdef PATCHED
	return 2 * second(x);
#else
	return first(x);
#endif
}
