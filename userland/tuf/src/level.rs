// SPDX-License-Identifier: GPL-2.0

//! What kcare's trees say of a level: its record in the targets, and its file of fixes. The publisher writes them, and
//! agents read them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metadata::Target;

/// Folder of the target files in that of a kernel.
pub const TARGETS: &str = "t";

/// What the targets say of a payload (`custom`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// SHA-1 of the kernel's /proc/version: a client takes no level of another one.
    pub kernel: String,
    /// The level.
    pub level: u32,
    /// `uname -r` of the kernel.
    pub release: String,
    /// Build-id of its vmlinux.
    pub build_id: String,
    /// Version of the kernel's package.
    pub base: String,
    /// Version of the package whose fixes are all in.
    pub effective: String,
    /// When it was published first.
    pub published: String,
    /// The last day on which this kernel gets levels, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered_until: Option<String>,
    /// Name of the target with the fixes.
    pub fixes: String,
}

impl Record {
    /// The record of a target, if it is a payload.
    ///
    /// # Errors
    ///
    /// Why it cannot be believed, in words.
    pub fn of(name: &str, target: &Target) -> Result<Option<Self>, String> {
        let Some(custom) = &target.custom else {
            return Ok(None);
        };
        let record: Self = serde_json::from_value(Value::clone(custom))
            .map_err(|error| format!("the record of {name} is damaged: {error}"))?;
        if name != payload_name(record.level) {
            return Err(format!(
                "the record of {name} is that of level {}",
                record.level
            ));
        }
        Ok(Some(record))
    }
}

/// The name of a payload's target.
pub fn payload_name(level: u32) -> String {
    format!("{level}.kpatch")
}

/// The name of the target with the fixes.
pub fn fixes_name(level: u32) -> String {
    format!("{level}.fixes.json")
}

/// The file of fixes of a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixes {
    /// SHA-1 of the kernel's /proc/version.
    pub kernel: String,
    /// The level.
    pub level: u32,
    /// `uname -r` of the kernel.
    pub release: String,
    /// Version of the kernel's package.
    pub base: String,
    /// Version of the package whose fixes are all in.
    pub effective: String,
    /// All security fixes between the two, as the publisher has listed them.
    pub between: Vec<String>,
    /// Each fix of the level, in the order of the payload.
    pub fixes: Vec<Fix>,
    /// Functions that it redirects, of vmlinux and of modules (`MODULE:FUNCTION`).
    pub functions: Vec<String>,
}

/// A fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// `CVE-2026-12345`, if it has a number.
    pub id: Option<String>,
    /// One line.
    pub title: String,
    /// The level that had it first.
    pub since: u32,
}

impl Fixes {
    /// The ids of the fixes.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.fixes.iter().filter_map(|fix| fix.id.as_deref())
    }

    /// Makes sure that the level may be said to be as good as a later package: it has every fix between the two.
    ///
    /// # Errors
    ///
    /// Which one is missing, in words.
    pub fn check_effective(&self) -> Result<(), String> {
        if self.effective == self.base {
            return Ok(());
        }
        if self.between.is_empty() {
            return Err(format!(
                "level {} is said to be as good as {}, which has more fixes than {}: list them with --between, one id a \
                 line",
                self.level, self.effective, self.base
            ));
        }
        let missing: Vec<&str> = (self.between.iter().map(String::as_str))
            .filter(|id| !self.ids().any(|has| has == *id))
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "level {} is not as good as {}: it has no {}; leave --effective out, or put the fixes in",
                self.level,
                self.effective,
                missing.join(", ")
            )),
        }
    }

    /// The unsigned text `kpatch.info`.
    pub fn info(&self, os: &str, published: &str) -> String {
        let time = published.replace('T', " ");
        let mut out = info_head(os, &self.base, time.trim_end_matches('Z'), &self.effective);
        for fix in &self.fixes {
            out += &info_fix(fix.id.as_deref(), &fix.title, &self.effective);
        }
        out
    }
}

/// What stands for something that is not known.
pub const UNKNOWN: &str = "N/A";

/// The head of the text that the trade's tools look through: of the system, and of when.
pub fn info_head(os: &str, base: &str, time: &str, effective: &str) -> String {
    format!("OS: {os}\nkernel: linux-{base}\ntime: {time}\nuname: {effective}\n")
}

/// Its paragraph of a fix.
pub fn info_fix(id: Option<&str>, title: &str, effective: &str) -> String {
    let url = match id {
        Some(id) if id.starts_with("CVE-") => format!("https://www.cve.org/CVERecord?id={id}"),
        _ => UNKNOWN.to_owned(),
    };
    format!(
        "\nkpatch-name: {title}\nkpatch-description: {title}\nkpatch-kernel: linux-{effective}\n\
         kpatch-cve: {id}\nkpatch-cvss: {UNKNOWN}\nkpatch-cve-url: {url}\nkpatch-patch-url: {UNKNOWN}\n",
        id = id.unwrap_or(UNKNOWN),
    )
}

/// Whether a folder's name is that of a kernel: a SHA-1 in lower-case hexadecimal digits.
pub fn is_kernel(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a name can be that of a channel: it is a folder of the tree, and never leads out of it.
pub fn is_channel(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 32 && !name.starts_with(['.', '-']) && name.chars().all(fine)
}
