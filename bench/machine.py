"""What the benchmark does with this machine: its folder, programs and processes, the certificate,
which core each process runs on, and how its processor time and memory are read."""
import os
import random
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = {'origin': [], 'forwarder': [], 'load': ['-lssl', '-lcrypto']}
COMPILE = ['cc', '-std=gnu17', '-O2', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror']
START_SECONDS = 10
STOP_SECONDS = 5
DESCRIPTORS = 65536


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


def settled_tree(root):
    """The same once it stays as it is: whoever only helps at the start has ended."""
    end = time.monotonic() + START_SECONDS
    tree, same = tree_of(root), 0
    while same < 3:
        if time.monotonic() > end:
            raise Failure(f'the processes below {root} keep changing')
        time.sleep(0.05)
        before, tree = tree, tree_of(root)
        same = same + 1 if tree == before else 0
    return tree


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


class Machine:
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
        for program, libraries in PROGRAMS.items():
            source = HERE / f'{program}.c'
            subprocess.run([*COMPILE, str(source), '-o', str(self.program(program)), *libraries],
                           check=True)
        self.make_certificate()

    def make_certificate(self):
        """One for all: P-256, its key in the same file for HAProxy and in a file of its own."""
        key, certificate = self.folder / 'bench.key', self.folder / 'bench.crt'
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
                        'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj',
                        '/CN=bench.test', '-addext', 'subjectAltName=DNS:bench.test',
                        '-keyout', str(key), '-out', str(certificate)],
                       check=True, capture_output=True)
        both = certificate.read_bytes() + key.read_bytes()
        (self.folder / 'bench.pem').write_bytes(both)

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

    def end(self, process):
        stop(process)
        self.running.remove(process)

    def close(self):
        for process in reversed(self.running):
            stop(process)
