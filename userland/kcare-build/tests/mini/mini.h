/* SPDX-License-Identifier: GPL-2.0 */
/* What the units of the test's little kernel have in common. */

#define noinline __attribute__((__noinline__))
#define notrace __attribute__((no_instrument_function))
#define init __attribute__((section(".init.text"), __noinline__))

void say(const char *text);
void give(void *thing);

/* An unwind entry for a function's start: CFA is sp+8, an ordinary call (asm/orc_types.h). */
#define ORC(name)                                                                                  \
	asm(".pushsection .orc_unwind_ip, \"a\"\n .long " #name " - .\n .popsection\n"             \
	    ".pushsection .orc_unwind, \"a\"\n .byte 8, 0, 0, 0, 5, 2\n .popsection\n")
