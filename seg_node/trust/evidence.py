"""
What can be read off a frame and its mask about whether they are to be believed, in numbers.

Everything is measured on about 10 000 samples, spread evenly over the image whatever its size, so
that it costs the same for every camera and means the same for a mask of another size.
"""

from dataclasses import dataclass
from functools import lru_cache
import math

from numba import njit
import numpy as np

from ..geometry import Size
from ..model.taxonomy import UNLABELLED

SAMPLES = 10_800
BANDS = 6
_FLAT = 2  # grey levels between the lightest and the darkest of nine neighbouring samples
_DIM = 2.0  # grey levels added to the contrast of a row: in the dark only noise is left


@dataclass(frozen=True)
class Evidence:
    """
    Figures of one frame; ``FIGURES`` says what each means.

    :ivar figures: by name; those that need a confidence are missing where the model has none.
    :ivar bands: (BANDS, 256) int64, how often each class id occurs, from the top to the bottom.
    :ivar grey: the samples of the picture, uint8.
    """

    figures: dict[str, float]
    bands: np.ndarray
    grey: np.ndarray


#: Figures of the picture, and of the mask without and with its confidence: name, meaning.
PICTURE = {
    'flat': 'share of the picture without any structure',
    'flat_below': 'the same of its lower half',
    'row_likeness': 'mean correlation of neighbouring rows: 1 = the same, 0 = nothing in common',
    'row_break': 'the same that 5 % of the rows do not reach',
    'brightness': 'mean grey level, 0 to 255',
}
MASK = {
    'drivable': 'share of the mask that is drivable',
    'drivable_ahead': 'the same of the middle of its lower part, where the car drives next',
    'drivable_afloat': 'how much lies below the drivable area that is not drivable, as a share '
                       'of the height',
    'edges': 'log of how much steeper the picture is where the labels change than elsewhere',
}
CONFIDENCE = {
    'drivable_confidence': 'mean confidence inside the drivable area, away from its border',
}
FIGURES = PICTURE | MASK | CONFIDENCE


@lru_cache(maxsize=64)
def grid(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the columns of the samples; the same places for any size of mask."""
    step = math.sqrt(size.height * size.width / SAMPLES)
    rows, columns = (max(3, round(side / step)) for side in size)
    return _middles(rows, size.height), _middles(columns, size.width)


def _middles(count: int, length: int) -> np.ndarray:
    return ((2 * np.arange(count) + 1) * length) // (2 * count)


def measure(grey: np.ndarray, labels: np.ndarray, drivable: np.ndarray,
            confidence: np.ndarray | None) -> Evidence:
    """
    Measure a frame.

    :param grey: (H, W) uint8, any grey channel of the picture; its rows may be strided.
    :param labels: (h, w) uint8 class ids, 255 = unlabelled: such pixels count nowhere.
    :param drivable: (h, w) uint8, non-zero = drivable.
    :param confidence: (h, w) uint8, 255 = certain, or None.
    """
    size = Size(*grey.shape)
    rows, columns = grid(size)
    picture = _pick(grey, rows & ~1, columns & ~1)  # of a mosaic always the same colour
    if labels.shape != grey.shape:
        rows = _middles(len(rows), labels.shape[0])
        columns = _middles(len(columns), labels.shape[1])
    ids, area = _pick(labels, rows, columns), _pick(drivable, rows, columns)
    sure = None if confidence is None else _pick(confidence, rows, columns)
    values = np.zeros(len(FIGURES))
    bands = np.zeros((BANDS, 256), np.int64)
    _measure(picture, ids, area, picture if sure is None else sure, values, bands)
    names = FIGURES if sure is not None else PICTURE | MASK
    return Evidence(dict(zip(names, values.tolist(), strict=False)), bands, picture)


def _pick(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return image[rows].take(columns, axis=1)


@njit(nogil=True, cache=True)
def _measure(grey, labels, drivable, confidence, values, bands):
    """Write the figures in the order of FIGURES, and count the classes in each band."""
    height, width = grey.shape
    flat, flat_below, seen_below = 0, 0, 0
    area, ahead, seen, seen_ahead = 0, 0, 0, 0
    sure, inside = 0, 0
    afloat = 0
    edge_sum, edge_count, rest_sum, rest_count = 0, 0, 0, 0
    brightness = 0
    likeness = np.empty(height - 1)
    means, spreads = np.empty(height), np.empty(height)
    not_below = np.zeros(width, np.int64)
    for y in range(height - 1, -1, -1):
        total, square = 0, 0
        for x in range(width):
            value = np.int64(grey[y, x])
            total += value
            square += value * value
        brightness += total
        means[y] = total / width
        spreads[y] = np.sqrt(max(0.0, square / width - means[y] ** 2)) + _DIM
        for x in range(width):
            here = labels[y, x]
            if x + 1 < width:
                step = abs(np.int64(grey[y, x]) - np.int64(grey[y, x + 1]))
                if labels[y, x + 1] != here:
                    edge_sum += step
                    edge_count += 1
                else:
                    rest_sum += step
                    rest_count += 1
            if y + 1 < height:
                step = abs(np.int64(grey[y, x]) - np.int64(grey[y + 1, x]))
                if labels[y + 1, x] != here:
                    edge_sum += step
                    edge_count += 1
                else:
                    rest_sum += step
                    rest_count += 1
            if here == UNLABELLED:
                continue
            seen += 1
            bands[y * BANDS // height, here] += 1
            below = 2 * y >= height
            seen_below += below
            if _is_flat(grey, y, x):
                flat += 1
                flat_below += below
            in_front = (20 * y >= 13 * height and 10 * y < 9 * height
                        and 10 * x >= 3 * width and 10 * x < 7 * width)
            seen_ahead += in_front
            if drivable[y, x] == 0:
                not_below[x] += 1
                continue
            area += 1
            ahead += in_front
            afloat += not_below[x]
            if (drivable[max(y - 1, 0), x] and drivable[min(y + 1, height - 1), x]
                    and drivable[y, max(x - 1, 0)] and drivable[y, min(x + 1, width - 1)]):
                inside += 1
                sure += confidence[y, x]
    for y in range(height - 1):
        product = 0.0
        for x in range(width):
            product += (grey[y, x] - means[y]) * (grey[y + 1, x] - means[y + 1])
        likeness[y] = product / width / (spreads[y] * spreads[y + 1])
    values[0] = flat / max(seen, 1)
    values[1] = flat_below / max(seen_below, 1)
    values[2] = likeness.mean()
    values[3] = np.sort(likeness)[(height - 1) // 20]
    values[4] = brightness / (height * width)
    values[5] = area / max(seen, 1)
    values[6] = ahead / seen_ahead if seen_ahead else values[5]
    values[7] = afloat / max(area, 1) / height
    values[8] = np.log((edge_sum / max(edge_count, 1) + 1) / (rest_sum / max(rest_count, 1) + 1))
    values[9] = sure / max(inside, 1) / 255


@njit(nogil=True, cache=True, inline='always')
def _is_flat(grey, y, x):
    """Return whether a sample and its eight neighbours are all but equal."""
    low = high = grey[y, x]
    for v in range(max(y - 1, 0), min(y + 2, grey.shape[0])):
        for u in range(max(x - 1, 0), min(x + 2, grey.shape[1])):
            low, high = min(low, grey[v, u]), max(high, grey[v, u])
    return high - low <= _FLAT
