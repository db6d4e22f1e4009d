// SPDX-License-Identifier: GPL-2.0

//! What the kernel's build makes of files other than by compiling them: generated sources and tables, and the programs
//! and scripts that generate them.
//!
//! Makefiles and scripts name what they read. Whether a change alters what is generated is not guessed: the build's own
//! rule is run on the original and on the patched source, and its outputs are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use crate::compile::{quote, replace_path, Compiler};
use crate::computed;
use crate::includes::Includes;
use crate::kernel::Kernel;
use crate::patch::Patches;

/// Makefiles and scripts of the source tree, and the programs for the build that they name.
#[derive(Debug, Default)]
pub struct Inputs {
    /// By path: the text.
    texts: BTreeMap<String, String>,
    /// Source files of programs that run during the build, and the Makefile that says so.
    programs: BTreeMap<String, String>,
    /// Rules that compile a file of another place.
    copies: Vec<Copied>,
    /// Options of the configuration that are set.
    options: BTreeSet<String>,
}

/// A rule of a Makefile by which an object is compiled from a file of another folder or name; `%` may stand in both.
#[derive(Debug, PartialEq, Eq)]
struct Copied {
    /// The object, without its `.o`.
    object: String,
    /// The source file.
    source: String,
}

impl Inputs {
    /// Reads all Makefiles and scripts.
    pub fn read(kernel: &Kernel, includes: &Includes) -> Result<Self> {
        let mut this = Inputs::default();
        for path in includes.makefiles() {
            let bytes = fs::read(kernel.source().join(path))
                .with_context(|| format!("cannot read {path}"))?;
            this.add(path, &String::from_utf8_lossy(&bytes));
        }
        let config = kernel.build().join(".config");
        let text = fs::read_to_string(&config)
            .with_context(|| format!("cannot read {}", config.display()))?;
        let set = text.lines().filter_map(|line| line.split_once('='));
        this.options
            .extend(set.map(|(option, _)| option.to_owned()));
        Ok(this)
    }

    fn add(&mut self, path: &str, text: &str) {
        let folder = folder_of(path);
        for (left, right) in assignments(text) {
            let program = left.starts_with("hostprogs") || left.starts_with("userprogs");
            if program {
                for name in right.split_whitespace().filter(|w| !w.starts_with('$')) {
                    let file = within(folder, &format!("{name}.c"));
                    this_entry(&mut self.programs, file, path);
                }
            } else if let Some(name) = left.strip_suffix("-objs").or(left.strip_suffix("-y")) {
                // Of a program that consists of several files.
                if self
                    .programs
                    .contains_key(&within(folder, &format!("{name}.c")))
                {
                    for object in right.split_whitespace() {
                        if let Some(stem) = object.strip_suffix(".o") {
                            let file = within(folder, &format!("{stem}.c"));
                            this_entry(&mut self.programs, file, path);
                        }
                    }
                }
            }
        }
        self.copies.extend(copied(path, text));
        self.texts.insert(path.to_owned(), text.to_owned());
    }

    /// The files that would be there if nothing were compiled from another folder: for each object that a Makefile lets
    /// be compiled from this file, the name that its own source would have.
    pub fn copies(&self, file: &str) -> BTreeSet<String> {
        let fits = |copied: &Copied| {
            let Some((start, end)) = copied.source.split_once('%') else {
                return (copied.source == file).then(|| copied.object.clone());
            };
            let stem = file.strip_prefix(start)?.strip_suffix(end)?;
            Some(copied.object.replacen('%', stem, 1))
        };
        let objects = self.copies.iter().filter_map(fits);
        let names = objects.map(|object| format!("{object}.{}", extension(file)));
        // The programs of the build are compared in another way.
        names.filter(|name| self.program(name).is_none()).collect()
    }

    /// The Makefile that makes a program for the build from a file, if one does.
    pub fn program(&self, file: &str) -> Option<&str> {
        self.programs.get(file).map(String::as_str)
    }

    /// The Makefiles and scripts that name a file, or a pattern that it fits.
    pub fn readers(&self, file: &str) -> Vec<&str> {
        let base = file.rsplit('/').next().unwrap_or(file);
        let code = matches!(extension(file), "c" | "h" | "S" | "rs");
        let patterns = match extension(file) {
            "" => Vec::new(),
            _ if code => Vec::new(),
            e => vec![format!("%.{e}"), format!("*.{e}")],
        };
        let shipped = base.ends_with("_shipped");
        let named = self.texts.iter().filter(|(path, text)| {
            if *path == file {
                return false;
            }
            let same = folder_of(path) == folder_of(file);
            let rules = same || path.starts_with("scripts/Makefile");
            (text.contains(base) && names(path, text, file))
                || (rules && patterns.iter().any(|p| text.contains(p.as_str())))
                || (shipped && path.as_str() == "scripts/Makefile.lib")
        });
        named.map(|(path, _)| path.as_str()).collect()
    }

    /// Whether this configuration may build an object of a folder, as the folder's Makefile says; `None` if it says
    /// nothing about it.
    pub fn may_build(&self, folder: &str, stem: &str) -> Option<bool> {
        let texts = ["Makefile", "Kbuild"].map(|name| self.texts.get(&within(folder, name)));
        let mut known = None;
        for text in texts.into_iter().flatten() {
            if let Some(built) = self.built_by(text, &format!("{stem}.o"), 0) {
                known = Some(built || known == Some(true));
            }
        }
        known
    }

    fn built_by(&self, text: &str, object: &str, depth: usize) -> Option<bool> {
        let mut known = None;
        for (left, right) in assignments(text) {
            if !right.split_whitespace().any(|word| word == object) {
                continue;
            }
            let (name, condition) = match left.rsplit_once('-') {
                Some((name, "y" | "m" | "objs")) => (name, true),
                Some((name, option)) => {
                    let option = option.strip_prefix("$(").and_then(|o| o.strip_suffix(')'));
                    (name, option.is_none_or(|o| self.options.contains(o)))
                }
                None => ("obj", true),
            };
            let built = condition
                && match name {
                    "obj" | "lib" => true,
                    _ if depth > 3 => true,
                    // A part of another object, if that is one.
                    part => self
                        .built_by(text, &format!("{part}.o"), depth + 1)
                        .unwrap_or(true),
                };
            known = Some(built || known == Some(true));
        }
        known
    }

    /// Whether a Rust file may be part of this kernel, in which `units` have debug information.
    pub fn may_build_rust(&self, kernel: &Kernel, file: &str, units: &BTreeSet<String>) -> bool {
        if file.starts_with("rust/") {
            return true;
        }
        let crate_of = |root: &str| {
            let prefix = format!("{root}/@/");
            units.iter().any(|unit| unit.starts_with(&prefix))
        };
        let mut folder = folder_of(file);
        loop {
            if self.texts.contains_key(&within(folder, "Makefile")) {
                break;
            }
            if folder.is_empty() {
                return true;
            }
            folder = folder_of(folder);
        }
        let stem = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or(path);
            name.strip_suffix(".rs").unwrap_or(name).to_owned()
        };
        if folder == folder_of(file) {
            if let Some(built) = self.may_build(folder, &stem(file)) {
                return built || crate_of(file);
            }
        }
        // A part of a crate whose root the Makefile names.
        let entries = fs::read_dir(kernel.source().join(folder));
        let names = entries.into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let roots: Vec<bool> = names
            .filter(|name| name.ends_with(".rs"))
            .filter_map(|name| self.may_build(folder, &stem(&name)))
            .collect();
        roots.is_empty() || roots.contains(&true)
    }
}

fn this_entry(programs: &mut BTreeMap<String, String>, file: String, makefile: &str) {
    programs.entry(file).or_insert_with(|| makefile.to_owned());
}

fn extension(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.rsplit_once('.').map_or("", |(_, e)| e)
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A name in a folder, with `..` resolved.
fn within(folder: &str, name: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The lines of a Makefile without comments, those that go on joined.
fn lines(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let line = match line.find('#') {
            Some(at) if line.as_bytes().get(at.wrapping_sub(1)) != Some(&b'\\') => &line[..at],
            _ => line,
        };
        match line.strip_suffix('\\') {
            Some(part) => {
                open.push_str(part);
                open.push(' ');
            }
            None => {
                open.push_str(line);
                out.push(std::mem::take(&mut open));
            }
        }
    }
    out.push(open);
    out
}

/// The variables that a Makefile sets, and to what.
fn assignments(text: &str) -> Vec<(String, String)> {
    let of = |line: String| {
        let (left, right) = line.split_once('=')?;
        let left = left.trim_end_matches(['+', ':', '?']).trim();
        (!left.is_empty() && !left.contains([' ', '\t']))
            .then(|| (left.to_owned(), right.trim().to_owned()))
    };
    lines(text).into_iter().filter_map(of).collect()
}

/// The rules of a Makefile by which an object is compiled from elsewhere.
fn copied(makefile: &str, text: &str) -> Vec<Copied> {
    let folder = folder_of(makefile);
    let place = |word: &str| {
        let rest = |start: &str| word.strip_prefix(start).map(|r| r.trim_start_matches('/'));
        match (rest("$(srctree)"), rest("$(src)").or(rest("$(obj)"))) {
            (Some(rest), _) => Some(within("", rest)),
            (_, Some(rest)) => Some(within(folder, rest)),
            _ if word.contains('$') => None,
            _ => Some(within(folder, word)),
        }
    };
    let mut found = Vec::new();
    for line in lines(text) {
        // What belongs to a rule begins with a tabulator.
        let Some((targets, needs)) = line.split_once(':').filter(|_| !line.starts_with('\t'))
        else {
            continue;
        };
        // `x := y`, and what a rule says for one target only.
        if needs.contains('=') || targets.contains('=') {
            continue;
        }
        let code = |word: &&str| matches!(extension(word), "c" | "S");
        let source = needs.split_whitespace().find(code).and_then(place);
        let Some(source) = source else {
            continue;
        };
        for object in targets.split_whitespace().filter_map(place) {
            if let Some(object) = object.strip_suffix(".o") {
                if source
                    .rsplit_once('.')
                    .is_some_and(|(stem, _)| stem != object)
                {
                    found.push(Copied {
                        object: object.to_owned(),
                        source: source.clone(),
                    });
                }
            }
        }
    }
    found
}

/// Whether a Makefile or script names a file.
fn names(makefile: &str, text: &str, file: &str) -> bool {
    let folder = folder_of(makefile);
    let name = makefile.rsplit('/').next().unwrap_or(makefile);
    let script =
        !(name.starts_with("Makefile") || name.starts_with("Kbuild") || name.ends_with(".mk"));
    let base = file.rsplit('/').next().unwrap_or(file);
    let apart = |c: char| c.is_whitespace() || "=:;,\"'`|<>&".contains(c);
    let mut words = lines(text)
        .into_iter()
        .filter(|line| line.contains(base))
        .flat_map(|line| line.split(apart).map(str::to_owned).collect::<Vec<_>>());
    words.any(|word| {
        // What is left of `$(call f,a.h)`.
        let open = word.matches(['(', '{']).count();
        let mut word = word.as_str();
        for _ in open..word.matches([')', '}']).count() {
            word = word.strip_suffix([')', '}']).unwrap_or(word);
        }
        if !word
            .strip_suffix(base)
            .is_some_and(|head| head.is_empty() || head.ends_with('/'))
        {
            return false;
        }
        let (variable, rest) = match word.rfind([')', '}']) {
            Some(at) => {
                let from = word[..at].rfind(['(', '{']).map_or(0, |from| from + 1);
                (
                    Some(&word[from..at]),
                    word[at + 1..].trim_start_matches('/'),
                )
            }
            None => (None, word),
        };
        let tail = rest.rsplit("../").next().unwrap_or(rest);
        let fits = file == tail || file.strip_suffix(tail).is_some_and(|h| h.ends_with('/'));
        match variable {
            _ if script => tail.contains('/') && fits,
            Some("obj" | "objtree" | "out" | "@D") => false,
            Some("srctree") => within("", rest) == file,
            Some("src" | "M") => within(folder, rest) == file,
            None => within(folder, rest) == file || within("", rest) == file,
            Some(_) => fits,
        }
    })
}

/// A rule of the kernel's build that makes files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it makes, relative to the output tree.
    pub targets: Vec<String>,
    /// How, in the output tree.
    pub command: String,
}

/// What the kernel's build makes of a changed file besides code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generated {
    /// Source of a unit of its own, of which the shipped form stays.
    Table {
        /// The source.
        target: String,
        /// What makes it.
        by: String,
    },
    /// Something that units include.
    Constants {
        /// The header.
        target: String,
        /// What makes it.
        by: String,
    },
    /// Nobody can tell.
    Unknown {
        /// What reads the file.
        by: String,
        /// Why it cannot be told.
        why: String,
    },
}

/// Rules that are no commands of their own in the build's records: the Makefile, a text that has to be in it, the target,
/// and the command in the output tree, with `@` for the source tree.
const CHECKED: [(&str, &str, &str, &str); 1] = [(
    "arch/x86/Makefile",
    "$(AWK) -f $(cpufeaturemasks.awk) $(cpufeatures_hdr) $(KCONFIG_CONFIG)",
    "arch/x86/include/generated/asm/cpufeaturemasks.h",
    "awk -f @/arch/x86/tools/cpufeaturemasks.awk @/arch/x86/include/asm/cpufeatures.h .config",
)];

/// Finds what would be generated in another form from a changed file, which `readers` name or include.
pub fn generated(
    kernel: &Kernel,
    compiler: &Compiler<'_>,
    patches: &Patches,
    file: &str,
    readers: &BTreeSet<String>,
    work: &Path,
) -> Result<Vec<Generated>> {
    let mut found = Vec::new();
    for reader in readers {
        // The boot code has run, and programs below these folders make no code.
        if [
            "arch/x86/boot/",
            "arch/x86/tools/",
            "scripts/",
            "usr/",
            "tools/",
        ]
        .iter()
        .any(|folder| reader.starts_with(folder))
        {
            continue;
        }
        if reader.ends_with(".c")
            && !read_by_program(kernel, compiler, patches, reader, work)?.contains(file)
        {
            continue;
        }
        found.extend(made_by(kernel, compiler, patches, file, reader, work)?);
    }
    found.dedup();
    Ok(found)
}

fn made_by(
    kernel: &Kernel,
    compiler: &Compiler<'_>,
    patches: &Patches,
    file: &str,
    reader: &str,
    work: &Path,
) -> Result<Vec<Generated>> {
    let folder = folder_of(reader);
    let source = quote(&kernel.source())?;
    let mut rules = match folder {
        // Whole architectures and the top are no folders to ask for.
        "" | "arch/x86" => recorded_below(kernel, "arch/x86/include/generated")?,
        _ => rules(kernel, compiler, reader, file)?,
    };
    let text = fs::read_to_string(kernel.source().join(reader)).unwrap_or_default();
    for (makefile, line, target, command) in CHECKED {
        if makefile == reader && text.contains(line) {
            let to = format!("{} > {target}", command.replace('@', &source));
            rules.push(Rule {
                targets: vec![target.to_owned()],
                command: to,
            });
        }
    }
    // A program of the build is made by a rule, and used by others.
    let program = reader.strip_suffix(".c");
    let reads = |rule: &Rule| {
        let words = rule
            .command
            .split(|c: char| c.is_whitespace() || "'\"".contains(c));
        words.filter(|w| !w.is_empty()).any(|word| {
            let path = word.strip_prefix("./").unwrap_or(word);
            let of_source = word
                .strip_prefix(source.as_str())
                .map(|rest| within("", rest.trim_start_matches('/')));
            of_source.as_deref() == Some(file) || program == Some(path)
        })
    };
    // Objects are compared elsewhere.
    let other = |rule: &Rule| {
        let object = |t: &String| matches!(extension(t), "o" | "s" | "a" | "ko" | "so" | "i");
        let targets = &rule.targets;
        targets
            .iter()
            .any(|t| Some(t.as_str()) == program || object(t))
    };
    let users: Vec<&Rule> = rules
        .iter()
        .filter(|rule| reads(rule) && !other(rule))
        .collect();
    if users.is_empty() && text.contains("$(call filechk,") {
        // Such rules are seen neither in the build's records nor in its plans.
        return Ok(vec![Generated::Unknown {
            by: reader.to_owned(),
            why: "it has rules that the build does not print".to_owned(),
        }]);
    }
    let out = work.join("generated").join(reader.replace('/', "-"));
    let runner = Runner::new(kernel, &rules, patches, out)?;
    let mut found = Vec::new();
    for rule in users {
        let (old, new) = match (runner.run(rule, false), runner.run(rule, true)) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(error), _) | (_, Err(error)) => {
                found.push(Generated::Unknown {
                    by: reader.to_owned(),
                    why: format!("{error:#}"),
                });
                continue;
            }
        };
        for (target, _) in new.iter().filter(|(t, bytes)| old.get(*t) != Some(*bytes)) {
            let (target, by) = (target.clone(), reader.to_owned());
            found.push(
                match target.ends_with(".c") && !is_included(kernel, &target) {
                    true => Generated::Table { target, by },
                    false => Generated::Constants { target, by },
                },
            );
        }
    }
    Ok(found)
}

/// Whether a file of its folder includes a generated C file.
fn is_included(kernel: &Kernel, target: &str) -> bool {
    let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
    let wanted = format!("\"{name}\"");
    let entries = fs::read_dir(kernel.source().join(folder));
    entries.into_iter().flatten().flatten().any(|entry| {
        let bytes = fs::read(entry.path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(&wanted)
    })
}

/// The rules that the build ran in a folder of the output tree and below it.
fn recorded_below(kernel: &Kernel, folder: &str) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    let mut queue = vec![kernel.build().join(folder)];
    while let Some(folder) = queue.pop() {
        rules.extend(recorded(&folder)?);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                queue.push(entry.path());
            }
        }
    }
    Ok(rules)
}

/// The rules by which the build makes the files of a folder that are not objects: those that it ran, and those that it
/// would run if `file` were new, which `makefile` of that folder may name.
fn rules(
    kernel: &Kernel,
    compiler: &Compiler<'_>,
    makefile: &str,
    file: &str,
) -> Result<Vec<Rule>> {
    let folder = folder_of(makefile);
    let mut rules = recorded(&kernel.build().join(folder))?;
    // Asking the build takes seconds.
    let name = format!("{folder}--{file}").replace('/', "-");
    let kept = kernel.dir.join("kcare-rules").join(name);
    let text = match fs::read_to_string(&kept) {
        Ok(text) => text,
        Err(_) => {
            let text = fs::read_to_string(kernel.source().join(makefile)).unwrap_or_default();
            let new = spellings(&kernel.source(), makefile, &text, file);
            let plan = compiler.plan_of_folder(folder, &new)?;
            let lines = plan.lines().filter(|line| !planned(line).is_empty());
            let text = lines.fold(String::new(), |text, line| text + line + "\n");
            let temporary = kept.with_extension(std::process::id().to_string());
            let write = || -> std::io::Result<()> {
                fs::create_dir_all(kernel.dir.join("kcare-rules"))?;
                fs::write(&temporary, &text)?;
                fs::rename(&temporary, &kept)
            };
            if write().is_err() {
                let _ = fs::remove_file(&temporary);
            }
            text
        }
    };
    for rule in planned(&text) {
        let known = |known: &Rule| rule.targets.iter().any(|t| known.targets.contains(t));
        if !rules.iter().any(known) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// What a program of the build is made from, as the compiler tells; nothing if this kernel's build does not make it.
fn read_by_program(
    kernel: &Kernel,
    compiler: &Compiler<'_>,
    patches: &Patches,
    program: &str,
    work: &Path,
) -> Result<BTreeSet<String>> {
    let cache = kernel.dir.join("kcare-programs");
    let mut known = computed::load(&cache);
    if let Some(files) = known.get(program) {
        return Ok(files.clone());
    }
    let rules = rules(kernel, compiler, program, program)?;
    let stem = program.strip_suffix(".c").unwrap_or(program);
    let object = format!("{stem}.o");
    let makes = |rule: &&Rule| rule.targets.iter().any(|t| *t == object || t == stem);
    let mut files = BTreeSet::new();
    for (number, rule) in rules.iter().filter(makes).enumerate() {
        // A folder for each, as the trees of links in it are made once.
        let name = format!("{}-{number}", program.replace('/', "-"));
        let out = work.join("programs").join(name);
        let runner = Runner::new(kernel, &rules, patches, out.clone())?;
        runner.run(rule, false)?;
        // What links objects has no list.
        let text = fs::read_to_string(out.join("old/list.d")).unwrap_or_default();
        let source = kernel.source();
        let build = kernel.build();
        let words = text.split_whitespace();
        files.extend(words.filter_map(|word| computed::within(&source, &build.join(word))));
    }
    known.insert(program.to_owned(), files.clone());
    computed::save(&cache, &known);
    Ok(files)
}

/// The names under which a Makefile may know a file of the source tree, absolute: as it is, and as it is spelled there.
fn spellings(source: &Path, makefile: &str, text: &str, file: &str) -> BTreeSet<String> {
    let source = source.display();
    let folder = folder_of(makefile);
    let base = file.rsplit('/').next().unwrap_or(file);
    let mut found = BTreeSet::from([format!("{source}/{file}")]);
    let apart = |c: char| c.is_whitespace() || "=:;,\"'`|<>&)".contains(c);
    for word in text.split(apart).filter(|word| word.ends_with(base)) {
        // `$(src)/../x.h` has been parted behind the variable.
        let rest = word.trim_start_matches('/');
        if within(folder, rest) == file {
            found.insert(format!("{source}/{folder}/{rest}"));
        }
    }
    found
}

/// The rules that the build ran in a folder of the output tree.
fn recorded(folder: &Path) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if name.starts_with('.') && name.ends_with(".cmd") {
            let bytes = fs::read(&path)?;
            let text = String::from_utf8_lossy(&bytes);
            rules.extend(text.lines().next().and_then(saved));
        }
    }
    rules.sort_by(|a: &Rule, b| (&a.command, &a.targets).cmp(&(&b.command, &b.targets)));
    // A command that makes several files is recorded for each of them.
    rules.dedup_by(|later, first| {
        let same = later.command == first.command;
        if same {
            first.targets.append(&mut later.targets);
        }
        same
    });
    Ok(rules)
}

/// The rule in a line `savedcmd_TARGET := COMMAND`.
pub(crate) fn saved(line: &str) -> Option<Rule> {
    let (target, command) = line.strip_prefix("savedcmd_")?.split_once(" := ")?;
    let command = command.replace("$(pound)", "#").replace("$$", "$");
    Some(Rule {
        targets: vec![target.to_owned()],
        command: command.trim().to_owned(),
    })
}

/// The rules in what `make -n` prints, but those for objects of the kernel.
fn planned(text: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    for line in text.lines() {
        let Some((said, rest)) = line
            .split_once("echo '  ")
            .and_then(|(_, rest)| rest.split_once("';"))
        else {
            continue;
        };
        let mut words = said.split_whitespace().filter(|w| *w != "[M]");
        let verb = words.next().unwrap_or_default();
        let targets: Vec<String> = words.map(str::to_owned).collect();
        if targets.is_empty() || matches!(verb, "CC" | "AS" | "AR" | "LD" | "RUSTC" | "CHECK") {
            continue;
        }
        // Behind the traps that remove an unfinished target.
        let command = match rest.rsplit_once("kill -s PIPE $$' PIPE;") {
            Some((_, command)) => command,
            None => rest,
        };
        let ends = [
            "; printf '%s\\n' 'savedcmd_",
            "; ./scripts/basic/fixdep ",
            "; scripts/basic/fixdep ",
        ];
        let end = ends.iter().filter_map(|end| command.find(end)).min();
        let command = command[..end.unwrap_or(command.len())].trim();
        rules.push(Rule {
            targets,
            command: command.to_owned(),
        });
    }
    rules
}

/// Runs rules of the kernel's build apart from its output tree.
#[derive(Debug)]
pub struct Runner<'a> {
    kernel: &'a Kernel,
    rules: &'a [Rule],
    patches: &'a Patches,
    /// The patched source tree.
    tree: PathBuf,
    /// Where the outputs go.
    out: PathBuf,
}

impl<'a> Runner<'a> {
    /// Makes ready to run `rules` into `out`, which has a patched source tree of its own.
    pub fn new(
        kernel: &'a Kernel,
        rules: &'a [Rule],
        patches: &'a Patches,
        out: PathBuf,
    ) -> Result<Self> {
        // `../x.h` in a file leads to the patched tree only if the file's folder is no link.
        let source = kernel.source();
        let words = rules
            .iter()
            .flat_map(|rule| rule.command.split_whitespace());
        let files = words.filter_map(|word| computed::within(&source, Path::new(word)));
        let real: BTreeSet<PathBuf> = files
            .filter(|file| source.join(file).is_file())
            .map(|file| PathBuf::from(folder_of(&file)))
            .collect();
        let tree = out.join("tree");
        patches.link_tree(&source.canonicalize()?, &tree, &real)?;
        // Lines that keep their numbers are for the compiler; a script would read them.
        patches.write_plain(&tree)?;
        Ok(Runner {
            kernel,
            rules,
            patches,
            tree,
            out,
        })
    }

    /// What a rule makes of the original or of the patched source: all files that its command names.
    pub fn run(&self, rule: &Rule, patched: bool) -> Result<BTreeMap<String, Vec<u8>>> {
        let out = self.out.join(if patched { "new" } else { "old" });
        self.make(rule, patched, &out, 0)?;
        let mut files = BTreeMap::new();
        for path in self.paths(rule) {
            if self.maker(&path, rule).is_some() {
                continue;
            }
            if let Ok(bytes) = fs::read(out.join(&path)) {
                files.insert(path, bytes);
            } else if rule.targets.contains(&path) {
                bail!("the kernel's build makes no {path}");
            }
        }
        Ok(files)
    }

    /// Another rule that makes a file.
    fn maker(&self, path: &str, rule: &Rule) -> Option<&Rule> {
        let makes = |other: &&Rule| *other != rule && other.targets.iter().any(|t| t == path);
        self.rules.iter().find(makes)
    }

    /// The files of the output tree that a rule names, which it may read or write.
    fn paths(&self, rule: &Rule) -> BTreeSet<String> {
        let build = self.kernel.build();
        let mut paths: BTreeSet<String> = rule.targets.iter().cloned().collect();
        let apart = |c: char| c.is_whitespace() || "'\"<>;=,".contains(c);
        for word in rule.command.split(apart) {
            let word = word.strip_prefix("./").unwrap_or(word);
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
            let relative = word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word.chars().all(plain)
                && !word.contains("..");
            let folder = build.join(folder_of(word));
            if relative && word.contains('/') && folder.is_dir() && !build.join(word).is_dir() {
                paths.insert(word.to_owned());
            }
        }
        paths
    }

    fn make(&self, rule: &Rule, patched: bool, out: &Path, depth: usize) -> Result<()> {
        if depth > 4 {
            bail!("the rule for {} needs itself", rule.targets.join(" "));
        }
        let mut command = rule.command.clone();
        // Nothing is written to the output tree, whatever the command does with the files that it names.
        for path in self.paths(rule) {
            let to = out.join(&path);
            fs::create_dir_all(to.parent().context("no parent")?)?;
            if !to.exists() {
                let from = self.kernel.build().join(&path);
                match self.maker(&path, rule) {
                    Some(other) => self.make(other, patched, out, depth + 1)?,
                    None if !rule.targets.contains(&path) && from.is_file() => {
                        fs::copy(&from, &to)?;
                    }
                    None => {}
                }
            }
            command = moved(&command, &path, out)?;
        }
        let source = self.kernel.source();
        let list = out.join("list.d");
        let _ = fs::remove_file(&list);
        command = straight(&command, &source, &list)?;
        if patched {
            command = replace_path(&command, &quote(&source)?, &quote(&self.tree)?);
        }
        let output = self.kernel.command("sh").args(["-ec", &command]).output()?;
        if !output.status.success() {
            bail!(
                "cannot make {}:\n{}",
                rule.targets.join(" "),
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        if patched {
            self.no_unpatched(&list)?;
        }
        Ok(())
    }

    /// Fails if a list of dependencies has the unpatched form of a file that the patches change.
    fn no_unpatched(&self, list: &Path) -> Result<()> {
        let source = self.kernel.source().canonicalize()?;
        let text = fs::read_to_string(list).unwrap_or_default();
        for word in text.split_whitespace() {
            let Ok(path) = self.kernel.build().join(word).canonicalize() else {
                continue;
            };
            let name = path.strip_prefix(&source).ok().and_then(Path::to_str);
            if let Some(name) = name.filter(|name| self.patches.files.contains_key(*name)) {
                bail!("it reads the unpatched {name}");
            }
        }
        Ok(())
    }
}

/// A command whose paths in the source tree have no way back, and whose compiler writes its dependencies to `list`.
fn straight(command: &str, source: &Path, list: &Path) -> Result<String> {
    let list = quote(list)?;
    let words = command.split(' ').map(|word| {
        if word.starts_with("-Wp,-MMD,") {
            return format!("-Wp,-MMD,{list}");
        }
        let path = word.trim_end_matches(';');
        match computed::within(source, Path::new(path)) {
            Some(name) if path.contains("/../") => {
                format!("{}{}", source.join(name).display(), &word[path.len()..])
            }
            _ => word.to_owned(),
        }
    });
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// A command that reads or writes a file below `out` instead of the one of the output tree.
fn moved(command: &str, path: &str, out: &Path) -> Result<String> {
    let to = quote(&out.join(path))?;
    let mut text = String::new();
    let mut rest = command;
    while let Some(at) = rest.find(path) {
        let (before, after) = (&rest[..at], &rest[at + path.len()..]);
        let before = before.strip_suffix("./").unwrap_or(before);
        let part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let whole = !before.ends_with(part) && !after.starts_with(part);
        text.push_str(before);
        text.push_str(match whole {
            true => &to,
            false => &rest[before.len()..at + path.len()],
        });
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(files: &[(&str, &str)]) -> Inputs {
        let mut inputs = Inputs::default();
        for (path, text) in files {
            inputs.add(path, text);
        }
        inputs
    }

    #[test]
    fn makefiles_name_what_they_read() {
        let inputs = inputs(&[
            (
                "a/cpu/Makefile",
                "cpufeature = $(src)/../include/asm/f.h\n# $(src)/comment.h\n",
            ),
            (
                "b/Makefile",
                "$(obj)/x.c: $(srctree)/include/linux/oid.h \\\n\t$(src)/gen\n",
            ),
            (
                "c/Makefile",
                "$(obj)/%.c: $(src)/%.uc $(obj)/made.h\nl := $(addprefix $(obj)/,q.h)\n",
            ),
            ("d/gen.sh", "read include/linux/oid.h f.h\n"),
        ]);
        assert_eq!(inputs.readers("a/include/asm/f.h"), ["a/cpu/Makefile"]);
        assert_eq!(inputs.readers("b/include/asm/f.h"), [""; 0]);
        assert_eq!(
            inputs.readers("include/linux/oid.h"),
            ["b/Makefile", "d/gen.sh"]
        );
        assert_eq!(inputs.readers("a/cpu/comment.h"), [""; 0]);
        assert_eq!(inputs.readers("b/gen"), ["b/Makefile"]);
        assert_eq!(inputs.readers("c/int.uc"), ["c/Makefile"]);
        assert_eq!(inputs.readers("b/int.uc"), [""; 0]);
        assert_eq!(inputs.readers("c/made.h"), [""; 0]);
    }

    #[test]
    fn an_object_may_be_compiled_from_elsewhere() {
        let inputs = inputs(&[
            (
                "a/image/Makefile",
                "$(obj)/s.o: $(srctree)/lib/s.c FORCE\n\tcc $(srctree)/lib/no.c\n$(obj)/t.o: $(src)/../t.c\n\
                 $(obj)/own.o: $(src)/own.c\n$(obj)/h.o: $(src)/h.h\nx := a:b.c\n",
            ),
            (
                "d/xe/Makefile",
                "$(obj)/display/%.o: $(srctree)/d/i915/%.c FORCE\nhostprogs := tool\n$(obj)/tool.o: ../other.c\n",
            ),
        ]);
        let copies = |file| Vec::from_iter(inputs.copies(file));
        assert_eq!(copies("lib/s.c"), ["a/image/s.c"]);
        assert_eq!(copies("a/t.c"), ["a/image/t.c"]);
        assert_eq!(copies("d/i915/x.c"), ["d/xe/display/x.c"]);
        for file in ["lib/no.c", "a/image/own.c", "d/other.c", "b.c"] {
            assert_eq!(copies(file), [""; 0], "{file}");
        }
    }

    #[test]
    fn programs_of_the_build_are_named_by_makefiles() {
        let inputs = inputs(&[(
            "s/Makefile",
            "hostprogs-always-$(CONFIG_X) += one two # three\ntwo-objs := two.o part.o\n",
        )]);
        for file in ["s/one.c", "s/two.c", "s/part.c"] {
            assert_eq!(inputs.program(file), Some("s/Makefile"), "{file}");
        }
        assert_eq!(inputs.program("s/three.c"), None);
    }

    #[test]
    fn a_makefile_says_what_a_configuration_builds() {
        let mut inputs = inputs(&[(
            "d/Makefile",
            "obj-$(CONFIG_A) += a.o\nobj-$(CONFIG_B) += b.o whole.o\nwhole-y := part.o \\\n\tmore.o\n\
             c-objs := d.o\nobj-y += c.o\n",
        )]);
        inputs.options.insert("CONFIG_A".to_owned());
        assert_eq!(inputs.may_build("d", "a"), Some(true));
        assert_eq!(inputs.may_build("d", "b"), Some(false));
        assert_eq!(inputs.may_build("d", "part"), Some(false));
        assert_eq!(inputs.may_build("d", "more"), Some(false));
        assert_eq!(inputs.may_build("d", "d"), Some(true));
        assert_eq!(inputs.may_build("d", "e"), None);
        assert_eq!(inputs.may_build("e", "a"), None);
    }

    #[test]
    fn rules_are_what_the_build_ran_or_would_run() {
        let line = "savedcmd_a/f.h := a/gen a/f.h '$(pound)x' $$y ";
        let rule = saved(line).unwrap();
        assert_eq!(rule.command, "a/gen a/f.h '#x' $y");
        let text = "set -e;  echo '  GEN     a/f.h a/g.h';   trap 'rm -f a/f.h; kill -s HUP $$' HUP;  \
                    trap 'rm; kill -s PIPE $$' PIPE; a/gen a/f.h a/g.h; printf '%s\\n' 'savedcmd_a/f.h := a/gen' > x\n\
                    set -e;  echo '  CC      a/x.o';   gcc\nset -e; echo '  MKCAP   c.c';   sh mk.sh c.c\n";
        let rules = planned(text);
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0].targets, ["a/f.h", "a/g.h"]);
        assert_eq!(rules[0].command, "a/gen a/f.h a/g.h");
        assert_eq!(rules[1].command, "sh mk.sh c.c");
    }

    #[test]
    fn a_file_has_the_names_that_a_makefile_gives_it() {
        let text = "f = $(src)/../include/f.h\ng := $(srctree)/a/include/f.h other/f.h\n";
        let names = spellings(Path::new("/s"), "a/cpu/Makefile", text, "a/include/f.h");
        let wanted = ["/s/a/cpu/../include/f.h", "/s/a/include/f.h"];
        assert_eq!(names.into_iter().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_moved_rule_writes_elsewhere() {
        let command = "gcc -Wp,-MMD,a/.f.h.d ./a/f.h b/a/f.h a/f.h.x >a/f.h";
        assert_eq!(
            moved(command, "a/f.h", Path::new("/o")).unwrap(),
            "gcc -Wp,-MMD,a/.f.h.d /o/a/f.h b/a/f.h a/f.h.x >/o/a/f.h"
        );
        let command = "cc -Wp,-MMD,a/.f.d /s/a/../b.h /s/c.h ../d.h";
        assert_eq!(
            straight(command, Path::new("/s"), Path::new("/o/l")).unwrap(),
            "cc -Wp,-MMD,/o/l /s/b.h /s/c.h ../d.h"
        );
    }
}
