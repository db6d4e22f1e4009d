// SPDX-License-Identifier: GPL-2.0

//! What the comparison of two objects says, for a reader of another program.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::compare::{compare, Verdict};
use crate::obj::{Kind, Layout, Obj};
use crate::renames::Renames;
use crate::special::Special;

/// What differs between two objects of one unit.
#[derive(Debug, Serialize)]
pub struct Verdicts {
    /// Functions and variables that are new or changed, in the order of the patched object.
    pub items: Vec<Item>,
    /// Functions and variables that are gone.
    pub gone: Vec<String>,
    /// Sections that differ although no function or variable tells what for.
    pub sections: Vec<String>,
}

/// A function or variable that is new or changed.
#[derive(Debug, Serialize)]
pub struct Item {
    /// Its name in the patched object.
    pub name: String,
    /// Its other names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Whether it is a function, a part of one included.
    pub function: bool,
    /// Where it differs first; `None` if it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
}

impl Verdicts {
    /// Compares two objects, each with the source tree that it was compiled from, with sections split.
    pub fn read(old: (&Path, &Path), new: (&Path, &Path)) -> Result<Self> {
        let read = |(path, source): (&Path, &Path)| {
            Obj::read(path, source, Layout::Split)
                .with_context(|| format!("cannot read {}", path.display()))
        };
        let (old, new) = (read(old)?, read(new)?);
        let renames = Renames::default();
        let specials = (Special::read(&old)?, Special::read(&new)?);
        let diff = compare(&old, &specials.0, &new, &specials.1, &renames)?;
        let items = diff.verdicts.iter().filter_map(|(&id, verdict)| {
            let changed = match verdict {
                Verdict::Same => return None,
                Verdict::New => None,
                Verdict::Changed(what) => Some(what.clone()),
            };
            Some(Item {
                name: new.items[id].name.clone(),
                aliases: new.items[id]
                    .aliases
                    .iter()
                    .map(|alias| alias.name.clone())
                    .collect(),
                function: new.items[id].kind == Kind::Func,
                changed,
            })
        });
        Ok(Verdicts {
            items: items.collect(),
            gone: diff
                .gone
                .iter()
                .map(|&id| old.items[id].name.clone())
                .collect(),
            sections: diff.sections,
        })
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            let kind = if item.function {
                "function"
            } else {
                "variable"
            };
            match &item.changed {
                Some(what) => writeln!(f, "! {kind} {}: {what}", item.name)?,
                None => writeln!(f, "+ {kind} {}", item.name)?,
            }
        }
        for name in &self.gone {
            writeln!(f, "- {name}")?;
        }
        for section in &self.sections {
            writeln!(f, "! section {section}")?;
        }
        Ok(())
    }
}
