// SPDX-License-Identifier: GPL-2.0

//! An object that is taken apart field by field; what is left was not recognised.

use serde_json::{Map, Value};

use crate::error::Malformed;
use crate::metadata::MAX_VERSION;
use crate::time::Time;

/// The fields of an object that are still to be read, and where it stands in the file.
pub(crate) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    pub(crate) fn new(path: impl Into<String>, map: Map<String, Value>) -> Self {
        Self {
            path: path.into(),
            map,
        }
    }

    /// The path of the field `name`.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// What was not read.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.map
    }

    /// All fields that are left, with their names.
    pub(crate) fn each(self) -> impl Iterator<Item = (String, String, Value)> {
        let Self { path, map } = self;
        map.into_iter()
            .map(move |(name, value)| (format!("{path}.{name}"), name, value))
    }

    pub(crate) fn optional(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    pub(crate) fn value(&mut self, name: &str) -> Result<Value, Malformed> {
        self.map.remove(name).ok_or_else(|| Malformed::Missing {
            field: self.path(name),
        })
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<String, Malformed> {
        as_string(self.value(name)?, || self.path(name))
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Fields, Malformed> {
        let value = self.value(name)?;
        as_object(value, self.path(name))
    }

    pub(crate) fn array(&mut self, name: &str) -> Result<Vec<Value>, Malformed> {
        as_array(self.value(name)?, || self.path(name))
    }

    /// A version: 1 to 2^63.
    pub(crate) fn version(&mut self, name: &str) -> Result<u64, Malformed> {
        let value = self.value(name)?;
        let field = self.path(name);
        match value.as_u64() {
            Some(version) if (1..=MAX_VERSION).contains(&version) => Ok(version),
            _ if value.is_number() => Err(Malformed::Version {
                field,
                found: value.to_string(),
            }),
            _ => Err(Malformed::NotA {
                field,
                expected: "a whole number",
            }),
        }
    }

    /// A length in bytes, 0 and more.
    pub(crate) fn length(&self, name: &str, value: &Value) -> Result<u64, Malformed> {
        let field = self.path(name);
        match value.as_u64() {
            Some(length) => Ok(length),
            None if value.is_number() => Err(Malformed::Length {
                field,
                found: value.to_string(),
            }),
            None => Err(Malformed::NotA {
                field,
                expected: "a whole number",
            }),
        }
    }

    /// A threshold, 1 and more.
    pub(crate) fn threshold(&mut self, name: &str) -> Result<u64, Malformed> {
        let value = self.value(name)?;
        let field = self.path(name);
        match value.as_u64() {
            Some(threshold) if threshold > 0 => Ok(threshold),
            _ if value.is_number() => Err(Malformed::Threshold {
                field,
                found: value.to_string(),
            }),
            _ => Err(Malformed::NotA {
                field,
                expected: "a whole number",
            }),
        }
    }

    pub(crate) fn time(&mut self, name: &str) -> Result<Time, Malformed> {
        Time::parse(&self.string(name)?)
    }
}

pub(crate) fn as_object(value: Value, path: String) -> Result<Fields, Malformed> {
    match value {
        Value::Object(map) => Ok(Fields::new(path, map)),
        _ => Err(Malformed::NotA {
            field: path,
            expected: "an object",
        }),
    }
}

pub(crate) fn as_array(
    value: Value,
    path: impl FnOnce() -> String,
) -> Result<Vec<Value>, Malformed> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(Malformed::NotA {
            field: path(),
            expected: "a list",
        }),
    }
}

pub(crate) fn as_string(value: Value, path: impl FnOnce() -> String) -> Result<String, Malformed> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Malformed::NotA {
            field: path(),
            expected: "a string",
        }),
    }
}
