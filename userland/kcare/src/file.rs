// SPDX-License-Identifier: GPL-2.0

//! Files that are not ours: whether they are there, and the payload in one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use kcare_payload::layout::MAX_PAYLOAD;

use crate::error::{Error, Result};

/// Whether a file is not there: neither itself, nor the folder that it would be in.
pub fn is_missing(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether a user lacks the right to a file, or nobody may write to it.
pub fn is_denied(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Reads a whole payload, at most `MAX_PAYLOAD` bytes; what is in it is for the kernel to judge.
///
/// # Errors
///
/// [`Kind::User`](crate::error::Kind) if it is not a readable regular file of 1 to `MAX_PAYLOAD` bytes.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let error = |why: &str| Error::user(format!("cannot read {}: {why}.", path.display()));
    let io_error = |e: io::Error| match e.kind() {
        _ if is_missing(&e) => error("there is no such file").hint("check the path."),
        io::ErrorKind::PermissionDenied => error("permission denied").hint("run it as root."),
        _ => error("input/output error").caused_by(e),
    };

    // Asked before opening, because opening a FIFO would wait for its writer.
    let meta = fs::metadata(path).map_err(io_error)?;
    if meta.is_dir() {
        return Err(
            error("it is a directory").hint("give one payload, a file that ends in `.kpatch`.")
        );
    }
    if !meta.is_file() {
        return Err(error("it is not a regular file")
            .hint("give one payload, a file that ends in `.kpatch`."));
    }

    let mut payload = Vec::with_capacity(meta.len().min(MAX_PAYLOAD as u64) as usize);
    File::open(path)
        .and_then(|file| file.take(MAX_PAYLOAD as u64 + 1).read_to_end(&mut payload))
        .map_err(io_error)?;
    if payload.is_empty() {
        return Err(error("it is empty").hint("fetch it again; the transfer was cut off."));
    }
    if payload.len() > MAX_PAYLOAD {
        return Err(error("it is too large")
            .detail(format!(
                "file     {} bytes",
                meta.len().max(payload.len() as u64)
            ))
            .detail(format!("largest  {MAX_PAYLOAD} bytes"))
            .hint("check that it is a payload, a file that ends in `.kpatch`."));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn refusal(path: &Path) -> String {
        let error = read(path).unwrap_err();
        assert_eq!(error.kind(), Kind::User);
        let prefix = format!("cannot read {}: ", path.display());
        error.to_string().strip_prefix(&prefix).unwrap().to_owned()
    }

    #[test]
    fn limits_of_the_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.kpatch");
        let file = File::create(&path).unwrap();
        assert_eq!(refusal(&path), "it is empty.");
        file.set_len(MAX_PAYLOAD as u64 + 1).unwrap();
        assert_eq!(refusal(&path), "it is too large.");
        file.set_len(MAX_PAYLOAD as u64).unwrap();
        assert_eq!(read(&path).unwrap().len(), MAX_PAYLOAD);
    }

    #[test]
    fn only_regular_files() {
        assert_eq!(refusal(Path::new("/")), "it is a directory.");
        assert_eq!(refusal(Path::new("/dev/zero")), "it is not a regular file.");
        assert_eq!(refusal(Path::new("/nonexistent")), "there is no such file.");
    }
}
