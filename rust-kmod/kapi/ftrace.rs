// SPDX-License-Identifier: GPL-2.0

//! One function's `ftrace_ops`, registered as a direct jump or as IPMODIFY.

use super::ksyms::Ksyms;
use crate::ffi;
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// How a function is redirected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The fentry nop becomes a jump (`register_ftrace_direct()`).
    Direct,
    /// A handler sets the instruction pointer (`FTRACE_OPS_FL_IPMODIFY`), as upstream livepatch does.
    IpModify,
}

/// A redirect of one function to one address.
///
/// # Invariants
///
/// `raw` is valid until [`Drop`]. `registered` tells how ftrace knows it, if it does.
pub(crate) struct Ops {
    raw: NonNull<ffi::Ops>,
    registered: Option<Strategy>,
}

// SAFETY: ftrace takes its own locks (`ftrace_lock`, `direct_mutex`); the object is bound to no task.
unsafe impl Send for Ops {}

impl Ops {
    /// Prepares a redirect of the function at `ip` to `target`; registers nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` if ftrace has no record of a fentry site for that function.
    pub(crate) fn new(_: Ksyms, ip: u64, target: u64) -> Result<Self> {
        let mut err = 0;
        // SAFETY: `err` is valid for writing; ftrace checks `ip` against its records.
        let raw = unsafe { ffi::kcare_ops_new(ip, target, &mut err) };
        to_result(err)?;
        Ok(Self {
            // INVARIANT: A non-null result is a new object that is ours.
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            registered: None,
        })
    }

    /// Registers it. `target` must stay valid text until [`super::stop_machine::synchronize_text`]
    /// after [`Ops::unregister`].
    ///
    /// # Errors
    ///
    /// `EBUSY` if another direct caller or IPMODIFY user holds the function; those of ftrace.
    pub(crate) fn register(&mut self, strategy: Strategy) -> Result {
        let raw = self.raw.as_ptr();
        to_result(match strategy {
            // SAFETY: `raw` is valid by the type's invariant and not registered.
            Strategy::Direct => unsafe { ffi::kcare_ops_register_direct(raw) },
            // SAFETY: As above.
            Strategy::IpModify => unsafe { ffi::kcare_ops_register_ipmodify(raw) },
        })?;
        self.registered = Some(strategy);
        Ok(())
    }

    /// Un-registers it, if it is registered.
    ///
    /// # Errors
    ///
    /// Those of ftrace, which has then shut itself down (`ftrace_kill()`); the redirect stays.
    pub(crate) fn unregister(&mut self) -> Result {
        let raw = self.raw.as_ptr();
        to_result(match self.registered {
            None => return Ok(()),
            // SAFETY: `raw` is valid and registered in this way by the type's invariant.
            Some(Strategy::Direct) => unsafe { ffi::kcare_ops_unregister_direct(raw) },
            // SAFETY: As above.
            Some(Strategy::IpModify) => unsafe { ffi::kcare_ops_unregister_ipmodify(raw) },
        })?;
        self.registered = None;
        Ok(())
    }

    /// How it is registered.
    pub(crate) fn strategy(&self) -> Option<Strategy> {
        self.registered
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        // A registered one is in ftrace's lists: leaking it is the only safe thing.
        if self.registered.is_none() {
            // SAFETY: It is ours and in no list; ftrace has waited for its callbacks when it was
            // un-registered (`ftrace_shutdown()`).
            unsafe { ffi::kcare_ops_free(self.raw.as_ptr()) };
        }
    }
}
