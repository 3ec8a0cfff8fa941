"""Presets: what a consumer expects, as a file that a user can copy and change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import re
from typing import Any

from ..errors import ConfigError
from ..files import user_path
from ..model import schema
from ..paths import shared
from .parameter_table import NODE
from .topics import OUTPUT_NAMES

VISION_MSGS, CAMERA_SIZE, CAMERA_INFO = 'vision_msgs', 'camera_size', 'camera_info'
_NOT_HERE = ('cameras', 'preset', 'autostart')  # parameters that no preset has
_OPTIONAL = re.compile(r'\[([^\[\]]*)\]')
_FIELD = re.compile(r'{([^{}]*)}')


@dataclass(frozen=True)
class Preset:
    """
    One preset.

    :ivar topics: for outputs the topic, with ``{camera}``, ``{index}`` and, in ``[...]``, what is
        only there where the node has several cameras.
    :ivar parameters: values of the node's parameters that hold unless the user sets them.
    :ivar label_map: class of the published table -> name to publish it under, or ``drop``; empty =
        as the table has them.
    :ivar needs: what the consumer cannot do without.
    :ivar most_cameras: that the consumer takes; 0 = any number.
    :ivar where: its file, for messages.
    """

    name: str = ''
    topics: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    label_map: Mapping[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    most_cameras: int = 0
    where: str = ''

    def topic(self, output: str, camera: str, cameras: Sequence[str]) -> str:
        """
        Return the topic of a camera's output, relative to the node's namespace.

        :param cameras: all cameras of the node.
        """
        template = self.topics.get(output)
        if template is None:
            return f'~/{camera}/{output}'
        several = len(cameras) > 1
        text = _OPTIONAL.sub(lambda found: found[1] if several else '', template)
        return text.format(camera=camera, index=cameras.index(camera))

    def check_cameras(self, cameras: Sequence[str]) -> None:
        """
        Refuse cameras that the consumer does not take or whose topics would be the same.

        :raises ConfigError: with the mend.
        """
        if self.most_cameras and len(cameras) > self.most_cameras:
            raise ConfigError(f'parameter cameras names {len(cameras)}, but the consumer of '
                              f'preset {self.name} takes at most {self.most_cameras}: start a '
                              'second node for the others, or name fewer')
        for output in self.topics:
            topics = [self.topic(output, camera, cameras) for camera in cameras]
            if len(set(topics)) < len(topics):
                raise ConfigError(f'{self.where}: topics.{output} is {self.topics[output]!r}, '
                                  f'the same for {" and ".join(cameras)}: put {{camera}} or '
                                  '{index} into it')


NO_PRESET = Preset()


def load_preset(name_or_path: str) -> Preset:
    """
    Load a preset.

    :param name_or_path: a shipped preset's name, or the path of a YAML file; '' = none.
    :raises ConfigError: there is no such preset, or it is wrong in any way.
    """
    if not name_or_path:
        return NO_PRESET
    path = _path(name_or_path)
    document = schema.read_yaml(path)
    schema.check(document, 'presets/preset', path)
    if document['name'] != path.stem:
        raise ConfigError(f'{path}: name is {document["name"]!r}, but the file is called '
                          f'{path.name}. Make them equal.')
    parameters = document.get('parameters', {})
    _check_topics(document['topics'], path)
    _check_parameters(parameters, path)
    return Preset(document['name'], document['topics'], parameters,
                  document.get('label_map', {}), frozenset(document.get('needs', ())),
                  document.get('most_cameras', 0), str(path))


def shipped() -> list[str]:
    """Return the names of the presets that come with the package."""
    return sorted(file.stem for file in shared('presets').glob('*.yaml'))


def _path(name_or_path: str) -> Path:
    if name_or_path.endswith(('.yaml', '.yml')):
        return user_path(name_or_path, 'parameter preset')
    if name_or_path not in shipped():
        raise ConfigError(f'parameter preset is {name_or_path!r}; shipped are '
                          f'{", ".join(shipped())}.'
                          f'{schema.suggestion(name_or_path, shipped())} For one of your own '
                          'give the path of its .yaml file')
    return shared('presets', f'{name_or_path}.yaml')


def _check_topics(topics: Mapping[str, str], path: Path) -> None:
    for output, topic in topics.items():
        if output not in OUTPUT_NAMES:
            raise ConfigError(f'{path}: topics.{output} is no output of the node.'
                              f'{schema.suggestion(output, OUTPUT_NAMES)} Its outputs: '
                              f'{", ".join(OUTPUT_NAMES)}.')
        plain = _FIELD.sub(lambda found: 'x' if found[1] in ('camera', 'index') else '{',
                           _OPTIONAL.sub(lambda found: found[1], topic))
        if not re.fullmatch(r'(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*', plain):
            raise ConfigError(f'{path}: topics.{output} is {topic!r}; allowed is a topic with '
                              '{camera}, {index} and [...] for what only several cameras need, '
                              'e.g. segmentation[/{camera}]/mask.')


def _check_parameters(values: Mapping[str, Any], path: Path) -> None:
    rows = {row.name: row for row in NODE if row.name not in _NOT_HERE}
    for name, value in values.items():
        if name not in rows:
            raise ConfigError(f'{path}: parameters.{name} is no parameter that a preset can set.'
                              f'{schema.suggestion(name, rows)} Allowed: {", ".join(rows)}.')
        if (problem := rows[name].problem(value)):
            raise ConfigError(f'{path}: parameters.{name} is {value!r}; {problem}.')
