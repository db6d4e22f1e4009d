// SPDX-License-Identifier: GPL-2.0

//! The check of a whole payload: once [`Payload::parse`] has accepted it, nothing in it can be wrong
//! in form, and every access is infallible.

use super::{
    elf::{
        count,
        entry,
        slice,
        to_u64,
        Elf,
        Home,
        Relocations,
        Section,
        SectionKind,
        Strings,
        Symbol,
        SymbolKind, //
    },
    error::{
        Error,
        Reason,
        Table, //
    },
    layout::{
        Callback,
        Extern,
        Fix,
        Func,
        Manifest,
        Object,
        State,
        BUILD_ID_MAX,
        CALLBACK_POST_UNPATCH,
        MAGIC,
        MANIFEST_FLAGS,
        MASK_ANY,
        MASK_MATCH,
        MAX_COLD_PARTS,
        MAX_DESCRIPTION,
        MAX_FIXES,
        MAX_FUNCS,
        MAX_FUNC_SIZE,
        MAX_OBJECTS,
        MAX_RELEASE,
        MAX_STATES,
        MAX_SYMBOLS,
        MAX_ZEROES,
        OBJECT_OUTER,
        REGION_PERCPU,
        SEC_CALLBACKS,
        SEC_EXTERNS,
        SEC_FIXES,
        SEC_FUNCS,
        SEC_MANIFEST,
        SEC_OBJECTS,
        SEC_PART,
        SEC_PREIMAGES,
        SEC_STATES,
        SEC_STRINGS,
        SEC_TRAMPOLINES,
        TRAMPOLINE_FILL,
        TRAMPOLINE_SIZE,
        VERSION, //
    },
    place::Region,
    special,
    trampoline::FENTRY_SIZE, //
};

/// What every section of ours is called in front of its own name.
const PREFIX: &str = ".kcare.";
/// Name of object 0.
const VMLINUX: &str = "vmlinux";
/// `MODULE_NAME_LEN` (include/linux/moduleparam.h), NUL included.
const MODULE_NAME_LEN: usize = 56;
/// Alignment of `Elf64_Ehdr`.
const PART_ALIGN: u64 = 8;
/// Kinds of callbacks, of which a payload has one each at most.
const NR_KINDS: usize = 4;
/// A payload, or a module's part of one, that is right in form.
///
/// # Invariants
///
/// * `elf` is what [`Elf::parse`] accepts.
/// * Each table is as long as the manifest says, and every entry refers to an object, symbol, string
///   and pre-image that exist.
/// * Functions are ascending, all in the object that is patched, and do not overlap; their pre-images tile their table; fentry sites are
///   free in the masks.
/// * The external symbols are exactly the undefined symbols.
/// * Every section has a name of the list in [`special`], and the form that goes with it.
/// * `trampolines` is the index of [`SEC_TRAMPOLINES`], which is as [`Payload::trampolines`] says.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    elf: Elf<'a>,
    manifest: Manifest,
    objects: &'a [u8],
    funcs: &'a [u8],
    externs: &'a [u8],
    fixes: &'a [u8],
    callbacks: &'a [u8],
    states: &'a [u8],
    preimages: &'a [u8],
    strings: Strings<'a>,
    trampolines: u32,
}

impl<'a> Payload<'a> {
    /// Walks a payload without its signature and checks all of it, but for what is in its parts
    /// ([`super::bundle::Bundle::parse`]).
    ///
    /// # Errors
    ///
    /// One [`Reason`] with the place: what [`Elf::parse`] refuses first, then the manifest, then the
    /// tables in the order of [`Table`], then the trampolines.
    pub fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let elf = Elf::parse(body)?;
        let sections = Sections::find(&elf)?;
        let manifest = sections.manifest(&elf)?;
        sections.check_sizes(&elf, &manifest)?;
        let data = |table| sections.data(&elf, table);
        let strings = Strings::new(data(Table::Strings)).map_err(|(reason, at)| {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            Error::entry(reason, Table::Strings, at)
        })?;
        // INVARIANT: the steps below check the rest, each relying on those in front of it only.
        let payload = Self {
            elf,
            manifest,
            objects: data(Table::Objects),
            funcs: data(Table::Funcs),
            externs: data(Table::Externs),
            fixes: data(Table::Fixes),
            callbacks: data(Table::Callbacks),
            states: data(Table::States),
            preimages: data(Table::Preimages),
            strings,
            trampolines: sections.trampolines,
        };
        payload.check_names()?;
        payload.check_objects()?;
        payload.check_target()?;
        payload.check_funcs()?;
        payload.check_cold_parts()?;
        payload.check_externs()?;
        payload.check_fixes()?;
        payload.check_callbacks()?;
        payload.check_states()?;
        payload.check_trampolines()?;
        Ok(payload)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Patch level, 1 or more.
    pub fn level(&self) -> u32 {
        self.manifest.level
    }

    /// Kernel release that it was built for; not empty, at most [`MAX_RELEASE`] bytes.
    pub fn release(&self) -> &'a str {
        self.string(self.manifest.release)
    }

    /// One line of description; may be empty, at most [`MAX_DESCRIPTION`] bytes.
    pub fn description(&self) -> &'a str {
        self.string(self.manifest.description)
    }

    /// Build time in seconds since 1970.
    pub fn build_time(&self) -> u64 {
        self.manifest.build_time
    }

    /// The string at an offset that a table of this payload holds; empty for any other offset that is
    /// wrong.
    pub fn string(&self, offset: u32) -> &'a str {
        self.strings.get(offset).unwrap_or("")
    }

    /// Number of objects, 1 or more.
    pub fn nr_objects(&self) -> u32 {
        self.manifest.nr_objects
    }

    /// Object with an index; 0 is vmlinux.
    pub fn object(&self, index: u32) -> Option<Object> {
        entry(self.objects, index).map(Object::decode)
    }

    /// Index of the object that is patched; 0 is vmlinux.
    pub fn target(&self) -> u32 {
        self.manifest.target
    }

    /// All objects; the first is vmlinux.
    pub fn objects(&self) -> impl Iterator<Item = Object> + 'a {
        let payload = *self;
        (0..payload.nr_objects()).filter_map(move |index| payload.object(index))
    }

    /// Number of redirected functions; 0 only if there are parts or callbacks.
    pub fn nr_funcs(&self) -> u32 {
        self.manifest.nr_funcs
    }

    /// Redirected function with an index.
    pub fn func(&self, index: u32) -> Option<Func> {
        entry(self.funcs, index).map(Func::decode)
    }

    /// All redirected functions, ascending by object, region and offset.
    pub fn funcs(&self) -> impl Iterator<Item = Func> + 'a {
        let payload = *self;
        (0..payload.nr_funcs()).filter_map(move |index| payload.func(index))
    }

    /// The pre-image of one of this payload's functions: code and mask, each `func.size` bytes.
    pub fn preimage(&self, func: &Func) -> (&'a [u8], &'a [u8]) {
        let size = u64::from(func.size);
        let start = u64::from(func.preimage);
        let part = |at| slice(self.preimages, at, size).unwrap_or(&[]);
        (part(start), part(start.saturating_add(size)))
    }

    /// All external symbols, ascending by symbol index.
    pub fn externs(&self) -> impl Iterator<Item = Extern> + 'a {
        let table = self.externs;
        let range = 0..self.manifest.nr_externs;
        range.filter_map(move |index| entry(table, index).map(Extern::decode))
    }

    /// All fixes.
    pub fn fixes(&self) -> impl Iterator<Item = Fix> + 'a {
        let table = self.fixes;
        let range = 0..self.manifest.nr_fixes;
        range.filter_map(move |index| entry(table, index).map(Fix::decode))
    }

    /// All callbacks, at most one of each kind, ascending by kind.
    pub fn callbacks(&self) -> impl Iterator<Item = Callback> + 'a {
        let table = self.callbacks;
        let range = 0..self.manifest.nr_callbacks;
        range.filter_map(move |index| entry(table, index).map(Callback::decode))
    }

    /// All states, ascending by id.
    pub fn states(&self) -> impl Iterator<Item = State> + 'a {
        let table = self.states;
        let range = 0..self.manifest.nr_states;
        range.filter_map(move |index| entry(table, index).map(State::decode))
    }

    /// The sections that hold the parts for modules, with the names of the modules; not yet looked into.
    pub fn part_sections(&self) -> impl Iterator<Item = (&'a str, Section<'a>)> + 'a {
        let named = |s: Section<'a>| Some((s.name.strip_prefix(SEC_PART)?, s));
        self.sections().filter_map(named)
    }

    /// The ELF object.
    pub fn elf(&self) -> &Elf<'a> {
        &self.elf
    }

    /// Number of sections, section 0 included.
    pub fn nr_sections(&self) -> u32 {
        self.elf.nr_sections()
    }

    /// The section with an index.
    pub fn section(&self, index: u32) -> Option<Section<'a>> {
        self.elf.section(index)
    }

    /// All sections, section 0 included, ascending by index.
    pub fn sections(&self) -> impl Iterator<Item = Section<'a>> + 'a {
        self.elf.sections()
    }

    /// Number of symbols, symbol 0 included.
    pub fn nr_symbols(&self) -> u32 {
        self.elf.nr_symbols()
    }

    /// The symbol with an index.
    pub fn symbol(&self, index: u32) -> Option<Symbol<'a>> {
        self.elf.symbol(index)
    }

    /// All symbols, symbol 0 included, ascending by index.
    pub fn symbols(&self) -> impl Iterator<Item = Symbol<'a>> + 'a {
        self.elf.symbols()
    }

    /// The relocations that a section holds; none if it is not [`SectionKind::Rela`].
    pub fn relocations(&self, section: &Section<'a>) -> Relocations<'a> {
        self.elf.relocations(section)
    }

    /// Number of relocations in all sections.
    pub fn nr_relocations(&self) -> usize {
        self.elf.nr_relocations()
    }

    /// The trampolines' section: executable content, aligned to [`TRAMPOLINE_SIZE`] at least, one
    /// trampoline for each function, without relocations.
    pub fn trampolines(&self) -> Option<Section<'a>> {
        self.section(self.trampolines)
    }

    /// Whether a section of this payload is the trampolines' one.
    pub fn is_trampolines(&self, section: &Section<'_>) -> bool {
        section.index == self.trampolines
    }

    /// The string at an offset, for an entry of a table.
    fn checked(&self, offset: u32, limit: usize) -> Result<&'a str, Reason> {
        let string = self.strings.get(offset)?;
        if string.len() > limit {
            return Err(Reason::StringTooLong);
        }
        Ok(string)
    }

    /// The string at an offset, which must not be empty.
    fn checked_name(&self, offset: u32, limit: usize) -> Result<&'a str, Reason> {
        match self.checked(offset, limit)? {
            "" => Err(Reason::StringEmpty),
            string => Ok(string),
        }
    }

    fn check_names(&self) -> Result<(), Error> {
        self.checked_name(self.manifest.release, MAX_RELEASE)
            .map_err(|reason| Error::entry(reason, Table::Manifest, field::RELEASE))?;
        self.checked(self.manifest.description, MAX_DESCRIPTION)
            .map_err(|reason| Error::entry(reason, Table::Manifest, field::DESCRIPTION))?;
        Ok(())
    }

    fn check_objects(&self) -> Result<(), Error> {
        let fail = |reason, index| Error::entry(reason, Table::Objects, index);
        if self.nr_objects() == 0 {
            return Err(fail(Reason::ObjectFirst, 0));
        }
        let mut previous = "";
        for index in 0..self.nr_objects() {
            let name = self
                .check_object(index, previous)
                .map_err(|reason| fail(reason, index))?;
            // Modules are in order among themselves, whatever vmlinux is called.
            previous = if index == 0 { "" } else { name };
        }
        Ok(())
    }

    fn check_object(&self, index: u32, previous: &str) -> Result<&'a str, Reason> {
        let bytes = entry(self.objects, index).ok_or(Reason::TableSize)?;
        let object = Object::decode(bytes);
        let name = self.checked_name(object.name, MODULE_NAME_LEN.saturating_sub(1))?;
        let len = usize::try_from(object.build_id_len).map_err(|_| Reason::ObjectBuildId)?;
        let rest = object.build_id.get(len..).ok_or(Reason::ObjectBuildId)?;
        if !(4..=BUILD_ID_MAX).contains(&len) || rest.iter().any(|&byte| byte != 0) {
            return Err(Reason::ObjectBuildId);
        }
        if index == 0 {
            return match name {
                VMLINUX if object.note == 0 => Ok(name),
                VMLINUX => Err(Reason::ObjectNote),
                _ => Err(Reason::ObjectFirst),
            };
        }
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        if name == VMLINUX || !name.bytes().all(word) {
            return Err(Reason::ObjectName);
        }
        if name <= previous {
            return Err(Reason::ObjectOrder);
        }
        if object.note == 0 {
            return Err(Reason::ObjectNote);
        }
        Ok(name)
    }

    fn check_target(&self) -> Result<(), Error> {
        if self.target() < self.nr_objects() {
            return Ok(());
        }
        let (reason, table) = (Reason::ManifestTarget, Table::Manifest);
        Err(Error::entry(reason, table, field::TARGET))
    }

    fn check_funcs(&self) -> Result<(), Error> {
        let mut previous = None;
        let mut end = 0;
        for index in 0..self.nr_funcs() {
            let fail = |reason| Error::entry(reason, Table::Funcs, index);
            let func = self.func(index).ok_or(fail(Reason::TableSize))?;
            self.check_func(&func, previous.as_ref()).map_err(fail)?;
            if to_u64(end) != u64::from(func.preimage) {
                return Err(fail(Reason::FuncPreimage));
            }
            let mask_at;
            (mask_at, end) = self.check_preimage(&func, end).map_err(fail)?;
            self.check_mask(&func, mask_at)?;
            previous = Some(func);
        }
        if end != self.preimages.len() {
            let at = u32::try_from(end).unwrap_or(u32::MAX);
            return Err(Error::entry(Reason::PreimageRest, Table::Preimages, at));
        }
        Ok(())
    }

    fn check_func(&self, func: &Func, previous: Option<&Func>) -> Result<(), Reason> {
        if func.reserved != 0 {
            return Err(Reason::Reserved);
        }
        if func.flags != 0 {
            return Err(Reason::FuncFlags);
        }
        if func.object != self.target() {
            return Err(Reason::FuncObject);
        }
        if func.region != Region::Text as u32 {
            return Err(Reason::FuncRegion);
        }
        if func.size == 0 || func.size > MAX_FUNC_SIZE {
            return Err(Reason::FuncSize);
        }
        if func.offset.checked_add(u64::from(func.size)).is_none() {
            return Err(Reason::FuncRange);
        }
        let cold_end = func.cold_offset.checked_add(u64::from(func.cold_size));
        if (func.cold_size == 0) != (func.cold_offset == 0)
            || func.cold_size > MAX_FUNC_SIZE
            || cold_end.is_none()
        {
            return Err(Reason::FuncCold);
        }
        self.checked_name(func.name, usize::MAX)?;
        if let Some(before) = previous {
            let key = |f: &Func| (f.object, f.region, f.offset);
            if key(func) <= key(before) {
                return Err(Reason::FuncOrder);
            }
            let end = before.offset.saturating_add(u64::from(before.size));
            if (func.object, func.region) == (before.object, before.region) && func.offset < end {
                return Err(Reason::FuncOverlap);
            }
        }
        let fits = u64::from(func.fentry).saturating_add(FENTRY_SIZE) <= u64::from(func.size);
        if !matches!(func.fentry, 0 | 4) || !fits {
            return Err(Reason::FuncFentry);
        }
        self.check_replacement(func.symbol)
    }

    /// Checks that no cold part overlaps a function or another cold part, because a word on a stack
    /// must belong to one function. Functions are ascending; cold parts are not, so that each is compared with those
    /// in front of it, and there are [`MAX_COLD_PARTS`] of them at most.
    fn check_cold_parts(&self) -> Result<(), Error> {
        let cold = || {
            let all = (0u32..).zip(self.funcs());
            all.filter(|(_, func)| func.cold_size != 0)
        };
        for (number, (index, func)) in cold().enumerate() {
            let fail = |reason| Error::entry(reason, Table::Funcs, index);
            if number >= MAX_COLD_PARTS {
                return Err(fail(Reason::FuncColdCount));
            }
            let end = func.cold_offset.saturating_add(u64::from(func.cold_size));
            let meets = |offset: u64, size: u32| {
                offset < end && func.cold_offset < offset.saturating_add(u64::from(size))
            };
            let before = self.funcs_before(end);
            let last = before.checked_sub(1).and_then(|last| self.func(last));
            let mut colder = cold().take(number);
            if last.is_some_and(|f| meets(f.offset, f.size))
                || colder.any(|(_, f)| meets(f.cold_offset, f.cold_size))
            {
                return Err(fail(Reason::FuncCold));
            }
        }
        Ok(())
    }

    /// Number of functions that start in front of an offset; all are in the text of one object.
    fn funcs_before(&self, offset: u64) -> u32 {
        let (mut low, mut high) = (0, self.nr_funcs());
        while low < high {
            let middle = low.midpoint(high);
            match self.func(middle) {
                Some(func) if func.offset < offset => low = middle.saturating_add(1),
                _ => high = middle,
            }
        }
        low
    }

    /// Checks that a symbol is a function with code of its own.
    fn check_replacement(&self, symbol: u32) -> Result<(), Reason> {
        let symbol = self.symbol(symbol).ok_or(Reason::FuncSymbol)?;
        let section = symbol.section().and_then(|index| self.section(index));
        match section {
            Some(section)
                if section.is_exec()
                    && !self.is_trampolines(&section)
                    && symbol.kind == SymbolKind::Func
                    && symbol.size != 0 =>
            {
                Ok(())
            }
            _ => Err(Reason::FuncSymbol),
        }
    }

    /// Offsets of the mask and of the end of a pre-image that starts at `start`.
    fn check_preimage(&self, func: &Func, start: usize) -> Result<(usize, usize), Reason> {
        let size = usize::try_from(func.size).map_err(|_| Reason::FuncPreimage)?;
        let mask = start.checked_add(size).ok_or(Reason::FuncPreimage)?;
        let end = mask.checked_add(size).ok_or(Reason::FuncPreimage)?;
        if end > self.preimages.len() {
            return Err(Reason::FuncPreimage);
        }
        Ok((mask, end))
    }

    fn check_mask(&self, func: &Func, mask_at: usize) -> Result<(), Error> {
        let (_, mask) = self.preimage(func);
        let fail = |reason, at: usize| {
            let at = u32::try_from(mask_at.saturating_add(at)).unwrap_or(u32::MAX);
            Error::entry(reason, Table::Preimages, at)
        };
        let known = |byte: &u8| matches!(*byte, MASK_MATCH | MASK_ANY);
        if let Some(at) = mask.iter().position(|byte| !known(byte)) {
            return Err(fail(Reason::PreimageMask, at));
        }
        let start = u64::from(func.fentry);
        let taken = (start..start.saturating_add(FENTRY_SIZE))
            .filter_map(|at| usize::try_from(at).ok())
            .find(|&at| mask.get(at) != Some(&MASK_ANY));
        match taken {
            Some(at) => Err(fail(Reason::PreimageFentry, at)),
            None => Ok(()),
        }
    }

    fn check_externs(&self) -> Result<(), Error> {
        let mut previous = 0;
        for index in 0..self.manifest.nr_externs {
            let fail = |reason| Error::entry(reason, Table::Externs, index);
            let bytes = entry(self.externs, index).ok_or(fail(Reason::TableSize))?;
            let external = Extern::decode(bytes);
            self.check_extern(&external, previous).map_err(fail)?;
            previous = external.symbol;
        }
        // Entries are ascending and all undefined, so that one pass side by side finds what is missing.
        let mut entries = self.externs();
        for symbol in self.symbols().filter(Symbol::is_undefined) {
            if entries.next().map(|e| e.symbol) != Some(symbol.index) {
                return Err(Error::symbol(Reason::ExternMissing, symbol.index));
            }
        }
        Ok(())
    }

    fn check_extern(&self, external: &Extern, previous: u32) -> Result<(), Reason> {
        if external.reserved != 0 {
            return Err(Reason::Reserved);
        }
        let symbol = self.symbol(external.symbol).ok_or(Reason::ExternSymbol)?;
        if symbol.home != Home::Undefined {
            return Err(Reason::ExternSymbol);
        }
        // Symbol 0 has just been refused, so that the first entry is always above 0.
        if external.symbol <= previous {
            return Err(Reason::ExternOrder);
        }
        if symbol.name.is_empty() {
            return Err(Reason::ExternName);
        }
        let kept = external.region <= Region::RoAfterInit as u32;
        let known = match external.object {
            0 => external.region == Region::Text as u32,
            OBJECT_OUTER if self.target() != 0 => kept,
            module if module < self.nr_objects() => kept || external.region == REGION_PERCPU,
            _ => return Err(Reason::ExternObject),
        };
        match known {
            true => Ok(()),
            false => Err(Reason::ExternRegion),
        }
    }

    fn check_fixes(&self) -> Result<(), Error> {
        for index in 0..self.manifest.nr_fixes {
            let fail = |reason| Error::entry(reason, Table::Fixes, index);
            let bytes = entry(self.fixes, index).ok_or(fail(Reason::TableSize))?;
            let fix = Fix::decode(bytes);
            if fix.reserved != 0 {
                return Err(fail(Reason::Reserved));
            }
            self.checked(fix.id, usize::MAX).map_err(fail)?;
            self.checked_name(fix.title, usize::MAX).map_err(fail)?;
        }
        Ok(())
    }

    fn check_callbacks(&self) -> Result<(), Error> {
        let mut next = 0;
        for (index, callback) in (0u32..).zip(self.callbacks()) {
            let fail = |reason| Error::entry(reason, Table::Callbacks, index);
            if callback.reserved != 0 {
                return Err(fail(Reason::Reserved));
            }
            if callback.kind > CALLBACK_POST_UNPATCH {
                return Err(fail(Reason::CallbackKind));
            }
            if callback.kind < next {
                return Err(fail(Reason::CallbackOrder));
            }
            next = callback.kind.saturating_add(1);
            self.check_replacement(callback.symbol)
                .map_err(|_| fail(Reason::CallbackSymbol))?;
        }
        Ok(())
    }

    fn check_states(&self) -> Result<(), Error> {
        // The kernel ends its list of states with an id of 0 (klp_for_each_state()).
        let mut previous = 0;
        for (index, state) in (0u32..).zip(self.states()) {
            let fail = |reason| Error::entry(reason, Table::States, index);
            if state.reserved != 0 {
                return Err(fail(Reason::Reserved));
            }
            if state.id <= previous {
                return Err(fail(Reason::StateOrder));
            }
            previous = state.id;
        }
        Ok(())
    }

    fn check_trampolines(&self) -> Result<(), Error> {
        let fail = |reason| Error::section(reason, self.trampolines);
        let section = self.trampolines().ok_or(fail(Reason::TrampolinesForm))?;
        let form = section.kind == SectionKind::ProgBits && section.is_exec();
        if !form || section.align < to_u64(TRAMPOLINE_SIZE) {
            return Err(fail(Reason::TrampolinesForm));
        }
        let size = u64::from(self.nr_funcs()).checked_mul(to_u64(TRAMPOLINE_SIZE));
        if size != Some(section.size) {
            return Err(fail(Reason::TrampolinesSize));
        }
        // Relocations first: their fields are zero, so that the fill is wrong there as well.
        let against = |s: &Section<'_>| s.target() == Some(section.index);
        if let Some(rela) = self.sections().find(against) {
            return Err(Error::section(Reason::RelocationTrampoline, rela.index));
        }
        if section.data.iter().any(|&byte| byte != TRAMPOLINE_FILL) {
            return Err(fail(Reason::TrampolinesFill));
        }
        Ok(())
    }
}

/// The tables and the names of their sections, in the order of [`Table`].
const TABLES: [(&str, Table); 9] = [
    (SEC_MANIFEST, Table::Manifest),
    (SEC_OBJECTS, Table::Objects),
    (SEC_FUNCS, Table::Funcs),
    (SEC_EXTERNS, Table::Externs),
    (SEC_FIXES, Table::Fixes),
    (SEC_CALLBACKS, Table::Callbacks),
    (SEC_STATES, Table::States),
    (SEC_PREIMAGES, Table::Preimages),
    (SEC_STRINGS, Table::Strings),
];

/// Indices of the sections that a payload must have; 0 while one is not found.
struct Sections {
    tables: [u32; TABLES.len()],
    /// Those that the kernel takes by name.
    specials: [u32; special::SPECIAL.len()],
    trampolines: u32,
    parts: u32,
    /// Bytes of memory that are not in the file.
    zeroes: u64,
}

impl Sections {
    /// Finds each of them exactly once, and refuses what nobody knows.
    fn find(elf: &Elf<'_>) -> Result<Self, Error> {
        let mut found = Self {
            tables: [0; TABLES.len()],
            specials: [0; special::SPECIAL.len()],
            trampolines: 0,
            parts: 0,
            zeroes: 0,
        };
        for section in elf.sections().filter(|s| s.kind != SectionKind::Null) {
            found
                .take(elf, &section)
                .map_err(|reason| Error::section(reason, section.index))?;
        }
        found.check_unwind_tables(elf)?;
        let missing = found
            .tables
            .iter()
            .zip(TABLES)
            .find(|(index, _)| **index == 0);
        if let Some((_, (_, table))) = missing {
            return Err(Error::entry(Reason::TableMissing, table, 0));
        }
        if found.trampolines == 0 {
            return Err(Reason::TrampolinesMissing.into());
        }
        Ok(found)
    }

    /// Takes a section in: it is one of ours, or its name is one that sections may have.
    fn take(&mut self, elf: &Elf<'_>, section: &Section<'_>) -> Result<(), Reason> {
        let content = section.kind == SectionKind::ProgBits;
        let known = TABLES.iter().position(|(name, _)| *name == section.name);
        if let Some(slot) = known.and_then(|index| self.tables.get_mut(index)) {
            if !content || section.is_alloc() {
                return Err(Reason::TableForm);
            }
            return claim(slot, section.index, Reason::TableDuplicate);
        }
        if section.name == SEC_TRAMPOLINES {
            let slot = &mut self.trampolines;
            return claim(slot, section.index, Reason::TrampolinesDuplicate);
        }
        if section.name.starts_with(SEC_PART) {
            if !content || section.is_alloc() {
                return Err(Reason::PartForm);
            }
            // The kernel reads its ELF header in place.
            if section.align < PART_ALIGN {
                return Err(Reason::PartAlign);
            }
            self.parts = self.parts.saturating_add(1);
            return Ok(());
        }
        if section.name.starts_with(PREFIX) {
            return Err(Reason::TableUnknown);
        }
        if !section.is_alloc() {
            let against = section.target().and_then(|target| elf.section(target));
            return special::check_title(section, against.map(|against| against.name));
        }
        special::check(section)?;
        if section.kind == SectionKind::NoBits {
            self.zeroes = self.zeroes.saturating_add(section.size);
            if self.zeroes > MAX_ZEROES {
                return Err(Reason::ZeroesTooLarge);
            }
        }
        let mut names = special::SPECIAL.iter().map(|special| special.name);
        let known = names.position(|name| name == section.name);
        match known.and_then(|index| self.specials.get_mut(index)) {
            Some(slot) => claim(slot, section.index, Reason::SpecialDuplicate),
            None => Ok(()),
        }
    }

    /// Checks that there is one place for each unwind entry: the kernel sorts both tables by the number of places
    /// (`unwind_module_init()`, arch/x86/kernel/unwind_orc.c).
    fn check_unwind_tables(&self, elf: &Elf<'_>) -> Result<(), Error> {
        let find = |name| {
            let mut all = self.specials.iter().zip(special::SPECIAL);
            let (index, special) = all.find(|(_, special)| special.name == name)?;
            let section = elf.section(*index).filter(|_| *index != 0)?;
            Some((*index, section.size.checked_div(special.entry)?))
        };
        let (entries, places) = (find(special::ORC), find(special::ORC_IP));
        if entries.map(|(_, count)| count) == places.map(|(_, count)| count) {
            return Ok(());
        }
        let (index, _) = places.or(entries).unwrap_or_default();
        Err(Error::section(Reason::UnwindTables, index))
    }

    /// Index of a table's section.
    fn index(&self, table: Table) -> u32 {
        let mut all = self.tables.iter().zip(TABLES);
        let found = all.find(|(_, (_, candidate))| *candidate == table);
        found.map_or(0, |(index, _)| *index)
    }

    /// Content of a table's section.
    fn data<'a>(&self, elf: &Elf<'a>, table: Table) -> &'a [u8] {
        elf.section(self.index(table)).map_or(&[], |s| s.data)
    }

    /// Reads the manifest and checks all of it but its strings.
    fn manifest(&self, elf: &Elf<'_>) -> Result<Manifest, Error> {
        let size = Error::section(Reason::TableSize, self.index(Table::Manifest));
        check_manifest(self.data(elf, Table::Manifest), size)
    }

    /// Checks that each table is as long as the manifest says.
    fn check_sizes(&self, elf: &Elf<'_>, manifest: &Manifest) -> Result<(), Error> {
        let tables = [
            (Table::Objects, manifest.nr_objects, Object::SIZE),
            (Table::Funcs, manifest.nr_funcs, Func::SIZE),
            (Table::Externs, manifest.nr_externs, Extern::SIZE),
            (Table::Fixes, manifest.nr_fixes, Fix::SIZE),
            (Table::Callbacks, manifest.nr_callbacks, Callback::SIZE),
            (Table::States, manifest.nr_states, State::SIZE),
            (Table::Preimages, manifest.preimage_bytes, 1),
            (Table::Strings, manifest.string_bytes, 1),
        ];
        for (table, entries, size) in tables {
            let data = self.data(elf, table);
            let whole = data.len().checked_rem(size) == Some(0);
            if !whole || count(data, size) != entries {
                return Err(Error::section(Reason::TableSize, self.index(table)));
            }
        }
        if self.parts != manifest.nr_parts {
            let (reason, table) = (Reason::TableCount, Table::Manifest);
            return Err(Error::entry(reason, table, field::NR_PARTS));
        }
        Ok(())
    }
}

/// Fills a slot with the index of a section, once.
fn claim(slot: &mut u32, index: u32, twice: Reason) -> Result<(), Reason> {
    if *slot != 0 {
        return Err(twice);
    }
    *slot = index;
    Ok(())
}

/// Offsets of the manifest's fields in its section, for errors.
pub(super) mod field {
    pub(super) const MAGIC: u32 = 0;
    pub(super) const VERSION: u32 = 8;
    pub(super) const SIZE: u32 = 12;
    pub(super) const LEVEL: u32 = 16;
    pub(super) const FLAGS: u32 = 20;
    pub(super) const RELEASE: u32 = 32;
    pub(super) const DESCRIPTION: u32 = 36;
    pub(super) const NR_OBJECTS: u32 = 40;
    pub(super) const NR_FUNCS: u32 = 44;
    pub(super) const NR_EXTERNS: u32 = 48;
    pub(super) const NR_FIXES: u32 = 52;
    pub(super) const NR_CALLBACKS: u32 = 64;
    pub(super) const NR_STATES: u32 = 68;
    pub(super) const NR_PARTS: u32 = 72;
    pub(in super::super) const TARGET: u32 = 76;
    pub(super) const FLOOR: u32 = 88;
    pub(super) const RESERVED: u32 = 92;
}

/// Reads a manifest; `size` is the refusal of a section of another size.
fn check_manifest(data: &[u8], size: Error) -> Result<Manifest, Error> {
    let at = |reason, field| Error::entry(reason, Table::Manifest, field);

    let (magic, rest) = data.split_first_chunk().ok_or(size)?;
    if *magic != MAGIC {
        return Err(at(Reason::ManifestMagic, field::MAGIC));
    }
    // A later version may have another size, and its number is the better answer.
    let version = rest.first_chunk().copied().ok_or(size)?;
    if u32::from_le_bytes(version) != VERSION {
        return Err(at(Reason::ManifestVersion, field::VERSION));
    }
    let bytes: &[u8; Manifest::SIZE] = rest.try_into().map_err(|_| size)?;
    let manifest = Manifest::decode(bytes);

    let something = manifest.nr_funcs | manifest.nr_parts | manifest.nr_callbacks;
    let checks = [
        (
            u64::from(manifest.size) == to_u64(Manifest::SECTION_SIZE),
            field::SIZE,
            Reason::ManifestSize,
        ),
        (manifest.level != 0, field::LEVEL, Reason::ManifestLevel),
        (
            manifest.flags & !MANIFEST_FLAGS == 0,
            field::FLAGS,
            Reason::ManifestFlags,
        ),
        (
            manifest.floor <= manifest.level,
            field::FLOOR,
            Reason::ManifestFloor,
        ),
        (manifest.reserved == 0, field::RESERVED, Reason::Reserved),
    ];
    if let Some(&(_, field, reason)) = checks.iter().find(|(good, ..)| !good) {
        return Err(at(reason, field));
    }
    let counts = [
        (manifest.nr_objects, MAX_OBJECTS, field::NR_OBJECTS),
        (manifest.nr_funcs, MAX_FUNCS, field::NR_FUNCS),
        (manifest.nr_externs, MAX_SYMBOLS, field::NR_EXTERNS),
        (manifest.nr_fixes, MAX_FIXES, field::NR_FIXES),
        (manifest.nr_callbacks, NR_KINDS, field::NR_CALLBACKS),
        (manifest.nr_states, MAX_STATES, field::NR_STATES),
        (manifest.nr_parts, MAX_OBJECTS, field::NR_PARTS),
    ];
    let above = |(entries, limit, _): &&(u32, usize, u32)| to_u64(*limit) < u64::from(*entries);
    if let Some(&(_, _, field)) = counts.iter().find(above) {
        return Err(at(Reason::TableCount, field));
    }
    if something == 0 {
        return Err(at(Reason::NoFunctions, field::NR_FUNCS));
    }
    Ok(manifest)
}
