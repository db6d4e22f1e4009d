// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --settle`: a level that does not crash the machine is on trial no more.

use clap::Args;

use crate::apply;
use crate::config::Config;
use crate::error::Result;
use crate::guard::Guard;
use crate::lock::Lock;
use crate::{Answer, System};

/// The command's options.
#[derive(Args)]
#[group(skip)]
pub struct Settle {
    /// End the trial of a patch level that was applied longer than CRASH_WINDOW ago
    #[arg(long, group = "command")]
    pub settle: bool,

    /// With --settle: the machine is being shut down in order, which no level has crashed
    #[arg(long, requires = "settle")]
    pub shutdown: bool,
}

/// Ends the trial, if it is time.
///
/// # Errors
///
/// [`Kind::Disk`](crate::error::Kind).
pub fn run(system: &System, settle: &Settle) -> Result<Answer> {
    let folder = system.root.join(apply::STATE);
    if !folder.exists() {
        return Answer::now(system, String::new(), 0);
    }
    let _lock = Lock::take(&folder)?;
    let mut guard = Guard::read(system)?;
    guard.remember(system)?;
    match settle.shutdown {
        true => guard.clear(system)?,
        false => apply::settle(system, &Config::read(&system.root)?, &mut guard)?,
    }
    Answer::now(system, String::new(), 0)
}
