// SPDX-License-Identifier: GPL-2.0

//! What a payload's description says to programs, in the trade's form: `9;7.2.12-1`, the level and the version of the
//! kernel's package that it is as good as. Scanners drop every finding below that version.

use core::fmt;

/// The description of a level, to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description<'a> {
    /// The level.
    pub level: u32,
    /// Version of the kernel's package whose fixes are all in.
    pub effective: &'a str,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.level, self.effective)
    }
}

/// The version that a description names, if it has this form and is of this level. Other descriptions are for people
/// alone.
pub fn effective_version(description: &str, level: u32) -> Option<&str> {
    let (said, version) = description.split_once(';')?;
    let fits = said.parse() == Ok(level) && !version.contains(char::is_whitespace);
    (fits && !version.is_empty()).then_some(version)
}
