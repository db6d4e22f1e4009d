// SPDX-License-Identifier: GPL-2.0

//! The switch: with the machine stopped and no task inside the code that goes out of use, flags
//! change, and every function of a level with them.
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
//! look is little. In the stop only those threads and the idle tasks are left to look at, so that its length does
//! not depend on how many threads sleep. A blocker that sleeps is found without any stop. If it is a user task and
//! stays, it is woken, and waits for the switch on its way out of the kernel.

use crate::{
    kapi::{
        ksyms::Ksyms,
        parking::Parking,
        resident::Flag,
        stop_machine::{
            self,
            Stopped, //
        },
        system,
        tasks::{
            self,
            Caller,
            Switches,
            Task, //
        },
    },
    payload::{
        error::{
            Error,
            Place,
            Reason, //
        },
        ranges::Ranges,
        trampoline::Bodies, //
    },
    report::Report,
};
use kernel::{
    current,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// Blockers that one refusal names.
const MAX_BLOCKERS: usize = 8;
/// Longest stack, in frames, of which the unwinder is asked.
const MAX_ENTRIES: usize = 64;
/// How often the noted threads are looked at before a stop.
const NARROWINGS: u32 = 2;
/// Stops, and looks that made a stop needless, in a row before all sleeping threads are looked at anew.
const MAX_STOPS: u32 = 50;
/// Pause between two of them, in milliseconds.
const STOP_PAUSE_MS: i64 = 2;
/// Longest pause between two looks, in milliseconds.
const MAX_PAUSE_MS: i64 = 100;

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
    }
}

/// How a switch went.
#[derive(Clone, Copy, Default)]
pub(crate) struct Switched {
    /// Length of the stop that switched, gathering the CPUs included, in nanoseconds.
    pub(crate) stop_ns: u64,
    /// Length of the longest stop, those in vain included.
    pub(crate) longest_ns: u64,
    /// Looks in vain before it.
    pub(crate) retries: u32,
    /// Tasks were inside code that went out of use.
    pub(crate) forced: bool,
}

/// Prints where an address is.
pub(crate) type Name<'a> = &'a dyn Fn(u64, &mut Report);

/// One request to switch.
pub(crate) struct Switch<'a> {
    /// Proof that the idle tasks can be found.
    pub(crate) ksyms: Ksyms,
    /// The levels' flags, and what they become.
    pub(crate) flags: &'a [(&'a Flag, Bodies)],
    /// The code that goes out of use.
    pub(crate) leaving: Ranges<'a>,
    /// How long to try, in milliseconds.
    pub(crate) limit_ms: u32,
    /// After how long sleeping tasks are led out, in milliseconds; 0 for never.
    pub(crate) nudge_ms: u32,
    /// Switch in the end, whoever is inside.
    pub(crate) force: bool,
    /// A signal to the caller ends it.
    pub(crate) interruptible: bool,
    /// Prints where an address of `leaving` is.
    pub(crate) name: Name<'a>,
}

/// From here on every task that runs is noted.
///
/// # Errors
///
/// [`Reason::OutOfMemory`]; [`Reason::StopFailed`] if the kernel has nothing to note them by.
fn watch(report: &mut Report) -> Result<Switches, Error> {
    Switches::watch().map_err(|e| report.failed(Reason::StopFailed, "noting which tasks run", e))
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
    /// caller gets a signal; [`Reason::StopFailed`]. The flags are unchanged.
    pub(crate) fn run(&self, report: &mut Report) -> Result<Switched, Error> {
        let limit_ns = u64::from(self.limit_ms).saturating_mul(1_000_000);
        let start = system::boot_ns();
        let deadline = start.saturating_add(limit_ns);
        let nudge_ns = u64::from(self.nudge_ms).saturating_mul(1_000_000);
        // Those who wait in it go on when this ends, whichever way.
        let mut parking = None;
        let mut pause_ms = 1;
        let mut switched = Switched::default();
        let mut switches = watch(report)?;
        loop {
            if switches.overflowed() {
                drop(switches);
                switches = watch(report)?;
            }
            let blockers = self.attempt(&switches, deadline, &mut switched, report)?;
            if blockers.count == 0 {
                return Ok(switched);
            }
            if system::boot_ns() >= deadline {
                if !self.force {
                    return Err(self.blocked(&blockers, report));
                }
                self.switch_anyway(&blockers, &mut switched, report)?;
                return Ok(switched);
            }
            if self.interrupted() {
                return Err(Reason::Interrupted.into());
            }
            if nudge_ns != 0 && system::boot_ns().saturating_sub(start) >= nudge_ns {
                if parking.is_none() {
                    parking = Parking::new().ok();
                }
                if let Some(parking) = &parking {
                    self.nudge(parking);
                }
            }
            switched.retries = switched.retries.saturating_add(1);
            fsleep(Delta::from_millis(pause_ms));
            pause_ms = pause_ms.saturating_mul(2).min(MAX_PAUSE_MS);
        }
    }

    /// Switches with tasks inside.
    fn switch_anyway(
        &self,
        blockers: &Blockers,
        switched: &mut Switched,
        report: &mut Report,
    ) -> Result<(), Error> {
        let before = system::boot_ns();
        stop_machine::stop(self.ksyms, |stopped| self.set_flags(stopped))
            .map_err(|e| report.failed(Reason::StopFailed, "stopping the machine", e))?;
        switched.stop_ns = system::boot_ns().saturating_sub(before);
        switched.longest_ns = switched.longest_ns.max(switched.stop_ns);
        switched.forced = true;
        system::taint_forced();
        let count = blockers.count;
        report.add(format_args!(
            "forced, with {count} task(s) inside code that goes out of use:"
        ));
        self.name_blockers(blockers, report);
        pr_alert!("{}\n", report.as_str());
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.interruptible && current!().signal_pending()
    }

    fn set_flags(&self, stopped: &Stopped) {
        for (flag, bodies) in self.flags {
            stopped.set_flag(flag, *bodies);
        }
    }

    /// Wakes user tasks that sleep inside and have them wait outside.
    fn nudge(&self, parking: &Parking) {
        let mut woken = 0u32;
        tasks::for_each_sleeping(|task| {
            if !task.runnable() && self.inside(task, None).is_some() && parking.invite(task) {
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
        tasks::for_each_sleeping(|task| self.look(task, None, &mut blockers));
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
    /// noted, and a few stops in a row have a good chance to find it, and all others like it, outside.
    fn attempt(
        &self,
        switches: &Switches,
        deadline: u64,
        switched: &mut Switched,
        report: &mut Report,
    ) -> Result<Blockers, Error> {
        // Of those that have run since the last look, one that exits may be in no list any more.
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
            return Ok(blockers);
        }
        // Numbers left over in the frames up to here would have the unwinder asked in each stop.
        let variable = 0;
        let caller = Caller::new(&variable);
        let outside = caller.visit(|task| self.inside(task, None)).is_none();
        let caller = outside.then_some(&caller);
        let mut stops = 0u32;
        loop {
            let mut blockers = self.narrow(switches);
            if blockers.count == 0 {
                let before = system::boot_ns();
                blockers = stop_machine::stop(self.ksyms, |stopped| {
                    self.attempt_stopped(stopped, switches, caller)
                })
                .map_err(|e| report.failed(Reason::StopFailed, "stopping the machine", e))?;
                switched.stop_ns = system::boot_ns().saturating_sub(before);
                switched.longest_ns = switched.longest_ns.max(switched.stop_ns);
            }
            stops = stops.saturating_add(1);
            let again = stops < MAX_STOPS && system::boot_ns() < deadline && !self.interrupted();
            if blockers.count == 0 || !again {
                return Ok(blockers);
            }
            switched.retries = switched.retries.saturating_add(1);
            fsleep(Delta::from_millis(STOP_PAUSE_MS));
        }
    }

    /// Looks at the threads that have been noted, while the machine runs, so that fewer are left for the stop; gives
    /// those that sleep inside.
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

    /// Runs on one CPU while all others spin. The part of `caller`'s stack that stays has been looked at.
    fn attempt_stopped(
        &self,
        stopped: &Stopped,
        switches: &Switches,
        caller: Option<&Caller<'_>>,
    ) -> Blockers {
        let mut blockers = Blockers::default();
        stopped.for_each_noted(switches, |task| self.look(task, caller, &mut blockers));
        if switches.overflowed() {
            stopped.for_each_thread(|task| self.look(task, caller, &mut blockers));
        }
        stopped.for_each_idle(|task| self.look(task, caller, &mut blockers));
        // Each CPU's stopper is on the same way as the one that runs this, and in no note.
        let variable = 0;
        Caller::new(&variable).visit(|task| self.look(task, None, &mut blockers));
        if blockers.count == 0 {
            self.set_flags(stopped);
        }
        blockers
    }

    /// Where this task is inside the code that goes out of use, if it is; `but` as for [`Task::find_word`].
    fn inside(&self, task: &Task<'_>, but: Option<&Caller<'_>>) -> Option<u64> {
        let word = task
            .find_word(but, |word| self.leaving.find(word).map(|_| word))
            .or_else(|| in_detour(task))?;
        let mut entries = [0; MAX_ENTRIES];
        let Some(trace) = task.trace(&mut entries) else {
            return Some(word);
        };
        let inside = trace.iter().find(|e| self.leaving.find(**e).is_some());
        // In ftrace's text the word may be where the task is about to be led.
        let beside = |e: &u64| tasks::in_ftrace(*e) || tasks::in_detour(*e);
        inside
            .copied()
            .or_else(|| trace.iter().any(beside).then_some(word))
    }

    /// Adds a task that is inside to the blockers.
    fn look(&self, task: &Task<'_>, but: Option<&Caller<'_>>, blockers: &mut Blockers) {
        if let Some(word) = self.inside(task, but) {
            blockers.add(task, word);
        }
    }

    /// Looks at a task while the machine runs: if it is inside, the stop will have to look at it again; says where it
    /// is if it sleeps there.
    fn look_running(&self, task: &Task<'_>, switches: &Switches) -> Option<u64> {
        let word = self.inside(task, None)?;
        switches.note(task);
        (!task.runnable()).then_some(word)
    }

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
            let end = blocker.comm.iter().position(|b| *b == 0).unwrap_or(16);
            let comm = blocker.comm.get(..end).unwrap_or_default();
            let comm = core::str::from_utf8(comm).unwrap_or("?");
            let pid = blocker.pid;
            report.add(format_args!(" task {pid} ({comm}) in "));
            if tasks::in_detour(blocker.word) {
                report.add(format_args!("the detour of a kprobe"));
            } else {
                (self.name)(blocker.word, report);
            }
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
