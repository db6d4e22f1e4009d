// SPDX-License-Identifier: GPL-2.0

//! Everything known about one unit: its four compilations and what differs between them.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use crate::author::Declared;
use crate::compare::{compare, compare_shared, pair, Diff, Verdict};
use crate::correlate::numbered_data;
use crate::image::ImageId;
use crate::obj::{ItemId, Obj};
use crate::renames::Renames;
use crate::special::Special;
use crate::verify::Placement;

/// One unit.
#[derive(Debug)]
pub struct UnitState {
    /// Source file relative to the source tree.
    pub source: String,
    /// The image that it is part of.
    pub image: ImageId,
    /// The original object as it was shipped.
    pub exact: Obj,
    /// The original object, with sections split.
    pub old: Obj,
    /// The patched object, with sections split.
    pub new: Obj,
    /// Tables of the patched object.
    pub special: Special,
    /// Where the unit is in its image.
    pub placement: Placement,
    /// The name in the unit as it was shipped, of the original object's items.
    pub shipped: HashMap<ItemId, String>,
    /// What differs.
    pub diff: Diff,
    /// Functions and variables that differ when compiled as they were shipped, and how.
    pub shipped_changes: BTreeMap<String, String>,
    /// What the author declares beside code.
    pub declared: Declared,
}

impl UnitState {
    /// Compares the compilations of a unit: `exact` and `exact_new` with the shipped flags, before and after
    /// the patch, `old` and `new` with sections split.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        source: &str,
        image: ImageId,
        placement: Placement,
        exact: Obj,
        exact_new: &Obj,
        old: Obj,
        new: Obj,
        renames: &Renames,
    ) -> Result<Self> {
        let exact_special = Special::read(&exact)?;
        let old_special = Special::read(&old)?;
        let special = Special::read(&new)?;
        let mut diff = compare(&old, &old_special, &new, &special, renames)?;

        let exact_new_special = Special::read(exact_new)?;
        let shipped_diff = compare_shared(
            &exact,
            &exact_special,
            exact_new,
            &exact_new_special,
            renames,
        )?;
        let mut shipped_changes = BTreeMap::new();
        for (id, verdict) in shipped_diff.verdicts {
            // What is new is found by the references to it.
            if let Verdict::Changed(what) = verdict {
                shipped_changes.insert(exact_new.items[id].name.clone(), what);
            }
        }
        let mut declared = Declared::read(&new)?;
        declared.ignore(&new, &mut diff, &mut shipped_changes)?;
        let shipped = shipped_names(&exact, &exact_special, &old, &old_special)?;
        Ok(UnitState {
            source: source.to_owned(),
            image,
            exact,
            old,
            new,
            special,
            placement,
            shipped,
            diff,
            shipped_changes,
            declared,
        })
    }
}

/// The names that the items of the original object have in the unit as it was shipped.
///
/// The compiler numbers static variables, and the numbers decide where one is in vmlinux. Where code shows
/// which is which, it must agree with the numbers; and only if it always does, they count for the rest.
fn shipped_names(
    exact: &Obj,
    exact_special: &Special,
    old: &Obj,
    old_special: &Special,
) -> Result<HashMap<ItemId, String>> {
    let pairs = pair(exact, exact_special, old, old_special)?;
    let mut names = HashMap::new();
    let mut open = Vec::new();
    let mut consistent = true;
    for (id, item) in old.items.iter().enumerate().filter(|(_, i)| i.named()) {
        match pairs.old(id) {
            Some(shipped) => {
                let name = &exact.items[shipped].name;
                if !numbered_data(item) || *name == item.name {
                    names.insert(id, name.clone());
                } else {
                    consistent = false;
                }
            }
            None => open.push(id),
        }
    }
    if consistent {
        for id in open {
            let name = &old.items[id].name;
            let same = exact
                .by_name(name)
                .filter(|&e| exact.items[e].size == old.items[id].size);
            if same.is_some_and(|e| pairs.new_of(e).is_none()) {
                names.insert(id, name.clone());
            }
        }
    }
    Ok(names)
}
