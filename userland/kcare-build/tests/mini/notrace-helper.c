// SPDX-License-Identifier: GPL-2.0
// A function without fentry is reached through its callers.
//#Func: answer question
//#New: helper
#include "mini.h"

ORC(answer);
ORC(question);

static noinline notrace int helper(int x)
{
	say("helper");
#ifdef PATCHED
	return x * 3;
#else
	return x * 2;
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
