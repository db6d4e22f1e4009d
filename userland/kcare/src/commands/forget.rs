// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --forget`.

use clap::Args;

use crate::device::Device;
use crate::error::Result;
use crate::explain::explain_take_back;
use crate::state::State;
use crate::{Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct Forget {
    /// Free the patch level that is kept for --rollback
    #[arg(long, group = "command")]
    pub forget: bool,
}

/// Tells the kernel to free it.
pub fn run(system: &System) -> Result<Answer> {
    let device = Device::open(&system.device)?;
    let before = State::gather(system)?;
    let said = device
        .forget()
        .map_err(|refusal| explain_take_back("cannot forget", &refusal, &before))?;
    let state = State::gather(system)?;
    let text = render(&before);
    Ok(Answer::new(state, text, 0).with_note(&said))
}

fn render(before: &State) -> String {
    match before.patch.as_ref().and_then(|p| p.previous_level) {
        Some(level) => format!("Patch level {level} is no longer kept for a rollback\n"),
        // Someone else changed it between our questions.
        None => "No patch level is kept for a rollback\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn the_level_is_told() {
        assert_eq!(
            render(&fixtures::applied()),
            "Patch level 8 is no longer kept for a rollback\n"
        );
        assert_eq!(
            render(&fixtures::nothing()),
            "No patch level is kept for a rollback\n"
        );
    }
}
