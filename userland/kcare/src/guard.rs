// SPDX-License-Identifier: GPL-2.0

//! Whether a level has crashed the machine: such a level is not applied again by itself.
//!
//! Before a level is pushed, /var/lib/kcare/trial.json says so, with the boot that it is. When the machine has been up
//! with it for long enough, or is shut down in order, that file goes. A trial of another boot, which nobody has ended, is
//! held against the level: held.json has it from then on, until an administrator applies the level all the same
//! (`--update --force`). A higher level is tried. Both files may be read by everybody.

use std::path::Path;

use kcare_tuf::file;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::{kernel, System};

/// What is on trial. The timer that ends trials looks for this file (kcare-settle.service).
const TRIAL: &str = "var/lib/kcare/trial.json";
const HELD: &str = "var/lib/kcare/held.json";

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The level that is on trial in this boot.
    pub trial: Option<Trial>,
    /// Levels that are held.
    pub held: Vec<Held>,
    /// A trial of another boot is among them, and not yet in held.json.
    news: bool,
}

/// A level that may turn out to crash the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The boot that it was applied in.
    pub boot_id: String,
    /// The level.
    #[serde(flatten)]
    pub level: Held,
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

impl Held {
    fn is(&self, kernel: &str, level: u32) -> bool {
        self.kernel == kernel && self.level == level
    }
}

impl Guard {
    /// Reads what is remembered, and holds the level of another boot whose trial nobody has ended.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`] if it cannot be read. A damaged file is as good as none: it was written whole, or never.
    pub fn read(system: &System) -> Result<Self> {
        let trial: Option<Trial> = read(&system.root.join(TRIAL))?;
        let mut guard = Self {
            trial,
            held: read(&system.root.join(HELD))?.unwrap_or_default(),
            news: false,
        };
        let here = kernel::boot_id(&system.root);
        if let Some(ended) = guard.trial.take_if(|trial| trial.boot_id != here) {
            guard.release(&ended.level.kernel, ended.level.level);
            guard.held.push(ended.level);
            guard.news = true;
        }
        Ok(guard)
    }

    /// The levels of a kernel that are held, ascending.
    pub fn held_of(&self, kernel: &str) -> Vec<u32> {
        let of = self.held.iter().filter(|held| held.kernel == kernel);
        let mut levels: Vec<u32> = of.map(|held| held.level).collect();
        levels.sort_unstable();
        levels
    }

    /// Writes down what [`Guard::read`] has found to be held, before anything else is tried. Without news nothing is
    /// written.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn remember(&mut self, system: &System) -> Result<()> {
        if self.news {
            // In this order: if power fails in between, it is found once more.
            write(&system.root.join(HELD), &self.held)?;
            remove(&system.root.join(TRIAL))?;
            self.news = false;
        }
        Ok(())
    }

    /// Puts a level on trial, before it is pushed; it is not held any more.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`]: then it must not be pushed.
    pub fn begin(&mut self, system: &System, kernel: &str, level: u32, now: i64) -> Result<()> {
        self.remember(system)?;
        let trial = Trial {
            boot_id: kernel::boot_id(&system.root),
            level: Held {
                kernel: kernel.to_owned(),
                level,
                since: now,
            },
        };
        write(&system.root.join(TRIAL), &trial)?;
        self.trial = Some(trial);
        if !self.held_of(kernel).contains(&level) {
            return Ok(());
        }
        self.release(kernel, level);
        write(&system.root.join(HELD), &self.held)
    }

    /// Ends the trial if the level has been live for `window` seconds.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn settle(&mut self, system: &System, window: u64, now: i64) -> Result<()> {
        let window = i64::try_from(window).unwrap_or(i64::MAX);
        let old = |trial: &Trial| now.saturating_sub(trial.level.since) >= window;
        match self.trial.as_ref().is_some_and(old) {
            true => self.clear(system),
            false => Ok(()),
        }
    }

    /// Ends the trial: the level was not pushed, it is taken back, it has been live for long enough, or the machine is
    /// being shut down.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`].
    pub fn clear(&mut self, system: &System) -> Result<()> {
        match self.trial.take() {
            Some(_) => remove(&system.root.join(TRIAL)),
            None => Ok(()),
        }
    }

    fn release(&mut self, kernel: &str, level: u32) {
        self.held.retain(|held| !held.is(kernel, level));
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => {
            let cannot = format!("cannot read {}.", path.display());
            Err(Error::new(Kind::Disk, cannot).caused_by(e))
        }
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    file::make_folder_of(path)
        .and_then(|()| file::write(path, crate::json(value).as_bytes()))
        .map_err(|e| cannot_write(path, e))
}

fn remove(path: &Path) -> Result<()> {
    file::remove(path).map_err(|e| cannot_write(path, e))
}

fn cannot_write(path: &Path, e: std::io::Error) -> Error {
    Error::new(Kind::Disk, format!("cannot write {}.", path.display()))
        .caused_by(e)
        .hint("check the file system of /var/lib/kcare; the kernel is as before.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

    fn boot(system: &System, id: &str) {
        let path = system.root.join(BOOT_ID);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, id).unwrap();
    }

    #[test]
    fn a_level_that_crashed_the_machine_is_held_until_somebody_decides() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        boot(&system, "one\n");
        let mut guard = Guard::read(&system).unwrap();
        assert_eq!(guard, Guard::default());
        guard.begin(&system, "kernel", 9, 5).unwrap();
        // The same boot.
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
        after.remember(&system).unwrap();
        assert!(!system.root.join(TRIAL).exists());
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
    fn a_second_level_on_trial_does_not_hide_the_first_that_crashed() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        boot(&system, "one\n");
        let mut guard = Guard::read(&system).unwrap();
        guard.begin(&system, "kernel", 9, 5).unwrap();
        boot(&system, "two\n");
        let mut guard = Guard::read(&system).unwrap();
        guard.begin(&system, "kernel", 10, 6).unwrap();
        boot(&system, "three\n");
        assert_eq!(Guard::read(&system).unwrap().held_of("kernel"), [9, 10]);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        let path = root.path().join(TRIAL);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{\"boot_id\": ").unwrap();
        assert_eq!(Guard::read(&system).unwrap(), Guard::default());
    }
}
