// SPDX-License-Identifier: GPL-2.0

//! Decides what goes into the payload: changed functions, and what they need that the kernel lacks.

mod callers;
mod gone;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::author::{self, When};
use crate::compare::Verdict;
use crate::correlate::{expendable, lock_class, numbered, renumbered};
use crate::image::{ImageId, Images, VMLINUX};
use crate::insn::ENDBR64;
use crate::obj::{Item, ItemId, Kind, Obj, Rel, Target};
use crate::refuse::Refusal;
use crate::renames::Renames;
use crate::special::{self, is_discarded, ordinary_data, replacement, REPLACEMENTS};
use crate::unit::UnitState;

/// Why init code and data is refused.
const INIT: &str = "is init code or data, which the running kernel has used and freed";

/// The borders of the memory that is freed after boot (include/asm-generic/sections.h, arch/x86/kernel/vmlinux.lds.S):
/// to compare addresses with them stays right.
const BORDERS: [&str; 5] = [
    "__init_begin",
    "__init_end",
    "_sinittext",
    "_einittext",
    "__inittext_end",
];

/// Section of the numbers of types and functions in the kernel's own BTF (include/linux/btf_ids.h).
const BTF_IDS: &str = ".BTF_ids";
/// Why it cannot be carried.
const LINKED: &str =
    "its numbers are filled in when the kernel is linked, and a payload would have zeros";
/// Why another flag has no effect.
const VERIFIER: &str = "the verifier reads the running kernel's set, which a payload cannot change";

/// An item of a unit: index of the unit, item of its patched object.
pub type Key = (usize, ItemId);

/// A function that is redirected.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The new function.
    pub key: Key,
    /// Name in its image.
    pub name: String,
    /// Address of the original in its image.
    pub addr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Offset of its fentry site.
    pub fentry: u64,
    /// Address and size of its cold part, or of an original that it jumps to and that cannot be redirected.
    pub cold: Option<(u64, u64)>,
}

/// Where a reference goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To something in the same part of the payload.
    Inside(Key),
    /// From a module's part to what the payload adds to vmlinux.
    Outer(Key),
    /// To something that was shipped: name, image, address.
    Outside(String, ImageId, u64),
}

/// What goes into the payload.
#[derive(Debug, Default)]
pub struct Selection {
    /// Functions, and fragments of code.
    pub code: BTreeSet<Key>,
    /// Variables, constants, strings.
    pub data: BTreeSet<Key>,
    /// Redirected functions, ascending by image and address.
    pub redirects: Vec<Redirect>,
    /// Functions that are called around the switch of an image.
    pub callbacks: BTreeMap<(ImageId, When), Key>,
    /// Declared states: version by id.
    pub states: BTreeMap<u64, u32>,
    /// Shipped functions, by unit, image and link-time address, that the unit's references to their address
    /// reach by a thunk, because an indirect call to the functions themselves would fault.
    pub thunks: BTreeMap<(usize, ImageId, u64), String>,
    /// Why each of them is in.
    pub why: BTreeMap<Key, String>,
    /// What stands in the way.
    pub refusals: BTreeSet<Refusal>,
    /// Remarks that are no obstacles.
    pub notes: Vec<String>,
}

/// Decides for all units.
#[derive(Debug)]
pub struct Selector<'a> {
    units: &'a [UnitState],
    images: &'a Images,
    renames: &'a Renames,
    /// Global functions and variables of all units that are new or changed, or global only now, by image and name.
    globals: BTreeMap<(ImageId, String), Key>,
    queue: Vec<Key>,
    /// Functions that are reached through their callers only, because they cannot be redirected; and those callers.
    direct: BTreeMap<Key, BTreeSet<ItemId>>,
    /// Those of them that some code that runs jumps to.
    frameless: BTreeSet<Key>,
    /// The unit that is looked at.
    at: usize,
    /// What is selected so far.
    pub selection: Selection,
}

impl<'a> Selector<'a> {
    /// Selects.
    pub fn run(units: &'a [UnitState], images: &'a Images, renames: &'a Renames) -> Result<Self> {
        let mut this = Selector {
            units,
            images,
            renames,
            globals: BTreeMap::new(),
            queue: Vec::new(),
            direct: BTreeMap::new(),
            frameless: BTreeSet::new(),
            at: 0,
            selection: Selection::default(),
        };
        for (u, unit) in units.iter().enumerate() {
            for (&id, verdict) in &unit.diff.verdicts {
                let old = unit.diff.pairs.old(id).map(|old| &unit.old.items[old]);
                for alias in unit.new.items[id].names().filter(|alias| alias.global) {
                    let known = |item: &Item| {
                        let mut names = item.names();
                        names.any(|known| known.global && known.name == alias.name)
                    };
                    let needed = *verdict != Verdict::Same || !old.is_some_and(known);
                    // A weak name may mean what another unit has.
                    if needed && !unit.placement.elsewhere.contains(&alias.name) {
                        this.globals.insert((unit.image, alias.name), (u, id));
                    }
                }
            }
        }
        this.selection.states = author::states(units)?;
        for u in 0..units.len() {
            this.seed(u);
            this.seed_callbacks(u);
        }
        loop {
            this.close()?;
            if !this.include_callers()? {
                break;
            }
        }
        for u in 0..units.len() {
            this.check_rest(u);
            this.check_new_names(u);
            this.check_moved(u);
            this.check_alignments(u);
            this.check_gone_functions(u);
        }
        this.check_gone_variables();
        this.find_redirects()?;
        Ok(this)
    }

    fn refuse(&mut self, name: &str, reason: impl Into<String>) {
        let refusal = Refusal::new(name, reason).of(&self.units[self.at].source);
        self.selection.refusals.insert(refusal);
    }

    /// Starts with everything that changed.
    fn seed(&mut self, u: usize) {
        self.at = u;
        let unit = &self.units[u];
        for section in &unit.diff.sections {
            self.refuse(
                &unit.source,
                format!(
                    "changes section `{section}`, which the running kernel keeps as it was shipped"
                ),
            );
        }
        for (&id, verdict) in &unit.diff.verdicts {
            let Verdict::Changed(what) = verdict else {
                continue;
            };
            let item = &unit.new.items[id];
            let section = unit.new.secs[item.sec].name.as_str();
            if section.starts_with(".exit") && unit.image == VMLINUX {
                self.selection.notes.push(format!(
                    "`{}` is exit code of a built-in unit and never runs",
                    item.name
                ));
            } else if section.starts_with(".init") {
                self.refuse(&item.name, INIT);
            } else if item.kind == Kind::Func {
                if unit.placement.overridden.contains(&item.name) {
                    self.selection.notes.push(format!(
                        "weak function `{}` is overridden elsewhere and never runs",
                        item.name
                    ));
                    continue;
                }
                self.include((u, id), format!("changed ({what})"));
            } else {
                self.changed_data(u, id, what);
            }
        }
        self.seed_shipped(u);
    }

    /// Takes in the functions that the author wants to be called around a switch.
    fn seed_callbacks(&mut self, u: usize) {
        let unit = &self.units[u];
        self.selection
            .notes
            .extend(unit.declared.notes.iter().cloned());
        for &(when, id) in &unit.declared.callbacks {
            let name = &unit.new.items[id].name;
            if unit.diff.verdicts.get(&id) != Some(&Verdict::New) {
                self.refuse(
                    name,
                    format!(
                        "is the {} callback and a function of the running kernel; write a new function that calls it",
                        when.name()
                    ),
                );
                continue;
            }
            // The kernel calls it through a pointer.
            if !unit.new.bytes(id).starts_with(&ENDBR64) {
                self.refuse(name, "is a callback, and has no ENDBR to be called as one");
            }
            if let Some(&(other, there)) = self.selection.callbacks.get(&(unit.image, when)) {
                let other = &self.units[other];
                self.refuse(
                    name,
                    format!(
                        "is a second {} callback, in {}; `{}` in {} is the first: let one of them call the other",
                        when.name(),
                        unit.source,
                        other.new.items[there].name,
                        other.source,
                    ),
                );
                continue;
            }
            self.selection.callbacks.insert((unit.image, when), (u, id));
            self.include((u, id), format!("is the {} callback", when.name()));
        }
    }

    /// Adds what differs only when it is compiled as it was shipped.
    ///
    /// Sections of their own may lead the compiler to inline something else; what counts is the shipped code.
    fn seed_shipped(&mut self, u: usize) {
        let unit = &self.units[u];
        for (name, what) in &unit.shipped_changes {
            if unit.placement.overridden.contains(name) {
                continue;
            }
            match unit.new.by_name(name) {
                Some(id) if unit.new.items[id].kind == Kind::Func => {
                    let section = &unit.new.secs[unit.new.items[id].sec].name;
                    if section.starts_with(".exit") && unit.image == VMLINUX {
                        continue;
                    }
                    if section.starts_with(".init") {
                        self.refuse(name, INIT);
                        continue;
                    }
                    self.include((u, id), format!("changed in the shipped unit ({what})"));
                }
                Some(id) if unit.diff.verdicts.get(&id) != Some(&Verdict::Same) => {}
                Some(_) => {
                    self.refuse(name, format!("changed only in the shipped layout ({what})"))
                }
                None => self.refuse(
                    name,
                    format!(
                        "changed ({what}), but is compiled differently in a section of its own"
                    ),
                ),
            }
        }
    }

    /// A variable or constant whose initial content differs.
    fn changed_data(&mut self, u: usize, id: ItemId, what: &str) {
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let sec = &unit.new.secs[item.sec];
        if sec.name == BTF_IDS {
            // Its numbers are zeros before the link: other bytes are other flags, or another count.
            let why = match what.starts_with("byte ") {
                true => format!("is of a set whose flags changed ({what}): {VERIFIER}"),
                false => format!("is a set that changed ({what}): {LINKED}"),
            };
            self.refuse(&item.name, why);
            return;
        }
        if sec.name == "__param" {
            self.refuse(
                &item.name,
                format!("is a module parameter that changed ({what}), and has been handed over to sysfs where it has a file there; no \
                         function uses it"),
            );
            return;
        }
        let old = unit
            .diff
            .pairs
            .old(id)
            .map(|old| &unit.old.secs[unit.old.items[old].sec]);
        if old.is_some_and(|old| old.sealed() && !sec.sealed() && sec.writable()) {
            self.refuse(
                &item.name,
                "is read-only since the kernel has booted (__ro_after_init), and the patched code may write to it",
            );
            return;
        }
        if sec.writable() && !expendable(&sec.name) {
            if let Some(old) = unit.diff.pairs.old(id).map(|old| unit.old.items[old].size) {
                if old != item.size {
                    let keeps = match old < item.size {
                        true => "has no room for it",
                        false => "keeps its size",
                    };
                    let new = item.size;
                    self.refuse(
                        &item.name,
                        format!("is a variable that changes its size from {old} to {new} bytes, and the running kernel's {keeps}"),
                    );
                    return;
                }
            }
            self.refuse(
                &item.name,
                format!("is a variable whose initial value changed ({what}); the running kernel has its own copy"),
            );
            return;
        }
        if item.global {
            self.refuse(
                &item.name,
                format!("is a constant that changed ({what}) and that other units can see"),
            );
            return;
        }
        // The kernel may have stored the address of a table of functions; what a fix changes in it would be lost.
        if self.names_functions(unit, id) && !only_indexed(&unit.new, id) {
            self.refuse(
                &item.name,
                format!("is a table of functions that changed ({what}), and objects of the running kernel may point to it"),
            );
            return;
        }
        // Every function that refers to it must use the new one.
        let users: Vec<ItemId> = unit
            .diff
            .verdicts
            .keys()
            .copied()
            .filter(|&user| {
                unit.new
                    .rels(user)
                    .iter()
                    .any(|r| r.target == Target::Item(id))
            })
            .collect();
        if users.is_empty() {
            self.refuse(
                &item.name,
                format!("is a constant that changed ({what}), and nothing shows its use"),
            );
        }
        for user in users {
            let by = &unit.new.items[user];
            if by.kind == Kind::Func {
                self.include(
                    (u, user),
                    format!("uses the changed constant `{}`", item.name),
                );
            } else if unit.diff.verdicts.get(&user) == Some(&Verdict::Same) {
                self.refuse(
                    &item.name,
                    format!(
                        "is a constant that changed ({what}), and `{}` points to it",
                        by.name
                    ),
                );
            }
        }
    }

    /// Whether a constant holds pointers to functions.
    fn names_functions(&self, unit: &UnitState, id: ItemId) -> bool {
        unit.new.rels(id).iter().any(|r| match r.target {
            Target::Item(target) => unit.new.items[target].kind == Kind::Func,
            Target::Undef(i) => {
                // What is not known to be a variable may be a function.
                let mut found = self.images.vmlinux.named(&unit.new.undefs[i]).peekable();
                found.peek().is_none() || found.any(|s| s.func)
            }
            Target::Abs => false,
        })
    }

    /// Takes a function or a fragment in.
    fn include(&mut self, key: Key, why: String) {
        if self.selection.code.insert(key) {
            self.selection.why.insert(key, why);
            self.queue.push(key);
        }
    }

    fn include_data(&mut self, key: Key, why: String) {
        if self.selection.data.insert(key) {
            self.selection.why.insert(key, why);
            self.queue.push(key);
        }
    }

    /// Follows references until nothing new turns up.
    fn close(&mut self) -> Result<()> {
        while let Some((u, id)) = self.queue.pop() {
            self.at = u;
            let unit = &self.units[u];
            let item = &unit.new.items[id];
            if item.kind == Kind::Func {
                self.include_partner(u, id);
                self.check_function(u, id);
            }
            let user = item.name.clone();
            for rel in unit.new.rels(id) {
                self.follow(u, id, rel, &user, false)?;
            }
            let mut rels: Vec<Rel> = Vec::new();
            for entry in unit.special.entries_of(item) {
                let table = &special::TABLES[entry.table];
                if !table.keep {
                    continue;
                }
                let sec = &unit.new.secs[entry.sec];
                let replaced = (table.name == ".altinstructions").then_some(entry.off + 4);
                rels.extend(
                    sec.rels_in(entry.off, entry.off + table.size)
                        .iter()
                        .filter(|r| Some(r.off) != replaced)
                        .cloned(),
                );
                if replaced.is_some() {
                    if let Some((sec, start, len)) = replacement(&unit.new, entry)? {
                        rels.extend(
                            unit.new.secs[sec]
                                .rels_in(start, start + len)
                                .iter()
                                .cloned(),
                        );
                    }
                }
            }
            for rel in rels {
                self.follow(u, id, &rel, &user, true)?;
            }
        }
        Ok(())
    }

    /// A function and its cold part jump into each other.
    fn include_partner(&mut self, u: usize, id: ItemId) {
        let obj = &self.units[u].new;
        let name = &obj.items[id].name;
        let partner = match name.strip_suffix(".cold") {
            Some(parent) => obj.by_name(parent),
            None => obj.by_name(&format!("{name}.cold")),
        };
        if let Some(partner) = partner {
            self.include((u, partner), format!("is part of `{name}`"));
        }
    }

    /// Whether a function can live in a payload.
    fn check_function(&mut self, u: usize, id: ItemId) {
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let section = &unit.new.secs[item.sec].name;
        let ordinary = section == ".text"
            || (section.starts_with(".text.") && !section.starts_with(".text.."))
            || matches!(
                section.as_str(),
                ".sched.text" | ".spinlock.text" | ".ref.text"
            );
        if !ordinary {
            let reason = match section.as_str() {
                ".noinstr.text" => "is not to be instrumented (noinstr)".to_owned(),
                ".kprobes.text" => "is closed to probes (__kprobes)".to_owned(),
                s if s.starts_with(".init") => "is init code".to_owned(),
                s if s.starts_with(".exit") => "is exit code, which has no fentry".to_owned(),
                s => format!("is in the special section `{s}`"),
            };
            self.refuse(&item.name, reason);
        }
        for constant in unit.special.runtime_of(item) {
            if !constant.name.starts_with("ptr_") {
                self.refuse(
                    &item.name,
                    format!(
                        "has the boot-time constant `{}`, which only the kernel's image can have",
                        constant.name
                    ),
                );
            }
        }
        for rel in unit.new.rels(id) {
            if rel.target == Target::Abs && rel.ty == object::elf::R_X86_64_PC32 {
                self.refuse(&item.name, "branches to code without a name");
            }
        }
    }

    /// Takes in what a reference needs.
    fn follow(&mut self, u: usize, from: ItemId, rel: &Rel, user: &str, table: bool) -> Result<()> {
        match self.goal(u, from, rel, table) {
            Err(refusal) => {
                let file = &self.units[self.at].source;
                self.selection.refusals.insert(refusal.of(file));
            }
            Ok(Goal::Outside(name, image, addr)) => {
                let taken = !rel.branch && !table && rel.reach() == 0;
                if taken && !self.taken_before(u, &name) && !self.callable(&name, image, addr)? {
                    self.selection.thunks.insert((u, image, addr), name);
                }
            }
            Ok(Goal::Inside((tu, target)) | Goal::Outer((tu, target))) => {
                let obj = &self.units[tu].new;
                let item = &obj.items[target];
                let section = obj.secs[item.sec].name.as_str();
                if section == REPLACEMENTS || special::entry_size(section).is_some() {
                    // It comes with the function that it is about.
                    return Ok(());
                }
                let why = match self.units[tu].diff.verdicts.get(&target) {
                    Some(Verdict::New) => format!("is new and used by `{user}`"),
                    _ => format!("used by `{user}`"),
                };
                if obj.secs[item.sec].exec() {
                    self.include((tu, target), why);
                } else {
                    self.include_data((tu, target), why);
                }
            }
        }
        Ok(())
    }

    /// Whether the original unit takes the address of a symbol.
    fn taken_before(&self, u: usize, name: &str) -> bool {
        let old = &self.units[u].old;
        old.secs
            .iter()
            .filter(|s| s.alloc() && !special::is_table(&s.name))
            .flat_map(|s| &s.rels)
            .any(|r| !r.branch && r.reach() == 0 && old.target_name(r.target) == name)
    }

    /// Where a reference from an item in the payload goes, or one from a kernel table about it.
    pub fn goal(&self, u: usize, from: ItemId, rel: &Rel, table: bool) -> Result<Goal, Refusal> {
        let unit = &self.units[u];
        let obj = &unit.new;
        let user = &obj.items[from].name;
        match rel.target {
            // What a table says about code in the payload is about that code.
            Target::Item(id) if table && self.selection.code.contains(&(u, id)) => {
                Ok(Goal::Inside((u, id)))
            }
            Target::Abs => Err(Refusal::new(user, "refers to an absolute address")),
            Target::Undef(i) => {
                let name = obj.undefs[i].as_str();
                if let Some(&key) = self.globals.get(&(unit.image, name.to_owned())) {
                    return self.goal_item(rel, key, user);
                }
                if let Some(&key) = self.globals.get(&(VMLINUX, name.to_owned())) {
                    return self.goal_outer(rel, key, user);
                }
                if let Some(border) = self.border(unit, from, rel, name) {
                    return Ok(border);
                }
                self.outside(unit.image, name)
                    .map_err(|why| Refusal::new(user, why))
            }
            Target::Item(id) => {
                let item = &obj.items[id];
                // An address that a cold part takes of its function is the original's, as anywhere else.
                let label = rel.branch || rel.reach() != 0 || base_part(&item.name) != item.name;
                let own_part = base_part(&item.name) == base_part(user)
                    && item.kind == Kind::Func
                    && obj.items[from].kind == Kind::Func
                    && id != from
                    && label;
                if own_part {
                    return Ok(Goal::Inside((u, id)));
                }
                self.goal_item(rel, (u, id), user)
            }
        }
    }

    /// Where a module's reference to a new or changed symbol of vmlinux goes.
    fn goal_outer(&self, rel: &Rel, (tu, id): Key, user: &str) -> Result<Goal, Refusal> {
        if self.units[tu].diff.verdicts.get(&id) != Some(&Verdict::New) {
            // What is redirected is reached through the original.
            return self.original(tu, id).map_err(|why| Refusal::new(user, why));
        }
        Ok(match self.goal_item(rel, (tu, id), user)? {
            Goal::Inside(key) => Goal::Outer(key),
            goal => goal,
        })
    }

    fn goal_item(&self, rel: &Rel, (tu, id): Key, user: &str) -> Result<Goal, Refusal> {
        let unit = &self.units[tu];
        let item = &unit.new.items[id];
        let sec = &unit.new.secs[item.sec];
        if sec.name == BTF_IDS && unit.diff.verdicts.get(&id) != Some(&Verdict::Same) {
            return Err(Refusal::new(
                user,
                format!("refers to `{}`: {LINKED}", item.name),
            ));
        }
        if !item.named() {
            return Ok(Goal::Inside((tu, id)));
        }
        let verdict = unit.diff.verdicts.get(&id);
        if item.kind == Kind::Func {
            if verdict == Some(&Verdict::New) {
                return Ok(Goal::Inside((tu, id)));
            }
            let selected = self.selection.code.contains(&(tu, id))
                || (matches!(verdict, Some(Verdict::Changed(_)))
                    && !unit.placement.overridden.contains(&item.name));
            if selected && (rel.reach() != 0 || rel.branch) {
                return Ok(Goal::Inside((tu, id)));
            }
            if rel.reach() != 0 {
                return Err(Refusal::new(
                    user,
                    format!(
                        "refers into the middle of `{}`, which stays as it is",
                        item.name
                    ),
                ));
            }
            let goal = self
                .original(tu, id)
                .map_err(|why| Refusal::new(user, why))?;
            return Ok(goal);
        }
        if sec.name.starts_with(".init") || sec.name.starts_with(".exit") {
            return Err(Refusal::new(
                user,
                format!("refers to init data `{}`", item.name),
            ));
        }
        if lock_class(item) {
            return Ok(Goal::Inside((tu, id)));
        }
        let readonly = !sec.writable();
        match verdict {
            Some(Verdict::Same) | None => match self.original(tu, id) {
                Ok(goal) => Ok(goal),
                // A constant is as good as its copy, unless its address means something.
                Err(_) if readonly && numbered(&item.name) && sec.name != BTF_IDS => {
                    Ok(Goal::Inside((tu, id)))
                }
                Err(why) => Err(Refusal::new(user, why)),
            },
            Some(Verdict::Changed(_)) => Ok(Goal::Inside((tu, id))),
            Some(Verdict::New) => {
                if let Some(running) = self.running_variable((tu, id)) {
                    return Ok(running);
                }
                if unit.diff.pairs.ambiguous.contains(&id) {
                    return Err(Refusal::new(
                        user,
                        format!("uses the static variable `{}`, and it cannot be told which one of the running kernel it is", item.name),
                    ));
                }
                if sec.name.starts_with(".data..percpu") {
                    return Err(Refusal::new(
                        user,
                        format!("uses the new per-CPU variable `{}`", item.name),
                    ));
                }
                if !ordinary_data(&sec.name) {
                    return Err(Refusal::new(
                        user,
                        format!(
                            "uses the new `{}` in the special section `{}`",
                            item.name, sec.name
                        ),
                    ));
                }
                Ok(Goal::Inside((tu, id)))
            }
        }
    }

    /// The place of an item of a unit in its image.
    pub(super) fn original(&self, u: usize, id: ItemId) -> Result<Goal, String> {
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let old = unit.diff.pairs.old(id);
        let name = match old {
            Some(old) => unit.shipped.get(&old).ok_or_else(|| {
                format!(
                    "refers to `{}`, which the shipped unit does not have so",
                    item.name
                )
            })?,
            None => &item.name,
        };
        if unit.placement.overridden.contains(name) {
            return self.outside(unit.image, name);
        }
        match unit.placement.addr.get(name) {
            Some(&(addr, _)) => self.kept(name, unit.image, addr),
            None => Err(format!(
                "refers to `{name}`, which cannot be found in {}",
                self.images.get(unit.image).name()
            )),
        }
    }

    /// A border of freed memory, unless the reference is a branch or a memory access, which go behind it.
    fn border(&self, unit: &UnitState, from: ItemId, rel: &Rel, name: &str) -> Option<Goal> {
        let symbol = self.images.vmlinux.global(name)?;
        let only_border = BORDERS.contains(&name) && symbol.size == 0 && !symbol.func;
        let insn = unit.new.insn_at(unit.new.items[from].sec, rel.off);
        let used = rel.branch || insn.is_some_and(|insn| insn.access == Some(rel.off));
        (only_border && unit.image == VMLINUX && !used)
            .then(|| Goal::Outside(name.to_owned(), VMLINUX, symbol.addr))
    }

    /// What a name means to a unit of an image that does not define it.
    fn outside(&self, from: ImageId, name: &str) -> Result<Goal, String> {
        let user = self.images.get(from);
        if let Some(addr) = user.global_addr(name) {
            return self.kept(name, from, addr);
        }
        if from == VMLINUX {
            return Err(if user.has(name) {
                format!("refers to `{name}`, which is not global in vmlinux")
            } else {
                format!("refers to `{name}`, which vmlinux does not have")
            });
        }
        let owner = match self.images.exporter(name) {
            Ok(owner) => owner.unwrap_or(VMLINUX),
            Err(owner) => return Err(foreign(name, &owner, user.name())),
        };
        let image = self.images.get(owner);
        if owner != VMLINUX && !self.images.depends(from, owner) {
            return Err(foreign(name, image.name(), user.name()));
        }
        if let Some(addr) = image.global_addr(name) {
            return self.kept(name, owner, addr);
        }
        // Parts of a payload come and go with their modules, so that none can count on another.
        let added = self.globals.keys().find(|(_, n)| n == name);
        Err(match added {
            Some(&(other, _)) => format!(
                "refers to `{name}`, which the fix adds to the module {}; only what it adds to vmlinux can be used in a module",
                self.images.get(other).name()
            ),
            None => format!("refers to `{name}`, which neither {} nor what it depends on has", user.name()),
        })
    }

    /// A shipped symbol, unless its memory has been freed.
    fn kept(&self, name: &str, image: ImageId, addr: u64) -> Result<Goal, String> {
        if self.images.get(image).freed(addr) {
            return Err(format!("refers to `{name}`, which is freed after boot"));
        }
        Ok(Goal::Outside(name.to_owned(), image, addr))
    }

    /// Checks what is new or gone and was not selected.
    fn check_rest(&mut self, u: usize) {
        self.at = u;
        let unit = &self.units[u];
        for (&id, verdict) in &unit.diff.verdicts {
            let item = &unit.new.items[id];
            let section = unit.new.secs[item.sec].name.as_str();
            if *verdict != Verdict::New || item.kind != Kind::Data {
                continue;
            }
            if self.selection.data.contains(&(u, id))
                || ordinary_data(section)
                || is_discarded(section)
                || init_data(section)
            {
                continue;
            }
            if renumbered(item, section, &unit.old, &unit.new) {
                continue;
            }
            let closed = special::closed_to_probes(&unit.new, id);
            if closed.is_some_and(|f| unit.diff.verdicts.get(&f) == Some(&Verdict::New)) {
                // It comes with the function.
                continue;
            }
            if section.starts_with(".init") {
                self.refuse(&item.name, INIT);
                continue;
            }
            self.refuse(
                &item.name,
                format!("is new in section `{section}`, which the running kernel keeps as it was shipped"),
            );
        }
    }

    /// Whether something of an image, if it is a function, can be called through its address.
    ///
    /// An address that nothing took when the kernel was built has no ENDBR, or one that is sealed when it is
    /// loaded (objtool's `.ibt_endbr_seal`), and an indirect call would fault.
    fn callable(&self, name: &str, image: ImageId, addr: u64) -> Result<bool> {
        let image = self.images.get(image);
        if image.section_name(addr) != Some(".text") || !image.is_function(name, addr) {
            return Ok(true);
        }
        let sealed = image.sites().endbr.binary_search(&addr).is_ok();
        Ok(!sealed && image.read_addr(addr, 4)? == ENDBR64)
    }
}

/// Whether init code alone reads what is in this section; the kernel itself reads the tables among the others.
fn init_data(section: &str) -> bool {
    [".init.data", ".init.rodata"]
        .iter()
        .any(|data| section.starts_with(data))
}

/// Why a module cannot use a symbol of another one.
fn foreign(name: &str, owner: &str, user: &str) -> String {
    format!("refers to `{name}` of the module {owner}, which {user} does not depend on")
}

/// Whether all that refers to a table is code that reads one of its entries by an index.
fn only_indexed(obj: &Obj, id: ItemId) -> bool {
    obj.secs
        .iter()
        .enumerate()
        .filter(|(_, s)| s.alloc() && !special::is_table(&s.name) && !is_discarded(&s.name))
        .flat_map(|(sec, s)| s.rels.iter().map(move |r| (sec, r)))
        .filter(|(_, r)| r.target == Target::Item(id))
        .all(|(sec, r)| obj.insn_at(sec, r.off).is_some_and(|insn| insn.indexed))
}

/// The function that a part belongs to.
fn base_part(name: &str) -> &str {
    name.strip_suffix(".cold").unwrap_or(name)
}
