"""gRPC through the proxy: real clients and services (python3-grpcio), and scripted peers."""
import queue
import signal
import socket
import time

import pytest

from harness.certificates import Authority
from harness.grpcs import NOT_SERVING, SERVING, Client, Service, grpc, trailing
from harness.http2 import (CANCEL, GOAWAY, INTERNAL_ERROR, NO_ERROR, PING, RST_STREAM, Answer, Http2,
                           frame, reset, settings, window_update)
from harness.http2_origins import send_head, serve_frames, until_request
from harness.origins import hold, read_head, response
from harness.proxy import Plan, Sentinel
from harness.waiting import wait_for

LISTENER = 'h2c true'
UPSTREAM = 'protocol "grpc"'
INITIAL_WINDOW_SIZE = 4
FIELDS = ('access-log "stdout" {\n    fields "status" "reason" "hint" "route" "attempts" "total_ms" '
          '"grpc_status" "request_id"\n}')


@pytest.fixture
def service(stack):
    stack.append(Service())
    return stack[-1]


@pytest.fixture
def through(sentinel):
    """through(target, ...): a proxy in front of it that speaks gRPC both ways."""
    def start(*targets, **parts):
        parts.setdefault('listener', LISTENER)
        parts.setdefault('observability', FIELDS)
        parts['upstream'] = UPSTREAM + '\n' + parts.get('upstream', '')
        return sentinel(*targets, **parts)
    return start


@pytest.fixture
def client(stack):
    def start(proxy, **options):
        stack.append(Client(proxy.port, **options))
        return stack[-1]
    return start


class Plain:
    """One service and one proxy for the scenarios that want nothing special of either."""

    def __init__(self, folder):
        self.service = Service()
        plan = Plan([self.service], listener=LISTENER, upstream=UPSTREAM, observability=FIELDS,
                    routes='route "all" {\n    match path-prefix="/shop.Test"\n'
                           '    upstream "backend"\n}\n')
        self.proxy = Sentinel(folder, plan)
        self.seen = 0

    def records(self, count):
        """The next records, which are exactly so many."""
        found = self.proxy.log_records(self.seen + count)[self.seen:]
        self.seen += count
        return found

    def outcomes(self, count):
        return [(record['status'], record['reason'], record['grpc_status'])
                for record in self.records(count)]

    def stop(self):
        self.service.stop()
        self.proxy.stop()


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    pair = Plain(tmp_path_factory.mktemp('plain'))
    yield pair
    pair.stop()


@pytest.fixture
def plain(shared):
    """What the scenarios before have begun is over, and counts no more."""
    wait_for(lambda: shared.proxy.metric('sentinel_requests_in_flight') == 0, what='quiet')
    shared.service.begin_anew()
    shared.seen = int(shared.proxy.metric('sentinel_access_log_records_total'))
    wait_for(lambda: len(shared.proxy.records()) == shared.seen, what='the records so far')
    return shared


@pytest.fixture
def calls(plain, client):
    return client(plain.proxy)


def message(body):
    """A message as gRPC frames it."""
    return b'\0' + len(body).to_bytes(4, 'big') + body


def call_raw(proxy, name='Echo', body=b'', end=True, fields=(), path=None, **options):
    """A call by hand: (connection, stream)."""
    h2 = Http2(proxy.connect(), **options)
    stream = h2.open(method='POST', path=path or f'/shop.Test/{name}', end=False,
                     fields=[('content-type', 'application/grpc'), ('te', 'trailers'), *fields])
    h2.data(stream, message(body), end=end)
    return h2, stream


def told(answer):
    """grpc-status and grpc-message, wherever they stand."""
    pairs = dict(pair for head in answer.heads for pair in head)
    return int(pairs[b'grpc-status']), pairs.get(b'grpc-message', b'').decode()


# Calls of every kind.

def test_a_call_its_answer_and_its_metadata(plain, calls):
    answer, call = calls.call('Echo', b'hello' * 1000, metadata=(('x-mine', 'yes'),))
    assert answer == b'hello' * 1000
    assert ('x-first', 'one') in call.initial_metadata()
    assert trailing(call) == [('x-last', 'two'), ('x-last', 'three'), ('x-b-bin', b'\0\xff')]
    metadata = plain.service.calls[0][1]
    assert metadata['x-mine'] == 'yes' and metadata['x-forwarded-for'] == '127.0.0.1'
    assert plain.outcomes(1) == [(200, None, 0)]


def test_what_a_service_says_of_its_failure_comes_whole(plain, calls):
    before = plain.proxy.metric('sentinel_grpc_requests_total', route='all', grpc_status='5')
    error = calls.fails('Fail', 'nicht da: 100% \u00e4\n'.encode())
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert error.details() == 'nicht da: 100% \u00e4\n'
    assert ('grpc-status-details-bin', b'\x08\x05rich') in error.trailing_metadata()
    assert ('x-why', 'so') in error.trailing_metadata()
    assert plain.outcomes(1) == [(200, None, 5)]
    after = plain.proxy.metric('sentinel_grpc_requests_total', route='all', grpc_status='5')
    assert after == before + 1


def test_an_answer_of_trailers_only_stays_one(plain):
    h2, stream = call_raw(plain.proxy, 'Refuse')
    answer = h2.answer(stream)
    assert answer.ended and len(answer.heads) == 1 and answer.body == b''
    assert told(answer) == (7, 'no')
    assert b'content-length' not in answer.final


def test_streams_in_either_direction(calls):
    counting = calls.call('Count', b'500')
    assert list(counting) == [b'%d' % number for number in range(500)]
    assert trailing(counting) == [('x-last', 'counted')]
    answer, _ = calls.call('Sum', iter(b'%d' % number for number in range(500)))
    assert answer == b'%d' % sum(range(500))


def test_messages_go_both_ways_at_once(plain, calls):
    words = queue.Queue()
    call = calls.call('Chat', iter(words.get, None))
    for number in range(20):
        words.put(b'%d' % number)
        assert next(call) == b're: %d' % number  # before the next one is said
    large = bytes(range(256)) * 2000
    words.put(large)
    assert next(call) == b're: ' + large
    words.put(None)
    assert list(call) == [] and call.code() == grpc.StatusCode.OK
    assert plain.outcomes(1) == [(200, None, 0)]


def test_a_service_may_answer_before_it_was_told_all(plain, calls):
    words = queue.Queue()
    for _ in range(20):
        call = calls.call('Early', iter(words.get, None))
        assert list(call) == [b'enough'] and call.code() == grpc.StatusCode.OK
        assert trailing(call) == [('x-last', 'early')]
        words.put(None)
    assert plain.outcomes(20) == [(200, None, 0)] * 20


def test_a_call_that_its_client_cancels_ends_at_the_service(plain, calls):
    service = plain.service
    hanging = calls.method('Hang').future(b'')
    wait_for(lambda: service.calls, what='the call')
    hanging.cancel()
    assert service.cancelled.wait(10)
    service.begin_anew()
    dripping = calls.call('Drip', b'first')
    assert next(dripping) == b'first'
    dripping.cancel()
    assert service.cancelled.wait(10)
    assert [(reason, status) for _, reason, status in plain.outcomes(2)] == [
        ('client_closed', 1)] * 2


def test_tls_on_both_sides(through, stack, tmp_path, client):
    authority = Authority(tmp_path / 'pki')
    file, key = authority.issue('shop', 'shop.test')
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), file.read_bytes())])
    stack.append(Service(credentials=credentials))
    service = stack[-1]
    proxy = through(
        service,
        listener=f'protocol "https"\ntls {{\n    certificate "{file}" key="{key}"\n}}',
        upstream=f'tls {{\n    ca "{authority.ca}"\n    server-name "shop.test"\n}}\n'
                 'health-check {\n    type "grpc"\n    interval 100ms\n}')
    calls = client(proxy, ca=authority.ca)
    assert calls.call('Echo', b'safe')[0] == b'safe'
    assert list(calls.call('Chat', iter([b'a', b'b']))) == [b're: a', b're: b']
    wait_for(lambda: proxy.metric('sentinel_health_checks_total', result='success') > 2,
             what='checks over TLS')
    service.health = NOT_SERVING
    wait_for(lambda: proxy.metric('sentinel_endpoint_up') == 0, what='the endpoint to go')


# What Sentinel says itself.

def test_an_upstream_that_is_down_is_unavailable(through, client):
    with socket.socket() as nobody:
        nobody.bind(('127.0.0.1', 0))
        proxy = through(f'127.0.0.1:{nobody.getsockname()[1]}')
        error = client(proxy).fails('Echo')
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert error.details() == 'no connection to the upstream could be made'
    pairs = dict(error.trailing_metadata())
    assert pairs['proxy-status'] == 'sentinel; error=connection_refused; details="connect_failed"'
    record = proxy.log_record()
    assert (record['status'], record['reason'], record['grpc_status']) == (
        502, 'connect_failed', 14)
    assert pairs['x-request-id'] == record['request_id']
    assert proxy.metric('sentinel_requests_total', route='all', status='502') == 1
    assert proxy.metric('sentinel_grpc_requests_total', route='all', grpc_status='14') == 1


def test_failures_are_told_by_the_published_mapping(through, service, client):
    routes = ('route "one" {\n    match path="/shop.Test/Echo"\n    upstream "backend"\n'
              '    policies {\n        max-body-size "1KiB"\n    }\n}\n'
              'route "hang" {\n    match path="/shop.Test/Hang"\n    upstream "backend"\n'
              '    policies {\n        timeout 200ms\n    }\n}\n')
    proxy = through(service, routes=routes)
    calls = client(proxy)
    assert calls.fails('Nothing').code() == grpc.StatusCode.UNIMPLEMENTED
    assert calls.fails('Echo', b'x' * 5000).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert calls.fails('Hang').code() == grpc.StatusCode.DEADLINE_EXCEEDED
    found = [(record['reason'], record['status'], record['grpc_status'])
             for record in proxy.log_records(3)]
    assert found == [('no_route', 404, 12), ('body_too_large', 413, 8),
                     ('upstream_timeout', 504, 4)]


def test_messages_are_bounded_and_not_their_sum(through, service, client):
    calls = client(through(service, policies='max-body-size "1KiB"'))
    large = iter([b'x' * 1024] * 50)
    assert list(calls.call('Chat', large)) == [b're: ' + b'x' * 1024] * 50
    assert list(calls.call('Chat', iter([b'x'] * 2000))) == [b're: x'] * 2000
    call = calls.call('Chat', iter([b'1', b'x' * 1025, b'3']))
    with pytest.raises(grpc.RpcError):
        list(call)
    assert call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_messages_are_bounded_in_either_version_and_however_they_come(through, origin):
    server = origin(serve_frames(until_call, hold))
    proxy = through(server, policies='max-body-size "1KiB"')
    h2, stream = call_raw(proxy, body=b'x' * 1000, end=False)
    for byte in message(b'y' * 1025)[:5]:
        h2.data(stream, bytes([byte]))
    assert told(h2.answer(stream))[0] == 8
    body = message(b'x' * 1000) * 3
    fields = [('Content-Type', 'application/grpc'), ('TE', 'trailers')]
    for last, status in ((message(b'y' * 1024), None), (message(b'y' * 1025), '8')):
        with proxy.connect() as wire:
            whole = body + last
            wire.send(b'POST /shop.Test/Chat HTTP/1.1\r\nHost: a.test\r\n' +
                      b''.join(b'%s: %s\r\n' % (name.encode(), value.encode())
                               for name, value in fields) +
                      b'Content-Length: %d\r\n\r\n' % len(whole) + whole)
            if status is None:
                assert wire.silent(0.5)
            else:
                assert wire.read_response().get('grpc-status') == status
    assert {record['reason'] for record in proxy.log_records(2)} >= {'body_too_large'}


def test_a_client_that_asks_too_often_has_exhausted_its_share(through, service, client):
    calls = client(through(service, limits='request-rate-per-client 1 burst=1'))
    assert calls.call('Echo', b'one')[0] == b'one'
    assert calls.fails('Echo', b'two').code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_error_is_a_head_that_ends_the_stream(plain):
    h2, stream = call_raw(plain.proxy, path='/other')
    answer = h2.answer(stream)
    assert answer.status == 200 and answer.ended and len(answer.heads) == 1
    assert answer.get('content-type') == 'application/grpc'
    assert told(answer) == (12, 'no route matches the request')
    assert answer.get('proxy-status').endswith('details="no_route"') and answer.get('x-request-id')
    assert b'content-length' not in answer.final


def test_others_are_told_as_ever(plain):
    proxy = plain.proxy
    before = proxy.metric('sentinel_grpc_requests_total')
    h2 = Http2(proxy.connect())
    for fields in ([], [('content-type', 'application/grpc-web')], [('content-type', 'text/html')]):
        answer = h2.request(method='POST', path='/x', fields=fields, body=b'x')
        assert answer.status == 404 and b'grpc-status' not in answer.final
    assert h2.request(path='/x', fields=[('content-type', 'application/grpc')]).status == 404
    answer = proxy.request('/x', 'POST', [('Content-Type', 'text/plain')])
    assert answer.status == 404 and answer.json()['reason'] == 'no_route'
    assert plain.outcomes(5) == [(404, 'no_route', None)] * 5
    assert proxy.metric('sentinel_grpc_requests_total') == before


# Deadlines.

def test_the_service_is_told_what_is_left_of_the_time(plain, calls):
    calls.call('Echo', timeout=9)
    calls.call('Echo', timeout=None)
    left, unbounded = [left for _, _, left in plain.service.calls]
    assert 3 < left < 9.5  # the library's clock is a cached one
    assert unbounded is None or unbounded > 10 ** 6


def until_call(origin, h2):
    """Reads to the head of a call, and keeps its fields."""
    until_request(origin, h2)
    origin.requests.append({name.decode(): value.decode() for name, value in h2.pairs})


def begin(*fields, body=message(b'some')):
    """Answers with a head and a first message."""
    def step(_origin, h2):
        send_head(h2, [(':status', '200'), ('content-type', 'application/grpc'), *fields])
        h2.data(h2.next, body)
    return step


def finish(*fields, then_reset=None):
    def step(_origin, h2):
        send_head(h2, [('grpc-status', '0'), *fields], end=True,
                  then=b'' if then_reset is None else reset(h2.next, then_reset))
    return step


def until_reset(origin, h2):
    kind = None
    while kind != RST_STREAM:
        kind, _, _, payload = h2.take_raw()
    origin.resets = int.from_bytes(payload, 'big')


def test_a_deadline_ends_a_call_that_has_no_answer(through, origin):
    server = origin(serve_frames(until_call, until_reset, hold))
    proxy = through(server)
    h2, stream = call_raw(proxy, fields=[('grpc-timeout', '200m')])
    answer = h2.answer(stream)
    assert told(answer) == (4, 'the deadline of the gRPC call has passed')
    record = proxy.logged('grpc_deadline')
    assert (record['status'], record['grpc_status']) == (504, 4) and record['total_ms'] >= 200
    wait_for(lambda: hasattr(server, 'resets'), what='the reset')
    assert server.resets == CANCEL
    sent = server.requests[0]['grpc-timeout']
    assert sent.endswith('u') and 0 < int(sent[:-1]) <= 200_000
    assert server.requests[0]['te'] == 'trailers'


def test_a_deadline_ends_a_call_that_is_being_answered(through, origin):
    server = origin(serve_frames(until_call, begin(), until_reset, hold))
    proxy = through(server)
    h2, stream = call_raw(proxy, fields=[('grpc-timeout', '300m')])
    answer = h2.answer(stream)
    assert answer.ended and answer.reset is None and answer.body == message(b'some')
    assert told(answer) == (4, 'the deadline of the gRPC call has passed')
    record = proxy.logged('grpc_deadline')
    assert (record['status'], record['grpc_status']) == (200, 4)
    wait_for(lambda: hasattr(server, 'resets'), what='the reset')


def test_a_deadline_never_extends_the_timeout_of_the_route(through, origin):
    proxy = through(origin(serve_frames(until_call, hold)), policies='timeout 200ms')
    h2, stream = call_raw(proxy, fields=[('grpc-timeout', '1H')])
    assert told(h2.answer(stream))[0] == 4
    assert proxy.logged('upstream_timeout')['total_ms'] < 5000


def test_a_malformed_timeout_is_refused(plain):
    for values in (['1'], ['S'], ['123456789S'], ['1s'], ['-1S'], ['1S', '1S']):
        h2, stream = call_raw(plain.proxy, fields=[('grpc-timeout', value) for value in values])
        assert told(h2.answer(stream)) == (13, 'grpc-timeout is malformed')
    assert plain.proxy.logged('bad_grpc_timeout')['attempts'] == 0
    assert plain.outcomes(6) == [(400, 'bad_grpc_timeout', 13)] * 6 and not plain.service.calls


def test_a_call_whose_time_is_up_is_not_tried(plain):
    h2, stream = call_raw(plain.proxy, fields=[('grpc-timeout', '0n')])
    assert told(h2.answer(stream))[0] == 4
    record, = plain.records(1)
    assert (record['reason'], record['attempts']) == ('grpc_deadline', 0)
    assert not plain.service.calls


def test_a_timeout_of_what_is_no_call_passes_untouched(through, origin):
    server = origin(serve_frames(until_call, hold))
    proxy = through(server)
    h2 = Http2(proxy.connect())
    h2.open(fields=[('grpc-timeout', 'soon')])
    wait_for(lambda: server.requests, what='the request')
    assert server.requests[0]['grpc-timeout'] == 'soon' and 'te' not in server.requests[0]


# Responses that are cut short, and other ways to end.

@pytest.mark.parametrize('policies', ('', 'buffering {\n    response "64KiB"\n}'),
                         ids=('at-once', 'ahead'))
def test_a_response_that_is_cut_short_ends_with_trailers_that_say_so(through, origin, client,
                                                                     policies):
    cut = serve_frames(until_call, begin(body=message(b'whole') + b'\0\0\0\0\x09half'))
    proxy = through(origin(cut), policies=policies)
    h2, stream = call_raw(proxy)
    answer = h2.answer(stream)
    assert answer.ended and answer.reset is None
    assert told(answer) == (14, 'the upstream closed before the end of the response body')
    assert (b'proxy-status',
            b'sentinel; error=http_response_incomplete; details="upstream_truncated"'
            ) in answer.trailers
    record = proxy.logged('upstream_truncated')
    assert (record['status'], record['grpc_status']) == (200, 14)
    call = client(proxy).call('Drip')
    assert next(call) == b'whole'
    with pytest.raises(grpc.RpcError):
        next(call)
    assert call.code() == grpc.StatusCode.UNAVAILABLE


def test_trailers_follow_a_body_that_is_announced_to_be_empty(through, origin):
    proxy = through(origin(serve_frames(until_call, begin(('content-length', '0'), body=b''),
                                        finish(('x-last', 'so')), hold)))
    h2, stream = call_raw(proxy)
    answer = h2.answer(stream)
    assert answer.ended and answer.body == b'' and answer.get('content-length') == '0'
    assert told(answer)[0] == 0 and (b'x-last', b'so') in answer.trailers


def test_a_cut_response_of_announced_length_is_reset(through, origin):
    proxy = through(origin(serve_frames(until_call, begin(('content-length', '100')))))
    h2, stream = call_raw(proxy)
    answer = h2.answer(stream)
    assert answer.reset == INTERNAL_ERROR and not answer.trailers
    assert proxy.logged('upstream_truncated')['grpc_status'] == 14


def test_trailers_come_behind_a_body_of_announced_length(through, origin):
    body = message(b'some')
    proxy = through(origin(serve_frames(until_call, begin(('content-length', str(len(body)))),
                                        finish(('x-last', 'so')), hold)))
    h2, stream = call_raw(proxy)
    answer = h2.answer(stream)
    assert answer.get('content-length') == str(len(body)) and answer.body == body
    assert told(answer)[0] == 0 and (b'x-last', b'so') in answer.trailers
    assert proxy.log_record()['grpc_status'] == 0


def test_the_end_needs_no_window(through, origin):
    def finish_plainly(_origin, h2):
        h2.data(h2.next, end=True)
    proxy = through(origin(serve_frames(until_call, begin(), finish(('x-last', 'so')),
                                        until_call, begin(), finish_plainly,
                                        until_call, begin(body=b''), finish_plainly, hold)))
    for size, trailers in ((9, True), (9, False), (0, False)):
        h2, stream = call_raw(proxy, refill=False, first=settings((INITIAL_WINDOW_SIZE, size)))
        answer = h2.answer(stream)
        assert answer.ended and answer.reset is None and len(answer.body) == size
        assert answer.trailers == ([(b'grpc-status', b'0'), (b'x-last', b'so')] if trailers else [])
    assert [record['reason'] for record in proxy.log_records(3)] == [None] * 3


def test_a_service_that_resets_a_stream_cuts_it_short(through, origin):
    def give_up(_origin, h2):
        h2.send(reset(h2.next, INTERNAL_ERROR))
    proxy = through(origin(serve_frames(until_call, begin(), give_up, hold)))
    h2, stream = call_raw(proxy)
    assert told(h2.answer(stream))[0] == 14


def test_a_reset_without_error_behind_the_trailers_is_a_good_end(through, origin):
    proxy = through(origin(serve_frames(
        until_call, begin(), finish(('x-last', 'so'), then_reset=NO_ERROR), hold)))
    h2, stream = call_raw(proxy, end=False)
    answer = h2.answer(stream)
    assert answer.ended and told(answer)[0] == 0 and (b'x-last', b'so') in answer.trailers
    assert proxy.log_record()['reason'] is None
    assert proxy.metric('sentinel_http2_glitches_total', kind='reset_received') == 0


def test_trailers_that_no_recipient_may_merge_stay_behind(through, origin):
    forbidden = [('content-type', 'text/html'), ('set-cookie', 'a=b'), ('cache-control', 'public'),
                 ('authorization', 'x'), ('content-encoding', 'gzip'), ('host', 'a')]
    proxy = through(origin(serve_frames(until_call, begin(),
                                        finish(*forbidden, ('x-mine', '1')), hold)))
    h2, stream = call_raw(proxy)
    answer = h2.answer(stream)
    assert [name for name, _ in answer.trailers] == [b'grpc-status', b'x-mine']


RICH = [('grpc-status-details-bin', 'x' * 6500), *((f'x-{number:02}', 'v') for number in range(60))]


def wait_for_no_upstream(proxy):
    """Until the connection that an origin has closed is known to have gone: no call meets it."""
    wait_for(lambda: proxy.metric('sentinel_upstream_connections') == 0, 10, 'its end')


def test_trailers_have_the_bounds_of_a_head_and_all_within_them_pass(through, origin):
    scripts = [serve_frames(until_call, begin(), finish(*fields)) for fields in
               (RICH, [('x-large', 'x' * 8200)], [(f'x-{number}', '') for number in range(100)], RICH)]
    proxy = through(origin(*scripts))
    h2, stream = call_raw(proxy)
    assert [(name.decode(), value.decode()) for name, value in h2.answer(stream).trailers] == [
        ('grpc-status', '0'), *RICH]
    for _ in range(2):
        wait_for_no_upstream(proxy)
        h2, stream = call_raw(proxy)
        assert told(h2.answer(stream)) == (
            8, "the head or the trailers of the upstream's response are too large")
    assert proxy.logged('response_head_too_large')['status'] == 200
    wait_for_no_upstream(proxy)
    with proxy.connect() as wire:
        wire.send(b'POST /shop.Test/Echo HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\n'
                  b'Connection: TE\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n')
        answer = wire.read_response()
    assert dict(answer.trailers)['grpc-status-details-bin'] == 'x' * 6500
    assert len(answer.trailers) == 62


def test_trailers_wait_behind_a_body_that_is_held_for_its_client(through, origin):
    other = [(name, value.replace('x', 'y')) for name, value in RICH]
    proxy = through(origin(serve_frames(until_call, begin(body=message(b'x' * 30000)), finish(*RICH),
                                        until_call, begin(), finish(*other), hold)),
                    policies='buffering {\n    response "64KiB"\n}')
    h2, stream = call_raw(proxy, refill=False, first=settings((INITIAL_WINDOW_SIZE, 1000)))
    h2.until(lambda: len(h2.answers.get(stream, Answer()).body) == 1000)
    neighbour, called = call_raw(proxy)  # whose answer takes the memory of what was given back
    assert len(neighbour.answer(called).trailers) == 62
    h2.send(window_update(stream, 100_000))
    answer = h2.answer(stream)
    assert len(answer.body) == 30005
    assert [(name.decode(), value.decode()) for name, value in answer.trailers] == [
        ('grpc-status', '0'), *RICH]


def test_trailers_of_what_is_no_call_are_those_of_the_list(through, origin):
    proxy = through(origin(serve_frames(until_call, begin(), finish(('x-mine', '1')), hold)))
    answer = Http2(proxy.connect()).request(fields=[('te', 'trailers')])
    assert [name for name, _ in answer.trailers] == [b'grpc-status']


def test_a_silent_client_may_listen_as_long_as_it_likes(through, service, client):
    words = queue.Queue()
    proxy = through(service, timeouts='request-body-idle 200ms')
    call = client(proxy).call('Chat', iter(words.get, None))
    words.put(b'1')
    assert next(call) == b're: 1'
    time.sleep(0.6)  # three times as long as a request's body may pause
    words.put(b'2')
    assert next(call) == b're: 2'
    words.put(None)
    assert list(call) == []


def test_a_client_that_does_not_read_is_cut_off_all_the_same(through, service):
    proxy = through(service, timeouts='response-write-idle 300ms')
    h2, stream = call_raw(proxy, 'Echo', b'x' * 60000, refill=False,
                          first=settings((INITIAL_WINDOW_SIZE, 1000)))
    h2.until(lambda: len(h2.answers.get(stream, Answer()).body) == 1000)
    h2.send(window_update(stream, 1))  # too little to count as reading
    answer = h2.answer(stream)
    assert answer.reset is not None and len(answer.body) == 1001
    assert proxy.logged('client_write_timeout')['grpc_status'] == 1


def test_messages_of_either_side_keep_a_call_alive(through, service, client):
    words = queue.Queue()
    proxy = through(service, timeouts='upstream-body-idle 500ms')
    call = client(proxy).call('Listen', iter(words.get, None))
    assert next(call) == b'go on'
    for _ in range(8):
        time.sleep(0.15)
        words.put(b'x')
    words.put(None)
    assert next(call) == b'8'
    silent = client(proxy).call('Listen', iter(words.get, None))
    assert next(silent) == b'go on'
    with pytest.raises(grpc.RpcError):
        next(silent)
    assert silent.code() == grpc.StatusCode.UNAVAILABLE
    assert proxy.logged('upstream_body_timeout')['grpc_status'] == 14
    words.put(None)


def test_a_stream_is_told_when_the_proxy_stops(through, service, client):
    proxy = through(service, server='graceful-shutdown-timeout 300ms')
    call = client(proxy).call('Drip', b'first')
    assert next(call) == b'first'
    proxy.signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError):
        next(call)
    assert call.code() == grpc.StatusCode.UNAVAILABLE
    assert 'shutting down' in call.details()


# The configuration, and health checks.

def test_the_protocol_makes_an_upstream_speak_http2(sentinel, service, client):
    proxy = sentinel(service, listener=LISTENER)
    assert client(proxy).fails('Echo').code() != grpc.StatusCode.OK
    assert not service.calls
    other = sentinel(service, listener=LISTENER, upstream=UPSTREAM)
    assert client(other).call('Echo', b'x')[0] == b'x'


CHECK = ('health-check {\n    type "grpc" service="shop.Test"\n    interval 100ms\n'
         '    healthy-threshold 1\n    unhealthy-threshold 1\n}')


def test_health_checks_ask_for_the_service_and_take_its_word(through, service, client):
    proxy = through(service, upstream=CHECK)
    calls = client(proxy)
    assert calls.call('Echo', b'x')[0] == b'x'
    assert set(service.asked) == {'shop.Test'}
    for health in (NOT_SERVING, None):
        service.health = health
        wait_for(lambda: proxy.metric('sentinel_endpoint_up') == 0, what='the endpoint to go')
        error = wait_for(lambda: failure(calls), what='a call that finds no endpoint')
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        service.health = SERVING
        wait_for(lambda: proxy.metric('sentinel_endpoint_up') == 1, what='the endpoint to come')
        wait_for(lambda: failure(calls) is None, what='a call that finds it')
    assert proxy.logged('no_endpoint')['grpc_status'] == 14


def failure(calls):
    try:
        calls.call('Echo')
        return None
    except grpc.RpcError as error:
        return error


def flood(_origin, h2):
    try:
        while True:
            h2.wire.send(frame(PING, 0, 0, b'12345678') * 100)
    except OSError:
        pass


def stay_silent(_origin, wire):
    wire.ended(30)


def test_endpoints_that_do_not_keep_to_it_are_not_well(through, origin):
    good = message(b'\x08\x01')
    scripts = {
        'http1': [b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', hold],
        'http1-body': [read_head, response(good)],
        'silence': [stay_silent],
        'flood': serve_frames(flood),
        'no-end': serve_frames(until_call, begin(body=good), hold),
        'much': serve_frames(until_call, begin(body=good * 1000), finish(), hold),
        'compressed': serve_frames(until_call, begin(body=b'\1' + good[1:]), finish(), hold),
        'goodbye': serve_frames(lambda _origin, h2: h2.send(frame(GOAWAY, 0, 0, b'\0' * 8)), hold),
        'well': serve_frames(until_call, begin(body=good), finish(), hold),
    }
    servers = {name: origin(script) for name, script in scripts.items()}
    check = CHECK.replace('interval 100ms', 'interval 200ms\n    timeout 200ms')
    proxy = through(servers['well'], upstream=check, extra=''.join(
        f'upstream "{name}" {{\n    target "{server.address}"\n    {UPSTREAM}\n{check}\n}}\n'
        for name, server in servers.items()))
    for name in scripts:
        bad = name != 'well'
        wait_for(lambda: proxy.metric('sentinel_health_checks_total', upstream=name,
                                      result='failure' if bad else 'success') >= 3, what=name)
        assert proxy.metric('sentinel_health_checks_total', upstream=name,
                            result='success' if bad else 'failure') == 0, name
        assert proxy.metric('sentinel_endpoint_up', upstream=name) == (0 if bad else 1)
    assert proxy.admin('/health').status == 200
    server = servers['well']
    asked = server.requests[0]
    assert asked[':path'] == '/grpc.health.v1.Health/Check' and asked['te'] == 'trailers'
    assert asked[':authority'] == server.address and asked['content-type'] == 'application/grpc'
    assert asked['grpc-timeout'] == '200000u'
