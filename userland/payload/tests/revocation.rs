// SPDX-License-Identifier: GPL-2.0

//! Revocation records: what is read is what was written, and everything else is refused for its reason, at its place.

use kcare_payload::error::{Error, Reason};
use kcare_payload::revocation::{Hash, Head, Revocation, HASH_SIZE, MAGIC, MAX_CERTIFICATES};
use proptest::prelude::*;

/// A record of these hashes, in the order given.
fn record(hashes: &[Hash]) -> Vec<u8> {
    let head = Head {
        magic: MAGIC,
        version: 1,
        count: hashes.len() as u32,
    };
    [&head.encode()[..], &hashes.concat()].concat()
}

fn hash(first: u8) -> Hash {
    let mut hash = [0x5a; HASH_SIZE];
    hash[0] = first;
    hash
}

/// Why it is refused, and at which offset.
fn refused(body: &[u8]) -> Error {
    Revocation::parse(body).expect_err("it is malformed")
}

#[test]
fn the_layout() {
    let body = record(&[hash(1), hash(2)]);
    assert_eq!(&body[..16], b"KCARERV\0\x01\0\0\0\x02\0\0\0");
    assert_eq!(body.len(), 16 + 2 * 32);
}

#[test]
fn what_was_written_is_read() {
    let most: Vec<Hash> = (0..MAX_CERTIFICATES).map(|n| hash(n as u8)).collect();
    for hashes in [&most[..1], &most[..3], &most] {
        let body = record(hashes);
        let read: Vec<Hash> = Revocation::parse(&body).unwrap().certificates().collect();
        assert_eq!(read, hashes);
    }
}

#[test]
fn each_mistake_has_its_reason() {
    let good = record(&[hash(1), hash(2), hash(3)]);
    let with = |at: usize, value: u8| {
        let mut body = good.clone();
        body[at] = value;
        body
    };
    for at in 0..8 {
        let error = Error::offset(Reason::RevocationMagic, 0);
        assert_eq!(refused(&with(at, 0xff)), error);
    }
    let version = Error::offset(Reason::RevocationVersion, 8);
    for bad in [with(8, 0), with(8, 2), with(11, 1)] {
        assert_eq!(refused(&bad), version);
    }
    let count = Error::offset(Reason::RevocationCount, 12);
    for bad in [with(12, 0), with(15, 1), with(15, 0xff)] {
        assert_eq!(refused(&bad), count);
    }
    let many: Vec<Hash> = (0..=MAX_CERTIFICATES)
        .map(|n| (n as u16).to_be_bytes())
        .map(|[a, b]| {
            let mut hash = hash(a);
            hash[1] = b;
            hash
        })
        .collect();
    assert_eq!(refused(&record(&many)), count);
    assert_eq!(refused(&record(&[])), count);
    for (bad, at) in [
        (record(&[hash(1), hash(1)]), 16 + 32),
        (record(&[hash(1), hash(3), hash(2)]), 16 + 64),
        (record(&[hash(2), hash(1), hash(3)]), 16 + 32),
    ] {
        assert_eq!(refused(&bad), Error::offset(Reason::RevocationOrder, at));
    }
    for count in [2, 4] {
        let size = Error::offset(Reason::RevocationSize, good.len() as u64);
        assert_eq!(refused(&with(12, count)), size);
    }
}

#[test]
fn every_truncation_and_every_byte_more_is_refused() {
    let good = record(&[hash(1), hash(2)]);
    for len in 0..good.len() {
        let expected = match len {
            0..8 => Error::offset(Reason::RevocationMagic, 0),
            _ => Error::offset(Reason::RevocationSize, len as u64),
        };
        assert_eq!(refused(&good[..len]), expected, "cut to {len} bytes");
    }
    let longer = [&good[..], &[0]].concat();
    let size = Error::offset(Reason::RevocationSize, longer.len() as u64);
    assert_eq!(refused(&longer), size);
}

proptest! {
    /// Whatever is accepted is written again as the same bytes: there is one form of a record.
    #[test]
    fn one_form(
        hashes in prop::collection::btree_set(any::<Hash>(), 1..5),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let hashes: Vec<Hash> = hashes.into_iter().collect();
        let mut body = record(&hashes);
        let at = at.index(body.len());
        body[at] = value;
        if let Ok(revocation) = Revocation::parse(&body) {
            let hashes: Vec<Hash> = revocation.certificates().collect();
            prop_assert_eq!(record(&hashes), body);
        }
    }
}
