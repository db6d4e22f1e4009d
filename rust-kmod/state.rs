// SPDX-License-Identifier: GPL-2.0

//! What is live, and the way there and back.
//!
//! ```text
//!             verify, load            register           switch
//!  nothing ──────────────▶ loaded ──────────────▶ armed ─────────▶ live
//!     ▲                      │  flag 0, nothing     │  flag 0,       │ flag 1
//!     │        free          │  leads to it         │  old bodies    │
//!     ◀──────────────────────┴───────── un-register ┴──────◀─────────┘ switch back
//! ```
//!
//! Locking: [`Core::engine`] is the one coarse lock, held through an apply or an unload, waiting for
//! tasks included; a second request meanwhile is refused, it does not wait. [`Core::status`] nests inside it and is held for copying only, so that reading the
//! state never waits for a switch.

use crate::{
    kapi::{
        keyring::Keyring,
        ksyms::Ksyms,
        module::ModuleRef,
        system,
        tasks::Caller, //
    },
    loader::{
        self,
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
        uapi::{
            self,
            InfoHead, //
        },
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
    verify::{
        self,
        Trusted,
        Unverified, //
    },
};
use core::cmp::Ordering;
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex,
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

/// A level that is loaded and redirected.
///
/// Fields are dropped in this order: the redirects are un-registered before the memory that they lead
/// to goes, and the module stays until all of that is done.
struct Level {
    redirects: Redirects,
    loaded: Loaded,
    level: u32,
    _module: ModuleRef,
}

/// What the ioctl lock protects.
struct Engine {
    live: Option<Level>,
    /// Levels whose redirects could not be taken back: their memory is never freed.
    stuck: KVec<Level>,
}

/// What is told about the live level.
pub(crate) struct Status {
    /// The numbers.
    pub(crate) head: InfoHead,
    /// Release that the live payload was built for, NUL-padded.
    pub(crate) release: [u8; 64],
    /// Its description, NUL-padded.
    pub(crate) description: [u8; 256],
    /// What [`fix_lines`] makes.
    pub(crate) fixes: KVec<u8>,
}

impl Status {
    const fn new() -> Self {
        Self {
            head: InfoHead {
                abi: uapi::ABI,
                state: uapi::STATE_NONE,
                level: 0,
                nr_funcs: 0,
                nr_fixes: 0,
                reserved: 0,
                build_time: 0,
                applied_time: 0,
                stop_last: 0,
                stop_max: 0,
                memory: 0,
                failures: 0,
            },
            release: [0; 64],
            description: [0; 256],
            fixes: KVec::new(),
        }
    }

    fn stopped(&mut self, switched: Switched) {
        self.head.stop_last = switched.stop_ns;
        self.head.stop_max = self.head.stop_max.max(switched.longest_ns);
    }

    /// Back to nothing applied; what was counted since the module was loaded stays.
    fn clear(&mut self) {
        let InfoHead {
            stop_last,
            stop_max,
            failures,
            ..
        } = self.head;
        *self = Self::new();
        self.head.stop_last = stop_last;
        self.head.stop_max = stop_max;
        self.head.failures = failures;
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
                live: None,
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

    /// Counts a failure and logs it with its message.
    pub(crate) fn failed(&self, what: &str, error: &Error, report: &mut Report) {
        report.explain(error);
        pr_err!(
            "{} refused ({}): {}\n",
            what,
            error.reason.name(),
            report.as_str()
        );
        let mut status = self.status.lock();
        status.head.failures = status.head.failures.saturating_add(1);
    }

    /// Applies a payload of user space.
    ///
    /// # Errors
    ///
    /// One reason; everything is as before then.
    pub(crate) fn apply(
        &self,
        payload: Unverified,
        caller: Caller,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut engine = self.engine.try_lock().ok_or(Error::from(Reason::Busy))?;
        let verified = payload.verify(&self.keyring, report)?;
        let payload = verified.parse()?;
        verify::identity(&payload, self.ksyms, report)?;
        policy(engine.live.as_ref(), payload.level(), report)?;
        verify::preimages(&payload, self.ksyms, report)?;
        let fixes = fix_lines(&payload)?;
        // Room for the case that the level can never be freed: it must not need memory then.
        engine.stuck.reserve(1, GFP_KERNEL).map_err(out_of_memory)?;

        let loaded = loader::load(&payload, self.ksyms, report)?;
        let mut level = Level {
            redirects: Redirects::new(self.ksyms),
            loaded,
            level: payload.level(),
            _module: ModuleRef::new(self.module),
        };
        let functions = &level.loaded.functions;
        let armed = level
            .redirects
            .register(functions, self.options.choice, report);
        let switched = match armed.and_then(|()| self.switch_on(&level.loaded, caller, report)) {
            Ok(switched) => switched,
            Err(error) => {
                // The flag was never set, so no task has ever been in a new body.
                if let Err(e) = level.redirects.unregister() {
                    keep(&mut engine, level, e);
                }
                return Err(error);
            }
        };

        system::taint_live_patched();
        settle(&mut level);
        let (direct, ipmodify) = level.redirects.count();
        pr_info!(
            "patch level {} applied: {} functions switched ({} direct, {} ipmodify), stopped for {} us, {} retries\n",
            level.level,
            level.loaded.functions.len(),
            direct,
            ipmodify,
            switched.stop_ns / 1000,
            switched.retries
        );
        let mut status = self.status.lock();
        status.stopped(switched);
        status.fixes = fixes;
        status.head.state = uapi::STATE_APPLIED;
        status.head.level = level.level;
        status.head.nr_funcs = payload.nr_funcs();
        status.head.nr_fixes = payload.manifest().nr_fixes;
        status.head.build_time = payload.build_time();
        status.head.applied_time = system::real_seconds();
        // CAST: widening.
        status.head.memory = level.loaded.resident.total() as u64;
        status.release = padded(payload.release());
        status.description = padded(payload.description());
        engine.live = Some(level);
        Ok(())
    }

    /// Takes the live level back.
    ///
    /// # Errors
    ///
    /// [`Reason::NothingApplied`], and those of [`Switch::run`]; the level is still live then.
    pub(crate) fn unload(&self, caller: Caller, report: &mut Report) -> Result<(), Error> {
        let mut engine = self.engine.try_lock().ok_or(Error::from(Reason::Busy))?;
        let Some(level) = engine.live.as_mut() else {
            return Err(Reason::NothingApplied.into());
        };
        // The trampolines decide again, so that the flag can take the level back.
        level
            .redirects
            .settle(&level.loaded.functions, false)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))?;
        let switched = self
            .switch_off(&level.loaded, caller, report)
            .inspect_err(|_| settle(level))?;
        let Some(mut level) = engine.live.take() else {
            return Err(Reason::NothingApplied.into());
        };
        pr_info!(
            "patch level {} unloaded: {} functions switched back, stopped for {} us, {} retries\n",
            level.level,
            level.loaded.functions.len(),
            switched.stop_ns / 1000,
            switched.retries
        );
        // From here on the old bodies run. No task was behind the trampolines in the stop, and none
        // gets there any more; when the redirects are gone, none is in a trampoline either.
        match level.redirects.unregister() {
            Ok(()) => drop(level),
            Err(e) => keep(&mut engine, level, e),
        }
        let mut status = self.status.lock();
        status.stopped(switched);
        status.clear();
        Ok(())
    }

    /// The old bodies go out of use, and the trampolines' way to them.
    fn switch_on(
        &self,
        loaded: &Loaded,
        caller: Caller,
        report: &mut Report,
    ) -> Result<Switched, Error> {
        let bodies = loaded.functions.iter().flat_map(|f| [f.inside, f.cold]);
        let bodies = bodies.filter(|range| range.start < range.end);
        let count = bodies.clone().count().saturating_add(1);
        let mut ranges = KVec::with_capacity(count, GFP_KERNEL).map_err(out_of_memory)?;
        for range in Iterator::chain(bodies, [text_range(loaded)]) {
            let at = ranges.partition_point(|r: &Range| r.start < range.start);
            ranges
                .insert_within_capacity(at, range)
                .map_err(|_| Error::from(Reason::Internal))?;
        }
        self.switch(loaded, true, &ranges, caller, report)
    }

    /// The whole text of the level goes out of use.
    fn switch_off(
        &self,
        loaded: &Loaded,
        caller: Caller,
        report: &mut Report,
    ) -> Result<Switched, Error> {
        self.switch(loaded, false, &[text_range(loaded)], caller, report)
    }

    fn switch(
        &self,
        loaded: &Loaded,
        value: bool,
        ranges: &[Range],
        caller: Caller,
        report: &mut Report,
    ) -> Result<Switched, Error> {
        let leaving = Ranges::new(ranges).ok_or(Error::from(Reason::Internal))?;
        Switch {
            ksyms: self.ksyms,
            caller,
            flag: &loaded.flag,
            value,
            leaving,
            limit_ms: self.options.limit_ms,
            name: &|word, report| name_address(loaded, word, report),
        }
        .run(report)
    }
}

/// May this level go live now?
fn policy(live: Option<&Level>, wanted: u32, report: &mut Report) -> Result<(), Error> {
    let Some(live) = live.map(|level| level.level) else {
        return Ok(());
    };
    let (reason, text) = match live.cmp(&wanted) {
        Ordering::Equal => (Reason::AlreadyLive, "it is live already"),
        Ordering::Greater => (Reason::LowerLevel, "a higher level is live"),
        Ordering::Less => (
            Reason::OtherLive,
            "a lower level is live and must be unloaded first",
        ),
    };
    Err(report.refuse(
        reason,
        Place::Nowhere,
        format_args!("patch level {wanted} cannot be applied over level {live}: {text}"),
    ))
}

/// Saves the calls of a live level the detour over the trampolines. That may fail without harm.
fn settle(level: &mut Level) {
    if let Err(e) = level.redirects.settle(&level.loaded.functions, true) {
        let errno = e.to_errno();
        pr_info!("calls keep going through trampolines (error {errno})\n");
    }
}

/// Keeps a level for ever, as ftrace may still lead to it.
fn keep(engine: &mut Engine, level: Level, error: kernel::error::Error) {
    pr_err!(
        "ftrace did not give up the redirects of level {} (error {}): its memory is kept until reboot\n",
        level.level,
        error.to_errno()
    );
    // `apply` has reserved the room before the level went live.
    let _ = engine.stuck.push(level, GFP_KERNEL);
}

/// All code of a level.
fn text_range(loaded: &Loaded) -> Range {
    let start = loaded.resident.base(Region::Text);
    // CAST: widening.
    let size = loaded.resident.size(Region::Text) as u64;
    Range {
        start,
        end: start.saturating_add(size),
    }
}

/// `function+0x12`, for an address in an old body or in the level's own text.
fn name_address(loaded: &Loaded, word: u64, report: &mut Report) {
    let offset_in = |range: Range| {
        let offset = word.checked_sub(range.start)?;
        (word < range.end).then_some(offset)
    };
    let place = loaded.functions.iter().find_map(|function| {
        let body = offset_in(function.body).map(|offset| ("", offset));
        let cold = || offset_in(function.cold).map(|offset| (".cold", offset));
        Some((function, body.or_else(cold)?))
    });
    if let Some((function, (part, offset))) = place {
        let name = function.name.to_str().unwrap_or("?");
        report.add(format_args!("{name}{part}+{offset:#x}"));
    } else if let Some((name, offset)) = loaded.resident.name_of(word) {
        report.add(format_args!("{name}+{offset:#x} of the patch"));
    } else {
        report.add(format_args!("the patch"));
    }
}

/// One line `fix: ID TITLE` per fix; the id is `-` if it has none.
fn fix_lines(payload: &Trusted<'_>) -> Result<KVec<u8>, Error> {
    let mut lines = KVec::new();
    for fix in payload.fixes() {
        let id = payload.string(fix.id);
        let title = payload.string(fix.title);
        let id = if id.is_empty() { "-" } else { id };
        for part in ["fix: ", id, " ", title, "\n"] {
            lines
                .extend_from_slice(part.as_bytes(), GFP_KERNEL)
                .map_err(out_of_memory)?;
        }
    }
    Ok(lines)
}

/// A string in a field of fixed size, cut between characters, with at least one NUL behind it.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    let room = N.saturating_sub(1);
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    for (byte, value) in out.iter_mut().zip(text.as_bytes().iter().take(end)) {
        *byte = *value;
    }
    out
}
