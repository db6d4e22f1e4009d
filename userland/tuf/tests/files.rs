// SPDX-License-Identifier: GPL-2.0

//! What is on disks: the store of a client, the files of a publisher, and a mirror in a folder.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{common, set, signed, signer, time, Repository, NOW};
use kcare_tuf::fetch::{url, Fetch, FetchError, Fetched};
use kcare_tuf::metadata::{Document, MetaFile, Root, Snapshot, Target, Targets, Timestamp};
use kcare_tuf::repository::{add_signature, sign, write, write_target};
use kcare_tuf::store::Store;
use kcare_tuf::{fetch, store, Client, Error, Kind, Limits, Malformed, Role};
use serde_json::Value;
use tempfile::TempDir;

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn set_of(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

// The store.

#[test]
fn a_store_keeps_four_files_without_versions() {
    let folder = TempDir::new().unwrap();
    let mut store = store::Folder::new(folder.path());
    for role in Role::ALL {
        assert_eq!(store.load(role, 9).unwrap(), None);
        store.save(role, b"old").unwrap();
        store.save(role, role.name().as_bytes()).unwrap();
        assert_eq!(
            store.load(role, 9).unwrap().unwrap(),
            role.name().as_bytes()
        );
    }
    let four = [
        "root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
    ];
    assert_eq!(names(folder.path()), set_of(&four));
    store.remove(Role::Timestamp).unwrap();
    store.remove(Role::Timestamp).unwrap();
    assert_eq!(store.load(Role::Timestamp, 9).unwrap(), None);
    assert_eq!(names(folder.path()).len(), 3);
}

#[test]
fn a_store_reads_no_more_than_the_limit() {
    let folder = TempDir::new().unwrap();
    let mut store = store::Folder::new(folder.path());
    store.save(Role::Root, b"12345").unwrap();
    assert_eq!(store.load(Role::Root, 5).unwrap().unwrap(), b"12345");
    let error = store.load(Role::Root, 4).unwrap_err();
    assert_eq!(error.to_string(), "it is longer than 4 bytes");
}

#[test]
fn a_file_that_was_being_written_is_overwritten() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(".root.json.new"), "half a ro").unwrap();
    let mut store = store::Folder::new(folder.path());
    assert_eq!(store.load(Role::Root, 9).unwrap(), None);
    store.save(Role::Root, b"whole").unwrap();
    assert_eq!(names(folder.path()), set_of(&["root.json"]));
}

#[test]
fn a_store_that_cannot_be_written_is_an_error() {
    let repository = Repository::new();
    let folder = TempDir::new().unwrap();
    let store = store::Folder::new(folder.path().join("nowhere"));
    let initial = repository.initial();
    let mut client = Client::open(store, &initial, time(NOW), Limits::default()).unwrap();
    let error = client.refresh(&repository.tree()).unwrap_err();
    assert_eq!(error.kind(), Kind::Store);
    assert!(
        error.to_string().starts_with("cannot write root.json: "),
        "{error}"
    );
}

#[test]
fn a_store_that_cannot_be_read_is_left_aside() {
    let repository = Repository::new();
    let folder = TempDir::new().unwrap();
    // A folder in place of the file.
    fs::create_dir(folder.path().join("snapshot.json")).unwrap();
    let store = store::Folder::new(folder.path());
    let initial = repository.initial();
    let mut client = Client::open(store, &initial, time(NOW), Limits::default()).unwrap();
    let error = client.refresh(&repository.tree()).unwrap_err();
    assert_eq!(error.kind(), Kind::Store);
    let [finding] = client.findings() else {
        panic!("{:?}", client.findings());
    };
    let says = finding.to_string();
    assert!(
        says.starts_with("the stored snapshot is left aside: cannot read"),
        "{says}"
    );
    let cause = std::error::Error::source(finding).unwrap();
    assert!(cause.to_string().starts_with("cannot read snapshot.json"));
}

#[test]
fn a_client_goes_on_after_a_restart() {
    let mut repository = Repository::new();
    let folder = TempDir::new().unwrap();
    let initial = repository.initial();
    let open = || {
        let store = store::Folder::new(folder.path());
        Client::open(store, &initial, time(NOW), Limits::default()).unwrap()
    };
    open().refresh(&repository.tree()).unwrap();
    repository.rotate(&[]);
    repository.release();
    open().refresh(&repository.tree()).unwrap();
    let client = open();
    assert_eq!(client.root().version(), 2);
    assert!(client.findings().is_empty());
    assert_eq!(names(folder.path()).len(), 4);
}

// The publisher.

/// A release in folders, written as a publisher does.
struct Published {
    folder: TempDir,
    root: Root,
}

impl Published {
    fn new(consistent: bool) -> Self {
        let mut root = Root::new(common(1));
        root.consistent_snapshot = Some(consistent);
        for role in Role::ALL {
            set(&mut root, role, &[role.name()], 1);
        }
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("t")).unwrap();
        let published = Self { folder, root };
        published.release(1, &[("9.kpatch", b"payload"), ("a/b c", b"")]);
        published
    }

    fn release(&self, version: u64, files: &[(&str, &[u8])]) {
        let (folder, root) = (self.folder.path(), &self.root);
        let mut targets = Targets::new(common(version), Default::default());
        for (name, bytes) in files {
            let target = Target::of(bytes);
            write_target(&folder.join("t"), root, name, &target, bytes).unwrap();
            targets.targets.insert(name.to_string(), target);
        }
        let bytes = signed(&targets, &["targets"]);
        write(folder, root, &targets, &bytes).unwrap();
        let snapshot = Snapshot::new(common(version), MetaFile::of(version, &bytes));
        let bytes = signed(&snapshot, &["snapshot"]);
        write(folder, root, &snapshot, &bytes).unwrap();
        write(folder, root, root, &signed(root, &["root"])).unwrap();
        let timestamp = Timestamp::new(common(version), MetaFile::of(version, &bytes));
        let bytes = signed(&timestamp, &["timestamp"]);
        write(folder, root, &timestamp, &bytes).unwrap();
    }

    fn client(&self) -> Client<common::Memory> {
        let initial = signed(&self.root, &["root"]);
        let store = common::Memory::default();
        let mut client = Client::open(store, &initial, time(NOW), Limits::default()).unwrap();
        client
            .refresh(&fetch::Folder::new(self.folder.path()))
            .unwrap();
        client
    }

    fn files(&self) -> fetch::Folder {
        fetch::Folder::new(self.folder.path().join("t"))
    }
}

#[test]
fn what_is_published_is_what_clients_ask_for() {
    for consistent in [true, false] {
        let published = Published::new(consistent);
        let client = published.client();
        assert_eq!(
            client.download(&published.files(), "9.kpatch").unwrap(),
            b"payload"
        );
        assert_eq!(client.download(&published.files(), "a/b c").unwrap(), b"");
    }
}

#[test]
fn consistent_names_have_versions_and_hashes() {
    let published = Published::new(true);
    let expected = [
        "1.root.json",
        "1.snapshot.json",
        "1.targets.json",
        "t",
        "timestamp.json",
    ];
    assert_eq!(names(published.folder.path()), set_of(&expected));
    let hash = "239f59ed55e737c77147cf55ad0c1b030b6d7ee748a7426952f9b852d5a935e5";
    let name = format!("{hash}.9.kpatch");
    assert_eq!(
        names(&published.folder.path().join("t")),
        set_of(&["a", &name])
    );
}

#[test]
fn a_new_release_leaves_the_old_files() {
    let published = Published::new(true);
    published.release(2, &[("9.kpatch", b"another"), ("a/b c", b"")]);
    assert_eq!(names(published.folder.path()).len(), 7);
    let client = published.client();
    assert_eq!(client.targets().unwrap().version(), 2);
    assert_eq!(
        client.download(&published.files(), "9.kpatch").unwrap(),
        b"another"
    );
}

#[test]
fn a_version_is_never_changed() {
    let published = Published::new(true);
    let (folder, root) = (published.folder.path(), &published.root);
    let targets = Targets::new(common(1), Default::default());
    let bytes = signed(&targets, &["targets"]);
    let expected = Error::Exists {
        file: "1.targets.json".to_string(),
    };
    assert_eq!(write(folder, root, &targets, &bytes).unwrap_err(), expected);
    // The same again is no change.
    published.release(1, &[("9.kpatch", b"payload"), ("a/b c", b"")]);
    published.client();
}

#[test]
fn a_target_must_be_what_is_said_of_it() {
    let folder = TempDir::new().unwrap();
    let root = Published::new(true).root;
    let target = Target::of(b"payload");
    let put = |name: &str, bytes: &[u8]| write_target(folder.path(), &root, name, &target, bytes);
    assert_eq!(put("x", b"PAYLOAD").unwrap_err().kind(), Kind::Mismatch);
    assert_eq!(put("x", b"").unwrap_err().kind(), Kind::Mismatch);
    for name in ["../x", "", "/x", "a%2fb", "x\n"] {
        let error = put(name, b"payload").unwrap_err();
        assert_eq!(
            error,
            Error::TargetName {
                name: name.to_string()
            }
        );
    }
    assert!(names(folder.path()).is_empty());
    put("x", b"payload").unwrap();
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn files_are_compact_sorted_and_always_the_same() {
    let mut root = Published::new(true).root;
    root.common
        .unrecognised
        .insert("é\n".to_string(), Value::from("x\ty"));
    let bytes = signed(&root, &["root"]);
    assert_eq!(bytes, signed(&root, &["root"]));
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with(r#"{"signatures":[{"keyid":""#));
    assert!(text.contains(r#""signed":{"_type":"root","consistent_snapshot":true,"expires":""#));
    assert!(text.ends_with(r#""version":1,"é\n":"x\ty"}}"#));
    assert!(!text.contains(' ') && !text.contains('\n'));
}

#[test]
fn keys_in_different_hands_sign_one_after_the_other() {
    let mut root = Published::new(true).root;
    set(&mut root, Role::Root, &["a", "b", "c"], 2);
    let (a, b) = (signer("a"), signer("b"));
    let open = |bytes: &[u8]| {
        Client::open(
            common::Memory::default(),
            bytes,
            time(NOW),
            Limits::default(),
        )
        .map(drop)
    };
    let first = sign(&root, &[&a]).unwrap();
    assert!(matches!(
        open(&first),
        Err(Error::Threshold {
            need: 2,
            have: 1,
            ..
        })
    ));
    let twice = add_signature(Role::Root, &first, &a).unwrap();
    assert_eq!(twice, first);
    let both = add_signature(Role::Root, &first, &b).unwrap();
    open(&both).unwrap();
    // The order does not matter.
    let other = sign(&root, &[&b]).unwrap();
    assert_eq!(add_signature(Role::Root, &other, &a).unwrap(), both);
    assert_eq!(sign(&root, &[&b, &a]).unwrap(), both);
}

#[test]
fn nothing_is_signed_that_clients_would_refuse() {
    let mut root = Published::new(true).root;
    let a = signer("a");
    let refused = |root: &Root| match sign(root, &[&a]) {
        Err(Error::Malformed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    sign(&root, &[&a]).unwrap();
    root.common.version = 0;
    assert!(matches!(refused(&root), Malformed::Version { .. }));
    root.common.version = 1;
    root.timestamp.threshold = 0;
    assert!(matches!(refused(&root), Malformed::Threshold { .. }));
    root.timestamp.threshold = 1;
    root.timestamp.key_ids = vec!["x".to_string(), "x".to_string()];
    assert!(matches!(refused(&root), Malformed::DuplicateKeyId { .. }));
    root.timestamp.key_ids.clear();
    root.common.spec_version = "2.0".to_string();
    assert!(matches!(refused(&root), Malformed::SpecVersion { .. }));
    root.common.spec_version = "1.0".to_string();
    let half = serde_json::json!(0.5);
    root.common.unrecognised.insert("x".to_string(), half);
    assert!(matches!(refused(&root), Malformed::Number { .. }));

    let timestamp = br#"{"signatures":[],"signed":{"_type":"snapshot"}}"#;
    let error = add_signature(Role::Timestamp, timestamp, &a).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"timestamp is malformed: its _type is "snapshot""#
    );
}

// Fetching.

#[test]
fn a_folder_answers_as_a_server_does() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("x"), "12345").unwrap();
    let fetch = fetch::Folder::new(folder.path());
    assert_eq!(fetch.fetch("x", 5).unwrap(), b"12345");
    assert_eq!(fetch.fetch("x", 4), Err(FetchError::TooLong));
    assert_eq!(fetch.fetch("y", 5), Err(FetchError::NotFound));
    assert!(matches!(fetch.fetch("", 5), Err(FetchError::Other(_))));
    let answer = fetch.fetch_if_changed("x", 5, Some("any")).unwrap();
    let bytes = b"12345".to_vec();
    assert_eq!(answer, Fetched::File { bytes, etag: None });
}

#[test]
fn urls_have_nothing_that_urls_may_not_have() {
    for (path, expected) in [
        ("a/b.json", "http://h/x/a/b.json"),
        ("a b", "http://h/x/a%20b"),
        ("ä", "http://h/x/%C3%A4"),
        ("a?b#c", "http://h/x/a%3Fb%23c"),
        ("a%20b", "http://h/x/a%20b"),
        ("100%", "http://h/x/100%25"),
        ("%2", "http://h/x/%252"),
        ("%zz", "http://h/x/%25zz"),
        ("a+b&c=d;e,f", "http://h/x/a+b&c=d;e,f"),
        ("<\"`>[]{}|^", "http://h/x/%3C%22%60%3E%5B%5D%7B%7D%7C%5E"),
        ("http://other/", "http://h/x/http://other/"),
    ] {
        assert_eq!(url("http://h/x", path), expected);
        assert_eq!(url("http://h/x/", path), expected);
    }
}
