"""A feature that is off is a state of its own: the same traffic through many mixtures of on and off.

Eight mixtures of seven features, chosen so that of any two features all four states come up.
"""
import hashlib
import signal

import pytest

from harness.checks import assert_own_answer
from harness.origins import read_request, read_to_end, response
from harness.processes import replace
from harness.waiting import wait_for
from harness.wire import chunked, request_bytes

SIZE = 1 << 20
BODY = hashlib.shake_256(b'a body').digest(SIZE)


def mixture(number):
    """Which of the seven are on: an orthogonal array of strength two."""
    a, b, c = number & 1, number >> 1 & 1, number >> 2 & 1
    return [bool(state) for state in (a, b, c, a ^ b, a ^ c, b ^ c, a ^ b ^ c)]


def parts_of(log, recorder, pipes, rate, checks, retries, control):
    return {
        'observability': f'access-log "{"stdout" if log else "off"}"\n'
                         f'flight-recorder {64 if recorder else 0}',
        'limits': f'splice-pipes {16 if pipes else 0}\n' +
                  ('request-rate-per-client 1000 burst=1000' if rate else ''),
        'upstream': 'health-check { type "tcp"; interval 50ms; timeout 50ms; }' if checks else '',
        'policies': 'retry-policy { max-attempts 3; }' if retries else '',
        'server': 'workers 2' + ('' if control else '\ncontrol-socket "off"'),
    }


def traffic(proxy):
    """Each kind of exchange once; how many there were."""
    assert proxy.request('/small').json()['target'] == '/small'
    assert proxy.request('/old', version='HTTP/1.0').status == 200
    assert proxy.request('/chunks', 'POST', [('Transfer-Encoding', 'chunked')],
                         chunked(BODY[:1], BODY[1:90000])).json()['length'] == 90000
    answer = proxy.request('/upload', 'PUT', [('Content-Length', str(SIZE))], BODY)
    assert answer.json()['sha256'] == hashlib.sha256(BODY).hexdigest()
    assert proxy.request('/big').body == BODY
    assert_own_answer(proxy.request('/%00'), 400, 'bad_target')
    with proxy.connect() as client:
        client.send(request_bytes('/first') + request_bytes('/second'))
        assert client.read_response().json()['target'] == '/first'
        assert client.read_response().json()['target'] == '/second'
    return 8


@pytest.mark.parametrize('number', range(8))
def test_the_same_traffic_through_every_mixture(sentinel, echo, origin, number):
    log, recorder, pipes, *_, control = mixture(number)
    big = origin([read_request, response(BODY), read_to_end])
    proxy = sentinel(echo, **parts_of(*mixture(number)),
                     extra=f'upstream "big" {{\n    target "{big.address}"\n}}\n'
                           'route "big" {\n    match path-prefix="/big"\n    upstream "big"\n}\n')
    count = traffic(proxy)
    wait_for(lambda: proxy.metric('sentinel_requests_total') == count, 10, 'all to be counted')
    wait_for(lambda: proxy.metric('sentinel_access_log_records_total') == (count if log else 0), 10,
             'the records')
    assert proxy.metric('sentinel_requests_in_flight') == 0
    assert (proxy.metric('sentinel_spliced_bytes_total') > 0) == pipes
    if control:
        assert len(proxy.recent()) == (count if recorder else 0)
    replace(proxy, 'worker', signal.SIGKILL)
    assert proxy.request('/after').json()['target'] == '/after'
    proxy.stop()
