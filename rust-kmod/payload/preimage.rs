// SPDX-License-Identifier: GPL-2.0

//! Masked comparison of the code in memory with the code that a payload expects there.

/// Compares `code` with `image` where `mask` has [`super::layout::MASK_MATCH`].
///
/// Returns the offset of the first byte that differs, or `None` if none does. Where one of the three
/// ends before another, that is a difference.
pub fn compare(code: &[u8], image: &[u8], mask: &[u8]) -> Option<usize> {
    let shortest = code.len().min(image.len()).min(mask.len());
    let longest = code.len().max(image.len()).max(mask.len());

    let words = code
        .chunks_exact(8)
        .zip(image.chunks_exact(8))
        .zip(mask.chunks_exact(8));
    // Whole words first, because nearly every function matches to its end.
    let equal = words
        .take_while(|&((c, i), m)| (word(c) ^ word(i)) & word(m) == 0)
        .count()
        .saturating_mul(8);

    let bytes = code.iter().zip(image).zip(mask);
    let differs = bytes
        .enumerate()
        .skip(equal)
        .find(|&(_, ((c, i), m))| (c ^ i) & m != 0)
        .map(|(at, _)| at);
    differs.or((shortest != longest).then_some(shortest))
}

/// The word that a chunk of eight bytes holds.
fn word(chunk: &[u8]) -> u64 {
    chunk.first_chunk().map_or(0, |c| u64::from_le_bytes(*c))
}
