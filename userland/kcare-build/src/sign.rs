// SPDX-License-Identifier: GPL-2.0

//! Signs a payload as the kernel's `sign-file` signs a module, and verifies what is signed so.
//!
//! The signature is a detached CMS message in DER over the whole object, with SHA-512 and, as the
//! kernel's verifier wants it, without signed attributes, capabilities or certificates; it is found by
//! the signer's issuer and serial number. It is made by the `openssl` program, so that keys in
//! hardware and in a vendor's signing service (PKCS#11, engines) work as they do for modules.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{bail, ensure, Context, Result};
use kcare_payload::{cms, trailer};
use tempfile::NamedTempFile;

use crate::kernel::upwards;

/// The certificate of the development key, where `make keys` puts it.
pub const DEVELOPMENT: &str = "target/keys/kcare-dev.cert.pem";

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

    /// Who that is, for people: the certificate's subject, and whether the key is one for development.
    pub fn name(&self) -> Result<String> {
        let mut command = Command::new("openssl");
        command
            .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in"])
            .arg(&self.cert);
        let (output, _) = run_openssl(command, &[])?;
        ensure!(
            output.status.success(),
            "openssl cannot read the certificate {}: {}",
            self.cert.display(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        let subject = String::from_utf8_lossy(&output.stdout);
        let subject = subject.trim().trim_start_matches("subject=").trim();
        Ok(match subject.contains(cms::DEVELOPMENT) {
            true => format!("{subject}: a development key, which no release trusts"),
            false => subject.to_owned(),
        })
    }

    /// The signature over `body`, in DER.
    fn signature(&self, body: &[u8]) -> Result<Vec<u8>> {
        let mut command = Command::new("openssl");
        command
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
            .arg(&self.key);
        // The signature is small, so openssl reads everything before it writes.
        let (output, sent) = run_openssl(command, body)?;
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

/// Runs openssl with `input`; its output, and whether it has read all of the input.
fn run_openssl(mut command: Command, input: &[u8]) -> Result<(Output, std::io::Result<()>)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run openssl; install it")?;
    let mut stdin = child.stdin.take().context("openssl has no input")?;
    let sent = stdin.write_all(input);
    drop(stdin);
    Ok((child.wait_with_output()?, sent))
}

/// The certificates that payloads may be signed with.
#[derive(Clone, Debug)]
pub struct Certificates(Vec<PathBuf>);

impl Certificates {
    /// Those that are named, or that of the development key; nothing if there is neither.
    ///
    /// # Errors
    ///
    /// One that is named is not there.
    pub fn find(named: &[PathBuf]) -> Result<Option<Self>> {
        for path in named {
            ensure!(
                path.exists(),
                "the certificate {} does not exist",
                path.display()
            );
        }
        Ok(match named {
            [] => upwards(DEVELOPMENT).map(|path| Self(vec![path])),
            _ => Some(Self(named.to_vec())),
        })
    }

    /// Makes sure that one of them has signed all of a payload.
    ///
    /// # Errors
    ///
    /// None has, and what openssl says.
    pub fn verify(&self, payload: &[u8]) -> Result<()> {
        let (body, signature) = trailer::split(payload)
            .map_err(|error| anyhow::anyhow!("the payload is not signed: {error}"))?;
        let mut file = NamedTempFile::new().context("cannot make a temporary file")?;
        file.write_all(signature)?;
        let mut said = Vec::new();
        for certificate in &self.0 {
            let mut command = Command::new("openssl");
            command
                .args(["cms", "-verify", "-binary", "-inform", "DER"])
                // The certificate itself is trusted, as the kernel trusts one of its keyring.
                .args(["-noverify", "-nointern", "-certfile"])
                .arg(certificate)
                .arg("-in")
                .arg(file.path())
                .args(["-content", "/dev/stdin", "-out", "/dev/null"]);
            let (output, sent) = run_openssl(command, body)?;
            if output.status.success() {
                return sent.context("openssl did not read the payload");
            }
            let errors = String::from_utf8_lossy(&output.stderr);
            let why = errors.lines().rev().find_map(|line| {
                // `ID:error:CODE:LIBRARY:FUNCTION:REASON:FILE:LINE:`
                line.split_once(":error:")?.1.split(':').nth(3)
            });
            said.push(format!(
                "{}: {}",
                certificate.display(),
                why.unwrap_or(errors.trim_end())
            ));
        }
        bail!(
            "the payload's signature is not good with any certificate ({})\n\
             Hint: sign it with `kcare-build sign`, or name the certificate that it was signed with by --cert.",
            said.join("; ")
        );
    }
}

/// A certificate in DER; `form` is that of the input, `PEM` or `DER`.
///
/// # Errors
///
/// It is no certificate.
pub fn der(certificate: &[u8], form: &str) -> Result<Vec<u8>> {
    let mut command = Command::new("openssl");
    command.args(["x509", "-inform", form, "-outform", "DER"]);
    // openssl reads no further than the certificate goes.
    let (output, _) = run_openssl(command, certificate)?;
    ensure!(
        output.status.success(),
        "openssl cannot read the certificate: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(output.stdout)
}

/// The payload without a signature, if it has one.
pub fn body(bytes: &[u8]) -> &[u8] {
    trailer::split(bytes).map_or(bytes, |(body, _)| body)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;

    /// A key and its certificate.
    pub(crate) fn signer(folder: &Path, name: &str) -> Signer {
        let key = folder.join(format!("{name}.key"));
        let cert = folder.join(format!("{name}.pem"));
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(["-subj", &format!("/CN={name}"), "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .unwrap();
        assert!(made.status.success());
        Signer::new(&key, &cert).unwrap()
    }

    #[test]
    fn a_signature_is_over_all_of_a_payload_and_of_a_named_certificate() {
        let folder = std::env::temp_dir().join(format!("kcare-build-sign-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (ours, other) = (signer(&folder, "ours"), signer(&folder, "other"));
        let certificates = |of: &[&Signer]| {
            let paths: Vec<PathBuf> = of.iter().map(|signer| signer.cert.clone()).collect();
            Certificates::find(&paths).unwrap().unwrap()
        };
        let body: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
        let payload = ours.sign(&body).unwrap();
        let refused = |payload: &[u8]| {
            let error = certificates(&[&ours]).verify(payload).unwrap_err();
            format!("{error:#}")
        };

        certificates(&[&ours]).verify(&payload).unwrap();
        certificates(&[&other, &ours]).verify(&payload).unwrap();
        let error = certificates(&[&other]).verify(&payload).unwrap_err();
        assert!(error.to_string().contains("signer certificate not found"));
        assert!(error.to_string().contains("--cert"));

        let flip = |at: usize| {
            let mut bad = payload.clone();
            bad[at] ^= 1;
            bad
        };
        for at in [0, body.len() / 2, body.len() - 1] {
            assert!(refused(&flip(at)).contains("not good"), "byte {at}");
        }
        // The last bytes of the signature are those of the number that RSA made.
        let last = payload.len() - trailer::TRAILER_SIZE - 1;
        for at in [last, last - 100] {
            assert!(refused(&flip(at)).contains("not good"), "byte {at}");
        }
        assert!(refused(&body).contains("is not signed"));
        let longer = [&body[..], &payload[..]].concat();
        assert!(refused(&longer).contains("not good"));
        assert!(Certificates::find(&[folder.join("none.pem")]).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
