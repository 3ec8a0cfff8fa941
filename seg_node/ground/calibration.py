"""Camera calibration: ROS camera_info YAML plus where the camera is mounted on the robot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import yaml

from ..errors import ConfigError
from ..paths import shared
from .calibration_file import read_calibration

FOLDER = 'calibration'
# ROS optical axes (x right, y down, z forward) seen from body axes (x forward, y left, z up).
_OPTICAL_FROM_BODY = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
_CLOSE_PX = 1e-4  # a ray that projects farther from its pixel than this is no ray of it


@dataclass(frozen=True, eq=False)
class Mount:
    """
    Where the camera sits on the robot.

    Convention: translation and rotation describe the camera's *body* frame (REP-103: x forward,
    y left, z up) in ``base_frame``; the optical frame ``frame_id`` (REP-105: x right, y down,
    z forward) has the same origin. Rotation is roll, pitch, yaw about fixed axes, as in URDF.

    :ivar frame_id: the camera's optical frame, the ``frame_id`` of its images.
    :ivar base_frame: the robot's frame, usually ``base_link``.
    :ivar translation: (3,) float64, metres.
    :ivar rotation_rpy: (3,) float64, radians.
    """

    frame_id: str
    base_frame: str
    translation: np.ndarray
    rotation_rpy: np.ndarray

    def optical_from_base(self) -> np.ndarray:
        """Return the (4, 4) float64 transform: a point in the base frame -> in the optical."""
        turn = _OPTICAL_FROM_BODY @ rotation_from_rpy(*self.rotation_rpy).T
        transform = np.eye(4)
        transform[:3, :3] = turn
        transform[:3, 3] = -turn @ self.translation
        return transform


    def is_close(self, other: 'Mount', metres: float, radians: float) -> bool:
        """Return whether another mount is this one within limits."""
        turn = (rotation_from_rpy(*self.rotation_rpy).T
                @ rotation_from_rpy(*other.rotation_rpy))
        angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
        return bool(np.abs(self.translation - other.translation).max() <= metres
                    and angle <= radians)


def mount_of_transform(frame_id: str, base_frame: str, translation: Sequence[float],
                       quaternion: Sequence[float]) -> Mount:
    """
    Return the mount that a transform from the optical to the base frame describes.

    :param quaternion: (x, y, z, w), of length 1.
    :raises ConfigError: a number is not finite, or the quaternion is none of length 1.
    """
    what = f'the transform from {frame_id!r} to {base_frame!r}'
    numbers = np.array([*translation, *quaternion], np.float64)
    if not np.isfinite(numbers).all():
        raise ConfigError(f'{what} has the values {numbers.tolist()}; all must be finite. Correct '
                          'its publisher.')
    length = float(np.linalg.norm(numbers[3:]))
    if abs(length - 1) > 1e-3:
        raise ConfigError(f'{what} has a quaternion of length {length:.4f}; it must be 1. Correct '
                          'its publisher.')
    x, y, z, w = numbers[3:] / length
    turn = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])
    body = turn @ _OPTICAL_FROM_BODY
    rpy = np.array([np.arctan2(body[2, 1], body[2, 2]),
                    np.arcsin(np.clip(-body[2, 0], -1, 1)),
                    np.arctan2(body[1, 0], body[0, 0])])
    return Mount(frame_id, base_frame, numbers[:3], rpy)


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """
    One camera's intrinsics, distortion, rectification and mount.

    Convention: pixels as in ROS and OpenCV, i.e. integer coordinates are pixel centres and the
    image spans -0.5 to width - 0.5. Optical axes: x right, y down, z forward.

    :ivar name: the camera's name.
    :ivar width: image width, pixels.
    :ivar height: image height, pixels.
    :ivar distortion_model: 'plumb_bob' (4 or 5 coefficients), 'rational_polynomial' (8, 12 or 14)
        or 'equidistant' (4, fisheye), as OpenCV defines them.
    :ivar K: (3, 3) float64 intrinsics of the raw image, pixels.
    :ivar D: (n,) float64 distortion coefficients.
    :ivar R: (3, 3) float64 rectification rotation.
    :ivar P: (3, 4) float64 projection of the rectified image, pixels.
    :ivar mount: None when the file has no mount block.
    """

    name: str
    width: int
    height: int
    distortion_model: str
    K: np.ndarray
    D: np.ndarray
    R: np.ndarray
    P: np.ndarray
    mount: Mount | None = None

    def scaled(self, width: int, height: int) -> 'CameraCalibration':
        """
        Return the calibration of the same view at another size.

        Pixel centres are integers, so ``x`` becomes ``(x + 0.5) * s - 0.5``: focal lengths scale
        by ``s``, centres as ``(c + 0.5) * s - 0.5``. The two axes scale on their own; use
        :meth:`cropped` first to keep the pixels square at another aspect ratio.

        :raises ConfigError: when a size is not positive.
        """
        for key, size in (('width', width), ('height', height)):
            if size < 1:
                raise ConfigError(f'{key} {size} of camera {self.name!r}: allowed are whole '
                                  'numbers from 1. Give the size of the scaled image in pixels.')
        scale_x, scale_y = width / self.width, height / self.height
        scale = np.diag([scale_x, scale_y, 1.0])
        scale[:2, 2] = (scale_x - 1) / 2, (scale_y - 1) / 2
        return replace(self, width=width, height=height, K=scale @ self.K, P=scale @ self.P)

    def cropped(self, left: int, top: int, width: int, height: int) -> 'CameraCalibration':
        """
        Return the calibration of a window of the image.

        :raises ConfigError: when the window does not lie within the image.
        """
        if (min(left, top) < 0 or min(width, height) < 1
                or left + width > self.width or top + height > self.height):
            raise ConfigError(
                f'window {width}x{height} at ({left}, {top}) does not lie within the '
                f'{self.width}x{self.height} image of camera {self.name!r}. Give a window inside '
                'the image.')
        shift = np.eye(3)
        shift[:2, 2] = -left, -top
        return replace(self, width=width, height=height, K=shift @ self.K, P=shift @ self.P)

    def project(self, points: np.ndarray) -> np.ndarray:
        """
        Project points of the optical frame into the raw (distorted) image.

        :param points: (n, 3), metres, in front of the camera (z > 0).
        :return: (n, 2) float64 pixels (x, y).
        """
        points = np.asarray(points, np.float64).reshape(-1, 1, 3)
        zero = np.zeros(3)
        if self.distortion_model == 'equidistant':
            pixels, _ = cv2.fisheye.projectPoints(points, zero, zero, self.K, self.D)
        else:
            pixels, _ = cv2.projectPoints(points, zero, zero, self.K, self.D)
        return cast(np.ndarray, pixels.reshape(-1, 2))

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """
        Return the rays of raw-image pixels; the inverse of :meth:`project`.

        :param pixels: (n, 2) pixels (x, y).
        :return: (n, 2) float64, (x / z, y / z) in the optical frame; NaN where no ray leads to
            the pixel, or where a fisheye's looks sideways or back.
        """
        pixels = np.asarray(pixels, np.float64).reshape(-1, 1, 2)
        until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-10)
        if self.distortion_model == 'equidistant':
            rays = cv2.fisheye.undistortPoints(pixels, self.K, self.D, criteria=until)
            rays[np.abs(rays) > 1e5] = np.nan
        else:
            rays = cv2.undistortPointsIter(pixels, self.K, self.D, np.eye(3), np.eye(3), until)
        rays = rays.reshape(-1, 2)
        # OpenCV's iteration ends after so many steps, converged or not.
        rays = _refined(self.project, rays, pixels.reshape(-1, 2), self.K)
        return rays

    def project_rectified(self, points: np.ndarray) -> np.ndarray:
        """
        Project points of the optical frame into the rectified image: ``P [R x; 0]``.

        The last column of P, the baseline of a stereo pair, stays out: the points are seen from
        this camera's own optical centre.

        :param points: (n, 3), metres, in front of the camera (z > 0).
        :return: (n, 2) float64 pixels (x, y).
        """
        turned = np.asarray(points, np.float64).reshape(-1, 3) @ self.R.T
        pixels = turned @ self.P[:, :3].T
        return cast(np.ndarray, pixels[:, :2] / pixels[:, 2:])

    def rectified_rays(self, pixels: np.ndarray) -> np.ndarray:
        """
        Return the rays of rectified-image pixels; the inverse of :meth:`project_rectified`.

        :param pixels: (n, 2) pixels (x, y).
        :return: (n, 2) float64, (x / z, y / z) in the optical frame of the raw image; NaN where
            it looks sideways or back.
        """
        pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
        homogeneous = np.column_stack([pixels, np.ones(len(pixels))])
        rays = homogeneous @ np.linalg.inv(self.P[:, :3]).T @ self.R
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.where(rays[:, 2:] > 0, rays[:, :2] / rays[:, 2:], np.nan)

    def rectification_map(self, size: tuple[int, int]) -> np.ndarray:
        """
        Return where each pixel of a rectified image of this size lies in the raw image.

        :param size: (height, width); another size than the camera's is the same view scaled.
        :return: (height, width, 2) float32 pixels (x, y) of the raw image; outside it where the
            camera saw nothing.
        """
        height, width = size
        scaled = self.scaled(width, height)
        projection = scaled.P[:, :3]
        if self.distortion_model == 'equidistant':
            maps = cv2.fisheye.initUndistortRectifyMap(self.K, self.D, self.R, projection,
                                                       (width, height), cv2.CV_32FC1)
        else:
            maps = cv2.initUndistortRectifyMap(self.K, self.D, self.R, projection,
                                               (width, height), cv2.CV_32FC1)
        return np.stack(maps, axis=-1)

    def windowed(self, binning: tuple[int, int] = (1, 1),
                 roi: tuple[int, int, int, int] = (0, 0, 0, 0)) -> 'CameraCalibration':
        """
        Return the calibration of the image that a driver makes by region of interest and binning.

        The rule is that of sensor_msgs/CameraInfo as image_geometry applies it: this calibration
        is the full sensor's; the region is cut out first, then pixels are binned, and ``x``
        becomes ``(x - x_offset) / binning``.

        :param binning: (x, y), 0 means 1.
        :param roi: (x_offset, y_offset, width, height) in sensor pixels; all 0 = everything.
        :raises ConfigError: the region does not lie within the sensor, or nothing remains.
        """
        left, top, width, height = roi
        width, height = width or self.width - left, height or self.height - top
        view = self.cropped(left, top, width, height)
        binning_x, binning_y = max(1, binning[0]), max(1, binning[1])
        shape = width // binning_x, height // binning_y
        if min(shape) < 1:
            raise ConfigError(f'binning {binning_x}x{binning_y} leaves nothing of the {width}x'
                              f'{height} region of camera {self.name!r}. Correct binning_x and '
                              'binning_y of its camera_info.')
        scale = np.diag([1 / binning_x, 1 / binning_y, 1.0])
        return replace(view, width=shape[0], height=shape[1], K=scale @ view.K, P=scale @ view.P)

    @cached_property
    def resolution(self) -> str:
        """The image size as text, e.g. '960x540'."""
        return f'{self.width}x{self.height}'

    def optical_from_base(self) -> np.ndarray:
        """
        Return the (4, 4) float64 transform: a point in the base frame -> in the optical frame.

        :raises ConfigError: when the calibration has no mount.
        """
        if self.mount is None:
            raise ConfigError(
                f'mount of camera {self.name!r} is missing, so nobody knows where the camera sits '
                'on the robot. Add a `mount:` block (frame_id, base_frame, translation, '
                'rotation_rpy) to its calibration file.')
        return self.mount.optical_from_base()

    def to_yaml(self) -> str:
        """Return the text of a calibration file that :func:`load_calibration` reads back."""
        document: dict[str, Any] = {
            'image_width': self.width, 'image_height': self.height, 'camera_name': self.name,
            'camera_matrix': _matrix(self.K), 'distortion_model': self.distortion_model,
            'distortion_coefficients': _matrix(self.D.reshape(1, -1)),
            'rectification_matrix': _matrix(self.R), 'projection_matrix': _matrix(self.P)}
        if self.mount is not None:
            document['mount'] = {
                'frame_id': self.mount.frame_id, 'base_frame': self.mount.base_frame,
                'translation': self.mount.translation.tolist(),
                'rotation_rpy': self.mount.rotation_rpy.tolist()}
        return yaml.safe_dump(document, sort_keys=False, default_flow_style=None)


def load_calibration(name_or_path: str | Path) -> CameraCalibration:
    """
    Read a calibration file.

    :param name_or_path: a name under ``calibration/`` of the package ('demo_camera') or the path
        of a camera_info YAML file.
    :raises ConfigError: when there is no such file or something in it is wrong; the message names
        file, key, value, what is allowed and the mend.
    """
    path = Path(name_or_path)
    if path.suffix not in ('.yaml', '.yml'):
        try:
            path = shared(FOLDER, f'{name_or_path}.yaml')
        except ConfigError as error:
            raise ConfigError(
                f'calibration {str(name_or_path)!r} is not known; allowed: '
                f'{", ".join(_names()) or "none is installed"}, or the path of a camera_info '
                '.yaml file.') from error
    fields = read_calibration(path)
    mount = fields.pop('mount')
    return CameraCalibration(mount=None if mount is None else Mount(**mount), **fields)


def rotation_from_rpy(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """
    Return the (3, 3) rotation of roll, pitch, yaw (radians) about fixed x, y, z axes.

    It turns a vector of the rotated frame into the frame that the angles are given in.
    """
    (sr, sp, sy), (cr, cp, cy) = np.sin([roll, pitch, yaw]), np.cos([roll, pitch, yaw])
    return np.array([[cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
                     [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
                     [-sp, cp * sr, cp * cr]])


def _refined(project: Callable[[np.ndarray], np.ndarray], rays: np.ndarray, pixels: np.ndarray,
             intrinsics: np.ndarray) -> np.ndarray:
    """Improve rays by Newton steps until they project onto their pixels; NaN where none does."""
    focal = np.array([intrinsics[0, 0], intrinsics[1, 1]])

    def error(rays: np.ndarray) -> np.ndarray:
        projected = project(np.column_stack([rays, np.ones(len(rays))]))
        return cast(np.ndarray, (projected - pixels) / focal)

    rays = rays.copy()
    for _ in range(8):
        found = error(rays)
        open_ = np.flatnonzero(np.abs(found * focal).max(axis=1) > _CLOSE_PX / 10)
        if not open_.size:
            return rays
        # The two columns of the Jacobian by central differences, in units of the focal length.
        step = 1e-6
        part, target = rays[open_], pixels[open_]
        columns = []
        for axis in np.eye(2):
            ends = [project(np.column_stack([part + sign * step * axis, np.ones(len(part))]))
                    for sign in (1, -1)]
            columns.append((ends[0] - ends[1]) / (2 * step * focal))
        (a, c), (b, d) = columns[0].T, columns[1].T
        determinant = a * d - b * c
        with np.errstate(divide='ignore', invalid='ignore'):
            gap = (project(np.column_stack([part, np.ones(len(part))])) - target) / focal
            move = np.stack([d * gap[:, 0] - b * gap[:, 1],
                             a * gap[:, 1] - c * gap[:, 0]], axis=1) / determinant[:, None]
        rays[open_] = part - np.clip(np.nan_to_num(move), -0.5, 0.5)
    rays[np.abs(error(rays) * focal).max(axis=1) > _CLOSE_PX] = np.nan
    return rays


def _names() -> list[str]:
    try:
        return sorted(path.stem for path in shared(FOLDER).glob('*.yaml'))
    except ConfigError:
        return []


def _matrix(values: np.ndarray) -> dict[str, Any]:
    rows, columns = values.shape
    return {'rows': rows, 'cols': columns, 'data': values.ravel().tolist()}
