"""Origins to stand behind Sentinel: one that echoes, one that follows a script, and nginx.

Each listens on a loopback port of its own and serves every connection in a thread of its own.
"""
import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import threading
import time

from .waiting import free_ports, wait_for
from .wire import Closed, Wire, request_bytes, connect

ECHO_BODY_MAX = 4096
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'  # a head


class Origin:
    """Accepts until stop(); a subclass says what a connection does in serve(wire)."""

    def __init__(self, port=0, path=None, host='127.0.0.1'):
        self.connections = []  # Wire objects, in the order of their arrival
        self.requests = []     # Message objects, in the order of their completion
        self.errors = []       # what serve() raised, other than a peer that left
        self.stopping = threading.Event()
        self.path = path
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
            path.chmod(0o666)
            self.listener.listen(256)
        else:
            family = socket.AF_INET6 if ':' in host else socket.AF_INET
            self.listener = socket.create_server((host, port), family=family, backlog=256)
            self.port = self.listener.getsockname()[1]
            self.host = f'[{host}]' if ':' in host else host
        self.listener.settimeout(0.1)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    @property
    def address(self):
        return f'unix:{self.path}' if self.path else f'{self.host}:{self.port}'

    def accept(self):
        while not self.stopping.is_set():
            try:
                sock, _ = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            wire = Wire(sock, seconds=30)
            wire.number = len(self.connections)
            self.connections.append(wire)
            threading.Thread(target=self.run, args=(wire,), daemon=True).start()

    def run(self, wire):
        try:
            self.serve(wire)
        except (Closed, OSError):
            pass  # the peer left; scenarios look at what was received
        except Exception as error:  # shown by the scenario that reads errors
            self.errors.append(error)
        finally:
            wire.close()

    def serve(self, wire):
        raise NotImplementedError

    def wait_requests(self, count, seconds=10):
        wait_for(lambda: len(self.requests) >= count, seconds, f'request {count} at the origin')
        return self.requests

    def refuse(self):
        """Close the listening socket: from now on connections are refused."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # accept() returns
        self.thread.join(5)
        self.listener.close()

    def stop(self):
        self.refuse()
        for wire in self.connections:
            wire.close()


class EchoOrigin(Origin):
    """Answers 200 with JSON: the request as it arrived. Keeps the connection open."""

    def __init__(self, name='echo', fields=(), **where):
        self.name = name
        self.fields = list(fields)
        super().__init__(**where)

    def serve(self, wire):
        while not self.stopping.is_set():
            request = wire.read_request()
            if request.truncated:
                return
            self.requests.append(request)
            wire.send(self.answer(wire, request))
            if (request.get('Connection') or '').lower() == 'close':
                return

    def answer(self, wire, request):
        seen = {
            'origin': self.name, 'connection': wire.number, 'method': request.method,
            'target': request.target, 'version': request.start.split(' ')[2],
            'fields': request.fields, 'framing': request.framing, 'trailers': request.trailers,
            'length': len(request.body), 'sha256': hashlib.sha256(request.body).hexdigest(),
            'body': request.body[:ECHO_BODY_MAX].decode('latin-1'),
        }
        body = json.dumps(seen).encode()
        fields = [('Content-Type', 'application/json'), ('Content-Length', str(len(body)))]
        head = ''.join(f'{name}: {value}\r\n' for name, value in fields + self.fields)
        head = f'HTTP/1.1 200 OK\r\n{head}\r\n'.encode('latin-1')
        return head if request.method == 'HEAD' else head + body


class ScriptedOrigin(Origin):
    """Connection i follows script i, a list of steps; the last script serves all later ones too.

    A step is bytes (sent as they are) or a function of (origin, wire), such as the ones below.
    After the last step the connection is closed.
    """

    def __init__(self, *scripts, **where):
        self.scripts = scripts
        self.released = threading.Event()
        super().__init__(**where)

    def serve(self, wire):
        for step in self.scripts[min(wire.number, len(self.scripts) - 1)]:
            if isinstance(step, bytes):
                wire.send(step)
            else:
                step(self, wire)

    def release(self):
        self.released.set()

    def stop(self):
        self.released.set()
        super().stop()


def read_head(origin, wire):
    """Wait for a request head; its body stays unread."""
    origin.requests.append(wire.read_head())


def read_request(origin, wire):
    """Wait for a whole request."""
    request = wire.read_request()
    if request.truncated:
        raise Closed('the request was cut off')
    origin.requests.append(request)


def read_body(origin, wire):
    """Wait for the body of the request whose head was read last."""
    wire.read_body(origin.requests[-1])


def read_to_end(_origin, wire):
    """Read until the peer closes."""
    wire.ended(30)


def hold(origin, _wire):
    """Do nothing until the scenario says release() (or ends)."""
    origin.released.wait(60)


def pause(seconds):
    """Be slow; the scenario is about time."""
    return lambda _origin, _wire: time.sleep(seconds)


def drip(data, interval):
    """Send single bytes, one each interval."""
    def step(_origin, wire):
        for byte in data:
            wire.send(bytes([byte]))
            time.sleep(interval)
    return step


def reset(_origin, wire):
    wire.reset()


def response(body=b'', status='200 OK', fields=(), length=True):
    """A well-formed response as bytes."""
    fields = list(fields) + ([('Content-Length', str(len(body)))] if length else [])
    head = ''.join(f'{name}: {value}\r\n' for name, value in fields)
    return f'HTTP/1.1 {status}\r\n{head}\r\n'.encode('latin-1') + body


NGINX_CONFIG = '''
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_timeout {keep_alive};
    client_max_body_size 64m;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{proxied} proxy_protocol;
        listen unix:{folder}/nginx.sock;
        root {folder}/www;
        location /host {{ return 200 "$host $request_uri $http_x_forwarded_for"; }}
        location /peer {{ return 200 "$proxy_protocol_addr $proxy_protocol_port"; }}
        location /close {{ keepalive_timeout 0; return 200 "closed"; }}
    }}
}}
'''


class NginxOrigin:
    """Debian's nginx with every path inside `folder`; serves what lies in folder/www."""

    def __init__(self, folder, keep_alive='75s'):
        program = shutil.which('nginx', path='/usr/sbin:/usr/bin:/sbin:/bin')
        assert program, 'nginx is not installed: tools/setup test'
        (folder / 'www').mkdir(parents=True)
        self.folder = folder
        self.www = folder / 'www'
        self.port, self.proxied = free_ports(2)
        config = folder / 'nginx.conf'
        config.write_text(NGINX_CONFIG.format(folder=folder, port=self.port, proxied=self.proxied,
                                              keep_alive=keep_alive))
        self.process = subprocess.Popen(
            [program, '-p', str(folder), '-c', str(config), '-e', str(folder / 'error.log')],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(self.answers, 10, 'nginx')
        except BaseException:
            self.stop()
            raise

    @property
    def address(self):
        return f'127.0.0.1:{self.port}'

    @property
    def proxied_address(self):
        """Where a PROXY header comes first."""
        return f'127.0.0.1:{self.proxied}'

    @property
    def local_address(self):
        return f'unix:{self.folder}/nginx.sock'

    def answers(self):
        assert self.process.poll() is None, 'nginx did not start'
        try:
            with connect(self.port) as wire:
                wire.send(request_bytes('/host'))
                return wire.read_response().status == 200
        except (OSError, Closed):
            return False

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
