// SPDX-License-Identifier: GPL-2.0

//! Compiles units with the very commands that the kernel was built with.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{bail, Context, Result};

use crate::author;
use crate::commands::Commands;
use crate::kernel::Kernel;
use crate::obj::{Layout, Obj};
use crate::store::Store;
use crate::units::generator;

/// A unit of the kernel and how it is compiled.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Source file relative to the source tree.
    pub source: String,
    /// The shell command that the kernel's build runs, in the output tree.
    command: String,
    /// Whether objtool has no part in it.
    bare: bool,
}

impl Unit {
    /// Whether it is compiled for what it says and does not become code, or only to be compared.
    fn bare(&self) -> bool {
        self.bare || generator(&self.source)
    }

    /// The same to be compiled only to see whether it changes: code of other images is not as objtool wants it.
    pub fn only_compared(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Whether it is C from which the compiler drops what nothing mentions.
    pub fn drops(&self) -> bool {
        const KEEPING: [&str; 4] = [
            "-O0",
            "-fno-toplevel-reorder",
            "-fno-unit-at-a-time",
            "-fkeep-",
        ];
        let keeps = |word: &str| KEEPING.iter().any(|start| word.starts_with(start));
        self.source.ends_with(".c") && !self.command.split_whitespace().any(keeps)
    }

    /// Whether it becomes part of a module.
    pub fn module(&self) -> bool {
        of_module(&self.command)
    }

    /// The names of the modules that it becomes part of (`modname` in scripts/Makefile.lib).
    pub fn module_names(&self) -> Vec<String> {
        names_of_modules(&self.command)
    }
}

/// What to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The unmodified source with the shipped flags.
    Exact,
    /// The patched source with the shipped flags.
    ExactPatched,
    /// The unmodified source, each function and variable in a section of its own.
    Split,
    /// The patched source, each function and variable in a section of its own.
    Patched,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Flavour; 4] = [
        Flavour::Exact,
        Flavour::ExactPatched,
        Flavour::Split,
        Flavour::Patched,
    ];

    /// Whether the source is the patched one.
    pub fn patched(self) -> bool {
        matches!(self, Flavour::Patched | Flavour::ExactPatched)
    }

    fn extension(self) -> &'static str {
        match self {
            Flavour::Exact => "exact",
            Flavour::ExactPatched => "exact-patched",
            Flavour::Split => "split",
            Flavour::Patched => "patched",
        }
    }
}

/// Compiles units of one kernel.
#[derive(Debug)]
pub struct Compiler<'a> {
    kernel: &'a Kernel,
    work: &'a Path,
    source: PathBuf,
    /// The patched source tree.
    tree: PathBuf,
    /// The headers for authors of patches.
    headers: PathBuf,
    objtool: String,
    store: Store,
}

impl<'a> Compiler<'a> {
    /// Prepares compilation into `work`; the patched tree is `work/tree`.
    pub fn new(kernel: &'a Kernel, work: &'a Path) -> Result<Self> {
        let objtool = objtool_arguments(kernel, work)?;
        let headers = work.join("include");
        author::write_headers(&headers)?;
        Ok(Self {
            kernel,
            work,
            source: kernel.source(),
            tree: work.join("tree"),
            headers,
            objtool,
            store: Store::new(kernel.dir.join("kcare-objects")),
        })
    }

    /// The patched source tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Asks the kernel's build for the commands of source files, which must be C.
    pub fn units(&self, sources: &BTreeSet<String>) -> Result<Vec<Unit>> {
        let plan = Plan::new(self.kernel, sources, Which::Each)?;
        let made: Vec<String> = sources
            .iter()
            .map(|s| object_path(s))
            .filter(|o| plan.missing.contains(o))
            .filter(|o| plan.generated.iter().any(|folder| o.starts_with(folder)))
            .collect();
        if !made.is_empty() {
            // It makes what they include, too.
            let mut make = make(self.kernel);
            let output = make.arg(format!("-sj{}", jobs())).args(&made).output();
            let output = output.context("cannot enter the build root")?;
            if !output.status.success() {
                bail!(
                    "the kernel's build cannot make {}:\n{}",
                    made.join(" "),
                    String::from_utf8_lossy(&output.stderr).trim_end()
                );
            }
        }
        sources
            .iter()
            .map(|source| {
                let command = plan
                    .commands
                    .get(&object_path(source))
                    .with_context(|| format!("the kernel's build has no command for {source}"))?;
                Ok(Unit {
                    source: source.clone(),
                    command: command.clone(),
                    bare: false,
                })
            })
            .collect()
    }

    /// What the kernel's build would do to make a folder if these files were new, as `make -n` prints it.
    pub fn plan_of_folder(&self, folder: &str, new: &BTreeSet<String>) -> Result<String> {
        let mut make = make(self.kernel);
        make.args(["-n", "-k"]);
        for file in new {
            make.arg("-W").arg(file);
        }
        let output = make.arg(format!("{folder}/")).output();
        let output = output.context("cannot enter the build root")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The files that the unmodified unit reads, absolute, as the preprocessor tells.
    pub fn reads(&self, unit: &Unit) -> Result<Vec<PathBuf>> {
        let out = self.object(unit, Flavour::Exact).with_extension("reads");
        let deps = dep_file(&out);
        let command = self.command(unit, Flavour::Exact, &out, &deps)?;
        self.run(unit, &command.replace(" -c ", " -E -P "))?;
        fs::remove_file(&out)?;
        self.read_deps(&deps)
    }

    /// Where the object of a unit goes.
    pub fn object(&self, unit: &Unit, flavour: Flavour) -> PathBuf {
        self.work.join(format!(
            "{}.{}.o",
            unit.source.replace('/', "-"),
            flavour.extension()
        ))
    }

    /// Reads the object of a unit.
    pub fn read(&self, unit: &Unit, flavour: Flavour, layout: Layout) -> Result<Obj> {
        let root = if flavour.patched() {
            &self.tree
        } else {
            &self.source
        };
        Obj::read(&self.object(unit, flavour), root, layout)
    }

    /// Compiles, in parallel.
    pub fn compile(&self, jobs_list: &[(Unit, Flavour)]) -> Result<()> {
        parallel(jobs_list, |(unit, flavour)| {
            self.compile_one(unit, *flavour)
        })
    }

    fn compile_one(&self, unit: &Unit, flavour: Flavour) -> Result<()> {
        let object = self.object(unit, flavour);
        let deps = dep_file(&object);
        let command = self.command(unit, flavour, &object, &deps)?;
        let module = if unit.module() { " --module" } else { "" };
        let objtool = format!(
            " && ./tools/objtool/objtool {} --link{module} {}",
            self.objtool,
            quote(&object)?
        );
        let script = if unit.bare() {
            command
        } else {
            command + &objtool
        };
        // Under another name the object is the same.
        let name = object.file_name().context("no name")?.to_string_lossy();
        let anywhere = script.replace(quote(self.work)?.as_str(), "");
        let reusable = !flavour.patched();
        if reusable && self.store.fetch(&name, &anywhere, &object) {
            return Ok(());
        }
        let output = self
            .kernel
            .command("sh")
            .args(["-c", &script])
            .output()
            .context("cannot enter the build root")?;
        if !output.status.success() {
            bail!(
                "cannot compile {} ({}):\n{}\nThe command was, in {}:\n{script}{}",
                unit.source,
                flavour.extension(),
                String::from_utf8_lossy(&output.stderr).trim_end(),
                self.kernel.build().display(),
                match flavour.patched() {
                    true => "\nHint: if the fix uses what this version lacks, name the patch that adds it before it.",
                    false => "",
                }
            );
        }
        if reusable {
            let mut read = self.deps(unit, flavour)?;
            read.extend(self.tools(unit));
            // Losing it costs a compilation, nothing else.
            let _ = self.store.keep(&name, &anywhere, &object, &read);
        }
        Ok(())
    }

    /// The programs that make an object.
    fn tools(&self, unit: &Unit) -> Vec<PathBuf> {
        let compiler = unit.command.split(' ').next().unwrap_or_default();
        [
            self.kernel.dir.join("root/usr/bin").join(compiler),
            self.kernel.build().join("tools/objtool/objtool"),
        ]
        .into_iter()
        .filter(|path| path.exists())
        .collect()
    }

    /// The shell command for one flavour.
    fn command(&self, unit: &Unit, flavour: Flavour, object: &Path, deps: &Path) -> Result<String> {
        let old_object = format!(" -o {} ", object_path(&unit.source));
        if unit.command.matches(&old_object).count() != 1 {
            bail!(
                "the command of {} does not name its object once: {}",
                unit.source,
                unit.command
            );
        }
        let split = match flavour {
            Flavour::Exact | Flavour::ExactPatched => "",
            // BTF tells the layouts of structures, DWARF the functions that static variables are local to; where
            // each variable is while the code runs costs more time and is not needed.
            Flavour::Split | Flavour::Patched => {
                " -ffunction-sections -fdata-sections -gbtf -gdwarf-5 -fno-var-tracking"
            }
        };
        // Debug information does not change code, but all of it takes half of the time.
        let needed = |word: &&str| {
            *word != "-g" && !word.starts_with("-gdwarf") && !word.starts_with("-Wp,-MMD,")
        };
        let words: Vec<&str> = unit.command.split(' ').filter(needed).collect();
        let new_object = format!("{split} -o {} ", quote(object)?);
        let mut command = words.join(" ").replace(&old_object, &new_object);
        if flavour.patched() {
            command = replace_path(&command, &quote(&self.source)?, &quote(&self.tree)?);
            command.push_str(&format!(" -I{}", quote(&self.headers)?));
        }
        command.push_str(&format!(" -Wp,-MMD,{}", quote(deps)?));
        Ok(command)
    }

    /// The files that a compiled unit included, absolute.
    pub fn deps(&self, unit: &Unit, flavour: Flavour) -> Result<Vec<PathBuf>> {
        self.read_deps(&dep_file(&self.object(unit, flavour)))
    }

    fn read_deps(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (_, list) = text.split_once(':').context("malformed dependency file")?;
        Ok(list
            .split_whitespace()
            .filter(|word| *word != "\\")
            .map(|word| self.kernel.build().join(word))
            .collect())
    }

    /// What the preprocessor makes of a unit, with line markers.
    pub fn text(&self, unit: &Unit, flavour: Flavour) -> Result<String> {
        let out = self.object(unit, flavour).with_extension("text");
        let command = self.command(unit, flavour, &out, &dep_file(&out))?;
        self.run(unit, &command.replace(" -c ", " -E "))?;
        read_lossy(&out)
    }

    /// What the compiler tells about functions that it inlines and copies (`-fdump-ipa-clones`).
    pub fn clones(&self, unit: &Unit, flavour: Flavour) -> Result<String> {
        let out = self.object(unit, flavour).with_extension("clones");
        // It tells nothing without making an object.
        let object = out.with_extension("clones.o");
        let command = self.command(unit, flavour, &object, &dep_file(&out))?;
        self.run(
            unit,
            &format!("{command} -fdump-ipa-clones={}", quote(&out)?),
        )?;
        read_lossy(&out)
    }

    /// Lets the preprocessor or compiler tell about a unit.
    fn run(&self, unit: &Unit, command: &str) -> Result<()> {
        let output = self.kernel.command("sh").args(["-c", command]).output()?;
        if !output.status.success() {
            bail!(
                "the compiler tells nothing about {}:\n{}\nThe command was:\n{command}",
                unit.source,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        Ok(())
    }

    /// Runs only the preprocessor; of the unpatched source its text is known after the first time.
    pub fn preprocess(&self, unit: &Unit, flavour: Flavour) -> Result<Preprocessed> {
        let out = self.object(unit, flavour).with_extension("i");
        let deps = dep_file(&out);
        let command = self
            .command(unit, flavour, &out, &deps)?
            .replace(" -c ", " -E -P ");
        let name = out.file_name().context("no name")?.to_string_lossy();
        let anywhere = command.replace(quote(self.work)?.as_str(), "");
        let reusable = !flavour.patched();
        if reusable && self.store.fetch(&name, &anywhere, &out) {
            return Ok(Preprocessed {
                digest: fs::read(&out)?,
                text: None,
                deps: Vec::new(),
            });
        }
        self.run(unit, &command)?;
        // The text itself would fill the disk when half of the kernel includes a header.
        let text = fs::read(&out)?;
        let digest = digest(&text);
        fs::write(&out, &digest)?;
        let mut read = self.read_deps(&deps)?;
        if reusable {
            read.extend(self.tools(unit));
            // Losing it costs a run of the preprocessor, nothing else.
            let _ = self.store.keep(&name, &anywhere, &out, &read);
            read.clear();
        }
        Ok(Preprocessed {
            digest: digest.into_bytes(),
            text: Some(String::from_utf8_lossy(&text).into_owned()),
            deps: read,
        })
    }

    /// The text that [`Compiler::preprocess`] knows.
    pub fn preprocessed(&self, unit: &Unit, flavour: Flavour) -> Result<String> {
        let out = self.object(unit, flavour).with_extension("again");
        let command = self.command(unit, flavour, &out, &dep_file(&out))?;
        self.run(unit, &command.replace(" -c ", " -E -P "))?;
        let text = read_lossy(&out)?;
        fs::remove_file(&out)?;
        Ok(text)
    }
}

/// What the preprocessor makes of a unit.
#[derive(Debug)]
pub struct Preprocessed {
    /// Stands for its text without line markers.
    pub digest: Vec<u8>,
    /// This text, if the preprocessor was run for it.
    pub text: Option<String>,
    /// Of the patched source: the files that it read, absolute.
    pub deps: Vec<PathBuf>,
}

/// A file of the compiler's; what is not UTF-8 in it stands in literals.
fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// 128 bits and the length, which stand for a text.
fn digest(text: &[u8]) -> String {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(seed);
        hasher.write(text);
        hasher.finish()
    };
    format!("{:016x}{:016x} {}", half(0), half(1), text.len())
}

/// Number of processors to use.
fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Runs `run` for each element on all processors; the first error in the order of the list wins.
pub fn parallel<T: Sync>(list: &[T], run: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = Mutex::new(0);
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs().min(list.len()) {
            scope.spawn(|| loop {
                let index = {
                    let mut next = next.lock().unwrap_or_else(|e| e.into_inner());
                    *next += 1;
                    *next - 1
                };
                let Some(element) = list.get(index) else {
                    break;
                };
                if let Err(error) = run(element) {
                    errors
                        .lock()
                        .unwrap_or_else(|e| e.into_inner())
                        .push((index, error));
                }
            });
        }
    });
    let mut errors = errors.into_inner().unwrap_or_else(|e| e.into_inner());
    errors.sort_by_key(|(index, _)| *index);
    match errors.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Objects that the Makefile of another folder names: the start of their path, and the folder from which they
/// are named so, with the way back.
const NAMED_ELSEWHERE: [(&str, &str); 3] = [
    ("virt/kvm/", "arch/x86/kvm/../../.."),
    (
        "drivers/usb/misc/onboard_usb_dev_pdevs",
        "drivers/usb/core/..",
    ),
    ("drivers/accel/drm_accel", "drivers/gpu/drm/../.."),
];

/// The object of a source file, under the name that the kernel's build knows.
fn object_path(source: &str) -> String {
    // Of a linker script the preprocessor makes another one.
    if let Some(stem) = source.strip_suffix(".lds.S") {
        return format!("{stem}.lds");
    }
    let stem = source.strip_suffix(".c").or(source.strip_suffix(".S"));
    let object = format!("{}.o", stem.unwrap_or(source));
    let named = NAMED_ELSEWHERE
        .iter()
        .find(|(start, _)| source.starts_with(start));
    let Some((_, folder)) = named else {
        return object;
    };
    // The way back ends in a folder that both have in common.
    let common =
        folder.split('/').filter(|part| *part != "..").count() - folder.matches("..").count();
    let rest: Vec<&str> = object.split('/').skip(common).collect();
    format!("{folder}/{}", rest.join("/"))
}

fn cmd_path(object: &str) -> String {
    match object.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/.{name}.cmd"),
        None => format!(".{object}.cmd"),
    }
}

/// Where the kernel's build lets the compiler write an object's dependencies.
fn dep_path(object: &str) -> String {
    let cmd = cmd_path(object);
    format!("{}.d", cmd.strip_suffix(".cmd").unwrap_or(&cmd))
}

fn dep_file(object: &Path) -> PathBuf {
    object.with_extension("d")
}

/// A path as a word of the shell.
pub(crate) fn quote(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("path {} is not UTF-8", path.display()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+~:@".contains(c);
    if !text.chars().all(plain) {
        bail!("path `{text}` has characters that the kernel's build does not take");
    }
    Ok(text.to_owned())
}

/// Replaces a path where it is a whole leading part of another one.
pub(crate) fn replace_path(text: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, after) = rest.split_at(at);
        let after = &after[from.len()..];
        out.push_str(before);
        let whole = after
            .chars()
            .next()
            .is_none_or(|c| matches!(c, '/' | ' ' | '=' | '\'' | '"'));
        out.push_str(if whole { to } else { from });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Tells which of these files, which are not in vmlinux, are part of a module.
pub fn modules(kernel: &Kernel, sources: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let units = |s: &&String| s.ends_with(".c") || (s.ends_with(".S") && !s.ends_with(".lds.S"));
    let sources: BTreeSet<String> = sources.iter().filter(units).cloned().collect();
    let plan = Plan::new(kernel, &sources, Which::Configured)?;
    let of_module = |source: &String| {
        let command = plan.commands.get(&object_path(source));
        command.is_some_and(|c| of_module(c))
    };
    Ok(sources.into_iter().filter(of_module).collect())
}

/// The names of the modules for which a command compiles.
fn names_of_modules(command: &str) -> Vec<String> {
    let value = command
        .split_whitespace()
        .find_map(|word| word.strip_prefix("-DKBUILD_MODNAME="))
        .unwrap_or_default();
    value
        .trim_matches(['\'', '"', '\\'])
        .split(':')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// Whether the kernel's build compiles something for a module.
fn of_module(command: &str) -> bool {
    command.split_whitespace().any(|word| word == "-DMODULE")
}

/// Held while the kernel's build runs.
///
/// Its tests of the compiler make temporary files by the number of their process, which is the same in each build root:
/// two at a time would spoil each other's answers, and so the flags.
const LOCK: &str = ".kcare-lock";

/// The kernel's build, for single objects of the tree that is prepared already.
fn make(kernel: &Kernel) -> std::process::Command {
    let mut make = kernel.command("flock");
    make.args([LOCK, "make"]);
    // Without these flags the build starts itself again to set them, which resets -o; `prepare` would
    // look through all tools of the build each time.
    make.args(["-rR", "--no-print-directory", "-o", "prepare"]);
    make
}

/// Which objects the kernel's build is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Each, so that it can be made.
    Each,
    /// Those of the configuration, to see what they are part of.
    Configured,
}

/// How the kernel's build compiles source files.
#[derive(Debug, Default)]
struct Plan {
    /// The shell command by object.
    commands: BTreeMap<String, String>,
    /// Folders in which the build makes more than objects, with a `/` at the end.
    generated: BTreeSet<String>,
    /// Objects that were not made yet, so that what they include may not be there.
    missing: BTreeSet<String>,
}

/// From this number of objects on it takes less time to ask for all of the configuration.
const MANY: usize = 600;

/// Most bytes of names in one question: make gives them to a shell, which takes 128 KiB.
const QUESTION: usize = 60_000;

impl Plan {
    /// Reads the commands of what was made already, or asked for, and lets the kernel's build print the others.
    fn new(kernel: &Kernel, sources: &BTreeSet<String>, which: Which) -> Result<Self> {
        let mut plan = Plan::default();
        let mut missing = Vec::new();
        for source in sources {
            let object = object_path(source);
            if !plan.made(kernel, &object)? {
                missing.push(object);
            }
        }
        if missing.is_empty() {
            return Ok(plan);
        }
        plan.missing = missing.iter().cloned().collect();
        let mut kept = Commands::read(kernel);
        plan.take(&kept, &mut missing, which);
        if missing.len() > MANY && !kept.all() && Plan::ask_for_all(kernel, &mut kept)? {
            plan.take(&kept, &mut missing, which);
        }
        if missing.is_empty() || (which == Which::Configured && kept.all()) {
            return Ok(plan);
        }
        let mut asked = Plan::default();
        for question in questions(&missing) {
            // Without -j, which would mix the lines of several.
            let output = make(kernel).args(["-n", "-k"]).args(question).output();
            let output = output.context("cannot enter the build root")?;
            asked.read(&String::from_utf8_lossy(&output.stdout), Some(question));
        }
        kept.add(&asked.commands, &asked.generated);
        kept.keep();
        plan.commands.extend(asked.commands);
        plan.generated.extend(asked.generated);
        // Somebody else may have made one meanwhile.
        for object in missing {
            if !plan.commands.contains_key(&object) {
                plan.made(kernel, &object)?;
            }
        }
        Ok(plan)
    }

    /// Takes what is known, and leaves in `missing` what is to be asked for.
    fn take(&mut self, kept: &Commands, missing: &mut Vec<String>, which: Which) {
        missing.retain(|object| match kept.get(object) {
            // What the folder lacks is to be made first, which the build says when it is asked.
            Some(command) if which == Which::Configured || !command.generates => {
                self.commands.insert(object.clone(), command.text.clone());
                false
            }
            _ => true,
        });
    }

    /// Asks for all objects of the configuration; `false` if the answer lacks some of a module that was shipped.
    fn ask_for_all(kernel: &Kernel, kept: &mut Commands) -> Result<bool> {
        let output = make(kernel)
            .args(["-n", "-k", "-Otarget"])
            .arg(format!("-j{}", jobs()))
            .args(["vmlinux", "modules"])
            .output();
        let output = output.context("cannot enter the build root")?;
        let mut asked = Plan::default();
        asked.read(&String::from_utf8_lossy(&output.stdout), None);
        let mut known = BTreeSet::new();
        for (object, command) in &asked.commands {
            // What only describes a module is of each of them.
            if of_module(command) && !object.ends_with(".mod.o") {
                known.extend(names_of_modules(command));
            }
        }
        let mut shipped = BTreeSet::new();
        shipped_modules(&kernel.dir.join("modules"), &mut shipped)?;
        let whole = !shipped.is_empty() && shipped.is_subset(&known);
        kept.add(&asked.commands, &asked.generated);
        if whole {
            kept.set_all();
        }
        kept.keep();
        Ok(whole)
    }

    /// Reads the command of an object that was made already, if it was.
    fn made(&mut self, kernel: &Kernel, object: &str) -> Result<bool> {
        let path = kernel.build().join(cmd_path(object));
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(false);
        };
        let command = parse_cmd(&text, object)
            .with_context(|| format!("{} is not understood", path.display()))?;
        self.commands.insert(object.to_owned(), command);
        Ok(true)
    }

    /// Takes the commands out of what `make -n` prints: those of `objects`, or all.
    fn read(&mut self, text: &str, objects: Option<&[String]>) {
        let objects: Option<HashSet<&str>> =
            objects.map(|list| list.iter().map(String::as_str).collect());
        for line in text.lines() {
            // `cmd` in scripts/Kbuild.include tells first what it is about to do: a verb, `[M]`, targets.
            let Some((_, rest)) = line.split_once("echo '  ") else {
                continue;
            };
            let Some((said, commands)) = rest.split_once("';") else {
                continue;
            };
            let mut words = said.split_whitespace().filter(|w| *w != "[M]");
            let (verb, target) = (words.next(), words.next().unwrap_or_default());
            let wanted = match &objects {
                Some(objects) => objects.contains(target),
                None => true,
            };
            if matches!(verb, Some("CC" | "AS" | "LDS")) && wanted {
                if let Some(command) = planned(commands, target) {
                    self.commands.insert(target.to_owned(), command);
                }
            } else if objects.is_none() && matches!(verb, Some("AR" | "LD")) {
                // What all objects of a folder are put together to.
            } else if let Some((folder, _)) = target.rsplit_once('/') {
                self.generated.insert(format!("{folder}/"));
            }
        }
    }
}

/// Parts a list of objects so that each part is one question.
fn questions(objects: &[String]) -> Vec<&[String]> {
    let mut out = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, object) in objects.iter().enumerate() {
        bytes += object.len() + 1;
        if bytes > QUESTION && i > start {
            out.push(&objects[start..i]);
            (start, bytes) = (i, object.len() + 1);
        }
    }
    if start < objects.len() {
        out.push(&objects[start..]);
    }
    out
}

/// The names of the modules in a folder and below, as the kernel spells them.
fn shipped_modules(folder: &Path, out: &mut BTreeSet<String>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            shipped_modules(&entry.path(), out)?;
        } else if let Some((stem, _)) = name.to_str().and_then(|n| n.split_once(".ko")) {
            out.insert(stem.replace('-', "_"));
        }
    }
    Ok(())
}

/// The compiler's command out of the shell commands for an object (`cmd_and_fixdep`): the argument of fixdep.
fn planned(commands: &str, object: &str) -> Option<String> {
    let (_, rest) = commands.split_once(&format!("/fixdep {} {object} '", dep_path(object)))?;
    let (quoted, _) = rest.split_once(&format!("' > {}", cmd_path(object)))?;
    Some(compiler_part(&quoted.replace("'\\''", "'")))
}

/// Takes the command out of a `.cmd` file of the kernel's build.
fn parse_cmd(text: &str, object: &str) -> Result<String> {
    let line = text.lines().next().context("empty file")?;
    let command = line
        .strip_prefix(&format!("savedcmd_{object} := "))
        .with_context(|| format!("no savedcmd_{object}"))?;
    Ok(compiler_part(command))
}

/// The compiler's part of a command with make's own escapes; what follows it (objtool) is run separately.
fn compiler_part(command: &str) -> String {
    let command = command.replace("$(pound)", "#").replace("$$", "$");
    let compiler = command.split(" ; ").next().unwrap_or(&command);
    compiler.trim_end().to_owned()
}

/// Under which name the arguments of objtool are kept.
const OBJTOOL: &str = "objtool";

/// The arguments that the kernel's build gives objtool, as the build itself computes them.
fn objtool_arguments(kernel: &Kernel, work: &Path) -> Result<String> {
    let mut kept = Commands::read(kernel);
    if let Some(arguments) = kept.fact(OBJTOOL) {
        return Ok(arguments.to_owned());
    }
    let makefile = work.join("objtool.mk");
    let text = "include include/config/auto.conf\n\
                include $(srctree)/scripts/Kbuild.include\n\
                include $(srctree)/scripts/Makefile.lib\n\
                print:\n\t@echo $(objtool-args-y)\n";
    fs::write(&makefile, text)?;
    let output = kernel
        .command("flock")
        .args([LOCK, "make", "-s", "-f"])
        .arg(&makefile)
        .arg(format!("srctree={}", quote(&kernel.source())?))
        .args(["objtree=.", "obj=.", "print"])
        .output()
        .context("cannot enter the build root")?;
    if !output.status.success() {
        bail!(
            "cannot ask the kernel's build for objtool's arguments:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    let arguments = String::from_utf8(output.stdout)?.trim().to_owned();
    if !arguments.contains("--orc") {
        bail!(
            "kernel {} is not built with ORC (objtool's arguments are `{arguments}`)",
            kernel.release
        );
    }
    if !arguments.contains(['\n', '\t']) {
        kept.set_fact(OBJTOOL, &arguments);
        kept.keep();
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cmd_file_gives_the_command() {
        let text = "savedcmd_a/b.o := gcc -DX=\\$(pound) -c -o a/b.o /s/a/b.c ; objtool a/b.o\n\n\
                    source_a/b.o := /s/a/b.c\n";
        let command = parse_cmd(text, "a/b.o").unwrap();
        assert_eq!(command, "gcc -DX=\\# -c -o a/b.o /s/a/b.c");
    }

    #[test]
    fn a_plan_gives_commands_and_folders_of_generated_files() {
        let text = "set -e;  echo '  GEN     a/x.h a/y.h';   sh gen\n\
                    set -e;  echo '  CC [M]  a/b.o';   trap 'rm -f a/b.o' HUP; gcc -c ; ./fixdep a/.b.o.d a/b.o \
                    'gcc -DMODULE -DN='\\''\"b\"'\\'' -c -o a/b.o /s/a/b.c  ' > a/.b.o.cmd; rm -f a/.b.o.d\n\
                    set -e;  echo '  CC      a/other.o';   gcc\n";
        let mut plan = Plan::default();
        plan.read(text, Some(&["a/b.o".to_owned()]));
        let command = "gcc -DMODULE -DN='\"b\"' -c -o a/b.o /s/a/b.c".to_owned();
        assert_eq!(
            plan.commands,
            BTreeMap::from([("a/b.o".to_owned(), command)])
        );
        assert_eq!(plan.generated, BTreeSet::from(["a/".to_owned()]));
    }

    #[test]
    fn questions_are_short_enough_for_a_shell() {
        let objects: Vec<String> = (0..9000).map(|i| format!("drivers/some/{i}.o")).collect();
        let parts = questions(&objects);
        assert!(parts.len() > 1);
        assert_eq!(parts.concat(), objects);
        let bytes = |part: &[String]| part.iter().map(|o| o.len() + 1).sum::<usize>();
        assert!(parts.iter().all(|part| bytes(part) <= QUESTION));
        assert!(questions(&[]).is_empty());
    }

    #[test]
    fn a_plan_for_all_takes_each_object() {
        let text = "set -e;  echo '  AR      a/built-in.a';   ar\n\
                    set -e;  echo '  GEN     c/x.h';   sh gen\n\
                    set -e;  echo '  CC      a/b.o';   gcc -c ; ./fixdep a/.b.o.d a/b.o 'gcc -c -o a/b.o /s/a/b.c  ' \
                    > a/.b.o.cmd; rm -f a/.b.o.d\n";
        let mut plan = Plan::default();
        plan.read(text, None);
        assert_eq!(plan.commands["a/b.o"], "gcc -c -o a/b.o /s/a/b.c");
        assert_eq!(plan.generated, BTreeSet::from(["c/".to_owned()]));
    }

    #[test]
    fn a_unit_may_be_part_of_several_modules() {
        let unit = |word: &str| Unit {
            source: "a.c".to_owned(),
            command: format!("gcc -DMODULE {word} -c -o a.o a.c"),
            bare: false,
        };
        let names = |word: &str| unit(word).module_names();
        assert_eq!(names(r#"-DKBUILD_MODNAME='"kvm_intel"'"#), ["kvm_intel"]);
        assert_eq!(names(r#"-DKBUILD_MODNAME='"a:b-c"'"#), ["a", "b_c"]);
        assert!(names("").is_empty() && unit("").module());
    }

    #[test]
    fn some_objects_are_named_from_another_folder() {
        assert_eq!(object_path("net/core/dev.c"), "net/core/dev.o");
        assert_eq!(object_path("a/vdso64.lds.S"), "a/vdso64.lds");
        assert_eq!(
            object_path("virt/kvm/kvm_main.c"),
            "arch/x86/kvm/../../../virt/kvm/kvm_main.o"
        );
        assert_eq!(
            object_path("drivers/accel/drm_accel.c"),
            "drivers/gpu/drm/../../accel/drm_accel.o"
        );
        assert_eq!(
            object_path("drivers/usb/misc/onboard_usb_dev_pdevs.c"),
            "drivers/usb/core/../misc/onboard_usb_dev_pdevs.o"
        );
    }

    #[test]
    fn paths_are_replaced_as_a_whole() {
        assert_eq!(
            replace_path("-I/a/s/x -I/a/s2 -m=/a/s= /a/s", "/a/s", "/t"),
            "-I/t/x -I/a/s2 -m=/t= /t"
        );
    }

    #[test]
    fn the_first_error_wins() {
        let error =
            parallel(&[3, 1, 2], |&n| if n < 3 { bail!("{n}") } else { Ok(()) }).unwrap_err();
        assert_eq!(error.to_string(), "1");
    }
}
