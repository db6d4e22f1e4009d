// SPDX-License-Identifier: GPL-2.0

//! How a build can end other than with a payload.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

/// One thing that stands in the way of a payload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refusal {
    /// The source file, if the name is not one itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The file, function, variable or type.
    pub name: String,
    /// Why it cannot be patched.
    pub reason: String,
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            name: name.into(),
            reason: reason.into(),
        }
    }

    /// Names the source file.
    pub fn of(mut self, file: &str) -> Self {
        if self.file.is_empty() && self.name != file {
            file.clone_into(&mut self.file);
        }
        self
    }

    /// What the author of a patch can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        let text = format!("{}: {}", self.name, self.reason);
        let found = HINTS.iter().find(|(part, _)| text.contains(part));
        found.map(|(_, hint)| *hint)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        write!(f, "{}: {}", self.name, self.reason)
    }
}

const TRACEPOINT: &str = "use a tracepoint that the kernel has, or pr_debug()";
const SRCU: &str = "use a struct srcu_struct without an initial value: init_srcu_struct() in a pre-patch callback, \
     cleanup_srcu_struct() in a post-unpatch one";
const PER_CPU: &str = "use a shadow variable, or an array with an element for each CPU";
const BTF_IDS: &str =
    "leave the set as it is, and compare with what is new in the code that asks it";
const BOOT: &str =
    "it has run: do what it would do now in a pre-patch callback, and leave its change out";

/// What can be done, by a part of the name and the reason; the first that fits.
const HINTS: &[(&str, &str)] = &[
    (
        "changes its layout",
        "keep the layout, and hold what is new in a shadow variable (klp_shadow_alloc); or accept it with \
         `--layout` if no object of it outlives the functions that know it",
    ),
    ("init code", BOOT),
    // Initcalls and constructors.
    ("changes section `.init", BOOT),
    (
        "init data",
        "copy what is needed into the patch, as data of its own",
    ),
    (
        "freed after boot",
        "it is gone: let the patched code do without it; if the fix takes __init off, take it off each declaration too",
    ),
    (
        "and the running kernel's has no room for it",
        "hold what is new in a shadow variable (klp_shadow_alloc), or in a new variable under another name",
    ),
    (
        "and the running kernel's keeps its size",
        "leave its size as it is, or use a new variable under another name",
    ),
    (
        "whose initial value changed",
        "set the running kernel's copy in a pre-patch callback, and set it back in a post-unpatch one",
    ),
    (
        "is a constant that changed",
        "give the new constant another name and let the patched functions use that one; or change the pointer to it \
         in a callback",
    ),
    (
        "section `.altinstructions`",
        "alternatives were chosen when the code was loaded: leave it as it is, and do what is new in an ordinary function",
    ),
    (
        "of another module is compiled from it too",
        "say `--leave` with the object's name if the machines that are to get the fix do not load that module",
    ),
    (
        "section `__trace_printk_fmt`",
        "trace_printk() is for a kernel that is being debugged: leave it out, or use pr_debug()",
    ),
    (
        "section `__tracepoint_str`",
        "use the text itself, without tracepoint_string()",
    ),
    ("section `__tracepoints", TRACEPOINT),
    ("section `_ftrace_e", TRACEPOINT),
    ("section `__bpf_raw_tp_map`", TRACEPOINT),
    ("__SCT__tp_func_", TRACEPOINT),
    (
        "section `.static_call.text`",
        "call it through a pointer, or choose by a static key",
    ),
    (
        "section `_kprobe_blacklist`",
        "leave NOKPROBE_SYMBOL() out: the running kernel's function stays open to probes; a new one may have it",
    ),
    (
        "section `_error_injection_whitelist`",
        "leave ALLOW_ERROR_INJECTION() out: the function does the same without it",
    ),
    ("section `___srcu_struct_ptrs`", SRCU),
    ("_srcu_data", SRCU),
    ("section `.data..percpu", PER_CPU),
    ("section `.BTF_ids`", BTF_IDS),
    (
        "section `.kunit_",
        "leave the tests out: the kernel runs those that it was loaded with",
    ),
    (
        "section `__dyndbg_classes`",
        "use pr_debug(), which has no class",
    ),
    (
        "section `__modver`",
        "leave the version as it is: /sys/module shows the shipped one",
    ),
    (
        "which the running kernel keeps as it was shipped",
        "register what is new in a pre-patch callback, and take it back in a post-unpatch one",
    ),
    (
        "data points to it",
        "change the pointer in a pre-patch callback to a new function of the patch, and set it back",
    ),
    (
        "has no fentry",
        "where calls by name are all that leads to it, patch the functions that make them: let them call a copy of it under \
         another name; what a pointer, a static call or an alternative leads to has to stay as it is",
    ),
    (
        "is not to be instrumented",
        "patch the ordinary functions around it instead",
    ),
    (
        "is closed to probes",
        "where calls by name are all that leads to it, patch the functions that make them: let them call a copy of it under \
         another name; what a pointer, a static call or an alternative leads to has to stay as it is; a new one may have NOKPROBE_SYMBOL() instead",
    ),
    (
        "cannot be told which one of the running kernel it is",
        "reach the variable through a function that is not patched, or use a new one under another name",
    ),
    (
        "gives other numbers to its enumerators",
        "add the new enumerator behind the others; or accept it with `--layout` if no object holds one of them",
    ),
    (
        "the BPF verifier goes by those",
        "leave the names of the arguments as they are",
    ),
    (
        "gives its address away",
        "say what took its place with --renamed OLD=NEW, which is patched then; or --renamed OLD= if objects that exist may \
         go on with the old one",
    ),
    (
        "only a function that stays in its file can be redirected",
        "leave the function in its file, where it may call the new one; or --renamed OLD= if objects that exist may go on \
         with the old one",
    ),
    (
        "nothing shows that it is the same variable",
        "leave it where it is; or say --renamed =NEW if the other one is something else, and --renamed OLD= for the gone one",
    ),
    (
        "is gone: if they are one thing",
        "say so with --renamed OLD=NEW, and the patched code uses the running kernel's; or --renamed =NEW if it is \
         something else",
    ),
    (
        "and goes on using",
        "change it where it is, or give the new one another name",
    ),
    (
        "the verifier reads the running kernel's set",
        "leave the flags as they are, and check in the function itself what they would make the verifier check",
    ),
    (
        "has been handed over to sysfs",
        "leave it as it is; where it has a file below /sys/module, chmod changes that file's mode",
    ),
    ("filled in when the kernel is linked", BTF_IDS),
    ("per-CPU variable", PER_CPU),
    (
        "ENDBR",
        "call it from a function of the patch, and take the address of that one",
    ),
    (
        "which vmlinux does not have",
        "add the change that makes it to the patch",
    ),
    (
        "nor what it depends on has",
        "add the change that makes it to the patch",
    ),
    (
        "which is not global in vmlinux",
        "add the change that makes it global to the patch",
    ),
    (
        "units that include change",
        "leave the header alone and change a copy of what the fix needs in the C file",
    ),
];

/// A build that ends without a payload although nothing failed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The patches change no code of this kernel.
    NothingChanged(String),
    /// The change cannot be applied to a running kernel.
    CannotPatch(Vec<Refusal>),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::NothingChanged(why) => write!(f, "nothing changed: {why}"),
            Ending::CannotPatch(refusals) => {
                write!(f, "the change cannot be applied to a running kernel:")?;
                for refusal in refusals {
                    write!(f, "\n  {refusal}")?;
                }
                let hints: BTreeSet<&str> = refusals.iter().filter_map(Refusal::hint).collect();
                for hint in hints {
                    write!(f, "\nHint: {hint}.")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Ending {}

/// Ends a build with one refusal.
pub fn refuse(name: impl Into<String>, reason: impl Into<String>) -> anyhow::Error {
    Ending::CannotPatch(vec![Refusal::new(name, reason)]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_file_symbol_reason_and_a_way_out() {
        let one = Refusal::new("f", "is init code").of("a/b.c").of("c.c");
        let file = Refusal::new("a/b.c", "is odd").of("a/b.c");
        let text = Ending::CannotPatch(vec![one.clone(), one, file]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1..4],
            ["  a/b.c: f: is init code"; 2]
                .into_iter()
                .chain(["  a/b.c: is odd"])
                .collect::<Vec<_>>()
        );
        assert!(lines[4].starts_with("Hint: it has run: "), "{text}");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn what_is_a_part_of_a_tracepoint_is_hinted_as_one() {
        let hint =
            |name: &str| Refusal::new(name, "is in the special section `.static_call.text`").hint();
        assert_eq!(hint("__SCT__tp_func_kcare"), Some(TRACEPOINT));
        assert_ne!(hint("__SCT__kcare"), Some(TRACEPOINT));
        assert!(hint("__SCT__kcare").is_some());
    }

    #[test]
    fn what_would_do_harm_is_not_hinted() {
        let hint = |reason: &str| Refusal::new("x", reason).hint().unwrap_or_default();
        let grown = "is a variable that changes its size from 4 to 8 bytes, and the running kernel's has no room for it";
        assert!(hint(grown).starts_with("hold what is new in a shadow variable"));
        let alternative =
            "changes section `.altinstructions`, which the running kernel keeps as it was shipped";
        assert!(hint(alternative).starts_with("alternatives were chosen"));
        assert!(hint("has no fentry").contains("a static call"));
    }
}
