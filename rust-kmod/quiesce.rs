// SPDX-License-Identifier: GPL-2.0

//! The switch: with the machine stopped, flags change, and every function of a level with them.
//!
//! Stacks are scanned conservatively first: every word in use, whatever it means. That cannot miss a frame. (The one
//! place without any is the detour of an optimized kprobe: a task that is interrupted there counts, whatever the probe.)
//! Registers need no look: all tasks but the stoppers have saved theirs on their stacks, and an interrupted
//! instruction pointer is saved there too. A hit may be a number that has been left over in an unused slot, and
//! would stay there while a task goes the same way again and again; so of the few tasks with a hit the kernel's
//! own unwinder is asked where they are, and if it knows for sure, that counts.
//!
//! All sleeping threads are looked at while the machine runs, and whatever runs from then on is noted. That takes the
//! longer the more threads there are, so the noted ones are looked at in turn, and so on: what runs during the last
//! look is little. In the stop only those threads and the idle tasks are left to look at, and each CPU looks at those that
//! it has run. So its length does not depend on how many threads sleep, and hardly on how many CPUs there are.
//!
//! Who is inside code that goes out of use when the effort is at its end becomes a straggler: it goes on seeing the bodies
//! that it saw, in every function, until it has left (`shim/stragglers.c`). So nobody keeps a level from going live. Only
//! a level whose author has asked for it goes live all at once, or is refused with the names of those who were inside.

use crate::{
    kapi::{
        ksyms::Ksyms,
        parking::Parking,
        resident::Flag,
        stop_machine::{
            self,
            OnEach,
            Stopped, //
        },
        stragglers::{
            Asks,
            Former, //
        },
        system,
        tasks::{
            self,
            Caller,
            Switches,
            Task,
            MAX_ENTRIES, //
        },
    },
    payload::{
        arrange::Row,
        error::{
            Error,
            Place,
            Reason, //
        },
        ranges::Ranges,
        trampoline::Bodies, //
    },
    report::{
        out_of_memory,
        Report, //
    },
};
use kernel::{
    current, fmt,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// Blockers that one refusal names.
const MAX_BLOCKERS: usize = 8;
/// How often the noted threads are looked at before a stop.
const NARROWINGS: u32 = 2;
/// Stops, and looks that made a stop needless, in a row before all sleeping threads are looked at anew, if all have to be
/// outside.
const MAX_STOPS: u32 = 50;
/// Stops of a switch that may leave stragglers: the last of them switches in any case.
const MAX_TRIES: u32 = 4;
/// Pause between two stops, in milliseconds, or more: [`PAUSE_SHARE`].
const STOP_PAUSE_MS: i64 = 2;
/// A pause is at least this many times the stop before it.
const PAUSE_SHARE: u64 = 50;
/// Longest pause between two looks, in milliseconds.
const MAX_PAUSE_MS: i64 = 100;
/// For how many tasks each CPU has room to note them between two turns; after each time that it did not suffice four times
/// as many, up to [`MAX_NOTES`].
const NOTES: usize = 2048;
/// As above. A look at a thread takes no less time than a switch to another one, so that a CPU notes no more of them than
/// there are.
const MAX_NOTES: usize = 1 << 21;
/// For how many new stragglers there is room; after each time that it did not suffice four times as many, up to
/// [`MAX_ROOM`].
const ROOM: usize = 256;
/// As above; more threads than a kernel has.
const MAX_ROOM: usize = 1 << 22;
/// How long woken tasks are kept waiting outside, and how long they are left alone then, in nanoseconds.
const PARKING_NS: u64 = 500_000_000;

/// A task inside code that goes out of use.
#[derive(Clone, Copy, Default)]
struct Blocker {
    pid: i32,
    comm: [u8; 16],
    /// The word that was found on its stack.
    word: u64,
    /// For how long it has slept there.
    asleep_ns: u64,
}

/// The tasks that one look has found inside.
#[derive(Clone, Copy, Default)]
struct Blockers {
    first: [Blocker; MAX_BLOCKERS],
    /// All of them, also those that `first` has no room for.
    count: usize,
    /// How many of them no signal leads out.
    stuck: usize,
}

impl Blockers {
    /// Adds a task, once, with the word that was found on its stack.
    fn add(&mut self, task: &Task<'_>, word: u64) {
        let pid = task.pid();
        if self.first.iter().take(self.count).any(|b| b.pid == pid) {
            return;
        }
        if let Some(blocker) = self.first.get_mut(self.count) {
            *blocker = Blocker {
                pid,
                comm: task.comm(),
                word,
                asleep_ns: task.asleep_ns(),
            };
        }
        self.count = self.count.saturating_add(1);
        if !task.wakeable() {
            self.stuck = self.stuck.saturating_add(1);
        }
    }
}

/// How a switch went.
#[derive(Clone, Copy, Default)]
pub(crate) struct Switched {
    /// Length of the stop that switched, gathering the CPUs included, in nanoseconds.
    pub(crate) stop_ns: u64,
    /// Length of the longest stop, those in vain included.
    pub(crate) longest_ns: u64,
    /// Sum of the lengths of all stops, in nanoseconds.
    pub(crate) sum_ns: u64,
    /// Looks in vain before it.
    pub(crate) retries: u32,
    /// Tasks that see former bodies now, those of former switches included.
    pub(crate) stragglers: usize,
}

/// Prints where an address is.
pub(crate) type Name<'a> = &'a dyn Fn(u64, &mut Report);

/// How tasks that are inside are left behind.
pub(crate) struct Aside<'a> {
    /// What each trampoline leads to in each universe, ascending.
    pub(crate) rows: &'a [Row],
    /// Who is in none of these is no straggler any more.
    pub(crate) old: Ranges<'a>,
    /// What everybody sees before the switch, and behind it.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The flags ask already, and are to do so until somebody closes the transition.
    pub(crate) open: bool,
    /// How long to try without stragglers, in milliseconds.
    pub(crate) effort_ms: u32,
}

/// One request to switch.
pub(crate) struct Switch<'a> {
    /// Proof that the idle tasks can be found.
    pub(crate) ksyms: Ksyms,
    /// The levels' flags, and what they become. With stragglers all of them are to ask.
    pub(crate) flags: &'a [(&'a Flag, Bodies)],
    /// The code that goes out of use.
    pub(crate) leaving: Ranges<'a>,
    /// How long to try if all have to be outside, in milliseconds.
    pub(crate) limit_ms: u32,
    /// After how long sleeping tasks are led out then, in milliseconds; 0 for never.
    pub(crate) nudge_ms: u32,
    /// For how long tasks may be looked at in one stop, in nanoseconds. What it takes to leave stragglers behind comes on top.
    pub(crate) stop_ns: u64,
    /// Prints where an address of `leaving` is.
    pub(crate) name: Name<'a>,
}

/// How an attempt with stragglers ended.
enum Tried {
    /// Switched; the table of before, if there are stragglers.
    Done(Option<Former>),
    /// There was no room for a straggler.
    NoRoom,
    /// There was no room for a note.
    NoNotes,
}

/// From here on every task that runs is noted.
///
/// # Errors
///
/// [`Reason::OutOfMemory`]; [`Reason::StopFailed`] if the kernel has nothing to note them by.
fn watch(notes: usize, report: &mut Report) -> Result<Switches, Error> {
    let notes = u32::try_from(notes).map_err(out_of_memory)?;
    Switches::watch(notes)
        .map_err(|e| report.failed(Reason::StopFailed, "noting which tasks run", e))
}

/// Where a task is inside `ranges`, if it is; `but` as for [`Task::find_word`].
pub(crate) fn inside(task: &Task<'_>, but: Option<&Caller<'_>>, ranges: Ranges<'_>) -> Option<u64> {
    let word = task
        .find_word(but, |word| ranges.find(word).map(|_| word))
        .or_else(|| in_detour(task))?;
    let mut entries = [0; MAX_ENTRIES];
    let Some(trace) = task.trace(&mut entries) else {
        return Some(word);
    };
    let inside = trace.iter().find(|e| ranges.find(**e).is_some());
    // There the word may be where the task is about to be led.
    let beside = |e: &u64| tasks::in_ftrace(*e) || tasks::in_detour(*e) || tasks::in_ask(*e);
    inside
        .copied()
        .or_else(|| trace.iter().any(beside).then_some(word))
}

/// Where a task is in the detour of an optimized kprobe, if it may be: nothing sleeps there.
fn in_detour(task: &Task<'_>) -> Option<u64> {
    if !tasks::has_detours() || !task.queued() {
        return None;
    }
    task.find_word(None, |word| tasks::in_detour(word).then_some(word))
}

impl Switch<'_> {
    /// Stops the machine, again and again, until no task is inside `leaving`, and sets the flags in
    /// that very stop.
    ///
    /// # Errors
    ///
    /// [`Reason::Blocked`] after the limit, naming tasks and functions; [`Reason::Interrupted`] if the
    /// caller gets a signal; [`Reason::StopLimit`], [`Reason::StopFailed`]. The flags are unchanged.
    #[inline(never)]
    pub(crate) fn run(&self, report: &mut Report) -> Result<Switched, Error> {
        let deadline = system::boot_ns_in(self.limit_ms);
        // Those who wait in it go on when this ends, whichever way.
        let mut parking: Option<Parking> = None;
        let mut turn_ns = system::boot_ns_in(self.nudge_ms);
        let mut pause_ms = 1;
        let mut switched = Switched::default();
        let mut notes = NOTES;
        let mut switches = watch(notes, report)?;
        loop {
            if switches.overflowed() {
                drop(switches);
                notes = more(notes, MAX_NOTES, report)?;
                switches = watch(notes, report)?;
            }
            let attempt = self.attempt(&switches, deadline, &mut switched, report)?;
            let now = system::boot_ns();
            let Some(blockers) = attempt else {
                if now >= deadline {
                    return Err(too_much_runs(report));
                }
                continue;
            };
            if blockers.count == 0 {
                return Ok(switched);
            }
            if now >= deadline {
                return Err(self.blocked(&blockers, report));
            }
            if current!().signal_pending() {
                return Err(Reason::Interrupted.into());
            }
            // Nobody is kept waiting for long, nor while somebody is inside who cannot be led out.
            if self.nudge_ms != 0 && now >= turn_ns {
                turn_ns = now.saturating_add(PARKING_NS);
                parking = match parking {
                    None if blockers.stuck == 0 => Parking::new().ok(),
                    _ => None,
                };
            }
            if let Some(parking) = &parking {
                self.nudge(parking);
            }
            switched.retries = switched.retries.saturating_add(1);
            fsleep(Delta::from_millis(pause_ms));
            pause_ms = pause_ms.saturating_mul(2).min(MAX_PAUSE_MS);
        }
    }

    /// Switches in any case, if possible at a moment when no task is inside; who is inside else is a straggler then.
    ///
    /// # Errors
    ///
    /// [`Reason::StopLimit`], [`Reason::StopFailed`], [`Reason::OutOfMemory`]. The flags are unchanged.
    #[inline(never)]
    pub(crate) fn run_aside(
        &self,
        aside: &Aside<'_>,
        report: &mut Report,
    ) -> Result<(Switched, Option<Former>), Error> {
        let mut switched = Switched::default();
        let (mut notes, mut room) = (NOTES, ROOM);
        loop {
            let switches = watch(notes, report)?;
            let deadline = system::boot_ns_in(aside.effort_ms);
            match self.attempt_aside(aside, &switches, room, deadline, &mut switched, report)? {
                Tried::Done(former) => return Ok((switched, former)),
                Tried::NoRoom => {
                    room = more(room, MAX_ROOM, report)?;
                }
                Tried::NoNotes => {
                    notes = more(notes, MAX_NOTES, report)?;
                }
            }
            switched.retries = switched.retries.saturating_add(1);
        }
    }

    fn set_flags(&self, stopped: &Stopped, ask: bool) {
        for (flag, bodies) in self.flags {
            stopped.set_flag(flag, if ask { Bodies::Ask } else { *bodies });
        }
    }

    /// Wakes user tasks that sleep inside and have them wait outside.
    fn nudge(&self, parking: &Parking) {
        let mut woken = 0u32;
        tasks::for_each_sleeping(|task| {
            if !task.runnable()
                && self.inside(task).is_some()
                && task.wakeable()
                && parking.invite(task)
            {
                woken = woken.saturating_add(1);
            }
        });
        if woken > 0 {
            pr_info!("{woken} sleeping task(s) woken, to leave code that goes out of use\n");
        }
    }

    /// Says how many tasks are inside now, and which, without stopping or switching anything.
    pub(crate) fn probe(&self, report: &mut Report) {
        let mut blockers = Blockers::default();
        tasks::for_each_sleeping(|task| self.look(task, &mut blockers));
        if blockers.count == 0 {
            report.add(format_args!("no task is inside code that goes out of use"));
        } else {
            let count = blockers.count;
            report.add(format_args!(
                "{count} task(s) are inside code that goes out of use:"
            ));
            self.name_blockers(&blockers, report);
        }
    }

    /// One look at all tasks, and the switch as soon as none is inside.
    ///
    /// A thread that sleeps inside is a blocker without any stop. One that only waits for a CPU moves on: it is
    /// noted, and a few stops in a row have a good chance to find it, and all others like it, outside. `None` if there
    /// was no room for a note, so that all threads have to be looked at anew.
    #[inline(never)]
    fn attempt(
        &self,
        switches: &Switches,
        deadline: u64,
        switched: &mut Switched,
        report: &mut Report,
    ) -> Result<Option<Blockers>, Error> {
        let mut blockers = Blockers::default();
        switches.narrow(|task| {
            self.look_running(task, switches);
        });
        tasks::for_each_sleeping(|task| {
            if let Some(word) = self.look_running(task, switches) {
                blockers.add(task, word);
            }
        });
        if blockers.count > 0 {
            return Ok(Some(blockers));
        }
        // Numbers left over in the frames up to here would have the unwinder asked in each stop.
        let variable = 0;
        let caller = Caller::new(&variable);
        let outside = caller.visit(|task| self.inside(task)).is_none();
        let caller = outside.then_some(&caller);
        let mut stops = 0u32;
        loop {
            let mut blockers = self.narrow(switches);
            let bound = Bound::new(self.stop_ns);
            if blockers.count == 0 {
                let tried = self.stop(&bound, switches, caller, switched, report, |stopped| {
                    self.attempt_stopped(stopped, switches, &bound)
                })?;
                if let Some(found) = tried {
                    blockers = found;
                } else if switches.overflowed() {
                    return Ok(None);
                }
            }
            stops = stops.saturating_add(1);
            let interrupted = current!().signal_pending();
            let over = system::boot_ns() >= deadline;
            if bound.is_late() {
                if interrupted {
                    return Err(Reason::Interrupted.into());
                }
                if over {
                    return Err(self.too_long(report));
                }
            } else if blockers.count == 0 || stops >= MAX_STOPS || over || interrupted {
                return Ok(Some(blockers));
            }
            switched.retries = switched.retries.saturating_add(1);
            switched.pause();
        }
    }

    /// Looks at the threads that have been noted, while the machine runs, so that fewer are left for the stop; gives
    /// those that sleep inside.
    #[inline(never)]
    fn narrow(&self, switches: &Switches) -> Blockers {
        let mut blockers = Blockers::default();
        for _ in 0..NARROWINGS {
            blockers = Blockers::default();
            switches.narrow(|task| {
                if let Some(word) = self.look_running(task, switches) {
                    blockers.add(task, word);
                }
            });
        }
        blockers
    }

    /// Stops the machine, looks on all CPUs where those are that have run since their last look, and does `last`, unless that
    /// took too long. The part of `caller`'s stack that stays has been looked at.
    #[inline(never)]
    fn stop<R>(
        &self,
        bound: &Bound,
        switches: &Switches,
        caller: Option<&Caller<'_>>,
        switched: &mut Switched,
        report: &mut Report,
        last: impl FnOnce(&Stopped) -> Option<R>,
    ) -> Result<Option<R>, Error> {
        let leaving = self.leaving;
        let each = |cpu: &OnEach| {
            bound.begin();
            cpu.look(switches, &|task: &Task<'_>| {
                if bound.is_over() {
                    return None;
                }
                inside(task, caller, leaving)
            });
        };
        let before = system::boot_ns();
        let result = stop_machine::stop(self.ksyms, each, |stopped| {
            if bound.is_over() {
                return None;
            }
            last(stopped)
        });
        switched.count(system::boot_ns().saturating_sub(before));
        result.map_err(|e| report.failed(Reason::StopFailed, "stopping the machine", e))
    }

    /// Runs on one CPU while all others spin; `None` if not all could be looked at.
    fn attempt_stopped(
        &self,
        stopped: &Stopped,
        switches: &Switches,
        bound: &Bound,
    ) -> Option<Blockers> {
        let mut blockers = Blockers::default();
        stopped.for_each_noted(switches, |task, word| {
            if let Some(word) = word {
                blockers.add(task, word);
            }
        });
        visit_stopper(|task| self.look(task, &mut blockers));
        if switches.overflowed() || bound.is_over() {
            return None;
        }
        if blockers.count == 0 {
            self.set_flags(stopped, false);
        }
        Some(blockers)
    }

    /// One look at all tasks; then stops until one finds nobody inside but who sleeps there, or until it has been tried
    /// often enough, and switches.
    #[inline(never)]
    fn attempt_aside(
        &self,
        aside: &Aside<'_>,
        switches: &Switches,
        room: usize,
        deadline: u64,
        switched: &mut Switched,
        report: &mut Report,
    ) -> Result<Tried, Error> {
        let asks = Asks::new(aside.rows, aside.old, room).map_err(out_of_memory)?;
        let mut found = Found {
            asks: Some(asks),
            from: aside.from,
            full: false,
            moving: 0,
            stopper: None,
        };
        if let Some(asks) = &mut found.asks {
            asks.inherit(aside.to);
        }
        // Who sleeps inside gets a moment to leave by itself.
        let mut pause_ms = 1;
        loop {
            found.moving = 0;
            switches.narrow(|task| self.consider(task, switches, &mut found));
            tasks::for_each_sleeping(|task| self.consider(task, switches, &mut found));
            if found.full {
                return Ok(Tried::NoRoom);
            }
            if switches.overflowed() {
                return Ok(Tried::NoNotes);
            }
            let asleep = found.count().saturating_sub(found.moving);
            if aside.open || asleep == 0 || system::boot_ns() >= deadline {
                break;
            }
            fsleep(Delta::from_millis(pause_ms));
            pause_ms = pause_ms.saturating_mul(2).min(MAX_PAUSE_MS);
        }
        let variable = 0;
        let caller = Caller::new(&variable);
        let outside = caller.visit(|task| self.inside(task)).is_none();
        let caller = outside.then_some(&caller);
        let give_up = system::boot_ns_in(self.limit_ms);
        let mut tries = 0u32;
        loop {
            for _ in 0..NARROWINGS {
                found.moving = 0;
                switches.narrow(|task| self.consider(task, switches, &mut found));
            }
            if found.full {
                return Ok(Tried::NoRoom);
            }
            if switches.overflowed() {
                return Ok(Tried::NoNotes);
            }
            tries = tries.saturating_add(1);
            let last = tries >= MAX_TRIES || system::boot_ns() >= deadline;
            let bound = Bound::new(self.stop_ns);
            let tried = self.stop(&bound, switches, caller, switched, report, |stopped| {
                self.switch_stopped(stopped, aside, switches, &bound, &mut found, last)
            })?;
            if let Some((former, stragglers)) = tried {
                switched.stragglers = stragglers;
                return Ok(Tried::Done(former));
            }
            // It is no veto: what took long now need not do so later.
            if bound.is_late() && system::boot_ns() >= give_up {
                return Err(self.too_long(report));
            }
            if found.full {
                return Ok(Tried::NoRoom);
            }
            if let Some(word) = found.stopper {
                report.add(format_args!(
                    "the threads that stop the machine are always in "
                ));
                name_word(word, self.name, report);
                return Err(Reason::Blocked.into());
            }
            switched.retries = switched.retries.saturating_add(1);
            switched.pause();
        }
    }

    /// Runs on one CPU while all others spin: looks at whoever has run since its last look, and switches if nobody is inside
    /// but who sleeps, or if it is the `last` try. Gives how many stragglers there are. Without any, nobody is in any trampoline
    /// either, so that nobody asks, and no table is needed.
    fn switch_stopped(
        &self,
        stopped: &Stopped,
        aside: &Aside<'_>,
        switches: &Switches,
        bound: &Bound,
        found: &mut Found,
        last: bool,
    ) -> Option<(Option<Former>, usize)> {
        found.moving = 0;
        stopped.for_each_noted(switches, |task, word| found.note(task, word));
        visit_stopper(|task| found.stopper = self.inside(task));
        if found.stopper.is_some() {
            return None;
        }
        if found.full || switches.overflowed() || bound.is_over() || (found.moving > 0 && !last) {
            return None;
        }
        let stragglers = found.count();
        let asks = stragglers > 0 || aside.open;
        if !asks {
            self.set_flags(stopped, false);
            return Some((None, 0));
        }
        // First: an NMI may come in between.
        let former = found.asks.take()?.publish_stopped(stopped, aside.to);
        self.set_flags(stopped, true);
        Some((Some(former), stragglers))
    }

    /// Where this task is inside the code that goes out of use, if it is.
    fn inside(&self, task: &Task<'_>) -> Option<u64> {
        inside(task, None, self.leaving)
    }

    /// Adds a task that is inside to the blockers.
    fn look(&self, task: &Task<'_>, blockers: &mut Blockers) {
        if let Some(word) = self.inside(task) {
            blockers.add(task, word);
        }
    }

    /// Looks at a task while the machine runs: if it is inside, the stop will have to look at it again; says where it
    /// is if it sleeps there.
    fn look_running(&self, task: &Task<'_>, switches: &Switches) -> Option<u64> {
        let word = self.inside(task)?;
        switches.note(task);
        (!task.runnable()).then_some(word)
    }

    /// Looks at a task while the machine runs: who is inside may become a straggler, and if it runs on until then, the stop
    /// looks at it again.
    fn consider(&self, task: &Task<'_>, switches: &Switches, found: &mut Found) {
        let word = self.inside(task);
        if word.is_some() && task.runnable() {
            switches.note(task);
        }
        found.note(task, word);
    }

    fn too_long(&self, report: &mut Report) -> Error {
        let us = self.stop_ns / 1000;
        report.refuse(
            Reason::StopLimit,
            Place::Nowhere,
            format_args!("looking at the tasks that have just run takes longer than {us} us"),
        )
    }

    #[inline(never)]
    fn blocked(&self, blockers: &Blockers, report: &mut Report) -> Error {
        let limit = self.limit_ms;
        let count = blockers.count;
        report.add(format_args!(
            "after {limit} ms {count} task(s) are still inside code that goes out of use:"
        ));
        self.name_blockers(blockers, report);
        Error::new(Reason::Blocked, Place::Nowhere)
    }

    fn name_blockers(&self, blockers: &Blockers, report: &mut Report) {
        for blocker in blockers.first.iter().take(blockers.count) {
            let comm = name_of(&blocker.comm);
            let pid = blocker.pid;
            report.add(format_args!(" task {pid} ({comm}) in "));
            name_word(blocker.word, self.name, report);
            if blocker.asleep_ns != 0 {
                let ms = blocker.asleep_ns / 1_000_000;
                report.add(format_args!(
                    ", asleep for {}.{:03} s",
                    ms / 1000,
                    ms % 1000
                ));
            }
            report.add(format_args!(";"));
        }
    }
}

/// Prints where a task was found.
pub(crate) fn name_word(word: u64, name: Name<'_>, report: &mut Report) {
    if tasks::in_detour(word) {
        report.add(format_args!("the detour of a kprobe"));
    } else {
        name(word, report);
    }
}

/// A task's name, NUL-padded, as text.
pub(crate) fn name_of(comm: &[u8; 16]) -> &str {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    core::str::from_utf8(comm.get(..end).unwrap_or_default()).unwrap_or("?")
}

/// Visits this CPU's stopper, with the machine stopped. Those of the others are on the same way, and in no note.
fn visit_stopper(visit: impl FnOnce(&Task<'_>)) {
    let variable = 0;
    Caller::new(&variable).visit(visit);
}

/// Four times as many, if that is allowed.
fn more(now: usize, most: usize, report: &mut Report) -> Result<usize, Error> {
    if now >= most {
        return Err(too_much_runs(report));
    }
    Ok(now.saturating_mul(4))
}

fn too_much_runs(report: &mut Report) -> Error {
    report.refuse(
        Reason::StopFailed,
        Place::Nowhere,
        format_args!("too many tasks run at the same time to be looked at"),
    )
}

/// For how long a stop may look at tasks.
struct Bound {
    /// In nanoseconds; [`u64::MAX`] for as long as it takes.
    ns: u64,
    /// When a CPU has begun, by the machine's clock. All begin at about the same time.
    begun: Atomic<u64>,
    /// It has taken longer; then nothing is switched.
    late: Atomic<bool>,
}

impl Bound {
    fn new(ns: u64) -> Self {
        Self {
            ns,
            begun: Atomic::new(0),
            late: Atomic::new(false),
        }
    }

    /// The clock may be slow to read, and is not if nobody wants to know.
    fn begin(&self) {
        if self.ns != u64::MAX {
            self.begun.store(system::boot_ns(), Relaxed);
        }
    }

    /// Looks at the clock, too.
    fn is_over(&self) -> bool {
        let late = self.is_late()
            || (self.ns != u64::MAX
                && system::boot_ns().saturating_sub(self.begun.load(Relaxed)) > self.ns);
        if late {
            self.late.store(true, Relaxed);
        }
        late
    }

    fn is_late(&self) -> bool {
        self.late.load(Relaxed)
    }
}

/// Who has been found inside so far.
struct Found {
    /// Them, until it counts.
    asks: Option<Asks>,
    /// What they see.
    from: u64,
    /// There was no room for one.
    full: bool,
    /// How many of those that were looked at last were inside and do not sleep.
    moving: usize,
    /// Where the threads are inside that stop the machine.
    stopper: Option<u64>,
}

impl Found {
    fn count(&self) -> usize {
        self.asks.as_ref().map_or(0, Asks::count)
    }

    /// Notes where a task is inside, if it is.
    fn note(&mut self, task: &Task<'_>, word: Option<u64>) {
        let Some(asks) = &mut self.asks else {
            return;
        };
        let Some(word) = word else {
            asks.remove(task);
            return;
        };
        if task.straggles() {
            return;
        }
        if task.runnable() {
            self.moving = self.moving.saturating_add(1);
        }
        if !asks.add(task, self.from, word) {
            self.full = true;
        }
    }
}

impl fmt::Display for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (us, retries) = (self.stop_ns / 1000, self.retries);
        write!(f, "stopped for {us} us, {retries} retries")?;
        match self.stragglers {
            0 => Ok(()),
            count => write!(f, ", {count} task(s) finish old calls"),
        }
    }
}

impl Switched {
    /// Keeps account of a stop.
    fn count(&mut self, ns: u64) {
        self.stop_ns = ns;
        self.longest_ns = self.longest_ns.max(ns);
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// Lets the machine run for far longer than it has just been stopped.
    fn pause(&self) {
        let share = self.stop_ns.saturating_mul(PAUSE_SHARE) / 1_000_000;
        let share = i64::try_from(share).unwrap_or(MAX_PAUSE_MS);
        fsleep(Delta::from_millis(share.clamp(STOP_PAUSE_MS, MAX_PAUSE_MS)));
    }
}
