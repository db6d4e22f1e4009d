// SPDX-License-Identifier: GPL-2.0

//! Which code of a payload something may call that no scan of stacks finds, because its address is taken.
//!
//! A timer, a work item, an RCU callback, a task's restart block or a table of operations may hold such an address after
//! the level has gone, and nothing tells. So each reference counts but those of which it is certain that they hand no
//! address out:
//!
//! * direct calls and jumps;
//! * those of the kernel's own tables ([`special_named`]), which it gives up together with the code;
//! * those into the middle of a function, or into its cold part, from its own code, or from data that its own code alone
//!   refers to: the table of a `switch`, a label.
//!
//! The address of a function that is replaced is that of the original, which stays ([`Selector::goal`]), so that it does
//! not come here. A thunk does come: it is the payload's code, whatever it leads to.
//!
//! [`Selector::goal`]: crate::select::Selector::goal

use std::collections::{BTreeMap, BTreeSet};

use kcare_payload::elf::SHF_EXECINSTR;
use kcare_payload::special::special_named;

use super::Emitter;
use crate::account::some;
use crate::image::{ImageId, VMLINUX};
use crate::obj::{ItemId, Kind, Rel};
use crate::select::Key;

/// Code whose address is taken, of the payload itself or of a module's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escape {
    /// The image that it is for.
    pub image: ImageId,
    /// The module's name, if it is one.
    pub module: Option<String>,
    /// What takes the address, by function.
    pub users: BTreeMap<String, BTreeSet<String>>,
}

impl Escape {
    /// ` for the module dummy`, or nothing.
    pub(super) fn for_module(&self) -> String {
        match &self.module {
            Some(name) => format!(" for the module {name}"),
            None => String::new(),
        }
    }

    /// Says whose address is taken by whom.
    pub(super) fn taken(&self) -> String {
        let each: Vec<String> = self
            .users
            .iter()
            .map(|(name, users)| {
                let users: Vec<String> = users.iter().map(|user| format!("`{user}`")).collect();
                let users: Vec<&str> = users.iter().map(String::as_str).collect();
                (name, some(&users))
            })
            .map(|(name, users)| match self.users.len() {
                1 => format!("the address of `{name}` is taken (by {users})"),
                _ => format!("`{name}` (by {users})"),
            })
            .collect();
        match each.as_slice() {
            [one] => one.clone(),
            _ => format!("the addresses of {} are taken", each.join(", ")),
        }
    }

    /// What is told about it.
    pub fn remark(&self, quiet: bool) -> String {
        let (taken, module) = (self.taken(), self.for_module());
        match quiet {
            false => format!("{taken}: the patch's code{module} stays in memory after an unload"),
            true => format!(
                "{taken}: --text-is-quiet says that the post_unpatch callback{module} sees to it that nothing calls the \
                 patch's code any more, which is freed then"
            ),
        }
    }
}

/// What holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Instructions.
    Code,
    /// A variable or constant.
    Data,
    /// One of the kernel's tables about code.
    Table,
}

/// What an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Something that the payload has of a unit.
    Item(Key),
    /// A thunk, by its symbol.
    Thunk(usize),
}

/// One reference to something of the payload that is neither a call nor a jump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    from: Key,
    holder: Holder,
    to: To,
    /// Distance from the start of what it is to.
    reach: i64,
}

impl Emitter<'_> {
    /// Notes what a reference in an output section is to.
    pub(super) fn note_taken(&mut self, from: Key, rel: &Rel, section: usize, to: Option<To>) {
        let section = &self.sections[section];
        let holder = match special_named(&section.name) {
            Some(_) => Holder::Table,
            None if section.flags & SHF_EXECINSTR != 0 => Holder::Code,
            None => Holder::Data,
        };
        if let Some(to) = to.filter(|_| !rel.branch) {
            let reach = rel.reach();
            self.taken.push(Taken {
                from,
                holder,
                to,
                reach,
            });
        }
    }

    /// The addresses of something that belongs to the payload's code for vmlinux, if this is a module's part.
    pub(super) fn outward(&self) -> Vec<Taken> {
        let outward = |taken: &&Taken| matches!(taken.to, To::Item((u, _)) if self.units[u].image != self.image);
        self.taken.iter().filter(outward).copied().collect()
    }

    /// The functions whose address is taken, if any is.
    pub(super) fn escape(&self) -> Option<Escape> {
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut add = |name: String, by: Key| {
            users.entry(name).or_default().insert(self.name_of(by));
        };
        for taken in &self.taken {
            match taken.to {
                To::Thunk(symbol) => add(self.symbols[symbol].name.clone(), taken.from),
                To::Item(key) if self.escapes(taken, key) => {
                    add(self.units[key.0].new.items[key.1].name.clone(), taken.from)
                }
                To::Item(_) => {}
            }
        }
        for &(u, id) in &self.selector.selection.code {
            if self.units[u].image == self.image && self.means_itself(u, id) {
                add(self.units[u].new.items[id].name.clone(), (u, id));
            }
        }
        (!users.is_empty()).then(|| Escape {
            image: self.image,
            module: (self.image != VMLINUX).then(|| self.images.get(self.image).name().to_owned()),
            users,
        })
    }

    /// Whether a reference hands out the address of code of this object.
    fn escapes(&self, taken: &Taken, key: Key) -> bool {
        let unit = &self.units[key.0];
        let item = &unit.new.items[key.1];
        if unit.image != self.image
            || !unit.new.secs[item.sec].exec()
            || taken.holder == Holder::Table
        {
            return false;
        }
        // Nobody can call what is no function's start.
        let inside = u64::try_from(taken.reach).is_ok_and(|reach| reach < item.size);
        let label =
            inside && item.kind == Kind::Func && (taken.reach != 0 || item.name.ends_with(".cold"));
        if !label {
            return true;
        }
        let own = |by: &Taken| by.holder == Holder::Code && self.same_function(by.from, key);
        if taken.holder == Holder::Code {
            return !own(taken);
        }
        let mut holders = self.taken.iter().filter(|t| t.to == To::Item(taken.from));
        holders.clone().next().is_none() || !holders.all(own)
    }

    /// Whether two items are parts of one function.
    fn same_function(&self, a: Key, b: Key) -> bool {
        let whole = |(u, id): Key| {
            let name = &self.units[u].new.items[id].name;
            (u, name.strip_suffix(".cold").unwrap_or(name))
        };
        whole(a) == whole(b)
    }

    /// Whether a function takes its own address in a way that the assembler needs no relocation for: `lea f(%rip)`.
    fn means_itself(&self, u: usize, id: ItemId) -> bool {
        let obj = &self.units[u].new;
        let item = &obj.items[id];
        let insns = obj.insns.get(&id).map_or(&[][..], Vec::as_slice);
        insns.iter().any(|insn| {
            insn.relative.is_some_and(|(field, place)| {
                place == item.start && obj.secs[item.sec].rels_in(field, field + 1).is_empty()
            })
        })
    }

    /// The name of an item, with its module's in front where that is another object's.
    fn name_of(&self, (u, id): Key) -> String {
        let unit = &self.units[u];
        let name = &unit.new.items[id].name;
        match unit.image == self.image {
            true => name.clone(),
            false => format!("{}:{name}", self.images.get(unit.image).name()),
        }
    }
}
