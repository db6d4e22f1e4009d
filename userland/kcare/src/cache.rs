// SPDX-License-Identifier: GPL-2.0

//! The levels that were downloaded, so that the kernel is patched at boot before the network is there.
//!
//! Whatever is in it is verified again when it is used: by `kcare_tuf` with the metadata in /var/lib/kcare, and by the
//! kernel.

use std::path::{Path, PathBuf};

use kcare_tuf::file;
use kcare_tuf::level::is_kernel;

use crate::apply::STATE;
use crate::error::{Error, Kind, Result};
use crate::System;

/// In root's folder. What the service without privileges downloads is elsewhere, as root must not write to a folder of
/// another user.
const LEVELS: &str = "levels";

/// The cache of one kernel.
#[derive(Debug)]
pub struct Cache {
    base: PathBuf,
    kernel: String,
}

impl Cache {
    /// That of the kernel with this hash.
    pub fn new(system: &System, kernel: &str) -> Self {
        Self {
            base: system.root.join(STATE),
            kernel: kernel.to_owned(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.base.join(LEVELS).join(&self.kernel)
    }

    /// The payload of a level, if it is there.
    pub fn read(&self, level: u32) -> Option<Vec<u8>> {
        std::fs::read(self.path(level)).ok()
    }

    /// Whether the payload of a level is there: root has applied it, or was about to.
    pub fn has(&self, level: u32) -> bool {
        self.path(level).exists()
    }

    /// Keeps a payload; afterwards the file is the whole new one, or as before.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn write(&self, level: u32, payload: &[u8]) -> Result<()> {
        let path = self.path(level);
        std::fs::create_dir_all(self.folder())
            .and_then(|()| file::write(&path, payload))
            .map_err(|e| {
                Error::new(Kind::Disk, format!("cannot write {}.", path.display()))
                    .caused_by(e)
                    .hint("check the file system of /var/lib/kcare; the kernel is as before.")
            })
    }

    /// Removes all but the `keep` highest levels and the live one, and what is root's of kernels that have not run for
    /// long; what cannot be removed stays for the next time.
    pub fn prune(&self, keep: usize, live: u32) {
        forget_other_kernels(&self.base, &self.kernel);
        let mut levels = self.levels();
        levels.sort_unstable_by(|a, b| b.cmp(a));
        for level in levels.into_iter().skip(keep).filter(|level| *level != live) {
            let _ = std::fs::remove_file(self.path(level));
        }
    }

    /// The levels that are there.
    fn levels(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(self.folder()).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter_map(|name| name.strip_suffix(".kpatch")?.parse().ok())
            .collect()
    }

    fn path(&self, level: u32) -> PathBuf {
        self.folder().join(format!("{level}.kpatch"))
    }
}

/// So long what belongs to a kernel that does not run is kept, in days: who boots it again finds it patched.
const DAYS: u64 = 180;

/// Removes what was kept for kernels that have not run for a long time, in root's folder or in the cache of the service.
/// What cannot be removed stays for the next time.
pub fn forget_other_kernels(base: &Path, running: &str) {
    let folders = |path: PathBuf| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let real = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        real.map(|entry| entry.path())
    };
    // Of each channel, or without one.
    let places = [LEVELS, "tree"].map(|name| base.join(name)).into_iter();
    let channels = folders(base.join("tree")).chain(folders(base.join("tuf")));
    let kernels = places.chain(channels).flat_map(folders);
    let named = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| is_kernel(name) && name != running)
    };
    for kernel in kernels.filter(|path| named(path)) {
        let modified = kernel.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() > DAYS * 24 * 3600) {
            let _ = std::fs::remove_dir_all(&kernel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_are_gone() {
        let root = tempfile::tempdir().unwrap();
        let [old, young, here] = ["a", "b", "c"].map(|digit| digit.repeat(40));
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let make = |path: String, time: Option<std::time::SystemTime>| {
            let path = root.path().join("base").join(path);
            std::fs::create_dir_all(&path).unwrap();
            let folder = std::fs::File::open(&path).unwrap();
            time.map_or(Ok(()), |time| folder.set_modified(time))
                .unwrap();
            path
        };
        let gone = ["levels", "tree", "tree/slow", "tuf/default"]
            .map(|place| make(format!("{place}/{old}"), Some(long_ago)));
        let kept = [
            make(format!("levels/{young}"), None),
            make(format!("tuf/default/{here}"), Some(long_ago)),
            make("tuf/default/other".to_owned(), Some(long_ago)),
        ];
        forget_other_kernels(&root.path().join("base"), &here);
        assert!(gone.iter().all(|path| !path.exists()), "{gone:?}");
        assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
    }

    #[test]
    fn what_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        let cache = Cache::new(&system, "kernel");
        assert_eq!(cache.read(1), None);
        for level in [9, 10, 1] {
            cache.write(level, &[level as u8]).unwrap();
        }
        cache.prune(2, 10);
        assert_eq!(cache.read(1), None);
        assert_eq!(cache.read(9), Some(vec![9]));
        assert_eq!(cache.read(10), Some(vec![10]));
    }
}
