// SPDX-License-Identifier: GPL-2.0

//! Registered redirects: which functions of the kernel lead somewhere else, and where.
//!
//! A function that takes part in a switch leads to a trampoline, which goes on as the level's flag says; so
//! registering changes nothing but a few instructions of cost, and may take its time. When a level is live
//! its functions are *settled*: they lead to the new bodies without the detour.

use crate::{
    kapi::{
        ftrace::{
            Ftrace,
            Redirect,
            Strategy, //
        },
        ksyms::Ksyms,
        stop_machine, //
    },
    loader::Function,
    payload::error::{
        Error,
        Place,
        Reason,
        Table, //
    },
    report::{
        out_of_memory,
        Report, //
    },
};
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// How often a change that there is no way around is tried.
pub(crate) const TRIES: u32 = 10;
/// Pause between two tries, in milliseconds.
const PAUSE_MS: i64 = 100;

/// Which strategies may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Direct, and IPMODIFY for functions that have a direct caller already.
    Auto,
    /// One strategy only.
    Only(Strategy),
}

impl TryFrom<u32> for Choice {
    type Error = kernel::error::Error;

    /// The module parameter `redirect`: 0, 1 or 2.
    fn try_from(number: u32) -> Result<Self> {
        match number {
            0 => Ok(Self::Auto),
            1 => Ok(Self::Only(Strategy::Direct)),
            2 => Ok(Self::Only(Strategy::IpModify)),
            _ => Err(EINVAL),
        }
    }
}

/// Where a function of a level leads.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// To the level's trampoline.
    Trampoline,
    /// Straight to the level's body, if it is redirected directly.
    Body,
}

/// One function that is redirected.
#[derive(Clone, Copy)]
struct Entry {
    redirect: Redirect,
    strategy: Strategy,
    /// It is over, but memory was short and ftrace may still know it.
    ending: bool,
}

/// One function that is to be redirected.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    /// Its number, for errors.
    index: usize,
    function: &'a Function,
    redirect: Redirect,
}

/// All functions that are redirected.
///
/// # Invariants
///
/// `entries` are ascending by site, and are what ftrace has been told.
pub(crate) struct Redirects {
    entries: KVVec<Entry>,
    /// There has been one by IPMODIFY.
    shared: bool,
    ftrace: Ftrace,
    choice: Choice,
}

impl Redirects {
    /// No redirects.
    pub(crate) fn new(ksyms: Ksyms, choice: Choice) -> Self {
        Self {
            entries: KVVec::new(),
            shared: false,
            ftrace: Ftrace::new(ksyms),
            choice,
        }
    }

    fn find(&self, site: u64) -> Result<usize, usize> {
        self.entries
            .binary_search_by_key(&site, |entry| entry.redirect.site)
    }

    /// Whether a function is redirected.
    pub(crate) fn has(&self, function: &Function) -> bool {
        self.find(function.site).is_ok()
    }

    /// Has these functions lead to their trampolines, whether they have been redirected before or not.
    /// After an error some of them do: [`Redirects::remove`] and [`Redirects::lead`] are the way back.
    ///
    /// # Errors
    ///
    /// [`Reason::NotRedirectable`], [`Reason::RedirectConflict`] with the function's number and name;
    /// [`Reason::RedirectFailed`], [`Reason::OutOfMemory`].
    pub(crate) fn arm<'a>(
        &mut self,
        functions: impl Iterator<Item = &'a Function>,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.end()
            .map_err(|e| report.failed(Reason::RedirectFailed, "ending former redirects", e))?;
        let mut direct = KVec::new();
        let mut ipmodify = KVec::new();
        let mut known = KVec::new();
        for (index, function) in functions.enumerate() {
            let redirect = Redirect {
                site: function.site,
                target: function.trampoline,
            };
            if self.has(function) {
                known.push(redirect, GFP_KERNEL).map_err(out_of_memory)?;
                continue;
            }
            if self.ftrace.fentry_site(function.body.start) != Some(function.site) {
                let name = function.name.to_str().unwrap_or("?");
                return Err(report.refuse(
                    Reason::NotRedirectable,
                    place(index),
                    format_args!("{name} has no fentry site in the running kernel"),
                ));
            }
            if !self.ftrace.is_untouched(function.site) {
                let name = function.name.to_str().unwrap_or("?");
                return Err(report.refuse(
                    Reason::RedirectConflict,
                    place(index),
                    format_args!(
                        "{name} is redirected already, by code that ftrace does not know of"
                    ),
                ));
            }
            let new = match self.choice {
                Choice::Only(Strategy::Direct) => &mut direct,
                Choice::Only(Strategy::IpModify) => &mut ipmodify,
                Choice::Auto if self.ftrace.has_direct(function.site) => &mut ipmodify,
                Choice::Auto => &mut direct,
            };
            let candidate = Candidate {
                index,
                function,
                redirect,
            };
            new.push(candidate, GFP_KERNEL).map_err(out_of_memory)?;
        }
        self.retarget(&known)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))?;
        for (new, strategy) in [(direct, Strategy::Direct), (ipmodify, Strategy::IpModify)] {
            self.add(&new, strategy, report)?;
        }
        Ok(())
    }

    /// Adds functions, all or none.
    fn add(
        &mut self,
        new: &[Candidate<'_>],
        strategy: Strategy,
        report: &mut Report,
    ) -> Result<(), Error> {
        match self.try_add(new, strategy) {
            Ok(()) => Ok(()),
            Err(_) if self.ftrace.is_dead() => self.check_alive(report),
            Err(_) if !self.ftrace.enabled() => Err(report.refuse(
                Reason::RedirectFailed,
                Place::Nowhere,
                format_args!("ftrace is switched off (sysctl kernel.ftrace_enabled is 0)"),
            )),
            Err(e) if e == EBUSY || e == EINVAL => Err(self.conflict(new, strategy, report)),
            Err(e) => Err(report.failed(Reason::RedirectFailed, "redirecting functions", e)),
        }
    }

    fn try_add(&mut self, new: &[Candidate<'_>], strategy: Strategy) -> Result {
        if new.is_empty() {
            return Ok(());
        }
        // Room first: what ftrace has been told must be in `entries`.
        self.entries.reserve(new.len(), GFP_KERNEL)?;
        let mut redirects = KVVec::with_capacity(new.len(), GFP_KERNEL)?;
        for candidate in new {
            redirects.push(candidate.redirect, GFP_KERNEL)?;
        }
        match strategy {
            Strategy::Direct => self.ftrace.add_direct(&redirects)?,
            Strategy::IpModify => {
                let mut all = self.ipmodify()?;
                for redirect in &redirects {
                    insert(&mut all, *redirect, |redirect| redirect.site)?;
                }
                self.shared = true;
                self.ftrace.grow_ipmodify(&all)?;
            }
        }
        for redirect in redirects {
            // INVARIANT: In its place by site, and ftrace knows it.
            let entry = Entry {
                redirect,
                strategy,
                ending: false,
            };
            insert(&mut self.entries, entry, |entry| entry.redirect.site)?;
        }
        Ok(())
    }

    /// All redirects by IPMODIFY, ascending by site.
    fn ipmodify(&self) -> Result<KVVec<Redirect>> {
        let mut all = KVVec::new();
        let stays = |e: &&Entry| e.strategy == Strategy::IpModify && !e.ending;
        for entry in self.entries.iter().filter(stays) {
            all.push(entry.redirect, GFP_KERNEL)?;
        }
        Ok(all)
    }

    /// Which function is it that ftrace refuses? Halves them until one is left.
    fn conflict(
        &mut self,
        mut new: &[Candidate<'_>],
        strategy: Strategy,
        report: &mut Report,
    ) -> Error {
        while new.len() > 1 {
            let (front, back) = new.split_at(new.len() / 2);
            new = match self.try_add(front, strategy) {
                Ok(()) => match self.remove_sites(front.iter().map(|c| c.redirect.site)) {
                    Ok(()) => back,
                    Err(e) => return report.failed(Reason::RedirectFailed, "trying a redirect", e),
                },
                Err(e) if e == EBUSY || e == EINVAL => front,
                Err(e) => return report.failed(Reason::RedirectFailed, "trying a redirect", e),
            };
        }
        let (index, name) = new.first().map_or((0, "?"), |candidate| {
            let name = candidate.function.name.to_str().unwrap_or("?");
            (candidate.index, name)
        });
        report.refuse(
            Reason::RedirectConflict,
            place(index),
            format_args!(
                "{name} is redirected already, by a livepatch, a BPF program or another patcher"
            ),
        )
    }

    /// Leads functions that are redirected somewhere else; those that are not are passed over.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of ftrace; some may lead there and some where they did before.
    pub(crate) fn lead<'a>(
        &mut self,
        functions: impl Iterator<Item = &'a Function>,
        to: Target,
    ) -> Result {
        let mut redirects = KVVec::new();
        for function in functions {
            let Ok(index) = self.find(function.site) else {
                continue;
            };
            let entry = self.entries.get(index);
            let direct = entry.is_some_and(|entry| entry.strategy == Strategy::Direct);
            let redirect = Redirect {
                site: function.site,
                // BPF's programs call what IPMODIFY leads to, and a body need not begin with an ENDBR.
                target: match to {
                    Target::Body if direct => function.new,
                    Target::Body | Target::Trampoline => function.trampoline,
                },
            };
            redirects.push(redirect, GFP_KERNEL)?;
        }
        self.retarget(&redirects)
    }

    fn retarget(&mut self, redirects: &[Redirect]) -> Result {
        for strategy in [Strategy::Direct, Strategy::IpModify] {
            let mut some = KVVec::new();
            for redirect in redirects {
                let index = self.find(redirect.site).map_err(|_| ENOENT)?;
                let changes =
                    |e: &&Entry| e.strategy == strategy && e.redirect.target != redirect.target;
                if self.entries.get(index).as_ref().is_some_and(changes) {
                    some.push(*redirect, GFP_KERNEL)?;
                }
            }
            if some.is_empty() {
                continue;
            }
            match strategy {
                Strategy::Direct => self.ftrace.retarget_direct(&some)?,
                Strategy::IpModify => self.ftrace.retarget_ipmodify(&some)?,
            }
            for redirect in some {
                let index = self.find(redirect.site).map_err(|_| ENOENT)?;
                if let Some(entry) = self.entries.get_mut(index) {
                    // INVARIANT: ftrace has just been told.
                    entry.redirect = redirect;
                }
            }
        }
        Ok(())
    }

    /// As [`Redirects::lead`], but if memory is short, it is tried again: behind a switch there may be no other way on.
    ///
    /// # Errors
    ///
    /// `ENOMEM` in the end, and those of ftrace: what any of them leads to must stay for ever then.
    pub(crate) fn lead_at_last<'a>(
        &mut self,
        functions: impl Iterator<Item = &'a Function> + Clone,
        to: Target,
    ) -> Result {
        self.at_last(|redirects| redirects.lead(functions.clone(), to))
    }

    /// Ends the redirects of these functions; those that have none are passed over. If memory is short, it is tried
    /// again, because there is no other way on behind a switch.
    ///
    /// # Errors
    ///
    /// `ENOMEM` in the end, and those of ftrace: what they lead to must stay for ever then.
    pub(crate) fn remove<'a>(
        &mut self,
        functions: impl Iterator<Item = &'a Function> + Clone,
    ) -> Result {
        self.at_last(|redirects| {
            redirects.remove_sites(functions.clone().map(|function| function.site))
        })
    }

    /// Tries something again for as long as memory is short, within limits.
    fn at_last(&mut self, mut change: impl FnMut(&mut Self) -> Result) -> Result {
        let mut tries = 1;
        loop {
            match change(self) {
                Err(e) if e == ENOMEM && tries < TRIES => tries += 1,
                result => return result,
            }
            pause();
        }
    }

    /// Refuses if ftrace has shut itself down: what it was told last may lead anywhere that it was told of.
    ///
    /// # Errors
    ///
    /// [`Reason::RedirectFailed`].
    pub(crate) fn check_alive(&self, report: &mut Report) -> Result<(), Error> {
        if !self.ftrace.is_dead() {
            return Ok(());
        }
        Err(report.refuse(
            Reason::RedirectFailed,
            Place::Nowhere,
            format_args!("ftrace has shut itself down, until the next boot"),
        ))
    }

    fn remove_sites(&mut self, sites: impl Iterator<Item = u64>) -> Result {
        if self.ftrace.is_dead() {
            return Err(ENODEV);
        }
        let mut ending = KVVec::new();
        for site in sites {
            insert(&mut ending, site, |site| *site)?;
        }
        let ends = |entry: &Entry| ending.binary_search(&entry.redirect.site).is_ok();

        let mut direct = KVVec::new();
        let is_direct = |entry: &Entry| entry.strategy == Strategy::Direct && ends(entry);
        for entry in self.entries.iter().filter(|entry| is_direct(entry)) {
            direct.push(entry.redirect, GFP_KERNEL)?;
        }
        if !direct.is_empty() {
            self.ftrace.remove_direct(&direct)?;
            // INVARIANT: ftrace has forgotten these.
            self.entries.retain(|entry| !is_direct(entry));
        }
        for entry in self.entries.iter_mut().filter(|entry| ends(entry)) {
            entry.ending = true;
        }
        self.end()
    }

    /// Has ftrace forget those by IPMODIFY that are over.
    fn end(&mut self) -> Result {
        if self.entries.iter().any(|entry| entry.ending) {
            let rest = self.ipmodify()?;
            self.ftrace.shrink_ipmodify(&rest)?;
            // INVARIANT: ftrace has forgotten these.
            self.entries.retain(|entry| !entry.ending);
        }
        Ok(())
    }

    /// How many functions are redirected in which way: direct, IPMODIFY.
    pub(crate) fn count(&self) -> (usize, usize) {
        let with = |strategy| {
            self.entries
                .iter()
                .filter(|e| e.strategy == strategy)
                .count()
        };
        (with(Strategy::Direct), with(Strategy::IpModify))
    }

    /// Whether a task may sleep on its way to what a redirect led it to. With IPMODIFY the function may have a BPF
    /// program, too, that is called first, returns there, and may sleep (`ftrace_regs_caller`,
    /// arch/x86/kernel/ftrace_64.S).
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Waits until no task is in text that a redirect led to which has ended or that leads elsewhere now, but for one that
    /// sleeps ([`Redirects::is_shared`]).
    pub(crate) fn synchronize(&self) {
        stop_machine::synchronize_text();
    }
}

/// Between two tries.
pub(crate) fn pause() {
    fsleep(Delta::from_millis(PAUSE_MS));
}

/// Inserts into a list that is ascending by `key`. Core's own sort has ends that objtool does not know to be ends.
pub(crate) fn insert<T, K: Ord>(list: &mut KVVec<T>, item: T, key: impl Fn(&T) -> K) -> Result {
    list.reserve(1, GFP_KERNEL)?;
    let at = list.partition_point(|other| key(other) < key(&item));
    list.insert_within_capacity(at, item).map_err(|_| ENOMEM)
}

/// Where in the payload a function is.
fn place(index: usize) -> Place {
    Place::Entry {
        table: Table::Funcs,
        index: u32::try_from(index).unwrap_or(u32::MAX),
    }
}
