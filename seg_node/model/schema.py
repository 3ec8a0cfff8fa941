"""Reads the package's YAML files strictly and checks them against their JSON schemas."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
import json
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from ..errors import ConfigError
from ..paths import shared

_TYPES = {'string': 'text', 'number': 'a number', 'integer': 'a whole number',
          'boolean': 'true or false', 'array': 'a list', 'object': 'a mapping (key: value)'}
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

    :raises ConfigError: when it cannot be read, is not YAML, has a key twice or is no mapping.
    """
    try:
        document = yaml.load(path.read_text(encoding='utf-8'), _StrictLoader)
    except OSError as error:
        raise ConfigError(f'{path} cannot be read: {error.strerror}. Give the path of a readable '
                          'YAML file.') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path} is not the YAML it must be: {" ".join(str(error).split())}. '
                          'Correct that line.') from error
    if not isinstance(document, dict):
        raise ConfigError(f'{path} holds {shorten(document)}; it must hold a mapping '
                          '(key: value lines).')
    return document


def check(document: dict[str, Any], schema: str, where: Path | str, prefix: str = '') -> None:
    """
    Check a document against a schema below models/ and report everything that is wrong.

    :param schema: name of the schema, e.g. ``'card'`` for ``models/card.schema.json``.
    :param where: the file it came from, for the message.
    :param prefix: key under which the document stands in that file, with its dot.
    :raises ConfigError: one line a finding, each with key, value, what is allowed and the mend.
    """
    errors = sorted(_validator(schema).iter_errors(document),
                    key=lambda error: [str(step) for step in error.absolute_path])
    findings = dict.fromkeys(line for error in errors for line in _explain(error, prefix))
    if findings:
        raise ConfigError('\n'.join(f'{where}: {line}' for line in findings))


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
    schema = json.loads(shared('models', f'{name}.schema.json').read_text(encoding='utf-8'))
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
