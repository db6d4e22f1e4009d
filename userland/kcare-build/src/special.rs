// SPDX-License-Identifier: GPL-2.0

//! The kernel's tables about code: which sections they are, and which entry belongs to which function.
//!
//! Sizes and fields are those of arch/x86/include/asm and include/linux of Linux 7.2; objtool's
//! `special.c` relies on the same facts.

use std::collections::BTreeMap;

use anyhow::{bail, ensure, Context, Result};
use kcare_payload::special::NO_PROBES;

use crate::obj::{Item, ItemId, Obj, Rel, SecId, Target};

/// What a table tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Section name.
    pub name: &'static str,
    /// Size of an entry in bytes.
    pub size: u64,
    /// Whether its entries are part of what a function does, so that a difference is a change; the
    /// others follow from the code.
    pub meaning: bool,
    /// Whether it is needed in a payload.
    pub keep: bool,
}

const fn table(name: &'static str, size: u64, meaning: bool) -> Table {
    Table {
        name,
        size,
        meaning,
        keep: true,
    }
}

/// All tables whose entries start with a reference to code.
pub const TABLES: &[Table] = &[
    // struct alt_instr: instr_offset, repl_offset, ft_flags, instrlen, replacementlen.
    table(".altinstructions", 14, true),
    // struct bug_entry with relative pointers and format (CONFIG_HAVE_ARCH_BUG_FORMAT):
    // bug_addr_disp, format_disp, file_disp, line, flags.
    table("__bug_table", 16, true),
    // struct exception_table_entry: insn, fixup, data.
    table("__ex_table", 12, true),
    // struct jump_entry: code, target, key.
    table("__jump_table", 16, true),
    // struct static_call_site: addr, key.
    table(".static_call_sites", 8, true),
    table(".smp_locks", 4, true),
    table(".retpoline_sites", 4, false),
    table(".return_sites", 4, false),
    table(".call_sites", 4, false),
    table("__mcount_loc", 8, false),
    table(NO_PROBES, 8, false),
    // The payload's functions keep their ENDBR: sealing needs a view of all references.
    Table {
        name: ".ibt_endbr_seal",
        size: 4,
        meaning: false,
        keep: false,
    },
];

/// Replacement instructions of `.altinstructions`.
pub const REPLACEMENTS: &str = ".altinstr_replacement";
/// Outlined fragments of `static_cpu_has()`.
pub const ALT_AUX: &str = ".altinstr_aux";
/// Unwind entries.
pub const ORC: &str = ".orc_unwind";
/// Addresses of the unwind entries.
pub const ORC_IP: &str = ".orc_unwind_ip";

/// One entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index into [`TABLES`].
    pub table: usize,
    /// Section of the table.
    pub sec: SecId,
    /// Offset of the entry in it.
    pub off: u64,
    /// Offset of the code that it is about, in that code's section.
    pub place: u64,
}

/// An immediate that a built-in kernel fills in at boot (include/asm-generic/runtime-const.h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConst {
    /// `ptr_USER_PTR_MAX`, `shift_d_hash_shift`.
    pub name: String,
    /// Offset of the immediate in the function.
    pub at: u64,
}

/// The tables of one object by the code that they are about.
#[derive(Debug, Default)]
pub struct Special {
    /// By section of the code, ascending by place.
    entries: BTreeMap<SecId, Vec<Entry>>,
    /// By section of the code: place, name.
    runtime: BTreeMap<SecId, Vec<(u64, String)>>,
    /// By section of the code: place, raw unwind entry.
    orc: BTreeMap<SecId, Vec<(u64, Orc)>>,
}

/// One `struct orc_entry` (arch/x86/include/asm/orc_types.h).
pub type Orc = [u8; 6];

/// `ORC_TYPE_UNDEFINED`: no unwinding from here.
pub const ORC_UNDEFINED: Orc = [0; 6];

/// The size of an entry of a table.
pub fn entry_size(section: &str) -> Option<u64> {
    TABLES.iter().find(|t| t.name == section).map(|t| t.size)
}

/// Whether a section is one of the tables that this module reads.
pub fn is_table(name: &str) -> bool {
    TABLES.iter().any(|t| t.name == name)
        || matches!(name, REPLACEMENTS | ALT_AUX | ORC | ORC_IP | ".orc_header")
        || name.starts_with("runtime_ptr_")
        || name.starts_with("runtime_shift_")
        || name.starts_with("runtime_mask_")
}

/// Whether new data in this section works like any other.
pub fn ordinary_data(section: &str) -> bool {
    let plain = |p: &str| {
        section
            .strip_prefix(p)
            .is_some_and(|r| r.is_empty() || r.starts_with('.'))
    };
    if section.starts_with(".data..percpu") || section == ALT_AUX {
        return false;
    }
    let sections = [".data", ".ref.data", ".rodata", ".bss"];
    sections.into_iter().any(plain) || section == "__dyndbg"
}

/// Whether a section never reaches the kernel's memory (`DISCARDS` in include/asm-generic/vmlinux.lds.h),
/// or only describes the object.
pub fn is_discarded(name: &str) -> bool {
    name.starts_with(".discard")
        || name.starts_with(".debug")
        || name.starts_with(".note")
        || matches!(
            name,
            // Not `.BTF_ids`, which is the kernel's.
            ".BTF"
                | ".BTF.ext"
                | ".comment"
                | "__patchable_function_entries"
                | ".export_symbol"
                | ".modinfo"
                | ".no_trim_symbol"
                | "__tracepoint_check"
        )
}

impl Special {
    /// Reads the tables of an object.
    pub fn read(obj: &Obj) -> Result<Self> {
        let mut this = Special::default();
        for (sec_id, sec) in obj.secs.iter().enumerate() {
            if let Some(index) = TABLES.iter().position(|t| t.name == sec.name) {
                this.read_table(obj, sec_id, index)?;
            } else if let Some(name) = sec.name.strip_prefix("runtime_") {
                for rel in &sec.rels {
                    let (code, place) = place_of(obj, rel)
                        .with_context(|| format!("{} refers to nothing in this unit", sec.name))?;
                    this.runtime
                        .entry(code)
                        .or_default()
                        .push((place, name.to_owned()));
                }
            }
        }
        this.read_orc(obj)?;
        for list in this.entries.values_mut() {
            list.sort_by_key(|e| (e.place, e.table, e.off));
        }
        for list in this.runtime.values_mut() {
            list.sort();
        }
        for list in this.orc.values_mut() {
            list.sort();
        }
        Ok(this)
    }

    fn read_table(&mut self, obj: &Obj, sec_id: SecId, index: usize) -> Result<()> {
        let table = &TABLES[index];
        let sec = &obj.secs[sec_id];
        ensure!(
            sec.size % table.size == 0,
            "{} has {} bytes, which is no multiple of {}",
            sec.name,
            sec.size,
            table.size
        );
        if sec.entsize > 1 && sec.entsize != table.size {
            bail!(
                "{} has entries of {} bytes, not {}",
                sec.name,
                sec.entsize,
                table.size
            );
        }
        for off in (0..sec.size).step_by(table.size as usize) {
            let first = sec.rels_in(off, off + table.size).first();
            let first = first.filter(|r| r.off == off);
            let undefined = first.is_some_and(|r| matches!(r.target, Target::Undef(_)));
            if undefined && table.name == NO_PROBES {
                // A function of another unit, of which this one has no code.
                continue;
            }
            let Some((code, place)) = first.and_then(|r| place_of(obj, r)) else {
                bail!(
                    "{}+{off:#x} does not start with a reference to code",
                    sec.name
                );
            };
            ensure!(
                obj.secs[code].exec(),
                "{}+{off:#x} is not about code",
                sec.name
            );
            let entry = Entry {
                table: index,
                sec: sec_id,
                off,
                place,
            };
            self.entries.entry(code).or_default().push(entry);
        }
        Ok(())
    }

    fn read_orc(&mut self, obj: &Obj) -> Result<()> {
        let (Some(ip), Some(orc)) = (obj.sec_by_name(ORC_IP), obj.sec_by_name(ORC)) else {
            return Ok(());
        };
        let (ip, orc) = (&obj.secs[ip], &obj.secs[orc]);
        ensure!(
            ip.size / 4 == orc.size / 6,
            "{ORC_IP} and {ORC} have different numbers of entries"
        );
        for (i, raw) in orc.data.chunks_exact(6).enumerate() {
            let off = i as u64 * 4;
            let raw: [u8; 6] = [raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]];
            let rels = ip.rels_in(off, off + 4);
            let Some((code, place)) = rels.first().and_then(|r| place_of(obj, r)) else {
                bail!("{ORC_IP}+{off:#x} refers to nothing in this unit");
            };
            self.orc.entry(code).or_default().push((place, raw));
        }
        Ok(())
    }

    /// The entries about a range of code, ascending by place.
    pub fn entries(&self, code: SecId, start: u64, end: u64) -> &[Entry] {
        let list = self.entries.get(&code).map_or(&[][..], Vec::as_slice);
        let from = list.partition_point(|e| e.place < start);
        let to = list.partition_point(|e| e.place < end);
        &list[from..to]
    }

    /// The entries about a function, ascending by place.
    pub fn entries_of(&self, item: &Item) -> &[Entry] {
        self.entries(item.sec, item.start, item.end())
    }

    /// The boot-time constants in a function.
    pub fn runtime_of(&self, item: &Item) -> Vec<RuntimeConst> {
        let list = self.runtime.get(&item.sec).map_or(&[][..], Vec::as_slice);
        list.iter()
            .filter(|(place, _)| (item.start..item.end()).contains(place))
            .map(|(place, name)| RuntimeConst {
                name: name.clone(),
                at: place - item.start,
            })
            .collect()
    }

    /// The unwind entries of a range of code, the one in force at its start included: place, raw entry.
    pub fn orc(&self, code: SecId, start: u64, end: u64) -> Vec<(u64, Orc)> {
        let list = self.orc.get(&code).map_or(&[][..], Vec::as_slice);
        let from = list.partition_point(|(place, _)| *place <= start);
        let to = list.partition_point(|(place, _)| *place < end);
        let first = from.checked_sub(1).map_or(ORC_UNDEFINED, |i| list[i].1);
        let mut out = vec![(start, first)];
        out.extend_from_slice(&list[from..to.max(from)]);
        out
    }
}

/// Section and offset that a table's reference means.
fn place_of(obj: &Obj, rel: &Rel) -> Option<(SecId, u64)> {
    match rel.target {
        Target::Item(id) => {
            let item = &obj.items[id];
            Some((item.sec, item.start.checked_add_signed(rel.addend)?))
        }
        Target::Undef(_) | Target::Abs => None,
    }
}

/// The function that an entry of [`NO_PROBES`] is about; entries of other tables about code are no items.
pub fn closed_to_probes(obj: &Obj, entry: ItemId) -> Option<ItemId> {
    match obj.rels(entry) {
        [Rel {
            target: Target::Item(function),
            ..
        }] if obj.secs[obj.items[entry].sec].name == NO_PROBES => Some(*function),
        _ => None,
    }
}

/// Bytes of the code that an alternative takes the place of; `None` for entries of other tables.
pub fn original_len(obj: &Obj, entry: &Entry) -> Option<u64> {
    (TABLES[entry.table].name == ".altinstructions")
        .then(|| u64::from(obj.secs[entry.sec].data[entry.off as usize + 12]))
}

/// The replacement of an `.altinstructions` entry: section, offset, length.
pub fn replacement(obj: &Obj, entry: &Entry) -> Result<Option<(SecId, u64, u64)>> {
    let sec = &obj.secs[entry.sec];
    let len = u64::from(sec.data[entry.off as usize + 13]);
    if len == 0 {
        return Ok(None);
    }
    let rels = sec.rels_in(entry.off + 4, entry.off + 8);
    let [Rel {
        target: Target::Item(id),
        addend,
        ..
    }] = rels
    else {
        bail!("{}+{:#x} has no replacement", sec.name, entry.off);
    };
    let item = &obj.items[*id];
    let start = item.start.wrapping_add_signed(*addend);
    ensure!(
        obj.secs[item.sec].name == REPLACEMENTS && start + len <= obj.secs[item.sec].size,
        "{}+{:#x} has its replacement in {}",
        sec.name,
        entry.off,
        obj.secs[item.sec].name
    );
    Ok(Some((item.sec, start, len)))
}
