"""Floods of HTTP/2: each ends the connection that makes it, and others are served meanwhile."""
import socket
import struct
import time

import pytest

from harness.attack import neighbour, shed
from harness.checks import assert_alive
from harness.http2 import (ACK, CONTINUATION, DATA, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING,
                           PRIORITY, WINDOW_UPDATE, Http2, frame, reset, settings, window_update)
from harness.origins import hold, read_head, read_request, read_to_end, response
from harness.waiting import wait_for
from harness.wire import Closed

LISTENER = 'h2c true'
LIMITS = 'http2-glitches 200'


def flood(h2, pieces):
    """Sends piece after piece until the peer says goodbye."""
    for piece in pieces:
        h2.send(piece)
        if h2.closed:
            break
    assert h2.ended()
    return h2.goaways


def rapid_reset(h2):
    for _ in range(3000):
        stream = h2.next
        h2.next += 2
        yield frame(HEADERS, 5, stream, h2.block(h2.head())) + reset(stream)


# What a server has to answer with a reset of the stream (CVE-2025-8671).
MISTAKES = {
    'a window beyond all bounds': lambda h2, stream: window_update(stream, 2**31 - 1),
    'a window update of nothing': lambda h2, stream: window_update(stream, 0),
    'a priority that depends on itself':
        lambda h2, stream: frame(PRIORITY, 0, stream, struct.pack('>IB', stream, 16)),
    'a priority of the wrong size': lambda h2, stream: frame(PRIORITY, 0, stream, b'xxxx'),
    'data that is longer than announced':
        lambda h2, stream: frame(DATA, 1, stream, b'longer'),
    'trailers that do not end it':
        lambda h2, stream: frame(HEADERS, 4, stream, h2.block([('a', 'b')])),
    'data behind the end': lambda h2, stream: frame(DATA, 1, stream, b'one') +
        frame(DATA, 1, stream, b'two'),
    'a malformed trailer':
        lambda h2, stream: frame(HEADERS, 5, stream, h2.block([(':path', '/')])),
}


def made_to_reset(h2, mistake=MISTAKES['a window beyond all bounds']):
    for _ in range(300):
        stream = h2.next
        h2.next += 2
        head = h2.head(method='POST', fields=[('content-length', '3')])
        yield frame(HEADERS, 4, stream, h2.block(head)) + mistake(h2, stream)


def pings(_h2):
    return (frame(PING, 0, 0, b'12345678') * 10 for _ in range(1000))


def empty_data(h2):
    stream = h2.open(method='POST', end=False)
    return (frame(DATA, 0, stream) * 10 for _ in range(1000))


def padding(h2):
    stream = h2.open(method='POST', end=False)
    return (frame(DATA, 8, stream, b'\5' + b'\0' * 5) * 10 for _ in range(1000))


def window_updates(_h2):
    return (window_update(0, 1) * 10 for _ in range(1000))


def priorities(_h2):
    return (frame(PRIORITY, 0, 2 * i + 1, struct.pack('>IB', 0, 16)) for i in range(10000))


def continuations(h2):
    stream = h2.next
    yield frame(HEADERS, 1, stream, h2.block(h2.head()))
    for _ in range(3000):
        yield frame(CONTINUATION, 0, stream)


def endless_head(h2):
    """Large fields without an end, in frames as large as can be."""
    stream = h2.next
    yield frame(HEADERS, 1, stream, h2.block(h2.head()))
    for _ in range(3000):
        yield frame(CONTINUATION, 0, stream, (b'\x00\x01x\x7f\xa1\x1e' + b'y' * 4000) * 4)


def goaways(h2):
    h2.open(method='POST', end=False)
    return (frame(GOAWAY, 0, 0, struct.pack('>II', 0, 0)) * 10 for _ in range(1000))


def window_sizes(_h2):
    """Each change of the initial window is worked out for every stream."""
    return (settings((4, size % 60000)) * 5 for size in range(2000))


def unknown_frames(_h2):
    return (frame(0x77, 0, 0, b'what') * 10 for _ in range(1000))


def hpack_bomb(h2):
    """One large field, then references to it by single bytes."""
    stream = h2.next
    block = h2.block(h2.head()) + b'\x40\x01x\x7f\xa1\x1e' + b'y' * 4000
    yield frame(HEADERS, 1, stream, block)
    for _ in range(8):
        yield frame(CONTINUATION, 0, stream, b'\xbe' * 16000)
    yield frame(CONTINUATION, 4, stream, b'')


def cookie_crumbs(h2):
    """A cookie in as many parts as fit, each a byte: joined, they are large (RFC 9113, 8.2.3)."""
    stream = h2.next
    yield frame(HEADERS, 1, stream, h2.block(h2.head()) + b'\x60\x03a=b')
    for _ in range(8):
        yield frame(CONTINUATION, 0, stream, b'\xbe' * 16000)
    yield frame(CONTINUATION, 4, stream, b'')


def answers_to_nothing(_h2):
    """Of PINGs that were never sent."""
    return (frame(PING, ACK, 0, b'12345678') * 10 for _ in range(1000))


def windows_by_the_byte(h2):
    """Each makes its stream say one byte, in a frame of its own."""
    h2.refill = False
    h2.send(settings((4, 0)))
    streams = [h2.open(path='/' + 'x' * 100) for _ in range(40)]

    def taken():
        return sum(len(answer.body) for answer in h2.answers.values())
    for i in range(100):
        yield b''.join(window_update(stream, 1) for stream in streams)
        try:
            h2.until(lambda count=i: h2.goaways or taken() >= len(streams) * (count + 1))
        except (Closed, ConnectionError):
            h2.closed = True


FLOODS = {'reset_received': rapid_reset, 'reset_caused': made_to_reset, 'ping': pings,
          'settings': lambda _h2: (settings() * 10 for _ in range(1000)),
          'empty_data': empty_data, 'window_update': window_updates, 'priority': priorities,
          'continuation': continuations, 'goaway': goaways, 'unknown_frame': unknown_frames, 'fields': hpack_bomb}


@pytest.mark.parametrize('flooding', [endless_head, window_sizes, cookie_crumbs, answers_to_nothing,
                                      windows_by_the_byte])
def test_other_floods_end_in_the_same_way(sentinel, echo, flooding):
    proxy = sentinel(echo, listener=LISTENER, limits=LIMITS)
    attacker = Http2(proxy.connect())
    attacker.ping()
    with neighbour(proxy):
        said = flood(attacker, flooding(attacker))
    assert said == [] or said[-1][1] == ENHANCE_YOUR_CALM
    proxy.logged('http2_glitches')
    assert_alive(proxy)


def test_however_a_client_has_its_streams_reset_it_pays_for_each(sentinel, origin):
    """And never has more at work upstream than it may have streams."""
    proxy = sentinel(origin([read_head, hold]), listener=LISTENER,
                     limits=LIMITS + '\nhttp2-streams 5')
    most = 0
    for count, (kind, mistake) in enumerate(MISTAKES.items()):
        attacker = Http2(proxy.connect())
        attacker.ping()
        for i, piece in enumerate(made_to_reset(attacker, mistake)):
            attacker.send(piece)
            if i == 20:
                most = max(most, proxy.metric('sentinel_upstream_connections', state='active'))
            if attacker.closed:
                break
        assert attacker.ended(), kind
        attacker.wire.close()
        wait_for(lambda: len([one for one in proxy.records() if one['reason'] in
                              ('http2_glitches', 'http2_protocol')]) == count + 1, what=kind)
    assert most <= 5
    wait_for(lambda: proxy.metric('sentinel_http2_streams') == 0, what='the streams\' end')
    wait_for(lambda: proxy.metric('sentinel_upstream_connections', state='active') == 0)


@pytest.mark.parametrize('kind', FLOODS)
def test_a_flood_ends_its_connection_and_no_other(sentinel, origin, echo, kind):
    proxy = sentinel(echo, listener=LISTENER, limits=LIMITS)
    other = Http2(proxy.connect())
    assert other.request().status == 200
    attacker = Http2(proxy.connect())
    attacker.ping()
    with neighbour(proxy):
        said = flood(attacker, FLOODS[kind](attacker))
    assert said == [] or said[-1][1] == ENHANCE_YOUR_CALM
    assert other.request().status == 200
    assert_alive(proxy)
    proxy.logged('http2_glitches')
    assert proxy.metric('sentinel_http2_glitches_total', kind=kind) > 0
    assert proxy.metric('sentinel_http2_goaways_total', direction='sent',
                        code='enhance_your_calm') == 1
    wait_for(lambda: proxy.metric('sentinel_http2_streams') == 0, what='the streams\' end')


def test_data_that_is_padding_alone_is_empty(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, limits=LIMITS)
    attacker = Http2(proxy.connect())
    flood(attacker, padding(attacker))
    assert proxy.metric('sentinel_http2_glitches_total', kind='empty_data') > 50
    assert_alive(proxy)


def test_the_budget_is_as_large_as_configured(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, limits='http2-glitches 1000000')
    h2 = Http2(proxy.connect())
    for _ in range(300):
        h2.send(frame(PING, 0, 0, b'12345678') * 2)
        h2.until(lambda: h2.pings >= 2)
        h2.pings = 0
    assert h2.request().status == 200


def test_streams_that_are_reset_count_until_their_work_upstream_has_ended(sentinel, origin):
    """However fast a client resets, it never has more at work upstream than it may have streams."""
    server = origin([read_head, hold])
    proxy = sentinel(server, listener=LISTENER, limits='http2-streams 5\nhttp2-glitches 100000')
    h2 = Http2(proxy.connect())
    most = 0
    for _ in range(40):
        streams = [h2.open() for _ in range(5)]
        h2.ping()
        most = max(most, proxy.metric('sentinel_upstream_connections', state='active'))
        for stream in streams:
            h2.send(reset(stream))
    assert most <= 5
    wait_for(lambda: proxy.metric('sentinel_http2_streams') == 0, what='the streams\' end')
    assert h2.ping() is None


def read_to_nothing(origin, wire):
    """Takes the head and not a byte of the body."""
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.read_head()
    origin.stopping.wait(60)


def upload_until_stuck(h2):
    """Sends a body as its window opens, until it does not any more."""
    stream = h2.open(method='PUT', path='/stuck', end=False)
    window = 65535
    while window >= 16000 or not h2.wire.silent(0.2):
        if window >= 16000:
            h2.data(stream, b'x' * 16000)
            window -= 16000
        else:
            kind, _, on, payload = h2.take()
            if kind == GOAWAY:
                return
            window += int.from_bytes(payload, 'big') if (kind, on) == (WINDOW_UPDATE, stream) else 0


def test_an_upload_that_nobody_reads_holds_up_no_other_of_its_client(sentinel, echo, origin):
    proxy = sentinel(echo, listener=LISTENER, limits='http2-window "64KiB"', extra=f'''
upstream "stuck" {{ target "{origin([read_to_nothing]).address}" }}
route "stuck" {{ match path-prefix="/stuck"; upstream "stuck"; policies {{ max-body-size 0 }} }}
''')
    h2 = Http2(proxy.connect())
    upload_until_stuck(h2)
    for _ in range(20):
        assert h2.request(b'x' * 15_000, method='POST', path='/other').status == 200
    assert h2.goaways == []


def test_bodies_that_their_upstream_does_not_read_make_room_for_new_connections(sentinel, echo,
                                                                               origin):
    proxy = sentinel(echo, listener=LISTENER, limits='http2-pool "1MiB"\nhttp2-window "64KiB"',
                     extra=f'''
upstream "stuck" {{ target "{origin([read_to_nothing]).address}" }}
route "stuck" {{ match path-prefix="/stuck"; upstream "stuck"; policies {{ max-body-size 0 }} }}
''')
    attackers = []

    def is_full():
        attackers.append(Http2(proxy.connect()))
        upload_until_stuck(attackers[-1])
        return shed(proxy, 'slow_upstream') > 0 or attackers[-1].goaways

    def is_served():
        h2 = Http2(proxy.connect())
        h2.send(frame(PING, 0, 0, b'12345678'))
        h2.until(lambda: h2.pings or h2.goaways)
        return not h2.goaways and h2.request().status == 200
    wait_for(is_full, 30, 'a full pool')
    wait_for(is_served, 20, 'room for another')
    assert shed(proxy, 'slow_upstream') > 0
    assert proxy.logged('buffers_full')['protocol'] == 'HTTP/2.0'


def test_windows_of_zero_hold_nothing_but_their_own(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, timeouts='response-write-idle 1s')
    attacker = Http2(proxy.connect(), first=settings((4, 0)), refill=False)
    streams = [attacker.open() for _ in range(50)]
    neighbour = Http2(proxy.connect())
    for _ in range(20):
        assert neighbour.request().status == 200
    for stream in streams:
        assert attacker.answer(stream).reset is not None
    proxy.logged('client_write_timeout')


def test_whoever_lets_a_response_stand_does_not_keep_the_connection(sentinel, origin):
    """Nothing more leaves for a peer that does not read, not even a GOAWAY when it was idle for long."""
    server = origin([read_request, response(b'z' * 16_000_000), read_to_end])
    proxy = sentinel(server, listener=LISTENER, timeouts='response-write-idle 500ms')
    attacker = Http2(proxy.connect(), first=settings((4, 2**31 - 1)), refill=False)
    attacker.send(window_update(0, 2**30))
    attacker.open()
    proxy.logged('client_write_timeout')
    assert proxy.metric('sentinel_connections') > 0
    wait_for(lambda: proxy.metric('sentinel_connections') == 0, 20, 'the end of the connection')


def test_who_cancels_a_response_and_reads_on_late_keeps_the_connection(sentinel, origin):
    """It is its own affair that what came before the reset still stands in its way."""
    server = origin([read_request, response(b'z' * 16_000_000), read_to_end])
    proxy = sentinel(server, listener=LISTENER, timeouts='linger 200ms')
    h2 = Http2(proxy.connect(), first=settings((4, 2**31 - 1)), refill=False)
    h2.send(window_update(0, 2**30))
    stream = h2.open()
    wait_for(lambda: proxy.metric('sentinel_upstream_connections') > 0, 10, 'the response')
    time.sleep(1)  # until no kernel takes any more
    h2.send(reset(stream))
    proxy.logged('client_closed')
    time.sleep(1)  # longer than a goodbye is waited for
    h2.ping()
