// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --rollback`.

use clap::Args;

use crate::device::Device;
use crate::error::Result;
use crate::explain::explain_take_back;
use crate::state::State;
use crate::{apply, Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct Rollback {
    /// Go back to the patch level that the applied one has replaced
    #[arg(long, group = "command")]
    pub rollback: bool,
}

/// Tells the kernel to go back to the previous level.
pub fn run(system: &System) -> Result<Answer> {
    let device = Device::open(&system.device)?;
    let before = State::gather(system)?;
    let said = device
        .rollback()
        .map_err(|refusal| explain_take_back("cannot roll back", &refusal, &before))?;
    let state = State::gather(system)?;
    apply::taken_back(system, "rollback", before.level(), state.level());
    let text = render(&before, &state);
    Ok(Answer::new(state, text, 0).with_note(&said))
}

/// Not a word of safety: the level that was left may have closed a hole that this one does not.
fn render(before: &State, state: &State) -> String {
    match (&before.patch, &state.patch) {
        (Some(former), Some(patch)) => format!(
            "Patch Level {} applied\nRolled back from patch level {}\n",
            patch.level, former.level
        ),
        // Someone else changed it between our questions.
        (None, Some(patch)) => format!("Patch Level {} applied\n", patch.level),
        (_, None) => "Rolled back, and taken back since\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn both_levels_are_told() {
        assert_eq!(
            render(&fixtures::applied(), &fixtures::rolled_back()),
            "Patch Level 8 applied\nRolled back from patch level 9\n"
        );
    }

    #[test]
    fn changed_in_between() {
        let (nothing, state) = (fixtures::nothing(), fixtures::rolled_back());
        assert_eq!(render(&nothing, &state), "Patch Level 8 applied\n");
        assert_eq!(
            render(&fixtures::applied(), &nothing),
            "Rolled back, and taken back since\n"
        );
    }
}
