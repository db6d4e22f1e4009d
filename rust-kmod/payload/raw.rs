// SPDX-License-Identifier: GPL-2.0

//! ELF records and numbers as they are in the file (System V ABI, chapter 4), of what payloads use.

use super::layout::record;

/// `\x7fELF`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");
/// `ELFCLASS64`.
pub const CLASS_64: u8 = 2;
/// `ELFDATA2LSB`.
pub const DATA_LE: u8 = 1;
/// `EV_CURRENT`.
pub const VERSION: u8 = 1;
/// `ET_REL`.
pub const TYPE_REL: u16 = 1;
/// `EM_X86_64`.
pub const MACHINE_X86_64: u16 = 62;

/// `SHT_NULL`.
pub const SHT_NULL: u32 = 0;
/// `SHT_PROGBITS`.
pub const SHT_PROGBITS: u32 = 1;
/// `SHT_SYMTAB`.
pub const SHT_SYMTAB: u32 = 2;
/// `SHT_STRTAB`.
pub const SHT_STRTAB: u32 = 3;
/// `SHT_RELA`.
pub const SHT_RELA: u32 = 4;
/// `SHT_NOBITS`.
pub const SHT_NOBITS: u32 = 8;

/// `SHF_WRITE`.
pub const SHF_WRITE: u64 = 0x1;
/// `SHF_ALLOC`: the section takes memory.
pub const SHF_ALLOC: u64 = 0x2;
/// `SHF_EXECINSTR`.
pub const SHF_EXECINSTR: u64 = 0x4;
/// `SHF_MERGE`; it has no meaning to a loader.
pub const SHF_MERGE: u64 = 0x10;
/// `SHF_STRINGS`; it has no meaning to a loader.
pub const SHF_STRINGS: u64 = 0x20;
/// `SHF_INFO_LINK`.
pub const SHF_INFO_LINK: u64 = 0x40;

/// `SHN_UNDEF`.
pub const SHN_UNDEF: u16 = 0;
/// `SHN_ABS`; only file names have it.
pub const SHN_ABS: u16 = 0xfff1;

record! {
    /// `Elf64_Ehdr`.
    pub struct Header, 64 {
        /// [`MAGIC`].
        0 magic: u32,
        /// [`CLASS_64`].
        4 class: u8,
        /// [`DATA_LE`].
        5 data: u8,
        /// [`VERSION`].
        6 ident_version: u8,
        /// Zero.
        7 abi: u8,
        /// Zero.
        8 padding: u64,
        /// [`TYPE_REL`].
        16 kind: u16,
        /// [`MACHINE_X86_64`].
        18 machine: u16,
        /// [`VERSION`].
        20 version: u32,
        /// Zero.
        24 entry: u64,
        /// Zero.
        32 phoff: u64,
        /// File offset of the section header table.
        40 shoff: u64,
        /// Zero.
        48 flags: u32,
        /// [`Header::SIZE`].
        52 ehsize: u16,
        /// Zero.
        54 phentsize: u16,
        /// Zero.
        56 phnum: u16,
        /// [`SectionHeader::SIZE`].
        58 shentsize: u16,
        /// Number of sections.
        60 shnum: u16,
        /// Index of the section that holds the names of sections.
        62 shstrndx: u16,
    }
}

record! {
    /// `Elf64_Shdr`.
    pub struct SectionHeader, 64 {
        /// Offset of the name in the section name table.
        0 name: u32,
        /// `SHT_…`.
        4 kind: u32,
        /// `SHF_…`.
        8 flags: u64,
        /// Zero.
        16 addr: u64,
        /// File offset of the content.
        24 offset: u64,
        /// Size in bytes.
        32 size: u64,
        /// Index of another section, by type.
        40 link: u32,
        /// By type.
        44 info: u32,
        /// Alignment in bytes; 0 is 1.
        48 addralign: u64,
        /// Size of an entry in bytes.
        56 entsize: u64,
    }
}

record! {
    /// `Elf64_Sym`.
    pub struct SymbolEntry, 24 {
        /// Offset of the name in the string table.
        0 name: u32,
        /// Binding in the upper and type in the lower four bits.
        4 info: u8,
        /// Zero: the default visibility.
        5 other: u8,
        /// Index of the section, or `SHN_…`.
        6 shndx: u16,
        /// Offset in the section.
        8 value: u64,
        /// Size in bytes.
        16 size: u64,
    }
}

record! {
    /// `Elf64_Rela`.
    pub struct RelaEntry, 24 {
        /// Offset in the section that the relocation is against.
        0 offset: u64,
        /// Symbol index in the upper and type in the lower 32 bits.
        8 info: u64,
        /// Addend, two's complement.
        16 addend: u64,
    }
}
