"""TLS to endpoints: whom Sentinel believes, what it shows, and what it says when it does not hold."""
import contextlib
import hashlib
import ssl
import threading

import pytest

from harness.certificates import Authority, make
from harness.checks import assert_own_answer
from harness.origins import EchoOrigin, read_request, read_to_end, response, ScriptedOrigin
from harness.proxy import command
from harness.waiting import wait_for
from harness.wire import request_bytes

SIZE = 2 << 20
BODY = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]
ADDRESS = 'IP:127.0.0.1'


class TlsOrigin(EchoOrigin):
    """An echo origin behind TLS; the context is ssl's."""

    def __init__(self, context, **options):
        self.context = context
        self.sessions = []  # (server name, whether resumed, the client's certificate) by connection
        self.refused = []   # handshakes that failed
        super().__init__(**options)

    def run(self, wire):
        seen = {}
        self.context.sni_callback = lambda sock, name, _context: seen.update({sock: name})
        try:
            wire.sock = self.context.wrap_socket(wire.sock, server_side=True)
        except OSError as error:
            self.refused.append(error)
            wire.close()
            return
        self.sessions.append((seen.get(wire.sock), wire.sock.session_reused,
                              wire.sock.getpeercert()))
        super().run(wire)


class ScriptedTlsOrigin(TlsOrigin):
    serve = ScriptedOrigin.serve

    def __init__(self, context, *scripts):
        self.scripts = scripts
        super().__init__(context)


def server_context(pair, versions=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if versions:
        context.minimum_version, context.maximum_version = versions
    return context


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / 'pki')


@pytest.fixture
def tls_origin(stack, authority):
    """tls_origin(names): an origin with a certificate of the authority for these names."""
    def start(names=ADDRESS, days=30, versions=None, context=None, scripts=None, **options):
        if context is None:
            pair = authority.issue(f'origin-{len(stack)}', *names.split(), days=days)
            context = server_context(pair, versions)
        stack.append(ScriptedTlsOrigin(context, *scripts) if scripts
                     else TlsOrigin(context, **options))
        return stack[-1]
    return start


@pytest.fixture
def tls_listener(sentinel, authority):
    """tls_listener(origin): (a second Sentinel in front of it with TLS, what trusts it)."""
    def start(origin, more=''):
        chain, key = authority.issue('listener', ADDRESS)
        second = sentinel(origin, policies='max-body-size "10MiB"', listener=f'''protocol "https"
tls {{
    certificate "{chain}" key="{key}"
    {more}
}}''')
        return second, trusting(authority)
    return start


def trusting(authority, lines=''):
    return f'tls {{\n    ca "{authority.ca}"\n    {lines}\n}}'


def test_an_endpoint_whose_certificate_holds_is_spoken_to(sentinel, tls_origin, authority):
    server = tls_origin()
    proxy = sentinel(server, upstream=trusting(authority))
    for _ in range(3):
        assert proxy.request().status == 200
    assert len(server.connections) == 1, 'the connection is kept'
    assert server.sessions[0][0] is None, 'an address is no server name'
    assert proxy.metric('sentinel_upstream_tls_full_handshakes_total', upstream='backend') == 1
    assert proxy.metric('sentinel_upstream_connections_reused_total') == 2
    assert [record['reason'] for record in proxy.log_records(3)] == [None] * 3


def test_bodies_pass_whole_in_both_directions(sentinel, tls_origin, authority):
    server = tls_origin(scripts=[[read_request, response(BODY), read_request, response(b'next'),
                                  read_to_end]])
    proxy = sentinel(server, upstream=trusting(authority))
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', str(SIZE))]) + BODY)
        assert hashlib.sha256(client.read_response().body).digest() == hashlib.sha256(BODY).digest()
        client.send(request_bytes('/next'))
        assert client.read_response().body == b'next'
    assert server.requests[0].body == BODY
    assert len(server.connections) == 1


def test_the_name_of_the_configuration_is_asked_for_and_held_against(sentinel, tls_origin,
                                                                     authority):
    server = tls_origin('backend.test')
    proxy = sentinel(server, upstream=trusting(authority, 'server-name "backend.test"'))
    assert proxy.request().status == 200
    assert server.sessions[0][0] == 'backend.test'


@pytest.mark.parametrize('name', ['192.0.2.7', '[2001:db8::7]'])
def test_an_address_as_server_name_is_held_against_the_addresses_of_the_certificate(
        sentinel, tls_origin, authority, name):
    server = tls_origin(f'IP:{name.strip("[]")}')
    proxy = sentinel(server, upstream=trusting(authority, f'server-name "{name}"'))
    assert proxy.request().status == 200
    assert server.sessions[0][0] is None, 'an address is no server name'
    # The same text as a name is somebody else's.
    server = tls_origin(f'DNS:{name.strip("[]")} {ADDRESS}' if name[0] != '[' else ADDRESS)
    proxy = sentinel(server, upstream=trusting(authority, f'server-name "{name}"'))
    assert_own_answer(proxy.request(), 502, 'upstream_tls_certificate')
    assert server.requests == []


def test_the_name_of_a_target_is_asked_for(sentinel, tls_origin, authority):
    server = tls_origin('localhost')
    proxy = sentinel(f'localhost:{server.port}', upstream=trusting(authority))
    assert proxy.request().status == 200
    assert server.sessions[-1][0] == 'localhost'


@pytest.mark.parametrize('names,days,detail', [
    ('other.test IP:127.0.0.2', 30, 'IP address mismatch'), (ADDRESS, -1, 'certificate has expired')])
def test_a_certificate_that_does_not_hold_is_refused(sentinel, tls_origin, authority, names, days,
                                                     detail):
    server = tls_origin(names, days)
    proxy = sentinel(server, upstream=trusting(authority))
    assert_own_answer(proxy.request(), 502, 'upstream_tls_certificate')
    assert proxy.logged('upstream_tls_certificate')['detail'] == detail
    assert server.requests == []
    assert proxy.metric('sentinel_upstream_failures_total',
                        reason='upstream_tls_certificate') >= 1


def test_a_certificate_of_somebody_else_is_refused_by_default(sentinel, tls_origin, tmp_path):
    other = Authority(tmp_path / 'other', 'other')
    server = tls_origin()
    proxy = sentinel(server, upstream=trusting(other))
    assert_own_answer(proxy.request(), 502, 'upstream_tls_certificate')
    detail = proxy.logged('upstream_tls_certificate')['detail']
    assert detail == 'unable to get local issuer certificate'
    # The system's bundle does not know it, either.
    proxy = sentinel(server, upstream='tls {\n}')
    assert_own_answer(proxy.request(), 502, 'upstream_tls_certificate')
    assert server.requests == []


def test_why_a_certificate_does_not_hold_is_told_where_operators_look(sentinel, tls_origin,
                                                                      authority, tmp_path):
    alone = tls_origin(context=server_context(make(tmp_path, 'alone', 'localhost')), name='alone')
    proxy = sentinel(f'localhost:{alone.port}', upstream=trusting(authority))
    assert_own_answer(proxy.request(), 502, 'upstream_tls_certificate')
    assert proxy.logged('upstream_tls_certificate')['detail'] == 'self-signed certificate'
    failure, = proxy.recent('--failures')
    assert failure['detail'] == 'self-signed certificate'
    table = command('recent', '--control-socket', proxy.socket).stdout
    assert 'upstream_tls_certificate: self-signed certificate' in table
    named = tls_origin('other.test')
    proxy = sentinel(f'localhost:{named.port}', upstream=trusting(authority))
    assert_own_answer(proxy.request(), 502, 'upstream_tls_certificate')
    assert proxy.logged('upstream_tls_certificate')['detail'] == 'hostname mismatch'


def test_the_detail_is_that_of_the_last_attempt(sentinel, tls_origin, origin, authority):
    old = tls_origin(days=-1)
    gone = origin([b''])
    gone.stop()
    proxy = sentinel(old, gone, upstream=trusting(authority),
                     policies='retry-policy {\nmax-attempts 2\n}')
    details = {'upstream_tls_certificate': 'certificate has expired', 'connect_failed': None}
    for _ in range(2):
        assert proxy.request().status == 502
    records = proxy.log_records(2)
    assert {record['reason']: record.get('detail') for record in records} == details
    assert [record['attempts'] for record in records] == [2, 2]


def test_what_worked_in_the_end_has_no_detail(sentinel, tls_origin, authority):
    good, old = tls_origin(name='good'), tls_origin(days=-1)
    proxy = sentinel(old, good, upstream=trusting(authority))
    for _ in range(2):
        assert proxy.request().status == 200
    records = proxy.log_records(2)
    assert {record['attempts'] for record in records} == {1, 2}
    assert not any('detail' in record for record in records)


def test_another_endpoint_is_tried_and_the_bad_one_ejected(sentinel, tls_origin, authority):
    good, bad = tls_origin(name='good'), tls_origin('other.test', name='bad')
    proxy = sentinel(bad, good, upstream=trusting(authority))
    assert [proxy.request().json()['origin'] for _ in range(12)] == ['good'] * 12
    assert proxy.metric('sentinel_endpoint_ejections_total', endpoint=bad.address) == 1
    assert bad.requests == []


def test_whoever_skips_verification_is_told_so_loudly(sentinel, tls_origin, tmp_path):
    server = tls_origin('other.test')
    proxy = sentinel(server, upstream='tls {\n    insecure-skip-verify true\n}')
    assert proxy.request().status == 200
    assert 'INSECURE: certificates of these endpoints are not verified' in proxy.stderr()
    done = command('check', '--config', proxy.config)
    assert 'warning: INSECURE' in done.stderr + done.stdout


def test_an_endpoint_that_asks_is_shown_our_certificate(sentinel, tls_origin, authority):
    context = server_context(authority.issue('origin', ADDRESS))
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    server = tls_origin(context=context)
    file, key = authority.issue('proxy', 'proxy.test')
    proxy = sentinel(server, upstream=trusting(authority, f'certificate "{file}" key="{key}"'))
    assert proxy.request().status == 200
    assert ('DNS', 'proxy.test') in server.sessions[0][2]['subjectAltName']


# With TLS 1.2 a refusal comes before the handshake ends, with 1.3 in place of the first data.
@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize('http', ['1', '2'])
def test_an_endpoint_that_refuses_us_is_502_with_its_reason(sentinel, tls_origin, authority, version,
                                                            http):
    context = server_context(authority.issue('origin', ADDRESS), (version, version))
    context.set_alpn_protocols(['http/1.1' if http == '1' else 'h2'])
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    server = tls_origin(context=context)
    proxy = sentinel(server, upstream=trusting(authority) + f'\nhttp-version "{http}"')
    assert_own_answer(proxy.request(), 502, 'upstream_tls_refused')
    detail = proxy.logged('upstream_tls_refused')['detail']
    assert detail == ('alert handshake_failure (40)' if version == ssl.TLSVersion.TLSv1_2
                      else 'alert certificate_required (116)')
    assert server.requests == []


@pytest.mark.parametrize('http', ['1', '2'])
def test_an_endpoint_that_refuses_us_after_the_handshake_is_ejected(sentinel, tls_listener, echo,
                                                                    authority, http):
    refusing, tls = tls_listener(echo, f'client-auth "required" ca="{authority.ca}"')
    good, _ = tls_listener(echo)
    proxy = sentinel(f'127.0.0.1:{refusing.port}', f'127.0.0.1:{good.port}',
                     upstream=tls + f'\nhttp-version "{http}"')
    assert [proxy.request().status for _ in range(10)] == [200] * 10
    refused = f'127.0.0.1:{refusing.port}'
    assert proxy.metric('sentinel_endpoint_ejections_total', endpoint=refused) == 1
    assert proxy.metric('sentinel_upstream_failures_total', reason='upstream_tls_refused') == 3


def test_one_connection_is_one_failure_however_many_wait_for_it(sentinel, tls_origin, origin,
                                                                authority):
    waiting = threading.Event()

    def leave_late(_origin, _wire):
        waiting.wait(10)

    bad = origin(*[[leave_late]] * 2)
    good = origin(*[[read_to_end]] * 4)
    proxy = sentinel(bad, good, upstream=trusting(authority) + '\nhttp-version "2"',
                     policies='retry-policy {\nmax-attempts 1\n}')
    with contextlib.ExitStack() as clients:
        for _ in range(8):
            client = clients.enter_context(proxy.connect())
            client.send(request_bytes('/'))
        wait_for(lambda: proxy.metric('sentinel_requests_in_flight') == 8, what='eight')
        waiting.set()
        proxy.logged('upstream_tls_failed')
        wait_for(lambda: proxy.metric('sentinel_upstream_failures_total',
                                      reason='upstream_tls_failed') == 4, what='those of one endpoint')
    assert len(bad.connections) == 1
    assert proxy.metric('sentinel_endpoint_ejections_total', endpoint=bad.address) == 0


def test_an_endpoint_that_leaves_without_a_word_of_tls_is_no_refusal(sentinel, tls_origin, authority):
    server = tls_origin(scripts=[[read_request]])
    proxy = sentinel(server, upstream=trusting(authority))
    assert_own_answer(proxy.request(), 502, 'upstream_closed')


@pytest.mark.parametrize('spoken', [[], ['http/1.1']])
def test_an_endpoint_without_the_http_version_is_502_with_its_reason(sentinel, tls_origin,
                                                                     authority, spoken):
    # Python's server goes on without ALPN where nothing is in common.
    context = server_context(authority.issue('origin', ADDRESS))
    context.set_alpn_protocols(spoken)
    server = tls_origin(context=context)
    proxy = sentinel(server, upstream=trusting(authority) + '\nhttp-version "2"')
    assert_own_answer(proxy.request(), 502, 'upstream_tls_no_alpn')
    proxy.logged('upstream_tls_no_alpn')
    assert not server.requests, 'it got no request'


def test_an_endpoint_that_insists_on_http2_tells_so_by_its_alert(sentinel, tls_listener, echo):
    second, tls = tls_listener(echo, 'alpn "h2"')
    proxy = sentinel(f'127.0.0.1:{second.port}', upstream=tls)
    assert_own_answer(proxy.request(), 502, 'upstream_tls_no_alpn')
    proxy = sentinel(f'127.0.0.1:{second.port}', upstream=tls + '\nhttp-version "2"')
    assert proxy.request().status == 200


@pytest.mark.parametrize('version, spoken', [('auto', 'HTTP/1.1'), ('1', 'HTTP/1.1'),
                                             ('2', 'HTTP/2.0')])
def test_the_http_version_is_what_alpn_agrees_on(sentinel, tls_listener, echo, version, spoken):
    second, tls = tls_listener(echo)
    proxy = sentinel(f'127.0.0.1:{second.port}', upstream=f'{tls}\nhttp-version "{version}"',
                     policies='max-body-size "10MiB"')
    for _ in range(3):
        answer = proxy.request('/up', 'POST', [('Content-Length', str(SIZE))], BODY)
        assert answer.status == 200 and answer.json()['length'] == SIZE
    assert [record['protocol'] for record in second.log_records(3)] == [spoken] * 3
    assert proxy.metric('sentinel_upstream_connections_opened_total') == 1


def test_a_plain_endpoint_is_no_tls_endpoint(sentinel, origin, authority):
    server = origin([read_to_end])
    plain = origin([b'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n', read_to_end])
    proxy = sentinel(plain, upstream=trusting(authority), timeouts='connect "500ms"')
    assert_own_answer(proxy.request(), 502, 'upstream_tls_failed')
    assert proxy.logged('upstream_tls_failed')['detail'] == 'wrong version number'
    # One that accepts and says nothing costs the time to connect.
    proxy = sentinel(server, upstream=trusting(authority), timeouts='connect "300ms"')
    assert_own_answer(proxy.request(), 502, 'connect_timeout')


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(sentinel, tls_origin, authority, version):
    close = [('Connection', 'close')]
    script = [read_request, response(b'x', fields=close)]
    server = tls_origin(versions=(version, version), scripts=[script])
    proxy = sentinel(server, upstream=trusting(authority))
    for _ in range(4):
        assert proxy.request().body == b'x'
    assert [resumed for _, resumed, _ in server.sessions] == [False, True, True, True]
    assert proxy.metric('sentinel_upstream_tls_resumed_handshakes_total') == 3


def test_checks_speak_tls_and_show_their_certificate(sentinel, tls_origin, authority):
    context = server_context(authority.issue('origin', ADDRESS))
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    file, key = authority.issue('proxy', 'proxy.test')
    good = tls_origin(context=context, name='good')
    bad = tls_origin('other.test', name='bad')
    lines = trusting(authority, f'certificate "{file}" key="{key}"')
    lines += ('\nhealth-check {\n    type "http" path="/well"\n    interval "100ms"\n'
              '    timeout "100ms"\n    healthy-threshold 1\n    unhealthy-threshold 1\n}')
    proxy = sentinel(good, bad, upstream=lines)
    good.wait_requests(2)
    assert good.requests[0].target == '/well'
    wait_for(lambda: proxy.metric('sentinel_endpoint_up', endpoint=bad.address) == 0, 10,
             'the endpoint whose certificate does not hold being down')
    assert proxy.metric('sentinel_endpoint_up', endpoint=good.address) == 1
    assert bad.requests == []
    wait_for(lambda: f'endpoint {bad.address} of upstream "backend" is down: TLS: IP address mismatch'
             in proxy.stderr(), 10, 'the line that says why')
    wait_for(lambda: any(resumed for _, resumed, _ in good.sessions), 10, 'a resumed session')


def test_tls_goes_over_unix_sockets(sentinel, tls_origin, authority, sockets):
    server = tls_origin('backend.test', path=sockets / 'origin')
    proxy = sentinel(server, upstream=trusting(authority, 'server-name "backend.test"'))
    for _ in range(2):
        assert proxy.request().status == 200
    assert len(server.connections) == 1
