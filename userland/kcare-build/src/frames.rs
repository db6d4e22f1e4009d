// SPDX-License-Identifier: GPL-2.0

//! Proves from a unit's preprocessed text that all objects of a structure are in the frames of its own functions.
//!
//! The layout of such a structure may change: once no frame of these functions is left, there is no object, and the
//! stop makes sure of that for functions that it replaces. The text shows who makes objects and how each pointer to
//! one came about; what is not plainly one of the forms below is an obstacle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::cexpr::{
    arguments, around, block, close, declares, definition, depth, expression, is, is_member,
    member_follows, members, name, null, of_type, receiver, untouched, unwrapped, uses,
};
use crate::ctext::{split, tokens_of, Chunk, Defines, Token};

/// What an identifier of a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// A variable of the structure.
    Object,
    /// A pointer to one.
    Pointer,
}

/// A parameter that brings a pointer into a function: the function's name, the parameter's place.
type Carrier = (String, usize);

/// What the text says about one function.
#[derive(Debug, Default)]
struct Function {
    names: HashMap<String, Is>,
    /// Whether its frame holds an object.
    holds: bool,
    carriers: BTreeSet<Carrier>,
    /// Members, outermost first, from which it loads a pointer.
    paths: BTreeSet<Vec<String>>,
}

/// A unit's text, in its declarations.
pub struct Text {
    chunks: Vec<Chunk>,
    /// Whether all of a chunk is in the C file itself.
    own: Vec<bool>,
}

impl Text {
    /// Takes what the preprocessor made of `source`, with line markers.
    pub fn new(text: &str, source: &str) -> Self {
        let mut own = false;
        let mut tokens = Vec::new();
        let mut owned = Vec::new();
        for line in text.lines() {
            if line.starts_with('#') {
                // A pragma has no file.
                let marker = line.strip_prefix("# ").and_then(|l| l.split_once('"'));
                if let Some((_, rest)) = marker {
                    let file = rest.split('"').next().unwrap_or_default();
                    let above = file.strip_suffix(source);
                    own = above.is_some_and(|a| a.is_empty() || a.ends_with('/'));
                }
                continue;
            }
            tokens.extend(tokens_of(line));
            owned.resize(tokens.len(), own);
        }
        let chunks = split(tokens);
        let mut rest = owned.as_slice();
        let own = chunks
            .iter()
            .map(|chunk| {
                let (these, others) = rest.split_at(chunk.tokens.len());
                rest = others;
                these.iter().all(|own| *own)
            })
            .collect();
        Text { chunks, own }
    }

    /// The functions whose frames hold all objects of `struct NAME` or `union NAME` that there are; else an obstacle.
    pub fn holders(&self, tag: &str) -> Result<BTreeSet<String>, String> {
        let Some((keyword, name)) = tag.split_once(' ') else {
            return Err("it has no tag".to_owned());
        };
        Proof {
            text: self,
            keyword,
            name,
            functions: BTreeMap::new(),
        }
        .run()
    }
}

/// A proof about one structure.
struct Proof<'a> {
    text: &'a Text,
    keyword: &'a str,
    name: &'a str,
    /// By the index of their chunk.
    functions: BTreeMap<usize, Function>,
}

impl Proof<'_> {
    fn run(mut self) -> Result<BTreeSet<String>, String> {
        let mut defined = 0;
        for (c, chunk) in self.text.chunks.iter().enumerate() {
            let places = self.places(&chunk.tokens);
            if places.is_empty() || (places == [0] && chunk.tokens.len() == 3) {
                // Nothing, or `struct NAME;`.
                continue;
            }
            if !self.text.own[c] {
                return Err("another file than the C file mentions it".to_owned());
            }
            if places == [0] && is(&chunk.tokens, 2, "{") {
                if close(&chunk.tokens, 2) + 2 != chunk.tokens.len() {
                    return Err("its definition declares more".to_owned());
                }
                defined += 1;
            } else if let Some((name, open)) = definition(chunk) {
                let function = self
                    .function(name, &chunk.tokens, open, &places)
                    .map_err(|why| format!("{why} in {name}"))?;
                self.functions.insert(c, function);
            } else {
                self.prototype(chunk, &places)?;
            }
        }
        if defined != 1 {
            return Err("the C file does not define it once".to_owned());
        }
        self.check_ways()?;
        let holders: BTreeSet<String> = self
            .functions
            .iter()
            .filter(|(_, f)| f.holds)
            .filter_map(|(c, _)| definition(&self.text.chunks[*c]))
            .map(|(name, _)| name.to_owned())
            .collect();
        if holders.is_empty() {
            return Err("no function has a variable of it".to_owned());
        }
        Ok(holders)
    }

    /// Where the structure is named.
    fn places(&self, tokens: &[Token]) -> Vec<usize> {
        (0..tokens.len().saturating_sub(1))
            .filter(|&i| {
                tokens[i].name() == Some(self.keyword) && tokens[i + 1].name() == Some(self.name)
            })
            .collect()
    }

    /// A declaration outside of functions: a prototype may have parameters that point to the structure.
    fn prototype(&self, chunk: &Chunk, places: &[usize]) -> Result<(), String> {
        let tokens = &chunk.tokens;
        let plain = matches!(chunk.defines(), Defines::Names(names) if names.len() == 1)
            && !tokens.iter().any(|t| t.is("{"));
        let pointer = |&at: &usize| depth(tokens, at) == 1 && self.star(tokens, at).is_some();
        if plain && places.iter().all(pointer) {
            return Ok(());
        }
        Err("a type or variable outside of functions is made of it".to_owned())
    }

    /// The index behind `*` and qualifiers, if a pointer to the structure named at `at` follows.
    fn star(&self, tokens: &[Token], at: usize) -> Option<usize> {
        let qualifiers = |mut i: usize| {
            while matches!(name(tokens, i), Some("const" | "restrict")) {
                i += 1;
            }
            i
        };
        let star = qualifiers(at + 2);
        let end = qualifiers(star + 1);
        (is(tokens, star, "*") && !is(tokens, end, "*")).then_some(end)
    }

    /// Looks at a function whose parameters stand in parentheses at `open`.
    fn function(
        &self,
        name_of: &str,
        tokens: &[Token],
        open: usize,
        places: &[usize],
    ) -> Result<Function, String> {
        let mut function = Function::default();
        let end = close(tokens, open);
        let body = (end..tokens.len())
            .find(|&i| is(tokens, i, "{"))
            .ok_or("it has no body")?;
        let mut seen = BTreeSet::new();
        // Where a name is declared as what it is.
        let mut declared = BTreeSet::new();
        let mut voids = HashMap::new();
        for (n, (from, to)) in arguments(tokens, open).into_iter().enumerate() {
            let Some(parameter) = name(tokens, to - 1).filter(|_| to > from) else {
                continue;
            };
            let at = (from..to)
                .find(|&i| name(tokens, i) != Some("const"))
                .unwrap_or(from);
            if places.contains(&at) && self.star(tokens, at) == Some(to - 1) {
                seen.insert(at);
                declared.insert(to - 1);
                function.names.insert(parameter.to_owned(), Is::Pointer);
                function.carriers.insert((name_of.to_owned(), n));
            } else if at + 3 == to && name(tokens, at) == Some("void") && is(tokens, at + 1, "*") {
                voids.insert(parameter.to_owned(), (n, to - 1));
            }
        }
        // What a pointer is set to, as ranges.
        let mut origins = Vec::new();
        for &at in places.iter().filter(|at| **at > body) {
            if is(tokens, at - 1, "(") && is(tokens, at + 2, ")") && is(tokens, at + 3, "{") {
                if of_type(tokens, at) {
                    return Err("its size or type is taken".to_owned());
                }
                function.holds = true;
            } else {
                self.variables(tokens, at, body, &mut function, &mut declared, &mut origins)?;
            }
            seen.insert(at);
        }
        if seen.len() != places.len() {
            return Err("it is used otherwise than by a pointer or a variable".to_owned());
        }
        for (known, what) in &function.names {
            self.check_uses(tokens, open, known, *what, &declared, &mut origins)?;
        }
        for (from, to) in origins {
            let expression = unwrapped(&tokens[from..to]);
            if self.object(expression, &function) || null(expression) {
                continue;
            }
            if let [Token::Name(given)] = expression {
                let (place, at) = voids
                    .get(given)
                    .ok_or_else(|| format!("a pointer to it is set to `{given}`"))?;
                if !untouched(tokens, open, given, *at) {
                    return Err(format!("`{given}` is set"));
                }
                function.carriers.insert((name_of.to_owned(), *place));
                continue;
            }
            let path = members(expression).ok_or("a pointer to it is made of something else")?;
            function.paths.insert(path);
        }
        let statics = tokens[..open].iter().any(|t| t.name() == Some("static"));
        let takes = !function.carriers.is_empty() || !function.paths.is_empty();
        if takes && !statics {
            return Err("other units may call what takes a pointer to it".to_owned());
        }
        Ok(function)
    }

    /// Reads the declaration of automatic variables at `at`.
    fn variables(
        &self,
        tokens: &[Token],
        at: usize,
        body: usize,
        function: &mut Function,
        declared: &mut BTreeSet<usize>,
        origins: &mut Vec<(usize, usize)>,
    ) -> Result<(), String> {
        let odd = || "it is used otherwise than by a pointer or a variable".to_owned();
        let constant = name(tokens, at - 1) == Some("const");
        let before = at - 1 - usize::from(constant);
        let starts = [";", "{", "}"].iter().any(|t| is(tokens, before, t));
        if !starts || !block(tokens, at, body) {
            return Err(odd());
        }
        let mut i = at + 2;
        loop {
            let pointer = is(tokens, i, "*") || name(tokens, i) == Some("const");
            if pointer {
                // As if the structure's name stood in front of it.
                i = self.star(tokens, i - 2).ok_or_else(odd)?;
            } else if constant {
                return Err("a variable of it is constant".to_owned());
            }
            let known = name(tokens, i).ok_or_else(odd)?.to_owned();
            let what = if pointer { Is::Pointer } else { Is::Object };
            function.holds |= !pointer;
            if function
                .names
                .insert(known.clone(), what)
                .is_some_and(|was| was != what)
            {
                return Err(format!("`{known}` is declared twice"));
            }
            declared.insert(i);
            i += 1;
            if is(tokens, i, "=") {
                let end = expression(tokens, i + 1);
                if pointer {
                    origins.push((i + 1, end));
                }
                i = end;
            }
            if is(tokens, i, ";") {
                return Ok(());
            }
            if !is(tokens, i, ",") {
                return Err(format!("`{known}` is not a plain variable"));
            }
            i += 1;
        }
    }

    /// Looks at each place where a function names a variable or pointer.
    fn check_uses(
        &self,
        tokens: &[Token],
        open: usize,
        known: &str,
        what: Is,
        declared: &BTreeSet<usize>,
        origins: &mut Vec<(usize, usize)>,
    ) -> Result<(), String> {
        for at in uses(tokens, known).filter(|at| *at > open && !declared.contains(at)) {
            if declares(tokens, at) {
                return Err(format!("`{known}` is declared twice"));
            }
            if member_follows(tokens, at) {
                continue;
            }
            if of_type(tokens, at) {
                return Err(format!("the size or type of `{known}` is taken"));
            }
            if what == Is::Object {
                continue;
            }
            let (before, after) = around(tokens, at);
            let next = |text: &str| is(tokens, after, text);
            if is(tokens, before, "&") && !is(tokens, before - 1, "&") {
                return Err(format!("the address of `{known}` is taken"));
            }
            let twice = |i: usize, t: &str| is(tokens, i, t) && is(tokens, i + 1, t);
            if next("[")
                || next("+")
                || next("-")
                || twice(before - 1, "+")
                || twice(before - 1, "-")
            {
                return Err(format!("`{known}` is computed with"));
            }
            if next("=") && !is(tokens, after + 1, "=") && !is(tokens, before, "*") {
                if after != at + 1 {
                    return Err(format!("`{known}` is set in parentheses"));
                }
                origins.push((after + 1, expression(tokens, after + 1)));
            }
        }
        Ok(())
    }

    /// Whether an expression without outer parentheses is the address of an object in a frame.
    fn object(&self, expression: &[Token], function: &Function) -> bool {
        let known = |token: &Token| token.name().and_then(|n| function.names.get(n).copied());
        match expression {
            [one] => known(one) == Some(Is::Pointer),
            [and, rest @ ..] if and.is("&") => match unwrapped(rest) {
                [one] => known(one) == Some(Is::Object),
                literal => {
                    self.places(literal) == [1]
                        && is(literal, 0, "(")
                        && is(literal, 3, ")")
                        && is(literal, 4, "{")
                        && close(literal, 4) + 1 == literal.len()
                }
            },
            _ => false,
        }
    }

    /// Checks that only pointers to objects in frames come in by parameters and members.
    fn check_ways(&self) -> Result<(), String> {
        let none = Function::default();
        for (&c, function) in &self.functions {
            let Some((own_name, _)) = definition(&self.text.chunks[c]) else {
                continue;
            };
            if function.carriers.is_empty() && function.paths.is_empty() {
                continue;
            }
            // What stands in front of its first declaration means something else by the name.
            let mut known = false;
            for (o, chunk) in self.text.chunks.iter().enumerate() {
                let tokens = &chunk.tokens;
                let user = self.functions.get(&o).unwrap_or(&none);
                let head = definition(chunk);
                for at in uses(tokens, own_name) {
                    let declares = match head {
                        Some((name, open)) => name == own_name && at + 1 == open,
                        // A prototype.
                        None => depth(tokens, at) == 0 && is(tokens, at + 1, "("),
                    };
                    known |= declares;
                    if declares || !known {
                        continue;
                    }
                    let called = is(tokens, at + 1, "(") || receiver(tokens, at).is_some();
                    let fits = head.is_some()
                        && called
                        && (function.paths.is_empty() || user.holds || o == c)
                        && self.brings(tokens, at, function, user);
                    if !fits {
                        let user = head.map_or("a variable", |(name, _)| name);
                        return Err(format!(
                            "{own_name} takes a pointer to it, and what it is given by {user} is not told"
                        ));
                    }
                }
            }
            for path in &function.paths {
                self.check_stores(path)?;
            }
        }
        Ok(())
    }

    /// Whether a function that is named at `at` gets a pointer to an object there, where it takes one.
    fn brings(&self, tokens: &[Token], at: usize, function: &Function, user: &Function) -> bool {
        if function.carriers.is_empty() {
            return true;
        }
        let is_object =
            |&(from, to): &(usize, usize)| self.object(unwrapped(&tokens[from..to]), user);
        if is(tokens, at + 1, "(") {
            let given = arguments(tokens, at + 1);
            return function
                .carriers
                .iter()
                .all(|(_, place)| given.get(*place).is_some_and(is_object));
        }
        // It is given to somebody who calls it, together with what it is called with.
        let Some(open) = receiver(tokens, at) else {
            return false;
        };
        let given = arguments(tokens, open);
        let itself = |&&(from, to): &&(usize, usize)| {
            (from == at || (from + 1 == at && is(tokens, from, "&"))) && to == at + 1
        };
        function.carriers.len() == 1
            && given.iter().any(|one| itself(&one))
            && given.iter().any(is_object)
    }

    /// Checks that a member from which pointers are loaded is set to nothing else in the C file.
    fn check_stores(&self, path: &[String]) -> Result<(), String> {
        let none = Function::default();
        let shown = path.join(".");
        let Some((last, outer)) = path.split_last() else {
            return Err("a pointer is loaded from nothing".to_owned());
        };
        let mut stored = false;
        for (c, chunk) in self.text.chunks.iter().enumerate() {
            let (tokens, own) = (&chunk.tokens, self.text.own[c]);
            for at in (1..tokens.len()).filter(|_| own) {
                if name(tokens, at) != Some(last) || !is_member(tokens, at) {
                    continue;
                }
                let another = outer.last().is_some_and(|outer| {
                    let before = at - if is(tokens, at - 1, ".") { 2 } else { 3 };
                    is_member(tokens, before) && name(tokens, before).is_some_and(|n| n != outer)
                });
                let sets = is(tokens, at + 1, "=") && !is(tokens, at + 2, "=");
                if another || !sets {
                    continue;
                }
                let value = unwrapped(&tokens[at + 2..expression(tokens, at + 2)]);
                let user = self.functions.get(&c).unwrap_or(&none);
                if !self.object(value, user) {
                    return Err(format!(
                        "a pointer to it is loaded from `{shown}`, which holds others too"
                    ));
                }
                stored = true;
            }
        }
        match stored {
            true => Ok(()),
            false => Err(format!(
                "a pointer to it is loaded from `{shown}`, which nothing sets"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "# 1 \"/s/include/a.h\"\n\
        struct desc { union { char *buf; void *data; } arg; };\n\
        void each(void (*f)(int, void *), void *data);\n\
        int walk(struct desc *d, int (*f)(struct desc *, int));\n\
        # 1 \"/s/k/a.c\" 2\n";

    /// The holders of `struct s` in a C file behind some headers.
    fn holders(text: &str) -> Result<String, String> {
        let text = Text::new(&format!("{HEADER}{text}"), "k/a.c");
        let found = text.holders("struct s")?;
        Ok(found.into_iter().collect::<Vec<_>>().join(" "))
    }

    const BY_CALL: &str = "struct s { int a; struct { int b; } in; };
        static int use(const struct s *s);
        static int use(const struct s *s) { return s->a + sizeof(s->in) + sizeof((s)->in.b); }
        static __attribute__((noinline)) int f(int a) {
            struct s s = { .a = a }, *p = &s;
            p->in.b = 1;
            return use(&s) + use(p);
        }
        int g(void) { struct s s; s = (struct s){ .a = 2 }; return f(1) + use(&s) + use(&(struct s){ 3 }); }\n";

    const BY_VOID: &str = "struct s { int a; };
        static void out(int event, void *data) { struct s *s = data; if (s && s->a) s->a = event; }
        static void pass(struct s *s) { each(out, s); }
        int f(struct s_other *s) { return s->a; }
        void g(void) { struct s event; event.a = 1; pass(&event); each(out, &event); }\n";

    const BY_MEMBER: &str = "struct s { int a; };
        static int got(struct desc *d, int n) { struct s *s = d->arg.data; s->a += n; return n ? got(d, 0) : 1; }
        int g(void) { struct s args = { 1 }; struct desc d = { .arg.data = &args, }; return walk(&d, got); }\n";

    #[test]
    fn objects_in_frames_are_found() {
        assert_eq!(holders(BY_CALL).as_deref(), Ok("f g"));
        assert_eq!(holders(BY_VOID).as_deref(), Ok("g"));
        assert_eq!(holders(BY_MEMBER).as_deref(), Ok("g"));
        let union = Text::new(
            "# 1 \"k/a.c\"\nunion u { int a; }; int f(void) { union u u = { 1 }; return u.a; }",
            "k/a.c",
        );
        assert_eq!(
            union.holders("union u"),
            Ok(BTreeSet::from(["f".to_owned()]))
        );
    }

    #[test]
    fn macros_leave_what_they_expand_to() {
        let text = "struct s { int a; };
            int f(void) {
                struct s s;
            # 7 \"/s/k/a.c\"
                if (({ do { } while (0); __builtin_expect(!!(s.a), 0); })) { struct s t = { 1 }; return t.a; }
                return (*(const volatile typeof(s.a) *)&(s.a)) + ((&(s))->a);
            #pragma GCC diagnostic ignored \"-Wx\"
            }\n";
        assert_eq!(holders(text).as_deref(), Ok("f"));
    }

    /// What is said about a C file with a harmless holder and something more in it.
    fn with(more: &str) -> String {
        let text = format!("struct s {{ int a; }};\nint held(void) {{ struct s x = {{ 1 }}; return x.a; }}\n{more}\n");
        holders(&text).expect_err(more)
    }

    #[test]
    fn other_objects_are_obstacles() {
        let outside = "a type or variable outside of functions is made of it";
        for more in [
            "struct s v;",
            "static struct s v = { 1 };",
            "static struct s v[2];",
            "static __attribute__((section(\".data..percpu\"))) __typeof__(struct s) v;",
            "extern struct s v;",
            "struct s *v;",
            "struct t { struct s s; };",
            "struct t { struct s; };",
            "struct t { struct s *s; };",
            "struct __attribute__((packed)) t { struct s s; };",
            "struct t __attribute__((packed)) { struct s s; };",
            "typedef struct s s_t;",
            "struct s get(void);",
            "struct s *get(void);",
            "int take(struct s s);",
            "int take(struct s **s);",
            "int (*hook)(struct s *);",
            "_Static_assert(sizeof(struct s) == 4);",
            "char b[sizeof(struct s)];",
            "void *v = &(struct s){ 1 };",
        ] {
            assert_eq!(with(more), outside, "{more}");
        }
        let otherwise = "it is used otherwise than by a pointer or a variable in f";
        for more in [
            "struct s f(void) { }",
            "struct s *f(void) { }",
            "int f(struct s s) { return s.a; }",
            "static int f(struct s **s) { return 0; }",
            "int f(void) { static struct s s; return s.a; }",
            "int f(void) { static struct s *s; return s->a; }",
            "int f(void) { extern struct s s; return s.a; }",
            "int f(void) { return k(sizeof(struct s)); }",
            "int f(void *p) { return ((struct s *)p)->a; }",
            "int f(void) { struct t { struct s s; } *t = k(); return t->s.a; }",
            "int f(void) { struct t { int b; struct s s; } *t = k(); return t->s.a; }",
            "int f(void) { struct s **p = k(); return (*p)->a; }",
            "int f(void) { void *p = k(); typeof(struct s) *q = p; return q->a; }",
            "int f(int n, ...) { return va_arg(n, struct s *)->a; }",
        ] {
            assert_eq!(with(more), otherwise, "{more}");
        }
        for (more, why) in [
            (
                "int f(void) { struct s s[2]; return s[0].a; }",
                "`s` is not a plain variable in f",
            ),
            (
                "int f(void) { const struct s s = { 1 }; return s.a; }",
                "a variable of it is constant in f",
            ),
            (
                "# 1 \"/s/b.h\"\nstatic inline int f(struct s *s) { return s->a; }",
                "another file than the C file mentions it",
            ),
            ("struct s { int a; };", "the C file does not define it once"),
        ] {
            assert_eq!(with(more), why, "{more}");
        }
        assert_eq!(
            holders("struct s { int a; } v;").unwrap_err(),
            "its definition declares more"
        );
        assert_eq!(
            holders("struct s { struct s *next; };").unwrap_err(),
            outside
        );
        assert_eq!(
            holders("struct s { int a; };").unwrap_err(),
            "no function has a variable of it"
        );
        let header =
            "# 1 \"/s/b.h\"\nstruct s { int a; };\n# 3 \"/s/k/a.c\"\nint f(void) { return 0; }";
        assert_eq!(
            holders(header).unwrap_err(),
            "another file than the C file mentions it"
        );
    }

    #[test]
    fn a_size_or_type_is_an_obstacle() {
        let body = |body: &str| {
            with(&format!(
                "int f(void) {{ struct s x = {{ 1 }}, *p = &x; {body} return 0; }}"
            ))
        };
        for (text, of) in [
            ("k(sizeof(x));", "x"),
            ("k(sizeof x);", "x"),
            ("k(sizeof(*p));", "p"),
            ("k(sizeof *p);", "p"),
            ("k(sizeof(*(p)));", "p"),
            ("k(sizeof(0 ? p : 0));", "p"),
            ("k(2 * sizeof(p[0]));", "p"),
            ("typeof(p) q = k();", "p"),
            ("typeof(*p) *q = k();", "p"),
            ("void *q = ({ __typeof__(x) *r = k(); r; });", "x"),
            ("__auto_type q = p;", "p"),
            ("__auto_type q = ({ k(); p; });", "p"),
            ("k(_Alignof(x));", "x"),
            ("k(__builtin_offsetof(typeof(x), a));", "x"),
            ("asm volatile (\"\" : \"=r\" (p));", "p"),
        ] {
            assert_eq!(
                body(text),
                format!("the size or type of `{of}` is taken in f"),
                "{text}"
            );
        }
        assert_eq!(
            body("k(sizeof (struct s){ 1 });"),
            "its size or type is taken in f"
        );
    }

    #[test]
    fn a_pointer_of_unknown_origin_is_an_obstacle() {
        let made = "a pointer to it is made of something else in f";
        let body = |body: &str| {
            with(&format!("static int f(void *d, char *c) {{ {body} return p->a; }} int h(void) {{ struct s x; return f(&x, 0); }}"))
        };
        for (text, why) in [
            ("struct s *p = k(64);", made),
            ("struct s *p; p = k(64);", made),
            ("struct s *p = (void *)c;", made),
            ("struct s *p = d + 8;", made),
            ("struct s *p = ({ d; });", made),
            ("struct s *p = d ? d : 0;", made),
            ("struct s *p = &q->first;", made),
            ("struct s *p = c;", "a pointer to it is set to `c` in f"),
            (
                "struct s *p = other;",
                "a pointer to it is set to `other` in f",
            ),
            ("d = k(); struct s *p = d;", "`d` is set in f"),
            ("k(&d); struct s *p = d;", "`d` is set in f"),
            ("{ void *d = k(); struct s *p = d; }", "`d` is set in f"),
            (
                "struct s *p = 0; k(&p);",
                "the address of `p` is taken in f",
            ),
            (
                "struct s *p = 0; k(&(p));",
                "the address of `p` is taken in f",
            ),
            ("struct s *p = 0; p++;", "`p` is computed with in f"),
            ("struct s *p = 0; p[1].a = 0;", "`p` is computed with in f"),
            ("struct s *p = 0; k(p + 1);", "`p` is computed with in f"),
            (
                "struct s *p = 0; (p) = d;",
                "`p` is set in parentheses in f",
            ),
            (
                "struct s *p = 0; { struct t *p = k(); }",
                "`p` is declared twice in f",
            ),
            (
                "struct s *p = 0; { int i, *p = c; }",
                "`p` is declared twice in f",
            ),
            (
                "struct s *p = 0; for (void *n = c, *p = n;;) ;",
                "`p` is declared twice in f",
            ),
            (
                "struct s *p = d->private;",
                "a pointer to it is loaded from `private`, which nothing sets",
            ),
        ] {
            assert_eq!(body(text), why, "{text}");
        }
    }

    #[test]
    fn a_function_may_be_given_other_objects() {
        let given = |by: &str| {
            format!("out takes a pointer to it, and what it is given by {by} is not told")
        };
        let out = "static void out(int event, void *data) { struct s *s = data; s->a = event; }";
        for (more, by) in [
            ("void f(void *d) { out(1, d); }", "f"),
            ("void f(void) { out(1, k()); }", "f"),
            ("void f(void *d) { struct s x; out(x.a, d); }", "f"),
            (
                "void f(void *d) { struct s x; each(out, d); x.a = 1; }",
                "f",
            ),
            (
                "void f(void *d) { struct s x; each(n ? out : 0, &x); }",
                "f",
            ),
            (
                "void f(void *d) { struct s x; void *q[] = { out, &x }; }",
                "f",
            ),
            (
                "void f(struct ops *o) { struct s x; o->out = out; k(&x); }",
                "f",
            ),
            ("struct ops o = { .out = out };", "a variable"),
        ] {
            assert_eq!(with(&format!("{out}\n{more}")), given(by), "{more}");
        }
        let open = with(&out.replace("static ", ""));
        assert_eq!(
            open,
            "other units may call what takes a pointer to it in out"
        );
        let open = with("int use(struct s *s) { return s->a; }");
        assert_eq!(
            open,
            "other units may call what takes a pointer to it in use"
        );
        let two =
            "static int cmp(void *a, void *b) { struct s *x = a, *y = b; return x->a == y->a; }
            void f(void) { struct s x; find(&x, cmp); }";
        assert_eq!(
            with(two),
            "cmp takes a pointer to it, and what it is given by f is not told"
        );
    }

    #[test]
    fn a_member_may_hold_other_objects() {
        for (more, why) in [
            (
                "void f(struct desc *d, void *p) { d->arg.data = p; }",
                "a pointer to it is loaded from `arg.data`, which holds others too",
            ),
            (
                "struct desc d = { .arg = { .data = p } };",
                "a pointer to it is loaded from `arg.data`, which holds others too",
            ),
            (
                "int f(struct desc *d) { return walk(d, got); }",
                "got takes a pointer to it, and what it is given by f is not told",
            ),
            (
                "int (*hook)(struct desc *, int) = got;",
                "got takes a pointer to it, and what it is given by a variable is not told",
            ),
        ] {
            let found = holders(&format!("{BY_MEMBER}{more}"));
            assert_eq!(found, Err(why.to_owned()), "{more}");
        }
        let other =
            "void f(struct desc *d, void *p) { d->other.data = p; if (d->arg.data == p) k(); }";
        assert!(holders(&format!("{BY_MEMBER}{other}")).is_ok());
    }
}
