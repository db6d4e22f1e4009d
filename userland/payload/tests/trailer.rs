// SPDX-License-Identifier: GPL-2.0

//! The module-signature trailer.

use kcare_payload::error::{Error, Reason};
use kcare_payload::layout::MAX_PAYLOAD;
use kcare_payload::trailer::{split, trailer_for, INFO_SIZE, MARKER, TRAILER_SIZE};
use proptest::prelude::*;

const BODY: &[u8] = b"the body";
const SIGNATURE: &[u8] = b"the signature";

fn signed() -> Vec<u8> {
    join(BODY, SIGNATURE)
}

fn join(body: &[u8], signature: &[u8]) -> Vec<u8> {
    let len = u32::try_from(signature.len()).expect("it is short");
    [body, signature, &trailer_for(len)].concat()
}

/// The refusal of a trailer whose information block is where `signed()` has it.
fn malformed() -> Error {
    let offset = BODY.len() + SIGNATURE.len();
    Error::offset(Reason::SignatureMalformed, offset as u64)
}

#[test]
fn trailer_has_the_form_that_the_kernel_reads() {
    let trailer = trailer_for(0x0102_0304);
    assert_eq!(trailer[..INFO_SIZE], [0, 0, 2, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(&trailer[INFO_SIZE..], b"~Module signature appended~\n");
    assert_eq!(TRAILER_SIZE, 40);
}

#[test]
fn missing() {
    let missing = Err(Reason::SignatureMissing.into());
    assert_eq!(split(&[]), missing);
    assert_eq!(split(BODY), missing);
    let mut cut = signed();
    cut.pop();
    assert_eq!(split(&cut), missing);
    let mut more = signed();
    more.push(b'\n');
    assert_eq!(split(&more), missing);
}

#[test]
fn only_a_marker() {
    let at_start = Err(Error::offset(Reason::SignatureMalformed, 0));
    assert_eq!(split(&MARKER), at_start);
    assert_eq!(split(&trailer_for(0)), at_start);
    assert_eq!(split(&trailer_for(0)[1..]), at_start);
}

#[test]
fn too_large() {
    let mut bytes = vec![0; MAX_PAYLOAD + 1];
    let trailer = trailer_for(1);
    let at = bytes.len() - trailer.len();
    bytes[at..].copy_from_slice(&trailer);
    assert_eq!(split(&bytes), Err(Reason::TooLarge.into()));
    assert!(split(&bytes[1..]).is_ok());
}

#[test]
fn each_field_of_the_block_is_checked() {
    let block = BODY.len() + SIGNATURE.len();
    // Algorithm, hash, type, name and key lengths, padding: one wrong value each.
    for field in 0..8 {
        let mut bytes = signed();
        bytes[block + field] ^= 1;
        assert_eq!(split(&bytes), Err(malformed()), "byte {field}");
    }
}

#[test]
fn length_of_the_signature() {
    let block = BODY.len() + SIGNATURE.len();
    let all = u32::try_from(block).expect("it is short");
    let with = |len: u32| {
        let mut bytes = signed();
        bytes[block + 8..block + 12].copy_from_slice(&len.to_be_bytes());
        split(&bytes).map(|(body, signature)| (body.len(), signature.len()))
    };
    for wrong in [0, all, all + 1, all + 12, 1 << 31, u32::MAX] {
        assert_eq!(with(wrong), Err(malformed()), "length {wrong}");
    }
    assert_eq!(with(1), Ok((block - 1, 1)));
    assert_eq!(with(all - 1), Ok((1, block - 1)));
}

proptest! {
    #[test]
    fn round_trip(
        body in prop::collection::vec(any::<u8>(), 1..200),
        signature in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let bytes = join(&body, &signature);
        prop_assert_eq!(split(&bytes), Ok((&body[..], &signature[..])));
    }

    #[test]
    fn what_is_split_is_the_whole(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        bytes.extend(MARKER);
        if let Ok((body, signature)) = split(&bytes) {
            let rest = &bytes[body.len() + signature.len()..];
            prop_assert_eq!(rest.len(), TRAILER_SIZE);
            prop_assert_eq!([body, signature, rest].concat(), bytes);
        }
    }
}
