// SPDX-License-Identifier: GPL-2.0

//! Which names sections may have.
//!
//! Much of what is done to the sections of a module is done by their names, in C code that believes what it finds:
//! `find_module_sections()` (kernel/module/main.c), `module_finalize()` (arch/x86/kernel/module.c),
//! `module_bug_finalize()` (lib/bug.c). So this is a list of all names that a payload may use: tables of the kernel's,
//! each once, where and as the kernel expects them, and plain code and data, which no code takes by name. Any other name
//! is refused; one that a later kernel takes a meaning from is then no way into it.
//!
//! What the tables say is the vendor's word: an entry may lead anywhere.

use super::{
    elf::{
        Section,
        SectionKind, //
    },
    error::Reason,
    place::Region, //
};

/// A table that the kernel takes by its name.
#[derive(Clone, Copy, Debug)]
pub struct Special {
    /// Name of the section.
    pub name: &'static str,
    /// Where it is expected: what is sorted or written while a level is live must be writable then.
    pub region: Region,
    /// Size of an entry in bytes.
    pub entry: u64,
    /// Alignment that an entry needs, in bytes.
    pub align: u64,
}

const fn special(name: &'static str, region: Region, entry: u64, align: u64) -> Special {
    Special {
        name,
        region,
        entry,
        align,
    }
}

/// Exceptions that code survives: `struct exception_table_entry`.
pub const EX_TABLE: &str = "__ex_table";
/// Static branches: `struct jump_entry`.
pub const JUMP_TABLE: &str = "__jump_table";
/// Static calls: `struct static_call_site`.
pub const STATIC_CALLS: &str = ".static_call_sites";
/// Debug messages, which somebody may switch on: `struct _ddebug`.
pub const DEBUG_MESSAGES: &str = "__dyndbg";
/// Functions that are closed to probes: addresses.
pub const NO_PROBES: &str = "_kprobe_blacklist";
/// Places of fentry calls: addresses.
pub const MCOUNT: &str = "__mcount_loc";
/// Unwind entries: `struct orc_entry`.
pub const ORC: &str = ".orc_unwind";
/// Where each of them begins: relative addresses, as many as there are entries.
pub const ORC_IP: &str = ".orc_unwind_ip";

/// All of them. The sizes are asserted against the kernel's structures in shim/resident.c.
pub const SPECIAL: [Special; 14] = [
    special(".altinstructions", Region::RoData, 14, 1),
    special(".call_sites", Region::RoData, 4, 4),
    special(ORC, Region::RoData, 6, 2),
    special(ORC_IP, Region::RoData, 4, 4),
    special(".retpoline_sites", Region::RoData, 4, 4),
    special(".return_sites", Region::RoData, 4, 4),
    special(".smp_locks", Region::RoData, 4, 4),
    special(STATIC_CALLS, Region::RoAfterInit, 8, 4),
    // `BUGFLAG_DONE` is written when it has warned.
    special("__bug_table", Region::Data, 16, 4),
    // Flags are written, and each has a static key.
    special(DEBUG_MESSAGES, Region::Data, 56, 8),
    special(EX_TABLE, Region::RoData, 12, 4),
    special(JUMP_TABLE, Region::RoAfterInit, 16, 8),
    special(MCOUNT, Region::RoData, 8, 8),
    special(NO_PROBES, Region::RoData, 8, 8),
];

/// The table with this name.
pub fn special_named(name: &str) -> Option<&'static Special> {
    SPECIAL.iter().find(|special| special.name == name)
}

/// Whether a name is `base`, or `base` and a suffix.
fn is(name: &str, base: &str) -> bool {
    name.strip_prefix(base)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Checks the name of a section that takes memory.
///
/// # Errors
///
/// [`Reason::SectionUnsupported`] for a name that is not on the list, [`Reason::SectionClass`] for code or data that is not
/// what its name says; [`Reason::SpecialForm`], [`Reason::SpecialAlign`] and [`Reason::SpecialSize`] for a table.
pub(super) fn check(section: &Section<'_>) -> Result<(), Reason> {
    if let Some(special) = special_named(section.name) {
        return check_special(section, special);
    }
    // The kernel gives each CPU a copy of its own.
    if section.name.starts_with(".data..percpu") {
        return Err(Reason::SectionUnsupported);
    }
    let content = section.kind == SectionKind::ProgBits;
    let (write, exec) = (section.is_write(), section.is_exec());
    let classes = [
        (".text", content && exec),
        // Found through the entries of `.altinstructions` only.
        (".altinstr_replacement", content && exec),
        (".rodata", content && !write && !exec),
        (".data", content && write),
        (".bss", !content && write),
    ];
    match classes.iter().find(|(base, _)| is(section.name, base)) {
        None => Err(Reason::SectionUnsupported),
        Some((_, false)) => Err(Reason::SectionClass),
        Some((_, true)) => Ok(()),
    }
}

fn check_special(section: &Section<'_>, special: &Special) -> Result<(), Reason> {
    let content = section.kind == SectionKind::ProgBits;
    if !content || Region::of(section) != Some(special.region) {
        return Err(Reason::SpecialForm);
    }
    if section.align < special.align {
        return Err(Reason::SpecialAlign);
    }
    if section.size.checked_rem(special.entry) != Some(0) {
        return Err(Reason::SpecialSize);
    }
    Ok(())
}

/// Checks the name of a section that takes no memory and is none of the payload's own tables: its type has one name. The
/// kernel's C code does not always ask whether a section takes memory.
///
/// # Errors
///
/// [`Reason::SectionTitle`]; [`Reason::SectionUnknown`] for content.
pub(super) fn check_title(section: &Section<'_>, against: Option<&str>) -> Result<(), Reason> {
    let good = match section.kind {
        SectionKind::SymTab => section.name == ".symtab",
        SectionKind::StrTab => matches!(section.name, ".strtab" | ".shstrtab"),
        SectionKind::Rela => section.name.strip_prefix(".rela") == against,
        SectionKind::Null | SectionKind::ProgBits | SectionKind::NoBits => {
            return Err(Reason::SectionUnknown)
        }
    };
    match good {
        true => Ok(()),
        false => Err(Reason::SectionTitle),
    }
}
