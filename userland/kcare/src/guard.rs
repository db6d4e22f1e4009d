// SPDX-License-Identifier: GPL-2.0

//! Whether a level has crashed the machine: such a level is not applied again by itself.
//!
//! Before a level is pushed, /var/lib/kcare/guard.json says so, with the boot that it is. When the machine has been up
//! with it for long enough, or is shut down in order, the level is cleared. A level that was not, and that another boot
//! finds there, is held: an administrator releases it by applying it (`--update --force`), and a higher level is tried.

use std::path::PathBuf;

use kcare_tuf::file;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::System;

const PLACE: &str = "var/lib/kcare/guard.json";
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The level that is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Levels that are held.
    #[serde(default)]
    pub held: Vec<Held>,
}

/// A level that may turn out to crash the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// SHA-1 of the kernel's /proc/version.
    pub kernel: String,
    /// The level.
    pub level: u32,
    /// The boot that it was applied in.
    pub boot_id: String,
    /// When, in seconds since 1970.
    pub since: i64,
}

/// A level that was live when the machine went down uncleanly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// SHA-1 of the kernel's /proc/version.
    pub kernel: String,
    /// The level.
    pub level: u32,
    /// When it was applied, in seconds since 1970.
    pub since: i64,
}

impl Guard {
    /// Reads what is remembered, and holds the level of another boot that was not cleared.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`] if it cannot be read. A damaged file is as good as none: it was written whole, or never.
    pub fn read(system: &System) -> Result<Self> {
        let path = system.root.join(PLACE);
        let mut guard: Self = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(e) => {
                let cannot = format!("cannot read {}.", path.display());
                return Err(Error::new(Kind::Disk, cannot).caused_by(e));
            }
        };
        if let Some(trial) = guard
            .trial
            .take_if(|trial| trial.boot_id != boot_id(system))
        {
            guard
                .held
                .retain(|held| (&held.kernel, held.level) != (&trial.kernel, trial.level));
            guard.held.push(Held {
                kernel: trial.kernel,
                level: trial.level,
                since: trial.since,
            });
        }
        Ok(guard)
    }

    /// The levels of a kernel that are held.
    pub fn held_of(&self, kernel: &str) -> Vec<u32> {
        let of = self.held.iter().filter(|held| held.kernel == kernel);
        of.map(|held| held.level).collect()
    }

    /// Puts a level on trial, before it is pushed; it is not held any more.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`]: then it must not be pushed.
    pub fn begin(&mut self, system: &System, kernel: &str, level: u32, now: i64) -> Result<()> {
        self.held
            .retain(|held| held.kernel != kernel || held.level != level);
        self.trial = Some(Trial {
            kernel: kernel.to_owned(),
            level,
            boot_id: boot_id(system),
            since: now,
        });
        self.write(system)
    }

    /// Clears the level that is on trial if it has been live for `window` seconds.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn settle(&mut self, system: &System, window: u64, now: i64) -> Result<()> {
        let window = i64::try_from(window).unwrap_or(i64::MAX);
        let old = |trial: &Trial| now.saturating_sub(trial.since) >= window;
        match self.trial.as_ref().is_some_and(old) {
            true => self.clear(system),
            false => Ok(()),
        }
    }

    /// Clears the level that is on trial: it was not pushed, it is taken back, it has been live for long enough, or the
    /// machine is being shut down.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn clear(&mut self, system: &System) -> Result<()> {
        self.trial = None;
        self.write(system)
    }

    /// Writes what is remembered.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn write(&self, system: &System) -> Result<()> {
        let path = system.root.join(PLACE);
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            file::write(&path, crate::json(self).as_bytes())
        };
        write().map_err(|e| {
            Error::new(Kind::Disk, format!("cannot write {}.", path.display()))
                .caused_by(e)
                .hint("check the file system of /var/lib/kcare; the kernel is as before.")
        })
    }
}

/// The running kernel's boot, or nothing where /proc does not tell.
fn boot_id(system: &System) -> String {
    let place: PathBuf = system.root.join(BOOT_ID);
    std::fs::read_to_string(place)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn boot(system: &System, id: &str) {
        let path = system.root.join(BOOT_ID);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, id).unwrap();
    }

    #[test]
    fn a_level_that_another_boot_finds_on_trial_is_held() {
        let root = tempfile::tempdir().unwrap();
        let system = System {
            root: root.path().to_owned(),
            device: PathBuf::new(),
        };
        boot(&system, "one\n");
        let mut guard = Guard::read(&system).unwrap();
        assert_eq!(guard, Guard::default());
        guard.begin(&system, "kernel", 9, 5).unwrap();
        // The same boot, and another kernel.
        let again = Guard::read(&system).unwrap();
        assert_eq!(again, guard);
        assert!(again.held_of("kernel").is_empty());
        // The machine has crashed.
        boot(&system, "two\n");
        let mut after = Guard::read(&system).unwrap();
        assert_eq!(after.held_of("kernel"), [9]);
        assert!(after.held_of("other").is_empty());
        // It stays held when nobody has written it yet, and when somebody has.
        assert_eq!(Guard::read(&system).unwrap(), after);
        after.write(&system).unwrap();
        boot(&system, "three\n");
        assert_eq!(Guard::read(&system).unwrap().held_of("kernel"), [9]);
        // An administrator applies it all the same, and it lasts.
        after.begin(&system, "kernel", 9, 6).unwrap();
        assert!(after.held_of("kernel").is_empty());
        after.settle(&system, 10, 15).unwrap();
        assert!(after.trial.is_some());
        after.settle(&system, 10, 16).unwrap();
        assert!(after.trial.is_none());
        boot(&system, "four\n");
        assert_eq!(Guard::read(&system).unwrap(), Guard::default());
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let root = tempfile::tempdir().unwrap();
        let system = System {
            root: root.path().to_owned(),
            device: PathBuf::new(),
        };
        let path = root.path().join(PLACE);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{\"trial\": {").unwrap();
        assert_eq!(Guard::read(&system).unwrap(), Guard::default());
    }
}
