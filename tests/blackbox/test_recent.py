"""`sentinel recent`: what is in flight, what ended, and what a process was doing when it crashed."""
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import time

import pytest

from harness.origins import hold, read_request, response
from harness.processes import of_role, replace
from harness.proxy import Plan, Sentinel, binary, command, environment
from harness.waiting import free_ports, wait_for
from harness.wire import request_bytes

HIDDEN = 's3cret-token'


def ask_socket(path, target, fields=''):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(path)
        client.sendall(f'GET {target} HTTP/1.0\r\n{fields}\r\n'.encode())
        answer = b''
        while piece := client.recv(65536):
            answer += piece
    return answer.decode()


def crash_lines(proxy, words, seconds=20):
    """The lines of crash reports on the operator's log, once one has these words."""
    def found():
        lines = [line for line in proxy.stderr().splitlines() if 'crash report ' in line]
        return any(words in line for line in lines) and lines
    return wait_for(found, seconds, f'a report with {words!r}')


def test_a_held_request_is_shown_with_its_step(sentinel, origin):
    server = origin([read_request, hold, response(b'ok')])
    proxy = sentinel(server, policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes(f'/held/path?token={HIDDEN}', host='shop.example.com',
                                  fields=[('Cookie', HIDDEN)]))
        server.wait_requests(1)
        line = wait_for(lambda: [each for each in proxy.recent('--in-flight')
                                 if 'awaiting' in each['step']], 10, 'the step')[0]
        assert line['step'] == 'FORWARD, awaiting the response head'
        assert (line['method'], line['host'], line['path']) == \
            ('GET', 'shop.example.com', '/held/path')
        assert line['query'] is True and line['path_cut'] is False
        assert line['client'] == '127.0.0.1' and line['route'] == 'all'
        assert line['upstream'] == 'backend' and line['endpoint'] == server.address
        assert line['attempts'] == 1 and line['worker'] == 0 and line['listener'] == 'http'
        assert re.fullmatch('[0-9a-f]{32}', line['request_id'])
        assert 0 <= line['step_ms'] <= line['age_ms']
        assert proxy.recent('--in-flight', '--route', 'all', '--client', '127.0.0.1') != []
        assert proxy.recent('--in-flight', '--route', 'none') == []
        assert proxy.recent('--in-flight', '--client', '10.0.0.1') == []
        everything = ask_socket(proxy.socket, '/recent')
        assert HIDDEN not in everything
        server.release()
        assert client.read_response().status == 200
    wait_for(lambda: not proxy.recent('--in-flight'), 10, 'the end of the request')
    done = [each for each in proxy.recent() if each['path'] == '/held/path']
    assert len(done) == 1 and done[0]['status'] == 200 and done[0]['reason'] is None
    assert done[0]['request_id'] == line['request_id'] == proxy.log_record()['request_id']
    assert done[0]['first_byte_ms'] <= done[0]['total_ms']


def test_filters_choose_and_the_newest_comes_first(sentinel, echo):
    routes = ('route "good" {\n    match path-prefix="/good"\n    respond 200\n}\n'
              'route "bad" {\n    match path-prefix="/bad"\n    respond 503\n}\n')
    proxy = sentinel(routes=routes, server='workers 2')
    for number in range(3):
        assert proxy.request(f'/good/{number}', source='127.0.0.2').status == 200
        assert proxy.request(f'/bad/{number}').status == 503
    assert proxy.request('/nowhere').status == 404

    def paths(*words):
        return [line['path'] for line in proxy.recent(*words)]
    assert paths() == ['/nowhere', '/bad/2', '/good/2', '/bad/1', '/good/1', '/bad/0', '/good/0']
    assert paths('--limit', '2') == ['/nowhere', '/bad/2']
    assert paths('--failures') == ['/nowhere', '/bad/2', '/bad/1', '/bad/0']
    assert paths('--route', 'good') == ['/good/2', '/good/1', '/good/0']
    assert paths('--status', '5xx') == paths('--status=503') == ['/bad/2', '/bad/1', '/bad/0']
    assert paths('--status', '504') == []
    assert paths('--reason', 'no_route') == ['/nowhere']
    assert paths('--client', '127.0.0.2', '--limit=1') == ['/good/2']
    assert paths('--client', '127.0.0.2/31', '--limit=1') == ['/good/2']
    assert paths('--client', '127.0.0.0/8') == paths()
    assert paths('--client', '10.0.0.0/8') == []
    both = sorted(paths('--worker', '0') + paths('--worker', '1'))
    assert both == sorted(paths()) and paths('--worker', '2') == []


def test_failures_are_kept_longer_and_the_recorder_keeps_as_many_as_it_is_told(sentinel):
    routes = 'route "good" {\n    match path-prefix="/good"\n    respond 200\n}\n'
    proxy = sentinel(routes=routes, observability='flight-recorder 8')
    assert proxy.request('/lost').status == 404
    for number in range(12):
        assert proxy.request(f'/good/{number}').status == 200
    found = [line['path'] for line in proxy.recent()]
    assert found == [f'/good/{number}' for number in range(11, 3, -1)] + ['/lost']
    assert [line['reason'] for line in proxy.recent('--failures')] == ['no_route']


def test_a_recorder_that_is_off_keeps_nothing(sentinel, origin):
    server = origin([read_request, hold, response(b'ok')])
    proxy = sentinel(server, observability='flight-recorder 0', policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes('/held'))
        server.wait_requests(1)
        assert proxy.recent('--in-flight') == []
        server.release()
        assert client.read_response().status == 200
    assert proxy.recent() == []


def test_the_table_has_a_summary_and_aligned_columns(sentinel, echo):
    proxy = sentinel(echo)
    assert proxy.request('/first?x=1').status == 200
    assert proxy.request('/second').status == 200
    done = command('recent', '--control-socket', proxy.socket)
    assert done.returncode == 0, done.stderr
    summary, blank, titles, *rows = done.stdout.splitlines()
    assert re.fullmatch(r'3 processes; 0 in flight; kept: 2 finished, 0 of them failed; '
                        r'crashes: 0', summary), done.stdout
    assert blank == '' and titles.startswith('TIME (UTC)') and titles.endswith('REQUEST')
    column = titles.index('REQUEST')
    assert [row[column:] for row in rows] == ['GET example.test/second', 'GET example.test/first?']
    assert all(row[titles.index('STATUS'):].startswith('200 ') for row in rows)


def test_the_configuration_tells_where_to_ask(sentinel, echo, tmp_path):
    path = tmp_path / 'own.sock'
    proxy = sentinel(echo, server=f'control-socket "{path}"')
    assert stat.S_ISSOCK(path.stat().st_mode) and stat.S_IMODE(path.stat().st_mode) == 0o660
    assert proxy.request('/x').status == 200
    done = command('recent', '--config', proxy.config, '--json')
    assert [json.loads(line)['path'] for line in done.stdout.splitlines()] == ['/x'], done.stderr
    proxy.stop()
    assert not path.exists()


@pytest.fixture
def stranger(tmp_path, unprivileged):
    """stranger(GROUPS, WORDS...): `sentinel recent` as nobody in particular, who is in these groups."""
    if not unprivileged:
        pytest.skip('only root can be somebody else')
    tmp_path.chmod(0o755)

    def ask(groups, *words):
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))  # noqa: E731
        return command('recent', *words, who={**unprivileged, 'extra_groups': groups,
                                              'preexec_fn': few})
    return ask


def test_members_of_the_control_group_may_ask(sentinel, echo, tmp_path, stranger):
    """By the instance's own configuration, though they could not start it: not its user, nor its
    descriptors."""
    path = tmp_path / 'own.sock'
    group = 4711
    proxy = sentinel(echo, server=f'control-socket "{path}"\ncontrol-group "{group}"\nuser "nobody"')
    assert path.stat().st_gid == group and stat.S_IMODE(path.stat().st_mode) == 0o660
    checked = command('check', '--config', proxy.config)
    assert f'control socket {path}, group {group}\n' in checked.stdout
    asked = stranger([group], '--config', str(proxy.config))
    assert asked.returncode == 0, asked.stderr
    refused = stranger([group + 1], '--config', str(proxy.config))
    assert refused.returncode == 1
    assert 'it is for its owner and its group: become root, or see server control-group' \
        in refused.stderr


def test_the_socket_has_its_mode_whatever_the_mask(sentinel, echo, tmp_path):
    for mask in (0o077, 0):
        path = tmp_path / f'{mask:o}.sock'
        before = os.umask(mask)
        try:
            proxy = sentinel(echo, server=f'control-socket "{path}"\npid-file "{path}.pid"')
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert proxy.request('/x').status == 200
        pid_file = tmp_path / f'{mask:o}.sock.pid'
        assert stat.S_IMODE(pid_file.stat().st_mode) == 0o644 & ~mask
        proxy.stop()


def test_the_control_socket_can_be_off(sentinel, echo):
    proxy = sentinel(echo, server='control-socket "off"')
    assert proxy.request().status == 200
    done = command('recent', '--config', proxy.config)
    assert done.returncode == 1 and 'has no control socket' in done.stderr


def test_the_command_line_wins_over_the_configuration(tmp_path, echo):
    port, admin_port = free_ports(2)
    configured, asked = tmp_path / 'configured.sock', tmp_path / 'asked.sock'
    plan = Plan([echo], server=f'control-socket "{configured}"')
    config = tmp_path / 'sentinel.kdl'
    config.write_text(plan.render(tmp_path, port, admin_port))
    process = subprocess.Popen([binary(), 'run', '--config', config, '--control-socket', asked],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=environment())
    try:
        wait_for(asked.exists, 20, 'the socket')
        assert not configured.exists()
    finally:
        process.terminate()
        assert process.wait(20) == 0


def start_refused(tmp_path, socket_path, echo):
    port, admin_port = free_ports(2)
    config = tmp_path / 'second.kdl'
    plan = Plan([echo], server=f'control-socket "{socket_path}"')
    folder = tmp_path / 'second'
    folder.mkdir(exist_ok=True)
    config.write_text(plan.render(folder, port, admin_port))
    return command('run', '--config', config)


def test_a_live_socket_is_never_taken_over(sentinel, echo, tmp_path):
    proxy = sentinel(echo)
    done = start_refused(tmp_path, proxy.socket, echo)
    assert done.returncode == 1
    assert re.search(r'control socket .*: another instance answers there \(.*second\.kdl:\d+\)',
                     done.stderr), done.stderr
    assert proxy.recent() == []


def test_a_file_that_is_no_socket_is_left_alone(echo, tmp_path):
    path = tmp_path / 'precious'
    path.write_text('keep')
    done = start_refused(tmp_path, path, echo)
    assert done.returncode == 1 and 'a file that is no socket' in done.stderr
    assert path.read_text() == 'keep'
    done = start_refused(tmp_path, tmp_path / 'no' / 'folder.sock', echo)
    assert done.returncode == 1 and 'No such file or directory' in done.stderr


def test_the_socket_of_a_dead_instance_is_taken_over(sentinel, echo, tmp_path):
    path = str(tmp_path / 'stale.sock')
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    proxy = sentinel(echo, server=f'control-socket "{path}"')
    assert proxy.request('/x').status == 200
    assert [line['path'] for line in proxy.recent()] == ['/x']


def test_a_restart_right_after_the_supervisor_was_killed_gets_the_socket(tmp_path, echo, stack):
    """The controller of the dead instance may still answer: it is about to notice."""
    path = str(tmp_path / 'c.sock')
    port, admin_port = free_ports(2)
    plan = Plan([echo], server=f'control-socket "{path}"')
    (tmp_path / 'first').mkdir()
    config = tmp_path / 'first.kdl'
    config.write_text(plan.render(tmp_path / 'first', port, admin_port))
    first = subprocess.Popen([binary(), 'run', '--config', config], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env=environment())
    try:
        wait_for(lambda: command('recent', '--control-socket', path).returncode == 0, 20, 'it')
    finally:
        first.kill()
        first.wait(10)
    (tmp_path / 'second').mkdir()
    stack.append(Sentinel(tmp_path / 'second', plan))
    assert stack[-1].request('/x').status == 200
    assert [line['path'] for line in stack[-1].recent()] == ['/x']


def test_only_the_control_socket_tells_of_requests(sentinel, echo):
    proxy = sentinel(echo)
    assert proxy.request('/x').status == 200
    assert proxy.admin('/recent').status == 404
    answer = ask_socket(proxy.socket, '/recent', 'Host: whatever.example\r\n')
    assert answer.startswith('HTTP/1.1 200 ') and answer.endswith('{"kind":"end"}\n')
    assert ask_socket(proxy.socket, '/health').startswith('HTTP/1.1 200 ')
    assert ask_socket(proxy.socket, '/nothing').startswith('HTTP/1.1 404 ')
    for line in answer.split('\r\n\r\n', 1)[1].splitlines():
        assert isinstance(json.loads(line), dict)


def test_hostile_requests_are_told_in_printable_bytes(sentinel, echo):
    proxy = sentinel(echo, limits='head-size 32KiB')
    attempts = [
        b'GET /\x1b[2J\x07 HTTP/1.1\r\nHost: a\r\n\r\n',
        b'GET /x HTTP/1.1\r\nHost: \x1b]0;evil\x07\r\n\r\n',
        b'GET http://user:' + HIDDEN.encode() + b'@a/ HTTP/1.1\r\nHost: b\r\n\r\n',
        b'G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n',
        b'GET /"quoted\\path" HTTP/1.1\r\nHost: a\r\n\r\n',
        b'GET /' + b'p' * 8000 + b'?q=' + HIDDEN.encode() + b' HTTP/1.1\r\nHost: a\r\n\r\n',
        b'GET /%00?token=' + HIDDEN.encode() + b' HTTP/1.1\r\nHost: a\r\n\r\n',
    ]
    for number, attempt in enumerate(attempts, 1):
        with proxy.connect() as client:
            client.send(attempt)
            client.read_response()
        wait_for(lambda: len(proxy.recent()) == number, 10, 'the record')
    answer = ask_socket(proxy.socket, '/recent')
    assert HIDDEN not in answer
    assert all(0x20 <= ord(char) < 0x7f or char == '\n'
               for char in answer.split('\r\n\r\n', 1)[1])
    long = [line for line in proxy.recent() if line['path_cut']]
    assert len(long) == 1 and long[0]['path'] == '/' + 'p' * 127
    table = command('recent', '--control-socket', proxy.socket).stdout
    assert table.isprintable() or all(char.isprintable() or char == '\n' for char in table)


def test_a_worker_killed_in_the_middle_of_a_request_is_reported(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes(f'/killed?token={HIDDEN}', host='shop.example.com'))
        server.wait_requests(1)
        line = wait_for(lambda: [each for each in proxy.recent('--in-flight')
                                 if 'awaiting' in each['step']], 10, 'the step')[0]
        pid = of_role(proxy, 'worker')[0]
        replace(proxy, 'worker', signal.SIGKILL)
        assert client.ended(10)
    report, exchange = crash_lines(proxy, '/killed')
    assert f'worker 0 (pid {pid}, incarnation ' in report
    assert 'ended by SIGKILL while waiting for events' in report
    assert 'exchanges in flight: 1' in report
    assert 'in flight GET shop.example.com/killed?, id ' + line['request_id'] in exchange
    assert 'step FORWARD, awaiting the response head for ' in exchange
    assert f'route all, endpoint {server.address}, attempt 1' in exchange
    assert HIDDEN not in proxy.stderr()
    crash, told = proxy.recent('--crashes')
    assert (crash['role'], crash['pid'], crash['ended']) == ('worker', pid, 'by SIGKILL')
    assert crash['in_flight'] == 1 and told['request_id'] == line['request_id']
    text = command('recent', '--control-socket', proxy.socket, '--crashes').stdout
    assert 'worker 0' in text and 'GET shop.example.com/killed?' in text


def test_what_a_worker_finished_last_is_told_after_its_death(sentinel, echo):
    proxy = sentinel(echo, server='workers 1')
    assert proxy.request('/%00').status == 400
    for number in range(40):
        assert proxy.request(f'/{number}').status == 200
    replace(proxy, 'worker', signal.SIGKILL)
    wait_for(lambda: proxy.recent('--crashes'), 10, 'the report')
    assert proxy.request('/after').status == 200
    after, *before = proxy.recent('--limit', '100')
    assert after['path'] == '/after' and 'crash' not in after
    assert [line['path'] for line in before] == [f'/{39 - i}' for i in range(32)] + ['/%00']
    assert {(line['worker'], line['crash'], line['kind']) for line in before} == {(0, 1, 'finished')}
    failed, = proxy.recent('--failures')
    assert (failed['status'], failed['reason'], failed['crash']) == (400, 'bad_target', 1)


@pytest.mark.parametrize('role', ['worker', 'controller', 'logger'])
def test_an_injected_abort_is_reported(sentinel, echo, role):
    proxy = sentinel(echo)
    assert proxy.request('/before').status == 200
    pid = of_role(proxy, role)[0]
    replace(proxy, role, signal.SIGABRT)
    report = crash_lines(proxy, f'{role} ' if role != 'worker' else 'worker 0 ')[0]
    assert f'(pid {pid}, ' in report and 'ended by SIGABRT while ' in report
    crash = wait_for(lambda: [line for line in asked(proxy) if line['pid'] == pid], 10,
                     'the report')[0]
    assert crash['role'] == role and crash['ended'] == 'by SIGABRT'


def test_a_fault_is_reported_as_what_it_was(sentinel, echo):
    """Sent from outside; what a fault of its own leaves is crash_handler_test's matter."""
    proxy = sentinel(echo)
    replace(proxy, 'worker', signal.SIGILL)
    assert 'ended by SIGILL while ' in crash_lines(proxy, 'worker 0 ')[0]


def asked(proxy):
    """The crashes, or none while the controller is being replaced."""
    done = command('recent', '--control-socket', proxy.socket, '--json', '--crashes')
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []


def test_a_worker_that_hangs_is_reported_with_how_long(sentinel, echo):
    proxy = sentinel(echo)
    replace(proxy, 'worker', signal.SIGSTOP, 20)
    report = crash_lines(proxy, 'worker 0 ')[0]
    seconds = re.search(r'its turn began (\d+)\S* s ago', report)
    assert seconds and int(seconds[1]) >= 4, report


def test_a_death_while_the_controller_is_away_is_reported_by_the_next_one(sentinel, echo):
    proxy = sentinel(echo)
    worker, controller = of_role(proxy, 'worker')[0], of_role(proxy, 'controller')[0]
    os.kill(controller, signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: worker not in proxy.children(), 10, 'the end of the worker')
    os.kill(controller, signal.SIGKILL)
    crash_lines(proxy, f'(pid {controller}, ')


def test_reports_outlive_the_controller_that_made_them(sentinel, echo):
    proxy = sentinel(echo)
    assert proxy.request('/before').status == 200
    worker = of_role(proxy, 'worker')[0]
    replace(proxy, 'worker', signal.SIGKILL)
    crash_lines(proxy, f'(pid {worker}, ')
    for number in (2, 3):
        controller = of_role(proxy, 'controller')[0]
        replace(proxy, 'controller', signal.SIGKILL)
        crash_lines(proxy, f'crash report {number}: controller (pid {controller}, ')
    crashes = [line for line in proxy.recent('--crashes') if line['kind'] == 'crash']
    assert [(line['crash'], line['role']) for line in crashes] == [
        (3, 'controller'), (2, 'controller'), (1, 'worker')]
    assert crashes[2]['pid'] == worker and crashes[2]['ended'] == 'by SIGKILL'
    assert '/before' in [line['path'] for line in proxy.recent()]


def test_nobody_there_is_said_and_exits_with_1(tmp_path):
    done = command('recent', '--control-socket', tmp_path / 'none.sock')
    assert done.returncode == 1 and done.stdout == ''
    assert f'no instance of Sentinel answers at {tmp_path}/none.sock' in done.stderr


def test_an_instance_that_does_not_answer_is_given_up(tmp_path):
    path = tmp_path / 'mute.sock'
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen(1)
        done = command('recent', '--control-socket', path)
    assert done.returncode == 1 and 'does not answer within 5 s' in done.stderr


@pytest.mark.parametrize('body, words', [
    (b'HTTP/1.1 200 OK\r\n\r\n{"kind":"finished"}\n', 'cut short'),
    (b'HTTP/1.1 200 OK\r\n\r\nnonsense\n', 'cannot be read'),
    (b'HTTP/1.1 200 OK\r\n\r\n' + b'x' * 20000, 'too long'),
    (b'HTTP/1.1 404 Not Found\r\n\r\n', 'refuses to tell'),
    (b'SSH-2.0-x\r\n\r\n', 'refuses to tell'),
    (b'', 'cut short'),
])
def test_a_wrong_answer_is_an_error(tmp_path, body, words):
    path = tmp_path / 'wrong.sock'
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        asking = subprocess.Popen([binary(), 'recent', '--control-socket', str(path)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=environment())
        server.settimeout(20)
        client, _ = server.accept()
        with client:
            client.recv(1000)
            client.sendall(body)
            client.shutdown(socket.SHUT_WR)
            out, errors = asking.communicate(timeout=20)
    assert asking.returncode == 1 and out == '' and words in errors, errors


@pytest.mark.parametrize('words', [
    ['--status', '5x'], ['--status', '600'], ['--limit', '0'], ['--limit', '10001'],
    ['--worker', 'x'], ['--worker', '01'], ['--failures', '--crashes'], ['--in-flight', '--status', '500'],
    ['--crashes', '--route', 'x'], ['--nonsense'], ['--route'], ['extra'],
    ['--reason', 'no_rout'], ['--client', '127.0.1'], ['--client', '127.0.0.1/8'],
])
def test_wrong_usage_exits_with_2(words):
    done = command('recent', *words)
    assert done.returncode == 2 and done.stdout == '' and 'sentinel recent --help' in done.stderr


def test_recent_answers_while_traffic_flows(sentinel, echo):
    proxy = sentinel(echo, server='workers 2', limits='requests-per-connection 1000000')
    end = time.monotonic() + 3
    with proxy.connect() as client:
        while time.monotonic() < end:
            client.send(request_bytes('/busy') * 20)
            for line in proxy.recent('--limit', '100'):
                assert line['path'] == '/busy' and line['status'] == 200
            for _ in range(20):
                assert client.read_response().status == 200
