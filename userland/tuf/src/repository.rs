// SPDX-License-Identifier: GPL-2.0

//! What a publisher needs: documents become signed files with the names under which clients ask for them.
//!
//! A file is compact JSON with sorted names, so that the same documents and keys always give the same bytes.
//!
//! Write in the order in which nobody sees half of a release: target files, then targets, snapshot, root, and the
//! timestamp last. A [`crate::client::Client`] with a [`crate::fetch::Folder`] verifies what was written.

use std::path::{Path, PathBuf};

use crate::client::target_path;
use crate::error::{Error, Malformed, Result, Role};
use crate::file;
use crate::key::Signer;
use crate::metadata::{Document, Root, Snapshot, Target, Targets, Timestamp, Unverified};

/// The file of a document, signed.
///
/// # Errors
///
/// [`Error::Malformed`] if a client would refuse the document.
pub fn sign<T: Document>(document: &T, signers: &[&Signer]) -> Result<Vec<u8>> {
    let mut file = Unverified::of(document)?;
    for signer in signers {
        file.put_signature(signer.sign(file.message()));
    }
    to_bytes(&file)
}

/// Adds a signature to a file, or replaces that of the same key, for keys that are in different hands.
///
/// # Errors
///
/// [`Error::Malformed`] if it is not the file of this role.
pub fn add_signature(role: Role, bytes: &[u8], signer: &Signer) -> Result<Vec<u8>> {
    let mut file = Unverified::parse(role, bytes)?;
    match role {
        Role::Root => drop(file.document::<Root>()?),
        Role::Timestamp => drop(file.document::<Timestamp>()?),
        Role::Snapshot => drop(file.document::<Snapshot>()?),
        Role::Targets => drop(file.document::<Targets>()?),
    }
    file.put_signature(signer.sign(file.message()));
    to_bytes(&file)
}

fn to_bytes(file: &Unverified) -> Result<Vec<u8>> {
    serde_json::to_vec(&file.to_value()).map_err(|error| Error::Malformed {
        role: file.role(),
        reason: Malformed::Json {
            line: error.line(),
            column: error.column(),
            reason: error.to_string(),
        },
    })
}

/// Writes the file of a document into the folder of the metadata, under the name of its version as `root` wants it. A
/// version is never changed: one that is there with the same content stays, with another it is an error.
///
/// # Errors
///
/// [`Error::Exists`], [`Error::Store`].
pub fn write<T: Document>(
    folder: &Path,
    root: &Root,
    document: &T,
    bytes: &[u8],
) -> Result<PathBuf> {
    let name = root.path_of(T::ROLE, document.version());
    let may_change = name == T::ROLE.file_name();
    put(&folder.join(&name), &name, bytes, may_change)
}

/// Writes a target file into the folder of the target files, under its name and, if `root` wants it, its hash.
///
/// # Errors
///
/// [`Error::TargetName`], also for a name with `%`, which clients take for an encoded one; [`Error::Length`] and
/// [`Error::Hash`] if it is not what `target` says; [`Error::Exists`], [`Error::Store`].
pub fn write_target(
    folder: &Path,
    root: &Root,
    name: &str,
    target: &Target,
    bytes: &[u8],
) -> Result<PathBuf> {
    target.check(name, bytes)?;
    if name.contains('%') {
        return Err(Error::TargetName {
            name: name.to_string(),
        });
    }
    let consistent = root.is_consistent();
    let path = target_path(name, target, consistent)?;
    let whole = folder.join(&path);
    if let Some(parent) = whole.parent() {
        std::fs::create_dir_all(parent).map_err(|error| store_error("create", &path, &error))?;
    }
    put(&whole, &path, bytes, !consistent)
}

fn put(path: &Path, name: &str, bytes: &[u8], may_change: bool) -> Result<PathBuf> {
    match std::fs::read(path) {
        Ok(old) if old == bytes => return Ok(path.to_path_buf()),
        Ok(_) if !may_change => {
            return Err(Error::Exists {
                file: name.to_string(),
            });
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(store_error("read", name, &error));
        }
        _ => {}
    }
    file::write(path, bytes).map_err(|error| store_error("write", name, &error))?;
    Ok(path.to_path_buf())
}

fn store_error(action: &'static str, file: &str, error: &std::io::Error) -> Error {
    Error::Store {
        action,
        file: file.to_string(),
        reason: error.to_string(),
    }
}
