"""One line sends a plain listener's clients to https."""
import pytest

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
