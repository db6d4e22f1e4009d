// SPDX-License-Identifier: GPL-2.0

//! Takes away what nothing names any more: old versions of documents, target files that no channel offers, and what a
//! publisher that was killed had not finished.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use kcare_tuf::error::Role;
use kcare_tuf::file::is_temporary;
use kcare_tuf::level::TARGETS;
use kcare_tuf::metadata::Document;

use super::tree::{self, names, read_offer, version_of, Tree};

/// Removes what is older than so many hours: who began to read before a change may still ask for it.
///
/// # Errors
///
/// A repository is damaged, and then nothing of it is removed.
pub fn run(path: &Path, hours: u64) -> Result<()> {
    let tree = Tree::open(path)?;
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut old = Vec::new();
    for place in &tree.places()? {
        let offer = read_offer(path, place)?;
        let files = named.entry(place.kernel.clone()).or_default();
        for (name, target) in &offer.targets.targets {
            files.insert(tree::file_of(name, target)?);
        }
        let folder = tree.folder(place);
        for name in names(&folder)? {
            let unnamed = |role, current| version_of(&name, role).is_some_and(|v| v != current);
            if is_temporary(&name)
                || unnamed(Role::Targets, offer.targets.version())
                || unnamed(Role::Snapshot, offer.snapshot.version())
            {
                old.push(folder.join(name));
            }
        }
    }
    for (kernel, named) in &named {
        let folder = path.join(kernel).join(TARGETS);
        let all = names(&folder)?.into_iter();
        old.extend(
            all.filter(|name| !named.contains(name))
                .map(|name| folder.join(name)),
        );
    }
    let limit = SystemTime::now() - Duration::from_secs(hours.saturating_mul(3600));
    let (mut files, mut bytes) = (0, 0);
    for file in old {
        let about =
            fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if about.is_file() && about.modified()? <= limit {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
            files += 1;
            bytes += about.len();
        }
    }
    println!(
        "{}: {files} file(s) with {bytes} bytes removed",
        path.display()
    );
    Ok(())
}
