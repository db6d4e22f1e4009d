// SPDX-License-Identifier: GPL-2.0
/* What a conservative stack scan reads of a task. */

#include <linux/cpumask.h>
#include <linux/ftrace.h>
#include <linux/rethook.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>

#include "ksyms.h"
#include "shim.h"

int kcare_tasks_visit(int (*visit)(void *ctx, struct task_struct *task), void *ctx)
{
	struct task_struct *process, *thread;
	int cpu, ret = 0;

	rcu_read_lock();
	for_each_process_thread(process, thread) {
		ret = visit(ctx, thread);
		if (ret)
			goto out;
	}
	/* The idle tasks are in no list (kernel/fork.c, fork_idle()). */
	for_each_online_cpu(cpu) {
		ret = visit(ctx, ksym(idle_task)(cpu));
		if (ret)
			break;
	}
out:
	rcu_read_unlock();
	return ret;
}

void kcare_task_stack(struct task_struct *task, const u64 **low, const u64 **high)
{
	unsigned long base = (unsigned long)task->stack;
	unsigned long top = base + THREAD_SIZE;
	unsigned long sp;

	*low = *high = NULL;
	/* A task that has exited keeps its list entry but not its stack (release_task_stack()). */
	if (!base)
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
	if (task->ret_stack && task->curr_ret_stack > 0) {
		*low = (const u64 *)task->ret_stack;
		*high = (const u64 *)task->ret_stack + task->curr_ret_stack;
	}
#endif
}

int kcare_task_rethooks(struct task_struct *task, int (*word)(void *ctx, u64 w), void *ctx)
{
#ifdef CONFIG_RETHOOK
	struct llist_node *node;
	int ret;

	for (node = READ_ONCE(task->rethooks.first); node; node = READ_ONCE(node->next)) {
		ret = word(ctx, container_of(node, struct rethook_node, llist)->ret_addr);
		if (ret)
			return ret;
	}
#endif
	return 0;
}

noinline struct task_struct *kcare_current(u64 *sp)
{
	/* Behind the frame pointer lies the return address, and behind that the caller's frame. */
	*sp = (u64)__builtin_frame_address(0) + 2 * sizeof(long);
	return current;
}

int kcare_task_pid(struct task_struct *task)
{
	return task->pid;
}

void kcare_task_comm(struct task_struct *task, char *comm)
{
	strscpy(comm, task->comm, TASK_COMM_LEN);
}
