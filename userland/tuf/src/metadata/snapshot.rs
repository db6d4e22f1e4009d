// SPDX-License-Identifier: GPL-2.0

//! The snapshot: which versions belong together.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{as_object, Fields};
use super::{Common, Document, MetaFile};
use crate::error::{Error, Malformed, Result, Role};

/// Names the versions of all targets documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What all documents have.
    pub common: Common,
    /// By the names of their files, such as `targets.json`.
    pub meta: BTreeMap<String, MetaFile>,
}

impl Snapshot {
    /// A snapshot of these targets.
    pub fn new(common: Common, targets: MetaFile) -> Self {
        Self {
            common,
            meta: BTreeMap::from([(Role::Targets.file_name().to_string(), targets)]),
        }
    }

    /// What it says of the top-level targets.
    ///
    /// # Errors
    ///
    /// [`Error::NotListed`].
    pub fn targets(&self) -> Result<&MetaFile> {
        let name = Role::Targets.file_name();
        self.meta.get(name).ok_or_else(|| Error::NotListed {
            name: name.to_string(),
        })
    }

    /// Whether a client that trusts `self` may go on to `next`: no file is gone, and none is older.
    ///
    /// # Errors
    ///
    /// [`Error::Vanished`] or [`Error::RollbackOf`].
    pub fn check_next(&self, next: &Snapshot) -> Result<()> {
        for (name, trusted) in &self.meta {
            let Some(found) = next.meta.get(name) else {
                return Err(Error::Vanished {
                    name: name.clone(),
                    trusted: trusted.version,
                });
            };
            if found.version < trusted.version {
                return Err(Error::RollbackOf {
                    role: Role::Snapshot,
                    name: name.clone(),
                    trusted: trusted.version,
                    found: found.version,
                });
            }
        }
        Ok(())
    }
}

impl Document for Snapshot {
    const ROLE: Role = Role::Snapshot;

    fn common(&self) -> &Common {
        &self.common
    }

    fn from_object(object: Map<String, Value>) -> Result<Self, Malformed> {
        let mut fields = Fields::new("signed", object);
        let mut common = Common::read(Self::ROLE, &mut fields)?;
        let meta = fields
            .object("meta")?
            .each()
            .map(|(path, name, value)| Ok((name, MetaFile::read(as_object(value, path)?)?)))
            .collect::<Result<_, Malformed>>()?;
        common.unrecognised = fields.rest();
        Ok(Self { common, meta })
    }

    fn to_object(&self) -> Map<String, Value> {
        let mut object = self.common.to_object(Self::ROLE);
        let meta: Map<_, _> = self
            .meta
            .iter()
            .map(|(name, file)| (name.clone(), file.to_value()))
            .collect();
        object.insert("meta".to_string(), meta.into());
        object
    }
}
