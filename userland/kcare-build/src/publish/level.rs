// SPDX-License-Identifier: GPL-2.0

//! What a tree tells of a level: its record in the targets, its file of fixes, and the unsigned text for people and for
//! programs that are older than the tree.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{ensure, Context, Result};
use serde::{Deserialize, Serialize};

use crate::inspect::Summary;

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
    /// It is damaged.
    pub fn of(name: &str, target: &kcare_tuf::metadata::Target) -> Result<Option<Self>> {
        let Some(custom) = &target.custom else {
            return Ok(None);
        };
        let record: Self = serde_json::from_value(custom.clone())
            .with_context(|| format!("the record of {name} is damaged"))?;
        ensure!(
            name == payload_name(record.level),
            "the record of {name} is that of level {}",
            record.level
        );
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
    /// What a payload has, beside the level before it.
    pub fn new(
        record: &Record,
        payload: &Summary,
        between: Vec<String>,
        before: Option<&Fixes>,
    ) -> Self {
        let known: BTreeMap<(Option<&str>, &str), u32> = before
            .iter()
            .flat_map(|before| &before.fixes)
            .map(|fix| ((fix.id.as_deref(), fix.title.as_str()), fix.since))
            .collect();
        let fix = |fix: &crate::inspect::Fix| {
            let id = (!fix.id.is_empty()).then(|| fix.id.clone());
            let since = known.get(&(id.as_deref(), fix.title.as_str()));
            Fix {
                since: since.copied().unwrap_or(record.level),
                title: fix.title.clone(),
                id,
            }
        };
        let own = payload.body.functions.iter().map(|f| f.name.clone());
        let parts = payload.parts.iter().flat_map(|part| {
            let functions = part.body.functions.iter();
            functions.map(|f| format!("{}:{}", part.module, f.name))
        });
        Self {
            kernel: record.kernel.clone(),
            level: record.level,
            release: record.release.clone(),
            base: record.base.clone(),
            effective: record.effective.clone(),
            between,
            fixes: payload.fixes.iter().map(fix).collect(),
            functions: own.chain(parts).collect(),
        }
    }

    /// The ids of the fixes.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.fixes.iter().filter_map(|fix| fix.id.as_deref())
    }

    /// Makes sure that the level may be said to be as good as a later package: it has every fix between the two.
    ///
    /// # Errors
    ///
    /// One is missing.
    pub fn check_effective(&self) -> Result<()> {
        if self.effective == self.base {
            return Ok(());
        }
        ensure!(
            !self.between.is_empty(),
            "level {} is said to be as good as {}, which has more fixes than {}: list them with --between, one id a line",
            self.level,
            self.effective,
            self.base
        );
        let missing: Vec<&str> = (self.between.iter().map(String::as_str))
            .filter(|id| !self.ids().any(|has| has == *id))
            .collect();
        ensure!(
            missing.is_empty(),
            "level {} is not as good as {}: it has no {}; leave --effective out, or put the fixes in",
            self.level,
            self.effective,
            missing.join(", ")
        );
        Ok(())
    }

    /// The unsigned text `kpatch.info`.
    pub fn info(&self, os: &str, published: &str) -> String {
        let mut out = format!(
            "OS: {os}\nkernel: linux-{}\ntime: {}\nuname: {}\n",
            self.base,
            published.replace('T', " ").trim_end_matches('Z'),
            self.effective
        );
        for fix in &self.fixes {
            let id = fix.id.as_deref().unwrap_or("N/A");
            let url = match &fix.id {
                Some(id) if id.starts_with("CVE-") => {
                    format!("https://security-tracker.debian.org/tracker/{id}")
                }
                _ => "N/A".to_owned(),
            };
            let _ = write!(
                out,
                "\nkpatch-name: {title}\nkpatch-description: {title}\nkpatch-kernel: linux-{}\nkpatch-cve: {id}\n\
                 kpatch-cvss: N/A\nkpatch-cve-url: {url}\nkpatch-patch-url: N/A\n",
                self.effective,
                title = fix.title,
            );
        }
        out
    }
}

/// Reads a list of ids, one a line; what is behind a blank, and lines that begin with `#`, are for people.
pub fn read_ids(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    words.map(str::to_owned).collect()
}
