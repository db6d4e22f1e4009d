// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that can be had back where the kernel would end a task for it.
 *
 * The kernel asks in the context of any task that allocates, whatever that has locked; so the memory is given back by a
 * work item, and the kernel is told that there will be some.
 */

#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/workqueue.h>

#include "shim.h"

static unsigned long spare_pages;
static void *relieve_ctx;
static void (*relieve)(void *ctx);

static void do_relieve(struct work_struct *work)
{
	relieve(relieve_ctx);
}

static DECLARE_WORK(relieve_work, do_relieve);

/* In out_of_memory() (mm/oom_kill.c), which goes on without a victim if there is anything. */
static int note_oom(struct notifier_block *nb, unsigned long unused, void *freed)
{
	unsigned long pages = xchg(&spare_pages, 0);

	if (pages) {
		*(unsigned long *)freed += pages;
		schedule_work(&relieve_work);
	}
	return NOTIFY_OK;
}

static struct notifier_block oom_block = { .notifier_call = note_oom };

int kcare_oom_watch(void *ctx, void (*relief)(void *ctx))
{
	relieve_ctx = ctx;
	relieve = relief;
	return register_oom_notifier(&oom_block);
}

void kcare_oom_unwatch(void)
{
	unregister_oom_notifier(&oom_block);
	cancel_work_sync(&relieve_work);
}

void kcare_oom_set_spare(size_t bytes)
{
	WRITE_ONCE(spare_pages, DIV_ROUND_UP(bytes, PAGE_SIZE));
}
