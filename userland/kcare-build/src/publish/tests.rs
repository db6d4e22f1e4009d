// SPDX-License-Identifier: GPL-2.0

//! Trees at made-up times: their levels have records, and no payloads that a kernel would take.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::tree::{check_tree, places};
use super::*;

const KERNEL: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A tree and its keys in a folder of their own.
struct Lab {
    folder: PathBuf,
    start: Time,
}

impl Lab {
    fn new(name: &str) -> Self {
        let name = format!("kcare-publish-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        let start = Time::parse("2026-11-30T12:00:00Z").unwrap();
        let lab = Self { folder, start };
        Keys::make(&lab.common().keys, start).unwrap();
        lab
    }

    fn common(&self) -> Where {
        Where {
            keys: self.folder.join("keys"),
            tree: self.folder.join("tree"),
        }
    }

    fn tree(&self) -> PathBuf {
        self.common().tree
    }

    /// So many hours after the start.
    fn at(&self, hours: i64) -> Time {
        Time::from_unix_seconds(self.start.unix_seconds() + hours * 3600).unwrap()
    }

    fn folder(&self, channel: &str, kernel: &str) -> PathBuf {
        self.tree().join(channel).join(kernel)
    }

    fn add(&self, kernel: &str, level: u32, now: Time) -> Result<()> {
        let keys = Keys::open(&self.common().keys)?;
        let tree = Tree::make(&self.tree())?;
        let place = Place {
            channel: String::new(),
            kernel: kernel.to_owned(),
        };
        check_new_level(&tree, kernel, level)?;
        let before = offer(&tree, &place)?;
        let mut targets = match before {
            Some(offer) => offer.targets,
            None => Targets::new(Common::new(1, now), BTreeMap::new()),
        };
        targets.common = Common::new(tree.next_targets(kernel)?, now.plus_days(365));
        let bytes = format!("level {level}").into_bytes();
        let mut target = Target::of(&bytes);
        target.custom = Some(serde_json::json!({
            "kernel": kernel, "level": level, "release": "r", "build_id": "b", "base": "1", "effective": "1",
            "published": now.to_string(), "fixes": fixes_name(level),
        }));
        targets.targets.insert(payload_name(level), target);
        let signed = sign_targets(&keys, &targets, std::slice::from_ref(&keys.root))?;
        let change = Change {
            place: &place,
            targets: &targets,
            signed_targets: &signed,
            files: BTreeMap::from([(payload_name(level), bytes)]),
            now,
        };
        put(&tree, &keys, &change)
    }

    fn promote(&self, from: &str, to: &str, now: Time) -> Result<()> {
        let args = PromoteArgs {
            common: self.common(),
            from: from.to_owned(),
            to: to.to_owned(),
            kernel: None,
        };
        promote::run(&args, now)
    }

    fn withdraw(&self, level: u32, now: Time) -> Result<()> {
        let args = WithdrawArgs {
            common: self.common(),
            kernel: KERNEL.to_owned(),
            level,
        };
        refresh::withdraw(&args, now)
    }

    fn refresh(&self, targets: bool, now: Time) -> Result<()> {
        let common = self.common();
        refresh::run(&RefreshArgs { common, targets }, now)
    }

    fn targets(&self, channel: &str) -> Targets {
        let place = Place {
            channel: channel.to_owned(),
            kernel: KERNEL.to_owned(),
        };
        read_offer(&self.tree(), &place).unwrap().targets
    }

    fn levels(&self, channel: &str) -> Vec<u32> {
        let records = records(&self.targets(channel)).unwrap();
        records.iter().map(|record| record.level).collect()
    }

    /// Whether the file of each level in the channel can be read.
    fn is_whole(&self, channel: &str) -> bool {
        let targets = self.targets(channel);
        let mut names = targets.targets.keys();
        names.all(|name| read_target(&self.tree(), KERNEL, &targets, name).is_ok())
    }

    /// Makes all files so many hours older.
    fn age(&self, hours: u64) {
        let time = SystemTime::now() - Duration::from_secs(hours * 3600);
        for file in files(&self.tree()) {
            fs::File::options()
                .append(true)
                .open(file)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => out.extend(files(&path)),
            false => out.push(path),
        }
    }
    out
}

fn says(result: Result<()>) -> String {
    result.map_or_else(|error| format!("{error:#}"), |()| "nothing".to_owned())
}

#[test]
fn a_withdrawn_number_is_never_given_again() {
    let lab = Lab::new("numbers");
    for level in [1, 2] {
        lab.add(KERNEL, level, lab.at(0)).unwrap();
    }
    lab.promote("", "slow", lab.at(1)).unwrap();
    lab.add(KERNEL, 3, lab.at(2)).unwrap();
    lab.withdraw(3, lab.at(3)).unwrap();
    // Each channel tells it, also one that has not had the level.
    for channel in ["", "slow"] {
        let told = BTreeMap::from([(3, lab.at(3).to_string())]);
        assert_eq!(lab.targets(channel).withdrawn, told);
        assert_eq!(lab.levels(channel), [1, 2]);
    }
    assert!(says(lab.add(KERNEL, 3, lab.at(4))).contains("build this one as level 4"));
    assert!(says(lab.add(KERNEL, 2, lab.at(4))).contains("build it as level 4"));
    assert!(says(lab.withdraw(3, lab.at(4))).contains("was withdrawn at 2026-11-30T15:00:00Z"));
    assert!(says(lab.withdraw(9, lab.at(4))).contains("no channel offers level 9"));
    lab.add(KERNEL, 4, lab.at(4)).unwrap();
    lab.refresh(true, lab.at(5)).unwrap();
    lab.promote("", "slow", lab.at(5)).unwrap();
    assert_eq!(lab.levels("slow"), [1, 2, 4]);
    assert_eq!(lab.targets("slow").withdrawn.len(), 1);
    // All levels are gone, and their numbers stay taken.
    for level in [1, 2, 4] {
        lab.withdraw(level, lab.at(6)).unwrap();
    }
    assert!(says(lab.add(KERNEL, 4, lab.at(7))).contains("build this one as level 5"));
    assert!(says(lab.add(OTHER, 4, lab.at(7))) == "nothing");
}

#[test]
fn a_slower_channel_can_be_promoted_whatever_was_signed_again() {
    for signed_again in ["nothing", "refresh", "withdraw"] {
        let lab = Lab::new(&format!("again-{signed_again}"));
        lab.add(KERNEL, 1, lab.at(0)).unwrap();
        for (from, to) in [("", "slow"), ("slow", "slower")] {
            lab.promote(from, to, lab.at(0)).unwrap();
        }
        lab.add(KERNEL, 2, lab.at(1)).unwrap();
        lab.promote("", "slow", lab.at(1)).unwrap();
        lab.add(KERNEL, 3, lab.at(2)).unwrap();
        let gone = match signed_again {
            "refresh" => {
                lab.refresh(true, lab.at(3)).unwrap();
                lab.refresh(true, lab.at(4)).unwrap();
                0
            }
            "withdraw" => {
                lab.withdraw(1, lab.at(3)).unwrap();
                1
            }
            _ => 0,
        };
        let all = |highest: u32| (1..=highest).filter(|&l| l != gone).collect::<Vec<_>>();
        assert_eq!(lab.levels("slower"), all(1));
        lab.promote("slow", "slower", lab.at(5)).unwrap();
        assert_eq!(lab.levels("slower"), all(2), "{signed_again}");
        lab.promote("", "slow", lab.at(5)).unwrap();
        assert_eq!(lab.levels("slow"), all(3), "{signed_again}");
        lab.promote("slow", "slower", lab.at(5)).unwrap();
        assert_eq!(lab.levels("slower"), all(3), "{signed_again}");
        let before = lab.targets("slower");
        lab.promote("slow", "slower", lab.at(6)).unwrap();
        assert_eq!(lab.targets("slower"), before);
    }
}

#[test]
fn targets_never_go_back() {
    let lab = Lab::new("back");
    lab.add(KERNEL, 1, lab.at(0)).unwrap();
    lab.promote("", "slow", lab.at(0)).unwrap();
    lab.add(KERNEL, 2, lab.at(1)).unwrap();
    // What an earlier version of this program has done: the slower channel alone was signed again.
    let fast = lab.folder("", KERNEL);
    let aside = lab.folder.join("aside");
    fs::rename(&fast, &aside).unwrap();
    for _ in 0..2 {
        lab.refresh(true, lab.at(2)).unwrap();
    }
    let store = fast.join(TARGETS);
    assert!(fs::read_dir(store).unwrap().next().is_none());
    fs::remove_dir_all(&fast).unwrap();
    fs::rename(&aside, &fast).unwrap();
    let said = says(lab.promote("", "slow", lab.at(3)));
    assert!(said.contains("could not be promoted"), "{said}");
    assert_eq!(lab.levels("slow"), [1]);
    lab.refresh(true, lab.at(4)).unwrap();
    lab.promote("", "slow", lab.at(5)).unwrap();
    assert_eq!(lab.levels("slow"), [1, 2]);
}

#[test]
fn frequent_levels_do_not_hold_up_a_channel_with_a_delay() {
    // Nor does a release key that signs everything again after each.
    for signed_again in [false, true] {
        let lab = Lab::new(&format!("delay-{signed_again}"));
        let promote = |hours| lab.promote("", "12h", lab.at(hours));
        lab.add(KERNEL, 1, lab.at(0)).unwrap();
        promote(1).unwrap();
        assert!(!lab.folder("12h", KERNEL).exists());
        promote(12).unwrap();
        for level in 2..=5 {
            // One in five hours.
            let hours = i64::from(level - 1) * 5 + 10;
            lab.add(KERNEL, level, lab.at(hours)).unwrap();
            if signed_again {
                lab.refresh(true, lab.at(hours)).unwrap();
            }
            promote(hours + 3).unwrap();
            let old =
                (1..=level).filter(|&l| l == 1 || i64::from(l - 1) * 5 + 10 + 12 <= hours + 3);
            assert_eq!(lab.levels("12h"), old.collect::<Vec<_>>(), "at {hours}");
            // What it gets next is kept, whatever its age.
            lab.age(100);
            prune::run(&lab.tree(), 0, SystemTime::now()).unwrap();
            assert!(lab.is_whole("") && lab.is_whole("12h"));
        }
        assert_eq!(lab.levels("12h"), [1, 2, 3]);
        lab.withdraw(2, lab.at(34)).unwrap();
        assert_eq!(lab.levels("12h"), [1, 3]);
        for (hours, levels) in [
            (36, &[1, 3][..]),
            (37, &[1, 3, 4]),
            (41, &[1, 3, 4]),
            (42, &[1, 3, 4, 5]),
        ] {
            promote(hours).unwrap();
            assert_eq!(lab.levels("12h"), levels, "at {hours}");
            assert!(lab.is_whole("12h"));
        }
        lab.promote("", "12H", lab.at(63)).unwrap();
        assert!(!lab.folder("12H", KERNEL).exists());
        // No more documents are kept than the channel may still get.
        for hours in 64..70 {
            lab.refresh(true, lab.at(hours)).unwrap();
        }
        prune::run(&lab.tree(), 0, SystemTime::now()).unwrap();
        let names = tree::names(&lab.folder("", KERNEL)).unwrap();
        let targets = names.iter().filter(|name| name.ends_with(".targets.json"));
        assert_eq!(targets.count(), 1);
    }
}

#[test]
fn a_state_with_a_level_that_is_withdrawn_is_not_promoted() {
    let lab = Lab::new("delay-withdrawn");
    for level in 1..=3 {
        lab.add(KERNEL, level, lab.at(i64::from(level))).unwrap();
    }
    lab.withdraw(2, lab.at(4)).unwrap();
    // Only what was signed afterwards will do, as the first state does not tell what was withdrawn; and level 3 is young.
    lab.promote("", "12h", lab.at(14)).unwrap();
    assert!(!lab.folder("12h", KERNEL).exists());
    lab.promote("", "12h", lab.at(15)).unwrap();
    assert_eq!(lab.levels("12h"), [1, 3]);
}

#[test]
fn what_was_current_a_moment_ago_stays() {
    let lab = Lab::new("prune");
    lab.add(KERNEL, 1, lab.at(0)).unwrap();
    lab.add(KERNEL, 2, lab.at(1)).unwrap();
    lab.age(72);
    let all = || {
        let mut all = files(&lab.tree());
        all.sort();
        all
    };
    lab.withdraw(1, lab.at(2)).unwrap();
    let before = all();
    // Targets 1 were not current for days, and targets 2 were a moment ago; so was the payload of level 1.
    prune::run(&lab.tree(), 24, SystemTime::now()).unwrap();
    let folder = lab.folder("", KERNEL);
    let gone = ["1.snapshot.json", "1.targets.json"].map(|name| folder.join(name));
    let after = all();
    let missing: Vec<&PathBuf> = before.iter().filter(|file| !after.contains(file)).collect();
    assert_eq!(missing, gone.iter().collect::<Vec<_>>());
    // A day later they go.
    let later = SystemTime::now() + Duration::from_secs(25 * 3600);
    prune::run(&lab.tree(), 24, later).unwrap();
    let left = all();
    assert!(!left.contains(&folder.join("2.targets.json")));
    assert!(left.contains(&folder.join("3.targets.json")));
    let payloads = left.iter().filter(|file| file.ends_with("1.kpatch"));
    assert_eq!(payloads.count(), 0);
    assert_eq!(fs::read_dir(folder.join(TARGETS)).unwrap().count(), 1);
    assert!(lab.is_whole(""));
}

#[test]
fn what_a_killed_publisher_left_is_removed() {
    let lab = Lab::new("left");
    lab.add(KERNEL, 1, lab.at(0)).unwrap();
    let folder = lab.folder("", KERNEL);
    for name in ["7.targets.json", "9.snapshot.json"] {
        fs::write(folder.join(name), "{}").unwrap();
    }
    fs::create_dir_all(lab.tree().join("slow").join(format!(".{OTHER}.new"))).unwrap();
    fs::create_dir_all(folder.join("1")).unwrap();
    let unfinished = [
        ".timestamp.json.new",
        "t/.x.2.kpatch.new",
        "1/.kpatch.info.new",
    ];
    let unfinished = unfinished.map(|name| folder.join(name));
    for file in &unfinished {
        fs::write(file, "{").unwrap();
    }
    lab.add(KERNEL, 2, lab.at(1)).unwrap();
    assert_eq!(lab.targets("").version(), 8);
    assert!(!folder.join("7.targets.json").exists() && !folder.join("9.snapshot.json").exists());
    assert!(folder.join("10.snapshot.json").exists());
    prune::run(&lab.tree(), 24, SystemTime::now()).unwrap();
    assert!(!unfinished.iter().any(|file| file.exists()));
    assert_eq!(fs::read_dir(lab.tree().join("slow")).unwrap().count(), 0);
}

#[test]
fn refresh_goes_on_and_fails_for_what_clients_refuse() {
    let lab = Lab::new("refresh");
    lab.add(KERNEL, 1, lab.at(0)).unwrap();
    lab.add(OTHER, 1, lab.at(0)).unwrap();
    let timestamp = |kernel| fs::read(lab.folder("", kernel).join("timestamp.json")).unwrap();
    let damaged = lab.folder("", KERNEL).join("1.snapshot.json");
    let snapshot = fs::read(&damaged).unwrap();
    for targets in [false, true] {
        let before = timestamp(OTHER);
        fs::write(&damaged, "{").unwrap();
        let said = says(lab.refresh(targets, lab.at(1)));
        assert!(
            said.contains("could not be refreshed") && said.contains(KERNEL),
            "{said}"
        );
        assert!(!said.contains(OTHER), "{said}");
        assert_ne!(timestamp(OTHER), before);
    }
    fs::write(&damaged, snapshot).unwrap();
    lab.refresh(false, lab.at(1)).unwrap();
    // A year later both are over; the root is good for a year again, and the targets are not.
    let late = lab.at(24 * 366);
    let said = says(lab.refresh(false, late));
    assert!(
        said.contains("root 1 has expired") && said.contains("keys renew"),
        "{said}"
    );
    Keys::open(&lab.common().keys).unwrap().renew(late).unwrap();
    // Nor are they copied.
    let said = says(lab.promote("", "slow", late));
    assert!(
        said.contains("could not be promoted") && !lab.tree().join("slow").exists(),
        "{said}"
    );
    let said = says(lab.refresh(false, late));
    assert!(said.contains("could not be refreshed"), "{said}");
    lab.refresh(true, late).unwrap();
    lab.refresh(false, late).unwrap();
}

#[test]
fn only_a_tree_is_changed() {
    let lab = Lab::new("typo");
    let tree = lab.tree();
    let every: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("refresh", &|| lab.refresh(false, lab.at(0))),
        ("refresh --targets", &|| lab.refresh(true, lab.at(0))),
        ("promote", &|| lab.promote("", "slow", lab.at(0))),
        ("withdraw", &|| lab.withdraw(1, lab.at(0))),
        ("prune", &|| prune::run(&tree, 0, SystemTime::now())),
    ];
    for made in [false, true] {
        for (name, run) in every {
            let said = says(run());
            assert!(
                said.contains("is no tree") && said.contains("Hint: "),
                "{name}: {said}"
            );
            assert!(
                !tree.join(".lock").exists() && tree.exists() == made,
                "{name}"
            );
        }
        fs::create_dir_all(&tree).unwrap();
    }
    lab.add(KERNEL, 1, lab.at(0)).unwrap();
    lab.promote("", "slow", lab.at(0)).unwrap();
    let lock = tree.join(".lock");
    let mode = || fs::metadata(&lock).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
    lab.refresh(false, lab.at(0)).unwrap();
    assert_eq!(mode(), 0o600);

    // A folder that is a link, wherever it is.
    let elsewhere = lab.folder.join("elsewhere");
    let folders = [
        "slow".into(),
        format!("slow/{KERNEL}"),
        KERNEL.into(),
        format!("{KERNEL}/t"),
    ];
    for folder in folders.map(|folder: String| tree.join(folder)) {
        fs::rename(&folder, &elsewhere).unwrap();
        symlink(&elsewhere, &folder).unwrap();
        for (name, run) in every {
            let said = says(run());
            let link = format!("{} is a symbolic link", folder.display());
            assert!(said.contains(&link), "{name}: {said}");
        }
        assert!(says(check_tree(&tree)).contains("is a symbolic link"));
        fs::remove_file(&folder).unwrap();
        fs::rename(&elsewhere, &folder).unwrap();
    }
    // A file may be one.
    symlink("/dev/null", tree.join("index.html")).unwrap();
    lab.refresh(false, lab.at(0)).unwrap();

    // A timestamp that is lost is no new repository.
    fs::remove_file(tree.join("slow").join(KERNEL).join("timestamp.json")).unwrap();
    assert_eq!(places(&tree).unwrap().len(), 2);
    for (name, run) in every {
        assert_ne!(says(run()), "nothing", "{name}");
    }
    assert!(!tree
        .join("slow")
        .join(KERNEL)
        .join("timestamp.json")
        .exists());
}

#[test]
fn a_day_that_is_over_covers_nothing() {
    let now = Time::parse("2026-11-30T12:00:00Z").unwrap();
    check_day("2026-11-30", now).unwrap();
    check_day("2027-06-30", now).unwrap();
    assert!(says(check_day("2026-11-29", now)).contains("is over"));
    assert!(says(check_day("2020-01-01", now)).contains("is over"));
    for day in ["tomorrow", "2026-11-31", "2027-6-30", ""] {
        assert!(
            says(check_day(day, now)).contains("write `2027-06-30`"),
            "{day}"
        );
    }
}
