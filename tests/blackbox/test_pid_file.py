"""The pid file: one instance for each, told by key or option, gone with its process."""
import fcntl
import signal
import subprocess

import pytest

from harness.proxy import Plan, binary, environment
from harness.waiting import free_ports, wait_for


def held(path, process):
    return path.exists() and path.read_text() == f'{process.pid}\n'


@pytest.fixture
def start(tmp_path, echo):
    """start(server lines, WORDS...): a `sentinel run` on ports of its own; said() is its stderr."""
    started = []

    def run(server='', *words, **who):
        config = tmp_path / f'{len(started)}.kdl'
        text = Plan([echo], server=server).render(tmp_path, *free_ports(2))
        config.write_text(text if server else text.replace('pid-file', '// pid-file'))
        errors = open(tmp_path / f'{len(started)}.stderr', 'w+')
        process = subprocess.Popen([binary(), 'run', '--config', str(config),
                                    '--control-socket', 'off', *words],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=errors, env=environment(), **who)
        process.said = lambda: (tmp_path / errors.name).read_text()
        process.config = config
        started.append((process, errors))
        return process

    yield run
    for process, errors in started:
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        errors.close()


def ready(process):
    wait_for(lambda: 'ready: ' in process.said() or process.poll() is not None, 20, 'readiness')
    assert process.poll() is None, process.said()


def test_the_pid_file_names_the_supervisor_and_goes_with_it(start, tmp_path):
    path = tmp_path / 'one.pid'
    process = start(f'pid-file "{path}"')
    ready(process)
    assert held(path, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not path.exists()


def test_a_second_instance_with_the_same_file_is_refused(start, tmp_path):
    path = tmp_path / 'one.pid'
    first = start(f'pid-file "{path}"')
    ready(first)
    second = start('', '--pid-file', str(path))
    assert second.wait(20) == 1
    assert f'error sentinel[{second.pid}] pid-file {path}: another instance holds it, ' \
        f'process {first.pid}' in second.said()
    third = start(f'pid-file "{path}"')
    assert third.wait(20) == 1
    assert f'process {first.pid} ({third.config}:' in third.said()
    assert first.poll() is None and held(path, first)


def test_a_file_that_a_killed_instance_left_is_taken_over(start, tmp_path):
    path = tmp_path / 'one.pid'
    first = start(f'pid-file "{path}"')
    ready(first)
    first.kill()
    first.wait(10)
    assert held(path, first)
    second = start(f'pid-file "{path}"')
    ready(second)
    assert held(path, second)


def test_a_reader_that_locks_a_left_file_keeps_nobody_from_starting(start, tmp_path):
    path = tmp_path / 'one.pid'
    path.write_text('1\n')
    with open(path) as reader:
        fcntl.lockf(reader, fcntl.LOCK_SH)
        process = start(f'pid-file "{path}"')
        ready(process)
        assert held(path, process)


def test_the_option_overrides_the_key(start, tmp_path):
    written, given = tmp_path / 'written.pid', tmp_path / 'given.pid'
    process = start(f'pid-file "{written}"', f'--pid-file={given}')
    ready(process)
    assert held(given, process) and not written.exists()
    process = start(f'pid-file "{written}"', '--pid-file', 'off')
    ready(process)
    assert not written.exists()


@pytest.mark.parametrize('server,words', [('pid-file "{path}"', []),
                                          ('', ['--pid-file', '{path}'])])
def test_a_file_that_was_asked_for_and_cannot_be_is_an_error(start, tmp_path, server, words):
    path = tmp_path / 'no-such-folder' / 'x.pid'
    process = start(server.format(path=path), *(word.format(path=path) for word in words))
    assert process.wait(20) == 1
    assert f'error sentinel[{process.pid}] pid-file {path}: No such file or directory' \
        in process.said()
    assert ('(' + str(process.config) in process.said()) == bool(server)
    assert ('(--pid-file)' in process.said()) == bool(words)
    assert 'make its folder' in process.said()


def test_precious_files_are_left_alone(start, tmp_path):
    path = tmp_path / 'precious'
    path.write_text('precious\n')
    process = start(f'pid-file "{path}"')
    assert process.wait(20) == 1
    assert 'it is no pid file; it was left alone' in process.said()
    assert path.read_text() == 'precious\n'


def test_a_default_that_cannot_be_written_is_one_warning(start, unprivileged):
    process = start(**unprivileged)
    ready(process)
    assert process.said().count('warning') == 1, process.said()
    assert f'warning sentinel[{process.pid}] pid-file /var/run/sentinel.pid: Permission denied' \
        in process.said()
