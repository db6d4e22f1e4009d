// SPDX-License-Identifier: GPL-2.0

//! What this machine lets kcare do: whether it is a container, and whether the module can be loaded.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Kind, Result};
use crate::kernel;
use crate::state::not_loaded;
use crate::System;

/// Where the managers of containers leave a trace of themselves, below the root.
const CONTAINERS: [&str; 3] = ["run/systemd/container", "run/.containerenv", ".dockerenv"];

/// Whether this is a container, whose kernel is the host's.
pub fn is_container(root: &Path) -> bool {
    let openvz = || root.join("proc/vz").exists() && !root.join("proc/bc").exists();
    CONTAINERS.iter().any(|place| root.join(place).exists()) || openvz()
}

/// The error of whatever a container cannot do.
pub fn in_container() -> Error {
    Error::config("this is a container, and the kernel is its host's.")
        .hint("install kcare on the host; whoever runs it can patch the kernel.")
}

/// The error for a kernel that kcare has no module for.
pub fn no_module(release: &str) -> Error {
    Error::config(format!("there is no kcare module for kernel {release}."))
        .hint("install the vendor's module for this kernel, or boot a kernel that has one.")
}

/// What keeps modules of strangers out, as far as the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lockdown {
    /// The kernel takes only modules with a signature that it knows.
    pub signed_only: bool,
    /// Because the machine was booted by Secure Boot, or was locked down.
    pub locked: bool,
}

impl Lockdown {
    /// Asks the kernel of the system below `root`.
    pub fn read(root: &Path) -> Self {
        let text = |place: &str| std::fs::read_to_string(root.join(place)).unwrap_or_default();
        // `[none] integrity confidentiality`: the one in brackets holds.
        let lockdown = text("sys/kernel/security/lockdown");
        let locked = lockdown.contains('[') && !lockdown.contains("[none]");
        let enforced = text("sys/module/module/parameters/sig_enforce").trim() == "Y";
        Self {
            signed_only: locked || enforced,
            locked,
        }
    }
}

/// Loads the module, unless it is.
///
/// # Errors
///
/// [`Kind::Config`](crate::error::Kind): a container, no module for this kernel, or a kernel that does not take it.
pub fn load_module(system: &System) -> Result<()> {
    if system.device.exists() || kernel::module_is_loaded() {
        return Ok(());
    }
    if is_container(&system.root) {
        return Err(in_container());
    }
    if system.root != Path::new("/") {
        return Err(not_loaded());
    }
    let output = Command::new("modprobe")
        .arg("kcare")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(cannot_load(
            &String::from_utf8_lossy(&output.stderr),
            Lockdown::read(&system.root),
        )),
        Err(e) => Err(not_loaded().caused_by(e)),
    }
}

/// The error for what modprobe said.
fn cannot_load(said: &str, lockdown: Lockdown) -> Error {
    let said = said.trim();
    let release = kernel::release();
    // kmod's words for ENOENT, EKEYREJECTED, ENOKEY, EPERM and ENOEXEC.
    let has = |text: &str| said.contains(text);
    if has("not found in directory") {
        return no_module(&release).detail(said.to_owned());
    }
    let refused = has("Key was rejected") || has("Required key not available") || has("Loading of");
    if refused || lockdown.signed_only && has("Operation not permitted") {
        let why = match lockdown.locked {
            true => "Secure Boot: the kernel is locked down, and does not know the key of kcare's module.",
            false => "the kernel takes signed modules only, and does not know the key of kcare's module.",
        };
        return Error::config(why).detail(said.to_owned()).hint(
            "enroll the vendor's certificate with `mokutil --import CERT.der`, and reboot once.",
        );
    }
    if has("Exec format error") || has("Invalid module format") {
        return Error::config(format!(
            "the kcare module is of another kernel than {release}."
        ))
        .detail(said.to_owned())
        .hint("install the vendor's module for this kernel.");
    }
    if has("Operation not permitted") {
        return Error::new(Kind::User, "modules cannot be loaded: permission denied.")
            .detail(said.to_owned())
            .hint("run it as root.");
    }
    Error::config("the kcare module cannot be loaded.").detail(said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn containers() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_container(root.path()));
        fs::create_dir_all(root.path().join("run/systemd")).unwrap();
        fs::write(root.path().join("run/systemd/container"), "lxc").unwrap();
        assert!(is_container(root.path()));
    }

    #[test]
    fn locked_down() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/kernel/security");
        fs::create_dir_all(&folder).unwrap();
        for (text, locked) in [
            ("[none] integrity confidentiality\n", false),
            ("none [integrity] confidentiality\n", true),
            ("", false),
        ] {
            fs::write(folder.join("lockdown"), text).unwrap();
            assert_eq!(Lockdown::read(root.path()).locked, locked, "{text}");
        }
    }

    #[test]
    fn each_reason_has_its_own_words() {
        let secure = Lockdown {
            signed_only: true,
            locked: true,
        };
        let rejected = "modprobe: ERROR: could not insert 'kcare': Key was rejected by service\n";
        let words = |said, lockdown| cannot_load(said, lockdown).to_string();
        assert!(words(rejected, secure).starts_with("Secure Boot: "));
        assert!(words(rejected, Lockdown::default()).starts_with("the kernel takes signed"));
        let missing = "modprobe: FATAL: Module kcare not found in directory /lib/modules/7.2\n";
        assert!(words(missing, secure).starts_with("there is no kcare module for kernel"));
        let other = "modprobe: ERROR: could not insert 'kcare': Exec format error\n";
        assert!(words(other, secure).starts_with("the kcare module is of another kernel"));
    }
}
