// SPDX-License-Identifier: GPL-2.0

//! Which function each static variable is local to, from the debug information of an object (DWARF).
//!
//! The compiler numbers static variables of one name (`count.0`, `count.1`), and inlining carries them into other
//! functions; only debug information tells where the source declares them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, Operation, Unit};

use crate::debuginfo::{DebugInfo, Reader};

/// The functions by the addresses of their static variables; `None` if several functions claim one.
pub fn static_locals(info: &DebugInfo) -> Result<BTreeMap<u64, Option<String>>> {
    let dwarf = info.dwarf()?;
    let mut found = BTreeMap::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        let unit = dwarf.unit(header)?;
        // The function around each entry on the way down from the unit's own.
        let mut around: Vec<Option<String>> = Vec::new();
        let mut depth = 0;
        let mut entries = unit.entries();
        while let Some((step, entry)) = entries.next_dfs()? {
            depth += step;
            around.truncate(usize::try_from(depth).context("entries end before they begin")?);
            let outer = around.last().cloned().flatten();
            around.push(match entry.tag() {
                gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine => {
                    name(&dwarf, &unit, entry)?
                }
                _ => outer.clone(),
            });
            let (gimli::DW_TAG_variable, Some(function)) = (entry.tag(), outer) else {
                continue;
            };
            if let Some(address) = address(&unit, entry)? {
                let known = found
                    .entry(address)
                    .or_insert_with(|| Some(function.clone()));
                if known.as_ref() != Some(&function) {
                    *known = None;
                }
            }
        }
    }
    Ok(found)
}

/// The name of a function, or of the one that it is a copy of.
fn name(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    entry: &DebuggingInformationEntry<'_, '_, Reader<'_>>,
) -> Result<Option<String>> {
    let mut entry = entry.clone();
    // A copy leads to its abstract form, and that one to its declaration.
    for _ in 0..3 {
        if let Some(value) = entry.attr_value(gimli::DW_AT_name)? {
            let text = dwarf.attr_string(unit, value)?;
            return Ok(Some(text.to_string_lossy().into_owned()));
        }
        let origin = match entry.attr_value(gimli::DW_AT_abstract_origin)? {
            None => entry.attr_value(gimli::DW_AT_specification)?,
            origin => origin,
        };
        let Some(AttributeValue::UnitRef(offset)) = origin else {
            break;
        };
        entry = unit.entry(offset)?;
    }
    Ok(None)
}

/// The address of a variable that is always at the same one.
fn address(
    unit: &Unit<Reader<'_>>,
    entry: &DebuggingInformationEntry<'_, '_, Reader<'_>>,
) -> Result<Option<u64>> {
    let Some(AttributeValue::Exprloc(place)) = entry.attr_value(gimli::DW_AT_location)? else {
        return Ok(None);
    };
    let mut operations = place.operations(unit.encoding());
    Ok(match (operations.next()?, operations.next()?) {
        (Some(Operation::Address { address }), None) => Some(address),
        _ => None,
    })
}
