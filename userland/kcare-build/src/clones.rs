// SPDX-License-Identifier: GPL-2.0

//! Which functions' code became part of which other ones, from the compiler's `-fdump-ipa-clones`.
//!
//! The format is that of `dump_callgraph_transformation` in GCC's cgraphclones.cc, a line for each function that was
//! inlined or copied: `Callgraph clone;NAME;ORDER;FILE;LINE;COLUMN;NAME;ORDER;FILE;LINE;COLUMN;REASON`. Functions
//! that were merged because they are identical are not among them: then one name has no code.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{ensure, Result};

/// Where the code of each function went.
#[derive(Debug, Default)]
pub struct Clones(BTreeMap<String, BTreeSet<String>>);

impl Clones {
    /// Adds what one compilation told.
    pub fn read(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("Callgraph clone;") else {
                continue;
            };
            let fields: Vec<&str> = rest.split(';').collect();
            ensure!(
                fields.len() == 11,
                "the compiler tells of a clone in an unknown form: {line}"
            );
            let (from, to) = (fields[0].to_owned(), fields[5].to_owned());
            self.0.entry(from).or_default().insert(to);
        }
        Ok(())
    }

    /// The functions that may have code of this one, itself among them.
    pub fn with_code_of(&self, function: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut queue = vec![function.to_owned()];
        while let Some(name) = queue.pop() {
            if found.insert(name.clone()) {
                queue.extend(self.0.get(&name).into_iter().flatten().cloned());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_followed_through_copies() {
        let line = |from: &str, to: &str, why: &str| {
            format!("Callgraph clone;{from};1;a.c;2;3;{to};4;a.c;5;6;{why}\n")
        };
        let text = line("f", "f.constprop.0", "constprop")
            + &line("f.constprop.0", "g", "inlining to")
            + &line("g", "f", "inlining to")
            + &line("x", "h", "inlining to")
            + "Callgraph removal;f;1;a.c;2;3\n";
        let mut clones = Clones::default();
        clones.read(&text).unwrap();
        let found = clones.with_code_of("f");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["f", "f.constprop.0", "g"]
        );
        assert_eq!(clones.with_code_of("h").len(), 1);
        assert!(clones.read("Callgraph clone;f;g\n").is_err());
    }
}
