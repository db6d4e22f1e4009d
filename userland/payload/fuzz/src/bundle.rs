// SPDX-License-Identifier: GPL-2.0

//! Any bytes, as a payload without its signature: what is accepted can be loaded.

#![no_main]

mod loader;

use kcare_fuzz::random::Random;
use kcare_fuzz::{mutate, put};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed);
    // Plain bytes now and then, for the ELF header and whatever the mutator takes for granted.
    let changed = match random.once_in(6) {
        true => None,
        false => mutate::payload(&data[..size], &mut random),
    };
    put(changed, data, max_size).unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});

fuzz_target!(|data: &[u8]| {
    let _ = loader::load(data);
});
