// SPDX-License-Identifier: GPL-2.0

//! Compares the original and the patched object, item by item. The bias: never miss a change.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Result;
use object::elf::{SHF_MERGE, SHF_STRINGS, SHF_WRITE, SHT_NOBITS};

use crate::correlate::{
    base_name, mark_ambiguous, numbered_data, pair_by_name, pair_by_scope, pair_by_use, same_scope,
    Pairs,
};
use crate::insn::Insn;
use crate::obj::{Item, ItemId, Kind, Life, Obj, Rel, Sec, SecId, Target};
use crate::padding::Codes;
use crate::renames::Renames;
use crate::special::{self, is_discarded, is_table, ordinary_data, replacement, Special, TABLES};

/// What became of an item of the patched object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does the same.
    Same,
    /// It is new.
    New,
    /// It differs, and where first.
    Changed(String),
}

/// The difference between two objects of a unit.
#[derive(Debug)]
pub struct Diff {
    /// The pairs.
    pub pairs: Pairs,
    /// Verdict for every item of the patched object that has a name.
    pub verdicts: BTreeMap<ItemId, Verdict>,
    /// Functions and variables of the original object that are gone.
    pub gone: Vec<ItemId>,
    /// Variables of the original object that the patched one takes from elsewhere under the same name. That they are the
    /// same variables is only supposed; whoever uses the difference has to check it.
    pub moved: BTreeSet<ItemId>,
    /// Sections that differ although no item tells what for.
    pub sections: Vec<String>,
}

/// One side of a comparison.
#[derive(Clone, Copy)]
struct Side<'a> {
    obj: &'a Obj,
    special: &'a Special,
}

/// Compares.
struct Comparer<'a> {
    old: Side<'a>,
    new: Side<'a>,
    pairs: Pairs,
    /// The code of both without padding, if padding does not count.
    codes: Option<(Codes, Codes)>,
    /// Things without a name that are being compared: they may refer to themselves.
    open: RefCell<HashSet<(ItemId, ItemId)>>,
    /// Whether the item that is compared is init code or data, which only calls what it needs before it is freed.
    init: Cell<bool>,
    /// What the author says of names.
    renames: &'a Renames,
    /// [`Diff::moved`].
    moved: RefCell<BTreeSet<ItemId>>,
}

/// Compares two objects of a unit.
pub fn compare(
    old: &Obj,
    old_special: &Special,
    new: &Obj,
    new_special: &Special,
    renames: &Renames,
) -> Result<Diff> {
    compare_with(old, old_special, new, new_special, renames, None)
}

/// The same for objects in which functions share sections: padding does not count, as it depends on where a function is.
pub fn compare_shared(
    old: &Obj,
    old_special: &Special,
    new: &Obj,
    new_special: &Special,
    renames: &Renames,
) -> Result<Diff> {
    let codes = (Codes::read(old, old_special), Codes::read(new, new_special));
    compare_with(old, old_special, new, new_special, renames, Some(codes))
}

fn compare_with(
    old: &Obj,
    old_special: &Special,
    new: &Obj,
    new_special: &Special,
    renames: &Renames,
    codes: Option<(Codes, Codes)>,
) -> Result<Diff> {
    let mut comparer = Comparer::new(old, old_special, new, new_special, renames, codes)?;
    mark_ambiguous(old, new, &mut comparer.pairs);

    let mut verdicts = BTreeMap::new();
    for (id, item) in new.items.iter().enumerate() {
        if !item.named() || is_discarded(&new.secs[item.sec].name) {
            continue;
        }
        comparer.init.set(new.secs[item.sec].life() == Life::Init);
        let verdict = match comparer.pairs.old(id) {
            None => Verdict::New,
            Some(o) => match comparer.difference(o, id, &mut Vec::new(), false)? {
                None => Verdict::Same,
                Some(what) => Verdict::Changed(what),
            },
        };
        verdicts.insert(id, verdict);
    }
    let gone = old
        .items
        .iter()
        .enumerate()
        .filter(|(id, i)| {
            i.named()
                && comparer.pairs.new_of(*id).is_none()
                && !is_discarded(&old.secs[i.sec].name)
        })
        .map(|(id, _)| id)
        .collect();
    let sections = comparer.loose_sections()?;
    Ok(Diff {
        pairs: comparer.pairs,
        verdicts,
        gone,
        moved: comparer.moved.into_inner(),
        sections,
    })
}

/// Pairs the items of two compilations of one source with different section flags.
pub fn pair(old: &Obj, old_special: &Special, new: &Obj, new_special: &Special) -> Result<Pairs> {
    let renames = Renames::default();
    Ok(Comparer::new(old, old_special, new, new_special, &renames, None)?.pairs)
}

impl<'a> Comparer<'a> {
    /// Pairs the items.
    fn new(
        old: &'a Obj,
        old_special: &'a Special,
        new: &'a Obj,
        new_special: &'a Special,
        renames: &'a Renames,
        codes: Option<(Codes, Codes)>,
    ) -> Result<Self> {
        let mut comparer = Self {
            old: Side {
                obj: old,
                special: old_special,
            },
            new: Side {
                obj: new,
                special: new_special,
            },
            pairs: pair_by_name(old, new, renames),
            codes,
            open: RefCell::default(),
            init: Cell::new(false),
            renames,
            moved: RefCell::default(),
        };
        comparer.pair_open(renames)?;
        Ok(comparer)
    }

    /// Pairs numbered variables by where they are declared and what refers to them.
    fn pair_open(&mut self, renames: &Renames) -> Result<()> {
        pair_by_scope(self.old.obj, self.new.obj, &mut self.pairs, renames);
        // What is equal but for open variables pairs them one by one, which is exact.
        loop {
            let mut progress = false;
            for (o, n) in self.pairs.all() {
                let mut open = Vec::new();
                if self.difference(o, n, &mut open, true)?.is_none() {
                    for (a, b) in open {
                        progress |= self.pairs.old(b).is_none() && self.pairs.add(a, b);
                    }
                }
            }
            if !progress {
                break;
            }
        }
        self.pair_debug_messages()?;
        loop {
            let mut progress = false;
            for (o, n) in self.pairs.all() {
                let olds = open_references(self.old.obj, o);
                let news = open_references(self.new.obj, n);
                progress |= pair_by_use(self.old.obj, self.new.obj, &mut self.pairs, &olds, &news);
            }
            if !progress {
                break;
            }
        }
        Ok(())
    }

    /// Pairs the records of debug messages by what they say and where, so that the user's switches stay.
    fn pair_debug_messages(&mut self) -> Result<()> {
        let records = |obj: &Obj, taken: &dyn Fn(ItemId) -> bool| -> Vec<ItemId> {
            (0..obj.items.len())
                .filter(|&id| obj.secs[obj.items[id].sec].name == "__dyndbg" && !taken(id))
                .filter(|&id| numbered_data(&obj.items[id]))
                .collect()
        };
        let olds = records(self.old.obj, &|id| self.pairs.new_of(id).is_some());
        let news = records(self.new.obj, &|id| self.pairs.old(id).is_some());
        for &n in &news {
            for &o in olds
                .iter()
                .filter(|&&o| self.pairs.new_of(o).is_none())
                .collect::<Vec<_>>()
            {
                if self.difference(o, n, &mut Vec::new(), false)?.is_none() {
                    self.pairs.add(o, n);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The first difference between two items; open variables of one base name go to `open` if `weak`.
    fn difference(
        &self,
        o: ItemId,
        n: ItemId,
        open: &mut Vec<(ItemId, ItemId)>,
        weak: bool,
    ) -> Result<Option<String>> {
        let (old, new) = (&self.old.obj.items[o], &self.new.obj.items[n]);
        let (old_sec, new_sec) = (&self.old.obj.secs[old.sec], &self.new.obj.secs[new.sec]);
        let moved = match old.kind {
            // The running kernel's stays where it is, and is as good there.
            Kind::Data => !same_use(old_sec, new_sec),
            Kind::Func => {
                old_sec.flags != new_sec.flags || shared(&old_sec.name) != shared(&new_sec.name)
            }
            Kind::Str | Kind::Const | Kind::Blob => {
                old_sec.flags != new_sec.flags || old_sec.ty != new_sec.ty
            }
        };
        if moved {
            return Ok(Some(format!(
                "section `{}` -> `{}`",
                old_sec.name, new_sec.name
            )));
        }
        let before = open.len();
        let mut difference = if old.size == new.size {
            let span = (old.sec, old.start, new.sec, new.start, old.size);
            self.range(span, open, weak)?
        } else {
            Some(format!("size {} -> {}", old.size, new.size))
        };
        if difference.is_some() && old.kind == Kind::Func && new.kind == Kind::Func {
            open.truncate(before);
            if self.same_code(o, n, open, weak)? {
                difference = None;
            }
        }
        if difference.is_some() {
            return Ok(difference);
        }
        if old.kind == Kind::Func {
            return self.tables(o, n, open, weak);
        }
        Ok(None)
    }

    /// Compares two ranges of the same size.
    fn range(
        &self,
        (old_sec, old_start, new_sec, new_start, size): (SecId, u64, SecId, u64, u64),
        open: &mut Vec<(ItemId, ItemId)>,
        weak: bool,
    ) -> Result<Option<String>> {
        let (os, ns) = (&self.old.obj.secs[old_sec], &self.new.obj.secs[new_sec]);
        let old_rels = os.rels_in(old_start, old_start + size);
        let new_rels = ns.rels_in(new_start, new_start + size);
        let bytes = |sec: &Sec, start: u64, rels: &[Rel]| -> Vec<u8> {
            let mut bytes = match sec.data.get(start as usize..(start + size) as usize) {
                Some(range) => range.to_vec(),
                // Memory that starts as zeros.
                None if sec.ty == SHT_NOBITS && start + size <= sec.size => vec![0; size as usize],
                None => return Vec::new(),
            };
            for rel in rels {
                // Fields of branches that the assembler resolved hold their distance.
                let field = crate::obj::field_size(rel.ty).unwrap_or(0);
                let at = (rel.off - start) as usize;
                if rel.target != Target::Abs {
                    bytes[at..(at + field).min(size as usize)].fill(0);
                }
            }
            mask_lines(&mut bytes, &ns.name);
            bytes
        };
        let a = bytes(os, old_start, old_rels);
        let b = bytes(ns, new_start, new_rels);
        if a.len() != b.len() {
            return Ok(Some("contents".to_owned()));
        }
        if let Some(at) = (0..a.len()).find(|&i| a[i] != b[i]) {
            return Ok(Some(format!(
                "byte {at:#x}: {:#04x} -> {:#04x}",
                a[at], b[at]
            )));
        }
        if old_rels.len() != new_rels.len() {
            return Ok(Some(format!(
                "references: {} -> {}",
                old_rels.len(),
                new_rels.len()
            )));
        }
        for (o, n) in old_rels.iter().zip(new_rels) {
            let at = o.off - old_start;
            if at != n.off - new_start || o.ty != n.ty {
                return Ok(Some(format!("reference at {at:#x}: another place or type")));
            }
            if !self.same_target(o, n, open, weak)? {
                return Ok(Some(format!(
                    "reference at {at:#x}: {} -> {}",
                    meaning(self.old.obj, o),
                    meaning(self.new.obj, n),
                )));
            }
        }
        Ok(None)
    }

    /// Whether two functions are the same but for padding, and for the room that their jumps take because of it.
    fn same_code(
        &self,
        o: ItemId,
        n: ItemId,
        open: &mut Vec<(ItemId, ItemId)>,
        weak: bool,
    ) -> Result<bool> {
        let Some((old_codes, new_codes)) = &self.codes else {
            return Ok(false);
        };
        let (old, new) = (old_codes.of(o), new_codes.of(n));
        if old.is_empty() || old.len() != new.len() {
            return Ok(false);
        }
        let (old_sec, new_sec) = (self.old.obj.items[o].sec, self.new.obj.items[n].sec);
        let (os, ns) = (&self.old.obj.secs[old_sec], &self.new.obj.secs[new_sec]);
        for (a, b) in old.iter().zip(new) {
            let same = if let (Some((_, to)), Some((_, new_to))) = (a.branch, b.branch) {
                let rels = (os.rels_in(a.off, a.end()), ns.rels_in(b.off, b.end()));
                opcode(&os.data, a) == opcode(&ns.data, b)
                    && match rels {
                        ([], []) => old_codes.place(o, to) == new_codes.place(n, new_to),
                        ([old], [new]) => self.same_target(old, new, open, weak)?,
                        _ => false,
                    }
            } else {
                let span = (old_sec, a.off, new_sec, b.off, u64::from(a.len));
                a.len == b.len && self.range(span, open, weak)?.is_none()
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether two offsets in functions that are paired mean the same place.
    fn same_place(&self, o: ItemId, old: i64, n: ItemId, new: i64) -> bool {
        let (old_item, new_item) = (&self.old.obj.items[o], &self.new.obj.items[n]);
        match &self.codes {
            Some((old_codes, new_codes))
                if !old_codes.of(o).is_empty() && !new_codes.of(n).is_empty() =>
            {
                old_codes.place(o, old_item.start as i64 + old)
                    == new_codes.place(n, new_item.start as i64 + new)
            }
            _ => old == new,
        }
    }

    fn same_target(
        &self,
        o: &Rel,
        n: &Rel,
        open: &mut Vec<(ItemId, ItemId)>,
        weak: bool,
    ) -> Result<bool> {
        if self.known_target(o, n, open, weak)? {
            return Ok(true);
        }
        let (Target::Item(a), Target::Item(b)) = (o.target, n.target) else {
            return Ok(false);
        };
        let (ia, ib) = (&self.old.obj.items[a], &self.new.obj.items[b]);
        // Both may mean an object without size, whose address says nothing. Where sections are split, nothing else is
        // there; where they are shared, the comparison of split ones decides about what has a size.
        if o.empty && n.empty && (self.codes.is_some() || !(ia.named() || ib.named())) {
            return Ok(true);
        }
        // What calls a function that the patch keeps beyond init does what it did.
        let life = |obj: &Obj, item: &Item| obj.secs[item.sec].life();
        Ok(self.init.get()
            && ia.kind == Kind::Func
            && ib.kind == Kind::Func
            && ia.name == ib.name
            && life(self.old.obj, ia) == Life::Init
            && life(self.new.obj, ib) == Life::Kept
            && o.reach() == n.reach())
    }

    fn known_target(
        &self,
        o: &Rel,
        n: &Rel,
        open: &mut Vec<(ItemId, ItemId)>,
        weak: bool,
    ) -> Result<bool> {
        let (a, b) = match (o.target, n.target) {
            (Target::Undef(a), Target::Undef(b)) => {
                let same = self.old.obj.undefs[a] == self.new.obj.undefs[b];
                return Ok(same && o.addend == n.addend);
            }
            (Target::Abs, Target::Abs) => return Ok(o.addend == n.addend),
            (Target::Item(a), Target::Item(b)) => (a, b),
            (Target::Item(a), Target::Undef(b)) => {
                let same = o.reach() == n.reach() && self.has_moved(a, b);
                if same {
                    self.moved.borrow_mut().insert(a);
                }
                return Ok(same);
            }
            _ => return Ok(false),
        };
        let (ia, ib) = (&self.old.obj.items[a], &self.new.obj.items[b]);
        if ia.named() != ib.named() || (!ia.named() && ia.kind != ib.kind) {
            return Ok(false);
        }
        if ia.named() {
            if !self.same_place(a, o.reach(), b, n.reach()) {
                return Ok(false);
            }
            match (self.pairs.new_of(a), self.pairs.old(b)) {
                (Some(paired), _) => return Ok(paired == b),
                (None, Some(_)) => return Ok(false),
                (None, None) => {}
            }
            let could = weak
                && numbered_data(ia)
                && numbered_data(ib)
                && ia.size == ib.size
                && base_name(&ia.name) == base_name(&ib.name)
                && same_scope(self.old.obj, a, self.new.obj, b);
            if could {
                open.push((a, b));
            }
            return Ok(could);
        }
        if o.addend != n.addend {
            return Ok(false);
        }
        if ia.kind == Kind::Str {
            return Ok(self.old.obj.bytes(a) == self.new.obj.bytes(b));
        }
        if !self.open.borrow_mut().insert((a, b)) {
            return Ok(true);
        }
        let difference = self.difference(a, b, open, weak);
        self.open.borrow_mut().remove(&(a, b));
        Ok(difference?.is_none())
    }

    /// Whether a variable of the original may be what the patched object takes from another one.
    fn has_moved(&self, a: ItemId, b: usize) -> bool {
        let (obj, name) = (self.old.obj, &self.new.obj.undefs[b]);
        let item = &obj.items[a];
        let renamed = self.renames.new_name(&item.name);
        item.kind == Kind::Data
            && renamed.as_ref().unwrap_or(&item.name) == name
            && obj.secs[item.sec].life() == Life::Kept
            && self.pairs.new_of(a).is_none()
            && !self.renames.is_gone(name)
            && !self.renames.is_fresh(name)
    }

    /// Compares what the kernel's tables say about two functions.
    fn tables(
        &self,
        o: ItemId,
        n: ItemId,
        open: &mut Vec<(ItemId, ItemId)>,
        weak: bool,
    ) -> Result<Option<String>> {
        let meaning = |side: &Side<'_>, id: ItemId| {
            let mut entries = side.special.entries_of(&side.obj.items[id]).to_vec();
            entries.retain(|e| TABLES[e.table].meaning);
            entries.sort_by_key(|e| (e.table, e.place, e.off));
            entries
        };
        let (old, new) = (meaning(&self.old, o), meaning(&self.new, n));
        let (old_start, new_start) = (self.old.obj.items[o].start, self.new.obj.items[n].start);
        if old.len() != new.len() {
            return Ok(Some(format!(
                "entries in kernel tables: {} -> {}",
                old.len(),
                new.len()
            )));
        }
        for (a, b) in old.iter().zip(&new) {
            let table = &TABLES[a.table];
            let (at, new_at) = (a.place - old_start, b.place - new_start);
            if a.table != b.table || !self.same_place(o, at as i64, n, new_at as i64) {
                return Ok(Some(format!("entry in {}", table.name)));
            }
            let span = (a.sec, a.off, b.sec, b.off, table.size);
            // The first field refers to the function itself, which is paired.
            if let Some(what) = self.entry_range(span, table, open, weak)? {
                return Ok(Some(format!("{} at {at:#x}: {what}", table.name)));
            }
            if table.name == ".altinstructions" {
                let pair = (replacement(self.old.obj, a)?, replacement(self.new.obj, b)?);
                match pair {
                    (None, None) => {}
                    (Some((os, ostart, olen)), Some((ns, nstart, nlen))) if olen == nlen => {
                        let span = (os, ostart, ns, nstart, olen);
                        if let Some(what) = self.range(span, open, weak)? {
                            return Ok(Some(format!("replacement at {at:#x}: {what}")));
                        }
                    }
                    _ => return Ok(Some(format!("replacement at {at:#x}"))),
                }
            }
        }
        let old = self.old.special.runtime_of(&self.old.obj.items[o]);
        let new = self.new.special.runtime_of(&self.new.obj.items[n]);
        let same = old.len() == new.len()
            && old
                .iter()
                .zip(&new)
                .all(|(a, b)| a.name == b.name && self.same_place(o, a.at as i64, n, b.at as i64));
        Ok((!same).then(|| "boot-time constants".to_owned()))
    }

    fn entry_range(
        &self,
        (old_sec, old_start, new_sec, new_start, size): (SecId, u64, SecId, u64, u64),
        table: &special::Table,
        open: &mut Vec<(ItemId, ItemId)>,
        weak: bool,
    ) -> Result<Option<String>> {
        let (os, ns) = (&self.old.obj.secs[old_sec], &self.new.obj.secs[new_sec]);
        let bytes = |data: &[u8], start: u64| {
            let mut bytes = data[start as usize..(start + size) as usize].to_vec();
            mask_lines(&mut bytes, table.name);
            bytes
        };
        if bytes(&os.data, old_start) != bytes(&ns.data, new_start) {
            return Ok(Some("contents".to_owned()));
        }
        let old_rels = os.rels_in(old_start, old_start + size);
        let new_rels = ns.rels_in(new_start, new_start + size);
        if old_rels.len() != new_rels.len() {
            return Ok(Some("references".to_owned()));
        }
        for (o, n) in old_rels.iter().zip(new_rels) {
            let replacement = table.name == ".altinstructions" && o.off - old_start == 4;
            if o.off - old_start != n.off - new_start || o.ty != n.ty {
                return Ok(Some("references".to_owned()));
            }
            if !replacement && !self.same_target(o, n, open, weak)? {
                return Ok(Some(format!(
                    "`{}` -> `{}`",
                    self.old.obj.target_name(o.target),
                    self.new.obj.target_name(n.target)
                )));
            }
        }
        Ok(None)
    }

    /// Compares sections that are tables of things without names (initcalls, parameters, exports).
    fn loose_sections(&self) -> Result<Vec<String>> {
        let loose = |obj: &Obj| -> BTreeMap<String, Vec<SecId>> {
            let mut out: BTreeMap<String, Vec<SecId>> = BTreeMap::new();
            for (id, sec) in obj.secs.iter().enumerate() {
                let ordinary = [".data", ".rodata", ".bss", ".text"].iter().any(|p| {
                    sec.name
                        .strip_prefix(p)
                        .is_some_and(|r| r.is_empty() || r.starts_with('.'))
                });
                let covered = obj.items_of(id).iter().any(|&i| obj.items[i].size > 0);
                if sec.alloc()
                    && !ordinary
                    && !covered
                    && sec.size > 0
                    && !sec.merge()
                    && !is_table(&sec.name)
                    && !is_discarded(&sec.name)
                {
                    out.entry(sec.name.clone()).or_default().push(id);
                }
            }
            out
        };
        let (old, new) = (loose(self.old.obj), loose(self.new.obj));
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        let mut changed = Vec::new();
        for name in names {
            let (o, n) = (old.get(name), new.get(name));
            self.init.set(name.starts_with(".init"));
            let same = match (o, n) {
                (Some(o), Some(n)) if o.len() == n.len() => {
                    let mut same = true;
                    for (&o, &n) in o.iter().zip(n) {
                        let (os, ns) = (&self.old.obj.secs[o], &self.new.obj.secs[n]);
                        same &= os.size == ns.size
                            && self
                                .range((o, 0, n, 0, os.size), &mut Vec::new(), false)?
                                .is_none();
                    }
                    same
                }
                _ => false,
            };
            if !same {
                changed.push(name.clone());
            }
        }
        Ok(changed)
    }
}

/// Whether a variable or constant in one section does as well in the other, if its contents are the same.
fn same_use(old: &Sec, new: &Sec) -> bool {
    let alike = |sec: &Sec| sec.flags & !u64::from(SHF_WRITE | SHF_MERGE | SHF_STRINGS);
    if old.name == new.name || split_name(&old.name) == split_name(&new.name) {
        return old.flags == new.flags;
    }
    let per_cpu = |sec: &Sec| sec.name.starts_with(".data..percpu");
    if per_cpu(old) && per_cpu(new) {
        return old.flags == new.flags;
    }
    ordinary_data(&old.name)
        && ordinary_data(&new.name)
        && alike(old) == alike(new)
        && old.life() == new.life()
        // What the kernel has closed cannot be written, and what a patch closes need not be.
        && (old.sealed() == new.sealed() || new.sealed())
        && (old.writable() || !new.writable())
}

/// A section's name without that of the variable that it was made for.
fn split_name(name: &str) -> &str {
    const SPLIT: [&str; 7] = [
        ".rodata",
        ".data.rel.ro.local",
        ".data.rel.ro",
        ".data.rel.local",
        ".data.rel",
        ".data",
        ".bss",
    ];
    let of = |start: &&str| {
        name.strip_prefix(*start).is_some_and(|rest| {
            rest.is_empty() || (rest.starts_with('.') && !rest.starts_with(".."))
        })
    };
    SPLIT.into_iter().find(of).unwrap_or(name)
}

/// What a direct branch is, whether its distance takes one byte or four.
fn opcode(code: &[u8], insn: &Insn) -> Vec<u8> {
    let field = insn.branch.map_or(insn.end(), |(field, _)| field);
    let bytes = code
        .get(insn.off as usize..field as usize)
        .unwrap_or_default();
    match *bytes {
        [0xe9] => vec![0xeb],
        [0x0f, condition @ 0x80..=0x8f] => vec![condition - 0x10],
        _ => bytes.to_vec(),
    }
}

/// What a reference leads to, in words.
fn meaning(obj: &Obj, rel: &Rel) -> String {
    if let Target::Item(id) = rel.target {
        if obj.items[id].kind == Kind::Str {
            let text = obj.bytes(id).split(|&b| b == 0).next().unwrap_or_default();
            let text: String = String::from_utf8_lossy(text).chars().take(40).collect();
            return format!("{text:?}");
        }
    }
    match (obj.target_name(rel.target), rel.reach()) {
        (name, 0) => format!("`{name}`"),
        (name, reach) => format!("`{name}`{reach:+}"),
    }
}

/// The numbered variables that an item refers to, in its order.
fn open_references(obj: &Obj, id: ItemId) -> Vec<ItemId> {
    obj.rels(id)
        .iter()
        .filter_map(|r| match r.target {
            Target::Item(t) if numbered_data(&obj.items[t]) => Some(t),
            _ => None,
        })
        .collect()
}

/// The section that a function shares with others; functions with one of their own are in none.
fn shared(name: &str) -> &str {
    if name.starts_with(".text.") && !name.starts_with(".text..") {
        ".text"
    } else {
        name
    }
}

/// Clears what only tells a source line.
pub(crate) fn mask_lines(bytes: &mut [u8], section: &str) {
    for &(at, keep) in line_bits(section) {
        if let Some(byte) = bytes.get_mut(at) {
            *byte &= keep;
        }
    }
}

/// Bits of a compiler's record that only tell a source line: offset of the byte, bits to keep.
fn line_bits(section: &str) -> &'static [(usize, u8)] {
    if section.contains(".Lubsan_data") {
        // struct source_location (lib/ubsan.h): file, line, column.
        &[
            (8, 0),
            (9, 0),
            (10, 0),
            (11, 0),
            (12, 0),
            (13, 0),
            (14, 0),
            (15, 0),
        ]
    } else if section == "__bug_table" {
        // struct bug_entry (include/asm-generic/bug.h): line.
        &[(12, 0), (13, 0)]
    } else if section == "__dyndbg" {
        // struct _ddebug (include/linux/dynamic_debug.h): 18 bits behind four pointers.
        &[(32, 0), (33, 0), (34, 0xfc)]
    } else {
        &[]
    }
}
