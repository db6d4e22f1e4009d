// SPDX-License-Identifier: GPL-2.0

//! Good payloads of every shape: what is read is what was written, in memory as in the file.

#[allow(dead_code)]
mod common;
#[allow(dead_code)]
#[path = "../malform/mod.rs"]
mod malform;

use std::collections::BTreeMap;

use common::{addend, build, Spec, KINDS, SAMPLE};
use kcare_payload::check::Payload;
use kcare_payload::elf::{Home, SectionKind};
use kcare_payload::error::{Error, Reason, Table};
use kcare_payload::layout::{Func, MAX_COLD_PARTS, SEC_FUNCS, TRAMPOLINE_SIZE};
use kcare_payload::place::{has_content, slots, Layout, Region};
use kcare_payload::reloc::Kind;
use object::read::elf::{ElfFile64, FileHeader as _};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use proptest::prelude::*;

fn specs() -> impl Strategy<Value = Spec> {
    (0u32..6, 1u32..40, 1u32..30, 0u32..5, 0u32..20).prop_map(
        |(modules, funcs, externs, fixes, relocations)| Spec {
            modules,
            funcs,
            externs,
            fixes,
            relocations,
            parts: 0,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn reads_what_was_written(spec in specs()) {
        let body = build(&spec);
        let payload = Payload::parse(&body).expect("it is good");
        prop_assert_eq!(payload.level(), 9);
        prop_assert_eq!(payload.release(), "7.2.9+deb13-cloud-amd64");
        prop_assert_eq!(payload.description(), "9;7.2.12-1");
        prop_assert_eq!(payload.build_time(), 1_795_515_120);
        prop_assert_eq!(payload.objects().count(), spec.modules as usize + 1);
        prop_assert_eq!(payload.funcs().count(), spec.funcs as usize);
        prop_assert_eq!(payload.externs().count(), spec.externs as usize);
        prop_assert_eq!(payload.fixes().count(), spec.fixes as usize);
        prop_assert_eq!(payload.callbacks().map(|c| c.kind).collect::<Vec<_>>(), [0, 3]);
        let states = if spec.modules == 0 { 2 } else { 0 };
        prop_assert_eq!(payload.states().count(), states);
        prop_assert_eq!(payload.target(), spec.modules);
        let relocations = (spec.funcs * spec.relocations) as usize;
        prop_assert_eq!(payload.nr_relocations(), relocations);

        for (i, func) in payload.funcs().enumerate() {
            prop_assert_eq!(payload.string(func.name), format!("original_{i}"));
            let symbol = payload.symbol(func.symbol).expect("it exists");
            prop_assert_eq!(symbol.name, format!("replacement_{i}"));
            let (image, mask) = payload.preimage(&func);
            prop_assert_eq!(image[1], (7 + i) as u8);
            let free: Vec<_> = (0..mask.len()).filter(|&at| mask[at] == 0).collect();
            prop_assert_eq!(free, (0..5).map(|n| func.fentry as usize + n).collect::<Vec<_>>());
        }
        for (i, external) in payload.externs().enumerate() {
            let symbol = payload.symbol(external.symbol).expect("it exists");
            prop_assert_eq!(symbol.name, format!("external_{i}"));
            prop_assert!(symbol.is_undefined());
        }
        let names: Vec<_> = payload.objects().map(|o| payload.string(o.name)).collect();
        prop_assert_eq!(names[0], "vmlinux");
        let trampolines = payload.trampolines().expect("it exists");
        prop_assert_eq!(trampolines.size, u64::from(spec.funcs) * TRAMPOLINE_SIZE as u64);
    }

    #[test]
    fn sections_have_room_of_their_own(spec in specs()) {
        let body = build(&spec);
        let payload = Payload::parse(&body).expect("it is good");
        let layout = Layout::of(&payload).expect("it fits");
        let mut ends: BTreeMap<Region, u64> = BTreeMap::new();
        let mut placed = 0;
        for (section, slot) in slots(&payload) {
            let end = ends.entry(slot.region).or_default();
            prop_assert_eq!(slot.offset % section.align, 0);
            prop_assert!(slot.offset >= *end && slot.offset < *end + section.align);
            *end = slot.offset + section.size;
            prop_assert!(layout.extent(slot.region).align >= section.align);
            prop_assert_eq!(Region::of(&section), Some(slot.region));
            if payload.is_trampolines(&section) {
                prop_assert_eq!((slot.region, slot.offset), (Region::Text, 0));
            }
            placed += 1;
        }
        for region in Region::ALL {
            let end = ends.get(&region).copied().unwrap_or(0);
            prop_assert_eq!(layout.extent(region).size, end);
        }
        prop_assert_eq!(placed, payload.sections().filter(|s| s.is_alloc()).count());
        prop_assert!(ends[&Region::Text] >= TRAMPOLINE_SIZE as u64);
    }

    #[test]
    fn relocated_fields_lead_to_their_symbols(spec in specs()) {
        let body = build(&spec);
        let payload = Payload::parse(&body).expect("it is good");
        let memory = malform::judge(&body).expect("it relocates");
        let places: BTreeMap<_, _> = slots(&payload)
            .map(|(s, slot)| (s.index, malform::region_base(slot.region) + slot.offset))
            .collect();
        let externs: BTreeMap<_, _> = payload
            .externs()
            .map(|e| (e.symbol, malform::object_base(e.object, e.region) + e.offset))
            .collect();
        for rela in payload.sections().filter(|s| s.kind == SectionKind::Rela) {
            let target = rela.target().expect("it has one");
            let content = memory[target as usize].as_ref().expect("it is in memory");
            for r in payload.relocations(&rela) {
                let symbol = payload.symbol(r.symbol).expect("it exists");
                let value = match symbol.home {
                    Home::Section(section) => places[&section] + symbol.value,
                    _ => externs[&r.symbol],
                };
                let at = r.offset as usize;
                let field = &content[at..at + usize::from(r.kind.width())];
                // What the processor will make of the field must be symbol + addend again.
                let read = match *field {
                    [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])) as u64,
                    _ => u64::from_le_bytes(field.try_into().expect("8 bytes")),
                };
                let place = places[&target] + r.offset;
                let reached = match r.kind {
                    Kind::Pc32 | Kind::Plt32 | Kind::Pc64 => read.wrapping_add(place),
                    Kind::Abs32 => read & 0xffff_ffff,
                    Kind::Abs64 | Kind::Abs32S => read,
                };
                prop_assert_eq!(r.addend, addend(r.kind));
                prop_assert_eq!(reached, value.wrapping_add_signed(r.addend));
            }
        }
    }

    #[test]
    fn another_reader_sees_the_same_object(spec in specs()) {
        let body = build(&spec);
        let payload = Payload::parse(&body).expect("it is good");
        let theirs = ElfFile64::<object::LittleEndian>::parse(&body[..]).expect("it is ELF");
        prop_assert!(theirs.elf_header().e_type(object::LittleEndian) == object::elf::ET_REL);
        for section in theirs.sections() {
            let ours = payload.section(section.index().0 as u32).expect("it exists");
            prop_assert_eq!(section.name(), Ok(ours.name));
            prop_assert_eq!(section.size(), ours.size);
            prop_assert_eq!(section.align(), ours.align);
            prop_assert_eq!(section.data(), Ok(ours.data));
            let rela = payload.sections().find(|s| s.target() == Some(ours.index));
            let mut relocations = rela.iter().flat_map(|s| payload.relocations(s));
            for (offset, relocation) in section.relocations() {
                let ours = relocations.next().expect("as many as theirs");
                let object::RelocationFlags::Elf { r_type } = relocation.flags() else {
                    panic!("not ELF");
                };
                let symbol = RelocationTarget::Symbol(object::SymbolIndex(ours.symbol as usize));
                prop_assert_eq!(
                    (offset, r_type.0, relocation.target(), relocation.addend()),
                    (ours.offset, ours.kind.number(), symbol, ours.addend)
                );
            }
            prop_assert_eq!(relocations.next(), None);
        }
        for symbol in theirs.symbols() {
            let ours = payload.symbol(symbol.index().0 as u32).expect("it exists");
            prop_assert_eq!(symbol.name(), Ok(ours.name));
            prop_assert_eq!((symbol.address(), symbol.size()), (ours.value, ours.size));
            prop_assert_eq!(symbol.is_undefined(), ours.is_undefined());
            let section = symbol.section_index().map(|index| index.0 as u32);
            prop_assert_eq!(section, ours.section());
        }
        prop_assert_eq!(theirs.symbols().count() + 1, payload.nr_symbols() as usize);
    }
}

#[test]
fn regions_follow_flags_and_names() {
    let body = build(&SAMPLE);
    let payload = Payload::parse(&body).expect("it is good");
    let region = |name: &str| {
        let mut sections = payload.sections();
        Region::of(&sections.find(|s| s.name == name).expect(name))
    };
    assert_eq!(region(".data.sample"), Some(Region::Data));
    assert_eq!(region(".bss"), Some(Region::Data));
    assert_eq!(region(".rodata.str"), Some(Region::RoData));
    assert_eq!(region("__jump_table"), Some(Region::RoAfterInit));
    assert_eq!(region(".data..ro_after_init"), Some(Region::RoAfterInit));
    assert_eq!(region(".text.kcare_trampolines"), Some(Region::Text));
    assert_eq!(region(".text.replacement_0"), Some(Region::Text));
    assert_eq!(region(".symtab"), None);
    assert_eq!(region(".kcare.manifest"), None);
}

#[test]
fn region_numbers_are_the_kernels() {
    let numbers = Region::ALL.map(Region::index);
    assert_eq!(numbers, [0, 1, 2, 3]);
    let named = [
        Region::Text,
        Region::Data,
        Region::RoData,
        Region::RoAfterInit,
    ];
    assert_eq!(Region::ALL, named);
}

#[test]
fn zeroes_have_no_content() {
    let body = build(&SAMPLE);
    let payload = Payload::parse(&body).expect("it is good");
    for (section, _) in slots(&payload) {
        assert_eq!(has_content(&section), section.name != ".bss");
        let len = if has_content(&section) {
            section.size
        } else {
            0
        };
        assert_eq!(section.data.len() as u64, len);
    }
}

#[test]
fn largest_table_of_functions() {
    let spec = Spec {
        funcs: 8192,
        modules: 255,
        fixes: 8192,
        relocations: 0,
        ..SAMPLE
    };
    // Each function has a section of its own here, and there may be 4096 sections only.
    let body = build(&spec);
    let refused = Payload::parse(&body).map(|_| ());
    assert_eq!(refused, Err(Error::offset(Reason::SectionCount, 60)));
    let spec = Spec {
        funcs: 4000,
        ..spec
    };
    let body = build(&spec);
    let payload = Payload::parse(&body).expect("it is good");
    assert_eq!(payload.funcs().count(), 4000);
    assert_eq!(payload.objects().count(), 256);
    assert_eq!(payload.fixes().count(), 8192);
}

#[test]
fn largest_number_of_cold_parts() {
    let spec = Spec {
        funcs: MAX_COLD_PARTS as u32 + 1,
        relocations: 0,
        ..SAMPLE
    };
    let with_cold_parts = |count: usize| {
        let mut image = common::image(&spec);
        let funcs = image.section(SEC_FUNCS).expect("it has functions");
        for index in 0..funcs.len::<Func>() {
            let cold = |f: &mut Func| {
                let place = (1 << 40) - 64 * u64::from(index);
                (f.cold_offset, f.cold_size) = match (index as usize) < count {
                    true => (place, 64),
                    false => (0, 0),
                };
            };
            funcs.change(index, cold).expect("it exists");
        }
        Payload::parse(&image.write()).map(|_| ())
    };
    assert_eq!(with_cold_parts(MAX_COLD_PARTS), Ok(()));
    let index = MAX_COLD_PARTS as u32;
    let refused = Error::entry(Reason::FuncColdCount, Table::Funcs, index);
    assert_eq!(with_cold_parts(MAX_COLD_PARTS + 1), Err(refused));
}

#[test]
fn every_kind_of_relocation_is_in_the_sample() {
    let body = build(&SAMPLE);
    let payload = Payload::parse(&body).expect("it is good");
    for kind in KINDS {
        let mut all = payload
            .sections()
            .flat_map(|s| payload.relocations(&s).collect::<Vec<_>>());
        assert!(all.any(|r| r.kind == kind), "{}", kind.name());
    }
}
