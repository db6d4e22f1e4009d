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
            if self.depth == 0 && token.name().is_some() && is_macro_call(&self.tokens) {
                self.end();
            }
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

/// Whether this is a macro with its arguments and nothing else, `DEFINE_GUARD(a, b)`: what follows without a `;`
/// between them is something of its own.
fn is_macro_call(tokens: &[Token]) -> bool {
    let (Some(Token::Name(name)), Some(open), Some(last)) =
        (tokens.first(), tokens.get(1), tokens.last())
    else {
        return false;
    };
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let mut depth = 0usize;
    // The parentheses are closed by the last token, and not before.
    let closes = tokens.iter().skip(1).position(|token| {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth = depth.saturating_sub(1);
        }
        depth == 0
    });
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(upper)
        && open.is("(")
        && last.is(")")
        && closes == Some(tokens.len() - 2)
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

/// The tag and the names of `enum tag { A, B = 1 }`.
pub fn enumerators(all: &[Token]) -> Option<BTreeSet<String>> {
    let (tag, list) = enumeration(all)?;
    let names = list.into_iter().map(|(name, _)| name.to_owned());
    Some(names.chain(tag.map(str::to_owned)).collect())
}

/// The tag of an enumeration, if it has one, and its names with the tokens of their values.
type Enumeration<'a> = (Option<&'a str>, Vec<(&'a str, &'a [Token])>);

fn enumeration(all: &[Token]) -> Option<Enumeration<'_>> {
    let (tag, rest) = match all {
        [Token::Name(word), Token::Name(tag), rest @ ..] if word == "enum" => (Some(tag), rest),
        [Token::Name(word), rest @ ..] if word == "enum" => (None, rest),
        _ => return None,
    };
    let (open, list) = rest.split_first()?;
    let (close, list) = list.split_last()?;
    if !open.is("{") || !close.is("}") {
        return None;
    }
    let mut names = Vec::new();
    let mut start = 0;
    let mut depth = 0usize;
    for end in 0..=list.len() {
        match list.get(end) {
            Some(token) if token.is("(") || token.is("{") || token.is("[") => depth += 1,
            Some(token) if token.is(")") || token.is("}") || token.is("]") => {
                depth = depth.checked_sub(1)?;
            }
            Some(token) if depth == 0 && token.is(",") => {}
            Some(_) => {}
            None if depth == 0 => {}
            None => return None,
        }
        if end < list.len() && (depth > 0 || !list[end].is(",")) {
            continue;
        }
        match &list[start..end] {
            [] if end == list.len() => {}
            [Token::Name(name)] => names.push((name.as_str(), &list[end..end])),
            [Token::Name(name), equals, value @ ..] if equals.is("=") => {
                names.push((name.as_str(), value));
            }
            _ => return None,
        }
        start = end + 1;
    }
    Some((tag.map(String::as_str), names))
}

/// What differs between two forms of one enumeration: the names from the first that differs on, and the tag if the type
/// of the values may be another one.
fn renumbered(old: &[Token], new: &[Token]) -> Option<BTreeSet<String>> {
    let ((tag, old), (new_tag, new)) = (enumeration(old)?, enumeration(new)?);
    if tag.is_none() || tag != new_tag {
        return None;
    }
    let kept = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    // Small numbers, given or counted, are of type unsigned int.
    let small = |value: &[Token]| match value {
        [] => true,
        [Token::Other(number)] => number.len() <= 5 && number.bytes().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    let plain = old.iter().chain(&new).all(|(_, value)| small(value));
    let names = old[kept..]
        .iter()
        .chain(&new[kept..])
        .map(|(name, _)| *name);
    let tag = tag.filter(|_| !plain);
    Some(names.chain(tag).map(str::to_owned).collect())
}

/// What a difference changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names of what differs, each of which has to be mentioned to have an effect.
    pub names: BTreeSet<String>,
    /// Of these, names of enumerations; if one is a macro, it may stand for others.
    pub enumerators: BTreeSet<String>,
    /// Whether something without such names differs.
    pub more: bool,
}

/// Names what the chunks of a difference define, those of the old text and of the new one.
pub fn changes(chunks: &[Chunk]) -> Changes {
    let mut out = Changes::default();
    let body = |chunk: &Chunk| match chunk.tokens.split_last() {
        Some((last, all)) if !chunk.directive && !chunk.torn && last.is(";") => Some(all.to_vec()),
        _ => None,
    };
    let forms: Vec<Option<Vec<Token>>> = chunks.iter().map(body).collect();
    for (n, chunk) in chunks.iter().enumerate() {
        let this = forms[n].as_deref().filter(|all| enumeration(all).is_some());
        let Some(this) = this else {
            match chunk.declares() {
                Defines::Names(names) => out.names.extend(names),
                Defines::Unknown => out.more = true,
            }
            continue;
        };
        // Its other form, if there is one other with this tag.
        let tag = enumeration(this).and_then(|(tag, _)| tag);
        let others: Vec<&[Token]> = forms
            .iter()
            .enumerate()
            .filter(|(m, _)| *m != n)
            .filter_map(|(_, form)| form.as_deref())
            .filter(|form| enumeration(form).is_some_and(|(other, _)| other == tag))
            .collect();
        let names = match others.as_slice() {
            [other] => renumbered(this, other),
            _ => None,
        };
        let names = names.or_else(|| enumerators(this)).unwrap_or_default();
        out.enumerators.extend(
            enumeration(this)
                .into_iter()
                .flat_map(|(_, list)| list.into_iter().map(|(name, _)| name.to_owned())),
        );
        out.names.extend(names);
    }
    out
}

/// Whether these tokens are a type and nothing else: words of C, a tag or one other name, and asterisks.
fn plain_type(tokens: &[Token]) -> bool {
    const WORDS: [&str; 12] = [
        "bool", "char", "const", "double", "float", "int", "long", "short", "signed", "unsigned",
        "void", "volatile",
    ];
    let (mut basic, mut named, mut tag) = (false, false, false);
    for token in tokens {
        match token.name() {
            Some("struct" | "union" | "enum") if !basic && !named => tag = true,
            Some("const" | "volatile") => {}
            Some(_) if tag => (tag, named) = (false, true),
            Some(word) if WORDS.contains(&word) && !named => basic = true,
            Some(_) if !basic && !named => named = true,
            None if token.is("*") && (basic || named) => {}
            _ => return false,
        }
    }
    (basic || named) && !tag
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
    /// What it defines or declares, the names of types and of variables of this file included: what they are like is in
    /// the chunk from its start to its end, and not in what stands in front of a `{`.
    pub fn declares(&self) -> Defines {
        if self.directive || self.torn {
            return self.defines();
        }
        match self.declared() {
            Some(names) => Defines::Names(names),
            None => self.defines(),
        }
    }

    /// What it defines or declares, if that is functions, variables of others, and macros.
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

    /// The names of a type without members, of an enumeration, or of a variable of this file that has a value.
    ///
    /// Each word in it is one of C, the name of a type, or one of these: another one might be a macro for an attribute
    /// that gives it an effect of its own.
    fn declared(&self) -> Option<BTreeSet<String>> {
        let (last, all) = self.tokens.split_last()?;
        if !last.is(";") {
            return None;
        }
        let word = |i: usize| all.get(i).and_then(Token::name);
        match (word(0)?, word(1)) {
            ("struct" | "union", Some(tag)) if all.len() == 2 => {
                Some(BTreeSet::from([tag.to_owned()]))
            }
            ("enum", _) => enumerators(all),
            ("typedef", _) => {
                let (name, kind) = all.split_last()?;
                (plain_type(kind.get(1..)?) && !all[1..].iter().any(|t| t.is(",")))
                    .then_some(BTreeSet::from([name.name()?.to_owned()]))
            }
            ("static", _) => {
                let end = all.iter().position(|t| t.is("=") || t.is("["))?;
                let value = all.iter().position(|t| t.is("="))?;
                // What follows the value may be another variable.
                let mut depth = 0usize;
                for token in &all[value..] {
                    if token.is("{") || token.is("(") || token.is("[") {
                        depth += 1;
                    } else if token.is("}") || token.is(")") || token.is("]") {
                        depth = depth.checked_sub(1)?;
                    } else if depth == 0 && token.is(",") {
                        return None;
                    }
                }
                let (name, kind) = all[..end].split_last()?;
                let size = all.get(end..value)?;
                let whole = size.is_empty() || (size[0].is("[") && size[size.len() - 1].is("]"));
                (whole && plain_type(kind.get(1..)?))
                    .then_some(BTreeSet::from([name.name()?.to_owned()]))
            }
            _ => None,
        }
    }

    fn directive_defines(&self) -> Defines {
        match (self.tokens.get(1).and_then(Token::name), self.tokens.get(2)) {
            (Some("define" | "undef"), Some(Token::Name(name))) => {
                Defines::Names(BTreeSet::from([name.clone()]))
            }
            _ => Defines::Unknown,
        }
    }

    /// Whether it mentions one of the names.
    pub fn mentions(&self, names: &BTreeSet<String>) -> bool {
        let mut own = self.tokens.iter().filter_map(Token::name);
        own.any(|name| names.contains(name))
    }

    /// Its words and punctuators, with blanks between them.
    pub fn text(&self) -> String {
        let texts = self.tokens.iter().map(|token| match token {
            Token::Name(text) | Token::Other(text) => text.as_str(),
        });
        texts.collect::<Vec<_>>().join(" ")
    }
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
        match chunks[0].declares() {
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
            "int y;",
            "#if defined(X)",
            "#include <a.h>",
            "enum e { LIST(ENTRY) };",
            "enum e { A, LIST };\nint x;",
            "enum e { A } __packed;",
            "static const struct s t __used = { .f = g(1) };",
            "static __initconst int t[] = { 1 };",
            "static int a = 1, b;",
            "static int x;",
            "typedef int a, b;",
        ] {
            let text = text.split_once('\n').map_or(text, |(first, _)| first);
            if text == "enum e { A, LIST };" {
                // A macro without arguments may stand for several, as may each name of a declaration.
                continue;
            }
            assert_eq!(names(text), None, "{text}");
        }
    }

    #[test]
    fn types_enumerations_and_constants_define_names() {
        let all = |text: &str| names(text).unwrap_or_default().join(" ");
        assert_eq!(all("struct s;"), "s");
        assert_eq!(all("enum e { A, B = 1 << 2, C, };"), "A B C e");
        assert_eq!(all("enum { A = sizeof(int) };"), "A");
        assert_eq!(all("typedef struct s *ref;"), "ref");
        assert_eq!(all("typedef unsigned long T;"), "T");
        assert_eq!(
            all("static const char * const v[] = { LIST(STRING) };"),
            "v"
        );
        assert_eq!(all("static const struct s t = { .f = g(1, 2) };"), "t");
        assert_eq!(all("static u8 w[2][3] = { 1, 2 };"), "w");
        assert_eq!(all("static int x = f(1);"), "x");
    }

    #[test]
    fn a_macro_without_an_end_is_something_of_its_own() {
        let text = "DEFINE_GUARD(a, f(b), c)\nextern int f(void);\nDECLARE_X(y)\nDECLARE_X(z);\n\
                    SYSCALL_DEFINE1(a, int, b)\n{\n\treturn 0;\n}\n";
        let all: Vec<String> = chunks(text).iter().map(Chunk::text).collect();
        assert_eq!(
            all,
            [
                "DEFINE_GUARD ( a , f ( b ) , c )",
                "extern int f ( void ) ;",
                "DECLARE_X ( y )",
                "DECLARE_X ( z ) ;",
                "SYSCALL_DEFINE1 ( a , int , b ) { return 0 ; }",
            ]
        );
        assert_eq!(
            names("__printf(1, 2) int p(const char *s, ...);"),
            Some(vec!["p".to_owned()])
        );
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
    fn of_an_enumeration_the_names_with_other_values_change() {
        let between = |old: &str, new: &str| {
            let all = changes(&difference(old, new));
            assert!(!all.more);
            all.names.into_iter().collect::<Vec<_>>().join(" ")
        };
        let old = "enum e { A, B, C };";
        assert_eq!(between(old, "enum e { A, B, C, D };"), "D");
        assert_eq!(between(old, "enum e { A, X, B, C };"), "B C X");
        assert_eq!(between(old, "enum e { A, B = 7, C };"), "B C");
        // The type of the values may become another one.
        assert_eq!(between(old, "enum e { A, B, C, D = -1 };"), "D e");
        assert_eq!(between(old, "enum e { A, B, C = 70000000000 };"), "C e");
        assert_eq!(between("", old), "A B C e");
        assert_eq!(between("enum { A, B };", "enum { A, X, B };"), "A B X");
        assert!(changes(&difference(old, "enum e { A, LIST(X) };")).more);
        assert!(changes(&difference(old, "enum e { A, B } __packed;")).more);
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
        assert!(chunks(text)[0].mentions(&set(&["A"])));
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

    #[test]
    fn comments_and_strings_hide_nothing() {
        let text = "/* # */ #define A 1\nchar *s = \"/* \\\" #define B\"; // \\\nint f(void);";
        let chunks = chunks(text);
        assert_eq!(chunks.len(), 3, "{chunks:?}");
        assert!(chunks[0].directive);
        assert_eq!(chunks[2].defines(), Defines::Names(set(&["f"])));
    }
}
