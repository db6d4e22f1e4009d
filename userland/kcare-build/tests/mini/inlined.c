// SPDX-License-Identifier: GPL-2.0
// The helper is inlined everywhere: its users change.
//#Func: answer question
//#Same: other
#include "mini.h"

ORC(answer);
ORC(question);

static inline int helper(int x)
{
#ifdef PATCHED
	return x > 9 ? 9 : x;
#else
	return x;
#endif
}

int answer(int x)
{
	return helper(x) + 1;
}

int question(int x)
{
	return helper(x) - 1;
}

int other(int x)
{
	return x;
}
