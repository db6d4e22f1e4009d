// SPDX-License-Identifier: GPL-2.0

//! The border to C: mirrors `shim/shim.h` line by line. Nothing but [`crate::kapi`] uses it.

use crate::payload::ranges::Range;
use kernel::{
    bindings,
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_void, //
    },
};

pub(crate) use kernel::bindings::{
    attribute_group,
    key,
    miscdevice,
    module,
    proc_dir_entry,
    seq_file,
    task_struct, //
};

/// `struct kcare_redirect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Redirect {
    pub(crate) site: u64,
    pub(crate) target: u64,
}

/// `enum kcare_direct`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) enum Direct {
    Add,
    Retarget,
    Remove,
}

/// `struct kcare_patch`, known to the shim only.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(crate) struct patch {
    _private: [u8; 0],
}

/// `struct kcare_parking`, known to the shim only.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(crate) struct parking {
    _private: [u8; 0],
}

/// `struct kcare_asks`, known to the shim only.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(crate) struct asks {
    _private: [u8; 0],
}

/// `struct kcare_period`, known to the shim only.
#[repr(C)]
#[allow(non_camel_case_types)]
pub(crate) struct period {
    _private: [u8; 0],
}

/// `struct kcare_straggler`: a task that was inside code when it went out of use.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Straggler {
    /// What it sees.
    pub(crate) universe: u64,
    /// Where it was.
    pub(crate) word: u64,
    /// When that was, in seconds since 1970.
    pub(crate) since: u64,
    /// Its thread id in the initial namespace.
    pub(crate) pid: c_int,
    /// Its user, in the initial namespace.
    pub(crate) uid: c_uint,
    /// Its name, NUL-padded, printable ASCII.
    pub(crate) comm: [u8; 16],
}

kernel::static_assert!(core::mem::size_of::<Straggler>() == 48);

/// `enum kcare_callback`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callback {
    PrePatch,
    PostPatch,
    PreUnpatch,
    PostUnpatch,
}

/// `struct kcare_table`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) base: *mut c_void,
    pub(crate) bytes: usize,
}

/// `struct kcare_tables`.
#[repr(C)]
pub(crate) struct Tables {
    pub(crate) extable: Table,
    pub(crate) jump_table: Table,
    pub(crate) static_calls: Table,
    pub(crate) mcount: Table,
    pub(crate) debug_messages: Table,
    pub(crate) no_probes: Table,
    pub(crate) symtab: *mut c_void,
    pub(crate) nr_symbols: usize,
    pub(crate) strtab: *mut c_char,
    pub(crate) typetab: *mut c_char,
}

kernel::static_assert!(core::mem::size_of::<Tables>() == 16 * 8);

/// `Elf64_Shdr` (include/uapi/linux/elf.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SectionHeader {
    pub(crate) name: u32,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) addr: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: u32,
    pub(crate) info: u32,
    pub(crate) align: u64,
    pub(crate) entry_size: u64,
}

kernel::static_assert!(
    core::mem::size_of::<SectionHeader>() == core::mem::size_of::<bindings::Elf64_Shdr>()
);

/// `Elf64_Sym` (include/uapi/linux/elf.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Symbol {
    pub(crate) name: u32,
    pub(crate) info: u8,
    pub(crate) other: u8,
    pub(crate) section: u16,
    pub(crate) value: u64,
    pub(crate) size: u64,
}

kernel::static_assert!(
    core::mem::size_of::<Symbol>() == core::mem::size_of::<bindings::Elf64_Sym>()
);

/// What the shim calls for each task.
pub(crate) type Visit = unsafe extern "C" fn(*mut c_void, *mut task_struct) -> c_int;

// The kernel's structures hold zero-sized members; they only cross the border behind pointers.
#[allow(improper_ctypes)]
extern "C" {
    pub(crate) fn kcare_ksyms_init(missing: *mut *const c_char) -> c_int;
    pub(crate) fn kcare_vmlinux_base() -> u64;
    pub(crate) fn kcare_vmlinux_size() -> u64;
    pub(crate) fn kcare_vmlinux_build_id() -> *const u8;

    pub(crate) fn kcare_resident_new(name: *const c_char) -> *mut module;
    pub(crate) fn kcare_resident_alloc(m: *mut module, region: c_int, size: usize) -> *mut c_void;
    pub(crate) fn kcare_resident_free(m: *mut module);
    pub(crate) fn kcare_resident_set_tables(m: *mut module, tables: *const Tables);
    pub(crate) fn kcare_resident_insert(m: *mut module) -> c_int;
    pub(crate) fn kcare_resident_remove(m: *mut module);
    pub(crate) fn kcare_resident_finalize(
        m: *mut module,
        hdr: *const c_void,
        sechdrs: *const c_void,
    ) -> c_int;
    pub(crate) fn kcare_resident_seal(
        m: *mut module,
        hdr: *const c_void,
        sechdrs: *const c_void,
    ) -> c_int;
    pub(crate) fn kcare_residents_sweep();
    pub(crate) fn kcare_resident_coming(m: *mut module) -> c_int;
    pub(crate) fn kcare_resident_going(m: *mut module);
    pub(crate) fn kcare_resident_unseal(m: *mut module);
    pub(crate) fn kcare_resident_unfinalize(m: *mut module);

    pub(crate) fn kcare_chain_lock();
    pub(crate) fn kcare_chain_unlock();

    pub(crate) fn kcare_modules_watch(
        ctx: *mut c_void,
        coming: unsafe extern "C" fn(*mut c_void, *mut module) -> c_int,
        going: unsafe extern "C" fn(*mut c_void, *mut module),
    ) -> c_int;
    pub(crate) fn kcare_modules_unwatch();
    pub(crate) fn kcare_module_told(m: *const module);
    pub(crate) fn kcare_module_find(
        name: *const c_char,
        len: usize,
        found: *mut *mut module,
    ) -> c_int;
    pub(crate) fn kcare_module_name(m: *const module) -> *const c_char;
    pub(crate) fn kcare_module_memory(
        m: *const module,
        region: c_uint,
        base: *mut u64,
        size: *mut u64,
    );
    pub(crate) fn kcare_module_has_symbol(
        m: *const module,
        address: u64,
        name: *const c_char,
        len: usize,
    ) -> bool;
    pub(crate) fn kcare_module_get(m: *mut module);
    pub(crate) fn kcare_module_try_get(m: *mut module) -> bool;
    pub(crate) fn kcare_module_put(m: *mut module);

    pub(crate) fn kcare_patch_new(nr_states: usize) -> *mut patch;
    pub(crate) fn kcare_patch_free(patch: *mut patch);
    pub(crate) fn kcare_patch_set_state(patch: *mut patch, index: usize, id: u64, version: u32);
    pub(crate) fn kcare_patch_set_previous(patch: *mut patch, previous: *mut patch);
    pub(crate) fn kcare_patch_call(
        patch: *mut patch,
        callback: u64,
        kind: Callback,
        m: *mut module,
    ) -> c_int;

    pub(crate) fn kcare_ftrace_enabled() -> bool;
    pub(crate) fn kcare_fentry_site(function: u64) -> u64;
    pub(crate) fn kcare_has_direct(site: u64) -> bool;
    pub(crate) fn kcare_site_is_ftrace(site: u64) -> bool;
    pub(crate) fn kcare_ftrace_is_dead() -> bool;
    pub(crate) fn kcare_direct_update(
        how: Direct,
        redirects: *const Redirect,
        count: usize,
    ) -> c_int;
    pub(crate) fn kcare_ipmodify_grow(redirects: *const Redirect, count: usize) -> c_int;
    pub(crate) fn kcare_ipmodify_shrink(redirects: *const Redirect, count: usize) -> c_int;
    pub(crate) fn kcare_ipmodify_retarget(redirects: *const Redirect, count: usize) -> c_int;
    pub(crate) fn kcare_ipmodify_has_former() -> bool;
    pub(crate) fn kcare_ipmodify_begin_grace();
    pub(crate) fn kcare_ipmodify_end_grace();
    pub(crate) fn kcare_redirects_exit();

    pub(crate) fn kcare_threads_visit(visit: Visit, ctx: *mut c_void) -> c_int;
    pub(crate) fn kcare_task_hold(task: *mut task_struct) -> bool;
    pub(crate) fn kcare_task_release(task: *mut task_struct);
    pub(crate) fn kcare_task_runnable(task: *mut task_struct) -> bool;
    pub(crate) fn kcare_task_queued(task: *mut task_struct) -> bool;
    pub(crate) fn kcare_task_stack(
        task: *mut task_struct,
        low: *mut *const u64,
        high: *mut *const u64,
    );
    pub(crate) fn kcare_task_graph(
        task: *mut task_struct,
        low: *mut *const u64,
        high: *mut *const u64,
    );
    pub(crate) fn kcare_task_rethooks(
        task: *mut task_struct,
        word: unsafe extern "C" fn(*mut c_void, u64) -> c_int,
        ctx: *mut c_void,
    ) -> c_int;
    pub(crate) fn kcare_task_trace(
        task: *mut task_struct,
        entries: *mut u64,
        size: c_uint,
    ) -> c_int;
    pub(crate) fn kcare_in_ftrace(address: u64) -> bool;
    pub(crate) fn kcare_has_detours() -> bool;
    pub(crate) fn kcare_in_detour(address: u64) -> bool;
    pub(crate) fn kcare_in_page_fault(address: u64) -> bool;
    pub(crate) fn kcare_task_asleep_ns(task: *mut task_struct) -> u64;
    pub(crate) fn kcare_task_pid(task: *mut task_struct) -> c_int;
    pub(crate) fn kcare_task_comm(task: *mut task_struct, comm: *mut c_char);

    pub(crate) fn kcare_switches_start(tasks: c_uint) -> c_int;
    pub(crate) fn kcare_switches_stop();
    pub(crate) fn kcare_switches_note(task: *mut task_struct);
    pub(crate) fn kcare_switches_turn();
    pub(crate) fn kcare_switches_visit_before(visit: Visit, ctx: *mut c_void) -> c_int;
    pub(crate) fn kcare_switches_look(
        look: unsafe extern "C" fn(*const c_void, *mut task_struct) -> u64,
        ctx: *const c_void,
    );
    pub(crate) fn kcare_switches_visit(
        visit: unsafe extern "C" fn(*mut c_void, *mut task_struct, u64),
        ctx: *mut c_void,
    );
    pub(crate) fn kcare_switches_overflowed() -> bool;

    pub(crate) fn kcare_ask_address() -> u64;
    pub(crate) fn kcare_in_ask(address: u64) -> bool;
    pub(crate) fn kcare_asks_new(
        rows: *const c_void,
        nr_rows: usize,
        old: *const c_void,
        nr_old: usize,
        room: usize,
    ) -> *mut asks;
    pub(crate) fn kcare_asks_free(asks: *mut asks);
    pub(crate) fn kcare_asks_inherit(asks: *mut asks, but: u64);
    pub(crate) fn kcare_asks_add(
        asks: *mut asks,
        task: *mut task_struct,
        universe: u64,
        word: u64,
    ) -> bool;
    pub(crate) fn kcare_asks_drop(asks: *mut asks, task: *const task_struct);
    pub(crate) fn kcare_asks_count(asks: *const asks) -> usize;
    pub(crate) fn kcare_asks_publish(asks: *mut asks, now: u64) -> *mut asks;
    pub(crate) fn kcare_asks_retract() -> *mut asks;
    pub(crate) fn kcare_asks_left() -> usize;
    pub(crate) fn kcare_asks_straggles(task: *mut task_struct) -> bool;
    pub(crate) fn kcare_asks_visit(
        visit: unsafe extern "C" fn(*mut c_void, *const Straggler),
        ctx: *mut c_void,
    );
    pub(crate) fn kcare_asks_lead_out() -> usize;
    pub(crate) fn kcare_asks_look() -> usize;
    pub(crate) fn kcare_task_wakeable(task: *mut task_struct, fault: bool) -> bool;
    pub(crate) fn kcare_later_watch(
        ctx: *mut c_void,
        later: unsafe extern "C" fn(*mut c_void),
        outside: unsafe extern "C" fn(*mut task_struct, *const Range, usize) -> bool,
        fault: unsafe extern "C" fn(*mut task_struct) -> bool,
    );
    pub(crate) fn kcare_later_unwatch();
    pub(crate) fn kcare_later(ms: c_uint);
    pub(crate) fn kcare_stragglers_exit();

    pub(crate) fn kcare_parking_new() -> *mut parking;
    pub(crate) fn kcare_parking_invite(parking: *mut parking, task: *mut task_struct) -> bool;
    pub(crate) fn kcare_parking_open(parking: *mut parking);
    pub(crate) fn kcare_parking_exit();

    pub(crate) fn kcare_oom_watch(
        ctx: *mut c_void,
        relief: unsafe extern "C" fn(*mut c_void),
    ) -> c_int;
    pub(crate) fn kcare_oom_unwatch();
    pub(crate) fn kcare_oom_set_spare(bytes: usize);

    pub(crate) fn kcare_oops_watch() -> c_int;
    pub(crate) fn kcare_oops_unwatch();
    pub(crate) fn kcare_oops_set_level(level: c_uint);
    pub(crate) fn kcare_oops_count() -> c_uint;

    pub(crate) fn kcare_stop_machine(
        each: unsafe extern "C" fn(*const c_void),
        last: unsafe extern "C" fn(*mut c_void),
        ctx: *mut c_void,
    ) -> c_int;
    pub(crate) fn kcare_flag_set(flag: *mut u32, value: u32);
    pub(crate) fn kcare_copy_text(out: *mut c_void, from: u64, size: usize) -> c_int;
    pub(crate) fn kcare_boot_ns() -> u64;
    pub(crate) fn kcare_real_seconds() -> u64;
    pub(crate) fn kcare_uts_release() -> *const c_char;
    pub(crate) fn kcare_capable() -> bool;

    pub(crate) fn kcare_synchronize_text();
    pub(crate) fn kcare_rcu_barrier();
    pub(crate) fn kcare_period_new() -> *mut period;
    pub(crate) fn kcare_period_begin(period: *mut period);
    pub(crate) fn kcare_period_is_over(period: *mut period, ms: c_uint) -> bool;
    pub(crate) fn kcare_period_free(period: *mut period);

    pub(crate) fn kcare_modules_disabled() -> bool;
    pub(crate) fn kcare_security_load(data: *mut c_void, size: usize) -> c_int;
    pub(crate) fn kcare_audit(
        what: *const c_char,
        len: usize,
        before: c_uint,
        level: c_uint,
        done: bool,
    );
    pub(crate) fn kcare_audit_revoked(hash: *const u8);

    pub(crate) fn kcare_hide_fixes();

    pub(crate) fn kcare_certs() -> *const c_char;
    pub(crate) fn kcare_certs_development() -> bool;
    pub(crate) fn kcare_keyring_new(cert: *const c_void, size: usize) -> *mut key;
    pub(crate) fn kcare_keyring_put(keyring: *mut key);
    pub(crate) fn kcare_keyring_verify(
        keyring: *mut key,
        data: *const c_void,
        size: usize,
        sig: *const c_void,
        sig_size: usize,
    ) -> c_int;
    pub(crate) fn kcare_sha256(data: *const c_void, size: usize, hash: *mut u8);

    pub(crate) static mut kcare_sysfs_groups: [*const attribute_group; 2];

    pub(crate) fn kcare_proc_create(data: *const c_void) -> *mut proc_dir_entry;
    pub(crate) fn kcare_proc_remove(dir: *mut proc_dir_entry);
    pub(crate) fn kcare_seq_write(m: *mut seq_file, data: *const c_void, size: usize);

    pub(crate) static kcare_cert_start: u8;
    pub(crate) static kcare_cert_end: u8;
}
