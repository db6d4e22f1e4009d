// SPDX-License-Identifier: GPL-2.0

//! What is applied: the one struct that every command answers with.

use std::io::ErrorKind;

use kcare_payload::description::effective_version;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernel::{self, Kernel};
use crate::service::Service;
use crate::stragglers::Transition;
use crate::{text, System};

/// The state of this machine; `--json` prints it as it stands here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Whether a patch is applied.
    pub protected: bool,
    /// The running kernel.
    pub kernel: Kernel,
    /// What is applied, if anything.
    pub patch: Option<Patch>,
    /// The kcare module, if it is loaded.
    pub module: Option<Module>,
    /// Tasks that still see former code, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<Transition>,
    /// What the kernel said besides when it did what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What has happened since that was loaded, the oldest first, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Event>>,
    /// What is known of updates, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, in seconds since 1970.
    pub time: u64,
    /// `apply`, `unload`, `rollback`, `forget`, `complete` (the last task has left former code), `redirect` (functions are
    /// redirected in another way), `revoke`, or `module-came` and `module-went`.
    pub what: String,
    /// The module that came or went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The level that was applied behind it, 0 for none.
    pub level: u32,
    /// The level that was applied before it, 0 for none.
    pub before: u32,
    /// Name of the kernel's reason, if it refused.
    pub refused: Option<String>,
}

impl Event {
    /// Reads what follows `event: `: time, what, level before, level behind, reason or `ok`, and the module, if it is of one.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next();
        Some(Self {
            time: next()?.parse().ok()?,
            what: next()?.to_owned(),
            before: next()?.parse().ok()?,
            level: next()?.parse().ok()?,
            refused: Some(next()?.to_owned()).filter(|reason| reason != "ok"),
            module: next().map(|name| text::from_kernel(name.as_bytes())),
        })
    }
}

/// A module that the live level patches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchedModule {
    /// Its name.
    pub name: String,
    /// Whether it is loaded, and then patched.
    pub loaded: bool,
}

impl PatchedModule {
    /// Reads what follows `module: ` in the device's text.
    fn parse(line: &str) -> Option<Self> {
        let (name, state) = line.split_once(' ')?;
        Some(Self {
            name: name.to_owned(),
            loaded: state == "patched",
        })
    }
}

/// The live level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Patch level, 1 or more.
    pub level: u32,
    /// Level that a rollback goes back to, if this one has replaced another.
    pub previous_level: Option<u32>,
    /// Kernel release that the payload was built for.
    pub release: String,
    /// One line that the vendor wrote, `9;7.2.12-1` in the trade's form.
    pub description: String,
    /// When the payload was built, in seconds since 1970.
    pub build_time: u64,
    /// When it was applied, in seconds since 1970.
    pub applied_time: u64,
    /// Functions redirected.
    pub functions: u32,
    /// Fixes that the payload carries.
    pub fixes: Vec<Fix>,
    /// Memory that it holds, in bytes.
    pub memory: u64,
    /// Modules that it patches, ascending by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<PatchedModule>,
}

/// One fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fix {
    /// `CVE-2026-12345`, if it has a number.
    pub id: Option<String>,
    /// One line that the vendor wrote.
    pub title: String,
}

impl Fix {
    /// Reads what follows `fix: ` in the device's text: `ID TITLE`, with `-` for a fix without a number.
    fn parse(line: &str) -> Self {
        let (id, title) = line.split_once(' ').unwrap_or(("-", line));
        Self {
            id: (id != "-").then(|| id.to_owned()),
            title: title.to_owned(),
        }
    }
}

/// What the kcare module counts from the moment it was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Length of the last stop of the machine in nanoseconds, 0 if there was none.
    pub stop_last: u64,
    /// Longest stop in nanoseconds.
    pub stop_max: u64,
    /// All stops of the last switch together, in nanoseconds; a module of before this was told does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_sum: Option<u64>,
    /// Applies, rollbacks and unloads that failed.
    pub failures: u64,
    /// Certificates that were revoked, each by its subject and the SHA-256 of its DER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<String>,
}

impl State {
    /// The live level, 0 for none.
    pub fn level(&self) -> u32 {
        self.patch.as_ref().map_or(0, |patch| patch.level)
    }

    /// Version of the kernel's package whose fixes are all in: what the live level says, or else the running kernel's.
    ///
    /// A level says so in its description, which its vendor has signed.
    pub fn effective_version(&self) -> Option<&str> {
        let patch = self.patch.as_ref();
        let said = patch.and_then(|patch| effective_version(&patch.description, patch.level));
        said.or_else(|| self.kernel.package_version())
    }
}

/// Where the kcare module tells what is applied, for everybody; below the root of the system.
const STATUS: &str = "proc/kcare/status";

impl State {
    /// Reads what the kcare module tells; a module that is not loaded is an answer, not an error.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::error::Kind) if a module is loaded that does not tell it as this version's does.
    pub fn gather(system: &System) -> Result<Self> {
        let path = system.root.join(STATUS);
        let running = Kernel::running(&system.root)?;
        match std::fs::read(&path) {
            Ok(bytes) => Self::parse(running, &text::from_kernel(&bytes)).ok_or_else(stranger),
            Err(e) if e.kind() == ErrorKind::NotFound && !kernel::module_is_loaded() => Ok(Self {
                protected: false,
                kernel: running,
                patch: None,
                module: None,
                transition: None,
                note: None,
                history: None,
                service: None,
            }),
            Err(e) => Err(stranger().caused_by(e)),
        }
    }

    /// Reads the text; lines of a name that is not known here are left out.
    fn parse(kernel: Kernel, text: &str) -> Option<Self> {
        let lines: Vec<(&str, &str)> = text.lines().filter_map(|l| l.split_once(": ")).collect();
        let all = |name: &'static str| {
            let of_name = lines.iter().filter(move |(n, _)| *n == name);
            of_name.map(|(_, value)| *value)
        };
        // Without a value there is no blank behind the colon.
        let one = |name| all(name).next().unwrap_or_default();
        let number = |name| one(name).parse::<u64>().ok();
        let small = |name| one(name).parse::<u32>().ok();
        let applied = match one("state") {
            "applied" => true,
            "none" => false,
            _ => return None,
        };
        let patch = match applied {
            false => None,
            true => Some(Patch {
                level: small("level")?,
                previous_level: small("previous-level"),
                release: one("release").to_owned(),
                description: one("description").to_owned(),
                build_time: number("build-time")?,
                applied_time: number("applied-time")?,
                functions: small("functions")?,
                fixes: all("fix").map(Fix::parse).collect(),
                memory: number("memory")?,
                modules: all("module").filter_map(PatchedModule::parse).collect(),
            }),
        };
        Some(Self {
            protected: applied,
            kernel: Kernel {
                build_id: Some(one("kernel-build-id").to_owned()),
                ..kernel
            },
            patch,
            module: Some(Module {
                stop_last: number("stop-last-ns")?,
                stop_max: number("stop-max-ns")?,
                stop_sum: number("stop-sum-ns"),
                failures: number("failures")?,
                revoked: all("revoked").map(str::to_owned).collect(),
            }),
            transition: Transition::parse(text),
            note: None,
            history: Some(all("event").filter_map(Event::parse).collect()),
            service: None,
        })
    }
}

/// The error for a command that needs the module.
pub fn not_loaded() -> Error {
    Error::config("the kcare module is not loaded.")
        .hint("load it with `modprobe kcare`, or `insmod kcare.ko` where it was built.")
}

/// The error for a module that tells something else, or nothing.
fn stranger() -> Error {
    Error::config(format!(
        "/{STATUS} does not say what the kcare module of this version says."
    ))
    .hint("install this program and the kcare module from the same release of kcare.")
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::State;

    fn parse(json: &str) -> State {
        serde_json::from_str(json).unwrap()
    }

    /// Level 9 is live, and has replaced level 8.
    pub(crate) fn applied() -> State {
        parse(include_str!("../tests/fixtures/applied.json"))
    }

    /// The same, and two tasks still see former code.
    pub(crate) fn straggling() -> State {
        parse(include_str!("../tests/fixtures/straggling.json"))
    }

    /// Level 8 is live again, and level 9 is gone.
    pub(crate) fn rolled_back() -> State {
        let mut state = applied();
        let patch = state.patch.as_mut().unwrap();
        patch.level = 8;
        patch.previous_level = None;
        patch.description = "8;7.2.12-1".to_owned();
        state
    }

    /// The module is loaded and nothing is live.
    pub(crate) fn nothing() -> State {
        parse(include_str!("../tests/fixtures/nothing.json"))
    }

    /// The module is not loaded.
    pub(crate) fn not_loaded() -> State {
        parse(include_str!("../tests/fixtures/not-loaded.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the module says in the state of `applied.json`.
    const TEXT: &str = include_str!("../tests/fixtures/applied.proc");

    fn kernel(state: &State) -> Kernel {
        Kernel {
            build_id: None,
            ..state.kernel.clone()
        }
    }

    /// The state without what has happened, which the fixtures leave out.
    fn parse(expected: &State, text: &str) -> Option<State> {
        let mut state = State::parse(kernel(expected), text)?;
        state.history = None;
        Some(state)
    }

    #[test]
    fn the_text_of_a_live_level_becomes_the_state() {
        let expected = fixtures::applied();
        assert_eq!(parse(&expected, TEXT), Some(expected.clone()));
        let events = State::parse(kernel(&expected), TEXT)
            .unwrap()
            .history
            .unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!((events[0].before, events[0].level), (8, 9));
        assert_eq!(events[0].refused, None);
        assert_eq!(events[1].refused.as_deref(), Some("no-previous"));
    }

    #[test]
    fn tasks_in_former_code_become_a_transition() {
        let expected = fixtures::straggling();
        let text = include_str!("../tests/fixtures/straggling.proc");
        assert_eq!(parse(&expected, text), Some(expected));
    }

    #[test]
    fn a_transition_can_be_open_without_a_live_level() {
        let text = "state: none\nlevel: 0\ntransition: open\nstragglers: 1\n\
                    straggler: 431 1000 1795515125 9 eventfd_read+0x17a evfd\n\
                    stop-last-ns: 1\nstop-max-ns: 1\nstop-sum-ns: 1\nfailures: 0\n";
        let state = State::parse(kernel(&fixtures::nothing()), text).unwrap();
        assert!(!state.protected);
        assert_eq!(state.transition.unwrap().stragglers[0].level, 9);
    }

    #[test]
    fn a_module_of_before_tells_no_sum() {
        let text = TEXT.replace("stop-sum-ns: 106249\n", "");
        let state = State::parse(kernel(&fixtures::applied()), &text).unwrap();
        assert_eq!(state.module.unwrap().stop_sum, None);
    }

    #[test]
    fn a_title_cannot_pass_for_another_line() {
        let text = TEXT.replace("fix: - x86: keep", "fix: - level: 3 state: none keep");
        let state = State::parse(kernel(&fixtures::applied()), &text).unwrap();
        assert_eq!(state.patch.unwrap().level, 9);
    }

    #[test]
    fn a_level_that_has_replaced_none_has_no_previous_one() {
        let text = TEXT.replace("previous-level: 8\n", "");
        let state = State::parse(kernel(&fixtures::applied()), &text).unwrap();
        assert_eq!(state.patch.unwrap().previous_level, None);
    }

    #[test]
    fn without_a_live_level_there_is_no_patch() {
        let expected = fixtures::nothing();
        let text =
            "kernel-build-id: 90ab000102030405060708090a0b0c0d0e0f1011\nstate: none\nlevel: 0\n\
                    stop-last-ns: 0\nstop-max-ns: 0\nstop-sum-ns: 0\nfailures: 2\noopses: 0\n";
        assert_eq!(parse(&expected, text), Some(expected.clone()));
    }

    #[test]
    fn another_text_is_no_state() {
        let kernel = kernel(&fixtures::applied());
        for text in [
            "",
            "state: new\n",
            "state: applied\nlevel: 9\n",
            "level: 9\n",
        ] {
            assert_eq!(State::parse(kernel.clone(), text), None, "{text}");
        }
        assert_eq!(
            State::parse(kernel, &TEXT.replace("level: 9", "level: nine")),
            None
        );
    }

    #[test]
    fn the_effective_version() {
        let mut state = fixtures::applied();
        assert_eq!(state.effective_version(), Some("7.2.12-1"));
        for other in [
            "",
            "9",
            "9;",
            "8;7.2.13-1",
            "nine;7.2.13-1",
            "9;7.2.13 and more",
        ] {
            state.patch.as_mut().unwrap().description = other.to_owned();
            assert_eq!(
                state.effective_version(),
                Some("7.2.12-1~bpo13+1"),
                "{other}"
            );
        }
        let mut state = fixtures::nothing();
        assert_eq!(state.effective_version(), state.kernel.package_version());
        state.kernel.version = "Linux version 7.2.12 #1".to_owned();
        assert_eq!(state.effective_version(), None);
    }

    #[test]
    fn json_is_the_fixture() {
        for (state, json) in [
            (
                fixtures::applied(),
                include_str!("../tests/fixtures/applied.json"),
            ),
            (
                fixtures::straggling(),
                include_str!("../tests/fixtures/straggling.json"),
            ),
            (
                fixtures::nothing(),
                include_str!("../tests/fixtures/nothing.json"),
            ),
            (
                fixtures::not_loaded(),
                include_str!("../tests/fixtures/not-loaded.json"),
            ),
        ] {
            assert_eq!(crate::json(&state), json);
        }
    }
}
