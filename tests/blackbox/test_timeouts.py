"""Every wait has a deadline with a key; whoever is late gets what the table of timers promises."""
import socket
import time

from harness.checks import assert_alive, assert_own_answer
from harness.origins import (drip, hold, pause, read_head, read_request, read_to_end, response)
from harness.waiting import wait_for
from harness.wire import Closed, request_bytes


def seconds_of(action):
    start = time.monotonic()
    result = action()
    return time.monotonic() - start, result


def test_a_slow_head_is_408(sentinel, echo):
    proxy = sentinel(echo, timeouts='request-head 500ms')
    with proxy.connect() as client:
        client.send(b'GET / HTTP/1.1\r\nHost: a\r\n')
        spent, answer = seconds_of(client.read_response)
        assert_own_answer(answer, 408, 'request_head_timeout')
        assert client.ended(5)
    assert 0.3 < spent < 5
    assert proxy.log_record()['reason'] == 'request_head_timeout'


def test_the_deadline_of_a_head_does_not_move_with_its_bytes(sentinel, echo):
    proxy = sentinel(echo, timeouts='request-head 700ms')
    with proxy.connect() as client:
        client.send(b'GET / HTTP/1.1\r\nHost: a\r\nX: ')
        start = time.monotonic()
        answer = None
        while time.monotonic() - start < 6 and answer is None:
            try:
                client.send(b'a')
            except ConnectionError:
                break
            if not client.silent(0.05):
                answer = client.read_response()
        assert time.monotonic() - start < 5
        assert_own_answer(answer, 408, 'request_head_timeout')


def test_a_stalled_request_body_is_408(sentinel, echo):
    proxy = sentinel(echo, timeouts='request-body-idle 500ms')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', '10')]) + b'half')
        spent, answer = seconds_of(client.read_response)
        assert_own_answer(answer, 408, 'request_body_timeout')
        assert client.ended(5)
    assert spent < 5
    assert echo.requests == []
    assert proxy.logged('request_body_timeout')['bytes_in'] == 4


def test_a_dripping_request_body_is_cut_off_by_the_minimum_rate(sentinel, echo):
    proxy = sentinel(echo, timeouts='request-body-min-rate 1000\nrequest-body-idle 5s',
                     policies='timeout 60s')
    with proxy.connect(seconds=30) as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', '100000')]))
        start = time.monotonic()
        answer = None
        while time.monotonic() - start < 25 and answer is None:
            try:
                client.send(b'a' * 100)  # half the rate, or less
            except ConnectionError:
                break
            if not client.silent(0.2):
                answer = client.read_response()
        assert 9 < time.monotonic() - start < 22
        assert_own_answer(answer, 408, 'request_body_too_slow')
    assert echo.requests == []
    assert proxy.logged('request_body_too_slow')['bytes_in'] < 10000


def test_an_idle_connection_is_closed_quietly(sentinel, echo):
    proxy = sentinel(echo, timeouts='keep-alive 500ms')
    with proxy.connect() as client:
        client.send(request_bytes())
        assert client.read_response().status == 200
        spent, _ = seconds_of(lambda: client.ended(5))
        assert 0.3 < spent < 4
        assert client.buffer == b''
    assert len(proxy.log_records(1)) == 1


def test_a_connection_that_never_speaks_is_closed(sentinel, echo):
    proxy = sentinel(echo, timeouts='keep-alive 500ms\nrequest-head 500ms')
    with proxy.connect() as client:
        assert client.ended(5)
        assert client.buffer == b''


def test_a_client_that_does_not_read_is_cut_off(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n',
                     *[b'x' * 1000000] * 100, read_to_end])
    proxy = sentinel(server, timeouts='response-write-idle 500ms')
    with proxy.connect(receive_buffer=4096) as client:
        client.send(request_bytes())
        record = proxy.log_record(20)
        assert record['reason'] == 'client_write_timeout'
        assert record['bytes_out'] < 100000000
        answer = client.read_response()
        assert answer.truncated


def test_a_client_that_reads_slowly_but_steadily_is_served(sentinel, origin):
    """The kernel says that there is room again only when a third of its buffer, which may be megabytes,
    is free: what the client acknowledges counts, too."""
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n',
                     *[b'x' * 1000000] * 100, read_to_end])
    proxy = sentinel(server, timeouts='response-write-idle 500ms')
    with proxy.connect(receive_buffer=8192) as client:
        client.send(request_bytes())
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert client.sock.recv(4096) != b''
            time.sleep(0.05)  # 80 KiB a second
        assert proxy.records() == []
    assert proxy.log_record()['reason'] == 'client_closed'


def test_what_a_client_has_read_counts_for_the_whole_time(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n',
                     *[b'x' * 1000000] * 100, read_to_end])
    proxy = sentinel(server, timeouts='response-write-idle 4s')
    with proxy.connect(receive_buffer=8192) as client:
        client.send(request_bytes())
        time.sleep(1.2)
        for _ in range(16):
            assert client.sock.recv(4096) != b''
        time.sleep(4)  # it has read in this time, if not of late
        assert proxy.records() == []


def test_a_slow_reader_of_our_own_answers_is_no_special_case(sentinel, echo):
    proxy = sentinel(echo, timeouts='response-write-idle 500ms', routes='''
route "big" {
    respond 200 body="%s"
}
''' % ('x' * 60000))
    with proxy.connect(receive_buffer=2048) as client:
        try:
            for _ in range(200):
                client.sock.settimeout(1)
                client.send(request_bytes() * 10)
        except (TimeoutError, ConnectionError):
            pass
        wait_for(lambda: any(record['reason'] == 'client_write_timeout'
                             for record in proxy.records()), 15, 'the cut')


def test_an_origin_that_does_not_answer_is_504(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, policies='timeout 500ms')
    spent, answer = seconds_of(proxy.request)
    assert_own_answer(answer, 504, 'upstream_timeout')
    assert 0.3 < spent < 5
    assert proxy.logged('upstream_timeout')['endpoint'] == server.address
    assert proxy.log_record()['upstream'] == 'backend'


def test_the_route_timeout_ends_with_the_response_head(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n',
                     drip(b'slowly', 0.25)])
    proxy = sentinel(server, policies='timeout 700ms')
    answer = proxy.request()
    assert (answer.status, answer.body) == (200, b'slowly')


def test_a_dripping_response_head_does_not_extend_the_route_timeout(sentinel, origin):
    server = origin([read_request, drip(b'HTTP/1.1 200 OK\r\nX: ' + b'a' * 500, 0.05)])
    proxy = sentinel(server, policies='timeout 700ms')
    spent, answer = seconds_of(proxy.request)
    assert_own_answer(answer, 504, 'upstream_timeout')
    assert spent < 5


def test_a_single_try_has_its_own_timeout(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, policies='timeout 8s\nretry-policy {\n    max-attempts 1\n'
                                      '    timeout 500ms\n}')
    spent, answer = seconds_of(proxy.request)
    assert_own_answer(answer, 504, 'try_timeout')
    assert spent < 5
    assert proxy.logged('try_timeout')['attempts'] == 1


TWO_TRIES = 'timeout 30s\nretry-policy {\n    max-attempts 2\n    timeout 500ms\n}'


def test_a_try_that_takes_too_long_is_followed_by_another_elsewhere(sentinel, origin):
    """Each of the two endpoints comes first in one of two requests."""
    silent = origin([read_request, hold], [read_request, hold])
    proxy = sentinel(silent, origin(name='quick'), policies=TWO_TRIES)
    assert [proxy.request().status for _ in range(2)] == [200, 200]
    assert sorted(record['attempts'] for record in proxy.log_records(2)) == [1, 2]
    assert len(silent.requests) == 1
    assert proxy.metric('sentinel_retries_total', upstream='backend') == 1


def test_a_try_that_may_have_done_something_is_not_followed_by_another(sentinel, origin):
    server = origin([read_request, hold], [read_request, hold])
    proxy = sentinel(server, policies=TWO_TRIES)
    assert_own_answer(proxy.request('/', 'POST', body=b'x'), 504, 'try_timeout')
    assert proxy.logged('try_timeout')['attempts'] == 1 and len(server.requests) == 1


def test_a_stalled_response_body_is_cut_and_seen_as_cut(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf', hold])
    proxy = sentinel(server, timeouts='upstream-body-idle 500ms')
    answer = proxy.request()
    assert (answer.status, answer.body, answer.truncated) == (200, b'half', True)
    assert proxy.log_record()['reason'] == 'upstream_body_timeout'
    assert proxy.metric('sentinel_upstream_failures_total', upstream='backend',
                        reason='upstream_body_timeout') == 1


def test_an_origin_that_reads_slowly_but_steadily_is_waited_for(sentinel, origin):
    def read_slowly(_origin, wire):
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert wire.sock.recv(4096) != b''
            time.sleep(0.05)

    server = origin([read_head, read_slowly, response(b'done', fields=[('Connection', 'close')])])
    server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    proxy = sentinel(server, timeouts='upstream-body-idle 500ms\nrequest-body-idle 20s')
    with proxy.connect() as client:
        client.sock.settimeout(2)
        try:
            client.send(request_bytes('/', 'POST', body=b'x' * (9 << 20)))
        except TimeoutError:
            pass
        client.sock.settimeout(10)
        assert client.read_response().body == b'done'
    assert proxy.metric('sentinel_upstream_failures_total', upstream='backend') == 0


def test_an_origin_that_does_not_read_the_body_is_given_up(sentinel, origin):
    server = origin([read_head, hold])
    proxy = sentinel(server, timeouts='upstream-body-idle 500ms\nrequest-body-idle 20s')
    with proxy.connect() as client:
        client.sock.settimeout(3)
        try:
            client.send(request_bytes('/', 'POST', body=b'x' * (9 << 20)))
        except (TimeoutError, ConnectionError):
            pass
        client.sock.settimeout(10)
        try:
            assert client.read_response().status == 502
        except Closed:
            pass  # the reset overtook the answer; the record below tells
    assert proxy.log_record()['reason'] == 'upstream_write_timeout'
    assert proxy.metric('sentinel_upstream_failures_total', upstream='backend',
                        reason='upstream_write_timeout') == 1


def test_connecting_takes_no_longer_than_its_timer(sentinel):
    """192.0.2.0/24 is TEST-NET: no route or no answer, either way no endless wait."""
    proxy = sentinel('192.0.2.1:81', timeouts='connect 500ms')
    spent, answer = seconds_of(proxy.request)
    assert answer.status == 502
    assert answer.json()['reason'] in ('connect_timeout', 'connect_failed')
    assert spent < 5


class Deaf:
    """A listener that never accepts, its backlog full."""
    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(('127.0.0.1', 0))
        self.listener.listen(0)
        self.address = '127.0.0.1:%d' % self.listener.getsockname()[1]
        self.fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.listener.getsockname())
            self.fillers.append(filler)
        time.sleep(0.2)

    def stop(self):
        for sock in (*self.fillers, self.listener):
            sock.close()


def test_a_full_backlog_is_a_connect_timeout(sentinel, stack):
    stack.append(Deaf())
    proxy = sentinel(stack[-1], timeouts='connect 500ms')
    spent, answer = seconds_of(proxy.request)
    assert_own_answer(answer, 502, 'connect_timeout')
    assert 0.3 < spent < 6
    assert proxy.logged('connect_timeout')['upstream'] == 'backend'


ONE_SHORT_TRY = 'timeout 30s\nretry-policy {\n    max-attempts 1\n    timeout 300ms\n}'


def test_a_try_that_connects_has_no_more_time(sentinel, stack):
    stack.append(Deaf())
    proxy = sentinel(stack[-1], timeouts='connect 20s', policies=ONE_SHORT_TRY)
    spent, answer = seconds_of(proxy.request)
    assert_own_answer(answer, 502, 'connect_timeout')
    assert spent < 10
    assert 'retry-policy' in proxy.logged('connect_timeout')['hint']


def test_a_try_that_waits_for_a_connection_has_no_more_time(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, limits='max-upstream-connections 1', timeouts='queue 20s',
                     extra='route "slow" {\n    match path="/slow"\n    upstream "backend"\n}\n',
                     policies=ONE_SHORT_TRY)
    with proxy.connect() as first:
        first.send(request_bytes('/slow'))
        server.wait_requests(1)
        spent, answer = seconds_of(proxy.request)
        assert_own_answer(answer, 503, 'queue_timeout')
        assert spent < 10
        assert 'retry-policy' in proxy.logged('queue_timeout')['hint']


def test_an_idle_upstream_connection_is_closed(sentinel, echo):
    proxy = sentinel(echo, timeouts='upstream-keep-alive 500ms')
    assert proxy.request().status == 200
    assert echo.connections[0].sock.fileno() != -1
    wait_for(lambda: echo.connections[0].sock.fileno() == -1, 5, 'the close at the origin')
    assert proxy.request().json()['connection'] == 1


def test_the_origins_keep_alive_timeout_is_honoured(sentinel, origin):
    first = response(b'1', fields=[('Keep-Alive', 'timeout=1')])
    server = origin([read_request, first, read_to_end],
                    [read_request, response(b'2'), read_to_end])
    proxy = sentinel(server, timeouts='upstream-keep-alive 30s')
    assert proxy.request().body == b'1'
    wait_for(lambda: server.connections[0].sock.fileno() == -1, 5, 'the close at the origin')
    assert proxy.request().body == b'2'


def test_a_connection_is_given_up_a_second_before_its_origin_does(sentinel, origin):
    """A request that meets the origin's close on its way would be lost."""
    first = response(b'1', fields=[('Keep-Alive', 'timeout=1')])
    server = origin([read_request, first, hold], [read_request, response(b'2'), read_to_end])
    proxy = sentinel(server, timeouts='upstream-keep-alive 30s')
    with proxy.connect() as client:
        for body in (b'1', b'2'):
            client.send(request_bytes())
            assert client.read_response().body == body
    assert len(server.connections) == 2


def test_a_timer_that_fired_leaves_the_proxy_in_order(sentinel, origin):
    server = origin([read_request, hold], [read_request, response(b'ok')])
    proxy = sentinel(server, policies='timeout 300ms')
    assert proxy.request().status == 504
    assert_alive(proxy)


def test_the_wait_for_continue_ends(sentinel, origin):
    def body_after(server, wire):
        start = time.monotonic()
        wire.read_body(server.requests[-1])
        server.waited = time.monotonic() - start
    server = origin([read_head, body_after, response(b'ok')])
    proxy = sentinel(server, timeouts='continue 300ms')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'PUT', [('Expect', '100-continue'), ('Content-Length', '4')])
                    + b'body')
        assert client.read_response().body == b'ok'
    assert server.waited < 5


def test_a_paused_but_living_exchange_is_not_cut(sentinel, origin):
    server = origin([read_request, pause(1.2), response(b'in time')])
    proxy = sentinel(server, timeouts='request-head 500ms\nrequest-body-idle 500ms\n'
                                      'keep-alive 500ms\nresponse-write-idle 500ms',
                     policies='timeout 10s')
    assert proxy.request('/', 'POST', body=b'x').body == b'in time'
