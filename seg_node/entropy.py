"""
Scores -> entropy on the output grid: how torn the network is between all its classes.

The confidence tells of the winner alone; the entropy also whether the rest goes to one rival or to
all of them. It is that of the probabilities on the network's grid (as many logarithms as grid
points, not as pixels), upsampled bilinearly: unlike the confidence it stays low at the border
between two sure classes.
"""

import numpy as np

from .geometry import Axis
from .jit import inner, njit
from .survey import LOG2_E, power_of_two

_NOTHING = np.float32(87)  # exp(-87) is nothing, and so is its product; with infinity it is not


def upsample_entropy(scores: np.ndarray, rows: Axis, columns: Axis,
                     temperature: float | None) -> np.ndarray:
    """
    Return the entropy, uint8 (H, W): 0 = certain, 255 = all classes alike.

    ``floor(255 * H / ln(C) + 0.5)`` with H = -sum of p ln p, in nats (Shannon, 1948).

    :param scores: finite float32 (C, h, w).
    :param rows: where the output rows sample the scores; ``columns`` likewise.
    :param temperature: p is the softmax of ``scores / temperature``; None: the scores are p.
    """
    scores = np.ascontiguousarray(scores, np.float32)
    grid = np.empty(scores.shape[1:], np.float32)
    if temperature is None:
        _of_probabilities(scores, grid)
    else:
        _of_logits(scores, np.float32(1 / temperature), grid)
    entropy = np.empty((len(rows.low), len(columns.low)), np.uint8)
    _upsample(grid, 255 / np.log(max(2, len(scores))), rows.low, rows.fraction, columns.low,
              columns.fraction, entropy)
    return entropy


@njit()
def _of_logits(scores, colder, grid):
    """Write ln(sum) + sum(e * d) / sum, with d the way below the greatest and e = exp(-d)."""
    classes, height, width = scores.shape
    best, lead = np.empty(width, np.float32), np.empty(width, np.float32)
    total, torn = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height):
        best[:] = scores[0, y]
        for k in range(1, classes):
            _raise(scores[k, y], best)
        total[:] = 0
        torn[:] = 0
        for k in range(classes):
            _behind(scores[k, y], best, lead)
            _collect(lead, colder, total, torn)
        for x in range(width):
            grid[y, x] = np.log(total[x]) + torn[x] / total[x]


# A loop each, so that they are vectorised.


@inner()
def _raise(row, best):
    for x in range(len(row)):
        best[x] = row[x] if row[x] > best[x] else best[x]


@inner()
def _behind(row, best, lead):
    for x in range(len(row)):
        lead[x] = best[x] - row[x]


@inner(fastmath={'contract'})
def _collect(lead, colder, total, torn):
    for x in range(len(total)):
        behind = lead[x] * colder
        term = power_of_two(-behind * LOG2_E)
        total[x] += term
        torn[x] += term * (behind if behind < _NOTHING else _NOTHING)


@njit()
def _of_probabilities(scores, grid):
    classes, height, width = scores.shape
    for y in range(height):
        for x in range(width):
            total = np.float32(0)
            for k in range(classes):
                share = scores[k, y, x]
                if share > 0:
                    total -= share * np.log(share)
            grid[y, x] = total


@njit()
def _upsample(grid, scale, row_low, row_fraction, column_low, column_fraction, entropy):
    height, width = grid.shape
    line = np.empty(width + 1)
    for y in range(len(row_low)):
        fy = row_fraction[y]
        above, below = grid[row_low[y]], grid[min(row_low[y] + 1, height - 1)]
        for x in range(width):
            line[x] = (above[x] * (1 - fy) + below[x] * fy) * scale
        line[width] = line[width - 1]
        for x in range(len(column_low)):
            low, fx = column_low[x], column_fraction[x]
            value = line[low] * (1 - fx) + line[low + 1] * fx
            entropy[y, x] = np.uint8(np.int32(min(max(value + 0.5, 0.0), 255.0)))
