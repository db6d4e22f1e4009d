// SPDX-License-Identifier: GPL-2.0

//! What is gone and what is new by its name: whether the running kernel has the same thing under another name, in
//! another file, or in objects that live on.

use std::collections::BTreeSet;

use super::{Goal, Key, Selector};
use crate::compare::Verdict;
use crate::correlate::{base_name, keeps_state, lock_class};
use crate::image::{ImageId, VMLINUX};
use crate::obj::{ItemId, Kind, Life, Obj, Target};
use crate::refuse::Refusal;
use crate::special::{is_discarded, is_table};
use crate::unit::UnitState;

impl Selector<'_> {
    /// Refuses new global things whose names the running kernel has: it would go on with its own.
    pub(super) fn check_new_names(&mut self, u: usize) {
        self.at = u;
        let unit = &self.units[u];
        let image = self.images.get(unit.image);
        for (&id, verdict) in &unit.diff.verdicts {
            let item = &unit.new.items[id];
            let life = unit.new.secs[item.sec].life();
            let gone_at_once = life == Life::Init || (life == Life::Exit && !image.keeps_exit());
            if *verdict != Verdict::New || gone_at_once {
                continue;
            }
            for alias in item.names().filter(|alias| alias.global) {
                let name = &alias.name;
                let running = image.global_addr(name);
                if running.is_some_and(|addr| !image.freed(addr)) {
                    if self.running_variable((u, id)).is_some() {
                        continue;
                    }
                    let what = match item.kind {
                        Kind::Func => "function",
                        _ => "variable",
                    };
                    self.refuse(
                        name,
                        format!(
                            "is a {what} that {} has already, from another file or under another condition, and goes on using",
                            image.name()
                        ),
                    );
                    continue;
                }
                let elsewhere = self.units.iter().enumerate().any(|(other, state)| {
                    let known = state.new.by_name(name);
                    other != u
                        && state.image == unit.image
                        && known.is_some_and(|id| state.new.items[id].global)
                });
                if alias.weak && elsewhere {
                    self.refuse(name, "is a new weak function beside a new one of its name");
                }
            }
        }
    }

    /// Refuses variables that a file took elsewhere under the same name, unless they are the running kernel's still.
    pub(super) fn check_moved(&mut self, u: usize) {
        self.at = u;
        let unit = &self.units[u];
        for &id in &unit.diff.moved {
            let name = &unit.old.items[id].name;
            let name = &self.renames.new_name(name).unwrap_or_else(|| name.clone());
            let key = self.globals.get(&(unit.image, name.clone())).copied();
            let running = key.and_then(|key| self.running_variable(key));
            let own = unit
                .shipped
                .get(&id)
                .and_then(|name| unit.placement.addr.get(name));
            let same = matches!((running, own), (Some(Goal::Outside(_, image, at)), Some(&(own, _))) if image == unit.image && at == own);
            if !same {
                self.refuse(
                    name,
                    format!(
                        "is gone from {}, which uses one of this name from elsewhere; nothing shows that it is the same variable",
                        unit.source
                    ),
                );
            }
        }
    }

    /// Refuses variables of the running kernel that are to be aligned better than they are: the compiler relies on it.
    pub(super) fn check_alignments(&mut self, u: usize) {
        self.at = u;
        let unit = &self.units[u];
        for (&id, verdict) in &unit.diff.verdicts {
            let item = &unit.new.items[id];
            let sec = &unit.new.secs[item.sec];
            let old = unit.diff.pairs.old(id);
            let Some(old) = old.filter(|_| *verdict == Verdict::Same && item.kind == Kind::Data)
            else {
                continue;
            };
            let was = &unit.old.items[old];
            let before = unit.old.secs[was.sec].align;
            // Sections of one variable each; boot's are gone.
            if sec.align <= before || sec.life() != Life::Kept || item.start != 0 || was.start != 0
            {
                continue;
            }
            let own = unit.shipped.get(&old);
            let own = own.and_then(|name| unit.placement.addr.get(name));
            let own = own.map(|&(addr, _)| addr);
            let addr = own.or_else(|| self.images.get(unit.image).global_addr(&was.name));
            // Where a module's section will be, nobody knows.
            let addr = addr.filter(|_| unit.image == VMLINUX);
            if addr.is_some_and(|addr| addr % sec.align == 0) {
                continue;
            }
            let text = format!(
                "is to be aligned to {} bytes, and the running kernel's is not known to be",
                sec.align
            );
            self.refuse(&item.name, text);
        }
    }

    /// The running kernel's variable that a new one is, moved from another file of the image with its initial value.
    ///
    /// It may have been static there, if no other one of this name is gone.
    pub(super) fn running_variable(&self, (u, id): Key) -> Option<Goal> {
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let sec = &unit.new.secs[item.sec];
        if item.kind != Kind::Data || !item.exported || item.weak {
            return None;
        }
        let known = self.units.iter().filter(|state| state.image == unit.image);
        let gone = known.flat_map(|state| state.diff.gone.iter().map(move |&id| (state, id)));
        let new_name = |old: &String| self.renames.new_name(old);
        let mut named = gone.filter(|(state, o)| {
            let old = &state.old.items[*o].name;
            new_name(old).as_ref().unwrap_or(old) == &item.name
        });
        let ((state, o), None) = (named.next()?, named.next()) else {
            return None;
        };
        let same = |(old, o): (&Obj, ItemId)| {
            let (was, was_sec) = (&old.items[o], &old.secs[old.items[o].sec]);
            let zeros = |obj: &Obj, id: ItemId| obj.bytes(id).iter().all(|&b| b == 0);
            was.kind == Kind::Data
                && was.size == item.size
                && was_sec.life() == sec.life()
                && was_sec.writable() == sec.writable()
                && was_sec.sealed() == sec.sealed()
                && same_type(old, o, &unit.new, id)
                && old.rels(o).is_empty()
                && unit.new.rels(id).is_empty()
                && (old.bytes(o) == unit.new.bytes(id) || (zeros(old, o) && zeros(&unit.new, id)))
        };
        if !same((&state.old, o)) {
            return None;
        }
        let was = &state.old.items[o];
        self.renames.paired(&was.name);
        if was.exported {
            return self.outside(unit.image, &was.name).ok();
        }
        let name = state.shipped.get(&o)?;
        let &(addr, _) = state.placement.addr.get(name)?;
        self.kept(name, unit.image, addr).ok()
    }

    /// Refuses functions that are gone although objects of the running kernel may call them.
    pub(super) fn check_gone_functions(&mut self, u: usize) {
        self.at = u;
        let unit = &self.units[u];
        for &id in &unit.diff.gone {
            let item = &unit.old.items[id];
            let life = unit.old.secs[item.sec].life();
            if item.kind != Kind::Func || life != Life::Kept || item.name.ends_with(".cold") {
                continue;
            }
            let Some(taker) = self.taker(u, id) else {
                continue;
            };
            if self.renames.is_gone(&item.name) {
                continue;
            }
            let new_name = self.renames.new_name(&item.name);
            if let Some((file, name)) = new_name.and_then(|new| self.new_function(unit.image, new))
            {
                self.renames.paired(&item.name);
                self.refuse(
                    &item.name,
                    format!(
                        "is to be `{name}` of {file} now, and objects of the running kernel call it here: only a function that \
                         stays in its file can be redirected"
                    ),
                );
                continue;
            }
            self.refuse(
                &item.name,
                format!(
                    "is gone, and `{taker}` gives its address away: objects of the running kernel may call it, and it would stay as it was"
                ),
            );
        }
    }

    /// Where an image gets a new function of a name from.
    fn new_function(&self, image: ImageId, name: String) -> Option<(String, String)> {
        let mut units = self.units.iter().filter(|state| state.image == image);
        let new = |state: &&UnitState| {
            let id = state.new.by_name(&name)?;
            let new = state.diff.verdicts.get(&id) == Some(&Verdict::New);
            (new && state.new.items[id].kind == Kind::Func).then_some(())
        };
        let found = units.find(|state| new(state).is_some())?;
        Some((found.source.clone(), name))
    }

    /// What takes the address of a function of an original object, in whatever unit.
    fn taker(&self, u: usize, id: ItemId) -> Option<String> {
        let names: BTreeSet<String> = self.units[u].old.items[id]
            .names()
            .map(|alias| alias.name)
            .collect();
        for (other, state) in self.units.iter().enumerate() {
            let obj = &state.old;
            for (sec_id, sec) in obj.secs.iter().enumerate() {
                if !sec.alloc() || is_table(&sec.name) || is_discarded(&sec.name) {
                    continue;
                }
                for rel in sec.rels.iter().filter(|r| !r.branch && r.reach() == 0) {
                    let meant = match rel.target {
                        Target::Item(target) => other == u && target == id,
                        Target::Undef(i) => {
                            state.image == self.units[u].image && names.contains(&obj.undefs[i])
                        }
                        Target::Abs => false,
                    };
                    let by = obj.item_at(sec_id, rel.off);
                    if meant && !(other == u && by == Some(id)) {
                        return Some(match by {
                            Some(by) => obj.items[by].name.clone(),
                            None => sec.name.clone(),
                        });
                    }
                }
            }
        }
        None
    }

    /// Tells of a new variable of a function beside the running kernel's of the same name, which stays with another one:
    /// code that moved may have taken its state along.
    fn tell_namesake(&mut self, (u, id): Key) {
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let name = base_name(&item.name);
        let Some(function) = unit.new.local_to(id).filter(|_| keeps_state(&unit.new, id)) else {
            return;
        };
        let stays = unit.diff.pairs.all().into_iter().find_map(|(o, n)| {
            let was = &unit.old.items[o];
            let alike = was.kind == Kind::Data
                && base_name(&was.name) == name
                && keeps_state(&unit.old, o)
                && same_type(&unit.old, o, &unit.new, id);
            let of = unit.new.local_to(n)?;
            (alike && of != function).then_some(of)
        });
        if let Some(other) = stays.filter(|_| !self.renames.is_fresh(name)) {
            self.selection.notes.push(format!(
                "variable `{name}` of `{function}` is new and begins with its initial value; the running kernel's stays with \
                 `{other}`"
            ));
        }
    }

    /// Refuses new variables that may be the running kernel's under another name or in another file.
    ///
    /// As long as that is open only they are refused: what refers to them differs only if they are not the same.
    pub(super) fn check_gone_variables(&mut self) {
        let others = std::mem::take(&mut self.selection.refusals);
        let mut lost: Vec<Key> = Vec::new();
        for (u, unit) in self.units.iter().enumerate() {
            let kept = unit.diff.gone.iter().filter(|&&id| {
                let item = &unit.old.items[id];
                let life = unit.old.secs[item.sec].life();
                item.size > 0 && life == Life::Kept && matters(&unit.old, id)
            });
            lost.extend(kept.map(|&id| (u, id)));
        }
        let fresh: Vec<Key> = self
            .selection
            .data
            .iter()
            .copied()
            .filter(|&(u, id)| {
                let unit = &self.units[u];
                unit.diff.verdicts.get(&id) == Some(&Verdict::New)
                    && !unit.diff.pairs.ambiguous.contains(&id)
                    && matters(&unit.new, id)
            })
            .collect();
        for &key in &fresh {
            self.tell_namesake(key);
        }
        for &(from, o) in &lost {
            let old = &self.units[from].old;
            let name = base_name(&old.items[o].name).to_owned();
            let mut remark = keeps_state(old, o);
            for &(u, n) in &fresh {
                let new = &self.units[u].new;
                let (was, is) = (&old.items[o], &new.items[n]);
                let alike = keeps_state(old, o) == keeps_state(new, n)
                    && was.size == is.size
                    && same_type(old, o, new, n);
                let one_name = base_name(&was.name) == base_name(&is.name);
                if !(alike || one_name)
                    || self.renames.is_gone(base_name(&was.name))
                    || self.renames.is_fresh(base_name(&is.name))
                {
                    continue;
                }
                remark = false;
                let fresh = base_name(&is.name).to_owned();
                self.at = u;
                self.refuse(
                    &fresh,
                    format!(
                        "is new, and `{name}` of {} is gone: if they are one thing, what the running kernel holds in it would be lost",
                        self.units[from].source
                    ),
                );
            }
            if remark && !self.renames.is_gone(&name) && !fresh.is_empty() {
                self.selection.notes.push(format!(
                    "variable `{name}` of {} is gone: nothing takes over what the running kernel holds in it",
                    self.units[from].source
                ));
            }
        }
        let open: BTreeSet<String> = (self.selection.refusals.iter())
            .map(|refusal| refusal.name.clone())
            .collect();
        let about = |refusal: &Refusal| open.is_empty() || open.contains(&refusal.name);
        self.selection
            .refusals
            .extend(others.into_iter().filter(about));
    }
}

/// Whether it matters that something is the running kernel's own: it has state, or objects may point to it because it is
/// a table of functions.
fn matters(obj: &Obj, id: ItemId) -> bool {
    let item = &obj.items[id];
    if item.kind != Kind::Data || lock_class(item) {
        return false;
    }
    let functions = obj.rels(id).iter().any(|rel| match rel.target {
        Target::Item(target) => obj.items[target].kind == Kind::Func,
        Target::Undef(_) | Target::Abs => false,
    });
    keeps_state(obj, id) || functions
}

/// Whether two variables have one type, as far as debug information tells.
fn same_type(old: &Obj, o: ItemId, new: &Obj, n: ItemId) -> bool {
    match (old.variable(o), new.variable(n)) {
        (Some(old), Some(new)) => old.ty == new.ty,
        _ => true,
    }
}
