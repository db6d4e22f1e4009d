// SPDX-License-Identifier: GPL-2.0

//! A misc device whose files hold a reference to the module, and that carries data of the driver's.
//!
//! `kernel::miscdevice` of 7.2 leaves `file_operations.owner` empty, so that the module could be
//! unloaded under an open file; 7.3 sets it. This wrapper sets it in both.

use core::marker::PhantomPinned;
use kernel::{
    bindings,
    error::to_result,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*,
    types::Opaque,
    ThisModule, //
};

/// A registered misc device with `data`.
///
/// # Invariants
///
/// `misc` is registered from the end of construction until `Drop`, and lies in a [`Registration`] of the
/// same `T` and `D`. `fops`, which it points to, lives as long.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Registration<T: MiscDevice, D> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    #[pin]
    fops: Opaque<bindings::file_operations>,
    data: D,
    #[pin]
    _pin: PhantomPinned,
    _device: core::marker::PhantomData<T>,
}

// SAFETY: Registration and its reverse may run on different threads.
unsafe impl<T: MiscDevice, D: Send> Send for Registration<T, D> {}
// SAFETY: `&self` gives out nothing but `&D` and the minor number.
unsafe impl<T: MiscDevice, D: Sync> Sync for Registration<T, D> {}

impl<T: MiscDevice, D> Registration<T, D> {
    /// Registers `/dev/NAME` with mode 0600.
    pub(crate) fn register(
        name: &'static CStr,
        module: &'static ThisModule,
        data: D,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            data,
            fops <- Opaque::ffi_init(|slot: *mut bindings::file_operations| {
                let raw = MiscDeviceOptions { name }.into_raw::<T>();
                // SAFETY: `into_raw` sets `fops` to a constant table.
                let mut table = unsafe { raw.fops.read() };
                table.owner = module.as_ptr();
                // SAFETY: The initializer may write to its slot.
                unsafe { slot.write(table) };
            }),
            misc <- Opaque::try_ffi_init(|slot: *mut bindings::miscdevice| {
                let mut raw = MiscDeviceOptions { name }.into_raw::<T>();
                raw.fops = fops.get();
                raw.mode = 0o600;
                // SAFETY: The initializer may write to its slot.
                unsafe { slot.write(raw) };
                // SAFETY: The structure is complete, pinned, and un-registered before it goes.
                // INVARIANT: Registered from here on.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
            _pin: PhantomPinned,
            _device: core::marker::PhantomData,
        }? Error)
    }

    /// The data of the registration that a file is being opened on; for `T::open`.
    ///
    /// A driver has no other way to a `MiscDeviceRegistration<T>` than the argument of its `open`, as
    /// only [`Registration::register`] registers a `T` here.
    pub(crate) fn data_of(misc: &MiscDeviceRegistration<T>) -> &D {
        let this = core::ptr::from_ref(misc).cast::<Self>();
        // SAFETY: `misc_open()` passes our `misc` field, which is the first of a `repr(C)` structure and
        // has the layout of `MiscDeviceRegistration`, a transparent wrapper of the same.
        unsafe { &(*this).data }
    }

    /// The minor number; the major one is 10.
    pub(crate) fn minor(&self) -> i32 {
        // SAFETY: Registered by the type's invariant, so the field is set and does not change.
        unsafe { (*self.misc.get()).minor }
    }
}

#[pinned_drop]
impl<T: MiscDevice, D> PinnedDrop for Registration<T, D> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the type's invariant.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}
