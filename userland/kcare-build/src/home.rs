// SPDX-License-Identifier: GPL-2.0

//! Where the code of a source file ends up in one kernel, for many files at once and without compiling any.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::compile::modules;
use crate::includes::{Includes, CACHE};
use crate::kernel::Kernel;
use crate::units::{classify, Class};
use crate::vmlinux::Vmlinux;

/// Where the code of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// It is a unit of vmlinux.
    Vmlinux,
    /// It is a unit of a module.
    Module,
    /// Units that may include it are in vmlinux or in modules; it is none itself.
    Included,
    /// This kernel is not made of it.
    Nowhere,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Home::Vmlinux => "vmlinux",
            Home::Module => "module",
            Home::Included => "included",
            Home::Nowhere => "nowhere",
        })
    }
}

/// Finds where each of these files of the source tree is.
pub fn homes(kernel: &Kernel, files: &BTreeSet<String>) -> Result<BTreeMap<String, Home>> {
    let units = Vmlinux::open(&kernel.vmlinux())?.unit_names(&kernel.source())?;
    let mut homes: BTreeMap<String, Home> = BTreeMap::new();
    let mut open = BTreeSet::new();
    for file in files {
        match classify(file) {
            Class::Source | Class::Header if units.contains(file) => {
                homes.insert(file.clone(), Home::Vmlinux);
            }
            Class::Source | Class::Header => {
                open.insert(file.clone());
            }
            Class::Irrelevant | Class::Other => {
                homes.insert(file.clone(), Home::Nowhere);
            }
        }
    }
    let includes = Includes::read(&kernel.source(), &kernel.build(), &kernel.dir.join(CACHE))?;
    let reverse = includes.reverse();
    // Who may include each of them; a unit may be unbuilt itself.
    let mut includers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    for file in &open {
        let found = reverse.includers(&BTreeSet::from([file.clone()]));
        let built = found.iter().any(|f| units.contains(f));
        let found: BTreeSet<String> = found.into_iter().filter(|f| f.ends_with(".c")).collect();
        if file.ends_with(".c") || !built {
            unknown.extend(found.iter().filter(|f| !units.contains(*f)).cloned());
        }
        includers.insert(file.clone(), found);
    }
    let modules = modules(kernel, &unknown)?;
    for file in open {
        let by = includers.remove(&file).unwrap_or_default();
        let home = if modules.contains(&file) {
            Home::Module
        } else if by.iter().any(|f| units.contains(f) || modules.contains(f)) {
            Home::Included
        } else {
            Home::Nowhere
        };
        homes.insert(file, home);
    }
    Ok(homes)
}
