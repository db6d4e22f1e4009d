// SPDX-License-Identifier: GPL-2.0

//! Lays the selection out as a payload.

use std::collections::{BTreeMap, HashMap};

use anyhow::{bail, ensure, Context, Result};
use kcare_payload::bundle::Bundle;
use kcare_payload::check::Payload;
use kcare_payload::elf::{Home, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE};
use kcare_payload::layout::{
    Extern, Fix, Func, Manifest, Object, BUILD_ID_MAX, MAGIC, OBJECT_OUTER, SEC_CALLBACKS,
    SEC_EXTERNS, SEC_FIXES, SEC_FUNCS, SEC_MANIFEST, SEC_OBJECTS, SEC_PART, SEC_PREIMAGES,
    SEC_STATES, SEC_STRINGS, SEC_TRAMPOLINES, TRAMPOLINE_FILL, TRAMPOLINE_SIZE, VERSION,
};
use kcare_payload::place::slots;
use object::elf as et;

use crate::author::{self, When};
use crate::elf::{self, Numbers, Section, Symbol, SymbolRef};
use crate::image::{ImageId, Images, VMLINUX};
use crate::insn::ENDBR64;
use crate::layout::{Spot, INIT_TEXT, PERCPU};
use crate::obj::{field_size, ItemId, Kind, Rel, SecId, Target};
use crate::preimage::Preimage;
use crate::select::{Goal, Key, Redirect, Selector};
use crate::special::{replacement, Entry, Orc, ORC, ORC_IP, ORC_UNDEFINED, REPLACEMENTS, TABLES};
use crate::unit::UnitState;

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

/// Where an undefined symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Abode {
    /// At an address of an image.
    Image(ImageId, u64),
    /// In what the payload adds to vmlinux.
    Outer(Spot),
}

/// Where the outer payload's own symbols are in its memory.
type OuterPlaces = HashMap<Key, Spot>;

/// Builds the sections of a payload, or of a module's part of one.
struct Emitter<'a> {
    units: &'a [UnitState],
    selector: &'a Selector<'a>,
    images: &'a Images,
    /// The image that is patched.
    image: ImageId,
    /// For the parts of modules.
    outer: &'a OuterPlaces,
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
    /// Copied ranges: unit, section, start -> end, output section, output offset.
    copied: BTreeMap<(usize, SecId, u64), (u64, usize, u64)>,
    /// Where items went.
    placed: HashMap<Key, (usize, u64)>,
    /// Symbols of items that have names.
    named: HashMap<Key, usize>,
    /// Undefined symbols, by name and where they are.
    outside: BTreeMap<(String, Abode), usize>,
    /// Anonymous read-only contents that are shared.
    strings: HashMap<Vec<u8>, (usize, u64)>,
    /// Symbols of the thunks, by image and link-time address of the function.
    thunks: BTreeMap<(ImageId, u64), usize>,
    /// Unwind entries by output section and offset; `true` if one only ends a range.
    orc: BTreeMap<(usize, u64), (bool, Orc)>,
}

/// Indices into [`Emitter::sections`].
const TRAMPOLINES: usize = 0;
const TEXT: usize = 1;

/// A written object: its bytes, and the numbers of its own symbols.
type Written = (Vec<u8>, HashMap<Key, u32>);

/// Writes the payload without a signature; `preimages` are those of the selection's redirects.
pub fn emit(
    units: &[UnitState],
    selector: &Selector<'_>,
    images: &Images,
    preimages: &[Preimage],
    about: &About,
) -> Result<Vec<u8>> {
    let redirects = &selector.selection.redirects;
    ensure!(
        preimages.len() == redirects.len(),
        "not every function has a pre-image"
    );
    let callbacks = &selector.selection.callbacks;
    let patched = |image: ImageId| {
        redirects.iter().any(|r| units[r.key.0].image == image)
            || callbacks.keys().any(|&(of, _)| of == image)
    };
    let mut modules: Vec<ImageId> = (VMLINUX + 1..=images.modules.len())
        .filter(|&id| patched(id))
        .collect();
    modules.sort_by_key(|&id| images.get(id).name());
    for &(u, id) in &selector.selection.code {
        let unit = &units[u];
        ensure!(
            unit.image == VMLINUX || patched(unit.image),
            "`{}` is of use to no function of {}",
            unit.new.items[id].name,
            images.get(unit.image).name()
        );
    }
    let name = |id: ImageId| format!("{SEC_PART}{}", images.get(id).name());
    let object = |image, outer: &OuterPlaces, parts| -> Result<Written> {
        emit_object(
            units, selector, images, image, outer, preimages, about, parts,
        )
    };

    // Where the outer payload's symbols will be does not depend on what is in the parts.
    let mut parts: Vec<(String, Vec<u8>)> =
        modules.iter().map(|&id| (name(id), Vec::new())).collect();
    let mut outer = OuterPlaces::new();
    if !modules.is_empty() {
        let written = object(VMLINUX, &outer, parts.clone())?;
        outer = outer_places(&written)?;
    }
    for (part, &id) in parts.iter_mut().zip(&modules) {
        part.1 = object(id, &outer, Vec::new())
            .with_context(|| format!("in the part for {}", images.get(id).name()))?
            .0;
    }
    let (bytes, _) = object(VMLINUX, &outer, parts)?;
    if let Err(refusal) = Bundle::parse(&bytes) {
        let part = refusal.part.unwrap_or("vmlinux");
        bail!(
            "the payload would be refused ({part}): {}; this is a fault of kcare-build",
            refusal.error
        );
    }
    Ok(bytes)
}

/// Where the symbols of the outer payload are in its memory.
fn outer_places((bytes, symbols): &Written) -> Result<OuterPlaces> {
    let payload = Payload::parse(bytes)
        .map_err(|error| anyhow::anyhow!("the payload would be refused: {error}"))?;
    let slots: BTreeMap<u32, _> = slots(&payload).map(|(s, slot)| (s.index, slot)).collect();
    let mut places = OuterPlaces::new();
    for (&key, &number) in symbols {
        let symbol = payload.symbol(number).context("a symbol is missing")?;
        if let Home::Section(section) = symbol.home {
            let slot = slots.get(&section).context("a symbol takes no memory")?;
            places.insert(
                key,
                Spot {
                    region: slot.region as u32,
                    offset: slot.offset + symbol.value,
                },
            );
        }
    }
    Ok(places)
}

/// Writes what is done to one image.
#[allow(clippy::too_many_arguments)]
fn emit_object(
    units: &[UnitState],
    selector: &Selector<'_>,
    images: &Images,
    image: ImageId,
    outer: &OuterPlaces,
    preimages: &[Preimage],
    about: &About,
    parts: Vec<(String, Vec<u8>)>,
) -> Result<Written> {
    let mut this = Emitter {
        units,
        selector,
        images,
        image,
        outer,
        sections: Vec::new(),
        symbols: Vec::new(),
        copied: BTreeMap::new(),
        placed: HashMap::new(),
        named: HashMap::new(),
        outside: BTreeMap::new(),
        strings: HashMap::new(),
        thunks: BTreeMap::new(),
        orc: BTreeMap::new(),
    };
    this.section(
        SEC_TRAMPOLINES,
        SHF_ALLOC | SHF_EXECINSTR,
        TRAMPOLINE_SIZE as u64,
    );
    this.section(".text", SHF_ALLOC | SHF_EXECINSTR, PREFIX);
    let own = |list: &std::collections::BTreeSet<Key>| -> Vec<Key> {
        let ours = list.iter().filter(|key| units[key.0].image == image);
        ours.copied().collect()
    };
    let code = own(&selector.selection.code);
    let data = own(&selector.selection.data);
    for &key in &code {
        this.place_code(key)?;
    }
    for &key in &data {
        this.place_data(key)?;
    }
    this.trampolines()?;
    this.thunks()?;
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
    this.finish(preimages, about, parts)
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

    /// The image's redirected functions, and their numbers among all.
    fn redirects(&self) -> impl Iterator<Item = (usize, &Redirect)> {
        let all = self.selector.selection.redirects.iter().enumerate();
        all.filter(|(_, r)| self.units[r.key.0].image == self.image)
    }

    /// One slot for each redirected function; the kernel fills them.
    fn trampolines(&mut self) -> Result<()> {
        let redirects: Vec<Redirect> = self.redirects().map(|(_, r)| r.clone()).collect();
        let size = redirects.len() * TRAMPOLINE_SIZE;
        self.sections[TRAMPOLINES].data = vec![TRAMPOLINE_FILL; size];
        if redirects.is_empty() {
            return Ok(());
        }
        // A trampoline is entered with the stack of a function's first instruction.
        let entry = self.entry_orc()?;
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

    /// The unwind entry in force at a function's first instruction; it is the same for all.
    fn entry_orc(&self) -> Result<Orc> {
        let code = self.selector.selection.code.iter();
        code.map(|&(u, id)| (&self.units[u], &self.units[u].new.items[id]))
            .filter(|(_, item)| item.kind == Kind::Func && !item.name.ends_with(".cold"))
            .map(|(unit, item)| unit.special.orc(item.sec, item.start, item.start + 1)[0].1)
            .find(|&entry| entry != ORC_UNDEFINED)
            .context("no function has an unwind entry at its start")
    }

    /// Makes what stands for functions that cannot be called through their address.
    fn thunks(&mut self) -> Result<()> {
        let selector = self.selector;
        for (&(u, image, addr), name) in &selector.selection.thunks {
            if self.units[u].image != self.image || self.thunks.contains_key(&(image, addr)) {
                continue;
            }
            // endbr64; jmp function; and int3 against straight-line speculation (CONFIG_MITIGATION_SLS).
            let code = [&ENDBR64[..], &[0xe9, 0, 0, 0, 0, PADDING]].concat();
            let at = self.append(TEXT, &code, PREFIX, PADDING);
            let end = at + code.len() as u64;
            let entry = self.entry_orc()?;
            self.orc.insert((TEXT, at), (false, entry));
            self.orc.insert((TEXT, end), (true, ORC_UNDEFINED));
            let target = self.outside(name.clone(), Abode::Image(image, addr))?;
            let rels = &mut self.sections[TEXT].rels;
            rels.push((at + 5, et::R_X86_64_PLT32, SymbolRef::Symbol(target), -4));
            self.thunks.insert((image, addr), self.symbols.len());
            self.symbols.push(Symbol {
                name: format!("thunk.{name}"),
                section: Some(TEXT),
                value: at,
                size: code.len() as u64,
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
            Goal::Outside(_, image, addr)
                if !rel.branch
                    && !table
                    && rel.reach() == 0
                    && self
                        .selector
                        .selection
                        .thunks
                        .contains_key(&(u, image, addr)) =>
            {
                (SymbolRef::Symbol(self.thunks[&(image, addr)]), rel.addend)
            }
            Goal::Outside(name, image, addr) => {
                let symbol = self.outside(name, Abode::Image(image, addr))?;
                (SymbolRef::Symbol(symbol), rel.addend)
            }
            Goal::Outer(key) => {
                let name = self.units[key.0].new.items[key.1].name.clone();
                let spot = *self
                    .outer
                    .get(&key)
                    .with_context(|| format!("the payload does not add `{name}` to vmlinux"))?;
                let symbol = self.outside(name, Abode::Outer(spot))?;
                (SymbolRef::Symbol(symbol), rel.addend)
            }
        })
    }

    /// The undefined symbol for something that is not in this part of the payload.
    fn outside(&mut self, name: String, abode: Abode) -> Result<usize> {
        self.spot(abode)
            .with_context(|| format!("`{name}` is not in memory that stays"))?;
        let next = self.symbols.len();
        let index = *self.outside.entry((name.clone(), abode)).or_insert(next);
        if index == next {
            self.symbols.push(Symbol {
                name,
                section: None,
                value: 0,
                size: 0,
                func: false,
            });
        }
        Ok(index)
    }

    /// Where an undefined symbol is, from the base of its object or of one of its regions.
    fn spot(&self, abode: Abode) -> Option<Spot> {
        match abode {
            Abode::Image(image, addr) => self
                .images
                .get(image)
                .spot(addr)
                .filter(|spot| spot.region < INIT_TEXT || spot.region == PERCPU),
            Abode::Outer(spot) => Some(spot),
        }
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
                None => self
                    .images
                    .get(self.image)
                    .global_addr(name)
                    .with_context(|| format!("vmlinux has no `{name}`"))?,
            };
            let symbol = self.outside(name.to_owned(), Abode::Image(self.image, addr))?;
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
    fn finish(
        mut self,
        preimages: &[Preimage],
        about: &About,
        parts: Vec<(String, Vec<u8>)>,
    ) -> Result<Written> {
        self.sort_sections();

        // Undefined symbols are numbered by name, so that the order of discovery does not show.
        let undefined: Vec<usize> = self.outside.values().copied().collect();
        let mut order: Vec<usize> = (0..self.symbols.len())
            .filter(|&i| self.symbols[i].section.is_some())
            .collect();
        order.extend(undefined);
        let mut position = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            position[old] = new;
        }
        let symbols: Vec<Symbol> = order.iter().map(|&i| self.symbols[i].clone()).collect();
        for section in &mut self.sections {
            for rel in &mut section.rels {
                if let SymbolRef::Symbol(i) = &mut rel.2 {
                    *i = position[*i];
                }
            }
        }

        let mut strings = Strings::new();
        let ids = self.objects();
        let target = ids.iter().position(|&id| id == self.image).unwrap_or(0);
        let mut objects = Vec::new();
        for &id in &ids {
            objects.extend_from_slice(&self.object(id, &mut strings)?.encode());
        }
        let mut externs = Vec::new();
        for ((name, abode), &symbol) in &self.outside {
            let object = match abode {
                Abode::Image(image, _) => {
                    let index = ids.iter().position(|id| id == image);
                    u32::try_from(index.context("an object is missing")?)?
                }
                Abode::Outer(_) => OBJECT_OUTER,
            };
            let spot = self.spot(*abode).with_context(|| format!("`{name}`"))?;
            externs.push((position[symbol], object, spot));
        }
        let redirects: Vec<(usize, Redirect)> =
            self.redirects().map(|(i, r)| (i, r.clone())).collect();
        let spot_of = |addr: u64| -> Result<u64> {
            let spot = self.images.get(self.image).spot(addr);
            Ok(spot.context("code is outside of its image")?.offset)
        };

        // Numbers of symbols depend on which sections take memory, which is settled by now.
        let numbers = Numbers::new(&self.sections, &symbols)?;
        let mut funcs = Vec::new();
        let mut images = Vec::new();
        for (index, redirect) in &redirects {
            let symbol = self.named[&redirect.key];
            let image = &preimages[*index];
            let func = Func {
                object: u32::try_from(target)?,
                name: strings.add(&redirect.name)?,
                offset: spot_of(redirect.addr)?,
                size: u32::try_from(redirect.size)?,
                fentry: u32::try_from(redirect.fentry)?,
                symbol: numbers.symbol(position[symbol]),
                preimage: u32::try_from(images.len())?,
                region: 0,
                flags: 0,
                cold_offset: match redirect.cold {
                    Some((addr, _)) => spot_of(addr)?,
                    None => 0,
                },
                cold_size: u32::try_from(redirect.cold.map_or(0, |(_, size)| size))?,
                reserved: 0,
            };
            funcs.extend_from_slice(&func.encode());
            images.extend_from_slice(&image.code);
            images.extend_from_slice(&image.mask);
        }
        let selection = &self.selector.selection;
        let own_callbacks: BTreeMap<When, Key> = selection
            .callbacks
            .iter()
            .filter(|((image, _), _)| *image == self.image)
            .map(|(&(_, when), &key)| (when, key))
            .collect();
        let own_states = match target {
            0 => selection.states.clone(),
            _ => BTreeMap::new(),
        };
        let callbacks = author::encode_callbacks(&own_callbacks, |key| {
            numbers.symbol(position[self.named[&key]])
        });
        let states = author::encode_states(&own_states);
        let mut externs: Vec<Extern> = externs
            .into_iter()
            .map(|(symbol, object, spot)| Extern {
                symbol: numbers.symbol(symbol),
                object,
                offset: spot.offset,
                region: spot.region,
                reserved: 0,
            })
            .collect();
        externs.sort_by_key(|e| e.symbol);
        let own_symbols: HashMap<Key, u32> = self
            .named
            .iter()
            .map(|(&key, &symbol)| (key, numbers.symbol(position[symbol])))
            .collect();
        let mut sections = self.sections;
        let own_fixes = match target {
            0 => about.fixes.as_slice(),
            _ => &[],
        };
        let mut fixes = Vec::new();
        for (id, title) in own_fixes {
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
            nr_objects: u32::try_from(ids.len())?,
            nr_funcs: u32::try_from(redirects.len())?,
            nr_externs: u32::try_from(externs.len())?,
            nr_fixes: u32::try_from(own_fixes.len())?,
            nr_parts: u32::try_from(parts.len())?,
            target: u32::try_from(target)?,
            preimage_bytes: u32::try_from(images.len())?,
            string_bytes: u32::try_from(strings.bytes.len())?,
            nr_callbacks: u32::try_from(own_callbacks.len())?,
            nr_states: u32::try_from(own_states.len())?,
            ..Manifest::default()
        };
        let manifest = [&MAGIC[..], &manifest.encode()].concat();
        let externs: Vec<u8> = externs.iter().flat_map(Extern::encode).collect();
        for (name, data) in [
            (SEC_MANIFEST, manifest),
            (SEC_OBJECTS, objects),
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

        for (name, data) in parts {
            sections.push(Section {
                name,
                align: 16,
                data,
                ..Section::default()
            });
        }
        let bytes = elf::write(&sections, &symbols, &numbers)?;
        Ok((bytes, own_symbols))
    }

    /// The images that the object names: vmlinux, and in a module's part the modules by name.
    fn objects(&self) -> Vec<ImageId> {
        let mut ids: Vec<ImageId> = self
            .outside
            .keys()
            .filter_map(|(_, abode)| match abode {
                Abode::Image(id, _) => Some(*id),
                Abode::Outer(_) => None,
            })
            .chain([VMLINUX, self.image])
            .collect();
        ids.sort_by_key(|&id| (id != VMLINUX, self.images.get(id).name()));
        ids.dedup();
        ids
    }

    fn object(&self, id: ImageId, strings: &mut Strings) -> Result<Object> {
        let image = self.images.get(id);
        let mut object = Object {
            name: strings.add(image.name())?,
            build_id_len: u32::try_from(image.build_id().len())?,
            build_id: [0; BUILD_ID_MAX],
            note: match self.images.module(id) {
                Some(module) => u32::try_from(module.build_id_spot.offset)?,
                None => 0,
            },
        };
        object
            .build_id
            .get_mut(..image.build_id().len())
            .context("the build-id is too long")?
            .copy_from_slice(image.build_id());
        Ok(object)
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
