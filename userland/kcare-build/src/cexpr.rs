// SPDX-License-Identifier: GPL-2.0

//! Brackets, expressions and names in the tokens of a preprocessed function.

use crate::ctext::{Chunk, Defines, Token};

/// What stands in front of an operand of which only members may be named, because it tells size or type.
const OF_TYPE: [&str; 18] = [
    "sizeof",
    "typeof",
    "__typeof__",
    "__typeof",
    "typeof_unqual",
    "__typeof_unqual__",
    "__typeof_unqual",
    "_Alignof",
    "__alignof__",
    "__alignof",
    "alignof",
    "offsetof",
    "__builtin_offsetof",
    "__builtin_types_compatible_p",
    "_Generic",
    "asm",
    "__asm__",
    "__auto_type",
];

/// Words behind which a name is no declaration of it.
const NO_TYPE: [&str; 7] = ["return", "else", "do", "case", "goto", "sizeof", "in"];

/// Whether a token is this punctuator or literal.
pub(crate) fn is(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|t| t.is(text))
}

/// The identifier or keyword at a place.
pub(crate) fn name(tokens: &[Token], at: usize) -> Option<&str> {
    tokens.get(at)?.name()
}

/// The name of the function that a chunk defines, and where its parameters open.
pub(crate) fn definition(chunk: &Chunk) -> Option<(&str, usize)> {
    let Defines::Names(names) = chunk.defines() else {
        return None;
    };
    let tokens = &chunk.tokens;
    let mut names = names.iter();
    let (only, None) = (names.next()?, names.next()) else {
        return None;
    };
    if !tokens.last()?.is("}") {
        return None;
    }
    let at = (0..tokens.len()).find(|&i| {
        name(tokens, i) == Some(only) && is(tokens, i + 1, "(") && depth(tokens, i) == 0
    })?;
    Some((name(tokens, at)?, at + 1))
}

fn opens(token: &Token) -> bool {
    ["(", "[", "{"].iter().any(|t| token.is(t))
}

fn closes(token: &Token) -> bool {
    [")", "]", "}"].iter().any(|t| token.is(t))
}

/// How many brackets are open in front of a token.
pub(crate) fn depth(tokens: &[Token], at: usize) -> usize {
    tokens[..at].iter().fold(0, |depth: usize, token| {
        if closes(token) {
            depth.saturating_sub(1)
        } else {
            depth + usize::from(opens(token))
        }
    })
}

/// The first token from `from` on, outside of brackets that open behind it, that closes one or is an `end`.
fn outside(tokens: &[Token], from: usize, end: impl Fn(&Token) -> bool) -> usize {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(from) {
        if opens(token) {
            depth += 1;
        } else if depth == 0 && (closes(token) || end(token)) {
            return i;
        } else if closes(token) {
            depth -= 1;
        }
    }
    tokens.len()
}

/// Where the bracket that opens at `open` closes; the end if it does not.
pub(crate) fn close(tokens: &[Token], open: usize) -> usize {
    outside(tokens, open + 1, |_| false)
}

/// The innermost bracket that is open at a token.
fn opening(tokens: &[Token], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for i in (0..at).rev() {
        if closes(&tokens[i]) {
            depth += 1;
        } else if opens(&tokens[i]) {
            if depth == 0 {
                return Some(i);
            }
            depth -= 1;
        }
    }
    None
}

/// The parentheses of a call of which a token is in the arguments.
pub(crate) fn receiver(tokens: &[Token], at: usize) -> Option<usize> {
    let open = opening(tokens, at)?;
    let called = open > 0 && is(tokens, open, "(") && name(tokens, open - 1).is_some();
    called.then_some(open)
}

/// The ranges between the commas in parentheses that open at `open`.
pub(crate) fn arguments(tokens: &[Token], open: usize) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut from = open + 1;
    loop {
        let end = outside(tokens, from, |token| token.is(","));
        out.push((from, end));
        if !is(tokens, end, ",") {
            return out;
        }
        from = end + 1;
    }
}

/// Where an expression ends: at a comma, a semicolon or a bracket that it did not open.
pub(crate) fn expression(tokens: &[Token], from: usize) -> usize {
    outside(tokens, from, |token| token.is(",") || token.is(";"))
}

/// An expression without the parentheses around it.
pub(crate) fn unwrapped(mut tokens: &[Token]) -> &[Token] {
    while tokens.len() >= 2 && is(tokens, 0, "(") && close(tokens, 0) + 1 == tokens.len() {
        tokens = &tokens[1..tokens.len() - 1];
    }
    tokens
}

/// Whether an expression without outer parentheses is a null pointer.
pub(crate) fn null(tokens: &[Token]) -> bool {
    match tokens {
        [zero] => zero.is("0"),
        [open, void, star, end, zero] => {
            open.is("(")
                && void.name() == Some("void")
                && star.is("*")
                && end.is(")")
                && zero.is("0")
        }
        _ => false,
    }
}

/// The members in `name->a.b`, outermost first.
pub(crate) fn members(tokens: &[Token]) -> Option<Vec<String>> {
    let (first, mut rest) = tokens.split_first()?;
    first.name()?;
    let mut path = Vec::new();
    while !rest.is_empty() {
        let operator = if is(rest, 0, ".") { 1 } else { 2 };
        if operator == 2 && !(is(rest, 0, "-") && is(rest, 1, ">")) {
            return None;
        }
        path.push(name(rest, operator)?.to_owned());
        rest = &rest[operator + 1..];
    }
    (!path.is_empty()).then_some(path)
}

/// Whether a name is that of a member, behind `.` or `->`.
pub(crate) fn is_member(tokens: &[Token], at: usize) -> bool {
    let back = |n: usize, text: &str| at.checked_sub(n).is_some_and(|i| is(tokens, i, text));
    (back(1, ".") && !back(2, ".")) || (back(1, ">") && back(2, "-") && !back(3, "-"))
}

/// Where a name stands for a variable or function.
pub(crate) fn uses<'a>(tokens: &'a [Token], wanted: &'a str) -> impl Iterator<Item = usize> + 'a {
    (0..tokens.len()).filter(move |&i| {
        let tag = i > 0
            && matches!(
                name(tokens, i - 1),
                Some("struct" | "union" | "enum" | "goto")
            );
        name(tokens, i) == Some(wanted) && !tag && !is_member(tokens, i)
    })
}

/// What stands in front of and behind a name and the parentheses around it alone, which are no call's.
pub(crate) fn around(tokens: &[Token], at: usize) -> (usize, usize) {
    let (mut before, mut after) = (at - 1, at + 1);
    while before > 0
        && is(tokens, before, "(")
        && is(tokens, after, ")")
        && name(tokens, before - 1).is_none()
    {
        before -= 1;
        after += 1;
    }
    (before, after)
}

/// Whether a member of what is named at `at` follows: `x.m`, `(x)->m`.
pub(crate) fn member_follows(tokens: &[Token], at: usize) -> bool {
    let (_, after) = around(tokens, at);
    is(tokens, after, ".") || (is(tokens, after, "-") && is(tokens, after + 1, ">"))
}

/// Whether a name at `at` may be declared there.
pub(crate) fn declares(tokens: &[Token], at: usize) -> bool {
    let mut before = at - 1;
    while is(tokens, before, "*") {
        before -= 1;
    }
    if is(tokens, before, ",") {
        let Some(open) = opening(tokens, at) else {
            return true;
        };
        let head = open.checked_sub(1).and_then(|head| name(tokens, head));
        return is(tokens, open, "{") || head == Some("for");
    }
    name(tokens, before).is_some_and(|n| !NO_TYPE.contains(&n))
}

/// Whether a token is in what tells size or type.
pub(crate) fn of_type(tokens: &[Token], at: usize) -> bool {
    let operator = |i: usize| name(tokens, i).is_some_and(|n| OF_TYPE.contains(&n));
    let mut here = at;
    loop {
        // Without parentheses, it stands in front in the same statement.
        let bare = (0..here)
            .rev()
            .take_while(|&i| ![";", "{", "}"].iter().any(|t| is(tokens, i, t)))
            .filter(|&i| operator(i) && !is(tokens, i + 1, "("));
        if bare.into_iter().any(|i| expression(tokens, i + 1) > here) {
            return true;
        }
        let Some(open) = opening(tokens, here) else {
            return false;
        };
        // `asm volatile (`
        let mut words = (0..open).rev().take_while(|&i| name(tokens, i).is_some());
        if is(tokens, open, "(") && words.any(operator) {
            return true;
        }
        here = open;
    }
}

/// Whether a declaration at `at` is one of variables: not in the body of a structure, but in a block.
pub(crate) fn block(tokens: &[Token], at: usize, body: usize) -> bool {
    let Some(open) = opening(tokens, at).filter(|o| is(tokens, *o, "{")) else {
        return false;
    };
    if open == body {
        return true;
    }
    let before = open - 1;
    if is(tokens, before, ")") {
        let head = opening(tokens, before).and_then(|head| name(tokens, head.checked_sub(1)?));
        return matches!(head, Some("if" | "for" | "while" | "switch"));
    }
    ["{", "}", ";", ":", "("]
        .iter()
        .any(|t| is(tokens, before, t))
        || matches!(name(tokens, before), Some("else" | "do"))
}

/// Whether a parameter that is declared at `declared` keeps what it was given.
pub(crate) fn untouched(tokens: &[Token], open: usize, parameter: &str, declared: usize) -> bool {
    uses(tokens, parameter)
        .filter(|at| *at > open && *at != declared)
        .all(|at| {
            let sets = is(tokens, at + 1, "=") && !is(tokens, at + 2, "=");
            let address = is(tokens, at - 1, "&") && !is(tokens, at - 2, "&");
            !sets && !address && !declares(tokens, at)
        })
}
