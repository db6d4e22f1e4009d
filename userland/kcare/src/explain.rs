// SPDX-License-Identifier: GPL-2.0

//! Puts the kernel's refusal into words: what happened, to what, and the next step.
//!
//! The payload is parsed here for the names in it only, and only if the kernel's reason says that it has verified the
//! signature: what nobody has vouched for is not looked at.

use std::io;
use std::path::Path;

use kcare_payload::check::Payload;
use kcare_payload::error::{Place, Reason, Table};
use kcare_payload::trailer;
use rustix::io::Errno;

use crate::device::Refusal;
use crate::error::{Error, Kind};
use crate::state::State;
use crate::{kernel, text};

/// What the kernel's message about the part for a module starts with.
const PART: &str = "part ";
/// What it starts with if no moment is good for a switch.
const STOPPERS: &str = "the threads that stop the machine ";

/// Explains why a payload was not applied; `before` is the state in which the kernel refused it.
pub fn explain_apply(refusal: &Refusal, path: &Path, file: &[u8], before: &State) -> Error {
    let cannot = format!("cannot apply {}", path.display());
    let Ok(reason) = Reason::try_from(refusal.reason) else {
        return without_reason(&cannot, refusal);
    };
    let signed = trailer::split(file).ok().filter(|_| is_verified(reason));
    let payload = signed.and_then(|(body, _)| Payload::parse(body).ok());
    // A place in the part for a module is not one of the payload around it.
    let payload = payload.filter(|_| !refusal.text.starts_with(PART));
    let name = payload.as_ref().and_then(|p| name_of(p, place(refusal)));
    let why = match (reason, name.as_deref()) {
        // The build-id of vmlinux says the same as the release, only more precisely.
        (Reason::WrongRelease, _) | (Reason::WrongBuildId, Some("vmlinux")) => {
            "it was built for another kernel"
        }
        _ => reason.explain(),
    };
    let error = Error::new(kind(reason), format!("{cannot}: {why}."));
    let error = match payload.and_then(|p| compare(reason, &p, place(refusal), before)) {
        // The kernel's own message would say the same once more.
        Some(lines) => lines.into_iter().fold(error, Error::detail),
        None => facts(error, refusal, name.as_deref()),
    };
    error
        .hint(next_step(
            refusal,
            reason,
            &before.kernel.release,
            name.as_deref(),
        ))
        .refused(refusal.clone())
}

/// Explains why the live level was not taken back or rolled back; `before` is the state before the attempt.
///
/// `cannot` is the first half of the message: `cannot unload`.
pub fn explain_take_back(cannot: &str, refusal: &Refusal, before: &State) -> Error {
    let Ok(reason) = Reason::try_from(refusal.reason) else {
        return without_reason(cannot, refusal);
    };
    let error = Error::new(kind(reason), format!("{cannot}: {}.", reason.explain()));
    facts(error, refusal, None)
        .hint(next_step(refusal, reason, &before.kernel.release, None))
        .refused(refusal.clone())
}

/// The kernel gave an error number only, or a reason that this program is too old for.
fn without_reason(cannot: &str, refusal: &Refusal) -> Error {
    let error = match Errno::from_raw_os_error(refusal.errno) {
        _ if refusal.reason != 0 => {
            let number = refusal.reason;
            Error::config(format!(
                "{cannot}: the kernel gave reason {number}, which this program does not know."
            ))
            .hint(hint(Reason::UnknownFlags, "", None))
        }
        Errno::PERM | Errno::ACCESS => Error::user(format!("{cannot}: permission denied."))
            .hint(hint(Reason::NotPermitted, "", None)),
        _ => Error::new(
            Kind::Kernel,
            format!("{cannot}: the kernel gave no reason."),
        )
        .hint("see `dmesg` for what the kernel says."),
    };
    facts(error, refusal, None)
        .caused_by(io::Error::from_raw_os_error(refusal.errno))
        .refused(refusal.clone())
}

/// Adds the kernel's message and the place.
fn facts(error: Error, refusal: &Refusal, name: Option<&str>) -> Error {
    let error = match is_own_message(refusal) {
        true => refusal.text.lines().fold(error, Error::detail),
        false => error,
    };
    match (place(refusal), name) {
        (Place::Nowhere, _) => error,
        (place, Some(name)) => error.detail(format!("at {name} ({place})")),
        (place, None) => error.detail(format!("at {place}")),
    }
}

/// Whether the kernel's message says more than the reason and the place do, with which it fills an empty one.
fn is_own_message(refusal: &Refusal) -> bool {
    let Ok(reason) = Reason::try_from(refusal.reason) else {
        return true;
    };
    let rest = refusal.text.strip_prefix(reason.explain());
    let standard = match place(refusal) {
        Place::Nowhere => rest == Some(""),
        place => rest == Some(&format!(" ({place})")),
    };
    !standard
}

/// What the refusal is about; a place that this program cannot read is none.
fn place(refusal: &Refusal) -> Place {
    Place::from_raw(refusal.place).unwrap_or(Place::Nowhere)
}

/// The name of the function, symbol, section or object at a place.
fn name_of(payload: &Payload<'_>, place: Place) -> Option<String> {
    let name = match place {
        Place::Section(index) => payload.section(index)?.name,
        Place::Symbol(index) => payload.symbol(index)?.name,
        Place::Entry { table, index } => match table {
            Table::Objects => payload.string(payload.object(index)?.name),
            Table::Funcs => payload.string(payload.func(index)?.name),
            Table::Externs => {
                let symbol = payload.externs().nth(index as usize)?.symbol;
                payload.symbol(symbol)?.name
            }
            _ => return None,
        },
        _ => return None,
    };
    (!name.is_empty()).then(|| text::from_kernel(name.as_bytes()))
}

/// Two lines that set what the payload says against what runs.
fn compare(
    reason: Reason,
    payload: &Payload<'_>,
    place: Place,
    before: &State,
) -> Option<[String; 2]> {
    match reason {
        Reason::WrongRelease => compare_object(payload, 0, before),
        Reason::WrongBuildId => match place {
            Place::Entry {
                table: Table::Objects,
                index,
            } => compare_object(payload, index, before),
            _ => None,
        },
        Reason::LowerLevel | Reason::AlreadyLive => {
            let live = before.patch.as_ref()?;
            Some([
                format!(
                    "payload  level {} ({})",
                    payload.level(),
                    payload.description()
                ),
                format!("live     level {} ({})", live.level, live.description),
            ])
        }
        _ => None,
    }
}

/// [`compare`] for one object: vmlinux, which has the kernel's release, or a module.
fn compare_object(payload: &Payload<'_>, index: u32, before: &State) -> Option<[String; 2]> {
    let object = payload.object(index)?;
    let wanted = text::hex(object.build_id.get(..object.build_id_len as usize)?);
    let running = &before.kernel;
    let (built_for, found, build_id) = match payload.string(object.name) {
        "vmlinux" => (
            payload.release(),
            running.release.as_str(),
            running.build_id.clone(),
        ),
        module => (module, module, kernel::module_build_id(module)),
    };
    let build_id = build_id.as_deref().unwrap_or("unknown");
    Some([
        format!("payload  {built_for} (build-id {wanted})"),
        format!("running  {found} (build-id {build_id})"),
    ])
}

/// Whether the kernel has verified the signature before it gave this reason.
fn is_verified(reason: Reason) -> bool {
    let number = reason.number();
    (FIRST_OF_THE_CONTENT..FIRST_OF_THE_REQUEST).contains(&number) || number >= FIRST_OF_THE_SYSTEM
}

/// Reasons with lower numbers are about the signature.
const FIRST_OF_THE_CONTENT: u32 = Reason::ElfMagic.number();
/// Those from here on are about what the content wants of this system.
const FIRST_OF_THE_SYSTEM: u32 = Reason::WrongRelease.number();
/// Reasons with lower numbers are about the file alone.
const FIRST_OF_THE_REQUEST: u32 = Reason::NotPermitted.number();

/// Whose fault a refusal is.
fn kind(reason: Reason) -> Kind {
    use Reason as R;
    match reason {
        R::SignatureMissing
        | R::SignatureMalformed
        | R::KeyRejected
        | R::KeyRevoked
        | R::PayloadCorrupted
        | R::DigestWeak
        | R::AlgorithmUnknown => Kind::Trust,
        R::UserMemory | R::Internal => Kind::Internal,
        R::UnknownFlags | R::ManifestVersion | R::RevocationVersion => Kind::Config,
        R::SecurityRefused | R::ModulesDisabled => Kind::User,
        R::NotPermitted | R::WrongRelease | R::WrongBuildId => Kind::User,
        R::AlreadyLive | R::LowerLevel | R::NoPrevious | R::NothingApplied => Kind::User,
        R::Expired | R::BelowFloor | R::Latched => Kind::User,
        _ if reason.number() < FIRST_OF_THE_REQUEST => Kind::User,
        _ => Kind::Kernel,
    }
}

/// [`hint`], or what the kernel's message suggests.
fn next_step(refusal: &Refusal, reason: Reason, release: &str, name: Option<&str>) -> String {
    match reason {
        Reason::Blocked if refusal.text.starts_with(STOPPERS) => {
            "ask who built it to leave this function alone, which no kernel can be without; nothing has changed."
                .to_owned()
        }
        _ => hint(reason, release, name),
    }
}

/// The next step; `release` is that of the running kernel, `name` what the refusal is about.
fn hint(reason: Reason, release: &str, name: Option<&str>) -> String {
    use Reason as R;
    let fixed = match reason {
        R::TooSmall | R::TooLarge | R::ElfMagic => {
            "give a payload as `kcare-build` writes it, a file that ends in `.kpatch`."
        }
        R::SignatureMissing => "sign it with `kcare-build sign`, or ask its vendor to.",
        R::SignatureMalformed | R::PayloadCorrupted => {
            "fetch it again; if that does not help, do not use it, and tell its vendor."
        }
        R::KeyRejected => {
            "take a payload that is signed with the key of the certificate in this kcare module, \
             or build the module with this vendor's certificate."
        }
        R::KeyRevoked => "ask its vendor for one that is signed with its new key.",
        R::DigestWeak | R::AlgorithmUnknown => {
            "ask its vendor to sign it with `kcare-build sign`, which uses SHA-512."
        }
        R::Expired => {
            "fetch a newer payload; if there is none, compare the clock of this machine (`date -u`)."
        }
        R::BelowFloor => "take a higher level, or reboot to run without patches.",
        R::Latched => "reboot to run without patches, or load the module without `latch=1` then.",
        R::ManifestVersion | R::RevocationVersion | R::UnknownFlags => {
            "install the programs and the kcare module from the same release of kcare."
        }
        R::SecurityRefused => {
            "ask whoever keeps the policy (`ausearch -m avc,kern_module`) to let this program load code, as for modules."
        }
        R::ModulesDisabled => {
            "reboot, or load the module with `ignore_modules_disabled=1` before the sysctl is set."
        }
        R::NotPermitted => {
            "run it as root and outside of containers; `cat /sys/kernel/security/lockdown` shows \
             whether lockdown forbids it."
        }
        R::UserMemory | R::Internal => "report this with the output of `dmesg`.",
        R::Busy => "wait until the other `kcarectl` or `kcare-push` has ended, and try again.",
        R::Interrupted => "try again; nothing has changed.",
        R::OutOfMemory => "free some memory, and try again; nothing has changed.",
        R::WrongRelease | R::WrongBuildId => {
            return format!("build it again with `kcare-build build --kernel {release} …`.");
        }
        R::ObjectNotLoaded => {
            let module = name.unwrap_or("MODULE");
            return format!("load it with `modprobe {module}`, and try again.");
        }
        R::AlreadyLive => {
            "nothing is left to do; for another payload of this level, take the live one back with \
             `kcarectl --unload` first."
        }
        R::LowerLevel => {
            "take a newer payload, or replace the live level all the same with \
             `kcare-push --downgrade FILE`."
        }
        R::NoPrevious => {
            "apply the payload of a lower level with `kcare-push --downgrade FILE`, or take the \
             live level back with `kcarectl --unload`."
        }
        R::NothingApplied => "nothing is left to do; this kernel runs its original code.",
        R::NameTaken => {
            "wait until the module that `lsmod | grep kcare_` shows has gone, and try again."
        }
        R::FuncOutside | R::ExternOutside | R::NotRedirectable => {
            return format!(
                "build it again with `kcare-build build --kernel {release} …`, which checks this."
            );
        }
        R::PreimageMismatch => {
            "find out what changed the kernel's code (another patching tool, a debugger, a \
             rootkit); a reboot restores it."
        }
        R::RedirectConflict => {
            "switch the other tool off; `cat /sys/kernel/tracing/enabled_functions`, \
             `ls /sys/kernel/livepatch` and `bpftool prog` show which it is."
        }
        R::KernelFunctionMissing => "boot a kernel that this kcare module supports.",
        R::LoadFailed | R::RedirectFailed => {
            "see `dmesg` for the step that failed; nothing has changed."
        }
        R::ExternMoved => {
            "the module was not loaded as the kernel's own loader does it; report this with the \
             output of `dmesg`."
        }
        R::StateIncompatible => {
            "take a payload that knows the states of the live level, or take that back with \
             `kcarectl --unload` first."
        }
        R::CallbackFailed => {
            "see `dmesg` for what the payload's callback says; nothing has changed."
        }
        R::StopFailed => "try again; if that does not help, see `dmesg`; nothing has changed.",
        R::StopLimit => {
            "try again at a quieter time, or allow more (parameter stop_us of the module); nothing has changed."
        }
        R::Blocked => {
            "the author of the patch level has asked for a switch of all tasks at once: restart the services that \
             these tasks belong to (`systemctl status PID` names them), and try again; nothing has changed."
        }
        R::ShuttingDown => "load the module again with `modprobe kcare` when it has gone.",
        _ if reason.number() < FIRST_OF_THE_REQUEST => {
            "fetch it again; if that does not help, report this to who built it."
        }
        _ => "see `dmesg` for what the kernel says.",
    };
    fixed.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use crate::sample;
    use crate::state::fixtures;

    /// What the kernel says for a reason, with a message of its own.
    fn refusal(reason: Reason, place: Place, text: &str) -> Refusal {
        Refusal {
            errno: reason.errno(),
            reason: reason.number(),
            name: reason.name().to_owned(),
            place: place.raw(),
            text: text.to_owned(),
        }
    }

    fn push(refusal: &Refusal, file: &[u8]) -> Failure {
        let path = Path::new("fix.kpatch");
        Failure::from(&explain_apply(refusal, path, file, &fixtures::nothing()))
    }

    #[test]
    fn every_reason_is_explained_with_one_next_step() {
        for &reason in Reason::ALL {
            let refusal = refusal(reason, Place::Nowhere, "");
            let before = fixtures::nothing();
            for (failure, cannot) in [
                (push(&refusal, b""), "cannot apply fix.kpatch: "),
                (
                    Failure::from(&explain_take_back("cannot unload", &refusal, &before)),
                    "cannot unload: ",
                ),
            ] {
                let why = failure.message.strip_prefix(cannot).unwrap();
                let why = why.strip_suffix('.').unwrap();
                assert!(why == reason.explain() || why == "it was built for another kernel");
                assert_eq!(failure.hints.len(), 1, "{reason}");
                assert!(
                    failure.hints[0].ends_with('.'),
                    "{reason}: {}",
                    failure.hints[0]
                );
                assert_eq!(failure.refusal.as_ref(), Some(&refusal));
            }
        }
    }

    #[test]
    fn what_is_not_about_the_file_has_a_next_step_of_its_own() {
        let last_resort = "see `dmesg` for what the kernel says.";
        for &reason in Reason::ALL {
            assert_ne!(hint(reason, "7.2.12", None), last_resort, "{reason}");
        }
    }

    #[test]
    fn kinds() {
        for (reason, expected) in [
            (Reason::ElfMagic, Kind::User),
            (Reason::SectionOverlap, Kind::User),
            (Reason::WrongRelease, Kind::User),
            (Reason::LowerLevel, Kind::User),
            (Reason::NoPrevious, Kind::User),
            (Reason::NotPermitted, Kind::User),
            (Reason::ManifestVersion, Kind::Config),
            (Reason::SignatureMissing, Kind::Trust),
            (Reason::KeyRejected, Kind::Trust),
            (Reason::KeyRevoked, Kind::Trust),
            (Reason::PayloadCorrupted, Kind::Trust),
            (Reason::PreimageMismatch, Kind::Kernel),
            (Reason::Blocked, Kind::Kernel),
            (Reason::OutOfMemory, Kind::Kernel),
            (Reason::Internal, Kind::Internal),
        ] {
            assert_eq!(kind(reason), expected, "{reason}");
        }
    }

    #[test]
    fn the_kernel_s_message_names_the_blocking_tasks() {
        let tasks = "after 30000 ms 1 task(s) are still inside code that goes out of use: \
                     task 812 (nginx) in tcp_sendmsg+0x3f, asleep for 41.250 s;";
        let refusal = refusal(Reason::Blocked, Place::Nowhere, tasks);
        assert_eq!(
            push(&refusal, b"").text("kcare-push"),
            format!(
                "kcare-push: kernel: cannot apply fix.kpatch: tasks stayed inside functions that change.\n\
                 \x20 {tasks}\n\
                 Hint: the author of the patch level has asked for a switch of all tasks at once: restart the services that \
                 these tasks belong to (`systemctl status PID` names them), and try again; nothing has changed.\n"
            )
        );
    }

    #[test]
    fn what_stops_the_machine_is_nobody_s_to_restart() {
        let text = "the threads that stop the machine are always in multi_cpu_stop+0x3f";
        let failure = push(&refusal(Reason::Blocked, Place::Nowhere, text), b"");
        assert_eq!(failure.details, [text]);
        assert!(
            failure.hints[0].starts_with("ask who built it"),
            "{failure:?}"
        );
    }

    #[test]
    fn a_malformed_payload_s_place_is_told() {
        let place = Place::Section(5);
        // What the kernel says when it has nothing to add.
        let message =
            "a section overlaps the section in front of it, or the two are out of order in \
                       the file (section 5)";
        for text in ["", message] {
            let refusal = refusal(Reason::SectionOverlap, place, text);
            assert_eq!(push(&refusal, b"").details, ["at section 5"]);
        }
    }

    #[test]
    fn nothing_is_told_from_a_file_that_the_kernel_has_not_verified() {
        // A place whose name the sample has.
        let place = entry(Table::Objects, 0);
        for &reason in Reason::ALL {
            let failure = push(&refusal(reason, place, ""), &sample::payload());
            let told = failure.text("kcare-push");
            let own = told.contains("vmlinux") || told.contains(sample::RELEASE);
            let before = matches!(reason.number(), 1..16 | 256..272);
            assert_eq!(own, !before, "{reason}: {told}");
        }
    }

    /// An entry of a table of the sample.
    fn entry(table: Table, index: u32) -> Place {
        Place::Entry { table, index }
    }

    #[test]
    fn the_sample_parses() {
        let file = sample::payload();
        let (body, _) = trailer::split(&file).unwrap();
        let payload = Payload::parse(body).unwrap();
        assert_eq!(payload.release(), sample::RELEASE);
    }

    #[test]
    fn another_kernel_is_compared_with_the_running_one() {
        let vmlinux = text::hex(&sample::VMLINUX_ID);
        for (reason, place) in [
            (Reason::WrongRelease, Place::Nowhere),
            (Reason::WrongBuildId, entry(Table::Objects, 0)),
        ] {
            let refusal = refusal(reason, place, "the kernel's message");
            assert_eq!(
                push(&refusal, &sample::payload()).text("kcare-push"),
                format!(
                    "kcare-push: cannot apply fix.kpatch: it was built for another kernel.\n\
                     \x20 payload  7.2.9+deb13-cloud-amd64 (build-id {vmlinux})\n\
                     \x20 running  7.2.12+deb13-cloud-amd64 (build-id 90ab000102030405060708090a0b0c0d0e0f1011)\n\
                     Hint: build it again with `kcare-build build --kernel 7.2.12+deb13-cloud-amd64 …`.\n"
                ),
                "{reason}"
            );
        }
    }

    #[test]
    fn another_build_of_a_module_is_compared_with_the_loaded_one() {
        let refusal = refusal(Reason::WrongBuildId, entry(Table::Objects, 1), "");
        let failure = push(&refusal, &sample::payload());
        assert_eq!(
            failure.message,
            "cannot apply fix.kpatch: the payload was built for another build of this object."
        );
        let zeroes = "0".repeat(40);
        assert_eq!(
            failure.details[0],
            format!("payload  nf_tables (build-id {zeroes})")
        );
        assert!(
            failure.details[1].starts_with("running  nf_tables (build-id "),
            "{failure:?}"
        );
    }

    #[test]
    fn a_level_that_may_not_go_live_is_compared_with_the_live_one() {
        let why = "a higher patch level is live";
        let next = "take a newer payload, or replace the live level all the same with \
                    `kcare-push --downgrade FILE`";
        refused_over_level_9(Reason::LowerLevel, why, next);
        let why = "this patch level is live already";
        let next = "nothing is left to do; for another payload of this level, take the live one \
                    back with `kcarectl --unload` first";
        refused_over_level_9(Reason::AlreadyLive, why, next);
    }

    fn refused_over_level_9(reason: Reason, why: &str, next: &str) {
        let refusal = refusal(reason, Place::Nowhere, "the kernel's message");
        let path = Path::new("fix.kpatch");
        let error = explain_apply(&refusal, path, &sample::payload(), &fixtures::applied());
        assert_eq!(
            Failure::from(&error).text("kcare-push"),
            format!(
                "kcare-push: cannot apply fix.kpatch: {why}.\n\
                 \x20 payload  level 7 (7;7.2.9-1)\n\
                 \x20 live     level 9 (9;7.2.12-1)\n\
                 Hint: {next}.\n"
            )
        );
    }

    #[test]
    fn without_a_previous_level_there_are_two_ways_down() {
        // What the kernel says when it has nothing to add.
        let message = "there is no previous level to go back to";
        let refusal = refusal(Reason::NoPrevious, Place::Nowhere, message);
        let error = explain_take_back("cannot roll back", &refusal, &fixtures::rolled_back());
        assert_eq!(
            Failure::from(&error).text("kcarectl"),
            "kcarectl: cannot roll back: there is no previous level to go back to.\n\
             Hint: apply the payload of a lower level with `kcare-push --downgrade FILE`, or take the \
             live level back with `kcarectl --unload`.\n"
        );
    }

    #[test]
    fn a_missing_module_is_named_in_the_next_step() {
        let refusal = refusal(Reason::ObjectNotLoaded, entry(Table::Objects, 1), "");
        assert_eq!(
            push(&refusal, &sample::payload()).hints,
            ["load it with `modprobe nf_tables`, and try again."]
        );
    }

    #[test]
    fn functions_symbols_and_sections_are_named() {
        for (place, expected) in [
            (entry(Table::Funcs, 0), "at tcp_sendmsg (funcs[0])"),
            (entry(Table::Externs, 0), "at kfree (externs[0])"),
            (Place::Symbol(2), "at kfree (symbol 2)"),
            (Place::Section(1), "at .text (section 1)"),
            (entry(Table::Funcs, 1), "at funcs[1]"),
            (Place::Offset(16), "at offset 0x10"),
        ] {
            let refusal = refusal(Reason::PreimageMismatch, place, "");
            assert_eq!(push(&refusal, &sample::payload()).details, [expected]);
        }
    }

    #[test]
    fn a_reason_from_the_future_keeps_the_kernel_s_words() {
        let refusal = Refusal {
            errno: 22,
            reason: 9999,
            name: String::new(),
            place: u64::MAX,
            text: "the moon is not full".to_owned(),
        };
        let failure = push(&refusal, b"");
        assert_eq!(failure.kind, Kind::Config);
        assert_eq!(
            failure.message,
            "cannot apply fix.kpatch: the kernel gave reason 9999, which this program does not know."
        );
        assert_eq!(failure.details, ["the moon is not full"]);
        assert_eq!(failure.causes, ["Invalid argument (os error 22)"]);
    }

    #[test]
    fn without_a_reason_the_error_number_speaks() {
        let bare = |errno| Refusal {
            errno,
            reason: 0,
            name: String::new(),
            place: 0,
            text: String::new(),
        };
        let failure = push(&bare(1), b"");
        assert_eq!(failure.kind, Kind::User);
        assert!(
            failure.hints[0].starts_with("run it as root"),
            "{failure:?}"
        );
        let failure = push(&bare(12), b"");
        assert_eq!(failure.kind, Kind::Kernel);
        assert_eq!(failure.causes, ["Cannot allocate memory (os error 12)"]);
    }
}
