"""What an origin sees of a request, and a client of a response."""
import re

import pytest

from harness.origins import read_request, response
from harness.wire import request_bytes


def fields_of(answer, name):
    """The values of a field as the echo origin received it."""
    return [value for key, value in answer.json()['fields'] if key.lower() == name.lower()]


def test_method_target_and_body_arrive_unchanged(sentinel, echo):
    proxy = sentinel(echo)
    answer = proxy.request('/a/b?x=1&y=%20', 'PUT', body=b'payload')
    seen = answer.json()
    assert answer.status == 200
    assert (seen['method'], seen['target']) == ('PUT', '/a/b?x=1&y=%20')
    assert (seen['version'], seen['body']) == ('HTTP/1.1', 'payload')


def test_a_method_nobody_knows_is_forwarded(sentinel, echo):
    assert sentinel(echo).request('/', 'BREW').json()['method'] == 'BREW'


def test_end_to_end_fields_keep_order_and_repetition(sentinel, echo):
    answer = sentinel(echo).request(fields=[('X-B', '1'), ('Accept', '*/*'), ('X-B', '2'),
                                            ('Cookie', 'a=b')])
    assert fields_of(answer, 'X-B') == ['1', '2']
    assert fields_of(answer, 'Accept') == ['*/*']
    assert fields_of(answer, 'Cookie') == ['a=b']


def test_the_host_is_kept(sentinel, echo):
    assert fields_of(sentinel(echo).request(host='shop.example'), 'Host') == ['shop.example']


def test_forwarding_fields_are_set(sentinel, echo):
    answer = sentinel(echo).request(host='shop.example')
    assert fields_of(answer, 'X-Forwarded-For') == ['127.0.0.1']
    assert fields_of(answer, 'X-Real-IP') == ['127.0.0.1']
    assert fields_of(answer, 'X-Forwarded-Proto') == ['http']
    assert fields_of(answer, 'X-Forwarded-Host') == ['shop.example']


def test_forwarding_fields_of_a_stranger_are_replaced(sentinel, echo):
    answer = sentinel(echo).request(source='127.0.0.9', fields=[
        ('X-Forwarded-For', '1.2.3.4'), ('X-Forwarded-For', '5.6.7.8'), ('X-Real-IP', '1.2.3.4'),
        ('X-Forwarded-Proto', 'https'), ('X-Forwarded-Host', 'evil.example'),
        ('X-Forwarded-Port', '666'), ('Forwarded', 'for=1.2.3.4')])
    assert fields_of(answer, 'X-Forwarded-For') == ['127.0.0.9']
    assert fields_of(answer, 'X-Real-IP') == ['127.0.0.9']
    assert fields_of(answer, 'X-Forwarded-Proto') == ['http']
    assert fields_of(answer, 'X-Forwarded-Host') == ['example.test']
    assert '666' not in fields_of(answer, 'X-Forwarded-Port')
    assert not any('1.2.3.4' in value for value in fields_of(answer, 'Forwarded'))


def test_a_trusted_proxy_is_believed_from_right_to_left(sentinel, echo):
    proxy = sentinel(echo, listener='trusted-proxies "127.0.0.0/8" "10.0.0.0/8"')
    answer = proxy.request(fields=[('X-Forwarded-For', '6.6.6.6, 203.0.113.7, 10.1.1.1'),
                                   ('X-Forwarded-Proto', 'https')])
    assert fields_of(answer, 'X-Real-IP') == ['203.0.113.7']
    forwarded, = fields_of(answer, 'X-Forwarded-For')
    hops = [hop.strip() for hop in forwarded.split(',')]
    assert hops[-1] == '127.0.0.1' and '203.0.113.7' in hops
    assert fields_of(answer, 'X-Forwarded-Proto') == ['https']
    assert proxy.log_record()['client'].startswith('203.0.113.7')


def test_trust_does_not_reach_other_addresses(sentinel, echo):
    proxy = sentinel(echo, listener='trusted-proxies "127.0.0.2/32"')
    fields = [('X-Forwarded-For', '203.0.113.7')]
    stranger = proxy.request(fields=fields, source='127.0.0.3')
    friend = proxy.request(fields=fields, source='127.0.0.2')
    assert fields_of(stranger, 'X-Real-IP') == ['127.0.0.3']
    assert fields_of(friend, 'X-Real-IP') == ['203.0.113.7']


def test_via_names_this_proxy_and_keeps_the_others(sentinel, origin):
    server = origin([read_request, response(b'', fields=[('Via', '1.0 inner')])])
    answer = sentinel(server).request(fields=[('Via', '1.1 outer')])
    seen = ', '.join(server.requests[0].all('Via'))
    assert re.fullmatch(r'1\.1 outer, 1\.1 \S+', seen), seen
    # RFC 9110, 7.6.3: a gateway must add itself to requests and may to responses.
    assert re.fullmatch(r'1\.0 inner(, 1\.1 \S+)?', ', '.join(answer.all('Via')))


def test_hop_by_hop_fields_are_removed_from_requests(sentinel, echo):
    answer = sentinel(echo).request(fields=[
        ('Connection', 'keep-alive, X-Mine'), ('X-Mine', 'secret'), ('Keep-Alive', 'timeout=5'),
        ('Proxy-Connection', 'keep-alive'), ('TE', 'trailers, gzip'), ('Upgrade', 'websocket'),
        ('Proxy-Authorization', 'Basic eDp5'), ('HTTP2-Settings', 'AAAA')])
    assert answer.status == 200
    for name in ('X-Mine', 'Keep-Alive', 'Proxy-Connection', 'Upgrade', 'HTTP2-Settings',
                 'Proxy-Authorization'):
        assert fields_of(answer, name) == [], name
    assert 'gzip' not in ''.join(fields_of(answer, 'TE'))
    assert 'X-Mine' not in ''.join(fields_of(answer, 'Connection'))


def test_hop_by_hop_fields_are_removed_from_responses(sentinel, origin):
    server = origin([read_request, response(b'x', fields=[
        ('Connection', 'X-Inner'), ('X-Inner', 'secret'), ('Keep-Alive', 'timeout=5'),
        ('Proxy-Authenticate', 'Basic'), ('Upgrade', 'h2c'), ('X-Kept', 'yes')])])
    answer = sentinel(server).request()
    assert answer.get('X-Kept') == 'yes'
    for name in ('X-Inner', 'Keep-Alive', 'Upgrade', 'Proxy-Authenticate'):
        assert not answer.has(name), name
    assert 'X-Inner' not in ''.join(answer.all('Connection'))


@pytest.mark.shared
@pytest.mark.parametrize('name', ['Authorization', 'Cookie', 'Host', 'X-Forwarded-For', 'X-Real-IP',
                                  'Content-Length', 'Cache-Control', 'X-Request-Id'])
def test_protected_fields_cannot_be_nominated_for_removal(sentinel, echo, name):
    fields = [('Connection', name)]
    fields += [(name, 'a=b')] if name in ('Authorization', 'Cookie', 'Cache-Control') else []
    answer = sentinel(echo).request('/', 'POST', fields, body=b'four')
    if answer.status == 200:
        assert len(fields_of(answer, name)) == 1, answer.json()
    else:
        assert answer.status == 400


def test_aliases_of_protected_fields_are_dropped(sentinel, echo):
    answer = sentinel(echo).request(fields=[
        ('X_Forwarded_For', '1.2.3.4'), ('X_Real_IP', '1.2.3.4'), ('Content_Length', '9'),
        ('X_Mine', 'kept')])
    for name in ('X_Forwarded_For', 'X_Real_IP', 'Content_Length'):
        assert fields_of(answer, name) == [], name
    assert fields_of(answer, 'X_Mine') == ['kept']


def test_a_request_id_is_made_and_logged(sentinel, echo):
    proxy = sentinel(echo)
    first, second = (fields_of(proxy.request(), 'X-Request-Id')[0] for _ in range(2))
    assert re.fullmatch('[0-9a-f]{32}', first) and first != second
    assert [record['request_id'] for record in proxy.log_records(2)] == [first, second]


def test_a_strangers_request_id_is_replaced_and_a_friends_kept(sentinel, echo):
    mine = 'ab' * 16
    stranger = sentinel(echo).request(fields=[('X-Request-Id', mine)])
    friend = sentinel(echo, listener='trusted-proxies "127.0.0.0/8"').request(
        fields=[('X-Request-Id', mine)])
    assert fields_of(stranger, 'X-Request-Id')[0] != mine
    assert fields_of(friend, 'X-Request-Id') == [mine]


def test_a_trace_is_continued_or_started(sentinel, echo):
    proxy = sentinel(echo)
    trace, span = '4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'
    continued, = fields_of(proxy.request(fields=[('traceparent', f'00-{trace}-{span}-01'),
                                                 ('tracestate', 'a=b')]), 'traceparent')
    started, = fields_of(proxy.request(), 'traceparent')
    assert re.fullmatch(rf'00-{trace}-[0-9a-f]{{16}}-01', continued)
    assert re.fullmatch(r'00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]', started)


@pytest.mark.shared
@pytest.mark.parametrize('value', ['00-zz-00f067aa0ba902b7-01', f'ff-{"1" * 32}-{"2" * 16}-01',
                                   f'00-{"0" * 32}-{"2" * 16}-01',
                                   f'00-{"1" * 32}-{"0" * 16}-01', f'00-{"A" * 32}-{"2" * 16}-01',
                                   'x'])
def test_an_invalid_trace_is_not_continued(sentinel, echo, value):
    found, = fields_of(sentinel(echo).request(fields=[('traceparent', value)]), 'traceparent')
    assert re.fullmatch(r'00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00', found)
    assert (value[3:35] or 'nothing') not in found


def test_absolute_form_becomes_origin_form(sentinel, echo):
    seen = sentinel(echo).request('http://example.test/a?b').json()
    assert seen['target'] == '/a?b'
    assert dict(map(tuple, seen['fields']))['Host'] == 'example.test'


def test_an_absolute_form_that_contradicts_host_is_refused(sentinel, echo):
    assert sentinel(echo).request('http://other.test/').status == 400


def test_options_asterisk_is_forwarded_or_answered(sentinel, echo):
    proxy = sentinel(echo)
    answer = proxy.request('*', 'OPTIONS')
    assert answer.status in (200, 204)
    if answer.body:
        assert answer.json()['target'] == '*'


def test_an_asterisk_belongs_to_options_only(sentinel, echo):
    assert sentinel(echo).request('*', 'GET').status == 400


def test_max_forwards_counts_down_for_options(sentinel, echo):
    proxy = sentinel(echo)
    answer = proxy.request('/', 'OPTIONS', [('Max-Forwards', '3')])
    assert fields_of(answer, 'Max-Forwards') == ['2']
    # RFC 9110, 7.6.2: with other methods it means nothing, zero included.
    assert proxy.request('/', 'GET', [('Max-Forwards', '0')]).status == 200


@pytest.mark.shared
@pytest.mark.parametrize('method', ['OPTIONS', 'TRACE'])
def test_max_forwards_zero_ends_here(sentinel, echo, method):
    answer = sentinel(echo).request('/', method, [('Max-Forwards', '0')])
    assert answer.status in (200, 204, 405, 501)
    assert echo.requests == []


def test_an_expired_max_forwards_that_is_no_number_is_refused(sentinel, echo):
    assert sentinel(echo).request('/', 'OPTIONS', [('Max-Forwards', 'x')]).status == 400


def test_an_upgrade_is_not_offered_to_the_origin(sentinel, echo):
    answer = sentinel(echo).request(fields=[('Connection', 'Upgrade'), ('Upgrade', 'websocket')])
    assert answer.status == 200
    assert fields_of(answer, 'Upgrade') == []


def test_a_101_nobody_asked_for_is_a_bad_response(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n'])
    assert sentinel(server).request().status == 502


def test_the_connection_to_the_origin_is_reused_by_other_clients(sentinel, echo):
    proxy = sentinel(echo)
    numbers = {proxy.request().json()['connection'] for _ in range(5)}
    assert numbers == {0}


def test_a_clients_close_does_not_close_the_origins_connection(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(request_bytes(fields=[('Connection', 'close')]))
        answer = client.read_response()
        assert 'close' in answer.get('Connection').lower()
        assert client.ended(5)
    assert proxy.request().json()['connection'] == 0


def test_the_status_and_fields_of_a_response_arrive(sentinel, origin):
    server = origin([read_request, response(b'teapot', '418 Short And Stout', [
        ('Set-Cookie', 'a=1'), ('Set-Cookie', 'b=2'), ('Content-Type', 'text/x'),
        ('ETag', '"1"')])])
    answer = sentinel(server).request()
    assert (answer.status, answer.body) == (418, b'teapot')
    assert answer.all('Set-Cookie') == ['a=1', 'b=2']
    assert (answer.get('Content-Type'), answer.get('ETag')) == ('text/x', '"1"')


def test_a_response_without_date_gets_one(sentinel, origin):
    server = origin([read_request, response(b'x')])
    assert re.fullmatch(r'\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT',
                        sentinel(server).request().get('Date'))


def test_real_clients_get_through_to_nginx(sentinel, nginx, curl):
    (nginx.www / 'file').write_bytes(bytes(range(256)) * 4096)
    proxy = sentinel(nginx)
    done = curl(f'{proxy.url}/file')
    assert done.returncode == 0 and done.stdout == bytes(range(256)) * 4096
    done = curl('-H', 'Host: shop.example', f'{proxy.url}/host?q=1')
    assert done.stdout == b'shop.example /host?q=1 127.0.0.1'


def test_pythons_client_keeps_its_connection(sentinel, echo):
    import http.client
    import json
    proxy = sentinel(echo)
    client = http.client.HTTPConnection('127.0.0.1', proxy.port, timeout=10)
    local = set()
    for body in (None, b'x' * 10, iter([b'a', b'b'])):
        client.request('POST', '/', body, encode_chunked=not isinstance(body, (bytes, type(None))),
                       headers={} if isinstance(body, (bytes, type(None)))
                       else {'Transfer-Encoding': 'chunked'})
        answer = client.getresponse()
        assert answer.status == 200
        json.loads(answer.read())
        local.add(client.sock.getsockname())
    client.close()
    assert len(local) == 1
    assert [request.body for request in echo.requests] == [b'', b'x' * 10, b'ab']
