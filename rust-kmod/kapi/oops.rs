// SPDX-License-Identifier: GPL-2.0

//! Names the live level in the log of a kernel that oopses or panics.

use crate::ffi;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// The kernel's notifiers of oopses and panics are kcare's, too, until this is dropped.
///
/// # Invariants
///
/// They are registered.
pub(crate) struct Watch(());

impl Watch {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// Those of `register_die_notifier()` and `atomic_notifier_chain_register()`.
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: Process context, and undone once, when the result is dropped.
        to_result(unsafe { ffi::kcare_oops_watch() })?;
        // INVARIANT: Just registered.
        Ok(Self(()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: Registered by the type's invariant.
        unsafe { ffi::kcare_oops_unwatch() };
    }
}

/// The level that is live from now on, 0 for none.
pub(crate) fn set_level(level: u32) {
    // SAFETY: One store of a word, in any context.
    unsafe { ffi::kcare_oops_set_level(level) };
}

/// How often the kernel has oopsed while a level was live, since the module was loaded.
pub(crate) fn count() -> u32 {
    // SAFETY: One load of a word, in any context.
    unsafe { ffi::kcare_oops_count() }
}
