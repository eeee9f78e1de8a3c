"""Defects that were found by attacking, each held by the scenario that showed it."""
import concurrent.futures
import os
import time

from harness.checks import assert_alive, assert_own_answer
from harness.origins import hold, read_request, response
from harness.wire import request_bytes

BIG = b'x' * 4_000_000  # more than all socket buffers on the way


def cpu_seconds(proxy):
    """Processor time that all children have used so far."""
    ticks = 0
    for pid in proxy.children():
        with open(f'/proc/{pid}/stat', encoding='ascii') as stat:
            fields = stat.read().rsplit(')', 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf('SC_CLK_TCK')


def assert_quiet(proxy, seconds=1.5):
    """Nobody burns processor time while nothing happens."""
    before = cpu_seconds(proxy)
    time.sleep(seconds)  # the scenario is about what happens in this time: nothing
    used = cpu_seconds(proxy) - before
    assert used < seconds / 3, f'{used} s of processor time in {seconds} s of waiting'


def slow_readers(proxy, stack, count):
    """Clients that ask for much and read nothing."""
    readers = []
    for _ in range(count):
        client = proxy.connect(receive_buffer=4096)
        stack.append(client)
        client.stop = client.close
        client.send(request_bytes())
        readers.append(client)
    return readers


# Heads at the largest size: what we add to them still fits.

MOST = 'head-size 32KiB\nrequest-line 12KiB\nheader-fields 1000'
HEAD, LINE = 32 * 1024, 12 * 1024
LINE_REST = len('GET / HTTP/1.1')
GROWING = '/' + '{' * ((LINE - 1) // 3)  # each becomes three bytes: as long as a line may be
SECURITY = 'security-headers {\n' + ''.join(
    f'    set "X-Own-{number}" "{"v" * 100}"\n' for number in range(28)) + '}'


def fields_of(size):
    """900 fields that are so many bytes together as we write them."""
    short = [(f'x-{number:03}', 'v') for number in range(899)]
    rest = size - sum(len(f'{name}: {value}\r\n') for name, value in short)
    return [*short, ('x-long', 'a' * (rest - len('x-long: \r\n')))]


def assert_secured(answer):
    """It carries our own fields, all 28, and the four that are set without asking."""
    assert [value for name, value in answer.fields if name.startswith('X-Own-')] == ['v' * 100] * 28
    assert answer.get('X-Frame-Options') == 'DENY'


def test_the_largest_request_head_is_forwarded_whole(sentinel, echo):
    proxy = sentinel(echo, limits=MOST)
    rest = len(request_bytes())
    fields = fields_of(HEAD - rest)
    answer = proxy.request('/', fields=fields)
    assert answer.status == 200, answer.start
    seen = [tuple(pair) for pair in answer.json()['fields']]
    assert [pair for pair in seen if pair in fields] == fields
    assert proxy.request('/', fields=fields_of(HEAD - rest + 1)).status == 431


def test_a_path_that_grows_by_escapes_is_forwarded_whole(sentinel, echo):
    proxy = sentinel(echo, limits=MOST)
    answer = proxy.request(GROWING, fields=fields_of(HEAD - LINE - 100))
    assert answer.status == 200, answer.start
    assert answer.json()['target'] == GROWING.replace('{', '%7B')
    assert_own_answer(proxy.request(GROWING + '{'), 414, 'uri_too_long')


def test_the_largest_response_head_is_relayed_with_all_security_headers(sentinel, origin):
    rest = len(response(b'x')) - 1
    largest = response(b'x', fields=fields_of(HEAD - rest))
    beyond = response(b'x', fields=fields_of(HEAD - rest + 1))
    proxy = sentinel(origin([read_request, largest], [read_request, beyond]), limits=MOST,
                     route=SECURITY)
    answer = proxy.request()
    assert answer.status == 200 and answer.get('x-898') == 'v', answer.start
    assert len(answer.get('x-long')) > 10_000
    assert_secured(answer)
    answer = proxy.request()
    assert_own_answer(answer, 502, 'response_head_too_large')
    assert_secured(answer)


def test_a_redirect_that_keeps_the_largest_path_has_all_security_headers(sentinel):
    place = 'https://elsewhere.test/' + 'd' * 1000
    proxy = sentinel(limits=MOST, routes=f'''
route "all" {{
    match path-prefix="/"
    redirect "{place}" status=308 keep-path=true
    {SECURITY}
}}
''')
    query = '?' + 'q' * (LINE - LINE_REST - len(GROWING))
    answer = proxy.request(GROWING + query)
    assert answer.status == 308, answer.start
    assert answer.get('Location') == place + GROWING.replace('{', '%7B') + query
    assert_secured(answer)


# Buffers: a promise of room is kept, waiting for some costs nothing.

def test_an_upload_that_could_be_sent_again_survives_a_pool_that_is_half_used(sentinel, origin,
                                                                              stack):
    def serve(server, wire):
        request = wire.read_head()
        if request.method == 'GET':
            wire.send(response(BIG, fields=[('Connection', 'close')]))
            server.released.wait(30)
        else:
            time.sleep(0.05)
            wire.read_body(request)
            wire.send(response(b'%d' % len(request.body), fields=[('Connection', 'close')]))
    proxy = sentinel(origin([serve]), limits='buffer-pool 256KiB')
    for readers in range(4):
        if readers:
            slow_readers(proxy, stack, 1)
            time.sleep(0.3)
        for size in (30_000, 40_000, 50_000, 600_000):
            answer = proxy.request('/', 'PUT', body=b'y' * size)
            assert (answer.status, answer.body) == (200, b'%d' % size)


def test_uploads_that_could_be_sent_again_leave_room_for_others(sentinel, origin, stack):
    def serve(server, wire):
        request = wire.read_request()
        server.requests.append(request)
        if request.method == 'PUT':
            server.released.wait(30)
        wire.send(response(b'z' * 100_000, fields=[('Connection', 'close')]))
    server = origin([serve])
    proxy = sentinel(server, limits='buffer-pool 256KiB')
    for _ in range(24):
        client = proxy.connect()
        stack.append(client)
        client.stop = client.close
        client.send(request_bytes('/', 'PUT', body=b'y' * 10_000))
    server.wait_requests(24)
    assert proxy.request().body == b'z' * 100_000


def test_waiting_for_buffers_is_quiet_and_ends(sentinel, origin, stack):
    def serve(server, wire):
        wire.read_request()
        wire.send(response(BIG))
        server.released.wait(30)
    proxy = sentinel(origin([serve]), limits='buffer-pool 256KiB')
    readers = slow_readers(proxy, stack, 24)
    time.sleep(1)
    assert_quiet(proxy)
    with concurrent.futures.ThreadPoolExecutor(len(readers)) as pool:
        for answer in pool.map(lambda client: client.read_response(), readers):
            assert answer.body == BIG


def test_interim_responses_that_a_slow_client_leaves_do_not_block_the_final_one(sentinel, origin,
                                                                                stack):
    interim = b'HTTP/1.1 103 Early Hints\r\nLink: ' + b'a' * 30_000 + b'\r\n\r\n'
    server = origin([read_request, response(b'x' * 2_000_000), read_request, interim * 16,
                     response(b'final', fields=[('X-Long', 'b' * 30_000)]), hold])
    proxy = sentinel(server, limits='head-size 32KiB')
    client = proxy.connect(receive_buffer=4096)
    stack.append(client)
    client.stop = client.close
    client.send(request_bytes() + request_bytes())
    server.wait_requests(2)
    time.sleep(0.5)  # for all of it to come to the proxy before anything is read
    assert_quiet(proxy)
    assert client.read_response().body == b'x' * 2_000_000
    assert client.read_response().body == b'final'


# What trusted peers tell of the way.

def test_many_forwarded_for_lines_of_a_trusted_peer_stay_one_chain(sentinel, echo):
    proxy = sentinel(echo, listener='trusted-proxies "127.0.0.0/8"')
    chain = [f'10.0.{n // 250}.{n % 250 + 1}' for n in range(300)]
    lines = [', '.join(chain[at:at + 4]) for at in range(0, 300, 4)]
    answer = proxy.request(fields=[('X-Forwarded-For', line) for line in lines])
    seen = dict(answer.json()['fields'])['X-Forwarded-For']
    assert seen == ', '.join(chain + ['127.0.0.1'])
