// SPDX-License-Identifier: GPL-2.0

//! Offers in a slower channel what another one offers, or has offered some time ago.
//!
//! The release key has signed the targets, and the online key alone copies them. So their version is that of the other
//! channel, and has to be higher than the one that clients of the slower channel have seen; see [`super::refresh`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{bail, ensure, Context, Result};
use kcare_tuf::error::Role;
use kcare_tuf::level::is_channel;
use kcare_tuf::level::Record;
use kcare_tuf::metadata::{Document, Root, Targets};
use kcare_tuf::time::Time;

use super::keys::Keys;
use super::tree::{check, names, read_offer, version_of, Change, Offer, Place, Tree};
use super::{offer, open_keys, put, records, targets_expire, warn_soon, Failures, PromoteArgs};

/// Promotes all kernels of a channel, or one.
///
/// # Errors
///
/// No channel or kernel has that name, or a repository could not be promoted; the others are.
pub fn run(args: &PromoteArgs, now: Time) -> Result<()> {
    let keys = open_keys(&args.common, now)?;
    ensure!(
        !args.to.is_empty(),
        "--to names a channel: the fastest one has levels from `add`"
    );
    let (from, _) = channel(&args.from)?;
    let (to, delay) = channel(&args.to)?;
    ensure!(from != to, "both channels are the same");
    let tree = Tree::open(&args.common.tree)?;
    let wanted = |kernel: &str| args.kernel.as_deref().is_none_or(|k| k == kernel);
    let places = tree.places()?;
    let places = (places.iter()).filter(|place| place.channel == from && wanted(&place.kernel));
    let places: Vec<&Place> = places.collect();
    ensure!(
        !places.is_empty(),
        "the channel has no such kernel\n\
         Hint: `kcare-build publish verify` tells what the tree has."
    );
    let mut failures = Failures::default();
    for from in places {
        let to = Place {
            channel: to.clone(),
            kernel: from.kernel.clone(),
        };
        match promote(&tree, &keys, from, &to, delay, now) {
            Ok(said) => println!("{}: {said}", to.kernel),
            Err(error) => failures.add(&tree.folder(&to), &error),
        }
    }
    failures.end("promoted")
}

/// What a channel has, or had: targets and their file.
pub type State = (Targets, Vec<u8>);

/// Promotes one kernel, and says what was done.
fn promote(
    tree: &Tree,
    keys: &Keys,
    from: &Place,
    to: &Place,
    delay: Option<u64>,
    now: Time,
) -> Result<String> {
    let channel = &to.channel;
    let source = read_offer(tree.path(), from)?;
    let current = offer(tree, to)?;
    let version = current.as_ref().map_or(0, |offer| offer.targets.version());
    let newest = source.targets.version();
    if current
        .as_ref()
        .is_some_and(|offer| same(&offer.targets, &source.targets))
        && version >= newest
    {
        return Ok(format!("{channel} has it already"));
    }
    ensure!(
        newest > version,
        "{channel} has targets {version}, and clients would not go back to targets {newest}\n\
         Hint: run `refresh --targets` where the release key is; it gives the faster channel a higher version."
    );
    let young = match delay {
        Some(delay) => too_young(&source.targets, delay, now)?,
        None => None,
    };
    let (targets, signed_targets) = match (young, delay) {
        (Some(young), Some(delay)) => {
            let mut roots = vec![keys.root.clone()];
            roots.extend(current.map(|offer| offer.root));
            let earlier = earlier_states(tree, from, &source.targets, version, &roots)?;
            match old_enough(earlier, delay, now)? {
                Some(state) => state,
                None => {
                    return Ok(format!(
                        "level {} was published at {}, less than {channel} ago",
                        young.level, young.published
                    ))
                }
            }
        }
        _ => (source.targets, source.signed_targets),
    };
    let said = targets_expire(&tree.folder(from), &targets, now);
    ensure!(targets.check_expiry(now).is_ok(), said);
    warn_soon(targets.common.expires, now, &said);
    let change = Change {
        place: to,
        targets: &targets,
        signed_targets: &signed_targets,
        files: BTreeMap::new(),
        now,
    };
    put(tree, keys, &change)?;
    let levels = records(&targets)?;
    Ok(format!(
        "{channel} offers level {}",
        levels.last().map_or(0, |record| record.level)
    ))
}

/// The first of these states that has not expired and whose levels were all published so many seconds ago.
fn old_enough(states: Vec<State>, seconds: u64, now: Time) -> Result<Option<State>> {
    for state in states {
        if state.0.check_expiry(now).is_ok() && too_young(&state.0, seconds, now)?.is_none() {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// Whether two channels tell their clients the same.
pub fn same(a: &Targets, b: &Targets) -> bool {
    a.targets == b.targets && a.withdrawn == b.withdrawn
}

/// The states that a channel has had after targets `version`, newest first, as far as what they offer is still offered as
/// it was then. Signatures that one of these roots does not ask for are those of another key by now.
pub fn earlier_states(
    tree: &Tree,
    from: &Place,
    source: &Targets,
    version: u64,
    roots: &[Root],
) -> Result<Vec<State>> {
    let folder = tree.folder(from);
    let names = names(&folder)?;
    let versions = names
        .iter()
        .filter_map(|name| version_of(name, Role::Targets));
    let mut versions: Vec<u64> = versions
        .filter(|&v| v > version && v < source.version())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let mut out = Vec::new();
    for version in versions {
        let path = folder.join(Role::Targets.versioned_name(version));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(targets) = check::<Targets>(roots, &bytes) else {
            continue;
        };
        let offered = |(name, target)| source.targets.get(name) == Some(target);
        if targets.withdrawn == source.withdrawn && targets.targets.iter().all(offered) {
            out.push((targets, bytes));
        }
    }
    Ok(out)
}

/// The lowest version of the targets that a slower channel with a delay has of the same kernel, 0 if it has none yet;
/// nothing if there is no such channel.
pub fn had_by_slower(
    places: &BTreeSet<Place>,
    offers: &BTreeMap<Place, Offer>,
    place: &Place,
) -> Option<u64> {
    let channels = places.iter().map(|other| &other.channel);
    let slower = channels.filter(|&c| *c != place.channel && duration(c).is_some());
    let versions = slower.map(|channel| {
        let kernel = place.kernel.clone();
        let channel = channel.clone();
        let offer = offers.get(&Place { channel, kernel });
        offer.map_or(0, |offer| offer.targets.version())
    });
    versions.min()
}

/// A level that was published less than so many seconds ago.
fn too_young(targets: &Targets, seconds: u64, now: Time) -> Result<Option<Record>> {
    let since = i64::try_from(seconds)
        .ok()
        .and_then(|s| now.unix_seconds().checked_sub(s));
    let since = since.context("the delay is too long")?;
    for record in records(targets)? {
        if Time::parse(&record.published)?.unix_seconds() > since {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The name of a channel's folder, and its delay in seconds, if it has one.
fn channel(name: &str) -> Result<(String, Option<u64>)> {
    ensure!(
        name.is_empty() || is_channel(name),
        "`{name}` is no name of a channel: it has letters, digits, `.`, `_` and `-`, at most 32 of them"
    );
    if !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok((name.to_owned(), None));
    }
    let name = name.to_ascii_lowercase();
    match duration(&name) {
        Some(delay) => Ok((name, Some(delay))),
        None => bail!(
            "`{name}` begins with a digit and is no time: write `30m`, `12h`, `2d` or `1w`, or a name that begins with a \
             letter"
        ),
    }
}

/// Seconds of `30m`, `12h`, `2d`, `1w`; nothing for another name.
pub fn duration(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_time_or_a_name() {
        let is = |name: &str| channel(name).ok();
        let at = |name: &str, delay| Some((name.to_owned(), delay));
        assert_eq!(is(""), at("", None));
        assert_eq!(is("slow"), at("slow", None));
        assert_eq!(is("Slow-2.x"), at("Slow-2.x", None));
        assert_eq!(is("30m"), at("30m", Some(1800)));
        assert_eq!(is("12H"), at("12h", Some(12 * 3600)));
        assert_eq!(is("2d"), at("2d", Some(2 * 86400)));
        assert_eq!(is("1W"), at("1w", Some(7 * 86400)));
        for name in [
            "12",
            "1y",
            "2026-stable",
            "12hh",
            "1.5h",
            "99999999999999999999w",
            "../x",
            ".x",
            "a/b",
        ] {
            assert_eq!(is(name), None, "{name}");
        }
    }
}
