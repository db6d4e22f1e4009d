// SPDX-License-Identifier: GPL-2.0

//! Proves that a rebuilt unit is the one in a shipped module, and places it there.
//!
//! The module's linking (`ld -r`) puts each section of a unit behind those of the units before it and leaves
//! its relocations, so that one offset places a whole section. Names give it where they are unique, the
//! references of what is placed already give the rest, and all of them have to agree.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{bail, ensure, Context, Result};
use object::elf;

use crate::image::Image;
use crate::module::{self, address, Module, Value};
use crate::obj::{field_size, Alias, Item, ItemId, Kind, Obj, Rel, SecId, Target};
use crate::special::{is_discarded, is_table};
use crate::verify::Placement;

/// Section of the module, and where in it the unit's section starts.
type Base = (SecId, u64);

/// Places a unit that was compiled with the shipped flags and compares all of its code and data.
pub fn verify_module(obj: &Obj, source: &str, module: &Module) -> Result<Placement> {
    let mut this = Verifier {
        obj,
        module,
        bases: BTreeMap::new(),
        open: BTreeMap::new(),
        queue: Vec::new(),
        placement: Placement::default(),
    };
    this.run().with_context(|| {
        format!(
            "{source} does not compile to what module {} was shipped with; is this the kernel's compiler and configuration?",
            module.name
        )
    })?;
    Ok(this.placement)
}

struct Verifier<'a> {
    obj: &'a Obj,
    module: &'a Module,
    /// Where the unit's sections are.
    bases: BTreeMap<SecId, Base>,
    /// Where they could be, if names alone do not tell.
    open: BTreeMap<SecId, BTreeSet<Base>>,
    /// Placed sections whose contents are still to be compared.
    queue: Vec<SecId>,
    placement: Placement,
}

impl Verifier<'_> {
    fn run(&mut self) -> Result<()> {
        for sec in 0..self.obj.secs.len() {
            if self.placeable(sec) && !self.obj.items_of(sec).is_empty() {
                self.candidates(sec)?;
            }
        }
        loop {
            while let Some(sec) = self.queue.pop() {
                self.section(sec)
                    .with_context(|| format!("section {}", self.obj.secs[sec].name))?;
            }
            if !self.try_open()? {
                break;
            }
        }
        for &sec in self.open.keys() {
            let section = &self.obj.secs[sec];
            ensure!(
                !section.exec(),
                "section {} could be at several places of the module",
                section.name
            );
        }
        self.collect();
        Ok(())
    }

    /// Whether a section of the unit is kept as it is: not merged by content, no table for the kernel.
    fn placeable(&self, sec: SecId) -> bool {
        let section = &self.obj.secs[sec];
        section.alloc()
            && !section.merge()
            && !is_discarded(&section.name)
            && !is_table(&section.name)
    }

    /// Finds the places that the names of a section's items allow.
    fn candidates(&mut self, sec: SecId) -> Result<()> {
        let mut possible: Option<BTreeSet<Base>> = None;
        for &id in self.obj.items_of(sec) {
            let item = &self.obj.items[id];
            let place = |alias: &Alias| -> BTreeSet<Base> {
                self.module
                    .named(&alias.name)
                    .filter(|s| s.local != alias.global)
                    .filter(|s| s.size == item.size)
                    .filter_map(|s| {
                        let (to, off) = module::place(s.addr);
                        let base = off.checked_sub(item.start)?;
                        self.fits(sec, (to, base)).then_some((to, base))
                    })
                    .collect()
            };
            // Another unit may have a function of a weak name.
            let mut names = item.names().map(|alias| place(&alias));
            let found = names.find(|found| !found.is_empty()).unwrap_or_default();
            if found.is_empty() {
                self.missing(item)?;
                continue;
            }
            let left = match possible {
                None => found,
                Some(before) => before.intersection(&found).copied().collect(),
            };
            ensure!(
                !left.is_empty(),
                "`{}` is not with the others of its section {}",
                item.name,
                self.obj.secs[sec].name
            );
            possible = Some(left);
        }
        if let Some(possible) = possible {
            self.open.insert(sec, possible);
        }
        Ok(())
    }

    /// Nothing in the module is what an item should be.
    fn missing(&mut self, item: &Item) -> Result<()> {
        let other = self.module.named(&item.name).find(|s| !s.local);
        match other {
            Some(_) if item.weak => {
                self.placement.overridden.insert(item.name.clone());
                self.placement.elsewhere.insert(item.name.clone());
            }
            Some(s) if item.global && item.kind == Kind::Func => bail!(
                "function `{}` has {} bytes, and in the module {}",
                item.name,
                item.size,
                s.size
            ),
            _ if item.kind == Kind::Func && item.size > 0 => {
                bail!(
                    "the module has no function `{}` of {} bytes",
                    item.name,
                    item.size
                )
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a section can be there at all.
    fn fits(&self, sec: SecId, (to, base): Base) -> bool {
        let (section, target) = (&self.obj.secs[sec], &self.module.sections[to]);
        let kinds = u64::from(elf::SHF_ALLOC | elf::SHF_EXECINSTR | elf::SHF_WRITE);
        section.flags & kinds == target.flags & kinds
            && base % section.align == 0
            && base + section.size <= target.size
    }

    fn set(&mut self, sec: SecId, base: Base) {
        self.open.remove(&sec);
        self.bases.insert(sec, base);
        self.queue.push(sec);
    }

    /// Decides an open section: one that has one place left, or whose contents are at one place only.
    fn try_open(&mut self) -> Result<bool> {
        for (&sec, possible) in &self.open {
            let one = match possible.len() {
                1 => possible.first().copied(),
                _ if self.obj.secs[sec].exec() => {
                    let mut equal = possible.iter().filter(|&&base| self.equal(sec, base));
                    equal.next().copied().filter(|_| equal.next().is_none())
                }
                _ => None,
            };
            if let Some(base) = one {
                self.set(sec, base);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a section's bytes that no relocation fills are at a place.
    fn equal(&self, sec: SecId, (to, base): Base) -> bool {
        let section = &self.obj.secs[sec];
        let start = base as usize;
        let Some(shipped) = self.module.sections[to]
            .data
            .get(start..start + section.data.len())
        else {
            return false;
        };
        self.obj.items_of(sec).iter().all(|&id| {
            let item = &self.obj.items[id];
            let range = item.start as usize..item.end() as usize;
            let (mut a, mut b) = (
                section.data[range.clone()].to_vec(),
                shipped[range].to_vec(),
            );
            for rel in self.obj.rels(id) {
                let at = (rel.off - item.start) as usize;
                let field = at..at + field_size(rel.ty).unwrap_or(0);
                if let (Some(a), Some(b)) = (a.get_mut(field.clone()), b.get_mut(field)) {
                    a.fill(0);
                    b.fill(0);
                }
            }
            a == b
        })
    }

    /// Compares the items of a placed section.
    fn section(&mut self, sec: SecId) -> Result<()> {
        let section = &self.obj.secs[sec];
        if !section.exec() && filled_later(&section.name) {
            return Ok(());
        }
        for &id in self.obj.items_of(sec) {
            let item = &self.obj.items[id];
            self.item(id)
                .with_context(|| format!("`{}` differs", item.name))?;
            if item.kind == Kind::Func {
                self.placement.functions += 1;
            }
        }
        Ok(())
    }

    fn item(&mut self, id: ItemId) -> Result<()> {
        let item = &self.obj.items[id];
        let (to, base) = self.bases[&item.sec];
        let start = base + item.start;
        let rebuilt = self.obj.bytes(id);
        let mut rebuilt = match rebuilt.len() as u64 == item.size {
            true => rebuilt.to_vec(),
            false => vec![0; item.size as usize],
        };
        let mut shipped = self.module.read_addr(address(to, start), item.size)?;
        let wanted: Vec<&Rel> = self.obj.rels(id).iter().filter(|r| !r.resolved).collect();
        let found = self.module.rels(to, start, start + item.size);
        for (index, rel) in wanted.iter().enumerate() {
            let at = rel.off - item.start;
            let other = found
                .get(index)
                .filter(|r| r.off - start == at && r.ty == rel.ty)
                .with_context(|| format!("no such reference at byte {at:#x} in the module"))?;
            let size = field_size(rel.ty)
                .with_context(|| format!("relocation of the unknown type {}", rel.ty))?;
            let field = at as usize..at as usize + size;
            rebuilt
                .get_mut(field.clone())
                .context("short item")?
                .fill(0);
            shipped[field].fill(0);
            if rel.ty != elf::R_X86_64_NONE {
                let value = other.value.clone();
                self.reference(rel, &value)
                    .with_context(|| format!("at byte {at:#x}"))?;
                self.placement.references += 1;
            }
        }
        ensure!(
            found.len() == wanted.len(),
            "{} references, and in the module {}",
            wanted.len(),
            found.len()
        );
        if let Some(at) = (0..rebuilt.len()).find(|&i| rebuilt[i] != shipped[i]) {
            let (is, was) = (rebuilt[at], shipped[at]);
            bail!("byte {at:#x} is {is:#04x}, and in the module {was:#04x}");
        }
        Ok(())
    }

    /// Checks that a reference goes to the same thing; it may tell where a section is.
    fn reference(&mut self, rel: &Rel, shipped: &Value) -> Result<()> {
        let good = match (rel.target, shipped) {
            (Target::Undef(i), Value::Import(name, addend)) => {
                self.obj.undefs[i] == *name && rel.addend == *addend
            }
            // Another unit of the module defines it.
            (Target::Undef(i), &Value::Place(to, at)) => {
                let place = u64::try_from(at - rel.addend).map(|off| address(to, off));
                self.module
                    .named(&self.obj.undefs[i])
                    .any(|s| !s.local && Ok(s.addr) == place)
            }
            (Target::Abs, Value::Number(_)) => true,
            (Target::Item(id), &Value::Place(to, at)) => self.inner(rel, id, to, at),
            // A weak function that vmlinux or another module defines.
            (Target::Item(id), Value::Import(name, _)) => {
                self.obj.items[id].weak && self.obj.items[id].name == *name
            }
            _ => false,
        };
        ensure!(
            good,
            "the reference to `{}` goes to {} in the module",
            self.obj.target_name(rel.target),
            self.describe(shipped)
        );
        Ok(())
    }

    /// Whether a reference to something of the unit is the one to `at` of section `to`.
    fn inner(&mut self, rel: &Rel, id: ItemId, to: SecId, at: i64) -> bool {
        let item = &self.obj.items[id];
        if matches!(item.kind, Kind::Str | Kind::Const) {
            let bytes = self.obj.bytes(id);
            return u64::try_from(at + rel.bias - (rel.reach()))
                .ok()
                .and_then(|off| {
                    self.module
                        .read_addr(address(to, off), bytes.len() as u64)
                        .ok()
                })
                .is_some_and(|shipped| shipped == bytes);
        }
        if self.placement.overridden.contains(&item.name) {
            return true;
        }
        let Ok(base) = u64::try_from(at - rel.addend - item.start as i64) else {
            return false;
        };
        match self.bases.get(&item.sec) {
            Some(&known) => known == (to, base),
            None => {
                let allowed = self
                    .open
                    .get(&item.sec)
                    .is_none_or(|possible| possible.contains(&(to, base)));
                let good = allowed && self.fits(item.sec, (to, base));
                if good {
                    self.set(item.sec, (to, base));
                }
                good
            }
        }
    }

    fn describe(&self, value: &Value) -> String {
        match value {
            Value::Place(sec, at) => format!("{}{at:+#x}", self.module.sections[*sec].name),
            Value::Import(name, addend) => format!("`{name}`{addend:+#x}"),
            Value::Number(number) => format!("{number:#x}"),
        }
    }

    /// Collects where things with names are, if the module's own symbols say the same.
    fn collect(&mut self) {
        let obj = self.obj;
        let mut addr = HashMap::new();
        for item in obj.items.iter().filter(|i| i.named()) {
            let Some(&(to, base)) = self.bases.get(&item.sec) else {
                continue;
            };
            let place = address(to, base + item.start);
            for alias in item.names() {
                if self.module.named(&alias.name).any(|s| s.addr == place) {
                    addr.insert(alias.name, (place, item.size));
                } else if alias.weak {
                    self.placement.elsewhere.insert(alias.name);
                }
            }
        }
        self.placement.addr = addr;
    }
}

/// Sections that a step behind the linking fills: resolve_btfids.
fn filled_later(section: &str) -> bool {
    section == ".BTF_ids"
}
