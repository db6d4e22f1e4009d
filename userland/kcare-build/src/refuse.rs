// SPDX-License-Identifier: GPL-2.0

//! How a build can end other than with a payload.

use std::fmt;

/// One thing that stands in the way of a payload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The file, function or variable.
    pub name: String,
    /// Why it cannot be patched.
    pub reason: String,
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reason: reason.into(),
        }
    }
}

/// A build that ends without a payload although nothing failed.
#[derive(Clone, Debug)]
pub enum Ending {
    /// The patches change no code of this kernel.
    NothingChanged(String),
    /// The change cannot be applied to a running kernel.
    CannotPatch(Vec<Refusal>),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::NothingChanged(why) => write!(f, "nothing changed: {why}"),
            Ending::CannotPatch(refusals) => {
                write!(f, "the change cannot be applied to a running kernel:")?;
                for refusal in refusals {
                    write!(f, "\n  {}: {}", refusal.name, refusal.reason)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Ending {}

/// Ends a build with one refusal.
pub fn refuse(name: impl Into<String>, reason: impl Into<String>) -> anyhow::Error {
    Ending::CannotPatch(vec![Refusal::new(name, reason)]).into()
}
