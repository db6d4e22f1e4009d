// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers, each named like the upstream module that may one day take its place.
//!
//! Together with [`crate::ffi`] this is where `unsafe` lives.

pub(crate) mod callbacks;
pub(crate) mod ftrace;
pub(crate) mod keyring;
pub(crate) mod ksyms;
pub(crate) mod miscdevice;
pub(crate) mod module;
pub(crate) mod oom;
pub(crate) mod oops;
pub(crate) mod parking;
pub(crate) mod proc;
pub(crate) mod rcu;
pub(crate) mod resident;
pub(crate) mod stop_machine;
pub(crate) mod stragglers;
pub(crate) mod system;
pub(crate) mod tasks;
