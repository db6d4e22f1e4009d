// SPDX-License-Identifier: GPL-2.0

//! Grace periods: until no task is in text, or reads a table, that it had found before.

use crate::ffi;
use core::ptr::NonNull;
use kernel::prelude::*;

/// Waits until no task can be in text that an un-registered redirect led to (RCU-tasks grace periods,
/// as `ftrace_shutdown()` waits for its own trampolines). Sleeps, for as long as any task stays in the kernel that was
/// there, and was preempted.
pub(crate) fn synchronize_text() {
    // SAFETY: Process context.
    unsafe { ffi::kcare_synchronize_text() };
}

/// Waits until all functions that were handed to `call_rcu()` have been called. Sleeps.
pub(crate) fn rcu_barrier() {
    // SAFETY: Process context.
    unsafe { ffi::kcare_rcu_barrier() };
}

/// What [`synchronize_text`] waits for, for who has something else to do meanwhile.
///
/// # Invariants
///
/// One of the shim's, which this owns.
pub(crate) struct Period(NonNull<ffi::period>);

// SAFETY: Bound to no task.
unsafe impl Send for Period {}

impl Period {
    /// None yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Process context.
        let period = unsafe { ffi::kcare_period_new() };
        // INVARIANT: Just made.
        NonNull::new(period).map(Self).ok_or(ENOMEM)
    }

    /// One begins now, unless the one before is not over yet.
    pub(crate) fn begin(&mut self) {
        if self.is_over(0) {
            // SAFETY: By the type's invariant; it is over, so that nobody else uses it.
            unsafe { ffi::kcare_period_begin(self.0.as_ptr()) };
        }
    }

    /// Whether it is over, or will be in so many milliseconds. Sleeps.
    pub(crate) fn is_over(&mut self, ms: u32) -> bool {
        // SAFETY: By the type's invariant; process context.
        unsafe { ffi::kcare_period_is_over(self.0.as_ptr(), ms) }
    }
}

impl Drop for Period {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant; it waits for the end. Process context.
        unsafe { ffi::kcare_period_free(self.0.as_ptr()) };
    }
}
