// SPDX-License-Identifier: GPL-2.0

//! From a verified payload to a live level: the guard, the kernel, the history.

use std::path::PathBuf;

use kcare_payload::uapi::APPLY_DRY_RUN;
use kcare_tuf::level::{payload_name, Record};
use kcare_tuf::time::Time;

use crate::config::Config;
use crate::device::Device;
use crate::error::Result;
use crate::explain::explain_apply;
use crate::guard::Guard;
use crate::lock::Lock;
use crate::state::State;
use crate::{journal, System};

/// Root's folder, below the root of the system; its lock is that of everything that changes what is live.
pub const STATE: &str = "var/lib/kcare";

/// Gives a payload to the kernel, and returns what that has to say; the level is on trial from before that on.
///
/// # Errors
///
/// The kernel refuses it, or the disk does not take the trial; what was live stays.
pub fn push(
    system: &System,
    level: &Record,
    payload: &[u8],
    guard: &mut Guard,
    before: &State,
) -> Result<String> {
    let device = Device::open(&system.device)?;
    guard.begin(
        system,
        &level.kernel,
        level.level,
        Time::now().unix_seconds(),
    )?;
    let said = match device.apply(payload, 0) {
        Ok(said) => said,
        Err(refusal) => {
            let live = before.level();
            journal::note(system, "apply", live, live, Some(&refusal.name));
            // Nothing was pushed: the level is not to blame for what comes.
            guard.clear(system)?;
            let name = PathBuf::from(payload_name(level.level));
            return Err(explain_apply(&refusal, &name, payload, before));
        }
    };
    journal::note(system, "apply", before.level(), level.level, None);
    Ok(said)
}

/// Remembers that a level was taken back: it is on trial no more. What is live does not depend on this, so that a disk
/// that is full does not keep anybody from taking a level back.
pub fn taken_back(system: &System, what: &str, before: u32, now: u32) {
    let folder = system.root.join(STATE);
    if !folder.exists() {
        return;
    }
    journal::note(system, what, before, now, None);
    let _ = Lock::take(&folder).and_then(|_lock| Guard::read(system)?.clear(system));
}

/// Lets the kernel do everything short of the switch; returns what that has to say.
///
/// # Errors
///
/// The kernel would refuse it.
pub fn dry_run(system: &System, level: &Record, payload: &[u8], before: &State) -> Result<String> {
    let device = Device::open(&system.device)?;
    let name = PathBuf::from(payload_name(level.level));
    let said = device
        .apply(payload, APPLY_DRY_RUN)
        .map_err(|refusal| explain_apply(&refusal, &name, payload, before))?;
    Ok(format!(
        "Patch level {} can be applied; nothing has changed\n{said}\n",
        level.level
    ))
}

/// Ends the trial of a level that has been live for long enough.
///
/// # Errors
///
/// [`Kind::Disk`](crate::error::Kind).
pub fn settle(system: &System, config: &Config, guard: &mut Guard) -> Result<()> {
    guard.settle(system, config.crash_window, Time::now().unix_seconds())
}
