"""What the access log holds, in which format, and what it never holds."""
import json
import re

import pytest

from harness.origins import read_request, response
from harness.proxy import command
from harness.waiting import wait_for
from harness.wire import request_bytes

# Host, identity, user, time, request, status, bytes, Referer, User-Agent; escapes in the texts.
QUOTED = r'"((?:[^"\\\x00-\x1f\x7f-\xff]|\\["\\bnrtv]|\\x[0-9a-f]{2})*)"'
COMBINED = re.compile(
    r'(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] ' + QUOTED +
    r' (\d{3}) (\d+|-) ' + QUOTED + ' ' + QUOTED)


def access_log(children):
    return f'access-log "stdout" {{\n{children}\n}}'


def lines_of(proxy, count):
    """Exactly so many lines on standard output, once the last of them is there."""
    found = wait_for(lambda: len(proxy.lines) >= count and list(proxy.lines), 10, f'line {count}')
    assert len(found) == count, found
    return found


def written(proxy, count):
    """All records, once so many requests were counted and what the logger has is out."""
    wait_for(lambda: proxy.metric('sentinel_requests_total') == count, 10, 'the requests counted')
    records = int(proxy.metric('sentinel_access_log_records_total'))
    if records:
        proxy.log_records(records)
    return proxy.records()


def test_the_combined_format_is_what_readers_of_apaches_know(sentinel, origin):
    proxy = sentinel(origin([read_request, response(b'12345')]),
                     observability=access_log('format "combined"'))
    proxy.request('/a?b=c', fields=[('Referer', 'http://r/'),
                                    ('User-Agent', 'a "b" \\ \xe9\t$(x)')], source='127.0.0.7')
    with proxy.connect() as client:
        client.send(b'garbage "\r\n\r\n')
        client.read_response()
    parts = [COMBINED.fullmatch(line) for line in lines_of(proxy, 2)]
    assert all(parts)
    assert parts[0].group(1, 3, 4, 5, 6, 7) == (
        '127.0.0.7', 'GET /a?b=c HTTP/1.1', '200', '5', 'http://r/', r'a \"b\" \\ \xe9\t$(x)')
    assert parts[1].group(4, 6, 7) == ('400', '-', '-')


def test_a_request_without_an_answer_has_a_number_in_the_combined_format(sentinel, echo):
    proxy = sentinel(echo, observability=access_log('format "combined"'))
    with proxy.connect() as client:
        client.send(b'GET / HTTP/1.1\r\n')
        client.reset()
    assert COMBINED.fullmatch(lines_of(proxy, 1)[0])[4] == '499'


def test_fields_are_those_that_were_chosen_in_their_order(sentinel, echo):
    proxy = sentinel(echo, observability=access_log('fields "status" "path" "reason" "time"'))
    proxy.request('/x')
    assert list(proxy.log_record()) == ['status', 'path', 'reason', 'time']


def test_an_unknown_field_is_an_error_with_a_suggestion(sentinel, tmp_path):
    config = tmp_path / 'a.kdl'
    config.write_text('observability {\n' + access_log('fields "stauts"') + '\n}\n')
    result = command('check', '--config', config)
    assert result.returncode == 1 and 'did you mean "status"?' in result.stderr


def test_samples_are_counted_and_say_their_rate(sentinel, origin):
    script = [step for _ in range(40) for step in (read_request, response(b'ok'))]
    proxy = sentinel(origin(script), observability=access_log(
        'sample "2xx" 0.5; sample "4xx" 0; sample "404" 1'),
        routes='route "all" {\n upstream "backend"\n match path-prefix="/here"\n}')
    with proxy.connect() as client:
        for number in range(40):
            client.send(request_bytes(f'/here/{number}'))
            assert client.read_response().status == 200
    assert [proxy.request(target).status for target in ('/..', '/there')] == [400, 404]
    records = written(proxy, 42)
    sampled = proxy.metric('sentinel_access_log_sampled_total')
    assert len(records) + sampled == 42
    assert proxy.metric('sentinel_access_log_dropped_total') == 0
    good = [record for record in records if record['status'] == 200]
    assert 0 < len(good) < 40 and all(record['sample_rate'] == 0.5 for record in good)
    assert [(record['status'], 'sample_rate' in record)
            for record in records if record['status'] != 200] == [(404, False)]


def test_one_request_is_sampled_alike_everywhere(sentinel, echo):
    """Two proxies in a row: the second one keeps the request's id, and so its place in the log."""
    rules = access_log('sample "2xx" 0.5')
    inner = sentinel(echo, observability=rules, listener='trusted-proxies "127.0.0.1"')
    outer = sentinel(f'127.0.0.1:{inner.port}', observability=rules)
    with outer.connect() as client:
        for _ in range(24):
            client.send(request_bytes())
            client.read_response()
    ids = [{record['request_id'] for record in written(proxy, 24)} for proxy in (outer, inner)]
    assert ids[0] == ids[1] and 0 < len(ids[0]) < 24


def test_a_response_that_was_cut_short_is_never_sampled_away(sentinel, origin):
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort'
    proxy = sentinel(origin([read_request, cut]), observability=access_log('sample "2xx" 0'))
    with proxy.connect() as client:
        client.send(request_bytes())
        record = proxy.log_record()
    assert record['status'] == 200 and record['reason'] and 'sample_rate' not in record


def test_what_is_redacted_is_nowhere_in_the_log(sentinel, echo):
    proxy = sentinel(echo, observability=access_log(
        'redact "client" "host" "method" "request_id" "query"'))
    proxy.request('/open?hidden=1', 'PURGE', host='hidden.test', source='127.0.0.9')
    record = proxy.log_record()
    assert record['path'] == '/open?[redacted]'
    assert {record[name] for name in ('client', 'host', 'method', 'request_id')} == {'[redacted]'}
    assert not re.search(r'hidden|PURGE|127\.0\.0\.9', '\n'.join(proxy.lines))


@pytest.mark.parametrize('log_format', ['json', 'combined'])
def test_secret_query_parameters_never_reach_the_log(sentinel, echo, log_format):
    proxy = sentinel(echo, observability=access_log(
        f'format "{log_format}"; redact-query "token" "pass word"'))
    for target in ('/?a=1&token=SECRET&b=2', '/?TOKEN=SECRET', '/?%74oken=SECRET;SECRET',
                   '/?pass+word=SECRET', '/a;b?c;token=SECRET', '/..?token=SECRET'):
        proxy.request(target, fields=[('Referer', 'http://r/?token=SECRET')])
    lines = lines_of(proxy, 6)
    assert 'SECRET' not in '\n'.join(lines)
    assert '/?a=1&token=[redacted]&b=2' in lines[0]


def test_header_fields_are_recorded_without_credentials(sentinel, origin):
    answer = response(b'ok', fields=[('Set-Cookie', 'SECRET'), ('X-Cache', 'hit'),
                                     ('X-Cache', 'far')])
    proxy = sentinel(origin([read_request, answer]), observability=access_log(
        'request-header "User-Agent" "Authorization" "X-Api-Key" "Absent"\n'
        'response-header "X-Cache" "Set-Cookie"; redact-header "X-Api-Key"'))
    proxy.request('/', fields=[('User-Agent', 'a "b"'), ('Authorization', 'SECRET'),
                               ('X-Api-Key', 'SECRET')])
    proxy.request('/..', fields=[('User-Agent', 'x')])
    records = proxy.log_records(2)
    assert records[0]['request_headers'] == {
        'User-Agent': 'a "b"', 'Authorization': '[redacted]', 'X-Api-Key': '[redacted]',
        'Absent': None}
    assert records[0]['response_headers'] == {'X-Cache': 'hit, far', 'Set-Cookie': '[redacted]'}
    assert records[1]['response_headers'] == {'X-Cache': None, 'Set-Cookie': None}
    assert 'SECRET' not in '\n'.join(proxy.lines)
    assert all(json.loads(line) for line in proxy.lines)
