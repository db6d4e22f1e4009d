// SPDX-License-Identifier: GPL-2.0

//! A revocation record: it names certificates whose keys sign nothing any more.
//!
//! It is a [`Head`] and then the SHA-256 of each certificate in DER, strictly ascending, and nothing else. It is signed as a
//! payload is ([`super::trailer`], [`super::cms`]), over its whole length.

use super::{
    error::{
        Error,
        Reason, //
    },
    layout::record,
};

/// First eight bytes of a record.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KCARERV\0");
/// Version of this layout.
pub const VERSION: u32 = 1;
/// Most certificates that a record names.
pub const MAX_CERTIFICATES: usize = 256;
/// Size of the hash of a certificate in bytes.
pub const HASH_SIZE: usize = 32;

/// SHA-256 of a certificate in DER.
pub type Hash = [u8; HASH_SIZE];

record! {
    /// What a record begins with.
    pub struct Head, 16 {
        /// [`MAGIC`].
        0 magic: u64,
        /// [`VERSION`].
        8 version: u32,
        /// Number of certificates, 1 to [`MAX_CERTIFICATES`].
        12 count: u32,
    }
}

/// A record that is right in form.
///
/// # Invariants
///
/// `hashes` is made of 1 to [`MAX_CERTIFICATES`] hashes, strictly ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation<'a> {
    hashes: &'a [u8],
}

impl<'a> Revocation<'a> {
    /// Whether bytes begin as a record does. It tells what to do with a file, and nothing about whether to believe it.
    pub fn is_meant(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC.to_le_bytes())
    }

    /// Walks a record without its signature and checks all of it.
    ///
    /// # Errors
    ///
    /// `Reason::Revocation…`, with the offset of what is wrong.
    pub fn parse(body: &'a [u8]) -> Result<Self, Error> {
        if !Self::is_meant(body) {
            return Err(Error::offset(Reason::RevocationMagic, 0));
        }
        // CAST: widening.
        let size = Error::offset(Reason::RevocationSize, body.len() as u64);
        let (head, hashes) = body.split_first_chunk().ok_or(size)?;
        let head = Head::decode(head);
        if head.version != VERSION {
            return Err(Error::offset(Reason::RevocationVersion, 8));
        }
        let count = usize::try_from(head.count).unwrap_or(usize::MAX);
        if !(1..=MAX_CERTIFICATES).contains(&count) {
            return Err(Error::offset(Reason::RevocationCount, 12));
        }
        if count.checked_mul(HASH_SIZE) != Some(hashes.len()) {
            return Err(size);
        }
        let mut at = Head::SIZE;
        let mut previous: &[u8] = &[];
        for hash in hashes.chunks_exact(HASH_SIZE) {
            if hash <= previous {
                // CAST: widening.
                return Err(Error::offset(Reason::RevocationOrder, at as u64));
            }
            previous = hash;
            at = at.saturating_add(HASH_SIZE);
        }
        // INVARIANT: Number, size and order have just been checked.
        Ok(Self { hashes })
    }

    /// The hashes of the certificates, ascending.
    pub fn certificates(&self) -> impl Iterator<Item = Hash> + 'a {
        let hashes = self.hashes.chunks_exact(HASH_SIZE);
        hashes.filter_map(|hash| hash.try_into().ok())
    }
}
