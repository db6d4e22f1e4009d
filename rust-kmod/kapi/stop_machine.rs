// SPDX-License-Identifier: GPL-2.0

//! The machine stopped, and what may be looked at and changed only then.

use super::ksyms::Ksyms;
use crate::{
    ffi,
    payload::trampoline::Bodies, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*, //
};

/// Exists only while all other CPUs spin with interrupts off: no other code of the kernel runs but
/// NMI handlers, no task's stack changes, no task comes or goes.
pub(crate) struct Stopped(());

/// Stops the machine, runs `f` on one CPU, and lets it go on (`stop_machine()`,
/// kernel/stop_machine.c). `f` must not sleep or allocate.
///
/// # Errors
///
/// Those of `stop_machine()`; `f` has not run then.
pub(crate) fn stop<R>(_: Ksyms, f: impl FnOnce(&Stopped) -> R) -> Result<R> {
    struct Call<F, R> {
        f: Option<F>,
        result: Option<R>,
    }

    /// # Safety
    ///
    /// `ctx` must be a `Call<F, R>` that nothing else uses.
    unsafe extern "C" fn run<F: FnOnce(&Stopped) -> R, R>(ctx: *mut c_void) -> c_int {
        // SAFETY: `ctx` is the `Call` below, which its owner does not touch until `stop_machine()` returns.
        let call = unsafe { &mut *ctx.cast::<Call<F, R>>() };
        call.result = call.f.take().map(|f| f(&Stopped(())));
        0
    }

    fn runner<F: FnOnce(&Stopped) -> R, R>(
        _: &Call<F, R>,
    ) -> unsafe extern "C" fn(*mut c_void) -> c_int {
        run::<F, R>
    }

    let mut call = Call {
        f: Some(f),
        result: None,
    };
    let run = runner(&call);
    // SAFETY: `run` gets the `Call` of its own type, which lives until this returns.
    to_result(unsafe { ffi::kcare_stop_machine(run, (&raw mut call).cast()) })?;
    call.result.ok_or(EINVAL)
}

impl Stopped {
    /// Sets the flag that a level's trampolines test.
    pub(crate) fn set_flag(&self, flag: &super::resident::Flag, bodies: Bodies) {
        // SAFETY: A `Flag` points into the memory of a level that its owner keeps; no CPU reads it now
        // but in an NMI, which sees the one value or the other. CAST: the enum is `repr(u32)`.
        unsafe { ffi::kcare_flag_set(flag.as_ptr(), bodies as u32) };
    }
}

/// Waits until no task can be in text that an un-registered redirect led to (RCU-tasks grace periods,
/// as `ftrace_shutdown()` waits for its own trampolines). Sleeps.
pub(crate) fn synchronize_text() {
    // SAFETY: Process context.
    unsafe { ffi::kcare_synchronize_text() };
}

/// Waits until all functions that were handed to `call_rcu()` have been called. Sleeps.
pub(crate) fn rcu_barrier() {
    // SAFETY: Process context.
    unsafe { ffi::kcare_rcu_barrier() };
}
