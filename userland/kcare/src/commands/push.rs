// SPDX-License-Identifier: GPL-2.0

//! `kcare-push FILE`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::device::Device;
use crate::error::Result;
use crate::explain::explain_apply;
use crate::state::State;
use crate::{file, Answer};

/// The program's argument.
#[derive(Args)]
#[group(skip)]
pub struct Push {
    /// The payload, a file that ends in `.kpatch`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Gives a payload to the kernel, which decides.
pub fn run(device: &Path, path: &Path) -> Result<Answer> {
    let payload = file::read(path)?;
    let device = Device::open(device)?;
    // Asked first, so that a device that is not kcare's is never told to change something.
    let before = State::of(&device)?;
    device
        .apply(&payload)
        .map_err(|refusal| explain_apply(&refusal, path, &payload, &before))?;
    let state = State::of(&device)?;
    Ok(Answer {
        text: render(&state),
        state,
        exit_code: 0,
    })
}

fn render(state: &State) -> String {
    match &state.patch {
        Some(patch) => format!("Patch Level {} applied\nKernel is safe\n", patch.level),
        // Someone else took it back between our two questions.
        None => "Patch applied, and taken back since\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn the_trade_s_form() {
        assert_eq!(
            render(&fixtures::applied()),
            "Patch Level 9 applied\nKernel is safe\n"
        );
    }

    #[test]
    fn taken_back_in_between() {
        assert_eq!(
            render(&fixtures::nothing()),
            "Patch applied, and taken back since\n"
        );
    }
}
