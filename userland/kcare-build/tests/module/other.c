// SPDX-License-Identifier: GPL-2.0
// The only unit of the modules `helper` and `stranger`.
#include "module.h"

#ifdef OF_HELPER
int helped(int x)
{
	return x + 1;
}
ORC(helped);
#else
int strange(int x)
{
	return x + 2;
}
ORC(strange);
#if FIX == 3
int stranger(int x)
{
	return x + 3;
}
int fixed(int x)
{
	return x + 5;
}
#else
int fixed(int x)
{
	return x + 4;
}
#endif
ORC(fixed);
#endif
