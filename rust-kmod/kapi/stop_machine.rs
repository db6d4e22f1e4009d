// SPDX-License-Identifier: GPL-2.0

//! The machine stopped, and what may be looked at and changed only then.

use super::ksyms::Ksyms;
use crate::{
    ffi,
    payload::trampoline::Bodies, //
};
use kernel::{
    error::to_result,
    ffi::c_void,
    prelude::*, //
};

/// On one CPU of many, while all of them are in the stop with interrupts off: no other code of the kernel runs but NMI
/// handlers, no task's stack changes, no task comes or goes.
pub(crate) struct OnEach(());

/// The same when all other CPUs only spin.
pub(crate) struct Stopped(());

/// Stops the machine, runs `each` on every CPU at the same time, then `last` on one of them, and lets it go on
/// (`stop_machine()`, kernel/stop_machine.c). Both must not sleep or allocate, and run in the CPUs' stopper threads: they must
/// not use what belongs to the task that asks.
///
/// # Errors
///
/// Those of `stop_machine()`; neither has run then.
pub(crate) fn stop<E, F, R>(_: Ksyms, each: E, last: F) -> Result<R>
where
    E: Fn(&OnEach) + Sync,
    F: FnOnce(&Stopped) -> R,
{
    struct Call<E, F, R> {
        each: E,
        last: Option<F>,
        result: Option<R>,
    }

    /// # Safety
    ///
    /// `ctx` must be a `Call<E, F, R>` of whose `each` nothing else has more than shared references.
    unsafe extern "C" fn run_each<E: Fn(&OnEach), F, R>(ctx: *const c_void) {
        // SAFETY: By this function's contract.
        let each = unsafe { &(*ctx.cast::<Call<E, F, R>>()).each };
        each(&OnEach(()));
    }

    /// # Safety
    ///
    /// `ctx` must be a `Call<E, F, R>` that nothing else uses any more.
    unsafe extern "C" fn run_last<E, F: FnOnce(&Stopped) -> R, R>(ctx: *mut c_void) {
        // SAFETY: By this function's contract.
        let call = unsafe { &mut *ctx.cast::<Call<E, F, R>>() };
        call.result = call.last.take().map(|last| last(&Stopped(())));
    }

    /// Functions for the shim that fit to a `Call`.
    struct Runners {
        each: unsafe extern "C" fn(*const c_void),
        last: unsafe extern "C" fn(*mut c_void),
    }

    fn runners<E: Fn(&OnEach), F: FnOnce(&Stopped) -> R, R>(_: &Call<E, F, R>) -> Runners {
        Runners {
            each: run_each::<E, F, R>,
            last: run_last::<E, F, R>,
        }
    }

    let mut call = Call {
        each,
        last: Some(last),
        result: None,
    };
    let run = runners(&call);
    // SAFETY: Both get the `Call` of their own type, which lives until this returns. CPUs may share `each`, which is `Sync`,
    // and all are done with it before `last` runs.
    to_result(unsafe { ffi::kcare_stop_machine(run.each, run.last, (&raw mut call).cast()) })?;
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
