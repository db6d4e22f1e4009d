// SPDX-License-Identifier: GPL-2.0

//! Who signed a payload, by the signature's own account: a name for messages, not a proof.

use cms::cert::x509::der::Decode;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier};
use kcare_payload::trailer;

use crate::text;

/// Issuer and serial number, or key identifier, of the first signer's certificate.
///
/// `None` if there is no signature or it is not PKCS#7 signed data.
pub fn of(payload: &[u8]) -> Option<String> {
    let (_, signature) = trailer::split(payload).ok()?;
    let content = ContentInfo::from_der(signature).ok()?;
    let signed: SignedData = content.content.decode_as().ok()?;
    let name = match &signed.signer_infos.0.get(0)?.sid {
        SignerIdentifier::IssuerAndSerialNumber(id) => {
            format!(
                "{}, serial {}",
                id.issuer,
                text::hex(id.serial_number.as_bytes())
            )
        }
        SignerIdentifier::SubjectKeyIdentifier(id) => format!("key {}", text::hex(id.0.as_bytes())),
    };
    Some(text::from_kernel(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::signed;

    const BODY: &[u8] = b"payload\n";

    // Made with `openssl cms -sign -binary -noattr -nocerts -md sha256 -outform DER`, the key then
    // thrown away.
    #[test]
    fn a_signer_by_serial_number() {
        let payload = signed(
            BODY,
            include_bytes!("../tests/fixtures/signer-by-serial.der"),
        );
        let signer = of(&payload).unwrap();
        assert_eq!(signer, "CN=Example kcare payloads,O=Example, serial 1f2e3d");
    }

    // The same with `-keyid`.
    #[test]
    fn a_signer_by_key() {
        let payload = signed(BODY, include_bytes!("../tests/fixtures/signer-by-key.der"));
        assert_eq!(
            of(&payload).unwrap(),
            "key e9afe54b3b5a23c6258a2191536052b92acede1a"
        );
    }

    #[test]
    fn what_is_no_signature_has_no_signer() {
        assert_eq!(of(b"payload"), None);
        assert_eq!(of(&signed(BODY, b"not DER")), None);
    }
}
