"""The classes of a model's channels -> a class table, by their names."""

from collections.abc import Sequence
from pathlib import Path
import re
from typing import Any

from seg_node.errors import ConfigError
from seg_node.model.taxonomy import ClassTable, load_taxonomy, SegClass
from seg_node.paths import shared

_VOID = {'void', 'unlabeled', 'unlabelled', 'ignore', 'ignored'}
_ROAD = {'road', 'lane', 'drivable', 'driveable', 'drivable area', 'carriageway', 'street',
         'direct', 'alternative', 'lane mark', 'lane marking', 'mark', 'road marking', 'asphalt'}
_GROUND = {'sidewalk', 'pavement', 'grass', 'terrain', 'earth', 'path', 'curb', 'ground', 'dirt',
           'sand', 'floor', 'parking', 'crosswalk'}
_MOVING = {'person', 'pedestrian', 'people', 'human', 'rider', 'cyclist', 'bicyclist',
           'motorcyclist', 'car', 'vehicle', 'truck', 'bus', 'train', 'tram', 'van', 'trailer',
           'caravan', 'motorcycle', 'motorbike', 'bicycle', 'bike', 'animal', 'dog', 'cat',
           'horse', 'cow', 'sheep', 'bird', 'boat', 'minibike', 'airplane', 'aeroplane'}


def bind(names: Sequence[str] | None, channels: int, asked: str | None,
         void: Sequence[int]) -> tuple[str | list[dict[str, Any]], list[str]]:
    """
    Return the card's ``classes``, and what was decided that a person should look at.

    :param names: of the channels as the source tells them; None = it does not.
    :param asked: a class table, its file, or names with commas between; None = by the names.
    :param void: channels that are no class.
    :raises ConfigError: the number of classes is not that of the channels, or nobody names them.
    """
    count = channels - len(void)
    if asked is not None:
        if ',' in asked:
            names = [text.strip() for text in asked.split(',')]
        else:
            table = load_taxonomy(asked)
            if len(table) != count:
                raise ConfigError(
                    f'--classes {asked} has {len(table)} classes, but the network has {channels} '
                    f'channels{f", {len(void)} of them void" if void else ""}.'
                    + (f' If one of them is void, say which: --void {count - 1} for the last.'
                       if count == len(table) + 1 else ' Choose the table it was trained with.'))
            return (asked if not asked.endswith(('.yaml', '.yml')) else _entries(table)), []
    elif names is not None:
        names = [name for n, name in enumerate(names) if n not in void]
    if names is None:
        fits = [path.stem for path in _tables() if len(load_taxonomy(path.stem)) == count]
        raise ConfigError(f'the source does not name the {count} classes: give --classes with a '
                          f'table ({", ".join(fits) or "none of the shipped has as many"}), its '
                          '.yaml file, or their names in order with commas between.')
    if len(names) != count:
        raise ConfigError(f'{len(names)} class names for {count} channels: name them all, in '
                          'their order.')
    for path in _tables():
        table = load_taxonomy(path.stem)
        if [_plain(name) for name in names] == [_plain(name) for name in table.names]:
            return table.name, []
    return _own(names)


def _own(names: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a list of classes with flags by policy, and what to look at."""
    known: dict[str, SegClass] = {}
    for path in reversed(_tables()):
        known |= {_plain(entry.name): entry for entry in load_taxonomy(path.stem).classes}
    entries, guessed = [], []
    for index, name in enumerate(names):
        plain = _plain(name)
        entry: dict[str, Any] = {'id': index, 'name': name.split(',')[0].strip()}
        if plain in _VOID:
            entries.append(entry | {'colour': [0, 0, 0], 'drivable': False, 'dynamic': False,
                                    'void': True})
            continue
        like = known.get(plain)
        if like is None:
            guessed.append(entry['name'])
        drivable = like.drivable if like else plain in _ROAD
        entry |= {'colour': list(like.colour) if like else _colour(index), 'drivable': drivable,
                  'dynamic': like.dynamic if like else plain in _MOVING}
        if (like.ground if like else plain in _GROUND) and not drivable:
            entry['ground'] = True
        entries.append(entry)
    notes = [f'flags of classes that no table has were set by their names; look at: '
             f'{", ".join(guessed)}'] if guessed else []
    return entries, notes


def _entries(table: ClassTable) -> list[dict[str, Any]]:
    return [{'id': entry.id, 'name': entry.name, 'colour': list(entry.colour),
             'drivable': entry.drivable, 'dynamic': entry.dynamic,
             **({'ground': True} if entry.ground and not entry.drivable else {}),
             **({'void': True} if entry.void else {})} for entry in table.classes]


def _tables() -> list[Path]:
    return sorted(shared('models', 'classes').glob('*.yaml'),
                  key=lambda path: path.stem != 'cityscapes19')


def _plain(name: str) -> str:
    """Return a name as it is compared: the first of its synonyms, in one way of writing."""
    return re.sub(r'[\s_-]+', ' ', re.split('[,;]', name)[0]).strip().lower()


def _colour(index: int) -> list[int]:
    """Return the colour of PASCAL VOC's colour map: far apart for neighbouring ids."""
    colour, value = [0, 0, 0], index + 1
    for bit in range(7, -1, -1):
        for channel in range(3):
            colour[channel] |= (value >> channel & 1) << bit
        value >>= 3
    return colour
