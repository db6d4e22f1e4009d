// SPDX-License-Identifier: GPL-2.0

//! Tasks and the words of their stacks.

use super::stop_machine::{
    OnEach,
    Stopped, //
};
use crate::ffi;
use core::{
    arch::asm,
    marker::PhantomData, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_uint,
        c_void, //
    },
    prelude::*, //
};

/// Longest stack, in frames, of which the unwinder is asked.
pub(crate) const MAX_ENTRIES: usize = 64;

/// A task that is being visited.
///
/// # Invariants
///
/// The task is valid, and so is its stack if it has one, as long as the visit lasts.
pub(crate) struct Task<'a> {
    raw: *mut ffi::task_struct,
    _visit: PhantomData<&'a ()>,
}

/// How the shim finds the tasks to visit.
type Finder = unsafe extern "C" fn(ffi::Visit, *mut c_void) -> c_int;

/// Visits the tasks that `find` finds and that are on no CPU; keeps their stacks meanwhile.
///
/// # Safety
///
/// `find` may be called now.
unsafe fn visit<V: FnMut(&Task<'_>)>(find: Finder, mut visit: V) {
    /// # Safety
    ///
    /// `ctx` must be a `V` that nothing else uses, and `raw` a task.
    unsafe extern "C" fn run<V: FnMut(&Task<'_>)>(
        ctx: *mut c_void,
        raw: *mut ffi::task_struct,
    ) -> c_int {
        // SAFETY: By this function's contract.
        let visit = unsafe { &mut *ctx.cast::<V>() };
        // SAFETY: The finder keeps the task for the time of the call.
        if unsafe { ffi::kcare_task_hold(raw) } {
            // INVARIANT: Held just now.
            visit(&Task {
                raw,
                _visit: PhantomData,
            });
            // SAFETY: Held above.
            unsafe { ffi::kcare_task_release(raw) };
        }
        0
    }

    // SAFETY: By this function's contract; `run` gets the closure of its own type, and never ends the visit.
    unsafe { find(run::<V>, (&raw mut visit).cast()) };
}

/// Tasks that leave a CPU are noted as long as this exists, and from the first [`Switches::narrow`] on all of them.
/// So all threads have to be visited after that.
///
/// # Invariants
///
/// The probe of `shim/switches.c` is registered. There is one at a time, as [`Switches::watch`] is only
/// called under the lock of `state::Core`.
pub(crate) struct Switches(());

impl Switches {
    /// Starts to note; each CPU has room for `tasks` between two turns.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOENT` if the kernel has no `sched_switch` tracepoint.
    pub(crate) fn watch(tasks: u32) -> Result<Self> {
        // SAFETY: Process context; nobody else watches.
        to_result(unsafe { ffi::kcare_switches_start(tasks) })?;
        // INVARIANT: Just registered.
        Ok(Self(()))
    }

    /// Whether there ever was no room for a note.
    pub(crate) fn overflowed(&self) -> bool {
        // SAFETY: The probe's notes exist by the type's invariant.
        unsafe { ffi::kcare_switches_overflowed() }
    }

    /// Notes a task as if it had run: it is to be looked at in the stop.
    pub(crate) fn note(&self, task: &Task<'_>) {
        // SAFETY: The task is valid by the type's invariant, and the probe's notes exist by ours.
        unsafe { ffi::kcare_switches_note(task.raw) };
    }

    /// Forgets what has been noted, after a visit to each of these tasks, as [`for_each_sleeping`]. Of what runs
    /// meanwhile notes are taken as before: all threads have been looked at then but those that are noted, and
    /// those are fewer.
    pub(crate) fn narrow(&self, f: impl FnMut(&Task<'_>)) {
        // SAFETY: Process context; the probe's notes exist by the type's invariant.
        unsafe { ffi::kcare_switches_turn() };
        // SAFETY: As above, and the notes hold references to their tasks; the stacks are held.
        unsafe { visit(ffi::kcare_switches_visit_before, f) };
    }
}

impl Drop for Switches {
    fn drop(&mut self) {
        // SAFETY: Registered by the type's invariant.
        unsafe { ffi::kcare_switches_stop() };
    }
}

impl OnEach {
    /// Keeps where each thread is that has left this CPU since [`Switches::watch`], or since the last
    /// [`Switches::narrow`], as far as there was room for notes ([`Switches::overflowed`]), and where its idle task is.
    pub(crate) fn look<L: Fn(&Task<'_>) -> Option<u64>>(&self, _: &Switches, look: &L) {
        /// # Safety
        ///
        /// `ctx` must be an `L`, and `raw` a task that does not run.
        unsafe extern "C" fn run<L: Fn(&Task<'_>) -> Option<u64>>(
            ctx: *const c_void,
            raw: *mut ffi::task_struct,
        ) -> u64 {
            // SAFETY: By this function's contract.
            let look = unsafe { &*ctx.cast::<L>() };
            // SAFETY: By this function's contract.
            let task = unsafe { Task::from_raw(raw) };
            look(&task).unwrap_or(0)
        }
        // SAFETY: The machine is stopped, and the notes hold references to their tasks; `run` gets the closure of its own type.
        unsafe { ffi::kcare_switches_look(run::<L>, core::ptr::from_ref(look).cast()) };
    }
}

impl Stopped {
    /// Visits all that [`OnEach::look`] has looked at on all CPUs, with what it has returned.
    pub(crate) fn for_each_noted<F: FnMut(&Task<'_>, Option<u64>)>(&self, _: &Switches, mut f: F) {
        /// # Safety
        ///
        /// `ctx` must be an `F` that nothing else uses, and `raw` a task that does not run.
        unsafe extern "C" fn run<F: FnMut(&Task<'_>, Option<u64>)>(
            ctx: *mut c_void,
            raw: *mut ffi::task_struct,
            word: u64,
        ) {
            // SAFETY: By this function's contract.
            let f = unsafe { &mut *ctx.cast::<F>() };
            // SAFETY: By this function's contract.
            let task = unsafe { Task::from_raw(raw) };
            f(&task, (word != 0).then_some(word));
        }
        // SAFETY: As above.
        unsafe { ffi::kcare_switches_visit(run::<F>, (&raw mut f).cast()) };
    }
}

/// The task that runs this, and the part of its stack that stays as it is: no call that is made while a variable of
/// one of its functions is borrowed has its frame above that variable.
pub(crate) struct Caller<'a> {
    raw: *mut ffi::task_struct,
    variable: &'a u64,
}

// SAFETY: The task is only compared, or visited by itself; the variable is only read.
unsafe impl Sync for Caller<'_> {}

impl<'a> Caller<'a> {
    /// The current task, with a variable of the function that goes on to make the calls.
    pub(crate) fn new(variable: &'a u64) -> Self {
        let raw = current!().as_ptr();
        Self { raw, variable }
    }

    /// Visits it.
    pub(crate) fn visit<R>(&self, f: impl FnOnce(&Task<'_>) -> R) -> R {
        // INVARIANT: The task is in the function whose variable is borrowed, so it is valid, and so is its stack.
        f(&Task {
            raw: self.raw,
            _visit: PhantomData,
        })
    }
}

impl Task<'_> {
    /// The first word for which `hit` returns something, of all that could be a return address: the
    /// stack in use, the function-graph tracer's stack, and addresses hidden by kretprobes. If this is `but`,
    /// the part of its stack that stays as it is is left out.
    pub(crate) fn find_word<R>(
        &self,
        but: Option<&Caller<'_>>,
        mut hit: impl FnMut(u64) -> Option<R>,
    ) -> Option<R> {
        let mut low = core::ptr::null();
        let mut high = core::ptr::null();
        // SAFETY: The task is valid by the type's invariant; both out-pointers are valid.
        unsafe { ffi::kcare_task_stack(self.raw, &mut low, &mut high) };
        if let Some(caller) = but.filter(|caller| caller.raw == self.raw) {
            let variable = core::ptr::from_ref(caller.variable);
            if (low..high).contains(&variable) {
                high = variable;
            }
        }
        // SAFETY: The shim returns bounds inside the task's stack, which stays by the type's invariant.
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

    /// Where the kernel's own unwinder says that the task is (`stack_trace_save_tsk_reliable()`): return
    /// addresses, and the instruction where it was interrupted. `None` if it cannot tell for sure, which
    /// includes that the task runs.
    pub(crate) fn trace<'e>(&self, entries: &'e mut [u64]) -> Option<&'e [u64]> {
        let size = c_uint::try_from(entries.len()).ok()?;
        // SAFETY: The task is valid by the type's invariant, and `entries` for its length. The unwinder
        // checks each address against the task's stack, so that a task that runs meanwhile does no harm.
        let count = unsafe { ffi::kcare_task_trace(self.raw, entries.as_mut_ptr(), size) };
        entries.get(..usize::try_from(count).ok()?)
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
            // SAFETY: By this function's contract.
            let call = unsafe { &mut *ctx.cast::<Call<'_, R>>() };
            call.found = (call.hit)(word);
            c_int::from(call.found.is_some())
        }

        let mut call = Call { hit, found: None };
        // SAFETY: The task is valid; nodes are freed after an RCU grace period, and the visit is an RCU
        // reader, or nothing runs that could change the list.
        unsafe { ffi::kcare_task_rethooks(self.raw, run::<R>, (&raw mut call).cast()) };
        call.found
    }

    /// The kernel's `struct task_struct`.
    pub(super) fn as_ptr(&self) -> *mut ffi::task_struct {
        self.raw
    }

    /// The task at an address.
    ///
    /// # Safety
    ///
    /// It must stay valid, and its stack, for as long as the result is used.
    pub(super) unsafe fn from_raw(raw: *mut ffi::task_struct) -> Self {
        // INVARIANT: By this function's contract.
        Self {
            raw,
            _visit: PhantomData,
        }
    }

    /// Whether it is in a page fault of the kernel's own, or may be.
    pub(crate) fn in_page_fault(&self) -> bool {
        // SAFETY: The shim compares addresses only.
        let in_fault = |word| unsafe { ffi::kcare_in_page_fault(word) };
        // As with any word: it may have been left over.
        let word = self.find_word(None, |word| in_fault(word).then_some(()));
        word.is_some_and(|()| {
            let mut entries = [0; MAX_ENTRIES];
            let trace = self.trace(&mut entries);
            trace.is_none_or(|trace| trace.iter().any(|entry| in_fault(*entry)))
        })
    }

    /// Whether a signal leads it out of where it is.
    pub(crate) fn wakeable(&self) -> bool {
        // SAFETY: The task is valid by the type's invariant.
        unsafe { ffi::kcare_task_wakeable(self.raw, self.in_page_fault()) }
    }

    /// Whether it is a straggler of a former switch. The caller has the engine's lock, so that tables stay.
    pub(crate) fn straggles(&self) -> bool {
        // SAFETY: The task is valid by the type's invariant; tables are published under the engine's lock.
        unsafe { ffi::kcare_asks_straggles(self.raw) }
    }

    /// Whether it waits for a CPU only, and will soon be somewhere else.
    pub(crate) fn runnable(&self) -> bool {
        // SAFETY: The task is valid by the type's invariant.
        unsafe { ffi::kcare_task_runnable(self.raw) }
    }

    /// Whether it waits for a CPU, be it only to fall asleep: it may have been interrupted anywhere.
    pub(crate) fn queued(&self) -> bool {
        // SAFETY: The task is valid by the type's invariant.
        unsafe { ffi::kcare_task_queued(self.raw) }
    }

    /// For how long it has slept, in nanoseconds, give or take the time that it had run before; 0 if it does
    /// not sleep, or if that is not known.
    pub(crate) fn asleep_ns(&self) -> u64 {
        // SAFETY: The task is valid by the type's invariant.
        unsafe { ffi::kcare_task_asleep_ns(self.raw) }
    }

    /// Its thread id in the initial namespace.
    pub(crate) fn pid(&self) -> i32 {
        // SAFETY: The task is valid by the type's invariant.
        unsafe { ffi::kcare_task_pid(self.raw) }
    }

    /// Its name, NUL-padded, printable ASCII.
    pub(crate) fn comm(&self) -> [u8; 16] {
        let mut comm = [0; 16];
        // SAFETY: The task is valid by the type's invariant; TASK_COMM_LEN is 16.
        unsafe { ffi::kcare_task_comm(self.raw, comm.as_mut_ptr().cast()) };
        comm
    }
}

/// Visits every thread that is not on a CPU, while the machine runs, those that exit included, and some more than once. A
/// thread that runs meanwhile may be seen half-changed.
pub(crate) fn for_each_sleeping(f: impl FnMut(&Task<'_>)) {
    // SAFETY: Callable in process context; the stacks are held.
    unsafe { visit(ffi::kcare_threads_visit, f) };
}

/// Whether an address is in ftrace's own text, in which a task may be on its way to a direct target that no
/// return address tells of.
pub(crate) fn in_ftrace(address: u64) -> bool {
    // SAFETY: The shim compares addresses only; the module's init has found its variables.
    unsafe { ffi::kcare_in_ftrace(address) }
}

/// Whether an address is in what trampolines call to ask which body the task sees: it has been told, or will be soon.
pub(crate) fn in_ask(address: u64) -> bool {
    // SAFETY: The shim compares addresses only.
    unsafe { ffi::kcare_in_ask(address) }
}

/// Whether there are detours of optimized kprobes, in which a task may be of which no word tells ([`in_detour`]).
pub(crate) fn has_detours() -> bool {
    // SAFETY: The module's init has found what the shim looks at.
    unsafe { ffi::kcare_has_detours() }
}

/// Whether an address is in such a detour.
pub(crate) fn in_detour(address: u64) -> bool {
    // SAFETY: As above; the shim compares addresses only.
    unsafe { ffi::kcare_in_detour(address) }
}

/// Looks at the words from `low` to `high`.
///
/// # Safety
///
/// The words must be mapped.
unsafe fn scan<R>(
    low: *const u64,
    high: *const u64,
    hit: &mut impl FnMut(u64) -> Option<R>,
) -> Option<R> {
    let mut at = low;
    while at < high {
        let word: u64;
        // KASAN has guards between the variables of a stack, and would object to any other way to read.
        // SAFETY: `at` lies between `low` and `high`, which the caller vouches for. Not `pure`, because the task may
        // run and write it.
        unsafe {
            asm!("mov {}, [{}]", out(reg) word, in(reg) at, options(nostack, preserves_flags, readonly));
        }
        if let Some(found) = hit(word) {
            return Some(found);
        }
        at = at.wrapping_add(1);
    }
    None
}
