// SPDX-License-Identifier: GPL-2.0

//! Local files: read up to a limit, and written so that power may fail at any instruction.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file's bytes; nothing if it is longer than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    read_from(File::open(path)?, limit)
}

/// All that comes; nothing as soon as it is more than `limit` bytes.
///
/// # Errors
///
/// What the system says.
pub fn read_from(reader: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
    Ok(fits.then_some(bytes))
}

/// Writes a file that is either the old one or the new one, whenever the machine stops. One process at a time may
/// write to a folder.
///
/// # Errors
///
/// What the system says.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    // Web servers name a content by its length and the second that it was written in (ETag); two that are written in one
    // second must not have the same name.
    let seconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    };
    if let Ok(former) = path.metadata().and_then(|meta| meta.modified()) {
        if seconds(file.metadata()?.modified()?) <= seconds(former) {
            file.set_modified(former + Duration::from_secs(1))?;
        }
    }
    // Without this the name may reach the disk before the bytes do.
    file.sync_all()?;
    drop(file);
    std::fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// Makes the folder of a file, if it is not there.
///
/// # Errors
///
/// What the system says.
pub fn make_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => std::fs::create_dir_all(folder),
        None => Ok(()),
    }
}

/// Opens the file of a lock, which is made if need be. Who can open a file can lock it, for reading as well, and so keep
/// its owner from the work; so nobody else can, also if it was left open to all.
///
/// # Errors
///
/// What the system says.
pub fn open_lock(path: &Path) -> io::Result<File> {
    const MODE: u32 = 0o600;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(MODE)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

/// Removes a file, if it is there, and makes that last.
///
/// # Errors
///
/// What the system says.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.and_then(|()| sync_folder(path)),
    }
}

/// Whether a file is what [`write`] had not finished when it was killed.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".new")
}

/// `.NAME.new` beside the file: a leftover is overwritten the next time.
fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    Ok(path.with_file_name(temporary))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_contents_of_one_second_differ_for_a_web_server() {
        let name = format!("kcare-tuf-file-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("timestamp.json");
        let mut times = Vec::new();
        for content in ["a", "b", "c"] {
            write(&path, content.as_bytes()).unwrap();
            let time = path.metadata().unwrap().modified().unwrap();
            times.push(time.duration_since(UNIX_EPOCH).unwrap().as_secs());
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    }
}
