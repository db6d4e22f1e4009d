// SPDX-License-Identifier: GPL-2.0

//! The trampolines' machine code, read back instruction by instruction.

use kcare_payload::layout::{TRAMPOLINE_FILL, TRAMPOLINE_SIZE};
use kcare_payload::trampoline::{encode, Ways};
use proptest::prelude::*;

/// Where the kernel's text starts.
const TEXT: u64 = 0xffff_ffff_8000_0000;

/// The address that a displacement leads to from the end of its instruction.
fn reach(code: &[u8], at: u64, field: usize, end: usize) -> u64 {
    let bytes = code[field..field + 4].try_into().expect("4 bytes");
    let distance = i64::from(i32::from_le_bytes(bytes));
    (at + end as u64).wrapping_add_signed(distance)
}

proptest! {
    #[test]
    fn leads_where_it_should(
        at in 0u64..1 << 29,
        flag in 0u64..1 << 29,
        original in 0u64..1 << 29,
        new in 0u64..1 << 29,
        previous in 0u64..1 << 29,
    ) {
        let [at, flag, original, new, previous] =
            [at, flag, original, new, previous].map(|offset| TEXT + offset);
        let code = encode(at, flag, &Ways { original, new, previous }).expect("all are near");
        // cmpl $1, flag(%rip)
        prop_assert_eq!(&code[..2], [0x83, 0x3d]);
        prop_assert_eq!(code[6], 1);
        prop_assert_eq!(reach(&code, at, 2, 7), flag);
        // je new
        prop_assert_eq!(&code[7..9], [0x0f, 0x84]);
        prop_assert_eq!(reach(&code, at, 9, 13), new);
        // ja previous
        prop_assert_eq!(&code[13..15], [0x0f, 0x87]);
        prop_assert_eq!(reach(&code, at, 15, 19), previous);
        // jmp original
        prop_assert_eq!(code[19], 0xe9);
        prop_assert_eq!(reach(&code, at, 20, 24), original);
        prop_assert!(code[24..].iter().all(|&byte| byte == TRAMPOLINE_FILL));
    }

    #[test]
    fn two_gigabytes_are_the_limit(far in 1u64 << 31..1 << 47, which in 0usize..4) {
        for target in [TEXT.wrapping_add(far + 24), TEXT - far] {
            let mut targets = [TEXT; 4];
            targets[which] = target;
            prop_assert_eq!(encode_all(targets), None);
        }
    }
}

/// A trampoline at `TEXT` for its flag and its new, previous and original body.
fn encode_all([flag, new, previous, original]: [u64; 4]) -> Option<[u8; TRAMPOLINE_SIZE]> {
    encode(
        TEXT,
        flag,
        &Ways {
            original,
            new,
            previous,
        },
    )
}

#[test]
fn exact_limits() {
    // The displacement counts from the end of each instruction.
    let ends = [7, 13, 19, 24];
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
