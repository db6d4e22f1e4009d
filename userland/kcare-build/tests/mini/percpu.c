// SPDX-License-Identifier: GPL-2.0
//#Refused: answer: uses the new per-CPU variable `counter`
#include "mini.h"

#ifdef PATCHED
static __attribute__((section(".data..percpu"))) int counter;
#endif

int answer(int x)
{
#ifdef PATCHED
	return x + counter++;
#else
	return x;
#endif
}
