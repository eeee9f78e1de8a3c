"""Holds effects.txt against the option table: check.py SENTINEL [EFFECTS [TESTS]]

No accepted key without a test that proves its effect at run time: every key of `sentinel
config-schema` needs a line, no line may name a key or a test that does not exist, and the test's
file must speak of the key. Prints every violation; exit status 1 when there is one.
"""
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def read_effects(path):
    """{key: (file, test)}, and what is wrong with the list itself."""
    effects, wrong = {}, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split('#')[0].strip()
        if not line:
            continue
        match = re.fullmatch(r'(\S+) (\S+\.py):(test_\w+)', line)
        if not match:
            wrong.append(f'line {number} is not `KEY FILE:TEST`')
        elif match[1] in effects:
            wrong.append(f'line {number}: {match[1]} has two lines')
        else:
            effects[match[1]] = (match[2], match[3])
    return effects, wrong


def words_of(text):
    """What a text of KDL or Python mentions: words, dashes included."""
    return set(re.findall(r'[a-z][a-z0-9]*(?:-[a-z0-9]+)*', text))


def without_skips(node):
    """Whether the test runs always: no decorator skips it or expects it to fail."""
    return not any(re.search(r'skip|xfail', ast.unparse(mark)) for mark in node.decorator_list)


def judge(key, effect, folder):
    """What is wrong with one line, or None."""
    path = folder / effect[0]
    if not path.is_file():
        return f'{key["key"]}: there is no {effect[0]}'
    text = path.read_text()
    tests = {node.name: node for node in ast.walk(ast.parse(text))
             if isinstance(node, ast.FunctionDef)}
    if effect[1] not in tests:
        return f'{key["key"]}: {effect[0]} has no {effect[1]}'
    test = tests[effect[1]]
    if not without_skips(test):
        return f'{key["key"]}: {effect[1]} does not always run'
    if not any(isinstance(node, ast.Assert) for node in ast.walk(test)) and \
            'assert' not in ast.unparse(test):
        return f'{key["key"]}: {effect[1]} asserts nothing'
    # An argument has no name in a text; there its block's name stands for it.
    name = key['block'].split('.')[-1] if key['form'] == 'argument' else key['name']
    if name not in words_of(text):
        return f'{key["key"]}: {effect[0]} never writes `{name}`'
    return None


def violations(schema, effects, folder):
    keys = {key['key']: key for key in schema['keys']}
    found = [f'{name}: no test proves its effect' for name in keys if name not in effects]
    found += [f'{name}: there is no such key' for name in effects if name not in keys]
    judged = [judge(keys[name], effect, folder)
              for name, effect in effects.items() if name in keys]
    return found + [verdict for verdict in judged if verdict]


def main(arguments):
    sentinel = arguments[0]
    effects_path = Path(arguments[1]) if len(arguments) > 1 else HERE / 'effects.txt'
    folder = Path(arguments[2]) if len(arguments) > 2 else HERE.parent / 'blackbox'
    done = subprocess.run([sentinel, 'config-schema'], capture_output=True, text=True, check=True,
                          timeout=60)
    schema = json.loads(done.stdout)
    assert len(schema['keys']) > 50, 'the table is suspiciously short'
    effects, found = read_effects(effects_path)
    found += violations(schema, effects, folder)
    for violation in found:
        print(violation)
    print(f'{len(schema["keys"])} keys, {len(found)} violations')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
