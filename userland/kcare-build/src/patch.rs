// SPDX-License-Identifier: GPL-2.0

//! Applies the patches to a private copy of the files that they change.
//!
//! The copy is a tree of symbolic links into the kernel's source in which only the changed files, and
//! the folders on the way to them, are real. It is compiled in place of the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use crate::diff::matches;
use crate::kernel::Kernel;

/// What the patches do to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It exists before and after.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
}

/// The patches and the files that they change.
#[derive(Debug)]
pub struct Patches {
    /// Paths relative to the source tree.
    pub files: BTreeMap<String, Change>,
    /// Seconds since 1970 of the newest `Date:` line or patch file.
    pub time: u64,
    /// The patched files, below this folder.
    dir: PathBuf,
}

/// The files that one patch names: path and change, in its order.
fn files_of(text: &str) -> Result<Vec<(String, Change)>> {
    let mut files = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    let mut remaining = (0u64, 0u64);
    while let Some((number, line)) = lines.next() {
        if remaining != (0, 0) {
            // Inside a hunk nothing is a header.
            match line.as_bytes().first() {
                Some(b'-') => remaining.0 = remaining.0.saturating_sub(1),
                Some(b'+') => remaining.1 = remaining.1.saturating_sub(1),
                Some(b'\\') => {}
                _ => {
                    remaining.0 = remaining.0.saturating_sub(1);
                    remaining.1 = remaining.1.saturating_sub(1);
                }
            }
            continue;
        }
        if line.starts_with("rename from ") || line.starts_with("copy from ") {
            bail!(
                "line {}: renames and copies are not supported; write the patch without -M and -C",
                number + 1
            );
        }
        if line.starts_with("GIT binary patch") || line.starts_with("Binary files ") {
            bail!("line {}: binary patches are not supported", number + 1);
        }
        if let Some(ranges) = line.strip_prefix("@@ ") {
            remaining = hunk_counts(ranges)
                .with_context(|| format!("line {}: malformed hunk header `{line}`", number + 1))?;
            continue;
        }
        let Some(old) = line.strip_prefix("--- ") else {
            continue;
        };
        let Some(new) = lines.peek().and_then(|(_, l)| l.strip_prefix("+++ ")) else {
            continue;
        };
        let old = header_path(old).with_context(|| format!("line {}", number + 1))?;
        let new = header_path(new).with_context(|| format!("line {}", number + 2))?;
        files.push(match (old, new) {
            (Some(old), Some(new)) if old == new => (new, Change::Modified),
            (Some(old), Some(new)) => {
                bail!("line {}: renames `{old}` to `{new}`", number + 1)
            }
            (None, Some(new)) => (new, Change::Added),
            (Some(old), None) => (old, Change::Removed),
            (None, None) => bail!("line {}: both sides are /dev/null", number + 1),
        });
    }
    Ok(files)
}

/// The number of old and new lines that a hunk header (`-1,2 +1,3 @@`) announces.
fn hunk_counts(ranges: &str) -> Option<(u64, u64)> {
    let mut counts = ranges.split(' ').map(|range| match range.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => Some(1),
    });
    Some((counts.next()??, counts.next()??))
}

/// The path of a `---` or `+++` line without its first folder; `None` for `/dev/null`.
fn header_path(text: &str) -> Result<Option<String>> {
    let path = text.split('\t').next().unwrap_or(text).trim_end();
    if path == "/dev/null" {
        return Ok(None);
    }
    let (_, rest) = path
        .split_once('/')
        .with_context(|| format!("`{path}` has no leading folder; patches are applied with -p1"))?;
    let plain = Path::new(rest)
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    ensure!(
        plain && !rest.is_empty(),
        "`{path}` is not a path inside the source tree"
    );
    Ok(Some(rest.to_owned()))
}

/// Seconds since 1970 of the last `Date:` line of a mail (`Mon, 23 Nov 2026 10:12:00 +0100`).
fn mail_date(text: &str) -> Option<u64> {
    text.lines()
        .filter_map(|l| l.strip_prefix("Date: "))
        .filter_map(parse_mail_date)
        .max()
}

fn parse_mail_date(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let date = date.split_once(", ").map_or(date, |(_, rest)| rest);
    let mut words = date.split_whitespace();
    let day: i64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|m| name.starts_with(m))? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|n| n.parse::<i64>().ok());
    let (hour, minute) = (clock.next()??, clock.next()??);
    let second = clock.next().flatten().unwrap_or(0);
    let zone: i64 = words.next().and_then(|z| z.parse().ok()).unwrap_or(0);
    let zone = zone / 100 * 3600 + zone % 100 * 60;
    // Days from the civil calendar: March is the first month of the shifted year.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second - zone).ok()
}

impl Patches {
    /// Reads the patches and applies them to copies of the files below `dir`.
    ///
    /// Every patch must apply without fuzz.
    pub fn apply(kernel: &Kernel, patches: &[PathBuf], dir: &Path) -> Result<Self> {
        let source = kernel.source();
        let mut files: BTreeMap<String, Change> = BTreeMap::new();
        let mut dates = Vec::new();
        let mut times = Vec::new();
        fs::create_dir_all(dir)?;
        for (number, path) in patches.iter().enumerate() {
            let name = path.display().to_string();
            let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
            let text = String::from_utf8_lossy(&bytes);
            let named = files_of(&text).with_context(|| format!("in patch {name}"))?;
            ensure!(!named.is_empty(), "{name} changes no file");
            dates.extend(mail_date(&text));
            let modified = fs::metadata(path)?.modified()?;
            times.push(
                modified
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |d| d.as_secs()),
            );

            for (file, change) in named {
                let copy = dir.join(&file);
                match files.get(&file) {
                    None => {
                        let original = source.join(&file);
                        match (change, original.exists()) {
                            (Change::Added, true) => {
                                bail!("{name} adds {file}, which {} has", kernel.release)
                            }
                            (Change::Added, false) => {}
                            (_, false) => {
                                bail!(
                                    "{name} changes {file}, which {} does not have",
                                    kernel.release
                                )
                            }
                            (_, true) => {
                                fs::create_dir_all(copy.parent().context("no parent")?)?;
                                fs::copy(&original, &copy)?;
                            }
                        }
                        files.insert(file, change);
                    }
                    Some(Change::Added) if change == Change::Removed => {
                        files.remove(&file);
                    }
                    Some(_) if change == Change::Removed => {
                        files.insert(file, Change::Removed);
                    }
                    Some(_) => {}
                }
            }
            // The copy is what the build root can see.
            let visible = dir.join(format!(".patch.{number}"));
            fs::write(&visible, &bytes)?;
            let output = kernel
                .command("patch")
                .args([
                    "-p1",
                    "--fuzz=0",
                    "--force",
                    "--no-backup-if-mismatch",
                    "--reject-file=-",
                    "-d",
                ])
                .arg(dir)
                .arg("-i")
                .arg(&visible)
                .output()
                .context("cannot run patch in the build root")?;
            fs::remove_file(&visible)?;
            if !output.status.success() {
                bail!(
                    "{name} does not apply to {}:\n{}{}\n\
                     Hint: make it again for this version, whose source is in {}; name patches that it builds on before it.",
                    kernel.release,
                    String::from_utf8_lossy(&output.stdout).trim_end(),
                    String::from_utf8_lossy(&output.stderr).trim_end(),
                    source.display(),
                );
            }
        }
        let time = dates
            .into_iter()
            .max()
            .or(times.into_iter().max())
            .unwrap_or(0);
        Ok(Self {
            files,
            time,
            dir: dir.to_path_buf(),
        })
    }

    /// Writes the patched files as they are into the tree of links, without keeping line numbers.
    pub fn write_plain(&self, tree: &Path) -> Result<()> {
        for (file, change) in &self.files {
            if *change != Change::Removed {
                fs::copy(self.dir.join(file), tree.join(file))
                    .with_context(|| format!("patched file {file} is missing"))?;
            }
        }
        Ok(())
    }

    /// Builds the tree of links at `tree`, in which the folders `real` can be left by `..` too.
    pub fn link_tree(&self, source: &Path, tree: &Path, real: &BTreeSet<PathBuf>) -> Result<()> {
        let mut folders: BTreeSet<PathBuf> = BTreeSet::from([PathBuf::new()]);
        let changed = self
            .files
            .keys()
            .map(|f| Path::new(f).parent().unwrap_or(Path::new("")));
        for folder in changed.map(Path::to_path_buf).chain(real.iter().cloned()) {
            folders.extend(folder.ancestors().map(Path::to_path_buf));
        }
        // Folders come before what is in them.
        for folder in &folders {
            let here = tree.join(folder);
            fs::create_dir_all(&here)?;
            let entries = match fs::read_dir(source.join(folder)) {
                Ok(entries) => entries,
                // A folder that the patch adds.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            for entry in entries {
                let name = entry?.file_name();
                let path = folder.join(&name);
                let changed = path.to_str().is_some_and(|p| self.files.contains_key(p));
                if !changed && !folders.contains(&path) {
                    symlink(source.join(&path), here.join(&name))?;
                }
            }
        }
        for (file, change) in &self.files {
            if *change == Change::Removed {
                continue;
            }
            fs::write(tree.join(file), self.numbered(source, file)?.text)?;
        }
        Ok(())
    }

    /// A file of the tree of links.
    fn numbered(&self, source: &Path, file: &str) -> Result<Numbered> {
        let new = fs::read(self.dir.join(file))
            .with_context(|| format!("patched file {file} is missing"))?;
        Ok(match fs::read(source.join(file)) {
            Ok(old) if file.ends_with(".c") || file.ends_with(".h") => keep_lines(&old, &new),
            _ => Numbered {
                text: new,
                lines: BTreeMap::new(),
            },
        })
    }

    /// For each file of the tree of links: which line of the patched file a number stands for, if it is another.
    pub fn lines(&self, source: &Path) -> Result<BTreeMap<String, BTreeMap<u64, u64>>> {
        let files = self
            .files
            .iter()
            .filter(|(_, change)| **change == Change::Modified);
        files
            .map(|(file, _)| {
                let mut lines = self.numbered(source, file)?.lines;
                lines.retain(|said, is| said != is);
                Ok((file.clone(), lines))
            })
            .collect()
    }

    /// The patched text of a file, or `None` if it is removed.
    pub fn patched(&self, file: &str) -> Result<Option<String>> {
        match self.files.get(file) {
            Some(Change::Removed) | None => Ok(None),
            Some(_) => {
                let bytes = fs::read(self.dir.join(file))?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
        }
    }
}

/// The text of a patched file as it is compiled, and which of its lines each number stands for.
struct Numbered {
    text: Vec<u8>,
    lines: BTreeMap<u64, u64>,
}

/// Numbers the lines of a patched file so that those that stay keep their numbers, and no two have the same.
///
/// Line numbers end up in code (`__LINE__`), and functions that only moved must not differ by them. A line that
/// is new has the number of one that it replaces, or else one behind the end of the original.
fn keep_lines(old: &[u8], new: &[u8]) -> Numbered {
    let old: Vec<&[u8]> = old.split_inclusive(|&b| b == b'\n').collect();
    let new: Vec<&[u8]> = new.split_inclusive(|&b| b == b'\n').collect();
    let Some(same) = matches(&old, &new) else {
        return Numbered {
            text: new.concat(),
            lines: BTreeMap::new(),
        };
    };
    let kept: BTreeSet<usize> = same.iter().map(|&(o, _)| o).collect();
    let same: BTreeMap<usize, usize> = same.into_iter().map(|(o, n)| (n, o)).collect();
    let mut out = Vec::new();
    let mut lines = BTreeMap::new();
    // All from 0: the number that the next line has without a directive, and the first that none has had.
    let (mut next, mut unused) = (0, old.len());
    let mut comment = false;
    let mut continued = false;
    for (n, line) in new.iter().enumerate() {
        let number = match same.get(&n) {
            Some(&o) => o,
            None if next < old.len() && !kept.contains(&next) => next,
            None => unused,
        };
        // A directive works neither in a comment nor in a macro's further lines.
        if number != next && !comment && !continued {
            out.extend_from_slice(format!("#line {}\n", number + 1).as_bytes());
            next = number;
        }
        let (said, is) = (next as u64 + 1, n as u64 + 1);
        if number == next {
            lines.insert(said, is);
        } else {
            lines.entry(said).or_insert(is);
        }
        next += 1;
        unused = unused.max(next);
        comment = in_comment(line, comment);
        continued = line.trim_ascii_end().ends_with(b"\\");
        out.extend_from_slice(line);
    }
    Numbered { text: out, lines }
}

/// Whether a comment is open behind a line.
fn in_comment(line: &[u8], mut open: bool) -> bool {
    let mut i = 0;
    while i < line.len() {
        let rest = &line[i..];
        if open && rest.starts_with(b"*/") {
            open = false;
            i += 2;
        } else if !open && rest.starts_with(b"/*") {
            open = true;
            i += 2;
        } else if !open && rest.starts_with(b"//") {
            return false;
        } else if !open && (rest[0] == b'"' || rest[0] == b'\'') {
            let quote = rest[0];
            i += 1;
            while i < line.len() && line[i] != quote {
                i += if line[i] == b'\\' { 2 } else { 1 };
            }
            i += 1;
        } else {
            i += 1;
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_headers_only() {
        let patch = "--- a/x/y.c\n+++ b/x/y.c\n@@ -1,2 +1,2 @@\n--- a/no\n+++ b/no\n z\n";
        assert_eq!(
            files_of(patch).unwrap(),
            [("x/y.c".to_owned(), Change::Modified)]
        );
        let new = "--- /dev/null\n+++ b/n.h\n@@ -0,0 +1 @@\n+int x;\n";
        assert_eq!(files_of(new).unwrap(), [("n.h".to_owned(), Change::Added)]);
    }

    #[test]
    fn lines_behind_a_change_keep_their_numbers() {
        let text = |old: &str, new: &str| {
            String::from_utf8(keep_lines(old.as_bytes(), new.as_bytes()).text).unwrap()
        };
        assert_eq!(
            text("a\nb\nc\n", "a\nx\nb\nc\n"),
            "a\n#line 4\nx\n#line 2\nb\nc\n"
        );
        assert_eq!(text("a\nb\nc\n", "a\nc\n"), "a\n#line 3\nc\n");
        assert_eq!(text("a\nb\n", "a\nb\n"), "a\nb\n");
        // Not inside a macro or a comment.
        assert_eq!(
            text("#define A \\\n b\nc\n", "#define A \\\n x \\\n b\nc\n"),
            "#define A \\\n x \\\n b\n#line 3\nc\n"
        );
        assert_eq!(
            text("/* a\n b */\nc\n", "/* a\n x\n b */\nc\n"),
            "/* a\n x\n b */\n#line 3\nc\n"
        );
        assert_eq!(
            text("a\n\"/*\"\nc\n", "a\n\"/*\"\nx\nc\n"),
            "a\n\"/*\"\n#line 4\nx\n#line 3\nc\n"
        );
    }

    #[test]
    fn each_number_stands_for_one_line() {
        let old = "a\nb\nc\nd\n";
        let new = "x\na\nB\ny\nz\nc\n#define M \\\n m\nd\ne\n";
        let Numbered { text, lines } = keep_lines(old.as_bytes(), new.as_bytes());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "#line 5\nx\n#line 1\na\nB\n#line 6\ny\nz\n#line 3\nc\n#line 8\n#define M \\\n m\n#line 4\nd\n\
             #line 10\ne\n"
        );
        let lines: Vec<(u64, u64)> = lines.into_iter().collect();
        assert_eq!(
            lines,
            [
                (1, 2),
                (2, 3),
                (3, 6),
                (4, 9),
                (5, 1),
                (6, 4),
                (7, 5),
                (8, 7),
                (9, 8),
                (10, 10)
            ]
        );
    }

    #[test]
    fn paths_outside_the_tree_are_refused() {
        let patch = "--- a/../../etc/passwd\n+++ b/../../etc/passwd\n@@ -1 +1 @@\n-a\n+b\n";
        let error = format!("{:#}", files_of(patch).unwrap_err());
        assert!(
            error.contains("not a path inside the source tree"),
            "{error}"
        );
    }

    #[test]
    fn renames_are_refused_with_their_line() {
        let error = files_of("diff --git a/a.c b/b.c\nrename from a.c\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("line 2: renames"), "{error}");
    }

    #[test]
    fn mail_dates_are_seconds_since_1970() {
        assert_eq!(parse_mail_date("Thu, 1 Jan 1970 00:00:00 +0000"), Some(0));
        assert_eq!(
            parse_mail_date("Mon, 23 Nov 2026 10:12:00 +0100"),
            Some(1_795_425_120)
        );
        assert_eq!(
            parse_mail_date("29 Feb 2024 12:00 -0530"),
            Some(1_709_227_800)
        );
        assert_eq!(parse_mail_date("yesterday"), None);
    }
}
