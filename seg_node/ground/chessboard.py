"""A camera's calibration from photos of a chessboard or ChArUco board."""

from dataclasses import dataclass, field
import math
from typing import Any

import cv2
import numpy as np

from ..errors import ConfigError
from ..geometry import Size
from .calibration import CameraCalibration

MODELS = ('plumb_bob', 'rational_polynomial', 'equidistant')
LEAST_VIEWS = 8
#: Photos of a size that differs by so many pixels are taken as they are: saved a pixel too large.
_SIZE_SLACK = 2
#: A photo whose corners lie farther off than this and than three times the usual is left out.
_OUTLIER_PX, _OUTLIER_TIMES = 1.5, 3.0
#: What a calibration must reach to be written.
MOST_RMS_PX = 1.5
MOST_FOCAL_DEVIATION = 0.02
LEAST_COVERAGE = 0.4
_LEAST_SIDE = 64  # pixels
_CELLS = 8  # the picture is divided into so many columns and rows to see what the boards covered


@dataclass(frozen=True)
class Board:
    """
    A calibration board.

    :ivar columns: inner corners along the longer side; of a ChArUco board squares.
    :ivar rows: along the other.
    :ivar square_m: side of a square.
    :ivar marker_m: side of a ChArUco board's markers; 0 = a plain chessboard.
    :ivar dictionary: of the markers, as OpenCV names it.
    """

    columns: int
    rows: int
    square_m: float = 0.03
    marker_m: float = 0.0
    dictionary: str = 'DICT_4X4_250'

    def __post_init__(self) -> None:
        """:raises ConfigError: a board that cannot be."""
        if not 0 < self.square_m < math.inf:
            raise ConfigError(f'a square of {self.square_m} m cannot be; measure the side of one')
        if not (self.marker_m == 0 or 0 < self.marker_m < self.square_m):
            raise ConfigError(f'a marker of {self.marker_m} m cannot be in a square of '
                              f'{self.square_m} m; measure both, or leave it out for a plain '
                              'chessboard')

    def find(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the corners' places on the board (n, 3) and in the picture (n, 2), or None."""
        return self._find_charuco(grey) if self.marker_m else self._find_chessboard(grey)

    def _find_chessboard(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        shape = self.columns, self.rows
        flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
        found, corners = cv2.findChessboardCorners(grey, shape, flags=flags)
        if found:
            # Half the distance between corners, so that no window holds a neighbour.
            side = float(np.linalg.norm(np.diff(corners.reshape(self.rows, self.columns, 2),
                                                axis=1), axis=-1).min())
            window = int(np.clip(side / 3, 2, 11))
            until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-3)
            corners = cv2.cornerSubPix(grey, corners, (window, window), (-1, -1), until)
        else:
            found, corners = cv2.findChessboardCornersSB(grey, shape)
        if not found:
            return None
        places = np.zeros((self.columns * self.rows, 3), np.float32)
        places[:, :2] = np.mgrid[:self.columns, :self.rows].T.reshape(-1, 2) * self.square_m
        return places, corners.reshape(-1, 2)

    def _find_charuco(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        number = getattr(cv2.aruco, self.dictionary, None)
        if number is None:
            raise ConfigError(f'{self.dictionary!r} is no dictionary of OpenCV; allowed are '
                              'DICT_4X4_250 and the like')
        board = cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m,
                                       cv2.aruco.getPredefinedDictionary(number))
        corners, ids, _, _ = cv2.aruco.CharucoDetector(board).detectBoard(grey)
        if ids is None or len(ids) < 8:
            return None
        return board.getChessboardCorners()[ids.ravel()], corners.reshape(-1, 2)


@dataclass
class View:
    """
    One photo with the board in it.

    :ivar places: (n, 3) float32 metres on the board.
    :ivar corners: (n, 2) float32 pixels.
    :ivar residuals: (n, 2) float64 pixels, found minus projected, once calibrated.
    """

    name: str
    places: np.ndarray
    corners: np.ndarray
    residuals: np.ndarray | None = None

    @property
    def rms_px(self) -> float:
        """Root of the mean square distance of the corners from where they should be."""
        assert self.residuals is not None
        return float(np.sqrt((self.residuals ** 2).sum(axis=1).mean()))


@dataclass
class Photos:
    """
    The photos that were looked at.

    :ivar size: of the pictures: that of the first in which a board was found.
    :ivar views: those to calibrate with.
    :ivar rejected: name and reason of each of the others.
    """

    board: Board
    size: Size | None = None
    views: list[View] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, image: np.ndarray) -> None:
        """Look for the board in a photo, (H, W, 3) uint8 BGR."""
        size = Size(*image.shape[:2])
        if self.size is not None and max(abs(size.height - self.size.height),
                                         abs(size.width - self.size.width)) > _SIZE_SLACK:
            self.rejected.append((name, f'it is {size}, the others are {self.size}'))
            return
        if min(size) < _LEAST_SIDE:
            self.rejected.append((name, f'it is {size}, too small to find a board in'))
            return
        found = self.board.find(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        if found is None:
            self.rejected.append((name, 'no board was found: is it whole in the picture, sharp '
                                  f'and of {self.board.columns} x {self.board.rows}?'))
            return
        self.size = self.size or size
        self.views.append(View(name, *found))


@dataclass(frozen=True)
class Calibrated:
    """
    What the photos tell.

    :ivar rms_px: over all corners used.
    :ivar focal_deviation: standard deviation of fx as a share of fx, from the fit.
    :ivar coverage: (rows, columns) int, corners in each part of the picture.
    """

    calibration: CameraCalibration
    rms_px: float
    focal_deviation: float
    coverage: np.ndarray

    @property
    def covered(self) -> float:
        """Return the share of the picture's parts that a corner lay in."""
        return float((self.coverage > 0).mean())


def calibrate(photos: Photos, model: str = 'plumb_bob', name: str = 'camera') -> Calibrated:
    """
    Fit the camera; photos that do not fit the others are moved to ``photos.rejected``.

    :raises ConfigError: too few photos, or they do not tell enough; what to photograph is said.
    """
    if model not in MODELS:
        raise ConfigError(f'model {model!r} is unknown; allowed: {", ".join(MODELS)}')
    _check_count(photos)
    fit = _fit(photos, model)
    usual = float(np.median([view.rms_px for view in photos.views]))
    limit = max(_OUTLIER_PX, _OUTLIER_TIMES * usual)
    far = [view for view in photos.views if view.rms_px > limit]
    if far:
        photos.views = [view for view in photos.views if view not in far]
        photos.rejected += [(view.name, f'its corners lie {view.rms_px:.2f} px off, the usual is '
                             f'{usual:.2f}: blurred, bent or another board?') for view in far]
        _check_count(photos)
        fit = _fit(photos, model)
    assert photos.size is not None
    rms, intrinsics, distortion, deviation = fit
    rectified = _rectified_projection(intrinsics, distortion, photos.size, model)
    calibration = CameraCalibration(
        name, photos.size.width, photos.size.height, model, intrinsics, distortion, np.eye(3),
        rectified)
    result = Calibrated(calibration, rms, deviation, _coverage(photos))
    _check(result)
    return result


def _check_count(photos: Photos) -> None:
    if len(photos.views) < LEAST_VIEWS:
        reasons = '; '.join(f'{name}: {reason}' for name, reason in photos.rejected[:6])
        raise ConfigError(f'the board was found in {len(photos.views)} photos; {LEAST_VIEWS} or '
                          f'more are needed, 15 to 20 are good. {reasons}')


def _check(result: Calibrated) -> None:
    """Refuse a calibration that nobody should drive by."""
    if result.rms_px > MOST_RMS_PX:
        raise ConfigError(f'the corners lie {result.rms_px:.2f} px from where the model has them; '
                          f'allowed are {MOST_RMS_PX}. Is the board flat, the picture sharp, the '
                          'model right (--model equidistant for a fisheye)?')
    if not result.focal_deviation <= MOST_FOCAL_DEVIATION:
        raise ConfigError(f'the photos tell the focal length to {result.focal_deviation:.1%} '
                          f'only; allowed are {MOST_FOCAL_DEVIATION:.0%}. Tilt the board, by 30 '
                          'to 45 degrees in several directions')
    if result.covered < LEAST_COVERAGE:
        raise ConfigError(f'the boards cover {result.covered:.0%} of the picture; '
                          f'{LEAST_COVERAGE:.0%} or more are needed. Hold the board into the '
                          'corners and at the edges')


def _fit(photos: Photos, model: str) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Fit all views and write their residuals; return RMS, K, D and the deviation of fx."""
    assert photos.size is not None
    size = photos.size.width, photos.size.height
    places: list[Any] = [view.places for view in photos.views]
    corners: list[Any] = [view.corners for view in photos.views]
    if model == 'equidistant':
        rms, k, d, turns, moves = cv2.fisheye.calibrate(
            [part.reshape(1, -1, 3).astype(np.float64) for part in places],
            [part.reshape(1, -1, 2).astype(np.float64) for part in corners], size, np.eye(3),
            np.zeros(4), flags=cv2.fisheye.CALIB_RECOMPUTE_EXTRINSIC | cv2.fisheye.CALIB_FIX_SKEW)
        deviation = 0.0  # OpenCV tells none for this model
    else:
        flags = cv2.CALIB_RATIONAL_MODEL if model == 'rational_polynomial' else 0
        rms, k, d, turns, moves, deviations, _, _ = cv2.calibrateCameraExtended(
            places, corners, size, None, None, flags=flags)
        deviation = float(deviations.ravel()[0] / k[0, 0])
        d = d.ravel()[:8 if model == 'rational_polynomial' else 5]
    d = np.asarray(d, np.float64).ravel()
    for view, turn, move in zip(photos.views, turns, moves, strict=True):
        project = cv2.fisheye.projectPoints if model == 'equidistant' else cv2.projectPoints
        points = view.places.reshape(-1, 1, 3).astype(np.float64)
        wanted = project(points, turn, move, k, d)[0].reshape(-1, 2)
        view.residuals = view.corners - wanted
    return float(rms), np.asarray(k, np.float64), d, deviation


def _rectified_projection(intrinsics: np.ndarray, distortion: np.ndarray, size: Size,
                          model: str) -> np.ndarray:
    """Return the (3, 4) P under which the rectified picture shows only what the camera saw."""
    shape = size.width, size.height
    if model == 'equidistant':
        k = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            intrinsics, distortion, shape, np.eye(3), balance=0.0)
    else:
        k = cv2.getOptimalNewCameraMatrix(intrinsics, distortion, shape, 0.0)[0]
    return np.column_stack([k, np.zeros(3)])


def _coverage(photos: Photos) -> np.ndarray:
    assert photos.size is not None
    corners = np.vstack([view.corners for view in photos.views])
    counts, _, _ = np.histogram2d(corners[:, 1], corners[:, 0], bins=_CELLS,
                                  range=((0, photos.size.height), (0, photos.size.width)))
    return counts.astype(int)
