// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --uname`, and `kcare-uname -r`.

use clap::Args;

use crate::error::{Error, Result};
use crate::state::State;
use crate::{Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct Uname {
    /// Print the version of the kernel's package whose fixes are all in, for scanners
    #[arg(long, group = "command")]
    pub uname: bool,
}

/// Reads what is applied.
///
/// # Errors
///
/// [`Kind::Config`](crate::error::Kind) if neither the level nor the running kernel tells a version: it is never guessed.
pub fn run(system: &System) -> Result<Answer> {
    let mut state = State::gather(system)?;
    state.history = None;
    match state.effective_version() {
        Some(version) => {
            let text = format!("{version}\n");
            Ok(Answer::new(state, text, 0))
        }
        None => Err(
            Error::config("the running kernel does not tell the version of its package.")
                .detail(format!("it is {}", state.kernel.version))
                .hint("only Debian's kernels tell it; compare `uname -r` in place of this."),
        ),
    }
}
