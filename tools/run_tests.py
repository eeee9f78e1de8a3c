#!/usr/bin/python3
"""Build and run every suite, count single cases, and end with one line: `N passed, N failed`.

    tools/run_tests.py [--only SUITE,...] [--seeds N] [--first-seed N] [--fuzz-seconds N]
                       [--sweep-seeds N] [--sweep-points N] [--no-build]

Suites: tidy, unit, fuzz, sim, conformance, blackbox. Cheap suites share the processors; black-box
scenarios, which look at clocks, run after them, each file in a process. Everything that was
printed by a failed case goes to build/test-logs. Standard library only.
"""
import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASAN = ROOT / 'build/asan'
FUZZ = ROOT / 'build/fuzz'
LOGS = ROOT / 'build/test-logs'
SIM = ASAN / 'tests/sim/sim'
BLACKBOX = ROOT / 'tests/blackbox'
TIMED = re.compile(r'test_(attack_\w+|kills|neighbours|timeouts)$')
CORPORA = ROOT / 'tests/corpus'
PYTHON = '/usr/bin/python3'

JOBS = os.cpu_count() or 1
UNIT_SECONDS = 180
SIM_SECONDS = 600
BLACKBOX_SECONDS = 420
SKIPPED = 77  # the exit status of a program of ctest that lacks its data
FUZZ_GRACE_SECONDS = 120
REPORT_LINES = 60
SLOWEST_SHOWN = 5

COUNTS = re.compile(r'(?:^|\s)(\d+) passed, (\d+) failed\s*$', re.M)
CMOCKA_CASE = re.compile(r'^\[ +(OK|FAILED|SKIPPED) +\] (?!tests?:|\d+ test)(\S+)', re.M)
CMOCKA_PLAN = re.compile(r'^\[=+\] Running (\d+) test\(s\)', re.M)


class Result:
    """What one program, or one file of scenarios, contributed."""

    def __init__(self, suite, name, passed=0, failed=(), skipped=0, output='', seconds=0.0):
        self.suite = suite
        self.name = name
        self.passed = passed
        self.failed = list(failed)
        self.skipped = skipped
        self.output = output
        self.seconds = seconds

    def show(self):
        parts = [f'{self.passed} passed']
        parts += [f'{len(self.failed)} FAILED'] if self.failed else []
        parts += [f'{self.skipped} skipped'] if self.skipped else []
        if self.skipped and not self.passed + len(self.failed):
            parts = [self.output.strip() or 'skipped']  # a program that says why
        print(f'{self.suite:<12} {self.name:<32} {", ".join(parts)} ({self.seconds:.1f} s)')
        if not self.failed:
            return
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f'{self.suite}-{self.name}.log'
        log.write_text(self.output)
        lines = self.output.rstrip().split('\n')
        if len(lines) > REPORT_LINES:
            print(f'    ... all of it in {log.relative_to(ROOT)}')
        print('\n'.join(f'    {line}' for line in lines[-REPORT_LINES:]))
        for case in self.failed:
            print(f'    FAILED {self.suite} {self.name}: {case}')


def environment():
    values = dict(os.environ)
    values.setdefault('ASAN_OPTIONS', 'detect_leaks=1:strict_string_checks=1')
    values.setdefault('UBSAN_OPTIONS', 'print_stacktrace=1')
    values['CMOCKA_MESSAGE_OUTPUT'] = 'STDOUT'
    values['SENTINEL_BINARY'] = values.get('SENTINEL_BINARY', str(ASAN / 'sentinel'))
    return values


RUNNING = set()  # process groups: whatever a case started belongs to its group


def give_up(number, _):
    for group in tuple(RUNNING):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    os._exit(128 + number)


def execute(command, seconds, cwd=ROOT):
    """(exit status, everything printed, seconds); the status is None after a timeout."""
    start = time.monotonic()
    if not os.access(command[0], os.X_OK):
        return 127, f'{command[0]} is not there\n', 0.0
    with subprocess.Popen([str(word) for word in command], cwd=cwd, env=environment(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        RUNNING.add(process.pid)
        try:
            output, _ = process.communicate(timeout=seconds)
            status = process.returncode
        except subprocess.TimeoutExpired:
            # Its children, too: one that lives on would hold the pipe, and us.
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f'\nkilled after {seconds} s\n'.encode()
            status = None
        RUNNING.discard(process.pid)
    return status, output.decode('utf-8', 'replace'), time.monotonic() - start


def build(flavour):
    status, output, seconds = execute([ROOT / 'tools/build', flavour], 1800)
    print(f'{"build":<12} {flavour:<32} {"ok" if status == 0 else "FAILED"} ({seconds:.1f} s)',
          flush=True)
    if status != 0:
        print(output[-8000:])
    return status == 0


def broken(suite, name, status, output, seconds, passed=0):
    """A program that failed without naming a case."""
    why = 'timed out' if status is None else f'ended with status {status}'
    return Result(suite, name, passed, [why], output=output, seconds=seconds)


def run_tidy_test():
    status, output, seconds = execute([PYTHON, ROOT / 'tools/tidy_test.py', '-v'], UNIT_SECONDS)
    passed = len(re.findall(r'^test_\w+ .*ok$', output, re.M))
    failed = re.findall(r'^(?:FAIL|ERROR): (\S+)', output, re.M)
    if (status != 0 and not failed) or (status == 0 and not passed):
        return broken('tidy', 'tidy_test', status, output, seconds)
    return Result('tidy', 'tidy_test', passed, failed, output=output, seconds=seconds)


def run_program(suite, name, command, folder):
    """A program of ctest: cmocka's cases, or a closing `N passed, N failed`, or one case."""
    status, output, seconds = execute(command, UNIT_SECONDS, folder)
    if status == SKIPPED:
        return Result(suite, name, skipped=1, output=output, seconds=seconds)
    cases = CMOCKA_CASE.findall(output)
    plan = sum(int(count) for count in CMOCKA_PLAN.findall(output))
    passed = sum(kind == 'OK' for kind, _ in cases)
    skipped = sum(kind == 'SKIPPED' for kind, _ in cases)
    failed = sorted({case for kind, case in cases if kind == 'FAILED'})
    counts = COUNTS.findall(output)
    if not plan and counts:
        passed, failed = int(counts[-1][0]), ['see above'] * int(counts[-1][1])
    elif not plan:
        passed = int(status == 0)
    elif status == 0 and passed + skipped < plan:
        failed.append(f'{plan - passed - skipped} of {plan} cases did not report')
    if status != 0 and not failed:
        return broken(suite, name, status, output, seconds, passed)
    return Result(suite, name, passed, failed, skipped, output, seconds)


def program_jobs(chosen):
    """The programs that CMake registered as tests: units, and conformance by their names."""
    listing = subprocess.run(['ctest', '--show-only=json-v1'], cwd=ASAN, capture_output=True,
                             check=True).stdout
    for test in json.loads(listing)['tests']:
        name, command = test['name'], test.get('command')
        suite = 'conformance' if 'conformance' in name else 'unit'
        if suite not in chosen or name == SIM.name:
            continue
        if command is None:
            yield lambda suite=suite, name=name: Result(suite, name, 0, ['was not built'])
        else:
            properties = {entry['name']: entry['value'] for entry in test.get('properties', [])}
            folder = properties.get('WORKING_DIRECTORY', str(ASAN))
            yield lambda suite=suite, name=name, words=command, cwd=folder: run_program(
                suite, name, words, cwd)


def run_fuzzer(program, seconds):
    name = program.name
    subject = name.removesuffix('_fuzz')
    found = FUZZ / 'corpus' / subject
    found.mkdir(parents=True, exist_ok=True)
    corpora = [found, *(path for path in [CORPORA / subject] if path.is_dir())]
    dictionary = CORPORA / f'{subject}.dict'
    command = [program, f'-max_total_time={seconds}', '-timeout=10', '-rss_limit_mb=2048',
               '-max_len=65536', '-print_final_stats=1', f'-artifact_prefix={FUZZ}/{name}-']
    command += [f'-dict={dictionary}'] if dictionary.exists() else []
    status, output, spent = execute(command + corpora, seconds + FUZZ_GRACE_SECONDS)
    if status != 0:
        artifact = re.search(r'Test unit written to (\S+)', output)
        if artifact:
            output += f'\nreplay: {program.relative_to(ROOT)} {artifact[1]}\n'
        return broken('fuzz', name, status, output, spent)
    runs = re.search(r'number_of_executed_units: (\d+)', output)
    return Result('fuzz', f'{name} ({runs[1] if runs else "?"} runs)', 1, output=output,
                  seconds=spent)


def fuzz_jobs(total_seconds):
    programs = sorted(path for path in FUZZ.glob('*_fuzz') if os.access(path, os.X_OK))
    share = 6 if total_seconds is None else max(1, total_seconds * JOBS // max(1, len(programs)))
    for program in programs:
        yield lambda program=program: run_fuzzer(program, share)


def run_sim(first, seeds, points=None):
    """Seeds as they are or, with points, each with so many of its calls failing, one at a time."""
    command = [SIM, '--seeds', seeds, '--first', first]
    name = f'seeds {first}..{first + seeds - 1}'
    if points is not None:
        command += ['--sweep', points, '--jobs', 1]
        name = f'faults in {name}'
    status, output, seconds = execute(command, SIM_SECONDS)
    counts = COUNTS.findall(output)
    if status is None or not counts:
        return broken('sim', name, status, output, seconds)
    passed, failed = (int(count) for count in counts[-1])
    if (status == 0) != (failed == 0) or passed + failed == 0:
        return broken('sim', name, status, output, seconds, passed)
    return Result('sim', name, passed, ['a seed, see above'] * failed, output=output,
                  seconds=seconds)


def sim_jobs(first, seeds):
    share = -(-seeds // JOBS)
    for start in range(first, first + seeds, share):
        count = min(share, first + seeds - start)
        yield lambda start=start, count=count: run_sim(start, count)


def sweep_jobs(first, seeds, points):
    share = max(1, -(-seeds // (4 * JOBS)))
    for start in range(first, first + seeds, share):
        count = min(share, first + seeds - start)
        yield lambda start=start, count=count: run_sim(start, count, points)


def run_scenarios(path):
    report = LOGS / f'{path.stem}.xml'
    LOGS.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    # Its own folder: pytest's usual one is shared, and each start of pytest closes it to others.
    with tempfile.TemporaryDirectory(prefix='sentinel-test-', ignore_cleanup_errors=True) as folder:
        command = [PYTHON, '-m', 'pytest', '-q', '--tb=short', '-p', 'no:cacheprovider',
                   f'--basetemp={folder}/t', f'--junitxml={report}', path]
        status, output, seconds = execute(command, BLACKBOX_SECONDS, BLACKBOX)
    if status not in (0, 1) or not report.exists():
        return broken('blackbox', path.stem, status, output, seconds)
    passed, failed, skipped = 0, [], 0
    for case in xml.parse(report).iter('testcase'):
        if case.find('failure') is not None or case.find('error') is not None:
            failed.append(case.get('name'))
        elif case.find('skipped') is not None:
            skipped += 1
        else:
            passed += 1
    return Result('blackbox', path.stem, passed, failed, skipped, output, seconds)


def blackbox_jobs(timed):
    """The files of scenarios that measure latencies (timed), or all others."""
    for path in sorted(BLACKBOX.glob('test_*.py')):
        if bool(TIMED.match(path.stem)) == timed:
            yield lambda path=path: run_scenarios(path)


def run_all(jobs, at_a_time=JOBS):
    """Run jobs side by side, show each result as it comes."""
    results = []
    with ThreadPoolExecutor(at_a_time) as pool:
        for future in [pool.submit(job) for job in jobs]:
            results.append(future.result())
            results[-1].show()
            sys.stdout.flush()
    return results


def main():
    suites = ('tidy', 'unit', 'fuzz', 'sim', 'conformance', 'blackbox')
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', default=','.join(suites), help='suites, separated by commas')
    parser.add_argument('--seeds', type=int, default=700)
    parser.add_argument('--first-seed', type=int, default=1)
    parser.add_argument('--sweep-seeds', type=int, default=54,
                        help='seeds in which allocations and calls fail in turn')
    parser.add_argument('--sweep-points', type=int, default=20,
                        help='of each of these seeds; 0: every one')
    parser.add_argument('--fuzz-seconds', type=int, help='for all fuzzers together')
    parser.add_argument('--no-build', action='store_true', help='take the programs as they are')
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, give_up)
    start = time.monotonic()
    chosen = options.only.split(',')
    unknown = set(chosen) - set(suites)
    if unknown:
        parser.error(f'no such suite: {", ".join(sorted(unknown))}')
    flavours = [flavour for flavour, users in (('asan', set(suites) - {'tidy', 'fuzz'}),
                                               ('fuzz', {'fuzz'})) if users & set(chosen)]
    unbuilt = [] if options.no_build else [name for name in flavours if not build(name)]
    results = [Result('build', name, 0, ['does not build']) for name in unbuilt]
    jobs = [run_tidy_test] if 'tidy' in chosen else []
    if 'asan' not in unbuilt:
        if 'sim' in chosen:
            jobs += sim_jobs(options.first_seed, options.seeds)
            jobs += sweep_jobs(options.first_seed, options.sweep_seeds, options.sweep_points)
        jobs += program_jobs(chosen)
    if 'fuzz' in chosen and 'fuzz' not in unbuilt:
        jobs += fuzz_jobs(options.fuzz_seconds)
    results += run_all(jobs)
    if 'blackbox' in chosen and 'asan' not in unbuilt:
        results += run_all(blackbox_jobs(timed=True))
        results += run_all(blackbox_jobs(timed=False), JOBS + 1)  # a third of their time is waiting
    if results:
        show_times(results, time.monotonic() - start)
    return conclude(results)


def show_times(results, wall):
    """Where the time went: each suite's, with what ran at the same time added up, and the worst."""
    print(f'\n{"suite":<12} {"passed":>7} {"failed":>7} {"seconds":>8}')
    for suite in dict.fromkeys(result.suite for result in results):
        own = [result for result in results if result.suite == suite]
        print(f'{suite:<12} {sum(result.passed for result in own):>7} '
              f'{sum(len(result.failed) for result in own):>7} '
              f'{sum(result.seconds for result in own):>8.1f}')
    slowest = sorted(results, key=lambda result: -result.seconds)[:SLOWEST_SHOWN]
    print('slowest: ' + ', '.join(f'{result.suite} {result.name} {result.seconds:.0f} s'
                                  for result in slowest))
    print(f'{wall:.0f} s in all, on {JOBS} processors')


def conclude(results):
    passed = sum(result.passed for result in results)
    failed = [(result, case) for result in results for case in result.failed]
    if failed:
        print('\nfailed:')
        for result, case in failed:
            print(f'  {result.suite} {result.name}: {case}')
    print(f'{passed} passed, {len(failed)} failed')
    return 1 if failed or not passed else 0


if __name__ == '__main__':
    sys.exit(main())
