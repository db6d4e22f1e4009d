// SPDX-License-Identifier: GPL-2.0

//! Where the operator `##` can make a name of pieces, as an index that is made once per kernel.
//!
//! A piece reaches the operator from the body of a macro or as an argument: of a macro that has the operator beside
//! that parameter, or that hands it on to such a macro. So for each declaration and function of the source the index has
//! the words that it gives to such parameters, and for each such macro the words that it gives by itself. A name can
//! be made in a place if it can be put together of the words there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};

use crate::compile::parallel;
use crate::ctext::{chunks, tokens_of, Chunk, Defines, Token};
use crate::words::hash;

/// First words of the index file; others if its format or contents change.
const MAGIC: [u32; 2] = [0x6b63_6170, 3];

/// Name of the parameter for `...`.
const VARIADIC: &str = "__VA_ARGS__";

/// What a macro does with its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Flow {
    /// Parameters that reach the operator, as bits; the last bit stands for all from there on.
    hot: u64,
    /// Parameters that reach the arguments of a macro which another parameter names.
    by_call: BTreeMap<usize, u64>,
    /// Whether it is another name of such a macro, so that nobody knows which arguments do.
    all: bool,
}

impl Flow {
    fn add(&mut self, other: &Flow) {
        self.hot |= other.hot;
        self.all |= other.all;
        for (&call, &bits) in &other.by_call {
            *self.by_call.entry(call).or_default() |= bits;
        }
    }

    fn nothing(&self) -> bool {
        self.hot == 0 && self.by_call.is_empty() && !self.all
    }
}

fn bit(parameter: usize) -> u64 {
    1 << parameter.min(63)
}

/// One definition of a macro.
#[derive(Debug)]
struct Definition {
    name: String,
    /// `None` if it takes no arguments.
    parameters: Option<Vec<String>>,
    body: Vec<Token>,
}

impl Definition {
    /// Which parameter a token is.
    fn parameter(&self, token: &Token) -> Option<usize> {
        let name = token.name()?;
        self.parameters.as_ref()?.iter().position(|p| p == name)
    }
}

/// The macros that a text defines, but for those that only stand for numbers.
fn definitions(text: &str) -> Vec<Definition> {
    let mut out = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(rest) = line.trim_start().strip_prefix('#') else {
            continue;
        };
        let Some(rest) = rest.trim_start().strip_prefix("define") else {
            continue;
        };
        if !rest.starts_with([' ', '\t']) {
            continue;
        }
        let mut whole = rest.trim_start().to_owned();
        while whole.trim_end().ends_with('\\') {
            whole.truncate(whole.trim_end().len() - 1);
            whole.push(' ');
            match lines.next() {
                Some(more) => whole.push_str(more),
                None => break,
            }
        }
        out.extend(definition(&whole));
    }
    out
}

fn definition(text: &str) -> Option<Definition> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let (parameters, body) = match rest.strip_prefix('(') {
        Some(rest) => {
            let (list, body) = rest.split_once(')')?;
            let names = list.split(',').map(|p| match p.trim() {
                "..." => VARIADIC.to_owned(),
                named => named.trim_end_matches('.').trim().to_owned(),
            });
            (Some(names.collect()), body)
        }
        None => (None, rest),
    };
    let mut words = body.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let only_numbers = words.all(|word| word.is_empty() || is_number(word.as_bytes()));
    if name.is_empty() || (only_numbers && !body.contains("##")) {
        return None;
    }
    Some(Definition {
        name: name.to_owned(),
        parameters,
        body: tokens_of(body),
    })
}

/// Behind the parentheses that begin at `at`; the end of the text if they do not end.
fn group(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return i + 1;
            }
        }
    }
    tokens.len()
}

/// The arguments in the parentheses that begin at `at`.
fn arguments(tokens: &[Token], at: usize) -> Vec<std::ops::Range<usize>> {
    let end = group(tokens, at);
    let mut out = Vec::new();
    let (mut start, mut depth) = (at + 1, 0usize);
    for (i, token) in tokens.iter().enumerate().take(end).skip(at) {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth = depth.saturating_sub(1);
        } else if token.is(",") && depth == 1 {
            out.push(start..i);
            start = i + 1;
        }
    }
    out.push(start..end.saturating_sub(1).max(start).min(tokens.len()));
    out
}

/// What may be a piece of a name: a word, or a number such as `64bit`.
fn piece(token: &Token) -> Option<&str> {
    match token {
        Token::Name(text) => Some(text),
        Token::Other(text) => text
            .starts_with(|c: char| c.is_ascii_digit())
            .then_some(text),
    }
}

/// What some text, or the body of a macro, gives to the operator.
#[derive(Debug, Default)]
struct Given {
    flow: Flow,
    /// Words that it gives by itself.
    own: BTreeSet<String>,
    /// Macros that it uses and that give something to the operator.
    mentions: BTreeSet<String>,
}

struct Walk<'a> {
    tokens: &'a [Token],
    of: Option<&'a Definition>,
    known: &'a HashMap<String, Flow>,
    given: Given,
}

impl<'a> Walk<'a> {
    fn run(
        tokens: &'a [Token],
        of: Option<&'a Definition>,
        known: &'a HashMap<String, Flow>,
    ) -> Given {
        let mut walk = Walk {
            tokens,
            of,
            known,
            given: Given::default(),
        };
        walk.walk();
        walk.given
    }

    fn parameter(&self, i: usize) -> Option<usize> {
        self.of?.parameter(self.tokens.get(i)?)
    }

    /// These tokens reach the operator.
    fn give(&mut self, range: std::ops::Range<usize>) {
        for i in range {
            match (self.parameter(i), self.tokens.get(i).and_then(piece)) {
                (Some(parameter), _) => self.given.flow.hot |= bit(parameter),
                (None, Some(name)) => {
                    self.given.own.insert(name.to_owned());
                }
                (None, None) => {}
            }
        }
    }

    /// These tokens reach the operator if a parameter names a macro that leads them there.
    fn give_by_call(&mut self, call: usize, range: std::ops::Range<usize>) {
        for i in range {
            match (self.parameter(i), self.tokens.get(i).and_then(piece)) {
                (Some(parameter), _) => {
                    *self.given.flow.by_call.entry(call).or_default() |= bit(parameter);
                }
                (None, Some(name)) => {
                    self.given.own.insert(name.to_owned());
                }
                (None, None) => {}
            }
        }
    }

    fn walk(&mut self) {
        // Where the outermost parentheses begin that are open.
        let mut open: Vec<usize> = Vec::new();
        for i in 0..self.tokens.len() {
            let token = &self.tokens[i];
            if token.is("(") {
                open.push(i);
            } else if token.is(")") {
                open.pop();
            } else if token.is("##") {
                self.operator(i);
            }
            let Some(name) = token.name() else { continue };
            let called = self.tokens.get(i + 1).is_some_and(|t| t.is("("));
            if let Some(parameter) = self.parameter(i) {
                if called {
                    self.give_by_call(parameter, i + 2..group(self.tokens, i + 1));
                }
                continue;
            }
            let Some(flow) = self.known.get(name) else {
                continue;
            };
            self.given.mentions.insert(name.to_owned());
            if called {
                self.call(i, flow);
            } else if flow.nothing() {
                // It takes nothing.
            } else if let Some(&first) = open.first() {
                // Somebody else calls it.
                self.give(first..group(self.tokens, first));
            } else if self.of.is_some() {
                self.given.flow.all = true;
            }
        }
    }

    fn operator(&mut self, i: usize) {
        let right = i + 1;
        let variadic = self
            .of
            .and_then(|of| of.parameters.as_ref())
            .map(|list| list.len());
        // `, ## args` only takes the comma away.
        let comma = i > 0 && self.tokens[i - 1].is(",");
        let last = self
            .parameter(right)
            .is_some_and(|p| Some(p + 1) == variadic);
        if comma && last {
            return;
        }
        self.give(i.saturating_sub(1)..(right + 1).min(self.tokens.len()));
        // What is made may be a macro.
        if self.tokens.get(right + 1).is_some_and(|t| t.is("(")) {
            self.give(right + 1..group(self.tokens, right + 1));
        }
    }

    /// A macro is called at `i`.
    fn call(&mut self, i: usize, flow: &Flow) {
        let list = arguments(self.tokens, i + 1);
        for (n, range) in list.iter().enumerate() {
            if flow.all || flow.hot & bit(n) != 0 {
                self.give(range.clone());
            }
        }
        // More arguments than parameters are those of the last one.
        let last = 63 - flow.hot.leading_zeros().min(63) as usize;
        if flow.hot != 0 && list.len() > last {
            for range in &list[last..] {
                self.give(range.clone());
            }
        }
        for (&call, &bits) in &flow.by_call {
            let Some(named) = list.get(call) else {
                continue;
            };
            let one = named.len() == 1;
            let parameter = self.parameter(named.start).filter(|_| one);
            let function = self.tokens.get(named.start).and_then(Token::name);
            // A function, or a macro that gives nothing on.
            if one && parameter.is_none() && function.is_some_and(|f| !self.known.contains_key(f)) {
                continue;
            }
            let top = 63 - bits.leading_zeros().min(63) as usize;
            for (n, range) in list.iter().enumerate() {
                if bits & bit(n) == 0 && n < top {
                    continue;
                }
                match parameter {
                    Some(parameter) => self.give_by_call(parameter, range.clone()),
                    None => self.give(range.clone()),
                }
            }
        }
        // What it expands to may be a macro.
        let mut next = group(self.tokens, i + 1);
        while self.tokens.get(next).is_some_and(|t| t.is("(")) {
            let end = group(self.tokens, next);
            self.give(next..end);
            next = end;
        }
    }
}

/// What the definitions of a macro give to the operator by themselves, and the macros that they use.
type Gifts = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

/// Finds what each macro gives to the operator.
fn flows(all: &[Definition]) -> (HashMap<String, Flow>, Gifts) {
    let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut queue: BTreeSet<usize> = BTreeSet::new();
    for (n, definition) in all.iter().enumerate() {
        let mut seen = HashSet::new();
        for (i, token) in definition.body.iter().enumerate() {
            if token.is("##") {
                queue.insert(n);
            }
            let Some(name) = token.name() else { continue };
            if definition.parameter(token).is_some() {
                if definition.body.get(i + 1).is_some_and(|t| t.is("(")) {
                    queue.insert(n);
                }
            } else if seen.insert(name) {
                users.entry(name).or_default().push(n);
            }
        }
    }
    let mut known: HashMap<String, Flow> = HashMap::new();
    let mut given = Gifts::new();
    while let Some(n) = queue.pop_first() {
        let definition = &all[n];
        let result = Walk::run(&definition.body, Some(definition), &known);
        if result.flow.nothing() && result.own.is_empty() {
            continue;
        }
        let entry = given.entry(definition.name.clone()).or_default();
        entry.0.extend(result.own);
        entry.1.extend(result.mentions);
        let new = !known.contains_key(&definition.name);
        let flow = known.entry(definition.name.clone()).or_default();
        let before = flow.clone();
        flow.add(&result.flow);
        if new || *flow != before {
            queue.extend(users.get(definition.name.as_str()).into_iter().flatten());
        }
    }
    (known, given)
}

/// A place in which words are given to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Number of the file.
    file: u32,
    /// What is defined there, if its names are known.
    defines: Option<Vec<String>>,
    /// Hashes of the words.
    own: Vec<u32>,
    /// Numbers of the macros that it uses.
    mentions: Vec<u32>,
}

/// A macro that gives words to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Macro {
    name: String,
    own: Vec<u32>,
    mentions: Vec<u32>,
}

/// The index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pastes {
    macros: Vec<Macro>,
    places: Vec<Place>,
}

/// Where names can be made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Macros that make one by themselves.
    pub macros: BTreeSet<String>,
    /// Numbers of files, with the names of what stands there, if they are known.
    pub places: Vec<(usize, Option<Vec<String>>)>,
}

impl Pastes {
    /// Reads the index from `cache`, or makes it from the files `paths`, which are called `files`.
    pub fn read(files: &[String], paths: &[PathBuf], cache: &Path) -> Result<Self> {
        if let Ok(bytes) = fs::read(cache) {
            if let Some(index) = Self::parse(&bytes, paths.len()) {
                return Ok(index);
            }
        }
        let index = Self::make(files, paths)?;
        // Losing the cache costs some seconds, nothing else.
        let temporary = cache.with_extension(std::process::id().to_string());
        if fs::write(&temporary, index.print(paths.len()))
            .and_then(|()| fs::rename(&temporary, cache))
            .is_err()
        {
            let _ = fs::remove_file(&temporary);
        }
        Ok(index)
    }

    fn make(files: &[String], paths: &[PathBuf]) -> Result<Self> {
        let text = |n: usize| -> Result<String> {
            let bytes = fs::read(&paths[n])
                .with_context(|| format!("cannot read {}", paths[n].display()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        // Rust has no such operator.
        let numbers: Vec<usize> = (0..paths.len())
            .filter(|&n| !files[n].ends_with(".rs"))
            .collect();
        let found = Mutex::new(Vec::new());
        parallel(&numbers, |&n| {
            let mut list = definitions(&text(n)?);
            let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
            found.append(&mut list);
            Ok(())
        })?;
        let found = found.into_inner().unwrap_or_else(|e| e.into_inner());
        let (known, given) = flows(&found);
        let mut bodies: HashMap<&str, Vec<&Definition>> = HashMap::new();
        for definition in &found {
            bodies.entry(&definition.name).or_default().push(definition);
        }
        let number: HashMap<&str, u32> = given.keys().map(String::as_str).zip(0..).collect();
        let numbered = |names: &BTreeSet<String>| -> Vec<u32> {
            names
                .iter()
                .filter_map(|name| number.get(name.as_str()).copied())
                .collect()
        };
        let macros = given
            .iter()
            .map(|(name, (own, mentions))| Macro {
                name: name.clone(),
                own: carried(own, &bodies),
                mentions: numbered(mentions),
            })
            .collect();
        let places = Mutex::new(Vec::new());
        parallel(&numbers, |&n| {
            let text = text(n)?;
            if !uses(&text, &known) {
                return Ok(());
            }
            let mut list = Vec::new();
            for chunk in chunks(&text).iter().filter(|c| !c.directive) {
                let given = Walk::run(&chunk.tokens, None, &known);
                if given.own.is_empty() {
                    continue;
                }
                list.push(Place {
                    file: u32::try_from(n)?,
                    defines: defined(&files[n], chunk),
                    own: carried(&given.own, &bodies),
                    mentions: numbered(&given.mentions),
                });
            }
            let mut places = places.lock().unwrap_or_else(|e| e.into_inner());
            places.append(&mut list);
            Ok(())
        })?;
        let mut places = places.into_inner().unwrap_or_else(|e| e.into_inner());
        places.sort_by_key(|place: &Place| place.file);
        Ok(Pastes { macros, places })
    }

    /// Where some of the names can be made.
    pub fn making(&self, names: &BTreeSet<String>) -> Made {
        let pieces = Pieces::new(names);
        let mut reached: Vec<BTreeSet<Piece>> = vec![BTreeSet::new(); self.macros.len()];
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.macros.len()];
        let mut queue = Vec::new();
        for (n, one) in self.macros.iter().enumerate() {
            for &used in &one.mentions {
                users[used as usize].push(n);
            }
            reached[n] = pieces.of(&one.own);
            if !reached[n].is_empty() {
                queue.push(n);
            }
        }
        // What a macro uses gives its words, too.
        while let Some(n) = queue.pop() {
            for &user in &users[n] {
                if user == n {
                    continue;
                }
                let more: Vec<Piece> = reached[n].difference(&reached[user]).copied().collect();
                if !more.is_empty() {
                    reached[user].extend(more);
                    queue.push(user);
                }
            }
        }
        let mut made = Made::default();
        for (one, reached) in self.macros.iter().zip(&reached) {
            if pieces.make(reached) {
                made.macros.insert(one.name.clone());
            }
        }
        for place in &self.places {
            let mut all = pieces.of(&place.own);
            if all.is_empty() {
                continue;
            }
            for &used in &place.mentions {
                all.extend(&reached[used as usize]);
            }
            if pieces.make(&all) {
                made.places
                    .push((place.file as usize, place.defines.clone()));
            }
        }
        made
    }

    /// Whether a text that is not in the index may make one of the names: from any of its words.
    pub fn may_make(&self, text: &str, names: &BTreeSet<String>) -> bool {
        let pieces = Pieces::new(names);
        let words: BTreeSet<&str> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .collect();
        let mut own: Vec<u32> = words.iter().map(|w| hash(w.as_bytes())).collect();
        let macros = self.macros.iter();
        let used: Vec<&Macro> = macros.filter(|m| words.contains(m.name.as_str())).collect();
        if used.is_empty() && !text.contains("##") {
            return false;
        }
        let mut seen: HashSet<&str> = HashSet::new();
        let mut queue = used;
        while let Some(one) = queue.pop() {
            if seen.insert(&one.name) {
                own.extend(&one.own);
                queue.extend(one.mentions.iter().map(|&n| &self.macros[n as usize]));
            }
        }
        pieces.make(&pieces.of(&own))
    }

    fn print(&self, files: usize) -> Vec<u8> {
        let mut out = Out::default();
        MAGIC.iter().for_each(|&word| out.number(word));
        out.number(files as u32);
        out.number(self.macros.len() as u32);
        for one in &self.macros {
            out.text(&one.name);
            out.list(&one.own);
            out.list(&one.mentions);
        }
        out.number(self.places.len() as u32);
        for place in &self.places {
            out.number(place.file);
            match &place.defines {
                None => out.number(u32::MAX),
                Some(names) => {
                    out.number(names.len() as u32);
                    names.iter().for_each(|name| out.text(name));
                }
            }
            out.list(&place.own);
            out.list(&place.mentions);
        }
        out.bytes
    }

    /// Reads what [`Pastes::print`] wrote, and checks that all numbers are of something.
    fn parse(bytes: &[u8], files: usize) -> Option<Self> {
        let mut from = In { bytes };
        for word in MAGIC {
            (from.number()? == word).then_some(())?;
        }
        (from.number()? as usize == files).then_some(())?;
        let mut this = Pastes::default();
        let count = from.number()?;
        for _ in 0..count {
            this.macros.push(Macro {
                name: from.text()?,
                own: from.list()?,
                mentions: from.list()?,
            });
        }
        for _ in 0..from.number()? {
            let file = from.number()?;
            let defines = match from.number()? {
                u32::MAX => None,
                names => Some(
                    (0..names)
                        .map(|_| from.text())
                        .collect::<Option<Vec<_>>>()?,
                ),
            };
            this.places.push(Place {
                file,
                defines,
                own: from.list()?,
                mentions: from.list()?,
            });
        }
        let of_macros = this.macros.iter().flat_map(|m| &m.mentions);
        let mut mentions = of_macros.chain(this.places.iter().flat_map(|p| &p.mentions));
        let fits = mentions.all(|&n| n < count)
            && this.places.iter().all(|p| (p.file as usize) < files)
            && from.bytes.is_empty();
        fits.then_some(this)
    }
}

/// What a chunk of a file defines, if that is known; of a unit nobody asks.
fn defined(file: &str, chunk: &Chunk) -> Option<Vec<String>> {
    let unit = matches!(file.rsplit_once('.'), Some((_, "c" | "S" | "rs" | "lds")));
    match chunk.declares() {
        Defines::Names(names) if !unit => Some(names.into_iter().collect()),
        _ => None,
    }
}

/// Whether a text may use one of the macros.
fn uses(text: &str, known: &HashMap<String, Flow>) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .any(|word| known.contains_key(word))
}

/// The hashes of some words, and of those that they are macros for.
fn carried(own: &BTreeSet<String>, bodies: &HashMap<&str, Vec<&Definition>>) -> Vec<u32> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut queue: Vec<&str> = own.iter().map(String::as_str).collect();
    while let Some(word) = queue.pop() {
        if !seen.insert(word) {
            continue;
        }
        for definition in bodies.get(word).into_iter().flatten() {
            let names = definition.body.iter();
            queue.extend(
                names
                    .filter(|t| definition.parameter(t).is_none())
                    .filter_map(piece),
            );
        }
    }
    let mut out: Vec<u32> = seen.into_iter().map(|w| hash(w.as_bytes())).collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// A part of a name: which name, from where to where.
type Piece = (u16, u8, u8);

/// All parts of some names, by their hashes.
struct Pieces<'a> {
    names: Vec<&'a str>,
    by_hash: HashMap<u32, Vec<Piece>>,
}

/// Longer names are made by no macro.
const LONGEST: usize = 128;

impl<'a> Pieces<'a> {
    fn new(names: &'a BTreeSet<String>) -> Self {
        let names: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| name.is_ascii() && name.len() <= LONGEST)
            .take(usize::from(u16::MAX))
            .collect();
        let mut by_hash: HashMap<u32, Vec<Piece>> = HashMap::new();
        for (n, name) in names.iter().enumerate() {
            for from in 0..name.len() {
                for to in from + 1..=name.len() {
                    if to - from < name.len() {
                        let piece = (n as u16, from as u8, to as u8);
                        by_hash
                            .entry(hash(&name.as_bytes()[from..to]))
                            .or_default()
                            .push(piece);
                    }
                }
            }
        }
        Pieces { names, by_hash }
    }

    fn of(&self, words: &[u32]) -> BTreeSet<Piece> {
        let hits = words.iter().filter_map(|word| self.by_hash.get(word));
        hits.flatten().copied().collect()
    }

    /// Whether one of the names can be put together.
    fn make(&self, pieces: &BTreeSet<Piece>) -> bool {
        let mut rest = pieces.iter().peekable();
        while let Some(&&(n, ..)) = rest.peek() {
            let name = self.names[usize::from(n)].as_bytes();
            let mut reach = vec![false; name.len() + 1];
            reach[0] = true;
            let mut of_name: Vec<(usize, usize)> = Vec::new();
            while let Some(&(_, from, to)) = rest.next_if(|piece| piece.0 == n) {
                of_name.push((usize::from(from), usize::from(to)));
            }
            // Numbers are everywhere.
            for at in 0..name.len() {
                let ends = at + 1..=name.len();
                of_name.extend(
                    ends.filter(|&to| is_number(&name[at..to]))
                        .map(|to| (at, to)),
                );
            }
            of_name.sort_unstable();
            for (from, to) in of_name {
                if reach[from] {
                    reach[to] = true;
                }
            }
            if reach[name.len()] {
                return true;
            }
        }
        false
    }
}

/// Whether this is a number as macros stand for it: `17`, `0x11UL`.
fn is_number(text: &[u8]) -> bool {
    let hexadecimal = text.strip_prefix(b"0x").or(text.strip_prefix(b"0X"));
    let digits = hexadecimal.unwrap_or(text);
    let end = digits
        .iter()
        .position(|b| match hexadecimal {
            Some(_) => !b.is_ascii_hexdigit(),
            None => !b.is_ascii_digit(),
        })
        .unwrap_or(digits.len());
    let suffix = &digits[end..];
    (end > 0 || hexadecimal.is_some()) && suffix.iter().all(|b| b"uUlL".contains(b))
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
}

impl Out {
    fn number(&mut self, number: u32) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn list(&mut self, list: &[u32]) {
        self.number(list.len() as u32);
        list.iter().for_each(|&number| self.number(number));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.bytes.extend(text.as_bytes());
    }
}

struct In<'a> {
    bytes: &'a [u8],
}

impl In<'_> {
    fn number(&mut self) -> Option<u32> {
        let (head, rest) = self.bytes.split_first_chunk::<4>()?;
        self.bytes = rest;
        Some(u32::from_le_bytes(*head))
    }

    fn list(&mut self) -> Option<Vec<u32>> {
        let count = self.number()? as usize;
        let bytes = self.bytes.get(..count.checked_mul(4)?)?;
        self.bytes = &self.bytes[bytes.len()..];
        let words = bytes.chunks_exact(4);
        Some(
            words
                .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        )
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let bytes = self.bytes.get(..length)?;
        self.bytes = &self.bytes[length..];
        String::from_utf8(bytes.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The index of some files, and where it says that a name can be made.
    fn making(files: &[(&str, &str)], name: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("kcare-pastes-{}-{next}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        let paths: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
        for (path, (_, text)) in paths.iter().zip(files) {
            fs::write(path, text).unwrap();
        }
        let cache = dir.join("index");
        let first = Pastes::read(&names, &paths, &cache).unwrap();
        let index = Pastes::read(&names, &paths, &cache).unwrap();
        assert_eq!(first, index);
        fs::remove_dir_all(&dir).unwrap();
        let made = index.making(&BTreeSet::from([name.to_owned()]));
        let places = made.places.into_iter().map(|(file, names)| {
            let names = names.map_or(String::new(), |n| format!(":{}", n.join(",")));
            format!("{}{names}", files[file].0)
        });
        let all: Vec<String> = made.macros.into_iter().chain(places).collect();
        all.join(" ")
    }

    #[test]
    fn a_name_is_made_where_the_rest_of_it_is_given() {
        let header = "#define CALL(x) ip_ ## x()\n#define TWICE(x) CALL(x) + CALL(x)\n";
        let files = |unit: &'static str| [("a.h", header), ("b.c", unit)];
        let at = |unit: &'static str| making(&files(unit), "ip_do_it");
        assert_eq!(at("int a(void) { return TWICE(do_it); }"), "b.c");
        assert_eq!(at("int a(void) { return CALL(do_it); }"), "b.c");
        assert_eq!(
            at("#define IT do_it\nint a(void) { return TWICE(IT); }"),
            "b.c"
        );
        assert_eq!(
            at("#define ALSO TWICE\nint a(void) { return ALSO(do_it); }"),
            "b.c"
        );
        assert_eq!(
            at("#define MINE() CALL(do_it)\nint a(void) { return MINE(); }"),
            "MINE"
        );
        assert_eq!(at("int a(void) { return OTHER(do_it); }"), "");
        assert_eq!(at("int a(void) { return CALL(do) + do_it; }"), "");
        assert_eq!(at("int a(void) { return CALL(x) + f(do_it); }"), "");
    }

    #[test]
    fn pieces_of_any_length_are_put_together() {
        let header = "#define PASTE_(a, b) a##b\n#define PASTE(a, b) PASTE_(a, b)\n\
                      #define NUMBER(x) PASTE(x, __COUNTER__)\n#define THREE(a, b) a##_##b\n";
        let at = |unit: &'static str, name: &str| making(&[("a.h", header), ("b.c", unit)], name);
        assert_eq!(at("int PASTE(node, type);", "nodetype"), "b.c");
        assert_eq!(
            at("int PASTE(PASTE(no, de), PASTE(ty, pe));", "nodetype"),
            "b.c"
        );
        assert_eq!(at("int THREE(node, type);", "node_type"), "b.c");
        assert_eq!(at("int NUMBER(node);", "node12"), "b.c");
        assert_eq!(at("int PASTE(node, 64bit);", "node64bit"), "b.c");
        assert_eq!(at("int THREE(node, other), type;", "node_type"), "");
    }

    #[test]
    fn numbers_are_known() {
        for text in ["1", "17", "17UL", "0x", "0x1f", "0x1Full"] {
            assert!(is_number(text.as_bytes()), "{text}");
        }
        for text in ["", "x", "ul", "64bit", "1_", "0x1g"] {
            assert!(!is_number(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn lists_for_macros_give_their_words() {
        let header = "#define LIST(id) id(ONE, one) id(TWO, two)\n#define ENTRY(a, b) READ_##a,\n\
                      enum e { LIST(ENTRY) };\n#define CALL(f, x) f(x)\n";
        let at = |unit: &'static str, name: &str| making(&[("a.h", header), ("b.c", unit)], name);
        assert_eq!(at("", "READ_TWO"), "a.h");
        assert_eq!(at("int x = CALL(print, TWO);", "READ_OTHER"), "");
        assert_eq!(at("int CALL(ENTRY, OTHER);", "READ_OTHER"), "b.c");
        // Arguments of a function make no name.
        assert_eq!(at("int y = CALL(print, READ_ + OTHER);", "READ_OTHER"), "");
    }

    #[test]
    fn a_comma_that_goes_makes_no_name() {
        let header = "#define log(fmt, ...) print(fmt, ##__VA_ARGS__)\n#define warn(fmt, args...) log(fmt, ## args)\n";
        let unit = "void f(void) { warn(\"x\", node, _type); }";
        assert_eq!(making(&[("a.h", header), ("b.c", unit)], "node_type"), "");
    }

    #[test]
    fn in_headers_the_names_of_the_places_are_told() {
        let header = "#define GET(x) get_##x\nstatic inline int f(void) { return GET(node); }\n\
                      struct s { int GET(node); };\n";
        assert_eq!(making(&[("a.h", header)], "get_node"), "a.h:f a.h");
    }

    #[test]
    fn a_damaged_index_is_none() {
        let index = Pastes {
            macros: vec![Macro {
                name: "m".to_owned(),
                own: vec![1],
                mentions: vec![0],
            }],
            places: Vec::new(),
        };
        let bytes = index.print(1);
        assert_eq!(Pastes::parse(&bytes, 1), Some(index));
        assert_eq!(Pastes::parse(&bytes, 2), None);
        assert_eq!(Pastes::parse(&bytes[..bytes.len() - 1], 1), None);
    }
}
