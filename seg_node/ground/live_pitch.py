"""
How far the vehicle pitches now, from the picture alone: vanishing point and horizon's motion.

Two witnesses. The lines of a street (kerbs, markings, eaves) meet in a point at the height of the
horizon; it is found from line segments by a robust fit that allows for a bend, and is right on
average but coarse. And between two frames the neighbourhood of the horizon moves up or down by
what the pitch has changed (phase correlation); that is fine but drifts. A Kalman filter joins the
two.

Convention: angles in radians; positive is nose down, as in REP-103, and relative to the mount.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .calibration import CameraCalibration, Mount

#: Estimates beyond this are not believed: a car does not pitch so far, a hill is no pitch.
MOST_DEVIATION = float(np.radians(4.0))
_WIDTH = 480  # pixels to which the picture is shrunk
_STRIP = 64, 256  # rows and columns of the neighbourhood of the horizon, in the shrunken picture
_LINES_EVERY = 3  # frames from one search for lines to the next; they are the costly part
#: Standard deviations: of the pitch of a car that drives as it likes, of one step of the horizon's
#: motion, of the vanishing point straight ahead and for each radian that the road bends aside.
USUAL_SIGMA, _STEP = float(np.radians(0.7)), float(np.radians(0.08))
_POINT, _POINT_ASIDE = np.radians(0.35), 0.15
_CALM_S = 40.0  # the pitch returns to the mount's within about this time
_GAP_S = 1.0  # after a longer gap the last frame tells nothing about this one
_LEAST_WEIGHT = 0.8  # of the lines that agree (sum of their lengths, unit focal length)
_KERNEL = np.radians([4.0, 0.4])  # width of the robust fit, from first to last iteration
_PRIOR = np.diag([2e-4, 2e-3, 1.0])  # of yaw, pitch and curvature, where lines tell nothing
_STARTS = np.radians([-6.0, 0.0, 6.0])  # yaw of the road


@dataclass(frozen=True)
class Pitch:
    """The estimate: deviation from the mount's pitch, and its standard deviation, radians."""

    deviation: float
    sigma: float


class LivePitch:
    """
    Follows the pitch of one camera's vehicle.

    :param calibration: of the raw images.
    """

    def __init__(self, calibration: CameraCalibration, mount: Mount) -> None:
        self._scale = min(1.0, _WIDTH / calibration.width)
        self._size = (max(1, round(calibration.width * self._scale)),
                      max(1, round(calibration.height * self._scale)))
        self._view = calibration.scaled(*self._size)
        self._height_m = float(mount.translation[2])
        self._turn = mount.optical_from_base()[:3, :3]
        ahead = self._view.project((self._turn @ np.array([1.0, 0.0, 0.0]))[None])[0]
        self._horizon = int(np.clip(ahead[1], 0, self._size[1] - 1))
        rows, columns = min(_STRIP[0], self._size[1]), min(_STRIP[1], self._size[0])
        # The same above as below: what comes nearer moves away from the horizon on both sides.
        top = int(np.clip(self._horizon - rows // 2, 0, self._size[1] - rows))
        left = int(np.clip(ahead[0] - columns / 2, 0, self._size[0] - columns))
        self._strip = slice(top, top + rows), slice(left, left + columns)
        self._window = cv2.createHanningWindow((columns, rows), cv2.CV_32F)
        self._finder = cv2.createLineSegmentDetector(cv2.LSD_REFINE_NONE)
        self.reset()

    def reset(self) -> None:
        """Forget everything but the mount."""
        self._last: np.ndarray | None = None
        self._last_ns = 0
        self._frames = 0
        self._deviation, self._variance = 0.0, USUAL_SIGMA ** 2

    def update(self, image: np.ndarray, stamp_ns: int) -> Pitch:
        """
        Return the pitch after a frame.

        :param image: (H, W, 3) uint8 BGR, raw.
        """
        step_s = (stamp_ns - self._last_ns) / 1e9
        if not 0 < step_s <= _GAP_S:
            self.reset()
            step_s = 0.0
        self._last_ns = stamp_ns
        grey = cv2.cvtColor(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA),
                            cv2.COLOR_BGR2GRAY)
        strip = grey[self._strip].astype(np.float32)
        if self._last is not None:
            self._predict(strip, step_s)
        self._last = strip
        if self._frames % _LINES_EVERY == 0:
            self._correct(grey)
        self._frames += 1
        self._deviation = float(np.clip(self._deviation, -MOST_DEVIATION, MOST_DEVIATION))
        return Pitch(self._deviation, float(np.sqrt(self._variance)))

    def _predict(self, strip: np.ndarray, step_s: float) -> None:
        (_, down), _ = cv2.phaseCorrelate(self._last, strip, self._window)
        self._deviation -= float(np.arctan(down / self._view.K[1, 1]))
        calm = float(np.exp(-step_s / _CALM_S))
        self._deviation *= calm
        self._variance = ((self._variance + _STEP ** 2) * calm ** 2
                          + (1 - calm ** 2) * USUAL_SIGMA ** 2)

    def _correct(self, grey: np.ndarray) -> None:
        found = self._vanishing_point(grey)
        if found is None:
            return
        yaw, pitch = found
        variance = (_POINT + _POINT_ASIDE * abs(yaw)) ** 2
        surprise = pitch - self._deviation
        # A point far from what is believed counts less: it may be that of a side street.
        variance *= 1 + surprise ** 2 / (4 * (self._variance + variance))
        gain = self._variance / (self._variance + variance)
        self._deviation += gain * surprise
        self._variance *= 1 - gain

    def _vanishing_point(self, grey: np.ndarray) -> tuple[float, float] | None:
        """Return yaw of the road and pitch, or None where too few lines agree."""
        segments = self._finder.detect(np.ascontiguousarray(grey[self._horizon:]))[0]
        if segments is None:
            return None
        ends = segments.reshape(-1, 2) + (0, self._horizon)
        rays = self._view.normalize(ends)
        rays = np.column_stack([rays, np.ones(len(rays))]) @ self._turn
        one, other = rays.reshape(-1, 2, 3).transpose(1, 0, 2)
        # A line in the world and the optical centre span a plane; this is its normal.
        normals = np.cross(one, other)
        length = np.linalg.norm(normals, axis=1)
        with np.errstate(divide='ignore', invalid='ignore'):
            normals /= length[:, None]
            low = -(one + other)[:, 2] / (one + other)[:, 0]  # of its middle, below the horizon
        useful = ((length > 0.03) & (low > 0.03) & (np.abs(normals[:, 2]) < 0.97)
                  & (np.abs(normals[:, 1]) < 0.995))
        if np.count_nonzero(useful) < 4:
            return None
        middle = (one + other)[useful]
        ahead_m = np.clip(self._height_m * middle[:, 0] / np.maximum(-middle[:, 2], 1e-3), 2, 40)
        fits = [_fit(normals[useful], length[useful], ahead_m, start) for start in _STARTS]
        yaw, pitch, weight = max(fits, key=lambda fit: fit[2])
        return (yaw, pitch) if weight >= _LEAST_WEIGHT else None


def _fit(normals: np.ndarray, weights: np.ndarray, ahead_m: np.ndarray,
         yaw: float) -> tuple[float, float, float]:
    """
    Return yaw, pitch and the weight of the lines that agree, from a yaw to start with.

    A line along the road at a distance s has the direction (1, yaw + curvature s, pitch) in the
    frame of the mount, nose down positive, and lies in its plane: normal . direction = 0. Solved
    by iteratively reweighted least squares with a kernel that narrows.
    """
    state = np.array([yaw, 0.0, 0.0])
    columns = np.column_stack([normals[:, 1], normals[:, 2], normals[:, 1] * ahead_m])
    width = _KERNEL[0]
    for _ in range(8):
        error = normals[:, 0] + columns @ state
        trust = weights / (1 + (error / width) ** 2) ** 2
        matrix = columns.T @ (columns * trust[:, None]) + _PRIOR
        state = np.linalg.solve(matrix, -(columns.T @ (trust * normals[:, 0])))
        width = max(_KERNEL[1], 0.7 * width)
    error = normals[:, 0] + columns @ state
    return float(state[0]), float(state[1]), float(
        (weights / (1 + (error / width) ** 2)).sum())
