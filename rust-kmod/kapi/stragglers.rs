// SPDX-License-Identifier: GPL-2.0

//! Tasks that were inside code when it went out of use, and what each task sees meanwhile.

use super::{
    ksyms::Ksyms,
    stop_machine::Stopped,
    tasks::Task, //
};
use crate::{
    ffi,
    payload::{
        arrange::Row,
        ranges::{
            Range,
            Ranges, //
        },
    },
};
use core::{
    ffi::c_void,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

pub(crate) use crate::ffi::Straggler;

// The shim reads what these say as its own `struct kcare_row` and `struct kcare_range`.
kernel::static_assert!(core::mem::size_of::<Row>() == 24 && core::mem::size_of::<Range>() == 16);

/// Who is called when something has been left for later.
pub(crate) trait Later: Send + Sync {
    /// It is time, as [`in_ms`] said. Called in a work item, with nothing locked.
    fn later(&self);

    /// Whether a task is in none of these ranges. It is the current one, or does not run. In any context.
    fn outside(task: &Task<'_>, ranges: Ranges<'_>) -> bool;
}

/// Calls `T` for as long as it exists; there may be one only.
///
/// # Invariants
///
/// The shim has the address of `_later`, which stays alive in its `Arc`.
pub(crate) struct Watch<T: Later> {
    _later: Arc<T>,
}

impl<T: Later> Watch<T> {
    /// From now on `later` is called.
    pub(crate) fn start(later: Arc<T>) -> Self {
        let ctx: *const T = later.deref();
        // SAFETY: `ctx` is a `T`, as the functions want it, and lives until `drop` has ended the calls.
        unsafe { ffi::kcare_later_watch(ctx.cast_mut().cast(), call::<T>, outside::<T>, in_fault) };
        // INVARIANT: Just told to the shim.
        Self { _later: later }
    }
}

impl<T: Later> Drop for Watch<T> {
    fn drop(&mut self) {
        // SAFETY: Started by the type's invariant. No call is under way when this returns.
        unsafe { ffi::kcare_later_unwatch() };
    }
}

/// # Safety
///
/// `ctx` must be a `T`.
unsafe extern "C" fn call<T: Later>(ctx: *mut c_void) {
    // SAFETY: By this function's contract.
    let later = unsafe { &*ctx.cast::<T>() };
    later.later();
}

/// # Safety
///
/// `task` must be the current one, or not run and have a stack that stays; `ranges` must have `count` elements.
unsafe extern "C" fn outside<T: Later>(
    task: *mut ffi::task_struct,
    ranges: *const Range,
    count: usize,
) -> bool {
    if count == 0 {
        return true;
    }
    // SAFETY: By this function's contract.
    let ranges = unsafe { core::slice::from_raw_parts(ranges, count) };
    // SAFETY: By this function's contract.
    let task = unsafe { Task::from_raw(task) };
    // The table was made of ranges that were in order.
    Ranges::new(ranges).is_some_and(|ranges| T::outside(&task, ranges))
}

/// # Safety
///
/// `task` must have a stack that stays.
unsafe extern "C" fn in_fault(task: *mut ffi::task_struct) -> bool {
    // SAFETY: By this function's contract.
    let task = unsafe { Task::from_raw(task) };
    task.in_page_fault()
}

/// Has [`Later::later`] called in some milliseconds, or earlier if that was said before.
pub(crate) fn in_ms(ms: u32) {
    // SAFETY: The module's init has said who is called before anything can be left for later.
    unsafe { ffi::kcare_later(ms) };
}

/// A table that does not count yet.
///
/// # Invariants
///
/// `0` is a table of the shim's that nobody else has.
pub(crate) struct Asks(NonNull<ffi::asks>);

impl Asks {
    /// A table with room for `room` stragglers more than there are; who is outside of `old` is none any more.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// `rows` are ascending.
    pub(crate) fn new(rows: &[Row], old: Ranges<'_>, room: usize) -> Result<Self> {
        let old = old.as_slice();
        // SAFETY: Both slices are valid for their lengths, and of the shim's layout.
        let asks = unsafe {
            ffi::kcare_asks_new(
                rows.as_ptr().cast(),
                rows.len(),
                old.as_ptr().cast(),
                old.len(),
                room,
            )
        };
        // INVARIANT: Just made.
        NonNull::new(asks).map(Self).ok_or(ENOMEM)
    }

    /// Takes the stragglers over that there are, but for those of universe `but`, who see the same as everybody from
    /// [`Asks::publish`] on. To be called once, before the others are added.
    pub(crate) fn inherit(&mut self, but: u64) {
        // SAFETY: By the type's invariant.
        unsafe { ffi::kcare_asks_inherit(self.0.as_ptr(), but) };
    }

    /// Adds a task that sees `universe` and was found at `word`, unless it is a straggler already; false if there is no
    /// room.
    #[must_use]
    pub(crate) fn add(&mut self, task: &Task<'_>, universe: u64, word: u64) -> bool {
        // SAFETY: By the type's invariant, and the task's.
        unsafe { ffi::kcare_asks_add(self.0.as_ptr(), task.as_ptr(), universe, word) }
    }

    /// Takes a task out that turns out not to be inside, unless it has been a straggler before.
    pub(crate) fn remove(&mut self, task: &Task<'_>) {
        // SAFETY: By the type's invariant, and the task's.
        unsafe { ffi::kcare_asks_drop(self.0.as_ptr(), task.as_ptr()) };
    }

    /// How many stragglers it has.
    pub(crate) fn count(&self) -> usize {
        // SAFETY: By the type's invariant.
        unsafe { ffi::kcare_asks_count(self.0.as_ptr()) }
    }

    /// From here on it counts, and who is no straggler sees `now`.
    pub(crate) fn publish(self, now: u64) -> Former {
        let asks = ManuallyDrop::new(self);
        // SAFETY: By the type's invariant, which ends here; one at a time, as the caller has the engine's lock.
        Former(unsafe { ffi::kcare_asks_publish(asks.0.as_ptr(), now) })
    }

    /// The same, within a stop.
    pub(crate) fn publish_stopped(self, _: &Stopped, now: u64) -> Former {
        self.publish(now)
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant nobody else has it.
        unsafe { ffi::kcare_asks_free(self.0.as_ptr()) };
    }
}

/// A table that counted before; a task may still be reading it.
pub(crate) struct Former(*mut ffi::asks);

// SAFETY: Bound to no task.
unsafe impl Send for Former {}

impl Former {
    /// Frees it. To be called behind a [`super::rcu::synchronize_text`] that began after it had ceased to count.
    pub(crate) fn free(self) {
        // SAFETY: By this function's contract nobody reads it any more.
        unsafe { ffi::kcare_asks_free(self.0) };
    }
}

/// The stragglers that there are.
///
/// # Invariants
///
/// Whoever has it has the engine's lock, as tables are published under it.
pub(crate) struct Stragglers {
    _ksyms: Ksyms,
}

impl Stragglers {
    /// Called once, for what the engine's lock protects.
    pub(crate) fn new(ksyms: Ksyms) -> Self {
        // INVARIANT: It is part of what the lock protects.
        Self { _ksyms: ksyms }
    }

    /// From here on no table counts: every flag has been something else than to ask for so long that no task can have read
    /// it before.
    pub(crate) fn retract(&self) -> Option<Former> {
        // SAFETY: By the type's invariant.
        let former = unsafe { ffi::kcare_asks_retract() };
        (!former.is_null()).then_some(Former(former))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        // SAFETY: By the type's invariant.
        unsafe { ffi::kcare_asks_left() }
    }

    /// Wakes those that sleep and have not been woken yet; gives how many there were.
    pub(crate) fn lead_out(&self) -> usize {
        // SAFETY: By the type's invariant.
        unsafe { ffi::kcare_asks_lead_out() }
    }

    /// Looks where they are; gives how many are left. Sleeps.
    pub(crate) fn look(&self) -> usize {
        // SAFETY: By the type's invariant; process context.
        unsafe { ffi::kcare_asks_look() }
    }

    /// Visits them.
    pub(crate) fn for_each<F: FnMut(&Straggler)>(&self, mut f: F) {
        /// # Safety
        ///
        /// `ctx` must be an `F` that nothing else uses, and `info` valid.
        unsafe extern "C" fn run<F: FnMut(&Straggler)>(ctx: *mut c_void, info: *const Straggler) {
            // SAFETY: By this function's contract.
            let f = unsafe { &mut *ctx.cast::<F>() };
            // SAFETY: By this function's contract.
            f(unsafe { &*info });
        }
        // SAFETY: By the type's invariant; `run` gets the closure of its own type.
        unsafe { ffi::kcare_asks_visit(run::<F>, (&raw mut f).cast()) };
    }
}

/// What trampolines call to ask which body the task sees.
pub(crate) fn ask_address() -> u64 {
    // SAFETY: An address is all that is asked for.
    unsafe { ffi::kcare_ask_address() }
}

/// Waits until no task is on its way out of here; for the end of the module.
pub(crate) fn exit() {
    // SAFETY: Process context; no level is in memory any more, so that there are no stragglers.
    unsafe { ffi::kcare_stragglers_exit() };
}
