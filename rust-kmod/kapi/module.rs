// SPDX-License-Identifier: GPL-2.0

//! References to this module.

use crate::ffi;
use kernel::ThisModule;

/// Keeps a module from being unloaded: `rmmod` answers busy while one exists.
///
/// # Invariants
///
/// Owns one reference to the module.
pub(crate) struct ModuleRef(*mut ffi::module);

// SAFETY: Module references are counted atomically and bound to no task.
unsafe impl Send for ModuleRef {}

impl ModuleRef {
    /// Takes a reference to the module that runs this code.
    pub(crate) fn new(module: &'static ThisModule) -> Self {
        // SAFETY: Code of this module runs on behalf of a file that is open, which holds a reference.
        unsafe { ffi::kcare_module_get(module.as_ptr()) };
        // INVARIANT: Just taken.
        Self(module.as_ptr())
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: The reference is ours by the type's invariant.
        unsafe { ffi::kcare_module_put(self.0) };
    }
}
