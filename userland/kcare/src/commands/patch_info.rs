// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --patch-info`.

use std::path::Path;

use clap::Args;

use crate::error::Result;
use crate::state::State;
use crate::Answer;

use super::info;

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct PatchInfo {
    /// List the fixes of the applied patch, and the level that it has replaced
    #[arg(long, group = "command")]
    pub patch_info: bool,
}

/// Asks the kernel.
pub fn run(device: &Path) -> Result<Answer> {
    let state = State::gather(device)?;
    Ok(Answer {
        text: render(&state),
        state,
        exit_code: 0,
    })
}

/// What `--info` says, the previous level, and then one paragraph for each fix.
fn render(state: &State) -> String {
    let mut text = info::render(state);
    let Some(patch) = &state.patch else {
        return text;
    };
    if let Some(previous) = patch.previous_level {
        text += &format!("kpatch-previous-level: {previous}\n");
    }
    for fix in &patch.fixes {
        text += "\n";
        if let Some(id) = &fix.id {
            text += &format!("kpatch-cve: {id}\n");
        }
        text += &format!("kpatch-name: {}\n", fix.title);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn the_previous_level_and_the_fixes_follow_the_info() {
        let state = fixtures::applied();
        let text = render(&state);
        assert_eq!(
            text.strip_prefix(&info::render(&state)).unwrap(),
            "kpatch-previous-level: 8\n\
             \n\
             kpatch-cve: CVE-2026-12345\n\
             kpatch-name: net: check the length of the option\n\
             \n\
             kpatch-cve: CVE-2026-12346\n\
             kpatch-name: ext4: hold the lock over the resize\n\
             \n\
             kpatch-name: x86: keep the flag over a nested fault\n"
        );
    }

    #[test]
    fn a_level_that_has_replaced_none_has_no_previous_one() {
        let mut state = fixtures::applied();
        let patch = state.patch.as_mut().unwrap();
        patch.previous_level = None;
        patch.fixes.clear();
        assert_eq!(render(&state), info::render(&state));
    }

    #[test]
    fn without_a_patch_there_are_no_fixes() {
        for state in [fixtures::nothing(), fixtures::not_loaded()] {
            assert_eq!(render(&state), info::render(&state));
        }
    }
}
