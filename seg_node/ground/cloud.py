"""Ground points of a mask: an organised cloud in which flat classes have their place in metres."""

import cv2
import numpy as np

from ..geometry import Size
from .calibration import CameraCalibration, Mount
from .kernels import select_points

_STEP = 8  # pixels between exact rays; those between lie on straight lines to 0.02 px


class GroundCloud:
    """
    The points of the plane z = 0 of the base frame that a mask's pixels look at.

    :param calibration: of the camera's images.
    :param mask: size of the masks.
    :param rectified: whether the masks lie on the rectified grid.
    :param ground_lut: (256,) uint8, 255 for class ids that lie flat on the ground.
    :param limit_m: pixels that look farther than this have no point.
    """

    def __init__(self, calibration: CameraCalibration, mount: Mount, mask: Size, *,
                 rectified: bool, ground_lut: np.ndarray, limit_m: float) -> None:
        self._flat = ground_lut > 0
        self._flat[255] = False
        view = calibration.scaled(mask.width, mask.height)
        directions = _directions(view, mask, rectified) @ mount.optical_from_base()[:3, :3]
        x, y, z = np.moveaxis(directions, -1, 0)
        with np.errstate(divide='ignore', invalid='ignore'):
            scale = np.where(z < 0, -mount.translation[2] / z, np.nan)
            near = np.hypot(x, y) * scale <= limit_m
        points = np.stack([mount.translation[0] + x * scale, mount.translation[1] + y * scale,
                           np.zeros_like(scale)], axis=-1).astype(np.float32)
        points[~near] = np.nan
        self._points = points.reshape(-1, 3)

    def points(self, mask: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """
        Return (H, W, 3) float32 metres in the base frame, NaN for all but seen, flat ground.

        :param mask: (H, W) uint8 class ids, contiguous.
        :param out: where to write it, (H, W, 3) float32, contiguous; None = new memory.
        """
        cloud = np.empty((*mask.shape, 3), np.float32) if out is None else out
        select_points(self._points, mask.reshape(-1), self._flat, cloud.reshape(-1, 3))
        return cloud


def _directions(view: CameraCalibration, mask: Size, rectified: bool) -> np.ndarray:
    """Return the direction each pixel looks in, (H, W, 3) float64 in the optical frame."""
    x = np.arange(0.0, mask.width + _STEP, _STEP)
    y = np.arange(0.0, mask.height + _STEP, _STEP)
    pixels = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    rays = view.rectified_rays(pixels) if rectified else view.normalize(pixels)
    nodes = rays.reshape(len(y), len(x), 2).astype(np.float32)
    at = np.meshgrid(np.arange(mask.width, dtype=np.float32) / _STEP,
                     np.arange(mask.height, dtype=np.float32) / _STEP)
    fine = cv2.remap(nodes, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.dstack([fine, np.ones(fine.shape[:2])]).astype(np.float64)
