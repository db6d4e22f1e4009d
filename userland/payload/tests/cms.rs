// SPDX-License-Identifier: GPL-2.0

//! The form of signatures: what real tools write is accepted, weak digests are not, and no bit of it may change but in what
//! the kernel's own verification looks at.

use std::path::Path;
use std::process::Command;

use kcare_payload::cms::check;
use kcare_payload::error::Reason;

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

/// A signature by a new key of the kind that `newkey` asks for, with further options.
fn sign(newkey: &[&str], options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    std::fs::write(dir.join("body"), b"body").expect("writes");
    let request = [
        "req", "-x509", "-nodes", "-batch", "-subj", "/CN=test", "-keyout", "key", "-out", "cert",
    ];
    openssl(dir, &[&request[..], newkey].concat());
    let cms = [
        "cms", "-sign", "-binary", "-noattr", "-nocerts", "-outform", "DER", "-in", "body",
        "-signer", "cert", "-inkey", "key", "-out", "sig",
    ];
    openssl(dir, &[&cms[..], options].concat());
    std::fs::read(dir.join("sig")).expect("openssl wrote it")
}

const RSA: [&str; 2] = ["-newkey", "rsa:2048"];
const EC: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
const SHA512: [&str; 2] = ["-md", "sha512"];

#[test]
fn what_openssl_signs_is_accepted() {
    let by_key = ["-md", "sha512", "-keyid"];
    for (key, sid) in [
        (&RSA[..], &SHA512[..]),
        (&RSA, &by_key),
        (&EC, &SHA512),
        (&EC, &by_key),
        (&RSA, &["-md", "sha256"]),
        (&EC, &["-md", "sha384"]),
        (&RSA, &["-md", "sha3-512"]),
    ] {
        let signature = sign(key, sid);
        assert_eq!(check(&signature), Ok(()), "{key:?} {sid:?}");
        let malformed = Err(Reason::SignatureMalformed);
        for end in 0..signature.len() {
            assert_eq!(check(&signature[..end]), malformed, "cut to {end} bytes");
        }
        assert_eq!(check(&[&signature[..], &[0]].concat()), malformed);
    }
}

#[test]
fn weak_digests_are_refused() {
    for digest in ["sha1", "md5", "sha224", "sha3-224", "ripemd160"] {
        let signature = sign(&RSA, &["-md", digest]);
        assert_eq!(check(&signature), Err(Reason::DigestWeak), "{digest}");
    }
}

#[test]
fn unknown_algorithms_are_refused() {
    let signature = sign(&RSA, &SHA512);
    let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    let at = signature
        .windows(oid.len())
        .position(|w| w == oid)
        .expect("the algorithm's OID is there");
    for number in 0..=255 {
        let mut changed = signature.clone();
        changed[at + oid.len()] = number;
        // rsaEncryption, and with SHA-256, SHA-384, SHA-512; not with MD5 (4) or SHA-1 (5).
        let expected = match number {
            1 | 11..=13 => Ok(()),
            _ => Err(Reason::AlgorithmUnknown),
        };
        assert_eq!(check(&changed), expected, "{number}");
    }
}

/// What the form leaves free is what the kernel's verification looks at, or names the signer.
#[test]
fn no_other_bit_may_change() {
    let signature = sign(&RSA, &SHA512);
    // The RSA octets, the signer's name and number, and the inner algorithm OIDs are the kernel's to check.
    let octets = signature.len() - 256;
    let mut accepted = Vec::new();
    for at in 0..octets {
        for bit in 0..8 {
            let mut changed = signature.clone();
            changed[at] ^= 1 << bit;
            if check(&changed).is_ok() {
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
