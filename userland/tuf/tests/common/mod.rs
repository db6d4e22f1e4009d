// SPDX-License-Identifier: GPL-2.0

//! A small repository in memory, good unless a test changes it, and what a client needs around it.

#![allow(dead_code)] // Each test crate uses a part.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use kcare_tuf::fetch::{Fetch, FetchError, Fetched};
use kcare_tuf::key::Signer;
use kcare_tuf::metadata::{Common, Document, MetaFile, Root, Snapshot, Target, Targets, Timestamp};
use kcare_tuf::repository::sign;
use kcare_tuf::store::Store;
use kcare_tuf::{Client, Error, Limits, Role, Time};

/// The time of all updates.
pub const NOW: &str = "2026-11-29T12:00:00Z";
/// When good documents expire.
pub const LATER: &str = "2027-11-29T12:00:00Z";
/// When stale ones did.
pub const EARLIER: &str = "2026-11-29T11:59:59Z";

pub fn time(text: &str) -> Time {
    Time::parse(text).expect("a time")
}

pub fn common(version: u64) -> Common {
    Common::new(version, time(LATER))
}

/// The key of this name, always the same.
pub fn signer(name: &str) -> Signer {
    Signer::from_pkcs8(&pkcs8(name)).expect("a key")
}

/// PKCS #8 without the public key, as openssl writes it.
pub fn pkcs8(name: &str) -> Vec<u8> {
    let mut der = vec![
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    der.extend(ring::digest::digest(&ring::digest::SHA256, name.as_bytes()).as_ref());
    der
}

/// A description of a repository; [`Repository::tree`] makes files of it.
#[derive(Clone)]
pub struct Repository {
    /// With the names of the signers.
    pub roots: Vec<(Root, Vec<&'static str>)>,
    pub timestamp: Common,
    pub snapshot: Common,
    pub targets: Common,
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names of the signers of the other roles.
    pub signers: BTreeMap<Role, Vec<&'static str>>,
    /// Whether lengths and hashes are told.
    pub tells: bool,
    /// Change documents before they are signed.
    pub forge_timestamp: fn(&mut Timestamp),
    pub forge_snapshot: fn(&mut Snapshot),
    pub forge_targets: fn(&mut Targets),
}

impl Repository {
    pub fn new() -> Self {
        let mut root = Root::new(common(1));
        for role in Role::ALL {
            set(&mut root, role, &[role.name()], 1);
        }
        let files = [("9.kpatch", "payload"), ("a/b.json", "{}"), ("empty", "")];
        Self {
            roots: vec![(root, vec!["root"])],
            timestamp: common(1),
            snapshot: common(1),
            targets: common(1),
            files: files
                .map(|(name, text)| (name.to_string(), text.into()))
                .into(),
            signers: [Role::Timestamp, Role::Snapshot, Role::Targets]
                .map(|role| (role, vec![role.name()]))
                .into(),
            tells: true,
            forge_timestamp: |_| {},
            forge_snapshot: |_| {},
            forge_targets: |_| {},
        }
    }

    /// The newest root.
    pub fn root(&mut self) -> &mut Root {
        &mut self.roots.last_mut().expect("a root").0
    }

    /// A new root, which the keys of the old one sign, and these.
    pub fn rotate(&mut self, more: &[&'static str]) -> &mut Root {
        let (mut root, mut signers) = self.roots.last().expect("a root").clone();
        root.common.version += 1;
        signers.extend(more);
        self.roots.push((root, signers));
        self.root()
    }

    /// New versions of all but the root.
    pub fn release(&mut self) -> &mut Self {
        self.timestamp.version += 1;
        self.snapshot.version += 1;
        self.targets.version += 1;
        self
    }

    fn meta(&self, version: u64, bytes: &[u8]) -> MetaFile {
        let mut meta = MetaFile::of(version, bytes);
        if !self.tells {
            (meta.length, meta.hashes) = (None, None);
        }
        meta
    }

    fn signed<T: Document>(&self, document: &T) -> Vec<u8> {
        signed(document, &self.signers[&T::ROLE])
    }

    /// All files.
    pub fn tree(&self) -> Tree {
        let mut files = BTreeMap::new();
        for (root, signers) in &self.roots {
            let name = Role::Root.versioned_name(root.version());
            files.insert(name, signed(root, signers));
        }
        let root = &self.roots.last().expect("a root").0;

        let offered = self.files.iter();
        let offered = offered.map(|(name, bytes)| (name.clone(), Target::of(bytes)));
        let mut targets = Targets::new(self.targets.clone(), offered.collect());
        (self.forge_targets)(&mut targets);
        for (name, bytes) in &self.files {
            let target = Target::of(bytes);
            if let Ok(path) = kcare_tuf::client::target_path(name, &target, root.is_consistent()) {
                files.insert(path, bytes.clone());
            }
        }
        let bytes = self.signed(&targets);
        let meta = self.meta(targets.version(), &bytes);
        files.insert(root.path_of(Role::Targets, self.targets.version), bytes);

        let mut snapshot = Snapshot::new(self.snapshot.clone(), meta);
        (self.forge_snapshot)(&mut snapshot);
        let bytes = self.signed(&snapshot);
        let meta = self.meta(snapshot.version(), &bytes);
        files.insert(root.path_of(Role::Snapshot, self.snapshot.version), bytes);

        let mut timestamp = Timestamp::new(self.timestamp.clone(), meta);
        (self.forge_timestamp)(&mut timestamp);
        files.insert("timestamp.json".to_string(), self.signed(&timestamp));
        Tree::new(files)
    }

    /// The root that clients begin with.
    pub fn initial(&self) -> Vec<u8> {
        let (root, signers) = &self.roots[0];
        signed(root, signers)
    }
}

/// Gives a role the keys of these names.
pub fn set(root: &mut Root, role: Role, names: &[&str], threshold: u64) {
    let signers: Vec<_> = names.iter().map(|name| signer(name)).collect();
    let keys: Vec<_> = signers.iter().map(Signer::key).collect();
    root.set_role(role, &keys, threshold).expect("keys");
}

pub fn signed<T: Document>(document: &T, names: &[&str]) -> Vec<u8> {
    let signers: Vec<_> = names.iter().map(|name| signer(name)).collect();
    sign(document, &signers.iter().collect::<Vec<_>>()).expect("a good document")
}

/// A server.
#[derive(Clone, Debug)]
pub struct Tree {
    pub files: BTreeMap<String, Vec<u8>>,
    /// What was asked for.
    pub asked: RefCell<Vec<String>>,
    /// The etag of all files, if the server gives any.
    pub etag: Option<&'static str>,
    /// Answers with more than the limit, as a fetcher must not.
    pub ignores_limits: bool,
    /// Says `not modified` to everything.
    pub not_modified: bool,
    /// Says this of this file.
    pub broken: Option<(&'static str, &'static str)>,
}

impl Tree {
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self {
            files,
            asked: RefCell::default(),
            etag: None,
            ignores_limits: false,
            not_modified: false,
            broken: None,
        }
    }

    /// Changes a file.
    pub fn edit(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        change(self.files.get_mut(path).expect("a file of the repository"));
        self
    }
}

impl Fetch for Tree {
    fn fetch(&self, path: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        self.asked.borrow_mut().push(path.to_string());
        if let Some((_, reason)) = self.broken.filter(|(broken, _)| *broken == path) {
            return Err(FetchError::Other(reason.to_string()));
        }
        let bytes = self.files.get(path).ok_or(FetchError::NotFound)?;
        if bytes.len() as u64 > limit && !self.ignores_limits {
            return Err(FetchError::TooLong);
        }
        Ok(bytes.clone())
    }

    fn fetch_if_changed(
        &self,
        path: &str,
        limit: u64,
        etag: Option<&str>,
    ) -> Result<Fetched, FetchError> {
        if self.not_modified || (etag.is_some() && etag == self.etag) {
            return Ok(Fetched::NotModified);
        }
        Ok(Fetched::File {
            bytes: self.fetch(path, limit)?,
            etag: self.etag.map(str::to_string),
        })
    }
}

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub files: BTreeMap<Role, Vec<u8>>,
    /// How many changes are done before it stops working, as when power fails.
    pub power: Option<usize>,
}

impl Memory {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The version of a stored document.
    pub fn version(&self, role: Role) -> Option<u64> {
        let value: serde_json::Value = serde_json::from_slice(self.files.get(&role)?).ok()?;
        value["signed"]["version"].as_u64()
    }

    /// The versions of all stored documents, 0 for none, in the order of [`Role::ALL`].
    pub fn versions(&self) -> [u64; 4] {
        Role::ALL.map(|role| self.version(role).unwrap_or(0))
    }
}

impl Store for Memory {
    fn load(&self, role: Role, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self.files.get(&role) {
            Some(bytes) if bytes.len() as u64 > limit => Err(io::Error::other("too long")),
            found => Ok(found.cloned()),
        }
    }

    fn save(&mut self, role: Role, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        self.files.insert(role, bytes.to_vec());
        Ok(())
    }

    fn remove(&mut self, role: Role) -> io::Result<()> {
        self.change()?;
        self.files.remove(&role);
        Ok(())
    }
}

/// A client's store, and what it is asked to do.
#[derive(Clone)]
pub struct User {
    pub store: Memory,
    pub initial: Vec<u8>,
    pub now: Time,
    pub limits: Limits,
}

impl User {
    pub fn of(repository: &Repository) -> Self {
        Self {
            store: Memory::default(),
            initial: repository.initial(),
            now: time(NOW),
            limits: Limits::default(),
        }
    }

    pub fn open(&self) -> Client<Memory> {
        Client::open(self.store.clone(), &self.initial, self.now, self.limits).expect("a good root")
    }

    /// Updates, and keeps what the store has then, also after an error.
    pub fn refresh(&mut self, tree: &Tree) -> Result<(), Error> {
        let mut client = self.open();
        let result = client.refresh(tree);
        self.store = client.into_store();
        result
    }
}
