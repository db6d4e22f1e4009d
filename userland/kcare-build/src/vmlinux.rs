// SPDX-License-Identifier: GPL-2.0

//! The shipped vmlinux: the ground truth for code, addresses and the places that the kernel rewrites.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use object::elf::{self, FileHeader64, SectionHeader64, Sym64};
use object::{pod, LittleEndian as LE};

use crate::dwarf;

/// A section of vmlinux.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name.
    pub name: String,
    /// Link-time address, 0 if it is not loaded.
    pub addr: u64,
    /// Size in bytes.
    pub size: u64,
    /// Offset in the file.
    off: u64,
    /// `SHT_*`.
    ty: u32,
    /// `SHF_*`.
    flags: u64,
}

/// A symbol of vmlinux.
#[derive(Clone, Debug)]
pub struct Symbol {
    /// Name.
    pub name: String,
    /// Link-time address.
    pub addr: u64,
    /// Size in bytes.
    pub size: u64,
    /// Whether it is local to its unit.
    pub local: bool,
    /// Whether it is a weak definition.
    pub weak: bool,
    /// Whether it is a function.
    pub func: bool,
    /// Index of its section; absolute symbols have none.
    pub section: Option<usize>,
}

/// The local symbols of one unit.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Base name of the source file.
    pub name: String,
    /// Indices of its symbols.
    pub symbols: Range<usize>,
}

/// The tables of places that the kernel rewrites, as sorted link-time addresses.
#[derive(Debug, Default)]
pub struct Sites {
    /// `call __fentry__`.
    pub fentry: Vec<u64>,
    /// `endbr64` that is sealed.
    pub endbr: Vec<u64>,
    /// Indirect branches.
    pub retpoline: Vec<u64>,
    /// Return thunk jumps.
    pub returns: Vec<u64>,
    /// Calls that call-depth tracking redirects.
    pub calls: Vec<u64>,
    /// `lock` prefixes.
    pub locks: Vec<u64>,
    /// Static branches.
    pub jumps: Vec<u64>,
    /// Static calls.
    pub static_calls: Vec<u64>,
    /// Alternatives: address and size.
    pub alternatives: Vec<(u64, u64)>,
    /// Immediates that are filled in at boot: address, size.
    pub runtime: Vec<(u64, u64)>,
    /// Those of them that hold a pointer, in code that stays: one for each variable that it is the value of. The
    /// compiler leaves the variable out if nothing but boot code names it.
    pub pointers: BTreeMap<String, u64>,
}

/// The shipped vmlinux.
#[derive(Debug)]
pub struct Vmlinux {
    file: File,
    sections: Vec<Section>,
    /// All symbols in the order of the symbol table.
    pub symbols: Vec<Symbol>,
    by_name: HashMap<String, Vec<usize>>,
    units: Vec<Unit>,
    /// Link-time address of `_text`.
    pub text: u64,
    /// Link-time address of `_end`.
    pub end: u64,
    /// GNU build-id.
    pub build_id: Vec<u8>,
    /// Places that the kernel rewrites.
    pub sites: Sites,
}

fn read_at(file: &File, off: u64, len: u64) -> Result<Vec<u8>> {
    let len = usize::try_from(len)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, off)?;
    Ok(bytes)
}

fn string(table: &[u8], at: u32) -> Result<String> {
    let tail = table
        .get(at as usize..)
        .context("name outside of its table")?;
    let end = tail
        .iter()
        .position(|&b| b == 0)
        .context("name without end")?;
    Ok(String::from_utf8_lossy(&tail[..end]).into_owned())
}

impl Vmlinux {
    /// Opens and indexes a vmlinux that has its symbol table.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).with_context(|| format!("in {}", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let head = read_at(&file, 0, size_of::<FileHeader64<LE>>() as u64)?;
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(&head)
            .ok()
            .context("short file")?;
        ensure!(
            header.e_ident.magic == elf::ELFMAG && header.e_machine.get(LE) == elf::EM_X86_64,
            "not an x86-64 ELF file"
        );
        let count = u64::from(header.e_shnum.get(LE));
        let size = size_of::<SectionHeader64<LE>>() as u64;
        let table = read_at(&file, header.e_shoff.get(LE), count * size)?;
        let (headers, _) = pod::slice_from_bytes::<SectionHeader64<LE>>(&table, count as usize)
            .ok()
            .context("short section table")?;
        let names = headers
            .get(usize::from(header.e_shstrndx.get(LE)))
            .context("no section names")?;
        let names = read_at(&file, names.sh_offset.get(LE), names.sh_size.get(LE))?;

        let mut sections = Vec::new();
        let mut symtab = None;
        for sh in headers {
            let ty = sh.sh_type.get(LE);
            if ty == elf::SHT_SYMTAB {
                symtab = Some(sh);
            }
            sections.push(Section {
                name: string(&names, sh.sh_name.get(LE))?,
                addr: sh.sh_addr.get(LE),
                size: sh.sh_size.get(LE),
                off: sh.sh_offset.get(LE),
                ty,
                flags: sh.sh_flags.get(LE),
            });
        }
        let symtab = symtab.context("no symbol table; take the vmlinux of the debug package")?;
        let strtab = sections
            .get(symtab.sh_link.get(LE) as usize)
            .context("no symbol names")?;
        let strings = read_at(&file, strtab.off, strtab.size)?;
        let raw = read_at(&file, symtab.sh_offset.get(LE), symtab.sh_size.get(LE))?;
        let count = raw.len() / size_of::<Sym64<LE>>();
        let (raw, _) = pod::slice_from_bytes::<Sym64<LE>>(&raw, count)
            .ok()
            .context("short symbol table")?;

        let mut this = Vmlinux {
            file,
            sections,
            symbols: Vec::with_capacity(count),
            by_name: HashMap::with_capacity(count),
            units: Vec::new(),
            text: 0,
            end: 0,
            build_id: Vec::new(),
            sites: Sites::default(),
        };
        this.add_symbols(raw, &strings)?;
        this.text = this.global("_text").context("no symbol _text")?.addr;
        this.end = this.global("_end").context("no symbol _end")?.addr;
        this.build_id = this.find_build_id()?;
        this.sites = this.find_sites()?;
        Ok(this)
    }

    fn add_symbols(&mut self, raw: &[Sym64<LE>], strings: &[u8]) -> Result<()> {
        for sym in raw {
            let kind = sym.st_info & 0xf;
            let bind = sym.st_info >> 4;
            let name = string(strings, sym.st_name.get(LE))?;
            let index = self.symbols.len();
            if kind == elf::STT_FILE {
                if let Some(last) = self.units.last_mut() {
                    last.symbols.end = index;
                }
                self.units.push(Unit {
                    name,
                    symbols: index..index,
                });
                continue;
            }
            if bind != elf::STB_LOCAL {
                if let Some(last) = self
                    .units
                    .last_mut()
                    .filter(|u| u.symbols.end == u.symbols.start)
                {
                    last.symbols.end = index.max(last.symbols.start);
                }
            }
            let shndx = sym.st_shndx.get(LE);
            let section =
                (shndx != elf::SHN_ABS && shndx != elf::SHN_UNDEF).then_some(usize::from(shndx));
            if kind == elf::STT_SECTION || name.is_empty() {
                continue;
            }
            self.by_name.entry(name.clone()).or_default().push(index);
            self.symbols.push(Symbol {
                name,
                addr: sym.st_value.get(LE),
                size: sym.st_size.get(LE),
                local: bind == elf::STB_LOCAL,
                weak: bind == elf::STB_WEAK,
                func: kind == elf::STT_FUNC,
                section,
            });
        }
        let first_global = self
            .symbols
            .iter()
            .position(|s| !s.local)
            .unwrap_or(self.symbols.len());
        if let Some(last) = self.units.last_mut() {
            last.symbols.end = first_global.max(last.symbols.start);
        }
        Ok(())
    }

    /// The only global symbol of a name.
    pub fn global(&self, name: &str) -> Option<&Symbol> {
        let mut found = self.named(name).filter(|s| !s.local);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// All symbols of a name.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Symbol> {
        self.by_name
            .get(name)
            .into_iter()
            .flatten()
            .map(|&i| &self.symbols[i])
    }

    /// The units whose source file has this base name.
    pub fn units<'a>(&'a self, base: &'a str) -> impl Iterator<Item = &'a Unit> {
        self.units.iter().filter(move |u| u.name == base)
    }

    /// The section that holds an address.
    pub fn section_at(&self, addr: u64) -> Option<&Section> {
        self.sections.iter().find(|s| {
            s.flags & u64::from(elf::SHF_ALLOC) != 0 && addr >= s.addr && addr - s.addr < s.size
        })
    }

    /// The section of a name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// Reads `len` bytes at a link-time address.
    pub fn read_addr(&self, addr: u64, len: u64) -> Result<Vec<u8>> {
        let section = self
            .section_at(addr)
            .with_context(|| format!("address {addr:#x} is in no section"))?;
        let at = addr - section.addr;
        if at + len > section.size {
            bail!(
                "{len} bytes at {addr:#x} reach beyond section {}",
                section.name
            );
        }
        if section.ty == elf::SHT_NOBITS {
            return Ok(vec![0; usize::try_from(len)?]);
        }
        read_at(&self.file, section.off + at, len)
    }

    /// Reads a whole section, or nothing if there is none of that name.
    fn table(&self, name: &str) -> Result<(u64, Vec<u8>)> {
        match self.section(name) {
            Some(s) => Ok((s.addr, read_at(&self.file, s.off, s.size)?)),
            None => Ok((0, Vec::new())),
        }
    }

    /// Reads what two symbols enclose.
    fn between(&self, start: &str, stop: &str) -> Result<(u64, Vec<u8>)> {
        let start = self
            .global(start)
            .with_context(|| format!("no symbol {start}"))?
            .addr;
        let stop = self
            .global(stop)
            .with_context(|| format!("no symbol {stop}"))?
            .addr;
        if start == stop {
            return Ok((start, Vec::new()));
        }
        Ok((
            start,
            self.read_addr(start, stop.checked_sub(start).context("negative table")?)?,
        ))
    }

    /// Names of the C files that it was linked from, relative to the source tree `source`.
    pub fn unit_names(&self, source: &Path) -> Result<BTreeSet<String>> {
        let section = |name: &str| {
            self.section(name).with_context(|| {
                format!("vmlinux has no {name}; take the one of the debug package")
            })
        };
        let whole = |name: &str| -> Result<Vec<u8>> {
            match self.section(name) {
                Some(s) => read_at(&self.file, s.off, s.size),
                None => Ok(Vec::new()),
            }
        };
        let info = section(".debug_info")?;
        let names = dwarf::unit_names(&dwarf::Sections {
            info: &Piecewise {
                file: &self.file,
                section: info,
            },
            abbrev: whole(".debug_abbrev")?,
            strings: whole(".debug_str")?,
            line_strings: whole(".debug_line_str")?,
        })?;
        // Debian has its compiler leave out where the tree is; a kernel that was built here names it.
        let tree = format!("{}/", source.display());
        let short = |name: &String| name.strip_prefix(&tree).unwrap_or(name).to_owned();
        Ok(names.iter().map(short).collect())
    }

    fn find_build_id(&self) -> Result<Vec<u8>> {
        let (_, notes) = self.table(".notes")?;
        let mut at = 0;
        while let Some(head) = notes.get(at..at + 12) {
            let word =
                |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
            let (name_len, desc_len, ty) = (word(0) as usize, word(4) as usize, word(8));
            let desc = at + 12 + name_len.next_multiple_of(4);
            if ty == elf::NT_GNU_BUILD_ID && notes.get(at + 12..at + 16) == Some(b"GNU\0") {
                let id = notes
                    .get(desc..desc + desc_len)
                    .context("short build-id note")?;
                return Ok(id.to_vec());
            }
            at = desc + desc_len.next_multiple_of(4);
        }
        bail!("no build-id")
    }

    fn find_sites(&self) -> Result<Sites> {
        let relative = |(addr, bytes): (u64, Vec<u8>), stride: usize| {
            let mut out: Vec<u64> = bytes
                .chunks_exact(stride)
                .enumerate()
                .map(|(i, c)| {
                    let rel = i32::from_le_bytes([c[0], c[1], c[2], c[3]]);
                    (addr + (i * stride) as u64).wrapping_add_signed(i64::from(rel))
                })
                .collect();
            out.sort_unstable();
            out
        };
        let (_, mcount) = self.between("__start_mcount_loc", "__stop_mcount_loc")?;
        let mut fentry: Vec<u64> = mcount
            .chunks_exact(8)
            .map(|c| u64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]))
            .collect();
        fentry.sort_unstable();

        let (alt_addr, alt) = self.table(".altinstructions")?;
        let mut alternatives: Vec<(u64, u64)> = alt
            .chunks_exact(14)
            .enumerate()
            .map(|(i, c)| {
                let rel = i32::from_le_bytes([c[0], c[1], c[2], c[3]]);
                let at = (alt_addr + (i * 14) as u64).wrapping_add_signed(i64::from(rel));
                (at, u64::from(c[12]))
            })
            .collect();
        alternatives.sort_unstable();

        let mut runtime = Vec::new();
        let mut pointers = BTreeMap::new();
        let text = self.sections.iter().find(|section| section.name == ".text");
        let text = text.map_or(0..0, |text| text.addr..text.addr + text.size);
        for section in &self.sections {
            let size = match section.name.as_str() {
                n if n.starts_with("runtime_ptr_") => 8,
                n if n.starts_with("runtime_shift_") => 1,
                // Since 7.3: the immediate of an `and`.
                n if n.starts_with("runtime_mask_") => 4,
                n if n.starts_with("runtime_") => bail!("unknown kind of run-time constant {n}"),
                _ => continue,
            };
            let bytes = read_at(&self.file, section.off, section.size)?;
            let places = relative((section.addr, bytes), 4);
            if let Some(name) = section.name.strip_prefix("runtime_ptr_") {
                let stays = places.iter().find(|place| text.contains(place));
                pointers.extend(stays.map(|&place| (name.to_owned(), place)));
            }
            runtime.extend(places.into_iter().map(|a| (a, size)));
        }
        runtime.sort_unstable();

        Ok(Sites {
            fentry,
            endbr: relative(self.table(".ibt_endbr_seal")?, 4),
            retpoline: relative(self.table(".retpoline_sites")?, 4),
            returns: relative(self.table(".return_sites")?, 4),
            calls: relative(self.table(".call_sites")?, 4),
            locks: relative(self.table(".smp_locks")?, 4),
            jumps: relative(
                self.between("__start___jump_table", "__stop___jump_table")?,
                16,
            ),
            static_calls: relative(
                self.between("__start_static_call_sites", "__stop_static_call_sites")?,
                8,
            ),
            alternatives,
            runtime,
            pointers,
        })
    }
}

/// A section of the file that is read in pieces.
struct Piecewise<'a> {
    file: &'a File,
    section: &'a Section,
}

impl dwarf::Source for Piecewise<'_> {
    fn size(&self) -> u64 {
        self.section.size
    }

    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let len = len.min(self.section.size.saturating_sub(offset));
        read_at(self.file, self.section.off + offset, len)
    }
}
