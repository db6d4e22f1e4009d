// SPDX-License-Identifier: GPL-2.0

//! Just enough of C to tell which names a changed header defines, and who mentions a name.

use std::collections::{BTreeSet, HashSet};

use crate::diff::matches;

/// A token; comments and white space are gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// An identifier or keyword.
    Name(String),
    /// Anything else: a number, a literal, a punctuator.
    Other(String),
}

impl Token {
    fn is(&self, text: &str) -> bool {
        matches!(self, Token::Other(t) if t == text)
    }

    fn name(&self) -> Option<&str> {
        match self {
            Token::Name(name) => Some(name),
            Token::Other(_) => None,
        }
    }
}

/// One declaration, definition or directive at the top level of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Whether it is a preprocessor directive.
    pub directive: bool,
    /// Its tokens.
    pub tokens: Vec<Token>,
}

/// What a chunk defines or declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defines {
    /// Nothing but these names, each of which has to be mentioned to have an effect.
    Names(BTreeSet<String>),
    /// Something else: a type, a variable, a condition, an include.
    Unknown,
}

fn tokens_of(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let c = bytes[i];
        let start = i;
        if c.is_ascii_whitespace() || c == b'\\' {
            i += 1;
        } else if bytes[i..].starts_with(b"//") {
            i = bytes[i..]
                .iter()
                .position(|&b| b == b'\n')
                .map_or(bytes.len(), |n| i + n);
        } else if bytes[i..].starts_with(b"/*") {
            i = find(bytes, i + 2, b"*/").map_or(bytes.len(), |n| n + 2);
        } else if c == b'"' || c == b'\'' {
            i += 1;
            while i < bytes.len() && bytes[i] != c && bytes[i] != b'\n' {
                i += if bytes[i] == b'\\' { 2 } else { 1 };
            }
            i = (i + 1).min(bytes.len());
            tokens.push(Token::Other(
                String::from_utf8_lossy(&bytes[start..i]).into_owned(),
            ));
        } else if c.is_ascii_alphabetic() || c == b'_' || c >= 0x80 {
            while i < bytes.len()
                && (bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_' || bytes[i] >= 0x80)
            {
                i += 1;
            }
            tokens.push(Token::Name(
                String::from_utf8_lossy(&bytes[start..i]).into_owned(),
            ));
        } else if c.is_ascii_digit() {
            while i < bytes.len() && (bytes[i].is_ascii_alphanumeric() || bytes[i] == b'.') {
                i += 1;
            }
            tokens.push(Token::Other(
                String::from_utf8_lossy(&bytes[start..i]).into_owned(),
            ));
        } else {
            i += if bytes[i..].starts_with(b"##") { 2 } else { 1 };
            tokens.push(Token::Other(
                String::from_utf8_lossy(&bytes[start..i]).into_owned(),
            ));
        }
    }
    tokens
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    bytes
        .get(from..)?
        .windows(needle.len())
        .position(|w| w == needle)
        .map(|n| from + n)
}

/// Splits a file into its top-level chunks, in order.
pub fn chunks(text: &str) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut plain = String::new();
    let mut lines = without_comments(text);
    lines.push('\n');
    let mut rest = lines.as_str();
    while !rest.is_empty() {
        let mut end = rest.find('\n').map_or(rest.len(), |n| n + 1);
        if rest[..end].trim_start().starts_with('#') {
            while rest[..end].trim_end_matches(['\n', '\r']).ends_with('\\') && end < rest.len() {
                end += rest[end..].find('\n').map_or(rest.len() - end, |n| n + 1);
            }
            split_plain(&plain, &mut chunks);
            plain.clear();
            chunks.push(Chunk {
                directive: true,
                tokens: tokens_of(&rest[..end]),
            });
        } else {
            plain.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    split_plain(&plain, &mut chunks);
    chunks
}

/// Replaces comments by blanks, so that none of them hides a line's start.
fn without_comments(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            i = find(bytes, i + 2, b"*/").map_or(bytes.len(), |n| n + 2);
            out.push(b' ');
        } else if bytes[i..].starts_with(b"//") {
            i = bytes[i..]
                .iter()
                .position(|&b| b == b'\n')
                .map_or(bytes.len(), |n| i + n);
        } else if bytes[i] == b'"' || bytes[i] == b'\'' {
            let quote = bytes[i];
            let start = i;
            i += 1;
            while i < bytes.len() && bytes[i] != quote && bytes[i] != b'\n' {
                i += if bytes[i] == b'\\' { 2 } else { 1 };
            }
            i = (i + 1).min(bytes.len());
            out.extend_from_slice(&bytes[start..i]);
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Splits text between directives at the ends of declarations and function bodies.
fn split_plain(text: &str, chunks: &mut Vec<Chunk>) {
    let mut tokens = Vec::new();
    let mut depth = 0usize;
    let mut function = false;
    for token in tokens_of(text) {
        if token.is("{") || token.is("(") || token.is("[") {
            if depth == 0 && token.is("{") {
                function = looks_like_function(&tokens);
            }
            depth += 1;
        } else if token.is("}") || token.is(")") || token.is("]") {
            depth = depth.saturating_sub(1);
        }
        let ends = depth == 0 && (token.is(";") || (token.is("}") && function));
        tokens.push(token);
        if ends {
            chunks.push(Chunk {
                directive: false,
                tokens: std::mem::take(&mut tokens),
            });
            function = false;
        }
    }
    if !tokens.is_empty() {
        chunks.push(Chunk {
            directive: false,
            tokens,
        });
    }
}

/// Whether what stands in front of a `{` is a function's head.
fn looks_like_function(tokens: &[Token]) -> bool {
    let typed = |t: &Token| matches!(t.name(), Some("struct" | "union" | "enum" | "typedef"));
    let initialised = tokens.iter().any(|t| t.is("="));
    match tokens.last() {
        Some(last) if last.is(")") => !initialised,
        // An annotation without parentheses behind the parameters.
        Some(Token::Name(_)) => {
            !initialised && tokens.iter().any(|t| t.is(")")) && !tokens.first().is_some_and(typed)
        }
        _ => false,
    }
}

/// Annotations that stand in front of parentheses and are no function's name.
const ANNOTATIONS: [&str; 20] = [
    "__acquires",
    "__aligned",
    "__alloc_size",
    "__assume_aligned",
    "__attribute__",
    "__cond_acquires",
    "__counted_by",
    "__must_hold",
    "__must_hold_shared",
    "__nonnull",
    "__printf",
    "__releases",
    "__realloc_size",
    "__scanf",
    "__section",
    "__attribute",
    "__diagnose_as",
    "__cleanup",
    "typeof",
    "__typeof__",
];

impl Chunk {
    /// What it defines or declares.
    pub fn defines(&self) -> Defines {
        if self.directive {
            return self.directive_defines();
        }
        let last = self.tokens.last();
        let body = last.is_some_and(|t| t.is("}"));
        if !body && !last.is_some_and(|t| t.is(";")) {
            return Defines::Unknown;
        }
        // A function or its declaration: no type is defined and nothing is initialised on the way.
        let head = match self.tokens.iter().position(|t| t.is("{")) {
            Some(brace) if body => &self.tokens[..brace],
            Some(_) => return Defines::Unknown,
            None => &self.tokens[..],
        };
        let unfit = head
            .iter()
            .any(|t| t.is("=") || t.name() == Some("typedef"));
        let mut names = BTreeSet::new();
        let mut depth = 0usize;
        for (i, token) in head.iter().enumerate() {
            if token.is("(") {
                let before = i.checked_sub(1).and_then(|i| head[i].name());
                if let Some(name) = before.filter(|n| depth == 0 && !ANNOTATIONS.contains(n)) {
                    names.insert(name.to_owned());
                }
                depth += 1;
            } else if token.is(")") {
                depth = depth.saturating_sub(1);
            }
        }
        if unfit || names.is_empty() {
            return Defines::Unknown;
        }
        Defines::Names(names)
    }

    fn directive_defines(&self) -> Defines {
        match (self.tokens.get(1).and_then(Token::name), self.tokens.get(2)) {
            (Some("define" | "undef"), Some(Token::Name(name))) => {
                Defines::Names(BTreeSet::from([name.clone()]))
            }
            _ => Defines::Unknown,
        }
    }

    /// Whether it mentions one of the names, or may make one up by `##`.
    pub fn mentions(&self, wanted: &Wanted) -> bool {
        self.tokens
            .iter()
            .filter_map(Token::name)
            .any(|token| wanted.has(token.as_bytes()))
    }
}

/// Names to look for, and the pieces from which `##` can make them.
#[derive(Debug)]
pub struct Wanted {
    words: HashSet<Vec<u8>>,
    longest: usize,
    /// First bytes of the words.
    first: [bool; 256],
}

impl Wanted {
    /// Looks for these names.
    pub fn new(names: &BTreeSet<String>) -> Self {
        let mut words = HashSet::new();
        for name in names {
            words.insert(name.clone().into_bytes());
            // A piece of a name that stands alone is pasted to another one somewhere.
            for (cut, _) in name.match_indices('_').filter(|&(cut, _)| cut > 0) {
                words.insert(name[..=cut].as_bytes().to_vec());
                if name.len() - cut > 2 {
                    words.insert(name[cut..].as_bytes().to_vec());
                }
            }
        }
        let mut first = [false; 256];
        for word in &words {
            first[usize::from(word[0])] = true;
        }
        Wanted {
            longest: words.iter().map(Vec::len).max().unwrap_or(0),
            words,
            first,
        }
    }

    fn has(&self, word: &[u8]) -> bool {
        word.len() <= self.longest && self.first[usize::from(word[0])] && self.words.contains(word)
    }

    /// Whether a text may mention one of the names; `false` is sure.
    pub fn in_text(&self, text: &[u8]) -> bool {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        let mut i = 0;
        while i < text.len() {
            if !inside(text[i]) {
                i += 1;
                continue;
            }
            let start = i;
            while i < text.len() && inside(text[i]) {
                i += 1;
            }
            if self.has(&text[start..i]) {
                return true;
            }
        }
        false
    }
}

/// The chunks that only one of two files has.
pub fn difference(old: &str, new: &str) -> Vec<Chunk> {
    let (old, new) = (chunks(old), chunks(new));
    let Some(same) = matches(&old, &new) else {
        return old.into_iter().chain(new).collect();
    };
    let (kept_old, kept_new): (HashSet<usize>, HashSet<usize>) = same.into_iter().unzip();
    let only = |chunks: Vec<Chunk>, kept: HashSet<usize>| {
        chunks
            .into_iter()
            .enumerate()
            .filter(move |(i, _)| !kept.contains(i))
            .map(|(_, c)| c)
    };
    only(old, kept_old).chain(only(new, kept_new)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<Vec<String>> {
        let chunks = chunks(text);
        assert_eq!(chunks.len(), 1, "{chunks:?}");
        match chunks[0].defines() {
            Defines::Names(names) => Some(names.into_iter().collect()),
            Defines::Unknown => None,
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn functions_and_macros_define_names() {
        let some = |n: &str| Some(vec![n.to_owned()]);
        assert_eq!(
            names("static inline int f(int (*g)(int)) { return g(1); }"),
            some("f")
        );
        assert_eq!(
            names("extern __printf(1, 2) int p(const char *s, ...);"),
            some("p")
        );
        assert_eq!(
            names("static inline void h(void) __acquires(x)\n{ if (a) { b(); } }"),
            some("h")
        );
        assert_eq!(names("#define M(x) \\\n  ((x) + 1)"), some("M"));
        assert_eq!(names("#undef M"), some("M"));
    }

    #[test]
    fn everything_else_is_unknown() {
        for text in [
            "struct s { int a; };",
            "typedef int (*f)(void);",
            "static int x = f(1);",
            "int y;",
            "#if defined(X)",
            "#include <a.h>",
            "enum e { A, B };",
            "static const struct s t = { .f = g(1) };",
        ] {
            assert_eq!(names(text), None, "{text}");
        }
    }

    #[test]
    fn a_difference_is_what_only_one_side_has() {
        let old = "int a;\nstatic inline int f(void) { return 1; }\nint b;\n/* x */\nint c;";
        let new =
            "int a;\nstatic inline int f(void) { return 2; }\nint b; // y\nint c;\nvoid g(void);";
        let diff = difference(old, new);
        assert_eq!(diff.len(), 3);
        assert_eq!(difference(old, old), []);
    }

    #[test]
    fn pasted_names_are_mentions() {
        let chunk = |text: &str| chunks(text).remove(0);
        let wanted = Wanted::new(&set(&["ip_do_it"]));
        assert!(chunk("int x(void) { return ip_do_it(); }").mentions(&wanted));
        assert!(chunk("#define CALL(x) ip_##x()").mentions(&wanted));
        assert!(chunk("#define CALL(x) x##_do_it()").mentions(&wanted));
        assert!(!chunk("int x(void) { return ip_do(); }").mentions(&wanted));
        assert!(wanted.in_text(b"PASTE(ip_, do_it)"));
        assert!(!wanted.in_text(b"ip_do_that()"));
        assert!(!wanted.in_text(b"skip_do_it()"));
    }

    #[test]
    fn comments_and_strings_hide_nothing() {
        let text = "/* # */ #define A 1\nchar *s = \"/* \\\" #define B\"; // \\\nint f(void);";
        let chunks = chunks(text);
        assert_eq!(chunks.len(), 3, "{chunks:?}");
        assert!(chunks[0].directive);
        assert_eq!(chunks[2].defines(), Defines::Names(set(&["f"])));
    }
}
