// SPDX-License-Identifier: GPL-2.0

//! The form of signatures: what real tools write is accepted, and no bit of it may change but in what the
//! kernel's own verification looks at.

use std::path::Path;
use std::process::Command;

use kcare_payload::cms::is_canonical;

/// Runs openssl in a folder of its own.
fn openssl(dir: &Path, args: &[&str]) {
    let status = Command::new("openssl").args(args).current_dir(dir).output();
    let output = status.expect("openssl is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A signature by a new key of the kind that `newkey` asks for.
fn sign(newkey: &[&str], sid: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    std::fs::write(dir.join("body"), b"body").expect("writes");
    let request = [
        "req", "-x509", "-nodes", "-batch", "-subj", "/CN=test", "-keyout", "key", "-out", "cert",
    ];
    openssl(dir, &[&request[..], newkey].concat());
    let cms = [
        "cms", "-sign", "-binary", "-noattr", "-nocerts", "-md", "sha512", "-outform", "DER",
        "-in", "body", "-signer", "cert", "-inkey", "key", "-out", "sig",
    ];
    openssl(dir, &[&cms[..], sid].concat());
    std::fs::read(dir.join("sig")).expect("openssl wrote it")
}

#[test]
fn what_openssl_signs_is_canonical() {
    let rsa = ["-newkey", "rsa:2048"];
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    for (key, sid) in [
        (&rsa[..], &[][..]),
        (&rsa, &["-keyid"]),
        (&ec, &[]),
        (&ec, &["-keyid"]),
    ] {
        let signature = sign(key, sid);
        assert!(is_canonical(&signature), "{key:?} {sid:?}");
        for end in 0..signature.len() {
            assert!(!is_canonical(&signature[..end]), "cut to {end} bytes");
        }
        assert!(!is_canonical(&[&signature[..], &[0]].concat()));
    }
}

#[test]
fn no_second_form_of_a_signature_exists() {
    let signature = sign(&["-newkey", "rsa:2048"], &[]);
    // The RSA octets, the signer's name and number, and the inner algorithm OIDs are the kernel's to check.
    let octets = signature.len() - 256;
    let mut accepted = Vec::new();
    for at in 0..octets {
        for bit in 0..8 {
            let mut changed = signature.clone();
            changed[at] ^= 1 << bit;
            if is_canonical(&changed) {
                accepted.push(at);
            }
        }
    }
    accepted.dedup();
    let name = signature
        .windows(4)
        .position(|w| w == b"test")
        .expect("the issuer's name is there");
    let rsa_oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let rsa = signature
        .windows(9)
        .position(|w| w == rsa_oid)
        .expect("the algorithm's OID is there");
    for at in accepted {
        let in_sid = at > name - 20 && at < rsa;
        let in_rsa = (rsa..rsa + rsa_oid.len()).contains(&at);
        assert!(
            in_sid || in_rsa,
            "byte {at} may change, and the kernel does not look at it"
        );
    }
}
