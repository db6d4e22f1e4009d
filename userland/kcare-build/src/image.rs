// SPDX-License-Identifier: GPL-2.0

//! What was shipped: vmlinux and the modules, behind one interface.
//!
//! Code and data have an address in their image: in vmlinux the link-time address, in a module what
//! [`crate::module`] makes of section and offset.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::kernel::Kernel;
use crate::layout::{self, Spot};
use crate::module::{Catalogue, Module};
use crate::vmlinux::{Sites, Vmlinux};

/// A shipped object that patch code can replace functions of or refer to.
pub trait Image {
    /// `vmlinux`, or the module's name.
    fn name(&self) -> &str;
    /// GNU build-id.
    fn build_id(&self) -> &[u8];
    /// Name of the section that holds an address.
    fn section_name(&self, addr: u64) -> Option<&str>;
    /// Reads `len` bytes at an address; bytes of relocated fields of a module are as in the file.
    fn read_addr(&self, addr: u64, len: u64) -> Result<Vec<u8>>;
    /// Address of the only global symbol of a name; absolute ones have none.
    fn global_addr(&self, name: &str) -> Option<u64>;
    /// Whether there is any symbol of a name.
    fn has(&self, name: &str) -> bool;
    /// Whether a symbol of this name is a function at this address.
    fn is_function(&self, name: &str, addr: u64) -> bool;
    /// Places that the kernel rewrites.
    fn sites(&self) -> &Sites;
    /// Where an address is in the running kernel, from the image's base or that of a module's region.
    fn spot(&self, addr: u64) -> Option<Spot>;

    /// Whether memory is freed once the image has been initialised.
    fn freed(&self, addr: u64) -> bool {
        match self.section_name(addr) {
            Some(name) if name.starts_with(".init") => true,
            Some(name) if name.starts_with(".exit") => !self.keeps_exit(),
            _ => false,
        }
    }

    /// Whether exit code and data stay: a module has them until it is removed.
    fn keeps_exit(&self) -> bool {
        false
    }
}

impl Image for Vmlinux {
    fn name(&self) -> &str {
        "vmlinux"
    }

    fn build_id(&self) -> &[u8] {
        &self.build_id
    }

    fn section_name(&self, addr: u64) -> Option<&str> {
        self.section_at(addr).map(|s| s.name.as_str())
    }

    fn read_addr(&self, addr: u64, len: u64) -> Result<Vec<u8>> {
        Vmlinux::read_addr(self, addr, len)
    }

    fn global_addr(&self, name: &str) -> Option<u64> {
        let symbol = self.global(name)?;
        symbol.section.map(|_| symbol.addr)
    }

    fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    fn is_function(&self, name: &str, addr: u64) -> bool {
        self.named(name).any(|s| s.addr == addr && s.func)
    }

    fn sites(&self) -> &Sites {
        &self.sites
    }

    fn spot(&self, addr: u64) -> Option<Spot> {
        let inside = (self.text..=self.end).contains(&addr);
        inside.then(|| Spot {
            region: layout::TEXT,
            offset: addr - self.text,
        })
    }
}

/// Index of an image in [`Images`].
pub type ImageId = usize;

/// Index of vmlinux.
pub const VMLINUX: ImageId = 0;

/// All shipped images that a build needs; with a module come all those that it depends on.
#[derive(Debug)]
pub struct Images {
    /// The kernel itself.
    pub vmlinux: Vmlinux,
    /// The modules, [`ImageId`] 1 and on.
    pub modules: Vec<Module>,
    /// Exported symbols by name: the exporting module, or `vmlinux`.
    exports: BTreeMap<String, String>,
    catalogue: Option<Catalogue>,
}

impl From<Vmlinux> for Images {
    fn from(vmlinux: Vmlinux) -> Self {
        Images {
            vmlinux,
            modules: Vec::new(),
            exports: BTreeMap::new(),
            catalogue: None,
        }
    }
}

impl Images {
    /// The image of an index.
    pub fn get(&self, id: ImageId) -> &dyn Image {
        match id.checked_sub(1) {
            None => &self.vmlinux,
            Some(module) => &self.modules[module],
        }
    }

    /// The module of an index, or `None` for vmlinux.
    pub fn module(&self, id: ImageId) -> Option<&Module> {
        self.modules.get(id.checked_sub(1)?)
    }

    /// Adds a module.
    pub fn add(&mut self, module: Module) -> ImageId {
        self.modules.push(module);
        self.modules.len()
    }

    /// Reads a shipped module by name, and the modules that it depends on, unless they are there already.
    pub fn load(&mut self, kernel: &Kernel, name: &str) -> Result<ImageId> {
        if let Some(id) = self.find(name) {
            return Ok(id);
        }
        let catalogue = match self.catalogue.take() {
            Some(catalogue) => catalogue,
            None => {
                self.exports = read_exports(kernel)?;
                Catalogue::read(kernel)?
            }
        };
        let read = catalogue.open(kernel, name);
        self.catalogue = Some(catalogue);
        let module = read?;
        let depends = module.depends.clone();
        let id = self.add(module);
        for name in depends {
            self.load(kernel, &name)?;
        }
        Ok(id)
    }

    /// Whether a module depends on another one, at whatever distance: it is there as long as the first one.
    pub fn depends(&self, user: ImageId, owner: ImageId) -> bool {
        let direct = self.module(user).map_or(&[][..], |m| m.depends.as_slice());
        direct
            .iter()
            .filter_map(|name| self.find(name))
            .any(|id| id == owner || self.depends(id, owner))
    }

    /// The image of a name.
    pub fn find(&self, name: &str) -> Option<ImageId> {
        let module = self.modules.iter().position(|m| m.name == name)?;
        Some(module + 1)
    }

    /// The image that exports a symbol to the modules: `Ok(None)` if none does, an error names one that was
    /// not loaded.
    pub fn exporter(&self, name: &str) -> Result<Option<ImageId>, String> {
        match self.exports.get(name) {
            None => Ok(None),
            Some(owner) if owner == "vmlinux" => Ok(Some(VMLINUX)),
            Some(owner) => self.find(owner).map(Some).ok_or_else(|| owner.clone()),
        }
    }
}

/// Reads the kernel's list of exported symbols.
fn read_exports(kernel: &Kernel) -> Result<BTreeMap<String, String>> {
    let path = kernel.dir.join("Module.symvers");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    // CRC, symbol, owner, kind of export, namespace.
    let line = |line: &str| {
        let mut fields = line.split('\t').skip(1);
        let (symbol, owner) = (fields.next()?, fields.next()?);
        let owner = owner.rsplit('/').next()?.replace('-', "_");
        Some((symbol.to_owned(), owner))
    };
    Ok(text.lines().filter_map(line).collect())
}
