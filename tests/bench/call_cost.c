// SPDX-License-Identifier: GPL-2.0
/* Measures, when it is loaded, what a call of nsecs_to_jiffies64() costs, prints it, and refuses to stay. */

#include <linux/jiffies.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/sched.h>

#define CALLS 100000
#define ROUNDS 40

static int __init call_cost_init(void)
{
	u64 fastest = U64_MAX;
	int round, i;

	/* The fastest round is the one that the emulator's host disturbed least. */
	for (round = 0; round < ROUNDS; round++) {
		u64 start = ktime_get_ns();

		for (i = 0; i < CALLS; i++)
			nsecs_to_jiffies64(i);
		fastest = min(fastest, div_u64((ktime_get_ns() - start) * 1000, CALLS));
		cond_resched();
	}
	pr_info("patched=%d call_ps=%llu\n", nsecs_to_jiffies64(0x6b63617265ULL) == 42, fastest);
	return -EAGAIN;
}
module_init(call_cost_init);

MODULE_DESCRIPTION("Cost of a call");
MODULE_LICENSE("GPL");
