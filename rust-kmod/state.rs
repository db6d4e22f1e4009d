// SPDX-License-Identifier: GPL-2.0

//! Which level is live, and the ways from one to another.
//!
//! ```text
//!            apply 1                apply 2                     apply 3
//!  nothing ──────────▶ live 1 ─────────────────▶ live 2 ─────────────────▶ live 3
//!     ▲                  │  ◀──────────────────── previous 1 ◀──────────── previous 2
//!     └──── unload ──────┴─────── unload ──────────┘   rollback              (1 is freed)
//! ```
//!
//! Every way has the same steps: *arm* (the functions concerned lead to trampolines, which go on as the
//! flags say: nothing changes), *switch* (flags change in one stop), *settle* (functions lead to their final
//! bodies, or are released). An error before the switch takes back the arming; after it there is none.
//!
//! | flag of a level | functions of the level run | functions of its predecessor only run |
//! |---|---|---|
//! | [`Bodies::Previous`] | the predecessor's, else the original body | the predecessor's body (its own flag is New) |
//! | [`Bodies::New`] | the level's body | the original (the predecessor's flag is Original) |
//! | [`Bodies::Original`] | the original body | – |
//!
//! Locking: [`Core::engine`] is the one coarse lock, held through a whole way, waiting for tasks included;
//! a second request meanwhile is refused, it does not wait. [`Core::status`] nests inside it and is held for
//! copying only, so that reading the state never waits for a switch.

use crate::{
    kapi::{
        keyring::Keyring,
        ksyms::Ksyms,
        module::ModuleRef,
        resident::Flag,
        system, //
    },
    loader::{
        self,
        Function,
        Loaded, //
    },
    payload::{
        error::{
            Error,
            Place,
            Reason, //
        },
        place::Region,
        ranges::{
            Range,
            Ranges, //
        },
        trampoline::Bodies,
        uapi,
    },
    quiesce::{
        Switch,
        Switched, //
    },
    redirect::{
        Choice,
        Redirects, //
    },
    report::{
        out_of_memory,
        Report, //
    },
    status::{
        About,
        Status, //
    },
    verify::{
        self,
        Unverified, //
    },
};
use core::cmp::Ordering;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        Mutex, //
    },
    ThisModule, //
};

/// Module parameters.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// How long a switch waits for tasks, in milliseconds.
    pub(crate) limit_ms: u32,
    /// How functions are redirected.
    pub(crate) choice: Choice,
}

/// A level in memory.
///
/// Fields are dropped in this order: the module stays until the level's memory is gone. Whoever drops it has
/// made sure that nothing leads to it and that no task is inside.
struct Level {
    loaded: Loaded,
    about: Arc<About>,
    _module: ModuleRef,
}

impl Level {
    fn number(&self) -> u32 {
        self.about.level
    }

    fn functions(&self) -> &[Function] {
        &self.loaded.functions
    }

    fn flag(&self) -> &Flag {
        &self.loaded.flag
    }

    /// All its code, trampolines included.
    fn text(&self) -> Range {
        let start = self.loaded.resident.base(Region::Text);
        // CAST: widening.
        let size = self.loaded.resident.size(Region::Text) as u64;
        Range {
            start,
            end: start.saturating_add(size),
        }
    }

    /// Whether it replaces this function.
    fn has(&self, function: &Function) -> bool {
        self.functions()
            .binary_search_by_key(&function.site, |f| f.site)
            .is_ok()
    }

    /// Its functions that `other` does not replace.
    fn without<'a>(&'a self, other: &'a Level) -> impl Iterator<Item = &'a Function> + Clone {
        self.functions().iter().filter(|f| !other.has(f))
    }
}

/// How a way is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// A lower level may replace a higher one.
    downgrade: bool,
    /// Everything short of the switch; then there is no [`Switched`].
    dry_run: bool,
}

impl Request {
    /// `flags` are those of [`uapi::Apply`].
    pub(crate) fn new(flags: u32) -> Self {
        Self {
            downgrade: flags & uapi::APPLY_DOWNGRADE != 0,
            dry_run: flags & uapi::APPLY_DRY_RUN != 0,
        }
    }
}

/// What the ioctl lock protects.
struct Engine {
    redirects: Redirects,
    live: Option<Level>,
    /// The level that `live` has replaced, for a rollback.
    previous: Option<Level>,
    /// Levels that ftrace may still lead to: their memory is never freed.
    stuck: KVec<Level>,
}

impl Engine {
    /// Keeps a level for ever.
    fn keep(&mut self, level: Level, error: kernel::error::Error) {
        pr_err!(
            "ftrace did not give up the functions of level {} (error {}): its memory is kept until reboot\n",
            level.number(),
            error.to_errno()
        );
        // `Core::lock` has reserved the room: nothing may need memory now.
        let _ = self.stuck.push(level, GFP_KERNEL);
    }

    /// Releases functions and then frees the level that they led to.
    fn release(&mut self, level: Level, only: Option<&Level>) {
        let released = match only {
            Some(other) => self.redirects.remove(level.without(other)),
            None => self.redirects.remove(level.functions().iter()),
        };
        match released {
            Ok(()) => {
                self.redirects.synchronize();
                drop(level);
            }
            Err(e) => self.keep(level, e),
        }
    }
}

/// Saves the calls of a live level the detour over the trampolines. That may fail without harm.
fn settle(redirects: &mut Redirects, level: &Level) {
    if let Err(e) = redirects.lead(level.functions().iter(), |f| f.new) {
        let errno = e.to_errno();
        pr_info!("calls keep going through trampolines (error {errno})\n");
    }
}

/// Everything that lives as long as the module.
#[pin_data]
pub(crate) struct Core {
    #[pin]
    engine: Mutex<Engine>,
    #[pin]
    status: Mutex<Status>,
    keyring: Keyring,
    ksyms: Ksyms,
    options: Options,
    module: &'static ThisModule,
}

impl Core {
    /// Nothing applied.
    pub(crate) fn new(
        ksyms: Ksyms,
        keyring: Keyring,
        options: Options,
        module: &'static ThisModule,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            engine <- new_mutex!(Engine {
                redirects: Redirects::new(ksyms, options.choice),
                live: None,
                previous: None,
                stuck: KVec::new(),
            }),
            status <- new_mutex!(Status::new()),
            keyring,
            ksyms,
            options,
            module,
        })
    }

    /// Build-id of the running vmlinux.
    pub(crate) fn build_id(&self) -> [u8; 20] {
        self.ksyms.vmlinux_build_id()
    }

    /// Calls `f` with the status, which does not change meanwhile.
    pub(crate) fn with_status<R>(&self, f: impl FnOnce(&Status) -> R) -> R {
        f(&self.status.lock())
    }

    /// The one coarse lock, with room for the levels that one way may have to keep for ever.
    fn lock(&self) -> Result<Guard<'_, Engine, MutexBackend>, Error> {
        let mut engine = self.engine.try_lock().ok_or(Error::from(Reason::Busy))?;
        engine.stuck.reserve(2, GFP_KERNEL).map_err(out_of_memory)?;
        Ok(engine)
    }

    /// Counts a failure and logs it with its message.
    pub(crate) fn failed(&self, what: &str, error: &Error, report: &mut Report) {
        report.explain(error);
        pr_err!(
            "{} refused ({}): {}\n",
            what,
            error.reason.name(),
            report.as_str()
        );
        self.status.lock().failed();
    }

    /// Applies a payload of user space. A lower level that is live
    /// is replaced in the same stop, and kept for a rollback.
    ///
    /// # Errors
    ///
    /// One reason; everything is as before then.
    pub(crate) fn apply(
        &self,
        payload: Unverified,
        request: Request,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut engine = self.lock()?;
        let engine = &mut *engine;
        let verified = payload.verify(&self.keyring, report)?;
        let payload = verified.parse()?;
        verify::identity(&payload, self.ksyms, report)?;
        policy(
            engine.live.as_ref(),
            payload.level(),
            request.downgrade,
            report,
        )?;
        verify::preimages(&payload, self.ksyms, report)?;
        if request.dry_run {
            let taken = |p: &Level| p.number() == payload.level();
            if engine.previous.as_ref().is_some_and(taken) {
                return Err(report.refuse(
                    Reason::NameTaken,
                    Place::Nowhere,
                    format_args!("it is the level that a rollback goes back to, and cannot be tried beside it"),
                ));
            }
        } else if let Some(level) = engine.previous.take_if(|p| p.number() == payload.level()) {
            // Its name in the module list is wanted again. Nothing has led to it since it was replaced.
            engine.redirects.synchronize();
            drop(level);
            self.status.lock().previous = None;
        }

        let former = engine.live.as_ref().map_or(&[][..], Level::functions);
        let loaded = loader::load(&payload, former, self.ksyms, report)?;
        let level = Level {
            about: About::new(&payload, &loaded)?,
            loaded,
            _module: ModuleRef::new(self.module),
        };
        level.flag().init(match engine.live {
            Some(_) => Bodies::Previous,
            None => Bodies::Original,
        });

        let Engine {
            redirects, live, ..
        } = engine;
        let switched = self.arm_and_replace(redirects, live.as_ref(), &level, request, report);
        let switched = match switched {
            Ok(Some(switched)) => switched,
            unswitched => {
                // The flag has never been New, so no task has ever been in a new body.
                if let Some(live) = &engine.live {
                    settle(&mut engine.redirects, live);
                }
                let live = engine.live.take();
                engine.release(level, live.as_ref());
                engine.live = live;
                unswitched?;
                pr_info!(
                    "patch level {} tried: {}\n",
                    payload.level(),
                    report.as_str()
                );
                return Ok(());
            }
        };

        system::taint_live_patched();
        settle(&mut engine.redirects, &level);
        let oldest = engine.previous.take();
        let former = engine.live.take();
        let replaced = former.as_ref().map_or(0, Level::number);
        if let Some(former) = former {
            match engine.redirects.remove(former.without(&level)) {
                Ok(()) => engine.previous = Some(former),
                Err(e) => engine.keep(former, e),
            }
        }
        let (direct, ipmodify) = engine.redirects.count();
        pr_info!(
            "patch level {} applied: {} functions switched ({} direct, {} ipmodify), stopped for {} us, {} retries\n",
            level.number(),
            level.functions().len(),
            direct,
            ipmodify,
            switched.stop_ns / 1000,
            switched.retries
        );
        if replaced != 0 {
            pr_info!("patch level {} replaced\n", replaced);
        }
        engine.live = Some(level);
        if let Some(oldest) = oldest {
            // Nothing has led to it since it was replaced, and no task was inside then.
            engine.redirects.synchronize();
            drop(oldest);
        }
        self.tell(engine, switched);
        Ok(())
    }

    /// Leads all functions concerned to trampolines, and switches from `live` to `level`; a dry run does
    /// not switch.
    fn arm_and_replace(
        &self,
        redirects: &mut Redirects,
        live: Option<&Level>,
        level: &Level,
        request: Request,
        report: &mut Report,
    ) -> Result<Option<Switched>, Error> {
        redirects.arm(level.functions().iter(), report)?;
        let Some(live) = live else {
            let ranges = leaving(level.functions().iter(), &[level.text()])?;
            let flags = [(level.flag(), Bodies::New)];
            return self.switch(&flags, &ranges, &[level], request, report);
        };
        redirects
            .lead(live.without(level), |f| f.trampoline)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))?;
        let ranges = leaving(level.without(live), &[level.text(), live.text()])?;
        let flags = [(level.flag(), Bodies::New), (live.flag(), Bodies::Original)];
        self.switch(&flags, &ranges, &[level, live], request, report)
    }

    /// Goes back to the level that the live one has replaced.
    ///
    /// # Errors
    ///
    /// [`Reason::NothingApplied`], [`Reason::NoPrevious`], and those of [`Switch::run`]; all is as before
    /// then.
    pub(crate) fn rollback(&self, request: Request, report: &mut Report) -> Result<(), Error> {
        let mut engine = self.lock()?;
        let engine = &mut *engine;
        let Engine {
            redirects,
            live,
            previous,
            ..
        } = engine;
        let live = live.as_ref().ok_or(Error::from(Reason::NothingApplied))?;
        let previous = previous.as_ref().ok_or(Error::from(Reason::NoPrevious))?;

        let armed = redirects
            .arm(previous.without(live), report)
            .and_then(|()| {
                redirects
                    .lead(live.functions().iter(), |f| f.trampoline)
                    .map_err(|e| {
                        report.failed(Reason::RedirectFailed, "leading to the trampolines", e)
                    })
            });
        let switched = armed.and_then(|()| {
            let ranges = leaving(previous.without(live), &[live.text(), previous.text()])?;
            let flags = [
                (live.flag(), Bodies::Previous),
                (previous.flag(), Bodies::New),
            ];
            self.switch(&flags, &ranges, &[live, previous], request, report)
        });
        let switched = match switched {
            Ok(switched) => switched.unwrap_or_default(),
            Err(error) => {
                settle(redirects, live);
                if let Err(e) = redirects.remove(previous.without(live)) {
                    if let Some(level) = engine.previous.take() {
                        engine.keep(level, e);
                    }
                    self.status.lock().previous = None;
                }
                return Err(error);
            }
        };

        settle(redirects, previous);
        pr_info!(
            "rolled back from patch level {} to {}, stopped for {} us, {} retries\n",
            live.number(),
            previous.number(),
            switched.stop_ns / 1000,
            switched.retries
        );
        let back = engine.previous.take();
        if let Some(level) = engine.live.take() {
            engine.release(level, back.as_ref());
        }
        engine.live = back;
        self.tell(engine, switched);
        Ok(())
    }

    /// Takes the live level back: the original bodies run.
    ///
    /// # Errors
    ///
    /// [`Reason::NothingApplied`], and those of [`Switch::run`]; the level is still live then.
    pub(crate) fn unload(&self, request: Request, report: &mut Report) -> Result<(), Error> {
        let mut engine = self.lock()?;
        let engine = &mut *engine;
        let Engine {
            redirects, live, ..
        } = engine;
        let level = live.as_ref().ok_or(Error::from(Reason::NothingApplied))?;
        let switched = redirects
            .lead(level.functions().iter(), |f| f.trampoline)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))
            .and_then(|()| {
                let flags = [(level.flag(), Bodies::Original)];
                self.switch(&flags, &[level.text()], &[level], request, report)
            })
            .inspect_err(|_| settle(redirects, level))?
            .unwrap_or_default();
        pr_info!(
            "patch level {} unloaded: {} functions switched back, stopped for {} us, {} retries\n",
            level.number(),
            level.functions().len(),
            switched.stop_ns / 1000,
            switched.retries
        );
        // No task was behind the trampolines in the stop, and none gets there any more; when the functions
        // are released, none is in a trampoline either.
        if let Some(level) = engine.live.take() {
            engine.release(level, None);
        }
        drop(engine.previous.take());
        self.tell(engine, switched);
        Ok(())
    }

    /// Publishes what is live now.
    fn tell(&self, engine: &Engine, switched: Switched) {
        let about = |level: &Option<Level>| level.as_ref().map(|level| level.about.clone());
        let mut status = self.status.lock();
        status.stopped(switched);
        status.live = about(&engine.live);
        status.previous = about(&engine.previous);
    }

    fn switch(
        &self,
        flags: &[(&Flag, Bodies)],
        ranges: &[Range],
        levels: &[&Level],
        request: Request,
        report: &mut Report,
    ) -> Result<Option<Switched>, Error> {
        let switch = Switch {
            ksyms: self.ksyms,
            flags,
            leaving: Ranges::new(ranges).ok_or(Error::from(Reason::Internal))?,
            limit_ms: self.options.limit_ms,
            name: &|word, report| name_address(levels, word, report),
        };
        if request.dry_run {
            return switch.probe(report).map(|()| None);
        }
        switch.run(report).map(Some)
    }
}

/// May this level go live now?
fn policy(
    live: Option<&Level>,
    wanted: u32,
    downgrade: bool,
    report: &mut Report,
) -> Result<(), Error> {
    let Some(live) = live.map(Level::number) else {
        return Ok(());
    };
    let (reason, text) = match live.cmp(&wanted) {
        Ordering::Equal => (Reason::AlreadyLive, "it is live already"),
        Ordering::Greater if !downgrade => (Reason::LowerLevel, "a higher level is live"),
        Ordering::Less | Ordering::Greater => return Ok(()),
    };
    Err(report.refuse(
        reason,
        Place::Nowhere,
        format_args!("patch level {wanted} cannot be applied over level {live}: {text}"),
    ))
}

/// The code that goes out of use: the original bodies of these functions, and these texts. Sorted.
fn leaving<'a>(
    functions: impl Iterator<Item = &'a Function> + Clone,
    texts: &[Range],
) -> Result<KVec<Range>, Error> {
    let bodies = functions.flat_map(|f| [f.inside, f.cold]);
    let bodies = bodies.filter(|range| range.start < range.end);
    let count = bodies.clone().count().saturating_add(texts.len());
    let mut ranges = KVec::with_capacity(count, GFP_KERNEL).map_err(out_of_memory)?;
    for range in Iterator::chain(bodies, texts.iter().copied()) {
        let at = ranges.partition_point(|r: &Range| r.start < range.start);
        ranges
            .insert_within_capacity(at, range)
            .map_err(|_| Error::from(Reason::Internal))?;
    }
    Ok(ranges)
}

/// `function+0x12`, for an address in an original body or in a level's own text.
fn name_address(levels: &[&Level], word: u64, report: &mut Report) {
    let offset_in = |range: Range| {
        let offset = word.checked_sub(range.start)?;
        (word < range.end).then_some(offset)
    };
    let functions = levels.iter().flat_map(|level| level.functions());
    let place = functions.filter_map(|function| {
        let body = offset_in(function.body).map(|offset| ("", offset));
        let cold = || offset_in(function.cold).map(|offset| (".cold", offset));
        Some((function, body.or_else(cold)?))
    });
    let in_text = || {
        let mut levels = levels.iter();
        levels.find_map(|level| level.loaded.resident.name_of(word))
    };
    if let Some((function, (part, offset))) = place.into_iter().next() {
        let name = function.name.to_str().unwrap_or("?");
        report.add(format_args!("{name}{part}+{offset:#x}"));
    } else if let Some((name, offset)) = in_text() {
        report.add(format_args!("{name}+{offset:#x} of the patch"));
    } else {
        report.add(format_args!("the patch"));
    }
}
