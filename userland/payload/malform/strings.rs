// SPDX-License-Identifier: GPL-2.0

//! The string table, and what refers into it.

use kcare_payload::error::{Place, Table};
use kcare_payload::layout::{
    Fix, Func, Object, MAX_DESCRIPTION, MAX_RELEASE, MAX_STRING, SEC_FIXES, SEC_FUNCS, SEC_OBJECTS,
    SEC_STRINGS,
};

use super::cases;
use super::image::{edit, Image, Made, Record};

/// Offset of the manifest's release in its section.
const RELEASE: u32 = 32;
/// Offset of the manifest's description in its section.
const DESCRIPTION: u32 = 36;

/// The place of an entry.
fn at(table: Table, index: u32) -> Option<Place> {
    Some(Place::Entry { table, index })
}

/// Appends bytes to the string table and names the offset of one of them.
fn append(image: &Image, bytes: &[u8], wrong: usize) -> Option<Made> {
    edit(image, |image| {
        let data = &mut image.section(SEC_STRINGS)?.data;
        let offset = data.len() + wrong;
        data.extend(bytes);
        let len = u32::try_from(data.len()).ok()?;
        image.manifest(|m| m.string_bytes = len)?;
        at(Table::Strings, u32::try_from(offset).ok()?)
    })
}

/// Replaces the kernel release by a new string.
fn release(image: &Image, string: &str) -> Option<Made> {
    edit(image, |image| {
        let offset = image.add_string(string)?;
        image.manifest(|m| m.release = offset)?;
        at(Table::Manifest, RELEASE)
    })
}

/// Points the kernel release somewhere.
fn release_at(image: &Image, offset: u32) -> Option<Made> {
    edit(image, |image| {
        image.manifest(|m| m.release = offset)?;
        at(Table::Manifest, RELEASE)
    })
}

/// Replaces the description by a new string.
fn description(image: &Image, string: &str) -> Option<Made> {
    edit(image, |image| {
        let offset = image.add_string(string)?;
        image.manifest(|m| m.description = offset)?;
        at(Table::Manifest, DESCRIPTION)
    })
}

/// Points a string of the first entry of a table somewhere.
fn entry<T: Record>(
    image: &Image,
    name: &str,
    table: Table,
    change: impl FnOnce(&mut T),
) -> Option<Made> {
    edit(image, |image| {
        image.section(name)?.change(0, change)?;
        at(table, 0)
    })
}

cases! {
    "strings-empty" StringsForm |image| edit(image, |image| {
        image.section(SEC_STRINGS)?.data.clear();
        image.manifest(|m| m.string_bytes = 0)?;
        at(Table::Strings, 0)
    });
    "strings-no-start" StringsForm |image| edit(image, |image| {
        image.section(SEC_STRINGS)?.put(0, b"x");
        at(Table::Strings, 0)
    });
    "strings-no-end" StringsForm |image| append(image, b"no end", 5);
    "strings-not-utf8" StringsForm |image| append(image, b"ab\xff\0", 2);
    "strings-surrogate" StringsForm |image| append(image, b"\xed\xa0\x80\0", 0);
    "strings-newline" StringsControl |image| append(image, b"two\nlines\0", 3);
    "strings-escape" StringsControl |image| append(image, b"\x1b[31m\0", 0);
    "strings-delete" StringsControl |image| append(image, b"x\x7f\0", 1);
    "strings-c1-control" StringsControl |image| append(image, b"xy\xc2\x9b\0", 2);
    "strings-turned" StringsControl |image| append(image, b"a\xe2\x80\xaeb\0", 1);
    "strings-invisible" StringsControl |image| append(image, b"a\xe2\x80\x8bb\0", 1);
    "strings-line-separator" StringsControl |image| append(image, b"\xe2\x80\xa8\0", 0);
    "strings-tag" StringsControl |image| append(image, b"ab\xf3\xa0\x81\x81\0", 2);
    "release-outside" StringRange |image| {
        let end = image.manifest_now()?.string_bytes;
        release_at(image, end)
    };
    "release-max" StringRange |image| release_at(image, u32::MAX);
    "release-within-character" StringRange |image| edit(image, |image| {
        let offset = image.add_string("\u{e9}t\u{e9}")?;
        image.manifest(|m| m.release = offset + 1)?;
        at(Table::Manifest, RELEASE)
    });
    "release-empty" StringEmpty |image| release_at(image, 0);
    "release-too-long" StringTooLong |image| release(image, &"7".repeat(MAX_RELEASE + 1));
    "description-outside" StringRange |image| edit(image, |image| {
        image.manifest(|m| m.description = u32::MAX)?;
        at(Table::Manifest, DESCRIPTION)
    });
    "description-too-long" StringTooLong |image| {
        description(image, &"d".repeat(MAX_DESCRIPTION + 1))
    };
    "object-name-outside" StringRange |image| {
        entry(image, SEC_OBJECTS, Table::Objects, |o: &mut Object| o.name = u32::MAX)
    };
    "object-name-empty" StringEmpty |image| {
        entry(image, SEC_OBJECTS, Table::Objects, |o: &mut Object| o.name = 0)
    };
    "func-name-outside" StringRange |image| {
        entry(image, SEC_FUNCS, Table::Funcs, |f: &mut Func| f.name = u32::MAX)
    };
    "func-name-empty" StringEmpty |image| {
        entry(image, SEC_FUNCS, Table::Funcs, |f: &mut Func| f.name = 0)
    };
    "func-name-too-long" StringTooLong |image| edit(image, |image| {
        let name = image.add_string(&"f".repeat(MAX_STRING + 1))?;
        image.section(SEC_FUNCS)?.change(0, |f: &mut Func| f.name = name)?;
        at(Table::Funcs, 0)
    });
    "fix-id-outside" StringRange |image| {
        entry(image, SEC_FIXES, Table::Fixes, |f: &mut Fix| f.id = u32::MAX)
    };
    "fix-title-outside" StringRange |image| {
        entry(image, SEC_FIXES, Table::Fixes, |f: &mut Fix| f.title = u32::MAX)
    };
    "fix-title-empty" StringEmpty |image| {
        entry(image, SEC_FIXES, Table::Fixes, |f: &mut Fix| f.title = 0)
    };
}
