// SPDX-License-Identifier: GPL-2.0

//! Builds payloads for little modules that the host's compiler makes from `module/`: `mini`, of two units
//! that have names in common, depends on `helper`, and not on `stranger`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use kcare_build::emit::{emit, About, Emitted};
use kcare_build::image::{Image, ImageId, Images, VMLINUX};
use kcare_build::inspect::Summary;
use kcare_build::kernel::Kernel;
use kcare_build::module::{place, Module};
use kcare_build::obj::{Layout, Obj};
use kcare_build::preimage::preimage;
use kcare_build::renames::Renames;
use kcare_build::select::Selector;
use kcare_build::unit::UnitState;
use kcare_build::verify::verify;
use kcare_build::verify_module::verify_module;
use kcare_build::vmlinux::Vmlinux;
use kcare_payload::bundle::Bundle;
use kcare_payload::check::Payload;
use kcare_payload::layout::{
    FLAG_ALL_AT_ONCE, FLAG_TEXT_ESCAPES, MASK_ANY, MASK_MATCH, OBJECT_OUTER, REGION_PERCPU,
};

const FLAGS: &[&str] = &[
    "-O2",
    "-ffreestanding",
    "-fcf-protection=branch",
    "-mcmodel=kernel",
    "-fno-pic",
    "-fno-pie",
    "-mno-red-zone",
    "-mno-sse",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
    "-fno-common",
    "-fpatchable-function-entry=16,16",
    "-Wall",
    "-Wno-missing-prototypes",
];
const TRACED: &[&str] = &["-pg", "-mfentry", "-mrecord-mcount"];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A prepared kernel's directory with one vmlinux and three modules.
struct Little {
    dir: PathBuf,
    kernel: Kernel,
}

impl Little {
    fn new(name: &str) -> Result<Option<Self>> {
        for tool in ["gcc", "ld"] {
            if Command::new(tool).arg("--version").output().is_err() {
                println!("skipped: this machine has no {tool}");
                return Ok(None);
            }
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("module-{name}"));
        let modules = dir.join("modules/lib/modules/7.0-mini");
        for folder in [&modules, &dir.join("source"), &dir.join("build")] {
            fs::create_dir_all(folder)?;
        }
        fs::write(dir.join("build/.config"), "")?;
        fs::write(
            dir.join("release.env"),
            "REL='7.0-mini'\nVERSION='7.0-1'\nBUILD_ID='00'\n",
        )?;
        fs::write(
            modules.join("modules.dep"),
            "mini.ko: helper.ko\nhelper.ko:\nstranger.ko:\n",
        )?;
        fs::write(
            dir.join("Module.symvers"),
            "0x0\tsay\tvmlinux\tEXPORT_SYMBOL\t\n0x0\thelped\tx/helper\tEXPORT_SYMBOL\t\n\
             0x0\tstrange\tx/stranger\tEXPORT_SYMBOL\t\n",
        )?;
        fs::write(dir.join("vmlinux"), "")?;
        let this = Little {
            kernel: Kernel::find(dir.to_str().context("path")?, Some(Path::new("env")))?,
            dir,
        };
        let core = sources().join("../mini/core.c");
        this.compile(&core, "core.o", &[])?;
        this.compile(
            &sources().join("kernel.c"),
            "kernel.o",
            &[TRACED, &["-DFIX=0"]],
        )?;
        run(Command::new("ld")
            .args(["--build-id=sha1", "--no-warn-rwx-segments", "-T"])
            .arg(sources().join("../mini/link.ld"))
            .arg("-o")
            .arg(this.dir.join("vmlinux"))
            .args([this.dir.join("core.o"), this.dir.join("kernel.o")]))?;
        this.module("mini", "helper", &[("first.c", ""), ("second.c", "")])?;
        this.module("helper", "", &[("other.c", "-DOF_HELPER")])?;
        this.module("stranger", "", &[("other.c", "-DOF_STRANGER")])?;
        Ok(Some(this))
    }

    fn compile(&self, source: &Path, object: &str, more: &[&[&str]]) -> Result<()> {
        run(Command::new("gcc")
            .args(FLAGS)
            .args(more.concat())
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(self.dir.join(object)))
    }

    /// Joins units as the kernel's build does, in two steps, and throws away what `strip` would.
    fn module(&self, name: &str, depends: &str, units: &[(&str, &str)]) -> Result<()> {
        let info = format!(
            "asm(\".pushsection .modinfo,\\\"a\\\"\\n.asciz \\\"name={name}\\\"\\n\
             .asciz \\\"depends={depends}\\\"\\n.popsection\");\n"
        );
        let source = self.dir.join(format!("{name}.mod.c"));
        fs::write(&source, info)?;
        self.compile(&source, &format!("{name}.mod.o"), &[])?;
        let mut objects = Vec::new();
        for (unit, define) in units {
            let object = format!("{name}-{unit}.o");
            let defines: Vec<&str> = ["-DFIX=0", define]
                .into_iter()
                .filter(|d| !d.is_empty())
                .collect();
            self.compile(&sources().join(unit), &object, &[TRACED, &defines])?;
            objects.push(self.dir.join(object));
        }
        let joined = self.dir.join(format!("{name}.o"));
        run(Command::new("ld")
            .args(["-r", "-o"])
            .arg(&joined)
            .args(objects))?;
        run(Command::new("ld")
            .args(["-r", "--build-id=sha1", "-T"])
            .arg(sources().join("module.ld"))
            .arg("-o")
            .arg(self.module_path(name))
            .args([joined, self.dir.join(format!("{name}.mod.o"))]))?;
        run(Command::new("strip")
            .arg("--strip-debug")
            .arg(self.module_path(name)))
    }

    fn module_path(&self, name: &str) -> PathBuf {
        self.dir
            .join(format!("modules/lib/modules/7.0-mini/{name}.ko"))
    }

    fn images(&self) -> Result<Images> {
        Ok(Images::from(Vmlinux::open(&self.dir.join("vmlinux"))?))
    }

    /// Compiles a unit in all ways and compares it; `module` is empty for vmlinux.
    fn state(
        &self,
        images: &mut Images,
        module: &str,
        unit: &str,
        fix: u32,
    ) -> Result<(ImageId, UnitState)> {
        let (old, new) = ("-DFIX=0".to_owned(), format!("-DFIX={fix}"));
        let define = format!("-DOF_{}", module.to_uppercase());
        let object = |name: &str, fix: &str, split: bool| -> Result<Obj> {
            let name = format!("{module}-{unit}-{name}.o");
            let mut flags = vec![fix, &define];
            if split {
                flags.extend(["-ffunction-sections", "-fdata-sections"]);
            }
            self.compile(&sources().join(unit), &name, &[TRACED, &flags])?;
            let layout = if split { Layout::Split } else { Layout::Joint };
            Obj::read(&self.dir.join(name), &sources(), layout)
        };
        let exact = object("exact", &old, false)?;
        let (id, placement) = match module {
            "" => {
                let placement = verify(&exact, unit, &images.vmlinux)?;
                (VMLINUX, placement.context("not part of vmlinux")?)
            }
            name => {
                let id = images.load(&self.kernel, name)?;
                let module = images.module(id).context("no module")?;
                (id, verify_module(&exact, unit, module)?)
            }
        };
        let state = UnitState::new(
            unit,
            id,
            placement,
            exact,
            &object("exact-new", &new, false)?,
            object("split", &old, true)?,
            object("new", &new, true)?,
            &Renames::default(),
        )?;
        Ok((id, state))
    }

    fn mini(&self) -> Result<Module> {
        Module::parse(&fs::read(self.module_path("mini"))?)
    }

    fn exact(&self, unit: &str) -> Result<Obj> {
        Obj::read(
            &self.dir.join(format!("mini-{unit}.o")),
            &sources(),
            Layout::Joint,
        )
    }
}

fn about() -> About {
    About {
        not_after: None,
        floor: None,
        all_at_once: false,
        text_is_quiet: false,
        level: 7,
        time: 1_795_425_120,
        release: "7.0-mini".to_owned(),
        description: "7;mini".to_owned(),
        fixes: vec![("CVE-2026-99999".to_owned(), "mini: an answer".to_owned())],
    }
}

fn funcs(payload: &Payload<'_>) -> Vec<String> {
    let names = payload.funcs().map(|f| payload.string(f.name).to_owned());
    names.collect()
}

#[test]
fn names_in_common_are_told_apart() {
    let Some(little) = Little::new("names").unwrap() else {
        return;
    };
    let module = little.mini().unwrap();
    let one = verify_module(&little.exact("first.c").unwrap(), "first.c", &module).unwrap();
    let two = verify_module(&little.exact("second.c").unwrap(), "second.c", &module).unwrap();
    for name in ["step", "count", "warned"] {
        let (a, b) = (one.addr[name].0, two.addr[name].0);
        assert!(a < b, "{name}: {a:#x} {b:#x}");
        assert_eq!(place(a).0, place(b).0, "{name}");
        assert!(module.named(name).any(|s| s.addr == a));
        assert!(module.named(name).any(|s| s.addr == b));
    }
    assert_eq!((one.functions, two.functions), (2, 2));
    assert!(one.references >= 8, "{}", one.references);
}

#[test]
fn one_byte_or_one_reference_of_a_module_is_noticed() {
    let Some(little) = Little::new("byte").unwrap() else {
        return;
    };
    let exact = little.exact("second.c").unwrap();
    let module = little.mini().unwrap();
    let placement = verify_module(&exact, "second.c", &module).unwrap();
    let (sec, off) = place(placement.addr["second"].0);

    let mut other = little.mini().unwrap();
    // Behind ENDBR and the call of fentry.
    other.sections[sec].data[off as usize + 9] ^= 1;
    let error = format!(
        "{:#}",
        verify_module(&exact, "second.c", &other).unwrap_err()
    );
    assert!(error.contains("`second` differs: byte 0x9 is"), "{error}");

    let mut other = little.mini().unwrap();
    let (count, place_of) = place(placement.addr["count"].0);
    let reference = other.sections[sec]
        .rels
        .iter_mut()
        .rfind(|r| matches!(r.value, kcare_build::module::Value::Place(s, _) if s == count))
        .unwrap();
    reference.value = kcare_build::module::Value::Place(count, place_of as i64 + 64);
    let error = format!(
        "{:#}",
        verify_module(&exact, "second.c", &other).unwrap_err()
    );
    assert!(error.contains("`step` differs"), "{error}");

    let mut other = little.mini().unwrap();
    other.sections[count].data[place_of as usize] ^= 1;
    let error = format!(
        "{:#}",
        verify_module(&exact, "second.c", &other).unwrap_err()
    );
    assert!(error.contains("`count` differs"), "{error}");
}

#[test]
fn a_fix_of_vmlinux_and_two_units_becomes_a_payload_with_a_part() {
    let Some(little) = Little::new("part").unwrap() else {
        return;
    };
    let mut images = little.images().unwrap();
    let states: Vec<UnitState> = [("", "kernel.c"), ("mini", "first.c"), ("mini", "second.c")]
        .into_iter()
        .map(|(module, unit)| little.state(&mut images, module, unit, 1).unwrap().1)
        .collect();
    let renames = Renames::default();
    let selector = Selector::run(&states, &images, &renames).unwrap();
    assert!(
        selector.selection.refusals.is_empty(),
        "{:?}",
        selector.selection.refusals
    );
    let preimages: Vec<_> = selector
        .selection
        .redirects
        .iter()
        .map(|r| {
            let state = &states[r.key.0];
            preimage(r, &state.exact, state.image, images.get(state.image)).unwrap()
        })
        .collect();
    let emitted = emit(&states, &selector, &images, &preimages, &about()).unwrap();
    assert!(emitted == emit(&states, &selector, &images, &preimages, &about()).unwrap());

    let bundle = Bundle::parse(&emitted.bytes).unwrap();
    assert_eq!(funcs(bundle.outer()), ["greet"]);
    let part = bundle.part("mini").unwrap().payload;
    assert_eq!(funcs(&part), ["first", "second"]);
    let objects: Vec<&str> = part.objects().map(|o| part.string(o.name)).collect();
    assert_eq!(objects, ["vmlinux", "helper", "mini"]);
    let module = little.mini().unwrap();
    let own = part.object(part.target()).unwrap();
    assert_eq!(own.id(), module.build_id);
    assert_eq!(u64::from(own.note), module.build_id_spot.offset);

    // Each reference by name: object, region, and the offset that the module's symbols tell.
    let externs: BTreeMap<&str, (u32, u32, u64)> = part
        .externs()
        .map(|e| {
            let name = part.symbol(e.symbol).unwrap().name;
            (name, (e.object, e.region, e.offset))
        })
        .collect();
    for (name, region) in [("count", 1), ("hits", REGION_PERCPU), ("limit", 3)] {
        let &(object, found, offset) = &externs[name];
        assert_eq!((object, found), (2, region), "{name}");
        let spots: Vec<u64> = module
            .named(name)
            .map(|s| module.spot(s.addr).unwrap().offset)
            .collect();
        assert!(
            spots.contains(&offset),
            "{name}: {offset:#x}, not {spots:x?}"
        );
    }
    assert_eq!((externs["helped"].0, externs["helped"].1), (1, 0));
    assert_eq!(externs["say"].0, 0);
    assert_eq!(externs["kernel_news"].0, OBJECT_OUTER);
    // What is new or changed in the other unit is in the same part.
    for inside in ["second", "second_news"] {
        assert!(!externs.contains_key(inside), "{inside}");
    }

    for func in part.funcs() {
        let (code, mask) = part.preimage(&func);
        let name = part.string(func.name);
        let symbol = module.named(name).next().unwrap();
        let (sec, off) = place(symbol.addr);
        assert_eq!(code, module.read_addr(symbol.addr, symbol.size).unwrap());
        assert_eq!(func.offset, module.spot(symbol.addr).unwrap().offset);
        // What the module's loader relocates is not compared, and something is.
        for rel in module.rels(sec, off, off + symbol.size) {
            let at = (rel.off - off) as usize;
            assert_eq!(mask[at..at + 4], [MASK_ANY; 4], "{name}+{at:#x}");
        }
        assert!(mask.contains(&MASK_MATCH), "{name}");
    }
}

/// A fix of vmlinux's unit and of `first.c`.
fn fix_of_two(little: &Little, fix: u32, about: &About) -> Result<Emitted> {
    let mut images = little.images()?;
    let states = [("", "kernel.c"), ("mini", "first.c")]
        .into_iter()
        .map(|(module, unit)| Ok(little.state(&mut images, module, unit, fix)?.1))
        .collect::<Result<Vec<UnitState>>>()?;
    let renames = Renames::default();
    let selector = Selector::run(&states, &images, &renames)?;
    let refusals = &selector.selection.refusals;
    ensure!(refusals.is_empty(), "{refusals:?}");
    let preimages = selector
        .selection
        .redirects
        .iter()
        .map(|r| {
            let state = &states[r.key.0];
            preimage(r, &state.exact, state.image, images.get(state.image))
        })
        .collect::<Result<Vec<_>>>()?;
    emit(&states, &selector, &images, &preimages, about)
}

#[test]
fn flags_of_a_payload_and_of_its_part() {
    let Some(little) = Little::new("flags").unwrap() else {
        return;
    };
    // Of the payload, of its part, and what is told.
    let flags = |fix: u32, about: &About| {
        let emitted = fix_of_two(&little, fix, about).unwrap();
        let bundle = Bundle::parse(&emitted.bytes).unwrap();
        let part = bundle.part("mini").unwrap().payload;
        let summary = Summary::new(&emitted.bytes).unwrap();
        let manifests = [bundle.outer().manifest(), part.manifest()];
        assert_eq!(summary.all_at_once, manifests[0].all_at_once());
        assert_eq!(
            [
                summary.body.text_escapes,
                summary.parts[0].body.text_escapes
            ],
            manifests.map(|m| m.text_escapes())
        );
        let remarks: Vec<String> = emitted.escapes.iter().map(|e| e.remark(false)).collect();
        (manifests.map(|m| m.flags), remarks)
    };
    assert_eq!(flags(6, &about()), ([0, 0], vec![]));
    assert_eq!(
        flags(4, &about()),
        (
            [FLAG_TEXT_ESCAPES, 0],
            vec!["the address of `kernel_news` is taken (by `mini:first`): the patch's code stays in memory after an unload".to_owned()]
        )
    );
    let all_at_once = About {
        all_at_once: true,
        ..about()
    };
    assert_eq!(
        flags(5, &all_at_once),
        (
            [FLAG_ALL_AT_ONCE, FLAG_ALL_AT_ONCE | FLAG_TEXT_ESCAPES],
            vec!["the address of `own_news` is taken (by `first`): the patch's code for the module mini stays in memory after an unload".to_owned()]
        )
    );
    let quiet = About {
        text_is_quiet: true,
        ..about()
    };
    let error = fix_of_two(&little, 5, &quiet).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "`--text-is-quiet` wants a post_unpatch callback for the module mini, which sees to it that nothing calls the \
             patch's code any more: the address of `own_news` is taken (by `first`)"
        ),
        "{error}"
    );
}

#[test]
fn what_a_module_does_not_depend_on_is_refused() {
    let Some(little) = Little::new("foreign").unwrap() else {
        return;
    };
    let mut images = little.images().unwrap();
    let (_, first) = little.state(&mut images, "mini", "first.c", 2).unwrap();
    let refused = |states: &[UnitState], images: &Images| -> Vec<String> {
        let renames = Renames::default();
        let selector = Selector::run(states, images, &renames).unwrap();
        let refusals = selector.selection.refusals.iter();
        refusals
            .map(|r| format!("{}: {}", r.name, r.reason))
            .collect()
    };
    assert_eq!(
        refused(&[first], &images),
        ["first: refers to `strange` of the module stranger, which mini does not depend on"]
    );

    let mut images = little.images().unwrap();
    let (_, other) = little.state(&mut images, "stranger", "other.c", 3).unwrap();
    let (_, first) = little.state(&mut images, "mini", "first.c", 3).unwrap();
    assert_eq!(
        refused(&[other, first], &images),
        ["first: refers to `stranger`, which the fix adds to the module stranger; only what it adds to vmlinux \
          can be used in a module"]
    );
}
