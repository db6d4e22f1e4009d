// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --patch-info`.

use clap::Args;

use crate::error::Result;
use crate::state::State;
use crate::{os, text, Answer, System};

use super::info;

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct PatchInfo {
    /// List the fixes of the applied patch, in the form that scanners read
    #[arg(long, group = "command")]
    pub patch_info: bool,
}

/// Asks the kernel.
pub fn run(system: &System) -> Result<Answer> {
    let mut state = State::gather(system)?;
    state.history = None;
    Ok(Answer {
        text: render(&state, &os::name(&system.root)),
        exit_code: 0,
        state,
    })
}

/// What the trade's tools look through for the ids of fixes: a head, and a paragraph for each fix.
///
/// It does not change with the clock: `time` is when the level was applied.
fn render(state: &State, os: &str) -> String {
    let Some(patch) = &state.patch else {
        return info::render(state);
    };
    let unknown = "N/A";
    let effective = state.effective_version().unwrap_or(unknown);
    let mut text = format!(
        "OS: {os}\nkernel: linux-{}\ntime: {}\nuname: {effective}\n",
        state
            .kernel
            .package_version()
            .unwrap_or(&state.kernel.release),
        text::date_time(patch.applied_time),
    );
    for fix in &patch.fixes {
        let id = fix.id.as_deref().unwrap_or(unknown);
        let url = match &fix.id {
            Some(id) if id.starts_with("CVE-") => format!("{TRACKER}{id}"),
            _ => unknown.to_owned(),
        };
        text += &format!(
            "\nkpatch-name: {title}\nkpatch-description: {title}\nkpatch-kernel: linux-{effective}\n\
             kpatch-cve: {id}\nkpatch-cvss: {unknown}\nkpatch-cve-url: {url}\nkpatch-patch-url: {unknown}\n",
            title = fix.title,
        );
    }
    text
}

/// Where Debian tells of a CVE.
const TRACKER: &str = "https://security-tracker.debian.org/tracker/";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn a_head_and_the_fixes() {
        assert_eq!(
            render(&fixtures::applied(), "debian13"),
            include_str!("../../tests/fixtures/applied.patch-info")
        );
    }

    #[test]
    fn without_a_patch_there_are_no_fixes() {
        for state in [fixtures::nothing(), fixtures::not_loaded()] {
            assert_eq!(render(&state, "debian13"), info::render(&state));
        }
    }
}
