"""One line sends a plain listener's clients to https, another one keeps them there."""
import ssl

import pytest

from harness.certificates import Authority
from harness.origins import read_request, response
from harness.proxy import command
from harness.wire import request_bytes


def test_a_request_is_sent_to_its_own_place_by_https(sentinel, echo, curl):
    proxy = sentinel(echo, listener='redirect-https')
    answer = proxy.request('/a/b%20c?x=1&y=%2F', host='shop.example')
    assert (answer.status, answer.get('Location')) == (308, 'https://shop.example/a/b%20c?x=1&y=%2F')
    assert answer.get('X-Content-Type-Options') == 'nosniff'
    record = proxy.log_record()
    assert (record['status'], record['route'], record['reason']) == (308, None, None)
    done = curl('-o', '/dev/null', '-w', '%{http_code} %{redirect_url}', f'{proxy.url}/x?y')
    assert done.stdout.decode() == '308 https://127.0.0.1/x?y'
    assert not echo.requests


def test_port_and_status_are_those_of_the_configuration(sentinel, echo):
    proxy = sentinel(echo, listener='redirect-https port=8443 status=301')
    for host, place in (('shop.example', 'shop.example:8443'), ('shop.example:8080', 'shop.example:8443'),
                        ('[::1]:8080', '[::1]:8443'), ('SHOP.example', 'shop.example:8443')):
        answer = proxy.request('/x', host=host)
        assert (answer.status, answer.get('Location')) == (301, f'https://{place}/x')
    standard = sentinel(echo, listener='redirect-https port=443 status=307').request('/', host='a:80')
    assert (standard.status, standard.get('Location')) == (307, 'https://a/')


def test_a_body_is_not_awaited_and_the_connection_goes_on(sentinel, echo):
    proxy = sentinel(echo, listener='redirect-https')
    with proxy.connect() as wire:
        for _ in range(2):
            wire.send(request_bytes('/upload', 'POST', body=b'x' * 1000))
            assert wire.read_response('POST').status == 308
        wire.send(request_bytes('*', 'OPTIONS'))
        assert wire.read_response('OPTIONS').get('Location') == 'https://example.test/'


def test_who_came_by_https_to_a_trusted_proxy_is_served(sentinel, echo):
    """Else it would be sent to where it came from, for ever."""
    proxy = sentinel(echo, listener='redirect-https; trusted-proxies "127.0.0.2/32"')
    said = [[('X-Forwarded-Proto', 'https')], [('Forwarded', 'for=203.0.113.7;proto=https')]]
    for fields in said:
        assert proxy.request(fields=fields, source='127.0.0.2').status == 200
        assert proxy.request(fields=fields, source='127.0.0.3').status == 308
    for fields in ([('X-Forwarded-Proto', 'http')], [('Forwarded', 'for=203.0.113.7;proto=http')], []):
        assert proxy.request(fields=fields, source='127.0.0.2').status == 308


def test_who_names_no_host_is_told_so(sentinel, echo):
    proxy = sentinel(echo, listener='redirect-https')
    with proxy.connect() as wire:
        wire.send('GET / HTTP/1.0\r\n\r\n')
        assert wire.read_response().status == 400
    assert proxy.logged('bad_host')['status'] == 400


@pytest.mark.parametrize('line, why', [
    ('redirect-https status=200', 'status'),
    ('redirect-https port=0', 'port'),
    ('redirect-https port=65536', 'port'),
])
def test_what_cannot_be_a_redirect_is_refused(tmp_path, line, why):
    config = tmp_path / 'sentinel.kdl'
    config.write_text('listener "plain" {\n    address "127.0.0.1:8080"\n    '
                      f'{line}\n}}\nroute "r" {{ respond 200 }}\n')
    done = command('check', '--config', str(config))
    assert done.returncode == 1 and f'{config}:3' in done.stderr and why in done.stderr


HSTS = 'Strict-Transport-Security'


@pytest.fixture(scope='module')
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp('certificates'))
    authority.issue('front', 'front.test')
    return authority


@pytest.fixture
def secure(sentinel, authority):
    """secure(lines, target, ...): a proxy that speaks TLS, and a function that asks it: what is said
    of https, field by field."""
    def start(lines, *targets, **parts):
        place = authority.folder / 'front'
        proxy = sentinel(*targets, listener=f'protocol "https"\n{lines}\n'
                         f'tls {{ certificate "{place}.pem" key="{place}.key"; alpn "http/1.1" }}',
                         **parts)
        context = ssl.create_default_context(cafile=authority.ca)

        def ask(target='/'):
            with proxy.connect() as wire:
                wire.sock = context.wrap_socket(wire.sock, server_hostname='front.test')
                wire.send(request_bytes(target, host='front.test'))
                return wire.read_response().all(HSTS)
        return proxy, ask
    return start


def test_a_listener_of_https_tells_clients_to_stay(secure, echo):
    said = {'hsts': 'max-age=31536000', 'hsts max-age=600': 'max-age=600',
            'hsts max-age=0': 'max-age=0',
            'hsts include-subdomains=true': 'max-age=31536000; includeSubDomains',
            'hsts max-age=63072000 include-subdomains=true preload=true':
                'max-age=63072000; includeSubDomains; preload'}
    for line, value in said.items():
        _, ask = secure(line, echo)
        assert ask() == [value]
    _, ask = secure('', echo)
    assert ask() == []


def test_a_routes_word_stands_in_the_listeners_place(secure, echo):
    routes = '''
route "own" {
    match path-prefix="/own"
    respond 200 body="x"
    hsts max-age=31536001 include-subdomains=true preload=true
}
route "short" {
    match path-prefix="/short"
    upstream "backend"
    hsts max-age=60
}
route "rest" {
    match path-prefix="/rest"
    upstream "backend"
}
'''
    _, ask = secure('hsts max-age=600', echo, routes=routes)
    assert ask('/own') == ['max-age=31536001; includeSubDomains; preload']
    assert ask('/short') == ['max-age=60']
    assert ask('/rest') == ask('/nowhere') == ['max-age=600']


def test_the_origins_own_word_counts_where_the_route_says_so(secure, origin):
    def server():
        return origin([read_request, response(b'', fields=[(HSTS, 'max-age=5')])])
    wins = 'security-headers { upstream-wins true }'
    given = f'security-headers {{ set "{HSTS}" "max-age=7" }}'
    for lines, route, expected in (('hsts max-age=600', '', 'max-age=600'), ('', '', 'max-age=5'),
                                   ('hsts max-age=600', wins, 'max-age=5'),
                                   ('hsts max-age=600', given, 'max-age=7')):
        _, ask = secure(lines, server(), route=route)
        assert ask() == [expected]


def test_nothing_of_it_is_said_without_tls(sentinel, secure, echo):
    plain = sentinel(echo, route='hsts', listener='trusted-proxies "127.0.0.0/8"')
    assert not plain.request(fields=[('X-Forwarded-Proto', 'https')]).has(HSTS)
    proxy, ask = secure('hsts', echo)
    mistaken = proxy.request()  # http to the port of https
    assert mistaken.status == 400 and not mistaken.has(HSTS)
    assert ask()


@pytest.mark.parametrize('lines, why', [
    ('hsts', '`hsts` has no effect here'),
    ('protocol "https"\nredirect-https', '`redirect-https` has no effect here'),
    ('protocol "https"\nhsts preload=true', '`preload` needs `include-subdomains`'),
    ('protocol "https"\nhsts preload=true include-subdomains=true max-age=31535999', '`preload` needs'),
    ('hsts max-age=-1', 'max-age'),
])
def test_what_means_nothing_is_refused(tmp_path, authority, lines, why):
    config = tmp_path / 'sentinel.kdl'
    place = authority.folder / 'front'
    tls = f'tls {{ certificate "{place}.pem" key="{place}.key" }}' if 'https"' in lines else ''
    config.write_text(f'listener "l" {{\naddress "127.0.0.1:8443"\n{lines}\n{tls}\n}}\n'
                      'route "r" { respond 200 }\n')
    done = command('check', '--config', str(config))
    assert done.returncode == 1 and why in done.stderr
