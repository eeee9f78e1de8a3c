"""What `sentinel check` says of TLS: certificates, keys, and what this build cannot do yet."""
import pytest

from harness.proxy import command

UPSTREAM = '''
listener "plain" { address "127.0.0.1:1"; }
route "r" { upstream "u"; }
upstream "u" {
    target "127.0.0.1:2"
    http-version "2"
    tls {
        ca "ca.pem"
        server-name "b.example"
        insecure-skip-verify false
        certificate "a.pem" key="a.key"
    }
}
'''


@pytest.fixture
def check(tmp_path):
    """check(TEXT): `sentinel check` of a file with this text."""
    def run(text):
        path = tmp_path / 'sentinel.kdl'
        path.write_text(text)
        return command('check', '--config', path)
    return run


def test_http2_to_upstreams_is_refused_while_no_worker_speaks_it(check):
    done = check(UPSTREAM)
    assert done.returncode == 1
    assert 'no HTTP/2 in this build: `http-version` cannot be "2"' in done.stderr
