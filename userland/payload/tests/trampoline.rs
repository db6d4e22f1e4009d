// SPDX-License-Identifier: GPL-2.0

//! The trampolines' machine code, read back instruction by instruction.

use kcare_payload::layout::{TRAMPOLINE_FILL, TRAMPOLINE_SIZE};
use kcare_payload::trampoline::{encode, Ways, CODE_SIZE};
use proptest::prelude::*;

/// Where the kernel's text starts.
const TEXT: u64 = 0xffff_ffff_8000_0000;

/// The address that a displacement leads to from the end of its instruction.
fn reach(code: &[u8], at: u64, field: usize, end: usize) -> u64 {
    let bytes = code[field..field + 4].try_into().expect("4 bytes");
    let distance = i64::from(i32::from_le_bytes(bytes));
    (at + end as u64).wrapping_add_signed(distance)
}

/// Where the code ends, and the trampoline's fill begins.
const END: usize = CODE_SIZE as usize;

proptest! {
    #[test]
    fn leads_where_it_should(
        at in 0u64..1 << 29,
        flag in 0u64..1 << 29,
        original in 0u64..1 << 29,
        new in 0u64..1 << 29,
        ask in 0u64..1 << 29,
    ) {
        let [at, flag, original, new, ask] =
            [at, flag, original, new, ask].map(|offset| TEXT + offset);
        let code = encode(at, flag, &Ways { original, new, ask }).expect("all are near");
        // endbr64
        prop_assert_eq!(&code[..4], [0xf3, 0x0f, 0x1e, 0xfa]);
        // cmpl $1, flag(%rip)
        prop_assert_eq!(&code[4..6], [0x83, 0x3d]);
        prop_assert_eq!(code[10], 1);
        prop_assert_eq!(reach(&code, at, 6, 11), flag);
        // je new
        prop_assert_eq!(&code[11..13], [0x0f, 0x84]);
        prop_assert_eq!(reach(&code, at, 13, 17), new);
        // ja 1f, over the next instruction
        prop_assert_eq!(&code[17..19], [0x77, 24 - 19]);
        // jmp original
        prop_assert_eq!(code[19], 0xe9);
        prop_assert_eq!(reach(&code, at, 20, 24), original);
        // 1: call ask
        prop_assert_eq!(code[24], 0xe8);
        prop_assert_eq!(reach(&code, at, 25, END), ask);
        prop_assert!(code[END..].iter().all(|&byte| byte == TRAMPOLINE_FILL));
    }

    /// What is called reads the jump in front of the call (`original_of()` in shim/stragglers.c).
    #[test]
    fn the_original_is_found_from_the_return_address(
        at in 0u64..1 << 29,
        original in 0u64..1 << 29,
    ) {
        let [at, original] = [at, original].map(|offset| TEXT + offset);
        let ways = Ways { original, new: TEXT, ask: TEXT };
        let code = encode(at, TEXT, &ways).expect("all are near");
        let word: [u8; 4] = code[END - 9..END - 5].try_into().expect("4 bytes");
        let behind = at + CODE_SIZE - 5;
        let found = behind.wrapping_add_signed(i32::from_le_bytes(word).into());
        prop_assert_eq!(found, original);
    }

    #[test]
    fn two_gigabytes_are_the_limit(far in 1u64 << 31..1 << 47, which in 0usize..4) {
        for target in [TEXT.wrapping_add(far + CODE_SIZE), TEXT - far] {
            let mut targets = [TEXT; 4];
            targets[which] = target;
            prop_assert_eq!(encode_all(targets), None);
        }
    }
}

/// A trampoline at `TEXT` for its flag, its new and original body, and what it asks.
fn encode_all([flag, new, original, ask]: [u64; 4]) -> Option<[u8; TRAMPOLINE_SIZE]> {
    encode(TEXT, flag, &Ways { original, new, ask })
}

#[test]
fn exact_limits() {
    // The displacement counts from the end of each instruction.
    let ends = [11, 17, 24, CODE_SIZE];
    let above = ends.map(|end| TEXT.wrapping_add(end + 0x7fff_ffff));
    let below = ends.map(|end| TEXT + end - 0x8000_0000);
    assert!(encode_all(above).is_some());
    assert!(encode_all(below).is_some());
    for which in 0..ends.len() {
        let mut targets = [TEXT; 4];
        targets[which] = above[which].wrapping_add(1);
        assert!(encode_all(targets).is_none(), "{which} above");
        targets[which] = below[which] - 1;
        assert!(encode_all(targets).is_none(), "{which} below");
    }
    assert_eq!(TRAMPOLINE_SIZE, 32);
}
