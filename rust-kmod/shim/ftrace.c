// SPDX-License-Identifier: GPL-2.0
/*
 * A set of redirected functions behind one ftrace_ops, registered as direct jumps or as IPMODIFY. One ops for
 * all of them, because ftrace waits for RCU-tasks grace periods each time that one is un-registered.
 */

#include <linux/bsearch.h>
#include <linux/ftrace.h>
#include <linux/slab.h>

#include "ksyms.h"
#include "shim.h"

struct entry {
	unsigned long site;
	unsigned long target;
};

struct kcare_set {
	struct ftrace_ops ops;
	size_t count;
	/* Ascending by site. */
	struct entry entries[];
};

static __always_inline int compare_site(const void *key, const void *elt)
{
	unsigned long site = (unsigned long)key;
	const struct entry *entry = elt;

	return site < entry->site ? -1 : site > entry->site;
}

/*
 * Leads to the trampoline, which decides between old and new body; so both strategies share one decision.
 * Needs no recursion guard: it calls nothing that could be traced.
 */
static void notrace redirect(unsigned long ip, unsigned long parent_ip,
			     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct kcare_set *set = container_of(ops, struct kcare_set, ops);
	const struct entry *entry = __inline_bsearch((void *)ip, set->entries, set->count,
						     sizeof(*entry), compare_site);

	if (likely(entry))
		ftrace_regs_set_instruction_pointer(fregs, entry->target);
}

u64 kcare_fentry_site(u64 function)
{
	return ksym(ftrace_location)(function);
}

bool kcare_has_direct(u64 site)
{
	return ksym(ftrace_find_rec_direct)(site);
}

struct kcare_set *kcare_set_new(size_t capacity)
{
	struct kcare_set *set;

	return kvzalloc(struct_size(set, entries, capacity), GFP_KERNEL);
}

void kcare_set_add(struct kcare_set *set, u64 site, u64 target)
{
	set->entries[set->count++] = (struct entry){ .site = site, .target = target };
}

void kcare_set_free(struct kcare_set *set)
{
	ftrace_free_filter(&set->ops);
	kvfree(set);
}

/* The set as ftrace's hash, leading to @targets, or to where it leads now; NULL if memory is short. */
static struct ftrace_hash *direct_hash(struct kcare_set *set, const u64 *targets)
{
	struct ftrace_hash *hash = ksym(alloc_ftrace_hash)(min(fls(set->count), 10));
	size_t i;

	if (!hash)
		return NULL;
	for (i = 0; i < set->count; i++) {
		unsigned long target = targets ? targets[i] : set->entries[i].target;

		if (!ksym(add_ftrace_hash_entry_direct)(hash, set->entries[i].site,
							ftrace_jmp_set(target))) {
			ksym(free_ftrace_hash)(hash);
			return NULL;
		}
	}
	return hash;
}

int kcare_set_register_direct(struct kcare_set *set)
{
	struct ftrace_hash *hash = direct_hash(set, NULL);
	int err;

	if (!hash)
		return -ENOMEM;
	/* Without PERMANENT, sysctl kernel.ftrace_enabled=0 would silently undo the redirects. */
	set->ops.flags |= FTRACE_OPS_FL_PERMANENT;
	err = ksym(update_ftrace_direct_add)(&set->ops, hash);
	ksym(free_ftrace_hash)(hash);
	return err;
}

int kcare_set_unregister_direct(struct kcare_set *set)
{
	struct ftrace_hash *hash = direct_hash(set, NULL);
	int err;

	if (!hash)
		return -ENOMEM;
	err = ksym(update_ftrace_direct_del)(&set->ops, hash);
	ksym(free_ftrace_hash)(hash);
	return err;
}

int kcare_set_retarget_direct(struct kcare_set *set, const u64 *targets)
{
	struct ftrace_hash *hash = direct_hash(set, targets);
	size_t i;
	int err;

	if (!hash)
		return -ENOMEM;
	err = ksym(update_ftrace_direct_mod)(&set->ops, hash, true);
	ksym(free_ftrace_hash)(hash);
	if (err)
		return err;
	for (i = 0; i < set->count; i++)
		set->entries[i].target = targets[i];
	return 0;
}

int kcare_set_register_ipmodify(struct kcare_set *set)
{
	unsigned long *sites = kvmalloc_array(set->count, sizeof(*sites), GFP_KERNEL);
	size_t i;
	int err;

	if (!sites)
		return -ENOMEM;
	for (i = 0; i < set->count; i++)
		sites[i] = set->entries[i].site;
	err = ftrace_set_filter_ips(&set->ops, sites, set->count, 0, 1);
	kvfree(sites);
	if (err)
		return err;
	set->ops.func = redirect;
	set->ops.flags |= FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_IPMODIFY;
	if (!IS_ENABLED(CONFIG_DYNAMIC_FTRACE_WITH_ARGS))
		set->ops.flags |= FTRACE_OPS_FL_SAVE_REGS;
	return register_ftrace_function(&set->ops);
}

int kcare_set_unregister_ipmodify(struct kcare_set *set)
{
	return unregister_ftrace_function(&set->ops);
}
