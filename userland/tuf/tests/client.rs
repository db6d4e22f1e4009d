// SPDX-License-Identifier: GPL-2.0

//! The client workflow. Each forged repository differs by one thing from a good one, which is accepted before.

mod common;

use common::{set, signed, signer, time, Repository, Tree, User, EARLIER, LATER};
use kcare_tuf::client::{target_path, News, Stale};
use kcare_tuf::metadata::{Document, MetaFile, Target};
use kcare_tuf::{Client, Error, Kind, Malformed, Role};

/// A new client accepts the good repository; another one says this of the forged one.
fn refused(good: &Repository, forged: &Tree) -> Error {
    refused_after(None, good, forged)
}

/// As [`refused`], by clients that have seen `before`; what they trust of the role at fault stays as it was.
fn refused_after(before: Option<&Repository>, good: &Repository, forged: &Tree) -> Error {
    let mut user = User::of(before.unwrap_or(good));
    if let Some(before) = before {
        user.refresh(&before.tree()).expect("the repository before");
    }
    let mut other = user.clone();
    other.refresh(&good.tree()).expect("the good repository");
    let error = user.refresh(forged).expect_err("the forged repository");
    // One line, whatever it is about.
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    error
}

fn threshold(role: Role, root: u64, need: u64, have: u64) -> Error {
    Error::Threshold {
        role,
        root,
        need,
        have,
    }
}

fn version(role: Role, expected: u64, found: u64) -> Error {
    Error::Version {
        role,
        expected,
        found,
    }
}

// Good ones.

#[test]
fn a_new_client_trusts_all_four_and_downloads() {
    let repository = Repository::new();
    let mut client = User::of(&repository).open();
    let tree = repository.tree();
    client.refresh(&tree).unwrap();
    for (name, bytes) in &repository.files {
        assert_eq!(client.download(&tree, name).unwrap(), *bytes);
    }
    assert!(client.findings().is_empty());
    assert_eq!(client.into_store().versions(), [1, 1, 1, 1]);
}

#[test]
fn what_is_stored_is_not_asked_for_again() {
    let repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    let tree = repository.tree();
    user.refresh(&tree).unwrap();
    assert_eq!(*tree.asked.borrow(), ["2.root.json", "timestamp.json"]);
}

#[test]
fn only_what_is_new_is_asked_for() {
    let mut repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    repository.timestamp.version = 2;
    repository.snapshot.version = 2;
    let tree = repository.tree();
    user.refresh(&tree).unwrap();
    let asked = ["2.root.json", "timestamp.json", "2.snapshot.json"];
    assert_eq!(*tree.asked.borrow(), asked);
    assert_eq!(user.store.versions(), [1, 2, 2, 1]);
}

#[test]
fn without_consistent_snapshots_names_have_no_versions() {
    let mut repository = Repository::new();
    repository.root().consistent_snapshot = Some(false);
    let tree = repository.tree();
    let mut client = User::of(&repository).open();
    client.refresh(&tree).unwrap();
    client.download(&tree, "a/b.json").unwrap();
    let asked = [
        "2.root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
        "a/b.json",
    ];
    assert_eq!(*tree.asked.borrow(), asked);
}

// Root.

#[test]
fn roots_are_followed_one_by_one() {
    let mut repository = Repository::new();
    for name in ["root2", "root3", "root4"] {
        let root = repository.rotate(&[name]);
        set(root, Role::Root, &[name], 1);
        repository.roots.last_mut().unwrap().1 =
            vec![["root", "root2", "root3"][repository.roots.len() - 2], name];
    }
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    assert_eq!(user.store.versions(), [4, 1, 1, 1]);
}

#[test]
fn rotations_have_a_limit_and_the_next_update_goes_on() {
    let mut repository = Repository::new();
    for _ in 0..5 {
        repository.rotate(&[]);
    }
    let tree = repository.tree();
    let mut user = User::of(&repository);
    user.limits.rotations = 3;
    user.refresh(&tree).unwrap();
    assert_eq!(user.store.version(Role::Root), Some(4));
    user.refresh(&tree).unwrap();
    assert_eq!(user.store.version(Role::Root), Some(6));
}

#[test]
fn a_root_that_only_the_old_key_signed_is_refused() {
    let mut good = Repository::new();
    let root = good.rotate(&["root2"]);
    set(root, Role::Root, &["root2"], 1);
    let mut forged = good.clone();
    forged.roots[1].1 = vec!["root"];
    assert_eq!(
        refused(&good, &forged.tree()),
        threshold(Role::Root, 2, 1, 0)
    );
}

#[test]
fn a_root_that_only_the_new_key_signed_is_refused() {
    let mut good = Repository::new();
    let root = good.rotate(&["root2"]);
    set(root, Role::Root, &["root2"], 1);
    let mut forged = good.clone();
    forged.roots[1].1 = vec!["root2"];
    assert_eq!(
        refused(&good, &forged.tree()),
        threshold(Role::Root, 1, 1, 0)
    );
}

#[test]
fn a_root_that_skips_a_version_is_refused() {
    let mut good = Repository::new();
    good.rotate(&[]);
    let mut forged = good.clone();
    forged.root().common.version = 3;
    let mut tree = forged.tree();
    let bytes = tree.files.remove("3.root.json").unwrap();
    tree.files.insert("2.root.json".to_string(), bytes);
    assert_eq!(refused(&good, &tree), version(Role::Root, 2, 3));
}

#[test]
fn a_root_that_is_the_same_again_is_refused() {
    let mut good = Repository::new();
    good.rotate(&[]);
    let mut tree = good.tree();
    let bytes = tree.files["1.root.json"].clone();
    tree.files.insert("2.root.json".to_string(), bytes);
    assert_eq!(refused(&good, &tree), version(Role::Root, 2, 1));
}

#[test]
fn a_root_behind_a_gap_is_not_found() {
    let mut good = Repository::new();
    set(good.rotate(&[]), Role::Timestamp, &["timestamp2"], 1);
    good.rotate(&[]);
    good.signers.insert(Role::Timestamp, vec!["timestamp2"]);
    let mut tree = good.tree();
    tree.files.remove("2.root.json");
    assert_eq!(refused(&good, &tree), threshold(Role::Timestamp, 1, 1, 0));
}

#[test]
fn only_the_last_root_must_not_have_expired() {
    let mut good = Repository::new();
    good.rotate(&[]).common.expires = time(EARLIER);
    good.rotate(&[]).common.expires = time(LATER);
    let mut forged = good.clone();
    forged.root().common.expires = time(EARLIER);
    let error = refused(&good, &forged.tree());
    assert_eq!(error.kind(), Kind::Expired);
    assert!(matches!(
        error,
        Error::Expired {
            role: Role::Root,
            ..
        }
    ));
}

#[test]
fn a_document_expires_with_the_second_that_it_names() {
    let mut good = Repository::new();
    good.timestamp.expires = time("2026-11-29T12:00:01Z");
    let mut forged = good.clone();
    forged.timestamp.expires = time(common::NOW);
    let error = refused(&good, &forged.tree());
    assert!(matches!(
        error,
        Error::Expired {
            role: Role::Timestamp,
            ..
        }
    ));
}

#[test]
fn a_root_of_the_highest_version_has_no_next() {
    let mut repository = Repository::new();
    repository.root().common.version = kcare_tuf::metadata::MAX_VERSION;
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    assert_eq!(user.store.version(Role::Root), Some(1 << 63));
}

// Each role.

#[test]
fn each_role_needs_its_threshold() {
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let mut good = Repository::new();
        set(good.root(), role, &["x", "y", "z"], 2);
        good.signers.insert(role, vec!["x", "z"]);
        let mut forged = good.clone();
        forged.signers.insert(role, vec!["y"]);
        assert_eq!(refused(&good, &forged.tree()), threshold(role, 1, 2, 1));
    }
}

#[test]
fn no_role_may_sign_for_another() {
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let good = Repository::new();
        let mut forged = good.clone();
        forged.signers.insert(role, vec!["root"]);
        assert_eq!(refused(&good, &forged.tree()), threshold(role, 1, 1, 0));
    }
}

#[test]
fn each_role_expires() {
    for expected in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let good = Repository::new();
        let mut forged = good.clone();
        let common = match expected {
            Role::Timestamp => &mut forged.timestamp,
            Role::Snapshot => &mut forged.snapshot,
            _ => &mut forged.targets,
        };
        common.expires = time(EARLIER);
        let error = refused(&good, &forged.tree());
        assert!(
            matches!(error, Error::Expired { role, .. } if role == expected),
            "{error}"
        );
    }
}

#[test]
fn what_has_expired_is_not_stored() {
    for (role, versions) in [
        (Role::Timestamp, [1, 1, 1, 1]),
        (Role::Snapshot, [1, 2, 1, 1]),
        (Role::Targets, [1, 2, 2, 1]),
    ] {
        let mut repository = Repository::new();
        let mut user = User::of(&repository);
        user.refresh(&repository.tree()).unwrap();
        repository.release();
        let common = match role {
            Role::Timestamp => &mut repository.timestamp,
            Role::Snapshot => &mut repository.snapshot,
            _ => &mut repository.targets,
        };
        common.expires = time(EARLIER);
        user.refresh(&repository.tree()).unwrap_err();
        assert_eq!(user.store.versions(), versions);
    }
}

#[test]
fn each_step_alone_looks_at_the_clock() {
    let mut repository = Repository::new();
    repository.root().common.expires = time("2026-11-29T13:00:00Z");
    repository.timestamp.expires = time("2026-11-29T12:30:00Z");
    repository.snapshot.expires = time("2026-11-29T12:30:00Z");
    let tree = repository.tree();
    let mut user = User::of(&repository);
    user.refresh(&tree).unwrap();
    let expired = |result: Result<(), Error>, expected| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, Error::Expired { role, .. } if role == expected),
            "{error}"
        );
    };
    user.now = time("2026-11-29T12:30:00Z");
    let mut client = user.open();
    client.update_root(&tree).unwrap();
    let news = client.update_timestamp(&tree, None).map(drop);
    expired(news, Role::Timestamp);
    expired(client.update_snapshot(&tree), Role::Timestamp);

    repository.release();
    repository.timestamp.expires = time(LATER);
    user.refresh(&repository.tree()).unwrap_err();
    let mut client = user.open();
    expired(client.update_snapshot(&repository.tree()), Role::Snapshot);

    user.now = time("2026-11-29T13:00:00Z");
    let mut client = user.open();
    expired(client.update_root(&tree), Role::Root);
    let news = client.update_timestamp(&tree, None).map(drop);
    expired(news, Role::Root);
}

// Versions.

#[test]
fn a_timestamp_does_not_go_back() {
    let mut before = Repository::new();
    before.timestamp.version = 5;
    let mut good = before.clone();
    good.timestamp.version = 6;
    let mut forged = before.clone();
    forged.timestamp.version = 4;
    let error = refused_after(Some(&before), &good, &forged.tree());
    let expected = Error::Rollback {
        role: Role::Timestamp,
        trusted: 5,
        found: 4,
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "timestamp has version 4, older than the trusted version 5"
    );
}

#[test]
fn a_timestamp_does_not_name_an_older_snapshot() {
    let mut before = Repository::new();
    before.snapshot.version = 5;
    let mut good = before.clone();
    good.timestamp.version = 2;
    good.snapshot.version = 6;
    let mut forged = good.clone();
    forged.snapshot.version = 4;
    let expected = Error::RollbackOf {
        role: Role::Timestamp,
        name: "snapshot.json".to_string(),
        trusted: 5,
        found: 4,
    };
    assert_eq!(
        refused_after(Some(&before), &good, &forged.tree()),
        expected
    );
}

#[test]
fn a_snapshot_does_not_name_older_targets() {
    let mut before = Repository::new();
    before.targets.version = 5;
    let mut good = before.clone();
    good.release();
    let mut forged = good.clone();
    forged.targets.version = 4;
    let expected = Error::RollbackOf {
        role: Role::Snapshot,
        name: "targets.json".to_string(),
        trusted: 5,
        found: 4,
    };
    assert_eq!(
        refused_after(Some(&before), &good, &forged.tree()),
        expected
    );
}

#[test]
fn a_targets_file_does_not_vanish() {
    let mut before = Repository::new();
    before.forge_snapshot = |snapshot| {
        snapshot
            .meta
            .insert("x\n.json".to_string(), MetaFile::of(3, b""));
    };
    let mut good = before.clone();
    good.release();
    let mut forged = good.clone();
    forged.forge_snapshot = |_| {};
    let expected = Error::Vanished {
        name: "x\n.json".to_string(),
        trusted: 3,
    };
    assert_eq!(
        refused_after(Some(&before), &good, &forged.tree()),
        expected
    );
}

#[test]
fn the_same_version_with_another_content_is_no_news() {
    let mut repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    let stored = user.store.files[&Role::Timestamp].clone();
    repository.timestamp.expires = time("2028-01-01T00:00:00Z");
    let mut client = user.open();
    let news = client.update_timestamp(&repository.tree(), None).unwrap();
    assert_eq!(news, News::Same { etag: None });
    assert_eq!(client.into_store().files[&Role::Timestamp], stored);
}

#[test]
fn a_timestamp_that_is_the_same_again_expires() {
    let mut repository = Repository::new();
    repository.timestamp.expires = time("2026-11-29T13:00:00Z");
    let tree = repository.tree();
    let mut user = User::of(&repository);
    user.refresh(&tree).unwrap();
    user.now = time("2026-11-29T12:59:59Z");
    user.refresh(&tree).unwrap();
    user.now = time("2026-11-29T13:00:00Z");
    assert_eq!(user.refresh(&tree).unwrap_err().kind(), Kind::Expired);
}

#[test]
fn what_is_stored_is_used_only_if_it_is_what_is_announced_and_not_over() {
    let mut before = Repository::new();
    before.snapshot.expires = time("2026-11-29T12:30:00Z");
    before.targets.expires = time("2026-11-29T12:30:00Z");
    let mut user = User::of(&before);
    user.refresh(&before.tree()).unwrap();
    // The same versions, signed anew, with another time.
    let mut after = before.clone();
    after.timestamp.version = 2;
    after.snapshot.expires = time(LATER);
    let mut both = after.clone();
    both.targets.expires = time(LATER);
    for (repository, path) in [(&after, "1.snapshot.json"), (&both, "1.targets.json")] {
        let tree = repository.tree();
        user.clone().refresh(&tree).unwrap();
        assert!(tree.asked.borrow().iter().any(|asked| asked == path));
    }
    // Nothing else is announced, but it is over: so it is asked for once more.
    user.now = time("2026-11-29T12:30:00Z");
    let tree = before.tree();
    let error = user.refresh(&tree).unwrap_err();
    assert!(matches!(
        error,
        Error::Expired {
            role: Role::Snapshot,
            ..
        }
    ));
    assert_eq!(tree.asked.borrow().last().unwrap(), "1.snapshot.json");
    let error = user.refresh(&after.tree()).unwrap_err();
    assert!(matches!(
        error,
        Error::Expired {
            role: Role::Targets,
            ..
        }
    ));
}

#[test]
fn a_document_must_have_the_announced_version() {
    for role in [Role::Snapshot, Role::Targets] {
        let mut good = Repository::new();
        good.tells = false;
        let mut forged = good.clone();
        match role {
            Role::Snapshot => {
                forged.forge_timestamp = |timestamp| timestamp.snapshot.version = 7;
            }
            _ => {
                forged.forge_snapshot = |snapshot| {
                    snapshot.meta.get_mut("targets.json").unwrap().version = 7;
                };
            }
        }
        let mut tree = forged.tree();
        let bytes = tree.files.remove(&role.versioned_name(1)).unwrap();
        tree.files.insert(role.versioned_name(7), bytes);
        assert_eq!(refused(&good, &tree), version(role, 7, 1));
    }
}

// Lengths and hashes.

#[test]
fn a_changed_file_of_the_same_length_has_another_hash() {
    for path in ["1.snapshot.json", "1.targets.json"] {
        let good = Repository::new();
        let mut tree = good.tree();
        tree.edit(path, |bytes| *bytes.last_mut().unwrap() = b' ');
        let error = refused(&good, &tree);
        assert!(
            matches!(&error, Error::Hash { file, algorithm: "sha256", .. } if file == path),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_is_longer_than_announced_is_not_read() {
    for path in ["1.snapshot.json", "1.targets.json"] {
        let good = Repository::new();
        let mut tree = good.tree();
        let length = tree.files[path].len() as u64;
        tree.edit(path, |bytes| bytes.push(b' '));
        let expected = Error::TooLong {
            file: path.to_string(),
            limit: length,
        };
        assert_eq!(refused(&good, &tree), expected);
        // Nor when the fetcher does not keep to the limit.
        tree.ignores_limits = true;
        assert_eq!(refused(&good, &tree), expected);
    }
}

#[test]
fn a_file_that_is_shorter_than_announced_is_refused() {
    for path in ["1.snapshot.json", "1.targets.json"] {
        let good = Repository::new();
        let mut tree = good.tree();
        let length = tree.files[path].len() as u64;
        tree.edit(path, |bytes| bytes.truncate(bytes.len() - 1));
        let expected = Error::Length {
            file: path.to_string(),
            expected: length,
            found: length - 1,
        };
        assert_eq!(refused(&good, &tree), expected);
    }
}

#[test]
fn each_role_has_a_limit() {
    let mut good = Repository::new();
    good.tells = false;
    good.rotate(&[]);
    let tree = good.tree();
    for path in [
        "2.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
    ] {
        let length = tree.files[path].len() as u64;
        let refresh = |limit| {
            let mut user = User::of(&good);
            match path {
                "2.root.json" => user.limits.root = limit,
                "timestamp.json" => user.limits.timestamp = limit,
                "1.snapshot.json" => user.limits.snapshot = limit,
                _ => user.limits.targets = limit,
            }
            user.refresh(&tree)
        };
        refresh(length).unwrap();
        let expected = Error::TooLong {
            file: path.to_string(),
            limit: length - 1,
        };
        assert_eq!(refresh(length - 1), Err(expected));
    }
}

#[test]
fn an_announced_length_does_not_lift_the_limit() {
    let mut repository = Repository::new();
    repository.forge_timestamp = |timestamp| timestamp.snapshot.length = Some(u64::MAX);
    let mut user = User::of(&repository);
    user.limits.snapshot = 10;
    let expected = Error::TooLong {
        file: "1.snapshot.json".to_string(),
        limit: 10,
    };
    assert_eq!(user.refresh(&repository.tree()).unwrap_err(), expected);
}

#[test]
fn a_snapshot_must_name_the_targets() {
    let good = Repository::new();
    let mut forged = good.clone();
    forged.forge_snapshot = |snapshot| snapshot.meta.clear();
    let expected = Error::NotListed {
        name: "targets.json".to_string(),
    };
    assert_eq!(refused(&good, &forged.tree()), expected);
}

#[test]
fn a_file_of_another_role_is_refused_though_its_key_may_sign() {
    let mut good = Repository::new();
    set(good.root(), Role::Timestamp, &["snapshot"], 1);
    good.signers.insert(Role::Timestamp, vec!["snapshot"]);
    let mut tree = good.tree();
    let bytes = tree.files["1.snapshot.json"].clone();
    tree.files.insert("timestamp.json".to_string(), bytes);
    let expected = Error::Malformed {
        role: Role::Timestamp,
        reason: Malformed::Type {
            found: "snapshot".to_string(),
        },
    };
    assert_eq!(refused(&good, &tree), expected);
}

// The server.

#[test]
fn what_is_missing_is_named() {
    for path in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let good = Repository::new();
        let mut tree = good.tree();
        tree.files.remove(path);
        let expected = Error::NotFound {
            file: path.to_string(),
        };
        assert_eq!(refused(&good, &tree), expected);
    }
}

#[test]
fn a_server_that_fails_at_the_next_root_is_not_the_end_of_the_chain() {
    let good = Repository::new();
    let mut tree = good.tree();
    tree.broken = Some(("2.root.json", "the line\nis dead"));
    let error = refused(&good, &tree);
    assert_eq!(error.kind(), Kind::Unreachable);
    assert_eq!(
        error.to_string(),
        "cannot fetch 2.root.json: the line\\nis dead"
    );
}

#[test]
fn a_timestamp_can_be_asked_for_alone() {
    let mut repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();

    let mut tree = repository.tree();
    tree.etag = Some("one");
    let mut client = user.open();
    let etag = |text: &str| Some(text.to_string());
    let news = client.update_timestamp(&tree, None).unwrap();
    assert_eq!(news, News::Same { etag: etag("one") });
    let news = client.update_timestamp(&tree, Some("one")).unwrap();
    assert_eq!(news, News::NotModified);

    repository.release();
    tree = repository.tree();
    tree.etag = Some("two");
    let news = client.update_timestamp(&tree, Some("one")).unwrap();
    assert_eq!(news, News::New { etag: etag("two") });
    assert_eq!(*tree.asked.borrow(), ["timestamp.json"]);
}

#[test]
fn not_modified_does_not_stop_the_clock() {
    let mut repository = Repository::new();
    repository.timestamp.expires = time("2026-11-29T13:00:00Z");
    let mut tree = repository.tree();
    tree.etag = Some("one");
    let mut user = User::of(&repository);
    user.refresh(&tree).unwrap();
    let ask = |user: &User| user.open().update_timestamp(&tree, Some("one"));
    assert_eq!(ask(&user).unwrap(), News::NotModified);
    user.now = time("2026-11-29T13:00:00Z");
    assert_eq!(ask(&user).unwrap_err().kind(), Kind::Expired);
}

#[test]
fn not_modified_is_no_answer_for_one_that_has_nothing() {
    let repository = Repository::new();
    let mut tree = repository.tree();
    tree.etag = Some("one");
    let mut client = User::of(&repository).open();
    // The etag is of no use without the file, and is not sent.
    let news = client.update_timestamp(&tree, Some("one")).unwrap();
    assert!(matches!(news, News::New { .. }));
    tree.not_modified = true;
    // Nor for one that did not ask.
    let error = client.update_timestamp(&tree, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    let mut client = User::of(&repository).open();
    let error = client.update_timestamp(&tree, Some("one")).unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
}

// Recovery.

#[test]
fn a_revoked_timestamp_key_recovers_from_a_fast_forward() {
    let mut before = Repository::new();
    before.timestamp.version = 1 << 40;
    before.snapshot.version = 1 << 40;
    let mut after = before.clone();
    after.timestamp.version = 1;
    after.snapshot.version = 1;
    let mut user = User::of(&before);
    user.refresh(&before.tree()).unwrap();
    let error = user.clone().refresh(&after.tree()).unwrap_err();
    assert_eq!(error.kind(), Kind::Rollback);

    set(after.rotate(&[]), Role::Timestamp, &["timestamp2"], 1);
    after.signers.insert(Role::Timestamp, vec!["timestamp2"]);
    user.refresh(&after.tree()).unwrap();
    assert_eq!(user.store.versions(), [2, 1, 1, 1]);
}

#[test]
fn a_revoked_snapshot_key_forgets_the_timestamp_too() {
    let mut before = Repository::new();
    before.snapshot.version = 1 << 40;
    let mut after = before.clone();
    after.snapshot.version = 1;
    after.timestamp.version = 2;
    let mut user = User::of(&before);
    user.refresh(&before.tree()).unwrap();
    let error = user.clone().refresh(&after.tree()).unwrap_err();
    assert_eq!(error.kind(), Kind::Rollback);

    set(after.rotate(&[]), Role::Snapshot, &["snapshot2"], 1);
    after.signers.insert(Role::Snapshot, vec!["snapshot2"]);
    user.refresh(&after.tree()).unwrap();
    assert_eq!(user.store.versions(), [2, 2, 1, 1]);
}

#[test]
fn an_added_key_forgets_nothing() {
    let mut before = Repository::new();
    before.timestamp.version = 5;
    let mut forged = before.clone();
    set(
        forged.rotate(&[]),
        Role::Timestamp,
        &["timestamp", "timestamp2"],
        1,
    );
    let good = forged.clone();
    forged.timestamp.version = 4;
    let error = refused_after(Some(&before), &good, &forged.tree());
    assert_eq!(error.kind(), Kind::Rollback);
}

#[test]
fn a_revoked_targets_key_forgets_nothing() {
    let mut before = Repository::new();
    before.timestamp.version = 5;
    let mut forged = before.clone();
    set(forged.rotate(&[]), Role::Targets, &["targets2"], 1);
    forged.signers.insert(Role::Targets, vec!["targets2"]);
    forged.targets.version = 2;
    forged.snapshot.version = 2;
    let mut good = forged.clone();
    good.timestamp.version = 6;
    forged.timestamp.version = 4;
    let error = refused_after(Some(&before), &good, &forged.tree());
    assert_eq!(error.kind(), Kind::Rollback);
}

// Target files.

#[test]
fn a_target_file_must_be_what_the_targets_say() {
    let repository = Repository::new();
    let mut tree = repository.tree();
    let mut client = User::of(&repository).open();
    client.refresh(&tree).unwrap();
    let name = "9.kpatch";
    let path = target_path(name, client.target(name).unwrap(), true).unwrap();
    assert_eq!(client.download(&tree, name).unwrap(), b"payload");

    tree.edit(&path, |bytes| bytes[0] = b'P');
    let error = client.download(&tree, name).unwrap_err();
    assert!(matches!(&error, Error::Hash { file, .. } if file == name));
    tree.edit(&path, |bytes| bytes.push(b'!'));
    let error = client.download(&tree, name).unwrap_err();
    assert!(matches!(error, Error::TooLong { limit: 7, .. }));
    tree.edit(&path, |bytes| bytes.truncate(3));
    let error = client.download(&tree, name).unwrap_err();
    let short = Error::Length {
        file: name.to_string(),
        expected: 7,
        found: 3,
    };
    assert_eq!(error, short);
    tree.files.remove(&path);
    let error = client.download(&tree, name).unwrap_err();
    assert_eq!(error, Error::NotFound { file: path });
}

#[test]
fn a_target_that_is_not_offered_is_not_asked_for() {
    let repository = Repository::new();
    let tree = repository.tree();
    let mut client = User::of(&repository).open();
    let not_yet = client.download(&tree, "9.kpatch").unwrap_err();
    assert_eq!(
        not_yet,
        Error::NotStored {
            role: Role::Targets
        }
    );
    client.refresh(&tree).unwrap();
    let asked = tree.asked.borrow().len();
    let error = client.download(&tree, "8.kpatch").unwrap_err();
    assert_eq!(error.to_string(), "the repository does not offer 8.kpatch");
    assert_eq!(tree.asked.borrow().len(), asked);
}

#[test]
fn a_target_of_no_limit_is_not_asked_for() {
    let repository = Repository::new();
    let tree = repository.tree();
    let mut user = User::of(&repository);
    user.limits.file = 6;
    let mut client = user.open();
    client.refresh(&tree).unwrap();
    assert_eq!(client.download(&tree, "a/b.json").unwrap(), b"{}");
    let error = client.download(&tree, "9.kpatch").unwrap_err();
    assert!(matches!(error, Error::TooLong { limit: 6, .. }));
}

#[test]
fn names_lead_below_the_base() {
    let target = Target::of(b"x");
    let hash = target.hashes.prefix().unwrap().to_string();
    for (name, expected) in [
        ("a", format!("{hash}.a")),
        ("a/b/c d", format!("a/b/{hash}.c d")),
        ("...", format!("{hash}....")),
        ("..a/b", format!("..a/{hash}.b")),
    ] {
        assert_eq!(target_path(name, &target, true).unwrap(), expected);
        assert_eq!(target_path(name, &target, false).unwrap(), name);
    }
    for name in [
        "", "/a", "..", ".", "../a", "a/../b", "a/.", "a\\b", "a\0", "a\nb", "%2e%2E/a", ".%2e",
    ] {
        let error = target_path(name, &target, true).unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{name:?}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

// The store.

#[test]
fn power_may_fail_at_each_change_of_the_store() {
    // The key that signs stays, so that what is forgotten would still verify.
    let mut before = Repository::new();
    before.timestamp.version = 7;
    set(before.root(), Role::Timestamp, &["timestamp", "stolen"], 1);
    let mut after = before.clone();
    set(after.rotate(&[]), Role::Timestamp, &["timestamp"], 1);
    after.release();
    after.timestamp.version = 1;
    let tree = after.tree();

    let mut user = User::of(&before);
    user.refresh(&before.tree()).unwrap();
    // Two removals, root, timestamp, snapshot, targets.
    for power in 0..6 {
        let mut user = user.clone();
        user.store.power = Some(power);
        let error = user.refresh(&tree).unwrap_err();
        assert_eq!(error.kind(), Kind::Store, "{error}");
        user.store.power = None;
        user.refresh(&tree).unwrap();
        assert_eq!(user.store.versions(), [2, 1, 2, 2]);
    }
    user.store.power = Some(6);
    user.refresh(&tree).unwrap();
}

#[test]
fn a_torn_store_is_left_aside() {
    let repository = Repository::new();
    let tree = repository.tree();
    let mut whole = User::of(&repository);
    whole.refresh(&tree).unwrap();
    for role in Role::ALL {
        for tear in [
            (|bytes| bytes.truncate(40)) as fn(&mut Vec<u8>),
            Vec::clear,
            |bytes| bytes.fill(0),
            |bytes| bytes.resize(6 << 20, b' '),
        ] {
            let mut user = whole.clone();
            tear(user.store.files.get_mut(&role).unwrap());
            let mut client = user.open();
            client.refresh(&tree).unwrap();
            let [Error::Discarded { role: found, .. }] = client.findings() else {
                panic!("{role}: {:?}", client.findings());
            };
            assert_eq!(*found, role);
            assert_eq!(client.into_store().files, whole.store.files);
        }
    }
}

#[test]
fn a_store_with_a_forged_document_is_not_believed() {
    let repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    let mut forged = repository.clone();
    forged.timestamp.version = 9;
    forged.signers.insert(Role::Timestamp, vec!["stranger"]);
    let bytes = forged.tree().files["timestamp.json"].clone();
    user.store.files.insert(Role::Timestamp, bytes);
    let mut client = user.open();
    client.refresh(&repository.tree()).unwrap();
    let reason = Box::new(threshold(Role::Timestamp, 1, 1, 0));
    let expected = Error::Discarded {
        role: Role::Timestamp,
        reason,
    };
    assert_eq!(client.findings(), [expected]);
}

#[test]
fn a_newer_initial_root_replaces_the_stored_one() {
    let mut repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    for _ in 0..3 {
        repository.rotate(&[]);
    }
    let (root, signers) = &repository.roots[3];
    user.initial = signed(root, signers);
    // The way between the two is not needed.
    let mut tree = repository.tree();
    tree.files.remove("2.root.json");
    user.refresh(&tree).unwrap();
    assert_eq!(user.store.versions(), [4, 1, 1, 1]);
}

#[test]
fn a_newer_initial_root_revokes_keys_too() {
    let mut before = Repository::new();
    before.timestamp.version = 5;
    set(before.root(), Role::Timestamp, &["timestamp", "stolen"], 1);
    let mut user = User::of(&before);
    user.refresh(&before.tree()).unwrap();
    let mut after = before.clone();
    let root = after.rotate(&[]);
    set(root, Role::Timestamp, &["timestamp"], 1);
    user.initial = signed(root, &["root"]);
    after.timestamp.version = 1;
    user.refresh(&after.tree()).unwrap();
    assert_eq!(user.store.versions(), [2, 1, 1, 1]);
}

#[test]
fn an_initial_root_must_be_whole() {
    let repository = Repository::new();
    let user = User::of(&repository);
    let open =
        |initial: &[u8]| Client::open(user.store.clone(), initial, user.now, user.limits).map(drop);
    open(&user.initial).unwrap();
    let unsigned = signed(&repository.roots[0].0, &[]);
    assert_eq!(open(&unsigned), Err(threshold(Role::Root, 1, 1, 0)));
    let kind = open(&user.initial[..99]).unwrap_err().kind();
    assert_eq!(kind, Kind::Malformed);
}

// Offline.

#[test]
fn offline_works_with_what_is_stored() {
    let repository = Repository::new();
    let tree = repository.tree();
    let mut user = User::of(&repository);
    user.refresh(&tree).unwrap();
    let client = offline(&user, Stale::Refuse).unwrap();
    assert!(client.findings().is_empty());
    assert_eq!(client.targets().unwrap().version(), 1);
    assert_eq!(client.download(&tree, "9.kpatch").unwrap(), b"payload");
}

fn offline(user: &User, stale: Stale) -> Result<Client<common::Memory>, Error> {
    let store = user.store.clone();
    Client::offline(store, &user.initial, user.now, user.limits, stale)
}

#[test]
fn offline_reports_what_has_expired_or_refuses_it() {
    let mut repository = Repository::new();
    repository.root().common.expires = time("2026-11-29T12:00:01Z");
    repository.timestamp.expires = time("2026-11-29T12:00:02Z");
    repository.snapshot.expires = time("2026-11-29T12:00:03Z");
    repository.targets.expires = time("2026-11-29T12:00:04Z");
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    for (second, role) in Role::ALL.into_iter().enumerate() {
        user.now = time(&format!("2026-11-29T12:00:0{}Z", second + 1));
        let error = offline(&user, Stale::Refuse).unwrap_err();
        assert_eq!(error.kind(), Kind::Expired);
        let client = offline(&user, Stale::Report).unwrap();
        assert_eq!(client.findings().len(), second + 1);
        assert_eq!(client.findings()[0], error);
        let last = client.findings().last().unwrap();
        assert!(matches!(last, Error::Expired { role: found, .. } if *found == role));
        assert!(client.target("9.kpatch").is_ok());
    }
}

#[test]
fn offline_reports_an_update_that_was_not_finished() {
    let mut repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    repository.release();
    for (power, role) in [(1, Role::Snapshot), (2, Role::Targets)] {
        let mut user = user.clone();
        user.store.power = Some(power);
        user.refresh(&repository.tree()).unwrap_err();
        let expected = version(role, 2, 1);
        let error = offline(&user, Stale::Refuse).unwrap_err();
        assert_eq!(error, expected);
        let client = offline(&user, Stale::Report).unwrap();
        assert_eq!(client.findings(), [expected]);
    }
}

#[test]
fn offline_refuses_what_does_not_belong_together() {
    let mut repository = Repository::new();
    repository.release();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    offline(&user, Stale::Report).unwrap();

    let mut newer = repository.clone();
    newer.release();
    let tree = newer.tree();
    for (role, path) in [
        (Role::Snapshot, "3.snapshot.json"),
        (Role::Targets, "3.targets.json"),
    ] {
        let mut user = user.clone();
        user.store.files.insert(role, tree.files[path].clone());
        let error = offline(&user, Stale::Report).unwrap_err();
        assert_eq!(error, version(role, 2, 3));
    }
    let mut other = repository.clone();
    other.targets.expires = time("2028-01-01T00:00:00Z");
    let bytes = other.tree().files["2.targets.json"].clone();
    user.store.files.insert(Role::Targets, bytes);
    let error = offline(&user, Stale::Report).unwrap_err();
    assert!(matches!(error, Error::Hash { .. }));
}

#[test]
fn offline_without_a_document_says_which() {
    let repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let mut user = user.clone();
        user.store.files.remove(&role);
        let error = offline(&user, Stale::Report).unwrap_err();
        assert_eq!(error, Error::NotStored { role });
    }
}

#[test]
fn offline_writes_nothing() {
    let repository = Repository::new();
    let mut user = User::of(&repository);
    user.refresh(&repository.tree()).unwrap();
    user.store.files.remove(&Role::Root);
    user.store.power = Some(0);
    offline(&user, Stale::Refuse).unwrap();
}

// Keys as clients count them.

#[test]
fn a_key_under_two_ids_counts_once() {
    let mut good = Repository::new();
    set(good.root(), Role::Timestamp, &["x", "y"], 2);
    good.signers.insert(Role::Timestamp, vec!["x", "y"]);
    let mut forged = good.clone();
    let (x, y) = (signer("x"), signer("y"));
    let mut key = x.key().clone();
    key.value.insert("more".to_string(), "other".into());
    forged.root().keys.insert(y.id().to_string(), key);
    let mut tree = forged.tree();
    // The signature of x stands under both ids.
    tree.edit("timestamp.json", |bytes| {
        let mut file: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let list = file["signatures"].as_array_mut().unwrap();
        let of = |id: &str| list.iter().position(|s| s["keyid"] == id).unwrap();
        let (x, y) = (of(x.id()), of(y.id()));
        list[y]["sig"] = list[x]["sig"].clone();
        *bytes = serde_json::to_vec(&file).unwrap();
    });
    let mut user = User::of(&good);
    user.refresh(&good.tree()).unwrap();
    let mut user = User::of(&forged);
    let error = user.refresh(&tree).unwrap_err();
    assert_eq!(error, threshold(Role::Timestamp, 1, 2, 1));
}

#[test]
fn a_key_of_unknown_type_does_not_count() {
    for (field, value) in [
        ("keytype", "mlkem"),
        ("scheme", "ed25519ph"),
        ("public", "00"),
        ("public", "none"),
    ] {
        let mut repository = Repository::new();
        set(repository.root(), Role::Timestamp, &["x", "y"], 1);
        repository.signers.insert(Role::Timestamp, vec!["x", "y"]);
        let id = signer("y").id().to_string();
        let key = repository.root().keys.get_mut(&id).unwrap();
        match field {
            "keytype" => key.key_type = value.to_string(),
            "scheme" => key.scheme = value.to_string(),
            _ => drop(key.value.insert("public".to_string(), value.into())),
        }
        User::of(&repository).refresh(&repository.tree()).unwrap();
        repository.root().timestamp.threshold = 2;
        let mut user = User::of(&repository);
        let error = user.refresh(&repository.tree()).unwrap_err();
        assert_eq!(
            error,
            threshold(Role::Timestamp, 1, 2, 1),
            "{field} {value}"
        );
    }
}

#[test]
fn delegations_are_accepted_and_not_followed() {
    let mut repository = Repository::new();
    repository.forge_targets = |targets| {
        let roles = serde_json::json!({"keys": {}, "roles": [{"name": "x", "keyids": [], "threshold": 1,
            "terminating": true, "paths": ["*"]}]});
        targets
            .common
            .unrecognised
            .insert("delegations".to_string(), roles);
    };
    let tree = repository.tree();
    let mut client = User::of(&repository).open();
    client.refresh(&tree).unwrap();
    let error = client.download(&tree, "other").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(!tree
        .asked
        .borrow()
        .iter()
        .any(|path| path.contains("x.json")));
}

#[test]
fn each_update_needs_the_one_before() {
    let repository = Repository::new();
    let tree = repository.tree();
    let mut client = User::of(&repository).open();
    for (result, role) in [
        (client.update_targets(&tree), Role::Snapshot),
        (client.update_snapshot(&tree), Role::Timestamp),
    ] {
        assert_eq!(result, Err(Error::NotStored { role }));
    }
    client.refresh(&tree).unwrap();
    // A new timestamp makes the old snapshot void, whatever it names.
    let mut newer = repository.clone();
    newer.timestamp.version = 2;
    client.update_timestamp(&newer.tree(), None).unwrap();
    let expected = Error::NotStored {
        role: Role::Snapshot,
    };
    assert_eq!(client.update_targets(&tree), Err(expected));
    client.update_snapshot(&tree).unwrap();
    client.update_targets(&tree).unwrap();
}

#[test]
fn a_raised_threshold_holds_for_what_is_stored() {
    let mut repository = Repository::new();
    set(repository.root(), Role::Timestamp, &["x", "y"], 1);
    repository.signers.insert(Role::Timestamp, vec!["x"]);
    let mut client = User::of(&repository).open();
    client.refresh(&repository.tree()).unwrap();
    set(repository.rotate(&[]), Role::Timestamp, &["x", "y"], 2);
    let error = client.refresh(&repository.tree()).unwrap_err();
    assert_eq!(error, threshold(Role::Timestamp, 2, 2, 1));
    assert_eq!(client.findings().len(), 1);
}
