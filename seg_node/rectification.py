"""Straight lines stay straight: a camera's raw image sampled on its rectified grid."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from .errors import FrameError


class Rectification:
    """
    How a camera's raw image becomes a rectified one of any size.

    The rectified image has the camera's own size and the projection P of its calibration; another
    size is the same view scaled. Compared and hashed by identity: one for each calibration.

    :param camera: (height, width) of the raw images.
    :param positions: returns for a size (height, width) where each rectified pixel lies in the
        raw image, (height, width, 2) float32 pixels (x, y), centres at integers.
    """

    def __init__(self, camera: tuple[int, int],
                 positions: Callable[[tuple[int, int]], np.ndarray]) -> None:
        self.camera = camera
        self.positions = lru_cache(maxsize=4)(positions)
        self._fixed = lru_cache(maxsize=4)(self._make_fixed)
        self.unseen = lru_cache(maxsize=4)(self._make_unseen)

    def check(self, camera: tuple[int, int]) -> None:
        """
        Refuse an image of another size than the calibration's.

        :raises FrameError: ``calibration``.
        """
        if camera != self.camera:
            raise FrameError('calibration', f'the image is {camera[1]}x{camera[0]}, its '
                             f'calibration is for {self.camera[1]}x{self.camera[0]}: calibrate at '
                             'the size in use, or set output_grid: raw')

    def picture(self, image: np.ndarray, size: tuple[int, int], border: int = 0) -> np.ndarray:
        """
        Return the rectified image of a size, (height, width, 3) uint8, bilinear.

        :param image: the raw image, (H, W, 3) uint8.
        :param border: value of what the camera did not see.
        """
        return cv2.remap(image, *self._fixed(size), cv2.INTER_LINEAR,
                         borderMode=cv2.BORDER_CONSTANT, borderValue=(border,) * 3)

    def ids(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return raw-image ids (H, W) uint8 on the rectified grid by nearest; 0 outside."""
        positions = self.positions(size)
        return cv2.remap(values, positions[..., 0], positions[..., 1], cv2.INTER_NEAREST,
                         borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    def _make_fixed(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        positions = self.positions(size)
        # Fixed point is twice as fast to sample, and a 32nd of a pixel is fine enough.
        whole, fraction = cv2.convertMaps(positions[..., 0], positions[..., 1], cv2.CV_16SC2)
        return whole, fraction

    def _make_unseen(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return (H, W) bool, True where the camera saw nothing; None where it saw all."""
        positions = self.positions(size)
        limit = np.array(self.camera[::-1]) - 0.5
        inside = np.logical_and(positions >= -0.5, positions <= limit)  # NaN is outside
        unseen = np.logical_not(np.asarray(inside).all(axis=-1))
        return unseen if unseen.any() else None
