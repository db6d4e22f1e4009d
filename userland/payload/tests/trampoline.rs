// SPDX-License-Identifier: GPL-2.0

//! The trampolines' machine code, read back instruction by instruction.

use kcare_payload::layout::{TRAMPOLINE_FILL, TRAMPOLINE_SIZE};
use kcare_payload::trampoline::encode;
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
        old in 0u64..1 << 29,
        new in 0u64..1 << 29,
    ) {
        let [at, flag, old, new] = [at, flag, old, new].map(|offset| TEXT + offset);
        let code = encode(at, flag, old, new).expect("all are near");
        // cmpl $0, flag(%rip)
        prop_assert_eq!(&code[..2], [0x83, 0x3d]);
        prop_assert_eq!(code[6], 0);
        prop_assert_eq!(reach(&code, at, 2, 7), flag);
        // je old
        prop_assert_eq!(&code[7..9], [0x0f, 0x84]);
        prop_assert_eq!(reach(&code, at, 9, 13), old);
        // jmp new
        prop_assert_eq!(code[13], 0xe9);
        prop_assert_eq!(reach(&code, at, 14, 18), new);
        prop_assert!(code[18..].iter().all(|&byte| byte == TRAMPOLINE_FILL));
    }

    #[test]
    fn two_gigabytes_are_the_limit(far in 1u64 << 31..1 << 47, which in 0usize..3) {
        for target in [TEXT.wrapping_add(far + 18), TEXT - far] {
            let mut targets = [TEXT; 3];
            targets[which] = target;
            let [flag, old, new] = targets;
            prop_assert_eq!(encode(TEXT, flag, old, new), None);
        }
    }
}

#[test]
fn exact_limits() {
    // The displacement counts from the end of each instruction: 7, 13 and 18.
    let above = |end: u64| TEXT.wrapping_add(end + 0x7fff_ffff);
    let below = |end: u64| TEXT + end - 0x8000_0000;
    assert!(encode(TEXT, above(7), above(13), above(18)).is_some());
    assert!(encode(TEXT, below(7), below(13), below(18)).is_some());
    assert!(encode(TEXT, above(7) + 1, TEXT, TEXT).is_none());
    assert!(encode(TEXT, TEXT, above(13) + 1, TEXT).is_none());
    assert!(encode(TEXT, TEXT, TEXT, above(18) + 1).is_none());
    assert!(encode(TEXT, below(7) - 1, TEXT, TEXT).is_none());
    assert!(encode(TEXT, TEXT, below(13) - 1, TEXT).is_none());
    assert!(encode(TEXT, TEXT, TEXT, below(18) - 1).is_none());
    assert_eq!(TRAMPOLINE_SIZE, 32);
}
