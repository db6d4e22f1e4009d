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
//! Locking: a request holds [`Core::request`], and a second one meanwhile is refused, it does not wait. Inside it
//! [`Core::engine`] is the one coarse lock, held through a whole way, waiting for tasks included. A module that comes or
//! goes does wait for it ([`crate::late`]), with the lock of the kernel's chain held, so that a way takes that lock
//! first. [`Core::status`] nests inside all and is held for copying only, so that reading the state never waits.

use crate::{
    kapi::{
        callbacks::Kind,
        keyring::Keyring,
        ksyms::Ksyms,
        module::ChainGuard,
        oom,
        oops,
        resident::Flag,
        system, //
    },
    level::Level,
    loader::Function,
    objects::Objects,
    payload::{
        error::{
            Error,
            Place,
            Reason, //
        },
        ranges::{
            Range,
            Ranges, //
        },
        trampoline::Bodies,
        uapi::{
            self,
            What, //
        },
    },
    quiesce::{
        Name,
        Switch,
        Switched, //
    },
    redirect::{
        pause,
        Choice,
        Redirects,
        TRIES, //
    },
    report::{
        out_of_memory,
        Report, //
    },
    status::{
        Status,
        Text, //
    },
    verify::{
        self,
        Unverified,
        Verified, //
    },
};
use core::{
    cmp::Ordering,
    fmt, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Mutex, //
    },
    ThisModule, //
};

/// Module parameters.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// How long a switch waits for tasks, in milliseconds.
    pub(crate) limit_ms: u32,
    /// After how long a switch wakes sleeping tasks that are in its way, in milliseconds; 0 for never.
    pub(crate) nudge_ms: u32,
    /// How functions are redirected.
    pub(crate) choice: Choice,
    /// Modules that cannot be patched may be loaded.
    pub(crate) allow_unpatched: bool,
    /// No level is taken back, nor replaced by a lower one.
    pub(crate) latch: bool,
    /// Levels go live also if the kernel takes no modules any more.
    pub(crate) ignore_modules_disabled: bool,
}

/// How a way is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// A lower level may replace a higher one.
    downgrade: bool,
    /// Everything short of the switch; then there is no [`Switched`].
    dry_run: bool,
    /// Switch at the end of the time limit, whoever is in the way.
    force: bool,
}

impl Request {
    /// `flags` are those of [`uapi::Apply`].
    pub(crate) fn new(flags: u32) -> Self {
        Self {
            downgrade: flags & uapi::APPLY_DOWNGRADE != 0,
            dry_run: flags & uapi::APPLY_DRY_RUN != 0,
            force: flags & uapi::APPLY_FORCE != 0,
        }
    }

    /// `flags` are those of [`uapi::Unload`].
    pub(crate) fn taking_back(flags: u32) -> Self {
        Self {
            downgrade: false,
            dry_run: false,
            force: flags & uapi::UNLOAD_FORCE != 0,
        }
    }
}

/// What the ioctl lock protects.
pub(crate) struct Engine {
    pub(crate) redirects: Redirects,
    pub(crate) live: Option<Level>,
    /// The level that `live` has replaced, for a rollback.
    pub(crate) previous: Option<Level>,
    /// The highest floor of all levels that have been live: nothing below it goes live any more.
    floor: u32,
}

/// The engine, and the chain through which kcare tells of its own modules. Those that come or go wait for the engine.
///
/// Fields are dropped in this order, the reverse of locking.
struct Locked<'a> {
    engine: Guard<'a, Engine, MutexBackend>,
    _chain: ChainGuard,
    _request: Guard<'a, (), MutexBackend>,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // It could not be had while the engine was busy.
        self.engine.offer();
    }
}

impl Engine {
    /// Whether a level may go live after those that have been.
    fn above_floor(&self, level: u32, report: &mut Report) -> Result<(), Error> {
        if level >= self.floor {
            return Ok(());
        }
        let floor = self.floor;
        Err(report.refuse(
            Reason::BelowFloor,
            Place::Nowhere,
            format_args!("patch level {level} is below {floor}, under which no level may follow one that has been live"),
        ))
    }

    /// What memory can be had back for, if it is short: the level that is kept for a rollback.
    fn offer(&self) {
        oom::set_spare(self.previous.as_ref().map_or(0, Level::memory));
    }
}

/// Why [`keep`] is called where ftrace did not release functions.
macro_rules! unreleased {
    ($error:expr) => {
        format_args!(
            "ftrace did not give up its functions (error {})",
            $error.to_errno()
        )
    };
}
pub(crate) use unreleased;

/// Keeps for ever what ftrace may still lead to, or a task return to.
pub(crate) fn keep<T>(code: T, why: fmt::Arguments<'_>) {
    pr_err!("the memory of a patch is kept until reboot: {why}\n");
    core::mem::forget(code);
}

/// Saves the calls of functions of a live level the detour over the trampolines. That may fail without harm.
pub(crate) fn settle<'a>(redirects: &mut Redirects, functions: impl Iterator<Item = &'a Function>) {
    if let Err(e) = redirects.lead(functions, |f| f.new) {
        let errno = e.to_errno();
        pr_info!("calls keep going through trampolines (error {errno})\n");
    }
}

/// Everything that lives as long as the module.
#[pin_data]
pub(crate) struct Core {
    #[pin]
    request: Mutex<()>,
    #[pin]
    engine: Mutex<Engine>,
    #[pin]
    status: Mutex<Status>,
    keyring: Keyring,
    pub(crate) ksyms: Ksyms,
    pub(crate) options: Options,
    module: &'static ThisModule,
}

impl Core {
    /// Nothing applied.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        ksyms: Ksyms,
        keyring: Keyring,
        options: Options,
        module: &'static ThisModule,
    ) -> Result<impl PinInit<Self>> {
        let nothing = Status::new()?;
        Ok(pin_init!(Self {
            request <- new_mutex!(()),
            engine <- new_mutex!(Engine {
                redirects: Redirects::new(ksyms, options.choice),
                live: None,
                previous: None,
                floor: 0,
            }),
            status <- new_mutex!(nothing),
            keyring,
            ksyms,
            options,
            module,
        }))
    }

    /// Build-id of the running vmlinux.
    pub(crate) fn build_id(&self) -> [u8; 20] {
        self.ksyms.vmlinux_build_id()
    }

    /// Calls `f` with the status, which does not change meanwhile.
    pub(crate) fn with_status<R>(&self, f: impl FnOnce(&Status) -> R) -> R {
        f(&self.status.lock())
    }

    /// The one coarse lock, for one request at a time.
    fn lock(&self) -> Result<Locked<'_>, Error> {
        let request = self.request.try_lock().ok_or(Error::from(Reason::Busy))?;
        let chain = ChainGuard::lock();
        // A module that comes or goes holds it for a moment.
        Ok(Locked {
            engine: self.engine.lock(),
            _chain: chain,
            _request: request,
        })
    }

    /// The lock for a module that comes or goes, which waits.
    pub(crate) fn lock_in_chain(&self) -> Guard<'_, Engine, MutexBackend> {
        self.engine.lock()
    }

    /// Counts a failure, of what is done to a module or (empty) to the whole, and logs it with its message.
    pub(crate) fn failed(&self, what: What, module: &str, error: &Error, report: &mut Report) {
        report.explain(error);
        let name = match what {
            What::Apply => "patch",
            What::ModuleCame => "module",
            other => other.name(),
        };
        pr_err!(
            "{} refused ({}): {}\n",
            name,
            error.reason.name(),
            report.as_str()
        );
        let mut status = self.status.lock();
        status.failed();
        let level = status.level();
        status.note(what, module, level, Some(error.reason));
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
        if system::modules_disabled() && !self.options.ignore_modules_disabled {
            return Err(Reason::ModulesDisabled.into());
        }
        // In front of the lock: the kernel may load a module for the signature's algorithm.
        let verified = payload.verify(&self.keyring, report)?;
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        let mut level = self.admit(verified, engine, request, report)?;
        level.flag().init(match engine.live {
            Some(_) => Bodies::Previous,
            None => Bodies::Original,
        });
        let number = level.number();

        let Engine {
            redirects, live, ..
        } = engine;
        let live = live.as_ref();
        let called = match request.dry_run {
            true => Ok(()),
            false => level.pre_patch(live, report),
        };
        let undo = called.is_ok() && !request.dry_run;
        let switched =
            called.and_then(|()| self.arm_and_replace(redirects, live, &level, request, report));
        let switched = match switched {
            Ok(Some(switched)) => switched,
            unswitched => {
                // The flag has never been New, so no task has ever been in a new body.
                if undo {
                    level.unpatch(Kind::PostUnpatch);
                }
                let Engine {
                    redirects, live, ..
                } = engine;
                if let Some(live) = live {
                    settle(redirects, live.functions());
                }
                self.release(redirects, level, live.as_ref());
                unswitched?;
                pr_info!("patch level {} tried: {}\n", number, report.as_str());
                return Ok(());
            }
        };

        oops::set_level(number);
        system::taint_live_patched();
        if switched.forced {
            level.pin();
            engine.live.as_mut().map(Level::pin);
        }
        settle(&mut engine.redirects, level.functions());
        level.post_patch(engine.live.as_ref());
        let oldest = engine.previous.take();
        let former = engine.live.take();
        let replaced = former.as_ref().map_or(0, Level::number);
        if let Some(former) = former {
            match engine.redirects.remove(former.without(&level)) {
                Ok(()) => engine.previous = Some(former),
                Err(e) => keep(former, unreleased!(e)),
            }
        }
        let (direct, ipmodify) = engine.redirects.count();
        pr_info!(
            "patch level {} applied: {} functions switched ({} direct, {} ipmodify), stopped for {} us, {} retries\n",
            level.number(),
            level.functions().count(),
            direct,
            ipmodify,
            switched.stop_ns / 1000,
            switched.retries
        );
        if replaced != 0 {
            pr_info!("patch level {} replaced\n", replaced);
        }
        engine.floor = engine.floor.max(level.floor());
        engine.live = Some(level);
        self.tell(engine, switched, What::Apply);
        if let Some(oldest) = oldest {
            self.give_up(&engine.redirects, oldest);
        }
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
        redirects.arm(level.functions(), report)?;
        let Some(live) = live else {
            let ranges = leaving(level.functions(), level.texts())?;
            let flags = [(level.flag(), Bodies::New)];
            return self.switch(&flags, &ranges, &[level], request, report);
        };
        redirects
            .lead(live.without(level), |f| f.trampoline)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))?;
        let ranges = leaving(
            level.without(live),
            Iterator::chain(level.texts(), live.texts()),
        )?;
        let flags = [(level.flag(), Bodies::New), (live.flag(), Bodies::Original)];
        self.switch(&flags, &ranges, &[level, live], request, report)
    }

    /// Goes back to the level that the live one has replaced.
    ///
    /// # Errors
    ///
    /// [`Reason::Latched`], [`Reason::BelowFloor`], [`Reason::NothingApplied`], [`Reason::NoPrevious`], and those of
    /// [`Switch::run`]; all is as before then.
    pub(crate) fn rollback(&self, request: Request, report: &mut Report) -> Result<(), Error> {
        self.unlatched()?;
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        if let Some(previous) = &engine.previous {
            engine.above_floor(previous.number(), report)?;
        }
        let Engine {
            redirects,
            live,
            previous,
            ..
        } = engine;
        let live = live.as_ref().ok_or(Error::from(Reason::NothingApplied))?;
        let previous = previous.as_ref().ok_or(Error::from(Reason::NoPrevious))?;

        previous.takes_over(live, report)?;
        previous.pre_patch(Some(live), report)?;
        let armed = redirects
            .arm(previous.without(live), report)
            .and_then(|()| {
                redirects
                    .lead(live.functions(), |f| f.trampoline)
                    .map_err(|e| {
                        report.failed(Reason::RedirectFailed, "leading to the trampolines", e)
                    })
            });
        let switched = armed.and_then(|()| {
            let ranges = leaving(
                previous.without(live),
                Iterator::chain(live.texts(), previous.texts()),
            )?;
            let flags = [
                (live.flag(), Bodies::Previous),
                (previous.flag(), Bodies::New),
            ];
            self.switch(&flags, &ranges, &[live, previous], request, report)
        });
        let switched = match switched {
            Ok(switched) => switched.unwrap_or_default(),
            Err(error) => {
                previous.unpatch(Kind::PostUnpatch);
                settle(redirects, live.functions());
                if let Err(e) = redirects.remove(previous.without(live)) {
                    if let Some(level) = engine.previous.take() {
                        keep(level, unreleased!(e));
                    }
                    self.status.lock().previous = None;
                }
                return Err(error);
            }
        };

        oops::set_level(previous.number());
        settle(redirects, previous.functions());
        previous.post_patch(Some(live));
        pr_info!(
            "rolled back from patch level {} to {}, stopped for {} us, {} retries\n",
            live.number(),
            previous.number(),
            switched.stop_ns / 1000,
            switched.retries
        );
        let mut back = engine.previous.take();
        if switched.forced {
            engine.live.as_mut().map(Level::pin);
            back.as_mut().map(Level::pin);
        }
        let level = core::mem::replace(&mut engine.live, back);
        self.tell(engine, switched, What::Rollback);
        if let Some(level) = level {
            self.release(&mut engine.redirects, level, engine.live.as_ref());
        }
        Ok(())
    }

    /// Takes the live level back: the original bodies run.
    ///
    /// # Errors
    ///
    /// [`Reason::Latched`], [`Reason::NothingApplied`], and those of [`Switch::run`]; the level is still live then.
    pub(crate) fn unload(&self, request: Request, report: &mut Report) -> Result<(), Error> {
        self.unlatched()?;
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        let Engine {
            redirects, live, ..
        } = engine;
        let level = live.as_ref().ok_or(Error::from(Reason::NothingApplied))?;
        level.unpatch(Kind::PreUnpatch);
        let switched = redirects
            .lead(level.functions(), |f| f.trampoline)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))
            .and_then(|()| {
                let flags = [(level.flag(), Bodies::Original)];
                let ranges = leaving(core::iter::empty(), level.texts())?;
                self.switch(&flags, &ranges, &[level], request, report)
            })
            .inspect_err(|_| {
                settle(redirects, level.functions());
                level.post_patch(None);
            })?
            .unwrap_or_default();
        oops::set_level(0);
        pr_info!(
            "patch level {} unloaded: {} functions switched back, stopped for {} us, {} retries\n",
            level.number(),
            level.functions().count(),
            switched.stop_ns / 1000,
            switched.retries
        );
        level.unpatch(Kind::PostUnpatch);
        let (level, previous) = (engine.live.take(), engine.previous.take());
        self.tell(engine, switched, What::Unload);
        // No task was behind the trampolines in the stop, and none gets there any more; when the functions
        // are released, none is in a trampoline either.
        if let Some(mut level) = level {
            if switched.forced {
                level.pin();
            }
            self.release(&mut engine.redirects, level, None);
        }
        if let Some(previous) = previous {
            self.give_up(&engine.redirects, previous);
        }
        Ok(())
    }

    /// Frees the level that is kept for a rollback.
    ///
    /// # Errors
    ///
    /// [`Reason::NoPrevious`], [`Reason::Busy`]; those of [`Core::vacant`], and it is still kept then.
    pub(crate) fn forget(&self, report: &mut Report) -> Result<(), Error> {
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        let previous = engine
            .previous
            .as_ref()
            .ok_or(Error::from(Reason::NoPrevious))?;
        let number = previous.number();
        // Nothing has led to it since it was replaced.
        engine.redirects.synchronize();
        if !previous.is_pinned() {
            self.vacant(&engine.redirects, previous.texts(), report)?;
        }
        if let Some(level) = engine.previous.take() {
            level.free();
        }
        pr_info!("patch level {number} is no longer kept for a rollback\n");
        self.publish(engine, What::Forget, "");
        Ok(())
    }

    /// Frees a level that was kept for a rollback: nothing has led to it since it was replaced, and no task was inside
    /// then.
    pub(crate) fn give_up(&self, redirects: &Redirects, level: Level) {
        redirects.synchronize();
        self.free(redirects, level);
    }

    /// Releases the functions of a level that has gone, and then frees it. Those that `other` redirects, too, the live
    /// level if there is one, may still lead to its trampolines, as [`settle`] may have failed.
    fn release(&self, redirects: &mut Redirects, level: Level, other: Option<&Level>) {
        let released = match other {
            Some(other) => redirects
                .lead_at_last(other.functions(), |f| f.new)
                .and_then(|()| redirects.remove(level.without(other))),
            None => redirects.remove(level.functions()),
        };
        match released {
            Ok(()) => {
                redirects.synchronize();
                self.free(redirects, level);
            }
            Err(e) => keep(level, unreleased!(e)),
        }
    }

    /// Frees a level to which nothing leads any more, behind [`Redirects::synchronize`].
    fn free(&self, redirects: &Redirects, level: Level) {
        let mut report = Report::new().unwrap_or(Report::none());
        match level.is_pinned() || self.vacant(redirects, level.texts(), &mut report).is_ok() {
            true => level.free(),
            false => keep(level, format_args!("{}", report.as_str())),
        }
    }

    /// Waits until no task returns to these texts any more, to which nothing leads, behind [`Redirects::synchronize`].
    /// If memory is short, it is tried again.
    ///
    /// # Errors
    ///
    /// Those of [`Switch::run`], with the report that says why.
    pub(crate) fn vacant(
        &self,
        redirects: &Redirects,
        texts: impl Iterator<Item = Range> + Clone,
        report: &mut Report,
    ) -> Result<(), Error> {
        if !redirects.is_shared() {
            return Ok(());
        }
        let mut tries = 1;
        loop {
            let left = leaving(core::iter::empty(), texts.clone()).and_then(|ranges| {
                let name: Name<'_> = &|_, report| report.add(format_args!("the patch"));
                let switch = Switch {
                    interruptible: false,
                    ..self.to_switch(&[], &ranges, name)?
                };
                switch.run(report)
            });
            match left {
                Ok(_) => return Ok(()),
                Err(error) if error.reason == Reason::OutOfMemory && tries < TRIES => tries += 1,
                Err(error) => {
                    report.explain(&error);
                    return Err(error);
                }
            }
            report.clear();
            pause();
        }
    }

    /// Publishes what is live now, after a stop.
    fn tell(&self, engine: &Engine, switched: Switched, what: What) {
        self.status.lock().stopped(switched);
        self.publish(engine, what, "");
    }

    /// Publishes what is live now, and what has brought it about, of a module or (empty) of the whole.
    pub(crate) fn publish(&self, engine: &Engine, what: What, module: &str) {
        let before = self.show(engine);
        self.status.lock().note(what, module, before, None);
    }

    /// Publishes what is live now; gives the level that was said to be before.
    pub(crate) fn show(&self, engine: &Engine) -> u32 {
        let about = |level: &Option<Level>| level.as_ref().map(Level::about);
        let mut modules = Text::new();
        let (mut memory, mut functions) = (0, 0);
        if let Some(live) = &engine.live {
            // Memory is short if this fails, and the lines are cut.
            let _ = live.print_modules(&mut modules);
            (memory, functions) = (live.memory(), live.functions().count());
        }
        engine.offer();
        let mut status = self.status.lock();
        let before = status.level();
        status.live = about(&engine.live);
        status.previous = about(&engine.previous);
        // CAST: widening.
        status.memory = memory as u64;
        status.nr_funcs = u32::try_from(functions).unwrap_or(u32::MAX);
        status.modules = modules;
        before
    }

    /// Whether a payload may still be applied, by the clock of the machine.
    fn unexpired(&self, not_after: u64, report: &mut Report) -> Result<(), Error> {
        let now = system::real_seconds();
        if not_after == 0 || now <= not_after {
            return Ok(());
        }
        Err(report.refuse(
            Reason::Expired,
            Place::Nowhere,
            format_args!("it was to be applied until {not_after}, in seconds since 1970, and now it is {now}"),
        ))
    }

    /// Whether levels may be taken back at all.
    fn unlatched(&self) -> Result<(), Error> {
        match self.options.latch {
            true => Err(Reason::Latched.into()),
            false => Ok(()),
        }
    }

    /// Checks a payload and loads it, whatever the engine does now.
    fn admit(
        &self,
        payload: Verified,
        engine: &Engine,
        request: Request,
        report: &mut Report,
    ) -> Result<Level, Error> {
        let parsed = payload.parse(report)?;
        let outer = parsed.outer();
        let objects = Objects::find(&outer, None, self.ksyms, report)?;
        let manifest = *outer.manifest();
        self.unexpired(manifest.not_after, report)?;
        engine.above_floor(manifest.level, report)?;
        let downgrade = request.downgrade && !self.options.latch;
        policy(engine.live.as_ref(), manifest.level, downgrade, report)?;
        verify::preimages(&outer, &objects, report)?;
        engine.redirects.check_alive(report)?;
        let former = engine.live.as_ref();
        let context = (self.ksyms, self.module);
        let mut level = Level::load(payload, objects, former, context, report)?;
        if let Some(live) = former {
            level.takes_over(live, report)?;
        }
        level.complete(None, former, self.ksyms, report)?;
        Ok(level)
    }

    /// A switch that a signal ends, and that is not forced.
    fn to_switch<'a>(
        &self,
        flags: &'a [(&'a Flag, Bodies)],
        ranges: &'a [Range],
        name: Name<'a>,
    ) -> Result<Switch<'a>, Error> {
        Ok(Switch {
            ksyms: self.ksyms,
            flags,
            leaving: Ranges::new(ranges).ok_or(Error::from(Reason::Internal))?,
            limit_ms: self.options.limit_ms,
            nudge_ms: self.options.nudge_ms,
            force: false,
            interruptible: true,
            name,
        })
    }

    fn switch(
        &self,
        flags: &[(&Flag, Bodies)],
        ranges: &[Range],
        levels: &[&Level],
        request: Request,
        report: &mut Report,
    ) -> Result<Option<Switched>, Error> {
        let name: Name<'_> = &|word, report| name_address(levels, word, report);
        let switch = Switch {
            force: request.force,
            ..self.to_switch(flags, ranges, name)?
        };
        if request.dry_run {
            switch.probe(report);
            return Ok(None);
        }
        switch.run(report).map(Some)
    }
}

impl oom::Relief for Core {
    fn relieve(&self) {
        pr_warn!("memory is short\n");
        // Whoever is busy with the levels now may free it as well, or tells of it once more.
        if let Err(error) = self.forget(&mut Report::none()) {
            let reason = error.reason.name();
            pr_warn!("the level for a rollback is still kept ({reason})\n");
        }
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
    texts: impl Iterator<Item = Range> + Clone,
) -> Result<KVVec<Range>, Error> {
    let bodies = functions.flat_map(|f| [f.inside, f.cold]);
    let all = Iterator::chain(bodies, texts).filter(|range| range.start < range.end);
    let count = all.clone().count();
    let mut ranges = KVVec::with_capacity(count, GFP_KERNEL).map_err(out_of_memory)?;
    for range in all {
        let at = ranges.partition_point(|r: &Range| r.start < range.start);
        ranges
            .insert_within_capacity(at, range)
            .map_err(|_| Error::from(Reason::Internal))?;
    }
    Ok(ranges)
}

/// `function+0x12`, for an address in an original body or in a level's own text.
fn name_address(levels: &[&Level], word: u64, report: &mut Report) {
    for level in levels {
        for function in level.functions() {
            for (part, range) in [("", function.body), (".cold", function.cold)] {
                if (range.start..range.end).contains(&word) {
                    let name = function.name.to_str().unwrap_or("?");
                    let offset = word.saturating_sub(range.start);
                    report.add(format_args!("{name}{part}+{offset:#x}"));
                    return;
                }
            }
        }
    }
    match levels.iter().find_map(|level| level.name_of(word)) {
        Some((name, offset)) => report.add(format_args!("{name}+{offset:#x} of the patch")),
        None => report.add(format_args!("the patch")),
    }
}
