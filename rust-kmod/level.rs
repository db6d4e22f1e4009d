// SPDX-License-Identifier: GPL-2.0

//! A level in memory: what it does to vmlinux, and a part for each module that is loaded.
//!
//! A part is made when its module is there, and freed when the module goes; so a payload with parts is kept for modules
//! that are yet to come.

use crate::{
    kapi::{
        callbacks::{
            Kind,
            Patch, //
        },
        keyring::Signer,
        ksyms::Ksyms,
        module::{
            Module,
            ModuleRef, //
        },
        rcu,
        resident::Flag, //
    },
    loader::{
        self,
        Around,
        Base,
        Function,
        Loaded, //
    },
    objects::Objects,
    payload::{
        arrange::{
            self,
            Universe, //
        },
        error::{
            Error,
            Place,
            Reason, //
        },
        ranges::Range, //
    },
    report::{
        out_of_memory,
        Report, //
    },
    status::About,
    verify::{
        self,
        Bundled,
        Trusted,
        Verified, //
    },
};
use core::{
    fmt::Write,
    ops, //
};
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc,
    ThisModule, //
};

/// What a level does to one module that is loaded.
///
/// Fields are dropped in this order: the modules that the code needs stay until it is gone.
pub(crate) struct Part {
    /// The code.
    pub(crate) loaded: Loaded,
    module: Module,
    _needs: KVec<ModuleRef>,
}

/// A level in memory.
///
/// Fields are dropped in this order: parts refer to `base`, and this module stays until all memory is gone. Whoever
/// drops it has made sure that nothing leads to it and that no task is inside.
///
/// # Invariants
///
/// No two of `parts` are for the same module; each of their modules is there.
pub(crate) struct Level {
    parts: KVec<Part>,
    base: Base,
    patch: Patch,
    /// Id and version of each state that it changes, ascending by id.
    states: KVec<(u64, u32)>,
    /// Names of all modules that it patches, loaded or not, and where in `payload` what is done to them is.
    modules: KVec<(CString, ops::Range<usize>)>,
    /// For parts that are yet to be made; `None` if there are none.
    payload: Option<Verified>,
    about: Arc<About>,
    /// Who has signed it.
    signer: Signer,
    /// The lowest level that may follow it.
    floor: u32,
    /// The universe in which its bodies are seen; no two levels have the same.
    universe: u64,
    /// Old and new calls must not run side by side.
    all_at_once: bool,
    /// Its text stays in memory for ever: addresses of it have gone where nobody finds them.
    stays: bool,
    /// The callbacks that are to be called when the transition is complete.
    pub(crate) due: Due,
    /// The modules that the code needs, and this one.
    _needs: KVec<ModuleRef>,
    _module: ModuleRef,
}

/// Callbacks that are due.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// None.
    Nothing,
    /// [`Kind::PostPatch`], as replacing the level of this universe.
    PostPatch(u64),
    /// [`Kind::PostUnpatch`].
    PostUnpatch,
}

impl Universe for Level {
    fn universe(&self) -> u64 {
        self.universe
    }

    fn places(&self) -> impl Iterator<Item = arrange::Place> {
        self.functions().map(Function::place)
    }

    fn at(&self, site: u64) -> Option<arrange::Place> {
        self.find(site).map(Function::place)
    }
}

impl Level {
    /// Loads what a payload does to vmlinux. [`Level::keep`] has to follow.
    ///
    /// # Errors
    ///
    /// Those of [`loader::load`], and [`Reason::OutOfMemory`].
    pub(crate) fn load(
        parsed: &Bundled<'_>,
        signer: Signer,
        objects: Objects,
        universe: u64,
        (ksyms, module): (Ksyms, &'static ThisModule),
        report: &mut Report,
    ) -> Result<Self, Error> {
        let outer = parsed.outer();
        let around = Around {
            ksyms,
            objects: &objects,
        };
        let base = loader::load(&outer, &around, report)?;
        let states = outer.states().map(|state| (state.id, state.version));
        let states: KVec<(u64, u32)> = collect(states)?;
        let patch = Patch::new(states.iter().copied()).map_err(out_of_memory)?;
        let mut modules = KVec::new();
        for (name, at) in parsed.parts() {
            let name = CString::try_from_fmt(fmt!("{name}")).map_err(out_of_memory)?;
            modules
                .push((name, at), GFP_KERNEL)
                .map_err(out_of_memory)?;
        }
        let about = About::new(&outer)?;
        let manifest = outer.manifest();
        let (floor, all_at_once) = (manifest.floor, manifest.all_at_once());
        let stays = manifest.text_escapes();
        Ok(Self {
            parts: KVec::new(),
            base,
            patch,
            states,
            payload: None,
            modules,
            about,
            signer,
            floor,
            universe,
            all_at_once,
            stays,
            due: Due::Nothing,
            _needs: objects.needs,
            _module: ModuleRef::new(module),
        })
    }

    /// Keeps the payload that it was loaded from, if there are parts that are yet to be loaded.
    pub(crate) fn keep(&mut self, payload: Verified) {
        self.payload = (!self.modules.is_empty()).then_some(payload);
    }

    /// Loads the parts that are missing: for all modules that are live, or for the one that is coming.
    ///
    /// # Errors
    ///
    /// Those of [`Objects::find`], [`verify::preimages`] and [`loader::load_part`]; parts that have been loaded stay.
    pub(crate) fn complete(
        &mut self,
        coming: Option<Module>,
        ksyms: Ksyms,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(payload) = &self.payload else {
            return Ok(());
        };
        for (name, at) in &self.modules {
            let name = name.to_str().unwrap_or_default();
            let module = match coming {
                Some(module) => Some(module).filter(|module| module.name() == name),
                None => Module::find(name).map_err(|_| report.coming(name))?,
            };
            let Some(module) = module else {
                continue;
            };
            if self.parts.iter().any(|part| part.module == module) {
                continue;
            }
            let payload = payload.part(at)?;
            let base = &self.base;
            let part = report.about_part(name, |report| {
                load_part(&payload, module, base, ksyms, report)
            })?;
            self.stays |= payload.manifest().text_escapes();
            // INVARIANT: There is none for the module yet, as just seen.
            self.parts.push(part, GFP_KERNEL).map_err(out_of_memory)?;
        }
        Ok(())
    }

    /// Frees it, behind the functions that are still to be called by RCU; its memory stays if addresses of its text are
    /// somewhere.
    pub(crate) fn free(self) {
        rcu::rcu_barrier();
        if self.stays {
            pr_info!(
                "the memory of patch level {} is kept until reboot, because addresses of its code have been handed on\n",
                self.number()
            );
            core::mem::forget(self);
        }
    }

    /// The universe in which its bodies are seen.
    pub(crate) fn universe(&self) -> u64 {
        self.universe
    }

    /// Whether its text stays in memory when it has gone.
    pub(crate) fn text_stays(&self) -> bool {
        self.stays
    }

    /// Whether old and new calls must not run side by side.
    pub(crate) fn is_all_at_once(&self) -> bool {
        self.all_at_once
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.about.level
    }

    /// The lowest level that may go live once it has been, 0 for any.
    pub(crate) fn floor(&self) -> u32 {
        self.floor
    }

    /// Who has signed it.
    pub(crate) fn signer(&self) -> Signer {
        self.signer
    }

    /// What is told about it.
    pub(crate) fn about(&self) -> Arc<About> {
        self.about.clone()
    }

    /// The flag that its trampolines test.
    pub(crate) fn flag(&self) -> &Flag {
        &self.base.flag
    }

    fn pieces(&self) -> impl Iterator<Item = &Loaded> + Clone {
        let parts = self.parts.iter().map(|part| &part.loaded);
        Iterator::chain(core::iter::once(&self.base.loaded), parts)
    }

    /// All functions that it redirects.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &Function> + Clone {
        self.pieces().flat_map(|piece| &piece.functions)
    }

    /// Its function with a fentry site at an address.
    pub(crate) fn find(&self, site: u64) -> Option<&Function> {
        self.pieces().find_map(|piece| {
            let functions = &piece.functions;
            let at = functions.binary_search_by_key(&site, |f| f.site).ok()?;
            functions.get(at)
        })
    }

    /// Its functions that `other` does not replace.
    pub(crate) fn without<'a>(
        &'a self,
        other: Option<&'a Level>,
    ) -> impl Iterator<Item = &'a Function> + Clone {
        self.functions()
            .filter(move |f| other.is_none_or(|other| other.find(f.site).is_none()))
    }

    /// All its code, trampolines included.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Range> + Clone + '_ {
        self.pieces().map(|piece| piece.text())
    }

    /// Bytes that its code, its data and its payload hold.
    pub(crate) fn memory(&self) -> usize {
        let payload = self.payload.as_ref().map_or(0, Verified::size);
        self.pieces()
            .fold(payload, |sum, p| sum.saturating_add(p.resident.total()))
    }

    /// The symbol of its own that `address` lies in, and the offset in it.
    pub(crate) fn name_of(&self, address: u64) -> Option<(&str, u64)> {
        self.pieces().find_map(|p| p.resident.name_of(address))
    }

    /// Names of the modules that it patches, loaded or not.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &CStr> {
        self.modules.iter().map(|(name, _)| &**name)
    }

    /// Whether it patches modules of this name.
    pub(crate) fn wants(&self, module: &str) -> bool {
        self.modules
            .iter()
            .any(|(name, _)| name.to_bytes() == module.as_bytes())
    }

    /// The part for a module that is loaded.
    pub(crate) fn part(&self, module: Module) -> Option<&Part> {
        self.parts.iter().find(|part| part.module == module)
    }

    /// Gives the part for a module away.
    pub(crate) fn take_part(&mut self, module: Module) -> Option<Part> {
        let at = self.parts.iter().position(|part| part.module == module)?;
        self.parts.remove(at).ok()
    }

    /// One line for each module that it patches: `module: NAME patched`, or `waiting` for it to come.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub(crate) fn print_modules(&self, out: &mut dyn Write) -> core::fmt::Result {
        for (name, _) in &self.modules {
            let name = name.to_str().unwrap_or("?");
            let here = self.parts.iter().any(|part| part.module.name() == name);
            let state = if here { "patched" } else { "waiting" };
            writeln!(out, "module: {name} {state}")?;
        }
        Ok(())
    }

    /// Can it take over the states of the level that it replaces (`klp_is_patch_compatible()`,
    /// kernel/livepatch/state.c)?
    ///
    /// # Errors
    ///
    /// [`Reason::StateIncompatible`] with the state.
    pub(crate) fn takes_over(&self, live: &Level, report: &mut Report) -> Result<(), Error> {
        for &(id, version) in &live.states {
            let mut mine = self.states.iter().filter(|(mine, _)| *mine == id);
            if mine.any(|(_, mine)| *mine >= version) {
                continue;
            }
            let (level, over) = (self.number(), live.number());
            return Err(report.refuse(
                Reason::StateIncompatible,
                Place::Nowhere,
                format_args!(
                    "level {over} has changed state {id} (version {version}), which level {level} cannot take over"
                ),
            ));
        }
        Ok(())
    }

    /// Calls the pre-patch callbacks, vmlinux's first.
    ///
    /// # Errors
    ///
    /// [`Reason::CallbackFailed`]; the post-unpatch callbacks of what had been called before it have been called.
    pub(crate) fn pre_patch(
        &self,
        former: Option<&Level>,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.patch.replacing(former.map(|f| &f.patch), || {
            for (index, (module, piece)) in self.hosts().enumerate() {
                if let Err(error) = self.call(Kind::PrePatch, module, piece) {
                    for (module, piece) in self.hosts_before(index) {
                        let _ = self.call(Kind::PostUnpatch, module, piece);
                    }
                    return Err(refused(piece, module, error, report));
                }
            }
            Ok(())
        })
    }

    /// Calls the post-patch callbacks, vmlinux's first.
    pub(crate) fn post_patch(&self, former: Option<&Level>) {
        self.patch.replacing(former.map(|f| &f.patch), || {
            for (module, piece) in self.hosts() {
                let _ = self.call(Kind::PostPatch, module, piece);
            }
        });
    }

    /// Calls the pre-unpatch or post-unpatch callbacks, vmlinux's last.
    pub(crate) fn unpatch(&self, kind: Kind) {
        for (module, piece) in self.hosts_before(usize::MAX) {
            let _ = self.call(kind, module, piece);
        }
    }

    /// The universe of the level that its post-patch callbacks will see as the one before it, if there are any to be called.
    pub(crate) fn waits_for(&self) -> Option<u64> {
        let Due::PostPatch(universe) = self.due else {
            return None;
        };
        let mut callbacks = self.pieces().flat_map(|piece| &piece.callbacks);
        callbacks
            .any(|callback| callback.kind() == Kind::PostPatch)
            .then_some(universe)
    }

    /// Whether post-unpatch callbacks of its are still to be called.
    pub(crate) fn takes_back(&self) -> bool {
        let mut callbacks = self.pieces().flat_map(|piece| &piece.callbacks);
        self.due == Due::PostUnpatch
            && callbacks.any(|callback| callback.kind() == Kind::PostUnpatch)
    }

    /// Which callbacks are to be called for a part whose module goes, before and after: those of the level that is live,
    /// or that has been until a moment ago.
    pub(crate) fn going(&self, live: bool) -> (Option<Kind>, Option<Kind>) {
        match self.due {
            Due::Nothing if live => (Some(Kind::PreUnpatch), Some(Kind::PostUnpatch)),
            Due::PostPatch(_) if live => (None, Some(Kind::PostUnpatch)),
            Due::PostUnpatch => (None, Some(Kind::PostUnpatch)),
            Due::Nothing | Due::PostPatch(_) => (None, None),
        }
    }

    /// Calls the post-unpatch callbacks that were due.
    pub(crate) fn unpatch_at_last(&mut self) {
        if self.due == Due::PostUnpatch {
            self.due = Due::Nothing;
            self.unpatch(Kind::PostUnpatch);
        }
    }

    /// Calls the callbacks of one kind for a part.
    ///
    /// # Errors
    ///
    /// [`Reason::CallbackFailed`], for [`Kind::PrePatch`] only.
    pub(crate) fn call_part(
        &self,
        kind: Kind,
        part: &Part,
        report: &mut Report,
    ) -> Result<(), Error> {
        let module = Some(part.module);
        self.call(kind, module, &part.loaded)
            .map_err(|error| refused(&part.loaded, module, error, report))
    }

    /// Calls the callback of one kind of what is done to vmlinux or to a module, if there is one.
    pub(crate) fn call(&self, kind: Kind, module: Option<Module>, piece: &Loaded) -> Result {
        match piece.callbacks.iter().find(|c| c.kind() == kind) {
            Some(callback) => self.patch.call(callback, module),
            None => Ok(()),
        }
    }

    /// vmlinux, and the modules that are loaded, with what is done to them.
    fn hosts(&self) -> impl Iterator<Item = (Option<Module>, &Loaded)> {
        let parts = self.parts.iter().map(|p| (Some(p.module), &p.loaded));
        Iterator::chain(core::iter::once((None, &self.base.loaded)), parts)
    }

    /// The first `count` of them, the last one first.
    fn hosts_before(&self, count: usize) -> impl Iterator<Item = (Option<Module>, &Loaded)> {
        let count = count.min(self.parts.len().saturating_add(1));
        (0..count).rev().filter_map(|index| self.hosts().nth(index))
    }
}

fn load_part(
    payload: &Trusted<'_>,
    module: Module,
    base: &Base,
    ksyms: Ksyms,
    report: &mut Report,
) -> Result<Part, Error> {
    let objects = Objects::find(payload, Some(module), ksyms, report)?;
    verify::preimages(payload, &objects, report)?;
    let around = Around {
        ksyms,
        objects: &objects,
    };
    let loaded = loader::load_part(payload, module.name(), &around, base, report)?;
    Ok(Part {
        loaded,
        module,
        _needs: objects.needs,
    })
}

fn refused(
    piece: &Loaded,
    module: Option<Module>,
    error: kernel::error::Error,
    report: &mut Report,
) -> Error {
    let mut callbacks = piece.callbacks.iter();
    let callback = callbacks.find(|c| c.kind() == Kind::PrePatch);
    let name = callback.and_then(|c| piece.resident.name_of(c.address()));
    let name = name.map_or("?", |(name, _)| name);
    let object = module.as_ref().map_or("vmlinux", Module::name);
    let errno = error.to_errno();
    report.refuse(
        Reason::CallbackFailed,
        Place::Nowhere,
        format_args!("{name}, the pre-patch callback for {object}, refused with error {errno}"),
    )
}

/// All of them.
///
/// # Errors
///
/// [`Reason::OutOfMemory`].
pub(crate) fn collect<T>(items: impl Iterator<Item = T>) -> Result<KVec<T>, Error> {
    let mut all = KVec::new();
    for item in items {
        all.push(item, GFP_KERNEL).map_err(out_of_memory)?;
    }
    Ok(all)
}
