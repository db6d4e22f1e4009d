// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --info`.

use clap::Args;

use crate::error::Result;
use crate::guard::Guard;
use crate::state::State;
use crate::stragglers::Transition;
use crate::{text, Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct Info {
    /// Show what is applied: for which kernel, when it was built, and its level
    #[arg(short, long, group = "command")]
    pub info: bool,
}

/// Asks the kernel.
pub fn run(system: &System) -> Result<Answer> {
    let mut state = State::gather(system)?;
    state.history = None;
    let held = Guard::read(system)
        .map(|guard| guard.held_of(&state.kernel.hash()))
        .unwrap_or_default();
    let text = render(&state) + &held.into_iter().map(held_line).collect::<String>();
    let exit_code = exit_code(&state);
    Ok(Answer::new(state, text, exit_code))
}

/// 0 only if a patch is live.
fn exit_code(state: &State) -> u8 {
    match (&state.patch, &state.module) {
        (Some(_), _) => 0,
        (None, Some(_)) => 1,
        (None, None) => 3,
    }
}

fn held_line(level: u32) -> String {
    format!("kpatch-held: level {level} was live when this machine went down, and is not applied by itself\n")
}

/// The trade's four lines, and behind them what the trade does not know.
pub(super) fn render(state: &State) -> String {
    let mut text = trade(state);
    if let Some(module) = &state.module {
        for certificate in &module.revoked {
            text += &format!("kpatch-revoked: {certificate}\n");
        }
    }
    if let Some(transition) = &state.transition {
        text += &stragglers_line(transition);
        for line in transition.lines() {
            text += &format!("kpatch-straggler: {line}\n");
        }
    }
    text
}

/// How many tasks see former code.
pub(super) fn stragglers_line(transition: &Transition) -> String {
    format!("kpatch-stragglers: {}\n", transition.count)
}

fn trade(state: &State) -> String {
    match (&state.patch, &state.module) {
        (Some(patch), _) => format!(
            "kpatch-state: patch is applied\n\
             kpatch-for: {}\n\
             kpatch-build-time: {}\n\
             kpatch-description: {}\n",
            state.kernel.version,
            text::ctime(patch.build_time),
            patch.description,
        ),
        (None, Some(_)) => "kpatch-state: no patch applied\n".to_owned(),
        (None, None) => {
            "kpatch-state: no patch applied (the kcare module is not loaded)\n".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures;

    #[test]
    fn the_trade_s_form() {
        let text = render(&fixtures::applied());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "kpatch-state: patch is applied");
        assert!(
            lines[1].starts_with("kpatch-for: Linux version 7.2.12+deb13-cloud-amd64 ("),
            "{text}"
        );
        assert!(lines[1].ends_with("(2026-11-12)"), "{text}");
        assert_eq!(lines[2], "kpatch-build-time: Mon Nov 23 10:12:00 2026");
        assert_eq!(lines[3], "kpatch-description: 9;7.2.12-1");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn tasks_in_former_code() {
        let (text, usual) = (
            render(&fixtures::straggling()),
            render(&fixtures::applied()),
        );
        let lines: Vec<_> = text.strip_prefix(&usual).unwrap().lines().collect();
        assert_eq!(lines[0], "kpatch-stragglers: 2");
        assert!(lines[1].starts_with("kpatch-straggler: task 431 (evfd) of uid 1000 in "));
        assert!(
            lines[2].ends_with(", sees the kernel's original code"),
            "{text}"
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn certificates_that_were_revoked() {
        let mut state = fixtures::applied();
        state.module.as_mut().unwrap().revoked = vec!["CN=old, sha256 5a".to_owned()];
        let (text, usual) = (render(&state), render(&fixtures::applied()));
        assert_eq!(
            text.strip_prefix(&usual),
            Some("kpatch-revoked: CN=old, sha256 5a\n")
        );
    }

    #[test]
    fn without_a_patch() {
        assert_eq!(
            render(&fixtures::nothing()),
            "kpatch-state: no patch applied\n"
        );
        assert_eq!(
            render(&fixtures::not_loaded()),
            "kpatch-state: no patch applied (the kcare module is not loaded)\n"
        );
    }
}
