// SPDX-License-Identifier: GPL-2.0

//! What the service without privileges has downloaded, for the one with privileges: a slice of the vendor's tree.
//!
//! ```text
//! /var/cache/kcare/tree/[CHANNEL/]HASH/N.root.json, N.snapshot.json, N.targets.json, timestamp.json
//! /var/cache/kcare/tree/HASH/t/…
//! ```
//!
//! `_kcare` owns it, so root takes it for no more than a server: all is verified again, with root's own metadata, and
//! nothing is opened that is not a file below the folder. Root never writes there.
//!
//! A reader finds the new state or the old one: files that a timestamp leads to are written before it, and what it does
//! not lead to any more goes after it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kcare_tuf::fetch::{Fetch, FetchError, Fetched};
use kcare_tuf::file;
use rustix::fs::{openat, Mode, OFlags, CWD};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};
use crate::System;

/// The cache of the service, below the root of the system.
pub const CACHE: &str = "var/cache/kcare";

/// Keeps root from writing to another user's folder, who could have put a link there.
///
/// # Errors
///
/// [`Kind::User`].
pub fn check_owner(system: &System) -> Result<()> {
    let folder = system.root.join(CACHE);
    let is_others = std::fs::metadata(&folder).is_ok_and(|meta| meta.uid() != 0);
    if !is_others || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::user(format!(
        "{} is another user's, and root does not write there.",
        folder.display()
    ))
    .hint(
        "run `systemctl start kcare-fetch`; or `kcarectl --update`, which does without the cache.",
    ))
}

/// The tree in the cache.
pub fn tree(system: &System) -> PathBuf {
    system.root.join(CACHE).join("tree")
}

/// Reads a file below another user's folder, at most `limit` bytes of it.
///
/// # Errors
///
/// It is not there, is too long, or is no file of its own below the folder: a link, a pipe, a device.
pub fn read(cache: &Path, path: &str, limit: u64) -> std::result::Result<Vec<u8>, FetchError> {
    let other = |e: Errno| match e {
        Errno::NOENT => FetchError::NotFound,
        Errno::LOOP => FetchError::Other("it is a link".to_owned()),
        _ => FetchError::Other(io::Error::from(e).to_string()),
    };
    // Part by part, as openat2() is not there for a service that may make no set-user-ID files. A pipe would wait for
    // its writer without NONBLOCK.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let below = flags | OFlags::NOFOLLOW;
    let mut at = openat(CWD, cache, flags | OFlags::DIRECTORY, Mode::empty()).map_err(other)?;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if matches!(part, "" | "." | "..") {
            return Err(FetchError::Other("its path leads elsewhere".to_owned()));
        }
        let kind = match parts.peek() {
            Some(_) => OFlags::DIRECTORY,
            None => OFlags::empty(),
        };
        at = openat(&at, part, below | kind, Mode::empty()).map_err(other)?;
    }
    let opened = File::from(at);
    let io_error = |e: io::Error| FetchError::Other(e.to_string());
    if !opened.metadata().map_err(io_error)?.is_file() {
        return Err(FetchError::Other("it is not a file".to_owned()));
    }
    file::read_from(opened, limit)
        .map_err(io_error)?
        .ok_or(FetchError::TooLong)
}

/// A folder of the tree that is being brought up to date.
#[derive(Debug)]
pub struct Mirror {
    folder: PathBuf,
}

impl Mirror {
    /// That at `path`, which is relative to the tree.
    pub fn new(system: &System, path: &str) -> Self {
        Self {
            folder: tree(system).join(path),
        }
    }

    /// Whether a file has these bytes.
    pub fn has(&self, name: &str, bytes: &[u8]) -> bool {
        std::fs::read(self.folder.join(name)).is_ok_and(|found| found == bytes)
    }

    /// A file, if it is there.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join(name)).ok()
    }

    /// Writes a file, unless it is there with these bytes.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if self.has(name, bytes) {
            return Ok(());
        }
        let path = self.folder.join(name);
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| file::write(&path, bytes))
            .map_err(|e| cannot_write(&path, e))
    }

    /// Removes the files that are not in `wanted`, but for those that `keep` wants.
    pub fn retain(&self, wanted: &BTreeSet<String>, keep: impl Fn(&str) -> bool) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let stays = |name: &str| wanted.contains(name) || keep(name);
            if is_file && !name.to_str().is_some_and(stays) {
                // What cannot be removed stays for the next time.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Fetches, and keeps each root that comes by: whoever has an older one has to follow the chain.
#[derive(Debug)]
pub struct Keeper<'a, F> {
    /// Where from.
    pub from: F,
    /// Where to.
    pub mirror: &'a Mirror,
    /// Why a root could not be kept, which is no fault of the server.
    pub failure: RefCell<Option<Error>>,
}

impl<F: Fetch> Fetch for Keeper<'_, F> {
    fn fetch(&self, path: &str, limit: u64) -> std::result::Result<Vec<u8>, FetchError> {
        let bytes = self.from.fetch(path, limit)?;
        if path.ends_with(".root.json") && !path.contains('/') {
            if let Err(error) = self.mirror.write(path, &bytes) {
                let told = FetchError::Other(error.to_string());
                self.failure.replace(Some(error));
                return Err(told);
            }
        }
        Ok(bytes)
    }

    fn fetch_if_changed(
        &self,
        path: &str,
        limit: u64,
        etag: Option<&str>,
    ) -> std::result::Result<Fetched, FetchError> {
        self.from.fetch_if_changed(path, limit, etag)
    }
}

fn cannot_write(path: &Path, e: io::Error) -> Error {
    Error::new(Kind::Disk, format!("cannot write {}.", path.display()))
        .caused_by(e)
        .hint("check the file system of /var/cache/kcare, and that `_kcare` may write there.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_hostile_owner_puts_there() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("k")).unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::write(tree.join("k/good"), "good").unwrap();
        symlink("../../secret", tree.join("k/link")).unwrap();
        symlink("..", tree.join("up")).unwrap();
        let pipe = rustix::fs::mknodat(
            CWD,
            tree.join("k/pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        );
        pipe.unwrap();
        assert_eq!(read(&tree, "k/good", 4).unwrap(), b"good");
        assert_eq!(read(&tree, "k/good", 3), Err(FetchError::TooLong));
        assert_eq!(read(&tree, "k/none", 4), Err(FetchError::NotFound));
        for path in [
            "k/link",
            "up/secret",
            "k/pipe",
            "k",
            "../secret",
            "k/../../secret",
        ] {
            let found = read(&tree, path, 100);
            assert!(
                matches!(found, Err(FetchError::Other(_))),
                "{path}: {found:?}"
            );
        }
    }
}
