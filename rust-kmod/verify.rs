// SPDX-License-Identifier: GPL-2.0

//! Trust: from bytes of user space to a payload that the loader may believe.
//!
//! [`Unverified`] → [`Verified`] → [`Trusted`]; each step consumes or borrows the one before, and the
//! loader takes a [`Trusted`] only.

use crate::{
    kapi::{
        keyring::{
            Keyring,
            Rejection, //
        },
        ksyms::Ksyms,
        system, //
    },
    payload::{
        check::Payload,
        cms,
        error::{
            Error,
            Place,
            Reason,
            Table, //
        },
        layout::{
            Func,
            MAX_PAYLOAD, //
        },
        preimage,
        ranges::Range,
        trailer, //
    },
    report::{
        out_of_memory,
        Report, //
    },
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// A payload's bytes, copied from user space once.
pub(crate) struct Unverified(VVec<u8>);

impl Unverified {
    /// Copies `size` bytes at the user's address `data`.
    ///
    /// # Errors
    ///
    /// [`Reason::TooLarge`], [`Reason::TooSmall`], [`Reason::OutOfMemory`], [`Reason::UserMemory`].
    pub(crate) fn copy_from_user(data: u64, size: u64) -> Result<Self, Error> {
        let size = usize::try_from(size).map_err(|_| Error::from(Reason::TooLarge))?;
        if size > MAX_PAYLOAD {
            return Err(Reason::TooLarge.into());
        }
        if size == 0 {
            return Err(Reason::TooSmall.into());
        }
        let data = usize::try_from(data).map_err(|_| Error::from(Reason::UserMemory))?;
        let mut bytes = VVec::new();
        UserSlice::new(UserPtr::from_addr(data), size)
            .read_all(&mut bytes, GFP_KERNEL)
            .map_err(|error| {
                Error::from(if error == EFAULT {
                    Reason::UserMemory
                } else {
                    Reason::OutOfMemory
                })
            })?;
        Ok(Self(bytes))
    }

    /// Checks the signature over the whole payload. Nothing of it but the trailer has been looked at.
    ///
    /// # Errors
    ///
    /// Those of [`trailer::split`], [`Reason::KeyRejected`], [`Reason::PayloadCorrupted`],
    /// [`Reason::SignatureMalformed`].
    pub(crate) fn verify(self, keyring: &Keyring, report: &mut Report) -> Result<Verified, Error> {
        pr_info!("verifying patch...\n");
        let (body, signature) = trailer::split(&self.0)?;
        // CAST: widening; the payload is at most 64 MiB.
        let place = Place::Offset(body.len() as u64);
        if !cms::is_canonical(signature) {
            return Err(report.refuse(
                Reason::SignatureMalformed,
                place,
                format_args!("its signature is no CMS message in the form that sign-file writes"),
            ));
        }
        keyring
            .verify(body, signature)
            .map_err(|rejection| match rejection {
                Rejection::UnknownKey => report.refuse(
                    Reason::KeyRejected,
                    place,
                    format_args!("it is not signed with the key that this module trusts"),
                ),
                Rejection::Mismatch => report.refuse(
                    Reason::PayloadCorrupted,
                    place,
                    format_args!("it was changed after it was signed"),
                ),
                Rejection::Unreadable(error) => {
                    report.failed(Reason::SignatureMalformed, "reading its signature", error)
                }
            })?;
        pr_info!("verified successfully\n");
        let body = body.len();
        Ok(Verified {
            bytes: self.0,
            body,
        })
    }
}

/// A payload that the vendor has signed.
///
/// # Invariants
///
/// The first `body` bytes are what a key of the module's keyring has signed.
pub(crate) struct Verified {
    bytes: VVec<u8>,
    body: usize,
}

impl Verified {
    /// Walks the whole payload and checks it (see [`Payload::parse`]).
    ///
    /// # Errors
    ///
    /// Those of [`Payload::parse`].
    pub(crate) fn parse(&self) -> Result<Trusted<'_>, Error> {
        let body = self.bytes.get(..self.body).unwrap_or_default();
        Ok(Trusted {
            payload: Payload::parse(body)?,
            body,
        })
    }
}

/// A payload that is signed and well-formed.
pub(crate) struct Trusted<'a> {
    payload: Payload<'a>,
    body: &'a [u8],
}

impl<'a> Trusted<'a> {
    /// The ELF object, signature excluded.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }
}

impl<'a> Deref for Trusted<'a> {
    type Target = Payload<'a>;

    fn deref(&self) -> &Payload<'a> {
        &self.payload
    }
}

/// Prints bytes in hex.
struct Hex<'a>(&'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Is it for the kernel that runs?
///
/// # Errors
///
/// [`Reason::WrongBuildId`] with both releases and build-ids, [`Reason::ObjectNotLoaded`] for payloads
/// that need a module.
pub(crate) fn identity(
    payload: &Trusted<'_>,
    ksyms: Ksyms,
    report: &mut Report,
) -> Result<(), Error> {
    for (index, object) in (0u32..).zip(payload.objects()) {
        let place = Place::Entry {
            table: Table::Objects,
            index,
        };
        if index > 0 {
            let name = payload.string(object.name);
            return Err(report.refuse(
                Reason::ObjectNotLoaded,
                place,
                format_args!("it needs module {name}, and modules are not supported yet"),
            ));
        }
        let running = ksyms.vmlinux_build_id();
        let len = usize::try_from(object.build_id_len).unwrap_or(0);
        let wanted = object.build_id.get(..len).unwrap_or_default();
        // The kernel's own field is zero behind a shorter id, as an `Object`'s is.
        if running != object.build_id {
            return Err(report.refuse(
                Reason::WrongBuildId,
                place,
                format_args!(
                    "it is for kernel {} (build-id {}), and {} (build-id {}) is running",
                    payload.release(),
                    Hex(wanted),
                    system::release(),
                    Hex(&running),
                ),
            ));
        }
    }
    Ok(())
}

/// Where a function of vmlinux is, and where its cold part is (empty if it has none).
///
/// # Errors
///
/// [`Reason::FuncOutside`] with the function's number.
pub(crate) fn ranges_of(ksyms: Ksyms, func: &Func, index: u32) -> Result<(Range, Range), Error> {
    let outside = Error::entry(Reason::FuncOutside, Table::Funcs, index);
    let range = |offset: u64, size: u32| {
        let end = offset.checked_add(u64::from(size))?;
        let base = ksyms.vmlinux_base();
        (end <= ksyms.vmlinux_size()).then_some(())?;
        Some(Range {
            start: base.checked_add(offset)?,
            end: base.checked_add(end)?,
        })
    };
    let body = range(func.offset, func.size).ok_or(outside)?;
    let cold = range(func.cold_offset, func.cold_size).ok_or(outside)?;
    Ok((body, cold))
}

/// Is each function's code in memory what the payload expects?
///
/// # Errors
///
/// [`Reason::PreimageMismatch`] with the function's name and what was found.
pub(crate) fn preimages(
    payload: &Trusted<'_>,
    ksyms: Ksyms,
    report: &mut Report,
) -> Result<(), Error> {
    let largest = payload.funcs().map(|f| f.size).max().unwrap_or(0);
    let largest = usize::try_from(largest).map_err(out_of_memory)?;
    let mut code = VVec::from_elem(0u8, largest, GFP_KERNEL).map_err(out_of_memory)?;

    for (index, func) in (0u32..).zip(payload.funcs()) {
        let name = payload.string(func.name);
        let place = Place::Entry {
            table: Table::Funcs,
            index,
        };
        let (body, _) = ranges_of(ksyms, &func, index)?;
        let size = usize::try_from(func.size).unwrap_or(0);
        let code = code.get_mut(..size).unwrap_or_default();
        if system::copy_text(body.start, code).is_err() {
            return Err(report.refuse(
                Reason::PreimageMismatch,
                place,
                format_args!("{name} is not in memory: the kernel has freed it"),
            ));
        }
        let (image, mask) = payload.preimage(&func);
        let Some(at) = preimage::compare(code, image, mask) else {
            continue;
        };
        let found = code.get(at).copied().unwrap_or(0);
        let wanted = image.get(at).copied().unwrap_or(0);
        let guess = match found {
            0xcc => ": a breakpoint, as a kprobe sets it",
            0xe9 | 0xe8 => ": a jump or call, as another patcher sets it",
            _ => "",
        };
        return Err(report.refuse(
            Reason::PreimageMismatch,
            place,
            format_args!(
                "the code of {name} at +{at:#x} is {found:#04x} and not {wanted:#04x}{guess}"
            ),
        ));
    }
    Ok(())
}
