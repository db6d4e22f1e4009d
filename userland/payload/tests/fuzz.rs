// SPDX-License-Identifier: GPL-2.0

//! Whatever the bytes: no panic, and what is accepted keeps every promise.

#[allow(dead_code)]
mod common;
#[allow(dead_code)]
#[path = "../malform/mod.rs"]
mod malform;

use common::{build, Spec, SAMPLE};
use kcare_payload::check::Payload;
use kcare_payload::elf::{Header, SectionKind, MAGIC};
use kcare_payload::error::Reason;
use kcare_payload::layout::MAX_STRING;
use kcare_payload::place::{slots, Layout, Region};
use kcare_payload::trailer;
use proptest::prelude::*;

/// Parses bytes and, if they are accepted, uses all that can be used; says whether they were.
fn explore(body: &[u8]) -> bool {
    let Ok(payload) = Payload::parse(body) else {
        return false;
    };
    let elf = payload.elf();
    assert_eq!(payload.sections().count(), payload.nr_sections() as usize);
    assert_eq!(payload.symbols().count(), payload.nr_symbols() as usize);
    assert_eq!(payload.objects().count(), payload.nr_objects() as usize);
    assert_eq!(payload.funcs().count(), payload.nr_funcs() as usize);
    assert_eq!(
        payload.externs().count(),
        payload.manifest().nr_externs as usize
    );
    assert_eq!(
        payload.fixes().count(),
        payload.manifest().nr_fixes as usize
    );
    for section in payload.sections() {
        assert!(!(section.is_write() && section.is_exec()));
        assert!(section.align.is_power_of_two() && section.align <= 4096);
        if section.kind != SectionKind::NoBits {
            assert_eq!(section.data.len() as u64, section.size);
        }
        let relocations = payload.relocations(&section);
        let count = relocations.len();
        assert_eq!(relocations.count(), count);
        if let Some(target) = section.target() {
            let target = payload.section(target).expect("it exists");
            for relocation in payload.relocations(&section) {
                let end = relocation.offset + u64::from(relocation.kind.width());
                assert!(end <= target.size);
                assert!((1..payload.nr_symbols()).contains(&relocation.symbol));
            }
        }
    }
    for symbol in payload.symbols() {
        if let Some(section) = symbol.section() {
            let section = payload.section(section).expect("it exists");
            assert!(section.is_alloc() && symbol.value + symbol.size <= section.size);
        }
    }
    let undefined = elf.symbols().filter(|s| s.is_undefined()).map(|s| s.index);
    assert!(undefined.eq(payload.externs().map(|e| e.symbol)));
    let mut end = (0, 0);
    for func in payload.funcs() {
        let start = (func.object, func.offset);
        assert!(start >= end);
        end = (func.object, func.offset + u64::from(func.size));
        let cold = (
            func.cold_offset,
            func.cold_offset + u64::from(func.cold_size),
        );
        for other in payload.funcs().filter(|f| f.object == func.object) {
            assert!(cold.1 <= other.offset || other.offset + u64::from(other.size) <= cold.0);
        }
        let (image, mask) = payload.preimage(&func);
        assert_eq!(
            (image.len(), mask.len()),
            (func.size as usize, func.size as usize)
        );
        assert!(!payload.string(func.name).is_empty());
        assert!(payload.object(func.object).is_some());
    }
    let texts = [payload.release(), payload.description()];
    for text in texts
        .into_iter()
        .chain(payload.fixes().map(|f| payload.string(f.title)))
    {
        assert!(text.len() <= MAX_STRING && !text.contains(char::is_control));
    }
    if let Ok(layout) = Layout::of(&payload) {
        for (section, slot) in slots(&payload) {
            assert!(slot.offset + section.size <= layout.extent(slot.region).size);
        }
        assert!(layout.extent(Region::Text).size >= 32);
    }
    match malform::judge(body) {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(
                error.reason,
                Reason::RelocationOverflow | Reason::RegionSize
            ),
            "{error}"
        ),
    }
    true
}

/// A payload of the smallest size that still has every part.
fn small() -> Vec<u8> {
    build(&Spec {
        modules: 1,
        funcs: 2,
        externs: 2,
        fixes: 1,
        relocations: 3,
        parts: 0,
    })
}

#[test]
fn every_single_bit() {
    let good = small();
    assert!(explore(&good));
    let mut body = good.clone();
    let mut accepted = 0;
    for at in 0..body.len() * 8 {
        body[at / 8] ^= 1 << (at % 8);
        accepted += usize::from(explore(&body));
        body[at / 8] ^= 1 << (at % 8);
    }
    // Code, names and numbers that have no wrong value: many, but far from all.
    assert!(accepted > 0 && accepted < body.len() * 6, "{accepted}");
}

#[test]
fn extreme_words_everywhere() {
    let good = small();
    let words = [
        0,
        1,
        0x7f,
        0x80,
        0xff,
        1 << 16,
        i32::MAX as u64,
        1 << 31,
        u64::from(u32::MAX),
    ];
    let longs = [1 << 32, i64::MAX as u64, 1 << 63, u64::MAX - 7, u64::MAX];
    for at in (0..good.len() - 8).step_by(2) {
        let mut body = good.clone();
        for word in words {
            body[at..at + 4].copy_from_slice(&word.to_le_bytes()[..4]);
            explore(&body);
        }
        for long in longs {
            body[at..at + 8].copy_from_slice(&long.to_le_bytes());
            explore(&body);
        }
    }
}

#[test]
fn every_part_moved_onto_every_other() {
    let good = small();
    let step = 24;
    for from in (0..good.len() - step).step_by(8) {
        for to in (0..good.len() - step).step_by(104) {
            let mut body = good.clone();
            body.copy_within(from..from + step, to);
            explore(&body);
        }
    }
}

#[test]
fn malformed_twice() {
    let image = common::image(&SAMPLE);
    let good = image.write();
    // Only what keeps its length can be laid over something else.
    let bad: Vec<_> = malform::all()
        .filter_map(|case| (case.make)(&image))
        .map(|(file, _)| file)
        .filter(|file| file.len() == good.len())
        .collect();
    assert!(bad.len() > 100, "{}", bad.len());
    for (number, first) in bad.iter().enumerate() {
        for second in &bad[number + 1..] {
            let three = good.iter().zip(first).zip(second);
            let both: Vec<u8> = three.map(|((g, a), b)| g ^ (g ^ a) ^ (g ^ b)).collect();
            explore(&both);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(body in prop::collection::vec(any::<u8>(), 0..4096)) {
        explore(&body);
        let _ = trailer::split(&body);
    }

    #[test]
    fn random_sections_behind_a_good_header(
        mut body in prop::collection::vec(any::<u8>(), 64..4096),
        sections in 0u16..60,
    ) {
        let size = 64 * usize::from(sections);
        let header = Header {
            magic: MAGIC,
            class: 2,
            data: 1,
            ident_version: 1,
            kind: 1,
            machine: 62,
            version: 1,
            ehsize: 64,
            shentsize: 64,
            shoff: body.len().saturating_sub(size) as u64,
            shnum: sections,
            shstrndx: 1,
            ..Header::default()
        };
        body[..64].copy_from_slice(&header.encode());
        explore(&body);
    }

    #[test]
    fn several_changes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut body = small();
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        explore(&body);
    }

    #[test]
    fn changed_headers(
        index in any::<prop::sample::Index>(),
        field in 0usize..14,
        value in prop_oneof![any::<u32>(), 0u32..200, Just(u32::MAX)],
    ) {
        let mut body = small();
        let shoff = u64::from_le_bytes(body[40..48].try_into().expect("8 bytes")) as usize;
        let sections = (body.len() - shoff) / 64;
        let at = shoff + 64 * index.index(sections) + 4 * field;
        body[at..at + 4].copy_from_slice(&value.to_le_bytes());
        explore(&body);
    }
}
