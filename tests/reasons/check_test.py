"""The reason check itself: that it finds what it is there to find. Run by the check's ctest."""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
LABELS = [f'reason_{chr(97 + i // 26)}{chr(97 + i % 26)}' for i in range(50)]
TIMER = 'server.timeouts.linger'
KEYS = [{'key': TIMER, 'block': 'server.timeouts', 'type': 'duration'},
        {'key': 'server.workers', 'block': 'server', 'type': 'integer'},
        {'key': 'listener.name', 'block': 'listener', 'type': 'name'}]
GOOD = 'def test_a(sentinel):\n    proxy = sentinel()\n'
GOOD += ''.join(f"    assert proxy.logged('{label}')\n" for label in LABELS)


class Check(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.keys = list(KEYS)
        self.rows = [f'| `{label}` | 400 | a text | A hint. |  | `http_request_error` |'
                     for label in LABELS]
        self.rows[0] = self.rows[0].replace('|  |', f'| `{TIMER}` |')
        self.lines = [f'reason {label} test_x.py:test_a' for label in LABELS]
        self.lines.append(f'key {TIMER} {LABELS[0]} test_x.py:test_a')
        self.page = None

    def run_check(self, source=GOOD):
        folder = self.folder
        printed = '\n'.join(self.rows) + '\n'
        (folder / 'test_x.py').write_text(source)
        (folder / 'reasons.txt').write_text('\n'.join(self.lines) + '\n')
        (folder / 'config-schema').write_text(json.dumps({'keys': self.keys}))
        (folder / 'error-reference').write_text(printed)
        (folder / 'errors.md').write_text(self.page or printed)
        fake = folder / 'sentinel'
        fake.write_text(f'#!/bin/sh\nexec cat "{folder}/$1"\n')
        fake.chmod(0o755)
        return subprocess.run([sys.executable, HERE / 'check.py', fake, folder / 'reasons.txt',
                               folder, folder / 'errors.md'],
                              capture_output=True, text=True, timeout=60)

    def assert_violation(self, done, text):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(text, done.stdout)

    def test_a_complete_list_passes(self):
        done = self.run_check()
        self.assertEqual((done.returncode, done.stdout), (0, '50 reasons, 0 violations\n'))

    def test_a_reason_without_a_scenario_is_found(self):
        del self.lines[1]
        self.assert_violation(self.run_check(), f'{LABELS[1]}: no scenario shows it')

    def test_a_timer_without_a_scenario_is_found(self):
        del self.lines[-1]
        self.assert_violation(self.run_check(), f'{TIMER}: no scenario lets it strike')

    def test_a_line_for_no_reason_and_no_key_is_found(self):
        self.lines += ['reason no_such test_x.py:test_a',
                       'key server.timeouts.no - test_x.py:test_a',
                       'key server.workers - test_x.py:test_a']
        done = self.run_check()
        self.assert_violation(done, 'no_such: there is no reason no_such')
        self.assert_violation(done, 'server.timeouts.no: there is no such timer or limit')
        self.assert_violation(done, 'server.workers: there is no such timer or limit')

    def test_a_scenario_that_does_not_exist_is_found(self):
        self.lines[0] = f'reason {LABELS[0]} test_x.py:test_b'
        self.lines[1] = f'reason {LABELS[1]} test_y.py:test_a'
        done = self.run_check()
        self.assert_violation(done, f'{LABELS[0]}: test_x.py has no test_b')
        self.assert_violation(done, f'{LABELS[1]}: there is no test_y.py')

    def test_a_scenario_that_never_names_the_reason_is_found(self):
        self.assert_violation(self.run_check(GOOD.replace(LABELS[3], 'else')),
                              f'{LABELS[3]}: test_a never names {LABELS[3]}')

    def test_a_scenario_that_looks_at_the_answer_only_is_found(self):
        self.assert_violation(self.run_check(GOOD.replace('logged', 'answered')),
                              'test_a looks at no record and no metric')

    def test_a_helper_of_the_same_file_may_look(self):
        source = GOOD.replace('proxy.logged', 'see') + 'def see(label):\n    proxy.logged(label)\n'
        self.assertEqual(self.run_check(source).returncode, 0)

    def test_a_skipped_scenario_is_found(self):
        self.assert_violation(self.run_check('@pytest.mark.skip\n' + GOOD),
                              'test_a does not always run')

    def test_a_silent_timer_needs_an_assertion_all_the_same(self):
        self.lines[-1] = f'key {TIMER} - test_x.py:test_a'
        self.assertEqual(self.run_check().returncode, 0)
        self.lines[-1] = f'key {TIMER} - test_x.py:test_b'
        self.assert_violation(self.run_check(GOOD + 'def test_b():\n    pass\n'),
                              f'{TIMER}: test_b asserts nothing')

    def test_a_key_that_the_row_does_not_name_is_found(self):
        self.lines[-1] = f'key {TIMER} {LABELS[1]} test_x.py:test_a'
        self.assert_violation(self.run_check(),
                              f'{TIMER}: error.def does not name it as a key of {LABELS[1]}')

    def test_a_row_that_names_no_key_is_found(self):
        self.rows[2] = self.rows[2].replace('|  |', '| `server.linger` |')
        self.assert_violation(self.run_check(),
                              f'{LABELS[2]}: error.def names server.linger, which is no key')

    def test_a_stale_page_is_found(self):
        self.page = 'yesterday\n'
        self.assert_violation(self.run_check(), 'docs/errors.md is stale')

    def test_a_malformed_or_repeated_line_is_found(self):
        self.lines += ['reason', self.lines[1]]
        done = self.run_check()
        self.assert_violation(done, 'line 52 is neither')
        self.assert_violation(done, 'a line stands twice')


if __name__ == '__main__':
    unittest.main()
