// SPDX-License-Identifier: GPL-2.0

//! Relocation arithmetic, masked comparison and the search in ranges, against slow and plain versions.

use kcare_payload::elf::Relocation;
use kcare_payload::error::{Error, Place, Reason};
use kcare_payload::preimage::compare;
use kcare_payload::ranges::{Range, Ranges};
use kcare_payload::reloc::{apply, apply_all, Kind};
use proptest::prelude::*;

const KINDS: [Kind; 6] = [
    Kind::Abs64,
    Kind::Pc32,
    Kind::Plt32,
    Kind::Abs32,
    Kind::Abs32S,
    Kind::Pc64,
];

/// The value that the psABI asks for, in numbers so wide that nothing wraps, then cut to 64 bits as
/// the kernel's arithmetic does.
fn expected(kind: Kind, place: u64, symbol: u64, addend: i64) -> Result<Vec<u8>, Reason> {
    let relative = matches!(kind, Kind::Pc32 | Kind::Plt32 | Kind::Pc64);
    let exact =
        i128::from(symbol) + i128::from(addend) - if relative { i128::from(place) } else { 0 };
    let unsigned = exact.rem_euclid(1 << 64);
    let signed = if unsigned >= 1 << 63 {
        unsigned - (1 << 64)
    } else {
        unsigned
    };
    let range = match kind {
        Kind::Abs64 | Kind::Pc64 => return Ok(unsigned.to_le_bytes()[..8].to_vec()),
        Kind::Abs32 => (0..1 << 32).contains(&unsigned),
        Kind::Pc32 | Kind::Plt32 | Kind::Abs32S => (-(1 << 31)..1 << 31).contains(&signed),
    };
    match range {
        true => Ok(unsigned.to_le_bytes()[..4].to_vec()),
        false => Err(Reason::RelocationOverflow),
    }
}

/// Words near the places where something changes.
fn edges() -> impl Strategy<Value = u64> {
    let edge = prop::sample::select(vec![
        0,
        1 << 31,
        1 << 32,
        1 << 63,
        0xffff_ffff_8000_0000,
        0xffff_ffff_c000_0000,
        u64::MAX,
    ]);
    prop_oneof![
        any::<u64>(),
        (edge, -9i64..9).prop_map(|(e, d)| e.wrapping_add_signed(d))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn relocation_values(
        kind in prop::sample::select(&KINDS[..]),
        place in edges(),
        symbol in edges(),
        addend in edges(),
    ) {
        let addend = addend as i64;
        let mut target = vec![0; usize::from(kind.width())];
        let got = apply(kind, &mut target, place, symbol, addend);
        match expected(kind, place, symbol, addend) {
            Ok(bytes) => {
                prop_assert_eq!(got, Ok(()));
                prop_assert_eq!(target, bytes);
            }
            Err(reason) => {
                prop_assert_eq!(got, Err(reason));
                prop_assert!(target.iter().all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    fn comparison(
        image in prop::collection::vec(any::<u8>(), 0..80),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        free in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut code = image.clone();
        let mut mask = vec![0xff; image.len()];
        if !image.is_empty() {
            for (at, flip) in flips {
                code[at.index(image.len())] ^= flip;
            }
            for at in free {
                mask[at.index(image.len())] = 0;
            }
            if let Some(cut) = cut {
                code.truncate(cut.index(image.len()));
            }
        }
        let differs = |at: &usize| match code.get(*at) {
            Some(byte) => mask[*at] != 0 && *byte != image[*at],
            None => true,
        };
        prop_assert_eq!(compare(&code, &image, &mask), (0..image.len()).find(differs));
    }

    #[test]
    fn search(
        steps in prop::collection::vec((0u64..20, 1u64..20), 0..40),
        base in edges(),
        words in prop::collection::vec(0u64..1700, 0..40),
    ) {
        let base = base.min(u64::MAX - 2000);
        let mut ranges = Vec::new();
        let mut end = base;
        for (gap, size) in steps {
            let start = end + gap;
            end = start + size;
            ranges.push(Range { start, end });
        }
        let set = Ranges::new(&ranges).expect("it is sorted");
        let words: Vec<_> = words.iter().map(|word| base.wrapping_add(*word).wrapping_sub(9)).collect();
        let plain = |word: u64| ranges.iter().position(|r| (r.start..r.end).contains(&word));
        for &word in &words {
            prop_assert_eq!(set.find(word), plain(word));
        }
        let first = words.iter().find_map(|&word| plain(word).map(|index| (word, index)));
        prop_assert_eq!(set.scan(words), first);
    }
}

#[test]
fn every_kind_keeps_its_number_and_width() {
    let facts = [
        (1, 8, "R_X86_64_64"),
        (2, 4, "R_X86_64_PC32"),
        (4, 4, "R_X86_64_PLT32"),
        (10, 4, "R_X86_64_32"),
        (11, 4, "R_X86_64_32S"),
        (24, 8, "R_X86_64_PC64"),
    ];
    let mut known = 0;
    for number in 0..1000 {
        match Kind::try_from(number) {
            Ok(kind) => {
                let fact = (kind.number(), kind.width(), kind.name());
                assert!(facts.contains(&fact) && kind.number() == number, "{fact:?}");
                known += 1;
            }
            Err(reason) => assert_eq!(reason, Reason::RelocationType),
        }
    }
    assert_eq!(known, facts.len());
}

#[test]
fn a_filled_field_is_left_alone() {
    for kind in KINDS {
        for at in 0..kind.width() {
            let mut target = vec![0; usize::from(kind.width())];
            target[usize::from(at)] = 1;
            let before = target.clone();
            assert_eq!(
                apply(kind, &mut target, 0, 0, 0),
                Err(Reason::RelocationNotZero)
            );
            assert_eq!(target, before);
        }
    }
}

#[test]
fn a_field_of_another_size_is_refused() {
    for kind in KINDS {
        for size in [0, 1, 3, 5, 7, 9, 12 - kind.width()] {
            let mut target = vec![0; usize::from(size)];
            assert_eq!(
                apply(kind, &mut target, 0, 0, 0),
                Err(Reason::RelocationRange)
            );
        }
    }
}

#[test]
fn a_section_is_relocated_up_to_its_fault() {
    let relocation = |offset, symbol| Relocation {
        offset,
        kind: Kind::Plt32,
        symbol,
        addend: -4,
    };
    let run = |relocations: Vec<Relocation>, values: &[u64]| {
        let mut content = vec![0; 16];
        apply_all(relocations.into_iter(), 7, &mut content, 0x1000, values).map(|n| (n, content))
    };
    let fault = |reason, index| Err(Error::new(reason, Place::Relocation { section: 7, index }));

    let (count, content) =
        run(vec![relocation(0, 1), relocation(12, 0)], &[0x1000, 0x2000]).expect("both fit");
    assert_eq!(count, 2);
    assert_eq!(content[..4], 0xffcu32.to_le_bytes());
    assert_eq!(content[12..], (-16i32).to_le_bytes());

    let outside = run(vec![relocation(0, 0), relocation(13, 0)], &[0x1000]);
    assert_eq!(outside, fault(Reason::RelocationRange, 1));
    let far = run(vec![relocation(u64::MAX, 0)], &[0x1000]);
    assert_eq!(far, fault(Reason::RelocationRange, 0));
    let unknown = run(vec![relocation(0, 1)], &[0x1000]);
    assert_eq!(unknown, fault(Reason::RelocationSymbol, 0));
    let overflow = run(vec![relocation(4, 0), relocation(8, 1)], &[0, 1 << 33]);
    assert_eq!(overflow, fault(Reason::RelocationOverflow, 1));
    let twice = run(vec![relocation(4, 0), relocation(6, 0)], &[0x1234_5678]);
    assert_eq!(twice, fault(Reason::RelocationNotZero, 1));
}

#[test]
fn comparison_of_unequal_lengths() {
    assert_eq!(compare(b"", b"", b""), None);
    assert_eq!(compare(b"ab", b"abc", &[0xff; 3]), Some(2));
    assert_eq!(compare(b"abc", b"ab", &[0xff; 3]), Some(2));
    assert_eq!(compare(b"abc", b"abc", &[0xff; 2]), Some(2));
    assert_eq!(compare(b"xbc", b"ab", &[0xff; 3]), Some(0));
}

#[test]
fn ranges_that_are_not_a_set() {
    let set = |pairs: &[(u64, u64)]| {
        let ranges: Vec<_> = pairs
            .iter()
            .map(|&(start, end)| Range { start, end })
            .collect();
        Ranges::new(&ranges).map(|r| r.as_slice().len())
    };
    assert_eq!(set(&[]), Some(0));
    assert_eq!(set(&[(0, u64::MAX)]), Some(1));
    assert_eq!(set(&[(1, 2), (2, 3)]), Some(2));
    assert_eq!(set(&[(1, 1)]), None);
    assert_eq!(set(&[(2, 1)]), None);
    assert_eq!(set(&[(1, 3), (2, 4)]), None);
    assert_eq!(set(&[(5, 6), (1, 2)]), None);
}

#[test]
fn edges_of_ranges() {
    let ranges = [Range { start: 10, end: 20 }, Range { start: 20, end: 21 }];
    let set = Ranges::new(&ranges).expect("it is sorted");
    for (word, index) in [
        (9, None),
        (10, Some(0)),
        (19, Some(0)),
        (20, Some(1)),
        (21, None),
    ] {
        assert_eq!(set.find(word), index, "{word}");
    }
    assert_eq!(Ranges::new(&[]).and_then(|empty| empty.find(0)), None);
}
