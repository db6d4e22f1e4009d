// SPDX-License-Identifier: GPL-2.0

//! A payload taken apart into headers and contents, to be changed and put together again.
//!
//! Putting together computes only what must follow from the rest (file offsets, sizes of contents,
//! the number of sections); everything else is written as it is, so that any field can be made wrong.

use std::ops::{Deref, DerefMut};

use kcare_payload::elf::{
    self, Header, RelaEntry, SectionHeader, SymbolEntry, SHT_NOBITS, SHT_NULL, SHT_RELA, SHT_SYMTAB,
};
use kcare_payload::error::Place;
use kcare_payload::layout::{Callback, Extern, Fix, Func, Manifest, Object, State};

/// A fixed-size record of a table.
pub trait Record: Sized {
    /// Size in bytes.
    const LEN: usize;
    /// Decodes a record from exactly [`Record::LEN`] bytes.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    /// Encodes it.
    fn to_bytes(&self) -> Vec<u8>;
}

macro_rules! records {
    ($($name:ident)*) => { $(
        impl Record for $name {
            const LEN: usize = $name::SIZE;
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Some($name::decode(bytes.try_into().ok()?))
            }
            fn to_bytes(&self) -> Vec<u8> {
                self.encode().to_vec()
            }
        }
    )* };
}
records! { Header SectionHeader SymbolEntry RelaEntry Callback Extern Fix Func Manifest Object State }

/// A section: its header, and its content if that is in the file.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The header; `offset`, and for content in the file `size`, are computed.
    pub header: SectionHeader,
    /// The content; for `NOBITS` it is empty and the header's size counts.
    pub data: Vec<u8>,
}

impl Chunk {
    /// Number of whole records in the content.
    pub fn len<T: Record>(&self) -> u32 {
        u32::try_from(self.data.len() / T::LEN).unwrap_or(u32::MAX)
    }

    /// The record with an index.
    pub fn get<T: Record>(&self, index: u32) -> Option<T> {
        let start = index as usize * T::LEN;
        T::from_bytes(self.data.get(start..start + T::LEN)?)
    }

    /// Overwrites the record with an index.
    pub fn set<T: Record>(&mut self, index: u32, record: &T) {
        self.put(index as usize * T::LEN, &record.to_bytes());
    }

    /// Changes the record with an index.
    pub fn change<T: Record>(&mut self, index: u32, change: impl FnOnce(&mut T)) -> Option<()> {
        let mut record = self.get(index)?;
        change(&mut record);
        self.set(index, &record);
        Some(())
    }

    /// Appends a record and returns its index.
    pub fn push<T: Record>(&mut self, record: &T) -> u32 {
        let index = self.len::<T>();
        self.data.extend(record.to_bytes());
        index
    }

    /// Overwrites bytes.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// A payload without its signature, taken apart.
#[derive(Clone, Debug)]
pub struct Image {
    /// The ELF header; `shoff` and `shnum` are computed.
    pub header: Header,
    /// The sections, by index.
    pub sections: Vec<Chunk>,
}

impl Deref for Image {
    type Target = [Chunk];
    fn deref(&self) -> &[Chunk] {
        &self.sections
    }
}

impl DerefMut for Image {
    fn deref_mut(&mut self) -> &mut [Chunk] {
        &mut self.sections
    }
}

impl Image {
    /// Takes a file apart; `None` if its sections do not lie in it.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = Header::from_bytes(bytes.get(..Header::SIZE)?)?;
        let mut sections = Vec::new();
        for index in 0..usize::from(header.shnum) {
            let table = bytes.get(usize::try_from(header.shoff).ok()?..)?;
            let entry = table
                .get(index * SectionHeader::SIZE..)?
                .get(..SectionHeader::SIZE)?;
            let header = SectionHeader::from_bytes(entry)?;
            let data = if in_file(&header) {
                let rest = bytes.get(usize::try_from(header.offset).ok()?..)?;
                rest.get(..usize::try_from(header.size).ok()?)?.to_vec()
            } else {
                Vec::new()
            };
            sections.push(Chunk { header, data });
        }
        Some(Self { header, sections })
    }

    /// Puts the payload together.
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![0; Header::SIZE];
        let mut headers = Vec::new();
        for chunk in &self.sections {
            let mut header = chunk.header;
            if in_file(&header) {
                pad(&mut out, header.addralign);
                header.offset = out.len() as u64;
                header.size = chunk.data.len() as u64;
                out.extend(&chunk.data);
            }
            headers.extend(header.encode());
        }
        pad(&mut out, 8);
        let header = Header {
            shoff: out.len() as u64,
            shnum: u16::try_from(self.sections.len()).unwrap_or(u16::MAX),
            ..self.header
        };
        out[..Header::SIZE].copy_from_slice(&header.encode());
        out.extend(headers);
        out
    }

    /// The name of a section.
    pub fn name(&self, index: u32) -> &str {
        let names = &self[usize::from(self.header.shstrndx)].data;
        let start = self[index as usize].header.name as usize;
        let end = names[start..].iter().position(|&byte| byte == 0);
        let end = start + end.unwrap_or(0);
        std::str::from_utf8(&names[start..end]).unwrap_or("")
    }

    /// Index of the first section that fits.
    pub fn find(&self, fits: impl Fn(u32, &SectionHeader) -> bool) -> Option<u32> {
        let indices = 1..u32::try_from(self.len()).ok()?;
        indices
            .into_iter()
            .find(|&i| fits(i, &self[i as usize].header))
    }

    /// Index of the section with a name.
    pub fn named(&self, name: &str) -> Option<u32> {
        self.find(|index, _| self.name(index) == name)
    }

    /// The section with a name.
    pub fn section(&mut self, name: &str) -> Option<&mut Chunk> {
        let index = self.named(name)?;
        self.sections.get_mut(index as usize)
    }

    /// Index of the symbol table.
    pub fn symtab(&self) -> Option<u32> {
        self.find(|_, header| header.kind == SHT_SYMTAB)
    }

    /// The symbol table.
    pub fn symbols(&mut self) -> Option<&mut Chunk> {
        let index = self.symtab()?;
        self.sections.get_mut(index as usize)
    }

    /// Index of the first symbol that fits, symbol 0 aside.
    pub fn symbol(&self, fits: impl Fn(&SymbolEntry) -> bool) -> Option<u32> {
        let table = &self[self.symtab()? as usize];
        (1..table.len::<SymbolEntry>()).find(|&i| table.get(i).is_some_and(|s| fits(&s)))
    }

    /// Index of the first section of relocations that holds at least two.
    pub fn rela(&self) -> Option<u32> {
        self.find(|index, header| {
            header.kind == SHT_RELA && self[index as usize].len::<RelaEntry>() >= 2
        })
    }

    /// Adds a name to the section name table.
    pub fn add_section_name(&mut self, name: &str) -> u32 {
        let index = usize::from(self.header.shstrndx);
        add_string(&mut self[index].data, name)
    }

    /// Adds a section behind all others.
    pub fn push(&mut self, name: &str, header: SectionHeader, data: Vec<u8>) -> u32 {
        let name = self.add_section_name(name);
        let header = SectionHeader { name, ..header };
        self.sections.push(Chunk { header, data });
        u32::try_from(self.sections.len() - 1).unwrap_or(u32::MAX)
    }

    /// Adds a string to a table of strings and keeps the manifest's count right.
    pub fn add_string(&mut self, string: &str) -> Option<u32> {
        let strings = self.section(kcare_payload::layout::SEC_STRINGS)?;
        let offset = add_string(&mut strings.data, string);
        let bytes = u32::try_from(strings.data.len()).ok()?;
        self.manifest(|m| m.string_bytes = bytes)?;
        Some(offset)
    }

    /// Changes the manifest.
    pub fn manifest(&mut self, change: impl FnOnce(&mut Manifest)) -> Option<()> {
        let section = self.section(kcare_payload::layout::SEC_MANIFEST)?;
        let mut manifest = Manifest::from_bytes(&section.data[Manifest::MAGIC_SIZE..])?;
        change(&mut manifest);
        section.put(Manifest::MAGIC_SIZE, &manifest.to_bytes());
        Some(())
    }

    /// Reads the manifest.
    pub fn manifest_now(&self) -> Option<Manifest> {
        let index = self.named(kcare_payload::layout::SEC_MANIFEST)?;
        Manifest::from_bytes(&self[index as usize].data[Manifest::MAGIC_SIZE..])
    }
}

/// What a malformation makes: the file, and where it must be refused.
pub type Made = (Vec<u8>, Place);

/// Applies a change to a copy; `None` if this payload does not have what the change needs.
pub fn edit(image: &Image, change: impl FnOnce(&mut Image) -> Option<Place>) -> Option<Made> {
    let mut copy = image.clone();
    let place = change(&mut copy)?;
    Some((copy.write(), place))
}

/// Changes bytes of the file at an offset, which is also the place.
pub fn patch(image: &Image, at: usize, bytes: &[u8]) -> Option<Made> {
    let mut file = image.write();
    file.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    Some((file, Place::Offset(at as u64)))
}

/// Changes the header of a section behind the computation of offsets and sizes.
pub fn patch_section(
    image: &Image,
    index: u32,
    change: impl FnOnce(&mut SectionHeader, &[SectionHeader]),
) -> Option<Made> {
    let mut file = image.write();
    let header = Header::from_bytes(file.get(..Header::SIZE)?)?;
    let table = usize::try_from(header.shoff).ok()?;
    let all: Option<Vec<_>> = file[table..]
        .chunks(SectionHeader::SIZE)
        .map(SectionHeader::from_bytes)
        .collect();
    let all = all?;
    let mut section = *all.get(index as usize)?;
    change(&mut section, &all);
    let at = table + index as usize * SectionHeader::SIZE;
    file[at..at + SectionHeader::SIZE].copy_from_slice(&section.encode());
    Some((file, Place::Section(index)))
}

/// Whether a section's content is in the file.
pub fn in_file(header: &SectionHeader) -> bool {
    !matches!(header.kind, SHT_NULL | SHT_NOBITS)
}

/// Appends a string and its NUL, and returns where it starts.
pub fn add_string(table: &mut Vec<u8>, string: &str) -> u32 {
    let offset = u32::try_from(table.len()).unwrap_or(u32::MAX);
    table.extend(string.as_bytes());
    table.push(0);
    offset
}

/// A header of content that takes memory.
pub fn content(flags: u64, addralign: u64) -> SectionHeader {
    SectionHeader {
        kind: elf::SHT_PROGBITS,
        flags: flags | elf::SHF_ALLOC,
        addralign,
        ..SectionHeader::default()
    }
}

/// A header of a table that takes no memory.
pub fn table() -> SectionHeader {
    SectionHeader {
        kind: elf::SHT_PROGBITS,
        addralign: 1,
        ..SectionHeader::default()
    }
}

fn pad(out: &mut Vec<u8>, align: u64) {
    let align = if align.is_power_of_two() && align <= 4096 {
        align
    } else {
        1
    };
    while out.len() as u64 % align != 0 {
        out.push(0);
    }
}
