// SPDX-License-Identifier: GPL-2.0
/*
 * Help for tasks that sleep in code that goes out of use. Such a task is woken as by a signal; on its way out of the
 * kernel, where it is in no function but that of this file, it waits until the switch is done, and then goes on: the
 * system call that was interrupted starts anew if it is one of those that do.
 */

#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/task_work.h>

#include "shim.h"

/* Tasks that one switch helps. */
#define GUESTS 256

struct kcare_parking {
	struct kref ref;
	struct completion open;
	/* Written by the one task that switches. */
	unsigned int count;
	struct task_struct *guests[GUESTS];
};

struct guest {
	struct callback_head work;
	struct kcare_parking *parking;
};

static void free_parking(struct kref *ref)
{
	struct kcare_parking *parking = container_of(ref, struct kcare_parking, ref);
	unsigned int i;

	for (i = 0; i < parking->count; i++)
		put_task_struct(parking->guests[i]);
	kvfree(parking);
}

/* Runs in the guest, on its way to user space, or in its exit. */
static void park(struct callback_head *work)
{
	struct guest *guest = container_of(work, struct guest, work);
	struct kcare_parking *parking = guest->parking;

	kfree(guest);
	if (!(current->flags & PF_EXITING))
		wait_for_completion_state(&parking->open, TASK_KILLABLE | TASK_FREEZABLE);
	kref_put(&parking->ref, free_parking);
	/* kcare_parking_exit() waits for the rest of this function. */
	module_put(THIS_MODULE);
}

struct kcare_parking *kcare_parking_new(void)
{
	struct kcare_parking *parking = kvzalloc(sizeof(*parking), GFP_KERNEL);

	if (!parking)
		return NULL;
	kref_init(&parking->ref);
	init_completion(&parking->open);
	return parking;
}

bool kcare_parking_invite(struct kcare_parking *parking, struct task_struct *task)
{
	struct guest *guest;
	unsigned int i;

	/* Those that never leave the kernel cannot be led out of it. */
	if (task->flags & (PF_KTHREAD | PF_USER_WORKER | PF_IO_WORKER | PF_EXITING) || task == current)
		return false;
	for (i = 0; i < parking->count; i++)
		if (parking->guests[i] == task)
			return false;
	if (parking->count == GUESTS)
		return false;
	guest = kmalloc(sizeof(*guest), GFP_ATOMIC | __GFP_NOWARN);
	if (!guest)
		return false;
	init_task_work(&guest->work, park);
	guest->parking = parking;
	kref_get(&parking->ref);
	__module_get(THIS_MODULE);
	if (task_work_add(task, &guest->work, TWA_SIGNAL)) {
		module_put(THIS_MODULE);
		/* Not the last one. */
		kref_put(&parking->ref, free_parking);
		kfree(guest);
		return false;
	}
	parking->guests[parking->count++] = get_task_struct(task);
	return true;
}

void kcare_parking_open(struct kcare_parking *parking)
{
	complete_all(&parking->open);
	kref_put(&parking->ref, free_parking);
}

void kcare_parking_exit(void)
{
	/* A task that has given its reference to the module back is in park() until it is in user space. */
	synchronize_rcu_tasks();
}
