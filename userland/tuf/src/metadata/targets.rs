// SPDX-License-Identifier: GPL-2.0

//! The targets: which files are offered.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{as_object, as_string, Fields};
use super::{Common, Document, Target};
use crate::error::{Malformed, Role};
use crate::time::Time;

/// Names the files that are offered.
///
/// `delegations`, if there are any, stay among the fields that are not recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// What all documents have.
    pub common: Common,
    /// By their names.
    pub targets: BTreeMap<String, Target>,
    /// The levels that were taken back, and when (`2026-11-30T12:00:00Z`). The specification does not know this field,
    /// and lets clients that do not know it either pass over it; a document without such levels does not have it.
    pub withdrawn: BTreeMap<u32, String>,
}

impl Targets {
    /// Offers these files, and no level was taken back.
    pub fn new(common: Common, targets: BTreeMap<String, Target>) -> Self {
        Self {
            common,
            targets,
            withdrawn: BTreeMap::new(),
        }
    }
}

/// The name of the field of the levels that were taken back.
const WITHDRAWN: &str = "withdrawn";

/// Reads a level that was taken back, and when.
fn read_withdrawn(path: String, name: &str, value: Value) -> Result<(u32, String), Malformed> {
    let level = name
        .parse()
        .ok()
        .filter(|level: &u32| level.to_string() == name);
    let Some(level) = level else {
        return Err(Malformed::NotA {
            field: path,
            expected: "a level",
        });
    };
    let time = as_string(value, || path)?;
    Time::parse(&time)?;
    Ok((level, time))
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
        let withdrawn = match fields.optional(WITHDRAWN) {
            None => BTreeMap::new(),
            Some(value) => as_object(value, fields.path(WITHDRAWN))?
                .each()
                .map(|(path, name, value)| read_withdrawn(path, &name, value))
                .collect::<Result<_, Malformed>>()?,
        };
        common.unrecognised = fields.rest();
        Ok(Self {
            common,
            targets,
            withdrawn,
        })
    }

    fn to_object(&self) -> Map<String, Value> {
        let mut object = self.common.to_object(Self::ROLE);
        let targets: Map<_, _> = self
            .targets
            .iter()
            .map(|(name, target)| (name.clone(), target.to_value()))
            .collect();
        object.insert("targets".to_string(), targets.into());
        if !self.withdrawn.is_empty() {
            let withdrawn: Map<_, _> = self
                .withdrawn
                .iter()
                .map(|(level, time)| (level.to_string(), time.clone().into()))
                .collect();
            object.insert(WITHDRAWN.to_string(), withdrawn.into());
        }
        object
    }
}
