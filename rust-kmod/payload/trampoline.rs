// SPDX-License-Identifier: GPL-2.0

//! Machine code of the trampolines: one test of the level's flag decides which body runs.
//!
//! A trampoline is entered with the registers and the stack of a function's first instruction, so it
//! may clobber the flags register and nothing else. BPF's programs enter it by an indirect call.

use super::layout::{TRAMPOLINE_FILL, TRAMPOLINE_SIZE};

/// Bytes of the fentry site that a redirect replaces, and that the original body goes on behind.
pub const FENTRY_SIZE: u64 = 5;

/// A level's flag, which its trampolines test: whose bodies run?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Bodies {
    /// The original ones.
    Original = 0,
    /// The level's own.
    New = 1,
    /// Those that the task sees ([`super::arrange`]).
    Ask = 2,
}

/// Where a trampoline may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ways {
    /// For [`Bodies::Original`].
    pub original: u64,
    /// For [`Bodies::New`].
    pub new: u64,
    /// For [`Bodies::Ask`]: what is called then. It finds the original body's address in the jump in front of the call.
    pub ask: u64,
}

/// The end of the code: what is called for [`Bodies::Ask`] has this offset in the trampoline as its return address.
pub const CODE_SIZE: u64 = 29;

/// The code of a trampoline at address `at` that tests the 32-bit word at `flag`, a [`Bodies`]. `None` if
/// one of the addresses is more than 2 GiB away.
///
/// ```text
/// f3 0f 1e fa       endbr64
/// 83 3d disp32 01   cmpl $1, flag(%rip)
/// 0f 84 rel32       je   new
/// 77 05             ja   1f
/// e9 rel32          jmp  original
/// e8 rel32          1: call ask
/// ```
pub fn encode(at: u64, flag: u64, ways: &Ways) -> Option<[u8; TRAMPOLINE_SIZE]> {
    let [f0, f1, f2, f3] = displacement(at, 11, flag)?;
    let [n0, n1, n2, n3] = displacement(at, 17, ways.new)?;
    let [o0, o1, o2, o3] = displacement(at, 24, ways.original)?;
    let [a0, a1, a2, a3] = displacement(at, CODE_SIZE, ways.ask)?;
    let code = [
        0xf3, 0x0f, 0x1e, 0xfa, 0x83, 0x3d, f0, f1, f2, f3, 0x01, 0x0f, 0x84, n0, n1, n2, n3, 0x77,
        0x05, 0xe9, o0, o1, o2, o3, 0xe8, a0, a1, a2, a3,
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
