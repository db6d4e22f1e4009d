// SPDX-License-Identifier: GPL-2.0

//! A keyring of the module's own, and the kernel's own CMS verification.

use crate::{
    ffi,
    payload::cms, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*, //
};

/// A keyring that holds the certificates that were built into the module, and nothing else.
///
/// # Invariants
///
/// The pointer owns one reference to a keyring.
pub(crate) struct Keyring(NonNull<ffi::key>);

// SAFETY: Keys are reference-counted and locked by the kernel (security/keys).
unsafe impl Send for Keyring {}
// SAFETY: As above; `verify` only reads the keyring.
unsafe impl Sync for Keyring {}

/// Why a signature was not accepted.
pub(crate) enum Rejection {
    /// No key of the keyring made it (`ENOKEY`).
    UnknownKey,
    /// It does not fit the data (`EKEYREJECTED`).
    Mismatch,
    /// It cannot be read, or memory was short.
    Unreadable(Error),
}

/// The built-in certificates in DER, one behind the other.
fn built_in_certificates() -> &'static [u8] {
    let start = &raw const ffi::kcare_cert_start;
    let end = &raw const ffi::kcare_cert_end;
    let size = (end as usize).saturating_sub(start as usize);
    // SAFETY: cert.S puts both labels around one read-only object.
    unsafe { core::slice::from_raw_parts(start, size) }
}

/// One line for each certificate whose key may sign payloads: its subject, and the SHA-256 of its DER.
pub(crate) fn certificates() -> &'static str {
    // SAFETY: Returns a string that scripts/keys has written, which stays for as long as the module.
    let lines = unsafe { CStr::from_char_ptr(ffi::kcare_certs()) };
    lines.to_str().unwrap_or_default()
}

/// Whether a key made for development is among them, whose private half lies about on the machine that built it.
pub(crate) fn is_development() -> bool {
    // SAFETY: Returns a constant.
    unsafe { ffi::kcare_certs_development() }
}

impl Keyring {
    /// Makes the keyring.
    ///
    /// # Errors
    ///
    /// Those of `keyring_alloc()` and of parsing a certificate (`key_create_or_update()`).
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Process context.
        let key = from_err_ptr(unsafe { ffi::kcare_keyring_new() })?;
        // INVARIANT: The shim hands its one reference over.
        let keyring = Self(NonNull::new(key).ok_or(ENOMEM)?);
        let mut rest = built_in_certificates();
        while !rest.is_empty() {
            let cert;
            (cert, rest) = cms::split_first(rest).ok_or(EINVAL)?;
            // SAFETY: The keyring is live by the type's invariant, and the slice is valid for its length.
            to_result(unsafe {
                ffi::kcare_keyring_add(keyring.0.as_ptr(), cert.as_ptr().cast(), cert.len())
            })?;
        }
        Ok(keyring)
    }

    /// Checks a detached CMS signature over `data` (`verify_pkcs7_signature()`,
    /// certs/system_keyring.c).
    ///
    /// # Errors
    ///
    /// A [`Rejection`].
    pub(crate) fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), Rejection> {
        // SAFETY: The keyring is live by the type's invariant, both slices are valid for their lengths.
        let verified = to_result(unsafe {
            ffi::kcare_keyring_verify(
                self.0.as_ptr(),
                data.as_ptr().cast(),
                data.len(),
                signature.as_ptr().cast(),
                signature.len(),
            )
        });
        verified.map_err(|error| match error.to_errno().unsigned_abs() {
            bindings::ENOKEY => Rejection::UnknownKey,
            bindings::EKEYREJECTED => Rejection::Mismatch,
            _ => Rejection::Unreadable(error),
        })
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // SAFETY: The reference is ours by the type's invariant.
        unsafe { ffi::kcare_keyring_put(self.0.as_ptr()) };
    }
}
