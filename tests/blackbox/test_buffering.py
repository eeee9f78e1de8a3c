"""policies buffering: slow clients occupy no upstream connection, and nothing else changes."""
import signal

import pytest

from harness.attack import shed
from harness.checks import assert_own_answer
from harness.http2 import Http2, window_update
from harness.origins import (CHUNKED, hold, read_body, read_head, read_request, read_to_end, reset,
                             response)
from harness.processes import refused
from harness.waiting import free_ports, wait_for
from harness.wire import chunked, request_bytes

MEGABYTE = bytes(range(256)) * 4096
LARGE = MEGABYTE * 6  # more than the kernel takes of it
HALF = MEGABYTE[:1 << 19]
REQUEST = 'buffering { request "64KiB" }'
RESPONSE = 'buffering { response "16MiB" }'
POOL = 'hold-pool "64MiB"'
CONTINUE = b'HTTP/1.1 100 Continue\r\n\r\n'


def active(proxy):
    return proxy.metric('sentinel_upstream_connections', state='active')


def in_use(proxy):
    return proxy.metric('sentinel_limit_utilization_ratio', limit='hold-pool')


# Requests.

def test_a_slow_upload_occupies_no_upstream_connection(sentinel, echo):
    proxy = sentinel(echo, policies=REQUEST)
    with proxy.connect() as client:
        whole = request_bytes('/slow', 'POST', body=b'x' * 5000)
        for start in range(0, len(whole) - 1, 1000):
            client.send(whole[start:min(start + 1000, len(whole) - 1)])
        wait_for(lambda: in_use(proxy) > 0, 10, 'bytes that are held')
        assert client.silent(0.2)
        assert echo.connections == []
        client.send(whole[-1:])
        seen = client.read_response().json()
        assert (seen['length'], seen['framing']) == (5000, 'length')
    wait_for(lambda: in_use(proxy) == 0, 10, 'an empty pool')
    assert proxy.metric('sentinel_held_bytes_total') == 5000


def test_without_buffering_the_origin_hears_of_an_upload_at_once(sentinel, origin):
    server = origin([read_head, read_body, response(b'ok')])
    proxy = sentinel(server, policies='buffering { request 0; response "64KiB" }')
    with proxy.connect() as client:
        client.send(request_bytes('/slow', 'POST', [('Content-Length', '2')]) + b'x')
        server.wait_requests(1)
        client.send(b'x')
        assert client.read_response().body == b'ok'


@pytest.mark.parametrize('size', [0, 1, 20000, 65535, 65536, 65537, 1 << 20])
def test_a_chunked_body_that_fits_is_sent_with_its_length(sentinel, echo, size):
    proxy = sentinel(echo, policies=REQUEST)
    body = MEGABYTE[:size]
    parts = [body[at:at + 9000] for at in range(0, size, 9000)]
    seen = proxy.request('/', 'POST', [('Transfer-Encoding', 'chunked')], chunked(*parts)).json()
    assert seen['length'] == size and echo.requests[0].body == body
    names = {name.lower(): value for name, value in seen['fields']}
    if size < 65536:
        assert names['content-length'] == str(size) and 'transfer-encoding' not in names
    if size > 65536:
        assert names['transfer-encoding'] == 'chunked' and 'content-length' not in names


def test_a_body_larger_than_the_buffer_streams_on(sentinel, origin):
    server = origin([read_head, read_body, response(b'ok')])
    proxy = sentinel(server, policies=REQUEST)
    with proxy.connect() as client:
        whole = request_bytes('/large', 'POST', body=MEGABYTE)
        client.send(whole[:200000])
        server.wait_requests(1)  # with the rest still to come
        client.send(whole[200000:])
        assert client.read_response().body == b'ok'
    assert server.requests[0].body == MEGABYTE
    assert server.requests[0].get('Content-Length') == str(1 << 20)


def test_the_client_that_waits_for_100_continue_hears_it_from_us(sentinel, echo):
    proxy = sentinel(echo, policies=REQUEST)
    with proxy.connect() as client:
        client.send(request_bytes('/', 'PUT', [('Expect', '100-continue'),
                                               ('Content-Length', '4')]))
        assert client.take(len(CONTINUE)) == CONTINUE
        assert echo.connections == []
        client.send(b'body')
        seen = client.read_response().json()
    assert seen['body'] == 'body'
    assert 'expect' not in {name.lower() for name, _ in seen['fields']}


def test_a_stalled_upload_is_408_and_the_origin_never_hears_of_it(sentinel, echo):
    proxy = sentinel(echo, policies=REQUEST, timeouts='request-body-idle 300ms')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', '10')]) + b'x')
        assert_own_answer(client.read_response(), 408, 'request_body_timeout')
        assert client.ended(10)
    record = proxy.logged('request_body_timeout')
    assert (record['attempts'], record['bytes_in'], record['endpoint']) == (0, 1, None)
    assert echo.connections == []
    wait_for(lambda: in_use(proxy) == 0, 10, 'an empty pool')


def test_the_routes_timeout_does_not_run_while_a_body_is_collected(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, policies=REQUEST + '\ntimeout 400ms')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', '2')]) + b'x')
        assert client.silent(0.8)
        client.send(b'x')
        server.wait_requests(1)
        assert_own_answer(client.read_response(), 504, 'upstream_timeout')


def test_a_collected_body_above_the_limit_is_413(sentinel, echo):
    proxy = sentinel(echo, policies=REQUEST + '\nmax-body-size "1KiB"')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Transfer-Encoding', 'chunked')])
                    + chunked(b'x' * 1025))
        assert_own_answer(client.read_response(), 413, 'body_too_large')
    assert echo.connections == []


def test_an_upload_that_breaks_off_never_reaches_the_origin(sentinel, echo):
    proxy = sentinel(echo, policies=REQUEST)
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', '1000')]) + b'x' * 999)
        client.half_close()
        assert client.ended(10)
    proxy.logged('client_body_truncated')
    assert echo.connections == []
    wait_for(lambda: in_use(proxy) == 0, 10, 'an empty pool')


def test_a_collected_post_goes_to_another_endpoint_where_nothing_was_sent(sentinel, echo):
    closed, = free_ports(1)
    proxy = sentinel(f'127.0.0.1:{closed}', echo, policies=REQUEST)
    for number in range(4):
        seen = proxy.request(f'/{number}', 'POST', [('Transfer-Encoding', 'chunked')],
                             chunked(MEGABYTE[:30000])).json()
        assert seen['length'] == 30000
    assert max(record['attempts'] for record in proxy.log_records(4)) == 2


@pytest.mark.parametrize('method, tries', [('PUT', 2), ('POST', 1)])
def test_a_collected_body_is_sent_twice_only_where_that_is_safe(sentinel, origin, method, tries):
    """The first answer is too late: a stalled endpoint that has read all of the request."""
    server = origin([read_request, hold], [read_request, response(b'second'), read_to_end])
    policies = REQUEST + '\nretry-policy { max-attempts 2; timeout 500ms }'
    proxy = sentinel(server, policies=policies)
    answer = proxy.request('/', method, [('Transfer-Encoding', 'chunked')],
                           chunked(MEGABYTE[:60000]))
    assert len(server.requests) == tries
    assert {request.body for request in server.requests} == {MEGABYTE[:60000]}
    if tries == 2:
        assert answer.body == b'second'
    else:
        assert_own_answer(answer, 504, 'try_timeout')


def test_a_stale_connection_does_not_lose_a_collected_body(sentinel, origin):
    server = origin([read_request, response(b'first'), reset],
                    [read_request, response(b'second'), read_to_end])
    proxy = sentinel(server, policies=REQUEST)
    assert proxy.request('/1', 'PUT', body=b'a' * 100).body == b'first'
    assert proxy.request('/2', 'PUT', body=MEGABYTE[:60000]).body == b'second'
    assert server.requests[-1].body == MEGABYTE[:60000]


def test_requests_of_grpc_are_not_collected(sentinel, origin):
    server = origin([read_head, read_body, response(b'ok')])
    proxy = sentinel(server, policies=REQUEST)
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Type', 'application/grpc+proto'),
                                                ('Content-Length', '2')]) + b'x')
        server.wait_requests(1)
        client.send(b'x')
        assert client.read_response().body == b'ok'


def test_requests_of_http2_are_collected_and_get_a_length(sentinel, echo):
    proxy = sentinel(echo, listener='h2c true', policies=REQUEST)
    client = Http2(proxy.connect())
    stream = client.open(method='POST', path='/up', end=False)
    client.data(stream, b'x' * 30000)
    wait_for(lambda: proxy.metric('sentinel_held_bytes_total') == 30000, 10, 'bytes that are held')
    assert echo.connections == []
    client.data(stream, b'y' * 10, end=True)
    answer = client.answer(stream)
    assert answer.status == 200 and echo.requests[0].body == b'x' * 30000 + b'y' * 10
    assert echo.requests[0].get('Content-Length') == '30010'
    client.wire.close()


# Responses.

def start_reading(proxy, target='/'):
    """A client that has read the head of its response, and takes its time from there on."""
    client = proxy.connect(seconds=30)
    client.send(request_bytes(target))
    message = client.read_head()
    assert message.status == 200
    return client, message


class Stalled(Http2):
    """A client of HTTP/2 whose windows are closed behind the first 64 KiB: no kernel takes more."""

    def __init__(self, proxy, target='/'):
        super().__init__(proxy.connect(seconds=30), refill=False)
        self.stream = self.open(path=target)

    def read(self):
        self.refill = True
        self.send(window_update(0, 2**20) + window_update(self.stream, 2**20))
        answer = self.answer(self.stream)
        self.wire.close()
        return answer


def test_a_slow_reader_gives_the_upstream_connection_back_early(sentinel, origin):
    server = origin([read_request, response(LARGE), read_request, response(b'next'), read_to_end])
    proxy = sentinel(server, policies=RESPONSE, limits=POOL + '\nmax-upstream-connections 1')
    client, message = start_reading(proxy)
    wait_for(lambda: active(proxy) == 0, 20, 'the upstream connection to be free')
    assert in_use(proxy) > 0
    assert proxy.request('/next').body == b'next'  # over the one connection there is
    assert client.read_body(message).body == LARGE
    client.close()
    assert len(server.connections) == 1
    wait_for(lambda: in_use(proxy) == 0, 10, 'an empty pool')


def test_without_buffering_a_slow_reader_keeps_it(sentinel, origin):
    server = origin([read_request, response(LARGE), read_to_end])
    proxy = sentinel(server, limits='max-upstream-connections 1', timeouts='queue 300ms')
    client, _ = start_reading(proxy)
    assert_own_answer(proxy.request('/next'), 503, 'queue_timeout')
    assert active(proxy) == 1
    client.close()


@pytest.mark.parametrize('framing', ['length', 'chunked', 'close'])
def test_what_was_taken_ahead_arrives_whole(sentinel, origin, framing):
    head = {'length': b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % len(LARGE),
            'chunked': CHUNKED, 'close': b'HTTP/1.1 200 OK\r\n\r\n'}[framing]
    body = chunked(*[MEGABYTE[:32768]] * 192) if framing == 'chunked' else LARGE
    proxy = sentinel(origin([read_request, head, body]), policies=RESPONSE, limits=POOL)
    client, message = start_reading(proxy)
    wait_for(lambda: active(proxy) == 0, 20, 'the upstream to be done with')
    answer = client.read_body(message)
    assert answer.body == LARGE and not answer.truncated
    client.close()
    assert proxy.log_record()['bytes_out'] == len(LARGE)


def test_trailers_wait_with_what_they_follow(sentinel, origin):
    body = chunked(*[MEGABYTE[:32768]] * 192, trailers=[('Digest', 'abc')])
    proxy = sentinel(origin([read_request, CHUNKED, body]), policies=RESPONSE, limits=POOL)
    client = proxy.connect(seconds=30)
    client.send(request_bytes(fields=[('TE', 'trailers')]))
    message = client.read_head()
    wait_for(lambda: active(proxy) == 0, 20, 'the upstream to be done with')
    answer = client.read_body(message)
    assert answer.body == LARGE and answer.trailers == [('Digest', 'abc')]
    client.close()


def test_a_response_larger_than_the_buffer_streams_as_ever(sentinel, origin):
    server = origin([read_request, response(LARGE), read_to_end])
    proxy = sentinel(server, policies='buffering { response "64KiB" }')
    client, message = start_reading(proxy)
    wait_for(lambda: proxy.metric('sentinel_held_bytes_total') >= 65536, 10, 'a full buffer')
    assert active(proxy) == 1
    assert client.read_body(message).body == LARGE
    client.close()
    wait_for(lambda: active(proxy) == 0, 10, 'the upstream to be done with')


def test_an_exhausted_pool_falls_back_to_streaming(sentinel, origin):
    server = origin([read_request, response(HALF), read_to_end])
    proxy = sentinel(server, listener='h2c true', policies=RESPONSE, limits='hold-pool "256KiB"')
    clients = [Stalled(proxy) for _ in range(8)]
    wait_for(lambda: in_use(proxy) > 0.9, 20, 'a full pool')
    wait_for(lambda: proxy.metric('sentinel_hold_pool_short_total') >= 7, 20, 'the last response')
    assert active(proxy) == 8
    for client in clients:
        answer = client.read()
        assert answer.ended and answer.body == HALF
    wait_for(lambda: in_use(proxy) == 0 and active(proxy) == 0, 10, 'an empty pool')
    assert {record['reason'] for record in proxy.log_records(8)} == {None}


def test_an_exhausted_pool_does_not_refuse_uploads(sentinel, origin):
    server = origin([read_head, read_body, response(b'ok')])
    proxy = sentinel(server, policies='buffering { request "4MiB" }', limits='hold-pool "256KiB"')
    with proxy.connect() as client:
        whole = request_bytes('/', 'POST', body=MEGABYTE)
        client.send(whole[:-1])
        server.wait_requests(1)  # it went on with what there was memory for
        client.send(whole[-1:])
        assert client.read_response().body == b'ok'
    assert server.requests[0].body == MEGABYTE


def test_memory_that_comes_back_lets_others_give_up_their_connection(sentinel, origin):
    """The second response finds too little memory, and takes it when the first one has gone."""
    server = origin([read_request, response(HALF)] * 2 + [read_to_end])
    proxy = sentinel(server, listener='h2c true', policies=RESPONSE, limits='hold-pool "1MiB"')
    first = Stalled(proxy)
    wait_for(lambda: in_use(proxy) > 0 and active(proxy) == 0, 20, 'the first to be held')
    second = Stalled(proxy)
    wait_for(lambda: proxy.metric('sentinel_hold_pool_short_total') == 1, 20, 'a short pool')
    assert active(proxy) == 1
    assert first.read().body == HALF
    wait_for(lambda: active(proxy) == 0, 20, 'the second to be held, too')
    assert second.read().body == HALF


@pytest.mark.parametrize('framing', ['length', 'chunked'])
def test_a_cut_response_stays_cut_after_what_came_whole(sentinel, origin, framing):
    head = (CHUNKED + b'%x\r\n' % (2 * len(LARGE)) if framing == 'chunked' else
            b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % (2 * len(LARGE)))
    proxy = sentinel(origin([read_request, head, LARGE]), policies=RESPONSE, limits=POOL)
    client, message = start_reading(proxy)
    wait_for(lambda: active(proxy) == 0, 20, 'the upstream to be done with')
    client.sock.settimeout(30)
    if framing == 'length':
        answer = client.read_body(message)
        assert answer.truncated and answer.body == LARGE
    else:
        assert client.ended(30)
        assert not client.received.endswith(b'0\r\n\r\n')
        assert len(client.received) > len(LARGE)
    client.close()
    record = proxy.logged('upstream_truncated')
    assert (record['status'], record['bytes_out']) == (200, len(LARGE))
    assert proxy.metric('sentinel_upstream_failures_total', reason='upstream_truncated') == 1


def test_a_client_that_goes_away_leaves_nothing_behind(sentinel, origin):
    proxy = sentinel(origin([read_request, response(LARGE), read_to_end]), policies=RESPONSE,
                     limits=POOL)
    client, _ = start_reading(proxy)
    wait_for(lambda: active(proxy) == 0, 20, 'the upstream to be done with')
    assert in_use(proxy) > 0
    client.reset()
    proxy.logged('client_closed')
    wait_for(lambda: in_use(proxy) == 0, 10, 'an empty pool')


def test_a_client_that_stops_reading_is_cut_off(sentinel, origin):
    proxy = sentinel(origin([read_request, response(LARGE), read_to_end]), policies=RESPONSE,
                     limits=POOL, timeouts='response-write-idle 500ms')
    client, _ = start_reading(proxy)
    proxy.logged('client_write_timeout')
    wait_for(lambda: in_use(proxy) == 0 and active(proxy) == 0, 10, 'an empty pool')
    client.close()


def test_responses_without_a_body_are_not_held(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n',
                     read_request, b'HTTP/1.1 204 No Content\r\n\r\n',
                     read_request, b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
                     read_request, response(b''), read_request, response(b'last'), read_to_end])
    proxy = sentinel(server, policies=RESPONSE, limits=POOL)
    with proxy.connect() as client:
        for method, status, body in [('HEAD', 200, b''), ('GET', 204, b''), ('GET', 304, b''),
                                     ('GET', 200, b''), ('GET', 200, b'last')]:
            client.send(request_bytes('/', method))
            answer = client.read_response(method)
            assert (answer.status, answer.body) == (status, body)
    assert len(server.connections) == 1
    assert proxy.metric('sentinel_held_bytes_total') == 0


def test_a_stalled_client_of_http2_frees_the_upstream_connection(sentinel, origin):
    server = origin([read_request, response(HALF), read_to_end])
    proxy = sentinel(server, listener='h2c true', policies=RESPONSE, limits=POOL)
    client = Stalled(proxy)
    wait_for(lambda: in_use(proxy) > 0 and active(proxy) == 0, 20, 'the upstream to be done with')
    assert proxy.metric('sentinel_held_bytes_total') >= len(HALF) - 65535
    answer = client.read()
    assert answer.ended and answer.body == HALF


def test_a_cut_response_is_reset_for_clients_of_http2_after_what_came_whole(sentinel, origin):
    head = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % (2 * len(HALF))
    proxy = sentinel(origin([read_request, head, HALF]), listener='h2c true', policies=RESPONSE,
                     limits=POOL)
    client = Stalled(proxy)
    wait_for(lambda: in_use(proxy) > 0 and active(proxy) == 0, 20, 'the upstream to be done with')
    answer = client.read()
    assert answer.reset is not None and not answer.ended and answer.body == HALF
    proxy.logged('upstream_truncated')


def test_an_upstream_of_http2_is_set_free_as_well(sentinel, origin):
    server = origin([read_request, response(LARGE), read_to_end])
    second = sentinel(server, listener='h2c true', policies='max-body-size 0')
    proxy = sentinel(f'127.0.0.1:{second.port}', upstream='http-version "2"', policies=RESPONSE,
                     limits=POOL)
    client, message = start_reading(proxy)
    wait_for(lambda: second.records() and active(proxy) == 0, 20, 'the upstream to be done with')
    assert second.log_record()['bytes_out'] == len(LARGE)
    assert client.read_body(message).body == LARGE
    client.close()


def test_a_drain_lets_what_is_held_arrive(sentinel, origin):
    proxy = sentinel(origin([read_request, response(LARGE), read_to_end]), policies=RESPONSE,
                     limits=POOL, server='graceful-shutdown-timeout 60s')
    client, message = start_reading(proxy)
    wait_for(lambda: active(proxy) == 0, 20, 'the upstream to be done with')
    proxy.signal(signal.SIGTERM)
    wait_for(lambda: refused(proxy.port), 10, 'the listener to close')
    assert client.read_body(message).body == LARGE
    client.close()
    assert proxy.wait() == 0
    assert proxy.log_record()['reason'] is None


def test_memory_that_others_need_is_taken_from_clients_that_stand_still(sentinel, origin):
    """One has the memory, another would give its connection back for it, and a third waits."""
    def answer(server, wire):
        read_request(server, wire)
        wire.send(response(HALF if server.requests[-1].target == '/large' else b'ok'))
    proxy = sentinel(origin([answer] * 50 + [read_to_end]), listener='h2c true', policies=RESPONSE,
                     limits='hold-pool "1MiB"\nmax-upstream-connections 1')
    first = Stalled(proxy, '/large')
    wait_for(lambda: in_use(proxy) > 0 and active(proxy) == 0, 20, 'the first to be held')
    second = Stalled(proxy, '/large')
    wait_for(lambda: proxy.metric('sentinel_hold_pool_short_total') == 1, 20, 'a short pool')
    assert proxy.request('/ok').body == b'ok'
    assert shed(proxy, 'slow_reader') == 1
    assert first.read().reset is not None  # who stood still longest
    assert second.read().body == HALF
    proxy.logged('shed_slow_reader')


def test_large_bodies_still_go_through_pipes_while_the_client_keeps_up(sentinel, origin):
    proxy = sentinel(origin([read_request, response(LARGE), read_to_end]), policies=RESPONSE,
                     limits=POOL)
    assert proxy.request().body == LARGE
    assert proxy.metric('sentinel_spliced_bytes_total') > 0
