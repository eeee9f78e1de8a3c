"""Where private keys are, and what operators are told of certificates while Sentinel runs."""
import json
import os
import re
import resource
import signal
import socket
import ssl

import pytest

from harness import certificates
from harness.processes import of_role, replace
from harness.proxy import command
from harness.waiting import free_ports, wait_for
from test_upstream_tls import TlsOrigin, server_context

RESIDENT_MAX = 512 * 1024 * 1024
as_root = pytest.mark.skipif(os.geteuid() != 0, reason='only root sees all of another process')


def listener(port, inside):
    return f'listener "tls" {{ address "127.0.0.1:{port}"; protocol "https"; tls {{\n{inside}\n}} }}\n'


@pytest.fixture
def served(sentinel, echo):
    """served(INSIDE): a proxy with a listener of TLS besides; its port is `tls_port`."""
    def start(inside, **parts):
        [port] = free_ports(1)
        inside = re.sub(r'"(\w+\.(?:pem|key))"', r'"../\1"', inside)  # its folder is below ours
        proxy = sentinel(echo, extra=listener(port, inside), **parts)
        proxy.tls_port = port
        return proxy
    return start


def shake_hands(proxy, name='a.test'):
    """The certificate that is shown to who names this host, in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(('127.0.0.1', proxy.tls_port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=name) as wrapped:
            return wrapped.getpeercert(binary_form=True)


def mappings(pid):
    """[(begin, end, name, {field: words})] of /proc/PID/smaps."""
    found = []
    with open(f'/proc/{pid}/smaps') as file:
        for line in file:
            head = re.match(r'([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+\s*(.*)$', line)
            if head:
                found.append((int(head[1], 16), int(head[2], 16), head[3], {}))
            else:
                name, _, value = line.partition(':')
                found[-1][3][name] = value.split()
    return found


def memory_holds(pid, needles):
    """Whether any of them stands in what is resident of a process."""
    with open(f'/proc/{pid}/mem', 'rb', buffering=0) as memory:
        for begin, end, name, fields in mappings(pid):
            if fields['Rss'][0] == '0' or end - begin > RESIDENT_MAX or name.startswith('[v'):
                continue
            try:
                memory.seek(begin)
                content = memory.read(end - begin)
            except OSError:
                continue
            if any(needle in content for needle in needles):
                return True
    return False


def open_files(pid):
    return [os.readlink(f'/proc/{pid}/fd/{number}') for number in os.listdir(f'/proc/{pid}/fd')]


@as_root
def test_a_private_key_is_in_no_memory_but_the_workers(served, tmp_path):
    _, secret = certificates.make(tmp_path, 'a')
    needles = [certificates.scalar_of(secret), secret.read_text().split('\n')[1][-40:].encode()]
    proxy = served('certificate "a.pem" key="a.key"')
    assert shake_hands(proxy)
    others = [proxy.process.pid, *of_role(proxy, 'logger'), *of_role(proxy, 'controller')]
    assert len(others) == 3
    for pid in others:
        assert not memory_holds(pid, needles), pid
        assert not any('sentinel-secrets' in name for _, _, name, _ in mappings(pid))
    # The search does find what is there: the one that signs has it, but no longer as text.
    [worker] = of_role(proxy, 'worker')
    assert memory_holds(worker, [needles[0], needles[0][::-1]])
    assert not memory_holds(worker, needles[1:])


@as_root
@pytest.mark.parametrize('checked', [False, True])
def test_a_clients_key_is_with_the_controller_only_where_checks_show_it(sentinel, stack, tmp_path,
                                                                        checked):
    authority = certificates.Authority(tmp_path / 'pki')
    stack.append(TlsOrigin(server_context(authority.issue('origin', 'IP:127.0.0.1'))))
    certificate, secret = authority.issue('proxy', 'proxy.test')
    needles = [certificates.scalar_of(secret), certificates.scalar_of(secret)[::-1]]
    text = [secret.read_text().split('\n')[1][-40:].encode()]
    check = 'health-check { type "tcp"; }' if checked else ''
    proxy = sentinel(stack[-1], upstream=f'{check}\ntls {{ ca "{authority.ca}"\n'
                     f'certificate "{certificate}" key="{secret}"; }}')
    assert proxy.request().status == 200
    [controller], [logger] = of_role(proxy, 'controller'), of_role(proxy, 'logger')
    [worker] = of_role(proxy, 'worker')
    for pid in (proxy.process.pid, logger):
        assert not memory_holds(pid, needles + text), pid
    assert memory_holds(worker, needles) and not memory_holds(worker, text)
    assert memory_holds(controller, needles) == checked
    assert not memory_holds(controller, text)
    for pid in (worker, controller, logger):
        assert not any('sentinel-secrets' in path for path in open_files(pid)), pid
    for pid in (worker, controller, logger, proxy.process.pid):
        assert not any('sentinel-secrets' in entry[2] for entry in mappings(pid)), pid


@as_root
def test_descriptors_of_keys_are_closed_and_ticket_keys_stay_out_of_core_files(served, tmp_path):
    certificates.make(tmp_path, 'a')
    proxy = served('certificate "a.pem" key="a.key"')
    workers = of_role(proxy, 'worker')
    for pid in [*workers, *of_role(proxy, 'logger'), *of_role(proxy, 'controller')]:
        for name in ('sentinel-secrets', 'sentinel-tickets'):
            assert not any(name in path for path in open_files(pid)), (pid, name)
    for pid in [proxy.process.pid, *workers]:
        [tickets] = [entry for entry in mappings(pid) if 'sentinel-tickets' in entry[2]]
        assert 'dd' in tickets[3]['VmFlags']
        assert ('wr' in tickets[3]['VmFlags']) == (pid == proxy.process.pid)


@as_root
@pytest.mark.parametrize('role', ['worker', 'controller'])
def test_a_process_that_crashes_leaves_no_core_file(served, tmp_path, monkeypatch, role):
    monkeypatch.chdir(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != resource.RLIM_INFINITY:
        pytest.skip('no process here may leave a core file')
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        certificates.make(tmp_path, 'a')
        proxy = served('certificate "a.pem" key="a.key"')
        assert shake_hands(proxy)
        [pid] = of_role(proxy, role)
        assert os.stat(f'/proc/{pid}/environ').st_uid == 0, 'who is dumpable owns its own'
        replace(proxy, role, signal.SIGABRT)
        wait_for(lambda: proxy.ready() and shake_hands(proxy), 10, 'a handshake')
        assert not [name for name in os.listdir(tmp_path) if name.startswith('core')]
        assert not [name for name in os.listdir(proxy.folder) if name.startswith('core')]
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_without_session_tickets_there_are_no_keys_for_them(served, tmp_path):
    certificates.make(tmp_path, 'a')
    proxy = served('certificate "a.pem" key="a.key"; session-tickets false')
    assert shake_hands(proxy)
    if os.geteuid() == 0:
        for pid in [proxy.process.pid, *of_role(proxy, 'worker')]:
            assert not any('sentinel-tickets' in entry[2] for entry in mappings(pid))


def test_a_worker_that_is_replaced_gets_the_keys_though_the_files_are_gone(served, tmp_path):
    certificate, secret = certificates.make(tmp_path, 'a')
    proxy = served('certificate "a.pem" key="a.key"')
    before = shake_hands(proxy)
    certificate.unlink()
    secret.unlink()
    replace(proxy, 'worker', signal.SIGKILL)
    assert wait_for(lambda: proxy.ready() and shake_hands(proxy), 10, 'a handshake') == before


def test_expiry_is_in_the_metrics_and_told_when_little_is_left(served, tmp_path):
    fresh, _ = certificates.make(tmp_path, 'fresh')
    soon, _ = certificates.make(tmp_path, 'soon', begins=-80, ends=10)
    certificates.make(tmp_path, 'over', begins=-80, ends=-1)
    proxy = served('\n'.join(f'host "{name}.test" {{ certificate "{name}.pem" key="{name}.key" }}'
                             for name in ('fresh', 'soon', 'over')))
    for path, name in ((fresh, 'fresh.test'), (soon, 'soon.test')):
        assert proxy.metric('sentinel_certificate_expiry_timestamp_seconds', certificate=name,
                            file=f'{proxy.folder}/../{path.name}') == certificates.end_of(path)
    wait_for(lambda: 'certificate of soon.test expires on' in proxy.stderr(), 10, 'the warning')
    told = proxy.stderr()
    assert 'less than a third of its lifetime is left' in told
    assert 'certificate of over.test has expired on' in told
    assert re.search(r'warning: \S*over.pem has expired on', told)
    assert 'certificate of fresh.test' not in told
    assert told.count('certificate of soon.test') == 1


def test_check_lists_certificates_and_refuses_expired_ones(served, tmp_path):
    certificates.make(tmp_path, 'a', 'a.test', '*.b.test')
    certificates.make(tmp_path, 'over', begins=-80, ends=-1)
    path = tmp_path / 'checked.kdl'
    text = listener(1, 'certificate "a.pem" key="a.key"') + 'route "r" { respond 200; }\n'
    path.write_text(text)
    done = command('check', '--config', path)
    assert done.returncode == 0, done.stderr
    assert re.search(r'certificate "\S+/a.pem", ECDSA 256, until \S+ \((?:89|90) days\): a.test \*.b.test',
                     done.stdout)
    [shown] = json.loads(command('check', '--config', path, '--json').stdout)['certificates']
    assert shown['names'] == ['a.test', '*.b.test'] and shown['key'] == 'ECDSA'
    assert shown['not_after'] == certificates.end_of(tmp_path / 'a.pem')
    path.write_text(text.replace('a.pem', 'over.pem').replace('a.key', 'over.key'))
    done = command('check', '--config', path)
    assert done.returncode == 1
    assert re.search(r'error: \S+/over.pem has expired on', done.stderr)


def test_looking_for_the_control_socket_reads_no_key(served, tmp_path):
    """`sentinel recent` is for people who may not read private keys."""
    path = tmp_path / 'looked.kdl'
    path.write_text(listener(1, 'certificate "no.pem" key="no.key"')
                    + f'server {{ control-socket "{tmp_path}/none.sock"; }}\n'
                    + 'route "r" { respond 200; }\n')
    done = command('recent', '--config', path)
    assert done.returncode == 1
    assert 'none.sock' in done.stderr and 'no.pem' not in done.stderr
