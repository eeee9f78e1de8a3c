"""The clients of the benchmark: one run of load.c or of h2load."""
import subprocess
from collections import namedtuple

from machine import Failure, rss_bytes

# The one that browsers prefer, and the group that all ask for: load.c has the same.
CIPHER, CURVE = 'TLS_AES_128_GCM_SHA256', 'X25519'

# Latencies in microseconds; cpu is the proxy's own time in nanoseconds, memory its resident bytes
# when its connections had been made and were idle.
Run = namedtuple('Run', 'requests seconds p50 p99 cpu memory')


def load(proxy, shape, milliseconds, rate=0):
    """One run of load.c. `shape`: path, connections, keep or close, plain, tls or resumed."""
    path, connections, mode, security = shape
    command = [proxy.machine.program('load'), proxy.port, path, connections, milliseconds, rate,
               mode, security]
    with subprocess.Popen(list(map(str, command)), text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as client:
        try:
            ready = client.stdout.readline()  # it gives up by itself
            before = proxy.cpu()
            memory = rss_bytes(proxy.pids)
            out, _ = client.communicate('\n', timeout=milliseconds / 1000 + 30)
        finally:
            client.kill()
    if ready != 'ready\n' or client.returncode != 0:
        raise Failure(f'the client ended with {client.returncode}')
    requests, errors, elapsed, p50, p99, _ = map(int, out.split())
    if errors > 0 or (requests == 0 and milliseconds > 0):
        raise Failure(f'{errors} of {requests + errors} requests for {path} failed')
    return Run(requests, elapsed / 1e6, p50, p99, proxy.cpu() - before, memory)


def h2load_once(proxy, shape, requests):
    """So many requests over HTTP/2 and TLS; all are checked."""
    path, connections, streams = shape
    done = subprocess.run(['h2load', '-n', str(requests), '-c', str(connections), '-m',
                           str(streams), f'--tls13-ciphers={CIPHER}', f'--groups={CURVE}',
                           f'https://127.0.0.1:{proxy.port}{path}'],
                          capture_output=True, text=True, check=True, timeout=120)
    for line in (f'{requests} succeeded, 0 failed', f'status codes: {requests} 2xx',
                 'Application protocol: h2', f'Cipher: {CIPHER}', 'TLS Protocol: TLSv1.3'):
        if line not in done.stdout:
            raise Failure(f'h2load does not say {line!r}: {done.stdout}')


def h2load(proxy, shape, requests):
    """One run of h2load, without what its connections cost: those are made twice, the first time
    with a request each."""
    connections = shape[1]
    start = proxy.cpu()
    h2load_once(proxy, shape, connections)
    middle = proxy.cpu()
    h2load_once(proxy, shape, connections + requests)
    return Run(requests, 0, 0, 0, (proxy.cpu() - middle) - (middle - start), 0)
