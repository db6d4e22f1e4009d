// SPDX-License-Identifier: GPL-2.0
/*
 * Redirected functions: direct jumps behind one ftrace_ops, and IPMODIFY for functions that cannot have one. As few
 * ftrace_ops as can be, because ftrace waits for RCU-tasks grace periods each time that one is un-registered.
 *
 * All functions here are called under kcare's own lock, one at a time.
 */

#include <linux/bsearch.h>
#include <linux/ftrace.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/nops.h>
#include <asm/text-patching.h>

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

bool kcare_ftrace_is_dead(void)
{
	return ksym(ftrace_is_dead)();
}

/*
 * Under ftrace's own lock: without it an ops may be out of ftrace's list already while the site still calls its trampoline
 * (ftrace_shutdown()), and the bytes may be half written (smp_text_poke_batch_finish()).
 */
bool kcare_site_is_ftrace(u64 site)
{
	static const u8 nop[] = { BYTES_NOP5 };
	u8 code[MCOUNT_INSN_SIZE];
	u64 target;
	s32 offset;

	static_assert(sizeof(nop) == sizeof(code));
	guard(mutex)(kcare_ksym_vars.ftrace_lock);
	if (copy_from_kernel_nofault(code, (const void *)site, sizeof(code)))
		return false;
	if (!memcmp(code, nop, sizeof(code)))
		return true;
	if (code[0] != CALL_INSN_OPCODE && code[0] != JMP32_INSN_OPCODE)
		return false;
	memcpy(&offset, code + 1, sizeof(offset));
	target = site + sizeof(code) + offset;
	return kcare_in_ftrace(target) || target == ftrace_jmp_get(ksym(ftrace_find_rec_direct)(site));
}

/* What is done while ftrace dies may be done or not, whatever it says; what it leads to must stay then. */
static int unless_dead(int err)
{
	return !err && kcare_ftrace_is_dead() ? -ENODEV : err;
}

/* ---- direct ---- */

/* New direct redirects are being added. Under ftrace's direct_mutex, as kcare changes them one at a time. */
static bool direct_adds;
/* The task that has ftrace call kcare's own handler, which asks in its context; NULL for none. */
static struct task_struct *ipmodify_adds;

static bool by_ipmodify(unsigned long site);

/*
 * Whether a function may have both a direct redirect of kcare's and an ops with IPMODIFY. Where both are kcare's it is being
 * converted from the one to the other. Where the other is of others', be that a livepatch, none is added; but a kprobe with
 * a post_handler gets there without asking if there has been one elsewhere before (__arm_kprobe_ftrace()), and then kcare's
 * own changes must not be refused. Direct wins over what is set by IPMODIFY (ftrace_regs_caller).
 */
static int share_direct(struct ftrace_ops *ops, unsigned long ip, enum ftrace_ops_cmd cmd)
{
	switch (cmd) {
	case FTRACE_OPS_CMD_ENABLE_SHARE_IPMODIFY_SELF:
		return direct_adds && !by_ipmodify(ip) ? -EBUSY : 0;
	case FTRACE_OPS_CMD_ENABLE_SHARE_IPMODIFY_PEER:
		return READ_ONCE(ipmodify_adds) == current ? 0 : -EBUSY;
	default:
		return 0;
	}
}

/* Without PERMANENT, sysctl kernel.ftrace_enabled=0 would silently undo the redirects. */
static struct ftrace_ops direct_ops = { .flags = FTRACE_OPS_FL_PERMANENT, .ops_func = share_direct };

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
		direct_adds = true;
		err = ksym(update_ftrace_direct_add)(&direct_ops, hash);
		direct_adds = false;
		break;
	case KCARE_DIRECT_RETARGET:
		err = ksym(update_ftrace_direct_mod)(&direct_ops, hash, true);
		break;
	case KCARE_DIRECT_REMOVE:
		err = ksym(update_ftrace_direct_del)(&direct_ops, hash);
		break;
	}
	ksym(free_ftrace_hash)(hash);
	return unless_dead(err);
}

/* ---- IPMODIFY ---- */

struct table {
	/* Of those that do not count any more. */
	struct table *next;
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

static __always_inline struct kcare_redirect *find_redirect(struct table *table, u64 site)
{
	if (unlikely(!table))
		return NULL;
	return __inline_bsearch((void *)site, table->redirects, table->count, sizeof(*table->redirects), compare_site);
}

/* Whether it is redirected by IPMODIFY, and by kcare: there is one such ops for a function. */
static bool by_ipmodify(unsigned long site)
{
	return find_redirect(rcu_dereference_protected(ipmodify_table, true), site);
}

/*
 * Leads to where the table says. Needs no recursion guard: it calls nothing that could be traced. The table stays
 * for an RCU-tasks grace period, because the handler may be preempted.
 */
static void notrace ipmodify_handler(unsigned long ip, unsigned long parent_ip,
				     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	const struct kcare_redirect *redirect = find_redirect(rcu_dereference_raw_check(ipmodify_table), ip);

	if (likely(redirect))
		ftrace_regs_set_instruction_pointer(fregs, READ_ONCE(redirect->target));
}

/*
 * Functions that were added at the same time. Each time it is an ops of its own, because only register_ftrace_function()
 * tells BPF programs of the same functions to share them; a filter that grows leaves them as they are, and they would
 * call the original.
 */
struct batch {
	struct list_head list;
	struct ftrace_ops ops;
	/* Ascending; all of them are in the table. */
	size_t count;
	unsigned long sites[];
};

static LIST_HEAD(batches);

/* Those that calls of the handler may still read which had begun before; of them, those whose grace period has begun. */
static struct table *former_tables, *ending_tables;

/* Has a table count from here on. */
static void ipmodify_publish(struct table *table)
{
	struct table *old = rcu_dereference_protected(ipmodify_table, true);

	rcu_assign_pointer(ipmodify_table, table);
	if (!old)
		return;
	old->next = former_tables;
	former_tables = old;
}

bool kcare_ipmodify_has_former(void)
{
	return former_tables || ending_tables;
}

void kcare_ipmodify_begin_grace(void)
{
	ending_tables = former_tables;
	former_tables = NULL;
}

static void free_tables(struct table **tables)
{
	while (*tables) {
		struct table *next = (*tables)->next;

		kvfree(*tables);
		*tables = next;
	}
}

void kcare_ipmodify_end_grace(void)
{
	free_tables(&ending_tables);
}

static bool in_batch(const struct batch *batch, u64 site)
{
	size_t i;

	for (i = 0; i < batch->count; i++)
		if (batch->sites[i] == site)
			return true;
	return false;
}

static bool in_any_batch(u64 site)
{
	const struct batch *batch;

	list_for_each_entry(batch, &batches, list)
		if (in_batch(batch, site))
			return true;
	return false;
}

/* Those of @redirects that are in no batch yet; NULL if memory is short. */
static struct batch *new_batch(const struct kcare_redirect *redirects, size_t count)
{
	struct batch *batch = kvzalloc(struct_size(batch, sites, count), GFP_KERNEL);
	size_t i;

	if (!batch)
		return NULL;
	batch->ops.func = ipmodify_handler;
	batch->ops.flags = FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_IPMODIFY |
			   (IS_ENABLED(CONFIG_DYNAMIC_FTRACE_WITH_ARGS) ? 0 : FTRACE_OPS_FL_SAVE_REGS);
	for (i = 0; i < count; i++)
		if (!in_any_batch(redirects[i].site))
			batch->sites[batch->count++] = redirects[i].site;
	return batch;
}

static void free_batch(struct batch *batch)
{
	ftrace_free_filter(&batch->ops);
	kvfree(batch);
}

/*
 * Has ftrace call the handler for the functions of @batch, which is the list's then. What BPF's programs are attached
 * by may be busy for a moment with any other one (bpf_tramp_ftrace_ops_func(), kernel/bpf/trampoline.c, which sleeps for
 * a millisecond); nothing has been done then.
 */
static int add_batch(struct batch *batch)
{
	int err = ftrace_set_filter_ips(&batch->ops, batch->sites, batch->count, 0, 1);
	int tries = 1000;

	if (err)
		return err;
	WRITE_ONCE(ipmodify_adds, current);
	do {
		err = register_ftrace_function(&batch->ops);
	} while (err == -EAGAIN && --tries);
	WRITE_ONCE(ipmodify_adds, NULL);
	if (!err)
		list_add(&batch->list, &batches);
	return err;
}

/* It fails only if ftrace has shut itself down; the handler stays then. */
static void end_batch(struct batch *batch)
{
	if (unregister_ftrace_function(&batch->ops)) {
		__module_get(THIS_MODULE);
		return;
	}
	list_del(&batch->list);
	free_batch(batch);
}

/* Those of a batch that are in @table. */
static size_t kept(const struct batch *batch, struct table *table)
{
	size_t i, count = 0;

	for (i = 0; i < batch->count; i++)
		if (find_redirect(table, batch->sites[i]))
			count++;
	return count;
}

/* Behind it no handler runs for those that are not in @table, as behind end_batch(). */
static int shrink_batch(struct batch *batch, struct table *table)
{
	unsigned long *sites = kvmalloc_array(batch->count, sizeof(*sites), GFP_KERNEL);
	size_t i, count = 0;
	int err;

	if (!sites)
		return -ENOMEM;
	for (i = 0; i < batch->count; i++)
		if (find_redirect(table, batch->sites[i]))
			sites[count++] = batch->sites[i];
	err = ftrace_set_filter_ips(&batch->ops, sites, count, 0, 1);
	if (!err) {
		memcpy(batch->sites, sites, count * sizeof(*sites));
		batch->count = count;
		kcare_synchronize_text();
	}
	kvfree(sites);
	return err;
}

/* Has ftrace call the handler for no more functions than are in @table; where memory is short, for some more. */
static int thin_batches(struct table *table)
{
	struct batch *batch, *next;
	int err;

	list_for_each_entry_safe(batch, next, &batches, list) {
		size_t count = kept(batch, table);

		if (!count) {
			end_batch(batch);
		} else if (count < batch->count) {
			err = shrink_batch(batch, table);
			if (err)
				return err;
		}
	}
	return 0;
}

static struct table *new_table(const struct kcare_redirect *redirects, size_t count)
{
	struct table *table = kvmalloc(struct_size(table, redirects, count), GFP_KERNEL);

	if (!table)
		return NULL;
	table->count = count;
	memcpy(table->redirects, redirects, count * sizeof(*redirects));
	return table;
}

int kcare_ipmodify_grow(const struct kcare_redirect *redirects, size_t count)
{
	struct table *old = rcu_dereference_protected(ipmodify_table, true);
	struct table *table, *former = NULL;
	struct batch *batch;
	/* What an earlier change could not end. */
	int err = thin_batches(old);

	if (err)
		return err;
	table = new_table(redirects, count);
	batch = new_batch(redirects, count);
	if (old)
		former = new_table(old->redirects, old->count);
	if (!table || !batch || (old && !former)) {
		kvfree(table);
		kvfree(batch);
		kvfree(former);
		return -ENOMEM;
	}
	/* A function is in the table before ftrace calls the handler for it. */
	ipmodify_publish(table);
	err = add_batch(batch);
	if (!err && kcare_ftrace_is_dead()) {
		kvfree(former);
		return -ENODEV;
	}
	if (err) {
		ipmodify_publish(former);
		/* ftrace may have had it in its list for a moment. */
		kcare_synchronize_text();
		free_batch(batch);
		return err;
	}
	kvfree(former);
	return 0;
}

int kcare_ipmodify_shrink(const struct kcare_redirect *redirects, size_t count)
{
	struct table *table = NULL;
	int err;

	if (count) {
		table = new_table(redirects, count);
		if (!table)
			return -ENOMEM;
	}
	/*
	 * A function leaves the table behind ftrace's calls of the handler. Without an entry that would go on behind the fentry
	 * site: in the original body, also of a function that is redirected directly by now, and where a BPF program's call
	 * (BPF_TRAMP_F_ORIG_STACK) finds no ENDBR.
	 */
	err = unless_dead(thin_batches(table));
	if (err)
		kvfree(table);
	else
		ipmodify_publish(table);
	return err;
}

/* Calls of the handler that go by these tables lead elsewhere from now on, too. */
static void retarget_former(struct table *table, const struct kcare_redirect *new)
{
	for (; table; table = table->next) {
		struct kcare_redirect *redirect = find_redirect(table, new->site);

		if (redirect)
			WRITE_ONCE(redirect->target, new->target);
	}
}

int kcare_ipmodify_retarget(const struct kcare_redirect *redirects, size_t count)
{
	struct table *table = rcu_dereference_protected(ipmodify_table, true);
	size_t i;

	for (i = 0; i < count; i++) {
		struct kcare_redirect *redirect = find_redirect(table, redirects[i].site);

		if (!redirect)
			return -ENOENT;
		WRITE_ONCE(redirect->target, redirects[i].target);
		retarget_former(former_tables, &redirects[i]);
		retarget_former(ending_tables, &redirects[i]);
	}
	return 0;
}

void kcare_redirects_exit(void)
{
	if (kcare_ipmodify_has_former())
		kcare_synchronize_text();
	free_tables(&ending_tables);
	free_tables(&former_tables);
	ftrace_free_filter(&direct_ops);
}
