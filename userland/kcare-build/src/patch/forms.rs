// SPDX-License-Identifier: GPL-2.0

//! Reads a patch file: which diffs are in it, of which files.
//!
//! What both patch(1) and `git apply` take is taken. What only one of them takes, or neither, or what either skips
//! although it is part of the fix, ends in a sentence that says what to do.

use anyhow::{bail, ensure, Context, Result};

use super::Change;

/// One diff of a patch file.
#[derive(Debug)]
pub struct Section {
    /// Its first line, from 1.
    pub line: usize,
    /// Its last line.
    pub end: usize,
    /// Its hunks.
    pub hunks: Vec<Hunk>,
    old: Side,
    new: Side,
    /// What a header of git says.
    git: Option<Fate>,
    /// The first hunk says that there was nothing (`-0,0`).
    from_nothing: bool,
    /// It says that nothing is left (`+0,0`).
    to_nothing: bool,
}

/// A place that a diff changes.
#[derive(Debug)]
pub struct Hunk {
    /// Its header's line, from 1.
    pub line: usize,
    /// How many more lines of context are at one end than at the other.
    pub uneven: usize,
    /// All that is there before: context and removed lines, without line ends.
    pub old: Vec<String>,
    /// All that is there afterwards: context and added lines, without line ends.
    pub new: Vec<String>,
    ranges: (Range, Range),
}

impl Hunk {
    /// Where its old lines are, as it says, from 1.
    pub fn start(&self) -> u64 {
        self.ranges.0 .0
    }
}

/// What a header of git says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing; it exists before and after.
    Stays,
    /// Another mode.
    Mode,
    /// A new file.
    New,
    /// A removed file.
    Gone,
}

/// What is behind `---` or `+++`.
#[derive(Debug)]
enum Side {
    /// `/dev/null`.
    Nothing,
    /// A file.
    File(Name),
}

/// The name of a file in a diff.
#[derive(Debug)]
struct Name {
    /// As it is written.
    written: String,
    /// Without its first folder; `None` if it has none.
    path: Option<String>,
    /// Its time stamp is the epoch: it did not or does not exist.
    epoch: bool,
}

/// What is at a path of the source tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link is on the way, and leads to this path.
    Link(String),
}

/// What a diff does.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// The file, relative to the source tree.
    pub path: String,
    /// What becomes of it; `None` if only its mode changes.
    pub change: Option<Change>,
}

/// The text of a patch file, without a byte order mark; refuses what is no text.
pub fn text_of(bytes: &[u8]) -> Result<&[u8]> {
    const PACKED: &[(&[u8], &str, &str)] = &[
        (b"\x1f\x8b", "gzip", "gzip -d"),
        (b"\xfd7zXZ\0", "xz", "xz -d"),
        (b"BZh", "bzip2", "bzip2 -d"),
        (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
        (b"PK\x03\x04", "zip", "unzip"),
    ];
    for (magic, what, command) in PACKED {
        ensure!(
            !bytes.starts_with(magic),
            "it is compressed with {what}; unpack it with `{command}`"
        );
    }
    ensure!(
        !bytes.starts_with(b"\xff\xfe") && !bytes.starts_with(b"\xfe\xff"),
        "it is UTF-16 text; convert it with `iconv -f UTF-16 -t UTF-8`"
    );
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    ensure!(
        !bytes.trim_ascii().is_empty(),
        "it is empty; make it again, for example with `git diff`"
    );
    ensure!(
        !bytes.contains(&0),
        "it has a NUL byte, so it is no text; name a file that has a unified diff"
    );
    Ok(bytes)
}

/// The diffs of a patch file, in its order.
pub fn read(text: &str) -> Result<Vec<Section>> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let complete = lines.last() == Some(&"");
    if complete {
        lines.pop();
    }
    let reader = Reader {
        lines,
        complete,
        at: 0,
        named: false,
    };
    reader.read()
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    /// The last line has a line end.
    complete: bool,
    /// The line that is looked at.
    at: usize,
    /// Text in front of it has what patch(1) takes for the name of a file.
    named: bool,
}

impl<'a> Reader<'a> {
    /// A line without the carriage return of a CRLF, which patch(1) takes off; empty behind the end.
    fn line(&self, at: usize) -> &'a str {
        let line = self.lines.get(at).copied().unwrap_or_default();
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn read(mut self) -> Result<Vec<Section>> {
        self.check_page()?;
        self.check_mail()?;
        let mut sections = Vec::new();
        while self.at < self.lines.len() {
            if self.line(self.at).starts_with("diff --git ") {
                sections.extend(self.git()?);
                self.named = false;
            } else if self.is_unified(self.at) {
                sections.push(self.unified(self.at, None)?);
                self.named = false;
            } else {
                self.check_text()?;
                let line = without_indent(self.line(self.at));
                self.named |= ["--- ", "+++ ", "Index:"]
                    .iter()
                    .any(|start| line.starts_with(start));
                self.at += 1;
            }
        }
        ensure!(
            !sections.is_empty(),
            "it has no unified diff; make it with `git diff` or `diff -Nup`"
        );
        Ok(sections)
    }

    /// Whether a diff starts: without a hunk behind them, `---` and `+++` are text.
    fn is_unified(&self, at: usize) -> bool {
        self.line(at).starts_with("--- ")
            && self.line(at + 1).starts_with("+++ ")
            && self.line(at + 2).starts_with("@@ -")
    }

    /// Reads what starts with `diff --git`; `None` if that is text.
    fn git(&mut self) -> Result<Option<Section>> {
        let start = self.at;
        let names = git_names(&self.line(start)["diff --git ".len()..])
            .with_context(|| format!("line {}", start + 1))?;
        let mut fate = Fate::Stays;
        let mut index = false;
        loop {
            self.at += 1;
            let number = self.at + 1;
            let Some((key, value)) = GIT_KEYS
                .iter()
                .find_map(|key| Some((*key, self.line(self.at).strip_prefix(key)?)))
            else {
                break;
            };
            let mut mode = None;
            match key {
                "old mode " | "new mode " => {
                    fate = Fate::Mode;
                    mode = Some(value);
                }
                "new file mode " => {
                    fate = Fate::New;
                    mode = Some(value);
                }
                "deleted file mode " => {
                    fate = Fate::Gone;
                    mode = Some(value);
                }
                "index " => {
                    index = true;
                    mode = value.split_once(' ').map(|(_, mode)| mode);
                }
                "similarity index " | "dissimilarity index " => {}
                _ => bail!(
                    "line {number}: renames and copies are not supported; make the patch with `git diff --no-renames`"
                ),
            }
            match mode.map(str::trim) {
                Some("120000") => bail!(
                    "line {number}: a symbolic link is changed, which is not supported; leave it out of the patch"
                ),
                Some("160000") => bail!(
                    "line {number}: a submodule is changed, which is not supported; leave it out of the patch"
                ),
                Some(mode) if !mode.starts_with("100") => bail!(
                    "line {number}: `{mode}` is not the mode of a file; make the patch again with `git diff`"
                ),
                _ => {}
            }
        }
        if self.is_unified(self.at) {
            return self.unified(start, Some(fate)).map(Some);
        }
        let line = self.line(self.at);
        if line.starts_with("--- ") && self.line(self.at + 1).starts_with("+++ ") {
            bail!(
                "line {}: no hunk is behind the names of the files; the patch is cut short: get all of it",
                self.at + 1
            );
        }
        check_binary(line, self.at + 1)?;
        let Some((old, new)) = names else {
            ensure!(
                fate == Fate::Stays && !index,
                "line {}: the names of the files cannot be told apart; make the patch again with `git diff`",
                start + 1
            );
            return Ok(None);
        };
        ensure!(
            fate != Fate::Stays,
            "line {}: `{}` is named, and no hunk is there; get all of the patch, or make it again without -w, or take \
             the line out",
            start + 1,
            new.written
        );
        Ok(Some(Section {
            line: start + 1,
            end: self.at,
            hunks: Vec::new(),
            old: Side::File(old),
            new: Side::File(new),
            git: Some(fate),
            from_nothing: false,
            to_nothing: false,
        }))
    }

    /// Reads the names and hunks of a diff that starts at the line `start`.
    fn unified(&mut self, start: usize, git: Option<Fate>) -> Result<Section> {
        let side = |at: usize| {
            Side::read(&self.line(at)["--- ".len()..]).with_context(|| format!("line {}", at + 1))
        };
        let (old, new) = (side(self.at)?, side(self.at + 1)?);
        let mut section = Section {
            line: start + 1,
            end: 0,
            hunks: Vec::new(),
            old,
            new,
            git,
            from_nothing: false,
            to_nothing: false,
        };
        self.at += 2;
        while self.line(self.at).starts_with("@@ -") {
            section.hunks.push(self.hunk()?);
        }
        section.end = self.at;
        if let Some(first) = section.hunks.first() {
            section.from_nothing = first.ranges.0 == (0, 0);
            section.to_nothing = first.ranges.1 == (0, 0);
        }
        Ok(section)
    }

    fn hunk(&mut self) -> Result<Hunk> {
        let number = self.at + 1;
        let header = self.line(self.at);
        let (old, new) = hunk_ranges(header).with_context(|| {
            format!("line {number}: malformed hunk header `{header}`; make the patch again")
        })?;
        let (mut before, mut after) = (old.1, new.1);
        let mut texts = (Vec::new(), Vec::new());
        // Lines of context in front of the first change, and behind the last.
        let (mut front, mut behind) = (None, 0usize);
        self.at += 1;
        while (before, after) != (0, 0) {
            let Some(line) = self.lines.get(self.at) else {
                bail!(
                    "line {number}: the hunk ends before it has the lines that it announces; the patch is cut short: get \
                     all of it"
                );
            };
            let (takes, gives) = match line.as_bytes().first() {
                Some(b'-') => (1u64, 0u64),
                Some(b'+') => (0, 1),
                // Programs that handle mail take blanks off the end of a line.
                Some(b' ' | b'\t' | b'\r') | None => (1, 1),
                Some(b'\\') => (0, 0),
                Some(_) => bail!(
                    "line {}: this is no line of the hunk of line {number}, which announces more; the patch is damaged: \
                     get or make it again",
                    self.at + 1
                ),
            };
            ensure!(
                takes <= before && gives <= after,
                "line {}: the hunk of line {number} announces fewer lines than it has; make the patch again",
                self.at + 1
            );
            before -= takes;
            after -= gives;
            let plain = line.strip_prefix([' ', '+', '-']).unwrap_or(line);
            let plain = plain.strip_suffix('\r').unwrap_or(plain);
            texts.0.extend((takes == 1).then(|| plain.to_owned()));
            texts.1.extend((gives == 1).then(|| plain.to_owned()));
            match takes == gives {
                true => behind += takes as usize,
                false => {
                    front.get_or_insert(behind);
                    behind = 0;
                }
            }
            self.at += 1;
        }
        ensure!(
            self.complete || self.at < self.lines.len(),
            "line {}: the last line of the hunk has no line end; add it if the patch is all there",
            self.at
        );
        while self.line(self.at).starts_with('\\') {
            self.at += 1;
        }
        self.check_behind(number)?;
        Ok(Hunk {
            line: number,
            uneven: front.map_or(0, |front| front.abs_diff(behind)),
            old: texts.0,
            new: texts.1,
            ranges: (old, new),
        })
    }

    /// Refuses lines behind the end of a hunk that look like a part of it: patch(1) and git skip them.
    fn check_behind(&self, hunk: usize) -> Result<()> {
        for at in self.at..self.lines.len() {
            let line = self.line(at);
            // The signature of a mail, a diffstat behind it, PGP.
            let mail = ["--", "-- ", "---"].contains(&line) || line.starts_with("-----");
            if !line.starts_with([' ', '\t', '+', '-']) || mail || self.is_unified(at) {
                return Ok(());
            }
            ensure!(
                !line.starts_with(['+', '-']),
                "line {}: this is behind the end of the hunk of line {hunk}, as its counts say; make the patch again",
                at + 1
            );
        }
        Ok(())
    }

    /// Refuses what is no unified diff and may be a part of the fix all the same.
    fn check_text(&self) -> Result<()> {
        let number = self.at + 1;
        let line = self.line(self.at);
        let next = self.line(self.at + 1);
        check_binary(line, number)?;
        let combined = line.starts_with("@@@ -") && line.trim_matches('@') != line;
        if combined || line.starts_with("diff --cc ") || line.starts_with("diff --combined ") {
            bail!(
                "line {number}: this is the combined diff of a merge; make the patch with `git diff MERGE^ MERGE`"
            );
        }
        let stars = self.line(self.at + 2).starts_with("***************");
        if line.starts_with("*** ") && next.starts_with("--- ") && stars {
            bail!("line {number}: this is a context diff; make the patch with `diff -Nup`");
        }
        if let Some(kind) = command(line) {
            let first = self.at == 0 || self.line(self.at - 1).starts_with("diff ");
            let normal = next.starts_with("< ") || next.starts_with("> ");
            if (kind == Command::Normal && normal) || (kind == Command::Ed && first) {
                let what = match kind {
                    Command::Normal => "a diff without context",
                    Command::Ed => "a script for ed",
                };
                bail!("line {number}: this is {what}; make the patch with `diff -Nup`");
            }
        }
        if let Some((folder, name)) = line
            .strip_prefix("Only in ")
            .and_then(|rest| rest.split_once(": "))
        {
            ensure!(
                folder.contains(' ') || name.is_empty() || name.contains(' '),
                "line {number}: `{folder}/{name}` is in one of the trees only and not in the patch; make the patch with \
                 `diff -Nup`, or take the line out"
            );
        }
        ensure!(
            !line.starts_with("@@ -") || hunk_ranges(line).is_none(),
            "line {number}: no names of files are right in front of the hunk; add the lines `--- a/FILE` and `+++ b/FILE`"
        );
        let names = line.starts_with("--- ") && next.starts_with("+++ ");
        let behind = self.at > 0 && self.line(self.at - 1).starts_with("diff ");
        ensure!(
            !names || !(behind || self.at + 2 >= self.lines.len()),
            "line {number}: no hunk is behind the names of the files; the patch is cut short: get all of it"
        );
        let shifted = without_indent(line);
        ensure!(
            !self.named || shifted == line || !shifted.starts_with("@@ -"),
            "line {number}: this hunk is indented, so that patch(1) takes it and `git apply` does not; take the blanks \
             off if it is a part of the fix, or else take it out"
        );
        Ok(())
    }

    /// Refuses a page of a web site: its text is not that of the patch.
    fn check_page(&self) -> Result<()> {
        let first = (0..self.lines.len())
            .map(|at| self.line(at).trim().to_ascii_lowercase())
            .find(|line| !line.is_empty())
            .unwrap_or_default();
        ensure!(
            !first.starts_with("<!doctype") && !first.starts_with("<html"),
            "it is a web page; download the raw patch"
        );
        Ok(())
    }

    /// Refuses mails whose text is encoded.
    fn check_mail(&self) -> Result<()> {
        const HEADER: &str = "content-transfer-encoding:";
        const DECODE: &str = "save it with `git mailinfo MESSAGE PATCH <MAIL`, which decodes it";
        for at in 0..self.lines.len() {
            let line = self.line(at).to_ascii_lowercase();
            let Some(encoding) = line.strip_prefix(HEADER) else {
                continue;
            };
            let text = (at..self.lines.len())
                .map(|at| self.line(at))
                .skip_while(|line| !line.is_empty())
                .skip_while(|line| line.is_empty());
            let encoded = match encoding.trim() {
                "base64" => text.take(1).any(is_base64),
                "quoted-printable" => {
                    let text: Vec<&str> =
                        text.take_while(|line| !line.starts_with("From ")).collect();
                    // A program that decodes may leave the header as it was.
                    let plain = text.iter().any(|line| equals_signs(line, false));
                    !plain && text.iter().any(|line| equals_signs(line, true))
                }
                _ => false,
            };
            ensure!(
                !encoded,
                "line {}: the text of this mail is encoded ({}); {DECODE}",
                at + 1,
                encoding.trim()
            );
        }
        Ok(())
    }
}

/// The lines of a header of git behind its first.
const GIT_KEYS: &[&str] = &[
    "old mode ",
    "new mode ",
    "new file mode ",
    "deleted file mode ",
    "index ",
    "similarity index ",
    "dissimilarity index ",
    "rename from ",
    "rename to ",
    "rename old ",
    "rename new ",
    "copy from ",
    "copy to ",
];

/// Refuses what says that files differ and not how.
fn check_binary(line: &str, number: usize) -> Result<()> {
    let says_only = ["Binary files ", "Files "].iter().any(|start| {
        line.strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(" differ"))
            .is_some_and(|rest| rest.contains(" and "))
    });
    ensure!(
        line != "GIT binary patch" && !says_only,
        "line {number}: binary patches are not supported; leave the file out of the patch"
    );
    Ok(())
}

/// Kinds of lines that tell ed, or patch(1), what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// `2,3c2`
    Normal,
    /// `2,3c`
    Ed,
}

fn command(line: &str) -> Option<Command> {
    let range = |text: &str| {
        let mut numbers = text.splitn(2, ',');
        numbers.all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let (old, new) = line.split_once(['a', 'c', 'd'])?;
    match (range(old), new) {
        (true, "") => Some(Command::Ed),
        (true, new) if range(new) => Some(Command::Normal),
        _ => None,
    }
}

/// A line without what patch(1) takes off the start of each line of a diff.
fn without_indent(line: &str) -> &str {
    let mut line = line.trim_start_matches([' ', '\t', 'X']);
    while let Some(rest) = line.strip_prefix("- ") {
        line = rest;
    }
    line
}

/// Whether a line can only be base64.
fn is_base64(line: &str) -> bool {
    let data = line.trim_end_matches('=');
    line.len() >= 40
        && data
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// Whether a line has an equals sign as quoted-printable text has them, in front of two digits or at the end, or else
/// one as it has none.
fn equals_signs(line: &str, quoted: bool) -> bool {
    line.match_indices('=').any(|(at, _)| {
        let rest = &line.as_bytes()[at + 1..];
        let digits = matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        (rest.is_empty() || digits) == quoted
    })
}

/// First line and number of lines.
type Range = (u64, u64);

/// The ranges of a hunk header (`@@ -1,2 +1,3 @@`).
fn hunk_ranges(header: &str) -> Option<(Range, Range)> {
    let (ranges, _) = header.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let range = |text: &str| -> Option<Range> {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((start.parse().ok()?, count.parse().ok()?))
    };
    Some((range(old)?, range(new)?))
}

impl Side {
    /// Reads what is behind `---` or `+++`.
    fn read(text: &str) -> Result<Self> {
        let (name, date) = if text.starts_with('"') {
            unquote(text)?
        } else if let Some((name, date)) = text.split_once('\t') {
            // Only then a name can have blanks.
            (name.trim_end().to_owned(), date)
        } else {
            let end = text.find(char::is_whitespace).unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        };
        Ok(match name.as_str() {
            "/dev/null" => Self::Nothing,
            _ => Self::File(Name::new(name, is_epoch(date))?),
        })
    }

    fn file(&self) -> Option<&Name> {
        match self {
            Self::Nothing => None,
            Self::File(name) => Some(name),
        }
    }

    fn is_epoch(&self) -> bool {
        self.file().is_none_or(|name| name.epoch)
    }
}

impl Name {
    fn new(written: String, epoch: bool) -> Result<Self> {
        ensure!(
            !written.contains(char::REPLACEMENT_CHARACTER),
            "`{written}` is not UTF-8; leave the file out of the patch"
        );
        let path = match written.split_once('/') {
            None => None,
            Some((_, rest)) => Some(plain(rest).with_context(|| {
                format!("`{written}` is not a path inside the source tree; take the diff out")
            })?),
        };
        Ok(Self {
            written,
            path,
            epoch,
        })
    }

    /// The path as it is written, if it can be one of the tree.
    fn unstripped(&self) -> Option<String> {
        let other = ["/", "./", "../"];
        match other.iter().any(|start| self.written.starts_with(start)) {
            true => None,
            false => plain(&self.written),
        }
    }

    /// With the sign of its line, for somebody to copy.
    fn wanted(path: &str) -> String {
        format!("write `--- a/{path}` and `+++ b/{path}`")
    }
}

/// A path without doubled slashes and single dots; `None` if it leaves its folder or is empty.
fn plain(path: &str) -> Option<String> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

/// The names of `diff --git a/X b/X`, if they are those of one file.
fn git_names(text: &str) -> Result<Option<(Name, Name)>> {
    let pair = |old: String, new: String| -> Result<Option<(Name, Name)>> {
        let (old, new) = (Name::new(old, false)?, Name::new(new, false)?);
        let same = match &old.path {
            Some(path) => new.path.as_ref() == Some(path),
            None => old.written == new.written,
        };
        Ok(same.then_some((old, new)))
    };
    if text.starts_with('"') {
        let (old, rest) = unquote(text)?;
        let rest = rest.trim_start();
        let new = match rest.starts_with('"') {
            true => unquote(rest)?.0,
            false => rest.to_owned(),
        };
        return pair(old, new);
    }
    for (at, _) in text.match_indices(' ') {
        if let Ok(Some(names)) = pair(text[..at].to_owned(), text[at + 1..].to_owned()) {
            return Ok(Some(names));
        }
    }
    Ok(None)
}

/// A name in double quotes as git writes it, and what is behind it.
fn unquote(text: &str) -> Result<(String, &str)> {
    let bytes = text.as_bytes();
    let mut name = Vec::new();
    let mut at = 1;
    loop {
        let (byte, length) = match bytes.get(at..) {
            Some([b'"', ..]) => break,
            Some([b'\\', first @ b'0'..=b'3', second @ b'0'..=b'7', third @ b'0'..=b'7', ..]) => (
                (first - b'0') << 6 | (second - b'0') << 3 | (third - b'0'),
                4,
            ),
            Some([b'\\', letter, ..]) => {
                let byte = match letter {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    b'"' | b'\\' => *letter,
                    _ => bail!("`{text}` is not quoted as git does it; make the patch again with `git diff`"),
                };
                (byte, 2)
            }
            Some([byte, ..]) => (*byte, 1),
            _ => bail!("`{text}` lacks the quote at its end; make the patch again with `git diff`"),
        };
        name.push(byte);
        at += length;
    }
    let name = String::from_utf8_lossy(&name).into_owned();
    Ok((name, &text[at + 1..]))
}

/// Whether a time stamp says that the file does not exist; zones are ignored, as patch(1) does it.
fn is_epoch(date: &str) -> bool {
    let words: Vec<&str> = date.split_whitespace().collect();
    match words[..] {
        ["1970-01-01" | "1969-12-31", ..] => true,
        ["1970-01-02", time, ..] => time < "02",
        [_, month, day, ..] => {
            let year = |year| words[3..].contains(&year);
            match (month, day) {
                ("Jan", "1" | "01") => year("1970"),
                ("Dec", "31") => year("1969"),
                _ => false,
            }
        }
        _ => false,
    }
}

impl Section {
    /// What the diff does, in a tree that `look` tells of.
    pub fn step(&self, release: &str, look: &dyn Fn(&str) -> Found) -> Result<Step> {
        self.step_of(release, look)
            .with_context(|| format!("line {}", self.line))
    }

    /// The file, if the tree has what the diff makes of it, as far as can be told without its text.
    pub fn result(&self, look: &dyn Fn(&str) -> Found) -> Option<String> {
        let sides = [self.new.file(), self.old.file()];
        let mut names = sides.into_iter().flatten().filter_map(|n| n.path.as_ref());
        let removed = self.git == Some(Fate::Gone) || self.new.file().is_none() || self.to_nothing;
        match removed {
            true => names.next().filter(|path| look(path) == Found::Nothing),
            false => names.find(|path| look(path) == Found::File),
        }
        .cloned()
    }

    fn step_of(&self, release: &str, look: &dyn Fn(&str) -> Found) -> Result<Step> {
        let (old, new) = (self.old.file(), self.new.file());
        let git = self.git.unwrap_or(Fate::Stays);
        let added = git == Fate::New || old.is_none() || (self.from_nothing && self.old.is_epoch());
        let removed =
            git == Fate::Gone || new.is_none() || (self.to_nothing && self.new.is_epoch());
        ensure!(
            !(added && removed),
            "the file is new and removed at once; make the patch again with `git diff`"
        );
        for name in old.into_iter().chain(new) {
            check_level(name, added, look)?;
        }
        let names: Vec<&Name> = match (old, new) {
            (Some(old), Some(new)) if old.path == new.path => vec![new],
            (Some(old), Some(new)) if self.git.is_some() || !is_backup(old, new) => bail!(
                "renames `{}` to `{}`, which is not supported; if one file is meant, write its name on both lines",
                old.written,
                new.written
            ),
            (old, new) => old.into_iter().chain(new).collect(),
        };
        let paths: Vec<&String> = names.iter().filter_map(|name| name.path.as_ref()).collect();
        let mut there = Vec::new();
        for path in &paths {
            match look(path) {
                Found::Nothing => {}
                Found::File => there.push(*path),
                Found::Folder => bail!("{path} is a folder in {release}; name a file"),
                Found::Link(real) => bail!(
                    "{path} is behind a symbolic link; make the patch for {real}, where it leads to"
                ),
            }
        }
        let (path, change) = match (&there[..], &paths[..]) {
            ([path], _) if added => bail!(
                "{path} is added, and {release} has it; make the patch for this version"
            ),
            ([path], _) if removed => (path, Change::Removed),
            ([path], _) => (path, Change::Modified),
            ([one, two, ..], _) => bail!(
                "{one} and {two} are named, and both exist; name the one that is meant on both lines"
            ),
            // As patch(1) has it, a file is new too if a hunk says that there was nothing.
            ([], [path]) if added || (self.from_nothing && !removed) => (path, Change::Added),
            ([], [path, ..]) => bail!(
                "{path} is {}, and {release} does not have it; make the patch for this version, or name the patch that \
                 adds the file before it",
                if removed { "removed" } else { "changed" }
            ),
            ([], []) => bail!("no file is named; make the patch again with `git diff`"),
        };
        // A hunk counts more than a mode.
        let only_mode = git == Fate::Mode && self.hunks.is_empty();
        Ok(Step {
            path: (*path).clone(),
            change: (!only_mode).then_some(change),
        })
    }
}

/// Whether one of two names is that of a copy of the other (`file.c.orig`, `file.c~`).
fn is_backup(old: &Name, new: &Name) -> bool {
    let copy = |long: &str, short: &str| {
        let suffix = long.strip_prefix(short);
        suffix.is_some_and(|suffix| suffix.starts_with(['.', '~']) && !suffix.contains('/'))
    };
    match (&old.path, &new.path) {
        (Some(old), Some(new)) => copy(old, new) || copy(new, old),
        _ => false,
    }
}

/// Refuses a name that is not made for -p1.
fn check_level(name: &Name, added: bool, look: &dyn Fn(&str) -> Found) -> Result<()> {
    let folder = |path: &str| look(path) == Found::Folder;
    let top = |path: &str| path.split('/').next().is_some_and(folder);
    let written = &name.written;
    if let Some(whole) = name.unstripped() {
        // A file may be there with its first folder and without it, as in tools/.
        let wanted = match whole.rsplit_once('/') {
            _ if look(&whole) == Found::File => true,
            Some((parent, _)) if added => {
                let rest = name.path.as_deref().unwrap_or_default();
                folder(parent) || (rest.contains('/') && !top(rest) && top(&whole))
            }
            _ => false,
        };
        ensure!(
            !wanted,
            "`{written}` is made for -p0, and -p1 is wanted: {}, as `git diff` does",
            Name::wanted(&whole)
        );
    }
    let Some(path) = &name.path else {
        bail!(
            "`{written}` has no leading folder, and -p1 is wanted: {} with the path from the top of the source tree",
            Name::wanted(&format!("FOLDER/{written}"))
        );
    };
    if added || look(path) != Found::Nothing || top(path) {
        return Ok(());
    }
    let mut rest = path.as_str();
    while let Some((_, shorter)) = rest.split_once('/') {
        rest = shorter;
        ensure!(
            look(rest) != Found::File,
            "`{written}` has more than one leading folder, and -p1 is wanted: {}",
            Name::wanted(rest)
        );
    }
    Ok(())
}
