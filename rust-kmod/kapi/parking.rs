// SPDX-License-Identifier: GPL-2.0

//! Leads tasks that sleep in code that goes out of use out of the kernel.

use super::tasks::Task;
use crate::ffi;
use core::ptr::NonNull;
use kernel::prelude::*;

/// Where tasks wait, outside of all code that goes out of use, until this is dropped.
///
/// # Invariants
///
/// Owns one reference.
pub(crate) struct Parking(NonNull<ffi::parking>);

impl Parking {
    /// A place without guests.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Process context.
        let parking = unsafe { ffi::kcare_parking_new() };
        // INVARIANT: The reference is the first one.
        NonNull::new(parking).map(Self).ok_or(ENOMEM)
    }

    /// Wakes a task, and has it wait here on its way out of the kernel. False for a task that never leaves it, and for
    /// one that has been woken already.
    pub(crate) fn invite(&self, task: &Task<'_>) -> bool {
        // SAFETY: The parking is valid by this type's invariant, the task by its own.
        unsafe { ffi::kcare_parking_invite(self.0.as_ptr(), task.as_ptr()) }
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        // SAFETY: The reference is ours by the type's invariant.
        unsafe { ffi::kcare_parking_open(self.0.as_ptr()) };
    }
}

/// Waits until no task is on its way out of here; for the end of the module.
pub(crate) fn exit() {
    // SAFETY: Process context.
    unsafe { ffi::kcare_parking_exit() };
}
