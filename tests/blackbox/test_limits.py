"""Everything is bounded, each bound has a key, and beyond it there is an answer, not a surprise."""
import pytest

from harness.checks import assert_alive, assert_own_answer, assert_refused, get
from harness.origins import hold, read_request, read_to_end, response
from harness.waiting import wait_for
from harness.wire import Closed, chunked, request_bytes


def test_a_long_request_line_is_414(sentinel, echo):
    proxy = sentinel(echo, limits='request-line "1KiB"')
    assert_refused(proxy, get('/' + 'a' * 1100), 414, 'uri_too_long')
    assert proxy.request('/' + 'a' * 900).status == 200


def test_a_request_line_without_end_is_414(sentinel, echo):
    assert_refused(sentinel(echo), b'GET /' + b'a' * 70000, 414, 'uri_too_long')


def test_a_large_head_is_431(sentinel, echo):
    proxy = sentinel(echo, limits='head-size "2KiB"')
    assert_refused(proxy, get('/', 'X: ' + 'a' * 2100), 431, 'head_too_large')
    assert proxy.request(fields=[('X', 'a' * 1500)]).status == 200


def test_a_head_without_end_is_431(sentinel, echo):
    assert_refused(sentinel(echo), b'GET / HTTP/1.1\r\nHost: a\r\nX: ' + b'a' * 70000, 431,
                   'head_too_large')


def test_many_fields_are_431(sentinel, echo):
    proxy = sentinel(echo, limits='header-fields 10')
    assert_refused(proxy, get('/', *[f'X{n}: a' for n in range(10)]), 431, 'too_many_fields')
    assert proxy.request(fields=[(f'X{n}', 'a') for n in range(9)]).status == 200


def test_a_hundred_fields_are_the_default(sentinel, echo):
    proxy = sentinel(echo)
    assert proxy.request(fields=[(f'X{n}', 'a') for n in range(99)]).status == 200
    assert_refused(proxy, get('/', *[f'X{n}: a' for n in range(100)]), 431, 'too_many_fields')


def test_many_connection_options_are_431_for_they_multiply_with_the_fields(sentinel, echo):
    proxy = sentinel(echo)
    fields = [(f'X{n}', 'a') for n in range(90)]
    few = [('Connection', ', '.join(f'X{n}' for n in range(32)))]
    assert proxy.request(fields=few + fields).status == 200
    seen = {name for name, _value in echo.requests[0].fields}
    assert 'X32' in seen and not seen & {f'X{n}' for n in range(32)}
    assert_refused(proxy, get('/', 'Connection: ' + 'a,' * 33, *[f'X{n}: a' for n in range(90)]),
                   431, 'too_many_fields')


def test_an_announced_body_above_the_limit_is_413_before_the_origin_hears_of_it(sentinel, echo):
    proxy = sentinel(echo, policies='max-body-size "1KiB"')
    assert_refused(proxy, request_bytes('/', 'POST', [('Content-Length', '1025')]), 413,
                   'body_too_large')
    assert echo.requests == [] and echo.connections == []
    assert proxy.request('/', 'POST', body=b'x' * 1024).status == 200


def test_a_chunked_body_above_the_limit_is_413(sentinel, echo):
    proxy = sentinel(echo, policies='max-body-size "1KiB"')
    data = request_bytes('/', 'POST', [('Transfer-Encoding', 'chunked')]) + chunked(b'x' * 1025)
    with proxy.connect() as client:
        client.send(data)
        answer = client.read_response()
        assert_own_answer(answer, 413, 'body_too_large')
        if answer.get('Connection') != 'close':
            client.send(request_bytes('/next'))
            assert client.read_response().json()['target'] == '/next'
    assert [request.target for request in echo.requests] in ([], ['/next'])


def test_ten_megabytes_of_body_are_the_default(sentinel, echo):
    proxy = sentinel(echo)
    announced = request_bytes('/', 'POST', [('Content-Length', str(10 * 2**20 + 1))])
    assert_refused(proxy, announced, 413, 'body_too_large')
    assert proxy.request('/', 'POST', body=b'x' * (10 * 2**20)).status == 200


def test_connections_beyond_the_maximum_get_503(sentinel, echo):
    proxy = sentinel(echo, server='max-connections 8')
    clients = []
    try:
        for _ in range(8):
            clients.append(proxy.connect())
            clients[-1].send(b'GET / HTTP/1.1\r\nHost: a\r\n')
        wait_for(lambda: proxy.metric('sentinel_connections', listener='http') >= 7, 10,
                 'eight connections')
        with proxy.connect() as client:
            answer = client.read_response()
            assert_own_answer(answer, 503, 'connections_full')
            assert client.ended(5)
        assert proxy.logged('connections_full')['listener'] == 'http'
    finally:
        for client in clients:
            client.close()
    wait_for(lambda: proxy.metric('sentinel_connections', listener='http') < 8, 10, 'room')
    assert_alive(proxy)


def test_one_client_address_cannot_take_all_connections(sentinel, echo):
    proxy = sentinel(echo, limits='connections-per-client 4')
    greedy = [proxy.connect(source='127.0.0.5') for _ in range(4)]
    try:
        for client in greedy:
            client.send(request_bytes())
            assert client.read_response().status == 200
        with proxy.connect(source='127.0.0.5') as client:
            assert_own_answer(client.read_response(), 429, 'client_connections')
            assert client.ended(5)
        assert proxy.logged('client_connections')['client'] == '127.0.0.5'
        assert proxy.request(source='127.0.0.6').status == 200
    finally:
        for client in greedy:
            client.close()

    def room():
        try:
            return proxy.request(source='127.0.0.5').status == 200
        except (Closed, ConnectionError):
            return False
    wait_for(room, 10, 'room for the first client')


def test_requests_in_flight_are_bounded(sentinel, origin):
    server = origin([read_request, hold, response(b'ok'), read_to_end])
    proxy = sentinel(server, limits='max-requests 2')
    waiting = [proxy.connect() for _ in range(2)]
    for client in waiting:
        client.send(request_bytes())
    server.wait_requests(2)
    assert_own_answer(proxy.request(), 503, 'requests_full')
    assert proxy.logged('requests_full')['attempts'] == 0
    server.release()
    for client in waiting:
        assert client.read_response().body == b'ok'
        client.close()


def test_a_full_set_of_upstream_connections_makes_requests_wait(sentinel, origin):
    server = origin([read_request, hold, response(b'ok'), read_request, response(b'ok'),
                     read_to_end])
    proxy = sentinel(server, limits='max-upstream-connections 1', timeouts='queue 10s')
    with proxy.connect() as first, proxy.connect() as second:
        first.send(request_bytes('/1'))
        server.wait_requests(1)
        second.send(request_bytes('/2'))
        assert second.silent(0.5)
        server.release()
        assert first.read_response().body == b'ok'
        assert second.read_response().body == b'ok'
    assert len(server.connections) == 1
    assert proxy.log_records(2)[1]['queue_ms'] >= 300


def test_waiting_for_an_upstream_connection_ends(sentinel, origin):
    server = origin([read_request, hold, response(b'ok')])
    proxy = sentinel(server, limits='max-upstream-connections 1', timeouts='queue 500ms')
    with proxy.connect() as first:
        first.send(request_bytes('/1'))
        server.wait_requests(1)
        assert_own_answer(proxy.request('/2'), 503, 'queue_timeout')
        assert proxy.logged('queue_timeout')['endpoint'] == server.address
        server.release()
        assert first.read_response().body == b'ok'


def test_a_small_buffer_pool_is_back_pressure_not_failure(sentinel, origin):
    body = bytes(range(256)) * 8192
    server = origin([read_request, response(body)])
    proxy = sentinel(server, limits='buffer-pool "256KiB"')
    clients = [proxy.connect(seconds=30) for _ in range(12)]
    for client in clients:
        client.send(request_bytes())
    for client in clients:
        answer = client.read_response()
        client.close()
        assert answer.status == 503 or (answer.body == body and not answer.truncated)
    assert proxy.request().body == body


@pytest.mark.parametrize('size', [8 * 1024 - 64])
def test_a_head_just_below_the_default_limit_passes(sentinel, echo, size):
    fields = [('X', 'a' * (size - len(get('/', 'X: '))))]
    assert sentinel(echo).request(fields=fields).status == 200


RATE = 'request-rate-per-client 1 burst=5'


def test_a_client_that_asks_too_often_gets_429(sentinel, echo):
    proxy = sentinel(echo, limits=RATE)
    with proxy.connect(source='127.0.0.5') as client:
        for _ in range(5):
            client.send(request_bytes())
            assert client.read_response().status == 200
        refused = []
        while not refused or len(refused) < 3:
            client.send(request_bytes())
            answer = client.read_response()
            if answer.status == 200:  # one a second, however slow this machine is
                assert not refused or len(echo.requests) < 100
                continue
            assert_own_answer(answer, 429, 'client_request_rate')
            assert 1 <= int(answer.get('Retry-After')) <= 2
            refused.append(answer)
        assert proxy.request(source='127.0.0.6').status == 200
    records = [record for record in proxy.log_records(len(echo.requests) + 3)
               if record['status'] == 429]
    assert [record['reason'] for record in records] == ['client_request_rate'] * 3
    assert proxy.metric('sentinel_failures_total', reason='client_request_rate') == 3


def test_a_client_has_one_rate_at_all_workers(sentinel, echo):
    proxy = sentinel(echo, server='workers 4', limits='request-rate-per-client 1 burst=20')
    statuses = [proxy.request(source='127.0.0.5').status for _ in range(60)]
    assert set(statuses) == {200, 429}
    assert statuses[:20] == [200] * 20
    assert statuses.count(200) < 50  # 20 and one each second; four tables would let in 60


def test_the_rate_is_of_the_client_that_a_trusted_proxy_names(sentinel, echo):
    proxy = sentinel(echo, limits=RATE, listener='trusted-proxies "127.0.0.1/32"')

    def ask(client):
        return proxy.request(fields=[('X-Forwarded-For', client)]).status
    assert [ask(f'192.0.2.{n}') for n in range(30)] == [200] * 30
    assert 429 in [ask('192.0.2.99') for _ in range(30)]
    assert 429 in [ask(f'2001:db8::{n}') for n in range(1, 30)]
    assert ask('2001:db8:0:1::1') == 200


def test_a_burst_is_as_many_as_the_rate_where_it_is_not_said(sentinel, echo):
    proxy = sentinel(echo, limits='request-rate-per-client 3')
    statuses = [proxy.request().status for _ in range(40)]
    assert statuses[:3] == [200] * 3 and 429 in statuses
    assert proxy.logged('client_request_rate')['status'] == 429


def used(proxy, limit):
    return proxy.metric('sentinel_limit_utilization_ratio', limit=limit)


def test_the_use_of_each_bound_is_shown(sentinel, origin):
    server = origin([read_request, hold, response(b'ok'), read_to_end])
    proxy = sentinel(server, server='max-connections 20\nworkers 2', limits='max-requests 20\n'
                     'max-upstream-connections 20\nconnections-per-client 8\n'
                     'request-rate-per-client 1 burst=100\nbuffer-pool "256KiB"')
    waiting = [proxy.connect(source='127.0.0.5') for _ in range(5)]
    for client in waiting:
        client.send(request_bytes())
    server.wait_requests(5)
    wait_for(lambda: used(proxy, 'max-requests') == 0.25, 10, 'five requests')
    assert 0 <= used(proxy, 'rate-table') < 0.1  # a sample, of what lasts five seconds
    wait_for(lambda: used(proxy, 'max-connections') >= 0.25, 10, 'five connections')
    wait_for(lambda: used(proxy, 'max-upstream-connections') >= 0.3, 10, 'three of ten')
    wait_for(lambda: used(proxy, 'requests-of-worker') > 0, 10, 'a place for a request')
    wait_for(lambda: used(proxy, 'client-table') > 0, 10, 'a client counted')
    wait_for(lambda: used(proxy, 'connections-per-client') == 5 / 8, 10, 'a busy client')
    wait_for(lambda: used(proxy, 'admin-connections') > 0, 10, 'the one that asks')
    for limit in ('buffer-pool', 'splice-pipes', 'client-heads', 'upstream-heads'):
        assert used(proxy, limit) >= 0
    server.release()
    for client in waiting:
        client.close()
    wait_for(lambda: used(proxy, 'max-requests') == 0, 10, 'the end of the requests')
    wait_for(lambda: used(proxy, 'max-connections') == 0, 10, 'the end of the connections')
