// SPDX-License-Identifier: GPL-2.0

//! The four documents of a repository.
//!
//! A file becomes an [`Unverified`] first: its JSON is read, and its signatures are listed. Only
//! [`Root::verify`] makes a document of it, after the signatures have been verified; for an initial root, which is
//! trusted for where it comes from, [`Unverified::into_initial_root`].

mod fields;
mod file_info;
mod root;
mod snapshot;
mod targets;
mod timestamp;

use serde_json::{Map, Value};

pub(crate) use self::fields::Fields;
pub use self::file_info::{Hashes, MetaFile, Target};
pub use self::root::{RoleKeys, Root};
pub use self::snapshot::Snapshot;
pub use self::targets::Targets;
pub use self::timestamp::Timestamp;
use crate::error::{Error, Malformed, Result, Role};
use crate::json;
use crate::key::Signature;
use crate::time::Time;

/// The highest version: 2^63.
pub const MAX_VERSION: u64 = 1 << 63;

/// The version of the specification that new documents name.
pub const SPEC_VERSION: &str = "1.0.31";

/// What all documents have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// `1.X` or `1.X.Y`.
    pub spec_version: String,
    /// 1 to [`MAX_VERSION`].
    pub version: u64,
    /// From this time on the document is not to be used.
    pub expires: Time,
    /// Fields that this crate does not know; they are kept, because they are signed.
    pub unrecognised: Map<String, Value>,
}

impl Common {
    /// For a new document.
    pub fn new(version: u64, expires: Time) -> Self {
        Self {
            spec_version: SPEC_VERSION.to_string(),
            version,
            expires,
            unrecognised: Map::new(),
        }
    }

    fn read(role: Role, fields: &mut Fields) -> Result<Self, Malformed> {
        let found = fields.string("_type")?;
        if found != role.name() {
            return Err(Malformed::Type { found });
        }
        let spec_version = fields.string("spec_version")?;
        if !is_spec_version_1(&spec_version) {
            return Err(Malformed::SpecVersion {
                found: spec_version,
            });
        }
        Ok(Self {
            spec_version,
            version: fields.version("version")?,
            expires: fields.time("expires")?,
            unrecognised: Map::new(),
        })
    }

    fn to_object(&self, role: Role) -> Map<String, Value> {
        let mut object = self.unrecognised.clone();
        object.insert("_type".to_string(), role.name().into());
        object.insert("spec_version".to_string(), self.spec_version.clone().into());
        object.insert("version".to_string(), self.version.into());
        object.insert("expires".to_string(), self.expires.to_string().into());
        object
    }
}

fn is_spec_version_1(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let is_number =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.len(), 2 | 3) && parts.iter().all(is_number) && parts[0] == "1"
}

/// One of the four documents.
pub trait Document: Sized {
    /// Its role.
    const ROLE: Role;

    /// What all documents have.
    fn common(&self) -> &Common;

    /// Reads the object `signed` of a file.
    ///
    /// # Errors
    ///
    /// [`Malformed`], with the field.
    fn from_object(object: Map<String, Value>) -> Result<Self, Malformed>;

    /// The object `signed` of a file, with all fields that were not recognised.
    fn to_object(&self) -> Map<String, Value>;

    /// 1 to [`MAX_VERSION`].
    fn version(&self) -> u64 {
        self.common().version
    }

    /// Whether it is not to be used any more at `now`.
    ///
    /// # Errors
    ///
    /// [`Error::Expired`]: its time ends with the second that it names.
    fn check_expiry(&self, now: Time) -> Result<()> {
        let expires = self.common().expires;
        if expires > now {
            return Ok(());
        }
        Err(Error::Expired {
            role: Self::ROLE,
            expires,
            now,
        })
    }
}

/// A file of which nothing is believed yet.
#[derive(Clone, Debug)]
pub struct Unverified {
    role: Role,
    signed: Map<String, Value>,
    message: Vec<u8>,
    signatures: Vec<Signature>,
    unrecognised: Map<String, Value>,
}

impl Unverified {
    /// Reads the file of a role: its JSON and its list of signatures, but not yet what is signed.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn parse(role: Role, bytes: &[u8]) -> Result<Self> {
        Self::read(role, bytes).map_err(|reason| Error::Malformed { role, reason })
    }

    fn read(role: Role, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = fields::as_object(json::parse(bytes)?, "the file".to_string())?;
        let signed = fields.object("signed")?.rest();
        let message = json::canonical_object(&signed)?;
        let mut signatures: Vec<Signature> = Vec::new();
        for (i, value) in fields.array("signatures")?.into_iter().enumerate() {
            let signature = Signature::read(fields::as_object(value, format!("signatures[{i}]"))?)?;
            if signatures.iter().any(|s| s.key_id == signature.key_id) {
                return Err(Malformed::DuplicateSignature {
                    id: signature.key_id,
                });
            }
            signatures.push(signature);
        }
        Ok(Self {
            role,
            signed,
            message,
            signatures,
            unrecognised: fields.rest(),
        })
    }

    /// The role that it was read for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What is signed: the canonical form of `signed`.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// One for each key id that has signed, valid or not.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The signature that is said to be of this key.
    pub fn signature_of(&self, key_id: &str) -> Option<&Signature> {
        self.signatures.iter().find(|s| s.key_id == key_id)
    }

    /// The root that everything else is verified with. It has to be signed by its own keys, which proves no more than
    /// that the file is whole.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Threshold`].
    pub fn into_initial_root(self) -> Result<Root> {
        let root: Root = self.document()?;
        root.check_signatures(Role::Root, &self)?;
        Ok(root)
    }

    /// What is signed, without a look at the signatures.
    pub(crate) fn document<T: Document>(&self) -> Result<T> {
        T::from_object(self.signed.clone()).map_err(|reason| Error::Malformed {
            role: T::ROLE,
            reason,
        })
    }

    /// Adds a signature, or replaces that of the same key.
    pub(crate) fn put_signature(&mut self, signature: Signature) {
        self.signatures.retain(|s| s.key_id != signature.key_id);
        self.signatures.push(signature);
        self.signatures.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    }

    /// The file again.
    pub(crate) fn to_value(&self) -> Value {
        let mut object = self.unrecognised.clone();
        object.insert("signed".to_string(), self.signed.clone().into());
        let signatures: Vec<Value> = self.signatures.iter().map(Signature::to_value).collect();
        object.insert("signatures".to_string(), signatures.into());
        Value::Object(object)
    }

    /// A new file without signatures.
    pub(crate) fn of<T: Document>(document: &T) -> Result<Self> {
        let signed = document.to_object();
        let message = json::canonical_object(&signed).map_err(|reason| Error::Malformed {
            role: T::ROLE,
            reason,
        })?;
        // What a client would refuse must not be signed.
        T::from_object(signed.clone()).map_err(|reason| Error::Malformed {
            role: T::ROLE,
            reason,
        })?;
        Ok(Self {
            role: T::ROLE,
            signed,
            message,
            signatures: Vec::new(),
            unrecognised: Map::new(),
        })
    }
}
