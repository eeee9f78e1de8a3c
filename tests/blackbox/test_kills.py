"""Processes die under load: nobody is refused or waits long, nothing is lost but what was in hand."""
import os
import random
import re
import signal
import threading
import time

from harness.origins import hold, read_request, response
from harness.processes import is_alive, of_role
from harness.waiting import wait_for
from harness.wire import Closed, request_bytes

KILLS = 100
CLIENTS = 6
STALL_SECONDS = 5  # what a client may wait in the worst case: a restart takes up to two


class Client:
    """Asks on and on, each time on a new connection, then sometimes again on the same one."""

    def __init__(self, proxy, name):
        self.proxy = proxy
        self.name = name
        self.answered = []
        self.broken = 0   # connections that ended in the middle of an exchange
        self.refused = 0  # connections that could not be made
        self.others = []
        self.longest = 0.0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        number = 0
        while not self.ending.is_set():
            try:
                wire = self.proxy.connect()
            except OSError:
                self.refused += 1
                continue
            with wire:
                for _ in range(1 + number % 3):
                    number += 1
                    if not self.ask(wire, f'/{self.name}/{number}'):
                        break

    def ask(self, wire, target):
        start = time.monotonic()
        try:
            wire.send(request_bytes(target))
            status = wire.read_response().status
        except (Closed, OSError):
            self.broken += 1
            return False
        finally:
            self.longest = max(self.longest, time.monotonic() - start)
        if status == 200:
            self.answered.append(target)
        else:
            self.others.append(status)
        return True

    def stop(self):
        self.ending.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


def kill_one(proxy, dice, number):
    """Kills somebody while another worker serves; tells which role it was."""
    helper = number % 10 == 9
    role = dice.choice(['controller', 'logger']) if helper else 'worker'
    needed = 1 if helper else 2
    victims = wait_for(lambda: (found := of_role(proxy, role)) and len(found) >= needed and found,
                       20, f'{role}s to kill')
    victim = dice.choice(victims)
    os.kill(victim, dice.choice([signal.SIGKILL, signal.SIGABRT]))
    wait_for(lambda: not is_alive(victim), 10, f'the end of a {role}')
    if helper:
        wait_for(lambda: of_role(proxy, role) not in ([], [victim]), 10, f'another {role}')
    return role


def recorded(proxy):
    return [record['path'] for record in proxy.records()]


def test_a_hundred_kills_under_load(sentinel, echo):
    proxy = sentinel(echo, server='workers 4')
    dice = random.Random(7)
    clients = [Client(proxy, f'client-{i}') for i in range(CLIENTS)]
    roles = [kill_one(proxy, dice, number) for number in range(KILLS)]
    wait_for(lambda: [len(of_role(proxy, role)) for role in ('worker', 'controller', 'logger')] ==
             [4, 1, 1], 20, 'everybody back')
    for client in clients:
        client.stop()
    worker_kills = roles.count('worker')
    answered = [target for client in clients for target in client.answered]
    broken = sum(client.broken for client in clients)
    assert [client.refused for client in clients] == [0] * CLIENTS
    assert [status for client in clients for status in client.others] == []
    assert max(client.longest for client in clients) < STALL_SECONDS
    assert len(answered) > KILLS and broken <= worker_kills * CLIENTS
    assert not any(len(client.answered) == 0 for client in clients)
    # What had been sent and was not yet counted or recorded died with its worker: some at most.
    wait_for(lambda: len(set(answered) - set(recorded(proxy))) <= worker_kills, 20, 'the records')
    wait_for(lambda: ready(proxy), 20, 'readiness')
    total = proxy.metric('sentinel_requests_total', route='all', status='200')
    assert len(answered) - worker_kills <= total <= len(answered) + broken
    assert proxy.metric('sentinel_workers') == 4
    assert proxy.metric('sentinel_requests_in_flight') == 0
    told = re.findall(r'was ended by SIG(KILL|ABRT); starting it anew', proxy.stderr())
    assert len(told) == KILLS


def ready(proxy):
    try:
        return proxy.admin('/ready').status == 200
    except (OSError, Closed):
        return False


def test_records_outlive_a_worker_and_a_logger_that_die_together(sentinel, echo):
    proxy = sentinel(echo, server='workers 1')
    logger, = of_role(proxy, 'logger')
    os.kill(logger, signal.SIGSTOP)
    for number in range(20):
        assert proxy.request(f'/{number}').status == 200
    for _ in range(2):  # two rings of one worker's place, neither of them read
        worker, = of_role(proxy, 'worker')
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: of_role(proxy, 'worker') not in ([], [worker]), 10, 'another worker')
        assert proxy.request('/after').status == 200
    os.kill(logger, signal.SIGKILL)
    wanted = sorted([f'/{number}' for number in range(20)] + ['/after'] * 2)
    wait_for(lambda: sorted(recorded(proxy)) == wanted, 20, 'all records, once each')


def test_while_one_worker_hangs_nobody_waits_for_it(sentinel, echo):
    proxy = sentinel(echo, server='workers 2')
    victim = of_role(proxy, 'worker')[0]
    os.kill(victim, signal.SIGSTOP)
    served = 0
    while is_alive(victim):  # until the watchdog has had enough
        assert proxy.request(f'/{served}').status == 200
        served += 1
    assert served > 5
    name = re.search(r'worker (\d) has not turned for \d+ ms; aborting it', proxy.stderr())
    assert name, proxy.stderr()
    wait_for(lambda: len(of_role(proxy, 'worker')) == 2, 10, 'the new worker')


def owner_of(proxy, wire):
    """The worker that holds the other end of a client's connection, and the other worker."""
    local, remote = wire.sock.getsockname()[1], wire.sock.getpeername()[1]
    with open('/proc/net/tcp') as file:
        rows = [line.split() for line in file]
    inode, = [row[9] for row in rows
              if row[1].endswith(f':{remote:04X}') and row[2].endswith(f':{local:04X}')]
    workers = of_role(proxy, 'worker')
    owners = [pid for pid in workers if holds(pid, f'socket:[{inode}]')]
    assert len(owners) == 1 and len(workers) == 2, (inode, owners, workers)
    return owners[0], next(pid for pid in workers if pid != owners[0])


def holds(pid, target):
    folder = f'/proc/{pid}/fd'
    for name in os.listdir(folder):
        try:
            if os.readlink(f'{folder}/{name}') == target:
                return True
        except FileNotFoundError:
            continue
    return False


def test_an_exchange_in_flight_dies_only_with_its_own_worker(sentinel, origin):
    server = origin([read_request, hold, response(b'finished')])
    proxy = sentinel(server, server='workers 2', policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes('/held'))
        server.wait_requests(1)
        _, other = owner_of(proxy, client)
        os.kill(other, signal.SIGKILL)
        wait_for(lambda: other not in of_role(proxy, 'worker') and len(of_role(proxy, 'worker')) == 2,
                 10, 'the new worker')
        server.release()
        assert client.read_response().body == b'finished'
        owner, _ = owner_of(proxy, client)
        os.kill(owner, signal.SIGKILL)
        assert client.ended(10)
