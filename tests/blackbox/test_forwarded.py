"""Where a request came from, in Forwarded (RFC 7239) and X-Forwarded-*: what upstreams are told, and
which word of a trusted proxy counts."""
import pytest

from harness.waiting import wait_for

TRUST = 'trusted-proxies "127.0.0.0/8" "10.0.0.0/8" "2001:db8::/32"'
PLAIN = ('X-Forwarded-For', 'X-Forwarded-Proto', 'X-Forwarded-Host', 'X-Real-IP')


def fields_of(answer, name):
    """The values of a field as the echo origin received it."""
    return [value for key, value in answer.json()['fields'] if key.lower() == name.lower()]


def client_of(proxy, fields, **options):
    """The client that the log names for a request with these fields."""
    answer = proxy.request(fields=fields, **options)
    assert answer.status == 200
    name, = fields_of(answer, 'X-Request-Id')
    record, = wait_for(lambda: [record for record in proxy.records()
                                if record['request_id'] == name], what='its record')
    return record['client'], answer


@pytest.fixture
def listening(sentinel, echo):
    """A proxy whose listener has this line."""
    return lambda line: sentinel(echo, listener=line)


def test_the_key_says_in_which_fields_upstreams_are_told(sentinel, echo):
    answers = {kind: sentinel(echo, listener=f'forwarded "{kind}"').request(host='shop.example:81')
               for kind in ('x-forwarded', 'forwarded', 'both')}
    answers['unset'] = sentinel(echo).request(host='shop.example:81')
    ours = ['for=127.0.0.1;host="shop.example:81";proto=http;by=_http']
    for kind in ('unset', 'x-forwarded'):
        assert fields_of(answers[kind], 'Forwarded') == []
    for kind in ('forwarded', 'both'):
        assert fields_of(answers[kind], 'Forwarded') == ours
    for kind in ('unset', 'x-forwarded', 'both'):
        assert fields_of(answers[kind], 'X-Forwarded-For') == ['127.0.0.1']
        assert fields_of(answers[kind], 'X-Real-IP') == ['127.0.0.1']
        assert fields_of(answers[kind], 'X-Forwarded-Host') == ['shop.example:81']
    assert [fields_of(answers['forwarded'], name) for name in PLAIN] == [[], [], [], []]
    assert all(fields_of(answer, 'X-Request-Id') for answer in answers.values())


def test_nothing_of_a_stranger_is_repeated(listening):
    for kind in ('x-forwarded', 'forwarded', 'both'):
        proxy = listening(f'forwarded "{kind}"')
        client, answer = client_of(proxy, [('Forwarded', 'for=6.6.6.6;proto=https;host=evil'),
                                           ('X-Forwarded-For', '6.6.6.6'),
                                           ('X-Forwarded-Proto', 'https')])
        assert client == '127.0.0.1'
        told = [value for name in (*PLAIN, 'Forwarded') for value in fields_of(answer, name)]
        assert told and not any('6.6.6.6' in value or 'evil' in value or 'https' in value
                                for value in told)


@pytest.mark.parametrize('kind', ['x-forwarded', 'forwarded', 'both'])
@pytest.mark.parametrize('line, client', [
    ('for=203.0.113.7', '203.0.113.7'),
    ('for=6.6.6.6, for=203.0.113.7;proto=https, For="10.1.1.1:4711"', '203.0.113.7'),
    ('for=6.6.6.6;by=_x;for="[2001:db9::5]:80"', '127.0.0.1'),
    ('for=6.6.6.6, for="[2001:db9::5]:80", for="[2001:db8::1]"', '2001:db9::5'),
    ('for=10.1.1.1, for=10.2.2.2', '10.1.1.1'),
    ('for=203.0.113.7, for=unknown, for=10.2.2.2', '10.2.2.2'),
    ('for=203.0.113.7, for=_hidden', '127.0.0.1'),
    ('for="203.0.113.7\\", for=6.6.6.6, for="', '127.0.0.1'),
    ('for=203.0.113.7, what is this', '127.0.0.1'),
    ('', '127.0.0.1'),
])
def test_a_trusted_proxys_forwarded_is_read_from_right_to_left(listening, kind, line, client):
    proxy = listening(f'{TRUST}; forwarded "{kind}"')
    assert client_of(proxy, [('Forwarded', line)])[0] == client


def test_several_lines_are_one_chain(listening):
    proxy = listening(TRUST)
    lines = [('Forwarded', 'for=6.6.6.6'), ('Forwarded', 'for=203.0.113.7'),
             ('Forwarded', 'for=10.1.1.1')]
    assert client_of(proxy, lines)[0] == '203.0.113.7'
    lines[1] = ('Forwarded', 'malformed')
    assert client_of(proxy, lines)[0] == '10.1.1.1'


def test_a_chain_goes_on_with_the_peer_behind_it(listening):
    proxy = listening(f'{TRUST}; forwarded "forwarded"')
    answer = proxy.request(fields=[('Forwarded', 'for=203.0.113.7;proto=https;x="a,b"'),
                                   ('Forwarded', 'broken'), ('Forwarded', 'for=10.1.1.1')])
    assert fields_of(answer, 'Forwarded') == [
        'for=203.0.113.7;proto=https;x="a,b", for=10.1.1.1, '
        'for=127.0.0.1;host=example.test;proto=http;by=_http']


def test_a_chain_in_forwarded_becomes_one_in_x_forwarded_for(listening):
    proxy = listening(TRUST)
    line = 'for=6.6.6.6;host=evil, for="[2001:db9::5]:80";proto=https;host=shop.example, for=10.1.1.1'
    answer = proxy.request(fields=[('Forwarded', line)])
    assert fields_of(answer, 'Forwarded') == []
    assert fields_of(answer, 'X-Forwarded-For') == ['2001:db9::5, 10.1.1.1, 127.0.0.1']
    assert fields_of(answer, 'X-Forwarded-Proto') == ['https']
    assert fields_of(answer, 'X-Forwarded-Host') == ['shop.example']
    assert fields_of(answer, 'X-Real-IP') == ['2001:db9::5']


def test_a_chain_in_x_forwarded_for_becomes_one_in_forwarded(listening):
    proxy = listening(f'{TRUST}; forwarded "forwarded"')
    client, answer = client_of(proxy, [('X-Forwarded-For', '6.6.6.6, 2001:db9::5'),
                                       ('X-Forwarded-For', '10.1.1.1:99'),
                                       ('X-Forwarded-Host', 'a b'),
                                       ('X-Forwarded-Proto', 'https')])
    assert client == '2001:db9::5'
    assert fields_of(answer, 'Forwarded') == [
        'for="[2001:db9::5]";host="a b";proto=https, for=10.1.1.1, '
        'for=127.0.0.1;host=example.test;proto=http;by=_http']
    assert fields_of(answer, 'X-Forwarded-For') == []


def test_the_kind_that_is_spoken_counts_before_the_other(listening):
    fields = [('Forwarded', 'for=203.0.113.1'), ('X-Forwarded-For', '203.0.113.2')]
    assert client_of(listening(TRUST), fields)[0] == '203.0.113.2'
    assert client_of(listening(f'{TRUST}; forwarded "forwarded"'), fields)[0] == '203.0.113.1'


def test_two_chains_that_disagree_are_not_believed(listening):
    proxy = listening(f'{TRUST}; forwarded "both"')
    client, answer = client_of(proxy, [('Forwarded', 'for=203.0.113.1;proto=https'),
                                       ('X-Forwarded-For', '203.0.113.2'),
                                       ('X-Forwarded-Proto', 'https')])
    assert client == '127.0.0.1'
    assert fields_of(answer, 'X-Forwarded-For') == ['127.0.0.1']
    assert fields_of(answer, 'X-Forwarded-Proto') == ['http']
    assert fields_of(answer, 'Forwarded') == [
        'for=127.0.0.1;host=example.test;proto=http;by=_http']


def test_two_chains_that_agree_both_go_on(listening):
    proxy = listening(f'{TRUST}; forwarded "both"')
    client, answer = client_of(proxy, [
        ('Forwarded', 'for=6.6.6.6, for=203.0.113.1;proto=https, for="10.1.1.1:1"'),
        ('X-Forwarded-For', '203.0.113.1'), ('X-Forwarded-Proto', 'https')])
    assert client == '203.0.113.1'
    assert fields_of(answer, 'X-Forwarded-For') == ['203.0.113.1, 127.0.0.1']
    assert fields_of(answer, 'X-Forwarded-Proto') == ['https']
    assert fields_of(answer, 'Forwarded') == [
        'for=6.6.6.6, for=203.0.113.1;proto=https, for="10.1.1.1:1", '
        'for=127.0.0.1;host=example.test;proto=http;by=_http']


def test_the_longest_chain_that_fits_a_head_is_borne(listening):
    """What becomes longer on its way than a head may be is refused, and nothing breaks."""
    proxy = listening(f'{TRUST}; forwarded "both"')
    for size in (700, 1700):
        answer = proxy.request(fields=[('X-Forwarded-For', '10.1.1.1,' * 100 + '::1,' * size)])
        assert answer.status == 200 and fields_of(answer, 'Forwarded')[0].count('for=') == 1
        chain = ','.join(['2001:db8::1'] * (size // 4))
        answer = proxy.request(fields=[('X-Forwarded-For', chain)])
        assert answer.status == 200 if size == 700 else answer.status in (200, 431)
    assert proxy.request().status == 200


@pytest.mark.parametrize('name, mark', [('X-Forwarded-Host', '"'), ('X-Forwarded-Host', '\\'),
                                        ('X-Forwarded-Proto', '"')])
def test_what_no_host_or_scheme_can_be_is_told_nobody_however_long(listening, name, mark):
    """Escapes would double it, beyond what was reserved for the longest chain."""
    proxy = listening(f'{TRUST}; forwarded "both"')
    for size in (1, 1000, 5000):
        answer = proxy.request(fields=[('X-Forwarded-For', '203.0.113.1'), (name, mark * size)])
        assert fields_of(answer, 'Forwarded') == [
            'for=203.0.113.1, for=127.0.0.1;host=example.test;proto=http;by=_http']
