// SPDX-License-Identifier: GPL-2.0

//! Where each static variable is declared, in which function, and its type, from an object's debug information (DWARF).
//!
//! The compiler numbers static variables of one name (`count.0`, `count.1`), and inlining carries them into other
//! functions; only debug information tells where the source declares them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, Operation, Unit};

use crate::debuginfo::{DebugInfo, Reader};

/// What debug information tells about a variable that is always at the same address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The function that it is local to; `None` of one of the file, or if several functions claim it.
    pub function: Option<String>,
    /// Line of its declaration; 0 if it is not told.
    pub line: u64,
    /// Its type in words, typedefs and qualifiers taken away.
    pub ty: String,
}

/// The static variables by their addresses.
pub fn variables(info: &DebugInfo) -> Result<BTreeMap<u64, Variable>> {
    let dwarf = info.dwarf()?;
    let mut found: BTreeMap<u64, Variable> = BTreeMap::new();
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
            if entry.tag() != gimli::DW_TAG_variable {
                continue;
            }
            let Some(address) = address(&unit, entry)? else {
                continue;
            };
            let ty = match inherited(&unit, entry, gimli::DW_AT_type)? {
                Some(AttributeValue::UnitRef(at)) => describe(&dwarf, &unit, at, 0)?,
                _ => String::new(),
            };
            let line = inherited(&unit, entry, gimli::DW_AT_decl_line)?;
            let variable = Variable {
                function: outer,
                line: line.and_then(|line| line.udata_value()).unwrap_or(0),
                ty,
            };
            let known = found.entry(address).or_insert_with(|| variable.clone());
            if known.function != variable.function {
                known.function = None;
            }
            if known.line != variable.line {
                known.line = 0;
            }
        }
    }
    Ok(found)
}

/// An attribute of an entry, or of what it is a copy of or the definition of.
fn inherited<'a>(
    unit: &Unit<Reader<'a>>,
    entry: &DebuggingInformationEntry<'_, '_, Reader<'a>>,
    attribute: gimli::DwAt,
) -> Result<Option<AttributeValue<Reader<'a>>>> {
    let mut entry = entry.clone();
    for _ in 0..3 {
        if let Some(value) = entry.attr_value(attribute)? {
            return Ok(Some(value));
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

/// Deepest nesting of types that is looked into.
const DEEPEST: usize = 16;

/// A type in words: what differs in them is another type, whatever typedefs and qualifiers there are.
fn describe(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    at: gimli::UnitOffset<usize>,
    depth: usize,
) -> Result<String> {
    let entry = unit.entry(at)?;
    let inner = || -> Result<String> {
        match entry.attr_value(gimli::DW_AT_type)? {
            Some(AttributeValue::UnitRef(at)) if depth < DEEPEST => {
                describe(dwarf, unit, at, depth + 1)
            }
            _ => Ok("void".to_owned()),
        }
    };
    let named = |word: &str| -> Result<String> {
        Ok(match name(dwarf, unit, &entry)? {
            Some(name) => format!("{word}{name}"),
            None => format!("{word}without a name"),
        })
    };
    match entry.tag() {
        gimli::DW_TAG_typedef
        | gimli::DW_TAG_const_type
        | gimli::DW_TAG_volatile_type
        | gimli::DW_TAG_restrict_type
        | gimli::DW_TAG_atomic_type => inner(),
        gimli::DW_TAG_pointer_type => Ok(format!("{} *", inner()?)),
        gimli::DW_TAG_array_type => Ok(format!("{} []", inner()?)),
        gimli::DW_TAG_structure_type => named("struct "),
        gimli::DW_TAG_union_type => named("union "),
        gimli::DW_TAG_enumeration_type => named("enum "),
        gimli::DW_TAG_subroutine_type => Ok("a function".to_owned()),
        _ => named(""),
    }
}

/// The name of a function, or of the one that it is a copy of.
fn name(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    entry: &DebuggingInformationEntry<'_, '_, Reader<'_>>,
) -> Result<Option<String>> {
    // A copy leads to its abstract form, and that one to its declaration.
    let Some(value) = inherited(unit, entry, gimli::DW_AT_name)? else {
        return Ok(None);
    };
    let text = dwarf.attr_string(unit, value)?;
    Ok(Some(text.to_string_lossy().into_owned()))
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
