"""Clients with certificates: what upstreams and the log are told of them, and what nobody can claim."""
import hashlib
import ssl
import subprocess

import pytest

from harness.certificates import Authority
from harness.origins import hold, read_request
from harness.wire import connect, request_bytes
from test_tls import ask, context_of, secure, tls

TOLD = ('X-Client-Verify', 'X-Client-Fingerprint', 'X-Client-Subject', 'X-Client-SAN')
CLAIMS = [(name.replace('-', mark, 1), 'a lie') for name in TOLD for mark in '-_']
LOG = """access-log "stdout" {
    fields "status" "reason" "hint" "detail" "tls_version" "tls_cipher" "tls_resumed" "sni" "client_subject" \\
        "client_fingerprint" "client_verified"
}"""


@pytest.fixture(scope='module')
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp('certificates'))
    authority.issue('a', 'a.example')
    authority.issue('b', 'b.example')
    authority.issue('user', 'email:user@a.example', 'URI:spiffe://a.example/user')
    authority.issue('old', 'email:old@a.example', days=-1)
    Authority(authority.folder / 'others', 'others').issue('stranger', 'email:user@a.example')
    return authority


def auth(authority, mode, more=''):
    return tls(authority, f'client-auth "{mode}" ca="{authority.ca}" {more}')


def fingerprint(authority):
    pem = (authority.folder / 'user.pem').read_text()
    pem = pem[pem.index('-----BEGIN'):pem.index('-----END CERTIFICATE-----') + 25]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def told(request):
    """What the request says by names that could mean the client's certificate, also to CGI."""
    return {name: value for name, value in request.fields
            if name.lower().replace('_', '-').startswith('x-client-')}


def test_upstreams_are_told_of_the_certificate(sentinel, echo, authority):
    proxy = sentinel(echo, listener=auth(authority, 'optional', 'forward=true'))
    expected = {'X-Client-Verify': 'SUCCESS', 'X-Client-Fingerprint': fingerprint(authority),
                'X-Client-Subject': 'CN=user',
                'X-Client-SAN': 'email:user@a.example, URI:spiffe://a.example/user'}
    context = context_of(authority, 'user')
    session = None
    for resumed in (False, True):
        with secure(proxy, context, session=session) as client:
            assert ask(client, more=CLAIMS)[0] == 200
            assert client.session_reused == resumed
            assert told(echo.requests[-1]) == expected
            session = client.session
    with secure(proxy, context_of(authority)) as client:
        assert ask(client, more=CLAIMS)[0] == 200
        assert told(echo.requests[-1]) == {'X-Client-Verify': 'NONE'}


def test_nobody_can_claim_a_certificate(sentinel, echo, authority):
    plain = sentinel(echo, listener='trusted-proxies "127.0.0.1"')
    with connect(plain.port) as client:
        client.send(request_bytes(fields=CLAIMS))
        assert client.read_response().status == 200
    assert told(echo.requests[-1]) == {}
    silent = sentinel(echo, listener=auth(authority, 'required'))
    with secure(silent, context_of(authority, 'user')) as client:
        assert ask(client, more=CLAIMS)[0] == 200
    assert told(echo.requests[-1]) == {}
    assert len(echo.requests) == 2


def test_the_log_tells_of_tls_and_the_certificate(sentinel, echo, authority):
    proxy = sentinel(echo, listener=auth(authority, 'optional'), observability=LOG)
    session = None
    context = context_of(authority, 'user', maximum_version=ssl.TLSVersion.TLSv1_2)
    for _ in range(2):
        with secure(proxy, context, session=session) as client:
            assert ask(client)[0] == 200
            session = client.session
    with secure(proxy, context_of(authority)) as client:
        assert ask(client)[0] == 200
    first, second, third = proxy.log_records(3)
    cipher = first.pop('tls_cipher')
    assert cipher.startswith('TLS_ECDHE_')
    expected = {'status': 200, 'reason': None, 'tls_version': 'TLSv1.2', 'tls_resumed': False,
                'sni': 'a.example', 'client_subject': 'CN=user',
                'client_fingerprint': fingerprint(authority), 'client_verified': True}
    assert first == expected
    assert second == {**expected, 'tls_resumed': True, 'tls_cipher': cipher}
    assert third['tls_version'] == 'TLSv1.3' and third['client_verified'] is False
    assert third['client_subject'] is None and third['client_fingerprint'] is None


def test_a_failed_handshake_tells_what_was_known_by_then(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority, 'min-version "1.3"', certificate=None),
                     observability=LOG)
    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old = context_of(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    for context, name in ((untrusting, 'x.b.example'), (context_of(authority), 'nobody.example'),
                          (old, 'b.example')):
        with pytest.raises(ssl.SSLError):
            secure(proxy, context, name)
    with proxy.connect() as client:
        client.send(b'\0' * 64)
        assert client.ended(5)
    known = {reason: [proxy.logged(reason).get(name)
                      for name in ('sni', 'tls_version', 'tls_cipher', 'detail')]
             for reason in ('tls_refused', 'tls_unknown_name', 'tls_no_common', 'tls_protocol')}
    assert known == {'tls_refused': ['x.b.example', 'TLSv1.3', None, 'alert unknown_ca (48)'],
                     'tls_unknown_name': ['nobody.example', None, None, None],
                     'tls_no_common': [None, None, None, 'unsupported protocol'],
                     'tls_protocol': [None, None, None, 'wrong version number']}


def curl_as(proxy, authority, http, version, user):
    """What curl with this certificate gets: its exit code and status."""
    folder = authority.folder / 'others' if user == 'stranger' else authority.folder
    shown = ['--cert', folder / f'{user}.pem', '--key', folder / f'{user}.key'] if user else []
    done = subprocess.run(
        ['curl', '-sS', f'--http{http}', f'--tlsv{version}', '--tls-max', version, '--cacert',
         authority.ca, *shown, '--resolve', f'a.example:{proxy.port}:127.0.0.1', '--max-time', '20',
         '-o', '/dev/null', '-w', '%{http_code} %{http_version}', f'https://a.example:{proxy.port}/'],
        capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout


@pytest.mark.parametrize('version', ['1.2', '1.3'])
@pytest.mark.parametrize('http', ['1.1', '2'])
@pytest.mark.parametrize('mode', ['required', 'optional'])
def test_curl_is_let_in_by_its_certificate(sentinel, echo, authority, mode, http, version):
    proxy = sentinel(echo, listener=auth(authority, mode, 'forward=true'), observability=LOG)
    assert curl_as(proxy, authority, http, version, 'user') == (0, f'200 {http}')
    assert told(echo.requests[-1])['X-Client-Subject'] == 'CN=user'
    let_in = 1
    if mode == 'optional':
        assert curl_as(proxy, authority, http, version, None) == (0, f'200 {http}')
        assert told(echo.requests[-1]) == {'X-Client-Verify': 'NONE'}
        let_in = 2
    refused = [('old', 'tls_bad_certificate', 'certificate has expired'),
               ('stranger', 'tls_bad_certificate', 'unable to get local issuer certificate')]
    if mode == 'required':
        refused.append((None, 'tls_no_certificate', 'peer did not return a certificate'))
    for count, (user, reason, detail) in enumerate(refused, let_in + 1):
        code, out = curl_as(proxy, authority, http, version, user)
        assert code != 0 and out.startswith('000'), (user, code, out)
        record = proxy.log_records(count)[-1]
        assert (record['reason'], record['detail']) == (reason, detail)
    assert len(echo.requests) == let_in, 'nobody else came through'


def test_the_log_knows_who_left(sentinel, origin, authority):
    silent = origin([read_request, hold])
    proxy = sentinel(silent, listener=auth(authority, 'required'), observability=LOG)
    with secure(proxy, context_of(authority, 'user')) as client:
        client.sendall(b'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n')
        silent.wait_requests(1)
    record = proxy.logged('client_closed')
    assert record['client_subject'] == 'CN=user' and record['sni'] == 'a.example'
