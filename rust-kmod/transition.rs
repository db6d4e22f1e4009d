// SPDX-License-Identifier: GPL-2.0

//! From one level to another, while tasks may be inside the code that goes out of use.
//!
//! Every way has the same steps: *arm* (the functions concerned lead to trampolines, behind which everybody still sees the
//! same), *switch* (flags change in one stop), *settle* (functions lead to their final bodies, or are released). If tasks
//! are inside at the switch, the transition is *open*: these stragglers go on seeing the bodies that they saw, all others
//! see the new ones ([`crate::payload::arrange`]). It is *closed* when the last one has left; settling, the callbacks that
//! come behind, and freeing wait for that. Other levels may come and go meanwhile.
//!
//! While a transition is open the flags of all levels that something leads to ask, each function that one of them redirects
//! leads to a trampoline, and no level that somebody sees is freed. Else the flag of the live level is [`Bodies::New`], and only
//! functions of the live level are redirected. In both cases a function of the live level leads to its own body or to its own
//! trampoline; who is in front of another one's, because it was led there before, is looked for by each switch.

use crate::{
    kapi::{
        resident::Flag,
        stragglers::{
            self,
            Asks,
            Former,
            Later, //
        },
        system,
        tasks::Task, //
    },
    level::{
        collect,
        Due,
        Level, //
    },
    loader::Function,
    payload::{
        arrange::{
            self,
            Row,
            ORIGINAL, //
        },
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
        uapi::What, //
    },
    quiesce::{
        self,
        inside,
        Aside,
        Name,
        Switch,
        Switched, //
    },
    reclaim::WAIT_MS,
    redirect::{
        insert,
        pause,
        Redirects,
        Target, //
    },
    report::{
        out_of_memory,
        Report, //
    },
    state::{
        remember,
        settle,
        unreleased,
        Core,
        Engine,
        Request, //
    }, //
};
use core::fmt::Write;
use kernel::{
    current,
    prelude::*, //
};

/// Stragglers that one answer names.
const MAX_NAMED: usize = 8;
/// The first look at stragglers comes so much later than the switch, in milliseconds.
const FIRST_LOOK_MS: u32 = 10;
/// The longest time between two looks, in milliseconds.
const LAST_LOOK_MS: u64 = 10_000;
/// How long one look for tasks that return to the text of a level may take, in milliseconds.
const VACANT_MS: u32 = 1_000;
/// Looks come this much more rarely than the transition has been open for.
const LOOK_SHARE: u64 = 8;

/// A transition that waits for stragglers.
#[derive(Clone, Copy)]
pub(crate) struct Open {
    /// When it began, by the machine's clock since boot, in nanoseconds.
    since_ns: u64,
}

/// What all trampolines of `asked` lead to in the universes of `seen`, ascending.
fn rows(asked: &[&Level], seen: &[&Level]) -> Result<KVVec<Row>, Error> {
    let mut all = KVVec::new();
    for row in arrange::rows(asked, seen) {
        insert(&mut all, row, |row| *row).map_err(out_of_memory)?;
    }
    Ok(all)
}

/// Code that only stragglers are in while `now` is what everybody sees, and all trampolines.
fn old(levels: &[&Level], now: Option<&Level>) -> Result<KVVec<Range>, Error> {
    let mut ranges = KVVec::new();
    for level in levels {
        add_texts(&mut ranges, level)?;
    }
    for function in now.into_iter().flat_map(Level::functions) {
        add_body(&mut ranges, function)?;
    }
    Ok(ranges)
}

/// Adds a range to those that are in order, unless it is empty.
fn add(ranges: &mut KVVec<Range>, range: Range) -> Result<(), Error> {
    if range.start >= range.end {
        return Ok(());
    }
    insert(ranges, range, |range| range.start).map_err(out_of_memory)
}

/// Adds all code of a level, trampolines included.
fn add_texts(ranges: &mut KVVec<Range>, level: &Level) -> Result<(), Error> {
    level.texts().try_for_each(|text| add(ranges, text))
}

/// Adds the original body of a function.
fn add_body(ranges: &mut KVVec<Range>, function: &Function) -> Result<(), Error> {
    add(ranges, function.inside)?;
    add(ranges, function.cold)
}

fn in_order(ranges: &[Range]) -> Result<Ranges<'_>, Error> {
    Ranges::new(ranges).ok_or(Error::from(Reason::Internal))
}

/// The universe that is seen while a level is live.
fn universe_of(live: Option<&Level>) -> u64 {
    live.map_or(ORIGINAL, Level::universe)
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

/// What [`name_address`] and [`quiesce::name_word`] print, without blanks: a function, and what it is of.
fn one_word(place: &str) -> (&str, &str) {
    match place.split_once(' ') {
        None => (place, ""),
        Some((function, "of the patch")) => (function, "[patch]"),
        Some(("the", "patch")) => ("", "[patch]"),
        Some(_) => ("", "[kprobe]"),
    }
}

/// One way from what is live to something else.
pub(crate) struct Way<'a> {
    /// All levels that something may lead to.
    pub(crate) levels: &'a [&'a Level],
    /// All that tasks may ask about: they, and those that a task may still be in front of ([`crate::reclaim`]).
    pub(crate) asked: &'a [&'a Level],
    /// What is live before, and behind it.
    pub(crate) from: Option<&'a Level>,
    pub(crate) to: Option<&'a Level>,
    /// A transition is open.
    pub(crate) open: bool,
    /// `to` has been live before, and stragglers may see it.
    pub(crate) known: bool,
}

impl Way<'_> {
    fn all_at_once(&self) -> bool {
        let both = [self.from, self.to];
        both.iter().flatten().any(|level| level.is_all_at_once())
    }

    /// Leads all functions concerned to trampolines, behind which everybody sees the same as before.
    ///
    /// # Errors
    ///
    /// Those of [`Redirects::arm`]. [`Way::disarm`] is the way back.
    fn arm(
        &self,
        redirects: &mut Redirects,
        formers: &mut KVec<Former>,
        report: &mut Report,
    ) -> Result<(), Error> {
        if let Some(to) = self.to {
            let asks = self.open || self.from.is_some();
            if asks {
                let former = publish(self.asked, self.levels, self.from)?;
                formers.push(former, GFP_KERNEL).map_err(out_of_memory)?;
            }
            to.flag()
                .set(if asks { Bodies::Ask } else { Bodies::Original });
            redirects.arm(to.functions(), report)?;
        }
        let Some(from) = self.from else {
            return Ok(());
        };
        let only_here = |f: &&Function| self.to.is_none_or(|to| to.find(f.site).is_none());
        redirects
            .lead(from.functions().filter(only_here), Target::Trampoline)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))
    }

    /// The code that goes out of use, and all trampolines: who is in front of one's test is to see what it saw.
    fn leaving(&self) -> Result<KVVec<Range>, Error> {
        let mut ranges = KVVec::new();
        for level in self.asked {
            add_texts(&mut ranges, level)?;
        }
        for function in self.to.into_iter().flat_map(|to| to.without(self.from)) {
            add_body(&mut ranges, function)?;
        }
        Ok(ranges)
    }

    /// Takes [`Way::arm`] back, and releases the functions that nobody else redirects.
    ///
    /// # Errors
    ///
    /// Those of ftrace: `to` must stay in memory then.
    pub(crate) fn disarm(&self, redirects: &mut Redirects) -> Result {
        let Some(to) = self.to else {
            if let (Some(from), false) = (self.from, self.open) {
                settle(redirects, from.functions());
            }
            return Ok(());
        };
        let others = |level: &&&Level| !core::ptr::eq(**level, to);
        if self.open {
            let live = |level: &&Level| self.from.is_some_and(|from| core::ptr::eq(*level, from));
            let kept = self.levels.iter().filter(others).copied();
            lead_away(redirects, kept.filter(|level| !live(level)), self.from)?;
            if self.known {
                // What leads to its trampolines has to.
                return Ok(());
            }
            let alone = |f: &&Function| {
                let mut others = self.levels.iter().filter(others);
                others.all(|level| level.find(f.site).is_none())
            };
            return redirects.remove(to.functions().filter(alone));
        }
        if let Some(from) = self.from {
            redirects.lead_at_last(from.functions(), Target::Body)?;
        }
        redirects.remove(to.without(self.from))
    }
}

/// Leads functions to trampolines of these levels: those of the live one to its own, without any detour, as some other one may ask
/// no more when a task that has come by it goes on.
fn lead_away<'a>(
    redirects: &mut Redirects,
    mut kept: impl Iterator<Item = &'a Level>,
    live: Option<&Level>,
) -> Result {
    kept.try_for_each(|level| redirects.lead_at_last(level.without(live), Target::Trampoline))?;
    live.map_or(Ok(()), |live| {
        redirects.lead_at_last(live.functions(), Target::Trampoline)
    })
}

/// From here on trampolines of `asked` that ask lead to what the levels `seen` say, and who is no straggler sees `now`.
fn publish(asked: &[&Level], seen: &[&Level], now: Option<&Level>) -> Result<Former, Error> {
    let (rows, old) = (rows(asked, seen)?, old(asked, now)?);
    let mut asks = Asks::new(&rows, in_order(&old)?, 0).map_err(out_of_memory)?;
    let now = universe_of(now);
    asks.inherit(now);
    Ok(asks.publish(now))
}

/// Wakes stragglers that sleep, once each.
fn lead_out(engine: &Engine) {
    let woken = engine.stragglers.lead_out();
    if woken > 0 {
        pr_info!("{woken} sleeping task(s) woken\n");
    }
}

impl Engine {
    /// All levels in memory, the live one first.
    pub(crate) fn levels(&self) -> impl Iterator<Item = &Level> + Clone {
        let kept = Iterator::chain(self.previous.iter(), &self.retired);
        Iterator::chain(self.live.iter(), kept)
    }

    /// Them, as a list.
    pub(crate) fn all_levels(&self) -> Result<KVec<&Level>, Error> {
        collect(self.levels())
    }

    /// Takes memory for what must not fail behind a switch: two more levels that are retired or given up, and two tables.
    pub(crate) fn reserve(&mut self) -> Result<(), Error> {
        self.retired.reserve(2, GFP_KERNEL).map_err(out_of_memory)?;
        // All of those are given up when the transition is closed.
        self.reclaim.reserve(self.retired.len().saturating_add(2))
    }

    /// Has the trampolines of parts that have come be known to who asks.
    pub(crate) fn tell_parts(&mut self) -> Result<(), Error> {
        self.reclaim.reserve(0)?;
        let former = {
            let (levels, asked) = self.reclaim.past.beside(self.levels())?;
            publish(&asked, &levels, self.live.as_ref())?
        };
        remember(&mut self.reclaim.formers, former);
        Ok(())
    }

    /// A level that no straggler sees, and that the callbacks of the live one do not wait for: where it is in the list of
    /// those that are not kept for anything else.
    fn unseen(&self) -> Option<usize> {
        let due = self.live.as_ref().and_then(Level::waits_for);
        self.retired.iter().position(|level| {
            // What it takes back others may still use: what it had taken over of the level before it.
            let mut seen = due == Some(level.universe()) || level.takes_back();
            self.stragglers
                .for_each(|straggler| seen |= straggler.universe == level.universe());
            !seen
        })
    }

    /// Lets go of a level that is neither live nor kept for a rollback any more: when no straggler sees it, if a transition is
    /// open. There is room: [`Engine::reserve`].
    pub(crate) fn put_away(&mut self, level: Level) {
        match self.open {
            Some(_) => self.retire(level),
            None => self.reclaim.add(level),
        }
    }

    /// Keeps a level in memory until the transition is closed, or until no straggler sees it. There is room: [`Engine::reserve`].
    pub(crate) fn retire(&mut self, level: Level) {
        // Its trampolines may be led to from now on.
        level.flag().set(Bodies::Ask);
        remember(&mut self.retired, level);
    }

    /// One line for each straggler: `straggler: PID UID SINCE LEVEL WHERE NAME`.
    pub(crate) fn print_stragglers(&self, out: &mut dyn Write) -> Result<(), Error> {
        let levels = self.all_levels()?;
        let mut report = Report::new().map_err(out_of_memory)?;
        self.stragglers.for_each(|straggler| {
            report.clear();
            let mut seen = levels.iter();
            let seen = seen.find(|level| level.universe() == straggler.universe);
            let seen = seen.map_or(0, |level| level.number());
            let name: Name<'_> = &|word, report| name_address(&levels, word, report);
            quiesce::name_word(straggler.word, name, &mut report);
            let (function, of) = one_word(report.as_str());
            // Memory is short if this fails, and the lines are cut.
            let _ = writeln!(
                out,
                "straggler: {} {} {} {} {function}{of} {}",
                straggler.pid,
                straggler.uid,
                straggler.since,
                seen,
                quiesce::name_of(&straggler.comm)
            );
        });
        Ok(())
    }

    /// Says in an answer who finishes old calls.
    fn name_stragglers(&self, report: &mut Report) {
        let Ok(levels) = self.all_levels() else {
            return;
        };
        let count = self.stragglers.count();
        report.add(format_args!("{count} task(s) finish old calls:"));
        let mut named = 0usize;
        self.stragglers.for_each(|straggler| {
            named = named.saturating_add(1);
            if named > MAX_NAMED {
                return;
            }
            let (pid, uid) = (straggler.pid, straggler.uid);
            let comm = quiesce::name_of(&straggler.comm);
            report.add(format_args!(" task {pid} ({comm}) of uid {uid} in "));
            let name: Name<'_> = &|word, report| name_address(&levels, word, report);
            quiesce::name_word(straggler.word, name, report);
            report.add(format_args!(";"));
        });
        if let more @ 1.. = named.saturating_sub(MAX_NAMED) {
            report.add(format_args!(" and {more} more"));
        }
    }
}

impl Core {
    /// Goes a way, but for a dry run.
    ///
    /// # Errors
    ///
    /// Those of [`Redirects::arm`], [`Switch::run`] and [`Switch::run_aside`]; [`Way::disarm`] is the way back.
    #[inline(never)]
    pub(crate) fn go(
        &self,
        way: &Way<'_>,
        redirects: &mut Redirects,
        formers: &mut KVec<Former>,
        request: Request,
        report: &mut Report,
    ) -> Result<Option<Switched>, Error> {
        way.arm(redirects, formers, report)?;
        let ranges = way.leaving()?;
        let name: Name<'_> = &|word, report| name_address(way.asked, word, report);
        let from = way.from.map(|level| (level.flag(), Bodies::Original));
        let to = way.to.map(|level| (level.flag(), Bodies::New));
        let first = to.or(from).ok_or(Error::from(Reason::Internal))?;
        let flags = [first, from.unwrap_or(first)];
        let switch = self.to_switch(&flags, &ranges, name)?;
        if request.dry_run {
            switch.probe(report);
            return Ok(None);
        }
        if way.all_at_once() {
            return switch.run(report).map(Some);
        }
        let (rows, old) = (rows(way.asked, way.levels)?, old(way.asked, way.to)?);
        let aside = Aside {
            rows: &rows,
            old: in_order(&old)?,
            from: universe_of(way.from),
            to: universe_of(way.to),
            open: way.open,
            effort_ms: self.options.effort_ms,
        };
        let (switched, former) = switch.run_aside(&aside, report)?;
        if let Some(former) = former {
            remember(formers, former);
        }
        Ok(Some(switched))
    }

    /// A switch with the module's parameters.
    fn to_switch<'a>(
        &self,
        flags: &'a [(&'a Flag, Bodies)],
        ranges: &'a [Range],
        name: Name<'a>,
    ) -> Result<Switch<'a>, Error> {
        Ok(Switch {
            ksyms: self.ksyms,
            flags,
            leaving: in_order(ranges)?,
            limit_ms: self.options.limit_ms,
            nudge_ms: self.options.nudge_ms,
            stop_ns: self.options.stop_ns,
            name,
        })
    }

    /// Waits until no task returns to these texts any more, to which nothing leads, behind [`Redirects::synchronize`].
    ///
    /// # Errors
    ///
    /// Those of [`Switch::run`], with the report that says why.
    #[inline(never)]
    pub(crate) fn vacant(
        &self,
        redirects: &Redirects,
        texts: impl Iterator<Item = Range>,
        report: &mut Report,
    ) -> Result<(), Error> {
        if !redirects.is_shared() {
            return Ok(());
        }
        let mut ranges = KVVec::new();
        for text in texts {
            add(&mut ranges, text)?;
        }
        let name: Name<'_> = &|_, report| report.add(format_args!("the patch"));
        let switch = Switch {
            limit_ms: self.options.limit_ms.min(VACANT_MS),
            nudge_ms: 0,
            ..self.to_switch(&[], &ranges, name)?
        };
        switch.run(report).map(|_| ())
    }

    /// What comes at the end of a request: gives memory back that is not needed any more, and waits for that a moment.
    pub(crate) fn finish(&self, engine: &mut Engine) {
        match engine.open {
            Some(_) => self.close_if_over(engine, WAIT_MS),
            None if engine.reclaim.past.is_waiting() => self.reclaim(engine, WAIT_MS),
            // For what is left nobody has to wait.
            None => {}
        }
    }

    /// Begins to wait for stragglers, and says so in the answer.
    pub(crate) fn open(&self, engine: &mut Engine, report: &mut Report) {
        let since_ns = system::boot_ns();
        engine.open.get_or_insert(Open { since_ns });
        if engine.stragglers.count() > 0 {
            engine.name_stragglers(report);
            pr_info!("{}\n", report.as_str());
        }
        lead_out(engine);
        stragglers::in_ms(FIRST_LOOK_MS);
    }

    /// Closes the transition if its last straggler has left; frees levels that no straggler sees any more, for which it waits so
    /// many milliseconds at most.
    #[inline(never)]
    pub(crate) fn close_if_over(&self, engine: &mut Engine, ms: u32) {
        if engine.open.is_none() {
            return;
        }
        if engine.stragglers.look() == 0 {
            self.close(engine, ms);
            return;
        }
        lead_out(engine);
        let mut given_up = false;
        while let Some(at) = engine.unseen() {
            if !self.give_up_unseen(engine, at) {
                break;
            }
            given_up = true;
        }
        if given_up {
            self.reclaim(engine, ms);
        }
    }

    /// Gives up a level that neither a straggler nor anybody else sees; false if memory is too short for that now.
    #[inline(never)]
    fn give_up_unseen(&self, engine: &mut Engine, at: usize) -> bool {
        if engine.reserve().is_err() {
            return false;
        }
        let Ok(mut level) = engine.retired.remove(at) else {
            return false;
        };
        let led = {
            let Engine {
                redirects,
                live,
                previous,
                retired,
                ..
            } = &mut *engine;
            let kept = Iterator::chain(retired.iter(), &*previous);
            let away = lead_away(redirects, kept.clone(), live.as_ref());
            let others = Iterator::chain(kept, &*live);
            let alone = |f: &&Function| others.clone().all(|other| other.find(f.site).is_none());
            away.and_then(|()| redirects.remove(level.functions().filter(alone)))
        };
        if led.is_err() {
            // Something may still lead to it. Another look tries again.
            engine.retire(level);
            return false;
        }
        level.unpatch_at_last();
        engine.reclaim.add(level);
        true
    }

    /// Waits for the last straggler, for a way that must not have any.
    ///
    /// # Errors
    ///
    /// [`Reason::Blocked`] with the tasks' names, [`Reason::Interrupted`].
    pub(crate) fn wait_for_stragglers(
        &self,
        engine: &mut Engine,
        report: &mut Report,
    ) -> Result<(), Error> {
        let deadline = system::boot_ns_in(self.options.limit_ms);
        loop {
            self.close_if_over(engine, 0);
            if engine.open.is_none() {
                return Ok(());
            }
            if system::boot_ns() >= deadline {
                engine.name_stragglers(report);
                return Err(Error::new(Reason::Blocked, Place::Nowhere));
            }
            if current!().signal_pending() {
                return Err(Reason::Interrupted.into());
            }
            pause();
        }
    }

    /// Everybody sees the same: settles, calls the callbacks that were due, and gives up the levels that only stragglers saw.
    #[inline(never)]
    fn close(&self, engine: &mut Engine, ms: u32) {
        let Some(open) = engine.open.take() else {
            return;
        };
        let Engine {
            redirects,
            live,
            previous,
            retired,
            reclaim,
            ..
        } = engine;
        let mut released = Ok(());
        if let Some(live) = live.as_ref() {
            // They do already, but for what has failed on the way.
            released = redirects.lead_at_last(live.functions(), Target::Trampoline);
        }
        // All others go on to ask: who is in front of their trampolines gets what everybody sees now.
        if let Some(live) = live.as_ref() {
            live.flag().set(Bodies::New);
            settle(redirects, live.functions());
        }
        for level in Iterator::chain(previous.iter(), &*retired) {
            let result = redirects.remove(level.without(live.as_ref()));
            released = released.and(result);
        }
        for level in retired.iter_mut() {
            level.unpatch_at_last();
        }
        if let Some(live) = live.as_mut() {
            if let Due::PostPatch(universe) = live.due {
                let mut kept = Iterator::chain(previous.iter(), &*retired);
                live.post_patch(kept.find(|level| level.universe() == universe));
                live.due = Due::Nothing;
            }
        }
        match released {
            Ok(()) => {
                while let Some(level) = retired.pop() {
                    reclaim.add(level);
                }
            }
            // Whose trampolines the functions lead to is not known any more.
            Err(e) => {
                for level in Iterator::chain(core::mem::take(retired).into_iter(), previous.take())
                {
                    reclaim.keep(level, unreleased!(e));
                }
            }
        }
        let open_ms = system::boot_ns().saturating_sub(open.since_ns) / 1_000_000;
        self.reclaim(engine, ms);
        pr_info!(
            "no task is left in former code: the transition is complete, after {open_ms} ms\n"
        );
        self.publish(engine, What::Complete, "");
    }
}

impl Later for Core {
    fn later(&self) {
        let mut locked = self.lock_for_later();
        let engine = &mut *locked.engine;
        self.reclaim_later(engine);
        self.close_if_over(engine, WAIT_MS);
        if let Some(open) = engine.open {
            self.show(engine);
            let open_ms = system::boot_ns().saturating_sub(open.since_ns) / 1_000_000;
            let next = (open_ms / LOOK_SHARE).clamp(u64::from(FIRST_LOOK_MS), LAST_LOOK_MS);
            stragglers::in_ms(u32::try_from(next).unwrap_or(FIRST_LOOK_MS));
        }
    }

    fn outside(task: &Task<'_>, ranges: Ranges<'_>) -> bool {
        inside(task, None, ranges).is_none()
    }
}
