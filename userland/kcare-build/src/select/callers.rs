// SPDX-License-Identifier: GPL-2.0

//! Functions that are redirected, and those that cannot be and are replaced through their callers.

use std::collections::BTreeSet;

use anyhow::{ensure, Result};

use super::{base_part, Redirect, Selector};
use crate::insn::{Flow, ENDBR64};
use crate::layout;
use crate::obj::{ItemId, Kind, Target};
use crate::special::{self, is_discarded};

/// Who calls a function that cannot be redirected.
struct Callers {
    items: BTreeSet<ItemId>,
    /// Some code that runs jumps to it, and leaves no frame of its own.
    jump: bool,
}

impl Selector<'_> {
    /// Takes in the callers of selected functions that cannot be redirected themselves.
    ///
    /// Returns whether there were any that were not selected yet.
    pub(super) fn include_callers(&mut self) -> Result<bool> {
        let before = self.selection.code.len();
        for (u, id) in self.selection.code.clone() {
            if !self.redirectable(u, id) || self.fentry(u, id)?.is_some() {
                continue;
            }
            if self.direct.contains_key(&(u, id)) {
                continue;
            }
            self.direct.insert((u, id), BTreeSet::new());
            let name = self.units[u].new.items[id].name.clone();
            self.at = u;
            match self.callers(u, id) {
                Ok(Callers { items, jump }) => {
                    if jump {
                        self.frameless.insert((u, id));
                    }
                    for &caller in &items {
                        self.include((u, caller), format!("calls `{name}`, which has no fentry"));
                    }
                    self.direct.insert((u, id), items);
                }
                Err(why) => self.refuse(&name, why),
            }
        }
        Ok(self.selection.code.len() > before)
    }

    /// Whether a selected item is a function of the running kernel.
    fn redirectable(&self, u: usize, id: ItemId) -> bool {
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        item.kind == Kind::Func
            && !item.name.ends_with(".cold")
            && unit.diff.pairs.old(id).is_some()
    }

    /// Place of the original of a function in its image: name, address and size.
    pub(super) fn placed(&self, u: usize, id: ItemId) -> Option<(&str, u64, u64)> {
        let unit = &self.units[u];
        let name = unit.shipped.get(&unit.diff.pairs.old(id)?)?;
        let &(addr, size) = unit.placement.addr.get(name)?;
        Some((name, addr, size))
    }

    /// Offset of the fentry site of the original of a function.
    pub(super) fn fentry(&self, u: usize, id: ItemId) -> Result<Option<u64>> {
        let Some((_, addr, size)) = self.placed(u, id) else {
            return Ok(None);
        };
        let image = self.images.get(self.units[u].image);
        let code = image.read_addr(addr, size)?;
        let offset = if code.starts_with(&ENDBR64) { 4 } else { 0 };
        let sites = &image.sites().fentry;
        let there = sites.binary_search(&(addr + offset)).is_ok() && size >= offset + 5;
        Ok(there.then_some(offset))
    }

    /// The functions that call one without fentry, if these calls are all that leads to it.
    fn callers(&self, u: usize, id: ItemId) -> Result<Callers, String> {
        let unit = &self.units[u];
        let Some((name, addr, _)) = self.placed(u, id) else {
            return Err(
                "changed, but what was shipped has no such function of this unit".to_owned(),
            );
        };
        let section = self
            .images
            .get(unit.image)
            .section_name(addr)
            .unwrap_or_default();
        let fault = |why: &str| format!("has no fentry and cannot be redirected ({why})");
        if section.starts_with(".init") {
            return Err(fault("it is init code"));
        }
        if section.starts_with(".exit") {
            return Err(fault("it is exit code"));
        }
        let old = unit.diff.pairs.old(id);
        if old.is_some_and(|old| unit.old.items[old].global) {
            return Err(fault("it is notrace"));
        }
        // Every reference to it, in the shipped code and in the new one, must be a call.
        let mut names = BTreeSet::new();
        let mut jump = false;
        let forms = [
            (&unit.exact, unit.exact.by_name(name)),
            (&unit.old, old),
            (&unit.new, Some(id)),
        ];
        for (obj, target) in forms {
            let Some(target) = target else { continue };
            for (sec_id, sec) in obj.secs.iter().enumerate().filter(|(_, s)| s.alloc()) {
                if special::is_table(&sec.name) || is_discarded(&sec.name) {
                    continue;
                }
                for rel in sec.rels.iter().filter(|r| r.target == Target::Item(target)) {
                    let Some(by) = obj.item_at(sec_id, rel.off).filter(|_| sec.exec()) else {
                        return Err(fault("it is notrace, and data points to it"));
                    };
                    let by = &obj.items[by];
                    if base_part(&by.name) == base_part(name) {
                        continue;
                    }
                    // A jump to its start is the call of a caller that has nothing left to do.
                    let flow = obj.insn_at(sec_id, rel.off).map(|insn| insn.flow);
                    let tail = flow == Some(Flow::Jump) && rel.reach() == 0;
                    jump |= tail && std::ptr::eq(obj, &unit.exact);
                    if !tail && flow != Some(Flow::Call) {
                        return Err(fault(&format!(
                            "it is notrace, and `{}` does more than call it",
                            by.name
                        )));
                    }
                    names.insert(base_part(&by.name).to_owned());
                }
            }
        }
        let mut items = BTreeSet::new();
        for caller in names {
            match unit.new.by_name(&caller) {
                Some(id) => {
                    let section = &unit.new.secs[unit.new.items[id].sec].name;
                    // Init code has run, and nothing calls it any more.
                    if !section.starts_with(".init") {
                        items.insert(id);
                    }
                }
                None => {
                    return Err(fault(&format!(
                        "it is notrace, and its caller `{caller}` is gone"
                    )));
                }
            }
        }
        Ok(Callers { items, jump })
    }

    /// Finds the originals of the selected functions and checks that they can be redirected.
    pub(super) fn find_redirects(&mut self) -> Result<()> {
        let mut redirects = Vec::new();
        for (u, id) in self.selection.code.clone() {
            if !self.redirectable(u, id) || self.direct.contains_key(&(u, id)) {
                continue;
            }
            let unit = &self.units[u];
            let (Some((name, addr, size)), Some(fentry)) =
                (self.placed(u, id), self.fentry(u, id)?)
            else {
                continue;
            };
            let name = name.to_owned();
            self.at = u;
            let Ok(cold) = self.cold_part(u, &name) else {
                continue;
            };
            let spot = self.images.get(unit.image).spot(addr);
            if spot.is_none_or(|spot| spot.region != layout::TEXT) {
                self.refuse(&name, "is not in code that stays");
                continue;
            }
            redirects.push(Redirect {
                key: (u, id),
                name,
                addr,
                size,
                fentry,
                cold,
            });
        }
        let image = |r: &Redirect| self.units[r.key.0].image;
        redirects.sort_by_key(|r| (image(r), r.addr));
        for pair in redirects.windows(2) {
            ensure!(
                image(&pair[0]) != image(&pair[1]) || pair[0].addr + pair[0].size <= pair[1].addr,
                "`{}` and `{}` overlap",
                pair[0].name,
                pair[1].name
            );
        }
        self.selection.redirects = redirects;
        self.cover_frameless();
        Ok(())
    }

    /// Address and size of the cold part of a shipped function, if it has one; refuses one that cannot be found.
    fn cold_part(&mut self, u: usize, function: &str) -> Result<Option<(u64, u64)>, ()> {
        let unit = &self.units[u];
        let name = format!("{function}.cold");
        let cold = unit.placement.addr.get(&name).copied();
        if cold.is_none() && unit.exact.by_name(&name).is_some() {
            self.refuse(&name, "cannot be found in what was shipped");
            return Err(());
        }
        Ok(cold)
    }

    /// Has the switch wait for tasks in originals that leave no frame of a redirected function below them: those
    /// that a caller jumps to. Each of their parts is covered by a redirected caller that has no cold part itself.
    fn cover_frameless(&mut self) {
        for (u, id) in self.frameless.clone() {
            let Some((name, addr, size)) = self.placed(u, id) else {
                continue;
            };
            let name = name.to_owned();
            self.at = u;
            let Ok(cold) = self.cold_part(u, &name) else {
                continue;
            };
            let parts: Vec<(u64, u64)> = [(addr, size)].into_iter().chain(cold).collect();
            let callers = self.redirected_callers(u, id);
            let mut free: Vec<&mut Redirect> = self
                .selection
                .redirects
                .iter_mut()
                .filter(|r| r.cold.is_none() && r.key.0 == u && callers.contains(&r.key.1))
                .collect();
            if free.len() < parts.len() {
                self.refuse(
                    &name,
                    "has no fentry and cannot be redirected (its callers jump to it, and a task inside would not be seen)",
                );
                continue;
            }
            for (redirect, part) in free.iter_mut().zip(parts) {
                redirect.cold = Some(part);
            }
        }
    }

    /// Through which callers, and callers of callers, a direct function is replaced.
    fn redirected_callers(&self, u: usize, id: ItemId) -> BTreeSet<ItemId> {
        let mut found = BTreeSet::new();
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let callers = self.direct.get(&(u, id)).into_iter().flatten();
            todo.extend(callers.filter(|caller| found.insert(**caller)));
        }
        found
    }
}
