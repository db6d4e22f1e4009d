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
    /// Makes new keys and the first root.
    ///
    /// # Errors
    ///
    /// There are keys already, or they cannot be written.
    pub fn make(folder: &Path, now: Time) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for name in ROOTS.iter().chain(&["targets", "online"]) {
            let path = pem(folder, name);
            ensure!(
                !path.exists(),
                "{} is there already; a key is replaced with `kcare-build publish keys rotate`",
                path.display()
            );
        }
        for name in ROOTS.iter().chain(&["targets", "online"]) {
            new_key(&pem(folder, name))?;
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
        let old_signers = self.root_signers()?;
        let path = pem(&self.folder, name.file());
        let kept = self
            .folder
            .join(format!("{}.until-{}.pem", name.file(), self.root.version()));
        // The new key is made beside the old one, so that nothing is lost if this ends early.
        let fresh = self.folder.join(format!("{}.new.pem", name.file()));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", fresh.display()))
            }
            _ => {}
        }
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
        self.add_root(root, &signers)?;
        if path.exists() {
            fs::rename(&path, &kept)
                .with_context(|| format!("cannot rename {}", path.display()))?;
        }
        fs::rename(&fresh, &path).with_context(|| format!("cannot rename {}", fresh.display()))?;
        Ok(())
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

/// A new private key that only its owner may read.
fn new_key(path: &Path) -> Result<()> {
    let text = Signer::generate()?;
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let write = |mut file: fs::File| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    file.and_then(write)
        .with_context(|| format!("cannot write {}", path.display()))
}
