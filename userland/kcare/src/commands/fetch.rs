// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --fetch` and `--apply-cached`: the two halves of an update, for two services. The one speaks with the
//! network and has no privileges; the other has them and no network, and takes the first one's cache for no more than a
//! server.

use clap::Args;
use kcare_tuf::level::Record;

use crate::apply;
use crate::backoff::Backoff;
use crate::boot::Mode;
use crate::cache::{forget_other_kernels, Cache};
use crate::config::Config;
use crate::error::{Error, Failure, Kind, Result};
use crate::guard::Guard;
use crate::host;
use crate::lock::Lock;
use crate::mirror::{self, Mirror};
use crate::offer::{Offer, Place};
use crate::server::Server;
use crate::state::State;
use crate::{revoke, Answer, System};

use super::update::{held_text, idle, Wanted};

/// The commands' options.
#[derive(Args)]
#[group(skip)]
pub struct Fetch {
    /// Download what --apply-cached will apply, and leave the kernel alone; it needs no privilege
    #[arg(long, groups = ["command", "asks", "halves"])]
    pub fetch: bool,

    /// Apply the highest patch level that was downloaded, without asking the server, as at boot
    #[arg(long, groups = ["command", "asks", "halves", "forcible"])]
    pub apply_cached: bool,

    /// With --fetch and --apply-cached: do nothing where AUTO_UPDATE is off, as --auto-update does
    #[arg(long, requires = "halves")]
    pub auto: bool,
}

/// Downloads into the cache.
///
/// # Errors
///
/// The server or the disk is at fault, and the kind says which.
pub fn fetch(system: &System, fetch: &Fetch, config: &Config) -> Result<Answer> {
    if let Some(text) = Mode::read(&system.root).stops(false) {
        return Answer::now(system, text.to_owned(), 0);
    }
    let mut backoff = Backoff::read(system, config);
    if fetch.auto {
        if let Some(text) = idle(system, config, false).or_else(|| backoff.pause()) {
            return Answer::now(system, text, 0);
        }
    }
    mirror::check_owner(system)?;
    let _lock = Lock::take(&system.root.join(mirror::CACHE))?;
    let state = State::gather(system)?;
    let mirror = Mirror::new(system, &Offer::folder(config, &state.kernel));
    let result = Server::new(config).and_then(|server| {
        let offer = Offer::fetch_into(system, &mirror, config, &server, &state.kernel)?;
        // Held levels are root's to know; who cannot read of them downloads one too many.
        let held = Guard::read(system).map(|guard| guard.held_of(&state.kernel.hash()));
        let held = held.unwrap_or_default();
        let wanted = Wanted {
            offer: &offer,
            config,
            held: &held,
        };
        let best = wanted.best();
        offer.keep(system, &mirror, &server, best)?;
        let live = state.level();
        Ok(match best {
            Some(level) if level.level > live => {
                format!("Patch level {} is downloaded\n", level.level)
            }
            _ => wanted.nothing_new(live),
        })
    });
    backoff.note(result.as_ref().err().map(Error::kind));
    let text = result?;
    forget_other_kernels(&system.root.join(mirror::CACHE), &state.kernel.hash());
    Answer::now(system, text, 0)
}

/// Applies the highest level of the cache that may be applied.
///
/// # Errors
///
/// The kernel refuses it, or the cache is not what its owner should have written; whatever could be applied is live.
pub fn apply_cached(
    system: &System,
    fetch: &Fetch,
    config: &Config,
    force: bool,
) -> Result<Answer> {
    let idle = match fetch.auto {
        true => idle(system, config, true),
        false => Mode::read(&system.root).stops(true).map(str::to_owned),
    };
    if let Some(text) = idle.filter(|_| !force) {
        return Answer::now(system, text, 0);
    }
    host::load_module(system)?;
    let _lock = Lock::take(&system.root.join(apply::STATE))?;
    let state = State::gather(system)?;
    revoke::give_kept(system, &state);
    let live = state.level();
    let mut guard = Guard::read(system)?;
    guard.remember(system)?;
    apply::settle(system, config, &mut guard)?;
    let hash = state.kernel.hash();
    let held = match force {
        true => Vec::new(),
        false => guard.held_of(&hash),
    };
    let tree = Server::Cache(system.root.join(mirror::CACHE));
    let place = Place::of_root(system, config, &state.kernel);
    let fetched = Offer::fetch(system, &place, config, &tree, &state.kernel);
    let (offer, complaint) = match fetched {
        Ok(offer) => (offer, None),
        Err(error) => match Offer::stored(system, config, &state.kernel) {
            Ok(offer) => (
                offer,
                Some(error).filter(|error| worth_saying(system, error)),
            ),
            Err(stored) if error.is_older() || !mirror::tree(system).exists() => {
                return nothing(system, stored)
            }
            Err(_) => return Err(error),
        },
    };
    let cache = Cache::new(system, &hash);
    let wanted = Wanted {
        offer: &offer,
        config,
        held: &held,
    };
    // Where updates are off, what root has applied before comes back with the machine, and nothing else.
    let may = |level: &&Record| config.auto_update || force || cache.has(level.level);
    let mut refused = None;
    for level in offer.allowed(config, &held).filter(may) {
        if level.level <= live {
            break;
        }
        // If it was not downloaded, or is spoilt, the next lower one will do until it is there.
        let Ok(payload) = offer.payload(&cache, &tree, level) else {
            continue;
        };
        cache.write(level.level, &payload)?;
        match apply::push(system, level, &payload, &mut guard, &state) {
            Ok(said) => {
                let level = level.level;
                cache.prune(config.keep, level);
                let text = format!("Patch Level {level} applied\n{}", wanted.verdict(level));
                let answer = Answer::now(system, text, 0)?.with_note(&said);
                return Ok(end(answer, refused.or(complaint)));
            }
            // With nothing live an older level is better than none.
            Err(error) if live == 0 => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = refused {
        return Err(error);
    }
    let (text, exit_code) = match live {
        0 if offer.newest() > 0 && !config.auto_update => (
            "No patch level that was applied before is to be applied, and updates are off (AUTO_UPDATE)\n"
                .to_owned(),
            1,
        ),
        0 => ("The cache has no patch level to apply\n".to_owned(), 1),
        live => (format!("Patch Level {live} is applied already\n"), 0),
    };
    let answer = Answer::now(system, held_text(live, &held) + &text, exit_code)?;
    Ok(end(answer, complaint))
}

/// The answer, with what was wrong besides: it decides the exit status.
fn end(mut answer: Answer, wrong: Option<Error>) -> Answer {
    if let Some(error) = wrong {
        let failure = Failure::from(&error);
        answer.text += &failure.text("kcarectl");
        answer.exit_code = failure.exit_code;
    }
    answer
}

fn nothing(system: &System, why: Error) -> Result<Answer> {
    match why.kind() {
        // Nobody has said yet whose updates are to be trusted, or nothing was fetched yet.
        Kind::Config | Kind::Disk => Answer::now(
            system,
            "The cache has no patch level to apply\nHint: get one with `kcarectl --update`.\n"
                .to_owned(),
            1,
        ),
        _ => Err(why),
    }
}

/// Whether it has to be told that the cache was of no use: not if it is only old, as after a long time without the
/// network, or after an administrator's own update.
fn worth_saying(system: &System, error: &Error) -> bool {
    mirror::tree(system).exists() && error.kind() != Kind::Expired && !error.is_older()
}
