// SPDX-License-Identifier: GPL-2.0

//! Prints one version; everything is in the library.

fn main() -> std::process::ExitCode {
    kcare::main::<kcare::cli::KcareUname>()
}
