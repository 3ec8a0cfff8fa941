"""
Labels that do not flicker: a change that no sure pixel nearby bears out waits for one frame.

Where the network is torn between classes its labels toggle from frame to frame, in patches in
which no pixel is sure. At the edge of something that moves in there are sure pixels of its class
right beside. So a change is taken at once if a sure pixel of the new class lies near, and
otherwise only when the next frame does not take it back.
"""

import numpy as np

from .frame import Segmentation
from .jit import inner, njit
from .model.taxonomy import UNLABELLED

SURE = 0.985  # confidence from which on a pixel bears out its neighbours' change
CLEAR = 0.9  # confidence from which on a pixel's own change is taken at once
MAX_GAP_S = 0.5  # frames that are further apart are not one scene
_REACH = 0.03  # of the image's height: how near such a pixel must be


class Steadiness:
    """
    Steadies the labels of one camera; used by one thread.

    Nothing lags by more than one frame. At once taken are people, vehicles and all else that may
    move by itself, and pixels without a label. What the network calls not drivable is never
    drivable, and a held pixel is never surer than the frame leaves it.

    :param dynamic: (256,) uint8, not 0 for classes that may move by themselves.
    """

    def __init__(self, dynamic: np.ndarray) -> None:
        self._at_once = dynamic > 0
        self._at_once[UNLABELLED] = True
        self._last: Segmentation | None = None
        self._held = np.empty((0, 0), np.bool_)
        self._stamp_ns = 0
        # Compiled or loaded now, not while the second frame waits.
        plane = np.zeros((2, 2), np.uint8)
        _hold(plane, plane, plane, plane, plane, plane, np.zeros((2, 2), np.bool_), self._at_once,
              1, 1, 1)

    def reset(self) -> None:
        """Forget the frames before: the next one is taken as it is."""
        self._last = None

    def follow(self, segmentation: Segmentation, stamp_ns: int) -> None:
        """
        Hold in place what changed without being borne out.

        :param segmentation: with the confidence; without one nothing is held.
        """
        last, age_ns = self._last, stamp_ns - self._stamp_ns
        self._stamp_ns = stamp_ns
        confidence, drivable = segmentation.confidence, segmentation.drivable
        if confidence is None:
            self.reset()
            return
        if (last is None or not 0 < age_ns <= MAX_GAP_S * 1e9
                or last.geometry != segmentation.geometry
                or (last.drivable is None) != (drivable is None)):
            self._held = np.zeros(segmentation.labels.shape, np.bool_)
        else:
            assert last.confidence is not None
            step = max(1, round(_REACH * len(segmentation.labels) / 2))
            nothing = np.empty((0, 0), np.uint8)
            _hold(segmentation.labels, confidence, nothing if drivable is None else drivable,
                  last.labels, last.confidence,
                  nothing if last.drivable is None else last.drivable,
                  self._held, self._at_once, int(np.ceil(SURE * 255)),
                  int(np.ceil(CLEAR * 255)), step)
        # The segmenter may use its buffers again.
        self._last = Segmentation(segmentation.geometry, segmentation.labels.copy(),
                                  confidence.copy(),
                                  None if drivable is None else drivable.copy())


@njit()
def _hold(labels, confidence, drivable, last_labels, last_confidence, last_drivable, held,
          at_once, sure, clear, step):
    """
    Write the last frame's label, and what belongs to it, where the change must wait.

    A pixel's neighbours are read before they are written to: rows above were decided by what the
    network said of them, which is kept in ``raw``.
    """
    height, width = labels.shape
    raw = labels.copy()
    raw_confidence = confidence.copy()
    for y in range(height):
        for x in range(width):
            new, old = raw[y, x], last_labels[y, x]
            if new == old:
                held[y, x] = False
                continue
            if (held[y, x] or at_once[new] or raw_confidence[y, x] >= clear
                    or _borne_out(raw, raw_confidence, new, y, x, sure, step)):
                held[y, x] = False
                continue
            held[y, x] = True
            labels[y, x] = old
            confidence[y, x] = min(last_confidence[y, x], 255 - raw_confidence[y, x])
            if drivable.shape[0]:
                drivable[y, x] = min(drivable[y, x], last_drivable[y, x])


@inner()
def _borne_out(labels, confidence, label, y, x, sure, step):
    """Return whether a sure pixel of this label lies near, on a grid of 5 x 5."""
    for dy in range(-2, 3):
        row = min(max(y + dy * step, 0), labels.shape[0] - 1)
        for dx in range(-2, 3):
            column = min(max(x + dx * step, 0), labels.shape[1] - 1)
            if labels[row, column] == label and confidence[row, column] >= sure:
                return True
    return False
