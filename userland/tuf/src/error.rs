// SPDX-License-Identifier: GPL-2.0

//! Every reason for a refusal: which file it is about, what was expected and what was found.

use std::error::Error as StdError;
use std::fmt;

use crate::time::Time;

/// Result of what can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The four roles of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Names the keys of all roles.
    Root,
    /// Names the newest snapshot.
    Timestamp,
    /// Names the versions of all targets documents.
    Snapshot,
    /// Names the files that are offered.
    Targets,
}

impl Role {
    /// All roles, in the order in which a client asks for them.
    pub const ALL: [Role; 4] = [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets];

    /// As it stands in `_type` and in the roles of a root.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Timestamp => "timestamp",
            Role::Snapshot => "snapshot",
            Role::Targets => "targets",
        }
    }

    /// Name of its file without a version: in a store, and as snapshot and timestamp name it.
    pub const fn file_name(self) -> &'static str {
        match self {
            Role::Root => "root.json",
            Role::Timestamp => "timestamp.json",
            Role::Snapshot => "snapshot.json",
            Role::Targets => "targets.json",
        }
    }

    /// Name of the file that has one version for ever, such as `3.root.json`.
    pub fn versioned_name(self, version: u64) -> String {
        format!("{version}.{}", self.file_name())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an error means for the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The repository gave no answer.
    Unreachable,
    /// The repository does not have the file, or no document names it.
    NotFound,
    /// A file is longer than announced or allowed.
    TooLarge,
    /// A file is not what its name says, signed or not.
    Malformed,
    /// Too few keys of the role have signed.
    Signature,
    /// What is offered is older than what was trusted before.
    Rollback,
    /// The time of a document is over.
    Expired,
    /// A file is not the one that another document names.
    Mismatch,
    /// The local copy, or another local file, cannot be read or written.
    Store,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 9] = [
        Kind::Unreachable,
        Kind::NotFound,
        Kind::TooLarge,
        Kind::Malformed,
        Kind::Signature,
        Kind::Rollback,
        Kind::Expired,
        Kind::Mismatch,
        Kind::Store,
    ];

    /// One phrase, for tables and machines' output.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Unreachable => "unreachable",
            Kind::NotFound => "not found",
            Kind::TooLarge => "too large",
            Kind::Malformed => "malformed",
            Kind::Signature => "signature",
            Kind::Rollback => "rollback",
            Kind::Expired => "expired",
            Kind::Mismatch => "mismatch",
            Kind::Store => "local store",
        }
    }
}

/// Why something was refused. Its text is one line, whatever the files contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The repository did not answer, or not as it should.
    Unreachable {
        /// Path below the base of the repository.
        file: String,
        /// The words of the one who fetches.
        reason: String,
    },
    /// The repository has no such file.
    NotFound {
        /// Path below the base of the repository.
        file: String,
    },
    /// The trusted targets do not offer this file.
    NoTarget {
        /// Name of the target.
        name: String,
    },
    /// The file is longer than `limit`.
    TooLong {
        /// Path below the base of the repository.
        file: String,
        /// In bytes: what was announced, or what is allowed, whichever is less.
        limit: u64,
    },
    /// The document is not what its role wants.
    Malformed {
        /// The role of the document.
        role: Role,
        /// What is wrong.
        reason: Malformed,
    },
    /// A target's name does not do as a path below the base.
    TargetName {
        /// Name of the target.
        name: String,
    },
    /// Too few different keys have signed.
    Threshold {
        /// The role of the document.
        role: Role,
        /// Version of the root whose keys count.
        root: u64,
        /// How many keys have to sign.
        need: u64,
        /// How many have.
        have: u64,
    },
    /// The document is older than the trusted one.
    Rollback {
        /// The role of the document.
        role: Role,
        /// Version that was trusted before.
        trusted: u64,
        /// Version that is offered.
        found: u64,
    },
    /// The document names another one that is older than what was trusted before.
    RollbackOf {
        /// The role of the document that names it.
        role: Role,
        /// The file that is named.
        name: String,
        /// Version that was trusted before.
        trusted: u64,
        /// Version that is named now.
        found: u64,
    },
    /// A file that the trusted snapshot names is not in the new one.
    Vanished {
        /// The file that was named.
        name: String,
        /// Version that was trusted before.
        trusted: u64,
    },
    /// The time of the document is over.
    Expired {
        /// The role of the document.
        role: Role,
        /// When it ended.
        expires: Time,
        /// The time of the update.
        now: Time,
    },
    /// The document has another version than announced or, for a root, than the next.
    Version {
        /// The role of the document.
        role: Role,
        /// The version that it must have.
        expected: u64,
        /// The version that it has.
        found: u64,
    },
    /// The file has another length than announced.
    Length {
        /// Name of the file.
        file: String,
        /// In bytes.
        expected: u64,
        /// In bytes.
        found: u64,
    },
    /// The file has another hash than announced.
    Hash {
        /// Name of the file.
        file: String,
        /// `sha256` or `sha512`.
        algorithm: &'static str,
        /// In hexadecimal digits.
        expected: String,
        /// In hexadecimal digits.
        found: String,
    },
    /// The snapshot does not name a file that is needed.
    NotListed {
        /// The file that is not named.
        name: String,
    },
    /// A local file cannot be read or written.
    Store {
        /// What was being done, such as `write`.
        action: &'static str,
        /// Name of the file.
        file: String,
        /// The system's words.
        reason: String,
    },
    /// The store has no document of this role.
    NotStored {
        /// The role that is missing.
        role: Role,
    },
    /// A document of the store is left aside.
    Discarded {
        /// The role of the document.
        role: Role,
        /// Why it is not trusted.
        reason: Box<Error>,
    },
    /// A private key cannot be used.
    PrivateKey {
        /// What is wrong.
        reason: &'static str,
    },
    /// A file of the repository is already there, with another content.
    Exists {
        /// Name of the file.
        file: String,
    },
}

impl Error {
    /// What it means for the one who asked.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Unreachable { .. } => Kind::Unreachable,
            Error::NotFound { .. } | Error::NoTarget { .. } => Kind::NotFound,
            Error::TooLong { .. } => Kind::TooLarge,
            Error::Malformed { .. } | Error::TargetName { .. } => Kind::Malformed,
            Error::Threshold { .. } => Kind::Signature,
            Error::Rollback { .. } | Error::RollbackOf { .. } | Error::Vanished { .. } => {
                Kind::Rollback
            }
            Error::Expired { .. } => Kind::Expired,
            Error::Version { .. }
            | Error::Length { .. }
            | Error::Hash { .. }
            | Error::NotListed { .. } => Kind::Mismatch,
            Error::Store { .. }
            | Error::NotStored { .. }
            | Error::Discarded { .. }
            | Error::PrivateKey { .. }
            | Error::Exists { .. } => Kind::Store,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable { file, reason } => {
                write!(
                    f,
                    "cannot fetch {}: {}",
                    OneLine(file),
                    OneLine(reason.trim())
                )
            }
            Error::NotFound { file } => {
                write!(f, "the repository does not have {}", OneLine(file))
            }
            Error::NoTarget { name } => {
                write!(f, "the repository does not offer {}", OneLine(name))
            }
            Error::TooLong { file, limit } => {
                write!(f, "{} is longer than {limit} bytes", OneLine(file))
            }
            Error::Malformed { role, reason } => write!(f, "{role} is malformed: {reason}"),
            Error::TargetName { name } => {
                write!(
                    f,
                    "target name {} does not do as a path below the base",
                    OneLine(name)
                )
            }
            Error::Threshold {
                role,
                root,
                need,
                have,
            } => write!(
                f,
                "{role} has valid signatures of {have} of {need} keys that root {root} demands"
            ),
            Error::Rollback {
                role,
                trusted,
                found,
            } => write!(
                f,
                "{role} has version {found}, older than the trusted version {trusted}"
            ),
            Error::RollbackOf {
                role,
                name,
                trusted,
                found,
            } => write!(
                f,
                "{role} names version {found} of {}, older than the trusted version {trusted}",
                OneLine(name)
            ),
            Error::Vanished { name, trusted } => write!(
                f,
                "snapshot does not name {}, which is trusted in version {trusted}",
                OneLine(name)
            ),
            Error::Expired { role, expires, now } => {
                write!(f, "{role} has expired: it ended {expires}, now is {now}")
            }
            Error::Version {
                role,
                expected,
                found,
            } => write!(f, "{role} has version {found} in place of {expected}"),
            Error::Length {
                file,
                expected,
                found,
            } => write!(
                f,
                "{} has {found} bytes in place of {expected}",
                OneLine(file)
            ),
            Error::Hash {
                file,
                algorithm,
                expected,
                found,
            } => write!(
                f,
                "{} has {algorithm} {found} in place of {expected}",
                OneLine(file)
            ),
            Error::NotListed { name } => write!(f, "snapshot does not name {}", OneLine(name)),
            Error::Store {
                action,
                file,
                reason,
            } => write!(f, "cannot {action} {}: {}", OneLine(file), OneLine(reason)),
            Error::NotStored { role } => write!(f, "the store has no {role}"),
            Error::Discarded { role, reason } => {
                write!(f, "the stored {role} is left aside: {reason}")
            }
            Error::PrivateKey { reason } => write!(f, "cannot use the private key: {reason}"),
            Error::Exists { file } => {
                write!(
                    f,
                    "{} is already there, with another content",
                    OneLine(file)
                )
            }
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Discarded { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// Why a document is not what its role wants. `field` is a path such as `signed.roles.root.threshold`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not UTF-8 at this offset in bytes.
    Utf8 {
        /// Offset in bytes.
        offset: usize,
    },
    /// Not JSON.
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// The parser's words.
        reason: String,
    },
    /// An object has a name twice.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A number that is not whole, or does not fit into 64 bits, which have no canonical form.
    Number {
        /// As it was understood.
        found: String,
    },
    /// A field is not there.
    Missing {
        /// Path of the field.
        field: String,
    },
    /// A field has a value of another JSON type.
    NotA {
        /// Path of the field.
        field: String,
        /// What it should be, such as `a string`.
        expected: &'static str,
    },
    /// `_type` is not that of the role.
    Type {
        /// What was found.
        found: String,
    },
    /// The document follows another specification than 1.
    SpecVersion {
        /// What was found.
        found: String,
    },
    /// A version is not in the range 1 to 2^63.
    Version {
        /// Path of the field.
        field: String,
        /// What was found.
        found: String,
    },
    /// A length is negative.
    Length {
        /// Path of the field.
        field: String,
        /// What was found.
        found: String,
    },
    /// A threshold is less than 1.
    Threshold {
        /// Path of the field.
        field: String,
        /// What was found.
        found: String,
    },
    /// A role names a key twice.
    DuplicateKeyId {
        /// Path of the list.
        field: String,
        /// The key.
        id: String,
    },
    /// A key has signed twice.
    DuplicateSignature {
        /// The key.
        id: String,
    },
    /// A root has a role that does not exist.
    UnknownRole {
        /// Name of the role.
        name: String,
    },
    /// A time is not written as `YYYY-MM-DDTHH:MM:SSZ`, or does not exist.
    Time {
        /// What was found.
        found: String,
    },
    /// A hash is not in lower-case hexadecimal digits of the algorithm's length.
    Hash {
        /// Path of the field.
        field: String,
        /// What was found.
        found: String,
    },
    /// There is no hash of an algorithm that is known.
    NoHash {
        /// Path of the field.
        field: String,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Utf8 { offset } => write!(f, "it is not UTF-8 at byte {offset}"),
            Malformed::Json {
                line,
                column,
                reason,
            } => write!(
                f,
                "it is not JSON at line {line}, column {column}: {}",
                OneLine(reason)
            ),
            Malformed::DuplicateName { name } => {
                write!(f, "an object has the name {name:?} twice")
            }
            Malformed::Number { found } => {
                write!(f, "{found} is not a whole number of 64 bits")
            }
            Malformed::Missing { field } => write!(f, "{} is missing", OneLine(field)),
            Malformed::NotA { field, expected } => {
                write!(f, "{} is not {expected}", OneLine(field))
            }
            Malformed::Type { found } => write!(f, "its _type is {found:?}"),
            Malformed::SpecVersion { found } => {
                write!(f, "its spec_version is {found:?}; only 1 is known")
            }
            Malformed::Version { field, found } => {
                write!(f, "{} is {found}; it must be 1 to 2^63", OneLine(field))
            }
            Malformed::Length { field, found } => {
                write!(f, "{} is {found}; it must not be negative", OneLine(field))
            }
            Malformed::Threshold { field, found } => {
                write!(f, "{} is {found}; it must be 1 or more", OneLine(field))
            }
            Malformed::DuplicateKeyId { field, id } => {
                write!(f, "{} has the key {id:?} twice", OneLine(field))
            }
            Malformed::DuplicateSignature { id } => {
                write!(f, "signatures has the key {id:?} twice")
            }
            Malformed::UnknownRole { name } => write!(f, "there is no role {name:?}"),
            Malformed::Time { found } => {
                write!(f, "{found:?} is no time as YYYY-MM-DDTHH:MM:SSZ")
            }
            Malformed::Hash { field, found } => {
                write!(f, "{} is no such hash: {found:?}", OneLine(field))
            }
            Malformed::NoHash { field } => {
                write!(f, "{} has neither sha256 nor sha512", OneLine(field))
            }
        }
    }
}

impl StdError for Malformed {}

/// Text of others, with control characters escaped so that it stays on one line.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}
