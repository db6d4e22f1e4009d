# SPDX-License-Identifier: GPL-2.0
"""Cuts the difference of two source trees into fixes, and lets a fix grow by what it turns out to need.

A part of the difference is a changed file. A fix begins with one part and what clearly belongs to it; then the compiler
names what it misses, and the parts that define this are added, headers first.
"""

import collections
import dataclasses
import os
import re
import subprocess
import threading

# How often a fix may grow before it has to do.
ROUNDS = 8
# Exit statuses of kcare-build that say that a fix lacks something.
FAILED, CANNOT_PATCH = 1, 4
# What part of their lines a removed and a new header must have in common to be one header with another name, and how
# many at least: small ones are alike by chance.
ALIKE, ALIKE_LINES = 0.5, 4

# Words of C that say nothing about what a change is about.
KEYWORDS = set("""auto break case char const continue default do double else enum extern false float for goto if inline
int long register return short signed sizeof static struct switch true typedef union unsigned void volatile while bool
NULL u8 u16 u32 u64 s8 s16 s32 s64 size_t ssize_t define ifdef ifndef endif include err ret""".split())
# Words of the compiler's messages and of the kernel's that are no names that a change defines.
NOISE = KEYWORDS | set("asm __attribute__ __asm__ typeof __typeof__ _Static_assert static_assert offsetof container_of".split())

INCLUDE = re.compile(r'\s*#\s*include(?:_next)?\s*[<"]([^>"]+)[>"]')
# Where the kernel's build looks for what `#include <...>` names.
INCLUDE_FOLDERS = ["include", "arch/x86/include", "include/uapi", "arch/x86/include/uapi"]


# ------------------------------------------------------------------------------------------------ parts


class Difference:
    """What one file differs in."""

    def __init__(self, old, new, file):
        self.file = file
        self.is_new, self.is_gone = not (old / file).exists(), not (new / file).exists()
        sides = [("/dev/null", "/dev/null") if gone else (root / file, f"{side}/{file}")
                 for root, side, gone in ((old, "a", self.is_new), (new, "b", self.is_gone))]
        labels = [word for _, label in sides for word in ("--label", label)]
        diff = subprocess.run(["diff", "-up", *labels, *(path for path, _ in sides)], stdout=subprocess.PIPE)
        self.patch = diff.stdout
        lines = diff.stdout.decode(errors="replace").splitlines()[2:]
        changed = [line for line in lines if line[:1] in ("+", "-")]
        self.added = [line[1:] for line in changed if line[0] == "+"]
        self.removed = [line[1:] for line in changed if line[0] == "-"]
        self.words = words([line[1:] for line in changed])
        self.defines = defines(lines)
        # What a compiler may miss without this change: members and enumerators as well.
        self.brings = self.defines | self.words
        self.introduces = introduces(self.added)
        self.includes, self.drops = included(self.added), included(self.removed)
        # Names that macros put together from an argument: `__free_foo` of DEFINE_FREE(foo, ...).
        calls = [m for m in (re.match(r"[A-Z]\w+\(\s*(\w+)\s*(?:,\s*(\w+))?", line) for line in self.added) if m]
        self.arguments = {name for call in calls for name in call.groups() if name and len(name) > 2} - KEYWORDS

    def makes(self, name):
        """Whether its added lines may define this function or variable."""
        escaped = re.escape(name)
        function, variable = rf"\w[^;=]*\b{escaped}\(", rf"(?!extern\b)\w[\w\s*]*\b{escaped}\b\s*(?:[=;\[]|__\w+)"
        return any(re.match(function, line) or re.match(variable, line)
                   or re.match(rf"(?:static )?DEFINE_\w+\((?:.*\W)?{escaped}\W", line) for line in self.added)

    def pastes(self, name):
        """Whether its added lines may define this name by a macro that puts it together."""
        return any(re.search(rf"(?:^|_){re.escape(part)}(?:_|$)", name) for part in self.arguments)


def words(lines):
    found = set()
    for line in lines:
        found.update(re.findall(r"[A-Za-z_]\w+", line.split("//")[0]))
    return found - KEYWORDS


def included(lines):
    return {m[1] for m in map(INCLUDE.match, lines) if m}


def defines(lines):
    """Names of functions and macros in whose definition a line of a unified difference changed."""
    names, current = set(), None
    for line in lines:
        hunk = re.match(r"@@ .*? @@(.*)", line)
        text = hunk[1].strip() if hunk else line[1:]
        macro = re.match(r"#\s*define\s+(\w+)", text)
        function = re.match(r"[A-Za-z_][^;=]*?\b(\w+)\(", text)
        if macro or function:
            current = (macro or function)[1]
        elif re.match(r"[A-Za-z#]", text) or hunk:
            current = None
        if not hunk and line[:1] in ("+", "-") and current:
            names.add(current)
    return names - KEYWORDS


def introduces(lines):
    """Names that lines of C may define or declare: macros, functions, types, variables, members, enumerators."""
    names = set()
    for line in lines:
        text = re.sub(r"/\*.*?\*/|//.*", "", line)
        indented = text[:1] in (" ", "\t")
        for pattern in (r"\s*#\s*define\s+(\w+)",
                        r"(?:typedef\s+)?(?:struct|union|enum)\s+(\w+)\s*[{;]",
                        r"[A-Za-z_][\w\s*]*?\b(\w+)\s*\((?!\*)",
                        r".*\(\s*\*\s*(?:const\s+)?(\w+)\s*\)\s*\(",
                        r"(?:extern|typedef)\b.*?\b(\w+)\s*(?:\[[^\]]*\]\s*)*(?:__\w+\s*)*;",
                        r"\s+(?:struct|union|enum)\s+(\w+)\s*\{"):
            names.update(m[1] for m in [re.match(pattern, text)] if m)
        if indented:
            # `a, *b[2], c : 3;`, and `A = 1,`
            member = re.match(r"\s+[A-Za-z_]\w*[\s*]([\w\s*,:\[\]+]*?)(?:__\w+(?:\(.*\))?\s*)?;", text)
            if member and not re.match(r"\s+(?:return|goto)\b", text):
                names.update(re.findall(r"(\b[A-Za-z_]\w*)\s*(?:\[[^\]]*\]\s*)*(?::[^,]*)?(?:,|$)", member[1]))
            enumerator = re.match(r"\s+([A-Za-z_]\w*)\s*(?:=[^;]*)?,?\s*$", text)
            if enumerator:
                names.add(enumerator[1])
    return names - KEYWORDS


# ----------------------------------------------------------------------------------------------- errors


@dataclasses.dataclass
class Ask:
    """What one error of the compiler asks for."""
    text: str
    # The file that the error is in, and those that its notes are in.
    where: str
    places: list = dataclasses.field(default_factory=list)
    # The file that cannot be found, or the names that the error is about, and others that it mentions.
    missing: str = ""
    names: set = dataclasses.field(default_factory=set)
    hints: set = dataclasses.field(default_factory=set)

    def __str__(self):
        return f"{self.where}: {self.text}"


DIAGNOSTIC = re.compile(r"([^\s:]+):\d+:(?:\d+:)? (fatal error|error|warning|note): (.*)")
QUOTED = re.compile(r"[‘']([^’']*)[’']")
# Errors that quote types, which are known; what is missing is whatever gave something another type.
ABOUT_TYPES = re.compile(r"initiali[sz]ation |assignment |assigning |return|incompatible types|comparison |invalid operands"
                         r"|pointer type mismatch|cannot convert|void value|invalid type argument")


def asks_of(message, name_of=lambda path: path):
    """What the errors of the compiler ask for; `name_of` turns its paths into names of files."""
    found, current, fresh = [], None, False
    for line in message.splitlines():
        diagnostic = DIAGNOSTIC.match(line)
        if diagnostic:
            path, kind, text = name_of(diagnostic[1]), diagnostic[2], diagnostic[3]
            fresh = kind.endswith("error")
            if fresh:
                current = ask_of(path, text)
                found.append(current)
            elif kind == "warning":
                current = None
            elif current:
                near = re.search(r"near initiali[sz]ation for [‘'].*?(\w+)(?:\[\d+\])?[’']", text)
                if near:
                    current.names.add(near[1])
                current.places.append(path)
        elif current and fresh and (source := re.match(r"\s*\d+ \| (.*)", line)):
            current.hints |= words([source[1]]) - NOISE - current.names
            fresh = False
    return found


def ask_of(where, text):
    ask = Ask(text, where)
    # What it may be instead is there already.
    text = re.sub(r"; did you mean .*", "", text)
    missing = re.match(r"(\S+): No such file", text)
    macro = re.search(r'macro "(\w+)"', text)
    member = re.search(r"has no member named [‘'](\w+)[’']", text)
    failed = re.search(r"(?:BUILD_BUG_ON|assertion) failed: (.*)", text)
    quoted = [words([quote]) - NOISE for quote in QUOTED.findall(text)]
    quoted = [names for names in quoted if names]
    if missing:
        ask.missing = missing[1]
    elif macro or member:
        ask.names = {(macro or member)[1]}
    elif failed:
        ask.hints = words([failed[1]]) - NOISE
    elif quoted and not ABOUT_TYPES.match(text):
        ask.names = quoted[0]
    ask.hints |= set().union(*quoted) - ask.names
    return ask


# --------------------------------------------------------------------------------------------- the cutter


class Cutter:
    """The difference of two source trees, and which parts of it go together."""

    def __init__(self, old_source, new_source, files, others, homes):
        """`files` are the changed C files and headers, `others` other changed files; `homes` says of each of the former
        where the older kernel builds it, as `kcare-build where` does."""
        self.old_source, self.new_source = old_source, new_source
        self.files, self.others, self.homes = files, others, homes
        self.differences = {}
        self.lock = threading.RLock()
        self.headers = [f for f in files if f.endswith(".h") and homes[f] != "nowhere"]
        self.fresh = [f for f in [*files, *others] if not (old_source / f).exists()]
        self.dropped = [f for f in files if f.endswith(".h") and not (new_source / f).exists()]
        self.renamed = self.find_renamed()
        self.reached = {}
        self.named = {}

    def difference(self, file):
        with self.lock:
            if file not in self.differences:
                self.differences[file] = Difference(self.old_source, self.new_source, file)
            return self.differences[file]

    def find_renamed(self):
        """Headers that only got another name, each with the other one."""
        def lines(root, file):
            text = map(str.strip, (root / file).read_text(errors="replace").splitlines())
            # Comments and frames of headers look alike everywhere.
            return collections.Counter(line for line in text if not re.match(r"$|/?\*|//|#\s*(?:endif|ifndef|if)\b", line))

        new = {f: lines(self.new_source, f) for f in self.fresh if f.endswith(".h")} if self.dropped else {}
        pairs = []
        for gone in self.dropped:
            old = lines(self.old_source, gone)
            for name, text in new.items():
                common = (old & text).total()
                share = common / max(old.total(), text.total(), 1)
                if share >= ALIKE and common >= ALIKE_LINES:
                    pairs.append((share, gone, name))
        renamed = {}
        for _, gone, name in sorted(pairs, reverse=True):
            if gone not in renamed and name not in renamed:
                renamed[gone], renamed[name] = name, gone
        return renamed

    # -------------------------------------------------------------------------------- what goes together

    def mentioned_headers(self, files):
        """What goes with the files at once: changed headers whose change defines something that the change of the files
        mentions, headers that they newly include, and what these cannot go without."""
        taken = list(files)
        mentioned = set().union(*(self.difference(f).words for f in taken))
        more = True
        while more:
            more = [h for h in self.headers if h not in taken and self.may_include(taken[0], h)
                    and self.difference(h).defines & mentioned]
            taken += more
            for header in more:
                mentioned |= self.difference(header).words
        taken += self.companions(taken)
        return [f for f in taken if f not in files]

    def companions(self, files):
        """What the files cannot go without: new headers that they include, the other name of a header that was renamed,
        and for a header that is gone whatever included it."""
        taken = list(files)
        for file in taken:
            part = self.difference(file)
            more = [f for name in part.includes for f in self.providers(file, name)[:1]]
            if file in self.renamed:
                more.append(self.renamed[file])
            if part.is_gone and file.endswith(".h"):
                more += [f for f in self.files if (self.homes[f] != "nowhere" or f in self.fresh)
                         and any(self.may_mean(f, name, file) for name in self.difference(f).drops)]
            taken += [f for f in dict.fromkeys(more) if f not in taken]
        return [f for f in taken if f not in files]

    def may_include(self, file, header):
        """A header beside a file, or above it, or of the kernel at large; another folder's own is not for it."""
        return header.startswith(("include/", "arch/x86/include/")) or \
            file.startswith(os.path.dirname(header).split("/")[0] + "/")

    def may_mean(self, file, name, header):
        """Whether `#include` of the name in a file may mean this header."""
        if os.path.normpath(os.path.join(os.path.dirname(file), name)) == header:
            return True
        while name.startswith("../"):
            name = name[3:]
        return f"/{header}".endswith(f"/{name}")

    def providers(self, file, name):
        """New files that `#include` of the name in a file may mean, the likeliest first."""
        beside = os.path.normpath(os.path.join(os.path.dirname(file), name))
        if (self.old_source / beside).exists():
            return []
        usual = [beside, *(os.path.join(folder, name) for folder in INCLUDE_FOLDERS)]
        found = [f for f in self.fresh if self.may_mean(file, name, f)]
        return sorted(found, key=lambda f: (usual.index(f) if f in usual else len(usual),
                                            -len(os.path.commonprefix([f, file])), f))

    def reach(self, unit):
        """The files of the newer tree that a unit includes, as far as names tell."""
        with self.lock:
            if unit not in self.reached:
                seen, todo = {unit}, [unit]
                while todo:
                    file = todo.pop()
                    for target in self.targets(file, unit):
                        if target not in seen:
                            seen.add(target)
                            todo.append(target)
                self.reached[unit] = seen
            return self.reached[unit]

    def targets(self, file, unit):
        """What the `#include` lines of a file mean."""
        if file not in self.named:
            root = self.new_source if (self.new_source / file).exists() else self.old_source
            text = (root / file).read_text(errors="replace").splitlines() if (root / file).is_file() else []
            self.named[file] = included(text)
        for name in self.named[file]:
            places = [os.path.dirname(file), *INCLUDE_FOLDERS, os.path.dirname(unit)]
            found = [os.path.normpath(os.path.join(place, name)) for place in places]
            if name.startswith("asm/"):
                found.append(f"include/asm-generic/{name[4:]}")
            here = [f for f in found if (self.new_source / f).is_file()][:1]
            # The build names more folders to look in; of what lies there only changed files matter.
            yield from here or [f for f in self.files if f.endswith(".h") and self.may_mean(file, name, f)]

    # ---------------------------------------------------------------------------- what the builder asks for

    def needed(self, file, files, status, message):
        """What else the fix needs, by the builder's message."""
        unit = failing_unit(message)
        if status == FAILED and unit:
            # A unit that a header brought in, and that the difference adapts to it.
            if unit in self.files and unit not in files:
                return [unit] + [h for h in self.mentioned_headers([unit]) if h not in files]
            found = self.answers(unit, self.asks(message), files)
            return found + [f for f in self.companions(found) if f not in files]
        if status == CANNOT_PATCH:
            missing = re.findall(r"refers to `([\w.]+)`", message)
            makers = [f for f in self.files if f.endswith(".c") and f not in files
                      and any(self.difference(f).makes(name) for name in missing)]
            return makers + [h for h in self.mentioned_headers(makers) if h not in files] if makers else []
        return []

    def asks(self, message):
        """What the compiler's errors in the builder's message ask for."""
        return asks_of(message, self.name_of)

    def unanswered(self, files, message):
        """What the errors ask for that no other part of the difference has."""
        unit = failing_unit(message)
        if not unit:
            return []
        return list(dict.fromkeys(str(ask) for ask in self.asks(message) if not self.answers(unit, [ask], files)))

    def name_of(self, path):
        """The name of a file that the compiler means by a path, which may be in any tree."""
        parts = os.path.normpath(path).split("/")
        names = ("/".join(parts[start:]) for start in range(len(parts)))
        inside = (n for n in names if n and not n.startswith("..") and
                  ((self.old_source / n).is_file() or (self.new_source / n).is_file()))
        return next((n for n in inside if n != path or not path.startswith("/")), path)

    def answers(self, unit, asks, files):
        """The parts that answer what the errors in a unit ask for; less likely ones only if there are no better ones."""
        found = []
        for ask in asks:
            steps = self.likely(ask, files)
            found += next((self.nearest(unit, step) for step in steps if step), [])
        if not found:
            reach = self.reach(unit)
            steps = ([f for f in step if f in reach] for ask in asks for step in self.unlikely(ask, files))
            found = next((step for step in steps if step), [])
        return list(dict.fromkeys(found))

    def likely(self, ask, files):
        """Parts that answer an ask, in steps; the first that is not empty will do."""
        parts = {f: self.difference(f) for f in [*self.headers, *(n for n in self.fresh if n.endswith(".h"))]
                 if f not in files}
        if ask.missing:
            yield [f for f in self.providers(ask.where, ask.missing) if f not in files][:1]
            # Who names a file that is gone is adapted to that by its own change.
            yield [ask.where] if ask.where in parts and ask.missing in parts[ask.where].drops else []
            return
        # What the error is in, or what a note shows, if its change is about the same.
        yield [f for f in dict.fromkeys([*ask.places, ask.where]) if f in parts and parts[f].words & ask.names]
        yield [f for f, part in parts.items() if part.introduces & ask.names]
        yield [f for f, part in parts.items() if part.brings & ask.names]
        yield [f for f, part in parts.items() if any(map(part.pastes, ask.names))]

    def unlikely(self, ask, files):
        """Parts that may have to do with an ask: with what the error only mentions, or of another C file."""
        parts = {f: self.difference(f) for f in self.headers if f not in files}
        yield [f for f, part in parts.items() if part.introduces & ask.hints]
        yield [f for f, part in parts.items() if part.defines & ask.hints]
        included_files = [f for f in self.files if f.endswith(".c") and self.homes[f] == "included" and f not in files]
        yield [f for f in included_files if self.difference(f).introduces & (ask.names | ask.hints)]

    def nearest(self, unit, parts):
        """Of several parts, those that the unit includes, or may include, if there are any."""
        reach = self.reach(unit)
        return [f for f in parts if f in reach] or [f for f in parts if self.may_include(unit, f)] or parts


def failing_unit(message):
    """The unit that cannot be compiled once it is patched, if the builder says so."""
    found = re.search(r"cannot compile (\S+) \([\w-]*patched\)", message)
    return found and found[1]
