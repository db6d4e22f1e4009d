// SPDX-License-Identifier: GPL-2.0

//! Why something was refused, and where: the closed list of reasons of the whole system.
//!
//! The numbers are part of the interface to user space ([`super::uapi::Apply::reason`]) and never
//! change their meaning; new ones take a free number in their group.

use core::fmt;

/// Linux error numbers (include/uapi/asm-generic/errno-base.h and errno.h), positive.
pub mod errno {
    /// Operation not permitted.
    pub const EPERM: i32 = 1;
    /// No such thing.
    pub const ENOENT: i32 = 2;
    /// Interrupted by a signal.
    pub const EINTR: i32 = 4;
    /// Exec format error.
    pub const ENOEXEC: i32 = 8;
    /// Out of memory.
    pub const ENOMEM: i32 = 12;
    /// Bad address of user memory.
    pub const EFAULT: i32 = 14;
    /// Busy.
    pub const EBUSY: i32 = 16;
    /// Exists already.
    pub const EEXIST: i32 = 17;
    /// Invalid argument.
    pub const EINVAL: i32 = 22;
    /// Too large.
    pub const EFBIG: i32 = 27;
    /// Not a valid message.
    pub const EBADMSG: i32 = 74;
    /// Not supported here.
    pub const EOPNOTSUPP: i32 = 95;
    /// Timed out.
    pub const ETIMEDOUT: i32 = 110;
    /// Out of date.
    pub const ESTALE: i32 = 116;
    /// Key has been revoked.
    pub const EKEYREVOKED: i32 = 128;
    /// Key was rejected.
    pub const EKEYREJECTED: i32 = 129;
}

macro_rules! reasons {
    ($( $number:literal $name:ident $slug:literal $errno:ident $explain:literal, )*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $( #[doc = $explain] $name = $number, )*
        }

        impl Reason {
            /// Every reason, ascending by number.
            pub const ALL: &'static [Reason] = &[ $( Reason::$name, )* ];

            /// The reason's name in kebab case: stable, and what programs compare.
            pub const fn name(self) -> &'static str {
                match self { $( Reason::$name => $slug, )* }
            }

            /// One sentence for people.
            pub const fn explain(self) -> &'static str {
                match self { $( Reason::$name => $explain, )* }
            }

            /// The Linux error number that a system call returns for it, positive.
            pub const fn errno(self) -> i32 {
                match self { $( Reason::$name => errno::$errno, )* }
            }

            /// The reason's number, 1 or more.
            pub const fn number(self) -> u32 {
                // CAST: the enum is `repr(u32)`.
                self as u32
            }

            /// Finds a reason by its [`Reason::name`].
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|r| r.name() == name)
            }
        }

        impl TryFrom<u32> for Reason {
            type Error = u32;

            /// Fails with the number itself when no reason has it.
            fn try_from(number: u32) -> Result<Self, u32> {
                match number {
                    $( $number => Ok(Reason::$name), )*
                    other => Err(other),
                }
            }
        }
    };
}

reasons! {
    // The file and its signature.
    1 TooSmall "too-small" ENOEXEC "the payload is shorter than an ELF header",
    2 TooLarge "too-large" EFBIG "the payload is larger than 64 MiB",
    3 SignatureMissing "signature-missing" EKEYREJECTED "the payload carries no signature",
    4 SignatureMalformed "signature-malformed" EBADMSG "the signature trailer is malformed",
    5 KeyRejected "key-rejected" EKEYREJECTED "the payload is signed with a key that is not trusted",
    6 PayloadCorrupted "payload-corrupted" EBADMSG "the payload does not match its signature",
    7 DigestWeak "digest-weak" EKEYREJECTED "the payload is signed by way of a digest other than SHA-256, SHA-384, SHA-512 and SHA-3",
    8 AlgorithmUnknown "algorithm-unknown" EKEYREJECTED "the payload is signed with an algorithm other than RSA, ECDSA and ML-DSA",
    9 KeyRevoked "key-revoked" EKEYREVOKED "it is signed with a key that has been revoked",

    // The ELF header and the section header table.
    16 ElfMagic "elf-magic" ENOEXEC "the payload is not an ELF file",
    17 ElfClass "elf-class" ENOEXEC "the ELF class is not 64 bit",
    18 ElfEndian "elf-endian" ENOEXEC "the ELF byte order is not little-endian",
    19 ElfVersion "elf-version" ENOEXEC "the ELF version is not 1",
    20 ElfAbi "elf-abi" ENOEXEC "the ELF OS ABI or the padding behind it is not zero",
    21 ElfType "elf-type" ENOEXEC "the ELF type is not relocatable",
    22 ElfMachine "elf-machine" ENOEXEC "the ELF machine is not x86-64",
    23 ElfEntry "elf-entry" ENOEXEC "the ELF header names an entry point",
    24 ElfFlags "elf-flags" ENOEXEC "the ELF header's processor flags are not zero",
    25 ElfHeaderSize "elf-header-size" ENOEXEC "the ELF header's own size is wrong",
    26 ElfSegments "elf-segments" ENOEXEC "the ELF header names program headers",
    27 SectionHeaderSize "section-header-size" ENOEXEC "the size of a section header is wrong",
    28 SectionCount "section-count" ENOEXEC "the number of sections is zero or above 4096",
    29 SectionTable "section-table" ENOEXEC "the section header table does not end exactly where the payload ends",
    30 NameTable "name-table" ENOEXEC "the section name table's index is no string table",

    // Sections.
    48 SectionNull "section-null" ENOEXEC "section 0 is not empty, or another section has the null type",
    49 SectionType "section-type" ENOEXEC "a section has a type that payloads do not use",
    50 SectionFlags "section-flags" ENOEXEC "a section has flags that its type does not allow",
    51 SectionWriteExec "section-write-exec" ENOEXEC "a section is both writable and executable",
    52 SectionAddress "section-address" ENOEXEC "a section has an address",
    53 SectionAlign "section-align" ENOEXEC "a section's alignment is no power of two up to 4096",
    54 SectionMisaligned "section-misaligned" ENOEXEC "a section's file offset is not a multiple of its alignment",
    55 SectionRange "section-range" ENOEXEC "a section does not lie between the ELF header and the section header table",
    56 SectionOverlap "section-overlap" ENOEXEC "a section overlaps the section in front of it, or the two are out of order in the file",
    57 SectionSize "section-size" EFBIG "a section takes more than 24 MiB of memory",
    58 SectionEntrySize "section-entry-size" ENOEXEC "a table section's size is no multiple of its entry's size, or that size is wrong",
    59 SectionLink "section-link" ENOEXEC "a section's link does not lead to the section that its type needs",
    60 SectionInfo "section-info" ENOEXEC "a section's info field does not fit its type",
    61 SectionName "section-name" ENOEXEC "a section's name is no valid string",
    62 SectionUnsupported "section-unsupported" EOPNOTSUPP "a section's name is not on the list of those that payloads may have, such as per-CPU data, init code or a table that is not served",
    63 SectionUnknown "section-unknown" ENOEXEC "a section that takes no memory is none of the payload's tables",
    64 StringTable "string-table" ENOEXEC "an ELF string table is not UTF-8, or does not start and end with NUL",
    65 SymbolTableMissing "symbol-table-missing" ENOEXEC "there is no symbol table",
    66 SymbolTableDuplicate "symbol-table-duplicate" ENOEXEC "there is more than one symbol table",
    67 SectionTitle "section-title" ENOEXEC "the symbol table, a string table or a section of relocations has a name that is not the one for it",
    68 SectionClass "section-class" ENOEXEC "a section with code or data has not the type and the flags that go with its name",
    69 SpecialForm "special-form" ENOEXEC "a table that the kernel takes by its name has no content, or is not in the memory where it is expected",
    70 SpecialAlign "special-align" ENOEXEC "a table that the kernel takes by its name is not aligned as its entries are",
    71 SpecialSize "special-size" ENOEXEC "a table that the kernel takes by its name has no whole number of entries",
    72 SpecialDuplicate "special-duplicate" ENOEXEC "a table that the kernel takes by its name is there twice",
    73 UnwindTables "unwind-tables" ENOEXEC "the number of unwind entries is not that of their places",
    74 ZeroesTooLarge "zeroes-too-large" EFBIG "zeroes that are not in the file take more than 16 MiB of memory",

    // Symbols.
    80 SymbolCount "symbol-count" EFBIG "there are more than 65536 symbols",
    81 SymbolNull "symbol-null" ENOEXEC "symbol 0 is not empty",
    82 SymbolName "symbol-name" ENOEXEC "a symbol's name is no valid string",
    83 SymbolBinding "symbol-binding" ENOEXEC "a symbol is neither local nor global nor weak",
    84 SymbolType "symbol-type" ENOEXEC "a symbol has a type that payloads do not use",
    85 SymbolOther "symbol-other" ENOEXEC "a symbol has a visibility other than the default",
    86 SymbolSection "symbol-section" ENOEXEC "a symbol is in no section that takes memory (common and absolute symbols included)",
    87 SymbolRange "symbol-range" ENOEXEC "a symbol lies outside its section",
    88 SymbolOrder "symbol-order" ENOEXEC "a local symbol stands behind the local part of the symbol table, or another one in it",
    89 SymbolUndefined "symbol-undefined" ENOEXEC "an undefined symbol has a value, or is local",
    90 SymbolNames "symbol-names" EFBIG "the names of all symbols together are longer than 8 MiB",

    // Relocations.
    112 RelocationSection "relocation-section" ENOEXEC "relocations are against a section that has no content in memory",
    113 RelocationDuplicate "relocation-duplicate" ENOEXEC "two sections of relocations are against the same section, or stand out of order",
    114 RelocationType "relocation-type" ENOEXEC "a relocation has an unknown type",
    115 RelocationRange "relocation-range" ENOEXEC "a relocation lies outside its section",
    116 RelocationOrder "relocation-order" ENOEXEC "a relocation overlaps the one in front of it, or the two are out of order",
    117 RelocationSymbol "relocation-symbol" ENOEXEC "a relocation refers to a symbol that does not exist or has no address",
    118 RelocationNotZero "relocation-not-zero" ENOEXEC "the bytes that a relocation fills in are not zero",
    119 RelocationTrampoline "relocation-trampoline" ENOEXEC "relocations are against the trampolines, which the kernel fills",
    120 RelocationOverflow "relocation-overflow" ENOEXEC "a relocation's value does not fit its field",

    // The manifest and the tables.
    144 TableMissing "table-missing" ENOEXEC "one of the payload's tables is missing",
    145 TableDuplicate "table-duplicate" ENOEXEC "one of the payload's tables is there twice",
    146 TableUnknown "table-unknown" ENOEXEC "a table's name is unknown to this version",
    147 TableForm "table-form" ENOEXEC "a table's section takes memory, or has no content",
    148 TableSize "table-size" ENOEXEC "a table's size does not fit the number of its entries",
    149 TableCount "table-count" EFBIG "a table has more entries than are allowed",
    150 Reserved "reserved" EINVAL "a reserved field is not zero",
    151 ManifestMagic "manifest-magic" ENOEXEC "the manifest's magic number is wrong",
    152 ManifestVersion "manifest-version" EOPNOTSUPP "the payload has a format version that is unknown here",
    153 ManifestSize "manifest-size" ENOEXEC "the manifest's size is wrong",
    154 ManifestLevel "manifest-level" EINVAL "the patch level is zero",
    155 ManifestFlags "manifest-flags" EOPNOTSUPP "the manifest has unknown flags",
    156 NoFunctions "no-functions" EINVAL "the payload redirects no function, and has no parts",
    157 ManifestTarget "manifest-target" EINVAL "the object that is patched does not exist, or is not the one that it must be",
    158 ManifestFloor "manifest-floor" EINVAL "the lowest level that may follow the payload is above its own",

    // Strings.
    160 StringsForm "strings-form" ENOEXEC "the string table is not UTF-8, or does not start and end with NUL",
    161 StringsControl "strings-control" ENOEXEC "the string table holds a control character, or one that only formats text",
    162 StringRange "string-range" ENOEXEC "a string starts outside the string table, or within a character",
    163 StringTooLong "string-too-long" EFBIG "a string is longer than 1024 bytes",
    164 StringEmpty "string-empty" EINVAL "a string that must say something is empty",

    // Objects.
    168 ObjectFirst "object-first" EINVAL "object 0 is not vmlinux",
    169 ObjectOrder "object-order" EINVAL "modules are not in strictly ascending order of their names",
    170 ObjectName "object-name" EINVAL "an object's name cannot be the name of a module",
    171 ObjectBuildId "object-build-id" EINVAL "a build-id's length is not between 4 and 20 bytes, or bytes behind it are not zero",

    172 ObjectNote "object-note" EINVAL "vmlinux has a place for its build-id, or a module has none",
    173 ObjectUnused "object-unused" EINVAL "the payload names a module outside of the module's part",

    // Functions and their pre-images.
    176 FuncObject "func-object" EINVAL "a function is not in the object that is patched",
    177 FuncRegion "func-region" EINVAL "a function is not in its object's text",
    178 FuncFlags "func-flags" EOPNOTSUPP "a function has unknown flags",
    179 FuncSize "func-size" EINVAL "a function's size is zero or above 1 MiB",
    180 FuncRange "func-range" EINVAL "a function's end is beyond the address space",
    181 FuncOrder "func-order" EINVAL "functions are not in strictly ascending order",
    182 FuncOverlap "func-overlap" EINVAL "a function overlaps the one in front of it",
    183 FuncFentry "func-fentry" EINVAL "a function's fentry site is neither at 0 nor at 4, or does not fit",
    184 FuncSymbol "func-symbol" EINVAL "a function's replacement is no function symbol in executable memory",
    185 FuncPreimage "func-preimage" EINVAL "a function's pre-image does not follow the one in front of it",
    186 PreimageMask "preimage-mask" EINVAL "a pre-image's mask holds a byte other than 0x00 and 0xff",
    187 PreimageFentry "preimage-fentry" EINVAL "a pre-image's mask does not leave the fentry site free",
    188 PreimageRest "preimage-rest" EINVAL "bytes behind the last pre-image belong to no function",
    189 FuncCold "func-cold" EINVAL "a function's cold part has no sensible place or size, or overlaps another function",
    190 FuncColdCount "func-cold-count" EFBIG "more than 2048 functions have a cold part",

    // External symbols.
    192 ExternOrder "extern-order" EINVAL "external symbols are not in strictly ascending order",
    193 ExternSymbol "extern-symbol" EINVAL "an external symbol's index is not that of an undefined symbol",
    194 ExternName "extern-name" EINVAL "an external symbol has no name",
    195 ExternObject "extern-object" EINVAL "an external symbol is in an object that does not exist",
    196 ExternRegion "extern-region" EINVAL "an external symbol is in memory that its object does not keep",
    197 ExternMissing "extern-missing" EINVAL "an undefined symbol has no entry in the table of external symbols",

    // The trampolines.
    200 TrampolinesMissing "trampolines-missing" EINVAL "the section for the trampolines is missing",
    201 TrampolinesDuplicate "trampolines-duplicate" EINVAL "the section for the trampolines is there twice",
    202 TrampolinesForm "trampolines-form" EINVAL "the section for the trampolines is not executable content aligned to 32 bytes",
    203 TrampolinesSize "trampolines-size" EINVAL "the section for the trampolines has not 32 bytes for each function",
    204 TrampolinesFill "trampolines-fill" EINVAL "the section for the trampolines holds bytes other than 0xcc",

    // Layout in memory.
    208 RegionSize "region-size" EFBIG "a kind of memory (text, read-only, data) takes more than 24 MiB",

    // Callbacks and states.
    212 CallbackKind "callback-kind" EOPNOTSUPP "a callback is of an unknown kind",
    213 CallbackOrder "callback-order" EINVAL "callbacks are not in strictly ascending order of their kinds",
    214 CallbackSymbol "callback-symbol" EINVAL "a callback is no function symbol in executable memory",
    215 StateOrder "state-order" EINVAL "states are not in strictly ascending order of ids above 0",

    // The parts for modules.
    220 PartForm "part-form" ENOEXEC "a module's part takes memory, or has no content",
    221 PartOrder "part-order" EINVAL "the modules' parts are not in strictly ascending order of their names",
    222 PartName "part-name" EINVAL "a part is not named as the module that it patches",
    223 PartForeign "part-foreign" EINVAL "a part differs from its payload in level, times, release, description, floor or vmlinux",
    224 PartNested "part-nested" EINVAL "a part has fixes, states or parts of its own",
    225 PartAlign "part-align" ENOEXEC "a part is not aligned to 8 bytes",

    // A revocation record.
    232 RevocationMagic "revocation-magic" ENOEXEC "the file is no revocation record",
    233 RevocationVersion "revocation-version" EOPNOTSUPP "the revocation record has a layout version that this kcare does not know",
    234 RevocationCount "revocation-count" EINVAL "the revocation record names no certificate, or more than 256",
    235 RevocationSize "revocation-size" ENOEXEC "the revocation record does not end behind its last certificate",
    236 RevocationOrder "revocation-order" EINVAL "the revocation record's certificates are not in strictly ascending order",

    // The request.
    256 NotPermitted "not-permitted" EPERM "the caller lacks CAP_SYS_MODULE, or lockdown forbids it",
    257 UserMemory "user-memory" EFAULT "the caller's memory cannot be read or written",
    258 UnknownFlags "unknown-flags" EOPNOTSUPP "the request has unknown flags",
    259 Busy "busy" EBUSY "another request is under way",
    260 Interrupted "interrupted" EINTR "the request was interrupted by a signal",
    261 OutOfMemory "out-of-memory" ENOMEM "the kernel is out of memory",
    262 Internal "internal" EINVAL "the kernel refused a step that should succeed; the kernel log has its error number",
    263 SecurityRefused "security-refused" EPERM "a security module of the kernel (SELinux, IMA, a BPF program) lets this task load no code",
    264 ModulesDisabled "modules-disabled" EPERM "the kernel takes no modules any more (sysctl kernel.modules_disabled)",

    // Is it for this kernel, and for now?
    272 WrongRelease "wrong-release" EINVAL "the payload was built for another kernel release",
    273 WrongBuildId "wrong-build-id" EINVAL "the payload was built for another build of this object",
    274 ObjectNotLoaded "object-not-loaded" ENOENT "a module that the payload needs is not loaded",
    275 AlreadyLive "already-live" EEXIST "this patch level is live already",
    276 LowerLevel "lower-level" ESTALE "a higher patch level is live",
    277 NothingApplied "nothing-applied" ENOENT "nothing is applied",
    278 NameTaken "name-taken" EEXIST "a module with the level's name is loaded already",
    279 NoPrevious "no-previous" ENOENT "there is no previous level to go back to",
    280 Expired "expired" ESTALE "the payload's time is over: its vendor wants it to be applied no more",
    281 BelowFloor "below-floor" ESTALE "a level that was live before lets no lower one follow until the next boot",
    282 Latched "latched" EPERM "this module was loaded with latch=1: no level is taken back, or replaced by a lower one",

    // Does the code that runs match?
    288 FuncOutside "func-outside" EINVAL "a function lies outside its object's text",
    289 ExternOutside "extern-outside" EINVAL "an external symbol lies outside its object",
    290 PreimageMismatch "preimage-mismatch" EINVAL "a function's code in memory is not what the payload expects",
    291 NotRedirectable "not-redirectable" EOPNOTSUPP "a function has no fentry site and cannot be redirected",
    292 RedirectConflict "redirect-conflict" EBUSY "another tool has redirected a function already",
    293 KernelFunctionMissing "kernel-function-missing" EOPNOTSUPP "a function of the kernel that kcare needs is missing",

    294 ExternMoved "extern-moved" EINVAL "a module's symbol is not where the payload expects it",
    295 StateIncompatible "state-incompatible" EINVAL "the live level has changed a state of the system that the new one cannot take over",

    // The steps that change something.
    304 LoadFailed "load-failed" ENOEXEC "the kernel could not take the payload's code in",
    305 RedirectFailed "redirect-failed" EINVAL "the kernel refused to redirect a function",
    306 StopFailed "stop-failed" EBUSY "the machine could not be stopped",
    307 Blocked "blocked" ETIMEDOUT "tasks stayed inside functions that change",
    308 ShuttingDown "shutting-down" EBUSY "kcare is being unloaded, or the system goes down",
    309 CallbackFailed "callback-failed" EINVAL "a pre-patch callback of the payload refused",
    310 StopLimit "stop-limit" EBUSY "the machine would be stopped for longer than the parameter stop_us allows",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A table of the payload, for [`Place::Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Table {
    /// The manifest; the index is the byte offset of a field in its section.
    Manifest = 1,
    /// [`super::layout::Object`] entries.
    Objects = 2,
    /// [`super::layout::Func`] entries.
    Funcs = 3,
    /// [`super::layout::Extern`] entries.
    Externs = 4,
    /// [`super::layout::Fix`] entries.
    Fixes = 5,
    /// The pre-images; the index is the byte offset in its section.
    Preimages = 6,
    /// The strings; the index is the byte offset in its section.
    Strings = 7,
    /// [`super::layout::Callback`] entries.
    Callbacks = 8,
    /// [`super::layout::State`] entries.
    States = 9,
}

impl Table {
    /// The table's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Objects => "objects",
            Self::Funcs => "funcs",
            Self::Externs => "externs",
            Self::Fixes => "fixes",
            Self::Preimages => "preimages",
            Self::Strings => "strings",
            Self::Callbacks => "callbacks",
            Self::States => "states",
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Manifest,
            2 => Self::Objects,
            3 => Self::Funcs,
            4 => Self::Externs,
            5 => Self::Fixes,
            6 => Self::Preimages,
            7 => Self::Strings,
            8 => Self::Callbacks,
            9 => Self::States,
            _ => return None,
        })
    }
}

/// What an [`Error`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nothing in particular.
    Nowhere,
    /// A byte offset in the payload.
    Offset(u64),
    /// A section, by its index.
    Section(u32),
    /// A symbol, by its index.
    Symbol(u32),
    /// A relocation.
    Relocation {
        /// Index of the section that holds the relocation entries.
        section: u32,
        /// Number of the entry in it.
        index: u32,
    },
    /// An entry of one of the payload's tables.
    Entry {
        /// The table.
        table: Table,
        /// Number of the entry, or a byte offset as [`Table`] says.
        index: u32,
    },
}

impl Place {
    const KIND_SHIFT: u32 = 56;
    const VALUE_MASK: u64 = (1 << Self::KIND_SHIFT) - 1;
    const UPPER_SHIFT: u32 = 32;
    const UPPER_MAX: u64 = (1 << 24) - 1;
    const LOWER_MASK: u64 = 0xffff_ffff;

    /// Packs the place into one word for [`super::uapi::Apply::place`].
    ///
    /// The top byte is the kind (0 nowhere, 1 offset, 2 section, 3 symbol, 4 relocation, 5 entry);
    /// bits 32 to 55 hold a relocation's section or an entry's table, and the rest the number.
    /// Offsets saturate at 56 bits and sections of relocations at 24, which is far above their limits.
    pub fn raw(self) -> u64 {
        let pair = |upper: u64, lower: u32| {
            (upper.min(Self::UPPER_MAX) << Self::UPPER_SHIFT) | u64::from(lower)
        };
        let (kind, value) = match self {
            Self::Nowhere => (0u64, 0),
            Self::Offset(offset) => (1, offset.min(Self::VALUE_MASK)),
            Self::Section(index) => (2, u64::from(index)),
            Self::Symbol(index) => (3, u64::from(index)),
            Self::Relocation { section, index } => (4, pair(u64::from(section), index)),
            // CAST: the enum is `repr(u8)`.
            Self::Entry { table, index } => (5, pair(table as u64, index)),
        };
        (kind << Self::KIND_SHIFT) | value
    }

    /// Unpacks what [`Place::raw`] packed; `None` for a word that it never makes.
    pub fn from_raw(raw: u64) -> Option<Self> {
        let value = raw & Self::VALUE_MASK;
        let upper = value >> Self::UPPER_SHIFT;
        let lower = u32::try_from(value & Self::LOWER_MASK).ok()?;
        let single = || u32::try_from(value).ok();
        Some(match raw >> Self::KIND_SHIFT {
            0 if value == 0 => Self::Nowhere,
            1 => Self::Offset(value),
            2 => Self::Section(single()?),
            3 => Self::Symbol(single()?),
            4 => Self::Relocation {
                section: u32::try_from(upper).ok()?,
                index: lower,
            },
            5 => Self::Entry {
                table: Table::from_number(upper)?,
                index: lower,
            },
            _ => return None,
        })
    }
}

impl fmt::Display for Place {
    /// Prints nothing for [`Place::Nowhere`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nowhere => Ok(()),
            Self::Offset(offset) => write!(f, "offset {offset:#x}"),
            Self::Section(index) => write!(f, "section {index}"),
            Self::Symbol(index) => write!(f, "symbol {index}"),
            Self::Relocation { section, index } => {
                write!(f, "relocation {index} of section {section}")
            }
            Self::Entry { table, index } => match table {
                Table::Manifest | Table::Preimages | Table::Strings => {
                    write!(f, "{} at {index:#x}", table.name())
                }
                _ => write!(f, "{}[{index}]", table.name()),
            },
        }
    }
}

/// A refusal: the reason and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Error {
    /// Why.
    pub reason: Reason,
    /// Where.
    pub place: Place,
}

impl Error {
    /// A refusal at a place.
    pub const fn new(reason: Reason, place: Place) -> Self {
        Self { reason, place }
    }

    /// A refusal at an entry of a table.
    pub const fn entry(reason: Reason, table: Table, index: u32) -> Self {
        Self::new(reason, Place::Entry { table, index })
    }

    /// A refusal at a section.
    pub const fn section(reason: Reason, index: u32) -> Self {
        Self::new(reason, Place::Section(index))
    }

    /// A refusal at a symbol.
    pub const fn symbol(reason: Reason, index: u32) -> Self {
        Self::new(reason, Place::Symbol(index))
    }

    /// A refusal at a byte offset in the payload.
    pub const fn offset(reason: Reason, offset: u64) -> Self {
        Self::new(reason, Place::Offset(offset))
    }
}

impl From<Reason> for Error {
    /// A refusal that is about nothing in particular.
    fn from(reason: Reason) -> Self {
        Self::new(reason, Place::Nowhere)
    }
}

impl fmt::Display for Error {
    /// `section-overlap: a section overlaps … (section 5)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.reason.explain())?;
        match self.place {
            Place::Nowhere => Ok(()),
            place => write!(f, " ({place})"),
        }
    }
}

impl core::error::Error for Error {}
