// SPDX-License-Identifier: GPL-2.0

//! Times as metadata writes them: UTC, to the second.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::error::Malformed;

/// A time in UTC, to the second, of the years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(DateTime);

impl Time {
    /// The time of the system's clock.
    pub fn now() -> Self {
        Self::from_timestamp(Timestamp::now())
    }

    /// Seconds since 1970; nothing outside of the years 0 to 9999.
    pub fn from_unix_seconds(seconds: i64) -> Option<Self> {
        let time = Self::from_timestamp(Timestamp::from_second(seconds).ok()?);
        (time.0.year() >= 0).then_some(time)
    }

    /// Seconds since 1970.
    pub fn unix_seconds(self) -> i64 {
        let timestamp = TimeZone::UTC.to_timestamp(self.0);
        timestamp.map_or(i64::MAX, |timestamp| timestamp.as_second())
    }

    fn from_timestamp(timestamp: Timestamp) -> Self {
        Self::whole(TimeZone::UTC.to_datetime(timestamp))
    }

    /// `days` later; the last second of the year 9999 if that is beyond.
    pub fn plus_days(self, days: u32) -> Self {
        // More than there are up to the year 9999, and less than a span may have.
        let days = i64::from(days).min(4_000_000);
        Self::whole(self.0.saturating_add(Span::new().days(days)))
    }

    /// Without the fraction of the second.
    fn whole(time: DateTime) -> Self {
        Self(time.with().subsec_nanosecond(0).build().unwrap_or(time))
    }

    /// Reads `YYYY-MM-DDTHH:MM:SSZ`, and nothing else.
    ///
    /// # Errors
    ///
    /// [`Malformed::Time`] for another form, or for a day or a second that does not exist.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::read(text).ok_or_else(|| Malformed::Time {
            found: text.to_string(),
        })
    }

    fn read(text: &str) -> Option<Self> {
        const FORM: &[u8; 20] = b"0000-00-00T00:00:00Z";
        let text = text.as_bytes();
        let fits = |(&byte, &form): (&u8, &u8)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        };
        if text.len() != FORM.len() || !text.iter().zip(FORM).all(fits) {
            return None;
        }
        let number = |at: usize, len: usize| {
            let digits = text.get(at..at.checked_add(len)?)?;
            std::str::from_utf8(digits).ok()?.parse::<i16>().ok()
        };
        let small = |at| number(at, 2).and_then(|n| i8::try_from(n).ok());
        DateTime::new(
            number(0, 4)?,
            small(5)?,
            small(8)?,
            small(11)?,
            small(14)?,
            small(17)?,
            0,
        )
        .ok()
        .map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}
