// SPDX-License-Identifier: GPL-2.0

//! Where each static variable is declared, in which function, and its type, from an object's debug information (DWARF).
//!
//! The compiler numbers static variables of one name (`count.0`, `count.1`), and inlining carries them into other
//! functions; only debug information tells where the source declares them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::{Context, Result};
use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, Operation, Unit, UnitOffset};

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
    /// What its type is to memory: [`shape`].
    pub shape: String,
}

/// What debug information tells of the variables of an object.
#[derive(Debug, Default)]
pub struct Scopes {
    /// The static ones by their addresses.
    pub variables: BTreeMap<u64, Variable>,
    /// The shapes of structures that only a function knows, because they have no name or are declared in it, and that
    /// one of its variables points to: by the names of function and variable.
    pub pointed: BTreeMap<(String, String), BTreeSet<String>>,
}

/// Reads it.
pub fn scopes(info: &DebugInfo) -> Result<Scopes> {
    let dwarf = info.dwarf()?;
    let mut out = Scopes::default();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        let unit = dwarf.unit(header)?;
        let types = Types {
            dwarf: &dwarf,
            unit: &unit,
            inner: inner_structures(&unit)?,
        };
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
            let local = [gimli::DW_TAG_variable, gimli::DW_TAG_formal_parameter];
            if !local.contains(&entry.tag()) {
                continue;
            }
            let at = match inherited(&unit, entry, gimli::DW_AT_type)? {
                Some(AttributeValue::UnitRef(at)) => Some(at),
                _ => None,
            };
            let Some(address) = address(&unit, entry)? else {
                let (Some(at), Some(function)) = (at, outer) else {
                    continue;
                };
                let private = types.behind(at)?;
                if let (Some(private), Some(name)) = (private, name(&dwarf, &unit, entry)?) {
                    let shape = types.shape(private, &mut Vec::new())?;
                    out.pointed
                        .entry((function, name))
                        .or_default()
                        .insert(shape);
                }
                continue;
            };
            let (ty, shape) = match at {
                Some(at) => (
                    describe(&dwarf, &unit, at, 0)?,
                    types.shape(at, &mut Vec::new())?,
                ),
                None => Default::default(),
            };
            let line = inherited(&unit, entry, gimli::DW_AT_decl_line)?;
            let variable = Variable {
                function: outer,
                line: line.and_then(|line| line.udata_value()).unwrap_or(0),
                ty,
                shape,
            };
            let known = out
                .variables
                .entry(address)
                .or_insert_with(|| variable.clone());
            if known.function != variable.function {
                known.function = None;
            }
            if known.line != variable.line {
                known.line = 0;
            }
        }
    }
    Ok(out)
}

/// The structures and unions of a unit that are declared in functions.
fn inner_structures(unit: &Unit<Reader<'_>>) -> Result<HashSet<UnitOffset>> {
    let mut out = HashSet::new();
    // Whether each entry on the way down from the unit's own is a function, or in one.
    let mut inside: Vec<bool> = Vec::new();
    let mut depth = 0;
    let mut entries = unit.entries();
    while let Some((step, entry)) = entries.next_dfs()? {
        depth += step;
        inside.truncate(usize::try_from(depth).context("entries end before they begin")?);
        let within = inside.last().copied().unwrap_or(false);
        inside.push(within || entry.tag() == gimli::DW_TAG_subprogram);
        if within && is_structure(entry.tag()) {
            out.insert(entry.offset());
        }
    }
    Ok(out)
}

fn is_structure(tag: gimli::DwTag) -> bool {
    tag == gimli::DW_TAG_structure_type || tag == gimli::DW_TAG_union_type
}

/// The types of a unit.
struct Types<'a, 'd> {
    dwarf: &'a Dwarf<Reader<'d>>,
    unit: &'a Unit<Reader<'d>>,
    /// Structures that are declared in functions.
    inner: HashSet<UnitOffset>,
}

impl Types<'_, '_> {
    /// The type that an entry is about.
    fn about(
        &self,
        entry: &DebuggingInformationEntry<'_, '_, Reader<'_>>,
    ) -> Result<Option<UnitOffset>> {
        Ok(match entry.attr_value(gimli::DW_AT_type)? {
            Some(AttributeValue::UnitRef(at)) => Some(at),
            _ => None,
        })
    }

    /// The structure that a pointer points to, if its layout is known nowhere else.
    fn behind(&self, mut at: UnitOffset) -> Result<Option<UnitOffset>> {
        let mut pointer = false;
        for _ in 0..DEEPEST {
            let entry = self.unit.entry(at)?;
            if is_structure(entry.tag()) {
                return Ok((pointer && self.private(&entry)?).then_some(at));
            }
            pointer |= entry.tag() == gimli::DW_TAG_pointer_type;
            match (entry.tag(), self.about(&entry)?) {
                // What a function gives or takes is not what is pointed to.
                (gimli::DW_TAG_subroutine_type, _) | (_, None) => return Ok(None),
                (_, Some(next)) => at = next,
            }
        }
        Ok(None)
    }

    /// Whether no name stands for a structure outside of a function.
    fn private(&self, entry: &DebuggingInformationEntry<'_, '_, Reader<'_>>) -> Result<bool> {
        Ok(self.inner.contains(&entry.offset()) || name(self.dwarf, self.unit, entry)?.is_none())
    }

    /// What a type is to memory: numbers are their size, structures with a name their name, whose layout others compare
    /// ([`crate::btf`]), and others their members. `path` are the structures around it.
    fn shape(&self, at: UnitOffset, path: &mut Vec<UnitOffset>) -> Result<String> {
        let entry = self.unit.entry(at)?;
        let size = || -> Result<u64> {
            let size = entry.attr_value(gimli::DW_AT_byte_size)?;
            Ok(size.and_then(|size| size.udata_value()).unwrap_or(0))
        };
        if path.len() >= DEEPEST || path.contains(&at) {
            return Ok("...".to_owned());
        }
        path.push(at);
        let mut of = |at: Option<UnitOffset>| match at {
            Some(at) => self.shape(at, path),
            None => Ok("void".to_owned()),
        };
        let shape = match entry.tag() {
            gimli::DW_TAG_pointer_type => format!("{} *", of(self.about(&entry)?)?),
            gimli::DW_TAG_array_type => format!("{} []", of(self.about(&entry)?)?),
            gimli::DW_TAG_subroutine_type => "a function".to_owned(),
            gimli::DW_TAG_base_type | gimli::DW_TAG_enumeration_type => {
                format!("{} byte(s)", size()?)
            }
            tag if is_structure(tag) && !self.private(&entry)? => {
                let word = match tag {
                    gimli::DW_TAG_union_type => "union",
                    _ => "struct",
                };
                let name = name(self.dwarf, self.unit, &entry)?.unwrap_or_default();
                format!("{word} {name}")
            }
            tag if is_structure(tag) => {
                let mut tree = self.unit.entries_tree(Some(at))?;
                let mut children = tree.root()?.children();
                let mut members = Vec::new();
                while let Some(child) = children.next()? {
                    let member = child.entry();
                    if member.tag() != gimli::DW_TAG_member {
                        continue;
                    }
                    let number = |attribute| -> Result<Option<u64>> {
                        let value = member.attr_value(attribute)?;
                        Ok(value.and_then(|value| value.udata_value()))
                    };
                    let place = match number(gimli::DW_AT_data_bit_offset)? {
                        Some(bit) => {
                            let bits = number(gimli::DW_AT_bit_size)?.unwrap_or(0);
                            format!("bit {bit}, {bits} long")
                        }
                        None => number(gimli::DW_AT_data_member_location)?
                            .unwrap_or(0)
                            .to_string(),
                    };
                    let name = name(self.dwarf, self.unit, member)?.unwrap_or_default();
                    members.push(format!("{name} at {place}: {}", of(self.about(member)?)?));
                }
                format!("{{ {} }} of {} bytes", members.join("; "), size()?)
            }
            _ => of(self.about(&entry)?)?,
        };
        path.pop();
        Ok(shape)
    }
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
