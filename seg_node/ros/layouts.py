"""Layouts for RViz and Foxglove that show what a node really publishes, under its real names."""

from collections.abc import Mapping, Sequence
import copy
from dataclasses import dataclass
from typing import Any

import yaml

from ..paths import shared
from .ground import NAMES as GROUND_NAMES

_IMAGES = ('overlay', 'color_mask', 'drivable')


@dataclass(frozen=True)
class View:
    """
    What there is to see of one camera.

    :ivar image: the topic of its images.
    :ivar outputs: by their names, the topics of its outputs.
    """

    name: str
    image: str
    outputs: Mapping[str, str]

    def topic(self, name: str) -> str:
        """Return the topic of an output, or of ``image``."""
        return self.image if name == 'image' else self.outputs[name]


def rviz_config(views: Sequence[View], fixed_frame: str) -> str:
    """
    Return RViz's configuration: the displays of ``rviz/seg_node.rviz`` for each camera.

    The topics in that file are names of outputs, or ``image``.
    """
    document = yaml.safe_load(shared('rviz', 'seg_node.rviz').read_text(encoding='utf-8'))
    manager = document['Visualization Manager']
    manager['Global Options']['Fixed Frame'] = fixed_frame
    displays = manager['Displays']
    manager['Displays'] = [display for display in displays if 'Topic' not in display]
    for view in views:
        for display in copy.deepcopy([one for one in displays if 'Topic' in one]):
            display['Topic']['Value'] = view.topic(display['Topic']['Value'])
            if len(views) > 1:
                display['Name'] = f'{view.name}: {display["Name"]}'
            manager['Displays'].append(display)
    return yaml.safe_dump(document, sort_keys=False)


def foxglove_layout(views: Sequence[View], fixed_frame: str) -> dict[str, Any]:
    """Return Foxglove's layout, as its menu imports it: images, ground in 3D, diagnostics."""
    panels: dict[str, Any] = {
        'DiagnosticSummary!seg_node': {'topicToRender': '/diagnostics', 'minLevel': 0},
        '3D!seg_node': {'followTf': fixed_frame, 'topics': {
            view.topic(name): {'visible': True} for view in views for name in GROUND_NAMES}}}
    rows = []
    for view in views:
        row = []
        for name in ('image', *_IMAGES):
            panel = f'Image!{view.name}_{name}'
            panels[panel] = {'foxglovePanelTitle': f'{view.name}: {name}',
                             'imageMode': {'imageTopic': view.topic(name)}}
            row.append(panel)
        rows.append(_split(row, 'row'))
    below = _split(['3D!seg_node', 'DiagnosticSummary!seg_node'], 'row')
    return {'configById': panels, 'globalVariables': {}, 'userNodes': {},
            'playbackConfig': {'speed': 1}, 'layout': _split([*rows, below], 'column')}


def _split(parts: Sequence[Any], direction: str) -> Any:
    """Return parts of equal size beside each other, as Foxglove nests them: two and two."""
    if len(parts) == 1:
        return parts[0]
    return {'first': parts[0], 'second': _split(parts[1:], direction), 'direction': direction,
            'splitPercentage': 100 / len(parts)}
