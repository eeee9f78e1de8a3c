"""The harness against itself, without Sentinel: a scenario is worth what its instruments are."""
import hashlib

import pytest

from harness.origins import (CHUNKED, drip, hold, pause, read_head, read_request, read_to_end,
                             reset, response)
from harness.proxy import METRIC, Plan
from harness.waiting import free_ports, wait_for
from harness.wire import Closed, chunked, connect, request_bytes


def test_the_echo_origin_says_what_it_received(echo):
    with connect(echo.port) as client:
        client.send(request_bytes('/a?b', 'POST', [('X-A', '1'), ('X-A', '2')], b'hello'))
        seen = client.read_response().json()
    assert (seen['method'], seen['target'], seen['body']) == ('POST', '/a?b', 'hello')
    assert seen['fields'][1:3] == [['X-A', '1'], ['X-A', '2']]
    assert seen['sha256'] == hashlib.sha256(b'hello').hexdigest()
    assert seen['framing'] == 'length'


def test_the_echo_origin_reads_chunks_and_trailers_and_keeps_the_connection(echo):
    with connect(echo.port) as client:
        for _ in range(2):
            client.send(request_bytes('/', 'POST', [('Transfer-Encoding', 'chunked')])
                        + chunked(b'ab', b'c' * 300, trailers=[('X-T', 'v')]))
            seen = client.read_response().json()
            assert (seen['length'], seen['framing']) == (302, 'chunked')
            assert seen['trailers'] == [['X-T', 'v']]
        assert seen['connection'] == 0


def test_a_scripted_origin_follows_one_script_for_each_connection(origin):
    server = origin([read_head, b'HTTP/1.1 204 No Content\r\n\r\n'],
                    [read_request, response(b'two'), read_to_end])
    with connect(server.port) as client:
        client.send(request_bytes('/one'))
        assert client.read_response().status == 204
        assert client.ended(5)
    for _ in range(2):
        with connect(server.port) as client:
            client.send(request_bytes('/two', 'POST', body=b'x'))
            assert client.read_response().body == b'two'
    assert [request.target for request in server.requests] == ['/one', '/two', '/two']
    assert server.errors == []


def test_a_truncated_body_is_seen_as_truncated(origin):
    cut = origin([read_head, b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345'],
                 [read_head, CHUNKED + b'5\r\n12345\r\n'],
                 [read_head, b'HTTP/1.1 200 OK\r\n\r\n12345'])
    results = []
    for _ in range(3):
        with connect(cut.port) as client:
            client.send(request_bytes())
            answer = client.read_response()
            results.append((answer.framing, answer.body, answer.truncated))
    assert results == [('length', b'12345', True), ('chunked', b'12345', True),
                       ('close', b'12345', False)]


def test_a_reset_is_not_an_end(origin):
    server = origin([read_head, b'HTTP/1.1 200 OK\r\n\r\n123', pause(0.2), reset])
    with connect(server.port) as client:
        client.send(request_bytes())
        answer = client.read_response()
    assert (answer.body, answer.truncated) == (b'123', True)


def test_interim_responses_can_be_read_or_passed_over(origin):
    server = origin([read_head, b'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n', response(b'ok')])
    with connect(server.port) as client:
        client.send(request_bytes())
        assert client.read_response(interim=True).status == 103
        assert client.read_response().body == b'ok'
    with connect(server.port) as client:
        client.send(request_bytes())
        assert client.read_response().body == b'ok'


def test_silence_and_end_are_told_apart(origin):
    server = origin([read_head, hold])
    with connect(server.port) as client:
        client.send(request_bytes())
        assert client.silent(0.3)
        assert not client.ended(0.2)
        server.release()
        assert client.ended(5)


def test_a_dripping_origin_sends_all_its_bytes(origin):
    server = origin([read_head, drip(response(b'slow'), 0.005)])
    with connect(server.port) as client:
        client.send(request_bytes())
        assert client.read_response().body == b'slow'


def test_a_refusing_origin_refuses(echo):
    echo.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(echo.port)


def test_nginx_serves_files_from_its_folder(nginx, curl):
    (nginx.www / 'a.txt').write_bytes(b'x' * 70000)
    done = curl(f'http://{nginx.address}/a.txt')
    assert (done.returncode, len(done.stdout)) == (0, 70000)


def test_a_field_that_came_twice_cannot_be_read_as_one(origin):
    server = origin([read_head, response(b'', fields=[('X-A', '1'), ('x-a', '2')])])
    with connect(server.port) as client:
        client.send(request_bytes())
        answer = client.read_response()
    assert answer.all('X-A') == ['1', '2']
    with pytest.raises(AssertionError):
        answer.get('X-A')


def test_waiting_has_an_end():
    with pytest.raises(AssertionError, match='the moon'):
        wait_for(lambda: False, 0.1, 'the moon')


def test_a_closed_connection_ends_a_head():
    port, = free_ports(1)
    with pytest.raises((Closed, ConnectionRefusedError)):
        connect(port).read_head()


def test_a_plan_becomes_kdl(tmp_path):
    text = Plan(['127.0.0.1:1'], limits='head-size "8KiB"', policies='timeout 1s').render(
        tmp_path, 1000, 1001)
    for line in ('listener "http" {', '    address "127.0.0.1:1000"', '    target "127.0.0.1:1"',
                 '        head-size "8KiB"', '        timeout 1s', 'observability {'):
        assert line in text.split('\n'), text
    assert text.count('{') == text.count('}')
    with pytest.raises(AssertionError):
        Plan(policy='timeout 1s')


def test_metric_lines_are_understood():
    match = METRIC.match('sentinel_requests_total{route="a b",status="200"} 12')
    assert match.groups() == ('sentinel_requests_total', 'route="a b",status="200"', '12')
