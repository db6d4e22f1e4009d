// SPDX-License-Identifier: GPL-2.0

//! What is told of a payload that is published.

use std::collections::BTreeMap;

use kcare_tuf::level::{Fix, Fixes, Record};

use crate::inspect::Summary;

/// What a payload has, beside the level before it.
pub fn fixes(
    record: &Record,
    payload: &Summary,
    between: Vec<String>,
    before: Option<&Fixes>,
) -> Fixes {
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
    Fixes {
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

/// Reads a list of ids, one a line; what is behind a blank, and lines that begin with `#`, are for people.
pub fn read_ids(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    words.map(str::to_owned).collect()
}
