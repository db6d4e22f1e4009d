// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::fmt::Display;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, ensure, Context, Result};
use clap::{Args, Parser, Subcommand};
use kcare_tuf::time::Time;
use serde::Serialize;

use crate::build::{build, Built, Explain, Report, Request};
use crate::delta::Delta;
use crate::home::homes;
use crate::inspect::Summary;
use crate::kernel::{upwards, Kernel};
use crate::module::{Catalogue, Module};
use crate::progress::Progress;
use crate::publish::{self, PublishArgs};
use crate::refuse::Ending;
use crate::renames::Renames;
use crate::revoke;
use crate::sign::{body, Signer};
use crate::verdicts::Verdicts;

/// Exit status: it failed.
const FAILED: u8 = 1;
/// Exit status: the patches change no code of this kernel.
const NOTHING_CHANGED: u8 = 3;
/// Exit status: the change cannot be applied to a running kernel.
const CANNOT_PATCH: u8 = 4;

/// Exit status of `diff`: the payloads differ.
const DIFFERENT: u8 = 1;
/// Exit status of `diff`: they cannot be compared.
const TROUBLE: u8 = 2;

/// Builds, signs and explains kcare payloads.
///
/// Exit status: 0 done, 1 failed, 2 wrong usage, 3 the patches change no code of this kernel, 4 the change
/// cannot be applied to a running kernel. `diff` has its own.
#[derive(Debug, Parser)]
#[command(name = "kcare-build", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(BuildArgs),
    Sign(SignArgs),
    Revoke(RevokeArgs),
    Inspect(InspectArgs),
    Diff(DiffArgs),
    Compare(CompareArgs),
    Where(WhereArgs),
    Publish(PublishArgs),
}

/// Build a payload from source patches.
///
/// The patches are applied in order, with -p1 and without fuzz.
#[derive(Debug, Args)]
struct BuildArgs {
    /// Kernel release (`uname -r`), or the directory of a prepared kernel.
    #[arg(long)]
    kernel: String,
    /// Patch level; a higher level replaces a lower one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    level: u32,
    /// Let it be applied no more after this day (UTC), `2027-06-30`, or this second, `2027-06-30T12:00:00Z`; where it is
    /// live it stays.
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    not_after: Option<u64>,
    /// Once it has been live, let no level below this one go live on that machine until its next boot, whoever asks.
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..))]
    floor: Option<u32>,
    /// Calls of old and of new code must never run side by side: let it go live, and be taken back, at a moment when no
    /// task is inside, or not at all; kcare-patch(7) tells which fixes need it.
    #[arg(long)]
    all_at_once: bool,
    /// The post_unpatch callback sees to it that nothing calls the patch's code any more (timers, work items, RCU
    /// callbacks, operations): let it be freed after an unload, although addresses of it are taken.
    #[arg(long)]
    text_is_quiet: bool,
    /// A fix that the payload carries, `CVE-2026-12345: title`, or a title alone; may be repeated.
    #[arg(long, value_name = "ID: TITLE")]
    fix: Vec<String>,
    /// One line of description [default: level and kernel version].
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not sign.
    #[arg(long, conflicts_with_all = ["key", "cert"])]
    unsigned: bool,
    /// Tell for every changed file what it is, and why symbols changed, are new, gone or dragged along; with
    /// `--explain=all` or --json also which ones are the same.
    #[arg(
        long,
        value_enum,
        value_name = "WHICH",
        num_args = 0..=1,
        require_equals = true,
        default_value = "none",
        default_missing_value = "changed",
        hide_default_value = true
    )]
    explain: Explain,
    /// Refuse a changed header that changes more units than this.
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_units: usize,
    /// Let the layout of a structure or union change, or the numbers of an enumeration (`enum NAME`), which is right
    /// if no object with it outlives the functions that know it; may be repeated.
    #[arg(long = "layout", value_name = "struct NAME")]
    layouts: Vec<String>,
    /// Say what became of a variable or function that is gone: OLD=NEW if the patch gives it another name, OLD= if the
    /// fix does without it, =NEW if a variable is new and takes over nothing; may be repeated.
    #[arg(long, value_name = "OLD=NEW")]
    renamed: Vec<String>,
    /// Leave an object of another module as it was shipped that is compiled from a fixed file too; may be repeated.
    #[arg(long, value_name = "FILE.o")]
    leave: Vec<String>,
    /// Keep the intermediate files.
    #[arg(long)]
    keep_temp: bool,
    /// Print a report as JSON.
    #[arg(long)]
    json: bool,
    /// Say nothing but errors.
    #[arg(long)]
    quiet: bool,
    /// Program that enters the build root [default: $KCARE_EXEC, or scripts/kernel].
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<PathBuf>,
    /// Where to write the payload.
    #[arg(short, long, value_name = "OUT.kpatch")]
    output: PathBuf,
    /// Where to write the debug companion, which tells debuggers the functions and lines of the payload's code
    /// [default: OUT.kpatch.debug].
    #[arg(long, value_name = "FILE")]
    debug: Option<PathBuf>,
    /// Write no debug companion.
    #[arg(long, conflicts_with = "debug")]
    no_debug: bool,
    /// Patch files.
    #[arg(required = true, value_name = "PATCH")]
    patches: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct SignerArgs {
    /// Private key in PEM [default: target/keys/kcare-dev.key.pem].
    #[arg(long, value_name = "KEY.pem", requires = "cert")]
    key: Option<PathBuf>,
    /// Certificate in PEM [default: target/keys/kcare-dev.cert.pem].
    #[arg(long, value_name = "CERT.pem", requires = "key")]
    cert: Option<PathBuf>,
}

/// Sign a payload or a revocation record; a signature that it has is replaced.
#[derive(Debug, Args)]
struct SignArgs {
    #[command(flatten)]
    signer: SignerArgs,
    /// Where to write the signed payload [default: FILE itself].
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The payload or record.
    file: PathBuf,
}

/// Make a revocation record, which tells the kcare module of a running kernel that certificates are dead.
///
/// Until the module is loaded anew it applies nothing any more that their keys have signed, and goes back to no such level;
/// what is live stays. Machines take a record by `kcare-push`, or from /etc/sysconfig/kcare/revoked. Name all certificates
/// of a key that is dead.
///
/// A record may name the certificate that it is signed with. The module takes no record whose signer it knows to be revoked,
/// but for one that says nothing new.
#[derive(Debug, Args)]
struct RevokeArgs {
    #[command(flatten)]
    signer: SignerArgs,
    /// Do not sign.
    #[arg(long, conflicts_with_all = ["key", "cert"])]
    unsigned: bool,
    /// Where to write the record.
    #[arg(short, long, value_name = "OUT.revoked")]
    output: PathBuf,
    /// Certificates that are dead, in PEM or DER, or the SHA-256 of one in DER, as the module's log and `modinfo -F
    /// kcare_cert kcare.ko` tell it.
    #[arg(required = true, value_name = "CERT.pem|SHA256")]
    certificates: Vec<String>,
}

/// Explain a payload or a revocation record, or tell where a shipped module's symbols are in its memory.
#[derive(Debug, Args)]
struct InspectArgs {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    /// Name of a module that the kernel was shipped with, or path of a module, uncompressed.
    #[arg(long, value_name = "NAME|PATH", conflicts_with = "file")]
    module: Option<String>,
    /// Kernel release (`uname -r`), or the directory of a prepared kernel.
    #[arg(long, requires = "module")]
    kernel: Option<String>,
    /// The payload.
    #[arg(required_unless_present = "module")]
    file: Option<PathBuf>,
}

/// Show what a payload adds to the one before it.
///
/// Functions and variables are compared with what depends on their place left out, fixes, states and
/// callbacks by name. Level, description, time and signature do not count.
///
/// Exit status: 0 they do the same, 1 they differ, 2 they cannot be compared.
#[derive(Debug, Args)]
struct DiffArgs {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    /// The payload before.
    #[arg(value_name = "A.kpatch")]
    old: PathBuf,
    /// The payload after, for the same kernel.
    #[arg(value_name = "B.kpatch")]
    new: PathBuf,
}

/// Tell what differs between two objects of one unit.
///
/// This is the comparison that `build` makes, on objects that its `--keep-temp` left, `UNIT.split.o` and
/// `UNIT.patched.o`.
#[derive(Debug, Args)]
struct CompareArgs {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    /// Source tree of the original, which names of files in the object may start with.
    #[arg(long, value_name = "DIR", default_value = "")]
    old_source: PathBuf,
    /// Source tree of the patched object.
    #[arg(long, value_name = "DIR", default_value = "")]
    new_source: PathBuf,
    /// Object of the unpatched source.
    #[arg(value_name = "OLD.o")]
    old: PathBuf,
    /// Object of the patched source.
    #[arg(value_name = "NEW.o")]
    new: PathBuf,
}

/// Tell where the code of source files is: in vmlinux, in a module, included by others, or nowhere.
///
/// Prints a line for each file, the file and the place.
#[derive(Debug, Args)]
struct WhereArgs {
    /// Kernel release (`uname -r`), or the directory of a prepared kernel.
    #[arg(long)]
    kernel: String,
    /// Print it as JSON, an object of places by file.
    #[arg(long)]
    json: bool,
    /// Program that enters the build root [default: $KCARE_EXEC, or scripts/kernel].
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<PathBuf>,
    /// Files, relative to the source tree.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
}

impl SignerArgs {
    fn signer(&self) -> Result<Signer> {
        let default = |name: &str| {
            let path = format!("target/keys/{name}");
            upwards(&path).unwrap_or_else(|| PathBuf::from(path))
        };
        let key = self
            .key
            .clone()
            .unwrap_or_else(|| default("kcare-dev.key.pem"));
        let cert = self
            .cert
            .clone()
            .unwrap_or_else(|| default("kcare-dev.cert.pem"));
        Signer::new(&key, &cert)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let failed = match cli.command {
        Command::Diff(_) => TROUBLE,
        _ => FAILED,
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            eprintln!("kcare-build: {error:#}");
            match error.downcast_ref::<Ending>() {
                Some(ending) => status(ending),
                None => ExitCode::from(failed),
            }
        }
    }
}

fn status(ending: &Ending) -> ExitCode {
    ExitCode::from(match ending {
        Ending::NothingChanged(_) => NOTHING_CHANGED,
        Ending::CannotPatch(_) => CANNOT_PATCH,
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Build(args) => return run_build(args),
        Command::Sign(args) => run_sign(&args)?,
        Command::Revoke(args) => run_revoke(&args)?,
        Command::Inspect(args) => run_inspect(&args)?,
        Command::Diff(args) => return run_diff(&args),
        Command::Compare(args) => run_compare(&args)?,
        Command::Where(args) => run_where(args)?,
        Command::Publish(args) => {
            if !publish::run(args)? {
                return Ok(ExitCode::from(FAILED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_build(args: BuildArgs) -> Result<ExitCode> {
    ensure!(
        args.floor.is_none_or(|floor| floor <= args.level),
        "--floor is above the level itself, which could never be applied twice"
    );
    let signer = if args.unsigned {
        None
    } else {
        Some(args.signer.signer()?)
    };
    let request = Request {
        kernel: Kernel::find(&args.kernel, args.exec.as_deref())?,
        patches: args.patches,
        level: args.level,
        not_after: args.not_after,
        floor: args.floor,
        all_at_once: args.all_at_once,
        text_is_quiet: args.text_is_quiet,
        fixes: args.fix.iter().map(|f| parse_fix(f)).collect(),
        description: args.description,
        signer,
        max_units: args.max_units,
        layouts: args.layouts.into_iter().collect(),
        renames: Renames::parse(&args.renamed)?,
        left: args.leave.into_iter().collect(),
        keep: args.keep_temp,
        explain: match args.explain {
            Explain::Changed if args.json => Explain::All,
            explain => explain,
        },
        debug: !args.no_debug,
    };
    let progress = Progress::new(args.quiet);
    let result = build(&request, &progress);
    let mut out = std::io::stdout().lock();
    if let Err(error) = &result {
        // A program that asked for JSON learns so what the exit status means.
        if let Some(ending) = error.downcast_ref::<Ending>().filter(|_| args.json) {
            writeln!(out, "{}", serde_json::to_string_pretty(ending)?)?;
        }
        // It comes behind the reason, which is told last where nothing is to be explained.
        let explanation = progress.explanation();
        if let Some(ending) = error
            .downcast_ref::<Ending>()
            .filter(|_| !explanation.is_empty())
        {
            eprintln!("kcare-build: {ending}");
            explanation.iter().for_each(|line| eprintln!("{line}"));
            return Ok(status(ending));
        }
    }
    let Built {
        payload,
        debug,
        report,
    } = result?;
    let debug_path = args.debug.unwrap_or_else(|| {
        let mut name = args.output.clone().into_os_string();
        name.push(".debug");
        name.into()
    });
    if let Some(bytes) = &debug {
        write_file(&debug_path, bytes)?;
    }
    write_file(&args.output, &payload)?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    print_report(&mut out, &report, &args.output)?;
    if let Some(signer) = &request.signer {
        writeln!(out, "signed by {}", signer.name()?)?;
    }
    if let Some(bytes) = debug {
        let (path, size) = (debug_path.display(), bytes.len());
        writeln!(out, "{path}: its debug companion, {size} bytes")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_report(out: &mut impl Write, report: &Report, path: &Path) -> Result<()> {
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    for callback in &report.callbacks {
        writeln!(out, "callback {callback}")?;
    }
    writeln!(
        out,
        "{}: level {} for {}, {} bytes, {} function(s): {}",
        path.display(),
        report.level,
        report.release,
        report.size,
        report.functions.len(),
        report.functions.join(" "),
    )?;
    for line in &report.explanation {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A day, of which the last second counts, or a second, in UTC; in seconds since 1970.
fn parse_date(text: &str) -> Result<u64> {
    let whole = match text.contains('T') {
        true => text.to_owned(),
        false => format!("{text}T23:59:59Z"),
    };
    let time =
        Time::parse(&whole).map_err(|_| anyhow!("write 2027-06-30, or 2027-06-30T12:00:00Z"))?;
    Ok(u64::try_from(time.unix_seconds())?)
}

/// Splits `CVE-2026-12345: title`; without an id the whole is the title, as in `net: title`.
fn parse_fix(text: &str) -> (String, String) {
    let is_id = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.contains('-')
            && word.contains(|c: char| c.is_ascii_digit())
            && !word.contains(' ')
    };
    match text.split_once(':') {
        Some((id, title)) if is_id(id) && !title.trim().is_empty() => {
            (id.to_owned(), title.trim().to_owned())
        }
        _ => (String::new(), text.trim().to_owned()),
    }
}

fn run_sign(args: &SignArgs) -> Result<()> {
    let bytes =
        fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let plain = body(&bytes);
    // Nothing is signed that the kernel would refuse.
    let what = args.file.display();
    if revoke::summary(plain)
        .with_context(|| format!("{what} is no revocation record"))?
        .is_none()
    {
        Summary::new(plain).with_context(|| format!("{what} is no payload"))?;
    }
    let signer = args.signer.signer()?;
    let signed = signer.sign(plain)?;
    let path = args.output.as_ref().unwrap_or(&args.file);
    write_file(path, &signed)?;
    println!("{}: signed by {}", path.display(), signer.name()?);
    Ok(())
}

fn run_revoke(args: &RevokeArgs) -> Result<()> {
    let mut record = revoke::record(&args.certificates)?;
    let mut out = std::io::stdout().lock();
    let path = args.output.display();
    if args.unsigned {
        writeln!(out, "{path}: unsigned")?;
    } else {
        let signer = args.signer.signer()?;
        record = signer.sign(&record)?;
        writeln!(out, "{path}: signed by {}", signer.name()?)?;
    }
    write_file(&args.output, &record)?;
    if let Some(summary) = revoke::summary(&record)? {
        write!(out, "{summary}")?;
    }
    Ok(())
}

fn run_inspect(args: &InspectArgs) -> Result<()> {
    if let Some(module) = &args.module {
        return inspect_module(args.kernel.as_deref(), module, args.json);
    }
    let file = args.file.as_ref().context("no payload is named")?;
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let within = || format!("in {}", file.display());
    match revoke::summary(&bytes).with_context(within)? {
        Some(summary) => print_summary(&summary, args.json),
        None => print_summary(&Summary::new(&bytes).with_context(within)?, args.json),
    }
}

fn print_summary(summary: &(impl Display + Serialize), json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(summary)?)?;
    } else {
        write!(out, "{summary}")?;
    }
    Ok(())
}

/// Prints where the symbols of a shipped module are in its memory.
fn inspect_module(kernel: Option<&str>, name: &str, json: bool) -> Result<()> {
    let module = if name.contains('/') {
        let bytes = fs::read(name).with_context(|| format!("cannot read {name}"))?;
        Module::parse(&bytes).with_context(|| format!("in {name}"))?
    } else {
        let kernel =
            kernel.context("of which kernel? Name it with --kernel, or a file by its path")?;
        let kernel = Kernel::find(kernel, None)?;
        Catalogue::read(&kernel)?.open(&kernel, &name.replace('-', "_"))?
    };
    let summary = module.summary();
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
        return Ok(());
    }
    writeln!(out, "module     {}", summary.name)?;
    writeln!(out, "build-id   {}", summary.build_id)?;
    writeln!(out, "depends    {}", summary.depends.join(" "))?;
    writeln!(
        out,
        "\n{:<14} {:>10} {:>8}  name",
        "memory", "offset", "size"
    )?;
    for symbol in &summary.symbols {
        writeln!(
            out,
            "{:<14} {:>#10x} {:>8}  {}",
            symbol.region, symbol.offset, symbol.size, symbol.name
        )?;
    }
    Ok(())
}

fn run_diff(args: &DiffArgs) -> Result<ExitCode> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let delta = Delta::new(&old, &new).with_context(|| {
        let (old, new) = (args.old.display(), args.new.display());
        format!("cannot compare {old} and {new}")
    })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&delta)?)?;
    } else {
        write!(out, "{delta}")?;
    }
    Ok(if delta.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENT)
    })
}

fn run_compare(args: &CompareArgs) -> Result<()> {
    let old = (args.old.as_path(), args.old_source.as_path());
    let new = (args.new.as_path(), args.new_source.as_path());
    let verdicts = Verdicts::read(old, new)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&verdicts)?)?;
    } else {
        write!(out, "{verdicts}")?;
    }
    Ok(())
}

fn run_where(args: WhereArgs) -> Result<()> {
    let kernel = Kernel::find(&args.kernel, args.exec.as_deref())?;
    let homes = homes(&kernel, &args.files.into_iter().collect())?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&homes)?)?;
    } else {
        for (file, home) in homes {
            writeln!(out, "{file}\t{home}")?;
        }
    }
    Ok(())
}

/// Writes a file so that it is there whole or not at all.
fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    fs::write(&temporary, bytes).with_context(context)?;
    fs::rename(&temporary, path).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn fixes_have_an_id_or_not() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            parse_fix("CVE-2026-1: net: fix it"),
            pair("CVE-2026-1", "net: fix it")
        );
        assert_eq!(parse_fix("DSA-6000-1: it"), pair("DSA-6000-1", "it"));
        assert_eq!(parse_fix("fix it: now"), pair("", "fix it: now"));
        // A subsystem is no id, and must not reach a list of these.
        assert_eq!(parse_fix("net: fix it"), pair("", "net: fix it"));
        assert_eq!(parse_fix("dm-crypt: it"), pair("", "dm-crypt: it"));
        assert_eq!(parse_fix("x86-64: it"), pair("", "x86-64: it"));
        assert_eq!(parse_fix("CVE-2026-1"), pair("", "CVE-2026-1"));
    }
}
