// SPDX-License-Identifier: GPL-2.0

//! Where a client keeps the metadata that it trusts.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::error::Role;
use crate::file;

/// Keeps one file for each role. What is in it is verified again each time that it is loaded, so that a damaged store
/// makes a client ask the repository again, and no more; but a store that others can write lets them roll back.
pub trait Store {
    /// The file of a role, if there is one.
    ///
    /// # Errors
    ///
    /// What the system says, or [`io::ErrorKind::InvalidData`] if the file is longer than `limit` bytes.
    fn load(&self, role: Role, limit: u64) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the file of a role: afterwards it is the new one, and if this fails, or the machine stops, the old one
    /// or the new one.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn save(&mut self, role: Role, bytes: &[u8]) -> io::Result<()>;

    /// Removes the file of a role, if there is one.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn remove(&mut self, role: Role) -> io::Result<()>;
}

/// A store that is gone with its client: for who only looks at a repository.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: BTreeMap<Role, Vec<u8>>,
}

impl Store for Memory {
    fn load(&self, role: Role, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self.files.get(&role) {
            Some(bytes) if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) => {
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("it is longer than {limit} bytes"),
                ))
            }
            found => Ok(found.cloned()),
        }
    }

    fn save(&mut self, role: Role, bytes: &[u8]) -> io::Result<()> {
        self.files.insert(role, bytes.to_vec());
        Ok(())
    }

    fn remove(&mut self, role: Role) -> io::Result<()> {
        self.files.remove(&role);
        Ok(())
    }
}

/// A folder with `root.json`, `timestamp.json`, `snapshot.json` and `targets.json`. One process at a time may write.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder, which has to be there when something is saved.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Store for Folder {
    fn load(&self, role: Role, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match file::read(&self.path.join(role.file_name()), limit) {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is longer than {limit} bytes"),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn save(&mut self, role: Role, bytes: &[u8]) -> io::Result<()> {
        file::write(&self.path.join(role.file_name()), bytes)
    }

    fn remove(&mut self, role: Role) -> io::Result<()> {
        file::remove(&self.path.join(role.file_name()))
    }
}
