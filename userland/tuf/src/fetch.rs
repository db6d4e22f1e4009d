// SPDX-License-Identifier: GPL-2.0

//! Where a client asks for files.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::file;

/// Fetches files below the base of a repository, or below the base of its target files.
pub trait Fetch {
    /// The bytes of the file at `path`, which is relative to the base, has `/` between its parts and is not encoded.
    ///
    /// # Errors
    ///
    /// [`FetchError::TooLong`] as soon as more than `limit` bytes have come, and the other reasons of [`FetchError`].
    fn fetch(&self, path: &str, limit: u64) -> Result<Vec<u8>, FetchError>;

    /// The same, but for the word that the file is still the one that had this `etag`.
    ///
    /// # Errors
    ///
    /// As [`Fetch::fetch`].
    fn fetch_if_changed(
        &self,
        path: &str,
        limit: u64,
        etag: Option<&str>,
    ) -> Result<Fetched, FetchError> {
        let _ = etag;
        let bytes = self.fetch(path, limit)?;
        Ok(Fetched::File { bytes, etag: None })
    }
}

/// Answer to [`Fetch::fetch_if_changed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The file is still the one that had the etag.
    NotModified,
    /// The file.
    File {
        /// Its bytes.
        bytes: Vec<u8>,
        /// The server's name of this content, for the next time.
        etag: Option<String>,
    },
}

/// Why a file could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The server does not have it, or does not give it (HTTP 403, 404).
    NotFound,
    /// It has more bytes than the limit.
    TooLong,
    /// Anything else, in the words of the system or the server.
    Other(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::NotFound => f.write_str("it is not there"),
            FetchError::TooLong => f.write_str("it is too long"),
            FetchError::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for FetchError {}

/// The URL of `path` below `base`. What may not stand in the path of a URL is percent-encoded, `?` and `#` too; `%20`
/// stays, because the names of target files are parts of URLs (specification 4.5).
pub fn url(base: &str, path: &str) -> String {
    let mut url = base.trim_end_matches('/').to_string();
    url.push('/');
    let bytes = path.as_bytes();
    for (i, &byte) in bytes.iter().enumerate() {
        let is_encoded = || {
            let digits = bytes.get(i.saturating_add(1)..i.saturating_add(3));
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let stays = match byte {
            b'%' => is_encoded(),
            b'/' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => true,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if stays {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// A repository in a local folder: a mirror on a disk, or one that was just written.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder is the base.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Fetch for Folder {
    fn fetch(&self, path: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        match file::read(&self.path.join(path), limit) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(FetchError::TooLong),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FetchError::NotFound),
            Err(error) => Err(FetchError::Other(error.to_string())),
        }
    }
}
