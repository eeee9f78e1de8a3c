"""What stands behind the Sentinel of tests/clients/run.py: a page, an echo of WebSocket, a gRPC service."""
import asyncio
import http.server
import json
import sys
import threading
from pathlib import Path

import websockets

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'blackbox'))

from harness.certificates import Authority  # noqa: E402
from harness.grpcs import Service  # noqa: E402
from harness.proxy import Plan, Sentinel, block  # noqa: E402

NAME = 'a.example'
PARTS = 40
CALLS = 64  # that the service answers at once
LARGEST = 1 << 24

# Echoes a text, a binary of every byte value and a large one, then tells what came of it.
SOCKETS = '''<!DOCTYPE html><title>sockets</title><script>
const report = {page: performance.getEntriesByType("navigation")[0].nextHopProtocol, echoed: 0};
const tell = (error) => { report.error = error; fetch("/report", {method: "POST", body: JSON.stringify(report)}); };
const large = new Uint8Array(1 << 20).map((_, at) => at * 31 >> 3);
const messages = ["hello", "gr\\u00fc\\u00df dich", Uint8Array.from({length: 256}, (_, at) => at), large];
const socket = new WebSocket("wss://" + location.host + "/echo");
socket.binaryType = "arraybuffer";
const equal = (sent, got) => typeof sent === "string" ? sent === got
    : got.byteLength === sent.length && new Uint8Array(got).every((byte, at) => byte === sent[at]);
const next = () => report.echoed < messages.length ? socket.send(messages[report.echoed]) : socket.close(4001, "enough");
socket.onopen = next;
socket.onmessage = (event) => {
    if (!equal(messages[report.echoed], event.data)) { tell("message " + report.echoed + " came back altered"); return; }
    report.echoed += 1;
    next();
};
socket.onerror = () => { report.failed = true; };
socket.onclose = (event) => { report.code = event.code; tell(report.failed ? "an error event" : null); };
</script>'''


def parts_page():
    """PARTS scripts, each of which counts itself."""
    parts = ''.join(f'<script src="/part/{n}.js"></script>' for n in range(PARTS))
    return ('<!DOCTYPE html><title>page</title><p id="seen"></p><script>var seen = 0;'
            f'</script>{parts}<script>document.getElementById("seen").textContent = '
            f'"seen " + seen + " of {PARTS}, by " + '
            'performance.getEntriesByType("navigation")[0].nextHopProtocol;</script>')


class Page(http.server.BaseHTTPRequestHandler):
    """The pages, their parts, and what they report."""
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        pages = {'/': parts_page(), '/sockets': SOCKETS}
        if self.path in pages:
            self.answer('text/html; charset=utf-8', pages[self.path])
        else:
            self.answer('text/javascript', 'seen += 1;' + ' ' * 20000)

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        self.server.reports.append(json.loads(body))
        self.server.reported.set()
        self.answer('text/plain', 'thanks')

    def answer(self, kind, body):
        data = body.encode()
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(data)))
        # The pages' scripts stand in them.
        self.send_header('Content-Security-Policy', "default-src 'self' 'unsafe-inline'")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class PageOrigin:
    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Page)
        self.server.reports, self.server.reported = [], threading.Event()
        self.address = f'127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def report(self, seconds):
        """What a page has told; None: nothing in time."""
        return self.server.reports[0] if self.server.reported.wait(seconds) else None

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class WebSocketOrigin:
    """python3-websockets, which sends back each message."""

    def __init__(self):
        started = threading.Event()

        async def mirror(peer):
            try:
                async for message in peer:
                    await peer.send(message)
            except websockets.ConnectionClosed:
                pass  # with another code than 1000

        async def serve():
            self.over, self.loop = asyncio.Event(), asyncio.get_running_loop()
            async with websockets.serve(mirror, '127.0.0.1', 0, max_size=LARGEST) as server:
                self.address = '127.0.0.1:%d' % server.sockets[0].getsockname()[1]
                started.set()
                await self.over.wait()
        self.thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        self.thread.start()
        assert started.wait(10)

    def stop(self):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(10)


ROUTES = '''route "echo" {
    match path-prefix="/echo"
    upstream "sockets"
    upgrade "websocket"
}
route "calls" {
    match path-prefix="/shop.Test"
    upstream "service"
}
route "pages" {
    match path-prefix="/"
    upstream "backend"
    security-headers {
        upstream-wins true
    }
}
'''


class World:
    """All three, a Sentinel with TLS before them, and its authority; stop() ends them."""

    def __init__(self, folder, tls=''):
        self.folder = folder
        self.authority = Authority(folder / 'pki')
        self.authority.issue('a', NAME, days=90)
        self.authority.issue('rsa', NAME, days=90, key_kind='rsa')
        self.page, self.sockets, self.service = PageOrigin(), WebSocketOrigin(), Service(workers=CALLS)
        shown = ''.join(f'certificate "{self.authority.folder}/{name}.pem" '
                        f'key="{self.authority.folder}/{name}.key"\n' for name in ('a', 'rsa'))
        extra = (block('upstream "sockets"', f'target "{self.sockets.address}"')
                 + block('upstream "service"', f'target "{self.service.address}"\nprotocol "grpc"'))
        self.proxy = Sentinel(folder, Plan([self.page], routes=ROUTES, extra=extra,
                                           listener=f'protocol "https"\nhsts\n'
                                                    + block('tls', shown + tls)))

    def stop(self):
        self.proxy.stop()
        for origin in (self.page, self.sockets, self.service):
            origin.stop()
