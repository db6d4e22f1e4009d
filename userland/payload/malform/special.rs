// SPDX-License-Identifier: GPL-2.0

//! Names of sections, and what goes with them: tables that the kernel's C code takes by name.

use kcare_payload::elf::{
    SectionHeader, SymbolEntry, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS, SHT_PROGBITS,
    SHT_STRTAB,
};
use kcare_payload::error::{Place, Reason};
use kcare_payload::layout::{MAX_SYMBOL_NAMES, MAX_ZEROES};
use kcare_payload::place::Region;
use kcare_payload::special::{special_named, Special, ORC, ORC_IP};

use super::image::{add_string, content, edit, table, Image, Made};
use super::sections::zeroes;
use super::{at_section, cases, Case};

/// Flags of a table where the kernel expects it.
fn flags(special: &Special) -> u64 {
    match special.region {
        Region::RoData => 0,
        _ => SHF_WRITE,
    }
}

/// Adds a table of the kernel's, with one entry of zeroes, changed.
fn changed(
    image: &Image,
    name: &str,
    change: impl FnOnce(&mut SectionHeader, &mut Vec<u8>),
) -> Option<Made> {
    let special = special_named(name)?;
    let mut header = content(flags(special), special.align);
    let mut data = vec![0; special.entry as usize];
    change(&mut header, &mut data);
    added(image, name, header, data)
}

/// Adds a section.
fn added(image: &Image, name: &str, header: SectionHeader, data: Vec<u8>) -> Option<Made> {
    edit(image, |image| at_section(image.push(name, header, data)))
}

/// A string table that takes no memory, of 48 bytes.
fn strings(image: &Image, name: &str) -> Option<Made> {
    let header = SectionHeader {
        kind: SHT_STRTAB,
        ..table()
    };
    added(image, name, header, vec![0; 48])
}

/// Data under a name that is not on the list.
fn unsupported(image: &Image, name: &str) -> Option<Made> {
    added(image, name, content(SHF_WRITE, 8), vec![0; 32])
}

/// What can be wrong with each table that the kernel takes by name.
macro_rules! of_each {
    ($( $name:literal; )*) => { &[ $(
        Case {
            slug: concat!("no-memory-", $name),
            reason: Reason::SectionTitle,
            sooner: None,
            make: |image| strings(image, $name),
        },
        Case {
            slug: concat!("no-content-", $name),
            reason: Reason::SpecialForm,
            sooner: None,
            make: |image| changed(image, $name, |header, data| {
                (header.kind, header.size) = (SHT_NOBITS, data.len() as u64);
                data.clear();
            }),
        },
        Case {
            slug: concat!("elsewhere-", $name),
            reason: Reason::SpecialForm,
            sooner: None,
            make: |image| changed(image, $name, |header, _| header.flags ^= SHF_WRITE),
        },
        Case {
            slug: concat!("code-", $name),
            reason: Reason::SpecialForm,
            sooner: None,
            make: |image| changed(image, $name, |header, _| header.flags = SHF_ALLOC | SHF_EXECINSTR),
        },
        Case {
            slug: concat!("torn-", $name),
            reason: Reason::SpecialSize,
            sooner: None,
            make: |image| changed(image, $name, |_, data| data.push(0)),
        },
    )* ] };
}

/// Cases of each table.
pub const TABLES: &[Case] = of_each! {
    ".altinstructions";
    ".call_sites";
    ".orc_unwind";
    ".orc_unwind_ip";
    ".retpoline_sites";
    ".return_sites";
    ".smp_locks";
    ".static_call_sites";
    "__bug_table";
    "__dyndbg";
    "__ex_table";
    "__jump_table";
    "__mcount_loc";
    "_kprobe_blacklist";
};

cases! {
    "special-align-jump-table" SpecialAlign |image| {
        changed(image, "__jump_table", |header, _| header.addralign = 4)
    };
    "special-align-unwind-places" SpecialAlign |image| {
        changed(image, ".orc_unwind_ip", |header, _| header.addralign = 2)
    };
    "special-align-call-sites" SpecialAlign |image| {
        changed(image, ".static_call_sites", |header, _| header.addralign = 0)
    };
    "special-twice" SpecialDuplicate |image| edit(image, |image| {
        let lock = |image: &mut Image| image.push(".smp_locks", content(0, 4), Vec::new());
        if image.named(".smp_locks").is_none() {
            lock(image);
        }
        at_section(lock(image))
    });
    "special-twice-jump-table" SpecialDuplicate |image| edit(image, |image| {
        let jumps = |image: &mut Image| image.push("__jump_table", content(SHF_WRITE, 8), vec![0; 16]);
        if image.named("__jump_table").is_none() {
            jumps(image);
        }
        at_section(jumps(image))
    });
    "unwind-entries-alone" UnwindTables |image| edit(image, |image| {
        match image.named(ORC_IP) {
            // One place more than there are entries.
            Some(places) => {
                image[places as usize].data.extend([0; 4]);
                at_section(places)
            }
            None => at_section(image.push(ORC, content(0, 2), vec![0; 6])),
        }
    });
    "unwind-entries-fewer" UnwindTables |image| edit(image, |image| {
        let places = match image.named(ORC_IP) {
            Some(places) => places,
            None => {
                image.push(ORC, content(0, 2), Vec::new());
                image.push(ORC_IP, content(0, 4), Vec::new())
            }
        };
        image[places as usize].data.extend([0; 64 * 4]);
        at_section(places)
    });
    "class-constants-without-content" SectionClass |image| {
        added(image, ".rodata.more", SectionHeader { kind: SHT_NOBITS, size: 64, ..content(0, 8) }, Vec::new())
    };
    "class-constants-writable" SectionClass |image| {
        added(image, ".rodata.more", content(SHF_WRITE, 8), vec![0; 8])
    };
    "class-constants-code" SectionClass |image| {
        added(image, ".rodata", content(SHF_EXECINSTR, 8), vec![0; 8])
    };
    "class-late-constants-without-content" SectionClass |image| {
        let header = SectionHeader { kind: SHT_NOBITS, size: 64, ..content(SHF_WRITE, 8) };
        added(image, ".data..ro_after_init", header, Vec::new())
    };
    "class-data-read-only" SectionClass |image| added(image, ".data.more", content(0, 8), vec![0; 8]);
    "class-data-code" SectionClass |image| {
        added(image, ".data", content(SHF_EXECINSTR, 8), vec![0; 8])
    };
    "class-code-data" SectionClass |image| added(image, ".text.more", content(0, 8), vec![0; 8]);
    "class-code-writable" SectionClass |image| {
        added(image, ".text.more", content(SHF_WRITE, 8), vec![0; 8])
    };
    "class-zeroes-content" SectionClass |image| {
        added(image, ".bss.more", content(SHF_WRITE, 8), vec![0; 8])
    };
    "class-zeroes-read-only" SectionClass |image| {
        added(image, ".bss.more", SectionHeader { kind: SHT_NOBITS, size: 64, ..content(0, 8) }, Vec::new())
    };
    "unsupported-text-like" SectionUnsupported |image| unsupported(image, ".textual");
    "unsupported-cfi" SectionUnsupported |image| unsupported(image, ".cfi_sites");
    "unsupported-seal" SectionUnsupported |image| unsupported(image, ".ibt_endbr_seal");
    "unsupported-srcu" SectionUnsupported |image| unsupported(image, "___srcu_struct_ptrs");
    "unsupported-tracepoints" SectionUnsupported |image| unsupported(image, "__tracepoints_ptrs");
    "unsupported-events" SectionUnsupported |image| unsupported(image, "_ftrace_events");
    "unsupported-trace-printk" SectionUnsupported |image| unsupported(image, "__trace_printk_fmt");
    "unsupported-raw-tracepoints" SectionUnsupported |image| unsupported(image, "__bpf_raw_tp_map");
    "unsupported-error-injection" SectionUnsupported |image| {
        unsupported(image, "_error_injection_whitelist")
    };
    "unsupported-kprobe-text" SectionUnsupported |image| {
        added(image, ".kprobes.text", content(SHF_EXECINSTR, 8), vec![0x90; 8])
    };
    "unsupported-kunit" SectionUnsupported |image| unsupported(image, ".kunit_test_suites");
    "unsupported-debug-classes" SectionUnsupported |image| unsupported(image, "__dyndbg_classes");
    "unsupported-constructors" SectionUnsupported |image| unsupported(image, ".init_array");
    "unsupported-noinstr" SectionUnsupported |image| {
        added(image, ".noinstr.text", content(SHF_EXECINSTR, 8), vec![0x90; 8])
    };
    "unsupported-patchable" SectionUnsupported |image| {
        unsupported(image, "__patchable_function_entries")
    };
    "title-of-strings" SectionTitle |image| strings(image, ".cfi_sites");
    "title-of-symbols" SectionTitle |image| edit(image, |image| {
        let name = image.add_section_name("__dyndbg");
        let symtab = image.symtab()?;
        image[symtab as usize].header.name = name;
        at_section(symtab)
    });
    "title-of-relocations" SectionTitle |image| edit(image, |image| {
        let name = image.add_section_name(".rela.other");
        let rela = image.rela()?;
        image[rela as usize].header.name = name;
        at_section(rela)
    });
    "title-of-content" SectionUnknown |image| {
        added(image, "__dyndbg", SectionHeader { kind: SHT_PROGBITS, ..table() }, vec![0; 8])
    };
    "zeroes-together-too-large" ZeroesTooLarge |image| edit(image, |image| {
        zeroes(image, ".bss.one", MAX_ZEROES / 2 + 1);
        at_section(zeroes(image, ".bss.two", MAX_ZEROES / 2 + 1))
    });
    "symbol-names-too-long" SymbolNames |image| edit(image, |image| {
        let length = 1000;
        let symtab = image.symtab()?;
        let names = image[symtab as usize].header.link as usize;
        let text = image.find(|_, h| h.kind == SHT_PROGBITS && h.flags & SHF_EXECINSTR != 0)?;
        let name = add_string(&mut image[names].data, &"n".repeat(length));
        let mut sum = 0;
        for index in 1..image[symtab as usize].len::<SymbolEntry>() {
            let symbol: SymbolEntry = image[symtab as usize].get(index)?;
            let rest = image[names].data.get(symbol.name as usize..)?;
            sum += rest.iter().position(|byte| *byte == 0)?;
        }
        loop {
            let symbol = SymbolEntry {
                name,
                info: 1 << 4,
                shndx: u16::try_from(text).ok()?,
                ..SymbolEntry::default()
            };
            let index = image[symtab as usize].push(&symbol);
            sum += length;
            if sum > MAX_SYMBOL_NAMES {
                return Some(Place::Symbol(index));
            }
        }
    });
}
