// SPDX-License-Identifier: GPL-2.0

//! Whether two objects that are no units of vmlinux or of a module hold the same code: what is loaded of them, and what
//! the linker makes of it.

use std::collections::BTreeMap;

use anyhow::Result;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags, SymbolKind};

/// A loaded section: its flags, bytes, and relocations by offset with what they refer to.
type Section = (u64, Vec<u8>, Vec<(u64, String)>);

/// The loaded sections by name, and the symbols in their order.
type Contents = (Vec<(String, Section)>, BTreeMap<String, Vec<String>>);

/// Whether two files hold the same; what is no object is compared as it is.
pub fn same(old: &[u8], new: &[u8]) -> Result<bool> {
    if old == new {
        return Ok(true);
    }
    if !old.starts_with(b"\x7fELF") || !new.starts_with(b"\x7fELF") {
        return Ok(false);
    }
    Ok(contents(old)? == contents(new)?)
}

fn contents(bytes: &[u8]) -> Result<Contents> {
    let file = object::File::parse(bytes)?;
    let loaded = |flags| match flags {
        SectionFlags::Elf { sh_flags } => {
            (sh_flags & u64::from(object::elf::SHF_ALLOC) != 0).then_some(sh_flags)
        }
        _ => None,
    };
    // A symbol of a section stands for the section, whose number may differ.
    let named = |index| -> Result<String> {
        let symbol = file.symbol_by_index(index)?;
        if symbol.kind() == SymbolKind::Section {
            let section = symbol.section_index().map(|i| file.section_by_index(i));
            return Ok(match section {
                Some(section) => format!("[{}]", section?.name()?),
                None => "[]".to_owned(),
            });
        }
        Ok(symbol.name()?.to_owned())
    };
    let mut sections = Vec::new();
    for section in file.sections() {
        let Some(flags) = loaded(section.flags()) else {
            continue;
        };
        let mut relocations = Vec::new();
        for (offset, relocation) in section.relocations() {
            let target = match relocation.target() {
                RelocationTarget::Symbol(index) => named(index)?,
                other => format!("{other:?}"),
            };
            let text = format!("{:?} {target} {}", relocation.flags(), relocation.addend());
            relocations.push((offset, text));
        }
        let name = section.name()?.to_owned();
        let mut data = section.data()?.to_vec();
        if data.is_empty() {
            data = section.size().to_le_bytes().to_vec();
        }
        sections.push((name, (flags, data, relocations)));
    }
    let mut symbols: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for symbol in file.symbols() {
        if matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section) {
            continue;
        }
        let section = match symbol.section_index() {
            Some(index) => {
                let section = file.section_by_index(index)?;
                // Labels in debug information are nobody's business.
                if loaded(section.flags()).is_none() {
                    continue;
                }
                section.name()?.to_owned()
            }
            None => String::new(),
        };
        let text = format!(
            "{section} {} {} {} {:?}",
            symbol.address(),
            symbol.size(),
            symbol.is_global(),
            symbol.kind()
        );
        symbols
            .entry(symbol.name()?.to_owned())
            .or_default()
            .push(text);
    }
    Ok((sections, symbols))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{write, Numbers, Section, Symbol};
    use kcare_payload::elf::SHF_ALLOC;

    fn object(code: &[u8], note: &[u8], value: u64) -> Vec<u8> {
        let section = |name: &str, flags, data: &[u8]| Section {
            name: name.to_owned(),
            flags,
            align: 1,
            data: data.to_vec(),
            ..Section::default()
        };
        let sections = [
            section(".text", SHF_ALLOC, code),
            section(".comment", 0, note),
        ];
        let symbols = [Symbol {
            name: "f".to_owned(),
            section: Some(0),
            value,
            size: 1,
            func: true,
        }];
        let numbers = Numbers::new(&sections, &symbols).unwrap();
        write(&sections, &symbols, &numbers).unwrap()
    }

    #[test]
    fn what_is_loaded_counts() {
        let old = object(&[0x90, 0xc3], b"a\0", 0);
        assert!(same(&old, &object(&[0x90, 0xc3], b"b\0", 0)).unwrap());
        assert!(!same(&old, &object(&[0x90, 0xcc], b"a\0", 0)).unwrap());
        assert!(!same(&old, &object(&[0x90, 0xc3], b"a\0", 1)).unwrap());
        assert!(!same(b"SECTIONS {}", b"SECTIONS { }").unwrap());
        assert!(same(b"x", b"x").unwrap());
    }
}
