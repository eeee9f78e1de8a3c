#!/usr/bin/python3
"""`make run`: the demo origin and Sentinel side by side until Ctrl-C. Standard library only."""
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

import demo_origin

START_SECONDS = 10
STOP_SECONDS = 35
PROXY = 'http://127.0.0.1:8080'

HINTS = '''
Sentinel listens on 0.0.0.0:8080, the demo origin on 127.0.0.1:8081. Try, in another terminal:

  curl -i localhost:8080/hello                     through the proxy and back
  curl -i --path-as-is localhost:8080/../secret    an ambiguous path, refused with the reason
  curl -s localhost:9090/metrics                   what the proxy counted

and, for what it did last, failures included:

  {recent}

The access log follows, one JSON line for each request. Ctrl-C ends both.
'''


class Stopped(Exception):
    """SIGINT or SIGTERM came."""


def stop(_number, _frame):
    raise Stopped


def wait_until_answering(proxy):
    """Until a request went through, the proxy has ended, or START_SECONDS have passed."""
    for _ in range(START_SECONDS * 10):
        if proxy.poll() is not None:
            return False
        try:
            urllib.request.urlopen(f'{PROXY}/health', timeout=1).close()
            return True
        except OSError:
            threading.Event().wait(0.1)
    return False


def main(binary):
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        origin = demo_origin.Origin(demo_origin.PORT)
    except OSError as error:
        print(f'demo: 127.0.0.1:{demo_origin.PORT}: {error.strerror}', file=sys.stderr)
        return 1
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix='sentinel-demo-') as folder:
        return run(binary, origin, f'{folder}/control.sock')


def run(binary, origin, control):
    # In a session of its own: Ctrl-C comes here only, and Sentinel gets one orderly SIGTERM.
    proxy = subprocess.Popen([binary, 'run', '--pid-file', 'off', '--control-socket', control],
                             start_new_session=True, stdin=subprocess.DEVNULL)
    status = 0
    try:
        if wait_until_answering(proxy):
            print(HINTS.format(recent=f'{binary} recent --control-socket {control}'), flush=True)
            status = proxy.wait()
        else:
            print('demo: Sentinel does not answer', file=sys.stderr)
            status = proxy.poll() or 1
    except Stopped:
        print('\ndemo: stopping')
    finally:
        signal.signal(signal.SIGINT, lambda *_: proxy.terminate())  # a second Ctrl-C: at once
        if proxy.poll() is None:
            proxy.terminate()
            try:
                status = proxy.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                proxy.kill()
                status = 1
        origin.shutdown()
    return status if status >= 0 else 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
