"""Which route takes which request, and what routes can do besides forwarding."""
import pytest

from harness.checks import assert_own_answer
from harness.origins import read_request, response
from harness.wire import request_bytes


def route(name, match):
    """A route that answers with its own name."""
    lines = '\n'.join(f'    {line}' for line in match.strip().split('\n'))
    return f'route "{name}" {{\n{lines}\n    respond 200 body="{name}"\n}}\n'


def routed(proxy, target='/', method='GET', fields=(), host='example.test'):
    answer = proxy.request(target, method, fields, host=host)
    return answer.body.decode() if answer.status == 200 else answer.status


def test_a_prefix_ends_at_a_segment(sentinel):
    proxy = sentinel(routes=route('api', 'match path-prefix="/api"'))
    targets = ('/api', '/api/', '/api/x', '/api?x', '/apix', '/')
    found = [routed(proxy, target) for target in targets]
    assert found == ['api', 'api', 'api', 'api', 404, 404]


def test_an_exact_path_beats_prefixes_and_the_longest_prefix_the_others(sentinel):
    proxy = sentinel(routes=route('all', 'match path-prefix="/"')
                     + route('a', 'match path-prefix="/a"')
                     + route('ab', 'match path-prefix="/a/b"')
                     + route('exact', 'match path="/a/b/c"'))
    found = [routed(proxy, target) for target in ('/', '/a', '/a/b', '/a/b/c', '/a/b/c/d')]
    assert found == ['all', 'a', 'ab', 'exact', 'ab']


def test_hosts_are_exact_or_below_a_suffix(sentinel):
    proxy = sentinel(routes=route('exact', 'match host="shop.example"')
                     + route('below', 'match host="*.example"')
                     + route('deeper', 'match host="*.a.example"'))
    found = [routed(proxy, host=host) for host in (
        'shop.example', 'SHOP.example', 'shop.example:8080', 'x.example', 'x.a.example',
        'a.example', 'example', 'shopexample')]
    assert found == ['exact', 'exact', 'exact', 'below', 'deeper', 'below', 404, 404]


def test_methods_fields_and_queries_narrow_a_route(sentinel):
    proxy = sentinel(routes=route('plain', 'match path-prefix="/"')
                     + route('post', 'match {\n    path-prefix "/"\n    method "POST" "PUT"\n}')
                     + route('field', 'match {\n    path-prefix "/"\n'
                             '    header "X-Who" "me" "us"\n}')
                     + route('there', 'match {\n    path-prefix "/"\n    header "X-Any"\n}')
                     + route('query', 'match {\n    path-prefix "/"\n    query "v" "2"\n}'))
    assert routed(proxy) == 'plain'
    assert routed(proxy, method='PUT') == 'post'
    assert routed(proxy, method='DELETE') == 'plain'
    assert routed(proxy, fields=[('x-who', 'us')]) == 'field'
    assert routed(proxy, fields=[('X-Who', 'them')]) == 'plain'
    assert routed(proxy, fields=[('X-Any', '')]) == 'there'
    assert routed(proxy, '/?a=1&v=2') == 'query'
    assert routed(proxy, '/?v=22') == 'plain'


def test_several_values_are_alternatives_and_several_nodes_too(sentinel):
    proxy = sentinel(routes=route('r', 'match {\n    path-prefix "/a" "/b"\n    method "GET"\n}\n'
                                       'match path="/c"'))
    found = [routed(proxy, target) for target in ('/a', '/b/x', '/c', '/c/x', '/d')]
    assert found == ['r', 'r', 'r', 404, 404]
    assert routed(proxy, '/a', 'POST') == 404
    assert routed(proxy, '/c', 'POST') == 'r'


def test_priority_comes_before_everything(sentinel):
    proxy = sentinel(routes=route('exact', 'match path="/a"')
                     + route('first', 'match path-prefix="/"\npriority 10'))
    assert routed(proxy, '/a') == 'first'


def test_no_route_is_404_with_a_reason_and_a_record(sentinel):
    proxy = sentinel(routes=route('a', 'match path="/a"'))
    assert_own_answer(proxy.request('/b'), 404, 'no_route')
    record = proxy.log_record()
    assert (record['status'], record['reason'], record['route']) == (404, 'no_route', None)


@pytest.mark.parametrize('text,location', [
    ('redirect "https://new.example"', 'https://new.example'),
    ('redirect "https://new.example" keep-path=true', 'https://new.example/a/b?q=1'),
    ('redirect "/moved" status=302', '/moved'),
])
def test_redirects(sentinel, text, location):
    proxy = sentinel(routes=f'route "r" {{\n    {text}\n}}\n')
    answer = proxy.request('/a/b?q=1')
    assert answer.status == (302 if '302' in text else 308)
    assert answer.get('Location') == location


def test_a_redirect_cannot_be_steered_to_another_host(sentinel):
    proxy = sentinel(routes='route "r" {\n    redirect "https://new.example" keep-path=true\n}\n')
    for target in ('//evil.example/x', '/%0d%0aX:%20y', '/@evil.example'):
        answer = proxy.request(target)
        if answer.status == 308:
            assert answer.get('Location').startswith('https://new.example/')
            assert not answer.has('X')


def test_respond_answers_from_the_configuration(sentinel):
    proxy = sentinel(routes='''
route "ok" {
    match path="/ok"
    respond 200 body="{\\"ok\\":true}" content-type="application/json"
}
route "gone" {
    match path="/gone"
    respond 410
}
''')
    answer = proxy.request('/ok')
    assert (answer.body, answer.get('Content-Type')) == (b'{"ok":true}', 'application/json')
    answer = proxy.request('/gone')
    assert (answer.status, answer.body) == (410, b'')
    head = proxy.request('/ok', 'HEAD')
    assert head.get('Content-Length') == '11'


def test_respond_drains_or_closes_what_the_client_sent(sentinel):
    proxy = sentinel(routes='route "r" {\n    respond 200 body="r"\n}\n')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', body=b'GET /x HTTP/1.1\r\n\r\n')
                    + request_bytes('/2'))
        assert client.read_response().body == b'r'
        assert client.read_response().body == b'r'
    paths = [record['path'] for record in proxy.log_records(2)]
    assert paths == ['/', '/2']


DEFAULTS = {
    'X-Content-Type-Options': 'nosniff', 'X-Frame-Options': 'DENY',
    'X-XSS-Protection': '1; mode=block', 'Referrer-Policy': 'strict-origin-when-cross-origin',
}


def security_fields(answer):
    return {name: answer.get(name) for name in DEFAULTS}


def test_security_headers_stand_on_every_response(sentinel, echo):
    proxy = sentinel(echo, routes='''
route "forwarded" {
    match path-prefix="/f"
    upstream "backend"
}
route "moved" {
    match path-prefix="/m"
    redirect "/f"
}
route "own" {
    match path-prefix="/o"
    respond 200
}
''')
    for target, status in (('/f', 200), ('/m', 308), ('/o', 200), ('/x', 404), ('/../', 400)):
        answer = proxy.request(target)
        assert answer.status == status
        assert security_fields(answer) == DEFAULTS, target


def test_a_route_changes_and_drops_security_headers(sentinel, echo):
    proxy = sentinel(echo, route='''
security-headers {
    set "X-Frame-Options" "SAMEORIGIN"
    set "Strict-Transport-Security" "max-age=1"
    remove "X-XSS-Protection"
}
''')
    answer = proxy.request()
    assert answer.get('X-Frame-Options') == 'SAMEORIGIN'
    assert answer.get('Strict-Transport-Security') == 'max-age=1'
    assert not answer.has('X-XSS-Protection')
    assert answer.get('X-Content-Type-Options') == 'nosniff'


@pytest.mark.parametrize('wins', [False, True])
def test_the_upstreams_own_value_wins_only_where_the_route_says_so(sentinel, origin, wins):
    server = origin([read_request, response(b'', fields=[('X-Frame-Options', 'SAMEORIGIN')])])
    text = 'security-headers {\n    upstream-wins true\n}\n' if wins else ''
    answer = sentinel(server, route=text).request()
    assert answer.get('X-Frame-Options') == ('SAMEORIGIN' if wins else 'DENY')
    assert answer.get('Referrer-Policy') == DEFAULTS['Referrer-Policy']
