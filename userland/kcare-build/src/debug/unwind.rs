// SPDX-License-Identifier: GPL-2.0

//! How to unwind the payload's functions (`.debug_frame`; DWARF 5, section 6.4.1), for backtraces through them.

use std::collections::HashMap;

use anyhow::{bail, Context, Result};
use gimli::write::Writer;

use super::{Code, Companion};
use crate::debuginfo::DebugInfo;

/// In place of the offset of a common entry, in that one itself.
const COMMON: u32 = u32::MAX;

impl Companion {
    /// Copies the entries of a unit's functions, and the common entries that they refer to.
    pub(super) fn add_unwinding(&mut self, info: &DebugInfo, code: &Code) -> Result<()> {
        let old = info.section(".debug_frame");
        let word = |at: usize| -> Result<u32> {
            let bytes = old.get(at..at + 4).context(".debug_frame ends early")?;
            Ok(u32::from_le_bytes(bytes.try_into()?))
        };
        // An entry behind its length.
        let body = |at: usize| -> Result<&[u8]> {
            let length = word(at)?;
            if length >= 0xffff_fff0 {
                bail!("64-bit DWARF is not supported");
            }
            let end = at + 4 + length as usize;
            old.get(at + 4..end).context(".debug_frame ends early")
        };
        let out = &mut self.unwinding;
        let mut common: HashMap<u32, u32> = HashMap::new();
        let mut at = 0;
        while at < old.len() {
            let entry = body(at)?;
            let start = word(at + 4)?;
            at += 4 + entry.len();
            if start == COMMON {
                continue;
            }
            let address = entry.get(4..12).context("an entry has no address")?;
            let Some(found) = code.find(u64::from_le_bytes(address.try_into()?)) else {
                continue;
            };
            let start = match common.get(&start) {
                Some(&known) => known,
                None => {
                    let new = u32::try_from(out.len())?;
                    let entry = body(start as usize)?;
                    out.write_u32(u32::try_from(entry.len())?)?;
                    out.write(entry)?;
                    common.insert(start, new);
                    new
                }
            };
            out.write_u32(u32::try_from(entry.len())?)?;
            out.write_u32(start)?;
            out.write_address(found.address, 8)?;
            out.write(&entry[12..])?;
        }
        Ok(())
    }
}
