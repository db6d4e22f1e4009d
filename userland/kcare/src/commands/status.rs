// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --status`.

use clap::Args;

use crate::error::Result;
use crate::service::Service;
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
    state.service = Some(Service::gather(system, &state)?);
    let text = render(&state);
    let exit_code = exit_code(&state);
    Ok(Answer::new(state, text, exit_code))
}

/// The trade's answers: 0 up to date, 1 nothing applied, 2 not up to date as far as is known, 3 nothing can be applied.
fn exit_code(state: &State) -> u8 {
    let service = state.service.clone().unwrap_or_default();
    let behind = || {
        service.to_come(state.level()).is_some() || service.withdrawn || service.expired.is_some()
    };
    match (&state.patch, &state.module) {
        (Some(_), _) if service.coverage_ended => 3,
        (Some(_), _) if behind() => 2,
        (Some(_), _) => 0,
        (None, Some(_)) if service.unsupported => 3,
        (None, Some(_)) => 1,
        (None, None) => 3,
    }
}

fn render(state: &State) -> String {
    let service = &state.service.clone().unwrap_or_default();
    let verdict = match (&state.patch, &state.module) {
        (Some(patch), _) => match service.to_come(patch.level) {
            Some(newer) => format!(
                "Protected: patch level {} is applied, and patch level {newer} is not yet",
                patch.level
            ),
            None if service.coverage_ended => format!(
                "Protected up to now: patch level {} is applied, and this kernel gets no more",
                patch.level
            ),
            None if service.withdrawn => {
                format!("Patch level {} is applied, and was withdrawn", patch.level)
            }
            None => format!("Protected: patch level {} is applied", patch.level),
        },
        (None, _) if service.container => {
            "Not known: this is a container, and the kernel is its host's".to_owned()
        }
        (None, Some(_)) if service.unsupported => {
            "Not protected: the vendor does not support this kernel".to_owned()
        }
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
    if let Some(transition) = &state.transition {
        let head = transition.head();
        lines.push(format!("  old calls  {head}, which no other task runs"));
        let tasks = transition.lines().into_iter();
        lines.extend(tasks.map(|line| format!("             {line}")));
    }
    if let Some(module) = &state.module {
        if module.stop_last > 0 {
            let (last, longest) = (
                text::micros(module.stop_last),
                text::micros(module.stop_max),
            );
            // One switch may take several stops.
            let all = match module.stop_sum {
                Some(sum) if sum > module.stop_last => {
                    format!(", last switch {} in all", text::micros(sum))
                }
                _ => String::new(),
            };
            lines.push(format!("  last stop  {last}, longest {longest}{all}"));
        }
        if module.failures > 0 {
            lines.push(format!("  failures   {}, see `dmesg`", module.failures));
        }
        for certificate in &module.revoked {
            lines.push(format!("  revoked    {certificate}"));
        }
    }
    lines.extend(known(state, service));
    lines.push(match hint(state, service) {
        Some(hint) => format!("Hint: {hint}"),
        None => return lines.join("\n") + "\n",
    });
    lines.join("\n") + "\n"
}

/// What is known of updates and is not as usual.
fn known(state: &State, service: &Service) -> Vec<String> {
    let mut lines = Vec::new();
    for level in &service.held {
        lines.push(format!(
            "  held       patch level {level} was live when this machine went down, and is not applied by itself"
        ));
    }
    if let Some(level) = service.sticky {
        lines.push(format!(
            "  sticky     no patch level above {level} is taken (STICKY_PATCH)"
        ));
    }
    if let (Some(newest), Some(patch)) = (service.newest, &state.patch) {
        if service.withdrawn {
            lines.push("  withdrawn  the vendor has taken this patch level back".to_owned());
        } else if newest < patch.level {
            lines.push(format!(
                "  ahead      the server has patch level {newest} so far"
            ));
        }
    }
    // What is held, or above STICKY_PATCH, is told above.
    let is_news = |newest: &u32| {
        *newest > state.level()
            && !service.held.contains(newest)
            && service.sticky.is_none_or(|sticky| *newest <= sticky)
    };
    if let (Some(newest), Some(why)) = (service.newest.filter(is_news), &service.kept_back) {
        lines.push(format!("  not taken  patch level {newest}: {why}"));
    }
    if let Some(time) = &service.expired {
        lines.push(format!(
            "  unknown    what the server has now: the last that was heard of it was good until {time}"
        ));
    }
    if let Some(day) = &service.covered_until {
        lines.push(match service.coverage_ended {
            true => format!("  covered    no more: it ended on {day}"),
            false => format!("  covered    until {day}"),
        });
    }
    if !service.channel.is_empty() {
        lines.push(format!("  channel    {}", service.channel));
    }
    if service.auto_update == Some(false) {
        lines.push("  updates    are not automatic (AUTO_UPDATE)".to_owned());
    }
    if service.stopped {
        lines.push("  stopped    by kcare.mode= on the kernel's command line".to_owned());
    }
    lines
}

/// The next step, if there is one.
fn hint(state: &State, service: &Service) -> Option<&'static str> {
    match (&state.patch, &state.module) {
        _ if service.container => Some("install kcare on the host."),
        (None, None) => {
            Some("load it with `modprobe kcare`; `kcarectl --doctor` tells what is in the way.")
        }
        _ if service.unsupported => Some("boot a kernel that the vendor supports."),
        (Some(_), _) if service.coverage_ended => Some("boot a newer kernel."),
        (Some(_), _) if service.withdrawn => {
            Some("go back with `kcarectl --rollback` or `kcarectl --unload`.")
        }
        _ if service.expired.is_some() => {
            Some("see what keeps the server from being asked with `kcarectl --doctor`.")
        }
        _ if service.stopped => Some(
            "boot without kcare.mode=, or apply a patch level with `kcarectl --update --force`.",
        ),
        (Some(patch), _) if service.to_come(patch.level).is_some() => {
            Some("apply it with `kcarectl --update`.")
        }
        (Some(_), _) => None,
        (None, Some(_)) if !service.held.is_empty() => {
            Some("apply a held patch level all the same with `kcarectl --update --force`.")
        }
        (None, Some(_)) => {
            Some("get one with `kcarectl --update`, or apply a payload with `kcare-push FILE`.")
        }
    }
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
    fn tasks_in_former_code_are_a_note() {
        let state = fixtures::straggling();
        let text = render(&state);
        assert!(
            text.starts_with("Protected: patch level 9 is applied\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "\n  old calls  2 tasks are in former code, which no other task runs\n\
                 \x20            task 431 (evfd) of uid 1000 in eventfd_read+0x17a since \
                 Tue Nov 24 10:12:05 2026 UTC, sees patch level 8\n"
            ),
            "{text}"
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
    fn what_is_known_of_updates() {
        let mut state = fixtures::applied();
        let service = Service {
            newest: Some(10),
            allowed: Some(10),
            ..Service::default()
        };
        state.service = Some(service.clone());
        assert_eq!(exit_code(&state), 2);
        assert!(render(&state)
            .starts_with("Protected: patch level 9 is applied, and patch level 10 is not yet\n"));
        // It crashed the machine, or the settings do not want it.
        state.service = Some(Service {
            allowed: Some(9),
            held: vec![10],
            sticky: Some(9),
            ..service.clone()
        });
        assert_eq!(exit_code(&state), 0);
        let text = render(&state);
        assert!(
            text.contains("  held       patch level 10 was live"),
            "{text}"
        );
        assert!(
            text.contains("  sticky     no patch level above 9"),
            "{text}"
        );
        // The server has less than is live.
        let ahead = Service {
            newest: Some(8),
            allowed: Some(8),
            ..service.clone()
        };
        state.service = Some(ahead.clone());
        assert_eq!(exit_code(&state), 0);
        assert!(render(&state).contains("  ahead      the server has patch level 8 so far\n"));
        // Because it was a bad one.
        state.service = Some(Service {
            withdrawn: true,
            ..ahead
        });
        assert_eq!(exit_code(&state), 2);
        assert!(render(&state).starts_with("Patch level 9 is applied, and was withdrawn\n"));
        // It has to wait.
        state.service = Some(Service {
            allowed: Some(9),
            kept_back: Some("it is taken later".to_owned()),
            ..service.clone()
        });
        assert_eq!(exit_code(&state), 0);
        assert!(render(&state).contains("  not taken  patch level 10: it is taken later\n"));
        // Nobody has heard of the server for long.
        let silent = Service {
            newest: Some(9),
            allowed: Some(9),
            expired: Some("2026-11-30T00:00:00Z".to_owned()),
            covered_until: Some("2026-11-29".to_owned()),
            ..service
        };
        state.service = Some(silent.clone());
        assert_eq!(exit_code(&state), 2);
        assert!(render(&state).contains("good until 2026-11-30T00:00:00Z\n"));
        // The vendor has stopped.
        state.service = Some(Service {
            coverage_ended: true,
            ..silent
        });
        assert_eq!(exit_code(&state), 3);
        assert!(render(&state).ends_with("Hint: boot a newer kernel.\n"));
    }

    #[test]
    fn unsupported_and_in_a_container() {
        let mut state = fixtures::nothing();
        state.service = Some(Service {
            unsupported: true,
            ..Service::default()
        });
        assert_eq!(exit_code(&state), 3);
        assert!(render(&state).starts_with("Not protected: the vendor does not support"));
        let mut state = fixtures::not_loaded();
        state.service = Some(Service {
            container: true,
            ..Service::default()
        });
        assert_eq!(exit_code(&state), 3);
        assert!(render(&state).ends_with("Hint: install kcare on the host.\n"));
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
