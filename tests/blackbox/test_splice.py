"""Large bodies of known length, which the kernel moves from socket to socket through pipes."""
import signal
import threading

import pytest

from harness.origins import (CHUNKED, hold, read_body, read_head, read_request, read_to_end, reset,
                             response)
from harness.waiting import wait_for
from harness.wire import chunked, request_bytes

SIZE = 8 << 20
BODY = bytes(range(251)) * (SIZE // 251 + 1)
BODY = BODY[:SIZE]
LENGTH = f'HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n'.encode()


def spliced(proxy):
    return proxy.metric('sentinel_spliced_bytes_total')


def pipes(proxy):
    return proxy.metric('sentinel_splice_pipes_in_use')


def stalled(proxy, target='/'):
    """A client that has sent its request and reads nothing of the large answer."""
    client = proxy.connect(receive_buffer=4096)
    client.send(request_bytes(target))
    return client


def test_a_large_response_goes_through_a_pipe_and_arrives_whole(sentinel, origin):
    server = origin([read_request, response(BODY), read_request, response(b'next'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        assert client.read_response().body == BODY
        client.send(request_bytes())
        assert client.read_response().body == b'next'
    assert len(server.connections) == 1, 'a connection that carried a large body is reused'
    first = proxy.log_records(2)[0]
    assert first['bytes_out'] == SIZE
    wait_for(lambda: spliced(proxy) > SIZE // 2, 10, 'a body through a pipe')
    for counted in ('upstream_received', 'client_sent'):
        assert SIZE < proxy.metric(f'sentinel_{counted}_bytes_total') < SIZE + 4096, counted
    assert pipes(proxy) == 0


def test_a_body_of_64_kib_is_copied_which_costs_less(sentinel, origin):
    body = BODY[:64 << 10]
    proxy = sentinel(origin([read_request, response(body), read_request, response(body)]))
    with proxy.connect() as client:
        for _ in range(2):
            client.send(request_bytes('/', 'PUT', body=body))
            assert client.read_response().body == body
    assert spliced(proxy) == 0


def test_a_large_upload_goes_through_a_pipe_and_arrives_whole(sentinel, origin):
    server = origin([read_request, response(b'one'), read_request, response(b'two'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        for method, answer in (('POST', b'one'), ('PUT', b'two')):
            client.send(request_bytes('/', method, [('Content-Length', str(SIZE))]) + BODY)
            assert client.read_response().body == answer
    assert [request.body == BODY for request in server.requests] == [True, True]
    assert [record['bytes_in'] for record in proxy.log_records(2)] == [SIZE, SIZE]
    wait_for(lambda: spliced(proxy) > SIZE, 10, 'bodies through a pipe')


def test_both_directions_at_once(sentinel, origin):
    def mirror(_server, wire):
        for _ in range(SIZE // 65536):
            wire.send(wire.take(65536))
    proxy = sentinel(origin([read_head, LENGTH, mirror]))
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', str(SIZE))]))
        sender = threading.Thread(target=client.send, args=(BODY,), daemon=True)
        sender.start()
        assert client.read_response().body == BODY
        sender.join(10)


def test_a_body_after_continue_arrives_whole(sentinel, origin):
    server = origin([read_head, b'HTTP/1.1 100 Continue\r\n\r\n', read_body, response(b'done'),
                     read_to_end])
    with sentinel(server).connect() as client:
        client.send(request_bytes('/', 'PUT', [('Expect', '100-continue'),
                                               ('Content-Length', str(SIZE))]))
        assert client.read_interim().status == 100
        client.send(BODY)
        assert client.read_response(interim=True).body == b'done'
    assert server.requests[0].body == BODY


@pytest.mark.parametrize('version, framing', [('HTTP/1.1', 'chunked'), ('HTTP/1.0', 'close')])
def test_a_large_body_until_close_arrives_whole(sentinel, origin, version, framing):
    proxy = sentinel(origin([read_request, b'HTTP/1.1 200 OK\r\n\r\n', BODY]))
    answer = proxy.request(version=version)
    assert (answer.framing, answer.body) == (framing, BODY)


def test_chunked_bodies_are_decoded_and_not_spliced(sentinel, origin):
    proxy = sentinel(origin([read_request, CHUNKED + chunked(BODY)]))
    answer = proxy.request('/', 'POST', [('Transfer-Encoding', 'chunked')], chunked(BODY))
    assert answer.body == BODY
    assert spliced(proxy) == 0


def test_without_pipes_bodies_are_copied(sentinel, origin):
    server = origin([read_request, response(BODY), read_to_end])
    proxy = sentinel(server, limits='splice-pipes 0')
    assert proxy.request('/', 'POST', body=BODY).body == BODY
    assert server.requests[0].body == BODY
    assert spliced(proxy) == 0
    with_one = sentinel(origin([read_request, response(BODY), read_to_end]),
                        limits='splice-pipes 1')
    assert with_one.request().body == BODY
    wait_for(lambda: spliced(with_one) > 0, 10, 'a body through the pipe')


def test_a_reader_that_holds_the_only_pipe_is_in_nobodys_way(sentinel, origin):
    close = [('Connection', 'close')]
    proxy = sentinel(origin([read_request, response(BODY, fields=close)]), limits='splice-pipes 1')
    with stalled(proxy):
        wait_for(lambda: pipes(proxy) == 1, 10, 'a pipe in use')
        assert proxy.request().body == BODY
        assert pipes(proxy) == 1
        assert proxy.metric('sentinel_limit_utilization_ratio', limit='splice-pipes') == 1
    wait_for(lambda: pipes(proxy) == 0, 10, 'the pipe back in the pool')
    assert proxy.request().body == BODY


def test_what_one_client_left_in_a_pipe_never_reaches_another(sentinel, origin):
    secret, public = b's' * SIZE, b'p' * SIZE
    server = origin([read_request, response(secret), read_to_end],
                    [read_request, response(public), read_to_end])
    proxy = sentinel(server, limits='splice-pipes 1')
    client = stalled(proxy)
    wait_for(lambda: pipes(proxy) == 1, 10, 'a pipe in use')
    client.reset()
    wait_for(lambda: pipes(proxy) == 0, 10, 'the pipe back in the pool')
    before = spliced(proxy)
    assert proxy.request().body == public
    wait_for(lambda: spliced(proxy) > before, 10, 'another body through the pipe')
    assert [record['reason'] for record in proxy.log_records(2)] == ['client_closed', None]


def test_a_client_that_stops_reading_is_cut_off_by_name(sentinel, origin):
    proxy = sentinel(origin([read_request, response(BODY), read_to_end]),
                     timeouts='response-write-idle 300ms')
    with stalled(proxy):
        record = proxy.log_record()
    assert record['reason'] == 'client_write_timeout'
    assert record['bytes_out'] < SIZE
    assert pipes(proxy) == 0


def test_an_origin_that_stops_in_the_middle_is_cut_off_by_name(sentinel, origin):
    proxy = sentinel(origin([read_request, LENGTH + BODY[:SIZE // 2], hold]),
                     timeouts='upstream-body-idle 300ms')
    answer = proxy.request()
    assert answer.truncated
    assert answer.body == BODY[:SIZE // 2]
    assert proxy.log_record()['reason'] == 'upstream_body_timeout'
    assert pipes(proxy) == 0


@pytest.mark.parametrize('last', [None, reset])
def test_a_body_that_the_origin_cuts_short_is_cut_short(sentinel, origin, last):
    steps = [read_request, LENGTH + BODY[:SIZE // 2]]
    proxy = sentinel(origin(steps + ([last] if last else [])))
    answer = proxy.request()
    assert answer.truncated
    assert BODY.startswith(answer.body)
    assert last or len(answer.body) == SIZE // 2
    assert proxy.log_record()['reason'] == 'upstream_truncated'
    assert pipes(proxy) == 0


def test_bytes_behind_a_large_body_are_never_forwarded(sentinel, origin):
    server = origin([read_request, response(BODY) + b'HTTP/1.1 200 OK\r\nX: smuggled\r\n\r\n',
                     read_to_end],
                    [read_request, response(b'clean'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        assert client.read_response().body == BODY
        assert client.silent(0.2)
        client.send(request_bytes())
        assert client.read_response().body == b'clean'
    assert len(server.connections) == 2


def test_a_pipelined_request_behind_a_large_upload_is_the_next_one(sentinel, origin):
    server = origin([read_request, response(b'one'), read_request, response(b'two'), read_to_end])
    with sentinel(server).connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', str(SIZE))]) + BODY
                    + request_bytes('/second'))
        assert client.read_response().body == b'one'
        assert client.read_response().body == b'two'
    assert server.requests[0].body == BODY
    assert server.requests[1].target == '/second'


def test_an_upload_that_stops_is_408(sentinel, origin):
    proxy = sentinel(origin([read_head, read_to_end]), timeouts='request-body-idle 300ms')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', str(SIZE))])
                    + BODY[:SIZE // 2])
        assert client.read_response().status == 408
    assert proxy.log_record()['reason'] == 'request_body_timeout'
    assert pipes(proxy) == 0


def test_an_upload_that_is_cut_short_ends_at_the_origin(sentinel, origin):
    server = origin([read_head, read_to_end])
    proxy = sentinel(server)
    client = proxy.connect()
    client.send(request_bytes('/', 'POST', [('Content-Length', str(SIZE))]) + BODY[:SIZE // 2])
    client.reset()
    assert proxy.log_record()['reason'] in ('client_body_truncated', 'client_closed')
    assert pipes(proxy) == 0


def test_an_origin_that_takes_no_more_of_an_upload_is_cut_off_by_name(sentinel, origin):
    proxy = sentinel(origin([read_head, hold]), timeouts='upstream-body-idle 300ms',
                     policies='max-body-size 0')
    with proxy.connect() as client:
        head = request_bytes('/', 'POST', [('Content-Length', str(8 * SIZE))])
        sender = threading.Thread(target=send_all, args=(client, head, BODY, 8), daemon=True)
        sender.start()
        record = proxy.log_record()
    sender.join(10)
    assert record['reason'] == 'upstream_write_timeout'
    assert pipes(proxy) == 0


def send_all(client, head, body, count):
    try:
        client.send(head)
        for _ in range(count):
            client.send(body)
    except OSError:
        pass  # cut off, as it should be


def test_an_early_answer_ends_a_large_upload(sentinel, origin):
    proxy = sentinel(origin([read_head, response(b'no', '403 Forbidden',
                                                 [('Connection', 'close')]), hold]),
                     policies='max-body-size 0')
    with proxy.connect() as client:
        head = request_bytes('/', 'POST', [('Content-Length', str(8 * SIZE))])
        sender = threading.Thread(target=send_all, args=(client, head, BODY, 8), daemon=True)
        sender.start()
        assert client.read_response().status == 403
    sender.join(10)
    assert proxy.log_record()['status'] == 403
    wait_for(lambda: pipes(proxy) == 0, 10, 'the pipe back in the pool')


def test_a_large_body_is_finished_during_the_drain(sentinel, origin):
    proxy = sentinel(origin([read_request, response(BODY), read_to_end]),
                     server='graceful-shutdown-timeout 20s')
    with stalled(proxy) as client:
        wait_for(lambda: pipes(proxy) == 1, 10, 'a pipe in use')
        proxy.signal(signal.SIGTERM)
        assert client.read_response().body == BODY
    assert proxy.wait() == 0
