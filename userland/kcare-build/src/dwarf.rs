// SPDX-License-Identifier: GPL-2.0

//! The names of all units that were linked into vmlinux, from its debug information.
//!
//! Only the first entry of each unit is read (DWARF 4 and 5, 32-bit format, sections 7.5 and 7.5.1.1),
//! which takes milliseconds where reading all of the information would take seconds.

use std::collections::BTreeSet;

use anyhow::{bail, Context, Result};

/// A section that can be read in pieces.
pub trait Source {
    /// Size in bytes.
    fn size(&self) -> u64;
    /// Reads up to `len` bytes; fewer only at the end.
    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>>;
}

/// The debug sections that are needed.
pub struct Sections<'a> {
    /// `.debug_info`.
    pub info: &'a dyn Source,
    /// `.debug_abbrev`.
    pub abbrev: Vec<u8>,
    /// `.debug_str`.
    pub strings: Vec<u8>,
    /// `.debug_line_str`.
    pub line_strings: Vec<u8>,
}

const DW_TAG_COMPILE_UNIT: u64 = 0x11;
const DW_AT_NAME: u64 = 0x03;
const DW_UT_COMPILE: u8 = 0x01;

/// Bytes of a unit that hold its header and the start of its first entry.
const HEAD: u64 = 512;

/// Reads numbers off a slice.
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self
            .bytes
            .split_at_checked(len)
            .context("DWARF data ends early")?;
        self.bytes = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        let b = self.take(2)?;
        Ok(u16::from_le_bytes([b[0], b[1]]))
    }

    fn u32(&mut self) -> Result<u32> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn leb(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("DWARF number is too long")
    }

    fn string(&mut self) -> Result<&'a [u8]> {
        let len = self
            .bytes
            .iter()
            .position(|&b| b == 0)
            .context("DWARF string has no end")?;
        let text = self.take(len)?;
        self.take(1)?;
        Ok(text)
    }
}

/// The names of the units, as the compiler was given them (`fs/pipe.c`).
pub fn unit_names(sections: &Sections<'_>) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut offset = 0;
    while offset < sections.info.size() {
        let head = sections.info.read(offset, HEAD)?;
        let (next, name) =
            unit(&head, sections).with_context(|| format!("in unit {offset:#x} of .debug_info"))?;
        names.extend(name);
        offset += next;
    }
    Ok(names)
}

/// Size of a unit, and its name if it is a compilation unit with one.
fn unit(head: &[u8], sections: &Sections<'_>) -> Result<(u64, Option<String>)> {
    let mut cursor = Cursor { bytes: head };
    let length = cursor.u32()?;
    if length >= 0xffff_fff0 {
        bail!("64-bit DWARF is not supported");
    }
    let next = u64::from(length) + 4;
    let abbrev = match cursor.u16()? {
        5 => {
            if cursor.u8()? != DW_UT_COMPILE {
                return Ok((next, None));
            }
            cursor.u8()?;
            cursor.u32()?
        }
        4 => {
            let abbrev = cursor.u32()?;
            cursor.u8()?;
            abbrev
        }
        version => bail!("DWARF version {version} is not supported"),
    };
    let code = cursor.leb()?;
    let mut attributes = find_abbrev(&sections.abbrev, abbrev, code)?;
    loop {
        let (attribute, form) = (attributes.leb()?, attributes.leb()?);
        if form == DW_FORM_IMPLICIT_CONST {
            attributes.leb()?;
        }
        if (attribute, form) == (0, 0) {
            return Ok((next, None));
        }
        let value = value(&mut cursor, form, sections)?;
        if attribute == DW_AT_NAME {
            let name = value.context("name is no string")?;
            return Ok((next, Some(String::from_utf8_lossy(name).into_owned())));
        }
    }
}

/// The attributes of an abbreviation.
fn find_abbrev(table: &[u8], offset: u32, code: u64) -> Result<Cursor<'_>> {
    let bytes = table
        .get(offset as usize..)
        .context("abbreviations outside of their section")?;
    let mut cursor = Cursor { bytes };
    loop {
        let here = cursor.leb()?;
        if here == 0 {
            bail!("no abbreviation {code}");
        }
        let tag = cursor.leb()?;
        cursor.u8()?;
        if here == code {
            if tag != DW_TAG_COMPILE_UNIT {
                bail!("the first entry has tag {tag:#x}");
            }
            return Ok(cursor);
        }
        loop {
            let (attribute, form) = (cursor.leb()?, cursor.leb()?);
            if form == DW_FORM_IMPLICIT_CONST {
                cursor.leb()?;
            }
            if (attribute, form) == (0, 0) {
                break;
            }
        }
    }
}

const DW_FORM_IMPLICIT_CONST: u64 = 0x21;

/// Skips a value; returns it if it is a string.
fn value<'a>(
    cursor: &mut Cursor<'a>,
    form: u64,
    sections: &'a Sections<'_>,
) -> Result<Option<&'a [u8]>> {
    let fixed = match form {
        // flag_present, implicit_const
        0x19 | DW_FORM_IMPLICIT_CONST => 0,
        // data1, flag, strx1, addrx1
        0x0b | 0x0c | 0x25 | 0x29 => 1,
        // data2, strx2, addrx2
        0x05 | 0x26 | 0x2a => 2,
        // data4, sec_offset, strx4, addrx4
        0x06 | 0x17 | 0x28 | 0x2c => 4,
        // data8, addr
        0x07 | 0x01 => 8,
        // sdata, udata, strx, addrx, loclistx, rnglistx
        0x0d | 0x0f | 0x1a | 0x1b | 0x22 | 0x23 => {
            cursor.leb()?;
            0
        }
        // string
        0x08 => return Ok(Some(cursor.string()?)),
        // strp, line_strp
        0x0e | 0x1f => {
            let table = if form == 0x0e {
                &sections.strings
            } else {
                &sections.line_strings
            };
            let bytes = table
                .get(cursor.u32()? as usize..)
                .context("string outside of its section")?;
            return Ok(Some(Cursor { bytes }.string()?));
        }
        other => bail!("DWARF form {other:#x} is not supported"),
    };
    cursor.take(fixed)?;
    Ok(None)
}
