"""The road a frame takes, from the parsed message to everything that is published about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import products
from .errors import FrameError
from .frame import Frame, Segmentation, StageClock, Wanted
from .geometry import Geometry, Size
from .segmenter import Segmenter
from .taxonomy import ClassTable, remap_lut


@dataclass(frozen=True)
class Products:
    """
    All outputs for one frame; images not wanted are None.

    :ivar mask: (H, W) uint8 class ids of the output taxonomy, 255 = unlabelled.
    :ivar confidence: (H, W) uint8, 255 = certain.
    :ivar drivable: (H, W) uint8, 255 = drivable, 0 = not.
    :ivar dynamic_mask: (H, W) uint8, 255 = people, vehicles and the like, 0 = all else.
    :ivar overlay: (H, W, 3) uint8 BGR.
    :ivar color_mask: (H, W, 3) uint8 BGR.
    """

    frame: Frame
    geometry: Geometry
    mask: np.ndarray
    confidence: np.ndarray | None
    drivable: np.ndarray | None
    dynamic_mask: np.ndarray | None
    overlay: np.ndarray | None
    color_mask: np.ndarray | None


class Pipeline:
    """
    Segments frames and derives the products.

    :param segmenter: the device's part.
    :param own: the model's class table.
    :param published: the class table of the published mask; remapped where it differs.
    :param drivable_classes: names in ``own`` that count as drivable; None = the table's flags.
    :param output: size of the masks; None = each camera's own.
    """

    def __init__(self, segmenter: Segmenter, own: ClassTable, published: ClassTable | None = None,
                 drivable_classes: Sequence[str] | None = None,
                 output: Size | None = None) -> None:
        self.segmenter = segmenter
        self.classes = published or own
        self.overlay_alpha = 0.5
        self._output = output
        self._remap = None if self.classes == own else remap_lut(own, self.classes)
        self._drivable_lut = own.drivable_lut(drivable_classes)
        self._dynamic_lut = own.dynamic_lut()
        self._head_decides = drivable_classes is None
        self._palette = self.classes.palette_bgr()

    def process(self, frames: Sequence[Frame], wanted: Sequence[Wanted],
                clock: StageClock) -> list[Products | FrameError]:
        """
        Return the products of each frame, or why it was refused, in their order.

        :raises BackendError: when the device fails.
        """
        confidence = any(want.confidence for want in wanted)
        results = self.segmenter.segment(frames, self._output, confidence, clock)
        with clock.stage('products'):
            return [result if isinstance(result, FrameError)
                    else self._products(frame, result, want)
                    for frame, result, want in zip(frames, results, wanted, strict=True)]

    def _products(self, frame: Frame, segmentation: Segmentation, want: Wanted) -> Products:
        labels, geometry = segmentation.labels, segmentation.geometry
        mask = labels if self._remap is None else products.look_up(labels, self._remap)
        return Products(
            frame, geometry, mask,
            confidence=segmentation.confidence if want.confidence else None,
            drivable=self._drivable(segmentation) if want.drivable else None,
            dynamic_mask=(products.look_up(labels, self._dynamic_lut) if want.dynamic_mask
                          else None),
            overlay=(products.overlay(frame.bgr, mask, self._palette, self.overlay_alpha,
                                      geometry) if want.overlay else None),
            color_mask=products.color_mask(mask, self._palette) if want.color_mask else None)

    def _drivable(self, segmentation: Segmentation) -> np.ndarray:
        """Prefer the model's own drivable-area head; classes named by the user overrule it."""
        if segmentation.drivable is not None and self._head_decides:
            return segmentation.drivable
        return products.look_up(segmentation.labels, self._drivable_lut)
