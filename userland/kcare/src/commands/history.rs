// SPDX-License-Identifier: GPL-2.0

//! `kcarectl --history`.

use clap::Args;
use kcare_payload::uapi::What;

use crate::error::Result;
use crate::state::{not_loaded, Event, State};
use crate::{journal, text, Answer, System};

/// The command's option.
#[derive(Args)]
#[group(skip)]
pub struct History {
    /// List what has been applied, taken back and refused: since the kcare module was loaded, and by this program in
    /// earlier boots
    #[arg(long, group = "command")]
    pub history: bool,
}

/// Asks the kernel.
pub fn run(system: &System) -> Result<Answer> {
    let mut state = State::gather(system)?;
    let earlier = journal::of_other_boots(system).into_iter();
    let mut events: Vec<Event> = earlier.map(|line| line.event).collect();
    if state.module.is_none() && events.is_empty() {
        return Err(not_loaded());
    }
    events.append(state.history.get_or_insert_default());
    state.history = Some(events);
    let text = render(state.history.as_deref().unwrap_or_default());
    Ok(Answer::new(state, text, 0))
}

/// One line for each event, the oldest first.
fn render(events: &[Event]) -> String {
    if events.is_empty() {
        return "Nothing has been applied since the kcare module was loaded\n".to_owned();
    }
    let line = |event: &Event| {
        let level = |level: u32| match level {
            0 => "none".to_owned(),
            level => level.to_string(),
        };
        let levels = format!("{} -> {}", level(event.before), level(event.level));
        let result = event.refused.as_deref().unwrap_or("ok");
        let time = text::ctime(event.time);
        let (what, module) = match &event.module {
            Some(module) => match event.what.split_once('-') {
                Some((what, became)) => (what, format!("  {module} {became}")),
                None => (event.what.as_str(), format!("  {module}")),
            },
            None if event.what == What::Complete.name() => (
                event.what.as_str(),
                "  the last task has left former code".to_owned(),
            ),
            None => (event.what.as_str(), String::new()),
        };
        format!("{time} UTC  {what:<8}  {levels:<14}  {result}{module}\n")
    };
    events.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: &str, before: u32, level: u32, refused: Option<&str>) -> Event {
        Event {
            time: 1_795_515_120,
            what: what.to_owned(),
            module: None,
            level,
            before,
            refused: refused.map(str::to_owned),
        }
    }

    #[test]
    fn nothing_yet() {
        assert!(render(&[]).starts_with("Nothing has been applied"));
    }

    #[test]
    fn a_module_that_comes_and_goes() {
        let of = |what: &str, refused| Event {
            module: Some("zram".to_owned()),
            ..event(what, 1, 1, refused)
        };
        let events = [
            of("module-came", None),
            of("module-went", None),
            of("module-came", Some("preimage-mismatch")),
        ];
        assert_eq!(
            render(&events),
            "Tue Nov 24 10:12:00 2026 UTC  module    1 -> 1          ok  zram came\n\
             Tue Nov 24 10:12:00 2026 UTC  module    1 -> 1          ok  zram went\n\
             Tue Nov 24 10:12:00 2026 UTC  module    1 -> 1          preimage-mismatch  zram came\n"
        );
    }

    #[test]
    fn the_end_of_a_transition() {
        assert_eq!(
            render(&[event("complete", 9, 9, None), event("complete", 0, 0, None)]),
            "Tue Nov 24 10:12:00 2026 UTC  complete  9 -> 9          ok  the last task has left former code\n\
             Tue Nov 24 10:12:00 2026 UTC  complete  none -> none    ok  the last task has left former code\n"
        );
    }

    #[test]
    fn a_line_each() {
        let events = [
            event("apply", 0, 9, None),
            event("rollback", 9, 9, Some("no-previous")),
            event("unload", 9, 0, None),
        ];
        assert_eq!(
            render(&events),
            "Tue Nov 24 10:12:00 2026 UTC  apply     none -> 9       ok\n\
             Tue Nov 24 10:12:00 2026 UTC  rollback  9 -> 9          no-previous\n\
             Tue Nov 24 10:12:00 2026 UTC  unload    9 -> none       ok\n"
        );
    }
}
