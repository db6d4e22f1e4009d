// SPDX-License-Identifier: GPL-2.0

//! The debug companion of a payload: what debuggers need to tell functions, sizes and lines of patch code.
//!
//! It is a relocatable object without contents, like the one beside a module that `objcopy --only-keep-debug`
//! makes. Each kind of memory of the loaded payload is one section of it, so that the address of `kcare_N` in
//! `/proc/modules` is that of `.text`: trampolines, functions, replacements of instructions. The memory of a
//! module's part, `kcare_N_MODULE`, is `.text.MODULE` and so on.
//!
//! Of the compiler's debug information it has what belongs to the code of the payload: functions, what was inlined
//! into them, lines, and how to unwind. Variables are left out: the compiler is not asked where they are
//! while the code runs (`-fno-var-tracking`). Their types are those of vmlinux.

mod functions;
mod lines;
mod unwind;

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use anyhow::{anyhow, Context, Result};
use gimli::write::{Address, Dwarf, EndianVec, Sections, Writer};
use gimli::LittleEndian;
use kcare_payload::bundle::Bundle;
use kcare_payload::check::Payload;
use kcare_payload::elf::{Home, SymbolKind, SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE};
use kcare_payload::place::{slots, Layout, Region};
use object::elf::R_X86_64_64;

use crate::debuginfo::{place_of, DebugInfo};
use crate::elf::{self, Numbers, Section, Symbol, SymbolRef};
use crate::emit::{Emitted, Piece};
use crate::obj::SecId;

/// What memory is a multiple of, in bytes (PAGE_SIZE): for kallsyms the last function reaches to its end.
const PAGE: u64 = 4096;

/// How source files are called.
#[derive(Debug, Default)]
pub struct Sources {
    /// Folders that names start with and that are left out, inner ones first.
    pub roots: Vec<PathBuf>,
    /// For each patched file: the line that a number stands for, if it is another.
    pub lines: BTreeMap<String, BTreeMap<u64, u64>>,
}

impl Sources {
    /// The name of a file relative to the source tree, if it is part of that.
    fn name(&self, path: &Path) -> String {
        let mut plain = PathBuf::new();
        for component in path.components() {
            match component {
                Component::ParentDir => {
                    plain.pop();
                }
                Component::CurDir => {}
                other => plain.push(other),
            }
        }
        let inside = self
            .roots
            .iter()
            .find_map(|root| plain.strip_prefix(root).ok());
        inside.unwrap_or(&plain).to_string_lossy().into_owned()
    }

    /// The line of a file that the compiler calls `line`.
    fn line(&self, file: &str, line: u64) -> u64 {
        let lines = self.lines.get(file);
        lines.and_then(|l| l.get(&line).copied()).unwrap_or(line)
    }
}

/// A patched unit.
#[derive(Debug)]
pub struct Unit {
    /// Source file relative to the source tree.
    pub source: String,
    /// Its patched object.
    pub object: PathBuf,
    /// Whether the compiler saw the patched files with their own line numbers.
    pub plain: bool,
}

/// Writes the companion of a payload that was made of `units`.
pub fn companion(payload: &Emitted, units: &[Unit], sources: &Sources) -> Result<Vec<u8>> {
    let plain = Sources {
        roots: sources.roots.clone(),
        ..Sources::default()
    };
    let bundle = Bundle::parse(&payload.bytes)
        .map_err(|refusal| anyhow!("the payload would be refused: {}", refusal.error))?;
    let parts = bundle.parts().map(|p| (format!(".{}", p.name), p.payload));
    let objects = std::iter::once((String::new(), *bundle.outer())).chain(parts);
    let mut this = Companion::default();
    for ((suffix, object), pieces) in objects.zip(&payload.pieces) {
        let places = this.add_object(&object, &suffix)?;
        let mut codes: BTreeMap<usize, Code> = BTreeMap::new();
        for piece in pieces {
            codes.entry(piece.unit).or_default().add(piece, &places)?;
        }
        for (index, code) in codes {
            let unit = &units[index];
            let bytes = std::fs::read(&unit.object)
                .with_context(|| format!("cannot read {}", unit.object.display()))?;
            let info = DebugInfo::read(&bytes)?;
            let sources = if unit.plain { &plain } else { sources };
            this.add_unit(&info, &code, sources)
                .and_then(|()| this.add_unwinding(&info, &code))
                .with_context(|| format!("in the debug information of {}", unit.source))?;
        }
    }
    this.finish(bundle.outer())
}

/// A section and an offset in it.
type Spot = (usize, u64);

/// Where the code of a unit went: section and start in its object -> end there, and where the start is now.
#[derive(Debug, Default)]
struct Code {
    pieces: BTreeMap<(SecId, u64), (u64, Spot)>,
}

/// Code that was found.
struct Found {
    /// Where it is now.
    address: Address,
    /// Bytes up to the end of its piece.
    left: u64,
    /// The piece.
    piece: (SecId, u64),
}

impl Code {
    /// Takes a piece in; `places` are those of the payload's sections.
    fn add(&mut self, piece: &Piece, places: &HashMap<u32, Spot>) -> Result<()> {
        let &(section, base) = places
            .get(&piece.section)
            .context("code of the payload takes no memory")?;
        let spot = (section, base + piece.offset);
        self.pieces
            .insert((piece.sec, piece.start), (piece.end, spot));
        Ok(())
    }

    /// The code at an address of the object's debug information, if it is part of the payload.
    fn find(&self, address: u64) -> Option<Found> {
        let (sec, off) = place_of(address);
        let (&piece, &(end, spot)) = self.pieces.range((sec, 0)..=(sec, off)).next_back()?;
        (off < end).then(|| Found {
            address: address_of(spot, off - piece.1),
            left: end - off,
            piece,
        })
    }

    /// Address and size of each piece.
    fn ranges(&self) -> impl Iterator<Item = (Address, u64)> + '_ {
        let pieces = self.pieces.iter();
        pieces.map(|((_, start), (end, spot))| (address_of(*spot, 0), end - start))
    }
}

/// The address `offset` bytes behind a spot.
fn address_of((section, base): Spot, offset: u64) -> Address {
    Address::Symbol {
        symbol: section,
        addend: (base + offset) as i64,
    }
}

/// A companion under construction.
#[derive(Default)]
struct Companion {
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
    dwarf: Dwarf,
    unwinding: Relocated,
}

impl Companion {
    /// Adds memory and symbols of a payload, or of a module's part; gives where its sections are.
    fn add_object(&mut self, object: &Payload<'_>, suffix: &str) -> Result<HashMap<u32, Spot>> {
        let refused = |error| anyhow!("the payload would be refused: {error}");
        let layout = Layout::of(object).map_err(refused)?;
        let mut memory = HashMap::new();
        for region in Region::ALL {
            let size = layout.extent(region).size;
            if size == 0 && region != Region::Text {
                continue;
            }
            let (name, flags) = match region {
                Region::Text => (".text", SHF_EXECINSTR),
                Region::Data => (".data", SHF_WRITE),
                Region::RoData => (".rodata", 0),
                Region::RoAfterInit => (".data..ro_after_init", SHF_WRITE),
            };
            memory.insert(region, self.sections.len());
            self.sections.push(Section {
                name: format!("{name}{suffix}"),
                flags: SHF_ALLOC | flags,
                align: if size == 0 { 1 } else { PAGE },
                zeroes: size.next_multiple_of(PAGE),
                ..Section::default()
            });
        }
        let places: HashMap<u32, Spot> = slots(object)
            .filter_map(|(section, slot)| {
                let home = memory.get(&slot.region)?;
                Some((section.index, (*home, slot.offset)))
            })
            .collect();
        for symbol in object.symbols() {
            let Home::Section(home) = symbol.home else {
                continue;
            };
            if symbol.kind == SymbolKind::Section || symbol.name.is_empty() {
                continue;
            }
            let &(section, base) = places
                .get(&home)
                .with_context(|| format!("`{}` takes no memory", symbol.name))?;
            self.symbols.push(Symbol {
                name: symbol.name.to_owned(),
                section: Some(section),
                value: base + symbol.value,
                size: symbol.size,
                func: symbol.kind == SymbolKind::Func,
            });
        }
        Ok(places)
    }

    /// Writes the file.
    fn finish(mut self, payload: &Payload<'_>) -> Result<Vec<u8>> {
        let mut debug = Sections::new(Relocated::default());
        self.dwarf.write(&mut debug)?;
        debug.debug_frame.0 = self.unwinding;
        debug.for_each_mut(|id, data| -> Result<()> {
            if data.len() > 0 {
                self.sections.push(Section {
                    name: id.name().to_owned(),
                    align: 1,
                    data: data.bytes.take(),
                    rels: std::mem::take(&mut data.rels),
                    ..Section::default()
                });
            }
            Ok(())
        })?;
        // What it belongs to, for `readelf -p .comment`.
        let (level, release, description) =
            (payload.level(), payload.release(), payload.description());
        self.sections.push(Section {
            name: ".comment".to_owned(),
            align: 1,
            data: format!("kcare level {level} for {release}: {description}\0").into_bytes(),
            ..Section::default()
        });
        let numbers = Numbers::new(&self.sections, &self.symbols)?;
        elf::write(&self.sections, &self.symbols, &numbers)
    }
}

/// A debug section whose addresses are relocations.
#[derive(Clone, Debug)]
struct Relocated {
    bytes: EndianVec<LittleEndian>,
    rels: Vec<(u64, u32, SymbolRef, i64)>,
}

impl Default for Relocated {
    fn default() -> Self {
        Relocated {
            bytes: EndianVec::new(LittleEndian),
            rels: Vec::new(),
        }
    }
}

impl Writer for Relocated {
    type Endian = LittleEndian;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn write(&mut self, bytes: &[u8]) -> gimli::write::Result<()> {
        self.bytes.write(bytes)
    }

    fn write_at(&mut self, offset: usize, bytes: &[u8]) -> gimli::write::Result<()> {
        self.bytes.write_at(offset, bytes)
    }

    fn write_address(&mut self, address: Address, size: u8) -> gimli::write::Result<()> {
        let value = match address {
            Address::Constant(value) => value,
            Address::Symbol { symbol, addend } => {
                let section = SymbolRef::Section(symbol);
                self.rels
                    .push((self.len() as u64, R_X86_64_64, section, addend));
                0
            }
        };
        self.write_udata(value, size)
    }
}
