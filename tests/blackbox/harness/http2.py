"""HTTP/2 on raw sockets (RFC 9113), as a client: every frame is what the scenario says it is."""
import struct

from hpack import Decoder, Encoder

from .wire import Closed

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, \
    CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, \
    FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, \
    ENHANCE_YOUR_CALM = range(12)


def frame(kind, flags=0, stream=0, payload=b''):
    """A frame as bytes."""
    return struct.pack('>I', len(payload))[1:] + struct.pack('>BBI', kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b''.join(struct.pack('>HI', *pair) for pair in pairs))


def reset(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack('>I', code))


def window_update(stream, size):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack('>I', size))


class Answer:
    """What came on one stream."""

    def __init__(self):
        self.heads = []       # each a list of pairs; interim ones, the final one, trailers
        self.body = b''
        self.ended = False
        self.reset = None     # the error code

    @property
    def final(self):
        heads = [dict(head) for head in self.heads if b':status' in dict(head)]
        heads = [head for head in heads if not head[b':status'].startswith(b'1')]
        return heads[0] if heads else None

    @property
    def status(self):
        return int(self.final[b':status']) if self.final else None

    @property
    def interim(self):
        return [int(dict(head)[b':status']) for head in self.heads
                if dict(head).get(b':status', b'').startswith(b'1')]

    @property
    def trailers(self):
        return [pair for head in self.heads for pair in head if b':status' not in dict(head)]

    def get(self, name):
        return self.final.get(name.encode(), b'').decode()

    @property
    def over(self):
        return self.ended or self.reset is not None


class Http2:
    """A client over a Wire. Windows of data that comes are opened again unless told otherwise."""

    def __init__(self, wire, preface=True, first=settings(), refill=True):
        self.wire = wire
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.refill = refill
        self.next = 1
        self.answers = {}
        self.goaways = []     # (last stream, code)
        self.pings = 0        # answers to ours
        self.settings = {}
        self.closed = False
        if preface:
            wire.send(PREFACE + first)

    def head(self, path='/', method='GET', fields=(), scheme='http', authority='a.test', **more):
        """The usual pseudo-fields (None leaves one out) and fields, in this order."""
        pseudo = [(':method', method), (':scheme', scheme), (':authority', authority),
                  (':path', path)]
        return [pair for pair in pseudo if pair[1] is not None] + list(fields)

    def block(self, pairs):
        return self.encoder.encode([(name, value) for name, value in pairs], huffman=False)

    def open(self, pairs=None, end=True, **parts):
        """Sends a request's head; the stream's number."""
        stream = self.next
        self.next += 2
        block = self.block(pairs if pairs is not None else self.head(**parts))
        first, rest = block[:16000], block[16000:]
        flags = END_STREAM if end else 0
        data = frame(HEADERS, flags | (0 if rest else END_HEADERS), stream, first)
        while rest:
            first, rest = rest[:16000], rest[16000:]
            data += frame(CONTINUATION, 0 if rest else END_HEADERS, stream, first)
        self.wire.send(data)
        return stream

    def data(self, stream, body=b'', end=False):
        for start in range(0, max(len(body), 1), 16000):
            part = body[start:start + 16000]
            last = start + 16000 >= len(body)
            self.wire.send(frame(DATA, END_STREAM if end and last else 0, stream, part))

    def take(self):
        """Reads one frame and acts on it; (kind, flags, stream, payload)."""
        kind, flags, stream, payload = self.take_raw()
        self.note(kind, flags, stream, payload)
        return kind, flags, stream, payload

    def take_raw(self):
        """Reads one frame."""
        header = self.wire.take(9)
        size = struct.unpack('>I', b'\0' + header[:3])[0]
        kind, flags, stream = struct.unpack('>BBI', header[3:])
        return kind, flags, stream, self.wire.take(size)

    def note(self, kind, flags, stream, payload):
        answer = self.answers.setdefault(stream, Answer()) if stream else None
        if kind == HEADERS:
            assert flags & END_HEADERS
            pairs = [(bytes(name), bytes(value))
                     for name, value in self.decoder.decode(payload, raw=True)]
            for name, _ in pairs:
                assert name == name.lower() and name not in (
                    b'connection', b'keep-alive', b'transfer-encoding', b'upgrade'), pairs
            answer.heads.append(pairs)
        elif kind == DATA:
            answer.body += payload
            if self.refill and payload:
                self.send(window_update(0, len(payload)) + window_update(stream, len(payload)))
        elif kind == RST_STREAM:
            answer.reset = struct.unpack('>I', payload)[0]
        elif kind == SETTINGS and not flags & ACK:
            for start in range(0, len(payload), 6):
                name, value = struct.unpack('>HI', payload[start:start + 6])
                self.settings[name] = value
            self.send(frame(SETTINGS, ACK))
        elif kind == PING and flags & ACK:
            self.pings += 1
        elif kind == PING:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaways.append(struct.unpack('>II', payload[:8]))
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            answer.ended = True

    def send(self, data):
        """Sends unless the peer has gone."""
        try:
            self.wire.send(data)
        except ConnectionError:
            self.closed = True

    def until(self, predicate):
        """Reads frames until it holds; each read is bounded by the wire's own time."""
        while not predicate():
            self.take()

    def answer(self, stream):
        """The answer on this stream, whole or reset."""
        self.until(lambda: stream in self.answers and self.answers[stream].over)
        return self.answers[stream]

    def request(self, body=None, **parts):
        """One request, its answer."""
        stream = self.open(end=body is None, **parts)
        if body is not None:
            self.data(stream, body, end=True)
        return self.answer(stream)

    def ping(self):
        """Whether the peer answers: everything before it has been seen."""
        before = self.pings
        self.wire.send(frame(PING, 0, 0, b'12345678'))
        self.until(lambda: self.pings > before)

    def ended(self):
        """Reads to the peer's end of the connection."""
        try:
            while True:
                self.take()
        except (Closed, ConnectionError):
            self.closed = True
            return True
        except TimeoutError:
            return False
