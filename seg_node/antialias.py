"""
Resizing over all the pixels that a smaller one covers, as Pillow's BILINEAR does.

What torchvision and Hugging Face train and score with: a triangle filter as wide as the step from
pixel to pixel (J. Clark, A. Murray and others, Pillow's ``Resample.c``). OpenCV's INTER_LINEAR
reads four pixels whatever the step, and its INTER_AREA is a box.
"""

from functools import lru_cache

import numpy as np

from .geometry import Size
from .jit import inner, njit


@lru_cache(maxsize=64)
def weights(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return what each of ``after`` pixels is made of, along one axis of ``before`` pixels.

    :returns: the first pixel of each (int32), how many they are (int32), and their weights,
        float32 (after, most), which sum to 1.
    """
    step = before / after
    reach = max(step, 1.0)
    middle = (np.arange(after) + 0.5) * step
    first = np.maximum((middle - reach + 0.5).astype(np.int32), 0)
    counts = np.minimum((middle + reach + 0.5).astype(np.int32), before) - first
    offsets = first[:, None] + np.arange(counts.max()) + 0.5 - middle[:, None]
    found = np.maximum(1 - np.abs(offsets) / reach, 0)
    found[np.arange(counts.max()) >= counts[:, None]] = 0
    found /= found.sum(axis=1, keepdims=True)
    return first, counts, found.astype(np.float32)


def antialiased(image: np.ndarray, size: Size) -> np.ndarray:
    """
    Return an image at another size, within one grey level of Pillow's.

    :param image: (height, width, 3) uint8, rows may be padded.
    """
    height, width = image.shape[:2]
    small = np.empty((*size, 3), np.uint8)
    _resize(image, *weights(height, size.height), *weights(width, size.width), small)
    return small


@njit()
def _resize(image, top, tall, down, left, wide, across, small):
    """Fill the small image row by row: rows first, which has long loops, then columns."""
    line = np.empty((image.shape[1], 3), np.float32)
    for y in range(small.shape[0]):
        _mix_rows(image, top[y], tall[y], down[y], line)
        _mix_columns(line, left, wide, across, small[y])


@inner(fastmath={'contract'})
def _mix_rows(image, top, count, share, line):
    for n in range(count):
        row, weight = image[top + n], share[n]
        if n == 0:
            for x in range(line.shape[0]):
                for k in range(3):
                    line[x, k] = np.float32(row[x, k]) * weight
        else:
            for x in range(line.shape[0]):
                for k in range(3):
                    line[x, k] += np.float32(row[x, k]) * weight


@inner(fastmath={'contract'})
def _mix_columns(line, left, wide, across, row):
    half = np.float32(0.5)
    for x in range(row.shape[0]):
        a, b, c = half, half, half
        for n in range(wide[x]):
            weight, place = across[x, n], left[x] + n
            a += line[place, 0] * weight
            b += line[place, 1] * weight
            c += line[place, 2] * weight
        row[x, 0], row[x, 1], row[x, 2] = np.uint8(a), np.uint8(b), np.uint8(c)
