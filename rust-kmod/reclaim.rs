// SPDX-License-Identifier: GPL-2.0

//! Memory that nothing leads to any more, given back when no task can be in it.
//!
//! A grace period of RCU-tasks tells that, and behind it a look at all tasks if some may have slept on their way. Such a
//! period lasts for as long as any task stays in the kernel that was preempted there, so that any user can draw it
//! out: a request waits for it a moment only, holds nothing up then, and what is left is done later.

use crate::{
    kapi::{
        rcu::{
            self,
            Period, //
        },
        stragglers::{
            self,
            Former, //
        },
        system, //
    },
    level::{
        collect,
        Level, //
    },
    payload::{
        error::Error,
        trampoline::Bodies, //
    },
    report::{
        out_of_memory,
        Report, //
    },
    state::{
        keep,
        remember,
        Core,
        Engine, //
    },
};
use kernel::{
    fmt,
    prelude::*, //
};

/// How long a request waits for a grace period, in milliseconds.
pub(crate) const WAIT_MS: u32 = 5_000;
/// After how long one that was not over is looked at again, in milliseconds.
const AGAIN_MS: u32 = 500;
/// After how long a level that could not be freed is looked at again, in milliseconds.
const LINGER_MS: u32 = 10_000;

/// A grace period that is under way.
struct Grace {
    /// How many of the first levels and tables it is for: those that were there when it began.
    levels: usize,
    formers: usize,
    /// No transition was open when it began.
    closed: bool,
}

/// Levels that are in memory and that nothing is to lead to any more. A task may be in front of one's trampoline all the same,
/// so that every switch looks there, and who asks there is answered.
pub(crate) struct Past {
    /// They wait for the end of a grace period. There is room: [`Engine::reserve`].
    waiting: KVec<Level>,
    /// Something may lead to them for ever. There is room: [`Engine::reserve`].
    kept: KVec<Level>,
    /// They are behind their grace period, and a task may return to them.
    lingering: KVec<Level>,
}

impl Past {
    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Level> + Clone {
        let kept = Iterator::chain(self.kept.iter(), &self.lingering);
        Iterator::chain(self.waiting.iter(), kept)
    }

    /// Levels that something may lead to, as a list, and all that tasks may ask about: those and these.
    pub(crate) fn beside<'a>(
        &'a self,
        levels: impl Iterator<Item = &'a Level> + Clone,
    ) -> Result<(KVec<&'a Level>, KVec<&'a Level>), Error> {
        let asked = collect(Iterator::chain(levels.clone(), self.all()))?;
        Ok((collect(levels)?, asked))
    }

    /// All of them, to change them.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Level> {
        let kept = Iterator::chain(self.kept.iter_mut(), &mut self.lingering);
        Iterator::chain(self.waiting.iter_mut(), kept)
    }

    /// Whether there are some that wait for the end of a grace period.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// What waits for the end of a grace period.
pub(crate) struct Reclaim {
    pub(crate) past: Past,
    /// Tables that somebody may still read. There is room: [`Engine::reserve`].
    pub(crate) formers: KVec<Former>,
    grace: Option<Grace>,
    period: Period,
    /// When those that linger are looked at again, by the machine's clock since boot, in nanoseconds.
    linger_ns: u64,
}

impl Reclaim {
    /// Nothing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            past: Past {
                waiting: KVec::new(),
                kept: KVec::new(),
                lingering: KVec::new(),
            },
            formers: KVec::new(),
            grace: None,
            period: Period::new()?,
            linger_ns: 0,
        })
    }

    /// Takes memory for so many levels more, and two tables.
    pub(crate) fn reserve(&mut self, levels: usize) -> Result<(), Error> {
        let past = &mut self.past;
        past.waiting
            .reserve(levels, GFP_KERNEL)
            .and_then(|()| past.kept.reserve(levels, GFP_KERNEL))
            .and_then(|()| self.formers.reserve(2, GFP_KERNEL))
            .map_err(out_of_memory)
    }

    /// Adds a level that nothing leads to any more. There is room: [`Engine::reserve`].
    pub(crate) fn add(&mut self, level: Level) {
        remember(&mut self.past.waiting, level);
    }

    /// Keeps a level for ever that something may still lead to. There is room: [`Engine::reserve`].
    pub(crate) fn keep(&mut self, level: Level, why: fmt::Arguments<'_>) {
        pr_err!("the memory of a patch is kept until reboot: {why}\n");
        remember(&mut self.past.kept, level);
    }
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        // A level keeps the module, so that only tables are left.
        if !self.formers.is_empty() {
            rcu::synchronize_text();
        }
        while let Some(former) = self.formers.pop() {
            former.free();
        }
    }
}

impl Engine {
    /// Whether something waits for a grace period.
    fn has_former(&self) -> bool {
        let reclaim = &self.reclaim;
        reclaim.past.is_waiting() || !reclaim.formers.is_empty() || self.redirects.has_former()
    }

    /// Has what waits for a grace period be done later.
    pub(crate) fn reclaim_soon(&self) {
        if self.has_former() {
            stragglers::in_ms(AGAIN_MS);
        }
    }

    /// Begins a grace period for all that waits for one; false if nothing does.
    fn begin_grace(&mut self) -> bool {
        if !self.has_former() {
            return false;
        }
        let reclaim = &mut self.reclaim;
        reclaim.period.begin();
        self.redirects.begin_grace();
        reclaim.grace = Some(Grace {
            levels: reclaim.past.waiting.len(),
            formers: reclaim.formers.len(),
            closed: self.open.is_none(),
        });
        true
    }

    /// Ends the grace period if it is over, or will be in so many milliseconds: frees the tables, and gives the number of levels to
    /// free, which are the first ones.
    fn end_grace(&mut self, ms: u32) -> Option<usize> {
        let reclaim = &mut self.reclaim;
        let ended = reclaim.grace.take_if(|_| reclaim.period.is_over(ms))?;
        self.redirects.end_grace();
        // Each table that is published makes one more a former one.
        let published = reclaim.formers.len() != ended.formers;
        for _ in 0..ended.formers {
            if let Ok(former) = reclaim.formers.remove(0) {
                former.free();
            }
        }
        // Who had read a flag before it began has asked by now, so that the last table goes, too.
        let nobody_asks = ended.closed && self.open.is_none() && reclaim.past.kept.is_empty();
        if nobody_asks && !published && reclaim.formers.reserve(1, GFP_KERNEL).is_ok() {
            if let Some(former) = self.stragglers.retract() {
                remember(&mut reclaim.formers, former);
            }
        }
        Some(ended.levels)
    }
}

impl Core {
    /// Frees a level to which nothing has led since it was replaced or released, and in which no task was then. There is room:
    /// [`Engine::reserve`].
    pub(crate) fn give_up(&self, engine: &mut Engine, level: Level) {
        engine.reclaim.add(level);
        self.reclaim(engine, WAIT_MS);
    }

    /// Frees what nobody uses any more, and waits for grace periods so many milliseconds at most; the rest is done later.
    #[inline(never)]
    pub(crate) fn reclaim(&self, engine: &mut Engine, ms: u32) {
        let end_ns = system::boot_ns_in(ms);
        while engine.reclaim.grace.is_some() || engine.begin_grace() {
            let left_ms = end_ns.saturating_sub(system::boot_ns()) / 1_000_000;
            let Some(count) = engine.end_grace(u32::try_from(left_ms).unwrap_or(ms)) else {
                if ms > 0 {
                    pr_info!(
                        "after {ms} ms memory is not given back yet: it waits for a grace period\n"
                    );
                }
                break;
            };
            for _ in 0..count {
                if let Ok(level) = engine.reclaim.past.waiting.remove(0) {
                    self.free(engine, level);
                }
            }
        }
    }

    /// Frees a level to which nothing leads any more, behind a grace period; later if a task returns to it.
    #[inline(never)]
    fn free(&self, engine: &mut Engine, level: Level) {
        let mut report = Report::new().unwrap_or(Report::none());
        if self
            .vacant(&engine.redirects, level.texts(), &mut report)
            .is_ok()
        {
            level.free();
            return;
        }
        let number = level.number();
        // A task that comes from a BPF program runs the original body once more (README, Limits).
        level.flag().set(Bodies::Original);
        pr_info!(
            "patch level {number} cannot be freed yet: {}\n",
            report.as_str()
        );
        let reclaim = &mut engine.reclaim;
        if reclaim.past.lingering.reserve(1, GFP_KERNEL).is_err() {
            keep(level, format_args!("there is no room to remember it"));
            return;
        }
        remember(&mut reclaim.past.lingering, level);
        reclaim.linger_ns = system::boot_ns_in(LINGER_MS);
        stragglers::in_ms(LINGER_MS);
    }

    /// What a former request has left, without waiting for anything.
    pub(crate) fn reclaim_later(&self, engine: &mut Engine) {
        self.reclaim(engine, 0);
        let reclaim = &mut engine.reclaim;
        if reclaim.past.lingering.is_empty() {
            return;
        }
        if system::boot_ns() >= reclaim.linger_ns {
            for level in core::mem::take(&mut reclaim.past.lingering) {
                self.free(engine, level);
            }
        } else {
            stragglers::in_ms(LINGER_MS);
        }
    }
}
