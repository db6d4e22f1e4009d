// SPDX-License-Identifier: GPL-2.0

//! Errors: their kind, which decides prefix and exit code, and their printed form.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::device::Refusal;
use crate::file;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The command or the file is wrong, or the caller is not root.
    User,
    /// This machine is not set up for kcare.
    Config,
    /// A signature or its certificate is not accepted, or something is not what was signed.
    Trust,
    /// The running kernel refused or could not do it.
    Kernel,
    /// A fault in kcare itself.
    Internal,
    /// The server gives no answer, or not what it should.
    Server,
    /// What the server offers is too old, or this machine's clock is wrong.
    Expired,
    /// A file of this machine cannot be read or written.
    Disk,
}

impl Kind {
    /// All kinds, in the order of their exit codes.
    pub const ALL: [Kind; 8] = [
        Kind::User,
        Kind::Config,
        Kind::Trust,
        Kind::Kernel,
        Kind::Internal,
        Kind::Server,
        Kind::Expired,
        Kind::Disk,
    ];

    /// Exit code; 0 to 3 are answers of a command that worked.
    pub const fn exit_code(self) -> u8 {
        match self {
            Kind::User => 4,
            Kind::Config => 5,
            Kind::Trust => 6,
            Kind::Kernel => 7,
            Kind::Internal => 8,
            Kind::Server => 9,
            Kind::Expired => 10,
            Kind::Disk => 11,
        }
    }

    /// What stands between the program's name and the message.
    pub const fn prefix(self) -> &'static str {
        match self {
            Kind::User => "",
            Kind::Config => "configuration: ",
            Kind::Trust => "not trusted: ",
            Kind::Kernel => "kernel: ",
            Kind::Internal => "internal error: ",
            Kind::Server => "server: ",
            Kind::Expired => "expired: ",
            Kind::Disk => "disk: ",
        }
    }

    /// One phrase for the table of exit codes.
    pub const fn meaning(self) -> &'static str {
        match self {
            Kind::User => "wrong command line, wrong file, or not root",
            Kind::Config => "this machine is not set up for kcare",
            Kind::Trust => "the signature is not accepted",
            Kind::Kernel => "the running kernel refused or could not do it",
            Kind::Internal => "a fault in kcare itself",
            Kind::Server => "the server gives no answer, or not what it should",
            Kind::Expired => "what the server offers is too old, or the clock is wrong",
            Kind::Disk => "a file of this machine cannot be read or written",
        }
    }
}

/// Why a command failed, and what to do next.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
    refusal: Option<Box<Refusal>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    is_older: bool,
    wants_root: bool,
}

/// Result of what can fail here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with one sentence that tells what could not be done, and why.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Vec::new(),
            hints: Vec::new(),
            refusal: None,
            source: None,
            is_older: false,
            wants_root: false,
        }
    }

    /// [`Error::new`] with [`Kind::User`].
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Kind::User, message)
    }

    /// [`Error::new`] with [`Kind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    /// Adds a line of facts.
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Adds a next step: an imperative sentence, with commands in backticks.
    pub fn hint(mut self, sentence: impl Into<String>) -> Self {
        self.hints.push(sentence.into());
        self
    }

    /// Adds the kernel's own words, for `--json`.
    pub fn refused(mut self, refusal: Refusal) -> Self {
        self.refusal = Some(Box::new(refusal));
        self
    }

    /// Adds the error underneath. A file of this machine that others than root may not write or read is no fault of the
    /// disk: the error is the caller's then ([`Kind::User`]), with the hint to be root.
    pub fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.caused_by_for(source.into(), rustix::process::geteuid().is_root())
    }

    fn caused_by_for(mut self, source: Box<dyn StdError + Send + Sync>, is_root: bool) -> Self {
        let denied = source.downcast_ref().is_some_and(file::is_denied);
        self.wants_root |= self.kind == Kind::Disk && denied && !is_root;
        self.source = Some(source);
        self
    }

    /// Marks that what was offered is older than what is known already.
    pub fn older(mut self) -> Self {
        self.is_older = true;
        self
    }

    /// Whether what was offered is older than what is known already.
    pub fn is_older(&self) -> bool {
        self.is_older
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        match self.wants_root {
            true => Kind::User,
            false => self.kind,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An [`Error`] ready for printing, as text or as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Whose fault it is.
    pub kind: Kind,
    /// Exit code of the program.
    pub exit_code: u8,
    /// One sentence: what could not be done, and why.
    pub message: String,
    /// Facts, one a line.
    pub details: Vec<String>,
    /// The errors underneath, outermost first.
    pub causes: Vec<String>,
    /// Next steps.
    pub hints: Vec<String>,
    /// The kernel's own words, if it was the kernel that refused.
    pub refusal: Option<Refusal>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let chain = std::iter::successors(error.source(), |&cause| cause.source());
        Self {
            kind: error.kind(),
            exit_code: error.kind().exit_code(),
            message: error.message.clone(),
            details: error.details.clone(),
            causes: chain.map(|cause| cause.to_string()).collect(),
            hints: match error.wants_root {
                true => vec!["run it as root.".to_owned()],
                false => error.hints.clone(),
            },
            refusal: error.refusal.as_deref().cloned(),
        }
    }
}

impl Failure {
    /// The form for people: message, facts, causes and hints, each on a line of its own.
    pub fn text(&self, program: &str) -> String {
        let mut text = format!("{program}: {}{}\n", self.kind.prefix(), self.message);
        for line in &self.details {
            text += &format!("  {line}\n");
        }
        for cause in &self.causes {
            text += &format!("Caused by: {cause}\n");
        }
        for hint in &self.hints {
            text += &format!("Hint: {hint}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_leave_0_to_3_to_answers() {
        let codes = Kind::ALL.map(Kind::exit_code);
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert!(codes[0] > 3);
    }

    #[test]
    fn text_has_facts_causes_and_hints_on_their_own_lines() {
        let inner = std::io::Error::other(Error::user("inner"));
        let error = Error::config("cannot do it.")
            .detail("fact 1")
            .detail("fact 2")
            .hint("run `this`.")
            .caused_by(inner);
        assert_eq!(
            Failure::from(&error).text("kcarectl"),
            "kcarectl: configuration: cannot do it.\n  fact 1\n  fact 2\nCaused by: inner\nHint: run `this`.\n"
        );
    }

    #[test]
    fn a_file_that_only_root_may_write_is_the_callers_fault() {
        use std::io;
        let (denied, read_only) = (
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        );
        for (kind, cause, is_root, expected) in [
            (Kind::Disk, denied, false, Kind::User),
            (Kind::Disk, read_only, false, Kind::User),
            (Kind::Disk, io::ErrorKind::StorageFull, false, Kind::Disk),
            (Kind::Disk, denied, true, Kind::Disk),
            (Kind::Disk, read_only, true, Kind::Disk),
            (Kind::Config, denied, false, Kind::Config),
        ] {
            let error = Error::new(kind, "cannot write.");
            let error = error
                .caused_by_for(io::Error::from(cause).into(), is_root)
                .hint("check the disk.");
            let failure = Failure::from(&error);
            assert_eq!(
                (error.kind(), failure.kind),
                (expected, expected),
                "{cause:?}"
            );
            let hint = if expected == Kind::User {
                "run it as root."
            } else {
                "check the disk."
            };
            assert_eq!(failure.hints, [hint], "{cause:?}");
        }
    }

    #[test]
    fn the_whole_chain_of_causes_is_kept() {
        let inner = Error::user("middle").caused_by(Error::user("root"));
        let failure = Failure::from(&Error::user("outer").caused_by(inner));
        assert_eq!(failure.causes, ["middle", "root"]);
    }
}
