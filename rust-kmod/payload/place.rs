// SPDX-License-Identifier: GPL-2.0

//! Where each section goes in memory.
//!
//! The rule is that of `layout_sections()` in kernel/module/main.c, by flags and, for memory that
//! becomes read-only late, by name (`ro_after_init[]` in kernel/module/strict_rwx.c), so that what the
//! kernel does with the sections of a module (jump labels, static calls) works here as well. Within a
//! region sections follow one another ascending by index, except that the trampolines come first.

use super::{
    check::Payload,
    elf::{
        Section,
        SectionKind, //
    },
    error::{
        Error,
        Reason, //
    },
    layout::MAX_REGION,
    special::{
        JUMP_TABLE,
        STATIC_CALLS, //
    }, //
};

/// A kind of memory; the numbers are those of `enum mod_mem_type` (include/linux/module.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Region {
    /// Code, `MOD_TEXT`.
    Text = 0,
    /// Writable data, `MOD_DATA`.
    Data = 1,
    /// Read-only data, `MOD_RODATA`.
    RoData = 2,
    /// Data that is read-only once the level is loaded, `MOD_RO_AFTER_INIT`.
    RoAfterInit = 3,
}

impl Region {
    /// All regions, ascending by number.
    pub const ALL: [Region; 4] = [Self::Text, Self::Data, Self::RoData, Self::RoAfterInit];

    /// The number in `enum mod_mem_type`, 0 to 3.
    pub const fn index(self) -> usize {
        // CAST: widening; the enum is `repr(u32)`.
        self as usize
    }

    /// The region of a section; `None` if it takes no memory.
    pub fn of(section: &Section<'_>) -> Option<Self> {
        let late = [".data..ro_after_init", JUMP_TABLE, STATIC_CALLS];
        if !section.is_alloc() {
            None
        } else if section.is_exec() {
            Some(Self::Text)
        } else if !section.is_write() {
            Some(Self::RoData)
        } else if late.contains(&section.name) {
            Some(Self::RoAfterInit)
        } else {
            Some(Self::Data)
        }
    }
}

/// Where a section goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The kind of memory.
    pub region: Region,
    /// Offset from the region's start in bytes.
    pub offset: u64,
}

/// Size and alignment of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Size in bytes, 0 to [`MAX_REGION`]; [`Region::Text`] is never empty.
    pub size: u64,
    /// Largest alignment of a section in it, 1 or more.
    pub align: u64,
}

impl Extent {
    const EMPTY: Self = Self { size: 0, align: 1 };

    /// Takes a section in at the end and returns its offset.
    fn push(&mut self, section: &Section<'_>) -> u64 {
        // Neither can overflow: there are at most 4096 sections of at most 24 MiB each.
        let mask = section.align.saturating_sub(1);
        let offset = self.size.saturating_add(mask) & !mask;
        self.size = offset.saturating_add(section.size);
        self.align = self.align.max(section.align);
        offset
    }
}

/// The size of each region of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    regions: [Extent; 4],
}

impl Layout {
    /// Lays a payload out.
    ///
    /// # Errors
    ///
    /// [`Reason::RegionSize`] with the first section that makes its region too large.
    pub fn of(payload: &Payload<'_>) -> Result<Self, Error> {
        let mut slots = slots(payload);
        while let Some((section, slot)) = slots.next() {
            if slots.layout.extent(slot.region).size > MAX_REGION {
                return Err(Error::section(Reason::RegionSize, section.index));
            }
        }
        Ok(slots.layout)
    }

    /// Size and alignment of a region.
    pub fn extent(&self, region: Region) -> Extent {
        self.regions
            .get(region.index())
            .copied()
            .unwrap_or(Extent::EMPTY)
    }
}

/// Every section that takes memory, with its slot: the trampolines, then the others ascending by index.
pub fn slots<'a>(payload: &Payload<'a>) -> Slots<'a> {
    Slots {
        payload: *payload,
        next: 0,
        layout: Layout {
            regions: [Extent::EMPTY; 4],
        },
    }
}

/// Iterator of [`slots`].
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a> {
    payload: Payload<'a>,
    /// Index of the next section to look at; 0 stands for the trampolines.
    next: u32,
    layout: Layout,
}

impl<'a> Iterator for Slots<'a> {
    type Item = (Section<'a>, Slot);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let first = self.next == 0;
            let section = if first {
                self.payload.trampolines()?
            } else {
                self.payload.section(self.next)?
            };
            self.next = self.next.saturating_add(1);
            if !first && self.payload.is_trampolines(&section) {
                continue;
            }
            let Some(region) = Region::of(&section) else {
                continue;
            };
            let extent = self.layout.regions.get_mut(region.index())?;
            let offset = extent.push(&section);
            return Some((section, Slot { region, offset }));
        }
    }
}

/// Whether a section's memory is filled from the file; otherwise it is filled with zeroes.
pub fn has_content(section: &Section<'_>) -> bool {
    section.kind == SectionKind::ProgBits
}
