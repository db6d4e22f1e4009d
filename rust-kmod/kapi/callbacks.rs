// SPDX-License-Identifier: GPL-2.0

//! Functions of a level that the kernel calls around a switch (`struct klp_callbacks`).

use super::module::Module;
use crate::ffi;
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*, //
};

pub(crate) use crate::ffi::Callback as Kind;

/// One callback.
///
/// # Invariants
///
/// The address of a function, of the form that `kind` has, in the sealed text of a [`super::resident::Resident`]
/// that outlives it: a level keeps both. That it is such a function the vendor's signature says.
pub(crate) struct Callback {
    address: u64,
    kind: Kind,
}

impl Callback {
    /// The caller makes sure of the type's invariant.
    pub(super) fn new(address: u64, kind: Kind) -> Self {
        Self { address, kind }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// When it is called.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

/// What the callbacks of a level get to see of it: its states, and those of the level that it replaces.
///
/// # Invariants
///
/// Valid, and used by one task at a time.
pub(crate) struct Patch(NonNull<ffi::patch>);

// SAFETY: Bound to no task.
unsafe impl Send for Patch {}

impl Patch {
    /// A level with these states, as pairs of id and version.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(states: impl Iterator<Item = (u64, u32)> + Clone) -> Result<Self> {
        // SAFETY: Process context.
        let patch = unsafe { ffi::kcare_patch_new(states.clone().count()) };
        let patch = NonNull::new(patch).ok_or(ENOMEM)?;
        for (index, (id, version)) in states.enumerate() {
            // SAFETY: Just made; the shim checks the index.
            unsafe { ffi::kcare_patch_set_state(patch.as_ptr(), index, id, version) };
        }
        // INVARIANT: Just made.
        Ok(Self(patch))
    }

    /// Shows the level that this one replaces, for as long as `f` runs.
    pub(crate) fn replacing<R>(&self, previous: Option<&Patch>, f: impl FnOnce() -> R) -> R {
        let previous = previous.map_or(core::ptr::null_mut(), |p| p.0.as_ptr());
        // SAFETY: Both are valid by the type's invariant.
        unsafe { ffi::kcare_patch_set_previous(self.0.as_ptr(), previous) };
        let result = f();
        // SAFETY: As above; what was shown is forgotten before it can go.
        unsafe { ffi::kcare_patch_set_previous(self.0.as_ptr(), core::ptr::null_mut()) };
        result
    }

    /// Calls a callback for a module, or for vmlinux.
    ///
    /// # Errors
    ///
    /// Those of a [`Kind::PrePatch`] callback.
    pub(crate) fn call(&self, callback: &Callback, module: Option<Module>) -> Result {
        let module = module.map_or(core::ptr::null_mut(), Module::as_ptr);
        let &Callback { address, kind } = callback;
        // SAFETY: `address` is such a function by the invariant of `Callback`, the module is there by that of
        // `Module`, and the patch is valid by this type's.
        to_result(unsafe { ffi::kcare_patch_call(self.0.as_ptr(), address, kind, module) })
    }
}

impl Drop for Patch {
    fn drop(&mut self) {
        // SAFETY: Valid by the type's invariant, and no callback that sees it runs any more.
        unsafe { ffi::kcare_patch_free(self.0.as_ptr()) };
    }
}
