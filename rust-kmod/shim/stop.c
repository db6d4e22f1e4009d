// SPDX-License-Identifier: GPL-2.0
/* Stopping the machine, waiting for it, and the clock. */

#include <linux/capability.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/stop_machine.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>

#include "shim.h"

int kcare_stop_machine(int (*fn)(void *ctx), void *ctx)
{
	return stop_machine(fn, ctx, NULL);
}

void kcare_synchronize_text(void)
{
	/* Tasks preempted in a trampoline, then CPUs where RCU is not watching, as ftrace itself waits. */
	synchronize_rcu_tasks();
	synchronize_rcu_tasks_rude();
}

void kcare_rcu_barrier(void)
{
	rcu_barrier();
}

void kcare_flag_set(u32 *flag, u32 value)
{
	WRITE_ONCE(*flag, value);
}

int kcare_copy_text(void *out, u64 from, size_t size)
{
	return copy_from_kernel_nofault(out, (const void *)(unsigned long)from, size);
}

u64 kcare_boot_ns(void)
{
	return ktime_get_ns();
}

u64 kcare_real_seconds(void)
{
	return ktime_get_real_seconds();
}

const char *kcare_uts_release(void)
{
	return init_uts_ns.name.release;
}

bool kcare_capable(void)
{
	return capable(CAP_SYS_MODULE);
}
