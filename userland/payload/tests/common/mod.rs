// SPDX-License-Identifier: GPL-2.0

//! A writer of good payloads of any shape, for the tests and the benchmark.

use kcare_payload::elf::{self, Header, RelaEntry, SectionHeader, SymbolEntry};
use kcare_payload::layout::{
    Callback, Extern, Fix, Func, Manifest, Object, State, MAGIC, MASK_ANY, MASK_MATCH,
    SEC_CALLBACKS, SEC_EXTERNS, SEC_FIXES, SEC_FUNCS, SEC_MANIFEST, SEC_OBJECTS, SEC_PART,
    SEC_PREIMAGES, SEC_STATES, SEC_STRINGS, SEC_TRAMPOLINES, TRAMPOLINE_FILL, TRAMPOLINE_SIZE,
    VERSION,
};
use kcare_payload::reloc::Kind;

use crate::malform::image::{add_string, content, table, Chunk, Image};

/// How much of everything a payload has.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Modules besides vmlinux; the last one is patched. With none, vmlinux is.
    pub modules: u32,
    /// Redirected functions, 1 or more.
    pub funcs: u32,
    /// External symbols, 1 or more.
    pub externs: u32,
    /// Fixes.
    pub fixes: u32,
    /// Relocations in each function.
    pub relocations: u32,
    /// Parts, each for a module and much like the payload itself; only for vmlinux's payload.
    pub parts: u32,
}

/// A payload with a little of everything.
pub const SAMPLE: Spec = Spec {
    modules: 2,
    funcs: 5,
    externs: 4,
    fixes: 2,
    relocations: 6,
    parts: 0,
};

/// The kinds of the callbacks that each payload has.
const CALLBACKS: [u32; 2] = [0, 3];
/// The states that a payload for vmlinux has.
const STATES: [State; 2] = [
    State {
        id: 3,
        version: 1,
        reserved: 0,
    },
    State {
        id: 1 << 40,
        version: 7,
        reserved: 0,
    },
];

/// Index of the object that is patched.
fn target(spec: &Spec) -> u32 {
    spec.modules
}

/// Name of the module with an index in the table of objects.
pub fn module_name(index: u32) -> String {
    format!("sample_mod_{index:04}")
}

/// Bytes from one relocation's field to the next.
const STEP: u64 = 16;
/// What a function starts with: `endbr64`, and the five-byte nop that fentry leaves.
const PROLOGUE: [u8; 9] = [0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x1f, 0x44, 0x00, 0x00];
/// Size of an original function in bytes.
pub const FUNC_SIZE: u32 = 40;
/// Distance between original functions in bytes.
pub const FUNC_STEP: u64 = 64;
/// Offset of the first cold part.
const COLD: u64 = 1 << 24;
/// Size of each cold part in bytes.
const COLD_SIZE: u32 = 24;
/// Kinds of relocations that functions use, in turn.
pub const KINDS: [Kind; 6] = [
    Kind::Plt32,
    Kind::Pc32,
    Kind::Abs32S,
    Kind::Abs64,
    Kind::Abs32,
    Kind::Pc64,
];

/// The addend of a kind in these payloads; 32-bit absolute values need one that wraps around.
pub const fn addend(kind: Kind) -> i64 {
    match kind {
        Kind::Pc32 | Kind::Plt32 => -4,
        Kind::Abs32 => 0x1_0000_0000,
        Kind::Abs64 | Kind::Abs32S | Kind::Pc64 => 8,
    }
}

/// Writes a payload.
pub fn build(spec: &Spec) -> Vec<u8> {
    image(spec).write()
}

/// Makes a payload.
pub fn image(spec: &Spec) -> Image {
    let mut maker = Maker::new();
    let data = maker.push(".data.sample", content(elf::SHF_WRITE, 16), vec![0x11; 48]);
    let rodata = maker.push(".rodata.str", content(0x30, 1), b"\0sample\0".to_vec());
    for (name, align) in [("__jump_table", 8), (".data..ro_after_init", 32)] {
        maker.push(name, content(elf::SHF_WRITE, align), vec![0; 16]);
    }
    let bss = SectionHeader {
        kind: elf::SHT_NOBITS,
        size: 300,
        ..content(elf::SHF_WRITE, 64)
    };
    let bss = maker.push(".bss", bss, Vec::new());

    let locals = [
        ("sample.c", 4, elf::SHN_ABS, 0),
        ("", 3, data, 0),
        ("sample_state", 1, bss, 300),
        ("sample_text", 1, rodata, 8),
    ];
    for (name, kind, shndx, size) in locals {
        maker.symbol(name, kind, shndx, 0, size);
    }
    let first_global = maker.symbols.len::<SymbolEntry>();
    maker.symbols.header.info = first_global;
    let first_func = first_global + spec.externs;
    let mut externs = Vec::new();
    for i in 0..spec.externs {
        let symbol = maker.symbol(&format!("external_{i}"), 0x10, elf::SHN_UNDEF, 0, 0);
        let object = i % (spec.modules + 1);
        let region = if object == 0 { 0 } else { i % 4 };
        let offset = u64::from(i) * 16;
        externs.push(Extern {
            symbol,
            object,
            offset,
            region,
            reserved: 0,
        });
    }
    for i in 0..spec.funcs {
        maker.function(spec, i, first_global, first_func);
    }

    let trampolines = vec![TRAMPOLINE_FILL; spec.funcs as usize * TRAMPOLINE_SIZE];
    maker.push(
        SEC_TRAMPOLINES,
        content(elf::SHF_EXECINSTR, 32),
        trampolines,
    );
    maker.tables(spec, &externs, first_func);
    maker.finish()
}

struct Maker {
    image: Image,
    section_names: Vec<u8>,
    symbols: Chunk,
    symbol_names: Vec<u8>,
    strings: Vec<u8>,
}

impl Maker {
    fn new() -> Self {
        let header = Header {
            magic: elf::MAGIC,
            class: elf::CLASS_64,
            data: elf::DATA_LE,
            ident_version: elf::VERSION,
            kind: elf::TYPE_REL,
            machine: elf::MACHINE_X86_64,
            version: u32::from(elf::VERSION),
            ehsize: 64,
            shentsize: 64,
            ..Header::default()
        };
        let null = Chunk {
            header: SectionHeader::default(),
            data: Vec::new(),
        };
        let symbols = SectionHeader {
            kind: elf::SHT_SYMTAB,
            addralign: 8,
            entsize: 24,
            ..SectionHeader::default()
        };
        Self {
            image: Image {
                header,
                sections: vec![null],
            },
            section_names: vec![0],
            symbols: Chunk {
                header: symbols,
                data: vec![0; 24],
            },
            symbol_names: vec![0],
            strings: vec![0],
        }
    }

    fn push(&mut self, name: &str, header: SectionHeader, data: Vec<u8>) -> u16 {
        let name = add_string(&mut self.section_names, name);
        let header = SectionHeader { name, ..header };
        self.image.sections.push(Chunk { header, data });
        u16::try_from(self.image.sections.len() - 1).expect("few sections")
    }

    fn symbol(&mut self, name: &str, info: u8, shndx: u16, value: u64, size: u64) -> u32 {
        let name = match name {
            "" => 0,
            name => add_string(&mut self.symbol_names, name),
        };
        let symbol = SymbolEntry {
            name,
            info,
            other: 0,
            shndx,
            value,
            size,
        };
        self.symbols.push(&symbol)
    }

    fn string(&mut self, string: &str) -> u32 {
        add_string(&mut self.strings, string)
    }

    /// Adds the code, the relocations and the symbol of one function.
    fn function(&mut self, spec: &Spec, number: u32, externs: u32, funcs: u32) {
        let size = STEP * (1 + u64::from(spec.relocations)) + 1;
        let mut code = PROLOGUE.to_vec();
        code.resize(size as usize, 0x90);
        code[size as usize - 1] = 0xc3;
        let mut relocations = Vec::new();
        for i in 0..spec.relocations {
            let kind = KINDS[i as usize % KINDS.len()];
            let offset = STEP * u64::from(i + 1) + 3;
            let width = usize::from(kind.width());
            code[offset as usize..offset as usize + width].fill(0);
            let symbol = match kind {
                Kind::Plt32 => externs + i % spec.externs,
                Kind::Pc32 => 4,
                Kind::Abs64 => funcs + i % spec.funcs,
                Kind::Abs32S | Kind::Abs32 | Kind::Pc64 => 2 + i % 3,
            };
            let info = (u64::from(symbol) << 32) | u64::from(kind.number());
            let addend = addend(kind) as u64;
            relocations.extend(
                RelaEntry {
                    offset,
                    info,
                    addend,
                }
                .encode(),
            );
        }
        let name = format!("replacement_{number}");
        let section = format!(".text.{name}");
        let text = self.push(&section, content(elf::SHF_EXECINSTR, 16), code);
        self.symbol(&name, 0x12, text, 0, size);
        if spec.relocations != 0 {
            let header = SectionHeader {
                kind: elf::SHT_RELA,
                flags: elf::SHF_INFO_LINK,
                info: u32::from(text),
                addralign: 8,
                entsize: 24,
                ..SectionHeader::default()
            };
            self.push(&format!(".rela{section}"), header, relocations);
        }
    }

    fn tables(&mut self, spec: &Spec, externs: &[Extern], first_func: u32) {
        let mut objects = Vec::new();
        for i in 0..=spec.modules {
            let name = match i {
                0 => self.string("vmlinux"),
                _ => self.string(&module_name(i)),
            };
            let mut build_id = [0; 20];
            build_id[..8]
                .copy_from_slice(&u64::from(i + 1).wrapping_mul(0x9e37_79b9).to_le_bytes());
            let build_id_len = if i == 0 { 20 } else { 8 };
            objects.extend(
                Object {
                    name,
                    build_id_len,
                    build_id,
                    note: if i == 0 { 0 } else { 0x34 },
                }
                .encode(),
            );
        }

        let mut funcs = Vec::new();
        let mut preimages = Vec::new();
        for i in 0..spec.funcs {
            let mut func = Func {
                object: target(spec),
                name: self.string(&format!("original_{i}")),
                offset: u64::from(i) * FUNC_STEP,
                size: FUNC_SIZE,
                fentry: 4 * (i % 2),
                symbol: first_func + i,
                preimage: u32::try_from(preimages.len()).expect("few functions"),
                ..Func::default()
            };
            if i % 2 == 1 {
                // Cold parts lie behind all functions, back to back.
                func.cold_offset = COLD + u64::from(i / 2 * COLD_SIZE);
                func.cold_size = COLD_SIZE;
            }
            preimages.extend((0..FUNC_SIZE).map(|at| (at * 7 + i) as u8));
            let free = func.fentry..func.fentry + 5;
            let mask = |at| {
                if free.contains(&at) {
                    MASK_ANY
                } else {
                    MASK_MATCH
                }
            };
            preimages.extend((0..FUNC_SIZE).map(mask));
            funcs.extend(func.encode());
        }

        let mut fixes = Vec::new();
        for i in 0..spec.fixes {
            let id = if i % 2 == 0 {
                self.string(&format!("CVE-2026-{i:04}"))
            } else {
                0
            };
            let title = self.string(&format!("fix number {i}"));
            fixes.extend(
                Fix {
                    id,
                    title,
                    reserved: 0,
                }
                .encode(),
            );
        }

        let manifest = Manifest {
            version: VERSION,
            size: Manifest::SECTION_SIZE as u32,
            level: 9,
            build_time: 1_795_515_120,
            release: self.string("7.2.9+deb13-cloud-amd64"),
            description: self.string("9;7.2.12-1"),
            nr_objects: spec.modules + 1,
            nr_funcs: spec.funcs,
            nr_externs: spec.externs,
            nr_fixes: spec.fixes,
            preimage_bytes: u32::try_from(preimages.len()).expect("few functions"),
            string_bytes: u32::try_from(self.strings.len()).expect("few strings"),
            nr_callbacks: CALLBACKS.len() as u32,
            nr_states: if spec.modules == 0 {
                STATES.len() as u32
            } else {
                0
            },
            nr_parts: spec.parts,
            target: target(spec),
            ..Manifest::default()
        };
        let callbacks = CALLBACKS.map(|kind| Callback {
            kind,
            symbol: first_func,
            reserved: 0,
        });
        let callbacks = callbacks.iter().flat_map(Callback::encode).collect();
        let states = STATES.iter().flat_map(State::encode);
        let states = states
            .take(manifest.nr_states as usize * State::SIZE)
            .collect();
        for i in 0..spec.parts {
            let part = Spec {
                modules: i + 1,
                fixes: 0,
                parts: 0,
                ..spec.clone()
            };
            let name = format!("{SEC_PART}{}", module_name(i + 1));
            self.push(
                &name,
                SectionHeader {
                    addralign: 16,
                    ..table()
                },
                build(&part),
            );
        }
        let mut head = MAGIC.to_vec();
        head.extend(manifest.encode());
        let externs = externs.iter().flat_map(Extern::encode).collect();
        let strings = std::mem::take(&mut self.strings);
        let all = [
            (SEC_MANIFEST, head),
            (SEC_OBJECTS, objects),
            (SEC_FUNCS, funcs),
            (SEC_EXTERNS, externs),
            (SEC_FIXES, fixes),
            (SEC_CALLBACKS, callbacks),
            (SEC_STATES, states),
            (SEC_PREIMAGES, preimages),
            (SEC_STRINGS, strings),
        ];
        for (name, data) in all {
            self.push(name, table(), data);
        }
    }

    fn finish(mut self) -> Image {
        let strtab = SectionHeader {
            kind: elf::SHT_STRTAB,
            ..table()
        };
        let symbol_names = std::mem::take(&mut self.symbol_names);
        let names = self.push(".strtab", strtab, symbol_names);
        let header = SectionHeader {
            link: u32::from(names),
            ..self.symbols.header
        };
        let symbols = std::mem::take(&mut self.symbols.data);
        let symtab = self.push(".symtab", header, symbols);
        let section_names = self.push(".shstrtab", strtab, Vec::new());
        let mut image = self.image;
        for chunk in &mut image.sections {
            if chunk.header.kind == elf::SHT_RELA {
                chunk.header.link = u32::from(symtab);
            }
        }
        image.sections[usize::from(section_names)].data = self.section_names;
        image.header.shstrndx = section_names;
        image
    }
}
