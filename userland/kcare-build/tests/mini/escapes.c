// SPDX-License-Identifier: GPL-2.0
// Whose address is taken: by code, also that of an alternative, by variables, by constants; relative to the instruction, also where the assembler
// needs no relocation for it. What is only called, jumped to or replaced is not, and neither are callbacks.
//#Func: answer
//#Callback: post_unpatch=ended
//#New: expired worked shown swapped near itself called jumped ended work operations
//#Extern: answer
//#Escapes: expired=answer,give_expired worked=work shown=operations swapped=answer near=answer itself=itself
#include "mini.h"

ORC(answer);

#ifdef PATCHED
#include <linux/livepatch_helpers.h>

struct work {
	void *next;
	int (*function)(int x);
};

static int expired(int x)
{
	return x + 1;
}

static noinline void give_expired(void)
{
	say("give");
	give(expired);
	say("given");
}

static int worked(int x)
{
	return x + 2;
}

static struct work work = { 0, worked };

static int shown(int x)
{
	return x + 3;
}

static const struct work operations = { 0, shown };

__attribute__((used)) static int near(int x)
{
	return x + 4;
}

__attribute__((used)) static int swapped(int x)
{
	return x + 7;
}

static noinline int itself(int x)
{
	void *own;

	asm volatile("lea itself(%%rip), %0" : "=r"(own));
	return x + (own == 0);
}

static noinline int called(int x)
{
	say("called");
	return x + 5;
}

static noinline int jumped(int x)
{
	say("jumped");
	return called(x) + 6;
}

static void ended(struct klp_object *object)
{
	say("ended");
}
KLP_POST_UNPATCH_CALLBACK(ended);
#endif

int answer(int x)
{
#ifdef PATCHED
	void *relative, *alternative;

	give(expired);
	give_expired();
	give(&work);
	give((void *)&operations);
	give(answer);
	asm volatile("lea near(%%rip), %0" : "=r"(relative));
	give(relative);
	/* struct alt_instr: place, replacement, feature and flags, both lengths. */
	asm volatile("661: .nops 7\n"
		     ".pushsection .altinstructions, \"a\"\n"
		     ".long 661b - ., 662f - ., 0\n.byte 7, 7\n.popsection\n"
		     ".pushsection .altinstr_replacement, \"ax\"\n"
		     "662: mov $swapped, %%rax\n.popsection"
		     : "=a"(alternative));
	give(alternative);
	x += itself(x);
	x += called(x);
	return jumped(x);
#else
	return x;
#endif
}
