// SPDX-License-Identifier: GPL-2.0

//! What packages ship is there and says what the programs do.

#[allow(dead_code)]
#[path = "../examples/docs.rs"]
mod docs;

use std::fs;

use kcare::cli::{KcarePush, Kcarectl, Program};

#[test]
fn man_pages_and_completions_of_both_programs() {
    let dir = tempfile::tempdir().unwrap();
    docs::write_all(dir.path()).unwrap();
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();

    for (name, option, codes) in [
        ("kcarectl", "unload", Kcarectl::exit_codes()),
        ("kcare-push", "json", KcarePush::exit_codes()),
    ] {
        let page = read(&format!("man/man8/{name}.8"));
        assert!(page.contains(&format!(".TH {name} 8")), "{page}");
        assert!(!page.contains("PATH"), "{name} documents a hidden option");
        for (code, meaning) in codes {
            assert!(
                page.contains(&format!("\\fB{code}\\fR\n{}", meaning.replace('-', "\\-"))),
                "{code}: {page}"
            );
        }
        for path in [
            format!("bash-completion/completions/{name}"),
            format!("zsh/site-functions/_{name}"),
            format!("fish/vendor_completions.d/{name}.fish"),
        ] {
            let script = read(&path);
            assert!(script.contains(option), "{path}: {script}");
        }
    }
}
