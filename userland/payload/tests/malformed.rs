// SPDX-License-Identifier: GPL-2.0

//! Every malformation is refused for its own reason at its own place, and every reason of the format
//! has a malformation.

#[allow(dead_code)]
mod common;
#[allow(dead_code)]
#[path = "../malform/mod.rs"]
mod malform;

use std::collections::BTreeSet;

use kcare_payload::check::Payload;
use kcare_payload::error::{Error, Place, Reason};
use kcare_payload::layout::MAX_PAYLOAD;

/// Reasons below this number are about the payload's form.
const FORM_END: u32 = 256;

#[test]
fn good_payload_is_accepted() {
    let body = common::build(&common::SAMPLE);
    let memory = malform::judge(&body).expect("it is good");
    // Six sections that are always there, and one for each function.
    assert_eq!(
        memory.iter().flatten().count(),
        6 + common::SAMPLE.funcs as usize
    );
}

#[test]
fn every_malformation_has_its_reason_and_place() {
    let image = common::image(&common::SAMPLE);
    let mut failures = Vec::new();
    for case in malform::all() {
        let Some((file, place)) = (case.make)(&image) else {
            failures.push(format!("{}: does not apply", case.slug));
            continue;
        };
        let expected = Error::new(case.reason, place);
        match malform::judge(&file) {
            Err(error) if error == expected => {}
            Err(error) => failures.push(format!("{}: {error}, not {expected}", case.slug)),
            Ok(_) => failures.push(format!("{}: accepted", case.slug)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn only_the_relocator_refuses_values() {
    let image = common::image(&common::SAMPLE);
    for case in malform::relocations::VALUES {
        let (file, _) = (case.make)(&image).expect(case.slug);
        assert!(Payload::parse(&file).is_ok(), "{}", case.slug);
    }
}

#[test]
fn slugs_are_unique() {
    let slugs: Vec<_> = malform::all().map(|case| case.slug).collect();
    let unique: BTreeSet<_> = slugs.iter().collect();
    assert_eq!(unique.len(), slugs.len());
    assert!(slugs.len() >= 60, "{}", slugs.len());
}

#[test]
fn every_reason_of_the_format_is_reached() {
    let reached: BTreeSet<_> = malform::all().map(|case| case.reason.number()).collect();
    // These are about the file around the body, or need a key: tests/trailer.rs, tests/cms.rs, and below. Thousands of functions are
    // made in tests/payload.rs.
    // The last ones are about a payload and its parts, and about revocation records: tests/bundle.rs, tests/revocation.rs.
    let elsewhere = [
        Reason::TooLarge,
        Reason::SignatureMissing,
        Reason::SignatureMalformed,
        Reason::KeyRejected,
        Reason::PayloadCorrupted,
        Reason::DigestWeak,
        Reason::AlgorithmUnknown,
        Reason::KeyRevoked,
        Reason::FuncColdCount,
        Reason::ObjectUnused,
        Reason::PartOrder,
        Reason::PartName,
        Reason::PartForeign,
        Reason::PartNested,
        Reason::RevocationMagic,
        Reason::RevocationVersion,
        Reason::RevocationCount,
        Reason::RevocationSize,
        Reason::RevocationOrder,
    ];
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| reason.number() < FORM_END)
        .filter(|reason| !reached.contains(&reason.number()) && !elsewhere.contains(reason))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn empty_and_huge_files() {
    let small = Payload::parse(&[]).expect_err("it is empty");
    assert_eq!(small, Error::from(Reason::TooSmall));
    let huge = Payload::parse(&vec![0; MAX_PAYLOAD + 1]).map(|_| ());
    assert_eq!(huge, Err(Error::new(Reason::TooLarge, Place::Nowhere)));
}

#[test]
fn every_truncation_is_refused() {
    let body = common::build(&common::SAMPLE);
    for len in 0..body.len() {
        let expected = if len < 64 {
            Error::from(Reason::TooSmall)
        } else {
            Error::offset(Reason::SectionTable, 40)
        };
        let got = Payload::parse(&body[..len]).map(|_| ());
        assert_eq!(got, Err(expected), "cut to {len} bytes");
    }
}
