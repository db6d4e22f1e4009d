// SPDX-License-Identifier: GPL-2.0

//! `scripts/install` into a folder, with another prefix: what is there finds the programs, and all of it goes again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RELEASE: &str = "7.2.12+deb13-cloud-amd64";

/// What a build leaves, as far as the script looks.
fn built(target: &Path) {
    let write = |path: &str| {
        let path = target.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy("/bin/true", path).unwrap();
    };
    for name in ["kcarectl", "kcare-push", "kcare-uname"] {
        write(&format!("release/{name}"));
    }
    write("share/man/man8/kcarectl.8");
    write("share/bash-completion/completions/kcarectl");
    write(&format!("kmod/{RELEASE}/rust-kmod/kcare.ko"));
}

struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn run(&self, words: &[&str], prefix: Option<&str>) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/install");
        let mut command = Command::new(script);
        command
            .args(words)
            .env("DESTDIR", self.root())
            .env("KCARE_TARGET", self.folder.path().join("target"))
            .env_remove("KCARE_ROOT")
            .env_remove("PREFIX");
        if let Some(prefix) = prefix {
            command.env("PREFIX", prefix);
        }
        command.output().unwrap()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => _ = found.insert(entry.path()),
                }
            }
        }
        found
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }
}

#[test]
fn with_another_prefix_and_away_again() {
    let host = Host {
        folder: tempfile::tempdir().unwrap(),
    };
    built(&host.folder.path().join("target"));
    // Those of others, which stay.
    let others = [
        "usr/local/bin/other",
        "usr/lib/systemd/system/kcare-of-others.service",
    ];
    for path in others {
        let path = host.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let before = host.files();
    // The second one, with another prefix, does not make it forget the first.
    for prefix in [None, Some("/opt/kcare")] {
        let done = host.run(&[], prefix);
        assert!(done.status.success(), "{done:?}");
    }
    assert!(host.root().join("opt/kcare/bin/kcarectl").exists());
    assert!(host
        .root()
        .join(format!("usr/lib/modules/{RELEASE}/updates/kcare.ko"))
        .exists());
    let cron = host.read("etc/cron.d/kcare-cron");
    assert!(cron.contains("\nPATH=/opt/kcare/bin:/usr/sbin:"), "{cron}");
    let unit = host.read("usr/lib/systemd/system/kcare-fetch.service");
    assert!(
        unit.contains("\nExecStart=/opt/kcare/bin/kcarectl "),
        "{unit}"
    );
    fs::create_dir_all(host.root().join("var/lib/kcare")).unwrap();
    fs::write(host.root().join("var/lib/kcare/held.json"), "[]").unwrap();

    let done = host.run(&["--uninstall"], None);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(host.files(), before);
    for gone in [
        "opt",
        "etc",
        "usr/share/kcare",
        "usr/share/man",
        "usr/lib/modules",
        "var/lib/kcare",
    ] {
        assert!(!host.root().join(gone).exists(), "{gone}");
    }
    let again = host.run(&["--uninstall"], None);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("\nHint: "),
        "{again:?}"
    );
}
