// SPDX-License-Identifier: GPL-2.0

//! What a unit says of its module (`MODULE_ALIAS` and the like): programs read it from the module's file, and no code does.

use std::collections::BTreeSet;

use crate::image::VMLINUX;
use crate::obj::Obj;
use crate::unit::UnitState;

const SECTION: &str = ".modinfo";

/// What the build adds by itself.
const ADDED: [&str; 9] = [
    "srcversion",
    "vermagic",
    "depends",
    "name",
    "retpoline",
    "intree",
    "staging",
    "livepatch",
    "file",
];

/// The lines of an object's `.modinfo`, `alias=net-pf-16`, without what the build adds; those of a built-in unit begin with
/// its name, `af_netlink.alias=net-pf-16`.
fn lines(obj: &Obj) -> BTreeSet<String> {
    let sections = obj.secs.iter().filter(|sec| sec.name == SECTION);
    let texts = sections.flat_map(|sec| sec.data.split(|&byte| byte == 0));
    let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
    texts
        .filter(|text| !text.is_empty() && !added(text))
        .collect()
}

fn added(line: &str) -> bool {
    let (tag, _) = line.split_once('=').unwrap_or((line, ""));
    let tag = tag.rsplit('.').next().unwrap_or(tag);
    ADDED.contains(&tag)
}

/// Which lines are gone and new.
pub fn changes(old: &Obj, new: &Obj) -> Vec<String> {
    let (old, new) = (lines(old), lines(new));
    let gone = old.difference(&new).map(|line| format!("{line} is gone"));
    gone.chain(new.difference(&old).map(|line| format!("{line} is new")))
        .collect()
}

/// What is to be said of a unit whose information changes.
pub fn remark(state: &UnitState) -> Option<String> {
    let changes = changes(&state.old, &state.new);
    if changes.is_empty() {
        return None;
    }
    let (of, file) = match state.image {
        VMLINUX => ("built-in module", "modules.builtin.modinfo"),
        _ => ("module", "the module's file"),
    };
    Some(format!(
        "the {of}'s information changes ({}): what reads it from {file} goes on with the shipped one",
        changes.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_build_adds_does_not_count() {
        for line in [
            "vermagic=7.2",
            "srcversion=1",
            "drop_caches.file=fs/drop_caches",
            "intree=Y",
        ] {
            assert!(added(line), "{line}");
        }
        for line in [
            "alias=name=x",
            "netlink.alias=net-pf-16",
            "description=a.name=b",
        ] {
            assert!(!added(line), "{line}");
        }
    }
}
