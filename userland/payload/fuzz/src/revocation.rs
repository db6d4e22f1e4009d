// SPDX-License-Identifier: GPL-2.0

//! Any bytes, as a revocation record without its signature: what is taken, and what it says, is what another reader says.

#![no_main]

use kcare_payload::revocation::{Hash, Revocation};
use libfuzzer_sys::fuzz_target;

/// The hashes of a record, or nothing for what is none.
fn read(record: &[u8]) -> Option<Vec<Hash>> {
    let rest = record.strip_prefix(b"KCARERV\0\x01\0\0\0")?;
    let (count, rest) = rest.split_first_chunk()?;
    let hashes: Result<Vec<Hash>, _> = rest.chunks(32).map(Hash::try_from).collect();
    let hashes = hashes.ok()?;
    let ascending = hashes.windows(2).all(|pair| pair[0] < pair[1]);
    let counted = u32::from_le_bytes(*count) as usize == hashes.len();
    (ascending && counted && (1..=256).contains(&hashes.len())).then_some(hashes)
}

fuzz_target!(|data: &[u8]| {
    let taken = Revocation::parse(data).ok();
    let hashes = taken.map(|revocation| revocation.certificates().collect());
    assert_eq!(hashes, read(data));
});
