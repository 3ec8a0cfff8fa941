"""How steady masks are over the frames of a sequence with known truth."""

from collections import deque

import numpy as np

from ..model.taxonomy import UNLABELLED

_SETTLED = 4  # frames for which a new truth must stay to be counted as an edge that came by


class Flicker:
    """
    Counts label changes where the truth stands still, and how late masks show what moves.

    A pixel's truth stands still at the step from one frame to the next when it is the same from
    the frame before the one to the frame after the other: an edge that a mask shows one frame
    early or late is not flicker but lag, which is counted on its own. Pixels that are void in any
    of the four frames count nowhere.

    :param rate_hz: frames a second.
    """

    def __init__(self, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self._frames: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_SETTLED + 1)
        self.changes = self.still = 0
        self.changes_at_once = self.still_at_once = 0
        self.late = np.zeros(_SETTLED + 1, np.int64)

    def add(self, truth: np.ndarray, mask: np.ndarray) -> None:
        """
        Count the next frame.

        :param truth: (H, W) uint8, 255 = void.
        :param mask: (H, W) uint8 in the same classes.
        """
        if self._frames and self._frames[-1][0].shape != truth.shape:
            self._frames.clear()
        self._frames.append((truth, mask.copy()))
        frames = list(self._frames)
        if len(frames) >= 2:
            (before, old), (now, new) = frames[-2:]
            still = (before == now) & (now != UNLABELLED)
            self.still_at_once += int(np.count_nonzero(still))
            self.changes_at_once += int(np.count_nonzero(still & (old != new)))
        if len(frames) >= 4:
            (first, _), (one, old), (two, new), (last, _) = frames[-4:]
            still = (first == one) & (one == two) & (two == last) & (two != UNLABELLED)
            self.still += int(np.count_nonzero(still))
            self.changes += int(np.count_nonzero(still & (old != new)))
        if len(frames) == _SETTLED + 1:
            self._count_late(frames)

    def _count_late(self, frames: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Count in which frame masks show a truth that is new in the second of these frames."""
        new = frames[1][0]
        edge = (frames[0][0] != new) & (new != UNLABELLED)
        for truth, _ in frames[2:]:
            edge &= truth == new
        shown = np.stack([mask[edge] == new[edge] for _, mask in frames[1:]])
        when = np.where(shown.any(axis=0), shown.argmax(axis=0), _SETTLED)
        self.late += np.bincount(when, minlength=_SETTLED + 1)

    def report(self) -> dict[str, object]:
        """
        Return the figures.

        :return: ``flicker_per_pixel_s`` as above; ``flicker_at_once_per_pixel_s`` where the truth
            is the same in the two frames alone; ``late_frames``: share of the pixels with a new
            truth that show it at once, 1, 2, ... frames later, and not within these.
        """
        total = max(1, int(self.late.sum()))
        return {'rate_hz': self.rate_hz,
                'flicker_per_pixel_s': _rate(self.changes, self.still, self.rate_hz),
                'flicker_at_once_per_pixel_s': _rate(self.changes_at_once, self.still_at_once,
                                                     self.rate_hz),
                'late_frames': [round(float(count / total), 5) for count in self.late]}


def _rate(changes: int, pixels: int, rate_hz: float) -> float | None:
    return changes / pixels * rate_hz if pixels else None
