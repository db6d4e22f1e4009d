// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --patch-info`.

use clap::Args;
use kcare_tuf::level::{info_fix, info_head, UNKNOWN};

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
    let text = render(&state, &os::name(&system.root));
    Ok(Answer::new(state, text, 0))
}

/// What the trade's tools look through for the ids of fixes: a head, and a paragraph for each fix.
///
/// It does not change with the clock: `time` is when the level was applied.
fn render(state: &State, os: &str) -> String {
    let Some(patch) = &state.patch else {
        return info::render(state);
    };
    let effective = state.effective_version().unwrap_or(UNKNOWN);
    let base = state.kernel.package_version();
    let base = base.unwrap_or(&state.kernel.release);
    let mut text = info_head(os, base, &text::date_time(patch.applied_time), effective);
    if let Some(transition) = &state.transition {
        text += &info::stragglers_line(transition);
    }
    for fix in &patch.fixes {
        text += &info_fix(fix.id.as_deref(), &fix.title, effective);
    }
    text
}

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
    fn tasks_in_former_code_are_one_line_of_the_head() {
        let text = render(&fixtures::straggling(), "debian13");
        assert_eq!(
            text.replace("kpatch-stragglers: 2\n", ""),
            include_str!("../../tests/fixtures/applied.patch-info")
        );
        assert!(
            text.contains("uname: 7.2.12-1\nkpatch-stragglers: 2\n\n"),
            "{text}"
        );
    }

    #[test]
    fn without_a_patch_there_are_no_fixes() {
        for state in [fixtures::nothing(), fixtures::not_loaded()] {
            assert_eq!(render(&state, "debian13"), info::render(&state));
        }
    }
}
