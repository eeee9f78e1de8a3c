"""Effects of configuration keys that no other scenario proves (see tests/config_effects)."""
import collections
import os
import subprocess
import time
from pathlib import Path

import pytest

from harness.checks import assert_own_answer
from harness.origins import read_request, response
from harness.proxy import binary, command, environment
from harness.waiting import free_ports, wait_for
from harness.wire import Closed, connect, request_bytes

BUFFER_SIZE = 16 * 1024


def answers(port, target='/'):
    try:
        with connect(port) as client:
            client.send(request_bytes(target, fields=[('Connection', 'close')],
                                      host=f'127.0.0.1:{port}'))
            return client.read_response().status == 200
    except (OSError, Closed):
        return False


def listening_ports(pid):
    """The TCP ports on which the process or one of its children listens."""
    children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(pid)], capture_output=True,
                              text=True).stdout.split()
    inodes = set()
    for owner in [str(pid), *children]:
        for link in Path(f'/proc/{owner}/fd').iterdir():
            try:
                inodes.add(os.readlink(link))
            except FileNotFoundError:
                pass  # closed in the meantime
    ports = set()
    for line in Path('/proc/net/tcp').read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == '0A' and f'socket:[{words[9]}]' in inodes:
            ports.add(int(words[1].split(':')[1], 16))
    return ports


@pytest.mark.parametrize('is_on', [True, False])
def test_the_admin_listener_can_be_off(tmp_path, is_on):
    """Without the harness, which tells readiness by the admin listener."""
    port, admin_port = free_ports(2)
    address = f'127.0.0.1:{admin_port}' if is_on else 'off'
    path = tmp_path / 'sentinel.kdl'
    path.write_text('server {\n    workers 1\n'
                    f'    admin {{\n        address "{address}"\n    }}\n}}\n'
                    f'listener "l" {{\n    address "127.0.0.1:{port}"\n}}\n'
                    'route "r" {\n    respond 200\n}\n')
    process = subprocess.Popen([binary(), 'run', '--pid-file', 'off', '--control-socket', 'off',
                                '--config', path], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, env=environment())
    try:
        wait_for(lambda: answers(port), 20, 'an answer')
        if is_on:
            wait_for(lambda: answers(admin_port, '/health'), 20, 'the admin listener')
        assert listening_ports(process.pid) == ({port, admin_port} if is_on else {port})
    finally:
        process.terminate()
        assert process.wait(20) == 0


def in_use_with_stalled_readers(proxy, count):
    """The most buffers seen in use while `count` clients do not read their large responses."""
    clients = [proxy.connect(receive_buffer=4096) for _ in range(count)]
    seen = []
    for client in clients:
        client.send(request_bytes())

    def settled():
        seen.append(proxy.metric('sentinel_buffers_in_use'))
        return len(seen) > 20 and len(set(seen[-10:])) == 1
    try:
        wait_for(settled, 20, 'a steady number of buffers')
    finally:
        for client in clients:
            client.reset()
    return max(seen)


def test_the_buffer_pool_bounds_what_a_worker_holds(sentinel, origin):
    body = bytes(16 * 1024 * 1024)
    pool = 256 * 1024
    copying = 'splice-pipes 0\n'
    small = sentinel(origin([read_request, response(body)]), limits=copying + 'buffer-pool "256KiB"')
    assert 0 < in_use_with_stalled_readers(small, 40) <= pool // BUFFER_SIZE
    large = sentinel(origin([read_request, response(body)]), limits=copying + 'buffer-pool "32MiB"')
    assert in_use_with_stalled_readers(large, 40) > pool // BUFFER_SIZE


def lingered(proxy):
    """How long the proxy reads on after it has refused a body early, in seconds."""
    with proxy.connect() as client:
        client.send(request_bytes(method='POST', fields=[('Content-Length', '100000')]))
        assert_own_answer(client.read_response(), 413, 'body_too_large')
        start = time.monotonic()
        try:
            while time.monotonic() < start + 10:
                client.send(b'x')
                time.sleep(0.05)
        except OSError:
            pass
        return time.monotonic() - start


def test_after_an_early_close_the_client_is_read_for_the_linger_time(sentinel, echo):
    def proxy(linger):
        return sentinel(echo, timeouts=f'linger {linger}', policies='max-body-size "1KiB"')
    assert lingered(proxy('300ms')) < 1.8
    assert 3.5 < lingered(proxy('4s')) < 8


def test_after_an_early_close_the_client_is_read_for_a_megabyte(sentinel, echo):
    proxy = sentinel(echo, timeouts='linger 60s', policies='max-body-size "1KiB"')
    sent = 0
    with proxy.connect(seconds=10) as client:
        client.send(request_bytes(method='POST', fields=[('Content-Length', str(1 << 30))]))
        assert_own_answer(client.read_response(), 413, 'body_too_large')
        with pytest.raises(ConnectionError):
            while sent < 64 << 20:  # more than the sockets of both sides can hold
                client.send(b'x' * 65536)
                sent += 65536
    assert sent >= 1 << 20


def test_names_appear_in_the_log_and_the_metrics(sentinel, echo):
    port, = free_ports(1)
    proxy = sentinel(routes='route "everything" {\n    upstream "inner"\n}\n', extra=f'''
listener "side" {{
    address "127.0.0.1:{port}"
}}
upstream "inner" {{
    target "{echo.address}"
}}
''')
    with connect(port) as client:
        client.send(request_bytes())
        assert client.read_response().status == 200
    record = proxy.log_record()
    names = (record['listener'], record['route'], record['upstream'])
    assert names == ('side', 'everything', 'inner')
    wait_for(lambda: proxy.metric('sentinel_requests_total', route='everything') == 1)
    assert proxy.metric('sentinel_connections_accepted_total', listener='side') == 1
    assert proxy.metric('sentinel_upstream_connections_opened_total', upstream='inner') == 1


def test_each_listener_serves_its_own_address(sentinel, echo):
    port, = free_ports(1)
    proxy = sentinel(echo, extra=f'listener "b" {{\n    address "127.0.0.2:{port}"\n}}\n')
    for place in (('127.0.0.1', proxy.port), ('127.0.0.2', port)):
        with connect(place[1], host=place[0]) as client:
            client.send(request_bytes())
            assert client.read_response().status == 200
    with pytest.raises(ConnectionRefusedError):
        connect(port, host='127.0.0.1')


@pytest.mark.parametrize('protocol,status', [('http', 0), ('https', 1), ('ftp', 1)])
def test_a_protocol_that_is_not_spoken_is_refused(tmp_path, protocol, status):
    path = tmp_path / 'sentinel.kdl'
    path.write_text('listener "l" {\n    address "127.0.0.1:1"\n'
                    f'    protocol "{protocol}"\n}}\nroute "r" {{\n    respond 200\n}}\n')
    done = command('check', '--config', path)
    assert done.returncode == status, done.stderr
    assert ('sentinel.kdl:3:14: error: ' in done.stderr) == (status == 1)


def test_a_balancer_gives_each_endpoint_its_turn(sentinel, origin):
    proxy = sentinel(*(origin(name=name) for name in 'abc'),
                     upstream='load-balancing "round_robin"')
    seen = collections.Counter(proxy.request().json()['origin'] for _ in range(12))
    assert seen == {'a': 4, 'b': 4, 'c': 4}


def test_a_route_goes_to_the_upstream_it_names(sentinel, origin):
    nodes = ''
    for name in 'ab':
        address = origin(name=name).address
        nodes += f'upstream "{name}" {{\n    target "{address}"\n}}\n'
        nodes += (f'route "to-{name}" {{\n    match path-prefix="/{name}"\n'
                  f'    upstream "{name}"\n}}\n')
    proxy = sentinel(routes=nodes)
    assert [proxy.request(f'/{name}').json()['origin'] for name in 'abba'] == list('abba')


# Health checks. The controller's word is read where it says it: sentinel_endpoint_up.

def is_up(proxy, endpoint):
    return proxy.metric('sentinel_endpoint_up', endpoint=endpoint.address) == 1


class Counted:
    """A step that answers each check with the status of the moment and counts per status."""

    def __init__(self, status):
        self.status = status
        self.count = collections.Counter()

    def __call__(self, _server, wire):
        while True:
            wire.read_request()
            self.count[self.status] += 1
            wire.send(response(b'', self.status))


def test_checks_come_as_often_as_the_interval_says(sentinel, origin):
    often, rare = Counted('200 OK'), Counted('200 OK')
    check = 'health-check {\n    type "http"\n    interval %s\n}\n'
    sentinel(origin([often]), upstream=check % '100ms')
    sentinel(origin([rare]), upstream=check % '30s')
    wait_for(lambda: often.count['200 OK'] >= 20, 20, 'twenty checks')
    assert rare.count['200 OK'] <= 2


def test_a_check_without_an_answer_fails_after_its_timeout(sentinel, origin):
    def late(_server, wire):
        while True:
            wire.read_request()
            time.sleep(0.5)
            wire.send(response(b''))

    def proxy(slow, timeout):
        return sentinel(slow, upstream='health-check {\n    type "http"\n    interval 10s\n'
                        f'    timeout {timeout}\n    unhealthy-threshold 1\n}}\n')
    first, second = origin([late]), origin([late])
    hasty, patient = proxy(first, '100ms'), proxy(second, '9s')
    assert not is_up(hasty, first) and is_up(patient, second)


def test_thresholds_count_the_checks_in_a_row(sentinel, origin):
    counted = Counted('503 Sick')
    endpoint = origin([counted])
    proxy = sentinel(endpoint, upstream='''
health-check {
    type "http"
    interval 100ms
    healthy-threshold 9
    unhealthy-threshold 7
}
''')
    wait_for(lambda: not is_up(proxy, endpoint), 10, 'the endpoint out')
    assert counted.count['503 Sick'] >= 7
    counted.status = '200 OK'
    wait_for(lambda: is_up(proxy, endpoint), 10, 'the endpoint back')
    assert counted.count['200 OK'] >= 9
