"""What the arguments of the launch files mean: they are the parameters, and how to start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import re
import sys
from typing import Any

from ..errors import ConfigError
from ..files import user_path
from ..model.schema import suggestion
from ..paths import shared
from .parameter_table import a_kind, CAMERA, NODE, Parameter
from .params_file import parameters_in

SWITCH = ('', 'true', 'false')
_TOKEN = re.compile('[A-Za-z_][A-Za-z0-9_]*')
#: Parameters of a camera that make sense for all of them at once.
_SHARED = ('transport', 'reliable', 'steadiness')


@dataclass(frozen=True)
class Argument:
    """One launch argument; with the default '' nothing changes."""

    name: str
    description: str
    default: str = ''
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Start:
    """
    How the node is to be started.

    :ivar parameters: files and values, later ones on top.
    """

    name: str
    namespace: str
    parameters: list[str | dict[str, Any]] = field(default_factory=list)


def arguments() -> list[Argument]:
    """Return all arguments of the node's launch file."""
    return [
        Argument('params_file', 'YAML file with parameters of the node; an example that shows '
                 f'them all is {shared("config", "seg_node.yaml")}. Arguments win over it.'),
        Argument('name', 'Name of the node, and so of its topics.', 'seg_node'),
        Argument('namespace', 'Namespace of the node.'),
        Argument('respawn', 'Start the node again, after 2 s, whenever it ends.', 'false',
                 SWITCH[1:]),
        Argument('log_level', 'The least severe messages to log.', 'info',
                 ('debug', 'info', 'warn', 'error', 'fatal')),
        Argument('rviz', 'Show images, outputs and free space in RViz (package rviz2), under the '
                 'names that are in use.', 'false', SWITCH[1:]),
        Argument('foxglove', 'Write a layout for Foxglove to this file, under the same names.'),
        Argument('view', 'Show what the node sees in Rerun (ros2 run seg_node view): a window, '
                 'or a page for browsers where there is no screen.', 'false', SWITCH[1:]),
        Argument('use_sim_time', 'Take the time from /clock (simulators, bags).', '', SWITCH),
        *(_argument(row) for row in NODE),
        *(_argument(row, ' For cameras of params_file, say it there.' if row.name in _SHARED else
                    ' Where there is one camera; several have theirs in params_file.')
          for row in CAMERA)]


def start_of(values: Mapping[str, str]) -> Start:
    """
    Return what the values of the arguments ask for.

    :raises ConfigError: a value or a combination that makes no sense, with the mend.
    """
    start = Start(values['name'], values['namespace'])
    if start.name and not _TOKEN.fullmatch(start.name):
        raise ConfigError(f'name is {start.name!r}; allowed are letters, digits and _, and no '
                          'digit at the beginning')
    for part in filter(None, start.namespace.split('/')):
        if not _TOKEN.fullmatch(part):
            raise ConfigError(f'namespace is {start.namespace!r}; allowed are names of letters, '
                              'digits and _ between single /, and no digit at their beginning')
    changes: dict[str, Any] = {row.name: _value(row, values[row.name]) for row in NODE
                               if values[row.name]}
    if values['use_sim_time']:
        changes['use_sim_time'] = values['use_sim_time'] == 'true'
    cameras = changes.get('cameras') or ['camera']
    if path := values['params_file']:
        file = user_path(path, 'params_file')
        space = values['namespace'].strip('/')
        found = parameters_in(file, f'/{space}/{start.name}' if space else f'/{start.name}')
        if 'cameras' not in changes:
            cameras = list(found.get('cameras') or cameras)
        start.parameters.append(str(file))
    for row in CAMERA:
        if values[row.name]:
            changes.update({f'{camera}.{row.name}': _value(row, values[row.name])
                            for camera in _meant(row, cameras)})
    if changes:
        start.parameters.append(changes)
    return start


def refuse_unknown(given: Sequence[str], known: Sequence[str]) -> None:
    """
    Refuse arguments of a command line that no launch file declares: launch takes any in silence.

    :param given: each ``name:=value``.
    :raises ConfigError: names the argument and what was meant.
    """
    for argument in given:
        name, assigned, _ = argument.partition(':=')
        if assigned and name not in known:
            raise ConfigError(f'{name} is no argument of this launch file.'
                              f'{suggestion(name, known)} --show-args tells them all; parameters '
                              'of several cameras stand in params_file')


def is_launched(file: str) -> bool:
    """
    Return whether a launch file is the one on the command line, and not included by another.

    Another one's arguments are in the same list as those meant for this one.
    """
    return any(Path(argument).name == Path(file).name for argument in sys.argv)


def _argument(row: Parameter, more: str = '') -> Argument:
    description = row.description.replace('`', '') + more
    if row.kind == 'string_array':
        description += ' Separated by commas.'
    choices = SWITCH if row.kind == 'bool' else ('', *row.choices) if row.choices else ()
    return Argument(row.name, description, '', choices)


def _value(row: Parameter, text: str) -> Any:
    """Return an argument as a value of its parameter's type."""
    value: Any = text
    try:
        if row.kind == 'bool':
            value = {'true': True, 'false': False}[text]
        elif row.kind == 'integer':
            value = int(text)
        elif row.kind == 'double':
            value = float(text)
        elif row.kind == 'string_array':
            value = [item.strip(' \'"') for item in text.strip('[] ').split(',')
                     if item.strip(' \'"')]
    except (KeyError, ValueError) as error:
        raise ConfigError(f'{row.name} is {text!r}; it must be {a_kind(row.kind)}') from error
    if problem := row.problem(value):
        raise ConfigError(f'{row.name} is {text!r}; {problem}')
    if row.name in ('calibration', 'ego_mask', 'model', 'preset') and _is_local(text):
        return str(Path(text).expanduser().resolve())  # the node may be started elsewhere
    return value


def _is_local(text: str) -> bool:
    return '/' in text and Path(text).expanduser().exists()


def _meant(row: Parameter, cameras: Sequence[str]) -> Sequence[str]:
    if len(cameras) > 1 and row.name not in _SHARED:
        raise ConfigError(f'{row.name} is for one camera, but these are {", ".join(cameras)}: '
                          f'say it in params_file, as <camera>.{row.name}')
    return cameras


def asked_for(values: Mapping[str, str]) -> list[str]:
    """Return the arguments of the viewer, none where nothing is to be shown."""
    found = ['--rviz'] if values['rviz'] == 'true' else []
    if path := values['foxglove']:
        found += ['--foxglove', str(user_path(path, 'foxglove').resolve())]
    return found
