// SPDX-License-Identifier: GPL-2.0

//! Builds payloads for a real kernel: `KCARE_TEST_KERNEL` names a prepared release.
//!
//! `KCARE_TEST_UNITS` is the number of units in which nothing but line numbers changes (default 12).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kcare_build::inspect::Summary;
use kcare_build::kernel::Kernel;
use kcare_build::patch::Patches;
use kcare_build::vmlinux::Vmlinux;
use kcare_payload::trailer;
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol};

/// The functions that each test patch redirects.
const PATCHES: &[(&str, &[&str])] = &[
    ("callbacks", &["cmdline_proc_show"]),
    ("callbacks-kpatch", &["version_proc_show"]),
    ("callbacks-module", &["dummy_get_stats64"]),
    ("callbacks-only", &[]),
    ("cmdline", &["cmdline_proc_show"]),
    ("dummy", &["dummy_get_stats64", "dummy_setup"]),
    ("extable", &["__x64_sys_getcpu", "__ia32_sys_getcpu"]),
    ("getcwd", &["__x64_sys_getcwd", "__ia32_sys_getcwd"]),
    ("getpid", &["__x64_sys_getpid"]),
    ("header", &["cmdline_proc_show"]),
    ("meminfo", &["meminfo_proc_show"]),
    ("module-outer", &["cmdline_proc_show", "dummy_get_stats64"]),
    ("multi", &["cmdline_proc_show", "meminfo_proc_show"]),
    ("new-data", &["version_proc_show"]),
    ("oops", &["eventfd_write"]),
    ("pipe-read", &["anon_pipe_read"]),
    (
        "shadow",
        &[
            "do_eventfd",
            "eventfd_release",
            "eventfd_show_fdinfo",
            "eventfd_write",
        ],
    ),
    ("stack", &["__x64_sys_umask", "__ia32_sys_umask"]),
    ("state-1", &["version_proc_show"]),
    ("state-2", &["version_proc_show"]),
    ("static-call-klp", &["cmdline_proc_show"]),
    ("static-key", &["cmdline_proc_show"]),
    ("syscall-klp", &["__x64_sys_umask", "__ia32_sys_umask"]),
    ("syscall-kpatch", &["__x64_sys_umask", "__ia32_sys_umask"]),
    ("warn", &["__x64_sys_umask", "__ia32_sys_umask"]),
    ("zram", &["initstate_show", "zcomp_available_show"]),
];

/// Name of a patch, its callbacks, and the ids and versions of its states.
type Declared = (&'static str, &'static [&'static str], &'static [(u64, u32)]);

/// Those patches that have any.
const DECLARED: &[Declared] = &[
    ("callbacks", &ALL_CALLBACKS, &[]),
    ("callbacks-kpatch", &ALL_CALLBACKS, &[]),
    ("callbacks-module", &ALL_CALLBACKS, &[]),
    ("callbacks-only", &["pre_patch", "post_unpatch"], &[]),
    ("shadow", &["post_unpatch"], &[]),
    ("state-1", &ALL_CALLBACKS, &[(0x4243, 1)]),
    ("state-2", &ALL_CALLBACKS, &[(0x4243, 2)]),
];
const ALL_CALLBACKS: [&str; 4] = ["pre_patch", "post_patch", "pre_unpatch", "post_unpatch"];

fn release() -> Option<String> {
    let release = std::env::var("KCARE_TEST_KERNEL").ok();
    if release.is_none() {
        println!("skipped: KCARE_TEST_KERNEL names no prepared kernel");
    }
    release
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn test_patch(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/patches");
    root.join(format!("{name}.patch"))
}

fn build(release: &str, patch: &Path, out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kcare-build"))
        .args(["build", "--quiet", "--kernel", release])
        .args(more)
        .arg("-o")
        .arg(out)
        .arg(patch)
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A patch that moves all lines of a file.
fn moved_lines(kernel: &Kernel, unit: &str) -> String {
    let text = fs::read(kernel.source().join(unit)).unwrap();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().unwrap();
    format!("--- a/{unit}\n+++ b/{unit}\n@@ -1,1 +1,3 @@\n+\n+\n {first}\n")
}

#[test]
fn test_patches_redirect_what_they_should() {
    let Some(release) = release() else { return };
    let dir = scratch("patches");
    for (name, functions) in PATCHES {
        let out = dir.join(format!("{name}.kpatch"));
        let output = build(
            &release,
            &test_patch(name),
            &out,
            &["--unsigned", "--level", "3"],
        );
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let summary = Summary::new(&fs::read(&out).unwrap()).unwrap();
        let mut found: Vec<&str> = summary.functions().map(|f| f.name.as_str()).collect();
        let mut wanted = functions.to_vec();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{name}");
        assert_eq!(
            (summary.level, summary.release.as_str()),
            (3, release.as_str())
        );
        let declared = DECLARED.iter().find(|(patch, ..)| patch == name);
        let (callbacks, states) = declared.map_or((&[][..], &[][..]), |d| (d.1, d.2));
        let bodies = || {
            [&summary.body]
                .into_iter()
                .chain(summary.parts.iter().map(|p| &p.body))
        };
        let found: Vec<&str> = bodies()
            .flat_map(|b| &b.callbacks)
            .map(|c| c.when)
            .collect();
        assert_eq!(found, callbacks, "{name}");
        for callback in bodies().flat_map(|b| &b.callbacks) {
            let wanted = format!("kcare_test_{}", callback.when);
            assert_eq!(callback.function, wanted, "{name}");
        }
        let found: Vec<(u64, u32)> = summary
            .body
            .states
            .iter()
            .map(|s| (s.id, s.version))
            .collect();
        assert_eq!(found, states, "{name}");
        for func in summary.functions() {
            assert!(
                func.unchecked < func.old_size as usize,
                "{name}: nothing is compared"
            );
        }
    }
}

/// Units of modules with code and data of many kinds: static branches and calls, tracepoints, alternatives,
/// exception tables, per-CPU variables, data that is read-only after init.
const MODULE_UNITS: &[&str] = &[
    "arch/x86/kvm/vmx/vmx.c",
    "drivers/block/zram/zram_drv.c",
    "drivers/net/virtio_net.c",
    "fs/nfsd/filecache.c",
    "net/netfilter/nf_tables_core.c",
    "virt/kvm/kvm_main.c",
];

#[test]
fn units_of_modules_are_the_shipped_ones() {
    let Some(release) = release() else { return };
    let dir = scratch("modules");
    let kernel = Kernel::find(&release, None).unwrap();
    let path = dir.join("lines.patch");
    let patch: String = MODULE_UNITS
        .iter()
        .map(|u| moved_lines(&kernel, u))
        .collect();
    fs::write(&path, patch).unwrap();
    let output = build(&release, &path, &dir.join("out"), &["--unsigned"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    // A unit that is in no module would be named instead.
    assert!(text.contains("no function differs"), "{text}");
}

#[test]
fn a_payload_is_the_same_each_time() {
    let Some(release) = release() else { return };
    let dir = scratch("same");
    // With source names of UBSAN, which hold the path of the tree, in the code.
    let patch = test_patch("extable");
    let (a, b) = (dir.join("a"), dir.join("b"));
    for out in [&a, &b] {
        let output = build(
            &release,
            &patch,
            out,
            &["--unsigned", "--fix", "CVE-2026-99999: a fix"],
        );
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap());
}

/// The patched text of a file, line by line.
fn patched_lines(kernel: &Kernel, patch: &Path, file: &str, dir: &Path) -> Vec<String> {
    let tree = dir.join("tree");
    let _ = fs::remove_dir_all(&tree);
    let patches = Patches::apply(kernel, &[patch.to_owned()], &tree).unwrap();
    let text = patches.patched(file).unwrap().unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What a program of the kernel's root prints.
fn told(kernel: &Kernel, program: &str, args: &[&str]) -> String {
    let output = kernel.command(program).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// File and line of an offset of a section, by addr2line.
fn line_of(kernel: &Kernel, companion: &Path, section: &str, offset: u64) -> (String, usize) {
    let (file, offset) = (companion.to_str().unwrap(), format!("{offset:#x}"));
    let text = told(kernel, "addr2line", &["-e", file, "-j", section, &offset]);
    let place = text.split_whitespace().next().unwrap();
    let (name, line) = place.split_once(':').unwrap();
    (name.to_owned(), line.parse().unwrap_or(0))
}

/// Name and size of each defined symbol, with value and section.
fn symbols(bytes: &[u8]) -> BTreeMap<String, (u64, u64, String)> {
    let file = ElfFile64::<LittleEndian>::parse(bytes).unwrap();
    file.symbols()
        .filter(|symbol| symbol.is_definition())
        .map(|symbol| {
            let section = file.section_by_index(symbol.section_index().unwrap());
            let section = section.unwrap().name().unwrap().to_owned();
            let name = symbol.name().unwrap().to_owned();
            (name, (symbol.size(), symbol.address(), section))
        })
        .collect()
}

fn position(code: &[u8], wanted: &[u8]) -> u64 {
    let found = code.windows(wanted.len()).position(|w| w == wanted);
    found.unwrap() as u64
}

#[test]
fn the_debug_companion_leads_to_the_lines_of_the_patched_source() {
    let Some(release) = release() else { return };
    let kernel = Kernel::find(&release, None).unwrap();
    let dir = scratch("companion");
    let (patch, file) = (test_patch("oops"), "fs/eventfd.c");
    let (out, companion) = (dir.join("oops.kpatch"), dir.join("oops.kpatch.debug"));
    let other = dir.join("other.debug");
    let build_it = |more: &[&str]| {
        let output = build(&release, &patch, &out, more);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    build_it(&["--unsigned"]);
    build_it(&["--unsigned", "--debug", other.to_str().unwrap()]);
    let bytes = fs::read(&companion).unwrap();
    assert!(bytes == fs::read(&other).unwrap(), "it is not the same");
    fs::remove_file(&other).unwrap();
    build_it(&["--unsigned", "--no-debug", "--explain"]);
    let here = kernel.dir.canonicalize().unwrap();
    let here = here.as_os_str().as_encoded_bytes();
    assert!(!bytes.windows(here.len()).any(|w| w == here));

    // Names and sizes are those of the payload.
    let payload = fs::read(&out).unwrap();
    let (there, ours) = (symbols(&payload), symbols(&bytes));
    let sizes = |symbols: &BTreeMap<String, (u64, u64, String)>| -> Vec<(String, u64)> {
        let all = symbols.iter();
        all.map(|(name, symbol)| (name.clone(), symbol.0)).collect()
    };
    assert_eq!(sizes(&there), sizes(&ours));

    // The first instruction, a comparison, and the instruction that faults.
    let elf = ElfFile64::<LittleEndian>::parse(&*payload).unwrap();
    let text = elf.section_by_name(".text").unwrap().data().unwrap();
    let (size, start, _) = there["eventfd_write"];
    let code = &text[start as usize..(start + size) as usize];
    let lines = patched_lines(&kernel, &patch, file, &dir);
    let said = |offset: u64| {
        let (_, value, section) = &ours["eventfd_write"];
        let (name, line) = line_of(&kernel, &companion, section, value + offset);
        assert_eq!(name, format!("./{file}"));
        (line, lines[line - 1].trim())
    };
    let first = 1 + lines
        .iter()
        .position(|l| l.starts_with("static ssize_t eventfd_write("))
        .unwrap();
    let last = first + lines[first..].iter().position(|l| l == "}").unwrap();
    assert!((first..=last).contains(&said(0).0));
    // cmp $4210,%rdx; movq $4209,4243
    let compares = position(code, &[0x48, 0x81, 0xfa, 0x72, 0x10, 0, 0]);
    assert_eq!(said(compares).1, "if (count == 4210)");
    let faults = position(code, &[0x48, 0xc7, 0x04, 0x25, 0x93, 0x10, 0, 0]);
    assert_eq!(said(faults).1, "WRITE_ONCE(*(u64 *)4243, count);");
    // What is behind the change, too: cmp $8,%rdx.
    let behind = position(code, &[0x48, 0x83, 0xfa, 0x08]);
    assert_eq!(said(behind).1, "if (count != sizeof(ucnt))");

    // The kernel's own script takes what the log of an oops says.
    let script = kernel.source().join("scripts/faddr2line");
    let place = format!("eventfd_write+{faults:#x}");
    let args = [
        script.to_str().unwrap(),
        companion.to_str().unwrap(),
        &place,
    ];
    let said = told(&kernel, "bash", &args);
    let wanted = format!(
        "eventfd_write at ./{file}:{}",
        line_at(&lines, "WRITE_ONCE(*(u64 *)4243")
    );
    assert!(said.contains(&wanted), "{said}");
}

/// Number of the line that has a text.
fn line_at(lines: &[String], text: &str) -> usize {
    1 + lines.iter().position(|l| l.contains(text)).unwrap()
}

#[test]
fn the_debug_companion_has_the_parts_for_modules() {
    let Some(release) = release() else { return };
    let kernel = Kernel::find(&release, None).unwrap();
    let dir = scratch("companion-module");
    let patch = test_patch("module-outer");
    let out = dir.join("out.kpatch");
    let output = build(&release, &patch, &out, &["--unsigned"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let companion = dir.join("out.kpatch.debug");
    let found = symbols(&fs::read(&companion).unwrap());
    for (name, section, file) in [
        ("cmdline_proc_show", ".text", "fs/proc/cmdline.c"),
        ("kcare_test_reads", ".text", "fs/proc/cmdline.c"),
        ("dummy_get_stats64", ".text.dummy", "drivers/net/dummy.c"),
    ] {
        let lines = patched_lines(&kernel, &patch, file, &dir);
        let (size, value, place) = &found[name];
        assert_eq!(place, section, "{name}");
        for offset in [0, size - 1] {
            let (said, line) = line_of(&kernel, &companion, section, value + offset);
            assert_eq!(said, format!("./{file}"), "{name}");
            let first = lines[..line]
                .iter()
                .rposition(|l| l.contains(&format!("{name}(")));
            assert!(
                first.is_some_and(|first| !lines[first..line - 1].iter().any(|l| l == "}")),
                "{name}: line {line}"
            );
        }
    }
}

#[test]
fn the_signature_is_what_the_kernel_verifies() {
    let Some(release) = release() else { return };
    let dir = scratch("signed");
    let (key, cert, out) = (
        dir.join("key.pem"),
        dir.join("cert.pem"),
        dir.join("out.kpatch"),
    );
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=kcare test",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let (key_arg, cert_arg) = (key.to_str().unwrap(), cert.to_str().unwrap());
    let more = ["--key", key_arg, "--cert", cert_arg];
    let output = build(&release, &test_patch("cmdline"), &out, &more);
    assert!(output.status.success(), "{}", stderr(&output));

    let bytes = fs::read(&out).unwrap();
    let (body, signature) = trailer::split(&bytes).unwrap();
    fs::write(dir.join("body"), body).unwrap();
    fs::write(dir.join("signature"), signature).unwrap();
    let verify = |content: &str| {
        Command::new("openssl")
            .args([
                "cms",
                "-verify",
                "-binary",
                "-inform",
                "DER",
                "-noverify",
                "-in",
            ])
            .arg(dir.join("signature"))
            .arg("-certfile")
            .arg(&cert)
            .arg("-content")
            .arg(dir.join(content))
            .args(["-out", "/dev/null"])
            .output()
            .unwrap()
    };
    assert!(
        verify("body").status.success(),
        "{}",
        stderr(&verify("body"))
    );
    let mut other = body.to_vec();
    other[0x40] ^= 1;
    fs::write(dir.join("other"), other).unwrap();
    assert!(
        !verify("other").status.success(),
        "a changed payload verifies"
    );

    // Signing again replaces the signature, and inspect names the signer.
    let again = Command::new(env!("CARGO_BIN_EXE_kcare-build"))
        .args(["sign", "--key", key_arg, "--cert", cert_arg])
        .arg(&out)
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", stderr(&again));
    let bytes = fs::read(&out).unwrap();
    assert_eq!(trailer::split(&bytes).unwrap().0, body);
    let serial = Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(&cert)
        .output()
        .unwrap();
    let serial = String::from_utf8(serial.stdout)
        .unwrap()
        .trim()
        .to_lowercase();
    let signer = Summary::new(&bytes).unwrap().signature.unwrap().signer;
    assert_eq!(
        format!("serial={}", signer.trim_start_matches("00")),
        serial
    );
}

#[test]
fn another_compiler_or_configuration_is_one_clear_error() {
    let Some(release) = release() else { return };
    let kernel = Kernel::find(&release, None).unwrap();
    // The build root shows the kernel's own folder only.
    let copy = kernel.dir.join("work/another-kernel");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(copy.join("build/include/config")).unwrap();
    for part in ["vmlinux", "source", "release.env"] {
        std::os::unix::fs::symlink(kernel.dir.join(part), copy.join(part)).unwrap();
    }
    let configs = ["config", "build/.config", "build/include/config/auto.conf"];
    let edit = |which: &[&str], from: &str, to: &str| {
        for name in configs {
            let text = fs::read_to_string(kernel.dir.join(name)).unwrap();
            let edited = text.replace(from, to);
            assert_ne!(text, edited, "{name} is not as the test expects");
            let text = if which.contains(&name) { edited } else { text };
            fs::write(copy.join(name), text).unwrap();
        }
    };
    let out = scratch("toolchain").join("out.kpatch");
    let fails = |texts: &[&str]| {
        let kernel = copy.to_str().unwrap();
        let output = build(kernel, &test_patch("cmdline"), &out, &["--unsigned"]);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for text in texts {
            assert!(message.contains(text), "{message}");
        }
        assert!(!out.exists());
    };

    for name in &configs[1..] {
        edit(&[name], "CONFIG_PROC_FS=y\n", "");
        fails(&["CONFIG_PROC_FS is not set, and was y", "Hint: remove "]);
    }
    let compiler = kernel.config("CONFIG_CC_VERSION_TEXT").unwrap().unwrap();
    let compiler = compiler.trim_matches('"');
    let other = compiler.replace("(Debian ", "(Debian 1:");
    edit(&configs, compiler, &other);
    fails(&[
        &format!("was built with `{other}`, and the build root has `{compiler}`"),
        "Hint: run `scripts/kernel prepare",
    ]);
    fs::remove_dir_all(&copy).unwrap();
}

#[test]
fn files_are_found_where_they_are_built() {
    let Some(release) = release() else { return };
    let files = [
        ("arch/arm64/kernel/setup.c", "nowhere"),
        ("fs/pipe.c", "vmlinux"),
        ("fs/xfs/xfs_inode.c", "module"),
        ("include/linux/sched.h", "included"),
        ("kernel/sched/rt.c", "included"),
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_kcare-build"))
        .args(["where", "--kernel", &release])
        .args(files.map(|(file, _)| file))
        .output()
        .unwrap();
    let wanted: String = files.map(|(f, place)| format!("{f}\t{place}\n")).concat();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        wanted,
        "{}",
        stderr(&output)
    );
}

#[test]
fn moved_lines_change_nothing() {
    let Some(release) = release() else { return };
    let kernel = Kernel::find(&release, None).unwrap();
    let count: usize = std::env::var("KCARE_TEST_UNITS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(12);
    let units = Vmlinux::open(&kernel.vmlinux())
        .unwrap()
        .unit_names(&kernel.source())
        .unwrap();
    let units: Vec<String> = units
        .into_iter()
        .filter(|u| u.ends_with(".c") && kernel.source().join(u).exists())
        .filter(|u| !u.starts_with("arch/x86/boot/") && *u != "kernel/bounds.c")
        .collect();
    assert!(units.len() > 1000, "vmlinux has {} units", units.len());
    let mut patch = String::new();
    for unit in units.iter().step_by((units.len() / count.max(1)).max(1)) {
        patch += &moved_lines(&kernel, unit);
    }
    let dir = scratch("lines");
    let path = dir.join("lines.patch");
    fs::write(&path, patch).unwrap();
    let output = build(
        &release,
        &path,
        &dir.join("out"),
        &["--unsigned", "--max-units", "5000"],
    );
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}
