// SPDX-License-Identifier: GPL-2.0

//! The payload format: one source for the kernel module, the builder, the tests and the fuzzers.
//!
//! A payload is an ELF64 relocatable object for x86-64 with the kernel's module-signature trailer
//! behind it. [`layout`] is the binary layout of what kcare adds to ELF, [`trailer`] splits the
//! signature off, [`cms`] is the form that it must have, [`elf`] is a bounds-checked view of the rest,
//! and [`check::Payload::parse`] walks the whole input once and establishes every invariant that later
//! code relies on; [`bundle::Bundle::parse`] does so for the parts for modules too. [`special`] lists the names that
//! sections may have. [`place`] lays sections
//! out in memory, [`reloc`] is the relocation arithmetic, [`preimage`] the masked code comparison,
//! [`arrange`] decides which body each task sees while some are
//! in old code, [`description`] what scanners are told, [`ranges`] the search for stack words and [`uapi`] the border with user space.
//! [`revocation`] is the other kind of signed file, which takes trust away.
//!
//! Rules of this tree: `core` only, no `unsafe`, no allocation, no panic on any input.

pub mod arrange;
pub mod bundle;
pub mod check;
pub mod cms;
pub mod description;
pub mod elf;
pub mod error;
pub mod layout;
pub mod place;
pub mod preimage;
pub mod ranges;
pub mod raw;
pub mod reloc;
pub mod revocation;
pub mod special;
pub mod trailer;
pub mod trampoline;
pub mod uapi;
