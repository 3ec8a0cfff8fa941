"""The reliability diagram: how often pixels of each confidence are right."""

from collections.abc import Sequence

import cv2
import numpy as np

from .metrics import ExpectedCalibrationError
from .pictures import caption

_PLOT, _LEFT, _TOP, _BELOW = 360, 64, 16, 96
_WHITE, _GRID, _DARK = (255, 255, 255), (225, 225, 225), (40, 40, 40)
_BAR, _GAP, _SHARE = (190, 130, 60), (110, 110, 235), (170, 170, 170)  # BGR


def reliability_diagram(title: str,
                        panels: Sequence[tuple[str, ExpectedCalibrationError]]) -> np.ndarray:
    """
    Return a panel for each of some counts, side by side, (H, W, 3) uint8 BGR.

    For each of the 15 bins a bar as high as the share of right pixels, a red one from there to
    the mean confidence, and below how many of the pixels are in it.
    """
    drawn = [_panel(text, count) for text, count in panels]
    both = np.hstack(drawn)
    return np.vstack([caption(title, both.shape[1]), both])


def _panel(text: str, count: ExpectedCalibrationError) -> np.ndarray:
    image = np.full((_TOP + _PLOT + _BELOW, _LEFT + _PLOT + 24, 3), _WHITE, np.uint8)
    floor = _TOP + _PLOT
    for tenth in range(0, 11, 2):
        at = round(_PLOT * tenth / 10)
        cv2.line(image, (_LEFT, floor - at), (_LEFT + _PLOT, floor - at), _GRID)
        _write(image, f'{tenth / 10:.1f}', _LEFT - 34, floor - at + 4)
        _write(image, f'{tenth / 10:.1f}', _LEFT + at - 10, floor + 18)
    total = max(1, int(count.pixels.sum()))
    for number, (pixels, right, confidence) in enumerate(count.bins()):
        if not pixels:
            continue
        left, end = (_LEFT + round(_PLOT * n / count.BINS) for n in (number, number + 1))
        height, sure = (round(_PLOT * share) for share in (right, confidence))
        cv2.rectangle(image, (left + 1, floor - height), (end - 1, floor), _BAR, cv2.FILLED)
        cv2.rectangle(image, (left + 1, floor - max(height, sure)),
                      (end - 1, floor - min(height, sure)), _GAP, cv2.FILLED)
        share = max(1, round(28 * pixels / total))
        cv2.rectangle(image, (left + 1, floor + 24), (end - 1, floor + 24 + share), _SHARE,
                      cv2.FILLED)
    cv2.line(image, (_LEFT, floor), (_LEFT + _PLOT, _TOP), _DARK, 1, cv2.LINE_AA)
    cv2.rectangle(image, (_LEFT, _TOP), (_LEFT + _PLOT, floor), _DARK)
    _write(image, 'share of right pixels against confidence; grey: pixels', _LEFT - 40, floor + 70)
    _write(image, f'{text}: ECE {count.value():.4f}', _LEFT - 40, floor + 88)
    return image


def _write(image: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _DARK, 1, cv2.LINE_AA)
