// SPDX-License-Identifier: GPL-2.0

//! Gives memory back before the kernel kills a task for it.

use crate::ffi;
use core::{
    ffi::c_void,
    ops::Deref, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

/// Who can give memory back.
pub(crate) trait Relief: Send + Sync {
    /// Memory is short. Called in a work item, with nothing locked.
    fn relieve(&self);
}

/// Asks `T` for as long as it exists; there may be one only.
///
/// # Invariants
///
/// The shim has the address of `_relief`, which stays alive in its `Arc`.
pub(crate) struct Watch<T: Relief> {
    _relief: Arc<T>,
}

impl<T: Relief> Watch<T> {
    /// From now on `relief` is asked, if [`set_spare`] has said that there is something.
    ///
    /// # Errors
    ///
    /// Those of `register_oom_notifier()`.
    pub(crate) fn start(relief: Arc<T>) -> Result<Self> {
        let ctx: *const T = relief.deref();
        // SAFETY: `ctx` is a `T`, as the function wants it, and lives until `drop` has ended the calls.
        to_result(unsafe { ffi::kcare_oom_watch(ctx.cast_mut().cast(), relieve::<T>) })?;
        // INVARIANT: Just told to the shim.
        Ok(Self { _relief: relief })
    }
}

impl<T: Relief> Drop for Watch<T> {
    fn drop(&mut self) {
        // SAFETY: Started by the type's invariant. No call is under way when this returns.
        unsafe { ffi::kcare_oom_unwatch() };
    }
}

/// # Safety
///
/// `ctx` must be a `T`.
unsafe extern "C" fn relieve<T: Relief>(ctx: *mut c_void) {
    // SAFETY: By this function's contract.
    let relief = unsafe { &*ctx.cast::<T>() };
    relief.relieve();
}

/// How many bytes the next relief gives back.
pub(crate) fn set_spare(bytes: usize) {
    // SAFETY: One store of a word, in any context.
    unsafe { ffi::kcare_oom_set_spare(bytes) };
}
