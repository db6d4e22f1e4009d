// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --status`.

use clap::Args;

use crate::error::Result;
use crate::state::{PatchedModule, State};
use crate::{text, Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct Status {
    /// Tell whether this kernel is protected, for people and by the exit status
    #[arg(long, group = "command")]
    pub status: bool,
}

/// Asks the kernel.
pub fn run(system: &System) -> Result<Answer> {
    let mut state = State::gather(system)?;
    state.history = None;
    Ok(Answer {
        text: render(&state),
        exit_code: exit_code(&state),
        state,
    })
}

/// Of the commands that tell whether something is applied.
pub(super) fn exit_code(state: &State) -> u8 {
    match (&state.patch, &state.module) {
        (Some(_), _) => 0,
        (None, Some(_)) => 1,
        (None, None) => 3,
    }
}

fn render(state: &State) -> String {
    let verdict = match (&state.patch, &state.module) {
        (Some(patch), _) => format!("Protected: patch level {} is applied", patch.level),
        (None, Some(_)) => "Not protected: no patch is applied".to_owned(),
        (None, None) => "Not protected: the kcare module is not loaded".to_owned(),
    };
    let mut lines = vec![verdict];

    lines.push(match &state.kernel.build_id {
        Some(build_id) => format!(
            "  kernel     {} (build-id {build_id})",
            state.kernel.release
        ),
        None => format!("  kernel     {}", state.kernel.release),
    });
    if let Some(patch) = &state.patch {
        lines.push(format!("  patch      {}", patch.description));
        lines.push(format!(
            "  fixes      {}, in {} functions",
            patch.fixes.len(),
            patch.functions
        ));
        if !patch.modules.is_empty() {
            let module = |m: &PatchedModule| match m.loaded {
                true => m.name.clone(),
                false => format!("{} (not loaded)", m.name),
            };
            let modules: Vec<String> = patch.modules.iter().map(module).collect();
            lines.push(format!("  modules    {}", modules.join(", ")));
        }
        if let Some(previous) = patch.previous_level {
            lines.push(format!(
                "  previous   patch level {previous}, kept for `kcarectl --rollback`"
            ));
        }
        lines.push(format!(
            "  applied    {} UTC",
            text::ctime(patch.applied_time)
        ));
        lines.push(format!("  memory     {} KiB", patch.memory.div_ceil(1024)));
    }
    if let Some(module) = &state.module {
        if module.stop_last > 0 {
            let (last, longest) = (
                text::micros(module.stop_last),
                text::micros(module.stop_max),
            );
            lines.push(format!("  last stop  {last}, longest {longest}"));
        }
        if module.failures > 0 {
            lines.push(format!("  failures   {}, see `dmesg`", module.failures));
        }
    }
    match (&state.patch, &state.module) {
        (Some(_), _) => {}
        (None, Some(_)) => lines.push("Hint: apply a payload with `kcare-push FILE`.".to_owned()),
        (None, None) => lines.push("Hint: load it with `modprobe kcare`.".to_owned()),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn applied() {
        let state = fixtures::applied();
        assert_eq!(
            render(&state),
            include_str!("../../tests/fixtures/applied.status")
        );
        assert_eq!(exit_code(&state), 0);
    }

    #[test]
    fn modules() {
        let mut state = fixtures::applied();
        let module = |name: &str, loaded| PatchedModule {
            name: name.to_owned(),
            loaded,
        };
        let patch = state.patch.as_mut().unwrap();
        patch.modules = vec![module("ext4", true), module("xfs", false)];
        assert!(render(&state).contains("\n  modules    ext4, xfs (not loaded)\n"));
    }

    #[test]
    fn nothing_applied() {
        let state = fixtures::nothing();
        assert_eq!(
            render(&state),
            include_str!("../../tests/fixtures/nothing.status")
        );
        assert_eq!(exit_code(&state), 1);
    }

    #[test]
    fn not_loaded() {
        let state = fixtures::not_loaded();
        assert_eq!(
            render(&state),
            include_str!("../../tests/fixtures/not-loaded.status")
        );
        assert_eq!(exit_code(&state), 3);
    }
}
