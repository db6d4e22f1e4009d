// SPDX-License-Identifier: GPL-2.0

//! A small payload for the tests: it parses, and is signed by nobody who is trusted.

use kcare_payload::elf::{self, Header, SectionHeader, SymbolEntry};
use kcare_payload::layout::*;
use kcare_payload::trailer;

/// Kernel release that the sample is for; another one runs in the fixtures.
pub(crate) const RELEASE: &str = "7.2.9+deb13-cloud-amd64";
/// Build-id of vmlinux in the sample.
pub(crate) const VMLINUX_ID: [u8; BUILD_ID_MAX] = [0x3f; BUILD_ID_MAX];

/// A table of NUL-terminated strings in the making.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, string: &str) -> u32 {
        let offset = self.0.len() as u32;
        self.0.extend(string.as_bytes());
        self.0.push(0);
        offset
    }
}

/// An ELF file in the making: contents, and the headers that go behind them.
struct File {
    bytes: Vec<u8>,
    headers: Vec<SectionHeader>,
    names: Strings,
}

impl File {
    fn add(&mut self, name: &str, header: SectionHeader, data: &[u8]) {
        self.bytes.resize(
            self.bytes.len().next_multiple_of(header.addralign as usize),
            0,
        );
        self.headers.push(SectionHeader {
            name: self.names.add(name),
            offset: self.bytes.len() as u64,
            size: data.len() as u64,
            ..header
        });
        self.bytes.extend(data);
    }

    fn finish(mut self) -> Vec<u8> {
        let index = self.headers.len() as u16;
        let name = self.names.add(".shstrtab");
        let names = self.names.0.clone();
        self.headers.push(SectionHeader {
            name,
            offset: self.bytes.len() as u64,
            size: names.len() as u64,
            ..section(elf::SHT_STRTAB, 0, 1)
        });
        self.bytes.extend(names);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let header = Header {
            magic: elf::MAGIC,
            class: elf::CLASS_64,
            data: elf::DATA_LE,
            ident_version: elf::VERSION,
            kind: elf::TYPE_REL,
            machine: elf::MACHINE_X86_64,
            version: elf::VERSION.into(),
            shoff: self.bytes.len() as u64,
            ehsize: Header::SIZE as u16,
            shentsize: SectionHeader::SIZE as u16,
            shnum: index + 1,
            shstrndx: index,
            ..Header::default()
        };
        self.bytes[..Header::SIZE].copy_from_slice(&header.encode());
        self.bytes
            .extend(self.headers.iter().flat_map(SectionHeader::encode));
        self.bytes
    }
}

fn section(kind: u32, flags: u64, addralign: u64) -> SectionHeader {
    SectionHeader {
        kind,
        flags,
        addralign,
        ..SectionHeader::default()
    }
}

/// Level 7: redirects `tcp_sendmsg` of vmlinux, refers to `kfree`, and patches nothing in `nf_tables`.
pub(crate) fn payload() -> Vec<u8> {
    const SIZE: u32 = 16;
    let mut strings = Strings(vec![0]);
    let object = |name, build_id, note| Object {
        name,
        build_id_len: 20,
        build_id,
        note,
    };
    let objects = [
        object(strings.add("vmlinux"), VMLINUX_ID, 0),
        object(strings.add("nf_tables"), [0; BUILD_ID_MAX], 16),
    ];
    let func = Func {
        name: strings.add("tcp_sendmsg"),
        size: SIZE,
        symbol: 1,
        ..Func::default()
    };
    let external = Extern {
        symbol: 2,
        ..Extern::default()
    };
    let manifest = Manifest {
        version: VERSION,
        size: Manifest::SECTION_SIZE as u32,
        level: 7,
        release: strings.add(RELEASE),
        description: strings.add("7;7.2.9-1"),
        nr_objects: 2,
        nr_funcs: 1,
        nr_externs: 1,
        preimage_bytes: 2 * SIZE,
        string_bytes: strings.0.len() as u32,
        ..Manifest::default()
    };

    let mut names = Strings(vec![0]);
    let symbols = [
        SymbolEntry::default(),
        // STB_GLOBAL, STT_FUNC, in section 1.
        SymbolEntry {
            name: names.add("tcp_sendmsg"),
            info: 0x12,
            shndx: 1,
            size: SIZE.into(),
            ..SymbolEntry::default()
        },
        // STB_GLOBAL, undefined.
        SymbolEntry {
            name: names.add("kfree"),
            info: 0x10,
            ..SymbolEntry::default()
        },
    ];

    let text = section(elf::SHT_PROGBITS, elf::SHF_ALLOC | elf::SHF_EXECINSTR, 32);
    let table = section(elf::SHT_PROGBITS, 0, 1);
    let mut file = File {
        bytes: vec![0; Header::SIZE],
        headers: vec![SectionHeader::default()],
        names: Strings(vec![0]),
    };
    file.add(".text", text, &[0xc3; SIZE as usize]);
    file.add(SEC_TRAMPOLINES, text, &[TRAMPOLINE_FILL; TRAMPOLINE_SIZE]);
    file.add(
        SEC_MANIFEST,
        table,
        &[&MAGIC[..], &manifest.encode()].concat(),
    );
    file.add(SEC_OBJECTS, table, &objects.map(|o| o.encode()).concat());
    file.add(SEC_FUNCS, table, &func.encode());
    file.add(SEC_EXTERNS, table, &external.encode());
    file.add(SEC_FIXES, table, &[]);
    file.add(SEC_CALLBACKS, table, &[]);
    file.add(SEC_STATES, table, &[]);
    file.add(SEC_PREIMAGES, table, &[MASK_ANY; 2 * SIZE as usize]);
    file.add(SEC_STRINGS, table, &strings.0);
    let symtab = SectionHeader {
        link: 13,
        info: 1,
        entsize: SymbolEntry::SIZE as u64,
        ..section(elf::SHT_SYMTAB, 0, 8)
    };
    file.add(".symtab", symtab, &symbols.map(|s| s.encode()).concat());
    file.add(".strtab", section(elf::SHT_STRTAB, 0, 1), &names.0);
    let body = file.finish();
    let signature: &[u8] = b"nobody's signature";
    let trailer = trailer::trailer_for(signature.len() as u32);
    [&body, signature, &trailer].concat()
}
