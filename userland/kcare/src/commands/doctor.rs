// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --doctor`: why a kernel is not patched, from one thing to the next that an update needs.

use std::os::unix::fs::MetadataExt;

use clap::Args;
use kcare_payload::cms::DEVELOPMENT;
use kcare_tuf::time::Time;
use serde::Serialize;

use crate::boot::Mode;
use crate::config::{Config, SETTINGS};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::host::{self, Lockdown};
use crate::offer::{Offer, Place};
use crate::server::Server;
use crate::service::Service;
use crate::state::State;
use crate::stragglers::Straggler;
use crate::{apply, text, Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct Doctor {
    /// Check everything that an update needs, the server too, and say what to do about what is wrong
    #[arg(long, group = "command")]
    pub doctor: bool,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Fine,
    /// It works, and somebody may want to know.
    Note,
    Wrong,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Finding {
    health: Health,
    about: &'static str,
    text: String,
    hint: Option<String>,
}

fn fine(about: &'static str, text: impl Into<String>) -> Finding {
    Finding {
        health: Health::Fine,
        about,
        text: text.into(),
        hint: None,
    }
}

fn note(about: &'static str, text: impl Into<String>, hint: &str) -> Finding {
    Finding {
        health: Health::Note,
        hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
        ..fine(about, text)
    }
}

fn wrong(about: &'static str, error: &Error) -> Finding {
    let failure = crate::error::Failure::from(error);
    let mut text = failure.message.trim_end_matches('.').to_owned();
    for line in failure.details.iter().chain(&failure.causes) {
        text += &format!("; {line}");
    }
    Finding {
        health: Health::Wrong,
        hint: failure.hints.first().cloned(),
        ..fine(about, text)
    }
}

/// Looks at everything.
///
/// # Errors
///
/// Those of [`State::gather`].
pub fn run(system: &System) -> Result<Answer> {
    let mut state = State::gather(system)?;
    state.history = None;
    let mut findings = vec![kernel(&state)];
    findings.push(module(system, &state));
    findings.extend(keys(system));
    findings.extend(revoked(system, &state));
    let config = match Config::read(&system.root) {
        Ok(config) => {
            findings.push(settings(&config));
            Some(config)
        }
        Err(error) => {
            findings.push(wrong("settings", &error));
            None
        }
    };
    if let Some(config) = &config {
        findings.push(server(system, config, &state));
    }
    findings.push(folder(system));
    findings.push(timer(system));
    findings.extend(level(system, &state));
    let now = u64::try_from(Time::now().unix_seconds()).unwrap_or_default();
    findings.extend(old_calls(&state, now));
    state.service = Service::gather(system, &state).ok();
    let is_wrong = findings.iter().any(|f| f.health == Health::Wrong);
    let text = findings.iter().map(render).collect();
    let exit_code = u8::from(is_wrong);
    let document = serde_json::json!({ "findings": findings, "state": state });
    Ok(Answer::new(state, text, exit_code).with_document(document))
}

fn kernel(state: &State) -> Finding {
    let text = format!(
        "{}, {} on a server",
        state.kernel.release,
        state.kernel.hash()
    );
    fine("kernel", text)
}

fn module(system: &System, state: &State) -> Finding {
    if state.module.is_some() {
        return fine("module", "kcare is loaded");
    }
    if host::is_container(&system.root) {
        return wrong("module", &host::in_container());
    }
    let release = &state.kernel.release;
    let there = [
        "updates/kcare.ko",
        "updates/dkms/kcare.ko",
        "extra/kcare.ko",
    ]
    .iter()
    .any(|place| {
        let below = format!("lib/modules/{release}/{place}");
        [below.clone(), below.clone() + ".xz", below + ".zst"]
            .iter()
            .any(|path| system.root.join(path).exists())
    });
    if !there {
        return wrong("module", &host::no_module(release));
    }
    let error = Error::config("the kcare module is not loaded.");
    wrong(
        "module",
        &match Lockdown::read(&system.root) {
            Lockdown { locked: true, .. } => error
                .detail("the kernel is locked down, as with Secure Boot, and takes only modules whose key it knows")
                .hint("load it with `modprobe kcare`; if its key is rejected, enroll the vendor's certificate with \
                       `mokutil --import CERT.der`, and reboot once."),
            Lockdown { signed_only: true, .. } => error
                .detail("the kernel takes only modules whose key it knows (module.sig_enforce)")
                .hint("load it with `modprobe kcare`."),
            _ => error.hint("load it with `modprobe kcare`."),
        },
    )
}

/// Where the module tells it, below the root of the system.
const CERTIFICATES: &str = "sys/class/misc/kcare/certificates";

/// Whose payloads the module takes.
fn keys(system: &System) -> Option<Finding> {
    let place = system.root.join(CERTIFICATES);
    let certificates = std::fs::read_to_string(place).ok()?;
    let names: Vec<String> = certificates
        .lines()
        .map(|line| text::from_kernel(line.as_bytes()))
        .collect();
    let text = format!("payloads may be signed by {}", names.join("; "));
    Some(match certificates.contains(DEVELOPMENT) {
        true => note(
            "keys",
            format!("{text}: a development key"),
            "build kcare.ko with the vendor's certificate: `make release KCARE_CERT=FILE`.",
        ),
        false => fine("keys", text),
    })
}

/// Which of them have been revoked.
fn revoked(system: &System, state: &State) -> Option<Finding> {
    let revoked = &state.module.as_ref()?.revoked;
    let text = format!("revoked: {}", revoked.join("; "));
    let all = std::fs::read_to_string(system.root.join(CERTIFICATES)).unwrap_or_default();
    match revoked.len() {
        0 => None,
        count if count < all.lines().count() => Some(fine("keys", text)),
        _ => Some(wrong(
            "keys",
            &Error::config("all certificates of the module are revoked, so that it takes no payload")
                .detail(text)
                .hint("install the vendor's module with its new certificate, take the live level back, and load it anew."),
        )),
    }
}

fn settings(config: &Config) -> Finding {
    let Some(file) = &config.file else {
        return note(
            "settings",
            "there are none",
            "write `PATCH_SERVER=https://…` to /etc/sysconfig/kcare/kcare.conf.",
        );
    };
    let file = file.display();
    let unknown = config.unknown.iter();
    let unknown: Vec<String> = unknown
        .map(|(line, name)| format!("{name} (line {line})"))
        .collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
        let does = match unknown.len() {
            1 => "is not known, and does nothing",
            _ => "are not known, and do nothing",
        };
        return note(
            "settings",
            format!("{file}: {} {does}", unknown.join(", ")),
            &format!("known are {}.", known.join(", ")),
        );
    }
    match config.auto_update {
        true => fine("settings", format!("{file}")),
        false => note("settings", format!("{file}: AUTO_UPDATE is off"), ""),
    }
}

fn server(system: &System, config: &Config, state: &State) -> Finding {
    let place = Place::of_root(system, config, &state.kernel);
    let asked = Server::new(config)
        .and_then(|server| Offer::fetch(system, &place, config, &server, &state.kernel));
    match asked {
        Ok(offer) => {
            let newest = offer.newest();
            let text = format!("it answers, and its newest patch level is {newest}");
            let held = Guard::read(system).map(|guard| guard.held_of(&state.kernel.hash()));
            let kept_back = offer.kept_back(config, &held.unwrap_or_default());
            match offer.coverage() {
                _ if offer.is_withdrawn(state.level()) => note(
                    "server",
                    format!("{text}; patch level {} was withdrawn", state.level()),
                    "go back with `kcarectl --rollback` or `kcarectl --unload`.",
                ),
                Some(day) if offer.is_over(day) => note(
                    "server",
                    format!("{text}; patch levels for this kernel have ended on {day}"),
                    "boot a newer kernel.",
                ),
                _ => match kept_back {
                    Some((_, why)) => {
                        note("server", format!("{text}, and is not taken: {why}"), "")
                    }
                    None => fine("server", text),
                },
            }
        }
        Err(error) => wrong("server", &error),
    }
}

/// Who else can write to root's folder can make it go back to an older level.
fn folder(system: &System) -> Finding {
    let path = system.root.join(apply::STATE);
    let Ok(meta) = std::fs::metadata(&path) else {
        return note(
            "state",
            format!("{} is not there yet", path.display()),
            "it comes with the first `kcarectl --update`.",
        );
    };
    let others = meta.mode() & 0o022 != 0;
    if meta.uid() == 0 && !others {
        return fine("state", format!("{} is root's", path.display()));
    }
    wrong(
        "state",
        &Error::config(format!("others than root can write to {}.", path.display()))
            .hint(format!("`chown root: {0}; chmod 755 {0}`.", path.display())),
    )
}

fn timer(system: &System) -> Finding {
    let at = |place: &str| system.root.join(place);
    let wanted = "timers.target.wants/kcare-fetch.timer";
    let linked = |folder: &str| std::fs::symlink_metadata(at(folder).join(wanted)).is_ok();
    if at("run/systemd/system").exists() {
        return match linked("etc/systemd/system") || linked("usr/lib/systemd/system") {
            true => fine(
                "timer",
                "kcare-fetch.timer asks the server every four hours",
            ),
            false => note(
                "timer",
                "nothing asks the server by itself",
                "`systemctl enable --now kcare-fetch.timer`.",
            ),
        };
    }
    match at("etc/cron.d/kcare-cron").exists() {
        true => fine("timer", "cron asks the server every four hours"),
        false => note(
            "timer",
            "nothing asks the server by itself",
            "install /etc/cron.d/kcare-cron.",
        ),
    }
}

fn level(system: &System, state: &State) -> Vec<Finding> {
    let mut findings = vec![match state.level() {
        0 => note("level", "no patch is applied", ""),
        level => fine("level", format!("patch level {level} is applied")),
    }];
    if Mode::read(&system.root) != Mode::Normal {
        findings.push(note(
            "level",
            "kcare.mode= on the kernel's command line stops updates",
            "boot without it.",
        ));
    }
    match Guard::read(system) {
        Ok(guard) => {
            for level in guard.held_of(&state.kernel.hash()) {
                findings.push(note(
                    "level",
                    format!("patch level {level} is held: it was live when this machine went down"),
                    "see `journalctl -k -b -1` and /var/lib/systemd/pstore; apply it all the same with `kcarectl --update --force`.",
                ));
            }
        }
        Err(error) => findings.push(wrong("level", &error)),
    }
    findings
}

/// After how long a task in former code is worth a word, in seconds.
const LONG: u64 = 3600;
/// So many of these tasks are named.
const NAMED: usize = 8;

/// Tasks that have been in former code for long; `now` is in seconds since 1970.
fn old_calls(state: &State, now: u64) -> Option<Finding> {
    let stragglers = &state.transition.as_ref()?.stragglers;
    let hours = |straggler: &Straggler| now.saturating_sub(straggler.since) / LONG;
    let old: Vec<&Straggler> = stragglers.iter().filter(|s| hours(s) > 0).collect();
    let first = old.first()?;
    let name = |straggler: &&Straggler| format!("{} for {} h", straggler.whose(), hours(straggler));
    let mut names: Vec<String> = old.iter().take(NAMED).map(name).collect();
    if let more @ 1.. = old.len() - names.len() {
        names.push(format!("{more} more"));
    }
    let others = match state.protected {
        true => "the machine is protected meanwhile, as all other tasks run the patched code",
        false => "all other tasks run the original code",
    };
    Some(note(
        "tasks",
        format!(
            "in former code: {}; {others}, and the memory of the former patch level is kept until they leave",
            names.join("; ")
        ),
        &format!(
            "restart the service of each (`systemctl status {}` names that of the first).",
            first.pid
        ),
    ))
}

fn render(finding: &Finding) -> String {
    let health = match finding.health {
        Health::Fine => "ok",
        Health::Note => "note",
        Health::Wrong => "WRONG",
    };
    let mut text = format!("{health:<5}  {:<8}  {}\n", finding.about, finding.text);
    if let Some(hint) = &finding.hint {
        text += &format!("       Hint: {hint}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_development_key_is_told() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert!(keys(&system).is_none());
        let place = root.path().join("sys/class/misc/kcare");
        fs::create_dir_all(&place).unwrap();
        let told = |line: &str| {
            fs::write(place.join("certificates"), line).unwrap();
            let finding = keys(&system).unwrap();
            (finding.health, finding.text)
        };
        assert_eq!(
            told("CN=Vendor,O=Example, sha256 00\nCN=New\u{1b}[2J, sha256 01\n"),
            (
                Health::Fine,
                "payloads may be signed by CN=Vendor,O=Example, sha256 00; CN=New\\u{1b}[2J, sha256 01".to_owned()
            )
        );
        let (health, text) = told("CN=kcare development key,O=kcare, sha256 00\n");
        assert_eq!(health, Health::Note);
        assert!(text.ends_with(": a development key"), "{text}");
    }

    #[test]
    fn tasks_that_stay_in_former_code_are_told_after_an_hour() {
        use crate::state::fixtures;
        let mut state = fixtures::straggling();
        let since = state.transition.as_ref().unwrap().stragglers[1].since;
        assert!(old_calls(&fixtures::applied(), u64::MAX).is_none());
        // The clock may be set back, too.
        for now in [0, since, since + 3599] {
            assert!(old_calls(&state, now).is_none(), "{now}");
        }
        let finding = old_calls(&state, since + 7200).unwrap();
        assert_eq!(finding.health, Health::Note);
        let known =
            "in former code: task 977 (my worker) of uid 33 in pipe_read+0x2c4 for 2 h; the ";
        assert!(finding.text.starts_with(known), "{}", finding.text);
        assert!(
            finding.text.contains("the machine is protected"),
            "{}",
            finding.text
        );
        assert_eq!(
            finding.hint.unwrap(),
            "restart the service of each (`systemctl status 977` names that of the first)."
        );
        state.protected = false;
        let text = old_calls(&state, since + 7200).unwrap().text;
        assert!(
            text.contains("all other tasks run the original code"),
            "{text}"
        );
        let stragglers = &mut state.transition.as_mut().unwrap().stragglers;
        *stragglers = vec![stragglers[1].clone(); 20];
        let text = old_calls(&state, since + 7200).unwrap().text;
        assert!(text.contains("; 12 more; "), "{text}");
    }

    #[test]
    fn a_folder_of_others_is_wrong() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert_eq!(folder(&system).health, Health::Note);
        let path = root.path().join(apply::STATE);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(folder(&system).health, Health::Wrong);
    }

    #[test]
    fn every_unknown_setting_is_named() {
        let mut config = Config {
            file: Some("kcare.conf".into()),
            unknown: vec![(1, "AUTO_UPDAET".to_owned())],
            ..Config::default()
        };
        let text = settings(&config).text;
        assert_eq!(
            text,
            "kcare.conf: AUTO_UPDAET (line 1) is not known, and does nothing"
        );
        config.unknown.push((4, "STICKY_PTACH".to_owned()));
        let text = settings(&config).text;
        assert!(
            text.contains("AUTO_UPDAET (line 1), STICKY_PTACH (line 4) are not known"),
            "{text}"
        );
    }

    #[test]
    fn the_timer() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert_eq!(timer(&system).health, Health::Note);
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert_eq!(timer(&system).health, Health::Note);
        let wants = root.path().join("etc/systemd/system/timers.target.wants");
        fs::create_dir_all(&wants).unwrap();
        std::os::unix::fs::symlink("/nowhere", wants.join("kcare-fetch.timer")).unwrap();
        assert_eq!(timer(&system).health, Health::Fine);
    }
}
