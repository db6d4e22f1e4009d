// SPDX-License-Identifier: GPL-2.0

//! What the fuzzers' inputs are made of: samples, and ways to change them that keep most of their structure.
//!
//! Bytes go in and bytes come out, so that nothing here depends on the instrumented format.

#![forbid(unsafe_code)]

#[allow(dead_code)]
#[path = "../../tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../../malform/mod.rs"]
mod malform;

pub mod asn1;
pub mod mutate;
pub mod random;
pub mod samples;

use random::Random;

/// Puts a changed input in the place of the one before and returns its length; `None` if there is none, or no room.
pub fn put(changed: Option<Vec<u8>>, data: &mut [u8], max_size: usize) -> Option<usize> {
    let changed = changed.filter(|changed| changed.len() <= max_size)?;
    data.get_mut(..changed.len())?.copy_from_slice(&changed);
    Some(changed.len())
}

/// What the targets for signatures do to an input of `size` bytes: now and then what libFuzzer does (`otherwise`), else a change
/// of its elements. Gives its new length, at most `max_size`.
pub fn mutate_signed(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    otherwise: impl FnOnce(&mut [u8]) -> usize,
) -> usize {
    let mut random = Random::new(seed);
    let changed = match random.once_in(3) {
        true => None,
        false => asn1::mutate_signed(&data[..size], &mut random),
    };
    put(changed, data, max_size).unwrap_or_else(|| otherwise(data))
}
