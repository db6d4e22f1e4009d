/* SPDX-License-Identifier: GPL-2.0 */
/* The one list of unexported symbols that kcare needs. A new kernel that lacks one is refused by name. */
#ifndef KCARE_KSYMS_H
#define KCARE_KSYMS_H

#include <linux/cgroup.h>
#include <linux/execmem.h>
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/lockdep.h>
#include <linux/bug.h>
#include <linux/module.h>
#include <linux/moduleloader.h>
#include <linux/extable.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/rbtree_latch.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/stacktrace.h>
#include <linux/static_call.h>
#include <linux/task_work.h>
#include <linux/wait.h>

/* Without lockdep there is nothing to call (include/linux/lockdep.h). */
#ifdef CONFIG_LOCKDEP
#define KCARE_KSYM_LOCKDEP(X) X(lockdep_free_key_range)
#else
#define KCARE_KSYM_LOCKDEP(X)
#endif

/* Detours of optimized kprobes. */
#ifdef CONFIG_OPTPROBES
#define KCARE_KSYM_OPTPROBES_FUNCTIONS(X) X(__is_insn_slot_addr)
#define KCARE_KSYM_OPTPROBES_VARIABLES(X) X(struct kprobe_insn_cache, kprobe_optinsn_slots)
#else
#define KCARE_KSYM_OPTPROBES_FUNCTIONS(X)
#define KCARE_KSYM_OPTPROBES_VARIABLES(X)
#endif

#define KCARE_KSYM_FUNCTIONS(X)			\
	KCARE_KSYM_LOCKDEP(X)			\
	KCARE_KSYM_OPTPROBES_FUNCTIONS(X)	\
	X(add_ftrace_hash_entry_direct)		\
	X(alloc_ftrace_hash)			\
	X(css_task_iter_end)			\
	X(css_task_iter_next)			\
	X(css_task_iter_start)			\
	X(execmem_alloc_rw)			\
	X(execmem_free)				\
	X(execmem_is_rox)			\
	X(find_module)				\
	X(free_ftrace_hash)			\
	X(ftrace_find_rec_direct)		\
	X(ftrace_is_dead)			\
	X(ftrace_location)			\
	X(ftrace_module_enable)			\
	X(ftrace_module_init)			\
	X(ftrace_release_mod)			\
	X(idle_task)				\
	X(is_ftrace_trampoline)			\
	X(kallsyms_lookup_size_offset)		\
	X(kallsyms_show_value)			\
	X(mod_tree_insert)			\
	X(mod_tree_remove)			\
	X(module_arch_cleanup)			\
	X(module_bug_cleanup)			\
	X(module_bug_finalize)			\
	X(module_enable_data_nx)		\
	X(module_enable_rodata_ro)		\
	X(module_enable_rodata_ro_after_init)	\
	X(module_enable_text_rox)		\
	X(module_finalize)			\
	X(module_flags_taint)			\
	X(put_task_stack)			\
	X(sort_extable)				\
	X(stack_trace_save_tsk_reliable)	\
	X(task_call_func)			\
	X(task_work_cancel)			\
	X(update_ftrace_direct_add)		\
	X(update_ftrace_direct_del)		\
	X(update_ftrace_direct_mod)		\
	X(wake_up_state)

/* struct module_use (kernel/module/internal.h), which no header exports. */
struct kcare_module_use {
	struct list_head source_list;
	struct list_head target_list;
	struct module *source, *target;
};

/* The head of struct mod_tree_root (kernel/module/internal.h), which no header exports. */
struct kcare_mod_tree_root {
	struct latch_tree_root root;
	unsigned long addr_min;
	unsigned long addr_max;
};

#define KCARE_KSYM_VARIABLES(X)				\
	KCARE_KSYM_OPTPROBES_VARIABLES(X)		\
	X(char, _text)					\
	X(char, _end)					\
	X(unsigned char, vmlinux_build_id)		\
	X(int, ftrace_enabled)				\
	X(int, modules_disabled)			\
	X(char, ftrace_stub)				\
	X(char, ftrace_stub_direct_tramp)		\
	X(char, exc_page_fault)				\
	X(struct list_head, modules)			\
	X(struct mutex, module_mutex)			\
	X(struct mutex, ftrace_lock)			\
	X(struct blocking_notifier_head, module_notify_list) \
	X(struct kcare_mod_tree_root, mod_tree)

#define KSYM_VAR_FIELD(type, name) type *name;
struct kcare_ksym_vars {
	KCARE_KSYM_VARIABLES(KSYM_VAR_FIELD)
};
#undef KSYM_VAR_FIELD

/* Written once by kcare_ksyms_init(), before anything else of kcare runs. */
extern struct kcare_ksym_vars kcare_ksym_vars;

int module_enable_rodata_ro(const struct module *mod);
int module_enable_rodata_ro_after_init(const struct module *mod);
int module_enable_data_nx(const struct module *mod);
int module_enable_text_rox(const struct module *mod);
void mod_tree_insert(struct module *mod);
void mod_tree_remove(struct module *mod);
int ftrace_is_dead(void);
size_t module_flags_taint(unsigned long taints, char *buf);

#define KSYM_DECLARE(name) DECLARE_STATIC_CALL(kcare_##name, name);
KCARE_KSYM_FUNCTIONS(KSYM_DECLARE)
#undef KSYM_DECLARE

/* Calls an unexported function. */
#define ksym(name) static_call(kcare_##name)

#endif
