// SPDX-License-Identifier: GPL-2.0

//! Clocks, the kernel's release, capabilities, and reading memory that may not be there.

use crate::{
    ffi,
    payload::revocation::Hash, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

/// Monotonic time in nanoseconds (`ktime_get_ns()`).
pub(crate) fn boot_ns() -> u64 {
    // SAFETY: Callable in any context.
    unsafe { ffi::kcare_boot_ns() }
}

/// What [`boot_ns`] says in some milliseconds.
pub(crate) fn boot_ns_in(ms: u32) -> u64 {
    boot_ns().saturating_add(u64::from(ms).saturating_mul(1_000_000))
}

/// Seconds since 1970 (`ktime_get_real_seconds()`).
pub(crate) fn real_seconds() -> u64 {
    // SAFETY: Callable in any context.
    unsafe { ffi::kcare_real_seconds() }
}

/// `uname -r` of the running kernel.
pub(crate) fn release() -> &'static str {
    // SAFETY: `init_uts_ns` lives for ever and its release is NUL-terminated and never written.
    let release = unsafe { CStr::from_char_ptr(ffi::kcare_uts_release()) };
    release.to_str().unwrap_or("?")
}

/// Whether the caller has CAP_SYS_MODULE.
pub(crate) fn capable() -> bool {
    // SAFETY: Called in process context, from an ioctl.
    unsafe { ffi::kcare_capable() }
}

/// Whether the kernel takes no modules any more (sysctl `kernel.modules_disabled`).
pub(crate) fn modules_disabled() -> bool {
    // SAFETY: The module's init has found the variable.
    unsafe { ffi::kcare_modules_disabled() }
}

/// Asks the kernel's security modules (SELinux, IMA, BPF programs) whether the current task may load this code, as
/// for a module without a file (`init_module_from_file()`'s elder, `copy_module_from_user()`, kernel/module/main.c).
///
/// # Errors
///
/// Theirs.
pub(crate) fn security_load(code: &mut [u8]) -> Result {
    // SAFETY: The slice is valid for its length, and nobody else has it. Process context.
    to_result(unsafe { ffi::kcare_security_load(code.as_mut_ptr().cast(), code.len()) })
}

/// Writes an audit record of the current task's: what it asked for, the level before and after, and whether it was done.
pub(crate) fn audit(what: &str, before: u32, level: u32, done: bool) {
    let name = what.as_ptr().cast();
    // SAFETY: The name is valid for its length. Process context.
    unsafe { ffi::kcare_audit(name, what.len(), before, level, done) };
}

/// Records in the audit log that a certificate is revoked.
pub(crate) fn audit_revoked(certificate: &Hash) {
    // SAFETY: The hash has the size that the shim reads. Process context.
    unsafe { ffi::kcare_audit_revoked(certificate.as_ptr()) };
}

/// From now on only root may read which fixes are live. Before the device and the folder in /proc are made.
pub(crate) fn hide_fixes() {
    // SAFETY: Nothing reads the modes yet.
    unsafe { ffi::kcare_hide_fixes() };
}

/// Marks the kernel as live-patched (`TAINT_LIVEPATCH`, the letter K), as upstream livepatch does, so
/// that reports of faults say so.
pub(crate) fn taint_live_patched() {
    // SAFETY: Callable in any context.
    unsafe {
        bindings::add_taint(
            bindings::TAINT_LIVEPATCH,
            bindings::lockdep_ok_LOCKDEP_STILL_OK,
        )
    };
}

/// Copies kernel memory at `from` to `out` (`copy_from_kernel_nofault()`, mm/maccess.c).
///
/// # Errors
///
/// `ERANGE` or `EFAULT` if not all of it is mapped kernel memory.
pub(crate) fn copy_text(from: u64, out: &mut [u8]) -> Result {
    // SAFETY: `out` is valid for its length, and the kernel's function survives any `from`.
    to_result(unsafe { ffi::kcare_copy_text(out.as_mut_ptr().cast(), from, out.len()) })
}
