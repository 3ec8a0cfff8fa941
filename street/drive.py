"""The synthetic drive: a street, a car with a camera, and its frames."""

from collections.abc import Iterator
import math
from weakref import WeakValueDictionary

import cv2
import numpy as np

from seg_node.errors import ConfigError
from seg_node.ground.calibration import CameraCalibration, load_calibration
from seg_node.scoring.drive import Body, DriveFrame

from .body import BodyMotion
from .scene import Scene
from .sensor import Sensor
from .style import DISTRICTS
from .view import Pose, View

DEMO_CAMERA = 'demo_camera'
_OVERSAMPLING = 1.6
_streets: WeakValueDictionary[tuple[int, float, str | None], Scene] = WeakValueDictionary()


class SyntheticDrive:
    """
    A drive down a street that a seed makes up, seen through a calibrated lens.

    Frames can be asked for in any order; the same arguments and index always give the same one.
    The street is made for the seed and the duration; neither size nor rate changes it.

    :ivar calibration: the camera at the size that is rendered.
    :ivar rate_hz: frames a second.
    :ivar taxonomy: name of the labels' class table.
    """

    taxonomy = 'camvid11'

    def __init__(self, width: int = 960, height: int = 540, rate_hz: float = 10.0,
                 duration_s: float = 15.0, seed: int = 0,
                 calibration: CameraCalibration | None = None, *,
                 district: str | None = None, sensor_noise: bool = True) -> None:
        """
        Make up the street (takes a few seconds).

        :param calibration: the camera, with a mount; it is cropped about its middle to the aspect
            ratio asked for and scaled. None: the package's demo camera.
        :param district: 'high_street', 'residential', 'mixed' or 'motorway'; None: one of those in
            town, by the seed.
        :param sensor_noise: False for images without noise.
        :raises ConfigError: when a value is out of range or the camera has no mount or sees too
            wide.
        """
        for key, value, low, high in (('width', width, 64, 4096), ('height', height, 64, 4096),
                                      ('rate_hz', rate_hz, 0.1, 1000),
                                      ('duration_s', duration_s, 0.05, 120), ('seed', seed, 0,
                                                                              2 ** 63)):
            if not low <= value <= high:
                raise ConfigError(f'{key} {value} of the synthetic drive: allowed are {low} to '
                                  f'{high}. Choose a value in that range.')
        if district is not None and district not in DISTRICTS:
            raise ConfigError(f'district {district!r} of the synthetic drive: allowed are '
                              f'{", ".join(DISTRICTS)}. Choose one of them, or none.')
        camera = load_calibration(DEMO_CAMERA) if calibration is None else calibration
        self.calibration = _fitted(camera, width, height)
        self.rate_hz, self.duration_s, self.seed = rate_hz, duration_s, seed
        self._optical_from_base = self.calibration.optical_from_base()
        self._view = View(self.calibration, _OVERSAMPLING)
        self._scene = _scene(seed, duration_s, district)
        self._body = BodyMotion(self._scene.ride, self._scene.road, duration_s)
        self._sensor = Sensor(np.random.default_rng([seed, 5]), self._scene.style, width, height,
                              sensor_noise)

    def __len__(self) -> int:
        return frame_count(self.duration_s, self.rate_hz)

    def __iter__(self) -> Iterator[DriveFrame]:
        return (self.frame(index) for index in range(len(self)))

    def frame(self, index: int) -> DriveFrame:
        """
        Render one frame.

        :raises IndexError: when there is no such frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'frame {index}; the drive has frames 0 to {len(self) - 1}')
        time_s = index / self.rate_hz
        body = self.body(time_s)
        canvas = self._scene.draw(self._view, self._camera(body.pose()), time_s)
        labels = self._view.labels(cv2.extractChannel(canvas, 3))
        exposure = self._exposure(time_s)
        image = self._view.image(cv2.cvtColor(canvas, cv2.COLOR_BGRA2BGR))
        image = self._sensor.expose(image, exposure, index)
        return DriveFrame(index, image, labels, body)

    def body(self, time_s: float) -> Body:
        """Return how the car's body stands and moves at a time."""
        return self._body.at(time_s)

    def road_edge(self, side: int, s: np.ndarray) -> np.ndarray:
        """
        Return points where the road meets the kerb, to check geometry against.

        :param side: 1 = left, -1 = right.
        :param s: (n,) distances along the street from its start, metres.
        :return: (n, 3) float64 world points; NaN where a side street opens.
        """
        plan, edge = self._scene.plan, np.full((len(s), 3), np.nan)
        closed = np.array([not plan.near_side_street(side, float(value), 4.0) for value in s])
        edge[closed, :2] = self._scene.road.to_world(s[closed], side * plan.bands[side].kerb)
        edge[closed, 2] = 0.0
        return edge

    def _camera(self, base: np.ndarray) -> Pose:
        """Return the camera in the world for a base pose."""
        optical_from_world = self._optical_from_base @ np.linalg.inv(base)
        turn = optical_from_world[:3, :3]
        return Pose(turn, -turn.T @ optical_from_world[:3, 3])

    def _exposure(self, time_s: float) -> float:
        """Return the gain, which the camera keeps adjusting a little."""
        drift = 0.06 * math.sin(2 * math.pi * time_s / 9.7 + self.seed) + 0.03 * math.sin(
            2 * math.pi * time_s / 2.9)
        return float(self._scene.style.exposure * (1 + drift))


def frame_count(duration_s: float, rate_hz: float) -> int:
    """Return how many frames a drive has."""
    return max(1, math.ceil(duration_s * rate_hz - 1e-9))


def _scene(seed: int, duration_s: float, district: str | None) -> Scene:
    """Return the street; drives that are alive share it, e.g. those of several cameras."""
    key = (seed, duration_s, district)
    scene = _streets.get(key)
    if scene is None:
        scene = _streets[key] = Scene(*key)
    return scene


def _fitted(camera: CameraCalibration, width: int, height: int) -> CameraCalibration:
    """Return the camera cropped about its middle to an aspect ratio, and scaled."""
    wanted = width / height
    if camera.width / camera.height > wanted:
        crop = (min(camera.width, round(camera.height * wanted)), camera.height)
    else:
        crop = (camera.width, min(camera.height, round(camera.width / wanted)))
    cut = camera.cropped((camera.width - crop[0]) // 2, (camera.height - crop[1]) // 2, *crop)
    return cut.scaled(width, height)
