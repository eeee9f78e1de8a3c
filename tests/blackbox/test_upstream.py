"""Several endpoints: shares, ejection, health checks, retries, pooled connections."""
import collections
import os
import signal
import subprocess
import time
from pathlib import Path

from harness.checks import assert_own_answer
from harness.origins import hold, read_request, read_to_end, response
from harness.processes import of_role
from harness.waiting import free_ports, wait_for
from harness.wire import request_bytes


def origins_seen(proxy, count, **options):
    return collections.Counter(proxy.request(**options).json()['origin'] for _ in range(count))


def weighted(*pairs):
    return [f'"{origin.address}" weight={weight}' for origin, weight in pairs]


def test_endpoints_take_turns(sentinel, origin):
    names = ['a', 'b', 'c']
    proxy = sentinel(*(origin(name=name) for name in names))
    assert origins_seen(proxy, 30) == {name: 10 for name in names}


def test_weights_decide_the_shares(sentinel, origin):
    heavy, light = origin(name='heavy'), origin(name='light')
    proxy = sentinel(*weighted((heavy, 3), (light, 1)))
    assert origins_seen(proxy, 40) == {'heavy': 30, 'light': 10}


def test_weighted_turns_are_smooth(sentinel, origin):
    heavy, light = origin(name='h'), origin(name='l')
    proxy = sentinel(*weighted((heavy, 3), (light, 1)))
    turns = ''.join(proxy.request().json()['origin'] for _ in range(16))
    assert 'hhhh' not in turns and 'll' not in turns


def test_a_refusing_endpoint_costs_no_request(sentinel, origin):
    good, gone = origin(name='good'), origin(name='gone')
    gone.refuse()
    proxy = sentinel(gone, good)
    assert origins_seen(proxy, 20) == {'good': 20}
    assert all(record['status'] == 200 for record in proxy.log_records(20))


def test_a_refused_connection_is_safe_to_retry_even_for_post(sentinel, origin):
    good, gone = origin(name='good'), origin(name='gone')
    gone.refuse()
    proxy = sentinel(gone, good)
    for _ in range(4):
        assert proxy.request('/', 'POST', body=b'once').status == 200
    assert [request.body for request in good.requests] == [b'once'] * 4


def test_an_endpoint_that_refuses_three_times_is_ejected(sentinel, origin):
    good, gone = origin(name='good'), origin(name='gone')
    gone.refuse()
    proxy = sentinel(gone, good)
    origins_seen(proxy, 30)
    records = proxy.log_records(30)
    second_attempts = [record for record in records if record['attempts'] > 1]
    assert 1 <= len(second_attempts) <= 4
    assert proxy.metric('sentinel_endpoint_ejections_total') >= 1
    failures = proxy.metric('sentinel_upstream_failures_total', upstream='backend',
                            reason='connect_failed')
    assert failures == len(second_attempts)


def limit_descriptors(pid, count):
    """The soft limit of a running process, set as its own user."""
    status = Path(f'/proc/{pid}/status').read_text()
    user, group = (int(line.split()[1]) for line in status.splitlines()
                   if line.startswith(('Uid:', 'Gid:')))
    switch = {'user': user, 'group': group, 'extra_groups': []} if os.geteuid() == 0 else {}
    subprocess.run(['prlimit', f'--nofile={count}:', '--pid', str(pid)], check=True, **switch)


def test_a_worker_without_descriptors_blames_no_endpoint(sentinel, origin):
    proxy = sentinel(origin(name='a'), origin(name='b'), server='workers 1')
    worker, = of_role(proxy, 'worker')
    with proxy.connect() as client:
        wait_for(lambda: proxy.metric('sentinel_connections') == 1, 10, 'the client accepted')
        limit_descriptors(worker, 3)
        for _ in range(10):
            client.send(request_bytes('/'))
            answer = client.read_response()
            assert_own_answer(answer, 502, 'connect_failed')
        limit_descriptors(worker, 1000)
        for _ in range(2):
            client.send(request_bytes('/'))
            assert client.read_response().status == 200
    assert proxy.metric('sentinel_upstream_failures_total', reason='connect_failed') >= 10
    assert proxy.metric('sentinel_endpoint_ejections_total') == 0
    assert sorted(origins_seen(proxy, 2)) == ['a', 'b']


def test_an_ejected_endpoint_that_is_back_is_found_by_a_probe(sentinel, origin):
    port, = free_ports(1)
    good = origin(name='good')
    proxy = sentinel(f'127.0.0.1:{port}', good, server='workers 2')
    wait_for(lambda: proxy.request().status == 200 and
             proxy.metric('sentinel_endpoint_ejections_total') >= 1, 10, 'an ejection')
    back = origin(name='back', port=port)

    def is_back():
        return proxy.request().json()['origin'] == 'back'
    wait_for(is_back, 40, 'a request at the endpoint that is back')
    wait_for(lambda: proxy.request().status == 200 and
             proxy.metric('sentinel_endpoint_probes_total') >= 1, 40, 'the probe')
    wait_for(lambda: is_back() and len(back.requests) >= 10, 40, 'its share of the requests')
    assert {record['status'] for record in proxy.records()} == {200}


def test_the_last_endpoint_is_never_ejected(sentinel, origin):
    port, = free_ports(1)
    proxy = sentinel(f'127.0.0.1:{port}')
    for _ in range(8):
        assert_own_answer(proxy.request(), 502, 'connect_failed')


def test_attempts_are_bounded_by_the_retry_policy(sentinel):
    ports = free_ports(4)
    proxy = sentinel(*(f'127.0.0.1:{port}' for port in ports),
                     policies='retry-policy {\n    max-attempts 3\n}')
    assert_own_answer(proxy.request(), 502, 'connect_failed')
    assert proxy.log_record()['attempts'] == 3


def test_one_attempt_means_one(sentinel, origin):
    good, gone = origin(name='good'), origin(name='gone')
    gone.refuse()
    proxy = sentinel(gone, good, policies='retry-policy {\n    max-attempts 1\n}')
    statuses = collections.Counter(proxy.request().status for _ in range(2))
    assert statuses == {200: 1, 502: 1}


def stale(origin):
    """Answers once, then closes the idle connection as soon as the next request arrives."""
    return origin([read_request, response(b'first'), read_request],
                  [read_request, response(b'second'), read_to_end])


def test_a_stale_connection_is_retried_once_for_an_idempotent_request(sentinel, origin):
    server = stale(origin)
    proxy = sentinel(server)
    assert proxy.request('/1').body == b'first'
    assert proxy.request('/2').body == b'second'
    assert [request.target for request in server.requests] == ['/1', '/2', '/2']
    assert proxy.log_records(2)[1]['attempts'] == 2
    assert proxy.metric('sentinel_retries_total', upstream='backend') == 1


def test_a_post_that_was_written_is_never_sent_twice(sentinel, origin):
    server = stale(origin)
    proxy = sentinel(server)
    assert proxy.request('/1').body == b'first'
    assert proxy.request('/2', 'POST', body=b'pay').status == 502
    assert [request.target for request in server.requests] == ['/1', '/2']


def test_a_fresh_connection_that_closes_is_not_retried(sentinel, origin):
    server = origin([read_request], [read_request, response(b'never')])
    proxy = sentinel(server)
    assert proxy.request().status == 502
    assert len(server.requests) == 1


def test_a_connection_that_closed_while_idle_is_not_used(sentinel, origin):
    server = origin([read_request, response(b'first')], [read_request, response(b'second')])
    proxy = sentinel(server)
    assert proxy.request().body == b'first'
    wait_for(lambda: server.connections[0].sock.fileno() == -1, 5, 'the close')
    assert proxy.request('/', 'POST', body=b'x').body == b'second'


def test_connection_close_of_the_origin_is_heeded(sentinel, origin):
    server = origin([read_request, response(b'1', fields=[('Connection', 'close')]), read_to_end],
                    [read_request, response(b'2'), read_to_end])
    proxy = sentinel(server)
    assert [proxy.request().body for _ in range(2)] == [b'1', b'2']


CHECK = '''
health-check {
    type "%s"
    interval 100ms
    timeout 80ms
    healthy-threshold 2
    unhealthy-threshold 2
}
'''


class Switch:
    """Steps that answer each request 200 or 503, as the scenario wants it just then."""

    def __init__(self):
        self.status = '200 OK'

    def __call__(self, server, wire):
        while True:
            server.requests.append(wire.read_request())
            wire.send(response(b'from the switch', self.status))


def test_an_endpoint_that_fails_its_checks_is_left_out_and_taken_back(sentinel, origin):
    switch = Switch()
    sick, well = origin([switch]), origin(name='well')
    proxy = sentinel(sick, well, upstream=CHECK % 'http')

    def bodies(count=6):
        return [b'switch' in proxy.request().body for _ in range(count)]
    wait_for(lambda: any(bodies()), 10, 'both at work')
    switch.status = '503 Sick'
    wait_for(lambda: not any(bodies()), 10, 'the sick one left out')
    switch.status = '200 OK'
    wait_for(lambda: any(bodies()), 10, 'the sick one back')


def test_checks_ask_for_their_path_and_host(sentinel, origin):
    watched = origin(name='watched')
    sentinel(watched, upstream='''
health-check {
    type "http" path="/healthz?deep" host="inner.example"
    interval 100ms
}
''')
    request = watched.wait_requests(1)[0]
    assert (request.method, request.target) == ('GET', '/healthz?deep')
    assert request.get('Host') == 'inner.example'


def test_checks_are_no_client_requests(sentinel, origin):
    watched = origin(name='watched')
    proxy = sentinel(watched, upstream=CHECK % 'http')
    watched.wait_requests(5)
    proxy.request('/real')
    assert proxy.log_record()['path'] == '/real'


def test_a_tcp_check_takes_an_endpoint_out(sentinel, origin):
    gone, well = origin(name='gone'), origin(name='well')
    proxy = sentinel(gone, well, upstream=CHECK % 'tcp')
    assert origins_seen(proxy, 10) == {'gone': 5, 'well': 5}
    gone.refuse()
    wait_for(lambda: 'gone' not in origins_seen(proxy, 4), 10, 'the endpoint out')


def test_when_all_checks_fail_the_answer_is_503(sentinel, origin):
    switch = Switch()
    switch.status = '500 Sick'
    proxy = sentinel(origin([switch]), upstream=CHECK % 'http')
    wait_for(lambda: proxy.request().status == 503, 10, 'no endpoint')
    assert_own_answer(proxy.request(), 503, 'no_endpoint')


def test_a_host_for_the_upstream_replaces_the_clients(sentinel, echo):
    proxy = sentinel(echo, route='upstream-host "inner.example:81"')
    fields = dict(map(tuple, proxy.request(host='outer.example').json()['fields']))
    assert fields['Host'] == 'inner.example:81'
    assert fields['X-Forwarded-Host'] == 'outer.example'


def test_a_target_may_be_a_name(sentinel, echo):
    proxy = sentinel(f'localhost:{echo.port}')
    assert proxy.request().status == 200


def test_connections_are_counted(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        for _ in range(5):
            client.send(request_bytes())
            client.read_response()
    assert proxy.metric('sentinel_upstream_connections_opened_total', upstream='backend') == 1
    assert proxy.metric('sentinel_upstream_connections_reused_total', upstream='backend') == 4


def test_a_stale_connection_is_no_attempt(sentinel, origin):
    gone = origin([read_request, response(b'gone'), read_request])
    other = origin([read_request, response(b'other', fields=[('Connection', 'close')])])
    proxy = sentinel(*weighted((gone, 100), (other, 1)), upstream='',
                     policies='retry-policy {\n    max-attempts 2\n}')
    while not gone.requests:
        assert proxy.request().status == 200
    gone.refuse()
    # Most turns are of the endpoint that is gone: its connection turns out stale, then it refuses.
    for _ in range(3):
        assert proxy.request().status == 200
    assert proxy.metric('sentinel_upstream_failures_total', reason='upstream_closed') == 1
    assert proxy.metric('sentinel_upstream_failures_total', reason='connect_failed') >= 1


def test_requests_that_wait_for_a_connection_are_served_in_their_order(sentinel, origin):
    def serve(server, wire):
        for _ in range(40):
            server.requests.append(wire.read_request())
            server.released.wait(10)
            wire.send(response(b'x'))
    server = origin([serve])
    proxy = sentinel(server, limits='max-upstream-connections 1', timeouts='queue 10s')
    clients = []
    for number in range(20):
        clients.append(proxy.connect())
        clients[-1].send(request_bytes(f'/{number}'))
        wait_for(lambda: proxy.metric('sentinel_requests_in_flight') == number + 1)
    server.release()
    for client in clients:
        assert client.read_response().status == 200
        client.close()
    assert [request.target for request in server.requests] == [f'/{n}' for n in range(20)]


def test_who_comes_just_when_a_connection_is_free_stands_behind_those_who_wait(sentinel, origin):
    server = origin([read_request, hold, response(b'1'), read_request, response(b'2'),
                     read_request, response(b'3'), read_to_end])
    proxy = sentinel(server, limits='max-upstream-connections 1', timeouts='queue 20s')
    holder, waiter, newcomer = clients = [proxy.connect() for _ in range(3)]
    wait_for(lambda: proxy.metric('sentinel_connections') == 3)
    for number, client in enumerate((holder, waiter)):
        client.send(request_bytes(f'/{number}'))
        wait_for(lambda: proxy.metric('sentinel_requests_in_flight') == number + 1)
    worker, = of_role(proxy, 'worker')
    os.kill(worker, signal.SIGSTOP)  # so that all of it comes in one turn
    try:
        server.release()
        time.sleep(0.5)  # the response is on its way first
        newcomer.send(request_bytes('/newcomer'))
        time.sleep(0.2)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert [client.read_response().body for client in clients] == [b'1', b'2', b'3']
    assert [request.target for request in server.requests] == ['/0', '/1', '/newcomer']
