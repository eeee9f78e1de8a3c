"""The program from the outside: help, check, examples, refusals and exit codes."""
import json
import os
import re
import subprocess
import threading

import pytest

from harness.origins import EchoOrigin
from harness.proxy import binary, command, environment
from harness.waiting import free_ports, wait_for
from harness.wire import connect, request_bytes

PROMISED = '''// sentinel.kdl
server {
    workers 4
    max-connections 10000
    graceful-shutdown-timeout 30s
}

listener "http" {
    address "0.0.0.0:8080"
    protocol "http"
}

upstream "backend" {
    target "10.0.1.10:8080" weight=1
    target "10.0.1.11:8080" weight=1

    health-check {
        type "http" path="/health"
        interval 10s
        timeout 5s
    }

    load-balancing "round_robin"
}

route "api" {
    match path-prefix="/api"
    upstream "backend"

    policies {
        timeout 30s
        retry-policy {
            max-attempts 3
            timeout 10s
        }
        failure-mode "closed"  // Security-first
    }
}
'''

WAF = '''
waf {
    engine "modsecurity"
    ruleset {
        crs-version "3.3.4"
        paranoia-level 1
        anomaly-threshold 5
    }
    mode "prevention"  // or "detection"
    audit-log true
}
'''


@pytest.fixture
def check(tmp_path):
    """check(TEXT): `sentinel check` of a file with this text."""
    def run(text, name='sentinel.kdl', **extra):
        path = tmp_path / name
        path.write_text(text)
        return command('check', '--config', path, **extra)
    return run


def test_help_names_every_command():
    done = command('--help')
    assert done.returncode == 0
    for word in ('run', 'check', 'config-example', 'config-schema', '--config', '--version'):
        assert word in done.stdout, word
    assert all(len(line) <= 100 for line in done.stdout.split('\n'))


def test_version_is_one_line():
    done = command('--version')
    assert done.returncode == 0
    assert re.fullmatch(r'sentinel \d+\.\d+\.\d+.*\n', done.stdout)


@pytest.mark.parametrize('words', [[], ['nonsense'], ['run', '--nonsense'], ['check', 'a', 'b'],
                                   ['run', '--config']])
def test_wrong_usage_is_2_and_says_so(words):
    done = command(*words)
    assert done.returncode == 2
    assert done.stderr and 'Sanitizer' not in done.stderr


def test_the_promised_sample_loads_exactly_as_written(check):
    done = check(PROMISED)
    assert done.returncode == 0, done.stderr
    assert 'error' not in done.stderr


def test_the_waf_block_is_validated_and_then_refused(check):
    done = check(PROMISED + WAF)
    assert done.returncode == 1
    assert re.search(r'no WAF agent in this build', done.stderr)
    assert done.stderr.count('error:') == 1
    done = check(PROMISED + WAF.replace('paranoia-level 1', 'paranoia-level 9'))
    assert done.returncode == 1
    assert re.search(r':\d+:\d+: error: .*paranoia-level', done.stderr)


def test_the_example_loads(check):
    done = command('config-example')
    assert done.returncode == 0
    assert check(done.stdout).returncode == 0


def test_the_schema_is_json_and_names_the_keys():
    done = command('config-schema')
    assert done.returncode == 0
    json.loads(done.stdout)
    for key in ('max-connections', 'request-head', 'trusted-proxies', 'max-body-size'):
        assert f'"{key}"' in done.stdout, key


def test_an_error_has_place_line_caret_and_help(check):
    done = check('server {\n    wrokers 4\n}\n')
    assert done.returncode == 1
    lines = done.stderr.split('\n')
    place = next(index for index, line in enumerate(lines) if 'error:' in line)
    assert re.match(r'.*sentinel\.kdl:2:5: error: .*wrokers', lines[place])
    assert 'wrokers 4' in lines[place + 1]
    caret = lines[place + 2]
    assert '^' in caret
    assert caret.index('^') == lines[place + 1].index('wrokers')
    assert re.search(r'help: .*workers', done.stderr)


def test_all_errors_come_in_one_run(check):
    done = check('''server {
    workers "many"
    max-connections 0
    nonsense 1
}
upstream "a" {
    target "127.0.0.1:1" weight=0
}
upstream "a" {
    target "127.0.0.1:99999"
}
route "r" {
    match path-prefix="/"
    upstream "nobody"
}
''')
    assert done.returncode == 1
    places = {int(line) for line in re.findall(r'sentinel\.kdl:(\d+):\d+: error:', done.stderr)}
    assert {2, 3, 4, 7, 9, 10, 14} <= places, done.stderr


@pytest.mark.parametrize('text', ['server {', 'server }', 'a "unterminated', '"\\q"',
                                  'server { workers 1', '\x00', 'include "x.kdl"\n', 'tls {\n}\n'])
def test_broken_or_unknown_text_is_refused_with_its_place(check, text):
    done = check(text)
    assert done.returncode == 1
    assert re.search(r'sentinel\.kdl:\d+:\d+: error: ', done.stderr), done.stderr


def test_an_open_failure_mode_without_an_agent_is_refused(check):
    done = check(PROMISED.replace('"closed"', '"open"'))
    assert done.returncode == 1 and 'failure-mode' in done.stderr


@pytest.mark.parametrize('name', ['sentinel.json', 'sentinel.toml'])
def test_other_languages_are_refused(check, name):
    assert check('{}', name).returncode == 1


def test_an_unreachable_route_is_a_warning(check):
    text = PROMISED + 'route "never" {\n    match path-prefix="/api"\n    respond 200\n}\n'
    done = check(text)
    assert done.returncode == 0
    assert re.search(r'warning: .*never', done.stderr + done.stdout)


def test_a_missing_file_is_refused():
    done = command('check', '--config', '/nonexistent/sentinel.kdl')
    assert done.returncode == 1 and '/nonexistent/sentinel.kdl' in done.stderr


def test_the_environment_is_filled_in(check):
    text = PROMISED.replace('"10.0.1.10:8080"', '"${BACKEND_A}"')
    assert check(text, BACKEND_A='10.9.9.9:80').returncode == 0
    assert check(text, BACKEND_A='nonsense').returncode == 1
    done = check(text)
    assert done.returncode == 1 and 'BACKEND_A' in done.stderr
    text = PROMISED.replace('"10.0.1.10:8080"', '"${NOT_SET:-10.0.1.10:8080}"')
    assert check(text).returncode == 0


def test_an_explicit_limit_that_the_machine_cannot_carry_is_refused(tmp_path):
    path = tmp_path / 'sentinel.kdl'
    path.write_text('server {\n    max-connections 500000\n}\n')
    done = subprocess.run(['/bin/sh', '-c', 'ulimit -n 4096; exec "$0" check --config "$1"',
                           binary(), str(path)], capture_output=True, text=True, timeout=30,
                          env=environment())
    assert done.returncode == 1
    assert re.search(r'max-connections', done.stderr) and re.search(r'4096', done.stderr)


@pytest.fixture
def run(tmp_path):
    """run(WORDS..., NAME=value...): a started `sentinel run`, ended by SIGTERM after the test."""
    started = []

    def start(*words, **extra):
        process = subprocess.Popen([binary(), 'run', '--pid-file', 'off', '--control-socket', 'off',
                                    *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=environment(**extra))
        started.append(process)
        return process
    yield start
    for process in started:
        process.terminate()
        try:
            output = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert b'Sanitizer' not in output[1], output[1]


def answers(port):
    def probe():
        try:
            with connect(port) as client:
                client.send(request_bytes(fields=[('Connection', 'close')]))
                return client.read_response()
        except Exception:
            return None
    return wait_for(probe, 15, f'an answer on port {port}')


def test_without_a_file_the_environment_says_where(run, stack):
    stack.append(EchoOrigin())
    port, = free_ports(1)
    run(SENTINEL_LISTEN=f'127.0.0.1:{port}', SENTINEL_UPSTREAM=stack[0].address,
        SENTINEL_WORKERS='2')
    assert answers(port).json()['target'] == '/'


def test_a_taken_port_is_refused_with_its_address(run):
    with_listener = EchoOrigin()
    try:
        process = run(SENTINEL_LISTEN=with_listener.address)
        assert process.wait(20) == 1
        assert with_listener.address in process.stderr.read().decode()
    finally:
        with_listener.stop()


@pytest.mark.parametrize('name,value', [('SENTINEL_LISTEN', 'nonsense'),
                                        ('SENTINEL_UPSTREAM', 'no-such-host.invalid:80'),
                                        ('SENTINEL_WORKERS', '-1')])
def test_a_bad_variable_is_refused_by_name(run, name, value):
    process = run(**{'SENTINEL_LISTEN': '127.0.0.1:0', name: value})
    assert process.wait(20) == 1
    assert name in process.stderr.read().decode()


def test_with_a_file_the_variables_are_ignored_with_a_warning(sentinel, echo, monkeypatch):
    values = {**environment(), 'SENTINEL_UPSTREAM': '127.0.0.1:9'}
    monkeypatch.setattr('harness.proxy.environment', lambda **_: values)
    proxy = sentinel(echo)
    assert proxy.request().status == 200
    assert re.search(r'warning: .*SENTINEL_UPSTREAM', proxy.stderr())


def test_a_refused_file_starts_nothing(tmp_path):
    port, = free_ports(1)
    path = tmp_path / 'sentinel.kdl'
    path.write_text(f'listener "x" {{\n    address "127.0.0.1:{port}"\n    nonsense 1\n}}\n')
    done = command('run', '--config', path)
    assert done.returncode == 1
    with pytest.raises(ConnectionRefusedError):
        connect(port)


def test_output_that_nobody_reads_stops_nobody():
    """Help into a closed pipe ends with a status, not with a hang or a sanitizer report."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.Popen([binary(), 'config-example'], stdout=write_end,
                               stderr=subprocess.PIPE, env=environment())
    os.close(write_end)
    timer = threading.Timer(20, process.kill)
    timer.start()
    errors = process.communicate()[1]
    timer.cancel()
    assert b'Sanitizer' not in errors
    assert process.returncode != -9
