// SPDX-License-Identifier: GPL-2.0

//! Writes every malformation of a good payload, for tests that push them into a kernel.
//!
//! ```text
//! malform BODY DIRECTORY
//! ```
//!
//! `BODY` is a payload without its signature. Each malformed file is `NNN-slug.elf`, unsigned as well;
//! `index.tsv` has one line for each: the file, the reason for which it must be refused (or several with
//! `|` between them), the place as the kernel's interface encodes it, and the place in words or `-`. A
//! malformation that this payload has no part for is left out and named on standard error.

#[allow(dead_code)]
#[path = "../malform/mod.rs"]
mod malform;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use kcare_payload::error::Place;
use kcare_payload::trailer::MARKER;
use malform::image::Image;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [body, directory] = &arguments[..] else {
        eprintln!("usage: malform BODY DIRECTORY");
        return ExitCode::from(2);
    };
    match run(Path::new(body), Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("malform: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(body: &Path, directory: &Path) -> Result<(), Box<dyn Error>> {
    let name = body.display();
    let body = fs::read(body).map_err(|error| format!("cannot read {name}: {error}"))?;
    if body.ends_with(&MARKER) {
        return Err(format!("{name} is signed; give the payload without its signature").into());
    }
    malform::judge(&body).map_err(|error| format!("{name} is no good payload: {error}"))?;
    let image = Image::read(&body).ok_or_else(|| format!("{name} cannot be taken apart"))?;
    // What is put together again must be the same payload, or nothing below would prove anything.
    malform::judge(&image.write())
        .map_err(|error| format!("{name} cannot be rewritten: {error}"))?;

    fs::create_dir_all(directory)?;
    let mut index = String::new();
    let mut written = 0;
    for (number, case) in malform::all().enumerate() {
        let slug = case.slug;
        let Some((file, place)) = (case.make)(&image) else {
            eprintln!("malform: left out {slug}: {name} has no part for it");
            continue;
        };
        match malform::judge(&file) {
            Err(error) if (error.reason, error.place) == (case.reason, place) => {}
            Err(error) => return Err(format!("{slug} gives {error}").into()),
            Ok(_) => return Err(format!("{slug} is accepted").into()),
        }
        let path = format!("{number:03}-{slug}.elf");
        fs::write(directory.join(&path), file)?;
        let sooner = case.sooner.map(|reason| format!("|{reason}"));
        let reason = format!("{}{}", case.reason, sooner.unwrap_or_default());
        let raw = place.raw();
        let words = match place {
            Place::Nowhere => "-".to_string(),
            place => place.to_string(),
        };
        writeln!(index, "{path}\t{reason}\t{raw:#018x}\t{words}")?;
        written += 1;
    }
    fs::write(directory.join("index.tsv"), index)?;
    println!("{written} malformed payloads in {}", directory.display());
    Ok(())
}
