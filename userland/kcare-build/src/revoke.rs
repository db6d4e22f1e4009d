// SPDX-License-Identifier: GPL-2.0

//! Revocation records, which tell a running kernel that certificates are dead.
//!
//! A certificate is named by the SHA-256 of its DER, as the module's log, `modinfo` and sysfs print it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{anyhow, Context, Result};
use kcare_payload::revocation::{Hash, Head, Revocation, HASH_SIZE, MAGIC, VERSION};
use kcare_tuf::key::sha256;

use crate::sign::{body, der};

/// What a PEM certificate begins with.
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// A record without its signature, of the certificates that `names` tell: files, in PEM with one or more or in DER, or hashes.
///
/// # Errors
///
/// One of them is neither, or they are more than a record holds.
pub fn record(names: &[String]) -> Result<Vec<u8>> {
    let mut hashes = BTreeSet::new();
    for name in names {
        match parse_hash(name) {
            Some(hash) => drop(hashes.insert(hash)),
            None => hashes.extend(read(Path::new(name))?),
        }
    }
    let head = Head {
        magic: MAGIC,
        version: VERSION,
        count: u32::try_from(hashes.len())?,
    };
    let hashes: Vec<Hash> = hashes.into_iter().collect();
    let record = [&head.encode()[..], &hashes.concat()].concat();
    Revocation::parse(&record).map_err(|error| anyhow!("{error}"))?;
    Ok(record)
}

/// What a record says, signed or not, or nothing for another file.
///
/// # Errors
///
/// It begins as a record and is none.
pub fn summary(bytes: &[u8]) -> Result<Option<Summary>> {
    if !Revocation::is_meant(bytes) {
        return Ok(None);
    }
    let revocation = Revocation::parse(body(bytes)).map_err(|error| anyhow!("{error}"))?;
    let revokes = revocation.certificates().map(|hash| hex(&hash)).collect();
    Ok(Some(Summary { revokes }))
}

/// What a record says.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// SHA-256 of each certificate that it revokes, ascending.
    pub revokes: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hashes = self.revokes.iter();
        hashes.try_for_each(|hash| writeln!(f, "revokes    sha256 {hash}"))
    }
}

/// The hashes of the certificates in a file.
fn read(path: &Path) -> Result<Vec<Hash>> {
    let bytes = fs::read(path).with_context(|| {
        format!(
            "cannot read the certificate {} (nor is it a SHA-256 of 64 digits)",
            path.display()
        )
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let pems: Vec<&str> = text
        .match_indices(BEGIN)
        .map(|(at, _)| &text[at..])
        .collect();
    let one = |input: &[u8], form| {
        let der = der(input, form).with_context(|| format!("in {}", path.display()))?;
        parse_hash(&sha256(&der)).context("no SHA-256")
    };
    match pems.is_empty() {
        true => Ok(vec![one(&bytes, "DER")?]),
        // openssl reads the first one of what it is given.
        false => pems.iter().map(|pem| one(pem.as_bytes(), "PEM")).collect(),
    }
}

fn parse_hash(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != 2 * HASH_SIZE || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut hash = [0; HASH_SIZE];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::tests::signer;

    #[test]
    fn certificates_are_named_by_files_and_by_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (signer(folder.path(), "a"), signer(folder.path(), "b"));
        let pem = |signer: &crate::sign::Signer| fs::read(&signer.cert).unwrap();
        let both = folder.path().join("both.pem");
        fs::write(&both, [pem(&a), pem(&b)].concat()).unwrap();
        let ders = [&a, &b].map(|signer| der(&pem(signer), "PEM").unwrap());
        let in_der = folder.path().join("a.der");
        fs::write(&in_der, &ders[0]).unwrap();
        let hashes = ders.map(|der| sha256(&der));
        let revoked = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let record = record(&names)?;
            let signed = a.sign(&record)?;
            assert_eq!(summary(&signed)?, summary(&record)?);
            Ok::<_, anyhow::Error>(summary(&record)?.unwrap().revokes)
        };
        let path = |path: &Path| path.to_str().unwrap().to_owned();

        let mut sorted = hashes.to_vec();
        sorted.sort();
        assert_eq!(revoked(&[&path(&both)]).unwrap(), sorted);
        assert_eq!(
            revoked(&[&hashes[0], &hashes[1], &hashes[0]]).unwrap(),
            sorted
        );
        let of_a = [hashes[0].clone()];
        assert_eq!(revoked(&[&path(&in_der)]).unwrap(), of_a);
        assert_eq!(
            revoked(&[&path(&a.cert), &hashes[0].to_uppercase()]).unwrap(),
            of_a
        );

        let refused = |name: &str| format!("{:#}", revoked(&[name]).unwrap_err());
        assert!(refused(&hashes[0][1..]).contains("nor is it a SHA-256"));
        assert!(refused(&path(&a.key)).contains("cannot read the certificate"));
        fs::write(
            &both,
            [&pem(&a)[..], BEGIN.as_bytes(), b"\nnot base64\n"].concat(),
        )
        .unwrap();
        assert!(refused(&path(&both)).contains("cannot read the certificate"));
        assert!(refused("").contains("cannot read"));
        let many: Vec<String> = (0..257).map(|n| format!("{n:064x}")).collect();
        assert!(record(&many)
            .unwrap_err()
            .to_string()
            .contains("revocation-count"));
        assert_eq!(summary(b"ELF").unwrap(), None);
        assert!(summary(b"KCARERV\0").is_err());
    }
}
