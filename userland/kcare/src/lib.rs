// SPDX-License-Identifier: GPL-2.0

//! The agent of kcare, the library behind `kcarectl` and `kcare-push`.
//!
//! A command ([`commands`]) asks the kernel through [`device`], fills one serialisable [`state::State`]
//! and renders it; [`main`] prints that, or an [`error::Error`], and turns it into an exit code. Nothing
//! here decides whether a payload is good: the kernel does, and [`explain`] puts its refusal into words.

#![deny(unsafe_code)]

pub mod apply;
pub mod backoff;
pub mod boot;
pub mod cache;
pub mod cli;
pub mod commands;
pub mod config;
pub mod device;
pub mod error;
pub mod explain;
pub mod file;
pub mod guard;
pub mod host;
pub mod journal;
pub mod kernel;
pub mod lock;
pub mod mirror;
pub mod offer;
pub mod os;
pub mod proxy;
pub mod revoke;
#[cfg(test)]
mod sample;
pub mod server;
pub mod service;
pub mod state;
pub mod stragglers;
pub mod text;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use cli::Program;
use error::{Error, Failure, Kind};

/// The machine that a command works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Where its files are, `/`.
    pub root: PathBuf,
    /// The node of the kcare module.
    pub device: PathBuf,
}

#[cfg(test)]
impl System {
    /// A machine of a test, with its files below a folder and without a device.
    fn below(root: &std::path::Path) -> Self {
        Self {
            root: root.to_owned(),
            device: root.join("missing"),
        }
    }
}

/// What a command has to say when it succeeded.
pub struct Answer {
    /// What is applied now; `--json` prints it, unless the command has a document of its own.
    pub state: state::State,
    /// What `--json` prints in place of the state.
    pub document: Option<serde_json::Value>,
    /// The same for people, with a newline at the end.
    pub text: String,
    /// Exit code, below the codes of [`Kind`].
    pub exit_code: u8,
}

impl Answer {
    /// An answer that `--json` prints as the state.
    pub fn new(state: state::State, text: String, exit_code: u8) -> Self {
        Self {
            state,
            document: None,
            text,
            exit_code,
        }
    }

    /// With what is applied now, without its history.
    ///
    /// # Errors
    ///
    /// Those of [`state::State::gather`].
    pub fn now(system: &System, text: String, exit_code: u8) -> error::Result<Self> {
        let mut state = state::State::gather(system)?;
        state.history = None;
        Ok(Self::new(state, text, exit_code))
    }

    /// With what the kernel has said besides, if anything: a line for people, and a field of the state.
    pub fn with_note(mut self, said: &str) -> Self {
        self.state.note = stragglers::note(said);
        if let Some(note) = &self.state.note {
            self.text += &format!("Note: {note}\n");
        }
        self
    }

    /// `--json` prints this.
    pub fn with_document(mut self, document: serde_json::Value) -> Self {
        self.document = Some(document);
        self
    }
}

/// An error as `--json` prints it: in a field of its own, so that no answer looks like it.
#[derive(serde::Serialize)]
struct Complaint<'a> {
    error: &'a Failure,
}

/// Parses the command line, runs the command and prints what comes of it.
pub fn main<P: Program>() -> ExitCode {
    // What is kept is for everybody to read, so that every user gets the same answers; what is not has a mode of its own.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let (output, exit_code) = match P::try_parse() {
        Ok(program) => run(&program),
        Err(usage) if usage.use_stderr() => {
            complain(&usage.to_string());
            let asked = std::env::args_os().any(|word| word == "--json");
            let output = asked.then(|| in_json(&usage.to_string(), P::NAME));
            (output.unwrap_or_default(), Kind::User.exit_code())
        }
        // Not an error: clap reports `--help` and `--version` this way.
        Err(help) => (help.to_string(), 0),
    };
    match print(&output) {
        Ok(()) => ExitCode::from(exit_code),
        Err(e) => {
            let failure = Failure::from(&Error::user("cannot write the answer.").caused_by(e));
            complain(&failure.text(P::NAME));
            ExitCode::from(failure.exit_code)
        }
    }
}

/// What is wrong with a command line as `--json` prints it: clap's first line, and the others up to its usage.
fn in_json(usage: &str, program: &str) -> String {
    let ends = ["\n\nUsage:", "\n\nFor more information"];
    let text = ends.iter().fold(usage, |text, end| {
        text.split(end).next().unwrap_or_default()
    });
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    let error = Error::user(message).hint(format!("see `{program} --help`."));
    let error = lines.fold(error, Error::detail);
    json(&Complaint {
        error: &Failure::from(&error),
    })
}

/// Runs a command; returns what belongs on standard output, and the exit code.
fn run<P: Program>(program: &P) -> (String, u8) {
    match program.run() {
        Ok(answer) if program.common().json => match &answer.document {
            Some(document) => (json(document), answer.exit_code),
            None => (json(&answer.state), answer.exit_code),
        },
        Ok(answer) => (answer.text, answer.exit_code),
        Err(error) => {
            let failure = Failure::from(&error);
            complain(&failure.text(P::NAME));
            let output = match program.common().json {
                true => json(&Complaint { error: &failure }),
                false => String::new(),
            };
            (output, failure.exit_code)
        }
    }
}

/// One JSON document with a newline at the end.
fn json(value: &impl serde::Serialize) -> String {
    // PANIC: our types have string keys only and serialise without I/O, so this cannot fail.
    let document = serde_json::to_string_pretty(value).expect("state is serialisable");
    document + "\n"
}

/// Writes to standard output; a reader that went away has seen all that it wanted.
fn print(output: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(output.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes to standard error; when that fails there is nobody left to tell.
fn complain(message: &str) {
    let _ = io::stderr().write_all(message.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_said_is_a_line_and_a_field() {
        let answer = || Answer::new(state::fixtures::applied(), "done\n".to_owned(), 0);
        let said = "1 task(s) finish old calls: task 431 (evfd) of uid 1000 in eventfd_read+0x17a;";
        let noted = answer().with_note(said);
        let note = "1 task finishes an old call, and sees the former code until then: \
                    task 431 (evfd) of uid 1000 in eventfd_read+0x17a";
        assert_eq!(noted.text, format!("done\nNote: {note}\n"));
        let document: serde_json::Value = serde_json::from_str(&json(&noted.state)).unwrap();
        assert_eq!(document["note"], note);
        let silent = answer().with_note("");
        assert_eq!(silent.text, "done\n");
        assert_eq!(silent.state, state::fixtures::applied());
    }
}
