// SPDX-License-Identifier: GPL-2.0

//! The border between `/dev/kcare` and user space: ioctl numbers and the records they carry.
//!
//! The ioctl letter is `k`, and 0 applies, 1 takes back, 2 tells, as the trade has it.

use super::layout::record;

/// Version of this interface, in [`InfoHead::abi`].
pub const ABI: u32 = 1;

/// `_IOWR('k', nr, size)` (include/uapi/asm-generic/ioctl.h).
const fn iowr(nr: u32, size: usize) -> u32 {
    // CAST: sizes here are below 1 << 14, the field's width.
    (3 << 30) | ((size as u32) << 16) | ((b'k' as u32) << 8) | nr
}

/// Applies a payload; the argument is an [`Apply`].
pub const IOCTL_APPLY: u32 = iowr(0, Apply::SIZE);
/// Takes the live level back; the argument is an [`Unload`].
pub const IOCTL_UNLOAD: u32 = iowr(1, Unload::SIZE);
/// Goes back to the level that the live one has replaced; the argument is an [`Unload`].
pub const IOCTL_ROLLBACK: u32 = iowr(3, Unload::SIZE);
/// Frees the level that is kept for a rollback: [`Unload`].
pub const IOCTL_FORGET: u32 = iowr(5, Unload::SIZE);
/// Revokes certificates for as long as the module is loaded: [`Apply`], whose data is a signed
/// [`super::revocation::Revocation`], and which has no flags.
pub const IOCTL_REVOKE: u32 = iowr(6, Apply::SIZE);
/// Tells what is live; the argument is an [`Info`].
pub const IOCTL_INFO: u32 = iowr(2, Info::SIZE);

/// Flag of [`Apply`]: a lower level may replace a higher one.
pub const APPLY_DOWNGRADE: u32 = 1 << 0;
/// Flag of [`Apply`]: do everything short of the switch, say whether it would be possible now, and take
/// everything back.
pub const APPLY_DRY_RUN: u32 = 1 << 1;
/// All flags of [`Apply`].
pub const APPLY_FLAGS: u32 = APPLY_DOWNGRADE | APPLY_DRY_RUN;

/// Nothing is applied.
pub const STATE_NONE: u32 = 0;
/// A level is live.
pub const STATE_APPLIED: u32 = 1;

record! {
    /// Argument of [`IOCTL_APPLY`] and [`IOCTL_REVOKE`].
    pub struct Apply, 48 {
        /// In: address of the payload.
        0 data: u64,
        /// In: its size in bytes.
        8 size: u64,
        /// In: `APPLY_…`.
        16 flags: u32,
        /// Out: [`super::error::Reason`], 0 on success.
        20 reason: u32,
        /// Out: what the reason is about: an offset in the payload, or an index.
        24 place: u64,
        /// In: address of a buffer for one message in UTF-8, without NUL; 0 for none.
        32 text: u64,
        /// In: size of that buffer in bytes.
        40 text_size: u32,
        /// Out: bytes written to it.
        44 text_len: u32,
    }
}

record! {
    /// Argument of [`IOCTL_UNLOAD`]; fields as in [`Apply`].
    pub struct Unload, 32 {
        /// In: zero.
        0 flags: u32,
        /// Out.
        4 reason: u32,
        /// Out.
        8 place: u64,
        /// In.
        16 text: u64,
        /// In.
        24 text_size: u32,
        /// Out.
        28 text_len: u32,
    }
}

/// What has happened; a line `event: TIME WHAT BEFORE LEVEL REASON`, and behind it the name of a module, in the device's
/// text tells of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum What {
    /// A payload was applied.
    Apply = 1,
    /// The live level was taken back.
    Unload = 2,
    /// The level before the live one came back.
    Rollback = 3,
    /// A module that the live level patches came.
    ModuleCame = 4,
    /// The level that was kept for a rollback was freed, because somebody said so or memory was short.
    Forget = 5,
    /// A module that the live level has patched went.
    ModuleWent = 6,
    /// The last task left the code that a switch had put out of use.
    Complete = 7,
    /// Functions are redirected in another way.
    Redirect = 8,
    /// Certificates were revoked.
    Revoke = 9,
}

impl What {
    /// All of them, ascending.
    pub const ALL: [Self; 9] = [
        Self::Apply,
        Self::Unload,
        Self::Rollback,
        Self::ModuleCame,
        Self::Forget,
        Self::ModuleWent,
        Self::Complete,
        Self::Redirect,
        Self::Revoke,
    ];

    /// One word, for programs and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Unload => "unload",
            Self::Rollback => "rollback",
            Self::ModuleCame => "module-came",
            Self::Forget => "forget",
            Self::ModuleWent => "module-went",
            Self::Complete => "complete",
            Self::Redirect => "redirect",
            Self::Revoke => "revoke",
        }
    }
}

/// Argument of [`IOCTL_INFO`], all out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The numbers.
    pub head: InfoHead,
    /// Build-id of the running vmlinux.
    pub build_id: [u8; 20],
    /// Kernel release that the live payload was built for, NUL-padded.
    pub release: [u8; 64],
    /// Description of the live payload, NUL-padded.
    pub description: [u8; 256],
}

record! {
    /// The numbers of an [`Info`].
    pub struct InfoHead, 72 {
        /// [`ABI`].
        0 abi: u32,
        /// [`STATE_NONE`] or [`STATE_APPLIED`].
        4 state: u32,
        /// Live level, 0 for none.
        8 level: u32,
        /// Functions redirected.
        12 nr_funcs: u32,
        /// Fixes in the live level.
        16 nr_fixes: u32,
        /// Level that a rollback goes back to, 0 for none.
        20 previous: u32,
        /// Build time of the live payload in seconds since 1970.
        24 build_time: u64,
        /// When it was applied, in seconds since 1970.
        32 applied_time: u64,
        /// Length of the last stop in nanoseconds.
        40 stop_last: u64,
        /// Longest stop since the module was loaded, in nanoseconds.
        48 stop_max: u64,
        /// Memory that the live level holds, in bytes.
        56 memory: u64,
        /// Applies and unloads that failed since the module was loaded.
        64 failures: u64,
    }
}

impl Info {
    /// Size of the record in bytes.
    pub const SIZE: usize = InfoHead::SIZE + 24 + 64 + 256;

    /// Encodes the record.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut b = [0; Self::SIZE];
        b[0..72].copy_from_slice(&self.head.encode());
        b[72..92].copy_from_slice(&self.build_id);
        b[96..160].copy_from_slice(&self.release);
        b[160..416].copy_from_slice(&self.description);
        b
    }

    /// Decodes the record.
    pub fn decode(b: &[u8; Self::SIZE]) -> Self {
        let mut head = [0; InfoHead::SIZE];
        head.copy_from_slice(&b[0..72]);
        let mut info = Self {
            head: InfoHead::decode(&head),
            build_id: [0; 20],
            release: [0; 64],
            description: [0; 256],
        };
        info.build_id.copy_from_slice(&b[72..92]);
        info.release.copy_from_slice(&b[96..160]);
        info.description.copy_from_slice(&b[160..416]);
        info
    }
}
