// SPDX-License-Identifier: GPL-2.0

//! The certificates that were built into the module, which of them are revoked, and the kernel's own CMS verification.

use crate::{
    ffi,
    payload::{
        cms,
        revocation::{
            Hash,
            HASH_SIZE, //
        },
    },
};
use core::{
    fmt::{
        self,
        Write, //
    },
    ptr::NonNull,
};
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// The certificates that were built into the module, and nothing else.
pub(crate) struct Keyring(KVec<Certificate>);

/// One of them.
struct Certificate {
    /// The kernel's verification tells that a keyring has the signer, but not which of its keys that is.
    key: OneKey,
    /// Of its DER.
    hash: Hash,
    /// Its subject and that hash, as they are told.
    line: &'static str,
    /// Its key signs nothing any more. Only ever set, by whoever holds the lock of requests; what depends on it is decided
    /// under that lock, too. Others read it to tell it, or to answer sooner.
    revoked: Atomic<bool>,
}

/// Which of a keyring's certificates has signed something.
#[derive(Clone, Copy)]
pub(crate) struct Signer(usize);

/// What became of a certificate that was to be revoked.
pub(crate) enum Revoked {
    /// It is revoked from here on.
    Now(&'static str),
    /// It was revoked before.
    Before,
    /// The module does not have it.
    Unknown,
}

/// A keyring of the kernel's that holds one certificate.
///
/// # Invariants
///
/// The pointer owns one reference to a keyring.
struct OneKey(NonNull<ffi::key>);

// SAFETY: Keys are reference-counted and locked by the kernel (security/keys).
unsafe impl Send for OneKey {}
// SAFETY: As above; `verify` only reads the keyring.
unsafe impl Sync for OneKey {}

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

/// One line for each certificate whose key may sign payloads, in their order: its subject, and the SHA-256 of its DER.
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

fn sha256(data: &[u8]) -> Hash {
    let mut hash = [0; HASH_SIZE];
    // SAFETY: The slice is valid for its length, and there is room for the hash.
    unsafe { ffi::kcare_sha256(data.as_ptr().cast(), data.len(), hash.as_mut_ptr()) };
    hash
}

impl Keyring {
    /// Takes the built-in certificates in; none of them is revoked.
    ///
    /// # Errors
    ///
    /// Those of `keyring_alloc()` and of parsing a certificate (`key_create_or_update()`).
    pub(crate) fn new() -> Result<Self> {
        let mut all = KVec::new();
        let mut lines = certificates().lines();
        let mut rest = built_in_certificates();
        while !rest.is_empty() {
            let der;
            (der, rest) = cms::split_first(rest).ok_or(EINVAL)?;
            let certificate = Certificate {
                key: OneKey::new(der)?,
                hash: sha256(der),
                line: lines.next().ok_or(EINVAL)?,
                revoked: Atomic::new(false),
            };
            all.push(certificate, GFP_KERNEL)?;
        }
        Ok(Self(all))
    }

    /// Checks a detached CMS signature over `data`, and tells who made it. That may be a revoked certificate's key.
    ///
    /// # Errors
    ///
    /// A [`Rejection`].
    pub(crate) fn verify(&self, data: &[u8], signature: &[u8]) -> Result<Signer, Rejection> {
        let mut rejection = Rejection::UnknownKey;
        for (index, certificate) in self.0.iter().enumerate() {
            match certificate.key.verify(data, signature) {
                Ok(()) => return Ok(Signer(index)),
                Err(Rejection::UnknownKey) => {}
                // Another certificate may have the same name.
                Err(Rejection::Mismatch) => rejection = Rejection::Mismatch,
                Err(unreadable) => return Err(unreadable),
            }
        }
        Err(rejection)
    }

    /// What is told of a signer, if its certificate is revoked.
    pub(crate) fn revoked(&self, signer: Signer) -> Option<&'static str> {
        let certificate = self.0.get(signer.0)?;
        certificate
            .revoked
            .load(Relaxed)
            .then_some(certificate.line)
    }

    /// Whether it has this certificate, and it is not revoked.
    pub(crate) fn trusts(&self, hash: &Hash) -> bool {
        let mut valid = self.valid();
        valid.any(|certificate| certificate.hash == *hash)
    }

    /// Revokes a certificate for as long as this module is loaded. The caller holds the lock of requests.
    pub(crate) fn revoke(&self, hash: &Hash) -> Revoked {
        let mut outcome = Revoked::Unknown;
        for certificate in self.0.iter().filter(|c| c.hash == *hash) {
            outcome = match certificate.revoked.load(Relaxed) {
                true => Revoked::Before,
                false => Revoked::Now(certificate.line),
            };
            certificate.revoked.store(true, Relaxed);
        }
        outcome
    }

    /// Whether there is a certificate that is not revoked.
    pub(crate) fn has_valid(&self) -> bool {
        self.valid().next().is_some()
    }

    /// Writes a line for each certificate that is revoked, with something in front of it.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub(crate) fn print_revoked(&self, head: &str, out: &mut dyn Write) -> fmt::Result {
        let mut revoked = self.0.iter().filter(|c| c.revoked.load(Relaxed));
        revoked.try_for_each(|certificate| writeln!(out, "{head}{}", certificate.line))
    }

    fn valid(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter().filter(|c| !c.revoked.load(Relaxed))
    }
}

impl OneKey {
    fn new(der: &[u8]) -> Result<Self> {
        // SAFETY: The slice is valid for its length. Process context.
        let key = from_err_ptr(unsafe { ffi::kcare_keyring_new(der.as_ptr().cast(), der.len()) })?;
        // INVARIANT: The shim hands its one reference over.
        Ok(Self(NonNull::new(key).ok_or(ENOMEM)?))
    }

    /// Checks a signature by this key (`verify_pkcs7_signature()`, certs/system_keyring.c).
    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), Rejection> {
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

impl Drop for OneKey {
    fn drop(&mut self) {
        // SAFETY: The reference is ours by the type's invariant.
        unsafe { ffi::kcare_keyring_put(self.0.as_ptr()) };
    }
}
