// SPDX-License-Identifier: GPL-2.0

//! Checks that compiler and configuration are those that the kernel was shipped with, before anything is compiled.
//!
//! The shipped code has the last word (verify.rs), but it can only say that something differs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};

use crate::kernel::Kernel;

/// Most options to name.
const MAX_NAMED: usize = 5;

/// Checks a prepared kernel.
pub fn check(kernel: &Kernel) -> Result<()> {
    let shipped = options(&kernel.dir.join("config"))?;
    // What the compilation sees is made from `.config`, and may be older than that.
    for path in [".config", "include/config/auto.conf"] {
        let path = kernel.build().join(path);
        if let Some(what) = difference(&shipped, &options(&path)?) {
            bail!(
                "{} is not the configuration that {} was shipped with: {what}\n\
                 Hint: remove {} and run `scripts/kernel prepare {}`.",
                path.display(),
                kernel.release,
                kernel.build().display(),
                kernel.release,
            );
        }
    }
    compiler(kernel, &shipped)
}

/// Compares the build root's compiler with the one that the configuration names.
fn compiler(kernel: &Kernel, shipped: &BTreeMap<String, String>) -> Result<()> {
    let option = "CONFIG_CC_VERSION_TEXT";
    let wanted = shipped
        .get(option)
        .with_context(|| format!("the configuration of {} lacks {option}", kernel.release))?;
    let name = wanted.split(' ').next().unwrap_or_default();
    let output = kernel
        .command(name)
        .arg("--version")
        .output()
        .context("cannot enter the build root")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().next().unwrap_or_default();
    if !output.status.success() || found != wanted {
        bail!(
            "{} was built with `{wanted}`, and the build root has {}\n\
             Hint: run `scripts/kernel prepare {}`, or enter a root that has that compiler with --exec.",
            kernel.release,
            match found {
                "" => "no such compiler".to_owned(),
                found => format!("`{found}`"),
            },
            kernel.release,
        );
    }
    Ok(())
}

/// The options that are set.
fn options(path: &Path) -> Result<BTreeMap<String, String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        // auto.conf has no quotes.
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect())
}

/// The options that differ, in words.
fn difference(
    shipped: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> Option<String> {
    let value = |map: &BTreeMap<String, String>, name: &String| {
        map.get(name).map_or("not set".to_owned(), Clone::clone)
    };
    let mut names: Vec<&String> = shipped.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| shipped.get(*name) != found.get(*name));
    let mut parts: Vec<String> = names
        .iter()
        .take(MAX_NAMED)
        .map(|name| {
            format!(
                "{name} is {}, and was {}",
                value(found, name),
                value(shipped, name)
            )
        })
        .collect();
    if names.len() > MAX_NAMED {
        parts.push(format!("and {} more", names.len() - MAX_NAMED));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_differ_are_named() {
        let map = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        let shipped = map(&[("CONFIG_A", "y"), ("CONFIG_B", "m")]);
        assert_eq!(difference(&shipped, &shipped), None);
        assert_eq!(
            difference(&shipped, &map(&[("CONFIG_B", "y"), ("CONFIG_C", "1")])).unwrap(),
            "CONFIG_A is not set, and was y; CONFIG_B is y, and was m; CONFIG_C is 1, and was not set"
        );
    }
}
