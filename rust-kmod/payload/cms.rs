// SPDX-License-Identifier: GPL-2.0

//! The one form that a payload's CMS signature has.
//!
//! The kernel's verification (crypto/asymmetric_keys/pkcs7_parser.c) does not look at all of a CMS message:
//! the outer list of digest algorithms, parameters and some bits of tags may be anything. So that there is no
//! second form of a signed payload, this walk demands the form that the kernel's `sign-file` and
//! `openssl cms -noattr -nocerts` write: DER, one signer, no certificates, no attributes. What it says of
//! keys and digests is the kernel's business.
//!
//! ```text
//! SEQUENCE { OID signedData, [0] { SEQUENCE {
//!     INTEGER version, SET { digest }, SEQUENCE { OID data },
//!     SET { SEQUENCE { INTEGER version, sid, digest, SEQUENCE { OID, NULL? }, OCTET STRING } } } } }
//! ```

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

/// Whether `signature` has that form, and nothing behind it.
pub fn is_canonical(signature: &[u8]) -> bool {
    walk(signature).is_some()
}

fn walk(signature: &[u8]) -> Option<()> {
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
    algorithm(digest)?;
    algorithm(take(&mut signer, SEQUENCE)?)?;
    take(&mut signer, OCTET_STRING)?;
    end(signer)
}

/// An algorithm: its OID, and NULL or nothing as parameters.
fn algorithm(mut content: &[u8]) -> Option<()> {
    take(&mut content, OID)?;
    if !content.is_empty() {
        equal(take(&mut content, NULL)?, &[])?;
    }
    end(content)
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

fn equal(a: &[u8], b: &[u8]) -> Option<()> {
    (a == b).then_some(())
}

fn end(rest: &[u8]) -> Option<()> {
    rest.is_empty().then_some(())
}
