// SPDX-License-Identifier: GPL-2.0

//! One line on stderr for each step, with its seconds.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Tells what is being done.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    start: Instant,
    steps: Mutex<Vec<Step>>,
    explanation: Mutex<Vec<String>>,
}

/// A step that is done.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// Seconds that it took.
    pub seconds: f64,
}

impl Progress {
    /// Starts the clock; says nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            start: Instant::now(),
            steps: Mutex::default(),
            explanation: Mutex::default(),
        }
    }

    /// Runs one step and tells its name and how long it took.
    pub fn step<T>(
        &self,
        name: &str,
        run: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        let result = run();
        let seconds = start.elapsed().as_secs_f64();
        self.taken().push(Step {
            name: name.to_owned(),
            seconds,
        });
        if !self.quiet {
            let mark = if result.is_ok() { "" } else { "  failed" };
            eprintln!("kcare-build: {name:<48} {seconds:6.2} s{mark}");
        }
        result
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Tells something else.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("kcare-build: {text}");
        }
    }

    /// Keeps what is to be told behind the reason why there is no payload.
    pub fn explain(&self, lines: Vec<String>) {
        let mut kept = self.explanation.lock().unwrap_or_else(|e| e.into_inner());
        kept.extend(lines);
    }

    /// What was kept so.
    pub fn explanation(&self) -> Vec<String> {
        let kept = self.explanation.lock().unwrap_or_else(|e| e.into_inner());
        kept.clone()
    }

    /// The steps so far.
    pub fn steps(&self) -> Vec<Step> {
        self.taken().clone()
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// Seconds between two lines of a long step.
const INTERVAL: Duration = Duration::from_secs(10);

/// Tells now and then how many of many are done.
#[derive(Debug)]
pub struct Count {
    quiet: bool,
    /// What is done with them: "preprocessed".
    done: String,
    all: usize,
    state: Mutex<(usize, Instant)>,
}

impl Count {
    /// Begins to count to `all`; `done` is what is done with each.
    pub fn new(progress: &Progress, done: &str, all: usize) -> Self {
        Count {
            quiet: progress.quiet,
            done: done.to_owned(),
            all,
            state: Mutex::new((0, Instant::now())),
        }
    }

    /// One more is done.
    pub fn one(&self) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.0 += 1;
        if !self.quiet && state.1.elapsed() >= INTERVAL {
            state.1 = Instant::now();
            eprintln!(
                "kcare-build:   {} of {} unit(s) {}",
                state.0, self.all, self.done
            );
        }
    }
}
