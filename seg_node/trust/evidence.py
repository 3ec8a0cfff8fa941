"""
What can be read off a frame and its mask about whether they are to be believed, in numbers.

Everything is measured on about 10 000 samples, spread evenly over the image whatever its size, so
that it costs the same for every camera and means the same for a mask of another size. Of a small
image it is every other pixel.
"""

from dataclasses import dataclass
from functools import lru_cache
import math

import numpy as np

from ..geometry import Size
from ..model.taxonomy import UNLABELLED
from . import kernels

SAMPLES = 10_800
LINES = 32  # columns of which every row is looked at
BANDS = 6
# Grey levels added to the contrast of a row: what is seen of it in the dark, and what stands out
# from the noise of a bright, even sky.
_DARK, _NOISE = 2.0, 10.0
_RIVALS = 1.7  # classes that compete with the winner, on the mean


@dataclass(frozen=True)
class Evidence:
    """
    Figures of one frame; ``FIGURES`` says what each means.

    :ivar figures: by the names of ``FIGURES``; without confidence one is missing.
    :ivar bands: (BANDS, 256) int64, how often each class id occurs, from the top to the bottom.
    :ivar grey: the samples of the picture, uint8.
    """

    figures: dict[str, float]
    bands: np.ndarray
    grey: np.ndarray


#: What each figure means; the last needs a model that gives a confidence.
FIGURES = {
    'flat': 'share of the picture without any structure',
    'blind_width': 'share of the width in which the lower half of the picture has none',
    'row_likeness': 'mean correlation of neighbouring rows: 1 = the same, 0 = nothing in common',
    'row_break': 'the same of the fifth worst rows, those of little contrast not counted',
    'torn_across': 'greatest share of the width that jumps from one row to the next at once',
    'brightness': 'mean grey level, 0 to 255',
    'drivable': 'share of the mask that is drivable',
    'drivable_afloat': 'how much of the height lies below the drivable area and is not drivable',
    'edges': 'log of how much steeper the picture is where the labels change than elsewhere',
    'borders': 'share of neighbouring samples whose labels differ',
    'drivable_confidence': 'mean confidence inside the drivable area, away from its border',
}


@lru_cache(maxsize=64)
def grid(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the columns of the samples; the same places for any size of mask."""
    step = max(2.0, math.sqrt(size.height * size.width / SAMPLES))
    rows, columns = (max(3, round(side / step)) for side in size)
    return _middles(rows, size.height), _middles(columns, size.width)


@lru_cache(maxsize=64)
def places(camera: Size, mask: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the columns of the samples on the mask."""
    rows, columns = grid(camera)
    if mask == camera:
        return rows, columns
    return _middles(len(rows), mask.height), _middles(len(columns), mask.width)


def _middles(count: int, length: int) -> np.ndarray:
    return ((2 * np.arange(count) + 1) * length) // (2 * count)


def certainty_at(temperature: float) -> np.ndarray:
    """
    Return what each confidence would be at temperature 1, (256,) float64 from 0 to 1.

    So that a reference holds whatever temperature the card is given later. With the winner's
    logit d above n others, its odds are exp(d / T) / n: at temperature 1 they are the T-th power,
    times n ** (T - 1).
    """
    shares = np.arange(256) / 255
    if temperature == 1:
        return shares
    shares = np.clip(shares, 1 / 510, 1 - 1 / 510)
    odds = (shares / (1 - shares)) ** temperature * _RIVALS ** (temperature - 1)
    return odds / (1 + odds)


def measure(grey: np.ndarray, labels: np.ndarray, drivable: np.ndarray,
            confidence: np.ndarray | None, certainty: np.ndarray,
            glimpse: np.ndarray | None = None) -> Evidence:
    """
    Measure a frame.

    :param grey: (H, W) uint8, any grey channel of the picture; its rows may be strided.
    :param labels: (h, w) uint8 class ids, 255 = unlabelled: such pixels count nowhere.
    :param drivable: (h, w) uint8, non-zero = drivable; or (256,), the same by class id.
    :param confidence: (h, w) uint8, 255 = certain, or None.
    :param certainty: what each confidence counts as, see ``certainty_at``.
    :param glimpse: the confidence at ``places`` alone, of what is drivable; or None.
    """
    size = Size(*grey.shape)
    rows, columns = grid(size)
    grey = _any_kind(grey)
    picture = kernels.pick(grey, rows & ~1, columns & ~1)  # of a mosaic always the same colour
    rows, columns = places(size, Size(*labels.shape))
    ids = _pick(labels, rows, columns)
    area = drivable.take(ids) if drivable.ndim == 1 else _pick(drivable, rows, columns)
    sure = glimpse if confidence is None else _pick(confidence, rows, columns)
    alike, clear, brightness = kernels.rows_alike(picture, _DARK, _NOISE)
    flat, blind = kernels.without_structure(picture, ids)
    share, afloat, inside = kernels.drivable_area(area, ids, area if sure is None else sure,
                                                  certainty)
    edges, borders = kernels.edge_agreement(picture, ids)
    figures = {'flat': flat, 'blind_width': blind, 'row_likeness': float(alike.mean()),
               'row_break': _row_break(clear),
               'torn_across': _torn_across(grey), 'brightness': brightness,
               'drivable': share, 'drivable_afloat': afloat, 'edges': edges, 'borders': borders}
    if sure is not None:
        figures['drivable_confidence'] = inside
    bands = np.zeros((BANDS, 256), np.int64)
    kernels.count_bands(ids, bands)
    bands[:, UNLABELLED] = 0
    return Evidence(figures, bands, picture)


def _row_break(alike: np.ndarray) -> float:
    """
    Return the likeness of the fifth worst rows, in a high picture of more: a share of one in 18.

    Of edges right across a whole picture there are fewer.
    """
    least = min(max(4, len(alike) // 18), len(alike) - 1)
    return float(np.partition(alike, least)[least])


def _torn_across(upside_down: np.ndarray) -> float:
    height, width = upside_down.shape
    if height < 4:
        return 0.0
    return float(kernels.torn_across(upside_down, _lines(width)))


@lru_cache(maxsize=64)
def _lines(width: int) -> np.ndarray:
    return _middles(min(LINES, width), width)


def _pick(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return kernels.pick(_any_kind(image), rows, columns)


def _any_kind(image: np.ndarray) -> np.ndarray:
    """
    Return an image bottom row first and read-only.

    Whatever its rows are like and whoever owns it: it is of one type to the compiled loops.
    """
    view = image[::-1]
    view.flags.writeable = False
    return view
