// SPDX-License-Identifier: GPL-2.0

//! Any bytes, as the signature of a payload whose signer the agent names, and as the whole payload.

#![no_main]

// The agent's own files, without the rest of the agent, which has servers and TLS in it.
#[allow(dead_code)]
#[path = "../../../kcare/src/signer.rs"]
mod signer;
#[allow(dead_code)]
#[path = "../../../kcare/src/text.rs"]
mod text;

// `text` has a calendar that nobody calls here.
extern crate self as kcare_tuf;
mod time {
    pub struct Time;
    impl Time {
        pub fn from_unix_seconds(_: i64) -> Option<String> {
            None
        }
    }
}

use kcare_fuzz::{asn1, mutate_signed};
use kcare_payload::elf::is_directional;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fn check_name(payload: &[u8]) -> Option<String> {
    let name = signer::of(payload)?;
    // It goes to a terminal.
    let tricky = |c: char| (c.is_control() && c != '\n') || is_directional(c);
    assert!(!name.contains(tricky), "{name:?}");
    Some(name)
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_signed(data, size, max_size, seed, |data| {
        fuzzer_mutate(data, size, max_size)
    })
});

fuzz_target!(|data: &[u8]| {
    check_name(data);
    let name = check_name(&asn1::signed(b"body", data));
    // In the form that a payload's signature has, a key identifier is always read.
    if kcare_payload::cms::check(data).is_ok() {
        match asn1::key_identifier(data) {
            Some(key) => assert_eq!(name, Some(format!("key {}", text::hex(&key)))),
            None => assert!(name.is_none_or(|name| name.contains(", serial "))),
        }
    }
});
