"""What the sensor makes of the light: vignetting, exposure, tone curve, noise."""

import cv2
import numpy as np

from .style import Style

_SPARE_PX = 64
_VIGNETTE = 0.22


class Sensor:
    """
    Turns a clean BGR image into a photograph.

    :ivar noise: whether noise is added.
    """

    def __init__(self, rng: np.random.Generator, style: Style, width: int, height: int,
                 noise: bool = True) -> None:
        self._style, self.noise = style, noise
        rows = (np.arange(height) - (height - 1) / 2)[:, None]
        columns = (np.arange(width) - (width - 1) / 2)[None, :]
        radius2 = (rows ** 2 + columns ** 2) / (height ** 2 + width ** 2) * 4
        fall = 1 - _VIGNETTE * radius2 ** 1.2
        self._vignette = cv2.merge([(fall * 255 + 0.5).astype(np.uint8)] * 3)
        shape = (height + _SPARE_PX, width + _SPARE_PX)
        grain = rng.standard_normal((*shape, 3), dtype=np.float32)
        # Demosaicing leaves noise a little coarser than a pixel, and mostly grey.
        grain = cv2.GaussianBlur(grain, (0, 0), 0.6) * 1.9
        grain = 0.75 * grain.mean(axis=2, keepdims=True) * 1.7 + 0.45 * grain
        self._grain = np.rint(grain * style.noise).clip(-40, 40).astype(np.int16)

    def expose(self, image: np.ndarray, exposure: float, index: int) -> np.ndarray:
        """
        Return the photograph.

        :param image: (height, width, 3) uint8 BGR.
        :param exposure: gain on the light's display value.
        :param index: number of the frame; it chooses the noise.
        """
        photo = cv2.multiply(image, self._vignette, scale=1 / 255)
        photo = self._saturate(photo)
        photo = cv2.LUT(photo, self._curve(exposure))
        if not self.noise:
            return photo
        # A low-discrepancy walk: neighbouring frames share no noise.
        top, left = (int(index * step) % _SPARE_PX for step in (37.7, 53.3))
        height, width = photo.shape[:2]
        cut = self._grain[top:top + height, left:left + width]
        return cv2.add(photo, cut, dtype=cv2.CV_8U)

    def _saturate(self, image: np.ndarray) -> np.ndarray:
        amount = self._style.saturation
        weights = np.array([[0.114, 0.587, 0.299]]) * (1 - amount)
        return cv2.transform(image, np.eye(3) * amount + np.repeat(weights, 3, axis=0))

    def _curve(self, exposure: float) -> np.ndarray:
        """Return the (1, 256, 3) table: white balance, gain, contrast about mid-grey."""
        value = np.arange(256)[:, None] / 255 * self._style.tint * exposure
        curved = 0.42 * (np.maximum(value, 0) / 0.42) ** self._style.contrast
        # A soft shoulder: highlights run into white instead of being cut.
        knee = 0.8
        over = np.maximum(curved - knee, 0)
        curved = np.where(curved > knee, knee + (1 - knee) * (1 - np.exp(-over / 0.16)), curved)
        return np.clip(curved * 255 + 0.5, 0, 255).astype(np.uint8)[None]
