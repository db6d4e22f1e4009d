// SPDX-License-Identifier: GPL-2.0

//! Just enough of C to tell which names a changed header defines, and who mentions a name.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::diff::matches;
use crate::words::{in_word, PASTE};

/// A token; comments and white space are gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// An identifier or keyword.
    Name(String),
    /// Anything else: a number, a literal, a punctuator.
    Other(String),
}

impl Token {
    /// Whether it is this punctuator or literal.
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Token::Other(t) if t == text)
    }

    /// The identifier or keyword.
    pub fn name(&self) -> Option<&str> {
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
    /// Its tokens; those of a function also have the `#if` lines inside of it.
    pub tokens: Vec<Token>,
    /// Whether such a line parts it so that nobody can tell where it ends.
    torn: bool,
}

/// What a chunk defines or declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defines {
    /// Nothing but these names, each of which has to be mentioned to have an effect.
    Names(BTreeSet<String>),
    /// Something else: a type, a variable, a condition, an include.
    Unknown,
}

/// The tokens of a text without directives.
pub fn tokens_of(text: &str) -> Vec<Token> {
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
    let mut splitter = Splitter::default();
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
            splitter.text(tokens_of(&plain));
            plain.clear();
            splitter.directive(tokens_of(&rest[..end]));
        } else {
            plain.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    splitter.text(tokens_of(&plain));
    splitter.finish()
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

/// Splits tokens at the ends of declarations and function bodies.
pub fn split(all: Vec<Token>) -> Vec<Chunk> {
    let mut splitter = Splitter::default();
    splitter.text(all);
    splitter.finish()
}

/// What a directive does to the lines behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Begins,
    Alternates,
    Ends,
}

/// What a directive does, if it is one of a condition.
fn condition(directive: &[Token]) -> Option<Condition> {
    match directive.get(1).and_then(Token::name)? {
        "if" | "ifdef" | "ifndef" => Some(Condition::Begins),
        "elif" | "elifdef" | "elifndef" | "else" => Some(Condition::Alternates),
        "endif" => Some(Condition::Ends),
        _ => None,
    }
}

/// Makes chunks of text and directives in their order.
#[derive(Default)]
struct Splitter {
    chunks: Vec<Chunk>,
    /// Of the chunk that has begun.
    tokens: Vec<Token>,
    depth: usize,
    function: bool,
    /// How deep the conditions that have begun in it did begin.
    conditions: Vec<usize>,
    torn: bool,
}

impl Splitter {
    fn text(&mut self, all: Vec<Token>) {
        for token in all {
            if token.is("{") || token.is("(") || token.is("[") {
                if self.depth == 0 && token.is("{") {
                    self.function = looks_like_function(&self.tokens);
                }
                self.depth += 1;
            } else if token.is("}") || token.is(")") || token.is("]") {
                self.depth = self.depth.saturating_sub(1);
            }
            let ends = self.depth == 0 && (token.is(";") || (token.is("}") && self.function));
            self.tokens.push(token);
            if ends {
                self.end();
            }
        }
    }

    fn directive(&mut self, tokens: Vec<Token>) {
        let inside = self.depth > 0 && self.function;
        match condition(&tokens) {
            Some(Condition::Begins) if inside => self.conditions.push(self.depth),
            // Each branch begins where the condition did.
            Some(Condition::Alternates) if inside && !self.conditions.is_empty() => {
                self.torn |= self.conditions.last() != Some(&self.depth);
            }
            Some(Condition::Ends) if inside && !self.conditions.is_empty() => {
                self.torn |= self.conditions.pop() != Some(self.depth);
            }
            _ => {
                if !self.tokens.is_empty() {
                    self.end();
                }
                self.chunks.push(Chunk {
                    directive: true,
                    tokens,
                    torn: false,
                });
                return;
            }
        }
        self.tokens.extend(tokens);
    }

    /// The chunk that has begun ends here.
    fn end(&mut self) {
        self.chunks.push(Chunk {
            directive: false,
            tokens: std::mem::take(&mut self.tokens),
            torn: self.torn || !self.conditions.is_empty(),
        });
        self.depth = 0;
        self.function = false;
        self.conditions.clear();
        self.torn = false;
    }

    fn finish(mut self) -> Vec<Chunk> {
        if !self.tokens.is_empty() {
            self.end();
        }
        self.chunks
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

/// Words in front of a declaration that are no type.
const SPECIFIERS: [&str; 16] = [
    "__always_inline",
    "__cold",
    "__exit",
    "__init",
    "__inline",
    "__malloc",
    "__must_check",
    "__pure",
    "__visible",
    "__weak",
    "asmlinkage",
    "extern",
    "inline",
    "noinline",
    "notrace",
    "static",
];

/// Whether the start of a declaration names a type.
fn has_type(tokens: &[Token]) -> bool {
    let mut names = tokens.iter().filter_map(Token::name);
    names.any(|n| !SPECIFIERS.contains(&n) && !ANNOTATIONS.contains(&n))
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
        if self.torn {
            return Defines::Unknown;
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
                let before = before.filter(|n| depth == 0 && !ANNOTATIONS.contains(n));
                // Without a type in front it is a macro, which may declare anything, or a type itself.
                if let Some(name) = before.filter(|_| has_type(&head[..i - 1])) {
                    names.insert(name.to_owned());
                }
                depth += 1;
            } else if token.is(")") {
                depth = depth.saturating_sub(1);
            }
        }
        if unfit {
            return Defines::Unknown;
        }
        if names.is_empty() && !body {
            names.extend(self.variable().map(str::to_owned));
        }
        match names.is_empty() {
            true => Defines::Unknown,
            false => Defines::Names(names),
        }
    }

    /// The name in the declaration of one variable, `extern struct x *name[2];`, in which no type is defined.
    fn variable(&self) -> Option<&str> {
        let (first, rest) = self.tokens.split_first()?;
        let end = rest.iter().position(|t| t.is("[") || t.is(";"))?;
        let plain = first.name() == Some("extern")
            && !rest.iter().any(|t| t.is("{") || t.is(",") || t.is("("));
        // A type and a name.
        let name = rest.get(end.checked_sub(1)?)?.name()?;
        (plain && end >= 2).then_some(name)
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
        let all: HashSet<&str> = self.texts().collect();
        all.iter().any(|text| wanted.names.contains(*text)) || wanted.made_of(&all)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(|token| match token {
            Token::Name(text) | Token::Other(text) => text.as_str(),
        })
    }

    /// The words beside `##`, and the macro's own name, if it is a macro with that operator.
    fn pasted(&self) -> Option<(String, Vec<&str>)> {
        let Defines::Names(names) = self.directive_defines() else {
            return None;
        };
        let texts: Vec<&str> = self.texts().collect();
        // What stands for an argument is not written by the macro.
        let parameters: HashSet<&str> = match texts.get(3) {
            Some(&"(") => texts
                .iter()
                .skip(4)
                .take_while(|t| **t != ")")
                .copied()
                .collect(),
            _ => HashSet::new(),
        };
        let beside = texts
            .iter()
            .enumerate()
            .filter(|(_, t)| **t == "##")
            .flat_map(|(i, _)| [i.checked_sub(1), Some(i + 1)])
            .filter_map(|i| texts.get(i?).copied())
            .filter(|text| !parameters.contains(text))
            .collect();
        Some((names.into_iter().next()?, beside))
    }
}

/// Words of the source tree that are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Those that occur at all.
    pub all: BTreeSet<String>,
    /// Those that stand beside `##`, with the macros that paste them and the macros that use these.
    pub pasted: BTreeMap<String, BTreeSet<String>>,
}

impl Words {
    /// Takes the words of others in.
    pub fn extend(&mut self, other: Words) {
        self.all.extend(other.all);
        for (word, macros) in other.pasted {
            self.pasted.entry(word).or_default().extend(macros);
        }
    }
}

/// Names to look for, and the pieces from which `##` can make them.
#[derive(Debug, Default)]
pub struct Wanted {
    names: BTreeSet<String>,
    /// Pieces that make a name where they stand together.
    together: Vec<Vec<String>>,
    /// A piece that makes a name where it is given to one of the macros.
    given: Vec<(String, BTreeSet<String>)>,
    /// Pieces written in macros that may be given the rest of a name.
    tracked: HashSet<String>,
    /// What was found so far.
    found: Words,
    /// Names, and every piece that a name may be made of.
    words: HashSet<Vec<u8>>,
    longest: usize,
    /// First bytes of the words.
    first: Vec<bool>,
}

impl Wanted {
    /// Looks for these names; `found` is what [`Wanted::in_text`] found for the same names before.
    ///
    /// `ip_##x` makes a name only where `x` is given the rest of it, and the rest then stands there as a
    /// word. Pieces that nobody has written make no name.
    pub fn new(names: &BTreeSet<String>, found: &Words) -> Self {
        let mut words = HashSet::new();
        let mut together = Vec::new();
        let mut given = Vec::new();
        let mut tracked = HashSet::new();
        for name in names {
            words.insert(name.clone().into_bytes());
            for parting in partings(name) {
                words.extend(parting.iter().map(|p| p.clone().into_bytes()));
                if !parting.iter().all(|p| found.all.contains(p)) {
                    continue;
                }
                // Any of the pieces may be written in the macro, and the others be given to it.
                for mask in 0..1usize << parting.len() {
                    let (mut own, mut rest) = (Vec::new(), Vec::new());
                    for (i, piece) in parting.iter().enumerate() {
                        if mask & 1 << i != 0 {
                            own.push(piece);
                        } else {
                            rest.push(piece.clone());
                        }
                    }
                    // An underscore between two pieces is in too many macros to tell anything.
                    own.retain(|p| *p != "_");
                    let macros: Option<Vec<_>> = own.iter().map(|p| found.pasted.get(*p)).collect();
                    match (macros, rest.as_slice()) {
                        (Some(macros), [one]) => {
                            tracked.extend(own.into_iter().cloned());
                            let macros = macros.into_iter().flatten().cloned().collect();
                            given.push((one.clone(), macros));
                        }
                        (Some(_), [_, _, ..]) => together.push(rest),
                        _ => {}
                    }
                }
            }
        }
        let macros = found
            .pasted
            .iter()
            .filter(|(word, _)| tracked.contains(*word));
        words.extend(macros.flat_map(|(_, m)| m).map(|m| m.clone().into_bytes()));
        let mut first = vec![false; 256];
        for word in &words {
            first[usize::from(word[0])] = true;
        }
        Wanted {
            names: names.clone(),
            together,
            given,
            tracked,
            found: found.clone(),
            longest: words.iter().map(Vec::len).max().unwrap_or(0),
            words,
            first,
        }
    }

    /// Everything that is looked for, pieces included.
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.words.iter().map(Vec::as_slice)
    }

    /// Whether both look for the same.
    pub fn same(&self, other: &Wanted) -> bool {
        (&self.names, &self.together, &self.given) == (&other.names, &other.together, &other.given)
    }

    /// Whether a name can be made of these words.
    fn made_of(&self, all: &HashSet<&str>) -> bool {
        self.together
            .iter()
            .any(|pieces| pieces.iter().all(|p| all.contains(p.as_str())))
            || self.given.iter().any(|(piece, macros)| {
                all.contains(piece.as_str()) && macros.iter().any(|m| all.contains(m.as_str()))
            })
    }

    /// Adds the words of a text that are looked for, names and pieces of names, to `found`.
    ///
    /// Returns whether the text may mention a name.
    pub fn in_text(&self, text: &[u8], found: &mut Words) -> bool {
        let mut here = BTreeSet::new();
        let mut i = 0;
        while i < text.len() {
            if !in_word(text[i]) {
                i += 1;
                continue;
            }
            let start = i;
            while i < text.len() && in_word(text[i]) {
                i += 1;
            }
            let word = &text[start..i];
            if word.len() <= self.longest
                && self.first[usize::from(word[0])]
                && self.words.contains(word)
            {
                here.insert(String::from_utf8_lossy(word).into_owned());
            }
        }
        let all: HashSet<&str> = here.iter().map(String::as_str).collect();
        let matters = self.matters(&all);
        if self.may_paste(&all, text.windows(2).any(|w| w == PASTE)) {
            self.find_macros(&String::from_utf8_lossy(text), &here, found);
        }
        found.all.append(&mut here);
        matters
    }

    /// Whether a text with these words may mention a name.
    pub fn matters(&self, words: &HashSet<&str>) -> bool {
        words.iter().any(|word| self.names.contains(*word)) || self.made_of(words)
    }

    /// Whether a text with these words, and with `##` or not, may have a macro that pastes one of them,
    /// or that uses such a macro.
    pub fn may_paste(&self, words: &HashSet<&str>, operator: bool) -> bool {
        !words.is_empty()
            && (operator
                || self
                    .found
                    .pasted
                    .values()
                    .flatten()
                    .any(|m| words.contains(m.as_str())))
    }

    /// Finds the macros that paste one of the words, or use a macro that does.
    fn find_macros(&self, text: &str, here: &BTreeSet<String>, found: &mut Words) {
        for chunk in chunks(text).iter().filter(|c| c.directive) {
            let Some((name, beside)) = chunk.pasted() else {
                continue;
            };
            for word in beside
                .into_iter()
                .filter(|w| *w != "_" && here.contains(*w))
            {
                found
                    .pasted
                    .entry(word.to_owned())
                    .or_default()
                    .insert(name.clone());
            }
            // Who uses such a macro matters only if there is a name to be made with it.
            let tracked = self
                .found
                .pasted
                .iter()
                .filter(|(word, _)| self.tracked.contains(*word));
            for (word, macros) in tracked {
                if chunk.texts().any(|t| macros.contains(t)) {
                    found
                        .pasted
                        .entry(word.clone())
                        .or_default()
                        .insert(name.clone());
                }
            }
        }
    }
}

/// The ways to part a name into two or three pieces, at underscores and in front of numbers.
fn partings(name: &str) -> Vec<Vec<String>> {
    let bytes = name.as_bytes();
    let mut cuts: Vec<usize> = (1..bytes.len())
        .filter(|&i| {
            bytes[i] == b'_'
                || bytes[i - 1] == b'_'
                || (bytes[i].is_ascii_digit() != bytes[i - 1].is_ascii_digit())
        })
        .collect();
    cuts.dedup();
    let mut out = Vec::new();
    for (i, &a) in cuts.iter().enumerate() {
        out.push(vec![name[..a].to_owned(), name[a..].to_owned()]);
        for &b in &cuts[i + 1..] {
            out.push(vec![
                name[..a].to_owned(),
                name[a..b].to_owned(),
                name[b..].to_owned(),
            ]);
        }
    }
    out
}

/// The chunks that only one of two files has, or that the two have under other conditions. A condition itself is
/// nothing: what it changes is what it stands around.
pub fn difference(old: &str, new: &str) -> Vec<Chunk> {
    let (old, new) = match (conditional(chunks(old)), conditional(chunks(new))) {
        (Some(old), Some(new)) => (old, new),
        _ => (unconditional(chunks(old)), unconditional(chunks(new))),
    };
    let same = matches(&old, &new).unwrap_or_default();
    let (kept_old, kept_new): (HashSet<usize>, HashSet<usize>) = same.into_iter().unzip();
    let only = |chunks: Vec<Placed>, kept: HashSet<usize>| {
        chunks
            .into_iter()
            .enumerate()
            .filter(move |(i, _)| !kept.contains(i))
            .map(|(_, (_, c))| c)
    };
    only(old, kept_old).chain(only(new, kept_new)).collect()
}

/// A chunk behind the conditions that it stands under: of each the lines that decide, `#if A #elif B`.
type Placed = (Vec<Vec<Token>>, Chunk);

fn unconditional(chunks: Vec<Chunk>) -> Vec<Placed> {
    chunks.into_iter().map(|c| (Vec::new(), c)).collect()
}

/// The chunks without the conditions, which each of them has instead; `None` if these do not end as they begin.
fn conditional(chunks: Vec<Chunk>) -> Option<Vec<Placed>> {
    let mut open: Vec<Vec<Token>> = Vec::new();
    let mut out = Vec::new();
    for chunk in chunks {
        match condition(&chunk.tokens).filter(|_| chunk.directive) {
            Some(Condition::Begins) => open.push(chunk.tokens),
            Some(Condition::Alternates) => open.last_mut()?.extend(chunk.tokens),
            Some(Condition::Ends) => {
                open.pop()?;
            }
            None => out.push((open.clone(), chunk)),
        }
    }
    open.is_empty().then_some(out)
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
        assert_eq!(names("extern int v;"), some("v"));
        assert_eq!(names("extern struct s *const v[2];"), some("v"));
        assert_eq!(names("extern int v, w;"), None);
        assert_eq!(names("extern v;"), None);
        assert_eq!(names("int v;"), None);
        assert_eq!(names("extern int (*hook)(void);"), None);
        assert_eq!(names("DECLARE_PER_CPU(int, counter);"), None);
        assert_eq!(names("static DEFINE_SPINLOCK(lock);"), None);
        assert_eq!(names("extern DECLARE_BITMAP(map, 64);"), None);
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

    /// What the changed chunks define, or `None` if nobody can tell.
    fn changed(old: &str, new: &str) -> Option<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for chunk in difference(old, new) {
            match chunk.defines() {
                Defines::Names(names) => all.extend(names),
                Defines::Unknown => return None,
            }
        }
        Some(all)
    }

    #[test]
    fn a_condition_is_what_it_stands_around() {
        let old = "#ifndef H\n#define H\n#ifdef A\nvoid f(void);\nint g(void);\n#endif\n#endif\n";
        let new = "#ifndef H\n#define H\n#ifdef A\nint f(void);\nint g(void);\n#else\n\
                   static inline int f(void) { return 0; }\n#endif\n#endif\n";
        assert_eq!(changed(old, new), Some(set(&["f"])));
        // All that it stands around is under another one now, and under another branch.
        let other = old.replace("#ifdef A", "#ifdef B");
        assert_eq!(changed(old, &other), Some(set(&["f", "g"])));
        let branch = old.replace("#ifdef A", "#ifdef A\n#elif B");
        assert_eq!(changed(old, &branch), Some(set(&["f", "g"])));
        assert_eq!(changed(old, &old.replace("#endif\n#endif", "#endif")), None);
        // A structure is what nobody can follow by its name.
        let old = "#ifdef A\nstruct s { int a; };\n#endif\n";
        assert_eq!(changed(old, &old.replace('A', "B")), None);
        assert_eq!(
            changed(old, &format!("{old}#ifdef C\n#endif\n")),
            Some(set(&[]))
        );
    }

    #[test]
    fn a_condition_inside_of_a_function_is_of_the_function() {
        let text = "static inline int f(int x)\n{\n#if A\n\tif (x) {\n\t\tg(x);\n\t}\n#else\n\th();\n#endif\n\treturn 0;\n}\n";
        assert_eq!(chunks(text).len(), 1);
        assert_eq!(names(text), Some(vec!["f".to_owned()]));
        assert!(chunks(text)[0].mentions(&wanted(&set(&["A"]), "")));
        // Its end is in a branch, or a branch opens more than the other.
        for torn in [
            "int f(int x)\n{\n#if A\n\treturn 1; }\n#else\n\treturn 0; }\n#endif\n",
            "int f(int x)\n{\n#if A\n\tif (x) {\n#endif\n\tg();\n#if A\n\t}\n#endif\n}\n",
            "int f(int x)\n{\n#if A\n\tif (x) {\n#else\n\tif (!x) {\n#endif\n\t}\n}\n",
        ] {
            assert!(
                chunks(torn).iter().any(|c| c.defines() == Defines::Unknown),
                "{torn}"
            );
        }
        // A macro is what others may mention, wherever it is.
        let text = "int f(void)\n{\n#define M 1\n\treturn M;\n}\n";
        assert!(chunks(text).iter().any(|c| c.directive));
        assert_eq!(changed("", text), None);
    }

    /// Reads a text until nothing new turns up.
    fn wanted(names: &BTreeSet<String>, text: &str) -> Wanted {
        let mut found = Words::default();
        for _ in 0..5 {
            let wanted = Wanted::new(names, &found);
            wanted.in_text(text.as_bytes(), &mut found);
        }
        Wanted::new(names, &found)
    }

    #[test]
    fn pasted_names_are_mentions() {
        let chunk = |text: &str| chunks(text).remove(0);
        let text =
            "#define CALL(x) ip_ ## x()\n#define TWICE(x) CALL(x) + CALL(x)\nTWICE(do_it);\n";
        let wanted = wanted(&set(&["ip_do_it"]), text);
        assert!(wanted.in_text(text.as_bytes(), &mut Words::default()));
        assert!(chunk("int x(void) { return ip_do_it(); }").mentions(&wanted));
        assert!(chunk("CALL(do_it);").mentions(&wanted));
        assert!(chunk("TWICE(do_it);").mentions(&wanted));
        assert!(chunk("int PASTE(ip_, do_it)(void);").mentions(&wanted));
        assert!(!chunk("int x(void) { return ip_do(); }").mentions(&wanted));
        assert!(!chunk("CALL(something);").mentions(&wanted));
        assert!(!chunk("OTHER(do_it);").mentions(&wanted));
    }

    #[test]
    fn pieces_that_nobody_wrote_make_no_name() {
        let text = "#define BEGIN(x) x##_start\nBEGIN(ip_);\nint check;\n";
        let wanted = wanted(&set(&["ip_check_start"]), text);
        assert!(!chunks("BEGIN(ip_);")[0].mentions(&wanted));
        assert!(!chunks("BEGIN(check);")[0].mentions(&wanted));
        assert!(
            chunks("BEGIN(ip_##check);")[0].mentions(&wanted),
            "both in one place"
        );
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
