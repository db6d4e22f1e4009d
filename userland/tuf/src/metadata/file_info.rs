// SPDX-License-Identifier: GPL-2.0

//! What one document says of another file: version, length and hashes.

use serde_json::{Map, Value};

use super::fields::{as_object, as_string, Fields};
use crate::error::{Error, Malformed, Result};
use crate::key::{sha256, sha512};

/// The hashes of a file, in lower-case hexadecimal digits; at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// 64 digits.
    pub sha256: Option<String>,
    /// 128 digits.
    pub sha512: Option<String>,
    /// Hashes of other algorithms, which are not looked at.
    pub unrecognised: Map<String, Value>,
}

impl Hashes {
    /// The SHA-256 of these bytes, and no other.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: Some(sha256(bytes)),
            sha512: None,
            unrecognised: Map::new(),
        }
    }

    /// The one that is part of a target's path in a consistent snapshot: SHA-256 if there is one.
    pub fn prefix(&self) -> Option<&str> {
        self.sha256.as_deref().or(self.sha512.as_deref())
    }

    /// Compares each known hash; `file` is its name for the error.
    ///
    /// # Errors
    ///
    /// [`Error::Hash`].
    pub fn check(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let compare = |algorithm, expected: &Option<String>, hash: fn(&[u8]) -> String| {
            let Some(expected) = expected else {
                return Ok(());
            };
            let found = hash(bytes);
            if found == *expected {
                return Ok(());
            }
            Err(Error::Hash {
                file: file.to_string(),
                algorithm,
                expected: expected.clone(),
                found,
            })
        };
        compare("sha256", &self.sha256, sha256)?;
        compare("sha512", &self.sha512, sha512)
    }

    fn read(value: Value, path: String) -> Result<Self, Malformed> {
        let mut fields = as_object(value, path.clone())?;
        let mut digits = |name: &str, len: usize| {
            let Some(value) = fields.optional(name) else {
                return Ok(None);
            };
            let found = as_string(value, || fields.path(name))?;
            let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if found.len() == len && found.bytes().all(is_digit) {
                return Ok(Some(found));
            }
            Err(Malformed::Hash {
                field: fields.path(name),
                found,
            })
        };
        let (sha256, sha512) = (digits("sha256", 64)?, digits("sha512", 128)?);
        if sha256.is_none() && sha512.is_none() {
            return Err(Malformed::NoHash { field: path });
        }
        Ok(Self {
            sha256,
            sha512,
            unrecognised: fields.rest(),
        })
    }

    fn to_value(&self) -> Value {
        let mut object = self.unrecognised.clone();
        for (name, digits) in [("sha256", &self.sha256), ("sha512", &self.sha512)] {
            if let Some(digits) = digits {
                object.insert(name.to_string(), digits.clone().into());
            }
        }
        Value::Object(object)
    }
}

/// What a timestamp or a snapshot says of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaFile {
    /// 1 to 2^63.
    pub version: u64,
    /// In bytes, if it is told.
    pub length: Option<u64>,
    /// If they are told.
    pub hashes: Option<Hashes>,
    /// Fields that this crate does not know.
    pub unrecognised: Map<String, Value>,
}

impl MetaFile {
    /// With version, length and SHA-256 of a file.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self {
            version,
            length: Some(length_of(bytes)),
            hashes: Some(Hashes::of(bytes)),
            unrecognised: Map::new(),
        }
    }

    /// Compares length and hashes as far as they are told; `file` is its name for the error.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] or [`Error::Hash`].
    pub fn check(&self, file: &str, bytes: &[u8]) -> Result<()> {
        check_length(file, self.length, bytes)?;
        match &self.hashes {
            Some(hashes) => hashes.check(file, bytes),
            None => Ok(()),
        }
    }

    pub(super) fn read(mut fields: Fields) -> Result<Self, Malformed> {
        let version = fields.version("version")?;
        let length = match fields.optional("length") {
            Some(value) => Some(fields.length("length", &value)?),
            None => None,
        };
        let hashes = match fields.optional("hashes") {
            Some(value) => Some(Hashes::read(value, fields.path("hashes"))?),
            None => None,
        };
        Ok(Self {
            version,
            length,
            hashes,
            unrecognised: fields.rest(),
        })
    }

    pub(super) fn to_value(&self) -> Value {
        let mut object = self.unrecognised.clone();
        object.insert("version".to_string(), self.version.into());
        if let Some(length) = self.length {
            object.insert("length".to_string(), length.into());
        }
        if let Some(hashes) = &self.hashes {
            object.insert("hashes".to_string(), hashes.to_value());
        }
        Value::Object(object)
    }
}

/// What the targets say of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// In bytes.
    pub length: u64,
    /// Of its content.
    pub hashes: Hashes,
    /// What the publisher tells of it.
    pub custom: Option<Value>,
    /// Fields that this crate does not know.
    pub unrecognised: Map<String, Value>,
}

impl Target {
    /// With length and SHA-256 of a file.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            length: length_of(bytes),
            hashes: Hashes::of(bytes),
            custom: None,
            unrecognised: Map::new(),
        }
    }

    /// Compares length and hashes; `file` is its name for the error.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] or [`Error::Hash`].
    pub fn check(&self, file: &str, bytes: &[u8]) -> Result<()> {
        check_length(file, Some(self.length), bytes)?;
        self.hashes.check(file, bytes)
    }

    pub(super) fn read(mut fields: Fields) -> Result<Self, Malformed> {
        let length = fields.value("length")?;
        let hashes = fields.value("hashes")?;
        Ok(Self {
            length: fields.length("length", &length)?,
            hashes: Hashes::read(hashes, fields.path("hashes"))?,
            custom: fields.optional("custom"),
            unrecognised: fields.rest(),
        })
    }

    pub(super) fn to_value(&self) -> Value {
        let mut object = self.unrecognised.clone();
        object.insert("length".to_string(), self.length.into());
        object.insert("hashes".to_string(), self.hashes.to_value());
        if let Some(custom) = &self.custom {
            object.insert("custom".to_string(), custom.clone());
        }
        Value::Object(object)
    }
}

fn check_length(file: &str, expected: Option<u64>, bytes: &[u8]) -> Result<()> {
    let found = length_of(bytes);
    match expected {
        Some(expected) if expected != found => Err(Error::Length {
            file: file.to_string(),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
