#!/usr/bin/python3
"""Real clients against a listener of TLS: run.py SENTINEL [--only testssl,chromium] [--record]

  testssl      testssl.sh looks for weak versions, ciphers and known holes: whatever it calls worse
               than LOW is a failure, but for what it says of a private authority
  simulations  testssl.sh says hello as known clients do: whoever speaks TLS 1.2 with forward secrecy is
               served, nobody with less; it has SIMULATION_SECONDS, and says how far it came
  chromium     a headless Chromium loads a page with many parts over one connection of HTTP/2
  sockets      its WebSocket over the connection of the page, by extended CONNECT (RFC 8441)
  sockets1     the same where the listener speaks HTTP/1.1 alone
  websocket    node-ws over HTTP/1.1
  grpc         node's http2 as a client of gRPC, against a service of grpcio

Each ends with one line, `passed` or `FAILED`, and all within their time. What is not installed is
skipped and said so: `tools/setup clients` installs it. --record rewrites docs/dev/TLS.md.
"""
import argparse
import base64
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from peers import NAME, PARTS, World  # noqa: E402
from harness.certificates import openssl  # noqa: E402

RECORD = HERE.parents[1] / 'docs/dev/TLS.md'
BAD = ('MEDIUM', 'HIGH', 'CRITICAL', 'WARN', 'FATAL')
# What a certificate of a private authority cannot have, and what is no fault of a listener's.
PRIVATE = ('cert_chain_of_trust', 'cert_revocation', 'cert_ocspRevoked', 'cert_crlRevoked', 'OCSP_stapling',
           'DNS_CAArecord', 'cert_trust', 'engine_problem', 'overall_grade', 'cert_expirationStatus',
           'old_fart', 'cert_notAfter')
# Protocols, kinds of ciphers, forward secrecy, preference, defaults, fields, known holes.
LOOKS = ('-p', '-s', '-f', '-P', '-S', '-h', '-U')
LOOK_SECONDS = 1500
# Each of some fifty clients takes it two seconds on a quiet machine: shell does the arithmetic.
SIMULATION_SECONDS = 600
SIMULATIONS_MIN = 10
SIMULATION = 'clientsimulation-'
TOO_OLD = ('ie_6_', 'ie_8_', 'java_7')  # they know no TLS 1.2
PAGE_SECONDS = 60
NODE_SECONDS = 90


def version_of(package):
    return subprocess.run(['dpkg-query', '-W', '-f', '${Version}', package], capture_output=True,
                          text=True).stdout


# ---- testssl.sh ----

def run_testssl(world, looks, seconds):
    """What it found, what it said, and whether it came to its end."""
    report = world.folder / 'testssl.json'
    try:
        done = subprocess.run(
            ['testssl', '--quiet', '--color', '0', '--warnings', 'off', '--ip', '127.0.0.1', '--add-ca',
             world.authority.ca, '--connect-timeout', '10', '--openssl-timeout', '20', '--jsonfile', report,
             *looks, f'{NAME}:{world.proxy.port}'],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
        return json.loads(report.read_text()), done.stdout, True
    except subprocess.TimeoutExpired as late:
        text = report.read_text().rstrip().rstrip(',')  # it is written as it goes
        return json.loads(text + ']'), (late.stdout or b'').decode(), False


def testssl(world):
    found, said, ended = run_testssl(world, LOOKS, LOOK_SECONDS)
    wrong = [f'{one["id"]}: {one["severity"]}: {one["finding"]}' for one in found
             if one['severity'] in BAD and not one['id'].startswith(PRIVATE)]
    if len(found) < 60 or not ended:
        wrong.append(f'testssl.sh looked at {len(found)} things only: {said[-500:]}')
    counts = {}
    for one in found:
        counts[one['severity']] = counts.get(one['severity'], 0) + 1
    lines = [f'testssl.sh {version_of("testssl.sh")}: {len(found)} findings, of these '
             + ', '.join(f'{count} {name}' for name, count in sorted(counts.items())) + '.']
    lines += [f'- {one["id"]}: {one["severity"]}: {one["finding"]}' for one in found
              if one['severity'] not in ('OK', 'INFO')]
    return wrong, lines


def judge_simulation(name, finding):
    """What is wrong with what a client got; None: nothing."""
    served = finding.startswith(('TLSv1.2 ECDHE-', 'TLSv1.3 TLS_'))
    if finding == 'No connection':
        return None if name.startswith(TOO_OLD) else f'{name} was not served'
    return None if served else f'{name} was served with {finding}'


def simulations(world):
    found, said, ended = run_testssl(world, ('-c',), SIMULATION_SECONDS)
    seen = [(one['id'][len(SIMULATION):], one['finding']) for one in found
            if one['id'].startswith(SIMULATION)]
    wrong = [judgement for judgement in (judge_simulation(*one) for one in seen) if judgement]
    served = sum(finding != 'No connection' for _, finding in seen)
    if len(seen) < SIMULATIONS_MIN:
        wrong.append(f'{len(seen)} clients only were simulated: {said[-500:]}')
    how_far = '' if ended else f' in {SIMULATION_SECONDS} s, which were not enough for all'
    return wrong, [f'testssl.sh {version_of("testssl.sh")} simulated {len(seen)} clients{how_far}: {served} '
                   f'were served, {len(seen) - served} too old ones refused.']


# ---- Chromium ----

def spki_of(authority):
    """The hash by which Chromium takes a certificate although nobody vouches for it."""
    pem = openssl('x509', '-in', authority.folder / 'a.pem', '-noout', '-pubkey')
    der = ssl.PEM_cert_to_DER_cert(pem.replace('PUBLIC KEY', 'CERTIFICATE'))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def chromium_words(world, path, *more):
    return [shutil.which('chromium'), '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
            '--no-first-run', '--disable-background-networking', '--disable-component-update',
            '--disable-sync', f'--user-data-dir={world.folder}/profile',
            f'--ignore-certificate-errors-spki-list={spki_of(world.authority)}',
            f'--host-resolver-rules=MAP {NAME} 127.0.0.1', *more,
            f'https://{NAME}:{world.proxy.port}{path}']


def chromium_version():
    return subprocess.run([shutil.which('chromium'), '--version'], capture_output=True,
                          text=True).stdout.strip()


def chromium(world):
    done = subprocess.run(
        chromium_words(world, '/', '--virtual-time-budget=20000', '--dump-dom'), text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=300,
        env={**os.environ, 'HOME': str(world.folder)})
    expected = f'seen {PARTS} of {PARTS}, by h2'
    wrong = [] if expected in done.stdout else [f'the page says {done.stdout[-300:]!r}; {done.stderr[-500:]}']
    records = world.proxy.records()
    protocols = {record['protocol'] for record in records if record['status'] == 200}
    if protocols != {'HTTP/2.0'}:
        wrong.append(f'spoken was {protocols}')
    return wrong, [f'{chromium_version()}: "{expected}", {len(records)} requests.']


def open_page(world, path):
    """What the page reports; the browser is ended then."""
    with open(world.folder / 'chromium.err', 'wb') as errors:
        browser = subprocess.Popen(
            chromium_words(world, path, '--remote-debugging-port=0'), stdin=subprocess.DEVNULL,
            stdout=errors, stderr=errors, env={**os.environ, 'HOME': str(world.folder)})
        try:
            return world.page.report(PAGE_SECONDS)
        finally:
            browser.terminate()
            try:
                browser.wait(20)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


def tunnels_of(world, seconds=10):
    """The protocols of the records of tunnels, once there is one."""
    until = time.monotonic() + seconds
    found = []
    while not found and time.monotonic() < until:
        time.sleep(0.1)
        found = [record['protocol'] for record in world.proxy.records() if record['status'] == 101]
    return found


def browser_sockets(page, protocol):
    def look(world):
        report = open_page(world, '/sockets')
        expected = {'page': page, 'echoed': 4, 'code': 4001, 'error': None}
        wrong = []
        if report != expected:
            errors = (world.folder / 'chromium.err').read_text(errors='replace')
            wrong.append(f'the page reports {report}; {errors[-500:]}')
        tunnels = tunnels_of(world)
        if tunnels != [protocol]:
            wrong.append(f'tunnels by {tunnels}')
        return wrong, [f'{chromium_version()}: WebSocket over {protocol}: texts, binaries up to 1 MiB, close '
                       'code.']
    return look


# ---- node ----

def node(script, check=lambda world: None):
    def look(world):
        done = subprocess.run(
            ['node', HERE / script, NAME, str(world.proxy.port), world.authority.ca],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NODE_SECONDS,
            env={**os.environ, 'NODE_PATH': '/usr/share/nodejs'})
        said = (done.stdout + done.stderr).strip()
        wrong = [said[-1500:] or 'ended without a word'] if done.returncode != 0 else []
        failure = None if wrong else check(world)
        return wrong + ([failure] if failure else []), [said]
    return look


def check_websocket(world):
    protocols = set(tunnels_of(world))
    return None if protocols == {'HTTP/1.1'} else f'tunnels by {protocols}'


def check_grpc(world):
    if not world.service.cancelled.wait(10):
        return 'the service does not hear that calls were cancelled'
    records = [record for record in world.proxy.records() if record['route'] == 'calls']
    protocols = {record['protocol'] for record in records}
    return None if protocols == {'HTTP/2.0'} and len(records) > 50 else f'{len(records)} by {protocols}'


# name: (the program, the packages' file that must be there, more for the listener, what it does)
CLIENTS = {
    'testssl': ('testssl', None, '', testssl),
    'simulations': ('testssl', None, '', simulations),
    'chromium': ('chromium', None, '', chromium),
    'sockets': ('chromium', None, '', browser_sockets('h2', 'HTTP/2.0')),
    'sockets1': ('chromium', None, 'alpn "http/1.1"', browser_sockets('http/1.1', 'HTTP/1.1')),
    'websocket': ('node', '/usr/share/nodejs/ws', '', node('websocket.js', check_websocket)),
    'grpc': ('node', None, '', node('grpc.js', check_grpc)),
}


def run(name):
    """(what is wrong, lines for the record), or None where it is not installed."""
    program, file, tls, look = CLIENTS[name]
    if not shutil.which(program) or (file and not os.path.exists(file)):
        return None
    with tempfile.TemporaryDirectory(prefix='sentinel-clients-', ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        world = World(Path(folder), tls)
        try:
            return look(world)
        except subprocess.TimeoutExpired as late:
            return [f'{name} did not end within {late.timeout} s'], []
        finally:
            world.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('binary')
    parser.add_argument('--only', default=','.join(CLIENTS))
    parser.add_argument('--record', action='store_true')
    options = parser.parse_args()
    os.environ['SENTINEL_BINARY'] = options.binary
    failures, told = 0, []
    for name in options.only.split(','):
        seen = run(name)
        if seen is None:
            print(f'SKIPPED {name}: not installed (tools/setup clients)', flush=True)
            told.append(f'{name} was not installed.')
            continue
        wrong, lines = seen
        told += [*lines, '']
        failures += len(wrong)
        print(f'{"FAILED" if wrong else "passed"} {name}')
        print('\n'.join(f'  {line}' for line in (wrong or lines)), flush=True)
    if options.record and not failures:
        date = datetime.now(timezone.utc).strftime('%Y-%m-%d')
        RECORD.write_text(f'# Real clients of TLS\n\n`make clients`, written by it on {date}. What it does '
                          'stands in `tests/clients/run.py`.\n\n' + '\n'.join(told).strip() + '\n')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
