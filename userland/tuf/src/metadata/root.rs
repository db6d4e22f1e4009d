// SPDX-License-Identifier: GPL-2.0

//! The root: whose signatures count.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fields::{as_object, as_string, Fields};
use super::{Common, Document, Unverified};
use crate::error::{Error, Malformed, Result, Role};
use crate::key::{Key, PublicKey};

/// The keys of a role, and how many of them have to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKeys {
    /// Ids of keys; one that the root does not list never counts.
    pub key_ids: Vec<String>,
    /// 1 and more.
    pub threshold: u64,
    /// Fields that this crate does not know.
    pub unrecognised: Map<String, Value>,
}

impl RoleKeys {
    /// These keys, of which `threshold` have to sign.
    pub fn new(key_ids: Vec<String>, threshold: u64) -> Self {
        Self {
            key_ids,
            threshold,
            unrecognised: Map::new(),
        }
    }

    fn read(mut fields: Fields) -> Result<Self, Malformed> {
        let field = fields.path("keyids");
        let mut key_ids: Vec<String> = Vec::new();
        for (i, value) in fields.array("keyids")?.into_iter().enumerate() {
            let id = as_string(value, || format!("{field}[{i}]"))?;
            if key_ids.contains(&id) {
                return Err(Malformed::DuplicateKeyId { field, id });
            }
            key_ids.push(id);
        }
        Ok(Self {
            key_ids,
            threshold: fields.threshold("threshold")?,
            unrecognised: fields.rest(),
        })
    }

    fn to_value(&self) -> Value {
        let mut object = self.unrecognised.clone();
        object.insert("keyids".to_string(), self.key_ids.clone().into());
        object.insert("threshold".to_string(), self.threshold.into());
        Value::Object(object)
    }
}

/// Names the keys of all roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// What all documents have.
    pub common: Common,
    /// Whether the names of files have their version or hash; if nothing is said, they have not.
    pub consistent_snapshot: Option<bool>,
    /// By their ids.
    pub keys: BTreeMap<String, Key>,
    /// The keys of the roots.
    pub root: RoleKeys,
    /// The keys of timestamps.
    pub timestamp: RoleKeys,
    /// The keys of snapshots.
    pub snapshot: RoleKeys,
    /// The keys of targets.
    pub targets: RoleKeys,
}

impl Root {
    /// A root without keys, for consistent snapshots; a client refuses it until each role has its keys.
    pub fn new(common: Common) -> Self {
        let nobody = RoleKeys::new(Vec::new(), 1);
        Self {
            common,
            consistent_snapshot: Some(true),
            keys: BTreeMap::new(),
            root: nobody.clone(),
            timestamp: nobody.clone(),
            snapshot: nobody.clone(),
            targets: nobody,
        }
    }

    /// Gives a role these keys and no others; `threshold` of them have to sign. Keys that no role has any more are
    /// gone.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if a key has no canonical form, and so no id.
    pub fn set_role(&mut self, role: Role, keys: &[&Key], threshold: u64) -> Result<()> {
        let mut ids = Vec::new();
        for &key in keys {
            let id = key.id().map_err(|reason| Error::Malformed {
                role: Role::Root,
                reason,
            })?;
            self.keys.insert(id.clone(), key.clone());
            ids.push(id);
        }
        let keys = RoleKeys::new(ids, threshold);
        match role {
            Role::Root => self.root = keys,
            Role::Timestamp => self.timestamp = keys,
            Role::Snapshot => self.snapshot = keys,
            Role::Targets => self.targets = keys,
        }
        let named: BTreeSet<String> = Role::ALL
            .iter()
            .flat_map(|&role| self.role(role).key_ids.iter().cloned())
            .collect();
        self.keys.retain(|id, _| named.contains(id));
        Ok(())
    }

    /// The keys of a role.
    pub fn role(&self, role: Role) -> &RoleKeys {
        match role {
            Role::Root => &self.root,
            Role::Timestamp => &self.timestamp,
            Role::Snapshot => &self.snapshot,
            Role::Targets => &self.targets,
        }
    }

    /// Whether the names of files have their version or hash.
    pub fn is_consistent(&self) -> bool {
        self.consistent_snapshot == Some(true)
    }

    /// Path of the file of a role in this version, below the base of the repository.
    pub fn path_of(&self, role: Role, version: u64) -> String {
        match role {
            Role::Timestamp => role.file_name().to_string(),
            Role::Root => role.versioned_name(version),
            _ if self.is_consistent() => role.versioned_name(version),
            _ => role.file_name().to_string(),
        }
    }

    /// The document of a file that enough keys of its role have signed.
    ///
    /// # Errors
    ///
    /// [`Error::Threshold`], then [`Error::Malformed`].
    pub fn verify<T: Document>(&self, file: &Unverified) -> Result<T> {
        self.check_signatures(T::ROLE, file)?;
        file.document()
    }

    /// The next root: signed by enough keys of this one and of its own, and exactly one version later.
    ///
    /// # Errors
    ///
    /// [`Error::Threshold`], [`Error::Malformed`] or [`Error::Version`].
    pub fn verify_next(&self, file: &Unverified) -> Result<Root> {
        let next: Root = self.verify(file)?;
        let expected = self.version().saturating_add(1);
        if next.version() != expected {
            return Err(Error::Version {
                role: Role::Root,
                expected,
                found: next.version(),
            });
        }
        next.check_signatures(Role::Root, file)?;
        Ok(next)
    }

    /// Counts keys, not their ids: a key that the root lists twice counts once.
    pub(crate) fn check_signatures(&self, role: Role, file: &Unverified) -> Result<()> {
        let keys = self.role(role);
        let mut signers = BTreeSet::<PublicKey>::new();
        for id in &keys.key_ids {
            let Some(public) = self.keys.get(id).and_then(Key::public) else {
                continue;
            };
            let Some(signature) = file.signature_of(id).and_then(|s| s.bytes()) else {
                continue;
            };
            if public.verifies(file.message(), &signature) {
                signers.insert(public);
            }
        }
        let have = u64::try_from(signers.len()).unwrap_or(u64::MAX);
        if have >= keys.threshold {
            return Ok(());
        }
        Err(Error::Threshold {
            role,
            root: self.version(),
            need: keys.threshold,
            have,
        })
    }

    /// Whether `next` takes trust away from a key of the role. A key that is only added makes nothing of the past
    /// doubtful.
    pub(crate) fn revokes(&self, next: &Root, role: Role) -> bool {
        let trusted = |root: &Root| -> BTreeSet<PublicKey> {
            let ids = root.role(role).key_ids.iter();
            ids.filter_map(|id| root.keys.get(id)?.public()).collect()
        };
        !trusted(self).is_subset(&trusted(next))
    }
}

impl Document for Root {
    const ROLE: Role = Role::Root;

    fn common(&self) -> &Common {
        &self.common
    }

    fn from_object(object: Map<String, Value>) -> Result<Self, Malformed> {
        let mut fields = Fields::new("signed", object);
        let mut common = Common::read(Self::ROLE, &mut fields)?;
        let consistent_snapshot = match fields.optional("consistent_snapshot") {
            None => None,
            Some(Value::Bool(consistent)) => Some(consistent),
            Some(_) => {
                return Err(Malformed::NotA {
                    field: fields.path("consistent_snapshot"),
                    expected: "true or false",
                });
            }
        };
        let keys = fields
            .object("keys")?
            .each()
            .map(|(path, id, value)| Ok((id, Key::read(as_object(value, path)?)?)))
            .collect::<Result<_, Malformed>>()?;
        let mut roles = fields.object("roles")?;
        let mut role = |role: Role| RoleKeys::read(roles.object(role.name())?);
        let (root, timestamp) = (role(Role::Root)?, role(Role::Timestamp)?);
        let (snapshot, targets) = (role(Role::Snapshot)?, role(Role::Targets)?);
        if let Some((name, _)) = roles.rest().into_iter().next() {
            return Err(Malformed::UnknownRole { name });
        }
        common.unrecognised = fields.rest();
        Ok(Self {
            common,
            consistent_snapshot,
            keys,
            root,
            timestamp,
            snapshot,
            targets,
        })
    }

    fn to_object(&self) -> Map<String, Value> {
        let mut object = self.common.to_object(Self::ROLE);
        if let Some(consistent) = self.consistent_snapshot {
            object.insert("consistent_snapshot".to_string(), consistent.into());
        }
        let keys: Map<_, _> = self
            .keys
            .iter()
            .map(|(id, key)| (id.clone(), key.to_value()))
            .collect();
        object.insert("keys".to_string(), keys.into());
        let roles: Map<_, _> = Role::ALL
            .iter()
            .map(|&role| (role.name().to_string(), self.role(role).to_value()))
            .collect();
        object.insert("roles".to_string(), roles.into());
        object
    }
}
