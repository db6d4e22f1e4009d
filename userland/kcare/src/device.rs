// SPDX-License-Identifier: GPL-2.0

//! `/dev/kcare`: the ioctls, and the only `unsafe` of the agent.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use kcare_payload::error::Reason;
use kcare_payload::uapi::{
    Apply, Info, Unload, ABI, IOCTL_APPLY, IOCTL_FORGET, IOCTL_INFO, IOCTL_REVOKE, IOCTL_ROLLBACK,
    IOCTL_UNLOAD, STATE_APPLIED, STATE_NONE,
};
use rustix::io::Errno;
use rustix::ioctl::{ioctl, Opcode, Updater};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::state::not_loaded;
use crate::{kernel, text};

/// Where the kcare module puts its device node.
pub const DEFAULT_PATH: &str = "/dev/kcare";

/// Size of the buffer for the kernel's message, in bytes; it names every blocking task.
const TEXT_SIZE: usize = 4096;

/// The kernel's own words when it refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Error number of the ioctl.
    pub errno: i32,
    /// `kcare_payload::error::Reason` as a number; 0 if the kernel gave none.
    pub reason: u32,
    /// The reason's name in kebab case; empty if there is none, or it is unknown here.
    pub name: String,
    /// What the reason is about: an offset in the payload, or an index.
    pub place: u64,
    /// One message; empty if the kernel gave none.
    pub text: String,
}

/// An open `/dev/kcare`.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
}

impl Device {
    /// Opens the device; `None` if the kcare module is not loaded.
    ///
    /// # Errors
    ///
    /// `User` if the caller is not root, `Config` if the module is loaded but its node cannot be opened.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        let error = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => {
                return Ok(Some(Self {
                    file,
                    path: path.to_owned(),
                }))
            }
            Err(error) => error,
        };
        let cannot = format!("cannot open {}", path.display());
        match Errno::from_io_error(&error) {
            // A node can outlive its module: ENXIO and ENODEV then say what ENOENT says.
            Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) if kernel::module_is_loaded() => Err(
                Error::config(format!("{cannot}, though the kcare module is loaded."))
                    .caused_by(error)
                    .hint("run it on the host and not in a container, where devices are missing."),
            ),
            Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Ok(None),
            Some(Errno::ACCESS | Errno::PERM) => {
                Err(Error::user(format!("{cannot}: permission denied.")).hint("run it as root."))
            }
            _ => Err(Error::config(format!("{cannot}.")).caused_by(error)),
        }
    }

    /// [`Device::find`], with an error if the kcare module is not loaded, or is not of this interface version.
    pub fn open(path: &Path) -> Result<Self> {
        let device = Self::find(path)?.ok_or_else(not_loaded)?;
        // Asked first, so that a device that is not kcare's is never told to change something.
        device.check()?;
        Ok(device)
    }

    /// Makes sure that this is a kcare module of this interface version.
    ///
    /// # Errors
    ///
    /// `User` without CAP_SYS_MODULE, `Config` if this is not a kcare module of this interface version.
    pub fn check(&self) -> Result<()> {
        let mut record = [0; Info::SIZE];
        // SAFETY: `Info` is the record of this number and holds no address.
        unsafe { update::<IOCTL_INFO, { Info::SIZE }>(&self.file, &mut record) }.map_err(|e| {
            match e {
                // The module asks for CAP_SYS_MODULE, which root in a container does not have.
                Errno::PERM => {
                    let cannot = format!("cannot use {}", self.path.display());
                    Error::user(format!("{cannot}: permission denied."))
                        .hint("run it as root, and on the host if this is a container.")
                }
                _ => self.stranger().caused_by(io::Error::from(e)),
            }
        })?;
        let info = Info::decode(&record);
        match info.head {
            head if head.abi != ABI => Err(self
                .stranger()
                .detail(format!("module   interface version {}", head.abi))
                .detail(format!("program  interface version {ABI}"))),
            head if !matches!(head.state, STATE_NONE | STATE_APPLIED) => Err(self
                .stranger()
                .detail(format!("unknown state {}", head.state))),
            _ => Ok(()),
        }
    }

    /// Applies a payload; `flags` are `kcare_payload::uapi::APPLY_…`. Gives what the kernel has to say.
    pub fn apply(&self, payload: &[u8], flags: u32) -> std::result::Result<String, Refusal> {
        // SAFETY: the argument of this number is an `Apply`.
        unsafe { self.give::<IOCTL_APPLY>(payload, flags) }
    }

    /// Revokes the certificates that a record names. Gives what the kernel has to say.
    pub fn revoke(&self, record: &[u8]) -> std::result::Result<String, Refusal> {
        // SAFETY: the argument of this number is an `Apply`.
        unsafe { self.give::<IOCTL_REVOKE>(record, 0) }
    }

    /// Gives a signed file to the kernel.
    ///
    /// # Safety
    ///
    /// The argument of `NUMBER` must be an [`Apply`].
    unsafe fn give<const NUMBER: Opcode>(
        &self,
        file: &[u8],
        flags: u32,
    ) -> std::result::Result<String, Refusal> {
        let mut text = [0; TEXT_SIZE];
        let mut record = Apply {
            data: file.as_ptr().expose_provenance() as u64,
            size: file.len() as u64,
            flags,
            text: text.as_mut_ptr().expose_provenance() as u64,
            text_size: TEXT_SIZE as u32,
            ..Apply::default()
        }
        .encode();
        // SAFETY: by the contract of this function `Apply` is the record of this number; `file` and `text` outlive
        // the call, and the kernel reads `size` bytes of the one and writes at most `text_size` bytes of the other.
        let result = unsafe { update::<NUMBER, { Apply::SIZE }>(&self.file, &mut record) };
        let out = Apply::decode(&record);
        match result {
            Ok(()) => Ok(message(&text, out.text_len)),
            Err(e) => Err(refusal(e, out.reason, out.place, &text, out.text_len)),
        }
    }

    /// Takes the live level back; gives what the kernel has to say, here and below.
    pub fn unload(&self) -> std::result::Result<String, Refusal> {
        // SAFETY: the argument of this number is an `Unload`.
        unsafe { self.take_back::<IOCTL_UNLOAD>() }
    }

    /// Goes back to the level that the live one has replaced.
    pub fn rollback(&self) -> std::result::Result<String, Refusal> {
        // SAFETY: the argument of this number is an `Unload`.
        unsafe { self.take_back::<IOCTL_ROLLBACK>() }
    }

    /// Frees the level that is kept for a rollback.
    pub fn forget(&self) -> std::result::Result<String, Refusal> {
        // SAFETY: the argument of this number is an `Unload`.
        unsafe { self.take_back::<IOCTL_FORGET>() }
    }

    /// Makes a request that has no payload.
    ///
    /// # Safety
    ///
    /// The argument of `NUMBER` must be an [`Unload`].
    unsafe fn take_back<const NUMBER: Opcode>(&self) -> std::result::Result<String, Refusal> {
        let mut text = [0; TEXT_SIZE];
        let mut record = Unload {
            text: text.as_mut_ptr().expose_provenance() as u64,
            text_size: TEXT_SIZE as u32,
            ..Unload::default()
        }
        .encode();
        // SAFETY: by the contract of this function `Unload` is the record of this number; `text` outlives
        // the call, and the kernel writes at most `text_size` bytes of it.
        let result = unsafe { update::<NUMBER, { Unload::SIZE }>(&self.file, &mut record) };
        let out = Unload::decode(&record);
        match result {
            Ok(()) => Ok(message(&text, out.text_len)),
            Err(e) => Err(refusal(e, out.reason, out.place, &text, out.text_len)),
        }
    }

    /// The error for a device that does not speak this interface.
    fn stranger(&self) -> Error {
        Error::config(format!(
            "{} does not answer like the kcare module of this version.",
            self.path.display()
        ))
        .hint("install this program and the kcare module from the same release of kcare.")
    }
}

/// Calls the ioctl `NUMBER` with a record that the kernel reads and writes back.
///
/// # Safety
///
/// `N` must be the size of the record of `NUMBER`, and each address in the record must be valid during
/// the call for what the kernel does with it.
unsafe fn update<const NUMBER: Opcode, const N: usize>(
    file: &File,
    record: &mut [u8; N],
) -> std::result::Result<(), Errno> {
    // SAFETY: by the contract of this function `[u8; N]` is what the kernel expects.
    let call = unsafe { Updater::<NUMBER, [u8; N]>::new(record) };
    // SAFETY: as above; the record and what its addresses point to are valid.
    unsafe { ioctl(file, call) }
}

/// What the kernel has written to a text buffer.
fn message(text: &[u8; TEXT_SIZE], text_len: u32) -> String {
    let len = TEXT_SIZE.min(text_len as usize);
    text::from_kernel(&text[..len]).trim_end().to_owned()
}

/// Gathers what the kernel wrote.
fn refusal(
    errno: Errno,
    reason: u32,
    place: u64,
    text: &[u8; TEXT_SIZE],
    text_len: u32,
) -> Refusal {
    let text = message(text, text_len);
    let name = Reason::try_from(reason).map_or("", Reason::name).to_owned();
    Refusal {
        errno: errno.raw_os_error(),
        reason,
        name,
        place,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Failure, Kind};

    #[test]
    fn a_missing_node_means_no_module() {
        assert!(Device::find(Path::new("/nonexistent/kcare"))
            .unwrap()
            .is_none());
        let error = Device::open(Path::new("/nonexistent/kcare")).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert_eq!(error.to_string(), "the kcare module is not loaded.");
    }

    #[test]
    fn another_device_is_recognised() {
        let device = Device::find(Path::new("/dev/null")).unwrap().unwrap();
        let failure = Failure::from(&device.check().unwrap_err());
        assert_eq!(failure.kind, Kind::Config);
        assert_eq!(
            failure.message,
            "/dev/null does not answer like the kcare module of this version."
        );
        assert_eq!(
            failure.causes,
            ["Inappropriate ioctl for device (os error 25)"]
        );
    }

    #[test]
    fn a_refused_call_keeps_the_error_number() {
        let device = Device::find(Path::new("/dev/null")).unwrap().unwrap();
        let expected = Refusal {
            errno: 25,
            reason: 0,
            name: String::new(),
            place: 0,
            text: String::new(),
        };
        assert_eq!(device.apply(b"payload", 0), Err(expected.clone()));
        assert_eq!(device.revoke(b"record"), Err(expected.clone()));
        assert_eq!(device.unload(), Err(expected.clone()));
        assert_eq!(device.forget(), Err(expected.clone()));
        assert_eq!(device.rollback(), Err(expected));
    }

    #[test]
    fn the_kernel_cannot_make_us_read_behind_the_text() {
        let refusal = refusal(Errno::INVAL, 1, 2, &[b'x'; TEXT_SIZE], u32::MAX);
        assert_eq!(refusal.text.len(), TEXT_SIZE);
    }
}
