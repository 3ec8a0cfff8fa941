"""
The trace that a piece lost from a JPEG leaves in the picture.

Brightness is coded as the difference to the block before. Where a piece is missing, everything
that follows is too bright or too dark by one and the same amount, to the end of the picture: an
edge along the lower side of one row of blocks up to a column, and along its upper side from there
on. No scene makes such a step along the grid of the blocks over the whole width.
"""

import numpy as np
from numpy.typing import NDArray

from ..jit import njit

#: A jump between two rows of pixels, in grey levels beyond what the slopes on both sides explain;
#: and at least so many times the mean of all, which in a noisy picture is large.
_JUMP, _TIMES = 3.0, 1.5
#: Share of the blocks along the step that jump: of either part, and of the whole width; and the
#: most that may jump beside it, or it is an edge of the scene.
_EITHER, _WHOLE, _BESIDE = 0.75, 0.85, 0.6
_LEAST_COLUMNS, _MARGIN = 20, 4
#: Interquartile range of the jumps: those that differ by less were drawn, not photographed; those
#: that differ by more than so many times their median are not one shift of all that follows.
_LEAST_SPREAD, _MOST_SPREAD = 0.3, 1.0
#: Share of the blocks that jump back in two rows below: there something ends that was drawn in.
_BACK = 0.5


def has_seam(image: NDArray[np.uint8], mcu: tuple[int, int]) -> bool:
    """
    Return whether a picture shows the step of a lost piece.

    :param image: (height, width, 3 or more) uint8; its second channel (green) is looked at.
    :param mcu: height and width of what is coded together, in pixels.
    """
    rows, columns = (image.shape[0] - 2) // mcu[0], image.shape[1] // mcu[1]
    if columns < _LEAST_COLUMNS or rows < 2:
        return False
    jumps = np.empty((rows, columns), np.float32)
    least = max(_JUMP, _TIMES * _measure(image, mcu[0], mcu[1], jumps))
    return any(_is_shift(sign * jumps, row, start, least)
               for sign, row, start in _steps(jumps, least).tolist())


@njit()
def _measure(image, high, wide, jumps):
    """Write the mean jump above each block, from the second row on; return the mean height."""
    total = 0.0
    for row in range(jumps.shape[0]):
        y = (row + 1) * high
        for column in range(jumps.shape[1]):
            twice = 0
            for x in range(column * wide, (column + 1) * wide, 2):  # every other pixel is enough
                far, near = int(image[y - 2, x, 1]), int(image[y - 1, x, 1])
                below, beyond = int(image[y, x, 1]), int(image[y + 1, x, 1])
                twice += 3 * (below - near) - (beyond - far)
            jumps[row, column] = twice / wide
            total += abs(twice / wide)
    return total / jumps.size


@njit()
def _steps(jumps, least):
    """Return (sign, row, start): ``row`` jumps from ``start`` on, the next one up to there."""
    found = np.empty((16, 3), np.int64)
    count = 0
    rows, columns = jumps.shape
    for sign in (1, -1):
        for row in range(rows - 1):
            left = left_below = right = right_below = 0  # jumps on both sides of the start
            for column in range(columns):
                right += jumps[row, column] * sign >= least
                right_below += jumps[row + 1, column] * sign >= least
            for start in range(1, columns - _MARGIN + 1):
                jumps_here = jumps[row, start - 1] * sign >= least
                jumps_below = jumps[row + 1, start - 1] * sign >= least
                left, right = left + jumps_here, right - jumps_here
                left_below, right_below = left_below + jumps_below, right_below - jumps_below
                if (start >= _MARGIN and count < len(found)
                        and right + left_below >= _WHOLE * columns
                        and right >= _EITHER * (columns - start) and left_below >= _EITHER * start
                        and left <= _BESIDE * start
                        and right_below <= _BESIDE * (columns - start)):
                    found[count] = sign, row, start
                    count += 1
    return found[:count]


def _is_shift(jumps: NDArray[np.float32], row: int, start: int, least: float) -> bool:
    """Return whether a step is a shift of all that follows, and no edge of something drawn."""
    along = np.concatenate([jumps[row, start:], jumps[row + 1, :start]])
    low, median, high = np.quantile(along[along >= least], (0.25, 0.5, 0.75))
    back = (jumps <= -least).sum(axis=1)
    ends = (back[:-1] + back[1:])[row + 1:] >= _BACK * jumps.shape[1]
    return bool(_LEAST_SPREAD <= high - low <= _MOST_SPREAD * median and not ends.any())
