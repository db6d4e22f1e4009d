// SPDX-License-Identifier: GPL-2.0

//! The account of files: what each file that the patches change is to one kernel, and which units read it.

use std::collections::{BTreeMap, BTreeSet};

/// What a changed file is to one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// C source or a header: units are compiled from it, or include it.
    Compiled,
    /// Code of an image that is in the kernel or in front of it, assembly, or what code is generated from; it was looked
    /// at whether it changes.
    Fixed,
    /// A part of no code of this kernel.
    Nothing,
}

/// A changed file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is.
    pub role: Role,
    /// Why it is taken for that.
    pub reason: String,
    /// How many files may include it, as the text of the source tree says.
    pub may_include: usize,
    /// The units that were compiled or preprocessed and have it in their dependencies.
    pub units: BTreeSet<String>,
    /// How many units were looked at.
    pub looked: usize,
}

/// What became of each changed file.
#[derive(Clone, Debug, Default)]
pub struct Account {
    files: BTreeMap<String, Entry>,
}

impl Account {
    /// Enters a file.
    pub fn enter(&mut self, file: &str, role: Role, reason: impl Into<String>) {
        let entry = Entry {
            role,
            reason: reason.into(),
            may_include: 0,
            units: BTreeSet::new(),
            looked: 0,
        };
        self.files.insert(file.to_owned(), entry);
    }

    /// Says how many files may include a file.
    pub fn may_include(&mut self, file: &str, count: usize) {
        if let Some(entry) = self.files.get_mut(file) {
            entry.may_include = count;
        }
    }

    /// Takes in what one unit read: changed files by their names.
    pub fn read_by(&mut self, unit: &str, files: &BTreeSet<String>) {
        for (name, entry) in &mut self.files {
            if entry.role != Role::Compiled {
                continue;
            }
            entry.looked += 1;
            if files.contains(name) {
                entry.units.insert(unit.to_owned());
            }
        }
    }

    /// Whether any of them is compiled or included.
    pub fn any_compiled(&self) -> bool {
        self.files
            .values()
            .any(|entry| entry.role == Role::Compiled)
    }

    /// The files that are compiled or included.
    pub fn compiled(&self) -> impl Iterator<Item = &str> {
        let compiled = self.files.iter().filter(|(_, e)| e.role == Role::Compiled);
        compiled.map(|(file, _)| file.as_str())
    }

    /// A changed file.
    pub fn get(&self, file: &str) -> Option<&Entry> {
        self.files.get(file)
    }

    /// One line for each file: what it is and who reads it.
    pub fn lines(&self) -> Vec<String> {
        self.files
            .iter()
            .map(|(file, entry)| format!("{file}: {}", entry.text(file)))
            .collect()
    }

    /// Remarks about what a payload does not have of the patches, or has by way of another file.
    pub fn remarks(&self) -> Vec<String> {
        let telling = |(file, entry): (&String, &Entry)| match entry.role {
            Role::Compiled if entry.units.contains(file) => None,
            Role::Compiled if !entry.units.is_empty() && !file.ends_with(".c") => None,
            Role::Compiled | Role::Nothing => Some(format!("{file}: {}", entry.text(file))),
            Role::Fixed => None,
        };
        self.files.iter().filter_map(telling).collect()
    }

    /// Why nothing changed, file by file.
    pub fn nothing(&self, compared: bool) -> String {
        let mut text = match compared {
            true => "no function differs".to_owned(),
            false => "the patches touch no code of this kernel".to_owned(),
        };
        for line in self.lines() {
            text.push_str("\n  ");
            text.push_str(&line);
        }
        text
    }
}

impl Entry {
    fn text(&self, file: &str) -> String {
        if self.role != Role::Compiled {
            return self.reason.clone();
        }
        let others: Vec<&str> = self
            .units
            .iter()
            .map(String::as_str)
            .filter(|u| *u != file)
            .collect();
        let also = some(&others);
        if self.units.contains(file) {
            return match others.is_empty() {
                true => "was compiled".to_owned(),
                false => format!("was compiled, also as a part of {also}"),
            };
        }
        if !others.is_empty() {
            return match file.ends_with(".c") {
                true => format!("is compiled as a part of {also}"),
                false => format!("is read by {also}"),
            };
        }
        if !self.reason.is_empty() {
            return self.reason.clone();
        }
        let looked = match self.looked {
            0 => String::new(),
            count => format!(", and none of the {count} unit(s) that were looked at reads it"),
        };
        match (file.ends_with(".c"), self.may_include) {
            (true, _) => format!(
                "is not part of this kernel: neither vmlinux nor a module is made of it{looked}"
            ),
            (false, 0) => format!("is included by no file{looked}"),
            (false, count) => format!(
                "of the {count} file(s) that may include it none is a unit of this kernel that depends on what changed in \
                 it{looked}"
            ),
        }
    }
}

/// The first of some names, and how many more there are.
pub fn some(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_a_line() {
        let mut account = Account::default();
        for file in ["a.c", "b.c", "c.h", "d.h"] {
            account.enter(file, Role::Compiled, "");
        }
        account.enter("README", Role::Nothing, "is no code");
        account.read_by("a.c", &BTreeSet::from(["a.c".to_owned(), "c.h".to_owned()]));
        account.read_by("x.c", &BTreeSet::from(["b.c".to_owned()]));
        let lines = account.lines();
        assert_eq!(
            lines,
            [
                "README: is no code",
                "a.c: was compiled",
                "b.c: is compiled as a part of x.c",
                "c.h: is read by a.c",
                "d.h: is included by no file, and none of the 2 unit(s) that were looked at reads it",
            ]
        );
        let remarks = account.remarks();
        assert_eq!(remarks, [&lines[0][..], &lines[2], &lines[4]]);
        assert!(account
            .nothing(true)
            .starts_with("no function differs\n  README: is no code\n"));
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(some(&["a", "b"]), "a, b");
        assert_eq!(some(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
