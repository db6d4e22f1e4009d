// SPDX-License-Identifier: GPL-2.0

//! Forms of patch files, each applied by patch(1) to a little tree.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;

/// What is to come out.
enum Outcome {
    /// Files and what becomes of them: `M`, `A` with the text, `D`.
    Takes(&'static [(char, &'static str, &'static str)]),
    /// It ends with nothing changed, and says this.
    Nothing(&'static str),
    /// It fails, and says this.
    Fails(&'static str),
}

use Outcome::{Fails, Nothing, Takes};

const F: &str = "one\ntwo\nthree\nfour\nfive\nsix\n";
const DEUX: &str = "one\ndeux\nthree\nfour\nfive\nsix\n";

/// The changed file of most cases.
const TAKEN: Outcome = Takes(&[('M', "x/f.c", DEUX)]);
/// A hunk that changes it so.
const HUNK: &str = "@@ -1,3 +1,3 @@\n one\n-two\n+deux\n three\n";
/// And the diff.
const DIFF: &str = "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,3 +1,3 @@\n one\n-two\n+deux\n three\n";

/// A tree as the build needs one, which goes with it.
struct Tree(Kernel);

impl Drop for Tree {
    fn drop(&mut self) {
        // Nothing can be done about files that stay.
        let _ = fs::remove_dir_all(&self.0.dir);
    }
}

impl Tree {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("kcare-{test}-{}", std::process::id()));
        let source = dir.join("source");
        for folder in ["source/x", "source/tools/x", "source/real", "build"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for (name, text) in [
            ("release.env", "REL=1.0\nVERSION=1.0-1\nBUILD_ID=00\n"),
            ("vmlinux", ""),
            ("build/.config", ""),
            // The shell finds it by the first argument of scripts/kernel.
            (
                "build/exec",
                "shift 2\nexec env -i PATH=\"$PATH\" LC_ALL=C \"$@\"\n",
            ),
            ("source/x/f.c", F),
            ("source/x/g.c", "a\nb\nc\n"),
            ("source/x/dos.c", "one\r\ntwo\r\nthree\r\n"),
            ("source/x/open.c", "one\ntwo\nthree"),
            ("source/x/empty.h", ""),
            ("source/x/a b.c", F),
            ("source/x/two.c", F),
            ("source/x/two.c.orig", F),
            ("source/tools/x/f.c", F),
            ("source/real/l.c", F),
            ("source/top.c", F),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        symlink("real", source.join("link")).unwrap();
        let exec = Path::new("/bin/sh");
        Self(Kernel::find(&format!("{}/", dir.display()), Some(exec)).unwrap())
    }

    /// Applies patch files, and gives what became of which file.
    fn apply(&self, name: &str, patches: &[&[u8]]) -> Result<Vec<(char, String, String)>> {
        let work = self.0.dir.join("work").join(name.replace('/', "-"));
        fs::create_dir_all(&work)?;
        let mut paths: Vec<PathBuf> = Vec::new();
        for (number, patch) in patches.iter().enumerate() {
            let path = work.join(format!("{number}.patch"));
            fs::write(&path, patch)?;
            paths.push(path);
        }
        let patches = Patches::apply(&self.0, &paths, &work.join("patched"))?;
        let left = fs::read_dir(&work)?.count();
        ensure!(left == paths.len() + 1, "files are left");
        patches
            .files
            .iter()
            .map(|(file, change)| {
                let letter = match change {
                    Change::Modified => 'M',
                    Change::Added => 'A',
                    Change::Removed => 'D',
                };
                let text = patches.patched(file)?.unwrap_or_default();
                Ok((letter, file.clone(), text))
            })
            .collect()
    }

    fn check(&self, name: &str, patches: &[&[u8]], wanted: &Outcome) {
        let got = self.apply(name, patches);
        match (&got, wanted) {
            (Ok(files), Takes(wanted)) => {
                let files: Vec<(char, &str, &str)> = files
                    .iter()
                    .map(|(change, file, text)| (*change, file.as_str(), text.as_str()))
                    .collect();
                assert_eq!(files, *wanted, "{name}");
            }
            (Err(error), Nothing(text) | Fails(text)) => {
                let said = format!("{error:#}");
                let nothing = error.downcast_ref::<Ending>().is_some();
                assert_eq!(nothing, matches!(wanted, Nothing(_)), "{name}: {said}");
                assert!(said.contains(text), "{name}: {said}");
            }
            (Ok(files), _) => panic!("{name}: it is taken: {files:?}"),
            (Err(error), _) => panic!("{name}: {error:#}"),
        }
    }
}

/// A hunk that fits in several places is where it says, or where the hunks around it are.
#[test]
fn the_place_of_a_hunk_is_certain() {
    let tree = Tree::new("places");
    // `same` three times: from lines 2, 6 and 10.
    let text = "a\n{\nsame\n}\nb\n{\nsame\n}\nc\n{\nsame\n}\nend\n";
    fs::write(tree.0.dir.join("source/x/same.c"), text).unwrap();
    let head = "--- a/x/same.c\n+++ b/x/same.c\n";
    let hunk =
        |old: usize, new: usize| format!("@@ -{old},3 +{new},3 @@\n {{\n-same\n+other\n }}\n");
    let unique = |line: usize| format!("@@ -{line} +{line} @@\n-b\n+B\n");
    const SECOND: &str = "a\n{\nsame\n}\nb\n{\nother\n}\nc\n{\nsame\n}\nend\n";
    const BESIDE: &str = "a\n{\nsame\n}\nB\n{\nother\n}\nc\n{\nsame\n}\nend\n";
    const UNSURE: &str =
        "the hunk fits in 3 places of x/same.c, from lines 2, 6, 10, and it says line";
    for (name, hunks, wanted) in [
        (
            "where it says",
            hunk(6, 6),
            Takes(&[('M', "x/same.c", SECOND)]),
        ),
        ("nowhere near", hunk(7, 7), Fails(UNSURE)),
        ("far away", hunk(600, 600), Fails(UNSURE)),
        (
            "as its neighbour",
            unique(15) + &hunk(16, 16),
            Takes(&[('M', "x/same.c", BESIDE)]),
        ),
        (
            "not as its neighbour",
            unique(15) + &hunk(18, 18),
            Fails(UNSURE),
        ),
        (
            "two hunks of one shift, neither of them sure",
            hunk(4, 4) + &hunk(8, 8),
            Fails(UNSURE),
        ),
        (
            "no context at all",
            "@@ -6,0 +7 @@\n+more\n".into(),
            Fails("line 3: the hunk of x/same.c has no line of context"),
        ),
    ] {
        let diff = format!("{head}{hunks}");
        tree.check(name, &[diff.as_bytes()], &wanted);
    }
}

#[test]
fn forms_of_one_file() {
    let tree = Tree::new("forms");
    let diff = DIFF;
    let quoted_mail = "Content-Transfer-Encoding: quoted-printable\n\n";
    let cases: &[(&str, String, Outcome)] = &[
        ("plain", diff.into(), TAKEN),
        ("git", format!("diff --git a/x/f.c b/x/f.c\nindex 1..2 100644\n{diff}"), TAKEN),
        ("index line", format!("Index: l/x/f.c\n=====\n{diff}"), TAKEN),
        (
            "time stamps behind tabs",
            format!("diff -up l/x/f.c m/x/f.c\n--- l/x/f.c\t2026-10-18 12:00:00.0 +0200\n+++ m/x/f.c\t(revision 3)\n{HUNK}"),
            TAKEN,
        ),
        (
            "time stamps behind blanks",
            format!("--- l/x/f.c 2026-10-18 12:00:00.0 +0200\n+++ m/x/f.c  Sun Oct 18 12:00:00 2026\n{HUNK}"),
            TAKEN,
        ),
        ("single dot", format!("--- ./x/f.c\n+++ ./x/f.c\n{HUNK}"), TAKEN),
        ("more slashes", format!("--- a//x/./f.c\n+++ b//x/./f.c\n{HUNK}"), TAKEN),
        ("backup", format!("--- a/x/f.c.orig\n+++ b/x/f.c\n{HUNK}"), TAKEN),
        ("backup of the new", format!("--- a/x/f.c\n+++ b/x/f.c~\n{HUNK}"), TAKEN),
        (
            "quoted path",
            "diff --git \"a/x/f\\303\\244.h\" \"b/x/f\\303\\244.h\"\nnew file mode 100644\n--- /dev/null\n\
             +++ \"b/x/f\\303\\244.h\"\n@@ -0,0 +1 @@\n+u\n".into(),
            Takes(&[('A', "x/fä.h", "u\n")]),
        ),
        (
            "path with a blank",
            format!("diff --git a/x/a b.c b/x/a b.c\n--- a/x/a b.c\t\n+++ b/x/a b.c\t\n{HUNK}"),
            Takes(&[('M', "x/a b.c", DEUX)]),
        ),
        ("byte order mark", format!("\u{feff}{diff}"), TAKEN),
        ("CRLF", diff.replace('\n', "\r\n"), TAKEN),
        (
            "CRLF of the file",
            "--- a/x/dos.c\n+++ b/x/dos.c\n@@ -1,3 +1,3 @@\n one\r\n-two\r\n+deux\r\n three\r\n".into(),
            Takes(&[('M', "x/dos.c", "one\r\ndeux\r\nthree\r\n")]),
        ),
        (
            "CRLF for the CRLF of the file",
            "--- a/x/dos.c\r\n+++ b/x/dos.c\r\n@@ -1,3 +1,3 @@\r\n one\r\n-two\r\n+deux\r\n three\r\n".into(),
            Fails("does not apply to 1.0:\n"),
        ),
        (
            "no line end in the file",
            "--- a/x/open.c\n+++ b/x/open.c\n@@ -2,2 +2,2 @@\n two\n-three\n\\ No newline at end of file\n+trois\n".into(),
            Takes(&[('M', "x/open.c", "one\ntwo\ntrois\n")]),
        ),
        (
            "no line end in the file then",
            "--- a/x/f.c\n+++ b/x/f.c\n@@ -5,2 +5,2 @@\n five\n-six\n+seis\n\\ No newline at end of file".into(),
            Takes(&[('M', "x/f.c", "one\ntwo\nthree\nfour\nfive\nseis")]),
        ),
        (
            "blanks lost at the ends of lines",
            "--- a/n.c\n+++ b/n.c\n@@ -0,0 +1,3 @@\n+a\n+\n+b\n--- a/n.c\n+++ b/n.c\n@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n".into(),
            Takes(&[('A', "n.c", "a\n\nc\n")]),
        ),
        ("stripped last line", diff.trim_end().into(), Fails("line 7: the last line of the hunk has no line end")),
        (
            "first line without context",
            "--- a/x/g.c\n+++ b/x/g.c\n@@ -0,0 +1 @@\n+top\n".into(),
            Takes(&[('M', "x/g.c", "top\na\nb\nc\n")]),
        ),
        ("emptied", "--- a/x/g.c\n+++ b/x/g.c\n@@ -1,3 +0,0 @@\n-a\n-b\n-c\n".into(), Takes(&[('M', "x/g.c", "")])),
        (
            "mail",
            format!(
                "From 1 Mon Sep 17 00:00:00 2001\nSubject: [PATCH] x: naïve → better\nContent-Transfer-Encoding: 8bit\n\n\
                 Take back\n--- this line, and\n+++ that line\n\nalso @@ -1 +1 @@, and\n1,2c\n5d\n\n---\n x/f.c | 2 +-\n\ndiff --git a/x/f.c b/x/f.c\n{diff}-- \n2.51.0\n\n"
            ),
            TAKEN,
        ),
        ("diffstat behind it", format!("{diff}---\n x/f.c | 2 +-\n"), TAKEN),
        ("signed mail", format!("{diff}-----BEGIN PGP SIGNATURE-----\n"), TAKEN),
        (
            "quoted-printable that is decoded",
            format!("Content-Transfer-Encoding: quoted-printable\n\nif (a =3D= b) x = 1\n\n{diff}"),
            TAKEN,
        ),
        ("quoted-printable without need", format!("{quoted_mail}{diff}"), TAKEN),
        (
            "quoted-printable",
            format!("{quoted_mail}x =3D 1\n\n{diff}"),
            Fails("line 1: the text of this mail is encoded (quoted-printable); save it with `git mailinfo"),
        ),
        (
            "base64",
            "Subject: x\ncontent-transfer-encoding: BASE64\n\nLS0tIGEveC9mLmMKKysrIGIveC9mLmMKQEAgLTEsMyArMSwzIEBACiBvbmUK\n".into(),
            Fails("line 2: the text of this mail is encoded (base64)"),
        ),
        ("-p0", format!("--- x/f.c\n+++ x/f.c\n{HUNK}"), Fails("line 1: `x/f.c` is made for -p0, and -p1 is wanted: write `--- a/x/f.c` and `+++ b/x/f.c`")),
        ("-p0 of git", format!("diff --git x/f.c x/f.c\nindex 1..2 100644\n--- x/f.c\n+++ x/f.c\n{HUNK}"), Fails("`x/f.c` is made for -p0")),
        ("-p0 that would fit with -p1", format!("--- tools/x/f.c\n+++ tools/x/f.c\n{HUNK}"), Fails("`tools/x/f.c` is made for -p0")),
        ("-p0 of a new file", "--- /dev/null\n+++ x/n.h\n@@ -0,0 +1 @@\n+n\n".into(), Fails("`x/n.h` is made for -p0")),
        ("-p0 of a new file in a new folder", "--- /dev/null\n+++ x/y/n.h\n@@ -0,0 +1 @@\n+n\n".into(), Fails("`x/y/n.h` is made for -p0")),
        ("-p0 at the top", format!("--- top.c\n+++ top.c\n{HUNK}"), Fails("`top.c` is made for -p0, and -p1 is wanted: write `--- a/top.c`")),
        ("-p0 of a mode", "diff --git x/f.c x/f.c\nold mode 100644\nnew mode 100755\n".into(), Fails("`x/f.c` is made for -p0")),
        ("no folder", format!("--- f.c\n+++ f.c\n{HUNK}"), Fails("`f.c` has no leading folder, and -p1 is wanted: write `--- a/FOLDER/f.c`")),
        ("-p2", format!("--- old/linux/x/f.c\n+++ new/linux/x/f.c\n{HUNK}"), Fails("`old/linux/x/f.c` has more than one leading folder, and -p1 is wanted: write `--- a/x/f.c`")),
        ("missing", format!("--- a/x/top.c\n+++ b/x/top.c\n{HUNK}"), Fails("line 1: x/top.c is changed, and 1.0 does not have it")),
        ("missing and removed", "--- a/x/no.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-n\n".into(), Fails("x/no.c is removed, and 1.0 does not have it")),
        ("outside", format!("--- a/../x/f.c\n+++ b/../x/f.c\n{HUNK}"), Fails("line 1: `a/../x/f.c` is not a path inside the source tree")),
        ("outside later", format!("--- a/x/../../f.c\n+++ b/x/../../f.c\n{HUNK}"), Fails("is not a path inside the source tree")),
        ("folder", format!("--- a/tools/x\n+++ b/tools/x\n{HUNK}"), Fails("tools/x is a folder in 1.0")),
        ("behind a link", format!("--- a/link/l.c\n+++ b/link/l.c\n{HUNK}"), Fails("link/l.c is behind a symbolic link; make the patch for real/l.c")),
        ("two that exist", format!("--- a/x/two.c.orig\n+++ b/x/two.c\n{HUNK}"), Fails("x/two.c.orig and x/two.c are named, and both exist")),
        ("another name", format!("--- a/x/f.c\n+++ b/x/h.c\n{HUNK}"), Fails("line 1: renames `a/x/f.c` to `b/x/h.c`, which is not supported")),
        ("another name and a new file", "--- a/x/f.c\n+++ b/x/h.c\n@@ -0,0 +1 @@\n+n\n".into(), Fails("renames `a/x/f.c` to `b/x/h.c`")),
        ("-p0 and a backup", format!("--- x/f.c.orig\n+++ x/f.c\n{HUNK}"), Fails("`x/f.c` is made for -p0")),
        ("no folder and a backup", format!("--- f.c~\n+++ f.c\n{HUNK}"), Fails("has no leading folder")),
        ("-p0 on one side", format!("--- x/f.c\n+++ b/x/f.c\n{HUNK}"), Fails("`x/f.c` is made for -p0")),
        ("git with two names", format!("diff --git a/x/f.c b/x/h.c\n--- a/x/f.c\n+++ b/x/h.c\n{HUNK}"), Fails("renames `a/x/f.c` to `b/x/h.c`")),
        ("both new and removed", "--- /dev/null\n+++ /dev/null\n@@ -0,0 +1 @@\n+n\n".into(), Fails("line 1: the file is new and removed at once")),
        ("no change", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,3 +1,3 @@\n one\n-two\n+two\n three\n".into(), Fails("the diff of x/f.c leaves it as it is")),
        ("only modes", "diff --git a/x/f.c b/x/f.c\nold mode 100644\nnew mode 100755\n".into(), Nothing("only the mode of x/f.c changes")),
        ("mode and text", format!("diff --git a/x/f.c b/x/f.c\nold mode 100644\nnew mode 100755\nindex 1..2\n{diff}"), TAKEN),
        ("mode beside text", format!("diff --git a/x/g.c b/x/g.c\nold mode 100644\nnew mode 100755\ndiff --git a/x/f.c b/x/f.c\n{diff}"), TAKEN),
        ("mode of a missing file", "diff --git a/x/no.c b/x/no.c\nold mode 100644\nnew mode 100755\n".into(), Fails("x/no.c is changed, and 1.0 does not have it")),
        ("symbolic link", "diff --git a/x/l b/x/l\nnew file mode 120000\n--- /dev/null\n+++ b/x/l\n@@ -0,0 +1 @@\n+f.c\n\\ No newline at end of file\n".into(), Fails("line 2: a symbolic link is changed")),
        ("submodule", "diff --git a/x/m b/x/m\nindex 1..2 160000\n--- a/x/m\n+++ b/x/m\n@@ -1 +1 @@\n-Subproject commit 1\n+Subproject commit 2\n".into(), Fails("line 2: a submodule is changed")),
        ("rename", format!("diff --git a/x/f.c b/x/h.c\nsimilarity index 90%\nrename from x/f.c\nrename to x/h.c\n--- a/x/f.c\n+++ b/x/h.c\n{HUNK}"), Fails("line 3: renames and copies are not supported; make the patch with `git diff --no-renames`")),
        ("rename of the whole", "diff --git a/x/f.c b/x/h.c\nsimilarity index 100%\nrename from x/f.c\nrename to x/h.c\n".into(), Fails("line 3: renames")),
        ("copy", "diff --git a/x/f.c b/x/h.c\nsimilarity index 100%\ncopy from x/f.c\ncopy to x/h.c\n".into(), Fails("line 3: renames and copies")),
        ("binary of git", "diff --git a/x/f.c b/x/f.c\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZQz0ssI2\n\n".into(), Fails("line 3: binary patches are not supported")),
        ("binary that differs", format!("{diff}Binary files a/x/b.bin and b/x/b.bin differ\n"), Fails("line 8: binary patches are not supported")),
        ("one tree only", format!("{diff}Only in b/x: n.h\n"), Fails("line 8: `b/x/n.h` is in one of the trees only and not in the patch")),
        ("combined", "diff --cc x/f.c\nindex 1,2..3\n--- a/x/f.c\n+++ b/x/f.c\n@@@ -1,1 -1,1 +1,1 @@@\n- one\n -two\n++uno\n".into(), Fails("line 1: this is the combined diff of a merge")),
        ("combined behind another", format!("{diff}\n@@@ -1,1 -1,1 +1,1 @@@\n- one\n"), Fails("line 9: this is the combined diff of a merge")),
        ("context diff", "*** a/x/f.c\n--- b/x/f.c\n***************\n*** 1,2 ****\n  one\n! two\n--- 1,2 ----\n  one\n! deux\n".into(), Fails("line 1: this is a context diff; make the patch with `diff -Nup`")),
        ("context diff behind another", format!("{diff}*** a/x/g.c\n--- b/x/g.c\n***************\n"), Fails("line 8: this is a context diff")),
        ("normal diff", "diff a/x/f.c b/x/f.c\n2c2\n< two\n---\n> deux\n".into(), Fails("line 2: this is a diff without context")),
        ("ed script", "diff -e a/x/f.c b/x/f.c\n2c\ndeux\n.\n".into(), Fails("line 2: this is a script for ed")),
        ("ed script without a header", "2d\n".into(), Fails("line 1: this is a script for ed")),
        ("indented", format!("See\n  {}\n{}", diff.trim_end().replace('\n', "\n  "), "--- a/x/g.c\n+++ b/x/g.c\n@@ -1 +1 @@\n-a\n+A\n"), Fails("line 4: this hunk is indented, so that patch(1) takes it and `git apply` does not")),
("hunk in text", format!("See\n    @@ -1,3 +1,3 @@\n    -two\n\n{diff}"), TAKEN),
        ("hunk in text behind names", format!("Revert\n--- this\n+++ that\n    @@ -1,3 +1,3 @@\n    -two\n\n{diff}"), Fails("line 4: this hunk is indented")),
        ("hunk without names", format!("{diff}\n@@ -4,2 +4,2 @@\n four\n-five\n+cinq\n"), Fails("line 9: no names of files are right in front of the hunk")),
        ("empty line behind the names", format!("--- a/x/f.c\n+++ b/x/f.c\n\n{HUNK}"), Fails("line 4: no names of files are right in front of the hunk")),
        ("cut in a hunk", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,3 +1,3 @@\n one\n-two\n".into(), Fails("line 3: the hunk ends before it has the lines that it announces")),
        ("cut in front of a hunk", format!("{diff}diff -u a/x/g.c b/x/g.c\n--- a/x/g.c\n+++ b/x/g.c\n"), Fails("line 9: no hunk is behind the names")),
        ("cut in a header", format!("diff --git a/x/f.c b/x/f.c\n{diff}diff --git a/x/g.c b/x/g.c\nindex 1..2 100644\n"), Fails("line 9: `b/x/g.c` is named, and no hunk is there")),
        ("cut behind a header", "diff --git a/x/f.c b/x/f.c\nindex 1..2 100644\n--- a/x/f.c\n+++ b/x/f.c\n".into(), Fails("line 3: no hunk is behind the names")),
        ("damaged hunk", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,3 +1,3 @@\n one\n-two\n+deux\nthree\n".into(), Fails("line 7: this is no line of the hunk of line 3")),
        ("counts too low", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,2 +1,2 @@\n one\n-two\n+deux\n+dos\n".into(), Fails("line 7: this is behind the end of the hunk of line 3")),
        ("counts too low within", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,1 +1,2 @@\n one\n-two\n+deux\n".into(), Fails("line 5: the hunk of line 3 announces fewer lines than it has")),
        ("malformed hunk header", "--- a/x/f.c\n+++ b/x/f.c\n@@ -x,3 +1,3 @@\n one\n".into(), Fails("line 3: malformed hunk header")),
("context at one end", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,2 +1,2 @@\n one\n-two\n+deux\n".into(), TAKEN),
        ("more context in front", "--- a/x/f.c\n+++ b/x/f.c\n@@ -2,4 +2,5 @@\n two\n three\n four\n+quatre\n five\n".into(), Takes(&[('M', "x/f.c", "one\ntwo\nthree\nfour\nquatre\nfive\nsix\n")])),
        ("more context behind, moved", "--- a/x/f.c\n+++ b/x/f.c\n@@ -12,4 +12,5 @@\n two\n+deux\n three\n four\n five\n".into(), Takes(&[('M', "x/f.c", "one\ntwo\ndeux\nthree\nfour\nfive\nsix\n")])),
        ("other context in front", "--- a/x/f.c\n+++ b/x/f.c\n@@ -2,4 +2,5 @@\n zwei\n three\n four\n+quatre\n five\n".into(), Fails("line 3: x/f.c has not all of the hunk's context; make the patch for this version")),
        ("other context beside an uneven hunk", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,2 +1,2 @@\n one\n-two\n+deux\n@@ -3,4 +3,5 @@\n drei\n four\n+quatre\n five\n six\n".into(), Fails("line 7: x/f.c has not all of the hunk's context")),
        ("other text", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,2 +1,2 @@\n one\n-zwei\n+deux\n".into(), Fails("does not apply to 1.0:\npatching file x/f.c\nHunk #1 FAILED at 1.\n")),
        ("wrong way round", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,3 +1,3 @@\n one\n-deux\n+two\n three\n".into(), Fails("can be taken back and not be applied: 1.0 has it already, or it is the wrong way round:\npatching")),
        ("new file that is there and all the rest", "--- /dev/null\n+++ b/x/g.c\n@@ -0,0 +1,3 @@\n+a\n+b\n+c\n--- a/x/f.c\n+++ b/x/f.c\n@@ -1,3 +1,3 @@\n one\n-deux\n+two\n three\n".into(), Fails("line 1: x/g.c is added, and 1.0 has it; make the patch for this version.\nHint: it can be taken back")),
        ("new file that is there with other text", "--- /dev/null\n+++ b/x/g.c\n@@ -0,0 +1 @@\n+z\n".into(), Fails("line 1: x/g.c is added, and 1.0 has it")),
        ("removed file that is gone", "--- a/x/no.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-n\n".into(), Fails("x/no.c")),
        ("text only", "Nothing is here.\n".into(), Fails("it has no unified diff; make it with `git diff`")),
        ("empty", String::new(), Fails("it is empty")),
        ("web page", format!("\n<!DOCTYPE html>\n<pre>\n{diff}</pre>\n"), Fails("it is a web page")),
    ];
    for (name, patch, outcome) in cases {
        tree.check(name, &[patch.as_bytes()], outcome);
    }
}

#[test]
fn files_that_come_and_go() {
    let tree = Tree::new("files");
    let new = "@@ -0,0 +1,2 @@\n+p\n+q\n";
    let gone = "@@ -1,3 +0,0 @@\n-a\n-b\n-c\n";
    let added = Takes(&[('A', "x/n.h", "p\nq\n")]);
    let cases: &[(&str, String, Outcome)] = &[
        ("null", format!("--- /dev/null\n+++ b/x/n.h\n{new}"), added),
        (
            "epoch of diff -N",
            format!("diff -Nur l/x/n.h m/x/n.h\n--- l/x/n.h\t1970-01-01 01:00:00.000000000 +0100\n+++ m/x/n.h\t2026-10-19 12:00:00.000000000 +0200\n{new}"),
            Takes(&[('A', "x/n.h", "p\nq\n")]),
        ),
        (
            "epoch in words",
            format!("--- l/x/n.h Wed Dec 31 19:00:00 1969\n+++ m/x/n.h Sun Oct 18 12:00:00 2026\n{new}--- l/x/g.c\tSun Oct 18 12:00:00 2026\n+++ m/x/g.c\tThu Jan  1 01:00:00 1970\n{gone}"),
            Takes(&[('D', "x/g.c", ""), ('A', "x/n.h", "p\nq\n")]),
        ),
        ("no time stamp", format!("--- a/x/n.h\n+++ b/x/n.h\n{new}"), Takes(&[('A', "x/n.h", "p\nq\n")])),
        ("new folder", format!("--- /dev/null\n+++ b/y/z/n.h\n{new}"), Takes(&[('A', "y/z/n.h", "p\nq\n")])),
        ("CRLF of a new file", format!("--- /dev/null\n+++ b/x/n.h\n{new}").replace('\n', "\r\n"), Takes(&[('A', "x/n.h", "p\nq\n")])),
        ("removed", format!("--- a/x/g.c\n+++ /dev/null\n{gone}"), Takes(&[('D', "x/g.c", "")])),
        (
            "removed by diff -N",
            format!("--- l/x/g.c\t2026-10-19 12:00:00.000000000 +0200\n+++ m/x/g.c\t1970-01-01 00:00:00.000000000 +0000\n{gone}"),
            Takes(&[('D', "x/g.c", "")]),
        ),
        ("removed in part", "--- a/x/g.c\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n".into(), Fails("does not apply to 1.0:\npatching file x/g.c")),
        ("all of the epoch", format!("--- a/x/f.c\t1970-01-01 00:00:00 +0000\n+++ b/x/f.c\t1970-01-01 00:00:00 +0000\n{HUNK}"), TAKEN),
        ("git", format!("diff --git a/x/n.h b/x/n.h\nnew file mode 100644\nindex 0..1\n--- /dev/null\n+++ b/x/n.h\n{new}diff --git a/x/g.c b/x/g.c\ndeleted file mode 100644\nindex 1..0\n--- a/x/g.c\n+++ /dev/null\n{gone}"), Takes(&[('D', "x/g.c", ""), ('A', "x/n.h", "p\nq\n")])),
        ("empty", "diff --git a/x/n.h b/x/n.h\nnew file mode 100644\nindex 0..e69de29\n".into(), Takes(&[('A', "x/n.h", "")])),
        ("empty with CRLF", "diff --git a/x/n.h b/x/n.h\r\nnew file mode 100644\r\nindex 0..e69de29\r\n".into(), Takes(&[('A', "x/n.h", "")])),
        ("empty and removed", "diff --git a/x/empty.h b/x/empty.h\ndeleted file mode 100644\nindex e69de29..0\n".into(), Takes(&[('D', "x/empty.h", "")])),
        ("empty and there", "diff --git a/x/f.c b/x/f.c\nnew file mode 100644\nindex 0..e69de29\n".into(), Fails("x/f.c is added, and 1.0 has it")),
        ("added and changed", format!("--- /dev/null\n+++ b/x/n.h\n{new}-- \n2.5\n\nFrom 2\n\n--- a/x/n.h\n+++ b/x/n.h\n@@ -1,2 +1,2 @@\n p\n-q\n+r\n"), Takes(&[('A', "x/n.h", "p\nr\n")])),
        ("added and removed", format!("--- /dev/null\n+++ b/x/n.h\n{new}--- a/x/n.h\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-p\n-q\n"), Nothing("x/n.h is added and removed again")),
        ("removed and added", format!("--- a/x/g.c\n+++ /dev/null\n{gone}--- /dev/null\n+++ b/x/g.c\n{new}"), Takes(&[('M', "x/g.c", "p\nq\n")])),
        ("empty and filled", format!("diff --git a/x/n.h b/x/n.h\nnew file mode 100644\n-- \n2.5\n\ndiff --git a/x/n.h b/x/n.h\n--- a/x/n.h\n+++ b/x/n.h\n{new}"), Takes(&[('A', "x/n.h", "p\nq\n")])),
        ("changed twice", format!("{DIFF}-- \n2.5\n\n{}", DIFF.replace("two", "2").replace("deux", "zwei").replace("-2", "-deux")), Takes(&[('M', "x/f.c", "one\nzwei\nthree\nfour\nfive\nsix\n")])),
        ("changed and back", format!("{DIFF}{}", "--- a/x/f.c\n+++ b/x/f.c\n@@ -1,3 +1,3 @@\n one\n-deux\n+two\n three\n"), Takes(&[('M', "x/f.c", F)])),
        ("removed and changed", format!("--- a/x/g.c\n+++ /dev/null\n{gone}--- a/x/g.c\n+++ b/x/g.c\n@@ -1 +1 @@\n-a\n+A\n"), Fails("line 7: x/g.c is changed, and 1.0 does not have it")),
    ];
    for (name, patch, outcome) in cases {
        tree.check(&format!("file {name}"), &[patch.as_bytes()], outcome);
    }
}

#[test]
fn patches_one_after_the_other() {
    let tree = Tree::new("order");
    let gone: &[u8] = b"--- a/x/g.c\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-a\n-b\n-c\n";
    let new: &[u8] = b"--- /dev/null\n+++ b/x/g.c\n@@ -0,0 +1 @@\n+z\n";
    let more: &[u8] = b"--- a/x/g.c\n+++ b/x/g.c\n@@ -1 +1 @@\n-z\n+y\n";
    let mode: &[u8] = b"diff --git a/x/f.c b/x/f.c\nold mode 100644\nnew mode 100755\n";
    let cases: &[(&str, &[&[u8]], Outcome)] = &[
        (
            "removed and added",
            &[gone, new],
            Takes(&[('M', "x/g.c", "z\n")]),
        ),
        (
            "removed, added, changed",
            &[gone, new, more],
            Takes(&[('M', "x/g.c", "y\n")]),
        ),
        ("mode and text", &[mode, DIFF.as_bytes()], TAKEN),
        (
            "mode and mode",
            &[mode, mode],
            Nothing("only the mode of x/f.c changes"),
        ),
        (
            "the same twice",
            &[DIFF.as_bytes(), DIFF.as_bytes()],
            Fails("1.patch can be taken back and not be applied"),
        ),
        (
            "removed twice",
            &[gone, gone],
            Fails("x/g.c is removed, and 1.0 does not have it"),
        ),
    ];
    for (name, patches, outcome) in cases {
        tree.check(&format!("after {name}"), patches, outcome);
    }
}

#[test]
fn files_that_are_no_patches() {
    let tree = Tree::new("no-patches");
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(DIFF.bytes().flat_map(|b| [b, 0]))
        .collect();
    let cases: &[(&str, &[u8], &str)] = &[
        (
            "gzip",
            b"\x1f\x8b\x08\0",
            "it is compressed with gzip; unpack it with `gzip -d`",
        ),
        ("xz", b"\xfd7zXZ\0\0", "compressed with xz"),
        ("bzip2", b"BZh91AY", "compressed with bzip2"),
        ("zstd", b"\x28\xb5\x2f\xfd\0", "compressed with zstd"),
        ("zip", b"PK\x03\x04", "compressed with zip"),
        ("utf-16", &utf16, "it is UTF-16 text"),
        ("blanks", b" \n\n", "it is empty"),
        ("nul", b"a\0b\n", "it has a NUL byte"),
        (
            "name that is no UTF-8",
            b"--- a/x/\xe4.c\n+++ b/x/\xe4.c\n@@ -1 +1 @@\n-a\n+b\n",
            "is not UTF-8",
        ),
    ];
    for (name, bytes, text) in cases {
        tree.check(&format!("no {name}"), &[bytes], &Fails(text));
    }
    let dir = tree.0.dir.join("work/folder");
    for (path, text) in [
        (
            tree.0.dir.clone(),
            "is a folder; name the patch files that are in it",
        ),
        (PathBuf::from("/nonexistent"), "cannot read /nonexistent"),
    ] {
        let error = Patches::apply(&tree.0, &[path], &dir).unwrap_err();
        assert!(format!("{error:#}").contains(text), "{error:#}");
    }
}

/// What text of a mail could pass for when only one of the two programs looks at it.
#[test]
fn what_patch_does_and_what_was_read_must_agree() {
    let sections = forms::read(DIFF).unwrap();
    let steps = [Step {
        path: "x/f.c".to_owned(),
        change: Some(Change::Modified),
    }];
    let contents = |texts: &[(&str, &str)]| -> Contents {
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), text.as_bytes().to_vec());
        texts.iter().map(pair).collect()
    };
    let before = contents(&[("x/f.c", F)]);
    let after = contents(&[("x/f.c", DEUX)]);
    let said =
        "|patching file x/g.c\npatching file x/f.c\nHunk #1 succeeded at 1 with fuzz 1 (offset 3 lines).\n";
    check_applied(&sections, &steps, said, &before, &after).unwrap();
    let more = contents(&[("x/f.c", DEUX), ("x/g.c", "")]);
    let gone = contents(&[]);
    for (said, after, text) in [
        (
            "",
            &after,
            "line 1: patch(1) does not take the diff of x/f.c",
        ),
        (
            "patching file x/f.c\n",
            &after,
            "1 hunk(s) of x/f.c are there, and patch(1) applied 0 of x/f.c",
        ),
        (
            "patching file x/g.c\nHunk #1 succeeded at 1.\n",
            &after,
            "applied 1 of x/g.c",
        ),
        (
            "patching symbolic link x/f.c\nHunk #1 succeeded at 1.\n",
            &after,
            "applied 1 of patching symbolic link",
        ),
        (
            "patching file x/f.c\nHunk #1 succeeded at 1.\npatching file x/g.c\n",
            &after,
            "takes text of the patch file for a diff of x/g.c",
        ),
        (
            said,
            &more,
            "patch(1) changed x/g.c, which the patch does not name",
        ),
        (
            said,
            &gone,
            "patch(1) removed x/f.c, and the patch does not",
        ),
        (said, &before, "the diff of x/f.c leaves it as it is"),
    ] {
        let error = check_applied(&sections, &steps, said, &before, after).unwrap_err();
        assert!(format!("{error:#}").contains(text), "{error:#}");
    }
}
