"""Defects that were found by attacking, each held by the scenario that showed it."""
import pytest

from harness.checks import assert_alive, assert_own_answer
from harness.origins import read_request, response

# Heads at the largest size: what we add to them must not break the worker.

@pytest.mark.parametrize('size', [60000, 64000, 65400])
def test_a_request_head_near_the_largest_size_is_forwarded_or_refused(sentinel, echo, size):
    proxy = sentinel(echo, limits='head-size 64KiB')
    answer = proxy.request('/', fields=[('X-Long', 'a' * size)])
    assert answer.status in (200, 431), answer.start
    assert_alive(proxy)


def test_a_path_that_grows_by_escapes_is_forwarded_or_refused(sentinel, echo):
    proxy = sentinel(echo, limits='head-size 64KiB\nrequest-line 64KiB')
    answer = proxy.request('/' + '{' * 60000)
    assert answer.status in (200, 400, 414, 431), answer.start
    assert_alive(proxy)


@pytest.mark.parametrize('size', [60000, 65000, 65480])
def test_a_response_head_near_the_largest_size_is_relayed_or_502(sentinel, origin, size):
    big = [read_request, response(b'x', fields=[('X-Long', 'a' * size)])]
    proxy = sentinel(origin(big, [read_request, response()]), limits='head-size 64KiB')
    answer = proxy.request()
    assert answer.status in (200, 502), answer.start
    if answer.status == 502:
        assert_own_answer(answer, 502, 'response_head_too_large')
    assert_alive(proxy)


def test_a_redirect_that_keeps_a_path_near_the_largest_size(sentinel):
    proxy = sentinel(limits='head-size 64KiB\nrequest-line 64KiB', routes='''
route "all" {
    match path-prefix="/"
    redirect "https://elsewhere.test/deep" status=308 keep-path=true
}
''')
    answer = proxy.request('/' + 'a' * 65300)
    assert answer.status in (308, 414), answer.start
    assert proxy.request('/b').status == 308
