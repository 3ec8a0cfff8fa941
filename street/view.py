"""The camera: an oversized ideal (pinhole) canvas that is drawn on, and the real lens after it."""

from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.errors import ConfigError
from seg_node.ground.calibration import CameraCalibration

from .algebra import turned

NEAR_M = 0.2
SHIFT = 4
_FAR_PX = 20000.0
_WIDEST_RAY = 4.0
_MARGIN_PX = 3


@dataclass(frozen=True, eq=False)
class Pose:
    """
    The camera in the world for one frame.

    :ivar rotation: (3, 3) float64, world directions -> optical axes (x right, y down, z ahead).
    :ivar centre: (3,) float64, world, metres.
    """

    rotation: np.ndarray
    centre: np.ndarray

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Return world points (..., 3) in optical axes, metres."""
        return turned(points - self.centre, self.rotation)

    def ahead(self) -> np.ndarray:
        """Return the viewing direction in the ground plane, (2,) unit."""
        direction = self.rotation[2, :2]
        return direction / np.linalg.norm(direction)


class View:
    """
    Pinhole canvas that covers all the lens sees, finer than the image (supersampled).

    Convention: canvas pixels as everywhere, integer coordinates are pixel centres. Everything is
    drawn on the canvas; :meth:`image` and :meth:`labels` look at it through the lens, so labels
    are picked (nearest), never blended.

    :ivar size: (height, width) of the canvas.
    :ivar matrix: (3, 3) float64, optical axes -> canvas pixels.
    """

    def __init__(self, calibration: CameraCalibration, oversampling: float) -> None:
        height, width = calibration.height, calibration.width
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
        rays = calibration.normalize(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        if not (np.abs(rays) < _WIDEST_RAY).all():
            raise ConfigError(
                f'camera {calibration.name!r} ({calibration.distortion_model}) sees more than '
                f'{2 * np.degrees(np.arctan(_WIDEST_RAY)):.0f} degrees; the synthetic drive '
                'renders narrower cameras. Crop the calibration or take another.')
        focal = oversampling * np.array([calibration.K[0, 0], calibration.K[1, 1]])
        low, high = rays.min(axis=0) * focal, rays.max(axis=0) * focal
        extent = np.ceil(high - low).astype(int) + 1 + 2 * _MARGIN_PX
        self.size = (int(extent[1]), int(extent[0]))
        self.focal = focal
        self.centre = _MARGIN_PX - low
        self.matrix = np.array([[focal[0], 0, self.centre[0]], [0, focal[1], self.centre[1]],
                                [0, 0, 1.0]])
        grid = (rays * focal + self.centre).astype(np.float32).reshape(height, width, 2)
        x, y = np.ascontiguousarray(grid[..., 0]), np.ascontiguousarray(grid[..., 1])
        self._blend = cv2.convertMaps(x, y, cv2.CV_16SC2)
        self._pick = cv2.convertMaps(x, y, cv2.CV_16SC2, nninterpolation=True)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return the canvas pixels (..., 2) of points in optical axes (z > 0)."""
        return points[..., :2] / points[..., 2:] * self.focal + self.centre

    def rays(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return (len(rows), len(columns), 3): the optical-axes directions, z = 1."""
        x = (columns - self.centre[0]) / self.focal[0]
        y = (rows - self.centre[1]) / self.focal[1]
        out = np.ones((len(rows), len(columns), 3))
        out[..., 0], out[..., 1] = x[None, :], y[:, None]
        return out

    def image(self, canvas: np.ndarray) -> np.ndarray:
        """Return what the lens makes of a canvas image (anti-aliased)."""
        return cv2.remap(canvas, self._blend[0], self._blend[1], cv2.INTER_LINEAR)

    def labels(self, canvas: np.ndarray) -> np.ndarray:
        """Return the label that the canvas has at each pixel's centre."""
        return cv2.remap(canvas, self._pick[0], self._pick[1], cv2.INTER_NEAREST)


def fixed(points: np.ndarray) -> np.ndarray:
    """Return pixels as the fixed-point integers that OpenCV fills polygons with."""
    return np.rint(np.clip(points, -_FAR_PX, _FAR_PX) * (1 << SHIFT)).astype(np.int32)


def shrunk(points: np.ndarray) -> np.ndarray:
    """
    Return an outline (k, 2) of pixels drawn in by half a pixel.

    OpenCV fills every pixel that an outline touches, which is half a pixel too much all around.
    """
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    normals = [np.stack([-step[:, 1], step[:, 0]], axis=1) / np.maximum(
        np.sqrt((step ** 2).sum(axis=1, keepdims=True)), 1e-9) for step in (before, after)]
    inward = normals[0] + normals[1]
    # Long enough that both edges, not their corner, move by half a pixel; but no spikes.
    inward /= np.maximum((inward ** 2).sum(axis=1, keepdims=True), 0.5) / 2
    ahead = np.roll(points, -1, axis=0)
    turn = (points[:, 0] * ahead[:, 1] - points[:, 1] * ahead[:, 0]).sum()
    return np.asarray(points + 0.5 * np.sign(turn) * inward)
