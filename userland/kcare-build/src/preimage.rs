// SPDX-License-Identifier: GPL-2.0

//! The code that must be found at a function in memory, and which of its bytes the kernel rewrites.

use anyhow::{Context, Result};
use kcare_payload::layout::{MASK_ANY, MASK_MATCH};
use object::elf;

use crate::image::{Image, ImageId, VMLINUX};
use crate::insn::{self, ENDBR64};
use crate::obj::{field_size, Obj};
use crate::select::Redirect;

/// Bytes of a function and the mask over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preimage {
    /// Code as it was shipped.
    pub code: Vec<u8>,
    /// [`MASK_MATCH`] or [`MASK_ANY`] for each byte.
    pub mask: Vec<u8>,
}

/// Makes the pre-image of a function of the image `id`; `exact` is its unit as it was shipped.
pub fn preimage(
    redirect: &Redirect,
    exact: &Obj,
    id: ImageId,
    image: &dyn Image,
) -> Result<Preimage> {
    let (start, end) = (redirect.addr, redirect.addr + redirect.size);
    let code = image.read_addr(start, redirect.size)?;
    let mut mask = vec![MASK_MATCH; code.len()];
    let mut free = |addr: u64, len: u64| {
        // A site may start in front of the function or end behind it.
        let from = addr.max(start);
        let to = (addr + len).min(end);
        if from < to {
            mask[(from - start) as usize..(to - start) as usize].fill(MASK_ANY);
        }
    };
    let inside = |sites: &[u64]| -> Vec<u64> {
        let from = sites.partition_point(|&a| a < start);
        let to = sites.partition_point(|&a| a < end);
        sites[from..to].to_vec()
    };
    let length = |addr: u64| -> u64 {
        insn::length(&code[(addr - start) as usize..]).map_or(5, |len| len as u64)
    };
    let sites = image.sites();

    free(start + redirect.fentry, 5);
    for addr in inside(&sites.endbr) {
        free(addr, ENDBR64.len() as u64);
    }
    for addr in inside(&sites.locks) {
        free(addr, 1);
    }
    // An indirect branch may become several instructions in the room of the one.
    for list in [
        &sites.retpoline,
        &sites.returns,
        &sites.calls,
        &sites.static_calls,
    ] {
        for addr in inside(list) {
            free(addr, length(addr).max(5));
        }
    }
    for addr in inside(&sites.jumps) {
        free(addr, length(addr));
    }
    let from = sites.alternatives.partition_point(|&(a, _)| a < start);
    let to = sites.alternatives.partition_point(|&(a, _)| a < end);
    for &(addr, len) in &sites.alternatives[from..to] {
        free(addr, len);
    }
    for &(addr, len) in sites
        .runtime
        .iter()
        .filter(|&&(a, _)| a >= start && a < end)
    {
        free(addr, len);
    }

    // KASLR moves absolute addresses (arch/x86/tools/relocs.c: 32, 32S and 64); a module's relocations are
    // all done when it is loaded.
    let kept = |ty: u32| {
        id != VMLINUX || matches!(ty, elf::R_X86_64_32 | elf::R_X86_64_32S | elf::R_X86_64_64)
    };
    let item = exact
        .by_name(&redirect.name)
        .with_context(|| format!("the rebuilt unit has no `{}`", redirect.name))?;
    let first = exact.items[item].start;
    for rel in exact
        .rels(item)
        .iter()
        .filter(|r| !r.resolved && kept(r.ty))
    {
        let size = field_size(rel.ty).unwrap_or(8) as u64;
        free(start + (rel.off - first), size);
    }
    Ok(Preimage { code, mask })
}
