"""What the kernels look up instead of computing it: coordinates, and values of the grey levels."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..geometry import Geometry, Size
from ..model.tensors import InputSpec
from ..preprocess import level_values
from .buffers import aligned


@dataclass(frozen=True)
class Tables:
    """
    Coordinate tables of one camera, to be uploaded once and kept.

    :ivar data: uint8, what to upload; the other members are offsets in bytes into it.
    :ivar source_columns: int32 low and two weights of 16 bits for each column of the content:
        where it samples the camera image. ``source_rows`` the same.
    :ivar label_columns: int32 low and float32 fraction for each column of the mask: where it
        samples the scores.
    :ivar exact_columns: the fraction of these as float64, for near ties.
    """

    data: np.ndarray
    source_columns: int
    source_rows: int
    label_columns: int
    label_rows: int
    exact_columns: int
    exact_rows: int


def input_values(spec: InputSpec) -> np.ndarray:
    """Return what the network gets for each grey level, (3, 256) for red, green and blue."""
    values = level_values(spec)
    return values if spec.colour == 'rgb' else np.ascontiguousarray(values[::-1])


@lru_cache(maxsize=64)
def tables_for(geometry: Geometry, grid: Size, align_corners: bool = False) -> Tables:
    """
    Return the coordinate tables for a camera and a grid of scores.

    :param grid: size of the network's main output.
    :param align_corners: how that output is to be upsampled (the card says).
    """
    columns = geometry.columns(grid.width, align_corners)
    rows = geometry.rows(grid.height, align_corners)
    parts = [_source_axis(geometry.content.width, geometry.camera.width, clamped=True),
             _source_axis(geometry.content.height, geometry.camera.height, clamped=False),
             _samples(columns.low, columns.fraction), _samples(rows.low, rows.fraction),
             columns.fraction.view(np.uint8), rows.fraction.view(np.uint8)]
    offsets = np.cumsum([0, *(aligned(part.size) for part in parts)])
    data = np.zeros(offsets[-1], np.uint8)
    for part, offset in zip(parts, offsets, strict=False):
        data[offset:offset + part.size] = part
    data.flags.writeable = False
    return Tables(data, *(int(offset) for offset in offsets[:-1]))


def _source_axis(content: int, camera: int, clamped: bool) -> np.ndarray:
    """
    Return low (int32) and both weights (int32, that of low in the lower half) as bytes.

    As ``cv2.resize`` makes them for INTER_LINEAR: float32 positions, weights in 2048ths, columns
    clamped to the image, rows not: there the kernel takes the edge's row for both.
    """
    position = ((np.arange(content) + 0.5) * (1 / (content / camera)) - 0.5).astype(np.float32)
    low = np.floor(position).astype(np.int32)
    fraction = position - low.astype(np.float32)
    if clamped:
        fraction[(low < 0) | (low >= camera - 1)] = 0
        low = np.clip(low, 0, camera - 1)
    pairs = np.empty((content, 2), np.int32)
    pairs[:, 0] = low
    weights = np.rint(np.stack([np.float32(1) - fraction, fraction]) * np.float32(2048))
    pairs[:, 1] = weights[0].astype(np.int32) | weights[1].astype(np.int32) << 16
    return pairs.reshape(-1).view(np.uint8)


def _samples(low: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Return low (int32) and fraction (as float32) interleaved, as bytes."""
    pairs = np.empty((len(low), 2), np.int32)
    pairs[:, 0] = low
    pairs[:, 1] = fraction.astype(np.float32).view(np.int32)
    return pairs.reshape(-1).view(np.uint8)
