"""The soak's clients of TLS and HTTP/2: connections that stay, and traffic of the same kinds.

Everything is told to the ledger of clients.py, under routes of its own.
"""
import asyncio
import random
import socket
import ssl
import struct
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

PER_ADDRESS = 200
NAME = 'soak.test'
FAILURES = (OSError, EOFError)


def context_of(authority, protocols=(), user=None):
    """What trusts the soak's authority; `user`: (certificate, key) to show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if user:
        context.load_cert_chain(*user)
    return context


class SecureCrowd:
    """Connections of TLS that are mostly idle; of those that are lost every other session goes on."""

    def __init__(self, port, count, ledger, context):
        self.port, self.ledger, self.context = port, ledger, context
        self.sockets = [None] * count
        self.session = None
        self.stopping = threading.Event()

    def connect(self, index):
        """False: there is no connection, only a worker that was killed."""
        raw = socket.socket()
        try:
            raw.settimeout(20)
            raw.bind((f'127.0.3.{index // PER_ADDRESS + 1}', 0))
            raw.connect(('127.0.0.1', self.port))
            resumed = self.session if index % 2 else None
            self.sockets[index] = self.context.wrap_socket(raw, server_hostname=NAME,
                                                           session=resumed)
            return True
        except FAILURES:
            raw.close()
            return False

    def open_all(self):
        for index in range(len(self.sockets)):
            while not self.connect(index):
                time.sleep(0.02)
        return len(self.sockets)

    def ask(self, index):
        begun, got = False, b''
        try:
            sock = self.sockets[index]
            if sock is None:
                raise EOFError
            begun = True
            sock.sendall(f'GET /tls/{index} HTTP/1.1\r\nHost: {NAME}\r\n\r\n'.encode())
            while not got.endswith(b'small body\n'):
                piece = sock.recv(4096)
                if not piece:
                    raise EOFError
                got += piece
            self.ledger.begin('tls')
            self.ledger.answer('tls', int(got[9:12]))
            self.session = sock.session
            if b'onnection: close' in got or random.random() < 0.05:
                raise EOFError
        except FAILURES:
            if begun and not got.endswith(b'small body\n'):
                self.ledger.begin('tls')
            if self.sockets[index]:
                self.sockets[index].close()
                self.sockets[index] = None
            if not self.stopping.is_set():
                self.connect(index)

    def run(self):
        while not self.stopping.is_set():
            for index in range(len(self.sockets)):
                if self.stopping.is_set():
                    return
                self.ask(index)

    def close_all(self):
        for sock in self.sockets:
            if sock:
                sock.close()


class Http2Connection:
    """One connection of a client: `get` asks on a stream of its own, many at a time."""

    def __init__(self, reader, writer, ledger, route):
        self.reader, self.writer, self.ledger, self.route = reader, writer, ledger, route
        self.codec = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding='utf-8'))
        self.streams = {}  # id: [a future, the status]
        self.over = False
        self.closing = False
        self.wrong = None  # what the peer did that no peer may

    async def flush(self):
        self.writer.write(self.codec.data_to_send())
        await asyncio.wait_for(self.writer.drain(), 30)

    def settle(self, stream, failure=None):
        future, status = self.streams.pop(stream, (None, None))
        if future and not future.done():
            if failure or status is None:
                future.set_exception(failure or EOFError())
            else:
                self.ledger.answer(self.route, status)
                future.set_result(status)

    def take(self, event):
        stream = getattr(event, 'stream_id', None)
        if isinstance(event, h2.events.ResponseReceived) and stream in self.streams:
            self.streams[stream][1] = int(dict(event.headers)[':status'])
        elif isinstance(event, h2.events.DataReceived):
            self.codec.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, h2.events.StreamEnded):
            self.settle(stream)
        elif isinstance(event, h2.events.StreamReset):
            self.settle(stream, EOFError())
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.over = True
            if event.error_code:
                self.wrong = f'GOAWAY with code {event.error_code}'
            else:
                self.closing = True  # what was begun is answered, but the library takes nothing more
            for other in [one for one in self.streams if one > (event.last_stream_id or 0)]:
                self.settle(other, EOFError())

    async def read(self):
        """Until the end of the connection; frame by frame, for an error hides what came before it."""
        try:
            while head := await self.reader.readexactly(9):
                frame = head + await self.reader.readexactly(int.from_bytes(head[:3], 'big'))
                for event in self.codec.receive_data(frame):
                    self.take(event)
                await self.flush()
        except asyncio.IncompleteReadError:
            pass
        except h2.exceptions.H2Error as error:
            self.wrong = self.wrong if self.closing else error
        finally:
            self.over = True
            for stream in list(self.streams):
                self.settle(stream, EOFError())

    async def ask(self, path, body=b'', reset=False):
        ends = not body
        stream = self.codec.get_next_available_stream_id()
        future = asyncio.get_running_loop().create_future()
        self.streams[stream] = [future, None]
        self.ledger.begin(self.route)
        self.codec.send_headers(stream, [(':method', 'POST' if body else 'GET'), (':path', path),
                                         (':scheme', 'https'), (':authority', NAME),
                                         ('content-length', str(len(body)))], end_stream=ends)
        while body:
            await self.flush()
            room = min(self.codec.local_flow_control_window(stream),
                       self.codec.max_outbound_frame_size, len(body))
            if room <= 0:
                await asyncio.sleep(0.01)
                if self.over:
                    raise EOFError
                continue
            self.codec.send_data(stream, body[:room], end_stream=room == len(body))
            body = body[room:]
        if reset:
            self.codec.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            self.settle(stream, EOFError())
        await self.flush()
        return await asyncio.wait_for(future, 60)


class SecureKinds:
    """One method for each kind of traffic, as clients.Kinds: one connection, gone over once."""

    def __init__(self, ports, ledger, authority, slow_seconds):
        self.plain_port, self.port = ports
        self.ledger, self.slow_seconds = ledger, slow_seconds
        self.http1 = context_of(authority, ['http/1.1'])
        self.http2 = context_of(authority, ['h2', 'http/1.1'])
        self.turn = 0

    async def open(self, port, context=None):
        self.turn += 1
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((f'127.0.4.{self.turn % 200 + 1}', 0))
        await asyncio.get_running_loop().sock_connect(sock, ('127.0.0.1', port))
        secured = {'ssl': context, 'server_hostname': NAME} if context else {}
        return await asyncio.wait_for(asyncio.open_connection(sock=sock, **secured), 30)

    async def http2_connection(self, port, context, asks):
        reader, writer = await self.open(port, context)
        connection = Http2Connection(reader, writer, self.ledger, 'h2')
        connection.codec.initiate_connection()
        await connection.flush()
        reading = asyncio.ensure_future(connection.read())
        try:
            await asyncio.gather(*(self.lane(connection, asks) for _ in range(8)))
            connection.closing = True
            if not connection.over:
                connection.codec.close_connection()
                await connection.flush()
        finally:
            writer.transport.abort()
            await asyncio.gather(reading, return_exceptions=True)
            if connection.wrong:
                self.ledger.complain(f'HTTP/2: {connection.wrong!r}')

    async def lane(self, connection, asks):
        for _ in range(asks):
            if connection.over:
                return
            path, options = random.choice((
                ('/h2/small', {}), ('/h2/small', {}), ('/h2/small', {}), ('/h2/large/300000', {}),
                ('/h2/chunked', {}), ('/h2/upload', {'body': bytes(100_000)}),
                ('/h2/large/1000000', {'reset': True})))
            try:
                await connection.ask(path, **options)
            except EOFError:
                pass
            except h2.exceptions.H2Error:
                return  # the connection has ended meanwhile, or is about to

    async def multiplexed(self):
        await self.http2_connection(self.port, self.http2, 12)

    async def multiplexed_in_clear(self):
        await self.http2_connection(self.plain_port, None, 12)

    async def handshake(self):
        """A new connection for one request, to an origin that is spoken TLS to as well."""
        reader, writer = await self.open(self.port, self.http1)
        try:
            self.ledger.begin('sealed')
            writer.write(f'GET /sealed/small HTTP/1.1\r\nHost: {NAME}\r\n\r\n'.encode())
            head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), 30)
            await asyncio.wait_for(reader.readuntil(b'body\n'), 30)
            self.ledger.answer('sealed', int(head[9:12]))
        finally:
            writer.transport.abort()

    async def sealed_large(self):
        reader, writer = await self.open(self.port, self.http1)
        try:
            self.ledger.begin('sealed')
            writer.write(f'GET /sealed/large/2000000 HTTP/1.1\r\nHost: {NAME}\r\n\r\n'.encode())
            head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), 30)
            await asyncio.wait_for(reader.readexactly(2_000_000), 60)
            self.ledger.answer('sealed', int(head[9:12]))
        finally:
            writer.transport.abort()

    async def raw(self, first, pace):
        """Bytes on the port of TLS, one after the other, until the time is over or it is closed."""
        reader, writer = await self.open(self.port)
        try:
            for byte in first:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(pace)
            await asyncio.wait_for(reader.read(1000), self.slow_seconds)
        finally:
            writer.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                       struct.pack('ii', 1, 0))
            writer.transport.abort()

    async def half_handshake(self):
        await self.raw(b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', self.slow_seconds / 20)

    async def no_handshake(self):
        await self.raw(random.randbytes(40), 0)


SOUND = {'multiplexed': 4, 'multiplexed_in_clear': 2, 'handshake': 4, 'sealed_large': 2}
ROUGH = {'half_handshake': 60, 'no_handshake': 2}
