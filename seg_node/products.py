"""What consumers get: remapped mask, drivable area, colours, overlay. All look-ups."""

import cv2
import numpy as np

from .geometry import Geometry


def look_up(labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return ``table[labels]`` for labels (H, W) uint8 and a table (256,) uint8."""
    return cv2.LUT(labels, table)


def color_mask(mask: np.ndarray, palette_bgr: np.ndarray) -> np.ndarray:
    """Return the mask (H, W) uint8 in class colours, (H, W, 3) uint8 BGR."""
    return cv2.applyColorMap(mask, palette_bgr.reshape(256, 1, 3))


def overlay(image: np.ndarray, mask: np.ndarray, palette_bgr: np.ndarray, alpha: float,
            geometry: Geometry) -> np.ndarray:
    """
    Return the camera image with the class colours laid over it, on the output grid.

    :param image: (height, width, 3) uint8 BGR, the camera's.
    :param mask: (H, W) uint8, on the output grid.
    :param alpha: 0 = image only, 1 = colours only.
    """
    if geometry.output != geometry.camera:
        rows, columns = geometry.output_pixels()
        image = image[rows[:, None], columns]
    return cv2.addWeighted(image, 1 - alpha, color_mask(mask, palette_bgr), alpha, 0)
