// SPDX-License-Identifier: GPL-2.0

//! What the vendor offers for the running kernel: the levels of its repository, verified.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use kcare_tuf::client::{target_path, Client, Limits, News, Stale};
use kcare_tuf::error::{Kind as TufKind, Role};
use kcare_tuf::fetch::Fetch;
use kcare_tuf::file;
use kcare_tuf::level::{payload_name, Fixes, Record, TARGETS};
use kcare_tuf::metadata::Document;
use kcare_tuf::store::{Folder, Memory, Store};
use kcare_tuf::time::Time;
use serde::{Deserialize, Serialize};

use crate::apply;
use crate::cache::Cache;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::file::{is_denied, is_missing};
use crate::kernel::Kernel;
use crate::lock::Lock;
use crate::mirror::{self, Mirror};
use crate::server::Server;
use crate::System;

/// The first root, which came with the package, or an administrator's own.
const ROOTS: [&str; 2] = ["etc/sysconfig/kcare/root.json", "usr/share/kcare/root.json"];
/// So long the chain of roots is not looked at again while nothing else changes, in seconds.
const ROOT_INTERVAL: i64 = 24 * 3600;
/// The folder of what is trusted, in root's folder and in the cache of the service.
const TRUSTED: &str = "tuf";
/// So far a vendor's clock may be ahead of this machine's, in seconds.
const CLOCKS_APART: i64 = 24 * 3600;

/// Where what is trusted of one kernel and channel is kept.
///
/// Nobody holds it while a server is asked: that is done with a copy, which takes its place when all of it fits together
/// and is this kernel's. What a server shows by mistake leaves nothing behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Root's folder, or the cache of the service.
    base: PathBuf,
    /// Relative to that.
    path: String,
}

impl Place {
    /// Root's own: what is there has been verified by root, and who else can write there can roll back.
    pub fn of_root(system: &System, config: &Config, kernel: &Kernel) -> Self {
        Self::below(system.root.join(apply::STATE), config, kernel)
    }

    /// That of the service which downloads. It keeps the service from asking for what it has, and root does not look
    /// at it.
    pub fn of_fetch(system: &System, config: &Config, kernel: &Kernel) -> Self {
        Self::below(system.root.join(mirror::CACHE), config, kernel)
    }

    fn below(base: PathBuf, config: &Config, kernel: &Kernel) -> Self {
        // A channel of its own: a switch to a slower one is no attack.
        let channel = match config.prefix.as_str() {
            "" => "default".to_owned(),
            prefix => format!("channel-{prefix}"),
        };
        let path = format!("{TRUSTED}/{channel}/{}", kernel.hash());
        Self { base, path }
    }

    fn folder(&self) -> PathBuf {
        self.base.join(&self.path)
    }

    /// A copy of what is there. What cannot be read is as good as missing, and asked for again.
    fn load(&self) -> Memory {
        let folder = Folder::new(self.folder());
        let mut copy = Memory::default();
        for role in Role::ALL {
            if let Some(bytes) = document(&folder, role) {
                // A store in memory takes everything.
                let _ = copy.save(role, &bytes);
            }
        }
        copy
    }

    /// Puts what has become of the copy in the place of what is there, unless another process has put something newer
    /// there meanwhile. Who may not write there leaves no trace.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    fn keep(&self, copy: &Memory) -> Result<()> {
        let folder = self.folder();
        let made = std::fs::create_dir_all(&folder);
        let writable = made.and_then(|()| {
            use rustix::fs::{access, Access};
            access(&folder, Access::WRITE_OK).map_err(io::Error::from)
        });
        match writable {
            Ok(()) => {}
            Err(e) if is_denied(&e) => return Ok(()),
            Err(e) => return Err(cannot_write(&folder, e)),
        }
        let _lock = Lock::take(&self.base.join(TRUSTED))?;
        let now = self.load();
        // A newer root takes the rest back: keys that were revoked may have signed versions that are too high.
        let versions = |store| (version(store, Role::Root), version(store, Role::Timestamp));
        if versions(copy) < versions(&now) {
            return Ok(());
        }
        let mut store = Folder::new(&folder);
        for role in Role::ALL {
            let written = match (document(copy, role), document(&now, role)) {
                (is, was) if is == was => Ok(()),
                (Some(bytes), _) => store.save(role, &bytes),
                (None, _) => store.remove(role),
            };
            written.map_err(|e| cannot_write(&folder, e))?;
        }
        Ok(())
    }
}

/// A document, if it is there and can be read.
fn document(store: &impl Store, role: Role) -> Option<Vec<u8>> {
    store.load(role, Limits::default().targets).ok().flatten()
}

/// The version of a document, 0 if there is none.
fn version(store: &Memory, role: Role) -> u64 {
    let document: Option<serde_json::Value> =
        document(store, role).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let version = document.and_then(|document| document["signed"]["version"].as_u64());
    version.unwrap_or(0)
}

fn cannot_write(folder: &Path, e: io::Error) -> Error {
    Error::new(Kind::Disk, format!("cannot write {}.", folder.display()))
        .caused_by(e)
        .hint("check its file system; the kernel is as before.")
}

/// What is known of the last time that the server was asked. Only whether it is asked for less depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Poll {
    /// Which server it was.
    server: String,
    /// When it answered, in seconds since 1970.
    #[serde(default)]
    answered: i64,
    /// Its name of the timestamp's content.
    etag: Option<String>,
    /// When the chain of roots was followed to its end, in seconds since 1970.
    root_checked: i64,
    /// It has nothing for this kernel.
    unsupported: bool,
}

impl Poll {
    /// Longest file, in bytes.
    const LIMIT: u64 = 1 << 16;

    /// Reads it; another user's file is read as a file or not at all.
    fn read(place: &Place) -> Self {
        let bytes = mirror::read(
            &place.base,
            &format!("{}/poll.json", place.path),
            Self::LIMIT,
        );
        serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default()
    }

    /// Writes it if it has changed. Without it more is asked for, so that a disk that is full does not stop an update
    /// here.
    fn write(&self, place: &Place, before: &Self) {
        if self != before {
            let path = place.folder().join("poll.json");
            let _ = file::write(&path, crate::json(self).as_bytes());
        }
    }
}

/// Who is asked, and where what is found is kept.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    Server(&'a Place),
    Cache(&'a Place),
}

/// What is offered.
#[derive(Debug)]
pub struct Offer {
    client: Client<Memory>,
    kernel: String,
    /// All levels for this kernel, ascending.
    pub levels: Vec<Record>,
}

impl Offer {
    /// Asks the server. Who may not write to the place asks without a trace.
    ///
    /// # Errors
    ///
    /// The kind says who is at fault; each reason of `kcare_tuf::Error` has its own message.
    pub fn fetch(
        system: &System,
        place: &Place,
        config: &Config,
        server: &Server,
        kernel: &Kernel,
    ) -> Result<Self> {
        let below = server.folder(&channel_path(&config.prefix, &kernel.hash()));
        // What the cache lacks says nothing of the server.
        let asked = match server {
            Server::Cache(_) => Asked::Cache(place),
            _ => Asked::Server(place),
        };
        Self::fetch_by(system, asked, config, kernel, &below)
    }

    /// [`Offer::fetch`] for the service that downloads: what root will need is in the mirror afterwards, but for
    /// payloads.
    ///
    /// # Errors
    ///
    /// Those of [`Offer::fetch`], and [`Kind::Disk`].
    pub fn fetch_into(
        system: &System,
        mirror: &Mirror,
        config: &Config,
        server: &Server,
        kernel: &Kernel,
    ) -> Result<Self> {
        let place = Place::of_fetch(system, config, kernel);
        let from = server.folder(&channel_path(&config.prefix, &kernel.hash()));
        let keeper = mirror::Keeper {
            from,
            mirror,
            failure: RefCell::default(),
        };
        let offer = Self::fetch_by(system, Asked::Server(&place), config, kernel, &keeper);
        keeper.failure.into_inner().map_or(offer, Err)
    }

    fn fetch_by(
        system: &System,
        asked: Asked<'_>,
        config: &Config,
        kernel: &Kernel,
        fetch: &impl Fetch,
    ) -> Result<Self> {
        let (Asked::Server(place) | Asked::Cache(place)) = asked;
        let initial = initial_root(&system.root)?;
        let now = Time::now();
        let before = place.load();
        let mut client = Client::open(before.clone(), &initial, now, Limits::default())
            .map_err(|error| told(error, "cannot use the first root"))?;
        let known = match asked {
            Asked::Server(place) => Poll::read(place),
            Asked::Cache(_) => Poll::default(),
        };
        let server = config.server.clone().unwrap_or_default();
        let known_here = match known.server == server {
            true => known.clone(),
            false => Poll {
                server,
                ..Poll::default()
            },
        };
        let mut poll = known_here.clone();
        let result = refresh(&mut client, fetch, &mut poll, now.unix_seconds());
        let nothing_for_us = matches!(&result,
            Err(kcare_tuf::Error::NotFound { file }) if file == Role::Timestamp.file_name());
        let copy = client.store().clone();
        let offer = match result {
            Ok(()) => Self::of(client, kernel),
            // A download that was cut off, or is not over: there is less than is known already.
            Err(error) if matches!(asked, Asked::Cache(_)) && error.kind() == TufKind::NotFound => {
                Err(told(error, "cannot use what was downloaded").older())
            }
            Err(_) if nothing_for_us => Err(unsupported(kernel, config)),
            Err(error) => Err(told(error, "cannot ask for updates")),
        };
        let offer = offer.and_then(|offer| match asked {
            Asked::Server(_) => offer.check_clock().map(|()| offer),
            // What was downloaded has been through this.
            Asked::Cache(_) => Ok(offer),
        });
        if offer.is_ok() {
            place.keep(&copy)?;
        } else {
            poll = known_here;
            // Which keys are trusted does not depend on the rest, and nobody can bring back those that were revoked.
            if version(&copy, Role::Root) > version(&before, Role::Root) {
                place.keep(&roots_only(&copy, &before))?;
            }
        }
        if let Asked::Server(place) = asked {
            if offer.is_ok() || nothing_for_us {
                poll.unsupported = nothing_for_us;
                poll.answered = now.unix_seconds();
            }
            poll.write(place, &known);
        }
        offer
    }

    /// Whether the server had nothing for this kernel when it was asked the last time, by root or by the service.
    pub fn was_unsupported(system: &System, config: &Config, kernel: &Kernel) -> bool {
        let places = [
            Place::of_root(system, config, kernel),
            Place::of_fetch(system, config, kernel),
        ];
        // An ordinary user may not know which server that is.
        let is_current =
            |poll: &Poll| (config.server.as_ref()).is_none_or(|server| *server == poll.server);
        let polls = places.iter().map(Poll::read).filter(is_current);
        polls
            .max_by_key(|poll| poll.answered)
            .is_some_and(|poll| poll.unsupported)
    }

    /// What the server offered the last time, without asking it. Metadata that have expired since are used.
    ///
    /// # Errors
    ///
    /// Nothing was fetched yet, or it is damaged.
    pub fn stored(system: &System, config: &Config, kernel: &Kernel) -> Result<Self> {
        let place = Place::of_root(system, config, kernel);
        let initial = initial_root(&system.root)?;
        let client = Client::offline(
            place.load(),
            &initial,
            Time::now(),
            Limits::default(),
            Stale::Report,
        )
        .map_err(|error| told(error, "cannot use what was fetched before"))?;
        Self::of(client, kernel)
    }

    fn of(client: Client<Memory>, kernel: &Kernel) -> Result<Self> {
        let kernel = kernel.hash();
        let mut levels: Vec<Record> = Vec::new();
        for (name, target) in client.targets().iter().flat_map(|t| &t.targets) {
            let record = Record::of(name, target)
                .map_err(|why| Error::new(Kind::Server, format!("{why}.")))?;
            let Some(level) = record else {
                continue;
            };
            // Levels of other kernels may be genuine, and would not do here.
            if level.kernel != kernel {
                return Err(Error::new(
                    Kind::Trust,
                    format!("{name} is offered for this kernel, and is of another one."),
                )
                .detail(format!("this kernel  {kernel}"))
                .detail(format!("offered for  {}", level.kernel))
                .hint(
                    "tell the vendor; the tree on the server is mixed up. Nothing of it was kept.",
                ));
            }
            levels.push(level);
        }
        levels.sort_by_key(|level| level.level);
        Ok(Self {
            client,
            kernel,
            levels,
        })
    }

    /// Makes sure that this machine's clock is not behind what the vendor has signed: a clock in 1970 would never see
    /// that something has expired.
    ///
    /// # Errors
    ///
    /// [`Kind::Expired`].
    fn check_clock(&self) -> Result<()> {
        let now = self.client.now();
        let ahead = |level: &&Record| {
            Time::parse(&level.published)
                .is_ok_and(|time| time.unix_seconds() > now.unix_seconds() + CLOCKS_APART)
        };
        match self.levels.iter().find(ahead) {
            None => Ok(()),
            Some(level) => Err(Error::new(
                Kind::Expired,
                format!("this machine's clock is behind: it says {now}."),
            )
            .detail(format!(
                "patch level {} was published on {}",
                level.level, level.published
            ))
            .hint("set the clock, with `timedatectl set-ntp true` or `date -s`.")),
        }
    }

    /// The levels that the settings allow and that are not held, the highest first.
    pub fn allowed<'a>(
        &'a self,
        config: &'a Config,
        held: &'a [u32],
    ) -> impl Iterator<Item = &'a Record> {
        let levels = self.levels.iter().rev();
        levels.filter(move |level| self.in_the_way(config, held, level).is_none())
    }

    /// What keeps a level from being taken, if anything does.
    fn in_the_way(&self, config: &Config, held: &[u32], level: &Record) -> Option<String> {
        if !config.allows(level.level) {
            return Some("the settings take none that high (STICKY_PATCH, --level)".to_owned());
        }
        if held.contains(&level.level) {
            return Some("it was live when this machine went down".to_owned());
        }
        if config.delay == 0 {
            return None;
        }
        let delay = i64::try_from(config.delay).unwrap_or(i64::MAX);
        let from = Time::parse(&level.published)
            .ok()
            .and_then(|time| Time::from_unix_seconds(time.unix_seconds().saturating_add(delay)));
        match from {
            Some(from) if from <= self.client.now() => None,
            Some(from) => Some(format!("it is taken from {from} on (UPDATE_DELAY)")),
            None => Some("UPDATE_DELAY is longer than can be waited".to_owned()),
        }
    }

    /// Whether the vendor has taken a level back that was offered before.
    pub fn is_withdrawn(&self, level: u32) -> bool {
        let targets = self.client.targets();
        targets.is_some_and(|targets| targets.withdrawn.contains_key(&level))
    }

    /// The highest level, 0 if there is none.
    pub fn newest(&self) -> u32 {
        self.levels.last().map_or(0, |level| level.level)
    }

    /// The highest level, if something keeps it from being taken, and what that is.
    pub fn kept_back(&self, config: &Config, held: &[u32]) -> Option<(u32, String)> {
        let level = self.levels.last()?;
        let why = self.in_the_way(config, held, level)?;
        Some((level.level, why))
    }

    /// When what the server has signed ended, if it has, so that nobody knows whether there is more.
    pub fn ended(&self) -> Option<Time> {
        self.client.findings().iter().find_map(|found| match found {
            kcare_tuf::Error::Expired { expires, .. } => Some(*expires),
            _ => None,
        })
    }

    /// Puts what the timestamp leads to into the mirror, with the payload of a level, and the timestamp last.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`], and those of [`Offer::payload`].
    pub fn keep(
        &self,
        system: &System,
        mirror: &Mirror,
        server: &Server,
        level: Option<&Record>,
    ) -> Result<()> {
        let files = Mirror::new(system, &format!("{}/{TARGETS}", self.kernel));
        let mut wanted = std::collections::BTreeSet::new();
        if let Some(level) = level {
            for name in [payload_name(level.level), level.fixes.clone()] {
                let path = self.path(&name)?;
                let there = files.read(&path).filter(|bytes| self.is(&name, bytes));
                if there.is_none() {
                    files.write(&path, &self.download(server, &name)?)?;
                }
                wanted.insert(path);
            }
        }
        let mut current = std::collections::BTreeSet::new();
        let versions = [
            (Role::Snapshot, self.client.snapshot().map(|s| s.version())),
            (Role::Targets, self.client.targets().map(|t| t.version())),
        ];
        for (role, version) in versions {
            let name = role.versioned_name(version.unwrap_or_default());
            mirror.write(&name, &self.document(role)?)?;
            current.insert(name);
        }
        let name = Role::Timestamp.file_name().to_owned();
        mirror.write(&name, &self.document(Role::Timestamp)?)?;
        current.insert(name);
        mirror.retain(&current, |name| name.ends_with(".root.json"));
        files.retain(&wanted, |_| false);
        Ok(())
    }

    /// A document that the client has verified.
    fn document(&self, role: Role) -> Result<Vec<u8>> {
        document(self.client.store(), role).ok_or_else(|| {
            Error::new(Kind::Disk, format!("cannot read {}.", role.file_name()))
                .hint("check the file system of /var/cache/kcare.")
        })
    }

    /// The folder of the metadata, relative to the tree.
    pub fn folder(config: &Config, kernel: &Kernel) -> String {
        channel_path(&config.prefix, &kernel.hash())
    }

    /// The last day on which this kernel gets levels, as the highest one says.
    pub fn coverage(&self) -> Option<&str> {
        self.levels.last()?.covered_until.as_deref()
    }

    /// Whether that day is over.
    pub fn is_over(&self, day: &str) -> bool {
        Time::parse(&format!("{day}T23:59:59Z")).is_ok_and(|end| end < self.client.now())
    }

    /// The payload of a level, from root's cache if that has it.
    ///
    /// # Errors
    ///
    /// It cannot be fetched, or is not what was signed.
    pub fn payload(&self, cache: &Cache, server: &Server, level: &Record) -> Result<Vec<u8>> {
        let name = payload_name(level.level);
        match cache
            .read(level.level)
            .filter(|bytes| self.is(&name, bytes))
        {
            Some(payload) => Ok(payload),
            None => self.download(server, &name),
        }
    }

    /// The fixes of a level.
    ///
    /// # Errors
    ///
    /// They cannot be fetched, or are not what was signed.
    pub fn fixes(&self, server: &Server, level: &Record) -> Result<Fixes> {
        let bytes = self.download(server, &level.fixes)?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(Kind::Server, format!("{} cannot be read.", level.fixes)).caused_by(e)
        })
    }

    fn download(&self, server: &Server, name: &str) -> Result<Vec<u8>> {
        let below = server.folder(&format!("{}/{TARGETS}", self.kernel));
        self.client
            .download(&below, name)
            .map_err(|error| told(error, &format!("cannot download {name}")))
    }

    /// Where a target file is, relative to the folder of the target files.
    fn path(&self, name: &str) -> Result<String> {
        let target = self.client.target(name);
        target
            .and_then(|target| target_path(name, target, self.client.root().is_consistent()))
            .map_err(|error| told(error, &format!("cannot download {name}")))
    }

    /// Whether bytes are the target file of this name, as it was signed.
    fn is(&self, name: &str, bytes: &[u8]) -> bool {
        let target = self.client.target(name);
        target.is_ok_and(|target| target.check(name, bytes).is_ok())
    }
}

/// All steps of the client, of which the first is left out while nothing else changes: most of the time one request
/// says that nothing is new.
fn refresh(
    client: &mut Client<Memory>,
    fetch: &impl Fetch,
    poll: &mut Poll,
    now: i64,
) -> kcare_tuf::error::Result<()> {
    let recent = (0..ROOT_INTERVAL).contains(&now.saturating_sub(poll.root_checked));
    let (mut changed, mut asked) = (true, false);
    if recent {
        match client.update_timestamp(fetch, poll.etag.as_deref()) {
            Ok(News::NotModified) => changed = false,
            Ok(News::Same { etag }) => {
                poll.etag = etag;
                changed = false;
            }
            Ok(News::New { etag }) => {
                poll.etag = etag;
                asked = true;
            }
            // The keys may be others now, which the chain of roots tells.
            Err(error) if error.kind() == TufKind::Signature => poll.etag = None,
            Err(error) => return Err(error),
        }
    }
    if changed {
        client.update_root(fetch)?;
        if !asked || client.timestamp().is_none() {
            match client.update_timestamp(fetch, None)? {
                News::NotModified => {}
                News::Same { etag } | News::New { etag } => poll.etag = etag,
            }
        }
        poll.root_checked = now;
    }
    client.update_snapshot(fetch)?;
    client.update_targets(fetch)
}

fn initial_root(root: &Path) -> Result<Vec<u8>> {
    for place in ROOTS {
        match std::fs::read(root.join(place)) {
            Ok(bytes) => return genuine(bytes, place),
            Err(e) if is_missing(&e) => {}
            Err(e) => {
                return Err(Error::new(Kind::Disk, format!("cannot read /{place}."))
                    .caused_by(e)
                    .hint("put the vendor's 1.root.json there, as a file, or remove it."))
            }
        }
    }
    Err(
        Error::config("nothing says whose updates are to be trusted.")
            .detail(format!("there is neither /{} nor /{}", ROOTS[0], ROOTS[1]))
            .hint("put the vendor's 1.root.json there."),
    )
}

/// The first root, if it can be one: else it is the file of this machine that is damaged, and not the server's tree.
fn genuine(bytes: Vec<u8>, place: &str) -> Result<Vec<u8>> {
    match Client::open(Memory::default(), &bytes, Time::now(), Limits::default()) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(
            Error::new(Kind::Trust, format!("/{place} is damaged: {error}."))
                .hint("put the vendor's 1.root.json there anew."),
        ),
    }
}

fn channel_path(prefix: &str, kernel: &str) -> String {
    match prefix {
        "" => kernel.to_owned(),
        prefix => format!("{prefix}/{kernel}"),
    }
}

/// What was trusted before, under the keys of a newer root.
fn roots_only(copy: &Memory, before: &Memory) -> Memory {
    let mut kept = before.clone();
    for role in Role::ALL {
        // A store in memory takes everything.
        let _ = match (role, document(copy, role)) {
            (Role::Root, Some(bytes)) => kept.save(role, &bytes),
            (_, None) => kept.remove(role),
            _ => Ok(()),
        };
    }
    kept
}

/// The error for a kernel that the vendor has nothing for, or for a server that is not the vendor's.
fn unsupported(kernel: &Kernel, config: &Config) -> Error {
    let server = config.server.as_deref().unwrap_or_default();
    // Without a password.
    let (scheme, rest) = server.split_once("://").unwrap_or(("", server));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    Error::new(
        Kind::Server,
        format!("kernel {} is not supported.", kernel.release),
    )
    .detail(format!(
        "{scheme}://{host} has nothing for {}",
        Offer::folder(config, kernel)
    ))
    .hint(
        "boot a kernel that the vendor supports; or correct PATCH_SERVER or PREFIX in kcare.conf.",
    )
}

/// An error of TUF's in our own form.
fn told(error: kcare_tuf::Error, cannot: &str) -> Error {
    let (kind, hint) = match error.kind() {
        TufKind::Unreachable => (Kind::Server, "check the network, and PATCH_SERVER and the proxies in kcare.conf."),
        TufKind::NotFound | TufKind::TooLarge | TufKind::Malformed => {
            (Kind::Server, "tell the vendor; the tree on the server is not whole.")
        }
        TufKind::Signature | TufKind::Mismatch => {
            (Kind::Trust, "tell the vendor; somebody may have changed the tree, or it is not this vendor's.")
        }
        TufKind::Rollback => (
            Kind::Trust,
            "tell the vendor; the server shows an older state than before, as who replays it would.",
        ),
        TufKind::Expired => (
            Kind::Expired,
            "check this machine's clock with `date`; if it is right, the server has not been refreshed.",
        ),
        TufKind::Store => (Kind::Disk, "check the file system of /var/lib/kcare."),
    };
    let told = Error::new(kind, format!("{cannot}: {error}.")).hint(hint);
    match error.kind() {
        TufKind::Rollback => told.older(),
        _ => told,
    }
}
