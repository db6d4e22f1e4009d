// SPDX-License-Identifier: GPL-2.0

//! Writes a repository from a description, for tests with other implementations of TUF.
//!
//! `tuf_sign METADATA TARGETS < description` reads one JSON object a line:
//!
//! * `{"role": "root", "version": 1, "expires": T, "consistent": true, "roles": {"root": [THRESHOLD, [KEY…]], …}}`
//! * `{"role": "targets", "version": 1, "expires": T, "targets": {NAME: PATH, …}}`
//! * `{"role": "snapshot", "version": 1, "expires": T, "targets": VERSION}`
//! * `{"role": "timestamp", "version": 1, "expires": T, "snapshot": VERSION}`
//!
//! Each has `"signers": [KEY…]`, too. A KEY is the path of a private key in PKCS #8. What a document says of another is
//! read from the file that was written before.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use kcare_tuf::key::Signer;
use kcare_tuf::metadata::{Common, Document, MetaFile, Root, Snapshot, Target, Targets, Timestamp};
use kcare_tuf::repository::{sign, write, write_target};
use kcare_tuf::{Role, Time};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, metadata, files] = arguments.as_slice() else {
        return Err("usage: tuf_sign METADATA TARGETS < description".into());
    };
    let mut publisher = Publisher {
        metadata: Path::new(metadata),
        files: Path::new(files),
        root: None,
    };
    for line in std::io::stdin().lines() {
        publisher.publish(&serde_json::from_str(&line?)?)?;
    }
    Ok(())
}

struct Publisher<'a> {
    metadata: &'a Path,
    files: &'a Path,
    root: Option<Root>,
}

impl Publisher<'_> {
    fn publish(&mut self, line: &Value) -> Result<()> {
        let expires = Time::parse(text(&line["expires"])?)?;
        let common = Common::new(number(&line["version"])?, expires);
        let signers = signers(&line["signers"])?;
        match text(&line["role"])? {
            "root" => {
                let mut root = Root::new(common);
                root.consistent_snapshot = line["consistent"].as_bool();
                for role in Role::ALL {
                    let keys = &line["roles"][role.name()];
                    let holders = self::signers(&keys[1])?;
                    let holders: Vec<_> = holders.iter().map(Signer::key).collect();
                    root.set_role(role, &holders, number(&keys[0])?)?;
                }
                self.root = Some(root.clone());
                self.put(&root, &signers)
            }
            "targets" => {
                let mut targets = BTreeMap::new();
                for (name, path) in line["targets"].as_object().ok_or("no targets")? {
                    let bytes = std::fs::read(text(path)?)?;
                    let target = Target::of(&bytes);
                    write_target(self.files, self.root()?, name, &target, &bytes)?;
                    targets.insert(name.clone(), target);
                }
                self.put(&Targets::new(common, targets), &signers)
            }
            "snapshot" => {
                let named = self.file(Role::Targets, number(&line["targets"])?)?;
                self.put(&Snapshot::new(common, named), &signers)
            }
            "timestamp" => {
                let named = self.file(Role::Snapshot, number(&line["snapshot"])?)?;
                self.put(&Timestamp::new(common, named), &signers)
            }
            role => Err(format!("there is no role {role}").into()),
        }
    }

    fn root(&self) -> Result<&Root> {
        self.root.as_ref().ok_or_else(|| "no root yet".into())
    }

    fn file(&self, role: Role, version: u64) -> Result<MetaFile> {
        let path = self.metadata.join(self.root()?.path_of(role, version));
        Ok(MetaFile::of(version, &std::fs::read(path)?))
    }

    fn put<T: Document>(&self, document: &T, signers: &[Signer]) -> Result<()> {
        let signers: Vec<_> = signers.iter().collect();
        let bytes = sign(document, &signers)?;
        write(self.metadata, self.root()?, document, &bytes)?;
        Ok(())
    }
}

fn signers(paths: &Value) -> Result<Vec<Signer>> {
    let paths = paths.as_array().ok_or("no list of keys")?;
    paths
        .iter()
        .map(|path| Ok(Signer::open(Path::new(text(path)?))?))
        .collect()
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| "not a string".into())
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().ok_or_else(|| "not a number".into())
}
