// SPDX-License-Identifier: GPL-2.0

//! kcare: live patching of the running kernel.
//!
//! The way of a fix through this module, each room a file: [`device`] takes a payload from user space,
//! [`verify`] decides whether it is to be believed ([`payload`] is its format), [`loader`] brings it
//! into memory among the [`objects`] that it names, [`redirect`] leads the old functions to trampolines, [`quiesce`] switches them over
//! with the machine stopped, [`transition`] waits for tasks that were inside, [`state`] keeps which [`level`] is live, [`late`] patches modules that come
//! while it is, and [`status`] tells of it. [`kapi`] is what they use of the kernel.
//!
//! The kernel's stack has 16 KiB, and what is inlined adds its frame to that of its caller, which stays: so the steps of a
//! request are `inline(never)`.

use core::borrow::Borrow;
use kernel::{
    prelude::*,
    sync::Arc, //
};

mod device;
mod ffi;
mod kapi;
mod late;
mod level;
mod loader;
mod objects;
#[allow(unreachable_pub, dead_code, unused_imports)]
#[path = "payload/mod.rs"]
mod payload;
mod quiesce;
mod reclaim;
mod redirect;
mod report;
mod state;
mod status;
mod transition;
mod verify;

use device::DeviceRegistration;
use kapi::{
    keyring::{
        self,
        Keyring, //
    },
    ksyms::Ksyms,
    module::{
        ModuleRef,
        Watch, //
    },
    oom, oops, parking, proc, resident, stragglers, system,
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
            description: "How long a switch of a level that must not leave stragglers waits for tasks to leave the code that goes out of use (ms)",
        },
        effort_ms: u32 {
            default: 100,
            description: "How long any other switch looks for a moment when no task is inside, before those that are become stragglers (ms)",
        },
        nudge_ms: u32 {
            default: 5000,
            description: "After how long a switch that must not leave stragglers wakes sleeping user tasks that are in its way, as by a signal (ms; 0: never)",
        },
        stop_us: u32 {
            default: 0,
            description: "For how long one stop may look at tasks, else nothing is switched (us; 0: 1000 with PREEMPT_RT, for as long as it takes without)",
        },
        redirect: u32 {
            default: 0,
            description: "How functions are redirected: 0 direct or else ipmodify, 1 direct, 2 ipmodify (later: /sys/class/misc/kcare/redirect)",
        },
        allow_unpatched: u32 {
            default: 0,
            description: "1 lets a module load that the live level should patch and cannot",
        },
        ignore_modules_disabled: u32 {
            default: 0,
            description: "1 lets levels go live although kernel.modules_disabled is set",
        },
        hide_fixes: u32 {
            default: 0,
            description: "1 lets only root read which fixes are live (sysfs cves, /proc/kcare)",
        },
        latch: u32 {
            default: 0,
            description: "1 lets no level be taken back or replaced by a lower one, nor this module go, until the next boot",
        },
    },
}

/// The loaded module. Dropping it un-registers the device; no level is live then, because a live level
/// holds a reference to the module.
#[pin_data]
struct Kcare {
    #[pin]
    device: DeviceRegistration,
    _proc: proc::Folder,
    _watch: Watch<Core>,
    _oom: oom::Watch<Core>,
    _oops: oops::Watch,
    _later: stragglers::Watch<Core>,
    _stragglers: Stragglers,
}

/// A parameter's value, which 7.2 lends and 7.3 copies.
fn parameter(value: impl Borrow<u32>) -> u32 {
    *value.borrow()
}

/// Dropped last: a task that a switch has woken may still be on its way out of this module, and who held patch code
/// may have let go of it.
struct Stragglers;

impl Drop for Stragglers {
    fn drop(&mut self) {
        parking::exit();
        stragglers::exit();
        resident::sweep();
    }
}

impl kernel::InPlaceModule for Kcare {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let core = || -> Result<Arc<Core>> {
            let options = Options {
                limit_ms: parameter(module_parameters::timeout_ms.value()),
                nudge_ms: parameter(module_parameters::nudge_ms.value()),
                effort_ms: parameter(module_parameters::effort_ms.value()),
                stop_ns: match parameter(module_parameters::stop_us.value()) {
                    0 if cfg!(CONFIG_PREEMPT_RT) => 1_000_000,
                    0 => u64::MAX,
                    us => u64::from(us).saturating_mul(1000),
                },
                choice: Choice::try_from(parameter(module_parameters::redirect.value()))?,
                allow_unpatched: parameter(module_parameters::allow_unpatched.value()) != 0,
                ignore_modules_disabled: parameter(
                    module_parameters::ignore_modules_disabled.value(),
                ) != 0,
                latch: parameter(module_parameters::latch.value()) != 0,
            };
            if parameter(module_parameters::hide_fixes.value()) != 0 {
                system::hide_fixes();
            }
            let ksyms = Ksyms::resolve()?;
            let keyring = Keyring::new().inspect_err(|e| {
                pr_err!(
                    "a built-in certificate cannot be used (error {})\n",
                    e.to_errno()
                );
            })?;
            for certificate in keyring::certificates().lines() {
                pr_info!("payloads may be signed by {certificate}\n");
            }
            if keyring::is_development() {
                pr_warn!(
                    "this module trusts a development key: it is not for machines that matter\n"
                );
            }
            let keyring = Arc::new(keyring, GFP_KERNEL)?;
            Arc::pin_init(Core::new(ksyms, keyring, options, module)?, GFP_KERNEL)
        };
        let core = core();
        try_pin_init!(Self {
            _stragglers: Stragglers,
            _oom: oom::Watch::start(core.clone()?)?,
            _later: stragglers::Watch::start(core.clone()?),
            _oops: oops::Watch::start()?,
            // Modules are watched before a level can be applied.
            _watch: Watch::start(core.clone()?)?,
            _proc: proc::Folder::new(core.clone()?)?,
            device <- DeviceRegistration::register(c"kcare", module, core?),
            _: {
                pr_info!("registered device with node 10:{}\n", device.minor());
                // Nothing can fail any more. It is not to be loaded anew without the latch.
                if parameter(module_parameters::latch.value()) != 0 {
                    ModuleRef::stay(module);
                }
            },
        }? Error)
    }
}
