// SPDX-License-Identifier: GPL-2.0
/*
 * Which tasks have run since? A probe on the scheduler's switch notes each task that leaves a CPU. Every
 * task that runs must leave it before the machine is stopped, if only for the stopper thread.
 *
 * What was noted can be looked at while the machine runs: with a turn new notes begin, and those of before are
 * complete.
 */

#include <linux/cpu.h>
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/rcupdate.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "ksyms.h"
#include "shim.h"

/* Places of the index that are tried for a task; a task that has no place there is noted again. */
#define TRIES 8

struct notes {
	unsigned int count;
	/* By the task's hash: its number in @tasks plus one, or 0; @places of them, a power of two. */
	u32 *index;
	/* @room of them. */
	struct {
		struct task_struct *task;
		/* What kcare_switches_look() has found. */
		u64 word;
	} tasks[];
};

/*
 * @now is written by its CPU only, with interrupts off, and read with the machine stopped; @before is its user's alone.
 * A CPU exchanges them itself, or has it done while it is offline.
 */
static struct {
	struct notes *now, *before;
	/* What kcare_switches_look() has found about the idle task. */
	u64 idle_word;
} *notes_of_cpu;

/* Different tasks that a CPU may run between two turns. */
static unsigned int room, places;

/* There were tasks without room for a note; set by any CPU. */
static bool overflow;

static struct tracepoint *sched_switch;

static void find_sched_switch(struct tracepoint *tp, void *unused)
{
	if (!strcmp(tp->name, "sched_switch"))
		sched_switch = tp;
}

/* Called with interrupts off. */
static void notrace note(struct task_struct *task)
{
	struct notes *notes = notes_of_cpu[smp_processor_id()].now;
	unsigned int slot = hash_ptr(task, 32);
	unsigned int i;
	u32 *number;

	/* The CPUs' own idle tasks are looked at in any case; those of idle injection (play_idle_precise()) are not. */
	if (!task->pid)
		return;
	for (i = 0; i < TRIES; i++) {
		number = &notes->index[(slot + i) & (places - 1)];
		if (!*number)
			break;
		if (notes->tasks[*number - 1].task == task)
			return;
	}
	if (notes->count == room) {
		WRITE_ONCE(overflow, true);
		return;
	}
	notes->tasks[notes->count++].task = get_task_struct(task);
	if (i < TRIES)
		*number = notes->count;
}

static void notrace note_switch(void *unused, bool preempt, struct task_struct *prev,
				struct task_struct *next, unsigned int prev_state)
{
	/* Its last switch: it runs no more. */
	if (!preempt && prev_state == TASK_DEAD)
		return;
	note(prev);
}

void kcare_switches_note(struct task_struct *task)
{
	unsigned long flags;

	local_irq_save(flags);
	note(task);
	local_irq_restore(flags);
}

static void forget(struct notes *notes)
{
	unsigned int i;

	for (i = 0; notes && i < notes->count; i++)
		put_task_struct(notes->tasks[i].task);
}

static struct notes *new_notes(void)
{
	struct notes *notes = kvzalloc(struct_size(notes, tasks, room), GFP_KERNEL);

	if (!notes)
		return NULL;
	notes->index = kvcalloc(places, sizeof(*notes->index), GFP_KERNEL);
	if (!notes->index) {
		kvfree(notes);
		return NULL;
	}
	return notes;
}

static void end_notes(struct notes *notes)
{
	if (!notes)
		return;
	forget(notes);
	kvfree(notes->index);
	kvfree(notes);
}

static void free_notes(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		end_notes(notes_of_cpu[cpu].now);
		end_notes(notes_of_cpu[cpu].before);
	}
	kvfree(notes_of_cpu);
	notes_of_cpu = NULL;
}

int kcare_switches_start(unsigned int tasks)
{
	unsigned int cpu;
	int err = -ENOMEM;

	for_each_kernel_tracepoint(find_sched_switch, NULL);
	if (!sched_switch)
		return -ENOENT;

	room = tasks;
	places = roundup_pow_of_two(2 * tasks);
	notes_of_cpu = kvcalloc(nr_cpu_ids, sizeof(*notes_of_cpu), GFP_KERNEL);
	if (!notes_of_cpu)
		return -ENOMEM;
	overflow = false;
	for_each_possible_cpu(cpu) {
		notes_of_cpu[cpu].now = new_notes();
		notes_of_cpu[cpu].before = new_notes();
		if (!notes_of_cpu[cpu].now || !notes_of_cpu[cpu].before)
			goto out;
	}
	/* A switch that begins without the probe is over behind the first turn. */
	err = tracepoint_probe_register(sched_switch, note_switch, NULL);
	if (!err)
		return 0;
out:
	free_notes();
	return err;
}

void kcare_switches_stop(void)
{
	tracepoint_probe_unregister(sched_switch, note_switch, NULL);
	/*
	 * The probe runs with interrupts off. tracepoint_synchronize_unregister() would wait for BPF programs that sleep,
	 * too, for as long as they do.
	 */
	synchronize_rcu();
	free_notes();
}

static void turn(unsigned int cpu)
{
	swap(notes_of_cpu[cpu].now, notes_of_cpu[cpu].before);
}

/* Runs with interrupts off, so within no switch: who has been noted is off its CPU, with all registers saved. */
static void turn_here(void *unused)
{
	turn(smp_processor_id());
}

void kcare_switches_turn(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		forget(notes_of_cpu[cpu].before);
		notes_of_cpu[cpu].before->count = 0;
		memset(notes_of_cpu[cpu].before->index, 0, array_size(places, sizeof(u32)));
	}
	cpus_read_lock();
	for_each_possible_cpu(cpu)
		if (!cpu_online(cpu))
			turn(cpu);
	on_each_cpu(turn_here, NULL, true);
	cpus_read_unlock();
}

int kcare_switches_visit_before(int (*visit)(void *ctx, struct task_struct *task), void *ctx)
{
	unsigned int cpu, i;
	int ret;

	/* For what hangs on a task, as for kcare_threads_visit(). */
	guard(rcu)();
	for_each_possible_cpu(cpu) {
		const struct notes *notes = notes_of_cpu[cpu].before;

		for (i = 0; i < notes->count; i++) {
			ret = visit(ctx, notes->tasks[i].task);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static void look_at(struct notes *notes, u64 (*look)(const void *ctx, struct task_struct *task), const void *ctx)
{
	unsigned int i;

	for (i = 0; i < notes->count; i++)
		notes->tasks[i].word = look(ctx, notes->tasks[i].task);
}

void kcare_switches_look(u64 (*look)(const void *ctx, struct task_struct *task), const void *ctx)
{
	unsigned int cpu = smp_processor_id(), other;

	look_at(notes_of_cpu[cpu].now, look, ctx);
	notes_of_cpu[cpu].idle_word = look(ctx, ksym(idle_task)(cpu));
	/* What CPUs have noted that have gone meanwhile. */
	if (cpu != cpumask_first(cpu_online_mask))
		return;
	for_each_possible_cpu(other)
		if (!cpu_online(other))
			look_at(notes_of_cpu[other].now, look, ctx);
}

void kcare_switches_visit(void (*visit)(void *ctx, struct task_struct *task, u64 word), void *ctx)
{
	unsigned int cpu, i;

	for_each_possible_cpu(cpu) {
		const struct notes *notes = notes_of_cpu[cpu].now;

		for (i = 0; i < notes->count; i++)
			visit(ctx, notes->tasks[i].task, notes->tasks[i].word);
		if (cpu_online(cpu))
			visit(ctx, ksym(idle_task)(cpu), notes_of_cpu[cpu].idle_word);
	}
}

bool kcare_switches_overflowed(void)
{
	return READ_ONCE(overflow);
}
