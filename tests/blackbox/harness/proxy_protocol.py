"""The PROXY protocol, versions 1 and 2: headers as bytes, and an origin that wants one."""
import ipaddress
import struct

from .origins import EchoOrigin

SIGNATURE = b'\r\n\r\n\0\r\nQUIT\n'
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, TCP6, UNIX = 0x00, 0x11, 0x21, 0x31


def v1(source='203.0.113.7', destination='198.51.100.1', ports=(4711, 443)):
    family = 'TCP6' if ':' in source else 'TCP4'
    return f'PROXY {family} {source} {destination} {ports[0]} {ports[1]}\r\n'.encode()


def v2(source='203.0.113.7', destination='198.51.100.1', ports=(4711, 443), tlvs=b''):
    packed = [ipaddress.ip_address(text).packed for text in (source, destination)]
    body = b''.join(packed) + struct.pack('!HH', *ports) + tlvs
    return header(PROXY, TCP6 if ':' in source else TCP4, body)


def header(command, protocol, body=b''):
    return SIGNATURE + struct.pack('!BBH', command, protocol, len(body)) + body


def tlv(kind, value):
    return struct.pack('!BH', kind, len(value)) + value


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def with_checksum(head):
    """The header of version 2 with one more TLV, its checksum."""
    length, = struct.unpack('!H', head[14:16])
    longer = head[:14] + struct.pack('!H', length + 7) + head[16:] + tlv(3, bytes(4))
    return longer[:-4] + struct.pack('!I', crc32c(longer))


def receive(sock, size):
    """Exactly so many bytes."""
    data = b''
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f'the header was cut off: {data!r}'
        data += piece
    return data


def read(sock):
    """Takes a header off a socket and not a byte more: (version, source, destination), each
    address a text with its port, or None."""
    data = receive(sock, 6)
    if data == b'PROXY ':
        while not data.endswith(b'\r\n'):
            data += receive(sock, 1)
        words = data.decode().split()
        if words[1] == 'UNKNOWN':
            return 1, None, None
        assert words[1] in ('TCP4', 'TCP6') and len(words) == 6, data
        return 1, f'{words[2]} {words[4]}', f'{words[3]} {words[5]}'
    data += receive(sock, 10)
    assert data.startswith(SIGNATURE), data
    command, protocol, size = struct.unpack('!BBH', data[12:])
    body = receive(sock, size)
    if command == LOCAL:
        return 2, None, None
    assert command == PROXY and protocol in (TCP4, TCP6), data
    width = 4 if protocol == TCP4 else 16
    source, destination = (ipaddress.ip_address(body[i * width:(i + 1) * width]) for i in (0, 1))
    ports = struct.unpack('!HH', body[2 * width:2 * width + 4])
    return 2, f'{source} {ports[0]}', f'{destination} {ports[1]}'


class ProxiedOrigin(EchoOrigin):
    """An echo origin whose connections begin with a header; then TLS, where there is a context."""

    def __init__(self, context=None, **options):
        self.headers = []  # by connection, of those that have said something else besides
        self.context = context
        super().__init__(**options)

    def run(self, wire):
        try:
            told = read(wire.sock)
            if self.context:
                wire.sock = self.context.wrap_socket(wire.sock, server_side=True)
        except (OSError, AssertionError) as error:
            self.errors.append(error)
            wire.close()
            return
        self.headers.append(told)
        super().run(wire)


def own(sock):
    """The name of a socket's own end as `read` gives it."""
    host, port = sock.getsockname()[:2]
    return f'{host} {port}'


def peer(sock):
    host, port = sock.getpeername()[:2]
    return f'{host} {port}'

