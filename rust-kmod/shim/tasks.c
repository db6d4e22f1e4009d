// SPDX-License-Identifier: GPL-2.0
/* What a conservative stack scan reads of a task. */

#include <linux/cgroup.h>
#include <linux/ctype.h>
#include <linux/ftrace.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rethook.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>

#include "ksyms.h"
#include "shim.h"

/* More kretprobes than this cannot be active in one task: each takes a frame of its stack. */
#define MAX_RETHOOKS (THREAD_SIZE / sizeof(long))
/* Threads that are visited in one RCU reader. */
#define VISITS 256

/* Others get a turn between visits, the RCU reader's end included. */
static void rest(unsigned int *seen)
{
	if (++*seen % VISITS)
		return;
	rcu_read_unlock();
	cond_resched();
	rcu_read_lock();
}

static int visit_threads(int (*visit)(void *ctx, struct task_struct *task), void *ctx)
{
	unsigned int seen = 0;
	struct pid *pid;
	int nr = 1, ret;

	/*
	 * By number: each thread has one, and who gets another one meanwhile, by an execve() of a thread that is not the
	 * first (de_thread()), runs for it.
	 */
	while ((pid = find_ge_pid(nr, &init_pid_ns))) {
		struct task_struct *thread = pid_task(pid, PIDTYPE_PID);

		ret = thread ? visit(ctx, thread) : 0;
		/* It may be freed in a rest. */
		nr = pid_nr(pid) + 1;
		if (ret)
			return ret;
		rest(&seen);
	}
	return 0;
}

/*
 * A thread that exits loses its number before it leaves its CPU for the last time (release_task()). It stays in its cgroup
 * until then (do_cgroup_task_dead()), and nobody moves it to another one (cgroup_migrate_add_task()).
 */
static int visit_exiting(int (*visit)(void *ctx, struct task_struct *task), void *ctx)
{
	struct cgroup_subsys_state *css;
	unsigned int seen = 0;
	int ret = 0;

	css_for_each_descendant_pre(css, &cgrp_dfl_root.cgrp.self) {
		struct css_task_iter it;
		struct task_struct *thread;

		/* One that is about to be freed has no threads. */
		if (!css_tryget(css))
			continue;
		ksym(css_task_iter_start)(css, CSS_TASK_ITER_WITH_DEAD, &it);
		while (!ret && (thread = ksym(css_task_iter_next)(&it))) {
			if (READ_ONCE(thread->flags) & PF_EXITING)
				ret = visit(ctx, thread);
			rest(&seen);
		}
		ksym(css_task_iter_end)(&it);
		rest(&seen);
		css_put(css);
		if (ret)
			break;
	}
	return ret;
}

int kcare_threads_visit(int (*visit)(void *ctx, struct task_struct *task), void *ctx)
{
	int ret;

	guard(rcu)();
	ret = visit_threads(visit, ctx);
	return ret ?: visit_exiting(visit, ctx);
}

bool kcare_task_hold(struct task_struct *task)
{
	return !READ_ONCE(task->on_cpu) && try_get_task_stack(task);
}

void kcare_task_release(struct task_struct *task)
{
	ksym(put_task_stack)(task);
}

void kcare_task_stack(struct task_struct *task, const u64 **low, const u64 **high)
{
	unsigned long base = (unsigned long)task->stack;
	unsigned long top = base + THREAD_SIZE;
	unsigned long sp;

	*low = *high = NULL;
	/*
	 * A task that has exited keeps its list entry but not its stack (release_task_stack()), which is given away before
	 * the pointer is cleared (free_thread_stack()). With the machine stopped nobody holds it.
	 */
	if (!base || !refcount_read(&task->stack_refcount))
		return;
	/* User registers are the user's to choose and never return addresses of the kernel. */
	if (!(task->flags & PF_KTHREAD))
		top = (unsigned long)task_pt_regs(task);
	sp = task == current ? (unsigned long)current_stack_pointer : READ_ONCE(task->thread.sp);
	if (sp < base || sp > top)
		sp = base;
	*low = (const u64 *)(sp & ~(sizeof(long) - 1));
	*high = (const u64 *)top;
}

void kcare_task_graph(struct task_struct *task, const u64 **low, const u64 **high)
{
	*low = *high = NULL;
#ifdef CONFIG_FUNCTION_GRAPH_TRACER
	const u64 *stack = (const u64 *)READ_ONCE(task->ret_stack);
	int count = READ_ONCE(task->curr_ret_stack);

	/* SHADOW_STACK_SIZE is a page (kernel/trace/fgraph.c). */
	if (stack && count > 0) {
		*low = stack;
		*high = stack + min_t(size_t, count, PAGE_SIZE / sizeof(long));
	}
#endif
}

int kcare_task_rethooks(struct task_struct *task, int (*word)(void *ctx, u64 w), void *ctx)
{
#ifdef CONFIG_RETHOOK
	struct llist_node *node = READ_ONCE(task->rethooks.first);
	int i, ret;

	/* The list may change under us if the task runs; then its words do not matter, but the walk must end. */
	for (i = 0; node && i < MAX_RETHOOKS; i++, node = READ_ONCE(node->next)) {
		ret = word(ctx, container_of(node, struct rethook_node, llist)->ret_addr);
		if (ret)
			return ret;
	}
#endif
	return 0;
}

int kcare_task_trace(struct task_struct *task, u64 *entries, unsigned int size)
{
	return ksym(stack_trace_save_tsk_reliable)(task, (unsigned long *)entries, size);
}

bool kcare_in_ftrace(u64 address)
{
	/* arch/x86/kernel/ftrace_64.S, and the copies that an ops of its own gets. */
	if (address >= (unsigned long)kcare_ksym_vars.ftrace_stub &&
	    address < (unsigned long)kcare_ksym_vars.ftrace_stub_direct_tramp)
		return true;
	return ksym(is_ftrace_trampoline)(address);
}

bool kcare_in_page_fault(u64 address)
{
	/* Written by whoever is first, with the same value. */
	static unsigned long size;
	unsigned long start = (unsigned long)kcare_ksym_vars.exc_page_fault;
	unsigned long length = READ_ONCE(size), offset;

	if (!length) {
		if (!ksym(kallsyms_lookup_size_offset)(start, &length, &offset))
			return false;
		WRITE_ONCE(size, length);
	}
	return address >= start && address - start < length;
}

bool kcare_has_detours(void)
{
#ifdef CONFIG_OPTPROBES
	return !list_empty(&kcare_ksym_vars.kprobe_optinsn_slots->pages);
#else
	return false;
#endif
}

bool kcare_in_detour(u64 address)
{
#ifdef CONFIG_OPTPROBES
	return ksym(__is_insn_slot_addr)(kcare_ksym_vars.kprobe_optinsn_slots, address);
#else
	return false;
#endif
}

bool kcare_task_runnable(struct task_struct *task)
{
	return task_is_running(task);
}

bool kcare_task_queued(struct task_struct *task)
{
	return task_is_running(task) || READ_ONCE(task->on_rq);
}

u64 kcare_task_asleep_ns(struct task_struct *task)
{
	u64 now = local_clock(), since = 0;

	if (task_is_running(task))
		return 0;
#ifdef CONFIG_SCHED_INFO
	/* When it got its last CPU, by the clock of that CPU's runqueue (kernel/sched/stats.h, sched_info_arrive()). */
	since = task->sched_info.last_arrival;
#endif
	return since && since < now ? now - since : 0;
}

int kcare_task_pid(struct task_struct *task)
{
	return task->pid;
}

void kcare_task_comm(struct task_struct *task, char *comm)
{
	unsigned int i;

	strscpy_pad(comm, task->comm, TASK_COMM_LEN);
	/* Any user chooses it, and the log and terminals show it. */
	for (i = 0; comm[i]; i++)
		if (!isascii(comm[i]) || !isprint(comm[i]))
			comm[i] = '?';
}
