// SPDX-License-Identifier: GPL-2.0

//! The vendor's payload builder: from a source fix to a kcare payload for one exact kernel build.
//!
//! [`patch`] applies the fix to a private copy, [`units`] finds what must be compiled, with [`includes`] and [`inputs`], and [`account`] keeps what each file is; [`compile`] does
//! it with the kernel's own commands, [`structs`] judges changed layouts, [`verify`] proves that the rebuilt unit is the shipped one,
//! [`correlate`], with [`scope`], and [`compare`] find what differs, [`mod@author`] what the author declares beside code, [`select`] decides what goes into the payload,
//! [`preimage`] takes the code that must be found in memory, [`emit`] and [`mod@elf`] write the object,
//! [`sign`] signs it, [`revoke`] makes the record that takes the trust in a signer away, and [`debug`] writes its debug companion; [`delta`] tells two payloads apart. Each borrows the former's data immutably. The bias of all of them: never miss a
//! change; refuse rather than guess.

pub mod account;
pub mod author;
pub mod btf;
pub mod build;
mod cexpr;
pub mod cli;
pub mod clones;
mod commands;
pub mod compare;
pub mod compile;
pub mod computed;
pub mod correlate;
pub mod ctext;
pub mod debug;
pub mod debuginfo;
pub mod delta;
pub mod diff;
pub mod dwarf;
pub mod elf;
pub mod emit;
pub mod entries;
pub mod frames;
pub mod home;
pub mod image;
pub mod includes;
pub mod inputs;
pub mod insn;
pub mod inspect;
pub mod kernel;
pub mod layout;
pub mod lists;
pub mod modinfo;
pub mod module;
pub mod obj;
pub mod padding;
mod pastes;
pub mod patch;
pub mod plain;
pub mod preimage;
pub mod progress;
pub mod publish;
pub mod refuse;
pub mod renames;
pub mod revoke;
pub mod rust;
pub mod scope;
pub mod seen;
pub mod select;
pub mod sign;
pub mod special;
pub mod store;
pub mod structs;
pub mod toolchain;
pub mod unit;
pub mod units;
pub mod verdicts;
pub mod verify;
pub mod verify_module;
pub mod vmlinux;
pub mod words;
