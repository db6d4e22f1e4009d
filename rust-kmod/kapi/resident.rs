// SPDX-License-Identifier: GPL-2.0

//! Patch code as a first-class citizen of the kernel: a `struct module` that kcare fills itself.
//!
//! The steps are those of `load_module()` (kernel/module/main.c), and each is undone by its mirror:
//!
//! ```text
//! new → alloc → insert → (the loader writes) → finalize → seal → come
//! free ←───────  remove ←──────────────────── unfinalize ← unseal ← go
//! ```
//!
//! [`Resident`] remembers how far it got, and its `Drop` walks the lower row from there.

use super::{
    callbacks::{
        Callback,
        Kind, //
    },
    ksyms::Ksyms, //
};
use crate::{
    ffi,
    payload::{
        place::Region,
        trampoline::Bodies, //
    },
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

pub(crate) use crate::ffi::{
    SectionHeader,
    Symbol, //
};

/// How far a [`Resident`] has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Has memory at most; the kernel does not know it.
    New,
    /// In the module list and the address tree, unformed.
    Inserted,
    /// Patched by the kernel: alternatives, return thunks, ORC, ftrace records.
    Finalized,
    /// Text is read-only and executable; warnings in it are survived.
    Sealed,
    /// Notifiers have run: jump labels, static calls, debug messages, functions closed to probes.
    Live,
}

/// Memory of one region.
#[derive(Clone, Copy)]
struct Memory {
    base: *mut u8,
    size: usize,
}

/// What the kernel's name look-up reads: an array of symbols, their names, and their `nm` letters.
pub(crate) struct Kallsyms {
    /// Symbols with absolute values; entry 0 is empty.
    pub(crate) symbols: VVec<Symbol>,
    /// Names, NUL-terminated.
    pub(crate) strings: VVec<u8>,
    /// One letter per symbol.
    pub(crate) types: VVec<u8>,
}

/// An array inside a region: the region, its offset in it and its size in bytes.
pub(crate) type Slice = (Region, u64, u64);

/// The arrays that `struct module` points to; `None` where the payload has none.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) extable: Option<Slice>,
    pub(crate) jump_table: Option<Slice>,
    pub(crate) static_calls: Option<Slice>,
    pub(crate) mcount: Option<Slice>,
    pub(crate) debug_messages: Option<Slice>,
    pub(crate) no_probes: Option<Slice>,
}

/// A module that kcare owns.
///
/// # Invariants
///
/// `raw` is valid; `memory` is what it holds; the steps up to `stage` have been done and not undone.
/// `kallsyms` is what `raw` points to, and is dropped after `raw` has been freed in `Drop`.
pub(crate) struct Resident {
    raw: NonNull<ffi::module>,
    memory: [Memory; Region::ALL.len()],
    stage: Stage,
    kallsyms: Option<Kallsyms>,
}

// SAFETY: The module is bound to no task; the kernel takes `module_mutex` for its lists.
unsafe impl Send for Resident {}

/// The flag that a level's trampolines test, in the level's writable memory.
///
/// # Invariants
///
/// Points to an aligned `u32` of a [`Resident`] that outlives it: a level keeps both.
pub(crate) struct Flag(*mut u32);

// SAFETY: One word, written as a whole, under the engine's lock.
unsafe impl Send for Flag {}
// SAFETY: As above.
unsafe impl Sync for Flag {}

impl Flag {
    pub(super) fn as_ptr(&self) -> *mut u32 {
        self.0
    }

    /// Sets it with the machine running: while nothing leads to the level's trampolines, or where every task sees the
    /// same bodies with both values.
    pub(crate) fn set(&self, bodies: Bodies) {
        // SAFETY: By the type's invariant.
        // CAST: the enum is `repr(u32)`.
        unsafe { ffi::kcare_flag_set(self.0, bodies as u32) };
    }

    /// The same flag for a part of the level, which ends before it.
    pub(crate) fn share(&self) -> Self {
        // INVARIANT: The same memory.
        Self(self.0)
    }

    /// Its address, which the trampolines refer to.
    pub(crate) fn address(&self) -> u64 {
        self.0 as u64
    }
}

impl Resident {
    /// A module without memory, in no list.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(_: Ksyms, name: &CStr) -> Result<Self> {
        // SAFETY: The name is NUL-terminated; the shim cuts it to the field's size.
        let raw = unsafe { ffi::kcare_resident_new(name.as_char_ptr()) };
        let none = Memory {
            base: core::ptr::null_mut(),
            size: 0,
        };
        Ok(Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            memory: [none; Region::ALL.len()],
            stage: Stage::New,
            kallsyms: None,
        })
    }

    /// Gives a region `size` bytes, rounded up to pages, of zeroed memory within 2 GiB of vmlinux, writable until
    /// [`Resident::seal`]. No memory for a size of 0.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the region has memory or the kernel knows the module already.
    pub(crate) fn alloc(&mut self, region: Region, size: usize) -> Result {
        let memory = &mut self.memory[region.index()];
        if size == 0 {
            return Ok(());
        }
        if self.stage != Stage::New || !memory.base.is_null() {
            return Err(EINVAL);
        }
        let size = size.checked_next_multiple_of(PAGE_SIZE).ok_or(ENOMEM)?;
        // CAST: at most `KCARE_NR_REGIONS`.
        let kind = region.index() as c_int;
        // SAFETY: `raw` is valid; `Region` has the order of `enum kcare_region`.
        let base = unsafe { ffi::kcare_resident_alloc(self.raw.as_ptr(), kind, size) };
        if base.is_null() {
            return Err(ENOMEM);
        }
        // INVARIANT: The shim has just given the module this memory.
        *memory = Memory {
            base: base.cast(),
            size,
        };
        Ok(())
    }

    /// Address of a region's first byte, 0 if it has none.
    pub(crate) fn base(&self, region: Region) -> u64 {
        self.memory[region.index()].base as u64
    }

    /// Bytes of a region.
    pub(crate) fn size(&self, region: Region) -> usize {
        self.memory[region.index()].size
    }

    /// Bytes of all regions.
    pub(crate) fn total(&self) -> usize {
        self.memory
            .iter()
            .fold(0, |sum, memory| sum.saturating_add(memory.size))
    }

    /// A region's bytes, to be written.
    ///
    /// # Errors
    ///
    /// `EINVAL` once the kernel has patched them.
    pub(crate) fn bytes(&mut self, region: Region) -> Result<&mut [u8]> {
        let memory = self.memory[region.index()];
        if self.stage > Stage::Inserted {
            return Err(EINVAL);
        }
        if memory.base.is_null() {
            return Ok(&mut []);
        }
        // SAFETY: The memory is the module's own by the type's invariant, writable and initialised
        // (zeroed) until it is sealed; `&mut self` makes this the only access.
        Ok(unsafe { core::slice::from_raw_parts_mut(memory.base, memory.size) })
    }

    /// The flag at `offset` in the writable data.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it does not lie in it, aligned.
    pub(crate) fn flag(&self, offset: usize) -> Result<Flag> {
        let memory = self.memory[Region::Data.index()];
        let end = offset.checked_add(4).ok_or(EINVAL)?;
        if end > memory.size || offset % 4 != 0 {
            return Err(EINVAL);
        }
        // INVARIANT: Inside the memory, which is page-aligned, as just checked.
        Ok(Flag(memory.base.wrapping_add(offset).cast()))
    }

    /// The callback at `address`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is not in the text, or the text is not executable yet.
    pub(crate) fn callback(&self, address: u64, kind: Kind) -> Result<Callback> {
        // CAST: widening.
        let size = self.size(Region::Text) as u64;
        let inside = address.wrapping_sub(self.base(Region::Text)) < size;
        if self.stage < Stage::Live || !inside {
            return Err(EINVAL);
        }
        // INVARIANT: In the text, which is sealed.
        Ok(Callback::new(address, kind))
    }

    /// Tells `struct module` where its arrays and names are. Before [`Resident::insert`].
    ///
    /// # Errors
    ///
    /// `EINVAL` if an array does not lie in its region, or the kernel knows the module already.
    pub(crate) fn describe(&mut self, tables: &Tables, kallsyms: Kallsyms) -> Result {
        if self.stage != Stage::New {
            return Err(EINVAL);
        }
        let raw_tables = ffi::Tables {
            extable: self.table(tables.extable)?,
            jump_table: self.table(tables.jump_table)?,
            static_calls: self.table(tables.static_calls)?,
            mcount: self.table(tables.mcount)?,
            debug_messages: self.table(tables.debug_messages)?,
            no_probes: self.table(tables.no_probes)?,
            symtab: kallsyms.symbols.as_ptr().cast::<c_void>().cast_mut(),
            nr_symbols: kallsyms.symbols.len(),
            strtab: kallsyms.strings.as_ptr().cast::<c_char>().cast_mut(),
            typetab: kallsyms.types.as_ptr().cast::<c_char>().cast_mut(),
        };
        // SAFETY: `raw` is valid and not yet known to the kernel; the arrays lie in its own memory and
        // the names in `kallsyms`, which is kept until `raw` has been freed.
        unsafe { ffi::kcare_resident_set_tables(self.raw.as_ptr(), &raw_tables) };
        self.kallsyms = Some(kallsyms);
        Ok(())
    }

    fn table(&self, slice: Option<Slice>) -> Result<ffi::Table> {
        let Some((region, offset, bytes)) = slice else {
            return Ok(ffi::Table {
                base: core::ptr::null_mut(),
                bytes: 0,
            });
        };
        let memory = self.memory[region.index()];
        let offset = usize::try_from(offset)?;
        let bytes = usize::try_from(bytes)?;
        if offset.checked_add(bytes).ok_or(EINVAL)? > memory.size {
            return Err(EINVAL);
        }
        Ok(ffi::Table {
            base: memory.base.wrapping_add(offset).cast(),
            bytes,
        })
    }

    /// The symbol that `address` lies in, and the offset in it.
    pub(crate) fn name_of(&self, address: u64) -> Option<(&str, u64)> {
        let kallsyms = self.kallsyms.as_ref()?;
        let symbol = kallsyms
            .symbols
            .iter()
            .filter(|s| s.size > 0 && s.value <= address)
            .find(|s| address.wrapping_sub(s.value) < s.size)?;
        let name = kallsyms.strings.get(usize::try_from(symbol.name).ok()?..)?;
        let name = CStr::from_bytes_until_nul(name).ok()?.to_str().ok()?;
        Some((name, address.wrapping_sub(symbol.value)))
    }

    /// Enters the module into the kernel's list and address tree (`add_unformed_module()`).
    ///
    /// # Errors
    ///
    /// `EEXIST` if a module that is none of kcare's has the name.
    pub(crate) fn insert(&mut self) -> Result {
        if self.stage != Stage::New {
            return Err(EINVAL);
        }
        // SAFETY: `raw` is valid and in no list.
        to_result(unsafe { ffi::kcare_resident_insert(self.raw.as_ptr()) })?;
        self.stage = Stage::Inserted;
        Ok(())
    }

    /// Lets the kernel patch the text (`post_relocation()`, `module_finalize()`,
    /// `ftrace_module_init()`). `image` is the verified ELF object and `headers` its section headers with
    /// the addresses where they were placed.
    ///
    /// # Errors
    ///
    /// Those of `module_finalize()`.
    pub(crate) fn finalize(&mut self, image: &[u8], headers: &[SectionHeader]) -> Result {
        if self.stage != Stage::Inserted {
            return Err(EINVAL);
        }
        let (hdr, sechdrs) = (image.as_ptr().cast(), headers.as_ptr().cast());
        // SAFETY: The image's ELF header, its section count and names have been checked, `headers` has as
        // many entries, and those whose names the kernel takes point to whole entries in the module's own, still writable
        // memory (`payload::special`). Nothing reads the header but the kernel's parameter for it.
        to_result(unsafe { ffi::kcare_resident_finalize(self.raw.as_ptr(), hdr, sechdrs) })?;
        self.stage = Stage::Finalized;
        Ok(())
    }

    /// Enters the bug table and sets the final permissions (`complete_formation()`). Arguments as for
    /// [`Resident::finalize`].
    ///
    /// # Errors
    ///
    /// Those of `set_memory_*()`.
    pub(crate) fn seal(&mut self, image: &[u8], headers: &[SectionHeader]) -> Result {
        if self.stage != Stage::Finalized {
            return Err(EINVAL);
        }
        let (hdr, sechdrs) = (image.as_ptr().cast(), headers.as_ptr().cast());
        // SAFETY: As for `finalize`.
        to_result(unsafe { ffi::kcare_resident_seal(self.raw.as_ptr(), hdr, sechdrs) })?;
        self.stage = Stage::Sealed;
        Ok(())
    }

    /// Runs the kernel's module notifiers (`prepare_coming_module()`, `do_init_module()`).
    ///
    /// # Errors
    ///
    /// Those of a notifier, such as `ENOMEM` of jump labels.
    pub(crate) fn come(&mut self) -> Result {
        if self.stage != Stage::Sealed {
            return Err(EINVAL);
        }
        // SAFETY: `raw` is valid, sealed, and in the kernel's list.
        to_result(unsafe { ffi::kcare_resident_coming(self.raw.as_ptr()) })?;
        self.stage = Stage::Live;
        Ok(())
    }
}

/// Frees the modules that others held when they were dropped, and do not any more (`try_module_get()`).
pub(crate) fn sweep() {
    // SAFETY: Process context.
    unsafe { ffi::kcare_residents_sweep() };
}

impl Drop for Resident {
    /// The owner has made sure that nothing can reach the text any more.
    fn drop(&mut self) {
        let raw = self.raw.as_ptr();
        if self.stage >= Stage::Live {
            // SAFETY: The notifiers have seen it come.
            unsafe { ffi::kcare_resident_going(raw) };
        }
        if self.stage >= Stage::Sealed {
            // SAFETY: It is in the bug list.
            unsafe { ffi::kcare_resident_unseal(raw) };
        }
        if self.stage >= Stage::Finalized {
            // SAFETY: `module_finalize()` has succeeded.
            unsafe { ffi::kcare_resident_unfinalize(raw) };
        }
        if self.stage >= Stage::Inserted {
            // SAFETY: It is in the list; after this no reader sees it any more.
            unsafe { ffi::kcare_resident_remove(raw) };
        }
        // SAFETY: In no list, and nothing runs in it; whoever has a reference does not read `kallsyms`.
        unsafe { ffi::kcare_resident_free(raw) };
    }
}
