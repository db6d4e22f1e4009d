// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --update`, `--auto-update` and `--check`: the server's newest level becomes the live one.

use clap::Args;
use kcare_payload::uapi::APPLY_DRY_RUN;
use kcare_tuf::level::{is_channel, payload_name, Record};
use kcare_tuf::time::Time;

use crate::cache::Cache;
use crate::config::{Config, Sticky};
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::explain::explain_apply;
use crate::guard::Guard;
use crate::offer::Offer;
use crate::server::Server;
use crate::state::State;
use crate::{Answer, System};

/// The commands' options.
#[derive(Args)]
#[group(skip)]
pub struct Update {
    /// Download the newest patch level for this kernel and apply it
    #[arg(short, long, group = "command")]
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

    /// Apply the last good patch level without asking the server, as at boot
    #[arg(long, group = "command")]
    pub apply_cached: bool,

    /// With --update: take this patch level and none above it
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..))]
    pub level: Option<u32>,

    /// With --update and --check: ask this channel in place of the one that is set
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,

    /// With --update: do everything short of the switch, show the fixes to come, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// With --update: say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

impl Update {
    /// Whether one of the commands was asked for.
    pub fn asked(&self) -> bool {
        self.update || self.auto_update || self.check || self.latest_patch_info || self.apply_cached
    }

    /// The settings, and what the command line has in place of them.
    fn config(&self, system: &System) -> Result<Config> {
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
    if update.auto_update && !config.auto_update {
        let text = "Updates are off (AUTO_UPDATE)\n";
        return answer(system, update, text.to_owned(), 0);
    }
    if update.apply_cached {
        return apply_cached(system, update, &config);
    }
    let state = State::gather(system)?;
    let server = Server::new(&config)?;
    let offer = Offer::fetch(system, &config, &server, &state.kernel)?;
    let mut guard = Guard::read(system)?;
    if !update.check && !update.latest_patch_info && !update.dry_run {
        guard.settle(system, config.crash_window, Time::now().unix_seconds())?;
    }
    let held = match force {
        true => Vec::new(),
        false => guard.held_of(&state.kernel.hash()),
    };
    let best = offer.best(&config, &held, Time::now());
    if update.check {
        return check(system, update, &state, best, &held);
    }
    if update.latest_patch_info {
        let Some(best) = best else {
            return answer(
                system,
                update,
                "There is no patch level for this kernel\n".to_owned(),
                0,
            );
        };
        let fixes = offer.fixes(&server, best)?;
        let line = |fix: &kcare_tuf::level::Fix| {
            let id = fix.id.as_deref().unwrap_or("N/A");
            format!(
                "kpatch-name: {}\nkpatch-cve: {id}\nkpatch-level: {}\n\n",
                fix.title, fix.since
            )
        };
        let text: String = fixes.fixes.iter().map(line).collect();
        let text = format!(
            "kpatch-level: {}\nuname: {}\n\n{text}",
            best.level, best.effective
        );
        return answer(system, update, text, 0);
    }
    let live = state.patch.as_ref().map_or(0, |patch| patch.level);
    let Some(best) = best.filter(|best| best.level > live) else {
        return answer(system, update, nothing_new(live, &offer, &held), 0);
    };

    let mut text = "Downloading updates\n".to_owned();
    let cache = Cache::new(system, &state.kernel.hash());
    let payload = match cache
        .read(best.level)
        .filter(|bytes| offer.is_payload(best, bytes))
    {
        Some(payload) => payload,
        None => {
            let payload = offer.payload(&server, best)?;
            if !update.dry_run {
                cache.write(best.level, &payload)?;
            }
            payload
        }
    };
    text += &apply(system, best, &payload, guard, &state, update.dry_run)?;
    if update.dry_run {
        for fix in offer
            .fixes(&server, best)?
            .fixes
            .iter()
            .filter(|fix| fix.since > live)
        {
            text += &format!("  {}  {}\n", fix.id.as_deref().unwrap_or("-"), fix.title);
        }
    } else {
        cache.prune(config.keep);
    }
    answer(system, update, text, 0)
}

/// Why nothing is done. What is live stays, whatever the server has.
fn nothing_new(live: u32, offer: &Offer, held: &[u32]) -> String {
    let highest = offer.levels.last().map_or(0, |level| level.level);
    let mut text = String::new();
    if let Some(level) = held.iter().filter(|level| **level > live).max() {
        text += &format!(
            "Patch level {level} was live when this machine went down, and is not applied again by itself\n\
             Hint: apply it all the same with `kcarectl --update --force`.\n"
        );
    }
    text + &match (live, highest) {
        (0, 0) => "There is no patch level for this kernel\n".to_owned(),
        (0, _) => "No patch level is taken: the settings or a hold leave none\n".to_owned(),
        (live, highest) if live > highest => format!(
            "Patch Level {live} is applied, and the vendor has withdrawn it\n\
             Hint: go back with `kcarectl --rollback` or `kcarectl --unload`.\n"
        ),
        (live, _) => format!("Patch Level {live} is applied already\nKernel is safe\n"),
    }
}

fn check(
    system: &System,
    update: &Update,
    state: &State,
    best: Option<&Record>,
    held: &[u32],
) -> Result<Answer> {
    let live = state.patch.as_ref().map_or(0, |patch| patch.level);
    match best.filter(|best| best.level > live) {
        Some(best) => {
            let text = format!("New patch level detected: {}\n", best.level);
            answer(system, update, text, 0)
        }
        None => {
            let mut text = "No new patch level\n".to_owned();
            for level in held {
                text += &format!(
                    "Patch level {level} is held: it was live when this machine went down\n"
                );
            }
            answer(system, update, text, 1)
        }
    }
}

/// Gives a payload to the kernel; it is on trial from before that on.
fn apply(
    system: &System,
    level: &Record,
    payload: &[u8],
    mut guard: Guard,
    before: &State,
    dry_run: bool,
) -> Result<String> {
    let device = Device::open(&system.device)?;
    let name = std::path::PathBuf::from(payload_name(level.level));
    if dry_run {
        let said = device
            .apply(payload, APPLY_DRY_RUN)
            .map_err(|refusal| explain_apply(&refusal, &name, payload, before))?;
        return Ok(format!(
            "Patch level {} can be applied; nothing has changed\n{said}\n",
            level.level
        ));
    }
    guard.begin(
        system,
        &level.kernel,
        level.level,
        Time::now().unix_seconds(),
    )?;
    if let Err(refusal) = device.apply(payload, 0) {
        // Nothing was pushed: the level is not to blame for what comes.
        guard.clear(system)?;
        return Err(explain_apply(&refusal, &name, payload, before));
    }
    Ok(format!(
        "Patch Level {} applied\nKernel is safe\n",
        level.level
    ))
}

/// Applies the highest level of the cache that the last metadata offer.
fn apply_cached(system: &System, update: &Update, config: &Config) -> Result<Answer> {
    let state = State::gather(system)?;
    let live = state.patch.as_ref().map_or(0, |patch| patch.level);
    let offer = Offer::stored(system, config, &state.kernel)?;
    let guard = Guard::read(system)?;
    // What was found to be held is remembered before anything else is tried.
    guard.write(system)?;
    let hash = state.kernel.hash();
    let held = guard.held_of(&hash);
    let cache = Cache::new(system, &hash);
    let found = offer.levels.iter().rev().find_map(|level| {
        let wanted =
            config.allows(level.level) && level.level > live && !held.contains(&level.level);
        let payload = wanted.then(|| cache.read(level.level)).flatten()?;
        offer
            .is_payload(level, &payload)
            .then_some((level, payload))
    });
    match found {
        Some((level, payload)) => {
            let text = apply(system, level, &payload, guard, &state, false)?;
            answer(system, update, text, 0)
        }
        None if live > 0 => answer(
            system,
            update,
            format!("Patch Level {live} is applied already\n"),
            0,
        ),
        None => {
            let error = Error::new(
                Kind::Config,
                "the cache has no patch level for this kernel.",
            );
            Err(match held.last() {
                Some(level) => error.detail(format!(
                    "patch level {level} is held: it was live when this machine went down"
                )),
                None => error,
            }
            .hint("get one with `kcarectl --update`."))
        }
    }
}

fn answer(system: &System, update: &Update, text: String, exit_code: u8) -> Result<Answer> {
    let mut state = State::gather(system)?;
    state.history = None;
    Ok(Answer {
        state,
        text: if update.quiet { String::new() } else { text },
        exit_code,
    })
}
