// SPDX-License-Identifier: GPL-2.0

//! The kernel's module-signature trailer: body, PKCS#7 signature, information block, marker.
//!
//! `struct module_signature` and the marker are in include/uapi/linux/module_signature.h; the checks
//! are those of `mod_check_sig()` in kernel/module_signature.c, and a signature of no bytes is
//! refused as well.

use super::{
    error::{
        Error,
        Reason, //
    },
    layout::MAX_PAYLOAD, //
};

/// Last bytes of a signed payload.
pub const MARKER: [u8; 28] = *b"~Module signature appended~\n";
/// Size of `struct module_signature` in bytes.
pub const INFO_SIZE: usize = 12;
/// Bytes behind the signature.
pub const TRAILER_SIZE: usize = INFO_SIZE + MARKER.len();

/// `MODULE_SIGNATURE_TYPE_PKCS7`.
const ID_TYPE_PKCS7: u8 = 2;

/// Splits a signed payload into its body, over which the signature goes, and the signature.
///
/// # Errors
///
/// [`Reason::TooLarge`], [`Reason::SignatureMissing`], or [`Reason::SignatureMalformed`] with the offset
/// of the information block.
pub fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(Reason::TooLarge.into());
    }
    let rest = bytes
        .strip_suffix(&MARKER)
        .ok_or(Error::from(Reason::SignatureMissing))?;
    // CAST: widening, and below MAX_PAYLOAD.
    let malformed = Error::offset(
        Reason::SignatureMalformed,
        rest.len().saturating_sub(INFO_SIZE) as u64,
    );
    let (rest, info) = rest.split_last_chunk::<INFO_SIZE>().ok_or(malformed)?;

    let [algo, hash, id_type, signer_len, key_id_len, pad0, pad1, pad2, len @ ..] = *info;
    let zeroes = [algo, hash, signer_len, key_id_len, pad0, pad1, pad2];
    if id_type != ID_TYPE_PKCS7 || zeroes != [0; 7] {
        return Err(malformed);
    }
    let sig_len = usize::try_from(u32::from_be_bytes(len)).map_err(|_| malformed)?;
    // Neither part may be empty: the kernel refuses `sig_len >= file_len - sizeof(*ms)` too.
    if sig_len == 0 || sig_len >= rest.len() {
        return Err(malformed);
    }
    let body_len = rest.len().saturating_sub(sig_len);
    rest.split_at_checked(body_len).ok_or(malformed)
}

/// The bytes to append behind a body and its signature of `sig_len` bytes.
pub fn trailer_for(sig_len: u32) -> [u8; TRAILER_SIZE] {
    let mut out = [0; TRAILER_SIZE];
    let [s0, s1, s2, s3] = sig_len.to_be_bytes();
    let info = [0, 0, ID_TYPE_PKCS7, 0, 0, 0, 0, 0, s0, s1, s2, s3];
    let all = info.iter().chain(MARKER.iter());
    for (byte, value) in out.iter_mut().zip(all) {
        *byte = *value;
    }
    out
}
