// SPDX-License-Identifier: GPL-2.0

//! Takes away what nothing names any more: old versions of documents, target files that no channel offers, and what a
//! publisher that was killed had not finished.
//!
//! A client may still read what was current when it began. So a document is old since the next one was written, however
//! old it is itself, and the files that it names are kept as long as it is. A slower channel with a delay
//! ([`super::promote`]) may still get a state that the faster one has left behind, which is kept for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use kcare_tuf::error::Role;
use kcare_tuf::file::is_temporary;
use kcare_tuf::level::TARGETS;
use kcare_tuf::metadata::Document;
use kcare_tuf::time::Time;
use serde_json::Value;

use super::promote::had_by_slower;
use super::tree::{names, read_json, read_offer, version_of, Offer, Place, Tree};
use super::{root_expires, targets_expire, SOON};

/// Removes what is old for more than so many hours.
///
/// # Errors
///
/// A repository is damaged, and then nothing is removed.
pub fn run(path: &Path, hours: u64, now: SystemTime) -> Result<()> {
    let tree = Tree::open(path)?;
    let mut offers = BTreeMap::new();
    let places = tree.places()?;
    for place in &places {
        offers.insert(place.clone(), read_offer(path, place)?);
    }
    warn(&tree, &offers);
    let limit = now
        .checked_sub(Duration::from_secs(hours.saturating_mul(3600)))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let mut old = Vec::new();
    let mut named: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (place, offer) in &offers {
        let folder = tree.folder(place);
        let kept = named.entry(&place.kernel).or_default();
        let have = had_by_slower(&places, &offers, place);
        for (role, current) in [
            (Role::Targets, offer.targets.version()),
            (Role::Snapshot, offer.snapshot.version()),
        ] {
            let file = |version| folder.join(role.versioned_name(version));
            let versions = names(&folder)?;
            let versions = versions.iter().filter_map(|name| version_of(name, role));
            let versions: BTreeSet<u64> = versions.collect();
            for &version in &versions {
                // What nobody has named yet has no successor.
                let mut later = versions.range(version..=current.max(version)).skip(1);
                let next = later.next();
                let since = modified(&file(*next.unwrap_or(&version)))?;
                let wanted = role == Role::Targets
                    && version < current
                    && have.is_some_and(|have| version > have);
                if version == current || since > limit || wanted {
                    if role == Role::Targets {
                        kept.extend(target_files(&file(version)));
                    }
                } else {
                    old.push(file(version));
                }
            }
        }
    }
    for (kernel, named) in &named {
        let folder = path.join(kernel).join(TARGETS);
        let all = names(&folder)?.into_iter();
        old.extend(
            all.filter(|name| !named.contains(name) && !is_temporary(name))
                .map(|name| folder.join(name)),
        );
    }
    let (mut files, mut bytes) = (0, 0);
    // Nobody writes them any more, as this has the lock, and no client asks for them.
    for left in left_unfinished(path)? {
        match left.is_dir() {
            true => fs::remove_dir_all(&left),
            false => fs::remove_file(&left),
        }
        .with_context(|| format!("cannot remove {}", left.display()))?;
        files += 1;
    }
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

/// Warns of what expires soon.
fn warn(tree: &Tree, offers: &BTreeMap<Place, Offer>) {
    let (now, mut said) = (Time::now(), BTreeSet::new());
    for (place, offer) in offers {
        if offer.root.common.expires < now.plus_days(SOON) {
            said.insert(root_expires(&offer.root, now));
        }
        if offer.targets.common.expires < now.plus_days(SOON) {
            said.insert(targets_expire(&tree.folder(place), &offer.targets, now));
        }
    }
    for said in said {
        eprintln!("kcare-build: warning: {said}");
    }
}

/// The names of the files in [`TARGETS`] that a targets document names, also if its key is another one by now; none if
/// it is damaged.
fn target_files(document: &Path) -> Vec<String> {
    let document = read_json(document).unwrap_or_default();
    let targets = document
        .pointer("/signed/targets")
        .and_then(Value::as_object);
    let file = |(name, target): (&String, &Value)| {
        let hash = target.pointer("/hashes/sha256")?.as_str()?;
        Some(format!("{hash}.{name}"))
    };
    targets.into_iter().flatten().filter_map(file).collect()
}

/// What a publisher that was killed had not finished, in a folder and below it.
fn left_unfinished(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for name in names(folder)? {
        let path = folder.join(&name);
        if is_temporary(&name) {
            out.push(path);
        } else if path.is_dir() && !path.is_symlink() {
            out.extend(left_unfinished(&path)?);
        }
    }
    Ok(out)
}

fn modified(path: &Path) -> Result<SystemTime> {
    let about = fs::metadata(path).and_then(|about| about.modified());
    about.with_context(|| format!("cannot read {}", path.display()))
}
