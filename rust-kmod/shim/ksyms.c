// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel has but does not export.
 *
 * A looked-up function is called through a static call only: its trampoline is a direct jump, while an
 * indirect call would fault on IBT hardware wherever the kernel has sealed the function's ENDBR
 * (arch/x86/kernel/alternative.c, apply_seal_endbr()).
 */

#include <linux/buildid.h>
#include <linux/kprobes.h>
#include <linux/static_call.h>

#include "ksyms.h"
#include "shim.h"

#define KSYM_DEFINE(name) DEFINE_STATIC_CALL_NULL(kcare_##name, name);
KCARE_KSYM_FUNCTIONS(KSYM_DEFINE)

struct kcare_ksym_vars kcare_ksym_vars;

struct ksym_fn {
	const char *name;
	struct static_call_key *key;
	void *tramp;
};

#define KSYM_FN(n) { #n, &STATIC_CALL_KEY(kcare_##n), STATIC_CALL_TRAMP_ADDR(kcare_##n) },
static const struct ksym_fn ksym_fns[] = { KCARE_KSYM_FUNCTIONS(KSYM_FN) };

struct ksym_var {
	const char *name;
	void **slot;
};

#define KSYM_VAR(type, n) { #n, (void **)&kcare_ksym_vars.n },
static const struct ksym_var ksym_vars[] = { KCARE_KSYM_VARIABLES(KSYM_VAR) };

/*
 * kallsyms_lookup_name() has no export, but register_kprobe() finds it. The address lies behind an ENDBR
 * (arch_adjust_kprobe_addr()), which a direct jump does not need.
 */
static unsigned long find_kallsyms_lookup_name(void)
{
	struct kprobe kp = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long addr;

	if (register_kprobe(&kp))
		return 0;
	addr = (unsigned long)kp.addr;
	unregister_kprobe(&kp);
	return addr;
}

DEFINE_STATIC_CALL_NULL(kcare_kallsyms_lookup_name, kallsyms_lookup_name);

int kcare_ksyms_init(const char **missing)
{
	unsigned long addr;
	size_t i;

	*missing = "kallsyms_lookup_name";
	addr = find_kallsyms_lookup_name();
	if (!addr)
		return -ENOENT;
	static_call_update(kcare_kallsyms_lookup_name, (typeof(&kallsyms_lookup_name))addr);

	for (i = 0; i < ARRAY_SIZE(ksym_vars); i++) {
		*missing = ksym_vars[i].name;
		addr = static_call(kcare_kallsyms_lookup_name)(*missing);
		if (!addr)
			return -ENOENT;
		*ksym_vars[i].slot = (void *)addr;
	}
	for (i = 0; i < ARRAY_SIZE(ksym_fns); i++) {
		*missing = ksym_fns[i].name;
		addr = static_call(kcare_kallsyms_lookup_name)(*missing);
		if (!addr)
			return -ENOENT;
		__static_call_update(ksym_fns[i].key, ksym_fns[i].tramp, (void *)addr);
	}
	*missing = NULL;
	return 0;
}

u64 kcare_vmlinux_base(void)
{
	return (unsigned long)kcare_ksym_vars._text;
}

u64 kcare_vmlinux_size(void)
{
	return kcare_ksym_vars._end - kcare_ksym_vars._text;
}

const u8 *kcare_vmlinux_build_id(void)
{
	static_assert(BUILD_ID_SIZE_MAX == 20);
	return kcare_ksym_vars.vmlinux_build_id;
}
