// SPDX-License-Identifier: GPL-2.0
/*
 * Two kprobes with a post_handler, which ftrace takes for a change of the instruction pointer: of the second one it does not
 * ask whether the function is redirected (__arm_kprobe_ftrace()).
 */

#include <linux/kprobes.h>
#include <linux/module.h>

static char *function = "cmdline_proc_show";
module_param(function, charp, 0);
static unsigned long hits;
module_param(hits, ulong, 0444);

static void count(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
	hits++;
}

static struct kprobe probes[] = {
	{ .symbol_name = "version_proc_show", .post_handler = count },
	{ .post_handler = count },
};
static struct kprobe *list[] = { &probes[0], &probes[1] };

static int __init kcare_test_probes_init(void)
{
	probes[1].symbol_name = function;
	return register_kprobes(list, ARRAY_SIZE(list));
}

static void __exit kcare_test_probes_exit(void)
{
	unregister_kprobes(list, ARRAY_SIZE(list));
}

module_init(kcare_test_probes_init);
module_exit(kcare_test_probes_exit);
MODULE_DESCRIPTION("Kprobes that want the instruction pointer, for the tests of kcare");
MODULE_LICENSE("GPL");
