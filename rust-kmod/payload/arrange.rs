// SPDX-License-Identifier: GPL-2.0

//! Which body each task sees behind a trampoline, while levels come and go with tasks inside.
//!
//! A *universe* is the set of bodies that a task sees, named by the level that they belong to; [`ORIGINAL`] is that of no
//! level. Each trampoline knows all universes, so that it does not matter whose trampoline a function leads to, and a
//! task sees the same bodies in all functions, whichever levels redirect them.

use super::trampoline::CODE_SIZE;

/// The universe of no level, in which all bodies are the original ones.
pub const ORIGINAL: u64 = 0;

/// One function of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of the function's fentry site.
    pub site: u64,
    /// Address of the level's body.
    pub body: u64,
    /// Address of the level's trampoline.
    pub trampoline: u64,
}

/// A level in memory.
pub trait Universe {
    /// The universe in which its bodies are seen; not [`ORIGINAL`], and no other level's.
    fn universe(&self) -> u64;
    /// Its functions; no two have the same site.
    fn places(&self) -> impl Iterator<Item = Place>;
    /// Its function with a fentry site at an address.
    fn at(&self, site: u64) -> Option<Place>;
}

/// In `universe` the trampoline whose call returns to `trampoline` leads to `body`. Without a row for a universe it leads to
/// the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Row {
    /// The return address of the trampoline's call: [`CODE_SIZE`] behind its beginning.
    pub trampoline: u64,
    /// The universe.
    pub universe: u64,
    /// The body.
    pub body: u64,
}

/// All rows for the trampolines of `asked` in the universes of `seen`, in no order.
pub fn rows<'a, U: Universe>(
    asked: &'a [&'a U],
    seen: &'a [&'a U],
) -> impl Iterator<Item = Row> + 'a {
    asked.iter().flat_map(move |level| {
        level.places().flat_map(move |place| {
            let row = move |other: &&U| {
                Some(Row {
                    trampoline: place.trampoline.wrapping_add(CODE_SIZE),
                    universe: other.universe(),
                    body: other.at(place.site)?.body,
                })
            };
            seen.iter().filter_map(row)
        })
    })
}
