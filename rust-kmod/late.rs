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
    level::{
        Due,
        Part, //
    },
    payload::{
        error::{
            Error,
            Reason, //
        },
        uapi::What, //
    },
    redirect::Redirects,
    report::{
        out_of_memory,
        Report, //
    },
    state::{
        keep,
        remember,
        settle,
        unreleased,
        Core,
        Engine, //
    },
};
use kernel::prelude::*;

impl Watcher for Core {
    fn coming(&self, module: Module) -> Result {
        if self.unless_wanted(module.name(), || module.told()) {
            return Ok(());
        }
        let mut engine = self.lock_in_chain();
        let engine = &mut *engine;
        if !engine.levels().any(|level| level.wants(module.name())) {
            module.told();
            return Ok(());
        }
        let mut report = Report::new()?;
        let result = self.arrive(engine, module, &mut report);
        if let Err(error) = result {
            self.leave(engine, module, false);
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
        engine.reclaim_soon();
        module.told();
        Ok(())
    }

    fn going(&self, module: Module) {
        if self.unless_wanted(module.name(), || ()) {
            return;
        }
        let mut engine = self.lock_in_chain();
        let engine = &mut *engine;
        if self.leave(engine, module, true) {
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
        // Of a level that is not live first: who still sees it is to see the same in all functions.
        let mut completed = Ok(());
        for level in Iterator::chain(engine.previous.iter_mut(), &mut engine.retired) {
            completed = completed.and(level.complete(Some(module), self.ksyms, &mut why));
        }
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
                engine.put_away(level);
            }
        }
        Ok(())
    }

    /// Patches it as the live level says, and while a transition is open as the others say.
    fn patch(&self, engine: &mut Engine, module: Module, report: &mut Report) -> Result<(), Error> {
        if let Some(live) = &mut engine.live {
            live.complete(Some(module), self.ksyms, report)?;
        }
        engine.reserve()?;
        if engine.open.is_some() {
            engine.tell_parts()?;
        }
        let Engine {
            redirects,
            live,
            previous,
            retired,
            open,
            ..
        } = engine;
        // A module that has gone was in its place, and ftrace did not give it up.
        let kept = Iterator::chain(previous.iter(), &*retired);
        let mut parts = Iterator::chain(live.iter(), kept.clone())
            .filter_map(|level| level.part(module))
            .flat_map(|part| &part.loaded.functions);
        if parts.any(|f| redirects.has(f)) {
            return Err(report.failed(Reason::RedirectFailed, "ending former redirects", EBUSY));
        }
        if open.is_some() {
            for level in kept {
                let Some(part) = level.part(module) else {
                    continue;
                };
                if level.due == Due::PostUnpatch {
                    // Its post-unpatch callback will be called with the others of the level.
                    level.call_part(Kind::PrePatch, part, report)?;
                }
                redirects.arm(part.loaded.functions.iter(), report)?;
            }
        }
        let Some(live) = live.as_ref() else {
            return Ok(());
        };
        let Some(part) = live.part(module) else {
            return Ok(());
        };
        live.call_part(Kind::PrePatch, part, report)?;
        // Both refer to the flag, which says that the level is live.
        if let Err(error) = redirects.arm(part.loaded.functions.iter(), report) {
            live.call_part(Kind::PostUnpatch, part, report)?;
            return Err(error);
        }
        if open.is_none() {
            settle(redirects, part.loaded.functions.iter());
        }
        // While its own are still to be called, the module's are called with them.
        if live.due == Due::Nothing {
            live.call_part(Kind::PostPatch, part, report)?;
        }
        pr_info!(
            "module {} patched: {} functions of patch level {}\n",
            module.name(),
            part.loaded.functions.len(),
            live.number()
        );
        Ok(())
    }

    /// Frees what was done to a module that has ended, or has not begun; says whether there was anything. `ended` says that
    /// callbacks are to be called.
    fn leave(&self, engine: &mut Engine, module: Module, ended: bool) -> bool {
        let Engine {
            redirects,
            live,
            previous,
            retired,
            reclaim,
            ..
        } = engine;
        let mut left = false;
        let mut unled = KVec::new();
        let kept = Iterator::chain(previous.iter_mut(), retired);
        let kept = Iterator::chain(kept, reclaim.past.all_mut()).map(|level| (level, false));
        for (level, is_live) in Iterator::chain(live.iter_mut().map(|level| (level, true)), kept) {
            let Some(part) = level.take_part(module) else {
                continue;
            };
            left = true;
            let (before, after) = match ended {
                true => level.going(is_live),
                false => (None, None),
            };
            let call = |kind: Option<Kind>| {
                // These kinds cannot fail.
                let _ = kind.map(|kind| level.call(kind, Some(module), &part.loaded));
            };
            call(before);
            let released = redirects.remove(part.loaded.functions.iter());
            call(after);
            match released {
                Ok(()) if level.text_stays() => core::mem::forget(part),
                Ok(()) if unled.reserve(1, GFP_KERNEL).is_ok() => remember(&mut unled, part),
                Ok(()) => {
                    redirects.synchronize();
                    self.free_part(redirects, part);
                }
                Err(e) => keep(part, unreleased!(e)),
            }
        }
        // What they use of the module is freed with it, so that there is no later.
        if !unled.is_empty() {
            redirects.synchronize();
        }
        for part in unled {
            self.free_part(redirects, part);
        }
        engine.reclaim_soon();
        left
    }

    /// Frees a part to which nothing leads, behind a grace period, unless a task returns to it.
    fn free_part(&self, redirects: &Redirects, part: Part) {
        let mut report = Report::new().unwrap_or(Report::none());
        let text = core::iter::once(part.loaded.text());
        match self.vacant(redirects, text, &mut report) {
            Ok(()) => drop(part),
            Err(_) => keep(part, format_args!("{}", report.as_str())),
        }
    }
}
