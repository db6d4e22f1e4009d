// SPDX-License-Identifier: GPL-2.0

//! Entries of the kernel's tables that a patch takes out: parameters, blacklists, events. The running kernel has read them
//! or goes on reading them, and nothing takes one back. A new one is refused (`select.rs`).

use crate::correlate::renumbered;
use crate::obj::{Item, Kind, Obj};
use crate::special::{is_discarded, is_table, ordinary_data};
use crate::unit::UnitState;

/// What is to be said of the entries of a unit that are gone. It is no code, and stands in the way only if it is all that
/// changes.
pub fn gone(state: &UnitState) -> Vec<String> {
    let gone = state.diff.gone.iter().map(|&id| &state.old.items[id]);
    let entries = gone.filter(|item| is_entry(&state.old, item));
    let named = entries.map(|item| (item, state.old.secs[item.sec].name.as_str()));
    named
        .filter(|(item, table)| !renumbered(item, table, &state.old, &state.new))
        .map(|(item, table)| {
            format!(
                "{} is gone from the table {table}, of which the running kernel goes on using its own",
                item.name
            )
        })
        .collect()
}

/// Whether it is an entry of a table that outlives the boot. Tables about code come with the code.
fn is_entry(obj: &Obj, item: &Item) -> bool {
    let sec = &obj.secs[item.sec];
    let name = sec.name.as_str();
    let is_percpu = name.starts_with(".data..percpu");
    let of_boot = name.starts_with(".init") || name.starts_with(".exit");
    item.kind == Kind::Data
        && sec.alloc()
        && !ordinary_data(name)
        && !is_percpu
        && !of_boot
        && !is_discarded(name)
        && !is_table(name)
}
