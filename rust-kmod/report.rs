// SPDX-License-Identifier: GPL-2.0

//! The message that goes with an answer: to the caller of an ioctl and to the kernel log.

use crate::payload::error::{
    Error,
    Place,
    Reason, //
};
use core::fmt::{
    self,
    Write, //
};
use kernel::prelude::*;

/// Longest message in bytes.
const SIZE: usize = 2048;

/// A message of limited length, whose memory is taken before anything else happens, so that even an
/// out-of-memory error can be told.
pub(crate) struct Report {
    text: KVec<u8>,
}

impl Report {
    /// An empty message.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            text: KVec::with_capacity(SIZE, GFP_KERNEL)?,
        })
    }

    /// A message that has no room for anything.
    pub(crate) const fn none() -> Self {
        Self { text: KVec::new() }
    }

    /// Adds to the message; what does not fit is cut.
    pub(crate) fn add(&mut self, text: fmt::Arguments<'_>) {
        let _ = self.write_fmt(text);
    }

    /// Says why, and makes the error that goes with it.
    pub(crate) fn refuse(
        &mut self,
        reason: Reason,
        place: Place,
        text: fmt::Arguments<'_>,
    ) -> Error {
        self.add(text);
        Error::new(reason, place)
    }

    /// An error of the kernel's during `what`: [`Reason::OutOfMemory`], or `otherwise`.
    pub(crate) fn failed(
        &mut self,
        otherwise: Reason,
        what: &str,
        error: kernel::error::Error,
    ) -> Error {
        let reason = if error == ENOMEM {
            Reason::OutOfMemory
        } else {
            otherwise
        };
        let errno = error.to_errno();
        self.refuse(
            reason,
            Place::Nowhere,
            format_args!("{what} failed with error {errno}"),
        )
    }

    /// A module is still in its init, and what is needed of it cannot be had before that has succeeded.
    pub(crate) fn coming(&mut self, module: &str) -> Error {
        self.refuse(
            Reason::Busy,
            Place::Nowhere,
            format_args!("module {module} is still in its init"),
        )
    }

    /// Does something with the part for a module; an error's message then starts with `part NAME: `, by which
    /// programs know that its place is one within the part.
    pub(crate) fn about_part<R>(
        &mut self,
        module: &str,
        f: impl FnOnce(&mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let start = self.text.len();
        self.add(format_args!("part {module}: "));
        let behind = self.text.len();
        let result = f(self);
        match &result {
            Ok(_) => self.text.truncate(start),
            Err(error) if self.text.len() == behind => {
                self.add(format_args!("{}", error.reason.explain()));
            }
            Err(_) => {}
        }
        result
    }

    /// Fills an empty message with what the error itself says.
    pub(crate) fn explain(&mut self, error: &Error) {
        if !self.text.is_empty() {
            return;
        }
        self.add(format_args!("{}", error.reason.explain()));
        if error.place != Place::Nowhere {
            self.add(format_args!(" ({})", error.place));
        }
    }

    /// Takes back what it says.
    pub(crate) fn clear(&mut self) {
        self.text.truncate(0);
    }

    /// The message; cut between characters.
    pub(crate) fn as_str(&self) -> &str {
        match core::str::from_utf8(&self.text) {
            Ok(text) => text,
            Err(error) => {
                let valid = self.text.get(..error.valid_up_to()).unwrap_or_default();
                core::str::from_utf8(valid).unwrap_or_default()
            }
        }
    }
}

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // No allocation: the capacity was taken in `new`.
            self.text
                .push_within_capacity(byte)
                .map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// Bytes as hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An error of memory allocation, where nothing more can be said.
pub(crate) fn out_of_memory<E>(_: E) -> Error {
    Error::from(Reason::OutOfMemory)
}
