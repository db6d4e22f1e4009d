// SPDX-License-Identifier: GPL-2.0

//! Commands of other agents that have nothing to do here: scripts for those go on working.

use clap::Args;

use crate::error::Result;
use crate::{Answer, System};

/// The commands' options.
#[derive(Args)]
#[group(skip)]
pub struct Register {
    /// Accepted for scripts of other agents: kcare registers nothing, and asks for no key
    #[arg(long, value_name = "KEY", group = "command")]
    pub register: Option<String>,

    /// Accepted like --register
    #[arg(long, group = "command")]
    pub unregister: bool,

    /// Accepted like --register
    #[arg(long, group = "command")]
    pub license_info: bool,
}

impl Register {
    /// Whether one of the commands was asked for.
    pub fn asked(&self) -> bool {
        self.register.is_some() || self.unregister || self.license_info
    }
}

/// Says that there is nothing to do.
///
/// # Errors
///
/// Those of [`Answer::now`].
pub fn run(system: &System, register: &Register) -> Result<Answer> {
    let text = match register.license_info {
        true => "No license is needed\n",
        false => "Nothing is registered: kcare tells the server nothing of this machine\n",
    };
    Answer::now(system, text.to_owned(), 0)
}
