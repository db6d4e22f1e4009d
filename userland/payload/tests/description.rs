// SPDX-License-Identifier: GPL-2.0

//! What a description says to programs.

use kcare_payload::description::{effective_version, Description};

#[test]
fn what_is_written_is_read() {
    let description = Description {
        level: 9,
        effective: "7.2.12-1~bpo13+1",
    };
    let text = description.to_string();
    assert_eq!(text, "9;7.2.12-1~bpo13+1");
    assert_eq!(effective_version(&text, 9), Some("7.2.12-1~bpo13+1"));
}

#[test]
fn other_texts_say_nothing() {
    for text in [
        "",
        "9",
        "9;",
        ";7.2.12-1",
        "9;7.2.12-1 and more",
        "9 ;7.2.12-1",
        "our fix; see the advisory",
    ] {
        assert_eq!(effective_version(text, 9), None, "{text}");
    }
    // Of another level.
    assert_eq!(effective_version("8;7.2.12-1", 9), None);
}
