"""The memory and descriptor figure: it is computed, printed, held, and enough for the worst heads."""
import json
import re
import resource
import subprocess

import pytest

from harness.checks import assert_alive
from harness.origins import read_request, response
from harness.certificates import make
from harness.proxy import binary, command, environment
from harness.waiting import free_ports, wait_for
from harness.wire import chunked, connect, request_bytes

HEAD = 8192


def check(folder, server):
    path = folder / 'sentinel.kdl'
    path.write_text(f'server {{\n{server}\n}}\n')
    return command('check', '--config', path)


def rows(output):
    """The figures of `check` by their names: the last column of memory, the count of descriptors."""
    found = {}
    for line in output.split('\n'):
        match = re.match(r'  (\S.*?\S)  .*?([\d.]+ [KMG]?i?B)(  \S+)?$', line)
        if match:
            found[match[1]] = match[2]
    return found


def test_the_check_prints_the_figure(tmp_path):
    done = check(tmp_path, 'workers 4\nmax-connections 10000')
    assert done.returncode == 0 and done.stderr == ''
    found = rows(done.stdout)
    for name in ('client connections', 'requests in flight', 'buffer pool', '4 workers',
                 'controller', 'logger', 'supervisor', 'total'):
        assert name in found, name
    assert 'MiB' in found['total']
    assert re.search(r"a worker's clients +\d+\n", done.stdout)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert re.search(rf'hard limit of a process +{hard}\n', done.stdout)


def test_the_figure_is_there_for_programs_too(tmp_path):
    path = tmp_path / 'sentinel.kdl'
    path.write_text('server {\n workers 3\n}\n')
    done = command('check', '--config', path, '--json')
    assert done.returncode == 0
    figure = json.loads(done.stdout)
    memory = figure['memory']
    assert memory['total'] == sum(item['all'] for item in memory['items'])
    assert memory['workers'] == sum(item['all'] for item in memory['items'] if item['per_worker'])
    assert memory['total'] <= memory['budget'] == 512 * 1024 * 1024
    parts = ('clients', 'upstreams', 'listeners', 'pipes', 'own')
    descriptors = figure['descriptors']
    assert descriptors['worker'] == sum(descriptors[part] for part in parts)
    assert figure['workers'] == 3 and 'buffer-pool' in {item['key'] for item in memory['items']}


def test_more_of_everything_is_a_larger_figure(tmp_path):
    def total(server):
        text = rows(check(tmp_path, server + '\nmemory-budget 64GiB').stdout)['total']
        number, unit = text.split()
        return float(number) * {'KiB': 1, 'MiB': 1024, 'GiB': 1024 * 1024}[unit]
    base = 'workers 2\nmax-connections 2000'
    small = total(f'{base}\nlimits {{ max-requests 100; buffer-pool 1MiB }}')
    for more in ('max-requests 4000; buffer-pool 1MiB', 'max-requests 100; buffer-pool 64MiB',
                 'max-requests 100; buffer-pool 1MiB; head-size 32KiB',
                 'max-requests 100; buffer-pool 1MiB; max-upstream-connections 8000'):
        assert total(f'{base}\nlimits {{ {more} }}') > small * 1.2, more


def test_memory_beyond_the_budget_is_refused_and_nothing_starts(tmp_path):
    server = 'workers 4\nmax-connections 10000\nmemory-budget 300MiB\nlimits {\n' \
             '    max-requests 4096\n    buffer-pool 32MiB\n}'
    done = check(tmp_path, server)
    assert done.returncode == 1
    assert re.search(r'sentinel\.kdl:4:15: error: this configuration can take \d+ MiB of memory, '
                     r'`memory-budget` is 300MiB', done.stderr)
    assert re.search(r'\d+ MiB by `max-requests` \(.*sentinel\.kdl:6\)', done.stderr)
    started = command('run', '--config', tmp_path / 'sentinel.kdl')
    assert started.returncode == 1 and 'memory-budget' in started.stderr
    assert check(tmp_path, server.replace('300MiB', '1GiB')).returncode == 0


def test_defaults_are_lowered_loudly(tmp_path):
    done = check(tmp_path, 'workers 16\nmemory-budget 256MiB')
    assert done.returncode == 0
    assert re.search(r'warning: `buffer-pool` is lowered from 32MiB to \d+MiB: \d+ MiB of memory '
                     r'could be needed, `memory-budget` is 256MiB', done.stderr)


def test_memory_for_buffering_is_counted_and_lowered_where_a_route_buffers(tmp_path):
    path = tmp_path / 'sentinel.kdl'

    def check_with(policies, server=''):
        path.write_text(f"""server {{ workers 16; memory-budget 256MiB; {server} }}
listener "http" {{ address "127.0.0.1:1" }}
upstream "u" {{ target "127.0.0.1:2" }}
route "r" {{ upstream "u"; policies {{ {policies} }} }}
""")
        return command('check', '--config', path)
    lowered = check_with('buffering { response 64KiB }')
    assert re.search(r'`hold-pool` is lowered from 16MiB to 1MiB: \d+ MiB', lowered.stderr)
    assert lowered.stderr.index('`hold-pool`') < lowered.stderr.index('`buffer-pool`')
    assert rows(lowered.stdout)['bodies that routes buffer'].endswith('MiB')
    without = check_with('')
    assert 'hold-pool' not in without.stderr
    assert rows(without.stdout)['bodies that routes buffer'] == '0 B'
    refused = check_with('buffering { response 64KiB }', 'limits { hold-pool 64MiB }')
    assert refused.returncode == 1 and 'MiB by `hold-pool`' in refused.stderr


@pytest.mark.parametrize('workers', [2, 16])
def test_tls_within_the_usual_budget_leaves_no_processor_idle(tmp_path, workers):
    make(tmp_path, 'a')
    config = tmp_path / 'sentinel.kdl'
    config.write_text(f'''server {{ workers {workers} }}
listener "tls" {{
    address "127.0.0.1:8443"
    protocol "https"
    tls {{ certificate "a.pem" key="a.key" }}
}}
route "all" {{ respond 200 }}
''')
    done = command('check', '--config', config)
    assert done.returncode == 0
    assert f'{workers} workers, ' in done.stdout
    assert '`workers`' not in done.stderr
    said = re.findall(r'warning: `(\S+)` is lowered', done.stderr)
    assert said and len(said) == len(set(said)), 'each key is told of once'
    assert int(re.search(r'(\d+) connections', done.stdout)[1]) >= 4000


def test_the_soft_limit_of_descriptors_is_raised(sentinel, echo):
    proxy = sentinel(echo, server='workers 1')
    assert proxy.request().status == 200
    for pid in [proxy.process.pid, *proxy.children()]:
        limits = open(f'/proc/{pid}/limits', encoding='ascii').read()
        soft, hard = re.search(r'Max open files +(\S+) +(\S+)', limits).groups()
        assert soft == hard


def test_as_many_descriptors_as_the_check_prints_are_enough(echo, tmp_path):
    """The supervisor's are the most here: a child that it makes has copies of all its listeners."""
    ports = free_ports(65)
    config = tmp_path / 'sentinel.kdl'
    listeners = ''.join(f'listener "l{port}" {{ address "127.0.0.1:{port}" }}\n'
                        for port in ports[1:])
    config.write_text(f'''server {{
    workers 8
    max-connections 8
    pid-file "off"
    control-socket "off"
    admin {{ address "127.0.0.1:{ports[0]}" }}
    limits {{ max-upstream-connections 8; splice-pipes 0; buffer-pool 1MiB }}
}}
{listeners}
upstream "backend" {{ target "{echo.address}" }}
route "all" {{ upstream "backend" }}
''')
    done = command('check', '--config', config, '--json')
    figure = json.loads(done.stdout)['descriptors']
    most = max(figure[process] for process in ('worker', 'controller', 'supervisor'))
    assert most == figure['supervisor']
    with open(tmp_path / 'stderr', 'w+') as errors:
        process = subprocess.Popen(
            [binary(), 'run', '--config', config], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=errors, env=environment(),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)))
        try:
            wait_for(lambda: '] ready: 8 workers' in (tmp_path / 'stderr').read_text(), 30, 'ready')
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
        assert ' error ' not in (tmp_path / 'stderr').read_text()


@pytest.mark.parametrize('limit,most,words', [
    (resource.RLIMIT_NOFILE, 30, ' descriptors, 30 are allowed here'),
    (resource.RLIMIT_NOFILE, 12, ': Too many open files; raise the limit'),
    (resource.RLIMIT_FSIZE, 1024, 'cannot make a process: File too large; raise the limit'),
    (resource.RLIMIT_FSIZE, 100000, 'cannot make a process: File too large; raise the limit'),
], ids=['descriptors', 'hardly-any', 'file-size', 'file-size-of-segments'])
def test_a_start_within_too_narrow_limits_says_what_to_raise(tmp_path, limit, most, words):
    check(tmp_path, 'workers 1\npid-file "off"\ncontrol-socket "off"')
    narrow = {'preexec_fn': lambda: resource.setrlimit(limit, (most, most))}
    done = command('run', '--config', tmp_path / 'sentinel.kdl', who=narrow)
    assert done.returncode == 1 and words in done.stderr, done.stderr


def fill(lines, size):
    """One more field line, so that the head has exactly `size` bytes with its empty line."""
    used = sum(len(line) + 2 for line in lines) + 2
    return lines + ['X-Fill: ' + 'f' * (size - used - len('X-Fill: ') - 2)]


def worst_heads():
    """Request heads that need the most memory beside their own bytes."""
    escapes = '/' + '|' * 2600
    fields = ['Host: a.test'] + [f'x{n}:' for n in range(96)]
    chain = ['Host: a.test'] + [f'X-Forwarded-For: 10.0.0.{n}' for n in range(90)]
    long_chain = ['Host: a.test', 'X-Forwarded-For: ' + '10.1.1.1, ' * 700 + '10.1.1.1']
    return {
        'escapes': fill([f'GET {escapes} HTTP/1.1', 'Host: a.test'], HEAD),
        'fields': fill(['GET / HTTP/1.1', *fields], HEAD),
        'chain': fill(['GET / HTTP/1.1', *chain], HEAD),
        'long chain': fill(['GET / HTTP/1.1', *long_chain], HEAD),
        'escapes, fields': fill([f'GET {escapes} HTTP/1.1', *fields], HEAD),
        'capital host': fill([f'GET {escapes} HTTP/1.1', 'Host: ' + 'A.' * 120 + 'TEST'], HEAD),
    }


@pytest.mark.parametrize('name', worst_heads())
def test_the_worst_heads_and_trailers_fit_what_was_reserved_for_them(sentinel, origin, name):
    """Both directions at their limits at once; a worker that ran out of room would assert."""
    answer_fields = [(f'y{n}', '') for n in range(95)]
    answer = response(status='200 OK', fields=[*answer_fields, ('Transfer-Encoding', 'chunked')],
                      length=False)
    filler = b'Z-Fill: ' + b'z' * (HEAD - len(answer) - len('Z-Fill: ') - 2) + b'\r\n\r\n'
    trailers = [('Server-Timing', 't' * 90) for _ in range(31)]
    upstream = origin([read_request, answer[:-2] + filler + chunked(b'pong', trailers=trailers)])
    proxy = sentinel(upstream, listener='trusted-proxies "127.0.0.0/8"')
    lines = [line for line in worst_heads()[name] if not line.startswith('X-Fill')]
    lines += ['TE: trailers', 'Transfer-Encoding: chunked']
    lines[0] = lines[0].replace('GET', 'POST')
    lines = fill(lines, HEAD)
    with connect(proxy.port) as client:
        client.send('\r\n'.join(lines).encode() + b'\r\n\r\n' +
                    chunked(b'ping', trailers=[(f't{n}', 'v' * 90) for n in range(31)]))
        got = client.read_response()
    assert got.status == 200 and got.body == b'pong', got
    assert_alive(proxy)


def test_a_path_that_grows_beyond_the_request_line_by_its_escapes_is_414(sentinel, echo):
    proxy = sentinel(echo, limits='request-line "1KiB"')
    with connect(proxy.port) as client:
        client.send(request_bytes('/' + '|' * 400))
        assert client.read_response().status == 414
    assert proxy.request('/' + '|' * 300).status == 200


def test_redirects_that_repeat_the_longest_target_fit(sentinel, echo):
    location = 'https://h.test/' + 'l' * 900
    proxy = sentinel(echo, routes=f'route "r" {{\n    redirect "{location}" keep-path=true\n}}')
    with connect(proxy.port) as client:
        for _ in range(2):
            client.send(request_bytes('/' + '|' * 2000 + '?' + 'q' * 4000))
            assert client.read_response().status == 308
