// SPDX-License-Identifier: GPL-2.0

//! What the programs do on a console, without a kernel that has kcare.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const KCARECTL: &str = env!("CARGO_BIN_EXE_kcarectl");
const KCARE_PUSH: &str = env!("CARGO_BIN_EXE_kcare-push");

#[test]
fn golden_transcripts() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs a program as an ordinary user, against a device that only root may open.
fn as_nobody(program: &str, args: &[&str]) -> Output {
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    // The build folder may be closed to others. Copied by a process of its own, because a file that a
    // parallel test's child still holds open for writing could not be run.
    let copied = Command::new("cp")
        .args([program, "program"])
        .current_dir(dir.path())
        .status();
    assert!(copied.unwrap().success());
    fs::write(at("fix.kpatch"), "payload").unwrap();
    File::create(at("device")).unwrap();
    // Whoever runs the tests, nobody but root can open this.
    fs::set_permissions(at("device"), Permissions::from_mode(0o000)).unwrap();

    let mut command = Command::new(at("program"));
    command
        .current_dir(dir.path())
        .args(args)
        .args(["--device", "device"]);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn an_ordinary_user_is_told_to_be_root() {
    for (program, args) in [
        (KCARECTL, ["--unload"].as_slice()),
        (KCARECTL, &["--rollback"]),
        (KCARE_PUSH, &["fix.kpatch"]),
        (KCARE_PUSH, &["--downgrade", "fix.kpatch"]),
    ] {
        let output = as_nobody(program, args);
        let name = Path::new(program).file_name().unwrap().to_str().unwrap();
        assert_eq!(
            text(&output.stderr),
            format!("{name}: cannot open device: permission denied.\nHint: run it as root.\n")
        );
        assert_eq!(text(&output.stdout), "");
        assert_eq!(output.status.code(), Some(4), "{args:?}");
    }
}

/// A system where level 9 is applied, in the state of the fixtures.
fn applied() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("proc/kcare");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("status"), include_str!("fixtures/applied.proc")).unwrap();
    root
}

#[test]
fn everybody_may_ask() {
    let root = applied();
    let root = root.path().to_str().unwrap();
    for (command, says) in [
        ("--info", "kpatch-description: 9;7.2.12-1\n"),
        ("--status", "Protected: patch level 9 is applied\n"),
        ("--patch-info", "kpatch-cve: CVE-2026-12345\n"),
        ("--uname", "7.2.12-1\n"),
        ("--history", "apply     8 -> 9          ok\n"),
    ] {
        let output = as_nobody(KCARECTL, &[command, "--root", root]);
        assert_eq!(text(&output.stderr), "", "{command}");
        assert!(
            text(&output.stdout).contains(says),
            "{command}: {}",
            text(&output.stdout)
        );
        assert_eq!(output.status.code(), Some(0), "{command}");
    }
}

#[test]
fn who_may_not_write_is_told_to_be_root() {
    let root = applied();
    for folder in ["var/lib/kcare", "var/cache/kcare"] {
        let folder = root.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
    }
    let root = root.path().to_str().unwrap();
    for command in ["--update", "--fetch", "--apply-cached", "--settle"] {
        let output = as_nobody(KCARECTL, &[command, "--root", root, "--json"]);
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["error"]["kind"], "user", "{command}: {document}");
        assert_eq!(
            document["error"]["hints"][0], "run it as root.",
            "{command}"
        );
        assert_eq!(output.status.code(), Some(4), "{command}");
        assert!(
            text(&output.stderr).ends_with("\nHint: run it as root.\n"),
            "{command}"
        );
    }
}

#[test]
fn settings_that_only_root_may_read_are_no_fault_of_theirs() {
    let root = applied();
    let folder = root.path().join("etc/sysconfig/kcare");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("kcare.conf"),
        "PATCH_SERVER=http://me:mine@patches.invalid\n",
    )
    .unwrap();
    fs::set_permissions(folder.join("kcare.conf"), Permissions::from_mode(0o000)).unwrap();
    let root = root.path().to_str().unwrap();
    let output = as_nobody(KCARECTL, &["--check", "--root", root]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("\nHint: run it as root, or make the file readable.\n"));
    assert_eq!(
        as_nobody(KCARECTL, &["--status", "--root", root])
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn a_wrong_command_line_is_one_json_document_too() {
    for (program, args) in [
        (KCARECTL, ["--json", "--bogus"].as_slice()),
        (KCARECTL, &["--json"]),
        (KCARECTL, &["--info", "--status", "--json"]),
        (KCARECTL, &["--update", "--level", "none", "--json"]),
        (KCARE_PUSH, &["--json"]),
    ] {
        let output = Command::new(program).args(args).output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["error"]["kind"], "user", "{args:?}");
        assert_eq!(document["error"]["exit_code"], 4, "{args:?}");
        let message = document["error"]["message"].as_str().unwrap();
        assert!(
            !message.is_empty() && !message.contains('\n') && !message.starts_with("error"),
            "{message}"
        );
        assert!(
            document["error"]["hints"][0]
                .as_str()
                .unwrap()
                .contains("--help"),
            "{args:?}"
        );
        // For people it is the same as without.
        assert!(text(&output.stderr).starts_with("error: "), "{args:?}");
        assert_eq!(output.status.code(), Some(4), "{args:?}");
    }
    let output = Command::new(KCARECTL).arg("--bogus").output().unwrap();
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_module_that_says_something_else_is_an_error() {
    let root = applied();
    fs::write(root.path().join("proc/kcare/status"), "state: unheard of\n").unwrap();
    let root = root.path().to_str().unwrap();
    let output = as_nobody(KCARECTL, &["--info", "--root", root]);
    assert!(text(&output.stderr).contains("/proc/kcare/status does not say what"));
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn an_error_is_one_json_document_too() {
    let output = as_nobody(KCARE_PUSH, &["fix.kpatch", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "user");
    assert_eq!(document["error"]["exit_code"], 4);
    assert_eq!(document["error"]["hints"][0], "run it as root.");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn a_broken_pipe_is_success() {
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    let output = Command::new(KCARECTL)
        .args(["--info", "--root", "missing"])
        .stdout(OwnedFd::from(writer))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(3));
}

/// Runs a program as a shell does behind `>&-`.
fn with_stdout_closed(program: &str, args: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "exec \"$@\" >&-", "sh", program])
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn a_closed_stdout_is_success() {
    for args in [
        ["--patch-info"].as_slice(),
        &["--patch-info", "--json"],
        &["--help"],
    ] {
        let output = with_stdout_closed(KCARECTL, &[args, &["--root", "missing"]].concat());
        assert_eq!(text(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_closed_stdout_keeps_the_exit_code() {
    for (program, args, expected) in [
        (KCARECTL, ["--status"].as_slice(), 3),
        (KCARECTL, &["--rollback", "--json"], 5),
        (KCARE_PUSH, &["/proc/version", "--json"], 5),
    ] {
        let output = with_stdout_closed(program, &[args, &["--device", "missing"]].concat());
        assert_eq!(output.status.code(), Some(expected), "{args:?}");
    }
}

#[test]
fn an_answer_never_goes_into_the_device() {
    // It could be opened as the lowest free descriptor, which is stdout's.
    let device = tempfile::NamedTempFile::new().unwrap();
    let path = device.path().to_str().unwrap();
    let output = with_stdout_closed(KCARECTL, &["--unload", "--json", "--device", path]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(fs::read(path).unwrap(), b"");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(KCARECTL)
        .arg("--help")
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(
        text(&output.stderr),
        "kcarectl: cannot write the answer.\nCaused by: No space left on device (os error 28)\n"
    );
    assert_eq!(output.status.code(), Some(4));
}
