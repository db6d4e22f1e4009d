// SPDX-License-Identifier: GPL-2.0
/*
 * What redirects a function without asking ftrace: while this module is loaded, the fentry site of the function that
 * cmdline.patch changes holds a jump, which leads to the next instruction, so that it does no harm.
 */

#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/static_call.h>
#include <asm/nops.h>
#include <asm/text-patching.h>

static unsigned long lookup(const char *name);
DEFINE_STATIC_CALL_NULL(find, lookup);
DEFINE_STATIC_CALL_NULL(poke, smp_text_poke_single);
DEFINE_STATIC_CALL_NULL(site_of, lookup);

static struct mutex *text_lock;
static void *site;

static int find_all(void)
{
	struct kprobe kp = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long function, location;
	void *poker;

	if (register_kprobe(&kp))
		return -ENOENT;
	static_call_update(find, (typeof(&lookup))(unsigned long)kp.addr);
	unregister_kprobe(&kp);

	text_lock = (void *)static_call(find)("text_mutex");
	poker = (void *)static_call(find)("smp_text_poke_single");
	location = static_call(find)("ftrace_location");
	function = static_call(find)("cmdline_proc_show");
	if (!text_lock || !poker || !location || !function)
		return -ENOENT;
	static_call_update(poke, (typeof(&smp_text_poke_single))poker);
	static_call_update(site_of, (typeof(&lookup))location);
	site = (void *)static_call(site_of)((const char *)function);
	return site ? 0 : -ENOENT;
}

static void put(const u8 *code)
{
	mutex_lock(text_lock);
	static_call(poke)(site, code, 5, NULL);
	mutex_unlock(text_lock);
}

static int __init kcare_test_foreign_init(void)
{
	static const u8 jump[] = { 0xe9, 0, 0, 0, 0 };
	int err = find_all();

	if (!err)
		put(jump);
	return err;
}

static void __exit kcare_test_foreign_exit(void)
{
	static const u8 nop[] = { BYTES_NOP5 };

	put(nop);
}

module_init(kcare_test_foreign_init);
module_exit(kcare_test_foreign_exit);
MODULE_DESCRIPTION("A patcher that does not ask ftrace, for the tests of kcare");
MODULE_LICENSE("GPL");
