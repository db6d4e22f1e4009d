// SPDX-License-Identifier: GPL-2.0

//! Counts what becomes of inputs: `reasons DIRECTORY…` with those of `bundle`, of `cms` and of `revocation`.

use std::collections::BTreeSet;
use std::{env, fs, io};

use kcare_fuzz::samples::OUT_OF_REACH;
use kcare_payload::error::Reason;
use kcare_payload::revocation::Revocation;
use kcare_payload::{cms, trailer};

mod loader;

/// Reasons below this number are about a payload's form.
const FORM_END: u32 = 256;

fn main() -> io::Result<()> {
    let (mut inputs, mut accepted, mut with_parts) = (0, 0, 0);
    let mut reached = BTreeSet::new();
    let mut in_parts = BTreeSet::new();
    for directory in env::args_os().skip(1) {
        for file in fs::read_dir(directory)? {
            let body = fs::read(file?.path())?;
            inputs += 1;
            match loader::load(&body) {
                Ok(parts) => {
                    accepted += 1;
                    with_parts += u32::from(parts != 0);
                }
                Err((error, in_part)) => {
                    reached.insert(error.reason);
                    if in_part {
                        in_parts.insert(error.reason);
                    }
                }
            }
            reached.extend(cms::check(&body).err());
            reached.extend(Revocation::parse(&body).err().map(|error| error.reason));
            match trailer::split(&body) {
                Ok((_, signature)) => reached.extend(cms::check(signature).err()),
                Err(error) => drop(reached.insert(error.reason)),
            }
        }
    }
    let form = |reason: &&Reason| reason.number() < FORM_END && !OUT_OF_REACH.contains(reason);
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(form)
        .filter(|r| !reached.contains(r))
        .collect();
    let all = Reason::ALL.iter().filter(form).count();
    println!(
        "{inputs} inputs, {accepted} accepted ({with_parts} with parts), {} of {all} reasons of form ({} in a part)",
        all - missing.len(),
        in_parts.len()
    );
    for reason in missing {
        println!("not reached: {}", reason.name());
    }
    Ok(())
}
