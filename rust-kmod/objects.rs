// SPDX-License-Identifier: GPL-2.0

//! Where the objects that a payload names are in memory: vmlinux and modules.

use crate::{
    kapi::{
        ksyms::Ksyms,
        module::{
            Module,
            ModuleRef, //
        },
        system, //
    },
    payload::{
        check::Payload,
        error::{
            Error,
            Place,
            Reason,
            Table, //
        },
        layout::{
            self,
            Extern,
            Func,
            REGION_PERCPU, //
        },
        place::Region,
        ranges::Range, //
    },
    report::{
        out_of_memory,
        Hex,
        Report, //
    },
};
use kernel::prelude::*;

/// Memory: its first address and its size in bytes.
#[derive(Clone, Copy, Default)]
struct Memory {
    base: u64,
    size: u64,
}

impl Memory {
    /// The range of `size` bytes at an offset, if it is inside.
    fn range(self, offset: u64, size: u64) -> Option<Range> {
        let end = offset.checked_add(size)?;
        (end <= self.size).then_some(())?;
        Some(Range {
            start: self.base.checked_add(offset)?,
            end: self.base.checked_add(end)?,
        })
    }
}

/// One object in memory.
pub(crate) struct Object {
    regions: [Memory; Region::ALL.len()],
    percpu: Memory,
    /// `None` for vmlinux.
    module: Option<Module>,
}

impl Object {
    fn vmlinux(ksyms: Ksyms) -> Self {
        let mut regions = [Memory::default(); Region::ALL.len()];
        // All of vmlinux counts as text.
        regions[Region::Text.index()] = Memory {
            base: ksyms.vmlinux_base(),
            size: ksyms.vmlinux_size(),
        };
        Self {
            regions,
            percpu: Memory::default(),
            module: None,
        }
    }

    fn of_module(module: Module) -> Self {
        let memory = |(base, size)| Memory { base, size };
        Self {
            regions: Region::ALL.map(|region| memory(module.memory(region))),
            percpu: memory(module.percpu()),
            module: Some(module),
        }
    }

    fn memory(&self, region: u32) -> Option<Memory> {
        if region == REGION_PERCPU && self.module.is_some() {
            return Some(self.percpu);
        }
        self.regions.get(usize::try_from(region).ok()?).copied()
    }
}

/// The objects of one payload, or of one part of it.
pub(crate) struct Objects {
    /// By index.
    list: KVec<Object>,
    target: usize,
    /// The modules besides the one that is patched, which must not go before the patch.
    pub(crate) needs: KVec<ModuleRef>,
}

impl Objects {
    /// Finds all objects of a payload and makes sure that they are those that it was built for. `target` is the
    /// module that a part patches.
    ///
    /// # Errors
    ///
    /// [`Reason::WrongBuildId`] with both build-ids, [`Reason::ObjectNotLoaded`], [`Reason::OutOfMemory`].
    pub(crate) fn find(
        payload: &Payload<'_>,
        target: Option<Module>,
        ksyms: Ksyms,
        report: &mut Report,
    ) -> Result<Self, Error> {
        let mut list = KVec::new();
        let mut needs = KVec::new();
        for (index, object) in (0u32..).zip(payload.objects()) {
            let found = if index == 0 {
                check_vmlinux(payload, &object, ksyms, report)?;
                Object::vmlinux(ksyms)
            } else {
                let name = payload.string(object.name);
                let is_target = index == payload.target();
                let missing = |report: &mut Report| {
                    report.refuse(
                        Reason::ObjectNotLoaded,
                        place(index),
                        format_args!("module {name} is not loaded"),
                    )
                };
                let module = if is_target {
                    target
                } else {
                    Module::find(name).map_err(|_| report.coming(name))?
                };
                let module = module.ok_or_else(|| missing(report))?;
                let found = Object::of_module(module);
                check_module(payload, index, &object, &found, report)?;
                if !is_target {
                    let need = ModuleRef::try_new(module).ok_or_else(|| report.coming(name))?;
                    needs.push(need, GFP_KERNEL).map_err(out_of_memory)?;
                }
                found
            };
            list.push(found, GFP_KERNEL).map_err(out_of_memory)?;
        }
        Ok(Self {
            list,
            target: usize::try_from(payload.target()).map_err(out_of_memory)?,
            needs,
        })
    }

    /// The object that is patched.
    pub(crate) fn target(&self) -> Option<&Object> {
        self.list.get(self.target)
    }

    /// Where a function is, and where its cold part is (empty if it has none).
    ///
    /// # Errors
    ///
    /// [`Reason::FuncOutside`] with the function's number.
    pub(crate) fn ranges_of(&self, func: &Func, index: u32) -> Result<(Range, Range), Error> {
        let text = self.target().and_then(|object| object.memory(func.region));
        let range = |offset, size: u32| text?.range(offset, u64::from(size));
        let outside = Error::entry(Reason::FuncOutside, Table::Funcs, index);
        let body = range(func.offset, func.size).ok_or(outside)?;
        let cold = range(func.cold_offset, func.cold_size).ok_or(outside)?;
        Ok((body, cold))
    }

    /// Address of an external symbol of one of the objects; `name` is the symbol's.
    ///
    /// # Errors
    ///
    /// [`Reason::ExternOutside`] and [`Reason::ExternMoved`] with the entry's number.
    pub(crate) fn address_of(
        &self,
        external: &Extern,
        name: &str,
        index: u32,
        report: &mut Report,
    ) -> Result<u64, Error> {
        let fail = |reason| Error::entry(reason, Table::Externs, index);
        let outside = fail(Reason::ExternOutside);
        let object = usize::try_from(external.object).ok();
        let object = object.and_then(|at| self.list.get(at)).ok_or(outside)?;
        let memory = object.memory(external.region).ok_or(outside)?;
        // The end of an object's memory may have a name as well.
        let address = memory.range(external.offset, 0).ok_or(outside)?.start;
        if let Some(module) = object.module {
            // The module's memory was laid out by another kernel's rules if this fails.
            if !module.has_symbol(address, name) {
                report.add(format_args!("{name} of module {}", module.name()));
                report.add(format_args!(" is not where the payload expects it"));
                return Err(fail(Reason::ExternMoved));
            }
        }
        Ok(address)
    }
}

fn place(index: u32) -> Place {
    Place::Entry {
        table: Table::Objects,
        index,
    }
}

fn check_vmlinux(
    payload: &Payload<'_>,
    object: &layout::Object,
    ksyms: Ksyms,
    report: &mut Report,
) -> Result<(), Error> {
    let running = ksyms.vmlinux_build_id();
    // The kernel's own field is zero behind a shorter id, as an `Object`'s is.
    if running == object.build_id {
        return Ok(());
    }
    Err(report.refuse(
        Reason::WrongBuildId,
        place(0),
        format_args!(
            "it is for kernel {} (build-id {}), and {} (build-id {}) is running",
            payload.release(),
            Hex(object.id()),
            system::release(),
            Hex(&running),
        ),
    ))
}

/// Reads a module's build-id where it must be, and compares it.
fn check_module(
    payload: &Payload<'_>,
    index: u32,
    object: &layout::Object,
    found: &Object,
    report: &mut Report,
) -> Result<(), Error> {
    let name = payload.string(object.name);
    let mut id = [0u8; layout::BUILD_ID_MAX];
    let wanted = object.id();
    let id = id.get_mut(..wanted.len()).unwrap_or_default();
    let note = found
        .memory(Region::RoData as u32)
        .and_then(|memory| memory.range(u64::from(object.note), u64::from(object.build_id_len)));
    if note.is_some_and(|note| system::copy_text(note.start, id).is_ok()) && *id == *wanted {
        return Ok(());
    }
    Err(report.refuse(
        Reason::WrongBuildId,
        place(index),
        format_args!(
            "it is for module {name} with build-id {}, and the one that is loaded has {} in its place",
            Hex(wanted),
            Hex(id),
        ),
    ))
}
