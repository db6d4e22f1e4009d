// SPDX-License-Identifier: GPL-2.0

//! What this program has done over all boots: /var/lib/kcare/history.jsonl, one JSON object a line, the oldest first.
//!
//! The kcare module tells what has happened since it was loaded; here is what is known of boots before that. A line is
//! written whole in one call; one that power has cut short is left out when it is read.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use kcare_tuf::file;
use kcare_tuf::time::Time;
use serde::{Deserialize, Serialize};

use crate::state::Event;
use crate::{kernel, System};

/// The file, below the root of the system.
const PLACE: &str = "var/lib/kcare/history.jsonl";
/// Longest that the file becomes, in bytes, and how many lines stay when it is cut.
const LONGEST: u64 = 256 << 10;
const KEPT: usize = 500;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The boot that it was in.
    pub boot_id: String,
    /// `uname -r`.
    pub release: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Adds what was done. What is live does not depend on it, so that a disk that is full is no error here.
pub fn note(system: &System, what: &str, before: u32, level: u32, refused: Option<&str>) {
    let line = Line {
        boot_id: kernel::boot_id(&system.root),
        release: kernel::release(),
        event: Event {
            module: None,
            time: u64::try_from(Time::now().unix_seconds()).unwrap_or_default(),
            what: what.to_owned(),
            level,
            before,
            refused: refused.map(str::to_owned),
        },
    };
    let _ = append(&system.root.join(PLACE), &line);
}

fn append(path: &PathBuf, line: &Line) -> std::io::Result<()> {
    // PANIC: the type has string keys only and serialises without I/O, so this cannot fail.
    let mut text = serde_json::to_string(line).expect("a line is serialisable") + "\n";
    let mut options = OpenOptions::new();
    let mut file = options.create(true).append(true).read(true).open(path)?;
    let length = file.metadata()?.len();
    if length > LONGEST {
        let lines = parse(&std::fs::read_to_string(path)?);
        let kept: String = (lines.iter().rev().take(KEPT).rev())
            .filter_map(|line| Some(serde_json::to_string(line).ok()? + "\n"))
            .collect();
        return file::write(path, (kept + &text).as_bytes());
    }
    if length > 0 {
        // What was cut short must not spoil this line, too.
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            text.insert(0, '\n');
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// What happened in other boots than this one.
pub fn of_other_boots(system: &System) -> Vec<Line> {
    let text = std::fs::read_to_string(system.root.join(PLACE)).unwrap_or_default();
    let here = kernel::boot_id(&system.root);
    let lines = parse(&text).into_iter();
    lines.filter(|line| line.boot_id != here).collect()
}

fn parse(text: &str) -> Vec<Line> {
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_line_that_was_cut_short_spoils_no_other() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        let path = root.path().join(PLACE);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel/random")).unwrap();
        note(&system, "apply", 0, 9, None);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, whole.clone() + &whole[..20]).unwrap();
        note(&system, "unload", 9, 0, Some("blocked"));
        fs::write(root.path().join("proc/sys/kernel/random/boot_id"), "other").unwrap();
        let lines = of_other_boots(&system);
        let what: Vec<_> = lines.iter().map(|line| line.event.what.as_str()).collect();
        assert_eq!(what, ["apply", "unload"]);
        assert_eq!(lines[1].event.refused.as_deref(), Some("blocked"));
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        let path = root.path().join(PLACE);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        note(&system, "apply", 0, 9, None);
        let line = fs::read_to_string(&path).unwrap();
        fs::write(&path, line.repeat(3000)).unwrap();
        note(&system, "unload", 9, 0, None);
        let lines = parse(&fs::read_to_string(&path).unwrap());
        assert_eq!(lines.len(), KEPT + 1);
        assert_eq!(lines[KEPT].event.what, "unload");
    }
}
