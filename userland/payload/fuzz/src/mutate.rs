// SPDX-License-Identifier: GPL-2.0

//! Changes of a payload that keep most of it: of sections, of records, of what refers to what, and of the parts.
//!
//! A change alone is nearly always refused at the first check that it meets. Therefore most changes are followed by
//! repairs of what they break elsewhere, such as counts and orders, each of which is left out now and then.

use kcare_payload::elf::{
    RelaEntry, SectionHeader, SymbolEntry, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK, SHF_MERGE,
    SHF_WRITE, SHN_UNDEF, SHT_NOBITS, SHT_PROGBITS, SHT_RELA, SHT_STRTAB, SHT_SYMTAB,
};
use kcare_payload::layout::{
    Callback, Extern, Fix, Func, Manifest, Object, State, MASK_ANY, MASK_MATCH, OBJECT_OUTER,
    REGION_PERCPU, SEC_CALLBACKS, SEC_EXTERNS, SEC_FIXES, SEC_FUNCS, SEC_MANIFEST, SEC_OBJECTS,
    SEC_PART, SEC_PREIMAGES, SEC_STATES, SEC_STRINGS, SEC_TRAMPOLINES, TRAMPOLINE_FILL,
    TRAMPOLINE_SIZE,
};
use kcare_payload::special::SPECIAL;

use crate::common::{build, module_name, Spec};
use crate::malform::image::{content, table, Chunk, Image};
use crate::random::Random;

/// More sections than any sample has; each may claim the whole file as its content.
const MAX_SECTIONS: usize = 160;
/// Largest function that gets a pre-image by repair, in bytes.
const MAX_PREIMAGE: u32 = 512;
/// Names of sections that are not taken by name, or that must not be there.
const NAMES: [&str; 16] = [
    ".text",
    ".text.more",
    ".rodata",
    ".rodata.more",
    ".data",
    ".data.more",
    ".data..ro_after_init",
    ".data..percpu",
    ".bss",
    ".bss.more",
    ".altinstr_replacement",
    ".init.text",
    ".cfi_sites",
    ".strtab",
    SEC_TRAMPOLINES,
    ".kcare.more",
];
/// The tables of records.
const TABLES: [&str; 6] = [
    SEC_OBJECTS,
    SEC_FUNCS,
    SEC_EXTERNS,
    SEC_FIXES,
    SEC_CALLBACKS,
    SEC_STATES,
];

/// Changes a payload and its parts; `None` if it cannot be taken apart, or the change does not apply.
pub fn payload(body: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    change(body, random, true)
}

fn change(body: &[u8], random: &mut Random, outer: bool) -> Option<Vec<u8>> {
    let mut image = Image::read(body)?;
    if !can_be_changed(&image) {
        return None;
    }
    for _ in 0..=random.below(3) {
        step(&mut image, random, outer);
        if !can_be_changed(&image) {
            return None;
        }
    }
    if !random.once_in(8) {
        repair(&mut image, random);
    }
    Some(image.write())
}

/// Whether there is something to change, and each section has a name.
fn can_be_changed(image: &Image) -> bool {
    let Some(names) = image.get(usize::from(image.header.shstrndx)) else {
        return false;
    };
    let named = |chunk: &Chunk| (chunk.header.name as usize) < names.data.len();
    let few = (2..=MAX_SECTIONS).contains(&image.len());
    few && names.header.kind == SHT_STRTAB && image.iter().all(named)
}

/// Size of the records that a section holds; 1 for plain bytes.
fn record(image: &Image, index: usize) -> usize {
    match image[index].header.kind {
        SHT_SYMTAB => SymbolEntry::SIZE,
        SHT_RELA => RelaEntry::SIZE,
        SHT_PROGBITS => match image.name(index as u32) {
            SEC_MANIFEST => Manifest::SECTION_SIZE,
            SEC_OBJECTS => Object::SIZE,
            SEC_FUNCS => Func::SIZE,
            SEC_EXTERNS => Extern::SIZE,
            SEC_FIXES => Fix::SIZE,
            SEC_CALLBACKS => Callback::SIZE,
            SEC_STATES => State::SIZE,
            _ => 1,
        },
        _ => 1,
    }
}

fn step(image: &mut Image, random: &mut Random, outer: bool) {
    let index = 1 + random.below(image.len() - 1);
    match random.below(16) {
        0..=3 => change_field(image, index, random),
        4 => change_header(image, index, random),
        5 => change_records(image, index, random),
        6 => move_section(image, index, random),
        7 => match random.once_in(2) {
            true => drop(remove(image, index)),
            false => image.sections.push(image[index].clone()),
        },
        8 => add_section(image, random),
        9 => drop(change_ranges(image, random)),
        10 => drop(change_relocations(image, random)),
        11 => drop(change_symbol(image, random)),
        12 => change_bytes(image, index, random),
        13 | 14 if outer => drop(change_part(image, random)),
        15 if outer => drop(change_parts(image, random)),
        _ => drop(change_extern(image, random)),
    }
}

/// Another number in a field: a telling one, or that of the same field in another record.
fn change_field(image: &mut Image, index: usize, random: &mut Random) {
    let record = record(image, index);
    let data = &mut image[index].data;
    let width = *random.one(&[1, 2, 4, 4, 8]);
    let records = data.len() / record;
    let field = random.below(record / width) * width;
    let at = random.below(records) * record + field;
    let from = random.below(records) * record + field;
    let get = |data: &[u8], at: usize| {
        let mut word = [0; 8];
        word[..width].copy_from_slice(data.get(at..at + width)?);
        Some(u64::from_le_bytes(word))
    };
    let (Some(old), Some(other)) = (get(data, at), get(data, from)) else {
        return;
    };
    let new = match random.once_in(4) {
        true => other,
        false => random.telling(old),
    };
    data[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
}

fn change_header(image: &mut Image, index: usize, random: &mut Random) {
    let sections = image.len() + 2;
    let header = &mut image[index].header;
    match random.below(8) {
        0 => header.kind = *random.one(&[0, 1, 2, 3, 4, 7, 8]),
        1 => header.flags ^= 1 << random.below(8),
        2 => header.size = random.telling(header.size),
        3 => header.link = random.below(sections) as u32,
        4 => header.info = random.below(sections) as u32,
        5 => header.addralign = random.telling(header.addralign),
        6 => header.entsize = random.telling(header.entsize),
        _ => header.addr = random.telling(0),
    }
}

/// A record less, one more, or two swapped.
fn change_records(image: &mut Image, index: usize, random: &mut Random) {
    let record = record(image, index);
    let data = &mut image[index].data;
    let records = data.len() / record;
    if records == 0 {
        data.resize(record, 0);
        return;
    }
    let at = random.below(records) * record;
    let to = random.below(records) * record;
    match random.below(3) {
        0 => drop(data.drain(at..at + record)),
        1 => {
            let copy = data[at..at + record].to_vec();
            data.splice(to..to, copy);
        }
        _ => (0..record).for_each(|byte| data.swap(at + byte, to + byte)),
    }
}

/// Gives sections other indices, also where they are referred to; `new` is by old index.
fn renumber(image: &mut Image, new: &[u32]) {
    let to = |old: u32| new.get(old as usize).copied().unwrap_or(old);
    for chunk in &mut image.sections {
        let header = &mut chunk.header;
        if matches!(header.kind, SHT_SYMTAB | SHT_RELA) {
            header.link = to(header.link);
        }
        if header.kind == SHT_RELA {
            header.info = to(header.info);
        }
        if header.kind == SHT_SYMTAB {
            for index in 0..chunk.len::<SymbolEntry>() {
                chunk.change(index, |symbol: &mut SymbolEntry| {
                    symbol.shndx = to(u32::from(symbol.shndx)) as u16;
                });
            }
        }
    }
    image.header.shstrndx = to(u32::from(image.header.shstrndx)) as u16;
}

fn move_section(image: &mut Image, from: usize, random: &mut Random) {
    let to = 1 + random.below(image.len() - 1);
    let mut order: Vec<usize> = (0..image.len()).collect();
    let moved = order.remove(from);
    order.insert(to, moved);
    let mut new = vec![0; order.len()];
    for (now, before) in order.iter().enumerate() {
        new[*before] = now as u32;
    }
    let chunk = image.sections.remove(from);
    image.sections.insert(to, chunk);
    renumber(image, &new);
}

/// Takes a section out, and whatever referred to it refers to nothing.
fn remove(image: &mut Image, index: usize) -> Chunk {
    let before = |old: usize| match old.cmp(&index) {
        std::cmp::Ordering::Less => old as u32,
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Greater => old as u32 - 1,
    };
    let new: Vec<u32> = (0..image.len()).map(before).collect();
    let chunk = image.sections.remove(index);
    renumber(image, &new);
    chunk
}

/// A table that the kernel takes by its name, or plain code and data: mostly as it should be.
fn add_section(image: &mut Image, random: &mut Random) {
    let write_exec = SHF_WRITE | SHF_EXECINSTR;
    let flags = [0, SHF_WRITE, SHF_EXECINSTR, write_exec, SHF_MERGE];
    let mut header = content(*random.one(&flags), 8);
    let mut size = random.below(65);
    let name = if random.once_in(2) {
        let special = random.one(&SPECIAL);
        header.flags = SHF_ALLOC | (random.word() & SHF_WRITE);
        size = special.entry as usize * random.below(3);
        special.name
    } else {
        random.one(&NAMES)
    };
    if random.once_in(4) {
        header.kind = *random.one(&[SHT_NOBITS, SHT_STRTAB]);
        header.size = size as u64;
    }
    if random.once_in(8) {
        header.flags = 0;
    }
    image.push(name, header, vec![0; size]);
}

/// Functions and cold parts, beside and on top of one another.
fn change_ranges(image: &mut Image, random: &mut Random) -> Option<()> {
    let funcs = image.section(SEC_FUNCS)?;
    let count = funcs.len::<Func>();
    let other: Func = funcs.get(random.below(count as usize) as u32)?;
    let ends = [
        other.offset,
        other.offset.wrapping_add(u64::from(other.size)),
        other.cold_offset,
        other.cold_offset.wrapping_add(u64::from(other.cold_size)),
        random.telling(other.offset),
    ];
    let place = random.one(&ends).wrapping_sub(random.below(3) as u64);
    let size = match random.once_in(4) {
        true => random.telling(u64::from(other.size)) as u32,
        false => 16 + random.below(64) as u32,
    };
    funcs.change(
        random.below(count as usize) as u32,
        |func: &mut Func| match random.below(4) {
            0 => func.offset = place,
            1 => func.size = size,
            2 => (func.cold_offset, func.cold_size) = (place, size),
            _ => (func.cold_offset, func.cold_size) = (0, 0),
        },
    )
}

/// A relocation more or changed, or a section of them more, against any section.
fn change_relocations(image: &mut Image, random: &mut Random) -> Option<()> {
    let all = 1..image.len();
    let (rela, others): (Vec<_>, Vec<_>) = all.partition(|&i| image[i].header.kind == SHT_RELA);
    let target = *random.one(&others);
    let symtab = image.symtab()?;
    let symbols = image[symtab as usize].len::<SymbolEntry>();
    let size = image[target].data.len();
    let entry = RelaEntry {
        offset: random.below(size) as u64,
        info: (random.below(symbols as usize) as u64) << 32
            | *random.one(&[1, 2, 4, 10, 11, 24, 3]),
        addend: random.telling(0),
    };
    match random.below(4) {
        // With a title, and in order, by repair.
        0 => {
            let header = SectionHeader {
                kind: SHT_RELA,
                flags: SHF_INFO_LINK,
                link: symtab,
                info: target as u32,
                addralign: 8,
                entsize: RelaEntry::SIZE as u64,
                ..SectionHeader::default()
            };
            let index = image.push(".rela", header, Vec::new());
            if !random.once_in(3) {
                image[index as usize].push(&entry);
            }
        }
        1 => image[*rela.get(random.below(rela.len()))?].header.info = target as u32,
        2 => drop(image[*rela.get(random.below(rela.len()))?].push(&entry)),
        _ => {
            let chunk = &mut image[*rela.get(random.below(rela.len()))?];
            let count = chunk.len::<RelaEntry>();
            chunk.change(
                random.below(count as usize) as u32,
                |r: &mut RelaEntry| match random.below(3) {
                    0 => r.offset = random.telling(r.offset),
                    1 => r.info = entry.info,
                    _ => r.addend = random.telling(r.addend),
                },
            )?;
        }
    }
    Some(())
}

/// A symbol somewhere else, at the end of its section or behind it, or another one.
fn change_symbol(image: &mut Image, random: &mut Random) -> Option<()> {
    let sections: Vec<u64> = image
        .iter()
        .map(|c| c.header.size.max(c.data.len() as u64))
        .collect();
    let symbols = image.symbols()?;
    let count = symbols.len::<SymbolEntry>();
    let index = random.below(count as usize) as u32;
    if random.once_in(8) {
        let copy: SymbolEntry = symbols.get(index)?;
        symbols.push(&copy);
        return Some(());
    }
    symbols.change(index, |symbol: &mut SymbolEntry| {
        let size = *sections.get(usize::from(symbol.shndx)).unwrap_or(&0);
        match random.below(6) {
            0 => symbol.shndx = random.below(sections.len()) as u16,
            1 => symbol.value = size,
            2 => symbol.value = random.telling(size),
            3 => {
                symbol.size = size
                    .wrapping_sub(symbol.value)
                    .wrapping_add(random.below(2) as u64)
            }
            4 => symbol.info = *random.one(&[0x00, 0x01, 0x02, 0x03, 0x04, 0x10, 0x12, 0x20, 0x21]),
            _ => symbol.shndx = SHN_UNDEF,
        }
    })
}

fn change_extern(image: &mut Image, random: &mut Random) -> Option<()> {
    let externs = image.section(SEC_EXTERNS)?;
    let count = externs.len::<Extern>();
    let object = *random.one(&[0, 1, 2, OBJECT_OUTER]);
    let region = *random.one(&[0, 1, 2, 3, 4, REGION_PERCPU]);
    externs.change(random.below(count as usize) as u32, |e: &mut Extern| {
        (e.object, e.region) = (object, region);
        e.offset = random.telling(e.offset);
    })
}

/// Bytes of a section, strings among them, and its length.
fn change_bytes(image: &mut Image, index: usize, random: &mut Random) {
    let data = &mut image[index].data;
    let at = random.below(data.len() + 1);
    match random.below(5) {
        0 => data.truncate(at),
        1 => data.resize(data.len() + random.below(9), 0),
        2 => drop(data.splice(at..at, [0; 1])),
        3 => {
            let text = *random.one(&["\u{e9}", "\u{202e}", "\u{7f}", "\u{1b}", "a", "vmlinux\0"]);
            data.splice(at..at, text.bytes());
        }
        _ => {
            if let Some(byte) = data.get_mut(at) {
                *byte = random.telling(u64::from(*byte)) as u8;
            }
        }
    }
}

/// Indices of the parts.
fn parts(image: &Image) -> Vec<usize> {
    let is_part = |index: &usize| image.name(*index as u32).starts_with(SEC_PART);
    (1..image.len()).filter(is_part).collect()
}

/// Changes what is in a part.
fn change_part(image: &mut Image, random: &mut Random) -> Option<()> {
    let parts = parts(image);
    let index = *parts.get(random.below(parts.len()))?;
    image[index].data = change(&image[index].data, random, false)?;
    Some(())
}

/// A part more, a part less, or one that has something of the payload around it.
fn change_parts(image: &mut Image, random: &mut Random) -> Option<()> {
    let parts = parts(image);
    match random.below(4) {
        0 => {
            let spec = Spec {
                modules: 1 + random.below(3) as u32,
                funcs: 1 + random.below(2) as u32,
                externs: 2,
                fixes: 0,
                relocations: random.below(3) as u32,
                parts: 0,
            };
            let name = format!("{SEC_PART}{}", module_name(spec.modules));
            let header = SectionHeader {
                addralign: 8,
                ..table()
            };
            image.push(&name, header, build(&spec));
        }
        1 => drop(remove(image, *parts.get(random.below(parts.len()))?)),
        _ => {
            let index = *parts.get(random.below(parts.len()))?;
            let mut part = Image::read(&image[index].data)?;
            if !can_be_changed(&part) {
                return None;
            }
            if random.once_in(4) {
                // A part within a part.
                let inner = image[index].clone();
                let name = image.name(index as u32).to_owned();
                part.push(&name, inner.header, inner.data);
            } else {
                let name = *random.one(&TABLES);
                part.section(name)?.data = image.section(name)?.data.clone();
            }
            repair(&mut part, random);
            image[index].data = part.write();
        }
    }
    Some(())
}

/// Makes right again what follows from the rest, most of it.
fn repair(image: &mut Image, random: &mut Random) {
    let steps: [fn(&mut Image) -> Option<()>; 5] = [
        repair_symbols,
        repair_relocations,
        repair_funcs,
        repair_externs,
        repair_counts,
    ];
    for step in steps {
        if !random.once_in(8) {
            step(image);
        }
    }
}

/// The number of local symbols.
fn repair_symbols(image: &mut Image) -> Option<()> {
    let symbols = image.symbols()?;
    let local = |index: &u32| {
        symbols
            .get(*index)
            .is_some_and(|s: SymbolEntry| s.info >> 4 == 0)
    };
    let locals = (0..symbols.len::<SymbolEntry>()).take_while(local).count();
    symbols.header.info = locals as u32;
    Some(())
}

/// Titles and order of sections of relocations, order of relocations, and zeroes in their fields.
fn repair_relocations(image: &mut Image) -> Option<()> {
    let of = |c: &Chunk| c.header.kind == SHT_RELA;
    let places: Vec<usize> = (0..image.len()).filter(|&i| of(&image[i])).collect();
    let mut chunks: Vec<Chunk> = image.iter().filter(|c| of(c)).cloned().collect();
    chunks.sort_by_key(|c| c.header.info);
    for (place, mut chunk) in places.into_iter().zip(chunks) {
        let count = chunk.len::<RelaEntry>();
        let mut entries: Vec<RelaEntry> = (0..count).filter_map(|i| chunk.get(i)).collect();
        entries.sort_by_key(|entry| entry.offset);
        let target = chunk.header.info as usize;
        if target < image.len() && target != place {
            let title = format!(".rela{}", image.name(target as u32));
            if image.name(place as u32) != title {
                chunk.header.name = image.add_section_name(&title);
            }
            for entry in &entries {
                let width = if matches!(entry.info as u32, 1 | 24) {
                    8
                } else {
                    4
                };
                let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
                let field = image[target].data.get_mut(start..);
                if let Some(field) = field.and_then(|rest| rest.get_mut(..width)) {
                    field.fill(0);
                }
            }
        }
        for (index, entry) in (0..).zip(&entries) {
            chunk.set(index, entry);
        }
        image[place] = chunk;
    }
    Some(())
}

/// Order of functions, their pre-images and trampolines.
fn repair_funcs(image: &mut Image) -> Option<()> {
    let chunk = image.section(SEC_FUNCS)?;
    let mut funcs: Vec<Func> = (0..chunk.len::<Func>())
        .filter_map(|i| chunk.get(i))
        .collect();
    if funcs.iter().any(|func| func.size > MAX_PREIMAGE) {
        return None;
    }
    funcs.sort_by_key(|func| func.offset);
    let mut preimages = Vec::new();
    for (index, func) in (0..).zip(&mut funcs) {
        func.preimage = preimages.len() as u32;
        chunk.set(index, func);
        preimages.resize(preimages.len() + func.size as usize, 0x90);
        let free = func.fentry..func.fentry.saturating_add(5);
        let mask = |at| {
            if free.contains(&at) {
                MASK_ANY
            } else {
                MASK_MATCH
            }
        };
        preimages.extend((0..func.size).map(mask));
    }
    image.section(SEC_PREIMAGES)?.data = preimages;
    image.section(SEC_TRAMPOLINES)?.data = vec![TRAMPOLINE_FILL; funcs.len() * TRAMPOLINE_SIZE];
    Some(())
}

/// An entry for each undefined symbol, in order: the one that there was, or a new one.
fn repair_externs(image: &mut Image) -> Option<()> {
    let symbols = image.symbols()?;
    let undefined = |index: &u32| {
        let symbol: Option<SymbolEntry> = symbols.get(*index);
        symbol.is_some_and(|s| s.shndx == SHN_UNDEF)
    };
    let undefined: Vec<u32> = (1..symbols.len::<SymbolEntry>())
        .filter(undefined)
        .collect();
    let chunk = image.section(SEC_EXTERNS)?;
    let old: Vec<Extern> = (0..chunk.len::<Extern>())
        .filter_map(|i| chunk.get(i))
        .collect();
    let entry = |symbol| {
        let new = Extern {
            symbol,
            ..Extern::default()
        };
        *old.iter().find(|e| e.symbol == symbol).unwrap_or(&new)
    };
    chunk.data = undefined
        .into_iter()
        .flat_map(|s| entry(s).encode())
        .collect();
    Some(())
}

/// What the manifest counts.
fn repair_counts(image: &mut Image) -> Option<()> {
    let size = |image: &mut Image, name| image.section(name).map(|c| c.data.len());
    if size(image, SEC_MANIFEST)? != Manifest::SECTION_SIZE {
        return None;
    }
    let nr_parts = parts(image).len() as u32;
    let mut entries = |name, entry| Some((size(image, name)? / entry) as u32);
    let nr_objects = entries(SEC_OBJECTS, Object::SIZE)?;
    let nr_funcs = entries(SEC_FUNCS, Func::SIZE)?;
    let nr_externs = entries(SEC_EXTERNS, Extern::SIZE)?;
    let nr_fixes = entries(SEC_FIXES, Fix::SIZE)?;
    let nr_callbacks = entries(SEC_CALLBACKS, Callback::SIZE)?;
    let nr_states = entries(SEC_STATES, State::SIZE)?;
    let preimage_bytes = entries(SEC_PREIMAGES, 1)?;
    let string_bytes = entries(SEC_STRINGS, 1)?;
    image.manifest(|manifest| {
        *manifest = Manifest {
            nr_objects,
            nr_funcs,
            nr_externs,
            nr_fixes,
            nr_callbacks,
            nr_states,
            preimage_bytes,
            string_bytes,
            nr_parts,
            ..*manifest
        };
    })
}
