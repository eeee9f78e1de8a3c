"""HTTP/1 on raw sockets, for both roles: what is sent is what was written."""
import socket
import struct
import time

SECONDS = 10


class Closed(Exception):
    """The peer closed or reset before the message was complete."""


class Message:
    """A head and, once it was read, a body. Fields keep order, spelling and repetition."""

    def __init__(self, start, fields, raw):
        self.start = start
        self.fields = fields
        self.raw = raw
        self.body = b''
        self.trailers = []
        self.framing = 'none'   # none, length, chunked, close
        self.truncated = False  # the connection ended before the body did

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        assert len(values) < 2, f'{name} came {len(values)} times: {values}'
        return values[0] if values else default

    def has(self, name):
        return bool(self.all(name))

    @property
    def status(self):
        return int(self.start.split(' ')[1])

    @property
    def method(self):
        return self.start.split(' ')[0]

    @property
    def target(self):
        return self.start.split(' ')[1]

    def json(self):
        import json
        return json.loads(self.body)


class Wire:
    """A connected socket with a read buffer. Every wait is bounded by `seconds`."""

    def __init__(self, sock, seconds=SECONDS):
        self.sock = sock
        self.sock.settimeout(seconds)
        if sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()  # both grow in place: bodies come in many small pieces
        self.received = bytearray()  # everything that ever came

    def send(self, data):
        self.sock.sendall(data.encode('latin-1') if isinstance(data, str) else data)

    def fill(self):
        """One more read; Closed at the end of the stream or after a reset."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed('end of stream')
        self.buffer += data
        self.received += data

    def take_until(self, mark):
        while mark not in self.buffer:
            self.fill()
        end = self.buffer.index(mark)
        data = bytes(self.buffer[:end])
        del self.buffer[:end + len(mark)]
        return data

    def take(self, count):
        while len(self.buffer) < count:
            self.fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def read_head(self):
        raw = self.take_until(b'\r\n\r\n')
        lines = raw.decode('latin-1').split('\r\n')
        fields = []
        for line in lines[1:]:
            name, colon, value = line.partition(':')
            assert colon and name == name.strip(), f'not a field line: {line!r}'
            fields.append((name, value.strip(' \t')))
        return Message(lines[0], fields, raw)

    def read_body(self, message, until_close=False):
        """The body that the fields announce; what came before a break stays in message.body."""
        lengths, codings = message.all('Content-Length'), message.all('Transfer-Encoding')
        assert len(lengths) + len(codings) <= 1, f'framed twice: {message.fields}'
        message.body = bytearray()
        try:
            if codings:
                assert codings == ['chunked'], codings
                message.framing = 'chunked'
                self.read_chunks(message)
            elif lengths:
                message.framing = 'length'
                self.read_length(message, int(lengths[0]))
            elif until_close:
                message.framing = 'close'
                self.read_to_close(message)
        except Closed:
            message.truncated = True
        finally:
            message.body = bytes(message.body)
        return message

    def read_length(self, message, length):
        while len(message.body) < length:
            if not self.buffer:
                self.fill()
            message.body += self.take(min(length - len(message.body), len(self.buffer)))

    def read_to_close(self, message):
        while True:
            message.body += self.take(len(self.buffer))
            try:
                self.fill()
            except Closed as error:
                if str(error) != 'end of stream':
                    raise
                return

    def read_chunks(self, message):
        while True:
            size = int(self.take_until(b'\r\n'), 16)
            if size == 0:
                break
            message.body += self.take(size)
            assert self.take(2) == b'\r\n', 'a chunk does not end in CRLF'
        while True:
            line = self.take_until(b'\r\n').decode('latin-1')
            if not line:
                return
            name, _, value = line.partition(':')
            message.trailers.append((name, value.strip()))

    def read_request(self):
        return self.read_body(self.read_head())

    def read_interim(self):
        """A 1xx head."""
        message = self.read_head()
        assert 100 <= message.status < 200, message.start
        return message

    def read_response(self, method='GET', interim=False):
        """The next final response (with interim, a 1xx counts too)."""
        message = self.read_head()
        while 100 <= message.status < 200 and not interim:
            message = self.read_head()
        if method == 'HEAD' or message.status in (204, 304) or message.status < 200:
            return message
        return self.read_body(message, until_close=True)

    def ended(self, seconds=SECONDS):
        """Whether the peer ends the connection in time; what comes before stays in the buffer."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.sock.settimeout(left)
            try:
                self.fill()
            except Closed:
                return True
            except TimeoutError:
                return False

    def silent(self, seconds):
        """Whether nothing comes, not even an end, for this long."""
        if self.buffer:
            return False
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self.fill()
            return False
        except Closed:
            return False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(before)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def connect(port, host='127.0.0.1', source=None, seconds=SECONDS, receive_buffer=None):
    """A client's connection; source is the address it comes from (127.0.0.x)."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if source is not None:
        sock.bind((source, 0))
    sock.settimeout(seconds)
    sock.connect((host, port))
    return Wire(sock, seconds)


def connect_local(path, seconds=SECONDS):
    """A client's connection to a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(seconds)
    sock.connect(str(path))
    return Wire(sock, seconds)


def request_bytes(target='/', method='GET', fields=(), body=b'', host='example.test',
                  version='HTTP/1.1'):
    """A request as bytes; Host and Content-Length are added unless fields name them."""
    fields = list(fields)
    names = {name.lower() for name, _ in fields}
    if host is not None and 'host' not in names:
        fields.insert(0, ('Host', host))
    if body and not names & {'content-length', 'transfer-encoding'}:
        fields.append(('Content-Length', str(len(body))))
    head = f'{method} {target} {version}\r\n'
    head += ''.join(f'{name}: {value}\r\n' for name, value in fields)
    return (head + '\r\n').encode('latin-1') + body


def chunked(*parts, trailers=()):
    """A chunked body of these parts."""
    body = b''.join(b'%x\r\n%s\r\n' % (len(part), part) for part in parts)
    tail = ''.join(f'{name}: {value}\r\n' for name, value in trailers)
    return body + b'0\r\n' + tail.encode('latin-1') + b'\r\n'
