"""The processes: each can be killed, stopped or hung while the service goes on; starts refused."""
import ctypes
import errno
import fcntl
import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from harness.origins import hold, read_request, response
from harness.processes import gone, of_role, refused, replace
from harness.proxy import Plan, binary, environment
from harness.waiting import free_ports, wait_for
from harness.wire import Closed, connect, request_bytes

PIDFD_GETFD = 438  # the same on all machines
ROLES = ('worker', 'controller', 'logger')
ACROSS = 200  # requests on both sides of a death


class Traffic:
    """One client that asks on and on, a connection each; counts what was answered and what not."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.answered = []  # request numbers
        self.broken = []
        self.others = []    # statuses that are not 200
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        number = 0
        while not self.ending.is_set():
            number += 1
            try:
                status = self.proxy.request(f'/traffic/{number}').status
            except (Closed, OSError):
                self.broken.append(number)
                continue
            (self.answered if status == 200 else self.others).append(
                number if status == 200 else status)

    def wait(self, more):
        aim = len(self.answered) + more
        wait_for(lambda: len(self.answered) >= aim, 30, f'{more} answers more')

    def stop(self):
        self.ending.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


def recorded(proxy):
    """How often each request of the traffic has a record."""
    counts = {}
    for record in proxy.records():
        match = re.fullmatch(r'/traffic/(\d+)', record['path'] or '')
        if match:
            counts[int(match[1])] = counts.get(int(match[1]), 0) + 1
    return counts


@pytest.mark.parametrize('role', ROLES)
def test_a_killed_process_is_replaced_and_nothing_answered_is_lost(sentinel, echo, role):
    proxy = sentinel(echo, server='workers 2')
    traffic = Traffic(proxy)
    traffic.wait(ACROSS)
    replace(proxy, role, signal.SIGKILL)
    traffic.wait(ACROSS)
    traffic.stop()
    assert traffic.others == []
    assert len(traffic.broken) <= (1 if role == 'worker' else 0)  # what it had in its hands
    wait_for(lambda: set(traffic.answered) <= set(recorded(proxy)), 10, 'a record of each answer')
    counts = recorded(proxy)
    if role == 'logger':  # delivery is at least once: at most one batch came twice
        assert sum(counts.values()) - len(counts) <= 64
    else:
        assert set(counts.values()) == {1}
    assert re.search(rf'{role}( \d)? was ended by SIGKILL; starting it anew', proxy.stderr())


def test_totals_outlive_the_worker_that_counted(sentinel, echo):
    proxy = sentinel(echo, server='workers 2')

    def total():
        return proxy.metric('sentinel_requests_total', route='all', status='200')

    for _ in range(40):
        assert proxy.request().status == 200
    wait_for(lambda: total() == 40, 10, 'forty requests counted')
    for victim in of_role(proxy, 'worker'):
        os.kill(victim, signal.SIGKILL)
        while victim in of_role(proxy, 'worker'):
            assert total() == 40
        wait_for(lambda: len(of_role(proxy, 'worker')) == 2, 10, 'the new worker')
        assert total() == 40
    wait_for(lambda: proxy.admin('/ready').status == 200, 10, 'readiness')
    for _ in range(10):
        assert proxy.request().status == 200
    wait_for(lambda: total() == 50, 10, 'fifty requests counted')
    assert proxy.metric('sentinel_requests_in_flight') == 0


def test_totals_outlive_the_controller_and_whoever_dies_without_one(sentinel, echo):
    proxy = sentinel(echo, server='workers 2')

    def total():
        return proxy.metric('sentinel_requests_total', route='all', status='200')

    for _ in range(30):
        assert proxy.request().status == 200
    wait_for(lambda: total() == 30, 10, 'thirty requests counted')
    replace(proxy, 'worker', signal.SIGKILL)
    controller, = of_role(proxy, 'controller')
    worker = of_role(proxy, 'worker')[0]
    os.kill(controller, signal.SIGSTOP)  # it hears of the next death, but sees nothing any more
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: worker not in of_role(proxy, 'worker'), 10, 'the end of the worker')
    os.kill(controller, signal.SIGKILL)
    wait_for(lambda: of_role(proxy, 'controller') not in ([], [controller]), 10, 'a controller')
    wait_for(lambda: len(of_role(proxy, 'worker')) == 2, 10, 'the workers')
    wait_for(lambda: ready(proxy), 10, 'readiness')
    assert total() == 30
    assert proxy.request().status == 200
    wait_for(lambda: total() == 31, 10, 'one more')
    replace(proxy, 'controller', signal.SIGKILL)
    wait_for(lambda: ready(proxy), 10, 'readiness')
    assert total() == 31
    assert proxy.metric('sentinel_requests_in_flight') == 0
    assert proxy.metric('sentinel_access_log_lost_total') == 0


def ready(proxy):
    try:
        return proxy.admin('/ready').status == 200
    except (OSError, Closed):
        return False


def test_gauges_end_with_their_worker(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        wait_for(lambda: proxy.metric('sentinel_requests_in_flight') == 1, 10, 'the gauge')
        replace(proxy, 'worker', signal.SIGKILL)
        assert client.ended(10)
        wait_for(lambda: proxy.metric('sentinel_requests_in_flight') == 0, 10, 'the gauge back')
    assert proxy.metric('sentinel_connections') == 0


def test_a_worker_that_hangs_is_aborted_and_replaced_but_no_idle_process(sentinel, echo):
    proxy = sentinel(echo, server='workers 2')
    before = set(proxy.children())
    start = time.monotonic()
    replace(proxy, 'worker', signal.SIGSTOP, 20)
    assert time.monotonic() - start > 4
    assert len(before & set(proxy.children())) == len(before) - 1
    assert proxy.request().status == 200
    found = re.findall(r'(\w+)( \d+)? has not turned for \d+ ms; aborting it', proxy.stderr())
    assert len(found) == 1, proxy.stderr()


def test_a_controller_that_hangs_is_replaced_while_traffic_goes_on(sentinel, echo):
    proxy = sentinel(echo)
    traffic = Traffic(proxy)
    replace(proxy, 'controller', signal.SIGSTOP, 20)
    traffic.stop()
    assert traffic.broken == [] and traffic.others == [] and len(traffic.answered) > 0
    wait_for(lambda: proxy.admin('/ready').status == 200, 10, 'readiness')


@pytest.fixture
def lone(tmp_path):
    """lone(plan): a Sentinel process that may come to a bad end, and its standard error."""
    started = []

    def start(text):
        config = tmp_path / f'lone-{len(started)}.kdl'
        config.write_text(text)
        process = subprocess.Popen([binary(), 'run', '--config', str(config),
                                    '--control-socket', 'off'],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, env=environment())
        started.append(process)
        return process, config

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stderr.close()


class Bare:
    """A process that the harness did not start, for of_role."""

    def __init__(self, pid):
        self.pid = pid

    def children(self):
        with open(f'/proc/{self.pid}/task/{self.pid}/children') as file:
            return sorted(int(pid) for pid in file.read().split())


@pytest.fixture
def terminal():
    """A terminal that nobody looks at: both ends."""
    ends = os.openpty()
    yield ends
    for end in ends:
        os.close(end)


def run_on(config, **outputs):
    streams = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.DEVNULL, **outputs}
    return subprocess.Popen([binary(), 'run', '--config', str(config), '--control-socket', 'off'],
                            env=environment(), **streams)


def test_a_terminal_that_nobody_looks_at_holds_up_no_supervisor(echo, tmp_path, terminal):
    port, admin_port = free_ports(2)
    config = tmp_path / 'sentinel.kdl'
    config.write_text(Plan([echo]).render(tmp_path, port, admin_port))
    process = run_on(config, stderr=terminal[1])
    try:
        wait_for(lambda: is_served(port), 20, 'the start')
        for _ in range(300):  # a line each, 100 bytes at least; a terminal holds some kilobytes
            process.send_signal(signal.SIGHUP)
            time.sleep(0.002)  # those that come together are one
        replace(Bare(process.pid), 'worker', signal.SIGKILL, 20)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)


def test_a_terminal_that_nobody_looks_at_holds_up_no_logger(echo, tmp_path, terminal):
    port, admin_port = free_ports(2)
    config = tmp_path / 'sentinel.kdl'
    config.write_text(Plan([echo]).render(tmp_path, port, admin_port))
    with open(tmp_path / 'stderr', 'w') as errors:
        process = run_on(config, stdout=terminal[1], stderr=errors)
    try:
        wait_for(lambda: is_served(port), 20, 'the start')
        with connect(port) as client:
            for _ in range(300):
                client.send(request_bytes())
                assert client.read_response().status == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)
    told = (tmp_path / 'stderr').read_text()
    assert 'the access log did not take everything in time' in told
    assert 'logger did not end in time' not in told


def disconnect_listeners(pid, ports):
    """Does to the listening sockets what a process that was taken over could: all share them."""
    system = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    done = set()
    for name in os.listdir(f'/proc/{pid}/fd'):
        copy = system.syscall(PIDFD_GETFD, pidfd, int(name), 0)
        if copy < 0 or not stat.S_ISSOCK(os.fstat(copy).st_mode):
            if copy < 0 and ctypes.get_errno() == errno.EPERM:
                pytest.skip('descriptors of other processes cannot be had here')
            os.close(copy) if copy >= 0 else None
            continue
        with socket.socket(fileno=copy) as shared:
            if shared.family == socket.AF_INET and shared.getsockname()[1] in ports:
                done.add(shared.getsockname()[1])
                assert system.connect(shared.fileno(), bytes(16), 16) == 0  # AF_UNSPEC
    os.close(pidfd)
    assert done == set(ports)


def test_a_listener_that_a_process_disconnected_listens_again(sentinel, echo):
    proxy = sentinel(echo, server='workers 2')
    before = proxy.children()
    disconnect_listeners(proxy.process.pid, [proxy.port, proxy.admin_port])
    wait_for(lambda: proxy.stderr().count('it listens again') == 2, 10, 'both lines')
    assert 'listener http had stopped listening' in proxy.stderr()
    assert 'listener (admin) had stopped listening' in proxy.stderr()
    for _ in range(20):
        assert proxy.request().status == 200
    assert proxy.admin('/ready').status == 200
    assert proxy.children() == before


def ignore_children():
    """What a program does that wants no news of its children, and what they inherit."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def test_who_starts_it_may_ignore_the_ends_of_children(echo, tmp_path):
    port, admin_port = free_ports(2)
    config = tmp_path / 'sentinel.kdl'
    config.write_text(Plan([echo]).render(tmp_path, port, admin_port))
    process = subprocess.Popen([binary(), 'run', '--config', str(config),
                                '--control-socket', 'off'],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               preexec_fn=ignore_children, env=environment())
    try:
        wait_for(lambda: is_served(port), 20, 'the start')
        replace(Bare(process.pid), 'worker', signal.SIGKILL, 20)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def test_without_proc_the_refusal_says_what_is_missing(tmp_path):
    done = subprocess.run(['unshare', '--mount', 'sh', '-c',
                           f'umount -l /proc && exec {binary()} run --control-socket off'],
                          capture_output=True, text=True, timeout=30,
                          env=environment(ASAN_OPTIONS='detect_leaks=0'))
    if 'unshare' in done.stderr or 'umount' in done.stderr:
        pytest.skip('no mount namespaces here')
    assert done.returncode == 1
    assert ('cannot start: No such file or directory; are /proc/self/exe and /dev/null there?'
            in done.stderr)


def is_served(port):
    """Whether a request is answered."""
    try:
        with connect(port) as client:
            client.send(request_bytes())
            return client.read_response().status == 200
    except (ConnectionError, Closed):
        return False


def test_a_standard_error_that_nobody_reads_stops_nobody(echo, tmp_path):
    port, admin_port = free_ports(2)
    config = tmp_path / 'sentinel.kdl'
    config.write_text(Plan([echo], server='workers 2').render(tmp_path, port, admin_port))
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b'x' * 4096)
    process = subprocess.Popen([binary(), 'run', '--config', str(config),
                                '--control-socket', 'off'],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=writing, env=environment())
    os.close(writing)
    try:
        wait_for(lambda: is_served(port), 20, 'the start')
        replace(Bare(process.pid), 'worker', signal.SIGKILL, 20)
        wait_for(lambda: is_served(port), 20, 'an answer')
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        os.close(reading)


def test_without_a_supervisor_all_processes_end(lone, echo, tmp_path):
    port, admin_port = free_ports(2)
    process, _ = lone(Plan([echo], server='workers 2').render(tmp_path, port, admin_port))
    with_admin = wait_for(lambda: answers(admin_port, '/ready'), 20, 'readiness')
    assert with_admin.status == 200
    children = [int(pid) for pid in subprocess.run(
        ['ps', '-o', 'pid=', '--ppid', str(process.pid)], capture_output=True,
        text=True).stdout.split()]
    assert len(children) == 4
    with connect(port) as idle:
        idle.send(request_bytes())
        assert idle.read_response().status == 200
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
        assert idle.ended(10)
    gone(children, 10)


def answers(port, target):
    try:
        with connect(port) as wire:
            wire.send(request_bytes(target, fields=[('Connection', 'close')],
                                    host=f'127.0.0.1:{port}'))
            answer = wire.read_response()
            return answer if answer.status == 200 else None
    except (OSError, Closed):
        return None


def test_without_a_supervisor_a_running_request_is_finished(lone, origin, tmp_path):
    server = origin([read_request, hold, response(b'finished')])
    port, admin_port = free_ports(2)
    plan = Plan([server], server='graceful-shutdown-timeout 20s', policies='timeout 60s')
    process, _ = lone(plan.render(tmp_path, port, admin_port))
    wait_for(lambda: answers(admin_port, '/ready'), 20, 'readiness')
    with connect(port) as client:
        client.send(request_bytes())
        server.wait_requests(1)
        process.kill()
        process.wait(10)
        wait_for(lambda: refused(port), 10, 'the listener to close')
        server.release()
        answer = client.read_response()
        assert answer.body == b'finished' and answer.get('Connection') == 'close'


def test_hup_says_that_reload_is_not_here_and_changes_nothing(sentinel, echo):
    proxy = sentinel(echo)
    before = proxy.children()
    proxy.config.write_text('nonsense')
    proxy.signal(signal.SIGHUP)
    wait_for(lambda: 'reload is not in this build' in proxy.stderr(), 10, 'the line')
    assert proxy.request().status == 200
    assert proxy.children() == before


def lines_of(path):
    return [json.loads(line)['path'] for line in path.read_text().splitlines()] \
        if path.exists() else []


@pytest.fixture
def open_folder(tmp_path):
    """A folder for logs."""
    folder = tmp_path / 'logs'
    folder.mkdir()
    return folder


def test_usr1_reopens_the_access_log(sentinel, echo, open_folder):
    log, old = open_folder / 'access.log', open_folder / 'access.log.1'
    proxy = sentinel(echo, observability=f'access-log "{log}"')
    proxy.request('/before')
    wait_for(lambda: lines_of(log) == ['/before'], 10, 'the first line')
    log.rename(old)
    proxy.request('/between')
    wait_for(lambda: lines_of(old) == ['/before', '/between'], 10, 'the line in the old file')
    proxy.signal(signal.SIGUSR1)
    wait_for(log.exists, 10, 'the new file')
    proxy.request('/after')
    wait_for(lambda: lines_of(log) == ['/after'], 10, 'the line in the new file')
    assert lines_of(old) == ['/before', '/between']


def test_a_reopen_that_fails_keeps_the_old_file(sentinel, echo, open_folder):
    folder = open_folder / 'inner'
    folder.mkdir()
    log, moved = folder / 'access.log', open_folder / 'moved'
    proxy = sentinel(echo, observability=f'access-log "{log}"')
    folder.rename(moved)
    proxy.signal(signal.SIGUSR1)
    line = proxy.config.read_text()[:proxy.config.read_text().index('access-log')].count('\n') + 1
    wait_for(lambda: f'access-log {log}: cannot reopen, the old file stays in use: No such file or '
             f'directory ({proxy.config}:{line})' in proxy.stderr(), 10, 'the line')
    proxy.request('/still-there')
    wait_for(lambda: lines_of(moved / 'access.log') == ['/still-there'], 10, 'the record')


def test_a_logger_that_dies_is_followed_by_one_with_the_same_file(sentinel, echo, open_folder):
    log, old = open_folder / 'access.log', open_folder / 'access.log.1'
    proxy = sentinel(echo, observability=f'access-log "{log}"')
    log.rename(old)
    replace(proxy, 'logger', signal.SIGKILL, 10)
    proxy.request('/once-more')
    wait_for(lambda: lines_of(old) == ['/once-more'], 10, 'the record')
    assert not log.exists()


def test_a_log_that_is_a_symbolic_link_is_refused(lone, echo, tmp_path):
    port, admin_port = free_ports(2)
    log, target = tmp_path / 'access.log', tmp_path / 'precious'
    target.write_text('precious')
    log.symlink_to(target)
    process, config = lone(Plan([echo], observability=f'access-log "{log}"').render(
        tmp_path, port, admin_port))
    assert process.wait(20) == 1
    assert f'access-log {log}: it is a symbolic link, which is not followed ({config}:' \
        in process.stderr.read()
    assert target.read_text() == 'precious'


@pytest.mark.skipif(os.geteuid() != 0, reason='only root could write to what is not its own')
def test_a_log_with_a_second_name_is_refused_to_root(lone, echo, tmp_path):
    log, target = tmp_path / 'access.log', tmp_path / 'precious'
    target.write_text('precious')
    log.hardlink_to(target)
    process, config = lone(Plan([echo], observability=f'access-log "{log}"').render(
        tmp_path, *free_ports(2)))
    assert process.wait(20) == 1
    assert f'access-log {log}: it has a second name (a hard link), which may be anybody\'s file ' \
        f'({config}:' in process.stderr.read()
    assert target.read_text() == 'precious'


def test_a_log_that_cannot_be_opened_refuses_the_start(lone, echo, tmp_path):
    port, admin_port = free_ports(2)
    log = tmp_path / 'no-such-folder' / 'access.log'
    plan = Plan([echo], observability=f'access-log "{log}"')
    process, config = lone(plan.render(tmp_path, port, admin_port))
    assert process.wait(20) == 1
    errors = process.stderr.read()
    line = config.read_text()[:config.read_text().index('access-log')].count('\n') + 1
    assert f'access-log {log}: No such file or directory ({config}:{line})' in errors
    assert errors.count('No such file') == 1, errors
    assert refused(port)


def test_a_port_in_use_refuses_the_start_and_names_the_listener(lone, echo, tmp_path):
    admin_port, = free_ports(1)
    process, config = lone(Plan([echo]).render(tmp_path, echo.port, admin_port))
    assert process.wait(20) == 1
    errors = process.stderr.read()
    line = config.read_text()[:config.read_text().index('listener "http"')].count('\n') + 1
    assert f'listener "http" cannot listen on 127.0.0.1:{echo.port}: Address already in use ' \
        f'({config}:{line}); `ss -ltnp` shows who listens there' in errors


def test_all_taken_addresses_are_named_at_once(lone, echo, origin, tmp_path):
    other, third = origin(name='b'), origin(name='c')
    extra = f'listener "second" {{ address "127.0.0.1:{other.port}" }}\n'
    process, _ = lone(Plan([echo], extra=extra).render(tmp_path, echo.port, third.port))
    assert process.wait(20) == 1
    errors = process.stderr.read()
    assert errors.count('Address already in use') == 3
    for name in ('listener "http"', 'listener "second"', 'the admin listener'):
        assert name in errors


def test_addresses_of_both_families_share_a_port(sentinel, echo):
    port, = free_ports(1)
    proxy = sentinel(config=f'''
server {{ workers 1; admin {{ address "127.0.0.1:{free_ports(1)[0]}" }} }}
listener "http" {{
    address "0.0.0.0:{port}"
}}
listener "six" {{ address "[::]:{port}" }}
upstream "backend" {{ target "{echo.address}" }}
route "all" {{ upstream "backend" }}
''')
    assert proxy.request().status == 200
    answer = subprocess.run(['curl', '-sS', '--max-time', '10', f'http://[::1]:{port}/six'],
                            capture_output=True, text=True)
    assert json.loads(answer.stdout)['target'] == '/six', answer.stderr
    assert [record['listener'] for record in proxy.log_records(2)] == ['http', 'six']
