// SPDX-License-Identifier: GPL-2.0

//! Units that include files by names that macros put together.
//!
//! The text does not tell which files these are. The preprocessor does: what each such unit reads is asked once per kernel
//! and kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;

use crate::compile::{modules, parallel, Compiler};
use crate::kernel::Kernel;

/// First line of the kept answers; another one if their format or meaning changes.
const FORMAT: &str = "kcare-computed 1\n";

/// The units among `candidates` that read one of the `changed` files; `units` are those of vmlinux.
pub fn reading(
    kernel: &Kernel,
    compiler: &Compiler<'_>,
    candidates: &BTreeSet<String>,
    units: &BTreeSet<String>,
    changed: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    if candidates.is_empty() {
        return Ok(BTreeSet::new());
    }
    let cache = kernel.dir.join("kcare-computed");
    let mut known = load(&cache);
    let unknown: BTreeSet<String> = candidates
        .iter()
        .filter(|unit| !known.contains_key(*unit))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        known.extend(ask(kernel, compiler, &unknown, units)?);
        save(&cache, &known);
    }
    let reads = |unit: &&String| {
        let files = known.get(*unit);
        files.is_some_and(|files| files.iter().any(|f| changed.contains(f)))
    };
    Ok(candidates.iter().filter(reads).cloned().collect())
}

/// What these units read; those that are not built read nothing.
fn ask(
    kernel: &Kernel,
    compiler: &Compiler<'_>,
    unknown: &BTreeSet<String>,
    units: &BTreeSet<String>,
) -> Result<Known> {
    let (builtin, elsewhere): (BTreeSet<String>, BTreeSet<String>) = unknown
        .iter()
        .cloned()
        .partition(|unit| units.contains(unit));
    let modular = modules(kernel, &elsewhere)?;
    let built = compiler.units(&builtin.union(&modular).cloned().collect())?;
    let found: BTreeMap<String, BTreeSet<String>> = unknown
        .iter()
        .map(|unit| (unit.clone(), BTreeSet::new()))
        .collect();
    let found = Mutex::new(found);
    let source = kernel.source();
    parallel(&built, |unit| {
        let files = compiler.reads(unit)?;
        let files = files
            .iter()
            .filter_map(|path| within(&source, path))
            .collect();
        let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
        found.insert(unit.source.clone(), files);
        Ok(())
    })?;
    Ok(found.into_inner().unwrap_or_else(|e| e.into_inner()))
}

/// The name of a file in a tree, with `..` resolved.
pub fn within(tree: &Path, path: &Path) -> Option<String> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain.strip_prefix(tree).ok()?.to_str().map(str::to_owned)
}

/// For each of some units or programs: what it reads.
pub type Known = BTreeMap<String, BTreeSet<String>>;

/// Reads kept answers; there are none if the file is not whole.
pub fn load(cache: &Path) -> Known {
    let text = fs::read_to_string(cache).ok();
    text.and_then(|text| parse(&text)).unwrap_or_default()
}

/// Keeps answers; losing them costs some runs of the preprocessor, nothing else.
pub fn save(cache: &Path, known: &Known) {
    let temporary = cache.with_extension(std::process::id().to_string());
    if fs::write(&temporary, print(known))
        .and_then(|()| fs::rename(&temporary, cache))
        .is_err()
    {
        let _ = fs::remove_file(&temporary);
    }
}

fn print(known: &Known) -> String {
    let mut text = FORMAT.to_owned();
    for (unit, files) in known {
        text.push_str(unit);
        for file in files {
            text.push('\t');
            text.push_str(file);
        }
        text.push('\n');
    }
    text.push_str("end\n");
    text
}

fn parse(text: &str) -> Option<Known> {
    let text = text.strip_prefix(FORMAT)?.strip_suffix("end\n")?;
    text.lines()
        .map(|line| {
            let mut words = line.split('\t').map(str::to_owned);
            Some((words.next()?, words.collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_whole_or_not_at_all() {
        let files = BTreeSet::from(["a.h".to_owned(), "b.h".to_owned()]);
        let known = BTreeMap::from([
            ("x.c".to_owned(), files),
            ("y.c".to_owned(), BTreeSet::new()),
        ]);
        let text = print(&known);
        assert_eq!(parse(&text), Some(known));
        assert_eq!(parse(&text[..text.len() - 1]), None);
    }

    #[test]
    fn paths_lose_their_way_back() {
        let tree = Path::new("/s");
        let name = |path: &str| within(tree, Path::new(path));
        assert_eq!(name("/s/a/../b/c.h"), Some("b/c.h".to_owned()));
        assert_eq!(name("/t/a.h"), None);
    }
}
