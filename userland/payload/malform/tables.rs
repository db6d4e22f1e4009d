// SPDX-License-Identifier: GPL-2.0

//! The manifest, the tables and the trampolines.

use kcare_payload::elf::{
    SectionHeader, SymbolEntry, SHF_ALLOC, SHF_EXECINSTR, SHN_ABS, SHN_UNDEF, SHT_NOBITS,
};
use kcare_payload::error::{Place, Table};
use kcare_payload::layout::{
    Callback, Extern, Fix, Func, Manifest, Object, State, MANIFEST_FLAGS, MAX_FUNC_SIZE,
    SEC_CALLBACKS, SEC_EXTERNS, SEC_FIXES, SEC_FUNCS, SEC_MANIFEST, SEC_OBJECTS, SEC_PART,
    SEC_PREIMAGES, SEC_STATES, SEC_STRINGS, SEC_TRAMPOLINES, TRAMPOLINE_FILL, TRAMPOLINE_SIZE,
};

use super::image::{content, edit, table, Image, Made, Record};
use super::{at_section, cases};

/// The place of an entry.
fn at(table: Table, index: u32) -> Option<Place> {
    Some(Place::Entry { table, index })
}

/// Changes the manifest; `field` is the offset in its section that must be named.
fn manifest(image: &Image, field: u32, change: impl FnOnce(&mut Manifest)) -> Option<Made> {
    edit(image, |image| {
        image.manifest(change)?;
        at(Table::Manifest, field)
    })
}

/// Changes a count in the manifest, so that the section with a name does not fit it.
fn count(image: &Image, name: &str, change: impl FnOnce(&mut Manifest)) -> Option<Made> {
    edit(image, |image| {
        image.manifest(change)?;
        at_section(image.named(name)?)
    })
}

/// Overwrites bytes of the manifest's section.
fn manifest_bytes(image: &Image, offset: u32, bytes: &[u8]) -> Option<Made> {
    edit(image, |image| {
        image.section(SEC_MANIFEST)?.put(offset as usize, bytes);
        at(Table::Manifest, offset)
    })
}

/// Changes the first entry of a table.
fn first<T: Record>(
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

/// Changes the first function.
fn func(image: &Image, change: impl FnOnce(&mut Func)) -> Option<Made> {
    first(image, SEC_FUNCS, Table::Funcs, change)
}

/// Changes the first external symbol.
fn external(image: &Image, change: impl FnOnce(&mut Extern)) -> Option<Made> {
    first(image, SEC_EXTERNS, Table::Externs, change)
}

/// Changes object 0.
fn vmlinux(image: &Image, change: impl FnOnce(&mut Object)) -> Option<Made> {
    first(image, SEC_OBJECTS, Table::Objects, change)
}

/// Turns a table into ordinary read-only data, so that the table is missing.
fn missing(image: &Image, name: &str, place: Place) -> Option<Made> {
    edit(image, |image| {
        let rodata = image.add_section_name(".rodata.more");
        let section = image.section(name)?;
        section.header.name = rodata;
        section.header.flags = SHF_ALLOC;
        Some(place)
    })
}

/// Adds a copy of a section.
fn twice(image: &Image, name: &str) -> Option<Made> {
    edit(image, |image| {
        let copy = image.section(name)?.clone();
        let index = image.push(name, copy.header, copy.data);
        at_section(index)
    })
}

/// Cuts bytes off a table's end, whatever the manifest says.
fn shorten(image: &Image, name: &str, bytes: usize) -> Option<Made> {
    edit(image, |image| {
        let data = &mut image.section(name)?.data;
        data.truncate(data.len().checked_sub(bytes)?);
        at_section(image.named(name)?)
    })
}

/// Appends zeroes to a table, whatever the manifest says.
fn lengthen(image: &Image, name: &str, bytes: usize) -> Option<Made> {
    edit(image, |image| {
        let data = &mut image.section(name)?.data;
        data.resize(data.len() + bytes, 0);
        at_section(image.named(name)?)
    })
}

/// Sets the last byte of the first entry of a table whose entries end with a reserved field.
fn reserved<T: Record>(image: &Image, name: &str, table: Table) -> Option<Made> {
    edit(image, |image| {
        let section = image.section(name)?;
        section.get::<T>(0)?;
        section.put(T::LEN - 1, &[0x80]);
        at(table, 0)
    })
}

/// Adds a copy of the last function, changed, with a pre-image and a trampoline of its own.
fn more_func(image: &Image, change: impl FnOnce(&mut Func)) -> Option<Made> {
    edit(image, |image| {
        let funcs = image.section(SEC_FUNCS)?;
        let mut func: Func = funcs.get(funcs.len::<Func>() - 1)?;
        let start = func.preimage as usize;
        let end = start + 2 * func.size as usize;
        change(&mut func);

        let preimages = &mut image.section(SEC_PREIMAGES)?.data;
        func.preimage = u32::try_from(preimages.len()).ok()?;
        preimages.extend_from_within(start..end);
        let preimage_bytes = u32::try_from(preimages.len()).ok()?;
        let index = image.section(SEC_FUNCS)?.push(&func);
        image.manifest(|m| {
            m.nr_funcs += 1;
            m.preimage_bytes = preimage_bytes;
        })?;
        let trampolines = &mut image.section(SEC_TRAMPOLINES)?.data;
        trampolines.resize(trampolines.len() + TRAMPOLINE_SIZE, TRAMPOLINE_FILL);
        at(Table::Funcs, index)
    })
}

/// Adds objects with these names and the build-id of object 0; the last one must be refused.
fn more_objects(image: &Image, names: &[&str]) -> Option<Made> {
    edit(image, |image| {
        let mut last = 0;
        for name in names {
            let mut object: Object = image.section(SEC_OBJECTS)?.get(0)?;
            object.name = image.add_string(name)?;
            object.note = 0x34;
            last = image.section(SEC_OBJECTS)?.push(&object);
            image.manifest(|m| m.nr_objects += 1)?;
        }
        at(Table::Objects, last)
    })
}

/// Replaces the callbacks by ones of these kinds, all with the first replacement; the last one is changed,
/// and must be refused.
fn callbacks(image: &Image, kinds: &[u32], change: impl FnOnce(&mut Callback)) -> Option<Made> {
    edit(image, |image| {
        let symbol = image.section(SEC_FUNCS)?.get::<Func>(0)?.symbol;
        let all = kinds.iter().map(|&kind| Callback {
            kind,
            symbol,
            reserved: 0,
        });
        let last = replace(image, SEC_CALLBACKS, all, change)?;
        image.manifest(|m| m.nr_callbacks = last + 1)?;
        at(Table::Callbacks, last)
    })
}

/// Replaces the states by ones with these ids; the last one is changed, and must be refused.
fn states(image: &Image, ids: &[u64], change: impl FnOnce(&mut State)) -> Option<Made> {
    edit(image, |image| {
        let all = ids.iter().map(|&id| State {
            id,
            version: 1,
            reserved: 0,
        });
        let last = replace(image, SEC_STATES, all, change)?;
        image.manifest(|m| m.nr_states = last + 1)?;
        at(Table::States, last)
    })
}

/// Replaces a table, changes its last entry, and returns the index of that.
fn replace<T: Record>(
    image: &mut Image,
    name: &str,
    all: impl Iterator<Item = T>,
    change: impl FnOnce(&mut T),
) -> Option<u32> {
    let section = image.section(name)?;
    section.data.clear();
    let last = all.map(|record| section.push(&record)).last()?;
    section.change(last, change)?;
    Some(last)
}

/// Index of a symbol that is in memory and not a function.
fn no_function(image: &Image) -> Option<u32> {
    image.symbol(|s| s.info & 0xf != 2 && s.shndx != SHN_UNDEF && s.shndx != SHN_ABS)
}

/// Adds a function symbol over the start of a section.
fn func_symbol(image: &mut Image, section: &str, size: u64) -> Option<u32> {
    let shndx = u16::try_from(image.named(section)?).ok()?;
    let symbol = SymbolEntry {
        info: 0x12,
        shndx,
        size,
        ..Default::default()
    };
    Some(image.symbols()?.push(&symbol))
}

cases! {
    "manifest-missing" TableMissing |image| {
        missing(image, SEC_MANIFEST, at(Table::Manifest, 0)?)
    };
    "objects-missing" TableMissing |image| missing(image, SEC_OBJECTS, at(Table::Objects, 0)?);
    "funcs-missing" TableMissing |image| missing(image, SEC_FUNCS, at(Table::Funcs, 0)?);
    "externs-missing" TableMissing |image| missing(image, SEC_EXTERNS, at(Table::Externs, 0)?);
    "fixes-missing" TableMissing |image| missing(image, SEC_FIXES, at(Table::Fixes, 0)?);
    "preimages-missing" TableMissing |image| {
        missing(image, SEC_PREIMAGES, at(Table::Preimages, 0)?)
    };
    "strings-missing" TableMissing |image| missing(image, SEC_STRINGS, at(Table::Strings, 0)?);
    "manifest-twice" TableDuplicate |image| twice(image, SEC_MANIFEST);
    "funcs-twice" TableDuplicate |image| twice(image, SEC_FUNCS);
    "strings-twice" TableDuplicate |image| twice(image, SEC_STRINGS);
    "table-of-the-future" TableUnknown |image| edit(image, |image| {
        let index = image.push(".kcare.of_the_future", super::image::table(), vec![0; 16]);
        at_section(index)
    });
    "table-in-memory" TableForm |image| edit(image, |image| {
        image.section(SEC_FUNCS)?.header.flags = SHF_ALLOC;
        at_section(image.named(SEC_FUNCS)?)
    });
    "table-of-zeroes" TableForm |image| edit(image, |image| {
        let section = image.section(SEC_PREIMAGES)?;
        section.header.kind = SHT_NOBITS;
        section.header.flags = SHF_ALLOC;
        at_section(image.named(SEC_PREIMAGES)?)
    });

    "manifest-empty" TableSize |image| {
        let section = &image[image.named(SEC_MANIFEST)? as usize];
        shorten(image, SEC_MANIFEST, section.data.len())
    };
    "manifest-torn" TableSize |image| shorten(image, SEC_MANIFEST, 1);
    "manifest-longer" TableSize |image| lengthen(image, SEC_MANIFEST, 8);
    "objects-torn" TableSize |image| shorten(image, SEC_OBJECTS, 1);
    "objects-shorter" TableSize |image| shorten(image, SEC_OBJECTS, Object::LEN);
    "funcs-torn" TableSize |image| shorten(image, SEC_FUNCS, 1);
    "funcs-shorter" TableSize |image| shorten(image, SEC_FUNCS, Func::LEN);
    "funcs-longer" TableSize |image| lengthen(image, SEC_FUNCS, Func::LEN);
    "externs-torn" TableSize |image| shorten(image, SEC_EXTERNS, 1);
    "externs-shorter" TableSize |image| shorten(image, SEC_EXTERNS, Extern::LEN);
    "fixes-longer" TableSize |image| lengthen(image, SEC_FIXES, Fix::LEN);
    "callbacks-longer" TableSize |image| lengthen(image, SEC_CALLBACKS, Callback::LEN);
    "callbacks-torn" TableSize |image| lengthen(image, SEC_CALLBACKS, 3);
    "states-longer" TableSize |image| lengthen(image, SEC_STATES, State::LEN);
    "fixes-one-byte-more" TableSize |image| lengthen(image, SEC_FIXES, 1);
    "preimages-torn" TableSize |image| shorten(image, SEC_PREIMAGES, 1);
    "strings-torn" TableSize |image| shorten(image, SEC_STRINGS, 1);
    "count-of-objects" TableSize |image| count(image, SEC_OBJECTS, |m| m.nr_objects += 1);
    "count-of-funcs" TableSize |image| count(image, SEC_FUNCS, |m| m.nr_funcs += 1);
    "count-of-externs" TableSize |image| count(image, SEC_EXTERNS, |m| m.nr_externs += 1);
    "count-of-fixes" TableSize |image| count(image, SEC_FIXES, |m| m.nr_fixes += 1);
    "count-of-preimage-bytes" TableSize |image| {
        count(image, SEC_PREIMAGES, |m| m.preimage_bytes = u32::MAX)
    };
    "count-of-string-bytes" TableSize |image| {
        count(image, SEC_STRINGS, |m| m.string_bytes = u32::MAX)
    };
    "count-of-objects-max" TableCount |image| manifest(image, 40, |m| m.nr_objects = u32::MAX);
    "count-of-funcs-max" TableCount |image| manifest(image, 44, |m| m.nr_funcs = u32::MAX);
    "count-of-externs-max" TableCount |image| manifest(image, 48, |m| m.nr_externs = u32::MAX);
    "count-of-callbacks-max" TableCount |image| manifest(image, 64, |m| m.nr_callbacks = u32::MAX);
    "count-of-states-max" TableCount |image| manifest(image, 68, |m| m.nr_states = u32::MAX);
    "count-of-parts-max" TableCount |image| manifest(image, 72, |m| m.nr_parts = u32::MAX);
    "count-of-parts" TableCount |image| manifest(image, 72, |m| m.nr_parts += 1);
    "count-of-fixes-max" TableCount |image| manifest(image, 52, |m| m.nr_fixes = u32::MAX);
    "count-of-funcs-above-limit" TableCount |image| manifest(image, 44, |m| m.nr_funcs = 8193);
    "manifest-magic" ManifestMagic |image| {
        let (file, _) = manifest_bytes(image, 6, b"M")?;
        Some((file, at(Table::Manifest, 0)?))
    };
    "manifest-version-zero" ManifestVersion |image| manifest(image, 8, |m| m.version = 0);
    "manifest-version-next" ManifestVersion |image| manifest(image, 8, |m| m.version += 1);
    "manifest-size-zero" ManifestSize |image| manifest(image, 12, |m| m.size = 0);
    "manifest-size-max" ManifestSize |image| manifest(image, 12, |m| m.size = u32::MAX);
    "manifest-level-zero" ManifestLevel |image| manifest(image, 16, |m| m.level = 0);
    "manifest-flags" ManifestFlags |image| manifest(image, 20, |m| m.flags = MANIFEST_FLAGS + 1);
    "manifest-flags-highest-bit" ManifestFlags |image| manifest(image, 20, |m| m.flags = 1 << 31);
    "manifest-reserved-first" Reserved |image| manifest(image, 92, |m| m.reserved = 1);
    "manifest-reserved-last" Reserved |image| manifest(image, 92, |m| m.reserved = 1 << 31);
    "manifest-floor" ManifestFloor |image| manifest(image, 88, |m| m.floor = m.level + 1);
    "manifest-floor-max" ManifestFloor |image| manifest(image, 88, |m| m.floor = u32::MAX);
    "manifest-target-outside" ManifestTarget |image| {
        let objects = image.manifest_now()?.nr_objects;
        manifest(image, 76, |m| m.target = objects)
    };
    "manifest-target-max" ManifestTarget |image| manifest(image, 76, |m| m.target = u32::MAX);
    "no-functions" NoFunctions |image| edit(image, |image| {
        image.section(SEC_FUNCS)?.data.clear();
        image.section(SEC_PREIMAGES)?.data.clear();
        image.section(SEC_CALLBACKS)?.data.clear();
        image.manifest(|m| {
            m.nr_callbacks = 0;
            m.nr_funcs = 0;
            m.preimage_bytes = 0;
        })?;
        at(Table::Manifest, 44)
    });

    "objects-none" ObjectFirst |image| edit(image, |image| {
        image.section(SEC_OBJECTS)?.data.clear();
        image.manifest(|m| m.nr_objects = 0)?;
        at(Table::Objects, 0)
    });
    "object-zero-a-module" ObjectFirst |image| edit(image, |image| {
        let name = image.add_string("ext4")?;
        image.section(SEC_OBJECTS)?.change(0, |o: &mut Object| o.name = name)?;
        at(Table::Objects, 0)
    });
    "object-vmlinux-note" ObjectNote |image| vmlinux(image, |o| o.note = 1);
    "object-module-no-note" ObjectNote |image| edit(image, |image| {
        let mut object: Object = image.section(SEC_OBJECTS)?.get(0)?;
        object.name = image.add_string("zzz_one")?;
        let last = image.section(SEC_OBJECTS)?.push(&object);
        image.manifest(|m| m.nr_objects += 1)?;
        at(Table::Objects, last)
    });
    "object-vmlinux-again" ObjectName |image| more_objects(image, &["vmlinux"]);
    "object-name-path" ObjectName |image| more_objects(image, &["a/b"]);
    "object-name-dash" ObjectName |image| more_objects(image, &["nf-tables"]);
    "object-name-too-long" StringTooLong |image| more_objects(image, &[&"m".repeat(56)]);
    "object-twice" ObjectOrder |image| more_objects(image, &["zzz_one", "zzz_one"]);
    "object-order" ObjectOrder |image| more_objects(image, &["zzz_two", "zzz_one"]);
    "build-id-none" ObjectBuildId |image| vmlinux(image, |o| {
        o.build_id_len = 0;
        o.build_id = [0; 20];
    });
    "build-id-short" ObjectBuildId |image| vmlinux(image, |o| {
        o.build_id_len = 3;
        o.build_id[3..].fill(0);
    });
    "build-id-long" ObjectBuildId |image| vmlinux(image, |o| o.build_id_len = 21);
    "build-id-max" ObjectBuildId |image| vmlinux(image, |o| o.build_id_len = u32::MAX);
    "build-id-rest" ObjectBuildId |image| vmlinux(image, |o| {
        o.build_id_len = 8;
        o.build_id = [1; 20];
    });

    "func-reserved" Reserved |image| reserved::<Func>(image, SEC_FUNCS, Table::Funcs);
    "func-flags" FuncFlags |image| func(image, |f| f.flags = 1);
    "func-object-outside" FuncObject |image| {
        let objects = image.manifest_now()?.nr_objects;
        func(image, |f| f.object = objects)
    };
    "func-object-max" FuncObject |image| func(image, |f| f.object = u32::MAX);
    "func-region-data" FuncRegion |image| func(image, |f| f.region = 1);
    "func-region-max" FuncRegion |image| func(image, |f| f.region = u32::MAX);
    "func-size-zero" FuncSize |image| func(image, |f| f.size = 0);
    "func-size-above-limit" FuncSize |image| func(image, |f| f.size = MAX_FUNC_SIZE + 1);
    "func-size-max" FuncSize |image| func(image, |f| f.size = u32::MAX);
    "func-offset-max" FuncRange |image| func(image, |f| f.offset = u64::MAX);
    "func-offset-wraps" FuncRange |image| {
        func(image, |f| f.offset = u64::from(f.size - 1).wrapping_neg())
    };
    "func-twice" FuncOrder |image| more_func(image, |_| {});
    "func-order" FuncOrder |image| more_func(image, |f| f.offset = f.offset.saturating_sub(1));
    "func-overlap" FuncOverlap |image| more_func(image, |f| f.offset += 1);
    "func-overlap-by-one" FuncOverlap |image| {
        more_func(image, |f| f.offset += u64::from(f.size) - 1)
    };
    "func-cold-without-size" FuncCold |image| func(image, |f| {
        (f.cold_offset, f.cold_size) = (1, 0)
    });
    "func-cold-without-place" FuncCold |image| func(image, |f| {
        (f.cold_offset, f.cold_size) = (0, 1)
    });
    "func-cold-too-large" FuncCold |image| func(image, |f| {
        (f.cold_offset, f.cold_size) = (1, MAX_FUNC_SIZE + 1)
    });
    "func-cold-wraps" FuncCold |image| func(image, |f| {
        (f.cold_offset, f.cold_size) = (u64::MAX, 1)
    });
    "func-cold-in-itself" FuncCold |image| func(image, |f| {
        (f.cold_offset, f.cold_size) = (f.offset + u64::from(f.size) - 1, 1)
    });
    "func-cold-over-itself" FuncCold |image| func(image, |f| {
        (f.cold_offset, f.cold_size) = (f.offset + 1, f.size)
    });
    "func-cold-twice" FuncCold |image| edit(image, |image| {
        // Far behind everything, and the same for both.
        let cold = |f: &mut Func| (f.cold_offset, f.cold_size) = (1 << 40, 16);
        let funcs = image.section(SEC_FUNCS)?;
        if funcs.len::<Func>() < 2 {
            return None;
        }
        funcs.change(0, cold)?;
        funcs.change(1, cold)?;
        at(Table::Funcs, 1)
    });
    "func-fentry-one" FuncFentry |image| func(image, |f| f.fentry = 1);
    "func-fentry-five" FuncFentry |image| func(image, |f| f.fentry = 5);
    "func-fentry-max" FuncFentry |image| func(image, |f| f.fentry = u32::MAX);
    "func-fentry-no-room" FuncFentry |image| func(image, |f| {
        f.fentry = 4;
        f.size = 8;
    });
    "func-symbol-zero" FuncSymbol |image| func(image, |f| f.symbol = 0);
    "func-symbol-max" FuncSymbol |image| func(image, |f| f.symbol = u32::MAX);
    "func-symbol-undefined" FuncSymbol |image| {
        let undefined = image.symbol(|s| s.shndx == SHN_UNDEF)?;
        func(image, |f| f.symbol = undefined)
    };
    "func-symbol-no-function" FuncSymbol |image| {
        let symbol = no_function(image)?;
        func(image, |f| f.symbol = symbol)
    };
    "func-symbol-in-data" FuncSymbol |image| edit(image, |image| {
        image.push(".rodata.more", content(0, 8), vec![0; 16]);
        let symbol = func_symbol(image, ".rodata.more", 16)?;
        image.section(SEC_FUNCS)?.change(0, |f: &mut Func| f.symbol = symbol)?;
        at(Table::Funcs, 0)
    });
    "func-symbol-without-code" FuncSymbol |image| edit(image, |image| {
        image.push(".text.more", content(SHF_EXECINSTR, 8), vec![0x90; 16]);
        let symbol = func_symbol(image, ".text.more", 0)?;
        image.section(SEC_FUNCS)?.change(0, |f: &mut Func| f.symbol = symbol)?;
        at(Table::Funcs, 0)
    });
    "func-symbol-in-trampolines" FuncSymbol |image| edit(image, |image| {
        let symbol = func_symbol(image, SEC_TRAMPOLINES, 32)?;
        image.section(SEC_FUNCS)?.change(0, |f: &mut Func| f.symbol = symbol)?;
        at(Table::Funcs, 0)
    });
    "func-preimage-later" FuncPreimage |image| func(image, |f| f.preimage += 1);
    "func-preimage-max" FuncPreimage |image| func(image, |f| f.preimage = u32::MAX);
    "func-preimage-too-long" FuncPreimage |image| edit(image, |image| {
        let funcs = image.section(SEC_FUNCS)?;
        let last = funcs.len::<Func>() - 1;
        funcs.change(last, |f: &mut Func| f.size += 1)?;
        at(Table::Funcs, last)
    });
    "preimage-rest" PreimageRest |image| edit(image, |image| {
        let preimages = &mut image.section(SEC_PREIMAGES)?.data;
        let end = u32::try_from(preimages.len()).ok()?;
        preimages.push(0);
        image.manifest(|m| m.preimage_bytes += 1)?;
        at(Table::Preimages, end)
    });
    "preimage-mask-half" PreimageMask |image| edit(image, |image| {
        let func: Func = image.section(SEC_FUNCS)?.get(0)?;
        let last = func.preimage + 2 * func.size - 1;
        image.section(SEC_PREIMAGES)?.put(last as usize, &[0x7f]);
        at(Table::Preimages, last)
    });
    "preimage-fentry-fixed" PreimageFentry |image| edit(image, |image| {
        let func: Func = image.section(SEC_FUNCS)?.get(0)?;
        let last = func.preimage + func.size + func.fentry + 4;
        image.section(SEC_PREIMAGES)?.put(last as usize, &[0xff]);
        at(Table::Preimages, last)
    });

    "extern-reserved" Reserved |image| reserved::<Extern>(image, SEC_EXTERNS, Table::Externs);
    "extern-symbol-zero" ExternSymbol |image| external(image, |e| e.symbol = 0);
    "extern-symbol-max" ExternSymbol |image| external(image, |e| e.symbol = u32::MAX);
    "extern-symbol-defined" ExternSymbol |image| {
        let symbol = image.symbol(|s| s.shndx != SHN_UNDEF)?;
        external(image, |e| e.symbol = symbol)
    };
    "extern-twice" ExternOrder |image| edit(image, |image| {
        let externs = image.section(SEC_EXTERNS)?;
        let first: Extern = externs.get(0)?;
        externs.change(1, |e: &mut Extern| e.symbol = first.symbol)?;
        at(Table::Externs, 1)
    });
    "extern-order" ExternOrder |image| edit(image, |image| {
        let externs = image.section(SEC_EXTERNS)?;
        let (first, second): (Extern, Extern) = (externs.get(0)?, externs.get(1)?);
        externs.set(0, &second);
        externs.set(1, &first);
        at(Table::Externs, 1)
    });
    "extern-nameless" ExternName |image| edit(image, |image| {
        let first: Extern = image.section(SEC_EXTERNS)?.get(0)?;
        image.symbols()?.change(first.symbol, |s: &mut SymbolEntry| s.name = 0)?;
        at(Table::Externs, 0)
    });
    "extern-object-outside" ExternObject |image| {
        let objects = image.manifest_now()?.nr_objects;
        external(image, |e| e.object = objects)
    };
    "extern-object-max" ExternObject |image| external(image, |e| e.object = u32::MAX - 1);
    "extern-region-of-vmlinux" ExternRegion |image| external(image, |e| {
        e.object = 0;
        e.region = 1;
    });
    "extern-region-max" ExternRegion |image| external(image, |e| e.region = u32::MAX);
    "extern-missing" ExternMissing |image| edit(image, |image| {
        let externs = image.section(SEC_EXTERNS)?;
        let last: Extern = externs.get(externs.len::<Extern>().checked_sub(1)?)?;
        let len = externs.data.len() - Extern::LEN;
        externs.data.truncate(len);
        image.manifest(|m| m.nr_externs -= 1)?;
        Some(Place::Symbol(last.symbol))
    });
    "extern-without-entry" ExternMissing |image| edit(image, |image| {
        let name = image.symbols()?.get::<SymbolEntry>(1)?.name.max(1);
        let symbol = SymbolEntry { name, info: 0x10, ..Default::default() };
        Some(Place::Symbol(image.symbols()?.push(&symbol)))
    });

    "callback-kind" CallbackKind |image| callbacks(image, &[4], |_| {});
    "callback-kind-max" CallbackKind |image| callbacks(image, &[u32::MAX], |_| {});
    "callback-twice" CallbackOrder |image| callbacks(image, &[1, 1], |_| {});
    "callback-order" CallbackOrder |image| callbacks(image, &[0, 3, 2], |_| {});
    "callback-reserved" Reserved |image| callbacks(image, &[0], |c| c.reserved = 1);
    "callback-symbol-max" CallbackSymbol |image| callbacks(image, &[2], |c| c.symbol = u32::MAX);
    "callback-symbol-no-function" CallbackSymbol |image| {
        let symbol = no_function(image)?;
        callbacks(image, &[0, 1], |c| c.symbol = symbol)
    };
    "callback-symbol-undefined" CallbackSymbol |image| {
        let undefined = image.symbol(|s| s.shndx == SHN_UNDEF)?;
        callbacks(image, &[3], |c| c.symbol = undefined)
    };
    "state-twice" StateOrder |image| states(image, &[5, 5], |_| {});
    "state-order" StateOrder |image| states(image, &[5, 6, 0], |_| {});
    "state-reserved" Reserved |image| states(image, &[5], |s| s.reserved = 1);
    "part-in-memory" PartForm |image| edit(image, |image| {
        let name = format!("{SEC_PART}ext4");
        let index = image.push(&name, content(0, 16), vec![0; 64]);
        at_section(index)
    });

    "part-align" PartAlign |image| edit(image, |image| {
        let name = format!("{SEC_PART}ext4");
        let header = SectionHeader { addralign: 4, ..table() };
        let index = image.push(&name, header, vec![0; 64]);
        at_section(index)
    });

    "fix-reserved" Reserved |image| reserved::<Fix>(image, SEC_FIXES, Table::Fixes);

    "trampolines-missing" TrampolinesMissing |image| {
        let mut image = image.clone();
        let name = image.add_section_name(".text.more");
        image.section(SEC_TRAMPOLINES)?.header.name = name;
        Some((image.write(), Place::Nowhere))
    };
    "trampolines-twice" TrampolinesDuplicate |image| twice(image, SEC_TRAMPOLINES);
    "trampolines-no-code" TrampolinesForm |image| edit(image, |image| {
        image.section(SEC_TRAMPOLINES)?.header.flags = SHF_ALLOC;
        at_section(image.named(SEC_TRAMPOLINES)?)
    });
    "trampolines-align" TrampolinesForm |image| edit(image, |image| {
        image.section(SEC_TRAMPOLINES)?.header.addralign = 16;
        at_section(image.named(SEC_TRAMPOLINES)?)
    });
    "trampolines-short" TrampolinesSize |image| edit(image, |image| {
        // Symbols over the trampolines would otherwise lie outside, which is found first.
        let index = u16::try_from(image.named(SEC_TRAMPOLINES)?).ok()?;
        let symbols = image.symbols()?;
        for i in 0..symbols.len::<SymbolEntry>() {
            symbols.change(i, |s: &mut SymbolEntry| {
                if s.shndx == index {
                    (s.value, s.size) = (0, 0);
                }
            })?;
        }
        image.section(SEC_TRAMPOLINES)?.data.pop();
        at_section(u32::from(index))
    });
    "trampolines-long" TrampolinesSize |image| {
        edit(image, |image| {
            let data = &mut image.section(SEC_TRAMPOLINES)?.data;
            data.resize(data.len() + TRAMPOLINE_SIZE, TRAMPOLINE_FILL);
            at_section(image.named(SEC_TRAMPOLINES)?)
        })
    };
    "trampolines-filled" TrampolinesFill |image| edit(image, |image| {
        image.section(SEC_TRAMPOLINES)?.put(31, &[0xc3]);
        at_section(image.named(SEC_TRAMPOLINES)?)
    });
}
