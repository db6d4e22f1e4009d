// SPDX-License-Identifier: GPL-2.0

//! A prepared kernel: its directory and the way into its build root.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure, Context, Result};

/// A kernel that `scripts/kernel prepare` made ready.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// `uname -r`.
    pub release: String,
    /// Version of the distribution's package.
    pub version: String,
    /// GNU build-id of its vmlinux in hexadecimal.
    pub build_id: String,
    exec: PathBuf,
}

/// Refuses a kernel that was moved or copied since it was prepared: the build tree, and what is kept of it, name the
/// files of the former place, and what is not found there would be taken for what is not there.
fn check_place(dir: &Path, name: &str) -> Result<()> {
    // `FORMAT DIRECTORY` (scripts/kernel).
    let prepared = std::fs::read_to_string(dir.join(".prepared")).unwrap_or_default();
    let Some((_, place)) = prepared.trim_end().split_once(' ') else {
        return Ok(());
    };
    let same = Path::new(place)
        .canonicalize()
        .is_ok_and(|place| place == dir);
    ensure!(
        same,
        "{} was prepared as {place}, and moved or copied since; run `scripts/kernel prepare {name}`",
        dir.display()
    );
    Ok(())
}

impl Kernel {
    /// Finds a kernel by release or by directory.
    ///
    /// A release is looked for in `$KCARE_KERNELS`, in `target/kernels` of the current directory or one
    /// above it, and beside the executable. `exec` is the program that enters the build root; by default
    /// `$KCARE_EXEC`, then `scripts/kernel` found in the same way.
    pub fn find(name: &str, exec: Option<&Path>) -> Result<Self> {
        let dir = find_dir(name)?;
        let dir = dir
            .canonicalize()
            .with_context(|| format!("cannot open {}", dir.display()))?;
        let env_path = dir.join("release.env");
        let env = std::fs::read_to_string(&env_path).with_context(|| {
            format!(
                "{} is not a prepared kernel; run `scripts/kernel prepare {name}`",
                dir.display()
            )
        })?;
        let env = parse_env(&env);
        let get = |key: &str| {
            env.get(key)
                .cloned()
                .with_context(|| format!("{} lacks {key}", env_path.display()))
        };
        for part in ["vmlinux", "source", "build/.config"] {
            if !dir.join(part).exists() {
                bail!(
                    "kernel {} lacks {part}; run `scripts/kernel prepare {name}`",
                    dir.display()
                );
            }
        }
        check_place(&dir, name)?;
        let exec = match exec
            .map(Path::to_path_buf)
            .or_else(|| std::env::var_os("KCARE_EXEC").map(PathBuf::from))
        {
            Some(exec) => exec,
            None => upwards("scripts/kernel").context(
                "cannot find scripts/kernel, which enters the build root; name it with --exec",
            )?,
        };
        Ok(Kernel {
            release: get("REL")?,
            version: get("VERSION")?,
            build_id: get("BUILD_ID")?,
            exec,
            dir,
        })
    }

    /// The kernel's source tree.
    pub fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// The output tree.
    pub fn build(&self) -> PathBuf {
        self.dir.join("build")
    }

    /// The shipped vmlinux with its symbols.
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// A command that runs in the build root, in the output tree.
    pub fn command<S: AsRef<OsStr>>(&self, program: S) -> Command {
        let mut command = Command::new(&self.exec);
        command
            .arg("exec")
            .arg(&self.release)
            .arg("--")
            .arg(program);
        command.current_dir(self.build());
        command
    }

    /// The value of a configuration option (`y`, `m`, a number), or `None` if it is not set.
    pub fn config(&self, option: &str) -> Result<Option<String>> {
        let path = self.build().join(".config");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let prefix = format!("{option}=");
        Ok(text
            .lines()
            .find_map(|l| l.strip_prefix(&prefix))
            .map(str::to_owned))
    }
}

/// Looks for a relative path in the current directory and above it, then above the executable.
pub fn upwards(relative: &str) -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .map(|dir| dir.join(relative))
        .find(|path| path.exists())
}

fn find_dir(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    if name.is_empty() || name.starts_with('.') {
        bail!("`{name}` is not a kernel release");
    }
    if let Some(kernels) = std::env::var_os("KCARE_KERNELS") {
        return Ok(PathBuf::from(kernels).join(name));
    }
    upwards(&format!("target/kernels/{name}")).with_context(|| {
        format!("kernel {name} is not prepared; run `scripts/kernel prepare {name}`, or set KCARE_KERNELS")
    })
}

/// Reads shell assignments of plain or single-quoted values.
fn parse_env(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| {
            (
                key.trim().to_owned(),
                value.trim().trim_matches(['\'', '"']).to_owned(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_values_lose_their_quotes() {
        let env = parse_env("REL='7.2.9'\nCC=gcc-14\nBANNER='a = b'\n");
        assert_eq!(env["REL"], "7.2.9");
        assert_eq!(env["CC"], "gcc-14");
        assert_eq!(env["BANNER"], "a = b");
    }

    #[test]
    fn a_kernel_that_was_moved_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (here, there) = (folder.join("a b"), folder.join("c"));
        std::fs::create_dir_all(&here).unwrap();
        // Others than scripts/kernel may have prepared it.
        assert!(check_place(&here, "7.2.9").is_ok());
        let prepared = |place: &Path| {
            std::fs::write(here.join(".prepared"), format!("1 {}\n", place.display())).unwrap();
            check_place(&here, "7.2.9").map_err(|error| error.to_string())
        };
        assert_eq!(prepared(&here), Ok(()));
        let refused = prepared(&there).unwrap_err();
        assert!(
            refused.ends_with("run `scripts/kernel prepare 7.2.9`"),
            "{refused}"
        );
        // A copy, which stands beside the former place.
        std::fs::create_dir_all(&there).unwrap();
        assert!(prepared(&there).is_err());
    }
}
