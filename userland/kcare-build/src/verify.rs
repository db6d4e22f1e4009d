// SPDX-License-Identifier: GPL-2.0

//! Proves that the rebuilt unit is the shipped one, byte for byte, and places it in vmlinux.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{bail, Context, Result};
use object::elf;

use crate::obj::{field_size, pc_relative, Alias, Item, ItemId, Kind, Obj, Rel, Target};
use crate::special::is_discarded;
use crate::vmlinux::{Unit, Vmlinux};

/// Link-time address and size in bytes.
pub type Place = (u64, u64);

/// Where the things of a unit are in vmlinux.
#[derive(Debug, Default)]
pub struct Placement {
    /// The functions and variables of this unit, by name.
    pub addr: HashMap<String, Place>,
    /// Weak functions that another unit overrides under each of their names.
    pub overridden: HashSet<String>,
    /// Weak names of this unit that mean something of another unit.
    pub elsewhere: HashSet<String>,
    /// Functions of which every byte was compared.
    pub functions: usize,
    /// References that were compared.
    pub references: usize,
}

impl Placement {
    /// Gives all names of one thing the place that some of them have.
    fn join_names(&mut self, obj: &Obj, source: &str) -> Result<()> {
        for item in obj.items.iter().filter(|i| i.named()) {
            let mut places = item.names().filter_map(|alias| {
                let place = *self.addr.get(&alias.name)?;
                Some((alias.name, place))
            });
            let Some((name, place)) = places.next() else {
                if self.elsewhere.contains(&item.name) {
                    self.overridden.insert(item.name.clone());
                }
                continue;
            };
            if let Some((other, _)) = places.find(|(_, other)| *other != place) {
                bail!("`{name}` and `{other}` of {source} are one thing, and two in vmlinux");
            }
            drop(places);
            for alias in item.names() {
                self.addr.entry(alias.name).or_insert(place);
            }
        }
        Ok(())
    }
}

/// Places a unit that was compiled with the shipped flags and compares all of its code.
///
/// Returns `None` if nothing of it is in vmlinux.
pub fn verify(obj: &Obj, source: &str, vmlinux: &Vmlinux) -> Result<Option<Placement>> {
    let Some(placement) = place(obj, source, vmlinux)? else {
        return Ok(None);
    };
    let mut verifier = Verifier {
        obj,
        vmlinux,
        placement,
        anonymous: BTreeMap::new(),
    };
    for (id, item) in obj.items.iter().enumerate() {
        if item.kind == Kind::Func && !is_discarded(&obj.secs[item.sec].name) {
            verifier.function(id).with_context(|| {
                format!("function `{}` of {source} does not compile to what was shipped; is this the kernel's compiler and configuration?", item.name)
            })?;
        }
    }
    Ok(Some(verifier.placement))
}

struct Verifier<'a> {
    obj: &'a Obj,
    vmlinux: &'a Vmlinux,
    placement: Placement,
    /// Addresses of things without a name, from the references to them.
    anonymous: BTreeMap<ItemId, u64>,
}

impl Verifier<'_> {
    /// Compares one function, if vmlinux has it.
    fn function(&mut self, id: ItemId) -> Result<()> {
        let item = &self.obj.items[id];
        let Some(&(addr, _)) = self.placement.addr.get(&item.name) else {
            return Ok(());
        };
        let mut shipped = self.vmlinux.read_addr(addr, item.size)?;
        let mut rebuilt = self.obj.bytes(id).to_vec();
        for rel in self.obj.rels(id) {
            let size = field_size(rel.ty)
                .with_context(|| format!("relocation of the unknown type {}", rel.ty))?;
            if size < 4 || rel.target == Target::Abs {
                // A branch that the assembler resolved; its bytes are compared as they are.
                continue;
            }
            let at = (rel.off - item.start) as usize;
            let field = shipped.get_mut(at..at + size).context("short function")?;
            let mut value = [0; 8];
            value[..size].copy_from_slice(field);
            field.fill(0);
            rebuilt[at..at + size].fill(0);
            self.reference(rel, addr + at as u64, u64::from_le_bytes(value))
                .with_context(|| format!("at byte {at:#x}"))?;
            self.placement.references += 1;
        }
        if let Some(at) = (0..rebuilt.len()).find(|&i| rebuilt[i] != shipped[i]) {
            // References are masked in both.
            let around = at & !7..rebuilt.len().min((at & !7) + 16);
            let row = |code: &[u8]| -> String {
                let bytes = code.get(around.clone()).unwrap_or_default();
                bytes.iter().map(|b| format!(" {b:02x}")).collect()
            };
            bail!(
                "byte {at:#x} differs, from {:#x} on\n  it is{}\n  it was{}",
                around.start,
                row(&rebuilt),
                row(&shipped)
            );
        }
        self.placement.functions += 1;
        Ok(())
    }

    /// Compares what a relocated field holds with what it should; `value` is zero-extended.
    fn reference(&mut self, rel: &Rel, place: u64, value: u64) -> Result<()> {
        let value = match field_size(rel.ty) {
            // CAST: the field is sign-extended, except of R_X86_64_32.
            Some(4) if rel.ty != elf::R_X86_64_32 => i64::from(value as u32 as i32) as u64,
            _ => value,
        };
        let place = if pc_relative(rel.ty) { place } else { 0 };
        let start = value.wrapping_add(place).wrapping_sub(rel.addend as u64);
        let matches = |expected: u64| {
            expected == start || (rel.ty == elf::R_X86_64_32 && expected as u32 == start as u32)
        };
        let good = match rel.target {
            Target::Undef(i) => {
                let name = &self.obj.undefs[i];
                let mut found = self.vmlinux.named(name).filter(|s| !s.local).peekable();
                // The linker leaves 0 for an undefined weak symbol.
                found.peek().is_none() || found.any(|s| matches(s.addr))
            }
            Target::Item(id) => {
                let item = &self.obj.items[id];
                match item.kind {
                    Kind::Func | Kind::Data => match self.placement.addr.get(&item.name) {
                        Some(&(expected, _)) => matches(expected),
                        None => self.placement.overridden.contains(&item.name),
                    },
                    // All references must agree on where it is.
                    Kind::Blob => matches(*self.anonymous.entry(id).or_insert(start)),
                    // Merged across units, so that only the contents count.
                    Kind::Str | Kind::Const => {
                        let text = self.obj.bytes(id);
                        rel.ty == elf::R_X86_64_32
                            || self.vmlinux.read_addr(start, text.len() as u64)? == text
                    }
                }
            }
            Target::Abs => true,
        };
        if !good {
            let name = self.obj.target_name(rel.target);
            bail!("the reference to `{name}` goes to {start:#x} in vmlinux");
        }
        Ok(())
    }
}

/// Finds the addresses of a unit's symbols.
fn place(obj: &Obj, source: &str, vmlinux: &Vmlinux) -> Result<Option<Placement>> {
    let mut placement = Placement::default();
    let kept = |sec: usize| !is_discarded(&obj.secs[sec].name);
    for item in obj.items.iter().filter(|i| i.named() && kept(i.sec)) {
        for alias in item.names().filter(|alias| alias.global) {
            match vmlinux.global(&alias.name) {
                // The size alone may be that of the function that overrides it.
                Some(s) if alias.weak && (!s.weak || s.size != item.size) => {
                    placement.elsewhere.insert(alias.name);
                }
                Some(s) if s.size == item.size => {
                    placement.addr.insert(alias.name, (s.addr, s.size));
                }
                Some(s) if item.kind == Kind::Func => bail!(
                    "function `{}` of {source} compiles to {} bytes, and in vmlinux it has {}; is this the kernel's compiler and configuration?",
                    alias.name,
                    item.size,
                    s.size
                ),
                _ => {}
            }
        }
    }

    let base = source.rsplit('/').next().unwrap_or(source);
    let named: Vec<(Alias, &Item)> = obj
        .items
        .iter()
        .filter(|i| i.named() && kept(i.sec))
        .flat_map(|item| item.names().map(move |alias| (alias, item)))
        .filter(|(alias, _)| !alias.global)
        .collect();
    let locals: HashMap<&str, u64> = named
        .iter()
        .map(|(alias, item)| (alias.name.as_str(), item.size))
        .collect();
    let functions: Vec<&str> = named
        .iter()
        .filter(|(_, item)| item.kind == Kind::Func)
        .map(|(alias, _)| alias.name.as_str())
        .collect();
    // The unit that has all of the local functions, and most of the local variables.
    let mut found: Vec<HashMap<String, Place>> = vmlinux
        .units(base)
        .map(|unit| local_places(unit, &locals, vmlinux))
        .filter(|places| functions.iter().all(|f| places.contains_key(*f)))
        .collect();
    found.sort_by_key(|places| std::cmp::Reverse(places.len()));
    match found.as_slice() {
        _ if locals.is_empty() => {}
        [] if placement.addr.is_empty() => return Ok(None),
        [] => bail!("the local functions of {source} are in no unit `{base}` of vmlinux"),
        [first, second, ..] if first.len() == second.len() => {
            bail!("several units `{base}` of vmlinux could be {source}")
        }
        [first, ..] => placement.addr.extend(first.clone()),
    }
    if placement.addr.is_empty() {
        return Ok(None);
    }
    placement.join_names(obj, source)?;
    Ok(Some(placement))
}

/// The symbols of a unit of vmlinux that have the names and sizes of `locals`, each once.
fn local_places(
    unit: &Unit,
    locals: &HashMap<&str, u64>,
    vmlinux: &Vmlinux,
) -> HashMap<String, Place> {
    let mut places = HashMap::new();
    let mut twice = HashSet::new();
    for symbol in &vmlinux.symbols[unit.symbols.clone()] {
        if locals.get(symbol.name.as_str()) == Some(&symbol.size)
            && places
                .insert(symbol.name.clone(), (symbol.addr, symbol.size))
                .is_some()
        {
            twice.insert(symbol.name.clone());
        }
    }
    places.retain(|name, _| !twice.contains(name));
    places
}
