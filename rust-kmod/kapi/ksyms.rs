// SPDX-License-Identifier: GPL-2.0

//! Functions and variables that the kernel does not export.

use crate::ffi;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Proof that everything in `shim/ksyms.h` was found.
///
/// # Invariants
///
/// Exists only after `kcare_ksyms_init()` has succeeded, so that the static calls of the shim lead
/// somewhere and its variables are set. They never change afterwards.
#[derive(Clone, Copy)]
pub(crate) struct Ksyms(());

impl Ksyms {
    /// Resolves all of them; called once, from the module's init.
    ///
    /// # Errors
    ///
    /// `ENOENT`, after one log line that names the first symbol missing.
    pub(crate) fn resolve() -> Result<Self> {
        let mut missing = core::ptr::null();
        // SAFETY: `missing` is valid for writing a pointer.
        let found = to_result(unsafe { ffi::kcare_ksyms_init(&mut missing) });
        if let Err(error) = found {
            // SAFETY: On failure `missing` is a string literal of the shim.
            let name = unsafe { CStr::from_char_ptr(missing) };
            pr_err!(
                "this kernel has no {}: it is not supported\n",
                name.to_str().unwrap_or("?")
            );
            return Err(error);
        }
        // INVARIANT: `kcare_ksyms_init()` succeeded.
        Ok(Self(()))
    }

    /// Address of the first byte of vmlinux, `_text`.
    pub(crate) fn vmlinux_base(self) -> u64 {
        // SAFETY: By the type's invariant the variable is set.
        unsafe { ffi::kcare_vmlinux_base() }
    }

    /// Bytes of vmlinux from `_text` to `_end`.
    pub(crate) fn vmlinux_size(self) -> u64 {
        // SAFETY: By the type's invariant the variable is set.
        unsafe { ffi::kcare_vmlinux_size() }
    }

    /// Build-id of the running vmlinux (`vmlinux_build_id`, lib/buildid.c).
    pub(crate) fn vmlinux_build_id(self) -> [u8; 20] {
        // SAFETY: By the type's invariant the variable is set.
        let id = unsafe { ffi::kcare_vmlinux_build_id() };
        // SAFETY: The shim asserts that the array has 20 bytes; it is `__ro_after_init`.
        unsafe { id.cast::<[u8; 20]>().read() }
    }
}
