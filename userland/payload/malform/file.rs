// SPDX-License-Identifier: GPL-2.0

//! The file as a whole and the ELF header.

use kcare_payload::elf::Header;
use kcare_payload::error::Place;

use super::cases;
use super::image::{edit, patch, Image, Made};

/// Cuts the file to a length; the section table then ends elsewhere.
fn cut(image: &Image, len: impl Fn(usize) -> usize) -> Option<Made> {
    let mut file = image.write();
    file.truncate(len(file.len()));
    Some((file, Place::Offset(40)))
}

/// Sets the index of the section name table.
fn name_table(image: &Image, index: u16) -> Option<Made> {
    let (file, _) = patch(image, 62, &index.to_le_bytes())?;
    Some((file, Place::Section(u32::from(index))))
}

cases! {
    "cut-within-header" TooSmall |image| {
        let (file, _) = cut(image, |_| Header::SIZE - 1)?;
        Some((file, Place::Nowhere))
    };
    "magic" ElfMagic |image| patch(image, 0, &[0x7e]);
    "class-32" ElfClass |image| patch(image, 4, &[1]);
    "big-endian" ElfEndian |image| patch(image, 5, &[2]);
    "ident-version" ElfVersion |image| patch(image, 6, &[0]);
    "abi-linux" ElfAbi |image| patch(image, 7, &[3]);
    "ident-padding" ElfAbi |image| {
        let (file, _) = patch(image, 15, &[1])?;
        Some((file, Place::Offset(8)))
    };
    "type-dyn" ElfType |image| patch(image, 16, &[3, 0]);
    "machine-aarch64" ElfMachine |image| patch(image, 18, &[183, 0]);
    "version-max" ElfVersion |image| patch(image, 20, &[0xff; 4]);
    "entry" ElfEntry |image| patch(image, 24, &[1]);
    "program-header-offset" ElfSegments |image| patch(image, 32, &[64]);
    "processor-flags" ElfFlags |image| patch(image, 48, &[1]);
    "header-size" ElfHeaderSize |image| patch(image, 52, &[52]);
    "program-header-size" ElfSegments |image| patch(image, 54, &[56]);
    "program-header-count" ElfSegments |image| patch(image, 56, &[1]);
    "section-header-size" SectionHeaderSize |image| patch(image, 58, &[40]);
    "section-count-zero" SectionCount |image| patch(image, 60, &[0, 0]);
    "section-count-max" SectionCount |image| patch(image, 60, &[0xff; 2]);
    "section-count-more" SectionTable |image| {
        let more = u16::try_from(image.len() + 1).ok()?;
        let (file, _) = patch(image, 60, &more.to_le_bytes())?;
        Some((file, Place::Offset(40)))
    };
    "section-count-fewer" SectionTable |image| {
        let fewer = u16::try_from(image.len() - 1).ok()?;
        let (file, _) = patch(image, 60, &fewer.to_le_bytes())?;
        Some((file, Place::Offset(40)))
    };
    "section-table-at-zero" SectionTable |image| patch(image, 40, &[0; 8]);
    "section-table-at-max" SectionTable |image| patch(image, 40, &[0xff; 8]);
    "section-table-wraps" SectionTable |image| {
        let size = u64::try_from(image.len()).ok()? * 64;
        patch(image, 40, &size.wrapping_neg().to_le_bytes())
    };
    "cut-by-one" SectionTable |image| cut(image, |len| len - 1);
    "cut-in-half" SectionTable |image| cut(image, |len| len / 2);
    "cut-behind-header" SectionTable |image| cut(image, |_| Header::SIZE);
    "one-byte-more" SectionTable |image| {
        let mut file = image.write();
        file.push(0);
        Some((file, Place::Offset(40)))
    };
    "name-table-none" NameTable |image| name_table(image, 0);
    "name-table-outside" NameTable |image| name_table(image, u16::MAX);
    "name-table-is-symbols" NameTable |image| {
        name_table(image, u16::try_from(image.symtab()?).ok()?)
    };
    "section-zero-not-empty" SectionNull |image| edit(image, |image| {
        image[0].header.size = 1;
        Some(Place::Section(0))
    });
}
