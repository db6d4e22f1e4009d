// SPDX-License-Identifier: GPL-2.0
/*
 * Measures, when it is loaded, what a call of nsecs_to_jiffies64() costs and how long an empty
 * stop_machine() takes, prints both, and refuses to stay.
 */

#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/sort.h>
#include <linux/stop_machine.h>

#define CALLS 100000
#define ROUNDS 40

static u64 samples[ROUNDS];

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void call_ps(void)
{
	int round, i;

	for (round = 0; round < ROUNDS; round++) {
		u64 start = ktime_get_ns();

		for (i = 0; i < CALLS; i++)
			nsecs_to_jiffies64(i);
		samples[round] = div_u64((ktime_get_ns() - start) * 1000, CALLS);
		cond_resched();
	}
	sort(samples, ROUNDS, sizeof(samples[0]), compare, NULL);
}

static int nothing(void *unused)
{
	return 0;
}

static void stop_ns(void)
{
	int round;

	for (round = 0; round < ROUNDS; round++) {
		u64 start;

		/* As before a real stop: the other CPUs have gone to sleep. */
		msleep(20);
		start = ktime_get_ns();
		stop_machine(nothing, NULL, NULL);
		samples[round] = ktime_get_ns() - start;
	}
	sort(samples, ROUNDS, sizeof(samples[0]), compare, NULL);
}

static int __init call_cost_init(void)
{
	u64 call, fastest, median;

	/* The fastest round is the one that the emulator's host disturbed least. */
	call_ps();
	call = samples[0];
	stop_ns();
	fastest = samples[0];
	median = samples[ROUNDS / 2];

	pr_info("patched=%d call_ps=%llu stop_ns=%llu median_ns=%llu\n",
		nsecs_to_jiffies64(0x6b63617265ULL) == 42, call, fastest, median);
	return -EAGAIN;
}
module_init(call_cost_init);

MODULE_DESCRIPTION("Cost of a call and of an empty stop");
MODULE_LICENSE("GPL");
