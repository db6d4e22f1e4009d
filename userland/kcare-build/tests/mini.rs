// SPDX-License-Identifier: GPL-2.0

//! Builds payloads for a little kernel that the host's compiler makes: each C file in `mini/` is one
//! unit, before the patch and (with `PATCHED` defined) after it, and says in `//#` lines what is expected.
//!
//! * `Func:` exactly these functions are redirected
//! * `Extern:` these symbols are among the externals
//! * `New:` these are defined in the payload
//! * `Same:` these are not touched
//! * `Cold:` these have a cold part in the original
//! * `Nothing` nothing changed
//! * `Callback:` exactly these functions are called around a switch, `pre_patch=function`
//! * `State:` exactly these states are declared, `0x1=version`
//! * `Escapes:` exactly of these functions the address is taken, `function=user,user`
//! * `Note:` a remark that starts so is made; may be repeated
//! * `Refused:` a refusal starts so
//! * `Error:` it cannot be compiled or compared, and the error says so

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use kcare_build::author::{write_headers, When};
use kcare_build::debug::{self, companion, Sources};
use kcare_build::debuginfo::{place, DebugInfo};
use kcare_build::delta::{Delta, Fate, Role};
use kcare_build::emit::{emit, About, Emitted};
use kcare_build::image::{Images, VMLINUX};
use kcare_build::insn::ENDBR64;
use kcare_build::obj::{Layout, Obj};
use kcare_build::preimage::preimage;
use kcare_build::renames::Renames;
use kcare_build::select::Selector;
use kcare_build::unit::UnitState;
use kcare_build::verify::verify;
use kcare_build::vmlinux::Vmlinux;
use kcare_payload::check::Payload;
use kcare_payload::layout::{MASK_ANY, MASK_MATCH};
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSymbol, SymbolKind};

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
    "-fno-jump-tables",
    "-fpatchable-function-entry=16,16",
    "-Wall",
    "-Wno-missing-prototypes",
];
const TRACED: &[&str] = &["-pg", "-mfentry", "-mrecord-mcount"];
const SPLIT: &[&str] = &[
    "-ffunction-sections",
    "-fdata-sections",
    "-gdwarf-5",
    "-fno-var-tracking",
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mini")
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

fn compile(source: &Path, object: &Path, more: &[&[&str]]) -> Result<()> {
    let mut gcc = Command::new("gcc");
    gcc.args(FLAGS).args(more.iter().copied().flatten());
    gcc.arg("-I").arg(object.with_file_name("include"));
    gcc.arg("-I").arg(sources().join("include"));
    run(gcc.arg("-c").arg(source).arg("-o").arg(object))
}

/// Whether the host has the tools; says what is missing.
fn tools() -> bool {
    for tool in ["gcc", "ld"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("skipped: this machine has no {tool}");
            return false;
        }
    }
    true
}

/// The four compilations of a unit, and the kernel that the first one is linked into.
struct Mini {
    name: String,
    dir: PathBuf,
}

impl Mini {
    /// Compiles a unit in a folder of the test.
    fn new(test: &str, name: &str) -> Result<Self> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test).join(name);
        write_headers(&dir.join("include"))?;
        let this = Mini {
            name: format!("{name}.c"),
            dir,
        };
        let patched: &[&str] = &["-DPATCHED"];
        for (object, more) in [
            ("exact.o", &[TRACED][..]),
            ("exact-patched.o", &[TRACED, patched]),
            ("split.o", &[TRACED, SPLIT]),
            ("patched.o", &[TRACED, SPLIT, patched]),
        ] {
            compile(&sources().join(&this.name), &this.dir.join(object), more)?;
        }
        compile(&sources().join("core.c"), &this.dir.join("core.o"), &[])?;
        this.link(&[&this.dir.join("exact.o")])?;
        Ok(this)
    }

    fn link(&self, objects: &[&Path]) -> Result<()> {
        run(Command::new("ld")
            .args(["--build-id=sha1", "--no-warn-rwx-segments", "-T"])
            .arg(sources().join("link.ld"))
            .arg("-o")
            .arg(self.dir.join("vmlinux"))
            .arg(self.dir.join("core.o"))
            .args(objects))
    }

    fn object(&self, name: &str, layout: Layout) -> Result<Obj> {
        Obj::read(&self.dir.join(name), &sources(), layout)
    }

    fn vmlinux(&self) -> Result<Vmlinux> {
        Vmlinux::open(&self.dir.join("vmlinux"))
    }

    fn state(&self, vmlinux: &Vmlinux) -> Result<UnitState> {
        let exact = self.object("exact.o", Layout::Joint)?;
        let placement = verify(&exact, &self.name, vmlinux)?.context("not part of the kernel")?;
        UnitState::new(
            &self.name,
            VMLINUX,
            placement,
            exact,
            &self.object("exact-patched.o", Layout::Joint)?,
            self.object("split.o", Layout::Split)?,
            self.object("patched.o", Layout::Split)?,
            &Renames::default(),
        )
    }
}

/// The payload of the patched unit, or, with `define` (`PATCHED=2`), of another patch for the same kernel.
fn payload_of(mini: &Mini, define: Option<&str>) -> Result<Vec<u8>> {
    Ok(emitted_of(mini, define, &about())?.bytes)
}

fn emitted_of(mini: &Mini, define: Option<&str>, about: &About) -> Result<Emitted> {
    if let Some(define) = define {
        let define = format!("-D{define}");
        let patched: &[&str] = &[&define];
        let source = sources().join(&mini.name);
        compile(
            &source,
            &mini.dir.join("exact-patched.o"),
            &[TRACED, patched],
        )?;
        compile(
            &source,
            &mini.dir.join("patched.o"),
            &[TRACED, SPLIT, patched],
        )?;
    }
    let vmlinux = mini.vmlinux()?;
    let states = [mini.state(&vmlinux)?];
    let images = Images::from(vmlinux);
    let renames = Renames::default();
    let selector = Selector::run(&states, &images, &renames)?;
    let preimages = selector
        .selection
        .redirects
        .iter()
        .map(|r| preimage(r, &states[0].exact, VMLINUX, &images.vmlinux))
        .collect::<Result<Vec<_>>>()?;
    emit(&states, &selector, &images, &preimages, about)
}

/// Checks that the debug companion has a line of the source for each instruction of each function.
fn check_companion(emitted: &Emitted, mini: &Mini) -> Result<()> {
    let unit = debug::Unit {
        source: mini.name.clone(),
        object: mini.dir.join("patched.o"),
        plain: false,
    };
    let sources = Sources {
        roots: vec![sources()],
        ..Sources::default()
    };
    let companion = companion(emitted, &[unit], &sources)?;
    let info = DebugInfo::read(&companion)?;
    let dwarf = info.dwarf()?;
    let mut lines = Vec::new();
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        ensure!(
            unit.name.is_some_and(|n| n.slice() == mini.name.as_bytes()),
            "name of the unit"
        );
        let mut rows = unit.line_program.context("no lines")?.rows();
        let mut last = None;
        while let Some((_, row)) = rows.next_row()? {
            lines.extend(last.map(|start: u64| start..row.address()));
            last = (!row.end_sequence()).then_some(row.address());
        }
    }
    let file = ElfFile64::<LittleEndian>::parse(&*companion)?;
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text) {
        let name = symbol.name()?;
        if name.starts_with("redirect.") || name.starts_with("thunk.") {
            continue;
        }
        let section = symbol.section_index().context("an undefined function")?;
        let start = place(section.0, symbol.address());
        let mut at = start;
        while at < start + symbol.size() {
            let line = lines.iter().find(|line| line.contains(&at));
            at = line
                .with_context(|| format!("`{name}` has no line at {:#x}", at - start))?
                .end;
        }
    }
    Ok(())
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

/// What a unit's `//#` line says about a key; `None` if there is no such line.
fn expected(text: &str, key: &str) -> Option<String> {
    all_expected(text, key).next().map(str::to_owned)
}

/// What all of a unit's `//#` lines say about a key.
fn all_expected<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(move |l| l.strip_prefix("//#")?.strip_prefix(key))
        .map(|rest| rest.trim_start_matches(':').trim())
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn check(name: &str) -> Result<()> {
    let text = std::fs::read_to_string(sources().join(format!("{name}.c")))?;
    let mini = Mini::new("units", name);
    if let Some(wanted) = expected(&text, "Error") {
        let result = mini.and_then(|mini| mini.state(&mini.vmlinux()?));
        let error = format!("{:#}", result.err().context("no error")?);
        ensure!(error.contains(&wanted), "expected `{wanted}`, got {error}");
        return Ok(());
    }
    let mini = mini?;
    let vmlinux = mini.vmlinux()?;
    let states = [mini.state(&vmlinux)?];
    for (old, new) in states[0].diff.pairs.all() {
        let function = states[0].new.local_to(new);
        ensure!(
            states[0].old.local_to(old) == function,
            "`{}` of {function:?} is paired with that of another function",
            states[0].new.items[new].name
        );
    }
    let images = Images::from(vmlinux);
    let vmlinux = &images.vmlinux;
    let renames = Renames::default();
    let selector = Selector::run(&states, &images, &renames)?;
    let selection = &selector.selection;
    for note in all_expected(&text, "Note") {
        ensure!(
            selection.notes.iter().any(|n| n.starts_with(note)),
            "expected note `{note}`, got {:?}",
            selection.notes
        );
    }

    let refusals: Vec<String> = selection
        .refusals
        .iter()
        .map(|r| format!("{}: {}", r.name, r.reason))
        .collect();
    if let Some(refused) = expected(&text, "Refused") {
        ensure!(
            refusals.iter().any(|r| r.starts_with(&refused)),
            "expected `{refused}`, got {refusals:?}"
        );
        return Ok(());
    }
    ensure!(refusals.is_empty(), "refused: {refusals:?}");
    if expected(&text, "Nothing").is_some() {
        ensure!(
            selection.redirects.is_empty(),
            "changed: {:?}",
            selection.why
        );
        return Ok(());
    }

    let preimages = selection
        .redirects
        .iter()
        .map(|r| preimage(r, &states[0].exact, VMLINUX, vmlinux))
        .collect::<Result<Vec<_>>>()?;
    let emitted = emit(&states, &selector, &images, &preimages, &about())?;
    let again = emit(&states, &selector, &images, &preimages, &about())?;
    ensure!(emitted == again, "the same input gives other bytes");
    check_companion(&emitted, &mini)?;
    let payload = Payload::parse(&emitted.bytes).map_err(|e| anyhow::anyhow!("{e}"))?;
    ensure!(
        payload.level() == 7 && payload.release() == "7.0-mini",
        "manifest"
    );

    let funcs: BTreeSet<String> = payload
        .funcs()
        .map(|f| payload.string(f.name).to_owned())
        .collect();
    ensure!(
        Some(&funcs) == expected(&text, "Func").map(|f| words(&f)).as_ref(),
        "redirects {funcs:?}"
    );
    let symbols: Vec<_> = payload.symbols().collect();
    let named = |undefined: bool| -> BTreeSet<String> {
        let list = symbols.iter().filter(|s| s.is_undefined() == undefined);
        list.map(|s| s.name.to_owned()).collect()
    };
    let (defined, externs) = (named(false), named(true));
    let subset = |key: &str, of: &BTreeSet<String>| -> Result<()> {
        let wanted = words(&expected(&text, key).unwrap_or_default());
        ensure!(
            wanted.is_subset(of),
            "{key}: {wanted:?} are not all in {of:?}"
        );
        Ok(())
    };
    subset("Extern", &externs)?;
    subset("New", &defined)?;
    for same in words(&expected(&text, "Same").unwrap_or_default()) {
        ensure!(!defined.contains(&same), "`{same}` is in the payload");
    }
    let callbacks: BTreeSet<String> = payload
        .callbacks()
        .map(|c| {
            let when = When::of_kind(c.kind).map_or("unknown", When::name);
            format!("{when}={}", payload.symbol(c.symbol).map_or("", |s| s.name))
        })
        .collect();
    ensure!(
        callbacks == words(&expected(&text, "Callback").unwrap_or_default()),
        "callbacks {callbacks:?}"
    );
    let states_of: BTreeSet<String> = payload
        .states()
        .map(|s| format!("{:#x}={}", s.id, s.version))
        .collect();
    ensure!(
        states_of == words(&expected(&text, "State").unwrap_or_default()),
        "states {states_of:?}"
    );
    let escapes: BTreeSet<String> = emitted
        .escapes
        .iter()
        .flat_map(|escape| &escape.users)
        .map(|(name, users)| {
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            format!("{name}={}", users.join(","))
        })
        .collect();
    ensure!(
        escapes == words(&expected(&text, "Escapes").unwrap_or_default()),
        "escapes {escapes:?}"
    );
    ensure!(
        payload.manifest().text_escapes() != escapes.is_empty(),
        "the flag is another than {escapes:?}"
    );
    let cold: BTreeSet<String> = payload
        .funcs()
        .filter(|f| f.cold_size != 0)
        .map(|f| payload.string(f.name).to_owned())
        .collect();
    ensure!(
        cold == words(&expected(&text, "Cold").unwrap_or_default()),
        "cold parts of {cold:?}"
    );
    check_code(&payload, &states[0], vmlinux)
}

/// The payload's code is the patched object's, and its pre-images are vmlinux's code.
fn check_code(payload: &Payload<'_>, state: &UnitState, vmlinux: &Vmlinux) -> Result<()> {
    for symbol in payload.symbols().filter(|s| s.size > 0) {
        let Some(section) = symbol.section().and_then(|s| payload.section(s)) else {
            continue;
        };
        if symbol.name.starts_with("thunk.") {
            let code = &section.data[symbol.value as usize..][..symbol.size as usize];
            let wanted = [0xf3, 0x0f, 0x1e, 0xfa, 0xe9, 0, 0, 0, 0, 0xcc];
            ensure!(code == wanted, "`{}` is {code:02x?}", symbol.name);
            continue;
        }
        let Some(id) = state.new.by_name(symbol.name) else {
            ensure!(
                symbol.name.starts_with("redirect."),
                "`{}` comes from nowhere",
                symbol.name
            );
            continue;
        };
        if !section.is_exec() {
            continue;
        }
        let start = symbol.value as usize;
        let code = section.data[start..start + symbol.size as usize].to_vec();
        let mut wanted = state.new.bytes(id).to_vec();
        // Fields that are relocated are zero in a payload.
        for rel in state.new.rels(id) {
            let at = (rel.off - state.new.items[id].start) as usize;
            wanted[at..at + 4].fill(0);
        }
        ensure!(code == wanted, "the code of `{}` differs", symbol.name);
    }
    for func in payload.funcs() {
        let (image, mask) = payload.preimage(&func);
        let code = vmlinux.read_addr(vmlinux.text + func.offset, u64::from(func.size))?;
        ensure!(image == code, "pre-image");
        let fentry = func.fentry as usize;
        let behind = if image.starts_with(&ENDBR64) { 4 } else { 0 };
        ensure!(fentry == behind, "fentry behind ENDBR");
        ensure!(
            mask[fentry..fentry + 5] == [MASK_ANY; 5],
            "fentry is not free"
        );
        ensure!(
            mask[..fentry].iter().all(|&m| m == MASK_MATCH),
            "ENDBR is not compared"
        );
        ensure!(
            mask[fentry + 5..].contains(&MASK_MATCH),
            "nothing is compared"
        );
    }
    Ok(())
}

#[test]
fn units_give_the_payloads_that_they_announce() {
    if !tools() {
        return;
    }
    let mut names: Vec<String> = std::fs::read_dir(sources())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| file.strip_suffix(".c").map(str::to_owned))
        .filter(|name| name != "core")
        .collect();
    names.sort();
    assert!(names.len() > 15);
    let failed: Vec<String> = names
        .iter()
        .filter_map(|name| check(name).err().map(|error| format!("{name}: {error:#}")))
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn two_units_cannot_have_the_same_callback() {
    if !tools() {
        return;
    }
    let (first, second) = (
        Mini::new("twice", "callbacks").unwrap(),
        Mini::new("twice", "callback-again").unwrap(),
    );
    let objects = [first.dir.join("exact.o"), second.dir.join("exact.o")];
    first.link(&[&objects[0], &objects[1]]).unwrap();
    let vmlinux = first.vmlinux().unwrap();
    let states = [
        first.state(&vmlinux).unwrap(),
        second.state(&vmlinux).unwrap(),
    ];
    let images = Images::from(vmlinux);
    let renames = Renames::default();
    let selector = Selector::run(&states, &images, &renames).unwrap();
    let refusals: Vec<String> = selector
        .selection
        .refusals
        .iter()
        .map(|r| format!("{}: {}", r.name, r.reason))
        .collect();
    assert_eq!(
        refusals,
        ["restarted: is a second post_patch callback, in callback-again.c; `started` in callbacks.c is \
          the first: let one of them call the other"]
    );
}

#[test]
fn another_compilation_is_not_the_shipped_unit() {
    if !tools() {
        return;
    }
    let mini = Mini::new("other", "cold").unwrap();
    let vmlinux = mini.vmlinux().unwrap();
    // The kernel is linked from what was compiled with other flags.
    compile(
        &sources().join("cold.c"),
        &mini.dir.join("other.o"),
        &[TRACED, &["-O1"]],
    )
    .unwrap();
    let other = mini.object("other.o", Layout::Joint).unwrap();
    let error = format!("{:#}", verify(&other, "cold.c", &vmlinux).unwrap_err());
    assert!(
        error.contains("is this the kernel's compiler and configuration?"),
        "{error}"
    );
}

#[test]
fn one_byte_in_vmlinux_is_noticed() {
    if !tools() {
        return;
    }
    let mini = Mini::new("byte", "inlined").unwrap();
    let vmlinux = mini.vmlinux().unwrap();
    let exact = mini.object("exact.o", Layout::Joint).unwrap();
    let (addr, size) = verify(&exact, "inlined.c", &vmlinux).unwrap().unwrap().addr["answer"];
    let path = mini.dir.join("vmlinux");
    let mut bytes = std::fs::read(&path).unwrap();
    let code = vmlinux.read_addr(addr, size).unwrap();
    let at = bytes.windows(code.len()).position(|w| w == code).unwrap();
    // The last instruction is the return, which no relocation covers.
    bytes[at + code.len() - 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = verify(&exact, "inlined.c", &mini.vmlinux().unwrap()).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.starts_with("function `answer` of inlined.c does not compile"),
        "{error}"
    );
    assert!(
        error.contains(&format!("byte {:#x}", code.len() - 1)),
        "{error}"
    );
}

#[test]
fn the_author_may_say_that_nothing_calls_the_code_any_more() {
    if !tools() {
        return;
    }
    let quiet = About {
        text_is_quiet: true,
        ..about()
    };
    let of = |unit: &str| emitted_of(&Mini::new("quiet", unit).unwrap(), None, &quiet);

    let emitted = of("escapes").unwrap();
    let payload = Payload::parse(&emitted.bytes).unwrap();
    assert!(!payload.manifest().text_escapes());
    let [escape] = emitted.escapes.as_slice() else {
        panic!("{:?}", emitted.escapes);
    };
    assert_eq!(
        escape.remark(true),
        "the addresses of `expired` (by `answer`, `give_expired`), `itself` (by `itself`), `near` (by `answer`), `shown` (by \
         `operations`), `swapped` (by `answer`), `worked` (by `work`) are taken: --text-is-quiet says that the post_unpatch callback sees to it \
         that nothing calls the patch's code any more, which is freed then"
    );

    let error = of("escapes-thunk").unwrap_err().to_string();
    assert!(
        error.starts_with("`--text-is-quiet` wants a post_unpatch callback, which sees to it"),
        "{error}"
    );
    let error = of("callbacks").unwrap_err().to_string();
    assert!(
        error.starts_with("`--text-is-quiet` decides nothing"),
        "{error}"
    );
}

#[test]
fn a_diff_tells_what_a_level_adds() {
    if !tools() {
        return;
    }
    let mini = Mini::new("levels", "levels").unwrap();
    let first = payload_of(&mini, None).unwrap();
    let second = payload_of(&mini, Some("PATCHED=2")).unwrap();

    let delta = Delta::new(&first, &first).unwrap();
    assert!(delta.is_empty(), "{delta}");
    assert_eq!(delta.objects[0].same, 4, "{delta}");

    let delta = Delta::new(&first, &second).unwrap();
    let items: Vec<_> = delta.objects[0]
        .items
        .iter()
        .map(|c| (c.fate, c.role, c.name.as_str()))
        .collect();
    assert_eq!(
        items,
        [
            (Fate::Changed, Role::Function, "answer"),
            (Fate::Removed, Role::Function, "gone"),
            (Fate::Added, Role::Function, "other"),
            (Fate::Changed, Role::Helper, "helper"),
            (Fate::Added, Role::Variable, "extra"),
            (Fate::Changed, Role::Variable, "limit"),
        ],
        "{delta}"
    );
    // `question` has moved, and so has its string; `count` has another number.
    assert_eq!(delta.objects[0].same, 2, "{delta}");
    let what = |name: &str| {
        let change = delta.objects[0].items.iter().find(|c| c.name == name);
        change.unwrap().what.clone().unwrap()
    };
    assert!(
        what("answer").contains("\"one\" (R_X86_64_32S) -> \"two\""),
        "{delta}"
    );
    assert!(what("limit").ends_with("0x02 -> 0x03"), "{delta}");
    assert!(what("helper").starts_with("size "), "{delta}");

    // The other way round it is the other way round.
    let back = Delta::new(&second, &first).unwrap();
    let fates = |delta: &Delta, fate: Fate| {
        let items = delta.objects[0].items.iter();
        items.filter(|c| c.fate == fate).count()
    };
    for (there, here) in [
        (Fate::Added, Fate::Removed),
        (Fate::Removed, Fate::Added),
        (Fate::Changed, Fate::Changed),
    ] {
        assert_eq!(fates(&delta, there), fates(&back, here), "{back}");
    }

    let other = Mini::new("levels", "inlined").unwrap();
    let error = Delta::new(&first, &payload_of(&other, None).unwrap()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("they are for different kernels"),
        "{error}"
    );
    let error = Delta::new(&first, &second[..100]).unwrap_err();
    assert!(
        error.to_string().starts_with("the second payload: "),
        "{error}"
    );
}

#[test]
fn a_diff_tells_callbacks_and_states() {
    if !tools() {
        return;
    }
    let mini = Mini::new("delta", "states").unwrap();
    let with = payload_of(&mini, None).unwrap();
    let without = payload_of(&mini, Some("PATCHED=2")).unwrap();
    let delta = Delta::new(&without, &with).unwrap();
    assert_eq!(
        delta.states.added,
        ["0x100000001 version 1", "0x2a version 3"]
    );
    assert_eq!(
        delta.objects[0].callbacks.added,
        ["post_unpatch: give_back", "pre_patch: take_over"]
    );
    assert_eq!(delta.objects[0].same, 1, "{delta}");
    assert!(!delta.is_empty() && delta.fixes.is_empty(), "{delta}");
}
