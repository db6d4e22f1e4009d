// SPDX-License-Identifier: GPL-2.0

//! DER as a tree, to be changed with all lengths kept right, and the signatures that real tools could write.

use kcare_payload::trailer::{self, trailer_for};

use crate::random::Random;

/// Elements within elements; deeper ones count as bytes.
const DEPTH: u32 = 12;

/// An element.
#[derive(Clone, Debug)]
pub struct Element {
    /// Its tag.
    pub tag: u8,
    /// What is in it.
    pub content: Content,
}

/// What is in an element.
#[derive(Clone, Debug)]
pub enum Content {
    /// Elements.
    Elements(Vec<Element>),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Element {
    /// An element of elements.
    pub fn of(tag: u8, elements: Vec<Element>) -> Self {
        let content = Content::Elements(elements);
        Self { tag, content }
    }

    /// An element of bytes.
    pub fn bytes(tag: u8, bytes: &[u8]) -> Self {
        let content = Content::Bytes(bytes.to_vec());
        Self { tag, content }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        match &self.content {
            Content::Elements(elements) => elements.iter().for_each(|e| e.write(&mut content)),
            Content::Bytes(bytes) => content.extend(bytes),
        }
        out.push(self.tag);
        let length = content.len().to_be_bytes();
        match content.len() {
            0..=0x7f => out.push(length[7]),
            0x80..=0xff => out.extend([0x81, length[7]]),
            0x100..=0xffff => out.extend([0x82, length[6], length[7]]),
            _ => out.extend([0x83, length[5], length[6], length[7]]),
        }
        out.extend(content);
    }

    /// In bytes.
    pub fn to_der(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// Reads elements up to the end; `None` if the bytes are no such sequence.
fn elements(mut rest: &[u8], depth: u32) -> Option<Vec<Element>> {
    let mut all = Vec::new();
    while let [tag, first, behind @ ..] = rest {
        let (length, behind) = match *first {
            short @ 0..=0x7f => (usize::from(short), behind),
            0x81 => (usize::from(*behind.first()?), &behind[1..]),
            0x82 => {
                let (length, behind) = behind.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*length)), behind)
            }
            _ => return None,
        };
        let (content, behind) = behind.split_at_checked(length)?;
        // The constructed bit; the rest is opaque.
        let inner = if tag & 0x20 != 0 && depth != 0 {
            elements(content, depth - 1)
        } else {
            None
        };
        all.push(match inner {
            Some(inner) => Element::of(*tag, inner),
            None => Element::bytes(*tag, content),
        });
        rest = behind;
    }
    rest.is_empty().then_some(all)
}

/// Number of elements in a tree.
fn count(elements: &[Element]) -> usize {
    let of = |e: &Element| match &e.content {
        Content::Elements(inner) => 1 + count(inner),
        Content::Bytes(_) => 1,
    };
    elements.iter().map(of).sum()
}

/// The list that holds the element with a number, and its index in it.
fn find(elements: &mut Vec<Element>, mut number: usize) -> Option<(&mut Vec<Element>, usize)> {
    let mut at = None;
    for (index, element) in elements.iter().enumerate() {
        let size = count(std::slice::from_ref(element));
        if number < size {
            at = Some(index);
            break;
        }
        number -= size;
    }
    let index = at?;
    if number == 0 {
        return Some((elements, index));
    }
    match &mut elements[index].content {
        Content::Elements(inner) => find(inner, number - 1),
        Content::Bytes(_) => None,
    }
}

/// Tags that signatures have, and some that they must not have.
const TAGS: [u8; 16] = [
    0x02, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x13, 0x17, 0x30, 0x31, 0x80, 0xa0, 0xa1, 0x24, 0x1f, 0x01,
];

/// Changes some elements of a DER file; `None` if it is none.
pub fn mutate(der: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut all = elements(der, DEPTH)?;
    for _ in 0..=random.below(3) {
        let total = count(&all);
        // An element from anywhere, to be put in somewhere else.
        let other = match find(&mut all, random.below(total)) {
            Some((list, index)) => list[index].clone(),
            None => Element::bytes(*random.one(&TAGS), &[]),
        };
        let Some((list, index)) = find(&mut all, random.below(total)) else {
            all.push(other);
            continue;
        };
        match random.below(8) {
            0 => drop(list.remove(index)),
            1 => list.insert(index, other),
            2 => list[index] = other,
            3 => list[index].tag = *random.one(&TAGS),
            4 => {
                let to = random.below(list.len());
                list.swap(index, to);
            }
            5 => list[index].content = Content::Bytes(Vec::new()),
            _ => match &mut list[index].content {
                Content::Elements(inner) => inner.push(other),
                Content::Bytes(bytes) => change_bytes(bytes, random),
            },
        }
    }
    let mut out = Vec::new();
    all.iter().for_each(|element| element.write(&mut out));
    Some(out)
}

/// Changes a signature, or that of a signed payload, whose trailer then fits again.
pub fn mutate_signed(file: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    match trailer::split(file) {
        Ok((body, signature)) => Some(signed(body, &mutate(signature, random)?)),
        Err(_) => mutate(file, random),
    }
}

fn change_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(4) {
        0 => bytes.insert(at, random.word() as u8),
        1 => bytes.truncate(at),
        // Lengths on both sides of what two and three bytes hold.
        2 => bytes.resize(*random.one(&[0, 1, 20, 127, 128, 255, 256, 300]), 0x5a),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.telling(u64::from(*byte)) as u8;
            }
        }
    }
}

/// Last numbers of digests in NIST's arc: those that are taken, and SHA-224.
const DIGESTS: [u8; 7] = [1, 2, 3, 8, 9, 10, 4];
const NIST_DIGEST: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// Algorithms: rsaEncryption, ECDSA with SHA-256, ML-DSA-65, and one that is not taken (RSA with MD5).
const ALGORITHMS: [&[u8]; 4] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
];

/// A signature in form, whose octets no key has made.
fn signature(by_key: bool, digest: u8, algorithm: &[u8], with_null: bool) -> Element {
    let oid = |bytes: &[u8]| Element::bytes(0x06, bytes);
    let sequence = |elements| Element::of(0x30, elements);
    let set = |element| Element::of(0x31, vec![element]);
    let with_parameters = |bytes: &[u8]| {
        let null = with_null.then(|| Element::bytes(0x05, &[]));
        sequence([oid(bytes)].into_iter().chain(null).collect())
    };
    let digest = with_parameters(&[NIST_DIGEST, &[digest]].concat());
    let version = Element::bytes(0x02, &[if by_key { 3 } else { 1 }]);
    let sid = if by_key {
        Element::bytes(0x80, &[0x5a; 20])
    } else {
        let name = |last, text| {
            let value = Element::bytes(0x0c, text);
            set(sequence(vec![oid(&[0x55, 0x04, last]), value]))
        };
        let issuer = sequence(vec![name(10, b"Example"), name(3, b"Example payloads")]);
        sequence(vec![issuer, Element::bytes(0x02, &[0x1f, 0x2e, 0x3d])])
    };
    let signer = sequence(vec![
        version.clone(),
        sid,
        digest.clone(),
        with_parameters(algorithm),
        Element::bytes(0x04, &[0xa5; 64]),
    ]);
    let data = sequence(vec![oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1])]);
    let signed = sequence(vec![version, set(digest), data, set(signer)]);
    let explicit = Element::of(0xa0, vec![signed]);
    let signed_data = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2]);
    sequence(vec![signed_data, explicit])
}

/// Signatures of every kind that is taken, and of some that are not.
pub fn signatures() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (number, digest) in DIGESTS.into_iter().enumerate() {
        let by_key = number % 2 == 1;
        all.push(signature(by_key, digest, ALGORITHMS[number % 3], by_key).to_der());
    }
    for algorithm in ALGORITHMS {
        all.push(signature(false, 1, algorithm, true).to_der());
        all.push(signature(true, 3, algorithm, false).to_der());
    }
    all
}

/// A body with a signature and the trailer behind it.
pub fn signed(body: &[u8], signature: &[u8]) -> Vec<u8> {
    let length = u32::try_from(signature.len()).unwrap_or(u32::MAX);
    [body, signature, &trailer_for(length)].concat()
}
