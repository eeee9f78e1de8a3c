"""Tunnels: WebSockets and other protocols that a request switches to, in HTTP/1.1 and HTTP/2."""
import asyncio
import base64
import hashlib
import os
import signal
import threading

import pytest
import websockets

from harness.http2 import (ACK, CANCEL, END_HEADERS, END_STREAM, HEADERS, NO_ERROR, PREFACE,
                           PROTOCOL_ERROR, SETTINGS, Http2, frame, reset, settings)
from harness.origins import hold, read_head, read_request, read_to_end, response
from harness.origins import reset as reset_origin
from harness.proxy import command
from harness.waiting import wait_for
from harness.wire import Closed, request_bytes

WEBSOCKET = 'upgrade "websocket"'
ENABLE_CONNECT_PROTOCOL = 8
KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
ASKS = [('Connection', 'Upgrade'), ('Upgrade', 'websocket'), ('Sec-WebSocket-Version', '13'),
        ('Sec-WebSocket-Key', KEY)]


def accept_of(key):
    guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
    return base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()


def switch(fields=(), rest=b'', protocol='websocket'):
    """The origin consents as a server of WebSocket does, and may go on at once."""
    def step(origin, wire):
        key = origin.requests[-1].get('Sec-WebSocket-Key')
        accept = [('Sec-WebSocket-Accept', accept_of(key))] if key else []
        lines = [('Connection', 'Upgrade'), ('Upgrade', protocol), *accept, *fields]
        head = ''.join(f'{name}: {value}\r\n' for name, value in lines)
        wire.send(f'HTTP/1.1 101 Switching Protocols\r\n{head}\r\n'.encode() + rest)
    return step


def mirror(_origin, wire):
    """Sends back what comes, to its end, then ends as well."""
    try:
        while True:
            data = wire.take(len(wire.buffer))
            if data:
                wire.send(data)
            wire.fill()
    except Closed:
        wire.half_close()


TUNNEL = [read_head, switch(), mirror]


def ask(wire, fields=ASKS, target='/chat', rest=b''):
    wire.send(request_bytes(target, fields=fields) + rest)
    return wire.read_response(interim=True)


def talk(wire, data=b'hello'):
    wire.send(data)
    return wire.take(len(data)) == data


def record_of(proxy, **where):
    """The record of the tunnel, when it has ended."""
    return wait_for(lambda: [one for one in proxy.records() if one['status'] == 101], 10,
                    'the record of a tunnel')[0]


# ---- HTTP/1.1 on both sides ----

def test_a_websocket_is_a_tunnel_after_the_upstreams_consent(sentinel, origin):
    server = origin([read_head, switch([('Sec-WebSocket-Protocol', 'chat')]), mirror])
    proxy = sentinel(server, route=WEBSOCKET)
    with proxy.connect() as client:
        answer = ask(client, [*ASKS, ('Sec-WebSocket-Protocol', 'chat'), ('Origin', 'http://a')])
        assert answer.status == 101
        assert (answer.get('Upgrade'), answer.get('Connection')) == ('websocket', 'Upgrade')
        assert answer.get('Sec-WebSocket-Accept') == accept_of(KEY)
        assert answer.get('Sec-WebSocket-Protocol') == 'chat'
        assert talk(client) and talk(client, os.urandom(300_000))
        assert proxy.metric('sentinel_tunnels') == 1
        assert proxy.metric('sentinel_limit_utilization_ratio', limit='max-tunnels') > 0
        client.half_close()
        assert client.ended()
    record = record_of(proxy)
    assert (record['status'], record['reason'], record['method']) == (101, None, 'GET')
    assert (record['bytes_in'], record['bytes_out']) == (300_005, 300_005)
    seen = server.requests[0]
    assert (seen.get('Connection'), seen.get('Upgrade')) == ('Upgrade', 'websocket')
    assert seen.get('Sec-WebSocket-Key') == KEY and seen.get('Sec-WebSocket-Version') == '13'
    assert proxy.metric('sentinel_tunnels') == 0
    assert proxy.metric('sentinel_tunnels_opened_total') == 1
    assert proxy.metric('sentinel_tunnel_bytes_total') == 600_010


def test_bytes_that_come_early_on_either_side_are_kept(sentinel, origin):
    server = origin([read_head, switch(rest=b'welcome'), mirror])
    proxy = sentinel(server, route=WEBSOCKET)
    with proxy.connect() as client:
        assert ask(client, rest=b'early').status == 101
        assert client.take(12) == b'welcomeearly'


def test_each_direction_ends_for_itself(sentinel, origin):
    def answer_at_the_end(_origin, wire):
        assert wire.ended(10)
        wire.send(b'all of it: ' + wire.buffer)
    server = origin([read_head, switch(), answer_at_the_end])
    proxy = sentinel(server, route=WEBSOCKET)
    with proxy.connect() as client:
        assert ask(client).status == 101
        client.send(b'question')
        client.half_close()
        assert client.take(19) == b'all of it: question'
        assert client.ended()
    assert record_of(proxy)['reason'] is None


def test_an_upstream_that_ends_first_is_followed_by_the_client(sentinel, origin):
    server = origin([read_head, switch(rest=b'goodbye')])
    proxy = sentinel(server, route=WEBSOCKET)
    with proxy.connect() as client:
        assert ask(client).status == 101
        assert client.take(7) == b'goodbye' and client.ended()
        client.send(b'too late')
    assert record_of(proxy)['reason'] is None


def test_nothing_is_switched_before_the_upstreams_101(sentinel, origin):
    """What stands behind a request that was refused is the next request, and read as one."""
    server = origin([read_request, response(b'no', status='403 Forbidden'), read_request,
                     response(b'next'), read_to_end])
    proxy = sentinel(server, route=WEBSOCKET)
    with proxy.connect() as client:
        client.send(request_bytes('/chat', fields=ASKS) + request_bytes('/next'))
        assert [client.read_response().body for _ in range(2)] == [b'no', b'next']
    assert [request.target for request in server.requests] == ['/chat', '/next']
    assert not server.requests[1].has('Upgrade')
    assert [record['status'] for record in proxy.log_records(2)] == [403, 200]


@pytest.mark.parametrize('lines', [
    [('Upgrade', 'websocket'), ('Connection', 'Upgrade')],
    [('Upgrade', 'websocket'), ('Connection', 'Upgrade'), ('Sec-WebSocket-Accept', accept_of('x'))],
    [('Upgrade', 'other'), ('Connection', 'Upgrade'), ('Sec-WebSocket-Accept', accept_of(KEY))],
    [('Connection', 'Upgrade'), ('Sec-WebSocket-Accept', accept_of(KEY))],
    [('Upgrade', 'websocket'), ('Sec-WebSocket-Accept', accept_of(KEY))],
], ids=['no answer to the key', 'a wrong one', 'another protocol', 'no protocol', 'no connection'])
def test_a_101_that_does_not_answer_the_question_is_502(sentinel, origin, lines):
    head = ''.join(f'{name}: {value}\r\n' for name, value in lines)
    answer = f'HTTP/1.1 101 Switching Protocols\r\n{head}\r\n'.encode()
    server = origin([read_head, answer, read_to_end])
    proxy = sentinel(server, route=WEBSOCKET)
    with proxy.connect() as client:
        assert ask(client).status == 502
    assert proxy.logged('bad_response')['status'] == 502
    assert proxy.metric('sentinel_tunnels_opened_total') == 0


def test_a_101_that_nobody_asked_for_is_502(sentinel, origin):
    server = origin([read_head, b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n'
                     b'Upgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\n\r\n', read_to_end])
    proxy = sentinel(server, route=WEBSOCKET)
    assert proxy.request().status == 502
    assert proxy.logged('bad_response')['status'] == 502


@pytest.mark.parametrize('fields', [
    [('Upgrade', 'websocket')],                                   # Connection does not name it
    [('Connection', 'Upgrade'), ('Upgrade', 'h2c')],
    [('Connection', 'Upgrade, HTTP2-Settings'), ('Upgrade', 'h2c'), ('HTTP2-Settings', 'AAMAAABk')],
    [('Connection', 'Upgrade'), ('Upgrade', 'websocket/13')],
    [('Connection', 'Upgrade'), ('Upgrade', 'other, TLS/1.0')],
    [('Connection', 'Upgrade'), ('Upgrade', '')],
    [('Connection', 'Upgrade')],
], ids=['not nominated', 'h2c', 'h2c with settings', 'a version', 'others', 'nothing', 'no field'])
def test_what_is_not_listed_is_dropped_and_the_request_served(sentinel, echo, fields):
    proxy = sentinel(echo, route=WEBSOCKET)
    with proxy.connect() as client:
        client.send(request_bytes('/', fields=fields))
        answer = client.read_response()
        assert answer.status == 200
        names = [name.lower() for name, _ in answer.json()['fields']]
        assert not {'upgrade', 'connection', 'http2-settings'} & set(names)
        client.send(request_bytes('/'))
        assert client.read_response().status == 200, 'the connection goes on'


def test_a_request_with_a_body_or_of_http_1_0_does_not_switch(sentinel, echo):
    proxy = sentinel(echo, route=WEBSOCKET)
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', ASKS, b'four'))
        answer = client.read_response()
        assert answer.status == 200 and answer.json()['length'] == 4
        assert 'Upgrade' not in dict(answer.json()['fields'])
    with proxy.connect() as client:
        client.send(request_bytes('/', fields=ASKS).replace(b'HTTP/1.1', b'HTTP/1.0'))
        assert 'Upgrade' not in dict(client.read_response().json()['fields'])


def test_a_route_that_lists_nothing_drops_every_upgrade(sentinel, echo):
    proxy = sentinel(echo)
    answer = proxy.request(fields=ASKS)
    assert answer.status == 200 and 'Upgrade' not in dict(answer.json()['fields'])


def test_the_first_protocol_that_the_route_lists_is_asked_for(sentinel, origin):
    server = origin([read_head, switch(protocol='Tea'), mirror])
    proxy = sentinel(server, route='upgrade "coffee" "tea"')
    with proxy.connect() as client:
        fields = [('Connection', 'keep-alive, upgrade'), ('Upgrade', 'h2c, milk'),
                  ('Upgrade', 'TEA, coffee')]
        answer = ask(client, fields)
        assert (answer.status, answer.get('Upgrade')) == (101, 'tea')
        assert talk(client)
    assert server.requests[0].get('Upgrade') == 'tea'
    assert not server.requests[0].has('Sec-WebSocket-Key')


@pytest.mark.parametrize('keys', [[], ['short'], [KEY, KEY], ['dGhlIHNhbXBsZSBub25jZR==']],
                         ids=['none', 'short', 'two', 'loose bits'])
def test_a_websocket_without_a_good_key_is_400(sentinel, echo, keys):
    proxy = sentinel(echo, route=WEBSOCKET)
    fields = [field for field in ASKS if field[0] != 'Sec-WebSocket-Key']
    answer = proxy.request(fields=fields + [('Sec-WebSocket-Key', key) for key in keys])
    assert answer.status == 400 and answer.get('Proxy-Status')
    assert proxy.logged('bad_upgrade')['status'] == 400


# ---- Bounds, ends ----

def test_a_silent_tunnel_ends_in_order(sentinel, origin):
    server = origin([read_head, switch(), read_to_end])
    proxy = sentinel(server, route=WEBSOCKET, timeouts='tunnel-idle 300ms')
    with proxy.connect() as client:
        assert ask(client).status == 101
        assert client.ended(), 'by a FIN, not by a reset'
    record = proxy.logged('tunnel_idle')
    assert record['status'] == 101 and record['total_ms'] > 290


def test_each_byte_begins_the_time_anew(sentinel, origin):
    proxy = sentinel(origin(TUNNEL), route=WEBSOCKET, timeouts='tunnel-idle 1500ms')
    with proxy.connect() as client:
        assert ask(client).status == 101
        for _ in range(5):
            with pytest.raises(TimeoutError):
                client.sock.settimeout(0.5)
                client.take(1)
            client.sock.settimeout(10)
            assert talk(client)
        assert client.ended()
    assert proxy.logged('tunnel_idle')['total_ms'] > 2500


def test_a_half_closed_tunnel_has_less_time(sentinel, origin):
    server = origin([read_head, switch(), hold])
    proxy = sentinel(server, route=WEBSOCKET, timeouts='tunnel-half-closed 300ms')
    with proxy.connect() as client:
        assert ask(client).status == 101
        client.half_close()
        assert client.ended()
    assert proxy.logged('tunnel_idle')['status'] == 101


def test_tunnels_are_bounded_and_leave_room_for_requests(sentinel, origin):
    proxy = sentinel(origin([read_head, switch(), mirror]), limits='max-tunnels 2', route=WEBSOCKET,
                     extra='route "plain" { match path="/plain"; respond 200 body="ok" }\n')
    with proxy.connect() as one, proxy.connect() as two, proxy.connect() as three:
        assert ask(one).status == 101 and ask(two).status == 101
        refused = ask(three)
        assert refused.status == 503
        assert proxy.logged('tunnels_full')['status'] == 503
        assert proxy.request('/plain').status == 200
        one.half_close()
        assert one.ended()
        wait_for(lambda: proxy.metric('sentinel_tunnels') == 1, what='a free place')
        with proxy.connect() as four:
            assert ask(four).status == 101 and talk(four)


def test_one_client_cannot_take_all_tunnels(sentinel, origin):
    proxy = sentinel(origin(TUNNEL), route=WEBSOCKET, listener='h2c true',
                     limits='tunnels-per-client 3')
    h2 = Http2(proxy.connect(source='127.0.0.2'))
    streams = [extended(h2) for _ in range(4)]
    assert [opened(h2, stream).status for stream in streams] == [200, 200, 200, 429]
    assert proxy.logged('client_tunnels')['status'] == 429
    with proxy.connect(source='127.0.0.3') as other:
        assert ask(other).status == 101 and talk(other)
    h2.wire.send(reset(streams[0], CANCEL))
    wait_for(lambda: proxy.metric('sentinel_tunnels') == 2, what='a tunnel that is over')
    assert opened(h2, extended(h2)).status == 200


def test_a_refused_switch_gives_its_place_back(sentinel, origin):
    refusal = [read_request, response(b'no', '403 Forbidden')]
    proxy = sentinel(origin(refusal, refusal, refusal, TUNNEL), limits='max-tunnels 1',
                     route=WEBSOCKET)
    for _ in range(3):
        with proxy.connect() as client:
            assert ask(client).status == 403
    with proxy.connect() as client:
        assert ask(client).status == 101 and talk(client)


def test_a_client_that_resets_takes_the_upstream_along(sentinel, origin):
    proxy = sentinel(origin(TUNNEL), route=WEBSOCKET)
    client = proxy.connect()
    assert ask(client).status == 101 and talk(client)
    client.reset()
    assert proxy.logged('client_closed')['status'] == 101
    wait_for(lambda: proxy.metric('sentinel_upstream_connections') == 0)


def test_an_upstream_that_resets_shows_at_the_client(sentinel, origin):
    def after_a_byte(_origin, wire):
        wire.take(1)
    proxy = sentinel(origin([read_head, switch(), after_a_byte, reset_origin]), route=WEBSOCKET)
    with proxy.connect() as client:
        assert ask(client).status == 101
        client.send(b'x')
        with pytest.raises((Closed, ConnectionError), match='reset'):
            while True:
                client.fill()
    assert proxy.logged('tunnel_broken')['status'] == 101
    assert proxy.metric('sentinel_upstream_failures_total', upstream='backend',
                        reason='tunnel_broken') == 1


def test_a_drain_lets_tunnels_go_on_until_the_grace_time_ends(sentinel, origin):
    proxy = sentinel(origin(TUNNEL), route=WEBSOCKET, server='graceful-shutdown-timeout 1s')
    with proxy.connect() as client:
        assert ask(client).status == 101
        proxy.signal(signal.SIGTERM)
        wait_for(lambda: 'stopping: requests in flight' in proxy.stderr(), 10, 'the drain')
        assert talk(client)
        assert client.ended(), 'by a FIN, not by a reset'
    assert proxy.wait() == 0
    assert proxy.logged('draining')['status'] == 101


def test_a_peer_that_does_not_read_stops_the_other(sentinel, origin):
    """The bytes on their way are bounded: two sockets and one queue of buffers."""
    poured = []

    def pour(_origin, wire):
        wire.sock.settimeout(1)
        try:
            while True:
                poured.append(wire.sock.send(b'z' * 65536))
        except TimeoutError:
            poured.append(None)
    proxy = sentinel(origin([read_head, switch(), pour, hold]), route=WEBSOCKET,
                     limits='splice-pipes 0')
    with proxy.connect() as client:
        assert ask(client).status == 101
        wait_for(lambda: poured and poured[-1] is None, 30, 'an origin that can send no more')
        assert 0 < proxy.metric('sentinel_buffers_in_use') <= 8
        total = sum(poured[:-1])
        while len(client.received) < total:
            client.fill()


def test_a_tunnel_survives_a_worker_that_is_full_of_requests(sentinel, origin):
    """Silence is what tunnels are for: near max-requests they are not given up for it."""
    server = origin(TUNNEL, [read_head, hold])
    proxy = sentinel(server, route=WEBSOCKET, limits='max-requests 20')
    with proxy.connect() as client:
        assert ask(client).status == 101
        waiting = [proxy.connect() for _ in range(20)]
        for wire in waiting:
            wire.send(request_bytes('/held'))
        wait_for(lambda: proxy.metric('sentinel_requests_in_flight') >= 19, what='a full worker')
        assert client.silent(2), 'for longer than a stall may last before it is given up'
        assert talk(client)
        for wire in waiting:
            wire.close()


# ---- HTTP/2 on either side ----

def extended(h2, protocol='websocket', path='/chat', fields=(), end=False, **more):
    pairs = [(':method', 'CONNECT'), (':protocol', protocol), (':scheme', 'http'),
             (':authority', 'a.test'), (':path', path), *fields]
    return h2.open([pair for pair in pairs if pair[1] is not None], end=end, **more)


def opened(h2, stream):
    h2.until(lambda: stream in h2.answers and (h2.answers[stream].final or h2.answers[stream].over))
    return h2.answers[stream]


def test_an_extended_connect_reaches_an_upstream_of_http_1_1(sentinel, origin):
    server = origin(TUNNEL)
    proxy = sentinel(server, route=WEBSOCKET, listener='h2c true')
    h2 = Http2(proxy.connect())
    stream = extended(h2, fields=[('sec-websocket-version', '13'), ('origin', 'http://a')])
    answer = opened(h2, stream)
    assert h2.settings[ENABLE_CONNECT_PROTOCOL] == 1
    assert answer.status == 200 and not answer.ended
    assert b'sec-websocket-accept' not in answer.final and b'upgrade' not in answer.final
    payload = os.urandom(200_000)
    h2.data(stream, payload)
    h2.until(lambda: len(answer.body) == len(payload))
    assert answer.body == payload
    h2.data(stream, b'', end=True)
    assert h2.answer(stream).ended
    seen = server.requests[0]
    assert seen.start == 'GET /chat HTTP/1.1' and seen.get('Upgrade') == 'websocket'
    assert len(base64.b64decode(seen.get('Sec-WebSocket-Key'))) == 16
    record = record_of(proxy)
    assert (record['method'], record['protocol'], record['reason']) == ('GET', 'HTTP/2.0', None)
    assert h2.request(path='/chat').status == 502, 'a 101 that this request did not ask for'


def test_many_tunnels_share_a_connection_of_http_2(sentinel, origin):
    proxy = sentinel(origin(TUNNEL), route=WEBSOCKET, listener='h2c true')
    h2 = Http2(proxy.connect())
    streams = [extended(h2) for _ in range(20)]
    for stream in streams:
        assert opened(h2, stream).status == 200
    for i, stream in enumerate(streams):
        h2.data(stream, b'%04d' % i * 100)
    for i, stream in enumerate(streams):
        h2.until(lambda: len(h2.answers[stream].body) == 400)
        assert h2.answers[stream].body == b'%04d' % i * 100
    h2.wire.send(reset(streams[0], CANCEL))
    wait_for(lambda: proxy.metric('sentinel_tunnels') == 19, what='one tunnel fewer')
    h2.data(streams[1], b'!')
    h2.until(lambda: len(h2.answers[streams[1]].body) == 401)


def test_an_extended_connect_for_what_is_not_listed_is_501(sentinel, echo):
    proxy = sentinel(echo, listener='h2c true', route=WEBSOCKET)
    h2 = Http2(proxy.connect())
    assert h2.answer(extended(h2, protocol='connect-udp')).status == 501
    assert proxy.logged('switching_refused')['status'] == 501
    assert h2.request().status == 200


def test_without_a_route_that_switches_it_is_not_announced_and_not_taken(sentinel, echo):
    proxy = sentinel(echo, listener='h2c true')
    h2 = Http2(proxy.connect())
    assert h2.request().status == 200
    assert ENABLE_CONNECT_PROTOCOL not in h2.settings
    assert h2.answer(extended(h2)).reset == PROTOCOL_ERROR
    assert h2.request().status == 200


@pytest.mark.parametrize('change', [
    {'path': None}, {'path': ''}, {'protocol': 'web socket'}, {'protocol': ''},
    {'fields': [('content-length', '5')]}, {'end': True}, {'protocol': 'x' * 100},
], ids=['no path', 'empty path', 'no token', 'no protocol', 'a length', 'an end', 'a long one'])
def test_a_malformed_extended_connect_resets_its_stream(sentinel, echo, change):
    proxy = sentinel(echo, listener='h2c true', route=WEBSOCKET)
    h2 = Http2(proxy.connect())
    assert h2.answer(extended(h2, **change)).reset == PROTOCOL_ERROR
    assert h2.request().status == 200


def test_a_protocol_with_another_method_resets_its_stream(sentinel, echo):
    proxy = sentinel(echo, listener='h2c true', route=WEBSOCKET)
    h2 = Http2(proxy.connect())
    stream = h2.open([(':method', 'GET'), (':protocol', 'websocket'), (':scheme', 'http'),
                      (':authority', 'a.test'), (':path', '/')], end=False)
    assert h2.answer(stream).reset == PROTOCOL_ERROR


def test_a_refusal_of_the_upstream_reaches_the_client_of_http_2(sentinel, origin):
    server = origin([read_request, response(b'no', '403 Forbidden'), read_to_end])
    proxy = sentinel(server, route=WEBSOCKET, listener='h2c true')
    h2 = Http2(proxy.connect())
    stream = extended(h2)
    h2.until(lambda: h2.answers.get(stream) and h2.answers[stream].over)
    answer = h2.answers[stream]
    assert (answer.status, answer.body) == (403, b'no') and answer.reset in (None, NO_ERROR)
    h2.ping()


def chain(sentinel, *origins, **parts):
    """A proxy that speaks HTTP/2 to a second one in front of the origins: (first, second)."""
    second = sentinel(*origins, listener='h2c true', route=WEBSOCKET)
    first = sentinel(f'127.0.0.1:{second.port}', upstream='http-version "2"', route=WEBSOCKET,
                     **parts)
    return first, second


def test_a_websocket_of_http_1_1_goes_through_an_upstream_of_http_2(sentinel, origin):
    server = origin(TUNNEL)
    first, second = chain(sentinel, server)
    with first.connect() as client:
        answer = ask(client)
        assert answer.status == 101
        assert answer.get('Sec-WebSocket-Accept') == accept_of(KEY)
        assert answer.get('Upgrade') == 'websocket'
        assert talk(client) and talk(client, os.urandom(500_000))
        client.half_close()
        assert client.ended()
    assert server.requests[0].get('Sec-WebSocket-Key') not in (None, KEY), 'each hop has its own'
    assert record_of(first)['reason'] is None and record_of(second)['reason'] is None


def test_both_sides_of_http_2(sentinel, origin):
    first, _ = chain(sentinel, origin(TUNNEL), listener='h2c true')
    h2 = Http2(first.connect())
    streams = [extended(h2) for _ in range(5)]
    for stream in streams:
        assert opened(h2, stream).status == 200
        h2.data(stream, b'ping')
    for stream in streams:
        h2.until(lambda: h2.answers[stream].body == b'ping')
    assert first.metric('sentinel_upstream_connections') == 1


def frames(*steps):
    def serve(origin, wire):
        assert wire.take(len(PREFACE)) == PREFACE
        h2 = Http2(wire, preface=False)
        for step in steps:
            step(origin, h2)
    return [serve]


def test_an_upstream_of_http_2_that_takes_no_extended_connect_is_502(sentinel, origin):
    def wait(_origin, h2):
        h2.wire.send(settings())
        h2.ended()
    proxy = sentinel(origin(frames(wait)), upstream='http-version "2"',
                     route=WEBSOCKET + '\npolicies { retry-policy { max-attempts 3; } }')
    with proxy.connect() as client:
        assert ask(client).status == 502
    record = proxy.logged('upstream_no_switching')
    assert (record['status'], record['attempts']) == (502, 1)  # asking again would not help


def test_the_settings_of_an_upstream_are_waited_for_and_not_for_ever(sentinel, origin):
    proxy = sentinel(origin([hold]), upstream='http-version "2"', route=WEBSOCKET,
                     timeouts='queue 300ms')
    with proxy.connect() as client:
        assert ask(client).status == 502
    assert proxy.logged('upstream_write_timeout')['status'] == 502


def test_an_upstream_of_http_2_may_end_its_side_at_once(sentinel, origin):
    def serve(_origin, h2):
        h2.wire.send(settings((ENABLE_CONNECT_PROTOCOL, 1)))
        while True:
            kind, flags, stream, _ = h2.take_raw()
            if kind == HEADERS:
                break
            if kind == SETTINGS and not flags & ACK:
                h2.send(frame(SETTINGS, ACK))
        h2.wire.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, h2.encoder.encode([(':status', '200')])))
        h2.ended()
    proxy = sentinel(origin(frames(serve)), upstream='http-version "2"', route=WEBSOCKET)
    with proxy.connect() as client:
        answer = ask(client)
        assert answer.status == 101, answer.fields
        assert client.ended()


# ---- A real client and server, configuration ----

class WebSocketOrigin:
    """python3-websockets as an origin that sends back each message."""

    def __init__(self):
        async def mirror_messages(peer):
            async for message in peer:
                await peer.send(message)

        async def serve():
            self.over = asyncio.Event()
            async with websockets.serve(mirror_messages, '127.0.0.1', 0) as server:
                self.port = server.sockets[0].getsockname()[1]
                self.address = f'127.0.0.1:{self.port}'
                self.loop = asyncio.get_running_loop()
                started.set()
                await self.over.wait()
        started = threading.Event()
        self.thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        self.thread.start()
        assert started.wait(10)

    def stop(self):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(10)


def converse(url):
    """A client that speaks of small and large things, pings, and says goodbye."""
    async def talk_at_length():
        async with websockets.connect(url, max_size=None) as peer:
            for message in ('hello', 'x' * 300_000, os.urandom(100_000), ''):
                await peer.send(message)
                assert await peer.recv() == message
            await asyncio.wait_for(await peer.ping(), 10)
        assert peer.close_code == 1000
    asyncio.run(talk_at_length())


def test_a_real_websocket_over_one_and_two_hops_of_either_version(sentinel, stack):
    stack.append(WebSocketOrigin())
    second = sentinel(stack[-1], listener='h2c true', route=WEBSOCKET)
    first = sentinel(f'127.0.0.1:{second.port}', upstream='http-version "2"', route=WEBSOCKET)
    converse(f'ws://127.0.0.1:{second.port}/')
    converse(f'ws://127.0.0.1:{first.port}/')
    assert [record['reason'] for record in second.log_records(2)] == [None, None]
    assert first.log_record()['status'] == 101


def test_the_configuration_is_checked(tmp_path):
    file = tmp_path / 'x.kdl'
    for text, complaint in (
            ('upgrade "h2c"\n upstream "u"', 'is HTTP, which is not switched to'),
            ('upgrade "web socket"\n upstream "u"', 'upgrade'),
            ('upgrade "websocket"\n respond 200', 'the route has no upstream')):
        file.write_text(f'upstream "u" {{ target "127.0.0.1:1" }}\nroute "r" {{ {text} }}\n')
        done = command('check', '--config', file)
        assert done.returncode == 1 and complaint in done.stderr, done.stderr
