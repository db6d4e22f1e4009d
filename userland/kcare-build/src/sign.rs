// SPDX-License-Identifier: GPL-2.0

//! Signs a payload as the kernel's `sign-file` signs a module.
//!
//! The signature is a detached CMS message in DER over the whole object, with SHA-512 and, as the
//! kernel's verifier wants it, without signed attributes, capabilities or certificates; it is found by
//! the signer's issuer and serial number. It is made by the `openssl` program, so that keys in
//! hardware and in a vendor's signing service (PKCS#11, engines) work as they do for modules.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, Context, Result};
use kcare_payload::trailer;

/// A private key and its certificate.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The private key, in PEM, or whatever `openssl cms -inkey` takes.
    pub key: PathBuf,
    /// The certificate, in PEM.
    pub cert: PathBuf,
}

impl Signer {
    /// Checks that key and certificate can be read.
    pub fn new(key: &Path, cert: &Path) -> Result<Self> {
        for (what, path) in [("key", key), ("certificate", cert)] {
            if !path.exists() {
                bail!(
                    "the signing {what} {} does not exist; run `make keys`, name another with --key and --cert, or use --unsigned",
                    path.display()
                );
            }
        }
        Ok(Signer {
            key: key.to_path_buf(),
            cert: cert.to_path_buf(),
        })
    }

    /// The signature over `body`, in DER.
    fn signature(&self, body: &[u8]) -> Result<Vec<u8>> {
        let mut child = Command::new("openssl")
            .args([
                "cms",
                "-sign",
                "-binary",
                "-noattr",
                "-nocerts",
                "-nosmimecap",
            ])
            .args(["-md", "sha512", "-outform", "DER", "-signer"])
            .arg(&self.cert)
            .arg("-inkey")
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run openssl; install it")?;
        let mut stdin = child.stdin.take().context("openssl has no input")?;
        // The signature is small, so openssl reads everything before it writes.
        let sent = stdin.write_all(body);
        drop(stdin);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "openssl cannot sign: {}",
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        sent.context("openssl did not read the payload")?;
        Ok(output.stdout)
    }

    /// The signed payload.
    pub fn sign(&self, body: &[u8]) -> Result<Vec<u8>> {
        let signature = self.signature(body)?;
        let mut out = body.to_vec();
        out.extend_from_slice(&signature);
        out.extend_from_slice(&trailer::trailer_for(u32::try_from(signature.len())?));
        let (split, _) = trailer::split(&out)
            .map_err(|error| anyhow::anyhow!("the signature is not accepted: {error}"))?;
        if split != body {
            bail!("the signature trailer does not give the payload back");
        }
        Ok(out)
    }
}

/// The payload without a signature, if it has one.
pub fn body(bytes: &[u8]) -> &[u8] {
    trailer::split(bytes).map_or(bytes, |(body, _)| body)
}
