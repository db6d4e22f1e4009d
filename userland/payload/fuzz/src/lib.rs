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

/// Puts a changed input in the place of the one before and returns its length; `None` if there is none, or no room.
pub fn put(changed: Option<Vec<u8>>, data: &mut [u8], max_size: usize) -> Option<usize> {
    let changed = changed.filter(|changed| changed.len() <= max_size)?;
    data.get_mut(..changed.len())?.copy_from_slice(&changed);
    Some(changed.len())
}
