"""
Logits -> class labels and confidence on the output grid: fused bilinear upsample + argmax.

Bilinear weights are convex, so where the four corner logits of a cell share their argmax, the
whole cell has it (the *cell-skip*). In a mixed cell only those classes can win that no corner
winner beats at all four corners; the rest is never evaluated. Both shortcuts are exact: the
result equals ``reference.labels`` everywhere.

The probabilities that the confidence is made of are never all computed: those of winners are
found with them (survey.py), and others count in mixed cells only.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .devices.cpu import cores
from .errors import FrameError
from .geometry import Axis
from .jit import inner, njit
from .survey import survey

# Where all corners are surer than this, the confidence between them is 255.
_CERTAIN = np.float32(0.998041)
# So many scores keep a thread busy for several milliseconds.
_BAND = 4 << 20
# Points of all rows that are surveyed together where no pixel lies between two: so much of a class
# is read in one go, and what is known of the points stays in the processor's own cache.
_POINTS = 16384
_ZERO = np.float32(0)
# Cells: their corners' winners differ; they are one class; and that is certain.
_MIXED, _PLAIN, _SURE = 0, 1, 2
_POOL = ThreadPoolExecutor(cores(), 'labels')  # starts no thread before the first use


def upsample_argmax(scores: np.ndarray, rows: Axis, columns: Axis,
                    probabilities: np.ndarray | None = None,
                    ) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Return the winning class and, if probabilities are given, its confidence.

    :param scores: float32 (C, h, w); the class with the highest upsampled score wins, ties go
        to the lowest class.
    :param rows: where the output rows sample the scores; ``columns`` likewise.
    :param probabilities: float32 (C, h, w) or None. The confidence is the bilinear upsample of
        these, read at the winning class, as ``floor(p * 255 + 0.5)``: at the border between two
        sure classes it dips, as it should.
    :returns: labels uint8 (H, W) and confidence uint8 (H, W) or None.
    :raises FrameError: ``logits`` when a score is NaN or infinite.
    """
    return _filled(scores, rows, columns, probabilities, _ZERO, probabilities is not None)


def upsample_softmax(logits: np.ndarray, rows: Axis, columns: Axis, temperature: float = 1.0,
                     ) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the winning class and its confidence by the softmax of ``logits / temperature``.

    The same as ``upsample_argmax`` with those probabilities, which never all exist.

    :param logits: float32 (C, h, w).
    :param temperature: above 0; more than 1 makes less sure.
    :returns: labels uint8 (H, W) and confidence uint8 (H, W).
    :raises FrameError: ``logits`` when one is NaN or infinite.
    """
    labels, confidence = _filled(logits, rows, columns, None, np.float32(1 / temperature), True)
    assert confidence is not None
    return labels, confidence


def _filled(scores: np.ndarray, rows: Axis, columns: Axis, probabilities: np.ndarray | None,
            colder: np.float32, wanted: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Return labels and confidence; ``colder`` is one over the temperature, 0: no softmax."""
    shape = (len(rows.low), len(columns.low))
    labels = np.empty(shape, np.uint8)
    confidence = np.empty(shape if wanted else (0, 0), np.uint8)
    # The one layout that the loops are compiled for.
    scores = np.ascontiguousarray(scores, np.float32)
    given = scores if probabilities is None else np.ascontiguousarray(probabilities, np.float32)
    count = scores.shape[1]

    def fill(first: int, end: int) -> bool:
        return _fill(scores, given, colder, first, end, rows.starts, rows.fraction, columns.starts,
                     columns.low, columns.fraction, labels, confidence)

    if rows.is_same and columns.is_same:
        line = len(scores), 1, labels.size
        count = -(-labels.size // _POINTS)

        def fill(first: int, end: int) -> bool:
            return _fill_points(scores.reshape(line), given.reshape(line), colder, first, end,
                                labels.reshape(-1), confidence.reshape(-1))

    if not _in_bands(fill, count, scores.size):
        raise FrameError('logits', 'the network returned NaN or infinite scores for this frame: '
                         'a broken model file, or fp16 overflow; nothing is published for it')
    return labels, confidence if wanted else None


def _in_bands(fill: Callable[[int, int], bool], height: int, values: int) -> bool:
    """Fill the rows of cells, by several threads where that saves more than it costs."""
    bands = min(values // _BAND, height)
    if bands < 2 or (bands := min(bands, cores())) < 2:  # to ask for the cores takes its time
        return fill(0, height)
    ends = [height * n // bands for n in range(bands + 1)]
    return all(list(_POOL.map(fill, ends[:-1], ends[1:])))


@njit()
def _fill(scores, probabilities, colder, first, stop, row_starts, row_fraction, column_starts,
          column_low, column_fraction, labels, confidence):
    """
    Walk over the cells between four neighbouring grid points and fill their pixels.

    Of the rows of cells from ``first`` to before ``stop``. Winners are found a row of the grid
    ahead, so that its scores are still at hand.

    :returns: whether all scores are finite.
    """
    classes, height, width = scores.shape
    wanted = confidence.shape[0] > 0
    winners = np.empty((2, width), np.uint8)
    best, sure = np.empty((2, width), np.float32), np.empty((2, width), np.float32)
    place, line = np.empty(width, np.float32), np.empty(width + 1)
    cells = np.empty(width, np.uint8)
    candidates, found = np.empty(classes, np.int64), np.zeros((3, classes, 4))
    check = survey(scores, probabilities, first, 0, width, colder, wanted, winners[0], best[0],
                   sure[0], place)
    for i in range(first, stop):
        # Of the two rows of grid points the upper one was the lower one before.
        up, low = (i - first) & 1, (i - first + 1) & 1
        below = min(i + 1, height - 1)
        check += survey(scores, probabilities, below, 0, width, colder, wanted, winners[low],
                        best[low], sure[low], place)
        top, bottom = row_starts[i], row_starts[i + 1]
        if top == bottom:
            continue
        _sort_cells(winners[up], winners[low], cells)
        if wanted:
            _find_certain(sure[up], sure[low], cells)
        j = np.int64(0)
        while j < width:
            kind, start = cells[j], j
            j += 1
            while kind != _MIXED and j < width and cells[j] == kind:
                j += 1
            left, end = column_starts[start], column_starts[j]
            if left == end:
                continue
            if kind == _MIXED and (bottom - top > 1 or end - left > 1 or row_fraction[top] > 0
                                   or column_fraction[left] > 0):  # else it is the corner itself
                count = _look_up(scores, probabilities, colder, wanted, i, below, start, winners,
                                 best, sure, up, low, candidates, found)
                _fill_mixed(candidates, count, found, top, bottom, left, end, row_fraction,
                            column_fraction, labels, confidence)
                continue
            for y in range(top, bottom):
                labels[y, left:end] = winners[up, start]
                if kind == _SURE:
                    confidence[y, left:end] = 255
                elif wanted:
                    _between_points(sure[up], sure[low], start, j, row_fraction[y],
                                    column_low[left:end], column_fraction[left:end], line,
                                    confidence[y, left:end])
    return check == 0


@njit()
def _fill_points(scores, probabilities, colder, first, stop, labels, confidence):
    """
    Fill pixels that are the points of the grid, which lie in one row: there are no cells.

    Of the blocks of ``_POINTS`` from ``first`` to before ``stop``.

    :returns: whether all scores are finite.
    """
    wanted = len(confidence) > 0
    best, sure, place = (np.empty(_POINTS, np.float32), np.empty(_POINTS, np.float32),
                         np.empty(_POINTS, np.float32))
    check = _ZERO
    for block in range(first, stop):
        left, end = block * _POINTS, min((block + 1) * _POINTS, len(labels))
        count = end - left
        check += survey(scores, probabilities, 0, left, end, colder, wanted, labels[left:end],
                        best[:count], sure[:count], place[:count])
        if wanted:
            for x in range(count):
                confidence[left + x] = np.uint8(np.int32(np.float64(sure[x]) * 255 + 0.5))
    return check == 0


# On one row of cells.


@inner()
def _sort_cells(above, below, cells):
    """Tell mixed cells of a row from those of one class."""
    last = len(cells) - 1
    for j in range(last):
        winner = above[j]
        one = (above[j + 1] == winner) & (below[j] == winner) & (below[j + 1] == winner)
        cells[j] = _PLAIN if one else _MIXED
    cells[last] = _PLAIN if above[last] == below[last] else _MIXED


@inner()
def _find_certain(above, below, cells):
    last = len(cells) - 1
    for j in range(last):
        certain = ((above[j] >= _CERTAIN) & (above[j + 1] >= _CERTAIN)
                   & (below[j] >= _CERTAIN) & (below[j + 1] >= _CERTAIN))
        cells[j] = cells[j] << 1 if certain else cells[j]


@inner()
def _between_points(above, below, start, stop, fy, low, fx, line, row):
    """Write the confidence of one output row of a run of cells of one class."""
    last = len(above) - 1
    for j in range(start, min(stop, last) + 1):
        line[j] = np.float64(above[j]) * (1 - fy) + np.float64(below[j]) * fy
    line[last + 1] = line[last]
    for x in range(len(row)):
        a, b = line[low[x]], line[low[x] + 1]
        row[x] = np.uint8(np.int32((a * (1 - fx[x]) + b * fx[x]) * 255 + 0.5))


@inner()
def _look_up(scores, probabilities, colder, wanted, i, below, j, winners, best, sure, up, low,
             candidates, found):
    """Write what may win in a mixed cell, with scores and, if wanted, probabilities."""
    right = min(j + 1, winners.shape[1] - 1)
    count = _find_candidates(
        scores, i, below, j, right,
        (winners[up, j], winners[up, right], winners[low, j], winners[low, right]), candidates,
        found[0])
    if wanted:
        _find_chances(
            probabilities, i, below, j, right,
            (best[up, j], best[up, right], best[low, j], best[low, right]),
            (sure[up, j], sure[up, right], sure[low, j], sure[low, right]),
            colder, candidates, count, found[1])
    return count


@inner()
def _find_candidates(scores, i, below, j, right, winners, candidates, corners):
    """List, in ascending order, the classes that may win somewhere in a cell, and their scores."""
    count = 0
    for k in range(scores.shape[0]):
        a, b = scores[k, i, j], scores[k, i, right]
        c, d = scores[k, below, j], scores[k, below, right]
        beaten = False
        for n in range(4):
            m = winners[n]
            if n and m == winners[n - 1] or m == k:
                continue
            p, q = scores[m, i, j], scores[m, i, right]
            r, s = scores[m, below, j], scores[m, below, right]
            if m < k:  # ties go to the lower class
                beaten = p >= a and q >= b and r >= c and s >= d
            else:
                beaten = p > a and q > b and r > c and s > d
            if beaten:
                break
        if not beaten:
            candidates[count] = k
            # One by one: an array assigned a tuple takes seconds to compile.
            corners[count, 0], corners[count, 1], corners[count, 2], corners[count, 3] = a, b, c, d
            count += 1
    return count


@inner()
def _find_chances(probabilities, i, below, j, right, best, sure, colder, candidates, count,
                  chances):
    """Write the probability of each candidate at the corners of a cell."""
    for n in range(count):
        k = candidates[n]
        values = (probabilities[k, i, j], probabilities[k, i, right],
                  probabilities[k, below, j], probabilities[k, below, right])
        for c in range(4):
            chance = values[c]
            if colder > _ZERO:  # those are logits
                chance = sure[c]
                if values[c] < best[c]:
                    chance *= np.float32(np.exp((values[c] - best[c]) * colder))
            chances[n, c] = chance


@inner()
def _fill_mixed(candidates, count, found, top, bottom, left, end, row_fraction, column_fraction,
                labels, confidence):
    """Write the pixels of a mixed cell, each its winner among the candidates."""
    wanted = confidence.shape[0] > 0
    corners, chances, edges = found[0], found[1], found[2]
    for y in range(top, bottom):
        fy = row_fraction[y]
        for n in range(count):
            for side in range(2):
                edges[n, side] = corners[n, side] * (1 - fy) + corners[n, side + 2] * fy
                edges[n, side + 2] = chances[n, side] * (1 - fy) + chances[n, side + 2] * fy
        for x in range(left, end):
            fx = column_fraction[x]
            won, highest = 0, edges[0, 0] * (1 - fx) + edges[0, 1] * fx
            for n in range(1, count):
                value = edges[n, 0] * (1 - fx) + edges[n, 1] * fx
                if value > highest:
                    won, highest = n, value
            labels[y, x] = candidates[won]
            if wanted:
                chance = edges[won, 2] * (1 - fx) + edges[won, 3] * fx
                confidence[y, x] = np.uint8(np.int32(chance * 255 + 0.5))
