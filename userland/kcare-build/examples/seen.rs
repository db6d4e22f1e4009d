// SPDX-License-Identifier: GPL-2.0

//! Holds what kcare-build says about units without compiling them against what the compiler makes of them.
//!
//! `seen REL PATCH...`: for each patch of a header, one line for each unit that includes it: whether its text differs,
//! whether its object may differ, and whether it does. A unit that differs although it may not is an error.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{ensure, Context, Result};
use kcare_build::compare::{compare, Verdict};
use kcare_build::compile::{parallel, Compiler, Flavour, Unit};
use kcare_build::includes::Includes;
use kcare_build::kernel::Kernel;
use kcare_build::obj::Layout;
use kcare_build::patch::Patches;
use kcare_build::renames::Renames;
use kcare_build::seen::may_differ;
use kcare_build::special::Special;
use kcare_build::vmlinux::Vmlinux;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let release = arguments.next().context("which release?")?;
    let kernel = Kernel::find(&release, None)?;
    let known = Vmlinux::open(&kernel.vmlinux())?.unit_names(&kernel.source())?;
    let mut wrong = 0;
    for patch in arguments {
        let work = kernel
            .dir
            .join("work")
            .join(format!("build-{}", std::process::id()));
        let result = one(&kernel, &known, &patch, &work);
        fs::remove_dir_all(&work)?;
        wrong += result.with_context(|| format!("with {patch}"))?;
    }
    ensure!(wrong == 0, "{wrong} units differ that may not");
    Ok(())
}

fn one(kernel: &Kernel, known: &BTreeSet<String>, patch: &str, work: &PathBuf) -> Result<usize> {
    fs::create_dir_all(work)?;
    let patches = Patches::apply(kernel, &[PathBuf::from(patch)], &work.join("patched"))?;
    let compiler = Compiler::new(kernel, work)?;
    patches.link_tree(&kernel.source(), compiler.tree(), &BTreeSet::new())?;
    let cache = kernel.dir.join("kcare-includes");
    let mut includes = Includes::read(&kernel.source(), &kernel.build(), &cache)?;
    includes.apply(&patches)?;
    let targets: BTreeSet<String> = patches.files.keys().cloned().collect();
    let sources: BTreeSet<String> = includes
        .includers(&targets)
        .into_iter()
        .filter(|file| file.ends_with(".c") && known.contains(file))
        .collect();
    let lines = std::sync::Mutex::new(Vec::new());
    let units = compiler.units(&sources)?;
    parallel(&units, |unit| {
        let line = look(&compiler, unit)?;
        let mut lines = lines.lock().unwrap_or_else(|e| e.into_inner());
        lines.push((unit.source.clone(), line));
        Ok(())
    })?;
    let mut lines = lines.into_inner().unwrap_or_else(|e| e.into_inner());
    lines.sort();
    for (unit, line) in &lines {
        println!("{patch}\t{unit}\t{line}");
    }
    Ok(lines.iter().filter(|(_, line)| *line == WRONG).count())
}

const WRONG: &str = "differs although it may not";

fn look(compiler: &Compiler<'_>, unit: &Unit) -> Result<&'static str> {
    let Ok(new) = compiler.preprocess(unit, Flavour::ExactPatched) else {
        return Ok("does not compile");
    };
    let old = compiler.preprocess(unit, Flavour::Exact)?;
    if old.digest == new.digest {
        return Ok("same text");
    }
    let may = may_differ(
        &compiler.preprocessed(unit, Flavour::Exact)?,
        &compiler.preprocessed(unit, Flavour::ExactPatched)?,
    );
    compiler.compile(&[(unit.clone(), Flavour::Exact)])?;
    let patched = (unit.clone(), Flavour::ExactPatched);
    if compiler.compile(&[patched]).is_err() {
        return Ok("does not compile");
    }
    // Not byte by byte: the objects name their sources, which are in another folder.
    let read = |flavour| compiler.read(unit, flavour, Layout::Joint);
    let (old, new) = (read(Flavour::Exact)?, read(Flavour::ExactPatched)?);
    let specials = (Special::read(&old)?, Special::read(&new)?);
    let diff = compare(&old, &specials.0, &new, &specials.1, &Renames::default())?;
    let changed = |v: &Verdict| matches!(v, Verdict::Changed(_));
    // The number that the compiler appends to a name is not always enough to tell which is which.
    let plain = |name: &str| {
        name.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit())
            .to_owned()
    };
    let mut gone: Vec<String> = diff
        .gone
        .iter()
        .map(|&id| plain(&old.items[id].name))
        .collect();
    let fresh = diff.verdicts.iter().filter(|(_, v)| **v == Verdict::New);
    let mut fresh: Vec<String> = fresh.map(|(&id, _)| plain(&new.items[id].name)).collect();
    gone.sort();
    fresh.sort();
    let differs = diff.verdicts.values().any(changed) || gone != fresh || !diff.sections.is_empty();
    Ok(match (may, differs) {
        (false, true) => WRONG,
        (false, false) => "cannot differ",
        (true, false) => "may differ and does not",
        (true, true) => "differs",
    })
}
