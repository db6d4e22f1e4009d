// SPDX-License-Identifier: GPL-2.0

//! Records, reasons and places: what is written is what is read, and stays so.

use std::collections::BTreeSet;

use kcare_payload::elf::{Header, RelaEntry, SectionHeader, SymbolEntry};
use kcare_payload::error::{Error, Place, Reason, Table};
use kcare_payload::layout::{Callback, Extern, Fix, Func, Manifest, Object, State};
use kcare_payload::uapi::{self, Apply, Info, InfoHead, Unload};
use proptest::prelude::*;

macro_rules! round_trips {
    ($($name:ident: $record:ident, $reserved:expr;)*) => {
        proptest! { $(
            #[test]
            fn $name(bytes in any::<[u8; $record::SIZE]>()) {
                let record = $record::decode(&bytes);
                prop_assert_eq!($record::decode(&record.encode()), record);
                // Every byte but the unnamed ones belongs to exactly one field.
                let mut named = bytes;
                named[$reserved].fill(0);
                prop_assert_eq!(record.encode(), named);
            }
        )* }
    };
}

round_trips! {
    header: Header, 0..0;
    section_header: SectionHeader, 0..0;
    symbol: SymbolEntry, 0..0;
    relocation: RelaEntry, 0..0;
    manifest: Manifest, 0..0;
    func: Func, 0..0;
    external: Extern, 0..0;
    fix: Fix, 0..0;
    callback: Callback, 0..0;
    state: State, 0..0;
    apply: Apply, 0..0;
    unload: Unload, 0..0;
    info_head: InfoHead, 0..0;
    info: Info, 92..96;
}

proptest! {
    #[test]
    fn object(bytes in any::<[u8; Object::SIZE]>()) {
        let object = Object::decode(&bytes);
        prop_assert_eq!(object.encode(), bytes);
        prop_assert!(object.id().len() <= 20);
    }

    #[test]
    fn place(raw in any::<u64>(), kind in 0u64..8, index in any::<u32>()) {
        for raw in [raw, (kind << 56) | u64::from(index), (kind << 56) | (raw >> 12 >> 8)] {
            if let Some(place) = Place::from_raw(raw) {
                prop_assert_eq!(place.raw(), raw);
            }
        }
        let table = [
            Table::Manifest,
            Table::Objects,
            Table::Funcs,
            Table::Externs,
            Table::Fixes,
            Table::Preimages,
            Table::Strings,
            Table::Callbacks,
            Table::States,
        ][(index % 9) as usize];
        let section = index & 0xff_ffff;
        for place in [
            Place::Nowhere,
            Place::Offset(u64::from(index)),
            Place::Section(index),
            Place::Symbol(index),
            Place::Relocation { section, index },
            Place::Entry { table, index },
        ] {
            prop_assert_eq!(Place::from_raw(place.raw()), Some(place));
        }
    }
}

#[test]
fn build_id() {
    let mut object = Object {
        name: 0,
        build_id_len: 4,
        build_id: [7; 20],
        note: 0,
    };
    assert_eq!(object.id(), [7; 4]);
    object.build_id_len = 21;
    assert_eq!(object.id(), []);
}

#[test]
fn ioctl_numbers_are_those_of_the_c_macros() {
    // `_IOWR('k', 0, char[48])` and so on, as the C compiler has them.
    assert_eq!(uapi::IOCTL_APPLY, 0xc030_6b00);
    assert_eq!(uapi::IOCTL_UNLOAD, 0xc020_6b01);
    assert_eq!(uapi::IOCTL_INFO, 0xc1a0_6b02);
    assert_eq!(uapi::IOCTL_ROLLBACK, 0xc020_6b03);
    assert_eq!(uapi::IOCTL_FORGET, 0xc020_6b05);
    assert_eq!(uapi::IOCTL_REVOKE, 0xc030_6b06);
}

#[test]
fn reasons_are_what_the_interface_promises() {
    // One line for each reason that was ever given out: number and name.
    let promised: Vec<(u32, &str)> = include_str!("reasons.tsv")
        .lines()
        .map(|line| {
            let (number, name) = line.split_once('\t').expect("a tab");
            (number.parse().expect("a number"), name)
        })
        .collect();
    let actual: Vec<_> = Reason::ALL.iter().map(|r| (r.number(), r.name())).collect();
    assert_eq!(
        actual, promised,
        "add new reasons to tests/reasons.tsv; change none"
    );
}

#[test]
fn reasons_are_well_formed() {
    let mut names = BTreeSet::new();
    for &reason in Reason::ALL {
        let name = reason.name();
        assert!(names.insert(name), "{name} is there twice");
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(kebab), "{name}");
        assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        assert!(
            !reason.explain().ends_with('.') && reason.explain().len() > 12,
            "{name}"
        );
        assert!((1..134).contains(&reason.errno()), "{name}");
        assert_eq!(Reason::try_from(reason.number()), Ok(reason));
        assert_eq!(Reason::by_name(name), Some(reason));
    }
    assert!(Reason::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(Reason::try_from(0), Err(0));
    assert_eq!(Reason::try_from(u32::MAX), Err(u32::MAX));
    assert_eq!(Reason::by_name(""), None);
}

#[test]
fn places_that_are_never_made() {
    for raw in [
        1,
        6 << 56,
        u64::MAX,
        2 << 56 | 1 << 32,
        5 << 56,
        5 << 56 | 10 << 32,
    ] {
        assert_eq!(Place::from_raw(raw), None, "{raw:#x}");
    }
}

#[test]
fn errors_for_people() {
    let say = |error: Error| error.to_string();
    assert_eq!(
        say(Error::section(Reason::SectionWriteExec, 5)),
        "section-write-exec: a section is both writable and executable (section 5)"
    );
    assert_eq!(
        say(Error::entry(Reason::FuncFlags, Table::Funcs, 3)),
        "func-flags: a function has unknown flags (funcs[3])"
    );
    assert_eq!(
        say(Error::entry(Reason::PreimageRest, Table::Preimages, 64)),
        "preimage-rest: bytes behind the last pre-image belong to no function (preimages at 0x40)"
    );
    let place = Place::Relocation {
        section: 2,
        index: 7,
    };
    assert_eq!(
        say(Error::new(Reason::RelocationType, place)),
        "relocation-type: a relocation has an unknown type (relocation 7 of section 2)"
    );
    assert_eq!(
        say(Error::symbol(Reason::SymbolOther, 9)),
        "symbol-other: a symbol has a visibility other than the default (symbol 9)"
    );
    assert_eq!(
        say(Error::offset(Reason::ElfClass, 4)),
        "elf-class: the ELF class is not 64 bit (offset 0x4)"
    );
    assert_eq!(
        say(Reason::SignatureMissing.into()),
        "signature-missing: the payload carries no signature"
    );
}
