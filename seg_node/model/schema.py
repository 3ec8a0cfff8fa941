"""Reads the package's YAML files strictly and checks them against their JSON schemas."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
import json
import math
from pathlib import Path
import re
from typing import Any

import jsonschema
import yaml

from ..errors import ConfigError, SegNodeError
from ..files import read_file
from ..paths import shared

_TYPES = {'string': 'text', 'number': 'a number', 'integer': 'a whole number',
          'boolean': 'true or false', 'array': 'a list', 'object': 'a mapping (key: value)'}
#: What one file may hold, and what it may become when its aliases are written out: the largest
#: class tables have 15 kB.
MAX_BYTES, MAX_EXPANDED = 2 ** 18, 2 ** 20
MAX_NUMBER = 2 ** 63 - 1
_PRINTABLE = re.compile(r'[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]*')
_MOST_ERRORS, _MOST_FINDINGS = 200, 20  # found, told
_Loader: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


class _StrictLoader(_Loader):
    """YAML's safe loader, which also refuses a key that stands twice in a mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # the safe loader refuses it below
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key {key.value!r} stands here a second time',
                    key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """
    Return the mapping that a YAML file holds.

    :raises ConfigError: when it is no regular file, cannot be read, is not YAML, has a key twice,
        expands to more than a person writes, has a value that no key can have, or is no mapping.
    """
    data = read_file(path, MAX_BYTES, 'Give the path of a readable YAML file.')
    document = parse_yaml(data, str(path))
    if not isinstance(document, dict):
        raise ConfigError(f'{path} holds {shorten(document)}; it must hold a mapping '
                          '(key: value lines).')
    return document


def parse_yaml(data: bytes | str, where: str) -> Any:
    """
    Return what a YAML text holds.

    :param where: the file or parameter that it comes from, for the message.
    :raises ConfigError: as ``read_yaml`` does.
    """
    try:
        loader = _StrictLoader(data.decode('utf-8') if isinstance(data, bytes) else data)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_expansion(node, where)
        document = loader.construct_document(node)
    except SegNodeError:
        raise
    except Exception as error:  # PyYAML's constructors raise ValueError, KeyError and others, too
        raise ConfigError(f'{where} is not the YAML it must be: {" ".join(str(error).split())}. '
                          'Correct that line.') from error
    for key, value in _leaves(document, ''):
        _check_leaf(key, value, where)
    return document


def _check_expansion(root: Any, where: str) -> None:
    """
    Refuse a document whose aliases make it larger than a person would write.

    An alias costs nothing until somebody looks at every part: ten lines make a list of 9^10.
    """
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MAX_EXPANDED + 1  # stays, where a node holds itself
            if isinstance(node, yaml.ScalarNode):
                sizes[id(node)] = 1 + len(node.value)
            elif isinstance(node, yaml.MappingNode):
                sizes[id(node)] = 1 + sum(size(key) + size(value) for key, value in node.value)
            else:
                sizes[id(node)] = 1 + sum(map(size, node.value))
        return sizes[id(node)]
    if size(root) > MAX_EXPANDED:
        raise ConfigError(f'{where}: with its aliases (*name) written out it has more than '
                          f'{MAX_EXPANDED} characters; allowed are so many. Write the values out '
                          'where they belong.')


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every value that holds no other, after its key as in ``outputs[0].name``."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield _join(key, name), name
            yield from _leaves(child, _join(key, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(child, f'{key}[{index}]')
    else:
        yield key, value


def _check_leaf(key: str, value: Any, where: str) -> None:
    """Refuse what no key can have, and what neither floats nor paths can hold."""
    if isinstance(value, int) and not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ConfigError(f'{where}: {key} is a whole number of {len(str(abs(value)))} digits; '
                          f'allowed: at most {MAX_NUMBER}. Write the figure that is meant.')
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f'{where}: {key} is {value}; allowed: finite numbers. Write the figure '
                          'that is meant.')
    if isinstance(value, str) and not _PRINTABLE.fullmatch(value):
        raise ConfigError(f'{where}: {repr(key)[1:-1]:.60} is {shorten(value)}; allowed: text '
                          'without control characters such as NUL. Remove them.')


def check(document: dict[str, Any], schema: str, where: Path | str, prefix: str = '') -> None:
    """
    Check a document against a shipped schema and report everything that is wrong.

    :param schema: name of the schema, e.g. ``'card'`` for ``models/card.schema.json``, or
        ``'presets/preset'`` for one in another folder.
    :param where: the file it came from, for the message.
    :param prefix: key under which the document stands in that file, with its dot.
    :raises ConfigError: a line for each of the first findings: key, value, what is allowed, and
        the mend.
    """
    errors = sorted(islice(_validator(schema).iter_errors(document), _MOST_ERRORS),
                    key=lambda error: [str(step) for step in error.absolute_path])
    lines: dict[str, None] = {}
    for line in (line for error in errors for line in _explain(error, prefix)):
        lines[line] = None  # some errors say the same
        if len(lines) == _MOST_FINDINGS:
            break
    if lines:
        raise ConfigError('\n'.join(f'{where}: {line}' for line in lines))


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """Return ' Did you mean ...?' with the closest allowed word, or an empty text."""
    known = {name.lower(): name for name in allowed}
    close = get_close_matches(str(word).lower(), known, n=1)
    return f' Did you mean {known[close[0]]!r}?' if close else ''


def shorten(value: Any) -> str:
    """Return the value as it reads in Python, cut to fit a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


@lru_cache(maxsize=8)
def _validator(name: str) -> Any:
    folder, _, stem = name.rpartition('/')
    path = shared(folder or 'models', f'{stem}.schema.json')
    schema = json.loads(path.read_text(encoding='utf-8'))
    # jsonschema 3 (Ubuntu 22.04) ends at draft 7; the schemas use only what both drafts share.
    draft = getattr(jsonschema, 'Draft202012Validator', jsonschema.Draft7Validator)
    return draft(schema)


def _explain(error: Any, prefix: str) -> Iterator[str]:
    """Turn one schema violation into sentences: key, value, allowed, mend."""
    key = prefix + _key(error.absolute_path)
    schema, value = error.schema, error.instance
    if error.validator == 'additionalProperties':
        allowed = schema['properties']
        for name in value:
            if name not in allowed:
                yield (f'{_join(key, name)} is not a known key.'
                       f'{suggestion(name, allowed)} Allowed here: {", ".join(allowed)}.')
    elif error.validator == 'required':
        for name in schema['required']:
            if name not in value:
                about = schema['properties'][name]['description']
                yield f'{_join(key, name)} is missing. Add it: {about}.'
    else:
        close = suggestion(value, schema['enum']) if error.validator == 'enum' else ''
        about = f' Meaning: {schema["description"]}.' if 'description' in schema else ''
        yield f'{key} is {shorten(value)}; {_allowed(error)}.{close}{about}'


def _allowed(error: Any) -> str:
    schema, rule = error.schema, error.validator
    if rule == 'enum':
        return f'allowed: {", ".join(schema["enum"])}'
    if rule == 'type':
        return f'it must be {_type(schema["type"])}{_yaml_hint(error)}'
    if rule in ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'):
        return f'allowed: {_interval(schema)}'
    if rule in ('minItems', 'maxItems'):
        low, high = schema.get('minItems', 0), schema.get('maxItems', 'any number of')
        return f'it must have {low if low == high else f"{low} to {high}"} entries'
    return 'it is not of the right form'


def _interval(schema: dict[str, Any]) -> str:
    words = {'minimum': 'at least', 'exclusiveMinimum': 'more than',
             'maximum': 'at most', 'exclusiveMaximum': 'less than'}
    return ' and '.join(f'{word} {schema[key]}' for key, word in words.items() if key in schema)


def _type(types: str | Sequence[str]) -> str:
    return ' or '.join(_TYPES[name] for name in ([types] if isinstance(types, str) else types))


def _yaml_hint(error: Any) -> str:
    if isinstance(error.instance, str) and error.schema['type'] in ('number', 'integer'):
        return ', written out like 0.00392156862745098 (YAML reads 1/255 and 1e-3 as text)'
    if error.schema['type'] == 'string' and not isinstance(error.instance, (dict, list)):
        return '; put it in quotes'
    return ''


def _key(path: Iterable[str | int]) -> str:
    key = ''
    for step in path:
        key = f'{key}[{step}]' if isinstance(step, int) else _join(key, step)
    return key


def _join(key: str, name: object) -> str:
    return f'{key}.{name}' if key else str(name)
