// SPDX-License-Identifier: GPL-2.0

//! Keys and signatures, against openssl's.

mod common;

use std::path::Path;
use std::process::Command;

use common::{pkcs8, signer};
use kcare_tuf::key::{Key, PublicKey, Signer};
use kcare_tuf::{Error, Kind};
use serde_json::{json, Map, Value};
use tempfile::TempDir;

const MESSAGE: &[u8] = b"what is signed";

/// Keys and signatures that openssl makes.
struct Openssl {
    folder: TempDir,
}

impl Openssl {
    /// With a key of this algorithm.
    fn new(algorithm: &[&str]) -> Self {
        let openssl = Self {
            folder: TempDir::new().unwrap(),
        };
        std::fs::write(openssl.path("message"), MESSAGE).unwrap();
        let genpkey: Vec<&str> = [&["genpkey", "-out", "key"], algorithm].concat();
        openssl.run(&genpkey);
        openssl
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new("openssl");
        let output = command
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("openssl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        output.stdout
    }

    fn public(&self) -> String {
        String::from_utf8(self.run(&["pkey", "-in", "key", "-pubout"])).unwrap()
    }

    fn sign(&self, options: &[&str]) -> Vec<u8> {
        let dgst = [&["dgst", "-sha256", "-sign", "key"], options, &["message"]].concat();
        self.run(&dgst)
    }
}

fn key(key_type: &str, scheme: &str, public: &str) -> Key {
    let Value::Object(value) = json!({ "public": public }) else {
        unreachable!();
    };
    Key {
        key_type: key_type.to_string(),
        scheme: scheme.to_string(),
        value,
        unrecognised: Map::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const P256: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const PSS: [&str; 4] = [
    "-sigopt",
    "rsa_padding_mode:pss",
    "-sigopt",
    "rsa_pss_saltlen:32",
];

#[test]
fn an_ed25519_key_of_openssl_signs_and_verifies() {
    let openssl = Openssl::new(&["-algorithm", "ed25519"]);
    let signer = Signer::open(&openssl.path("key")).unwrap();
    let signature = signer.sign(MESSAGE).bytes().unwrap();
    let sign = [
        "pkeyutl", "-sign", "-inkey", "key", "-rawin", "-in", "message",
    ];
    assert_eq!(signature, openssl.run(&sign));

    let public = signer.key().public().unwrap();
    assert!(public.verifies(MESSAGE, &signature));
    assert!(!public.verifies(b"what is not", &signature));
    assert!(!public.verifies(MESSAGE, &signature[1..]));
    assert!(!public.verifies(MESSAGE, &[0; 64]));

    openssl.run(&["pkey", "-in", "key", "-outform", "DER", "-out", "der"]);
    let same = Signer::open(&openssl.path("der")).unwrap();
    assert_eq!(same.id(), signer.id());
}

#[test]
fn private_keys_of_other_kinds_are_refused() {
    let rsa = Openssl::new(&["-algorithm", "RSA"]);
    let encrypted = Openssl::new(&["-algorithm", "ed25519", "-aes256", "-pass", "pass:x"]);
    let public = Openssl::new(&["-algorithm", "ed25519"]);
    public.run(&["pkey", "-in", "key", "-pubout", "-out", "public"]);
    std::fs::write(public.path("broken"), "-----BEGIN PRIVATE KEY-----\n!\n").unwrap();
    std::fs::write(public.path("empty"), "").unwrap();
    for (path, says) in [
        (rsa.path("key"), "it is not an Ed25519 key in PKCS #8"),
        (encrypted.path("key"), "it is encrypted"),
        (public.path("public"), "it is not labelled PRIVATE KEY"),
        (public.path("broken"), "it is not PEM"),
        (public.path("empty"), "it is not an Ed25519 key in PKCS #8"),
    ] {
        let error = Signer::open(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot use the private key: {says}")
        );
    }
    let error = Signer::open(Path::new("/nowhere/key")).unwrap_err();
    assert!(matches!(&error, Error::Store { action: "read", .. }));
    assert_eq!(error.kind(), Kind::Store);
}

#[test]
fn ecdsa_signatures_of_openssl_verify() {
    let openssl = Openssl::new(&P256);
    let signature = openssl.sign(&[]);
    for key_type in ["ecdsa", "ecdsa-sha2-nistp256"] {
        let key = key(key_type, "ecdsa-sha2-nistp256", &openssl.public());
        let public = key.public().unwrap();
        assert!(public.verifies(MESSAGE, &signature));
        assert!(!public.verifies(b"what is not", &signature));
        assert!(!public.verifies(MESSAGE, &[]));
    }
}

#[test]
fn rsa_pss_signatures_of_openssl_verify() {
    let openssl = Openssl::new(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let public = key("rsa", "rsassa-pss-sha256", &openssl.public())
        .public()
        .unwrap();
    let signature = openssl.sign(&PSS);
    assert!(public.verifies(MESSAGE, &signature));
    assert!(!public.verifies(b"what is not", &signature));
    // The other padding, and the other length of the salt.
    assert!(!public.verifies(MESSAGE, &openssl.sign(&[])));
    let mut salt = PSS;
    salt[3] = "rsa_pss_saltlen:20";
    assert!(!public.verifies(MESSAGE, &openssl.sign(&salt)));
}

#[test]
fn a_short_rsa_key_never_verifies() {
    let openssl = Openssl::new(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let key = key("rsa", "rsassa-pss-sha256", &openssl.public());
    assert!(!key.public().unwrap().verifies(MESSAGE, &openssl.sign(&PSS)));
}

#[test]
fn keys_that_do_not_fit_their_type_do_not_count() {
    let ec = Openssl::new(&P256).public();
    let p384 = Openssl::new(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]).public();
    let rsa = Openssl::new(&["-algorithm", "RSA"]).public();
    let ed25519 = hex(&[7; 32]);
    let good = [
        ("ed25519", "ed25519", ed25519.as_str()),
        ("ecdsa", "ecdsa-sha2-nistp256", &ec),
        ("rsa", "rsassa-pss-sha256", &rsa),
    ];
    for (key_type, scheme, public) in good {
        assert!(key(key_type, scheme, public).public().is_some());
    }
    for (key_type, scheme, public) in [
        ("ed25519", "ed25519", "07"),
        ("ed25519", "ed25519", "x7"),
        ("ed25519", "ed25519", &ed25519[1..]),
        ("ed25519", "ed25519", &ec),
        ("ed25519", "rsassa-pss-sha256", &ed25519),
        ("Ed25519", "ed25519", &ed25519),
        ("ecdsa", "ecdsa-sha2-nistp256", &p384),
        ("ecdsa", "ecdsa-sha2-nistp256", &rsa),
        ("ecdsa", "ecdsa-sha2-nistp384", &ec),
        ("ecdsa", "ecdsa-sha2-nistp256", &ec[1..]),
        ("rsa", "rsassa-pss-sha256", &ec),
        ("rsa", "rsa-pkcs1v15-sha256", &rsa),
        ("rsa", "rsassa-pss-sha512", &rsa),
        ("", "", ""),
    ] {
        let none = key(key_type, scheme, public).public();
        assert_eq!(none, None, "{key_type} {scheme} {public}");
    }
    let mut list = key("ed25519", "ed25519", &ed25519);
    list.value.insert("public".to_string(), json!([ed25519]));
    assert_eq!(list.public(), None);
    list.value.clear();
    assert_eq!(list.public(), None);
}

#[test]
fn a_certificate_is_no_public_key() {
    let openssl = Openssl::new(&P256);
    let request = ["req", "-x509", "-new", "-key", "key", "-subj", "/CN=x"];
    let pem = String::from_utf8(openssl.run(&request)).unwrap();
    assert_eq!(PublicKey::from_pem(&pem), None);
    assert!(PublicKey::from_pem(&openssl.public()).is_some());
    let relabelled = openssl.public().replace("PUBLIC KEY", "CERTIFICATE");
    assert_eq!(PublicKey::from_pem(&relabelled), None);
}

#[test]
fn the_same_key_is_the_same_in_every_form() {
    let public = hex(&[0xab; 32]);
    let upper = key("ed25519", "ed25519", &public.to_uppercase());
    let lower = key("ed25519", "ed25519", &public);
    assert_ne!(upper.id().unwrap(), lower.id().unwrap());
    assert_eq!(upper.public().unwrap(), lower.public().unwrap());

    let pem = Openssl::new(&P256).public();
    let crlf = key("ecdsa", "ecdsa-sha2-nistp256", &pem.replace('\n', "\r\n"));
    let one = key("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", &pem);
    assert_ne!(crlf.id().unwrap(), one.id().unwrap());
    assert_eq!(crlf.public().unwrap(), one.public().unwrap());
}

#[test]
fn a_key_without_its_public_half_is_completed() {
    let der = pkcs8("any");
    assert_eq!(der.len(), 48);
    let signer = Signer::from_pkcs8(&der).unwrap();
    let public = signer.key().public().unwrap();
    assert!(public.verifies(MESSAGE, &signer.sign(MESSAGE).bytes().unwrap()));
    for cut in 0..der.len() {
        assert!(Signer::from_pkcs8(&der[..cut]).is_err());
    }
}

#[test]
fn signatures_are_hexadecimal_digits_of_either_case() {
    let mut signature = signer("any").sign(MESSAGE);
    let bytes = signature.bytes().unwrap();
    signature.sig = signature.sig.to_uppercase();
    assert_eq!(signature.bytes().unwrap(), bytes);
    for sig in ["0", "0g", "é0", "０0", " 00", "0x00"] {
        signature.sig = sig.to_string();
        assert_eq!(signature.bytes(), None, "{sig:?}");
    }
    signature.sig.clear();
    assert_eq!(signature.bytes(), Some(Vec::new()));
}
