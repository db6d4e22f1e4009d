// SPDX-License-Identifier: GPL-2.0

//! The functions of a unit that are in the payload, and what was inlined into them.

use std::collections::HashMap;

use anyhow::{Context, Result};
use gimli::write::{self, AttributeValue, Range, RangeList, StringTable, UnitEntryId};
use gimli::{DebuggingInformationEntry, Dwarf, Encoding, Format, UnitOffset};

use super::lines::Lines;
use super::{Address, Code, Companion, Sources};
use crate::debuginfo::{DebugInfo, Reader};

/// An entry that was read.
type Entry<'abbrev, 'unit, 'a> = DebuggingInformationEntry<'abbrev, 'unit, Reader<'a>>;

/// A unit under construction.
struct Functions<'a, 'u> {
    dwarf: &'a Dwarf<Reader<'a>>,
    unit: &'a gimli::Unit<Reader<'a>>,
    code: &'u Code,
    lines: Lines<'a>,
    strings: &'u mut StringTable,
    out: write::Unit,
    /// Functions without code of their own, by the entry that describes them.
    origins: HashMap<UnitOffset, UnitEntryId>,
}

impl Companion {
    /// Adds what debug information tells about the code of a unit.
    pub(super) fn add_unit(
        &mut self,
        info: &DebugInfo,
        code: &Code,
        sources: &Sources,
    ) -> Result<()> {
        let dwarf = info.dwarf()?;
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            let unit = dwarf.unit(header)?;
            let encoding = Encoding {
                format: Format::Dwarf32,
                version: 5,
                address_size: 8,
            };
            let lines = Lines::new(
                &dwarf,
                &unit,
                sources,
                &mut self.dwarf.line_strings,
                encoding,
            )?;
            let mut functions = Functions {
                dwarf: &dwarf,
                unit: &unit,
                code,
                lines,
                strings: &mut self.dwarf.strings,
                out: write::Unit::new(encoding, write::LineProgram::none()),
                origins: HashMap::new(),
            };
            functions.copy()?;
            let Functions { lines, mut out, .. } = functions;
            out.line_program = lines.program;
            self.dwarf.units.add(out);
        }
        Ok(())
    }
}

impl<'a> Functions<'a, '_> {
    fn copy(&mut self) -> Result<()> {
        self.lines.copy(self.code)?;
        let mut entries = self.unit.entries();
        // The copy of the function around each entry on the way down, if it is in the payload.
        let mut around: Vec<Option<UnitEntryId>> = Vec::new();
        let mut depth = 0;
        while let Some((step, entry)) = entries.next_dfs()? {
            depth += step;
            around.truncate(usize::try_from(depth).context("entries end before they begin")?);
            let outer = around.last().copied().flatten();
            around.push(match (entry.tag(), outer) {
                (gimli::DW_TAG_compile_unit, _) => {
                    self.copy_root(entry)?;
                    None
                }
                (gimli::DW_TAG_subprogram, _) => self.copy_function(entry)?,
                (gimli::DW_TAG_inlined_subroutine, Some(outer)) => {
                    self.copy_inlined(entry, outer)?
                }
                (_, outer) => outer,
            });
        }
        Ok(())
    }

    /// The unit itself.
    fn copy_root(&mut self, entry: &Entry<'_, '_, 'a>) -> Result<()> {
        let root = self.out.root();
        if let Some(value) = entry.attr_value(gimli::DW_AT_producer)? {
            let text = self.dwarf.attr_string(self.unit, value)?;
            let string = self.strings.add(text.slice());
            self.set(
                root,
                gimli::DW_AT_producer,
                AttributeValue::StringRef(string),
            );
        }
        if let Some(gimli::AttributeValue::Language(language)) =
            entry.attr_value(gimli::DW_AT_language)?
        {
            self.set(
                root,
                gimli::DW_AT_language,
                AttributeValue::Language(language),
            );
        }
        for (attribute, value) in self.lines.names()? {
            self.set(root, attribute, value);
        }
        self.set(root, gimli::DW_AT_stmt_list, AttributeValue::LineProgramRef);
        let ranges = self.code.ranges().collect();
        self.set_ranges(root, ranges);
        Ok(())
    }

    fn copy_function(&mut self, entry: &Entry<'_, '_, 'a>) -> Result<Option<UnitEntryId>> {
        let ranges = self.ranges(entry)?;
        if ranges.is_empty() {
            return Ok(None);
        }
        let id = self.out.add(self.out.root(), gimli::DW_TAG_subprogram);
        self.describe(id, entry)?;
        self.set_ranges(id, ranges);
        Ok(Some(id))
    }

    fn copy_inlined(
        &mut self,
        entry: &Entry<'_, '_, 'a>,
        outer: UnitEntryId,
    ) -> Result<Option<UnitEntryId>> {
        let ranges = self.ranges(entry)?;
        let origin = entry.attr_value(gimli::DW_AT_abstract_origin)?;
        let (false, Some(gimli::AttributeValue::UnitRef(origin))) = (ranges.is_empty(), origin)
        else {
            return Ok(Some(outer));
        };
        let origin = self.origin(origin)?;
        let id = self.out.add(outer, gimli::DW_TAG_inlined_subroutine);
        self.set(
            id,
            gimli::DW_AT_abstract_origin,
            AttributeValue::UnitRef(origin),
        );
        self.set_ranges(id, ranges);
        self.copy_line(id, entry, gimli::DW_AT_call_file, gimli::DW_AT_call_line)?;
        if let Some(column) = number(entry, gimli::DW_AT_call_column)? {
            self.set(id, gimli::DW_AT_call_column, AttributeValue::Udata(column));
        }
        Ok(Some(id))
    }

    /// The function that is described by an entry, whatever became of its own code.
    fn origin(&mut self, offset: UnitOffset) -> Result<UnitEntryId> {
        if let Some(&known) = self.origins.get(&offset) {
            return Ok(known);
        }
        let id = self.out.add(self.out.root(), gimli::DW_TAG_subprogram);
        self.origins.insert(offset, id);
        let entry = self.unit.entry(offset)?;
        self.describe(id, &entry)?;
        self.set(
            id,
            gimli::DW_AT_inline,
            AttributeValue::Inline(gimli::DW_INL_inlined),
        );
        Ok(id)
    }

    /// Name and place of a function's declaration.
    fn describe(&mut self, id: UnitEntryId, entry: &Entry<'_, '_, 'a>) -> Result<()> {
        let mut entry = entry.clone();
        // A copy leads to its abstract form, and that one to its declaration.
        loop {
            if let Some(value) = entry.attr_value(gimli::DW_AT_name)? {
                let text = self.dwarf.attr_string(self.unit, value)?;
                let string = self.strings.add(text.slice());
                self.set(id, gimli::DW_AT_name, AttributeValue::StringRef(string));
                self.copy_line(id, &entry, gimli::DW_AT_decl_file, gimli::DW_AT_decl_line)?;
                if let Some(external) = entry.attr_value(gimli::DW_AT_external)? {
                    let external = external == gimli::AttributeValue::Flag(true);
                    self.set(id, gimli::DW_AT_external, AttributeValue::Flag(external));
                }
                return Ok(());
            }
            let origin = match entry.attr_value(gimli::DW_AT_abstract_origin)? {
                None => entry.attr_value(gimli::DW_AT_specification)?,
                origin => origin,
            };
            let Some(gimli::AttributeValue::UnitRef(offset)) = origin else {
                return Ok(());
            };
            entry = self.unit.entry(offset)?;
        }
    }

    /// A file and a line of it.
    fn copy_line(
        &mut self,
        id: UnitEntryId,
        entry: &Entry<'_, '_, 'a>,
        file: gimli::DwAt,
        line: gimli::DwAt,
    ) -> Result<()> {
        let number_of_file = match entry.attr_value(file)? {
            Some(gimli::AttributeValue::FileIndex(number)) => number,
            _ => return Ok(()),
        };
        let number_of_line = number(entry, line)?.unwrap_or(0);
        let (new_file, new_line) = self.lines.line(number_of_file, number_of_line)?;
        self.set(id, file, AttributeValue::FileIndex(Some(new_file)));
        self.set(id, line, AttributeValue::Udata(new_line));
        Ok(())
    }

    /// Where the code of an entry is in the payload.
    fn ranges(&self, entry: &Entry<'_, '_, 'a>) -> Result<Vec<(Address, u64)>> {
        let mut found = Vec::new();
        let mut ranges = self.dwarf.die_ranges(self.unit, entry)?;
        while let Some(range) = ranges.next()? {
            // What was optimized away has an empty one.
            if let Some(code) = self
                .code
                .find(range.begin)
                .filter(|_| range.begin < range.end)
            {
                found.push((code.address, code.left.min(range.end - range.begin)));
            }
        }
        Ok(found)
    }

    fn set_ranges(&mut self, id: UnitEntryId, ranges: Vec<(Address, u64)>) {
        if let [(begin, length)] = ranges[..] {
            self.set(id, gimli::DW_AT_low_pc, AttributeValue::Address(begin));
            self.set(id, gimli::DW_AT_high_pc, AttributeValue::Udata(length));
            return;
        }
        let ranges = ranges
            .into_iter()
            .map(|(begin, length)| Range::StartLength { begin, length });
        let list = self.out.ranges.add(RangeList(ranges.collect()));
        self.set(id, gimli::DW_AT_ranges, AttributeValue::RangeListRef(list));
    }

    fn set(&mut self, id: UnitEntryId, attribute: gimli::DwAt, value: AttributeValue) {
        self.out.get_mut(id).set(attribute, value);
    }
}

/// An attribute that is a number.
fn number(entry: &Entry<'_, '_, '_>, attribute: gimli::DwAt) -> Result<Option<u64>> {
    Ok(entry.attr(attribute)?.and_then(|a| a.udata_value()))
}
