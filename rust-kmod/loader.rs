// SPDX-License-Identifier: GPL-2.0

//! From a trusted payload to code in memory that nothing leads to yet.

use crate::{
    kapi::{
        callbacks::{
            Callback,
            Kind, //
        },
        ksyms::Ksyms,
        resident::{
            Flag,
            Kallsyms,
            Resident,
            SectionHeader,
            Symbol,
            Tables, //
        },
        stragglers, //
    },
    objects::Objects,
    payload::{
        arrange,
        elf::{
            Home,
            SymbolKind, //
        },
        error::{
            Error,
            Place,
            Reason,
            Table, //
        },
        layout::{
            self,
            Extern,
            TRAMPOLINE_SIZE, //
        },
        place::{
            self,
            Layout,
            Region,
            Slot, //
        },
        ranges::Range,
        reloc,
        special,
        trampoline, //
    },
    report::{
        out_of_memory,
        Report, //
    },
    verify::Trusted,
};
use kernel::{
    prelude::*,
    str::CString, //
};

/// One function, ready to be redirected.
pub(crate) struct Function {
    /// The original body.
    pub(crate) body: Range,
    /// The part of it behind the fentry site: a task in front of it has yet to take the redirect. The
    /// function's address on a stack, as a pointer to it, is thus no reason to wait.
    pub(crate) inside: Range,
    /// Its cold part, empty if it has none.
    pub(crate) cold: Range,
    /// Address of its fentry site.
    pub(crate) site: u64,
    /// Address of the new body.
    pub(crate) new: u64,
    /// Address of its trampoline.
    pub(crate) trampoline: u64,
    /// Its name.
    pub(crate) name: CString,
}

impl Function {
    /// What is to be known of it to arrange who sees what.
    pub(crate) fn place(&self) -> arrange::Place {
        arrange::Place {
            site: self.site,
            body: self.new,
            trampoline: self.trampoline,
        }
    }
}

/// The code of a payload, or of one of its parts, in memory.
///
/// Fields are dropped in this order: callbacks lie in `resident`.
pub(crate) struct Loaded {
    /// What is redirected where, ascending by the original's address.
    pub(crate) functions: KVec<Function>,
    /// What is called around a switch.
    pub(crate) callbacks: KVec<Callback>,
    /// The memory.
    pub(crate) resident: Resident,
}

impl Loaded {
    /// Where its code is, trampolines included.
    pub(crate) fn text(&self) -> Range {
        let start = self.resident.base(Region::Text);
        // CAST: widening.
        let size = self.resident.size(Region::Text) as u64;
        Range {
            start,
            end: start.saturating_add(size),
        }
    }
}

/// What a level does to vmlinux, and what all of it hangs on.
///
/// Fields are dropped in this order: the flag points into the memory of `loaded`.
pub(crate) struct Base {
    /// The flag that the trampolines of all parts test; the original bodies run while it is 0.
    pub(crate) flag: Flag,
    /// The code.
    pub(crate) loaded: Loaded,
}

/// What new code is loaded among.
pub(crate) struct Around<'a> {
    /// The unexported.
    pub(crate) ksyms: Ksyms,
    /// What the payload's symbols are in.
    pub(crate) objects: &'a Objects,
}

/// Where everything of a payload goes.
struct Plan {
    /// By section index.
    slots: KVVec<Option<Slot>>,
    /// Offset of the flag in the writable data; 0 in a part, which has none of its own.
    flag: usize,
}

/// Loads what a payload does to vmlinux.
///
/// # Errors
///
/// [`Reason::OutOfMemory`], [`Reason::NameTaken`], [`Reason::LoadFailed`], [`Reason::ExternOutside`], and
/// those of [`Layout::of`] and [`reloc::apply_all`]. Nothing stays behind.
pub(crate) fn load(
    payload: &Trusted<'_>,
    around: &Around<'_>,
    report: &mut Report,
) -> Result<Base, Error> {
    let level = payload.level();
    let name = CString::try_from_fmt(fmt!("kcare_{level}")).map_err(out_of_memory)?;
    let (loaded, flag) = load_named(payload, &name, around, None, report)?;
    Ok(Base { flag, loaded })
}

/// Loads the part for a module that goes with `base`, which must stay for as long as the part.
///
/// # Errors
///
/// Those of [`load`], and [`Reason::ExternMoved`].
pub(crate) fn load_part(
    payload: &Trusted<'_>,
    module: &str,
    around: &Around<'_>,
    base: &Base,
    report: &mut Report,
) -> Result<Loaded, Error> {
    let level = payload.level();
    let name = CString::try_from_fmt(fmt!("kcare_{level}_{module}")).map_err(out_of_memory)?;
    Ok(load_named(payload, &name, around, Some(base), report)?.0)
}

/// Memory, content, trampolines, relocations, residency. A payload without a `base` gets a flag of its own; a part
/// gives back that of its base, for nothing.
fn load_named(
    payload: &Trusted<'_>,
    name: &CStr,
    around: &Around<'_>,
    base: Option<&Base>,
    report: &mut Report,
) -> Result<(Loaded, Flag), Error> {
    let mut resident = Resident::new(around.ksyms, name).map_err(out_of_memory)?;
    let plan = allocate(payload, base.is_none(), &mut resident)?;
    let flag = match base {
        Some(base) => base.flag.share(),
        None => resident
            .flag(plan.flag)
            .map_err(|e| report.failed(Reason::LoadFailed, "placing the flag", e))?,
    };
    let shown = name.to_str().unwrap_or("?");
    pr_info!(
        "allocated {} bytes for patch at {}\n",
        resident.total(),
        shown
    );

    let values = symbol_values(payload, around, base, &plan, &resident, report)?;
    copy_content(payload, &plan, &mut resident, report)?;
    let ways = Ways {
        objects: around.objects,
        flag: flag.address(),
        values: &values,
    };
    let functions = write_trampolines(payload, &ways, &mut resident, report)?;
    relocate(payload, &plan, &values, &mut resident, report)?;
    let headers = section_headers(payload, &plan, &resident)?;
    let tables = tables(payload, &plan);
    let kallsyms = kallsyms(payload, &values)?;

    let failed = |report: &mut Report, what, e| report.failed(Reason::LoadFailed, what, e);
    resident
        .describe(&tables, kallsyms)
        .map_err(|e| failed(report, "describing the patch's tables", e))?;
    resident.insert().map_err(|e| {
        if e == EEXIST {
            return report.refuse(
                Reason::NameTaken,
                Place::Nowhere,
                format_args!("a module named {shown} is loaded"),
            );
        }
        failed(report, "entering the patch into the module list", e)
    })?;
    resident
        .finalize(payload.body(), &headers)
        .map_err(|e| failed(report, "patching the patch's alternatives", e))?;
    resident
        .seal(payload.body(), &headers)
        .map_err(|e| failed(report, "setting the patch's permissions", e))?;
    resident
        .come()
        .map_err(|e| failed(report, "registering the patch's jump labels and calls", e))?;
    let callbacks = callbacks(payload, &values, &resident, report)?;
    let loaded = Loaded {
        functions,
        callbacks,
        resident,
    };
    Ok((loaded, flag))
}

fn callbacks(
    payload: &Trusted<'_>,
    values: &[u64],
    resident: &Resident,
    report: &mut Report,
) -> Result<KVec<Callback>, Error> {
    let mut callbacks = KVec::new();
    for (index, callback) in (0u32..).zip(payload.callbacks()) {
        let unknown = Error::entry(Reason::CallbackKind, Table::Callbacks, index);
        let kind = match callback.kind {
            layout::CALLBACK_PRE_PATCH => Kind::PrePatch,
            layout::CALLBACK_POST_PATCH => Kind::PostPatch,
            layout::CALLBACK_PRE_UNPATCH => Kind::PreUnpatch,
            layout::CALLBACK_POST_UNPATCH => Kind::PostUnpatch,
            _ => return Err(unknown),
        };
        let symbol = usize::try_from(callback.symbol).map_err(out_of_memory)?;
        let address = values.get(symbol).copied().unwrap_or(0);
        let callback = resident
            .callback(address, kind)
            .map_err(|e| report.failed(Reason::LoadFailed, "finding a callback", e))?;
        callbacks
            .push(callback, GFP_KERNEL)
            .map_err(out_of_memory)?;
    }
    Ok(callbacks)
}

fn allocate(
    payload: &Trusted<'_>,
    with_flag: bool,
    resident: &mut Resident,
) -> Result<Plan, Error> {
    let layout = Layout::of(payload)?;
    let count = usize::try_from(payload.nr_sections()).map_err(out_of_memory)?;
    let mut slots = KVVec::from_elem(None, count, GFP_KERNEL).map_err(out_of_memory)?;
    for (section, slot) in place::slots(payload) {
        let index = usize::try_from(section.index).map_err(out_of_memory)?;
        if let Some(entry) = slots.get_mut(index) {
            *entry = Some(slot);
        }
    }
    let mut flag = 0;
    for region in Region::ALL {
        let size = layout.extent(region).size;
        let mut size = usize::try_from(size).map_err(out_of_memory)?;
        if region == Region::Data && with_flag {
            // OVERFLOW: a region is at most 24 MiB.
            flag = size.next_multiple_of(64);
            size = flag.saturating_add(64);
        }
        resident.alloc(region, size).map_err(out_of_memory)?;
    }
    Ok(Plan { slots, flag })
}

impl Plan {
    fn slot(&self, section: u32) -> Option<Slot> {
        *self.slots.get(usize::try_from(section).ok()?)?
    }

    /// Address of a section, `None` if it takes no memory.
    fn address(&self, section: u32, resident: &Resident) -> Option<u64> {
        let slot = self.slot(section)?;
        resident.base(slot.region).checked_add(slot.offset)
    }
}

/// The address of every symbol; 0 for those that have none, which no relocation uses.
fn symbol_values(
    payload: &Trusted<'_>,
    around: &Around<'_>,
    base: Option<&Base>,
    plan: &Plan,
    resident: &Resident,
    report: &mut Report,
) -> Result<KVVec<u64>, Error> {
    let count = usize::try_from(payload.nr_symbols()).map_err(out_of_memory)?;
    let mut values = KVVec::with_capacity(count, GFP_KERNEL).map_err(out_of_memory)?;
    for symbol in payload.symbols() {
        let value = match symbol.home {
            Home::Section(section) => plan
                .address(section, resident)
                .unwrap_or(0)
                .wrapping_add(symbol.value),
            Home::Undefined | Home::Nowhere => 0,
        };
        values.push(value, GFP_KERNEL).map_err(out_of_memory)?;
    }
    for (index, external) in (0u32..).zip(payload.externs()) {
        let outside = Error::entry(Reason::ExternOutside, Table::Externs, index);
        let value = usize::try_from(external.symbol)
            .ok()
            .and_then(|symbol| values.get_mut(symbol))
            .ok_or(outside)?;
        *value = if external.object == layout::OBJECT_OUTER {
            base.and_then(|base| address_in(&base.loaded.resident, &external))
                .ok_or(outside)?
        } else {
            let symbol = payload.symbol(external.symbol).ok_or(outside)?;
            around
                .objects
                .address_of(&external, symbol.name, index, report)?
        };
    }
    Ok(values)
}

/// Address of a symbol of the payload around a part.
fn address_in(outer: &Resident, external: &Extern) -> Option<u64> {
    let region = Region::ALL
        .into_iter()
        .find(|region| *region as u32 == external.region)?;
    let size = u64::try_from(outer.size(region)).ok()?;
    (external.offset <= size).then_some(())?;
    outer.base(region).checked_add(external.offset)
}

/// A section's bytes in a region, to be written.
fn section_bytes<'r>(
    resident: &'r mut Resident,
    slot: Slot,
    size: u64,
    report: &mut Report,
) -> Result<&'r mut [u8], Error> {
    let start = usize::try_from(slot.offset).map_err(out_of_memory)?;
    let size = usize::try_from(size).map_err(out_of_memory)?;
    let bytes = resident
        .bytes(slot.region)
        .map_err(|e| report.failed(Reason::LoadFailed, "writing the patch", e))?;
    bytes
        .get_mut(start..)
        .and_then(|rest| rest.get_mut(..size))
        .ok_or(Error::from(Reason::RegionSize))
}

fn copy_content(
    payload: &Trusted<'_>,
    plan: &Plan,
    resident: &mut Resident,
    report: &mut Report,
) -> Result<(), Error> {
    for section in payload.sections().filter(place::has_content) {
        let Some(slot) = plan.slot(section.index) else {
            continue;
        };
        section_bytes(resident, slot, section.size, report)?.copy_from_slice(section.data);
    }
    Ok(())
}

/// What the trampolines lead to.
struct Ways<'a> {
    objects: &'a Objects,
    /// Address of the level's flag.
    flag: u64,
    /// Addresses of the payload's symbols.
    values: &'a [u64],
}

fn write_trampolines(
    payload: &Trusted<'_>,
    ways: &Ways<'_>,
    resident: &mut Resident,
    report: &mut Report,
) -> Result<KVec<Function>, Error> {
    let mut functions = KVec::new();
    let base = resident.base(Region::Text);
    let text = resident
        .bytes(Region::Text)
        .map_err(|e| report.failed(Reason::LoadFailed, "writing the trampolines", e))?;
    // The trampolines come first in the text (`place::slots`).
    let code = text.chunks_exact_mut(TRAMPOLINE_SIZE);

    for (index, (func, code)) in (0u32..).zip(payload.funcs().zip(code)) {
        let (body, cold) = ways.objects.ranges_of(&func, index)?;
        let outside = Error::entry(Reason::FuncOutside, Table::Funcs, index);
        let at = u64::from(index)
            .checked_mul(TRAMPOLINE_SIZE as u64)
            .and_then(|offset| base.checked_add(offset))
            .ok_or(outside)?;
        let new = usize::try_from(func.symbol)
            .ok()
            .and_then(|symbol| ways.values.get(symbol))
            .ok_or(outside)?;
        let site = body
            .start
            .checked_add(u64::from(func.fentry))
            .ok_or(outside)?;
        let resume = site.checked_add(trampoline::FENTRY_SIZE).ok_or(outside)?;
        let leads = trampoline::Ways {
            original: resume,
            new: *new,
            ask: stragglers::ask_address(),
        };
        let far = Error::entry(Reason::RelocationOverflow, Table::Funcs, index);
        let jump = trampoline::encode(at, ways.flag, &leads).ok_or(far)?;
        code.copy_from_slice(&jump);
        let name = payload.string(func.name);
        let function = Function {
            body,
            site,
            new: *new,
            inside: Range {
                start: site.saturating_add(1),
                end: body.end,
            },
            cold,
            trampoline: at,
            name: CString::try_from_fmt(fmt!("{name}")).map_err(out_of_memory)?,
        };
        functions
            .push(function, GFP_KERNEL)
            .map_err(out_of_memory)?;
    }
    Ok(functions)
}

fn relocate(
    payload: &Trusted<'_>,
    plan: &Plan,
    values: &[u64],
    resident: &mut Resident,
    report: &mut Report,
) -> Result<(), Error> {
    pr_info!("{} relocations to fixup...\n", payload.nr_relocations());
    let mut fixed: u32 = 0;
    for section in payload.sections() {
        let Some(target) = section.target().and_then(|index| payload.section(index)) else {
            continue;
        };
        let Some(slot) = plan.slot(target.index) else {
            continue;
        };
        let base = plan.address(target.index, resident).unwrap_or(0);
        let content = section_bytes(resident, slot, target.size, report)?;
        let relocations = payload.relocations(&section);
        let done = reloc::apply_all(relocations, section.index, content, base, values)?;
        fixed = fixed.saturating_add(done);
    }
    pr_info!("fixed {} relocations\n", fixed);
    Ok(())
}

/// The section headers with the addresses where the sections were placed, as `module_finalize()` wants.
fn section_headers(
    payload: &Trusted<'_>,
    plan: &Plan,
    resident: &Resident,
) -> Result<KVVec<SectionHeader>, Error> {
    let mut headers = KVVec::new();
    for index in 0..payload.nr_sections() {
        let raw = payload
            .elf()
            .header(index)
            .ok_or(Error::section(Reason::SectionRange, index))?;
        let header = SectionHeader {
            name: raw.name,
            kind: raw.kind,
            flags: raw.flags,
            addr: match payload.section(index) {
                Some(section) if section.is_alloc() => plan
                    .address(index, resident)
                    .ok_or(Error::section(Reason::Internal, index))?,
                // No C code takes it, whatever its type: `payload::special` has seen to its name.
                _ => 0,
            },
            offset: raw.offset,
            size: raw.size,
            link: raw.link,
            info: raw.info,
            align: raw.addralign,
            entry_size: raw.entsize,
        };
        headers.push(header, GFP_KERNEL).map_err(out_of_memory)?;
    }
    Ok(headers)
}

/// The arrays that `struct module` points to, found by name as `find_module_sections()` does.
fn tables(payload: &Trusted<'_>, plan: &Plan) -> Tables {
    let mut tables = Tables::default();
    for section in payload.sections() {
        let table = match section.name {
            special::EX_TABLE => &mut tables.extable,
            special::JUMP_TABLE => &mut tables.jump_table,
            special::STATIC_CALLS => &mut tables.static_calls,
            special::MCOUNT => &mut tables.mcount,
            special::DEBUG_MESSAGES => &mut tables.debug_messages,
            special::NO_PROBES => &mut tables.no_probes,
            _ => continue,
        };
        if let Some(slot) = plan.slot(section.index) {
            *table = Some((slot.region, slot.offset, section.size));
        }
    }
    tables
}

/// What `kallsyms` and stack traces print: all symbols of the payload that have an address and a name.
fn kallsyms(payload: &Trusted<'_>, values: &[u64]) -> Result<Kallsyms, Error> {
    let mut out = Kallsyms {
        symbols: VVec::new(),
        strings: VVec::new(),
        types: VVec::new(),
    };
    let empty = Symbol {
        name: 0,
        info: 0,
        other: 0,
        section: 0,
        value: 0,
        size: 0,
    };
    out.strings.push(0, GFP_KERNEL).map_err(out_of_memory)?;
    out.symbols.push(empty, GFP_KERNEL).map_err(out_of_memory)?;
    out.types.push(b'?', GFP_KERNEL).map_err(out_of_memory)?;

    for (symbol, value) in payload.symbols().zip(values) {
        let Home::Section(section) = symbol.home else {
            continue;
        };
        if symbol.name.is_empty() || symbol.kind == SymbolKind::Section {
            continue;
        }
        let letter = match payload.section(section).as_ref().and_then(Region::of) {
            Some(Region::Text) => b't',
            Some(Region::Data) => b'd',
            _ => b'r',
        };
        let entry = Symbol {
            name: u32::try_from(out.strings.len()).map_err(out_of_memory)?,
            // STB_LOCAL, STT_FUNC or STT_OBJECT.
            info: if letter == b't' { 2 } else { 1 },
            // Any but SHN_UNDEF; the value is absolute.
            section: 1,
            value: *value,
            size: symbol.size,
            ..empty
        };
        out.symbols.push(entry, GFP_KERNEL).map_err(out_of_memory)?;
        out.types.push(letter, GFP_KERNEL).map_err(out_of_memory)?;
        out.strings
            .extend_from_slice(symbol.name.as_bytes(), GFP_KERNEL)
            .map_err(out_of_memory)?;
        out.strings.push(0, GFP_KERNEL).map_err(out_of_memory)?;
    }
    Ok(out)
}
