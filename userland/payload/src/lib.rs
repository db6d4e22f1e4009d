// SPDX-License-Identifier: GPL-2.0

//! The kcare payload format, built from the sources of the kernel module.

#![no_std]

#[path = "../../../rust-kmod/payload/mod.rs"]
mod payload;

pub use payload::*;
