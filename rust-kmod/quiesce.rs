// SPDX-License-Identifier: GPL-2.0

//! The switch: with the machine stopped and no task inside the code that goes out of use, one flag
//! changes, and every function of a level with it.
//!
//! Stacks are scanned conservatively: every word in use, whatever it means. That needs no unwinder and
//! cannot miss a frame; at worst a number that looks like a return address makes us try again.
//! Registers need no look: all tasks but the stoppers have saved theirs on their stacks, and an
//! interrupted instruction pointer is saved there too.

use crate::{
    kapi::{
        ksyms::Ksyms,
        resident::Flag,
        stop_machine::{
            self,
            Caller,
            Stopped, //
        },
        system, //
    },
    payload::{
        error::{
            Error,
            Place,
            Reason, //
        },
        ranges::Ranges, //
    },
    report::Report,
};
use core::ops::ControlFlow;
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
/// Longest pause between two attempts, in milliseconds.
const MAX_PAUSE_MS: i64 = 100;

/// A task inside code that goes out of use.
#[derive(Clone, Copy, Default)]
struct Blocker {
    pid: i32,
    comm: [u8; 16],
    /// The word that was found on its stack.
    word: u64,
}

/// The result of one stop.
#[derive(Clone, Copy, Default)]
struct Attempt {
    blockers: [Blocker; MAX_BLOCKERS],
    /// All of them, also those that `blockers` has no room for.
    count: usize,
}

/// How a switch went.
#[derive(Clone, Copy)]
pub(crate) struct Switched {
    /// Length of the stop that switched, gathering the CPUs included, in nanoseconds.
    pub(crate) stop_ns: u64,
    /// Length of the longest stop, those in vain included.
    pub(crate) longest_ns: u64,
    /// Stops in vain before it.
    pub(crate) retries: u32,
}

/// One request to switch.
pub(crate) struct Switch<'a> {
    /// Proof that the idle tasks can be found.
    pub(crate) ksyms: Ksyms,
    /// Who asked.
    pub(crate) caller: Caller,
    /// The level's flag, and what it becomes.
    pub(crate) flag: &'a Flag,
    /// See `flag`.
    pub(crate) value: bool,
    /// The code that goes out of use.
    pub(crate) leaving: Ranges<'a>,
    /// How long to try, in milliseconds.
    pub(crate) limit_ms: u32,
    /// Prints where an address of `leaving` is.
    pub(crate) name: &'a dyn Fn(u64, &mut Report),
}

impl Switch<'_> {
    /// Stops the machine, again and again, until no task is inside `leaving`, and sets the flag in
    /// that very stop.
    ///
    /// # Errors
    ///
    /// [`Reason::Blocked`] after the limit, naming tasks and functions; [`Reason::Interrupted`] if the
    /// caller gets a signal; [`Reason::StopFailed`]. The flag is unchanged.
    pub(crate) fn run(&self, report: &mut Report) -> Result<Switched, Error> {
        let start = system::boot_ns();
        let limit_ns = u64::from(self.limit_ms).saturating_mul(1_000_000);
        let mut pause_ms = 1;
        let mut longest_ns = 0;
        let mut retries = 0u32;
        loop {
            let before = system::boot_ns();
            let attempt = stop_machine::stop(self.ksyms, |stopped| self.attempt(stopped))
                .map_err(|e| report.failed(Reason::StopFailed, "stopping the machine", e))?;
            let now = system::boot_ns();
            let stop_ns = now.saturating_sub(before);
            longest_ns = stop_ns.max(longest_ns);
            if attempt.count == 0 {
                return Ok(Switched {
                    stop_ns,
                    longest_ns,
                    retries,
                });
            }
            if now.saturating_sub(start) >= limit_ns {
                return Err(self.blocked(&attempt, report));
            }
            if current!().signal_pending() {
                return Err(Reason::Interrupted.into());
            }
            retries = retries.saturating_add(1);
            fsleep(Delta::from_millis(pause_ms));
            pause_ms = pause_ms.saturating_mul(2).min(MAX_PAUSE_MS);
        }
    }

    /// Runs on one CPU while all others spin.
    fn attempt(&self, stopped: &Stopped) -> Attempt {
        let mut attempt = Attempt::default();
        stopped.for_each_task(|task| {
            let hit = |word| self.leaving.find(word).map(|_| word);
            if let Some(word) = task.find_word(self.caller, hit) {
                if let Some(blocker) = attempt.blockers.get_mut(attempt.count) {
                    *blocker = Blocker {
                        pid: task.pid(),
                        comm: task.comm(),
                        word,
                    };
                }
                attempt.count = attempt.count.saturating_add(1);
            }
            ControlFlow::Continue(())
        });
        if attempt.count == 0 {
            stopped.set_flag(self.flag, self.value);
        }
        attempt
    }

    fn blocked(&self, attempt: &Attempt, report: &mut Report) -> Error {
        let limit = self.limit_ms;
        let count = attempt.count;
        report.add(format_args!(
            "after {limit} ms {count} task(s) are still inside code that goes out of use:"
        ));
        for blocker in attempt.blockers.iter().take(count) {
            let end = blocker.comm.iter().position(|b| *b == 0).unwrap_or(16);
            let comm = blocker.comm.get(..end).unwrap_or_default();
            let comm = core::str::from_utf8(comm).unwrap_or("?");
            let pid = blocker.pid;
            report.add(format_args!(" task {pid} ({comm}) in "));
            (self.name)(blocker.word, report);
            report.add(format_args!(";"));
        }
        Error::new(Reason::Blocked, Place::Nowhere)
    }
}
