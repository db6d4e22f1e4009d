// SPDX-License-Identifier: GPL-2.0

//! Writes the ELF relocatable object that a payload is; see the rules in `kcare_payload::elf`.

use std::collections::HashMap;

use anyhow::{Context, Result};
use kcare_payload::elf::{self, Header, RelaEntry, SectionHeader, SymbolEntry};

/// A section with contents and relocations.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Name.
    pub name: String,
    /// `SHF_*`; sections without [`elf::SHF_ALLOC`] are tables of ours.
    pub flags: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Contents; empty if `zeroes` is not 0.
    pub data: Vec<u8>,
    /// Size in bytes of a section that is not in the file.
    pub zeroes: u64,
    /// Relocations, in any order: offset, type, symbol, addend.
    pub rels: Vec<(u64, u32, SymbolRef, i64)>,
}

/// The symbol of a relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SymbolRef {
    /// The start of a section, by index into the list of sections.
    Section(usize),
    /// A symbol, by index into the list of symbols.
    Symbol(usize),
}

/// A symbol.
#[derive(Clone, Debug)]
pub struct Symbol {
    /// Name.
    pub name: String,
    /// Section, by index into the list of sections; `None` if it is undefined.
    pub section: Option<usize>,
    /// Offset in the section.
    pub value: u64,
    /// Size in bytes.
    pub size: u64,
    /// Whether it is a function.
    pub func: bool,
}

/// The numbers that sections and symbols have in the file: sections keep their order from 1 on;
/// of symbols, section symbols come first, then defined ones, then undefined ones.
#[derive(Debug)]
pub struct Numbers {
    symbols: Vec<u32>,
    sections: Vec<u32>,
    order: Vec<SymbolRef>,
    locals: u32,
}

impl Numbers {
    /// Numbers the symbols of a payload.
    pub fn new(sections: &[Section], symbols: &[Symbol]) -> Result<Self> {
        let mut order = Vec::new();
        let mut numbers = Numbers {
            symbols: vec![0; symbols.len()],
            sections: vec![0; sections.len()],
            order: vec![],
            locals: 0,
        };
        for (i, section) in sections.iter().enumerate() {
            if section.flags & elf::SHF_ALLOC != 0 {
                order.push(SymbolRef::Section(i));
            }
        }
        order.extend(
            (0..symbols.len())
                .filter(|&i| symbols[i].section.is_some())
                .map(SymbolRef::Symbol),
        );
        numbers.locals = u32::try_from(order.len() + 1)?;
        order.extend(
            (0..symbols.len())
                .filter(|&i| symbols[i].section.is_none())
                .map(SymbolRef::Symbol),
        );
        for (position, symbol) in order.iter().enumerate() {
            let number = u32::try_from(position + 1)?;
            match *symbol {
                SymbolRef::Section(i) => numbers.sections[i] = number,
                SymbolRef::Symbol(i) => numbers.symbols[i] = number,
            }
        }
        numbers.order = order;
        Ok(numbers)
    }

    /// Index of a symbol in the file.
    pub fn symbol(&self, index: usize) -> u32 {
        self.symbols[index]
    }

    fn of(&self, symbol: SymbolRef) -> u32 {
        match symbol {
            SymbolRef::Section(i) => self.sections[i],
            SymbolRef::Symbol(i) => self.symbols[i],
        }
    }
}

/// A string table under construction.
pub(crate) struct Names {
    pub(crate) bytes: Vec<u8>,
    known: HashMap<String, u32>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Names {
            bytes: vec![0],
            known: HashMap::new(),
        }
    }

    /// Where a string is; one that is there already is not added again.
    pub(crate) fn add(&mut self, name: &str) -> Result<u32> {
        if name.is_empty() {
            return Ok(0);
        }
        if let Some(&at) = self.known.get(name) {
            return Ok(at);
        }
        let at = u32::try_from(self.bytes.len())?;
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.known.insert(name.to_owned(), at);
        Ok(at)
    }
}

/// Writes an object of these sections and symbols, numbered by `numbers`.
pub fn write(sections: &[Section], symbols: &[Symbol], numbers: &Numbers) -> Result<Vec<u8>> {
    let mut out = vec![0; Header::SIZE];
    let mut headers = vec![SectionHeader::default()];
    let mut names = Names::new();

    let mut put = |out: &mut Vec<u8>,
                   headers: &mut Vec<SectionHeader>,
                   name: &str,
                   mut header: SectionHeader,
                   data: &[u8]|
     -> Result<()> {
        let align = usize::try_from(header.addralign.max(1))?;
        if header.kind == elf::SHT_NOBITS {
            header.offset = out.len() as u64;
        } else {
            out.resize(out.len().next_multiple_of(align), 0);
            header.offset = out.len() as u64;
            header.size = data.len() as u64;
            out.extend_from_slice(data);
        }
        header.name = names.add(name)?;
        headers.push(header);
        Ok(())
    };

    for section in sections {
        let nobits = section.zeroes > 0;
        let header = SectionHeader {
            kind: if nobits {
                elf::SHT_NOBITS
            } else {
                elf::SHT_PROGBITS
            },
            flags: section.flags,
            addralign: section.align,
            size: section.zeroes,
            ..SectionHeader::default()
        };
        put(&mut out, &mut headers, &section.name, header, &section.data)?;
    }

    let with_rels: Vec<usize> = (0..sections.len())
        .filter(|&i| !sections[i].rels.is_empty())
        .collect();
    let symtab_index = u32::try_from(1 + sections.len() + with_rels.len())?;
    for &i in &with_rels {
        let section = &sections[i];
        let mut rels = section.rels.clone();
        rels.sort_by_key(|r| r.0);
        let mut data = Vec::with_capacity(rels.len() * RelaEntry::SIZE);
        for (offset, ty, symbol, addend) in rels {
            let info = u64::from(numbers.of(symbol)) << 32 | u64::from(ty);
            let entry = RelaEntry {
                offset,
                info,
                addend: addend as u64,
            };
            data.extend_from_slice(&entry.encode());
        }
        let header = SectionHeader {
            kind: elf::SHT_RELA,
            flags: elf::SHF_INFO_LINK,
            link: symtab_index,
            info: u32::try_from(i + 1)?,
            addralign: 8,
            entsize: RelaEntry::SIZE as u64,
            ..SectionHeader::default()
        };
        put(
            &mut out,
            &mut headers,
            &format!(".rela{}", section.name),
            header,
            &data,
        )?;
    }

    let mut strings = Names::new();
    let mut data = SymbolEntry::default().encode().to_vec();
    for &symbol in &numbers.order {
        let entry = match symbol {
            SymbolRef::Section(i) => SymbolEntry {
                info: 3,
                shndx: u16::try_from(i + 1)?,
                ..SymbolEntry::default()
            },
            SymbolRef::Symbol(i) => {
                let symbol = &symbols[i];
                let (bind, kind) = match (symbol.section, symbol.func) {
                    (None, _) => (1, 0),
                    (Some(_), true) => (0, 2),
                    (Some(_), false) => (0, 1),
                };
                SymbolEntry {
                    name: strings.add(&symbol.name)?,
                    info: bind << 4 | kind,
                    other: 0,
                    shndx: u16::try_from(symbol.section.map_or(0, |s| s + 1))?,
                    value: symbol.value,
                    size: symbol.size,
                }
            }
        };
        data.extend_from_slice(&entry.encode());
    }
    let header = SectionHeader {
        kind: elf::SHT_SYMTAB,
        link: symtab_index + 1,
        info: numbers.locals,
        addralign: 8,
        entsize: SymbolEntry::SIZE as u64,
        ..SectionHeader::default()
    };
    put(&mut out, &mut headers, ".symtab", header, &data)?;
    let strtab = SectionHeader {
        kind: elf::SHT_STRTAB,
        addralign: 1,
        ..SectionHeader::default()
    };
    put(&mut out, &mut headers, ".strtab", strtab, &strings.bytes)?;

    // The section name table names itself as well.
    let mut header = strtab;
    header.name = names.add(".shstrtab")?;
    header.offset = out.len() as u64;
    header.size = names.bytes.len() as u64;
    out.extend_from_slice(&names.bytes);
    headers.push(header);

    out.resize(out.len().next_multiple_of(8), 0);
    let shoff = out.len() as u64;
    for header in &headers {
        out.extend_from_slice(&header.encode());
    }
    let header = Header {
        magic: elf::MAGIC,
        class: elf::CLASS_64,
        data: elf::DATA_LE,
        ident_version: elf::VERSION,
        kind: elf::TYPE_REL,
        machine: elf::MACHINE_X86_64,
        version: u32::from(elf::VERSION),
        shoff,
        ehsize: u16::try_from(Header::SIZE)?,
        shentsize: u16::try_from(SectionHeader::SIZE)?,
        shnum: u16::try_from(headers.len()).context("too many sections")?,
        shstrndx: u16::try_from(headers.len() - 1)?,
        ..Header::default()
    };
    out[..Header::SIZE].copy_from_slice(&header.encode());
    Ok(out)
}
