// SPDX-License-Identifier: GPL-2.0

//! Applies the patches to a private copy of the files that they change.
//!
//! The copy is a tree of symbolic links into the kernel's source in which only the changed files, and
//! the folders on the way to them, are real. It is compiled in place of the source.
//!
//! patch(1) applies them. What [`forms`] read in a patch file, and what patch(1) then did, must agree.

mod forms;
#[cfg(test)]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};

use self::forms::{Found, Hunk, Section, Step};
use crate::diff::matches;
use crate::kernel::Kernel;
use crate::refuse::Ending;

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

/// The files below a folder, with their text.
type Contents = BTreeMap<String, Vec<u8>>;

/// The kernel's source with what the patches have changed so far.
struct State<'a> {
    kernel: &'a Kernel,
    /// The source tree, without links.
    source: PathBuf,
    /// The folder of copies, which patch(1) works in.
    dir: &'a Path,
    /// The files that a patch has named: what counts is whether there is a copy.
    named: BTreeSet<String>,
}

impl State<'_> {
    /// What is at a path.
    fn look(&self, path: &str) -> Found {
        if self.named.contains(path) {
            return match self.dir.join(path).is_file() {
                true => Found::File,
                false => Found::Nothing,
            };
        }
        let place = self.source.join(path);
        match place.canonicalize() {
            Ok(real) if real != place => {
                let inside = real.strip_prefix(&self.source).unwrap_or(&real);
                Found::Link(inside.display().to_string())
            }
            Ok(real) if real.is_dir() => Found::Folder,
            Ok(_) => Found::File,
            Err(_) if self.dir.join(path).is_dir() => Found::Folder,
            Err(_) => Found::Nothing,
        }
    }

    /// What the diffs of a patch file do, each after those before it.
    fn steps(&self, sections: &[Section]) -> Result<Vec<Step>> {
        let mut before: BTreeMap<String, Found> = BTreeMap::new();
        let mut steps = Vec::new();
        for section in sections {
            let look = |path: &str| match before.get(path) {
                Some(found) => found.clone(),
                None => self.look(path),
            };
            let step = section.step(&self.kernel.release, &look)?;
            let found = match step.change {
                Some(Change::Removed) => Found::Nothing,
                _ => Found::File,
            };
            before.insert(step.path.clone(), found);
            steps.push(step);
        }
        Ok(steps)
    }

    /// Makes the copies that a patch needs.
    fn copy<'p>(&mut self, paths: impl Iterator<Item = &'p str>) -> Result<()> {
        for path in paths {
            let original = self.source.join(path);
            if self.named.insert(path.to_owned()) && original.exists() {
                let copy = self.dir.join(path);
                fs::create_dir_all(copy.parent().context("no parent")?)?;
                fs::copy(&original, &copy)?;
            }
        }
        Ok(())
    }

    /// Runs patch(1) on the copies; gives whether it succeeded, and what it said.
    fn patch(&self, text: &[u8], fuzz: usize, options: &[&str]) -> Result<(bool, String)> {
        // The build root can see what is beside the copies.
        let file = self.dir.with_extension("diff");
        fs::write(&file, text)?;
        let output = self
            .kernel
            .command("patch")
            .args([
                "-p1",
                // Nothing but unified diffs: a script for ed can run commands.
                "--unified",
                "--force",
                "--verbose",
                "--no-backup-if-mismatch",
                "--reject-file=-",
            ])
            .args(options)
            .arg(format!("--fuzz={fuzz}"))
            .arg("-d")
            .arg(self.dir)
            .arg("-i")
            .arg(&file)
            .output()
            .context("cannot run patch in the build root")?;
        fs::remove_file(&file)?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), said))
    }

    /// Whether the tree has what the diffs make: nothing says so but that they can be taken back.
    fn has(&mut self, sections: &[Section], text: &[u8]) -> Result<bool> {
        let look = |path: &str| self.look(path);
        let mut paths = Vec::new();
        for section in sections {
            let Some(path) = section.result(&look) else {
                return Ok(false);
            };
            paths.push(path);
        }
        self.copy(paths.iter().map(String::as_str))?;
        let (fits, _) = self.patch(text, fuzz(sections), &["--reverse", "--dry-run"])?;
        Ok(fits)
    }

    /// Puts the copies back as they were.
    fn restore(&self, before: &Contents, after: &Contents) -> Result<()> {
        for path in after.keys().filter(|path| !before.contains_key(*path)) {
            fs::remove_file(self.dir.join(path))?;
        }
        for (path, text) in before {
            let copy = self.dir.join(path);
            fs::create_dir_all(copy.parent().context("no parent")?)?;
            fs::write(&copy, text)?;
        }
        Ok(())
    }

    /// The copies as they are.
    fn contents(&self) -> Result<Contents> {
        fn add(root: &Path, folder: &Path, out: &mut Contents) -> Result<()> {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    add(root, &path, out)?;
                } else {
                    let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                    out.insert(name, fs::read(&path)?);
                }
            }
            Ok(())
        }
        let mut out = Contents::new();
        add(self.dir, self.dir, &mut out)?;
        Ok(out)
    }
}

/// The fuzz that patch(1) needs.
///
/// It takes a hunk with less context at one end for one at the start or end of the file, unless fuzz is allowed.
/// Then it leaves lines at the other end out of sight, which [`check_applied`] looks at.
fn fuzz(sections: &[Section]) -> usize {
    let hunks = sections.iter().flat_map(|section| &section.hunks);
    hunks.map(|hunk| hunk.uneven).max().unwrap_or(0)
}

/// The diffs of a patch file in groups in which no file is twice, so that what became of each can be looked at.
fn groups(steps: &[Step]) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut paths = BTreeSet::new();
    for (number, step) in steps.iter().enumerate() {
        match out.last_mut() {
            Some(group) if paths.insert(&step.path) => group.end = number + 1,
            _ => {
                paths = BTreeSet::from([&step.path]);
                out.push(number..number + 1);
            }
        }
    }
    out
}

/// What patch(1) said that it did: the files in its order, and the first lines of the hunks, from 1.
fn applied(said: &str) -> Vec<(String, Vec<usize>)> {
    let mut files: Vec<(String, Vec<usize>)> = Vec::new();
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            // It quotes what has blanks, and leaves single dots.
            let name = name.trim_matches('\'').replace("/./", "/");
            let name = name.strip_prefix("./").unwrap_or(&name);
            files.push((name.to_owned(), Vec::new()));
        } else if line.starts_with("patching ") {
            files.push((line.to_owned(), Vec::new()));
        } else if let (Some(rest), Some((_, hunks))) =
            (line.strip_prefix("Hunk #"), files.last_mut())
        {
            let place: Option<usize> = rest.split_once(" succeeded at ").and_then(|(_, rest)| {
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
                digits.parse().ok()
            });
            hunks.extend(place);
        }
    }
    files
}

/// What patch(1) said, without the text of the patch file.
fn answer(said: &str) -> String {
    const CHATTER: &[&str] = &[
        "|",
        "----",
        "Hmm...",
        "The text leading up to this was",
        "Using Plan ",
        "done",
    ];
    let lines = said
        .lines()
        .filter(|line| !CHATTER.iter().any(|start| line.starts_with(start)));
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines of a text, without line ends.
fn lines(text: &str) -> Vec<&str> {
    text.split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .collect()
}

/// Makes sure that no hunk could as well belong to another place of the file.
///
/// `places` are the first lines of the hunks in the new text, and `text` is the old one. A hunk that fits in several
/// places has to be where it says, or as far from there as the hunks around it, each of which fits in one place only.
fn check_places(path: &str, hunks: &[Hunk], places: &[usize], text: &[&str]) -> Result<()> {
    // How far the hunks that fit in one place only are from where they say, and the fits of the others.
    let mut sure: BTreeMap<usize, i128> = BTreeMap::new();
    let mut open: Vec<(usize, i128, Vec<i128>)> = Vec::new();
    let mut shift = 0;
    for (number, (hunk, &place)) in hunks.iter().zip(places).enumerate() {
        let offset = place as i128 - shift - i128::from(hunk.start());
        shift += hunk.new.len() as i128 - hunk.old.len() as i128;
        if hunk.old.is_empty() {
            // Of an insertion without context nobody can tell where it belongs, but in front of all.
            ensure!(
                hunk.start() == 0 || text.iter().all(|line| line.is_empty()),
                "line {}: the hunk of {path} has no line of context; make the patch again with context",
                hunk.line
            );
            continue;
        }
        let fits = text.windows(hunk.old.len()).enumerate();
        let fits = fits.filter(|(_, there)| hunk.old.iter().zip(*there).all(|(a, b)| a == b));
        let fits: Vec<i128> = fits
            .map(|(at, _)| at as i128 + 1 - i128::from(hunk.start()))
            .collect();
        if fits.len() > 1 {
            open.push((number, offset, fits));
        } else if !hunk.new.is_empty() {
            sure.insert(number, offset);
        }
    }
    for (number, offset, fits) in open {
        let before = sure.range(..number).next_back();
        let behind = sure.range(number..).next();
        let mut likely: BTreeSet<i128> =
            before.into_iter().chain(behind).map(|(_, &o)| o).collect();
        if likely.is_empty() {
            likely.insert(0);
        }
        let hunk = &hunks[number];
        let at = |offset: i128| (offset + i128::from(hunk.start())).to_string();
        ensure!(
            likely.contains(&offset) && fits.iter().filter(|fit| likely.contains(fit)).count() == 1,
            "line {}: the hunk fits in {} places of {path}, from lines {}, and it says line {}: nobody can tell which is \
             meant; make the patch for this version, with more context",
            hunk.line,
            fits.len(),
            fits.iter().take(4).map(|&fit| at(fit)).collect::<Vec<_>>().join(", "),
            hunk.start()
        );
    }
    Ok(())
}

/// Makes sure that patch(1) did what the diffs were taken for, and nothing else; no file is twice in them.
fn check_applied(
    sections: &[Section],
    steps: &[Step],
    said: &str,
    before: &Contents,
    after: &Contents,
) -> Result<()> {
    const AGAIN: &str = "make the patch again with `git diff`";
    let applied = applied(said);
    for (number, (section, step)) in sections.iter().zip(steps).enumerate() {
        let (line, path, count) = (section.line, &step.path, section.hunks.len());
        let Some((name, places)) = applied.get(number) else {
            bail!("line {line}: patch(1) does not take the diff of {path}; {AGAIN}");
        };
        ensure!(
            name == path && places.len() == count,
            "line {line}: {count} hunk(s) of {path} are there, and patch(1) applied {} of {name}; {AGAIN}",
            places.len()
        );
        let differs = before.get(path) != after.get(path);
        let Some(change) = step.change else {
            ensure!(
                !differs,
                "line {line}: only the mode of {path} is to change, and patch(1) changed its text; {AGAIN}"
            );
            continue;
        };
        ensure!(
            differs,
            "line {line}: the diff of {path} leaves it as it is; take it out"
        );
        let Some(text) = after.get(path) else {
            ensure!(
                change == Change::Removed,
                "line {line}: patch(1) removed {path}, and the patch does not; {AGAIN}"
            );
            continue;
        };
        ensure!(
            change != Change::Removed,
            "line {line}: patch(1) left {path}, and the patch removes it; {AGAIN}"
        );
        let text = String::from_utf8_lossy(text);
        let text = lines(&text);
        let old = before.get(path).map(|text| String::from_utf8_lossy(text));
        check_places(
            path,
            &section.hunks,
            places,
            &lines(&old.unwrap_or_default()),
        )?;
        for (hunk, place) in section.hunks.iter().zip(places) {
            let there = text.get(place.saturating_sub(1)..).unwrap_or_default();
            ensure!(
                there.len() >= hunk.new.len() && hunk.new.iter().zip(there).all(|(a, b)| a == b),
                "line {}: {path} has not all of the hunk's context; make the patch for this version",
                hunk.line
            );
        }
    }
    if let Some((name, _)) = applied.get(sections.len()) {
        bail!(
            "patch(1) takes text of the patch file for a diff of {name}, which it is not; {AGAIN}"
        );
    }
    let named: BTreeSet<&String> = steps.iter().map(|step| &step.path).collect();
    for path in before.keys().chain(after.keys()) {
        ensure!(
            named.contains(path) || before.get(path) == after.get(path),
            "patch(1) changed {path}, which the patch does not name; {AGAIN}"
        );
    }
    Ok(())
}

impl Patches {
    /// Reads the patches and applies them to copies of the files below `dir`.
    ///
    /// Every patch must apply without fuzz. The error is an [`Ending`] if no file has another text in the end.
    pub fn apply(kernel: &Kernel, patches: &[PathBuf], dir: &Path) -> Result<Self> {
        let mut dates = Vec::new();
        let mut times = Vec::new();
        let mut changed: BTreeSet<String> = BTreeSet::new();
        let mut modes: BTreeSet<String> = BTreeSet::new();
        fs::create_dir_all(dir)?;
        let mut state = State {
            kernel,
            source: kernel.source().canonicalize()?,
            dir,
            named: BTreeSet::new(),
        };
        for path in patches {
            let name = path.display().to_string();
            let read = || format!("cannot read {name}");
            let about = fs::metadata(path).with_context(read)?;
            ensure!(
                !about.is_dir(),
                "{name} is a folder; name the patch files that are in it"
            );
            let bytes = fs::read(path).with_context(read)?;
            let context = || format!("in patch {name}");
            let bytes = forms::text_of(&bytes).with_context(context)?;
            let text = String::from_utf8_lossy(bytes);
            let sections = forms::read(&text).with_context(context)?;
            dates.extend(mail_date(&text));
            times.push(
                about
                    .modified()?
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |d| d.as_secs()),
            );

            let release = &kernel.release;
            let steps = match state.steps(&sections).with_context(context) {
                Ok(steps) => steps,
                Err(error) => {
                    ensure!(
                        !state.has(&sections, bytes)?,
                        "{error:#}.\n\
                         Hint: it can be taken back, so {release} has it already, or it is the wrong way round."
                    );
                    return Err(error);
                }
            };
            state.copy(steps.iter().map(|step| step.path.as_str()))?;
            let first = state.contents()?;
            let lines: Vec<&[u8]> = bytes.split_inclusive(|&b| b == b'\n').collect();
            let mut before = first.clone();
            let mut line = 0;
            for group in groups(&steps) {
                let (sections_of, steps) = (&sections[group.clone()], &steps[group.clone()]);
                let end = match sections_of.last() {
                    Some(last) if group.end < sections.len() => last.end,
                    _ => lines.len(),
                };
                let text = lines[line..end].concat();
                line = end;
                let (applies, said) = state.patch(&text, fuzz(sections_of), &[])?;
                let after = state.contents()?;
                if applies {
                    check_applied(sections_of, steps, &said, &before, &after)
                        .with_context(context)?;
                    before = after;
                    continue;
                }
                state.restore(&first, &after)?;
                ensure!(
                    !state.has(&sections, bytes)?,
                    "{name} can be taken back and not be applied: {release} has it already, or it is the wrong way \
                     round:\n{}\n\
                     Hint: leave it out, or make it again from the old to the new text.",
                    answer(&said)
                );
                bail!(
                    "{name} does not apply to {release}:\n{}\n\
                     Hint: make it again for this version, whose source is in {}; name patches that it builds on before it.",
                    answer(&said),
                    kernel.source().display(),
                );
            }
            for step in steps {
                match step.change {
                    Some(_) => changed.insert(step.path),
                    None => modes.insert(step.path),
                };
            }
        }
        let mut files = BTreeMap::new();
        for file in changed.iter().cloned() {
            let change = match (state.source.join(&file).exists(), dir.join(&file).exists()) {
                (true, true) => Change::Modified,
                (false, true) => Change::Added,
                (true, false) => Change::Removed,
                // Added and removed again.
                (false, false) => continue,
            };
            files.insert(file, change);
        }
        if files.is_empty() {
            let list = |files: BTreeSet<String>| files.into_iter().collect::<Vec<_>>().join(", ");
            let why = match changed.is_empty() {
                true => format!("only the mode of {} changes, and no text", list(modes)),
                false => format!("{} is added and removed again", list(changed)),
            };
            return Err(Ending::NothingChanged(why).into());
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
