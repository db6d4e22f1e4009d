// SPDX-License-Identifier: GPL-2.0

//! kcare: live patching of the running kernel.
//!
//! The way of a fix through this module, each room a file: [`device`] takes a payload from user space,
//! [`verify`] decides whether it is to be believed ([`payload`] is its format), [`loader`] brings it
//! into memory, [`redirect`] leads the old functions to trampolines, [`quiesce`] switches them over
//! with the machine stopped, [`state`] keeps
//! what is live, and [`status`] tells of it. [`kapi`] is what they use of the kernel.

use core::borrow::Borrow;
use kernel::{
    prelude::*,
    sync::Arc, //
};

mod device;
mod ffi;
mod kapi;
mod loader;
#[allow(unreachable_pub, dead_code, unused_imports)]
#[path = "payload/mod.rs"]
mod payload;
mod quiesce;
mod redirect;
mod report;
mod state;
mod status;
mod verify;

use device::DeviceRegistration;
use kapi::{
    keyring::Keyring,
    ksyms::Ksyms, //
};
use redirect::Choice;
use state::{
    Core,
    Options, //
};

module! {
    type: Kcare,
    name: "kcare",
    authors: ["The kcare developers"],
    description: "Live patching with signed payloads",
    license: "GPL",
    params: {
        timeout_ms: u32 {
            default: 30000,
            description: "How long a switch waits for tasks to leave the code that goes out of use (ms)",
        },
        redirect: u32 {
            default: 0,
            description: "How functions are redirected: 0 direct or else ipmodify, 1 direct, 2 ipmodify",
        },
    },
}

/// The loaded module. Dropping it un-registers the device; no level is live then, because a live level
/// holds a reference to the module.
#[pin_data]
struct Kcare {
    #[pin]
    device: DeviceRegistration,
}

/// A parameter's value, which 7.2 lends and 7.3 copies.
fn parameter(value: impl Borrow<u32>) -> u32 {
    *value.borrow()
}

impl kernel::InPlaceModule for Kcare {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            device <- {
                let options = Options {
                    limit_ms: parameter(module_parameters::timeout_ms.value()),
                    choice: Choice::try_from(parameter(module_parameters::redirect.value()))?,
                };
                let ksyms = Ksyms::resolve()?;
                let keyring = Keyring::new().inspect_err(|e| {
                    pr_err!("the built-in certificate cannot be used (error {})\n", e.to_errno());
                })?;
                let core = Arc::pin_init(Core::new(ksyms, keyring, options, module), GFP_KERNEL)?;
                DeviceRegistration::register(c"kcare", module, core)
            },
            _: {
                pr_info!("registered device with node 10:{}\n", device.minor());
            },
        }? Error)
    }
}
