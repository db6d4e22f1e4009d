// SPDX-License-Identifier: GPL-2.0
/*
 * Other modules: where they are, and when they come and go.
 *
 * The kernel tells of both through one chain. A module that comes is told of last, when its jump labels, static
 * calls and tracepoints are in place, and one that goes is told of first, while they still are.
 */

#include <linux/kallsyms.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/slab.h>

#include "ksyms.h"
#include "shim.h"

static void *watch_ctx;
static int (*watch_coming)(void *ctx, struct module *mod);
static void (*watch_going)(void *ctx, struct module *mod);

/* A module of kcare's own comes or goes; call_chain() of resident.c runs in the same task. */
static bool own(void)
{
	return READ_ONCE(kcare_chain_caller) == current;
}

/* Modules that are coming, until they are live or go. */
struct coming {
	struct list_head list;
	const struct module *mod;
	enum {
		/* Was coming before there was a watch; may be told of yet, or be past that, in its init. */
		EARLIER,
		/* Is being told of. */
		CALLED,
		/* Has been told of: it can be patched as those that are live. */
		TOLD,
	} state;
};

static LIST_HEAD(coming_modules);
/* Protects the list and the states. Nests inside module_mutex. */
static DEFINE_SPINLOCK(coming_lock);

static struct coming *find_coming(const struct module *mod)
{
	struct coming *coming;

	list_for_each_entry(coming, &coming_modules, list)
		if (coming->mod == mod)
			return coming;
	return NULL;
}

/* @coming becomes the list's. */
static void add_coming(struct coming *coming, const struct module *mod, int state)
{
	struct coming *known;

	scoped_guard(spinlock, &coming_lock) {
		known = find_coming(mod);
		if (!known) {
			coming->mod = mod;
			coming->state = state;
			list_add(&coming->list, &coming_modules);
			return;
		}
		if (state > known->state)
			known->state = state;
	}
	kfree(coming);
}

static void forget_coming(const struct module *mod)
{
	struct coming *coming;

	scoped_guard(spinlock, &coming_lock) {
		coming = find_coming(mod);
		if (coming)
			list_del(&coming->list);
	}
	kfree(coming);
}

void kcare_module_told(const struct module *mod)
{
	struct coming *coming;

	guard(spinlock)(&coming_lock);
	coming = find_coming(mod);
	if (coming)
		coming->state = TOLD;
}

/* What the chain may have gone past before there was a watch. */
static int list_earlier(void)
{
	struct module *mod;

	guard(mutex)(kcare_ksym_vars.module_mutex);
	list_for_each_entry(mod, kcare_ksym_vars.modules, list) {
		struct coming *coming;

		if (mod->state != MODULE_STATE_COMING || mod == THIS_MODULE)
			continue;
		coming = kzalloc(sizeof(*coming), GFP_KERNEL);
		if (!coming)
			return -ENOMEM;
		add_coming(coming, mod, EARLIER);
	}
	return 0;
}

static int note_coming(struct notifier_block *nb, unsigned long state, void *mod)
{
	struct coming *coming;
	int err;

	if (own())
		return NOTIFY_DONE;
	if (state == MODULE_STATE_LIVE)
		forget_coming(mod);
	if (state != MODULE_STATE_COMING)
		return NOTIFY_DONE;
	coming = kzalloc(sizeof(*coming), GFP_KERNEL);
	if (!coming)
		return notifier_from_errno(-ENOMEM);
	add_coming(coming, mod, CALLED);
	err = watch_coming(watch_ctx, mod);
	if (err)
		forget_coming(mod);
	return notifier_from_errno(err);
}

static int note_going(struct notifier_block *nb, unsigned long state, void *mod)
{
	if (state == MODULE_STATE_GOING && !own()) {
		forget_coming(mod);
		watch_going(watch_ctx, mod);
	}
	return NOTIFY_DONE;
}

static struct notifier_block coming_block = { .notifier_call = note_coming, .priority = INT_MIN };
static struct notifier_block going_block = { .notifier_call = note_going, .priority = INT_MAX };

int kcare_modules_watch(void *ctx, int (*coming)(void *ctx, struct module *mod),
			void (*going)(void *ctx, struct module *mod))
{
	int err;

	watch_ctx = ctx;
	watch_coming = coming;
	watch_going = going;
	err = register_module_notifier(&going_block);
	if (err)
		return err;
	err = register_module_notifier(&coming_block);
	if (err) {
		unregister_module_notifier(&going_block);
		return err;
	}
	err = list_earlier();
	if (err)
		kcare_modules_unwatch();
	return err;
}

void kcare_modules_unwatch(void)
{
	struct coming *coming, *next;

	unregister_module_notifier(&coming_block);
	unregister_module_notifier(&going_block);
	list_for_each_entry_safe(coming, next, &coming_modules, list) {
		list_del(&coming->list);
		kfree(coming);
	}
}

int kcare_module_find(const char *name, size_t len, struct module **found)
{
	char terminated[MODULE_NAME_LEN];
	struct coming *coming;
	struct module *mod;

	*found = NULL;
	if (len >= sizeof(terminated))
		return 0;
	memcpy(terminated, name, len);
	terminated[len] = '\0';

	guard(mutex)(kcare_ksym_vars.module_mutex);
	mod = ksym(find_module)(terminated);
	if (mod && mod->state == MODULE_STATE_COMING) {
		guard(spinlock)(&coming_lock);
		coming = find_coming(mod);
		if (coming && coming->state == EARLIER)
			return -EBUSY;
		if (coming && coming->state == TOLD)
			*found = mod;
	} else if (mod && mod->state == MODULE_STATE_LIVE) {
		*found = mod;
	}
	return 0;
}

const char *kcare_module_name(const struct module *mod)
{
	return mod->name;
}

void kcare_module_memory(const struct module *mod, unsigned int region, u64 *base, u64 *size)
{
	if (region < KCARE_NR_REGIONS) {
		*base = (unsigned long)mod->mem[region].base;
		*size = mod->mem[region].size;
	} else {
		*base = (unsigned long)mod->percpu;
		*size = mod->percpu_size;
	}
}

bool kcare_module_has_symbol(const struct module *mod, u64 address, const char *name, size_t len)
{
	const struct mod_kallsyms *kallsyms;
	unsigned int i;

	guard(rcu)();
	kallsyms = rcu_dereference(mod->kallsyms);
	for (i = 0; kallsyms && i < kallsyms->num_symtab; i++) {
		const Elf_Sym *sym = &kallsyms->symtab[i];
		const char *found = kallsyms->strtab + sym->st_name;

		if (sym->st_value == address && sym->st_shndx != SHN_UNDEF && strlen(found) == len &&
		    !memcmp(found, name, len))
			return true;
	}
	return false;
}

void kcare_module_get(struct module *mod)
{
	__module_get(mod);
}

bool kcare_module_try_get(struct module *mod)
{
	/* One that fails in its init is freed whoever has references (do_init_module()). */
	return READ_ONCE(mod->state) == MODULE_STATE_LIVE && try_module_get(mod);
}

void kcare_module_put(struct module *mod)
{
	module_put(mod);
}
