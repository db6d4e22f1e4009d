// SPDX-License-Identifier: GPL-2.0

//! Writes what the fuzzers begin with: `seeds DIRECTORY` makes a folder for each target in it, and `good`, with good
//! payloads only.

use std::path::Path;
use std::{env, fs, io};

use kcare_fuzz::samples;

fn write(directory: &Path, all: &[Vec<u8>]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (number, body) in all.iter().enumerate() {
        fs::write(directory.join(format!("{number:04}")), body)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).unwrap_or_else(|| "seeds".into());
    let directory = Path::new(&directory);
    write(&directory.join("good"), &samples::good())?;
    write(&directory.join("bundle"), &samples::bundles())?;
    write(&directory.join("cms"), &samples::signatures())?;
    write(&directory.join("revocation"), &samples::revocations())
}
