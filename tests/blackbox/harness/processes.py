"""Looking at processes from outside: who lives, as what, and whether a port is served."""
import os

from .waiting import wait_for
from .wire import connect


def is_alive(pid):
    """Whether the process runs or is stopped; one that only waits to be reaped does not count."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids, seconds=10):
    """Waits until none of them is alive."""
    wait_for(lambda: not any(is_alive(pid) for pid in pids), seconds, 'the end of all processes')


def of_role(proxy, role):
    """The children whose title names this role, in the order of their ids."""
    found = []
    for pid in proxy.children():
        try:
            with open(f'/proc/{pid}/cmdline') as file:
                title = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if title.startswith(f'sentinel: {role}'):
            found.append(pid)
    return found


def replace(proxy, role, number, seconds=10):
    """Sends a signal to a process of the role and waits until another one stands in its place."""
    before = of_role(proxy, role)
    os.kill(before[0], number)
    wait_for(lambda: before[0] not in of_role(proxy, role)
             and len(of_role(proxy, role)) == len(before), seconds, f'a new {role}')


def refused(port):
    """Whether nobody listens on a loopback port."""
    try:
        connect(port).close()
        return False
    except ConnectionError:
        return True
