// SPDX-License-Identifier: GPL-2.0

//! The tree on the disk: where a repository of a kernel and channel is, what is in it, and how a change of it is written.
//!
//! Files have their version or hash in their name and never change, but for `timestamp.json`, which names all others and
//! is written last, by a rename. So a reader sees all of a change or nothing of it, and so does a tree whose publisher
//! was killed. What such a publisher left behind is named by nobody; the next one goes on with higher versions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use kcare_tuf::error::Role;
use kcare_tuf::key::Signer;
use kcare_tuf::level::{is_channel, TARGETS};
use kcare_tuf::metadata::{
    Common, Document, MetaFile, Root, Snapshot, Target, Targets, Timestamp, Unverified,
};
use kcare_tuf::repository;
use kcare_tuf::time::Time;
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

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
    /// Opens a tree for a change, and makes its folder.
    ///
    /// # Errors
    ///
    /// Somebody else is changing it, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let name = path.join(".lock");
        let lock = fs::File::create(&name)
            .with_context(|| format!("cannot write to {}", path.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => bail!(
                "another kcare-build is changing {}; wait until it is done",
                path.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {}", name.display()))
            }
        }
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

    /// Writes target files, and then what offers them.
    ///
    /// New roots come last, so that a client has what the root that it knows wants at every moment: as long as they are
    /// not there, everything is signed with the keys of the old root, too ([`Keys::signers`]).
    ///
    /// # Errors
    ///
    /// Something cannot be written, or signed as the root wants it.
    pub fn write(&self, keys: &Keys, change: &Change<'_>) -> Result<()> {
        let Change {
            place,
            targets,
            signed_targets,
            files,
            now,
        } = change;
        let folder = self.folder(place);
        let store = self.path.join(&place.kernel).join(TARGETS);
        for path in [&folder, &store] {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let fresh = !folder.join(Role::Timestamp.file_name()).exists();
        if fresh {
            keys.install(&folder)?;
        }
        let roots = keys.roots_for(&folder)?;
        let online = keys.signers(Name::Online, Role::Timestamp, &roots)?;
        let online: Vec<&Signer> = online.iter().collect();
        check::<Targets>(&roots, signed_targets)?;

        for (name, bytes) in files {
            let target = targets
                .targets
                .get(name)
                .with_context(|| format!("{name} is no target"))?;
            repository::write_target(&store, &keys.root, name, target, bytes)?;
        }
        repository::write(&folder, &keys.root, *targets, signed_targets)?;

        let snapshot = Snapshot::new(
            Common::new(
                highest_version(&folder, Role::Snapshot)? + 1,
                now.plus_days(days(Role::Snapshot)),
            ),
            MetaFile::of(targets.common.version, signed_targets),
        );
        let signed = repository::sign(&snapshot, &online)?;
        check::<Snapshot>(&roots, &signed)?;
        repository::write(&folder, &keys.root, &snapshot, &signed)?;

        let timestamp = Timestamp::new(
            Common::new(
                timestamp_version(&folder)? + 1,
                now.plus_days(days(Role::Timestamp)),
            ),
            MetaFile::of(snapshot.common.version, &signed),
        );
        self.write_timestamp(keys, place, &timestamp, &roots, &online)
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
        let roots = keys.roots_for(&self.folder(place))?;
        let online = keys.signers(Name::Online, Role::Timestamp, &roots)?;
        let mut timestamp = offer.timestamp.clone();
        timestamp.common = Common::new(
            timestamp.common.version + 1,
            now.plus_days(days(Role::Timestamp)),
        );
        self.write_timestamp(
            keys,
            place,
            &timestamp,
            &roots,
            &online.iter().collect::<Vec<_>>(),
        )
    }

    fn write_timestamp(
        &self,
        keys: &Keys,
        place: &Place,
        timestamp: &Timestamp,
        roots: &[Root],
        online: &[&Signer],
    ) -> Result<()> {
        let folder = self.folder(place);
        let signed = repository::sign(timestamp, online)?;
        check::<Timestamp>(roots, &signed)?;
        repository::write(&folder, &keys.root, timestamp, &signed)?;
        keys.install(&folder)
    }
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

/// All repositories of a tree: folders with the name of a kernel that have a timestamp.
pub fn places(tree: &Path) -> Result<BTreeSet<Place>> {
    let mut out = BTreeSet::new();
    let mut add = |channel: &str, kernel: &str| {
        let place = Place {
            channel: channel.to_owned(),
            kernel: kernel.to_owned(),
        };
        if folder(tree, &place).join("timestamp.json").exists() {
            out.insert(place);
        }
    };
    for name in folders(tree)? {
        if is_kernel(&name) {
            add("", &name);
        } else {
            for kernel in folders(&tree.join(&name))? {
                if is_kernel(&kernel) {
                    add(&name, &kernel);
                }
            }
        }
    }
    Ok(out)
}

/// The names of the folders in a folder, which has to be there.
fn folders(path: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            out.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(out)
}

/// Whether a folder's name is that of a kernel: a SHA-1 in lower-case hexadecimal digits.
pub fn is_kernel(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
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

/// The version of the timestamp of a folder, 0 without one; it is not verified, as its key may be another by now.
fn timestamp_version(folder: &Path) -> Result<u64> {
    let path = folder.join(Role::Timestamp.file_name());
    let text = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        result => result.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let value: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let version = value["signed"]["version"].as_u64();
    version.with_context(|| format!("{} has no version", path.display()))
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

/// Makes sure that a channel's name can be that of a folder, and is not that of a kernel.
pub fn check_channel(name: &str) -> Result<()> {
    ensure!(
        is_channel(name),
        "`{name}` is no name of a channel: it has letters, digits, `.`, `_` and `-`, at most 32 of them"
    );
    Ok(())
}
