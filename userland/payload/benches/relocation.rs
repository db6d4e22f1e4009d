// SPDX-License-Identifier: GPL-2.0

//! How fast payloads are checked, relocated and compared, and stacks searched.

#[allow(dead_code)]
#[path = "../tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../malform/mod.rs"]
mod malform;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{build, Spec};
use kcare_payload::check::Payload;
use kcare_payload::elf::{Home, Section, SectionKind};
use kcare_payload::place::slots;
use kcare_payload::preimage::compare;
use kcare_payload::ranges::{Range, Ranges};
use kcare_payload::reloc::apply_all;

/// Measured runs; the fastest counts, since whatever else the machine does only slows one down.
const RUNS: u32 = 15;

/// Times `work` on fresh input from `prepare`, and returns the fastest run.
fn fastest<T>(mut prepare: impl FnMut() -> T, mut work: impl FnMut(&mut T)) -> Duration {
    let run = |_| {
        let mut input = prepare();
        let start = Instant::now();
        work(&mut input);
        let time = start.elapsed();
        black_box(input);
        time
    };
    (0..RUNS).map(run).min().unwrap_or_default()
}

fn row(what: &str, count: usize, unit: &str, time: Duration) {
    let rate = count as f64 / time.as_secs_f64() / 1e6;
    let micros = time.as_secs_f64() * 1e6;
    println!("{what:<28} {count:>9} {unit:<12} {micros:>10.0} us {rate:>10.1} M/s");
}

/// The relocation sections of a payload, each with its target's content and address.
fn work<'a>(payload: &Payload<'a>) -> (Vec<(Section<'a>, u64)>, Vec<u64>) {
    let mut address = vec![0; payload.nr_sections() as usize];
    for (section, slot) in slots(payload) {
        address[section.index as usize] = malform::region_base(slot.region) + slot.offset;
    }
    let mut values = vec![0; payload.nr_symbols() as usize];
    for symbol in payload.symbols() {
        if let Home::Section(section) = symbol.home {
            values[symbol.index as usize] = address[section as usize] + symbol.value;
        }
    }
    for e in payload.externs() {
        values[e.symbol as usize] = malform::object_base(e.object, e.region) + e.offset;
    }
    let relas = payload.sections().filter(|s| s.kind == SectionKind::Rela);
    (
        relas.map(|s| (s, address[s.info as usize])).collect(),
        values,
    )
}

fn relocation(name: &str, spec: &Spec) {
    let body = build(spec);
    let payload = Payload::parse(&body).expect("it is good");
    let (sections, values) = work(&payload);
    let total = payload.nr_relocations();

    let contents = || -> Vec<Vec<u8>> {
        let content =
            |(s, _): &(Section<'_>, u64)| payload.section(s.info).map(|t| t.data.to_vec());
        sections.iter().filter_map(content).collect()
    };
    let time = fastest(contents, |contents| {
        let mut done = 0;
        for ((section, base), content) in sections.iter().zip(contents) {
            let relocations = payload.relocations(section);
            let count = apply_all(relocations, section.index, content, *base, &values);
            done += count.expect("every value fits") as usize;
        }
        assert_eq!(done, total);
    });
    row(&format!("relocate {name}"), total, "relocations", time);

    let time = fastest(
        || (),
        |()| {
            black_box(Payload::parse(black_box(&body))).expect("it is good");
        },
    );
    row(&format!("check {name}"), total, "relocations", time);
}

fn comparison() {
    let image: Vec<u8> = (0..1u32 << 20).map(|i| (i * 7) as u8).collect();
    let mask: Vec<u8> = (0..image.len())
        .map(|i| if i % 11 == 0 { 0 } else { 0xff })
        .collect();
    let time = fastest(
        || image.clone(),
        |code| assert_eq!(compare(code, black_box(&image), black_box(&mask)), None),
    );
    row("compare pre-images", image.len(), "bytes", time);
}

fn search() {
    let base = malform::VMLINUX;
    let range = |i: u64| Range {
        start: base + i * 0x8000,
        end: base + i * 0x8000 + 200,
    };
    let ranges: Vec<_> = (0..200).map(range).collect();
    let set = Ranges::new(&ranges).expect("it is sorted");
    // One word in eight is a return address of the kernel's, as on real stacks.
    let word = |i: u64| match i % 8 {
        0 => base + (i.wrapping_mul(0x9e37_79b9) % (200 * 0x8000) / 0x8000) * 0x8000 + 4096,
        _ => i,
    };
    let words: Vec<u64> = (0..1 << 20).map(word).collect();
    let time = fastest(
        || words.clone(),
        |words| assert_eq!(set.scan(black_box(words).iter().copied()), None),
    );
    row("search stack words", words.len(), "words", time);
}

fn main() {
    let one = Spec {
        modules: 3,
        funcs: 1,
        externs: 300,
        fixes: 4,
        relocations: 200_000,
        parts: 0,
    };
    let many = Spec {
        funcs: 1500,
        relocations: 60,
        ..one
    };
    relocation("one large function", &one);
    relocation("1500 functions", &many);
    comparison();
    search();
}
