"""
The temperature of a model's logits that makes its confidence tell the share of right pixels.

The temperature that is best on pictures like those of the training makes the model as sure as it
may be there, and too sure on any other camera: that it has learnt these streets cannot be seen on
them, not even on spoilt copies. So it is the highest one that keeps the error on them small.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..geometry import Axis
from .metrics import ExpectedCalibrationError

#: What is tried: from sharper to flatter in steps of 1 %.
TEMPERATURES = np.exp(np.arange(-100, 141) * 0.01)
LIMIT = 0.011
MIN_FRAMES, MIN_PIXELS = 20, 40_000
_SAMPLES = 2000  # pixels of a frame: more of one frame tell hardly more
_VALUES = 40_000  # of logits at the pixels' corners: many classes, fewer pixels


@dataclass(frozen=True)
class Fitted:
    """
    The result of a fit.

    :ivar temperature: rounded to 3 digits.
    :ivar before: expected calibration error at temperature 1.
    :ivar after: the same at ``temperature``.
    :ivar least: the smallest there is at any temperature, and ``best``: at which.
    """

    temperature: float
    before: float
    after: float
    least: float
    best: float
    frames: int
    pixels: int


class TemperatureFit:
    """
    Counts how right a confidence would be at each of ``TEMPERATURES``, on samples of pixels.

    The confidence is the published one: softmax on the network's grid, upsampled bilinearly and
    read at the winner.

    :param seed: of the choice of pixels.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._counts = [ExpectedCalibrationError() for _ in TEMPERATURES]
        self._frames = 0

    def add(self, logits: np.ndarray, rows: Axis, columns: Axis, labels: np.ndarray,
            right: np.ndarray, known: np.ndarray) -> None:
        """
        Count one frame.

        :param logits: float32 (C, h, w).
        :param rows: where the rows of the mask sample them (``Geometry.rows``).
        :param columns: the same for the columns.
        :param labels: (H, W) uint8, the winners.
        :param right: (H, W) bool, where the mask is right.
        :param known: (H, W) bool, where the truth is known.
        """
        self._frames += 1
        places = np.flatnonzero(known)
        most = max(1, min(_SAMPLES, _VALUES // len(logits)))
        if len(places) > most:
            places = self._rng.choice(places, most, replace=False)
        y, x = np.unravel_index(places, known.shape)
        confidences = _confidences(logits, rows, columns, labels[y, x], y, x)
        everywhere = np.ones(len(places), bool)
        for count, confidence in zip(self._counts, confidences, strict=True):
            count.add(confidence, right[y, x], everywhere)

    def result(self, limit: float = LIMIT) -> Fitted:
        """
        Return the highest temperature whose error is within a limit, or the best one.

        :param limit: how large the error may become, unless no temperature keeps it.
        :raises ConfigError: too few frames or pixels were counted.
        """
        pixels = int(self._counts[0].pixels.sum())
        if self._frames < MIN_FRAMES or pixels < MIN_PIXELS:
            raise ConfigError(
                f'{pixels} labelled pixels of {self._frames} pictures are too few for a '
                f'temperature; at least {MIN_PIXELS} (of up to {_SAMPLES} taken from each) of '
                f'{MIN_FRAMES} pictures are needed. Give more labelled pictures of different '
                'places.')
        errors = np.array([count.value() for count in self._counts])
        best = int(errors.argmin())
        chosen = best
        while chosen + 1 < len(errors) and errors[chosen + 1] <= limit:
            chosen += 1
        one = int(np.abs(TEMPERATURES - 1).argmin())
        return Fitted(round(float(TEMPERATURES[chosen]), 3), float(errors[one]),
                      float(errors[chosen]), float(errors[best]),
                      round(float(TEMPERATURES[best]), 3), self._frames, pixels)


def _confidences(logits: np.ndarray, rows: Axis, columns: Axis, winners: np.ndarray,
                 y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the confidence of some pixels at each temperature, (T, n) uint8."""
    top, left = rows.low[y], columns.low[x]
    below = np.minimum(top + 1, logits.shape[1] - 1)
    right = np.minimum(left + 1, logits.shape[2] - 1)
    fy, fx = rows.fraction[y], columns.fraction[x]
    total = np.zeros((len(TEMPERATURES), len(y)))
    for row, column, weight in ((top, left, (1 - fy) * (1 - fx)), (top, right, (1 - fy) * fx),
                                (below, left, fy * (1 - fx)), (below, right, fy * fx)):
        corner = logits[:, row, column].astype(np.float32)
        corner -= corner.max(axis=0)
        own = corner[winners, np.arange(len(y))]
        for index, temperature in enumerate(TEMPERATURES.astype(np.float32)):
            chance = np.exp(own / temperature) / np.exp(corner / temperature).sum(axis=0)
            total[index] += weight * chance
    return np.floor(total * 255 + 0.5).astype(np.uint8)
