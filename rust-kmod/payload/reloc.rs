// SPDX-License-Identifier: GPL-2.0

//! Relocation arithmetic for x86-64, as arch/x86/kernel/module.c does it, with every overflow refused.

use super::{
    elf::Relocation,
    error::{
        Error,
        Place,
        Reason, //
    }, //
};

/// The relocation types that a payload may use (x86-64 psABI, table 4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// `R_X86_64_64`: symbol + addend, 8 bytes.
    Abs64 = 1,
    /// `R_X86_64_PC32`: symbol + addend - place, 4 bytes, sign-extended.
    Pc32 = 2,
    /// `R_X86_64_PLT32`: as [`Kind::Pc32`]; the kernel has no PLT.
    Plt32 = 4,
    /// `R_X86_64_32`: symbol + addend, 4 bytes, zero-extended.
    Abs32 = 10,
    /// `R_X86_64_32S`: symbol + addend, 4 bytes, sign-extended.
    Abs32S = 11,
    /// `R_X86_64_PC64`: symbol + addend - place, 8 bytes.
    Pc64 = 24,
}

impl Kind {
    /// Bytes that a relocation of this kind fills in: 4 or 8.
    #[inline]
    pub const fn width(self) -> u8 {
        match self {
            Self::Abs64 | Self::Pc64 => 8,
            Self::Pc32 | Self::Plt32 | Self::Abs32 | Self::Abs32S => 4,
        }
    }

    /// The ELF relocation type.
    pub const fn number(self) -> u32 {
        // CAST: the enum is `repr(u32)`.
        self as u32
    }

    /// The ELF name, `R_X86_64_…`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Abs64 => "R_X86_64_64",
            Self::Pc32 => "R_X86_64_PC32",
            Self::Plt32 => "R_X86_64_PLT32",
            Self::Abs32 => "R_X86_64_32",
            Self::Abs32S => "R_X86_64_32S",
            Self::Pc64 => "R_X86_64_PC64",
        }
    }
}

impl TryFrom<u32> for Kind {
    type Error = Reason;

    /// Fails with [`Reason::RelocationType`].
    #[inline]
    fn try_from(number: u32) -> Result<Self, Reason> {
        Ok(match number {
            1 => Self::Abs64,
            2 => Self::Pc32,
            4 => Self::Plt32,
            10 => Self::Abs32,
            11 => Self::Abs32S,
            24 => Self::Pc64,
            _ => return Err(Reason::RelocationType),
        })
    }
}

/// Applies one relocation to `target`, the bytes at address `place`, exactly [`Kind::width`] of them.
///
/// # Errors
///
/// [`Reason::RelocationOverflow`] if the value does not fit, [`Reason::RelocationNotZero`] if `target` is
/// filled in already, [`Reason::RelocationRange`] if it has another size. `target` is then unchanged.
#[inline]
pub fn apply(
    kind: Kind,
    target: &mut [u8],
    place: u64,
    symbol: u64,
    addend: i64,
) -> Result<(), Reason> {
    // Addresses wrap as the kernel's do: a symbol may well lie below its place.
    let absolute = symbol.wrapping_add_signed(addend);
    let relative = absolute.wrapping_sub(place);
    match kind {
        Kind::Abs64 => fill(target, absolute.to_le_bytes()),
        Kind::Pc64 => fill(target, relative.to_le_bytes()),
        Kind::Abs32 => match u32::try_from(absolute) {
            Ok(value) => fill(target, value.to_le_bytes()),
            Err(_) => Err(Reason::RelocationOverflow),
        },
        Kind::Abs32S => fill(target, signed(absolute)?.to_le_bytes()),
        Kind::Pc32 | Kind::Plt32 => fill(target, signed(relative)?.to_le_bytes()),
    }
}

/// The 32-bit value that sign-extends to `value`.
#[inline]
fn signed(value: u64) -> Result<i32, Reason> {
    // CAST: the same 64 bits, read as two's complement.
    i32::try_from(value as i64).map_err(|_| Reason::RelocationOverflow)
}

/// Writes a value over zeroes of the same size.
#[inline]
fn fill<const N: usize>(target: &mut [u8], value: [u8; N]) -> Result<(), Reason> {
    let target: &mut [u8; N] = target.try_into().map_err(|_| Reason::RelocationRange)?;
    if *target != [0; N] {
        return Err(Reason::RelocationNotZero);
    }
    *target = value;
    Ok(())
}

/// Applies all relocations of one section and returns how many there were.
///
/// `content` is the section that they are against, which will run at address `base`, `values` the
/// addresses of all symbols by index, and `section` the index of the section that holds the
/// relocations, for errors.
///
/// # Errors
///
/// Those of [`apply`], and [`Reason::RelocationSymbol`] if `values` is too short, with the relocation.
pub fn apply_all(
    relocations: impl Iterator<Item = Relocation>,
    section: u32,
    content: &mut [u8],
    base: u64,
    values: &[u64],
) -> Result<u32, Error> {
    let mut count: u32 = 0;
    for relocation in relocations {
        apply_one(&relocation, content, base, values).map_err(|reason| {
            let index = count;
            Error::new(reason, Place::Relocation { section, index })
        })?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

#[inline]
fn apply_one(
    relocation: &Relocation,
    content: &mut [u8],
    base: u64,
    values: &[u64],
) -> Result<(), Reason> {
    let &Relocation {
        offset,
        kind,
        symbol,
        addend,
    } = relocation;
    let value = usize::try_from(symbol)
        .ok()
        .and_then(|index| values.get(index));
    let value = *value.ok_or(Reason::RelocationSymbol)?;
    let target = usize::try_from(offset)
        .ok()
        .and_then(|start| content.get_mut(start..))
        .and_then(|rest| rest.get_mut(..usize::from(kind.width())))
        .ok_or(Reason::RelocationRange)?;
    apply(kind, target, base.wrapping_add(offset), value, addend)
}
