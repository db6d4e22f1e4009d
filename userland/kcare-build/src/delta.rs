// SPDX-License-Identifier: GPL-2.0

//! What one payload does that another one for the same kernel does not.
//!
//! Two functions or variables are the same if their contents are, with the fields that are relocated left
//! out, if they refer to the same things by name, or to constants of the same content, and if the kernel's
//! tables say the same about them. Where a payload puts them does not matter, nor do source lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{bail, Result};
use kcare_payload::bundle::Bundle;
use kcare_payload::check::Payload;
use kcare_payload::elf::{Relocation, Section, Symbol, SymbolKind};
use kcare_payload::layout::OBJECT_OUTER;
use kcare_payload::reloc::Kind;
use serde::Serialize;

use crate::author::When;
use crate::compare::mask_lines;
use crate::correlate::base_name;
use crate::insn::decode;
use crate::sign::body;
use crate::special::TABLES;

/// How deep constants that refer to constants are looked into.
const MAX_DEPTH: usize = 8;

/// The difference of two payloads.
#[derive(Debug, Serialize)]
pub struct Delta {
    /// Release of the kernel that both are for.
    pub release: String,
    /// The first payload.
    pub old: Side,
    /// The second one.
    pub new: Side,
    /// Fixes, `CVE-2026-12345: title`.
    pub fixes: Names,
    /// States, `0x1 version 2`.
    pub states: Names,
    /// vmlinux, then the modules that either patches, by name.
    pub objects: Vec<Object>,
}

/// One of the two payloads.
#[derive(Debug, Serialize)]
pub struct Side {
    /// Patch level.
    pub level: u32,
    /// One line.
    pub description: String,
    /// Size in bytes without the signature.
    pub size: usize,
    /// Whether it is signed.
    pub signed: bool,
}

/// Names that are in one payload only, or in both.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    /// In the second one only.
    pub added: Vec<String>,
    /// In the first one only.
    pub removed: Vec<String>,
    /// How many are in both.
    pub same: usize,
}

/// What is done to vmlinux or to a module.
#[derive(Debug, Serialize)]
pub struct Object {
    /// `vmlinux`, or the module's name.
    pub name: String,
    /// Bytes of memory that the first payload takes for it.
    pub old_memory: u64,
    /// Bytes of memory that the second payload takes for it.
    pub new_memory: u64,
    /// Callbacks, `pre_patch: function`.
    pub callbacks: Names,
    /// Functions and variables that differ, by name.
    pub items: Vec<Change>,
    /// How many redirected functions are the same.
    pub same: usize,
}

/// What became of a function or variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is in the second payload only.
    Added,
    /// It is in the first payload only.
    Removed,
    /// It differs.
    Changed,
}

/// What a name in a payload stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A function of the kernel that is redirected.
    Function,
    /// A function that only the payload has, or that only it calls.
    Helper,
    /// A variable of the payload.
    Variable,
}

/// A function or variable that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it is, in the second payload if it is in both.
    pub role: Role,
    /// What became of it.
    pub fate: Fate,
    /// Size in bytes in the first payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_size: Option<u64>,
    /// Size in bytes in the second payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_size: Option<u64>,
    /// Where they differ first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
}

impl Delta {
    /// Compares two payloads, signed or not.
    ///
    /// # Errors
    ///
    /// One of them is not right in form, or they are for different kernels.
    pub fn new(old: &[u8], new: &[u8]) -> Result<Self> {
        let parse = |bytes, which: &str| {
            Bundle::parse(body(bytes)).map_err(|refusal| {
                let part = refusal.part.map(|p| format!(", in the part for {p}"));
                anyhow::anyhow!(
                    "the {which} payload{}: {}",
                    part.unwrap_or_default(),
                    refusal.error
                )
            })
        };
        let (a, b) = (parse(old, "first")?, parse(new, "second")?);
        let id = |bundle: &Bundle<'_>| {
            bundle
                .outer()
                .object(0)
                .map(|o| (o.build_id, o.build_id_len))
        };
        if id(&a) != id(&b) {
            bail!(
                "they are for different kernels: the first for {}, the second for {}",
                a.outer().release(),
                b.outer().release()
            );
        }
        let names: BTreeSet<&str> = a.parts().chain(b.parts()).map(|part| part.name).collect();
        let mut objects = vec![Object::new("vmlinux", Some(*a.outer()), Some(*b.outer()))];
        objects.extend(names.into_iter().map(|name| {
            let (old, new) = (a.part(name), b.part(name));
            Object::new(name, old.map(|p| p.payload), new.map(|p| p.payload))
        }));
        Ok(Delta {
            release: a.outer().release().to_owned(),
            old: Side::new(old, a.outer()),
            new: Side::new(new, b.outer()),
            fixes: Names::new(fixes(a.outer()), fixes(b.outer())),
            states: Names::new(states(a.outer()), states(b.outer())),
            objects,
        })
    }

    /// Whether both do the same to the kernel and carry the same fixes; their levels, descriptions, times
    /// and signatures do not matter.
    pub fn is_empty(&self) -> bool {
        self.fixes.is_empty() && self.states.is_empty() && self.objects.iter().all(Object::is_empty)
    }
}

impl Side {
    fn new(bytes: &[u8], payload: &Payload<'_>) -> Self {
        let size = body(bytes).len();
        Side {
            level: payload.level(),
            description: payload.description().to_owned(),
            size,
            signed: size != bytes.len(),
        }
    }
}

fn fixes(payload: &Payload<'_>) -> BTreeSet<String> {
    let text = |id: &str, title: &str| match id {
        "" => title.to_owned(),
        _ => format!("{id}: {title}"),
    };
    payload
        .fixes()
        .map(|f| text(payload.string(f.id), payload.string(f.title)))
        .collect()
}

fn states(payload: &Payload<'_>) -> BTreeSet<String> {
    payload
        .states()
        .map(|s| format!("{:#x} version {}", s.id, s.version))
        .collect()
}

fn callbacks(payload: &Payload<'_>) -> BTreeSet<String> {
    payload
        .callbacks()
        .map(|c| {
            let when = When::of_kind(c.kind).map_or("unknown", When::name);
            let name = payload.symbol(c.symbol).map_or("", |s| s.name);
            format!("{when}: {name}")
        })
        .collect()
}

impl Names {
    fn new(old: BTreeSet<String>, new: BTreeSet<String>) -> Self {
        Names {
            added: new.difference(&old).cloned().collect(),
            removed: old.difference(&new).cloned().collect(),
            same: old.intersection(&new).count(),
        }
    }

    /// Whether both payloads have the same ones.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl Object {
    fn new(name: &str, old: Option<Payload<'_>>, new: Option<Payload<'_>>) -> Self {
        let callbacks = |p: &Option<Payload<'_>>| p.as_ref().map(callbacks).unwrap_or_default();
        let memory = |p: &Option<Payload<'_>>| {
            let sections = p.iter().flat_map(Payload::sections);
            sections.filter(Section::is_alloc).map(|s| s.size).sum()
        };
        let forms = |p: &Option<Payload<'_>>| p.as_ref().map(forms).unwrap_or_default();
        let mut items = Vec::new();
        let mut same = 0;
        let (mut olds, news) = (forms(&old), forms(&new));
        let change = |key: &Named, fate, old: Option<&Form>, new: Option<&Form>| Change {
            name: key.name.clone(),
            role: new.or(old).map_or(Role::Variable, |form| form.role),
            fate,
            old_size: old.map(|form| form.size),
            new_size: new.map(|form| form.size),
            what: old.zip(new).and_then(|(old, new)| old.difference(new)),
        };
        for (key, news) in news {
            let mut olds = olds.remove(&key).unwrap_or_default();
            // Of several with one name, those that are equal belong together.
            let mut rest = Vec::new();
            for new in news {
                match olds.iter().position(|old| *old == new) {
                    Some(at) => {
                        same += usize::from(new.role == Role::Function);
                        olds.remove(at);
                    }
                    None => rest.push(new),
                }
            }
            for new in rest {
                let old = (!olds.is_empty()).then(|| olds.remove(0));
                let fate = if old.is_some() {
                    Fate::Changed
                } else {
                    Fate::Added
                };
                items.push(change(&key, fate, old.as_ref(), Some(&new)));
            }
            items.extend(
                olds.iter()
                    .map(|old| change(&key, Fate::Removed, Some(old), None)),
            );
        }
        for (key, olds) in olds {
            items.extend(
                olds.iter()
                    .map(|old| change(&key, Fate::Removed, Some(old), None)),
            );
        }
        items.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        Object {
            name: name.to_owned(),
            old_memory: memory(&old),
            new_memory: memory(&new),
            callbacks: Names::new(callbacks(&old), callbacks(&new)),
            items,
            same,
        }
    }

    /// Whether both payloads do the same to it.
    pub fn is_empty(&self) -> bool {
        self.callbacks.is_empty() && self.items.is_empty()
    }
}

/// What a function or variable is known by in both payloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    name: String,
    code: bool,
}

/// A function or variable, with all that depends on its place taken out.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    role: Role,
    size: u64,
    writable: bool,
    /// Contents with zeroes in relocated fields; empty if it is zeroes altogether.
    bytes: Vec<u8>,
    /// Offset, and what is referred to.
    references: Vec<(u64, String)>,
    /// What the kernel's tables say, in their order in the function.
    entries: Vec<String>,
}

impl Form {
    fn difference(&self, other: &Self) -> Option<String> {
        if self.size != other.size {
            return Some(format!("size {} -> {}", self.size, other.size));
        }
        if self.role != other.role {
            return Some(match other.role {
                Role::Function => "is redirected now".to_owned(),
                _ => "is not redirected any more".to_owned(),
            });
        }
        if self.writable != other.writable {
            return Some("another kind of memory".to_owned());
        }
        let bytes = self.bytes.iter().zip(&other.bytes);
        if let Some(at) = bytes.clone().position(|(a, b)| a != b) {
            return Some(format!(
                "byte {at:#x}: {:#04x} -> {:#04x}",
                self.bytes[at], other.bytes[at]
            ));
        }
        let references = self.references.iter().zip(&other.references);
        if let Some((a, b)) = references.clone().find(|(a, b)| a != b) {
            let at = a.0.min(b.0);
            return Some(format!("reference at {at:#x}: {} -> {}", a.1, b.1));
        }
        let entries = self.entries.iter().zip(&other.entries);
        if let Some((a, b)) = entries.clone().find(|(a, b)| a != b) {
            return Some(format!("{a} -> {b}"));
        }
        (self != other).then(|| "references, or entries in kernel tables".to_owned())
    }
}

/// The functions and variables of a payload; variables without the numbers of their compilation.
fn forms(payload: &Payload<'_>) -> BTreeMap<Named, Vec<Form>> {
    let reader = Reader::new(payload);
    let redirected: BTreeSet<u32> = payload.funcs().map(|f| f.symbol).collect();
    let mut forms: BTreeMap<Named, Vec<Form>> = BTreeMap::new();
    for symbol in payload.symbols() {
        let Some(section) = reader.own(&symbol) else {
            continue;
        };
        let code = symbol.kind == SymbolKind::Func;
        let role = match (code, redirected.contains(&symbol.index)) {
            (false, _) => Role::Variable,
            (true, true) => Role::Function,
            (true, false) => Role::Helper,
        };
        let range = (symbol.value, symbol.value + symbol.size);
        let (bytes, references) = reader.content(section, range, 0);
        let key = Named {
            name: known_as(&symbol).to_owned(),
            code,
        };
        forms.entry(key).or_default().push(Form {
            role,
            size: symbol.size,
            writable: section.is_write(),
            bytes,
            references,
            entries: reader.entries_of(section.index, range),
        });
    }
    forms
}

/// Reads a payload's contents in a form that does not depend on places.
struct Reader<'a, 'b> {
    payload: &'b Payload<'a>,
    /// By section.
    relocations: BTreeMap<u32, Vec<Relocation>>,
    /// By section of code: where instructions end.
    ends: BTreeMap<u32, Vec<u64>>,
    /// By section, where something starts: a symbol, or what is referred to.
    starts: BTreeMap<u32, BTreeSet<u64>>,
    /// Functions and variables by section and offset.
    named: BTreeMap<(u32, u64), Symbol<'a>>,
    /// By undefined symbol, the object that it is in.
    objects: BTreeMap<u32, &'a str>,
    /// What the kernel's tables say and mean: section and offset of the code, table, text.
    entries: BTreeSet<(u32, u64, &'static str, String)>,
}

impl<'a, 'b> Reader<'a, 'b> {
    fn new(payload: &'b Payload<'a>) -> Self {
        let mut this = Reader {
            payload,
            relocations: BTreeMap::new(),
            ends: BTreeMap::new(),
            starts: BTreeMap::new(),
            named: BTreeMap::new(),
            objects: BTreeMap::new(),
            entries: BTreeSet::new(),
        };
        for section in payload.sections() {
            if let Some(target) = section.target() {
                let list = payload.relocations(&section).collect();
                this.relocations.insert(target, list);
            }
            if section.is_exec() {
                let code = decode(section.data, 0);
                this.ends
                    .insert(section.index, code.iter().map(|i| i.end()).collect());
            }
        }
        for e in payload.externs() {
            let name = match payload.object(e.object) {
                _ if e.object == OBJECT_OUTER => "the payload",
                Some(object) => payload.string(object.name),
                None => "",
            };
            this.objects.insert(e.symbol, name);
        }
        for symbol in payload.symbols() {
            let Some(section) = symbol.section() else {
                continue;
            };
            this.starts.entry(section).or_default().insert(symbol.value);
            if this.own(&symbol).is_some() {
                this.named.insert((section, symbol.value), symbol);
            }
        }
        let mut starts = std::mem::take(&mut this.starts);
        for (&section, list) in &this.relocations {
            for relocation in list {
                if let Some((target, at)) = this.place(section, relocation) {
                    starts.entry(target).or_default().insert(at);
                }
            }
        }
        this.starts = starts;
        this.entries = this.all_entries();
        this
    }

    /// The section of a function or variable of the payload itself.
    fn own(&self, symbol: &Symbol<'a>) -> Option<Section<'a>> {
        if !matches!(symbol.kind, SymbolKind::Func | SymbolKind::Object) {
            return None;
        }
        let section = self.payload.section(symbol.section()?)?;
        (!self.payload.is_trampolines(&section)).then_some(section)
    }

    /// The section and offset in the payload that a relocation refers to.
    fn place(&self, section: u32, relocation: &Relocation) -> Option<(u32, u64)> {
        let symbol = self.payload.symbol(relocation.symbol)?;
        let target = symbol.section()?;
        let relative = matches!(relocation.kind, Kind::Pc32 | Kind::Plt32 | Kind::Pc64);
        // In code, a relative field counts from the end of its instruction.
        let skew = match self.ends.get(&section) {
            Some(ends) if relative => {
                let next = ends.partition_point(|&end| end <= relocation.offset);
                ends.get(next)? - relocation.offset
            }
            _ => 0,
        };
        let at = symbol.value.checked_add(skew)?;
        Some((target, at.checked_add_signed(relocation.addend)?))
    }

    /// Contents of a range, and what it refers to.
    fn content(
        &self,
        section: Section<'a>,
        (start, end): (u64, u64),
        depth: usize,
    ) -> (Vec<u8>, Vec<(u64, String)>) {
        let data = section.data.get(start as usize..end as usize);
        let mut bytes = data.unwrap_or_default().to_vec();
        let mut references = Vec::new();
        for relocation in self.relocations_in(section.index, (start, end)) {
            let at = (relocation.offset - start) as usize;
            let field = at..(at + usize::from(relocation.kind.width())).min(bytes.len());
            bytes[field].fill(0);
            references.push((at as u64, self.target(section.index, relocation, depth)));
        }
        (bytes, references)
    }

    fn relocations_in(&self, section: u32, (start, end): (u64, u64)) -> &[Relocation] {
        let list = self.relocations.get(&section).map_or(&[][..], |l| l);
        let from = list.partition_point(|r| r.offset < start);
        let to = list.partition_point(|r| r.offset < end);
        &list[from..to.max(from)]
    }

    /// What a relocation refers to: a name and an offset, or the content of something without a name.
    fn target(&self, section: u32, relocation: &Relocation, depth: usize) -> String {
        let kind = relocation.kind.name();
        let symbol = self.payload.symbol(relocation.symbol);
        let (name, addend) = (symbol.map_or("", |s| s.name), relocation.addend);
        let Some((home, at)) = self.place(section, relocation) else {
            let object = self.objects.get(&relocation.symbol).unwrap_or(&"nowhere");
            return format!("{name}{addend:+} of {object} ({kind})");
        };
        if let Some((name, offset)) = self.owner(home, at) {
            return format!("{name}{offset:+} ({kind})");
        }
        let Some(home) = self.payload.section(home).filter(|_| depth < MAX_DEPTH) else {
            return format!("a constant ({kind})");
        };
        let next = self
            .starts
            .get(&home.index)
            .and_then(|starts| starts.range(at + 1..).next());
        let end = next.copied().unwrap_or(home.size);
        let (mut bytes, references) = self.content(home, (at, end), depth + 1);
        // What comes next has its alignment.
        bytes.truncate(
            bytes
                .iter()
                .rposition(|&b| b != 0)
                .map_or(0, |last| last + 1),
        );
        match std::str::from_utf8(&bytes) {
            Ok(text) if references.is_empty() => format!("{text:?} ({kind})"),
            _ => format!("{} {references:?} ({kind})", hex(&bytes)),
        }
    }

    /// The function or variable at a place, and how far in it that is.
    fn owner(&self, section: u32, at: u64) -> Option<(&'a str, u64)> {
        let range = (section, 0)..=(section, at);
        let (&(_, start), symbol) = self.named.range(range).next_back()?;
        (at == start || at < start + symbol.size).then(|| (known_as(symbol), at - start))
    }

    /// What the kernel's tables say about a range of code and mean by it.
    fn entries_of(&self, code: u32, (start, end): (u64, u64)) -> Vec<String> {
        let range = (code, start, "", String::new())..(code, end, "", String::new());
        self.entries
            .range(range)
            .map(|(_, place, table, text)| format!("{table} at {:#x}: {text}", place - start))
            .collect()
    }

    fn all_entries(&self) -> BTreeSet<(u32, u64, &'static str, String)> {
        let mut entries = BTreeSet::new();
        for section in self.payload.sections() {
            let Some(table) = TABLES.iter().find(|t| t.meaning && t.name == section.name) else {
                continue;
            };
            for at in (0..section.size).step_by(table.size as usize) {
                let range = (at, at + table.size);
                let first = self.relocations_in(section.index, range).first();
                let Some((code, place)) = first.and_then(|r| self.place(section.index, r)) else {
                    continue;
                };
                let (mut bytes, references) = self.content(section, range, 0);
                mask_lines(&mut bytes, table.name);
                // The first field tells the place.
                let text = format!("{} {:?}", hex(&bytes), &references[1..]);
                entries.insert((code, place, table.name, text));
            }
        }
        entries
    }
}

/// The name of a function or variable that stays from one compilation to the next.
fn known_as<'a>(symbol: &Symbol<'a>) -> &'a str {
    match symbol.kind {
        SymbolKind::Func => symbol.name,
        _ => base_name(symbol.name),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (mark, side) in [("---", &self.old), ("+++", &self.new)] {
            writeln!(
                f,
                "{mark} level {}, {} bytes, {}: {}",
                side.level,
                side.size,
                if side.signed { "signed" } else { "not signed" },
                side.description
            )?;
        }
        self.fixes.write(f, "fix", "")?;
        self.states.write(f, "state", "")?;
        for object in &self.objects {
            let count = |role: Role, fate: Fate| {
                let of = |c: &&Change| c.role == role && c.fate == fate;
                object.items.iter().filter(of).count()
            };
            writeln!(
                f,
                "{}: {} functions added, {} removed, {} changed, {} same; {} -> {} bytes of memory",
                object.name,
                count(Role::Function, Fate::Added),
                count(Role::Function, Fate::Removed),
                count(Role::Function, Fate::Changed),
                object.same,
                object.old_memory,
                object.new_memory,
            )?;
            object.callbacks.write(f, "callback", "  ")?;
            for change in &object.items {
                writeln!(f, "  {change}")?;
            }
        }
        Ok(())
    }
}

impl Names {
    fn write(&self, f: &mut fmt::Formatter<'_>, what: &str, indent: &str) -> fmt::Result {
        for (mark, names) in [('-', &self.removed), ('+', &self.added)] {
            for name in names {
                writeln!(f, "{indent}{mark} {what:8} {name}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.fate {
            Fate::Added => '+',
            Fate::Removed => '-',
            Fate::Changed => '!',
        };
        let role = match self.role {
            Role::Function => "function",
            Role::Helper => "helper",
            Role::Variable => "variable",
        };
        write!(f, "{mark} {role:8} {:<40}", self.name)?;
        match (self.old_size, self.new_size, &self.what) {
            (_, _, Some(what)) => write!(f, " {what}"),
            (Some(size), _, None) | (None, Some(size), None) => write!(f, " {size} bytes"),
            (None, None, None) => Ok(()),
        }
    }
}
