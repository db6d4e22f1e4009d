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

use crate::account::{Account, Entry, Role};
use crate::compile::parallel;
use crate::ctext::{changes, chunks, difference, Chunk, Defines};
use crate::includes::{outside, Includes, CACHE};
use crate::inputs::Inputs;
use crate::kernel::Kernel;
use crate::lists::{listed, macros, Listed};
use crate::pastes::Pastes;
use crate::patch::{Change, Patches};
use crate::progress::Progress;
use crate::refuse::{Ending, Refusal};
use crate::words::Index;

/// What a changed file is to the kernel's code, by its name.
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
///
/// A file below `tools`, `scripts`, `samples` or `Documentation` is part of the kernel if a file of another folder
/// includes it, which [`Includes`] knows.
pub fn classify(path: &str) -> Class {
    const FILES: [&str; 5] = ["MAINTAINERS", "CREDITS", "COPYING", "README", ".mailmap"];
    let name = path.rsplit('/').next().unwrap_or(path);
    if foreign(path) || FILES.contains(&path) || name == ".gitignore" {
        return Class::Irrelevant;
    }
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("c") => Class::Source,
        Some("h" | "inc") => Class::Header,
        Some("rst" | "md" | "txt") => Class::Irrelevant,
        _ => Class::Other,
    }
}

/// An image that is not linked into vmlinux as its other code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// It has run before the kernel began.
    Boot,
    /// It is data of the kernel: the vDSO, code that starts processors, code for kexec.
    Inside,
}

/// The image that a file is compiled for, if it is one of these; `units` are those of vmlinux.
pub fn image(file: &str, units: &BTreeSet<String>) -> Option<Image> {
    const BOOT: [&str; 2] = ["arch/x86/boot/", "drivers/firmware/efi/libstub/"];
    const INSIDE: [&str; 3] = [
        "arch/x86/entry/vdso/",
        "arch/x86/purgatory/",
        "arch/x86/realmode/",
    ];
    let starts = |list: &[&str]| list.iter().any(|p| file.starts_with(p));
    if units.contains(file) {
        None
    } else if starts(&BOOT) {
        Some(Image::Boot)
    } else if starts(&INSIDE) {
        Some(Image::Inside)
    } else {
        None
    }
}

/// Whether other code is made from what a file compiles to: the constants that assembly and C take from it.
pub fn generator(file: &str) -> bool {
    file == "kernel/bounds.c"
        || file.starts_with("arch/x86/kernel/asm-offsets")
        || file.ends_with("-offsets.c")
        || file.ends_with("/asm-offsets.c")
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
    /// Files that see a change and that cannot be patched.
    pub fixed: BTreeMap<String, Fixed>,
    /// Of these, the ones that do not exist: a Makefile lets the object be compiled from another file, which is the value.
    pub copies: BTreeMap<String, String>,
    /// Changed files that are compiled or included and may also be read by the build in another way: which Makefiles,
    /// scripts and programs of the build name them.
    pub read: BTreeMap<String, BTreeSet<String>>,
    /// Rust files of the source tree.
    pub rust: Vec<String>,
    /// What Makefiles say.
    pub inputs: Inputs,
    /// Source files of units that include by names which macros put together, so that the text does not tell what they read.
    pub computed: BTreeSet<String>,
    /// What each changed file is.
    pub account: Account,
}

/// A file that cannot be patched.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// Why not.
    pub why: &'static str,
    /// Whether it is known to be part of the kernel.
    pub part: bool,
    /// Whether what it is part of has run before the kernel began, so that its change is only told.
    pub boot: bool,
}

/// Why what an image inside the kernel is made of cannot be patched.
const INSIDE: &str = "is part of an image inside the kernel (vDSO, realmode, purgatory)";

/// Why a copy for another module cannot be patched.
const COPY: &str = "is compiled for another module too";

/// Why a file cannot be patched, if it cannot.
fn fixed(file: &str, units: &BTreeSet<String>) -> Option<Fixed> {
    let part = |why| Fixed {
        why,
        part: true,
        boot: false,
    };
    Some(match image(file, units) {
        Some(Image::Boot) => Fixed {
            boot: true,
            ..part("is boot code: it has run before this kernel began")
        },
        Some(Image::Inside) => part(INSIDE),
        None if generator(file) => part("other code is generated from it"),
        None if file.ends_with(".lds.S") => part("is a linker script that the change reaches"),
        None if file.ends_with(".S") => Fixed {
            part: units.contains(file),
            ..part("is assembly, neither C nor a header, and the change reaches it")
        },
        None => return None,
    })
}

impl Affected {
    /// Takes in the objects that Makefiles of other folders let be compiled from a file that sees a change.
    fn add_copies(&mut self, file: &str, inputs: &Inputs, units: &BTreeSet<String>) {
        for copy in inputs.copies(file) {
            let how = match image(&copy, units) {
                Some(Image::Inside) => Fixed {
                    why: INSIDE,
                    part: true,
                    boot: false,
                },
                // The boot code has run, with all that it is made of.
                Some(Image::Boot) => continue,
                None => Fixed {
                    why: COPY,
                    part: false,
                    boot: false,
                },
            };
            self.copies.insert(copy.clone(), file.to_owned());
            self.fixed.insert(copy, how);
        }
    }
}

/// What can be said of a changed file by what it is and who names it.
enum Found {
    /// A C file, for all that is known by now.
    Source,
    /// Something to be included.
    Header,
    /// Code that is compiled and compared, as it cannot be patched.
    Fixed(Fixed),
    /// No code of this kernel.
    Nothing(String),
    /// Nobody can tell, or nothing can be done.
    Refused(String),
}

/// What is needed to tell what a changed file is.
struct Finder<'a> {
    kernel: &'a Kernel,
    units: &'a BTreeSet<String>,
    includes: &'a Includes,
    inputs: &'a Inputs,
    /// Files of the unpatched tree that are, or may be included by, the kernel's code.
    known: HashSet<&'a str>,
}

/// What an author can do about a file that the builder cannot deal with.
const LEAVE_OUT: &str = "leave it out of the patch if the kernel's code does without its change";

impl Finder<'_> {
    fn find(&self, file: &str, change: Change) -> Found {
        let name = file.rsplit('/').next().unwrap_or(file);
        if foreign(file) {
            return Found::Nothing("belongs to another architecture".to_owned());
        }
        let class = classify(file);
        let included = self.known.contains(file) || self.included(file);
        match class {
            Class::Source | Class::Header if outside(file) && !included => self.outsider(file),
            Class::Source | Class::Header if !outside(file) || included => {
                match (fixed(file, self.units), self.inputs.program(file)) {
                    (_, Some(makefile)) if !self.units.contains(file) => self.program(file, makefile),
                    (Some(fixed), _) if class == Class::Source => Found::Fixed(fixed),
                    _ if class == Class::Source => Found::Source,
                    _ => Found::Header,
                }
            }
            _ if name.ends_with(".rs") => self.rust(file),
            _ if name.ends_with(".S") => self.assembly(file, change),
            _ if build_file(name) => Found::Refused(format!(
                "is neither C nor a header, so that its effect cannot be told: it tells the kernel's build what to \
                 compile, and how; {LEAVE_OUT}"
            )),
            _ => self.other(file, class, included),
        }
    }

    /// Whether a file of another name includes it.
    fn included(&self, file: &str) -> bool {
        let target = BTreeSet::from([file.to_owned()]);
        self.includes.named(&target).iter().any(|f| f != file)
    }

    /// A file of a folder that is no part of the kernel, which no file of another folder includes.
    fn outsider(&self, file: &str) -> Found {
        if let Some(makefile) = self.inputs.program(file) {
            return self.program(file, makefile);
        }
        let why = if file.starts_with("tools/testing/") {
            "is part of the kernel's tests, and no code of the kernel includes it"
        } else if file.starts_with("tools/") {
            "is part of the programs below tools/, and no code of the kernel includes it; those that the build runs \
             (objtool) are the ones that made this kernel"
        } else if file.starts_with("samples/") {
            "is a sample, which this configuration does not build"
        } else if file.starts_with("scripts/") {
            return Found::Refused(format!(
                "is part of a program that the kernel's build runs, so that its effect cannot be told; {LEAVE_OUT}"
            ));
        } else {
            "is no code that the kernel includes"
        };
        Found::Nothing(why.to_owned())
    }

    /// A program that the kernel's build runs.
    fn program(&self, file: &str, makefile: &str) -> Found {
        let name = file.rsplit('/').next().unwrap_or(file);
        let stem = name.strip_suffix(".c").unwrap_or(name);
        let folder = makefile.rsplit_once('/').map_or("", |(folder, _)| folder);
        if let Some(why) = self.not_configured(folder) {
            return Found::Nothing(format!("is a program of the build ({makefile}), and {why}"));
        }
        if file.starts_with("arch/x86/boot/") {
            return Found::Nothing(format!(
                "is a program that makes the boot code ({makefile}), which has run before this kernel began"
            ));
        }
        Found::Refused(format!(
            "is a program of the kernel's build ({makefile} makes {stem} of it), so that its effect cannot be told; \
             {LEAVE_OUT}"
        ))
    }

    fn rust(&self, file: &str) -> Found {
        if outside(file) {
            return Found::Nothing("is Rust code that is no part of the kernel".to_owned());
        }
        if !self.inputs.may_build_rust(self.kernel, file, self.units) {
            return Found::Nothing(
                "is not part of this kernel: this configuration does not build the crate"
                    .to_owned(),
            );
        }
        Found::Refused("is neither C nor a header: Rust code cannot be patched".to_owned())
    }

    fn assembly(&self, file: &str, change: Change) -> Found {
        let stem = |file: &str| {
            let name = file.rsplit('/').next().unwrap_or(file);
            name.strip_suffix(".S").unwrap_or(name).to_owned()
        };
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        if outside(file) {
            return self.outsider(file);
        }
        if change == Change::Modified {
            if !self.units.contains(file)
                && image(file, self.units).is_none()
                && self.inputs.may_build(folder, &stem(file)) == Some(false)
            {
                return Found::Nothing(
                    "is not part of this kernel: this configuration does not build it".to_owned(),
                );
            }
            if let Some(fixed) = fixed(file, self.units) {
                return Found::Fixed(Fixed {
                    part: true,
                    ..fixed
                });
            }
        }
        Found::Refused(format!(
            "is neither C nor a header, so that its effect cannot be told; {LEAVE_OUT}"
        ))
    }

    /// A file that is neither code nor tells the build what to do.
    fn other(&self, file: &str, class: Class, included: bool) -> Found {
        let readers = self.inputs.readers(file);
        let mut unused = Vec::new();
        for makefile in &readers {
            let folder = makefile.rsplit_once('/').map_or("", |(folder, _)| folder);
            match self.not_configured(folder) {
                Some(why) => unused.push(format!("{makefile} names it, and {why}")),
                None => {
                    return Found::Refused(format!(
                        "is read by the kernel's build ({makefile} names it), so that its effect cannot be told; {LEAVE_OUT}"
                    ))
                }
            }
        }
        if included {
            return Found::Header;
        }
        if let Some(why) = unused.into_iter().next() {
            return Found::Nothing(why);
        }
        if class == Class::Irrelevant
            || file.starts_with("Documentation/")
            || file.starts_with("LICENSES/")
        {
            return Found::Nothing("is no code, and no Makefile names it".to_owned());
        }
        // Those at the top are settings of editors and other tools.
        if file.starts_with('.') && !file.contains('/') {
            return Found::Nothing("is no code".to_owned());
        }
        if file.starts_with("tools/") || file.starts_with("samples/") {
            return self.outsider(file);
        }
        if file.starts_with("scripts/") {
            return Found::Nothing(
                "is a script or its data, and no Makefile or script of the build names it"
                    .to_owned(),
            );
        }
        Found::Refused(format!(
            "is neither C nor a header, and nothing of the kernel's build names it, so that its effect cannot be told; \
             {LEAVE_OUT}"
        ))
    }

    /// Says so if this kernel has nothing that was built in a folder of drivers and the like.
    fn not_configured(&self, folder: &str) -> Option<String> {
        const FOLDERS: [&str; 4] = ["drivers/", "fs/", "net/", "sound/"];
        let prefix = format!("{folder}/");
        let modules = format!("lib/modules/{}/kernel/{folder}", self.kernel.release);
        let built = !FOLDERS.iter().any(|f| folder.starts_with(f))
            || self.units.iter().any(|unit| unit.starts_with(&prefix))
            || self.kernel.dir.join("modules").join(modules).exists();
        (!built).then(|| format!("this kernel has neither code nor modules of {folder}"))
    }
}

/// Why no unit may depend on what changed in a header, if its text tells.
fn why_unread(kernel: &Kernel, patches: &Patches, file: &str) -> Result<&'static str> {
    let old = fs::read(kernel.source().join(file)).unwrap_or_default();
    let new = patches.patched(file)?.unwrap_or_default();
    Ok(
        match difference(&String::from_utf8_lossy(&old), &new).is_empty() {
            true => "differs in comments and white space only",
            false => "",
        },
    )
}

/// Whether a file tells the build what to do.
fn build_file(name: &str) -> bool {
    ["Makefile", "Kbuild", "Kconfig"]
        .iter()
        .any(|start| name.starts_with(start))
        || name.ends_with(".config")
        || name.ends_with(".mk")
        || name.ends_with("_defconfig")
}

/// Whether a file belongs to another architecture, of which User Mode Linux is one.
fn foreign(path: &str) -> bool {
    let x86 = |rest: &str| rest.starts_with("x86/") && !rest.starts_with("x86/um/");
    // `arch/Kconfig` belongs to all of them.
    path.strip_prefix("arch/")
        .is_some_and(|rest| rest.contains('/') && !x86(rest))
}

/// Finds the units that the patches may affect; `units` are those of vmlinux.
pub fn affected(
    kernel: &Kernel,
    patches: &Patches,
    units: &BTreeSet<String>,
    progress: &Progress,
) -> Result<Affected> {
    let cache = kernel.dir.join(CACHE);
    let mut includes = Includes::read(&kernel.source(), &kernel.build(), &cache)?;
    let files: Vec<String> = includes.files().map(str::to_owned).collect();
    includes.apply(patches)?;
    let inputs = Inputs::read(kernel, &includes)?;
    let finder = Finder {
        kernel,
        units,
        includes: &includes,
        inputs: &inputs,
        known: files.iter().map(String::as_str).collect(),
    };

    let mut out = Affected::default();
    let mut refusals = Vec::new();
    let mut included: BTreeSet<String> = BTreeSet::new();
    for (file, change) in &patches.files {
        out.add_copies(file, &inputs, units);
        match finder.find(file, *change) {
            Found::Nothing(why) => out.account.enter(file, Role::Nothing, why),
            Found::Refused(why) => refusals.push(Refusal::new(file, why)),
            Found::Fixed(fixed) => {
                if *change == Change::Removed {
                    refusals.push(Refusal::new(file, "is removed from the kernel"));
                }
                out.account.enter(file, Role::Fixed, fixed.why);
                out.fixed.insert(file.clone(), fixed);
                included.insert(file.clone());
            }
            Found::Source if units.contains(file) => {
                if *change == Change::Removed {
                    refusals.push(Refusal::new(file, "is removed from the kernel"));
                }
                out.account.enter(file, Role::Compiled, "");
                out.builtin.insert(file.clone());
                included.insert(file.clone());
            }
            Found::Source => {
                // Of a module, of nothing, or included by another file.
                out.account.enter(file, Role::Compiled, "");
                out.elsewhere.insert(file.clone());
                included.insert(file.clone());
            }
            Found::Header => {
                out.account
                    .enter(file, Role::Compiled, why_unread(kernel, patches, file)?);
                included.insert(file.clone());
            }
        }
    }
    if !refusals.is_empty() {
        return Err(Ending::CannotPatch(refusals).into());
    }
    drop(finder);
    let reverse = includes.reverse();
    for file in &included {
        let by = reverse.includers(&BTreeSet::from([file.clone()]));
        out.account
            .may_include(file, by.iter().filter(|f| *f != file).count());
        let mut readers: BTreeSet<String> = inputs
            .readers(file)
            .into_iter()
            .map(str::to_owned)
            .collect();
        // A program of the build that includes it.
        let programs = by.iter().filter(|f| inputs.program(f).is_some());
        readers.extend(programs.cloned());
        if !readers.is_empty() {
            out.read.insert(file.clone(), readers);
        }
    }
    // A C file that nobody includes needs no looking for.
    included.retain(|file| {
        let alone = |entry: &Entry| entry.may_include == 0;
        !(file.ends_with(".c") && out.account.get(file).is_some_and(alone))
    });
    if !included.is_empty() {
        let mut found = by_include(kernel, patches, &included, &includes, files, progress)?;
        // What a C file mentions is in each unit that includes it.
        let code = |file: &String| file.ends_with(".c") || file.ends_with(".S");
        let parts: BTreeSet<String> = found.iter().filter(|f| code(f)).cloned().collect();
        found.extend(reverse.includers(&parts).into_iter().filter(code));
        for file in found {
            // What Rust sees of C is in its bindings, whatever it includes.
            if patches.files.contains_key(&file)
                || file.ends_with(".rs")
                || inputs.program(&file).is_some()
            {
                continue;
            }
            out.add_copies(&file, &inputs, units);
            if let Some(fixed) = fixed(&file, units) {
                out.fixed.insert(file, fixed);
            } else if units.contains(&file) {
                out.by_header.insert(file.clone());
                out.builtin.insert(file);
            } else {
                out.elsewhere.insert(file);
            }
        }
    }
    if out.account.any_compiled() {
        let computed = reverse.computed().into_iter().filter(|file| {
            let known = out.builtin.contains(file) || out.elsewhere.contains(file);
            file.ends_with(".c") && !known && !out.fixed.contains_key(file)
        });
        out.computed = computed.collect();
        let rust = includes.files().filter(|f| f.ends_with(".rs"));
        out.rust = rust.map(str::to_owned).collect();
    }
    out.inputs = inputs;
    Ok(out)
}

/// The C, assembly and Rust files that may see another text because of the changed `targets`.
fn by_include(
    kernel: &Kernel,
    patches: &Patches,
    targets: &BTreeSet<String>,
    includes: &Includes,
    files: Vec<String>,
    progress: &Progress,
) -> Result<BTreeSet<String>> {
    let (source, build) = (kernel.source(), kernel.build());

    let is_unit = |file: &str| matches!(file.rsplit_once('.'), Some((_, "c" | "S" | "rs" | "lds")));
    // To look at what the compiler sees in a few units is exact, and takes less time than to look for names.
    let seeing = includes.includers(targets);
    let few: BTreeSet<String> = seeing.iter().filter(|f| is_unit(f)).cloned().collect();
    if few.len() <= FEW {
        return Ok(few);
    }

    let mut names = BTreeSet::new();
    // Files all of whose includers may be affected.
    let mut whole = BTreeSet::new();
    let mut all_changed = Vec::new();
    let mut enumerators = BTreeMap::new();
    for file in targets {
        let old = fs::read(source.join(file)).unwrap_or_default();
        let new = patches.patched(file)?.unwrap_or_default();
        let changed = difference(&String::from_utf8_lossy(&old), &new);
        let found = changes(&changed);
        if found.more || !file.ends_with(".h") {
            whole.insert(file.clone());
        }
        names.extend(found.names);
        enumerators.extend(
            found
                .enumerators
                .into_iter()
                .map(|name| (name, file.clone())),
        );
        all_changed.extend(changed.into_iter().map(|chunk| (file.clone(), chunk)));
    }

    let units_of = |files: &BTreeSet<String>| -> BTreeSet<String> {
        let all = includes.includers(files).into_iter();
        all.filter(|f| is_unit(f)).collect()
    };
    if names.is_empty() {
        return Ok(units_of(&whole));
    }

    // Who mentions a name that changed; a header's mention is as good as a change of what mentions it.
    let text = SourceText {
        source,
        build,
        files,
        patches,
        changed: all_changed,
    };
    let (words, pastes) = (
        kernel.dir.join("kcare-words"),
        kernel.dir.join("kcare-pastes"),
    );
    if !words.exists() || !pastes.exists() {
        progress.note("  reads all of the source for indices of its words, once for this kernel");
    }
    let (index, pastes) = (text.index(&words)?, text.pastes(&pastes)?);
    // A macro may stand for several names of an enumeration.
    for name in text.macros(&index, enumerators.keys())? {
        whole.extend(enumerators.get(&name).cloned());
    }
    let mut out = units_of(&whole);
    let mut more = BTreeSet::new();
    let mut mentioned = BTreeSet::new();
    let mut next = names.clone();
    while !next.is_empty() {
        progress.note(&format!("  looks for who mentions {}", some(&next)));
        let found = text.mentions(&index, &pastes, &next)?;
        mentioned.extend(found.units);
        more.extend(found.whole);
        next = found.names.difference(&names).cloned().collect();
        names.extend(next.iter().cloned());
        if names.len() > MAX_NAMES {
            // Too much hangs on it to tell who does not.
            return Ok(seeing.into_iter().filter(|f| is_unit(f)).collect());
        }
    }
    out.extend(mentioned.into_iter().filter(|f| seeing.contains(f)));
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

/// The first of some names, and how many more there are.
fn some(names: &BTreeSet<String>) -> String {
    let first: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

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
}

impl Mentions {
    /// Takes in what stands in a file and mentions a name; `defines` are its names, if they are known.
    fn add(&mut self, file: &str, defines: Option<impl IntoIterator<Item = String>>) {
        if matches!(file.rsplit_once('.'), Some((_, "c" | "S" | "rs" | "lds"))) {
            self.units.insert(file.to_owned());
        } else if let Some(names) = defines {
            self.names.extend(names);
        } else {
            self.whole.insert(file.to_owned());
        }
    }
}

/// All text that the kernel may be made of.
struct SourceText<'a> {
    source: PathBuf,
    build: PathBuf,
    /// The files of the unpatched tree.
    files: Vec<String>,
    patches: &'a Patches,
    /// What differs in the changed files that others include.
    changed: Vec<(String, Chunk)>,
}

impl SourceText<'_> {
    fn path(&self, file: &str) -> PathBuf {
        match file.strip_prefix("//") {
            Some(output) => self.build.join(output),
            None => self.source.join(file),
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| self.path(file)).collect()
    }

    fn index(&self, cache: &Path) -> Result<Index> {
        Index::read(&self.paths(), cache)
    }

    fn pastes(&self, cache: &Path) -> Result<Pastes> {
        Pastes::read(&self.files, &self.paths(), cache)
    }

    /// Which of the names are macros that do not stand for themselves.
    fn macros<'n>(
        &self,
        index: &Index,
        names: impl Iterator<Item = &'n String>,
    ) -> Result<BTreeSet<String>> {
        let names: BTreeSet<&str> = names.map(String::as_str).collect();
        let mut out = BTreeSet::new();
        for file in self.naming(index, names.iter().copied()) {
            let old = fs::read(self.path(file)).unwrap_or_default();
            let new = self.patches.patched(file)?.unwrap_or_default();
            for text in [String::from_utf8_lossy(&old).as_ref(), &new] {
                for (name, value) in objects(text) {
                    if names.contains(name) && name != value {
                        out.insert(name.to_owned());
                    }
                }
            }
        }
        Ok(out)
    }

    /// What an enumeration defines that a macro writes, if each of its macros is defined in one file alone and none of
    /// the names is a macro.
    fn listed(&self, index: &Index, chunk: &Chunk) -> Result<Option<Listed>> {
        let macros = macros(chunk);
        if macros.is_empty() {
            return Ok(None);
        }
        let mut definitions = Vec::new();
        for name in macros {
            let files = self.definers(index, &BTreeSet::from([name]))?;
            let [file] = Vec::from_iter(files)[..] else {
                return Ok(None);
            };
            definitions.extend(chunks(&self.both(file)?));
        }
        let Some(found) = listed(chunk, &definitions) else {
            return Ok(None);
        };
        let plain = self.definers(index, &found.names)?.is_empty();
        Ok(plain.then_some(found))
    }

    /// The files that define one of the names as a macro, or undefine it.
    fn definers(&self, index: &Index, names: &BTreeSet<String>) -> Result<BTreeSet<&str>> {
        let defines = |line: &str| {
            let found = define(line).or_else(|| directive(line, "undef"));
            found.is_some_and(|(name, _)| names.contains(name))
        };
        let mut out = BTreeSet::new();
        for file in self.naming(index, names.iter().map(String::as_str)) {
            if self.both(file)?.lines().any(defines) {
                out.insert(file);
            }
        }
        Ok(out)
    }

    /// The files that have one of the names in them, and those that the patches change: what they add is in no index.
    fn naming<'n>(&self, index: &Index, names: impl Iterator<Item = &'n str>) -> BTreeSet<&str> {
        let numbers = index.files_with(names.map(str::as_bytes)).into_iter();
        let with = numbers.map(|(n, _)| self.files[n].as_str());
        with.chain(self.patches.files.keys().map(String::as_str))
            .collect()
    }

    /// The text of a file before the patches and behind them, as what they add is only in the patched tree.
    fn both(&self, file: &str) -> Result<String> {
        let mut text = fs::read(self.path(file)).unwrap_or_default();
        if let Some(patched) = self.patches.patched(file)? {
            text.push(b'\n');
            text.extend_from_slice(patched.as_bytes());
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Looks through all files that have one of the names, and for those that `##` can make.
    fn mentions(
        &self,
        index: &Index,
        pastes: &Pastes,
        names: &BTreeSet<String>,
    ) -> Result<Mentions> {
        let mut found = Mentions::default();
        let made = pastes.making(names);
        found.names.extend(made.macros);
        for (number, defines) in made.places {
            found.add(&self.files[number], defines);
        }
        // What the patches add is in no index.
        for (file, chunk) in &self.changed {
            if pastes.may_make(&chunk.text(), names) {
                add_chunk(&mut found, file, chunk);
            }
        }
        let files = Vec::from_iter(self.naming(index, names.iter().map(String::as_str)));
        let results = Mutex::new(found);
        parallel(&files, |file| {
            let mut local = Mentions::default();
            // What differs is named already.
            let changed: HashSet<&Chunk> = self
                .changed
                .iter()
                .filter(|(of, _)| of == file)
                .map(|(_, chunk)| chunk)
                .collect();
            for chunk in &chunks(&self.both(file)?) {
                if !chunk.mentions(names) || changed.contains(chunk) {
                    continue;
                }
                match self.listed(index, chunk)? {
                    // Only its macros are mentioned, and what they write is as before.
                    Some(found)
                        if found.same
                            && found.words.is_disjoint(names)
                            && !chunk.mentions(&(names - &found.macros)) => {}
                    Some(found) => local.add(file, Some(found.names)),
                    None => add_chunk(&mut local, file, chunk),
                }
            }
            let mut all = results.lock().unwrap_or_else(|e| e.into_inner());
            all.names.extend(local.names);
            all.whole.extend(local.whole);
            all.units.extend(local.units);
            Ok(())
        })?;
        Ok(results.into_inner().unwrap_or_else(|e| e.into_inner()))
    }
}

/// The macros without arguments that a text defines, and what they stand for.
fn objects(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(define)
}

/// The macro that a line defines, and what follows its name.
fn define(line: &str) -> Option<(&str, &str)> {
    directive(line, "define")
}

/// The name and what follows it in a line `#WORD NAME …`.
fn directive<'a>(line: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start();
    let rest = rest.strip_prefix(word)?.trim_start();
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    let (name, value) = rest.split_at(end);
    Some((name, value.trim()))
}

fn add_chunk(found: &mut Mentions, file: &str, chunk: &Chunk) {
    match chunk.declares() {
        Defines::Names(names) => found.add(file, Some(names)),
        Defines::Unknown => found.add(file, None::<Vec<String>>),
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
        assert_eq!(classify("arch/x86/um/mem_64.c"), Class::Irrelevant);
        assert_eq!(classify("tools/lib/bpf/relo_core.c"), Class::Source);
        assert_eq!(classify("Documentation/x.rst"), Class::Irrelevant);
        assert_eq!(classify("net/Kconfig"), Class::Other);
        assert_eq!(classify("fs/Makefile"), Class::Other);
        assert_eq!(classify("arch/x86/entry/entry_64.S"), Class::Other);
        assert_eq!(classify("rust/kernel/lib.rs"), Class::Other);
    }

    #[test]
    fn images_are_told_from_the_code_beside_them() {
        let units = BTreeSet::from(["arch/x86/entry/vdso/vma.c".to_owned()]);
        assert_eq!(image("arch/x86/entry/vdso/vma.c", &units), None);
        let vdso = image("arch/x86/entry/vdso/common/vclock_gettime.c", &units);
        assert_eq!(vdso, Some(Image::Inside));
        assert_eq!(
            image("arch/x86/boot/compressed/misc.c", &units),
            Some(Image::Boot)
        );
        assert!(fixed("arch/x86/boot/header.S", &units).is_some_and(|f| f.boot));
        assert!(fixed("arch/x86/lib/getuser.S", &units).is_some_and(|f| !f.boot && !f.part));
        assert!(fixed("kernel/sched/rq-offsets.c", &units).is_some());
        assert!(fixed("fs/pipe.c", &units).is_none());
    }
}
