// SPDX-License-Identifier: GPL-2.0

//! One line on stderr for each step, with its seconds.

use std::cell::RefCell;
use std::time::Instant;

use serde::Serialize;

/// Tells what is being done.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    start: Instant,
    steps: RefCell<Vec<Step>>,
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
            steps: RefCell::default(),
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
        self.steps.borrow_mut().push(Step {
            name: name.to_owned(),
            seconds,
        });
        if !self.quiet {
            let mark = if result.is_ok() { "" } else { "  failed" };
            eprintln!("kcare-build: {name:<48} {seconds:6.2} s{mark}");
        }
        result
    }

    /// Tells something else.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("kcare-build: {text}");
        }
    }

    /// The steps so far.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.borrow().clone()
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
