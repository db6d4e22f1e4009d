// SPDX-License-Identifier: GPL-2.0

//! Signs again what is offered: before it expires, with another key, or without a level that is taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{bail, ensure, Context, Result};
use kcare_tuf::error::Role;
use kcare_tuf::level::{fixes_name, payload_name};
use kcare_tuf::metadata::{Common, Document, Targets};
use kcare_tuf::repository;
use kcare_tuf::time::Time;

use super::keys::Keys;
use super::promote::{earlier_states, had_by_slower, same};
use super::tree::{check, days, read_offer, Change, Place, Tree};
use super::{
    open_keys, put, records, root_expires, sign_targets, targets_expire, warn_soon, write_version,
    Failures, RefreshArgs, WithdrawArgs,
};

/// Refreshes all repositories.
///
/// # Errors
///
/// A repository could not be refreshed, and the others are; or clients refuse the tree all the same.
pub fn run(args: &RefreshArgs, now: Time) -> Result<()> {
    let keys = open_keys(&args.common, now)?;
    let tree = Tree::open(&args.common.tree)?;
    let places = tree.places()?;
    let mut failures = Failures::default();
    if args.targets {
        let kernels: BTreeSet<&str> = places.iter().map(|p| p.kernel.as_str()).collect();
        for kernel in kernels {
            match sign_again(&tree, &keys, kernel, |_| {}, now, &mut failures) {
                Ok(done) => done.iter().for_each(|folder| {
                    println!("{}: targets, snapshot and timestamp", folder.display())
                }),
                Err(error) => failures.add(&tree.path().join(kernel), &error),
            }
        }
    } else {
        for place in &places {
            let folder = tree.folder(place);
            match refresh(&tree, &keys, place, now) {
                Ok(done) => println!("{}: {done}", folder.display()),
                Err(error) => failures.add(&folder, &error),
            }
        }
    }
    ensure!(
        keys.root.common.expires > now,
        root_expires(&keys.root, now)
    );
    failures.end("refreshed")
}

/// Refreshes one repository with the online key, and says what of it.
fn refresh(tree: &Tree, keys: &Keys, place: &Place, now: Time) -> Result<&'static str> {
    let offer = read_offer(tree.path(), place)?;
    check::<Targets>(std::slice::from_ref(&keys.root), &offer.signed_targets).context(
        "the release key is another one now: run `refresh --targets`, where that key is",
    )?;
    let half = now.plus_days(days(Role::Snapshot) / 2);
    let done = if offer.root != keys.root || offer.snapshot.common.expires < half {
        let change = Change {
            place,
            targets: &offer.targets,
            signed_targets: &offer.signed_targets,
            files: BTreeMap::new(),
            now,
        };
        tree.write(keys, &change)?;
        "snapshot and timestamp"
    } else {
        tree.renew_timestamp(keys, place, &offer, now)?;
        "timestamp"
    };
    write_version(tree, place, &offer.targets)?;
    let expires = offer.targets.common.expires;
    let said = targets_expire(&tree.folder(place), &offer.targets, now);
    ensure!(expires > now, said);
    warn_soon(expires, now, &said);
    Ok(done)
}

/// Takes a level back in all channels. Each tells it, also one that has not offered the level: a machine that has it may
/// have it from another channel.
///
/// # Errors
///
/// No channel offers it, or it could not be taken back in one; in the others it is.
pub fn withdraw(args: &WithdrawArgs, now: Time) -> Result<()> {
    let keys = open_keys(&args.common, now)?;
    let tree = Tree::open(&args.common.tree)?;
    let payload = payload_name(args.level);
    let (mut offered, mut before) = (false, None);
    for place in tree
        .places()?
        .iter()
        .filter(|place| place.kernel == args.kernel)
    {
        // What is damaged is told below.
        if let Ok(offer) = read_offer(tree.path(), place) {
            offered |= offer.targets.targets.contains_key(&payload);
            before = before.or(offer.targets.withdrawn.get(&args.level).cloned());
        }
    }
    if !offered {
        if let Some(time) = before {
            bail!(
                "level {} of {} was withdrawn at {time}",
                args.level,
                args.kernel
            );
        }
        bail!(
            "no channel offers level {} of {}\n\
             Hint: `kcare-build publish verify` tells which levels there are.",
            args.level,
            args.kernel
        );
    }
    let time = before.unwrap_or_else(|| now.to_string());
    let edit = |targets: &mut Targets| {
        targets.targets.remove(&payload);
        targets.targets.remove(&fixes_name(args.level));
        targets.withdrawn.insert(args.level, time.clone());
    };
    let mut failures = Failures::default();
    for folder in sign_again(&tree, &keys, &args.kernel, edit, now, &mut failures)? {
        println!("{}: level {} is withdrawn", folder.display(), args.level);
    }
    failures.end("changed")
}

/// What channels tell, or have told.
struct State {
    targets: Targets,
    /// The channels that tell it.
    told: Vec<Place>,
    /// The channels that have told it, for slower ones with a delay.
    past: Vec<Place>,
}

/// Signs the targets of all channels of a kernel again, after `edit`; the folders of those that were written.
///
/// Channels that tell the same get one document. The fewer levels a channel has, the lower is its version, and the
/// fastest one has the highest: so each can be promoted to each slower one. What a channel with a delay may still get is
/// signed again, too, as it would be older than what that channel has now.
fn sign_again(
    tree: &Tree,
    keys: &Keys,
    kernel: &str,
    edit: impl Fn(&mut Targets),
    now: Time,
    failures: &mut Failures,
) -> Result<Vec<PathBuf>> {
    let places = tree.places()?;
    let mut offers = BTreeMap::new();
    for place in places.iter().filter(|place| place.kernel == kernel) {
        match read_offer(tree.path(), place) {
            Ok(offer) => drop(offers.insert(place.clone(), offer)),
            Err(error) => failures.add(&tree.folder(place), &error),
        }
    }
    let mut states: Vec<State> = Vec::new();
    for (place, offer) in &offers {
        let past = match had_by_slower(&places, &offers, place) {
            Some(had) => {
                let roots = std::slice::from_ref(&offer.root);
                earlier_states(tree, place, &offer.targets, had, roots)?
            }
            None => Vec::new(),
        };
        let all = std::iter::once(offer.targets.clone());
        for mut targets in all.chain(past.into_iter().map(|(targets, _)| targets)) {
            let told = targets.version() == offer.targets.version();
            edit(&mut targets);
            let known = states
                .iter()
                .position(|state| same(&state.targets, &targets));
            let known = known.unwrap_or_else(|| {
                let (told, past) = (Vec::new(), Vec::new());
                states.push(State {
                    targets,
                    told,
                    past,
                });
                states.len() - 1
            });
            match told {
                true => states[known].told.push(place.clone()),
                false => states[known].past.push(place.clone()),
            }
        }
    }
    states.sort_by_key(|state| {
        let fastest = state.told.iter().any(|place| place.channel.is_empty());
        let levels = records(&state.targets).unwrap_or_default();
        let highest = levels.last().map(|record| record.level);
        (fastest, highest, state.targets.version())
    });
    let expires = now.plus_days(days(Role::Targets));
    for (state, version) in states.iter_mut().zip(tree.next_targets(kernel)?..) {
        state.targets.common = Common::new(version, expires);
    }
    let mut done = Vec::new();
    for State { targets, told, .. } in &states {
        for place in told {
            let folder = tree.folder(place);
            match sign_one(tree, keys, place, targets, now) {
                Ok(()) => done.push(folder),
                Err(error) => failures.add(&folder, &error),
            }
        }
    }
    // These come last, as whoever changes a repository removes what is newer than what it tells.
    for State {
        targets,
        told,
        past,
    } in &states
    {
        for place in past.iter().filter(|place| !told.contains(place)) {
            let folder = tree.folder(place);
            let roots = keys.roots_for(&folder)?;
            let signed = sign_targets(keys, targets, &roots)?;
            repository::write(&folder, &keys.root, targets, &signed)?;
        }
    }
    Ok(done)
}

/// Signs targets for the clients of one repository, and writes them there.
fn sign_one(tree: &Tree, keys: &Keys, place: &Place, targets: &Targets, now: Time) -> Result<()> {
    let roots = keys.roots_for(&tree.folder(place))?;
    let signed_targets = sign_targets(keys, targets, &roots)?;
    let change = Change {
        place,
        targets,
        signed_targets: &signed_targets,
        files: BTreeMap::new(),
        now,
    };
    put(tree, keys, &change)
}
