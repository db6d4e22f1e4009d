// SPDX-License-Identifier: GPL-2.0

//! Places in code, without the padding that the assembler puts before what is to be aligned.
//!
//! The compiler wants short loops within one cache line. How much padding that takes depends on where in its section a
//! function starts, which is another place once a function before it has grown.

use std::collections::HashMap;

use crate::insn::Insn;
use crate::obj::{ItemId, Kind, Obj};
use crate::special::{original_len, Special};

/// The least that functions are aligned to, in bytes (CONFIG_FUNCTION_ALIGNMENT of x86-64).
const ALIGNMENT: u64 = 16;

/// The functions of an object, as instructions without padding.
pub struct Codes(HashMap<ItemId, Vec<Insn>>);

/// A place in a function: how many instructions are before it, and the bytes from the start of the next one.
pub type Place = (usize, i64);

impl Codes {
    /// Finds the padding in all functions.
    pub fn read(obj: &Obj, special: &Special) -> Self {
        let functions = obj
            .insns
            .iter()
            .filter(|(id, _)| obj.items[**id].kind == Kind::Func);
        Self(
            functions
                .map(|(&id, insns)| (id, without_padding(obj, special, id, insns)))
                .collect(),
        )
    }

    /// The instructions of a function; none if it is no function.
    pub fn of(&self, id: ItemId) -> &[Insn] {
        self.0.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The place with an offset in its section, which may be outside of the function.
    pub fn place(&self, id: ItemId, off: i64) -> Place {
        let insns = self.of(id);
        let after = insns.partition_point(|insn| insn.off as i64 <= off);
        match after.checked_sub(1).map(|i| (i, &insns[i])) {
            Some((i, insn)) if off < insn.end() as i64 => (i, off - insn.off as i64),
            // Padding leads to what is behind it.
            _ if after < insns.len() && after > 0 => (after, 0),
            Some((_, last)) => (after, off - last.end() as i64),
            None => (0, off - insns.first().map_or(0, |first| first.off as i64)),
        }
    }
}

/// A run of instructions that do nothing is padding if what follows is aligned, and nothing in the kernel's tables is
/// about it: those are static branches, and room for alternatives.
fn without_padding(obj: &Obj, special: &Special, id: ItemId, insns: &[Insn]) -> Vec<Insn> {
    let item = &obj.items[id];
    let taken: Vec<(u64, u64)> = special
        .entries_of(item)
        .iter()
        .map(|entry| {
            (
                entry.place,
                entry.place + original_len(obj, entry).unwrap_or(1),
            )
        })
        .collect();
    let mut kept = Vec::with_capacity(insns.len());
    let mut rest = insns;
    while let Some(insn) = rest.first() {
        let len = rest.iter().take_while(|insn| insn.nop).count().max(1);
        let (run, behind) = rest.split_at(len);
        let (start, end) = (insn.off, run[len - 1].end());
        let padding = insn.nop
            && end % ALIGNMENT == 0
            && obj.secs[item.sec].rels_in(start, end).is_empty()
            && taken.iter().all(|&(from, to)| to <= start || end <= from);
        if !padding {
            kept.extend_from_slice(run);
        }
        rest = behind;
    }
    kept
}
