// SPDX-License-Identifier: GPL-2.0

//! Writes man pages and shell completions, laid out as below /usr/share, for packages to ship.
//!
//! `cargo run -p kcare --example docs -- DIRECTORY`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::roff::{bold, roman, Roff};
use clap_mangen::Man;
use kcare::cli::{KcarePush, KcareUname, Kcarectl, Program};
use kcare::config::SETTINGS;

/// What the fields of `kcare::state::State` and `kcare::error::Failure` are, and of what some commands have besides.
pub const JSON: &str = "\
With --json a command prints one object. `protected` tells whether a patch is applied. `kernel` \
has the running kernel's `release`, `version` (/proc/version) and `build_id`. `patch` is null \
when nothing is applied, or has `level`, `previous_level` (that a rollback goes back to; null if \
there is none), `release`, `description`, `build_time` and `applied_time` (seconds since 1970), \
`functions`, `memory` (bytes) and `fixes`, each with `id` (null if it has none) and `title`; and, if \
it patches modules, `modules`, each with `name` and `loaded`. `module` is null when the kcare module is not loaded, or has `stop_last` and `stop_max` \
(nanoseconds for which the machine was stopped), `stop_sum` (all stops of the last switch together) and `failures`. \
While tasks finish old calls in former code there is `transition`, with `count`, `stragglers` (each with `pid`, `uid`, \
`since` in seconds since 1970, `level` (whose code it sees, 0 for the original one), `function` and `name`), and \
`unreadable`, lines that this program does not know. A command that changes what is applied, and kcare-push --dry-run, \
has `note` if the kernel had more to say. With --history it has `history`, \
the oldest first, each with `time` (seconds since 1970), `what` (apply, unload, rollback, forget, \
module-came, module-went, complete: the last task has left former code, or redirect: functions are redirected in another way), `level` and `before` (what was applied behind it and before it, 0 for none) and \
`refused` (null, or the name of the kernel's reason). With --status it has `service`, and \
with --doctor if the settings can be understood: `auto_update` (null if they may not be read), `channel`, `newest` (the \
highest level that the server had), `allowed` (the highest that may be applied), `sticky` and \
`covered_until`, each null if there is none, `coverage_ended` (that day is over), `kept_back` (why \
the highest is not applied; left out if nothing is in the way), `withdrawn` (the vendor has taken the \
applied level back), `expired` (until when the server's word was good, left out if it still is), `held` (levels that are not applied again by \
themselves), `unsupported`, `container` and `stopped` (by kcare.mode=). --doctor prints an object \
with `findings`, each with `health` (fine, note or wrong), `about`, `text` and `hint` (null if there \
is none), and `state`, which is the object above. --check prints one with `new` (a level that --update would apply, null if there is none), `newest` \
and `live` (0 for none). --update --dry-run prints one with `level` and `fixes`, those that it would add. --latest-patch-info prints one with `level`, `published` \
and `fixes` (each null if there is none that may be applied), the vendor's list: `kernel`, `level`, `release`, `base`, `effective`, `between`, \
`fixes` (each with `since`, the level that brought it) and `functions`. --vex prints an OpenVEX \
document, with --json and without. A command that fails prints an \
object with the one field `error`: `kind`, `exit_code`, `message`, `details`, `causes`, `hints`, \
and `refusal`, which is null unless the kernel refused, or has `errno`, `reason`, `name` (of the \
reason), `place` and `text` (the kernel's message).";

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: docs DIRECTORY");
        return ExitCode::FAILURE;
    };
    match write_all(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("docs: cannot write to {}: {e}", directory.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes everything for the programs below `directory`.
pub fn write_all(directory: &Path) -> io::Result<()> {
    write::<Kcarectl>(directory, "kcare-push(8), kcare-uname(8), kcare.conf(5)")?;
    save(directory, "man/man5/kcare.conf.5", &settings_page()?)?;
    write::<KcareUname>(directory, "kcarectl(8)")?;
    write::<KcarePush>(directory, "kcarectl(8)")
}

fn write<P: Program + CommandFactory>(directory: &Path, see_also: &str) -> io::Result<()> {
    let name = P::NAME;
    save(
        directory,
        &format!("man/man8/{name}.8"),
        &man_page::<P>(see_also)?,
    )?;
    for (shell, path) in [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Zsh, format!("zsh/site-functions/_{name}")),
        (
            Shell::Fish,
            format!("fish/vendor_completions.d/{name}.fish"),
        ),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut P::command(), name, &mut script);
        save(directory, &path, &script)?;
    }
    Ok(())
}

/// The manual page of the settings.
fn settings_page() -> io::Result<Vec<u8>> {
    let mut page = Roff::new();
    page.control("TH", ["kcare.conf", "5", "", "", "kcare"]);
    page.control("SH", ["NAME"]);
    page.text([roman("kcare.conf - settings of kcarectl")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        bold("/etc/sysconfig/kcare/kcare.conf"),
        roman(
            " has lines NAME=VALUE, and comments that begin with #. A value that cannot be understood is an error and \
             never a default; an empty value is the default, but for a proxy, where it is none. A line may begin with \
             export. Where /etc/sysconfig/kcare is a file, it is read in place of that. Names that are not listed here \
             are left alone, and named by kcarectl --doctor. A server that has failed twice is asked less often; other \
             settings of how it is reached end that. Revocation records, /etc/sysconfig/kcare/revoked/*.revoked, go to \
             the kernel before a level is applied.",
        ),
    ]);
    page.control("SH", ["SETTINGS"]);
    for (name, text) in SETTINGS {
        page.control("TP", [])
            .text([bold(name)])
            .text([roman(text)]);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("kcarectl(8)")]);
    let mut out = Vec::new();
    page.to_writer(&mut out)?;
    Ok(out)
}

fn save(directory: &Path, path: &str, content: &[u8]) -> io::Result<()> {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().expect("every path here has a folder"))?;
    fs::write(path, content)
}

fn man_page<P: Program + CommandFactory>(see_also: &str) -> io::Result<Vec<u8>> {
    // The man page has the table of exit codes as a section of its own.
    let command = P::command().after_help(None::<&str>);
    let man = Man::new(command).section("8").manual("kcare");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;

    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in P::exit_codes() {
        rest.control("TP", [])
            .text([bold(code.to_string())])
            .text([roman(meaning)]);
    }
    rest.control("SH", ["JSON"]);
    let spans = JSON.split('`').enumerate();
    rest.text(
        spans
            .map(|(n, span)| if n % 2 == 0 { roman(span) } else { bold(span) })
            .collect::<Vec<_>>(),
    );
    rest.control("SH", ["FILES"]);
    rest.control("TP", [])
        .text([bold(kcare::device::DEFAULT_PATH)])
        .text([roman(
            "The device of the kcare kernel module, for root only.",
        )]);
    rest.control("TP", [])
        .text([bold("/proc/kcare/status")])
        .text([roman(
            "What the module tells, for everybody; beside it cvelist and effective_version.",
        )]);
    rest.control("SH", ["SEE ALSO"]);
    rest.text([roman(see_also)]);
    rest.to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}
