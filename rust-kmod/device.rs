// SPDX-License-Identifier: GPL-2.0

//! `/dev/kcare` and its folder in sysfs: the only ways in.

use crate::{
    kapi::{
        miscdevice::{
            Registration,
            Show, //
        },
        system, //
    },
    payload::{
        error::{
            Error,
            Place,
            Reason, //
        },
        uapi::{
            self,
            Apply,
            Unload,
            What, //
        },
    },
    redirect::Choice,
    report::Report,
    state::{
        Core,
        Request, //
    },
    status::{
        Status,
        Text, //
    },
    verify::Unverified,
};
use core::fmt::Write;
use kernel::{
    fs::{
        File,
        Kiocb, //
    },
    iov::IovIterDest,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// An open file of the device.
pub(crate) struct Device {
    core: Arc<Core>,
}

/// The device and what its files share.
pub(crate) type DeviceRegistration = Registration<Device, Arc<Core>>;

#[vtable]
impl MiscDevice for Device {
    type Ptr = KBox<Self>;

    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        let core = Registration::<Self, Arc<Core>>::data_of(misc).clone();
        Ok(KBox::new(Self { core }, GFP_KERNEL)?)
    }

    fn ioctl(device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        if !system::capable() {
            return Err(EPERM);
        }
        match cmd {
            uapi::IOCTL_APPLY => device.apply(arg),
            uapi::IOCTL_UNLOAD => device.take_back(arg, What::Unload),
            uapi::IOCTL_ROLLBACK => device.take_back(arg, What::Rollback),
            uapi::IOCTL_FORGET => device.take_back(arg, What::Forget),
            uapi::IOCTL_REVOKE => device.revoke(arg),
            uapi::IOCTL_INFO => device.info(arg),
            _ => Err(ENOTTY),
        }
    }

    fn read_iter(mut kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterDest<'_>) -> Result<usize> {
        let text = kiocb.file().text()?;
        iov.simple_read_from_buffer(kiocb.ki_pos_mut(), &text)
    }
}

impl Show for Arc<Core> {
    fn show(&self, view: u32, out: &mut dyn Write) -> core::fmt::Result {
        self.with_status(|status| status.show(view, out))
    }

    fn redirect(&self, text: &[u8]) -> Result {
        if !system::capable() {
            return Err(EPERM);
        }
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        let number = text.trim().parse::<u32>().map_err(|_| EINVAL)?;
        let choice = Choice::try_from(number)?;
        let mut report = Report::new()?;
        let before = self.with_status(Status::level);
        let result = Core::redirect(self, choice, &mut report);
        note(self, What::Redirect, before, &result, &mut report);
        answer(result).map(|_| ())
    }
}

impl Device {
    #[inline(never)]
    fn apply(&self, arg: usize) -> Result<isize> {
        self.give(
            arg,
            What::Apply,
            uapi::APPLY_FLAGS,
            |file, flags, report| self.core.apply(file, Request::new(flags), report),
        )
    }

    #[inline(never)]
    fn revoke(&self, arg: usize) -> Result<isize> {
        self.give(arg, What::Revoke, 0, |file, _, report| {
            self.core.revoke(file, report)
        })
    }

    /// Has `f` take a signed file, with the request's flags, which are among `known`.
    #[inline(never)]
    fn give(
        &self,
        arg: usize,
        what: What,
        known: u32,
        f: impl FnOnce(Unverified, u32, &mut Report) -> Result<(), Error>,
    ) -> Result<isize> {
        let mut request = Apply::decode(&read(arg)?);
        let mut report = Report::new()?;
        let before = self.core.with_status(Status::level);
        let result = known_flags(request.flags, known)
            .and_then(|()| Unverified::copy_from_user(request.data, request.size))
            .and_then(|file| f(file, request.flags, &mut report));
        note(&self.core, what, before, &result, &mut report);
        (request.reason, request.place) = outcome(&result);
        request.text_len = write_text(request.text, request.text_size, report.as_str());
        // What was done counts, also if the caller cannot be told the details.
        let _ = write(arg, &request.encode());
        answer(result)
    }

    /// `what` is an unload, a rollback, or to forget.
    #[inline(never)]
    fn take_back(&self, arg: usize, what: What) -> Result<isize> {
        let mut request = Unload::decode(&read(arg)?);
        let mut report = Report::new()?;
        let how = Request::taking_back();
        let before = self.core.with_status(Status::level);
        let result = known_flags(request.flags, 0).and_then(|()| match what {
            What::Forget => self.core.forget(&mut report),
            What::Rollback => self.core.rollback(how, &mut report),
            _ => self.core.unload(how, &mut report),
        });
        note(&self.core, what, before, &result, &mut report);
        (request.reason, request.place) = outcome(&result);
        request.text_len = write_text(request.text, request.text_size, report.as_str());
        let _ = write(arg, &request.encode());
        answer(result)
    }

    #[inline(never)]
    fn info(&self, arg: usize) -> Result<isize> {
        let build_id = self.core.build_id();
        let info = self.core.with_status(|status| status.info(build_id));
        write(arg, &info.encode())?;
        Ok(0)
    }

    /// What `cat /dev/kcare` prints.
    fn text(&self) -> Result<VVec<u8>> {
        let mut out = Text::new();
        self.core
            .with_status(|status| status.print(&mut out))
            .map_err(|_| ENOMEM)?;
        Ok(out.0)
    }
}

/// Tells the audit system; counts and logs a refusal, and makes sure that its message says something.
#[inline(never)]
fn note(core: &Core, what: What, before: u32, result: &Result<(), Error>, report: &mut Report) {
    let level = core.with_status(Status::level);
    system::audit(what.name(), before, level, result.is_ok());
    if let Err(error) = result {
        core.failed(what, "", error, report);
    }
}

fn known_flags(flags: u32, known: u32) -> Result<(), Error> {
    if flags & !known == 0 {
        Ok(())
    } else {
        Err(Error::new(Reason::UnknownFlags, Place::Nowhere))
    }
}

fn outcome(result: &Result<(), Error>) -> (u32, u64) {
    match result {
        Ok(()) => (0, 0),
        Err(error) => (error.reason.number(), error.place.raw()),
    }
}

fn answer(result: Result<(), Error>) -> Result<isize> {
    match result {
        Ok(()) => Ok(0),
        // The closed list of reasons has valid error numbers only.
        Err(error) => Err(kernel::error::Error::from_errno(-error.reason.errno())),
    }
}

fn read<const N: usize>(arg: usize) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    UserSlice::new(UserPtr::from_addr(arg), N)
        .reader()
        .read_slice(&mut bytes)?;
    Ok(bytes)
}

fn write(arg: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(arg), bytes.len())
        .writer()
        .write_slice(bytes)
}

/// Writes as much of a message as the caller has room for; returns the number of bytes, 0 if they cannot be written.
fn write_text(address: u64, room: u32, text: &str) -> u32 {
    let Ok(address) = usize::try_from(address) else {
        return 0;
    };
    let mut len = text.len().min(usize::try_from(room).unwrap_or(0));
    if address == 0 || len == 0 {
        return 0;
    }
    while !text.is_char_boundary(len) {
        len = len.saturating_sub(1);
    }
    match write(address, text.as_bytes().get(..len).unwrap_or_default()) {
        Ok(()) => u32::try_from(len).unwrap_or(0),
        Err(_) => 0,
    }
}
