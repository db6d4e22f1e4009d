// SPDX-License-Identifier: GPL-2.0

//! The Update Framework (TUF), specification 1.0, for both sides: the agent, which reads a repository, and the
//! publisher, which writes one. Metadata is JSON as most implementations of TUF write it.
//!
//! A repository is four signed files. `root` names the keys of all roles, `targets` the files that are offered with
//! their lengths and hashes, `snapshot` the version of `targets`, and `timestamp` the newest `snapshot`. Each has a
//! version, which never falls, and a time at which it expires.
//!
//! | room | what |
//! |---|---|
//! | [`metadata`] | the four documents, parsed and written |
//! | [`key`] | public keys, signatures, and the private keys of a publisher |
//! | [`client`] | the client workflow, section 5 of the specification |
//! | [`fetch`], [`store`] | where it asks, and where it keeps what it trusts |
//! | [`repository`] | signs and writes metadata and target files |
//! | [`json`] | strict JSON and its canonical form |
//! | [`error`] | every reason for a refusal |
//!
//! Nothing of a document but its JSON is looked at before its signatures have been verified.
//!
//! # Where the specification leaves a choice
//!
//! * A timestamp of the trusted version ends no update: snapshot and targets are looked at all the same, so that an
//!   update that was interrupted is finished. The trusted timestamp is kept, and must not have expired.
//! * What is stored is not asked for again, if it is what was announced.
//! * Keys of timestamp and snapshot count as rotated (5.3.11) when one of them is revoked. A key that is only added
//!   makes nothing of the past doubtful. The files are removed before the new root is stored, not after the last one.
//! * After as many roots as a client follows in one update, it goes on with what it has.
//! * A name that an object has twice, a version above 2^63 and a target's name that leads out of the base are refused.
//!
//! # Not supported
//!
//! * Delegations: metadata that has them is accepted, but no delegated role is ever asked.
//! * Keys other than Ed25519, ECDSA on P-256 and RSA-PSS with SHA-256 and a salt of 32 bytes; a signature of another
//!   kind does not count. Publishers sign with Ed25519.
//! * Hashes other than SHA-256 and SHA-512; a file that has no hash of these is refused.
//! * Envelopes of other forms (DSSE), and whole numbers beyond 64 bits.
//! * Mirrors and multiple repositories (TAP 4).

pub mod client;
pub mod error;
pub mod fetch;
pub mod file;
pub mod json;
pub mod key;
pub mod level;
pub mod metadata;
pub mod repository;
pub mod store;
pub mod time;

pub use client::{Client, Limits};
pub use error::{Error, Kind, Malformed, Role};
pub use time::Time;
