// SPDX-License-Identifier: GPL-2.0

//! What a patch's author declares beside code: callbacks, states, and exceptions from the comparison.
//!
//! The macros of `include/` and of the kernel's `<linux/livepatch_helpers.h>` leave it in `.discard` sections
//! of the patched unit, which nothing else reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use kcare_payload::layout::{
    Callback, State, CALLBACK_POST_PATCH, CALLBACK_POST_UNPATCH, CALLBACK_PRE_PATCH,
    CALLBACK_PRE_UNPATCH,
};

use crate::compare::{Diff, Verdict};
use crate::obj::{ItemId, Kind, Obj, SecId, Target};
use crate::select::Key;
use crate::special::is_table;
use crate::unit::UnitState;

/// The headers that patches may include: name, text.
const HEADERS: [(&str, &str); 3] = [
    ("kcare.h", include_str!("../include/kcare.h")),
    (
        "kpatch-macros.h",
        include_str!("../include/kpatch-macros.h"),
    ),
    (
        "kpatch-syscall.h",
        include_str!("../include/kpatch-syscall.h"),
    ),
];

/// `KLP_CALLBACK_PTRS` (include/linux/livepatch_helpers.h): one pointer for each callback.
const CALLBACKS: &str = ".discard.klp_callback_ptrs";
/// `struct kcare_declared_state` (include/kcare.h).
const STATES: &str = ".discard.kcare.states";
/// Names of functions whose change does not count.
const IGNORED_FUNCTIONS: &str = ".discard.kcare.ignored_functions";
/// Names of sections whose change does not count.
const IGNORED_SECTIONS: &str = ".discard.kcare.ignored_sections";
/// Names of functions that other tools replace without a look at the stacks.
const FORCED_FUNCTIONS: &str = ".discard.kcare.forced_functions";

/// When a callback is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum When {
    /// Before the switch; an error of it ends the apply.
    PrePatch = CALLBACK_PRE_PATCH,
    /// After the switch.
    PostPatch = CALLBACK_POST_PATCH,
    /// Before the switch back.
    PreUnpatch = CALLBACK_PRE_UNPATCH,
    /// After the switch back.
    PostUnpatch = CALLBACK_POST_UNPATCH,
}

impl When {
    /// All of them, in order.
    pub const ALL: [When; 4] = [
        When::PrePatch,
        When::PostPatch,
        When::PreUnpatch,
        When::PostUnpatch,
    ];

    /// `pre_patch`, as in `struct klp_callbacks`.
    pub fn name(self) -> &'static str {
        match self {
            When::PrePatch => "pre_patch",
            When::PostPatch => "post_patch",
            When::PreUnpatch => "pre_unpatch",
            When::PostUnpatch => "post_unpatch",
        }
    }

    /// Of a [`kcare_payload::layout::Callback`].
    pub fn of_kind(kind: u32) -> Option<When> {
        When::ALL.into_iter().find(|&when| when as u32 == kind)
    }

    /// Of a pointer's name, `__klp_pre_patch_callback_vmlinux` (include/linux/livepatch_external.h).
    fn of_pointer(symbol: &str) -> Option<When> {
        let rest = symbol.strip_prefix("__klp_")?;
        When::ALL.into_iter().find(|when| {
            rest.strip_prefix(when.name())
                .is_some_and(|rest| rest.starts_with("_callback_"))
        })
    }
}

/// What one unit declares.
#[derive(Debug, Default)]
pub struct Declared {
    /// Functions of the patched object, in the order of the source.
    pub callbacks: Vec<(When, ItemId)>,
    /// Version by id.
    pub states: BTreeMap<u64, u32>,
    /// What is to be told about it.
    pub notes: Vec<String>,
    ignored_functions: BTreeSet<String>,
    ignored_sections: BTreeSet<String>,
}

impl Declared {
    /// Reads the declarations of a patched object.
    pub fn read(obj: &Obj) -> Result<Self> {
        let mut this = Declared::default();
        for (id, sec) in obj.secs.iter().enumerate() {
            match sec.name.as_str() {
                CALLBACKS => this.read_callbacks(obj, id)?,
                STATES => this.read_states(obj, id)?,
                IGNORED_FUNCTIONS => this.ignored_functions.extend(names(obj, id)?),
                IGNORED_SECTIONS => this.ignored_sections.extend(names(obj, id)?),
                FORCED_FUNCTIONS => {
                    for name in names(obj, id)? {
                        this.notes.push(format!(
                            "KPATCH_FORCE_UNSAFE of `{name}` has no effect: kcare always looks whether a task is inside"
                        ));
                    }
                }
                _ => {}
            }
        }
        Ok(this)
    }

    fn read_callbacks(&mut self, obj: &Obj, sec: SecId) -> Result<()> {
        for &id in obj.items_of(sec) {
            let pointer = &obj.items[id].name;
            let when = When::of_pointer(pointer)
                .with_context(|| format!("`{pointer}` in {CALLBACKS} is of no known kind"))?;
            let function = match obj.rels(id) {
                [rel] if rel.reach() == 0 => match rel.target {
                    Target::Item(id) if obj.items[id].kind == Kind::Func => Some(id),
                    _ => None,
                },
                _ => None,
            };
            let function = function.with_context(|| {
                format!(
                    "the {} callback is no function of the file that declares it",
                    when.name()
                )
            })?;
            self.callbacks.push((when, function));
        }
        Ok(())
    }

    fn read_states(&mut self, obj: &Obj, sec: SecId) -> Result<()> {
        for &item in obj.items_of(sec) {
            let entry: &[u8; 16] = obj
                .bytes(item)
                .try_into()
                .ok()
                .filter(|_| obj.rels(item).is_empty())
                .with_context(|| format!("{STATES} holds something else than states"))?;
            let id = u64::from_le_bytes(entry[..8].try_into()?);
            let version = u32::from_le_bytes(entry[8..12].try_into()?);
            ensure!(
                id != 0,
                "a state has the id 0, which ends the kernel's list of states"
            );
            let other = *self.states.entry(id).or_insert(version);
            ensure!(
                other == version,
                "state {id:#x} has version {} and version {}",
                other.min(version),
                other.max(version)
            );
        }
        Ok(())
    }

    /// Takes out of a comparison what the author wants to be ignored, and notes it.
    ///
    /// `shipped` is what changed when compiled as it was shipped, by name.
    pub fn ignore(
        &mut self,
        new: &Obj,
        diff: &mut Diff,
        shipped: &mut BTreeMap<String, String>,
    ) -> Result<()> {
        for name in &self.ignored_functions {
            let mut found = false;
            let mut changes: BTreeSet<String> = BTreeSet::new();
            for (&id, verdict) in &mut diff.verdicts {
                let item = &new.items[id];
                if item.kind != Kind::Func || !is_form_of(&item.name, name) {
                    continue;
                }
                found = true;
                if let Verdict::Changed(what) = verdict {
                    changes.insert(format!("{}: {what}", item.name));
                    *verdict = Verdict::Same;
                }
            }
            shipped.retain(|form, what| {
                let keep = !is_form_of(form, name);
                if !keep && changes.is_empty() {
                    changes.insert(format!("{form}: {what}"));
                }
                keep
            });
            self.notes.push(match changes.is_empty() {
                true if !found => format!(
                    "KPATCH_IGNORE_FUNCTION of `{name}` has no effect: it has no code of its own in this file"
                ),
                true => {
                    format!("KPATCH_IGNORE_FUNCTION of `{name}` is needless: it does not change")
                }
                false => format!(
                    "the patch asks to leave the change of `{name}` out ({})",
                    Vec::from_iter(changes).join("; ")
                ),
            });
        }
        for name in &self.ignored_sections {
            if is_table(name) {
                bail!("KPATCH_IGNORE_SECTION names `{name}`, which is part of what functions do");
            }
            let mut changes: BTreeSet<String> = BTreeSet::new();
            for (&id, verdict) in &mut diff.verdicts {
                let item = &new.items[id];
                if new.secs[item.sec].name == *name && *verdict != Verdict::Same {
                    changes.insert(item.name.clone());
                    *verdict = Verdict::Same;
                }
            }
            shipped.retain(|item, _| !changes.contains(item));
            diff.sections.retain(|section| {
                let keep = section != name;
                if !keep {
                    changes.insert("all of it".to_owned());
                }
                keep
            });
            self.notes.push(match changes.is_empty() {
                true => {
                    format!("KPATCH_IGNORE_SECTION of `{name}` is needless: it does not change")
                }
                false => format!(
                    "the patch asks to leave changes in section `{name}` out ({})",
                    Vec::from_iter(changes).join(", ")
                ),
            });
        }
        Ok(())
    }
}

/// Whether a function of an object is what became of one in the source (`foo`, `foo.isra.0`, `foo.cold`).
fn is_form_of(form: &str, name: &str) -> bool {
    form.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The strings of a section that holds nothing else.
fn names(obj: &Obj, sec: SecId) -> Result<Vec<String>> {
    let name = |&item: &ItemId| {
        let text = std::str::from_utf8(obj.bytes(item)).ok()?;
        let name = text.strip_suffix('\0')?;
        (obj.rels(item).is_empty() && !name.is_empty()).then(|| name.to_owned())
    };
    obj.items_of(sec)
        .iter()
        .map(|item| {
            name(item)
                .with_context(|| format!("{} holds something else than names", obj.secs[sec].name))
        })
        .collect()
}

/// The states of all units; a conflict is an error with both places.
pub fn states(units: &[UnitState]) -> Result<BTreeMap<u64, u32>> {
    let mut all: BTreeMap<u64, (u32, &str)> = BTreeMap::new();
    for unit in units {
        for (&id, &version) in &unit.declared.states {
            let &mut (other, place) = all.entry(id).or_insert((version, &unit.source));
            ensure!(
                other == version,
                "state {id:#x} has version {other} in {place} and version {version} in {}",
                unit.source
            );
        }
    }
    Ok(all
        .into_iter()
        .map(|(id, (version, _))| (id, version))
        .collect())
}

/// A payload's table of callbacks; `symbol` gives the number of a function's symbol.
pub fn encode_callbacks(callbacks: &BTreeMap<When, Key>, symbol: impl Fn(Key) -> u32) -> Vec<u8> {
    let record = |(&when, &key): (&When, &Key)| Callback {
        kind: when as u32,
        symbol: symbol(key),
        reserved: 0,
    };
    let records = callbacks.iter().map(record);
    records.flat_map(|callback| callback.encode()).collect()
}

/// The payload's table of states.
pub fn encode_states(states: &BTreeMap<u64, u32>) -> Vec<u8> {
    let record = |(&id, &version): (&u64, &u32)| State {
        id,
        version,
        reserved: 0,
    };
    let records = states.iter().map(record);
    records.flat_map(|state| state.encode()).collect()
}

/// Writes the headers that patches may include into a folder.
pub fn write_headers(folder: &Path) -> Result<()> {
    let context = || format!("cannot write {}", folder.display());
    fs::create_dir_all(folder).with_context(context)?;
    for (name, text) in HEADERS {
        fs::write(folder.join(name), text).with_context(context)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointers_name_tells_when_it_is_called() {
        let when = When::of_pointer;
        assert_eq!(
            when("__klp_pre_patch_callback_vmlinux"),
            Some(When::PrePatch)
        );
        assert_eq!(
            when("__klp_post_unpatch_callback_nf_tables"),
            Some(When::PostUnpatch)
        );
        assert_eq!(when("__klp_pre_callback_vmlinux"), None);
        assert_eq!(when("pre_patch"), None);
    }

    #[test]
    fn the_man_page_knows_every_macro() {
        let page = include_str!("../man/kcare-patch.7");
        let defined = HEADERS
            .iter()
            .flat_map(|(_, text)| text.lines())
            .filter_map(|line| line.strip_prefix("#define K"))
            .filter_map(|rest| rest.split(['(', ' ', '\t']).next());
        let names: Vec<&str> = defined.collect();
        assert!(names.len() > 15, "{names:?}");
        for name in names {
            // A family is told of by its first member.
            let family = name.strip_prefix("PATCH_SYSCALL_DEFINE");
            assert!(
                page.contains(&format!("K{name}")) || family.is_some(),
                "K{name}"
            );
        }
    }

    #[test]
    fn clones_and_cold_parts_are_forms_of_a_function() {
        for form in ["foo", "foo.cold", "foo.isra.0", "foo.constprop.0.cold"] {
            assert!(is_form_of(form, "foo"), "{form}");
        }
        assert!(!is_form_of("foobar", "foo") && !is_form_of("foo", "foo.cold"));
    }
}
