"""Textures with their smaller copies (mip levels), halved on each axis on its own."""

import cv2
import numpy as np

_SMALLEST = 2


class Texture:
    """
    A surface's colours, BGRA; alpha 255 = there, 0 = a hole.

    :ivar size: (height, width) in texels.
    :ivar cutout: whether some of it is a hole.
    :ivar hull: the part whose holes count as the thing itself, in alpha; None = all of it.
    """

    def __init__(self, bgr: np.ndarray, alpha: np.ndarray | None = None,
                 hull: np.ndarray | None = None) -> None:
        """
        Take the pixels.

        :param bgr: (height, width, 3) uint8.
        :param alpha: (height, width) uint8; None where all is there. Holes must carry the colours
            of their surroundings, or these bleed in when it gets small.
        :param hull: (height, width) uint8, 255 where a hole counts as the thing itself.
        """
        self.size = (bgr.shape[0], bgr.shape[1])
        self.cutout = alpha is not None
        self.hull = None if hull is None else Texture(bgr, hull)
        bgra = cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA)
        if alpha is not None:
            cv2.insertChannel(alpha, bgra, 3)
        self._levels = {(0, 0): bgra}

    def level(self, halve_y: int, halve_x: int) -> np.ndarray:
        """Return (h, w, 4) uint8, halved that often on each axis (as far as it goes)."""
        height, width = self.size
        while height >> halve_y < _SMALLEST and halve_y > 0:
            halve_y -= 1
        while width >> halve_x < _SMALLEST and halve_x > 0:
            halve_x -= 1
        key = (halve_y, halve_x)
        if key not in self._levels:
            size = (max(width >> halve_x, 1), max(height >> halve_y, 1))
            self._levels[key] = cv2.resize(self._levels[0, 0], size,
                                           interpolation=cv2.INTER_AREA)
        return self._levels[key]
