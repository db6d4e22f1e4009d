// SPDX-License-Identifier: GPL-2.0

//! What packages ship is there and says what the programs do.

#[allow(dead_code)]
#[path = "../examples/docs.rs"]
mod docs;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clap::CommandFactory;
use kcare::cli::{KcarePush, Kcarectl, Program};

#[test]
fn man_pages_and_completions_of_both_programs() {
    let dir = tempfile::tempdir().unwrap();
    docs::write_all(dir.path()).unwrap();
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();

    for (command, codes) in [
        (Kcarectl::command(), Kcarectl::exit_codes()),
        (KcarePush::command(), KcarePush::exit_codes()),
    ] {
        let name = command.get_name();
        let page = read(&format!("man/man8/{name}.8"));
        assert!(page.contains(&format!(".TH {name} 8")), "{page}");
        assert!(!page.contains("PATH"), "{name} documents a hidden option");
        for (code, meaning) in codes {
            assert!(
                page.contains(&format!("\\fB{code}\\fR\n{}", meaning.replace('-', "\\-"))),
                "{code}: {page}"
            );
        }
        let scripts = [
            format!("bash-completion/completions/{name}"),
            format!("zsh/site-functions/_{name}"),
            format!("fish/vendor_completions.d/{name}.fish"),
        ]
        .map(|path| read(&path));
        let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
        for option in shown.filter_map(|arg| arg.get_long()) {
            let in_man = format!("\\-\\-{}\\fR", option.replace('-', "\\-"));
            assert!(page.contains(&in_man), "--{option}: {page}");
            for script in &scripts {
                assert!(script.contains(option), "--{option}: {script}");
            }
        }
    }
}

/// The names of all fields, at any depth.
fn fields(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                fields(value, found);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

#[test]
fn the_man_page_tells_every_field_of_the_json() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("proc/kcare")).unwrap();
    let status = include_str!("fixtures/applied.proc").to_owned() + "module: nf_tables patched\n";
    fs::write(root.path().join("proc/kcare/status"), status).unwrap();
    let mut found = BTreeSet::new();
    for command in [
        "--info",
        "--status",
        "--history",
        "--doctor",
        "--unload",
        "--bogus",
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_kcarectl"));
        let output = program
            .args([command, "--json", "--device", "missing", "--root"])
            .arg(root.path())
            .output();
        let document = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        fields(&document, &mut found);
    }
    for known in ["modules", "refused", "covered_until", "findings", "hints"] {
        assert!(found.contains(known), "{known}");
    }
    for name in found {
        assert!(docs::JSON.contains(&format!("`{name}`")), "{name}");
    }
}
