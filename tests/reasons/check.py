"""Holds reasons.txt against the program: check.py SENTINEL [REASONS [TESTS [PAGE]]]

Every row of error.def needs a scenario that provokes it and sees its label; every timer and limit
one that lets it strike, and sees the reason it raises; docs/errors.md is what the program prints.
Prints every violation; exit status 1 when there is one.
"""
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LINE = re.compile(r'(?:reason ([a-z0-9_]+)|key ([\w.-]+) ([a-z0-9_]+|-)) (\S+\.py):(test_\w+)')
ROW = re.compile(r'\| `(\w+)` \| (\d{3}|-) \| (.+) \| `(\w+)` \|')
# Ways to look at what the proxy has told of a request, other than the answer to the client.
TOLD = {'logged', 'log_record', 'log_records', 'records', 'metric'}
# Where timers and limits stand; what else stands there is no bound.
BLOCKS = ('server', 'server.limits', 'server.limits.request-rate-per-client', 'server.timeouts',
          'route.policies', 'route.policies.retry-policy')
NO_BOUNDS = {'server.workers'}


def read_lines(path):
    """[(key or None, label or '-', file, test)], and what is wrong with the list itself."""
    lines, wrong = [], []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        text = text.split('#')[0].strip()
        match = LINE.fullmatch(text)
        if text and not match:
            wrong.append(f'line {number} is neither `reason LABEL FILE:TEST` nor '
                         '`key KEY LABEL FILE:TEST`')
        elif text:
            lines.append((match[2], match[1] or match[3], match[4], match[5]))
    if len(set(lines)) < len(lines):
        wrong.append('a line stands twice')
    return lines, wrong


def read_page(page):
    """{label: the keys that raise it}, out of the rows of docs/errors.md."""
    reasons = {}
    for row in map(ROW.fullmatch, page.splitlines()):
        if row:
            reasons[row[1]] = set(re.findall(r'`([\w.-]+)`', row[3].split(' | ')[-1]))
    return reasons


def functions_of(path):
    return {node.name: node for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)}


def names_called(function):
    """The functions and methods that a function calls."""
    calls = [part.func for part in ast.walk(function) if isinstance(part, ast.Call)]
    return ({call.attr for call in calls if isinstance(call, ast.Attribute)} |
            {call.id for call in calls if isinstance(call, ast.Name)})


def judge_test(label, file, test, folder):
    """What is wrong with the scenario of a line, or None."""
    path = folder / file
    if not path.is_file():
        return f'there is no {file}'
    functions = functions_of(path)
    node = functions.get(test)
    if node is None:
        return f'{file} has no {test}'
    if any(re.search(r'skip|xfail', ast.unparse(mark)) for mark in node.decorator_list):
        return f'{test} does not always run'
    parts = list(ast.walk(node))
    if label == '-':
        return None if 'assert' in ast.unparse(node) else f'{test} asserts nothing'
    if not any(isinstance(part, ast.Constant) and part.value == label for part in parts):
        return f'{test} never names {label}'
    helpers = [functions[name] for name in names_called(node) if name in functions]
    told = set.union(names_called(node), *map(names_called, helpers)) & TOLD
    return None if told else f'{test} looks at no record and no metric'


def bounds_of(schema):
    """The timers and limits among the keys: whatever there has an amount."""
    return {key['key'] for key in schema['keys'] if key['block'] in BLOCKS and
            key['type'] in ('duration', 'size', 'integer')} - NO_BOUNDS


def violations(reasons, schema, lines, folder):
    bounds = bounds_of(schema)
    keys = {key['key'] for key in schema['keys']}
    shown = {label for key, label, _, _ in lines if key is None}
    struck = {key for key, _, _, _ in lines if key is not None}
    found = [f'{label}: no scenario shows it' for label in reasons if label not in shown]
    found += [f'{key}: no scenario lets it strike' for key in sorted(bounds - struck)]
    found += [f'{label}: error.def names {key}, which is no key'
              for label, named in reasons.items() for key in sorted(named - keys)]
    found += [f'{key}: there is no such timer or limit' for key in sorted(struck - bounds)]
    for key, label, file, test in lines:
        name = label if key is None else key
        if label != '-' and label not in reasons:
            found.append(f'{name}: there is no reason {label}')
        elif key is not None and label != '-' and key not in reasons[label]:
            found.append(f'{name}: error.def does not name it as a key of {label}')
        wrong = judge_test(label, file, test, folder)
        found += [f'{name}: {wrong}'] if wrong else []
    return found


def ask(sentinel, command):
    return subprocess.run([sentinel, command], capture_output=True, text=True, check=True,
                          timeout=60).stdout


def main(arguments):
    sentinel = arguments[0]
    rest = dict(enumerate(map(Path, arguments[1:])))
    page_path = rest.get(2, HERE.parent.parent / 'docs/errors.md')
    page = ask(sentinel, 'error-reference')
    reasons = read_page(page)
    assert len(reasons) > 40, 'the page is suspiciously short'
    lines, found = read_lines(rest.get(0, HERE / 'reasons.txt'))
    found += violations(reasons, json.loads(ask(sentinel, 'config-schema')), lines,
                        rest.get(1, HERE.parent / 'blackbox'))
    if page_path.read_text() != page:
        found.append('docs/errors.md is stale: sentinel error-reference > docs/errors.md')
    for violation in found:
        print(violation)
    print(f'{len(reasons)} reasons, {len(found)} violations')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
