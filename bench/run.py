#!/usr/bin/python3
"""Measure what a request costs in processor time: Sentinel, nginx, HAProxy and a bare forwarder.

    bench/run.py [--quick] [--record] [--rounds N] [--only NAME,...] [--group http,tls,h2]
                 [--row TEXT] [--sentinel PATH]

The method is described in bench/README.md. --quick takes under two minutes, the full run about
fifteen; --record appends the tables to bench/RESULTS.md. Standard library only.
"""
import argparse
import datetime
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import HERE, Failure, Machine
from proxies import NAMES, Proxy
from rows import GROUPS, PLAIN, ROWS, TLS, measure_cost, measure_idle, measure_latency, table

ROOT = HERE.parent


def choose_proxies(machine, arguments):
    chosen = []
    for name in arguments.only.split(','):
        if name not in NAMES:
            raise Failure(f'no competitor {name!r}')
        there = (name == 'floor' or (name == 'sentinel' and Path(arguments.sentinel).exists()) or
                 (name != 'sentinel' and shutil.which(name)))
        if there:
            chosen.append(Proxy(machine, name, arguments.sentinel))
        else:
            print(f'{name}: not there, left out', file=sys.stderr)
    return chosen


def choose_groups(arguments):
    groups = arguments.group.split(',')
    for group in groups:
        if group not in GROUPS:
            raise Failure(f'no group {group!r}')
    if 'h2' in groups and not shutil.which('h2load'):
        print('h2load: not there, no rows of HTTP/2', file=sys.stderr)
        groups.remove('h2')
    return groups


def heading(machine, proxies, arguments):
    now = datetime.datetime.now(datetime.timezone.utc)
    where = (f'proxy on core {machine.proxy_core}, client and origin on core {machine.other_core}'
             if machine.pinned else 'one core for all: the figures mean little')
    load = ', '.join(f'{value:.2f}' for value in os.getloadavg())
    return '\n'.join([f'## {now:%Y-%m-%d %H:%M} UTC', '',
                      f'`{" ".join(["bench/run.py", *sys.argv[1:]])}`, {arguments.rounds} rounds; '
                      f'Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} cores, '
                      f'{where}; load average before {load}.', '',
                      *[f'- {one.name}: {one.version()}' for one in proxies]])


def run(machine, arguments):
    groups = choose_groups(arguments)
    proxies = choose_proxies(machine, arguments)
    machine.start_origin()
    names = [one.name for one in proxies]
    milliseconds = 250 if arguments.quick else 2000
    parts = [heading(machine, proxies, arguments)]
    print(parts[0], flush=True)
    rows = []
    for row in ROWS:
        if row.group in groups and arguments.row in row.title:
            rows.append(measure_cost(proxies, row, arguments.rounds, milliseconds))
            print(f'  {row.title}: ' + '; '.join(map(' '.join, zip(names, rows[-1][1:]))),
                  flush=True)
    parts.append(table(['processor time per request, us: median (range, ratio)', *names], rows))
    rest = []
    if not arguments.row:
        idle = 2000 if arguments.quick else min(9000, machine.connections - 100)
        if 'http' in groups:
            rest += measure_latency(proxies, 1000 if arguments.quick else 5000)
            rest.append(measure_idle(proxies, idle, PLAIN))
        if 'tls' in groups:
            rest.append(measure_idle(proxies, idle, TLS))
    if rest:
        parts.append(table(['1 KiB', *names], rest))
    print('\n' + '\n\n'.join(parts[1:]))
    return '\n\n'.join(parts) + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='under two minutes')
    parser.add_argument('--record', action='store_true', help='append to bench/RESULTS.md')
    parser.add_argument('--rounds', type=int, help='5, or 3 where it has to be quick')
    parser.add_argument('--only', default=','.join(NAMES), help='those of %(default)s')
    parser.add_argument('--group', default=','.join(GROUPS), help='those of %(default)s')
    parser.add_argument('--row', default='', help='rows whose title has this, and only these')
    parser.add_argument('--sentinel', default=str(ROOT / 'build/release/sentinel'))
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 5)
    # Debian keeps both in sbin, which is not in everyone's path.
    os.environ['PATH'] += ':/usr/sbin:/usr/local/sbin'
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix='sentinel-bench-') as folder:
        os.chmod(folder, 0o755)
        machine = None
        try:
            machine = Machine(folder)
            text = run(machine, arguments)
        except (Failure, OSError, ValueError, subprocess.SubprocessError) as failure:
            print(f'bench: {failure}', file=sys.stderr)
            errors = Path(folder, 'errors.log')
            print(errors.read_text(errors='replace')[-2000:] if errors.exists() else '',
                  file=sys.stderr)
            return 1
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # nothing may cut the cleaning up short
            if machine is not None:
                machine.close()
    if arguments.record:
        with open(HERE / 'RESULTS.md', 'a', encoding='utf-8') as results:
            results.write('\n' + text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
