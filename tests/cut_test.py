#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of the cutter: small trees that are made here, and the machine's own compiler instead of kcare-build."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import cut  # noqa: E402 (the folder must be known first)

CC = ["cc", "-std=gnu11", "-fsyntax-only", "-Werror=implicit-function-declaration", "-Werror=incompatible-pointer-types",
      "-Werror=int-conversion", "-Iinclude"]


class Trees(unittest.TestCase):
    """A made difference: files before and after; a file that is None is not there."""

    def cut(self, files, asked, nowhere=()):
        """Lets the fix of one file grow until it compiles; gives its files, and what was not answered."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for file, (old, new) in files.items():
            for side, content in (("old", old), ("new", new)):
                path = self.root / side / file
                path.parent.mkdir(parents=True, exist_ok=True)
                if content is not None:
                    path.write_text(content)
        changed = sorted(f for f, (old, new) in files.items() if old != new)
        homes = {f: self.home(f, files[f][0], nowhere) for f in changed if f.endswith((".c", ".h"))}
        others = [f for f in changed if f not in homes]
        self.cutter = cut.Cutter(self.root / "old", self.root / "new", sorted(homes), others, homes)
        taken = [asked]
        taken += self.cutter.mentioned_headers(taken) if asked.endswith(".c") else self.cutter.companions(taken)
        for _ in range(cut.ROUNDS):
            status, message = self.build(taken)
            more = self.cutter.needed(asked, taken, status, message)
            if not more:
                break
            taken += more
        return set(taken), status, self.cutter.unanswered(taken, message)

    def home(self, file, old, nowhere):
        if old is None or file in nowhere:
            return "nowhere"
        return "vmlinux" if file.endswith(".c") else "included"

    def build(self, files):
        """Compiles each C file of the patched tree, as kcare-build would say it."""
        tree = self.root / "work/tree"
        subprocess.run(["rm", "-rf", tree], check=True)
        tree.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", self.root / "old", tree], check=True)
        patch = b"".join(self.cutter.difference(f).patch for f in sorted(files))
        subprocess.run(["patch", "-s", "-p1", "-E", "-d", tree], input=patch, check=True)
        for unit in sorted(tree.rglob("*.c")):
            done = subprocess.run([*CC, f"-I{tree}/include", unit], stderr=subprocess.PIPE, text=True, cwd=tree,
                                  env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
            if done.returncode:
                return cut.FAILED, f"kcare-build: cannot compile {unit.relative_to(tree)} (exact-patched):\n{done.stderr}"
        return 0, ""

    def grows(self, files, asked, wanted, **options):
        taken, status, unanswered = self.cut(files, asked, **options)
        self.assertEqual(([], 0), (unanswered, status), f"with {sorted(taken)}")
        self.assertEqual({asked, *wanted}, taken)


class Compiler(Trees):
    """What the compiler may ask for."""

    def test_a_new_header(self):
        self.grows({
            "fs/a.c": ("int a;\n", '#include "deep/made.h"\nint a = MADE;\n'),
            "fs/deep/made.h": (None, "#define MADE 1\n"),
            "net/deep/made.h": (None, "#define MADE 2\n"),
        }, "fs/a.c", ["fs/deep/made.h"])

    def test_a_new_header_that_a_changed_header_includes(self):
        self.grows({
            "fs/a.c": ("#include <linux/old.h>\nint a = KEPT;\n", "#include <linux/old.h>\nint a = KEPT + kept_too(2);\n"),
            "include/linux/old.h": ("#define KEPT 1\n", "#include <linux/made.h>\n#define KEPT 1\n#define kept_too(x) MADE(x)\n"),
            "include/linux/made.h": (None, "#define MADE(x) (x)\n"),
        }, "fs/a.c", ["include/linux/old.h", "include/linux/made.h"])

    def test_a_new_file_that_is_no_header(self):
        self.grows({
            "fs/a.c": ("int a;\n", 'int a[] = {\n#include "table.inc"\n};\n'),
            "fs/table.inc": (None, "1, 2\n"),
        }, "fs/a.c", ["fs/table.inc"])

    def test_a_header_with_another_name_travels_as_one(self):
        body = "struct thing {\n\tint first;\n\tint second;\n};\nint thing(struct thing *t);\n"
        files = {
            "fs/a.c": ('#include "thing.h"\nstruct thing a;\n', '#include "object.h"\nstruct thing a = { 1 };\n'),
            "fs/b.c": ('#include "thing.h"\nstruct thing b;\n', '#include "object.h"\nstruct thing b;\n'),
            "fs/c.c": ("int c;\n", "int c = 1;\n"),
            "fs/thing.h": (body, None),
            "fs/object.h": (None, body + "#define OBJECT\n"),
            "fs/other.h": (None, "int other;\n"),
        }
        whole = {"fs/a.c", "fs/b.c", "fs/thing.h", "fs/object.h"}
        for asked in ("fs/a.c", "fs/b.c", "fs/thing.h"):
            self.grows(files, asked, whole - {asked})
        self.grows(files, "fs/c.c", [])

    def test_a_header_that_is_gone_takes_who_included_it(self):
        self.grows({
            "fs/a.c": ('#include "small.h"\nint a = SMALL;\n', "int a = 1;\n"),
            "fs/b.c": ('#include "middle.h"\nint b = SMALL;\n', '#include "middle.h"\nint b = 1;\n'),
            "fs/middle.h": ('#include "small.h"\nint middle;\n', "int middle;\n"),
            "fs/small.h": ("#define SMALL 1\n", None),
        }, "fs/small.h", ["fs/a.c", "fs/b.c", "fs/middle.h"])

    def test_a_prototype_in_the_header_of_another_fix(self):
        self.grows({
            "net/a.c": ('#include "../lib/b.h"\nint a(void)\n{\n\treturn 0;\n}\n',
                        '#include "../lib/b.h"\nint a(void)\n{\n\treturn helper(1);\n}\n'),
            "lib/b.h": ("int b(int x);\n", "int b(int x);\nint helper(int x);\n"),
            # Mentions it only, and is nobody's here.
            "fs/c.h": ("\n", "#define call_it(x) helper(x)\n"),
        }, "net/a.c", ["lib/b.h"])

    def test_a_member_a_constant_and_a_type(self):
        self.grows({
            "net/a.c": ('#include "../lib/m.h"\n#include "../lib/k.h"\n#include "../lib/t.h"\nint a(struct m *m)\n{\n\treturn m->old;\n}\n',
                        '#include "../lib/m.h"\n#include "../lib/k.h"\n#include "../lib/t.h"\nint a(struct m *m)\n{\n\tnumber_t n = m->fresh;\n'
                        '\n\treturn n == K_FRESH;\n}\n'),
            "lib/m.h": ("struct m {\n\tint old;\n};\n", "struct m {\n\tint old;\n\tint fresh : 3;\n};\n"),
            "lib/k.h": ("enum k {\n\tK_OLD,\n};\n", "enum k {\n\tK_OLD,\n\tK_FRESH,\n};\n"),
            "lib/t.h": ("\n", "typedef long number_t;\n"),
        }, "net/a.c", ["lib/m.h", "lib/k.h", "lib/t.h"])

    def test_other_arguments(self):
        """A unit that the header brings in, and headers that the compiler's notes show."""
        for old, new in (("int x", "int x, int y"), ("int x, int y", "int x")):
            values = {"int x": "1", "int x, int y": "1, 2"}
            self.grows({
                "net/a.c": (f'#include "../lib/f.h"\nint a(void)\n{{\n\treturn send({values[old]});\n}}\n',
                            f'#include "../lib/f.h"\nint a(void)\n{{\n\treturn send({values[new]});\n}}\n'),
                "net/b.c": (f'#include "../lib/f.h"\nint b(void)\n{{\n\treturn send({values[old]});\n}}\n',
                            f'#include "../lib/f.h"\nint b(void)\n{{\n\treturn send({values[new]});\n}}\n'),
                "lib/f.h": (f"int send({old});\n", f"int send({new});\n"),
            }, "net/a.c", ["lib/f.h", "net/b.c"])

    def test_another_type(self):
        self.grows({
            "net/f.c": ('#include "../lib/f.h"\nint send(int x)\n{\n\treturn x;\n}\n',
                        '#include "../lib/f.h"\nlong send(long x)\n{\n\treturn x;\n}\n'),
            "lib/f.h": ("int send(int x);\n", "long send(long x);\n"),
        }, "net/f.c", ["lib/f.h"])

    def test_a_callback_of_another_type(self):
        self.grows({
            "net/a.c": ('#include "../lib/ops.h"\nstatic int show(int *x)\n{\n\treturn *x;\n}\nstruct ops o = {\n\t.show = show,\n};\n',
                        '#include "../lib/ops.h"\nstatic int show(const int *x)\n{\n\treturn *x;\n}\nstruct ops o = {\n\t.show = show,\n};\n'),
            "lib/ops.h": ("struct ops {\n\tint (*show)(int *x);\n};\n", "struct ops {\n\tint (*show)(const int *x);\n};\n"),
        }, "net/a.c", ["lib/ops.h"])

    def test_a_second_definition(self):
        """A function moves from one header to another one that is included beside it."""
        body = "static inline int moved(int x)\n{\n\treturn x;\n}\n"
        self.grows({
            "fs/a.c": ('#include "one.h"\n#include "two.h"\nint a(void)\n{\n\treturn moved(1) + ONE;\n}\n',
                       '#include "one.h"\n#include "two.h"\nint a(void)\n{\n\treturn moved(1) + TWO;\n}\n'),
            "fs/one.h": (body + "#define ONE 1\n", "#define ONE 1\n"),
            "fs/two.h": ("\n", body + "#define TWO 2\n"),
        }, "fs/a.c", ["fs/one.h", "fs/two.h"])

    def test_a_name_that_a_macro_puts_together(self):
        macro = "#define DEFINE_END(name, type) static inline void __end_##name(type x) { }\n"
        self.grows({
            "net/a.c": ('#include "../lib/e.h"\nvoid a(int x)\n{\n}\n', '#include "../lib/e.h"\nvoid a(int x)\n{\n\t__end_thing(x);\n}\n'),
            "lib/e.h": (macro, macro + "DEFINE_END(thing, int)\n"),
        }, "net/a.c", ["lib/e.h"])

    def test_a_macro_with_other_arguments(self):
        self.grows({
            "net/a.c": ('#include "../lib/e.h"\nint a = SUM(1, 2);\n', '#include "../lib/e.h"\nint a = SUM(1, 2, 3);\n'),
            "lib/e.h": ("#define SUM(a, b) ((a) + (b))\n", "#define SUM(a, b, c) ((a) + (b) + (c))\n"),
        }, "net/a.c", ["lib/e.h"])

    def test_an_error_in_a_header_that_its_own_change_mends(self):
        self.grows({
            "net/a.c": ('#include "../lib/outer.h"\nint a = 1;\n', '#include "../lib/outer.h"\nint a = INNER;\n'),
            "lib/outer.h": ('#include "inner.h"\nstatic inline int outer(void)\n{\n\treturn inner(1);\n}\n',
                            '#include "inner.h"\nstatic inline int outer(void)\n{\n\treturn inner(1, 2);\n}\n'),
            "lib/inner.h": ("int inner(int x);\n", "#define INNER 1\nint inner(int x, int y);\n"),
        }, "net/a.c", ["lib/inner.h", "lib/outer.h"])

    def test_what_a_line_without_a_name_means(self):
        """`void value not ignored` names nothing; its line does."""
        self.grows({
            "net/a.c": ('#include "../lib/f.h"\nint a(void)\n{\n\tsend();\n\treturn 0;\n}\n',
                        '#include "../lib/f.h"\nint a(void)\n{\n\tint err = send();\n\n\treturn err;\n}\n'),
            "lib/f.h": ("void send_all(void);\nvoid send(void);\n", "void send_all(void);\nint send(void);\n"),
        }, "net/a.c", ["lib/f.h"])

    def test_what_nothing_answers_is_said(self):
        taken, status, unanswered = self.cut({
            "fs/a.c": ("int a;\n", '#include "generated.h"\nint a = 1;\n'),
            "fs/b.h": ("\n", "#define B\n"),
        }, "fs/a.c")
        self.assertEqual(({"fs/a.c"}, cut.FAILED), (taken, status))
        self.assertEqual(["fs/a.c: generated.h: No such file or directory"], unanswered)
        _, _, unanswered = self.cut({"fs/a.c": ("int a;\n", "int a(void)\n{\n\treturn lost();\n}\n")}, "fs/a.c")
        self.assertEqual(["fs/a.c: implicit declaration of function 'lost'"],
                         [ask.split(" [")[0].split(";")[0] for ask in unanswered])

    def test_what_is_alike_in_another_folder_stays_out(self):
        """Two drivers get the same new name; each fix takes its own."""
        unit = ('#include "priv.h"\nint {0}(struct p *p)\n{{\n\treturn 0;\n}}\n', '#include "priv.h"\nint {0}(struct p *p)\n{{\n\treturn p->fresh;\n}}\n')
        header = ("struct p {\n\tint old;\n};\n", "struct p {\n\tint old;\n\tint fresh;\n};\n")
        self.grows({
            "drivers/one/one.c": tuple(side.format("one") for side in unit),
            "drivers/two/two.c": tuple(side.format("two") for side in unit),
            "drivers/one/priv.h": header,
            "drivers/two/priv.h": header,
        }, "drivers/one/one.c", ["drivers/one/priv.h"])


class Builder(Trees):
    """What the builder asks for beyond the compiler."""

    def test_makers_of_what_the_kernel_lacks(self):
        files = {
            "fs/a.c": ("int a;\n", "int a = 1;\n"),
            "fs/f.c": ("int f;\n", "int f;\nint fresh(int x)\n{\n\treturn x;\n}\n"),
            "fs/v.c": ("static int value;\n", "int value;\n"),
            "fs/k.c": ("int k;\n", "int k;\nDEFINE_KEY(fresh_key);\n"),
            "fs/user.c": ("int u;\n", "int u = 2;\nextern int value;\nint g(void)\n{\n\treturn fresh(value);\n}\n"),
        }
        self.cut(files, "fs/a.c")
        for name, maker in (("fresh", "fs/f.c"), ("value", "fs/v.c"), ("fresh_key", "fs/k.c")):
            message = f"kcare-build: fs/a.c: a: refers to `{name}`, which vmlinux does not have"
            self.assertEqual([maker], self.cutter.needed("fs/a.c", ["fs/a.c"], cut.CANNOT_PATCH, message), name)


class Names(unittest.TestCase):
    """What lines of C define."""

    def test_what_lines_introduce(self):
        for line, names in {
            "#  define FLAG(x)\t1": {"FLAG"},
            "struct thing {": {"thing"},
            "static inline struct thing *get_thing(struct other *o, int x)": {"get_thing"},
            "extern struct thing things[2] __read_mostly;": {"things"},
            "typedef int (*call_t)(void);": {"call_t"},
            "\tunsigned int\tone : 3, two[4];\t/* three */": {"one", "two"},
            "\tstruct list_head *head;": {"head"},
            "\tint (*show)(struct seq_file *m, void *v);": {"show"},
            "\tFLAG_ONE = BIT(3),": {"FLAG_ONE"},
            "\tFLAG_TWO": {"FLAG_TWO"},
            "\treturn call(1);": set(),
        }.items():
            self.assertEqual(names, cut.introduces([line]), line)

    def test_what_errors_name(self):
        for error, names, hints in (
            ("‘struct aa’ has no member named ‘fresh’; did you mean ‘old’?", {"fresh"}, {"aa"}),
            ("implicit declaration of function ‘f_new’; did you mean ‘f_old’? [-Wimplicit]", {"f_new"}, set()),
            ("'K_NEW' undeclared here (not in a function)", {"K_NEW"}, set()),
            ("unknown type name ‘new_t’", {"new_t"}, set()),
            ("invalid application of ‘sizeof’ to incomplete type ‘struct whole’", {"whole"}, set()),
            ('macro "SUM" passed 3 arguments, but takes just 2', {"SUM"}, set()),
            ("expected ‘=’, ‘,’, ‘;’, ‘asm’ or ‘__attribute__’ before ‘fresh’", {"fresh"}, set()),
            ("conflicting types for ‘func’; have ‘int(struct thing *)’", {"func"}, {"thing"}),
            ("initialization of ‘int (*)(struct aa *)’ from incompatible pointer type ‘void *’", set(), {"aa"}),
        ):
            ask = cut.ask_of("x.c", error)
            self.assertEqual((names, hints), (ask.names, ask.hints), error)


if __name__ == "__main__":
    unittest.main()
