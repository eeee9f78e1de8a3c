"""A Sentinel process with a configuration, ports and a folder of its own."""
import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

from .waiting import free_ports, wait_for
from .wire import Closed, connect, request_bytes

START_SECONDS = 20
STOP_SECONDS = 20
SANITIZER_REPORT = re.compile(r'[A-Z]\w+Sanitizer|: runtime error: |assertion failed', re.I)
METRIC = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def binary():
    """The program under test."""
    path = os.environ.get('SENTINEL_BINARY')
    if not path:
        path = str(Path(__file__).resolve().parents[3] / 'build/asan/sentinel')
    assert os.access(path, os.X_OK), f'{path} is not there; set SENTINEL_BINARY'
    return path


def environment(**extra):
    values = {key: value for key, value in os.environ.items() if not key.startswith('SENTINEL_')}
    values.setdefault('ASAN_OPTIONS', 'detect_leaks=1')
    values.setdefault('UBSAN_OPTIONS', 'print_stacktrace=1')
    values.update(extra)
    return values


def command(*words, seconds=30, who=None, **extra):
    """Run `sentinel WORDS...` to its end; `who` as of unprivileged; environment variables by name."""
    return subprocess.run([binary(), *map(str, words)], capture_output=True, text=True,
                          timeout=seconds, stdin=subprocess.DEVNULL, env=environment(**extra),
                          **(who or {}))


def ports_in(text, port, admin_port):
    """The ports that a configuration names for the admin and the first listener."""
    admin = re.search(r'\badmin \{\s*address "[^"]*:(\d+)"', text)
    listener = re.search(r'\blistener "[^"]*" \{\s*address "[^"]*:(\d+)"', text)
    return (int(listener[1]) if listener else port, int(admin[1]) if admin else admin_port)


def indent(text, columns=4):
    return '\n'.join(' ' * columns + line if line else '' for line in text.strip('\n').split('\n'))


def block(head, body):
    """A KDL node with children, or nothing when there are none."""
    return f'{head} {{\n{indent(body)}\n}}\n' if body.strip() else ''


class Plan:
    """The parts of a configuration as KDL text; render() puts them together.

    targets   addresses of upstream "backend"        upstream  more lines of it
    limits, timeouts, server, listener, policies, route, observability: lines of these blocks
    routes    replaces the one catch-all route (a text of whole nodes)
    extra     whole nodes at the top level
    """

    def __init__(self, targets=(), **parts):
        known = {'upstream', 'limits', 'timeouts', 'server', 'listener', 'policies', 'route',
                 'routes', 'extra', 'observability'}
        assert set(parts) <= known, f'no such part: {set(parts) - known}'
        self.targets = [getattr(target, 'address', target) for target in targets]
        self.parts = parts

    def part(self, name):
        return self.parts.get(name, '')

    def render(self, folder, port, admin_port):
        server = self.part('server') + '\n'
        for name, value in (('workers', '1'), ('graceful-shutdown-timeout', '2s')):
            if not re.search(rf'^\s*{name}\b', server, re.M):
                server += f'{name} {value}\n'
        if not re.search(r'^\s*pid-file\b', server, re.M):
            server += f'pid-file "{folder}/sentinel.pid"\n'
        if 'admin {' not in server:
            server += block('admin', f'address "127.0.0.1:{admin_port}"')
        server += block('limits', self.part('limits')) + block('timeouts', self.part('timeouts'))
        text = block('server', server)
        protocol = '' if 'protocol "' in self.part('listener') else 'protocol "http"\n'
        text += block('listener "http"', f'address "127.0.0.1:{port}"\n{protocol}'
                      + self.part('listener'))
        if self.targets:
            lines = [target if ' ' in target else f'"{target}"' for target in self.targets]
            text += block('upstream "backend"', ''.join(f'target {line}\n' for line in lines)
                          + self.part('upstream'))
        text += block('observability', self.part('observability') or 'access-log "stdout"')
        if 'routes' in self.parts:
            text += self.parts['routes']
        elif self.targets:
            text += block('route "all"', 'match path-prefix="/"\nupstream "backend"\n'
                          + self.part('route') + '\n' + block('policies', self.part('policies')))
        return text + self.part('extra')


class Sentinel:
    """`sentinel run` with a plan (or a whole KDL text); stop() is orderly and checks the exit."""

    def __init__(self, folder, plan):
        self.folder = folder
        self.port, self.admin_port = free_ports(2)
        self.config = folder / 'sentinel.kdl'
        text = plan.render(folder, self.port, self.admin_port) if isinstance(plan, Plan) else plan
        self.port, self.admin_port = ports_in(text, self.port, self.admin_port)
        self.config.write_text(text)
        self.lines = []
        self.lock = threading.Lock()
        self.errors_path = folder / 'stderr'
        self.errors_file = open(self.errors_path, 'wb')
        configured = re.search(r'\bcontrol-socket "([^"]*)"', text)
        self.socket = configured[1] if configured else str(folder / 'control.sock')
        # Parallel tests never meet.
        words = [] if 'pid-file' in text else ['--pid-file', 'off']
        words += [] if configured else ['--control-socket', self.socket]
        self.process = subprocess.Popen([binary(), 'run', '--config', str(self.config), *words],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.errors_file, env=environment())
        self.reader = threading.Thread(target=self.read_output, daemon=True)
        self.reader.start()
        try:
            wait_for(self.ready, START_SECONDS, 'readiness')
        except BaseException as error:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f'{error}\n{text}\n{self.stderr()}') from None

    def read_output(self):
        for line in self.process.stdout:
            with self.lock:
                self.lines.append(line.decode('utf-8', 'replace').rstrip('\n'))

    def stderr(self):
        return self.errors_path.read_text(errors='replace')

    def ready(self):
        """Whether a worker serves and the admin says so; the probe has come and gone by then."""
        assert self.process.poll() is None, f'sentinel ended with {self.process.returncode}'
        try:
            with self.connect() as wire:
                wire.half_close()
                return wire.ended() and self.admin('/ready').status == 200
        except (OSError, Closed):
            return False

    # Clients.

    def connect(self, **options):
        return connect(self.port, **options)

    def request(self, target='/', method='GET', fields=(), body=b'', **options):
        """One request on a connection of its own."""
        source = options.pop('source', None)
        with self.connect(source=source) as wire:
            wire.send(request_bytes(target, method, fields, body, **options))
            return wire.read_response(method)

    def admin(self, target, fields=(), method='GET', host=None):
        with connect(self.admin_port) as wire:
            wire.send(request_bytes(target, method, [*fields, ('Connection', 'close')],
                                    host=host or f'127.0.0.1:{self.admin_port}'))
            return wire.read_response(method)

    @property
    def url(self):
        return f'http://127.0.0.1:{self.port}'

    # What it tells.

    def records(self):
        with self.lock:
            lines = list(self.lines)
        return [json.loads(line) for line in lines if line.startswith('{')]

    def log_records(self, count, seconds=10):
        """Wait until `count` access records came; exactly that many must be there then."""
        found = wait_for(lambda: len(self.records()) >= count and self.records(), seconds,
                         f'access record {count}')
        assert len(found) == count, found
        return found

    def log_record(self, seconds=10):
        return self.log_records(1, seconds)[0]

    def logged(self, reason, seconds=10):
        """Wait for an access record with this reason, and a hint beside it; the record."""
        def found():
            return [record for record in self.records() if record['reason'] == reason]
        record = wait_for(found, seconds, f'a record of {reason}')[0]
        assert record['hint'], record
        return record

    def metrics(self):
        """{(name, frozenset of label pairs): value}"""
        answer = self.admin('/metrics')
        assert answer.status == 200, answer.start
        values = {}
        for line in answer.body.decode().split('\n'):
            match = METRIC.match(line)
            if match:
                values[match[1], frozenset(LABEL.findall(match[2] or ''))] = float(match[3])
        return values

    def metric(self, name, **labels):
        """The sum of the samples of this name that carry these labels."""
        want = set(labels.items())
        return sum(value for (found, pairs), value in self.metrics().items()
                   if found == name and want <= pairs)

    def recent(self, *words):
        """What `sentinel recent WORDS... --json` says, line by line."""
        done = command('recent', '--control-socket', self.socket, '--json', *words)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    # The end.

    def signal(self, number):
        self.process.send_signal(number)

    def children(self):
        found = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(self.process.pid)],
                               capture_output=True, text=True).stdout.split()
        return [int(pid) for pid in found]

    def wait(self, seconds=STOP_SECONDS):
        status = self.process.wait(seconds)
        self.reader.join(5)
        self.errors_file.close()
        return status

    def stop(self):
        """SIGTERM (unless it ended already), exit 0, and a clean conscience on stderr."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            why = f'no end {STOP_SECONDS} s after SIGTERM\n{self.stderr()}'
            raise AssertionError(why) from None
        errors = self.stderr()
        assert not SANITIZER_REPORT.search(errors), errors
        assert status == 0, f'exit status {status}\n{errors}'
