// SPDX-License-Identifier: GPL-2.0
/* One redirected function: an ftrace_ops of its own, registered as a direct jump or as IPMODIFY. */

#include <linux/ftrace.h>
#include <linux/slab.h>

#include "shim.h"

struct kcare_ops {
	struct ftrace_ops ops;
	unsigned long target;
};

/*
 * Leads to the trampoline, which decides between old and new body; so both strategies share one decision.
 * Needs no recursion guard: it calls nothing.
 */
static void notrace redirect(unsigned long ip, unsigned long parent_ip,
			     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct kcare_ops *r = container_of(ops, struct kcare_ops, ops);

	ftrace_regs_set_instruction_pointer(fregs, r->target);
}

struct kcare_ops *kcare_ops_new(u64 ip, u64 target, int *err)
{
	struct kcare_ops *r = kzalloc(sizeof(*r), GFP_KERNEL);

	if (!r) {
		*err = -ENOMEM;
		return NULL;
	}
	r->target = target;
	*err = ftrace_set_filter_ip(&r->ops, ip, 0, 0);
	if (*err) {
		kfree(r);
		return NULL;
	}
	return r;
}

void kcare_ops_free(struct kcare_ops *r)
{
	ftrace_free_filter(&r->ops);
	kfree(r);
}

int kcare_ops_register_direct(struct kcare_ops *r)
{
	/* Without PERMANENT, sysctl kernel.ftrace_enabled=0 would silently undo the redirect. */
	r->ops.flags |= FTRACE_OPS_FL_PERMANENT;
	return register_ftrace_direct(&r->ops, ftrace_jmp_set(r->target));
}

int kcare_ops_unregister_direct(struct kcare_ops *r)
{
	return unregister_ftrace_direct(&r->ops, ftrace_jmp_set(r->target), false);
}

int kcare_ops_register_ipmodify(struct kcare_ops *r)
{
	r->ops.func = redirect;
	r->ops.flags |= FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_IPMODIFY;
	if (!IS_ENABLED(CONFIG_DYNAMIC_FTRACE_WITH_ARGS))
		r->ops.flags |= FTRACE_OPS_FL_SAVE_REGS;
	return register_ftrace_function(&r->ops);
}

int kcare_ops_unregister_ipmodify(struct kcare_ops *r)
{
	return unregister_ftrace_function(&r->ops);
}
