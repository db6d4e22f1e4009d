// SPDX-License-Identifier: GPL-2.0

//! What the running kernel says of itself.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::error::{Error, Result};
use crate::text;

/// The running kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `/proc/version` without its newline.
    pub version: String,
    /// GNU build-id in hexadecimal digits; only the kcare module tells it.
    pub build_id: Option<String>,
}

impl Kernel {
    /// Asks the running kernel of the system below `root`; the build-id is left to who asks the module.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::error::Kind) if /proc is not mounted.
    pub fn running(root: &Path) -> Result<Self> {
        let version = std::fs::read_to_string(root.join("proc/version"))
            .or_else(|_| std::fs::read_to_string("/proc/version"))
            .map_err(|e| {
                Error::config("cannot read /proc/version.")
                    .caused_by(e)
                    .hint("mount it with `mount -t proc proc /proc`.")
            })?;
        Ok(Self {
            release: release(),
            version: version.trim_end().to_owned(),
            build_id: None,
        })
    }
}

impl Kernel {
    /// Its name on a server: SHA-1 of the raw bytes of /proc/version, in hexadecimal digits.
    pub fn hash(&self) -> String {
        let raw = format!("{}\n", self.version);
        text::hex(Sha1::digest(raw.as_bytes()).as_slice())
    }

    /// Version of the package that the running kernel came in, `7.2.12-1`, as Debian's kernels say in /proc/version.
    pub fn package_version(&self) -> Option<&str> {
        let (_, build) = self.version.split_once("#")?;
        let (_, rest) = build.split_once(" Debian ")?;
        let version = rest.split(' ').next()?;
        version
            .starts_with(|c: char| c.is_ascii_digit())
            .then_some(version)
    }
}

/// The boot of the kernel below `root`, or nothing where /proc does not tell.
pub fn boot_id(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("proc/sys/kernel/random/boot_id"));
    text.unwrap_or_default().trim().to_owned()
}

/// `uname -r`.
pub fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Whether the kcare module is loaded, whatever became of its device node.
pub fn module_is_loaded() -> bool {
    Path::new("/sys/module/kcare").exists()
}

/// GNU build-id of a loaded module in hexadecimal digits, from its note in sysfs.
///
/// The note is `Elf64_Nhdr` (name size 4, id size, type 3 `NT_GNU_BUILD_ID`), `GNU\0`, and the id.
pub fn module_build_id(module: &str) -> Option<String> {
    let note = std::fs::read(format!("/sys/module/{module}/notes/.note.gnu.build-id")).ok()?;
    build_id_of_note(&note).map(text::hex)
}

fn build_id_of_note(note: &[u8]) -> Option<&[u8]> {
    let rest = note.strip_prefix(&4u32.to_le_bytes())?;
    let (size, rest) = rest.split_first_chunk::<4>()?;
    let rest = rest
        .strip_prefix(&3u32.to_le_bytes())?
        .strip_prefix(b"GNU\0")?;
    rest.get(..u32::from_le_bytes(*size) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_is_told_as_proc_tells_it() {
        let kernel = Kernel::running(Path::new("/")).unwrap();
        let osrelease = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(kernel.release, osrelease.trim_end());
        assert!(
            kernel.version.starts_with("Linux version "),
            "{}",
            kernel.version
        );
        assert!(!kernel.version.ends_with('\n'));
    }

    #[test]
    fn its_name_on_a_server() {
        let kernel = Kernel {
            release: String::new(),
            version: "abc".to_owned(),
            build_id: None,
        };
        // `echo abc | sha1sum`
        assert_eq!(kernel.hash(), "03cfd743661f07975fa2f1220c5194cbaff48451");
    }

    #[test]
    fn the_version_of_the_package() {
        let of = |version: &str| {
            let kernel = Kernel {
                release: String::new(),
                version: version.to_owned(),
                build_id: None,
            };
            kernel.package_version().map(str::to_owned)
        };
        let debian = "Linux version 7.2.12+deb13-cloud-amd64 (x@y) (gcc-14 (Debian 14.2.0-19) 14.2.0) #1 SMP \
                      PREEMPT_DYNAMIC Debian 7.2.12-1~bpo13+1 (2026-11-12)";
        assert_eq!(of(debian).as_deref(), Some("7.2.12-1~bpo13+1"));
        // The compiler's version is not meant, and other kernels do not tell.
        assert_eq!(
            of("Linux version 6.1 (gcc (Debian 14.2.0-19) 14.2.0) #1 SMP"),
            None
        );
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_build_id_note() {
        let note = b"\x04\0\0\0\x05\0\0\0\x03\0\0\0GNU\0\x3f\x1c\x00\x01\x02\0\0\0";
        assert_eq!(build_id_of_note(note), Some(&b"\x3f\x1c\x00\x01\x02"[..]));
        assert_eq!(build_id_of_note(&note[..20]), None);
        assert_eq!(build_id_of_note(b""), None);
    }
}
