// SPDX-License-Identifier: GPL-2.0

//! A server that is down is asked less and less often by the timer: after the first failure with its next run, then with
//! every second, fourth and sixth one. That is about the server and how it is reached: with other settings it is asked at
//! once.

use std::path::PathBuf;

use kcare_tuf::file;
use kcare_tuf::time::Time;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::config::Config;
use crate::error::Kind;
use crate::mirror::{self, CACHE};
use crate::{proxy, text, System};

/// Time between two runs of the timer, in seconds. A run that comes earlier by less than half of it is none too early:
/// the timer spreads them.
const INTERVAL: i64 = 4 * 3600;
/// Longest pause, in seconds.
const LONGEST: i64 = 24 * 3600;
/// The file in the cache, and the longest that it may be, in bytes.
const FILE: &str = "backoff.json";
const LIMIT: u64 = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Failures in a row.
    failures: u32,
    /// When the last one was, in seconds since 1970.
    last: i64,
    /// What the settings were, as [`fingerprint`] has it.
    #[serde(default)]
    settings: String,
}

/// How often the server has failed.
#[derive(Debug)]
pub struct Backoff {
    path: PathBuf,
    record: Record,
}

impl Backoff {
    /// Reads it; what cannot be read, or is about other settings, is as good as no failure. The folder may be another
    /// user's.
    pub fn read(system: &System, config: &Config) -> Self {
        let cache = system.root.join(CACHE);
        let bytes = mirror::read(&cache, FILE, LIMIT).unwrap_or_default();
        let found: Option<Record> = serde_json::from_slice(&bytes).ok();
        let settings = fingerprint(config);
        let record = found.filter(|record| record.settings == settings);
        Self {
            path: cache.join(FILE),
            record: record.unwrap_or(Record {
                settings,
                ..Record::default()
            }),
        }
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
            settings: self.record.settings.clone(),
        };
        if record != self.record {
            // Where nothing can be written the download fails with its own message.
            let _ = file::write(&self.path, crate::json(&record).as_bytes());
            self.record = record;
        }
    }
}

/// The settings on which it depends whether a server answers. They may have a password, so that it is only a hash.
fn fingerprint(config: &Config) -> String {
    let server = config.server.as_deref().unwrap_or_default();
    let proxy = server.parse().ok().and_then(|server| {
        let found = proxy::choose(config, &server, |name| std::env::var(name).ok())?;
        Some(found.1)
    });
    // Certificates may be replaced under the same name.
    let certificates = config.ca_bundle.as_ref().map(std::fs::read);
    let certificates = certificates.and_then(std::result::Result::ok);
    let all = (
        server,
        &config.prefix,
        proxy,
        &config.ca_bundle,
        certificates,
        config.timeout,
    );
    text::hex(&Sha1::digest(format!("{all:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn other_settings_ask_at_once() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        fs::create_dir_all(root.path().join(CACHE)).unwrap();
        let bundle = root.path().join("ca.pem");
        fs::write(&bundle, "one").unwrap();
        let old = format!("PATCH_SERVER=http://a/x CA_BUNDLE={}", bundle.display());
        for _ in 0..5 {
            Backoff::read(&system, &Config::with(&old)).note(Some(Kind::Server));
        }
        let pauses = |settings: &str| {
            Backoff::read(&system, &Config::with(settings))
                .pause()
                .is_some()
        };
        assert!(pauses(&old));
        assert!(pauses(&format!("{old} STICKY_PATCH=9 AUTO_UPDATE=True")));
        for new in [
            "PATCH_SERVER=http://b/x".to_owned(),
            format!("{old} PATCH_SERVER=http://a/y"),
            format!("{old} PATCH_SERVER=https://a/x"),
            format!("{old} PREFIX=12h"),
            format!("{old} HTTP_PROXY=http://p"),
            format!("{old} TIMEOUT=1h"),
            format!("{old} CA_BUNDLE=/other.pem"),
        ] {
            assert!(!pauses(&new), "{new}");
        }
        fs::write(&bundle, "two").unwrap();
        assert!(!pauses(&old));
        let text = fs::read_to_string(root.path().join(CACHE).join(FILE)).unwrap();
        assert!(!text.contains("http"), "{text}");
    }

    #[test]
    fn what_a_hostile_owner_puts_there() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        let cache = root.path().join(CACHE);
        fs::create_dir_all(&cache).unwrap();
        let config = Config::with("PATCH_SERVER=http://a");
        let record = Record {
            failures: 5,
            last: Time::now().unix_seconds(),
            settings: fingerprint(&config),
        };
        let good = crate::json(&record);
        let file = cache.join(FILE);
        let pauses = || Backoff::read(&system, &config).pause().is_some();
        fs::write(&file, &good).unwrap();
        assert!(pauses());
        fs::write(&file, good.clone() + &" ".repeat(5000)).unwrap();
        assert!(!pauses());
        fs::remove_file(&file).unwrap();
        fs::write(root.path().join("elsewhere"), &good).unwrap();
        symlink(root.path().join("elsewhere"), &file).unwrap();
        assert!(!pauses());
        fs::remove_file(&file).unwrap();
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &file, kind, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(!pauses());
    }

    #[test]
    fn pauses_grow() {
        let pause = |failures| {
            let backoff = Backoff {
                path: PathBuf::new(),
                record: Record {
                    failures,
                    ..Record::default()
                },
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
