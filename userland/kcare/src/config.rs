// SPDX-License-Identifier: GPL-2.0

//! The settings in `/etc/sysconfig/kcare/kcare.conf`, and in the one file of old, `/etc/sysconfig/kcare`.
//!
//! A line is `NAME=VALUE`, with or without blanks and quotes, or a comment that begins with `#`. A value that cannot be
//! understood is an error, never a default: who wrote `STICKY_PATCH=nine` did not want the newest level. A name that is
//! not known is left alone, because files of other agents have more of them; `kcarectl --doctor` tells which.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use kcare_tuf::level::is_channel;

use crate::error::{Error, Result};

/// The folder of the settings, or the file itself where it is one, below the root of the system.
const PLACE: &str = "etc/sysconfig/kcare";
/// The file in that folder.
const FILE: &str = "kcare.conf";

/// Every setting, and what it is, for the manual page and for `--doctor`.
pub const SETTINGS: [(&str, &str); 13] = [
    ("AUTO_UPDATE", "True or False: whether the timer's `kcarectl --auto-update` does anything. Default: True."),
    ("PATCH_SERVER", "Where the vendor's tree is: `https://…`, `http://…`, or `file:///…` for a mirror on a disk."),
    ("PREFIX", "Channel: a slower one gets levels later. Default: empty, the fastest."),
    ("STICKY_PATCH", "A level: none above it is taken. Default: empty, the newest."),
    ("UPDATE_DELAY", "A level is taken when it was published so long ago: `90s`, `30m`, `12h`, `2d`. Default: at once."),
    ("UPDATE_POLICY", "REMOTE, LOCAL_FIRST or LOCAL: whether a boot asks the server behind the cache. Default: REMOTE."),
    ("CRASH_WINDOW", "A level that was applied so long before the machine went down uncleanly is held. Default: 10m."),
    ("CACHE_LEVELS", "How many levels the cache keeps, 1 to 100. Default: 3."),
    ("TIMEOUT", "For so long a file may take to come, 1s to 1h; an answer has to begin in a sixth of it. Default: 2m."),
    ("HTTP_PROXY", "Proxy for a server at `http://`. Default: the environment's."),
    ("HTTPS_PROXY", "Proxy for a server at `https://`. Default: the environment's."),
    ("NO_PROXY", "Hosts, or ends of names that begin with a dot, for which no proxy is used."),
    ("CA_BUNDLE", "File with the certificates, in PEM, that are trusted in place of the usual ones."),
];

/// From where new levels are taken at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `REMOTE`: the last good level of the cache, and then the newest of the server.
    #[default]
    Remote,
    /// `LOCAL_FIRST`: the same; the server is asked with the next run of the timer.
    LocalFirst,
    /// `LOCAL`: only the cache; the server is asked when an administrator says so.
    Local,
}

/// How high a level may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// The newest.
    #[default]
    Newest,
    /// This one, and none above it.
    Level(u32),
}

/// The settings of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether `--auto-update`, which the timer runs, does anything.
    pub auto_update: bool,
    /// Where the tree of the vendor is: `https:`, `http:` or `file:`, without a `/` at its end.
    pub server: Option<String>,
    /// Channel: a name of the tree, empty for the fastest.
    pub prefix: String,
    /// From where levels are taken at boot.
    pub policy: Policy,
    /// How high a level may be.
    pub sticky: Sticky,
    /// A level is taken when it was published so long ago, in seconds.
    pub delay: u64,
    /// Proxies by the scheme of the server's address (`http`, `https`); the environment's hold where none is given.
    pub proxies: BTreeMap<String, String>,
    /// Hosts, or ends of their names, for which no proxy is used.
    pub no_proxy: Vec<String>,
    /// Certificates in PEM that are trusted in place of the machine's own.
    pub ca_bundle: Option<PathBuf>,
    /// For so long after a level was applied, in seconds, an unclean end of the machine is held against it.
    pub crash_window: u64,
    /// For so long, in seconds, a file may take to come from the server.
    pub timeout: u64,
    /// How many levels the cache keeps, 1 or more.
    pub keep: usize,
    /// Names that are not known here, with their lines.
    pub unknown: Vec<(usize, String)>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auto_update: true,
            server: None,
            prefix: String::new(),
            policy: Policy::default(),
            sticky: Sticky::default(),
            delay: 0,
            proxies: BTreeMap::new(),
            no_proxy: Vec::new(),
            ca_bundle: None,
            crash_window: 10 * 60,
            timeout: 2 * 60,
            keep: 3,
            unknown: Vec::new(),
            file: None,
        }
    }
}

impl Config {
    /// Whether the settings let a level be as high as this one.
    pub fn allows(&self, level: u32) -> bool {
        match self.sticky {
            Sticky::Newest => true,
            Sticky::Level(highest) => level <= highest,
        }
    }

    /// Reads the settings of the system below `root` (`/`); without a file they are the defaults.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::error::Kind) if there is a file and it cannot be read or understood.
    pub fn read(root: &Path) -> Result<Self> {
        let place = root.join(PLACE);
        let path = if place.is_file() {
            place
        } else {
            place.join(FILE)
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::config(format!("cannot read {}.", path.display()))
                .caused_by(e)
                .hint("run it as root, or make the file readable.")),
        }
    }

    /// [`Config::read`] for a command that only tells what is applied: a file that only root may read does not stop it.
    ///
    /// # Errors
    ///
    /// Those of [`Config::read`], but for a file that may not be read.
    pub fn read_if_allowed(root: &Path) -> Result<Option<Self>> {
        let place = root.join(PLACE);
        let path = if place.is_file() {
            place
        } else {
            place.join(FILE)
        };
        match std::fs::File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            _ => Self::read(root).map(Some),
        }
    }

    /// Reads the text of a file of settings.
    fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut config = Self {
            file: Some(path.to_owned()),
            ..Self::default()
        };
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with('[') {
                continue;
            }
            let wrong = |why: String| {
                Error::config(format!("line {number} of {}: {why}.", path.display()))
                    .hint("see `man kcare.conf` for what it may be; nothing was done.")
            };
            let Some((name, value)) = line.split_once('=') else {
                return Err(wrong(format!("`{line}` is not `NAME=VALUE`")));
            };
            let (name, value) = (name.trim(), plain(value.trim()));
            if let Some(first) = seen.insert(name.to_owned(), number) {
                return Err(wrong(format!("{name} is given in line {first} already")));
            }
            config
                .set(name, value, number)
                .map_err(|may| wrong(format!("`{value}` is no value of {name}, which is {may}")))?;
        }
        Ok(config)
    }

    /// Takes one setting; the error tells what the value may be.
    fn set(
        &mut self,
        name: &str,
        value: &str,
        line: usize,
    ) -> std::result::Result<(), &'static str> {
        let optional = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        match name {
            "AUTO_UPDATE" => self.auto_update = yes_or_no(value).ok_or("True or False")?,
            "PATCH_SERVER" => {
                let known = ["https://", "http://", "file:///"];
                let fits = value.is_empty() || known.iter().any(|s| value.starts_with(s));
                let clean = !value.contains(|c: char| c.is_whitespace() || c.is_control());
                if !fits || !clean {
                    return Err("an address that begins with https://, http:// or file:///");
                }
                self.server = optional(value.trim_end_matches('/'));
            }
            "PREFIX" => {
                let value = value.trim_matches('/');
                if !is_channel(value) {
                    return Err("a name of letters, digits, `.`, `_` and `-`, at most 32 of them");
                }
                self.prefix = value.to_owned();
            }
            "UPDATE_POLICY" => {
                self.policy = match value.to_ascii_uppercase().as_str() {
                    "" | "REMOTE" => Policy::Remote,
                    "LOCAL_FIRST" => Policy::LocalFirst,
                    "LOCAL" => Policy::Local,
                    _ => return Err("REMOTE, LOCAL_FIRST or LOCAL"),
                }
            }
            "STICKY_PATCH" => {
                self.sticky = match value {
                    "" => Sticky::Newest,
                    _ => match value.parse() {
                        Ok(level) if level > 0 => Sticky::Level(level),
                        _ => return Err("the number of a level, 1 or more"),
                    },
                }
            }
            "UPDATE_DELAY" => {
                self.delay = duration(value).ok_or("a time like `30m`, `12h` or `2d`")?;
            }
            "CRASH_WINDOW" => {
                self.crash_window = duration(value).ok_or("a time like `30m`, `12h` or `2d`")?;
            }
            "TIMEOUT" => {
                self.timeout = match duration(value) {
                    Some(seconds) if (1..=3600).contains(&seconds) => seconds,
                    _ => return Err("a time from `1s` to `1h`"),
                };
            }
            "CACHE_LEVELS" => {
                self.keep = match value.parse() {
                    Ok(keep) if (1..=100).contains(&keep) => keep,
                    _ => return Err("a number of levels, 1 to 100"),
                }
            }
            "HTTP_PROXY" | "HTTPS_PROXY" => {
                let scheme = name.trim_end_matches("_PROXY").to_ascii_lowercase();
                if let Some(value) = optional(value) {
                    self.proxies.insert(scheme, value);
                }
            }
            "NO_PROXY" => {
                let hosts = value.split([',', ' ']).filter(|host| !host.is_empty());
                self.no_proxy = hosts.map(str::to_owned).collect();
            }
            "CA_BUNDLE" => {
                if !value.is_empty() && !value.starts_with('/') {
                    return Err("the whole path of a file");
                }
                self.ca_bundle = optional(value).map(PathBuf::from);
            }
            _ => self.unknown.push((line, name.to_owned())),
        }
        Ok(())
    }
}

/// A value without the quotes around it.
fn plain(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

/// `True`, `yes`, `on`, `1` and their opposites, in capitals or not.
fn yes_or_no(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Seconds of `90`, `90s`, `30m`, `12h`, `2d`; nothing is 0.
pub fn duration(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::fs;

    fn read(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("kcare.conf"))
    }

    #[test]
    fn a_whole_file() {
        let config = read(
            "# kcare\n\nAUTO_UPDATE=True\nPATCH_SERVER = \"https://patches.example/kcare/\"\nPREFIX=12h\n\
             UPDATE_POLICY=local_first\nSTICKY_PATCH='7'\nUPDATE_DELAY=2d\nHTTP_PROXY=http://proxy:3128\n\
             NO_PROXY=a.example, .b.example\nCA_BUNDLE=/etc/ssl/own.pem\nCRASH_WINDOW=30m\nCACHE_LEVELS=5\n\
             TIMEOUT=30s\nREGISTRATION_URL=x\n",
        )
        .unwrap();
        assert!(config.auto_update);
        assert_eq!(
            config.server.as_deref(),
            Some("https://patches.example/kcare")
        );
        assert_eq!(config.prefix, "12h");
        assert_eq!(config.policy, Policy::LocalFirst);
        assert_eq!(config.sticky, Sticky::Level(7));
        assert_eq!((config.delay, config.crash_window), (172_800, 1_800));
        assert_eq!(config.timeout, 30);
        assert_eq!(config.proxies["http"], "http://proxy:3128");
        assert_eq!(config.no_proxy, ["a.example", ".b.example"]);
        assert_eq!(
            config.ca_bundle.as_deref(),
            Some(Path::new("/etc/ssl/own.pem"))
        );
        assert_eq!(config.keep, 5);
        assert_eq!(config.unknown, [(15, "REGISTRATION_URL".to_owned())]);
    }

    #[test]
    fn every_setting_is_known() {
        for (name, _) in SETTINGS {
            // Either it can be empty, or it says what it may be.
            let said = read(&format!("{name}="));
            let unknown = said.as_ref().is_ok_and(|config| !config.unknown.is_empty());
            assert!(!unknown, "{name}");
        }
    }

    #[test]
    fn what_is_left_empty_is_the_default() {
        let empty = "PATCH_SERVER=\nPREFIX=\nUPDATE_POLICY=\nSTICKY_PATCH=\nUPDATE_DELAY=\nHTTP_PROXY=\nCA_BUNDLE=\n";
        let config = read(empty).unwrap();
        let file = config.file.clone();
        assert_eq!(
            config,
            Config {
                file,
                ..Config::default()
            }
        );
    }

    #[test]
    fn wrong_values_are_no_defaults() {
        for (line, says) in [
            ("AUTO_UPDATE", "`AUTO_UPDATE` is not `NAME=VALUE`"),
            ("AUTO_UPDATE=", "which is True or False"),
            ("AUTO_UPDATE=maybe", "`maybe` is no value of AUTO_UPDATE"),
            ("PATCH_SERVER=ftp://x", "begins with https://"),
            ("PATCH_SERVER=http://x y", "begins with https://"),
            ("PATCH_SERVER=file://x", "file:///"),
            ("PREFIX=../x", "a name of letters"),
            ("PREFIX=a/b", "a name of letters"),
            ("PREFIX=..", "a name of letters"),
            ("PREFIX=-x", "a name of letters"),
            ("UPDATE_POLICY=NEVER", "REMOTE, LOCAL_FIRST or LOCAL"),
            ("STICKY_PATCH=0", "1 or more"),
            ("STICKY_PATCH=nine", "1 or more"),
            ("STICKY_PATCH=4294967296", "1 or more"),
            ("UPDATE_DELAY=1w", "a time like"),
            ("UPDATE_DELAY=h", "a time like"),
            ("UPDATE_DELAY=18446744073709551615d", "a time like"),
            ("CACHE_LEVELS=0", "1 to 100"),
            ("CA_BUNDLE=own.pem", "the whole path"),
            ("PREFIX=a\nPREFIX=b", "PREFIX is given in line 1 already"),
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{line}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn the_folder_the_old_file_or_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Config::read(root.path()).unwrap(), Config::default());
        let folder = root.path().join("etc/sysconfig");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("kcare"), "AUTO_UPDATE = False\n").unwrap();
        let config = Config::read(root.path()).unwrap();
        assert!(!config.auto_update);
        assert_eq!(config.file, Some(folder.join("kcare")));
        fs::remove_file(folder.join("kcare")).unwrap();
        fs::create_dir(folder.join("kcare")).unwrap();
        assert_eq!(Config::read(root.path()).unwrap(), Config::default());
        fs::write(folder.join("kcare/kcare.conf"), "PREFIX=48h\n").unwrap();
        assert_eq!(Config::read(root.path()).unwrap().prefix, "48h");
        fs::write(folder.join("kcare/kcare.conf"), b"PREFIX=\xff\n").unwrap();
        assert_eq!(Config::read(root.path()).unwrap_err().kind(), Kind::Config);
    }
}
