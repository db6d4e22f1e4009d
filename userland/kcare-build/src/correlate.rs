// SPDX-License-Identifier: GPL-2.0

//! Pairs the functions and variables of the patched object with those of the original one.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::obj::{Item, ItemId, Kind, Obj};

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

/// Items of one name: original ones, patched ones.
type Group = (Vec<ItemId>, Vec<ItemId>);

/// Pairs what names alone decide.
///
/// Functions of one base name and several clones are paired by their whole name: whatever the pairing,
/// a caller whose callee differs differs itself. Numbered variables stay open for [`pair_by_use`].
pub fn pair_by_name(old: &Obj, new: &Obj) -> Pairs {
    /// Items of the old and of the new object.
    type Group = (Vec<ItemId>, Vec<ItemId>);
    let mut groups: BTreeMap<(bool, &str), Group> = BTreeMap::new();
    fn name(item: &Item) -> &str {
        // Numbers count in the names of global things.
        if item.global {
            &item.name
        } else {
            base_name(&item.name)
        }
    }
    for (id, item) in old
        .items
        .iter()
        .enumerate()
        .filter(|(_, i)| i.named() && !numbered_data(i))
    {
        groups
            .entry((item.kind == Kind::Func, name(item)))
            .or_default()
            .0
            .push(id);
    }
    for (id, item) in new
        .items
        .iter()
        .enumerate()
        .filter(|(_, i)| i.named() && !numbered_data(i))
    {
        groups
            .entry((item.kind == Kind::Func, name(item)))
            .or_default()
            .1
            .push(id);
    }

    let mut pairs = Pairs::default();
    for (olds, news) in groups.into_values() {
        if let ([o], [n]) = (olds.as_slice(), news.as_slice()) {
            pairs.add(*o, *n);
            continue;
        }
        for &n in &news {
            if let Some(&o) = olds
                .iter()
                .find(|&&o| old.items[o].name == new.items[n].name)
            {
                pairs.add(o, n);
            }
        }
    }
    pairs
}

/// Pairs open variables that the two forms of one function or variable refer to, in order.
///
/// What is left of one base name is paired if it is one on each side. Returns whether anything was
/// paired.
pub fn pair_by_use(
    old: &Obj,
    new: &Obj,
    pairs: &mut Pairs,
    olds: &[ItemId],
    news: &[ItemId],
) -> bool {
    let mut by_base: BTreeMap<&str, Group> = BTreeMap::new();
    for &o in olds.iter().filter(|&&o| pairs.new_of(o).is_none()) {
        let list = &mut by_base.entry(base_name(&old.items[o].name)).or_default().0;
        if !list.contains(&o) {
            list.push(o);
        }
    }
    for &n in news.iter().filter(|&&n| pairs.old(n).is_none()) {
        let list = &mut by_base.entry(base_name(&new.items[n].name)).or_default().1;
        if !list.contains(&n) {
            list.push(n);
        }
    }
    let mut progress = false;
    for (o, n) in by_base.into_values() {
        if let ([o], [n]) = (o.as_slice(), n.as_slice()) {
            if old.items[*o].size == new.items[*n].size {
                progress |= pairs.add(*o, *n);
            }
        }
    }
    progress
}

/// Marks the variables for which it cannot be told whether the original has them.
pub fn mark_ambiguous(old: &Obj, new: &Obj, pairs: &mut Pairs) {
    let open: HashSet<&str> = old
        .items
        .iter()
        .enumerate()
        .filter(|(id, item)| numbered_data(item) && pairs.new_of(*id).is_none())
        .map(|(_, item)| base_name(&item.name))
        .collect();
    let found: Vec<ItemId> = new
        .items
        .iter()
        .enumerate()
        .filter(|(id, item)| {
            numbered_data(item)
                && pairs.old(*id).is_none()
                && new.secs[item.sec].writable()
                && !expendable(&new.secs[item.sec].name)
                && !limits_messages(item)
                && open.contains(base_name(&item.name))
        })
        .map(|(id, _)| id)
        .collect();
    pairs.ambiguous.extend(found);
}

/// Whether a variable is the `struct ratelimit_state` of a message (`printk_ratelimited()` in
/// include/linux/printk.h and its like): a fresh one only lets some more messages through.
fn limits_messages(item: &Item) -> bool {
    const SIZE: u64 = 32;
    numbered_data(item) && base_name(&item.name) == "_rs" && item.size == SIZE
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
