// SPDX-License-Identifier: GPL-2.0

//! Registered redirects: every function of a level leads to its trampoline.
//!
//! While the level's flag is 0 a trampoline goes on in the old body, so registering changes nothing
//! but a few instructions of cost, and may take its time.

use crate::{
    kapi::{
        ftrace::{
            Ops,
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
    /// Direct, and IPMODIFY for a function that has a direct caller already.
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

/// The redirects of a level, in the order of its functions.
pub(crate) struct Redirects {
    ops: KVec<Ops>,
}

impl Redirects {
    /// No redirects.
    pub(crate) fn new() -> Self {
        Self { ops: KVec::new() }
    }

    /// Registers all functions. After an error some are registered: the way back is
    /// [`Redirects::unregister`], as it is from all of them.
    ///
    /// # Errors
    ///
    /// [`Reason::NotRedirectable`], [`Reason::RedirectConflict`], [`Reason::RedirectFailed`] with the
    /// function's number and name; [`Reason::OutOfMemory`].
    pub(crate) fn register(
        &mut self,
        functions: &[Function],
        choice: Choice,
        ksyms: Ksyms,
        report: &mut Report,
    ) -> Result<(), Error> {
        // Room first: a redirect that is registered must not be lost.
        let count = functions.len();
        self.ops.reserve(count, GFP_KERNEL).map_err(out_of_memory)?;
        for (index, function) in (0u32..).zip(functions) {
            let ops = Self::register_one(function, choice, ksyms, index, report)?;
            self.ops.push(ops, GFP_KERNEL).map_err(out_of_memory)?;
        }
        Ok(())
    }

    fn register_one(
        function: &Function,
        choice: Choice,
        ksyms: Ksyms,
        index: u32,
        report: &mut Report,
    ) -> Result<Ops, Error> {
        let name = function.name.to_str().unwrap_or("?");
        let place = Place::Entry {
            table: Table::Funcs,
            index,
        };
        let mut ops = Ops::new(ksyms, function.body.start, function.trampoline).map_err(|e| {
            if e == EINVAL {
                return report.refuse(
                    Reason::NotRedirectable,
                    place,
                    format_args!("{name} has no fentry site in the running kernel"),
                );
            }
            report.failed(Reason::RedirectFailed, "preparing a redirect", e)
        })?;
        let registered = match choice {
            Choice::Only(strategy) => ops.register(strategy),
            Choice::Auto => ops.register(Strategy::Direct).or_else(|e| {
                if e != EBUSY {
                    return Err(e);
                }
                // A failed registration leaves marks in the `ftrace_ops`: start with a fresh one.
                ops = Ops::new(ksyms, function.body.start, function.trampoline)?;
                ops.register(Strategy::IpModify)
            }),
        };
        match registered {
            Ok(()) => Ok(ops),
            Err(e) if e == EBUSY => Err(report.refuse(
                Reason::RedirectConflict,
                place,
                format_args!(
                    "{name} is redirected already, by a livepatch, a BPF program or another patcher"
                ),
            )),
            Err(e) => Err(report.failed(Reason::RedirectFailed, "redirecting a function", e)),
        }
    }

    /// How many functions are redirected in which way: direct, IPMODIFY.
    pub(crate) fn count(&self) -> (usize, usize) {
        let with = |strategy| {
            self.ops
                .iter()
                .filter(|ops| ops.strategy() == Some(strategy))
                .count()
        };
        (with(Strategy::Direct), with(Strategy::IpModify))
    }

    /// Takes all redirects back and waits until no task is in a trampoline.
    ///
    /// # Errors
    ///
    /// Those of ftrace: it has shut itself down, and the trampolines must stay for ever.
    pub(crate) fn unregister(&mut self) -> Result {
        let mut result = Ok(());
        for ops in self.ops.iter_mut().rev() {
            if let Err(e) = ops.unregister() {
                result = Err(e);
            }
        }
        stop_machine::synchronize_text();
        result
    }
}
