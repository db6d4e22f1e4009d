// SPDX-License-Identifier: GPL-2.0
//#Refused: setup: is init code or data
#include "mini.h"

init void setup(void)
{
#ifdef PATCHED
	say("new");
#endif
	say("setup");
}
