/* SPDX-License-Identifier: GPL-2.0 */
/* What the units of the test's little modules have in common. */

#define noinline __attribute__((__noinline__))
#define percpu __attribute__((section(".data..percpu")))
#define ro_after_init __attribute__((section(".data..ro_after_init")))
#define once __attribute__((section(".data..once")))

/* An unwind entry for a function's start: CFA is sp+8, an ordinary call (asm/orc_types.h). */
#define ORC(name)                                                                                  \
	asm(".pushsection .orc_unwind_ip, \"a\"\n .long " #name " - .\n .popsection\n"             \
	    ".pushsection .orc_unwind, \"a\"\n .byte 8, 0, 0, 0, 5, 2\n .popsection\n")

/* vmlinux */
void say(const char *text);
void give(void *thing);
/* what the fix adds to it */
int kernel_news(int x);
/* the module that this one depends on */
int helped(int x);
/* one that it does not depend on, and what the fix adds to that */
int strange(int x);
int stranger(int x);

/* first.c, second.c */
int first(int x);
int second(int x);
int second_news(int x);
extern int limit;
