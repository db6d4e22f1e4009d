// SPDX-License-Identifier: GPL-2.0

//! The layouts of structures and unions that a unit knows, from the compiler's BTF, and what changed in them.
//!
//! Objects of a structure live on while its functions are replaced, and other units and modules know it too: what
//! was laid out by the original must be what the patched code finds. The format is that of
//! Documentation/bpf/btf.rst and include/uapi/linux/btf.h.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{ensure, Context, Result};

/// The compiler's section.
pub const SECTION: &str = ".BTF";

const MAGIC: u16 = 0xeb9f;
/// Deeper nesting of types without a name than C code has.
const DEEPEST: usize = 64;

/// Kinds of types (`BTF_KIND_*`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// One type.
#[derive(Debug)]
struct Type {
    name: String,
    kind: u32,
    /// Number of members, parameters, enumerators.
    count: u32,
    /// Whether members' offsets hold their sizes as bit-fields.
    bitfields: bool,
    /// Size in bytes, or the type that it is about.
    value: u32,
    /// What follows, as 32-bit words.
    rest: Vec<u32>,
}

/// All types of a unit; number 0 is `void`.
#[derive(Debug)]
struct Types {
    list: Vec<Type>,
    strings: Vec<u8>,
}

/// A member of a structure: name, offset and size in bits, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    at: u32,
    bits: u32,
    what: String,
}

/// A structure or union; members of parts without a name are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    size: u32,
    members: Vec<Member>,
}

/// What differs between the layouts before and after.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Structures and unions of which the patched code does not find what the original laid out, or finds what
    /// it did not: how, by name.
    pub broken: BTreeMap<String, String>,
    /// New members that only give another name to bytes that the original used.
    pub shared: BTreeSet<String>,
    /// Enumerations of which others than the last have new numbers because one was added or taken away: how, by name.
    pub renumbered: BTreeMap<String, String>,
    /// Enumerators that have another value: how.
    pub revalued: BTreeSet<String>,
    /// Functions of which an argument gets or loses an ending that the BPF verifier goes by (`p__nullable`): how, by
    /// name (Documentation/bpf/kfuncs.rst).
    pub annotated: BTreeMap<String, String>,
}

/// An enumeration: its enumerators and their values, in order.
type Enumeration = Vec<(String, i64)>;

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..at + 4).context("BTF ends early")?;
    Ok(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
}

impl Types {
    fn read(bytes: &[u8]) -> Result<Self> {
        ensure!(
            bytes.get(..2) == Some(&MAGIC.to_le_bytes()),
            "not BTF of this machine's byte order"
        );
        let header = word(bytes, 4)? as usize;
        let field = |n: usize| word(bytes, 8 + 4 * n).map(|v| v as usize);
        let part = |off: usize, len: usize| {
            bytes
                .get(header + off..header + off + len)
                .context("BTF ends early")
        };
        let types = part(field(0)?, field(1)?)?;
        let mut this = Types {
            list: Vec::new(),
            strings: part(field(2)?, field(3)?)?.to_vec(),
        };
        let mut at = 0;
        while at < types.len() {
            let info = word(types, at + 4)?;
            let (kind, count) = (info >> 24 & 0x1f, info & 0xffff);
            let words = match kind {
                kind::INT | kind::VAR | kind::DECL_TAG => 1,
                kind::ARRAY => 3,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 3 * count,
                kind::ENUM | kind::FUNC_PROTO => 2 * count,
                kind::PTR..=kind::TYPE_TAG => 0,
                _ => anyhow::bail!("unknown kind {kind} of type in BTF"),
            };
            let rest = (0..words as usize).map(|i| word(types, at + 12 + 4 * i));
            let one = Type {
                name: this.string(word(types, at)?)?,
                kind,
                count,
                bitfields: info >> 31 != 0,
                value: word(types, at + 8)?,
                rest: rest.collect::<Result<_>>()?,
            };
            at += 12 + 4 * words as usize;
            this.list.push(one);
        }
        Ok(this)
    }

    fn string(&self, at: u32) -> Result<String> {
        let tail = self.strings.get(at as usize..).context("no such name")?;
        let end = tail.iter().position(|&b| b == 0).context("endless name")?;
        Ok(String::from_utf8_lossy(&tail[..end]).into_owned())
    }

    fn get(&self, id: u32) -> Option<&Type> {
        self.list.get((id as usize).checked_sub(1)?)
    }

    /// What a type is to memory: numbers are their size, names of structures stand for them.
    fn describe(&self, id: u32, depth: usize) -> Result<String> {
        ensure!(depth < DEEPEST, "types are nested too deep");
        let Some(one) = self.get(id) else {
            ensure!(id == 0, "no type {id} in BTF");
            return Ok("void".to_owned());
        };
        let inner = |id: u32| self.describe(id, depth + 1);
        Ok(match one.kind {
            kind::INT | kind::ENUM | kind::ENUM64 => format!("{} byte(s)", one.value),
            kind::FLOAT => format!("float of {} bytes", one.value),
            kind::PTR => format!("{} *", inner(one.value)?),
            kind::ARRAY => format!("{} [{}]", inner(one.rest[0])?, one.rest[2]),
            kind::STRUCT | kind::UNION if !one.name.is_empty() => self.tag(one),
            kind::FWD => {
                let word = if one.bitfields { "union" } else { "struct" };
                format!("{word} {}", one.name)
            }
            kind::STRUCT | kind::UNION => {
                let layout = self.layout(one, depth + 1)?;
                let members = layout.members.iter();
                let members = members.map(|m| format!("{} at {}: {}", m.name, m.at, m.what));
                format!("{{ {} }}", members.collect::<Vec<_>>().join("; "))
            }
            kind::FUNC_PROTO => {
                let parameters = one.rest.chunks_exact(2).map(|p| inner(p[1]));
                let parameters = parameters.collect::<Result<Vec<_>>>()?.join(", ");
                format!("{} ({parameters})", inner(one.value)?)
            }
            kind::FUNC
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::TYPE_TAG
            | kind::DECL_TAG => inner(one.value)?,
            other => anyhow::bail!("kind {other} cannot be a part of a type"),
        })
    }

    fn tag(&self, one: &Type) -> String {
        let word = if one.kind == kind::UNION {
            "union"
        } else {
            "struct"
        };
        format!("{word} {}", one.name)
    }

    fn layout(&self, one: &Type, depth: usize) -> Result<Layout> {
        let mut members = Vec::new();
        self.members(one, 0, depth, &mut members)?;
        Ok(Layout {
            size: one.value,
            members,
        })
    }

    /// Collects the members of a structure that starts at bit `start` of another one.
    fn members(&self, one: &Type, start: u32, depth: usize, out: &mut Vec<Member>) -> Result<()> {
        ensure!(depth < DEEPEST, "types are nested too deep");
        ensure!(
            one.rest.len() == 3 * one.count as usize,
            "short list of members"
        );
        for member in one.rest.chunks_exact(3) {
            let (at, field) = if one.bitfields {
                (member[2] & 0xff_ffff, member[2] >> 24)
            } else {
                (member[2], 0)
            };
            let at = start.saturating_add(at);
            let name = self.string(member[0])?;
            if name.is_empty() {
                // Without a part behind it, it is padding.
                if let Some(part) = self.part(member[1]) {
                    self.members(part, at, depth + 1, out)?;
                }
                continue;
            }
            let (bits, what) = match field {
                0 => (
                    self.bits(member[1], depth + 1)?,
                    self.describe(member[1], depth + 1)?,
                ),
                bits => (bits, format!("{bits} bit(s)")),
            };
            out.push(Member {
                name,
                at,
                bits,
                what,
            });
        }
        Ok(())
    }

    /// The structure or union behind qualifiers.
    fn part(&self, mut id: u32) -> Option<&Type> {
        for _ in 0..DEEPEST {
            let one = self.get(id)?;
            match one.kind {
                kind::STRUCT | kind::UNION => return Some(one),
                kind::VOLATILE | kind::CONST | kind::TYPE_TAG => id = one.value,
                _ => return None,
            }
        }
        None
    }

    /// Size of a type in bits.
    fn bits(&self, id: u32, depth: usize) -> Result<u32> {
        ensure!(depth < DEEPEST, "types are nested too deep");
        let Some(one) = self.get(id) else {
            return Ok(0);
        };
        Ok(match one.kind {
            kind::INT | kind::ENUM | kind::ENUM64 | kind::FLOAT | kind::STRUCT | kind::UNION => {
                one.value.saturating_mul(8)
            }
            kind::PTR => 64,
            kind::ARRAY => self
                .bits(one.rest[0], depth + 1)?
                .saturating_mul(one.rest[2]),
            kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::TYPE_TAG
            | kind::DECL_TAG => self.bits(one.value, depth + 1)?,
            _ => 0,
        })
    }

    /// The names of arguments that have an ending behind `__`, by their functions.
    fn annotations(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut out = BTreeMap::new();
        for one in self.list.iter().filter(|one| one.kind == kind::FUNC) {
            let prototype = self.get(one.value).filter(|p| p.kind == kind::FUNC_PROTO);
            let mut names = Vec::new();
            for argument in prototype.iter().flat_map(|p| p.rest.chunks_exact(2)) {
                names.push(self.string(argument[0])?);
            }
            names.retain(|name| name.trim_start_matches('_').contains("__"));
            out.insert(one.name.clone(), names);
        }
        Ok(out)
    }

    /// All enumerations, each with its name or that of a typedef.
    fn enumerations(&self) -> Result<Vec<(String, Enumeration)>> {
        let mut out = Vec::new();
        for (index, one) in self.list.iter().enumerate() {
            let words = match one.kind {
                kind::ENUM => 2,
                kind::ENUM64 => 3,
                _ => continue,
            };
            let mut list = Vec::new();
            for entry in one.rest.chunks_exact(words) {
                // CAST: the values of 32 bits are signed; a difference is one either way.
                let low = i64::from(entry[1] as i32);
                let value = match entry.get(2) {
                    Some(&high) => i64::from(high) << 32 | i64::from(entry[1]),
                    None => low,
                };
                list.push((self.string(entry[0])?, value));
            }
            if list.is_empty() {
                continue;
            }
            let typedef = || {
                let named = self
                    .list
                    .iter()
                    .find(|other| other.kind == kind::TYPEDEF && other.value as usize == index + 1);
                named.map_or_else(String::new, |other| other.name.clone())
            };
            let name = match one.name.is_empty() {
                true => typedef(),
                false => one.name.clone(),
            };
            out.push((name, list));
        }
        Ok(out)
    }

    /// All structures and unions that have a name, or a typedef's; more than one of a name are in its order.
    fn layouts(&self) -> Result<BTreeMap<String, Vec<Layout>>> {
        let mut out: BTreeMap<String, Vec<Layout>> = BTreeMap::new();
        for one in &self.list {
            let (name, one) = match one.kind {
                kind::STRUCT | kind::UNION if !one.name.is_empty() => (self.tag(one), one),
                kind::TYPEDEF => match self.get(one.value) {
                    Some(target)
                        if matches!(target.kind, kind::STRUCT | kind::UNION)
                            && target.name.is_empty() =>
                    {
                        (one.name.clone(), target)
                    }
                    _ => continue,
                },
                _ => continue,
            };
            out.entry(name).or_default().push(self.layout(one, 0)?);
        }
        Ok(out)
    }
}

/// What differs between the BTF of two objects.
pub fn changes(old: &[u8], new: &[u8]) -> Result<Changes> {
    let (old, new) = (Types::read(old)?, Types::read(new)?);
    let mut out = Changes::default();
    compare_enumerations(&old.enumerations()?, &new.enumerations()?, &mut out);
    let annotations = new.annotations()?;
    for (name, before) in old.annotations()? {
        let Some(after) = annotations.get(&name).filter(|after| **after != before) else {
            continue;
        };
        let told = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        let what = format!("{} -> {}", told(&before), told(after));
        out.annotated.insert(name, what);
    }
    let (old, new) = (old.layouts()?, new.layouts()?);
    for (name, olds) in &old {
        let Some(news) = new.get(name) else { continue };
        if olds == news {
            continue;
        }
        let mut shared = Vec::new();
        let broken = match (olds.as_slice(), news.as_slice()) {
            ([o], [n]) => difference(o, n, &mut shared),
            _ => Some("several of this name".to_owned()),
        };
        match broken {
            Some(what) => {
                out.broken.insert(name.clone(), what);
            }
            None => out
                .shared
                .extend(shared.into_iter().map(|m| format!("`{m}` of {name}"))),
        }
    }
    Ok(out)
}

/// Finds enumerators whose values differ.
///
/// Objects that the original made hold the old numbers. Who writes another value means it; who adds an enumerator in
/// front of others may not.
fn compare_enumerations(
    old: &[(String, Enumeration)],
    new: &[(String, Enumeration)],
    out: &mut Changes,
) {
    for (name, before) in old {
        // One without a name is known by what it has.
        let twin = |(other, after): &&(String, Enumeration)| {
            let known = |(name, _): &&(String, i64)| before.iter().any(|(n, _)| n == name);
            match name.is_empty() {
                true => other.is_empty() && after.iter().any(|e| known(&e)),
                false => other == name,
            }
        };
        let Some((_, after)) = new.iter().find(twin) else {
            continue;
        };
        let find = |list: &Enumeration, name: &str| {
            let found = list.iter().find(|(n, _)| n == name);
            found.map(|(_, value)| *value)
        };
        let changed: Vec<(&str, i64, i64)> = before
            .iter()
            .filter_map(|(n, value)| Some((n.as_str(), *value, find(after, n)?)))
            .filter(|(_, value, now)| value != now)
            .collect();
        let Some(&(first, was, is)) = changed
            .iter()
            .find(|(n, ..)| !counts(n))
            .or(changed.first())
        else {
            continue;
        };
        let same_names =
            before.len() == after.len() && before.iter().all(|(n, _)| find(after, n).is_some());
        // A number that another one had means something else to objects that hold it.
        let taken = |(n, _, now): &(&str, i64, i64)| {
            let mut others = before.iter();
            others.any(|(other, value)| other != n && value == now && !counts(other))
        };
        let exchanged = changed.iter().any(|one| !counts(one.0) && taken(one));
        if (same_names && !exchanged) || changed.iter().all(|(n, ..)| counts(n)) {
            out.revalued.extend(changed.iter().map(|(n, was, is)| {
                format!("`{n}` is {is} and was {was}: objects of the running kernel may hold the old value")
            }));
            continue;
        }
        let name = match name.is_empty() {
            true => format!("enum with {}", before[0].0),
            false => format!("enum {name}"),
        };
        let others = changed.len() - 1;
        out.renumbered.insert(
            name,
            format!("`{first}` is {is} and was {was}, and {others} more"),
        );
    }
}

/// Whether an enumerator only tells how many others there are, going by its name.
fn counts(name: &str) -> bool {
    const WORDS: [&str; 12] = [
        "MAX", "LAST", "NUM", "COUNT", "NR", "END", "SIZE", "TOTAL", "MAXIMUM", "CNT", "ENTRIES",
        "N",
    ];
    name.to_ascii_uppercase()
        .split('_')
        .any(|word| WORDS.contains(&word))
}

/// The first difference that matters; `shared` gets new names for old bytes.
fn difference(old: &Layout, new: &Layout, shared: &mut Vec<String>) -> Option<String> {
    let size = match (old.size, new.size) {
        (a, b) if a == b => String::new(),
        (a, b) => format!(", size {a} -> {b}"),
    };
    let find = |layout: &Layout, name: &str| -> Option<Member> {
        layout.members.iter().find(|m| m.name == name).cloned()
    };
    let used = |bit: u32| {
        let covers = |m: &Member| (m.at..m.at.saturating_add(m.bits)).contains(&bit);
        old.members.iter().any(covers)
    };
    let mut moved = None;
    for n in &new.members {
        match find(old, &n.name) {
            None if (n.at..n.at.saturating_add(n.bits)).all(used) && n.bits > 0 => {
                shared.push(n.name.clone());
            }
            None => return Some(format!("member `{}` is new{size}", n.name)),
            Some(o) if o.what != n.what => {
                let (before, after) = (o.what, &n.what);
                return Some(format!("member `{}`: {before} -> {after}{size}", n.name));
            }
            Some(o) if o.at != n.at && moved.is_none() => moved = Some(&n.name),
            Some(_) => {}
        }
    }
    // Others move because of one that is gone.
    if let Some(gone) = old.members.iter().find(|m| find(new, &m.name).is_none()) {
        return Some(format!("member `{}` is gone{size}", gone.name));
    }
    if let Some(name) = moved {
        return Some(format!("member `{name}` moved{size}"));
    }
    (!size.is_empty()).then(|| size.trim_start_matches(", ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The BTF that the host's compiler makes of a text; `None` if there is no compiler.
    fn btf(name: &str, text: &str) -> Option<Vec<u8>> {
        let dir = std::env::temp_dir().join(format!("kcare-btf-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (source, object, out) = (dir.join("a.c"), dir.join("a.o"), dir.join("btf"));
        std::fs::write(&source, text).unwrap();
        let status = Command::new("gcc")
            .args(["-gbtf", "-c", "-o"])
            .arg(&object)
            .arg(&source)
            .status()
            .ok()?;
        assert!(status.success());
        let status = Command::new("objcopy")
            .args(["-O", "binary", "--only-section=.BTF", "--set-section-flags"])
            .arg(".BTF=alloc")
            .arg(&object)
            .arg(&out)
            .status()
            .ok()?;
        assert!(status.success());
        let bytes = std::fs::read(out).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        Some(bytes)
    }

    #[test]
    fn endings_of_arguments_are_told() {
        let text = |name: &str| format!("int f(int a, int *{name}) {{ return *{name}; }}");
        let (Some(old), Some(new), Some(plain)) = (
            btf("ending-old", &text("p")),
            btf("ending-new", &text("p__nullable")),
            btf("ending-plain", &text("q")),
        ) else {
            return;
        };
        let found = changes(&old, &new).unwrap();
        assert_eq!(found.annotated["f"], "none -> p__nullable");
        assert!(changes(&old, &plain).unwrap().annotated.is_empty());
    }

    #[test]
    fn enumerators_with_other_values_are_told() {
        let cases = [
            ("same", "A, B", "A, B", "", 0),
            ("end", "A, B", "A, B, C", "", 0),
            (
                "front",
                "A, B, C",
                "X, A, B, C",
                "enum e: `A` is 1 and was 0, and 2 more",
                0,
            ),
            (
                "gone",
                "A, B, C",
                "B, C",
                "enum e: `B` is 0 and was 1, and 1 more",
                0,
            ),
            ("value", "A = 1, B = 7", "A = 3, B = 7", "", 1),
            (
                "exchanged",
                "A, B, C",
                "A, C, B",
                "enum e: `B` is 2 and was 1, and 1 more",
                0,
            ),
            (
                "onto another",
                "A = 1, B = 7",
                "A = 7, B = 8",
                "enum e: `A` is 7 and was 1, and 1 more",
                0,
            ),
            ("count", "A, B, NR_E", "A, B, C, NR_E", "", 1),
            (
                "both",
                "A, B, NR_E",
                "X, A, B, NR_E",
                "enum e: `A` is 1 and was 0, and 2 more",
                0,
            ),
        ];
        for (name, old, new, renumbered, revalued) in cases {
            let text = |list: &str| format!("enum e {{ {list} }}; int f(enum e x) {{ return x; }}");
            let (Some(old), Some(new)) = (
                btf(&format!("enum-{name}-old"), &text(old)),
                btf(&format!("enum-{name}-new"), &text(new)),
            ) else {
                return;
            };
            let found = changes(&old, &new).unwrap();
            let told: Vec<String> = found
                .renumbered
                .iter()
                .map(|(n, w)| format!("{n}: {w}"))
                .collect();
            assert_eq!(told.join(""), renumbered, "{name}");
            assert_eq!(found.revalued.len(), revalued, "{name}");
        }
    }

    fn changed(name: &str, old: &str, new: &str) -> Option<Vec<(String, String)>> {
        let frame = |members: &str| {
            format!(
                "struct o; struct s {{ int a; {members} }}; int f(struct s *s) {{ return s->a; }}"
            )
        };
        let old = btf(&format!("{name}-old"), &frame(old))?;
        let new = btf(&format!("{name}-new"), &frame(new))?;
        let found = changes(&old, &new).unwrap();
        let shared = found.shared.into_iter().map(|s| (s, "shared".to_owned()));
        Some(found.broken.into_iter().chain(shared).collect())
    }

    #[test]
    fn layouts_that_differ_are_told() {
        let cases = [
            ("same", "long b;", "long b;", ""),
            ("sign", "int b;", "unsigned b;", ""),
            ("const", "char *b;", "const char *b;", ""),
            (
                "end",
                "long b;",
                "long b; int c;",
                "member `c` is new, size 16 -> 24",
            ),
            ("hole", "long b;", "int c; long b;", "member `c` is new"),
            (
                "gone",
                "int b; int c;",
                "int c;",
                "member `b` is gone, size 12 -> 8",
            ),
            (
                "moved",
                "int b; int c;",
                "int c; int b;",
                "member `c` moved",
            ),
            (
                "wider",
                "int b;",
                "long b;",
                "member `b`: 4 byte(s) -> 8 byte(s), size 8 -> 16",
            ),
            (
                "bits",
                "int b:3;",
                "int b:4;",
                "member `b`: 3 bit(s) -> 4 bit(s)",
            ),
            (
                "pointer",
                "struct s *b;",
                "struct o *b;",
                "member `b`: struct s * -> struct o *",
            ),
            (
                "hook",
                "int (*b)(int);",
                "int (*b)(long);",
                "member `b`: 4 byte(s) (4 byte(s)) * -> 4 byte(s) (8 byte(s)) *",
            ),
            (
                "inner",
                "struct { int x; };",
                "struct { int x; int y; };",
                "member `y` is new, size 8 -> 12",
            ),
            ("renamed", "int b;", "int c;", "member `b` is gone"),
            (
                "beyond",
                "int b;",
                "union { int b; long c; };",
                "member `c` is new, size 8 -> 16",
            ),
        ];
        for (name, old, new, wanted) in cases {
            let Some(found) = changed(name, old, new) else {
                println!("skipped: this machine has no gcc or objcopy");
                return;
            };
            let wanted: Vec<(String, String)> = match wanted {
                "" => Vec::new(),
                text => vec![("struct s".to_owned(), text.to_owned())],
            };
            assert_eq!(found, wanted, "{name}");
        }
    }

    #[test]
    fn another_name_for_old_bytes_is_no_new_member() {
        let new = "union { char b[16]; struct { void *p; void *q; }; };";
        let Some(found) = changed("union", "char b[16];", new) else {
            return;
        };
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        // The pointers' alignment moves what they share.
        assert_eq!(names, ["struct s"]);
        let new = "union { char b[16]; int q[4]; };";
        let found = changed("union", "char b[16];", new).unwrap_or_default();
        assert_eq!(found, [("`q` of struct s".to_owned(), "shared".to_owned())]);
    }

    #[test]
    fn damaged_btf_is_an_error() {
        assert!(changes(&[], &[]).is_err());
        let mut bytes = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        bytes.extend([0; 16]);
        assert!(changes(&bytes, &bytes).is_ok());
        bytes[12] = 200;
        assert!(changes(&bytes, &bytes).is_err());
    }
}
