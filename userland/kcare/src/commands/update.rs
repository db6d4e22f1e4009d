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
use crate::{os, text, Answer, System};

/// The commands' options.
#[derive(Args)]
#[group(skip)]
pub struct Update {
    /// Download the newest patch level for this kernel and apply it
    #[arg(short, long, visible_alias = "smart-update", group = "command")]
    pub update: bool,

    /// The same, for timers: nothing is done where AUTO_UPDATE is off
    #[arg(long, group = "command")]
    pub auto_update: bool,

    /// Tell by the exit status whether there is a new patch level
    #[arg(short, long, group = "command")]
    pub check: bool,

    /// Show the fixes of the newest patch level, which need not be applied
    #[arg(long, group = "command")]
    pub latest_patch_info: bool,

    /// With --update: take this patch level and none above it
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..))]
    pub level: Option<u32>,

    /// With --update and --check: ask this channel in place of the one that is set
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,

    /// With --update: do everything short of the switch, show the fixes to come, and change nothing
    #[arg(long)]
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
    if !looks {
        host::load_module(system)?;
    }
    let _lock = match looks {
        // An ordinary user can look, and leaves nothing behind.
        true => Lock::take(&system.root.join(apply::STATE)).ok(),
        false => Some(Lock::take(&system.root.join(apply::STATE))?),
    };
    let state = State::gather(system)?;
    let server = Server::new(&config)?;
    let place = Place::of_root(system, &config, &state.kernel);
    let offer = Offer::fetch(system, &place, &config, &server, &state.kernel)?;
    let mut guard = Guard::read(system)?;
    let held = match force {
        true => Vec::new(),
        false => guard.held_of(&state.kernel.hash()),
    };
    let best = offer.allowed(&config, &held).next();
    if update.check {
        return check(system, &state, best, &held);
    }
    if update.latest_patch_info {
        return latest(system, &state, &offer, &server, best);
    }
    let live = state.level();
    let Some(best) = best.filter(|best| best.level > live) else {
        if !update.dry_run {
            guard.remember(system)?;
            apply::settle(system, &config, &mut guard)?;
        }
        return Answer::now(system, nothing_new(live, &offer, &held), 0);
    };

    let mut text = "Downloading updates\n".to_owned();
    let cache = Cache::new(system, &state.kernel.hash());
    let payload = match cache
        .read(best.level)
        .filter(|bytes| offer.is_payload(best, bytes))
    {
        Some(payload) => payload,
        None => offer.payload(&server, best)?,
    };
    if update.dry_run {
        text += &apply::dry_run(system, best, &payload, &state)?;
        let fixes = offer.fixes(&server, best)?.fixes;
        for fix in fixes.iter().filter(|fix| fix.since > live) {
            text += &format!("  {}  {}\n", fix.id.as_deref().unwrap_or("-"), fix.title);
        }
        return Answer::now(system, text, 0);
    }
    cache.write(best.level, &payload)?;
    apply::push(system, best, &payload, &mut guard, &state)?;
    let level = best.level;
    cache.prune(config.keep, level);
    text += &format!("Patch Level {level} applied\n{}", verdict(&offer, level));
    Answer::now(system, text, 0)
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

/// What is said behind a level that is live: never that the kernel is safe when the vendor has stopped looking.
pub(super) fn verdict(offer: &Offer, level: u32) -> String {
    let end = offer.coverage();
    match end {
        Some(day) if offer.is_over(day) => format!(
            "Patch levels for this kernel have ended on {day}: it gets no more fixes (level {level} is the last)\n\
             Hint: boot a newer kernel.\n"
        ),
        _ => "Kernel is safe\n".to_owned(),
    }
}

/// Why nothing is done. What is live stays, whatever the server has.
fn nothing_new(live: u32, offer: &Offer, held: &[u32]) -> String {
    let highest = offer.levels.last().map_or(0, |level| level.level);
    let mut text = held_text(live, held);
    text += &match (live, highest) {
        (0, 0) => "There is no patch level for this kernel\n".to_owned(),
        (0, _) => "No patch level is taken: the settings or a hold leave none\n".to_owned(),
        (live, highest) if live > highest => format!(
            "Patch Level {live} is applied, and the vendor has withdrawn it\n\
             Hint: go back with `kcarectl --rollback` or `kcarectl --unload`.\n"
        ),
        (live, _) => format!(
            "Patch Level {live} is applied already\n{}",
            verdict(offer, live)
        ),
    };
    text
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

fn check(system: &System, state: &State, best: Option<&Record>, held: &[u32]) -> Result<Answer> {
    match best.filter(|best| best.level > state.level()) {
        Some(best) => {
            let text = format!("New patch level detected: {}\n", best.level);
            Answer::now(system, text, 0)
        }
        None => {
            let mut text = "No new patch level\n".to_owned();
            for level in held {
                text += &format!(
                    "Patch level {level} is held: it was live when this machine went down\n"
                );
            }
            Answer::now(system, text, 1)
        }
    }
}

fn latest(
    system: &System,
    state: &State,
    offer: &Offer,
    server: &Server,
    best: Option<&Record>,
) -> Result<Answer> {
    let Some(best) = best else {
        return Answer::now(
            system,
            "There is no patch level for this kernel\n".to_owned(),
            0,
        );
    };
    let base = state.kernel.package_version();
    let base = base.unwrap_or(&state.kernel.release);
    let time = best.published.replace('T', " ");
    let fixes = offer.fixes(server, best)?;
    let document = serde_json::json!({ "published": best.published, "fixes": fixes });
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
