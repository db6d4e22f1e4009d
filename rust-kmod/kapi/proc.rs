// SPDX-License-Identifier: GPL-2.0

//! A folder in /proc with files that everybody may read.

use crate::{
    ffi,
    state::Core, //
};
use core::{
    fmt::Write,
    ptr::NonNull, //
};
use kernel::{
    ffi::{
        c_uint,
        c_void, //
    },
    prelude::*,
    sync::Arc, //
};

/// `/proc/kcare`, until this is dropped.
///
/// # Invariants
///
/// `dir` is the folder that `kcare_proc_create()` made with the address of what `core` points to.
pub(crate) struct Folder {
    dir: NonNull<ffi::proc_dir_entry>,
    _core: Arc<Core>,
}

// SAFETY: The folder may be removed on another thread than it was made on (`proc_remove()`).
unsafe impl Send for Folder {}
// SAFETY: `&self` gives out nothing.
unsafe impl Sync for Folder {}

impl Folder {
    /// Makes the folder.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if it cannot be made, or if somebody else has one of this name.
    pub(crate) fn new(core: Arc<Core>) -> Result<Self> {
        let data = (&raw const *core).cast::<c_void>();
        // SAFETY: Process context; the data lives until the folder is gone, as `_core` is dropped after that.
        let dir = unsafe { ffi::kcare_proc_create(data) };
        Ok(Self {
            // INVARIANT: Just made with this data.
            dir: NonNull::new(dir).ok_or(ENOMEM)?,
            _core: core,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant. It waits for readers (`proc_entry_rundown()`).
        unsafe { ffi::kcare_proc_remove(self.dir.as_ptr()) };
    }
}

/// Text that goes to a reader.
struct Seq(*mut ffi::seq_file);

impl Write for Seq {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // SAFETY: [`kcare_proc_show`] makes this of its argument, which is valid until it returns.
        unsafe { ffi::kcare_seq_write(self.0, text.as_ptr().cast(), text.len()) };
        Ok(())
    }
}

/// What `shim/proc.c` calls.
///
/// # Safety
///
/// `data` must be that of a live [`Folder`], and `m` the file that is being shown.
#[no_mangle]
unsafe extern "C" fn kcare_proc_show(data: *const c_void, page: c_uint, m: *mut ffi::seq_file) {
    // SAFETY: By this function's contract it is the address of the folder's `Core`.
    let core = unsafe { &*data.cast::<Core>() };
    let build_id = core.build_id();
    // Writing to it does not fail.
    let _ = core.with_status(|status| status.show_page(page, build_id, &mut Seq(m)));
}
