// SPDX-License-Identifier: GPL-2.0

//! Symbols.

use kcare_payload::elf::{SymbolEntry, SHF_ALLOC, SHN_ABS, SHN_UNDEF};
use kcare_payload::error::Place;
use kcare_payload::layout::MAX_SYMBOLS;

use super::cases;
use super::image::{edit, Image, Made, Record};

/// Changes a symbol that is in a section.
fn defined(image: &Image, change: impl FnOnce(&mut SymbolEntry)) -> Option<Made> {
    let index = image.symbol(|s| s.shndx != SHN_UNDEF && s.shndx != SHN_ABS && s.size != 0)?;
    at(image, index, change)
}

/// Changes the symbol with an index.
fn at(image: &Image, index: u32, change: impl FnOnce(&mut SymbolEntry)) -> Option<Made> {
    edit(image, |image| {
        image.symbols()?.change(index, change)?;
        Some(Place::Symbol(index))
    })
}

/// Appends a symbol.
fn append(image: &Image, symbol: SymbolEntry) -> Option<Made> {
    edit(image, |image| {
        Some(Place::Symbol(image.symbols()?.push(&symbol)))
    })
}

/// Index of an undefined symbol.
fn undefined(image: &Image) -> Option<u32> {
    image.symbol(|s| s.shndx == SHN_UNDEF)
}

/// Binding and type.
const fn info(binding: u8, kind: u8) -> u8 {
    (binding << 4) | kind
}

cases! {
    "symbol-zero-not-empty" SymbolNull |image| at(image, 0, |s| s.value = 1);
    "symbol-name-outside" SymbolName |image| defined(image, |s| s.name = u32::MAX);
    "symbol-name-too-long" SymbolName |image| edit(image, |image| {
        let names = image[image.symtab()? as usize].header.link;
        let names = &mut image[names as usize].data;
        let name = super::image::add_string(names, &"n".repeat(1025));
        let index = image.symbol(|s| s.shndx != SHN_UNDEF)?;
        image.symbols()?.change::<SymbolEntry>(index, |s| s.name = name)?;
        Some(Place::Symbol(index))
    });
    "symbol-binding-unique" SymbolBinding |image| {
        append(image, SymbolEntry { info: info(10, 1), shndx: 1, ..Default::default() })
    };
    "symbol-binding-max" SymbolBinding |image| {
        append(image, SymbolEntry { info: info(15, 0), shndx: 1, ..Default::default() })
    };
    "symbol-type-common" SymbolType |image| defined(image, |s| s.info = info(s.info >> 4, 5));
    "symbol-type-tls" SymbolType |image| defined(image, |s| s.info = info(s.info >> 4, 6));
    "symbol-type-ifunc" SymbolType |image| defined(image, |s| s.info = info(s.info >> 4, 10));
    "symbol-type-max" SymbolType |image| defined(image, |s| s.info |= 0xf);
    "symbol-hidden" SymbolOther |image| defined(image, |s| s.other = 2);
    "symbol-other-max" SymbolOther |image| defined(image, |s| s.other = 0xff);
    "symbol-common" SymbolSection |image| defined(image, |s| s.shndx = 0xfff2);
    "symbol-absolute" SymbolSection |image| defined(image, |s| s.shndx = SHN_ABS);
    "symbol-section-escape" SymbolSection |image| defined(image, |s| s.shndx = 0xffff);
    "symbol-section-livepatch" SymbolSection |image| defined(image, |s| s.shndx = 0xff20);
    "symbol-section-outside" SymbolSection |image| {
        let behind = u16::try_from(image.len()).ok()?;
        defined(image, |s| s.shndx = behind)
    };
    "symbol-section-no-memory" SymbolSection |image| {
        let names = image.header.shstrndx;
        defined(image, |s| s.shndx = names)
    };
    "symbol-file-in-section" SymbolSection |image| {
        let memory = image.find(|_, h| h.flags & SHF_ALLOC != 0)?;
        let shndx = u16::try_from(memory).ok()?;
        append(image, SymbolEntry { info: info(1, 4), shndx, ..Default::default() })
    };
    "symbol-file-global" SymbolRange |image| {
        append(image, SymbolEntry { info: info(1, 4), shndx: SHN_ABS, ..Default::default() })
    };
    "symbol-value-max" SymbolRange |image| defined(image, |s| s.value = u64::MAX);
    "symbol-value-wraps" SymbolRange |image| defined(image, |s| s.value = s.size.wrapping_neg());
    "symbol-value-outside" SymbolRange |image| defined(image, |s| {
        s.value = 1 << 32;
        s.size = 0;
    });
    "symbol-size-max" SymbolRange |image| defined(image, |s| s.size = u64::MAX);
    "symbol-size-outside" SymbolRange |image| defined(image, |s| s.size = 1 << 32);
    "symbol-local-behind" SymbolOrder |image| {
        append(image, SymbolEntry { info: info(0, 1), shndx: 1, ..Default::default() })
    };
    "symbol-locals-miscounted" SymbolOrder |image| edit(image, |image| {
        let table = image.symbols()?;
        let locals = table.header.info;
        table.get::<SymbolEntry>(locals)?;
        table.header.info = locals + 1;
        Some(Place::Symbol(locals))
    });
    "symbol-undefined-with-value" SymbolUndefined |image| at(image, undefined(image)?, |s| s.value = 8);
    "symbol-undefined-section" SymbolUndefined |image| {
        at(image, undefined(image)?, |s| s.info = info(1, 3))
    };
    "symbols-too-many" SymbolCount |image| edit(image, |image| {
        let table = image.symbols()?;
        table.data.resize((MAX_SYMBOLS + 1) * SymbolEntry::LEN, 0);
        Some(Place::Section(image.symtab()?))
    });
}
