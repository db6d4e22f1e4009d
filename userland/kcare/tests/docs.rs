// SPDX-License-Identifier: GPL-2.0

//! What packages ship is there and says what the programs do.

#[allow(dead_code)]
#[path = "../examples/docs.rs"]
mod docs;

use std::fs;

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

#[test]
fn the_man_page_tells_every_field_of_the_json() {
    for line in include_str!("fixtures/applied.json").lines() {
        if let Some((key, _)) = line.split_once("\":") {
            let key = key.trim_start_matches([' ', '"']);
            assert!(docs::JSON.contains(&format!("`{key}`")), "{key}");
        }
    }
}
