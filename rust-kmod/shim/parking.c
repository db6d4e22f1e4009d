// SPDX-License-Identifier: GPL-2.0
/*
 * Help for tasks that sleep in code that goes out of use. Such a task is woken as by a signal; on its way out of the
 * kernel, where it is in no function but that of this file, it waits until the switch is done, and then goes on: the
 * system call that was interrupted starts anew if it is one of those that do.
 */

#include <linux/kref.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/wait.h>

#include "shim.h"

/* Tasks that one switch helps. */
#define GUESTS 256

enum guest_state {
	INVITED,
	WAITS,
	/* Is not to wait, or not any longer. */
	DISMISSED,
};

struct kcare_parking {
	struct kref ref;
	wait_queue_head_t gate;
	bool open;
	/* Written by the one task that switches. */
	unsigned int count;
	struct guest {
		struct task_struct *task;
		enum guest_state state;
	} guests[GUESTS];
};

struct invitation {
	struct callback_head work;
	struct kcare_parking *parking;
	struct guest *guest;
};

static void free_parking(struct kref *ref)
{
	struct kcare_parking *parking = container_of(ref, struct kcare_parking, ref);
	unsigned int i;

	for (i = 0; i < parking->count; i++)
		put_task_struct(parking->guests[i].task);
	kvfree(parking);
}

/* Runs in the guest, on its way to user space, or in its exit. */
static void park(struct callback_head *work)
{
	struct invitation *invitation = container_of(work, struct invitation, work);
	struct kcare_parking *parking = invitation->parking;
	struct guest *guest = invitation->guest;

	kfree(invitation);
	cmpxchg(&guest->state, INVITED, WAITS);
	if (!(current->flags & PF_EXITING))
		wait_event_state(parking->gate, READ_ONCE(parking->open) || READ_ONCE(guest->state) == DISMISSED,
				 (TASK_KILLABLE | TASK_FREEZABLE));
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
	init_waitqueue_head(&parking->gate);
	return parking;
}

bool kcare_parking_invite(struct kcare_parking *parking, struct task_struct *task)
{
	struct invitation *invitation;
	struct guest *guest;
	unsigned int i;

	/* Those that never leave the kernel cannot be led out of it. */
	if (task->flags & (PF_KTHREAD | PF_USER_WORKER | PF_IO_WORKER | PF_EXITING) || task == current)
		return false;
	for (i = 0; i < parking->count; i++) {
		guest = &parking->guests[i];
		if (guest->task != task)
			continue;
		/* It runs such work in the code that it was to leave, as io_cqring_wait() does; there it is of no use. */
		if (cmpxchg(&guest->state, WAITS, DISMISSED) == WAITS)
			wake_up_all(&parking->gate);
		return false;
	}
	if (parking->count == GUESTS)
		return false;
	invitation = kmalloc(sizeof(*invitation), GFP_ATOMIC | __GFP_NOWARN);
	if (!invitation)
		return false;
	guest = &parking->guests[parking->count];
	init_task_work(&invitation->work, park);
	invitation->parking = parking;
	invitation->guest = guest;
	kref_get(&parking->ref);
	__module_get(THIS_MODULE);
	if (task_work_add(task, &invitation->work, TWA_SIGNAL)) {
		module_put(THIS_MODULE);
		/* Not the last one. */
		kref_put(&parking->ref, free_parking);
		kfree(invitation);
		return false;
	}
	guest->task = get_task_struct(task);
	parking->count++;
	return true;
}

void kcare_parking_open(struct kcare_parking *parking)
{
	WRITE_ONCE(parking->open, true);
	wake_up_all(&parking->gate);
	kref_put(&parking->ref, free_parking);
}

void kcare_parking_exit(void)
{
	/* A task that has given its reference to the module back is in park() until it is in user space. */
	synchronize_rcu_tasks();
}
