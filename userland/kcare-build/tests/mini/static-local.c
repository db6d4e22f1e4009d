// SPDX-License-Identifier: GPL-2.0
// The running kernel's counter goes on counting.
//#Func: answer
//#Extern: calls.0
#include "mini.h"

ORC(answer);

int answer(int x)
{
	static int calls;
#ifdef PATCHED
	if (x < 0)
		return -1;
#endif
	return x + calls++;
}
