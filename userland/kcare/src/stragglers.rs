// SPDX-License-Identifier: GPL-2.0

//! Tasks that were inside code when a switch put it out of use: they finish their old calls there, and everybody else
//! sees the new code.

use serde::{Deserialize, Serialize};

use crate::text;

/// Stragglers that are shown to people; `--json` has all of them.
const SHOWN: usize = 8;
/// What follows the number in the kernel's answer to a request.
const IN_ANSWER: &str = " task(s) finish old calls:";

/// A switch that is not complete: some tasks see former code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// How many tasks do.
    pub count: u64,
    /// Which they are.
    pub stragglers: Vec<Straggler>,
    /// Lines of the module about them that this program cannot read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// A task that sees former code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Straggler {
    /// Its number.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// The level whose code it sees, 0 for the kernel's original code.
    pub level: u32,
    /// Where it was found: `eventfd_read+0x17a`.
    pub function: String,
    /// Its name, which it chooses itself.
    pub name: String,
}

impl Straggler {
    /// Reads what follows `straggler: ` in the device's text: `PID UID SINCE LEVEL WHERE NAME`; the name may have blanks.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let mut next = || words.next();
        Some(Self {
            pid: next()?.parse().ok()?,
            uid: next()?.parse().ok()?,
            since: next()?.parse().ok()?,
            level: next()?.parse().ok()?,
            function: next().filter(|word| !word.is_empty())?.to_owned(),
            name: next()?.to_owned(),
        })
    }

    /// `task 431 (evfd) of uid 1000 in eventfd_read+0x17a`.
    pub fn whose(&self) -> String {
        let Self {
            pid,
            uid,
            function,
            name,
            ..
        } = self;
        format!("task {pid} ({name}) of uid {uid} in {function}")
    }

    /// The same, since when, and what it sees.
    fn line(&self) -> String {
        let sees = match self.level {
            0 => "the kernel's original code".to_owned(),
            level => format!("patch level {level}"),
        };
        let since = text::ctime(self.since);
        format!("{} since {since} UTC, sees {sees}", self.whose())
    }
}

impl Transition {
    /// Reads the device's text; `None` if no transition is open. A line that cannot be read is kept as it is.
    pub fn parse(text: &str) -> Option<Self> {
        let mut found = None::<Self>;
        let mut count = None;
        for line in text.lines() {
            let Some((name @ ("transition" | "stragglers" | "straggler"), value)) =
                line.split_once(':')
            else {
                continue;
            };
            let value = value.strip_prefix(' ').unwrap_or(value);
            let found = found.get_or_insert_default();
            let number = value.parse().ok();
            match (name, Straggler::parse(value)) {
                ("transition", _) if value == "open" => {}
                ("stragglers", _) if number.is_some() => count = number,
                ("straggler", Some(straggler)) => found.stragglers.push(straggler),
                _ => found.unreadable.push(line.to_owned()),
            }
        }
        let mut found = found?;
        found.count = count.unwrap_or(found.stragglers.len() as u64);
        Some(found)
    }

    /// `2 tasks are in former code`.
    pub fn head(&self) -> String {
        match self.count {
            1 => "1 task is in former code".to_owned(),
            count => format!("{count} tasks are in former code"),
        }
    }

    /// One line for each task, or for the first ones.
    pub fn lines(&self) -> Vec<String> {
        let shown = self.stragglers.iter().take(SHOWN);
        let mut lines: Vec<String> = shown.map(Straggler::line).collect();
        if let more @ 1.. = self.count.saturating_sub(lines.len() as u64) {
            lines.push(format!("{more} more, see `kcarectl --status --json`"));
        }
        let unreadable = self.unreadable.iter();
        lines.extend(unreadable.map(|line| format!("not understood: {line}")));
        lines
    }
}

/// What the kernel has said in an answer to a request that was done, in plain words, if anything.
pub fn note(said: &str) -> Option<String> {
    let said = said.trim_end().trim_end_matches(';');
    let parts = said.split_once(IN_ANSWER);
    let parts = parts.and_then(|(count, tasks)| Some((count.parse::<u64>().ok()?, tasks)));
    match parts {
        // They have left meanwhile.
        Some((0, _)) => None,
        Some((1, tasks)) => Some(format!(
            "1 task finishes an old call, and sees the former code until then:{tasks}"
        )),
        Some((count, tasks)) => Some(format!(
            "{count} tasks finish old calls, and see the former code until then:{tasks}"
        )),
        None => Some(said.to_owned()).filter(|said| !said.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "state: applied\ntransition: open\nstragglers: 2\n\
                        straggler: 431 1000 1795515125 8 eventfd_read+0x17a evfd\n\
                        straggler: 77 0 1795515000 0 pipe_read+0x3 my  own name \n\
                        stop-last-ns: 1\nfix: - straggler: 1 2 3 4 x y\n";

    #[test]
    fn each_line_becomes_a_task() {
        let found = Transition::parse(TEXT).unwrap();
        assert_eq!(found.count, 2);
        assert_eq!(found.unreadable, [""; 0]);
        let [first, second] = &found.stragglers[..] else {
            panic!("{found:?}");
        };
        assert_eq!((first.pid, first.uid, first.level), (431, 1000, 8));
        assert_eq!(
            (second.since, second.name.as_str()),
            (1_795_515_000, "my  own name ")
        );
        assert_eq!(
            found.lines(),
            [
                "task 431 (evfd) of uid 1000 in eventfd_read+0x17a since Tue Nov 24 10:12:05 2026 UTC, sees patch level 8",
                "task 77 (my  own name ) of uid 0 in pipe_read+0x3 since Tue Nov 24 10:10:00 2026 UTC, \
                 sees the kernel's original code",
            ]
        );
        assert_eq!(found.head(), "2 tasks are in former code");
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["stragglers"][0]["function"], "eventfd_read+0x17a");
        assert_eq!(json.get("unreadable"), None);
        assert_eq!(serde_json::from_value::<Transition>(json).unwrap(), found);
    }

    #[test]
    fn without_such_lines_no_transition_is_open() {
        assert_eq!(Transition::parse(""), None);
        assert_eq!(
            Transition::parse("state: applied\nfix: - transition: open\n"),
            None
        );
    }

    #[test]
    fn a_task_without_a_name() {
        let found = Transition::parse("straggler: 1 2 3 4 x ").unwrap();
        assert_eq!(found.stragglers[0].name, "");
    }

    #[test]
    fn what_cannot_be_read_is_shown() {
        for line in [
            "straggler:",
            "straggler: ",
            "straggler: 431",
            "straggler: 431 1000 1795515125 8",
            "straggler: 431 1000 1795515125 8 eventfd_read+0x17a",
            "straggler: 431 1000 1795515125 8  evfd",
            "straggler: -1 1000 1795515125 8 eventfd_read+0x17a evfd",
            "straggler: 431 root 1795515125 8 eventfd_read+0x17a evfd",
            "straggler: 431 1000 18446744073709551616 8 eventfd_read+0x17a evfd",
            "straggler: 431 1000 1795515125 4294967296 eventfd_read+0x17a evfd",
            "straggler:  431 1000 1795515125 8 eventfd_read+0x17a evfd",
            "stragglers:",
            "stragglers: many",
            "stragglers: -1",
            "transition: closing",
            "transition:",
        ] {
            let found = Transition::parse(&format!("{TEXT}{line}\n")).unwrap();
            assert_eq!(found.unreadable, [line]);
            assert_eq!((found.count, found.stragglers.len()), (2, 2), "{line}");
            let shown = found.lines();
            assert_eq!(shown[2..], [format!("not understood: {line}")]);
        }
    }

    #[test]
    fn without_a_number_those_that_are_named_count() {
        let text = TEXT.replace("stragglers: 2\n", "");
        assert_eq!(Transition::parse(&text).unwrap().count, 2);
    }

    #[test]
    fn of_many_the_first_ones_are_shown() {
        let line = "straggler: 431 1000 1795515125 8 eventfd_read+0x17a evfd\n";
        let found = Transition::parse(&format!("stragglers: 300\n{}", line.repeat(100))).unwrap();
        assert_eq!(found.stragglers.len(), 100);
        let lines = found.lines();
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[8], "292 more, see `kcarectl --status --json`");
    }

    #[test]
    fn the_kernel_s_answer_in_plain_words() {
        let tasks = " task 431 (evfd) of uid 1000 in eventfd_read+0x17a; task 77 (a; b) of uid 0 in pipe_read+0x3;";
        assert_eq!(
            note(&format!("2 task(s) finish old calls:{tasks}")).unwrap(),
            "2 tasks finish old calls, and see the former code until then: \
             task 431 (evfd) of uid 1000 in eventfd_read+0x17a; task 77 (a; b) of uid 0 in pipe_read+0x3"
        );
        assert_eq!(
            note(
                "1 task(s) finish old calls: task 431 (evfd) of uid 1000 in eventfd_read+0x17a;\n"
            )
            .unwrap(),
            "1 task finishes an old call, and sees the former code until then: \
             task 431 (evfd) of uid 1000 in eventfd_read+0x17a"
        );
        assert_eq!(
            note(&format!("10 task(s) finish old calls:{tasks} and 8 more"))
                .unwrap()
                .split("; ")
                .last(),
            Some("and 8 more")
        );
        // They have left meanwhile, or there was nothing to say.
        assert_eq!(note("0 task(s) finish old calls:"), None);
        assert_eq!(note(""), None);
        // Words that this program does not know.
        for other in ["the moon is full", "x task(s) finish old calls: y"] {
            assert_eq!(note(other).as_deref(), Some(other));
        }
    }
}
