"""The soak's upstream: answers well, or badly on request. origin.py PORT TLS_PORT CERTIFICATE KEY

The first segment of the path says what happens: /small, /large/BYTES, /upload, /chunked, and the
faults /reset, /truncated, /broken (a chunk that is none), /silent (closes without a word).
"""
import asyncio
import resource
import socket
import ssl
import struct
import sys

BLOCK = bytes(range(256)) * 256
WAYS = (b'slow', b'aborted', b'tls', b'h2', b'sealed')  # by which it came: no matter here
SMALL = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nsmall body\n'


def reset(writer):
    writer.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                               struct.pack('ii', 1, 0))
    writer.transport.abort()


async def read_body(reader, head):
    """The request's body, forgotten; its size."""
    size = 0
    lines = head.lower().split(b'\r\n')
    lengths = [int(line[15:]) for line in lines if line.startswith(b'content-length:')]
    if lengths:
        while size < lengths[0]:
            piece = await reader.read(min(65536, lengths[0] - size))
            if not piece:
                raise EOFError
            size += len(piece)
    elif b'transfer-encoding: chunked' in lines:
        while True:
            length = int((await reader.readuntil(b'\r\n')).split(b';')[0], 16)
            await reader.readexactly(length + 2)
            size += length
            if length == 0:
                break
    return size


async def send_large(writer, size):
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % size)
    while size > 0:
        writer.write(BLOCK[:min(size, len(BLOCK))])
        size -= min(size, len(BLOCK))
        await writer.drain()


async def send_chunked(writer):
    writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Server-Timing\r\n\r\n')
    for n in range(8):
        writer.write(b'%x\r\n%s\r\n' % (1000 + n, BLOCK[:1000 + n]))
        await writer.drain()
    writer.write(b'0\r\nServer-Timing: total;dur=1\r\n\r\n')


async def answer(reader, writer, head):
    """False when the connection ends with it."""
    parts = head.split(b' ')[1].strip(b'/').split(b'/')
    kind, *rest = parts[1:] if parts[0] in WAYS else parts
    if kind in (b'reset', b'silent'):
        reset(writer) if kind == b'reset' else writer.close()
        return False
    size = await read_body(reader, head)
    if kind == b'large':
        await send_large(writer, int(rest[0]))
    elif kind == b'chunked':
        await send_chunked(writer)
    elif kind == b'upload':
        text = b'%d\n' % size
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s' % (len(text), text))
    elif kind == b'truncated':
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n' + BLOCK[:20000])
        await writer.drain()
        writer.close()
        return False
    elif kind == b'broken':
        writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\nwords\r\n')
        await writer.drain()
        writer.close()
        return False
    else:
        writer.write(SMALL)
    await writer.drain()
    return True


async def serve(reader, writer):
    try:
        while await answer(reader, writer, await reader.readuntil(b'\r\n\r\n')):
            pass
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def main(port, tls_port, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(['http/1.1'])
    servers = [await asyncio.start_server(serve, '127.0.0.1', number, backlog=4096,
                                          limit=256 * 1024, ssl=secured)
               for number, secured in ((port, None), (tls_port, context))]
    print('ready', flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == '__main__':
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
