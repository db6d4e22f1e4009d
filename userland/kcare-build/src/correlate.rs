// SPDX-License-Identifier: GPL-2.0

//! Pairs the functions and variables of the patched object with those of the original one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::obj::{Item, ItemId, Kind, Obj};
use crate::renames::Renames;

/// Which item of the patched object is which item of the original one.
#[derive(Debug, Default)]
pub struct Pairs {
    to_old: HashMap<ItemId, ItemId>,
    to_new: HashMap<ItemId, ItemId>,
    /// Variables of the patched object that could be one of several, or none, of the original.
    pub ambiguous: HashSet<ItemId>,
}

impl Pairs {
    /// The original of an item of the patched object.
    pub fn old(&self, new: ItemId) -> Option<ItemId> {
        self.to_old.get(&new).copied()
    }

    /// The patched form of an item of the original object.
    pub fn new_of(&self, old: ItemId) -> Option<ItemId> {
        self.to_new.get(&old).copied()
    }

    /// All pairs, original first, ascending by the patched item.
    pub fn all(&self) -> Vec<(ItemId, ItemId)> {
        let mut all: Vec<_> = self.to_old.iter().map(|(&new, &old)| (old, new)).collect();
        all.sort_by_key(|&(_, new)| new);
        all
    }

    /// Pairs two items, unless one of them is paired with another.
    pub fn add(&mut self, old: ItemId, new: ItemId) -> bool {
        match (self.to_new.get(&old), self.to_old.get(&new)) {
            (None, None) => {
                self.to_new.insert(old, new);
                self.to_old.insert(new, old);
                true
            }
            (Some(&n), Some(&o)) => n == new && o == old,
            _ => false,
        }
    }
}

/// A name without the numbers that the compiler appends (`count.5`, `foo.isra.0`, `__UNIQUE_ID_x12`).
pub fn base_name(name: &str) -> &str {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let mut base = name;
    if let Some((head, tail)) = base.rsplit_once('.') {
        if digits(tail) {
            base = head;
        }
    }
    if base.starts_with("__UNIQUE_ID_") || base.starts_with("__BTF_ID__") {
        base = base
            .trim_end_matches(|c: char| c.is_ascii_digit())
            .trim_end_matches('_');
    }
    base
}

/// Whether the compiler numbered the name, so that it may have another number in another compilation.
pub fn numbered(name: &str) -> bool {
    base_name(name) != name
}

/// Whether it is a variable with a compiler's number: local to a function, or without a name in C.
pub fn numbered_data(item: &Item) -> bool {
    item.kind == Kind::Data && !item.global && numbered(&item.name)
}

/// Whether an entry of a table only has another number in its name: as many of its kind are in the section as before.
pub fn renumbered(item: &Item, section: &str, old: &Obj, new: &Obj) -> bool {
    let count = |obj: &Obj| {
        let alike = |other: &&Item| {
            obj.secs[other.sec].name == section && base_name(&other.name) == base_name(&item.name)
        };
        obj.items.iter().filter(alike).count()
    };
    numbered_data(item) && count(old) == count(new)
}

/// Items that have something in common: original ones, patched ones.
type Group = (Vec<ItemId>, Vec<ItemId>);

/// Groups items of both objects by what `key` says of them.
fn groups<'a, K: Ord>(
    (old, olds): (&'a Obj, impl IntoIterator<Item = ItemId>),
    (new, news): (&'a Obj, impl IntoIterator<Item = ItemId>),
    key: impl Fn(&'a Obj, ItemId) -> K,
) -> impl Iterator<Item = Group> {
    let mut groups: BTreeMap<K, Group> = BTreeMap::new();
    for id in olds {
        groups.entry(key(old, id)).or_default().0.push(id);
    }
    for id in news {
        groups.entry(key(new, id)).or_default().1.push(id);
    }
    groups.into_values()
}

/// The items of an object of which something is true.
fn items(obj: &Obj, test: impl Fn(ItemId, &Item) -> bool) -> Vec<ItemId> {
    let all = obj.items.iter().enumerate();
    all.filter(|(id, item)| test(*id, item))
        .map(|(id, _)| id)
        .collect()
}

/// The name that an item of the original has in the patched source, without the compiler's numbers.
fn renamed(renames: &Renames, name: &str) -> String {
    renames.new_name(name).unwrap_or_else(|| name.to_owned())
}

/// Whether two items of one name can be the same thing in the running kernel.
fn fits(old: &Obj, o: ItemId, new: &Obj, n: ItemId) -> bool {
    let (old_sec, new_sec) = (&old.secs[old.items[o].sec], &new.secs[new.items[n].sec]);
    // What was freed after boot is not there any more, and a constant cannot become what the patched code writes.
    old_sec.life() == new_sec.life()
        && !(old.items[o].kind == Kind::Data && !old_sec.writable() && new_sec.writable())
}

/// Pairs what names alone decide.
///
/// Functions of one base name and several clones are paired by their whole name: whatever the pairing,
/// a caller whose callee differs differs itself. Numbered variables stay open for [`pair_by_scope`] and
/// [`pair_by_use`].
pub fn pair_by_name(old: &Obj, new: &Obj, renames: &Renames) -> Pairs {
    let fixed = |obj| items(obj, |_, item| item.named() && !numbered_data(item));
    let key = |obj: &Obj, id: ItemId| -> (bool, String) {
        let item = &obj.items[id];
        // Numbers count in the names of global things.
        let name = match item.exported {
            true => &item.name,
            false => base_name(&item.name),
        };
        let name = match std::ptr::eq(obj, old) {
            true => renamed(renames, name),
            false => name.to_owned(),
        };
        (item.kind == Kind::Func, name)
    };
    let mut pairs = Pairs::default();
    for (olds, news) in groups((old, fixed(old)), (new, fixed(new)), key) {
        if let ([o], [n]) = (olds.as_slice(), news.as_slice()) {
            if fits(old, *o, new, *n) && pairs.add(*o, *n) {
                renames.paired(&old.items[*o].name);
            }
            continue;
        }
        for &n in &news {
            let name = |o: ItemId| renamed(renames, &old.items[o].name);
            if let Some(&o) = olds
                .iter()
                .find(|&&o| name(o) == new.items[n].name && fits(old, o, new, n))
            {
                pairs.add(o, n);
            }
        }
    }
    pair_by_alias(old, new, &mut pairs);
    pairs
}

/// Pairs what has another first name, but one name in common: names of one body come and go.
fn pair_by_alias(old: &Obj, new: &Obj, pairs: &mut Pairs) {
    for n in items(new, |_, item| item.named() && !item.aliases.is_empty()) {
        if pairs.old(n).is_some() {
            continue;
        }
        let names = new.items[n].names();
        let found: BTreeSet<ItemId> = names.filter_map(|alias| old.by_name(&alias.name)).collect();
        if let Some(&o) = found.first().filter(|_| found.len() == 1) {
            if old.items[o].kind == new.items[n].kind && fits(old, o, new, n) {
                pairs.add(o, n);
            }
        }
    }
    for o in items(old, |_, item| item.named() && !item.aliases.is_empty()) {
        if pairs.new_of(o).is_some() {
            continue;
        }
        let names = old.items[o].names();
        let found: BTreeSet<ItemId> = names.filter_map(|alias| new.by_name(&alias.name)).collect();
        if let Some(&n) = found.first().filter(|_| found.len() == 1) {
            if old.items[o].kind == new.items[n].kind && fits(old, o, new, n) {
                pairs.add(o, n);
            }
        }
    }
}

/// Pairs the variables that keep state and are the only ones of their name in a function, as the source has it; then
/// those of several of one name that stand where they stood.
pub fn pair_by_scope(old: &Obj, new: &Obj, pairs: &mut Pairs, renames: &Renames) {
    let local = |obj| {
        items(obj, |id, item| {
            numbered_data(item) && scope(obj, id).is_some()
        })
    };
    let key = |obj: &Obj, id: ItemId| -> (String, Option<String>) {
        let (name, function) = (base_name(&obj.items[id].name), scope(obj, id));
        match std::ptr::eq(obj, old) {
            true => (
                renamed(renames, name),
                function.map(|f| renamed(renames, f)),
            ),
            false => (name.to_owned(), function.map(str::to_owned)),
        }
    };
    for group in groups((old, local(old)), (new, local(new)), key) {
        if pair_only(old, new, pairs, &group) {
            renames.paired(base_name(&old.items[group.0[0]].name));
        } else {
            pair_by_line(old, new, pairs, &group);
        }
    }
}

/// Pairs variables of one name and function if none was added or taken away and each is declared on a line that is
/// there before and after: lines that stay keep their numbers ([`crate::patch`]).
fn pair_by_line(old: &Obj, new: &Obj, pairs: &mut Pairs, (olds, news): &Group) {
    if olds.len() != news.len() {
        return;
    }
    fn line(obj: &Obj, id: ItemId) -> u64 {
        obj.variable(id).map_or(0, |variable| variable.line)
    }
    let on_lines: Vec<Group> = groups(
        (old, olds.iter().copied()),
        (new, news.iter().copied()),
        line,
    )
    .collect();
    let told = |(o, n): &Group| {
        o.len() == 1
            && n.len() == 1
            && line(old, o[0]) > 0
            && old.items[o[0]].size == new.items[n[0]].size
    };
    if on_lines.iter().all(told) {
        for group in &on_lines {
            pair_only(old, new, pairs, group);
        }
    }
}

/// Pairs open variables that the two forms of one function or variable refer to.
///
/// What is left of one base name is paired if it is one on each side, but for variables of which the scope can tell.
/// Returns whether anything was paired.
pub fn pair_by_use(
    old: &Obj,
    new: &Obj,
    pairs: &mut Pairs,
    olds: &[ItemId],
    news: &[ItemId],
) -> bool {
    let described = old.described() && new.described();
    let open = |obj, list: &[ItemId], paired: &dyn Fn(ItemId) -> bool| -> BTreeSet<ItemId> {
        let told = |id| described && scope(obj, id).is_some();
        let open = list.iter().copied();
        open.filter(|&id| !told(id) && !paired(id)).collect()
    };
    let olds = open(old, olds, &|id| pairs.new_of(id).is_some());
    let news = open(new, news, &|id| pairs.old(id).is_some());
    fn key(obj: &Obj, id: ItemId) -> &str {
        base_name(&obj.items[id].name)
    }
    let mut progress = false;
    for group in groups((old, olds), (new, news), key) {
        progress |= pair_only(old, new, pairs, &group);
    }
    progress
}

/// Pairs a group of one on each side and of one size; returns whether it did.
fn pair_only(old: &Obj, new: &Obj, pairs: &mut Pairs, group: &Group) -> bool {
    match (group.0.as_slice(), group.1.as_slice()) {
        ([o], [n]) if old.items[*o].size == new.items[*n].size && fits(old, *o, new, *n) => {
            pairs.add(*o, *n)
        }
        _ => false,
    }
}

/// Marks the variables for which it cannot be told whether the original has them: one of their name is gone.
///
/// Whether they are of a function or of the file does not matter, as a fix may move one out of its function.
pub fn mark_ambiguous(old: &Obj, new: &Obj, pairs: &mut Pairs) {
    let gone: HashSet<&str> = old
        .items
        .iter()
        .enumerate()
        .filter(|(id, item)| item.kind == Kind::Data && pairs.new_of(*id).is_none())
        .filter(|(id, _)| keeps_state(old, *id))
        .map(|(_, item)| base_name(&item.name))
        .collect();
    let found = items(new, |id, item| {
        item.kind == Kind::Data
            && pairs.old(id).is_none()
            && keeps_state(new, id)
            && gone.contains(base_name(&item.name))
    });
    pairs.ambiguous.extend(found);
}

/// Whether two numbered variables may be the same one, as far as debug information of both objects tells.
pub fn same_scope(old: &Obj, o: ItemId, new: &Obj, n: ItemId) -> bool {
    !(old.described() && new.described()) || scope(old, o) == scope(new, n)
}

/// The function that a variable that keeps state is local to, if it is known.
fn scope(obj: &Obj, id: ItemId) -> Option<&str> {
    obj.local_to(id).filter(|_| keeps_state(obj, id))
}

/// Whether it matters to code that a variable is the running kernel's, because it may have changed.
pub fn keeps_state(obj: &Obj, id: ItemId) -> bool {
    let item = &obj.items[id];
    let sec = &obj.secs[item.sec];
    sec.writable() && !expendable(&sec.name) && !limits_messages(item)
}

/// Whether a variable is the `struct ratelimit_state` of a message (`printk_ratelimited()` in
/// include/linux/printk.h and its like): a fresh one only lets some more messages through.
fn limits_messages(item: &Item) -> bool {
    const SIZE: u64 = 32;
    numbered_data(item) && base_name(&item.name) == "_rs" && item.size == SIZE
}

/// Whether a variable is the `struct lock_class_key` of a lock that is set up where it stands (`spin_lock_init()` and its
/// like). Lockdep knows a key by one name, and by the address of that (look_up_lock_class() in
/// kernel/locking/lockdep.c); as the name is a string of the patch, so must the key be. It has no size without lockdep.
pub fn lock_class(item: &Item) -> bool {
    item.kind == Kind::Data && !item.global && item.size > 0 && base_name(&item.name) == "__key"
}

/// Whether a section holds records for which a fresh copy is as good: flags of "only once" warnings, and
/// switches of debug messages.
pub fn expendable(section: &str) -> bool {
    section.starts_with(".data..once") || section.starts_with(".data.once") || section == "__dyndbg"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_numbers_are_no_part_of_a_name() {
        assert_eq!(base_name("count.5"), "count");
        assert_eq!(base_name("foo.isra.0"), "foo.isra");
        assert_eq!(base_name("foo.cold"), "foo.cold");
        assert_eq!(base_name("__UNIQUE_ID_ddebug_401.3"), "__UNIQUE_ID_ddebug");
        assert_eq!(base_name("sha256"), "sha256");
        assert!(numbered("x.1") && !numbered("x1"));
    }

    #[test]
    fn a_pair_is_never_taken_twice() {
        let mut pairs = Pairs::default();
        assert!(pairs.add(1, 2));
        assert!(pairs.add(1, 2));
        assert!(!pairs.add(1, 3));
        assert!(!pairs.add(4, 2));
        assert_eq!(pairs.old(2), Some(1));
    }
}
