// SPDX-License-Identifier: GPL-2.0

//! What the fuzzers begin with: good payloads of many shapes, and every malformation of one of them.

use crate::asn1;
use crate::common::{build, image, Spec};
use crate::malform;

use kcare_payload::error::Reason;
use kcare_payload::revocation::{self, Head, HASH_SIZE};

/// Longest input of `bundle`, in bytes.
pub const MAX_BUNDLE: usize = 24 << 10;

/// Reasons of form that no input up to these sizes can have, or that only a kernel with keys has.
pub const OUT_OF_REACH: [Reason; 8] = [
    Reason::TooLarge,
    Reason::KeyRejected,
    Reason::KeyRevoked,
    Reason::PayloadCorrupted,
    Reason::SymbolCount,
    Reason::SymbolNames,
    Reason::FuncColdCount,
    Reason::RegionSize,
];

/// The shapes of good payloads.
fn shapes() -> Vec<Spec> {
    let mut all = Vec::new();
    for funcs in [1, 2, 4] {
        for parts in [0, 1, 2] {
            for relocations in [0, 6] {
                all.push(Spec {
                    modules: 0,
                    funcs,
                    externs: 1 + relocations / 2,
                    fixes: funcs - 1,
                    relocations,
                    parts,
                });
            }
        }
    }
    all
}

/// Good payloads.
pub fn good() -> Vec<Vec<u8>> {
    shapes().iter().map(build).collect()
}

/// For `bundle`.
pub fn bundles() -> Vec<Vec<u8>> {
    let mut all = good();
    let small = Spec {
        modules: 0,
        funcs: 2,
        externs: 2,
        fixes: 2,
        relocations: 6,
        parts: 0,
    };
    // A part by itself is malformed as well, but not what is in it.
    all.push(build(&Spec {
        modules: 2,
        ..small.clone()
    }));
    let image = image(&small);
    let cases = malform::all().filter(|case| !OUT_OF_REACH.contains(&case.reason));
    all.extend(cases.filter_map(|case| Some((case.make)(&image)?.0)));
    all.retain(|body| body.len() <= MAX_BUNDLE);
    all
}

/// For `revocation`: good records, and one for each mistake.
pub fn revocations() -> Vec<Vec<u8>> {
    let record = |firsts: &[u8]| {
        let head = Head {
            magic: revocation::MAGIC,
            version: revocation::VERSION,
            count: firsts.len() as u32,
        };
        let hashes = firsts.iter().map(|first| [*first; HASH_SIZE]);
        [&head.encode()[..], &hashes.collect::<Vec<_>>().concat()].concat()
    };
    let good = record(&[1, 2]);
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        bad
    };
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let mistakes = [with(0, 0), with(8, 2), with(12, 0), with(12, 1)];
    let good = [record(&[1]), record(&all), record(&[2, 1]), good.clone()];
    mistakes.into_iter().chain(good).collect()
}

/// For `cms`: signatures, and payloads with one.
pub fn signatures() -> Vec<Vec<u8>> {
    let mut all = asn1::signatures();
    let payloads: Vec<_> = all.iter().map(|s| asn1::signed(b"body", s)).collect();
    all.extend(payloads);
    all
}
