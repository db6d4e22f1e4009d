// SPDX-License-Identifier: GPL-2.0

//! Machine code of the trampolines: one test of the level's flag, then the new body or the old one.
//!
//! A trampoline is entered with the registers and the stack of a function's first instruction, so it
//! may clobber the flags register and nothing else.

use super::layout::{TRAMPOLINE_FILL, TRAMPOLINE_SIZE};

/// Bytes of the fentry site that a redirect replaces, and that the old body goes on behind.
pub const FENTRY_SIZE: u64 = 5;

/// The code of a trampoline at address `at`: jump to `new` if the 32-bit word at `flag` is not zero,
/// else to `old`. `None` if one of them is more than 2 GiB away.
///
/// ```text
/// 83 3d disp32 00   cmpl $0, flag(%rip)
/// 0f 84 rel32       je   old
/// e9 rel32          jmp  new
/// ```
pub fn encode(at: u64, flag: u64, old: u64, new: u64) -> Option<[u8; TRAMPOLINE_SIZE]> {
    let [f0, f1, f2, f3] = displacement(at, 7, flag)?;
    let [o0, o1, o2, o3] = displacement(at, 13, old)?;
    let [n0, n1, n2, n3] = displacement(at, 18, new)?;
    let code = [
        0x83, 0x3d, f0, f1, f2, f3, 0x00, 0x0f, 0x84, o0, o1, o2, o3, 0xe9, n0, n1, n2, n3,
    ];
    let mut out = [TRAMPOLINE_FILL; TRAMPOLINE_SIZE];
    for (byte, value) in out.iter_mut().zip(code) {
        *byte = value;
    }
    Some(out)
}

/// What an instruction of the trampoline at `at` that ends at `end` must add to reach `target`.
fn displacement(at: u64, end: u64, target: u64) -> Option<[u8; 4]> {
    let distance = target.wrapping_sub(at.wrapping_add(end));
    // CAST: the same 64 bits, read as two's complement.
    let distance = i32::try_from(distance as i64).ok()?;
    Some(distance.to_le_bytes())
}
