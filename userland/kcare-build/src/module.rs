// SPDX-License-Identifier: GPL-2.0

//! A shipped module: the ground truth for the code in it, and where it will be in memory.
//!
//! A module is itself relocatable, so that its addresses are made of section and offset ([`address`]).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use object::elf;
use object::read::elf::{ElfFile64, FileHeader, SectionHeader, Sym as _};
use object::LittleEndian as LE;
use serde::Serialize;

use crate::image::Image;
use crate::kernel::Kernel;
use crate::layout::{self, layout, Header, Spot};
use crate::obj::SecId;
use crate::special;
use crate::vmlinux::Sites;

/// The address of an offset in a section of a module.
pub fn address(sec: SecId, off: u64) -> u64 {
    ((sec as u64) << 32) + off
}

/// Section and offset of an address.
pub fn place(addr: u64) -> (SecId, u64) {
    ((addr >> 32) as SecId, addr & 0xffff_ffff)
}

/// A section of a module.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name.
    pub name: String,
    /// `SHF_*`.
    pub flags: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Size in memory in bytes.
    pub size: u64,
    /// Contents; empty for `SHT_NOBITS`.
    pub data: Vec<u8>,
    /// Relocations, ascending by offset.
    pub rels: Vec<Rel>,
    /// Where it lands in the module's memory.
    pub spot: Option<Spot>,
}

/// What a relocation of a module refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Section and offset, the addend included.
    Place(SecId, i64),
    /// A symbol of another module or of vmlinux, and the addend.
    Import(String, i64),
    /// A number.
    Number(i64),
}

/// A relocation of a module.
#[derive(Clone, Debug)]
pub struct Rel {
    /// Offset of the field in its section.
    pub off: u64,
    /// `R_X86_64_*`.
    pub ty: u32,
    /// What it refers to.
    pub value: Value,
}

/// A symbol that a module defines.
#[derive(Clone, Debug)]
pub struct Symbol {
    /// Name.
    pub name: String,
    /// Its address.
    pub addr: u64,
    /// Size in bytes.
    pub size: u64,
    /// Whether it is local to its unit.
    pub local: bool,
    /// Whether it is a function.
    pub func: bool,
}

/// A shipped module.
#[derive(Debug)]
pub struct Module {
    /// Name, as in /proc/modules.
    pub name: String,
    /// Names of the modules that it depends on directly.
    pub depends: Vec<String>,
    /// Sections; index 0 is the null section.
    pub sections: Vec<Section>,
    /// Symbols that it defines, in the order of the symbol table.
    pub symbols: Vec<Symbol>,
    /// GNU build-id.
    pub build_id: Vec<u8>,
    /// Where the build-id's bytes are in the module's memory.
    pub build_id_spot: Spot,
    by_name: HashMap<String, Vec<usize>>,
    sites: Sites,
}

impl Module {
    /// Parses a module's ELF object.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let file = ElfFile64::<LE>::parse(bytes)?;
        let header = file.elf_header();
        ensure!(
            header.e_type(LE) == elf::ET_REL && header.e_machine(LE) == elf::EM_X86_64,
            "not a relocatable x86-64 object"
        );
        let table = header.sections(LE, bytes)?;
        let symtab = table.symbols(LE, bytes, elf::SHT_SYMTAB)?;
        let mut sections = Vec::new();
        for sh in table.iter() {
            let data = match sh.sh_type(LE) {
                elf::SHT_NOBITS => Vec::new(),
                _ => sh.data(LE, bytes)?.to_vec(),
            };
            sections.push(Section {
                name: String::from_utf8_lossy(table.section_name(LE, sh)?).into_owned(),
                flags: sh.sh_flags(LE),
                align: sh.sh_addralign(LE).max(1),
                size: sh.sh_size(LE),
                data,
                rels: Vec::new(),
                spot: None,
            });
        }
        let headers: Vec<Header<'_>> = sections
            .iter()
            .map(|s| Header {
                name: &s.name,
                flags: s.flags,
                size: s.size,
                align: s.align,
            })
            .collect();
        let spots = layout(&headers);
        for (section, spot) in sections.iter_mut().zip(spots) {
            section.spot = spot;
        }

        let mut symbols: Vec<Symbol> = Vec::new();
        // What each entry of the symbol table stands for, without an addend.
        let mut values = Vec::new();
        for (index, sym) in symtab.enumerate() {
            let name = String::from_utf8_lossy(symtab.symbol_name(LE, sym)?).into_owned();
            let value = sym.st_value(LE);
            let section = match sym.st_shndx(LE) {
                elf::SHN_UNDEF => {
                    values.push(Value::Import(name, 0));
                    continue;
                }
                elf::SHN_ABS => {
                    values.push(Value::Number(value as i64));
                    continue;
                }
                elf::SHN_COMMON => bail!("common symbol `{name}`"),
                _ => {
                    symtab
                        .symbol_section(LE, sym, index)?
                        .with_context(|| format!("symbol `{name}` has no section"))?
                        .0
                }
            };
            ensure!(
                section < sections.len() && value <= sections[section].size,
                "symbol `{name}` is outside of its section"
            );
            values.push(Value::Place(section, value as i64));
            if sym.st_type() != elf::STT_SECTION && !name.is_empty() {
                symbols.push(Symbol {
                    name,
                    addr: address(section, value),
                    size: sym.st_size(LE),
                    local: sym.st_bind() == elf::STB_LOCAL,
                    func: sym.st_type() == elf::STT_FUNC,
                });
            }
        }
        for sh in table.iter().filter(|sh| sh.sh_type(LE) == elf::SHT_RELA) {
            let Some((relas, _)) = sh.rela(LE, bytes)? else {
                continue;
            };
            let section = sections
                .get_mut(sh.sh_info(LE) as usize)
                .context("relocations for a section that does not exist")?;
            for rela in relas {
                let addend = rela.r_addend.get(LE);
                let value = values
                    .get(rela.r_sym(LE, false) as usize)
                    .context("relocation by a symbol that does not exist")?;
                section.rels.push(Rel {
                    off: rela.r_offset.get(LE),
                    ty: rela.r_type(LE, false),
                    value: match value {
                        Value::Place(sec, at) => Value::Place(*sec, at + addend),
                        Value::Import(name, _) => Value::Import(name.clone(), addend),
                        Value::Number(number) => Value::Number(number + addend),
                    },
                });
            }
            section.rels.sort_by_key(|r| r.off);
        }

        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, symbol) in symbols.iter().enumerate() {
            by_name.entry(symbol.name.clone()).or_default().push(index);
        }
        let info = sections
            .iter()
            .find(|s| s.name == ".modinfo")
            .context("no .modinfo; this is no module")?;
        let tag = |key: &str| {
            info.data
                .split(|&b| b == 0)
                .filter_map(|line| std::str::from_utf8(line).ok())
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        let name = tag("name").context(".modinfo has no name")?.to_owned();
        let depends = tag("depends")
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| name.replace('-', "_"))
            .collect();
        let (build_id, build_id_spot) = build_id(&sections)?;
        let sites = sites(&sections)?;
        Ok(Module {
            name,
            depends,
            sections,
            symbols,
            build_id,
            build_id_spot,
            by_name,
            sites,
        })
    }

    /// All symbols of a name.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Symbol> {
        self.by_name
            .get(name)
            .into_iter()
            .flatten()
            .map(|&i| &self.symbols[i])
    }

    /// The relocations in a range of a section.
    pub fn rels(&self, sec: SecId, start: u64, end: u64) -> &[Rel] {
        let rels = &self.sections[sec].rels;
        let from = rels.partition_point(|r| r.off < start);
        let to = rels.partition_point(|r| r.off < end);
        &rels[from..to.max(from)]
    }

    fn section(&self, addr: u64) -> Option<(&Section, u64)> {
        let (sec, off) = place(addr);
        let section = self.sections.get(sec)?;
        (section.flags & u64::from(elf::SHF_ALLOC) != 0).then_some((section, off))
    }
}

impl Image for Module {
    fn name(&self) -> &str {
        &self.name
    }

    fn build_id(&self) -> &[u8] {
        &self.build_id
    }

    fn section_name(&self, addr: u64) -> Option<&str> {
        self.section(addr).map(|(s, _)| s.name.as_str())
    }

    fn read_addr(&self, addr: u64, len: u64) -> Result<Vec<u8>> {
        let (section, off) = self
            .section(addr)
            .with_context(|| format!("address {addr:#x} is in no section of {}", self.name))?;
        ensure!(
            off + len <= section.size,
            "{len} bytes at {off:#x} reach beyond section {} of {}",
            section.name,
            self.name
        );
        if section.data.is_empty() {
            return Ok(vec![0; usize::try_from(len)?]);
        }
        Ok(section.data[off as usize..(off + len) as usize].to_vec())
    }

    fn global_addr(&self, name: &str) -> Option<u64> {
        let mut found = self.named(name).filter(|s| !s.local);
        let first = found.next()?;
        found.next().is_none().then_some(first.addr)
    }

    fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    fn is_function(&self, name: &str, addr: u64) -> bool {
        self.named(name).any(|s| s.addr == addr && s.func)
    }

    fn sites(&self) -> &Sites {
        &self.sites
    }

    fn spot(&self, addr: u64) -> Option<Spot> {
        let (section, off) = self.section(addr)?;
        section.spot.map(|spot| Spot {
            region: spot.region,
            offset: spot.offset + off,
        })
    }

    fn keeps_exit(&self) -> bool {
        true
    }
}

/// The build-id and where the kernel keeps it.
fn build_id(sections: &[Section]) -> Result<(Vec<u8>, Spot)> {
    let note = sections
        .iter()
        .find(|s| s.name == ".note.gnu.build-id")
        .context("no .note.gnu.build-id")?;
    // Sizes of name and contents, type, `GNU\0`.
    let head = note.data.get(..16).context("short build-id note")?;
    ensure!(
        head[..4] == [4, 0, 0, 0] && head[8..] == *b"\x03\0\0\0GNU\0",
        "malformed build-id note"
    );
    let len = usize::from(head[4]);
    let id = note.data.get(16..16 + len).context("short build-id note")?;
    let spot = note
        .spot
        .filter(|spot| spot.region == layout::RODATA)
        .context("the build-id note is not in read-only memory")?;
    let spot = Spot {
        offset: spot.offset + 16,
        ..spot
    };
    Ok((id.to_vec(), spot))
}

/// Reads the tables of places that the kernel rewrites.
fn sites(sections: &[Section]) -> Result<Sites> {
    // The place that each entry starts with, and the entry.
    let entries = |name: &str| -> Result<Vec<(u64, &[u8])>> {
        let size = special::entry_size(name).context("unknown table")?;
        let mut out = Vec::new();
        for section in sections.iter().filter(|s| s.name == name) {
            let rels: BTreeMap<u64, &Value> =
                section.rels.iter().map(|r| (r.off, &r.value)).collect();
            ensure!(
                section.size % size == 0,
                "{name} has {} bytes, which is no multiple of {size}",
                section.size
            );
            for off in (0..section.size).step_by(size as usize) {
                let Some(&&Value::Place(sec, at)) = rels.get(&off) else {
                    bail!("{name}+{off:#x} does not start with a reference to code");
                };
                let entry = &section.data[off as usize..(off + size) as usize];
                out.push((address(sec, u64::try_from(at)?), entry));
            }
        }
        out.sort_by_key(|&(addr, _)| addr);
        Ok(out)
    };
    let list = |name: &str| -> Result<Vec<u64>> {
        Ok(entries(name)?.into_iter().map(|(addr, _)| addr).collect())
    };
    Ok(Sites {
        fentry: list("__mcount_loc")?,
        endbr: list(".ibt_endbr_seal")?,
        retpoline: list(".retpoline_sites")?,
        returns: list(".return_sites")?,
        calls: list(".call_sites")?,
        locks: list(".smp_locks")?,
        jumps: list("__jump_table")?,
        static_calls: list(".static_call_sites")?,
        // struct alt_instr: instrlen.
        alternatives: entries(".altinstructions")?
            .into_iter()
            .map(|(addr, entry)| (addr, u64::from(entry[12])))
            .collect(),
        runtime: Vec::new(),
        pointers: BTreeMap::new(),
    })
}

/// The shipped modules of a kernel: file by name.
#[derive(Debug)]
pub struct Catalogue {
    files: BTreeMap<String, PathBuf>,
}

impl Catalogue {
    /// Reads the list that depmod left.
    pub fn read(kernel: &Kernel) -> Result<Self> {
        let dir = kernel.dir.join("modules/lib/modules").join(&kernel.release);
        let list = dir.join("modules.dep");
        let text = fs::read_to_string(&list).with_context(|| {
            format!(
                "cannot read {}; run `scripts/kernel prepare {}`",
                list.display(),
                kernel.release
            )
        })?;
        let files = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter_map(|(file, _)| {
                let base = file.rsplit('/').next()?;
                let name = base.split(".ko").next()?.replace('-', "_");
                Some((name, dir.join(file)))
            })
            .collect();
        Ok(Catalogue { files })
    }

    /// Names of all modules, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Reads a module.
    pub fn open(&self, kernel: &Kernel, name: &str) -> Result<Module> {
        let path = self
            .files
            .get(name)
            .with_context(|| format!("{} has no module `{name}`", kernel.release))?;
        let module = unpack(kernel, path)
            .and_then(|bytes| Module::parse(&bytes))
            .with_context(|| format!("in {}", path.display()))?;
        ensure!(
            module.name == name,
            "{} is the module `{}`",
            path.display(),
            module.name
        );
        Ok(module)
    }
}

/// Reads a module's file, which may be compressed.
fn unpack(kernel: &Kernel, path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return Ok(fs::read(path)?),
    };
    let output = kernel
        .command(program)
        .arg("-dc")
        .arg(path)
        .output()
        .context("cannot enter the build root")?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(output.stdout)
}

/// Where a symbol of a module will be, for people and tests.
#[derive(Debug, Serialize)]
pub struct Located {
    /// Name.
    pub name: String,
    /// Section.
    pub section: String,
    /// Memory of the module: `text`, `data`, `rodata`, `ro_after_init`, `percpu`, or `init`.
    pub region: &'static str,
    /// Offset from the start of that memory.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
}

/// What is known about a module, for people and tests.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Name.
    pub name: String,
    /// Build-id in hexadecimal.
    pub build_id: String,
    /// Names of the modules that it depends on.
    pub depends: Vec<String>,
    /// Its symbols that stay in memory, in the order of the symbol table.
    pub symbols: Vec<Located>,
}

impl Module {
    /// The module's layout.
    pub fn summary(&self) -> Summary {
        let symbols = self.symbols.iter().filter_map(|symbol| {
            let spot = self.spot(symbol.addr)?;
            let region = match spot.region {
                layout::TEXT => "text",
                layout::DATA => "data",
                layout::RODATA => "rodata",
                layout::RO_AFTER_INIT => "ro_after_init",
                layout::PERCPU => "percpu",
                _ => "init",
            };
            Some(Located {
                name: symbol.name.clone(),
                section: self.section_name(symbol.addr)?.to_owned(),
                region,
                offset: spot.offset,
                size: symbol.size,
            })
        });
        Summary {
            name: self.name.clone(),
            build_id: self.build_id.iter().map(|b| format!("{b:02x}")).collect(),
            depends: self.depends.clone(),
            symbols: symbols.collect(),
        }
    }
}
