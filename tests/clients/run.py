#!/usr/bin/python3
"""Real clients against a listener of TLS: run.py SENTINEL [--only testssl,chromium] [--record]

testssl.sh looks for weak versions, ciphers and known holes: whatever it calls worse than LOW is a
failure, but for what it says of a private authority. A headless Chromium loads a page with many
parts over HTTP/2, over one connection. What is not installed is skipped and said so: `tools/setup
clients` installs it. --record rewrites docs/dev/TLS.md.
"""
import argparse
import base64
import hashlib
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'blackbox'))

from harness.certificates import Authority, openssl  # noqa: E402
from harness.proxy import Plan, Sentinel  # noqa: E402

RECORD = HERE.parents[1] / 'docs/dev/TLS.md'
NAME = 'a.example'
PARTS = 40
BAD = ('MEDIUM', 'HIGH', 'CRITICAL', 'WARN', 'FATAL')
# What a certificate of a private authority cannot have, and what is no fault of a listener's.
PRIVATE = ('cert_chain_of_trust', 'cert_revocation', 'cert_ocspRevoked', 'cert_crlRevoked', 'OCSP_stapling',
           'DNS_CAArecord', 'cert_trust', 'engine_problem', 'overall_grade', 'cert_expirationStatus',
           'old_fart', 'cert_notAfter')
# Protocols, kinds of ciphers, forward secrecy, preference, defaults, fields, known holes: all but what
# some hundred known clients would choose, which takes longer than all of these.
LOOKS = ('-p', '-s', '-f', '-P', '-S', '-h', '-U')
SECONDS = 1500


class Page(http.server.BaseHTTPRequestHandler):
    """A page with PARTS scripts, each of which counts itself."""
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        if self.path == '/':
            parts = ''.join(f'<script src="/part/{n}.js"></script>' for n in range(PARTS))
            body = ('<!DOCTYPE html><title>page</title><p id="seen"></p><script>var seen = 0;'
                    f'</script>{parts}<script>document.getElementById("seen").textContent = '
                    f'"seen " + seen + " of {PARTS}, by " + '
                    'performance.getEntriesByType("navigation")[0].nextHopProtocol;</script>')
            kind = 'text/html'
        else:
            body, kind = 'seen += 1;' + ' ' * 20000, 'text/javascript'
        data = body.encode()
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(data)))
        # The page's scripts stand in it.
        self.send_header('Content-Security-Policy', "default-src 'self' 'unsafe-inline'")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def start(folder):
    """An origin, and a Sentinel before it with TLS."""
    authority = Authority(folder / 'pki')
    authority.issue('a', NAME, days=90)
    authority.issue('rsa', NAME, days=90, key_kind='rsa')
    origin = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Page)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    shown = ''.join(f'certificate "{authority.folder}/{name}.pem" key="{authority.folder}/{name}.key"\n'
                    for name in ('a', 'rsa'))
    proxy = Sentinel(folder, Plan([f'127.0.0.1:{origin.server_port}'],
                                  listener=f'protocol "https"\nhsts\ntls {{\n{shown}}}',
                                  route='security-headers {\nupstream-wins true\n}'))
    return authority, origin, proxy


def testssl(authority, proxy, folder):
    """What is wrong, as texts; what was seen, as lines for the record."""
    report = folder / 'testssl.json'
    done = subprocess.run(
        ['testssl', '--quiet', '--color', '0', '--warnings', 'off', '--ip', '127.0.0.1', '--add-ca',
         authority.ca, '--jsonfile', report, *LOOKS, f'{NAME}:{proxy.port}'],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    found = json.loads(report.read_text())
    wrong = [f'{one["id"]}: {one["severity"]}: {one["finding"]}' for one in found
             if one['severity'] in BAD and not one['id'].startswith(PRIVATE)]
    if len(found) < 60:
        wrong.append(f'testssl.sh looked at {len(found)} things only: {done.stdout[-500:]}')
    counts = {}
    for one in found:
        counts[one['severity']] = counts.get(one['severity'], 0) + 1
    version = subprocess.run(['dpkg-query', '-W', '-f', '${Version}', 'testssl.sh'],
                             capture_output=True, text=True).stdout
    lines = [f'testssl.sh {version}: {len(found)} findings, of these '
             + ', '.join(f'{count} {name}' for name, count in sorted(counts.items())) + '.']
    lines += [f'- {one["id"]}: {one["severity"]}: {one["finding"]}' for one in found
              if one['severity'] not in ('OK', 'INFO')]
    return wrong, lines


def spki_of(authority):
    """The hash by which Chromium takes a certificate although nobody vouches for it."""
    pem = openssl('x509', '-in', authority.folder / 'a.pem', '-noout', '-pubkey')
    der = ssl.PEM_cert_to_DER_cert(pem.replace('PUBLIC KEY', 'CERTIFICATE'))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def chromium(authority, proxy, folder):
    program = shutil.which('chromium')
    spki = ','.join([spki_of(authority)])
    done = subprocess.run(
        [program, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--disable-sync',
         f'--user-data-dir={folder}/profile', f'--ignore-certificate-errors-spki-list={spki}',
         f'--host-resolver-rules=MAP {NAME} 127.0.0.1', '--virtual-time-budget=20000', '--dump-dom',
         f'https://{NAME}:{proxy.port}/'],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        env={**os.environ, 'HOME': str(folder)})
    expected = f'seen {PARTS} of {PARTS}, by h2'
    wrong = [] if expected in done.stdout else [f'the page says {done.stdout[-300:]!r}; {done.stderr[-500:]}']
    records = [record for record in proxy.records() if record['path'].startswith(('/part', '/'))]
    protocols = {record['protocol'] for record in records if record['status'] == 200}
    if protocols != {'HTTP/2.0'}:
        wrong.append(f'spoken was {protocols}')
    version = subprocess.run([program, '--version'], capture_output=True, text=True).stdout.strip()
    return wrong, [f'{version}: "{expected}", {len(records)} requests.']


CLIENTS = {'testssl': testssl, 'chromium': chromium}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('binary')
    parser.add_argument('--only', default=','.join(CLIENTS))
    parser.add_argument('--record', action='store_true')
    options = parser.parse_args()
    os.environ['SENTINEL_BINARY'] = options.binary
    failures, told = 0, []
    for name in options.only.split(','):
        if not shutil.which(name):
            print(f'SKIPPED {name}: not installed (tools/setup clients)')
            told.append(f'{name} was not installed.')
            continue
        with tempfile.TemporaryDirectory(prefix='sentinel-clients-') as folder:
            os.chmod(folder, 0o755)
            authority, origin, proxy = start(Path(folder))
            try:
                wrong, lines = CLIENTS[name](authority, proxy, Path(folder))
            finally:
                proxy.stop()
                origin.shutdown()
        told += [*lines, '']
        failures += len(wrong)
        print(f'{"FAILED" if wrong else "passed"} {name}')
        print('\n'.join(f'  {line}' for line in (wrong or lines)))
    if options.record and not failures:
        date = datetime.now(timezone.utc).strftime('%Y-%m-%d')
        RECORD.write_text(f'# Real clients of TLS\n\n`make clients`, written by it on {date}. What it does '
                          'stands in `tests/clients/run.py`.\n\n' + '\n'.join(told).strip() + '\n')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
