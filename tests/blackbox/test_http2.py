"""HTTP/2 from clients (RFC 9113): requests, limits, refusals, flow control, goodbye."""
import json
import shutil
import subprocess
import time

import pytest

from harness.checks import assert_alive
from harness.http2 import (CANCEL, ENHANCE_YOUR_CALM, HEADERS, INTERNAL_ERROR, NO_ERROR, PING, PREFACE,
                           PROTOCOL_ERROR, REFUSED_STREAM, Http2, frame, reset, settings,
                           window_update)
from harness.origins import hold, read_head, read_request, response
from harness.waiting import wait_for

LISTENER = 'h2c true'


def client(proxy, **options):
    return Http2(proxy.connect(), **options)


def fields_of(answer):
    return {name.decode(): value.decode() for name, value in answer.heads[-1]}


def test_a_request_and_its_answer(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER)
    answer = client(proxy).request(path='/a?b=c', fields=[('x-one', '1')])
    seen = json.loads(answer.body)
    assert answer.status == 200 and answer.ended
    assert (seen['method'], seen['target'], seen['version']) == ('GET', '/a?b=c', 'HTTP/1.1')
    assert ['Host', 'a.test'] in seen['fields'] and ['x-one', '1'] in seen['fields']
    assert ['Via', '2 sentinel'] in seen['fields']
    record = proxy.log_record()
    assert (record['protocol'], record['status'], record['host']) == ('HTTP/2.0', 200, 'a.test')


def test_both_versions_are_spoken_on_one_listener_and_an_upgrade_is_ignored(sentinel, echo, curl):
    proxy = sentinel(echo, listener=LISTENER)
    assert client(proxy).request().status == 200
    plain = proxy.request()
    assert plain.status == 200 and plain.start.startswith('HTTP/1.1')
    upgraded = curl('--http2', '-i', proxy.url + '/')
    assert upgraded.stdout.startswith(b'HTTP/1.1 200'), upgraded
    assert not any(b'pgrade' in line for line in upgraded.stdout.split(b'\r\n\r\n')[0].split())
    fields = [name.lower() for name, _ in json.loads(upgraded.stdout.split(b'\r\n\r\n')[1])['fields']]
    assert 'upgrade' not in fields and 'http2-settings' not in fields


def test_a_listener_without_h2c_does_not_speak_it(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as wire:
        wire.send(PREFACE + settings())
        assert wire.read_response().status in (400, 505)


def test_curl_and_nghttp_are_served(sentinel, nginx, curl, tmp_path):
    proxy = sentinel(nginx, listener=LISTENER)
    (nginx.www / 'large').write_bytes(b'x' * 3_000_000) if hasattr(nginx, 'www') else None
    got = curl('--http2-prior-knowledge', '-w', '%{http_version} %{http_code}', proxy.url + '/host')
    assert got.stdout.endswith(b'2 200'), got
    program = shutil.which('nghttp')
    assert program, 'nghttp is not installed: tools/setup test'
    done = subprocess.run([program, '-v', '-m', '20', proxy.url + '/host'], capture_output=True,
                          timeout=20, stdin=subprocess.DEVNULL)
    assert done.stdout.count(b':status: 200') == 20, done.stdout[-2000:]


def test_many_requests_at_a_time_get_their_own_answers(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER)
    h2 = client(proxy)
    streams = {h2.open(path=f'/{i}'): f'/{i}' for i in range(60)}
    for stream, path in streams.items():
        assert json.loads(h2.answer(stream).body)['target'] == path
    assert len(proxy.log_records(60)) == 60


def test_bodies_go_up_with_and_without_a_length(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER)
    h2 = client(proxy)
    body = bytes(range(256)) * 100
    known = json.loads(h2.request(body, method='POST',
                                  fields=[('content-length', str(len(body)))]).body)
    assert known['length'] == len(body) and known['framing'] == 'length'
    unknown = json.loads(h2.request(body, method='POST').body)
    assert unknown['length'] == len(body) and unknown['framing'] == 'chunked'
    assert unknown['sha256'] == known['sha256']


def test_uploads_beyond_the_window_go_on_as_it_is_opened(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, limits='http2-window "64KiB"',
                     policies='max-body-size "10MiB"')
    h2 = client(proxy)
    h2.ping()
    assert h2.settings[4] == 65536
    stream = h2.open(method='POST', end=False)
    left, window = 1_000_000, 65535
    while left:
        while window < 16000:
            kind, _, on, payload = h2.take()
            if kind == 8 and on == stream:
                window += int.from_bytes(payload, 'big')
        h2.data(stream, b'x' * min(16000, left), end=left <= 16000)
        window -= 16000
        left -= min(16000, left)
    assert json.loads(h2.answer(stream).body)['length'] == 1_000_000


def test_a_body_comes_down_as_the_window_allows(sentinel, origin):
    server = origin([read_request, response(b'z' * 50_000)])
    proxy = sentinel(server, listener=LISTENER)
    h2 = client(proxy, first=settings((4, 10)), refill=False)
    stream = h2.open()
    h2.until(lambda: stream in h2.answers and len(h2.answers[stream].body) == 10)
    assert h2.ping() is None
    assert len(h2.answers[stream].body) == 10
    h2.wire.send(window_update(stream, 1))
    h2.until(lambda: len(h2.answers[stream].body) == 11)
    h2.wire.send(window_update(stream, 60_000))
    assert len(h2.answer(stream).body) == 50_000


def test_a_client_that_takes_a_byte_at_a_time_is_cut_off(sentinel, origin):
    server = origin([read_request, response(b'z' * 5_000_000)])
    proxy = sentinel(server, listener=LISTENER, timeouts='response-write-idle 700ms')
    h2 = client(proxy, first=settings((4, 0)), refill=False)
    stream = h2.open()
    h2.until(lambda: stream in h2.answers and h2.answers[stream].heads)
    while not h2.answers[stream].over:
        h2.send(window_update(stream, 1))
        while not h2.wire.silent(0.02) and not h2.answers[stream].over:
            h2.take()
    assert h2.answers[stream].reset == INTERNAL_ERROR
    assert len(h2.answers[stream].body) < 1024
    proxy.logged('client_write_timeout')
    h2.ping()  # only the stream has ended


def test_a_client_that_reads_slowly_but_steadily_is_served(sentinel, origin):
    server = origin([read_request, response(b'z' * 16_000_000)])
    proxy = sentinel(server, listener=LISTENER, timeouts='response-write-idle 500ms')
    h2 = Http2(proxy.connect(receive_buffer=8192), first=settings((4, 2**31 - 1)), refill=False)
    h2.send(window_update(0, 2**30))
    h2.open()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert h2.wire.sock.recv(4096) != b''
        time.sleep(0.05)
    assert proxy.records() == []
    h2.wire.close()
    proxy.logged('client_closed')


def test_trailers_and_interim_responses_come_down(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'
                     b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
                     b'3\r\nabc\r\n0\r\nServer-Timing: a;dur=1\r\nX-Other: b\r\n\r\n'])
    proxy = sentinel(server, listener=LISTENER)
    answer = client(proxy).request(fields=[('te', 'trailers')])
    assert answer.interim == [103] and answer.status == 200 and answer.body == b'abc'
    assert answer.trailers == [(b'server-timing', b'a;dur=1')]


def test_head_and_204_have_no_body(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n',
                     read_request, b'HTTP/1.1 204 No Content\r\n\r\n'])
    proxy = sentinel(server, listener=LISTENER)
    h2 = client(proxy)
    answer = h2.request(method='HEAD')
    assert answer.get('content-length') == '9' and answer.body == b''
    assert h2.request().status == 204


def test_cookies_are_joined(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER)
    seen = json.loads(client(proxy).request(
        fields=[('cookie', 'a=1'), ('x', 'y'), ('cookie', 'b=2'), ('cookie', 'c=3')]).body)
    assert [value for name, value in seen['fields'] if name == 'Cookie'] == ['a=1; b=2; c=3']


def test_a_browser_with_many_cookies_sends_one_field_of_them(sentinel, echo):
    crumbs = [f'c{number}=v' for number in range(300)]
    proxy = sentinel(echo, listener=LISTENER, limits='header-fields 20')
    h2 = client(proxy)
    fields = [('cookie', crumb) for crumb in crumbs]
    seen = json.loads(h2.request(fields=fields + [('x', 'y')]).body)
    assert [value for name, value in seen['fields'] if name == 'Cookie'] == ['; '.join(crumbs)]
    assert h2.request(fields=fields + [(f'x{number}', 'y') for number in range(20)]).status == 431
    assert h2.request(fields=fields * 3).status == 431  # larger than a head may be


def test_a_body_is_asked_for_when_it_is_wanted(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER)
    h2 = client(proxy)
    stream = h2.open(method='POST', end=False,
                     fields=[('expect', '100-continue'), ('content-length', '4')])
    h2.until(lambda: stream in h2.answers and h2.answers[stream].interim == [100])
    h2.data(stream, b'body', end=True)
    assert json.loads(h2.answer(stream).body)['length'] == 4


def test_an_early_answer_ends_the_upload_without_blame(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, policies='max-body-size "1KiB"')
    h2 = client(proxy)
    stream = h2.open(method='POST', end=False, fields=[('content-length', '5000')])
    answer = h2.answer(stream)
    assert answer.status == 413
    h2.until(lambda: h2.answers[stream].reset is not None)
    assert answer.reset == NO_ERROR
    assert h2.request().status == 200


MALFORMED = {
    'no method': dict(method=None), 'no scheme': dict(scheme=None), 'no path': dict(path=None),
    'empty path': dict(path=''), 'a path without slash': dict(path='x'),
    'an absolute path': dict(path='http://a.test/'), 'another scheme': dict(scheme='gopher'),
    'a star without OPTIONS': dict(path='*'),
    'unknown pseudo-field': dict(fields=[(':x', 'y')]),
    'a pseudo-field twice': dict(fields=[(':path', '/')]),
    'a pseudo-field behind others': dict(fields=[('a', 'b'), (':path', '/x')]),
    'a response\'s pseudo-field': dict(fields=[(':status', '200')]),
    'a name in upper case': dict(fields=[('X-A', 'b')]),
    'an empty name': dict(fields=[('', 'b')]), 'a space in a name': dict(fields=[('a b', 'c')]),
    'a colon in a name': dict(fields=[('a:b', 'c')]),
    'CR in a value': dict(fields=[('a', 'b\rc')]), 'LF in a value': dict(fields=[('a', 'b\nc')]),
    'CRLF in a value': dict(fields=[('a', 'b\r\nx-evil: c')]),
    'NUL in a value': dict(fields=[('a', 'b\0c')]), 'a control byte': dict(fields=[('a', 'b\1c')]),
    'a space at the front': dict(fields=[('a', ' b')]),
    'a space at the end': dict(fields=[('a', 'b ')]),
    'LF in the path': dict(path='/a\nb'), 'a space in the path': dict(path='/a b'),
    'no authority and no Host': dict(authority=None), 'a user': dict(authority='a b'),
    'Host twice': dict(fields=[('host', 'a.test'), ('host', 'a.test')]),
    'connection': dict(fields=[('connection', 'close')]),
    'keep-alive': dict(fields=[('keep-alive', 'timeout=1')]),
    'proxy-connection': dict(fields=[('proxy-connection', 'x')]),
    'transfer-encoding': dict(fields=[('transfer-encoding', 'chunked')]),
    'upgrade': dict(fields=[('upgrade', 'websocket')]), 'te': dict(fields=[('te', 'gzip')]),
    'a length without a body': dict(fields=[('content-length', '5')]),
    'two lengths': dict(fields=[('content-length', '0'), ('content-length', '0')]),
    'a length that is none': dict(fields=[('content-length', '+1')]),
}


@pytest.mark.parametrize('parts', MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_head_resets_its_stream(sentinel, echo, parts):
    proxy = sentinel(echo, listener=LISTENER)
    h2 = client(proxy)
    answer = h2.request(**parts)
    assert answer.reset == PROTOCOL_ERROR and not answer.heads
    assert h2.request().status == 200  # the connection goes on
    assert proxy.logged('http2_malformed')['status'] is None
    assert proxy.metric('sentinel_http2_resets_total', direction='sent', code='protocol_error') == 1
    assert len(echo.requests) == 1


REFUSED = {
    400: [('bad_target', dict(path='/a#b')), ('ambiguous_path', dict(path='/../x')),
          ('bad_host', dict(authority='a@b')), ('bad_host', dict(authority='a:x')),
          ('bad_host', dict(fields=[('host', 'other.test')])),
          ('bad_max_forwards', dict(fields=[('max-forwards', 'x')]))],
    414: [('uri_too_long', dict(path='/' + 'x' * 9000))],
    417: [('bad_expect', dict(fields=[('expect', 'miracles')]))],
    431: [('head_too_large', dict(fields=[('x', 'y' * 9000)])),
          ('head_too_large', dict(fields=[(f'x{i}', 'y' * 90) for i in range(99)])),
          ('too_many_fields', dict(fields=[(f'x{i}', 'y') for i in range(101)]))],
    501: [('connect_refused', dict(method='CONNECT', path=None, scheme=None,
                                   authority='a.test:443'))],
}


@pytest.mark.parametrize('status, reason, parts',
                         [(status, *row) for status, rows in REFUSED.items() for row in rows])
def test_what_http1_refuses_is_refused_here_with_the_same_words(sentinel, echo, status, reason,
                                                               parts):
    proxy = sentinel(echo, listener=LISTENER)
    h2 = client(proxy)
    answer = h2.request(**parts)
    assert answer.status == status and json.loads(answer.body)['reason'] == reason
    assert h2.request().status == 200
    assert proxy.logged(reason)['protocol'] == 'HTTP/2.0'
    assert len(echo.requests) == 1


@pytest.mark.parametrize('length, body', [(5, b'four'), (3, b'four')])
def test_a_body_that_is_not_as_long_as_announced_never_becomes_whole(sentinel, origin, length,
                                                                     body):
    server = origin([read_request, response(b'never')])
    proxy = sentinel(server, listener=LISTENER)
    h2 = client(proxy)
    h2.ping()
    stream = h2.open(method='POST', end=False, fields=[('content-length', str(length))])
    h2.data(stream, body, end=True)
    assert h2.answer(stream).reset == PROTOCOL_ERROR
    proxy.logged('http2_malformed')
    assert server.requests == []
    assert h2.ping() is None


def test_more_streams_than_allowed_are_refused(sentinel, origin):
    server = origin([read_head, hold, response(b'late')])
    proxy = sentinel(server, listener=LISTENER, limits='http2-streams 3')
    h2 = client(proxy)
    streams = [h2.open() for _ in range(3)]
    refused = h2.open()
    assert h2.answer(refused).reset == REFUSED_STREAM
    assert h2.settings[3] == 3
    server.release()
    assert [h2.answer(stream).body for stream in streams] == [b'late'] * 3


def test_a_reset_ends_what_it_caused_upstream(sentinel, origin):
    server = origin([read_head, lambda _origin, wire: wire.ended(10)])
    proxy = sentinel(server, listener=LISTENER)
    h2 = client(proxy)
    stream = h2.open()
    wait_for(lambda: server.requests, what='the request')
    h2.wire.send(reset(stream))
    proxy.logged('client_closed')
    wait_for(lambda: proxy.metric('sentinel_http2_streams') == 0)
    assert proxy.metric('sentinel_upstream_connections') == 0
    assert h2.ping() is None


def test_a_head_that_does_not_come_on_is_408(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, timeouts='request-head 500ms')
    h2 = client(proxy)
    h2.ping()
    h2.wire.send(frame(HEADERS, 1, 1, h2.block(h2.head())))  # and no END_HEADERS
    h2.send = lambda data: None  # nothing else may be said in the middle of a head
    answer = h2.answer(1)
    assert answer.status == 408
    assert h2.ended() and h2.goaways[-1][1] == NO_ERROR
    proxy.logged('request_head_timeout')


def test_an_idle_connection_is_told_goodbye(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, timeouts='keep-alive 500ms\nlinger 100ms')
    h2 = client(proxy)
    assert h2.request().status == 200
    assert h2.ended() and h2.goaways == [(1, NO_ERROR)]
    assert len(proxy.records()) == 1


def test_the_last_request_of_a_connection_is_announced_in_two_steps(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, limits='requests-per-connection 2')
    h2 = client(proxy)
    assert [h2.request().status for _ in range(2)] == [200, 200]
    assert h2.ended()
    assert h2.goaways == [(2**31 - 1, NO_ERROR), (3, NO_ERROR)]


def test_a_drain_lets_requests_finish_and_says_so(sentinel, origin):
    server = origin([read_head, hold, response(b'whole')])
    proxy = sentinel(server, listener=LISTENER, server='graceful-shutdown-timeout 10s')
    h2 = client(proxy)
    stream = h2.open()
    wait_for(lambda: server.requests, what='the request')
    proxy.signal(15)
    h2.until(lambda: len(h2.goaways) == 2)
    assert h2.goaways == [(2**31 - 1, NO_ERROR), (1, NO_ERROR)]
    server.release()
    assert h2.answer(stream).body == b'whole'
    assert h2.ended()
    h2.wire.close()
    assert proxy.wait() == 0


def test_noise_behind_the_preface_ends_the_connection(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER)
    h2 = client(proxy)
    h2.wire.send(frame(HEADERS, 5, 0, b'x'))
    assert h2.ended() and h2.goaways[-1][1] == PROTOCOL_ERROR
    proxy.logged('http2_protocol')
    assert_alive(proxy)


def until_turned_away(proxy, do):
    """Connections that do something each, until one is turned away: the last of them."""
    held = []
    for _ in range(100):
        h2 = client(proxy)
        h2.send(frame(PING, 0, 0, b'12345678'))
        held.append(h2)
        h2.until(lambda h2=h2: h2.pings or h2.goaways)
        if h2.goaways:
            break
        do(h2)
    return held


def test_without_memory_for_another_connection_it_is_turned_away(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, limits='http2-pool "1MiB"')
    held = until_turned_away(proxy, lambda h2: h2.open(method='POST', end=False))
    assert held[-1].goaways == [(0, ENHANCE_YOUR_CALM)] and 10 < len(held) < 60
    proxy.logged('http2_memory')
    held[0].data(1, b'x', end=True)
    assert held[0].answer(1).status == 200  # those there are go on, and so does HTTP/1
    assert_alive(proxy)


def test_idle_connections_make_room_for_new_ones_those_idle_longest_first(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, limits='http2-pool "1MiB"')
    held = until_turned_away(proxy, lambda h2: h2.request())[:-1]

    def is_served():
        h2 = client(proxy)
        h2.send(frame(PING, 0, 0, b'12345678'))
        h2.until(lambda: h2.pings or h2.goaways)
        return not h2.goaways and h2.request().status == 200
    wait_for(is_served, what='room for another')
    assert held[0].ended() and held[0].goaways == [(1, NO_ERROR)]
    gone = [h2.wire.ended(0.01) for h2 in held]
    assert gone == sorted(gone, reverse=True)  # the first ones, and no later one before them
    assert proxy.metric('sentinel_shed_total', kind='idle_http2') >= 1
    assert 0 < proxy.metric('sentinel_limit_utilization_ratio', limit='http2-pool') <= 1
    assert {record['status'] for record in proxy.records() if not record['reason']} == {200}


def test_a_connection_that_is_refused_is_told_so(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER, limits='connections-per-client 1')
    first = client(proxy)
    assert first.request().status == 200
    with proxy.connect() as second:
        second.send(PREFACE + settings())
        assert second.ended(5)
    proxy.logged('client_connections')
    assert first.request().status == 200


def test_a_cancelled_stream_leaves_the_others_alone(sentinel, origin):
    server = origin([read_head, hold, response(b'one')])
    proxy = sentinel(server, listener=LISTENER)
    h2 = client(proxy)
    first, second = h2.open(), h2.open()
    wait_for(lambda: len(server.requests) == 2, what='both requests')
    h2.wire.send(reset(first, CANCEL))
    server.release()
    assert h2.answer(second).body == b'one'
