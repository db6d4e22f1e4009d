// SPDX-License-Identifier: GPL-2.0

//! Public keys as a root lists them, signatures, and the private keys of a publisher.

use std::path::Path;

use pem_rfc7468::LineEnding;
use ring::digest::{digest, SHA256, SHA512};
use ring::rand::SystemRandom;
use ring::signature::{self, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::{json, Map, Value};
use spki::der::Decode;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::error::{Error, Malformed, Result};
use crate::json;
use crate::metadata::Fields;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// A public key as a root lists it, of any type and scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Such as `ed25519`.
    pub key_type: String,
    /// Such as `ed25519`.
    pub scheme: String,
    /// What the scheme needs, `public` for those that are known.
    pub value: Map<String, Value>,
    /// Fields that this crate does not know.
    pub unrecognised: Map<String, Value>,
}

impl Key {
    /// The key with this Ed25519 public key.
    pub fn ed25519(public: &[u8; 32]) -> Self {
        let mut value = Map::new();
        value.insert("public".to_string(), Value::String(to_hex(public)));
        Self {
            key_type: "ed25519".to_string(),
            scheme: "ed25519".to_string(),
            value,
            unrecognised: Map::new(),
        }
    }

    /// The id that most implementations give a key: the SHA-256 of its canonical form, in hexadecimal digits. A root
    /// may name its keys as it likes.
    ///
    /// # Errors
    ///
    /// [`Malformed::Number`] if the value has no canonical form.
    pub fn id(&self) -> Result<String, Malformed> {
        let known = json!({
            "keytype": self.key_type,
            "scheme": self.scheme,
            "keyval": self.value,
        });
        Ok(sha256(&json::canonical(&known)?))
    }

    /// The key itself; nothing if its type, its scheme or its form is not known, so that it never counts.
    pub fn public(&self) -> Option<PublicKey> {
        let public = self.value.get("public")?.as_str()?;
        match (self.key_type.as_str(), self.scheme.as_str()) {
            ("ed25519", "ed25519") => from_hex(public)?.try_into().ok().map(PublicKey::Ed25519),
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                PublicKey::from_pem(public).filter(|key| matches!(key, PublicKey::EcdsaP256(_)))
            }
            ("rsa", "rsassa-pss-sha256") => {
                PublicKey::from_pem(public).filter(|key| matches!(key, PublicKey::Rsa(_)))
            }
            _ => None,
        }
    }

    pub(crate) fn read(mut fields: Fields) -> Result<Self, Malformed> {
        Ok(Self {
            key_type: fields.string("keytype")?,
            scheme: fields.string("scheme")?,
            value: fields.object("keyval")?.rest(),
            unrecognised: fields.rest(),
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut object = self.unrecognised.clone();
        object.insert("keytype".to_string(), self.key_type.clone().into());
        object.insert("scheme".to_string(), self.scheme.clone().into());
        object.insert("keyval".to_string(), self.value.clone().into());
        Value::Object(object)
    }
}

/// What makes two keys the same, whatever their ids and the form they are written in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublicKey {
    /// 32 bytes.
    Ed25519([u8; 32]),
    /// The uncompressed point.
    EcdsaP256(Vec<u8>),
    /// Modulus and exponent, in the DER of PKCS #1.
    Rsa(Vec<u8>),
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in PEM; nothing if it is none, or of another algorithm.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let (label, der) = pem_rfc7468::decode_vec(pem.as_bytes()).ok()?;
        if label != "PUBLIC KEY" {
            return None;
        }
        let info = SubjectPublicKeyInfoRef::from_der(&der).ok()?;
        let bits = info.subject_public_key.as_bytes()?.to_vec();
        match info.algorithm.oid {
            RSA => Some(Self::Rsa(bits)),
            ELLIPTIC if info.algorithm.parameters_oid().ok()? == P256 => {
                Some(Self::EcdsaP256(bits))
            }
            _ => None,
        }
    }

    /// Whether `signature` is of this key over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, bytes): (&dyn signature::VerificationAlgorithm, &[u8]) = match self {
            Self::Ed25519(bytes) => (&signature::ED25519, bytes),
            Self::EcdsaP256(bytes) => (&signature::ECDSA_P256_SHA256_ASN1, bytes),
            Self::Rsa(bytes) => (&signature::RSA_PSS_2048_8192_SHA256, bytes),
        };
        UnparsedPublicKey::new(algorithm, bytes)
            .verify(message, signature)
            .is_ok()
    }
}

/// A signature as a file lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Which key of the root made it.
    pub key_id: String,
    /// In hexadecimal digits; anything else is a signature that does not count.
    pub sig: String,
    /// Fields that this crate does not know.
    pub unrecognised: Map<String, Value>,
}

impl Signature {
    /// Its bytes, if they are hexadecimal digits.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        from_hex(&self.sig)
    }

    pub(crate) fn read(mut fields: Fields) -> Result<Self, Malformed> {
        Ok(Self {
            key_id: fields.string("keyid")?,
            sig: fields.string("sig")?,
            unrecognised: fields.rest(),
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut object = self.unrecognised.clone();
        object.insert("keyid".to_string(), self.key_id.clone().into());
        object.insert("sig".to_string(), self.sig.clone().into());
        Value::Object(object)
    }
}

/// An Ed25519 private key, and the public key that belongs to it.
#[derive(Debug)]
pub struct Signer {
    pair: Ed25519KeyPair,
    key: Key,
    id: String,
}

impl Signer {
    /// Reads a PKCS #8 file, in PEM or DER, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if it cannot be read, [`Error::PrivateKey`] if it is not such a key.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::Store {
            action: "read",
            file: path.display().to_string(),
            reason: error.to_string(),
        })?;
        if bytes.starts_with(b"-----BEGIN ") {
            Self::from_pem(&bytes)
        } else {
            Self::from_pkcs8(&bytes)
        }
    }

    /// A new key in PKCS #8 and PEM, for [`Signer::open`].
    ///
    /// # Errors
    ///
    /// [`Error::PrivateKey`] if the system has no random numbers.
    pub fn generate() -> Result<String> {
        let no_numbers = |_| Error::PrivateKey {
            reason: "the system gives no random numbers for it",
        };
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(no_numbers)?;
        pem_rfc7468::encode_string("PRIVATE KEY", LineEnding::LF, pair.as_ref()).map_err(|_| {
            Error::PrivateKey {
                reason: "it cannot be written as PEM",
            }
        })
    }

    /// Reads PKCS #8 in PEM.
    ///
    /// # Errors
    ///
    /// [`Error::PrivateKey`].
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        let (label, der) = pem_rfc7468::decode_vec(pem).map_err(|_| Error::PrivateKey {
            reason: "it is not PEM",
        })?;
        match label {
            "PRIVATE KEY" => Self::from_pkcs8(&der),
            "ENCRYPTED PRIVATE KEY" => Err(Error::PrivateKey {
                reason: "it is encrypted",
            }),
            _ => Err(Error::PrivateKey {
                reason: "it is not labelled PRIVATE KEY",
            }),
        }
    }

    /// Reads PKCS #8 in DER, with or without the public key.
    ///
    /// # Errors
    ///
    /// [`Error::PrivateKey`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| Error::PrivateKey {
                reason: "it is not an Ed25519 key in PKCS #8",
            })?;
        let public: &[u8; 32] =
            pair.public_key()
                .as_ref()
                .try_into()
                .map_err(|_| Error::PrivateKey {
                    reason: "its public key has not 32 bytes",
                })?;
        let key = Key::ed25519(public);
        let id = key.id().map_err(|_| Error::PrivateKey {
            reason: "its public key has no canonical form",
        })?;
        Ok(Self { pair, key, id })
    }

    /// The public key, for a root.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The id of the public key; see [`Key::id`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The signature over `message`.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature {
            key_id: self.id.clone(),
            sig: to_hex(self.pair.sign(message).as_ref()),
            unrecognised: Map::new(),
        }
    }
}

/// In hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    to_hex(digest(&SHA256, bytes).as_ref())
}

/// In hexadecimal digits.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    to_hex(digest(&SHA512, bytes).as_ref())
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits of either case; nothing if it is something else.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<Vec<u8>>>()?;
    if digits.len() % 2 != 0 {
        return None;
    }
    Some(digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect())
}
