// SPDX-License-Identifier: GPL-2.0

//! One build from patches to payload.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use anyhow::{ensure, Context, Result};
use kcare_payload::description::Description;
use serde::Serialize;

use crate::account::{some, Account, Role};
use crate::compare::{compare, Verdict};
use crate::compile::{modules, parallel, Compiler, Flavour, Unit};
use crate::computed;
use crate::debug::{self, companion, Sources};
use crate::emit::{emit, About};
use crate::entries;
use crate::image::{ImageId, Images, VMLINUX};
use crate::inputs::{generated, Generated};
use crate::kernel::Kernel;
use crate::modinfo;
use crate::obj::{Kind, Layout, Obj};
use crate::patch::Patches;
use crate::plain;
use crate::preimage::preimage;
use crate::progress::{Count, Progress, Step};
use crate::refuse::{refuse, Ending, Refusal};
use crate::renames::Renames;
use crate::rust;
use crate::seen::may_differ;
use crate::select::Selector;
use crate::sign::Signer;
use crate::special::Special;
use crate::structs::Structs;
use crate::toolchain;
use crate::unit::UnitState;
use crate::units::{self, generator, Affected};
use crate::verify::{verify, Placement};
use crate::verify_module::verify_module;
use crate::vmlinux::Vmlinux;

/// What to build.
#[derive(Debug)]
pub struct Request {
    /// The kernel.
    pub kernel: Kernel,
    /// Patch files, applied in order.
    pub patches: Vec<PathBuf>,
    /// Patch level.
    pub level: u32,
    /// Seconds since 1970 after which it is not applied any more.
    pub not_after: Option<u64>,
    /// The lowest level that may follow it, at most `level`.
    pub floor: Option<u32>,
    /// Old and new code must not run side by side.
    pub all_at_once: bool,
    /// The author vouches that nothing calls the payload's code any more once post_unpatch has run.
    pub text_is_quiet: bool,
    /// Id (may be empty) and title of each fix.
    pub fixes: Vec<(String, String)>,
    /// One line, or the default.
    pub description: Option<String>,
    /// Who signs, if anybody.
    pub signer: Option<Signer>,
    /// Most units to build of those that only a header brings in.
    pub max_units: usize,
    /// Structures and unions whose layout may change: `struct sock`, or a typedef's name.
    pub layouts: BTreeSet<String>,
    /// What the author says about names that are gone or new.
    pub renames: Renames,
    /// Objects of other modules that are compiled from a fixed file too, and may stay as they were shipped.
    pub left: BTreeSet<String>,
    /// Keep the folder of intermediate files.
    pub keep: bool,
    /// Say why symbols are in or not.
    pub explain: Explain,
    /// Make the debug companion.
    pub debug: bool,
}

/// Of which symbols it is told what became of them and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Explain {
    /// Of none.
    None,
    /// Of those that changed, are new, gone, or dragged along.
    Changed,
    /// Of each.
    All,
}

/// A payload and what belongs to it.
#[derive(Debug)]
pub struct Built {
    /// The file.
    pub payload: Vec<u8>,
    /// The debug companion, if asked for.
    pub debug: Option<Vec<u8>>,
    /// What is told about it.
    pub report: Report,
}

/// What a build tells about its result.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Kernel release.
    pub release: String,
    /// Patch level.
    pub level: u32,
    /// Compiled units.
    pub units: Vec<String>,
    /// Redirected functions; those of a module as `module:function`.
    pub functions: Vec<String>,
    /// Functions that are called around a switch: `pre_patch: function`.
    pub callbacks: Vec<String>,
    /// Functions that were compared with the shipped ones.
    pub verified_functions: usize,
    /// Why each symbol is in or not, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub explanation: Vec<String>,
    /// Remarks.
    pub notes: Vec<String>,
    /// Size in bytes.
    pub size: usize,
    /// Size of the debug companion in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug_size: Option<usize>,
    /// Seconds that it took.
    pub seconds: f64,
    /// And each of its steps.
    pub steps: Vec<Step>,
}

/// Builds a payload; the error is an [`Ending`] if there cannot be one.
pub fn build(request: &Request, progress: &Progress) -> Result<Built> {
    let work = WorkDir::new(&request.kernel, request.keep)?;
    let result = build_in(request, progress, work.path());
    match &result {
        Err(error) if error.downcast_ref::<Ending>().is_none() => {
            work.leave();
            progress.note(&format!(
                "intermediate files are in {}",
                work.path().display()
            ));
        }
        _ if request.keep => {
            progress.note(&format!(
                "intermediate files are in {}",
                work.path().display()
            ));
        }
        _ => {}
    }
    result
}

fn build_in(request: &Request, progress: &Progress, work: &Path) -> Result<Built> {
    let kernel = &request.kernel;
    progress.step("check compiler and configuration", || {
        toolchain::check(kernel)
    })?;
    let vmlinux = progress.step("read the shipped vmlinux", || {
        let vmlinux = Vmlinux::open(&kernel.vmlinux())?;
        let id: String = vmlinux
            .build_id
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        ensure!(
            id == kernel.build_id,
            "vmlinux has build-id {id}, and release.env says {}",
            kernel.build_id
        );
        Ok(vmlinux)
    })?;
    let patches = progress.step("apply the patches", || {
        Patches::apply(kernel, &request.patches, &work.join("patched"))
    })?;
    let compiler = Compiler::new(kernel, work)?;
    let mut notes = Vec::new();
    let mut images = Images::from(vmlinux);
    let names = images.vmlinux.unit_names(&kernel.source())?;
    let (mut units, mut included, mut affected) =
        progress.step("find the affected units", || {
            let mut affected = units::affected(kernel, &patches, &names, progress)?;
            patches.link_tree(&kernel.source(), compiler.tree(), &BTreeSet::new())?;
            let compiled: BTreeSet<String> =
                affected.account.compiled().map(str::to_owned).collect();
            let more = computed::reading(kernel, &compiler, &affected.computed, &names, &compiled)?;
            for file in more {
                match names.contains(&file) {
                    true => affected.builtin.insert(file),
                    false => affected.elsewhere.insert(file),
                };
            }
            let modular = modules(kernel, &affected.elsewhere)?;
            let all: BTreeSet<String> = affected.builtin.union(&modular).cloned().collect();
            let (named, included) = compiler
                .units(&all)?
                .into_iter()
                .partition::<Vec<_>, _>(|u| patches.files.contains_key(&u.source));
            Ok((named, included, affected))
        })?;
    let building = Building {
        compiler: &compiler,
        patches: &patches,
        source: kernel.source().canonicalize()?,
        plain: Mutex::default(),
        progress,
    };
    let mut structs = Structs::new(&request.layouts);
    for file in patches.files.keys() {
        let old = fs::read(kernel.source().join(file)).unwrap_or_default();
        let new = patches.patched(file)?.unwrap_or_default();
        structs.look_for_constants(&String::from_utf8_lossy(&old), &new);
    }
    if !units.is_empty() {
        progress.step(&format!("compile {} unit(s)", units.len()), || {
            building.compile(&units, &Flavour::ALL)
        })?;
        // Before it is looked for who else knows them.
        structs.check(&compiler, &units)?;
    }
    let mut seeing = Vec::new();
    if !included.is_empty() {
        let label = format!("look through {} unit(s) that include", included.len());
        seeing = progress.step(&label, || {
            // If a layout changes, a few units tell as much as thousands. One tells enough if the others are soon seen.
            let most = match included.len() > MANY {
                true => FIRST,
                false => 1,
            };
            let rest = included.split_off(included.len().min(FIRST));
            let mut seeing = Vec::new();
            for part in [included, rest] {
                let looked = part.clone();
                let more = building.with_another_text(part)?;
                building.account(&looked, &mut affected.account)?;
                // Not each unit has an object of it, or BTF that tells of it.
                let probed = match seeing.is_empty() {
                    true => &more[..more.len().min(most)],
                    false => &[],
                };
                for some in probed.chunks(PROBED) {
                    building.compile(some, &[Flavour::Split, Flavour::Patched])?;
                    // Only the refusal matters here.
                    Structs::new(&request.layouts).check(&compiler, some)?;
                }
                seeing.extend(more);
            }
            Ok(seeing)
        })?;
    }
    // A layout that changes is the better reason.
    building.account(&units, &mut affected.account)?;
    for object in &request.left {
        let copy = object.strip_suffix(".o").map(|stem| format!("{stem}.c"));
        ensure!(
            copy.is_some_and(|copy| affected.copies.contains_key(&copy)),
            "`--leave {object}` decides nothing: no other module has that object of a file that changes"
        );
    }
    if !affected.fixed.is_empty() {
        notes.extend(check_fixed(
            kernel,
            &building,
            &mut affected,
            &request.left,
        )?);
    }
    if !affected.read.is_empty() {
        notes.extend(
            progress.step("see what is generated from the changed files", || {
                check_generated(kernel, &building, &affected, work)
            })?,
        );
    }
    let configured = |file: &str| affected.inputs.may_build_rust(kernel, file, &names);
    let refusals = rust::check(kernel, &patches, &affected.rust, configured, work)?;
    if !refusals.is_empty() {
        return Err(Ending::CannotPatch(refusals).into());
    }
    if !seeing.is_empty() {
        let label = format!("compare {} unit(s) that see the change", seeing.len());
        let all = seeing.len();
        let more = progress.step(&label, || {
            building.with_another_object(seeing, request.max_units)
        })?;
        if more.len() > request.max_units {
            let most = request.max_units;
            return Err(refuse(
                "header fan-out",
                format!(
                    "more than {most} units that include change, of {all} that see the change; \
                     --max-units {all} lets them be built"
                ),
            ));
        }
        if !more.is_empty() {
            progress.step(&format!("compile {} unit(s)", more.len()), || {
                building.compile(&more, &Flavour::ALL)
            })?;
            structs.check(&compiler, &more)?;
        }
        units.extend(more);
        units.sort_by(|a, b| a.source.cmp(&b.source));
    }
    let account = affected.account;
    if units.is_empty() {
        progress.explain(account_of_files(request, &account));
        return Err(Ending::NothingChanged(with_notes(account.nothing(false), &notes)).into());
    }
    notes.extend(account.remarks());

    let mut states: Vec<UnitState> = Vec::new();
    let mut described: Vec<debug::Unit> = Vec::new();
    let mut verified = 0;
    progress.step("compare with what was shipped, and old with new", || {
        for unit in &units {
            let read = |flavour, layout| compiler.read(unit, flavour, layout);
            let exact = read(Flavour::Exact, Layout::Joint)?;
            let places = place(kernel, &mut images, unit, &exact)?;
            if places.is_empty() {
                notes.push(format!("{} is not part of this kernel", unit.source));
            }
            for (image, placement) in places {
                verified += placement.functions;
                let state = UnitState::new(
                    &unit.source,
                    image,
                    placement,
                    exact.clone(),
                    &read(Flavour::ExactPatched, Layout::Joint)?,
                    read(Flavour::Split, Layout::Split)?,
                    read(Flavour::Patched, Layout::Split)?,
                    &request.renames,
                )
                .with_context(|| format!("cannot compare {}", unit.source))?;
                notes.extend(changed_exports(&state));
                states.push(state);
                described.push(debug::Unit {
                    source: unit.source.clone(),
                    object: compiler.object(unit, Flavour::Patched),
                    plain: building.is_plain(unit),
                });
            }
        }
        Ok(())
    })?;

    let selector = progress.step("select", || {
        Selector::run(&states, &images, &request.renames)
    })?;
    request.renames.check_used()?;
    let selection = &selector.selection;
    notes.extend(selection.notes.iter().cloned());
    // What a module says of itself is no code, and stands in the way only if it is all that changes.
    let mut refusals_for_information = Vec::new();
    for state in &states {
        for remark in modinfo::remark(state)
            .into_iter()
            .chain(entries::gone(state))
        {
            notes.push(format!("{}: {remark}", state.source));
            refusals_for_information.push(Refusal::new(&state.source, remark));
        }
    }
    let mut explanation = account_of_files(request, &account);
    let compared: Vec<String> = states.iter().map(what_was_compared).collect();
    if request.explain != Explain::None {
        explanation.extend(compared.iter().map(|line| format!("unit {line}")));
        explanation.extend(explain(&states, &selector, request.explain));
    }
    let mut refusals = selection.refusals.clone();
    refusals.extend(structs.private(&states));
    if !refusals.is_empty() {
        progress.explain(explanation);
        return Err(Ending::CannotPatch(refusals.into_iter().collect()).into());
    }
    if selection.redirects.is_empty() && selection.callbacks.is_empty() {
        progress.explain(explanation);
        if !refusals_for_information.is_empty() {
            return Err(Ending::CannotPatch(refusals_for_information).into());
        }
        // The account has those remarks already that it makes itself.
        notes.retain(|note| !account.remarks().contains(note));
        let text = with_notes(account.nothing(true), &compared);
        return Err(Ending::NothingChanged(with_notes(text, &notes)).into());
    }
    structs.check_replaced(&states, selection)?;
    notes.extend(structs.remarks);

    let about = About {
        level: request.level,
        time: build_time(&patches)?,
        not_after: request.not_after,
        floor: request.floor,
        all_at_once: request.all_at_once,
        text_is_quiet: request.text_is_quiet,
        release: kernel.release.clone(),
        description: request.description.clone().unwrap_or_else(|| {
            let description = Description {
                level: request.level,
                effective: &kernel.version,
            };
            description.to_string()
        }),
        fixes: request.fixes.clone(),
    };
    let emitted = progress.step("write the payload", || {
        let preimages = selection
            .redirects
            .iter()
            .map(|r| {
                let state = &states[r.key.0];
                preimage(r, &state.exact, state.image, images.get(state.image))
            })
            .collect::<Result<Vec<_>>>()?;
        emit(&states, &selector, &images, &preimages, &about)
    })?;
    let escapes = emitted.escapes.iter();
    notes.extend(escapes.map(|escape| escape.remark(request.text_is_quiet)));
    let debug = match request.debug {
        true => Some(progress.step("write the debug companion", || {
            let sources = Sources {
                roots: vec![
                    compiler.tree().to_path_buf(),
                    work.to_path_buf(),
                    kernel.source(),
                    building.source.clone(),
                    kernel.build(),
                ],
                lines: patches.lines(&kernel.source())?,
            };
            companion(&emitted, &described, &sources)
                .context("cannot make the debug companion, which --no-debug leaves out")
        })?),
        false => None,
    };
    let body = emitted.bytes;
    let payload = match &request.signer {
        Some(signer) => progress.step("sign", || signer.sign(&body))?,
        None => body,
    };
    let named = |image: ImageId, name: &str| match image {
        VMLINUX => name.to_owned(),
        _ => format!("{}:{name}", images.get(image).name()),
    };
    let report = Report {
        release: kernel.release.clone(),
        level: request.level,
        units: states.iter().map(|s| s.source.clone()).collect(),
        functions: selection
            .redirects
            .iter()
            .map(|r| named(states[r.key.0].image, &r.name))
            .collect(),
        callbacks: selection
            .callbacks
            .iter()
            .map(|(&(image, when), &(u, id))| {
                let function = named(image, &states[u].new.items[id].name);
                format!("{}: {function}", when.name())
            })
            .collect(),
        verified_functions: verified,
        explanation,
        notes,
        size: payload.len(),
        debug_size: debug.as_ref().map(Vec::len),
        seconds: progress.seconds(),
        steps: progress.steps(),
    };
    Ok(Built {
        payload,
        debug,
        report,
    })
}

/// Finds a rebuilt unit in vmlinux, or in each module that it is part of, and compares it.
fn place(
    kernel: &Kernel,
    images: &mut Images,
    unit: &Unit,
    exact: &Obj,
) -> Result<Vec<(ImageId, Placement)>> {
    if !unit.module() {
        let placement = verify(exact, &unit.source, &images.vmlinux)?;
        return Ok(placement.map(|p| (VMLINUX, p)).into_iter().collect());
    }
    let names = unit.module_names();
    ensure!(
        !names.is_empty(),
        "{} is built for a module, and its command does not say for which",
        unit.source
    );
    let mut places = Vec::new();
    for name in names {
        let id = images.load(kernel, &name)?;
        let module = images.module(id).context("a module is missing")?;
        places.push((id, verify_module(exact, &unit.source, module)?));
    }
    Ok(places)
}

/// Refuses a change if what cannot be patched is made of it: assembly, images inside the kernel, what code is generated
/// from. Returns what is to be told about code that has run, and of copies in other modules.
fn check_fixed(
    kernel: &Kernel,
    building: &Building<'_>,
    affected: &mut Affected,
    left: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let (parts, others): (BTreeSet<String>, BTreeSet<String>) = {
        let (parts, others): (Vec<_>, Vec<_>) = affected.fixed.iter().partition(|(_, f)| f.part);
        let names = |list: Vec<(&String, _)>| list.into_iter().map(|(n, _)| n.clone()).collect();
        (names(parts), names(others))
    };
    let mut files = modules(kernel, &others)?;
    files.extend(parts);
    // What is only ever included, as no Makefile names its object, changes what includes it.
    files.retain(|file| {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let entry = affected.account.get(file);
        entry.is_none_or(|entry| entry.may_include == 0)
            || affected.inputs.may_build(folder, stem).is_some()
    });
    // What needs files that only a whole build makes (arch/x86/boot/compressed/misc.c) cannot be told.
    let mut untold = Vec::new();
    let units = match building.compiler.units(&files) {
        Ok(units) => units,
        Err(_) => {
            // What the build does not know by itself may be made in another way.
            let mut units = Vec::new();
            for file in files {
                match building.compiler.units(&BTreeSet::from([file.clone()])) {
                    Ok(one) => units.extend(one),
                    Err(_) => untold.push(file),
                }
            }
            units
        }
    };
    let mut told = Vec::new();
    for unit in units.into_iter().map(Unit::only_compared) {
        match building.compiler.preprocess(&unit, Flavour::Exact) {
            Ok(_) => told.push(unit),
            Err(_) => untold.push(unit.source),
        }
    }
    let seen = building.with_another_text(told)?;
    let (boot, seen): (Vec<_>, Vec<_>) = seen
        .into_iter()
        .partition(|unit| affected.fixed[&unit.source].boot);
    let mut changed = Vec::new();
    for unit in seen {
        // Another text need not be another code.
        if building.differs(&unit)? {
            changed.push(unit.source);
        }
    }
    let (mut ran, untold): (Vec<_>, Vec<_>) = untold
        .into_iter()
        .partition(|file| affected.fixed[file].boot);
    ran.extend(boot.into_iter().map(|unit| unit.source));
    ran.sort();
    changed.extend(untold);
    let mut notes = Vec::new();
    let mut refusals = Vec::new();
    for file in &changed {
        let fixed = affected.fixed[file];
        match affected.copies.get(file) {
            Some(source) if fixed.part => {
                let (folder, _) = file.rsplit_once('/').unwrap_or_default();
                let why = format!("{}: {folder} has a copy of its own", fixed.why);
                refusals.push(Refusal::new(source, why));
            }
            Some(source) => {
                let object = format!("{}.o", file.strip_suffix(".c").unwrap_or(file));
                let why = format!("{object} of another module is compiled from it too, and");
                if left.contains(&object) {
                    notes.push(format!("{source}: {why} stays as it was shipped"));
                } else {
                    let why = format!("{why} would stay as it was shipped");
                    refusals.push(Refusal::new(source, why));
                }
            }
            None => refusals.push(Refusal::new(file, fixed.why)),
        }
    }
    if !refusals.is_empty() {
        return Err(Ending::CannotPatch(refusals).into());
    }
    for (file, fixed) in &affected.fixed {
        if building.patches.files.contains_key(file) && !fixed.boot {
            let reason = "was compiled for comparison, and its code is the same";
            affected.account.enter(file, Role::Fixed, reason);
        }
    }
    for (copy, file) in &affected.copies {
        let boot = affected.fixed.get(file).is_some_and(|fixed| fixed.boot);
        if boot && affected.fixed[copy].part && building.patches.files.contains_key(file) {
            let (folder, _) = copy.rsplit_once('/').unwrap_or_default();
            let why = affected.fixed[file].why;
            let reason = format!("{why}; the code of the copy in {folder} is the same");
            affected.account.enter(file, Role::Fixed, reason);
        }
    }
    if !ran.is_empty() {
        let names: Vec<&str> = ran.iter().map(String::as_str).collect();
        notes.push(format!(
            "{}: boot code sees the change; it has run before this kernel began, which has left it, and stays as it is",
            some(&names)
        ));
    }
    Ok(notes)
}

/// Refuses a change of a file from which the kernel's build generates constants for code. Returns what is to be told
/// about tables that stay as they were shipped.
fn check_generated(
    kernel: &Kernel,
    building: &Building<'_>,
    affected: &Affected,
    work: &Path,
) -> Result<Vec<String>> {
    let mut notes = BTreeSet::new();
    let mut refusals = Vec::new();
    for (file, readers) in &affected.read {
        for found in generated(
            kernel,
            building.compiler,
            building.patches,
            file,
            readers,
            work,
        )? {
            match found {
                Generated::Table { target, by } => {
                    let names = match file.ends_with("/cpufeatures.h") {
                        true => "; /proc/cpuinfo will not name a new flag",
                        false => "",
                    };
                    notes.insert(format!(
                        "{file}: {target} is generated from it too ({by}), and stays as it was shipped{names}"
                    ));
                }
                Generated::Constants { target, by } => refusals.push(Refusal::new(
                    file,
                    format!(
                        "{target} is generated from it ({by}) and would be another one, so that new code and the tables of \
                         the running kernel would not agree"
                    ),
                )),
                Generated::Unknown { by, why } => refusals.push(Refusal::new(
                    file,
                    format!("is read by the kernel's build ({by}), and what it makes of it cannot be told ({why})"),
                )),
            }
        }
    }
    if refusals.is_empty() {
        return Ok(notes.into_iter().collect());
    }
    Err(Ending::CannotPatch(refusals).into())
}

/// The account of files as lines, if they are asked for.
fn account_of_files(request: &Request, account: &Account) -> Vec<String> {
    match request.explain {
        Explain::None => Vec::new(),
        _ => account
            .lines()
            .iter()
            .map(|line| format!("file {line}"))
            .collect(),
    }
}

/// A text with remarks below it.
fn with_notes(mut text: String, notes: &[String]) -> String {
    for note in notes {
        text.push_str("\n  ");
        text.push_str(note);
    }
    text
}

/// Remarks about symbols that only one of the original and the patched unit exports.
fn changed_exports(state: &UnitState) -> Vec<String> {
    let (how_old, how_new) = (&state.old.exports, &state.new.exports);
    let names = |exports: &BTreeMap<String, String>| exports.keys().cloned().collect();
    let (old, new): (BTreeSet<String>, BTreeSet<String>) = (names(how_old), names(how_new));
    let added = new.difference(&old).map(|name| {
        format!("{name} is newly exported; modules that are built against the patched source will not find it")
    });
    let removed = old.difference(&new).map(|name| {
        format!("{name} is no longer exported; modules still find it, as the list of the running kernel stays")
    });
    let otherwise = old
        .intersection(&new)
        .filter(|name| how_old.get(*name) != how_new.get(*name));
    let otherwise = otherwise.map(|name| {
        format!("{name} is exported under another licence or namespace; in the list of the running kernel it stays as it was")
    });
    added.chain(removed).chain(otherwise).collect()
}

/// So many units are looked at before it is asked whether a layout changes.
const FIRST: usize = 16;

/// More units than these take longer to look through than [`FIRST`] of them to compile.
const MANY: usize = 200;

/// Of those that see another text, so many are compiled at a time for that question.
const PROBED: usize = 4;

/// So many units are compiled before they are compared.
const PART: usize = 16;

/// What it takes to compile units before and after the patches.
struct Building<'a> {
    compiler: &'a Compiler<'a>,
    patches: &'a Patches,
    /// The source tree, without links.
    source: PathBuf,
    /// Units whose patched files keep no line numbers.
    plain: Mutex<BTreeSet<String>>,
    progress: &'a Progress,
}

impl Building<'_> {
    fn plain(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.plain.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether the patched files of a compiled unit kept no line numbers.
    fn is_plain(&self, unit: &Unit) -> bool {
        self.plain().contains(&unit.source)
    }

    /// Compiles, so that no patched unit includes an unpatched file that the patches change.
    fn compile(&self, units: &[Unit], flavours: &[Flavour]) -> Result<()> {
        let jobs = |units: &[&Unit]| -> Vec<(Unit, Flavour)> {
            let all = units.iter().copied().cloned();
            all.flat_map(|u| flavours.iter().map(move |f| (u.clone(), *f)))
                .collect()
        };
        let all = jobs(&units.iter().collect::<Vec<_>>());
        if self.compiler.compile(&all).is_err() {
            // The numbering of lines may be at fault, and hides the line of an error.
            self.patches.write_plain(self.compiler.tree())?;
            self.compiler.compile(&all)?;
            let names = units.iter().map(|unit| unit.source.clone());
            self.plain().extend(names);
        }
        let Some(&patched) = flavours.iter().find(|f| f.patched()) else {
            return Ok(());
        };
        // An include by `../` leaves the tree of links where a folder is one; then that folder is made real.
        let mut real = BTreeSet::new();
        loop {
            let known = real.len();
            let mut again: Vec<&Unit> = Vec::new();
            for unit in units {
                let deps = self.compiler.deps(unit, patched)?;
                if !self.unpatched_include(&deps)? {
                    continue;
                }
                // `a/b/../c.h` is right once both `a/b` and `a` are real.
                real.extend(
                    deps.iter()
                        .filter_map(|dep| dep.strip_prefix(self.compiler.tree()).ok())
                        .flat_map(folders_of),
                );
                again.push(unit);
            }
            let Some(first) = again.first() else {
                return Ok(());
            };
            ensure!(
                real.len() > known,
                "{} includes an unpatched file",
                first.source
            );
            fs::remove_dir_all(self.compiler.tree())?;
            self.patches
                .link_tree(&self.source, self.compiler.tree(), &real)?;
            if again.iter().any(|unit| self.is_plain(unit)) {
                self.patches.write_plain(self.compiler.tree())?;
            }
            let mut again = jobs(&again);
            again.retain(|(_, flavour)| flavour.patched());
            self.compiler.compile(&again)?;
        }
    }

    /// Leaves units out whose object cannot differ, by the text that they see before and after.
    fn with_another_text(&self, units: Vec<Unit>) -> Result<Vec<Unit>> {
        let count = Count::new(self.progress, "preprocessed", units.len());
        self.only(units, |unit| {
            count.one();
            let new = self.compiler.preprocess(unit, Flavour::ExactPatched)?;
            // What leaves the tree of links shows the old text.
            if self.unpatched_include(&new.deps)? {
                return Ok(true);
            }
            let old = self.compiler.preprocess(unit, Flavour::Exact)?;
            if old.digest == new.digest {
                return Ok(false);
            }
            let (Some(new), true) = (new.text, unit.drops()) else {
                return Ok(true);
            };
            let old = match old.text {
                Some(text) => text,
                None => self.compiler.preprocessed(unit, Flavour::Exact)?,
            };
            Ok(may_differ(&old, &new))
        })
    }

    /// Leaves units out that compile to the same as they were shipped; stops when more than `most` do not.
    fn with_another_object(&self, units: Vec<Unit>, most: usize) -> Result<Vec<Unit>> {
        let count = Count::new(self.progress, "compiled and compared", units.len());
        let mut out = Vec::new();
        for part in units.chunks(PART) {
            self.compile(part, &[Flavour::Exact, Flavour::ExactPatched])?;
            out.extend(self.only(part.to_vec(), |unit| {
                let another = self.another_object(unit)?;
                count.one();
                Ok(another)
            })?);
            if out.len() > most {
                break;
            }
        }
        Ok(out)
    }

    /// Whether a unit that was compiled before and after is another one.
    fn another_object(&self, unit: &Unit) -> Result<bool> {
        let object = |flavour| fs::read(self.compiler.object(unit, flavour));
        if object(Flavour::Exact)? == object(Flavour::ExactPatched)? {
            return Ok(false);
        }
        if generator(&unit.source) {
            return Ok(true);
        }
        // Names of source files may be all that differs.
        let read = |flavour| self.compiler.read(unit, flavour, Layout::Joint);
        let (old, new) = (read(Flavour::Exact)?, read(Flavour::ExactPatched)?);
        let renames = Renames::default();
        let specials = (Special::read(&old)?, Special::read(&new)?);
        if !modinfo::changes(&old, &new).is_empty() {
            return Ok(true);
        }
        let diff = compare(&old, &specials.0, &new, &specials.1, &renames)?;
        let same = diff.verdicts.values().all(|v| *v == Verdict::Same);
        Ok(!(same && diff.gone.is_empty() && diff.sections.is_empty()))
    }

    /// Whether a unit that is no part of vmlinux or a module compiles to another code than it did.
    fn differs(&self, unit: &Unit) -> Result<bool> {
        let one = std::slice::from_ref(unit);
        if self
            .compile(one, &[Flavour::Exact, Flavour::ExactPatched])
            .is_err()
        {
            // It may need what only a whole build makes.
            return Ok(true);
        }
        let object = |flavour| fs::read(self.compiler.object(unit, flavour));
        plain::same(&object(Flavour::Exact)?, &object(Flavour::ExactPatched)?)
            .map(|same| !same)
            .with_context(|| format!("cannot compare {}", unit.source))
    }

    /// Enters which changed files these units read, which were compiled or preprocessed.
    fn account(&self, units: &[Unit], account: &mut Account) -> Result<()> {
        for unit in units {
            let mut read = BTreeSet::new();
            for flavour in [Flavour::ExactPatched, Flavour::Patched] {
                // One that was found to read no changed file by other means has no list.
                let Ok(deps) = self.compiler.deps(unit, flavour) else {
                    continue;
                };
                for dep in deps {
                    let name = computed::within(self.compiler.tree(), &dep)
                        .or_else(|| computed::within(&self.source, &dep));
                    read.extend(name.filter(|name| self.patches.files.contains_key(name)));
                }
            }
            account.read_by(&unit.source, &read);
        }
        Ok(())
    }

    /// The units of which something is true.
    fn only(
        &self,
        units: Vec<Unit>,
        test: impl Fn(&Unit) -> Result<bool> + Sync,
    ) -> Result<Vec<Unit>> {
        let found = Mutex::new(BTreeSet::new());
        parallel(&units, |unit| {
            if test(unit)? {
                let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
                found.insert(unit.source.clone());
            }
            Ok(())
        })?;
        let found = found.into_inner().unwrap_or_else(|e| e.into_inner());
        Ok(units
            .into_iter()
            .filter(|u| found.contains(&u.source))
            .collect())
    }

    /// Whether a dependency is an unpatched form of a file that the patches change.
    fn unpatched_include(&self, deps: &[PathBuf]) -> Result<bool> {
        for dep in deps {
            let real = dep
                .canonicalize()
                .with_context(|| format!("{} vanished", dep.display()))?;
            let name = real.strip_prefix(&self.source).ok().and_then(Path::to_str);
            if name.is_some_and(|name| self.patches.files.contains_key(name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The folders that a path goes through, without `..`.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut here = PathBuf::new();
    for component in path.parent().into_iter().flat_map(Path::components) {
        match component {
            Component::ParentDir => {
                here.pop();
            }
            other => here.push(other),
        }
        folders.push(here.clone());
    }
    folders
}

/// `SOURCE_DATE_EPOCH`, or the time of the patches.
fn build_time(patches: &Patches) -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is `{text}`")),
        Err(_) => Ok(patches.time),
    }
}

/// What was compared of a unit, and how much of it differs.
fn what_was_compared(state: &UnitState) -> String {
    let count = |kind: Kind, test: &dyn Fn(&Verdict) -> bool| {
        let all = state.diff.verdicts.iter();
        all.filter(|(id, verdict)| state.new.items[**id].kind == kind && test(verdict))
            .count()
    };
    let differs = |verdict: &Verdict| matches!(verdict, Verdict::Changed(_));
    let new = |verdict: &Verdict| *verdict == Verdict::New;
    let of = |kind: Kind| {
        let (differ, new) = (count(kind, &differs), count(kind, &new));
        format!(
            "{differ} differ and {new} are new of {}",
            count(kind, &|_| true)
        )
    };
    format!(
        "{}: {} functions, {} variables and constants; {} are gone; as it was shipped, {} differ",
        state.source,
        of(Kind::Func),
        of(Kind::Data),
        state.diff.gone.len(),
        state.shipped_changes.len(),
    )
}

/// One line for each symbol: what became of it and why; those that are the same may be only counted.
fn explain(states: &[UnitState], selector: &Selector<'_>, explain: Explain) -> Vec<String> {
    let mut lines = Vec::new();
    let mut same = Vec::new();
    for (u, state) in states.iter().enumerate() {
        for (&id, verdict) in &state.diff.verdicts {
            let name = &state.new.items[id].name;
            let key = (u, id);
            let (mark, text) = match (selector.selection.why.get(&key), verdict) {
                (Some(why), _) => ("+", why.clone()),
                (None, Verdict::Same) => {
                    same.push(format!("  {}: {name}: same", state.source));
                    continue;
                }
                (None, Verdict::New) => (" ", "new, but nothing needs it".to_owned()),
                (None, Verdict::Changed(what)) => ("!", format!("changed ({what})")),
            };
            lines.push(format!("{mark} {}: {name}: {text}", state.source));
        }
        for &id in &state.diff.gone {
            let name = &state.old.items[id].name;
            lines.push(format!("- {}: {name}: gone", state.source));
        }
    }
    match explain {
        Explain::All => lines.extend(same),
        _ => lines.push(format!("  {} symbol(s) are the same", same.len())),
    }
    lines
}

/// A folder for intermediate files that the build root can see.
struct WorkDir {
    path: PathBuf,
    keep: std::cell::Cell<bool>,
}

impl WorkDir {
    fn new(kernel: &Kernel, keep: bool) -> Result<Self> {
        // Below the kernel's folder, because the build root shows that one.
        let parent = kernel.dir.join("work");
        let path = parent.join(format!("build-{}", std::process::id()));
        remove_old(&parent);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(WorkDir {
            path,
            keep: std::cell::Cell::new(keep),
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn leave(&self) {
        self.keep.set(true);
    }
}

/// Folders of failed builds that stay to be looked at.
const LEFT: usize = 5;

/// Removes the folders of builds that have ended, but for the newest.
fn remove_old(parent: &Path) {
    let mut ended: Vec<(SystemTime, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let process = name.to_str().and_then(|n| n.strip_prefix("build-"));
            process.is_some_and(|p| !Path::new("/proc").join(p).exists())
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    ended.sort();
    ended.reverse();
    for (_, path) in ended.into_iter().skip(LEFT) {
        // Another build may be doing the same.
        let _ = fs::remove_dir_all(path);
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.keep.get() {
            // Nothing can be done about files that stay.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_ended_builds_go_and_the_newest_stay() {
        let parent = std::env::temp_dir().join(format!("kcare-work-{}", std::process::id()));
        let number = |n: u32| parent.join(format!("build-{n}"));
        // Beyond the largest process id.
        let ended: Vec<PathBuf> = (0..8).map(|n| number(4_194_305 + n)).collect();
        let running = number(std::process::id());
        for (age, path) in ended.iter().chain([&running]).enumerate() {
            fs::create_dir_all(path).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 + age as u64);
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }
        remove_old(&parent);
        let left: Vec<bool> = ended.iter().map(|p| p.exists()).collect();
        assert_eq!(left, [false, false, false, true, true, true, true, true]);
        assert!(running.exists());
        fs::remove_dir_all(&parent).unwrap();
    }
}
