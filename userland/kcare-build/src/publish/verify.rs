// SPDX-License-Identifier: GPL-2.0

//! Proves a tree whole, as a client sees it: each repository is read with the very client that agents have, and
//! everything that it offers is fetched and compared with what is said of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Error, Result};
use kcare_tuf::client::{Client, Limits};
use kcare_tuf::error::Role;
use kcare_tuf::fetch::Folder;
use kcare_tuf::level::{fixes_name, payload_name, Fixes, Record, TARGETS};
use kcare_tuf::metadata::{Document, Target};
use kcare_tuf::store::Memory;
use kcare_tuf::time::Time;
use serde::Serialize;

use super::keys::Chain;
use super::tree::{self, names, Place};
use super::VerifyArgs;
use crate::inspect::Summary;
use crate::sign::{Certificates, DEVELOPMENT};

/// What was found in one repository.
#[derive(Debug, Serialize)]
struct Found {
    /// Channel, empty for the fastest.
    channel: String,
    /// SHA-1 of the kernel's /proc/version.
    kernel: String,
    /// The levels that are offered, ascending.
    levels: Vec<u32>,
    /// When the timestamp expires.
    expires: Option<String>,
    /// What a client would be refused.
    wrong: Vec<String>,
    /// What is no fault, and should be looked at.
    notes: Vec<String>,
    /// Whether a publisher that is at work may be what is wrong.
    #[serde(skip)]
    unsettled: bool,
}

impl Found {
    /// Notes what looks so, too, while a publisher is at work.
    fn note_unsettled(&mut self, note: String) {
        self.notes.push(note);
        self.unsettled = true;
    }
}

/// What a tree is held against.
struct Against {
    /// The first root, as clients have it.
    root: Option<Vec<u8>>,
    /// Certificates of payloads.
    certificates: Option<Certificates>,
    /// The time.
    now: Time,
}

/// A repository of a tree, and what it is held against.
#[derive(Clone, Copy)]
struct Subject<'a> {
    path: &'a Path,
    place: &'a Place,
    against: &'a Against,
}

/// Verifies all repositories of a tree; whether nothing is wrong.
///
/// # Errors
///
/// There is no tree.
pub fn run(args: &VerifyArgs, now: Time) -> Result<bool> {
    let (path, json) = (&args.tree, args.json);
    let read =
        |file: &PathBuf| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let against = Against {
        root: args.root.as_ref().map(read).transpose()?,
        certificates: Certificates::find(&args.cert)?,
        now,
    };
    tree::check_tree(path)?;
    let places = tree::places(path)?;
    let all: Vec<Found> = places
        .iter()
        .map(|place| {
            let subject = Subject {
                path,
                place,
                against: &against,
            };
            subject.look()
        })
        .collect();
    let fine = all.iter().all(|found| found.wrong.is_empty());
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(fine);
    }
    for (place, found) in places.iter().zip(&all) {
        let levels: Vec<String> = found.levels.iter().map(u32::to_string).collect();
        println!(
            "{}: {}, level(s) {}, good until {}",
            tree::folder(path, place).display(),
            if found.wrong.is_empty() {
                "whole"
            } else {
                "NOT WHOLE"
            },
            if levels.is_empty() {
                "none".to_owned()
            } else {
                levels.join(", ")
            },
            found.expires.as_deref().unwrap_or("?")
        );
        for wrong in &found.wrong {
            println!("  wrong: {wrong}");
        }
        for note in &found.notes {
            println!("  note: {note}");
        }
    }
    Ok(fine)
}

impl Subject<'_> {
    /// Looks at it, and a second time if a publisher at work may be what is wrong with it.
    fn look(self) -> Found {
        let first = self.look_once();
        if !first.unsettled {
            return first;
        }
        tree::wait_for_publisher(self.path);
        let mut second = self.look_once();
        second.notes.retain(|note| first.notes.contains(note));
        second
    }

    fn look_once(self) -> Found {
        let mut found = Found {
            channel: self.place.channel.clone(),
            kernel: self.place.kernel.clone(),
            levels: Vec::new(),
            expires: None,
            wrong: Vec::new(),
            notes: Vec::new(),
            unsettled: false,
        };
        if let Err(error) = self.read(&mut found) {
            found.wrong.push(format!("{error:#}"));
        }
        if self.against.certificates.is_none() {
            found.notes.push(format!(
            "the signatures of payloads were not checked, as there is no {DEVELOPMENT}: name a certificate by --cert"
        ));
        }
        found
    }

    fn read(self, found: &mut Found) -> Result<()> {
        let Self {
            path,
            place,
            against,
        } = self;
        let now = against.now;
        let folder = tree::folder(path, place);
        // Clients of any age come: who has the first root, and who has a later one.
        let chain = Chain::read(&folder)?.files;
        let first = chain
            .get("1.root.json")
            .context("there is no 1.root.json")?;
        if let Some(root) = &against.root {
            ensure!(
                root == first,
                "1.root.json is not the root that clients have"
            );
        }
        let mut client = Client::open(Memory::default(), first, now, Limits::default())?;
        client.refresh(&Folder::new(&folder))?;
        found.expires = client.timestamp().map(|t| t.common.expires.to_string());
        ensure!(
            client.root().is_consistent(),
            "the root does not ask for consistent snapshots"
        );
        let (Some(targets), Some(snapshot)) = (client.targets(), client.snapshot()) else {
            anyhow::bail!("it has no targets");
        };
        for (role, expires) in [
            (Role::Root, client.root().common.expires),
            (Role::Targets, targets.common.expires),
            (Role::Snapshot, snapshot.common.expires),
        ] {
            let days = if role == Role::Snapshot { 7 } else { 30 };
            if expires < now.plus_days(days) {
                found.notes.push(format!("the {role} expires at {expires}"));
            }
        }

        let store = Folder::new(path.join(&place.kernel).join(TARGETS));
        let mut wrong = Vec::new();
        for (name, target) in &targets.targets {
            let mut one = || -> Result<()> {
                let bytes = client.download(&store, name)?;
                self.check_target(&client, &store, (name, target), &bytes, found)
            };
            if let Err(error) = one() {
                wrong.push(format!("{name}: {error:#}"));
            }
        }
        found.wrong.extend(wrong);
        found.levels.sort_unstable();

        check_readable(&folder)?;
        if !place.channel.is_empty() {
            check_mode(&path.join(&place.channel))?;
            check_readable(&path.join(&place.kernel).join(TARGETS))?;
        }

        let highest = found.levels.last().copied().unwrap_or(0);
        let version = fs::read_to_string(folder.join("version")).unwrap_or_default();
        if version != format!("{highest}\n") {
            found.note_unsettled(format!(
            "`version` says `{}` to old clients, and level {highest} is offered: the publisher was stopped; `refresh` \
             mends it",
            version.trim_end()
        ));
        }
        for role in [Role::Targets, Role::Snapshot] {
            let named = match role {
                Role::Targets => targets.version(),
                _ => snapshot.version(),
            };
            let highest = tree::highest_version(&folder, role)?;
            if highest > named {
                found.note_unsettled(format!(
                    "{} is named by nobody: a publisher was stopped",
                    role.versioned_name(highest)
                ));
            }
        }
        Ok(())
    }

    /// Compares a target with what is said of it.
    fn check_target(
        self,
        client: &Client<Memory>,
        store: &Folder,
        (name, target): (&str, &Target),
        bytes: &[u8],
        found: &mut Found,
    ) -> Result<()> {
        let Self {
            path,
            place,
            against,
        } = self;
        let targets = client.targets().context("it has no targets")?;
        let Some(record) = Record::of(name, target).map_err(Error::msg)? else {
            let level = name
                .strip_suffix(".fixes.json")
                .and_then(|level| level.parse().ok());
            let payload = level.map(payload_name);
            ensure!(
                payload.is_some_and(|payload| targets.targets.contains_key(&payload)),
                "it is neither a payload nor the fixes of one"
            );
            return Ok(());
        };
        ensure!(
            record.kernel == place.kernel,
            "it is of the kernel {}",
            record.kernel
        );
        if let Some(time) = targets.withdrawn.get(&record.level) {
            bail!("it is offered, although it was withdrawn at {time}");
        }
        let payload = Summary::new(bytes)?;
        ensure!(payload.signature.is_some(), "the payload is not signed");
        if let Some(certificates) = &against.certificates {
            certificates.verify(bytes)?;
        }
        ensure!(
            payload.level == record.level,
            "the payload is level {}",
            payload.level
        );
        ensure!(
            payload.release == record.release && payload.build_id == record.build_id,
            "the payload is for {} with build-id {}",
            payload.release,
            payload.build_id
        );
        ensure!(
            payload.description == format!("{};{}", record.level, record.effective),
            "the payload says `{}`, and the tree that it is as good as {}",
            payload.description,
            record.effective
        );
        ensure!(
            record.fixes == fixes_name(record.level),
            "it names {} as its fixes",
            record.fixes
        );
        let list = client.download(store, &record.fixes)?;
        let fixes: Fixes = serde_json::from_slice(&list).context("its fixes are damaged")?;
        let same = fixes.kernel == record.kernel
            && fixes.level == record.level
            && fixes.release == record.release
            && fixes.base == record.base
            && fixes.effective == record.effective;
        ensure!(same, "its fixes are those of something else");
        let listed: Vec<(&str, &str)> = (fixes.fixes.iter())
            .map(|fix| (fix.id.as_deref().unwrap_or_default(), fix.title.as_str()))
            .collect();
        let carried: Vec<(&str, &str)> = (payload.fixes.iter())
            .map(|fix| (fix.id.as_str(), fix.title.as_str()))
            .collect();
        ensure!(
            listed == carried,
            "its fixes are not those that the payload has"
        );
        fixes.check_effective().map_err(Error::msg)?;
        found.levels.push(record.level);

        let info = path
            .join(&place.kernel)
            .join(record.level.to_string())
            .join("kpatch.info");
        let text = fixes.info("debian", &record.published);
        if fs::read_to_string(&info).ok().as_ref() != Some(&text) {
            found.note_unsettled(format!("{} does not tell the fixes", info.display()));
        }
        Ok(())
    }
}

/// Makes sure that a web server can read a folder and all that is in it, whoever runs it.
fn check_readable(path: &Path) -> Result<()> {
    check_mode(path)?;
    for name in names(path)? {
        let path = path.join(name);
        match path.is_dir() {
            true => check_readable(&path)?,
            false => check_mode(&path)?,
        }
    }
    Ok(())
}

fn check_mode(path: &Path) -> Result<()> {
    // What is missing is told elsewhere, and what is being written has another name the next moment.
    let Ok(about) = fs::metadata(path) else {
        return Ok(());
    };
    let needed = if about.is_dir() { 0o5 } else { 0o4 };
    ensure!(
        about.permissions().mode() & needed == needed,
        "a web server cannot read {}, which has the mode {:04o}; run `chmod -R a+rX` on the tree",
        path.display(),
        about.permissions().mode() & 0o7777
    );
    Ok(())
}
