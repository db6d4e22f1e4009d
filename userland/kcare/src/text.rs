// SPDX-License-Identifier: GPL-2.0

//! Text that comes from outside, and numbers as people read them.

use std::path::Path;

use jiff::{fmt::strtime, Timestamp};
use kcare_payload::elf::is_format;
use kcare_tuf::time::Time;

/// A NUL-padded field or a message of the kernel, safe to show on a terminal.
///
/// A payload's author chose the bytes, so control characters other than newline are escaped, and those that only
/// format text.
pub fn from_kernel(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let mut text = String::new();
    for c in String::from_utf8_lossy(&bytes[..end]).chars() {
        match c {
            '\n' => text.push(c),
            c if c.is_control() => text.extend(c.escape_default()),
            c if is_format(c) => text.extend(c.escape_unicode()),
            c => text.push(c),
        }
    }
    text
}

/// Seconds since 1970 in the form of ctime(3), in UTC: `Mon Nov 23 10:12:00 2026`.
///
/// A number beyond the calendar (year 9999) is printed as it is.
pub fn ctime(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .and_then(|time| strtime::format("%a %b %e %T %Y", time).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}

/// Seconds since 1970 as `2026-11-23 10:12:00`, in UTC.
///
/// A number beyond the calendar (year 9999) is printed as it is.
pub fn date_time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .and_then(|time| strtime::format("%F %T", time).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}

/// Seconds since 1970 in the form of RFC 3339, in UTC: `2026-11-23T10:12:00Z`; nothing beyond the calendar.
pub fn rfc3339(seconds: u64) -> Option<String> {
    let time = Time::from_unix_seconds(i64::try_from(seconds).ok()?)?;
    Some(time.to_string())
}

/// When the machine below `root` was booted, in seconds since 1970.
pub fn boot_time(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/stat")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// For how long the machine below `root` is up, in seconds.
pub fn uptime(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/uptime")).ok()?;
    text.split('.').next()?.parse().ok()
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nanoseconds as microseconds: `0.4 µs`, `45.0 µs`.
pub fn micros(nanoseconds: u64) -> String {
    let tenths = nanoseconds / 100;
    format!("{}.{} µs", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctime_is_the_form_of_asctime() {
        assert_eq!(ctime(1_795_428_720), "Mon Nov 23 10:12:00 2026");
        assert_eq!(ctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(ctime(951_782_400), "Tue Feb 29 00:00:00 2000");
    }

    #[test]
    fn date_and_time() {
        assert_eq!(date_time(1_795_428_720), "2026-11-23 10:12:00");
        assert_eq!(date_time(u64::MAX), "18446744073709551615 s after 1970");
        assert_eq!(rfc3339(1_795_428_720).unwrap(), "2026-11-23T10:12:00Z");
        assert_eq!(rfc3339(253_402_300_800), None);
        assert_eq!(rfc3339(u64::MAX), None);
    }

    #[test]
    fn ctime_takes_any_number() {
        assert_eq!(ctime(u64::MAX), "18446744073709551615 s after 1970");
        assert_eq!(ctime(i64::MAX as u64), "9223372036854775807 s after 1970");
    }

    #[test]
    fn kernel_text_ends_at_nul_and_cannot_steer_a_terminal() {
        assert_eq!(from_kernel(b"9;7.2.12-1\0\0old"), "9;7.2.12-1");
        assert_eq!(from_kernel(b"full"), "full");
        assert_eq!(from_kernel(b"\x1b[31mred\nline"), "\\u{1b}[31mred\nline");
        assert_eq!(from_kernel(b"\xff!"), "\u{fffd}!");
        let tricky = "a\u{202e}b\u{200b}c\u{ad}d\u{2028}e\u{e0041}f";
        assert_eq!(
            from_kernel(tricky.as_bytes()),
            "a\\u{202e}b\\u{200b}c\\u{ad}d\\u{2028}e\\u{e0041}f"
        );
        assert_eq!(from_kernel("größer".as_bytes()), "größer");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(hex(&[0x3f, 0x01]), "3f01");
        assert_eq!(micros(45_049), "45.0 µs");
        assert_eq!(micros(999), "0.9 µs");
    }
}
