"""What every source of frames shares: pictures become camera messages."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import ConfigError
from ..ground.calibration import CameraCalibration, load_calibration
from ..image.wire import build_compressed_image, build_image, Header
from .messages import camera_info_cdr, with_stamp
from .sources import (
    ALL,
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    FrameOptions,
    IMAGE,
    Record,
    Source,
    Span,
    Topic,
)

FRAME_ID = 'camera_optical_frame'
JPEG_QUALITY = 95
MAX_FPS = 1000.0


@dataclass(frozen=True)
class Picture:
    """One frame: (height, width, 3) uint8 BGR, or the file's own bytes and their format."""

    height: int
    width: int
    bgr: np.ndarray | None = None
    encoded: bytes = b''
    format: str = ''


class FrameSource(Source):
    """What videos and folders share: topics, stamps and messages."""

    restamps = True

    def __init__(self, path: Path, options: FrameOptions) -> None:
        if options.transport not in ('raw', 'compressed'):
            raise ConfigError(f'transport {options.transport!r} is unknown; give raw or '
                              'compressed')
        if options.fps is not None and not 0 < options.fps <= MAX_FPS:
            raise ConfigError(f'fps is {options.fps}; give frames per second, more than 0 and at '
                              f'most {MAX_FPS:g}')
        self.path = path
        self.losses = Counter()
        self._options = options
        self._calibration = (None if options.camera_info is None
                             else load_calibration(options.camera_info))
        self._frame_id = options.frame_id or _mounted_frame(self._calibration) or FRAME_ID
        self._next_epoch_ns = 0
        compressed = options.transport == 'compressed'
        self._image_topic = options.topic + ('/compressed' if compressed else '')
        namespace, slash, _ = options.topic.rpartition('/')
        self._info_topic = f'{namespace}{slash}camera_info'
        image = Topic(self._image_topic, COMPRESSED_IMAGE if compressed else IMAGE, self._count())
        self.topics = (image,)
        if self._calibration is not None:
            self.topics += (Topic(self._info_topic, CAMERA_INFO, image.count),)
            self._info = camera_info_cdr(self._calibration, self._frame_id)

    @abstractmethod
    def _count(self) -> int | None:
        """Return how many frames there are, if that is known without reading them all."""

    @abstractmethod
    def _pictures(self, span: Span) -> Iterator[tuple[int, str, Picture]]:
        """Yield (time from the start in ns, what to call it in an error, frame)."""

    @property
    @abstractmethod
    def period_ns(self) -> int:
        """Time between two frames, ns of recorded time."""

    @property
    def calibration(self) -> CameraCalibration | None:
        """What its camera_info tells, with the mount if there is one."""
        return self._calibration

    @property
    def length_ns(self) -> int | None:
        count = self._count()
        return None if count is None else count * self.period_ns

    def records(self, topics: Collection[str], span: Span = ALL,
                epoch_ns: int | None = None) -> Iterator[Record]:
        epoch_ns = self._next_epoch_ns if epoch_ns is None else epoch_ns
        cut_ns, last_ns = 0, None
        self.losses['gaps_cut'] = 0
        for time_ns, name, picture in self._pictures(span):
            if last_ns is not None and time_ns - last_ns > self.max_gap_ns:
                cut_ns += time_ns - last_ns - self.max_gap_ns
                self.losses['gaps_cut'] += 1
            last_ns = time_ns
            stamp_ns = epoch_ns + time_ns - span.offset_ns - cut_ns
            self._next_epoch_ns = stamp_ns + self.period_ns
            if self._calibration is not None and self._info_topic in topics:
                self._check_size(name, picture)
                yield Record(self._info_topic, stamp_ns, with_stamp(self._info, stamp_ns))
            if self._image_topic in topics:
                yield Record(self._image_topic, stamp_ns, self._message(stamp_ns, picture))
            yield from self._beside(topics, time_ns, stamp_ns)

    def remarks(self) -> list[str]:
        gaps = self.losses['gaps_cut']
        return [f'{gaps} gaps between frames are cut to {self.max_gap_ns / 1e9:g} s '
                '(--max-gap)'] if gaps else []

    def _beside(self, topics: Collection[str], time_ns: int, stamp_ns: int) -> Iterator[Record]:
        """Yield what else belongs to the frame at a time from the start."""
        return iter(())

    def _message(self, stamp_ns: int, picture: Picture) -> bytes:
        header = Header(*divmod(stamp_ns, 1_000_000_000), self._frame_id)
        if self._options.transport == 'raw':
            assert picture.bgr is not None
            return build_image(header, picture.height, picture.width, 'bgr8', picture.bgr)
        if picture.bgr is None:
            return build_compressed_image(header, picture.format, picture.encoded)
        _, jpeg = cv2.imencode('.jpg', picture.bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return build_compressed_image(header, 'bgr8; jpeg compressed bgr8', jpeg)

    def _check_size(self, name: str, picture: Picture) -> None:
        calibration = self._calibration
        assert calibration is not None
        if (picture.width, picture.height) != (calibration.width, calibration.height):
            raise ConfigError(f'{name} is {picture.width}x{picture.height}, but the calibration '
                              f'{self._options.camera_info} is for {calibration.width}x'
                              f'{calibration.height}. Give the calibration of this camera.')


def _mounted_frame(calibration: CameraCalibration | None) -> str | None:
    mount = None if calibration is None else calibration.mount
    return None if mount is None else mount.frame_id


def picture_of(bgr: np.ndarray) -> Picture:
    """Return an image (height, width, 3) uint8 BGR as a frame."""
    return Picture(bgr.shape[0], bgr.shape[1], bgr)
