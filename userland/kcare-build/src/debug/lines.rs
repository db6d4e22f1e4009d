// SPDX-License-Identifier: GPL-2.0

//! Which source line each instruction is of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gimli::write::{self, FileId, LineProgram, LineString, LineStringTable};
use gimli::{ColumnType, Dwarf, Encoding, LineEncoding, LineRow};

use super::{Code, Sources};
use crate::debuginfo::Reader;
use crate::obj::SecId;

/// Stands for the folder that the kernel was built in.
const FOLDER: &str = ".";

/// The line table of a unit, and how its files are called.
pub(super) struct Lines<'a> {
    dwarf: &'a Dwarf<Reader<'a>>,
    unit: &'a gimli::Unit<Reader<'a>>,
    sources: &'a Sources,
    strings: &'a mut LineStringTable,
    encoding: Encoding,
    pub(super) program: LineProgram,
    /// Name, and number in the new table, by number in the old one.
    files: HashMap<u64, (String, FileId)>,
}

/// A stretch of lines under construction.
struct Sequence {
    piece: (SecId, u64),
    /// Address in the old table of its first instruction, and of its end so far.
    start: u64,
    end: u64,
}

impl<'a> Lines<'a> {
    /// A table without lines.
    pub(super) fn new(
        dwarf: &'a Dwarf<Reader<'a>>,
        unit: &'a gimli::Unit<Reader<'a>>,
        sources: &'a Sources,
        strings: &'a mut LineStringTable,
        encoding: Encoding,
    ) -> Result<Self> {
        let name = unit.name.context("a unit has no name")?;
        let name = sources.name(Path::new(&*name.to_string_lossy()));
        let (folder, file) = split(&name);
        let mut string = |text: &str| LineString::new(text, encoding, strings);
        let program = LineProgram::new(
            encoding,
            LineEncoding::default(),
            string(FOLDER),
            folder.map(&mut string),
            string(file),
            None,
        );
        Ok(Lines {
            dwarf,
            unit,
            sources,
            strings,
            encoding,
            program,
            files: HashMap::new(),
        })
    }

    /// Name and folder of the unit, for its entry.
    pub(super) fn names(&mut self) -> Result<[(gimli::DwAt, write::AttributeValue); 2]> {
        let name = self.unit.name.context("a unit has no name")?;
        let name = self.sources.name(Path::new(&*name.to_string_lossy()));
        Ok([
            (gimli::DW_AT_name, name),
            (gimli::DW_AT_comp_dir, FOLDER.to_owned()),
        ]
        .map(|(attribute, text)| {
            let string = self.strings.add(text);
            (attribute, write::AttributeValue::LineStringRef(string))
        }))
    }

    /// Name and new number of a file.
    pub(super) fn file(&mut self, number: u64) -> Result<(String, FileId)> {
        if let Some(known) = self.files.get(&number) {
            return Ok(known.clone());
        }
        let header = self
            .unit
            .line_program
            .as_ref()
            .context("no line table")?
            .header();
        let entry = header
            .file(number)
            .with_context(|| format!("there is no file {number}"))?;
        let text = |value| -> Result<PathBuf> {
            let text = self.dwarf.attr_string(self.unit, value)?;
            Ok(PathBuf::from(text.to_string_lossy().into_owned()))
        };
        let mut path = match self.unit.comp_dir {
            Some(folder) => PathBuf::from(folder.to_string_lossy().into_owned()),
            None => PathBuf::new(),
        };
        if let Some(folder) = entry.directory(header) {
            path.push(text(folder)?);
        }
        path.push(text(entry.path_name())?);
        let name = self.sources.name(&path);
        let (folder, file) = split(&name);
        let folder = match folder {
            Some(folder) => {
                let folder = LineString::new(folder, self.encoding, self.strings);
                self.program.add_directory(folder)
            }
            None => self.program.default_directory(),
        };
        let file = LineString::new(file, self.encoding, self.strings);
        let id = self.program.add_file(file, folder, None);
        self.files.insert(number, (name.clone(), id));
        Ok((name, id))
    }

    /// Number of a file and of one of its lines, as the patched source has them.
    pub(super) fn line(&mut self, file: u64, line: u64) -> Result<(FileId, u64)> {
        let (name, id) = self.file(file)?;
        Ok((id, self.sources.line(&name, line)))
    }

    /// Copies the lines of the payload's code.
    pub(super) fn copy(&mut self, code: &Code) -> Result<()> {
        let Some(program) = self.unit.line_program.clone() else {
            return Ok(());
        };
        let mut rows = program.rows();
        let mut open: Option<Sequence> = None;
        let mut last: Option<LineRow> = None;
        while let Some((_, row)) = rows.next_row()? {
            if let Some(last) = last.take() {
                open = self.copy_row(code, &last, row.address(), open)?;
            }
            if row.end_sequence() {
                self.close(open.take());
            } else {
                last = Some(*row);
            }
        }
        Ok(())
    }

    /// Copies a row that holds up to the address `end`.
    fn copy_row(
        &mut self,
        code: &Code,
        row: &LineRow,
        end: u64,
        open: Option<Sequence>,
    ) -> Result<Option<Sequence>> {
        let at = row.address();
        let Some(found) = code.find(at) else {
            self.close(open);
            return Ok(None);
        };
        let mut sequence = match open {
            Some(sequence) if sequence.piece == found.piece => sequence,
            other => {
                self.close(other);
                self.program.begin_sequence(Some(found.address));
                Sequence {
                    piece: found.piece,
                    start: at,
                    end: at,
                }
            }
        };
        let (file, line) = self.line(row.file_index(), row.line().map_or(0, u64::from))?;
        *self.program.row() = write::LineRow {
            address_offset: at - sequence.start,
            op_index: 0,
            file,
            line,
            column: match row.column() {
                ColumnType::LeftEdge => 0,
                ColumnType::Column(column) => column.get(),
            },
            discriminator: row.discriminator(),
            is_statement: row.is_stmt(),
            basic_block: row.basic_block(),
            prologue_end: row.prologue_end(),
            epilogue_begin: row.epilogue_begin(),
            isa: row.isa(),
        };
        self.program.generate_row();
        sequence.end = end.min(at + found.left);
        Ok(Some(sequence))
    }

    fn close(&mut self, open: Option<Sequence>) {
        if let Some(sequence) = open {
            self.program.end_sequence(sequence.end - sequence.start);
        }
    }
}

/// Folder, if there is one, and file of a name.
fn split(name: &str) -> (Option<&str>, &str) {
    match name.rsplit_once('/') {
        Some((folder, file)) => (Some(folder), file),
        None => (None, name),
    }
}
