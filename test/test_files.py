"""Files that a user names: regular, bounded, read once; YAML that is no trap."""

import os
from pathlib import Path
import socket
import subprocess
import sys

import pytest

from seg_node import files
from seg_node.errors import ConfigError
from seg_node.files import read_file, user_path
from seg_node.ground.calibration import load_calibration
from seg_node.model import schema
from seg_node.model.card import load_card
from seg_node.model.schema import MAX_BYTES, parse_yaml, read_yaml
from seg_node.model.taxonomy import load_taxonomy, remap_lut

PALETTE = Path(__file__).parent / 'models' / 'palette_cityscapes19'


def refusal(call, *arguments):
    """Return the message of the ConfigError that a call must raise."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


# what is no file

@pytest.fixture(params=['folder', 'pipe', 'socket', 'device', 'link to a device'])
def no_file(request, tmp_path):
    """Return something that has a path and is no regular file, and what it is called."""
    path, kind = tmp_path / 'thing', request.param
    if kind == 'folder':
        path.mkdir()
        return path, 'a folder'
    if kind == 'pipe':
        os.mkfifo(path)
        return path, 'a named pipe'
    if kind == 'socket':
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
        return path, 'a socket'
    if kind == 'device':
        return Path('/dev/zero'), 'a device'
    path.symlink_to('/dev/zero')
    return path, 'a device'


def test_what_is_no_file_is_refused_at_once(no_file):
    """A pipe without a writer blocks whoever opens it; /dev/zero never ends."""
    path, kind = no_file
    assert f'is {kind}' in refusal(read_file, path, 10, 'Mend it.')
    assert refusal(read_yaml, path).endswith('Give the path of a readable YAML file.')


def test_nothing_but_a_regular_file_is_opened(monkeypatch):
    """Opening a device may set it off (a watchdog) or steal its data."""
    monkeypatch.setattr(files.os, 'open', lambda *_: pytest.fail('it was opened'))
    assert 'a device' in refusal(read_file, Path('/dev/zero'), 10, 'Mend it.')


def test_a_pipe_put_in_place_meanwhile_is_not_waited_for(tmp_path, monkeypatch):
    """What the path leads to may change between the look and the opening."""
    pipe, file = tmp_path / 'pipe', tmp_path / 'file'
    os.mkfifo(pipe)
    file.write_text('x')
    status = os.stat(file)
    monkeypatch.setattr(files.os, 'stat', lambda path: status)
    assert 'a named pipe' in refusal(read_file, pipe, 10, 'Mend it.')


def test_a_file_is_read_whole_up_to_the_limit(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'12345')
    assert read_file(path, 5, 'Mend it.') == b'12345'
    message = refusal(read_file, path, 4, 'Mend it.')
    assert message == f'{path} has 5 bytes; allowed are 4. Mend it.'
    path.write_bytes(b'')
    assert read_file(path, 5, 'Mend it.') == b''


def test_a_file_that_grows_is_refused():
    """So do those of /proc, which are regular and of size 0."""
    assert 'changed while it was read' in refusal(read_file, Path('/proc/self/maps'), 10**9, '')


@pytest.mark.parametrize('name', ['none', 'a\0b', 'x' * 300, '\udcff'])
def test_a_path_that_cannot_be(tmp_path, name):
    assert refusal(read_file, tmp_path / name, 9, 'Mend it.', 'model').startswith('model cannot')


def test_the_home_of_nobody():
    assert user_path('~/x', 'file') == Path.home() / 'x'
    message = refusal(user_path, '~nosuchuser/x', 'card.yaml: file')
    assert message.startswith("card.yaml: file is '~nosuchuser/x'")


@pytest.mark.parametrize('name', ['~nosuchuser/x', './a\0b', './' + 'x' * 300, '/' + 'y/' * 3000])
def test_a_model_named_by_a_path_that_cannot_be(name):
    message = refusal(load_card, name)
    assert message.isprintable()
    assert len(message) < 500


# YAML

def bomb(depth):
    lines = ['a0: &a0 [' + ','.join('"x"' * 9) + ']']
    lines += [f'a{n}: &a{n} [{",".join([f"*a{n - 1}"] * 9)}]' for n in range(1, depth)]
    return '\n'.join(lines).replace('"x""x"', '"x","x"') + '\n'


def merge_bomb(depth):
    lines = ['a0: &a0 {k: v}']
    lines += [f'a{n}: &a{n} {{<<: [{",".join([f"*a{n - 1}"] * 9)}]}}' for n in range(1, depth)]
    return '\n'.join(lines) + '\n'


TRAPS = {
    'aliases of lists': (bomb(10), 'with its aliases'),
    'aliases of mappings': (merge_bomb(10), 'with its aliases'),
    'a long text many times': (f'a: &a "{"x" * 9999}"\nb: [{"*a, " * 999}]', 'with its aliases'),
    'itself': ('a: &a [*a]', 'with its aliases'),
    'itself by a detour': ('a: &a {b: {c: *a}}', 'with its aliases'),
    'deep lists': ('a: ' + '[' * 5000 + ']' * 5000, 'nest'),
    'deep blocks': ('a:\n  ' + '- ' * 5000 + 'x', 'nest'),
    'digits': ('a: ' + '9' * 5000, 'f.yaml'),
    'a large number': ('a: {b: [1, ' + '9' * 401 + ']}', 'a.b[1] is a whole number of 401 digits'),
    'a large hexadecimal one': ('a: 0x1' + '0' * 16, 'a is a whole number of 20 digits'),
    'a negative one': ('a: -9223372036854775809', 'a is a whole number of 19 digits'),
    'a NUL': (r'file: "a\0b"', r"file is 'a\x00b'"),
    'a NUL in a key': (r'"a\0b": 1', r"'a\x00b'"),
    'an escape': (r'file: "\e[2J"', 'control characters'),
    'half a character': (r'file: "\ud800"', 'f.yaml'),
    'no such day': ('a: 2001-99-99', 'f.yaml is not the YAML'),
    'no number': ('a: !!int x', 'f.yaml is not the YAML'),
    'no time': ('a: !!timestamp x', 'f.yaml is not the YAML'),
    'no truth': ('a: !!bool x', 'f.yaml is not the YAML'),
    'code': ('a: !!python/object/apply:os.system [true]', 'f.yaml is not the YAML'),
    'two documents': ('a: 1\n---\na: 2', 'f.yaml is not the YAML'),
    'nothing': ('', 'f.yaml holds None'),
    'too long': ('a: 1\n' * (MAX_BYTES // 5 + 1), 'allowed are 262144'),
}


@pytest.mark.parametrize('trap', TRAPS)
def test_a_trap_is_refused_at_once(tmp_path, trap):
    """Each of these hung, filled the memory, or came out as an exception of some library."""
    text, words = TRAPS[trap]
    path = tmp_path / 'f.yaml'
    path.write_text(text, encoding='utf-8')
    message = refusal(read_yaml, path)
    assert str(path) in message
    assert words in message
    assert message.isprintable()
    assert len(message) < 800


def test_readers_of_every_kind_use_it(tmp_path):
    path = tmp_path / 'card.yaml'
    path.write_text(bomb(10))
    table = load_taxonomy('camvid11')
    for message in (refusal(load_card, tmp_path), refusal(load_taxonomy, path),
                    refusal(remap_lut, table, load_taxonomy('voc21'), path),
                    refusal(load_calibration, path)):
        assert 'with its aliases' in message


def test_without_libyaml_deep_nesting_is_refused_too(tmp_path):
    """PyYAML's own parser recurses; systems without the C library have only that."""
    script = ('import yaml, sys; del yaml.CSafeLoader\n'
              'from seg_node.model.schema import parse_yaml\n'
              'from seg_node.errors import ConfigError\n'
              'try: parse_yaml("a: " + "[" * 3000, "f")\n'
              'except ConfigError as error: print(error)')
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                          check=True, cwd=PALETTE.parents[2], timeout=60)
    assert done.stdout.startswith('f is not the YAML it must be')


def test_what_people_write_is_read():
    text = ('a: &mean [123.675, 116.28, -0.5]\nb: *mean\nc: {<<: {x: 9223372036854775807}}\n'
            'd: "two\\nlines\\tand a tab"\ne: Grün, 道路, 🚗\nf: -9223372036854775807\n')
    assert parse_yaml(text, 'f') == {
        'a': [123.675, 116.28, -0.5], 'b': [123.675, 116.28, -0.5], 'c': {'x': 2**63 - 1},
        'd': 'two\nlines\tand a tab', 'e': 'Grün, 道路, 🚗', 'f': 1 - 2**63}
    assert parse_yaml('\ufeffa: 1'.encode(), 'f') == {'a': 1}


def test_a_file_full_of_errors_is_judged_at_once():
    """Each of 60 000 outputs lacks five keys; the first findings are told."""
    document = parse_yaml('outputs: [' + '{},' * 60000 + ']', 'f')
    lines = refusal(schema.check, document, 'card', 'f').splitlines()
    assert len(lines) == 20


def test_the_cases(data_dir):
    """One line with key, value and mend for each, and none of them hangs."""
    cards = data_dir / 'cases' / 'cards'
    for name, words in (('mhi', 'input.mean[0] is a whole number of 401 digits'),
                        ('nul', r"file is 'a\x00b'"), ('zero', "file is '/dev/zero'"),
                        ('yaml_bomb_desc', 'with its aliases')):
        message = refusal(load_card, cards / name)
        assert str(cards / name / 'card.yaml') in message
        assert words in message
        assert message.isprintable()
