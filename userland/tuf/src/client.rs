// SPDX-License-Identifier: GPL-2.0

//! The client workflow: section 5 of the specification.
//!
//! ```text
//! stored root ──▶ root N+1, N+2, … ──▶ timestamp ──▶ snapshot ──▶ targets ──▶ files
//!                 signed by N and N+1    names the      names the    names the
//!                                        snapshot       targets      files
//! ```
//!
//! [`Client::refresh`] does all of it. An agent that only looks whether there is something new calls
//! [`Client::update_timestamp`] alone; if the signatures are refused there, keys may have been rotated, and a refresh
//! tells. [`Client::offline`] works with what is stored.
//!
//! What was verified is stored at once, role by role, as the specification wants it. If power fails between two of
//! them, the next refresh goes on from there.

use crate::error::{Error, Result, Role};
use crate::fetch::{Fetch, FetchError, Fetched};
use crate::metadata::{Document, Root, Snapshot, Target, Targets, Timestamp, Unverified};
use crate::store::Store;
use crate::time::Time;

/// How much a client reads. All but the last are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of a root.
    pub root: u64,
    /// Length of a timestamp.
    pub timestamp: u64,
    /// Length of a snapshot, whatever the timestamp says.
    pub snapshot: u64,
    /// Length of targets, whatever the snapshot says.
    pub targets: u64,
    /// Length of a target file, whatever the targets say; it is read into memory.
    pub file: u64,
    /// How many roots are followed in one update; the next update goes on from there.
    pub rotations: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            root: 512 << 10,
            timestamp: 16 << 10,
            snapshot: 2 << 20,
            targets: 5 << 20,
            file: 64 << 20,
            rotations: 256,
        }
    }
}

impl Limits {
    fn of(&self, role: Role) -> u64 {
        match role {
            Role::Root => self.root,
            Role::Timestamp => self.timestamp,
            Role::Snapshot => self.snapshot,
            Role::Targets => self.targets,
        }
    }
}

/// What an update of the timestamp found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The server says that nothing changed.
    NotModified,
    /// The trusted version is the newest.
    Same {
        /// For the next time.
        etag: Option<String>,
    },
    /// There is a new one; the snapshot may be another.
    New {
        /// For the next time.
        etag: Option<String>,
    },
}

/// What [`Client::offline`] does about documents whose time is over, and about an update that was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// They are errors.
    Refuse,
    /// They are told by [`Client::findings`].
    Report,
}

/// A client of one repository, at one time.
#[derive(Debug)]
pub struct Client<S> {
    store: S,
    limits: Limits,
    now: Time,
    root: Root,
    unsaved: Option<UnsavedRoot>,
    timestamp: Option<Timestamp>,
    snapshot: Option<Snapshot>,
    targets: Option<Targets>,
    findings: Vec<Error>,
}

/// An initial root that the next update puts into the store.
#[derive(Debug)]
struct UnsavedRoot {
    bytes: Vec<u8>,
    /// Whether it revokes keys of the stored root's timestamp or snapshot.
    revokes: bool,
}

impl<S: Store> Client<S> {
    /// A client that trusts the root of the store, or `initial_root` if that is newer or the store has none that is
    /// whole. `now` is the time of the whole update. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Threshold`] if `initial_root` is not whole. What is wrong with the store is no
    /// error: see [`Client::findings`].
    pub fn open(store: S, initial_root: &[u8], now: Time, limits: Limits) -> Result<Self> {
        let initial = Unverified::parse(Role::Root, initial_root)?.into_initial_root()?;
        let mut findings = Vec::new();
        let stored = match read(&store, Role::Root, &limits) {
            Ok(Some(bytes)) => Unverified::parse(Role::Root, &bytes)
                .and_then(Unverified::into_initial_root)
                .map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let stored = stored.unwrap_or_else(|reason| {
            findings.push(discarded(Role::Root, reason));
            None
        });
        let (root, unsaved) = match stored {
            Some(stored) if stored.version() >= initial.version() => (stored, None),
            other => {
                let unsaved = UnsavedRoot {
                    bytes: initial_root.to_vec(),
                    revokes: other.is_some_and(|old| revokes(&old, &initial)),
                };
                (initial, Some(unsaved))
            }
        };
        Ok(Self {
            store,
            limits,
            now,
            root,
            unsaved,
            timestamp: None,
            snapshot: None,
            targets: None,
            findings,
        })
    }

    /// A client that works with the store alone, and verifies all of it.
    ///
    /// # Errors
    ///
    /// As [`Client::open`], [`Error::NotStored`], and every reason that a refresh would have; with [`Stale::Report`]
    /// an [`Error::Expired`], and an older snapshot or targets than named because an update was not finished, are
    /// findings.
    pub fn offline(
        store: S,
        initial_root: &[u8],
        now: Time,
        limits: Limits,
        stale: Stale,
    ) -> Result<Self> {
        let mut client = Self::open(store, initial_root, now, limits)?;
        client.judge(client.root.check_expiry(now), stale)?;

        let (timestamp, _) = client.stored::<Timestamp>()?;
        client.judge(timestamp.check_expiry(now), stale)?;

        let (snapshot, bytes) = client.stored::<Snapshot>()?;
        let named = &timestamp.snapshot;
        if snapshot.version() == named.version {
            named.check(Role::Snapshot.file_name(), &bytes)?;
        }
        client.judge_version(&snapshot, named.version, stale)?;
        client.judge(snapshot.check_expiry(now), stale)?;

        let (targets, bytes) = client.stored::<Targets>()?;
        let named = snapshot.targets()?;
        if targets.version() == named.version {
            named.check(Role::Targets.file_name(), &bytes)?;
        }
        client.judge_version(&targets, named.version, stale)?;
        client.judge(targets.check_expiry(now), stale)?;

        client.timestamp = Some(timestamp);
        client.snapshot = Some(snapshot);
        client.targets = Some(targets);
        Ok(client)
    }

    /// All steps: root, timestamp, snapshot, targets.
    ///
    /// # Errors
    ///
    /// Those of the steps.
    pub fn refresh(&mut self, fetch: &impl Fetch) -> Result<()> {
        self.update_root(fetch)?;
        self.update_timestamp(fetch, None)?;
        self.update_snapshot(fetch)?;
        self.update_targets(fetch)
    }

    /// Follows the chain of roots to its end (specification 5.3).
    ///
    /// When a root revokes a key of the timestamp or of the snapshot, the trusted ones of both are forgotten *before*
    /// that root is stored, so that also an update that was interrupted recovers from a fast-forward attack.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::TooLong`], [`Error::Malformed`], [`Error::Threshold`], [`Error::Version`],
    /// [`Error::Store`], and [`Error::Expired`] of the last root.
    pub fn update_root(&mut self, fetch: &impl Fetch) -> Result<()> {
        if let Some(unsaved) = &self.unsaved {
            if unsaved.revokes {
                self.forget()?;
            }
        }
        if let Some(unsaved) = self.unsaved.take() {
            if let Err(error) = self.save(Role::Root, &unsaved.bytes) {
                self.unsaved = Some(unsaved);
                return Err(error);
            }
        }
        for _ in 0..self.limits.rotations {
            let Some(version) = self.root.version().checked_add(1) else {
                break;
            };
            let path = Role::Root.versioned_name(version);
            let bytes = match get(fetch, &path, self.limits.root) {
                Err(Error::NotFound { .. }) => break,
                result => result?,
            };
            let next = self
                .root
                .verify_next(&Unverified::parse(Role::Root, &bytes)?)?;
            if revokes(&self.root, &next) {
                self.forget()?;
            }
            self.save(Role::Root, &bytes)?;
            self.root = next;
            // They are loaded and verified again, with the new root.
            self.timestamp = None;
            self.snapshot = None;
            self.targets = None;
        }
        self.root.check_expiry(self.now)
    }

    /// Asks for the timestamp (specification 5.4). With an `etag` the server may say that it is still the trusted one,
    /// which then must not have expired all the same.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::NotFound`], [`Error::TooLong`], [`Error::Malformed`], [`Error::Threshold`],
    /// [`Error::Rollback`], [`Error::RollbackOf`], [`Error::Expired`] (of the root, too), [`Error::Store`].
    pub fn update_timestamp(&mut self, fetch: &impl Fetch, etag: Option<&str>) -> Result<News> {
        self.root.check_expiry(self.now)?;
        self.load_timestamp();
        let path = Role::Timestamp.file_name();
        let limit = self.limits.timestamp;
        let etag = etag.filter(|_| self.timestamp.is_some());
        let fetched = fetch
            .fetch_if_changed(path, limit, etag)
            .map_err(|error| fetch_error(path, limit, error))?;
        let (bytes, etag) = match (fetched, &self.timestamp) {
            (Fetched::File { bytes, etag }, _) => (within(path, limit, bytes)?, etag),
            (Fetched::NotModified, Some(trusted)) if etag.is_some() => {
                trusted.check_expiry(self.now)?;
                return Ok(News::NotModified);
            }
            (Fetched::NotModified, _) => {
                return Err(Error::Unreachable {
                    file: path.to_string(),
                    reason: "the server says `not modified`, but was not asked that".to_string(),
                });
            }
        };
        let new: Timestamp = self
            .root
            .verify(&Unverified::parse(Role::Timestamp, &bytes)?)?;
        if let Some(trusted) = &self.timestamp {
            if new.version() < trusted.version() {
                return Err(Error::Rollback {
                    role: Role::Timestamp,
                    trusted: trusted.version(),
                    found: new.version(),
                });
            }
            // What is trusted is kept, also if the new one has another content: the specification wants it so.
            if new.version() == trusted.version() {
                trusted.check_expiry(self.now)?;
                return Ok(News::Same { etag });
            }
            if new.snapshot.version < trusted.snapshot.version {
                return Err(Error::RollbackOf {
                    role: Role::Timestamp,
                    name: Role::Snapshot.file_name().to_string(),
                    trusted: trusted.snapshot.version,
                    found: new.snapshot.version,
                });
            }
        }
        new.check_expiry(self.now)?;
        self.save(Role::Timestamp, &bytes)?;
        self.timestamp = Some(new);
        self.snapshot = None;
        self.targets = None;
        Ok(News::New { etag })
    }

    /// Gets the snapshot that the trusted timestamp names, unless it is stored (specification 5.5).
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`] without a timestamp, [`Error::Unreachable`], [`Error::NotFound`], [`Error::TooLong`],
    /// [`Error::Length`], [`Error::Hash`], [`Error::Malformed`], [`Error::Threshold`], [`Error::Version`],
    /// [`Error::RollbackOf`], [`Error::Vanished`], [`Error::Expired`], [`Error::Store`].
    pub fn update_snapshot(&mut self, fetch: &impl Fetch) -> Result<()> {
        self.load_timestamp();
        let timestamp = self.timestamp.as_ref().ok_or(Error::NotStored {
            role: Role::Timestamp,
        })?;
        timestamp.check_expiry(self.now)?;
        let named = timestamp.snapshot.clone();

        let trusted = self.load::<Snapshot>();
        if let Some((snapshot, bytes)) = &trusted {
            if snapshot.version() == named.version
                && named.check(Role::Snapshot.file_name(), bytes).is_ok()
                && snapshot.check_expiry(self.now).is_ok()
            {
                self.snapshot = Some(snapshot.clone());
                return Ok(());
            }
        }
        let path = self.root.path_of(Role::Snapshot, named.version);
        let limit = announced(named.length, self.limits.snapshot);
        let bytes = get(fetch, &path, limit)?;
        named.check(&path, &bytes)?;
        let new: Snapshot = self
            .root
            .verify(&Unverified::parse(Role::Snapshot, &bytes)?)?;
        check_version(&new, named.version)?;
        if let Some((trusted, _)) = &trusted {
            trusted.check_next(&new)?;
        }
        new.check_expiry(self.now)?;
        self.save(Role::Snapshot, &bytes)?;
        self.snapshot = Some(new);
        self.targets = None;
        Ok(())
    }

    /// Gets the targets that the trusted snapshot names, unless they are stored (specification 5.6).
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`] without an update of the snapshot before, and those of [`Client::update_snapshot`] but for
    /// [`Error::RollbackOf`] and [`Error::Vanished`], which are found there.
    pub fn update_targets(&mut self, fetch: &impl Fetch) -> Result<()> {
        let snapshot = self.snapshot.as_ref().ok_or(Error::NotStored {
            role: Role::Snapshot,
        })?;
        let named = snapshot.targets()?.clone();

        if let Some((targets, bytes)) = self.load::<Targets>() {
            if targets.version() == named.version
                && named.check(Role::Targets.file_name(), &bytes).is_ok()
                && targets.check_expiry(self.now).is_ok()
            {
                self.targets = Some(targets);
                return Ok(());
            }
        }
        let path = self.root.path_of(Role::Targets, named.version);
        let limit = announced(named.length, self.limits.targets);
        let bytes = get(fetch, &path, limit)?;
        named.check(&path, &bytes)?;
        let new: Targets = self
            .root
            .verify(&Unverified::parse(Role::Targets, &bytes)?)?;
        check_version(&new, named.version)?;
        new.check_expiry(self.now)?;
        self.save(Role::Targets, &bytes)?;
        self.targets = Some(new);
        Ok(())
    }

    /// Gets a file that the targets offer (specification 5.7). `fetch` has the base of the target files.
    ///
    /// # Errors
    ///
    /// Those of [`Client::target`] and [`target_path`], [`Error::Unreachable`], [`Error::NotFound`],
    /// [`Error::TooLong`], [`Error::Length`], [`Error::Hash`].
    pub fn download(&self, fetch: &impl Fetch, name: &str) -> Result<Vec<u8>> {
        let target = self.target(name)?;
        let path = target_path(name, target, self.root.is_consistent())?;
        let limit = announced(Some(target.length), self.limits.file);
        let bytes = get(fetch, &path, limit)?;
        target.check(name, &bytes)?;
        Ok(bytes)
    }

    /// What the targets say of a file.
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`] if no targets are trusted yet, [`Error::NoTarget`].
    pub fn target(&self, name: &str) -> Result<&Target> {
        let targets = self.targets().ok_or(Error::NotStored {
            role: Role::Targets,
        })?;
        targets.targets.get(name).ok_or_else(|| Error::NoTarget {
            name: name.to_string(),
        })
    }

    /// The trusted root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The trusted timestamp, after an update.
    pub fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_ref()
    }

    /// The trusted snapshot, after an update.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The trusted targets, after an update.
    pub fn targets(&self) -> Option<&Targets> {
        self.targets.as_ref()
    }

    /// The time of the update.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What was wrong, but did not stop the work: [`Error::Discarded`] for a stored file that was left aside, and what
    /// [`Stale::Report`] reports.
    pub fn findings(&self) -> &[Error] {
        &self.findings
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store again.
    pub fn into_store(self) -> S {
        self.store
    }

    fn load_timestamp(&mut self) {
        if self.timestamp.is_none() {
            self.timestamp = self.load().map(|(timestamp, _)| timestamp);
        }
    }

    /// A stored document that the trusted root verifies; any other is a finding.
    fn load<T: Document>(&mut self) -> Option<(T, Vec<u8>)> {
        match self.stored() {
            Ok(found) => Some(found),
            Err(Error::NotStored { .. }) => None,
            Err(reason) => {
                let finding = discarded(T::ROLE, reason);
                if !self.findings.contains(&finding) {
                    self.findings.push(finding);
                }
                None
            }
        }
    }

    fn stored<T: Document>(&self) -> Result<(T, Vec<u8>)> {
        let bytes =
            read(&self.store, T::ROLE, &self.limits)?.ok_or(Error::NotStored { role: T::ROLE })?;
        let document = self.root.verify(&Unverified::parse(T::ROLE, &bytes)?)?;
        Ok((document, bytes))
    }

    fn save(&mut self, role: Role, bytes: &[u8]) -> Result<()> {
        let result = self.store.save(role, bytes);
        result.map_err(|error| store_error("write", role, &error))
    }

    /// Trusts neither timestamp nor snapshot any more.
    fn forget(&mut self) -> Result<()> {
        for role in [Role::Timestamp, Role::Snapshot] {
            let result = self.store.remove(role);
            result.map_err(|error| store_error("remove", role, &error))?;
        }
        self.timestamp = None;
        self.snapshot = None;
        self.targets = None;
        Ok(())
    }

    fn judge(&mut self, result: Result<()>, stale: Stale) -> Result<()> {
        match (result, stale) {
            (Err(finding), Stale::Report) => {
                self.findings.push(finding);
                Ok(())
            }
            (result, _) => result,
        }
    }

    /// An older document than named is what an update leaves that was not finished; a newer one never is.
    fn judge_version<T: Document>(&mut self, found: &T, named: u64, stale: Stale) -> Result<()> {
        let result = check_version(found, named);
        if found.version() < named {
            self.judge(result, stale)
        } else {
            result
        }
    }
}

/// Path of a target file below the base of the target files. In a consistent snapshot the last part of the name has its
/// hash in front.
///
/// # Errors
///
/// [`Error::TargetName`] if the name is empty, begins with `/`, has a part `.` or `..`, also percent-encoded, a
/// backslash or a control character.
pub fn target_path(name: &str, target: &Target, consistent: bool) -> Result<String> {
    let refused = || Error::TargetName {
        name: name.to_string(),
    };
    let is_dots = |part: &str| {
        let part = part.to_ascii_lowercase().replace("%2e", ".");
        part == "." || part == ".."
    };
    if name.is_empty()
        || name.starts_with('/')
        || name.contains(|c: char| c == '\\' || c.is_control())
        || name.split('/').any(is_dots)
    {
        return Err(refused());
    }
    if !consistent {
        return Ok(name.to_string());
    }
    let hash = target.hashes.prefix().ok_or_else(refused)?;
    Ok(match name.rsplit_once('/') {
        Some((folder, last)) => format!("{folder}/{hash}.{last}"),
        None => format!("{hash}.{name}"),
    })
}

fn revokes(old: &Root, new: &Root) -> bool {
    old.revokes(new, Role::Timestamp) || old.revokes(new, Role::Snapshot)
}

fn check_version<T: Document>(found: &T, expected: u64) -> Result<()> {
    if found.version() == expected {
        return Ok(());
    }
    Err(Error::Version {
        role: T::ROLE,
        expected,
        found: found.version(),
    })
}

/// How many bytes are read: what was announced, but never more than the limit.
fn announced(length: Option<u64>, limit: u64) -> u64 {
    length.map_or(limit, |length| length.min(limit))
}

fn get(fetch: &impl Fetch, path: &str, limit: u64) -> Result<Vec<u8>> {
    let bytes = fetch
        .fetch(path, limit)
        .map_err(|error| fetch_error(path, limit, error))?;
    within(path, limit, bytes)
}

/// Does not rely on the one who fetches.
fn within(path: &str, limit: u64, bytes: Vec<u8>) -> Result<Vec<u8>> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        return Ok(bytes);
    }
    Err(fetch_error(path, limit, FetchError::TooLong))
}

fn fetch_error(path: &str, limit: u64, error: FetchError) -> Error {
    let file = path.to_string();
    match error {
        FetchError::NotFound => Error::NotFound { file },
        FetchError::TooLong => Error::TooLong { file, limit },
        FetchError::Other(reason) => Error::Unreachable { file, reason },
    }
}

fn read(store: &impl Store, role: Role, limits: &Limits) -> Result<Option<Vec<u8>>> {
    let result = store.load(role, limits.of(role));
    result.map_err(|error| store_error("read", role, &error))
}

fn store_error(action: &'static str, role: Role, error: &std::io::Error) -> Error {
    Error::Store {
        action,
        file: role.file_name().to_string(),
        reason: error.to_string(),
    }
}

fn discarded(role: Role, reason: Error) -> Error {
    Error::Discarded {
        role,
        reason: Box::new(reason),
    }
}
