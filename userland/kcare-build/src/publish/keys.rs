// SPDX-License-Identifier: GPL-2.0

//! The folder of keys: who may sign what, and the chain of roots that tells clients so.
//!
//! It has `root-1.pem`, `root-2.pem` and `root-3.pem`, of which two sign each root and which belong on other machines,
//! `targets.pem`, the release key, `online.pem`, which signs snapshots and timestamps, and `N.root.json`, all roots from
//! the first on. Public keys are in the roots; a private key that is elsewhere is not needed for what it does not sign.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use kcare_tuf::error::Role;
use kcare_tuf::file;
use kcare_tuf::key::{Key, Signer};
use kcare_tuf::metadata::{Common, Document, Root, Unverified};
use kcare_tuf::repository;
use kcare_tuf::time::Time;

use super::tree::{names, version_of};

/// The keys of the roots, and how many of them have to sign.
const ROOTS: [&str; 3] = ["root-1", "root-2", "root-3"];
const ROOT_THRESHOLD: u64 = 2;
/// For how many days a root is good.
const ROOT_DAYS: u32 = 365;

/// Which key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// The first key of the roots.
    #[value(name = "root-1")]
    Root1,
    /// The second.
    #[value(name = "root-2")]
    Root2,
    /// The third.
    #[value(name = "root-3")]
    Root3,
    /// The release key.
    Targets,
    /// The key of snapshots and timestamps.
    Online,
}

impl Name {
    fn file(self) -> &'static str {
        match self {
            Name::Root1 => ROOTS[0],
            Name::Root2 => ROOTS[1],
            Name::Root3 => ROOTS[2],
            Name::Targets => "targets",
            Name::Online => "online",
        }
    }
}

/// The roots of a folder, each verified with the one before it.
#[derive(Debug)]
pub struct Chain {
    /// All of them by the names of their files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The newest.
    pub newest: Root,
}

impl Chain {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// There is none, or a client would refuse one.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut newest: Option<Root> = None;
        for version in 1.. {
            let name = Role::Root.versioned_name(version);
            let bytes = match fs::read(folder.join(&name)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
            };
            let file = Unverified::parse(Role::Root, &bytes)?;
            let root = match &newest {
                None => file.into_initial_root(),
                Some(before) => before.verify_next(&file),
            };
            newest = Some(root.with_context(|| format!("in {}", folder.join(&name).display()))?);
            files.insert(name, bytes);
        }
        let newest = newest.with_context(|| format!("{} has no 1.root.json", folder.display()))?;
        Ok(Self { files, newest })
    }
}

/// A folder of keys.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    /// All roots by the names of their files.
    roots: BTreeMap<String, Vec<u8>>,
    /// The newest.
    pub root: Root,
}

impl Keys {
    /// Makes new keys and the first root, or the rest of them if it was killed.
    ///
    /// # Errors
    ///
    /// There is a root already, keys are there that no killed one has left, or they cannot be written.
    pub fn make(folder: &Path, now: Time) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        ensure!(
            !names(folder)?.iter().any(|name| version_of(name, Role::Root).is_some()),
            "{} has keys and roots already; a key is replaced with `kcare-build publish keys rotate`",
            folder.display()
        );
        // A killed `make` has left the first of them, and goes on with the rest.
        let mut missing = None;
        for name in ROOTS.iter().chain(&["targets", "online"]) {
            let path = pem(folder, name);
            match (path.exists(), missing) {
                (true, None) => {}
                (true, Some(missing)) => bail!(
                    "{} has {name}.pem, but neither {missing}.pem nor a root\n\
                     Hint: bring 1.root.json and the roots after it back, which each kernel's folder of a tree has; or make \
                     keys in another folder, which clients that have the old root do not trust.",
                    folder.display()
                ),
                (false, _) => missing = missing.or(Some(*name)),
            }
        }
        for name in ROOTS.iter().chain(&["targets", "online"]) {
            let path = pem(folder, name);
            if !path.exists() {
                new_key(&path)?;
            }
        }
        let mut root = Root::new(Common::new(1, now.plus_days(ROOT_DAYS)));
        let signers = ROOTS.map(|name| Signer::open(&pem(folder, name)));
        let [a, b, c] = signers;
        let signers = [a?, b?, c?];
        let keys: Vec<&Key> = signers.iter().map(Signer::key).collect();
        root.set_role(Role::Root, &keys, ROOT_THRESHOLD)?;
        let targets = Signer::open(&pem(folder, "targets"))?;
        root.set_role(Role::Targets, &[targets.key()], 1)?;
        let online = Signer::open(&pem(folder, "online"))?;
        root.set_role(Role::Snapshot, &[online.key()], 1)?;
        root.set_role(Role::Timestamp, &[online.key()], 1)?;
        let signers: Vec<&Signer> = signers.iter().collect();
        repository::write(folder, &root, &root, &repository::sign(&root, &signers)?)?;
        Self::open(folder)
    }

    /// Reads the roots, and verifies the chain.
    ///
    /// # Errors
    ///
    /// There is none, or a client would refuse it.
    pub fn open(folder: &Path) -> Result<Self> {
        let chain = Chain::read(folder).with_context(|| {
            format!(
                "make keys with `kcare-build publish keys make {}`",
                folder.display()
            )
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            roots: chain.files,
            root: chain.newest,
        })
    }

    /// The roots whose clients read a folder: the newest, and the one that the folder has now.
    ///
    /// # Errors
    ///
    /// The folder's roots are damaged.
    pub fn roots_for(&self, folder: &Path) -> Result<Vec<Root>> {
        let there = Chain::read(folder)?.newest;
        Ok(match there == self.root {
            true => vec![there],
            false => vec![there, self.root.clone()],
        })
    }

    /// The keys that sign for a role so that clients with any of these roots accept it.
    ///
    /// # Errors
    ///
    /// One is not here.
    pub fn signers(&self, name: Name, role: Role, roots: &[Root]) -> Result<Vec<Signer>> {
        let mut here = Vec::new();
        let entries = fs::read_dir(&self.folder)
            .with_context(|| format!("cannot read {}", self.folder.display()))?;
        let prefix = format!("{}.", name.file());
        for entry in entries {
            let path = entry?.path();
            let file = path.file_name().and_then(|name| name.to_str());
            if file.is_some_and(|file| file.starts_with(&prefix) && file.ends_with(".pem")) {
                here.push(Signer::open(&path).with_context(|| format!("in {}", path.display()))?);
            }
        }
        let named = |signer: &Signer, root: &Root| {
            let ids = &root.role(role).key_ids;
            ids.iter().any(|id| id == signer.id())
        };
        for root in roots {
            ensure!(
                here.iter().any(|signer| named(signer, root)),
                "{} has not the key that root {} names for the {role}; it was {}.pem",
                self.folder.display(),
                root.version(),
                name.file()
            );
        }
        here.retain(|signer| roots.iter().any(|root| named(signer, root)));
        Ok(here)
    }

    /// Puts the chain of roots into the folder of a repository.
    ///
    /// # Errors
    ///
    /// It cannot be written, or another root of that version is there.
    pub fn install(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in &self.roots {
            let path = folder.join(name);
            match fs::read(&path) {
                Ok(found) => ensure!(
                    found == *bytes,
                    "{} is another root than that of the folder of keys",
                    path.display()
                ),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    file::write(&path, bytes)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path.display()))
                }
            }
        }
        Ok(())
    }

    /// Makes a new key in place of one, which may no longer sign anything, and the root that says so. It is signed with
    /// the keys of the roots that are here.
    ///
    /// # Errors
    ///
    /// Fewer keys of the roots are here than have to sign.
    pub fn rotate(&mut self, name: Name, now: Time) -> Result<()> {
        let path = pem(&self.folder, name.file());
        // The new key is made beside the old one, so that nothing is lost if this ends early.
        let fresh = self.folder.join(format!("{}.new.pem", name.file()));
        if let Ok(new) = Signer::open(&fresh) {
            // The root that names it was the last that a killed one has made.
            if self.root.keys.contains_key(new.id()) {
                return self.take(name, self.root.version() - 1);
            }
        }
        let old_signers = self.root_signers()?;
        new_key(&fresh)?;
        let new = Signer::open(&fresh)?;

        let mut root = self.next_root(now);
        match name {
            Name::Targets => root.set_role(Role::Targets, &[new.key()], 1)?,
            Name::Online => {
                root.set_role(Role::Snapshot, &[new.key()], 1)?;
                root.set_role(Role::Timestamp, &[new.key()], 1)?;
            }
            Name::Root1 | Name::Root2 | Name::Root3 => {
                let old = match Signer::open(&path) {
                    Ok(old) => old.id().to_owned(),
                    // A key that is lost is the one that the others do not know.
                    Err(_) => self.lost_root(&old_signers)?,
                };
                let known = &self.root.role(Role::Root).key_ids;
                let keys = known.iter().filter(|id| **id != old);
                let mut keys: Vec<Key> = keys
                    .filter_map(|id| self.root.keys.get(id).cloned())
                    .collect();
                keys.push(new.key().clone());
                let keys: Vec<&Key> = keys.iter().collect();
                root.set_role(Role::Root, &keys, ROOT_THRESHOLD)?;
            }
        }
        let mut signers: Vec<&Signer> = old_signers.iter().collect();
        signers.push(&new);
        let until = self.root.version();
        self.add_root(root, &signers)?;
        self.take(name, until)
    }

    /// Puts a new key in the place of the one that root `until` has named last.
    fn take(&self, name: Name, until: u64) -> Result<()> {
        let path = pem(&self.folder, name.file());
        let fresh = pem(&self.folder, &format!("{}.new", name.file()));
        let kept = pem(&self.folder, &format!("{}.until-{until}", name.file()));
        if path.exists() && !kept.exists() {
            fs::rename(&path, &kept)
                .with_context(|| format!("cannot rename {}", path.display()))?;
        }
        fs::rename(&fresh, &path).with_context(|| format!("cannot rename {}", fresh.display()))
    }

    /// A new root with the same keys that is good for a year from now.
    ///
    /// # Errors
    ///
    /// Fewer keys of the roots are here than have to sign.
    pub fn renew(&mut self, now: Time) -> Result<()> {
        let signers = self.root_signers()?;
        let root = self.next_root(now);
        self.add_root(root, &signers.iter().collect::<Vec<_>>())
    }

    fn next_root(&self, now: Time) -> Root {
        let mut root = self.root.clone();
        root.common.version += 1;
        root.common.expires = now.plus_days(ROOT_DAYS);
        root
    }

    fn add_root(&mut self, root: Root, signers: &[&Signer]) -> Result<()> {
        let bytes = repository::sign(&root, signers)?;
        let root = self
            .root
            .verify_next(&Unverified::parse(Role::Root, &bytes)?)
            .context("clients would refuse the new root")?;
        repository::write(&self.folder, &root, &root, &bytes)?;
        let name = Role::Root.versioned_name(root.version());
        self.roots.insert(name, bytes);
        self.root = root;
        Ok(())
    }

    /// The keys of the roots that are here.
    fn root_signers(&self) -> Result<Vec<Signer>> {
        let known = &self.root.role(Role::Root).key_ids;
        let mut out = Vec::new();
        for name in ROOTS {
            let path = pem(&self.folder, name);
            if path.exists() {
                let signer =
                    Signer::open(&path).with_context(|| format!("in {}", path.display()))?;
                if known.iter().any(|id| id == signer.id()) {
                    out.push(signer);
                }
            }
        }
        let needed = self.root.role(Role::Root).threshold;
        ensure!(
            out.len() as u64 >= needed,
            "{needed} keys of the roots have to sign, and {} has {}; bring root-N.pem there for this",
            self.folder.display(),
            out.len()
        );
        Ok(out)
    }

    /// The one key of the roots that is not here.
    fn lost_root(&self, here: &[Signer]) -> Result<String> {
        let known = &self.root.role(Role::Root).key_ids;
        let mut lost = known
            .iter()
            .filter(|id| !here.iter().any(|signer| signer.id() == **id));
        match (lost.next(), lost.next()) {
            (Some(id), None) => Ok(id.clone()),
            _ => bail!(
                "it cannot be told which key of the roots is to be replaced: bring the others"
            ),
        }
    }
}

fn pem(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pem"))
}

/// A new private key that only its owner may read; it is there as a whole or not at all.
fn new_key(path: &Path) -> Result<()> {
    let text = Signer::generate()?;
    let about = || format!("cannot write {}", path.display());
    let unfinished = path.with_extension("pem.new");
    file::remove(&unfinished).with_context(about)?;
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished);
    let write = |mut file: fs::File| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    file.and_then(write).with_context(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kcare-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_killed_make_is_repeated() {
        let now = Time::now();
        let whole = folder("keys-whole");
        Keys::make(&whole, now).unwrap();
        assert!(Keys::make(&whole, now).is_err());
        let all = ["root-1", "root-2", "root-3", "targets", "online"];
        // After so many keys, and with half of the next one.
        for made in 0..=all.len() {
            let killed = folder(&format!("keys-killed-{made}"));
            fs::create_dir_all(&killed).unwrap();
            for name in &all[..made] {
                fs::copy(pem(&whole, name), pem(&killed, name)).unwrap();
            }
            if let Some(name) = all.get(made) {
                fs::write(killed.join(format!("{name}.pem.new")), "-----BEGIN").unwrap();
            }
            let keys = Keys::make(&killed, now).unwrap();
            assert_eq!(keys.root.version(), 1);
            for name in all {
                let old = fs::read(pem(&whole, name)).unwrap();
                let new = fs::read(pem(&killed, name)).unwrap();
                assert_eq!(old == new, all[..made].contains(&name), "{name} of {made}");
            }
            fs::remove_dir_all(&killed).unwrap();
        }
        // No `make` leaves this: the keys of the roots are elsewhere, and the roots are lost.
        fs::remove_file(whole.join("1.root.json")).unwrap();
        fs::remove_file(pem(&whole, "root-1")).unwrap();
        let error = Keys::make(&whole, now).unwrap_err().to_string();
        assert!(error.contains("neither root-1.pem nor a root"), "{error}");
        assert!(error.contains("Hint: bring 1.root.json"), "{error}");
        fs::remove_dir_all(&whole).unwrap();
    }

    #[test]
    fn a_killed_rotation_is_ended() {
        let now = Time::now();
        let folder = folder("keys-rotated");
        let mut keys = Keys::make(&folder, now).unwrap();
        let file = |name: &str| fs::read(pem(&folder, name)).unwrap();
        let old = file("targets");
        keys.rotate(Name::Targets, now).unwrap();
        assert_eq!(
            (keys.root.version(), file("targets.until-1")),
            (2, old.clone())
        );
        let new = file("targets");
        // Killed when the root was made, before the first file had its new name, and after it.
        for moved in [false, true] {
            fs::rename(pem(&folder, "targets"), pem(&folder, "targets.new")).unwrap();
            if !moved {
                fs::rename(pem(&folder, "targets.until-1"), pem(&folder, "targets")).unwrap();
            }
            let mut keys = Keys::open(&folder).unwrap();
            keys.rotate(Name::Targets, now).unwrap();
            assert_eq!(keys.root.version(), 2);
            assert_eq!(
                (file("targets"), file("targets.until-1")),
                (new.clone(), old.clone())
            );
        }
        // Killed before the root was made: the key is made anew.
        fs::write(pem(&folder, "targets.new"), "-----BEGIN").unwrap();
        let mut keys = Keys::open(&folder).unwrap();
        keys.rotate(Name::Targets, now).unwrap();
        assert_eq!((keys.root.version(), file("targets.until-2")), (3, new));
        fs::remove_dir_all(&folder).unwrap();
    }
}
