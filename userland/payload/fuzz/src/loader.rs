// SPDX-License-Identifier: GPL-2.0

//! A model of the loader, rust-kmod/loader.rs, and what it and the kernel's C code behind it take for granted about a payload
//! that has been accepted. Whatever does not hold is a panic.
//!
//! It does the loader's steps on plain memory, and where it can it computes the result in a way of its own: places, values
//! of relocations, and the names of sections as strcmp() sees them.

use kcare_payload::bundle::Bundle;
use kcare_payload::check::Payload;
use kcare_payload::description::effective_version;
use kcare_payload::elf::{Home, Section, SectionKind, SymbolKind};
use kcare_payload::error::{Error, Place, Reason};
use kcare_payload::layout::{
    Extern, Func, BUILD_ID_MAX, MASK_ANY, MASK_MATCH, MAX_DESCRIPTION, MAX_REGION, MAX_RELEASE,
    MAX_SYMBOL_NAMES, OBJECT_OUTER, REGION_PERCPU, TRAMPOLINE_FILL, TRAMPOLINE_SIZE,
};
use kcare_payload::place::{self, Layout, Region, Slot};
use kcare_payload::ranges::{Range, Ranges};
use kcare_payload::{preimage, reloc, trampoline};
use std::collections::BTreeMap;

/// Where vmlinux is.
const VMLINUX: u64 = 0xffff_ffff_8100_0000;
/// Where the regions of a level are, and where those of a part.
const LEVEL: u64 = 0xffff_ffff_c000_0000;
const PART: u64 = 0xffff_ffff_d000_0000;
/// From one region to the next, which is more than a region can have.
const REGION_STEP: u64 = 1 << 25;
/// Where other modules are.
const MODULES: u64 = 0xffff_ffff_f000_0000;
/// A region above this size is only planned, to spare the fuzzer's time.
const MAX_COPIED: u64 = 1 << 20;

/// Reads a payload as the kernel does and loads it; the number of its parts.
///
/// # Errors
///
/// Why it is refused, and whether that is about a part.
pub fn load(body: &[u8]) -> Result<u32, (Error, bool)> {
    let bundle = Bundle::parse(body).map_err(|refusal| {
        check_error(&refusal.error);
        (refusal.error, refusal.part.is_some())
    })?;
    let outer = bundle.outer();
    assert_eq!(outer.target(), 0);
    check(outer, body);
    place_and_relocate(outer, LEVEL).map_err(|error| (error, false))?;

    let mut previous = "";
    let mut count = 0;
    for part in bundle.parts() {
        let payload = &part.payload;
        assert!(previous < part.name, "parts are in order");
        previous = part.name;
        count += 1;
        assert_ne!(payload.target(), 0);
        let target = payload.object(payload.target()).expect("it exists");
        assert_eq!(payload.string(target.name), part.name);
        assert_eq!(payload.level(), outer.level());
        assert_eq!(payload.release(), outer.release());
        assert_eq!(payload.description(), outer.description());
        assert_eq!(payload.manifest().floor, outer.manifest().floor);
        assert_eq!(
            payload.object(0).map(|o| o.build_id),
            outer.object(0).map(|o| o.build_id)
        );
        let manifest = payload.manifest();
        assert_eq!(
            (manifest.nr_fixes, manifest.nr_states, manifest.nr_parts),
            (0, 0, 0),
            "only the payload around has them"
        );
        // Its ELF header is read in place.
        assert!((part.body.as_ptr() as usize - body.as_ptr() as usize) % 8 == 0);
        check(payload, part.body);
        place_and_relocate(payload, PART).map_err(|error| (error, true))?;
        let again = bundle.part(part.name).expect("it is found by name");
        assert_eq!(again.body, part.body);
    }
    assert_eq!(count, outer.manifest().nr_parts);
    Ok(count)
}

/// A refusal can be printed, and user space gets it back out of the two words.
fn check_error(error: &Error) {
    assert!(!error.to_string().is_empty());
    assert_eq!(Reason::try_from(error.reason.number()), Ok(error.reason));
    assert!(error.reason.errno() > 0);
    assert_eq!(Place::from_raw(error.place.raw()), Some(error.place));
}

/// What follows from a payload's form alone.
fn check(payload: &Payload<'_>, body: &[u8]) {
    check_counts(payload);
    check_texts(payload);
    check_file(payload, body);
    check_tables(payload);
    check_symbols(payload);
    check_funcs(payload);
}

fn check_counts(payload: &Payload<'_>) {
    let manifest = payload.manifest();
    let counts = [
        (payload.sections().count(), payload.nr_sections()),
        (payload.symbols().count(), payload.nr_symbols()),
        (payload.objects().count(), manifest.nr_objects),
        (payload.funcs().count(), manifest.nr_funcs),
        (payload.externs().count(), manifest.nr_externs),
        (payload.fixes().count(), manifest.nr_fixes),
        (payload.callbacks().count(), manifest.nr_callbacks),
        (payload.states().count(), manifest.nr_states),
        (payload.part_sections().count(), manifest.nr_parts),
    ];
    for (number, (counted, said)) in counts.into_iter().enumerate() {
        assert_eq!(counted, said as usize, "count {number}");
    }
    assert_ne!(payload.level(), 0);
    assert!(manifest.floor <= payload.level());
    assert!(payload.states().map(|s| s.id).is_sorted_by(|a, b| a < b));
    assert!(payload.states().all(|state| state.id != 0));
    assert!(payload
        .callbacks()
        .map(|c| c.kind)
        .is_sorted_by(|a, b| a < b));
    for object in payload.objects() {
        assert!((4..=BUILD_ID_MAX).contains(&object.id().len()));
    }
}

/// Whatever is shown to people is one line.
fn check_texts(payload: &Payload<'_>) {
    assert!((1..=MAX_RELEASE).contains(&payload.release().len()));
    assert!(payload.description().len() <= MAX_DESCRIPTION);
    if let Some(version) = effective_version(payload.description(), payload.level()) {
        assert!(!version.is_empty() && !version.contains(char::is_whitespace));
    }
    let fixes = payload.fixes().flat_map(|fix| [fix.id, fix.title]);
    let objects = payload.objects().map(|object| object.name);
    let funcs = payload.funcs().map(|func| func.name);
    let strings = fixes
        .chain(objects)
        .chain(funcs)
        .map(|at| payload.string(at));
    for text in strings.chain([payload.release(), payload.description()]) {
        assert!(
            !text.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{text:?}"
        );
    }
    for object in payload.objects().skip(1) {
        // A module's name goes into a path.
        let name = payload.string(object.name);
        assert!(name.len() < 56 && !name.is_empty() && !name.contains('/'));
    }
}

/// The string at an offset as C reads it.
fn c_string(table: &[u8], at: u32) -> &[u8] {
    let rest = &table[at as usize..];
    let end = rest.iter().position(|byte| *byte == 0);
    &rest[..end.expect("it ends within its table")]
}

/// module_finalize() gets the file and its section headers, and believes both.
fn check_file(payload: &Payload<'_>, body: &[u8]) {
    let half = |at: usize| u32::from(u16::from_le_bytes([body[at], body[at + 1]]));
    assert_eq!(half(60), payload.nr_sections());
    let names = payload
        .section(half(62))
        .expect("the table of names exists");
    assert_eq!(names.kind, SectionKind::StrTab);
    let mut end = 64;
    for section in payload.sections().skip(1) {
        let header = payload.elf().header(section.index).expect("it exists");
        assert_eq!(c_string(names.data, header.name), section.name.as_bytes());
        assert!(!section.name.is_empty());
        assert!(!(section.is_write() && section.is_exec()), "W^X");
        assert!(section.align.is_power_of_two() && section.align <= 4096);
        assert_eq!(header.addr, 0);
        if section.kind != SectionKind::NoBits {
            assert!(header.offset >= end, "sections do not overlap in the file");
            end = header.offset + header.size;
            let data = &body[header.offset as usize..end as usize];
            assert!(std::ptr::eq(data, section.data));
        }
    }
    assert!(end as usize + 64 * payload.nr_sections() as usize <= body.len());
}

/// What the kernel's C code takes by name: size of an entry, its alignment, and whether entries are written, while a level
/// is live or when it comes.
const TABLES: [(&str, u64, u64, bool); 14] = [
    ("__ex_table", 12, 4, false),
    ("__jump_table", 16, 8, true),
    ("__bug_table", 16, 4, true),
    ("__mcount_loc", 8, 8, false),
    ("_kprobe_blacklist", 8, 8, false),
    ("__dyndbg", 56, 8, true),
    (".static_call_sites", 8, 4, true),
    (".altinstructions", 14, 1, false),
    (".smp_locks", 4, 4, false),
    (".return_sites", 4, 4, false),
    (".retpoline_sites", 4, 4, false),
    (".call_sites", 4, 4, false),
    (".orc_unwind", 6, 2, false),
    (".orc_unwind_ip", 4, 4, false),
];
/// Names that no C code takes, or their beginnings, with the flags that go with them: writable, executable.
const PLAIN: [(&str, bool, bool); 5] = [
    (".text", false, true),
    (".altinstr_replacement", false, true),
    (".rodata", false, false),
    (".data", true, false),
    (".bss", true, false),
];

fn check_tables(payload: &Payload<'_>) {
    let mut entries = BTreeMap::new();
    for section in payload.sections().skip(1) {
        let name = section.name;
        if let Some(&(_, entry, align, written)) = TABLES.iter().find(|(table, ..)| *table == name)
        {
            assert!(
                section.is_alloc() && section.kind == SectionKind::ProgBits,
                "{name}"
            );
            assert!(
                !section.is_exec() && section.is_write() == written,
                "{name}"
            );
            assert!(
                section.size % entry == 0 && section.align >= align,
                "{name}"
            );
            let former = entries.insert(name, section.size / entry);
            assert_eq!(former, None, "{name} is there once");
        } else if section.is_alloc() {
            let known = |&&(plain, ..): &&(&str, bool, bool)| {
                name == plain || name.starts_with(&format!("{plain}."))
            };
            let (_, write, exec) = PLAIN.iter().find(known).expect("a name of the list");
            assert_eq!(
                (section.is_write(), section.is_exec()),
                (*write, *exec),
                "{name}"
            );
            assert!(!name.starts_with(".data..percpu"));
        } else {
            let target = section.target().and_then(|index| payload.section(index));
            let good = match section.kind {
                SectionKind::SymTab => name == ".symtab",
                SectionKind::StrTab => [".strtab", ".shstrtab"].contains(&name),
                SectionKind::Rela => name.strip_prefix(".rela") == target.map(|t| t.name),
                _ => name.starts_with(".kcare."),
            };
            assert!(good, "{name}");
        }
    }
    // unwind_module_init() sorts both by the number of one.
    let unwind = [".orc_unwind", ".orc_unwind_ip"].map(|name| entries.get(name));
    assert_eq!(unwind[0], unwind[1], "unwind tables");
}

fn check_symbols(payload: &Payload<'_>) {
    let mut undefined = payload.externs().map(|external| external.symbol);
    for symbol in payload.symbols() {
        match symbol.home {
            Home::Section(index) => {
                let section = payload.section(index).expect("its section exists");
                assert!(section.is_alloc());
                let end = symbol.value.checked_add(symbol.size);
                assert!(end.is_some_and(|end| end <= section.size), "a symbol's end");
            }
            Home::Undefined => assert_eq!(undefined.next(), Some(symbol.index)),
            Home::Nowhere => {}
        }
    }
    assert_eq!(undefined.next(), None);
    for section in payload.sections() {
        let Some(target) = section.target() else {
            assert_eq!(payload.relocations(&section).len(), 0);
            continue;
        };
        let target = payload.section(target).expect("its target exists");
        assert!(target.is_alloc() && target.kind == SectionKind::ProgBits);
        assert!(
            !payload.is_trampolines(&target),
            "nobody relocates trampolines"
        );
        let relocations = payload.relocations(&section);
        assert_eq!(relocations.count(), section.data.len() / 24);
        assert!(payload
            .relocations(&section)
            .all(|r| r.symbol < payload.nr_symbols()));
    }
}

fn check_funcs(payload: &Payload<'_>) {
    let mut ranges = Vec::new();
    for func in payload.funcs() {
        assert_eq!(func.object, payload.target());
        assert_ne!(func.size, 0);
        ranges.push(range(func.offset, func.size));
        if func.cold_size != 0 {
            ranges.push(range(func.cold_offset, func.cold_size));
        }
        check_preimage(payload, &func);
        check_code(payload, func.symbol);
    }
    for callback in payload.callbacks() {
        assert!(callback.kind < 4);
        check_code(payload, callback.symbol);
    }
    // A word on a stack belongs to one function.
    ranges.sort();
    let sorted = Ranges::new(&ranges).expect("no range overlaps another");
    for (index, range) in ranges.iter().enumerate() {
        assert_eq!(sorted.find(range.start), Some(index));
        assert_eq!(sorted.find(range.end - 1), Some(index));
    }
}

fn range(start: u64, size: u32) -> Range {
    let end = start.checked_add(size.into()).expect("it ends");
    Range { start, end }
}

/// The code that a pre-image allows matches, and the fentry site may hold anything.
fn check_preimage(payload: &Payload<'_>, func: &Func) {
    let (image, mask) = payload.preimage(func);
    let size = func.size as usize;
    assert_eq!((image.len(), mask.len()), (size, size));
    let mut code = image.to_vec();
    let site = func.fentry as usize;
    code[site..site + 5].copy_from_slice(&[0xe8, 1, 2, 3, 4]);
    assert_eq!(preimage::compare(&code, image, mask), None);
    assert!(mask
        .iter()
        .all(|byte| [MASK_ANY, MASK_MATCH].contains(byte)));
    if let Some(fixed) = mask.iter().position(|byte| *byte == MASK_MATCH) {
        code[fixed] ^= 1;
        assert_eq!(preimage::compare(&code, image, mask), Some(fixed));
    }
}

/// A symbol that is called is code of the payload's own.
fn check_code(payload: &Payload<'_>, symbol: u32) {
    let symbol = payload.symbol(symbol).expect("the symbol exists");
    let section = payload.section(symbol.section().expect("it is defined"));
    let section = section.expect("its section exists");
    assert!(section.is_exec() && !payload.is_trampolines(&section));
    assert!(symbol.kind == SymbolKind::Func && symbol.size != 0);
}

/// A level in the making.
struct Memory {
    /// By section index.
    slots: Vec<Option<Slot>>,
    /// By number of the region.
    regions: [Vec<u8>; 4],
    /// Address of region 0; others follow.
    base: u64,
}

impl Memory {
    fn region(&self, region: Region) -> u64 {
        self.base + REGION_STEP * region.index() as u64
    }

    fn address(&self, section: u32) -> Option<u64> {
        let slot = self.slots[section as usize]?;
        Some(self.region(slot.region) + slot.offset)
    }

    fn bytes(&mut self, slot: Slot, size: u64) -> &mut [u8] {
        let start = slot.offset as usize;
        &mut self.regions[slot.region.index()][start..start + size as usize]
    }
}

/// The loader's steps, up to relocation.
fn place_and_relocate(payload: &Payload<'_>, base: u64) -> Result<(), Error> {
    let layout = Layout::of(payload)?;
    let slots = plan(payload, &layout);
    check_names(payload);
    if Region::ALL
        .iter()
        .any(|region| layout.extent(*region).size > MAX_COPIED)
    {
        return Ok(());
    }
    let regions = Region::ALL.map(|region| vec![0; layout.extent(region).size as usize]);
    let mut memory = Memory {
        slots,
        regions,
        base,
    };
    let values = symbol_values(payload, &memory);
    for section in payload.sections().filter(place::has_content) {
        if let Some(slot) = memory.slots[section.index as usize] {
            let bytes = memory.bytes(slot, section.size);
            assert!(bytes.iter().all(|byte| *byte == 0), "nobody else's memory");
            bytes.copy_from_slice(section.data);
        }
    }
    write_trampolines(payload, &mut memory, &values);
    payload
        .sections()
        .try_for_each(|section| relocate(payload, &section, &mut memory, &values))
}

/// Where layout_sections() of the kernel would put a section.
fn region_of(section: &Section<'_>) -> Option<Region> {
    let late = ["__jump_table", ".static_call_sites", ".data..ro_after_init"];
    match (section.is_alloc(), section.is_exec(), section.is_write()) {
        (false, ..) => None,
        (true, true, _) => Some(Region::Text),
        (true, false, false) => Some(Region::RoData),
        (true, false, true) if late.contains(&section.name) => Some(Region::RoAfterInit),
        (true, false, true) => Some(Region::Data),
    }
}

/// Places of all sections, which must be those that follow from their order.
fn plan(payload: &Payload<'_>, layout: &Layout) -> Vec<Option<Slot>> {
    let mut slots = vec![None; payload.nr_sections() as usize];
    for (section, slot) in place::slots(payload) {
        let before = slots[section.index as usize].replace(slot);
        assert_eq!(before, None, "one place for each");
    }
    let mut ends = [0; 4];
    let first = payload.sections().filter(|s| payload.is_trampolines(s));
    let others = payload.sections().filter(|s| !payload.is_trampolines(s));
    for section in first.chain(others) {
        let wanted = region_of(&section).map(|region| {
            let end: &mut u64 = &mut ends[region.index()];
            let offset = end.next_multiple_of(section.align);
            *end = offset + section.size;
            Slot { region, offset }
        });
        assert_eq!(slots[section.index as usize], wanted, "{}", section.name);
    }
    for region in Region::ALL {
        let extent = layout.extent(region);
        assert_eq!(extent.size, ends[region.index()]);
        assert!(extent.size <= MAX_REGION && extent.align.is_power_of_two());
    }
    slots
}

/// What kallsyms will hold fits into the memory that is set aside for it.
fn check_names(payload: &Payload<'_>) {
    let shown = |s: &kcare_payload::elf::Symbol<'_>| s.kind != SymbolKind::Section;
    let lengths = payload.symbols().filter(shown).map(|s| s.name.len());
    assert!(lengths.sum::<usize>() <= MAX_SYMBOL_NAMES);
}

fn symbol_values(payload: &Payload<'_>, memory: &Memory) -> Vec<u64> {
    let mut values = vec![0; payload.nr_symbols() as usize];
    for symbol in payload.symbols() {
        if let Home::Section(section) = symbol.home {
            let base = memory.address(section).expect("it takes memory");
            values[symbol.index as usize] = base + symbol.value;
        }
    }
    for external in payload.externs() {
        let base = object_base(payload, &external);
        values[external.symbol as usize] = base.wrapping_add(external.offset);
    }
    values
}

fn object_base(payload: &Payload<'_>, external: &Extern) -> u64 {
    let region = u64::from(external.region);
    match external.object {
        0 => {
            assert_eq!(region, 0, "vmlinux has one base");
            VMLINUX
        }
        OBJECT_OUTER => {
            assert!(payload.target() != 0 && region < 4);
            LEVEL + REGION_STEP * region
        }
        object => {
            assert!(object < payload.nr_objects());
            assert!(region < 4 || external.region == REGION_PERCPU);
            MODULES + (u64::from(object) << 20) + (region << 16)
        }
    }
}

/// The code of a trampoline, whose form is the business of tests/trampoline.rs.
fn trampoline(at: u64, flag: u64, original: u64, new: u64) -> Option<[u8; TRAMPOLINE_SIZE]> {
    let ways = trampoline::Ways {
        original,
        new,
        ask: original,
    };
    trampoline::encode(at, flag, &ways)
}

fn write_trampolines(payload: &Payload<'_>, memory: &mut Memory, values: &[u64]) {
    let at = memory.region(Region::Text);
    let flag = memory.region(Region::Data);
    let text = &mut memory.regions[Region::Text.index()];
    let mut codes = text.chunks_exact_mut(TRAMPOLINE_SIZE);
    for (number, func) in (0..).zip(payload.funcs()) {
        let code = codes.next().expect("a place for each");
        assert!(
            code.iter().all(|byte| *byte == TRAMPOLINE_FILL),
            "and its own"
        );
        let at = at + number * TRAMPOLINE_SIZE as u64;
        let site = VMLINUX
            .wrapping_add(func.offset)
            .wrapping_add(func.fentry.into());
        let new = values[func.symbol as usize];
        if let Some(made) = trampoline(at, flag, site.wrapping_add(5), new) {
            code.copy_from_slice(&made);
        }
    }
}

/// The field of a relocation, by the psABI and arch/x86/kernel/module.c; `None` if the value does not fit.
fn field(kind: u32, symbol: u64, addend: i64, place: u64) -> Option<Vec<u8>> {
    let absolute = symbol.wrapping_add(addend as u64);
    let relative = absolute.wrapping_sub(place);
    // A field of 32 bits holds what becomes the value again, with zeroes or with the sign.
    let signed = |value: u64| (i64::from(value as i32) as u64 == value).then_some(value);
    let (width, value) = match kind {
        1 => (8, Some(absolute)),
        24 => (8, Some(relative)),
        10 => (4, Some(absolute).filter(|value| value >> 32 == 0)),
        11 => (4, signed(absolute)),
        2 | 4 => (4, signed(relative)),
        _ => panic!("there is no relocation of type {kind}"),
    };
    Some(value?.to_le_bytes()[..width].to_vec())
}

fn relocate(
    payload: &Payload<'_>,
    section: &Section<'_>,
    memory: &mut Memory,
    values: &[u64],
) -> Result<(), Error> {
    let Some(target) = section.target() else {
        return Ok(());
    };
    let target = payload.section(target).expect("it exists");
    let base = memory.address(target.index).expect("it takes memory");
    let slot = memory.slots[target.index as usize].expect("it takes memory");
    let content = memory.bytes(slot, target.size);

    let mut wanted = content.to_vec();
    let mut verdict = Ok(0);
    for (index, r) in (0..).zip(payload.relocations(section)) {
        let value = values[r.symbol as usize];
        let Some(field) = field(r.kind.number(), value, r.addend, base + r.offset) else {
            let section = section.index;
            let place = Place::Relocation { section, index };
            verdict = Err(Error::new(Reason::RelocationOverflow, place));
            break;
        };
        let start = r.offset as usize;
        let bytes = &mut wanted[start..start + field.len()];
        assert!(bytes.iter().all(|byte| *byte == 0), "a field is free");
        bytes.copy_from_slice(&field);
        verdict = Ok(index + 1);
    }
    let relocations = payload.relocations(section);
    let done = reloc::apply_all(relocations, section.index, content, base, values);
    assert_eq!(done, verdict);
    assert!(
        *content == wanted,
        "each field has its value, and no byte beside them another"
    );
    done.map(drop)
}
