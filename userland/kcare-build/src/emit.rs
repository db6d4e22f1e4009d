// SPDX-License-Identifier: GPL-2.0

//! Lays the selection out as a payload.

mod escapes;
mod finish;
mod tables;

use std::collections::{BTreeMap, HashMap};

use anyhow::{bail, ensure, Context, Result};
use kcare_payload::bundle::Bundle;
use kcare_payload::check::Payload;
use kcare_payload::elf::{Home, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE};
use kcare_payload::layout::{SEC_PART, SEC_TRAMPOLINES, TRAMPOLINE_FILL, TRAMPOLINE_SIZE};
use kcare_payload::place::slots;
use kcare_payload::special::{special_named, DEBUG_MESSAGES};
use object::elf as et;

use crate::author::When;
use crate::elf::{Section, Symbol, SymbolRef};
use crate::image::{ImageId, Images, VMLINUX};
use crate::insn::ENDBR64;
use crate::layout::{Spot, INIT_TEXT, PERCPU};
use crate::obj::{field_size, ItemId, Kind, Rel, SecId, Target};
use crate::preimage::Preimage;
use crate::select::{Goal, Key, Redirect, Selector};
use crate::special::{Orc, ORC_UNDEFINED};
use crate::unit::UnitState;

pub use escapes::Escape;
use escapes::{Taken, To};

/// What the manifest says.
#[derive(Clone, Debug)]
pub struct About {
    /// Patch level.
    pub level: u32,
    /// Seconds since 1970.
    pub time: u64,
    /// Seconds since 1970 after which it is not applied any more.
    pub not_after: Option<u64>,
    /// The lowest level that may follow it.
    pub floor: Option<u32>,
    /// Old and new code must not run side by side.
    pub all_at_once: bool,
    /// The author vouches that nothing calls the payload's code any more once post_unpatch has run.
    pub text_is_quiet: bool,
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
    /// Addresses that are taken of what is in the payload.
    taken: Vec<Taken>,
    /// Unwind entries by output section and offset; `true` if one only ends a range.
    orc: BTreeMap<(usize, u64), (bool, Orc)>,
}

/// Indices into [`Emitter::sections`].
const TRAMPOLINES: usize = 0;
const TEXT: usize = 1;

/// Code of a unit, and where it is in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the unit.
    pub unit: usize,
    /// Section in the unit's patched object.
    pub sec: SecId,
    /// Offset of its start in that section.
    pub start: u64,
    /// Offset of its end.
    pub end: u64,
    /// Section of the payload, or of a module's part, by its index in the file.
    pub section: u32,
    /// Offset of its start there.
    pub offset: u64,
}

/// A payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Emitted {
    /// The file without a signature.
    pub bytes: Vec<u8>,
    /// The code of the payload itself, then of each module's part, in their order.
    pub pieces: Vec<Vec<Piece>>,
    /// Of which code the address is taken, in the payload itself and in the parts, if any is.
    pub escapes: Vec<Escape>,
}

/// A written object.
struct Written {
    bytes: Vec<u8>,
    /// The numbers of its own symbols.
    symbols: HashMap<Key, u32>,
    pieces: Vec<Piece>,
    escape: Option<Escape>,
    /// Addresses that it takes of what the payload adds to vmlinux.
    outward: Vec<Taken>,
}

/// Writes the payload without a signature; `preimages` are those of the selection's redirects.
pub fn emit(
    units: &[UnitState],
    selector: &Selector<'_>,
    images: &Images,
    preimages: &[Preimage],
    about: &About,
) -> Result<Emitted> {
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
    let object = |image, outer: &OuterPlaces, inward, parts| -> Result<Written> {
        emit_object(
            units, selector, images, image, outer, inward, preimages, about, parts,
        )
    };

    // Where the outer payload's symbols will be does not depend on what is in the parts.
    let mut parts: Vec<(String, Vec<u8>)> =
        modules.iter().map(|&id| (name(id), Vec::new())).collect();
    let mut outer = OuterPlaces::new();
    if !modules.is_empty() {
        let written = object(VMLINUX, &outer, Vec::new(), parts.clone())?;
        outer = outer_places(&written)?;
    }
    let mut inner = Vec::new();
    let (mut inward, mut escapes) = (Vec::new(), Vec::new());
    for (part, &id) in parts.iter_mut().zip(&modules) {
        let written = object(id, &outer, Vec::new(), Vec::new())
            .with_context(|| format!("in the part for {}", images.get(id).name()))?;
        part.1 = written.bytes;
        inner.push(written.pieces);
        escapes.extend(written.escape);
        inward.extend(written.outward);
    }
    let outermost = object(VMLINUX, &outer, inward, parts)?;
    let Written { bytes, pieces, .. } = outermost;
    escapes.splice(0..0, outermost.escape);
    if about.text_is_quiet {
        check_quiet(&escapes, selector)?;
    }
    if let Err(refusal) = Bundle::parse(&bytes) {
        let part = refusal.part.unwrap_or("vmlinux");
        bail!(
            "the payload would be refused ({part}): {}; this is a fault of kcare-build",
            refusal.error
        );
    }
    let pieces = std::iter::once(pieces).chain(inner).collect();
    Ok(Emitted {
        bytes,
        pieces,
        escapes,
    })
}

/// Refuses the author's word where there is no callback that could keep it, or nothing to be said.
fn check_quiet(escapes: &[Escape], selector: &Selector<'_>) -> Result<()> {
    ensure!(
        !escapes.is_empty(),
        "`--text-is-quiet` decides nothing: no address of the patch's code is taken"
    );
    for escape in escapes {
        let callback = (escape.image, When::PostUnpatch);
        ensure!(
            selector.selection.callbacks.contains_key(&callback),
            "`--text-is-quiet` wants a post_unpatch callback{}, which sees to it that nothing calls the patch's code any more: {}",
            escape.for_module(),
            escape.taken()
        );
    }
    Ok(())
}

/// Where the symbols of the outer payload are in its memory.
fn outer_places(written: &Written) -> Result<OuterPlaces> {
    let payload = Payload::parse(&written.bytes)
        .map_err(|error| anyhow::anyhow!("the payload would be refused: {error}"))?;
    let slots: BTreeMap<u32, _> = slots(&payload).map(|(s, slot)| (s.index, slot)).collect();
    let mut places = OuterPlaces::new();
    for (&key, &number) in &written.symbols {
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
    inward: Vec<Taken>,
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
        taken: inward,
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
            let (name, flags) = if sec.name == DEBUG_MESSAGES {
                // An array, which the kernel's own loader registers.
                ensure!(
                    special_named(DEBUG_MESSAGES).is_some_and(|s| s.entry == item.size),
                    "{} is no struct _ddebug as payloads have it",
                    item.name
                );
                (DEBUG_MESSAGES, SHF_ALLOC | SHF_WRITE)
            } else if writable {
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
        let (symbol, addend, to) = match (copied, rel.target) {
            (Some((section, addend)), Target::Item(target)) => {
                let to = To::Item((u, target));
                (SymbolRef::Section(section), addend, Some(to))
            }
            _ => self.goal(u, from, rel, table)?,
        };
        self.note_taken((u, from), rel, section, to);
        let out = &mut self.sections[section];
        out.data
            .get_mut(at as usize..at as usize + size)
            .with_context(|| format!("`{user}` has a relocation outside of it"))?
            .fill(0);
        out.rels.push((at, rel.ty, symbol, addend));
        Ok(())
    }

    /// Symbol and addend for a reference to something that was placed as an item, or to vmlinux; and what it is, if
    /// it is the payload's own.
    fn goal(
        &mut self,
        u: usize,
        from: ItemId,
        rel: &Rel,
        table: bool,
    ) -> Result<(SymbolRef, i64, Option<To>)> {
        let goal = self
            .selector
            .goal(u, from, rel, table)
            .map_err(|r| anyhow::anyhow!("{}: {}", r.name, r.reason))?;
        Ok(match goal {
            Goal::Inside(key) => match self.named.get(&key) {
                Some(&symbol) => (SymbolRef::Symbol(symbol), rel.addend, Some(To::Item(key))),
                None => {
                    let &(section, offset) = self.placed.get(&key).with_context(|| {
                        let obj = &self.units[key.0].new;
                        let (user, target) = (&obj.items[from].name, &obj.items[key.1].name);
                        format!("`{user}` refers to `{target}`, which was left out")
                    })?;
                    let addend = rel.addend + offset as i64;
                    (SymbolRef::Section(section), addend, Some(To::Item(key)))
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
                let symbol = self.thunks[&(image, addr)];
                (
                    SymbolRef::Symbol(symbol),
                    rel.addend,
                    Some(To::Thunk(symbol)),
                )
            }
            Goal::Outside(name, image, addr) => {
                let symbol = self.outside(name, Abode::Image(image, addr))?;
                (SymbolRef::Symbol(symbol), rel.addend, None)
            }
            Goal::Outer(key) => {
                let name = self.units[key.0].new.items[key.1].name.clone();
                let spot = *self
                    .outer
                    .get(&key)
                    .with_context(|| format!("the payload does not add `{name}` to vmlinux"))?;
                let symbol = self.outside(name, Abode::Outer(spot))?;
                (SymbolRef::Symbol(symbol), rel.addend, Some(To::Item(key)))
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
}
