// SPDX-License-Identifier: GPL-2.0

//! Who may include whom: a superset, from the text of all source files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::patch::{Change, Patches};

/// The files of a source tree and what they name in `#include` lines.
#[derive(Debug, Default)]
pub struct Includes {
    /// By file: what it names.
    named: BTreeMap<String, Vec<String>>,
}

/// Folders whose files never become part of the kernel.
const OUTSIDE: [&str; 5] = ["Documentation", "samples", "scripts", "tools", "LICENSES"];

/// Prefix of the names of files in the output tree.
const OUTPUT: &str = "//";

impl Includes {
    /// Reads the source tree and the output tree, or what `cache` keeps of an earlier reading.
    pub fn read(source: &Path, build: &Path, cache: &Path) -> Result<Self> {
        if let Ok(text) = fs::read_to_string(cache) {
            if let Some(this) = Self::parse(&text) {
                return Ok(this);
            }
        }
        let mut this = Includes::default();
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() && !OUTSIDE.contains(&name.as_str()) {
                this.folder(&entry.path(), &name)?;
            }
        }
        for part in ["include", "arch", "kernel", "security"] {
            let folder = build.join(part);
            if folder.is_dir() {
                this.folder(&folder, &format!("{OUTPUT}{part}"))?;
            }
        }
        // Losing the cache costs a few seconds, nothing else.
        let temporary = cache.with_extension(std::process::id().to_string());
        if fs::write(&temporary, this.print())
            .and_then(|()| fs::rename(&temporary, cache))
            .is_err()
        {
            let _ = fs::remove_file(&temporary);
        }
        Ok(this)
    }

    fn folder(&mut self, path: &Path, name: &str) -> Result<()> {
        if foreign(name) {
            return Ok(());
        }
        for entry in
            fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?
        {
            let entry = entry?;
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            let name = format!("{name}/{file}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.folder(&entry.path(), &name)?;
            } else if kind.is_file() && relevant(file) {
                let bytes = fs::read(entry.path())?;
                self.add(name, &String::from_utf8_lossy(&bytes));
            }
        }
        Ok(())
    }

    fn add(&mut self, file: String, text: &str) {
        self.named.insert(file, named_in(text));
    }

    /// Takes the patched files in: what they name, before and after.
    pub fn apply(&mut self, patches: &Patches) -> Result<()> {
        for (file, change) in &patches.files {
            if *change == Change::Removed {
                continue;
            }
            if let Some(text) = patches.patched(file)? {
                let list = self.named.entry(file.clone()).or_default();
                list.extend(named_in(&text));
            }
        }
        Ok(())
    }

    fn print(&self) -> String {
        let mut out = String::from(FORMAT);
        for (file, named) in &self.named {
            out.push_str(file);
            for name in named {
                out.push('\t');
                out.push_str(name);
            }
            out.push('\n');
        }
        out.push_str("end\n");
        out
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(FORMAT)?.strip_suffix("end\n")?;
        let mut named = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split('\t').map(str::to_owned);
            named.insert(words.next()?, words.collect());
        }
        Some(Includes { named })
    }

    /// All files, ascending by name; those of the output tree start with `//`.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The files that may include one of `targets`, directly or not; the targets themselves too.
    pub fn includers(&self, targets: &BTreeSet<String>) -> BTreeSet<String> {
        self.reverse().includers(targets)
    }

    /// Makes ready to look for the includers of many.
    pub fn reverse(&self) -> Reverse<'_> {
        let mut by_name: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
        for (file, named) in &self.named {
            for name in named {
                let last = name.rsplit(['/', '"']).next().unwrap_or(name);
                by_name.entry(last).or_default().push((file, name));
            }
        }
        Reverse {
            includes: self,
            by_name,
        }
    }

    /// Whether a name in a file may mean a target.
    fn may_mean(&self, file: &str, name: &str, target: &str) -> bool {
        let (quoted, name) = match name.strip_prefix('"') {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        if quoted {
            // The folder of the file itself is looked at first, and nowhere else if it is there.
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
            if let Some(path) = join(folder, name) {
                if path == target {
                    return true;
                }
                if self.named.contains_key(&path) {
                    return false;
                }
            }
        }
        let plain = name
            .trim_start_matches("./")
            .rsplit("../")
            .next()
            .unwrap_or(name);
        let target = target.trim_start_matches('/');
        target == plain
            || target
                .strip_suffix(plain)
                .is_some_and(|head| head.ends_with('/'))
    }
}

/// Who names whom, by the last component of the name.
#[derive(Debug)]
pub struct Reverse<'a> {
    includes: &'a Includes,
    by_name: HashMap<&'a str, Vec<(&'a str, &'a str)>>,
}

impl Reverse<'_> {
    /// The files that may include one of `targets`, directly or not; the targets themselves too.
    pub fn includers(&self, targets: &BTreeSet<String>) -> BTreeSet<String> {
        let mut found: BTreeSet<String> = targets.clone();
        let mut queue: Vec<String> = targets.iter().cloned().collect();
        while let Some(target) = queue.pop() {
            let last = target.rsplit('/').next().unwrap_or(&target);
            for &(file, name) in self.by_name.get(last).into_iter().flatten() {
                if !found.contains(file) && self.includes.may_mean(file, name, &target) {
                    found.insert(file.to_owned());
                    queue.push(file.to_owned());
                }
            }
        }
        found
    }
}

/// First line of the cache; another one if its format or contents change.
const FORMAT: &str = "kcare-includes 3\n";

/// Whether a folder is of another architecture, of which User Mode Linux is one.
fn foreign(folder: &str) -> bool {
    if folder == "arch/x86/um" || folder.starts_with("arch/x86/um/") {
        return true;
    }
    let mut parts = folder.split('/');
    parts.next() == Some("arch")
        && parts
            .next()
            .is_some_and(|architecture| architecture != "x86")
}

/// Whether a file can include others, or be included.
fn relevant(file: &str) -> bool {
    matches!(
        file.rsplit_once('.').map(|(_, e)| e),
        Some("c" | "h" | "S" | "inc" | "def" | "tbl" | "rs" | "lds")
    )
}

/// What a text names in `#include` lines; a quoted name starts with `"`.
///
/// A macro that is defined as a file name counts as an include of it, so that `#include MACRO` is covered.
fn named_in(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix('#') else {
            continue;
        };
        let rest = rest.trim_start();
        let argument = if let Some(rest) = rest.strip_prefix("include") {
            rest.trim_start().trim_start_matches("_next").trim_start()
        } else if let Some(rest) = rest.strip_prefix("define") {
            match rest.trim_start().split_once(char::is_whitespace) {
                Some((_, value)) => value.trim_start(),
                None => continue,
            }
        } else {
            continue;
        };
        let name = match argument.as_bytes().first() {
            Some(b'"') => argument[1..]
                .split_once('"')
                .map(|(name, _)| format!("\"{name}")),
            Some(b'<') => argument[1..]
                .split_once('>')
                .map(|(name, _)| name.to_owned()),
            _ => None,
        };
        let file = |n: &str| n.rsplit('/').next().is_some_and(|last| last.contains('.'));
        out.extend(name.filter(|n| file(n) && !n.contains(['\t', '\n', ' '])));
    }
    out
}

/// A path relative to a folder; `None` if it leaves the tree.
fn join(folder: &str, name: &str) -> Option<String> {
    let root = if folder.starts_with(OUTPUT) {
        OUTPUT
    } else {
        ""
    };
    let mut parts: Vec<&str> = folder
        .trim_start_matches('/')
        .split('/')
        .filter(|p| !p.is_empty())
        .collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(format!("{root}{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Includes {
        let mut includes = Includes::default();
        for (file, text) in files {
            includes.add((*file).to_owned(), text);
        }
        includes
    }

    fn includers(tree: &Includes, target: &str) -> Vec<String> {
        tree.includers(&BTreeSet::from([target.to_owned()]))
            .into_iter()
            .collect()
    }

    #[test]
    fn folders_of_other_architectures_are_foreign() {
        for folder in ["arch", "arch/x86", "arch/x86/kvm/svm", "drivers/arch/arm"] {
            assert!(!foreign(folder), "{folder}");
        }
        for folder in ["arch/arm64", "arch/arm64/kernel", "arch/x86/um/asm"] {
            assert!(foreign(folder), "{folder}");
        }
    }

    #[test]
    fn includers_are_found_through_wrappers_and_macros() {
        let tree = tree(&[
            ("include/asm-generic/a.h", ""),
            (
                "//arch/x86/include/generated/asm/a.h",
                "#include <asm-generic/a.h>",
            ),
            ("fs/x.c", "# include <asm/a.h>"),
            ("fs/y.c", "#define FILE <asm/a.h>\n#include FILE"),
            ("fs/z.c", "/* nothing */"),
        ]);
        assert_eq!(
            includers(&tree, "include/asm-generic/a.h"),
            [
                "//arch/x86/include/generated/asm/a.h",
                "fs/x.c",
                "fs/y.c",
                "include/asm-generic/a.h"
            ]
        );
    }

    #[test]
    fn a_quoted_name_means_the_file_beside() {
        let tree = tree(&[
            ("a/internal.h", ""),
            ("b/internal.h", ""),
            ("a/x.c", "#include \"internal.h\""),
            ("b/y.c", "#include \"internal.h\""),
            ("b/c/z.c", "#include \"../internal.h\""),
            ("d/w.c", "#include \"internal.h\""),
        ]);
        assert_eq!(
            includers(&tree, "b/internal.h"),
            ["b/c/z.c", "b/internal.h", "b/y.c", "d/w.c"]
        );
    }

    #[test]
    fn the_cache_gives_back_what_was_read() {
        let first = tree(&[("a.c", "#include <x.h>\n#include \"y.h\""), ("b.h", "")]);
        let text = first.print();
        assert_eq!(Includes::parse(&text).unwrap().named, first.named);
        assert!(Includes::parse(&text[..text.len() - 2]).is_none());
    }
}
