// SPDX-License-Identifier: GPL-2.0

//! The command lines of both programs.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser};

use crate::commands::{
    doctor, fetch, forget, history, info, patch_info, push, register, rollback, settle, status,
    uname, unload, update, vex,
};
use crate::device::DEFAULT_PATH;
use crate::error::{Kind, Result};
use crate::{Answer, System};

/// A program of the agent.
pub trait Program: Parser {
    /// Its name, in front of every error.
    const NAME: &'static str;

    /// What its exit codes below those of [`Kind`] mean.
    const ANSWERS: &'static [(u8, &'static str)];

    /// The options that every command has.
    fn common(&self) -> &Common;

    /// Runs the command that was asked for.
    fn run(&self) -> Result<Answer>;

    /// Every exit code and its meaning, ascending.
    fn exit_codes() -> Vec<(u8, &'static str)> {
        let errors = Kind::ALL.map(|kind| (kind.exit_code(), kind.meaning()));
        Self::ANSWERS.iter().copied().chain(errors).collect()
    }

    /// The table of exit codes at the end of `--help`.
    fn exit_help() -> String {
        let lines = Self::exit_codes()
            .into_iter()
            .map(|(code, meaning)| format!("\n  {code}  {meaning}"));
        "Exit status:".to_owned() + &lines.collect::<String>()
    }
}

/// Options of every command.
#[derive(Args)]
#[group(skip)]
pub struct Common {
    /// Print JSON in place of text, errors included
    #[arg(long)]
    pub json: bool,

    /// Use another device node; for tests
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PATH, hide = true)]
    pub device: PathBuf,

    /// Read and keep files below another folder; for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

impl Common {
    fn system(&self) -> System {
        System {
            root: self.root.clone(),
            device: self.device.clone(),
        }
    }
}

/// Update, show, roll back and remove the live patch of the running kernel
///
/// --update, --auto-update, --check, --latest-patch-info, --fetch and --doctor ask the vendor's server; all else works on
/// this machine alone.
///
/// Everybody may ask with --info, --patch-info, --status, --uname, --history and --vex, which write nothing, and with
/// --check, --latest-patch-info and --doctor, which for root alone keep below /var/lib/kcare what the server said. All else
/// is for root; only --fetch is for who owns /var/cache/kcare.
///
/// The patch level that was replaced last stays in memory for --rollback, until --unload or
/// --forget, or until the kernel would have to end a process for lack of memory.
///
/// A task that is inside a function that changes finishes its call in the former code, while all others see the new one
/// at once; --status and --info name such tasks.
#[derive(Parser)]
#[command(
    name = Self::NAME,
    version,
    max_term_width = 100,
    group = ArgGroup::new("command").required(true),
    after_help = Self::exit_help(),
)]
pub struct Kcarectl {
    #[command(flatten)]
    update: update::Update,
    #[command(flatten)]
    fetch: fetch::Fetch,
    #[command(flatten)]
    info: info::Info,
    #[command(flatten)]
    patch_info: patch_info::PatchInfo,
    #[command(flatten)]
    status: status::Status,
    #[command(flatten)]
    uname: uname::Uname,
    #[command(flatten)]
    unload: unload::Unload,
    #[command(flatten)]
    rollback: rollback::Rollback,
    #[command(flatten)]
    forget: forget::Forget,
    #[command(flatten)]
    history: history::History,
    #[command(flatten)]
    doctor: doctor::Doctor,
    #[command(flatten)]
    vex: vex::Vex,
    #[command(flatten)]
    settle: settle::Settle,
    #[command(flatten)]
    register: register::Register,

    /// With --update and --apply-cached: apply a patch level that was live when the machine went down, also where
    /// kcare.mode= forbids it
    #[arg(long, requires = "forcible")]
    force: bool,

    #[command(flatten)]
    common: Common,
}

impl Program for Kcarectl {
    const NAME: &'static str = "kcarectl";

    const ANSWERS: &'static [(u8, &'static str)] = &[
        (0, "done; with --info and --status: a patch is applied; with --check: there is a new level"),
        (1, "with --info, --status and --apply-cached: nothing is applied; with --check: there is no new level; with --doctor: something is wrong"),
        (2, "with --status: a newer patch level is known and not applied, the applied one was withdrawn, or the server has not been heard of for too long"),
        (3, "with --info and --status: the kcare module is not loaded; with --status: the vendor does not support this kernel, or no more"),
    ];

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self) -> Result<Answer> {
        let mut answer = self.answer()?;
        if self.update.quiet {
            answer.text.clear();
        }
        Ok(answer)
    }
}

impl Kcarectl {
    fn answer(&self) -> Result<Answer> {
        let system = &self.common.system();
        match () {
            () if self.update.asked() => update::run(system, &self.update, self.force),
            () if self.fetch.fetch => {
                fetch::fetch(system, &self.fetch, &self.update.config(system)?)
            }
            () if self.fetch.apply_cached => fetch::apply_cached(
                system,
                &self.fetch,
                &self.update.config(system)?,
                self.force,
            ),
            () if self.info.info => info::run(system),
            () if self.patch_info.patch_info => patch_info::run(system),
            () if self.status.status => status::run(system),
            () if self.uname.uname => uname::run(system),
            () if self.unload.unload => unload::run(system),
            () if self.rollback.rollback => rollback::run(system),
            () if self.forget.forget => forget::run(system),
            () if self.history.history => history::run(system),
            () if self.doctor.doctor => doctor::run(system),
            () if self.vex.vex => vex::run(system),
            () if self.settle.settle => settle::run(system, &self.settle),
            () if self.register.asked() => register::run(system, &self.register),
            // PANIC: clap has made sure that one of the group is there.
            () => unreachable!("a command is required"),
        }
    }
}

/// Push one payload into the running kernel
///
/// The kernel verifies the payload and applies it, or refuses it and changes nothing.
///
/// It replaces the applied patch level in one step, and keeps that one for `kcarectl --rollback`.
#[derive(Parser)]
#[command(name = Self::NAME, version, max_term_width = 100, after_help = Self::exit_help())]
pub struct KcarePush {
    #[command(flatten)]
    push: push::Push,
    #[command(flatten)]
    common: Common,
}

impl Program for KcarePush {
    const NAME: &'static str = "kcare-push";

    const ANSWERS: &'static [(u8, &'static str)] = &[(0, "the payload is applied")];

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self) -> Result<Answer> {
        push::run(&self.common.system(), &self.push)
    }
}

/// Print the version of the kernel's package whose fixes are all in
///
/// It is that of the applied patch level, or else that of the running kernel's package.
#[derive(Parser)]
#[command(name = Self::NAME, version, max_term_width = 100, after_help = Self::exit_help())]
pub struct KcareUname {
    /// Print it; the only thing that there is to print
    #[arg(short, long)]
    release: bool,
    #[command(flatten)]
    common: Common,
}

impl Program for KcareUname {
    const NAME: &'static str = "kcare-uname";

    const ANSWERS: &'static [(u8, &'static str)] = &[(0, "it is printed")];

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self) -> Result<Answer> {
        uname::run(&self.common.system())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Kcarectl::command().debug_assert();
        KcarePush::command().debug_assert();
        KcareUname::command().debug_assert();
    }

    #[test]
    fn exit_codes_ascend_without_a_clash() {
        for codes in [
            Kcarectl::exit_codes(),
            KcarePush::exit_codes(),
            KcareUname::exit_codes(),
        ] {
            assert!(codes.is_sorted_by(|a, b| a.0 < b.0), "{codes:?}");
        }
    }

    #[test]
    fn an_option_that_would_do_nothing_is_refused() {
        for words in [
            "--unload --dry-run",
            "--rollback --dry-run",
            "--settle --shutdown --dry-run",
            "--apply-cached --dry-run",
            "--check --dry-run",
            "--info --level 3",
            "--status --prefix slow",
            "--unload --prefix slow",
            "--update --auto",
            "--status --auto",
            "--fetch --force",
            "--check --force",
            "--info --force",
            "--unload --force",
            "--rollback --force",
            "--check --level 2",
        ] {
            let words = ["kcarectl"].into_iter().chain(words.split(' '));
            assert!(
                Kcarectl::try_parse_from(words.clone()).is_err(),
                "{words:?}"
            );
        }
        for words in [
            "--update --dry-run --level 2 --prefix slow",
            "--auto-update --dry-run",
            "--check --prefix slow",
            "--fetch --auto --prefix slow",
            "--apply-cached --auto",
            "--apply-cached --force",
            "--update --force",
        ] {
            let words = ["kcarectl"].into_iter().chain(words.split(' '));
            assert!(Kcarectl::try_parse_from(words.clone()).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn commands_exclude_each_other() {
        assert!(KcarePush::try_parse_from(["kcare-push", "--force", "fix.kpatch"]).is_err());
        assert!(Kcarectl::try_parse_from(["kcarectl"]).is_err());
        assert!(Kcarectl::try_parse_from(["kcarectl", "--info", "--unload"]).is_err());
        assert!(Kcarectl::try_parse_from(["kcarectl", "--unload", "--rollback"]).is_err());
        assert!(
            Kcarectl::try_parse_from(["kcarectl", "-i", "--json"])
                .unwrap()
                .info
                .info
        );
    }
}
