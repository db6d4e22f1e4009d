// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --unload`.

use clap::Args;

use crate::device::Device;
use crate::error::Result;
use crate::explain::explain_take_back;
use crate::state::State;
use crate::{apply, Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct Unload {
    /// Take the applied patch back; the kernel then runs its original code
    #[arg(long, group = "command")]
    pub unload: bool,
}

/// Tells the kernel to take the live level back.
pub fn run(system: &System) -> Result<Answer> {
    let device = Device::open(&system.device)?;
    let before = State::gather(system)?;
    let said = device
        .unload()
        .map_err(|refusal| explain_take_back("cannot unload", &refusal, &before))?;
    let state = State::gather(system)?;
    apply::taken_back(system, "unload", before.level(), state.level());
    let text = "KernelCare protection disabled, kernel might not be safe\n".to_owned();
    Ok(Answer::new(state, text, 0).with_note(&said))
}
