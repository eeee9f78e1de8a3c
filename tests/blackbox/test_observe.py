"""What operators see: access log, error answers, metrics, health and readiness."""
import json
import re

import pytest

from harness.checks import assert_own_answer
from harness.origins import pause, read_request, read_to_end, response
from harness.waiting import wait_for
from harness.wire import request_bytes

FIELDS = ('time request_id client listener route method host path protocol status reason bytes_in '
          'bytes_out upstream endpoint attempts queue_ms connect_ms first_byte_ms total_ms').split()


def test_a_record_tells_the_whole_story(sentinel, echo):
    proxy = sentinel(echo)
    answer = proxy.request('/a?b=c', 'POST', body=b'12345', host='shop.example', source='127.0.0.7')
    record = proxy.log_record()
    assert list(record)[:len(FIELDS)] == FIELDS
    expected = {'client': '127.0.0.7', 'listener': 'http', 'route': 'all', 'method': 'POST',
                'host': 'shop.example', 'path': '/a?b=c', 'protocol': 'HTTP/1.1', 'status': 200,
                'reason': None, 'bytes_in': 5, 'bytes_out': len(answer.body), 'upstream': 'backend',
                'endpoint': echo.address, 'attempts': 1}
    assert {name: record[name] for name in expected} == expected
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z', record['time'])
    assert 0 <= record['first_byte_ms'] <= record['total_ms'] < 10000


def test_a_record_tells_where_the_time_went(sentinel, origin):
    """A connection is made for the first request only; the second answer begins late."""
    server = origin([read_request, response(b''), read_request, pause(0.3),
                     b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf', pause(0.3), b'half',
                     read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        for _ in range(2):
            client.send(request_bytes())
            assert client.read_response().status == 200
    first, second = proxy.log_records(2)
    assert 0 < first['connect_ms'] <= first['first_byte_ms'] <= first['total_ms'], first
    assert second['connect_ms'] is None and second['queue_ms'] is None, second
    assert 290 <= second['first_byte_ms'] <= second['total_ms'], second
    assert second['total_ms'] >= 590, second


@pytest.mark.parametrize('data,status,reason', [
    (b'GET / HTTP/1.1\r\n\r\n', 400, 'bad_host'),
    (b'garbage\r\n\r\n', 400, 'bad_method'),
    (b'GET /.. HTTP/1.1\r\nHost: a\r\n\r\n', 400, 'ambiguous_path'),
    (b'GET / HTTP/3.0\r\nHost: a\r\n\r\n', 505, 'bad_version'),
])
def test_every_failure_has_one_record(sentinel, echo, data, status, reason):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(data)
        body = assert_own_answer(client.read_response(), status, reason)
    record = proxy.log_record()
    assert (record['status'], record['reason']) == (status, reason)
    assert record['request_id'] == body['request_id']
    assert record['hint']


def test_what_a_client_sends_cannot_break_a_line(sentinel, echo):
    proxy = sentinel(echo)
    proxy.request('/%0a%22?"}{', fields=[('X', '"')])
    proxy.request('/' + 'x' * 7000)
    records = proxy.log_records(2)
    assert all(isinstance(record['path'], str) for record in records)
    assert len(records[1]['path']) < 7000


def test_addresses_of_upstreams_stay_inside(sentinel):
    proxy = sentinel('127.0.0.1:9')
    answer = proxy.request()
    assert answer.status == 502
    assert b'127.0.0.1' not in answer.raw + answer.body
    assert b'.kdl' not in answer.raw + answer.body
    assert proxy.log_record()['endpoint'] == '127.0.0.1:9'


def test_an_error_names_the_proxy_and_the_kind_of_error(sentinel, echo):
    answer = sentinel(echo).request('/..')
    assert re.match(r'[\w.-]+; ?error=http_request_error', answer.get('Proxy-Status'))


def test_an_error_to_head_has_no_body(sentinel, echo):
    answer = sentinel(echo).request('/..', 'HEAD')
    assert answer.status == 400 and int(answer.get('Content-Length')) > 0


def test_the_log_goes_to_a_file(sentinel, echo, tmp_path):
    path = tmp_path / 'access.log'
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.name.startswith('pytest'):
            parent.chmod(0o755)
    proxy = sentinel(echo, observability=f'access-log "{path}"')
    proxy.request('/in-a-file')
    line = wait_for(lambda: path.exists() and path.read_text(), 10, 'the line')
    assert json.loads(line)['path'] == '/in-a-file'
    assert proxy.records() == []


def test_the_log_can_be_off(sentinel, echo):
    proxy = sentinel(echo, observability='access-log "off"')
    proxy.request()
    wait_for(lambda: proxy.metric('sentinel_requests_total') == 1, 10, 'the request counted')
    assert proxy.records() == []


def test_requests_are_counted_by_route_and_status(sentinel, echo):
    proxy = sentinel(echo)
    for target in ('/', '/', '/..'):
        proxy.request(target)
    wait_for(lambda: proxy.metric('sentinel_requests_total') == 3, 10, 'three requests counted')
    assert proxy.metric('sentinel_requests_total', route='all', status='200') == 2
    assert proxy.metric('sentinel_requests_total', status='400') == 1
    assert proxy.metric('sentinel_request_duration_seconds_count', route='all') >= 2
    assert proxy.metric('sentinel_failures_total', reason='ambiguous_path') == 1


def test_a_status_nobody_lists_is_counted_as_other(sentinel, origin):
    proxy = sentinel(origin([read_request, response(b'', '299 Odd')]))
    assert proxy.request().status == 299
    wait_for(lambda: proxy.metric('sentinel_requests_total', status='other') == 1, 10, 'the count')


def test_gauges_come_back_to_zero(sentinel, echo):
    proxy = sentinel(echo)

    def open_connections():
        return proxy.metric('sentinel_connections', listener='http')

    with proxy.connect() as client:
        client.send(request_bytes())
        client.read_response()
        wait_for(lambda: open_connections() == 1, 10, 'the gauge')
    wait_for(lambda: open_connections() == 0, 10, 'the end')
    assert proxy.metric('sentinel_requests_in_flight') == 0
    assert proxy.metric('sentinel_buffers_in_use') == 0


def test_metrics_are_prometheus_text(sentinel, echo):
    proxy = sentinel(echo)
    proxy.request()
    answer = proxy.admin('/metrics')
    assert answer.get('Content-Type').startswith('text/plain; version=0.0.4')
    typed = set()
    for line in answer.body.decode().rstrip('\n').split('\n'):
        if line.startswith('# TYPE '):
            name = line.split(' ')[2]
            assert name not in typed, f'{name} is declared twice'
            typed.add(name)
        elif not line.startswith('#'):
            assert re.fullmatch(r'[a-z][a-z0-9_]*(\{[^{}]*\})? [-+.\deInfNa]+', line), line
            assert re.sub(r'_(bucket|sum|count)$', '', line.split('{')[0].split(' ')[0]) in typed \
                or line.split('{')[0].split(' ')[0] in typed, line


def test_health_and_readiness_answer(sentinel, echo):
    proxy = sentinel(echo)
    assert proxy.admin('/health').status == 200
    assert proxy.admin('/ready').status == 200
    assert proxy.admin('/nothing').status == 404
    assert proxy.admin('/metrics', method='POST').status == 405


@pytest.mark.parametrize('host', ['evil.example', 'evil.example:9090', '127.0.0.1.evil.example'])
def test_a_foreign_host_is_403_at_the_admin(sentinel, echo, host):
    proxy = sentinel(echo)
    for target in ('/metrics', '/health', '/ready'):
        assert proxy.admin(target, host=host).status == 403


def test_localhost_may_be_named_and_others_allowed(sentinel, echo):
    proxy = sentinel(echo)
    assert proxy.admin('/health', host=f'localhost:{proxy.admin_port}').status == 200


def test_listed_hosts_are_allowed_at_the_admin(sentinel, echo):
    from harness.waiting import free_ports
    port, = free_ports(1)
    proxy = sentinel(echo, server=f'admin {{\n    address "127.0.0.1:{port}"\n'
                                  '    allowed-hosts "metrics.internal"\n}')
    assert proxy.admin('/health', host='metrics.internal').status == 200
    assert proxy.admin('/health', host='other.internal').status == 403


def test_the_admin_is_not_reached_through_the_proxy(sentinel, echo):
    assert sentinel(echo).request('/metrics').json()['target'] == '/metrics'


def test_several_workers_add_up(sentinel, echo):
    proxy = sentinel(echo, server='workers 3')
    for _ in range(30):
        assert proxy.request().status == 200
    wait_for(lambda: proxy.metric('sentinel_requests_total', route='all', status='200') == 30, 10,
             'thirty requests counted')
    assert proxy.metric('sentinel_workers') == 3
    assert len({record['request_id'] for record in proxy.log_records(30)}) == 30
