"""Class tables: what each value of a mask means, and how one table's classes map to another's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..files import user_path
from ..paths import shared
from . import schema

UNLABELLED = 255


@dataclass(frozen=True, slots=True)
class SegClass:
    """
    One class.

    :ivar id: its value in the mask, 0 to 254.
    :ivar name: its name in label_info.
    :ivar colour: (red, green, blue), 0 to 255 each.
    :ivar drivable: whether a car may drive on it.
    :ivar dynamic: whether it may move by itself.
    :ivar ground: whether it lies flat on the ground.
    :ivar void: it is no class of the mask: its pixels are 255, unlabelled.
    """

    id: int
    name: str
    colour: tuple[int, int, int]
    drivable: bool
    dynamic: bool
    ground: bool = False
    void: bool = False


@dataclass(frozen=True)
class ClassTable:
    """
    The classes of a model or of a mask, ids 0 to N-1 in order.

    Convention: every look-up table has 256 entries, so it can be indexed with any uint8 mask;
    values without a class, 255 (unlabelled) among them, are black, never drivable and never
    dynamic.
    """

    name: str
    classes: tuple[SegClass, ...]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def remap_name(self) -> str:
        """The name of the table that remaps to this one lead to."""
        return self.name

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in the order of their ids."""
        return tuple(item.name for item in self.classes)

    @property
    def ids(self) -> tuple[int, ...]:
        """The class ids, ascending."""
        return tuple(item.id for item in self.classes)

    @property
    def void_ids(self) -> tuple[int, ...]:
        """The ids that stand for void: the network may say them, no mask holds them."""
        return tuple(item.id for item in self.classes if item.void)

    def palette_bgr(self) -> np.ndarray:
        """Return the (256, 3) uint8 BGR colours."""
        palette = np.zeros((256, 3), np.uint8)
        for item in self.classes:
            palette[item.id] = item.colour[::-1]
        return palette

    def drivable_lut(self, names: Sequence[str] | None = None) -> np.ndarray:
        """
        Return a (256,) uint8 table: 255 for drivable classes, 0 for all else.

        :param names: the drivable classes; None for the table's own choice, which they override
            as a whole.
        :raises ConfigError: when a name is not in the table.
        """
        if names is None:
            return self._lut(item.id for item in self.classes if item.drivable)
        return self._lut(self.id_of(name, 'drivable classes') for name in names)

    def dynamic_lut(self, names: Sequence[str] | None = None) -> np.ndarray:
        """Return a (256,) uint8 table: 255 for dynamic classes, 0 for all else; likewise."""
        if names is None:
            return self._lut(item.id for item in self.classes if item.dynamic)
        return self._lut(self.id_of(name, 'dynamic classes') for name in names)

    def ground_lut(self) -> np.ndarray:
        """Return a (256,) uint8 table: 255 for classes that lie flat on the ground, else 0."""
        return self._lut(item.id for item in self.classes if item.ground)

    def id_of(self, name: str, where: str) -> int:
        """
        Return the id of a class by its name.

        :param where: what named it (a parameter, a file and key), for the message.
        :raises ConfigError: when no class has this name.
        """
        if name not in self.names:
            raise ConfigError(f'{where}: {name!r} is not a class of {self.name}.'
                              f'{schema.suggestion(name, self.names)} Its classes: '
                              f'{", ".join(self.names)}.')
        return self.names.index(name)

    @staticmethod
    def _lut(ids: Iterable[int]) -> np.ndarray:
        lut = np.zeros(256, np.uint8)
        lut[list(ids)] = 255
        return lut


@dataclass(frozen=True)
class GroupedTable(ClassTable):
    """
    A class table whose classes are groups of another one's.

    :ivar base: the other one.
    :ivar groups: for each id of ``base`` the id of its group, 255 = dropped.
    """

    base: ClassTable
    groups: tuple[int, ...]

    @property
    def remap_name(self) -> str:
        """The name of the table that remaps to this one lead to."""
        return self.base.name

    def lut(self) -> np.ndarray:
        """Return the (256,) uint8 table from ids of ``base`` to those of the groups."""
        lut = np.full(256, UNLABELLED, np.uint8)
        lut[:len(self.groups)] = self.groups
        return lut


def load_taxonomy(name_or_path: str | Path) -> ClassTable:
    """
    Load a class table.

    :param name_or_path: a shipped table's name (``'cityscapes19'``), or the path of a YAML file;
        text is a path when it ends in .yaml or .yml.
    :raises ConfigError: when there is no such table or it is wrong in any way.
    """
    if isinstance(name_or_path, str) and not name_or_path.endswith(('.yaml', '.yml')):
        folder = shared('models', 'classes')
        path = folder / f'{name_or_path}.yaml'
        shipped = sorted(file.stem for file in folder.glob('*.yaml'))
        if name_or_path not in shipped:
            raise ConfigError(f'There is no class table {name_or_path!r}.'
                              f'{schema.suggestion(name_or_path, shipped)} Shipped: '
                              f'{", ".join(shipped)}. For one of your own give the path of its '
                              '.yaml file.')
    else:
        path = user_path(name_or_path, 'the class table')
    document = schema.read_yaml(path)
    table = class_table(document, path)
    if table.name != path.stem:
        raise ConfigError(f'{path}: name is {table.name!r}, but the file is called {path.name}. '
                          'Make them equal: remaps find a table by this name.')
    return table


def class_table(document: dict[str, Any], where: Path | str, prefix: str = '') -> ClassTable:
    """
    Return the table that a document (a mapping with ``name`` and ``classes``) describes.

    :param where: the file it came from, for messages.
    :param prefix: key under which it stands in that file, with its dot.
    :raises ConfigError: on unknown or missing keys, values out of range, ids that are not
        0, 1, 2 ... in order, and names that stand twice.
    """
    schema.check(document, 'classes', where, prefix)
    names: dict[str, int] = {}
    for index, entry in enumerate(document['classes']):
        key = f'{where}: {prefix}classes[{index}]'
        if entry['id'] != index:
            raise ConfigError(f'{key}.id is {entry["id"]}; it must be {index}: ids count from 0 '
                              'without gaps or repeats, in the order of the list. Sort and '
                              'number the classes.')
        if entry['name'] in names:
            raise ConfigError(f'{key}.name is {entry["name"]!r}, which class '
                              f'{names[entry["name"]]} has already; names must differ. Rename '
                              'one of the two.')
        names[entry['name']] = index
        flag = next((flag for flag in ('drivable', 'dynamic', 'ground')
                     if entry.get('void') and entry.get(flag)), None)
        if flag:
            raise ConfigError(f'{key}.{flag} is true, but void is, too: what is void is nothing. '
                              'Set one of the two to false.')
    return ClassTable(document['name'], tuple(map(_seg_class, document['classes'])))


def _seg_class(entry: dict[str, Any]) -> SegClass:
    red, green, blue = entry['colour']
    return SegClass(int(entry['id']), entry['name'], (int(red), int(green), int(blue)),
                    entry['drivable'], entry['dynamic'],
                    entry.get('ground', entry['drivable']), entry.get('void', False))


def remap_lut(source: ClassTable, target: ClassTable, path: Path | None = None) -> np.ndarray:
    """
    Return the (256,) uint8 table that turns ids of one class table into ids of another.

    What has no counterpart becomes 255, and so does every value that is no id of ``source``.

    :param path: a remap file of one's own; None for the shipped one. Tables with the same class
        names need none.
    :raises ConfigError: when there is no remap for the two or it is wrong in any way.
    """
    if isinstance(target, GroupedTable):
        return target.lut()[remap_lut(source, target.base, path)]
    lut = np.full(256, UNLABELLED, np.uint8)
    if source.names == target.names:
        lut[list(source.ids)] = source.ids
        lut[[*source.void_ids, *target.void_ids]] = UNLABELLED
        return lut
    path = path or _shipped_remap(source.name, target.name)
    document = schema.read_yaml(path)
    schema.check(document, 'remap', path)
    for key, table in (('source', source), ('target', target)):
        if document[key] != table.name:
            raise ConfigError(f'{path}: {key} is {document[key]!r}, but {table.name!r} is what '
                              'it is used for. Correct the key, or choose another remap.')
    if 'others' in document:
        lut[list(source.ids)] = target.id_of(document['others'], f'{path}: others')
    for name, counterpart in document['classes'].items():
        lut[source.id_of(name, f'{path}: classes')] = target.id_of(
            counterpart, f'{path}: classes.{name}')
    lut[list(source.void_ids)] = UNLABELLED
    return lut


def _shipped_remap(source: str, target: str) -> Path:
    folder = shared('models', 'classes', 'remaps')
    path = folder / f'{source}_to_{target}.yaml'
    if not path.exists():
        known = sorted(file.stem.replace('_to_', ' to ') for file in folder.glob('*.yaml'))
        raise ConfigError(f'There is no remap from the classes {source} to {target}. Shipped: '
                          f'{", ".join(known)}. Choose one of these targets, keep the model\'s '
                          f'own classes, or write {path}.')
    return path
