"""Several workers keep one promise: limits on connections are those of all of them together."""
import contextlib
import os
import signal

import pytest

from harness.checks import assert_own_answer
from harness.waiting import wait_for
from harness.wire import Closed

WORKERS = 4
OVERSHOOT = WORKERS - 1  # those who count at the same moment do not see each other
HALF_A_HEAD = b'GET / HTTP/1.1\r\nHost: a\r\n'


def accepted(proxy):
    return proxy.metric('sentinel_connections_accepted_total')


def connected(proxy):
    return proxy.metric('sentinel_connections', listener='http')


@pytest.fixture
def crowd():
    """crowd(proxy, count, source): so many connections at once, by the status they are given.

    Those with 200 were all open at the same time, before the first was answered.
    """
    opened = []

    def start(proxy, count, source):
        before = accepted(proxy)
        clients = [proxy.connect(source=source, seconds=20) for _ in range(count)]
        opened.extend(clients)
        for client in clients:
            client.send(HALF_A_HEAD)
        wait_for(lambda: accepted(proxy) - before >= count, 10, 'everyone')
        found = {}
        for client in clients:
            with contextlib.suppress(OSError):  # refused, answered, and not lingered for
                client.send(b'\r\n')
        for client in clients:
            answer = client.read_response()
            found.setdefault(answer.status, []).append((client, answer))
        return found
    yield start
    for client in opened:
        client.close()


def count(found):
    return {status: len(clients) for status, clients in found.items()}


def leave(clients):
    for client, _ in clients:
        client.close()


def worker_pids(proxy):
    found = []
    for pid in proxy.children():
        with open(f'/proc/{pid}/cmdline') as file:
            if ' worker ' in file.read():
                found.append(pid)
    return found


def sockets_of(pid):
    links = [os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')]
    return sum(link.startswith('socket:') for link in links)


def status_of_one(proxy, source):
    try:
        return proxy.request(source=source).status
    except (Closed, ConnectionError):
        return None


def test_a_clients_connections_are_counted_over_all_workers(sentinel, echo, crowd):
    proxy = sentinel(echo, server=f'workers {WORKERS}', limits='connections-per-client 8')
    found = crowd(proxy, 40, '127.0.0.5')
    assert set(found) == {200, 429}, count(found)
    assert 8 <= len(found[200]) <= 8 + OVERSHOOT, count(found)
    for _, answer in found[429]:
        assert_own_answer(answer, 429, 'client_connections')
    assert status_of_one(proxy, '127.0.0.5') == 429
    assert status_of_one(proxy, '127.0.0.6') == 200
    leave(found[200])
    wait_for(lambda: status_of_one(proxy, '127.0.0.5') == 200, 10, 'room for the client')
    wait_for(lambda: connected(proxy) == 0, 10, 'the last one to leave')
    assert count(crowd(proxy, 8, '127.0.0.5')) == {200: 8}


def test_all_connections_are_counted_over_all_workers(sentinel, echo, crowd):
    proxy = sentinel(echo, server=f'workers {WORKERS}\nmax-connections 10')
    wait_for(lambda: connected(proxy) == 0, 10, 'the first probe to leave')
    found = crowd(proxy, 40, '127.0.0.5')
    assert set(found) == {200, 503}, count(found)
    assert 10 <= len(found[200]) <= 10 + OVERSHOOT, count(found)
    for _, answer in found[503]:
        assert_own_answer(answer, 503, 'connections_full')
    leave(found[200])
    wait_for(lambda: connected(proxy) == 0, 10, 'the last one to leave')
    assert count(crowd(proxy, 10, '127.0.0.6')) == {200: 10}


def is_asleep(pid):
    with open(f'/proc/{pid}/stat') as file:
        return file.read().rsplit(')', 1)[1].split()[0] == 'S'


@contextlib.contextmanager
def stopped(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_connections_spread_when_one_worker_holds_too_many(sentinel, echo):
    proxy = sentinel(echo, server='workers 3\nmax-connections 300')
    wait_for(lambda: connected(proxy) == 0, 10, 'the first probe to leave')
    greedy, *others = worker_pids(proxy)
    empty = sockets_of(greedy)
    before = accepted(proxy)
    clients = []
    try:
        with stopped(others):
            # Who has room does not take them: nobody may wait for that.
            clients += [proxy.connect(source='127.0.0.5') for _ in range(130)]
            wait_for(lambda: accepted(proxy) - before == 130, 4, 'the one that is left')
            assert sockets_of(greedy) == empty + 130
        wait_for(lambda: all(map(is_asleep, others)), 10, 'the others')
        clients += [proxy.connect(source='127.0.0.5') for _ in range(160)]
        wait_for(lambda: accepted(proxy) - before == 290, 10, 'everyone')
        # A batch or two may have been taken when the queue was not empty for a moment.
        assert sockets_of(greedy) <= empty + 130 + 16
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize('limit, status', [('server', 503), ('limits', 429)])
def test_the_counts_of_a_killed_worker_vanish(sentinel, echo, crowd, limit, status):
    parts = {'server': 'workers 2'}
    if limit == 'server':
        parts['server'] += '\nmax-connections 20'
    else:
        parts['limits'] = 'connections-per-client 20'
    proxy = sentinel(echo, **parts)
    wait_for(lambda: connected(proxy) == 0, 10, 'the first probe to leave')
    before = accepted(proxy)
    clients = [proxy.connect(source='127.0.0.5', seconds=20) for _ in range(20)]
    for client in clients:
        client.send(HALF_A_HEAD)
    wait_for(lambda: accepted(proxy) - before == 20, 10, 'everyone')
    assert status_of_one(proxy, '127.0.0.5') == status
    pids = worker_pids(proxy)
    victim = max(pids, key=sockets_of)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in worker_pids(proxy) and len(worker_pids(proxy)) == 2, 10,
             'the new worker')
    wait_for(lambda: status_of_one(proxy, '127.0.0.5') == 200, 10, 'room again')
    wait_for(lambda: proxy.metric('sentinel_workers') == 2, 10, 'two who know of each other')
    lost = [client for client in clients if client.ended(0.2)]
    assert 10 <= len(lost) <= 20
    wait_for(lambda: connected(proxy) == 20 - len(lost), 10, 'the probes to leave')
    found = crowd(proxy, 40, '127.0.0.5')
    kept = [client for client in clients if not client.ended(0.05)]  # near a bound some are shed
    assert len(lost) <= len(found[200]) <= 20 - len(kept) + 1, \
        (len(kept), count(found), proxy.stderr())
    assert set(found) == {200, status}
    for client in clients:
        client.close()
