// SPDX-License-Identifier: GPL-2.0

//! Binary layout of the sections that kcare adds to an ELF object.
//!
//! All integers are little-endian. Every table is an array of fixed-size entries in a section of its
//! own; [`Manifest`] holds their lengths. A string is an offset into [`SEC_STRINGS`], which starts
//! with an empty string and whose strings end with NUL. Reserved fields are zero, and a reader
//! refuses anything else.

/// The fixed-layout [`Manifest`].
pub const SEC_MANIFEST: &str = ".kcare.manifest";
/// Array of [`Object`]; entry 0 is vmlinux, then modules, strictly ascending by name.
pub const SEC_OBJECTS: &str = ".kcare.objects";
/// Array of [`Func`], strictly ascending by (object, region, offset), not overlapping.
pub const SEC_FUNCS: &str = ".kcare.funcs";
/// Array of [`Extern`], strictly ascending by symbol index; one for each undefined symbol.
pub const SEC_EXTERNS: &str = ".kcare.externs";
/// Array of [`Fix`].
pub const SEC_FIXES: &str = ".kcare.fixes";
/// Array of [`Callback`], strictly ascending by kind.
pub const SEC_CALLBACKS: &str = ".kcare.callbacks";
/// Array of [`State`], strictly ascending by id; only the outer payload has any.
pub const SEC_STATES: &str = ".kcare.states";
/// Pre-images: for each [`Func`], in order, `size` code bytes and then `size` mask bytes.
pub const SEC_PREIMAGES: &str = ".kcare.preimages";
/// NUL-terminated UTF-8 strings.
pub const SEC_STRINGS: &str = ".kcare.strings";
/// Start of the name of a section that holds the part of a payload for one module, a whole payload in
/// itself ([`super::bundle`]); the module's name follows.
pub const SEC_PART: &str = ".kcare.part.";
/// Executable section that the kernel fills with one trampoline per [`Func`], in order. In the file it
/// is filled with [`TRAMPOLINE_FILL`]. The builder gives it symbols and an ORC entry (function entry).
pub const SEC_TRAMPOLINES: &str = ".text.kcare_trampolines";

/// First eight bytes of the manifest.
pub const MAGIC: [u8; 8] = *b"KCAREPL\0";
/// Version of this layout.
pub const VERSION: u32 = 1;
/// Flag of [`Manifest`]: calls of old and of new bodies must not run side by side. The level goes live, and is taken back,
/// at a moment when no task is inside, or not at all.
pub const FLAG_ALL_AT_ONCE: u32 = 1 << 0;
/// Flag of [`Manifest`]: the address of a function of the payload goes somewhere where no scan of stacks finds it, such as
/// a timer or a work item. Its text stays in memory after the level has gone.
pub const FLAG_TEXT_ESCAPES: u32 = 1 << 1;
/// All flags of [`Manifest`].
pub const MANIFEST_FLAGS: u32 = FLAG_ALL_AT_ONCE | FLAG_TEXT_ESCAPES;
/// Bytes that one trampoline takes, and the alignment of [`SEC_TRAMPOLINES`].
pub const TRAMPOLINE_SIZE: usize = 32;
/// `int3`, the filler of unused text.
pub const TRAMPOLINE_FILL: u8 = 0xcc;

/// Largest payload, signature included, in bytes.
pub const MAX_PAYLOAD: usize = 64 << 20;
/// Largest number of ELF sections.
pub const MAX_SECTIONS: usize = 4096;
/// Largest number of symbols.
pub const MAX_SYMBOLS: usize = 1 << 16;
/// Largest sum of the lengths of all symbols' names, in bytes: the kernel keeps a copy of each.
pub const MAX_SYMBOL_NAMES: usize = 8 << 20;
/// Largest memory that is not in the file (`SHT_NOBITS`), in bytes.
pub const MAX_ZEROES: u64 = 16 << 20;
/// Largest number of redirected functions.
pub const MAX_FUNCS: usize = 8192;
/// Largest number of functions with a cold part, each of which is compared with all others.
pub const MAX_COLD_PARTS: usize = 2048;
/// Largest number of objects.
pub const MAX_OBJECTS: usize = 256;
/// Largest number of states.
pub const MAX_STATES: usize = 1024;
/// Largest number of fixes.
pub const MAX_FIXES: usize = 8192;
/// Largest size of one redirected function, in bytes.
pub const MAX_FUNC_SIZE: u32 = 1 << 20;
/// Largest alignment of a section, in bytes.
pub const MAX_ALIGN: u64 = 4096;
/// Largest memory size of one region (text, read-only, …), in bytes.
pub const MAX_REGION: u64 = 24 << 20;
/// Longest string, in bytes, NUL not counted.
pub const MAX_STRING: usize = 1024;
/// Longest kernel release, in bytes (`__NEW_UTS_LEN` in include/uapi/linux/utsname.h).
pub const MAX_RELEASE: usize = 64;
/// Longest description, in bytes, so that it fits into [`super::uapi::Info`].
pub const MAX_DESCRIPTION: usize = 256;

/// [`Extern::object`] in a module's part: the symbol is one of the outer payload's own.
pub const OBJECT_OUTER: u32 = u32::MAX;
/// [`Extern::region`]: the offset is one in the module's per-CPU area.
pub const REGION_PERCPU: u32 = 8;

/// Bytes of a pre-image mask: this byte must match.
pub const MASK_MATCH: u8 = 0xff;
/// Bytes of a pre-image mask: the kernel itself may rewrite this byte.
pub const MASK_ANY: u8 = 0x00;

/// Declares a fixed-size little-endian record with its decoder and encoder.
macro_rules! record {
    (@get u8, $b:expr, $at:expr) => {
        $b[$at]
    };
    (@get u16, $b:expr, $at:expr) => {
        u16::from_le_bytes([$b[$at], $b[$at + 1]])
    };
    (@get u32, $b:expr, $at:expr) => {
        u32::from_le_bytes([$b[$at], $b[$at + 1], $b[$at + 2], $b[$at + 3]])
    };
    (@get u64, $b:expr, $at:expr) => {
        u64::from_le_bytes([
            $b[$at], $b[$at + 1], $b[$at + 2], $b[$at + 3],
            $b[$at + 4], $b[$at + 5], $b[$at + 6], $b[$at + 7],
        ])
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident, $size:literal {
            $( $(#[$fmeta:meta])* $at:literal $field:ident : $ty:ident, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
        }

        impl $name {
            /// Size of the record in bytes.
            pub const SIZE: usize = $size;

            /// Decodes a record.
            pub fn decode(bytes: &[u8; $size]) -> Self {
                Self { $( $field: record!(@get $ty, bytes, $at), )* }
            }

            /// Encodes a record; bytes that belong to no field are zero.
            pub fn encode(&self) -> [u8; $size] {
                let mut bytes = [0; $size];
                $( bytes[$at..$at + core::mem::size_of::<$ty>()]
                    .copy_from_slice(&self.$field.to_le_bytes()); )*
                bytes
            }
        }
    };
}
pub(crate) use record;

record! {
    /// The manifest without its magic number, which [`Manifest::MAGIC_SIZE`] bytes in front hold.
    pub struct Manifest, 88 {
        /// Layout version, [`VERSION`].
        0 version: u32,
        /// Size of the whole section in bytes, magic included.
        4 size: u32,
        /// Patch level, 1 or more; a higher level replaces a lower one.
        8 level: u32,
        /// `FLAG_…`; [`FLAG_ALL_AT_ONCE`] is the same in a payload and in its parts.
        12 flags: u32,
        /// Build time in seconds since 1970.
        16 build_time: u64,
        /// String: kernel release (`uname -r`).
        24 release: u32,
        /// String: one line of description, `9;7.2.12-1` in the trade's form.
        28 description: u32,
        /// Entries of [`SEC_OBJECTS`].
        32 nr_objects: u32,
        /// Entries of [`SEC_FUNCS`].
        36 nr_funcs: u32,
        /// Entries of [`SEC_EXTERNS`].
        40 nr_externs: u32,
        /// Entries of [`SEC_FIXES`].
        44 nr_fixes: u32,
        /// Bytes of [`SEC_PREIMAGES`].
        48 preimage_bytes: u32,
        /// Bytes of [`SEC_STRINGS`].
        52 string_bytes: u32,
        /// Entries of [`SEC_CALLBACKS`].
        56 nr_callbacks: u32,
        /// Entries of [`SEC_STATES`].
        60 nr_states: u32,
        /// Sections that start with [`SEC_PART`].
        64 nr_parts: u32,
        /// Index of the object that this payload, or this part of one, patches; 0 in the outer payload.
        68 target: u32,
        /// Seconds since 1970 after which it is not applied any more, 0 for never. A live level stays.
        72 not_after: u64,
        /// Once it has been live, no level below this one goes live until the next boot, whoever asks; at most `level`,
        /// 0 for none.
        80 floor: u32,
        /// Zero.
        84 reserved: u32,
    }
}

impl Manifest {
    /// Bytes of [`MAGIC`].
    pub const MAGIC_SIZE: usize = 8;
    /// Bytes of [`SEC_MANIFEST`].
    pub const SECTION_SIZE: usize = Self::MAGIC_SIZE + Self::SIZE;

    /// Whether [`FLAG_ALL_AT_ONCE`] is set.
    pub fn all_at_once(&self) -> bool {
        self.flags & FLAG_ALL_AT_ONCE != 0
    }

    /// Whether [`FLAG_TEXT_ESCAPES`] is set.
    pub fn text_escapes(&self) -> bool {
        self.flags & FLAG_TEXT_ESCAPES != 0
    }
}

/// Longest build-id, in bytes (`BUILD_ID_SIZE_MAX` in include/linux/buildid.h is 20).
pub const BUILD_ID_MAX: usize = 20;

/// One object that the payload patches or refers to: vmlinux or a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// String: `vmlinux`, or the module's name with underscores.
    pub name: u32,
    /// Bytes of `build_id` that count, 4 to [`BUILD_ID_MAX`].
    pub build_id_len: u32,
    /// GNU build-id; zero behind `build_id_len`.
    pub build_id: [u8; BUILD_ID_MAX],
    /// Where a loaded module has its build-id: offset of its first byte in the module's read-only memory
    /// (`MOD_RODATA`, where `.note.gnu.build-id` goes); 0 for vmlinux.
    pub note: u32,
}

impl Object {
    /// Size of the record in bytes.
    pub const SIZE: usize = 32;

    /// The bytes of the build-id that count.
    pub fn id(&self) -> &[u8] {
        let len = usize::try_from(self.build_id_len).unwrap_or(0);
        self.build_id.get(..len).unwrap_or(&[])
    }

    /// Decodes a record.
    pub fn decode(b: &[u8; Self::SIZE]) -> Self {
        let mut build_id = [0; BUILD_ID_MAX];
        build_id.copy_from_slice(&b[8..28]);
        Self {
            name: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            build_id_len: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            build_id,
            note: u32::from_le_bytes([b[28], b[29], b[30], b[31]]),
        }
    }

    /// Encodes a record.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut b = [0; Self::SIZE];
        b[0..4].copy_from_slice(&self.name.to_le_bytes());
        b[4..8].copy_from_slice(&self.build_id_len.to_le_bytes());
        b[8..28].copy_from_slice(&self.build_id);
        b[28..32].copy_from_slice(&self.note.to_le_bytes());
        b
    }
}

record! {
    /// One redirected function.
    pub struct Func, 56 {
        /// Index into [`SEC_OBJECTS`].
        0 object: u32,
        /// String: the function's name in its object.
        4 name: u32,
        /// Offset of the function from its object's base (`_text` for vmlinux, the start of memory
        /// `region` for a module).
        8 offset: u64,
        /// Size of the original function in bytes.
        16 size: u32,
        /// Offset of the fentry site from the function's start: 4 behind an ENDBR, else 0.
        20 fentry: u32,
        /// Symbol index of the new function, which is defined in an executable section.
        24 symbol: u32,
        /// Offset of the pre-image in [`SEC_PREIMAGES`].
        28 preimage: u32,
        /// `enum mod_mem_type` of a module's memory (include/linux/module.h); 0 for vmlinux.
        32 region: u32,
        /// Flags; none is defined yet.
        36 flags: u32,
        /// Offset of the function's cold part (`NAME.cold`), or of a function without fentry that it jumps
        /// to, as `offset`; 0 if it has none. It is not redirected, but a task inside it is inside the function.
        40 cold_offset: u64,
        /// Size of the cold part in bytes, 0 if there is none.
        48 cold_size: u32,
        /// Zero.
        52 reserved: u32,
    }
}

record! {
    /// One pre-linked external symbol.
    pub struct Extern, 24 {
        /// Symbol index; the symbol is undefined (`SHN_UNDEF`) and has a name for diagnostics.
        0 symbol: u32,
        /// Index into [`SEC_OBJECTS`], or [`OBJECT_OUTER`].
        4 object: u32,
        /// Offset from the object's base, as in [`Func::offset`].
        8 offset: u64,
        /// As in [`Func::region`], or [`REGION_PERCPU`].
        16 region: u32,
        /// Zero.
        20 reserved: u32,
    }
}

record! {
    /// One fix that the payload carries.
    pub struct Fix, 16 {
        /// String: `CVE-2026-12345`, or empty.
        0 id: u32,
        /// String: one line.
        4 title: u32,
        /// Zero.
        8 reserved: u64,
    }
}

/// [`Callback::kind`]: before the switch; an error of it ends the apply.
pub const CALLBACK_PRE_PATCH: u32 = 0;
/// [`Callback::kind`]: after the switch.
pub const CALLBACK_POST_PATCH: u32 = 1;
/// [`Callback::kind`]: before the switch back.
pub const CALLBACK_PRE_UNPATCH: u32 = 2;
/// [`Callback::kind`]: after the switch back.
pub const CALLBACK_POST_UNPATCH: u32 = 3;

record! {
    /// One function that the kernel calls around a switch (`struct klp_callbacks` in
    /// include/linux/livepatch_external.h).
    pub struct Callback, 16 {
        /// `CALLBACK_…`.
        0 kind: u32,
        /// Symbol index of the function, which is defined in an executable section.
        4 symbol: u32,
        /// Zero.
        8 reserved: u64,
    }
}

record! {
    /// One state of the system that a level changes beyond code (`struct klp_state` in
    /// include/linux/livepatch.h).
    pub struct State, 16 {
        /// Number of the state, 1 or more.
        0 id: u64,
        /// Version of the change; a level takes over from one with the same or a lower version.
        8 version: u32,
        /// Zero.
        12 reserved: u32,
    }
}
