// SPDX-License-Identifier: GPL-2.0
/* A livepatch of the kernel's own kind for the function that cmdline.patch changes. */

#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int livepatched_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "livepatched\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = livepatched_cmdline_proc_show },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init kcare_test_livepatch_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit kcare_test_livepatch_exit(void)
{
}

module_init(kcare_test_livepatch_init);
module_exit(kcare_test_livepatch_exit);
MODULE_DESCRIPTION("A livepatch for the tests of kcare");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
