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
        rcu, //
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
/// Every strategy.
const BOTH: [Strategy; 2] = [Strategy::Direct, Strategy::IpModify];

/// Which strategies may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Direct, and IPMODIFY for functions that have a direct caller already.
    Auto,
    /// One strategy only.
    Only(Strategy),
}

impl Choice {
    /// The module parameter `redirect`.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Only(Strategy::Direct) => 1,
            Self::Only(Strategy::IpModify) => 2,
        }
    }
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
    /// Where in its payload it is, for errors.
    place: Place,
    function: &'a Function,
    redirect: Redirect,
}

/// All functions that are redirected.
///
/// # Invariants
///
/// `entries` are ascending by site, and are what ftrace has been told. A function has one; it has one of each strategy
/// while it is converted, or while one of them is ending. A call of it goes where the direct one says then.
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

    /// Index of the first entry for a site, if there is one.
    fn first(&self, site: u64) -> usize {
        self.entries
            .partition_point(|entry| entry.redirect.site < site)
    }

    /// The entry for a site and a strategy.
    fn find(&self, site: u64, strategy: Strategy) -> Option<usize> {
        let first = self.first(site);
        let mut entries = self.entries.iter().enumerate().skip(first);
        entries
            .by_ref()
            .take_while(|(_, entry)| entry.redirect.site == site)
            .find(|(_, entry)| entry.strategy == strategy)
            .map(|(index, _)| index)
    }

    /// Whether a function is redirected.
    pub(crate) fn has(&self, function: &Function) -> bool {
        let first = self.entries.get(self.first(function.site));
        first.is_some_and(|entry| entry.redirect.site == function.site)
    }

    /// Which strategies are used from now on, as [`Redirects::convert`] has said.
    pub(crate) fn choice(&self) -> Choice {
        self.choice
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
            if self.has(function) {
                known.push(function, GFP_KERNEL).map_err(out_of_memory)?;
                continue;
            }
            let place = place(index);
            if self.ftrace.fentry_site(function.body.start) != Some(function.site) {
                let name = function.name.to_str().unwrap_or("?");
                return Err(report.refuse(
                    Reason::NotRedirectable,
                    place,
                    format_args!("{name} has no fentry site in the running kernel"),
                ));
            }
            self.check_untouched(function, place, report)?;
            let new = match self.choice {
                Choice::Only(Strategy::Direct) => &mut direct,
                Choice::Only(Strategy::IpModify) => &mut ipmodify,
                Choice::Auto if self.ftrace.has_direct(function.site) => &mut ipmodify,
                Choice::Auto => &mut direct,
            };
            let candidate = Candidate {
                place,
                function,
                redirect: Redirect {
                    site: function.site,
                    target: function.trampoline,
                },
            };
            new.push(candidate, GFP_KERNEL).map_err(out_of_memory)?;
        }
        self.lead(known.iter().copied(), Target::Trampoline)
            .map_err(|e| report.failed(Reason::RedirectFailed, "leading to the trampolines", e))?;
        for (new, strategy) in [(direct, Strategy::Direct), (ipmodify, Strategy::IpModify)] {
            self.add(&new, strategy, report)?;
        }
        Ok(())
    }

    /// Has functions be redirected as `choice` says, those that are redirected already, too, which have to lead to
    /// trampolines: what they lead to stays the same, and no call goes elsewhere meanwhile. `find` knows them by their
    /// sites. After an error all is as before, and what ftrace could not end for lack of memory it calls in vain.
    ///
    /// # Errors
    ///
    /// [`Reason::RedirectConflict`] with the function's name; [`Reason::RedirectFailed`], [`Reason::OutOfMemory`].
    pub(crate) fn convert<'a>(
        &mut self,
        choice: Choice,
        find: impl Fn(u64) -> Option<&'a Function>,
        report: &mut Report,
    ) -> Result<(), Error> {
        self.check_alive(report)?;
        self.end()
            .map_err(|e| report.failed(Reason::RedirectFailed, "ending former redirects", e))?;
        let (from, to) = match choice {
            Choice::Only(Strategy::IpModify) => (Strategy::Direct, Strategy::IpModify),
            Choice::Only(Strategy::Direct) | Choice::Auto => (Strategy::IpModify, Strategy::Direct),
        };
        let mut new = KVec::new();
        for entry in self.entries.iter().filter(|entry| entry.strategy == from) {
            let redirect = entry.redirect;
            if choice == Choice::Auto && self.ftrace.has_direct(redirect.site) {
                continue;
            }
            // The memory of those that nobody knows is kept for ever, and they are left alone.
            let Some(function) = find(redirect.site) else {
                continue;
            };
            self.check_untouched(function, Place::Nowhere, report)?;
            let candidate = Candidate {
                place: Place::Nowhere,
                function,
                redirect,
            };
            new.push(candidate, GFP_KERNEL).map_err(out_of_memory)?;
        }
        if !new.is_empty() {
            self.add(&new, to, report)?;
            // Who is on its way through ftrace may know the former way only.
            self.synchronize();
            match self.at_last(|redirects| redirects.remove_entries(of(&new, from))) {
                // They are ending: direct ones win over them, and the next change ends them.
                Err(e) if e == ENOMEM && from == Strategy::IpModify => {}
                Err(e) => {
                    if e == ENOMEM {
                        // What this cannot end is ending, too.
                        let _ = self.at_last(|redirects| redirects.remove_entries(of(&new, to)));
                    }
                    return Err(report.failed(Reason::RedirectFailed, "ending redirects", e));
                }
                Ok(()) => {}
            }
        }
        self.choice = choice;
        Ok(())
    }

    /// Refuses a function that somebody has redirected without ftrace.
    fn check_untouched(
        &self,
        function: &Function,
        place: Place,
        report: &mut Report,
    ) -> Result<(), Error> {
        if self.ftrace.is_untouched(function.site) {
            return Ok(());
        }
        let name = function.name.to_str().unwrap_or("?");
        Err(report.refuse(
            Reason::RedirectConflict,
            place,
            format_args!("{name} is redirected already, by code that ftrace does not know of"),
        ))
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
                Ok(()) => match self.remove_entries(of(front, strategy)) {
                    Ok(()) => back,
                    Err(e) => return report.failed(Reason::RedirectFailed, "trying a redirect", e),
                },
                Err(e) if e == EBUSY || e == EINVAL => front,
                Err(e) => return report.failed(Reason::RedirectFailed, "trying a redirect", e),
            };
        }
        let (place, name) = new.first().map_or((Place::Nowhere, "?"), |candidate| {
            let name = candidate.function.name.to_str().unwrap_or("?");
            (candidate.place, name)
        });
        report.refuse(
            Reason::RedirectConflict,
            place,
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
        functions: impl Iterator<Item = &'a Function> + Clone,
        to: Target,
    ) -> Result {
        for strategy in BOTH {
            let mut some = KVVec::new();
            for function in functions.clone() {
                let redirect = Redirect {
                    site: function.site,
                    // BPF's programs call what IPMODIFY leads to, and a body need not begin with an ENDBR.
                    target: match (to, strategy) {
                        (Target::Body, Strategy::Direct) => function.new,
                        (Target::Body | Target::Trampoline, _) => function.trampoline,
                    },
                };
                let index = self.find(redirect.site, strategy);
                let entry = index.and_then(|index| self.entries.get(index));
                if entry.is_some_and(|entry| entry.redirect.target != redirect.target) {
                    some.push(redirect, GFP_KERNEL)?;
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
                let index = self.find(redirect.site, strategy);
                if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
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
            let mut sites = KVVec::new();
            for function in functions.clone() {
                insert(&mut sites, function.site, |site| *site)?;
            }
            redirects.remove_entries(|entry| sites.binary_search(&entry.redirect.site).is_ok())
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

    /// Ends the redirects that `ends` says. Those by IPMODIFY are ending from then on, whatever it answers, unless direct
    /// ones could not be ended.
    fn remove_entries(&mut self, ends: impl Fn(&Entry) -> bool) -> Result {
        if self.ftrace.is_dead() {
            return Err(ENODEV);
        }
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
        rcu::synchronize_text();
    }

    /// Whether tables wait for the end of a grace period.
    pub(crate) fn has_former(&self) -> bool {
        self.ftrace.has_former()
    }

    /// A grace period has begun that begins behind the last change.
    pub(crate) fn begin_grace(&mut self) {
        self.ftrace.begin_grace();
    }

    /// That grace period is over.
    pub(crate) fn end_grace(&mut self) {
        self.ftrace.end_grace();
    }
}

/// Whether an entry is of one of these functions and of this strategy.
fn of<'a>(functions: &'a [Candidate<'a>], strategy: Strategy) -> impl Fn(&Entry) -> bool + 'a {
    move |entry| {
        let mut sites = functions.iter().map(|function| function.redirect.site);
        entry.strategy == strategy && sites.any(|site| site == entry.redirect.site)
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
