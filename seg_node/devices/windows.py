"""
What the network itself takes and gives -> what the rest of the node works with.

Two adapters around a ``Backend``, put there by the card or the file, so that everybody else sees
one picture in and tensors in the card's layout out: a window that slides over a picture larger
than the network, and tensors that lack the batch axis or have the pixels in one row.
"""

from collections.abc import Sequence
from math import isqrt

import cv2
import numpy as np

from ..errors import BackendError
from ..geometry import Axis, Geometry, Size
from ..model.card import ModelCard
from ..model.tensors import OutputSpec
from ..reference import upsample
from .segmenter import Backend


class WindowedBackend:
    """
    Runs the network on parts of the picture; the mean of their scores is the picture's.

    As mmsegmentation's slide inference (``slide_inference`` in its EncoderDecoder): parts start a
    stride apart, the last ones end with the picture; each part's scores are upsampled to it, and
    where parts overlap their mean counts.

    :param card: its ``input.window`` is given.
    """

    def __init__(self, backend: Backend, card: ModelCard) -> None:
        spec = card.input
        assert spec.window is not None
        self._backend, self._layout, self._outputs = backend, spec.layout, card.outputs
        self._window, self._stride = Size(*spec.window.size), spec.window.stride
        self.description, self.device = backend.description, backend.device
        self.max_batch: int | None = 1

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Prepare for a window; see ``Backend.prepare``."""
        sides = dict(zip(self._layout, shape, strict=True))
        sides |= {'N': 1, 'H': self._window.height, 'W': self._window.width}
        self._backend.prepare(tuple(sides[axis] for axis in self._layout))

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Run the network on all windows; see ``Backend.run``. Outputs are as large as these."""
        rows, columns = (self._layout.index(axis) for axis in 'HW')
        size = Size(tensor.shape[rows], tensor.shape[columns])
        sums = [np.zeros((spec.channels, *size), np.float32) for spec in self._outputs]
        seen = np.zeros(size, np.float32)
        for top in starts(size.height, self._window.height, self._stride[0]):
            for left in starts(size.width, self._window.width, self._stride[1]):
                where = (slice(top, top + self._window.height),
                         slice(left, left + self._window.width))
                part: list[slice] = [slice(None)] * tensor.ndim
                part[rows], part[columns] = where
                found = self._backend.run(np.ascontiguousarray(tensor[tuple(part)]))
                for spec, total, values in zip(self._outputs, sums, found, strict=True):
                    total[(slice(None), *where)] += self._upsampled(spec, values[0])
                seen[where] += 1
        return [self._laid_out(spec, total / seen)
                for spec, total in zip(self._outputs, sums, strict=True)]

    def close(self) -> None:
        """Free the network."""
        self._backend.close()

    def _upsampled(self, spec: OutputSpec, values: np.ndarray) -> np.ndarray:
        """Return the scores of a window, without the batch axis, at its size, (C, h, w)."""
        maps = (values if spec.layout == 'NCHW' else values.transpose(2, 0, 1)
                ).astype(np.float32, copy=False)
        if maps.shape[1:] == self._window:
            return maps
        if spec.align_corners:
            whole = Geometry(self._window, self._window, self._window, 0, 0, self._window)
            axes: tuple[Axis, Axis] = (whole.rows(maps.shape[1], True),
                                       whole.columns(maps.shape[2], True))
            return upsample(maps, *axes).astype(np.float32)
        return np.stack([cv2.resize(plane, self._window[::-1], interpolation=cv2.INTER_LINEAR)
                         for plane in np.ascontiguousarray(maps)])

    @staticmethod
    def _laid_out(spec: OutputSpec, maps: np.ndarray) -> np.ndarray:
        return maps[None] if spec.layout == 'NCHW' else maps.transpose(1, 2, 0)[None]


def starts(whole: int, window: int, stride: int) -> list[int]:
    """Return where windows begin along a side: a stride apart, the last one ends with it."""
    count = max(whole - window + stride - 1, 0) // stride + 1
    return [min(n * stride, whole - window) for n in range(count)]


class ReshapedBackend:
    """
    Gives tensors that lack the batch axis, or have their pixels in one row, in the card's layout.

    Both can be told apart for sure: pixels in a row are as many as those of the input at a whole
    stride; see ``in_layout``.
    """

    def __init__(self, backend: Backend, card: ModelCard) -> None:
        self._backend, self._layout, self._outputs = backend, card.input.layout, card.outputs
        self.description, self.device = backend.description, backend.device
        # Without the batch axis there is one picture at a time.
        self.max_batch: int | None = 1

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Prepare; see ``Backend.prepare``."""
        self._backend.prepare(shape)

    def run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """Run the network; see ``Backend.run``."""
        sides = dict(zip(self._layout, tensor.shape, strict=True))
        size = Size(sides['H'], sides['W'])
        return [in_layout(spec, values, size)
                for spec, values in zip(self._outputs, self._backend.run(tensor), strict=True)]

    def close(self) -> None:
        """Free the network."""
        self._backend.close()


def in_layout(spec: OutputSpec, values: np.ndarray, network: Size) -> np.ndarray:
    """
    Return the output for one picture with all axes of the card's layout, batch first.

    :param network: size of the network's input.
    :raises BackendError: the axes are neither the layout's without the batch, nor its with the
        pixels in a row.
    """
    if values.ndim == len(spec.layout):
        return values
    if values.ndim == len(spec.layout) - 1:
        pixels = values.shape[spec.layout.index('H')]
        stride = isqrt(network.pixels // pixels) if pixels else 0
        if values.shape[0] == 1 and stride and (
                (network.height // stride) * (network.width // stride) == pixels):
            grid = (network.height // stride, network.width // stride)
            axis = spec.layout.index('H')
            return values.reshape(*values.shape[:axis], *grid, *values.shape[axis + 1:])
        return values[None]
    raise BackendError(f'output {spec.name} has the shape {list(values.shape)}, which is not '
                       f'{spec.layout}, nor that without the batch or with the pixels in a row')


def adapted(backend: Backend, card: ModelCard, ranks: Sequence[int]) -> Backend:
    """
    Return a backend that takes pictures and gives tensors as the card says.

    :param ranks: how many axes the network's own outputs have, 0 where that is unknown.
    """
    if any(rank not in (0, len(spec.layout))
           for spec, rank in zip(card.outputs, ranks, strict=True)):
        backend = ReshapedBackend(backend, card)
    return WindowedBackend(backend, card) if card.input.window else backend
