"""
What one frame costs when it is done otherwise: three ways to write the callback of a Python node.

Each gets a BGR image and gives labels, confidence and drivable at the camera's size, as the
pipeline does, with the same network on the same backend in the same process.
"""

from abc import ABC, abstractmethod
from typing import Any

import cv2
import numpy as np

from ..devices.segmenter import Backend
from ..geometry import Geometry
from ..model.card import ModelCard

Masks = tuple[np.ndarray, np.ndarray, np.ndarray]


class Baseline(ABC):
    """
    One way, for networks with NCHW logits; see the module.

    :ivar about: what it does, for people.
    """

    about = ''

    def __init__(self, card: ModelCard, backend: Backend) -> None:
        self.card, self._backend = card, backend
        self._main = card.outputs.index(card.main_output)
        self._drivable = [entry.id for entry in card.main_output.classes.classes if entry.drivable]

    def __call__(self, image: np.ndarray, geometry: Geometry) -> Masks:
        """Return labels, confidence and drivable, (H, W) uint8 each."""
        return self.masks(self._logits(image, geometry), geometry)

    def labels_of(self, image: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Return the labels alone, (H, W) uint8."""
        return self.labels(self._logits(image, geometry), geometry)

    def _logits(self, image: np.ndarray, geometry: Geometry) -> np.ndarray:
        return np.asarray(self._backend.run(self.tensor(image, geometry))[self._main][0],
                          np.float32)

    @abstractmethod
    def tensor(self, image: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Return the network's input."""

    @abstractmethod
    def masks(self, logits: np.ndarray, geometry: Geometry) -> Masks:
        """Return what is published."""

    @abstractmethod
    def labels(self, logits: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Return the first of ``masks``, for who publishes nothing else."""

    def _normalised(self, image: np.ndarray, geometry: Geometry, dtype: Any) -> np.ndarray:
        """Return (image * scale - mean) / std by numpy, letterboxed, NCHW float32."""
        spec, (height, width) = self.card.input, geometry.network
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if spec.colour == 'rgb' else image
        small = cv2.resize(rgb, (geometry.content.width, geometry.content.height))
        mean: np.ndarray = np.asarray(spec.mean, dtype)
        std: np.ndarray = np.asarray(spec.std, dtype)
        x = (small.astype(dtype) * dtype(spec.scale) - mean) / std
        border = (spec.pad_value * dtype(spec.scale) - mean) / std
        padded: np.ndarray = np.empty((height, width, 3), dtype)
        padded[:] = border
        padded[geometry.top:geometry.top + small.shape[0],
               geometry.left:geometry.left + small.shape[1]] = x
        return padded.transpose(2, 0, 1)[None].astype(spec.dtype)

    def _full(self, logits: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Return the logits at the camera's size, (C, H, W)."""
        width, height = geometry.network[::-1]
        rows = slice(geometry.top, geometry.top + geometry.content.height)
        columns = slice(geometry.left, geometry.left + geometry.content.width)
        inside = [cv2.resize(plane, (width, height))[rows, columns] for plane in logits]
        return np.stack([cv2.resize(plane, geometry.camera[::-1]) for plane in inside])


class Usual(Baseline):
    """numpy from end to end, in float64, as most projects begin."""

    about = 'usual Python node (numpy, float64)'

    def tensor(self, image: np.ndarray, geometry: Geometry) -> np.ndarray:
        return self._normalised(image, geometry, np.float64)

    def labels(self, logits: np.ndarray, geometry: Geometry) -> np.ndarray:
        return self._full(logits, geometry).argmax(axis=0).astype(np.uint8)

    def masks(self, logits: np.ndarray, geometry: Geometry) -> Masks:
        full = self._full(logits, geometry)
        labels = full.argmax(axis=0)
        exponentials = np.exp(full - full.max(axis=0))
        sure = exponentials.max(axis=0) / exponentials.sum(axis=0)
        drivable = np.isin(labels, self._drivable).astype(np.uint8) * 255
        return labels.astype(np.uint8), (sure * 255).astype(np.uint8), drivable


class Tutorial(Usual):
    """As the callback of Nav2's segmentation tutorial: float32, all of softmax, then its max."""

    about = "the Nav2 tutorial's way (numpy, float32)"

    def tensor(self, image: np.ndarray, geometry: Geometry) -> np.ndarray:
        return self._normalised(image, geometry, np.float32)

    def masks(self, logits: np.ndarray, geometry: Geometry) -> Masks:
        full = self._full(logits, geometry)[None]
        labels = np.argmax(full, axis=1).squeeze(0).astype(np.uint8)
        exponentials = np.exp(full - np.max(full, axis=1, keepdims=True))
        chances = exponentials / np.sum(exponentials, axis=1, keepdims=True)
        sure = (np.max(chances, axis=1).squeeze(0) * 255).astype(np.uint8)
        return labels, sure, np.isin(labels, self._drivable).astype(np.uint8) * 255


class Careful(Baseline):
    """All by OpenCV's vectorised functions: look-up table, one warp a class, running maximum."""

    about = 'careful OpenCV'

    def __init__(self, card: ModelCard, backend: Backend) -> None:
        super().__init__(card, backend)
        spec = card.input
        grey = np.arange(256.0)
        table = np.stack([(grey * spec.scale - mean) / std
                          for mean, std in zip(spec.mean, spec.std, strict=True)], axis=-1)
        self._order = (2, 1, 0) if spec.colour == 'rgb' else (0, 1, 2)
        self._table = table[:, self._order].astype(np.float32).reshape(1, 256, 3)
        self._border = table[round(spec.pad_value)]
        self._lut = np.zeros(256, np.uint8)
        self._lut[self._drivable] = 255

    def tensor(self, image: np.ndarray, geometry: Geometry) -> np.ndarray:
        small = cv2.resize(image, (geometry.content.width, geometry.content.height))
        tensor = np.empty((1, 3, *geometry.network), np.float32)
        tensor[0] = self._border[:, None, None]
        rows = slice(geometry.top, geometry.top + small.shape[0])
        columns = slice(geometry.left, geometry.left + small.shape[1])
        for source, plane in enumerate(cv2.split(cv2.LUT(small, self._table))):
            tensor[0, self._order[source], rows, columns] = plane
        return tensor

    def masks(self, logits: np.ndarray, geometry: Geometry) -> Masks:
        labels, best, planes = self._winners(logits, geometry)
        total = np.zeros(geometry.camera, np.float32)
        for plane in planes:
            total += cv2.exp(cv2.subtract(plane, best))
        sure = cv2.convertScaleAbs(cv2.divide(1.0, total), alpha=255)
        return labels, sure, cv2.LUT(labels, self._lut)

    def labels(self, logits: np.ndarray, geometry: Geometry) -> np.ndarray:
        return self._winners(logits, geometry)[0]

    def _winners(self, logits: np.ndarray, geometry: Geometry,
                 ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Return labels, their scores, and all scores by class, at the camera's size."""
        camera, content, network = geometry.camera, geometry.content, geometry.network
        moves = []
        for cells, border, side, inner, full in (
                (logits.shape[2], geometry.left, network.width, content.width, camera.width),
                (logits.shape[1], geometry.top, network.height, content.height, camera.height)):
            step = inner / full * cells / side
            moves.append((step, (border + 0.5 * inner / full) * cells / side - 0.5))
        warp = np.array([[moves[0][0], 0, moves[0][1]], [0, moves[1][0], moves[1][1]]])
        planes = [cv2.warpAffine(plane, warp, camera[::-1], borderMode=cv2.BORDER_REPLICATE,
                                 flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
                  for plane in logits]
        best, labels = planes[0].copy(), np.zeros(camera, np.uint8)
        for index, plane in enumerate(planes[1:], 1):
            labels[cv2.compare(plane, best, cv2.CMP_GT) > 0] = index
            cv2.max(best, plane, best)
        return labels, best, planes


#: By the names that reports have.
BASELINES: dict[str, type[Baseline]] = {
    'usual': Usual, 'tutorial': Tutorial, 'careful': Careful}
