// SPDX-License-Identifier: GPL-2.0

//! A set of redirected functions behind one `ftrace_ops`, registered as direct jumps or as IPMODIFY.

use super::ksyms::Ksyms;
use crate::ffi;
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// How functions are redirected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The fentry nop becomes a jump (`update_ftrace_direct_add()`).
    Direct,
    /// A handler sets the instruction pointer (`FTRACE_OPS_FL_IPMODIFY`), as upstream livepatch does.
    IpModify,
}

/// Address of a function's fentry site, if ftrace has a record of one (`ftrace_location()`).
pub(crate) fn fentry_site(_: Ksyms, function: u64) -> Option<u64> {
    // SAFETY: By the invariant of `Ksyms`; ftrace looks any address up in its records.
    let site = unsafe { ffi::kcare_fentry_site(function) };
    (site != 0).then_some(site)
}

/// Whether a fentry site has a direct caller, such as a BPF program (`ftrace_find_rec_direct()`).
pub(crate) fn has_direct(_: Ksyms, site: u64) -> bool {
    // SAFETY: By the invariant of `Ksyms`; ftrace looks any address up in its records.
    unsafe { ffi::kcare_has_direct(site) }
}

/// A set of redirects.
///
/// # Invariants
///
/// `raw` is valid until [`Drop`] and holds `count` redirects, ascending by their sites. `registered` tells
/// how ftrace knows it, if it does.
pub(crate) struct Set {
    raw: NonNull<ffi::Set>,
    count: usize,
    registered: Option<Strategy>,
}

// SAFETY: ftrace takes its own locks (`ftrace_lock`, `direct_mutex`); the object is bound to no task.
unsafe impl Send for Set {}

impl Set {
    /// Redirects from fentry sites, ascending, to targets; registers nothing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `EINVAL` if the sites are not ascending.
    pub(crate) fn new(_: Ksyms, redirects: &[(u64, u64)]) -> Result<Self> {
        if !redirects.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(EINVAL);
        }
        // SAFETY: Callable in process context.
        let raw = unsafe { ffi::kcare_set_new(redirects.len()) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        for (site, target) in redirects {
            // SAFETY: There is room for as many as `redirects` has.
            unsafe { ffi::kcare_set_add(raw.as_ptr(), *site, *target) };
        }
        // INVARIANT: The new object is ours, and its redirects are ascending, as just checked.
        Ok(Self {
            raw,
            count: redirects.len(),
            registered: None,
        })
    }

    /// Registers all of it. The targets must stay valid text until
    /// [`super::stop_machine::synchronize_text`] after [`Set::unregister`].
    ///
    /// # Errors
    ///
    /// `EBUSY` or `EINVAL` if another direct caller or IPMODIFY user holds one of the functions; those of
    /// ftrace. Nothing is registered then.
    pub(crate) fn register(&mut self, strategy: Strategy) -> Result {
        let raw = self.raw.as_ptr();
        to_result(match strategy {
            // SAFETY: `raw` is valid by the type's invariant and not registered.
            Strategy::Direct => unsafe { ffi::kcare_set_register_direct(raw) },
            // SAFETY: As above.
            Strategy::IpModify => unsafe { ffi::kcare_set_register_ipmodify(raw) },
        })?;
        self.registered = Some(strategy);
        Ok(())
    }

    /// Leads a set that is registered as [`Strategy::Direct`] somewhere else (`update_ftrace_direct_mod()`).
    /// While it changes, a call may still go to the former target.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not registered so, or there is not one target for each function; `ENOMEM`.
    pub(crate) fn retarget(&mut self, targets: &[u64]) -> Result {
        if self.registered != Some(Strategy::Direct) || targets.len() != self.count {
            return Err(EINVAL);
        }
        // SAFETY: `raw` is valid and registered as direct, and `targets` has as many entries as it.
        to_result(unsafe { ffi::kcare_set_retarget_direct(self.raw.as_ptr(), targets.as_ptr()) })
    }

    /// Un-registers it, if it is registered.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of ftrace when it has shut itself down (`ftrace_kill()`); the redirects stay.
    pub(crate) fn unregister(&mut self) -> Result {
        let raw = self.raw.as_ptr();
        to_result(match self.registered {
            None => return Ok(()),
            // SAFETY: `raw` is valid and registered in this way by the type's invariant.
            Some(Strategy::Direct) => unsafe { ffi::kcare_set_unregister_direct(raw) },
            // SAFETY: As above.
            Some(Strategy::IpModify) => unsafe { ffi::kcare_set_unregister_ipmodify(raw) },
        })?;
        self.registered = None;
        Ok(())
    }

    /// How many functions it has.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // A registered one is in ftrace's lists: leaking it is the only safe thing.
        if self.registered.is_none() {
            // SAFETY: It is ours and in no list; ftrace has waited for its callbacks when it was
            // un-registered (`ftrace_shutdown()`).
            unsafe { ffi::kcare_set_free(self.raw.as_ptr()) };
        }
    }
}
