// SPDX-License-Identifier: GPL-2.0

//! The targets: which files are offered.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{as_object, Fields};
use super::{Common, Document, Target};
use crate::error::{Malformed, Role};

/// Names the files that are offered.
///
/// `delegations`, if there are any, stay among the fields that are not recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// What all documents have.
    pub common: Common,
    /// By their names.
    pub targets: BTreeMap<String, Target>,
}

impl Targets {
    /// Offers these files.
    pub fn new(common: Common, targets: BTreeMap<String, Target>) -> Self {
        Self { common, targets }
    }
}

impl Document for Targets {
    const ROLE: Role = Role::Targets;

    fn common(&self) -> &Common {
        &self.common
    }

    fn from_object(object: Map<String, Value>) -> Result<Self, Malformed> {
        let mut fields = Fields::new("signed", object);
        let mut common = Common::read(Self::ROLE, &mut fields)?;
        let targets = fields
            .object("targets")?
            .each()
            .map(|(path, name, value)| Ok((name, Target::read(as_object(value, path)?)?)))
            .collect::<Result<_, Malformed>>()?;
        common.unrecognised = fields.rest();
        Ok(Self { common, targets })
    }

    fn to_object(&self) -> Map<String, Value> {
        let mut object = self.common.to_object(Self::ROLE);
        let targets: Map<_, _> = self
            .targets
            .iter()
            .map(|(name, target)| (name.clone(), target.to_value()))
            .collect();
        object.insert("targets".to_string(), targets.into());
        object
    }
}
