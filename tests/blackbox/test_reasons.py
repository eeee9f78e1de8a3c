"""Every way to fail shows its name: a scenario for each row of error.def, told by the access log.

tests/reasons/reasons.txt lists which scenario stands for which reason, timer and limit, also those
that live in other files.
"""
import os
import signal
import socket
import time

from harness.checks import assert_own_answer, get, head
from harness.origins import (CHUNKED, hold, read_head, read_request, read_to_end, reset, response)
from harness.processes import of_role
from harness.waiting import wait_for
from harness.wire import chunked, request_bytes

POST = ('POST / HTTP/1.1', 'Host: a')


def refusals(proxy, cases):
    """Each head gets its one answer, and its one record says why."""
    for number, (reason, status, data) in enumerate(cases, 1):
        with proxy.connect() as client:
            client.send(data)
            assert_own_answer(client.read_response(), status, reason)
        record = proxy.log_records(number)[-1]
        assert (record['reason'], record['status']) == (reason, status)
        assert proxy.metric('sentinel_failures_total', reason=reason) >= 1
    assert {reason for reason, _, _ in cases} == {proxy.logged(case[0])['reason'] for case in cases}


def test_malformed_heads(sentinel, echo):
    refusals(sentinel(echo), [
        ('bad_request_line', 400, b'GET /\r\n\r\n'),
        ('bad_method', 400, b'\x16\x03\x01\x02\x00\x01\x00\x01'),
        ('bad_target', 400, get('/%zz')),
        ('ambiguous_path', 400, get('/../etc')),
        ('bad_version', 505, head('GET / HTTP/2.0', 'Host: a')),
        ('bad_field', 400, get('/', 'No colon')),
        ('bad_host', 400, head('GET / HTTP/1.1')),
        ('bad_content_length', 400, head(*POST, 'Content-Length: 1, 1')),
        ('bad_transfer_encoding', 400, head(*POST, 'Transfer-Encoding: gzip')),
        ('bad_expect', 417, head(*POST, 'Expect: a miracle', 'Content-Length: 1')),
        ('connect_refused', 501, head('CONNECT a:443 HTTP/1.1', 'Host: a:443')),
        ('bad_max_forwards', 400, head('TRACE / HTTP/1.1', 'Host: a', 'Max-Forwards: many')),
    ])
    assert echo.requests == []


def test_heads_beyond_their_limits(sentinel, echo):
    limits = 'request-line "1KiB"\nhead-size "2KiB"\nheader-fields 10'
    refusals(sentinel(echo, limits=limits), [
        ('uri_too_long', 414, get('/' + 'a' * 1100)),
        ('head_too_large', 431, get('/', 'Cookie: ' + 'a' * 2100)),
        ('too_many_fields', 431, get('/', *[f'X{number}: a' for number in range(10)])),
    ])
    assert echo.requests == []


def test_malformed_bodies(sentinel, echo):
    coded = head(*POST, 'Transfer-Encoding: chunked')
    refusals(sentinel(echo), [
        ('bad_chunk', 400, coded + b'x\r\n'),
        ('bad_trailer', 400, coded + b'0\r\nNo colon\r\n\r\n'),
    ])


def test_a_body_beyond_its_limit(sentinel, echo):
    refusals(sentinel(echo, policies='max-body-size "1KiB"'), [
        ('body_too_large', 413, head(*POST, 'Content-Length: 1025')),
        ('body_too_large', 413, head(*POST, 'Transfer-Encoding: chunked') + chunked(b'a' * 1025)),
    ])


def test_a_body_that_ends_too_early(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(head(*POST, 'Content-Length: 10') + b'half')
        client.half_close()
        assert client.ended()
    assert proxy.logged('client_body_truncated')['status'] is None


def test_a_client_that_leaves(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        client.reset()
    record = proxy.logged('client_closed')
    assert (record['status'], record['upstream']) == (None, 'backend')


def test_no_route(sentinel):
    proxy = sentinel(routes='route "a" {\n    match path="/a"\n    respond 200\n}\n')
    assert_own_answer(proxy.request('/b'), 404, 'no_route')
    assert proxy.logged('no_route')['route'] is None


def test_the_grace_time_ends(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, server='graceful-shutdown-timeout 300ms')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
    assert proxy.logged('draining')['upstream'] == 'backend'


def test_an_endpoint_that_refuses(sentinel, origin):
    gone = origin()
    gone.refuse()
    proxy = sentinel(gone)
    assert_own_answer(proxy.request(), 502, 'connect_failed')
    assert proxy.logged('connect_failed')['endpoint'] == gone.address


def test_endpoints_that_are_all_unwell(sentinel, origin):
    server = origin([read_request, response(status='500 No'), read_to_end])
    proxy = sentinel(server, upstream='health-check {\n    interval 50ms\n'
                                      '    unhealthy-threshold 1\n    type "http"\n}\n')
    wait_for(lambda: proxy.metric('sentinel_endpoint_up') == 0, 10, 'the endpoint to be taken out')
    assert_own_answer(proxy.request(), 503, 'no_endpoint')
    assert proxy.logged('no_endpoint')['endpoint'] is None


def test_an_upstream_that_closes(sentinel, origin):
    proxy = sentinel(origin([read_request]))
    assert_own_answer(proxy.request(), 502, 'upstream_closed')
    assert proxy.logged('upstream_closed')['attempts'] == 1


def test_an_upstream_that_breaks_the_rules(sentinel, origin):
    proxy = sentinel(origin([read_request, b'HTTP/1.1 2OO OK\r\n\r\n', read_to_end]))
    assert_own_answer(proxy.request(), 502, 'bad_response')
    assert proxy.logged('bad_response')['first_byte_ms'] is None


def test_response_heads_beyond_their_limits(sentinel, origin):
    large = response(fields=[('Set-Cookie', 'a' * 3000)])
    many = response(fields=[(f'X{number}', 'a') for number in range(12)])
    for answer, limits in ((large, 'head-size "2KiB"'), (many, 'header-fields 10')):
        proxy = sentinel(origin([read_request, answer, read_to_end]), limits=limits)
        assert_own_answer(proxy.request(), 502, 'response_head_too_large')
        assert proxy.logged('response_head_too_large')['status'] == 502


def test_responses_that_are_cut_off(sentinel, origin):
    cases = {
        'upstream_truncated': [b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf', reset],
        'upstream_bad_body': [CHUNKED + b'4\r\nhalf\r\nx\r\n', hold],
    }
    for reason, script in cases.items():
        proxy = sentinel(origin([read_request, *script]))
        assert proxy.request().truncated
        record = proxy.logged(reason)
        assert (record['status'], record['reason']) == (200, reason)


def test_an_upload_that_nobody_reads(sentinel, origin):
    proxy = sentinel(origin([read_head, hold]), timeouts='upstream-body-idle 300ms')
    with proxy.connect(seconds=2) as client:
        try:
            client.send(request_bytes('/', 'POST', body=b'x' * (9 << 20)))
        except (TimeoutError, ConnectionError):
            pass  # nobody reads; or the answer came before the whole body was sent
    assert proxy.logged('upstream_write_timeout')['upstream'] == 'backend'


def stuck_in_heads(proxy, count):
    """Clients that ask for response heads and never read: each holds buffers of the pool."""
    clients = [proxy.connect(receive_buffer=4096, seconds=5) for _ in range(count)]
    for client in clients:
        client.sock.setblocking(False)
        try:
            client.send(request_bytes() * 400)
        except BlockingIOError:
            pass
    return clients


def test_a_pool_without_buffers(sentinel, origin):
    """Heads larger than a buffer fill the pool, reserve and all; the next one waits in vain.

    Clients that hold buffers are cut off before one that waits for them would give up. Only a
    worker that wakes up late finds both too late at once: it is stopped for longer than the timer.
    """
    large = response(fields=[('X', 'a' * 28000)])

    def serve(server, wire):
        while True:
            read_request(server, wire)
            wire.send(large)
    proxy = sentinel(origin([serve]), timeouts='response-write-idle 1500ms',
                     limits='buffer-pool "256KiB"\nhead-size "32KiB"')
    full = 256 // 16
    clients = stuck_in_heads(proxy, 12)
    try:
        wait_for(lambda: proxy.metric('sentinel_buffers_in_use') >= full - 1, 10, 'a full pool')
        worker, = of_role(proxy, 'worker')
        os.kill(worker, signal.SIGSTOP)
        time.sleep(2)
        os.kill(worker, signal.SIGCONT)
        assert proxy.logged('buffers_full')['status'] is None
    finally:
        for client in clients:
            client.reset()
