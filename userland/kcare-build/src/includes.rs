// SPDX-License-Identifier: GPL-2.0

//! Who may include whom: a superset, from the text of all source files.
//!
//! A name that macros put together (`#include PT_FMT_H`) cannot be told from text: a file with such a line may include
//! anything, and the compiler's own list of dependencies then tells what its units read. The headers of trace events,
//! of which there are hundreds, have one way to put the name together, which is followed where it is the usual one.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result};

use crate::patch::{Change, Patches};

/// The files of a source tree and what they name in `#include` lines.
#[derive(Debug, Default)]
pub struct Includes {
    /// By file: what it names.
    named: BTreeMap<String, Vec<String>>,
    /// Folders below [`OUTSIDE`] in which a Makefile has the compiler look for headers: the Makefile's folder, and the one
    /// where they are.
    folders: BTreeSet<(String, String)>,
    /// Makefiles, Kbuild files and scripts, which tell what is made of what.
    makefiles: BTreeSet<String>,
}

/// Folders whose files become part of the kernel only where a file of another folder includes them.
const OUTSIDE: [&str; 5] = ["Documentation", "samples", "scripts", "tools", "LICENSES"];

/// Whether only an include from another folder makes a file part of the kernel.
pub fn outside(file: &str) -> bool {
    let folder = file.split('/').next().unwrap_or_default();
    file.contains('/') && OUTSIDE.contains(&folder)
}

/// What stands for any file in the list of what a file names.
const ANYTHING: &str = "?";

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
        let mut macros = Macros::default();
        let samples = config(build, "CONFIG_SAMPLES").is_some();
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                let inside = !outside(&format!("{name}/")) || (samples && name == "samples");
                // Of the others only scripts are part of the build.
                if inside || name == "scripts" {
                    this.folder(&entry.path(), &name, inside, source, &mut macros)?;
                }
            } else if makefile(&name) {
                this.makefile(&entry.path(), name, source)?;
            }
        }
        for part in ["include", "arch", "kernel", "security"] {
            let folder = build.join(part);
            if folder.is_dir() {
                let name = format!("{OUTPUT}{part}");
                this.folder(&folder, &name, true, source, &mut macros)?;
            }
        }
        this.settle(&macros, build);
        this.enter_outside(source)?;
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

    fn folder(
        &mut self,
        path: &Path,
        name: &str,
        inside: bool,
        source: &Path,
        macros: &mut Macros,
    ) -> Result<()> {
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
                self.folder(&entry.path(), &name, inside, source, macros)?;
            } else if kind.is_file() && inside && relevant(file) {
                let bytes = fs::read(entry.path())?;
                let text = String::from_utf8_lossy(&bytes);
                if !file.ends_with(".c") {
                    macros.add(&text);
                }
                self.add(name, &text);
            } else if kind.is_file() && makefile(file) && !name.starts_with(OUTPUT) {
                self.makefile(&entry.path(), name, source)?;
            }
        }
        Ok(())
    }

    fn makefile(&mut self, path: &Path, name: String, source: &Path) -> Result<()> {
        let bytes = fs::read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        // These have flags for all folders.
        let global = folder.is_empty()
            || name.starts_with("scripts/Makefile.")
            || name == "arch/x86/Makefile";
        if !outside(&name) || global {
            for found in folders_in(&text, global) {
                if source.join(&found).is_dir() {
                    let of = if global { "" } else { folder };
                    self.folders.insert((of.to_owned(), found));
                }
            }
        }
        self.makefiles.insert(name);
        Ok(())
    }

    fn add(&mut self, file: String, text: &str) {
        self.named.insert(file, named_in(text));
    }

    /// Decides about the names that could not be told from one file alone.
    fn settle(&mut self, macros: &Macros, build: &Path) {
        for (file, named) in &mut self.named {
            let own = file.rsplit('/').next().unwrap_or(file);
            for name in &mut *named {
                if let Some(option) = name.strip_prefix("?CONFIG_") {
                    // An option that is not set is no macro, and its line is not compiled.
                    *name = match config(build, &format!("CONFIG_{option}")) {
                        Some(value) => value.trim_matches('"').to_owned(),
                        None => String::new(),
                    };
                } else if let Some(event) = name.strip_prefix(EVENTS) {
                    let stem = event.strip_suffix(".h").unwrap_or(event);
                    *name = if macros.has(stem) {
                        // The preprocessor would replace a part of the name.
                        ANYTHING.to_owned()
                    } else if event == own {
                        String::new()
                    } else {
                        event.to_owned()
                    };
                }
            }
            named.retain(|name| !name.is_empty());
        }
    }

    /// Takes in the files below [`OUTSIDE`] that files of the kernel include, directly or not.
    fn enter_outside(&mut self, source: &Path) -> Result<()> {
        let mut queue: Vec<String> = self.named.keys().cloned().collect();
        while let Some(file) = queue.pop() {
            let named = self.named.get(&file).cloned().unwrap_or_default();
            for name in named {
                for path in self.outside_paths(&file, &name) {
                    if self.named.contains_key(&path) {
                        continue;
                    }
                    if let Ok(bytes) = fs::read(source.join(&path)) {
                        self.add(path.clone(), &String::from_utf8_lossy(&bytes));
                        queue.push(path);
                    }
                }
            }
        }
        Ok(())
    }

    /// The paths below [`OUTSIDE`] that a name in a file can mean.
    fn outside_paths(&self, file: &str, name: &str) -> Vec<String> {
        let (quoted, name) = match name.strip_prefix('"') {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let mut paths = Vec::new();
        if quoted {
            paths.extend(join(folder_of(file), name));
        }
        paths.push(plain(name).to_owned());
        for (of, folder) in &self.folders {
            if of.is_empty() || file.strip_prefix(of).is_some_and(|r| r.starts_with('/')) {
                paths.extend(join(folder, name));
            }
        }
        paths.retain(|path| outside(path));
        paths
    }

    /// Takes the patched files in: what they name, before and after.
    pub fn apply(&mut self, patches: &Patches) -> Result<()> {
        for (file, change) in &patches.files {
            if *change == Change::Removed {
                continue;
            }
            if let Some(text) = patches.patched(file)? {
                let mut named = named_in(&text);
                for name in &mut named {
                    if let Some(event) = name.strip_prefix(EVENTS) {
                        *name = event.to_owned();
                    } else if name.starts_with(ANYTHING) {
                        *name = ANYTHING.to_owned();
                    }
                }
                let list = self.named.entry(file.clone()).or_default();
                list.extend(named);
            }
        }
        Ok(())
    }

    fn print(&self) -> String {
        let mut out = String::from(FORMAT);
        for (of, folder) in &self.folders {
            out.push_str(&format!("-I\t{of}\t{folder}\n"));
        }
        for file in &self.makefiles {
            out.push_str(&format!("-f\t{file}\n"));
        }
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
        let mut this = Includes::default();
        for line in text.lines() {
            let mut words = line.split('\t').map(str::to_owned);
            match words.next()?.as_str() {
                "-I" => {
                    this.folders.insert((words.next()?, words.next()?));
                }
                "-f" => {
                    this.makefiles.insert(words.next()?);
                }
                file => {
                    this.named.insert(file.to_owned(), words.collect());
                }
            }
        }
        Some(this)
    }

    /// Makefiles, Kbuild files and scripts of the source tree.
    pub fn makefiles(&self) -> impl Iterator<Item = &str> {
        self.makefiles.iter().map(String::as_str)
    }

    /// All files, ascending by name; those of the output tree start with `//`.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The files that may include one of `targets`, directly or not; the targets themselves too.
    pub fn includers(&self, targets: &BTreeSet<String>) -> BTreeSet<String> {
        self.reverse().includers(targets)
    }

    /// The files that may include one of `targets` themselves.
    pub fn named(&self, targets: &BTreeSet<String>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for target in targets {
            let last = target.rsplit('/').next().unwrap_or(target);
            for (file, names) in &self.named {
                let mut names = names.iter().filter(|n| n.ends_with(last));
                if names.any(|name| self.may_mean(file, name, target)) {
                    found.insert(file.clone());
                }
            }
        }
        found
    }

    /// Makes ready to look for the includers of many.
    pub fn reverse(&self) -> Reverse<'_> {
        let mut by_name: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
        let mut anything = BTreeSet::new();
        for (file, named) in &self.named {
            for name in named {
                if name == ANYTHING {
                    anything.insert(file.as_str());
                    continue;
                }
                let last = name.rsplit(['/', '"']).next().unwrap_or(name);
                by_name.entry(last).or_default().push((file, name));
            }
        }
        Reverse {
            includes: self,
            by_name,
            anything,
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
            if let Some(path) = join(folder_of(file), name) {
                if path == target {
                    return true;
                }
                if self.named.contains_key(&path) {
                    return false;
                }
            }
        }
        if outside(target) {
            // Most of these have the name of a header of the kernel.
            let name = if quoted { &format!("\"{name}") } else { name };
            return self.outside_paths(file, name).iter().any(|p| p == target);
        }
        let plain = plain(name);
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
    /// Files that may include anything.
    anything: BTreeSet<&'a str>,
}

impl Reverse<'_> {
    /// The files that may include one of `targets`, directly or not, by a name that stands there; the targets
    /// themselves too.
    ///
    /// What includes by a name that macros put together is not among them; that is in [`Reverse::computed`].
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

impl Reverse<'_> {
    /// The files that may include anything, directly or not.
    pub fn computed(&self) -> BTreeSet<String> {
        let targets = self.anything.iter().map(|file| (*file).to_owned());
        self.includers(&targets.collect())
    }
}

/// Name of the cache in a kernel's folder. It and the first line have a number, which is another one if the format or the
/// contents change.
pub const CACHE: &str = "kcare-includes-5";

const FORMAT: &str = "kcare-includes 5\n";

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

/// Whether a file tells what is made of what.
fn makefile(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.starts_with("Makefile")
        || name.starts_with("Kbuild")
        || matches!(
            name.rsplit_once('.').map(|(_, e)| e),
            Some("mk" | "sh" | "awk" | "pl" | "py")
        )
}

/// The folders below [`OUTSIDE`] that a Makefile names, or only those that it gives to all compilations.
fn folders_in(text: &str, global: bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        if global && (line.contains("HOST") || line.contains("host")) {
            // For programs of the build.
            continue;
        }
        let mut given = false;
        for word in line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '\'')) {
            let flag = word.starts_with("-I");
            let path = word.trim_start_matches("-I");
            if path.is_empty() {
                given = flag;
                continue;
            }
            let path = path.trim_start_matches("$(srctree)/").trim_end_matches(')');
            if outside(&format!("{path}/")) && (flag || given || !global) {
                found.insert(path.trim_end_matches('/').to_owned());
            }
            given = false;
        }
    }
    found
}

/// The value of an option of the kernel's configuration, if it is set.
fn config(build: &Path, option: &str) -> Option<String> {
    let text = fs::read_to_string(build.join(".config")).ok()?;
    let prefix = format!("{option}=");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix))?;
    Some(value.to_owned())
}

/// Macros without parameters that headers define, by a hash of their names.
#[derive(Default)]
struct Macros {
    names: HashSet<u64>,
}

impl Macros {
    fn key(name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    }

    fn add(&mut self, text: &str) {
        for (name, rest) in text.lines().filter_map(definition) {
            // What is defined as nothing, or as itself, leaves the name as it is only in the second case.
            if !rest.starts_with('(') && rest.trim() != name {
                self.names.insert(Self::key(name));
            }
        }
    }

    /// Whether a part of a file's name is a macro.
    fn has(&self, stem: &str) -> bool {
        let words = stem.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words
            .filter(|word| !word.is_empty())
            .any(|word| self.names.contains(&Self::key(word)))
    }
}

/// The name in a `#define` line, and what follows it.
fn definition(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start();
    let rest = rest.strip_prefix("define")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}

/// Marks the name of a header of trace events, which includes itself if it is its own.
const EVENTS: &str = "?events ";

/// The forms in which the kernel's headers put the name of a header of trace events together: the macros
/// `TRACE_INCLUDE(system)` and `__TRACE_INCLUDE(system)` without white space. The last part of each is `system.h`.
const EVENT_FORMS: [&str; 3] = [
    "(system)__TRACE_INCLUDE(system)",
    "(system)<trace/events/system.h>",
    "(system)__stringify(TRACE_INCLUDE_PATH/system.h)",
];

/// What the macros that name a header of trace events name.
fn events_named(name: &str, rest: &str) -> Option<String> {
    let rest = rest.split("/*").next().unwrap_or_default();
    let rest = rest.split("//").next().unwrap_or_default();
    let value: String = rest.split_whitespace().collect();
    match name {
        "TRACE_INCLUDE" | "__TRACE_INCLUDE" => {
            (!EVENT_FORMS.contains(&value.as_str())).then(|| ANYTHING.to_owned())
        }
        // A literal is no part of a name, and the file's own name comes from the other macro.
        "TRACE_INCLUDE_FILE" | "TRACE_SYSTEM" if value.starts_with('"') => None,
        "TRACE_INCLUDE_FILE" if value == "TRACE_SYSTEM" => None,
        "TRACE_INCLUDE_FILE" | "TRACE_SYSTEM" => {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            if value.is_empty() || !value.chars().all(fits) || rest.contains('\\') {
                return Some(ANYTHING.to_owned());
            }
            let last = value.rsplit('/').next().unwrap_or(&value);
            Some(format!("{EVENTS}{last}.h"))
        }
        _ => None,
    }
}

/// What a text names in `#include` lines, and in the assembler's `.include` and `.incbin`; a quoted name starts with `"`.
///
/// A macro that is defined as a file name counts as an include of it, so that `#include MACRO` is covered. Where the
/// name is put together by other macros it may be [`ANYTHING`].
fn named_in(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    // Macros that are file names, and macros that are included.
    let (mut literal, mut computed) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix('#') else {
            for directive in [".incbin", ".include"] {
                let Some((_, rest)) = line.split_once(directive) else {
                    continue;
                };
                let rest = rest.trim_start().trim_start_matches('\\');
                let name = rest
                    .strip_prefix('"')
                    .and_then(|r| r.split_once(['"', '\\']));
                out.extend(name.map(|(name, _)| name.to_owned()).filter(|n| file(n)));
            }
            continue;
        };
        let rest = rest.trim_start();
        let (argument, of) = if let Some(rest) = rest.strip_prefix("include") {
            let rest = rest.trim_start().trim_start_matches("_next").trim_start();
            (rest, None)
        } else if let Some((name, value)) = definition(line) {
            out.extend(events_named(name, value));
            (value.trim_start(), Some(name))
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
            Some(c) if of.is_none() && (c.is_ascii_alphabetic() || *c == b'_') => {
                computed.insert(argument.trim_end());
                None
            }
            _ => None,
        };
        if let Some(name) = name.filter(|n| file(n)) {
            literal.extend(of);
            out.push(name);
        }
    }
    for argument in computed {
        let macros = argument.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let first = macros.clone().next().unwrap_or_default();
        if macros.count() == 1 && first.starts_with("CONFIG_") {
            out.push(format!("?{first}"));
        } else if first != "TRACE_INCLUDE" && !literal.contains(argument) {
            out.push(ANYTHING.to_owned());
        }
    }
    out
}

/// Whether a name can be a file's.
fn file(name: &str) -> bool {
    let last = name.rsplit('/').next();
    last.is_some_and(|last| last.contains('.')) && !name.contains(['\t', '\n', ' '])
}

/// The folder of a file.
fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A name without its way up.
fn plain(name: &str) -> &str {
    let name = name.trim_start_matches("./");
    name.rsplit("../").next().unwrap_or(name)
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
    fn a_name_that_macros_put_together_may_be_anything() {
        let tree = tree(&[
            ("a/t.h", "#define H __stringify(F.h)\n#include H"),
            ("a/x.c", "#define F one\n#include \"t.h\""),
            ("a/one.h", ""),
            ("b/y.c", "#define NAME \"one.h\"\n#include NAME"),
            ("b/z.c", "int NAME;"),
        ]);
        assert_eq!(includers(&tree, "a/one.h"), ["a/one.h", "b/y.c"]);
        let computed = tree.reverse().computed();
        assert_eq!(computed.into_iter().collect::<Vec<_>>(), ["a/t.h", "a/x.c"]);
    }

    #[test]
    fn headers_of_trace_events_include_the_one_that_they_name() {
        let define = "#define __TRACE_INCLUDE(system) <trace/events/system.h>\n\
                      # define TRACE_INCLUDE(system) __TRACE_INCLUDE(system)\n\
                      #include TRACE_INCLUDE(TRACE_INCLUDE_FILE)\n";
        let event =
            "#undef TRACE_SYSTEM\n#define TRACE_SYSTEM one\n#include <trace/define_trace.h>\n";
        let mut tree = tree(&[
            ("trace/define_trace.h", define),
            ("trace/events/one.h", event),
            (
                "a/own-trace.h",
                "#define TRACE_INCLUDE_FILE ../a/own-trace\n",
            ),
            ("b/other.h", "#define TRACE_SYSTEM odd\n"),
            ("c/block.h", "#define TRACE_SYSTEM block\n"),
            ("d/odd.h", "#define TRACE_SYSTEM odd(x)\n"),
            ("e/string.c", "#define TRACE_SYSTEM \"x\"\n"),
        ]);
        let mut macros = Macros::default();
        macros.add("#define one(x) x\n#define odd odd\n#define block HPD\n");
        tree.settle(&macros, Path::new("/nonexistent"));
        let wild: Vec<&str> = tree.reverse().anything.into_iter().collect();
        assert_eq!(wild, ["c/block.h", "d/odd.h"]);
        assert!(includers(&tree, "x/odd.h").contains(&"b/other.h".to_owned()));
        assert!(!includers(&tree, "x/one.h").contains(&"a/own-trace.h".to_owned()));
        // Another way to put the name together may lead anywhere.
        let changed = define.replace("system.h", "my_system.h");
        assert!(named_in(&changed).contains(&ANYTHING.to_owned()));
        assert!(!named_in(define).contains(&ANYTHING.to_owned()));
    }

    #[test]
    fn files_of_other_folders_count_where_they_are_included() {
        let mut tree = tree(&[
            ("kernel/bpf/x.c", "#include \"../../tools/lib/bpf/x.c\""),
            ("kernel/bpf/y.c", "#include \"../tools/lib/bpf/x.h\""),
            ("lib/fdt.c", "#include <fdt.h>\n#include <linux/kernel.h>"),
            ("fs/z.c", "#include <linux/kernel.h>\n#include <fdt.h>"),
            ("tools/lib/bpf/x.c", "#include \"x.h\""),
        ]);
        let makefile = "CFLAGS_fdt.o = -I $(srctree)/scripts/dtc/libfdt # tools/x\n";
        for folder in folders_in(makefile, false) {
            tree.folders.insert(("lib".to_owned(), folder));
        }
        assert_eq!(
            includers(&tree, "tools/lib/bpf/x.h"),
            [
                "kernel/bpf/x.c",
                "kernel/bpf/y.c",
                "tools/lib/bpf/x.c",
                "tools/lib/bpf/x.h"
            ]
        );
        let headers = includers(&tree, "scripts/dtc/libfdt/fdt.h");
        assert_eq!(headers, ["lib/fdt.c", "scripts/dtc/libfdt/fdt.h"]);
        assert_eq!(includers(&tree, "tools/include/linux/kernel.h").len(), 1);
        assert!(folders_in("A := $(srctree)/tools/lib\n", true).is_empty());
        assert!(folders_in("HOSTCFLAGS := -I$(srctree)/tools/include\n", true).is_empty());
        assert_eq!(
            folders_in("CFLAGS := -I $(srctree)/tools/include\n", true).len(),
            1
        );
    }

    #[test]
    fn the_assembler_includes_files_too() {
        let text = "\t.incbin \"certs/x.der\"\n\".incbin \\\"kernel/y.gz\\\"\\n\"\n";
        assert_eq!(named_in(text), ["certs/x.der", "kernel/y.gz"]);
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
        let mut first = tree(&[("a.c", "#include <x.h>\n#include \"y.h\""), ("b.h", "")]);
        first.makefiles.insert("lib/Makefile".to_owned());
        first
            .folders
            .insert(("lib".to_owned(), "tools/x".to_owned()));
        let text = first.print();
        let again = Includes::parse(&text).unwrap();
        assert_eq!(
            (again.named, again.makefiles, again.folders),
            (
                first.named.clone(),
                first.makefiles.clone(),
                first.folders.clone()
            )
        );
        assert!(Includes::parse(&text[..text.len() - 2]).is_none());
    }
}
