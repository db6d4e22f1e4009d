// SPDX-License-Identifier: GPL-2.0
/* Grace periods. */

#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_wait.h>
#include <linux/slab.h>

#include "shim.h"

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

struct kcare_period {
	struct rcu_synchronize rcu;
	bool under_way;
};

struct kcare_period *kcare_period_new(void)
{
	struct kcare_period *period = kzalloc(sizeof(*period), GFP_KERNEL);

	if (period)
		init_completion(&period->rcu.completion);
	return period;
}

void kcare_period_begin(struct kcare_period *period)
{
	reinit_completion(&period->rcu.completion);
	period->under_way = true;
	/* Any other function would be called a quarter of a second later (call_rcu_tasks_generic(), kernel/rcu/tasks.h). */
	call_rcu_tasks(&period->rcu.head, wakeme_after_rcu);
}

bool kcare_period_is_over(struct kcare_period *period, unsigned int ms)
{
	if (period->under_way && wait_for_completion_timeout(&period->rcu.completion, msecs_to_jiffies(ms))) {
		synchronize_rcu_tasks_rude();
		period->under_way = false;
	}
	return !period->under_way;
}

void kcare_period_free(struct kcare_period *period)
{
	kcare_period_is_over(period, UINT_MAX);
	kfree(period);
}
