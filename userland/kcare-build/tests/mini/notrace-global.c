// SPDX-License-Identifier: GPL-2.0
//#Refused: answer: has no fentry and cannot be redirected (it is notrace)
#include "mini.h"

notrace int answer(int x)
{
#ifdef PATCHED
	say("new");
#endif
	return x;
}
