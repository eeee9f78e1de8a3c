"""The effect check itself: that it finds what it is there to find. Run by the check's ctest."""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEYS = [{'key': 'server.workers', 'block': 'server', 'name': 'workers', 'form': 'child'}]
KEYS += [{'key': f'b.k{i}', 'block': 'b', 'name': f'k{i}', 'form': 'child'} for i in range(60)]
GOOD = "def test_a(sentinel):\n    text = 'workers " + ' '.join(f'k{i}' for i in range(60))
GOOD += "'\n    assert text\n"


class Check(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.effects = [f'{key["key"]} test_x.py:test_a' for key in KEYS]

    def run_check(self, source=GOOD):
        folder = Path(self.folder.name)
        (folder / 'test_x.py').write_text(source)
        (folder / 'effects.txt').write_text('\n'.join(self.effects) + '\n')
        (folder / 'schema.json').write_text(json.dumps({'keys': KEYS}))
        fake = folder / 'sentinel'
        fake.write_text(f'#!/bin/sh\nexec cat {folder}/schema.json\n')
        fake.chmod(0o755)
        return subprocess.run([sys.executable, HERE / 'check.py', fake, folder / 'effects.txt',
                               folder], capture_output=True, text=True, timeout=60)

    def assert_violation(self, done, text):
        self.assertEqual(done.returncode, 1)
        self.assertIn(text, done.stdout)

    def test_a_complete_list_passes(self):
        done = self.run_check()
        self.assertEqual((done.returncode, done.stdout), (0, '61 keys, 0 violations\n'))

    def test_a_key_without_a_line_is_found(self):
        del self.effects[0]
        self.assert_violation(self.run_check(), 'server.workers: no test proves its effect')

    def test_a_line_for_no_key_is_found(self):
        self.effects.append('server.wrokers test_x.py:test_a')
        self.assert_violation(self.run_check(), 'server.wrokers: there is no such key')

    def test_a_test_that_does_not_exist_is_found(self):
        self.effects[0] = 'server.workers test_x.py:test_b'
        self.assert_violation(self.run_check(), 'server.workers: test_x.py has no test_b')

    def test_a_file_that_does_not_exist_is_found(self):
        self.effects[0] = 'server.workers test_y.py:test_b'
        self.assert_violation(self.run_check(), 'server.workers: there is no test_y.py')

    def test_a_test_that_never_speaks_of_the_key_is_found(self):
        self.assert_violation(self.run_check(GOOD.replace('workers', 'walkers')),
                              'server.workers: test_x.py never writes `workers`')

    def test_a_skipped_test_is_found(self):
        self.assert_violation(self.run_check('@pytest.mark.skip\n' + GOOD),
                              'server.workers: test_a does not always run')

    def test_a_test_without_assertion_is_found(self):
        self.assert_violation(self.run_check(GOOD.replace('assert text', 'print(text)')),
                              'server.workers: test_a asserts nothing')

    def test_a_malformed_or_repeated_line_is_found(self):
        self.effects += ['server.workers', self.effects[1]]
        done = self.run_check()
        self.assert_violation(done, 'line 62 is not `KEY FILE:TEST`')
        self.assert_violation(done, 'line 63: b.k0 has two lines')


if __name__ == '__main__':
    unittest.main()
