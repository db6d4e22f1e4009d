// SPDX-License-Identifier: GPL-2.0
/*
 * Measures, when it is loaded, what a call of nsecs_to_jiffies64() costs and how long an empty
 * stop_machine() takes, prints both, and refuses to stay.
 */

#include <linux/jiffies.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/sort.h>
#include <linux/stop_machine.h>

#define CALLS 200000
#define ROUNDS 15

static u64 samples[ROUNDS];

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 median(void)
{
	sort(samples, ROUNDS, sizeof(samples[0]), compare, NULL);
	return samples[ROUNDS / 2];
}

static u64 call_ps(void)
{
	int round, i;

	for (round = 0; round < ROUNDS; round++) {
		u64 start = ktime_get_ns();

		for (i = 0; i < CALLS; i++)
			nsecs_to_jiffies64(i);
		samples[round] = div_u64((ktime_get_ns() - start) * 1000, CALLS);
		cond_resched();
	}
	return median();
}

static int nothing(void *unused)
{
	return 0;
}

static u64 stop_ns(void)
{
	int round;

	for (round = 0; round < ROUNDS; round++) {
		u64 start = ktime_get_ns();

		stop_machine(nothing, NULL, NULL);
		samples[round] = ktime_get_ns() - start;
	}
	return median();
}

static int __init call_cost_init(void)
{
	u64 call = call_ps(), stop = stop_ns();

	pr_info("patched=%d call_ps=%llu stop_ns=%llu\n",
		nsecs_to_jiffies64(0x6b63617265ULL) == 42, call, stop);
	return -EAGAIN;
}
module_init(call_cost_init);

MODULE_DESCRIPTION("Cost of a call and of an empty stop");
MODULE_LICENSE("GPL");
