// SPDX-License-Identifier: GPL-2.0
/* Stopping the machine, and the clock. */

#include <linux/atomic.h>
#include <linux/capability.h>
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/stop_machine.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>

#include "shim.h"

struct stop {
	void (*each)(const void *ctx);
	void (*last)(void *ctx);
	void *ctx;
	/* CPUs that are done with @each. */
	atomic_t done;
};

static int stopped(void *data)
{
	struct stop *stop = data;

	stop->each(stop->ctx);
	/*
	 * Fully ordered: the last one sees what all others have written. No CPU comes or goes, but in a panic or at the reboot,
	 * behind which nothing matters.
	 */
	if (atomic_inc_return(&stop->done) == num_online_cpus())
		stop->last(stop->ctx);
	return 0;
}

int kcare_stop_machine(void (*each)(const void *ctx), void (*last)(void *ctx), void *ctx)
{
	struct stop stop = { .each = each, .last = last, .ctx = ctx };

	return stop_machine(stopped, &stop, cpu_online_mask);
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
