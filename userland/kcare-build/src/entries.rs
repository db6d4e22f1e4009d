// SPDX-License-Identifier: GPL-2.0

//! Entries of the kernel's tables that a patch takes out: parameters, blacklists, events. The running kernel has read them
//! or goes on reading them, and nothing takes one back. A new one is refused, unless it comes with new code (`select.rs`).

use kcare_payload::special::NO_PROBES;

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

/// Whether it is an entry of a table that outlives the boot. Tables about code come with the code, but what is closed to
/// probes is so because the source says it.
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
        && (name == NO_PROBES || !is_table(name))
}
