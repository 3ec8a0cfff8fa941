"""Files of parameters: found, readable, and for this node; rcl says nothing of the last."""

from collections.abc import Iterator, Sequence
from pathlib import Path
import re
from typing import Any

import yaml

from ..errors import ConfigError
from ..files import read_file, user_path

_MOST_BYTES = 2 ** 20
_KEY = 'ros__parameters'


def check_files(arguments: Sequence[str]) -> None:
    """
    Refuse files of a command line that rcl could not read, each with the mend.

    :raises ConfigError: no such file, or not the YAML that it must be.
    """
    for path in files_in(arguments):
        list(_sections(path))


def check_addressee(arguments: Sequence[str], node: str) -> None:
    """
    Refuse files that have parameters for other nodes only: rcl would ignore them in silence.

    :param node: its name with its namespace, e.g. ``/car/seg_node``.
    :raises ConfigError: with the mend.
    """
    for path in files_in(arguments):
        names = [name for name, _ in _sections(path)]
        if names and not any(_matches(name, node) for name in names):
            raise ConfigError(
                f'the parameter file {path} is for {", ".join(names)}, but this node is {node}: '
                f'nothing in it would be used. Call its section /**/{node.rpartition("/")[2]}, or '
                'start the node under that name')


def parameters_in(path: Path, node: str) -> dict[str, Any]:
    """Return what a file says for a node, later sections on top; raise ConfigError as above."""
    merged: dict[str, Any] = {}
    for name, values in _sections(path):
        if _matches(name, node):
            merged.update(values)
    return merged


def files_in(arguments: Sequence[str]) -> list[Path]:
    """Return the parameter files of a command line."""
    return [user_path(value, 'the parameter file') for option, value in
            zip(arguments, arguments[1:], strict=False) if option == '--params-file']


def _sections(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each node that a file has parameters for, with them."""
    data = read_file(path, _MOST_BYTES, 'Give the path of a readable YAML file.',
                     f'the parameter file {path}')
    try:
        # launch writes lists as Python's tuples, which rcl takes for lists.
        document = yaml.load(data, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f'the parameter file {path} is no YAML: '
                          f'{" ".join(str(error).split())}. Correct that line') from error
    found = list(_nodes(document, ''))
    if document and not found:
        raise ConfigError(f'the parameter file {path} has no key {_KEY}: write\n'
                          f'/**/seg_node:\n  {_KEY}:\n    <the parameters>')
    yield from found


class _Loader(yaml.SafeLoader):
    """YAML as launch_ros writes it."""


_Loader.add_constructor('tag:yaml.org,2002:python/tuple',
                        lambda loader, node: loader.construct_sequence(node))


def _nodes(document: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(document, dict):
        return
    for key, value in document.items():
        if key == _KEY:
            yield name, value if isinstance(value, dict) else {}
        else:
            yield from _nodes(value, f'{name}/{str(key).strip("/")}')


def _matches(pattern: str, node: str) -> bool:
    """Return whether a name with wildcards is a node's: ``*`` is one token, ``**`` any number."""
    text = re.escape(pattern).replace(r'/\*\*', r'(/\w+)*').replace(r'\*', r'\w+')
    return re.fullmatch(text, node) is not None
