// SPDX-License-Identifier: GPL-2.0

//! Finds the units that the changed files may affect.
//!
//! A changed C file affects its own unit. A changed header affects whoever includes it, which may be
//! half of the kernel; but if all that changed in it are functions, declarations and macros, only who
//! mentions one of them, or something that mentions one of them, can compile to something else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;

use crate::compile::parallel;
use crate::ctext::{chunks, difference, Defines, Wanted, Words};
use crate::includes::Includes;
use crate::kernel::Kernel;
use crate::patch::{Change, Patches};
use crate::refuse::{Ending, Refusal};
use crate::words::{Index, PASTE};

/// What a changed file is to the kernel's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A C source file.
    Source,
    /// Something that C source files include.
    Header,
    /// Nothing that ends up in the kernel of this architecture.
    Irrelevant,
    /// Something else that does.
    Other,
}

/// Classifies a path of the source tree.
pub fn classify(path: &str) -> Class {
    const FOLDERS: [&str; 4] = ["Documentation/", "samples/", "tools/", "LICENSES/"];
    const FILES: [&str; 5] = ["MAINTAINERS", "CREDITS", "COPYING", "README", ".mailmap"];
    let name = path.rsplit('/').next().unwrap_or(path);
    let foreign = path
        .strip_prefix("arch/")
        .is_some_and(|rest| !rest.starts_with("x86/"));
    if foreign
        || FOLDERS.iter().any(|f| path.starts_with(f))
        || FILES.contains(&path)
        || name == ".gitignore"
    {
        return Class::Irrelevant;
    }
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        _ if path.starts_with("scripts/") => Class::Other,
        Some("c") => Class::Source,
        Some("h" | "inc") => Class::Header,
        Some("rst" | "md" | "txt") => Class::Irrelevant,
        _ => Class::Other,
    }
}

/// Code that is built into an image of its own inside the kernel.
const EMBEDDED: [&str; 4] = [
    "arch/x86/boot/",
    "arch/x86/entry/vdso/",
    "arch/x86/purgatory/",
    "arch/x86/realmode/",
];

/// Code whose output other code is made from.
const GENERATORS: [&str; 2] = ["arch/x86/kernel/asm-offsets", "kernel/bounds.c"];

/// Whether other code is made from what a file compiles to.
pub fn generator(file: &str) -> bool {
    GENERATORS.iter().any(|p| file.starts_with(p))
}

/// The units to look at.
#[derive(Debug, Default)]
pub struct Affected {
    /// Source files of units of vmlinux.
    pub builtin: BTreeSet<String>,
    /// Of these, the ones that only a changed header brought in.
    pub by_header: BTreeSet<String>,
    /// C files that are not in vmlinux: of modules, or not configured.
    pub elsewhere: BTreeSet<String>,
    /// Files that see a changed header and that cannot be patched.
    pub fixed: BTreeMap<String, Fixed>,
}

/// A file that cannot be patched.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// Why not.
    pub why: &'static str,
    /// Whether it is known to be part of vmlinux.
    pub part: bool,
}

/// Finds the units that the patches may affect; `units` are those of vmlinux.
pub fn affected(kernel: &Kernel, patches: &Patches, units: &BTreeSet<String>) -> Result<Affected> {
    let mut out = Affected::default();
    let mut refusals = Vec::new();
    let mut included: BTreeSet<String> = BTreeSet::new();
    for (file, change) in &patches.files {
        match classify(file) {
            Class::Irrelevant => {}
            Class::Header => {
                included.insert(file.clone());
            }
            Class::Source if units.contains(file) => {
                if *change == Change::Removed {
                    refusals.push(Refusal::new(file, "is removed from the kernel"));
                }
                out.builtin.insert(file.clone());
            }
            Class::Source => {
                // Of a module, of nothing, or included by another file.
                out.elsewhere.insert(file.clone());
                included.insert(file.clone());
            }
            Class::Other => refusals.push(Refusal::new(
                file,
                "is neither C nor a header, so that its effect cannot be told",
            )),
        }
    }
    if !included.is_empty() {
        let found = by_include(kernel, patches, &included)?;
        for file in found {
            if patches.files.contains_key(&file) {
                continue;
            }
            if units.contains(&file) {
                out.by_header.insert(file.clone());
                out.builtin.insert(file);
            } else {
                out.elsewhere.insert(file);
            }
        }
    }
    let all: Vec<String> = out.builtin.iter().chain(&out.elsewhere).cloned().collect();
    for file in all {
        let starts = |list: &[&str]| list.iter().any(|p| file.starts_with(p));
        let why = if starts(&EMBEDDED) {
            "is part of an image inside the kernel (boot code, vDSO)"
        } else if generator(&file) {
            "other code is generated from it"
        } else if file.ends_with(".rs") {
            "is Rust code that the change may reach"
        } else if file.ends_with(".S") || file.ends_with(".lds") {
            "is assembly that the change reaches"
        } else {
            continue;
        };
        // The build makes these in its usual way, so that it can be seen whether they change.
        let ordinary = file.ends_with(".S") || (starts(&EMBEDDED) && file.ends_with(".c"));
        if !patches.files.contains_key(&file) && (ordinary || generator(&file)) {
            // Linker scripts have no commands of their own, and are refused therefore.
            let script = file.ends_with(".lds.S");
            let part = out.builtin.remove(&file) || generator(&file) || starts(&EMBEDDED) || script;
            out.by_header.remove(&file);
            out.elsewhere.remove(&file);
            out.fixed.insert(file, Fixed { why, part });
        } else {
            refusals.push(Refusal::new(file, why));
        }
    }
    if !refusals.is_empty() {
        return Err(Ending::CannotPatch(refusals).into());
    }
    Ok(out)
}

/// The C, assembly and Rust files that may see another text because of the changed `targets`.
fn by_include(
    kernel: &Kernel,
    patches: &Patches,
    targets: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let (source, build) = (kernel.source(), kernel.build());
    let mut includes = Includes::read(&source, &build, &kernel.dir.join("kcare-includes"))?;
    let files: Vec<String> = includes.files().map(str::to_owned).collect();
    includes.apply(patches)?;

    let is_unit = |file: &str| matches!(file.rsplit_once('.'), Some((_, "c" | "S" | "rs" | "lds")));
    // To look at what the compiler sees in a few units is exact, and takes less time than to look for names.
    let seeing = includes.includers(targets);
    let few: BTreeSet<String> = seeing.iter().filter(|f| is_unit(f)).cloned().collect();
    if few.len() <= FEW && !seeing.iter().any(|file| file.starts_with("rust/")) {
        return Ok(few);
    }

    let mut names = BTreeSet::new();
    // Files all of whose includers may be affected.
    let mut whole = BTreeSet::new();
    for file in targets {
        let old = fs::read(source.join(file)).unwrap_or_default();
        let new = patches.patched(file)?.unwrap_or_default();
        let changed = difference(&String::from_utf8_lossy(&old), &new);
        for chunk in &changed {
            match chunk.defines() {
                Defines::Names(more) if file.ends_with(".h") => names.extend(more),
                _ => {
                    whole.insert(file.clone());
                }
            }
        }
    }

    let mut out: BTreeSet<String> = includes
        .includers(&whole)
        .into_iter()
        .filter(|f| is_unit(f))
        .collect();
    if names.is_empty() {
        return Ok(out);
    }

    // Who mentions a name that changed; a header's mention is as good as a change of what mentions it.
    let text = SourceText {
        source,
        build,
        files,
        patches,
    };
    let index = text.index(&kernel.dir.join("kcare-words"))?;
    let mut more = BTreeSet::new();
    let mut mentioned = BTreeSet::new();
    let mut wanted = Wanted::new(&names, &Words::default());
    loop {
        let found = text.mentions(&index, &wanted)?;
        mentioned.extend(found.units);
        more.extend(found.whole);
        names.extend(found.names);
        let next = Wanted::new(&names, &found.words);
        if next.same(&wanted) {
            break;
        }
        wanted = next;
        if names.len() > MAX_NAMES {
            // Too much hangs on it to tell who does not.
            return Ok(includes
                .includers(targets)
                .into_iter()
                .filter(|f| is_unit(f))
                .collect());
        }
    }
    // Rust sees C through bindings, whatever it includes.
    out.extend(
        mentioned
            .into_iter()
            .filter(|f| seeing.contains(f) || f.ends_with(".rs")),
    );
    out.extend(
        includes
            .includers(&more)
            .into_iter()
            .filter(|f| is_unit(f) && seeing.contains(f)),
    );
    Ok(out)
}

/// Most files that include a changed one, for which it is not worth while to look for names.
const FEW: usize = 150;

/// Most names to follow through headers.
const MAX_NAMES: usize = 500;

/// What one pass over all files found.
#[derive(Default)]
struct Mentions {
    /// Names whose definitions mention a name.
    names: BTreeSet<String>,
    /// Headers in which something without a name mentions one.
    whole: BTreeSet<String>,
    /// Units that mention one.
    units: BTreeSet<String>,
    /// Which names and pieces of names occur at all.
    words: Words,
}

/// All text that the kernel may be made of.
struct SourceText<'a> {
    source: PathBuf,
    build: PathBuf,
    /// The files of the unpatched tree.
    files: Vec<String>,
    patches: &'a Patches,
}

impl SourceText<'_> {
    fn path(&self, file: &str) -> PathBuf {
        match file.strip_prefix("//") {
            Some(output) => self.build.join(output),
            None => self.source.join(file),
        }
    }

    fn index(&self, cache: &Path) -> Result<Index> {
        let paths: Vec<PathBuf> = self.files.iter().map(|file| self.path(file)).collect();
        Index::read(&paths, cache)
    }

    /// Looks through all files that may have one of the words.
    fn mentions(&self, index: &Index, wanted: &Wanted) -> Result<Mentions> {
        let mut found = Mentions::default();
        let mut files: BTreeSet<&str> = self.patches.files.keys().map(String::as_str).collect();
        let words = wanted.words().chain([PASTE]);
        for (number, words) in index.files_with(words) {
            let operator = words.contains(&PASTE);
            let words = words.into_iter().filter(|w| *w != PASTE);
            let words: HashSet<&str> = words.filter_map(|w| std::str::from_utf8(w).ok()).collect();
            if wanted.matters(&words) || wanted.may_paste(&words, operator) {
                files.insert(&self.files[number]);
            }
            found.words.all.extend(words.into_iter().map(str::to_owned));
        }
        let files: Vec<&str> = files.into_iter().collect();
        let results = Mutex::new(found);
        parallel(&files, |file| {
            let mut local = Mentions::default();
            // What the patches add is only in the patched tree.
            let mut text = fs::read(self.path(file)).unwrap_or_default();
            if let Some(patched) = self.patches.patched(file)? {
                text.push(b'\n');
                text.extend_from_slice(patched.as_bytes());
            }
            if wanted.in_text(&text, &mut local.words) {
                look(file, &String::from_utf8_lossy(&text), wanted, &mut local);
            }
            let mut all = results.lock().unwrap_or_else(|e| e.into_inner());
            all.names.extend(local.names);
            all.whole.extend(local.whole);
            all.units.extend(local.units);
            all.words.extend(local.words);
            Ok(())
        })?;
        Ok(results.into_inner().unwrap_or_else(|e| e.into_inner()))
    }
}

fn look(file: &str, text: &str, wanted: &Wanted, out: &mut Mentions) {
    let header = !matches!(file.rsplit_once('.'), Some((_, "c" | "S" | "rs" | "lds")));
    for chunk in chunks(text) {
        if !chunk.mentions(wanted) {
            continue;
        }
        if !header {
            out.units.insert(file.to_owned());
            return;
        }
        match chunk.defines() {
            Defines::Names(more) => out.names.extend(more),
            Defines::Unknown => {
                out.whole.insert(file.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_classified() {
        assert_eq!(classify("fs/pipe.c"), Class::Source);
        assert_eq!(classify("arch/x86/mm/fault.c"), Class::Source);
        assert_eq!(classify("arch/arm64/mm/fault.c"), Class::Irrelevant);
        assert_eq!(classify("include/net/ip.h"), Class::Header);
        assert_eq!(classify("tools/testing/selftests/x.c"), Class::Irrelevant);
        assert_eq!(classify("Documentation/x.rst"), Class::Irrelevant);
        assert_eq!(classify("net/Kconfig"), Class::Other);
        assert_eq!(classify("fs/Makefile"), Class::Other);
        assert_eq!(classify("arch/x86/entry/entry_64.S"), Class::Other);
        assert_eq!(classify("rust/kernel/lib.rs"), Class::Other);
    }
}
