// SPDX-License-Identifier: GPL-2.0

//! The machine stopped, and what may be looked at and changed only then.

use super::ksyms::Ksyms;
use crate::ffi;
use core::ops::ControlFlow;
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
pub(crate) struct Stopped {
    ksyms: Ksyms,
}

/// Stops the machine, runs `f` on one CPU, and lets it go on (`stop_machine()`,
/// kernel/stop_machine.c). `f` must not sleep or allocate.
///
/// # Errors
///
/// Those of `stop_machine()`; `f` has not run then.
pub(crate) fn stop<R>(ksyms: Ksyms, f: impl FnOnce(&Stopped) -> R) -> Result<R> {
    struct Call<F, R> {
        ksyms: Ksyms,
        f: Option<F>,
        result: Option<R>,
    }

    /// # Safety
    ///
    /// `ctx` must be a `Call<F, R>` that nothing else uses.
    unsafe extern "C" fn run<F: FnOnce(&Stopped) -> R, R>(ctx: *mut c_void) -> c_int {
        // SAFETY: `ctx` is the `Call` below, which its owner does not touch until `stop_machine()` returns.
        let call = unsafe { &mut *ctx.cast::<Call<F, R>>() };
        let stopped = Stopped { ksyms: call.ksyms };
        call.result = call.f.take().map(|f| f(&stopped));
        0
    }

    fn runner<F: FnOnce(&Stopped) -> R, R>(
        _: &Call<F, R>,
    ) -> unsafe extern "C" fn(*mut c_void) -> c_int {
        run::<F, R>
    }

    let mut call = Call {
        ksyms,
        f: Some(f),
        result: None,
    };
    let run = runner(&call);
    // SAFETY: `run` gets the `Call` of its own type, which lives until this returns.
    to_result(unsafe { ffi::kcare_stop_machine(run, (&raw mut call).cast()) })?;
    call.result.ok_or(EINVAL)
}

/// The task that asked for a switch, and where its stack stops being kcare's own.
///
/// Our own frames are full of the very addresses that the scan looks for; those of the system call
/// above them are scanned like any other.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    task: *mut ffi::task_struct,
    sp: u64,
}

impl Caller {
    /// Marks the frame of the function that calls this, which must outlive every use of the mark and keep
    /// no address of code in its frame.
    #[inline(always)]
    pub(crate) fn here() -> Self {
        let mut sp = 0;
        // SAFETY: `sp` is valid for writing.
        let task = unsafe { ffi::kcare_current(&mut sp) };
        Self { task, sp }
    }
}

/// A task, while the machine is stopped.
pub(crate) struct Task<'a> {
    raw: *mut ffi::task_struct,
    _stopped: &'a Stopped,
}

impl Stopped {
    /// Visits every thread and every online CPU's idle task, until `visit` breaks.
    pub(crate) fn for_each_task(&self, mut visit: impl FnMut(&Task<'_>) -> ControlFlow<()>) {
        struct Call<'a, F> {
            stopped: &'a Stopped,
            visit: F,
        }

        /// # Safety
        ///
        /// `ctx` must be a `Call<F>` that nothing else uses, and `raw` a task.
        unsafe extern "C" fn run<F: FnMut(&Task<'_>) -> ControlFlow<()>>(
            ctx: *mut c_void,
            raw: *mut ffi::task_struct,
        ) -> c_int {
            // SAFETY: `ctx` is the `Call` below, which nothing else touches during the visit.
            let call = unsafe { &mut *ctx.cast::<Call<'_, F>>() };
            let task = Task {
                raw,
                _stopped: call.stopped,
            };
            c_int::from((call.visit)(&task).is_break())
        }

        fn runner<F: FnMut(&Task<'_>) -> ControlFlow<()>>(
            _: &Call<'_, F>,
        ) -> unsafe extern "C" fn(*mut c_void, *mut ffi::task_struct) -> c_int {
            run::<F>
        }

        let _ = self.ksyms;
        let mut call = Call {
            stopped: self,
            visit: &mut visit,
        };
        let run = runner(&call);
        // SAFETY: The machine is stopped, so the task list does not change; `run` gets its own `Call`.
        unsafe { ffi::kcare_tasks_visit(run, (&raw mut call).cast()) };
    }

    /// Sets the flag that a level's trampolines test.
    pub(crate) fn set_flag(&self, flag: &super::resident::Flag, value: bool) {
        // SAFETY: A `Flag` points into the memory of a level that its owner keeps; no CPU reads it now
        // but in an NMI, which sees the one value or the other.
        unsafe { ffi::kcare_flag_set(flag.as_ptr(), u32::from(value)) };
    }
}

impl Task<'_> {
    /// The first word for which `hit` returns something, of all that could be a return address: the
    /// stack in use, the function-graph tracer's stack, and addresses hidden by kretprobes.
    pub(crate) fn find_word<R>(
        &self,
        caller: Caller,
        mut hit: impl FnMut(u64) -> Option<R>,
    ) -> Option<R> {
        let mut low = core::ptr::null();
        let mut high = core::ptr::null();
        // SAFETY: The task is in the list while the machine is stopped; both out-pointers are valid.
        unsafe { ffi::kcare_task_stack(self.raw, &mut low, &mut high) };
        if self.raw == caller.task {
            low = core::ptr::with_exposed_provenance(caller.sp as usize);
        }
        // SAFETY: The shim returns the bounds of the task's own stack, which nobody frees now; the caller's
        // mark lies inside it, as its frame is still there.
        if let Some(found) = unsafe { scan(low, high, &mut hit) } {
            return Some(found);
        }
        // SAFETY: As above.
        unsafe { ffi::kcare_task_graph(self.raw, &mut low, &mut high) };
        // SAFETY: The shim returns the bounds of the used part of `task->ret_stack`.
        if let Some(found) = unsafe { scan(low, high, &mut hit) } {
            return Some(found);
        }
        self.find_rethook(&mut hit)
    }

    fn find_rethook<R>(&self, hit: &mut dyn FnMut(u64) -> Option<R>) -> Option<R> {
        struct Call<'a, R> {
            hit: &'a mut dyn FnMut(u64) -> Option<R>,
            found: Option<R>,
        }

        /// # Safety
        ///
        /// `ctx` must be a `Call<R>` that nothing else uses.
        unsafe extern "C" fn run<R>(ctx: *mut c_void, word: u64) -> c_int {
            // SAFETY: `ctx` is the `Call` below, which nothing else touches during the walk.
            let call = unsafe { &mut *ctx.cast::<Call<'_, R>>() };
            call.found = (call.hit)(word);
            c_int::from(call.found.is_some())
        }

        let mut call = Call { hit, found: None };
        // SAFETY: The task and its rethook list do not change while the machine is stopped.
        unsafe { ffi::kcare_task_rethooks(self.raw, run::<R>, (&raw mut call).cast()) };
        call.found
    }

    /// Its thread id in the initial namespace.
    pub(crate) fn pid(&self) -> i32 {
        // SAFETY: The task is valid while the machine is stopped.
        unsafe { ffi::kcare_task_pid(self.raw) }
    }

    /// Its name, NUL-padded.
    pub(crate) fn comm(&self) -> [u8; 16] {
        let mut comm = [0; 16];
        // SAFETY: The task is valid while the machine is stopped; TASK_COMM_LEN is 16.
        unsafe { ffi::kcare_task_comm(self.raw, comm.as_mut_ptr().cast()) };
        comm
    }
}

/// Looks at the words from `low` to `high`.
///
/// # Safety
///
/// The words must be mapped, and nobody may write them meanwhile.
unsafe fn scan<R>(
    low: *const u64,
    high: *const u64,
    hit: &mut impl FnMut(u64) -> Option<R>,
) -> Option<R> {
    let mut at = low;
    while at < high {
        // SAFETY: `at` lies between `low` and `high`, which the caller vouches for.
        let word = unsafe { at.read_volatile() };
        if let Some(found) = hit(word) {
            return Some(found);
        }
        at = at.wrapping_add(1);
    }
    None
}

/// Waits until no task can be in text that an un-registered redirect led to (RCU-tasks grace periods,
/// as `ftrace_shutdown()` waits for its own trampolines). Sleeps.
pub(crate) fn synchronize_text() {
    // SAFETY: Process context.
    unsafe { ffi::kcare_synchronize_text() };
}
