// SPDX-License-Identifier: GPL-2.0
//#Error: a state has the id 0
#include "mini.h"

int answer(int x)
{
	return x;
}

#ifdef PATCHED
#include "kcare.h"
KCARE_STATE(0, 1);
#endif
