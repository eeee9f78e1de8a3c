"""Fixtures of the black-box scenarios: each test has its own processes, ports and folder."""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.origins import EchoOrigin, NginxOrigin, ScriptedOrigin  # noqa: E402
from harness.proxy import Plan, Sentinel  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line('markers', 'shared: takes the echo origin, and the proxy of its own '
                            'configuration, that the marked tests of its file have in common')


def stopped_at_the_end():
    """Things to stop at the end, in reverse order; every stop runs, the first failure counts."""
    things = []
    yield things
    failure = None
    for thing in reversed(things):
        try:
            thing.stop()
        except Exception as error:
            failure = failure or error
    if failure:
        raise failure


@pytest.fixture
def stack():
    yield from stopped_at_the_end()


@pytest.fixture(scope='module')
def module_stack():
    yield from stopped_at_the_end()


class Shared:
    """What the tests marked `shared` of a file have in common: tests that look at nothing but the
    answers and the requests at the origin, which are forgotten before each."""

    def __init__(self, stack, folder):
        self.stack = stack
        self.folder = folder
        self.proxies = {}  # by configuration
        self.origin = None

    def echo(self):
        if not self.origin:
            self.origin = EchoOrigin()
            self.stack.append(self.origin)
        self.origin.requests.clear()
        return self.origin

    def sentinel(self, target, **parts):
        assert target is self.origin, 'a shared proxy stands before the shared origin'
        key = tuple(sorted(parts.items()))
        if key not in self.proxies:
            folder = self.folder / str(len(self.proxies))
            folder.mkdir()
            self.proxies[key] = Sentinel(folder, Plan([target], **parts))
            self.stack.append(self.proxies[key])
        return self.proxies[key]


@pytest.fixture(scope='module')
def shared(module_stack, tmp_path_factory):
    return Shared(module_stack, tmp_path_factory.mktemp('shared'))


@pytest.fixture
def echo(request, stack, shared):
    """An origin that answers with the request it received."""
    if request.node.get_closest_marker('shared'):
        return shared.echo()
    stack.append(EchoOrigin())
    return stack[-1]


@pytest.fixture
def origin(stack):
    """origin(script, ...): a scripted origin; origin(name="x"): one more echo origin."""
    def start(*scripts, **options):
        stack.append(ScriptedOrigin(*scripts, **options) if scripts else EchoOrigin(**options))
        return stack[-1]
    return start


@pytest.fixture
def nginx(stack, tmp_path):
    stack.append(NginxOrigin(tmp_path / 'nginx'))
    return stack[-1]


@pytest.fixture
def sentinel(request, stack, shared, tmp_path):
    """sentinel(origin, ..., timeouts='...', limits='...'): a running proxy, see harness.proxy.Plan.

    sentinel(config=TEXT) takes a whole configuration instead; {port} is not replaced there.
    """
    def start(*targets, config=None, **parts):
        folder = tmp_path / f'sentinel-{len(stack)}'
        folder.mkdir()
        stack.append(Sentinel(folder, config or Plan(targets, **parts)))
        return stack[-1]
    return shared.sentinel if request.node.get_closest_marker('shared') else start


@pytest.fixture
def sockets():
    """A folder for Unix sockets: its path is short, and whoever finds it may use what is there."""
    with tempfile.TemporaryDirectory(prefix='sentinel-') as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def unprivileged(tmp_path):
    """Arguments of Popen that start a program as nobody in particular, who may read tmp_path."""
    if os.geteuid() != 0:
        return {}
    for folder in (tmp_path, *tmp_path.parents[:2]):  # pytest's own, closed to others
        folder.chmod(0o755)
    tmp_path.chmod(0o777)
    return {'user': 65534, 'group': 65534, 'extra_groups': []}


@pytest.fixture
def curl():
    """curl(ARGS...): the finished process, bytes on stdout."""
    program = shutil.which('curl')
    assert program, 'curl is not installed: tools/setup test'

    def run(*words, seconds=20):
        return subprocess.run([program, '-sS', '--max-time', str(seconds), *words],
                              capture_output=True, timeout=seconds + 5, stdin=subprocess.DEVNULL)
    return run
