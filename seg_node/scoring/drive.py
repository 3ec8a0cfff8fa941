"""Recorded drives with exact truth: camera frames, labels and how the car stood, as files."""

from collections.abc import Iterator
import csv
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile, ZipFile
import zlib

import cv2
import numpy as np

from ..errors import ConfigError
from ..geometry import Size
from ..ground.calibration import CameraCalibration, load_calibration, rotation_from_rpy
from ..model.schema import read_yaml
from ..paths import shared

#: File names in the folder of a drive.
MANIFEST, VIDEO, LABELS, CAMERA, BODY = ('drive.yaml', 'camera.mp4', 'labels.zip', 'camera.yaml',
                                         'body.csv')
_REMAKE = 'Make it again (python -m street) or reinstall the package'


@dataclass(frozen=True)
class Body:
    """
    How the car's body stands and moves at the time of one frame.

    Position and heading are ``base_link`` in the world, whose ground is the plane z = 0; pitch,
    roll and height are those of the body against the road. Signs as in REP-103: positive pitch is
    nose down, positive roll is right side down, positive yaw is to the left.
    """

    time_s: float
    x_m: float
    y_m: float
    height_m: float
    roll_rad: float
    pitch_rad: float
    yaw_rad: float
    speed_mps: float
    acceleration_mps2: float
    yaw_rate_radps: float

    def pose(self) -> np.ndarray:
        """Return the (4, 4) float64 transform base_link -> world."""
        pose = np.eye(4)
        pose[:3, :3] = rotation_from_rpy(self.roll_rad, self.pitch_rad, self.yaw_rad)
        pose[:3, 3] = self.x_m, self.y_m, self.height_m
        return pose


@dataclass(frozen=True, eq=False)
class DriveFrame:
    """
    One frame of a recorded drive.

    :ivar image: (H, W, 3) uint8 BGR, as decoded from the video.
    :ivar labels: (H, W) uint8, ids of the drive's class table; 255 = unlabelled.
    """

    index: int
    image: np.ndarray
    labels: np.ndarray
    body: Body


class Drive:
    """
    A folder with a recorded drive; opening it decodes nothing.

    :param path: the folder; None = the drive that the package ships.
    :ivar rate_hz: frames a second.
    :ivar taxonomy: name of the labels' class table.
    :raises ConfigError: when a file of it is missing or damaged.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = shared('drive') if path is None else Path(path)
        for name in (MANIFEST, VIDEO, LABELS, CAMERA, BODY):
            if not (self.path / name).is_file():
                raise ConfigError(f'{self.path} is no drive: it has no {name}. {_REMAKE}.')
        manifest = read_yaml(self.path / MANIFEST)
        try:
            self._count, self.rate_hz = int(manifest['frames']), float(manifest['rate_hz'])
            self.taxonomy = str(manifest['taxonomy'])
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(MANIFEST, 'frames, rate_hz or taxonomy is wrong '
                                f'({error!r})') from error

    @cached_property
    def calibration(self) -> CameraCalibration:
        """The camera at the size of the frames, with its mount."""
        return load_calibration(self.path / CAMERA)

    @cached_property
    def bodies(self) -> list[Body]:
        """How the body stands in each frame."""
        names = [field.name for field in fields(Body)]
        try:
            with (self.path / BODY).open(newline='', encoding='utf-8') as file:
                found = [Body(**{name: float(row[name]) for name in names})
                         for row in csv.DictReader(file)]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise self._damaged(BODY, repr(error)) from error
        if len(found) != len(self):
            raise self._damaged(BODY, f'it has {len(found)} rows for {len(self)} frames')
        return found

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[DriveFrame]:
        return self.frames(range(len(self)))

    def frames(self, indices: range) -> Iterator[DriveFrame]:
        """Yield some frames, in rising order."""
        for index, image in zip(indices, self.images(indices), strict=True):
            yield DriveFrame(index, image, self.labels(index), self.bodies[index])

    def images(self, indices: range) -> Iterator[np.ndarray]:
        """
        Yield the pictures of some frames, (H, W, 3) uint8 BGR, in rising order.

        Each frame before the last one asked for is decoded, which takes some milliseconds.
        """
        capture = cv2.VideoCapture(str(self.path / VIDEO))
        try:
            for index in range(indices.stop):
                image = None
                if capture.grab() and index in indices:
                    _, image = capture.retrieve()
                if index in indices:
                    if image is None:
                        raise self._damaged(VIDEO, f'frame {index} cannot be decoded')
                    yield image
        finally:
            capture.release()

    def labels(self, index: int) -> np.ndarray:
        """Return the (H, W) uint8 labels of one frame."""
        try:
            data = self._archive.read(f'{index:04d}.png')
        except (KeyError, BadZipFile, OSError, zlib.error) as error:
            raise self._damaged(LABELS, str(error)) from error
        labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        if labels is None:
            raise self._damaged(LABELS, f'{index:04d}.png cannot be decoded')
        return np.asarray(labels)

    @cached_property
    def _archive(self) -> ZipFile:
        return ZipFile(self.path / LABELS)

    def _damaged(self, name: str, why: str) -> ConfigError:
        return ConfigError(f'{self.path / name} is damaged: {why}. {_REMAKE}.')


def resized(drive: Drive, indices: range, size: Size) -> list[np.ndarray]:
    """Return the pictures of some frames as a camera of another size would give them."""
    interpolation = (cv2.INTER_AREA if size.width <= drive.calibration.width
                     else cv2.INTER_LINEAR)
    return [cv2.resize(image, (size.width, size.height), interpolation=interpolation)
            for image in drive.images(indices)]
