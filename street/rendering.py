"""Renders a synthetic drive on all cores, frame after frame."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
import os

import cv2

from seg_node.ground.calibration import CameraCalibration, load_calibration
from seg_node.scoring.drive import DriveFrame
from seg_node.tools.console import progress

from .drive import DEMO_CAMERA, frame_count, SyntheticDrive

_AHEAD = 8  # frames a core that may wait to be written
_FEW = 20  # frames for which no further process is worth its start


@dataclass(frozen=True)
class Settings:
    """What is to be rendered; see :class:`SyntheticDrive`, the camera by name or path."""

    width: int = 960
    height: int = 540
    rate_hz: float = 10.0
    duration_s: float = 15.0
    seed: int = 0
    district: str | None = None
    camera: str = DEMO_CAMERA

    def drive(self) -> SyntheticDrive:
        """Return the drive; it is made up now."""
        return SyntheticDrive(self.width, self.height, self.rate_hz, self.duration_s, self.seed,
                              load_calibration(self.camera), district=self.district)


@dataclass(frozen=True)
class Rendering:
    """
    A drive that is being rendered.

    :ivar count: how many frames there will be.
    :ivar frames: renders them, in their order; to be used once.
    """

    calibration: CameraCalibration
    taxonomy: str
    count: int
    frames: Iterable[DriveFrame]


@contextmanager
def rendering(settings: Settings) -> Iterator[Rendering]:
    """
    Render while the context lasts, in processes of their own where that pays.

    :raises ConfigError: when a setting is out of range.
    """
    count, cores = frame_count(settings.duration_s, settings.rate_hz), os.cpu_count() or 1
    if count < _FEW:
        drive = _drive(settings)
        yield Rendering(drive.calibration, drive.taxonomy, count, drive)
        return
    # Spawned, not forked: OpenCV's threads do not survive a fork. One thread each: the processes
    # share the cores already.
    with ProcessPoolExecutor(cores, get_context('spawn'), cv2.setNumThreads, (1,)) as workers:
        calibration, taxonomy = workers.submit(_describe, settings).result()
        frames = _in_order(workers, settings, count, _AHEAD * cores)
        try:
            yield Rendering(calibration, taxonomy, count, progress(frames, 'rendering', count))
        finally:
            workers.shutdown(cancel_futures=True)


def _in_order(workers: ProcessPoolExecutor, settings: Settings, count: int,
              ahead: int) -> Iterator[DriveFrame]:
    pending: deque[Future[DriveFrame]] = deque()
    for index in range(count):
        pending.append(workers.submit(_render, settings, index))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


@lru_cache(maxsize=1)
def _drive(settings: Settings) -> SyntheticDrive:
    """Return the drive that this process renders."""
    return settings.drive()


def _describe(settings: Settings) -> tuple[CameraCalibration, str]:
    drive = _drive(settings)
    return drive.calibration, drive.taxonomy


def _render(settings: Settings, index: int) -> DriveFrame:
    return _drive(settings).frame(index)
