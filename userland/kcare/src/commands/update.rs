// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --update`, `--auto-update`, `--check` and `--latest-patch-info`: what the server has is asked for, and
//! becomes the live level.

use clap::Args;
use kcare_tuf::level::{info_fix, info_head, is_channel, Record};

use crate::apply;
use crate::boot::Mode;
use crate::cache::Cache;
use crate::config::{Config, Policy, Sticky};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::host;
use crate::lock::Lock;
use crate::offer::{Offer, Place};
use crate::server::Server;
use crate::state::State;
use crate::{os, revoke, text, Answer, System};

/// The commands' options.
#[derive(Args)]
#[group(skip)]
pub struct Update {
    /// Download the newest patch level for this kernel and apply it
    #[arg(short, long, visible_alias = "smart-update", groups = ["command", "updates", "asks", "forcible"])]
    pub update: bool,

    /// The same, for timers: nothing is done where AUTO_UPDATE is off
    #[arg(long, groups = ["command", "updates", "asks"])]
    pub auto_update: bool,

    /// Tell by the exit status whether there is a new patch level
    #[arg(short, long, groups = ["command", "asks"])]
    pub check: bool,

    /// Show the fixes of the newest patch level, which need not be applied
    #[arg(long, groups = ["command", "asks"])]
    pub latest_patch_info: bool,

    /// With --update: take this patch level and none above it
    #[arg(long, value_name = "LEVEL", requires = "updates", value_parser = clap::value_parser!(u32).range(1..))]
    pub level: Option<u32>,

    /// With what asks the server or applies what was downloaded: this channel in place of the one that is set
    #[arg(long, value_name = "NAME", requires = "asks")]
    pub prefix: Option<String>,

    /// With --update: do everything short of the switch, show the fixes to come, and change nothing
    #[arg(long, requires = "updates")]
    pub dry_run: bool,

    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

impl Update {
    /// Whether one of the commands was asked for.
    pub fn asked(&self) -> bool {
        self.update || self.auto_update || self.check || self.latest_patch_info
    }

    /// The settings, and what the command line has in place of them.
    pub fn config(&self, system: &System) -> Result<Config> {
        let mut config = Config::read(&system.root)?;
        if let Some(prefix) = &self.prefix {
            if !is_channel(prefix) {
                return Err(Error::user(format!("`{prefix}` is no name of a channel."))
                    .hint("it has letters, digits, `.`, `_` and `-`."));
            }
            config.prefix = prefix.clone();
        }
        if let Some(level) = self.level {
            config.sticky = Sticky::Level(level);
        }
        Ok(config)
    }
}

/// Runs the command that was asked for; `force` applies a level that is held.
///
/// # Errors
///
/// The server, the disk or the kernel is at fault, and the kind says which; the kernel is as before then.
pub fn run(system: &System, update: &Update, force: bool) -> Result<Answer> {
    let config = update.config(system)?;
    let looks = update.check || update.latest_patch_info;
    if update.auto_update {
        if let Some(text) = idle(system, &config, true) {
            return Answer::now(system, text, 0);
        }
    } else if !looks && !update.dry_run && !force {
        Mode::read(&system.root).allow()?;
    }
    let changes = !looks && !update.dry_run;
    if !looks {
        host::load_module(system)?;
    }
    let folder = system.root.join(apply::STATE);
    if changes {
        Lock::check_rights(&folder)?;
    }
    let state = State::gather(system)?;
    let server = Server::new(&config)?;
    let place = Place::of_root(system, &config, &state.kernel);
    let offer = Offer::fetch(system, &place, &config, &server, &state.kernel)?;
    let hash = state.kernel.hash();
    let hold = |guard: &Guard| match force {
        true => Vec::new(),
        false => guard.held_of(&hash),
    };
    let held = hold(&Guard::read(system)?);
    let wanted = Wanted {
        offer: &offer,
        config: &config,
        held: &held,
    };
    if update.check {
        return check(system, &state, &wanted);
    }
    if update.latest_patch_info {
        return latest(system, &state, &wanted, &server);
    }
    if let Some(level) = update.level.filter(|level| *level < state.level()) {
        return Err(Error::user(format!(
            "patch level {level} is lower than patch level {}, which is applied.",
            state.level()
        ))
        .hint("go back to the level before with `kcarectl --rollback`, or to none with `kcarectl --unload`."));
    }
    let mut text = "Downloading updates\n".to_owned();
    let cache = Cache::new(system, &hash);
    let new = match wanted.best().filter(|best| best.level > state.level()) {
        Some(best) => Some((best, offer.payload(&cache, &server, best)?)),
        None => None,
    };
    if update.dry_run {
        let Some((best, payload)) = new else {
            return Answer::now(system, wanted.nothing_new(state.level()), 0);
        };
        text += &apply::dry_run(system, best, &payload, &state)?;
        let fixes = offer.fixes(&server, best)?.fixes;
        let fixes: Vec<_> = (fixes.iter())
            .filter(|fix| fix.since > state.level())
            .collect();
        for fix in &fixes {
            text += &format!("  {}  {}\n", fix.id.as_deref().unwrap_or("-"), fix.title);
        }
        let document = serde_json::json!({ "level": best.level, "fixes": fixes });
        return Ok(Answer::now(system, text, 0)?.with_document(document));
    }

    // From here on nobody else changes what is live; what was so before may have changed while the server was asked.
    let _lock = Lock::take(&folder)?;
    let state = State::gather(system)?;
    revoke::give_kept(system, &state);
    let mut guard = Guard::read(system)?;
    let held = hold(&guard);
    let wanted = Wanted {
        held: &held,
        ..wanted
    };
    let still = |best: &Record| best.level > state.level() && !held.contains(&best.level);
    let Some((best, payload)) = new.filter(|(best, _)| still(best)) else {
        guard.remember(system)?;
        apply::settle(system, &config, &mut guard)?;
        return Answer::now(system, wanted.nothing_new(state.level()), 0);
    };
    cache.write(best.level, &payload)?;
    let said = apply::push(system, best, &payload, &mut guard, &state)?;
    let level = best.level;
    cache.prune(config.keep, level);
    text += &format!("Patch Level {level} applied\n{}", wanted.verdict(level));
    Ok(Answer::now(system, text, 0)?.with_note(&said))
}

/// Why the timer's command does nothing, if it should not.
pub(super) fn idle(system: &System, config: &Config, applies: bool) -> Option<String> {
    if !config.auto_update {
        return Some("Updates are off (AUTO_UPDATE)\n".to_owned());
    }
    if let Some(text) = Mode::read(&system.root).stops(applies) {
        return Some(text.to_owned());
    }
    let boot = || text::uptime(&system.root).is_some_and(|seconds| seconds < BOOT);
    match config.policy {
        Policy::Local => Some("The server is not asked (UPDATE_POLICY=LOCAL)\n".to_owned()),
        Policy::LocalFirst if boot() => Some(
            "The server is not asked so soon after the boot (UPDATE_POLICY=LOCAL_FIRST)\n"
                .to_owned(),
        ),
        _ => None,
    }
}

/// So long after it, in seconds, a run of the timer belongs to the boot.
const BOOT: u64 = 3600;

/// What there is, and what of it is wanted.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// What the server has.
    pub offer: &'a Offer,
    /// The settings.
    pub config: &'a Config,
    /// Levels that are held.
    pub held: &'a [u32],
}

impl<'a> Wanted<'a> {
    /// The highest level that may be taken.
    pub fn best(&self) -> Option<&'a Record> {
        self.offer.allowed(self.config, self.held).next()
    }

    /// What is said behind a level that is live: that the kernel is safe only if the vendor has nothing better, and
    /// still looks.
    pub fn verdict(&self, level: u32) -> String {
        let end = self.offer.coverage();
        if let Some(day) = end.filter(|day| self.offer.is_over(day)) {
            return format!(
                "Patch levels for this kernel have ended on {day}: it gets no more fixes (level {level} is the last)\n\
                 Hint: boot a newer kernel.\n"
            );
        }
        match self.offer.newest() {
            newest if newest <= level => "Kernel is safe\n".to_owned(),
            newest => self
                .kept_back()
                .unwrap_or_else(|| format!("Patch level {newest} is not applied yet\n")),
        }
    }

    /// Why nothing is done. What is live stays, whatever the server has.
    pub fn nothing_new(&self, live: u32) -> String {
        let mut text = held_text(live, self.held);
        if !text.is_empty() && self.held.contains(&self.offer.newest()) {
            if live > 0 {
                text += &format!("Patch Level {live} is applied already\n");
            }
            return text;
        }
        text += &match (live, self.offer.newest()) {
            (0, 0) => "There is no patch level for this kernel\n".to_owned(),
            (0, _) => self
                .kept_back()
                .unwrap_or_else(|| "No patch level is taken\n".to_owned()),
            (live, _) if self.offer.is_withdrawn(live) => format!(
                "Patch Level {live} is applied, and the vendor has withdrawn it\n\
                 Hint: go back with `kcarectl --rollback` or `kcarectl --unload`.\n"
            ),
            (live, newest) if live > newest => format!(
                "Patch Level {live} is applied already, and {} has patch level {newest} so far\n",
                channel(self.config)
            ),
            (live, _) => format!(
                "Patch Level {live} is applied already\n{}",
                self.verdict(live)
            ),
        };
        text
    }

    /// That the highest level is not taken, and why.
    fn kept_back(&self) -> Option<String> {
        let (level, why) = self.offer.kept_back(self.config, self.held)?;
        Some(format!("Patch level {level} is not taken: {why}\n"))
    }
}

fn channel(config: &Config) -> String {
    match config.prefix.as_str() {
        "" => "the server".to_owned(),
        prefix => format!("channel {prefix}"),
    }
}

/// What is said of a level that is held, and would be applied otherwise.
pub(super) fn held_text(live: u32, held: &[u32]) -> String {
    match held.iter().filter(|level| **level > live).max() {
        Some(level) => format!(
            "Patch level {level} was live when this machine went down, and is not applied again by itself\n\
             Hint: apply it all the same with `kcarectl --update --force`.\n"
        ),
        None => String::new(),
    }
}

fn check(system: &System, state: &State, wanted: &Wanted<'_>) -> Result<Answer> {
    let new = wanted
        .best()
        .filter(|best| best.level > state.level())
        .map(|best| best.level);
    let mut text = match new {
        Some(level) => format!("New patch level detected: {level}\n"),
        None => "No new patch level\n".to_owned(),
    };
    if new.is_none() {
        for level in wanted.held {
            text +=
                &format!("Patch level {level} is held: it was live when this machine went down\n");
        }
        let other = |level: &u32| *level > state.level() && !wanted.held.contains(level);
        if other(&wanted.offer.newest()) {
            text += &wanted.kept_back().unwrap_or_default();
        }
    }
    let document = serde_json::json!({
        "new": new,
        "newest": wanted.offer.newest(),
        "live": state.level(),
    });
    let answer = Answer::now(system, text, u8::from(new.is_none()))?;
    Ok(answer.with_document(document))
}

fn latest(system: &System, state: &State, wanted: &Wanted<'_>, server: &Server) -> Result<Answer> {
    let offer = wanted.offer;
    let Some(best) = wanted.best() else {
        let text = wanted.nothing_new(0);
        let document = serde_json::json!({ "level": null, "published": null, "fixes": null });
        return Ok(Answer::now(system, text, 0)?.with_document(document));
    };
    let base = state.kernel.package_version();
    let base = base.unwrap_or(&state.kernel.release);
    let time = best.published.replace('T', " ");
    let fixes = offer.fixes(server, best)?;
    let document =
        serde_json::json!({ "level": best.level, "published": best.published, "fixes": fixes });
    let mut text = info_head(
        &os::name(&system.root),
        base,
        time.trim_end_matches('Z'),
        &best.effective,
    );
    text += &format!("kpatch-level: {}\n", best.level);
    for fix in &fixes.fixes {
        text += &info_fix(fix.id.as_deref(), &fix.title, &best.effective);
    }
    Ok(Answer::now(system, text, 0)?.with_document(document))
}
