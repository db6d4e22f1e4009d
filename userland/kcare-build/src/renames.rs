// SPDX-License-Identifier: GPL-2.0

//! What the author of a patch says about names that are gone or new (`--renamed`).
//!
//! A variable that is gone beside a new one may be the same one under another name, and a function that is gone may
//! be what objects of the running kernel call: only the author knows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, Result};

/// The statements, each `OLD=NEW`, `OLD=` or `=NEW`.
#[derive(Debug, Default)]
pub struct Renames {
    new_names: BTreeMap<String, String>,
    gone: BTreeSet<String>,
    fresh: BTreeSet<String>,
    /// Statements that decided something.
    used: RefCell<BTreeSet<String>>,
}

impl Renames {
    /// Reads the statements.
    pub fn parse(statements: &[String]) -> Result<Self> {
        let mut this = Renames::default();
        for statement in statements {
            let word = |text: &str| {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
                text.chars().all(plain)
            };
            match statement.split_once('=') {
                Some((old, new)) if !word(old) || !word(new) => {
                    bail!("--renamed {statement}: a name has letters, digits and `_`")
                }
                None | Some(("", "")) => bail!(
                    "--renamed {statement}: write OLD=NEW, OLD= for what is gone, or =NEW for what is new"
                ),
                Some((old, "")) => {
                    this.gone.insert(old.to_owned());
                }
                Some(("", new)) => {
                    this.fresh.insert(new.to_owned());
                }
                Some((old, new)) if old == new => {
                    bail!("--renamed {statement}: both names are the same")
                }
                Some((old, new)) => {
                    if this.new_names.values().any(|other| other == new) {
                        bail!("--renamed {statement}: `{new}` has another old name already");
                    }
                    if let Some(other) = this.new_names.insert(old.to_owned(), new.to_owned()) {
                        bail!("--renamed {statement}: `{old}` has the new name `{other}` already");
                    }
                }
            }
        }
        Ok(this)
    }

    /// The name that something of the original has in the patched source; parts of functions (`f.cold`) go along.
    pub fn new_name(&self, old: &str) -> Option<String> {
        let (base, rest) = match old.split_once('.') {
            Some((base, _)) => (base, &old[base.len()..]),
            None => (old, ""),
        };
        let new = self.new_names.get(base)?;
        Some(format!("{new}{rest}"))
    }

    /// Notes that two things were paired because of a statement.
    pub fn paired(&self, old: &str) {
        let base = old.split('.').next().unwrap_or(old);
        if let Some(new) = self.new_names.get(base) {
            self.used.borrow_mut().insert(format!("{base}={new}"));
        }
    }

    /// Whether the author says that something is gone for good.
    pub fn is_gone(&self, old: &str) -> bool {
        let said = self.gone.contains(old);
        if said {
            self.used.borrow_mut().insert(format!("{old}="));
        }
        said
    }

    /// Whether the author says that something is new.
    pub fn is_fresh(&self, new: &str) -> bool {
        let said = self.fresh.contains(new);
        if said {
            self.used.borrow_mut().insert(format!("={new}"));
        }
        said
    }

    /// Fails if a statement decided nothing: a name may be mistyped.
    pub fn check_used(&self) -> Result<()> {
        let pairs = self
            .new_names
            .iter()
            .map(|(old, new)| format!("{old}={new}"));
        let gone = self.gone.iter().map(|old| format!("{old}="));
        let fresh = self.fresh.iter().map(|new| format!("={new}"));
        let used = self.used.borrow();
        for statement in pairs.chain(gone).chain(fresh) {
            if !used.contains(&statement) {
                bail!("--renamed {statement} decides nothing: the patch does not need it, or a name is wrong");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(statements: &[&str]) -> Result<Renames> {
        let all: Vec<String> = statements.iter().map(|s| (*s).to_owned()).collect();
        Renames::parse(&all)
    }

    #[test]
    fn statements_are_read_and_their_use_is_noted() {
        let renames = parse(&["a=b", "c=", "=d"]).unwrap();
        assert_eq!(renames.new_name("a").as_deref(), Some("b"));
        assert_eq!(renames.new_name("a.cold").as_deref(), Some("b.cold"));
        assert_eq!(renames.new_name("ab"), None);
        renames.paired("a.cold");
        assert!(renames.is_gone("c") && !renames.is_gone("a"));
        assert!(renames.check_used().is_err());
        assert!(renames.is_fresh("d"));
        renames.check_used().unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            &["a"][..],
            &["="],
            &["a=a"],
            &["a=b", "a=c"],
            &["a=c", "b=c"],
            &["a b=c"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
