"""Origins that speak HTTP/2 frame by frame: steps for a ScriptedOrigin."""
from .http2 import (ACK, END_HEADERS, END_STREAM, DATA, GOAWAY, HEADERS, PREFACE, REFUSED_STREAM,
                    RST_STREAM, SETTINGS, Http2, frame, settings)


def serve_frames(*steps):
    """A script of one step, which takes the preface and lets each of these play the server on an
    Http2; h2.next is the stream of the request that came last."""
    def serve(origin, wire):
        assert wire.take(len(PREFACE)) == PREFACE
        h2 = Http2(wire, preface=False)
        wire.send(settings())
        for step in steps:
            step(origin, h2)
    return [serve]


def until_request(_origin, h2):
    """Reads to the next head."""
    while True:
        kind, flags, stream, payload = h2.take_raw()
        if kind == HEADERS:
            h2.next = stream
            h2.pairs = [(bytes(name), bytes(value))
                        for name, value in h2.decoder.decode(payload, raw=True)]
            h2.ended_by_head = bool(flags & END_STREAM)
            return
        if kind == SETTINGS and payload:
            h2.send(frame(SETTINGS, ACK))


def heads(count):
    """Reads so many heads."""
    def step(origin, h2):
        for _ in range(count):
            until_request(origin, h2)
    return step


def read_on(_origin, h2, frames=None):
    """Reads to the end and says nothing; what comes goes to `frames`."""
    while True:
        found = h2.take_raw()
        if frames is not None:
            frames.append(found)


def body_of(h2):
    """Reads the body of the request whose head came last, and its trailers: (bytes, pairs)."""
    body, trailers = b'', []
    ended = h2.ended_by_head
    while not ended:
        kind, flags, stream, payload = h2.take_raw()
        assert stream in (0, h2.next)
        if kind == DATA:
            body += payload
        elif kind == HEADERS:
            trailers = h2.decoder.decode(payload, raw=True)
        ended = kind in (DATA, HEADERS) and bool(flags & END_STREAM)
    return body, trailers


def send_head(h2, pairs, end=False, stream=None, then=b''):
    """A head or trailers, and what is sent together with them."""
    h2.wire.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream or h2.next,
                       h2.encoder.encode(pairs, huffman=False)) + then)


def answer(stream=None, fields=((':status', '200'),)):
    """A head that is all of the answer; to the last request, or to that of a stream."""
    def step(origin, h2):
        origin.requests.append(stream or h2.next)
        send_head(h2, fields, end=True, stream=stream)
    return step


answer_200 = answer()


def refuse(_origin, h2):
    h2.wire.send(frame(RST_STREAM, 0, h2.next, REFUSED_STREAM.to_bytes(4, 'big')))


def say_goodbye(last):
    return lambda _origin, h2: h2.wire.send(frame(GOAWAY, 0, 0, last.to_bytes(4, 'big') +
                                                  b'\0\0\0\0'))
