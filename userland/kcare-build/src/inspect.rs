// SPDX-License-Identifier: GPL-2.0

//! Explains a payload to a person, or as JSON to a program.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{bail, Result};
use kcare_payload::bundle::Bundle;
use kcare_payload::check::Payload;
use kcare_payload::layout::{Object, MASK_ANY, OBJECT_OUTER, REGION_PERCPU, SEC_TRAMPOLINES};
use kcare_payload::trailer;
use serde::Serialize;

use crate::author::When;

/// What a payload holds.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Patch level.
    pub level: u32,
    /// Kernel release.
    pub release: String,
    /// Build-id of its vmlinux in hexadecimal.
    pub build_id: String,
    /// Seconds since 1970.
    pub build_time: u64,
    /// Seconds since 1970 after which it is not applied any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
    /// The lowest level that may follow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<u32>,
    /// It goes live, and is taken back, at a moment when no task is inside, or not at all.
    pub all_at_once: bool,
    /// One line.
    pub description: String,
    /// Size in bytes, signature included.
    pub size: usize,
    /// The signature, if there is one.
    pub signature: Option<Signature>,
    /// Fixes.
    pub fixes: Vec<Fix>,
    /// What is done to vmlinux.
    #[serde(flatten)]
    pub body: Body,
    /// What is done to modules.
    pub parts: Vec<Part>,
}

/// What is done to one image.
#[derive(Debug, Serialize)]
pub struct Body {
    /// The address of its code is taken, so that the code stays in memory after an unload.
    pub text_escapes: bool,
    /// Redirected functions.
    pub functions: Vec<Function>,
    /// Functions that are called around a switch.
    pub callbacks: Vec<Callback>,
    /// States of the system that the level changes.
    pub states: Vec<State>,
    /// Sections that take memory.
    pub sections: Vec<Section>,
    /// Functions and variables that the kernel does not have yet.
    pub symbols: Vec<NewSymbol>,
    /// External symbols.
    pub externs: Vec<External>,
    /// Number of relocations.
    pub relocations: usize,
}

/// What is done to a module.
#[derive(Debug, Serialize)]
pub struct Part {
    /// Name of the module.
    pub module: String,
    /// Its build-id in hexadecimal.
    pub build_id: String,
    /// What is done to it.
    #[serde(flatten)]
    pub body: Body,
}

/// A signature.
#[derive(Debug, Serialize)]
pub struct Signature {
    /// Its size in bytes.
    pub size: usize,
    /// Serial number of the signer's certificate in hexadecimal.
    pub signer: String,
}

/// A fix.
#[derive(Debug, Serialize)]
pub struct Fix {
    /// `CVE-2026-12345`, or empty.
    pub id: String,
    /// One line.
    pub title: String,
}

/// A redirected function.
#[derive(Debug, Serialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The object that it is in.
    pub object: String,
    /// Offset from the object's base.
    pub offset: u64,
    /// Size in bytes of the original.
    pub old_size: u32,
    /// Size in bytes of the new function.
    pub new_size: u64,
    /// Bytes of the original that are not compared because the kernel may rewrite them.
    pub unchecked: usize,
}

/// A function that is called around a switch.
#[derive(Debug, Serialize)]
pub struct Callback {
    /// `pre_patch`, `post_patch`, `pre_unpatch` or `post_unpatch`.
    pub when: &'static str,
    /// Its name.
    pub function: String,
}

/// A state of the system.
#[derive(Debug, Serialize)]
pub struct State {
    /// Its number.
    pub id: u64,
    /// Version of the change.
    pub version: u32,
}

/// A section.
#[derive(Debug, Serialize)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// `rx`, `r` or `rw`.
    pub access: &'static str,
}

/// A function or variable that only the payload has.
#[derive(Debug, Serialize)]
pub struct NewSymbol {
    /// Its name.
    pub name: String,
    /// Its section.
    pub section: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An external symbol.
#[derive(Debug, Serialize)]
pub struct External {
    /// Its name.
    pub name: String,
    /// The object that it is in: `vmlinux`, a module, or `payload` for what the payload adds to vmlinux.
    pub object: String,
    /// Which memory of a module or of the payload: `text`, `data`, `rodata`, `ro_after_init`, `percpu`.
    pub memory: &'static str,
    /// Offset from the start of that memory, or from vmlinux's base.
    pub offset: u64,
}

impl Summary {
    /// Reads a payload, signed or not; it must be right in form.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let (body, signature) = match trailer::split(bytes) {
            Ok((body, der)) => (
                body,
                Some(Signature {
                    size: der.len(),
                    signer: signer(der).unwrap_or_default(),
                }),
            ),
            Err(_) if !bytes.ends_with(&trailer::MARKER) => (bytes, None),
            Err(error) => bail!("{error}"),
        };
        let bundle = Bundle::parse(body).map_err(|refusal| match refusal.part {
            Some(part) => anyhow::anyhow!("part for {part}: {}", refusal.error),
            None => anyhow::anyhow!("{}", refusal.error),
        })?;
        let payload = bundle.outer();
        let parts = bundle.parts().map(|part| {
            let payload = &part.payload;
            Part {
                module: part.name.to_owned(),
                build_id: payload
                    .object(payload.target())
                    .map_or(String::new(), |o| hex(o.id())),
                body: Body::new(payload),
            }
        });
        Ok(Summary {
            level: payload.level(),
            release: payload.release().to_owned(),
            build_id: hex(payload.object(0).unwrap_or_default().id()),
            build_time: payload.build_time(),
            not_after: Some(payload.manifest().not_after).filter(|time| *time != 0),
            floor: Some(payload.manifest().floor).filter(|level| *level != 0),
            all_at_once: payload.manifest().all_at_once(),
            description: payload.description().to_owned(),
            size: bytes.len(),
            signature,
            fixes: payload
                .fixes()
                .map(|f| Fix {
                    id: payload.string(f.id).to_owned(),
                    title: payload.string(f.title).to_owned(),
                })
                .collect(),
            body: Body::new(payload),
            parts: parts.collect(),
        })
    }

    /// All redirected functions, those of vmlinux first.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        let parts = self.parts.iter().map(|part| &part.body);
        std::iter::once(&self.body)
            .chain(parts)
            .flat_map(|body| &body.functions)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Body {
    fn new(payload: &Payload<'_>) -> Self {
        let object = |index: u32| match index {
            OBJECT_OUTER => "payload".to_owned(),
            _ => payload
                .object(index)
                .map_or(String::new(), |o: Object| payload.string(o.name).to_owned()),
        };
        let redirected: BTreeSet<u32> = payload.funcs().map(|f| f.symbol).collect();
        Body {
            text_escapes: payload.manifest().text_escapes(),
            functions: payload
                .funcs()
                .map(|f| Function {
                    name: payload.string(f.name).to_owned(),
                    object: object(f.object),
                    offset: f.offset,
                    old_size: f.size,
                    new_size: payload.symbol(f.symbol).map_or(0, |s| s.size),
                    unchecked: payload
                        .preimage(&f)
                        .1
                        .iter()
                        .filter(|&&m| m == MASK_ANY)
                        .count(),
                })
                .collect(),
            callbacks: payload
                .callbacks()
                .map(|c| Callback {
                    when: When::of_kind(c.kind).map_or("unknown", When::name),
                    function: payload
                        .symbol(c.symbol)
                        .map_or(String::new(), |s| s.name.to_owned()),
                })
                .collect(),
            states: payload
                .states()
                .map(|s| State {
                    id: s.id,
                    version: s.version,
                })
                .collect(),
            sections: payload
                .sections()
                .filter(|s| s.is_alloc() && s.size > 0)
                .map(|s| Section {
                    name: s.name.to_owned(),
                    size: s.size,
                    access: match (s.is_exec(), s.is_write()) {
                        (true, _) => "rx",
                        (_, true) => "rw",
                        _ => "r",
                    },
                })
                .collect(),
            symbols: payload
                .symbols()
                .filter(|s| !s.name.is_empty() && !redirected.contains(&s.index))
                .filter_map(|s| {
                    let section = payload.section(s.section()?)?;
                    Some(NewSymbol {
                        name: s.name.to_owned(),
                        section: section.name.to_owned(),
                        size: s.size,
                    })
                })
                .filter(|s| s.section != SEC_TRAMPOLINES)
                .collect(),
            externs: payload
                .externs()
                .map(|e| External {
                    name: payload.symbol(e.symbol).map_or("", |s| s.name).to_owned(),
                    object: object(e.object),
                    memory: match e.region {
                        0 => "text",
                        1 => "data",
                        2 => "rodata",
                        3 => "ro_after_init",
                        REGION_PERCPU => "percpu",
                        _ => "",
                    },
                    offset: e.offset,
                })
                .collect(),
            relocations: payload.nr_relocations(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "level        {}", self.level)?;
        writeln!(f, "kernel       {}", self.release)?;
        writeln!(f, "build-id     {}", self.build_id)?;
        writeln!(
            f,
            "build time   {} ({} s since 1970)",
            utc(self.build_time),
            self.build_time
        )?;
        if let Some(time) = self.not_after {
            writeln!(f, "not after    {} ({time} s since 1970)", utc(time))?;
        }
        if let Some(level) = self.floor {
            writeln!(f, "floor        {level}: no lower level may follow it")?;
        }
        if self.all_at_once {
            writeln!(
                f,
                "all at once  it goes live, and is taken back, when no task is inside, or not at all"
            )?;
        }
        writeln!(f, "description  {}", self.description)?;
        match &self.signature {
            Some(s) => writeln!(
                f,
                "signature    {} bytes, signer's serial number {}",
                s.size, s.signer
            )?,
            None => writeln!(f, "signature    none")?,
        }
        writeln!(f, "size         {} bytes", self.size)?;
        for fix in &self.fixes {
            let id = if fix.id.is_empty() { "-" } else { &fix.id };
            writeln!(f, "fix          {id}  {}", fix.title)?;
        }
        let shown = !self.body.functions.is_empty() || self.body.text_escapes;
        if shown || self.parts.is_empty() {
            writeln!(f, "\nvmlinux, {} relocations", self.body.relocations)?;
            write!(f, "{}", self.body)?;
        }
        for part in &self.parts {
            writeln!(
                f,
                "\nmodule {} (build-id {}), {} relocations",
                part.module, part.build_id, part.body.relocations
            )?;
            write!(f, "{}", part.body)?;
        }
        Ok(())
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text_escapes {
            writeln!(
                f,
                "its code stays in memory after an unload, as the address of some of it is taken"
            )?;
        }
        writeln!(
            f,
            "\nfunctions\n  {:<40} {:>10} {:>7} {:>7}  not compared",
            "name", "offset", "old", "new"
        )?;
        for func in &self.functions {
            writeln!(
                f,
                "  {:<40} {:>#10x} {:>7} {:>7}  {} ({} %)",
                func.name,
                func.offset,
                func.old_size,
                func.new_size,
                func.unchecked,
                func.unchecked * 100 / (func.old_size as usize).max(1),
            )?;
        }
        if !self.callbacks.is_empty() {
            writeln!(f, "\ncallbacks")?;
        }
        for callback in &self.callbacks {
            writeln!(f, "  {:<40} {}", callback.function, callback.when)?;
        }
        if !self.states.is_empty() {
            writeln!(f, "\nstates")?;
        }
        for state in &self.states {
            let id = format!("{} ({:#x})", state.id, state.id);
            writeln!(f, "  {id:<40} version {}", state.version)?;
        }
        writeln!(f, "\nsections")?;
        for section in &self.sections {
            writeln!(
                f,
                "  {:<40} {:>10} {:>3}",
                section.name, section.size, section.access
            )?;
        }
        writeln!(f, "\nnew symbols")?;
        for symbol in &self.symbols {
            writeln!(
                f,
                "  {:<40} {:>10}  {}",
                symbol.name, symbol.size, symbol.section
            )?;
        }
        writeln!(f, "\nexternal symbols")?;
        for symbol in &self.externs {
            write!(f, "  {:<40} {:>#10x}", symbol.name, symbol.offset)?;
            match symbol.object.as_str() {
                "vmlinux" => writeln!(f)?,
                object => writeln!(f, "  {object} {}", symbol.memory)?,
            }
        }
        Ok(())
    }
}

/// Date and time of seconds since 1970, in UTC.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar, with years that start in March.
    let z = days + 719_468;
    let era = z / 146_097;
    let day = z % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{date:02} {:02}:{:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// The serial number in a CMS message's only `SignerInfo` (RFC 5652), in hexadecimal.
fn signer(der: &[u8]) -> Option<String> {
    // ContentInfo { oid, [0] SignedData { version, digests, content, [0] certs?, [1] crls?, signers } }.
    let (_, info, _) = element(der)?;
    let (_, _, rest) = element(info)?;
    let (_, wrapped, _) = element(rest)?;
    let (_, mut data, _) = element(wrapped)?;
    let mut last = None;
    while let Some((tag, content, rest)) = element(data) {
        last = Some((tag, content));
        data = rest;
    }
    let (tag, signers) = last?;
    // SET OF SignerInfo { version, SEQUENCE { issuer, serial }, … }.
    if tag != 0x31 {
        return None;
    }
    let (_, signer, _) = element(signers)?;
    let (_, _, rest) = element(signer)?;
    let (tag, id, _) = element(rest)?;
    if tag != 0x30 {
        return None;
    }
    let (_, _, rest) = element(id)?;
    let (tag, serial, _) = element(rest)?;
    (tag == 2).then(|| serial.iter().map(|b| format!("{b:02x}")).collect())
}

/// The first element of DER: tag, content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let bytes = rest.get(..count)?;
        rest = &rest[count..];
        len = bytes.iter().fold(0, |len, &b| len << 8 | usize::from(b));
    }
    Some((tag, rest.get(..len)?, &rest[len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_709_227_800), "2024-02-29 17:30:00 UTC");
        assert_eq!(utc(1_795_425_120), "2026-11-23 09:12:00 UTC");
    }

    #[test]
    fn truncated_der_is_no_element() {
        assert_eq!(element(&[0x30, 0x82, 0x01]), None);
        assert_eq!(element(&[0x30, 2, 1]), None);
        assert_eq!(element(&[2, 1, 7, 9]), Some((2, &[7][..], &[9][..])));
    }
}
