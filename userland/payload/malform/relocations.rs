// SPDX-License-Identifier: GPL-2.0

//! Relocations: their form, and values that do not fit.

use kcare_payload::elf::{RelaEntry, SymbolEntry, SHN_ABS, SHT_RELA};
use kcare_payload::error::{Place, Reason};
use kcare_payload::layout::{Extern, SEC_EXTERNS, SEC_TRAMPOLINES};
use kcare_payload::reloc::Kind;

use super::image::{edit, Image, Made, Record};
use super::{cases, Case};

/// Changes one relocation of the first section that has some.
fn entry(image: &Image, index: u32, change: impl FnOnce(&mut RelaEntry)) -> Option<Made> {
    let section = image.rela()?;
    edit(image, |image| {
        image[section as usize].change(index, change)?;
        Some(Place::Relocation { section, index })
    })
}

/// Changes the last relocation of the first section that has some, knowing the size of its target.
fn last(image: &Image, change: impl FnOnce(&mut RelaEntry, u64)) -> Option<Made> {
    let section = &image[image.rela()? as usize];
    let target = image[section.header.info as usize].data.len() as u64;
    entry(image, section.len::<RelaEntry>() - 1, |r| change(r, target))
}

/// Replaces a relocation's type.
fn set_kind(relocation: &mut RelaEntry, kind: u32) {
    relocation.info = (relocation.info >> 32 << 32) | u64::from(kind);
}

/// Replaces a relocation's symbol.
fn set_symbol(relocation: &mut RelaEntry, symbol: u32) {
    relocation.info = (u64::from(symbol) << 32) | (relocation.info & 0xffff_ffff);
}

/// The first relocation that fits, as the section's and its own index.
fn find(image: &Image, fits: impl Fn(&RelaEntry) -> bool) -> Option<(u32, u32)> {
    let sections = (0u32..)
        .zip(image.iter())
        .filter(|(_, c)| c.header.kind == SHT_RELA);
    for (section, chunk) in sections {
        for index in 0..chunk.len::<RelaEntry>() {
            if fits(&chunk.get(index)?) {
                return Some((section, index));
            }
        }
    }
    None
}

/// Whether a relocation's value is 32 bits relative to its place.
fn is_pc32(relocation: &RelaEntry) -> bool {
    [Kind::Pc32, Kind::Plt32]
        .iter()
        .any(|kind| u64::from(kind.number()) == relocation.info & 0xffff_ffff)
}

/// Changes the first 32-bit relative relocation.
fn pc32(image: &Image, change: impl FnOnce(&mut RelaEntry)) -> Option<Made> {
    let (section, index) = find(image, is_pc32)?;
    edit(image, |image| {
        image[section as usize].change(index, change)?;
        Some(Place::Relocation { section, index })
    })
}

/// Moves the first external symbol that a 32-bit relative relocation refers to.
fn pc32_extern(image: &Image, offset: u64) -> Option<Made> {
    let externs = &image[image.named(SEC_EXTERNS)? as usize];
    let number = |symbol: u64| {
        let mut indices = 0..externs.len::<Extern>();
        indices.find(|&i| {
            externs
                .get::<Extern>(i)
                .is_some_and(|e| u64::from(e.symbol) == symbol)
        })
    };
    let is_extern = |r: &RelaEntry| is_pc32(r) && number(r.info >> 32).is_some();
    let (section, index) = find(image, is_extern)?;
    let relocation: RelaEntry = image[section as usize].get(index)?;
    let number = number(relocation.info >> 32)?;
    edit(image, |image| {
        let externs = image.section(SEC_EXTERNS)?;
        externs.change(number, |e: &mut Extern| e.offset = offset)?;
        Some(Place::Relocation { section, index })
    })
}

cases! {
    "relocation-type-none" RelocationType |image| entry(image, 0, |r| set_kind(r, 0));
    "relocation-type-got" RelocationType |image| entry(image, 0, |r| set_kind(r, 9));
    "relocation-type-copy" RelocationType |image| entry(image, 0, |r| set_kind(r, 5));
    "relocation-type-16" RelocationType |image| entry(image, 0, |r| set_kind(r, 12));
    "relocation-type-relax" RelocationType |image| entry(image, 0, |r| set_kind(r, 42));
    "relocation-type-max" RelocationType |image| entry(image, 0, |r| set_kind(r, u32::MAX));
    "relocation-at-end" RelocationRange |image| last(image, |r, size| r.offset = size);
    "relocation-straddles-end" RelocationRange |image| last(image, |r, size| r.offset = size - 1);
    "relocation-8-straddles-end" RelocationRange |image| last(image, |r, size| {
        set_kind(r, Kind::Abs64.number());
        r.offset = size - 7;
    });
    "relocation-far-outside" RelocationRange |image| last(image, |r, _| r.offset = 1 << 32);
    "relocation-offset-max" RelocationRange |image| last(image, |r, _| r.offset = u64::MAX);
    "relocation-offset-wraps" RelocationRange |image| last(image, |r, _| r.offset = u64::MAX - 3);
    "relocation-same-place" RelocationOrder |image| {
        let first: RelaEntry = image[image.rela()? as usize].get(0)?;
        entry(image, 1, |r| *r = first)
    };
    "relocation-overlap" RelocationOrder |image| {
        let first: RelaEntry = image[image.rela()? as usize].get(0)?;
        entry(image, 1, |r| r.offset = first.offset + 1)
    };
    "relocation-order" RelocationOrder |image| {
        let second: RelaEntry = image[image.rela()? as usize].get(1)?;
        edit(image, |image| {
            let section = image.rela()?;
            let chunk = &mut image[section as usize];
            let first: RelaEntry = chunk.get(0)?;
            chunk.set(0, &second);
            chunk.set(1, &first);
            Some(Place::Relocation { section, index: 1 })
        })
    };
    "relocation-symbol-zero" RelocationSymbol |image| entry(image, 0, |r| set_symbol(r, 0));
    "relocation-symbol-outside" RelocationSymbol |image| {
        let behind = image[image.symtab()? as usize].len::<SymbolEntry>();
        entry(image, 0, |r| set_symbol(r, behind))
    };
    "relocation-symbol-max" RelocationSymbol |image| entry(image, 0, |r| set_symbol(r, u32::MAX));
    "relocation-symbol-file" RelocationSymbol |image| edit(image, |image| {
        // The first local symbol becomes a file name if it is not one already.
        let table = image.symbols()?;
        let symbol: SymbolEntry = table.get(1)?;
        if symbol.info >> 4 != 0 {
            return None;
        }
        let file = SymbolEntry { name: symbol.name, info: 4, shndx: SHN_ABS, ..Default::default() };
        table.set(1, &file);
        let section = image.find(|_, h| h.kind == SHT_RELA)?;
        image[section as usize].change(0, |r: &mut RelaEntry| set_symbol(r, 1))?;
        Some(Place::Relocation { section, index: 0 })
    });
    "relocation-not-zero" RelocationNotZero |image| {
        let section = image.rela()?;
        let chunk = &image[section as usize];
        let target = chunk.header.info as usize;
        let at = usize::try_from(chunk.get::<RelaEntry>(1)?.offset).ok()?;
        edit(image, |image| {
            image[target].put(at + 3, &[0x80]);
            Some(Place::Relocation { section, index: 1 })
        })
    };
    "relocation-of-trampoline" RelocationTrampoline |image| edit(image, |image| {
        let trampolines = image.named(SEC_TRAMPOLINES)?;
        let rela = image.rela()?;
        let mut header = image[rela as usize].header;
        header.info = trampolines;
        let mut relocation: RelaEntry = image[rela as usize].get(0)?;
        relocation.offset = 0;
        // The field is zeroed so that nothing else is wrong with it, and the new section goes where
        // the order of targets wants it, which only the last position gives for sure.
        image[trampolines as usize].put(0, &[0; 8]);
        let name = image.add_section_name(".strtab");
        for chunk in image.iter_mut() {
            if chunk.header.kind == SHT_RELA && chunk.header.info >= trampolines {
                chunk.header.name = name;
                chunk.header.kind = kcare_payload::elf::SHT_STRTAB;
                chunk.header.link = 0;
                chunk.header.info = 0;
                chunk.header.flags = 0;
            }
        }
        let name = format!(".rela{SEC_TRAMPOLINES}");
        let index = image.push(&name, header, relocation.to_bytes());
        Some(Place::Section(index))
    });
}

/// Payloads in good form whose relocations do not fit: only the relocator can tell.
pub const VALUES: &[Case] = &[
    Case {
        slug: "value-addend-above",
        reason: Reason::RelocationOverflow,
        sooner: None,
        make: |image| pc32(image, |r| r.addend = 1 << 33),
    },
    Case {
        slug: "value-addend-below",
        reason: Reason::RelocationOverflow,
        sooner: None,
        make: |image| pc32(image, |r| r.addend = (1u64 << 33).wrapping_neg()),
    },
    Case {
        slug: "value-addend-lowest",
        reason: Reason::RelocationOverflow,
        sooner: None,
        make: |image| pc32(image, |r| r.addend = 1 << 63),
    },
    Case {
        slug: "value-zero-extended",
        reason: Reason::RelocationOverflow,
        sooner: None,
        make: |image| pc32(image, |r| set_kind(r, Kind::Abs32.number())),
    },
    Case {
        slug: "value-sign-extended",
        reason: Reason::RelocationOverflow,
        sooner: None,
        make: |image| {
            pc32(image, |r| {
                set_kind(r, Kind::Abs32S.number());
                r.addend = 1 << 40;
            })
        },
    },
    Case {
        slug: "value-extern-far",
        reason: Reason::RelocationOverflow,
        sooner: Some(Reason::ExternOutside),
        make: |image| pc32_extern(image, 1 << 40),
    },
    Case {
        slug: "value-extern-opposite",
        reason: Reason::RelocationOverflow,
        sooner: Some(Reason::ExternOutside),
        make: |image| pc32_extern(image, 1 << 63),
    },
    Case {
        slug: "value-extern-user-space",
        reason: Reason::RelocationOverflow,
        sooner: Some(Reason::ExternOutside),
        make: |image| pc32_extern(image, 0x7fff_ffff_ffff),
    },
];
