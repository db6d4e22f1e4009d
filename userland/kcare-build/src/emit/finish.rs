// SPDX-License-Identifier: GPL-2.0

//! kcare's own tables, and the object that holds everything.

use std::collections::BTreeMap;

use anyhow::{ensure, Context, Result};
use kcare_payload::elf::{SHF_EXECINSTR, SHF_WRITE};
use kcare_payload::layout::{
    Extern, Fix, Func, Manifest, Object, BUILD_ID_MAX, FLAG_ALL_AT_ONCE, FLAG_TEXT_ESCAPES, MAGIC,
    OBJECT_OUTER, SEC_CALLBACKS, SEC_EXTERNS, SEC_FIXES, SEC_FUNCS, SEC_MANIFEST, SEC_OBJECTS,
    SEC_PREIMAGES, SEC_STATES, SEC_STRINGS, VERSION,
};

use super::{Abode, About, Emitter, Piece, Written, TEXT};
use crate::author::{self, When};
use crate::elf::{self, Names, Numbers, Section, Symbol, SymbolRef};
use crate::image::{ImageId, VMLINUX};
use crate::preimage::Preimage;
use crate::select::Key;

impl Emitter<'_> {
    /// Adds our own tables and writes the object.
    pub(super) fn finish(
        mut self,
        preimages: &[Preimage],
        about: &About,
        parts: Vec<(String, Vec<u8>)>,
    ) -> Result<Written> {
        // Before symbols get other numbers.
        let escape = self.escape();
        self.sort_sections();
        let (symbols, position) = self.order_symbols();
        // Numbers of symbols depend on which sections take memory, which is settled by now.
        let numbers = Numbers::new(&self.sections, &symbols)?;
        let number = |symbol: usize| numbers.symbol(position[symbol]);

        let ids = self.objects();
        let target = ids.iter().position(|&id| id == self.image).unwrap_or(0);
        let mut strings = Names::new();
        let mut objects = Vec::new();
        for &id in &ids {
            objects.extend_from_slice(&self.object(id, &mut strings)?.encode());
        }
        let externs = self.externs(&ids, number)?;
        let (funcs, images) = self.funcs(target, preimages, &mut strings, number)?;
        let selection = &self.selector.selection;
        let callbacks: BTreeMap<When, Key> = selection
            .callbacks
            .iter()
            .filter(|((image, _), _)| *image == self.image)
            .map(|(&(_, when), &key)| (when, key))
            .collect();
        // What is said of the level as a whole is said once.
        let (states, level_fixes) = match target {
            0 => (selection.states.clone(), about.fixes.as_slice()),
            _ => (BTreeMap::new(), &[][..]),
        };
        let mut fixes = Vec::new();
        for (id, title) in level_fixes {
            fixes.push(Fix {
                id: add_text(&mut strings, id)?,
                title: add_text(&mut strings, title)?,
                reserved: 0,
            });
        }
        let mut flags = 0;
        if about.all_at_once {
            flags |= FLAG_ALL_AT_ONCE;
        }
        if escape.is_some() && !about.text_is_quiet {
            flags |= FLAG_TEXT_ESCAPES;
        }
        let manifest = Manifest {
            flags,
            version: VERSION,
            size: u32::try_from(Manifest::SECTION_SIZE)?,
            level: about.level,
            build_time: about.time,
            not_after: about.not_after.unwrap_or(0),
            floor: about.floor.unwrap_or(0),
            release: add_text(&mut strings, &about.release)?,
            description: add_text(&mut strings, &about.description)?,
            nr_objects: u32::try_from(ids.len())?,
            nr_funcs: u32::try_from(funcs.len())?,
            nr_externs: u32::try_from(externs.len())?,
            nr_fixes: u32::try_from(fixes.len())?,
            nr_parts: u32::try_from(parts.len())?,
            target: u32::try_from(target)?,
            preimage_bytes: u32::try_from(images.len())?,
            string_bytes: u32::try_from(strings.bytes.len())?,
            nr_callbacks: u32::try_from(callbacks.len())?,
            nr_states: u32::try_from(states.len())?,
            ..Manifest::default()
        };
        let named = &self.named;
        let tables = [
            (SEC_MANIFEST, [&MAGIC[..], &manifest.encode()].concat()),
            (SEC_OBJECTS, objects),
            (SEC_FUNCS, funcs.iter().flat_map(Func::encode).collect()),
            (
                SEC_EXTERNS,
                externs.iter().flat_map(Extern::encode).collect(),
            ),
            (SEC_FIXES, fixes.iter().flat_map(Fix::encode).collect()),
            (
                SEC_CALLBACKS,
                author::encode_callbacks(&callbacks, |key| number(named[&key])),
            ),
            (SEC_STATES, author::encode_states(&states)),
            (SEC_PREIMAGES, images),
            (SEC_STRINGS, strings.bytes),
        ]
        .map(|(name, data)| (name.to_owned(), 8, data));
        let own_symbols = named
            .iter()
            .map(|(&key, &symbol)| (key, number(symbol)))
            .collect();
        let mut pieces = Vec::new();
        for (&(unit, sec, start), &(end, section, offset)) in &self.copied {
            if self.sections[section].flags & SHF_EXECINSTR != 0 {
                pieces.push(Piece {
                    unit,
                    sec,
                    start,
                    end,
                    section: u32::try_from(section + 1)?,
                    offset,
                });
            }
        }

        let outward = self.outward();
        let mut sections = self.sections;
        let parts = parts.into_iter().map(|(name, data)| (name, 16, data));
        for (name, align, data) in tables.into_iter().chain(parts) {
            sections.push(Section {
                name,
                align,
                data,
                ..Section::default()
            });
        }
        Ok(Written {
            bytes: elf::write(&sections, &symbols, &numbers)?,
            symbols: own_symbols,
            pieces,
            escape,
            outward,
        })
    }

    /// Brings the symbols into their order, defined ones first; gives them, and where each one went.
    ///
    /// Undefined symbols are numbered by name, so that the order of discovery does not show.
    fn order_symbols(&mut self) -> (Vec<Symbol>, Vec<usize>) {
        let mut order: Vec<usize> = (0..self.symbols.len())
            .filter(|&i| self.symbols[i].section.is_some())
            .collect();
        order.extend(self.outside.values());
        let mut position = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            position[old] = new;
        }
        for section in &mut self.sections {
            for rel in &mut section.rels {
                if let SymbolRef::Symbol(i) = &mut rel.2 {
                    *i = position[*i];
                }
            }
        }
        let symbols = order.iter().map(|&i| self.symbols[i].clone()).collect();
        (symbols, position)
    }

    /// Where the undefined symbols are, by their numbers.
    fn externs(&self, ids: &[ImageId], number: impl Fn(usize) -> u32) -> Result<Vec<Extern>> {
        let mut externs = Vec::new();
        for ((name, abode), &symbol) in &self.outside {
            let object = match abode {
                Abode::Image(image, _) => {
                    let index = ids.iter().position(|id| id == image);
                    u32::try_from(index.context("an object is missing")?)?
                }
                Abode::Outer(_) => OBJECT_OUTER,
            };
            let spot = self.spot(*abode).with_context(|| format!("`{name}`"))?;
            externs.push(Extern {
                symbol: number(symbol),
                object,
                offset: spot.offset,
                region: spot.region,
                reserved: 0,
            });
        }
        externs.sort_by_key(|e| e.symbol);
        Ok(externs)
    }

    /// The redirects, and their pre-images.
    fn funcs(
        &self,
        target: usize,
        preimages: &[Preimage],
        strings: &mut Names,
        number: impl Fn(usize) -> u32,
    ) -> Result<(Vec<Func>, Vec<u8>)> {
        let spot_of = |addr: u64| -> Result<u64> {
            let spot = self.images.get(self.image).spot(addr);
            Ok(spot.context("code is outside of its image")?.offset)
        };
        let mut funcs = Vec::new();
        let mut images = Vec::new();
        for (index, redirect) in self.redirects() {
            let (cold_offset, cold_size) = match redirect.cold {
                Some((addr, size)) => (spot_of(addr)?, size),
                None => (0, 0),
            };
            funcs.push(Func {
                object: u32::try_from(target)?,
                name: add_text(strings, &redirect.name)?,
                offset: spot_of(redirect.addr)?,
                size: u32::try_from(redirect.size)?,
                fentry: u32::try_from(redirect.fentry)?,
                symbol: number(self.named[&redirect.key]),
                preimage: u32::try_from(images.len())?,
                region: 0,
                flags: 0,
                cold_offset,
                cold_size: u32::try_from(cold_size)?,
                reserved: 0,
            });
            let image = &preimages[index];
            images.extend_from_slice(&image.code);
            images.extend_from_slice(&image.mask);
        }
        Ok((funcs, images))
    }

    /// The images that the object names: vmlinux, and in a module's part the modules by name.
    fn objects(&self) -> Vec<ImageId> {
        let mut ids: Vec<ImageId> = self
            .outside
            .keys()
            .filter_map(|(_, abode)| match abode {
                Abode::Image(id, _) => Some(*id),
                Abode::Outer(_) => None,
            })
            .chain([VMLINUX, self.image])
            .collect();
        ids.sort_by_key(|&id| (id != VMLINUX, self.images.get(id).name()));
        ids.dedup();
        ids
    }

    fn object(&self, id: ImageId, strings: &mut Names) -> Result<Object> {
        let image = self.images.get(id);
        let mut object = Object {
            name: add_text(strings, image.name())?,
            build_id_len: u32::try_from(image.build_id().len())?,
            build_id: [0; BUILD_ID_MAX],
            note: match self.images.module(id) {
                Some(module) => u32::try_from(module.build_id_spot.offset)?,
                None => 0,
            },
        };
        object
            .build_id
            .get_mut(..image.build_id().len())
            .context("the build-id is too long")?
            .copy_from_slice(image.build_id());
        Ok(object)
    }

    /// Code first, then read-only data, then writable data, each by name.
    fn sort_sections(&mut self) {
        let rank = |s: &Section| match s.flags & (SHF_EXECINSTR | SHF_WRITE) {
            SHF_EXECINSTR => 0,
            0 => 1,
            _ if s.zeroes > 0 => 3,
            _ => 2,
        };
        let mut order: Vec<usize> = (0..self.sections.len()).collect();
        order.sort_by_key(|&i| {
            let s = &self.sections[i];
            (i > TEXT, rank(s), s.name.clone())
        });
        let mut position = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            position[old] = new;
        }
        let mut old: Vec<Option<Section>> = std::mem::take(&mut self.sections)
            .into_iter()
            .map(Some)
            .collect();
        self.sections = order.iter().filter_map(|&i| old[i].take()).collect();
        for section in &mut self.sections {
            for rel in &mut section.rels {
                if let SymbolRef::Section(i) = &mut rel.2 {
                    *i = position[*i];
                }
            }
        }
        for symbol in &mut self.symbols {
            symbol.section = symbol.section.map(|i| position[i]);
        }
        for (_, section, _) in self.copied.values_mut() {
            *section = position[*section];
        }
    }
}

/// Adds what people will read to the payload's string table.
fn add_text(strings: &mut Names, text: &str) -> Result<u32> {
    ensure!(
        !text.chars().any(char::is_control),
        "`{}` has a control character",
        text.escape_debug()
    );
    strings.add(text)
}
