// SPDX-License-Identifier: GPL-2.0

//! Enumerations whose names a macro writes, from a list that is a macro, too:
//!
//! ```text
//! #define LIST(id) id(FIRST, first) id(SECOND, second)
//! #define NAME(a, b) KIND_ ## a,
//! enum kind { LIST(NAME) };
//! ```
//!
//! Which names these are is told here for exactly this form. It holds as long as each macro is defined in one file
//! alone, and none of the names is a macro itself: whoever asks has to make sure of that ([`Listed`]).

use std::collections::BTreeSet;

use crate::ctext::{enumerators, Chunk, Token};

/// What an enumeration defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its tag and its names, by all definitions that its file has of the macros.
    pub names: BTreeSet<String>,
    /// The macros.
    pub macros: BTreeSet<String>,
    /// All definitions of the macros write the same: that one of them changed is nothing to this enumeration.
    pub same: bool,
    /// The words of all that, as another macro or number may stand in it.
    pub words: BTreeSet<String>,
}

/// A macro with parameters.
struct Macro<'a> {
    parameters: Vec<&'a str>,
    body: &'a [Token],
}

/// The macros whose definitions [`listed`] needs; none for what is not an enumeration of this form.
pub fn macros(chunk: &Chunk) -> BTreeSet<String> {
    let all = enumeration(chunk).unwrap_or_default();
    let calls = all.windows(4).filter(|window| is_list(window));
    let names = calls.flat_map(|call| [call[0].name(), call[2].name()]);
    names.flatten().map(str::to_owned).collect()
}

/// An enumeration without the semicolon.
fn enumeration(chunk: &Chunk) -> Option<&[Token]> {
    let (last, all) = chunk.tokens.split_last()?;
    let is_enumeration = !chunk.directive && last.is(";") && all.first()?.name() == Some("enum");
    is_enumeration.then_some(all)
}

/// The names of an enumeration of this form; among the chunks are the definitions of its macros.
pub fn listed(chunk: &Chunk, file: &[Chunk]) -> Option<Listed> {
    let all = enumeration(chunk)?;
    let mut found = Listed {
        names: BTreeSet::new(),
        macros: BTreeSet::new(),
        same: true,
        words: BTreeSet::new(),
    };
    let written = expanded(all, file, &mut found.macros)?;
    for tokens in &written {
        let words = tokens.iter().filter_map(Token::name);
        found.words.extend(words.map(str::to_owned));
        found.names.extend(enumerators(tokens)?);
    }
    found.same = written.windows(2).all(|pair| pair[0] == pair[1]);
    (!found.macros.is_empty()).then_some(found)
}

/// The tokens with each `LIST(NAME)` replaced, by every pair of definitions.
fn expanded(
    all: &[Token],
    file: &[Chunk],
    macros: &mut BTreeSet<String>,
) -> Option<Vec<Vec<Token>>> {
    let Some(at) = all.windows(4).position(is_list) else {
        return Some(vec![all.to_vec()]);
    };
    let (list, name) = (all[at].name()?, all[at + 2].name()?);
    macros.extend([list.to_owned(), name.to_owned()]);
    let mut out = Vec::new();
    for list in definitions(list, file)? {
        for name in definitions(name, file)? {
            let mut tokens = all[..at].to_vec();
            tokens.extend(write_list(&list, &name)?);
            tokens.extend_from_slice(&all[at + 4..]);
            out.extend(expanded(&tokens, file, macros)?);
        }
    }
    (!out.is_empty()).then_some(out)
}

/// `LIST(NAME)` behind a brace or a comma, which the window does not show: a value that is a call of this form does not
/// become a list, as its macro has another body.
fn is_list(window: &[Token]) -> bool {
    window[0].name().is_some()
        && window[1].is("(")
        && window[2].name().is_some()
        && window[3].is(")")
}

/// Every definition of a macro in a file; nothing if one of them is of another form.
fn definitions<'a>(name: &str, file: &'a [Chunk]) -> Option<Vec<Macro<'a>>> {
    let of_name = |chunk: &&Chunk| {
        chunk.directive
            && chunk.tokens.get(1).and_then(Token::name) == Some("define")
            && chunk.tokens.get(2).and_then(Token::name) == Some(name)
    };
    file.iter()
        .filter(of_name)
        .map(|chunk| definition(&chunk.tokens[3..]))
        .collect()
}

fn definition(tokens: &[Token]) -> Option<Macro<'_>> {
    let close = tokens.iter().position(|t| t.is(")"))?;
    if !tokens.first()?.is("(") {
        return None;
    }
    let mut parameters = Vec::new();
    for part in tokens[1..close].split(|t| t.is(",")) {
        match part {
            [Token::Name(name)] => parameters.push(name.as_str()),
            _ => return None,
        }
    }
    Some(Macro {
        parameters,
        body: &tokens[close + 1..],
    })
}

/// What the list writes with a macro: its body is nothing but calls of its one parameter.
fn write_list(list: &Macro<'_>, name: &Macro<'_>) -> Option<Vec<Token>> {
    let [parameter] = list.parameters[..] else {
        return None;
    };
    let mut out = Vec::new();
    let mut rest = list.body;
    while let Some((first, behind)) = rest.split_first() {
        if first.is(",") {
            out.push(first.clone());
            rest = behind;
            continue;
        }
        let close = behind.iter().position(|t| t.is(")"))?;
        if first.name() != Some(parameter) || !behind.first()?.is("(") {
            return None;
        }
        let arguments: Vec<&[Token]> = behind[1..close].split(|t| t.is(",")).collect();
        out.extend(write(name, &arguments)?);
        rest = &behind[close + 1..];
    }
    Some(out)
}

/// What a macro writes with these arguments, none of which has brackets.
fn write(name: &Macro<'_>, arguments: &[&[Token]]) -> Option<Vec<Token>> {
    let plain = |argument: &&[Token]| !argument.iter().any(|t| t.is("("));
    if arguments.len() != name.parameters.len() || !arguments.iter().all(plain) {
        return None;
    }
    let mut out: Vec<Token> = Vec::new();
    let mut pastes = false;
    for token in name.body {
        if token.is("##") {
            pastes = true;
            continue;
        }
        if token.is("#") {
            return None;
        }
        let number = name.parameters.iter().position(|p| token.name() == Some(p));
        let written = number.map_or(std::slice::from_ref(token), |n| arguments[n]);
        if std::mem::take(&mut pastes) {
            let ([Token::Name(more)], Some(Token::Name(last))) = (written, out.last_mut()) else {
                return None;
            };
            last.push_str(more);
        } else {
            out.extend_from_slice(written);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctext::chunks;

    fn names(text: &str) -> Option<String> {
        let all = chunks(text);
        let found = all.iter().find_map(|chunk| listed(chunk, &all))?;
        Some(Vec::from_iter(found.names).join(" "))
    }

    const LIST: &str = "#define LIST(id) \\\n id(A, a-b) \\\n id(B, b) id(C, )\n";

    #[test]
    fn names_that_a_list_writes() {
        let text = "#define NAME(a, b) KIND_ ## a,\nenum kind { LIST(NAME) };\n";
        let all = LIST.to_owned() + text;
        assert_eq!(names(&all).as_deref(), Some("KIND_A KIND_B KIND_C kind"));
        // Before and behind it, and without pasting.
        let text = "#define NAME(a, b) a = 2,\nenum { FIRST, LIST(NAME) LAST };\n";
        let all = LIST.to_owned() + text;
        assert_eq!(names(&all).as_deref(), Some("A B C FIRST LAST"));
        // Two definitions, as before and after a patch.
        let text = "#define NAME(a, b) X_##a,\n#define NAME(a, b) Y_##a,\nenum { LIST(NAME) };\n";
        let all = LIST.to_owned() + text;
        assert_eq!(names(&all).as_deref(), Some("X_A X_B X_C Y_A Y_B Y_C"));
    }

    #[test]
    fn a_list_whose_other_column_changes() {
        let same = |text: &str| {
            let all = chunks(text);
            all.iter()
                .find_map(|chunk| listed(chunk, &all))
                .unwrap()
                .same
        };
        let list = |id: &str| format!("#define LIST(id) id(A, {id}) id(B, b)\n");
        let first = "#define NAME(a, b) a,\nenum { LIST(NAME) };\n";
        assert!(same(&(list("one") + &list("two") + first)));
        let second = "#define NAME(a, b) b,\nenum { LIST(NAME) };\n";
        assert!(!same(&(list("one") + &list("two") + second)));
        // What a value stands for is found by its word.
        let third = list("one") + "#define NAME(a, b) a = BASE,\nenum { LIST(NAME) };\n";
        let all = chunks(&third);
        let found = all.iter().find_map(|chunk| listed(chunk, &all)).unwrap();
        assert!(found.words.contains("BASE"));
    }

    #[test]
    fn other_forms_are_not_told() {
        for text in [
            "enum { LIST(NAME) };",
            "#define NAME(a) K_##a,\nenum { LIST(NAME) };",
            "#define NAME(a, b...) K_##a,\nenum { LIST(NAME) };",
            "#define NAME(a, b) K_##a##b,\nenum { LIST(NAME) };",
            "#define NAME(a, b) OTHER(a),\nenum { LIST(NAME) };",
            "#define NAME K,\nenum { LIST(NAME) };",
            "#define NAME(a, b) K_##a,\nenum { LIST(NAME) } x;",
            "#define NAME(a, b) K_##a,\nstruct { LIST(NAME) };",
        ] {
            assert_eq!(names(&format!("{LIST}{text}\n")), None, "{text}");
        }
        let text = "#define LIST(id, x) id(A)\n#define NAME(a) K_##a,\nenum { LIST(NAME) };\n";
        assert_eq!(names(text), None);
        let text = "#define LIST(id) id(A) OTHER\n#define NAME(a) K_##a,\nenum { LIST(NAME) };\n";
        assert_eq!(names(text), None);
    }
}
