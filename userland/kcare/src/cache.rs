// SPDX-License-Identifier: GPL-2.0

//! The levels that were downloaded, so that the kernel is patched at boot before the network is there.
//!
//! Whatever is in it is verified again when it is used: by `kcare_tuf` with the metadata in /var/lib/kcare, and by the
//! kernel.

use std::path::PathBuf;

use kcare_tuf::file;

use crate::error::{Error, Kind, Result};
use crate::System;

/// Root's alone. What the service without privileges downloads is elsewhere, as root must not write to a folder of
/// another user.
const PLACE: &str = "var/lib/kcare/levels";

/// The cache of one kernel.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// That of the kernel with this hash.
    pub fn new(system: &System, kernel: &str) -> Self {
        Self {
            folder: system.root.join(PLACE).join(kernel),
        }
    }

    /// The payload of a level, if it is there.
    pub fn read(&self, level: u32) -> Option<Vec<u8>> {
        std::fs::read(self.path(level)).ok()
    }

    /// Keeps a payload; afterwards the file is the whole new one, or as before.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn write(&self, level: u32, payload: &[u8]) -> Result<()> {
        let path = self.path(level);
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| file::write(&path, payload))
            .map_err(|e| {
                Error::new(Kind::Disk, format!("cannot write {}.", path.display()))
                    .caused_by(e)
                    .hint("check the file system of /var/lib/kcare; the kernel is as before.")
            })
    }

    /// Removes all but the `keep` highest levels and the live one; what cannot be removed stays for the next time.
    pub fn prune(&self, keep: usize, live: u32) {
        let mut levels = self.levels();
        levels.sort_unstable_by(|a, b| b.cmp(a));
        for level in levels.into_iter().skip(keep).filter(|level| *level != live) {
            let _ = std::fs::remove_file(self.path(level));
        }
    }

    /// The levels that are there.
    fn levels(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter_map(|name| name.strip_suffix(".kpatch")?.parse().ok())
            .collect()
    }

    fn path(&self, level: u32) -> PathBuf {
        self.folder.join(format!("{level}.kpatch"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
