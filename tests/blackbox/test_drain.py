"""Stopping at bad moments: uploads under way, clients not yet accepted, workers that keep dying."""
import contextlib
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from harness.origins import hold, read_body, read_head, read_request, read_to_end, reset, response
from harness.processes import gone, is_alive, of_role, refused
from harness.proxy import Plan, binary, environment
from harness.waiting import free_ports, wait_for
from harness.wire import request_bytes


def draining(proxy):
    wait_for(lambda: refused(proxy.port), 10, 'the listener to close')


def test_an_upload_under_way_is_finished(sentinel, origin):
    server = origin([read_head, read_body, response(b'taken')])
    proxy = sentinel(server, server='graceful-shutdown-timeout 60s')
    with proxy.connect() as client:
        body = b'x' * 100000
        whole = request_bytes('/upload', 'POST', body=body)
        client.send(whole[:-40000])
        server.wait_requests(1)
        proxy.signal(signal.SIGTERM)
        draining(proxy)
        client.send(whole[-40000:])
        answer = client.read_response('POST')
        assert answer.body == b'taken' and answer.get('Connection') == 'close'
        assert server.requests[0].body == body
        assert client.ended(10)
    assert proxy.wait() == 0
    assert proxy.log_record()['status'] == 200


def test_a_client_that_waits_to_be_accepted_is_served(sentinel, echo):
    proxy = sentinel(echo, server='graceful-shutdown-timeout 60s')
    worker, = of_role(proxy, 'worker')
    os.kill(worker, signal.SIGSTOP)
    with proxy.connect() as client:  # the kernel's doing: nobody has accepted it
        client.send(request_bytes('/queued'))
        proxy.signal(signal.SIGTERM)
        wait_for(lambda: 'stopping: requests in flight' in proxy.stderr(), 10, 'the drain')
        os.kill(worker, signal.SIGCONT)
        answer = client.read_response()
        assert answer.status == 200 and answer.get('Connection') == 'close'
    assert proxy.wait() == 0


def test_all_who_wait_to_be_accepted_are_served(sentinel, echo):
    """More than a worker takes at one wake-up, so that the end of the queue is the drain's to take."""
    proxy = sentinel(echo, server='graceful-shutdown-timeout 60s')
    worker, = of_role(proxy, 'worker')
    os.kill(worker, signal.SIGSTOP)
    with contextlib.ExitStack() as clients:
        waiting = [clients.enter_context(proxy.connect()) for _ in range(40)]
        for client in waiting:
            client.send(request_bytes('/queued'))
        proxy.signal(signal.SIGTERM)
        wait_for(lambda: 'stopping: requests in flight' in proxy.stderr(), 10, 'the drain')
        os.kill(worker, signal.SIGCONT)
        assert [client.read_response().status for client in waiting] == [200] * 40
    assert proxy.wait() == 0


def test_connections_to_upstreams_that_nobody_uses_are_closed_at_once(sentinel, origin):
    left = threading.Event()
    server = origin([read_request, hold, response(b'late')],
                    [read_request, response(b'soon'), read_to_end, lambda *_: left.set()])
    proxy = sentinel(server, server='graceful-shutdown-timeout 60s', policies='timeout 60s',
                     timeouts='upstream-keep-alive 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        assert proxy.request().body == b'soon'
        assert not left.is_set()
        proxy.signal(signal.SIGTERM)
        assert left.wait(10)
        server.release()
        assert client.read_response().body == b'late'
    assert proxy.wait() == 0


def test_a_head_that_does_not_come_in_time_leaves_its_record(sentinel, echo):
    proxy = sentinel(echo, server='graceful-shutdown-timeout 1s')
    with proxy.connect() as client:
        client.send(b'GET / HT')
        wait_for(lambda: proxy.metric('sentinel_client_received_bytes_total') >= 8, 10, 'the bytes')
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
    record = proxy.logged('draining')
    assert (record['client'], record['listener'], record['path']) == ('127.0.0.1', 'http', None)


def test_an_origin_that_dies_during_the_drain_delays_nothing(sentinel, origin):
    server = origin([read_request, hold, reset])
    proxy = sentinel(server, server='graceful-shutdown-timeout 60s', policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', body=b'not to be sent twice'))
        server.wait_requests(1)
        start = time.monotonic()
        proxy.signal(signal.SIGTERM)
        draining(proxy)
        server.refuse()
        server.release()
        answer = client.read_response('POST')
        assert answer.status == 502 and answer.get('Connection') == 'close'
        assert proxy.wait() == 0
        assert time.monotonic() - start < 20


def test_a_stop_while_all_workers_crash_in_a_loop(sentinel, echo):
    proxy = sentinel(echo, server='workers 2\n    graceful-shutdown-timeout 60s')
    for _ in range(4):  # by now each is away for a moment before it is started anew
        victims = wait_for(lambda: (found := of_role(proxy, 'worker')) and len(found) == 2 and found,
                           10, 'both workers')
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        gone(victims)
    children = proxy.children()
    start = time.monotonic()
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert time.monotonic() - start < 20
    gone(children)


def test_two_signals_at_once_end_at_once(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, server='workers 2\n    graceful-shutdown-timeout 60s',
                     policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        children = proxy.children()
        start = time.monotonic()
        proxy.signal(signal.SIGTERM)
        proxy.signal(signal.SIGINT)
        assert proxy.wait() == 0
        assert time.monotonic() - start < 20
    gone(children)


def test_a_worker_killed_during_the_drain_is_not_replaced(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, server='graceful-shutdown-timeout 60s', policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        worker, = of_role(proxy, 'worker')
        proxy.signal(signal.SIGTERM)
        draining(proxy)
        os.kill(worker, signal.SIGKILL)
        assert client.ended(10)
    assert proxy.wait() == 0
    assert 'starting it anew' not in proxy.stderr()


@pytest.mark.parametrize('delay_ms', [0, 5, 10, 20, 40, 60, 80, 120, 160, 240, 400])
def test_a_stop_while_starting(echo, tmp_path, delay_ms):
    port, admin_port = free_ports(2)
    config = tmp_path / 'config.kdl'
    config.write_text(Plan([echo], server='workers 2').render(tmp_path, port, admin_port))
    process = subprocess.Popen([binary(), 'run', '--config', str(config)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, env=environment(), start_new_session=True)
    try:
        time.sleep(delay_ms / 1000)  # not to wait for anything: to come at different moments
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
    # Before it has looked at its first signal it dies of it, as any program does.
    assert process.returncode in (0, -signal.SIGTERM), errors
    wait_for(lambda: not in_session(process.pid), 10, 'the end of all processes')
    assert refused(port)


def in_session(session):
    found = subprocess.run(['ps', '-o', 'pid=', '--sid', str(session)], capture_output=True,
                           text=True).stdout.split()
    return [pid for pid in found if is_alive(int(pid))]


def paths(folder):
    lines = [line for path in folder.iterdir() for line in path.read_text().splitlines()]
    return [json.loads(line)['path'] for line in lines]


def test_no_line_is_lost_over_rotations_under_load(sentinel, echo, tmp_path):
    folder = tmp_path / 'logs'
    folder.mkdir()
    folder.chmod(0o777)
    log = folder / 'access.log'
    proxy = sentinel(echo, server='workers 2', observability=f'access-log "{log}"')
    asked = []
    for rotation in range(8):
        for _ in range(25):
            asked.append(f'/{len(asked)}')
            assert proxy.request(asked[-1]).status == 200
        log.rename(folder / f'access.log.{rotation}')
        proxy.signal(signal.SIGUSR1)
        for _ in range(5):  # these may still go to the old file
            asked.append(f'/{len(asked)}')
            assert proxy.request(asked[-1]).status == 200
        wait_for(log.exists, 10, 'the new file')
    wait_for(lambda: len(paths(folder)) >= len(asked), 10, 'all lines')
    assert sorted(paths(folder)) == sorted(asked)  # each once, and whole


def test_hup_during_a_drain_changes_nothing(sentinel, origin):
    server = origin([read_request, hold, response(b'finished')])
    proxy = sentinel(server, server='graceful-shutdown-timeout 60s', policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        proxy.signal(signal.SIGTERM)
        draining(proxy)
        proxy.signal(signal.SIGHUP)
        wait_for(lambda: 'reload is not in this build' in proxy.stderr(), 10, 'the line')
        server.release()
        assert client.read_response().body == b'finished'
    assert proxy.wait() == 0
