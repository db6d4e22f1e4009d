/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The border between kcare's Rust code and what only C can reach: macros, inline functions, and the
 * layout of structures that the Rust bindings do not have. Scalars and opaque pointers only; no policy.
 * ffi.rs mirrors this file line by line.
 */
#ifndef KCARE_SHIM_H
#define KCARE_SHIM_H

#include <linux/types.h>

struct module;
struct task_struct;
struct key;
struct kcare_patch;
struct kcare_parking;
struct kcare_period;

/* ---- ksyms.c: functions and variables that the kernel does not export ---- */

/* Resolves everything; on -ENOENT @missing names the first symbol that this kernel lacks. */
int kcare_ksyms_init(const char **missing);
/* Address of vmlinux's first byte (_text) and its length up to _end. */
u64 kcare_vmlinux_base(void);
u64 kcare_vmlinux_size(void);
/* The running vmlinux's build-id, BUILD_ID_SIZE_MAX (20) bytes. */
const u8 *kcare_vmlinux_build_id(void);

/* ---- resident.c: a struct module that the loader fills itself ---- */

/* Kinds of memory: payload::place::Region, which has the numbers of enum mod_mem_type. */
enum kcare_region {
	KCARE_TEXT,
	KCARE_DATA,
	KCARE_RODATA,
	KCARE_RO_AFTER_INIT,
	KCARE_NR_REGIONS,
};

/* An array inside the module's memory: its address and the number of its bytes. */
struct kcare_table {
	void *base;
	size_t bytes;
};

/* The arrays that struct module points to. */
struct kcare_tables {
	struct kcare_table extable;
	struct kcare_table jump_table;
	struct kcare_table static_calls;
	struct kcare_table mcount;
	struct kcare_table debug_messages;
	struct kcare_table no_probes;
	void *symtab;
	size_t nr_symbols;
	char *strtab;
	char *typetab;
};

/* A module without memory, unformed, with one reference held; NULL if memory is short. */
struct module *kcare_resident_new(const char *name);
/* Allocates zeroed, still writable memory for a region; NULL if memory is short. */
void *kcare_resident_alloc(struct module *mod, enum kcare_region region, size_t size);
/* Frees the memory and the module, as soon as others let go of it; it must not be in the kernel's lists. */
void kcare_resident_free(struct module *mod);
/* Frees those of which others have let go since. */
void kcare_residents_sweep(void);
void kcare_resident_set_tables(struct module *mod, const struct kcare_tables *tables);
/* Enters the unformed module into the kernel's list and address tree; -EEXIST if a module of others has the name. */
int kcare_resident_insert(struct module *mod);
/* Takes it out again and waits until no reader of the lists can see it. */
void kcare_resident_remove(struct module *mod);
/* Alternatives, retpolines, return thunks, call thunks, ENDBR sealing, ORC, ftrace records. */
int kcare_resident_finalize(struct module *mod, const void *hdr, const void *sechdrs);
/* Bug table and final permissions; the module's state becomes COMING. */
int kcare_resident_seal(struct module *mod, const void *hdr, const void *sechdrs);
/* Jump labels, static calls, tracepoints, then LIVE. */
int kcare_resident_coming(struct module *mod);
/* The mirror of kcare_resident_coming(). */
void kcare_resident_going(struct module *mod);
/* The mirror of kcare_resident_seal() and kcare_resident_finalize(). */
void kcare_resident_unseal(struct module *mod);
void kcare_resident_unfinalize(struct module *mod);

/*
 * The kernel's chain stays as it is: nobody is added to those that are told of modules. It does not keep modules from
 * being told of, which have the same lock as readers. To be locked before whatever the functions of
 * kcare_modules_watch() lock, and around kcare_resident_coming() and _going(), but not within those functions.
 */
void kcare_chain_lock(void);
void kcare_chain_unlock(void);
/* The task in which a module of kcare's own comes or goes. */
extern struct task_struct *kcare_chain_caller;

/* ---- modules.c: other modules ---- */

/*
 * From now on @coming is called for each module in front of its init, which does not run if that returns an error,
 * and @going for each that has ended, also if it has not begun. @coming calls kcare_module_told() before it lets go of
 * the lock under which kcare_module_find() is called, so that none is missed in between.
 */
int kcare_modules_watch(void *ctx, int (*coming)(void *ctx, struct module *mod),
			void (*going)(void *ctx, struct module *mod));
void kcare_modules_unwatch(void);
void kcare_module_told(const struct module *mod);
/*
 * A module that is live, or has been told of as coming, or NULL; @name has @len bytes without NUL. It stays until it has
 * been told of as going. -EBUSY for one that was coming before kcare_modules_watch(), as long as it is.
 */
int kcare_module_find(const char *name, size_t len, struct module **found);
const char *kcare_module_name(const struct module *mod);
/* Address and size of a module's memory: enum kcare_region, or any other number for its per-CPU area. */
void kcare_module_memory(const struct module *mod, unsigned int region, u64 *base, u64 *size);
/* Whether a module has a symbol of this name, @len bytes without NUL, at this address. */
bool kcare_module_has_symbol(const struct module *mod, u64 address, const char *name, size_t len);
void kcare_module_get(struct module *mod);
/* Fails for a module that is in its init, or going. */
bool kcare_module_try_get(struct module *mod);
void kcare_module_put(struct module *mod);

/* ---- callbacks.c: functions of a level that are called around a switch ---- */

/* The numbers of payload::layout. */
enum kcare_callback {
	KCARE_PRE_PATCH,
	KCARE_POST_PATCH,
	KCARE_PRE_UNPATCH,
	KCARE_POST_UNPATCH,
};

/* What the callbacks of a level get to see of it; NULL if memory is short. */
struct kcare_patch *kcare_patch_new(size_t nr_states);
void kcare_patch_free(struct kcare_patch *patch);
void kcare_patch_set_state(struct kcare_patch *patch, size_t index, u64 id, u32 version);
/* The level that is being replaced, or NULL. */
void kcare_patch_set_previous(struct kcare_patch *patch, struct kcare_patch *previous);
/* Calls the function at @callback for a module, or for vmlinux (NULL); 0, or the error of KCARE_PRE_PATCH. */
int kcare_patch_call(struct kcare_patch *patch, u64 callback, enum kcare_callback kind, struct module *mod);

/* ---- ftrace.c: redirected functions; one caller at a time ---- */

/* From a fentry site to where its function's calls go. */
struct kcare_redirect {
	u64 site;
	u64 target;
};

/* sysctl kernel.ftrace_enabled. */
bool kcare_ftrace_enabled(void);
/* Address of a function's fentry site, 0 if ftrace knows none. */
u64 kcare_fentry_site(u64 function);
/* Whether a direct caller is registered at a fentry site. */
bool kcare_has_direct(u64 site);
/* Whether the five bytes of a fentry site are ftrace's: its nop, or a call or jump that it has written. */
bool kcare_site_is_ftrace(u64 site);
/* Whether ftrace has shut itself down (ftrace_kill()): it changes no text any more, and some calls succeed in vain. */
bool kcare_ftrace_is_dead(void);
/* What is to be done with direct redirects. */
enum kcare_direct {
	/* They are new: all or none of them. */
	KCARE_DIRECT_ADD,
	/* They have been added; their targets change. */
	KCARE_DIRECT_RETARGET,
	/* They end; they come with the targets that they have. */
	KCARE_DIRECT_REMOVE,
};

/* @count is 1 or more. */
int kcare_direct_update(enum kcare_direct how, const struct kcare_redirect *redirects, size_t count);
/* From now on exactly these, ascending by site: all of before, and some more. */
int kcare_ipmodify_grow(const struct kcare_redirect *redirects, size_t count);
/*
 * From now on no more than these, ascending by site, which are some of those before. After an error the others may still
 * be redirected, or ftrace may call the handler for them in vain; the same call tries again to end that.
 */
int kcare_ipmodify_shrink(const struct kcare_redirect *redirects, size_t count);
/* Whether there are tables that calls of the handler may read which had begun before. */
bool kcare_ipmodify_has_former(void);
/* A grace period has begun; behind its end tables are freed that calls of the handler read which had begun before. */
void kcare_ipmodify_begin_grace(void);
void kcare_ipmodify_end_grace(void);
/* They are in the set; their targets change. */
int kcare_ipmodify_retarget(const struct kcare_redirect *redirects, size_t count);
/* Nothing is redirected any more. */
void kcare_redirects_exit(void);

/* ---- tasks.c: stacks ---- */

/*
 * Calls @visit for every thread, those that exit included, which may be more than once; until it returns non-zero, and
 * returns that value. An RCU reader in each call. Sleeps in between; a thread that runs meanwhile may be missed.
 */
int kcare_threads_visit(int (*visit)(void *ctx, struct task_struct *task), void *ctx);
/* Keeps a task's stack from being freed; false if it has none or is on a CPU. */
bool kcare_task_hold(struct task_struct *task);
void kcare_task_release(struct task_struct *task);
/* Whether a task waits for a CPU only. */
bool kcare_task_runnable(struct task_struct *task);
/* Whether it is on a runqueue, be it only to be taken off. */
bool kcare_task_queued(struct task_struct *task);
/* The words of a task's stack that are in use: from its saved stack pointer to its user registers. */
void kcare_task_stack(struct task_struct *task, const u64 **low, const u64 **high);
/* Words that the function-graph tracer keeps for it. */
void kcare_task_graph(struct task_struct *task, const u64 **low, const u64 **high);
/* Calls @word with each return address that a kretprobe hides, until it returns non-zero. */
int kcare_task_rethooks(struct task_struct *task, int (*word)(void *ctx, u64 w), void *ctx);
/*
 * The kernel's own account of where a task is: return addresses, and the interrupted instruction. Their number, or
 * negative if it cannot be told for sure (also if the task runs, or @size is too small).
 */
int kcare_task_trace(struct task_struct *task, u64 *entries, unsigned int size);
/* Whether this is ftrace's own text, in which a task may be on its way to a direct target. */
bool kcare_in_ftrace(u64 address);
/*
 * Whether there are optimized kprobes, each with a detour of its own (arch/x86/kernel/kprobes/opt.c), and whether this is in
 * one. A task that is interrupted there has no word of the probed function on its stack.
 */
bool kcare_has_detours(void);
bool kcare_in_detour(u64 address);
/* Whether this is in the kernel's handler of page faults. */
bool kcare_in_page_fault(u64 address);
/* For how long it has slept, by the clock of the scheduler; 0 if it does not, or if that is not known. */
u64 kcare_task_asleep_ns(struct task_struct *task);
int kcare_task_pid(struct task_struct *task);
/* Copies the name, NUL-terminated, to @comm of TASK_COMM_LEN (16) bytes; what is not printable ASCII becomes `?`. */
void kcare_task_comm(struct task_struct *task, char *comm);

/* ---- switches.c: which tasks have run since? ---- */

/*
 * From here on tasks are noted when they leave a CPU, and from the first turn on each of them; one user at a time. @tasks, a
 * power of two, is for how many each CPU has room.
 */
int kcare_switches_start(unsigned int tasks);
void kcare_switches_stop(void);
/* Notes a task that is being visited as if it had left a CPU. */
void kcare_switches_note(struct task_struct *task);
/* From here on tasks are noted anew. */
void kcare_switches_turn(void);
/* Calls @visit for the tasks noted before the last turn. An RCU reader meanwhile. */
int kcare_switches_visit_before(int (*visit)(void *ctx, struct task_struct *task), void *ctx);
/*
 * With the machine stopped, on each CPU: keeps what @look returns for each task that this CPU has noted since, and for its idle
 * task, which is in no note.
 */
void kcare_switches_look(u64 (*look)(const void *ctx, struct task_struct *task), const void *ctx);
/* On one CPU after that: calls @visit for all of them, with what was kept. */
void kcare_switches_visit(void (*visit)(void *ctx, struct task_struct *task, u64 word), void *ctx);
/* Whether there ever were too many to note. */
bool kcare_switches_overflowed(void);

/* ---- stragglers.c, ask.S: tasks that were inside code when it went out of use ---- */

/* In universe @universe the trampoline that calls with return address @trampoline leads to @body; else to the original. */
struct kcare_row {
	u64 trampoline;
	u64 universe;
	u64 body;
};

struct kcare_range {
	u64 start;
	u64 end;
};

/* What is told of a straggler: where it was, @since when, in seconds since 1970. */
struct kcare_straggler {
	u64 universe;
	u64 word;
	u64 since;
	int pid;
	unsigned int uid;
	char comm[16];
};

struct kcare_asks;

/* What trampolines call, with any registers; its end. */
void kcare_ask(void);
extern const u8 kcare_ask_end[];
u64 kcare_body_of(u64 at);
u64 kcare_ask_address(void);
bool kcare_in_ask(u64 address);
/*
 * A table with room for @room more stragglers than are published; NULL if memory is short. @rows are ascending by
 * trampoline, then universe; @old are ascending: who is in none of them is no straggler any more.
 */
struct kcare_asks *kcare_asks_new(const struct kcare_row *rows, size_t nr_rows, const struct kcare_range *old,
				  size_t nr_old, size_t room);
/* Not of what is published, nor, before kcare_synchronize_text(), of what has been. */
void kcare_asks_free(struct kcare_asks *asks);
/* Takes over those that are published, but for those of universe @but; once, before all others. */
void kcare_asks_inherit(struct kcare_asks *asks, u64 but);
/* Adds a task, unless it is published; false if there is no room. In any context. */
bool kcare_asks_add(struct kcare_asks *asks, struct task_struct *task, u64 universe, u64 word);
/* Takes a task out, unless it is published. Others hold it. In any context. */
void kcare_asks_drop(struct kcare_asks *asks, const struct task_struct *task);
size_t kcare_asks_count(const struct kcare_asks *asks);
/* From here on it counts; those of universe @now are no stragglers any more. Gives the former one. In any context. */
struct kcare_asks *kcare_asks_publish(struct kcare_asks *asks, u64 now);
/* From here on none counts; gives the former one, or NULL. Nobody asks any more. */
struct kcare_asks *kcare_asks_retract(void);
/* Of what is published: how many are left, whether a task is one of them, and all of them. */
size_t kcare_asks_left(void);
bool kcare_asks_straggles(struct task_struct *task);
void kcare_asks_visit(void (*visit)(void *ctx, const struct kcare_straggler *info), void *ctx);
/* Wakes those that sleep, once each; gives how many were woken. */
size_t kcare_asks_lead_out(void);
/* Looks where each of them is; gives how many are left. Sleeps. */
size_t kcare_asks_look(void);
/* Whether a signal leads a task out of where it is; @fault as above. */
bool kcare_task_wakeable(struct task_struct *task, bool fault);

/* From now on until kcare_later_unwatch(), @fn is called in a work item when kcare_later() says so. */
void kcare_later_watch(void *ctx, void (*fn)(void *ctx),
		       bool (*outside)(struct task_struct *task, const struct kcare_range *ranges, size_t count),
		       bool (*fault)(struct task_struct *task));
void kcare_later_unwatch(void);
/* In @ms milliseconds from now, or earlier if that was said before. */
void kcare_later(unsigned int ms);
/* For the module's end: no task is in stragglers.c after this. */
void kcare_stragglers_exit(void);

/* ---- parking.c: help for tasks that sleep where they must not ---- */

/* NULL if memory is short. */
struct kcare_parking *kcare_parking_new(void);
/*
 * Wakes a task, which then waits on its way out of the kernel; false if that cannot be, or has been done. If it turns out to
 * wait in the code that it was to leave, it goes on.
 */
bool kcare_parking_invite(struct kcare_parking *parking, struct task_struct *task);
/* Lets all go on, and gives the caller's reference back. */
void kcare_parking_open(struct kcare_parking *parking);
/* For the module's end: no task is in parking.c after this. */
void kcare_parking_exit(void);

/* ---- oom.c: memory that is given back before a task is killed for it ---- */

/* From now on until kcare_oom_unwatch(), @relief is called if memory is short, in a work item. */
int kcare_oom_watch(void *ctx, void (*relief)(void *ctx));
void kcare_oom_unwatch(void);
/* How much it would give back; without any it is not called. */
void kcare_oom_set_spare(size_t bytes);

/* ---- oops.c: what a dying kernel says about kcare ---- */

/* From now on until kcare_oops_unwatch(). */
int kcare_oops_watch(void);
void kcare_oops_unwatch(void);
/* The level that is live, 0 for none. */
void kcare_oops_set_level(unsigned int level);
/* How often the kernel has oopsed while one was live. */
unsigned int kcare_oops_count(void);

/* ---- stop.c ---- */

/*
 * Runs @each on every CPU at the same time, with interrupts off, and @last on the one that is done with it last, while all
 * others spin.
 */
int kcare_stop_machine(void (*each)(const void *ctx), void (*last)(void *ctx), void *ctx);
/* Flag that the trampolines test. */
void kcare_flag_set(u32 *flag, u32 value);
/* Copies kernel memory that may not be mapped; -ERANGE or -EFAULT then. */
int kcare_copy_text(void *out, u64 from, size_t size);
u64 kcare_boot_ns(void);
u64 kcare_real_seconds(void);
const char *kcare_uts_release(void);
bool kcare_capable(void);

/* ---- rcu.c: grace periods ---- */

/* Waits until every task has left the text that an unregistered redirect led to. */
void kcare_synchronize_text(void);
/* Waits until every function that was handed to call_rcu() has been called. */
void kcare_rcu_barrier(void);
/* For what kcare_synchronize_text() waits for, one after the other; NULL if memory is short. */
struct kcare_period *kcare_period_new(void);
/* It begins now; the one before is over. */
void kcare_period_begin(struct kcare_period *period);
/* Whether it is over, or will be in @ms milliseconds. */
bool kcare_period_is_over(struct kcare_period *period, unsigned int ms);
/* Waits for its end, too. */
void kcare_period_free(struct kcare_period *period);

/* ---- security.c ---- */

/* sysctl kernel.modules_disabled, and `nomodule` on the kernel's command line. */
bool kcare_modules_disabled(void);
/* Asks the kernel's security modules whether code of the current task's may be loaded, and shows it to them. */
int kcare_security_load(void *data, size_t size);
/*
 * Writes an audit record: @what was asked for, @len bytes without NUL; the level that was live, the one that is, and
 * whether it was done. Sleeps.
 */
void kcare_audit(const char *what, size_t len, unsigned int before, unsigned int level, bool done);
/* Records that the certificate with this SHA-256 is revoked. Sleeps. */
void kcare_audit_revoked(const u8 hash[32]);

/* ---- keyring.c ---- */

/* One line for each certificate, in the order of the certificates: its subject and the SHA-256 of its DER. */
const char *kcare_certs(void);
/* Whether one of them is a development key's. */
bool kcare_certs_development(void);
/* A keyring of kcare's own that holds one certificate in DER; an ERR_PTR on failure. */
struct key *kcare_keyring_new(const void *cert, size_t size);
void kcare_keyring_put(struct key *keyring);
/* 0 if @sig is a detached CMS signature over @data by a key of @keyring. */
int kcare_keyring_verify(struct key *keyring, const void *data, size_t size,
			 const void *sig, size_t sig_size);
/* The SHA-256 of @data. */
void kcare_sha256(const void *data, size_t size, u8 hash[32]);

/* ---- sysfs.c ---- */

/* The files and their modes, in the order of status::View. */
#define KCARE_VIEWS(X)                                                                                                 \
	X(state, 0444) X(level, 0444) X(previous_level, 0444) X(description, 0444) X(cves, 0444) X(failures, 0444)    \
	X(oopses, 0444) X(stop_last_ns, 0444) X(stop_max_ns, 0444) X(certificates, 0444) X(stragglers, 0444)          \
	X(redirect, 0644) X(revoked, 0444)

#define KCARE_VIEW_ENUM(name, mode) KCARE_VIEW_##name,
enum kcare_view { KCARE_VIEWS(KCARE_VIEW_ENUM) KCARE_NR_VIEWS };
#undef KCARE_VIEW_ENUM

struct miscdevice;
struct attribute_group;

/* From now on only root may read the files that list fixes, here and in proc.c. Before either is made. */
void kcare_hide_fixes(void);
extern umode_t kcare_fixes_mode;

/* For struct miscdevice. */
extern const struct attribute_group *kcare_sysfs_groups[];

/* In Rust: writes a file's content to @buf and returns its length, or a negative error. */
ssize_t kcare_sysfs_show(struct miscdevice *misc, unsigned int view, char *buf, size_t size);
/* In Rust: what is written to `redirect`, the one file that can be. Returns 0 or a negative error. */
int kcare_sysfs_redirect(struct miscdevice *misc, const char *buf, size_t size);

/* ---- proc.c ---- */

/* The files, in the order of status::Page. */
#define KCARE_PAGES(X) X(status) X(effective_version) X(cvelist)

#define KCARE_PAGE_ENUM(name) KCARE_PAGE_##name,
enum kcare_page { KCARE_PAGES(KCARE_PAGE_ENUM) KCARE_NR_PAGES };
#undef KCARE_PAGE_ENUM

struct proc_dir_entry;
struct seq_file;

/* Makes /proc/kcare, whose files are shown with @data; NULL if that fails. Sleeps. */
struct proc_dir_entry *kcare_proc_create(const void *data);
/* Takes it away; no file is being shown then. Sleeps. */
void kcare_proc_remove(struct proc_dir_entry *dir);
void kcare_seq_write(struct seq_file *m, const void *data, size_t size);

/* In Rust: writes a file's content. */
void kcare_proc_show(const void *data, unsigned int page, struct seq_file *m);

/* ---- cert.S ---- */

extern const u8 kcare_cert_start[];
extern const u8 kcare_cert_end[];

#endif
