"""How a model's classes and a data set's labels meet in one class table."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..model.taxonomy import ClassTable, load_taxonomy, remap_lut, SegClass, UNLABELLED

DRIVABLE_ONLY = 'drivable'
_NOTHING = {'none', 'background', 'other', 'no mark', 'no lane', 'not lane'}
#: Against what a layout of lane masks is scored.
LANE_TABLE = ClassTable('lane_marks', (
    SegClass(0, 'none', (64, 64, 64), drivable=False, dynamic=False),
    SegClass(1, 'lane mark', (240, 240, 240), drivable=False, dynamic=False)))
_DRIVABLE_TABLE = ClassTable(DRIVABLE_ONLY, (
    SegClass(0, 'not drivable', (64, 64, 64), drivable=False, dynamic=False),
    SegClass(1, 'drivable', (60, 220, 80), drivable=True, dynamic=False)))


@dataclass(frozen=True)
class ClassMatch:
    """
    The classes in which is scored, and the way into them from both sides.

    :ivar of_model: (256,) uint8, the class of each id of the model's mask, 255 = none.
    :ivar of_labels: (256,) uint8, the class of each class id of the labels, 255 = void.
    :ivar measurable: classes that the labels can name; only these have an IoU.
    :ivar nameable: classes that the model can name.
    """

    classes: ClassTable
    of_model: np.ndarray
    of_labels: np.ndarray
    measurable: frozenset[int]
    nameable: frozenset[int]


def match_classes(model: ClassTable, labels: ClassTable, known: Collection[int],
                  classes: str | None = None, remap: Path | None = None,
                  own_remaps: Mapping[str, Path] | None = None) -> ClassMatch:
    """
    Bring a model's classes and those of labels into one table.

    :param known: ids of ``labels`` that do occur in the files; the others are void there.
    :param classes: a class table's name or file, or ``'drivable'``: what a car may drive on
        against all else, by the flags of both tables; None = the labels' classes.
    :param remap: a remap file of one's own from the model's classes; None = the model's own,
        ``own_remaps`` by the table it leads to, else the shipped one.
    :raises ConfigError: when there is no remap for either side.
    """
    if classes == DRIVABLE_ONLY:
        if remap is not None:
            raise ConfigError(f'--remap {remap} has no meaning with --classes {DRIVABLE_ONLY}: '
                              'the flags of the class tables decide. Leave it out.')
        target = _DRIVABLE_TABLE
        of_model, of_labels = _flags(model, 'model'), _flags(labels, 'labels')
    else:
        target = labels if classes is None else load_taxonomy(classes)
        if remap is not None and model.names == target.names:
            raise ConfigError(f'--remap {remap} has no meaning: the model has the classes scored, '
                              f'{target.name}. Leave it out.')
        try:
            of_model = remap_lut(model, target, remap or (own_remaps or {}).get(target.name))
            of_labels = remap_lut(labels, target)
        except ConfigError as error:
            raise ConfigError(
                f'The model has the classes {model.name}, the labels {labels.name}; scored is in '
                f'{target.name}. {error} Or score in other classes that both lead to: --classes, '
                f'{DRIVABLE_ONLY!r} among them, which needs no remap; or give a remap of the '
                "model's classes as --remap FILE.") from error
    return ClassMatch(target, of_model, of_labels,
                      frozenset(of_labels[list(known)].tolist()) - {UNLABELLED},
                      frozenset(of_model[list(model.ids)].tolist()) - {UNLABELLED})


def match_lane_marks(model: ClassTable, own_head: bool) -> ClassMatch:
    """
    Bring the classes of an output to lane marks against all else, ``LANE_TABLE``.

    :param model: those of the output: marks are called so, or they are all that is something.
    :param own_head: whether the output is no class mask, but a head of its own.
    :raises ConfigError: it is not known which of the classes are marks.
    """
    marks = [entry.id for entry in model.classes if 'mark' in entry.name.lower()]
    if not marks and own_head:
        marks = [entry.id for entry in model.classes if entry.name.lower() not in _NOTHING]
    if not marks or len(marks) == len(model):
        raise ConfigError(f'which classes of {model.name} are lane marks is not known '
                          f'({", ".join(model.names)}): call them so (lane_mark), and what is '
                          'none, none. Or score the head that knows them: --head lane_marks.')
    of_model = np.zeros(256, np.uint8)
    of_model[marks] = 1
    same = np.full(256, UNLABELLED, np.uint8)
    same[:2] = 0, 1
    return ClassMatch(LANE_TABLE, of_model, same, frozenset((0, 1)), frozenset((0, 1)))


def _flags(table: ClassTable, whose: str) -> np.ndarray:
    if not table.drivable_lut().any():
        raise ConfigError(f'--classes {DRIVABLE_ONLY}: no class of the {whose} ({table.name}) is '
                          'drivable. Say drivable: true at those a car may drive on, or score in '
                          'other classes.')
    lut = np.full(256, UNLABELLED, np.uint8)
    lut[list(table.ids)] = table.drivable_lut()[list(table.ids)] // 255
    return lut
