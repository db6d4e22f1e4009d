// SPDX-License-Identifier: GPL-2.0

//! The tree on the disk: where a repository of a kernel and channel is, what is in it, and how a change of it is written.
//!
//! Files have their version or hash in their name and never change, but for `timestamp.json`, which names all others and
//! is written last, by a rename. So a reader sees all of a change or nothing of it, and so does a tree whose publisher
//! was killed. What such a publisher left behind is named by nobody; the next one removes it. A new repository is made
//! beside its place, as `.KERNEL.new`, and appears with one rename.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{ensure, Context, Error, Result};
use kcare_tuf::error::Role;
use kcare_tuf::file;
use kcare_tuf::key::Signer;
use kcare_tuf::level::{is_channel, is_kernel, TARGETS};
use kcare_tuf::metadata::{
    Common, Document, MetaFile, Root, Snapshot, Target, Targets, Timestamp, Unverified,
};
use kcare_tuf::repository;
use kcare_tuf::time::Time;
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;
use serde_json::Value;

use super::keys::{Chain, Keys, Name};

/// For how many days documents of these roles are good.
pub const DAYS: [(Role, u32); 3] = [
    (Role::Timestamp, 7),
    (Role::Snapshot, 30),
    (Role::Targets, 365),
];

/// The days of a role.
pub fn days(role: Role) -> u32 {
    let found = DAYS.iter().find(|(r, _)| *r == role);
    found.map_or(365, |(_, days)| *days)
}

/// The file whose lock says that somebody is changing a tree.
const LOCK: &str = ".lock";

/// A tree that nobody else changes as long as this is there.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    _lock: fs::File,
}

/// A repository of the tree: a kernel in a channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Empty for the fastest.
    pub channel: String,
    /// SHA-1 of the kernel's /proc/version, in hexadecimal digits.
    pub kernel: String,
}

/// What a repository offers now. Its signatures are verified with the newest root that is in its folder; when it
/// expires does not matter, as who changes it renews it.
#[derive(Debug)]
pub struct Offer {
    /// That root.
    pub root: Root,
    /// The targets document.
    pub targets: Targets,
    /// Its file.
    pub signed_targets: Vec<u8>,
    /// The snapshot document.
    pub snapshot: Snapshot,
    /// The timestamp document.
    pub timestamp: Timestamp,
}

impl Tree {
    /// Opens a tree for a change, and makes its folder if there is none.
    ///
    /// # Errors
    ///
    /// Somebody else is changing it, or it cannot be written.
    pub fn make(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Self::lock(path)
    }

    /// Opens a tree for a change.
    ///
    /// # Errors
    ///
    /// As [`Tree::make`], and the folder is no tree.
    pub fn open(path: &Path) -> Result<Self> {
        check_tree(path)?;
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self> {
        let name = path.join(LOCK);
        let lock = file::open_lock(&name)
            .with_context(|| format!("cannot write to {}", path.display()))?;
        // `verify` has it for a moment only.
        let locked = try_lock(&lock, FlockOperation::NonBlockingLockExclusive, 10);
        let locked = locked.with_context(|| format!("cannot lock {}", name.display()))?;
        ensure!(
            locked,
            "another kcare-build is changing {}; wait until it is done",
            path.display()
        );
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a repository.
    pub fn folder(&self, place: &Place) -> PathBuf {
        folder(&self.path, place)
    }

    /// All repositories.
    ///
    /// # Errors
    ///
    /// The tree cannot be read.
    pub fn places(&self) -> Result<BTreeSet<Place>> {
        places(&self.path)
    }

    /// The version of the next targets document of a kernel: no channel has it, nor what a killed publisher left.
    ///
    /// # Errors
    ///
    /// The tree cannot be read.
    pub fn next_targets(&self, kernel: &str) -> Result<u64> {
        let mut highest = 0;
        for place in self.places()?.iter().filter(|place| place.kernel == kernel) {
            highest = highest.max(highest_version(&self.folder(place), Role::Targets)?);
        }
        Ok(highest + 1)
    }

    /// Writes target files, and then what offers them. A new repository appears with all of it.
    ///
    /// # Errors
    ///
    /// Something cannot be written, or signed as the root wants it.
    pub fn write(&self, keys: &Keys, change: &Change<'_>) -> Result<()> {
        let folder = self.folder(change.place);
        let store = self.path.join(&change.place.kernel).join(TARGETS);
        if is_repository(&folder)? {
            return write(keys, change, &folder, &store);
        }
        let fresh = folder.with_file_name(format!(".{}.new", change.place.kernel));
        if fresh.exists() {
            fs::remove_dir_all(&fresh)
                .with_context(|| format!("cannot remove {}", fresh.display()))?;
        }
        // The fastest channel has the target files in its own folder.
        let store = match change.place.channel.as_str() {
            "" => fresh.join(TARGETS),
            _ => store,
        };
        write(keys, change, &fresh, &store)?;
        fs::rename(&fresh, &folder).with_context(|| {
            let folder = folder.display();
            format!("cannot make {folder}: remove what is there, which no client has read")
        })?;
        fs::File::open(folder.parent().unwrap_or(&self.path))?.sync_all()?;
        Ok(())
    }

    /// Writes a new timestamp of the same snapshot.
    ///
    /// # Errors
    ///
    /// It cannot be written, or signed as the root wants it.
    pub fn renew_timestamp(
        &self,
        keys: &Keys,
        place: &Place,
        offer: &Offer,
        now: Time,
    ) -> Result<()> {
        let folder = self.folder(place);
        let roots = keys.roots_for(&folder)?;
        let online = keys.signers(Name::Online, Role::Timestamp, &roots)?;
        let mut timestamp = offer.timestamp.clone();
        timestamp.common = Common::new(
            timestamp.common.version + 1,
            now.plus_days(days(Role::Timestamp)),
        );
        write_timestamp(
            keys,
            &folder,
            &timestamp,
            &roots,
            &online.iter().collect::<Vec<_>>(),
        )
    }
}

/// Writes a change into the folder of its repository, and the target files into that of these.
///
/// New roots come last, so that a client has what the root that it knows wants at every moment: as long as they are not
/// there, everything is signed with the keys of the old root, too ([`Keys::signers`]).
fn write(keys: &Keys, change: &Change<'_>, folder: &Path, store: &Path) -> Result<()> {
    let Change {
        place: _,
        targets,
        signed_targets,
        files,
        now,
    } = change;
    for path in [folder, store] {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    let timestamp = read_timestamp(folder)?;
    if timestamp.is_none() {
        keys.install(folder)?;
    }
    let roots = keys.roots_for(folder)?;
    let online = keys.signers(Name::Online, Role::Timestamp, &roots)?;
    let online: Vec<&Signer> = online.iter().collect();
    check::<Targets>(&roots, signed_targets)?;

    let version = highest_version(folder, Role::Snapshot)? + 1;
    if let Some(timestamp) = &timestamp {
        remove_leftovers(folder, timestamp)?;
    }
    for (name, bytes) in files {
        let target = targets
            .targets
            .get(name)
            .with_context(|| format!("{name} is no target"))?;
        repository::write_target(store, &keys.root, name, target, bytes)?;
    }
    repository::write(folder, &keys.root, *targets, signed_targets)?;

    let snapshot = Snapshot::new(
        Common::new(version, now.plus_days(days(Role::Snapshot))),
        MetaFile::of(targets.common.version, signed_targets),
    );
    let signed = repository::sign(&snapshot, &online)?;
    check::<Snapshot>(&roots, &signed)?;
    repository::write(folder, &keys.root, &snapshot, &signed)?;

    let version = match &timestamp {
        Some(timestamp) => version_in(timestamp, "/signed/version")?,
        None => 0,
    };
    let timestamp = Timestamp::new(
        Common::new(version + 1, now.plus_days(days(Role::Timestamp))),
        MetaFile::of(snapshot.common.version, &signed),
    );
    write_timestamp(keys, folder, &timestamp, &roots, &online)
}

fn write_timestamp(
    keys: &Keys,
    folder: &Path,
    timestamp: &Timestamp,
    roots: &[Root],
    online: &[&Signer],
) -> Result<()> {
    let signed = repository::sign(timestamp, online)?;
    check::<Timestamp>(roots, &signed)?;
    repository::write(folder, &keys.root, timestamp, &signed)?;
    keys.install(folder)
}

/// Removes targets and snapshots that are newer than what the timestamp leads to: a publisher was stopped before it
/// named them. So each document that stays was named, up to the moment that the next one was written.
fn remove_leftovers(folder: &Path, timestamp: &Value) -> Result<()> {
    let snapshot = version_in(timestamp, "/signed/meta/snapshot.json/version")?;
    let file = folder.join(Role::Snapshot.versioned_name(snapshot));
    let targets = version_in(&read_json(&file)?, "/signed/meta/targets.json/version")?;
    for name in names(folder)? {
        let newer = |role, named| version_of(&name, role).is_some_and(|version| version > named);
        if newer(Role::Targets, targets) || newer(Role::Snapshot, snapshot) {
            let path = folder.join(&name);
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// A change of one repository.
#[derive(Debug)]
pub struct Change<'a> {
    /// Of which.
    pub place: &'a Place,
    /// What it offers from now on.
    pub targets: &'a Targets,
    /// The file of that.
    pub signed_targets: &'a [u8],
    /// New target files by their names.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The time of the change.
    pub now: Time,
}

/// The folder of a repository of a tree.
pub fn folder(tree: &Path, place: &Place) -> PathBuf {
    match place.channel.as_str() {
        "" => tree.join(&place.kernel),
        channel => tree.join(channel).join(&place.kernel),
    }
}

/// All repositories of a tree: folders with the name of a kernel, of its own or in that of a channel.
///
/// # Errors
///
/// The tree cannot be read, or a folder of it is a symbolic link.
pub fn places(tree: &Path) -> Result<BTreeSet<Place>> {
    let mut out = BTreeSet::new();
    let mut add = |channel: &str, kernel: &str| {
        let place = Place {
            channel: channel.to_owned(),
            kernel: kernel.to_owned(),
        };
        let folder = folder(tree, &place);
        folders(&folder)?;
        if is_repository(&folder)? {
            out.insert(place);
        }
        Ok::<(), Error>(())
    };
    for name in folders(tree)? {
        if is_kernel(&name) {
            add("", &name)?;
        } else if is_channel(&name) {
            for kernel in folders(&tree.join(&name))? {
                if is_kernel(&kernel) {
                    add(&name, &kernel)?;
                }
            }
        }
    }
    Ok(out)
}

/// Whether a folder is that of a repository, also if some of its files are lost. One that has only target files is none:
/// a mirror may have slower channels alone.
pub fn is_repository(folder: &Path) -> Result<bool> {
    Ok(names(folder)?.iter().any(|name| name.ends_with(".json")))
}

/// Makes sure that a folder is a tree.
///
/// # Errors
///
/// It has no repository, or cannot be read.
pub fn check_tree(path: &Path) -> Result<()> {
    ensure!(
        path.is_dir() && !places(path)?.is_empty(),
        "{} is no tree: no folder in it has the name of a kernel\n\
         Hint: check its name; `kcare-build publish add` makes a tree with its first level.",
        path.display()
    );
    Ok(())
}

/// The names of the folders in a folder, which has to be there.
fn folders(path: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name().into_string();
        let link = kind.is_symlink()
            && (entry.path().is_dir() || name.as_ref().is_ok_and(|name| is_kernel(name)));
        ensure!(
            !link,
            "{} is a symbolic link, and a tree has folders of its own\n\
             Hint: put the folder itself there, or bind-mount it.",
            entry.path().display()
        );
        if kind.is_dir() {
            out.extend(name);
        }
    }
    Ok(out)
}

/// The highest version of a role's files in a folder, whether or not anything names it; 0 without any.
pub fn highest_version(folder: &Path, role: Role) -> Result<u64> {
    let names = names(folder)?;
    let versions = names.iter().filter_map(|name| version_of(name, role));
    Ok(versions.max().unwrap_or(0))
}

/// The names of what is in a folder; none if there is no folder.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let mut out = Vec::new();
    for entry in entries {
        out.extend(entry?.file_name().into_string().ok());
    }
    Ok(out)
}

/// The version in the name of a role's file, `7.targets.json`.
pub fn version_of(name: &str, role: Role) -> Option<u64> {
    let (number, rest) = name.split_once('.')?;
    (rest == role.file_name()).then(|| number.parse().ok())?
}

/// The timestamp of a folder, if there is one; it is not verified, as its key may be another by now.
fn read_timestamp(folder: &Path) -> Result<Option<Value>> {
    let path = folder.join(Role::Timestamp.file_name());
    match path.exists() {
        true => read_json(&path).map(Some),
        false => Ok(None),
    }
}

/// A document that is not verified.
pub fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

fn version_in(document: &Value, pointer: &str) -> Result<u64> {
    let version = document.pointer(pointer).and_then(Value::as_u64);
    version.with_context(|| format!("a document is damaged: it has no {pointer}"))
}

/// Makes sure that a file has the signatures that each of these roots asks for.
pub fn check<T: Document>(roots: &[Root], bytes: &[u8]) -> Result<T> {
    let file = Unverified::parse(T::ROLE, bytes)?;
    let mut document = None;
    for root in roots {
        let verified = root.verify(&file).with_context(|| {
            format!(
                "the {} has not the signature that root {} asks for",
                T::ROLE,
                root.version()
            )
        })?;
        document = Some(verified);
    }
    document.context("there is no root")
}

/// Waits until nobody changes a tree, at most a minute; a moment if that cannot be told.
pub fn wait_for_publisher(tree: &Path) {
    let Ok(lock) = fs::File::open(tree.join(LOCK)) else {
        return std::thread::sleep(Duration::from_secs(1));
    };
    let _ = try_lock(&lock, FlockOperation::NonBlockingLockShared, 600);
}

/// Tries so many tenths of a second to lock a file; whether it is locked.
fn try_lock(file: &fs::File, operation: FlockOperation, tenths: u32) -> Result<bool> {
    for _ in 0..tenths {
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// What a repository offers.
///
/// # Errors
///
/// It is damaged, or its signatures are not those that the root in its folder asks for.
pub fn read_offer(tree: &Path, place: &Place) -> Result<Offer> {
    let folder = folder(tree, place);
    let about = || format!("in {}", folder.display());
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let root = Chain::read(&folder).with_context(about)?.newest;
    let roots = std::slice::from_ref(&root);
    let lost = format!(
        "{} has lost its timestamp.json\n\
         Hint: bring it back from a backup or from a mirror; a new one would be older for clients than what they have. \
         If no client has read this folder yet, remove it.",
        folder.display()
    );
    ensure!(folder.join(Role::Timestamp.file_name()).exists(), lost);
    let timestamp: Timestamp =
        check(roots, &read(Role::Timestamp.file_name())?).with_context(about)?;
    let bytes = read(&Role::Snapshot.versioned_name(timestamp.snapshot.version))?;
    timestamp
        .snapshot
        .check(Role::Snapshot.file_name(), &bytes)
        .with_context(about)?;
    let snapshot: Snapshot = check(roots, &bytes).with_context(about)?;
    let named = snapshot.targets()?;
    let signed_targets = read(&Role::Targets.versioned_name(named.version))?;
    named
        .check(Role::Targets.file_name(), &signed_targets)
        .with_context(about)?;
    let targets = check(roots, &signed_targets).with_context(about)?;
    Ok(Offer {
        targets,
        signed_targets,
        snapshot,
        timestamp,
        root,
    })
}

/// The name of a target's file in [`TARGETS`].
pub fn file_of(name: &str, target: &Target) -> Result<String> {
    Ok(kcare_tuf::client::target_path(name, target, true)?)
}
