// SPDX-License-Identifier: GPL-2.0

//! The administrator's view of kcare; everything is in the library.

fn main() -> std::process::ExitCode {
    kcare::main::<kcare::cli::Kcarectl>()
}
