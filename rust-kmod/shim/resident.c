// SPDX-License-Identifier: GPL-2.0
/*
 * A struct module that kcare fills itself, so that patch text is a first-class citizen: it has ORC,
 * exception and bug tables, jump labels, static calls, ftrace records and names. The steps are those of
 * load_module() in kernel/module/main.c, each with its mirror; the order is the caller's.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dynamic_debug.h>
#include <linux/jump_label.h>
#include <linux/kallsyms.h>
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/moduleloader.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <asm/alternative.h>
#include <asm/orc_types.h>

#include "ksyms.h"
#include "shim.h"

static_assert((int)KCARE_TEXT == MOD_TEXT);
static_assert((int)KCARE_DATA == MOD_DATA);
static_assert((int)KCARE_RODATA == MOD_RODATA);
static_assert((int)KCARE_RO_AFTER_INIT == MOD_RO_AFTER_INIT);

/* The sizes of payload::special::SPECIAL. */
static_assert(sizeof(struct alt_instr) == 14);
static_assert(sizeof(struct orc_entry) == 6);
static_assert(sizeof(struct static_call_site) == 8);
static_assert(sizeof(struct bug_entry) == 16);
static_assert(sizeof(struct exception_table_entry) == 12);
static_assert(sizeof(struct jump_entry) == 16);
static_assert(sizeof(struct _ddebug) == 56);

/*
 * /sys/module/NAME/sections, where drgn and others look for what lies where: each kind of memory is a section, as in a debug
 * companion. The files' readers take no lock: nothing here changes, and it is freed after the files have gone, which waits
 * for readers.
 */
struct sections {
	struct attribute_group group;
	/* Ends with NULL. */
	const struct bin_attribute *files[KCARE_NR_REGIONS + 1];
	struct bin_attribute file[KCARE_NR_REGIONS];
};

/*
 * /sys/module/NAME, where lsmod and others look for what /proc/modules lists. The readers of other files than those of
 * @sections hold @folder_lock, so that the module is there while they read.
 */
struct folder {
	struct kobject kobj;
	struct kobject *holders;
	struct module *mod;
	/* Those of @mod, or NULL without memory for the files. */
	struct sections *sections;
};

static DEFINE_MUTEX(folder_lock);

/* A module that kcare uses, and that uses kcare, because of which not even `rmmod --force` takes either (delete_module()). */
struct resident {
	struct module mod;
	struct kcare_module_use used_by_kcare, uses_kcare;
	/* Of two with the same name one has it. */
	struct folder *folder;
	struct sections sections;
};

/* References to a module that is nobody else's. */
#define KCARE_REFS 2

/* Modules that are in no list of the kernel's any more, but to which others have references, such as BPF programs. */
static LIST_HEAD(held);
static DEFINE_MUTEX(held_lock);

struct module *kcare_resident_new(const char *name)
{
	struct resident *resident = kvzalloc(sizeof(*resident), GFP_KERNEL);
	struct module *mod;

	if (!resident)
		return NULL;
	mod = &resident->mod;
	strscpy(mod->name, name, sizeof(mod->name));
	mod->state = MODULE_STATE_UNFORMED;
	mod->taints = THIS_MODULE->taints | BIT(TAINT_LIVEPATCH);
	INIT_LIST_HEAD(&mod->list);
	INIT_LIST_HEAD(&mod->source_list);
	INIT_LIST_HEAD(&mod->target_list);
	INIT_LIST_HEAD(&mod->bug_list);
	resident->used_by_kcare.source = THIS_MODULE;
	resident->used_by_kcare.target = mod;
	INIT_LIST_HEAD(&resident->used_by_kcare.target_list);
	list_add(&resident->used_by_kcare.source_list, &mod->source_list);
	/* In kcare's list while it is in the kernel's. */
	resident->uses_kcare.source = mod;
	resident->uses_kcare.target = THIS_MODULE;
	INIT_LIST_HEAD(&resident->uses_kcare.source_list);
	INIT_LIST_HEAD(&resident->uses_kcare.target_list);
	/* MODULE_REF_BASE (kernel/module/main.c), and kcare's. */
	atomic_set(&mod->refcnt, KCARE_REFS);
	return mod;
}

void *kcare_resident_alloc(struct module *mod, enum kcare_region region, size_t size)
{
	enum execmem_type kind = region == KCARE_TEXT ? EXECMEM_MODULE_TEXT : EXECMEM_MODULE_DATA;
	struct module_memory *mem = &mod->mem[region];
	void *base;

	size = PAGE_ALIGN(size);
	base = ksym(execmem_alloc_rw)(kind, size);
	if (!base)
		return NULL;
	memset(base, 0, size);
	mem->base = base;
	mem->size = size;
	mem->is_rox = ksym(execmem_is_rox)(kind);
	return base;
}

/* Has lockdep forget the locks in it, behind the grace period of kcare_resident_remove(), as in free_mod_mem(). */
static void forget_locks(const struct module_memory *mem)
{
#ifdef CONFIG_LOCKDEP
	ksym(lockdep_free_key_range)(mem->base, mem->size);
#endif
}

static void free_resident(struct module *mod)
{
	int i;

	for (i = 0; i < KCARE_NR_REGIONS; i++) {
		if (!mod->mem[i].base)
			continue;
		forget_locks(&mod->mem[i]);
		ksym(execmem_free)(mod->mem[i].base);
	}
	kvfree(container_of(mod, struct resident, mod));
}

/* No new reference appears: whoever looks for a module finds none of these. */
void kcare_residents_sweep(void)
{
	struct module *mod, *next;
	LIST_HEAD(unheld);

	scoped_guard(mutex, &held_lock)
		list_for_each_entry_safe(mod, next, &held, list)
			if (!atomic_read(&mod->refcnt))
				list_move(&mod->list, &unheld);
	if (list_empty(&unheld))
		return;
	/* Whoever has just let go of it may be about to trace that (module_put()). */
	synchronize_rcu_tasks();
	list_for_each_entry_safe(mod, next, &unheld, list)
		free_resident(mod);
}

void kcare_resident_free(struct module *mod)
{
	int others = atomic_sub_return(KCARE_REFS, &mod->refcnt);

	if (others) {
		pr_info("%s has %d users left: its memory stays until they are gone\n", mod->name, others);
		guard(mutex)(&held_lock);
		list_add(&mod->list, &held);
		return;
	}
	/* Who let go while the redirects ended has traced that by now (Redirects::synchronize()). */
	free_resident(mod);
	kcare_residents_sweep();
}

void kcare_resident_set_tables(struct module *mod, const struct kcare_tables *t)
{
	mod->extable = t->extable.base;
	mod->num_exentries = t->extable.bytes / sizeof(*mod->extable);
	mod->jump_entries = t->jump_table.base;
	mod->num_jump_entries = t->jump_table.bytes / sizeof(*mod->jump_entries);
	mod->static_call_sites = t->static_calls.base;
	mod->num_static_call_sites = t->static_calls.bytes / sizeof(*mod->static_call_sites);
	mod->ftrace_callsites = t->mcount.base;
	mod->num_ftrace_callsites = t->mcount.bytes / sizeof(*mod->ftrace_callsites);

#ifdef CONFIG_DYNAMIC_DEBUG_CORE
	mod->dyndbg_info.descs = t->debug_messages.base;
	mod->dyndbg_info.num_descs = t->debug_messages.bytes / sizeof(*mod->dyndbg_info.descs);
#endif

	mod->kprobe_blacklist = t->no_probes.base;
	mod->num_kprobe_blacklist = t->no_probes.bytes / sizeof(*mod->kprobe_blacklist);

	mod->core_kallsyms.symtab = t->symtab;
	mod->core_kallsyms.num_symtab = t->nr_symbols;
	mod->core_kallsyms.strtab = t->strtab;
	mod->core_kallsyms.typetab = t->typetab;
	rcu_assign_pointer(mod->kallsyms, &mod->core_kallsyms);
}

/* __module_address() looks no further than these bounds. They only ever grow, as in mod_update_bounds(). */
static void grow_bounds(const struct module *mod)
{
	struct kcare_mod_tree_root *tree = kcare_ksym_vars.mod_tree;
	int i;

	for (i = 0; i < KCARE_NR_REGIONS; i++) {
		const struct module_memory *mem = &mod->mem[i];
		unsigned long min = (unsigned long)mem->base;

		if (!mem->size)
			continue;
		tree->addr_min = min(tree->addr_min, min);
		tree->addr_max = max(tree->addr_max, min + mem->size);
	}
}

/* Of the modules that have this taint, those that the kernel itself has loaded are its own livepatches. */
static bool resident(struct module *mod)
{
	return test_bit(TAINT_LIVEPATCH, &mod->taints) && !is_livepatch_module(mod);
}

/* In the words of kernel/module/sysfs.c and kernel/params.c. */
static ssize_t initstate_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "live\n");
}

static ssize_t refcnt_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	guard(mutex)(&folder_lock);
	return sysfs_emit(buf, "%d\n", atomic_read(&container_of(kobj, struct folder, kobj)->mod->refcnt) - 1);
}

static ssize_t coresize_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	unsigned int size = 0;
	int i;

	guard(mutex)(&folder_lock);
	for (i = 0; i < KCARE_NR_REGIONS; i++)
		size += container_of(kobj, struct folder, kobj)->mod->mem[i].size;
	return sysfs_emit(buf, "%u\n", size);
}

static ssize_t initsize_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "0\n");
}

/* As THIS_MODULE's, and that it patches. */
static ssize_t taint_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	size_t len;

	guard(mutex)(&folder_lock);
	len = ksym(module_flags_taint)(container_of(kobj, struct folder, kobj)->mod->taints, buf);
	return len + sysfs_emit_at(buf, len, "\n");
}

static struct kobj_attribute folder_files[] = {
	__ATTR_RO(coresize), __ATTR_RO(initsize), __ATTR_RO(initstate), __ATTR_RO(refcnt), __ATTR_RO(taint),
};

static struct attribute *folder_attrs[] = {
	&folder_files[0].attr, &folder_files[1].attr, &folder_files[2].attr, &folder_files[3].attr, &folder_files[4].attr,
	NULL,
};
ATTRIBUTE_GROUPS(folder);

static void folder_release(struct kobject *kobj)
{
	kfree(container_of(kobj, struct folder, kobj));
}

static const struct kobj_type folder_type = {
	.sysfs_ops = &kobj_sysfs_ops,
	.release = folder_release,
	.default_groups = folder_groups,
};

/* "0x", the digits, a newline. */
#define SECTION_TEXT (2 + 2 * sizeof(void *) + 1)

static ssize_t section_read(struct file *file, struct kobject *kobj, const struct bin_attribute *attr, char *buf,
			    loff_t pos, size_t count)
{
	/* As of other modules: no address for those who get none from /proc/kallsyms. */
	const void *address = ksym(kallsyms_show_value)(file->f_cred) ? attr->private : NULL;
	char text[SECTION_TEXT + 1];

	return memory_read_from_buffer(buf, count, &pos, text, scnprintf(text, sizeof(text), "0x%px\n", address));
}

static void fill_sections(struct resident *resident)
{
	static const char *const names[] = {
		[KCARE_TEXT] = ".text",
		[KCARE_DATA] = ".data",
		[KCARE_RODATA] = ".rodata",
		[KCARE_RO_AFTER_INIT] = ".data..ro_after_init",
	};
	struct sections *sections = &resident->sections;
	const struct bin_attribute **next = sections->files;
	int i;

	for (i = 0; i < KCARE_NR_REGIONS; i++) {
		struct bin_attribute *file = &sections->file[i];

		if (!resident->mod.mem[i].base)
			continue;
		sysfs_bin_attr_init(file);
		file->attr.name = names[i];
		file->attr.mode = 0400;
		file->size = SECTION_TEXT;
		file->private = resident->mod.mem[i].base;
		file->read = section_read;
		*next++ = file;
	}
	sections->group.name = "sections";
	sections->group.bin_attrs = sections->files;
}

/* Of the module that has the folder now; no reader of the former files is left. */
static void show_sections(struct folder *folder, struct sections *sections)
{
	if (folder->sections)
		sysfs_remove_group(&folder->kobj, &folder->sections->group);
	if (sections && sysfs_create_group(&folder->kobj, &sections->group)) {
		pr_debug("no files for the sections of %s\n", kobject_name(&folder->kobj));
		sections = NULL;
	}
	folder->sections = sections;
}

static void remove_folder(struct folder *folder)
{
	sysfs_remove_link(THIS_MODULE->holders_dir, kobject_name(&folder->kobj));
	show_sections(folder, NULL);
	if (folder->holders) {
		sysfs_remove_link(folder->holders, KBUILD_MODNAME);
		kobject_put(folder->holders);
	}
	/* Waits for readers. */
	kobject_del(&folder->kobj);
	kobject_put(&folder->kobj);
}

/* Without it only lsmod is worse off. */
static struct folder *add_folder(struct module *mod)
{
	struct folder *folder = kzalloc(sizeof(*folder), GFP_KERNEL);

	if (!folder)
		return NULL;
	folder->mod = mod;
	if (kobject_init_and_add(&folder->kobj, &folder_type, THIS_MODULE->mkobj.kobj.parent, "%s", mod->name)) {
		kobject_put(&folder->kobj);
		return NULL;
	}
	folder->holders = kobject_create_and_add("holders", &folder->kobj);
	if (folder->holders && sysfs_create_link(folder->holders, &THIS_MODULE->mkobj.kobj, KBUILD_MODNAME))
		pr_debug("no link to the holder of %s\n", mod->name);
	if (sysfs_create_link(THIS_MODULE->holders_dir, &folder->kobj, mod->name))
		pr_debug("no link to %s\n", mod->name);
	show_sections(folder, &container_of(mod, struct resident, mod)->sections);
	return folder;
}

/* Gives the folder of @from to @to, which has its name. */
static void hand_folder(struct module *from, struct module *to)
{
	struct resident *giver = container_of(from, struct resident, mod);
	struct resident *taker = container_of(to, struct resident, mod);

	guard(mutex)(&folder_lock);
	if (!giver->folder)
		return;
	giver->folder->mod = to;
	show_sections(giver->folder, &taker->sections);
	taker->folder = giver->folder;
	giver->folder = NULL;
}

int kcare_resident_insert(struct module *mod)
{
	struct resident *this = container_of(mod, struct resident, mod);
	struct module *same;
	int err = 0;

	fill_sections(this);
	mutex_lock(kcare_ksym_vars.module_mutex);
	same = ksym(find_module)(mod->name);
	/* A level that a rollback goes back to stays until the new one of its number is live. */
	if (same && !resident(same)) {
		err = -EEXIST;
	} else {
		grow_bounds(mod);
		list_add_rcu(&mod->list, kcare_ksym_vars.modules);
		list_add(&this->uses_kcare.source_list, &THIS_MODULE->source_list);
		ksym(mod_tree_insert)(mod);
		if (same)
			hand_folder(same, mod);
	}
	mutex_unlock(kcare_ksym_vars.module_mutex);
	if (!err && !this->folder)
		this->folder = add_folder(mod);
	return err;
}

void kcare_resident_remove(struct module *mod)
{
	struct resident *this = container_of(mod, struct resident, mod);
	struct module *same;

	mutex_lock(kcare_ksym_vars.module_mutex);
	mod->state = MODULE_STATE_UNFORMED;
	list_del_rcu(&mod->list);
	list_del(&this->uses_kcare.source_list);
	ksym(mod_tree_remove)(mod);
	same = ksym(find_module)(mod->name);
	if (same && resident(same))
		hand_folder(mod, same);
	/* Readers of the list, the tree and the bug list are RCU readers, as in free_module(). */
	synchronize_rcu();
	mutex_unlock(kcare_ksym_vars.module_mutex);
	if (this->folder)
		remove_folder(this->folder);
}

int kcare_resident_finalize(struct module *mod, const void *hdr, const void *sechdrs)
{
	int err;

	ksym(sort_extable)(mod->extable, mod->extable + mod->num_exentries);
	err = ksym(module_finalize)(hdr, sechdrs, mod);
	if (err)
		return err;
	ksym(ftrace_module_init)(mod);
	return 0;
}

void kcare_resident_unfinalize(struct module *mod)
{
	ksym(ftrace_release_mod)(mod);
	ksym(module_arch_cleanup)(mod);
}

int kcare_resident_seal(struct module *mod, const void *hdr, const void *sechdrs)
{
	int err;

	mutex_lock(kcare_ksym_vars.module_mutex);
	ksym(module_bug_finalize)(hdr, sechdrs, mod);
	err = ksym(module_enable_rodata_ro)(mod);
	if (!err)
		err = ksym(module_enable_data_nx)(mod);
	if (!err)
		err = ksym(module_enable_text_rox)(mod);
	if (err)
		ksym(module_bug_cleanup)(mod);
	else
		mod->state = MODULE_STATE_COMING;
	mutex_unlock(kcare_ksym_vars.module_mutex);
	return err;
}

void kcare_resident_unseal(struct module *mod)
{
	mutex_lock(kcare_ksym_vars.module_mutex);
	mod->state = MODULE_STATE_UNFORMED;
	ksym(module_bug_cleanup)(mod);
	mutex_unlock(kcare_ksym_vars.module_mutex);
}

struct task_struct *kcare_chain_caller;

/*
 * A reader of the chain's lock that waits for what another reader holds, here kcare's own, must not be a reader
 * once more: a writer between the two would stop all three.
 */
void kcare_chain_lock(void)
{
	down_read(&kcare_ksym_vars.module_notify_list->rwsem);
}

void kcare_chain_unlock(void)
{
	up_read(&kcare_ksym_vars.module_notify_list->rwsem);
}

/* Under the chain's lock, and kcare's own. */
static int call_chain(struct module *mod, unsigned long state, unsigned long back)
{
	struct raw_notifier_head chain = { .head = kcare_ksym_vars.module_notify_list->head };
	int ret;

	WRITE_ONCE(kcare_chain_caller, current);
	if (back == state)
		ret = raw_notifier_call_chain(&chain, state, mod);
	else
		ret = raw_notifier_call_chain_robust(&chain, state, back, mod);
	WRITE_ONCE(kcare_chain_caller, NULL);
	return notifier_to_errno(ret);
}

int kcare_resident_coming(struct module *mod)
{
	int err;

	ksym(ftrace_module_enable)(mod);
	err = call_chain(mod, MODULE_STATE_COMING, MODULE_STATE_GOING);
	if (err)
		return err;

	WRITE_ONCE(mod->state, MODULE_STATE_LIVE);
	call_chain(mod, MODULE_STATE_LIVE, MODULE_STATE_LIVE);
	err = ksym(module_enable_rodata_ro_after_init)(mod);
	if (err)
		kcare_resident_going(mod);
	return err;
}

void kcare_resident_going(struct module *mod)
{
	WRITE_ONCE(mod->state, MODULE_STATE_GOING);
	call_chain(mod, MODULE_STATE_GOING, MODULE_STATE_GOING);
}
