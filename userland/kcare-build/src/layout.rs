// SPDX-License-Identifier: GPL-2.0

//! Where the sections of a module land in its memory.
//!
//! The same arithmetic as `layout_sections()` and `module_get_offset_and_type()` in kernel/module/main.c,
//! with the flags as `rewrite_section_headers()`, `layout_and_allocate()` and `module_mark_ro_after_init()`
//! leave them. x86 has neither small sections nor bytes in front of a section, and Debian's kernels no
//! codetags of modules.

use object::elf::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE};

/// `MOD_TEXT` of `enum mod_mem_type` (include/linux/module.h).
pub const TEXT: u32 = 0;
/// `MOD_DATA`.
pub const DATA: u32 = 1;
/// `MOD_RODATA`.
pub const RODATA: u32 = 2;
/// `MOD_RO_AFTER_INIT`.
pub const RO_AFTER_INIT: u32 = 3;
/// `MOD_INIT_TEXT`: from here on memory is freed behind the module's init.
pub const INIT_TEXT: u32 = 4;
/// `MOD_INIT_DATA`.
pub const INIT_DATA: u32 = 5;
/// `MOD_INIT_RODATA`.
pub const INIT_RODATA: u32 = 6;
/// The per-CPU area, which is none of the kernel's regions.
pub const PERCPU: u32 = 8;

/// What the layout depends on.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Section name.
    pub name: &'a str,
    /// `SHF_*`.
    pub flags: u64,
    /// Size in bytes.
    pub size: u64,
    /// Alignment in bytes; 0 is 1.
    pub align: u64,
}

/// A place in a module's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// One of the regions above.
    pub region: u32,
    /// Offset in bytes from the region's base.
    pub offset: u64,
}

/// The spot of each section, by index; sections that are not loaded have none.
pub fn layout(sections: &[Header<'_>]) -> Vec<Option<Spot>> {
    let mut spots = vec![None; sections.len()];
    // The first section of each name is special; later ones are like any other.
    let first = |name: &str| {
        sections
            .iter()
            .position(|s| s.name == name && s.flags & u64::from(SHF_ALLOC) != 0)
    };
    let percpu = first(".data..percpu");
    let dropped: Vec<usize> = [
        ".modinfo",
        "__versions",
        "__version_ext_crcs",
        "__version_ext_names",
    ]
    .into_iter()
    .filter_map(first)
    .chain(percpu)
    .collect();

    for init in [false, true] {
        let base = if init { INIT_TEXT } else { TEXT };
        let mut sizes = [0u64; 7];
        for kind in [TEXT, RODATA, RO_AFTER_INIT, DATA] {
            for (index, section) in sections.iter().enumerate() {
                if spots[index].is_some()
                    || dropped.contains(&index)
                    || !belongs(kind, section)
                    || init != section.name.starts_with(".init")
                {
                    continue;
                }
                // Init memory has no region of its own that is read-only after init.
                let region = match (init, kind) {
                    (true, RO_AFTER_INIT) => continue,
                    _ => base + kind,
                };
                let size = &mut sizes[region as usize];
                let offset = size.next_multiple_of(section.align.max(1));
                *size = offset + section.size;
                spots[index] = Some(Spot { region, offset });
            }
        }
    }
    if let Some(index) = percpu {
        spots[index] = Some(Spot {
            region: PERCPU,
            offset: 0,
        });
    }
    spots
}

/// Whether a section has the flags of a kind of memory and was not taken by a kind before it.
fn belongs(kind: u32, section: &Header<'_>) -> bool {
    let has = |flag: u32| section.flags & u64::from(flag) != 0;
    has(SHF_ALLOC)
        && match kind {
            TEXT => has(SHF_EXECINSTR),
            RODATA => !has(SHF_WRITE),
            RO_AFTER_INIT => matches!(
                section.name,
                ".data..ro_after_init" | "__jump_table" | ".static_call_sites"
            ),
            _ => has(SHF_WRITE),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u64 = SHF_ALLOC as u64;
    const AX: u64 = A | SHF_EXECINSTR as u64;
    const WA: u64 = A | SHF_WRITE as u64;

    fn spots(sections: &[(&str, u64, u64, u64)]) -> Vec<Option<(u32, u64)>> {
        let headers: Vec<Header<'_>> = sections
            .iter()
            .map(|&(name, flags, size, align)| Header {
                name,
                flags,
                size,
                align,
            })
            .collect();
        layout(&headers)
            .into_iter()
            .map(|s| s.map(|s| (s.region, s.offset)))
            .collect()
    }

    #[test]
    fn sections_follow_each_other_by_kind_in_the_order_of_the_file() {
        let found = spots(&[
            ("", 0, 0, 0),
            ("__ksymtab", A, 12, 8),
            ("__bug_table", WA, 20, 8),
            (".text", AX, 33, 64),
            (".exit.text", AX, 8, 16),
            (".rodata", A, 4, 32),
            (".bss", WA, 8, 32),
            (".symtab", 0, 100, 8),
        ]);
        assert_eq!(
            found,
            [
                None,
                Some((RODATA, 0)),
                Some((DATA, 0)),
                Some((TEXT, 0)),
                Some((TEXT, 48)),
                Some((RODATA, 32)),
                Some((DATA, 32)),
                None,
            ]
        );
    }

    #[test]
    fn init_sections_have_memory_of_their_own() {
        let found = spots(&[
            (".text", AX, 16, 16),
            (".init.text", AX, 16, 16),
            (".init.data", WA, 8, 32),
            (".init.rodata", A, 8, 8),
            (".altinstr_replacement", AX, 3, 1),
        ]);
        assert_eq!(
            found,
            [
                Some((TEXT, 0)),
                Some((INIT_TEXT, 0)),
                Some((INIT_DATA, 0)),
                Some((INIT_RODATA, 0)),
                Some((TEXT, 16)),
            ]
        );
    }

    #[test]
    fn some_names_are_special() {
        let found = spots(&[
            ("__jump_table", WA, 16, 8),
            (".data..percpu", WA, 24, 16),
            (".data..ro_after_init", WA, 4, 32),
            (".static_call_sites", WA, 8, 1),
            (".modinfo", A, 100, 1),
            (".note.gnu.build-id", A, 36, 4),
            (".data", WA, 1, 1),
        ]);
        assert_eq!(
            found,
            [
                Some((RO_AFTER_INIT, 0)),
                Some((PERCPU, 0)),
                Some((RO_AFTER_INIT, 32)),
                Some((RO_AFTER_INIT, 36)),
                None,
                Some((RODATA, 0)),
                Some((DATA, 0)),
            ]
        );
    }
}
