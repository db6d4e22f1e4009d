// SPDX-License-Identifier: GPL-2.0

//! `kcare.mode=` on the kernel's command line: the way out when a machine does not come up.

use std::path::Path;

use crate::error::{Error, Result};

/// What the agent may do in this boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Everything.
    #[default]
    Normal,
    /// `no-apply`: levels are downloaded, and not applied.
    NoApply,
    /// `off`: nothing is downloaded or applied.
    Off,
}

impl Mode {
    /// Reads it from the command line of the kernel below `root`. A value that is not known stops as `off` does: who
    /// wrote it wanted something stopped.
    pub fn read(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
        let mut values = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("kcare.mode="));
        match values.next_back() {
            None | Some("normal") => Self::Normal,
            Some("no-apply") => Self::NoApply,
            Some(_) => Self::Off,
        }
    }

    /// What is said in place of doing something by itself, unless it may be done.
    pub fn stops(self, applies: bool) -> Option<&'static str> {
        match (self, applies) {
            (Self::Off, _) => {
                Some("Nothing is done: kcare.mode=off is on the kernel's command line\n")
            }
            (Self::NoApply, true) => {
                Some("Nothing is applied: kcare.mode=no-apply is on the kernel's command line\n")
            }
            _ => None,
        }
    }

    /// Refuses what an administrator asks for, who may not know.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::error::Kind) unless it may be done.
    pub fn allow(self) -> Result<()> {
        match self.stops(true) {
            None => Ok(()),
            Some(_) => Err(Error::config(
                "kcare.mode= on the kernel's command line forbids it in this boot.",
            )
            .hint("say `--force` to do it all the same, or boot without it.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let mode = |line: &str| {
            std::fs::write(root.path().join("proc/cmdline"), line).unwrap();
            Mode::read(root.path())
        };
        assert_eq!(mode("root=/dev/vda quiet\n"), Mode::Normal);
        assert_eq!(mode("kcare.mode=off\n"), Mode::Off);
        assert_eq!(mode("quiet kcare.mode=no-apply ro\n"), Mode::NoApply);
        assert_eq!(mode("kcare.mode=of\n"), Mode::Off);
        assert_eq!(mode("kcare.mode=off kcare.mode=normal\n"), Mode::Normal);
        assert!(Mode::NoApply.stops(false).is_none());
        assert!(Mode::NoApply.allow().is_err());
    }
}
