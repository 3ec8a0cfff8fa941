"""
The ground as a camera sees it: a table of rays by bearing and depression angle.

Convention: the ground is the plane z = 0 of the vehicle's base frame (REP-103: x forward, y left,
z up). Rays start at the camera's optical centre; their bearing is the angle about z from x towards
y, their depression the angle below the horizontal. A ray meets the ground at ``height /
tan(depression)`` metres from the point below the optical centre (the camera's *foot*). A change of
the vehicle's pitch moves every point by that many degrees of depression, so that in this table an
unknown pitch is a shift along one axis.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..geometry import Size
from .calibration import CameraCalibration, Mount

_MAX_BEARINGS, _MAX_DEPRESSIONS = 480, 720
#: A ray is not followed where one row of pixels covers more metres of ground than this.
_FOOTPRINT_M = 0.75
#: Nor where the uncertainty of the pitch moves its point by more than this share of its range.
_UNCERTAIN_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class RayTable:
    """
    Which pixel of the mask each ray meets.

    :ivar bearings: (B,) float64 radians, from right to left (ascending).
    :ivar depressions: (R,) float64 radians, from near to far (descending), evenly spaced.
    :ivar ranges_m: (R,) float64, from the camera's foot to the ground, inf from the horizon on.
    :ivar pixels: (M + R + M, B) int32, index of the pixel in the flattened mask, -1 where the
        camera does not see it. Row M + i belongs to depression i while the pitch is the mount's.
    :ivar margin: M, rows by which another pitch may shift it.
    :ivar foot: (x, y) of the point below the optical centre, metres in the base frame.
    :ivar height_m: of the optical centre above the ground.
    :ivar slack: rows of the table by which the pitch may be wrong.
    :ivar reach: rows that lie within the range limit; those beyond serve only the slack.
    :ivar limit_m: the range limit.
    """

    bearings: np.ndarray
    depressions: np.ndarray
    ranges_m: np.ndarray
    pixels: np.ndarray
    margin: int
    foot: tuple[float, float]
    height_m: float
    slack: int
    reach: int
    limit_m: float

    @property
    def step(self) -> float:
        """The angle from row to row, radians."""
        return float(self.depressions[0] - self.depressions[1])

    def shifts(self, deviation: float) -> np.ndarray:
        """
        Return by how many rows each bearing's pixels are shifted, (B,) int32.

        :param deviation: of the pitch from the mount's, radians, nose down positive: what lies at
            a depression is then seen so much higher in the picture, straight ahead.
        """
        rows = np.rint(deviation * np.cos(self.bearings) / self.step)
        return np.clip(rows, -self.margin, self.margin).astype(np.int32)


def make_rays(calibration: CameraCalibration, mount: Mount, mask: Size, *, rectified: bool,
              pitch_sigma_rad: float, max_range_m: float, margin_rad: float = 0.0) -> RayTable:
    """
    Return the table for masks of a size.

    :param calibration: of the camera's images; scaled to ``mask`` here.
    :param mount: where the camera sits now.
    :param rectified: whether the mask lies on the rectified grid.
    :param pitch_sigma_rad: how far the pitch may be wrong.
    :param margin_rad: how far the pitch may deviate from the mount's and be known.
    :raises ConfigError: the camera is on or below the ground, or sees none of it.
    """
    height = float(mount.translation[2])
    if not height > 0.05:
        raise ConfigError(f'the mount of camera {calibration.name!r} puts it {height:.2f} m above '
                          f'the ground (z of {mount.base_frame} is the ground); it must be 0.05 '
                          'or more. Give the height above the road, or another base_frame.')
    view = _View(calibration.scaled(mask.width, mask.height), mount, rectified)
    bearings, steepest, step = view.field()
    limit = range_limit_m(height, step, pitch_sigma_rad, max_range_m)
    slack = int(np.ceil(pitch_sigma_rad / step - 1e-9))
    least = np.arctan2(height, limit)
    if steepest <= least:
        raise ConfigError(f'camera {calibration.name!r} sees no ground nearer than {limit:.1f} m: '
                          'it looks at or above the horizon. Correct mount.rotation_rpy (pitch '
                          'is positive downwards, radians).')
    reach = int(np.ceil((steepest - least) / step)) + 1
    depressions = steepest - step * np.arange(reach + slack)
    with np.errstate(divide='ignore'):
        ranges = np.where(depressions > 0, height / np.tan(np.maximum(depressions, 1e-9)), np.inf)
    margin = int(np.ceil(margin_rad / step))
    seen = steepest + step * margin - step * np.arange(reach + slack + 2 * margin)
    pixels = view.pixels(seen, bearings, mask)
    foot = float(mount.translation[0]), float(mount.translation[1])
    return RayTable(bearings, depressions, ranges, pixels, margin, foot, height, slack, reach,
                    limit)


def range_limit_m(height_m: float, pixel_rad: float, pitch_sigma_rad: float,
                  max_range_m: float) -> float:
    """
    Return how far the ground can be told.

    A ray at range r moves by ``r**2 / height`` metres for each radian, be it of pitch or of the
    height of a pixel.
    """
    by_pixel = np.sqrt(_FOOTPRINT_M * height_m / pixel_rad)
    by_pitch = (_UNCERTAIN_SHARE * height_m / pitch_sigma_rad if pitch_sigma_rad > 0
                else np.inf)
    return float(min(max_range_m, by_pixel, by_pitch))


class _View:
    """Projects directions of the base frame into the mask."""

    def __init__(self, camera: CameraCalibration, mount: Mount, rectified: bool) -> None:
        self._camera = camera
        self._rectified = rectified
        self._turn = mount.optical_from_base()[:3, :3]
        edge = self._edge_rays()
        self._widest = float(np.nanmax(np.hypot(edge[:, 0], edge[:, 1]))) * 1.001
        self._edge = np.column_stack([edge, np.ones(len(edge))]) @ self._turn  # in the base frame

    def _edge_rays(self) -> np.ndarray:
        """Return the rays of the picture's outermost pixels in the optical frame, (n, 2)."""
        camera = self._camera
        x, y = np.linspace(0, camera.width - 1, 65), np.linspace(0, camera.height - 1, 65)
        pixels = np.vstack([np.column_stack([x, np.full(65, edge)])
                            for edge in (0, camera.height - 1)]
                           + [np.column_stack([np.full(65, edge), y])
                              for edge in (0, camera.width - 1)])
        rays = camera.rectified_rays(pixels) if self._rectified else camera.normalize(pixels)
        rays = rays[np.isfinite(rays).all(axis=1)]
        if not len(rays):
            raise ConfigError(f'no pixel at the edge of camera {camera.name!r} has a ray: its '
                              'distortion coefficients do not fit its picture. Calibrate again.')
        return rays

    def field(self) -> tuple[np.ndarray, float, float]:
        """Return the bearings, the steepest depression, and the angle from row to row."""
        x, y, z = self._edge.T
        ahead = x > 1e-6
        low, high = np.arctan2(y[ahead], x[ahead]).min(), np.arctan2(y[ahead], x[ahead]).max()
        steepest = float(np.arctan2(-z, np.hypot(x, y)).max())
        fx, fy = ((self._camera.P[0, 0], self._camera.P[1, 1]) if self._rectified
                  else (self._camera.K[0, 0], self._camera.K[1, 1]))
        count = int(np.clip((high - low) * fx, 16, _MAX_BEARINGS))
        step = max(1 / fy, steepest / _MAX_DEPRESSIONS)
        return np.linspace(low, high, count), steepest, float(step)

    def pixels(self, depressions: np.ndarray, bearings: np.ndarray, mask: Size) -> np.ndarray:
        shape = len(depressions), len(bearings)
        cos = np.cos(depressions)[:, None]
        directions = np.stack([cos * np.cos(bearings), cos * np.sin(bearings),
                               np.broadcast_to(-np.sin(depressions)[:, None], shape)], axis=-1)
        optical = directions.reshape(-1, 3) @ self._turn.T
        with np.errstate(divide='ignore', invalid='ignore'):
            spread = np.hypot(optical[:, 0], optical[:, 1]) / optical[:, 2]
        # Far outside the picture the distortion's polynomial folds back into it.
        sane = (optical[:, 2] > 1e-6) & (spread <= self._widest)
        found = np.full(len(optical), -1, np.int32)
        project = self._camera.project_rectified if self._rectified else self._camera.project
        if sane.any():
            x, y = np.floor(project(optical[sane]) + 0.5).T
            inside = (x >= 0) & (x < mask.width) & (y >= 0) & (y < mask.height)
            found[sane] = np.where(inside, y * mask.width + x, -1).astype(np.int32)
        return found.reshape(shape)
