"""TLS with clients: who is shown what, who is let in, and what a failed handshake leaves behind."""
import hashlib
import json
import socket
import ssl
import subprocess
import time

import pytest

from harness.certificates import Authority, openssl
from harness.origins import read_request, response
from harness.waiting import wait_for
from harness.wire import connect, request_bytes

HANDSHAKES = 'sentinel_tls_handshakes_total'


@pytest.fixture(scope='module')
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp('certificates'))
    authority.issue('a', 'a.example', 'www.a.example')
    authority.issue('a-rsa', 'a.example', key_kind='rsa')
    authority.issue('b', 'b.example', '*.b.example')
    authority.issue('user', 'email:user@a.example')
    Authority(authority.folder, 'stranger')
    return authority


def tls(authority, more='', certificate='a'):
    folder = authority.folder
    shown = f'certificate "{folder}/{certificate}.pem" key="{folder}/{certificate}.key"'
    return f'''protocol "https"
tls {{
    {shown if certificate else ''}
    host "b.example" "*.b.example" {{
        certificate "{folder}/b.pem" key="{folder}/b.key"
    }}
    {more}
}}'''


def context_of(authority, user=None, **settings):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.ca)
    if user:
        context.load_cert_chain(authority.folder / f'{user}.pem', authority.folder / f'{user}.key')
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def secure(proxy, context, name='a.example', session=None):
    raw = socket.create_connection(('127.0.0.1', proxy.port), timeout=20)
    try:
        return context.wrap_socket(raw, server_hostname=name, session=session)
    except BaseException:
        raw.close()
        raise


def ask(connection, host='a.example', path='/', more=()):
    """Status, head and body of one answer with a Content-Length."""
    fields = ''.join(f'{name}: {value}\r\n' for name, value in [('Host', host), *more])
    connection.sendall(f'GET {path} HTTP/1.1\r\n{fields}\r\n'.encode())
    return read_answer(connection)


def read_answer(connection):
    data = b''
    while b'\r\n\r\n' not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    head, rest = data.split(b'\r\n\r\n', 1)
    body = bytearray(rest)
    fields = dict(line.split(': ', 1) for line in head.decode().split('\r\n')[1:])
    size = int({name.lower(): value for name, value in fields.items()}['content-length'])
    while len(body) < size:
        piece = connection.recv(65536)
        assert piece
        body += piece
    return int(head.split()[1]), head.decode(), bytes(body)


def test_requests_and_answers_travel_over_tls(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    with secure(proxy, context_of(authority)) as client:
        assert client.version() == 'TLSv1.3'
        for path in ('/one', '/two'):
            status, _, body = ask(client, path=path)
            assert status == 200 and path.encode() in body
    assert echo.requests[-1].get('X-Forwarded-Proto') == 'https'
    wait_for(lambda: proxy.metric(HANDSHAKES) == 1)
    assert [record['status'] for record in proxy.log_records(2)] == [200, 200]


def test_a_large_body_goes_up(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    body = bytes(range(256)) * 16384
    done = subprocess.run(
        ['curl', '-sS', '--cacert', authority.ca, '--resolve', f'a.example:{proxy.port}:127.0.0.1',
         '--data-binary', '@-', '-H', 'Expect:', f'https://a.example:{proxy.port}/upload'],
        input=body, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen['length'] == len(body) and seen['sha256'] == hashlib.sha256(body).hexdigest()


def test_a_large_body_comes_down_to_a_slow_reader(sentinel, origin, authority):
    body = bytes(range(256)) * 48000
    proxy = sentinel(origin([read_request, response(body)]), listener=tls(authority))
    with secure(proxy, context_of(authority)) as client:
        client.sendall(b'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n')
        wait_for(lambda: proxy.metric('sentinel_buffers_in_use') > 0)  # it cannot go on
        status, _, got = read_answer(client)
        assert status == 200 and got == body


def test_versions_beyond_the_bounds_are_refused(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority, 'min-version "1.3"'))
    with pytest.raises(ssl.SSLError):
        secure(proxy, context_of(authority, maximum_version=ssl.TLSVersion.TLSv1_2))
    assert proxy.logged('tls_no_common')['status'] is None
    proxy = sentinel(echo, listener=tls(authority, 'max-version "1.2"'))
    with secure(proxy, context_of(authority)) as client:
        assert client.version() == 'TLSv1.2'
        assert client.cipher()[0].startswith('ECDHE-')
        assert ask(client)[0] == 200


def subject_of(connection):
    return dict(pair[0] for pair in connection.getpeercert()['subject'])['commonName']


def test_the_name_chooses_the_certificate(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    for name, shown in (('a.example', 'a'), ('b.example', 'b'), ('x.b.example', 'b')):
        with secure(proxy, context_of(authority), name) as client:
            assert subject_of(client) == shown
            assert ask(client, host=name)[0] == 200
    proxy = sentinel(echo, listener=tls(authority, certificate=None))
    with pytest.raises(ssl.SSLError, match='(?i)unrecognized_name'):
        secure(proxy, context_of(authority), 'a.example')
    proxy.logged('tls_unknown_name')


def test_a_pair_of_certificates_serves_old_and_new_clients(sentinel, echo, authority):
    folder = authority.folder
    both = f'certificate "{folder}/a-rsa.pem" key="{folder}/a-rsa.key"'
    proxy = sentinel(echo, listener=tls(authority, both))
    for algorithms, shown in (('ECDSA+SHA256', 'a'), ('RSA-PSS+SHA256', 'a-rsa')):
        text = openssl_client(proxy, authority, '-sigalgs', algorithms)
        assert f'CN = {shown}\n' in text or f'CN={shown}\n' in text


def openssl_client(proxy, authority, *more):
    return openssl('s_client', '-connect', f'127.0.0.1:{proxy.port}', '-servername', 'a.example',
                   '-CAfile', authority.ca, *more, text='Q\n')


def test_a_host_of_another_certificate_is_421(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    with secure(proxy, context_of(authority)) as client:
        status, _, body = ask(client, host='x.b.example')
        assert status == 421 and b'misdirected' in body
        assert proxy.logged('misdirected')['host'] == 'x.b.example'
    with secure(proxy, context_of(authority)) as client:
        assert ask(client, host='www.a.example:443')[0] == 200
    assert len(echo.requests) == 1


def test_clients_must_show_a_certificate(sentinel, echo, authority):
    auth = f'client-auth "required" ca="{authority.ca}"'
    proxy = sentinel(echo, listener=tls(authority, auth))
    with secure(proxy, context_of(authority, 'user')) as client:
        assert ask(client)[0] == 200
    for user, reason in ((None, 'tls_no_certificate'), ('stranger', 'tls_bad_certificate')):
        with pytest.raises((ssl.SSLError, OSError)):
            with secure(proxy, context_of(authority, user)) as client:
                ask(client)
        proxy.logged(reason)
    assert len(echo.requests) == 1


def test_clients_may_show_a_certificate(sentinel, echo, authority):
    auth = f'client-auth "optional" ca="{authority.ca}"'
    proxy = sentinel(echo, listener=tls(authority, auth))
    for user in ('user', None):
        with secure(proxy, context_of(authority, user)) as client:
            assert ask(client)[0] == 200
    with pytest.raises((ssl.SSLError, OSError)):
        with secure(proxy, context_of(authority, 'stranger')) as client:
            ask(client)


def test_sessions_go_on_with_any_worker(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority), server='workers 4')
    context = context_of(authority)
    session = None
    resumed = 0
    for _ in range(24):
        with secure(proxy, context, session=session) as client:
            assert ask(client)[0] == 200
            resumed += client.session_reused
            session = client.session
    assert resumed == 23
    wait_for(lambda: proxy.metric('sentinel_tls_resumed_total') == 23)
    proxy = sentinel(echo, listener=tls(authority, 'session-tickets false'))
    session = None
    for _ in range(3):
        with secure(proxy, context, session=session) as client:
            assert ask(client)[0] == 200
            assert not client.session_reused
            session = client.session


def test_a_session_of_one_host_is_none_of_another(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    context = context_of(authority)
    with secure(proxy, context) as client:
        ask(client)
        session = client.session
    with secure(proxy, context, 'b.example', session=session) as client:
        assert not client.session_reused
        assert ask(client, host='b.example')[0] == 200


def test_the_ocsp_response_is_stapled(sentinel, echo, authority):
    folder = authority.folder
    (folder / 'index.txt').write_text('')
    serial = openssl('x509', '-in', 'a.pem', '-noout', '-serial', folder=folder).split('=')[1].strip()
    (folder / 'index.txt').write_text(f'V\t391231235959Z\t\t{serial}\tunknown\t/CN=a\n')
    openssl('ocsp', '-index', 'index.txt', '-CA', authority.ca, '-rsigner', authority.ca, '-rkey',
            'authority.key', '-issuer', authority.ca, '-cert', 'a.pem', '-respout', 'a.ocsp',
            '-ndays', 2, folder=folder)
    (folder / 'chain.pem').write_text((folder / 'a.pem').read_text() + authority.ca.read_text())
    listener = tls(authority).replace(f'{folder}/a.pem"', f'{folder}/chain.pem"').replace(
        'a.key"', f'a.key" ocsp="{folder}/a.ocsp"')
    proxy = sentinel(echo, listener=listener)
    assert 'OCSP Response Status: successful' in openssl_client(proxy, authority, '-status')


def test_http_to_a_port_of_tls_is_told_so(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    with proxy.connect() as client:
        client.send(request_bytes('/'))
        answer = client.read_response()
        assert answer.status == 400 and b'tls_plain_http' in answer.body
        assert client.ended(5)
    assert proxy.logged('tls_plain_http')['status'] == 400


def test_what_is_no_handshake_is_closed_and_recorded(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    with proxy.connect() as client:
        client.send(b'\0' * 64)
        assert client.ended(5)
    record = proxy.logged('tls_protocol')
    assert record['client'] == '127.0.0.1' and record['status'] is None
    with proxy.connect() as client:
        client.send(b'\x16\x03\x01\x02\x00\x01')
    proxy.logged('tls_closed')
    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLError):
        secure(proxy, untrusting)
    proxy.logged('tls_refused')
    with secure(proxy, context_of(authority)) as client:
        assert ask(client)[0] == 200
    for reason in ('tls_protocol', 'tls_closed', 'tls_refused'):
        wait_for(lambda: proxy.metric('sentinel_failures_total', reason=reason) == 1)


def curl(proxy, authority, *words, body=b''):
    """What curl prints, the version of HTTP behind it."""
    done = subprocess.run(
        ['curl', '-sS', '--cacert', authority.ca, '--resolve', f'a.example:{proxy.port}:127.0.0.1',
         '-w', '\n%{http_version} %{http_code}', *words, f'https://a.example:{proxy.port}/'],
        input=body, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().rsplit('\n', 1)


def test_http2_is_chosen_where_both_speak_it(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    body = bytes(range(256)) * 8192
    seen, version = curl(proxy, authority, '--data-binary', '@-', body=body)
    assert version == '2 200'
    assert json.loads(seen)['sha256'] == hashlib.sha256(body).hexdigest()
    assert curl(proxy, authority, '--http1.1')[1] == '1.1 200'
    assert curl(proxy, authority, '-H', 'Host: b.example')[1] == '2 421'
    assert echo.requests[0].get('X-Forwarded-Proto') == 'https'
    proxy = sentinel(echo, listener=tls(authority, 'alpn "http/1.1"'))
    assert curl(proxy, authority)[1] == '1.1 200'


def test_no_protocol_in_common_is_refused(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority, 'alpn "http/1.1"'))
    context = context_of(authority)
    context.set_alpn_protocols(['http/1.1'])
    with secure(proxy, context) as client:
        assert client.selected_alpn_protocol() == 'http/1.1'
    context.set_alpn_protocols(['acme-tls/1'])
    with pytest.raises(ssl.SSLError):
        secure(proxy, context)
    proxy.logged('tls_no_alpn')


def test_a_handshake_has_a_deadline(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority), timeouts='tls-handshake 500ms')
    start = time.monotonic()
    with proxy.connect() as client, proxy.connect() as silent:
        client.send(b'\x16\x03\x01\x02\x00\x01')
        assert client.ended(10)
        assert silent.ended(10)
    assert time.monotonic() - start > 0.3
    proxy.logged('tls_handshake_timeout')
    assert len(proxy.records()) == 1  # who said nothing is no news


def test_half_handshakes_take_no_place_from_others(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority), limits='max-handshakes 8')
    halves = []
    try:
        for _ in range(60):
            halves.append(connect(proxy.port))
            halves[-1].send(b'\x16\x03\x01\x02\x00\x01')
        wait_for(lambda: proxy.metric('sentinel_limit_utilization_ratio',
                                      limit='max-handshakes') == 1)
        for _ in range(5):
            with secure(proxy, context_of(authority)) as client:
                assert ask(client)[0] == 200
        proxy.logged('tls_handshakes_full')
        wait_for(lambda: proxy.metric('sentinel_shed_total', kind='handshake') > 0)
    finally:
        for half in halves:
            half.close()


def test_records_in_part_take_no_memory_from_others_for_long(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority), server='max-connections 300',
                     limits='max-requests 8\nmax-handshakes 2\nbuffer-pool 256KiB\nmax-upstream-connections 8')
    context = context_of(authority)
    raw = []
    try:
        for _ in range(220):
            raw.append(socket.socket(fileno=secure(proxy, context).detach()))
        for client in raw:
            client.sendall(b'\x17\x03\x03\x40\x00' + b'x' * 1000)
        with pytest.raises((ssl.SSLError, OSError)):
            for _ in range(20):
                secure(proxy, context).close()
        proxy.logged('tls_memory')

        def serves():
            try:
                with secure(proxy, context) as client:
                    return ask(client)[0] == 200
            except OSError:
                return False
        wait_for(serves)
    finally:
        for client in raw:
            client.close()


def test_an_end_without_a_word_cuts_a_body_short(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    client = secure(proxy, context_of(authority))
    client.sendall(b'POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhalf')
    wait_for(lambda: proxy.metric('sentinel_requests_in_flight') == 1)
    with socket.socket(fileno=client.detach()) as raw:
        raw.shutdown(socket.SHUT_WR)
        proxy.logged('client_body_truncated')
