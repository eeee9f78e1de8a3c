"""/metrics as a whole: what Prometheus makes of it, what it says of processes and checks."""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.origins import EchoOrigin
from harness.waiting import wait_for
from harness.wire import request_bytes

FETCHED = Path(__file__).resolve().parents[2] / 'build/tools/promtool'


def promtool():
    found = shutil.which('promtool') or (str(FETCHED) if FETCHED.exists() else None)
    if not found:
        # Where there is no network but for CI's, the rest of the suite still counts.
        fail = pytest.fail if os.environ.get('CI') else pytest.skip
        fail('no promtool; tools/promtool fetches it into build/tools')
    return found


def text_of(proxy):
    return proxy.admin('/metrics').body.decode()


def test_promtool_finds_nothing_to_say(sentinel, echo, origin):
    tool = promtool()
    dead = EchoOrigin()
    dead.stop()
    proxy = sentinel(echo, dead, server='workers 2',
                     upstream='health-check { type "tcp"; interval 100ms; timeout 90ms; }')
    for target in ('/', '/a?b', '/%zz', '/x' * 5000):
        with proxy.connect() as client:
            client.send(request_bytes(target))
            client.read_response()
    wait_for(lambda: 'result="failure"' in text_of(proxy), 10, 'a failed check')
    wait_for(lambda: 'sentinel_process_open_fds{' in text_of(proxy), 10, 'the first sample')
    done = subprocess.run([tool, 'check', 'metrics'], input=text_of(proxy), text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.strip() == '', done.stderr


def test_every_process_tells_what_it_takes(sentinel, echo):
    proxy = sentinel(echo, server='workers 2')
    names = {('supervisor', '0'), ('logger', '0'), ('controller', '0'), ('worker', '0'),
             ('worker', '1')}

    def sampled(name):
        return {(dict(labels)['process'], dict(labels)['index']): value
                for (found, labels), value in proxy.metrics().items() if found == name}
    wait_for(lambda: set(sampled('sentinel_process_resident_memory_bytes')) == names, 10, 'rows')
    for value in sampled('sentinel_process_resident_memory_bytes').values():
        assert 100_000 < value < 2 ** 34
    for value in sampled('sentinel_process_open_fds').values():
        assert 3 <= value < 1000
    now = time.time()
    for value in sampled('sentinel_process_start_time_seconds').values():
        assert now - 100 < value < now + 5
    assert set(sampled('sentinel_process_cpu_seconds_total')) == names
    assert set(sampled('sentinel_process_restarts_total').values()) == {0}
    assert 0 <= proxy.metric('sentinel_uptime_seconds') < 100


def test_restarts_are_counted(sentinel, echo):
    proxy = sentinel(echo, server='workers 1')
    worker = [pid for pid in proxy.children()
              if Path(f'/proc/{pid}/cmdline').read_bytes().startswith(b'sentinel: worker')]
    os.kill(int(worker[0]), signal.SIGKILL)
    wait_for(lambda: proxy.metric('sentinel_process_restarts_total', process='worker',
                                  index='0') == 1, 10, 'the restart')
    assert proxy.metric('sentinel_process_restarts_total', process='controller', index='0') == 0


def test_health_checks_are_counted_and_timed(sentinel, echo):
    proxy = sentinel(echo, upstream='health-check { type "tcp"; interval 50ms; timeout 50ms; }')
    labels = {'upstream': 'backend', 'endpoint': echo.address}
    wait_for(lambda: proxy.metric('sentinel_health_checks_total', result='success', **labels) >= 3,
             10, 'three checks')
    assert proxy.metric('sentinel_health_check_duration_seconds_count', **labels) >= 3
    assert proxy.metric('sentinel_endpoint_up', **labels) == 1


def test_the_hash_follows_the_configuration(sentinel, echo):
    def hash_of(proxy):
        return next(dict(labels)['hash'] for name, labels in proxy.metrics()
                    if name == 'sentinel_config_info')
    proxy = sentinel(echo)
    assert hash_of(proxy) == hash_of(proxy)
    assert hash_of(proxy) != hash_of(sentinel(echo, limits='max-requests 77'))
