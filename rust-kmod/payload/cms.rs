// SPDX-License-Identifier: GPL-2.0

//! The form that a payload's CMS signature has.
//!
//! The kernel's verification (crypto/asymmetric_keys/pkcs7_parser.c) does not look at all of a CMS message, and takes
//! digests that are broken. So that its parser sees no more than it must, this walk demands the form that the kernel's
//! `sign-file` and `openssl cms -noattr -nocerts` write: DER, one signer, no certificates, no attributes, a strong digest
//! and a known algorithm. Whose key it is, and whether it fits the body, is the kernel's business.
//!
//! A signature can be written in more than one such form, by whoever has it: the signer named by serial number or by key
//! identifier, parameters NULL or left out, `s` of an ECDSA signature negated. The body is the same in all of them. What
//! tells payloads apart is therefore the hash of the body, not that of the file.
//!
//! ```text
//! SEQUENCE { OID signedData, [0] { SEQUENCE {
//!     INTEGER version, SET { digest }, SEQUENCE { OID data },
//!     SET { SEQUENCE { INTEGER version, sid, digest, SEQUENCE { OID, NULL? }, OCTET STRING } } } } }
//! ```

use super::error::Reason;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed: the explicit tag around SignedData.
const EXPLICIT_0: u8 = 0xa0;
/// `[0]`, primitive: a signer that is named by its subject key identifier.
const IMPLICIT_0: u8 = 0x80;

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// 2.16.840.1.101.3.4.2, the digests of NIST, and the last numbers of those that are taken: SHA-256, SHA-384, SHA-512,
/// SHA3-256, SHA3-384 and SHA3-512.
const DIGESTS: (&[u8], [u8; 6]) = (
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02],
    [1, 2, 3, 8, 9, 10],
);

/// Signature algorithms, as [`DIGESTS`]. The digest in their names is not asked for: the kernel takes the signer's.
const ALGORITHMS: [(&[u8], &[u8]); 3] = [
    // 1.2.840.113549.1.1: rsaEncryption, and with SHA-256, SHA-384, SHA-512.
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01],
        &[1, 11, 12, 13],
    ),
    // 1.2.840.10045.4.3: ECDSA with SHA-256, SHA-384, SHA-512.
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03], &[2, 3, 4]),
    // 2.16.840.1.101.3.4.3: ML-DSA-44, ML-DSA-65, ML-DSA-87.
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03],
        &[17, 18, 19],
    ),
];

/// How a development key calls itself in the subject of its certificate (scripts/keys): no release trusts it.
pub const DEVELOPMENT: &str = "CN=kcare development key";

/// Checks that `signature` has that form, and nothing behind it.
///
/// # Errors
///
/// [`Reason::SignatureMalformed`]; [`Reason::DigestWeak`] and [`Reason::AlgorithmUnknown`] for one that is in form.
pub fn check(signature: &[u8]) -> Result<(), Reason> {
    let (digest, algorithm) = walk(signature).ok_or(Reason::SignatureMalformed)?;
    let is = |oid: &[u8], arc: &[u8], last: &[u8]| match oid.split_last() {
        Some((number, rest)) => rest == arc && last.contains(number),
        None => false,
    };
    if !is(digest, DIGESTS.0, &DIGESTS.1) {
        return Err(Reason::DigestWeak);
    }
    if !ALGORITHMS
        .iter()
        .any(|(arc, last)| is(algorithm, arc, last))
    {
        return Err(Reason::AlgorithmUnknown);
    }
    Ok(())
}

/// The OIDs of the digest and of the signature's algorithm.
fn walk(signature: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = signature;
    let mut content = take(&mut rest, SEQUENCE)?;
    end(rest)?;
    equal(take(&mut content, OID)?, SIGNED_DATA)?;
    let mut explicit = take(&mut content, EXPLICIT_0)?;
    end(content)?;
    let mut signed = take(&mut explicit, SEQUENCE)?;
    end(explicit)?;

    let version = take(&mut signed, INTEGER)?;
    let mut digests = take(&mut signed, SET)?;
    let mut encapsulated = take(&mut signed, SEQUENCE)?;
    let mut signers = take(&mut signed, SET)?;
    end(signed)?;
    equal(take(&mut encapsulated, OID)?, DATA)?;
    end(encapsulated)?;
    let digest = take(&mut digests, SEQUENCE)?;
    end(digests)?;

    let mut signer = take(&mut signers, SEQUENCE)?;
    end(signers)?;
    // RFC 5652, 5.1 and 5.3: both versions follow from how the signer is named.
    equal(take(&mut signer, INTEGER)?, version)?;
    match version {
        [1] => {
            let mut sid = take(&mut signer, SEQUENCE)?;
            take(&mut sid, SEQUENCE)?;
            take(&mut sid, INTEGER)?;
            end(sid)?;
        }
        [3] => {
            take(&mut signer, IMPLICIT_0)?;
        }
        _ => return None,
    }
    equal(take(&mut signer, SEQUENCE)?, digest)?;
    let digest = algorithm(digest)?;
    let signed_with = algorithm(take(&mut signer, SEQUENCE)?)?;
    take(&mut signer, OCTET_STRING)?;
    end(signer)?;
    Some((digest, signed_with))
}

/// The OID of an algorithm, which has NULL or nothing as parameters.
fn algorithm(mut content: &[u8]) -> Option<&[u8]> {
    let oid = take(&mut content, OID)?;
    if !content.is_empty() {
        equal(take(&mut content, NULL)?, &[])?;
    }
    end(content)?;
    Some(oid)
}

/// Takes one element with this tag off `input` and returns its content. Its length has the shortest form.
fn take<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, rest) = input.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let shortest = match length {
        0..=0x7f => *first < 0x80,
        0x80..=0xff => *first == 0x81,
        _ => true,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    (*found == tag && shortest).then_some(content)
}

/// Splits the first DER element off, which is a SEQUENCE, such as a certificate; its header included.
pub fn split_first(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = der;
    take(&mut rest, SEQUENCE)?;
    der.split_at_checked(der.len().checked_sub(rest.len())?)
}

fn equal(a: &[u8], b: &[u8]) -> Option<()> {
    (a == b).then_some(())
}

fn end(rest: &[u8]) -> Option<()> {
    rest.is_empty().then_some(())
}
