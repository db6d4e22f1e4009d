// SPDX-License-Identifier: GPL-2.0

//! What Rust code sees of a changed header: bindings, which bindgen makes of constants, types and prototypes.
//!
//! The build keeps which headers each set of bindings is made from, and how. If the patches change one of these other than
//! by what Rust never sees, the bindings are made once more from the patched source, by the same command, and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::compile::parallel;
use crate::ctext::{chunks, Chunk, Defines, Token};
use crate::inputs::{saved, Runner};
use crate::kernel::Kernel;
use crate::patch::{Change, Patches};
use crate::refuse::Refusal;

/// The generated bindings, in the output tree.
const BINDINGS: [&str; 3] = [
    "rust/bindings/bindings_generated.rs",
    "rust/bindings/bindings_helpers_generated.rs",
    "rust/uapi/uapi_generated.rs",
];

/// Refuses changes that Rust code of this kernel sees; `files` are the Rust files of the tree, and `work` a folder for intermediate files.
pub fn check(
    kernel: &Kernel,
    patches: &Patches,
    files: &[String],
    configured: impl Fn(&str) -> bool,
    work: &Path,
) -> Result<Vec<Refusal>> {
    let mut changed: BTreeMap<String, String> = BTreeMap::new();
    for target in BINDINGS {
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
        let record = kernel.build().join(folder).join(format!(".{name}.cmd"));
        // Without Rust there are none.
        let Ok(text) = fs::read_to_string(&record) else {
            continue;
        };
        let source = kernel.source();
        let mut seen = false;
        for file in patches.files.keys() {
            let path = source.join(file);
            let path = path.to_string_lossy();
            if text.split_whitespace().any(|word| word == path) {
                seen |= visible(&source, patches, file)?;
            }
        }
        if !seen {
            continue;
        }
        let rule = saved(text.lines().next().unwrap_or_default())
            .with_context(|| format!("{} is not understood", record.display()))?;
        let old = fs::read_to_string(kernel.build().join(target))
            .with_context(|| format!("cannot read {target}"))?;
        let rules = [rule];
        let runner = Runner::new(kernel, &rules, patches, work.join("rust").join(name))?;
        let outputs = match runner.run(&rules[0], true) {
            Ok(outputs) => outputs,
            // The patched headers are not what C units compile either, which has the better message; Rust is safe only if it
            // is known what it sees.
            Err(error) => {
                return Ok(vec![Refusal::new(
                    target,
                    format!("what Rust code sees of the change cannot be told ({error:#})"),
                )])
            }
        };
        let new = outputs.get(target).context("no bindings")?;
        for name in different(&old, &String::from_utf8_lossy(new)) {
            changed.insert(name, target.to_owned());
        }
    }
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let found = std::sync::Mutex::new(BTreeMap::new());
    parallel(files, |file| {
        let bytes =
            fs::read(kernel.source().join(file)).with_context(|| format!("cannot read {file}"))?;
        let text = String::from_utf8_lossy(&bytes);
        let words: BTreeSet<&str> = words(&text).collect();
        let name = changed.keys().find(|name| words.contains(name.as_str()));
        if let Some(name) = name {
            let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
            found.insert(file.clone(), name.clone());
        }
        Ok(())
    })?;
    let found = found.into_inner().unwrap_or_else(|e| e.into_inner());
    let found = found.into_iter().filter(|(file, _)| configured(file));
    let refusals = found.map(|(file, name)| {
        let reason =
            format!("is Rust code, which cannot be patched, and `{name}` is another one for it");
        Refusal::new(file, reason)
    });
    Ok(refusals.collect())
}

/// Whether bindings can see what the patches change in a file: not the body of a function, and nothing that is new.
fn visible(source: &Path, patches: &Patches, file: &str) -> Result<bool> {
    if patches.files.get(file) != Some(&Change::Modified) {
        return Ok(true);
    }
    let old = fs::read(source.join(file)).with_context(|| format!("cannot read {file}"))?;
    let new = patches.patched(file)?.unwrap_or_default();
    Ok(seen(&String::from_utf8_lossy(&old), &new))
}

/// Whether the difference of two texts can be seen through bindings.
fn seen(old: &str, new: &str) -> bool {
    let (old, new) = (chunks(old), chunks(new));
    let known: BTreeSet<&str> = old
        .iter()
        .flat_map(|c| c.tokens.iter().filter_map(Token::name))
        .collect();
    // All that is there besides has to be the same, in the same order.
    let keep = |chunks: &[Chunk]| -> Vec<Vec<Token>> {
        let what = chunks.iter().filter_map(|chunk| match chunk.defines() {
            Defines::Names(names) if !names.iter().any(|n| known.contains(n.as_str())) => None,
            Defines::Names(_) if !chunk.directive => Some(head(chunk)),
            _ => Some(chunk.tokens.clone()),
        });
        what.collect()
    };
    keep(&old) != keep(&new)
}

/// A function without its body.
fn head(chunk: &Chunk) -> Vec<Token> {
    let end = chunk.tokens.iter().position(|t| t.is("{"));
    chunk.tokens[..end.unwrap_or(chunk.tokens.len())].to_vec()
}

/// The words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
}

/// The names of what only the old bindings have in this form.
fn different(old: &str, new: &str) -> BTreeSet<String> {
    let new: BTreeSet<&str> = items(new).into_iter().collect();
    items(old)
        .into_iter()
        .filter(|item| !new.contains(item))
        .filter_map(|item| name_of(item).map(str::to_owned))
        .collect()
}

/// The items of bindings: each begins in the first column, or in a block of functions with its own attribute.
fn items(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let mut inside = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let first = line.as_bytes().first().copied().unwrap_or(b'\n');
        let begins = !matches!(first, b' ' | b'\t' | b'}' | b')' | b']' | b'\n');
        // Attributes belong to what follows them.
        if begins && !inside {
            starts.push(at);
        }
        if begins {
            inside = line.starts_with("#[");
        }
        at += line.len();
    }
    starts.push(text.len());
    starts.windows(2).map(|w| &text[w[0]..w[1]]).collect()
}

/// The name that an item of bindings declares.
fn name_of(item: &str) -> Option<&str> {
    let mut words = words(item).skip_while(|w| {
        !matches!(
            *w,
            "const" | "static" | "fn" | "type" | "struct" | "union" | "enum" | "mod" | "impl"
        )
    });
    match words.next()? {
        // `impl Default for name` and `impl name`.
        "impl" => {
            let rest: Vec<&str> = words.collect();
            match rest.iter().position(|w| *w == "for") {
                Some(at) => rest.get(at + 1).copied(),
                None => rest.first().copied(),
            }
        }
        "static" => words.find(|w| *w != "mut"),
        _ => words.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_and_what_is_new_are_not_seen() {
        let old = "#define A 1\nstatic inline int f(int x) { return x; }\nint g(int x);\nenum e { X, Y };\n";
        for new in [
            old.replace("return x", "return x + 1"),
            format!(
                "{old}int match(int x);\n#define B 2\nstatic inline int h(void) {{ return 0; }}\n"
            ),
            format!("/* x */ {old}"),
        ] {
            assert!(!seen(old, &new), "{new}");
        }
        for new in [
            old.replace("A 1", "A 2"),
            old.replace("f(int x)", "f(long x)"),
            old.replace("g(int x)", "g(void)"),
            old.replace("X, Y", "X, Z, Y"),
            format!("{old}#undef A\n"),
            format!("{old}struct s {{ int a; }};\n"),
            old.replace("int g(int x);", ""),
        ] {
            assert!(seen(old, &new), "{new}");
        }
    }

    #[test]
    fn items_of_bindings_are_told_apart() {
        let old = "pub const A: u32 = 1;\nunsafe extern \"C\" {\n    #[must_use]\n    pub fn f(x: c_int) -> bool_;\n}\n\
                   #[repr(C)]\n#[derive(Copy)]\npub struct s {\n    pub a: u32,\n}\n\
                   impl Default for s {\n    fn default() -> Self {\n        loop {}\n    }\n}\n\
                   unsafe extern \"C\" {\n    pub static mut v: u32;\n}\n";
        assert!(different(old, old).is_empty());
        let names = |new: &str| different(old, new).into_iter().collect::<Vec<_>>();
        assert_eq!(names(&old.replace("= 1", "= 2")), ["A"]);
        assert_eq!(names(&old.replace("c_int", "c_long")), ["f"]);
        assert_eq!(names(&old.replace("a: u32", "a: u64")), ["s"]);
        assert_eq!(names(&old.replace("v: u32", "v: u64")), ["v"]);
        assert_eq!(names(&format!("{old}pub const B: u32 = 3;\n")), [""; 0]);
    }
}
