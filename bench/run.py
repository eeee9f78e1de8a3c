#!/usr/bin/python3
"""Measure what a request costs in processor time: Sentinel, nginx, HAProxy and a bare forwarder.

    bench/run.py [--quick] [--record] [--rounds N] [--only NAME,...] [--sentinel PATH]

The method is described in bench/README.md. --quick takes under a minute, the full run under ten;
--record appends the tables to bench/RESULTS.md. Standard library only.
"""
import argparse
import datetime
import os
import platform
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PROGRAMS = ('origin', 'forwarder', 'load')
COMPILE = ['cc', '-std=gnu17', '-O2', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror']
NAMES = ('floor', 'nginx', 'haproxy', 'sentinel')
RIVALS = ('nginx', 'haproxy')
START_SECONDS = 10
STOP_SECONDS = 5
DESCRIPTORS = 65536
CLIENTS_PER_ADDRESS = 200  # below the usual limit of connections per client

# title, path, connections, keep or close, whether an access log is written
CASES = [
    ('1 KiB, 64 connections', '/1k', 64, 'keep', False),
    ('1 KiB, 512 connections', '/1k', 512, 'keep', False),
    ('64 KiB, 64 connections', '/64k', 64, 'keep', False),
    ('1 MiB, 16 connections', '/1m', 16, 'keep', False),
    ('1 KiB, new connection each', '/1k', 64, 'close', False),
    ('1 KiB, 64 connections, access log', '/1k', 64, 'keep', True),
]

NGINX = """
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log error;
events {{ worker_connections {connections}; }}
http {{
    access_log {log};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_max_temp_file_size 0;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn {connections}
    {global_log}
defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 30s
    http-reuse always
    option forwardfor
    {log}
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    http-request set-header X-Forwarded-Proto http
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin}
"""

SENTINEL = """
server {{
    workers 1
    max-connections {connections}
    admin {{ address "off" }}
    control-socket "off"
    limits {{
        connections-per-client {connections}
        requests-per-connection 1000000000
    }}
}}
listener "http" {{ address "127.0.0.1:{port}"; }}
upstream "origin" {{ target "127.0.0.1:{origin}"; }}
route "all" {{ upstream "origin"; }}
observability {{ access-log "{log}"; }}
"""


class Failure(Exception):
    """The benchmark cannot go on, and why."""


def free_port():
    """A port below those that the kernel gives to clients, of which there will be many."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
                return port
            except OSError:
                continue
    raise Failure('no free port')


def wait_for_port(process, port, what):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Failure(f'{what} ended with {process.returncode} instead of starting')
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Failure(f'{what} does not listen after {START_SECONDS} s')


def stop(process):
    """Ends a child, politely at first. Its own children are its business, and die with it."""
    if process.poll() is not None:
        return
    tree = tree_of(process.pid)
    process.send_signal(signal.SIGTERM)  # a shell may have made SIGINT be ignored
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in tree:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.wait()


def parents():
    """pid -> parent of every process."""
    found = {}
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                text = Path(f'/proc/{entry}/stat').read_text()
            except OSError:
                continue
            found[int(entry)] = int(text[text.rindex(')') + 2:].split()[1])
    return found


def tree_of(root):
    """The process and all below it."""
    parent_of = parents()
    tree, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parent_of.items() if parent in tree} - tree
        tree |= more
        grew = bool(more)
    return sorted(tree)


def cpu_ns(pids):
    """Processor time of all their threads, in nanoseconds."""
    total = 0
    for pid in pids:
        for thread in os.listdir(f'/proc/{pid}/task'):
            total += int(Path(f'/proc/{pid}/task/{thread}/schedstat').read_text().split()[0])
    return total


def rss_bytes(pids):
    total = 0
    for pid in pids:
        found = re.search(r'VmRSS:\s+(\d+) kB', Path(f'/proc/{pid}/status').read_text())
        total += int(found[1]) * 1024 if found else 0
    return total


class Bench:
    """The folder, the programs, the origin, and which processor each process runs on."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.running = []
        cores = sorted(os.sched_getaffinity(0))
        self.proxy_core, self.other_core = cores[0], cores[1 % len(cores)]
        self.pinned = len(cores) > 1
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.files = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, hard))
        self.connections = min(10000, (self.files - 200) // 2)  # two descriptors each
        self.origin_port = 0
        os.sched_setaffinity(0, {self.other_core})
        for program in PROGRAMS:
            source = HERE / f'{program}.c'
            subprocess.run([*COMPILE, str(source), '-o', str(self.program(program))], check=True)

    def start_origin(self):
        self.origin_port = free_port()
        origin = self.start([self.program('origin'), self.origin_port], self.other_core)
        wait_for_port(origin, self.origin_port, 'the origin')

    def program(self, name):
        return self.folder / name

    def start(self, command, core, output=subprocess.DEVNULL):
        process = subprocess.Popen(['taskset', '-c', str(core), *map(str, command)],
                                   stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=open(self.folder / 'errors.log', 'ab'))
        self.running.append(process)
        return process

    def load(self, port, path, connections, mode, milliseconds, rate=0):
        """(requests, seconds, p50, p99 in microseconds) of one run of the client."""
        command = [self.program('load'), port, path, connections, milliseconds, rate, mode]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True,
                              timeout=milliseconds / 1000 + 30)
        requests, errors, elapsed, p50, p99, _ = map(int, done.stdout.split())
        if errors > 0 or requests == 0:
            raise Failure(f'{errors} of {requests + errors} requests for {path} failed')
        return requests, elapsed / 1e6, p50, p99

    def close(self):
        for process in reversed(self.running):
            stop(process)


class Competitor:
    """One proxy: how it is configured and started, with or without an access log."""

    def __init__(self, bench, name, sentinel):
        self.bench = bench
        self.name = name
        self.sentinel = sentinel
        self.process = None
        self.port = 0

    def version(self):
        command = {'nginx': ['nginx', '-v'], 'haproxy': ['haproxy', '-v'],
                   'sentinel': [self.sentinel, '--version']}.get(self.name)
        if command is None:
            return 'layer 4, epoll'
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).split('\n')[0]

    def configure(self, template, **more):
        path = self.bench.folder / f'{self.name}.{"kdl" if self.name == "sentinel" else "conf"}'
        path.write_text(template.format(port=self.port, origin=self.bench.origin_port,
                                        folder=self.bench.folder, files=self.bench.files,
                                        connections=self.bench.connections, **more))
        return path

    def log_path(self):
        """Where its access log goes: standard output, for nginx by its name."""
        return self.bench.folder / f'{self.name}-access.log'

    def command(self, log):
        if self.name == 'nginx':
            user = 'root' if os.geteuid() == 0 else 'nobody'
            path = self.configure(NGINX, user=user,
                                  log=f'{self.log_path()} combined' if log else 'off')
            return ['nginx', '-p', self.bench.folder, '-c', path]
        if self.name == 'haproxy':
            path = self.configure(HAPROXY, log='log global\n    option httplog' if log else '',
                                  global_log='log stdout format raw local0' if log else '')
            return ['haproxy', '-db', '-f', path]
        if self.name == 'sentinel':
            return [self.sentinel, 'run', '--pid-file', 'off', '--config',
                    self.configure(SENTINEL, log='stdout' if log else 'off')]
        return [self.bench.program('forwarder'), self.port, self.bench.origin_port]

    def start(self, log=False):
        self.port = free_port()
        with open(self.log_path(), 'wb') as output:
            self.process = self.bench.start(self.command(log), self.bench.proxy_core, output)
        wait_for_port(self.process, self.port, self.name)

    def stop(self):
        stop(self.process)
        self.bench.running.remove(self.process)

    def microseconds(self, case, milliseconds):
        """Processor time for each request of one run."""
        _, path, connections, mode, _ = case
        pids = tree_of(self.process.pid)
        before = cpu_ns(pids)
        requests = self.bench.load(self.port, path, connections, mode, milliseconds)[0]
        if tree_of(self.process.pid) != pids:
            raise Failure(f'{self.name}: a process ended or began during the run')
        return (cpu_ns(pids) - before) / 1000 / requests


def table(head, rows):
    lines = ['| ' + ' | '.join(head) + ' |', '| ' + ' | '.join('---' for _ in head) + ' |']
    return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in rows])


def show_cost(name, samples, medians):
    ratios = ''.join(f', {medians[name] / medians[rival]:.2f} x {rival}'
                     for rival in RIVALS if rival in medians and rival != name)
    return f'{medians[name]:.1f} ({min(samples):.1f} to {max(samples):.1f}{ratios})'


def measure_cost(competitors, case, rounds, milliseconds):
    """One row: every competitor in turn, again and again, so that all see the same disturbances."""
    log = case[4]
    ranked = [one for one in competitors if not (log and one.name == 'floor')]
    samples = {one.name: [] for one in ranked}
    for one in ranked:
        one.start(log)
        one.bench.load(one.port, *case[1:4], milliseconds // 2)  # warms pools and caches
    for _ in range(rounds):
        for one in ranked:
            samples[one.name].append(one.microseconds(case, milliseconds))
    for one in ranked:
        one.stop()
        if log != (one.log_path().stat().st_size > 0):
            raise Failure(f'{one.name}: the access log is {"empty" if log else "on"}')
    medians = {name: statistics.median(values) for name, values in samples.items()}
    return [case[0]] + [show_cost(one.name, samples[one.name], medians)
                        if one.name in samples else 'has no log' for one in competitors]


def measure_latency(competitors, milliseconds):
    """The same rate for all: half of what the slowest can do."""
    rates = {}
    for one in competitors:
        one.start()
        requests, seconds, _, _ = one.bench.load(one.port, '/1k', 64, 'keep', milliseconds)
        rates[one.name] = requests / seconds
    rate = int(min(rates.values()) / 2)
    rows = [['most requests a second'] + [f'{rates[one.name]:,.0f}' for one in competitors],
            [f'p50 at {rate:,} requests a second'], ['p99']]
    for one in competitors:
        _, _, p50, p99 = one.bench.load(one.port, '/1k', 64, 'keep', milliseconds, rate)
        rows[1].append(f'{p50} us')
        rows[2].append(f'{p99} us')
        one.stop()
    return rows


def idle_client(index, port):
    """A connection from an address of its own group that made one request and stays."""
    client = socket.socket()
    client.settimeout(10)
    client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    client.bind((f'127.0.1.{1 + index // CLIENTS_PER_ADDRESS}', 0))
    client.connect(('127.0.0.1', port))
    client.sendall(b'GET /1k HTTP/1.1\r\nHost: bench.test\r\n\r\n')
    received = b''
    while b'\r\n\r\n' not in received or len(received.split(b'\r\n\r\n', 1)[1]) < 1024:
        more = client.recv(65536)
        if not more:
            raise Failure(f'idle connection {index} was closed: {received[:80]!r}')
        received += more
    return client


def measure_idle(competitors, count):
    """Resident memory with so many idle connections, each after one request."""
    cells = []
    for one in competitors:
        one.start()
        one.bench.load(one.port, '/1k', 64, 'keep', 200)
        pids = tree_of(one.process.pid)
        before = rss_bytes(pids)
        clients = []
        try:
            for index in range(count):
                clients.append(idle_client(index, one.port))
            after = rss_bytes(pids)
        finally:
            for client in clients:
                client.close()
            one.stop()
        cells.append(f'{after / 2**20:.1f} MiB ({(after - before) / count:,.0f} B each)')
    return [[f'RSS with {count:,} idle connections'] + cells]


def choose(bench, arguments):
    chosen = []
    for name in arguments.only.split(','):
        if name not in NAMES:
            raise Failure(f'no competitor {name!r}')
        there = (name == 'floor' or (name == 'sentinel' and Path(arguments.sentinel).exists()) or
                 (name != 'sentinel' and shutil.which(name)))
        if there:
            chosen.append(Competitor(bench, name, arguments.sentinel))
        else:
            print(f'{name}: not there, left out', file=sys.stderr)
    return chosen


def heading(bench, competitors, arguments):
    now = datetime.datetime.now(datetime.timezone.utc)
    where = (f'proxy on core {bench.proxy_core}, client and origin on core {bench.other_core}'
             if bench.pinned else 'one core for all: the figures mean little')
    load = ', '.join(f'{value:.2f}' for value in os.getloadavg())
    return '\n'.join([f'## {now:%Y-%m-%d %H:%M} UTC', '',
                      f'`{" ".join(["bench/run.py", *sys.argv[1:]])}`, {arguments.rounds} rounds; '
                      f'Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} cores, '
                      f'{where}; load average before {load}.', '',
                      *[f'- {one.name}: {one.version()}' for one in competitors]])


def run(bench, arguments):
    competitors = choose(bench, arguments)
    bench.start_origin()
    names = [one.name for one in competitors]
    milliseconds = 250 if arguments.quick else 2000
    parts = [heading(bench, competitors, arguments)]
    print(parts[0], flush=True)
    rows = []
    for case in CASES:
        rows.append(measure_cost(competitors, case, arguments.rounds, milliseconds))
        print(f'  {rows[-1][0]}: ' + '; '.join(map(' '.join, zip(names, rows[-1][1:]))), flush=True)
    parts.append(table(['processor time per request, us: median (range, ratio)', *names], rows))
    rest = measure_latency(competitors, 1000 if arguments.quick else 5000)
    idle = 2000 if arguments.quick else min(9000, bench.connections - 100)
    rest += measure_idle(competitors, idle)
    parts.append(table(['1 KiB, 64 connections', *names], rest))
    print('\n' + '\n\n'.join(parts[1:]))
    return '\n\n'.join(parts) + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='under a minute')
    parser.add_argument('--record', action='store_true', help='append to bench/RESULTS.md')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--only', default=','.join(NAMES), help='those of %(default)s')
    parser.add_argument('--sentinel', default=str(ROOT / 'build/release/sentinel'))
    arguments = parser.parse_args()
    # Debian keeps both in sbin, which is not in everyone's path.
    os.environ['PATH'] += ':/usr/sbin:/usr/local/sbin'
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix='sentinel-bench-') as folder:
        os.chmod(folder, 0o755)
        bench = None
        try:
            bench = Bench(folder)
            text = run(bench, arguments)
        except (Failure, OSError, ValueError, subprocess.SubprocessError) as failure:
            print(f'bench: {failure}', file=sys.stderr)
            errors = Path(folder, 'errors.log')
            print(errors.read_text(errors='replace')[-2000:] if errors.exists() else '',
                  file=sys.stderr)
            return 1
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # nothing may cut the cleaning up short
            if bench is not None:
                bench.close()
    if arguments.record:
        with open(HERE / 'RESULTS.md', 'a', encoding='utf-8') as results:
            results.write('\n' + text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
