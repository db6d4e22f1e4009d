// SPDX-License-Identifier: GPL-2.0

//! Documents: what is refused, for which reason, and that what is written is what was read.

mod common;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use common::{set, signer, Repository};
use kcare_tuf::key::Key;
use kcare_tuf::metadata::{Document, Root, Snapshot, Target, Targets, Timestamp, Unverified};
use kcare_tuf::{Error, Kind, Malformed, Role, Time};
use proptest::prelude::*;
use serde_json::{json, Map, Value};

/// A good document of a role, as JSON.
fn document(role: Role) -> Value {
    static TREE: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let files = TREE.get_or_init(|| Repository::new().tree().files);
    let name = match role {
        Role::Timestamp => role.file_name().to_string(),
        _ => role.versioned_name(1),
    };
    let file: Value = serde_json::from_slice(&files[&name]).unwrap();
    file["signed"].clone()
}

/// A good root, as a file.
fn root_file() -> Vec<u8> {
    static ROOT: OnceLock<Vec<u8>> = OnceLock::new();
    ROOT.get_or_init(|| Repository::new().initial()).clone()
}

fn read(role: Role, value: Value) -> Result<Map<String, Value>, Malformed> {
    let Value::Object(object) = value else {
        panic!("not an object");
    };
    match role {
        Role::Root => Root::from_object(object).map(|document| document.to_object()),
        Role::Timestamp => Timestamp::from_object(object).map(|document| document.to_object()),
        Role::Snapshot => Snapshot::from_object(object).map(|document| document.to_object()),
        Role::Targets => Targets::from_object(object).map(|document| document.to_object()),
    }
}

/// One case: the field at `pointer` becomes `value`, or goes if there is none; then this is the reason.
struct Case {
    name: &'static str,
    role: Role,
    pointer: &'static str,
    value: Option<Value>,
    says: &'static str,
}

fn case(
    name: &'static str,
    role: Role,
    pointer: &'static str,
    value: Value,
    says: &'static str,
) -> Case {
    Case {
        name,
        role,
        pointer,
        value: Some(value),
        says,
    }
}

fn without(role: Role, pointer: &'static str, says: &'static str) -> Case {
    Case {
        name: "missing",
        role,
        pointer,
        value: None,
        says,
    }
}

/// `document` with one field changed.
fn changed(mut document: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/");
    let parent = document.pointer_mut(parent).expect("a parent");
    let object = parent.as_object_mut().expect("an object");
    match value {
        Some(value) => drop(object.insert(name, value)),
        None => drop(object.remove(&name).expect("a field")),
    }
    document
}

#[test]
fn what_is_malformed_is_refused_with_field_and_reason() {
    use Role::{Root, Snapshot, Targets, Timestamp};
    let hash = "/targets/9.kpatch/hashes/sha256";
    let cases = [
        case(
            "another role",
            Root,
            "/_type",
            json!("targets"),
            r#"its _type is "targets""#,
        ),
        case(
            "no text",
            Root,
            "/_type",
            json!(1),
            "signed._type is not a string",
        ),
        without(Root, "/_type", "signed._type is missing"),
        case(
            "major 2",
            Targets,
            "/spec_version",
            json!("2.0.0"),
            r#"its spec_version is "2.0.0"; only 1 is known"#,
        ),
        case(
            "one part",
            Targets,
            "/spec_version",
            json!("1"),
            r#"its spec_version is "1"; only 1 is known"#,
        ),
        case(
            "four parts",
            Targets,
            "/spec_version",
            json!("1.0.0.0"),
            r#"its spec_version is "1.0.0.0"; only 1 is known"#,
        ),
        case(
            "empty part",
            Targets,
            "/spec_version",
            json!("1."),
            r#"its spec_version is "1."; only 1 is known"#,
        ),
        case(
            "major 11",
            Targets,
            "/spec_version",
            json!("11.0"),
            r#"its spec_version is "11.0"; only 1 is known"#,
        ),
        case(
            "letters",
            Targets,
            "/spec_version",
            json!("1.x"),
            r#"its spec_version is "1.x"; only 1 is known"#,
        ),
        without(Targets, "/spec_version", "signed.spec_version is missing"),
        case(
            "withdrawn is a list",
            Targets,
            "/withdrawn",
            json!([2]),
            "signed.withdrawn is not an object",
        ),
        case(
            "withdrawn is no level",
            Targets,
            "/withdrawn",
            json!({"02": "2026-11-30T12:00:00Z"}),
            "signed.withdrawn.02 is not a level",
        ),
        case(
            "withdrawn at no time",
            Targets,
            "/withdrawn",
            json!({"2": "yesterday"}),
            r#""yesterday" is no time as YYYY-MM-DDTHH:MM:SSZ"#,
        ),
        case(
            "withdrawn at a number",
            Targets,
            "/withdrawn",
            json!({"2": 1}),
            "signed.withdrawn.2 is not a string",
        ),
        case(
            "0",
            Snapshot,
            "/version",
            json!(0),
            "signed.version is 0; it must be 1 to 2^63",
        ),
        case(
            "negative",
            Snapshot,
            "/version",
            json!(-1),
            "signed.version is -1; it must be 1 to 2^63",
        ),
        case(
            "too high",
            Snapshot,
            "/version",
            json!((1_u64 << 63) + 1),
            "signed.version is 9223372036854775809; it must be 1 to 2^63",
        ),
        case(
            "text",
            Snapshot,
            "/version",
            json!("1"),
            "signed.version is not a whole number",
        ),
        case(
            "none",
            Snapshot,
            "/version",
            json!(null),
            "signed.version is not a whole number",
        ),
        without(Snapshot, "/version", "signed.version is missing"),
        without(Snapshot, "/expires", "signed.expires is missing"),
        case(
            "number",
            Snapshot,
            "/expires",
            json!(1),
            "signed.expires is not a string",
        ),
        case(
            "zone",
            Snapshot,
            "/expires",
            json!("2027-01-01T00:00:00+00:00"),
            r#""2027-01-01T00:00:00+00:00" is no time as YYYY-MM-DDTHH:MM:SSZ"#,
        ),
        case(
            "keys",
            Root,
            "/keys",
            json!([]),
            "signed.keys is not an object",
        ),
        without(Root, "/keys", "signed.keys is missing"),
        case(
            "a key",
            Root,
            "/keys/k",
            json!("x"),
            "signed.keys.k is not an object",
        ),
        case(
            "a key's type",
            Root,
            "/keys/k",
            json!({"scheme": "", "keyval": {}}),
            "signed.keys.k.keytype is missing",
        ),
        case(
            "a key's scheme",
            Root,
            "/keys/k",
            json!({"keytype": "", "keyval": {}}),
            "signed.keys.k.scheme is missing",
        ),
        case(
            "a key's value",
            Root,
            "/keys/k",
            json!({"keytype": "", "scheme": "", "keyval": ""}),
            "signed.keys.k.keyval is not an object",
        ),
        case(
            "consistent",
            Root,
            "/consistent_snapshot",
            json!("yes"),
            "signed.consistent_snapshot is not true or false",
        ),
        without(Root, "/roles", "signed.roles is missing"),
        without(Root, "/roles/snapshot", "signed.roles.snapshot is missing"),
        case(
            "a role too many",
            Root,
            "/roles/mirrors",
            json!({"keyids": [], "threshold": 1}),
            r#"there is no role "mirrors""#,
        ),
        case(
            "threshold 0",
            Root,
            "/roles/root/threshold",
            json!(0),
            "signed.roles.root.threshold is 0; it must be 1 or more",
        ),
        case(
            "threshold -2",
            Root,
            "/roles/root/threshold",
            json!(-2),
            "signed.roles.root.threshold is -2; it must be 1 or more",
        ),
        case(
            "threshold",
            Root,
            "/roles/root/threshold",
            json!("1"),
            "signed.roles.root.threshold is not a whole number",
        ),
        without(
            Root,
            "/roles/targets/threshold",
            "signed.roles.targets.threshold is missing",
        ),
        case(
            "ids",
            Root,
            "/roles/root/keyids",
            json!({}),
            "signed.roles.root.keyids is not a list",
        ),
        case(
            "id",
            Root,
            "/roles/root/keyids",
            json!(["a", 2]),
            "signed.roles.root.keyids[1] is not a string",
        ),
        case(
            "id twice",
            Root,
            "/roles/root/keyids",
            json!(["a", "b", "a"]),
            r#"signed.roles.root.keyids has the key "a" twice"#,
        ),
        without(Timestamp, "/meta", "signed.meta is missing"),
        without(
            Timestamp,
            "/meta/snapshot.json",
            "signed.meta.snapshot.json is missing",
        ),
        without(
            Timestamp,
            "/meta/snapshot.json/version",
            "signed.meta.snapshot.json.version is missing",
        ),
        case(
            "0",
            Timestamp,
            "/meta/snapshot.json/version",
            json!(0),
            "signed.meta.snapshot.json.version is 0; it must be 1 to 2^63",
        ),
        case(
            "negative",
            Timestamp,
            "/meta/snapshot.json/length",
            json!(-1),
            "signed.meta.snapshot.json.length is -1; it must not be negative",
        ),
        case(
            "text",
            Timestamp,
            "/meta/snapshot.json/length",
            json!("1"),
            "signed.meta.snapshot.json.length is not a whole number",
        ),
        case(
            "no hash",
            Timestamp,
            "/meta/snapshot.json/hashes",
            json!({}),
            "signed.meta.snapshot.json.hashes has neither sha256 nor sha512",
        ),
        case(
            "unknown",
            Timestamp,
            "/meta/snapshot.json/hashes",
            json!({"md5": "0"}),
            "signed.meta.snapshot.json.hashes has neither sha256 nor sha512",
        ),
        case(
            "meta",
            Snapshot,
            "/meta",
            json!(null),
            "signed.meta is not an object",
        ),
        case(
            "a file",
            Snapshot,
            "/meta/x.json",
            json!(1),
            "signed.meta.x.json is not an object",
        ),
        case(
            "a file's version",
            Snapshot,
            "/meta/x.json",
            json!({}),
            "signed.meta.x.json.version is missing",
        ),
        without(Targets, "/targets", "signed.targets is missing"),
        case(
            "a target",
            Targets,
            "/targets/x",
            json!([]),
            "signed.targets.x is not an object",
        ),
        without(
            Targets,
            "/targets/9.kpatch/length",
            "signed.targets.9.kpatch.length is missing",
        ),
        without(
            Targets,
            "/targets/9.kpatch/hashes",
            "signed.targets.9.kpatch.hashes is missing",
        ),
        case(
            "negative",
            Targets,
            "/targets/9.kpatch/length",
            json!(-7),
            "signed.targets.9.kpatch.length is -7; it must not be negative",
        ),
        case(
            "short",
            Targets,
            hash,
            json!("00"),
            r#"signed.targets.9.kpatch.hashes.sha256 is no such hash: "00""#,
        ),
        case(
            "a number",
            Targets,
            hash,
            json!(0),
            "signed.targets.9.kpatch.hashes.sha256 is not a string",
        ),
        case(
            "sha512",
            Targets,
            "/targets/9.kpatch/hashes/sha512",
            json!("é"),
            r#"signed.targets.9.kpatch.hashes.sha512 is no such hash: "é""#,
        ),
    ];
    for role in Role::ALL {
        read(role, document(role)).unwrap();
    }
    for case in cases {
        let bad = changed(document(case.role), case.pointer, case.value);
        let reason = read(case.role, bad).expect_err(case.name);
        assert_eq!(reason.to_string(), case.says, "{}", case.name);
    }
}

#[test]
fn hashes_are_in_lower_case() {
    let upper = "A".repeat(64);
    for (digits, good) in [
        ("a".repeat(64), true),
        (upper, false),
        ("g".repeat(64), false),
    ] {
        let pointer = "/targets/9.kpatch/hashes/sha256";
        let document = changed(document(Role::Targets), pointer, Some(json!(digits)));
        assert_eq!(read(Role::Targets, document).is_ok(), good, "{digits}");
    }
}

#[test]
fn each_known_hash_is_compared() {
    let sha512 = "ee26b0dd4af7e749aa1a8ee3c10ae9923f618980772e473f8819a5d4940e0db2\
                  7ac185f8a0e1d5f84f88bc887fd67b143732c304cc5fa9ad8e6f57f50028a8ff";
    let mut target = Target::of(b"test");
    target.hashes.sha512 = Some(sha512.to_string());
    target.check("x", b"test").unwrap();
    target.hashes.sha512 = Some(sha512.replace("ee26", "ee27"));
    let error = target.check("x", b"test").unwrap_err();
    let Error::Hash {
        algorithm, found, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((algorithm, found.as_str()), ("sha512", sha512));
    target.hashes.sha512 = None;
    target.check("x", b"test").unwrap();
    let error = target.check("x", b"tesT").unwrap_err();
    assert!(matches!(
        error,
        Error::Hash {
            algorithm: "sha256",
            ..
        }
    ));
}

#[test]
fn the_keys_of_a_documents_own_role_count() {
    let mut repository = Repository::new();
    let root = repository.root().clone();
    let tree = repository.tree();
    let file = |role, name: &str| Unverified::parse(role, &tree.files[name]).unwrap();
    let timestamp = file(Role::Timestamp, "timestamp.json");
    root.verify::<Timestamp>(&timestamp).unwrap();
    root.verify::<Snapshot>(&file(Role::Snapshot, "1.snapshot.json"))
        .unwrap();
    // Whatever a file was read for.
    root.verify::<Snapshot>(&file(Role::Timestamp, "1.snapshot.json"))
        .unwrap();
    let error = root.verify::<Snapshot>(&timestamp).unwrap_err();
    assert_eq!(error.kind(), Kind::Signature);

    repository.signers.insert(Role::Snapshot, vec!["timestamp"]);
    let bytes = &repository.tree().files["1.snapshot.json"];
    for role in [Role::Timestamp, Role::Snapshot] {
        let file = Unverified::parse(role, bytes).unwrap();
        let error = root.verify::<Snapshot>(&file).unwrap_err();
        assert_eq!(error.kind(), Kind::Signature);
    }
}

#[test]
fn versions_may_be_1_to_2_to_the_63() {
    for version in [1, 2, (1_u64 << 63) - 1, 1 << 63] {
        let document = changed(document(Role::Root), "/version", Some(json!(version)));
        read(Role::Root, document).unwrap();
    }
}

#[test]
fn what_is_not_recognised_is_kept() {
    let more = json!({"new": {"ä": [1, null, true, -5], "z\n\"": ""}});
    for (role, pointer) in [
        (Role::Root, "/x"),
        (Role::Root, "/keys/y/x"),
        (Role::Root, "/roles/root/x"),
        (Role::Timestamp, "/x"),
        (Role::Timestamp, "/meta/x"),
        (Role::Timestamp, "/meta/snapshot.json/x"),
        (Role::Timestamp, "/meta/snapshot.json/hashes/x"),
        (Role::Snapshot, "/x"),
        (Role::Snapshot, "/meta/targets.json/x"),
        (Role::Targets, "/x"),
        (Role::Targets, "/delegations"),
        (Role::Targets, "/targets/9.kpatch/x"),
        (Role::Targets, "/targets/9.kpatch/custom"),
        (Role::Targets, "/targets/9.kpatch/hashes/x"),
    ] {
        let mut good = document(role);
        if pointer.starts_with("/keys") {
            good["keys"]["y"] = json!({"keytype": "t", "scheme": "s", "keyval": {"z": [1]}});
        }
        let good = changed(good, pointer, Some(more.clone()));
        let again = read(role, good.clone()).unwrap();
        assert_eq!(Value::Object(again), good, "{pointer}");
    }
}

#[test]
fn withdrawn_levels_are_told_only_if_there_are_any() {
    let plain = document(Role::Targets);
    let object = read(Role::Targets, plain.clone()).unwrap();
    assert!(!object.contains_key("withdrawn"));
    let mut told = plain;
    told["withdrawn"] = json!({"2": "2026-11-30T12:00:00Z", "10": "2026-12-01T00:00:00Z"});
    assert_eq!(
        Value::from(read(Role::Targets, told.clone()).unwrap()),
        told
    );
    let Value::Object(told) = told else { panic!() };
    let targets = Targets::from_object(told).unwrap();
    let levels: Vec<u32> = targets.withdrawn.keys().copied().collect();
    assert_eq!(levels, [2, 10]);
    assert!(targets.common.unrecognised.is_empty());
}

#[test]
fn silence_about_consistent_snapshots_is_kept() {
    let silent = changed(document(Role::Root), "/consistent_snapshot", None);
    let again = read(Role::Root, silent.clone()).unwrap();
    assert_eq!(Value::Object(again), silent);
}

fn malformed(bytes: &[u8]) -> Malformed {
    match Unverified::parse(Role::Targets, bytes) {
        Err(Error::Malformed {
            role: Role::Targets,
            reason,
        }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_strict_json() {
    let good = br#"{"signed":{},"signatures":[]}"#;
    Unverified::parse(Role::Targets, good).unwrap();
    let deep = format!(
        r#"{{"signed":{{"x":{}{}}},"signatures":[]}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for (bytes, says) in [
        (&b""[..], "it is not JSON at line 1, column 0: EOF while parsing a value"),
        (b"{", "it is not JSON at line 1, column 1: EOF while parsing an object"),
        (b"{}}", "it is not JSON at line 1, column 3: trailing characters"),
        (b"\xef\xbb\xbf{}", "it is not JSON at line 1, column 1: expected value"),
        (b"{\"a\xff\":1}", "it is not UTF-8 at byte 3"),
        (b"[]", "the file is not an object"),
        (b"{\"signatures\":[]}", "the file.signed is missing"),
        (b"{\"signed\":[],\"signatures\":[]}", "the file.signed is not an object"),
        (b"{\"signed\":{}}", "the file.signatures is missing"),
        (b"{\"signed\":{},\"signatures\":{}}", "the file.signatures is not a list"),
        (b"{\"signed\":{},\"signatures\":[1]}", "signatures[0] is not an object"),
        (b"{\"signed\":{},\"signatures\":[{\"sig\":\"\"}]}", "signatures[0].keyid is missing"),
        (b"{\"signed\":{},\"signatures\":[{\"keyid\":\"\"}]}", "signatures[0].sig is missing"),
        (b"{\"signed\":{},\"signatures\":[{\"keyid\":\"a\",\"sig\":\"\"},{\"keyid\":\"a\",\"sig\":\"0\"}]}", "signatures has the key \"a\" twice"),
        (b"{\"signed\":{},\"signed\":{},\"signatures\":[]}", "an object has the name \"signed\" twice"),
        (b"{\"signed\":{\"a\":{\"b\\n\":1,\"b\\n\":1}},\"signatures\":[]}", "an object has the name \"b\\n\" twice"),
        (b"{\"signed\":{\"a\":1.0},\"signatures\":[]}", "1.0 is not a whole number of 64 bits"),
        (b"{\"signed\":{\"a\":1e3},\"signatures\":[]}", "1000.0 is not a whole number of 64 bits"),
        (b"{\"signed\":{\"a\":-0},\"signatures\":[]}", "-0.0 is not a whole number of 64 bits"),
        (b"{\"signed\":{\"a\":18446744073709551616},\"signatures\":[]}", "1.8446744073709552e19 is not a whole number of 64 bits"),
        (b"{\"signed\":{\"a\":-9223372036854775809},\"signatures\":[]}", "-9.223372036854776e18 is not a whole number of 64 bits"),
        (b"{\"signed\":{\"a\":\"\\ud800\"},\"signatures\":[]}", "it is not JSON at line 1, column 23: unexpected end of hex escape"),
        (b"{\"signed\":{\"a\":NaN},\"signatures\":[]}", "it is not JSON at line 1, column 16: expected value"),
        (deep.as_bytes(), "it is not JSON at line 1, column 141: recursion limit exceeded"),
    ] {
        let reason = malformed(bytes).to_string();
        assert_eq!(reason, says, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn the_largest_numbers_are_read() {
    let text = br#"{"signed":{"a":18446744073709551615,"b":-9223372036854775808},"signatures":[]}"#;
    let file = Unverified::parse(Role::Targets, text).unwrap();
    let expected = br#"{"a":18446744073709551615,"b":-9223372036854775808}"#;
    assert_eq!(file.message(), expected);
}

#[test]
fn the_canonical_form_is_that_of_olpc() {
    for (text, canonical) in [
        (
            r#"{"b":1, "a": [ true , false,null ] }"#,
            r#"{"a":[true,false,null],"b":1}"#,
        ),
        // By code points: U+FF21 comes before U+1F600, which UTF-16 would have the other way round.
        (
            r#"{"😀":1,"Ａ":2,"a":3,"Z":4,"":5}"#,
            r#"{"":5,"Z":4,"a":3,"Ａ":2,"😀":1}"#,
        ),
        (r#""\u00e9\/\b\u0000""#, "\"é/\u{8}\0\""),
        (r#""a\"b\\c\nd\te""#, "\"a\\\"b\\\\c\nd\te\""),
        (r#"{"a\"b":{}}"#, r#"{"a\"b":{}}"#),
        ("[-5,0,  7]", "[-5,0,7]"),
    ] {
        let value = kcare_tuf::json::parse(text.as_bytes()).unwrap();
        let bytes = kcare_tuf::json::canonical(&value).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), canonical);
    }
    let float = kcare_tuf::json::canonical(&json!([0.5]));
    assert!(matches!(float, Err(Malformed::Number { .. })));
}

#[test]
fn times_have_one_form() {
    for text in [
        "2026-11-29T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2024-02-29T00:00:00Z",
    ] {
        assert_eq!(Time::parse(text).unwrap().to_string(), text);
    }
    for text in [
        "",
        "2026-11-29",
        "2026-11-29T12:00:00",
        "2026-11-29 12:00:00Z",
        "2026-11-29t12:00:00z",
        "2026-11-29T12:00:00+00:00",
        "2026-11-29T12:00:00.0Z",
        "2026-1-29T12:00:00Z",
        "+026-11-29T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-01-00T12:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60Z",
        "２026-11-29T12:00:00Z",
        "2026-11-29T12:00:00Z ",
    ] {
        let found = text.to_string();
        assert_eq!(Time::parse(text), Err(Malformed::Time { found }));
    }
}

#[test]
fn times_are_in_order() {
    let time = |text| Time::parse(text).unwrap();
    assert!(time("2026-11-29T12:00:00Z") < time("2026-11-29T12:00:01Z"));
    assert!(time("2026-12-01T00:00:00Z") > time("2026-11-30T23:59:59Z"));
    let later = time("2027-12-31T00:00:00Z").plus_days(60);
    assert_eq!(later, time("2028-02-29T00:00:00Z"));
    assert_eq!(
        later.plus_days(u32::MAX),
        time("9999-12-31T23:59:59Z"),
        "the last second"
    );
    assert_eq!(
        Time::from_unix_seconds(0),
        Some(time("1970-01-01T00:00:00Z"))
    );
    let second = 1_795_953_600;
    assert_eq!(Time::from_unix_seconds(second), Some(time(common::NOW)));
    assert_eq!(Time::from_unix_seconds(i64::MAX), None);
    assert_eq!(Time::from_unix_seconds(i64::MIN), None);
}

#[test]
fn a_root_keeps_the_keys_that_it_names_and_no_others() {
    let mut root = Repository::new().root().clone();
    assert_eq!(root.keys.len(), 4);
    set(&mut root, Role::Timestamp, &["snapshot"], 1);
    assert_eq!(root.keys.len(), 3);
    assert!(!root.keys.contains_key(signer("timestamp").id()));
    set(&mut root, Role::Timestamp, &["a", "b"], 2);
    assert_eq!(root.keys.len(), 5);
    assert_eq!(root.timestamp.threshold, 2);
}

#[test]
fn kinds_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = Kind::ALL.map(Kind::name).into();
    assert_eq!(names.len(), Kind::ALL.len());
}

/// Any JSON that has a canonical form.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_as_it_was_written(value in any_json()) {
        let text = serde_json::to_vec(&value).unwrap();
        prop_assert_eq!(kcare_tuf::json::parse(&text).unwrap(), value.clone());
        let text = serde_json::to_vec_pretty(&value).unwrap();
        prop_assert_eq!(kcare_tuf::json::parse(&text).unwrap(), value);
    }

    #[test]
    fn the_canonical_form_tells_values_apart(a in any_json(), b in any_json()) {
        let same = kcare_tuf::json::canonical(&a).unwrap() == kcare_tuf::json::canonical(&b).unwrap();
        prop_assert_eq!(same, a == b);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Unverified::parse(Role::Root, &bytes);
    }

    #[test]
    fn any_change_of_a_good_file_is_read_or_refused(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()
    ) {
        let mut bytes = root_file();
        let at = at.index(bytes.len());
        // The digits of a signature may be in upper case.
        let same = bytes[at].eq_ignore_ascii_case(&byte);
        bytes[at] = byte;
        let changed = Unverified::parse(Role::Root, &bytes).and_then(Unverified::into_initial_root);
        prop_assert!(same || changed.is_err());
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(Unverified::parse(Role::Root, &bytes).is_err());
    }

    #[test]
    fn any_value_in_any_field_is_read_or_refused(value in any_json(), field in any::<prop::sample::Index>()) {
        for role in Role::ALL {
            let mut pointers = Vec::new();
            collect(&document(role), "", &mut pointers);
            let pointer = &pointers[field.index(pointers.len())];
            let mut changed = document(role);
            *changed.pointer_mut(pointer).unwrap() = value.clone();
            // What is read is kept as it is.
            if let Ok(again) = read(role, changed.clone()) {
                prop_assert_eq!(Value::Object(again), changed);
            }
        }
    }
}

/// The pointers of all values in an object.
fn collect(value: &Value, path: &str, pointers: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        pointers.push(path.clone());
        collect(value, &path, pointers);
    }
}

#[test]
fn ids_are_those_of_other_implementations() {
    // The id that python-tuf gives the first public key of RFC 8032's test vectors.
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let bytes: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&public[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let key = Key::ed25519(&bytes.try_into().unwrap());
    assert_eq!(
        key.id().unwrap(),
        "74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916"
    );
}
