// SPDX-License-Identifier: GPL-2.0

//! Proves that the rebuilt unit is the shipped one, byte for byte, and places it in vmlinux.

use std::collections::{BTreeMap, HashMap};

use anyhow::{bail, Result};
use object::elf;

use crate::obj::{field_size, pc_relative, ItemId, Kind, Obj, Rel, Target};
use crate::special::is_discarded;
use crate::vmlinux::Vmlinux;

/// Where the things of a unit are in vmlinux.
#[derive(Debug, Default)]
pub struct Placement {
    /// Link-time address and size by name, of the functions and variables of this unit.
    pub addr: HashMap<String, (u64, u64)>,
    /// Weak functions that another unit overrides.
    pub overridden: Vec<String>,
    /// Functions of which every byte was compared.
    pub functions: usize,
    /// Their bytes.
    pub bytes: u64,
    /// References that were compared.
    pub references: usize,
}

/// Places a unit that was compiled with the shipped flags and compares all of its code.
///
/// Returns `None` if nothing of it is in vmlinux.
pub fn verify(obj: &Obj, source: &str, vmlinux: &Vmlinux) -> Result<Option<Placement>> {
    let Some(mut placement) = place(obj, source, vmlinux)? else {
        return Ok(None);
    };
    let mut anonymous: BTreeMap<ItemId, u64> = BTreeMap::new();
    for (id, item) in obj.items.iter().enumerate() {
        if item.kind != Kind::Func || is_discarded(&obj.secs[item.sec].name) {
            continue;
        }
        let Some(&(addr, _)) = placement.addr.get(&item.name) else {
            continue;
        };
        let shipped = vmlinux.read_addr(addr, item.size)?;
        let mut rebuilt = obj.bytes(id).to_vec();
        let mut masked = shipped.clone();
        for rel in obj.rels(id) {
            if !check_reference(
                obj,
                id,
                rel,
                addr,
                &shipped,
                vmlinux,
                &placement,
                &mut anonymous,
            )? {
                continue;
            }
            placement.references += 1;
            let at = (rel.off - item.start) as usize;
            let size = field_size(rel.ty).unwrap_or(0);
            rebuilt[at..at + size].fill(0);
            masked[at..at + size].fill(0);
        }
        if let Some(at) = (0..rebuilt.len()).find(|&i| rebuilt[i] != masked[i]) {
            bail!(
                "function `{}` of {source} does not compile to what was shipped: byte {at:#x} is {:#04x}, in vmlinux {:#04x}; is this the kernel's compiler and configuration?",
                item.name,
                rebuilt[at],
                masked[at],
            );
        }
        placement.functions += 1;
        placement.bytes += item.size;
    }
    Ok(Some(placement))
}

/// Compares one relocated field; `false` if it is no relocation but code of its own.
#[allow(clippy::too_many_arguments)]
fn check_reference(
    obj: &Obj,
    id: ItemId,
    rel: &Rel,
    addr: u64,
    shipped: &[u8],
    vmlinux: &Vmlinux,
    placement: &Placement,
    anonymous: &mut BTreeMap<ItemId, u64>,
) -> Result<bool> {
    let item = &obj.items[id];
    let at = (rel.off - item.start) as usize;
    let Some(size) = field_size(rel.ty) else {
        bail!(
            "`{}` has a relocation of the unknown type {}",
            item.name,
            rel.ty
        );
    };
    if size == 1 || rel.target == Target::Abs {
        // A branch that the assembler resolved; its bytes are compared as they are.
        return Ok(false);
    }
    let field = &shipped[at..at + size];
    let value = match size {
        4 if rel.ty == elf::R_X86_64_32 => {
            u64::from(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
        }
        4 => i64::from(i32::from_le_bytes([field[0], field[1], field[2], field[3]])) as u64,
        8 => u64::from_le_bytes([
            field[0], field[1], field[2], field[3], field[4], field[5], field[6], field[7],
        ]),
        _ => return Ok(false),
    };
    let place = if pc_relative(rel.ty) {
        addr + at as u64
    } else {
        0
    };
    let start = value.wrapping_add(place).wrapping_sub(rel.addend as u64);
    let matches = |expected: u64| {
        expected == start || (rel.ty == elf::R_X86_64_32 && expected as u32 == start as u32)
    };
    let good = match rel.target {
        Target::Undef(i) => {
            let name = &obj.undefs[i];
            let mut found = vmlinux.named(name).filter(|s| !s.local).peekable();
            // An undefined weak reference that nobody defines is 0, or taken out by the linker.
            found.peek().is_none() || found.any(|s| matches(s.addr))
        }
        Target::Item(target) if obj.items[target].named() => {
            match placement.addr.get(&obj.items[target].name) {
                Some(&(expected, _)) => matches(expected),
                None => placement.overridden.contains(&obj.items[target].name),
            }
        }
        Target::Item(target) if obj.items[target].kind == Kind::Blob => {
            // The start of a blob is not known beforehand, but all references must agree on it.
            let expected = *anonymous.entry(target).or_insert(start);
            matches(expected)
        }
        // Strings and constants are merged across units.
        Target::Item(_) | Target::Abs => true,
    };
    if !good {
        bail!(
            "function `{}`+{at:#x} refers to `{}`, but in vmlinux to address {start:#x}; is this the kernel's compiler and configuration?",
            item.name,
            obj.target_name(rel.target),
        );
    }
    Ok(true)
}

/// Finds the addresses of a unit's symbols.
fn place(obj: &Obj, source: &str, vmlinux: &Vmlinux) -> Result<Option<Placement>> {
    let base = source.rsplit('/').next().unwrap_or(source);
    let locals: Vec<(&str, u64)> = obj
        .items
        .iter()
        .filter(|i| i.named() && !i.global && !is_discarded(&obj.secs[i.sec].name))
        .map(|i| (i.name.as_str(), i.size))
        .collect();
    let globals: Vec<_> = obj.items.iter().filter(|i| i.named() && i.global).collect();

    let mut placement = Placement::default();
    let mut seen_global = false;
    for item in globals {
        // A weak symbol may be defined elsewhere; then its size or its code differs.
        let symbol = vmlinux.global(&item.name);
        match symbol {
            Some(s) if s.size == item.size => {
                placement.addr.insert(item.name.clone(), (s.addr, s.size));
                seen_global = true;
            }
            Some(_) if item.weak => placement.overridden.push(item.name.clone()),
            _ => {}
        }
    }

    /// Address and size by name.
    type Places = HashMap<String, (u64, u64)>;
    let mut best: Vec<(usize, Places)> = Vec::new();
    for unit in vmlinux.units(base) {
        let symbols = &vmlinux.symbols[unit.symbols.clone()];
        let mut found: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
        for s in symbols {
            found.entry(&s.name).or_default().push((s.addr, s.size));
        }
        let mut addr = HashMap::new();
        let mut missing = 0;
        for &(name, size) in &locals {
            match found.get(name).map(Vec::as_slice) {
                Some([(a, s)]) if *s == size => {
                    addr.insert(name.to_owned(), (*a, size));
                }
                _ => missing += 1,
            }
        }
        // Things of `.exit` sections and the like may be dropped, code may not.
        best.push((missing, addr));
    }
    best.sort_by_key(|(missing, _)| *missing);
    let functions = |addr: &HashMap<String, (u64, u64)>| {
        obj.items
            .iter()
            .filter(|i| i.kind == Kind::Func && !i.global && !is_discarded(&obj.secs[i.sec].name))
            .all(|i| addr.contains_key(&i.name))
    };
    let good: Vec<_> = best.iter().filter(|(_, addr)| functions(addr)).collect();
    match good.as_slice() {
        [] if !seen_global => return Ok(None),
        [] if locals.is_empty() => {}
        [] => bail!("the local functions of {source} are in no unit `{base}` of vmlinux"),
        [(_, addr)] => placement.addr.extend(addr.clone()),
        [(a, addr), (b, _), ..] if a < b => placement.addr.extend(addr.clone()),
        _ if locals.is_empty() => {}
        many => bail!("{} units of vmlinux could be {source}", many.len()),
    }
    // Other names of the same things.
    for item in obj.items.iter().filter(|i| i.named()) {
        if let Some(&addr) = placement.addr.get(&item.name) {
            for alias in &item.aliases {
                placement.addr.entry(alias.clone()).or_insert(addr);
            }
        }
    }
    Ok(Some(placement))
}
