"""Certificates for scenarios, made by openssl when they are needed: none is in the tree."""
import re
import subprocess
from datetime import datetime, timedelta, timezone

CA = '''
[ca]
default_ca = this
[this]
database = {folder}/index
new_certs_dir = {folder}
default_md = sha256
policy = any
unique_subject = no
rand_serial = yes
x509_extensions = host
[any]
commonName = supplied
[host]
basicConstraints = CA:FALSE
subjectAltName = {names}
'''


def openssl(*words, folder=None, text=None):
    done = subprocess.run(['openssl', *map(str, words)], cwd=folder, input=text,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make(folder, name, *names, begins=-1, ends=90, key='ec'):
    """NAME.pem and NAME.key in the folder, for these hosts, valid over days from now."""
    hosts = names or [f'{name}.test']
    certificate, secret = folder / f'{name}.pem', folder / f'{name}.key'
    config, request = folder / f'{name}.cnf', folder / f'{name}.csr'
    kind = ['-pkeyopt', 'ec_paramgen_curve:P-256'] if key == 'ec' else ['-pkeyopt', 'rsa_keygen_bits:2048']
    openssl('genpkey', '-algorithm', key.upper(), *kind, '-out', secret)
    secret.chmod(0o600)
    config.write_text(CA.format(folder=folder, names=','.join(f'DNS:{host}' for host in hosts)))
    (folder / 'index').write_text('')
    now = datetime.now(timezone.utc)
    first, last = ((now + timedelta(days=day)).strftime('%Y%m%d%H%M%SZ') for day in (begins, ends))
    openssl('req', '-new', '-key', secret, '-subj', f'/CN={name}', '-out', request)
    openssl('ca', '-batch', '-config', config, '-selfsign', '-keyfile', secret, '-in', request,
            '-startdate', first, '-enddate', last, '-notext', '-out', certificate)
    return certificate, secret


def end_of(certificate):
    """When it expires, in seconds since 1970."""
    text = openssl('x509', '-in', certificate, '-noout', '-enddate').split('=')[1].strip()
    return int(datetime.strptime(text, '%b %d %H:%M:%S %Y %Z')
               .replace(tzinfo=timezone.utc).timestamp())


def scalar_of(secret):
    """The bytes of an EC private key that nobody else may know."""
    text = openssl('pkey', '-in', secret, '-noout', '-text')
    digits = re.search(r'priv:\s*([0-9a-f:\s]+?)\s*pub:', text)[1]
    raw = bytes.fromhex(re.sub(r'[:\s]', '', digits))
    return raw[-32:]


class Authority:
    """Signs in a folder: issue('a', 'a.example', 'IP:127.0.0.1') makes a.pem and a.key there."""

    def __init__(self, folder, name='authority'):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.name = name
        self.ca = folder / f'{name}.pem'
        openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out',
                folder / f'{name}.key')
        openssl('req', '-x509', '-new', '-key', folder / f'{name}.key', '-out', self.ca, '-days', 30,
                '-subj', f'/CN={name}')

    def issue(self, name, *hosts, days=20, key_kind='ec'):
        """The paths of certificate and key; days below 0: it has expired."""
        file, key = self.folder / f'{name}.pem', self.folder / f'{name}.key'
        config, request = self.folder / f'{name}.cnf', self.folder / f'{name}.csr'
        kind = 'ec_paramgen_curve:P-256' if key_kind == 'ec' else 'rsa_keygen_bits:2048'
        openssl('genpkey', '-algorithm', key_kind.upper(), '-pkeyopt', kind, '-out', key)
        names = ','.join(host if ':' in host else f'DNS:{host}' for host in hosts)
        config.write_text(f'subjectAltName={names}\n')
        openssl('req', '-new', '-key', key, '-out', request, '-subj', f'/CN={name}')
        openssl('x509', '-req', '-in', request, '-CA', self.ca, '-CAkey',
                self.folder / f'{self.name}.key', '-CAcreateserial', '-days', days, '-extfile',
                config, '-out', file)
        return file, key
