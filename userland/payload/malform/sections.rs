// SPDX-License-Identifier: GPL-2.0

//! Section headers, names and order.

use kcare_payload::elf::{
    SectionHeader, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK, SHF_WRITE, SHT_NOBITS, SHT_NULL,
    SHT_PROGBITS, SHT_RELA, SHT_STRTAB,
};
use kcare_payload::error::Place;
use kcare_payload::layout::{
    MAX_ALIGN, MAX_REGION, MAX_ZEROES, SEC_FUNCS, SEC_STRINGS, SEC_TRAMPOLINES,
};

use super::image::{content, edit, in_file, patch_section, table, Image, Made};
use super::{at_section, cases};

/// Changes the header of the section with an index.
fn header(
    image: &Image,
    index: Option<u32>,
    change: impl FnOnce(&mut SectionHeader),
) -> Option<Made> {
    let index = index?;
    edit(image, |image| {
        change(&mut image[index as usize].header);
        at_section(index)
    })
}

/// A section with code.
fn text(image: &Image) -> Option<u32> {
    image.find(|_, h| h.kind == SHT_PROGBITS && h.flags & SHF_EXECINSTR != 0)
}

/// The string table of the symbols.
fn symbol_names(image: &Image) -> Option<u32> {
    Some(image[image.symtab()? as usize].header.link)
}

/// The last section whose predecessor is in the file, with content, as it is itself.
fn behind_content(image: &Image) -> Option<u32> {
    let full = |i: u32| in_file(&image[i as usize].header) && !image[i as usize].data.is_empty();
    image.find(|i, _| i > 1 && full(i) && full(i - 1))
}

/// Adds zeroes in memory.
pub(super) fn zeroes(image: &mut Image, name: &str, size: u64) -> u32 {
    let kind = SHT_NOBITS;
    let header = SectionHeader {
        kind,
        size,
        ..content(SHF_WRITE, 8)
    };
    image.push(name, header, Vec::new())
}

/// Adds data that takes memory under a name.
fn data_named(image: &Image, name: &str) -> Option<Made> {
    edit(image, |image| {
        let index = image.push(name, content(SHF_WRITE, 8), vec![0; 8]);
        at_section(index)
    })
}

cases! {
    "section-type-null" SectionNull |image| header(image, text(image), |h| h.kind = SHT_NULL);
    "section-type-note" SectionType |image| header(image, text(image), |h| h.kind = 7);
    "section-type-rel" SectionType |image| header(image, image.rela(), |h| h.kind = 9);
    "section-type-dynamic" SectionType |image| header(image, text(image), |h| h.kind = 6);
    "section-type-group" SectionType |image| header(image, text(image), |h| h.kind = 17);
    "section-type-symbol-indices" SectionType |image| header(image, text(image), |h| h.kind = 18);
    "section-type-livepatch" SectionType |image| {
        header(image, text(image), |h| h.kind = 0xff20_0000)
    };
    "section-type-max" SectionType |image| header(image, text(image), |h| h.kind = u32::MAX);
    "write-and-exec" SectionWriteExec |image| header(image, text(image), |h| h.flags |= SHF_WRITE);
    "write-and-exec-trampolines" SectionWriteExec |image| {
        header(image, image.named(SEC_TRAMPOLINES), |h| h.flags |= SHF_WRITE)
    };
    "flags-tls" SectionFlags |image| header(image, text(image), |h| h.flags |= 0x400);
    "flags-compressed" SectionFlags |image| header(image, text(image), |h| h.flags |= 0x800);
    "flags-link-order" SectionFlags |image| header(image, text(image), |h| h.flags |= 0x80);
    "flags-max" SectionWriteExec |image| header(image, text(image), |h| h.flags = u64::MAX);
    "flags-of-symbols" SectionFlags |image| header(image, image.symtab(), |h| h.flags = SHF_ALLOC);
    "flags-of-names" SectionFlags |image| header(image, symbol_names(image), |h| h.flags = 0x20);
    "flags-of-relocations" SectionFlags |image| {
        header(image, image.rela(), |h| h.flags = SHF_INFO_LINK | SHF_ALLOC)
    };
    "flags-of-table" SectionFlags |image| {
        header(image, image.named(SEC_FUNCS), |h| h.flags = SHF_WRITE)
    };
    "flags-of-zeroes" SectionFlags |image| edit(image, |image| {
        let index = zeroes(image, ".bss.more", 64);
        image[index as usize].header.flags = SHF_ALLOC | SHF_EXECINSTR;
        at_section(index)
    });
    "address" SectionAddress |image| {
        header(image, text(image), |h| h.addr = 0xffff_ffff_8100_0000)
    };
    "align-three" SectionAlign |image| header(image, text(image), |h| h.addralign = 3);
    "align-two-pages" SectionAlign |image| {
        header(image, text(image), |h| h.addralign = 2 * MAX_ALIGN)
    };
    "align-highest-bit" SectionAlign |image| header(image, text(image), |h| h.addralign = 1 << 63);
    "align-max" SectionAlign |image| header(image, text(image), |h| h.addralign = u64::MAX);
    "offset-misaligned" SectionMisaligned |image| {
        patch_section(image, image.named(SEC_STRINGS)?, |h, _| {
            h.addralign = (1 << (h.offset.trailing_zeros() + 1)).min(MAX_ALIGN);
        })
    };
    "offset-max" SectionRange |image| patch_section(image, text(image)?, |h, _| h.offset = u64::MAX);
    "offset-zero" SectionRange |image| patch_section(image, text(image)?, |h, _| h.offset = 0);
    "offset-behind-file" SectionRange |image| {
        patch_section(image, text(image)?, |h, _| h.offset = 1 << 40)
    };
    "size-max" SectionRange |image| {
        patch_section(image, image.named(SEC_STRINGS)?, |h, _| h.size = u64::MAX)
    };
    "size-max-of-text" SectionSize |image| {
        patch_section(image, text(image)?, |h, _| h.size = u64::MAX)
    };
    "size-behind-file" SectionRange |image| {
        patch_section(image, text(image)?, |h, _| h.size = MAX_REGION)
    };
    "into-section-table" SectionRange |image| {
        let last = u32::try_from(image.len() - 1).ok()?;
        patch_section(image, last, |h, _| h.size += 64)
    };
    "overlap-start" SectionOverlap |image| {
        let index = behind_content(image)?;
        patch_section(image, index, |h, all| {
            h.offset = all[index as usize - 1].offset;
            h.size = 1;
        })
    };
    "overlap-end" SectionOverlap |image| {
        let index = behind_content(image)?;
        let (file, _) = patch_section(image, index - 1, |h, all| {
            h.size = all[index as usize].offset - h.offset + 1;
        })?;
        Some((file, Place::Section(index)))
    };
    "file-order" SectionOverlap |image| {
        let index = image.find(|i, h| i > 1 && in_file(h) && h.flags & SHF_ALLOC == 0)?;
        patch_section(image, index, |h, _| {
            h.offset = 64;
            h.size = 0;
        })
    };
    "symbol-entry-size-zero" SectionEntrySize |image| header(image, image.symtab(), |h| h.entsize = 0);
    "symbol-entry-size-max" SectionEntrySize |image| {
        header(image, image.symtab(), |h| h.entsize = u64::MAX)
    };
    "symbol-table-torn" SectionEntrySize |image| edit(image, |image| {
        image.symbols()?.data.pop();
        at_section(image.symtab()?)
    });
    "relocation-entry-size" SectionEntrySize |image| header(image, image.rela(), |h| h.entsize = 16);
    "relocation-table-torn" SectionEntrySize |image| edit(image, |image| {
        let index = image.rela()?;
        image[index as usize].data.pop();
        at_section(index)
    });
    "link-of-text" SectionLink |image| header(image, text(image), |h| h.link = 1);
    "link-of-symbols" SectionLink |image| {
        let symtab = image.symtab()?;
        header(image, Some(symtab), |h| h.link = symtab)
    };
    "link-of-symbols-max" SectionLink |image| header(image, image.symtab(), |h| h.link = u32::MAX);
    "link-of-relocations" SectionLink |image| {
        let names = symbol_names(image)?;
        header(image, image.rela(), |h| h.link = names)
    };
    "info-of-text" SectionInfo |image| header(image, text(image), |h| h.info = 1);
    "info-of-symbols-zero" SectionInfo |image| header(image, image.symtab(), |h| h.info = 0);
    "info-of-symbols-max" SectionInfo |image| header(image, image.symtab(), |h| h.info = u32::MAX);
    "section-name-outside" SectionName |image| {
        header(image, text(image), |h| h.name = u32::MAX)
    };
    "section-name-empty" SectionName |image| header(image, text(image), |h| h.name = 0);
    "section-name-too-long" SectionName |image| edit(image, |image| {
        let index = image.push(&"n".repeat(1025), content(SHF_WRITE, 8), vec![0; 8]);
        at_section(index)
    });
    "section-names-torn" StringTable |image| edit(image, |image| {
        let names = image.header.shstrndx;
        image[usize::from(names)].data.push(b'x');
        at_section(u32::from(names))
    });
    "section-names-empty" StringTable |image| edit(image, |image| {
        let names = image.header.shstrndx;
        image[usize::from(names)].data.clear();
        at_section(u32::from(names))
    });
    "symbol-names-not-utf8" StringTable |image| edit(image, |image| {
        let names = symbol_names(image)?;
        image[names as usize].data.extend([0xff, 0]);
        at_section(names)
    });
    "symbol-names-control" StringTable |image| edit(image, |image| {
        let names = symbol_names(image)?;
        image[names as usize].data.extend(b"\x1b[2J\0");
        at_section(names)
    });
    "symbol-names-no-start" StringTable |image| edit(image, |image| {
        let names = symbol_names(image)?;
        image[names as usize].data[0] = b'x';
        at_section(names)
    });
    "symbols-missing" SymbolTableMissing |image| {
        // Without a symbol table nothing can link to one, so that the rest stays in form.
        let mut image = image.clone();
        let symtab = image.symtab()?;
        let plain = SectionHeader { name: image[symtab as usize].header.name, ..table() };
        image[symtab as usize].header = plain;
        Some((image.write(), Place::Nowhere))
    };
    "symbols-twice" SymbolTableDuplicate |image| edit(image, |image| {
        let symtab = image[image.symtab()? as usize].clone();
        let index = image.push(".symtab", symtab.header, symtab.data);
        at_section(index)
    });
    "section-per-cpu" SectionUnsupported |image| data_named(image, ".data..percpu");
    "section-init" SectionUnsupported |image| data_named(image, ".init.data");
    "section-exports" SectionUnsupported |image| data_named(image, "__ksymtab_gpl");
    "section-parameters" SectionUnsupported |image| data_named(image, "__param");
    "section-module" SectionUnsupported |image| data_named(image, ".gnu.linkonce.this_module");
    "section-comment" SectionUnknown |image| edit(image, |image| {
        let index = image.push(".comment", table(), b"GCC".to_vec());
        at_section(index)
    });
    "section-debug" SectionUnknown |image| edit(image, |image| {
        let index = image.push(".debug_info", table(), vec![0; 32]);
        at_section(index)
    });
    "zeroes-too-large" SectionSize |image| edit(image, |image| {
        let index = zeroes(image, ".bss.more", MAX_REGION + 1);
        at_section(index)
    });
    "zeroes-max" SectionSize |image| edit(image, |image| {
        let index = zeroes(image, ".bss.more", u64::MAX);
        at_section(index)
    });
    "region-too-large" RegionSize |image| edit(image, |image| {
        // Padding takes memory, too: each of these takes a page.
        let zeroes_size = MAX_ZEROES - (1 << 20);
        for _ in 0..=(MAX_REGION - zeroes_size) / MAX_ALIGN {
            image.push(".data.more", content(SHF_WRITE, MAX_ALIGN), vec![0]);
        }
        let index = zeroes(image, ".bss.more", zeroes_size);
        at_section(index)
    });
    "sections-too-many" SectionCount |image| {
        let mut image = image.clone();
        while image.len() <= 4096 {
            image.push(".rodata.more", content(0, 1), Vec::new());
        }
        Some((image.write(), Place::Offset(60)))
    };
    "relocations-against-nothing" RelocationSection |image| {
        header(image, image.rela(), |h| h.info = 0)
    };
    "relocations-against-max" RelocationSection |image| {
        header(image, image.rela(), |h| h.info = u32::MAX)
    };
    "relocations-against-names" RelocationSection |image| {
        let names = symbol_names(image)?;
        header(image, image.rela(), |h| h.info = names)
    };
    "relocations-against-table" RelocationSection |image| {
        let funcs = image.named(SEC_FUNCS)?;
        header(image, image.rela(), |h| h.info = funcs)
    };
    "relocations-against-selves" RelocationSection |image| {
        let rela = image.rela()?;
        header(image, Some(rela), |h| h.info = rela)
    };
    "relocations-against-zeroes" RelocationSection |image| edit(image, |image| {
        let target = zeroes(image, ".bss.more", 4096);
        let rela = image.rela()?;
        image[rela as usize].header.info = target;
        at_section(rela)
    });
    "relocations-twice" RelocationDuplicate |image| edit(image, |image| {
        let last = image.sections.iter().rposition(|c| c.header.kind == SHT_RELA)?;
        let copy = image[last].clone();
        let index = image.push(".rela.more", copy.header, copy.data);
        at_section(index)
    });
    "names-as-text" SectionInfo |image| {
        let names = symbol_names(image)?;
        header(image, Some(names), |h| {
            h.kind = SHT_STRTAB;
            h.info = 7;
        })
    };
}
