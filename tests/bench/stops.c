// SPDX-License-Identifier: GPL-2.0
/*
 * Measures, when it is loaded, how long the machine stops, prints it, and refuses to stay: in turn a stop in which
 * nothing is done; the same behind a search of all stacks while the machine runs, which leaves the caches as before a
 * stop of kcare's; and a stop in which all stacks are searched, one after the other. That search is the cheapest that
 * there is: each word is compared with one range.
 */

#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/stop_machine.h>
#include <linux/uaccess.h>

#define ROUNDS 20

static u64 empty[ROUNDS], behind[ROUNDS], serial[ROUNDS];
static unsigned long threads, words, hits;

static int nothing(void *unused)
{
	return 0;
}

static void search(struct task_struct *task, bool running)
{
	const struct module_memory *text = &THIS_MODULE->mem[MOD_TEXT];
	unsigned long base = (unsigned long)task->stack;
	unsigned long top = base + THREAD_SIZE;
	unsigned long at = task == current ? (unsigned long)current_stack_pointer : task->thread.sp;

	threads++;
	/* A task that has exited keeps its list entry but not its stack. */
	if (!base)
		return;
	if (at < base || at > top)
		at = base;
	for (at = ALIGN_DOWN(at, sizeof(long)); at < top; at += sizeof(long)) {
		unsigned long word;

		/* The stack may go away. */
		if (!running)
			word = *(unsigned long *)at;
		else if (get_kernel_nofault(word, (unsigned long *)at))
			return;
		words++;
		if (word - (unsigned long)text->base < text->size)
			hits++;
	}
}

static int search_all(bool running)
{
	struct task_struct *process, *thread;

	threads = words = hits = 0;
	rcu_read_lock();
	for_each_process_thread(process, thread)
		search(thread, running);
	rcu_read_unlock();
	return 0;
}

static int search_stopped(void *unused)
{
	return search_all(false);
}

static int search_running(void *unused)
{
	return search_all(true);
}

static u64 stop_ns(int (*before)(void *), int (*function)(void *))
{
	u64 start;

	/* As before a real stop: the other CPUs have gone to sleep. */
	msleep(20);
	before(NULL);
	start = ktime_get_ns();
	stop_machine(function, NULL, NULL);
	return ktime_get_ns() - start;
}

static void print(const char *name, const u64 *samples)
{
	int round;

	pr_info("%s_ns", name);
	for (round = 0; round < ROUNDS; round++)
		pr_cont(" %llu", samples[round]);
	pr_cont("\n");
}

static int __init stops_init(void)
{
	int round;

	for (round = 0; round < ROUNDS; round++) {
		empty[round] = stop_ns(nothing, nothing);
		behind[round] = stop_ns(search_running, nothing);
		serial[round] = stop_ns(nothing, search_stopped);
	}
	print("empty", empty);
	print("behind", behind);
	print("serial", serial);
	pr_info("searched %lu threads, %lu words, %lu hits\n", threads, words, hits);
	return -EAGAIN;
}
module_init(stops_init);

MODULE_DESCRIPTION("Lengths of an empty stop and of one that searches all stacks");
MODULE_LICENSE("GPL");
