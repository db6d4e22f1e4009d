// SPDX-License-Identifier: GPL-2.0

//! Trust: from bytes of user space to a payload that the loader may believe.
//!
//! [`Unverified`] → [`Signed`] → [`Verified`] → [`Bundled`] → [`Trusted`]; each step consumes or borrows the one before, and
//! the loader takes a [`Trusted`] only. A [`Signed`] may be a [`Revocation`], too.

use crate::{
    kapi::{
        keyring::{
            Keyring,
            Rejection,
            Signer, //
        },
        system, //
    },
    objects::Objects,
    payload::{
        bundle::Bundle,
        check::Payload,
        cms,
        error::{
            Error,
            Place,
            Reason,
            Table, //
        },
        layout::MAX_PAYLOAD,
        preimage,
        revocation::Revocation,
        trailer, //
    },
    report::{
        out_of_memory,
        Report, //
    },
};
use core::ops::{
    Deref,
    Range, //
};
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// The bytes of a payload or of a revocation record, copied from user space once.
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

    /// Checks the signature over the whole. Nothing of it but the trailer has been looked at.
    ///
    /// # Errors
    ///
    /// Those of [`trailer::split`] and [`cms::check`], [`Reason::KeyRejected`], [`Reason::PayloadCorrupted`],
    /// [`Reason::SignatureMalformed`].
    pub(crate) fn verify(self, keyring: &Keyring, report: &mut Report) -> Result<Signed, Error> {
        let (body, signature) = trailer::split(&self.0)?;
        // CAST: widening; the payload is at most 64 MiB.
        let place = Place::Offset(body.len() as u64);
        cms::check(signature).map_err(|reason| match reason {
            Reason::SignatureMalformed => report.refuse(
                reason,
                place,
                format_args!("its signature is no CMS message in the form that sign-file writes"),
            ),
            weak => Error::new(weak, place),
        })?;
        let signer = keyring
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
        let body = body.len();
        Ok(Signed {
            bytes: self.0,
            body,
            signer,
        })
    }
}

/// What a vendor has signed, with a key that may have been revoked since.
///
/// # Invariants
///
/// The first `body` bytes are what the key of `signer` has signed.
pub(crate) struct Signed {
    bytes: VVec<u8>,
    body: usize,
    signer: Signer,
}

impl Signed {
    /// Who has signed it.
    pub(crate) fn signer(&self) -> Signer {
        self.signer
    }

    /// Walks the whole as a revocation record.
    ///
    /// # Errors
    ///
    /// Those of [`Revocation::parse`].
    pub(crate) fn revocation(&self) -> Result<Revocation<'_>, Error> {
        Revocation::parse(self.body())
    }

    /// Takes it for a payload, if its signer and the kernel's security modules let it be loaded.
    ///
    /// # Errors
    ///
    /// [`Reason::KeyRevoked`], [`Reason::SecurityRefused`].
    pub(crate) fn payload(
        mut self,
        keyring: &Keyring,
        report: &mut Report,
    ) -> Result<Verified, Error> {
        unrevoked(self.signer, keyring, report)?;
        pr_info!("verified successfully\n");
        // They may refuse it, and measure what it is; kcare believes what it has verified.
        if let Some(code) = self.bytes.get_mut(..self.body) {
            system::security_load(code).map_err(|e| {
                report.failed(
                    Reason::SecurityRefused,
                    "asking the kernel's security modules",
                    e,
                )
            })?;
        }
        Ok(Verified(self))
    }

    fn body(&self) -> &[u8] {
        self.bytes.get(..self.body).unwrap_or_default()
    }
}

/// Whether what this signer has signed is still to be believed.
///
/// # Errors
///
/// [`Reason::KeyRevoked`].
pub(crate) fn unrevoked(
    signer: Signer,
    keyring: &Keyring,
    report: &mut Report,
) -> Result<(), Error> {
    match keyring.revoked(signer) {
        None => Ok(()),
        Some(certificate) => Err(report.refuse(
            Reason::KeyRevoked,
            Place::Nowhere,
            format_args!("it is signed by {certificate}, which has been revoked"),
        )),
    }
}

/// A payload that the vendor has signed. Its signer may be revoked while it is in memory.
pub(crate) struct Verified(Signed);

impl Verified {
    /// Bytes of memory, the signature included.
    pub(crate) fn size(&self) -> usize {
        self.0.bytes.len()
    }

    /// Who has signed it.
    pub(crate) fn signer(&self) -> Signer {
        self.0.signer
    }

    /// Walks the whole payload, parts included, and checks it (see [`Bundle::parse`]).
    ///
    /// # Errors
    ///
    /// Those of [`Bundle::parse`]; the message starts with the part that it is about.
    pub(crate) fn parse(&self, report: &mut Report) -> Result<Bundled<'_>, Error> {
        let body = self.0.body();
        match Bundle::parse(body) {
            Ok(bundle) => Ok(Bundled { bundle, body }),
            Err(refusal) => {
                let error = refusal.error;
                match refusal.part {
                    Some(part) => report.about_part(part, |_| Err(error)),
                    None => Err(error),
                }
            }
        }
    }

    /// A part of a payload that [`Verified::parse`] has accepted, at a place that [`Bundled::parts`] gave.
    ///
    /// # Errors
    ///
    /// [`Reason::Internal`] for any other place.
    pub(crate) fn part(&self, at: &Range<usize>) -> Result<Trusted<'_>, Error> {
        let internal = Error::from(Reason::Internal);
        let body = self.0.body().get(at.clone()).ok_or(internal)?;
        let payload = Payload::parse(body).map_err(|_| internal)?;
        Ok(Trusted { payload, body })
    }
}

/// A payload that is signed and well-formed, with its parts for modules.
pub(crate) struct Bundled<'a> {
    bundle: Bundle<'a>,
    body: &'a [u8],
}

impl<'a> Bundled<'a> {
    /// What it does to vmlinux.
    pub(crate) fn outer(&self) -> Trusted<'a> {
        Trusted {
            payload: *self.bundle.outer(),
            body: self.body,
        }
    }

    /// The parts: the names of their modules, ascending, and where in the payload they are.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> + 'a {
        self.bundle.places()
    }
}

/// A payload, or a part of one, that is signed and well-formed.
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

/// Is each function's code in memory what the payload expects?
///
/// # Errors
///
/// [`Reason::PreimageMismatch`] with the function's name and what was found.
pub(crate) fn preimages(
    payload: &Trusted<'_>,
    objects: &Objects,
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
        let (body, _) = objects.ranges_of(&func, index)?;
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
