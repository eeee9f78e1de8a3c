"""What openssl's own client sees: versions, old features that are off, sessions and what they are bound to."""
import re
import signal
import subprocess

import pytest

from harness.certificates import Authority
from harness.processes import replace
from harness.waiting import free_ports, wait_for
from test_tls import ask, context_of, secure, tls


@pytest.fixture(scope='module')
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp('certificates'))
    authority.issue('a', 'a.example')
    authority.issue('b', 'b.example')
    authority.issue('user', 'email:user@a.example')
    return authority


def s_client(port, *words, text='Q\n', name='a.example'):
    """What `openssl s_client` says, errors included; its status."""
    done = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{port}', '-servername', name,
                           *map(str, words)], input=text, capture_output=True, text=True, errors='replace', timeout=60)
    return done.stdout + done.stderr, done.returncode


def test_old_versions_are_refused_and_both_new_ones_spoken(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    for version in ('-tls1', '-tls1_1'):
        said, status = s_client(proxy.port, version, '-cipher', 'DEFAULT@SECLEVEL=0')
        assert status != 0 and re.search('protocol version|unsupported protocol', said), said
    for version, spoken in (('-tls1_2', 'TLSv1.2'), ('-tls1_3', 'TLSv1.3')):
        said, status = s_client(proxy.port, version, '-alpn', 'h2,http/1.1', '-CAfile', authority.ca,
                                '-verify_return_error')
        assert status == 0 and f'New, {spoken}' in said, said
        assert 'ALPN protocol: h2' in said and 'Verify return code: 0 (ok)' in said
    said, _ = s_client(proxy.port)
    assert 'No ALPN negotiated' in said and 'Cipher is TLS_AES_128_GCM_SHA256' in said
    # Who offers no other is served all the same.
    for cipher in ('TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'):
        assert f'Cipher is {cipher}' in s_client(proxy.port, '-ciphersuites', cipher)[0]


@pytest.mark.parametrize('ciphers', ['AES128-SHA', 'ECDHE-ECDSA-AES128-SHA', 'DHE-RSA-AES128-GCM-SHA256',
                                     'NULL', 'ECDHE-ECDSA-AES128-CCM8'])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(sentinel, echo, authority, ciphers):
    proxy = sentinel(echo, listener=tls(authority))
    _, status = s_client(proxy.port, '-tls1_2', '-cipher', f'{ciphers}@SECLEVEL=0')
    assert status != 0
    proxy.logged('tls_no_common')


def test_renegotiation_compression_and_early_data_are_off(sentinel, echo, authority, tmp_path):
    proxy = sentinel(echo, listener=tls(authority))
    said, _ = s_client(proxy.port, '-tls1_2', '-comp', text='R\n')
    assert 'RENEGOTIATING' in said and 'no renegotiation' in said, said
    assert 'Compression: NONE' in said and 'Secure Renegotiation IS supported' in said
    session, early = tmp_path / 'session', tmp_path / 'early'
    early.write_text('GET /early HTTP/1.1\r\nHost: a.example\r\n\r\n')
    request = 'GET /first HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n'
    said, _ = s_client(proxy.port, '-tls1_3', '-sess_out', session, '-ign_eof', text=request)
    assert 'Max Early Data: 0' in said and session.exists(), said
    # Even a client that takes the server's word for something else is not listened to early.
    said, _ = s_client(proxy.port, '-tls1_3', '-sess_in', session, '-early_data', early, '-ign_eof',
                       text=request)
    assert re.search('Early data was (not sent|rejected)', said), said
    assert 'Reused, TLSv1.3' in said
    assert '/early' not in [request.target for request in echo.requests]


@pytest.mark.parametrize('version', ['-tls1_2', '-tls1_3'])
def test_a_session_goes_on_after_its_worker_has_died(sentinel, echo, authority, tmp_path, version):
    proxy = sentinel(echo, listener=tls(authority))
    session = tmp_path / 'session'
    request = 'GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n'
    said, _ = s_client(proxy.port, version, '-sess_out', session, '-ign_eof', text=request)
    assert 'New, TLSv1' in said
    replace(proxy, 'worker', signal.SIGKILL)
    wait_for(proxy.ready, 10, 'the new worker')
    said, _ = s_client(proxy.port, version, '-sess_in', session, '-ign_eof', text=request)
    assert 'Reused, TLSv1' in said and '200 OK' in said, said
    said, _ = s_client(proxy.port, version, '-sess_in', session, name='b.example')
    assert 'New, TLSv1' in said, 'a session of one host is none of another'


def test_a_session_is_none_of_a_listener_with_other_rules_for_clients(sentinel, echo, authority):
    """CVE-2025-23419: who got a session where no certificate is asked for gets in nowhere else."""
    [port] = free_ports(1)
    strict = f'client-auth "required" ca="{authority.ca}"'
    proxy = sentinel(echo, listener=tls(authority),
                     extra=f'listener "strict" {{\naddress "127.0.0.1:{port}"\n{tls(authority, strict)}\n}}\n')
    context = context_of(authority)
    with secure(proxy, context) as client:
        assert ask(client)[0] == 200
        session = client.session
    proxy.port = port
    with pytest.raises(OSError):
        with secure(proxy, context, session=session) as client:
            ask(client)
    proxy.logged('tls_no_certificate')
    shown = context_of(authority, 'user')
    for resumed in (False, True):
        with secure(proxy, shown, session=session if resumed else None) as client:
            assert client.session_reused == resumed
            assert ask(client)[0] == 200
            session = client.session
    assert len(echo.requests) == 3
