#!/usr/bin/python3
"""A small origin to stand behind Sentinel: `tools/demo_origin.py [PORT]`. Standard library only.

GET /health   "ok"
GET /slow     "patience" after one second
GET /stream   ten lines, a tenth of a second apart, chunked
anything else the request as it arrived, as text; bodies are counted, up to 1 MiB
"""
import http.server
import sys
import threading
import time

PORT = 8081
CONNECTIONS_MAX = 256
BODY_MAX = 1 << 20
IDLE_SECONDS = 30


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server_version = 'demo-origin'
    sys_version = ''
    timeout = IDLE_SECONDS
    # Head and body leave in one segment.
    wbufsize = -1
    disable_nagle_algorithm = True

    def answer(self):
        body = self.read_body()
        if body is None:
            self.close_connection = True
            self.send_text(413, 'more than this demo takes\n')
        elif self.path == '/health':
            self.send_text(200, 'ok\n')
        elif self.path == '/slow':
            time.sleep(1)
            self.send_text(200, 'patience\n')
        elif self.path == '/stream':
            self.send_lines()
        else:
            fields = ''.join(f'  {name}: {value}\n' for name, value in self.headers.items())
            self.send_text(200, f'The origin saw\n\n  {self.requestline}\n{fields}\n'
                                f'and {len(body)} bytes of body.\n')

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def read_body(self):
        """The body, or None if it is longer than BODY_MAX."""
        if self.headers.get('Transfer-Encoding', '').lower() == 'chunked':
            return self.read_chunks()
        length = int(self.headers.get('Content-Length', '0'))
        return self.rfile.read(length) if length <= BODY_MAX else None

    def read_chunks(self):
        body = b''
        while True:
            size = int(self.rfile.readline(128).split(b';')[0], 16)
            if size == 0:
                break
            if len(body) + size > BODY_MAX:
                return None
            body += self.rfile.read(size)
            self.rfile.readline(8)
        while self.rfile.readline(8192) not in (b'\r\n', b''):
            pass
        return body

    def send_text(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header('Content-Type', 'text/plain')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def send_lines(self):
        self.send_response(200)
        self.send_header('Content-Type', 'text/plain')
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        if self.command == 'HEAD':
            return
        for number in range(10):
            line = f'line {number}\n'.encode()
            self.wfile.write(b'%x\r\n%s\r\n' % (len(line), line))
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(b'0\r\n\r\n')

    def log_message(self, *_):
        """Sentinel's access log is what the demo shows."""


class Origin(http.server.ThreadingHTTPServer):
    """One daemon thread for each connection, up to CONNECTIONS_MAX; more are closed at once."""
    request_queue_size = 128

    def __init__(self, port):
        super().__init__(('127.0.0.1', port), Handler)
        self.room = threading.BoundedSemaphore(CONNECTIONS_MAX)

    def process_request(self, request, client_address):
        if self.room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request, client_address):
        """A client that left is nothing to report."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


if __name__ == '__main__':
    try:
        Origin(int(sys.argv[1]) if len(sys.argv) > 1 else PORT).serve_forever()
    except KeyboardInterrupt:
        pass
