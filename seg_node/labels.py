"""
Logits -> class labels and confidence on the output grid: fused bilinear upsample + argmax.

Bilinear weights are convex, so where the four corner logits of a cell share their argmax, the
whole cell has it (the *cell-skip*). In a mixed cell only those classes can win that no corner
winner beats at all four corners; the rest is never evaluated. Both shortcuts are exact: the
result equals ``reference.labels`` everywhere.
"""

from numba import njit
import numpy as np

from .errors import FrameError
from .geometry import Axis


def upsample_argmax(scores: np.ndarray, rows: Axis, columns: Axis,
                    probabilities: np.ndarray | None = None,
                    ) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Return the winning class and, if probabilities are given, its confidence.

    :param scores: float32 (C, h, w); the class with the highest upsampled score wins, ties go
        to the lowest class.
    :param rows: where the output rows sample the scores (``Geometry.rows``).
    :param columns: the same for the columns.
    :param probabilities: float32 (C, h, w) or None. The confidence is the bilinear upsample of
        these, read at the winning class, as ``floor(p * 255 + 0.5)``: at the border between two
        sure classes it dips, as it should.
    :returns: labels uint8 (H, W) and confidence uint8 (H, W) or None.
    :raises FrameError: ``logits`` when a score is NaN or infinite.
    """
    winners = np.empty(scores.shape[1:], np.uint8)
    if not _corner_winners(scores, winners):
        raise FrameError('logits', 'the network returned NaN or infinite scores for this frame: '
                         'a broken model file, or fp16 overflow; nothing is published for it')
    shape = (len(rows.low), len(columns.low))
    labels = np.empty(shape, np.uint8)
    wanted = probabilities is not None
    confidence = np.empty(shape if wanted else (0, 0), np.uint8)
    _fill(scores, winners, probabilities if wanted else scores, rows.starts, rows.fraction,
          columns.starts, columns.low, columns.fraction, labels, confidence)
    return labels, confidence if wanted else None


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the softmax of float32 logits (C, h, w) / temperature over the classes."""
    with np.errstate(invalid='ignore'):  # NaN and infinity are refused by upsample_argmax
        exponentials = np.exp((logits - logits.max(axis=0)) * np.float32(1 / temperature))
        exponentials /= exponentials.sum(axis=0)
    return exponentials


def pick_nearest(labels: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Return a label map (h, w) of any integer type on the output grid by nearest, (H, W)."""
    return labels.take(columns.nearest, axis=1).take(rows.nearest, axis=0)


@njit(nogil=True, cache=True)
def _corner_winners(scores, winners):
    """Write the argmax over the classes at each grid point; return whether all are finite."""
    classes, height, width = scores.shape
    best = np.empty(width, scores.dtype)
    check = np.float32(0)
    for y in range(height):
        for x in range(width):
            best[x] = scores[0, y, x]
            winners[y, x] = 0
            check += scores[0, y, x] * np.float32(0)  # NaN and infinity leave NaN here
        for k in range(1, classes):
            for x in range(width):
                value = scores[k, y, x]
                check += value * np.float32(0)
                if value > best[x]:
                    best[x] = value
                    winners[y, x] = k
    return check == 0


@njit(nogil=True, cache=True)
def _fill(scores, winners, probabilities, row_starts, row_fraction, column_starts,
          column_low, column_fraction, labels, confidence):
    """Walk over the cells between four neighbouring grid points and fill their pixels."""
    classes, height, width = scores.shape
    candidates = np.empty(classes, np.int64)
    best = np.empty(labels.shape[1], np.float64)
    line = np.empty(width + 1, np.float64)
    wanted = confidence.shape[0] > 0
    for i in range(height):
        top, bottom = row_starts[i], row_starts[i + 1]
        if top == bottom:
            continue
        below = min(i + 1, height - 1)
        j = 0
        while j < width:
            winner = winners[i, j]
            stop = _end_of_run(winners, i, below, j)
            if stop > j:
                left, end = column_starts[j], column_starts[stop]
                for y in range(top, bottom):
                    labels[y, left:end] = winner
                    if wanted:
                        _confidence_run(probabilities[winner], i, below, j, stop,
                                        row_fraction[y], column_low[left:end],
                                        column_fraction[left:end], line, confidence[y, left:end])
                j = stop
                continue
            left, end = column_starts[j], column_starts[j + 1]
            if left < end:
                right = min(j + 1, width - 1)
                fx = column_fraction[left:end]
                count = _find_candidates(scores, winners, i, below, j, right, candidates)
                for y in range(top, bottom):
                    row = labels[y, left:end]
                    _argmax_row(scores, candidates, count, i, below, j, right, row_fraction[y],
                                fx, best, row)
                    if wanted:
                        _confidence_row(probabilities, candidates, count, i, below, j, right,
                                        row_fraction[y], fx, row, confidence[y, left:end])
            j += 1


@njit(nogil=True, cache=True)
def _end_of_run(winners, i, below, j):
    """Return the end of the run of cells from j on whose corners all have the same winner."""
    width = winners.shape[1]
    winner = winners[i, j]
    if winners[below, j] != winner:
        return j
    while j < width:
        right = min(j + 1, width - 1)
        if winners[i, right] != winner or winners[below, right] != winner:
            break
        j += 1
    return j


@njit(nogil=True, cache=True)
def _confidence_run(plane, i, below, start, stop, fy, low, fx, line, row):
    """Write the confidence of one output row of a run of cells of one class."""
    last = plane.shape[1] - 1
    for j in range(start, min(stop, last) + 1):
        line[j] = np.float64(plane[i, j]) * (1 - fy) + np.float64(plane[below, j]) * fy
    line[last + 1] = line[last]
    for x in range(len(row)):
        a, b = line[low[x]], line[low[x] + 1]
        row[x] = np.uint8(np.int32((a * (1 - fx[x]) + b * fx[x]) * 255 + 0.5))


@njit(nogil=True, cache=True, inline='always')
def _ends(maps, k, i, below, j, right, fy):
    """Interpolate map k along the left and the right edge of a cell, in float64."""
    return (np.float64(maps[k, i, j]) * (1 - fy) + np.float64(maps[k, below, j]) * fy,
            np.float64(maps[k, i, right]) * (1 - fy) + np.float64(maps[k, below, right]) * fy)


@njit(nogil=True, cache=True)
def _argmax_row(scores, candidates, count, i, below, j, right, fy, fx, best, row):
    """Write the winning class of one output row of a mixed cell."""
    a, b = _ends(scores, candidates[0], i, below, j, right, fy)
    for x in range(len(row)):
        best[x] = a * (1 - fx[x]) + b * fx[x]
        row[x] = candidates[0]
    for n in range(1, count):
        k = candidates[n]
        a, b = _ends(scores, k, i, below, j, right, fy)
        for x in range(len(row)):
            value = a * (1 - fx[x]) + b * fx[x]
            if value > best[x]:
                best[x] = value
                row[x] = k


@njit(nogil=True, cache=True)
def _confidence_row(probabilities, candidates, count, i, below, j, right, fy, fx, labels, row):
    """Write the confidence of one output row of a mixed cell: its winners differ by pixel."""
    for n in range(count):
        k = candidates[n]
        a, b = _ends(probabilities, k, i, below, j, right, fy)
        for x in range(len(row)):
            if labels[x] == k:
                row[x] = np.uint8(np.int32((a * (1 - fx[x]) + b * fx[x]) * 255 + 0.5))


@njit(nogil=True, cache=True)
def _find_candidates(scores, winners, i, below, j, right, candidates):
    """List, in ascending order, the classes that may win somewhere in this cell."""
    corners = (winners[i, j], winners[i, right], winners[below, j], winners[below, right])
    count = 0
    for k in range(scores.shape[0]):
        beaten = False
        for m in corners:
            if m != k and _beats(scores, m, k, i, below, j, right):
                beaten = True
                break
        if not beaten:
            candidates[count] = k
            count += 1
    return count


@njit(nogil=True, cache=True)
def _beats(scores, m, k, i, below, j, right):
    """Return whether class m wins over class k at all four corners (ties: the lower class)."""
    if m < k:
        return (scores[m, i, j] >= scores[k, i, j]
                and scores[m, i, right] >= scores[k, i, right]
                and scores[m, below, j] >= scores[k, below, j]
                and scores[m, below, right] >= scores[k, below, right])
    return (scores[m, i, j] > scores[k, i, j]
            and scores[m, i, right] > scores[k, i, right]
            and scores[m, below, j] > scores[k, below, j]
            and scores[m, below, right] > scores[k, below, right])
