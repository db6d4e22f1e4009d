// SPDX-License-Identifier: GPL-2.0
/*
 * Says in the kernel's log that a level was live when the kernel oopsed or panicked, and counts. The log is what
 * survives: with pstore, kdump or a remote console, whoever looks after the next boot finds which level it was.
 *
 * Whatever CPU may be in whatever state here: nothing is locked, and two words are read.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kdebug.h>
#include <linux/notifier.h>
#include <linux/panic_notifier.h>

#include "shim.h"

static unsigned int live_level;
static atomic_t oopses = ATOMIC_INIT(0);

void kcare_oops_set_level(unsigned int level)
{
	WRITE_ONCE(live_level, level);
}

unsigned int kcare_oops_count(void)
{
	return atomic_read(&oopses);
}

/* Behind the registers and the stack in __die_body() (arch/x86/kernel/dumpstack.c). */
static int note_oops(struct notifier_block *nb, unsigned long what, void *args)
{
	unsigned int level = READ_ONCE(live_level);

	if (what == DIE_OOPS && level)
		pr_emerg("oops %d while patch level %u is live\n", atomic_inc_return(&oopses), level);
	return NOTIFY_DONE;
}

static int note_panic(struct notifier_block *nb, unsigned long what, void *args)
{
	unsigned int level = READ_ONCE(live_level);

	if (level)
		pr_emerg("panic while patch level %u is live\n", level);
	return NOTIFY_DONE;
}

static struct notifier_block oops_block = { .notifier_call = note_oops };
static struct notifier_block panic_block = { .notifier_call = note_panic };

int kcare_oops_watch(void)
{
	int err = register_die_notifier(&oops_block);

	if (err)
		return err;
	err = atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
	if (err)
		unregister_die_notifier(&oops_block);
	return err;
}

void kcare_oops_unwatch(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_block);
	unregister_die_notifier(&oops_block);
}
