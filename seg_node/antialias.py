"""
Resizing over all the pixels that a smaller one covers, exactly as Pillow's BILINEAR does.

What torchvision and Hugging Face train and score with: a triangle filter as wide as the step from
pixel to pixel (J. Clark, A. Murray and others, Pillow's ``Resample.c``), columns first, whole grey
levels in between, weights of 22 bits. OpenCV's INTER_LINEAR reads four pixels whatever the step,
and its INTER_AREA is a box.
"""

from functools import lru_cache

import numpy as np

from .geometry import Size
from .jit import inner, njit

_BITS = 22
_HALF = np.int32(1 << (_BITS - 1))
# So many rows are resized side by side, in the lanes of vector instructions.
_LANES = 16


@lru_cache(maxsize=64)
def weights(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return what each of ``after`` pixels is made of, along one axis of ``before`` pixels.

    :returns: the first pixel of each (int32), how many they are (int32), and their weights in
        2^-22, int32 (after, most).
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
    return first, counts, (found * (1 << _BITS) + 0.5).astype(np.int32)


def antialiased(image: np.ndarray, size: Size) -> np.ndarray:
    """
    Return an image at another size, as Pillow's BILINEAR makes it.

    :param image: (height, width, 3) uint8, rows may be padded.
    """
    height, width = image.shape[:2]
    narrow = np.empty((height, size.width, 3), np.uint8)
    small = np.empty((*size, 3), np.uint8)
    _resize(image.reshape(height, -1) if image.flags.c_contiguous else
            np.ascontiguousarray(image).reshape(height, -1), *weights(width, size.width),
            *weights(height, size.height), narrow, small)
    return small


@njit()
def _resize(image, left, wide, across, top, tall, down, narrow, small):
    """Resize the columns into ``narrow``, then the rows of that; (height, 3 * width) comes in."""
    height, length = image.shape
    block = np.empty((length, _LANES), np.uint8)
    for y in range(0, height, _LANES):
        rows = min(_LANES, height - y)
        for r in range(rows):
            for j in range(length):
                block[j, r] = image[y + r, j]
        _mix_columns(block, left, wide, across, narrow[y:y + rows])
    total = np.empty(small.shape[1] * 3, np.int32)
    for y in range(small.shape[0]):
        _mix_rows(narrow, top[y], tall[y], down[y], total, small[y])


@inner()
def _mix_columns(block, left, wide, across, narrow):
    total = np.empty(_LANES, np.int32)
    for x in range(narrow.shape[1]):
        for k in range(3):
            total[:] = _HALF
            for n in range(wide[x]):
                weight, column = across[x, n], block[(left[x] + n) * 3 + k]
                for r in range(_LANES):
                    total[r] += np.int32(column[r]) * weight
            for r in range(narrow.shape[0]):
                narrow[r, x, k] = np.uint8(total[r] >> _BITS)


@inner()
def _mix_rows(narrow, top, count, share, total, row):
    total[:] = _HALF
    for n in range(count):
        weight, line = share[n], narrow[top + n].reshape(-1)
        for j in range(len(total)):
            total[j] += np.int32(line[j]) * weight
    flat = row.reshape(-1)
    for j in range(len(total)):
        flat[j] = np.uint8(total[j] >> _BITS)
