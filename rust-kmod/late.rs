// SPDX-License-Identifier: GPL-2.0

//! Modules that come and go while a level is live: they are patched before their init runs, and what was done to them
//! is freed when they go.

use crate::{
    kapi::{
        callbacks::Kind,
        module::{
            Module,
            Watcher, //
        }, //
    },
    payload::{
        error::{
            Error,
            Reason, //
        },
        uapi::What, //
    },
    report::{
        out_of_memory,
        Report, //
    },
    state::{
        keep,
        settle,
        unreleased,
        Core,
        Engine, //
    },
};
use kernel::prelude::*;

impl Watcher for Core {
    fn coming(&self, module: Module) -> Result {
        let mut engine = self.lock_in_chain();
        let engine = &mut *engine;
        let levels = Iterator::chain(engine.previous.iter(), &engine.live);
        if !levels.into_iter().any(|level| level.wants(module.name())) {
            module.told();
            return Ok(());
        }
        let mut report = Report::new()?;
        let result = self.arrive(engine, module, &mut report);
        if let Err(error) = result {
            self.leave(engine, module, &[]);
            self.failed(What::ModuleCame, module.name(), &error, &mut report);
            self.show(engine);
            if !self.options.allow_unpatched {
                pr_err!("module {} is not loaded\n", module.name());
                return Err(kernel::error::Error::from_errno(-error.reason.errno()));
            }
            pr_warn!("module {} is loaded without its patch\n", module.name());
        } else {
            self.publish(engine, What::ModuleCame, module.name());
        }
        module.told();
        Ok(())
    }

    fn going(&self, module: Module) {
        let mut engine = self.lock_in_chain();
        let engine = &mut *engine;
        if self.leave(engine, module, &[Kind::PreUnpatch, Kind::PostUnpatch]) {
            pr_info!("module {} goes, and its patch with it\n", module.name());
            self.publish(engine, What::ModuleWent, module.name());
        }
    }
}

impl Core {
    /// Patches a module in front of its init. No task is in it, so that no switch is needed.
    fn arrive(
        &self,
        engine: &mut Engine,
        module: Module,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut why = Report::new().map_err(out_of_memory)?;
        // The level for a rollback first: the live one's trampolines lead to it.
        let previous = engine.previous.as_mut();
        let completed = previous.map_or(Ok(()), |level| {
            level.complete(Some(module), None, self.ksyms, &mut why)
        });
        if let Err(error) = &completed {
            if error.reason == Reason::OutOfMemory {
                return completed;
            }
            why.explain(error);
        }
        self.patch(engine, module, report)?;
        if completed.is_err() {
            // A module that it does not know must not be kept from the live one.
            if let Some(level) = engine.previous.take() {
                let (number, why) = (level.number(), why.as_str());
                pr_warn!("patch level {number} is no longer kept for a rollback: {why}\n");
                self.give_up(&engine.redirects, level);
            }
        }
        Ok(())
    }

    /// Patches it as the live level says.
    fn patch(&self, engine: &mut Engine, module: Module, report: &mut Report) -> Result<(), Error> {
        let Engine {
            redirects,
            live,
            previous,
            ..
        } = engine;
        let Some(live) = live.as_mut() else {
            return Ok(());
        };
        live.complete(Some(module), previous.as_ref(), self.ksyms, report)?;
        let Some(part) = live.part(module) else {
            return Ok(());
        };
        // A module that has gone was in its place, and ftrace did not give it up.
        if part.loaded.functions.iter().any(|f| redirects.has(f)) {
            return Err(report.failed(Reason::RedirectFailed, "ending former redirects", EBUSY));
        }
        live.call_part(Kind::PrePatch, part, report)?;
        // Both refer to the flag, which says that the level is live.
        if let Err(error) = redirects.arm(part.loaded.functions.iter(), report) {
            live.call_part(Kind::PostUnpatch, part, report)?;
            return Err(error);
        }
        settle(redirects, part.loaded.functions.iter());
        live.call_part(Kind::PostPatch, part, report)?;
        pr_info!(
            "module {} patched: {} functions of patch level {}\n",
            module.name(),
            part.loaded.functions.len(),
            live.number()
        );
        Ok(())
    }

    /// Frees what was done to a module that has ended, or has not begun; says whether there was anything. `callbacks`
    /// are those of the live level to be called before and after.
    fn leave(&self, engine: &mut Engine, module: Module, callbacks: &[Kind]) -> bool {
        let Engine {
            redirects,
            live,
            previous,
            ..
        } = engine;
        let mut left = false;
        let mut called = callbacks;
        for level in [live, previous].into_iter().flatten() {
            let Some(part) = level.take_part(module) else {
                called = &[];
                continue;
            };
            left = true;
            let call = |kind: Option<&Kind>| {
                // These kinds cannot fail.
                let _ = kind.map(|kind| level.call(*kind, Some(module), &part.loaded));
            };
            call(called.first());
            let released = redirects.remove(part.loaded.functions.iter());
            call(called.get(1));
            called = &[];
            match released {
                Ok(()) if level.is_pinned() => core::mem::forget(part),
                Ok(()) => {
                    redirects.synchronize();
                    let mut report = Report::new().unwrap_or(Report::none());
                    let text = core::iter::once(part.loaded.text());
                    match self.vacant(redirects, text, &mut report) {
                        Ok(()) => drop(part),
                        Err(_) => keep(part, format_args!("{}", report.as_str())),
                    }
                }
                Err(e) => keep(part, unreleased!(e)),
            }
        }
        left
    }
}
