#!/usr/bin/python3
"""tools/tidy must find each of these, and nothing in the sound tree."""
import importlib.machinery
import importlib.util
import subprocess
import tempfile
import unittest
from pathlib import Path

LOADER = importlib.machinery.SourceFileLoader('tidy', str(Path(__file__).with_name('tidy')))
tidy = importlib.util.module_from_spec(importlib.util.spec_from_loader('tidy', LOADER))
LOADER.exec_module(tidy)

CMAKE = 'set(SENTINEL_FOLDERS base io\n    http)\n'
COMMENT = '/* What this is, who owns it, which process it runs in, and which bounds it keeps. */\n'
SOUND = {
    'CMakeLists.txt': CMAKE,
    'src/base/a.h': COMMENT + 'int a_one(int x);\n',
    'src/base/a.c': '#include "base/a.h"\n\nint a_one(int x)\n{\n    return x;\n}\n',
    'src/http/main.c': '#include "base/a.h"\n\nint main(void)\n{\n    return a_one(1);\n}\n',
}


def function(body, head='static int f(int x)'):
    return f'#include "base/a.h"\n\n{head}\n{{\n{body}}}\n'


class TidyFinds(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def complaints(self, files):
        root = Path(self.folder.name)
        for name, text in {**SOUND, **files}.items():
            if text is not None:
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        return tidy.check(root)

    def expect(self, files, start, *parts):
        """Exactly one complaint, that starts with this place and holds these parts."""
        found = self.complaints(files)
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(start), found)
        for part in parts:
            self.assertIn(part, found[0])

    def accept(self, files):
        self.assertEqual(self.complaints(files), [])

    def test_nothing_in_a_sound_tree(self):
        self.accept({})

    def test_a_function_of_71_lines(self):
        body = '    x++;\n' * 68
        self.expect({'src/base/a.c': function(body)}, 'src/base/a.c:3:', 'limit 70', 'found 71')

    def test_not_a_function_of_70_lines(self):
        self.accept({'src/base/a.c': function('    x++;\n' * 67)})

    def test_a_file_of_801_lines(self):
        text = '#include "base/a.h"\n' + 'int f(void);\n' * 800
        self.expect({'src/base/a.c': text}, 'src/base/a.c:801:', 'limit 800', 'found 801')

    def test_seven_parameters(self):
        head = 'int f(int a, int b, int c, int d, int e, int g, int h)'
        self.expect({'src/base/a.c': function('    return a;\n', head)}, 'src/base/a.c:3:',
                    'limit 6', 'found 7')

    def test_seven_parameters_of_a_prototype(self):
        text = COMMENT + 'int f(int a, int b, int c,\n      int d, int e, int g, int h);\n'
        self.expect({'src/base/a.h': text}, 'src/base/a.h:2:', 'f()', 'found 7')

    def test_seven_parameters_of_a_function_pointer(self):
        text = COMMENT + 'struct s {\n    int (*f)(int, int, int, int, int, int, int);\n};\n'
        self.expect({'src/base/a.h': text}, 'src/base/a.h:3:', 'function pointer', 'found 7')

    def test_not_six_parameters_one_of_them_a_function(self):
        head = 'int f(int a, int (*b)(int, int), int c, int d, int e, int g)'
        self.accept({'src/base/a.c': function('    return a;\n', head)})

    def test_not_calls_with_many_arguments(self):
        self.accept({'src/base/a.c': function('    return g(1, 2, 3, 4, 5, 6, 7, 8);\n')})

    def test_nesting_of_five(self):
        body = '    if (x) {\n        for (;;) {\n            while (x) {\n' \
               '                switch (x) {\n                case 1:\n' \
               '                    if (x) {\n                        x--;\n' \
               '                    }\n                }\n            }\n        }\n    }\n'
        self.expect({'src/base/a.c': function(body)}, 'src/base/a.c:10:', 'nesting in f()',
                    'limit 4', 'found 5')

    def test_nesting_of_five_without_braces_and_through_a_loop_macro(self):
        body = '    if (x)\n        for (;;)\n            do\n                while (x)\n' \
               '                    if (x)\n                        x--;\n            while (x);\n'
        self.expect({'src/base/a.c': function(body)}, 'src/base/a.c:10:', 'found 5')

    def test_nesting_of_five_through_a_loop_macro(self):
        body = '    LIST_EACH (a, b) {\n' * 5 + '    x++;\n' + '    }\n' * 5
        self.expect({'src/base/a.c': function(body)}, 'src/base/a.c:9:', 'found 5')

    def test_not_a_long_chain_of_else_if(self):
        body = '    if (x == 0) {\n        x = 1;\n    }' + \
               ' else if (x == 1) {\n        x = 2;\n    }' * 8 + ' else {\n        x = 3;\n    }\n'
        self.accept({'src/base/a.c': function(body + '    return (struct s){.a = {1, {2}}}.a;\n')})

    def test_a_line_of_101_columns(self):
        self.expect({'src/base/a.c': function('    /* ' + 'x' * 94 + ' */\n')[:-1] + '\n'},
                    'src/base/a.c:5:', 'columns, limit 100', 'found 104')

    def test_a_tab(self):
        self.expect({'src/base/a.c': function('\tx++;\n')}, 'src/base/a.c:5:', 'tabs')

    def test_a_trailing_blank(self):
        self.expect({'src/base/a.c': function('    x++; \n')}, 'src/base/a.c:5:', 'trailing blanks')

    def test_an_include_upward(self):
        files = {'src/base/a.c': '#include "base/a.h"\n#include "http/b.h"\n',
                 'src/http/b.h': COMMENT}
        self.expect(files, 'src/base/a.c:2:', 'include direction, limit base', 'found http/b.h')

    def test_an_include_that_does_not_name_its_folder(self):
        self.expect({'src/base/a.c': '#include "base/a.h"\n#include "a.h"\n'}, 'src/base/a.c:2:',
                    'found a.h')

    def test_not_a_test_that_includes_upward(self):
        self.accept({'src/base/a_test.c': '#include "http/b.h"\n', 'src/http/b.h': COMMENT})

    def test_every_banned_function(self):
        for name in tidy.BANNED:
            with self.subTest(name):
                self.expect({'src/base/a.c': function(f'    {name} (x);\n')}, 'src/base/a.c:5:',
                            'banned function', f'found {name}')

    def test_not_names_that_contain_a_banned_one(self):
        body = '    prng_rand(x);\n    x.system(1);\n    x->system(1);\n    vsnprintf(x);\n' \
               '    /* atoi(x) */\n    puts("gets(x)");\n'
        self.accept({'src/base/a.c': function(body)})

    def test_a_header_that_only_its_own_files_include(self):
        files = {'src/io/b.h': COMMENT, 'src/io/b.c': '#include "io/b.h"\n',
                 'src/io/b_test.c': '#include "io/b.h"\n'}
        self.expect(files, 'src/io/b.h:1:', 'dead file')

    def test_a_table_that_nobody_includes(self):
        self.expect({'src/io/b.def': COMMENT}, 'src/io/b.def:1:', 'dead file')

    def test_a_source_that_serves_no_header_of_its_folder(self):
        self.expect({'src/io/b.c': '#include "base/a.h"\n'}, 'src/io/b.c:1:', 'dead file')

    def test_a_header_without_an_opening_comment(self):
        self.expect({'src/base/a.h': '#ifndef A\n#define A\n#endif\n'}, 'src/base/a.h:1:',
                    'opening comment', 'found 0')

    def test_unfinished_business(self):
        for word in ('TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X'):
            self.expect({'src/base/a.c': function(f'    x++; /* {word} later */\n')},
                        'src/base/a.c:5:', 'unfinished business', f'found {word}')

    def test_pragma_once(self):
        self.expect({'src/base/a.h': COMMENT + '#pragma once\n'}, 'src/base/a.h:2:', '#pragma once')

    def test_a_goto_that_leads_back(self):
        body = 'again:\n    x--;\n    if (x)\n        goto again;\n'
        self.expect({'src/base/a.c': function(body)}, 'src/base/a.c:8:', 'goto', 'back to again')

    def test_not_a_goto_that_leads_forward(self):
        body = '    if (x)\n        goto out;\n    x--;\nout:\n    return x ? x : 1;\n'
        self.accept({'src/base/a.c': function(body)})

    def test_unbalanced_brackets(self):
        self.expect({'src/base/a.c': '#include "base/a.h"\nint f(void)\n{\n'}, 'src/base/a.c:1:',
                    'brackets')

    def test_mutable_globals_in_the_release_build(self):
        source = '#include "base/a.h"\nstatic int total;\nint shown = 1;\n' \
                 'static _Thread_local int mine;\nstatic const int fixed = 3;\n' \
                 'int count(void);\nint count(void)\n{\n    static int calls;\n' \
                 '    return fixed + total++ + mine++ + calls++;\n}\n' \
                 'int other;\nstatic const char *const names[] = {"a", "b"};\n' \
                 'const char *name(int i);\nconst char *name(int i)\n{\n    return names[i];\n}\n'
        self.complaints({'src/base/a.c': source})
        root = Path(self.folder.name)
        build = root / 'build/release'
        build.mkdir(parents=True)
        subprocess.run(['gcc', '-fPIC', '-I', root / 'src', '-c', root / 'src/base/a.c', '-o',
                        build / 'a.c.o'], check=True)
        subprocess.run(['ar', 'rc', build / 'libsentinel_base.a', build / 'a.c.o'], check=True)
        found = sorted(tidy.check(root))
        self.assertEqual(len(found), 5, found)
        for line, symbol in ((2, 'total'), (3, 'shown'), (4, 'mine'), (9, 'calls'), (12, 'other')):
            text = f'src/base/a.c:{line}: mutable global, limit 0, found {symbol}'
            self.assertTrue(any(complaint.startswith(text) for complaint in found), (text, found))


if __name__ == '__main__':
    unittest.main()
