// SPDX-License-Identifier: GPL-2.0

//! A relocatable object as a set of items (functions, variables, strings) that refer to each other.
//!
//! The compiler refers to local things by section and offset; here every relocation points at an
//! [`Item`], so that two objects can be compared whatever their layout.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use object::elf;
use object::read::elf::{ElfFile64, FileHeader, SectionHeader, Sym as _};
use object::LittleEndian;

use crate::debuginfo::{self, DebugInfo, DEBUG};
use crate::insn::{self, Insn};
use crate::scope;
use crate::special;

/// Index into [`Obj::secs`].
pub type SecId = usize;
/// Index into [`Obj::items`].
pub type ItemId = usize;

/// How long the running kernel has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// As long as it runs, or as long as the module is there.
    Kept,
    /// Until it has booted, or the module is initialised.
    Init,
    /// In vmlinux not at all; in a module until it goes.
    Exit,
}

/// A section with its contents.
#[derive(Clone, Debug)]
pub struct Sec {
    /// Name.
    pub name: String,
    /// `SHT_*`.
    pub ty: u32,
    /// `SHF_*`.
    pub flags: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Size of one entry in bytes, or 0.
    pub entsize: u64,
    /// Size in memory in bytes.
    pub size: u64,
    /// Contents; empty for `SHT_NOBITS`.
    pub data: Vec<u8>,
    /// Relocations, ascending by offset.
    pub rels: Vec<Rel>,
}

impl Sec {
    /// Whether it is loaded.
    pub fn alloc(&self) -> bool {
        self.flags & u64::from(elf::SHF_ALLOC) != 0
    }

    /// Whether it holds code.
    pub fn exec(&self) -> bool {
        self.alloc() && self.flags & u64::from(elf::SHF_EXECINSTR) != 0
    }

    /// Whether the running kernel may write to it, or has done so before it closed `.data..ro_after_init`.
    pub fn writable(&self) -> bool {
        self.flags & u64::from(elf::SHF_WRITE) != 0 && !self.name.starts_with(".data.rel.ro")
    }

    /// How long the running kernel has it.
    pub fn life(&self) -> Life {
        match &self.name {
            name if name.starts_with(".init") => Life::Init,
            name if name.starts_with(".exit") => Life::Exit,
            _ => Life::Kept,
        }
    }

    /// Whether the kernel closes it against writing once it has booted.
    pub fn sealed(&self) -> bool {
        self.name.starts_with(".data..ro_after_init")
    }

    /// Whether its strings or constants may be merged by content.
    pub fn merge(&self) -> bool {
        self.flags & u64::from(elf::SHF_MERGE) != 0
    }

    /// The relocations in `start..end`.
    pub fn rels_in(&self, start: u64, end: u64) -> &[Rel] {
        let a = self.rels.partition_point(|r| r.off < start);
        let b = self.rels.partition_point(|r| r.off < end);
        &self.rels[a..b]
    }
}

/// One relocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rel {
    /// Offset of the field in its section.
    pub off: u64,
    /// `R_X86_64_*`.
    pub ty: u32,
    /// What it points at.
    pub target: Target,
    /// Addend, relative to the start of the target item; in code it includes the distance from the
    /// field to the end of the instruction.
    pub addend: i64,
    /// That distance, 0 outside code and for absolute fields.
    pub bias: i64,
    /// Whether it is the destination of a direct call or jump.
    pub branch: bool,
    /// Whether the assembler resolved it, so that its field is final and no relocation of the file.
    pub resolved: bool,
    /// Whether an object without size starts where it points (a lock's key where lockdep is off): it may mean that
    /// one and not what has the same address.
    pub empty: bool,
}

impl Rel {
    /// Offset in the target item that is meant.
    pub fn reach(&self) -> i64 {
        self.addend + self.bias
    }
}

/// What a relocation points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Something in this object.
    Item(ItemId),
    /// Index into [`Obj::undefs`].
    Undef(usize),
    /// A plain number.
    Abs,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A function with a name.
    Func,
    /// A variable or constant with a name.
    Data,
    /// A string literal.
    Str,
    /// A mergeable constant.
    Const,
    /// A part of a section without a name.
    Blob,
}

/// A further name of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name.
    pub name: String,
    /// Visible outside the unit.
    pub global: bool,
    /// Weak definition, which another unit's may override.
    pub weak: bool,
}

/// A range of a section that is handled as one.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its name, if possible one that no other unit can override; of anonymous items, the section's name and offset.
    pub name: String,
    /// Further names of the same start.
    pub aliases: Vec<Alias>,
    /// Whether one of its names is visible outside the unit.
    pub global: bool,
    /// Whether `name` is.
    pub exported: bool,
    /// Whether all of its names are weak definitions.
    pub weak: bool,
    /// Its section.
    pub sec: SecId,
    /// Offset of the start in the section.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
}

impl Item {
    /// Offset behind its last byte in the section.
    pub fn end(&self) -> u64 {
        self.start + self.size
    }

    /// Whether it has a name of its own.
    pub fn named(&self) -> bool {
        matches!(self.kind, Kind::Func | Kind::Data)
    }

    /// All of its names.
    pub fn names(&self) -> impl Iterator<Item = Alias> + '_ {
        let first = Alias {
            name: self.name.clone(),
            global: self.exported,
            weak: self.weak,
        };
        std::iter::once(first).chain(self.aliases.iter().cloned())
    }
}

/// A relocatable object.
#[derive(Clone, Debug)]
pub struct Obj {
    /// Sections; index 0 is the null section.
    pub secs: Vec<Sec>,
    /// Items.
    pub items: Vec<Item>,
    /// Names of undefined symbols.
    pub undefs: Vec<String>,
    /// Symbols that it exports to modules, and how: licence and namespace.
    pub exports: BTreeMap<String, String>,
    /// Instructions of each function, offsets in its section.
    pub insns: BTreeMap<ItemId, Vec<Insn>>,
    /// Instructions of executable sections without functions (replacements, fragments).
    pub loose: BTreeMap<SecId, Vec<Insn>>,
    /// What is known about variables, if there is debug information to tell.
    variables: Option<HashMap<ItemId, scope::Variable>>,
    /// [`scope::Scopes::pointed`].
    pub pointed: BTreeMap<(String, String), BTreeSet<String>>,
    /// Strings whose text is not what is in the section.
    texts: HashMap<ItemId, Vec<u8>>,
    /// Where things without a name start, by section, if that is needed to tell them apart.
    starts: BTreeMap<SecId, BTreeSet<u64>>,
    /// Where objects without size are.
    empties: HashSet<(SecId, u64)>,
    /// Which places of data hold references, if things with and without a name share sections.
    filled: HashSet<(SecId, u64)>,
    by_name: HashMap<String, ItemId>,
    by_sec: Vec<Vec<ItemId>>,
}

/// How a unit was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each function and variable has a section of its own; what has no name takes all of its section.
    Split,
    /// They share sections; what has no name ends where the next reference points.
    Joint,
}

/// A relocation of the input.
struct RawRel {
    off: u64,
    ty: u32,
    sym: RawSym,
    addend: i64,
}

/// Symbol of the input before its relocations are resolved.
#[derive(Clone, Copy)]
enum RawSym {
    Section(SecId),
    At(SecId, u64),
    Undef(usize),
    Abs,
}

impl Obj {
    /// Reads an object file that was compiled from files below `root`.
    ///
    /// Some names of source files (UBSAN's) are not subject to `-fmacro-prefix-map`; `root` is cut off
    /// from them, so that neither a comparison nor a payload depends on it.
    pub fn read(path: &Path, root: &Path, layout: Layout) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut obj =
            Self::parse(&bytes, layout).with_context(|| format!("in object {}", path.display()))?;
        let prefix = [root.as_os_str().as_encoded_bytes(), b"/"].concat();
        for (id, item) in obj
            .items
            .iter()
            .enumerate()
            .filter(|(_, i)| i.kind == Kind::Str)
        {
            let text = &obj.secs[item.sec].data[item.start as usize..item.end() as usize];
            if let Some(rest) = text.strip_prefix(prefix.as_slice()) {
                obj.texts.insert(id, rest.to_vec());
            }
        }
        Ok(obj)
    }

    /// Parses an ELF64 relocatable object for x86-64.
    pub fn parse(bytes: &[u8], layout: Layout) -> Result<Self> {
        let file = ElfFile64::<LittleEndian>::parse(bytes)?;
        let endian = LittleEndian;
        let header = file.elf_header();
        if header.e_type(endian) != elf::ET_REL || header.e_machine(endian) != elf::EM_X86_64 {
            bail!("not a relocatable x86-64 object");
        }
        let table = header.sections(endian, bytes)?;
        let symtab = table.symbols(endian, bytes, elf::SHT_SYMTAB)?;

        let mut secs = Vec::new();
        for sh in table.iter() {
            let name = String::from_utf8_lossy(table.section_name(endian, sh)?).into_owned();
            let ty = sh.sh_type(endian);
            let data = if ty == elf::SHT_NOBITS {
                Vec::new()
            } else {
                sh.data(endian, bytes)?.to_vec()
            };
            secs.push(Sec {
                name,
                ty,
                flags: sh.sh_flags(endian),
                align: sh.sh_addralign(endian).max(1),
                entsize: sh.sh_entsize(endian),
                size: sh.sh_size(endian),
                data,
                rels: Vec::new(),
            });
        }

        let mut obj = Obj {
            by_sec: vec![Vec::new(); secs.len()],
            secs,
            items: Vec::new(),
            undefs: Vec::new(),
            exports: BTreeMap::new(),
            insns: BTreeMap::new(),
            loose: BTreeMap::new(),
            variables: None,
            pointed: BTreeMap::new(),
            texts: HashMap::new(),
            starts: BTreeMap::new(),
            empties: HashSet::new(),
            filled: HashSet::new(),
            by_name: HashMap::new(),
        };

        let mut raw = Vec::new();
        let mut named: Vec<Item> = Vec::new();
        let mut weak = Vec::new();
        let mut starts: HashMap<(SecId, u64), usize> = HashMap::new();
        for (index, sym) in symtab.enumerate() {
            let name = String::from_utf8_lossy(symtab.symbol_name(endian, sym)?).into_owned();
            let value = sym.st_value(endian);
            let shndx = sym.st_shndx(endian);
            let section = match shndx {
                elf::SHN_UNDEF => {
                    obj.undefs.push(name);
                    raw.push(RawSym::Undef(obj.undefs.len() - 1));
                    continue;
                }
                elf::SHN_ABS => {
                    raw.push(RawSym::Abs);
                    continue;
                }
                elf::SHN_COMMON => bail!("common symbol `{name}`"),
                _ => {
                    symtab
                        .symbol_section(endian, sym, index)?
                        .with_context(|| format!("symbol `{name}` has no section"))?
                        .0
                }
            };
            if section >= obj.secs.len() {
                bail!("symbol `{name}` is in section {section}, which does not exist");
            }
            let ty = sym.st_type();
            if ty == elf::STT_SECTION {
                raw.push(RawSym::Section(section));
                continue;
            }
            raw.push(RawSym::At(section, value));
            let sec = &obj.secs[section];
            // ___EXPORT_SYMBOL() of include/linux/export.h.
            if sec.name == ".export_symbol" {
                // Two strings: `GPL` or nothing, and the namespace.
                let tail = sec.data.get(value as usize..).unwrap_or_default();
                let words: Vec<_> = tail.split(|&b| b == 0).take(2).collect();
                let how = String::from_utf8_lossy(&words.join(&b' ')).into_owned();
                let name = name.strip_prefix("__export_symbol_");
                obj.exports.extend(name.map(|name| (name.to_owned(), how)));
            }
            if !sec.alloc() || name.is_empty() || name.starts_with("__pfx_") {
                continue;
            }
            let size = sym.st_size(endian);
            if size == 0 && ty == elf::STT_OBJECT {
                obj.empties.insert((section, value));
            }
            // A label, not a thing.
            if size == 0 && ty != elf::STT_FUNC {
                continue;
            }
            *starts.entry((section, value)).or_insert(0) += 1;
            if sym.st_bind() == elf::STB_WEAK {
                weak.push((raw.len() - 1, name.clone(), (section, value)));
            }
            named.push(Item {
                kind: if sec.exec() { Kind::Func } else { Kind::Data },
                name,
                aliases: Vec::new(),
                global: sym.st_bind() != elf::STB_LOCAL,
                exported: sym.st_bind() != elf::STB_LOCAL,
                weak: sym.st_bind() == elf::STB_WEAK,
                sec: section,
                start: value,
                size,
            });
        }
        // A weak name beside another one of the same thing may mean something else once the kernel is linked.
        for (index, name, place) in weak {
            if starts.get(&place).is_some_and(|&names| names > 1) {
                obj.undefs.push(name);
                raw[index] = RawSym::Undef(obj.undefs.len() - 1);
            }
        }
        obj.add_named(named)?;
        obj.decode_functions();

        let mut all = Vec::new();
        for sh in table.iter() {
            if sh.sh_type(endian) != elf::SHT_RELA {
                continue;
            }
            let Some((relas, _)) = sh.rela(endian, bytes)? else {
                continue;
            };
            let section = sh.sh_info(endian) as usize;
            if section == 0 || section >= obj.secs.len() {
                bail!("relocations for section {section}, which does not exist");
            }
            let mut rels = Vec::with_capacity(relas.len());
            for rela in relas {
                let sym = rela.r_sym(endian, false) as usize;
                let raw = *raw
                    .get(sym)
                    .with_context(|| format!("relocation names symbol {sym}"))?;
                rels.push(RawRel {
                    off: rela.r_offset.get(endian),
                    ty: rela.r_type(endian, false),
                    sym: raw,
                    addend: rela.r_addend.get(endian),
                });
            }
            rels.sort_by_key(|r| r.off);
            all.push((section, rels));
        }
        obj.find_variables(bytes)
            .context("debug information is not understood")?;
        all.retain(|(section, _)| !obj.secs[*section].name.starts_with(DEBUG));
        for sec in obj.secs.iter_mut().filter(|s| s.name.starts_with(DEBUG)) {
            // It is the largest part, and nothing else needs it.
            sec.data = Vec::new();
        }
        if layout == Layout::Joint {
            obj.find_starts(&all);
        }
        for (section, rels) in all {
            obj.resolve_rels(section, rels)?;
        }
        obj.find_local_branches();
        Ok(obj)
    }

    /// Reads what debug information tells about variables.
    fn find_variables(&mut self, bytes: &[u8]) -> Result<()> {
        let info = DebugInfo::read(bytes)?;
        if info.is_empty() {
            return Ok(());
        }
        let mut variables = HashMap::new();
        let scopes = scope::scopes(&info)?;
        self.pointed = scopes.pointed;
        for (address, variable) in scopes.variables {
            let (sec, off) = debuginfo::place_of(address);
            let item = (sec < self.secs.len())
                .then(|| self.item_at(sec, off))
                .flatten();
            if let Some(item) = item {
                variables.insert(item, variable);
            }
        }
        self.variables = Some(variables);
        Ok(())
    }

    /// Whether debug information tells where variables are declared.
    pub fn described(&self) -> bool {
        self.variables.is_some()
    }

    /// What debug information tells about a variable.
    pub fn variable(&self, id: ItemId) -> Option<&scope::Variable> {
        self.variables.as_ref()?.get(&id)
    }

    /// The function that a variable is local to, if there is one and debug information tells.
    pub fn local_to(&self, id: ItemId) -> Option<&str> {
        self.variable(id)?.function.as_deref()
    }

    /// Sorts named items into their sections and joins those of one start.
    fn add_named(&mut self, mut named: Vec<Item>) -> Result<()> {
        named.sort_by(|a, b| {
            (a.sec, a.start)
                .cmp(&(b.sec, b.start))
                .then(b.size.cmp(&a.size))
                .then(a.weak.cmp(&b.weak))
                .then(b.global.cmp(&a.global))
                .then(a.name.len().cmp(&b.name.len()))
                .then(a.name.cmp(&b.name))
        });
        for item in named {
            if item.end() > self.secs[item.sec].size {
                bail!(
                    "symbol `{}` reaches beyond section `{}`",
                    item.name,
                    self.secs[item.sec].name
                );
            }
            if let Some(&last) = self.by_sec[item.sec].last() {
                let last_item = &mut self.items[last];
                if last_item.start == item.start {
                    last_item.global |= item.global;
                    last_item.aliases.push(Alias {
                        name: item.name.clone(),
                        global: item.global,
                        weak: item.weak,
                    });
                    self.by_name.entry(item.name).or_insert(last);
                    continue;
                }
                if item.start < last_item.end() {
                    if item.end() > last_item.end() {
                        bail!("symbols `{}` and `{}` overlap", last_item.name, item.name);
                    }
                    // A label inside; references to it become references into the outer item.
                    continue;
                }
            }
            let id = self.items.len();
            self.by_name.entry(item.name.clone()).or_insert(id);
            self.by_sec[item.sec].push(id);
            self.items.push(item);
        }
        Ok(())
    }

    fn decode_functions(&mut self) {
        for (id, item) in self.items.iter().enumerate() {
            if item.kind == Kind::Func {
                let data = &self.secs[item.sec].data;
                if let Some(code) = data.get(item.start as usize..item.end() as usize) {
                    self.insns.insert(id, insn::decode(code, item.start));
                }
            }
        }
        for (id, sec) in self.secs.iter().enumerate() {
            if sec.exec() && self.by_sec[id].is_empty() {
                self.loose.insert(id, insn::decode(&sec.data, 0));
            }
        }
    }

    /// The named item that covers an offset of a section.
    pub fn item_at(&self, sec: SecId, off: u64) -> Option<ItemId> {
        let list = &self.by_sec[sec];
        let i = list.partition_point(|&id| self.items[id].start <= off);
        let id = *list.get(i.checked_sub(1)?)?;
        let item = &self.items[id];
        (off < item.end() || (off == item.start && item.size == 0)).then_some(id)
    }

    /// The item of a name.
    pub fn by_name(&self, name: &str) -> Option<ItemId> {
        self.by_name.get(name).copied()
    }

    /// The named items of a section, ascending by offset.
    pub fn items_of(&self, sec: SecId) -> &[ItemId] {
        &self.by_sec[sec]
    }

    /// The first section of a name.
    pub fn sec_by_name(&self, name: &str) -> Option<SecId> {
        self.secs.iter().position(|s| s.name == name)
    }

    /// The instruction that holds an offset of a section.
    pub fn insn_at(&self, sec: SecId, off: u64) -> Option<&Insn> {
        let insns = match self.loose.get(&sec) {
            Some(insns) => insns,
            None => self.insns.get(&self.item_at(sec, off)?)?,
        };
        let i = insns.partition_point(|insn| insn.off <= off);
        insns.get(i.checked_sub(1)?).filter(|insn| off < insn.end())
    }

    /// The bytes of an item; empty for `SHT_NOBITS`.
    pub fn bytes(&self, id: ItemId) -> &[u8] {
        if let Some(text) = self.texts.get(&id) {
            return text;
        }
        let item = &self.items[id];
        self.secs[item.sec]
            .data
            .get(item.start as usize..item.end() as usize)
            .unwrap_or(&[])
    }

    /// The relocations of an item.
    pub fn rels(&self, id: ItemId) -> &[Rel] {
        let item = &self.items[id];
        self.secs[item.sec].rels_in(item.start, item.end())
    }

    /// A name for a target that a person can read.
    pub fn target_name(&self, target: Target) -> &str {
        match target {
            Target::Item(id) => &self.items[id].name,
            Target::Undef(i) => &self.undefs[i],
            Target::Abs => "absolute",
        }
    }

    fn bias(&self, sec: SecId, off: u64, ty: u32) -> i64 {
        if !self.secs[sec].exec() || !pc_relative(ty) {
            return 0;
        }
        match self.insn_at(sec, off) {
            Some(insn) => (insn.end() - off) as i64,
            None => 4,
        }
    }

    /// Collects the places that references by section and offset point at.
    fn find_starts(&mut self, all: &[(SecId, Vec<RawRel>)]) {
        for (section, rels) in all {
            if !self.secs[*section].alloc() {
                continue;
            }
            for rel in rels {
                if !self.secs[*section].exec() {
                    self.filled.insert((*section, rel.off));
                }
                let RawSym::Section(sec) = rel.sym else {
                    continue;
                };
                let reach = rel.addend + self.bias(*section, rel.off, rel.ty);
                if let Ok(off) = u64::try_from(reach) {
                    self.starts.entry(sec).or_default().insert(off);
                }
            }
        }
    }

    fn resolve_rels(&mut self, section: SecId, raw: Vec<RawRel>) -> Result<()> {
        let mut rels: Vec<Rel> = Vec::with_capacity(raw.len());
        let alloc = self.secs[section].alloc();
        for RawRel {
            off,
            ty,
            sym,
            addend,
        } in raw
        {
            let bias = self.bias(section, off, ty);
            let place = match sym {
                RawSym::Section(sec) => Some((sec, addend + bias)),
                RawSym::At(sec, value) => Some((sec, value as i64 + addend + bias)),
                RawSym::Undef(_) | RawSym::Abs => None,
            };
            let empty = place.is_some_and(|(sec, reach)| {
                u64::try_from(reach).is_ok_and(|off| self.empties.contains(&(sec, off)))
            });
            let (target, addend) = match sym {
                RawSym::Undef(i) => (Target::Undef(i), addend),
                RawSym::Abs => (Target::Abs, addend),
                // In a section of strings, too, a symbol means its own string, and the addend counts from there, as far
                // as its end; the linker merges them by that.
                RawSym::At(sec, value) if self.secs[sec].alloc() => {
                    let id = match self.item_at(sec, value) {
                        Some(id) => id,
                        None => self.anonymous(sec, value)?,
                    };
                    (
                        Target::Item(id),
                        addend + (value as i64 - self.items[id].start as i64),
                    )
                }
                RawSym::Section(sec) if alloc => self.pointed(sec, addend, bias)?,
                // Debugging and discarded sections.
                RawSym::At(..) | RawSym::Section(_) => (Target::Abs, addend),
            };
            let branch = self
                .insn_at(section, off)
                .and_then(|insn| insn.branch)
                .is_some_and(|(field, _)| field == off);
            rels.push(Rel {
                off,
                ty,
                target,
                addend,
                bias,
                branch,
                resolved: false,
                empty,
            });
        }
        for pair in rels.windows(2) {
            if pair[0].off == pair[1].off && alloc {
                bail!(
                    "two relocations at {}+{:#x}",
                    self.secs[section].name,
                    pair[0].off
                );
            }
        }
        self.secs[section].rels = rels;
        Ok(())
    }

    /// Finds the item that a reference by section and offset means.
    fn pointed(&mut self, sec: SecId, addend: i64, bias: i64) -> Result<(Target, i64)> {
        let reach = addend + bias;
        let named = u64::try_from(reach)
            .ok()
            .and_then(|off| self.item_at(sec, off));
        let id = match named {
            Some(id) => id,
            // A section of its own for one variable: a reference outside of it still means it
            // (`array[i - 1]`).
            None if self.by_sec[sec].len() == 1 && !self.secs[sec].merge() => self.by_sec[sec][0],
            None => {
                let off = u64::try_from(reach)
                    .ok()
                    .filter(|&off| off <= self.secs[sec].size);
                let Some(off) = off else {
                    bail!(
                        "reference to {}{reach:+#x} is outside of it",
                        self.secs[sec].name
                    );
                };
                // The end of the last variable, as in a loop's limit, unless something without a name begins there.
                let last = self.by_sec[sec]
                    .iter()
                    .rfind(|&&id| self.items[id].end() == off)
                    .copied();
                match last.filter(|_| !self.begins(sec, off)) {
                    Some(last) => last,
                    None => self.anonymous(sec, off)?,
                }
            }
        };
        Ok((Target::Item(id), addend - self.items[id].start as i64))
    }

    /// Whether there is more than padding at an offset where nothing with a name is.
    fn begins(&self, sec: SecId, off: u64) -> bool {
        let start = off as usize;
        let data = self.secs[sec].data.get(start..).unwrap_or_default();
        self.filled.contains(&(sec, off)) || data.iter().take(8).any(|&b| b != 0)
    }

    /// The item without a name at an offset, made if need be.
    fn anonymous(&mut self, sec: SecId, off: u64) -> Result<ItemId> {
        let section = &self.secs[sec];
        let strings = section.flags & u64::from(elf::SHF_STRINGS) != 0;
        let (kind, start, size) = if section.merge() && strings {
            let tail = &section.data[off as usize..];
            let len = tail
                .iter()
                .position(|&b| b == 0)
                .with_context(|| format!("string at {}+{off:#x} has no end", section.name))?;
            (Kind::Str, off, len as u64 + 1)
        } else if section.merge() && section.entsize > 0 {
            let start = off - off % section.entsize;
            (Kind::Const, start, section.entsize)
        } else if let Some(size) = special::entry_size(&section.name) {
            let start = off - off % size;
            ensure!(
                start + size <= section.size,
                "{}+{off:#x} is outside of it",
                section.name
            );
            (Kind::Blob, start, size)
        } else if let Some(insns) = self.loose.get(&sec) {
            // A fragment of code: up to the jump that leaves it.
            let last = insns
                .iter()
                .find(|i| i.off >= off && i.leaves)
                .with_context(|| format!("code at {}+{off:#x} has no end", section.name));
            match last {
                Ok(last) => (Kind::Blob, off, last.end() - off),
                Err(_) if section.name == ".altinstr_replacement" => {
                    (Kind::Blob, off, section.size - off)
                }
                Err(error) => return Err(error),
            }
        } else {
            // The stretch between the neighbours that have names, or that something else refers to.
            let list = &self.by_sec[sec];
            let i = list.partition_point(|&id| self.items[id].start <= off);
            let start = i.checked_sub(1).map_or(0, |i| self.items[list[i]].end());
            let end = list.get(i).map_or(section.size, |&id| self.items[id].start);
            let starts = self.starts.get(&sec);
            let (before, behind) = starts.map_or((None, None), |starts| {
                (
                    starts.range(..=off).next_back(),
                    starts.range(off + 1..).next(),
                )
            });
            let start = before.map_or(start, |&other| start.max(other));
            let end = behind.map_or(end, |&other| end.min(other));
            (Kind::Blob, start, end - start)
        };
        let name = format!("{}+{start:#x}", section.name);
        if let Some(&id) = self.by_name.get(&name) {
            return Ok(id);
        }
        let id = self.items.len();
        self.by_name.insert(name.clone(), id);
        self.items.push(Item {
            kind,
            name,
            aliases: Vec::new(),
            global: false,
            exported: false,
            weak: false,
            sec,
            start,
            size,
        });
        Ok(id)
    }

    /// Makes relocations of branches that the assembler resolved because both ends are in one section.
    fn find_local_branches(&mut self) {
        let mut found: Vec<(SecId, Rel)> = Vec::new();
        for (&id, insns) in &self.insns {
            let item = &self.items[id];
            let sec = &self.secs[item.sec];
            for insn in insns {
                let Some((field, dest)) = insn.branch else {
                    continue;
                };
                let inside = dest >= item.start as i64 && dest < item.end() as i64;
                if inside || !sec.rels_in(insn.off, insn.end()).is_empty() {
                    continue;
                }
                let other = u64::try_from(dest)
                    .ok()
                    .and_then(|d| self.item_at(item.sec, d));
                let bias = (insn.end() - field) as i64;
                let (target, addend) = match other {
                    Some(other) => (
                        Target::Item(other),
                        dest - self.items[other].start as i64 - bias,
                    ),
                    None => (Target::Abs, dest),
                };
                let ty = if insn.end() - field == 4 {
                    elf::R_X86_64_PC32
                } else {
                    elf::R_X86_64_PC8
                };
                found.push((
                    item.sec,
                    Rel {
                        off: field,
                        ty,
                        target,
                        addend,
                        bias,
                        branch: true,
                        resolved: true,
                        empty: false,
                    },
                ));
            }
        }
        for (sec, rel) in found {
            let rels = &mut self.secs[sec].rels;
            let at = rels.partition_point(|r| r.off < rel.off);
            rels.insert(at, rel);
        }
    }
}

/// Whether a relocation is relative to its own place.
pub fn pc_relative(ty: u32) -> bool {
    matches!(
        ty,
        elf::R_X86_64_PC32
            | elf::R_X86_64_PLT32
            | elf::R_X86_64_PC64
            | elf::R_X86_64_PC8
            | elf::R_X86_64_GOTPCREL
            | elf::R_X86_64_GOTPCRELX
            | elf::R_X86_64_REX_GOTPCRELX
    )
}

/// Bytes of the field of a relocation, or `None` if the type is unknown.
pub fn field_size(ty: u32) -> Option<usize> {
    Some(match ty {
        elf::R_X86_64_NONE => 0,
        elf::R_X86_64_PC8 => 1,
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 | elf::R_X86_64_32 | elf::R_X86_64_32S => 4,
        elf::R_X86_64_64 | elf::R_X86_64_PC64 => 8,
        _ => return None,
    })
}
