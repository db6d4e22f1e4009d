// SPDX-License-Identifier: GPL-2.0

//! Whether a unit can compile to another object, by what the preprocessor makes of it before and after.
//!
//! Behind the preprocessor there are no macros and no conditions any more: what a name means is what the declarations
//! of the text say. So a declaration that no emitted function and no variable mentions, nor anything that these mention,
//! and so on, cannot have an effect on the object. Whatever is not understood counts as emitted.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::diff::matches;

/// Whether the object of a unit may differ, by its preprocessed texts without line markers.
pub fn may_differ(old: &str, new: &str) -> bool {
    let (old, new) = (Text::new(old), Text::new(new));
    let Some(same) = matches(&old.hashes, &new.hashes) else {
        return true;
    };
    let (kept_old, kept_new): (HashSet<usize>, HashSet<usize>) = same.into_iter().unzip();
    old.matters(&kept_old) || new.matters(&kept_new)
}

/// A token of preprocessed C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Token<'a> {
    /// An identifier or keyword.
    Name(&'a str),
    /// A string or character.
    Literal(&'a str),
    /// A number.
    Number(&'a str),
    /// One character of a punctuator.
    Mark(u8),
    /// A line of its own, `#pragma`.
    Line(&'a str),
}

impl<'a> Token<'a> {
    fn name(self) -> Option<&'a str> {
        match self {
            Token::Name(name) => Some(name),
            _ => None,
        }
    }

    fn is(self, mark: u8) -> bool {
        self == Token::Mark(mark)
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80;
    let mut out = Vec::with_capacity(bytes.len() / 4);
    let mut i = 0;
    let mut at_start = true;
    while i < bytes.len() {
        let (c, start) = (bytes[i], i);
        let fresh = std::mem::replace(&mut at_start, false);
        at_start = c == b'\n' || (fresh && c.is_ascii_whitespace());
        if c.is_ascii_whitespace() {
            i += 1;
        } else if c == b'#' && fresh {
            while i < bytes.len() && bytes[i] != b'\n' {
                i += 1;
            }
            out.push(Token::Line(&text[start..i]));
        } else if c == b'"' || c == b'\'' {
            i += 1;
            while i < bytes.len() && bytes[i] != c && bytes[i] != b'\n' {
                i += if bytes[i] == b'\\' { 2 } else { 1 };
            }
            i = (i + 1).min(bytes.len());
            // What is no whole character stands at the end of a broken text.
            out.push(Token::Literal(text.get(start..i).unwrap_or_default()));
        } else if c.is_ascii_digit()
            || (c == b'.' && bytes.get(i + 1).is_some_and(u8::is_ascii_digit))
        {
            // A preprocessing number, exponents with a sign included.
            while i < bytes.len() && (word(bytes[i]) || bytes[i] == b'.' || sign(bytes, i)) {
                i += 1;
            }
            out.push(Token::Number(&text[start..i]));
        } else if word(c) {
            while i < bytes.len() && word(bytes[i]) {
                i += 1;
            }
            out.push(Token::Name(&text[start..i]));
        } else {
            i += 1;
            out.push(Token::Mark(c));
        }
    }
    out
}

/// Whether this is the sign in a number's exponent.
fn sign(bytes: &[u8], i: usize) -> bool {
    matches!(bytes[i], b'+' | b'-') && i > 0 && matches!(bytes[i - 1] | 0x20, b'e' | b'p')
}

/// A preprocessed text, in pieces that end where a declaration or a function ends.
struct Text<'a> {
    tokens: Vec<Token<'a>>,
    /// Where each piece ends.
    ends: Vec<usize>,
    hashes: Vec<u64>,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        let tokens = tokens(text);
        let mut ends = Vec::new();
        let (mut start, mut depth, mut body, mut value) = (0, 0usize, false, false);
        for (i, token) in tokens.iter().enumerate() {
            let mut end = false;
            match token {
                Token::Mark(b'{' | b'(' | b'[') => {
                    if depth == 0 && token.is(b'{') {
                        body = !value && !is_type(&tokens[start..i]);
                    }
                    depth += 1;
                }
                Token::Mark(b'}' | b')' | b']') => {
                    depth = depth.saturating_sub(1);
                    end = depth == 0 && body && token.is(b'}');
                }
                Token::Mark(b'=') if depth == 0 => value = true,
                Token::Mark(b';') if depth == 0 => end = true,
                Token::Line(_) if i == start => end = true,
                _ => {}
            }
            if end {
                ends.push(i + 1);
                (start, body, value) = (i + 1, false, false);
            }
        }
        if start < tokens.len() {
            ends.push(tokens.len());
        }
        let mut this = Text {
            tokens,
            ends,
            hashes: Vec::new(),
        };
        this.hashes = (0..this.ends.len())
            .map(|n| {
                let mut hasher = DefaultHasher::new();
                this.piece(n).hash(&mut hasher);
                hasher.finish()
            })
            .collect();
        this
    }

    fn piece(&self, n: usize) -> &[Token<'a>] {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[start..self.ends[n]]
    }

    /// Whether something that is not in `kept` can have an effect on the object.
    fn matters(&self, kept: &HashSet<usize>) -> bool {
        if kept.len() == self.ends.len() {
            return false;
        }
        let read: Vec<Piece<'a>> = (0..self.ends.len())
            .map(|n| Piece::read(self.piece(n)))
            .collect();
        let differs = |n: usize| !kept.contains(&n) && !read[n].nothing;
        if (0..read.len()).any(|n| differs(n) && (read[n].emitted || read[n].implicit())) {
            return true;
        }
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (n, piece) in read.iter().enumerate() {
            for name in &piece.names {
                by_name.entry(name).or_default().push(n);
            }
        }
        // What is emitted, and what it mentions.
        let mut queue: Vec<usize> = (0..read.len()).filter(|&n| read[n].emitted).collect();
        let mut live = vec![false; read.len()];
        queue.iter().for_each(|&n| live[n] = true);
        while let Some(n) = queue.pop() {
            if differs(n) {
                return true;
            }
            let mut follow = |name: &str| {
                // Each name is followed once.
                for m in by_name.remove(name).unwrap_or_default() {
                    if !live[m] {
                        live[m] = true;
                        queue.push(m);
                    }
                }
            };
            let piece = self.piece(n);
            let assembly = piece.iter().any(|t| t.name().is_some_and(is_asm));
            for token in piece {
                match token {
                    Token::Name(name) => follow(name),
                    // Assembly and aliases name things in strings.
                    Token::Literal(text) if assembly || read[n].emitted => text
                        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                        .for_each(&mut follow),
                    _ => {}
                }
            }
        }
        false
    }
}

fn is_asm(name: &str) -> bool {
    matches!(name, "asm" | "__asm" | "__asm__")
}

fn is_attribute(name: &str) -> bool {
    matches!(name, "__attribute__" | "__attribute")
}

fn is_typeof(name: &str) -> bool {
    matches!(
        name,
        "typeof"
            | "__typeof"
            | "__typeof__"
            | "typeof_unqual"
            | "__typeof_unqual__"
            | "__typeof_unqual"
    )
}

/// Behind what stands in parentheses, brackets or braces from `at` on; `None` if they do not end.
fn behind(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Mark(b'{' | b'(' | b'[') => depth += 1,
            Token::Mark(b'}' | b')' | b']') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Whether what stands in front of a `{` begins a structure, union or enumeration.
fn is_type(head: &[Token<'_>]) -> bool {
    let Some(at) = head
        .iter()
        .rposition(|t| matches!(t.name(), Some("struct" | "union" | "enum")))
    else {
        return false;
    };
    let mut i = at + 1;
    let mut tag = false;
    while let Some(token) = head.get(i) {
        match token.name() {
            Some(name) if is_attribute(name) => match behind(head, i + 1) {
                Some(next) => i = next,
                None => return false,
            },
            Some(_) if !tag => {
                tag = true;
                i += 1;
            }
            // The type of an enumeration's values.
            _ if token.is(b':') => return true,
            _ => return false,
        }
    }
    true
}

/// What a piece of the text declares.
#[derive(Debug, Default, PartialEq, Eq)]
struct Piece<'a> {
    /// Functions, variables, types, tags and enumerators.
    names: Vec<&'a str>,
    /// Whether it has an effect although nothing mentions it.
    emitted: bool,
    /// Whether it has no effect in any case.
    nothing: bool,
}

/// Attributes of a function, variable or type that have no effect as long as nothing mentions it.
const HARMLESS: [&str; 52] = [
    "access",
    "aligned",
    "alloc_align",
    "alloc_size",
    "always_inline",
    "artificial",
    "assume_aligned",
    "cold",
    "const",
    "counted_by",
    "deprecated",
    "designated_init",
    "error",
    "fallthrough",
    "fd_arg",
    "flag_enum",
    "flatten",
    "format",
    "format_arg",
    "gnu_inline",
    "hot",
    "indirect_branch",
    "leaf",
    "malloc",
    "may_alias",
    "mode",
    "naked",
    "no_caller_saved_registers",
    "no_icf",
    "no_instrument_function",
    "no_profile_instrument_function",
    "no_sanitize",
    "no_sanitize_address",
    "no_sanitize_thread",
    "no_sanitize_undefined",
    "no_stack_protector",
    "noclone",
    "nocf_check",
    "noinline",
    "nonnull",
    "nonstring",
    "noreturn",
    "nothrow",
    "optimize",
    "packed",
    "patchable_function_entry",
    "pure",
    "returns_nonnull",
    "unused",
    "visibility",
    "warn_unused_result",
    "warning",
];

/// Attributes that make something be emitted even inside of a function that is not.
const FORCING: [&str; 12] = [
    "alias",
    "constructor",
    "copy",
    "destructor",
    "externally_visible",
    "ifunc",
    "retain",
    "symver",
    "target_clones",
    "used",
    "weak",
    "weakref",
];

/// Words of declarations that are no names.
const PLAIN: [&str; 48] = [
    "_Alignas",
    "_Atomic",
    "_Bool",
    "_Complex",
    "_Float128",
    "_Noreturn",
    "_Thread_local",
    "__auto_type",
    "__const",
    "__const__",
    "__complex__",
    "__extension__",
    "__float128",
    "__imag__",
    "__inline",
    "__inline__",
    "__int128",
    "__int128_t",
    "__real__",
    "__restrict",
    "__restrict__",
    "__seg_fs",
    "__seg_gs",
    "__signed",
    "__signed__",
    "__thread",
    "__uint128_t",
    "__volatile",
    "__volatile__",
    "auto",
    "bool",
    "char",
    "const",
    "double",
    "extern",
    "float",
    "inline",
    "int",
    "long",
    "register",
    "restrict",
    "short",
    "signed",
    "static",
    "typedef",
    "unsigned",
    "void",
    "volatile",
];

/// Which of these words are a type by themselves.
fn names_type(word: &str) -> bool {
    !matches!(
        word,
        "_Alignas"
            | "_Atomic"
            | "_Noreturn"
            | "_Thread_local"
            | "__const"
            | "__const__"
            | "__extension__"
            | "__inline"
            | "__inline__"
            | "__restrict"
            | "__restrict__"
            | "__seg_fs"
            | "__seg_gs"
            | "__thread"
            | "__volatile"
            | "__volatile__"
            | "auto"
            | "const"
            | "extern"
            | "inline"
            | "register"
            | "restrict"
            | "static"
            | "typedef"
            | "volatile"
    )
}

/// Functions that the compiler calls, or asks about, without a mention.
const IMPLICIT: [&str; 36] = [
    "abort",
    "abs",
    "bcmp",
    "bcopy",
    "bzero",
    "calloc",
    "exit",
    "ffs",
    "fprintf",
    "fputc",
    "fputs",
    "fwrite",
    "labs",
    "llabs",
    "malloc",
    "mem",
    "printf",
    "putchar",
    "puts",
    "snprintf",
    "sprintf",
    "str",
    "__builtin",
    "__cyg",
    "__fentry",
    "__asan",
    "__gcov",
    "__hwasan",
    "__indirect",
    "__kcsan",
    "__msan",
    "__ref_stack",
    "__sanitizer",
    "__stack",
    "__tsan",
    "__ubsan",
];

impl<'a> Piece<'a> {
    /// Whether the compiler may mention it by itself.
    fn implicit(&self) -> bool {
        let called = |name: &str| {
            IMPLICIT.iter().any(|start| match *start {
                start if start == "mem" || start == "str" || start.starts_with("__") => {
                    name.starts_with(start)
                }
                whole => name == whole,
            })
        };
        self.names
            .iter()
            .any(|name| called(name) || name.starts_with("__x86_") || name.ends_with("mcount__"))
    }

    fn read(tokens: &[Token<'a>]) -> Self {
        let mut this = Piece::default();
        match this.parse(tokens) {
            Some(()) => {}
            None => {
                // Anything may be declared by it.
                this.emitted = true;
                this.nothing = false;
                this.names = tokens.iter().filter_map(|t| t.name()).collect();
            }
        }
        this
    }

    /// Reads a declaration or definition; `None` if it is not understood.
    fn parse(&mut self, all: &[Token<'a>]) -> Option<()> {
        if let [Token::Mark(b';')] = all {
            self.nothing = true;
            return Some(());
        }
        // A type that is only named is a matter of scope.
        if let [Token::Name("struct" | "union"), Token::Name(tag), Token::Mark(b';')] = all {
            self.nothing = true;
            self.names.push(tag);
            return Some(());
        }
        self.tags(all);
        let mut is_static = false;
        let mut is_extern = false;
        let mut is_inline = false;
        let mut is_typedef = false;
        let mut gnu_inline = false;
        let mut harmless = true;
        // In a section of its own; a mere declaration does not put anything there.
        let mut placed = false;
        let mut typed = false;
        let mut i = 0;
        // What stands in front of the first declarator.
        loop {
            let token = *all.get(i)?;
            let Token::Name(word) = token else { break };
            match word {
                "struct" | "union" | "enum" => {
                    typed = true;
                    i = self.type_behind(all, i + 1, &mut harmless)?;
                    continue;
                }
                "static" => is_static = true,
                "extern" => is_extern = true,
                "inline" | "__inline" | "__inline__" => is_inline = true,
                "typedef" => is_typedef = true,
                "_Alignas" => {
                    i = behind(all, i + 1)?;
                    continue;
                }
                "_Atomic" if all.get(i + 1).is_some_and(|t| t.is(b'(')) => {
                    typed = true;
                    i = behind(all, i + 1)?;
                    continue;
                }
                "_BitInt" => {
                    typed = true;
                    i = behind(all, i + 1)?;
                    continue;
                }
                word if is_attribute(word) => {
                    let next = behind(all, i + 1)?;
                    let list = attributes(&all[i + 1..next]);
                    gnu_inline |= list.contains(&"gnu_inline");
                    placed |= list.contains(&"section");
                    harmless &= list.iter().all(|a| HARMLESS.contains(a) || *a == "section");
                    i = next;
                    continue;
                }
                word if is_typeof(word) => {
                    typed = true;
                    i = behind(all, i + 1)?;
                    continue;
                }
                word if PLAIN.contains(&word) => typed |= names_type(word),
                "_Static_assert" | "static_assert" => return None,
                word if is_asm(word) => return None,
                // The name of a type, or of what is declared.
                _ if !typed => typed = true,
                _ => break,
            }
            i += 1;
        }
        if !typed {
            return None;
        }
        if all.get(i)?.is(b';') && i + 1 == all.len() {
            // Types only.
            self.emitted = !harmless;
            return Some(());
        }
        let mut all_declare = true;
        let mut defines = false;
        loop {
            let (name, function, next) = declarator(all, i)?;
            self.names.push(name);
            i = next;
            // What stands behind a declarator.
            loop {
                let token = *all.get(i)?;
                match token {
                    Token::Name(word) if is_attribute(word) => {
                        let next = behind(all, i + 1)?;
                        let list = attributes(&all[i + 1..next]);
                        gnu_inline |= list.contains(&"gnu_inline");
                        placed |= list.contains(&"section");
                        harmless &= list.iter().all(|a| HARMLESS.contains(a) || *a == "section");
                        i = next;
                    }
                    // A number of bits, or another name for the assembler.
                    Token::Name(_) | Token::Mark(b':') => return None,
                    _ => break,
                }
            }
            let token = *all.get(i)?;
            if token.is(b'{') {
                // A function's body.
                if !function || behind(all, i)? != all.len() {
                    return None;
                }
                let kept = is_static || (is_extern && is_inline && gnu_inline);
                self.emitted = !kept || !harmless || placed || forces(&all[i..]);
                return Some(());
            }
            let value = token.is(b'=');
            if value {
                i += 1;
                while !all.get(i)?.is(b',') && !all.get(i)?.is(b';') {
                    i = match all[i] {
                        Token::Mark(b'{' | b'(' | b'[') => behind(all, i)?,
                        _ => i + 1,
                    };
                }
            }
            let declares = !value && (is_extern || function);
            all_declare &= is_typedef || is_static || declares;
            defines |= !declares;
            match *all.get(i)? {
                Token::Mark(b',') => i += 1,
                Token::Mark(b';') if i + 1 == all.len() => break,
                _ => return None,
            }
            // Each may have attributes of its own in front.
            while all.get(i)?.name().is_some_and(is_attribute) {
                let next = behind(all, i + 1)?;
                harmless &= attributes(&all[i + 1..next])
                    .iter()
                    .all(|a| HARMLESS.contains(a));
                i = next;
            }
        }
        self.emitted = !all_declare || !harmless || (placed && defines) || forces(all);
        Some(())
    }

    /// Takes in the tags and enumerators that a piece defines, at whatever depth.
    fn tags(&mut self, all: &[Token<'a>]) {
        for (i, token) in all.iter().enumerate() {
            let Some(kind @ ("struct" | "union" | "enum")) = token.name() else {
                continue;
            };
            let Some((tag, brace)) = head_of_type(all, i + 1) else {
                continue;
            };
            self.names.extend(tag);
            if kind != "enum" {
                continue;
            }
            let end = behind(all, brace).unwrap_or(all.len());
            let mut depth = 0usize;
            let mut begins = true;
            for token in &all[brace + 1..end.saturating_sub(1).max(brace + 1)] {
                match token {
                    Token::Mark(b'{' | b'(' | b'[') => depth += 1,
                    Token::Mark(b'}' | b')' | b']') => depth = depth.saturating_sub(1),
                    Token::Mark(b',') if depth == 0 => {
                        begins = true;
                        continue;
                    }
                    Token::Name(name) if begins && depth == 0 => self.names.push(name),
                    _ => {}
                }
                begins = false;
            }
        }
    }

    /// Behind the tag and the body of a type; a tag without a body is only mentioned.
    fn type_behind(
        &mut self,
        all: &[Token<'a>],
        from: usize,
        harmless: &mut bool,
    ) -> Option<usize> {
        let mut i = from;
        let mut tag = false;
        let mut body = false;
        loop {
            let token = *all.get(i)?;
            match token {
                Token::Name(word) if is_attribute(word) => {
                    let next = behind(all, i + 1)?;
                    // Of a type, none makes anything be emitted; those of the declarator are judged with it.
                    let list = attributes(&all[i + 1..next]);
                    *harmless &= list
                        .iter()
                        .all(|a| HARMLESS.contains(a) || *a == "transparent_union");
                    i = next;
                }
                Token::Name(_) if !tag && !body => {
                    tag = true;
                    i += 1;
                }
                Token::Mark(b'{') if !body => {
                    body = true;
                    i = behind(all, i)?;
                }
                Token::Mark(b':') => return None,
                _ => return Some(i),
            }
        }
    }
}

/// The tag of a type, and where its body begins; `None` if it has no body here.
fn head_of_type<'a>(all: &[Token<'a>], from: usize) -> Option<(Option<&'a str>, usize)> {
    let mut i = from;
    let mut tag = None;
    loop {
        match *all.get(i)? {
            Token::Name(word) if is_attribute(word) => i = behind(all, i + 1)?,
            Token::Name(word) if tag.is_none() => {
                tag = Some(word);
                i += 1;
            }
            Token::Mark(b'{') => return Some((tag, i)),
            _ => return None,
        }
    }
}

/// The name that a declarator declares, whether as a function, and where the declarator ends.
fn declarator<'a>(all: &[Token<'a>], from: usize) -> Option<(&'a str, bool, usize)> {
    let mut i = from;
    loop {
        match *all.get(i)? {
            Token::Mark(b'*') => i += 1,
            Token::Name(word) if PLAIN.contains(&word) && !names_type(word) => i += 1,
            Token::Name(word) if is_attribute(word) => {
                // In the midst of a declarator only what is harmless is expected.
                let next = behind(all, i + 1)?;
                if !attributes(&all[i + 1..next])
                    .iter()
                    .all(|a| HARMLESS.contains(a))
                {
                    return None;
                }
                i = next;
            }
            Token::Mark(b'(') => {
                let end = behind(all, i)?;
                let (name, function, inner) = declarator(all, i + 1)?;
                if inner + 1 != end {
                    return None;
                }
                return Some((name, function, suffix(all, end)?));
            }
            Token::Name(name) => {
                if PLAIN.contains(&name) || is_asm(name) || is_typeof(name) {
                    return None;
                }
                let function = all.get(i + 1)?.is(b'(');
                return Some((name, function, suffix(all, i + 1)?));
            }
            _ => return None,
        }
    }
}

/// Behind the parameters and the sizes of arrays that follow a name.
fn suffix(all: &[Token<'_>], from: usize) -> Option<usize> {
    let mut i = from;
    while matches!(all.get(i)?, Token::Mark(b'(' | b'[')) {
        // An attribute of newer C.
        if all[i].is(b'[') && all.get(i + 1)?.is(b'[') {
            return None;
        }
        i = behind(all, i)?;
    }
    Some(i)
}

/// The attributes of one list `((a, b(1)))`, without underscores around them.
fn attributes<'a>(list: &[Token<'a>]) -> Vec<&'a str> {
    let mut out = Vec::new();
    let mut depth = 0usize;
    for token in list {
        match token {
            Token::Mark(b'(' | b'[' | b'{') => depth += 1,
            Token::Mark(b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            Token::Name(name) if depth == 2 => out.push(plain_attribute(name)),
            _ => {}
        }
    }
    out
}

fn plain_attribute(name: &str) -> &str {
    name.strip_prefix("__")
        .and_then(|n| n.strip_suffix("__"))
        .unwrap_or(name)
}

/// Whether something in a body is emitted even if the body is not.
fn forces(body: &[Token<'_>]) -> bool {
    let mut i = 0;
    while let Some(token) = body.get(i) {
        if token.name().is_some_and(is_attribute) {
            let Some(next) = behind(body, i + 1) else {
                return true;
            };
            if attributes(&body[i + 1..next])
                .iter()
                .any(|a| FORCING.contains(a))
            {
                return true;
            }
            i = next;
        } else {
            i += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a text of one piece: what it declares and whether it is emitted, or that it is not understood.
    fn piece(text: &str) -> String {
        let all = Text::new(text);
        assert_eq!(all.ends.len(), 1, "{text}");
        let mut piece = Piece::default();
        match piece.parse(all.piece(0)) {
            None => "?".to_owned(),
            Some(()) if piece.nothing => "nothing".to_owned(),
            Some(()) => {
                let mark = if piece.emitted { "+" } else { "" };
                format!("{mark}{}", piece.names.join(" "))
            }
        }
    }

    #[test]
    fn declarations_have_no_effect_by_themselves() {
        for (text, wanted) in [
            ("int f(void);", "f"),
            ("extern struct s *const v[2], w;", "v w"),
            ("extern int (*hook)(int);", "hook"),
            ("void (*signal(int sig, void (*g)(int)))(int);", "signal"),
            ("struct s *f(struct s *, int (*)(void));", "f"),
            ("typedef unsigned long T;", "T"),
            ("typedef int (*F)(int x), G[3];", "F G"),
            (
                "typedef struct s { int a; union u { int b; }; } S;",
                "s u S",
            ),
            ("enum e { A, B = sizeof(int[2]), C = A + B, };", "e A B C"),
            ("enum { A = 1 };", "A"),
            ("struct s { enum k { X, Y } k; int n : 3; };", "s k X Y"),
            ("static const int table[] = { [1] = 2, 3 };", "table"),
            ("static int a, *b = &a;", "a b"),
            (
                "static inline int f(int x) { return ({ int y = x; y; }); }",
                "f",
            ),
            ("static __attribute__((__noinline__)) T *f(void) { }", "f"),
            (
                "extern inline __attribute__((__gnu_inline__)) int f(void) { return 1; }",
                "f",
            ),
            ("T f(T T);", "f"),
            ("__extension__ typedef long long L;", "L"),
            (
                "extern __attribute__((section(\".data..x\"))) __typeof__(int) v;",
                "v",
            ),
            ("extern int __seg_gs v;", "v"),
            ("_Noreturn void f(void) __attribute__((__cold__));", "f"),
            ("int f(int), g(void), *h(void);", "f g h"),
            ("enum e f(void);", "f"),
            ("static struct s { int a; } x = { 1 };", "s x"),
        ] {
            assert_eq!(piece(text), wanted, "{text}");
        }
        assert_eq!(piece("struct s;"), "nothing");
        assert_eq!(piece(";"), "nothing");
    }

    #[test]
    fn what_is_emitted_is_known() {
        for (text, wanted) in [
            ("int v;", "+v"),
            ("int v = 1;", "+v"),
            ("extern int v = 1;", "+v"),
            ("int (*hook)(void);", "+hook"),
            ("F f;", "+f"),
            ("int f(void), v;", "+f v"),
            ("int f(void) { return 0; }", "+f"),
            ("inline int f(void) { return 0; }", "+f"),
            ("extern inline int f(void) { return 0; }", "+f"),
            ("struct s { int a; } x;", "+s x"),
            ("static int v __attribute__((__used__));", "+v"),
            ("static __attribute__((section(\".x\"))) int v;", "+v"),
            ("static int __attribute__((constructor)) f(void) { }", "+f"),
            (
                "static inline void f(void) { static void *__attribute__((__used__)) p = &q; }",
                "+f",
            ),
            ("int f(void) __attribute__((weak));", "+f"),
            ("int g(void) __attribute__((alias(\"f\")));", "+g"),
        ] {
            assert_eq!(piece(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for text in [
            "asm(\".globl x\");",
            "__asm__(\"nop\");",
            "_Static_assert(sizeof(int) == 4, \"\");",
            "int f(void) __asm__(\"g\");",
            "register unsigned long sp asm(\"rsp\");",
            "#pragma GCC diagnostic push",
            "f(void) { }",
            "[[gnu::used]] static int x;",
            "int f(void) [[noreturn]];",
            "static int f(a) int a;",
            "enum e : int { A };",
            "int x",
        ] {
            assert_eq!(piece(text), "?", "{text}");
        }
        // An old definition of a function is several pieces, the last of which nobody knows.
        let text = Text::new("static int f(a) int a; { return a; }");
        assert_eq!(text.ends.len(), 2);
        assert!(Piece::read(text.piece(1)).emitted);
    }

    /// Whether a text differs from the one with more in front of it, and the other way round.
    fn differ(more: &str, text: &str) -> bool {
        let longer = format!("{more}\n{text}");
        let there = may_differ(text, &longer);
        assert_eq!(there, may_differ(&longer, text), "{more}");
        assert!(!may_differ(text, text) && !may_differ(&longer, &longer));
        there
    }

    const UNIT: &str = "struct inner { int a; };\n\
                        struct outer { struct inner in; };\n\
                        typedef struct outer *ref;\n\
                        int helper(ref r);\n\
                        static inline int dead(ref r) { return unused_one(r); }\n\
                        static inline int live(ref r) { return helper(r) + LIMIT; }\n\
                        int entry(void *p) { return live(p); }\n";

    #[test]
    fn what_nothing_emitted_mentions_makes_no_difference() {
        for more in [
            "int another(int);",
            "struct another { int a; };",
            "struct outer;",
            "enum { ANOTHER };",
            "static inline int another(void) { return entry(0); }",
            "int unused_one(void *r);",
            "static const char *const another[] = { \"entry\" };",
            "static int another;",
            "typedef int another;",
            ";",
        ] {
            assert!(!differ(more, UNIT), "{more}");
        }
    }

    #[test]
    fn what_something_emitted_mentions_makes_a_difference() {
        for more in [
            "int helper(void *);",
            "int live(ref r);",
            "struct inner { long a; };",
            "enum { LIMIT = 3 };",
            "enum e { X, LIMIT };",
            "typedef int ref;",
            "extern int p;",
            "int another;",
            "int another(void) { return 0; }",
            "asm(\"nop\");",
            "_Static_assert(1, \"\");",
            "static int another __attribute__((used));",
            "void *memcpy(void *, const void *, unsigned long);",
            "#pragma GCC optimize(\"O3\")",
            "int entry(void *) __attribute__((cold));",
        ] {
            assert!(differ(more, UNIT), "{more}");
        }
    }

    #[test]
    fn changes_are_followed_through_types_and_functions() {
        let changed = |from: &str, to: &str| {
            assert!(UNIT.contains(from));
            may_differ(UNIT, &UNIT.replace(from, to))
        };
        assert!(changed("{ int a; }", "{ long a; }"));
        assert!(changed("LIMIT", "MOST"));
        assert!(!changed("unused_one(r)", "unused_two(r)"));
        assert!(!changed("int dead(ref r)", "long dead(ref q)"));
        assert!(changed("struct outer *ref", "const struct outer *ref"));
        // White space is nothing, and neither is where a declaration stands.
        assert!(!changed("int a;", "int\n\ta ;"));
        let (first, rest) = UNIT.split_once('\n').unwrap();
        assert!(
            may_differ(UNIT, &format!("{rest}{first}\n")),
            "a type that is used"
        );
        let unused = "int one(void);\nint two(void);\n";
        let turned = "int two(void);\nint one(void);\n";
        assert!(!may_differ(
            &format!("{unused}{UNIT}"),
            &format!("{turned}{UNIT}")
        ));
    }

    #[test]
    fn names_in_assembly_are_mentions() {
        let unit = "static int v;\nvoid f(void) { asm(\"call hidden\\n\"); }\n";
        assert!(differ("static int hidden(void) { return 0; }", unit));
        let alias = "int g(void) __attribute__((alias(\"hidden\")));\n";
        assert!(differ("static int hidden(void) { return 0; }", alias));
    }

    #[test]
    fn tricky_tokens_do_not_part_the_text_wrongly() {
        let text = "static const char *s = \"};\"; int c = ';' + '\\'' + 1.e+5; int f(void) { return '}'; }\n\
                    static struct s { int a; } f2(struct s *p) { return *p; }\n\
                    static int g(int x) { return _Generic(x, int: 1, default: ({ struct t { int b; } y; 2; })); }\n\
                    static int h(void) { int nested(int z) { return z; } return nested(1); }\n";
        let all = Text::new(text);
        let names: Vec<String> = (0..all.ends.len())
            .map(|n| Piece::read(all.piece(n)).names.join(" "))
            .collect();
        assert_eq!(names, ["s", "c", "f", "s f2", "t g", "h"]);
    }
}
