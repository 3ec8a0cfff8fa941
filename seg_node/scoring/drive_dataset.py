"""A recorded drive as a labelled data set: its frames in their order."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..frame import Frame
from ..image.wire import Header, ImageMessage
from ..model.taxonomy import load_taxonomy
from .datasets import Dataset, Pair
from .drive import Drive, DriveFrame, LABELS, VIDEO
from .layouts import LAYOUTS


class DriveDataset(Dataset):
    """
    The frames of a drive, to be asked for in rising order; see ``Dataset``.

    :raises ConfigError: when a file of it is missing or damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        drive = Drive(path)
        pairs = tuple(Pair(f'{index:04d}', drive.path / VIDEO, drive.path / LABELS)
                      for index in range(len(drive)))
        super().__init__(LAYOUTS['pairs'], load_taxonomy(drive.taxonomy), pairs)
        object.__setattr__(self, 'drive', drive)
        object.__setattr__(self, '_frames', iter(()))
        object.__setattr__(self, '_current', None)

    drive: Drive
    _frames: Iterator[DriveFrame]
    _current: DriveFrame | None

    def frame(self, pair: Pair) -> Frame:
        """Return the picture as a frame, as the video has it."""
        image = self._at(int(pair.name)).image
        height, width = image.shape[:2]
        message = ImageMessage(Header(0, 0, pair.name), height, width, 'bgr8', False, 3 * width,
                               image.reshape(-1))
        return Frame(pair.name, message)

    def raw(self, pair: Pair) -> np.ndarray:
        """Return the label as (H, W) uint8 class ids of ``table``."""
        return self._at(int(pair.name)).labels

    def _at(self, index: int) -> DriveFrame:
        if self._current is None or index < self._current.index:
            object.__setattr__(self, '_frames',
                               iter(self.drive.frames(range(index, len(self.drive)))))
            object.__setattr__(self, '_current', next(self._frames))
        while self._current is not None and self._current.index < index:
            object.__setattr__(self, '_current', next(self._frames))
        assert self._current is not None
        return self._current
