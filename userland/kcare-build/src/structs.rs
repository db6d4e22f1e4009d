// SPDX-License-Identifier: GPL-2.0

//! Which changed layouts of structures and unions stand in the way of a patch.
//!
//! Objects outlive the switch, and the code on both of its sides has to agree on them. Where all objects of a
//! structure are in frames ([`crate::frames`]) and each function with such a frame is replaced, no object does.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::btf;
use crate::clones::Clones;
use crate::compile::{Compiler, Flavour, Unit};
use crate::correlate::{base_name, keeps_state};
use crate::ctext::{chunks, Token};
use crate::frames::Text;
use crate::obj::{Kind, Layout, Obj};
use crate::refuse::{Ending, Refusal};
use crate::select::Selection;
use crate::unit::UnitState;

/// A structure whose layout changes, and whose objects are all in frames.
#[derive(Debug)]
struct Framed {
    source: String,
    name: String,
    /// How it changes.
    what: String,
    /// The functions of the original source that have an object.
    old: BTreeSet<String>,
    /// Those of the patched one.
    new: BTreeSet<String>,
    /// Where the compiler put the code of each of them.
    code: BTreeMap<String, BTreeSet<String>>,
}

impl Framed {
    /// What stands in the way, if these are the functions of the unit as it was shipped, and those are replaced.
    ///
    /// A function that is the same under both layouts could hand an object from old code to new code.
    fn kept(&self, functions: &[Vec<&str>], replaced: &BTreeSet<&str>) -> Vec<String> {
        let mut kept = Vec::new();
        for (holder, code) in &self.code {
            let known = |name: &&str| {
                // Parts and copies have numbers, which may be others after the patch.
                let base = name.split('.').next().unwrap_or(name);
                code.contains(*name) || code.contains(base)
            };
            let mut found = functions.iter().filter(|f| f.iter().any(&known)).peekable();
            // Without code it may have been merged with another function, unless the patch adds it.
            if found.peek().is_none() && self.old.contains(holder) {
                kept.push(format!(
                    "where `{holder}` is, which has one, cannot be told"
                ));
            }
            let left = found.filter(|names| !names.iter().any(|n| replaced.contains(n)));
            kept.extend(
                left.map(|names| format!("`{}`, which has one, is not replaced", names[0])),
            );
        }
        kept
    }
}

/// What is known about changed layouts.
#[derive(Debug)]
pub struct Structs<'a> {
    /// Those that the author of the patch answers for.
    accepted: &'a BTreeSet<String>,
    framed: Vec<Framed>,
    /// Remarks that are no obstacles.
    pub remarks: BTreeSet<String>,
}

impl<'a> Structs<'a> {
    /// Knows nothing yet; `accepted` are the names of structures that may change.
    pub fn new(accepted: &'a BTreeSet<String>) -> Self {
        Structs {
            accepted,
            framed: Vec::new(),
            remarks: BTreeSet::new(),
        }
    }

    /// Refuses changed layouts in units that are compiled, but for those that may change.
    pub fn check(&mut self, compiler: &Compiler<'_>, units: &[Unit]) -> Result<()> {
        let mut refusals = BTreeSet::new();
        for unit in units {
            let btf = |flavour| -> Result<Vec<u8>> {
                let obj = compiler.read(unit, flavour, Layout::Split)?;
                let sec = obj.sec_by_name(btf::SECTION);
                let sec =
                    sec.with_context(|| format!("{} was compiled without BTF", unit.source))?;
                Ok(obj.secs[sec].data.clone())
            };
            let changes = btf::changes(&btf(Flavour::Split)?, &btf(Flavour::Patched)?)?;
            self.remarks.extend(changes.shared.into_iter().map(|what| {
                format!("{what} is new, in bytes that the original uses for something else")
            }));
            self.remarks.extend(changes.revalued);
            for (name, what) in changes.renumbered {
                if !self.accepted.contains(&name) {
                    let why = format!("gives other numbers to its enumerators ({what}), and objects of the running kernel may hold the old ones");
                    refusals.insert(Refusal::new(name, why).of(&unit.source));
                }
            }
            for (name, what) in changes.annotated {
                let why = format!("gets other endings of its arguments ({what}), and the BPF verifier goes by those that the running kernel has");
                refusals.insert(Refusal::new(name, why).of(&unit.source));
            }
            let mut broken = changes.broken;
            broken.retain(|name, _| !self.accepted.contains(name));
            if !broken.is_empty() {
                refusals.extend(self.look_for_objects(compiler, unit, broken)?);
            }
        }
        if refusals.is_empty() {
            return Ok(());
        }
        Err(Ending::CannotPatch(refusals.into_iter().collect()).into())
    }

    /// Remarks about constants (`#define NAME number`) that a patch gives another value.
    pub fn look_for_constants(&mut self, old: &str, new: &str) {
        let (old, new) = (constants(old), constants(new));
        for (name, was) in &old {
            if let Some(is) = new.get(name).filter(|is| *is != was) {
                self.remarks.insert(format!(
                    "`{name}` is {is} and was {was}: objects of the running kernel may hold the old value"
                ));
            }
        }
    }

    /// Refuses changed structures of a unit that may have objects outside of frames.
    fn look_for_objects(
        &mut self,
        compiler: &Compiler<'_>,
        unit: &Unit,
        broken: BTreeMap<String, String>,
    ) -> Result<Vec<Refusal>> {
        let text = |flavour| -> Result<Text> {
            Ok(Text::new(&compiler.text(unit, flavour)?, &unit.source))
        };
        let (before, after) = (text(Flavour::Exact)?, text(Flavour::ExactPatched)?);
        let mut refusals = Vec::new();
        let mut found = Vec::new();
        for (name, what) in broken {
            let holders = |text: &Text| text.holders(&name);
            match holders(&before).and_then(|old| Ok((old, holders(&after)?))) {
                Ok((old, new)) => found.push((name, what, old, new)),
                Err(obstacle) => {
                    let why = format!(
                        "changes its layout ({what}), and the running kernel may have objects of it: {obstacle}"
                    );
                    refusals.push(Refusal::new(name, why).of(&unit.source));
                }
            }
        }
        if !refusals.is_empty() || found.is_empty() {
            return Ok(refusals);
        }
        let mut clones = Clones::default();
        for flavour in [Flavour::Exact, Flavour::ExactPatched] {
            clones.read(&compiler.clones(unit, flavour)?)?;
        }
        for (name, what, old, new) in found {
            let holders = old.union(&new);
            let code = holders.map(|holder| (holder.clone(), clones.with_code_of(holder)));
            self.framed.push(Framed {
                source: unit.source.clone(),
                name,
                what,
                code: code.collect(),
                old,
                new,
            });
        }
        Ok(refusals)
    }

    /// Refuses static variables of another type, and changed structures that only one function knows and finds through
    /// a pointer: what the running kernel holds in them is laid out as it was.
    pub fn private(&self, states: &[UnitState]) -> BTreeSet<Refusal> {
        let mut refusals = BTreeSet::new();
        for state in states {
            let mut refuse = |name: &str, what: String| {
                if !self.accepted.contains(name) {
                    let why = format!("changes its layout ({what}), and the running kernel goes on with what it holds");
                    refusals.insert(Refusal::new(name, why).of(&state.source));
                }
            };
            for (o, n) in state.diff.pairs.all() {
                let (Some(was), Some(is)) = (state.old.variable(o), state.new.variable(n)) else {
                    continue;
                };
                if keeps_state(&state.old, o) && !alike(&was.shape, &is.shape) {
                    let what = first_difference(&was.shape, &is.shape);
                    refuse(base_name(&state.new.items[n].name), what);
                }
            }
            for ((function, variable), was) in &state.old.pointed {
                // A guard has a number in its name, which is another guard's when one is added or taken away.
                if variable.starts_with("__UNIQUE_ID_") {
                    continue;
                }
                let is = state.new.pointed.get(&(function.clone(), variable.clone()));
                let Some(is) = is.filter(|is| *is != was) else {
                    continue;
                };
                let changed = was.difference(is).next().zip(is.difference(was).next());
                if let Some((was, is)) = changed {
                    let what = first_difference(was, is);
                    refuse(variable, format!("what it points to in {function}: {what}"));
                }
            }
        }
        refusals
    }

    /// Refuses what was found to be in frames only, if a function with such a frame is not replaced.
    pub fn check_replaced(&mut self, states: &[UnitState], selection: &Selection) -> Result<()> {
        let mut refusals = BTreeSet::new();
        for framed in &self.framed {
            for (u, state) in states.iter().enumerate() {
                if state.source != framed.source {
                    continue;
                }
                let redirects = selection.redirects.iter().filter(|r| r.key.0 == u);
                let replaced: BTreeSet<&str> = redirects.map(|r| r.name.as_str()).collect();
                for obstacle in framed.kept(&functions(&state.exact), &replaced) {
                    let why = format!("changes its layout ({}), and {obstacle}", framed.what);
                    refusals.insert(Refusal::new(&framed.name, why).of(&framed.source));
                }
            }
            let holders: Vec<&str> = framed.old.union(&framed.new).map(String::as_str).collect();
            self.remarks.insert(format!(
                "{} of {} changes its layout ({}); all objects of it are in frames of what is replaced: {}",
                framed.name,
                framed.source,
                framed.what,
                holders.join(", ")
            ));
        }
        if refusals.is_empty() {
            return Ok(());
        }
        Err(Ending::CannotPatch(refusals.into_iter().collect()).into())
    }
}

/// Whether two shapes are the same memory; a pointer without a type may be any.
fn alike(old: &str, new: &str) -> bool {
    let pointers = old.ends_with(" *") && new.ends_with(" *");
    old == new || (pointers && (old == "void *" || new == "void *"))
}

/// Where two shapes differ first.
fn first_difference(old: &str, new: &str) -> String {
    let split = |shape: &str| -> Vec<String> {
        let inside = shape.strip_prefix("{ ").unwrap_or(shape);
        inside.split("; ").map(str::to_owned).collect()
    };
    let (old, new) = (split(old), split(new));
    let differ = old.iter().zip(&new).find(|(a, b)| a != b);
    match differ {
        Some((old, new)) => format!("`{old}` -> `{new}`"),
        None => format!("{} -> {} members", old.len(), new.len()),
    }
}

/// Macros of a text that are numbers, and what they are; those with several definitions are left out.
fn constants(text: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut several = BTreeSet::new();
    for chunk in chunks(text).iter().filter(|chunk| chunk.directive) {
        let [_, define, Token::Name(name), value @ ..] = chunk.tokens.as_slice() else {
            continue;
        };
        let number = |token: &Token| match token {
            Token::Name(_) => false,
            Token::Other(text) => !text.starts_with(['"', '\'']),
        };
        let digits = |token: &Token| matches!(token, Token::Other(t) if t.starts_with(|c: char| c.is_ascii_digit()));
        let constant = value.iter().all(number) && value.iter().any(digits);
        if define.name() != Some("define") || !constant {
            continue;
        }
        let words = value.iter().map(|token| match token {
            Token::Name(text) | Token::Other(text) => text.as_str(),
        });
        let value: String = words.collect();
        if found.insert(name.clone(), value).is_some() {
            several.insert(name.clone());
        }
    }
    found.retain(|name, _| !several.contains(name));
    found
}

/// The functions of an object, all names of each. A cold part is replaced with its function.
fn functions(obj: &Obj) -> Vec<Vec<&str>> {
    obj.items
        .iter()
        .filter(|item| item.kind == Kind::Func && !item.name.ends_with(".cold"))
        .map(|item| {
            let aliases = item.aliases.iter().map(|alias| alias.name.as_str());
            std::iter::once(item.name.as_str()).chain(aliases).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_macros_that_are_numbers() {
        let text = "#define A 1\n#define B (1 << 3)\n#define C A\n#define D(x) 1\n#define E \"1\"\n#define F\n#define G 1\n#define G 2\n";
        let found: Vec<(String, String)> = constants(text).into_iter().collect();
        let one = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found, [one("A", "1"), one("B", "(1<<3)")]);
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn shapes_are_compared_by_what_they_are_to_memory() {
        assert!(alike("4 byte(s)", "4 byte(s)"));
        assert!(alike("void *", "struct s *") && alike("struct s *", "void *"));
        assert!(!alike("struct s *", "struct t *") && !alike("void *", "8 byte(s)"));
        let (old, new) = (
            "{ a at 0: 8 byte(s); b at 8: 8 byte(s) }",
            "{ a at 0: 8 byte(s); c at 8: 8 byte(s) }",
        );
        assert_eq!(
            first_difference(old, new),
            "`b at 8: 8 byte(s) }` -> `c at 8: 8 byte(s) }`"
        );
    }

    #[test]
    fn each_function_with_a_frame_has_to_be_replaced() {
        let framed = Framed {
            source: "a.c".to_owned(),
            name: "struct s".to_owned(),
            what: "x".to_owned(),
            old: set(&["f", "g"]),
            new: set(&["f", "added"]),
            code: BTreeMap::from([
                ("f".to_owned(), set(&["f", "f.constprop.0", "user"])),
                ("g".to_owned(), set(&["g"])),
                ("added".to_owned(), set(&["added"])),
            ]),
        };
        let kept = |functions: &[&[&'static str]], replaced: &[&str]| {
            let functions: Vec<Vec<&str>> = functions.iter().map(|f| f.to_vec()).collect();
            framed.kept(&functions, &replaced.iter().copied().collect())
        };
        let all: &[&[&str]] = &[&["user"], &["f.constprop.1"], &["__g", "g"], &["other"]];
        assert!(kept(all, &["user", "f.constprop.1", "__g"]).is_empty());
        assert!(kept(all, &["user", "f.constprop.1", "g"]).is_empty());
        assert_eq!(
            kept(all, &["f.constprop.1", "g"]),
            ["`user`, which has one, is not replaced"]
        );
        assert_eq!(
            kept(all, &["user", "g", "other"]),
            ["`f.constprop.1`, which has one, is not replaced"]
        );
        assert_eq!(
            kept(&[&["user"]], &["user"]),
            ["where `g` is, which has one, cannot be told"]
        );
    }
}
