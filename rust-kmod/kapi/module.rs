// SPDX-License-Identifier: GPL-2.0

//! This module and others: references, where they are in memory, and when they come and go.

use crate::ffi;
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_uint,
        c_void, //
    },
    prelude::*,
    sync::Arc,
    ThisModule, //
};

/// Keeps a module from being unloaded: `rmmod` answers busy while one exists.
///
/// # Invariants
///
/// Owns one reference to the module.
pub(crate) struct ModuleRef(*mut ffi::module);

// SAFETY: Module references are counted atomically and bound to no task.
unsafe impl Send for ModuleRef {}

impl ModuleRef {
    /// Takes a reference to the module that runs this code.
    pub(crate) fn new(module: &'static ThisModule) -> Self {
        // SAFETY: Code of this module runs on behalf of a file that is open, which holds a reference, or it is its init.
        unsafe { ffi::kcare_module_get(module.as_ptr()) };
        // INVARIANT: Just taken.
        Self(module.as_ptr())
    }

    /// Keeps the module that runs this code until the next boot.
    pub(crate) fn stay(module: &'static ThisModule) {
        core::mem::forget(Self::new(module));
    }

    /// Takes a reference to another module; `None` if it is still in its init, or going.
    pub(crate) fn try_new(module: Module) -> Option<Self> {
        // SAFETY: The module is there by the invariant of `Module`.
        let taken = unsafe { ffi::kcare_module_try_get(module.0.as_ptr()) };
        // INVARIANT: Just taken.
        taken.then_some(Self(module.0.as_ptr()))
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: The reference is ours by the type's invariant.
        unsafe { ffi::kcare_module_put(self.0) };
    }
}

/// Another module.
///
/// # Invariants
///
/// It is loaded, or about to run its init. It stays until [`Watcher::going`] has been called for it and has
/// returned, and whoever keeps one forgets it there; both hold the same lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Module(NonNull<ffi::module>);

// SAFETY: What is read of it does not change while it is there.
unsafe impl Send for Module {}

/// Number that stands for the per-CPU area, see [`Module::memory`].
const PERCPU: c_uint = c_uint::MAX;

impl Module {
    /// A module that is live or in its init, by its name (`find_module()`, kernel/module/main.c); one that is still to
    /// be told of as coming is not there yet. The caller holds the lock that [`Watcher`] takes.
    ///
    /// # Errors
    ///
    /// `EBUSY` for a module that was coming when the [`Watch`] began, until it is live.
    pub(crate) fn find(name: &str) -> Result<Option<Self>> {
        let mut module = core::ptr::null_mut();
        // SAFETY: `len` bytes of the name are readable, and the out-pointer is valid.
        to_result(unsafe {
            ffi::kcare_module_find(name.as_ptr().cast(), name.len(), &mut module)
        })?;
        // INVARIANT: It is live or in its init, so that it has yet to be told of as going.
        Ok(NonNull::new(module).map(Self))
    }

    /// Has [`Module::find`] find it from now on, although it is not live yet. Within [`Watcher::coming`].
    pub(crate) fn told(self) {
        // SAFETY: The module is there by the type's invariant.
        unsafe { ffi::kcare_module_told(self.0.as_ptr()) };
    }

    /// The kernel's `struct module`.
    pub(super) fn as_ptr(self) -> *mut ffi::module {
        self.0.as_ptr()
    }

    /// Its name, with underscores.
    pub(crate) fn name(&self) -> &str {
        // SAFETY: The module is there by the type's invariant.
        let name = unsafe { ffi::kcare_module_name(self.0.as_ptr()) };
        // SAFETY: It ends with NUL, and lives in the module.
        let name = unsafe { CStr::from_char_ptr(name) };
        name.to_str().unwrap_or("?")
    }

    fn memory_number(self, number: c_uint) -> (u64, u64) {
        let (mut base, mut size) = (0, 0);
        // SAFETY: The module is there by the type's invariant; the shim knows every number.
        unsafe { ffi::kcare_module_memory(self.0.as_ptr(), number, &mut base, &mut size) };
        (base, size)
    }

    /// Address and size of its memory of one kind.
    pub(crate) fn memory(self, region: crate::payload::place::Region) -> (u64, u64) {
        // CAST: the enum is `repr(u32)`.
        self.memory_number(region as u32)
    }

    /// Address and size of its per-CPU area, as an offset from each CPU's.
    pub(crate) fn percpu(self) -> (u64, u64) {
        self.memory_number(PERCPU)
    }

    /// Whether it has a symbol of this name at this address.
    pub(crate) fn has_symbol(self, address: u64, name: &str) -> bool {
        let (text, len) = (name.as_ptr().cast(), name.len());
        // SAFETY: The module is there by the type's invariant; `len` bytes of the name are readable.
        unsafe { ffi::kcare_module_has_symbol(self.0.as_ptr(), address, text, len) }
    }
}

/// Nobody is added to the kernel's chain while one exists, so that kcare may tell it of modules of its own. It is locked
/// before the lock that a [`Watcher`] takes, because a watcher is called with it locked.
pub(crate) struct ChainGuard(());

impl ChainGuard {
    /// Waits for those who are being added. Not within a [`Watcher`].
    pub(crate) fn lock() -> Self {
        // SAFETY: Process context, and not in the chain, says the caller.
        unsafe { ffi::kcare_chain_lock() };
        Self(())
    }
}

impl Drop for ChainGuard {
    fn drop(&mut self) {
        // SAFETY: Locked by `lock`, in the same task: the guard is not `Send` in any place that keeps it.
        unsafe { ffi::kcare_chain_unlock() };
    }
}

/// Who is told of modules that come and go.
pub(crate) trait Watcher: Send + Sync {
    /// A module is about to run its init; if this fails it is not loaded. If not, it calls [`Module::told`] while it
    /// still holds the lock that who calls [`Module::find`] holds.
    fn coming(&self, module: Module) -> Result;

    /// A module has ended; its memory is freed when this returns.
    fn going(&self, module: Module);
}

/// Tells `T` of modules for as long as it exists; there may be one only.
///
/// # Invariants
///
/// The shim has the address of `_watcher`, which stays alive in its `Arc`.
pub(crate) struct Watch<T: Watcher> {
    _watcher: Arc<T>,
}

impl<T: Watcher> Watch<T> {
    /// From now on `watcher` is told.
    ///
    /// # Errors
    ///
    /// Those of `register_module_notifier()`.
    pub(crate) fn start(watcher: Arc<T>) -> Result<Self> {
        let ctx: *const T = watcher.deref();
        // SAFETY: `ctx` is a `T`, as the two functions want it, and lives until `drop` has ended the calls.
        to_result(unsafe {
            ffi::kcare_modules_watch(ctx.cast_mut().cast(), coming::<T>, going::<T>)
        })?;
        // INVARIANT: Just told to the shim.
        Ok(Self { _watcher: watcher })
    }
}

impl<T: Watcher> Drop for Watch<T> {
    fn drop(&mut self) {
        // SAFETY: Started by the type's invariant. No call is under way when this returns.
        unsafe { ffi::kcare_modules_unwatch() };
    }
}

/// # Safety
///
/// `ctx` must be a `T`, and `module` a module that comes.
unsafe extern "C" fn coming<T: Watcher>(ctx: *mut c_void, module: *mut ffi::module) -> c_int {
    // SAFETY: By this function's contract.
    let watcher = unsafe { &*ctx.cast::<T>() };
    // INVARIANT: It is in front of its init, and will be told of as going in any case.
    let Some(module) = NonNull::new(module).map(Module) else {
        return 0;
    };
    match watcher.coming(module) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// `ctx` must be a `T`, and `module` a module that goes.
unsafe extern "C" fn going<T: Watcher>(ctx: *mut c_void, module: *mut ffi::module) {
    // SAFETY: By this function's contract.
    let watcher = unsafe { &*ctx.cast::<T>() };
    // INVARIANT: Its memory is there until this function returns.
    if let Some(module) = NonNull::new(module).map(Module) {
        watcher.going(module);
    }
}
