"""What the demo shows: an overlay video and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from ..errors import SegNodeError
from ..model.taxonomy import ClassTable

PANEL_WIDTH = 640
_FONT, _WHITE, _DARK = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255), (32, 32, 32)
_GREEN = (80, 220, 60)
_BAR = 28


class Painter:
    """Draws panels of one width: the frame under its class colours, and its drivable area."""

    def __init__(self, classes: ClassTable) -> None:
        self._classes = classes
        self._palette = classes.palette_bgr()

    def labels(self, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Return the frame with class colours laid over it."""
        panel = _panel(image)
        if mask is None:
            return _struck(panel)
        small = cv2.resize(mask, panel.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return cv2.addWeighted(panel, 0.45, self._palette[small], 0.55, 0)

    def drivable(self, image: np.ndarray, area: np.ndarray | None) -> np.ndarray:
        """Return the frame with the drivable area tinted and outlined."""
        panel = _panel(image)
        if area is None:
            return _struck(panel)
        small = cv2.resize(area, panel.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        tinted = cv2.addWeighted(panel, 0.6, np.full_like(panel, _GREEN), 0.4, 0)
        cv2.copyTo(tinted, small, panel)
        outline, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(panel, outline, -1, _GREEN, 1, cv2.LINE_AA)
        return panel

    def legend(self, width: int) -> np.ndarray:
        """Return a strip with the colour and name of each class."""
        columns = max(1, width // 150)
        shown = self._classes.classes[:columns * 4]
        strip = np.full((_BAR * -(-len(shown) // columns), width, 3), _DARK, np.uint8)
        for index, entry in enumerate(shown):
            x, y = index % columns * (width // columns) + 6, index // columns * _BAR + 7
            colour = tuple(int(c) for c in self._palette[entry.id])
            cv2.rectangle(strip, (x, y), (x + 14, y + 14), colour, cv2.FILLED)
            _write(strip, entry.name, x + 20, y + 12)
        return strip


class OverlayVideo:
    """
    An mp4 with class colours left and the drivable area right.

    :raises SegNodeError: when OpenCV cannot write it.
    """

    def __init__(self, path: Path, fps: float, painter: Painter) -> None:
        self._path, self._fps, self._painter = path, fps, painter
        self._writer: cv2.VideoWriter | None = None
        self._shape: tuple[int, ...] = ()

    def add(self, labels: np.ndarray, drivable: np.ndarray, text: str) -> None:
        """Append a frame made of two panels, always of one size, and a line of text."""
        both = np.hstack([labels, drivable])
        frame = np.vstack([caption(text, both.shape[1]), both,
                           self._painter.legend(both.shape[1])])
        frame = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, 0, cv2.BORDER_REPLICATE)
        if self._writer is None:
            self._shape = frame.shape
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*'mp4v'),
                                           self._fps, frame.shape[1::-1])
            if not self._writer.isOpened():
                raise SegNodeError(f'OpenCV cannot write {self._path}: is the disk full, or the '
                                   'folder read-only?')
        assert frame.shape == self._shape
        self._writer.write(frame)

    def __enter__(self) -> 'OverlayVideo':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.release()


def contact_sheet(title: str, tiles: Sequence[np.ndarray], painter: Painter,
                  columns: int = 3) -> np.ndarray:
    """Return the tiles, all of one size, in rows under a title and over the legend."""
    blank = np.full_like(tiles[0], _DARK)
    padded = [*tiles, *[blank] * (-len(tiles) % columns)]
    rows = [np.hstack(padded[start:start + columns])
            for start in range(0, len(padded), columns)]
    width = rows[0].shape[1]
    return np.vstack([caption(title, width), *rows, painter.legend(width)])


def caption(text: str, width: int) -> np.ndarray:
    """Return a dark bar with a line of text."""
    bar = np.full((_BAR, width, 3), _DARK, np.uint8)
    _write(bar, text, 6, 19)
    return bar


def letterboxed(panel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a panel (height, width, 3) as large as fits into a shape, in the middle of it."""
    if panel.shape == shape:
        return panel
    scale = min(shape[0] / panel.shape[0], shape[1] / panel.shape[1])
    height, width = (max(1, round(side * scale)) for side in panel.shape[:2])
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    canvas = np.full(shape, _DARK, np.uint8)
    canvas[top:top + height, left:left + width] = cv2.resize(
        panel, (width, height), interpolation=cv2.INTER_AREA)
    return canvas


def _panel(image: np.ndarray) -> np.ndarray:
    height = round(PANEL_WIDTH * image.shape[0] / image.shape[1])
    height = min(max(height, PANEL_WIDTH // 8), PANEL_WIDTH * 2)  # lines and columns are stretched
    return cv2.resize(image, (PANEL_WIDTH, height), interpolation=cv2.INTER_AREA)


def _struck(panel: np.ndarray) -> np.ndarray:
    """Return the panel greyed: this frame was dropped."""
    grey = cv2.cvtColor(cv2.cvtColor(panel, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    _write(grey, 'dropped', 10, 24)
    return grey


def _write(image: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(image, text, (x, y), _FONT, 0.5, _WHITE, 1, cv2.LINE_AA)
