"""
What consumers get: remapped mask, drivable area, colours, overlay. All look-ups.

``OUTPUTS`` is the one table of the images that are published for a frame.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

from .frame import DRIVABLE_CLASS, Frame, Products, Segmentation
from .geometry import Geometry
from .model.taxonomy import UNLABELLED
from .trust.verdict import Standing


@dataclass
class Tables:
    """
    The look-ups that outputs are made by.

    :ivar remap: (256,) uint8, from the model's class ids to the published ones; None = the same.
    :ivar dynamic: (256,) uint8, 255 for people, vehicles and the like among the model's ids.
    :ivar palette_bgr: (256, 3) uint8, colours of the published ids.
    :ivar overlay_alpha: 0 = image only, 1 = colours only.
    :ivar drivable_class: (256,) uint8, 255 for the ids of the drivable head that are drivable.
    :ivar autoware: (256,) uint8, from the model's class ids to Autoware's; None = there is no way.
    """

    remap: np.ndarray | None
    dynamic: np.ndarray
    palette_bgr: np.ndarray
    overlay_alpha: float = 0.5
    autoware: np.ndarray | None = None
    drivable_class: np.ndarray = field(default_factory=lambda: np.zeros(256, np.uint8))


@dataclass
class Making:
    """One frame while its outputs are made."""

    frame: Frame
    segmentation: Segmentation
    tables: Tables

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) uint8 class ids of the published taxonomy, 255 = unlabelled."""
        labels, remap = self.segmentation.labels, self.tables.remap
        return labels if remap is None else look_up(labels, remap)


@dataclass(frozen=True)
class Output:
    """
    One image that is published for a frame.

    :ivar name: last part of its topic.
    :ivar encoding: of sensor_msgs/Image; its rows are packed.
    :ivar meaning: of its values.
    :ivar make: makes it, (H, W) or (H, W, 3) uint8; None: this model has none.
    :ivar coding: of the message's data: the rows, or Autoware's run lengths.
    :ivar lacking: why a model may have none, and the mend.
    """

    name: str
    encoding: str
    meaning: str
    make: Callable[[Making], np.ndarray | None]
    coding: Literal['rows', 'run_lengths'] = 'rows'
    lacking: str = ''


def _drivable_class(making: Making) -> np.ndarray | None:
    """Return the ids of the drivable head; what is withheld, unsure or forgotten is 255."""
    segmentation = making.segmentation
    ids = segmentation.heads.get(DRIVABLE_CLASS)
    if ids is None or segmentation.drivable is None:
        return None
    ids = ids.copy()
    ids[(segmentation.labels == UNLABELLED) | ((look_up(ids, making.tables.drivable_class) > 0)
                                               & (segmentation.drivable == 0))] = UNLABELLED
    return ids


OUTPUTS = (
    Output('mask', 'mono8', 'class ids, 255 = unlabelled', lambda making: making.mask),
    Output('confidence', 'mono8', '255 = certain', lambda making: making.segmentation.confidence,
           lacking='the model gives class ids without a confidence: export it with its logits'),
    Output('entropy', 'mono8', '255 = torn between all classes, 0 = certain',
           lambda making: making.segmentation.entropy,
           lacking='the model gives class ids without a confidence: export it with its logits'),
    Output('drivable', 'mono8', '255 = drivable, 0 = not',
           lambda making: making.segmentation.drivable),
    Output(DRIVABLE_CLASS, 'mono8', "class ids of the model's drivable head, 255 = unlabelled",
           _drivable_class, lacking='the model has no drivable head of several classes, or '
           'drivable_classes overrules it: take drivable, or another model'),
    Output('dynamic_mask', 'mono8', '255 = people, vehicles and the like, 0 = all else',
           lambda making: look_up(making.segmentation.labels, making.tables.dynamic)),
    Output('overlay', 'bgr8', 'the image under the class colours', lambda making: overlay(
        making.frame.bgr, making.mask, making.tables.palette_bgr, making.tables.overlay_alpha,
        making.segmentation.geometry)),
    Output('color_mask', 'bgr8', 'the class colours',
           lambda making: color_mask(making.mask, making.tables.palette_bgr)),
    Output('autoware_mask', 'mono8', "Autoware's 16 classes as run lengths", lambda making: (
        None if making.tables.autoware is None
        else look_up(making.segmentation.labels, making.tables.autoware)), 'run_lengths',
           "there is no remap from the model's classes to autoware16: write one "
           '(models/README.md)'),
)
NAMES = tuple(output.name for output in OUTPUTS)


def of_head(role: str) -> Output:
    """Return the output that shows one of the model's further heads, under its role's name."""
    return Output(role, 'mono8', 'class ids, 255 = unlabelled',
                  lambda making: making.segmentation.heads.get(role))


def make(frame: Frame, segmentation: Segmentation, tables: Tables, wanted: Collection[str],
         standing: Standing | None = None, outputs: Sequence[Output] = OUTPUTS) -> Products:
    """Return the outputs that are wanted, as far as this model has them."""
    making = Making(frame, segmentation, tables)
    made = {output.name: output.make(making) for output in outputs if output.name in wanted}
    images = {name: image for name, image in made.items() if image is not None}
    return Products(frame, segmentation, images, standing,
                    missing=frozenset(made.keys() - images.keys()))


def look_up(labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return ``table[labels]`` for labels (H, W) uint8 and a table (256,) uint8."""
    return cv2.LUT(labels, table)


def color_mask(mask: np.ndarray, palette_bgr: np.ndarray) -> np.ndarray:
    """Return the mask (H, W) uint8 in class colours, (H, W, 3) uint8 BGR."""
    return cv2.applyColorMap(mask, palette_bgr.reshape(256, 1, 3))


def overlay(image: np.ndarray, mask: np.ndarray, palette_bgr: np.ndarray, alpha: float,
            geometry: Geometry) -> np.ndarray:
    """
    Return the camera image with the class colours laid over it, on the output grid.

    :param image: (height, width, 3) uint8 BGR, the camera's.
    :param mask: (H, W) uint8, on the output grid.
    :param alpha: 0 = image only, 1 = colours only.
    """
    if geometry.rectification is not None:
        image = geometry.rectification.picture(image, geometry.output)
    elif geometry.output != geometry.camera:
        rows, columns = geometry.output_pixels()
        image = image[rows[:, None], columns]
    return cv2.addWeighted(image, 1 - alpha, color_mask(mask, palette_bgr), alpha, 0)
