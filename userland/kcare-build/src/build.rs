// SPDX-License-Identifier: GPL-2.0

//! One build from patches to payload.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{ensure, Context, Result};
use serde::Serialize;

use crate::compare::Verdict;
use crate::compile::{parallel, Compiler, Flavour, Unit};
use crate::emit::{emit, About};
use crate::image::{ImageId, Images, VMLINUX};
use crate::kernel::Kernel;
use crate::obj::{Layout, Obj};
use crate::patch::Patches;
use crate::preimage::preimage;
use crate::progress::{Progress, Step};
use crate::refuse::{refuse, Ending};
use crate::select::Selector;
use crate::sign::Signer;
use crate::toolchain;
use crate::unit::UnitState;
use crate::units;
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
    /// Id (may be empty) and title of each fix.
    pub fixes: Vec<(String, String)>,
    /// One line, or the default.
    pub description: Option<String>,
    /// Who signs, if anybody.
    pub signer: Option<Signer>,
    /// Most units to compile.
    pub max_units: usize,
    /// Keep the folder of intermediate files.
    pub keep: bool,
    /// Say why each symbol is in or not.
    pub explain: bool,
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
    /// Seconds that it took.
    pub seconds: f64,
    /// And each of its steps.
    pub steps: Vec<Step>,
}

/// Builds a payload; the error is an [`Ending`] if there cannot be one.
pub fn build(request: &Request, progress: &Progress) -> Result<(Vec<u8>, Report)> {
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

fn build_in(request: &Request, progress: &Progress, work: &Path) -> Result<(Vec<u8>, Report)> {
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
    let units = progress.step("find the affected units", || {
        let affected = units::affected(kernel, &patches, &images.vmlinux.unit_names()?)?;
        patches.link_tree(&kernel.source(), compiler.tree(), &BTreeSet::new())?;
        let modular = compiler.modules(&affected.elsewhere)?;
        for file in affected.elsewhere.difference(&modular) {
            if patches.files.contains_key(file) {
                notes.push(format!("{file} is not part of this kernel by itself"));
            }
        }
        let all: BTreeSet<String> = affected.builtin.union(&modular).cloned().collect();
        if all.len() > request.max_units {
            return Err(refuse(
                "header fan-out",
                format!(
                    "{} units may be affected; --max-units {} lets them be compiled",
                    all.len(),
                    all.len()
                ),
            ));
        }
        let of_modules = modular
            .into_iter()
            .filter(|m| !patches.files.contains_key(m));
        let by_header = affected.by_header.into_iter().chain(of_modules).collect();
        without_equal_text(&compiler, compiler.units(&all)?, &by_header)
    })?;
    if units.is_empty() {
        let why = notes
            .first()
            .cloned()
            .unwrap_or_else(|| "the patches touch no code".to_owned());
        return Err(Ending::NothingChanged(why).into());
    }

    progress.step(&format!("compile {} unit(s)", units.len()), || {
        let jobs: Vec<(&Unit, Flavour)> = units
            .iter()
            .flat_map(|u| {
                [
                    Flavour::Exact,
                    Flavour::ExactPatched,
                    Flavour::Split,
                    Flavour::Patched,
                ]
                .map(|f| (u, f))
            })
            .collect();
        if compiler.compile(&jobs).is_err() {
            // The numbering of lines may be at fault, and hides the line of an error.
            patches.write_plain(compiler.tree())?;
            compiler.compile(&jobs)?;
        }
        compile_around_links(&compiler, &units, &patches, kernel)
    })?;

    let mut states: Vec<UnitState> = Vec::new();
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
                )
                .with_context(|| format!("cannot compare {}", unit.source))?;
                notes.extend(new_exports(&state));
                states.push(state);
            }
        }
        Ok(())
    })?;

    let selector = progress.step("select", || Selector::run(&states, &images))?;
    let selection = &selector.selection;
    notes.extend(selection.notes.iter().cloned());
    let explanation = if request.explain {
        explain(&states, &selector)
    } else {
        Vec::new()
    };
    if !selection.refusals.is_empty() {
        explanation.iter().for_each(|line| eprintln!("{line}"));
        return Err(Ending::CannotPatch(selection.refusals.iter().cloned().collect()).into());
    }
    if selection.redirects.is_empty() && selection.callbacks.is_empty() {
        explanation.iter().for_each(|line| eprintln!("{line}"));
        let why = notes
            .first()
            .cloned()
            .unwrap_or_else(|| "no function differs".to_owned());
        return Err(Ending::NothingChanged(why).into());
    }

    let about = About {
        level: request.level,
        time: build_time(&patches)?,
        release: kernel.release.clone(),
        description: request
            .description
            .clone()
            .unwrap_or_else(|| format!("{};{}", request.level, kernel.version)),
        fixes: request.fixes.clone(),
    };
    let body = progress.step("write the payload", || {
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
    let bytes = match &request.signer {
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
        size: bytes.len(),
        seconds: progress.seconds(),
        steps: progress.steps(),
    };
    Ok((bytes, report))
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

/// Remarks about symbols that a patched unit exports and the original does not.
fn new_exports(state: &UnitState) -> Vec<String> {
    let exports = |obj: &Obj| obj.exports.iter().cloned().collect::<BTreeSet<_>>();
    exports(&state.new)
        .difference(&exports(&state.old))
        .map(|name| {
            format!("{name} is newly exported; modules that are built against the patched source will not find it")
        })
        .collect()
}

/// Leaves units out that see the same text before and after, of those that only a header brought in.
fn without_equal_text(
    compiler: &Compiler<'_>,
    units: Vec<Unit>,
    by_header: &BTreeSet<String>,
) -> Result<Vec<Unit>> {
    let equal = std::sync::Mutex::new(BTreeSet::new());
    let candidates: Vec<&Unit> = units
        .iter()
        .filter(|u| by_header.contains(&u.source))
        .collect();
    parallel(&candidates, |unit| {
        if compiler.preprocess(unit, Flavour::Split)?
            == compiler.preprocess(unit, Flavour::Patched)?
        {
            equal
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .insert(unit.source.clone());
        }
        Ok(())
    })?;
    let equal = equal.into_inner().unwrap_or_else(|e| e.into_inner());
    Ok(units
        .into_iter()
        .filter(|u| !equal.contains(&u.source))
        .collect())
}

/// Makes sure that no patched unit included a file of the unpatched tree that the patches change.
///
/// An include by `../` leaves the tree of links where a folder is one; then that folder is made real.
fn compile_around_links(
    compiler: &Compiler<'_>,
    units: &[Unit],
    patches: &Patches,
    kernel: &Kernel,
) -> Result<()> {
    let source = kernel.source();
    let mut real = BTreeSet::new();
    loop {
        let mut again: Vec<(&Unit, Flavour)> = Vec::new();
        for unit in units {
            let deps = compiler.deps(unit, Flavour::Patched)?;
            if unpatched_include(&deps, patches, &source)?.is_some() {
                let before = real.len();
                // `a/b/../c.h` is right once both `a/b` and `a` are real.
                real.extend(
                    deps.iter()
                        .filter_map(|dep| dep.strip_prefix(compiler.tree()).ok())
                        .flat_map(folders_of),
                );
                ensure!(
                    real.len() > before,
                    "{} includes an unpatched file",
                    unit.source
                );
                again.extend([(unit, Flavour::Patched), (unit, Flavour::ExactPatched)]);
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        fs::remove_dir_all(compiler.tree())?;
        patches.link_tree(&source, compiler.tree(), &real)?;
        compiler.compile(&again)?;
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

/// The first dependency that is an unpatched form of a file that the patches change.
fn unpatched_include(
    deps: &[PathBuf],
    patches: &Patches,
    source: &Path,
) -> Result<Option<PathBuf>> {
    let source = source.canonicalize()?;
    for dep in deps {
        let real = dep
            .canonicalize()
            .with_context(|| format!("{} vanished", dep.display()))?;
        let name = real.strip_prefix(&source).ok().and_then(Path::to_str);
        if name.is_some_and(|name| patches.files.contains_key(name)) {
            return Ok(Some(dep.clone()));
        }
    }
    Ok(None)
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

/// One line for each symbol: what became of it and why.
fn explain(states: &[UnitState], selector: &Selector<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for (u, state) in states.iter().enumerate() {
        for (&id, verdict) in &state.diff.verdicts {
            let name = &state.new.items[id].name;
            let key = (u, id);
            let (mark, text) = match (selector.selection.why.get(&key), verdict) {
                (Some(why), _) => ("+", why.clone()),
                (None, Verdict::Same) => (" ", "same".to_owned()),
                (None, Verdict::New) => (" ", "new, but nothing needs it".to_owned()),
                (None, Verdict::Changed(what)) => ("!", format!("changed ({what})")),
            };
            lines.push(format!("{mark} {}: {name}: {text}", state.source));
        }
        for name in &state.diff.gone {
            lines.push(format!("- {}: {name}: gone", state.source));
        }
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
        let path = kernel
            .dir
            .join("work")
            .join(format!("build-{}", std::process::id()));
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

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.keep.get() {
            // Nothing can be done about files that stay.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
