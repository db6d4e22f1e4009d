// SPDX-License-Identifier: GPL-2.0

//! `kcare-push FILE`.

use std::path::PathBuf;

use clap::Args;
use kcare_payload::revocation::Revocation;
use kcare_payload::uapi::{APPLY_DOWNGRADE, APPLY_DRY_RUN};

use crate::device::Device;
use crate::error::{Error, Result};
use crate::explain::explain_apply;
use crate::state::State;
use crate::{file, revoke, Answer, System};

/// The program's argument and option.
#[derive(Args)]
#[group(skip)]
pub struct Push {
    /// The payload, a file that ends in `.kpatch`, or a revocation record, which ends in `.revoked`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Let a lower patch level replace the applied one
    #[arg(long)]
    pub downgrade: bool,

    /// Do everything short of the switch, tell which tasks are inside functions that change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Gives a payload or a revocation record to the kernel, which decides.
pub fn run(system: &System, push: &Push) -> Result<Answer> {
    let path = &push.file;
    let payload = file::read(path)?;
    let device = Device::open(&system.device)?;
    let before = State::gather(system)?;
    if Revocation::is_meant(&payload) {
        if push.downgrade || push.dry_run {
            return Err(Error::user(format!(
                "{} is a revocation record, which takes no options.",
                path.display()
            ))
            .hint("push it without options."));
        }
        let said = revoke::give(&device, path, &payload, &before)?;
        let mut answer = Answer::now(system, format!("Revocation record taken: {said}\n"), 0)?;
        answer.state.note = Some(said);
        return Ok(answer);
    }
    let flag = |wanted, flag| if wanted { flag } else { 0 };
    let flags = flag(push.downgrade, APPLY_DOWNGRADE) | flag(push.dry_run, APPLY_DRY_RUN);
    let said = device
        .apply(&payload, flags)
        .map_err(|refusal| explain_apply(&refusal, path, &payload, &before))?;
    let state = State::gather(system)?;
    if push.dry_run {
        let text = format!("The patch can be applied; nothing has changed\n{said}\n");
        let mut answer = Answer::new(state, text, 0);
        answer.state.note = Some(said);
        return Ok(answer);
    }
    let text = render(&before, &state);
    Ok(Answer::new(state, text, 0).with_note(&said))
}

/// Not a word of safety behind a downgrade: the level that was left may have closed a hole.
fn render(before: &State, state: &State) -> String {
    match (&before.patch, &state.patch) {
        (Some(former), Some(patch)) if former.level > patch.level => format!(
            "Patch Level {} applied\nDowngraded from patch level {}\n",
            patch.level, former.level
        ),
        (_, Some(patch)) => format!("Patch Level {} applied\nKernel is safe\n", patch.level),
        // Someone else took it back between our two questions.
        (_, None) => "Patch applied, and taken back since\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn the_trade_s_form() {
        for before in [fixtures::nothing(), fixtures::rolled_back()] {
            assert_eq!(
                render(&before, &fixtures::applied()),
                "Patch Level 9 applied\nKernel is safe\n"
            );
        }
    }

    #[test]
    fn a_downgrade_tells_both_levels() {
        assert_eq!(
            render(&fixtures::applied(), &fixtures::rolled_back()),
            "Patch Level 8 applied\nDowngraded from patch level 9\n"
        );
    }

    #[test]
    fn taken_back_in_between() {
        assert_eq!(
            render(&fixtures::applied(), &fixtures::nothing()),
            "Patch applied, and taken back since\n"
        );
    }
}
