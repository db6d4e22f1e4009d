// SPDX-License-Identifier: GPL-2.0

//! Golden transcripts: what each command says in each state of a machine (`tests/states/STATE.txt`).
//!
//! The state is a folder that stands for /, with a vendor's tree that is really signed, and what an update from it has
//! left. `TRYCMD=overwrite` writes the transcripts anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kcare_tuf::key::Signer;
use kcare_tuf::level::{fixes_name, payload_name, Fix, Fixes, Record, TARGETS};
use kcare_tuf::metadata::{Common, Document, MetaFile, Root, Snapshot, Target, Targets, Timestamp};
use kcare_tuf::repository::{sign, write, write_target};
use kcare_tuf::{Role, Time};
use sha1::{Digest, Sha1};

const KERNEL: &str = "Linux version 7.2.12+deb13-cloud-amd64 (builder@example.org) (gcc-14 (Debian 14.2.0-19) 14.2.0) \
                      #1 SMP PREEMPT_DYNAMIC Debian 7.2.12-1~bpo13+1 (2026-11-12)\n";
/// What is asked in each state. The last ones ask the server, which is a folder.
const QUESTIONS: [&[&str]; 13] = [
    &["--info"],
    &["--status"],
    &["--patch-info"],
    &["--uname"],
    &["--history"],
    &["--vex"],
    &["--check"],
    &["--latest-patch-info"],
    &["--auto-update", "--dry-run"],
    &["--update"],
    &["--apply-cached"],
    &["--unload"],
    &["--rollback"],
];

const NOW: &str = "2026-11-30T12:00:00Z";

/// A machine in the making.
struct Machine {
    folder: tempfile::TempDir,
    conf: String,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
            conf: String::new(),
        };
        machine.write("proc/version", KERNEL);
        machine.write("proc/cmdline", "quiet\n");
        machine.write("proc/stat", "cpu  1 2 3\nbtime 1795428720\nprocesses 9\n");
        machine.write("proc/sys/kernel/random/boot_id", "here\n");
        machine.write("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n");
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The module is loaded, and this is what it tells.
    fn module(self, level: u32) -> Self {
        let applied = include_str!("fixtures/applied.proc");
        let text = match level {
            0 => "kernel-build-id: 90ab000102030405060708090a0b0c0d0e0f1011\nstate: none\nlevel: 0\nstop-last-ns: 0\n\
                  stop-max-ns: 0\nstop-sum-ns: 0\nfailures: 0\noopses: 0\n"
                .to_owned(),
            _ => applied
                .replace("level: 9\n", &format!("level: {level}\n"))
                .replace("description: 9;", &format!("description: {level};")),
        };
        self.write("proc/kcare/status", &text);
        // No module is behind it: what would change something is told so.
        self.write("dev/kcare", "");
        self
    }

    /// Level 9 has replaced level 8, and two tasks are still in former code.
    fn straggling(self) -> Self {
        let machine = self.module(9);
        machine.write(
            "proc/kcare/status",
            include_str!("fixtures/straggling.proc"),
        );
        machine
    }

    /// The settings, besides the server.
    fn settings(mut self, line: &str) -> Self {
        self.conf += &format!("{line}\n");
        self
    }

    /// A vendor's tree with these levels, which the machine has looked at.
    fn offered(self, levels: &[u32]) -> Self {
        self.offered_by(&Vendor::new(), levels)
    }

    fn offered_by(self, vendor: &Vendor, levels: &[u32]) -> Self {
        let name = hash();
        let tree = self.at("tree");
        vendor.publish(&tree, &name, levels);
        fs::create_dir_all(self.at("usr/share/kcare")).unwrap();
        fs::copy(
            tree.join(&name).join("1.root.json"),
            self.at("usr/share/kcare/root.json"),
        )
        .unwrap();
        self
    }

    fn configure(&self) {
        let conf = format!(
            "PATCH_SERVER=file://{}\n{}",
            self.at("tree").display(),
            self.conf
        );
        self.write("etc/sysconfig/kcare/kcare.conf", &conf);
    }

    /// One line for each question, its exit status and what it said.
    fn transcript(&self) -> String {
        self.configure();
        // As an update before has left it.
        self.run(&["--check"]);
        QUESTIONS.iter().map(|words| self.run(words)).collect()
    }

    fn run(&self, words: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_kcarectl"))
            .args(words)
            .arg("--root")
            .arg(self.folder.path())
            .arg("--device")
            .arg(self.at("dev/kcare"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = text(output.stdout) + &text(output.stderr);
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let said = said
            .replace(self.folder.path().to_str().unwrap(), "")
            .replace(&release, "[RELEASE]")
            .replace(&release.replace('+', "%2B"), "[RELEASE]");
        // The time of day.
        let said = match said.split_once(", now is ") {
            Some((before, after)) => format!("{before}, now is [NOW]{}", &after[NOW.len()..]),
            None => said,
        };
        format!(
            "$ kcarectl {}\n{said}? {}\n\n",
            words.join(" "),
            output.status.code().unwrap()
        )
    }
}

fn hash() -> String {
    let digest = Sha1::digest(KERNEL.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes repositories, all of whose documents one key signs.
struct Vendor {
    signer: Signer,
    /// Of all documents but the root.
    version: u64,
    /// When the timestamp ends.
    expires: Time,
    covered_until: &'static str,
    withdrawn: Option<u32>,
}

impl Vendor {
    fn new() -> Self {
        Self {
            signer: Signer::from_pem(Signer::generate().unwrap().as_bytes()).unwrap(),
            version: 1,
            expires: Time::now().plus_days(7),
            covered_until: "2099-06-30",
            withdrawn: None,
        }
    }

    fn common(&self) -> Common {
        Common::new(self.version, Time::now().plus_days(7))
    }

    /// Writes the repository of a kernel.
    fn publish(&self, tree: &Path, kernel: &str, levels: &[u32]) {
        let folder = tree.join(kernel);
        let files = folder.join(TARGETS);
        fs::create_dir_all(&files).unwrap();
        let signer = &self.signer;
        let mut root = Root::new(Common::new(1, Time::now().plus_days(7)));
        root.consistent_snapshot = Some(true);
        for role in Role::ALL {
            root.set_role(role, &[signer.key()], 1).unwrap();
        }
        put(&folder, &root, &root, signer);
        let mut targets = BTreeMap::new();
        for &level in levels {
            let fixes = serde_json::to_vec(&fixes_of(kernel, level)).unwrap();
            let target = Target::of(&fixes);
            write_target(&files, &root, &fixes_name(level), &target, &fixes).unwrap();
            targets.insert(fixes_name(level), target);
            let payload = format!("payload of level {level}");
            let mut target = Target::of(payload.as_bytes());
            let record = Record {
                covered_until: Some(self.covered_until.to_owned()),
                ..record(kernel, level)
            };
            target.custom = Some(serde_json::to_value(record).unwrap());
            let name = payload_name(level);
            write_target(&files, &root, &name, &target, payload.as_bytes()).unwrap();
            targets.insert(name, target);
        }
        let mut targets = Targets::new(self.common(), targets);
        let since = "2026-11-28T12:00:00Z".to_owned();
        targets
            .withdrawn
            .extend(self.withdrawn.map(|level| (level, since)));
        let bytes = put(&folder, &root, &targets, signer);
        let snapshot = Snapshot::new(self.common(), MetaFile::of(self.version, &bytes));
        let bytes = put(&folder, &root, &snapshot, signer);
        let common = Common::new(self.version, self.expires);
        let timestamp = Timestamp::new(common, MetaFile::of(self.version, &bytes));
        put(&folder, &root, &timestamp, signer);
    }
}

fn put<T: Document>(folder: &Path, root: &Root, document: &T, signer: &Signer) -> Vec<u8> {
    let bytes = sign(document, &[signer]).unwrap();
    write(folder, root, document, &bytes).unwrap();
    bytes
}

fn record(kernel: &str, level: u32) -> Record {
    Record {
        kernel: kernel.to_owned(),
        level,
        release: "7.2.12+deb13-cloud-amd64".to_owned(),
        build_id: "90ab".to_owned(),
        base: "7.2.12-1~bpo13+1".to_owned(),
        effective: "7.2.13-1".to_owned(),
        published: "2026-11-23T10:12:00Z".to_owned(),
        covered_until: Some("2099-06-30".to_owned()),
        fixes: fixes_name(level),
    }
}

fn fixes_of(kernel: &str, level: u32) -> Fixes {
    let fix = |id: &str, title: &str, since| Fix {
        id: Some(id.to_owned()),
        title: title.to_owned(),
        since,
    };
    Fixes {
        kernel: kernel.to_owned(),
        level,
        release: "7.2.12+deb13-cloud-amd64".to_owned(),
        base: "7.2.12-1~bpo13+1".to_owned(),
        effective: "7.2.13-1".to_owned(),
        between: vec!["CVE-2026-12345".to_owned()],
        fixes: vec![
            fix("CVE-2026-12345", "net: check the length of the option", 9),
            fix("CVE-2026-12350", "fs: count the reference", level),
        ],
        functions: vec!["ip_options_echo".to_owned()],
    }
}

fn golden(state: &str, machine: &Machine) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/states/{state}.txt"));
    let said = machine.transcript();
    if std::env::var("TRYCMD").as_deref() == Ok("overwrite") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &said).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(said, wanted, "{}", path.display());
}

#[test]
fn nothing_is_applied() {
    golden("nothing", &Machine::new().module(0).offered(&[9]));
}

#[test]
fn the_newest_level_is_applied() {
    golden("applied", &Machine::new().module(9).offered(&[8, 9]));
}

#[test]
fn tasks_are_in_former_code() {
    golden("straggling", &Machine::new().straggling().offered(&[8, 9]));
}

#[test]
fn a_newer_level_is_known() {
    golden("behind", &Machine::new().module(9).offered(&[9, 10]));
}

#[test]
fn the_server_has_less_than_is_applied() {
    golden("ahead", &Machine::new().module(9).offered(&[8]));
}

#[test]
fn the_newest_level_has_crashed_the_machine() {
    let machine = Machine::new().module(0).offered(&[9]);
    let trial = format!(
        "{{\"boot_id\": \"another\", \"kernel\": \"{}\", \"level\": 9, \"since\": 1795515125}}",
        hash()
    );
    machine.write("var/lib/kcare/trial.json", &trial);
    golden("crashed", &machine);
}

#[test]
fn an_administrator_stays_at_a_level() {
    let machine = Machine::new().module(9).offered(&[9, 10]);
    golden(
        "sticky",
        &machine
            .settings("STICKY_PATCH=9")
            .settings("AUTO_UPDATE=False"),
    );
}

#[test]
fn the_module_is_not_loaded() {
    golden("no-module", &Machine::new().offered(&[9]));
}

#[test]
fn a_container() {
    let machine = Machine::new().offered(&[9]);
    machine.write("run/systemd/container", "lxc\n");
    golden("container", &machine);
}

#[test]
fn the_kernel_is_not_supported() {
    let machine = Machine::new().module(0).offered(&[9]);
    machine.write("proc/version", &KERNEL.replace("#1", "#2"));
    golden("unsupported", &machine);
}

/// As agents of old have it; what would be below it is looked for elsewhere.
#[test]
fn the_settings_are_one_file() {
    let machine = Machine::new().module(9).offered(&[9, 10]);
    let conf = format!("PATCH_SERVER=file://{}\n", machine.at("tree").display());
    machine.write("etc/sysconfig/kcare", &conf);
    let said = machine.run(&["--check"]);
    assert!(said.contains("New patch level detected: 10\n? 0"), "{said}");
    let said = machine.run(&["--fetch"]);
    assert!(said.contains("Patch level 10 is downloaded\n? 0"), "{said}");
    let said = machine.run(&["--status"]);
    assert!(said.ends_with("? 2\n\n"), "{said}");
}

#[test]
fn a_first_root_that_is_damaged() {
    let machine = Machine::new().module(9).offered(&[9]);
    machine.write("usr/share/kcare/root.json", "{\"signed\": {}}");
    golden("damaged-root", &machine);
}

#[test]
fn the_boot_says_that_nothing_is_applied() {
    let machine = Machine::new().module(0).offered(&[9]);
    machine.write("proc/cmdline", "quiet kcare.mode=no-apply\n");
    golden("stopped", &machine);
}

#[test]
fn the_vendor_has_withdrawn_the_level() {
    let vendor = Vendor {
        withdrawn: Some(9),
        ..Vendor::new()
    };
    golden(
        "withdrawn",
        &Machine::new().module(9).offered_by(&vendor, &[8]),
    );
    // Also where a higher one is offered that is not wanted.
    let machine = Machine::new().module(9).offered_by(&vendor, &[8, 10]);
    golden("withdrawn-sticky", &machine.settings("STICKY_PATCH=9"));
}

#[test]
fn the_newest_level_has_to_wait() {
    let machine = Machine::new().module(9).offered(&[9, 10]);
    golden("delayed", &machine.settings("UPDATE_DELAY=9999d"));
}

#[test]
fn nothing_was_heard_of_the_server_for_long() {
    let vendor = Vendor {
        expires: Time::parse("2026-11-20T12:00:00Z").unwrap(),
        ..Vendor::new()
    };
    let machine = Machine::new().module(9).offered_by(&vendor, &[9]);
    let (from, to) = (
        format!("tree/{}", hash()),
        format!("var/lib/kcare/tuf/default/{}", hash()),
    );
    fs::create_dir_all(machine.at(&to)).unwrap();
    for (name, kept) in [
        ("1.root.json", "root.json"),
        ("timestamp.json", "timestamp.json"),
        ("1.snapshot.json", "snapshot.json"),
        ("1.targets.json", "targets.json"),
    ] {
        fs::copy(machine.at(&from).join(name), machine.at(&to).join(kept)).unwrap();
    }
    golden("silent", &machine);
}

#[test]
fn the_vendor_has_stopped() {
    let vendor = Vendor {
        covered_until: "2026-06-30",
        ..Vendor::new()
    };
    golden("ended", &Machine::new().module(9).offered_by(&vendor, &[9]));
}

/// A mirror that was copied together wrongly, or somebody on the way: all of it is genuine, and of another kernel.
#[test]
fn the_metadata_of_another_kernel_leave_nothing_behind() {
    let mut vendor = Vendor::new();
    let machine = Machine::new().module(0).offered_by(&vendor, &[9]);
    machine.configure();
    let [here, aside] = [machine.at("tree").join(hash()), machine.at("aside")];
    fs::rename(&here, &aside).unwrap();
    vendor.version = 11;
    vendor.publish(&machine.at("tree"), &"0".repeat(40), &[3]);
    fs::rename(machine.at("tree").join("0".repeat(40)), &here).unwrap();
    for _ in 0..2 {
        let said = machine.run(&["--check"]);
        assert!(said.contains("is of another one"), "{said}");
        assert!(said.ends_with("? 6\n\n"), "{said}");
    }
    fs::remove_dir_all(&here).unwrap();
    fs::rename(&aside, &here).unwrap();
    let said = machine.run(&["--check"]);
    assert!(said.contains("New patch level detected: 9"), "{said}");
}

/// Whoever keeps files open or asks a slow server keeps nobody from anything.
#[test]
fn a_pipe_in_the_cache_keeps_nobody() {
    let machine = Machine::new().module(9).offered(&[9]);
    let folder = format!("var/cache/kcare/tuf/default/{}", hash());
    machine.write(&format!("{folder}/poll.json"), "{}");
    let path = machine.at(&folder).join("poll.json");
    fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
    let said = machine.run(&["--status"]);
    assert!(said.ends_with("? 0\n\n"), "{said}");
}

/// The power fails while the service downloads.
#[test]
fn a_download_that_was_cut_off_is_no_fault() {
    let machine = Machine::new().module(0).offered(&[9]);
    machine.configure();
    let tree = machine.at("var/cache/kcare/tree").join(hash());
    let cut = |missing: &str| {
        let _ = fs::remove_dir_all(machine.at("var/cache/kcare/tree"));
        machine.run(&["--fetch"]);
        fs::remove_file(tree.join(missing)).unwrap();
    };
    for missing in ["1.snapshot.json", "1.targets.json", "timestamp.json"] {
        cut(missing);
        let said = machine.run(&["--apply-cached"]);
        assert!(
            said.contains("The cache has no patch level to apply"),
            "{said}"
        );
        assert!(said.ends_with("? 1\n\n"), "{said}");
    }
    // Nor where root has asked the server itself.
    machine.run(&["--check"]);
    cut("timestamp.json");
    let said = machine.run(&["--apply-cached"]);
    // It has gone on with what it knows, to the module, which is none here.
    assert!(said.contains("/dev/kcare does not answer"), "{said}");
    assert!(!said.contains("what was downloaded"), "{said}");
}
