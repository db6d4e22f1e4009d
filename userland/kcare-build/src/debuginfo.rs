// SPDX-License-Identifier: GPL-2.0

//! The debug information of a relocatable object (DWARF), relocated.
//!
//! An address in it stands for a [`place`] in the object, so that sections need no addresses.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use gimli::{Dwarf, EndianSlice, LittleEndian};
use object::elf::SHF_ALLOC;
use object::read::elf::ElfFile64;
use object::read::{Object, ObjectSection, ObjectSymbol, RelocationTarget};
use object::{RelocationKind, SectionFlags};

use crate::obj::SecId;

/// How debug information is read.
pub type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// How the names of sections with debug information start.
pub const DEBUG: &str = ".debug_";

/// The address that stands for an offset of a section.
pub fn place(sec: SecId, off: u64) -> u64 {
    ((sec as u64) << 32) + off
}

/// Section and offset of a [`place`].
pub fn place_of(address: u64) -> (SecId, u64) {
    ((address >> 32) as SecId, address & u64::from(u32::MAX))
}

/// Debug sections by name.
#[derive(Debug, Default)]
pub struct DebugInfo {
    sections: BTreeMap<String, Vec<u8>>,
}

impl DebugInfo {
    /// Reads the debug sections of an object; one that was compiled without has none.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let file = ElfFile64::<object::LittleEndian>::parse(bytes)?;
        let mut sections = BTreeMap::new();
        for section in file.sections() {
            let name = section.name()?;
            if !name.starts_with(DEBUG) {
                continue;
            }
            let mut data = section.data()?.to_vec();
            for (offset, relocation) in section.relocations() {
                let context =
                    || format!("relocation at {offset:#x} of {name} is of an unknown kind");
                let base = match relocation.target() {
                    RelocationTarget::Symbol(symbol) => {
                        let symbol = file.symbol_by_index(symbol)?;
                        match symbol.section_index() {
                            Some(index) => match file.section_by_index(index)?.flags() {
                                SectionFlags::Elf { sh_flags }
                                    if sh_flags & u64::from(SHF_ALLOC) != 0 =>
                                {
                                    place(index.0, symbol.address())
                                }
                                _ => symbol.address(),
                            },
                            None => 0,
                        }
                    }
                    _ => 0,
                };
                let value = base.wrapping_add(relocation.addend() as u64).to_le_bytes();
                let len = match (relocation.kind(), relocation.size()) {
                    (RelocationKind::Absolute, size @ (32 | 64)) => usize::from(size / 8),
                    _ => return Err(anyhow::anyhow!(context())),
                };
                let at = usize::try_from(offset)?;
                data.get_mut(at..at + len)
                    .with_context(|| format!("relocation at {at:#x} behind the end of {name}"))?
                    .copy_from_slice(&value[..len]);
            }
            sections.insert(name.to_owned(), data);
        }
        Ok(DebugInfo { sections })
    }

    /// Contents of a section; empty if there is none.
    pub fn section(&self, name: &str) -> &[u8] {
        self.sections.get(name).map_or(&[], Vec::as_slice)
    }

    /// A view of all sections.
    pub fn dwarf(&self) -> Result<Dwarf<Reader<'_>>> {
        Ok(Dwarf::load(|id| -> gimli::Result<_> {
            Ok(EndianSlice::new(self.section(id.name()), LittleEndian))
        })?)
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.section(".debug_info").is_empty()
    }
}
