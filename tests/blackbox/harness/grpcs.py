"""A real gRPC service and client, by python3-grpcio: messages are bytes, and nothing is generated."""
import os
import threading
from concurrent import futures

os.environ.setdefault('GRPC_ENABLE_FORK_SUPPORT', '0')  # processes are started beside its threads

import grpc  # noqa: E402

HEALTH = '/grpc.health.v1.Health/Check'
SERVING, NOT_SERVING = 1, 2
OPTIONS = (('grpc.enable_http_proxy', 0), ('grpc.enable_retries', 0),
           ('grpc.use_local_subchannel_pool', 1))


def identity(message):
    return message


class Service(grpc.GenericRpcHandler):
    """The methods below, as /shop.Test/NAME, and health checks.

    A method takes (service, request or iterator, context); what it was called with is in `calls`.
    """

    def __init__(self, targets=('127.0.0.1:0',), credentials=None, workers=8):
        self.health = SERVING     # None: an unknown service
        self.asked = []           # services that health checks named
        self.go_on = threading.Event()
        self.begin_anew()
        self.server = grpc.server(futures.ThreadPoolExecutor(workers), handlers=[self],
                                  options=(('grpc.so_reuseport', 0),))
        self.ports = []
        for target in targets:
            port = (self.server.add_secure_port(target, credentials) if credentials
                    else self.server.add_insecure_port(target))
            self.ports.append(port)
        self.server.start()

    def begin_anew(self):
        """Lets those go that hang, and forgets."""
        self.go_on.set()
        self.calls = []           # (name, {metadata}, seconds left or None)
        self.cancelled = threading.Event()
        self.go_on = threading.Event()

    @property
    def address(self):
        return f'127.0.0.1:{self.ports[0]}'

    def stop(self):
        self.go_on.set()
        self.server.stop(None).wait(10)

    def service(self, details):
        if details.method == HEALTH:
            return grpc.unary_unary_rpc_method_handler(self.check, identity, identity)
        kinds = {'Echo': 'unary_unary', 'Fail': 'unary_unary', 'Refuse': 'unary_unary',
                 'Hang': 'unary_unary', 'Count': 'unary_stream', 'Drip': 'unary_stream',
                 'Sum': 'stream_unary', 'Chat': 'stream_stream', 'Early': 'stream_stream',
                 'Listen': 'stream_stream'}
        name = details.method.rpartition('/')[2]
        if name not in kinds:
            return None
        function = getattr(self, name.lower())

        def call(request, context):
            left = context.time_remaining()
            self.calls.append((name, dict(context.invocation_metadata()), left))
            return function(request, context)
        make = getattr(grpc, f'{kinds[name]}_rpc_method_handler')
        return make(call, identity, identity)

    def check(self, request, context):
        self.asked.append(request[2:].decode())
        if self.health is None:
            context.abort(grpc.StatusCode.NOT_FOUND, 'no such service')
        return bytes([8, self.health])

    @staticmethod
    def echo(request, context):
        context.send_initial_metadata((('x-first', 'one'),))
        context.set_trailing_metadata((('x-last', 'two'), ('x-last', 'three'), ('x-b-bin', b'\0\xff')))
        return request

    @staticmethod
    def fail(request, context):
        context.set_trailing_metadata((('grpc-status-details-bin', b'\x08\x05rich'), ('x-why', 'so')))
        context.abort(grpc.StatusCode.NOT_FOUND, request.decode())

    @staticmethod
    def refuse(_request, context):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, 'no')

    def hang(self, request, context):
        context.add_callback(self.cancelled.set)
        self.go_on.wait(30)
        return request

    @staticmethod
    def count(request, context):
        context.set_trailing_metadata((('x-last', 'counted'),))
        for number in range(int(request)):
            yield b'%d' % number

    def drip(self, request, context):
        context.add_callback(self.cancelled.set)
        yield request
        self.go_on.wait(30)
        yield b'late'

    @staticmethod
    def sum(requests, _context):
        return b'%d' % sum(int(request) for request in requests)

    def chat(self, requests, context):
        context.add_callback(self.cancelled.set)
        for request in requests:
            yield b're: ' + request

    @staticmethod
    def early(_requests, context):
        context.set_trailing_metadata((('x-last', 'early'),))
        yield b'enough'

    @staticmethod
    def listen(requests, _context):
        yield b'go on'
        yield b'%d' % sum(1 for _ in requests)


class Client:
    """A channel of its own to a port; call('Echo', b'..') and the like give grpc's call objects."""

    KINDS = {'Echo': 'unary_unary', 'Fail': 'unary_unary', 'Refuse': 'unary_unary',
             'Hang': 'unary_unary', 'Count': 'unary_stream', 'Drip': 'unary_stream',
             'Sum': 'stream_unary', 'Chat': 'stream_stream', 'Early': 'stream_stream',
             'Listen': 'stream_stream', 'Nothing': 'unary_unary'}

    def __init__(self, port, ca=None, name='shop.test'):
        target = f'127.0.0.1:{port}'
        if ca is None:
            self.channel = grpc.insecure_channel(target, options=OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(ca.read_bytes())
            self.channel = grpc.secure_channel(
                target, credentials, options=OPTIONS + (('grpc.ssl_target_name_override', name),))

    def stop(self):
        self.channel.close()

    def method(self, name, path=None):
        make = getattr(self.channel, self.KINDS[name])
        return make(path or f'/shop.Test/{name}', identity, identity)

    def call(self, name, request=b'', timeout=20, metadata=(), path=None):
        """Begins a call; (answer, call) of one with one answer, else the call itself."""
        method = self.method(name, path)
        if self.KINDS[name] in ('unary_unary', 'stream_unary'):
            return method.with_call(request, timeout=timeout, metadata=metadata)
        return method(request, timeout=timeout, metadata=metadata)

    def fails(self, name, request=b'', **options):
        """The error of a call that has to fail."""
        try:
            self.call(name, request, **options)
        except grpc.RpcError as error:
            return error
        raise AssertionError(f'{name} did not fail')


def trailing(call):
    """The trailing metadata as [(name, value)], without what is gRPC's own."""
    return [(name, value) for name, value in call.trailing_metadata()
            if not name.startswith('grpc-')]
