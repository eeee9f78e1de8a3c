"""One canonical path to match and to forward; what peers could decode differently is refused."""
import pytest

from harness.checks import assert_refused, get

PRIVATE = '''
route "public" {
    match path-prefix="/public"
    upstream "backend"
}
route "private" {
    match path-prefix="/private"
    respond 403 body="private"
}
'''

SAME = {
    '/a/./b': '/a/b', '/a/../b': '/b', '/a/b/..': '/a/', '/a//b': '/a/b', '///': '/',
    '/%61': '/a', '/a%7Eb': '/a~b', '/a/%2e%2e/b': '/b', '/a/%2E/b': '/a/b',
    '/a?x=/../y': '/a?x=/../y', '/a/.': '/a/', '/%41%42': '/AB',
}


@pytest.mark.shared
@pytest.mark.parametrize('target', SAME)
def test_paths_are_made_canonical(sentinel, echo, target):
    assert sentinel(echo).request(target).json()['target'] == SAME[target]


@pytest.mark.shared
def test_reserved_bytes_stay_encoded(sentinel, echo):
    seen = sentinel(echo).request('/a%3Fb%23c%20d%c3%a9').json()['target']
    assert seen.upper() == '/A%3FB%23C%20D%C3%A9'


@pytest.mark.shared
def test_an_encoded_percent_is_decoded_at_most_once(sentinel, echo):
    seen = sentinel(echo).request('/a%2561').json()['target']
    assert seen in ('/a%2561', '/a%61')
    assert seen != '/aa'


AMBIGUOUS = ['/..', '/../a', '/a/../../b', '/%2e%2e/a', '/a\\b', '/a;/..;/b', '/..;/a', '/a/..;x/b',
             '/a%00b', '/a%2fb', '/a%2Fb', '/a%5cb', '/a/..%2fb', '/%2e%2e%2fa', '/a%', '/a%4',
             '/a%zz', '/a%252fb', '/a%255cb', '/%252e%252e/a']


@pytest.mark.shared
@pytest.mark.parametrize('target', AMBIGUOUS)
def test_ambiguous_paths_are_refused(sentinel, echo, target):
    proxy = sentinel(echo)
    answer = proxy.request(target)
    if target in ('/a%252fb', '/a%255cb', '/%252e%252e/a') and answer.status == 200:
        # Decoded once at most: the origin must get an encoding that still has its percent sign.
        assert '%25' in answer.json()['target']
        return
    assert answer.status == 400, answer.start
    assert answer.json()['reason'] in ('ambiguous_path', 'bad_target')
    assert echo.requests == []


@pytest.mark.shared
def test_an_ambiguous_path_closes_the_connection(sentinel, echo):
    assert_refused(sentinel(echo), get('/../etc/passwd'), 400, 'ambiguous_path')


@pytest.mark.shared
@pytest.mark.parametrize('target', ['/public/../private/x', '/public/%2e%2e/private/x',
                                    '//private/x', '/%70rivate/x', '/./private/x',
                                    '/public/..//private/x'])
def test_no_spelling_gets_around_a_route(sentinel, echo, target):
    proxy = sentinel(echo, routes=PRIVATE)
    assert proxy.request(target).status == 403
    assert echo.requests == []


def test_an_encoded_slash_is_allowed_where_the_route_says_so(sentinel, echo):
    proxy = sentinel(echo, route='allow-encoded "slash"')
    assert proxy.request('/a%2fb').json()['target'].lower() == '/a%2fb'
    assert proxy.request('/a%5cb').status == 400
    assert proxy.request('/a%00b').status == 400


def test_an_encoded_backslash_is_allowed_where_the_route_says_so(sentinel, echo):
    proxy = sentinel(echo, route='allow-encoded "backslash"')
    assert proxy.request('/a%5Cb').json()['target'].lower() == '/a%5cb'
    assert proxy.request('/a%2fb').status == 400


def test_slashes_are_kept_where_the_configuration_says_so(sentinel, echo):
    proxy = sentinel(echo, server='merge-slashes false')
    assert proxy.request('/a//b').json()['target'] == '/a//b'


def test_the_log_has_the_target_as_it_came(sentinel, echo):
    proxy = sentinel(echo)
    proxy.request('/a/../b/./c?q')
    assert proxy.log_record()['path'] == '/a/../b/./c?q'
