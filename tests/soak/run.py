#!/usr/bin/python3
"""Soaks a release build: run.py SENTINEL [--minutes N] [--connections N] [--secure N]
                                    [--workers N] [--record]

Holds the connections open, some idle, some busy, `secure` ones of TLS among them, beside mixed traffic
over HTTP/1.1 and HTTP/2, plain and with TLS: large bodies both ways, slow readers, big heads, half
handshakes, floods of errors; clients that go away, origins that reset, truncate and lie, and workers
that are killed. Then it holds what the system says of memory and descriptors against
the figure of `sentinel check`, and the clients' counts against the access log and the metrics.
Ends with PASS or FAIL; every line of a FAIL says what was expected. --record rewrites the result
in docs/dev/SOAK.md.
"""
import argparse
import collections
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'blackbox'))

from harness.certificates import Authority  # noqa: E402
from harness.waiting import free_ports, wait_for  # noqa: E402

RECORD = HERE.parents[1] / 'docs/dev/SOAK.md'
MIB = 1024 * 1024
RSS_MAX = 150 * MIB         # of all processes, with 11,000 connections under load, 1,000 with TLS
IDLE_CONNECTION_MAX = 512   # bytes of user space
IDLE_SECURE_MAX = 16 * 1024  # the same with TLS
GROWTH_MAX = 8 * MIB        # from the second third of the time to the last
KILL_SECONDS = 15
ROUTES = {'warm': 'warm', 'crowd': 'crowd', 'small': 'small', 'pipelined': 'pipelined', 'large': 'large',
          'slow': 'slow', 'chunked': 'chunked', 'upload': 'upload', 'big-head': 'big-head',
          'aborted': 'aborted', 'fault': 'reset truncated broken silent', 'tls': 'tls', 'h2': 'h2',
          'sealed': 'sealed'}
CONNECTION = re.compile('tls_|http2_')  # reasons of records that are of no request
SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Failures(list):
    def expect(self, holds, text):
        print(('  ok    ' if holds else '  FAIL  ') + text, flush=True)
        if not holds:
            self.append(text)


def certificates(folder):
    authority = Authority(folder / 'pki')
    authority.issue('soak', 'soak.test')
    authority.issue('origin', 'IP:127.0.0.1')
    return authority


def configuration(folder, ports, authority, options):
    """The promised sample's size, with routes that tell the kinds of traffic apart."""
    routes = ''.join(
        f'route "{name}" {{\n    match path-prefix=' +
        (f'"/{prefixes}"' if ' ' not in prefixes else '"/unused"') + '\n' +
        ('' if ' ' not in prefixes else ''.join(f'    match path-prefix="/{one}"\n'
                                                for one in prefixes.split())) +
        f'    upstream "{"sealed" if name == "sealed" else "origin"}"\n}}\n'
        for name, prefixes in ROUTES.items())
    path = folder / 'soak.kdl'
    path.write_text(f'''server {{
    workers {options.workers}
    max-connections 13000
    memory-budget "2GiB"
    pid-file "{folder}/soak.pid"
    admin {{ address "127.0.0.1:{ports[1]}"; }}
    timeouts {{ request-head 5s; response-write-idle 10s; }}
}}
listener "soak" {{ address "127.0.0.1:{ports[0]}"; h2c true; }}
listener "secure" {{
    address "127.0.0.1:{ports[3]}"
    protocol "https"
    tls {{ certificate "{authority.folder}/soak.pem" key="{authority.folder}/soak.key"; }}
}}
upstream "origin" {{
    target "127.0.0.1:{ports[2]}"
    health-check {{ type "tcp"; interval 2s; timeout 1s; }}
}}
upstream "sealed" {{
    target "127.0.0.1:{ports[4]}"
    tls {{ ca "{authority.ca}"; }}
}}
observability {{ access-log "{folder}/access.log"; }}
{routes}''')
    return path


def field_of(path, name):
    """A figure of a /proc file, in bytes; 0 when the process has ended."""
    try:
        match = re.search(rf'^{name}:\s+(\d+) kB', Path(path).read_text(), re.M)
        return int(match[1]) * 1024 if match else 0
    except OSError:
        return 0


def descriptors_of(pid):
    try:
        return len(os.listdir(f'/proc/{pid}/fd'))
    except OSError:
        return 0


class Proxy:
    def __init__(self, binary, path, admin):
        self.admin = admin
        self.log = open(path.with_suffix('.err'), 'wb')
        self.process = subprocess.Popen([binary, 'run', '--control-socket', 'off', '--config', path],
                                        stderr=self.log, stdin=subprocess.DEVNULL)
        wait_for(self.is_ready, 20, 'the proxy')

    def get(self, target):
        with urllib.request.urlopen(f'http://127.0.0.1:{self.admin}{target}', timeout=10) as answer:
            return answer.read().decode()

    def is_ready(self):
        assert self.process.poll() is None, 'the proxy has ended'
        try:
            return bool(self.get('/ready'))
        except OSError:
            return False

    def metrics(self):
        """{(name, labels as a frozenset of pairs): value}"""
        found = {}
        for line in self.get('/metrics').split('\n'):
            match = SAMPLE.match(line)
            if match and not line.startswith('#'):
                labels = frozenset(LABEL.findall(match[2] or ''))
                found[match[1], labels] = float(match[3])
        return found

    def total(self, name):
        return sum(value for (found, _), value in self.metrics().items() if found == name)

    def pids(self):
        children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(self.process.pid)],
                                  capture_output=True, text=True).stdout.split()
        return [self.process.pid, *map(int, children)]

    def workers(self):
        found = []
        for pid in self.pids():
            try:
                title = Path(f'/proc/{pid}/cmdline').read_bytes()
            except OSError:
                continue
            if title.startswith(b'sentinel: worker'):
                found.append(pid)
        return found

    def sample(self):
        """RSS and PSS of all processes, their own memory, the descriptors of all."""
        pids = self.pids()
        return {'rss': sum(field_of(f'/proc/{pid}/status', 'VmRSS') for pid in pids),
                'pss': sum(field_of(f'/proc/{pid}/smaps_rollup', 'Pss') for pid in pids),
                'own': sum(field_of(f'/proc/{pid}/smaps_rollup', 'Pss_Anon') +
                           field_of(f'/proc/{pid}/smaps_rollup', 'Pss_Shmem')
                           for pid in self.workers()),
                'descriptors': sum(map(descriptors_of, pids))}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.log.close()
        return status


class Clients:
    def __init__(self, ports, authority, options, faults):
        numbers = (*ports, options.connections, options.secure, int(faults))
        self.process = subprocess.Popen(
            [sys.executable, HERE / 'clients.py', *map(str, numbers), authority.ca],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == f'open {options.connections}\n'

    def secure(self, count):
        self.say('secure')
        assert self.process.stdout.readline() == f'open {count}\n'

    def load(self):
        self.say('load')
        assert self.process.stdout.readline() == 'loaded\n'

    def say(self, word):
        self.process.stdin.write(word + '\n')
        self.process.stdin.flush()

    def stop(self):
        self.say('stop')
        return json.loads(self.process.stdout.readline())


def warm_up(port):
    """A few requests of each worker, so that its first pages are no connection's."""
    for _ in range(200):
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/warm/', timeout=10) as answer:
            answer.read()


def figure_of(binary, path):
    """The total of `sentinel check`, in bytes, and its whole text."""
    text = subprocess.run([binary, 'check', '--config', path], capture_output=True, text=True,
                          check=True).stdout
    number, unit = re.search(r'^  total +([\d.]+) (\w+)$', text, re.M).groups()
    return float(number) * {'KiB': 1024, 'MiB': MIB, 'GiB': 1024 * MIB}[unit], text


def watch(proxy, until, kill_every):
    """Samples once a second, and kills a worker now and then."""
    samples, kills = [], 0
    killed = time.monotonic()
    while time.monotonic() < until:
        time.sleep(1)
        samples.append(proxy.sample())
        if kill_every and time.monotonic() - killed > kill_every:
            victims = proxy.workers()
            if victims:
                os.kill(victims[kills % len(victims)], signal.SIGKILL)
                kills += 1
            killed = time.monotonic()
    return samples, kills


def mean(values):
    values = list(values)
    return sum(values) / max(len(values), 1)


def records_in(path):
    """{route: {status: count}}; a status of None is an exchange without an answer."""
    found = collections.defaultdict(collections.Counter)
    with open(path, encoding='utf-8') as file:
        for line in file:
            record = json.loads(line)
            if record['method'] or not CONNECTION.match(record['reason'] or ''):
                found[record['route'] or 'none'][record['status']] += 1
    return found


def requests_in(metrics):
    found = collections.defaultdict(collections.Counter)
    for (name, labels), value in metrics.items():
        if name == 'sentinel_requests_total':
            labels = dict(labels)
            status = int(labels['status']) if labels['status'].isdigit() else None
            found[labels['route']][status] += int(value)
    return found


def compare(failures, told, records, counted, kills):
    """The clients' counts, the log's and the metrics', route by route.

    A worker that is killed may have sent an answer and not yet recorded it: one each.
    """
    unrecorded = 0
    in_log = sum(sum(one.values()) for one in records.values())
    in_metrics = sum(sum(one.values()) for one in counted.values())
    failures.expect(abs(in_log - in_metrics) <= kills,
                    f'{in_log} records, {in_metrics} requests counted, {kills} workers killed')
    for route, one in sorted(told.items()):
        answers = {int(status): count for status, count in one['answers'].items()}
        logged = records[route]
        unrecorded += sum(max(0, count - logged[status]) for status, count in answers.items())
        bounded = route == 'none' or sum(logged.values()) <= one['begun']
        failures.expect(bounded and unrecorded <= kills,
                        f'{route}: {one["begun"]} begun, {sum(answers.values())} answered, '
                        f'{sum(logged.values())} recorded')


def soak(options, folder, failures):
    ports = free_ports(5)
    authority = certificates(folder)
    path = configuration(folder, ports, authority, options)
    figure, table = figure_of(options.binary, path)
    origin = subprocess.Popen(
        [sys.executable, HERE / 'origin.py', str(ports[2]), str(ports[4]),
         authority.folder / 'origin.pem', authority.folder / 'origin.key'],
        stdout=subprocess.PIPE, text=True)
    clients = proxy = None
    result = {'figure': figure}
    try:
        assert origin.stdout.readline() == 'ready\n'
        proxy = Proxy(options.binary, path, ports[1])
        warm_up(ports[0])
        before = proxy.sample()
        clients = Clients((ports[0], ports[3]), authority, options, faults=True)
        wait_for(lambda: proxy.total('sentinel_connections') >= options.connections, 30, 'all')
        idle = proxy.sample()
        result['idle'] = (idle['own'] - before['own']) / options.connections
        clients.secure(options.secure)
        wait_for(lambda: proxy.total('sentinel_connections') >= options.connections +
                 options.secure, 30, 'all with TLS')
        result['secure'] = (proxy.sample()['own'] - idle['own']) / max(options.secure, 1)
        print(f'{options.connections} connections are open, and {options.secure} with TLS', flush=True)
        clients.load()
        started = time.monotonic()
        seconds = options.minutes * 60
        calm, _ = watch(proxy, started + seconds / 3, None)
        rough, kills = watch(proxy, started + seconds, KILL_SECONDS)
        told = clients.stop()
        wait_for(lambda: proxy.total('sentinel_connections') <= 0, 60, 'the last client to leave')
        wait_for(lambda: proxy.total('sentinel_requests_in_flight') == 0, 60, 'the last request')
        wait_for(lambda: proxy.sample()['descriptors'] <= before['descriptors'] + 8, 60,
                 'the last descriptor')
        after = proxy.sample()
        metrics = proxy.metrics()
        status = proxy.stop()
        proxy = None
    finally:
        for process in (clients and clients.process, origin, proxy and proxy.process):
            if process and process.poll() is None:
                process.kill()
                process.wait()
    result.update(judge(options, failures, result, before, after, calm, rough))
    counted = requests_in(metrics)
    lost = sum(value for (name, _), value in metrics.items()
               if name in ('sentinel_access_log_dropped_total', 'sentinel_access_log_lost_total'))
    failures.expect(lost == 0, f'{lost:.0f} records dropped or lost')
    failures.expect(not told['complaints'], f'{len(told["complaints"])} breaches of HTTP/2 by Sentinel'
                    + ''.join(told['complaints'][:3]))
    compare(failures, told['routes'], records_in(folder / 'access.log'), counted, kills)
    failures.expect(status == 0, f'the proxy ended with {status}')
    assertions = re.findall(r'.*assertion failed.*', path.with_suffix('.err').read_text())
    failures.expect(not assertions, f'no assertion failed{": " if assertions else ""}' +
                    ' '.join(assertions[:3]))
    result.update(kills=kills, requests=sum(sum(one.values()) for one in counted.values()),
                  table=table)
    return result


def judge(options, failures, result, before, after, calm, rough):
    """Memory and descriptors."""
    everything = calm + rough
    peak = max(one['rss'] for one in everything)
    pss = max(one['pss'] for one in everything)
    half = len(rough) // 2
    growth = mean(one['pss'] for one in rough[half:]) - mean(one['pss'] for one in rough[:half])
    most = max(one['descriptors'] for one in everything)
    failures.expect(result['idle'] < IDLE_CONNECTION_MAX,
                    f'{result["idle"]:.0f} bytes of user space per idle connection, below '
                    f'{IDLE_CONNECTION_MAX}')
    failures.expect(result['secure'] < IDLE_SECURE_MAX,
                    f'{result["secure"]:.0f} bytes per idle connection of TLS, below '
                    f'{IDLE_SECURE_MAX}')
    failures.expect(peak < result['figure'],
                    f'RSS of all processes at most {peak / MIB:.1f} MiB, below the figure of '
                    f'{result["figure"] / MIB:.0f} MiB')
    failures.expect(peak < RSS_MAX, f'RSS of all processes at most {peak / MIB:.1f} MiB, below '
                    f'{RSS_MAX / MIB:.0f} MiB (shared pages once: {pss / MIB:.1f} MiB)')
    failures.expect(growth < GROWTH_MAX, f'memory grew by {growth / MIB:.1f} MiB from one half of '
                    f'the time with faults to the other, below {GROWTH_MAX / MIB:.0f} MiB')
    failures.expect(after['descriptors'] <= before['descriptors'] + 8,
                    f'{before["descriptors"]} descriptors before, at most {most}, '
                    f'{after["descriptors"]} after')
    return {'peak': peak, 'pss': pss, 'growth': growth}


def record(options, result):
    text = f'''# The last soak

`make soak MINUTES={options.minutes:g}`, written by it. What it does stands in `tests/soak/run.py`.

- {result['requests']} requests over {options.connections} connections held open, {options.secure}
  more of TLS and the rest of the mix (HTTP/1.1 and HTTP/2, plain and with TLS on both sides),
  {options.workers} workers, {result['kills']} of them killed: every answer that a client
  saw has its record, the log and the metrics count the same, no record was dropped.
- RSS of all processes at most {result['peak'] / MIB:.1f} MiB (shared pages once:
  {result['pss'] / MIB:.1f} MiB); the figure of `sentinel check` was
  {result['figure'] / MIB:.0f} MiB.
- {result['idle']:.0f} bytes of user space per idle connection, {result['secure']:.0f} per idle one
  of TLS ({options.secure} of them).
- {result['growth'] / MIB:+.1f} MiB from one half of the time with faults to the other.
'''
    RECORD.write_text(text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('binary')
    parser.add_argument('--minutes', type=float, default=10)
    parser.add_argument('--connections', type=int, default=10000)
    parser.add_argument('--secure', type=int, default=1000)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--record', action='store_true')
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    needed = options.connections + options.secure + 1000
    if hard < needed:
        print(f'FAIL: {needed} descriptors are needed, the hard limit is {hard} (ulimit -Hn)')
        return 1
    failures = Failures()
    with tempfile.TemporaryDirectory(prefix='sentinel-soak-') as folder:
        os.chmod(folder, 0o755)
        result = soak(options, Path(folder), failures)
    if failures:
        print(f'FAIL: {len(failures)} expectations')
        return 1
    print(f'PASS: {result["requests"]} requests in {options.minutes:g} minutes')
    if options.record:
        record(options, result)
    return 0


if __name__ == '__main__':
    sys.exit(main())
