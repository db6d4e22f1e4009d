// SPDX-License-Identifier: GPL-2.0

//! Any bytes, as a signature and as a signed payload: what is taken is what another reader of DER takes, and can be written
//! in no other way.

#![no_main]

use cms::cert::x509::der::asn1::{AnyRef, ObjectIdentifier};
use cms::cert::x509::der::{Decode, Reader, SliceReader, Tag, Tagged};
use kcare_fuzz::mutate_signed;
use kcare_payload::cms::{check, split_first};
use kcare_payload::error::Reason;
use kcare_payload::trailer::{self, trailer_for};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

/// The digests and algorithms that are taken, by their numbers in full.
const DIGESTS: [&str; 6] = [
    "2.16.840.1.101.3.4.2.1",
    "2.16.840.1.101.3.4.2.2",
    "2.16.840.1.101.3.4.2.3",
    "2.16.840.1.101.3.4.2.8",
    "2.16.840.1.101.3.4.2.9",
    "2.16.840.1.101.3.4.2.10",
];
const ALGORITHMS: [&str; 10] = [
    "1.2.840.113549.1.1.1",
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "2.16.840.1.101.3.4.3.17",
    "2.16.840.1.101.3.4.3.18",
    "2.16.840.1.101.3.4.3.19",
];

/// The elements in the content of another one.
fn elements(content: &[u8]) -> Option<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(content).ok()?;
    let mut all = Vec::new();
    while !reader.is_finished() {
        all.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(all)
}

/// The elements of one with a tag, exactly as many.
fn within<'a, const N: usize>(element: AnyRef<'a>, tag: Tag) -> Option<[AnyRef<'a>; N]> {
    if element.tag() != tag {
        return None;
    }
    elements(element.value())?.try_into().ok()
}

fn oid(element: AnyRef<'_>) -> Option<&[u8]> {
    (element.tag() == Tag::ObjectIdentifier).then_some(element.value())
}

/// The number of an algorithm, with parameters NULL or without.
fn algorithm(element: AnyRef<'_>) -> Option<&[u8]> {
    if let Some([number]) = within(element, Tag::Sequence) {
        return oid(number);
    }
    let [number, null] = within(element, Tag::Sequence)?;
    (null.tag() == Tag::Null && null.value().is_empty()).then(|| oid(number))?
}

/// `[0]`, with elements or with bytes.
fn numbered(constructed: bool) -> Tag {
    let number = cms::cert::x509::der::TagNumber::N0;
    Tag::ContextSpecific {
        constructed,
        number,
    }
}

/// RFC 5652, one signer without certificates and attributes: its digest and algorithm.
fn read(signature: &[u8]) -> Option<(&[u8], &[u8])> {
    let known = |text: &str| ObjectIdentifier::new_unwrap(text);
    let whole = AnyRef::from_der(signature).ok()?;
    let [kind, explicit] = within(whole, Tag::Sequence)?;
    let [signed] = within(explicit, numbered(true))?;
    let [version, digests, data, signers] = within(signed, Tag::Sequence)?;
    let [digest] = within(digests, Tag::Set)?;
    let [data] = within(data, Tag::Sequence)?;
    let [signer] = within(signers, Tag::Set)?;
    let [own_version, sid, own_digest, signed_with, octets] = within(signer, Tag::Sequence)?;
    let by_name = |sid| {
        let [issuer, serial] = within(sid, Tag::Sequence)?;
        (issuer.tag() == Tag::Sequence && serial.tag() == Tag::Integer).then_some(())
    };
    match version.value() {
        [1] => by_name(sid)?,
        [3] if sid.tag() == numbered(false) => {}
        _ => return None,
    }
    let good = oid(kind)? == known("1.2.840.113549.1.7.2").as_bytes()
        && oid(data)? == known("1.2.840.113549.1.7.1").as_bytes()
        && version.tag() == Tag::Integer
        && version == own_version
        && digest == own_digest
        && octets.tag() == Tag::OctetString;
    if !good {
        return None;
    }
    Some((algorithm(digest)?, algorithm(signed_with)?))
}

fn check_signature(signature: &[u8]) {
    let is_one_of = |number: &[u8], all: &[&str]| {
        all.iter()
            .any(|text| ObjectIdentifier::new_unwrap(text).as_bytes() == number)
    };
    let wanted = match read(signature) {
        None => Err(Reason::SignatureMalformed),
        Some((digest, _)) if !is_one_of(digest, &DIGESTS) => Err(Reason::DigestWeak),
        Some((_, with)) if !is_one_of(with, &ALGORITHMS) => Err(Reason::AlgorithmUnknown),
        Some(_) => Ok(()),
    };
    assert_eq!(check(signature), wanted);
    if wanted.is_ok() {
        let malformed = Err(Reason::SignatureMalformed);
        assert_eq!(check(&signature[..signature.len() - 1]), malformed);
        assert_eq!(check(&[signature, &[0]].concat()), malformed);
        assert_eq!(split_first(signature), Some((signature, &[][..])));
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_signed(data, size, max_size, seed, |data| {
        fuzzer_mutate(data, size, max_size)
    })
});

fuzz_target!(|data: &[u8]| {
    check_signature(data);
    if let Some((first, rest)) = split_first(data) {
        assert_eq!([first, rest].concat(), data);
        assert_eq!(first[0], 0x30);
    }
    match trailer::split(data) {
        Ok((body, signature)) => {
            assert!(!body.is_empty() && !signature.is_empty());
            let length = u32::try_from(signature.len()).expect("it is small");
            assert_eq!([body, signature, &trailer_for(length)].concat(), data);
            check_signature(signature);
        }
        Err(error) => assert!(matches!(
            error.reason,
            Reason::SignatureMissing | Reason::SignatureMalformed
        )),
    }
});
