"""Whom the processes become and what they cannot do any more; what root opens for them."""
import os
import re
import signal
import stat

import pytest

from harness.processes import of_role, replace
from harness.proxy import Plan, command
from harness.waiting import free_ports, wait_for

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root can become somebody else')


def status_of(pid):
    """/proc/PID/status as {name: words}."""
    with open(f'/proc/{pid}/status') as file:
        return {name: value.split() for name, value in
                (line.rstrip('\n').split(':', 1) for line in file)}


def children_by_role(proxy):
    return {role: of_role(proxy, role) for role in ('worker', 'logger', 'controller')}


def paths(log):
    return re.findall(r'"path":"([^"]*)"', log.read_text())


def test_every_child_becomes_the_user_and_group(sentinel, echo):
    """As root, the user becomes the one that is named; otherwise one's own name is accepted."""
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    group = NOBODY - 1 if os.geteuid() == 0 else os.getegid()
    proxy = sentinel(echo, server=f'workers 2\nuser "{user}"\ngroup "{group}"')
    found = children_by_role(proxy)
    assert [len(found[role]) for role in ('worker', 'logger', 'controller')] == [2, 1, 1]
    for pid in sum(found.values(), []):
        told = status_of(pid)
        assert told['Uid'] == [str(user)] * 4 and told['Gid'] == [str(group)] * 4, pid
        assert told['Groups'] == [] or os.geteuid() != 0
        for capabilities in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb'):
            assert int(told[capabilities][0], 16) == 0
    assert proxy.request().status == 200


def test_the_group_goes_without_the_user(sentinel, echo):
    group = NOBODY - 1 if os.geteuid() == 0 else os.getegid()
    proxy = sentinel(echo, server=f'group "{group}"')
    for pid in sum(children_by_role(proxy).values(), []):
        assert status_of(pid)['Gid'] == [str(group)] * 4
        assert status_of(pid)['Uid'] != ['0'] * 4


@as_root
def test_the_default_is_sentinel_or_nobody_and_the_supervisor_stays_root(sentinel, echo):
    proxy = sentinel(echo)
    assert status_of(proxy.process.pid)['Uid'] == ['0'] * 4
    users = {status_of(pid)['Uid'][0] for pid in sum(children_by_role(proxy).values(), [])}
    assert len(users) == 1 and '0' not in users
    [worker] = of_role(proxy, 'worker')
    replace(proxy, 'worker', signal.SIGKILL)
    assert of_role(proxy, 'worker') != [worker]
    wait_for(lambda: {status_of(pid)['Uid'][0] for pid in of_role(proxy, 'worker')} == users, 10,
             'the new worker to have dropped its privileges')


def is_full():
    return command('check', '--sandbox').returncode == 0


def test_every_child_is_in_its_sandbox_and_so_is_its_successor(sentinel, echo):
    if not is_full():
        pytest.skip('this machine has no seccomp or no Landlock: sentinel check --sandbox')
    proxy = sentinel(echo, server='workers 2')
    assert 'sandbox' not in proxy.stderr() or 'sandbox: this kernel' in proxy.stderr()
    def locked_in():
        return [status_of(pid)['Seccomp'] == ['2'] for pid in sum(children_by_role(proxy).values(), [])]

    for role in ('worker', 'logger', 'controller', None):
        wait_for(lambda: locked_in() == [True] * 4, 10, 'all sandboxes')
        for pid in sum(children_by_role(proxy).values(), []):
            assert status_of(pid)['NoNewPrivs'] == ['1']
            assert os.stat(f'/proc/{pid}/mem').st_uid == 0  # so nobody but root looks into it
        assert proxy.request().status == 200
        if role:
            replace(proxy, role, signal.SIGKILL)
    assert status_of(proxy.process.pid)['Seccomp'] == ['0']


def test_a_death_in_the_sandbox_is_reported_in_plain_words(sentinel, echo):
    proxy = sentinel(echo)
    replace(proxy, 'worker', signal.SIGSYS)
    assert 'error sentinel' in proxy.stderr()
    assert 'worker 0 made a system call that its sandbox forbids, and was ended (SIGSYS; the ' \
        "kernel's log may name it)" in proxy.stderr()
    wait_for(lambda: proxy.request().status == 200, 10, 'an answer')


def test_check_says_what_the_machine_has(unprivileged):
    for who in (None, unprivileged):
        done = command('check', '--sandbox', who=who)
        lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
        assert re.match(r'Linux \d', lines['system'])
        user = 0 if who is None and os.geteuid() == 0 else os.geteuid() or NOBODY
        assert ('root; all processes but' in done.stdout) == (user == 0), done.stdout
        assert user == 0 or f'user {user}, group' in done.stdout
        missing = re.search(r'^(no_new_privs|seccomp|Landlock) +no', done.stdout, re.M)
        assert done.returncode == (1 if missing else 0), done.stdout
        assert ('ok: workers are fully sandboxed here' in done.stdout) == (not missing)


@as_root
def test_root_is_no_user_for_children(tmp_path, echo):
    config = tmp_path / 'sentinel.kdl'
    config.write_text(Plan([echo], server='user "root"').render(tmp_path, *free_ports(2)))
    done = command('run', '--config', config)
    assert done.returncode == 1
    assert re.search(rf'{config}:\d+:\d+: error: `user` cannot be "root": it is root', done.stderr)


def test_another_user_without_root_is_refused(tmp_path, echo, unprivileged):
    config = tmp_path / 'sentinel.kdl'
    config.write_text(Plan([echo], server='user "root"').render(tmp_path, *free_ports(2)))
    for words in (['run'], ['check']):
        done = command(*words, '--config', config, who=unprivileged)
        assert done.returncode == 1
        assert re.search(rf'{config}:\d+:\d+: error: `user` is "root", but Sentinel was started '
                         r'with user id \d+', done.stderr), done.stderr
        assert 'start Sentinel as root, or leave `user` out' in done.stderr


@as_root
def test_a_log_in_a_folder_of_root_is_written_and_reopened(sentinel, echo, tmp_path):
    folder = tmp_path / 'logs'
    folder.mkdir(0o700)
    log, old = folder / 'access.log', folder / 'access.log.1'
    proxy = sentinel(echo, server=f'user "{NOBODY}"', observability=f'access-log "{log}"')
    made = log.stat()
    assert stat.S_IMODE(made.st_mode) == 0o640 and made.st_uid == NOBODY
    proxy.request('/before')
    wait_for(lambda: paths(log) == ['/before'], 10, 'the first record')
    log.rename(old)
    log.write_text('')
    log.chmod(0o600)
    proxy.signal(signal.SIGUSR1)
    wait_for(lambda: proxy.request('/after').status == 200 and '/after' in paths(log), 10,
             'a record in the new file')
    assert log.stat().st_uid == 0  # it was there: it is left as it is


@as_root
def test_a_configuration_that_only_root_may_read_is_read(sentinel, echo, tmp_path):
    proxy = sentinel(echo)
    assert stat.S_IMODE(tmp_path.stat().st_mode) & 0o077 == 0  # pytest closes its folders
    assert proxy.request().status == 200
