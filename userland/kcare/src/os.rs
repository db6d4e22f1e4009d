// SPDX-License-Identifier: GPL-2.0

//! The distribution.

use std::path::Path;

/// `debian13`: `ID` and `VERSION_ID` of os-release(5) below `root`; `unknown` without one.
pub fn name(root: &Path) -> String {
    let places = ["etc/os-release", "usr/lib/os-release"];
    let read = |place: &&str| std::fs::read_to_string(root.join(place)).ok();
    let text = places.iter().find_map(read).unwrap_or_default();
    parse(&text).unwrap_or_else(|| "unknown".to_owned())
}

fn parse(text: &str) -> Option<String> {
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches(['"', '\'']))
    };
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    Some(clean(value("ID")?) + &clean(value("VERSION_ID").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n";
        assert_eq!(parse(debian).as_deref(), Some("debian13"));
        // Debian's testing has no number.
        assert_eq!(parse("ID=debian\n").as_deref(), Some("debian"));
        assert_eq!(parse("NAME=x\n"), None);
        assert_eq!(name(Path::new("/nonexistent")), "unknown");
    }
}
