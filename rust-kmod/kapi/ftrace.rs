// SPDX-License-Identifier: GPL-2.0

//! Redirected functions: direct jumps, and IPMODIFY for those that cannot have one.

use super::ksyms::Ksyms;
use crate::ffi::{
    self,
    Direct, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

pub(crate) use crate::ffi::Redirect;

/// How a function is redirected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The fentry nop becomes a jump (`update_ftrace_direct_add()`).
    Direct,
    /// A handler sets the instruction pointer (`FTRACE_OPS_FL_IPMODIFY`), as upstream livepatch does.
    IpModify,
}

/// The module's redirects. There is one, as the shim has one `ftrace_ops` for each strategy.
///
/// # Invariants
///
/// Calls of the shim that change something go through `&mut self`, so that there is one at a time.
pub(crate) struct Ftrace {
    _ksyms: Ksyms,
}

impl Ftrace {
    /// Called once, from the module's init.
    pub(crate) fn new(ksyms: Ksyms) -> Self {
        Self { _ksyms: ksyms }
    }

    /// `sysctl kernel.ftrace_enabled`. While it is 0, ftrace takes no permanent redirects (`EBUSY`).
    pub(crate) fn enabled(&self) -> bool {
        // SAFETY: By the invariant of `Ksyms` the variable was found.
        unsafe { ffi::kcare_ftrace_enabled() }
    }

    /// Address of a function's fentry site, if ftrace has a record of one (`ftrace_location()`).
    pub(crate) fn fentry_site(&self, function: u64) -> Option<u64> {
        // SAFETY: By the invariant of `Ksyms`; ftrace looks any address up in its records.
        let site = unsafe { ffi::kcare_fentry_site(function) };
        (site != 0).then_some(site)
    }

    /// Whether a fentry site has a direct caller, such as a BPF program (`ftrace_find_rec_direct()`).
    pub(crate) fn has_direct(&self, site: u64) -> bool {
        // SAFETY: By the invariant of `Ksyms`; ftrace looks any address up in its records.
        unsafe { ffi::kcare_has_direct(site) }
    }

    /// Whether a fentry site is as ftrace has left it. If it is not, somebody else has redirected the function, and ftrace
    /// would shut itself down at the sight of it (`ftrace_verify_code()`, arch/x86/kernel/ftrace.c).
    pub(crate) fn is_untouched(&self, site: u64) -> bool {
        // SAFETY: By the invariant of `Ksyms`; the shim reads memory that need not be there. Process context.
        unsafe { ffi::kcare_site_is_ftrace(site) }
    }

    /// Whether ftrace has shut itself down, because text was not as it had left it. It does nothing any more until the
    /// next boot.
    pub(crate) fn is_dead(&self) -> bool {
        // SAFETY: By the invariant of `Ksyms`.
        unsafe { ffi::kcare_ftrace_is_dead() }
    }

    /// Adds direct redirects, all or none. The targets must stay valid text until
    /// [`super::rcu::synchronize_text`] after their end.
    ///
    /// # Errors
    ///
    /// `EBUSY` or `EINVAL` if another direct caller, or an IPMODIFY user but for kcare, holds one of the functions; those of
    /// ftrace; `ENODEV` if it has shut itself down, and then they may be redirected.
    pub(crate) fn add_direct(&mut self, redirects: &[Redirect]) -> Result {
        self.direct(Direct::Add, redirects)
    }

    /// Leads direct redirects somewhere else (`update_ftrace_direct_mod()`). While that happens a call may
    /// still go to the former target.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; those of ftrace.
    pub(crate) fn retarget_direct(&mut self, redirects: &[Redirect]) -> Result {
        self.direct(Direct::Retarget, redirects)
    }

    /// Ends direct redirects, which must have the targets that they were given last.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of ftrace when it has shut itself down (`ftrace_kill()`); they stay then.
    pub(crate) fn remove_direct(&mut self, redirects: &[Redirect]) -> Result {
        self.direct(Direct::Remove, redirects)
    }

    fn direct(&mut self, how: Direct, redirects: &[Redirect]) -> Result {
        if redirects.is_empty() {
            return Ok(());
        }
        // SAFETY: The slice is valid for its length; one at a time by the type's invariant.
        to_result(unsafe { ffi::kcare_direct_update(how, redirects.as_ptr(), redirects.len()) })
    }

    /// From now on exactly these are redirected by IPMODIFY: all of before, and some more. Ascending by site. Where there
    /// is a direct redirect as well, calls go to that.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another IPMODIFY user holds one of the functions; `ENOMEM`, those of ftrace. All is as before then.
    pub(crate) fn grow_ipmodify(&mut self, redirects: &[Redirect]) -> Result {
        // SAFETY: As for `direct`.
        to_result(unsafe { ffi::kcare_ipmodify_grow(redirects.as_ptr(), redirects.len()) })
    }

    /// From now on no more than these are redirected by IPMODIFY, some of those before. Ascending by site. No call that
    /// had to do with the others is under way any more.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of ftrace when it has shut itself down. Of the others, some or all may still be as before
    /// then, and ftrace may have some that run as if it had not; the same call tries again.
    pub(crate) fn shrink_ipmodify(&mut self, redirects: &[Redirect]) -> Result {
        // SAFETY: As for `direct`.
        to_result(unsafe { ffi::kcare_ipmodify_shrink(redirects.as_ptr(), redirects.len()) })
    }

    /// Whether there are tables that have ceased to count, and are not freed.
    pub(crate) fn has_former(&self) -> bool {
        // SAFETY: Who changes them has `&mut self`.
        unsafe { ffi::kcare_ipmodify_has_former() }
    }

    /// A grace period has begun, of those tables that have ceased to count. There is one at a time.
    pub(crate) fn begin_grace(&mut self) {
        // SAFETY: One at a time by the type's invariant.
        unsafe { ffi::kcare_ipmodify_begin_grace() };
    }

    /// That grace period is over, and frees them.
    pub(crate) fn end_grace(&mut self) {
        // SAFETY: One at a time by the type's invariant; by this function's contract nobody reads them any more.
        unsafe { ffi::kcare_ipmodify_end_grace() };
    }

    /// Leads some of them somewhere else.
    ///
    /// # Errors
    ///
    /// `ENOENT` if one of them is not redirected so.
    pub(crate) fn retarget_ipmodify(&mut self, redirects: &[Redirect]) -> Result {
        // SAFETY: As for `direct`.
        to_result(unsafe { ffi::kcare_ipmodify_retarget(redirects.as_ptr(), redirects.len()) })
    }
}

impl Drop for Ftrace {
    fn drop(&mut self) {
        // SAFETY: The module is unloaded only when no level is live, and then nothing is redirected.
        unsafe { ffi::kcare_redirects_exit() };
    }
}
