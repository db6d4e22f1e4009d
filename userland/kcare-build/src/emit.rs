// SPDX-License-Identifier: GPL-2.0

//! Lays the selection out as a payload.

use std::collections::{BTreeMap, HashMap};

use anyhow::{bail, ensure, Context, Result};
use kcare_payload::check::Payload;
use kcare_payload::elf::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE};
use kcare_payload::layout::{
    Extern, Fix, Func, Manifest, Object, BUILD_ID_MAX, MAGIC, SEC_CALLBACKS, SEC_EXTERNS,
    SEC_FIXES, SEC_FUNCS, SEC_MANIFEST, SEC_OBJECTS, SEC_PREIMAGES, SEC_STATES, SEC_STRINGS,
    SEC_TRAMPOLINES, TRAMPOLINE_FILL, TRAMPOLINE_SIZE, VERSION,
};
use object::elf as et;

use crate::author;
use crate::elf::{self, Numbers, Section, Symbol, SymbolRef};
use crate::obj::{field_size, ItemId, Kind, Rel, SecId, Target};
use crate::preimage::Preimage;
use crate::select::{Goal, Key, Selector};
use crate::special::{replacement, Entry, Orc, ORC, ORC_IP, ORC_UNDEFINED, REPLACEMENTS, TABLES};
use crate::unit::UnitState;
use crate::vmlinux::Vmlinux;

/// What the manifest says.
#[derive(Clone, Debug)]
pub struct About {
    /// Patch level.
    pub level: u32,
    /// Seconds since 1970.
    pub time: u64,
    /// Kernel release.
    pub release: String,
    /// One line.
    pub description: String,
    /// Id (may be empty) and title of each fix.
    pub fixes: Vec<(String, String)>,
}

/// `int3`, between functions.
const PADDING: u8 = 0xcc;
/// `nop`, which the compiler puts in front of functions (`-fpatchable-function-entry=N,N`).
const NOP: u8 = 0x90;
/// Room in front of a function for call thunks (CONFIG_FUNCTION_PADDING_BYTES is 16).
const PREFIX: u64 = 16;

/// Builds the payload's sections.
struct Emitter<'a> {
    units: &'a [UnitState],
    selector: &'a Selector<'a>,
    vmlinux: &'a Vmlinux,
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
    /// Copied ranges: unit, section, start -> end, output section, output offset.
    copied: BTreeMap<(usize, SecId, u64), (u64, usize, u64)>,
    /// Where items went.
    placed: HashMap<Key, (usize, u64)>,
    /// Symbols of items that have names.
    named: HashMap<Key, usize>,
    /// Symbols of vmlinux, by name and address.
    outside: BTreeMap<(String, u64), usize>,
    /// Anonymous read-only contents that are shared.
    strings: HashMap<Vec<u8>, (usize, u64)>,
    /// Unwind entries by output section and offset; `true` if one only ends a range.
    orc: BTreeMap<(usize, u64), (bool, Orc)>,
}

/// Indices into [`Emitter::sections`].
const TRAMPOLINES: usize = 0;
const TEXT: usize = 1;

/// Writes the payload without a signature.
pub fn emit(
    units: &[UnitState],
    selector: &Selector<'_>,
    vmlinux: &Vmlinux,
    preimages: &[Preimage],
    about: &About,
) -> Result<Vec<u8>> {
    let mut this = Emitter {
        units,
        selector,
        vmlinux,
        sections: Vec::new(),
        symbols: Vec::new(),
        copied: BTreeMap::new(),
        placed: HashMap::new(),
        named: HashMap::new(),
        outside: BTreeMap::new(),
        strings: HashMap::new(),
        orc: BTreeMap::new(),
    };
    this.section(
        SEC_TRAMPOLINES,
        SHF_ALLOC | SHF_EXECINSTR,
        TRAMPOLINE_SIZE as u64,
    );
    this.section(".text", SHF_ALLOC | SHF_EXECINSTR, PREFIX);
    let code: Vec<Key> = selector.selection.code.iter().copied().collect();
    let data: Vec<Key> = selector.selection.data.iter().copied().collect();
    for &key in &code {
        this.place_code(key)?;
    }
    for &key in &data {
        this.place_data(key)?;
    }
    this.trampolines()?;
    let mut entries = Vec::new();
    for &key in &code {
        this.place_tables(key, &mut entries)?;
    }
    for &key in &code {
        this.relocate_item(key)?;
        this.runtime_constants(key)?;
    }
    for &key in &data {
        this.relocate_item(key)?;
    }
    for ((u, id), entry) in entries {
        this.relocate_entry(u, id, &entry)?;
    }
    this.write_orc()?;
    this.finish(preimages, about)
}

impl Emitter<'_> {
    /// The output section of a name, made if need be.
    fn section(&mut self, name: &str, flags: u64, align: u64) -> usize {
        let index = self
            .sections
            .iter()
            .position(|s| s.name == name)
            .unwrap_or_else(|| {
                self.sections.push(Section {
                    name: name.to_owned(),
                    flags,
                    align: 1,
                    ..Section::default()
                });
                self.sections.len() - 1
            });
        let section = &mut self.sections[index];
        section.align = section.align.max(align);
        index
    }

    fn append(&mut self, section: usize, data: &[u8], align: u64, fill: u8) -> u64 {
        let out = &mut self.sections[section];
        out.align = out.align.max(align);
        let start = out.data.len().next_multiple_of(align as usize);
        out.data.resize(start, fill);
        out.data.extend_from_slice(data);
        start as u64
    }

    fn place_code(&mut self, key: Key) -> Result<()> {
        let (u, id) = key;
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let sec = &unit.new.secs[item.sec];
        let bytes = unit.new.bytes(id).to_vec();
        ensure!(!bytes.is_empty(), "`{}` has no code", item.name);
        let prefix = item.start.checked_sub(PREFIX).filter(|&from| {
            item.kind == Kind::Func
                && sec.data[from as usize..item.start as usize]
                    .iter()
                    .all(|&b| b == NOP)
        });
        if prefix.is_some() {
            self.append(TEXT, &[NOP; PREFIX as usize], PREFIX, PADDING);
        }
        let align = if item.kind == Kind::Func {
            sec.align.clamp(1, 64)
        } else {
            1
        };
        let at = self.append(TEXT, &bytes, align, PADDING);
        self.copied
            .insert((u, item.sec, item.start), (item.end(), TEXT, at));
        self.placed.insert(key, (TEXT, at));
        if item.kind == Kind::Func {
            self.add_symbol(key, TEXT, at, true);
        }

        // Unwinding: from the prefix to the end, and nothing behind it.
        let from = prefix.unwrap_or(item.start);
        for (place, raw) in unit.special.orc(item.sec, from, item.end()) {
            self.orc
                .insert((TEXT, at + place - item.start), (false, raw));
        }
        self.orc
            .entry((TEXT, at + item.size))
            .or_insert((true, ORC_UNDEFINED));
        // A prefix that starts where the last function ended takes its place.
        Ok(())
    }

    fn add_symbol(&mut self, key: Key, section: usize, value: u64, func: bool) {
        let item = &self.units[key.0].new.items[key.1];
        self.named.insert(key, self.symbols.len());
        self.symbols.push(Symbol {
            name: item.name.clone(),
            section: Some(section),
            value,
            size: item.size,
            func,
        });
    }

    fn place_data(&mut self, key: Key) -> Result<()> {
        let (u, id) = key;
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let sec = &unit.new.secs[item.sec];
        let natural = if item.start == 0 {
            sec.align
        } else {
            1 << item.start.trailing_zeros().min(12)
        };
        let mut align = sec.align.min(natural).clamp(1, 4096);
        let bytes = unit.new.bytes(id).to_vec();
        let writable = sec.writable() || sec.flags & u64::from(et::SHF_WRITE) != 0;
        let (section, at) = if item.kind == Kind::Str || (!writable && item.kind == Kind::Const) {
            if item.kind == Kind::Str {
                align = 1;
            }
            match self.strings.get(&bytes) {
                Some(&(section, at)) if at % align == 0 => (section, at),
                _ => {
                    let section = self.section(".rodata", SHF_ALLOC, align);
                    let at = self.append(section, &bytes, align, 0);
                    self.strings.insert(bytes, (section, at));
                    (section, at)
                }
            }
        } else if sec.ty == et::SHT_NOBITS {
            let section = self.section(".bss", SHF_ALLOC | SHF_WRITE, align);
            let out = &mut self.sections[section];
            let at = out.zeroes.next_multiple_of(align);
            out.zeroes = at + item.size.max(1);
            (section, at)
        } else {
            let (name, flags) = if writable {
                (".data", SHF_ALLOC | SHF_WRITE)
            } else {
                (".rodata", SHF_ALLOC)
            };
            let section = self.section(name, flags, align);
            (section, self.append(section, &bytes, align, 0))
        };
        self.placed.insert(key, (section, at));
        if item.kind == Kind::Data {
            self.add_symbol(key, section, at, false);
        }
        Ok(())
    }

    /// One slot for each redirected function; the kernel fills them.
    fn trampolines(&mut self) -> Result<()> {
        let redirects = &self.selector.selection.redirects;
        let size = redirects.len() * TRAMPOLINE_SIZE;
        self.sections[TRAMPOLINES].data = vec![TRAMPOLINE_FILL; size];
        let Some(first) = redirects.first() else {
            return Ok(());
        };
        let unit = &self.units[first.key.0];
        let item = &unit.new.items[first.key.1];
        // A trampoline is entered with the stack of a function's first instruction.
        let entry = unit.special.orc(item.sec, item.start, item.start + 1)[0].1;
        ensure!(
            entry != ORC_UNDEFINED,
            "`{}` has no unwind entry at its start",
            item.name
        );
        self.orc.insert((TRAMPOLINES, 0), (false, entry));
        self.orc
            .insert((TRAMPOLINES, size as u64), (true, ORC_UNDEFINED));
        for (i, redirect) in redirects.iter().enumerate() {
            self.symbols.push(Symbol {
                name: format!("redirect.{}", redirect.name),
                section: Some(TRAMPOLINES),
                value: (i * TRAMPOLINE_SIZE) as u64,
                size: TRAMPOLINE_SIZE as u64,
                func: true,
            });
        }
        Ok(())
    }

    fn relocate_item(&mut self, key: Key) -> Result<()> {
        let (u, id) = key;
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let (section, at) = self.placed[&key];
        for rel in unit.new.rels(id).to_vec() {
            self.relocate(u, id, &rel, section, at + (rel.off - item.start), false)?;
        }
        Ok(())
    }

    /// Copies one relocation to `at` of an output section.
    fn relocate(
        &mut self,
        u: usize,
        from: ItemId,
        rel: &Rel,
        section: usize,
        at: u64,
        table: bool,
    ) -> Result<()> {
        if rel.ty == et::R_X86_64_NONE {
            return Ok(());
        }
        let user = &self.units[u].new.items[from].name;
        let size = field_size(rel.ty)
            .filter(|&size| size >= 4)
            .with_context(|| format!("`{user}` has a relocation of type {}", rel.ty))?;
        // What was copied without a name (table entries, replacements) is found by its place.
        let copied = match rel.target {
            Target::Item(target) => {
                let item = &self.units[u].new.items[target];
                let off = item.start.wrapping_add_signed(rel.reach());
                let found = (!item.named())
                    .then(|| self.find_copied(u, item.sec, off))
                    .flatten();
                found.map(|(section, offset)| (section, offset as i64 - rel.bias))
            }
            Target::Undef(_) | Target::Abs => None,
        };
        let (symbol, addend) = match copied {
            Some((section, addend)) => (SymbolRef::Section(section), addend),
            None => self.goal(u, from, rel, table)?,
        };
        let out = &mut self.sections[section];
        out.data
            .get_mut(at as usize..at as usize + size)
            .with_context(|| format!("`{user}` has a relocation outside of it"))?
            .fill(0);
        out.rels.push((at, rel.ty, symbol, addend));
        Ok(())
    }

    /// Symbol and addend for a reference to something that was placed as an item, or to vmlinux.
    fn goal(&mut self, u: usize, from: ItemId, rel: &Rel, table: bool) -> Result<(SymbolRef, i64)> {
        let goal = self
            .selector
            .goal(u, from, rel, table)
            .map_err(|r| anyhow::anyhow!("{}: {}", r.name, r.reason))?;
        Ok(match goal {
            Goal::Inside(key) => match self.named.get(&key) {
                Some(&symbol) => (SymbolRef::Symbol(symbol), rel.addend),
                None => {
                    let &(section, offset) = self.placed.get(&key).with_context(|| {
                        let obj = &self.units[key.0].new;
                        let (user, target) = (&obj.items[from].name, &obj.items[key.1].name);
                        format!("`{user}` refers to `{target}`, which was left out")
                    })?;
                    (SymbolRef::Section(section), rel.addend + offset as i64)
                }
            },
            Goal::Outside(name, addr) => (SymbolRef::Symbol(self.outside(name, addr)?), rel.addend),
        })
    }

    /// The undefined symbol for an address of vmlinux.
    fn outside(&mut self, name: String, addr: u64) -> Result<usize> {
        ensure!(
            (self.vmlinux.text..=self.vmlinux.end).contains(&addr),
            "`{name}` is outside of the kernel's image"
        );
        let next = self.symbols.len();
        let index = *self.outside.entry((name.clone(), addr)).or_insert(next);
        if index == next {
            self.symbols.push(Symbol {
                name,
                section: None,
                value: addr,
                size: 0,
                func: false,
            });
        }
        Ok(index)
    }

    /// Turns constants that the kernel fills into its own image at boot into loads of their variables.
    fn runtime_constants(&mut self, key: Key) -> Result<()> {
        let (u, id) = key;
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let (section, start) = self.placed[&key];
        for constant in unit.special.runtime_of(item) {
            let name = constant
                .name
                .strip_prefix("ptr_")
                .context("unknown boot-time constant")?;
            let insn = constant
                .at
                .checked_sub(2)
                .context("malformed boot-time constant")?;
            let at = (start + insn) as usize;
            let code = &mut self.sections[section].data[at..at + 10];
            // REX.W B8+r imm64: movabs $imm, %r.
            let (rex, opcode) = (code[0], code[1]);
            ensure!(
                rex & !1 == 0x48 && opcode & !7 == 0xb8,
                "`{}`+{insn:#x}: a boot-time constant is not loaded by movabs",
                item.name
            );
            // REX.W 8B /r disp32: mov variable(%rip), %r; and a nop of three bytes.
            code.copy_from_slice(&[
                0x48 | (rex & 1) << 2,
                0x8b,
                (opcode & 7) << 3 | 5,
                0,
                0,
                0,
                0,
                0x0f,
                0x1f,
                0x00,
            ]);
            let addr = match unit.placement.addr.get(name) {
                Some(&(addr, _)) => addr,
                None => {
                    self.vmlinux
                        .global(name)
                        .with_context(|| format!("vmlinux has no `{name}`"))?
                        .addr
                }
            };
            let symbol = self.outside(name.to_owned(), addr)?;
            let place = start + insn + 3;
            self.sections[section].rels.push((
                place,
                et::R_X86_64_PC32,
                SymbolRef::Symbol(symbol),
                -4,
            ));
        }
        Ok(())
    }

    /// Copies the entries of the kernel's tables about a function, and those about its replacements.
    fn place_tables(&mut self, key: Key, placed: &mut Vec<(Key, Entry)>) -> Result<()> {
        let (u, id) = key;
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let mut entries: Vec<Entry> = unit.special.entries_of(item).to_vec();
        let mut i = 0;
        while let Some(entry) = entries.get(i).copied() {
            i += 1;
            let table = &TABLES[entry.table];
            if !table.keep {
                continue;
            }
            if table.name == ".altinstructions" {
                if let Some((sec, start, len)) = replacement(&unit.new, &entry)? {
                    if !self.copied.contains_key(&(u, sec, start)) {
                        let out = self.section(REPLACEMENTS, SHF_ALLOC | SHF_EXECINSTR, 1);
                        let code = &unit.new.secs[sec].data[start as usize..(start + len) as usize];
                        let at = self.append(out, code, 1, 0);
                        self.copied.insert((u, sec, start), (start + len, out, at));
                        entries.extend_from_slice(unit.special.entries(sec, start, start + len));
                    }
                }
            }
            let (flags, align) = match table.name {
                "__jump_table" => (SHF_ALLOC | SHF_WRITE, 8),
                "__bug_table" | ".static_call_sites" => (SHF_ALLOC | SHF_WRITE, 4),
                "__mcount_loc" => (SHF_ALLOC, 8),
                ".altinstructions" => (SHF_ALLOC, 1),
                _ => (SHF_ALLOC, 4),
            };
            let out = self.section(table.name, flags, align);
            let range = entry.off as usize..(entry.off + table.size) as usize;
            let at = self.append(out, &unit.new.secs[entry.sec].data[range], 1, 0);
            self.copied
                .insert((u, entry.sec, entry.off), (entry.off + table.size, out, at));
            placed.push((key, entry));
        }
        Ok(())
    }

    /// Relocates a copied entry, and the replacement that it has.
    fn relocate_entry(&mut self, u: usize, id: ItemId, entry: &Entry) -> Result<()> {
        let table = &TABLES[entry.table];
        let unit = &self.units[u];
        let source = &unit.new.secs[entry.sec];
        let (_, out, at) = self.copied[&(u, entry.sec, entry.off)];
        let code = match table.name {
            ".altinstructions" => replacement(&unit.new, entry)?,
            _ => None,
        };
        for rel in source.rels_in(entry.off, entry.off + table.size).to_vec() {
            let field = rel.off - entry.off;
            if table.name == ".altinstructions" && field == 4 && code.is_none() {
                // Nothing is read from a replacement without length.
                continue;
            }
            self.relocate(u, id, &rel, out, at + field, true)?;
        }
        if let Some((sec, start, len)) = code {
            let (_, out, at) = self.copied[&(u, sec, start)];
            let rels = unit.new.secs[sec].rels_in(start, start + len).to_vec();
            // Two entries may share a replacement.
            if self.sections[out]
                .rels
                .iter()
                .any(|r| r.0 >= at && r.0 < at + len)
            {
                return Ok(());
            }
            for rel in rels {
                self.relocate(u, id, &rel, out, at + (rel.off - start), true)?;
            }
        }
        Ok(())
    }

    /// Where an offset of a section of a unit was copied to.
    fn find_copied(&self, u: usize, sec: SecId, off: u64) -> Option<(usize, u64)> {
        let (&(_, _, start), &(end, out, at)) =
            self.copied.range((u, sec, 0)..=(u, sec, off)).next_back()?;
        (off < end).then_some((out, at + off - start))
    }

    fn write_orc(&mut self) -> Result<()> {
        let ip = self.section(ORC_IP, SHF_ALLOC, 4);
        let orc = self.section(ORC, SHF_ALLOC, 2);
        for ((section, offset), (_, raw)) in std::mem::take(&mut self.orc) {
            let at = self.append(ip, &[0; 4], 4, 0);
            self.append(orc, &raw, 1, 0);
            self.sections[ip].rels.push((
                at,
                et::R_X86_64_PC32,
                SymbolRef::Section(section),
                offset as i64,
            ));
        }
        Ok(())
    }

    /// Adds our own tables and writes the object.
    fn finish(mut self, preimages: &[Preimage], about: &About) -> Result<Vec<u8>> {
        self.sort_sections();
        let redirects = &self.selector.selection.redirects;
        ensure!(
            preimages.len() == redirects.len(),
            "not every function has a pre-image"
        );

        // Undefined symbols are numbered by name, so that the order of discovery does not show.
        let mut undefined: Vec<usize> = (0..self.symbols.len())
            .filter(|&i| self.symbols[i].section.is_none())
            .collect();
        undefined.sort_by(|&a, &b| {
            (&self.symbols[a].name, self.symbols[a].value)
                .cmp(&(&self.symbols[b].name, self.symbols[b].value))
        });
        let mut order: Vec<usize> = (0..self.symbols.len())
            .filter(|&i| self.symbols[i].section.is_some())
            .collect();
        order.extend(undefined);
        let mut position = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            position[old] = new;
        }
        let mut symbols: Vec<Symbol> = order.iter().map(|&i| self.symbols[i].clone()).collect();
        for section in &mut self.sections {
            for rel in &mut section.rels {
                if let SymbolRef::Symbol(i) = &mut rel.2 {
                    *i = position[*i];
                }
            }
        }

        let mut strings = Strings::new();
        let mut objects = Object {
            name: strings.add("vmlinux")?,
            build_id_len: u32::try_from(self.vmlinux.build_id.len())?,
            build_id: [0; BUILD_ID_MAX],
            note: 0,
        };
        objects
            .build_id
            .get_mut(..self.vmlinux.build_id.len())
            .context("the build-id is too long")?
            .copy_from_slice(&self.vmlinux.build_id);

        let mut sections = self.sections;
        // Numbers of symbols depend on which sections take memory, which is settled by now.
        let numbers = Numbers::new(&sections, &symbols)?;
        let mut funcs = Vec::new();
        let mut images = Vec::new();
        for (redirect, image) in redirects.iter().zip(preimages) {
            let symbol = self.named[&redirect.key];
            let func = Func {
                object: 0,
                name: strings.add(&redirect.name)?,
                offset: redirect.addr - self.vmlinux.text,
                size: u32::try_from(redirect.size)?,
                fentry: u32::try_from(redirect.fentry)?,
                symbol: numbers.symbol(position[symbol]),
                preimage: u32::try_from(images.len())?,
                region: 0,
                flags: 0,
                cold_offset: redirect
                    .cold
                    .map_or(0, |(addr, _)| addr - self.vmlinux.text),
                cold_size: u32::try_from(redirect.cold.map_or(0, |(_, size)| size))?,
                reserved: 0,
            };
            funcs.extend_from_slice(&func.encode());
            images.extend_from_slice(&image.code);
            images.extend_from_slice(&image.mask);
        }
        let selection = &self.selector.selection;
        let callbacks =
            author::encode_callbacks(selection, |key| numbers.symbol(position[self.named[&key]]));
        let states = author::encode_states(selection);
        let mut externs = Vec::new();
        for (i, symbol) in symbols.iter_mut().enumerate() {
            if symbol.section.is_none() {
                let record = Extern {
                    symbol: numbers.symbol(i),
                    object: 0,
                    offset: symbol.value - self.vmlinux.text,
                    region: 0,
                    reserved: 0,
                };
                externs.push(record);
                symbol.value = 0;
            }
        }
        externs.sort_by_key(|e| e.symbol);
        let mut fixes = Vec::new();
        for (id, title) in &about.fixes {
            let fix = Fix {
                id: strings.add(id)?,
                title: strings.add(title)?,
                reserved: 0,
            };
            fixes.extend_from_slice(&fix.encode());
        }
        let manifest = Manifest {
            version: VERSION,
            size: u32::try_from(Manifest::SECTION_SIZE)?,
            level: about.level,
            build_time: about.time,
            release: strings.add(&about.release)?,
            description: strings.add(&about.description)?,
            nr_objects: 1,
            nr_funcs: u32::try_from(redirects.len())?,
            nr_externs: u32::try_from(externs.len())?,
            nr_fixes: u32::try_from(about.fixes.len())?,
            preimage_bytes: u32::try_from(images.len())?,
            string_bytes: u32::try_from(strings.bytes.len())?,
            nr_callbacks: u32::try_from(selection.callbacks.len())?,
            nr_states: u32::try_from(selection.states.len())?,
            ..Manifest::default()
        };
        let manifest = [&MAGIC[..], &manifest.encode()].concat();
        let externs: Vec<u8> = externs.iter().flat_map(Extern::encode).collect();
        for (name, data) in [
            (SEC_MANIFEST, manifest),
            (SEC_OBJECTS, objects.encode().to_vec()),
            (SEC_FUNCS, funcs),
            (SEC_EXTERNS, externs),
            (SEC_FIXES, fixes),
            (SEC_CALLBACKS, callbacks),
            (SEC_STATES, states),
            (SEC_PREIMAGES, images),
            (SEC_STRINGS, strings.bytes),
        ] {
            sections.push(Section {
                name: name.to_owned(),
                align: 8,
                data,
                ..Section::default()
            });
        }

        let bytes = elf::write(&sections, &symbols, &numbers)?;
        match Payload::parse(&bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => {
                bail!("the payload would be refused: {error}; this is a fault of kcare-build")
            }
        }
    }

    /// Code first, then read-only data, then writable data, each by name.
    fn sort_sections(&mut self) {
        let rank = |s: &Section| match s.flags & (SHF_EXECINSTR | SHF_WRITE) {
            SHF_EXECINSTR => 0,
            0 => 1,
            _ if s.zeroes > 0 => 3,
            _ => 2,
        };
        let mut order: Vec<usize> = (0..self.sections.len()).collect();
        order.sort_by_key(|&i| {
            let s = &self.sections[i];
            (i > TEXT, rank(s), s.name.clone())
        });
        let mut position = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            position[old] = new;
        }
        let mut old: Vec<Option<Section>> = std::mem::take(&mut self.sections)
            .into_iter()
            .map(Some)
            .collect();
        self.sections = order.iter().filter_map(|&i| old[i].take()).collect();
        for section in &mut self.sections {
            for rel in &mut section.rels {
                if let SymbolRef::Section(i) = &mut rel.2 {
                    *i = position[*i];
                }
            }
        }
        for symbol in &mut self.symbols {
            symbol.section = symbol.section.map(|i| position[i]);
        }
    }
}

/// The payload's string table.
struct Strings {
    bytes: Vec<u8>,
    known: HashMap<String, u32>,
}

impl Strings {
    fn new() -> Self {
        Strings {
            bytes: vec![0],
            known: HashMap::new(),
        }
    }

    fn add(&mut self, text: &str) -> Result<u32> {
        ensure!(
            !text.chars().any(char::is_control),
            "`{}` has a control character",
            text.escape_debug()
        );
        if text.is_empty() {
            return Ok(0);
        }
        if let Some(&at) = self.known.get(text) {
            return Ok(at);
        }
        let at = u32::try_from(self.bytes.len())?;
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.known.insert(text.to_owned(), at);
        Ok(at)
    }
}
