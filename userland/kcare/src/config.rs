// SPDX-License-Identifier: GPL-2.0

//! The settings in `/etc/sysconfig/kcare/kcare.conf`, and in the one file of old, `/etc/sysconfig/kcare`.
//!
//! A line is `NAME=VALUE`, with or without `export`, blanks and quotes, or a comment that begins with `#`. A value that
//! cannot be understood is an error, never a default: who wrote `STICKY_PATCH=nine` did not want the newest level. An
//! empty value is the default, but for a proxy, where it is none. A name that is not known is left alone, because files
//! of other agents have more of them; `kcarectl --doctor` tells which.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use kcare_tuf::level::is_channel;
use ureq::http::Uri;

use crate::error::{Error, Result};
use crate::{file, proxy};

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
    ("HTTP_PROXY", "Proxy for a server at `http://`, such as `http://proxy:3128`; empty for none. It is asked with `GET`, \
                    and one at `https://` with `CONNECT`. Default: if HTTPS_PROXY is not there either, HTTP_PROXY or \
                    ALL_PROXY of the environment."),
    ("HTTPS_PROXY", "Proxy for a server at `https://`, which is asked with `CONNECT`; empty for none. Default: if \
                     HTTP_PROXY is not there either, HTTPS_PROXY or ALL_PROXY of the environment."),
    ("NO_PROXY", "Hosts, or ends of names that begin with a dot, or `*`, for which no proxy is used, wherever it is \
                  named; those of NO_PROXY of the environment as well."),
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
    /// Proxies by the scheme of the server's address (`http`, `https`), empty for none; the environment's hold where
    /// there is no entry at all.
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
        let path = path(root);
        let cannot = |why: &str| {
            let error = Error::config(format!("cannot read {}: {why}.", path.display()));
            error.hint("write it anew, as text; see `man kcare.conf`.")
        };
        match std::fs::read(&path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::parse(&text, &path),
                Err(e) => {
                    let good = e.as_bytes().iter().take(e.utf8_error().valid_up_to());
                    let line = 1 + good.filter(|&&byte| byte == b'\n').count();
                    Err(cannot(&format!("line {line} is not UTF-8")))
                }
            },
            Err(e) if file::is_missing(&e) => Ok(Self::default()),
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => Err(cannot("it is a directory")),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Err(Error::user(format!("cannot read {}.", path.display()))
                    .caused_by(e)
                    .hint("run it as root, or make the file readable."))
            }
            Err(e) => Err(Error::config(format!("cannot read {}.", path.display()))
                .caused_by(e)
                .hint("check its file system.")),
        }
    }

    /// [`Config::read`] for a command that only tells what is applied: a file that only root may read does not stop it.
    ///
    /// # Errors
    ///
    /// Those of [`Config::read`], but for a file that may not be read.
    pub fn read_if_allowed(root: &Path) -> Result<Option<Self>> {
        match std::fs::File::open(path(root)) {
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
        // Some editors begin a text with the mark of its byte order.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            let line = line.trim();
            let exported = line.strip_prefix("export").map(str::trim_start);
            let line = exported
                .filter(|rest| line.len() > "export".len() + rest.len())
                .unwrap_or(line);
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
            config.set(name, value, number).map_err(|may| {
                // What may have a password in front of it is not repeated.
                let shown = value.rsplit('@').next().unwrap_or_default();
                wrong(format!("`{shown}` is no value of {name}, which is {may}"))
            })?;
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
        match name {
            "HTTP_PROXY" | "HTTPS_PROXY" => {
                if !value.is_empty() {
                    proxy::parse(value)?;
                }
                let scheme = name.trim_end_matches("_PROXY").to_ascii_lowercase();
                self.proxies.insert(scheme, value.to_owned());
            }
            _ if value.is_empty() && SETTINGS.iter().any(|(known, _)| *known == name) => {}
            "AUTO_UPDATE" => self.auto_update = yes_or_no(value).ok_or("True or False")?,
            "PATCH_SERVER" => {
                if !is_address(value) {
                    return Err(
                        "an address such as https://HOST/PATH, http://HOST/PATH or file:///PATH",
                    );
                }
                self.server = Some(value.trim_end_matches('/').to_owned());
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
                    "REMOTE" => Policy::Remote,
                    "LOCAL_FIRST" => Policy::LocalFirst,
                    "LOCAL" => Policy::Local,
                    _ => return Err("REMOTE, LOCAL_FIRST or LOCAL"),
                }
            }
            "STICKY_PATCH" => {
                self.sticky = match value.parse() {
                    Ok(level) if level > 0 => Sticky::Level(level),
                    _ => return Err("the number of a level, 1 or more"),
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
            "NO_PROXY" => {
                let hosts = value.split([',', ' ']).filter(|host| !host.is_empty());
                self.no_proxy = hosts.map(str::to_owned).collect();
            }
            "CA_BUNDLE" => {
                if !value.starts_with('/') {
                    return Err("the whole path of a file");
                }
                self.ca_bundle = Some(PathBuf::from(value));
            }
            _ => self.unknown.push((line, name.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
impl Config {
    /// Settings of a test, each `NAME=VALUE` and separated by blanks.
    pub(crate) fn with(settings: &str) -> Self {
        let mut config = Self::default();
        for pair in settings.split(' ').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap();
            config.set(name, value, 1).unwrap();
        }
        config
    }
}

/// The file of the settings below `root`, which need not be there.
fn path(root: &Path) -> PathBuf {
    let place = root.join(PLACE);
    match place.is_file() {
        true => place,
        false => place.join(FILE),
    }
}

/// Whether the tree of a vendor can be there: a folder of this machine, or a host, with a port or without.
fn is_address(text: &str) -> bool {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return false;
    }
    if let Some(path) = text.strip_prefix("file://") {
        return path.starts_with('/') && !path.trim_matches('/').is_empty();
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority().filter(|it| !it.host().is_empty()) else {
        return false;
    };
    let port = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = port.strip_prefix(authority.host()).unwrap_or_default();
    // A port that is none is left out by the parser.
    let port_fits = port.is_empty() || authority.port_u16().is_some_and(|port| port > 0);
    let scheme_fits = ["http", "https"].contains(&uri.scheme_str().unwrap_or_default());
    scheme_fits && port_fits && !text.contains(['?', '#'])
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

/// Seconds of `90`, `90s`, `30m`, `12h`, `2d`.
pub fn duration(text: &str) -> Option<u64> {
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
        let empty: String = (SETTINGS.iter())
            .map(|(name, _)| format!("{name}=\n"))
            .collect();
        let config = read(&empty).unwrap();
        // Of a proxy it says that there is none, whatever the environment has.
        let none = |scheme: &str| (scheme.to_owned(), String::new());
        let expected = Config {
            file: config.file.clone(),
            proxies: [none("http"), none("https")].into(),
            ..Config::default()
        };
        assert_eq!(config, expected);
        assert_eq!(read("CRASH_WINDOW=\"\"").unwrap().crash_window, 600);
        assert_eq!(read("CRASH_WINDOW=0").unwrap().crash_window, 0);
    }

    #[test]
    fn wrong_values_are_no_defaults() {
        for (line, says) in [
            ("AUTO_UPDATE", "`AUTO_UPDATE` is not `NAME=VALUE`"),
            ("AUTO_UPDATE=maybe", "`maybe` is no value of AUTO_UPDATE"),
            ("PATCH_SERVER=ftp://x", "an address such as"),
            ("PATCH_SERVER=http://x y", "an address such as"),
            ("PATCH_SERVER=file://x", "file:///"),
            ("PATCH_SERVER=file:///", "of PATCH_SERVER"),
            ("PATCH_SERVER=https://", "of PATCH_SERVER"),
            ("PATCH_SERVER=http:///x", "of PATCH_SERVER"),
            ("PATCH_SERVER=http://:80", "of PATCH_SERVER"),
            ("PATCH_SERVER=http://user@", "of PATCH_SERVER"),
            ("PATCH_SERVER=http://x:port", "of PATCH_SERVER"),
            ("PATCH_SERVER=http://x:99999", "of PATCH_SERVER"),
            ("PATCH_SERVER=http://x/?a", "of PATCH_SERVER"),
            ("PATCH_SERVER=http://x/#a", "of PATCH_SERVER"),
            ("PATCH_SERVER=x", "of PATCH_SERVER"),
            (
                "HTTP_PROXY=socks5://x",
                "of HTTP_PROXY, which is a proxy at http://",
            ),
            (
                "HTTPS_PROXY=http://",
                "of HTTPS_PROXY, which is a proxy at http://",
            ),
            ("TIMEOUT=0", "from `1s`"),
            ("CRASH_WINDOW=soon", "a time like"),
            ("exported=1\nexported=2", "exported is given in line 1"),
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
    fn addresses_of_servers() {
        for good in [
            "https://x",
            "http://x:8080/tree/",
            "https://user:p%40ss@x.example:443/a",
            "http://[::1]:80",
            "HTTP://x",
            "file:///srv/tree",
        ] {
            let server = read(&format!("PATCH_SERVER={good}")).unwrap().server;
            assert_eq!(
                server.as_deref(),
                Some(good.trim_end_matches('/')),
                "{good}"
            );
        }
    }

    #[test]
    fn as_shells_and_editors_write_it() {
        for text in [
            "\u{feff}PATCH_SERVER=https://x\r\n",
            "export PATCH_SERVER=https://x",
            "  export\tPATCH_SERVER = 'https://x'  ",
            "# first\nexport PATCH_SERVER=\"https://x\"",
        ] {
            let config = read(text).unwrap();
            assert_eq!(config.server.as_deref(), Some("https://x"), "{text:?}");
            assert!(config.unknown.is_empty(), "{text:?}");
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
        let error = Config::read(root.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(
            error.to_string().ends_with("line 1 is not UTF-8."),
            "{error}"
        );
        fs::remove_file(folder.join("kcare/kcare.conf")).unwrap();
        fs::create_dir(folder.join("kcare/kcare.conf")).unwrap();
        let error = Config::read(root.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().ends_with("it is a directory."), "{error}");
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        assert_eq!(Config::read(root.path()).unwrap(), Config::default());
    }
}
