"""Errors that Sentinel makes itself: in the form the client likes best, and never a way in."""
import base64
import hashlib
import html.parser
import re
import signal

from harness.checks import get, head
from harness.origins import hold, read_request
from harness.processes import of_role
from harness.waiting import wait_for
from harness.wire import request_bytes

BROWSER = ('text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8')
TYPES = {'json': 'application/json', 'text': 'text/plain; charset=utf-8',
         'html': 'text/html; charset=utf-8'}
NOTHING = 'route "a" {\n    match path="/a"\n    respond 200\n}\n'
HOSTILE = '"><script>alert(1)</script>'


def accepting(*values):
    return [('Accept', value) for value in values]


def form_of(answer):
    """The form of an error of ours, after looking at what all forms have in common."""
    forms = {content_type: form for form, content_type in TYPES.items()}
    assert answer.get('Vary') == 'Accept'
    assert answer.get('Cache-Control') == 'no-store'
    assert re.fullmatch(r'sentinel; error=[a-z_]+; details="[a-z_]+"', answer.get('Proxy-Status'))
    assert re.fullmatch(r'[\w.-]{1,64}', answer.get('X-Request-Id'))
    assert int(answer.get('Content-Length')) == len(answer.body) and not answer.truncated
    return forms[answer.get('Content-Type')]


class Page(html.parser.HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_the_form_follows_accept(sentinel):
    proxy = sentinel(routes=NOTHING)
    for accept, form in (([], 'json'), (['*/*'], 'json'), ([BROWSER], 'html'),
                         (['text/plain'], 'text'), (['text/*;q=0.5, application/json'], 'json'),
                         (['application/json;q=0.1', 'text/html;q=0.2'], 'html'),
                         (['image/png'], 'json'), (['*/*;q=0'], 'json'), ([''], 'json'),
                         (['text/html;level=1;q=0.1, text/html, */*;q=0.9'], 'html'),
                         (['TEXT/HTML'], 'html'), (['text/html, */*'], 'html')):
        answer = proxy.request('/b', fields=accepting(*accept))
        assert (answer.status, form_of(answer)) == (404, form), accept


def test_each_form_tells_the_same(sentinel):
    proxy = sentinel(routes=NOTHING)
    expected = {'status': 404, 'reason': 'no_route', 'message': 'no route matches the request'}
    answer = proxy.request('/b')
    assert answer.json() == expected | {'request_id': answer.get('X-Request-Id')}
    answer = proxy.request('/b', fields=accepting('text/plain'))
    assert answer.body.decode() == ('404 Not Found: no route matches the request\n\n'
                                    'reason: no_route\n'
                                    f'request id: {answer.get("X-Request-Id")}\n')
    answer = proxy.request('/b', fields=accepting('text/html'))
    page = Page(answer.body.decode())
    for text in ('404 Not Found', '404', 'Not Found', 'no route matches the request.', 'no_route',
                 answer.get('X-Request-Id')):
        assert text in page.texts
    ids = [record['request_id'] for record in proxy.log_records(3)]
    assert ids[2] == answer.get('X-Request-Id')


def test_the_page_is_closed_to_everything_but_its_own_style(sentinel):
    extra = NOTHING.replace('respond', 'security-headers {\n        set "Content-Security-Policy" '
                            '"default-src \'self\'"\n    }\n    respond')
    answer = sentinel(routes=NOTHING).request('/b', fields=accepting('text/html'))
    text = answer.body.decode()
    style = re.search('<style>(.*)</style>', text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = [part.strip() for part in answer.get('Content-Security-Policy').split(';')]
    assert policy == ["default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'",
                      "form-action 'none'", "frame-ancestors 'none'"]
    tags = Page(text).tags
    assert {tag for tag, _ in tags} <= {'html', 'head', 'meta', 'style', 'title', 'body', 'main',
                                        'h1', 'span', 'p', 'dl', 'dt', 'dd'}
    names = {name for _, attributes in tags for name in attributes}
    assert names <= {'lang', 'charset', 'name', 'content'}
    assert answer.get('X-Content-Type-Options') == 'nosniff'
    # A policy of the route's gives way to the page's own; for other forms it stands.
    proxy = sentinel(routes=extra.replace('path="/a"', 'path-prefix="/"').replace(
        'respond 200', 'upstream "gone"'), extra='upstream "gone" {\n    target "127.0.0.1:9"\n}\n')
    answer = proxy.request(fields=accepting('text/html'))
    assert answer.get('Content-Security-Policy').startswith("default-src 'none'")
    assert proxy.request().get('Content-Security-Policy') == "default-src 'self'"


def test_head_and_old_versions(sentinel):
    proxy = sentinel(routes=NOTHING)
    whole = proxy.request('/b', fields=accepting('text/html'))
    with proxy.connect() as client:
        for _ in range(2):
            client.send(request_bytes('/b', 'HEAD', accepting('text/html')))
            answer = client.read_response('HEAD')
            assert answer.get('Content-Type') == TYPES['html']
            assert answer.get('Content-Length') == whole.get('Content-Length')
        client.send(request_bytes('/b'))  # what follows is the next answer, not a body
        assert client.read_response().json()['reason'] == 'no_route'
    with proxy.connect() as client:
        client.send(request_bytes('/b', version='HTTP/1.0', fields=accepting('text/html')))
        assert form_of(client.read_response()) == 'html'
        assert client.ended()


def test_refused_heads_are_answered_in_the_same_forms(sentinel, echo):
    """As far as Accept came before what was wrong: nothing else of such a head is believed."""
    limits = 'head-size "2KiB"\nrequest-line "1KiB"\nheader-fields 10'
    proxy = sentinel(echo, limits=limits, timeouts='request-head 300ms',
                     listener='trusted-proxies "127.0.0.0/8"')
    accept = f'Accept: {BROWSER}'
    cases = [
        (431, get('/shop', accept, 'Cookie: ' + 'a' * 3000), 'html'),
        (431, get('/shop', accept, *[f'X{number}: a' for number in range(10)]), 'html'),
        (400, get('/shop', accept, 'No colon'), 'html'),
        (400, get('/..', accept), 'html'),
        (408, get('/shop', accept)[:-2], 'html'),
        (414, b'GET /' + b'a' * 1500, 'json'),
        (400, get('/shop', 'No colon', accept), 'json'),
    ]
    for number, (status, data, form) in enumerate(cases, 1):
        with proxy.connect() as client:
            client.send(data.replace(b'Host: example.test\r\n',
                                     b'Host: example.test\r\nX-Request-Id: theirs\r\n'))
            answer = client.read_response()
            assert (answer.status, form_of(answer)) == (status, form), data[:80]
            assert answer.get('Connection') == 'close' and client.ended()
        record = proxy.log_records(number)[-1]
        assert record['method'] == 'GET' and record['path'].startswith('/')
        assert record['request_id'] != 'theirs'
    assert echo.requests == []


def test_a_refused_head_request_gets_no_body(sentinel, echo):
    proxy = sentinel(echo, limits='head-size "1KiB"\nrequest-line "1KiB"')
    with proxy.connect() as client:
        client.send(head('HEAD / HTTP/1.1', 'Host: a', 'Cookie: ' + 'a' * 2000))
        assert client.read_response('HEAD').status == 431
        assert client.ended() and client.buffer == b''


def test_whoever_is_turned_away_at_the_door_is_told_so(sentinel, echo):
    proxy = sentinel(echo, limits='connections-per-client 1')
    with proxy.connect(source='127.0.0.5') as first:
        first.send(request_bytes())
        assert first.read_response().status == 200
        with proxy.connect(source='127.0.0.5') as client:
            answer = client.read_response()
            assert (answer.status, form_of(answer)) == (429, 'json')
            assert client.ended()


def test_retry_after_comes_with_what_passes_by_itself(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, limits='max-requests 1')
    seen = set()
    with proxy.connect() as busy:
        busy.send(request_bytes())
        server.wait_requests(1)
        for _ in range(40):
            answer = proxy.request()
            assert answer.status == 503
            seen.add(int(answer.get('Retry-After')))
    assert seen <= set(range(1, 6)) and len(seen) > 1, 'all would come back at once'
    assert not sentinel(routes=NOTHING).request('/b').has('Retry-After')


def test_the_end_of_the_grace_time_is_told(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, server='graceful-shutdown-timeout 300ms')
    with proxy.connect() as client:
        client.send(request_bytes('/', fields=accepting('text/html')))
        server.wait_requests(1)
        proxy.signal(signal.SIGTERM)
        answer = client.read_response()
        assert (answer.status, form_of(answer)) == (503, 'html')
        assert answer.has('Retry-After') and answer.get('Connection') == 'close'
        assert client.ended()
    assert proxy.wait() == 0
    assert proxy.logged('draining')['status'] == 503


def test_nothing_that_a_client_sends_is_reflected(sentinel):
    proxy = sentinel(routes=NOTHING, listener='trusted-proxies "127.0.0.9/32"')
    fields = [(name, HOSTILE) for name in ('X-Request-Id', 'User-Agent', 'Referer', 'Cookie',
                                           'X-Forwarded-For', 'X-Forwarded-Host')]
    for source in ('127.0.0.1', '127.0.0.9'):
        for accept in ('text/html', 'application/json', 'text/plain'):
            answer = proxy.request('/b?q=alert(1)', 'ALERT', [*fields, ('Accept', accept)],
                                   host='alert.test', source=source)
            assert answer.status == 404
            assert b'alert' not in (answer.raw + answer.body).lower()
    for source, kept in (('127.0.0.1', False), ('127.0.0.9', True)):
        answer = proxy.request('/b', fields=[('X-Request-Id', 'mine.1'), ('Accept', 'text/html')],
                               source=source)
        assert (answer.get('X-Request-Id') == 'mine.1') == kept
        assert (b'mine.1' in answer.body) == kept
    assert proxy.request('/b', fields=[('X-Request-Id', 'a' * 65)],
                         source='127.0.0.9').get('X-Request-Id') != 'a' * 65


def test_no_accept_can_fail_a_request(sentinel, echo):
    proxy = sentinel(echo, limits='head-size "32KiB"')
    size = 30000
    for accept in ('"' + '\\"' * (size // 2), ',' * size, ';' * size, '*/*,' * (size // 4),
                   'text/html;q=' + '9' * size, 'a/b;c="' * (size // 7), 'text/html;' * (size // 10),
                   '\xff\xfe\x80', '\t \t', '*', '/', 'q=1', 'text/html;q=0.5' * 1000):
        fields = accepting(accept)
        assert proxy.request('/ok', fields=fields).status == 200, accept[:50]
        answer = proxy.request('/..', fields=fields)
        assert (answer.status, form_of(answer)) == (400, 'json'), accept[:50]
    many = accepting(*['text/html;q=0.1'] * 90)
    assert proxy.request('/ok', fields=many).status == 200
    for control in (b'\x00', b'\x01', b'\x7f', b'\x1b[31m'):
        with proxy.connect() as client:
            client.send(b'GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html' + control + b'\r\n\r\n')
            answer = client.read_response()
            assert (answer.status, form_of(answer)) == (400, 'json')


def resident(proxy):
    """Resident memory of the worker in KiB."""
    worker, = of_role(proxy, 'worker')
    with open(f'/proc/{worker}/status') as file:
        return int(re.search(r'VmRSS:\s+(\d+)', file.read())[1])


def storm(proxy, count):
    """So many errors, pipelined on one connection after the other, a third in each form."""
    accepts = ['text/html', 'text/plain', 'application/json']
    batch = b''.join(request_bytes('/b', fields=accepting(accept)) for accept in accepts) * 20
    for _ in range(count // 60):
        with proxy.connect() as client:
            client.send(batch)
            for number in range(60):
                answer = client.read_response()
                assert (answer.status, form_of(answer)) == (404, ['html', 'text', 'json'][number % 3])


def test_a_storm_of_errors_leaves_nothing_behind(sentinel):
    proxy = sentinel(routes=NOTHING)
    storm(proxy, 1200)
    before = resident(proxy)
    storm(proxy, 4800)
    assert resident(proxy) < before + 2048
    wait_for(lambda: proxy.metric('sentinel_failures_total', reason='no_route') == 6000, 10,
             'all of them to be counted')
    wait_for(lambda: proxy.metric('sentinel_requests_in_flight') == 0, 10, 'the end of all')
    assert proxy.metric('sentinel_buffers_in_use') == 0


class DeafReader:
    """Asks for error pages as fast as it may, and reads none of them."""

    def __init__(self, proxy):
        self.wire = proxy.connect(receive_buffer=2048)
        self.wire.sock.setblocking(False)
        self.batch = request_bytes('/b', fields=accepting('text/html')) * 100
        self.rest = b''

    def ask(self):
        self.rest = self.rest or self.batch
        try:
            self.rest = self.rest[self.wire.sock.send(self.rest):]
        except (BlockingIOError, ConnectionError):
            pass  # nobody reads it any more: that is what the scenario waits for


def test_a_slow_reader_of_error_pages_is_cut_off_and_hurts_nobody(sentinel):
    proxy = sentinel(routes=NOTHING, timeouts='response-write-idle 700ms',
                     limits='buffer-pool "256KiB"\nrequests-per-connection 1000000')
    readers = [DeafReader(proxy) for _ in range(4)]

    def one_is_cut_off():
        for reader in readers:
            reader.ask()
        assert proxy.request('/a').status == 200  # whoever reads is served all the while
        return proxy.metric('sentinel_failures_total', reason='client_write_timeout') >= 1
    try:
        wait_for(one_is_cut_off, 60, 'a reader that is cut off')
    finally:
        for reader in readers:
            reader.wire.reset()
    wait_for(lambda: proxy.metric('sentinel_buffers_in_use') == 0, 10, 'all buffers back')
    assert proxy.request('/b').json()['reason'] == 'no_route'
