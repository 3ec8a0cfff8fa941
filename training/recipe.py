"""A recipe: everything a training run is made of, read from a YAML file."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Recipe:
    """
    The values of a recipe file; see training/README.md for the reasons.

    :ivar crop: (height, width) of the training samples.
    :ivar rows: see ``augment.Augmentation``.
    :ivar backbone_rate: learning rate of pretrained layers, as a share of ``learning_rate``.
    :ivar weight_power: see ``losses.class_weights``.
    :ivar rare: names of the classes that are pasted from other images.
    :ivar focus: share of the crops that are placed on one of them.
    :ivar bonnet, weather: see ``augment.Augmentation``; both are for `camvid11`.
    :ivar recolour, band: see ``augment.Augmentation``.
    :ivar warm_start: exported model to start from, relative to the project; '' = none.
    :ivar frozen_blocks: so many first blocks of the backbone are left as they are.
    :ivar frozen_norm: keep the backbone's batch norm statistics.
    :ivar teacher_weight: weight of the teacher's soft labels in the loss, where there is one.
    :ivar teach: see ``teacher.Teacher``.
    :ivar extra_share: samples of each extra data set for each labelled one.
    """

    model: str
    epochs: int
    taxonomy: str = 'camvid11'
    batch: int = 8
    crop: tuple[int, int] = (288, 384)
    rows: tuple[int, int] = (216, 720)
    light: float = 1.0
    paste: float = 0.5
    focus: float = 0.0
    bonnet: float = 0.0
    weather: float = 0.0
    recolour: float = 0.0
    band: float = 0.0
    rare: tuple[str, ...] = ()
    learning_rate: float = 2e-3
    backbone_rate: float = 0.3
    weight_decay: float = 0.02
    warm_up: int = 100
    poly: float = 0.9
    weight_power: float = 0.2
    lovasz: float = 0.5
    auxiliary: float = 0.4
    average: float = 0.998
    warm_start: str = ''
    frozen_blocks: int = 0
    frozen_norm: bool = False
    teacher_weight: float = 1.0
    teach: dict[str, list[str]] = field(default_factory=dict)
    extra_share: float = 0.3
    validate_every: int = 2
    seed: int = 1


def read_recipe(path: Path) -> Recipe:
    """
    Read a recipe file.

    :raises ValueError: a key that no recipe has, or one that is missing.
    """
    values = yaml.safe_load(path.read_text(encoding='utf-8'))
    allowed = [field.name for field in fields(Recipe)]
    unknown = sorted(set(values) - set(allowed))
    missing = sorted({'model', 'epochs'} - set(values))
    if unknown or missing:
        raise ValueError(f'{path}: unknown {unknown}, missing {missing}; allowed: {allowed}')
    if values.get('weather') and values.get('taxonomy', 'camvid11') != 'camvid11':
        raise ValueError(f'{path}: weather {values["weather"]} with classes '
                         f'{values["taxonomy"]}: it is painted by the ids of camvid11. Leave it '
                         'out, or take those classes.')
    return Recipe(**{key: tuple(value) if isinstance(value, list) else value
                     for key, value in values.items()})
