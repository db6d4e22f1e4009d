// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --vex`: which findings of a scanner do not hold for this machine, as OpenVEX.

use clap::Args;
use kcare_tuf::time::Time;
use serde_json::{json, Value};

use crate::error::Result;
use crate::state::{Patch, State};
use crate::{text, Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct Vex {
    /// Print an OpenVEX document for scanners of this machine: what is live now, and nothing else
    #[arg(long, group = "command")]
    pub vex: bool,
}

/// The context of the format.
const CONTEXT: &str = "https://openvex.dev/ns/v0.2.0";

/// Reads what is live.
///
/// # Errors
///
/// Those of [`State::gather`].
pub fn run(system: &System) -> Result<Answer> {
    let mut state = State::gather(system)?;
    let document = document(&state, text::boot_time(&system.root));
    state.history = None;
    let text = crate::json(&document);
    Ok(Answer::new(state, text, 0).with_document(document))
}

/// One statement for each id; none when nothing is live.
///
/// The format wants a time. It is one from which on the document holds, so that two calls say the same: when the live
/// level was applied; with nothing live, when the last one was taken back, or the boot where no module tells of one.
/// A time that is not of this calendar is none. Without any, which happens with no kernel, it is now.
fn document(state: &State, boot: Option<u64>) -> Value {
    let live = state.patch.as_ref();
    let mut events = state.history.iter().flatten();
    let since = match live {
        Some(patch) => Some(patch.applied_time),
        None => (events.rfind(|event| event.level != event.before)).map(|event| event.time),
    };
    let mut known = [since, boot].into_iter().flatten();
    let known = known.find_map(|seconds| Some((seconds, text::rfc3339(seconds)?)));
    let (seconds, time) = known.unwrap_or_else(|| (0, Time::now().to_string()));
    let name = format!(
        "urn:kcare:{}:{}:{seconds}",
        state.kernel.hash(),
        state.level()
    );
    json!({
        "@context": CONTEXT,
        "@id": name,
        "author": "kcare",
        "role": "live-patch agent of this machine",
        "timestamp": time,
        "version": 1,
        "statements": live.map_or_else(Vec::new, |patch| statements(state, patch)),
    })
}

fn statements(state: &State, patch: &Patch) -> Vec<Value> {
    let products = products(state);
    let mut ids: Vec<&str> = (patch.fixes.iter())
        .filter_map(|fix| fix.id.as_deref())
        .filter(|id| id.starts_with("CVE-"))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let since = match text::rfc3339(patch.applied_time) {
        Some(_) => format!(
            "has been live since {} UTC",
            text::date_time(patch.applied_time)
        ),
        None => "is live".to_owned(),
    };
    let said = format!(
        "kcare level {} {since}: the running kernel does not run the vulnerable code. This holds for this machine \
         while the level is live.",
        patch.level
    );
    let statement = |id: &&str| {
        json!({
            "vulnerability": { "name": id },
            "products": products,
            "status": "not_affected",
            "justification": "inline_mitigations_already_exist",
            "impact_statement": said,
        })
    };
    ids.iter().map(statement).collect()
}

/// The packages of the running release that a scanner may report, and the kernel itself. Not the headers: nothing there
/// is patched. Without qualifiers, which scanners compare literally.
fn products(state: &State) -> Vec<Value> {
    let release = encoded(&state.kernel.release);
    let mut products = Vec::new();
    if let Some(version) = state.kernel.package_version().map(encoded) {
        for package in ["image", "binary", "modules", "base"] {
            let purl = format!("pkg:deb/debian/linux-{package}-{release}@{version}");
            products.push(json!({ "@id": purl, "identifiers": { "purl": purl } }));
        }
    }
    let purl = format!("pkg:generic/linux-kernel@{release}");
    products.push(json!({ "@id": purl, "identifiers": { "purl": purl } }));
    products
}

/// Percent-encoded, as package URLs have it.
fn encoded(text: &str) -> String {
    let stays = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b'~');
    (text.bytes())
        .map(|c| match stays(c) {
            true => char::from(c).to_string(),
            false => format!("%{c:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{fixtures, Event};

    #[test]
    fn one_statement_for_each_id() {
        let document = document(&fixtures::applied(), None);
        let statements = document["statements"].as_array().unwrap();
        let names: Vec<_> = (statements.iter())
            .map(|s| s["vulnerability"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["CVE-2026-12345", "CVE-2026-12346"]);
        assert_eq!(statements[0]["status"], "not_affected");
        let product = statements[0]["products"][0]["@id"].as_str().unwrap();
        assert_eq!(
            product,
            "pkg:deb/debian/linux-image-7.2.12%2Bdeb13-cloud-amd64@7.2.12-1~bpo13%2B1"
        );
        assert!(!document.to_string().contains('?'));
    }

    #[test]
    fn nothing_live_hides_nothing() {
        for state in [fixtures::nothing(), fixtures::not_loaded()] {
            assert_eq!(document(&state, Some(1))["statements"], json!([]));
        }
    }

    #[test]
    fn the_time_is_known_and_does_not_change() {
        let boot = Some(1_795_428_720);
        let time = |state: &State| document(state, boot)["timestamp"].clone();
        assert_eq!(time(&fixtures::not_loaded()), "2026-11-23T10:12:00Z");
        assert_eq!(time(&fixtures::nothing()), "2026-11-23T10:12:00Z");
        let event = |time, what: &str, before, level| Event {
            module: None,
            time,
            what: what.to_owned(),
            level,
            before,
            refused: None,
        };
        let mut state = fixtures::nothing();
        state.history = Some(vec![
            event(1_795_428_780, "unload", 9, 0),
            event(1_795_428_840, "module", 0, 0),
        ]);
        assert_eq!(time(&state), "2026-11-23T10:13:00Z");

        let mut state = fixtures::applied();
        let applied = text::rfc3339(state.patch.as_ref().unwrap().applied_time).unwrap();
        assert_eq!(time(&state), applied);
        state.patch.as_mut().unwrap().applied_time = u64::MAX;
        assert_eq!(time(&state), "2026-11-23T10:12:00Z");
        let document = document(&state, None);
        let time = document["timestamp"].as_str().unwrap();
        assert!(Time::parse(time).is_ok(), "{time}");
        assert!(
            !document["statements"].to_string().contains("after 1970"),
            "{document}"
        );
    }
}
