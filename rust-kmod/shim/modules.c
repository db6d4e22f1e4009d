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

/* A module of kcare's own comes or goes; kcare_chain_call() runs in the same task. */
static bool own(void)
{
	return READ_ONCE(kcare_chain_caller) == current;
}

/*
 * Modules that have been told of as coming, and whose init has not ended: they can be patched as those that are live,
 * while one that is coming and not here will be told of.
 */
struct told {
	struct list_head list;
	const struct module *mod;
};

static LIST_HEAD(told_modules);
/* Protects the list. Nests inside module_mutex. */
static DEFINE_SPINLOCK(told_lock);

static struct told *find_told(const struct module *mod)
{
	struct told *told;

	list_for_each_entry(told, &told_modules, list)
		if (told->mod == mod)
			return told;
	return NULL;
}

static bool is_told(const struct module *mod)
{
	guard(spinlock)(&told_lock);
	return find_told(mod);
}

/* @told becomes the list's. */
static void add_told(struct told *told, const struct module *mod)
{
	scoped_guard(spinlock, &told_lock) {
		if (!find_told(mod)) {
			told->mod = mod;
			list_add(&told->list, &told_modules);
			return;
		}
	}
	kfree(told);
}

static void forget_told(const struct module *mod)
{
	struct told *told;

	scoped_guard(spinlock, &told_lock) {
		told = find_told(mod);
		if (told)
			list_del(&told->list);
	}
	kfree(told);
}

/* Those that were told to everybody else before there was a watch. */
static int tell_earlier(void)
{
	struct module *mod;

	guard(mutex)(kcare_ksym_vars.module_mutex);
	list_for_each_entry(mod, kcare_ksym_vars.modules, list) {
		struct told *told;

		if (mod->state != MODULE_STATE_COMING || mod == THIS_MODULE)
			continue;
		told = kzalloc(sizeof(*told), GFP_KERNEL);
		if (!told)
			return -ENOMEM;
		add_told(told, mod);
	}
	return 0;
}

static int note_coming(struct notifier_block *nb, unsigned long state, void *mod)
{
	struct told *told;
	int err;

	if (own())
		return NOTIFY_DONE;
	if (state == MODULE_STATE_LIVE)
		forget_told(mod);
	if (state != MODULE_STATE_COMING)
		return NOTIFY_DONE;
	told = kzalloc(sizeof(*told), GFP_KERNEL);
	if (!told)
		return notifier_from_errno(-ENOMEM);
	err = watch_coming(watch_ctx, mod);
	if (err)
		kfree(told);
	else
		add_told(told, mod);
	return notifier_from_errno(err);
}

static int note_going(struct notifier_block *nb, unsigned long state, void *mod)
{
	if (state == MODULE_STATE_GOING && !own()) {
		forget_told(mod);
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
	err = tell_earlier();
	if (err)
		kcare_modules_unwatch();
	return err;
}

void kcare_modules_unwatch(void)
{
	struct told *told, *next;

	unregister_module_notifier(&coming_block);
	unregister_module_notifier(&going_block);
	list_for_each_entry_safe(told, next, &told_modules, list) {
		list_del(&told->list);
		kfree(told);
	}
}

struct module *kcare_module_find(const char *name)
{
	struct module *mod;

	mutex_lock(kcare_ksym_vars.module_mutex);
	mod = ksym(find_module)(name);
	if (mod && mod->state != MODULE_STATE_LIVE && !(mod->state == MODULE_STATE_COMING && is_told(mod)))
		mod = NULL;
	mutex_unlock(kcare_ksym_vars.module_mutex);
	return mod;
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
	return try_module_get(mod);
}

void kcare_module_put(struct module *mod)
{
	module_put(mod);
}
