// SPDX-License-Identifier: GPL-2.0

//! Registered redirects: every function of a level leads to its trampoline.
//!
//! While the level's flag is 0 a trampoline goes on in the old body, so registering changes nothing
//! but a few instructions of cost, and may take its time. When the level is live, direct redirects can
//! be *settled*: they lead to the new bodies without the detour, until something is to be switched again.

use crate::{
    kapi::{
        ftrace::{
            self,
            Set,
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
use kernel::prelude::*;

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

/// One function on its way into a [`Set`].
#[derive(Clone, Copy)]
struct Site {
    /// Address of the fentry site.
    address: u64,
    /// Number of the function.
    index: usize,
}

/// The redirects of one strategy.
struct Group {
    set: Set,
    /// Numbers of its functions.
    members: KVec<usize>,
}

/// The redirects of a level.
pub(crate) struct Redirects {
    direct: Option<Group>,
    ipmodify: Option<Group>,
    ksyms: Ksyms,
}

impl Redirects {
    /// No redirects.
    pub(crate) fn new(ksyms: Ksyms) -> Self {
        Self {
            direct: None,
            ipmodify: None,
            ksyms,
        }
    }

    /// Registers all functions. After an error some may be registered: the way back is
    /// [`Redirects::unregister`], as it is from all of them.
    ///
    /// # Errors
    ///
    /// [`Reason::NotRedirectable`], [`Reason::RedirectConflict`] with the function's number and name;
    /// [`Reason::RedirectFailed`], [`Reason::OutOfMemory`].
    pub(crate) fn register(
        &mut self,
        functions: &[Function],
        choice: Choice,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut direct = KVec::new();
        let mut ipmodify = KVec::new();
        for (index, function) in functions.iter().enumerate() {
            let address = ftrace::fentry_site(self.ksyms, function.body.start)
                .filter(|site| *site == function.site)
                .ok_or_else(|| {
                    let name = function.name.to_str().unwrap_or("?");
                    report.refuse(
                        Reason::NotRedirectable,
                        place(index),
                        format_args!("{name} has no fentry site in the running kernel"),
                    )
                })?;
            let strategy = match choice {
                Choice::Only(strategy) => strategy,
                Choice::Auto if ftrace::has_direct(self.ksyms, address) => Strategy::IpModify,
                Choice::Auto => Strategy::Direct,
            };
            let sites = match strategy {
                Strategy::Direct => &mut direct,
                Strategy::IpModify => &mut ipmodify,
            };
            let site = Site { address, index };
            sites.push(site, GFP_KERNEL).map_err(out_of_memory)?;
        }
        self.direct = self.register_group(functions, &direct, Strategy::Direct, report)?;
        self.ipmodify = self.register_group(functions, &ipmodify, Strategy::IpModify, report)?;
        Ok(())
    }

    fn register_group(
        &self,
        functions: &[Function],
        sites: &[Site],
        strategy: Strategy,
        report: &mut Report,
    ) -> Result<Option<Group>, Error> {
        if sites.is_empty() {
            return Ok(None);
        }
        let mut members = KVec::with_capacity(sites.len(), GFP_KERNEL).map_err(out_of_memory)?;
        for site in sites {
            members
                .push(site.index, GFP_KERNEL)
                .map_err(out_of_memory)?;
        }
        match self.try_set(functions, sites, strategy) {
            Ok(set) => Ok(Some(Group { set, members })),
            Err(e) if e == EBUSY || e == EINVAL => {
                Err(self.conflict(functions, sites, strategy, report))
            }
            Err(e) => Err(report.failed(Reason::RedirectFailed, "redirecting functions", e)),
        }
    }

    fn try_set(&self, functions: &[Function], sites: &[Site], strategy: Strategy) -> Result<Set> {
        let mut pairs = KVec::with_capacity(sites.len(), GFP_KERNEL)?;
        for site in sites {
            let function = functions.get(site.index).ok_or(EINVAL)?;
            pairs.push((site.address, function.trampoline), GFP_KERNEL)?;
        }
        let mut set = Set::new(self.ksyms, &pairs)?;
        set.register(strategy)?;
        Ok(set)
    }

    /// Which function is it that ftrace refuses? Halves the group until one is left.
    fn conflict(
        &self,
        functions: &[Function],
        mut sites: &[Site],
        strategy: Strategy,
        report: &mut Report,
    ) -> Error {
        while sites.len() > 1 {
            let (front, back) = sites.split_at(sites.len() / 2);
            sites = match self.try_set(functions, front, strategy) {
                Ok(mut set) => match set.unregister() {
                    Ok(()) => back,
                    Err(e) => return report.failed(Reason::RedirectFailed, "trying a redirect", e),
                },
                Err(_) => front,
            };
        }
        let index = sites.first().map_or(0, |site| site.index);
        let name = functions.get(index).map(|f| f.name.to_str());
        let name = name.and_then(Result::ok).unwrap_or("?");
        report.refuse(
            Reason::RedirectConflict,
            place(index),
            format_args!(
                "{name} is redirected already, by a livepatch, a BPF program or another patcher"
            ),
        )
    }

    /// How many functions are redirected in which way: direct, IPMODIFY.
    pub(crate) fn count(&self) -> (usize, usize) {
        let len = |group: &Option<Group>| group.as_ref().map_or(0, |g| g.set.len());
        (len(&self.direct), len(&self.ipmodify))
    }

    /// Leads the direct redirects to the new bodies, or back to the trampolines.
    ///
    /// # Errors
    ///
    /// Those of [`Set::retarget`]; all is as before then, which is as good, but slower.
    pub(crate) fn settle(&mut self, functions: &[Function], settled: bool) -> Result {
        let Some(group) = &mut self.direct else {
            return Ok(());
        };
        let mut targets = KVec::with_capacity(group.members.len(), GFP_KERNEL)?;
        for index in &group.members {
            let function = functions.get(*index).ok_or(EINVAL)?;
            let target = if settled {
                function.new
            } else {
                function.trampoline
            };
            targets.push(target, GFP_KERNEL)?;
        }
        group.set.retarget(&targets)
    }

    /// Takes all redirects back and waits until no task is in a trampoline.
    ///
    /// # Errors
    ///
    /// Those of [`Set::unregister`]: the trampolines must stay for ever then.
    pub(crate) fn unregister(&mut self) -> Result {
        let mut result = Ok(());
        for group in [&mut self.ipmodify, &mut self.direct].into_iter().flatten() {
            if let Err(e) = group.set.unregister() {
                result = Err(e);
            }
        }
        stop_machine::synchronize_text();
        result
    }
}

/// Where in the payload a function is.
fn place(index: usize) -> Place {
    Place::Entry {
        table: Table::Funcs,
        index: u32::try_from(index).unwrap_or(u32::MAX),
    }
}
