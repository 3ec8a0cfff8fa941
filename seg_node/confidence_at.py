"""
The confidence at some pixels, equal to what ``labels.upsample_softmax`` gives there.

Who only judges by the confidence looks at one pixel in a hundred; making all of it takes longer
than the labels do.
"""

import numpy as np

from .geometry import Axis
from .jit import inner, njit
from .survey import survey


def softmax_at(logits: np.ndarray, labels: np.ndarray, rows: Axis, columns: Axis,
               places: tuple[np.ndarray, np.ndarray], temperature: float = 1.0,
               classes: np.ndarray | None = None) -> np.ndarray:
    """
    Return the confidence of the labels on a grid of pixels, uint8 (R, K); elsewhere 0.

    :param logits: float32 (C, h, w), finite: ``upsample_argmax`` has made the labels of them.
    :param labels: uint8 (H, W), the winners.
    :param rows: where the output rows sample the logits; ``columns`` likewise.
    :param places: the R rows and the K columns of the pixels, whole numbers.
    :param temperature: see ``upsample_softmax``.
    :param classes: (256,) uint8 by class id, 0 = its pixels do not matter; None = all do.
    """
    if classes is None:
        classes = np.ones(256, np.uint8)
    down, across = (np.asarray(part, np.int64) for part in places)
    found = np.zeros((len(down), len(across)), np.uint8)
    _fill(np.ascontiguousarray(logits, np.float32), np.float32(1 / temperature), labels,
          classes, down, across, rows.low[down], rows.fraction[down], columns.low[across],
          columns.fraction[across], found)
    return found


@njit()
def _fill(scores, colder, labels, classes, down, across, low_rows, row_fraction, low_columns,
          column_fraction, found):
    height, width = scores.shape[1:]
    winners = np.empty(width, np.uint8)
    best, sure = np.empty((2, width), np.float32), np.empty((2, width), np.float32)
    behind, place = np.empty(width, np.float32), np.empty(width, np.float32)
    # Which rows of the logits best and sure are about, and from which column to before which.
    there, left, end = np.full(2, np.int64(-1)), np.zeros(2, np.int64), np.zeros(2, np.int64)
    for r in range(len(down)):
        first, last = np.int64(-1), np.int64(0)
        for c in range(len(across)):
            if classes[labels[down[r], across[c]]]:
                first, last = np.int64(c) if first < 0 else first, np.int64(c)
        if first < 0:
            continue
        start = np.int64(low_columns[first])
        stop = min(np.int64(low_columns[last]) + 2, np.int64(width))
        upper = np.int64(low_rows[r])
        lower = min(upper + 1, np.int64(height - 1))
        for y in (upper, lower):
            n = y & 1
            if there[n] != y or start < left[n] or stop > end[n]:
                survey(scores, scores, y, start, stop, colder, True, winners[start:stop],
                       best[n, start:stop], behind[start:stop], sure[n, start:stop],
                       place[start:stop])
                there[n], left[n], end[n] = y, start, stop
        up, low, fy = upper & 1, lower & 1, row_fraction[r]
        for c in range(first, last + 1):
            k = labels[down[r], across[c]]
            if not classes[k]:
                continue
            x, fx = np.int64(low_columns[c]), column_fraction[c]
            right = min(x + 1, np.int64(width - 1))
            a = _chance(scores[k, upper, x], best[up, x], sure[up, x], colder)
            b = _chance(scores[k, upper, right], best[up, right], sure[up, right], colder)
            e = _chance(scores[k, lower, x], best[low, x], sure[low, x], colder)
            f = _chance(scores[k, lower, right], best[low, right], sure[low, right], colder)
            one, other = a * (1 - fy) + e * fy, b * (1 - fy) + f * fy
            found[r, c] = np.uint8(np.int32((one * (1 - fx) + other * fx) * 255 + 0.5))


@inner(inline='always')
def _chance(score, best, sure, colder):
    """Return the probability of a class at a point of the logits."""
    if score < best:
        sure *= np.float32(np.exp((score - best) * colder))
    return np.float64(sure)
