// SPDX-License-Identifier: GPL-2.0

//! The timestamp: which snapshot is the newest.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::{Common, Document, MetaFile};
use crate::error::{Malformed, Role};

/// Names the newest snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// What all documents have.
    pub common: Common,
    /// What it says of the snapshot.
    pub snapshot: MetaFile,
    /// Other files that it names; a client does not ask for them.
    pub unrecognised_files: Map<String, Value>,
}

impl Timestamp {
    /// A timestamp of this snapshot.
    pub fn new(common: Common, snapshot: MetaFile) -> Self {
        Self {
            common,
            snapshot,
            unrecognised_files: Map::new(),
        }
    }
}

impl Document for Timestamp {
    const ROLE: Role = Role::Timestamp;

    fn common(&self) -> &Common {
        &self.common
    }

    fn from_object(object: Map<String, Value>) -> Result<Self, Malformed> {
        let mut fields = Fields::new("signed", object);
        let mut common = Common::read(Self::ROLE, &mut fields)?;
        let mut meta = fields.object("meta")?;
        let snapshot = MetaFile::read(meta.object(Role::Snapshot.file_name())?)?;
        common.unrecognised = fields.rest();
        Ok(Self {
            common,
            snapshot,
            unrecognised_files: meta.rest(),
        })
    }

    fn to_object(&self) -> Map<String, Value> {
        let mut object = self.common.to_object(Self::ROLE);
        let mut meta = self.unrecognised_files.clone();
        meta.insert(
            Role::Snapshot.file_name().to_string(),
            self.snapshot.to_value(),
        );
        object.insert("meta".to_string(), meta.into());
        object
    }
}
