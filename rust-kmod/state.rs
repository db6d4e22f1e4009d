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
//! How a way is gone, and what happens if tasks are inside the code that goes out of use, is in [`crate::transition`].
//!
//! Locking: a request holds [`Core::request`], and a second one meanwhile is refused, it does not wait. Inside it
//! [`Core::engine`] is the one coarse lock, held through a whole way. A module that comes or
//! goes does wait for it ([`crate::late`]) if a level patches it, with the lock of the kernel's chain held, so that a way
//! takes that lock first. What is left for later takes both, too. [`Core::wanted`] nests inside; it tells all other modules
//! apart, which do not wait. [`Core::status`] nests inside all and is held for copying only, so that reading the state never
//! waits. A revocation holds [`Core::request`] alone, so that each request comes before it or behind it.

use crate::{
    kapi::{
        callbacks::Kind,
        keyring::{
            Keyring,
            Revoked, //
        },
        ksyms::Ksyms,
        module::ChainGuard,
        oom,
        oops,
        stragglers::Stragglers,
        system, //
    },
    level::{
        Due,
        Level, //
    },
    loader::Function,
    objects::Objects,
    payload::{
        arrange::ORIGINAL,
        error::{
            Error,
            Place,
            Reason, //
        },
        uapi::{
            self,
            What, //
        },
    },
    quiesce::Switched,
    reclaim::{
        Reclaim,
        WAIT_MS, //
    },
    redirect::{
        Choice,
        Redirects,
        Target, //
    },
    report::{
        out_of_memory,
        Hex,
        Report, //
    },
    status::{
        Status,
        Text, //
    },
    transition::{
        Open,
        Way, //
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
    str::CString,
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
    /// How long a switch that must not leave stragglers waits for tasks, in milliseconds.
    pub(crate) limit_ms: u32,
    /// After how long such a switch wakes sleeping tasks that are in its way, in milliseconds; 0 for never.
    pub(crate) nudge_ms: u32,
    /// How long any other switch looks for a moment when no task is inside, in milliseconds.
    pub(crate) effort_ms: u32,
    /// For how long tasks may be looked at in one stop, in nanoseconds.
    pub(crate) stop_ns: u64,
    /// How functions are redirected, until [`Core::redirect`].
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
    pub(crate) dry_run: bool,
}

impl Request {
    /// `flags` are those of [`uapi::Apply`].
    pub(crate) fn new(flags: u32) -> Self {
        Self {
            downgrade: flags & uapi::APPLY_DOWNGRADE != 0,
            dry_run: flags & uapi::APPLY_DRY_RUN != 0,
        }
    }

    /// An unload or a rollback.
    pub(crate) fn taking_back() -> Self {
        Self {
            downgrade: false,
            dry_run: false,
        }
    }
}

/// What the ioctl lock protects.
pub(crate) struct Engine {
    pub(crate) redirects: Redirects,
    pub(crate) live: Option<Level>,
    /// The level that `live` has replaced, for a rollback.
    pub(crate) previous: Option<Level>,
    /// Levels that only stragglers see; none unless a transition is open.
    pub(crate) retired: KVec<Level>,
    pub(crate) stragglers: Stragglers,
    /// There are stragglers, or were until a moment ago.
    pub(crate) open: Option<Open>,
    /// What is not needed any more.
    pub(crate) reclaim: Reclaim,
    /// The universe of the level that was loaded last.
    universe: u64,
    /// The highest floor of all levels that have been live: nothing below it goes live any more.
    floor: u32,
}

/// The engine, and the chain through which kcare tells of its own modules. Those that come or go wait for the engine.
///
/// Fields are dropped in this order, the reverse of locking.
pub(crate) struct Locked<'a> {
    pub(crate) engine: Guard<'a, Engine, MutexBackend>,
    _chain: ChainGuard,
    /// What is left for later has none.
    _request: Option<Guard<'a, (), MutexBackend>>,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // It could not be had while the engine was busy.
        self.engine.offer();
        self.engine.reclaim_soon();
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

    /// [`Redirects::convert`], for all levels.
    fn convert(&mut self, choice: Choice, report: &mut Report) -> Result<(), Error> {
        let Engine {
            redirects,
            live,
            previous,
            retired,
            open,
            ..
        } = self;
        let functions = live.iter().flat_map(Level::functions);
        let kept = Iterator::chain(previous.iter(), &*retired);
        let levels = Iterator::chain(live.iter(), kept);
        // Only what is live leads to bodies, and only while no transition is open.
        let converted = redirects
            .lead(functions.clone(), Target::Trampoline)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))
            .and_then(|()| {
                let find = |site| levels.clone().find_map(|level| level.find(site));
                redirects.convert(choice, find, report)
            });
        if open.is_none() {
            settle(redirects, functions);
        }
        converted
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

/// Adds to a list that has room for it; what has none, against all expectation, stays for ever.
pub(crate) fn remember<T>(list: &mut KVec<T>, item: T) {
    if let Err(e) = list.push_within_capacity(item) {
        keep(e, format_args!("there is no room to remember it"));
    }
}

/// Saves the calls of functions of a live level the detour over the trampolines. That may fail without harm.
pub(crate) fn settle<'a>(
    redirects: &mut Redirects,
    functions: impl Iterator<Item = &'a Function> + Clone,
) {
    if let Err(e) = redirects.lead(functions, Target::Body) {
        let errno = e.to_errno();
        pr_info!("calls keep going through trampolines (error {errno})\n");
    }
}

/// Names of the modules that levels in memory patch, and one that is being loaded. All other modules come and go without
/// waiting for a request.
pub(crate) struct Wanted(KVec<(u64, KVec<CString>)>);

/// Everything that lives as long as the module.
#[pin_data]
pub(crate) struct Core {
    #[pin]
    request: Mutex<()>,
    #[pin]
    engine: Mutex<Engine>,
    #[pin]
    status: Mutex<Status>,
    #[pin]
    wanted: Mutex<Wanted>,
    keyring: Arc<Keyring>,
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
        keyring: Arc<Keyring>,
        options: Options,
        module: &'static ThisModule,
    ) -> Result<impl PinInit<Self>> {
        let nothing = Status::new(options.choice, keyring.clone())?;
        let reclaim = Reclaim::new()?;
        Ok(pin_init!(Self {
            request <- new_mutex!(()),
            engine <- new_mutex!(Engine {
                redirects: Redirects::new(ksyms, options.choice),
                live: None,
                previous: None,
                retired: KVec::new(),
                stragglers: Stragglers::new(ksyms),
                open: None,
                reclaim,
                universe: ORIGINAL,
                floor: 0,
            }),
            status <- new_mutex!(nothing),
            wanted <- new_mutex!(Wanted(KVec::new())),
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
        let mut locked = self.lock_for_later();
        locked._request = Some(request);
        Ok(locked)
    }

    /// The same, for what is left for later.
    pub(crate) fn lock_for_later(&self) -> Locked<'_> {
        let chain = ChainGuard::lock();
        // A module that comes or goes holds it for a moment.
        Locked {
            engine: self.engine.lock(),
            _chain: chain,
            _request: None,
        }
    }

    /// The lock for a module that comes or goes, which waits.
    pub(crate) fn lock_in_chain(&self) -> Guard<'_, Engine, MutexBackend> {
        self.engine.lock()
    }

    /// Has modules that a level patches wait for the engine's lock from here on.
    fn want(&self, level: &Level) -> Result<(), Error> {
        let mut names = KVec::new();
        for name in level.modules() {
            let name = CString::try_from(name).map_err(out_of_memory)?;
            names.push(name, GFP_KERNEL).map_err(out_of_memory)?;
        }
        let mut wanted = self.wanted.lock();
        let entry = (level.universe(), names);
        wanted.0.push(entry, GFP_KERNEL).map_err(out_of_memory)
    }

    /// Forgets what levels wanted that are not in memory any more.
    fn want_no_more(&self, engine: &Engine) {
        // The one that was loaded last may be on its way.
        let there = |universe: u64| {
            let mut levels = Iterator::chain(engine.levels(), engine.reclaim.past.all());
            universe == engine.universe || levels.any(|level| level.universe() == universe)
        };
        self.wanted
            .lock()
            .0
            .retain(|(universe, _)| there(*universe));
    }

    /// Calls `f` if no level patches a module of this name; none begins to meanwhile.
    pub(crate) fn unless_wanted(&self, module: &str, f: impl FnOnce()) -> bool {
        let wanted = self.wanted.lock();
        let mut names = wanted.0.iter().flat_map(|(_, names)| names);
        if names.any(|name| name.to_bytes() == module.as_bytes()) {
            return false;
        }
        f();
        true
    }

    /// Counts a failure, of what is done to a module or (empty) to the whole, and logs it with its message.
    pub(crate) fn failed(&self, what: What, module: &str, error: &Error, report: &mut Report) {
        report.explain(error);
        let name = match what {
            What::Apply => "patch",
            What::ModuleCame => "module",
            What::Revoke => "revocation record",
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
    #[inline(never)]
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
        pr_info!("verifying patch...\n");
        let signed = payload.verify(&self.keyring, report)?;
        let verified = signed.payload(&self.keyring, report)?;
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        self.close_if_over(engine, 0);
        let level = self.admit(verified, engine, request, report)?;
        let all_at_once =
            level.is_all_at_once() || engine.live.as_ref().is_some_and(Level::is_all_at_once);
        // What a level that has gone has still to take back comes before what this one sets up.
        if all_at_once || engine.retired.iter().any(Level::takes_back) {
            self.wait_for_stragglers(engine, report)?;
        }
        engine.reserve()?;
        let number = level.number();
        let (level, switched) = match self.replace(engine, level, false, request, report) {
            Ok((level, Some(switched))) => (level, switched),
            Ok((level, None)) => {
                self.give_up(engine, level);
                pr_info!("patch level {} tried: {}\n", number, report.as_str());
                return Ok(());
            }
            Err((error, level)) => {
                // Its bodies have never been seen, so that no task has ever been in one.
                if let Some(level) = level {
                    self.give_up(engine, level);
                }
                return Err(error);
            }
        };
        system::taint_live_patched();
        let (oldest, former) = (engine.previous.take(), engine.live.take());
        let replaced = former.as_ref().map_or(0, Level::number);
        engine.floor = engine.floor.max(level.floor());
        self.follow(engine, level, former, switched, report);
        if let Some(oldest) = oldest {
            engine.put_away(oldest);
        }
        let functions = engine
            .live
            .as_ref()
            .map_or(0, |live| live.functions().count());
        let (direct, ipmodify) = engine.redirects.count();
        pr_info!(
            "patch level {number} applied: {functions} functions switched ({direct} direct, {ipmodify} ipmodify), {switched}\n"
        );
        if replaced != 0 {
            pr_info!("patch level {} replaced\n", replaced);
        }
        self.tell(engine, switched, What::Apply);
        self.finish(engine);
        Ok(())
    }

    /// Switches from the live level to another one that is in memory, if this is no dry run; after an error, and after a dry
    /// run, all leads to where it did. `known` says that it has been live before. Gives the level back, but for one that has to stay in memory for ever.
    #[inline(never)]
    fn replace(
        &self,
        engine: &mut Engine,
        level: Level,
        known: bool,
        request: Request,
        report: &mut Report,
    ) -> Result<(Level, Option<Switched>), (Error, Option<Level>)> {
        if !request.dry_run {
            if let Err(error) = level.pre_patch(engine.live.as_ref(), report) {
                return Err((error, Some(level)));
            }
        }
        let (switched, disarmed) = self.switch_to(engine, &level, known, request, report);
        if !request.dry_run && switched.is_err() {
            level.unpatch(Kind::PostUnpatch);
        }
        match (switched, disarmed) {
            (Ok(switched), Ok(())) => Ok((level, switched)),
            (Err(error), Ok(())) => Err((error, Some(level))),
            (switched, Err(e)) => {
                engine.reclaim.keep(level, unreleased!(e));
                let stuck = |report: &mut Report| {
                    report.failed(Reason::RedirectFailed, "taking the redirects back", e)
                };
                Err((switched.err().unwrap_or_else(|| stuck(report)), None))
            }
        }
    }

    /// The switch itself, and how it went to take back what was done for it, if it was not done.
    #[inline(never)]
    fn switch_to(
        &self,
        engine: &mut Engine,
        level: &Level,
        known: bool,
        request: Request,
        report: &mut Report,
    ) -> (Result<Option<Switched>, Error>, Result) {
        let Engine {
            redirects,
            live,
            previous,
            retired,
            reclaim: Reclaim { past, formers, .. },
            open,
            ..
        } = engine;
        let kept = Iterator::chain(previous.iter(), &*retired);
        let kept = Iterator::chain(live.iter(), kept);
        let (levels, asked) = match past.beside(Iterator::chain(core::iter::once(level), kept)) {
            Ok(lists) => lists,
            Err(error) => return (Err(error), Ok(())),
        };
        let way = Way {
            levels: &levels,
            asked: &asked,
            from: live.as_ref(),
            to: Some(level),
            open: open.is_some(),
            known,
        };
        let switched = self.go(&way, redirects, formers, request, report);
        let disarmed = match switched {
            Ok(Some(_)) => Ok(()),
            _ => way.disarm(redirects),
        };
        (switched, disarmed)
    }

    /// What comes behind a switch from `former` to `level`, which is live from here on: at once, or when the last straggler
    /// has left. The former level is kept for a rollback.
    #[inline(never)]
    fn follow(
        &self,
        engine: &mut Engine,
        mut level: Level,
        former: Option<Level>,
        switched: Switched,
        report: &mut Report,
    ) {
        oops::set_level(level.number());
        let mut former = former.map(|mut former| {
            // It is not live any more, so nothing comes behind its own switch.
            former.due = Due::Nothing;
            former
        });
        if switched.stragglers > 0 || engine.open.is_some() {
            level.due = Due::PostPatch(former.as_ref().map_or(ORIGINAL, Level::universe));
            engine.live = Some(level);
            engine.previous = former;
            self.open(engine, report);
            return;
        }
        settle(&mut engine.redirects, level.functions());
        level.post_patch(former.as_ref());
        if let Some(old) = &former {
            if let Err(e) = engine.redirects.remove(old.without(Some(&level))) {
                if let Some(former) = former.take() {
                    engine.reclaim.keep(former, unreleased!(e));
                }
            }
        }
        engine.live = Some(level);
        engine.previous = former;
    }

    /// Revokes the certificates that a record of user space names: until this module is unloaded, nothing that their keys
    /// have signed is applied or gone back to. What is live stays.
    ///
    /// # Errors
    ///
    /// One reason; everything is as before then. That a record's own signer is revoked is one only if the record would
    /// change something: it can name its signer, and be given once more.
    #[inline(never)]
    pub(crate) fn revoke(&self, record: Unverified, report: &mut Report) -> Result<(), Error> {
        pr_info!("verifying revocation record...\n");
        let record = record.verify(&self.keyring, report)?;
        // What is under way is over when it counts.
        let _request = self.request.try_lock().ok_or(Error::from(Reason::Busy))?;
        let revocation = record.revocation()?;
        let mut certificates = revocation.certificates();
        if certificates.any(|hash| self.keyring.trusts(&hash)) {
            verify::unrevoked(record.signer(), &self.keyring, report)?;
        }
        pr_info!("verified successfully\n");
        let (mut now, mut before, mut unknown) = (0u32, 0u32, 0u32);
        for hash in revocation.certificates() {
            let count = match self.keyring.revoke(&hash) {
                Revoked::Now(certificate) => {
                    pr_warn!("certificate revoked: {certificate}\n");
                    system::audit_revoked(&hash);
                    &mut now
                }
                Revoked::Before => &mut before,
                Revoked::Unknown => {
                    pr_info!(
                        "certificate revoked that is not of this module: sha256 {}\n",
                        format_args!("{}", Hex(&hash))
                    );
                    &mut unknown
                }
            };
            *count = count.saturating_add(1);
        }
        report.add(format_args!(
            "certificates: {now} revoked, {before} revoked before, {unknown} not of this module"
        ));
        if !self.keyring.has_valid() {
            pr_err!("no certificate is left: no payload and no revocation record is taken until this module is loaded anew\n");
            report.add(format_args!(
                "; none is left, so that no payload is taken until the module is loaded anew"
            ));
        }
        // Records are given again and again.
        if now > 0 {
            let mut status = self.status.lock();
            let level = status.level();
            status.note(What::Revoke, "", level, None);
        }
        Ok(())
    }

    /// Goes back to the level that the live one has replaced.
    ///
    /// # Errors
    ///
    /// [`Reason::Latched`], [`Reason::BelowFloor`], [`Reason::NothingApplied`], [`Reason::NoPrevious`],
    /// [`Reason::KeyRevoked`], and those of [`Core::go`]; all is as before then.
    #[inline(never)]
    pub(crate) fn rollback(&self, request: Request, report: &mut Report) -> Result<(), Error> {
        self.unlatched()?;
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        self.close_if_over(engine, 0);
        if let Some(previous) = &engine.previous {
            engine.above_floor(previous.number(), report)?;
            verify::unrevoked(previous.signer(), &self.keyring, report)?;
        }
        let live = engine
            .live
            .as_ref()
            .ok_or(Error::from(Reason::NothingApplied))?;
        let previous = engine
            .previous
            .as_ref()
            .ok_or(Error::from(Reason::NoPrevious))?;
        previous.takes_over(live, report)?;
        if previous.is_all_at_once() || live.is_all_at_once() {
            self.wait_for_stragglers(engine, report)?;
        }
        engine.reserve()?;
        let Some(previous) = engine.previous.take() else {
            return Err(Reason::NoPrevious.into());
        };
        let (previous, switched) = match self.replace(engine, previous, true, request, report) {
            Ok((previous, switched)) => (previous, switched.unwrap_or_default()),
            Err((error, previous)) => {
                engine.previous = previous;
                // Who is in front of its trampolines goes on to ask; with the last table that ends.
                self.reclaim(engine, WAIT_MS);
                self.show(engine);
                return Err(error);
            }
        };
        let number = previous.number();
        let live = engine.live.take();
        let replaced = live.as_ref().map_or(0, Level::number);
        self.follow(engine, previous, live, switched, report);
        pr_info!("rolled back from patch level {replaced} to {number}, {switched}\n");
        // The level that was live is not kept.
        if let Some(back) = engine.previous.take() {
            engine.put_away(back);
        }
        self.tell(engine, switched, What::Rollback);
        self.finish(engine);
        Ok(())
    }

    /// Takes the live level back: the original bodies run.
    ///
    /// # Errors
    ///
    /// [`Reason::Latched`], [`Reason::NothingApplied`], and those of [`Core::go`]; the level is still live then.
    #[inline(never)]
    pub(crate) fn unload(&self, request: Request, report: &mut Report) -> Result<(), Error> {
        self.unlatched()?;
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        self.close_if_over(engine, 0);
        let live = engine
            .live
            .as_ref()
            .ok_or(Error::from(Reason::NothingApplied))?;
        if live.is_all_at_once() {
            self.wait_for_stragglers(engine, report)?;
        }
        engine.reserve()?;
        let switched = self.switch_off(engine, request, report)?;
        oops::set_level(0);
        let (level, previous) = (engine.live.take(), engine.previous.take());
        if switched.stragglers > 0 || engine.open.is_some() {
            if let Some(mut level) = level {
                level.due = Due::PostUnpatch;
                engine.retire(level);
            }
            if let Some(previous) = previous {
                engine.retire(previous);
            }
            self.open(engine, report);
            self.tell(engine, switched, What::Unload);
            self.finish(engine);
            return Ok(());
        }
        if let Some(level) = &level {
            level.unpatch(Kind::PostUnpatch);
        }
        self.tell(engine, switched, What::Unload);
        // No task was behind the trampolines in the stop, and none gets there any more; when the functions
        // are released, none is in a trampoline either.
        if let Some(level) = level {
            match engine.redirects.remove(level.functions()) {
                Ok(()) => engine.reclaim.add(level),
                Err(e) => engine.reclaim.keep(level, unreleased!(e)),
            }
        }
        if let Some(previous) = previous {
            engine.reclaim.add(previous);
        }
        self.finish(engine);
        Ok(())
    }

    /// Switches from the live level to the original bodies; after an error all leads to where it did.
    #[inline(never)]
    fn switch_off(
        &self,
        engine: &mut Engine,
        request: Request,
        report: &mut Report,
    ) -> Result<Switched, Error> {
        let Engine {
            redirects,
            live,
            previous,
            retired,
            reclaim: Reclaim { past, formers, .. },
            open,
            ..
        } = engine;
        let level = live.as_ref().ok_or(Error::from(Reason::NothingApplied))?;
        let kept = Iterator::chain(previous.iter(), &*retired);
        let (levels, asked) = past.beside(Iterator::chain(live.iter(), kept))?;
        // Until then its post-patch callbacks have not been called.
        let patched = level.due == Due::Nothing;
        if patched {
            level.unpatch(Kind::PreUnpatch);
        }
        let way = Way {
            levels: &levels,
            asked: &asked,
            from: Some(level),
            to: None,
            open: open.is_some(),
            known: false,
        };
        let switched = self
            .go(&way, redirects, formers, request, report)
            .inspect_err(|_| {
                // It cannot fail without a level to release.
                let _ = way.disarm(redirects);
                if patched {
                    level.post_patch(None);
                }
            })?
            .unwrap_or_default();
        pr_info!(
            "patch level {} unloaded: {} functions switched back, {}\n",
            level.number(),
            level.functions().count(),
            switched
        );
        Ok(switched)
    }

    /// Has all functions be redirected as `choice` says: those of levels in memory, and those of levels to come.
    ///
    /// # Errors
    ///
    /// [`Reason::Busy`], and those of [`Redirects::convert`]; all is as before then.
    #[inline(never)]
    pub(crate) fn redirect(&self, choice: Choice, report: &mut Report) -> Result<(), Error> {
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        self.close_if_over(engine, 0);
        engine.convert(choice, report)?;
        let (direct, ipmodify) = engine.redirects.count();
        pr_info!(
            "redirect is {} now: {direct} direct, {ipmodify} ipmodify\n",
            choice.number()
        );
        self.publish(engine, What::Redirect, "");
        Ok(())
    }

    /// Frees the level that is kept for a rollback.
    ///
    /// # Errors
    ///
    /// [`Reason::NoPrevious`], [`Reason::Busy`], [`Reason::OutOfMemory`].
    #[inline(never)]
    pub(crate) fn forget(&self, report: &mut Report) -> Result<(), Error> {
        let mut locked = self.lock()?;
        let engine = &mut *locked.engine;
        self.close_if_over(engine, 0);
        let previous = engine
            .previous
            .as_ref()
            .ok_or(Error::from(Reason::NoPrevious))?;
        let (number, universe) = (previous.number(), previous.universe());
        engine.reserve()?;
        if let Some(level) = engine.previous.take() {
            engine.put_away(level);
        }
        self.finish(engine);
        let kept = Iterator::chain(engine.retired.iter(), engine.reclaim.past.all());
        if kept.map(Level::universe).any(|kept| kept == universe) {
            report.add(format_args!(
                "its memory is given back when the last task has left former code"
            ));
        }
        pr_info!("patch level {number} is no longer kept for a rollback\n");
        self.publish(engine, What::Forget, "");
        Ok(())
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
    #[inline(never)]
    pub(crate) fn show(&self, engine: &Engine) -> u32 {
        let about = |level: &Option<Level>| level.as_ref().map(Level::about);
        let mut modules = Text::new();
        let (mut memory, mut functions) = (0, 0);
        if let Some(live) = &engine.live {
            // Memory is short if this fails, and the lines are cut.
            let _ = live.print_modules(&mut modules);
            (memory, functions) = (live.memory(), live.functions().count());
        }
        let mut stragglers = Text::new();
        let _ = engine.print_stragglers(&mut stragglers);
        let straggling = engine.stragglers.count();
        engine.offer();
        self.want_no_more(engine);
        let mut status = self.status.lock();
        let before = status.level();
        status.live = about(&engine.live);
        status.previous = about(&engine.previous);
        // CAST: widening.
        status.memory = memory as u64;
        status.nr_funcs = u32::try_from(functions).unwrap_or(u32::MAX);
        status.modules = modules;
        status.stragglers = stragglers;
        status.nr_stragglers = engine.open.map(|_| straggling);
        status.choice = engine.redirects.choice();
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
    #[inline(never)]
    fn admit(
        &self,
        payload: Verified,
        engine: &mut Engine,
        request: Request,
        report: &mut Report,
    ) -> Result<Level, Error> {
        // It may have been revoked since it was verified.
        verify::unrevoked(payload.signer(), &self.keyring, report)?;
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
        let context = (self.ksyms, self.module);
        // OVERFLOW: a number for each payload that is loaded lasts for ever.
        engine.universe = engine.universe.wrapping_add(1);
        let signer = payload.signer();
        let mut level = Level::load(&parsed, signer, objects, engine.universe, context, report)?;
        level.keep(payload);
        if let Some(live) = &engine.live {
            level.takes_over(live, report)?;
        }
        self.want_no_more(engine);
        // Before modules are looked for: one that comes from here on waits, and is patched then.
        self.want(&level)?;
        level.complete(None, self.ksyms, report)?;
        Ok(level)
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
