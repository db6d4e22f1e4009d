// SPDX-License-Identifier: GPL-2.0

//! A whole payload: what it does to vmlinux, and within that a part for each module that it patches.
//!
//! A part is a payload in itself, with its own sections, symbols and tables, because it is loaded and
//! freed with its module. It shares the level, the names and the signature of the payload around it.

use super::{
    check::{
        field,
        Payload, //
    },
    elf::Section,
    error::{
        Error,
        Reason,
        Table, //
    }, //
};
use core::ops::Range;

/// A payload whose parts are right in form as well.
///
/// # Invariants
///
/// * `outer` patches vmlinux, and names no other object.
/// * Each part patches the module that its section is named after, strictly ascending by name, and has the
///   level, build time, release, description and vmlinux of `outer`; it has no fixes, states or parts.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    outer: Payload<'a>,
}

/// The part for one module.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Name of the module.
    pub name: &'a str,
    /// What is done to it.
    pub payload: Payload<'a>,
    /// The bytes of that.
    pub body: &'a [u8],
}

/// A refusal, and the module whose part it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Why and where; the place is one within the part.
    pub error: Error,
    /// Name of the module; `None` for the payload around the parts.
    pub part: Option<&'a str>,
}

impl From<Error> for Refusal<'_> {
    fn from(error: Error) -> Self {
        Self { error, part: None }
    }
}

impl<'a> Bundle<'a> {
    /// Walks a payload without its signature and checks all of it.
    ///
    /// # Errors
    ///
    /// Those of [`Payload::parse`] for the payload, then those of this file and of [`Payload::parse`] for
    /// each part.
    pub fn parse(body: &'a [u8]) -> Result<Self, Refusal<'a>> {
        let outer = Payload::parse(body)?;
        if outer.target() != 0 {
            let (reason, table) = (Reason::ManifestTarget, Table::Manifest);
            return Err(Error::entry(reason, table, field::TARGET).into());
        }
        if outer.nr_objects() != 1 {
            return Err(Error::entry(Reason::ObjectUnused, Table::Objects, 1).into());
        }
        let mut previous = "";
        for (name, section) in outer.part_sections() {
            if name <= previous {
                return Err(Error::section(Reason::PartOrder, section.index).into());
            }
            previous = name;
            check_part(&outer, name, &section)?;
        }
        // INVARIANT: All of it has just been checked.
        Ok(Self { outer })
    }

    /// What is done to vmlinux.
    pub fn outer(&self) -> &Payload<'a> {
        &self.outer
    }

    /// The parts, ascending by name.
    pub fn parts(&self) -> impl Iterator<Item = Part<'a>> + 'a {
        self.outer.part_sections().filter_map(read_part)
    }

    /// Where the parts are in the payload, with the names of their modules, ascending by name. [`Payload::parse`] accepts
    /// what is there.
    pub fn places(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> + 'a {
        let place = |(name, section): (&'a str, Section<'a>)| {
            let start = usize::try_from(section.offset).ok()?;
            Some((name, start..start.checked_add(section.data.len())?))
        };
        self.outer.part_sections().filter_map(place)
    }

    /// The part for a module.
    pub fn part(&self, module: &str) -> Option<Part<'a>> {
        let mut sections = self.outer.part_sections();
        sections
            .find(|(name, _)| *name == module)
            .and_then(read_part)
    }
}

fn read_part<'a>((name, section): (&'a str, Section<'a>)) -> Option<Part<'a>> {
    let body = section.data;
    let payload = Payload::parse(body).ok()?;
    Some(Part {
        name,
        payload,
        body,
    })
}

fn check_part<'a>(
    outer: &Payload<'a>,
    name: &'a str,
    section: &Section<'a>,
) -> Result<(), Refusal<'a>> {
    let within = |error| Refusal {
        error,
        part: Some(name),
    };
    let around = |reason| Refusal::from(Error::section(reason, section.index));
    let part = Payload::parse(section.data).map_err(within)?;

    let target = part.object(part.target());
    if part.target() == 0 || target.map(|object| part.string(object.name)) != Some(name) {
        return Err(around(Reason::PartName));
    }
    let vmlinux = |payload: &Payload<'_>| payload.object(0).map(|o| (o.build_id, o.build_id_len));
    let same = part.level() == outer.level()
        && part.build_time() == outer.build_time()
        && part.release() == outer.release()
        && part.description() == outer.description()
        && part.manifest().not_after == outer.manifest().not_after
        && part.manifest().floor == outer.manifest().floor
        && part.manifest().all_at_once() == outer.manifest().all_at_once()
        && vmlinux(&part) == vmlinux(outer);
    if !same {
        return Err(around(Reason::PartForeign));
    }
    let manifest = part.manifest();
    if manifest.nr_fixes | manifest.nr_states | manifest.nr_parts != 0 {
        return Err(around(Reason::PartNested));
    }
    Ok(())
}
