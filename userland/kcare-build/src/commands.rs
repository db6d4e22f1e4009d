// SPDX-License-Identifier: GPL-2.0

//! What the kernel's build would run for an object, kept for the next build.
//!
//! To ask it takes a second for a few objects and a minute for all of them; the answer stays the same as long as the
//! configuration and the build's own scripts do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::kernel::Kernel;
use crate::store::stamp;

/// The command for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What the shell runs.
    pub text: String,
    /// Whether the build makes more than objects in the folder, which it has to do before the command can run.
    pub generates: bool,
}

/// The answers of the kernel's build so far.
#[derive(Debug, Default)]
pub struct Commands {
    path: PathBuf,
    /// What the answers depend on.
    head: String,
    known: BTreeMap<String, Command>,
    /// Other facts by name.
    facts: BTreeMap<String, String>,
}

/// First word of the file; another one if its format or contents change.
const FORMAT: &str = "kcare-commands-1";

/// A fact: all objects of the configuration are known.
const ALL: &str = "all";

impl Commands {
    /// Reads the answers of earlier builds for a kernel.
    pub fn read(kernel: &Kernel) -> Self {
        let mut this = Commands {
            path: kernel.dir.join("kcare-commands"),
            head: head(kernel),
            ..Commands::default()
        };
        if let Ok(text) = fs::read_to_string(&this.path) {
            this.parse(&text);
        }
        this
    }

    /// Takes the lines of a file in, if it is whole and of this kernel.
    fn parse(&mut self, text: &str) {
        let Some(lines) = text
            .strip_prefix(&self.head)
            .and_then(|rest| rest.strip_suffix("end\n"))
        else {
            return;
        };
        for line in lines.lines() {
            let mut fields = line.splitn(3, '\t');
            let (Some(kind), Some(name), Some(text)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let text = text.to_owned();
            match kind {
                "fact" => {
                    self.facts.entry(name.to_owned()).or_insert(text);
                }
                "object" | "generates" => {
                    let generates = kind == "generates";
                    let command = Command { text, generates };
                    self.known.entry(name.to_owned()).or_insert(command);
                }
                _ => {}
            }
        }
    }

    /// The command for an object.
    pub fn get(&self, object: &str) -> Option<&Command> {
        self.known.get(object)
    }

    /// Whether an object without a command is not of this configuration.
    pub fn all(&self) -> bool {
        self.facts.contains_key(ALL)
    }

    /// Says so.
    pub fn set_all(&mut self) {
        self.facts.insert(ALL.to_owned(), String::new());
    }

    /// Something else that the build was asked for.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// Keeps something else that the build was asked for.
    pub fn set_fact(&mut self, name: &str, text: &str) {
        self.facts.insert(name.to_owned(), text.to_owned());
    }

    /// Adds the answers for some objects; `generated` are the folders in which the build makes more than objects.
    pub fn add(&mut self, commands: &BTreeMap<String, String>, generated: &BTreeSet<String>) {
        for (object, text) in commands {
            // What has a line's end in it could not be read again.
            if text.contains(['\n', '\t']) || object.contains(['\n', '\t']) {
                continue;
            }
            let command = Command {
                text: text.clone(),
                generates: generated.iter().any(|folder| object.starts_with(folder)),
            };
            self.known.insert(object.clone(), command);
        }
    }

    /// Writes all down; to lose them costs the time to ask again, nothing else.
    pub fn keep(&mut self) {
        // Another build may have asked for others meanwhile.
        if let Ok(text) = fs::read_to_string(&self.path) {
            self.parse(&text);
        }
        let mut out = self.head.clone();
        for (name, text) in &self.facts {
            let _ = writeln!(out, "fact\t{name}\t{text}");
        }
        for (name, command) in &self.known {
            let kind = if command.generates {
                "generates"
            } else {
                "object"
            };
            let _ = writeln!(out, "{kind}\t{name}\t{}", command.text);
        }
        out.push_str("end\n");
        let temporary = self.path.with_extension(std::process::id().to_string());
        if fs::write(&temporary, out)
            .and_then(|()| fs::rename(&temporary, &self.path))
            .is_err()
        {
            let _ = fs::remove_file(&temporary);
        }
    }
}

/// The first line of the file: the state of what the answers depend on.
fn head(kernel: &Kernel) -> String {
    let (source, build) = (kernel.source(), kernel.build());
    let inputs = [
        kernel.dir.join(".prepared"),
        build.join(".config"),
        build.join("include/config/auto.conf"),
        source.join("Makefile"),
        source.join("arch/x86/Makefile"),
        source.join("scripts/Kbuild.include"),
        source.join("scripts/Makefile.build"),
        source.join("scripts/Makefile.compiler"),
        source.join("scripts/Makefile.lib"),
    ];
    let mut out = FORMAT.to_owned();
    for path in inputs {
        let state = stamp(&path).unwrap_or_else(|_| format!("none {}", path.display()));
        let _ = write!(out, " {state}");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_the_same_configuration_only() {
        let dir = std::env::temp_dir().join(format!("kcare-commands-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let empty = |head: &str| Commands {
            path: dir.join("commands"),
            head: format!("{head}\n"),
            ..Commands::default()
        };
        let mut first = empty("a");
        let commands = ["a/b.o", "c/d.o"].map(|o| (o.to_owned(), format!("cc -c {o}")));
        first.add(
            &BTreeMap::from(commands),
            &BTreeSet::from(["a/".to_owned()]),
        );
        first.set_fact("f", "some words");
        first.keep();

        let again = |head: &str| {
            let mut commands = empty(head);
            let text = fs::read_to_string(&commands.path).unwrap();
            commands.parse(&text);
            commands
        };
        let second = again("a");
        assert_eq!(second.known, first.known);
        assert!(second.get("a/b.o").unwrap().generates);
        assert!(!second.get("c/d.o").unwrap().generates);
        assert_eq!(second.fact("f"), Some("some words"));
        assert!(!second.all());
        assert!(again("b").known.is_empty());

        // A second build adds what it has asked for.
        let mut other = empty("a");
        other.set_all();
        other.keep();
        assert!(again("a").all() && again("a").get("a/b.o").is_some());
        fs::remove_dir_all(&dir).unwrap();
    }
}
