// SPDX-License-Identifier: GPL-2.0

//! What the vendor offers for the running kernel: the levels of its repository, verified.

use std::path::{Path, PathBuf};

use kcare_tuf::client::{Client, Limits};
use kcare_tuf::error::Kind as TufKind;
use kcare_tuf::level::{payload_name, Fixes, Record, TARGETS};
use kcare_tuf::store::Folder;
use kcare_tuf::time::Time;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::kernel::Kernel;
use crate::server::Server;
use crate::System;

/// The first root, which came with the package, or an administrator's own.
const ROOTS: [&str; 2] = ["etc/sysconfig/kcare/root.json", "usr/share/kcare/root.json"];
/// Where the trusted metadata are kept, for each channel and kernel; root's alone, or who writes there can roll back.
const STORE: &str = "var/lib/kcare/tuf";

/// What is offered.
#[derive(Debug)]
pub struct Offer {
    client: Client<Folder>,
    kernel: String,
    /// All levels for this kernel, ascending.
    pub levels: Vec<Record>,
}

impl Offer {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// The kind says who is at fault; each reason of `kcare_tuf::Error` has its own message.
    pub fn fetch(
        system: &System,
        config: &Config,
        server: &Server,
        kernel: &Kernel,
    ) -> Result<Self> {
        let name = kernel.hash();
        let mut client = open(system, config, &name)?;
        let below = server.folder(&channel_path(&config.prefix, &name));
        match client.refresh(&below) {
            Ok(()) => Self::of(client, name),
            Err(kcare_tuf::Error::NotFound { file }) if file == "timestamp.json" => {
                Err(unsupported(kernel, &name))
            }
            Err(error) => Err(told(error, "cannot ask for updates")),
        }
    }

    /// What the server offered the last time, without asking it. Metadata that have expired since are used.
    ///
    /// # Errors
    ///
    /// Nothing was fetched yet, or it is damaged.
    pub fn stored(system: &System, config: &Config, kernel: &Kernel) -> Result<Self> {
        let name = kernel.hash();
        let initial = initial_root(&system.root)?;
        let store = Folder::new(store(system, config, &name));
        let stale = kcare_tuf::client::Stale::Report;
        let client = Client::offline(store, &initial, Time::now(), Limits::default(), stale)
            .map_err(|error| told(error, "cannot use what was fetched before"))?;
        Self::of(client, name)
    }

    fn of(client: Client<Folder>, kernel: String) -> Result<Self> {
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
                .detail(format!("offered for  {}", level.kernel)));
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

    /// The level to go to: the highest that the settings allow.
    pub fn best(&self, config: &Config, held: &[u32], now: Time) -> Option<&Record> {
        let allowed = |level: &&Record| {
            let age = Time::parse(&level.published)
                .map(|time| now.unix_seconds().saturating_sub(time.unix_seconds()));
            let old_enough =
                age.is_ok_and(|age| age >= i64::try_from(config.delay).unwrap_or(i64::MAX));
            config.allows(level.level)
                && (config.delay == 0 || old_enough)
                && !held.contains(&level.level)
        };
        self.levels.iter().rev().find(allowed)
    }

    /// The payload of a level.
    ///
    /// # Errors
    ///
    /// It cannot be fetched, or is not what was signed.
    pub fn payload(&self, server: &Server, level: &Record) -> Result<Vec<u8>> {
        self.download(server, &payload_name(level.level))
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

    /// Whether bytes are the payload of a level, as it was signed.
    pub fn is_payload(&self, level: &Record, bytes: &[u8]) -> bool {
        let name = payload_name(level.level);
        self.client
            .target(&name)
            .is_ok_and(|target| target.check(&name, bytes).is_ok())
    }
}

fn open(system: &System, config: &Config, kernel: &str) -> Result<Client<Folder>> {
    let initial = initial_root(&system.root)?;
    let folder = store(system, config, kernel);
    std::fs::create_dir_all(&folder).map_err(|e| {
        let cannot = format!("cannot make {}.", folder.display());
        Error::new(Kind::Disk, cannot)
            .caused_by(e)
            .hint("run it as root.")
    })?;
    Client::open(
        Folder::new(folder),
        &initial,
        Time::now(),
        Limits::default(),
    )
    .map_err(|error| told(error, "cannot use the first root"))
}

fn store(system: &System, config: &Config, kernel: &str) -> PathBuf {
    // A channel of its own: a switch to a slower one is no attack.
    let channel = match config.prefix.as_str() {
        "" => "default".to_owned(),
        prefix => format!("channel-{prefix}"),
    };
    system.root.join(STORE).join(channel).join(kernel)
}

fn initial_root(root: &Path) -> Result<Vec<u8>> {
    for place in ROOTS {
        match std::fs::read(root.join(place)) {
            Ok(bytes) => return Ok(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(Error::new(Kind::Disk, format!("cannot read /{place}.")).caused_by(e))
            }
        }
    }
    Err(
        Error::config("nothing says whose updates are to be trusted.")
            .detail(format!("there is neither /{} nor /{}", ROOTS[0], ROOTS[1]))
            .hint("put the vendor's 1.root.json there."),
    )
}

fn channel_path(prefix: &str, kernel: &str) -> String {
    match prefix {
        "" => kernel.to_owned(),
        prefix => format!("{prefix}/{kernel}"),
    }
}

/// The error for a kernel that the vendor has nothing for.
fn unsupported(kernel: &Kernel, hash: &str) -> Error {
    Error::new(
        Kind::Server,
        format!("kernel {} is not supported.", kernel.release),
    )
    .detail(format!("the server has nothing for {hash}"))
    .hint("boot a kernel that the vendor supports, or set another PREFIX.")
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
    Error::new(kind, format!("{cannot}: {error}.")).hint(hint)
}
