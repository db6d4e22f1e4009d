// SPDX-License-Identifier: GPL-2.0

//! The kernel's tables about the code of a payload: exceptions, alternatives, jump labels, unwind data …

use anyhow::{ensure, Context, Result};
use kcare_payload::elf::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE};
use kcare_payload::place::Region;
use kcare_payload::special::special_named;
use object::elf as et;

use super::{Abode, Emitter};
use crate::elf::SymbolRef;
use crate::obj::{ItemId, SecId};
use crate::select::Key;
use crate::special::{replacement, Entry, ORC, ORC_IP, REPLACEMENTS, TABLES};

impl Emitter<'_> {
    /// Turns constants that the kernel fills into its own image at boot into loads of their variables, or of the place in
    /// the kernel's code that has the value where the compiler left the variable out.
    pub(super) fn runtime_constants(&mut self, key: Key) -> Result<()> {
        let (u, id) = key;
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let (section, start) = self.placed[&key];
        for constant in unit.special.runtime_of(item) {
            let name = constant
                .name
                .strip_prefix("ptr_")
                .context("unknown boot-time constant")?;
            let insn = constant
                .at
                .checked_sub(2)
                .context("malformed boot-time constant")?;
            let at = (start + insn) as usize;
            let code = &mut self.sections[section].data[at..at + 10];
            // REX.W B8+r imm64: movabs $imm, %r.
            let (rex, opcode) = (code[0], code[1]);
            ensure!(
                rex & !1 == 0x48 && opcode & !7 == 0xb8,
                "`{}`+{insn:#x}: a boot-time constant is not loaded by movabs",
                item.name
            );
            // REX.W 8B /r disp32: mov variable(%rip), %r; and a nop of three bytes.
            code.copy_from_slice(&[
                0x48 | (rex & 1) << 2,
                0x8b,
                (opcode & 7) << 3 | 5,
                0,
                0,
                0,
                0,
                0x0f,
                0x1f,
                0x00,
            ]);
            let addr = match unit.placement.addr.get(name) {
                Some(&(addr, _)) => addr,
                None => {
                    let image = self.images.get(self.image);
                    let filled = || image.sites().pointers.get(name).copied();
                    image.global_addr(name).or_else(filled).with_context(|| {
                        format!("vmlinux has no `{name}`, and no code that has its value")
                    })?
                }
            };
            let symbol = self.outside(name.to_owned(), Abode::Image(self.image, addr))?;
            let place = start + insn + 3;
            self.sections[section].rels.push((
                place,
                et::R_X86_64_PC32,
                SymbolRef::Symbol(symbol),
                -4,
            ));
        }
        Ok(())
    }

    /// Copies the entries of the kernel's tables about a function, and those about its replacements.
    pub(super) fn place_tables(&mut self, key: Key, placed: &mut Vec<(Key, Entry)>) -> Result<()> {
        let (u, id) = key;
        let unit = &self.units[u];
        let item = &unit.new.items[id];
        let mut entries: Vec<Entry> = unit.special.entries_of(item).to_vec();
        let mut i = 0;
        while let Some(entry) = entries.get(i).copied() {
            i += 1;
            let table = &TABLES[entry.table];
            if !table.keep {
                continue;
            }
            if table.name == ".altinstructions" {
                if let Some((sec, start, len)) = replacement(&unit.new, &entry)? {
                    if !self.copied.contains_key(&(u, sec, start)) {
                        let out = self.section(REPLACEMENTS, SHF_ALLOC | SHF_EXECINSTR, 1);
                        let code = &unit.new.secs[sec].data[start as usize..(start + len) as usize];
                        let at = self.append(out, code, 1, 0);
                        self.copied.insert((u, sec, start), (start + len, out, at));
                        entries.extend_from_slice(unit.special.entries(sec, start, start + len));
                    }
                }
            }
            let special = special_named(table.name)
                .with_context(|| format!("payloads may not have {}", table.name))?;
            ensure!(
                special.entry == table.size,
                "{} has other entries",
                table.name
            );
            let flags = match special.region {
                Region::RoData => SHF_ALLOC,
                _ => SHF_ALLOC | SHF_WRITE,
            };
            let out = self.section(table.name, flags, special.align);
            let range = entry.off as usize..(entry.off + table.size) as usize;
            let at = self.append(out, &unit.new.secs[entry.sec].data[range], 1, 0);
            self.copied
                .insert((u, entry.sec, entry.off), (entry.off + table.size, out, at));
            placed.push((key, entry));
        }
        Ok(())
    }

    /// Relocates a copied entry, and the replacement that it has.
    pub(super) fn relocate_entry(&mut self, u: usize, id: ItemId, entry: &Entry) -> Result<()> {
        let table = &TABLES[entry.table];
        let unit = &self.units[u];
        let source = &unit.new.secs[entry.sec];
        let (_, out, at) = self.copied[&(u, entry.sec, entry.off)];
        let code = match table.name {
            ".altinstructions" => replacement(&unit.new, entry)?,
            _ => None,
        };
        for rel in source.rels_in(entry.off, entry.off + table.size).to_vec() {
            let field = rel.off - entry.off;
            if table.name == ".altinstructions" && field == 4 && code.is_none() {
                // Nothing is read from a replacement without length.
                continue;
            }
            self.relocate(u, id, &rel, out, at + field, true)?;
        }
        if let Some((sec, start, len)) = code {
            let (_, out, at) = self.copied[&(u, sec, start)];
            let rels = unit.new.secs[sec].rels_in(start, start + len).to_vec();
            // Two entries may share a replacement.
            if self.sections[out]
                .rels
                .iter()
                .any(|r| r.0 >= at && r.0 < at + len)
            {
                return Ok(());
            }
            for rel in rels {
                self.relocate(u, id, &rel, out, at + (rel.off - start), true)?;
            }
        }
        Ok(())
    }

    /// Where an offset of a section of a unit was copied to.
    pub(super) fn find_copied(&self, u: usize, sec: SecId, off: u64) -> Option<(usize, u64)> {
        let (&(_, _, start), &(end, out, at)) =
            self.copied.range((u, sec, 0)..=(u, sec, off)).next_back()?;
        (off < end).then_some((out, at + off - start))
    }

    pub(super) fn write_orc(&mut self) -> Result<()> {
        let ip = self.section(ORC_IP, SHF_ALLOC, 4);
        let orc = self.section(ORC, SHF_ALLOC, 2);
        for ((section, offset), (_, raw)) in std::mem::take(&mut self.orc) {
            let at = self.append(ip, &[0; 4], 4, 0);
            self.append(orc, &raw, 1, 0);
            self.sections[ip].rels.push((
                at,
                et::R_X86_64_PC32,
                SymbolRef::Section(section),
                offset as i64,
            ));
        }
        Ok(())
    }
}
