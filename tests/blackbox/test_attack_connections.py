"""Attacks on connections and heads: who causes them pays, the client beside them is served.

Each attack would hold what it takes for 10 s or more (request-head, keep-alive).
"""
from harness.attack import ADDRESSES, Flood, attack, neighbour, shed
from harness.checks import assert_own_answer, get
from harness.waiting import wait_for
from harness.wire import request_bytes

PARTIAL = b'GET / HTTP/1.1\r\nHost: a\r\nX: '


def test_an_idle_flood_makes_room_by_itself(sentinel, echo):
    proxy = sentinel(echo, server='max-connections 100')
    with Flood(proxy) as flood, neighbour(proxy):
        flood.go_on(4, 100, b'')
        assert flood.ended() > 50
        assert proxy.metric('sentinel_limit_utilization_ratio', limit='max-connections') >= 0.8
    assert shed(proxy, 'idle_connection') > 50
    wait_for(lambda: 'idle connections were closed early' in proxy.errors_path.read_text(), 10,
             'a line in the log')


def test_an_idle_flood_at_several_workers_makes_room_by_itself(sentinel, echo):
    proxy = sentinel(echo, server='max-connections 200\nworkers 2')
    attack(proxy, 5, 100, b'')
    assert shed(proxy, 'idle_connection') > 50


def test_used_connections_that_are_kept_idle_make_room_too(sentinel, echo):
    proxy = sentinel(echo, server='max-connections 100')
    attack(proxy, 4, 100, request_bytes())
    assert shed(proxy, 'keep_alive') > 20


def test_below_nine_tenths_nobody_is_shed(sentinel, echo):
    proxy = sentinel(echo, server='max-connections 100')
    with Flood(proxy) as flood:
        for _ in range(80):
            assert flood.open()
        wait_for(lambda: proxy.metric('sentinel_connections', listener='http') >= 80, 10, 'all')
        with neighbour(proxy) as client:
            wait_for(lambda: client.served > 100, 30, 'requests')
        assert flood.ended() == 0
    assert shed(proxy, 'idle_connection') == 0 and shed(proxy, 'keep_alive') == 0


def test_half_sent_heads_are_given_up_when_connections_are_short(sentinel, echo):
    proxy = sentinel(echo, server='max-connections 100')
    attack(proxy, 5, 50, PARTIAL, b'a', ended=20)
    assert shed(proxy, 'slow_head') > 20
    assert proxy.logged('connections_full')['status'] == 503


def test_one_client_that_opens_everything_gets_its_share_and_no_more(sentinel, echo):
    proxy = sentinel(echo, server='max-connections 100', limits='connections-per-client 20')
    with Flood(proxy, addresses=['127.0.1.1']) as flood, neighbour(proxy):
        flood.go_on(3, 150, PARTIAL, b'a')
        assert flood.ended() > 100
        with proxy.connect(source='127.0.1.1') as client:
            assert_own_answer(client.read_response(), 429, 'client_connections')
    assert shed(proxy, 'slow_head') == 0


def test_huge_heads_are_refused_and_cost_nobody_else(sentinel, echo):
    proxy = sentinel(echo, server='max-connections 200')
    attack(proxy, 3, 60, get('/', 'X: ' + 'a' * 60000), ended=30)
    assert proxy.logged('head_too_large')['status'] == 431


def test_requests_at_a_rate_cost_only_who_makes_them(sentinel, echo):
    proxy = sentinel(echo, limits='request-rate-per-client 20 burst=100')
    with Flood(proxy, addresses=ADDRESSES[:4]) as flood:
        with proxy.connect(source='127.0.0.9') as client:
            flood.go_on(3, 20, request_bytes() * 50)
            for _ in range(20):
                client.send(request_bytes())
                assert client.read_response().status == 200
    assert proxy.logged('client_request_rate')['status'] == 429
