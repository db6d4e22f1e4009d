// SPDX-License-Identifier: GPL-2.0

//! What is applied: the one struct that every command answers with.

use std::path::Path;

use kcare_payload::error::Reason;
use kcare_payload::uapi::{self, Info, STATE_APPLIED};
use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::text;

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
    /// What has happened since that was loaded, the oldest first, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Event>>,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, in seconds since 1970.
    pub time: u64,
    /// `apply`, `unload`, `rollback`, or `module` for a module that came or went.
    pub what: String,
    /// The level that was applied behind it, 0 for none.
    pub level: u32,
    /// The level that was applied before it, 0 for none.
    pub before: u32,
    /// Name of the kernel's reason, if it refused.
    pub refused: Option<String>,
}

impl From<uapi::Event> for Event {
    fn from(event: uapi::Event) -> Self {
        let what = uapi::What::from_number(event.what).map_or("?", uapi::What::name);
        let refused = match event.reason {
            0 => None,
            reason => Some(
                Reason::try_from(reason)
                    .map_or("?", Reason::name)
                    .to_owned(),
            ),
        };
        Self {
            time: event.time,
            what: what.to_owned(),
            level: event.level,
            before: event.before,
            refused,
        }
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
    /// Applies, rollbacks and unloads that failed.
    pub failures: u64,
}

impl State {
    /// Asks the kernel; a module that is not loaded is an answer, not an error.
    pub fn gather(path: &Path) -> Result<Self> {
        match Device::find(path)? {
            Some(device) => Self::of(&device),
            None => Ok(Self {
                protected: false,
                kernel: Kernel::running()?,
                patch: None,
                module: None,
                history: None,
            }),
        }
    }

    /// Asks the module behind an open device.
    pub fn of(device: &Device) -> Result<Self> {
        Ok(Self::new(
            Kernel::running()?,
            &device.info()?,
            &device.text()?,
        ))
    }

    /// `text` is what the device prints; only the fixes and the modules are taken from it.
    fn new(kernel: Kernel, info: &Info, text: &str) -> Self {
        let head = &info.head;
        let patch = (head.state == STATE_APPLIED).then(|| Patch {
            level: head.level,
            previous_level: (head.previous != 0).then_some(head.previous),
            release: text::from_kernel(&info.release),
            description: text::from_kernel(&info.description),
            build_time: head.build_time,
            applied_time: head.applied_time,
            functions: head.nr_funcs,
            fixes: text
                .lines()
                .filter_map(|line| line.strip_prefix("fix: "))
                .map(Fix::parse)
                .collect(),
            memory: head.memory,
            modules: text
                .lines()
                .filter_map(|line| line.strip_prefix("module: "))
                .filter_map(PatchedModule::parse)
                .collect(),
        });
        Self {
            protected: patch.is_some(),
            kernel: Kernel {
                build_id: Some(text::hex(&info.build_id)),
                ..kernel
            },
            patch,
            module: Some(Module {
                stop_last: head.stop_last,
                stop_max: head.stop_max,
                failures: head.failures,
            }),
            history: None,
        }
    }
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
    use kcare_payload::uapi::{InfoHead, ABI, STATE_NONE};

    fn field<const N: usize>(text: &str) -> [u8; N] {
        let mut field = [0; N];
        field[..text.len()].copy_from_slice(text.as_bytes());
        field
    }

    /// What the device prints in that state, as far as it matters.
    const TEXT: &str = "level: 9\ndescription: fix: none\nprevious-level: 8\n\
                        fix: CVE-2026-12345 net: check the length of the option\n\
                        fix: CVE-2026-12346 ext4: hold the lock over the resize\n\
                        fix: - x86: keep the flag over a nested fault\n";

    /// The record that the module returns in the state of `applied.json`.
    fn record() -> Info {
        Info {
            head: InfoHead {
                abi: ABI,
                state: STATE_APPLIED,
                level: 9,
                nr_funcs: 7,
                nr_fixes: 3,
                previous: 8,
                build_time: 1_795_428_720,
                applied_time: 1_795_515_125,
                stop_last: 45_049,
                stop_max: 61_200,
                memory: 28_672,
                failures: 0,
            },
            build_id: [
                0x90, 0xab, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
            ],
            release: field("7.2.12+deb13-cloud-amd64"),
            description: field("9;7.2.12-1"),
        }
    }

    fn kernel(state: &State) -> Kernel {
        Kernel {
            build_id: None,
            ..state.kernel.clone()
        }
    }

    #[test]
    fn the_record_of_a_live_level_becomes_the_state() {
        let info = Info::decode(&record().encode());
        let expected = fixtures::applied();
        assert_eq!(State::new(kernel(&expected), &info, TEXT), expected);
    }

    #[test]
    fn a_level_that_has_replaced_none_has_no_previous_one() {
        let mut info = record();
        info.head.previous = 0;
        let state = State::new(kernel(&fixtures::applied()), &info, TEXT);
        assert_eq!(state.patch.unwrap().previous_level, None);
    }

    #[test]
    fn without_a_live_level_there_is_no_patch() {
        let mut info = record();
        info.head = InfoHead {
            abi: ABI,
            state: STATE_NONE,
            failures: 2,
            ..InfoHead::default()
        };
        let expected = fixtures::nothing();
        assert_eq!(
            State::new(kernel(&expected), &info, "state: none\nlevel: 0\n"),
            expected
        );
    }

    #[test]
    fn json_is_the_fixture() {
        for (state, json) in [
            (
                fixtures::applied(),
                include_str!("../tests/fixtures/applied.json"),
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
