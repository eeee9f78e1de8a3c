"""Routes by the client's certificate: who is taken where, over both protocols and resumed sessions."""
import subprocess

import pytest

from harness.certificates import Authority
from harness.proxy import command
from harness.waiting import free_ports
from test_routing import route
from test_tls import ask, context_of, secure, tls
from test_tls_clients import fingerprint


@pytest.fixture(scope='module')
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp('certificates'))
    authority.issue('a', 'a.example')
    authority.issue('b', 'b.example')
    authority.issue('user', 'email:user@a.example', 'URI:spiffe://a.example/user')
    authority.issue('billing', 'billing.a.example', 'IP:2001:db8::1')
    authority.issue('guest', 'guest.a.example')
    authority.issue('long', *[f'{"x" * 60}{number}.example' for number in range(20)])
    Authority(authority.folder, 'stranger')
    return authority


def listener(authority, mode='optional'):
    return tls(authority, f'client-auth "{mode}" ca="{authority.ca}"')


def taken(proxy, context, session=None):
    """The route that a request over HTTP/1.1 takes."""
    with secure(proxy, context, session=session) as client:
        status, _, body = ask(client)
        assert session is None or client.session_reused
        return body.decode() if status == 200 else status


def test_a_route_takes_clients_by_what_their_certificate_says(sentinel, authority):
    colons = ':'.join(fingerprint(authority)[at:at + 2] for at in range(0, 64, 2)).upper()
    proxy = sentinel(listener=listener(authority),
                     routes=route('everybody', 'match path-prefix="/"')
                     + route('shown', 'match client-certificate=true\npriority 1')
                     + route('subject', 'match client-subject="CN=billing"\npriority 2')
                     + route('names', 'match {\n    client-san "DNS:Guest.a.example" "IP:2001:DB8:0::1"\n}\n'
                             'priority 3')
                     + route('print', f'match client-fingerprint="{colons}"\npriority 4')
                     + route('both', 'match {\n    client-subject "CN=user" "CN=guest"\n'
                             '    client-san "DNS:guest.a.example"\n}\npriority 5'))
    found = {user: taken(proxy, context_of(authority, user))
             for user in ('billing', 'guest', 'user', 'long', None)}
    assert found == {'billing': 'names', 'guest': 'both', 'user': 'print', 'long': 'shown',
                     None: 'everybody'}
    context = context_of(authority, 'user')
    with secure(proxy, context) as client:
        ask(client)
        session = client.session
    assert taken(proxy, context, session) == 'print'


def test_a_route_for_clients_without_a_certificate_takes_no_others(sentinel, authority):
    proxy = sentinel(listener=listener(authority),
                     routes=route('nobody', 'match client-certificate=false'))
    assert taken(proxy, context_of(authority)) == 'nobody'
    assert taken(proxy, context_of(authority, 'user')) == 404


def test_without_a_certificate_no_such_route_is_taken(sentinel, authority):
    plain = 'listener "plain" {{ address "127.0.0.1:{}"; trusted-proxies "127.0.0.1" }}\n'
    [port] = free_ports(1)
    proxy = sentinel(listener=listener(authority), extra=plain.format(port),
                     routes=route('shown', 'match client-certificate=true')
                     + route('subject', 'match client-subject="CN=user"')
                     + route('san', 'match client-san="email:user@a.example"')
                     + route('print', f'match client-fingerprint="{fingerprint(authority)}"'))
    assert taken(proxy, context_of(authority)) == 404
    claims = [('X-Client-Verify', 'SUCCESS'), ('X-Client-Subject', 'CN=user'),
              ('X-Client-Fingerprint', fingerprint(authority)),
              ('X-Client-SAN', 'email:user@a.example')]
    with secure(proxy, context_of(authority)) as client:
        assert ask(client, more=claims)[0] == 404
    proxy.port = port
    assert proxy.request(fields=claims).status == 404


def test_http2_is_routed_by_certificate_too(sentinel, authority):
    proxy = sentinel(listener=listener(authority),
                     routes=route('user', 'match path-prefix="/" client-subject="CN=user"\npriority 1')
                     + route('rest', 'match path-prefix="/" client-certificate=true'))
    found = {}
    for user in ('user', 'guest', None):
        shown = ['--cert', authority.folder / f'{user}.pem', '--key', authority.folder / f'{user}.key']
        done = subprocess.run(
            ['curl', '-sS', '--http2', '--cacert', authority.ca, '--resolve',
             f'a.example:{proxy.port}:127.0.0.1', '-w', ' %{http_version} %{http_code}',
             *(shown if user else []), f'https://a.example:{proxy.port}/'],
            capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found[user] = done.stdout.decode().split(' ')
    assert found['user'] == ['user', '2', '200']
    assert found['guest'] == ['rest', '2', '200']
    assert found[None][-2:] == ['2', '404']


@pytest.mark.parametrize('listeners,match,why', [
    ('off', 'client-subject="CN=user"', 'no listener asks for certificates'),
    ('required', 'client-certificate=false', 'every listener requires a certificate'),
    ('optional', 'client-certificate=false client-subject="CN=user"',
     'who has shown no certificate has no names'),
    ('optional', 'client-certificate=true', None)])
def test_check_tells_of_a_match_that_no_client_can_meet(authority, tmp_path, listeners, match, why):
    ca = f'ca="{authority.ca}"' if listeners != 'off' else ''
    path = tmp_path / 'sentinel.kdl'
    path.write_text('listener "l" {\naddress "127.0.0.1:1"\n'
                    + tls(authority, f'client-auth "{listeners}" {ca}')
                    + '}\nserver { pid-file "off"; }\n' + route('r', f'match {match}'))
    done = command('check', '--config', path)
    assert done.returncode == 0
    if why:
        assert f'this match of route "r" can never hold: {why}' in ' '.join(done.stderr.split())
    else:
        assert 'can never hold' not in done.stderr
