"""Attacks on requests in flight and on buffers: the client beside them is served all the while.

Each attack would hold what it takes for 10 s or more (request-body-idle and its rate,
response-write-idle).
"""
from harness.attack import Flood, attack, neighbour, shed
from harness.origins import read_request, read_to_end, response
from harness.waiting import wait_for
from harness.wire import request_bytes

UPLOAD = request_bytes('/', 'POST', [('Content-Length', '100000')])


def serving(body, times=200):
    """A script that answers each request on a connection with this body."""
    return [read_request, response(body)] * times + [read_to_end]


def test_slow_bodies_make_room_for_other_requests(sentinel, echo):
    proxy = sentinel(echo, limits='max-requests 40')
    attack(proxy, 5, 20, UPLOAD, b'x', ended=20)
    assert shed(proxy, 'slow_body') > 20
    assert proxy.logged('shed_slow_body')['status'] == 408


def test_slow_bodies_at_several_workers_make_room_too(sentinel, echo):
    proxy = sentinel(echo, server='workers 2', limits='max-requests 60')
    attack(proxy, 5, 25, UPLOAD, b'x')
    assert shed(proxy, 'slow_body') > 10


def test_slow_bodies_do_not_keep_all_upstream_connections(sentinel, echo):
    proxy = sentinel(echo, limits='max-upstream-connections 20')
    attack(proxy, 4, 10, UPLOAD, b'x')
    assert shed(proxy, 'slow_body') > 0
    assert proxy.logged('shed_slow_body')['status'] == 408


def test_slow_readers_do_not_keep_all_upstream_connections(sentinel, origin):
    proxy = sentinel(origin(answering(bytes(2**22))), limits='max-upstream-connections 20')
    attack(proxy, 4, 10, request_bytes('/large'), target='/ok', receive_buffer=4096)
    assert shed(proxy, 'slow_reader') > 0
    assert proxy.logged('shed_slow_reader')['status'] == 200


def answering(body, times=200):
    """A script that answers /large with this body and everything else with a short one."""
    def answer(origin, wire):
        read_request(origin, wire)
        large = origin.requests[-1].target == '/large'
        wire.send(response(body if large else b'ok'))
    return [answer] * times + [read_to_end]


def test_slow_readers_do_not_keep_all_requests(sentinel, origin):
    body = bytes(range(256)) * 16384
    proxy = sentinel(origin(serving(body)), limits='max-requests 40',
                     routes='''
route "all" { match path-prefix="/"; upstream "backend" }
route "ok" { match path="/ok"; respond 200 body="ok" }
''')
    attack(proxy, 5, 20, request_bytes(), target='/ok', receive_buffer=4096)
    assert shed(proxy, 'slow_reader') > 10
    assert proxy.logged('shed_slow_reader')['status'] == 200


def test_slow_readers_do_not_keep_all_buffers(sentinel, origin):
    body = bytes(range(256)) * 16384
    server = origin(serving(body))
    proxy = sentinel(server, limits='buffer-pool "512KiB"\nsplice-pipes 0')
    with Flood(proxy, receive_buffer=4096) as flood:
        for _ in range(60):
            assert flood.open(request_bytes())
        wait_for(lambda: proxy.metric('sentinel_buffers_in_use') >= 28, 20, 'a pool without spare')
        with neighbour(proxy, size=len(body)) as client:
            wait_for(lambda: client.served >= 6, 60, 'six bodies beside the slow readers')
    assert shed(proxy, 'slow_reader') > 0
    assert proxy.logged('shed_slow_reader')['status'] == 200


def test_slow_readers_that_have_all_memory_for_buffering_cost_others_nothing(sentinel, origin):
    body = bytes(range(256)) * 16384
    proxy = sentinel(origin(serving(body)), limits='hold-pool "256KiB"',
                     policies='buffering { response "1MiB" }')
    with Flood(proxy, receive_buffer=4096) as flood:
        for _ in range(30):
            assert flood.open(request_bytes())
        wait_for(lambda: proxy.metric('sentinel_limit_utilization_ratio', limit='hold-pool') > 0.9,
                 20, 'a full pool')
        with neighbour(proxy, size=len(body)) as client:
            wait_for(lambda: client.served >= 6, 60, 'six bodies beside the slow readers')
    assert proxy.metric('sentinel_hold_pool_short_total') > 0
    assert shed(proxy, 'slow_reader') == 0


def test_slow_uploads_that_are_collected_make_room_for_other_requests(sentinel, echo):
    proxy = sentinel(echo, limits='max-requests 40', policies='buffering { request "64KiB" }')
    attack(proxy, 5, 20, UPLOAD, b'x', ended=20)
    assert shed(proxy, 'slow_body') > 20
    record = proxy.logged('shed_slow_body')
    assert (record['status'], record['attempts']) == (408, 0)


def test_uploads_to_an_upstream_that_does_not_read_make_room(sentinel, origin):
    stuck = origin([read_to_nothing])
    body = bytes(range(256)) * 4096
    good = origin(serving(body))
    proxy = sentinel(good, limits='buffer-pool "512KiB"\nsplice-pipes 0', extra=f'''
upstream "stuck" {{ target "{stuck.address}" }}
route "stuck" {{ match path-prefix="/stuck"; upstream "stuck"; policies {{ max-body-size 0 }} }}
''')
    with Flood(proxy) as flood:
        data = request_bytes('/stuck', 'PUT', [('Content-Length', str(2**30))])
        for _ in range(40):
            assert flood.open(data)

        def full():
            flood.drip(b'x' * 65536)
            return proxy.metric('sentinel_buffers_in_use') >= 28
        wait_for(full, 60, 'a pool without spare')
        with neighbour(proxy, target='/ok', size=len(body)) as client:
            wait_for(lambda: client.served >= 6, 60, 'six bodies beside the uploads')
    assert shed(proxy, 'slow_upstream') > 0


def read_to_nothing(origin, wire):
    """Takes the head and not a byte of the body."""
    wire.read_head()
    origin.stopping.wait(120)


def discard(_origin, wire):
    """Reads what comes and keeps nothing."""
    while wire.sock.recv(1 << 18):
        pass


def test_huge_bodies_cost_only_who_sends_them(sentinel, echo, origin):
    proxy = sentinel(echo, extra=f'''
upstream "huge" {{ target "{origin([discard]).address}" }}
route "huge" {{ match path-prefix="/huge"; upstream "huge" }}
''')
    data = request_bytes('/huge', 'POST', [('Transfer-Encoding', 'chunked')])
    with Flood(proxy) as flood, neighbour(proxy):
        for _ in range(20):
            flood.open(data + b'40000000\r\n')

        def refused():
            flood.drip(b'x' * 65536)
            return proxy.metric('sentinel_failures_total', reason='body_too_large') >= 10
        wait_for(refused, 60, 'refused bodies')


def test_a_pipelining_flood_takes_its_turns(sentinel, echo):
    proxy = sentinel(echo)
    attack(proxy, 4, 20, request_bytes() * 1500)
    assert proxy.request().status == 200
