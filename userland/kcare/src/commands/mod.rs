// SPDX-License-Identifier: GPL-2.0

//! One file per command: its option, what it does, and its form for people.

pub mod doctor;
pub mod fetch;
pub mod forget;
pub mod history;
pub mod info;
pub mod patch_info;
pub mod push;
pub mod register;
pub mod rollback;
pub mod settle;
pub mod status;
pub mod uname;
pub mod unload;
pub mod update;
pub mod vex;
