// SPDX-License-Identifier: GPL-2.0

//! One process at a time writes to a folder of the agent: the timer's and an administrator's commands can meet.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kcare_tuf::file;
use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

/// For so long the other one may take: a switch waits for tasks, 30 s unless that is set to another time.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

/// Is held until it is dropped, or the process ends, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of a folder, which is made if need be.
    ///
    /// # Errors
    ///
    /// [`Kind::Disk`] if the folder cannot be written, [`Kind::User`] if this user may not, or another process keeps it
    /// for two minutes.
    pub fn take(folder: &Path) -> Result<Self> {
        let file = open(folder).map_err(|e| cannot_write(folder, e))?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK) if start.elapsed() < PATIENCE => sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::user("another kcarectl is at work.")
                        .hint("wait until it has ended; `ps -C kcarectl` shows it."))
                }
                Err(e) => {
                    let cannot = format!("cannot lock {}.", folder.display());
                    return Err(Error::new(Kind::Disk, cannot).caused_by(io::Error::from(e)));
                }
            }
        }
    }

    /// Makes sure that this user may write to a folder, before anybody is asked for anything.
    ///
    /// # Errors
    ///
    /// Those of [`Lock::take`], but for other processes.
    pub fn check_rights(folder: &Path) -> Result<()> {
        open(folder).map_err(|e| cannot_write(folder, e)).map(drop)
    }
}

fn open(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    file::open_lock(&folder.join("lock"))
}

fn cannot_write(folder: &Path, e: io::Error) -> Error {
    let cannot = format!("cannot write to {}.", folder.display());
    Error::new(Kind::Disk, cannot)
        .caused_by(e)
        .hint("check its file system; the kernel is as before.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nobody_else_can_take_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lock");
        let mode = || file.metadata().unwrap().permissions().mode() & 0o777;
        drop(Lock::take(folder.path()).unwrap());
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        Lock::check_rights(folder.path()).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made");
        let lock = Lock::take(&path).unwrap();
        let other = std::thread::spawn(move || {
            let start = Instant::now();
            Lock::take(&path).unwrap();
            start.elapsed()
        });
        sleep(PAUSE * 2);
        drop(lock);
        assert!(other.join().unwrap() >= PAUSE);
    }
}
