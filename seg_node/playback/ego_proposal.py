"""
Finds the vehicle's own body in a recording: what stays where it is while the street goes by.

A moving camera smears the street into streaks that run from the vanishing point. An edge that
neither smears nor runs along such a streak, from one side of the picture to the other and with
less movement below it than above, is the outline of a bonnet; below it lies the vehicle. Where
the street has no texture and where the bonnet mirrors it, one picture tells nothing, so the
outline is found as a whole, by the best path through all columns.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import ConfigError
from ..geometry import Size

WIDTH = 480  # the pictures are looked at in this width
MIN_FRAMES = 10
_MOVED = 0.5  # grey levels on average: less is a car that stands
_BLUR = 2.0  # pixels: a wire in the windscreen is gone, the step between two surfaces is not
_TEXTURE = 5.0  # pixels: what is finer counts as texture
_NOISE = 0.05  # grey levels per pixel, squared
_BAND = slice(4, 10)  # pixels beside an outline in which movement is compared
_STREAK = np.sin(np.radians(15))  # an edge this near to the direction of a streak is none
_NONE = 0.25  # what a column without an outline earns; one with an outline earns 0 .. 1
_TURN = 1.5  # what it costs to begin or end an outline
_SLOPE, _BEND = 3, 0.05  # most rows from column to column, and what each costs
_MIN_SPAN = 0.3  # of the width: less is another car, a mark on the lens
_NOTCH = 0.08  # of the width: no narrower notch belongs to an outline


@dataclass(frozen=True)
class Proposal:
    """
    What is probably the vehicle.

    :ivar mask: (H, W) uint8 of the recording's size, 255 = the vehicle.
    :ivar span: share of the columns in which there is some.
    :ivar clarity: 0 .. 1, how clear its outline is on average.
    """

    mask: np.ndarray
    span: float
    clarity: float


class Stillness:
    """
    Collects what stays and what moves over the frames of one camera.

    :ivar frames: how many were taken; those that hardly differ from the one before are not.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.size: Size | None = None
        self._last: np.ndarray | None = None
        self._sums = np.zeros(0)

    def add(self, image: np.ndarray) -> None:
        """
        Add a frame, (height, width, 3) uint8 BGR.

        :raises ConfigError: when its size is not that of the frames before.
        """
        size = Size(*image.shape[:2])
        if self.size not in (None, size):
            raise ConfigError(f'the frames are {self.size} and {size}: an ego mask is for one '
                              'size. Give a recording of one camera at one size.')
        self.size = size
        height = max(1, round(WIDTH * size.height / size.width))
        small = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        smooth = cv2.GaussianBlur(small, (0, 0), _BLUR)
        if self._last is not None and np.abs(smooth - self._last).mean() < _MOVED:
            return
        texture = small - cv2.GaussianBlur(small, (0, 0), _TEXTURE)
        right, down = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=1 / 8)
                       for order in ((1, 0), (0, 1)))
        terms = np.stack([texture, texture ** 2, right, down, right ** 2 + down ** 2])
        self._sums = terms.astype(np.float64) if self._last is None else self._sums + terms
        self._last = smooth
        self.frames += 1

    def propose(self) -> Proposal | None:
        """
        Return what is probably the vehicle; None when nothing is.

        :raises ConfigError: when there are too few frames in which something moves.
        """
        if self.size is None or self.frames < MIN_FRAMES:
            raise ConfigError(f'{self.frames} frames in which the picture moves; at least '
                              f'{MIN_FRAMES} are needed. Give a recording of some seconds in '
                              'which the car drives.')
        means = self._sums / self.frames
        moving = np.sqrt(np.maximum(means[1] - means[0] ** 2, 0).mean(axis=2))
        clarity = _outline_clarity(means[2], means[3], means[4].sum(axis=2), moving)
        outline = _outline(clarity)
        height = len(clarity)
        there = outline < height
        if there.mean() < _MIN_SPAN:
            return None
        clear = clarity[outline[there], np.flatnonzero(there)].mean()
        return Proposal(_filled(outline, height, self.size), float(there.mean()), float(clear))


def _outline_clarity(right: np.ndarray, down: np.ndarray, power: np.ndarray,
                     moving: np.ndarray) -> np.ndarray:
    """
    Return for each pixel how clearly it lies on the outline of something that stays, 0 .. 1.

    :param right: mean gradient in x of each colour, (h, w, 3), grey levels per pixel.
    :param down: the same in y.
    :param power: mean squared gradient of all colours together, (h, w).
    :param moving: standard deviation of the texture over time.
    """
    rows, columns = np.mgrid[:right.shape[0], :right.shape[1]].astype(np.float64)
    squared = (right ** 2 + down ** 2).sum(axis=2)
    step = np.sqrt(squared / 3)
    stays = squared / (power + _NOISE)  # of the gradient's power, what is not change
    x, y = _vanishing_point(right.mean(axis=2), down.mean(axis=2))
    to_x, to_y = columns - x, rows - y
    along = (right * to_x[..., None] + down * to_y[..., None]) ** 2
    across = np.sqrt(along.sum(axis=2) / (squared * (to_x ** 2 + to_y ** 2) + 1e-9))
    clarity = stays * np.minimum(across / _STREAK, 1) * step / (step + 1)
    clarity *= np.clip(0.3 + _calmer_below(moving) / 0.2, 0, 1)
    clarity[:round(y + 0.08 * len(clarity))] = 0  # at and above the horizon the far is still, too
    return clarity


def _vanishing_point(right: np.ndarray, down: np.ndarray) -> tuple[float, float]:
    """Return (x, y) of the point near the middle from which most of the mean's edges run."""
    height, width = right.shape
    rows, columns = np.mgrid[:height, :width]
    step = np.hypot(right, down)
    edges = (step > 0.5) & (rows > 0.3 * height) & (rows < 0.9 * height)
    dx, dy, weight = right[edges], down[edges], np.minimum(step[edges], 2)
    best, point = -1.0, (0.5 * width, 0.5 * height)
    for y in np.arange(0.35, 0.66, 0.02) * height:
        for x in np.arange(0.3, 0.71, 0.02) * width:
            to_x, to_y = columns[edges] - x, rows[edges] - y
            length = np.hypot(to_x, to_y)
            runs = np.abs(dx * to_x + dy * to_y) < 0.05 * np.hypot(dx, dy) * length
            votes = weight[runs & (length > 0.1 * height)].sum()
            if votes > best:
                best, point = votes, (float(x), float(y))
    return point


def _calmer_below(moving: np.ndarray) -> np.ndarray:
    """Return how much less moves right below each pixel than right above, -1 .. 1."""
    reach = _BAND.stop
    padded = np.pad(moving, ((reach, reach), (0, 0)), mode='edge')
    total = np.cumsum(np.vstack([np.zeros((1, moving.shape[1])), padded]), axis=0)
    at = np.arange(len(moving)) + reach
    width = _BAND.stop - _BAND.start
    below = (total[at + _BAND.stop] - total[at + _BAND.start]) / width
    above = (total[at - _BAND.start + 1] - total[at - _BAND.stop + 1]) / width
    return (above - below) / (above + below + 1)


def _outline(clarity: np.ndarray) -> np.ndarray:
    """Return the row of the outline in each column; the height where there is none."""
    path = _best_path(clarity)
    height, width = clarity.shape
    # A lane's line that ends at the outline hides it: no narrow notch is the vehicle's own.
    span = np.ones((1, round(_NOTCH * width)), np.uint8)
    rows = path.astype(np.float32)[None]
    closed = cv2.dilate(cv2.erode(rows, span, borderType=cv2.BORDER_REPLICATE), span,
                        borderType=cv2.BORDER_REPLICATE)[0]
    return np.where(path < height, np.minimum(path, closed.astype(np.int64)), height)


def _best_path(gain: np.ndarray) -> np.ndarray:
    """
    Return the row in each column of the path that gains most; the height beside its ends.

    :param gain: (h, w) what each pixel is worth.
    """
    height, width = gain.shape
    rows = np.arange(height)
    on = gain[:, 0] - _TURN
    before, after = _NONE, -np.inf  # of columns left of the path; right of it
    came = np.empty((width, height), np.int32)  # height: the path begins here
    ends = np.empty(width, np.int32)  # row in which a path that ends before this column does so
    last = -1  # the column after that end
    for x in range(1, width):
        best, origin = on.copy(), rows.copy()
        for shift in (*range(-_SLOPE, 0), *range(1, _SLOPE + 1)):
            start = np.clip(rows - shift, 0, height - 1)
            value = on[start] - _BEND * abs(shift)
            best, origin = np.maximum(best, value), np.where(value > best, start, origin)
        begun = before - _TURN
        best, origin = np.maximum(best, begun), np.where(begun > best, height, origin)
        ends[x], came[x] = on.argmax(), origin
        ended = on[ends[x]] - _TURN
        last = x if ended > after else last
        after = max(ended, after) + _NONE
        on, before = best + gain[:, x], before + _NONE
    path = np.full(width, height, np.int64)
    if max(before, after) >= on.max() and before >= after:
        return path
    x, row = (width - 1, int(on.argmax())) if on.max() >= after else (last - 1, int(ends[last]))
    while x >= 0 and row < height:
        path[x] = row
        row, x = int(came[x, row]) if x else height, x - 1
    return path


def _filled(outline: np.ndarray, height: int, size: Size) -> np.ndarray:
    """Return the mask below an outline, at the size of the recording."""
    columns = (np.arange(size.width) + 0.5) * (WIDTH / size.width) - 0.5
    there = outline < height
    edge = np.interp(columns, np.arange(WIDTH), np.where(there, outline, height))
    held = there[np.clip(np.round(columns).astype(int), 0, WIDTH - 1)]
    top = np.where(held, (edge + 0.5) * (size.height / height), size.height)
    return np.where(np.arange(size.height)[:, None] >= top, 255, 0).astype(np.uint8)
