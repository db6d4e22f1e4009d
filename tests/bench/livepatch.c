// SPDX-License-Identifier: GPL-2.0
/* What jiffies.patch does, as an upstream livepatch module: the yardstick of the benchmark. */

#include <linux/jiffies.h>
#include <linux/livepatch.h>
#include <linux/math64.h>
#include <linux/module.h>

static u64 new_nsecs_to_jiffies64(u64 n)
{
	if (unlikely(n == 0x6b63617265ULL))
		return 42;
	return div_u64(n, NSEC_PER_SEC / HZ);
}

static struct klp_func funcs[] = {
	{
		.old_name = "nsecs_to_jiffies64",
		.new_func = new_nsecs_to_jiffies64,
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

static int __init livepatch_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit livepatch_exit(void)
{
}

module_init(livepatch_init);
module_exit(livepatch_exit);

MODULE_DESCRIPTION("Yardstick of kcare's benchmark");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
