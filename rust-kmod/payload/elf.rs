// SPDX-License-Identifier: GPL-2.0

//! A bounds-checked view of an ELF64 relocatable object for x86-64.
//!
//! [`Elf::parse`] walks the whole object once; what it accepts is much narrower than ELF, because
//! the only writer is ours:
//!
//! * sections lie in the file in the order of their indices, without overlap, between the ELF
//!   header and the section header table, and that table ends where the file ends;
//! * types are `NULL` (0 only), `PROGBITS`, `NOBITS`, one `SYMTAB`, `STRTAB` and `RELA`, with the few
//!   flags that each needs;
//! * `RELA` sections are ascending by the section that they are against, and their entries ascending
//!   by offset, without overlap, against zero bytes of `PROGBITS` sections that take memory;
//! * symbols are undefined, or in a section that takes memory, or file names.
//!
//! [`super::raw`] has the records as they are in the file.

use super::{
    error::{
        Error,
        Place,
        Reason, //
    },
    layout::{
        MAX_ALIGN,
        MAX_PAYLOAD,
        MAX_REGION,
        MAX_SECTIONS,
        MAX_STRING,
        MAX_SYMBOLS,
        MAX_SYMBOL_NAMES, //
    },
    reloc::Kind, //
};

pub use super::raw::*;

/// The type of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// `SHT_NULL`: section 0.
    Null,
    /// `SHT_PROGBITS`: content.
    ProgBits,
    /// `SHT_NOBITS`: zeroes that are not in the file.
    NoBits,
    /// `SHT_SYMTAB`: the symbol table.
    SymTab,
    /// `SHT_STRTAB`: a string table.
    StrTab,
    /// `SHT_RELA`: relocations.
    Rela,
}

impl SectionKind {
    fn new(number: u32) -> Option<Self> {
        Some(match number {
            SHT_NULL => Self::Null,
            SHT_PROGBITS => Self::ProgBits,
            SHT_NOBITS => Self::NoBits,
            SHT_SYMTAB => Self::SymTab,
            SHT_STRTAB => Self::StrTab,
            SHT_RELA => Self::Rela,
            _ => return None,
        })
    }

    /// Whether a section of this type may have these flags.
    fn allows(self, flags: u64) -> bool {
        let only = |allowed: u64| flags & !allowed == 0;
        match self {
            Self::Null | Self::SymTab | Self::StrTab => flags == 0,
            Self::ProgBits if flags & SHF_ALLOC == 0 => flags == 0,
            Self::ProgBits => only(SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR | SHF_MERGE | SHF_STRINGS),
            Self::NoBits => flags & SHF_ALLOC != 0 && only(SHF_ALLOC | SHF_WRITE),
            Self::Rela => only(SHF_INFO_LINK),
        }
    }

    /// The size that an entry must have, for tables.
    fn entry_size(self) -> Option<u64> {
        match self {
            Self::SymTab => Some(to_u64(SymbolEntry::SIZE)),
            Self::Rela => Some(to_u64(RelaEntry::SIZE)),
            _ => None,
        }
    }

    /// Whether the section's bytes are in the file.
    fn in_file(self) -> bool {
        !matches!(self, Self::Null | Self::NoBits)
    }
}

/// A section.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub kind: SectionKind,
    /// `SHF_…`.
    pub flags: u64,
    /// File offset of the content.
    pub offset: u64,
    /// Size in bytes, in memory.
    pub size: u64,
    /// Alignment in bytes, a power of two from 1 to [`MAX_ALIGN`].
    pub align: u64,
    /// Index of another section, by type.
    pub link: u32,
    /// By type.
    pub info: u32,
    /// Content: `size` bytes, or none for [`SectionKind::NoBits`].
    pub data: &'a [u8],
}

impl Section<'_> {
    /// Whether it takes memory.
    pub fn is_alloc(&self) -> bool {
        self.flags & SHF_ALLOC != 0
    }

    /// Whether it is writable.
    pub fn is_write(&self) -> bool {
        self.flags & SHF_WRITE != 0
    }

    /// Whether it is executable.
    pub fn is_exec(&self) -> bool {
        self.flags & SHF_EXECINSTR != 0
    }

    /// For relocations: index of the section that they are against.
    pub fn target(&self) -> Option<u32> {
        (self.kind == SectionKind::Rela).then_some(self.info)
    }
}

/// The binding of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// `STB_LOCAL`.
    Local,
    /// `STB_GLOBAL`.
    Global,
    /// `STB_WEAK`.
    Weak,
}

/// The type of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SymbolKind {
    /// `STT_NOTYPE`.
    None,
    /// `STT_OBJECT`.
    Object,
    /// `STT_FUNC`.
    Func,
    /// `STT_SECTION`.
    Section,
    /// `STT_FILE`: a name only.
    File,
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// Nowhere: symbol 0 and file names.
    Nowhere,
    /// Outside the payload; [`super::layout::Extern`] tells where.
    Undefined,
    /// In the section with this index, which takes memory.
    Section(u32),
}

/// A symbol.
#[derive(Clone, Copy, Debug)]
pub struct Symbol<'a> {
    /// Its index.
    pub index: u32,
    /// Its name; may be empty.
    pub name: &'a str,
    /// Its binding.
    pub binding: Binding,
    /// Its type.
    pub kind: SymbolKind,
    /// Where it is.
    pub home: Home,
    /// Offset in its section; 0 if it has none.
    pub value: u64,
    /// Size in bytes.
    pub size: u64,
}

impl Symbol<'_> {
    /// Index of the section that it is in.
    pub fn section(&self) -> Option<u32> {
        match self.home {
            Home::Section(index) => Some(index),
            Home::Nowhere | Home::Undefined => None,
        }
    }

    /// Whether it is undefined; symbol 0 is not.
    pub fn is_undefined(&self) -> bool {
        self.home == Home::Undefined
    }
}

/// A relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Offset in the section that it is against.
    pub offset: u64,
    /// Its type.
    pub kind: Kind,
    /// Index of its symbol, 1 or more.
    pub symbol: u32,
    /// Its addend.
    pub addend: i64,
}

impl Relocation {
    fn decode(bytes: &[u8; RelaEntry::SIZE]) -> Option<Self> {
        let entry = RelaEntry::decode(bytes);
        Some(Self {
            offset: entry.offset,
            kind: Kind::try_from(low(entry.info)).ok()?,
            symbol: high(entry.info),
            // CAST: the same 64 bits, read as two's complement.
            addend: entry.addend as i64,
        })
    }
}

/// The relocations of one section, in ascending order of their offsets.
#[derive(Clone, Copy, Debug)]
pub struct Relocations<'a> {
    rest: &'a [u8],
}

impl Iterator for Relocations<'_> {
    type Item = Relocation;

    #[inline]
    fn next(&mut self) -> Option<Relocation> {
        let (entry, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Relocation::decode(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.rest.len() / RelaEntry::SIZE;
        (count, Some(count))
    }
}

impl ExactSizeIterator for Relocations<'_> {}

/// A table of NUL-terminated strings.
///
/// # Invariants
///
/// The table starts and ends with NUL, and NUL is its only control character; none is [`is_format`].
#[derive(Clone, Copy, Debug)]
pub struct Strings<'a>(&'a str);

impl<'a> Strings<'a> {
    /// Takes a table.
    ///
    /// # Errors
    ///
    /// The offset of the first byte that is wrong, with [`Reason::StringsControl`] or
    /// [`Reason::StringsForm`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, (Reason, usize)> {
        if bytes.first() != Some(&0) {
            return Err((Reason::StringsForm, 0));
        }
        if bytes.last() != Some(&0) {
            return Err((Reason::StringsForm, bytes.len().saturating_sub(1)));
        }
        let text =
            core::str::from_utf8(bytes).map_err(|e| (Reason::StringsForm, e.valid_up_to()))?;
        let control = |&(_, c): &(usize, char)| c != '\0' && (c.is_control() || is_format(c));
        match text.char_indices().find(control) {
            Some((at, _)) => Err((Reason::StringsControl, at)),
            // INVARIANT: checked above.
            None => Ok(Self(text)),
        }
    }

    /// The string at an offset.
    ///
    /// # Errors
    ///
    /// [`Reason::StringRange`] or [`Reason::StringTooLong`].
    pub fn get(self, offset: u32) -> Result<&'a str, Reason> {
        let start = usize::try_from(offset).map_err(|_| Reason::StringRange)?;
        let rest = self.0.get(start..).ok_or(Reason::StringRange)?;
        if rest.is_empty() {
            return Err(Reason::StringRange);
        }
        let len = rest
            .bytes()
            .take(MAX_STRING + 1)
            .position(|byte| byte == 0)
            .ok_or(Reason::StringTooLong)?;
        rest.get(..len).ok_or(Reason::StringTooLong)
    }
}

/// Whether a character is not seen, or has others seen as what they are not: those that only format text (Unicode's `Cf`),
/// such as what turns its direction, and the separators of lines and paragraphs.
pub const fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

/// An ELF object that [`Elf::parse`] has accepted.
///
/// # Invariants
///
/// Everything that the module's documentation says holds, so that nothing below can fail.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a> {
    bytes: &'a [u8],
    headers: &'a [u8],
    section_names: Strings<'a>,
    symbols: &'a [u8],
    symbol_names: Strings<'a>,
}

impl<'a> Elf<'a> {
    /// Walks an object and checks all of it.
    ///
    /// # Errors
    ///
    /// One [`Reason`] with the header's offset, the section, the symbol or the relocation.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let header = check_header(bytes)?;
        let headers = section_headers(bytes, &header)?;
        // INVARIANT: the steps below check the rest, each relying on those in front of it only.
        let mut elf = Self {
            bytes,
            headers,
            section_names: Strings("\0"),
            symbols: &[],
            symbol_names: Strings("\0"),
        };
        elf.check_sections(header.shoff)?;
        elf.section_names = elf.strings_of(u32::from(header.shstrndx), Reason::NameTable)?;
        elf.check_section_names()?;
        elf.find_symbols()?;
        elf.check_symbols()?;
        elf.check_relocations()?;
        Ok(elf)
    }

    /// The whole object.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of sections, section 0 included.
    pub fn nr_sections(&self) -> u32 {
        count(self.headers, SectionHeader::SIZE)
    }

    /// Number of symbols, symbol 0 included.
    pub fn nr_symbols(&self) -> u32 {
        count(self.symbols, SymbolEntry::SIZE)
    }

    /// The section with an index.
    pub fn section(&self, index: u32) -> Option<Section<'a>> {
        let header = self.header(index)?;
        let kind = SectionKind::new(header.kind)?;
        let data = if kind.in_file() {
            slice(self.bytes, header.offset, header.size)?
        } else {
            &[]
        };
        Some(Section {
            index,
            name: self.section_names.get(header.name).unwrap_or(""),
            kind,
            flags: header.flags,
            offset: header.offset,
            size: header.size,
            align: header.addralign.max(1),
            link: header.link,
            info: header.info,
            data,
        })
    }

    /// All sections, section 0 included, ascending by index.
    pub fn sections(&self) -> impl Iterator<Item = Section<'a>> + 'a {
        let elf = *self;
        (0..elf.nr_sections()).filter_map(move |index| elf.section(index))
    }

    /// The symbol with an index.
    pub fn symbol(&self, index: u32) -> Option<Symbol<'a>> {
        let entry = self.symbol_entry(index)?;
        let kind = symbol_kind(entry.info)?;
        Some(Symbol {
            index,
            name: self.symbol_names.get(entry.name).unwrap_or(""),
            binding: symbol_binding(entry.info)?,
            kind,
            home: match entry.shndx {
                _ if index == 0 || kind == SymbolKind::File => Home::Nowhere,
                SHN_UNDEF => Home::Undefined,
                section => Home::Section(u32::from(section)),
            },
            value: entry.value,
            size: entry.size,
        })
    }

    /// All symbols, symbol 0 included, ascending by index.
    pub fn symbols(&self) -> impl Iterator<Item = Symbol<'a>> + 'a {
        let elf = *self;
        (0..elf.nr_symbols()).filter_map(move |index| elf.symbol(index))
    }

    /// The relocations that a section holds; none if it is not [`SectionKind::Rela`].
    pub fn relocations(&self, section: &Section<'a>) -> Relocations<'a> {
        let rest = match section.kind {
            SectionKind::Rela => section.data,
            _ => &[],
        };
        Relocations { rest }
    }

    /// Number of relocations in all sections.
    pub fn nr_relocations(&self) -> usize {
        self.sections().map(|s| self.relocations(&s).len()).sum()
    }

    /// The header of a section as it is in the file.
    pub fn header(&self, index: u32) -> Option<SectionHeader> {
        entry(self.headers, index).map(SectionHeader::decode)
    }

    fn symbol_entry(&self, index: u32) -> Option<SymbolEntry> {
        entry(self.symbols, index).map(SymbolEntry::decode)
    }

    /// Checks every section header by itself, and their order in the file.
    fn check_sections(&self, table: u64) -> Result<(), Error> {
        let null = self.header(0);
        if null != Some(SectionHeader::default()) {
            return Err(Error::section(Reason::SectionNull, 0));
        }
        let mut end = to_u64(Header::SIZE);
        for index in 1..self.nr_sections() {
            let fail = |reason| Error::section(reason, index);
            let header = self.header(index).ok_or(fail(Reason::SectionTable))?;
            let kind = check_section(&header).map_err(fail)?;
            if kind.in_file() {
                end = check_extent(&header, end, table).map_err(fail)?;
            }
        }
        Ok(())
    }

    fn check_section_names(&self) -> Result<(), Error> {
        for index in 1..self.nr_sections() {
            let fail = || Error::section(Reason::SectionName, index);
            let header = self.header(index).ok_or_else(fail)?;
            match self.section_names.get(header.name) {
                Ok(name) if !name.is_empty() => {}
                _ => return Err(fail()),
            }
        }
        Ok(())
    }

    /// The string table with an index; `reason` if there is none.
    fn strings_of(&self, index: u32, reason: Reason) -> Result<Strings<'a>, Error> {
        match self.section(index) {
            Some(section) if section.kind == SectionKind::StrTab => {
                Strings::new(section.data).map_err(|_| Error::section(Reason::StringTable, index))
            }
            _ => Err(Error::section(reason, index)),
        }
    }

    fn find_symbols(&mut self) -> Result<(), Error> {
        let mut tables = self.sections().filter(|s| s.kind == SectionKind::SymTab);
        let table = tables
            .next()
            .ok_or(Error::from(Reason::SymbolTableMissing))?;
        if let Some(second) = tables.next() {
            return Err(Error::section(Reason::SymbolTableDuplicate, second.index));
        }
        if table.data.len() / SymbolEntry::SIZE > MAX_SYMBOLS {
            return Err(Error::section(Reason::SymbolCount, table.index));
        }
        let link = Error::section(Reason::SectionLink, table.index);
        self.symbol_names = match self.section(table.link) {
            Some(names) if names.kind == SectionKind::StrTab => {
                self.strings_of(names.index, Reason::SectionLink)?
            }
            _ => return Err(link),
        };
        self.symbols = table.data;
        if table.info == 0 || table.info > self.nr_symbols() {
            return Err(Error::section(Reason::SectionInfo, table.index));
        }
        let linked = |s: &Section<'_>| s.kind == SectionKind::Rela && s.link != table.index;
        match self.sections().find(linked) {
            Some(section) => Err(Error::section(Reason::SectionLink, section.index)),
            None => self.check_locals(table.info),
        }
    }

    /// Checks that the first `locals` symbols are local and no others.
    fn check_locals(&self, locals: u32) -> Result<(), Error> {
        for index in 0..self.nr_symbols() {
            let fail = |reason| Error::symbol(reason, index);
            let entry = self.symbol_entry(index).ok_or(fail(Reason::SymbolNull))?;
            let binding = symbol_binding(entry.info).ok_or(fail(Reason::SymbolBinding))?;
            if (binding == Binding::Local) != (index < locals) {
                return Err(fail(Reason::SymbolOrder));
            }
        }
        Ok(())
    }

    fn check_symbols(&self) -> Result<(), Error> {
        if self.symbol_entry(0) != Some(SymbolEntry::default()) {
            return Err(Error::symbol(Reason::SymbolNull, 0));
        }
        let mut names = 0;
        for index in 1..self.nr_symbols() {
            let fail = |reason| Error::symbol(reason, index);
            names = self
                .check_symbol(index)
                .map_err(fail)?
                .saturating_add(names);
            if names > MAX_SYMBOL_NAMES {
                return Err(fail(Reason::SymbolNames));
            }
        }
        Ok(())
    }

    /// Checks one symbol, and returns the length of its name.
    fn check_symbol(&self, index: u32) -> Result<usize, Reason> {
        let entry = self.symbol_entry(index).ok_or(Reason::SymbolNull)?;
        let kind = symbol_kind(entry.info).ok_or(Reason::SymbolType)?;
        let binding = symbol_binding(entry.info).ok_or(Reason::SymbolBinding)?;
        if entry.other != 0 {
            return Err(Reason::SymbolOther);
        }
        let name = self.symbol_names.get(entry.name);
        let length = name.map_err(|_| Reason::SymbolName)?.len();
        if kind == SymbolKind::File {
            // A file name is the one symbol that may be absolute, because nothing can refer to it.
            return if entry.shndx != SHN_ABS {
                Err(Reason::SymbolSection)
            } else if (entry.value, entry.size, binding) != (0, 0, Binding::Local) {
                Err(Reason::SymbolRange)
            } else {
                Ok(length)
            };
        }
        if entry.shndx == SHN_UNDEF {
            let plain = entry.value == 0 && binding != Binding::Local;
            return if plain && kind != SymbolKind::Section {
                Ok(length)
            } else {
                Err(Reason::SymbolUndefined)
            };
        }
        let section = self.header(u32::from(entry.shndx));
        let section = section
            .filter(|header| header.flags & SHF_ALLOC != 0)
            .ok_or(Reason::SymbolSection)?;
        match entry.value.checked_add(entry.size) {
            Some(end) if end <= section.size => Ok(length),
            _ => Err(Reason::SymbolRange),
        }
    }

    fn check_relocations(&self) -> Result<(), Error> {
        let mut previous = 0;
        for section in self.sections() {
            let Some(target) = section.target() else {
                continue;
            };
            let fail = |reason| Error::section(reason, section.index);
            let target = self
                .section(target)
                .filter(|t| t.kind == SectionKind::ProgBits && t.is_alloc())
                .ok_or(fail(Reason::RelocationSection))?;
            // Section 0 is never a target, so that one comparison refuses duplicates too.
            if target.index <= previous {
                return Err(fail(Reason::RelocationDuplicate));
            }
            previous = target.index;
            self.check_entries(&section, target.data)?;
        }
        Ok(())
    }

    fn check_entries(&self, section: &Section<'a>, target: &[u8]) -> Result<(), Error> {
        let mut end = 0;
        for index in 0..count(section.data, RelaEntry::SIZE) {
            end = self
                .check_relocation(section, index, target, end)
                .map_err(|reason| {
                    let section = section.index;
                    Error::new(reason, Place::Relocation { section, index })
                })?;
        }
        Ok(())
    }

    /// Checks one relocation that may not start in front of `end`, and returns its own end.
    fn check_relocation(
        &self,
        section: &Section<'a>,
        index: u32,
        target: &[u8],
        end: u64,
    ) -> Result<u64, Reason> {
        let bytes = entry(section.data, index).ok_or(Reason::RelocationRange)?;
        let relocation = Relocation::decode(bytes).ok_or(Reason::RelocationType)?;
        let width = u64::from(relocation.kind.width());
        let field = slice(target, relocation.offset, width).ok_or(Reason::RelocationRange)?;
        if relocation.offset < end {
            return Err(Reason::RelocationOrder);
        }
        if field.iter().any(|&byte| byte != 0) {
            return Err(Reason::RelocationNotZero);
        }
        match self.symbol_entry(relocation.symbol) {
            Some(symbol)
                if relocation.symbol != 0 && symbol_kind(symbol.info) != Some(SymbolKind::File) =>
            {
                Ok(relocation.offset.saturating_add(width))
            }
            _ => Err(Reason::RelocationSymbol),
        }
    }
}

/// Checks the ELF header up to what needs the sections.
fn check_header(bytes: &[u8]) -> Result<Header, Error> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(Reason::TooLarge.into());
    }
    let chunk = bytes.first_chunk().ok_or(Error::from(Reason::TooSmall))?;
    let header = Header::decode(chunk);
    let size = |n: usize| u16::try_from(n).unwrap_or(0);
    let checks = [
        (header.magic == MAGIC, 0, Reason::ElfMagic),
        (header.class == CLASS_64, 4, Reason::ElfClass),
        (header.data == DATA_LE, 5, Reason::ElfEndian),
        (header.ident_version == VERSION, 6, Reason::ElfVersion),
        (header.abi == 0, 7, Reason::ElfAbi),
        (header.padding == 0, 8, Reason::ElfAbi),
        (header.kind == TYPE_REL, 16, Reason::ElfType),
        (header.machine == MACHINE_X86_64, 18, Reason::ElfMachine),
        (header.version == u32::from(VERSION), 20, Reason::ElfVersion),
        (header.entry == 0, 24, Reason::ElfEntry),
        (header.phoff == 0, 32, Reason::ElfSegments),
        (header.flags == 0, 48, Reason::ElfFlags),
        (
            header.ehsize == size(Header::SIZE),
            52,
            Reason::ElfHeaderSize,
        ),
        (header.phentsize == 0, 54, Reason::ElfSegments),
        (header.phnum == 0, 56, Reason::ElfSegments),
        (
            header.shentsize == size(SectionHeader::SIZE),
            58,
            Reason::SectionHeaderSize,
        ),
        (
            (1..=MAX_SECTIONS).contains(&usize::from(header.shnum)),
            60,
            Reason::SectionCount,
        ),
    ];
    match checks.iter().find(|(good, ..)| !good) {
        Some(&(_, offset, reason)) => Err(Error::offset(reason, offset)),
        None => Ok(header),
    }
}

/// The section header table, which must be the end of the file.
fn section_headers<'a>(bytes: &'a [u8], header: &Header) -> Result<&'a [u8], Error> {
    let fail = Error::offset(Reason::SectionTable, 40);
    let size = u64::from(header.shnum)
        .checked_mul(to_u64(SectionHeader::SIZE))
        .ok_or(fail)?;
    let end = header.shoff.checked_add(size).ok_or(fail)?;
    if header.shoff < to_u64(Header::SIZE) || end != to_u64(bytes.len()) {
        return Err(fail);
    }
    slice(bytes, header.shoff, size).ok_or(fail)
}

/// Checks a section header by itself.
fn check_section(header: &SectionHeader) -> Result<SectionKind, Reason> {
    let kind = SectionKind::new(header.kind).ok_or(Reason::SectionType)?;
    if kind == SectionKind::Null {
        return Err(Reason::SectionNull);
    }
    let write_exec = SHF_WRITE | SHF_EXECINSTR;
    if header.flags & write_exec == write_exec {
        return Err(Reason::SectionWriteExec);
    }
    if !kind.allows(header.flags) {
        return Err(Reason::SectionFlags);
    }
    if header.addr != 0 {
        return Err(Reason::SectionAddress);
    }
    let align = header.addralign.max(1);
    if !align.is_power_of_two() || align > MAX_ALIGN {
        return Err(Reason::SectionAlign);
    }
    if header.flags & SHF_ALLOC != 0 && header.size > MAX_REGION {
        return Err(Reason::SectionSize);
    }
    if let Some(size) = kind.entry_size() {
        if header.entsize != size || header.size.checked_rem(size) != Some(0) {
            return Err(Reason::SectionEntrySize);
        }
    } else if header.link != 0 {
        return Err(Reason::SectionLink);
    } else if header.info != 0 {
        return Err(Reason::SectionInfo);
    }
    Ok(kind)
}

/// Checks where a section lies in the file, and returns its end.
fn check_extent(header: &SectionHeader, previous: u64, table: u64) -> Result<u64, Reason> {
    let end = header.offset.checked_add(header.size);
    let end = end
        .filter(|&end| end <= table && header.offset >= to_u64(Header::SIZE))
        .ok_or(Reason::SectionRange)?;
    if header.offset < previous {
        return Err(Reason::SectionOverlap);
    }
    if header.offset.checked_rem(header.addralign.max(1)) != Some(0) {
        return Err(Reason::SectionMisaligned);
    }
    Ok(end)
}

fn symbol_binding(info: u8) -> Option<Binding> {
    Some(match info >> 4 {
        0 => Binding::Local,
        1 => Binding::Global,
        2 => Binding::Weak,
        _ => return None,
    })
}

fn symbol_kind(info: u8) -> Option<SymbolKind> {
    Some(match info & 0xf {
        0 => SymbolKind::None,
        1 => SymbolKind::Object,
        2 => SymbolKind::Func,
        3 => SymbolKind::Section,
        4 => SymbolKind::File,
        _ => return None,
    })
}

/// The fixed-size entry with an index in a table.
pub(super) fn entry<const N: usize>(table: &[u8], index: u32) -> Option<&[u8; N]> {
    let start = usize::try_from(index).ok()?.checked_mul(N)?;
    table.get(start..)?.first_chunk()
}

/// Number of whole entries of `size` bytes in a table; tables are at most [`MAX_PAYLOAD`] bytes.
pub(super) fn count(table: &[u8], size: usize) -> u32 {
    let entries = table.len().checked_div(size).unwrap_or(0);
    u32::try_from(entries).unwrap_or(0)
}

/// The bytes of a range.
pub(super) fn slice(bytes: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    rest.get(..usize::try_from(size).ok()?)
}

/// Widens a size; there is no `From` because Rust leaves the width of `usize` open.
pub(super) const fn to_u64(size: usize) -> u64 {
    // CAST: `usize` has 64 bits on x86-64.
    size as u64
}

/// The lower half of a word.
#[inline]
fn low(word: u64) -> u32 {
    // CAST: the upper half is cut off on purpose.
    word as u32
}

/// The upper half of a word.
#[inline]
fn high(word: u64) -> u32 {
    low(word >> 32)
}
