"""The proxies that are compared: how each is configured and started, with equal features."""
import os
import subprocess
from dataclasses import dataclass

from machine import Failure, cpu_ns, free_port, settled_tree, tree_of, wait_for_port

NAMES = ('floor', 'nginx', 'haproxy', 'sentinel')
RIVALS = ('nginx', 'haproxy')

NGINX = """
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log error;
events {{ worker_connections {connections}; }}
http {{
    access_log {log};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} {options} backlog=4096;
        {tls}
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_max_temp_file_size 0;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""
NGINX_TLS = """
        ssl_certificate {folder}/bench.crt;
        ssl_certificate_key {folder}/bench.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets {tickets};
        ssl_conf_command NumTickets {number};
"""

HAPROXY = """
global
    nbthread 1
    maxconn {connections}
    {global_log}
defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 30s
    http-reuse always
    option forwardfor
    {log}
frontend clients
    bind 127.0.0.1:{port} backlog 4096 {tls}
    http-request set-header X-Forwarded-Proto {scheme}
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin}
"""
HAPROXY_TLS = 'ssl crt {folder}/bench.pem ssl-min-ver TLSv1.2 alpn h2,http/1.1 {tickets}'

SENTINEL = """
server {{
    workers 1
    max-connections {connections}
    memory-budget 4GiB // so that nothing has to be lowered
    admin {{ address "off" }}
    control-socket "off"
    limits {{
        connections-per-client {connections}
        requests-per-connection 1000000000
    }}
}}
listener "http" {{
    address "127.0.0.1:{port}"
    {tls}
}}
upstream "origin" {{ target "127.0.0.1:{origin}"; }}
route "all" {{ upstream "origin"; }}
observability {{ access-log "{log}"; }}
"""
SENTINEL_TLS = """
    protocol "https"
    tls {{
        certificate "{folder}/bench.crt" key="{folder}/bench.key"
        session-tickets {tickets}
    }}
"""


@dataclass(frozen=True)
class Setup:
    """With what a proxy is started."""
    log: bool = False
    tls: bool = False  # with HTTP/2 and HTTP/1.1, whichever the client asks for
    tickets: bool = False


class Proxy:
    """One proxy, and its processes while it runs."""

    def __init__(self, machine, name, sentinel):
        self.machine = machine
        self.name = name
        self.sentinel = sentinel
        self.process = None
        self.port = 0
        self.pids = []  # its tree

    def can(self, setup):
        """The forwarder knows nothing of HTTP and TLS."""
        return self.name != 'floor' or not (setup.log or setup.tls)

    def version(self):
        command = {'nginx': ['nginx', '-v'], 'haproxy': ['haproxy', '-v'],
                   'sentinel': [self.sentinel, '--version']}.get(self.name)
        if command is None:
            return 'layer 4, epoll'
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).split('\n')[0]

    def configure(self, template, **more):
        path = self.machine.folder / f'{self.name}.{"kdl" if self.name == "sentinel" else "conf"}'
        path.write_text(template.format(port=self.port, origin=self.machine.origin_port,
                                        folder=self.machine.folder, files=self.machine.files,
                                        connections=self.machine.connections, **more))
        return path

    def log_path(self):
        """Where its access log goes: standard output, for nginx by its name."""
        return self.machine.folder / f'{self.name}-access.log'

    def nginx(self, setup):
        user = 'root' if os.geteuid() == 0 else 'nobody'
        tls = NGINX_TLS.format(folder=self.machine.folder, tickets=on_off(setup.tickets),
                               number=int(setup.tickets))
        path = self.configure(NGINX, user=user, options='ssl http2' if setup.tls else '',
                              tls=tls if setup.tls else '',
                              log=f'{self.log_path()} combined' if setup.log else 'off')
        return ['nginx', '-p', self.machine.folder, '-c', path]

    def haproxy(self, setup):
        tls = HAPROXY_TLS.format(folder=self.machine.folder,
                                 tickets='' if setup.tickets else 'no-tls-tickets')
        path = self.configure(HAPROXY, scheme='https' if setup.tls else 'http',
                              tls=tls if setup.tls else '',
                              log='log global\n    option httplog' if setup.log else '',
                              global_log='log stdout format raw local0' if setup.log else '')
        return ['haproxy', '-db', '-f', path]

    def run_sentinel(self, setup):
        tls = SENTINEL_TLS.format(folder=self.machine.folder, tickets=str(setup.tickets).lower())
        path = self.configure(SENTINEL, tls=tls if setup.tls else '',
                              log='stdout' if setup.log else 'off')
        return [self.sentinel, 'run', '--pid-file', 'off', '--config', path]

    def command(self, setup):
        if self.name == 'floor':
            return [self.machine.program('forwarder'), self.port, self.machine.origin_port]
        make = {'nginx': self.nginx, 'haproxy': self.haproxy, 'sentinel': self.run_sentinel}
        return make[self.name](setup)

    def start(self, setup=Setup()):
        self.port = free_port()
        with open(self.log_path(), 'wb') as output:
            self.process = self.machine.start(self.command(setup), self.machine.proxy_core, output)
        wait_for_port(self.process, self.port, self.name)
        self.pids = settled_tree(self.process.pid)

    def stop(self):
        self.machine.end(self.process)

    def cpu(self):
        """Its processor time so far, in nanoseconds."""
        if tree_of(self.process.pid) != self.pids:
            raise Failure(f'{self.name}: a process ended or began while it was measured')
        return cpu_ns(self.pids)


def on_off(value):
    return 'on' if value else 'off'
