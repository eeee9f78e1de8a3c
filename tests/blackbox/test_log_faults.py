"""An access log whose output fails, and requests that never became one: nobody else suffers."""
import json
import os
import signal

import pytest

from harness.origins import hold, read_request, read_to_end, response
from harness.processes import of_role
from harness.waiting import free_ports, wait_for
from harness.wire import Closed, connect, request_bytes

LONG = '/' + 'x' * 3500  # a record of more than 3 KiB: some hundred fill a ring


def send(proxy, count, target=LONG):
    """So many requests on one connection, all of them answered well."""
    with proxy.connect() as client:
        for _ in range(count):
            client.send(request_bytes(target))
            assert client.read_response().status == 200


def fill_ring(proxy):
    """Requests until a worker has no room for their records."""
    for _ in range(40):
        send(proxy, 50)
        if proxy.metric('sentinel_access_log_dropped_total') > 0:
            return
    raise AssertionError('no record was dropped')


def assert_counts_agree(proxy, lines=None):
    """Requests are records, sampled out or dropped; what was recorded is on the output."""
    def counts():
        values = {name: proxy.metric(f'sentinel_{name}_total') for name in (
            'requests', 'access_log_records', 'access_log_sampled', 'access_log_dropped')}
        parts = sum(value for name, value in values.items() if name != 'requests')
        return values if values['requests'] == parts else None
    values = wait_for(counts, 10, 'counts that agree')
    assert lines is None or values['access_log_records'] == lines


@pytest.fixture
def unlimited():
    return {'limits': 'requests-per-connection 100000\nhead-size "16KiB"'}


class Fifo:
    """A log file that is a pipe, so that its reader can be slow, go away and come back."""

    def __init__(self, folder):
        folder.chmod(0o777)
        for parent in folder.parents:
            if parent.name.startswith('pytest'):
                parent.chmod(0o755)
        self.path = folder / 'access.fifo'
        os.mkfifo(self.path)
        self.path.chmod(0o666)
        self.data = b''
        self.open()

    def open(self):
        self.reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def close(self):
        os.close(self.reader)

    def read(self):
        """All lines so far, each of them whole."""
        while True:
            try:
                piece = os.read(self.reader, 65536)
            except BlockingIOError:
                break
            if not piece:
                break
            self.data += piece
        return [json.loads(line) for line in self.data.split(b'\n')[:-1]]


@pytest.fixture
def fifo(tmp_path):
    made = Fifo(tmp_path)
    yield made
    made.close()


def test_a_full_disk_costs_records_and_nothing_else(sentinel, echo, unlimited):
    proxy = sentinel(echo, observability='access-log "/dev/full"', **unlimited)
    fill_ring(proxy)
    send(proxy, 20)
    assert_counts_agree(proxy)
    wait_for(lambda: 'records lost' in proxy.stderr(), 10, 'the loss told')
    assert proxy.stderr().count('cannot write: No space left on device') == 1
    assert proxy.stderr().count('records lost, ') == 1


def test_a_stuck_reader_of_the_log_costs_records_and_tears_no_line(sentinel, echo, fifo, unlimited):
    proxy = sentinel(echo, observability=f'access-log "{fifo.path}"', **unlimited)
    fill_ring(proxy)
    wait_for(lambda: 'records lost' in proxy.stderr(), 10, 'the loss told')
    used = 'sentinel_limit_utilization_ratio'
    wait_for(lambda: proxy.metric(used, limit='access-log') > 0.9, 10, 'the full ring')
    written = proxy.metric('sentinel_access_log_records_total')
    wait_for(lambda: len(fifo.read()) == written, 20, 'all that was not dropped')
    send(proxy, 1, '/afterwards')
    wait_for(lambda: fifo.read()[-1]['path'] == '/afterwards', 10, 'the log to go on')
    wait_for(lambda: proxy.metric(used, limit='access-log') < 0.1, 10, 'room in the ring')
    assert_counts_agree(proxy, len(fifo.read()))


def test_a_reader_of_the_log_may_go_and_come_back(sentinel, echo, fifo, unlimited):
    proxy = sentinel(echo, observability=f'access-log "{fifo.path}"', **unlimited)
    send(proxy, 1, '/before')
    wait_for(lambda: len(fifo.read()) == 1, 10, 'the first record')
    fifo.close()
    send(proxy, 30)
    wait_for(lambda: 'cannot write: Broken pipe' in proxy.stderr(), 10, 'the trouble told')
    fifo.open()
    wait_for(lambda: len(fifo.read()) == 31, 10, 'what the ring held')
    wait_for(lambda: 'writes again' in proxy.stderr(), 10, 'the end of the trouble told')
    assert_counts_agree(proxy, 31)


def test_requests_that_come_at_once_have_one_record_each(sentinel, origin):
    """The worker sleeps while they come, so that they are all there at the same moment."""
    server = origin([read_request, hold, response(b'ok')])
    proxy = sentinel(server, server='workers 1', limits='max-requests 1')
    clients = [proxy.connect() for _ in range(100)]
    worker = of_role(proxy, 'worker')[0]
    os.kill(worker, signal.SIGSTOP)
    for client in clients:
        client.send(request_bytes())
    os.kill(worker, signal.SIGCONT)
    server.wait_requests(1)
    server.release()
    answers = []
    for client in clients:
        try:
            answers.append(client.read_response().status)
        except (Closed, OSError):
            answers.append(None)
        client.close()
    assert answers.count(200) == 1
    outcomes = [(record['status'], record['reason']) for record in proxy.log_records(100)]
    assert sorted(map(str, answers)) == sorted(str(status) for status, _ in outcomes)
    assert {reason for status, reason in outcomes if status != 200} == {'requests_full'}
    assert_counts_agree(proxy, 100)


def test_a_crowd_of_refused_connections_leaves_a_record_of_each(sentinel, origin):
    """Whether there was a place from which to answer 503 or not."""
    server = origin([read_request, hold, response(b'ok'), read_to_end])
    ports = free_ports(10)
    listeners = '\n'.join(f'listener "l{port}" {{\n address "127.0.0.1:{port}"\n}}'
                          for port in ports)
    proxy = sentinel(server, server='workers 1\nmax-connections 1', extra=listeners)
    with proxy.connect() as first:
        first.send(request_bytes())
        server.wait_requests(1)
        worker = of_role(proxy, 'worker')[0]
        os.kill(worker, signal.SIGSTOP)
        clients = [connect(port) for port in ports for _ in range(8)]
        os.kill(worker, signal.SIGCONT)
        records = proxy.log_records(80)
        server.release()
        assert first.read_response().status == 200
    for client in clients:
        client.close()
    assert all(record['reason'] == 'connections_full' for record in records)
    assert all(record['status'] in (503, None) and record['request_id'] and
               record['client'] == '127.0.0.1' for record in records)
    assert_counts_agree(proxy, 81)


def test_a_head_that_the_drain_cuts_off_has_a_record(sentinel, echo):
    proxy = sentinel(echo, server='graceful-shutdown-timeout 100ms')
    with proxy.connect() as client:
        client.send(b'GET / HTTP/1.1\r\nHost:')
        wait_for(lambda: proxy.metric('sentinel_client_received_bytes_total') >= 21, 10, 'the head')
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
    record = proxy.log_record()
    assert (record['status'], record['reason']) == (None, 'draining')
