"""
Logits -> class labels and confidence on the output grid: fused bilinear upsample + argmax.

Bilinear weights are convex, so where the four corner logits of a cell share their argmax, the
whole cell has it (the *cell-skip*). In a mixed cell only those classes can win that no corner
winner beats at all four corners; the rest is never evaluated (mixed_cells.py). Both shortcuts are
exact: the result equals ``reference.labels`` everywhere.

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
from .mixed_cells import fill_mixed, look_up
from .survey import survey

# Where all corners are surer than this, the confidence between them is 255.
_CERTAIN = np.float32(0.998041)
# So many scores keep a thread busy for several milliseconds.
_BAND = 4 << 20
# Points of all rows that are surveyed together where no pixel lies between two: so much of a class
# is read in one go, and what is known of the points stays in the processor's own cache.
_POINTS = 16384
_ZERO = np.float32(0)
# Cells: their corners' winners differ; they are one class.
_MIXED, _PLAIN = 0, 1
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
    best, behind = np.empty((2, width), np.float32), np.empty((2, width), np.float32)
    place = np.empty(width, np.float32)
    # Of the last point its right neighbour is itself.
    sure = np.empty((2, width + 1), np.float32)
    # The probabilities left and right of each pixel, and of which row of the grid they are.
    spread, spread_of = np.empty((2, 2, labels.shape[1]), np.float32), np.full(2, -1)
    cells = np.empty(width, np.uint8)
    candidates, found = np.empty(classes, np.uint64), np.zeros((3, classes, 4))
    crown = np.empty((4, 4), np.float32)
    flat = scores.reshape(scores.size), probabilities.reshape(scores.size)
    check = survey(scores, probabilities, first, 0, width, colder, wanted, winners[0], best[0],
                   behind[0], sure[0, :width], place)
    sure[0, width] = sure[0, width - 1]
    for i in range(first, stop):
        # Of the two rows of grid points the upper one was the lower one before.
        up, low = (i - first) & 1, (i - first + 1) & 1
        below = min(i + 1, height - 1)
        check += survey(scores, probabilities, below, 0, width, colder, wanted, winners[low],
                        best[low], behind[low], sure[low, :width], place)
        sure[low, width] = sure[low, width - 1]
        top, bottom = row_starts[i], row_starts[i + 1]
        if top == bottom:
            continue
        on_points = bottom - top == 1 and row_fraction[top] == 0
        _sort_cells(winners[up], winners[low], column_starts, column_fraction, on_points, cells)
        _fill_plain(winners[up], column_starts, labels[top])
        for y in range(top + 1, bottom):
            labels[y] = labels[top]
        if wanted:
            if _is_certain(sure[up], sure[low], cells):
                confidence[top:bottom] = 255
            else:
                for side, y in ((up, i), (low, i + 1)):
                    if spread_of[side] != y:
                        _spread(sure[side], column_low, spread[side])
                        spread_of[side] = y
                for y in range(top, bottom):
                    _between_points(spread[up], spread[low], row_fraction[y], column_fraction,
                                    confidence[y])
        for j in range(width):
            left, end = column_starts[j], column_starts[j + 1]
            if cells[j] == _MIXED and left < end:
                count = look_up(scores.shape, flat, colder, wanted, i, below, j, winners, best,
                                behind, sure, up, low, crown, candidates, found)
                fill_mixed(candidates, count, found, top, bottom, left, end, row_fraction,
                           column_fraction, labels, confidence)
    return check == 0


@njit()
def _fill_points(scores, probabilities, colder, first, stop, labels, confidence):
    """
    Fill pixels that are the points of the grid, which lie in one row: there are no cells.

    Of the blocks of ``_POINTS`` from ``first`` to before ``stop``.

    :returns: whether all scores are finite.
    """
    wanted = len(confidence) > 0
    best, behind = np.empty(_POINTS, np.float32), np.empty(_POINTS, np.float32)
    sure, place = np.empty(_POINTS, np.float32), np.empty(_POINTS, np.float32)
    check = _ZERO
    for block in range(first, stop):
        left, end = block * _POINTS, min((block + 1) * _POINTS, len(labels))
        count = end - left
        check += survey(scores, probabilities, 0, left, end, colder, wanted, labels[left:end],
                        best[:count], behind[:count], sure[:count], place[:count])
        if wanted:
            for x in range(count):
                confidence[left + x] = np.uint8(np.int32(np.float64(sure[x]) * 255 + 0.5))
    return check == 0


# On one row of cells.


@inner()
def _sort_cells(above, below, starts, fraction, on_points, cells):
    """
    Tell mixed cells of a row from those of one class.

    :param on_points: whether the only row of pixels is that of the points above: then a cell of
        one pixel may be the point itself.
    """
    last = len(cells) - 1
    for j in range(last):
        winner = above[j]
        one = (above[j + 1] == winner) & (below[j] == winner) & (below[j + 1] == winner)
        cells[j] = _PLAIN if one else _MIXED
    cells[last] = _PLAIN if above[last] == below[last] else _MIXED
    if on_points:
        for j in range(last + 1):
            if starts[j + 1] - starts[j] == 1 and fraction[starts[j]] == 0:
                cells[j] = _PLAIN


@inner()
def _fill_plain(winners, starts, row):
    """Write the winner above and left of each pixel; mixed cells are filled afterwards."""
    for j in range(len(winners)):
        for x in range(starts[j], starts[j + 1]):
            row[x] = winners[j]


@inner()
def _is_certain(above, below, cells):
    """Return whether the confidence is 255 in all cells of one class."""
    last = len(cells) - 1
    doubts = np.int64(cells[last] & ((above[last] < _CERTAIN) | (below[last] < _CERTAIN)))
    for j in range(last):
        doubts += cells[j] & ((above[j] < _CERTAIN) | (above[j + 1] < _CERTAIN)
                              | (below[j] < _CERTAIN) | (below[j + 1] < _CERTAIN))
    return doubts == 0


@inner()
def _spread(points, low, sides):
    """Write what is left and right of each pixel, (2, W)."""
    left, right = sides[0], sides[1]
    for x in range(len(low)):
        n = np.uint64(low[x])
        left[x], right[x] = points[n], points[n + np.uint64(1)]


@inner()
def _between_points(above, below, fy, fx, row):
    """Write the confidence of one output row, of one class between any two points."""
    up_left, up_right, low_left, low_right = above[0], above[1], below[0], below[1]
    for x in range(len(row)):
        a = np.float64(up_left[x]) * (1 - fy) + np.float64(low_left[x]) * fy
        b = np.float64(up_right[x]) * (1 - fy) + np.float64(low_right[x]) * fy
        row[x] = np.uint8(np.int32((a * (1 - fx[x]) + b * fx[x]) * 255 + 0.5))
