// SPDX-License-Identifier: GPL-2.0

//! Objects of the unpatched source, kept for the next build.
//!
//! An object is as good as a new one while the command and all files that the compiler read are the same, which
//! their sizes and times tell. It lies beside a record: the command, and a line for each file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The kept objects of one kernel.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Uses a folder, which need not be there.
    pub fn new(dir: PathBuf) -> Self {
        Store { dir }
    }

    fn paths(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.dir.join(name), self.dir.join(format!("{name}.record")))
    }

    /// Copies a kept object to `object` if it is what the command would make.
    pub fn fetch(&self, name: &str, command: &str, object: &Path) -> bool {
        let (kept, record) = self.paths(name);
        let Ok(text) = fs::read_to_string(record) else {
            return false;
        };
        let mut lines = text.lines();
        let same = lines.next() == Some(command)
            && lines.all(|line| {
                line.split_once(' ')
                    .and_then(|(_, path)| stamp(Path::new(path)).ok())
                    .is_some_and(|now| now == line)
            });
        same && fs::copy(kept, object).is_ok()
    }

    /// Keeps an object; losing it costs a compilation, nothing else.
    pub fn keep(&self, name: &str, command: &str, object: &Path, deps: &[PathBuf]) -> Result<()> {
        let mut text = format!("{command}\n");
        for dep in deps {
            text.push_str(&stamp(dep)?);
            text.push('\n');
        }
        fs::create_dir_all(&self.dir)?;
        let (kept, record) = self.paths(name);
        // Never an object beside the record of another one.
        let _ = fs::remove_file(&record);
        for (path, from) in [(kept, None), (record, Some(text))] {
            let mut temporary = path.clone().into_os_string();
            temporary.push(format!(".{}", std::process::id()));
            match from {
                None => fs::copy(object, &temporary).map(|_| ())?,
                Some(text) => fs::write(&temporary, text)?,
            }
            fs::rename(&temporary, &path)?;
        }
        Ok(())
    }
}

/// What tells one state of a file from another: size and time, and its path.
pub fn stamp(path: &Path) -> Result<String> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!(
        "{}:{}.{} {}",
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_kept_until_command_or_sources_change() {
        let dir = std::env::temp_dir().join(format!("kcare-store-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (source, object, out) = (dir.join("a.c"), dir.join("a.o"), dir.join("out.o"));
        fs::write(&source, "int a;").unwrap();
        fs::write(&object, "object").unwrap();
        let store = Store::new(dir.join("store"));
        assert!(!store.fetch("a", "cc", &out));
        store
            .keep("a", "cc", &object, std::slice::from_ref(&source))
            .unwrap();
        assert!(store.fetch("a", "cc", &out));
        assert_eq!(fs::read(&out).unwrap(), b"object");
        assert!(!store.fetch("a", "cc -O3", &out));
        assert!(!store.fetch("b", "cc", &out));
        fs::write(&source, "int aa;").unwrap();
        assert!(!store.fetch("a", "cc", &out));
        fs::remove_dir_all(&dir).unwrap();
    }
}
