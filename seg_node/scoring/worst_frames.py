"""The frames a model does worst on, as a contact sheet: image, truth, mask and errors."""

from collections.abc import Sequence
from dataclasses import dataclass
import heapq

import cv2
import numpy as np

from ..model.taxonomy import ClassTable, UNLABELLED
from .pictures import caption, contact_sheet, Painter, PANEL_WIDTH

_RED = (40, 40, 230)


@dataclass(frozen=True)
class ScoredFrame:
    """
    One frame with what was to be seen and what was.

    :ivar miou: mean IoU over the classes of this frame alone.
    :ivar image: (H, W, 3) uint8 BGR.
    :ivar truth: (H, W) uint8 class ids, 255 = void.
    :ivar mask: (H, W) uint8 class ids, 255 = unlabelled.
    """

    name: str
    miou: float
    image: np.ndarray
    truth: np.ndarray
    mask: np.ndarray


class WorstFrames:
    """Keeps the frames with the lowest mIoU; of equal ones those that came first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[float, int, ScoredFrame]] = []  # the best of the worst on top
        self._seen = 0

    def add(self, frame: ScoredFrame) -> None:
        """Keep the frame if it is among the worst so far."""
        self._keep(frame, self._seen)
        self._seen += 1

    def merge(self, later: 'WorstFrames') -> None:
        """Keep the worst of these frames and of those of another that came after them."""
        for _, minus_seen, frame in later._heap:
            self._keep(frame, self._seen - minus_seen)
        self._seen += later._seen

    def _keep(self, frame: ScoredFrame, number: int) -> None:
        heapq.heappush(self._heap, (-frame.miou, -number, frame))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)

    def frames(self) -> list[ScoredFrame]:
        """Return the frames kept, the worst first."""
        return [frame for _, _, frame in sorted(self._heap, key=lambda entry: entry[:2],
                                                reverse=True)]


def draw_sheet(title: str, frames: Sequence[ScoredFrame], classes: ClassTable) -> np.ndarray:
    """Return the contact sheet, uint8 BGR; one row of four panels a frame."""
    painter = Painter(classes)
    rows = [_row(frame, painter) for frame in frames]
    height = max(row.shape[0] for row in rows)
    same = [cv2.copyMakeBorder(row, 0, height - row.shape[0], 0, 0, cv2.BORDER_CONSTANT)
            for row in rows]
    return contact_sheet(title, same, painter, columns=1)


def _row(frame: ScoredFrame, painter: Painter) -> np.ndarray:
    image = _fit(frame.image, cv2.INTER_AREA)
    panels = np.hstack([image, painter.labels(frame.image, frame.truth),
                        painter.labels(frame.image, frame.mask), _errors(frame, image)])
    text = (f'{frame.name}   mIoU of this frame {frame.miou:.3f}   image | truth | mask | errors '
            'red, void black')
    return np.vstack([caption(text, panels.shape[1]), panels])


def _errors(frame: ScoredFrame, image: np.ndarray) -> np.ndarray:
    """Return the image in grey with wrong pixels red and void ones black."""
    panel = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    truth, mask = (_fit(ids, cv2.INTER_NEAREST) for ids in (frame.truth, frame.mask))
    panel[truth != mask] = _RED
    panel[truth == UNLABELLED] = 0
    return panel


def _fit(image: np.ndarray, interpolation: int) -> np.ndarray:
    height = round(PANEL_WIDTH * image.shape[0] / image.shape[1])
    return cv2.resize(image, (PANEL_WIDTH, height), interpolation=interpolation)
