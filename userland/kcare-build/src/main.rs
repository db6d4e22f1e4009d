// SPDX-License-Identifier: GPL-2.0

//! The `kcare-build` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    kcare_build::cli::main()
}
