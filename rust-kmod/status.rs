// SPDX-License-Identifier: GPL-2.0

//! What is told about the levels: to programs, and as text.

use crate::{
    kapi::{
        keyring::{
            self,
            Keyring, //
        },
        oops,
        system, //
    },
    payload::{
        description::effective_version,
        error::{
            Error,
            Reason, //
        },
        uapi::{
            self,
            Info,
            InfoHead,
            What, //
        },
    },
    quiesce::Switched,
    redirect::Choice,
    report::{
        out_of_memory,
        Hex, //
    },
    verify::Trusted, //
};
use core::fmt::{
    self,
    Write, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// What is told about one level.
pub(crate) struct About {
    /// The level.
    pub(crate) level: u32,
    nr_fixes: u32,
    build_time: u64,
    applied_time: u64,
    release: [u8; 64],
    description: [u8; 256],
    /// One line `fix: ID TITLE` per fix; the id is `-` if it has none.
    fixes: KVVec<u8>,
}

impl About {
    /// Describes a payload that has just been loaded.
    ///
    /// # Errors
    ///
    /// `Reason::OutOfMemory`.
    pub(crate) fn new(payload: &Trusted<'_>) -> Result<Arc<Self>, Error> {
        let about = Self {
            level: payload.level(),
            nr_fixes: payload.manifest().nr_fixes,
            build_time: payload.build_time(),
            applied_time: system::real_seconds(),
            release: padded(payload.release()),
            description: padded(payload.description()),
            fixes: fix_lines(payload)?,
        };
        Arc::new(about, GFP_KERNEL).map_err(out_of_memory)
    }
}

/// Text that grows; a write fails if memory is short.
pub(crate) struct Text(pub(crate) VVec<u8>);

impl Text {
    /// No text.
    pub(crate) const fn new() -> Self {
        Self(VVec::new())
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0
            .extend_from_slice(text.as_bytes(), GFP_KERNEL)
            .map_err(|_| fmt::Error)
    }
}

/// Events that are remembered; older ones are forgotten.
const MAX_EVENTS: usize = 128;

/// Something that has happened.
struct Event {
    /// When, in seconds since 1970.
    time: u64,
    what: What,
    /// Name of the module that came or went, NUL-padded; empty for all else.
    module: [u8; 56],
    /// The level that was live behind it, 0 for none.
    level: u32,
    /// The level that was live before it, 0 for none.
    before: u32,
    /// Why it failed, if it did.
    reason: Option<Reason>,
}

/// What is live, and what was counted since the module was loaded.
pub(crate) struct Status {
    keyring: Arc<Keyring>,
    /// The live level.
    pub(crate) live: Option<Arc<About>>,
    /// The level that a rollback goes back to.
    pub(crate) previous: Option<Arc<About>>,
    /// Bytes that the live level holds.
    pub(crate) memory: u64,
    /// Functions that the live level redirects now, modules included.
    pub(crate) nr_funcs: u32,
    /// [`crate::level::Level::print_modules`] of the live level.
    pub(crate) modules: Text,
    /// While a transition is open, how many tasks see former bodies.
    pub(crate) nr_stragglers: Option<usize>,
    /// One line for each of them.
    pub(crate) stragglers: Text,
    /// How functions are redirected.
    pub(crate) choice: Choice,
    stop_last: u64,
    stop_max: u64,
    /// Sum of the stops of the last request that switched.
    stop_sum: u64,
    failures: u64,
    /// The newest events, the oldest first; has room for [`MAX_EVENTS`] from the beginning.
    events: KVVec<Event>,
}

impl Status {
    /// Nothing has happened.
    ///
    /// # Errors
    ///
    /// `ENOMEM` without room for a whole history.
    pub(crate) fn new(choice: Choice, keyring: Arc<Keyring>) -> Result<Self> {
        Ok(Self {
            keyring,
            events: KVVec::with_capacity(MAX_EVENTS, GFP_KERNEL)?,
            live: None,
            previous: None,
            memory: 0,
            nr_funcs: 0,
            modules: Text::new(),
            nr_stragglers: None,
            stragglers: Text::new(),
            choice,
            stop_last: 0,
            stop_max: 0,
            stop_sum: 0,
            failures: 0,
        })
    }

    /// Counts a stop.
    pub(crate) fn stopped(&mut self, switched: Switched) {
        self.stop_last = switched.stop_ns;
        self.stop_max = self.stop_max.max(switched.longest_ns);
        self.stop_sum = switched.sum_ns;
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Remembers an event, behind which the level that is told of is live.
    pub(crate) fn note(&mut self, what: What, module: &str, before: u32, reason: Option<Reason>) {
        if self.events.len() >= MAX_EVENTS {
            let _ = self.events.remove(0);
        }
        let event = Event {
            time: system::real_seconds(),
            what,
            module: padded(module),
            level: self.level(),
            before,
            reason,
        };
        // There is room: what it began with suffices.
        let _ = self.events.push(event, GFP_KERNEL);
    }

    /// The live level, 0 for none.
    pub(crate) fn level(&self) -> u32 {
        self.live.as_ref().map_or(0, |about| about.level)
    }

    /// The answer to [`uapi::IOCTL_INFO`]; `build_id` is the running vmlinux's.
    pub(crate) fn info(&self, build_id: [u8; 20]) -> Info {
        let head = InfoHead {
            abi: uapi::ABI,
            previous: self.previous.as_ref().map_or(0, |about| about.level),
            stop_last: self.stop_last,
            stop_max: self.stop_max,
            failures: self.failures,
            ..InfoHead::default()
        };
        let Some(live) = &self.live else {
            return Info {
                head,
                build_id,
                release: [0; 64],
                description: [0; 256],
            };
        };
        Info {
            head: InfoHead {
                state: uapi::STATE_APPLIED,
                level: live.level,
                nr_funcs: self.nr_funcs,
                nr_fixes: live.nr_fixes,
                build_time: live.build_time,
                applied_time: live.applied_time,
                memory: self.memory,
                ..head
            },
            build_id,
            release: live.release,
            description: live.description,
        }
    }

    /// What `cat /dev/kcare` prints.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub(crate) fn print(&self, out: &mut dyn Write) -> fmt::Result {
        let live = self.live.as_deref();
        writeln!(out, "state: {}", live.map_or("none", |_| "applied"))?;
        writeln!(out, "level: {}", live.map_or(0, |about| about.level))?;
        if let Some(about) = live {
            writeln!(out, "release: {}", unpadded(&about.release))?;
            writeln!(out, "description: {}", unpadded(&about.description))?;
            writeln!(out, "build-time: {}", about.build_time)?;
            writeln!(out, "applied-time: {}", about.applied_time)?;
            writeln!(out, "functions: {}", self.nr_funcs)?;
            writeln!(out, "memory: {}", self.memory)?;
        }
        out.write_str(self.modules.as_str())?;
        if let Some(previous) = &self.previous {
            writeln!(out, "previous-level: {}", previous.level)?;
        }
        if let Some(count) = self.nr_stragglers {
            writeln!(out, "transition: open")?;
            writeln!(out, "stragglers: {count}")?;
            out.write_str(self.stragglers.as_str())?;
        }
        writeln!(out, "stop-last-ns: {}", self.stop_last)?;
        writeln!(out, "stop-max-ns: {}", self.stop_max)?;
        writeln!(out, "stop-sum-ns: {}", self.stop_sum)?;
        writeln!(out, "failures: {}", self.failures)?;
        writeln!(out, "oopses: {}", oops::count())?;
        self.keyring.print_revoked("revoked: ", out)?;
        let fixes = live.map_or(&[][..], |about| &about.fixes);
        out.write_str(core::str::from_utf8(fixes).unwrap_or_default())?;
        for event in &self.events {
            let Event {
                time,
                level,
                before,
                ..
            } = event;
            let what = event.what.name();
            let reason = event.reason.map_or("ok", Reason::name);
            write!(out, "event: {time} {what} {before} {level} {reason}")?;
            match unpadded(&event.module) {
                "" => out.write_str("\n")?,
                module => writeln!(out, " {module}")?,
            }
        }
        Ok(())
    }
}

/// A file in sysfs; the numbers are those of `enum kcare_view` in `shim/shim.h`.
#[derive(Clone, Copy)]
enum View {
    State,
    Level,
    PreviousLevel,
    Description,
    Cves,
    Failures,
    Oopses,
    StopLast,
    StopMax,
    Certificates,
    Stragglers,
    Redirect,
    Revoked,
}

impl View {
    const ALL: [Self; 13] = [
        Self::State,
        Self::Level,
        Self::PreviousLevel,
        Self::Description,
        Self::Cves,
        Self::Failures,
        Self::Oopses,
        Self::StopLast,
        Self::StopMax,
        Self::Certificates,
        Self::Stragglers,
        Self::Redirect,
        Self::Revoked,
    ];
}

impl Status {
    /// The content of file number `view` in sysfs.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub(crate) fn show(&self, view: u32, out: &mut dyn Write) -> fmt::Result {
        let live = self.live.as_deref();
        let level = |about: Option<&About>| about.map_or(0, |about| about.level);
        let view = usize::try_from(view).ok().and_then(|i| View::ALL.get(i));
        match view.ok_or(fmt::Error)? {
            View::State => writeln!(out, "{}", live.map_or("none", |_| "applied")),
            View::Level => writeln!(out, "{}", level(live)),
            View::PreviousLevel => writeln!(out, "{}", level(self.previous.as_deref())),
            View::Description => writeln!(out, "{}", live.map_or("", |a| unpadded(&a.description))),
            View::Cves => live.map_or(Ok(()), |about| about.print_cves(out)),
            View::Failures => writeln!(out, "{}", self.failures),
            View::Oopses => writeln!(out, "{}", oops::count()),
            View::StopLast => writeln!(out, "{}", self.stop_last),
            View::StopMax => writeln!(out, "{}", self.stop_max),
            View::Certificates => out.write_str(keyring::certificates()),
            View::Revoked => self.keyring.print_revoked("", out),
            View::Stragglers => writeln!(out, "{}", self.nr_stragglers.unwrap_or(0)),
            View::Redirect => writeln!(out, "{}", self.choice.number()),
        }
    }
}

/// A file in /proc/kcare; the numbers are those of `enum kcare_page` in `shim/shim.h`.
#[derive(Clone, Copy)]
enum Page {
    Status,
    EffectiveVersion,
    Cvelist,
}

impl Page {
    const ALL: [Self; 3] = [Self::Status, Self::EffectiveVersion, Self::Cvelist];
}

impl Status {
    /// The content of file number `page` in /proc/kcare; `build_id` is the running vmlinux's.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub(crate) fn show_page(
        &self,
        page: u32,
        build_id: [u8; 20],
        out: &mut dyn Write,
    ) -> fmt::Result {
        let live = self.live.as_deref();
        let page = usize::try_from(page).ok().and_then(|i| Page::ALL.get(i));
        match page.ok_or(fmt::Error)? {
            Page::Status => {
                writeln!(out, "kernel-build-id: {}", Hex(&build_id))?;
                self.print(out)
            }
            Page::EffectiveVersion => match live.and_then(About::effective_version) {
                Some(version) => writeln!(out, "{version}"),
                None => Ok(()),
            },
            Page::Cvelist => live.map_or(Ok(()), |about| about.print_cves(out)),
        }
    }
}

impl About {
    /// The version of the kernel's package that the level is as good as, as its description says.
    fn effective_version(&self) -> Option<&str> {
        effective_version(unpadded(&self.description), self.level)
    }

    /// One line for each fix that has an id.
    fn print_cves(&self, out: &mut dyn Write) -> fmt::Result {
        let lines = core::str::from_utf8(&self.fixes).unwrap_or_default();
        let ids = lines.lines().filter_map(|line| line.split(' ').nth(1));
        for id in ids.filter(|id| *id != "-") {
            out.write_str(id)?;
            out.write_str("\n")?;
        }
        Ok(())
    }
}

fn fix_lines(payload: &Trusted<'_>) -> Result<KVVec<u8>, Error> {
    let mut lines = KVVec::new();
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

fn unpadded(field: &[u8]) -> &str {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    core::str::from_utf8(field.get(..end).unwrap_or_default()).unwrap_or_default()
}
