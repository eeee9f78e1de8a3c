"""The soak's clients: clients.py PORT TLS_PORT CONNECTIONS SECURE FAULTS AUTHORITY

CONNECTIONS stay open from 127.0.1.x and take turns with small requests, SECURE more of TLS too;
beside them go all other kinds of traffic, FAULTS (0 or 1) included. Commands come on standard input,
a line each: `secure` opens those of TLS, `load` begins, `stop` ends; each is answered with a line. What was sent and what came back is the last
line, as JSON: {"routes": {route: {"begun": N, "answers": {status: N}}}, "complaints": [text]}.
"""
import asyncio
import collections
import json
import logging
import random
import resource
import socket
import struct
import sys
import threading
import time

import secure

PER_ADDRESS = 200
HEAD = 'GET {} HTTP/1.1\r\nHost: soak.test\r\n\r\n'
FAILURES = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError)


class Ledger:
    """What was begun and how it ended, by route."""

    def __init__(self):
        self.lock = threading.Lock()
        self.begun = collections.Counter()
        self.answers = collections.defaultdict(collections.Counter)
        self.complaints = []  # of peers that broke a protocol

    def complain(self, text):
        with self.lock:
            self.complaints.append(text)

    def begin(self, route):
        with self.lock:
            self.begun[route] += 1

    def answer(self, route, status):
        with self.lock:
            self.answers[route][status] += 1

    def report(self):
        return {route: {'begun': count, 'answers': self.answers[route]}
                for route, count in self.begun.items()}


class Crowd:
    """Connections that are mostly idle, each with a small request now and then."""

    def __init__(self, port, count, ledger):
        self.port, self.ledger = port, ledger
        self.sockets = [None] * count
        self.stopping = threading.Event()
        self.broken = 0

    def connect(self, index):
        sock = socket.socket()
        sock.settimeout(20)
        sock.bind((f'127.0.1.{index // PER_ADDRESS + 1}', 0))
        for _ in range(100):
            try:
                sock.connect(('127.0.0.1', self.port))
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        self.sockets[index] = sock

    def open_all(self):
        for index in range(len(self.sockets)):
            self.connect(index)
        return len(self.sockets)

    def ask(self, index):
        """One request over one connection; a lost connection is made anew."""
        try:
            sock = self.sockets[index]
            sock.sendall(HEAD.format(f'/crowd/{index}').encode())
            got = b''
            while not got.endswith(b'small body\n'):
                piece = sock.recv(4096)
                if not piece:
                    raise EOFError
                got += piece
            self.ledger.begin('crowd')
            self.ledger.answer('crowd', int(got[9:12]))
            if b'onnection: close' in got:
                raise EOFError
        except (OSError, EOFError) as failure:
            if not isinstance(failure, EOFError) or not got.endswith(b'small body\n'):
                self.broken += 1
                self.ledger.begin('crowd')
            self.sockets[index].close()
            if not self.stopping.is_set():
                self.connect(index)

    def run(self, first, step):
        while not self.stopping.is_set():
            for index in range(first, len(self.sockets), step):
                if self.stopping.is_set():
                    return
                self.ask(index)

    def close_all(self):
        for sock in self.sockets:
            sock.close()


class Kinds:
    """One method for each kind of traffic: it makes one connection and goes over it once."""

    def __init__(self, port, ledger, slow_seconds):
        self.port, self.ledger, self.slow_seconds = port, ledger, slow_seconds
        self.turn = 0

    async def open(self, limit=65536, buffer=None):
        self.turn += 1
        sock = socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        sock.bind((f'127.0.2.{self.turn % 200 + 1}', 0))
        await asyncio.get_running_loop().sock_connect(sock, ('127.0.0.1', self.port))
        return await asyncio.open_connection(sock=sock, limit=limit)

    async def finish(self, route, reader):
        """Reads one answer to its end; whether another can follow on the connection."""
        head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), 30)
        status = int(head[9:12])
        lines = head.lower().split(b'\r\n')
        lengths = [int(line[15:]) for line in lines if line.startswith(b'content-length:')]
        if lengths:
            left = lengths[0]
            while left > 0:
                piece = await asyncio.wait_for(reader.read(min(left, 65536)), 30)
                if not piece:
                    raise EOFError
                left -= len(piece)
        elif b'transfer-encoding: chunked' in lines:
            while True:
                size = int(await asyncio.wait_for(reader.readuntil(b'\r\n'), 30), 16)
                if size == 0:
                    while await reader.readuntil(b'\r\n') != b'\r\n':
                        pass
                    break
                await reader.readexactly(size + 2)
        self.ledger.answer(route, status)
        return b'connection: close' not in lines

    async def ask(self, route, request):
        reader, writer = await self.open(limit=256 * 1024)
        try:
            self.ledger.begin(route)
            writer.write(request)
            await asyncio.wait_for(writer.drain(), 30)
            await self.finish(route, reader)
        finally:
            writer.close()

    async def small(self):
        reader, writer = await self.open()
        try:
            for n in range(random.randrange(1, 200)):
                self.ledger.begin('small')
                writer.write(HEAD.format(f'/small/{n}').encode())
                if not await self.finish('small', reader):
                    break
        finally:
            writer.close()

    async def pipelined(self):
        reader, writer = await self.open()
        try:
            count = random.randrange(2, 20)
            for _ in range(count):
                self.ledger.begin('pipelined')
            writer.write(HEAD.format('/pipelined/').encode() * count)
            for _ in range(count):
                if not await self.finish('pipelined', reader):
                    break
        finally:
            writer.close()

    async def large(self):
        size = random.choice((70_000, 400_000, 3_000_000))
        await self.ask('large', HEAD.format(f'/large/{size}').encode())

    async def chunked(self):
        await self.ask('chunked', HEAD.format('/chunked/').encode())

    async def upload(self):
        size = random.choice((100, 20_000, 2_000_000))
        head = f'POST /upload/ HTTP/1.1\r\nHost: soak.test\r\nContent-Length: {size}\r\n\r\n'
        await self.ask('upload', head.encode() + bytes(size))

    async def big_head(self):
        fields = ''.join(f'X-{n}: {"v" * 70}\r\n' for n in range(95))
        await self.ask('big-head', f'GET /big-head/ HTTP/1.1\r\nHost: a\r\n{fields}\r\n'.encode())

    async def no_route(self):
        await self.ask('none', HEAD.format('/nowhere/').encode())

    async def huge_head(self):
        await self.ask('none', b'GET / HTTP/1.1\r\nHost: a\r\nX: ' + b'x' * 9000 + b'\r\n\r\n')

    async def malformed(self):
        await self.ask('none', b'GET / HTTP/1.1\r\nHost : a\r\n\r\n')

    async def slow_reader(self):
        reader, writer = await self.open(limit=4096, buffer=8192)
        try:
            self.ledger.begin('slow')
            writer.write(HEAD.format('/large/1000000').replace('/large', '/slow/large').encode())
            until = time.monotonic() + self.slow_seconds
            while time.monotonic() < until and await reader.read(2048):
                await asyncio.sleep(0.2)
        finally:
            writer.transport.abort()

    async def slow_head(self):
        _, writer = await self.open()
        try:
            for byte in b'GET /small/ HTTP/1.1\r\nHost: slow':
                writer.write(bytes([byte]))
                await asyncio.sleep(self.slow_seconds / 40)
        finally:
            writer.transport.abort()

    async def aborted(self):
        reader, writer = await self.open()
        self.ledger.begin('aborted')
        writer.write(HEAD.format('/aborted/large/3000000').encode())
        try:
            await asyncio.wait_for(reader.read(10000), 5)
        finally:
            writer.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                       struct.pack('ii', 1, 0))
            writer.transport.abort()

    async def aborted_upload(self):
        _, writer = await self.open()
        try:
            self.ledger.begin('upload')
            writer.write(b'POST /upload/ HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n' +
                         bytes(100_000))
            await asyncio.wait_for(writer.drain(), 5)
        finally:
            writer.transport.abort()

    async def origin_fault(self):
        fault = random.choice(('reset', 'truncated', 'broken', 'silent'))
        await self.ask('fault', HEAD.format(f'/{fault}/').encode())


SOUND = {'small': 6, 'pipelined': 2, 'large': 4, 'chunked': 3, 'upload': 4, 'big_head': 4}
ROUGH = {'no_route': 2, 'huge_head': 2, 'malformed': 2, 'slow_reader': 400, 'slow_head': 60}
FAULTY = {'aborted': 2, 'aborted_upload': 2, 'origin_fault': 4}


async def repeat(method, stopping):
    while not stopping.is_set():
        try:
            await method()
        except FAILURES:
            await asyncio.sleep(0.01)


async def traffic(ports, authority, ledger, faults, stopping):
    plain = Kinds(ports[0], ledger, slow_seconds=8)
    sealed = secure.SecureKinds(ports, ledger, authority, slow_seconds=8)
    mix = [(plain, {**SOUND, **ROUGH, **(FAULTY if faults else {})}),
           (sealed, {**secure.SOUND, **secure.ROUGH})]
    await asyncio.gather(*(repeat(getattr(kinds, name), stopping) for kinds, names in mix
                           for name, count in names.items() for _ in range(count)))


def main(ports, authority, connections, faults):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ledger = Ledger()
    crowd = Crowd(ports[0], connections[0], ledger)
    sealed = secure.SecureCrowd(ports[1], connections[1], ledger, secure.context_of(authority))
    logging.getLogger('asyncio').setLevel(logging.CRITICAL)  # peers that go away are the point
    print('open', crowd.open_all(), flush=True)
    assert sys.stdin.readline() == 'secure\n'
    print('open', sealed.open_all(), flush=True)
    assert sys.stdin.readline() == 'load\n'
    threads = [threading.Thread(target=crowd.run, args=(n, 4)) for n in range(4)]
    threads.append(threading.Thread(target=sealed.run))
    threads.append(threading.Thread(
        target=lambda: asyncio.run(traffic(ports, authority, ledger, faults, crowd.stopping))))
    for thread in threads:
        thread.start()
    print('loaded', flush=True)
    sys.stdin.readline()
    crowd.stopping.set()
    sealed.stopping.set()
    for thread in threads:
        thread.join()
    crowd.close_all()
    sealed.close_all()
    print(json.dumps({'routes': ledger.report(), 'complaints': ledger.complaints}), flush=True)


if __name__ == '__main__':
    numbers = [int(word) for word in sys.argv[1:6]]
    main(numbers[:2], sys.argv[6], numbers[2:4], numbers[4] == 1)
