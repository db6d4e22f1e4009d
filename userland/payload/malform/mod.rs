// SPDX-License-Identifier: GPL-2.0

//! Ways to make a good payload bad: each takes one thing wrong, and says which reason and place must
//! come of it.
//!
//! The table serves the tests of this crate, with a payload that they write themselves, and
//! `examples/malform.rs`, with a payload that was really built, whose output the tests in the virtual
//! machine sign and push into the kernel.

pub mod file;
pub mod image;
pub mod relocations;
pub mod sections;
pub mod special;
pub mod strings;
pub mod symbols;
pub mod tables;

use image::{Image, Made};
use kcare_payload::check::Payload;
use kcare_payload::elf::{Home, SectionKind};
use kcare_payload::error::{Error, Place, Reason};
use kcare_payload::layout::OBJECT_OUTER;
use kcare_payload::place::{self, Layout, Region, Slot};
use kcare_payload::reloc;

/// One malformation.
pub struct Case {
    /// What is wrong, in kebab case; unique.
    pub slug: &'static str,
    /// The reason for which it must be refused.
    pub reason: Reason,
    /// A reason for which the kernel may refuse it earlier, because it knows more.
    pub sooner: Option<Reason>,
    /// Makes it; `None` if the payload does not have what it takes.
    pub make: fn(&Image) -> Option<Made>,
}

/// Writes a table of cases: `"slug" Reason |image| …;`.
macro_rules! cases {
    ($( $slug:literal $reason:ident $make:expr; )*) => {
        /// The cases of this part.
        pub const CASES: &[$crate::malform::Case] = &[ $( $crate::malform::Case {
            slug: $slug,
            reason: kcare_payload::error::Reason::$reason,
            sooner: None,
            make: $make,
        }, )* ];
    };
}
pub(crate) use cases;

/// All cases, in a fixed order.
pub fn all() -> impl Iterator<Item = &'static Case> {
    file::CASES
        .iter()
        .chain(sections::CASES)
        .chain(special::CASES)
        .chain(special::TABLES)
        .chain(symbols::CASES)
        .chain(relocations::CASES)
        .chain(tables::CASES)
        .chain(strings::CASES)
        .chain(relocations::VALUES)
}

/// Where vmlinux is, for [`judge`]: its link-time base.
pub const VMLINUX: u64 = 0xffff_ffff_8100_0000;
/// Where the payload goes, for [`judge`]: in the reach of the kernel's modules.
const LEVEL: u64 = 0xffff_ffff_c000_0000;
/// Where other modules are, for [`judge`].
const MODULES: u64 = 0xffff_ffff_f000_0000;

/// Address of a payload's region, for [`judge`].
pub fn region_base(region: Region) -> u64 {
    LEVEL + ((region.index() as u64) << 27)
}

/// Base of a region of an object, for [`judge`].
pub fn object_base(object: u32, region: u32) -> u64 {
    match object {
        0 => VMLINUX,
        OBJECT_OUTER => LEVEL - (1 << 20) + (u64::from(region) << 18),
        _ => MODULES + (u64::from(object) << 20) + (u64::from(region) << 18),
    }
}

/// Does to a payload what the kernel does, up to relocation, at addresses such as the kernel has.
///
/// Returns the relocated content of every section that takes memory, by section index.
pub fn judge(body: &[u8]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let payload = Payload::parse(body)?;
    Layout::of(&payload)?;

    let mut slots: Vec<Option<Slot>> = vec![None; payload.nr_sections() as usize];
    let mut memory: Vec<Option<Vec<u8>>> = vec![None; slots.len()];
    for (section, slot) in place::slots(&payload) {
        slots[section.index as usize] = Some(slot);
        memory[section.index as usize] = Some(section.data.to_vec());
    }
    let address = |index: u32| {
        let slot = slots[index as usize].expect("a section that takes memory has a slot");
        region_base(slot.region) + slot.offset
    };

    let mut values = vec![0; payload.nr_symbols() as usize];
    for symbol in payload.symbols() {
        if let Home::Section(section) = symbol.home {
            values[symbol.index as usize] = address(section) + symbol.value;
        }
    }
    for external in payload.externs() {
        let base = object_base(external.object, external.region);
        values[external.symbol as usize] = base.wrapping_add(external.offset);
    }

    for section in payload.sections().filter(|s| s.kind == SectionKind::Rela) {
        let target = section.info;
        let content = memory[target as usize].as_mut().expect("it takes memory");
        let relocations = payload.relocations(&section);
        reloc::apply_all(
            relocations,
            section.index,
            content,
            address(target),
            &values,
        )?;
    }
    Ok(memory)
}

/// The place of a section.
pub fn at_section(index: u32) -> Option<Place> {
    Some(Place::Section(index))
}
