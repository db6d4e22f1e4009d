// SPDX-License-Identifier: GPL-2.0

//! `kcare-build publish`: the static tree that servers take their levels from.
//!
//! A tree has one small TUF repository for each kernel and channel ([`tree`]), signed with the keys of a folder
//! ([`keys`]): the release key signs what is offered, the online key that it is the newest. [`level`] is what is told of
//! a level. A level is added here; [`promote`] offers it in a slower channel, [`refresh`] signs again what is offered and
//! takes levels back, [`verify`] proves a tree whole, and [`prune`] takes away what nothing names any more.

mod keys;
mod level;
mod promote;
mod prune;
mod refresh;
#[cfg(test)]
mod tests;
mod tree;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{bail, ensure, Context, Error, Result};
use clap::{Args, Subcommand};
use kcare_payload::description::Description;
use kcare_tuf::error::Role;
use kcare_tuf::file;
use kcare_tuf::key::Signer;
use kcare_tuf::level::{fixes_name, payload_name, Fixes, Record, TARGETS};
use kcare_tuf::metadata::{Common, Document, Root, Target, Targets};
use kcare_tuf::repository;
use kcare_tuf::time::Time;
use rustix::fs::Mode;
use sha1::{Digest, Sha1};

use self::keys::{Keys, Name};
use self::level::read_ids;
use self::tree::{days, read_offer, Change, Offer, Place, Tree};
use crate::inspect::Summary;
use crate::kernel::Kernel;
use crate::sign::{Certificates, DEVELOPMENT};
use crate::vmlinux::Vmlinux;

/// Who publishes is warned of what expires within so many days.
const SOON: u32 = 30;

/// Publish payloads as a static tree, for any web server.
///
/// A tree is changed by one kcare-build at a time, and is whole at any moment: what a client sees is all of a change or
/// nothing of it.
#[derive(Debug, Args)]
pub struct PublishArgs {
    #[command(subcommand)]
    command: PublishCommand,
}

#[derive(Debug, Subcommand)]
enum PublishCommand {
    /// Make, replace and renew keys
    #[command(subcommand)]
    Keys(KeysCommand),
    Add(AddArgs),
    Promote(PromoteArgs),
    Withdraw(WithdrawArgs),
    Refresh(RefreshArgs),
    Prune(PruneArgs),
    Verify(VerifyArgs),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make all keys and the first root; keep root-N.pem away from the machine that publishes
    Make {
        /// The folder of keys.
        folder: PathBuf,
    },
    /// Make a new key in place of one that was lost, or that others may have; it cannot sign any more then
    ///
    /// Run `refresh` with --targets afterwards, so that the trees have the new root and new signatures.
    Rotate {
        /// The folder of keys.
        folder: PathBuf,
        /// Which key.
        name: Name,
    },
    /// Make a root with the same keys that is good for another year
    Renew {
        /// The folder of keys.
        folder: PathBuf,
    },
}

/// What every change needs.
#[derive(Debug, Args)]
struct Where {
    /// The folder of keys.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// The folder of the tree.
    #[arg(value_name = "TREE")]
    tree: PathBuf,
}

/// Add a level for a kernel to the fastest channel.
#[derive(Debug, Args)]
struct AddArgs {
    #[command(flatten)]
    common: Where,
    /// Kernel release, or the directory of a prepared kernel.
    #[arg(long)]
    kernel: String,
    /// Version of the kernel's package that the level is as good as [default: the kernel's own].
    #[arg(long, value_name = "VERSION", requires = "between")]
    effective: Option<String>,
    /// All security fixes between the kernel's own package and that one, an id a line; the level has to have each.
    #[arg(long, value_name = "FILE", requires = "effective")]
    between: Option<PathBuf>,
    /// The last day on which this kernel gets levels, `2027-06-30`.
    #[arg(long, value_name = "DAY")]
    covered_until: Option<String>,
    /// Program that enters the build root [default: $KCARE_EXEC, or scripts/kernel].
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<PathBuf>,
    /// Certificate in PEM that the payload may be signed with; repeat for more [default:
    /// target/keys/kcare-dev.cert.pem].
    #[arg(long, value_name = "CERT.pem")]
    cert: Vec<PathBuf>,
    /// The signed payload.
    #[arg(value_name = "FILE.kpatch")]
    payload: PathBuf,
}

/// Offer in a slower channel what another one offers; the online key suffices.
#[derive(Debug, Args)]
struct PromoteArgs {
    #[command(flatten)]
    common: Where,
    /// The channel to take from [default: the fastest].
    #[arg(long, default_value = "", hide_default_value = true)]
    from: String,
    /// The channel: `30m`, `12h`, `2d`, `1w` and the like take the newest state whose levels are all that old; a name that
    /// begins with a letter takes the newest at once.
    #[arg(long)]
    to: String,
    /// Only this kernel, by the SHA-1 of its /proc/version.
    #[arg(long, value_name = "SHA1")]
    kernel: Option<String>,
}

/// Take a level back: no client gets it any more, and those that have it are told so.
#[derive(Debug, Args)]
struct WithdrawArgs {
    #[command(flatten)]
    common: Where,
    /// The kernel, by the SHA-1 of its /proc/version.
    #[arg(long, value_name = "SHA1")]
    kernel: String,
    /// The level.
    #[arg(long)]
    level: u32,
}

/// Sign again what would expire, and bring new roots into the tree; run it every day.
#[derive(Debug, Args)]
struct RefreshArgs {
    #[command(flatten)]
    common: Where,
    /// Sign the targets again, too, which takes the release key.
    #[arg(long)]
    targets: bool,
}

/// Remove files that nothing names any more.
#[derive(Debug, Args)]
struct PruneArgs {
    /// Only those that are older than this many hours: a client may still read them.
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// The folder of the tree.
    #[arg(value_name = "TREE")]
    tree: PathBuf,
}

/// Prove that a tree is whole: everything that a client may ask for is there, signed and consistent.
#[derive(Debug, Args)]
struct VerifyArgs {
    /// The first root, as clients have it [default: that of each folder].
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Certificate in PEM that payloads may be signed with; repeat for more [default: target/keys/kcare-dev.cert.pem, or
    /// their signatures are not checked].
    #[arg(long, value_name = "CERT.pem")]
    cert: Vec<PathBuf>,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
    /// The folder of the tree.
    #[arg(value_name = "TREE")]
    tree: PathBuf,
}

/// Runs a sub-command; whether all is well.
///
/// # Errors
///
/// It could not be done, and why; the tree is as before, or as after the change.
pub fn run(args: PublishArgs) -> Result<bool> {
    let now = Time::now();
    if !matches!(args.command, PublishCommand::Keys(_)) {
        // A web server reads what is published, whoever publishes it.
        rustix::process::umask(Mode::WGRP | Mode::WOTH);
    }
    match args.command {
        PublishCommand::Keys(KeysCommand::Make { folder }) => {
            let keys = Keys::make(&folder, now)?;
            println!(
                "{}: keys and root {}; clients get {}/1.root.json with their package",
                folder.display(),
                keys.root.common.version,
                folder.display()
            );
        }
        PublishCommand::Keys(KeysCommand::Rotate { folder, name }) => {
            let mut keys = Keys::open(&folder)?;
            keys.rotate(name, now)?;
            println!("{}: root {}", folder.display(), keys.root.common.version);
        }
        PublishCommand::Keys(KeysCommand::Renew { folder }) => {
            let mut keys = Keys::open(&folder)?;
            keys.renew(now)?;
            println!("{}: root {}", folder.display(), keys.root.common.version);
        }
        PublishCommand::Add(args) => add(&args, now)?,
        PublishCommand::Promote(args) => promote::run(&args, now)?,
        PublishCommand::Withdraw(args) => refresh::withdraw(&args, now)?,
        PublishCommand::Refresh(args) => refresh::run(&args, now)?,
        PublishCommand::Prune(args) => prune::run(&args.tree, args.hours, SystemTime::now())?,
        PublishCommand::Verify(args) => return verify::run(&args, now),
    }
    Ok(true)
}

/// What the running kernel of a release says in /proc/version, as its vmlinux has it.
///
/// # Errors
///
/// vmlinux has no such text.
fn proc_version(kernel: &Kernel) -> Result<Vec<u8>> {
    let vmlinux = Vmlinux::open(&kernel.vmlinux())?;
    let banner = vmlinux
        .global("linux_banner")
        .context("vmlinux has no linux_banner")?;
    let mut text = vmlinux.read_addr(banner.addr, banner.size)?;
    text.truncate(text.iter().position(|&b| b == 0).unwrap_or(text.len()));
    let expected = format!("Linux version {} (", kernel.release);
    ensure!(
        text.starts_with(expected.as_bytes()) && text.ends_with(b"\n"),
        "linux_banner of {} is `{}`",
        kernel.release,
        String::from_utf8_lossy(&text).trim_end()
    );
    Ok(text)
}

/// SHA-1 in hexadecimal digits.
fn sha1(bytes: &[u8]) -> String {
    Sha1::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// What is offered now, or nothing if there is no repository yet.
fn offer(tree: &Tree, place: &Place) -> Result<Option<Offer>> {
    match tree::is_repository(&tree.folder(place))? {
        true => Ok(Some(read_offer(tree.path(), place)?)),
        false => Ok(None),
    }
}

/// The keys of a change; warns if their root expires soon.
fn open_keys(common: &Where, now: Time) -> Result<Keys> {
    let keys = Keys::open(&common.keys)?;
    let said = root_expires(&keys.root, now);
    warn_soon(keys.root.common.expires, now, &said);
    Ok(keys)
}

/// Warns of what expires soon, or has expired.
fn warn_soon(expires: Time, now: Time, said: &str) {
    if expires < now.plus_days(SOON) {
        eprintln!("kcare-build: warning: {said}");
    }
}

/// What is said of a root that expires soon, or has.
fn root_expires(root: &Root, now: Time) -> String {
    let expires = root.common.expires;
    format!(
        "root {} {} at {expires}, and clients refuse everything then; run `kcare-build publish keys renew` where the keys \
         of the roots are, and `refresh` afterwards",
        root.version(),
        if expires > now { "expires" } else { "has expired" },
    )
}

/// What is said of targets that expire soon, or have.
fn targets_expire(folder: &Path, targets: &Targets, now: Time) -> String {
    let expires = targets.common.expires;
    format!(
        "the targets of {} {} at {expires}, and clients refuse them then; run `refresh --targets` where the release key is",
        folder.display(),
        if expires > now { "expire" } else { "have expired" },
    )
}

/// What could not be done in some repositories, while the others were gone on with.
#[derive(Debug, Default)]
struct Failures(Vec<String>);

impl Failures {
    /// Says why a repository failed, and remembers it.
    fn add(&mut self, folder: &Path, error: &Error) {
        eprintln!("kcare-build: {}: {error:#}", folder.display());
        self.0.push(folder.display().to_string());
    }

    /// Fails if a repository could not be `done`.
    fn end(self, done: &str) -> Result<()> {
        ensure!(
            self.0.is_empty(),
            "{} could not be {done}; all others were",
            self.0.join(", ")
        );
        Ok(())
    }
}

/// The records of the levels that are offered, ascending.
fn records(targets: &Targets) -> Result<Vec<Record>> {
    let mut out = Vec::new();
    for (name, target) in &targets.targets {
        out.extend(Record::of(name, target).map_err(Error::msg)?);
    }
    out.sort_by_key(|record| record.level);
    Ok(out)
}

fn read_target(tree: &Path, kernel: &str, targets: &Targets, name: &str) -> Result<Vec<u8>> {
    let target = targets
        .targets
        .get(name)
        .with_context(|| format!("{name} is not offered"))?;
    let path = tree
        .join(kernel)
        .join(TARGETS)
        .join(tree::file_of(name, target)?);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    target.check(name, &bytes)?;
    Ok(bytes)
}

fn fixes_of(tree: &Path, kernel: &str, targets: &Targets, record: &Record) -> Result<Fixes> {
    let bytes = read_target(tree, kernel, targets, &record.fixes)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", record.fixes))
}

fn add(args: &AddArgs, now: Time) -> Result<()> {
    let keys = open_keys(&args.common, now)?;
    let kernel = Kernel::find(&args.kernel, args.exec.as_deref())?;
    let bytes = fs::read(&args.payload)
        .with_context(|| format!("cannot read {}", args.payload.display()))?;
    let payload = Summary::new(&bytes).with_context(|| format!("in {}", args.payload.display()))?;
    ensure!(
        payload.signature.is_some(),
        "{} is not signed; sign it with `kcare-build sign`",
        args.payload.display()
    );
    Certificates::find(&args.cert)?
        .with_context(|| {
            format!(
                "there is no certificate to verify the payload with: {DEVELOPMENT} does not exist\n\
                 Hint: name the certificate that it was signed with by --cert."
            )
        })?
        .verify(&bytes)
        .with_context(|| format!("in {}", args.payload.display()))?;
    ensure!(
        payload.release == kernel.release && payload.build_id == kernel.build_id,
        "{} is for {} with build-id {}, and {} has {}",
        args.payload.display(),
        payload.release,
        payload.build_id,
        kernel.release,
        kernel.build_id
    );
    if let Some(day) = &args.covered_until {
        check_day(day, now)?;
    }
    let between = match &args.between {
        Some(path) => read_ids(
            &fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        ),
        None => Vec::new(),
    };
    let base = kernel.version.clone();
    let effective = args.effective.clone().unwrap_or_else(|| base.clone());
    let said = Description {
        level: payload.level,
        effective: &effective,
    }
    .to_string();
    ensure!(
        payload.description == said,
        "the payload says `{}`, which the kernel will tell scanners, and is published as `{said}`: build it with \
         --description '{said}'",
        payload.description
    );

    let tree = Tree::make(&args.common.tree)?;
    let place = Place {
        channel: String::new(),
        kernel: sha1(&proc_version(&kernel)?),
    };
    let before = offer(&tree, &place)?;
    let known = before
        .as_ref()
        .map_or(Ok(Vec::new()), |offer| records(&offer.targets))?;
    check_new_level(&tree, &place.kernel, payload.level)?;
    let covered_until = args.covered_until.clone();
    let covered_until = covered_until.or_else(|| known.last()?.covered_until.clone());
    if let Some(day) = &covered_until {
        check_day(day, now)?;
    }
    let record = Record {
        kernel: place.kernel.clone(),
        level: payload.level,
        release: kernel.release.clone(),
        build_id: kernel.build_id.clone(),
        base,
        effective,
        published: now.to_string(),
        covered_until,
        fixes: fixes_name(payload.level),
    };
    let last = match (&before, known.last()) {
        (Some(offer), Some(last)) => {
            Some(fixes_of(tree.path(), &place.kernel, &offer.targets, last)?)
        }
        _ => None,
    };
    let fixes = level::fixes(&record, &payload, between, last.as_ref());
    fixes.check_effective().map_err(Error::msg)?;
    let mut list = serde_json::to_vec_pretty(&fixes)?;
    list.push(b'\n');

    let mut targets = match before {
        Some(offer) => offer.targets,
        None => Targets::new(Common::new(1, now), BTreeMap::new()),
    };
    let mut target = Target::of(&bytes);
    target.custom = Some(serde_json::to_value(&record)?);
    targets.targets.insert(payload_name(record.level), target);
    targets
        .targets
        .insert(record.fixes.clone(), Target::of(&list));
    let files = BTreeMap::from([
        (payload_name(record.level), bytes),
        (record.fixes.clone(), list),
    ]);
    let version = tree.next_targets(&place.kernel)?;
    let targets = Targets {
        common: Common::new(version, now.plus_days(days(Role::Targets))),
        ..targets
    };
    let roots = match tree::is_repository(&tree.folder(&place))? {
        true => keys.roots_for(&tree.folder(&place))?,
        false => vec![keys.root.clone()],
    };
    let signed = sign_targets(&keys, &targets, &roots)?;
    let change = Change {
        place: &place,
        targets: &targets,
        signed_targets: &signed,
        files,
        now,
    };
    put(&tree, &keys, &change)?;
    let folder = tree.folder(&place).join(record.level.to_string());
    fs::create_dir_all(&folder)?;
    file::write(
        &folder.join("kpatch.info"),
        fixes.info("debian", &record.published).as_bytes(),
    )?;
    println!(
        "{}: level {} for {}, {} fix(es), as good as {}",
        tree.folder(&place).display(),
        record.level,
        record.release,
        fixes.fixes.len(),
        record.effective
    );
    Ok(())
}

/// Makes sure that a level is higher than all that a channel of its kernel offers or has withdrawn: a machine that has
/// a level of that number would take the new one for what it has.
fn check_new_level(tree: &Tree, kernel: &str, level: u32) -> Result<()> {
    for place in tree.places()?.iter().filter(|p| p.kernel == kernel) {
        let targets = read_offer(tree.path(), place)?.targets;
        let offered = records(&targets)?.last().map(|record| record.level);
        let withdrawn = targets.withdrawn.keys().next_back().copied();
        let highest = offered.max(withdrawn).unwrap_or(0);
        if let Some(time) = targets.withdrawn.get(&level) {
            bail!(
                "level {level} was withdrawn at {time}, and machines may still have it: build this one as level {}",
                highest + 1
            );
        }
        ensure!(
            level > highest,
            "level {highest} is published already in {}; a new one has a higher number: build it as level {}",
            tree.folder(place).display(),
            highest + 1
        );
    }
    Ok(())
}

/// Makes sure that the last day on which a kernel gets levels is none that is over.
fn check_day(day: &str, now: Time) -> Result<()> {
    let end = Time::parse(&format!("{day}T23:59:59Z"))
        .with_context(|| format!("--covered-until {day}: write `2027-06-30`"))?;
    ensure!(
        end >= now,
        "{day} is over, and would be the last day on which this kernel gets levels; name a later one with --covered-until"
    );
    Ok(())
}

/// The file of targets, which the release key signs so that clients with any of these roots accept it.
fn sign_targets(keys: &Keys, targets: &Targets, roots: &[Root]) -> Result<Vec<u8>> {
    let signers = keys.signers(Name::Targets, Role::Targets, roots)?;
    let signers: Vec<&Signer> = signers.iter().collect();
    Ok(repository::sign(targets, &signers)?)
}

/// Writes a change, and the unsigned `version` of it.
fn put(tree: &Tree, keys: &Keys, change: &Change<'_>) -> Result<()> {
    tree.write(keys, change)?;
    write_version(tree, change.place, change.targets)
}

/// Writes the unsigned `version`: the highest level that is offered, or 0.
fn write_version(tree: &Tree, place: &Place, targets: &Targets) -> Result<()> {
    let level = records(targets)?.last().map_or(0, |record| record.level);
    let path = tree.folder(place).join("version");
    file::write(&path, format!("{level}\n").as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
