// SPDX-License-Identifier: GPL-2.0

//! A misc device whose files hold a reference to the module, and that carries data of the driver's.
//!
//! `kernel::miscdevice` of 7.2 leaves `file_operations.owner` empty, so that the module could be
//! unloaded under an open file; 7.3 sets it. This wrapper sets it in both.

use crate::ffi;
use core::{
    fmt::Write,
    marker::PhantomPinned, //
};
use kernel::{
    bindings,
    error::to_result,
    ffi::{
        c_int,
        c_uint, //
    },
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
                raw.groups = (&raw mut ffi::kcare_sysfs_groups).cast();
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
        // SAFETY: `misc_open()` passes our `misc` field, which has the layout of `MiscDeviceRegistration`, a
        // transparent wrapper of the same.
        unsafe { Self::of(core::ptr::from_ref(misc).cast()) }
    }

    /// The data of the registration that `misc` belongs to.
    ///
    /// # Safety
    ///
    /// `misc` must be the miscdevice of a live `Registration<T, D>`.
    unsafe fn of<'a>(misc: *const ffi::miscdevice) -> &'a D {
        // SAFETY: By this function's contract; the field is the first of a `repr(C)` structure.
        unsafe { &(*misc.cast::<Self>()).data }
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

/// Data of a device that its sysfs files show, and that one of them changes.
pub(crate) trait Show {
    /// Writes the content of file number `view` to `out`.
    ///
    /// # Errors
    ///
    /// Those of `out`, when it is full.
    fn show(&self, view: u32, out: &mut dyn Write) -> core::fmt::Result;

    /// What has been written to the file `redirect`.
    ///
    /// # Errors
    ///
    /// Those of the system call that has written it.
    fn redirect(&self, text: &[u8]) -> Result;
}

/// A file's content, which is cut where the buffer ends.
struct Page<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.buffer.get_mut(self.len..).unwrap_or_default();
        let room = room.get_mut(..text.len()).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = self.len.saturating_add(text.len());
        Ok(())
    }
}

/// What `shim/sysfs.c` calls.
///
/// # Safety
///
/// `misc` must be the miscdevice of the module's one registration, and `buf` valid for `size` bytes.
#[no_mangle]
unsafe extern "C" fn kcare_sysfs_show(
    misc: *mut ffi::miscdevice,
    view: c_uint,
    buf: *mut u8,
    size: usize,
) -> isize {
    // SAFETY: By this function's contract; sysfs files are gone before the registration is.
    let data = unsafe { crate::device::DeviceRegistration::of(misc) };
    // SAFETY: By this function's contract; sysfs zeroes the page first (`sysfs_kf_seq_show()`).
    let buffer = unsafe { core::slice::from_raw_parts_mut(buf, size) };
    let mut page = Page { buffer, len: 0 };
    // What does not fit is left out, line by line.
    let _ = data.show(view, &mut page);
    isize::try_from(page.len).unwrap_or(0)
}

/// What `shim/sysfs.c` calls.
///
/// # Safety
///
/// `misc` must be the miscdevice of the module's one registration, and `buf` valid for `size` bytes.
#[no_mangle]
unsafe extern "C" fn kcare_sysfs_redirect(
    misc: *mut ffi::miscdevice,
    buf: *const u8,
    size: usize,
) -> c_int {
    // SAFETY: By this function's contract; sysfs files are gone before the registration is.
    let data = unsafe { crate::device::DeviceRegistration::of(misc) };
    // SAFETY: By this function's contract; nobody else knows sysfs' copy of what was written (`kernfs_fop_write_iter()`).
    let text = unsafe { core::slice::from_raw_parts(buf, size) };
    match data.redirect(text) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}
