"""The rows of the tables, by group: what is asked of every proxy, and how it is measured."""
import statistics
from dataclasses import dataclass

from clients import h2load, load
from machine import Failure
from proxies import RIVALS, Setup

GROUPS = ('http', 'tls', 'h2')
PLAIN = Setup()
TLS = Setup(tls=True)
RESUMED = Setup(tls=True, tickets=True)


@dataclass(frozen=True)
class Row:
    """One kind of request. `shape` is what load or h2load of clients.py are told."""
    group: str
    title: str
    shape: tuple
    setup: Setup = PLAIN
    requests: int = 0  # of h2load, in a second that a run may take

    def run(self, proxy, milliseconds):
        if self.requests > 0:
            return h2load(proxy, self.shape, self.requests * milliseconds // 1000)
        return load(proxy, self.shape, milliseconds)


ROWS = (
    Row('http', '1 KiB, 64 connections', ('/1k', 64, 'keep', 'plain')),
    Row('http', '1 KiB, 512 connections', ('/1k', 512, 'keep', 'plain')),
    Row('http', '64 KiB, 64 connections', ('/64k', 64, 'keep', 'plain')),
    Row('http', '1 MiB, 16 connections', ('/1m', 16, 'keep', 'plain')),
    Row('http', '1 KiB, new connection each', ('/1k', 64, 'close', 'plain')),
    Row('http', '1 KiB, 64 connections, access log', ('/1k', 64, 'keep', 'plain'), Setup(log=True)),
    Row('tls', 'TLS: full handshake and 1 KiB', ('/1k', 16, 'close', 'tls'), TLS),
    Row('tls', 'TLS: resumed handshake and 1 KiB', ('/1k', 16, 'close', 'resumed'), RESUMED),
    Row('tls', 'TLS: 1 KiB, 64 connections', ('/1k', 64, 'keep', 'tls'), TLS),
    Row('tls', 'TLS: 1 MiB, 16 connections', ('/1m', 16, 'keep', 'tls'), TLS),
    Row('h2', 'HTTP/2: 1 KiB, 16 connections of 1 stream', ('/1k', 16, 1), TLS, 20000),
    Row('h2', 'HTTP/2: 1 KiB, 4 connections of 100 streams', ('/1k', 4, 100), TLS, 30000),
)


def table(head, rows):
    lines = ['| ' + ' | '.join(head) + ' |', '| ' + ' | '.join('---' for _ in head) + ' |']
    return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in rows])


def show_cost(name, samples, medians):
    ratios = ''.join(f', {medians[name] / medians[rival]:.2f} x {rival}'
                     for rival in RIVALS if rival in medians and rival != name)
    return f'{medians[name]:.1f} ({min(samples):.1f} to {max(samples):.1f}{ratios})'


def measure_cost(proxies, row, rounds, milliseconds):
    """One row: every proxy in turn, again and again, so that all see the same disturbances."""
    able = [one for one in proxies if one.can(row.setup)]
    samples = {one.name: [] for one in able}
    for one in able:
        one.start(row.setup)
        row.run(one, max(250, milliseconds // 2))  # warms pools and caches
    for _ in range(rounds):
        for one in able:
            run = row.run(one, milliseconds)
            samples[one.name].append(run.cpu / 1000 / run.requests)
    for one in able:
        one.stop()
        if row.setup.log != (one.log_path().stat().st_size > 0):
            raise Failure(f'{one.name}: the access log is {"empty" if row.setup.log else "on"}')
    medians = {name: statistics.median(values) for name, values in samples.items()}
    return [row.title] + [show_cost(one.name, samples[one.name], medians)
                          if one.name in samples else '-' for one in proxies]


def measure_latency(proxies, milliseconds):
    """The same rate for all: half of what the slowest can do."""
    shape = ('/1k', 64, 'keep', 'plain')
    rates = {}
    for one in proxies:
        one.start()
        run = load(one, shape, milliseconds)
        rates[one.name] = run.requests / run.seconds
    rate = int(min(rates.values()) / 2)
    rows = [['most requests a second'] + [f'{rates[one.name]:,.0f}' for one in proxies],
            [f'p50 at {rate:,} requests a second'], ['p99']]
    for one in proxies:
        run = load(one, shape, milliseconds, rate)
        rows[1].append(f'{run.p50} us')
        rows[2].append(f'{run.p99} us')
        one.stop()
    return rows


def idle_memory(one, count, setup):
    """Resident memory of one proxy with so many idle connections, each after one request."""
    security = 'tls' if setup.tls else 'plain'
    one.start(setup)
    few = load(one, ('/1k', 64, 'keep', security), 200)
    many = load(one, ('/1k', count, 'keep', security), 0)
    one.stop()
    return f'{many.memory / 2**20:.1f} MiB ({(many.memory - few.memory) / (count - 64):,.0f} B each)'


def measure_idle(proxies, count, setup):
    kind = 'idle TLS connections' if setup.tls else 'idle connections'
    return [f'RSS with {count:,} {kind}'] + [
        idle_memory(one, count, setup) if one.can(setup) else '-' for one in proxies]
