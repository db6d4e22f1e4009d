// SPDX-License-Identifier: GPL-2.0

//! Revocation records: one by hand, and those that the machine keeps, which go to the kernel before anything is applied.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::device::Device;
use crate::error::{Error, Failure, Result};
use crate::explain::explain_take_back;
use crate::file;
use crate::state::State;
use crate::System;

/// Where the machine keeps records, below the root of the system; the kernel has forgotten them after a boot.
const FOLDER: &str = "etc/sysconfig/kcare/revoked";
/// What their names end in.
const EXTENSION: &str = "revoked";

/// Gives a record to the kernel, and returns what that has to say.
///
/// # Errors
///
/// The kernel refuses it.
pub fn give(device: &Device, path: &Path, record: &[u8], before: &State) -> Result<String> {
    let cannot = format!("cannot take {}", path.display());
    device
        .revoke(record)
        .map_err(|refusal| explain_take_back(&cannot, &refusal, before))
}

/// Gives all records that the machine keeps to the kernel, in the order of their names. One that is refused is told of on
/// stderr, and keeps nothing from being applied: the module may be another vendor's.
pub fn give_kept(system: &System, before: &State) {
    eprint!("{}", refusals(system, before));
}

/// The same; gives what has to be said, which is nothing if all were taken.
fn refusals(system: &System, before: &State) -> String {
    let said = |error: Error| Failure::from(&error).text("kcarectl");
    let paths = match kept(&system.root.join(FOLDER)) {
        Ok(paths) => paths,
        Err(error) => return said(error),
    };
    if paths.is_empty() {
        return String::new();
    }
    let device = match Device::open(&system.device) {
        Ok(device) => device,
        Err(error) => return said(error),
    };
    let refused = paths.iter().filter_map(|path| {
        let record = file::read(path);
        record
            .and_then(|record| give(&device, path, &record, before))
            .err()
    });
    refused.map(said).collect()
}

/// The records in a folder, in the order of their names.
fn kept(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if file::is_missing(&e) => return Ok(Vec::new()),
        Err(e) => {
            return Err(Error::config(format!("cannot read {}.", folder.display())).caused_by(e))
        }
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension() == Some(OsStr::new(EXTENSION)))
        .collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn records_are_found_by_their_names_and_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        let system = System::below(root.path());
        assert_eq!(kept(&folder).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(refusals(&system, &fixtures::nothing()), "");
        fs::create_dir_all(&folder).unwrap();
        for name in ["2.revoked", "1.revoked", "3.revoked.tmp", "revoked"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let names = ["1.revoked", "2.revoked"].map(|name| folder.join(name));
        assert_eq!(kept(&folder).unwrap(), names);
        // Without a module there is nobody to take them.
        let said = refusals(&system, &fixtures::nothing());
        assert!(said.contains("kcare module"), "{said}");
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        assert!(refusals(&system, &fixtures::nothing()).is_empty());
    }
}
