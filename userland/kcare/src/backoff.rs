// SPDX-License-Identifier: GPL-2.0

//! A server that is down is asked less and less often by the timer: after the first failure with its next run, then with
//! every second, fourth and sixth one.

use std::path::PathBuf;

use kcare_tuf::file;
use kcare_tuf::time::Time;
use serde::{Deserialize, Serialize};

use crate::error::Kind;
use crate::mirror::CACHE;
use crate::System;

/// Time between two runs of the timer, in seconds. A run that comes earlier by less than half of it is none too early:
/// the timer spreads them.
const INTERVAL: i64 = 4 * 3600;
/// Longest pause, in seconds.
const LONGEST: i64 = 24 * 3600;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Failures in a row.
    failures: u32,
    /// When the last one was, in seconds since 1970.
    last: i64,
}

/// How often the server has failed.
#[derive(Debug)]
pub struct Backoff {
    path: PathBuf,
    record: Record,
}

impl Backoff {
    /// Reads it; what cannot be read is as good as no failure.
    pub fn read(system: &System) -> Self {
        let path = system.root.join(CACHE).join("backoff.json");
        let bytes = std::fs::read(&path).unwrap_or_default();
        let record = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { path, record }
    }

    /// Why the server is not asked now, if it should not be.
    pub fn pause(&self) -> Option<String> {
        self.pause_at(Time::now().unix_seconds())
    }

    fn pause_at(&self, now: i64) -> Option<String> {
        let doublings = self.record.failures.checked_sub(2)?.min(8);
        let pause = (INTERVAL << doublings).saturating_mul(2).min(LONGEST) - INTERVAL / 2;
        let since = now.saturating_sub(self.record.last);
        // A clock that was set back does not lengthen it.
        (0..pause).contains(&since).then(|| {
            format!(
                "The server is not asked: it has failed {} times in a row, and a pause was made\n\
                 Hint: `kcarectl --update` asks it at once.\n",
                self.record.failures
            )
        })
    }

    /// Counts what has become of asking: a server that gives no answer counts, whatever else fails does not.
    pub fn note(&mut self, failed: Option<Kind>) {
        let failures = match failed {
            Some(Kind::Server) => self.record.failures.saturating_add(1),
            _ => 0,
        };
        let record = Record {
            failures,
            last: match failures {
                0 => 0,
                _ => Time::now().unix_seconds(),
            },
        };
        if record != self.record {
            // Where nothing can be written the download fails with its own message.
            let _ = file::write(&self.path, crate::json(&record).as_bytes());
            self.record = record;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow() {
        let pause = |failures| {
            let backoff = Backoff {
                path: PathBuf::new(),
                record: Record { failures, last: 0 },
            };
            let mut seconds = 0;
            while backoff.pause_at(seconds).is_some() {
                seconds += 3600;
            }
            seconds / 3600
        };
        assert_eq!([0, 1, 2, 3, 4, 5, 50].map(pause), [0, 0, 6, 14, 22, 22, 22]);
    }
}
