// SPDX-License-Identifier: GPL-2.0

//! Compiles units with the very commands that the kernel was built with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{bail, Context, Result};

use crate::author;
use crate::kernel::Kernel;
use crate::obj::{Layout, Obj};

/// A unit of the kernel and how it is compiled.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Source file relative to the source tree.
    pub source: String,
    /// The shell command that the kernel's build runs, in the output tree.
    command: String,
    /// Files that the unmodified unit includes, absolute.
    pub deps: Vec<PathBuf>,
}

impl Unit {
    /// Whether it becomes part of a module.
    pub fn module(&self) -> bool {
        self.command
            .split_whitespace()
            .any(|word| word == "-DMODULE")
    }

    /// The names of the modules that it becomes part of (`modname` in scripts/Makefile.lib).
    pub fn module_names(&self) -> Vec<String> {
        let value = self
            .command
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
    /// Whether the source is the patched one.
    fn patched(self) -> bool {
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
        })
    }

    /// The patched source tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Asks the kernel's build for the commands of source files, which must be C.
    pub fn units(&self, sources: &BTreeSet<String>) -> Result<Vec<Unit>> {
        let missing: Vec<String> = sources
            .iter()
            .map(|s| object_path(s))
            .filter(|o| !self.kernel.build().join(cmd_path(o)).exists())
            .collect();
        if !missing.is_empty() {
            let output = self.make().arg("-s").args(&missing).output();
            let output = output.context("cannot enter the build root")?;
            if !output.status.success() {
                bail!(
                    "the kernel's build cannot make {}:\n{}",
                    missing.join(" "),
                    String::from_utf8_lossy(&output.stderr).trim_end()
                );
            }
        }
        sources.iter().map(|source| self.unit(source)).collect()
    }

    /// The kernel's build, for single objects of the tree that is prepared already.
    fn make(&self) -> std::process::Command {
        let mut make = self.kernel.command("make");
        // Without these flags the build starts itself again to set them, which resets -o; `prepare` would
        // look through all tools of the build each time.
        make.args(["-rR", "--no-print-directory", "-o", "prepare"])
            .arg(format!("-j{}", jobs()));
        make
    }

    /// Tells which of these files, which are not in vmlinux, are part of a module.
    ///
    /// The kernel's build marks what it makes for a module, whether it succeeds or not.
    pub fn modules(&self, sources: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut modules = BTreeSet::new();
        let mut unknown = Vec::new();
        for source in sources.iter().filter(|s| s.ends_with(".c")) {
            match self.unit(source) {
                Ok(unit) if unit.module() => {
                    modules.insert(source.clone());
                }
                Ok(_) => {}
                Err(_) => unknown.push(object_path(source)),
            }
        }
        if !unknown.is_empty() {
            let output = self
                .make()
                .arg("-k")
                .args(&unknown)
                .output()
                .context("cannot enter the build root")?;
            let text = String::from_utf8_lossy(&output.stdout);
            let source_of = |object: &str| sources.iter().find(|s| object_path(s) == object);
            for line in text.lines() {
                let mut words = line.split_whitespace();
                if let (Some("CC"), Some("[M]"), Some(object)) =
                    (words.next(), words.next(), words.next())
                {
                    modules.extend(source_of(object).cloned());
                }
            }
        }
        Ok(modules)
    }

    fn unit(&self, source: &str) -> Result<Unit> {
        let object = object_path(source);
        let path = self.kernel.build().join(cmd_path(&object));
        let text = fs::read_to_string(&path)
            .with_context(|| format!("the kernel's build left no {}", path.display()))?;
        let (command, deps) = parse_cmd(&text, &object)
            .with_context(|| format!("{} is not understood", path.display()))?;
        let deps = deps
            .into_iter()
            .map(|d| self.kernel.build().join(d))
            .collect();
        Ok(Unit {
            source: source.to_owned(),
            command,
            deps,
        })
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
    pub fn compile(&self, jobs_list: &[(&Unit, Flavour)]) -> Result<()> {
        parallel(jobs_list, |&(unit, flavour)| {
            self.compile_one(unit, flavour)
        })
    }

    fn compile_one(&self, unit: &Unit, flavour: Flavour) -> Result<()> {
        let object = self.object(unit, flavour);
        let deps = dep_file(&object);
        let command = self.command(unit, flavour, &object, &deps)?;
        let module = if unit.module() { " --module" } else { "" };
        let script = format!(
            "{command} && ./tools/objtool/objtool {} --link{module} {}",
            self.objtool,
            quote(&object)?
        );
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
        Ok(())
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
            Flavour::Split | Flavour::Patched => " -ffunction-sections -fdata-sections",
        };
        let new_object = format!("{split} -o {} ", quote(object)?);
        let command = unit.command.replace(&old_object, &new_object);
        let mut words: Vec<String> = Vec::new();
        for word in command.split(' ') {
            // Debug information does not change code, but takes half of the time.
            if word == "-g" || word.starts_with("-gdwarf") || word.starts_with("-Wp,-MMD,") {
                continue;
            }
            words.push(word.to_owned());
        }
        let mut command = words.join(" ");
        if flavour.patched() {
            command = replace_path(&command, &quote(&self.source)?, &quote(&self.tree)?);
            command.push_str(&format!(" -I{}", quote(&self.headers)?));
        }
        command.push_str(&format!(" -Wp,-MMD,{}", quote(deps)?));
        Ok(command)
    }

    /// The files that a compiled unit included, absolute.
    pub fn deps(&self, unit: &Unit, flavour: Flavour) -> Result<Vec<PathBuf>> {
        let path = dep_file(&self.object(unit, flavour));
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (_, list) = text.split_once(':').context("malformed dependency file")?;
        Ok(list
            .split_whitespace()
            .filter(|word| *word != "\\")
            .map(|word| self.kernel.build().join(word))
            .collect())
    }

    /// Runs only the preprocessor and returns its text without line markers.
    pub fn preprocess(&self, unit: &Unit, flavour: Flavour) -> Result<Vec<u8>> {
        let out = self.object(unit, flavour).with_extension("i");
        let deps = dep_file(&out);
        let command = self
            .command(unit, flavour, &out, &deps)?
            .replace(" -c ", " -E -P ");
        let output = self.kernel.command("sh").args(["-c", &command]).output()?;
        if !output.status.success() {
            bail!(
                "cannot preprocess {}:\n{}\nThe command was:\n{command}",
                unit.source,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        Ok(fs::read(&out)?)
    }
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
    let object = format!("{}.o", source.strip_suffix(".c").unwrap_or(source));
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

fn dep_file(object: &Path) -> PathBuf {
    object.with_extension("d")
}

/// A path as a word of the shell.
fn quote(path: &Path) -> Result<String> {
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
fn replace_path(text: &str, from: &str, to: &str) -> String {
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

/// Takes the command and the dependencies out of a `.cmd` file of the kernel's build.
fn parse_cmd(text: &str, object: &str) -> Result<(String, Vec<String>)> {
    let line = text.lines().next().context("empty file")?;
    let command = line
        .strip_prefix(&format!("savedcmd_{object} := "))
        .with_context(|| format!("no savedcmd_{object}"))?;
    // Make's own escapes.
    let command = command.replace("$(pound)", "#").replace("$$", "$");
    // What follows the compiler (objtool) is run separately.
    let command = command
        .split(" ; ")
        .next()
        .unwrap_or(&command)
        .trim_end()
        .to_owned();

    let mut deps = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with(&format!("deps_{object} :=")) {
            inside = true;
            continue;
        }
        if inside {
            let word = line.trim().trim_end_matches('\\').trim();
            if word.is_empty() {
                break;
            }
            if !word.starts_with("$(wildcard ") {
                deps.push(word.to_owned());
            }
        }
    }
    Ok((command, deps))
}

/// The arguments that the kernel's build gives objtool, as the build itself computes them.
fn objtool_arguments(kernel: &Kernel, work: &Path) -> Result<String> {
    let makefile = work.join("objtool.mk");
    let text = "include include/config/auto.conf\n\
                include $(srctree)/scripts/Kbuild.include\n\
                include $(srctree)/scripts/Makefile.lib\n\
                print:\n\t@echo $(objtool-args-y)\n";
    fs::write(&makefile, text)?;
    let output = kernel
        .command("make")
        .args(["-s", "-f"])
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
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cmd_file_gives_command_and_dependencies() {
        let text = "savedcmd_a/b.o := gcc -DX=\\$(pound) -c -o a/b.o /s/a/b.c ; objtool a/b.o\n\n\
                    source_a/b.o := /s/a/b.c\n\ndeps_a/b.o := \\\n  /s/x.h \\\n    $(wildcard include/config/Y) \\\n  ./g.h \\\n\na/b.o: $(deps_a/b.o)\n";
        let (command, deps) = parse_cmd(text, "a/b.o").unwrap();
        assert_eq!(command, "gcc -DX=\\# -c -o a/b.o /s/a/b.c");
        assert_eq!(deps, ["/s/x.h", "./g.h"]);
    }

    #[test]
    fn a_unit_may_be_part_of_several_modules() {
        let unit = |word: &str| Unit {
            source: "a.c".to_owned(),
            command: format!("gcc -DMODULE {word} -c -o a.o a.c"),
            deps: Vec::new(),
        };
        let names = |word: &str| unit(word).module_names();
        assert_eq!(names(r#"-DKBUILD_MODNAME='"kvm_intel"'"#), ["kvm_intel"]);
        assert_eq!(names(r#"-DKBUILD_MODNAME='"a:b-c"'"#), ["a", "b_c"]);
        assert!(names("").is_empty() && unit("").module());
    }

    #[test]
    fn some_objects_are_named_from_another_folder() {
        assert_eq!(object_path("net/core/dev.c"), "net/core/dev.o");
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
