// SPDX-License-Identifier: GPL-2.0
/*
 * Redirected functions behind two ftrace_ops: direct jumps, and IPMODIFY for functions that cannot have one. Two
 * for all of them, because ftrace waits for RCU-tasks grace periods each time that an ops is un-registered.
 *
 * All functions here are called under kcare's own lock, one at a time.
 */

#include <linux/bsearch.h>
#include <linux/ftrace.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "ksyms.h"
#include "shim.h"

bool kcare_ftrace_enabled(void)
{
	return READ_ONCE(*kcare_ksym_vars.ftrace_enabled);
}

u64 kcare_fentry_site(u64 function)
{
	return ksym(ftrace_location)(function);
}

bool kcare_has_direct(u64 site)
{
	return ksym(ftrace_find_rec_direct)(site);
}

/* ---- direct ---- */

/* Without PERMANENT, sysctl kernel.ftrace_enabled=0 would silently undo the redirects. */
static struct ftrace_ops direct_ops = { .flags = FTRACE_OPS_FL_PERMANENT };

/* The redirects as ftrace's hash; NULL if memory is short. */
static struct ftrace_hash *direct_hash(const struct kcare_redirect *redirects, size_t count)
{
	struct ftrace_hash *hash = ksym(alloc_ftrace_hash)(min(fls(count), 10));
	size_t i;

	if (!hash)
		return NULL;
	for (i = 0; i < count; i++) {
		if (!ksym(add_ftrace_hash_entry_direct)(hash, redirects[i].site,
							ftrace_jmp_set(redirects[i].target))) {
			ksym(free_ftrace_hash)(hash);
			return NULL;
		}
	}
	return hash;
}

int kcare_direct_update(enum kcare_direct how, const struct kcare_redirect *redirects, size_t count)
{
	struct ftrace_hash *hash = direct_hash(redirects, count);
	int err = -EINVAL;

	if (!hash)
		return -ENOMEM;
	switch (how) {
	case KCARE_DIRECT_ADD:
		err = ksym(update_ftrace_direct_add)(&direct_ops, hash);
		break;
	case KCARE_DIRECT_RETARGET:
		err = ksym(update_ftrace_direct_mod)(&direct_ops, hash, true);
		break;
	case KCARE_DIRECT_REMOVE:
		err = ksym(update_ftrace_direct_del)(&direct_ops, hash);
		break;
	}
	ksym(free_ftrace_hash)(hash);
	return err;
}

/* ---- IPMODIFY ---- */

struct table {
	size_t count;
	/* Ascending by site. */
	struct kcare_redirect redirects[];
};

/* Read by the handler without a lock; written by ipmodify_publish() only. */
static struct table __rcu *ipmodify_table;

static __always_inline int compare_site(const void *key, const void *elt)
{
	u64 site = (u64)key;
	const struct kcare_redirect *redirect = elt;

	return site < redirect->site ? -1 : site > redirect->site;
}

/*
 * Leads to where the table says. Needs no recursion guard: it calls nothing that could be traced. The table stays
 * for an RCU-tasks grace period, because the handler may be preempted.
 */
static void notrace ipmodify_handler(unsigned long ip, unsigned long parent_ip,
				     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	const struct table *table = rcu_dereference_raw_check(ipmodify_table);
	const struct kcare_redirect *redirect;

	if (unlikely(!table))
		return;
	redirect = __inline_bsearch((void *)ip, table->redirects, table->count, sizeof(*redirect), compare_site);
	if (likely(redirect))
		ftrace_regs_set_instruction_pointer(fregs, READ_ONCE(redirect->target));
}

static struct ftrace_ops ipmodify_ops = {
	.func = ipmodify_handler,
	.flags = FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_IPMODIFY |
		 (IS_ENABLED(CONFIG_DYNAMIC_FTRACE_WITH_ARGS) ? 0 : FTRACE_OPS_FL_SAVE_REGS),
};

/* Publishes a table and frees the one before it when no handler can read it any more. */
static void ipmodify_publish(struct table *table)
{
	struct table *old = rcu_dereference_protected(ipmodify_table, true);

	rcu_assign_pointer(ipmodify_table, table);
	if (!old)
		return;
	synchronize_rcu_tasks();
	synchronize_rcu_tasks_rude();
	kvfree(old);
}

/* Has ftrace call the handler for exactly these functions. */
static int ipmodify_filter(const struct kcare_redirect *redirects, size_t count)
{
	bool enabled = ipmodify_ops.flags & FTRACE_OPS_FL_ENABLED;
	unsigned long *sites;
	size_t i;
	int err;

	if (!count)
		return enabled ? unregister_ftrace_function(&ipmodify_ops) : 0;

	sites = kvmalloc_array(count, sizeof(*sites), GFP_KERNEL);
	if (!sites)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		sites[i] = redirects[i].site;
	err = ftrace_set_filter_ips(&ipmodify_ops, sites, count, 0, 1);
	kvfree(sites);
	if (!err && !enabled)
		err = register_ftrace_function(&ipmodify_ops);
	return err;
}

int kcare_ipmodify_set(const struct kcare_redirect *redirects, size_t count)
{
	struct table *old = rcu_dereference_protected(ipmodify_table, true);
	struct table *table = NULL, *former = NULL;
	bool grows = count > (old ? old->count : 0);
	int err;

	if (grows && old) {
		former = kvmemdup(old, struct_size(old, redirects, old->count), GFP_KERNEL);
		if (!former)
			return -ENOMEM;
	}
	if (count) {
		table = kvmalloc(struct_size(table, redirects, count), GFP_KERNEL);
		if (!table) {
			kvfree(former);
			return -ENOMEM;
		}
		table->count = count;
		memcpy(table->redirects, redirects, count * sizeof(*redirects));
	}
	/* A function must be in the table for as long as ftrace calls the handler for it. */
	if (!grows) {
		err = ipmodify_filter(redirects, count);
		if (err) {
			kvfree(table);
			return err;
		}
		ipmodify_publish(table);
		return 0;
	}
	ipmodify_publish(table);
	err = ipmodify_filter(redirects, count);
	if (err)
		ipmodify_publish(former);
	else
		kvfree(former);
	return err;
}

int kcare_ipmodify_retarget(const struct kcare_redirect *redirects, size_t count)
{
	struct table *table = rcu_dereference_protected(ipmodify_table, true);
	size_t i;

	for (i = 0; i < count; i++) {
		struct kcare_redirect *redirect;

		redirect = table ? bsearch((void *)redirects[i].site, table->redirects, table->count,
					   sizeof(*redirect), compare_site) : NULL;
		if (!redirect)
			return -ENOENT;
		WRITE_ONCE(redirect->target, redirects[i].target);
	}
	return 0;
}

void kcare_redirects_exit(void)
{
	ftrace_free_filter(&direct_ops);
	ftrace_free_filter(&ipmodify_ops);
}
