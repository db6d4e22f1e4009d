// SPDX-License-Identifier: GPL-2.0

//! One line on stderr for each step, with its seconds.

use std::time::Instant;

/// Tells what is being done.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    start: Instant,
}

impl Progress {
    /// Starts the clock; says nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            start: Instant::now(),
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
        if !self.quiet {
            let mark = if result.is_ok() { "" } else { "  failed" };
            eprintln!(
                "kcare-build: {name:<48} {:6.2} s{mark}",
                start.elapsed().as_secs_f64()
            );
        }
        result
    }

    /// Tells something else.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("kcare-build: {text}");
        }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
