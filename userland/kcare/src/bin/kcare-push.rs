// SPDX-License-Identifier: GPL-2.0

//! Pushes one payload by hand; everything is in the library.

fn main() -> std::process::ExitCode {
    kcare::main::<kcare::cli::KcarePush>()
}
