"""Videos and folders of images as camera messages."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
import math
from pathlib import Path
import re

import cv2
import numpy as np

from ..errors import ConfigError, FrameError
from ..ground.calibration import CameraCalibration, load_calibration
from ..image.compressed import inspect
from ..image.photo import orientation, read_photo
from ..image.wire import build_compressed_image, build_image, Header
from .messages import camera_info_cdr, with_stamp
from .sources import (
    ALL,
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    FrameOptions,
    IMAGE,
    PICTURE_SUFFIXES,
    Record,
    Source,
    Span,
    Topic,
)

FOLDER_FPS = 10.0
FRAME_ID = 'camera_optical_frame'
JPEG_QUALITY = 95
_MAX_FPS = 1000.0  # what a broken container claims is far above
_PASSED_ON = {'.jpg': 'jpeg', '.jpeg': 'jpeg', '.png': 'png'}


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
        self.path = path
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

    def records(self, topics: Collection[str], span: Span = ALL,
                epoch_ns: int | None = None) -> Iterator[Record]:
        epoch_ns = self._next_epoch_ns if epoch_ns is None else epoch_ns
        for time_ns, name, picture in self._pictures(span):
            stamp_ns = epoch_ns + time_ns - span.offset_ns
            self._next_epoch_ns = stamp_ns + self.period_ns
            if self._calibration is not None and self._info_topic in topics:
                self._check_size(name, picture)
                yield Record(self._info_topic, stamp_ns, with_stamp(self._info, stamp_ns))
            if self._image_topic in topics:
                yield Record(self._image_topic, stamp_ns, self._message(stamp_ns, picture))
            yield from self._beside(topics, time_ns, stamp_ns)

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


class VideoSource(FrameSource):
    """
    A video file; the stamps follow its own frame times, or ``fps`` where that is given.

    :raises ConfigError: when it cannot be opened or decoded, or its frame rate is unknown.
    """

    def __init__(self, path: Path, options: FrameOptions) -> None:
        self._capture = _open_video(path)
        try:
            if not self._capture.grab():
                raise ConfigError(f'{path} holds no frame that can be decoded; convert the video '
                                  '(e.g. `ffmpeg -i IN -c:v libx264 OUT.mp4`).')
            rate = self._capture.get(cv2.CAP_PROP_FPS)
            known = math.isfinite(rate) and 0 < rate <= _MAX_FPS
            if options.fps is None and not known:
                raise ConfigError(f'{path} claims {rate:g} frames per second; give --fps.')
            self._fps = options.fps or rate
            super().__init__(path, options)
        except BaseException:
            self._capture.release()
            raise

    def close(self) -> None:
        self._capture.release()

    def _count(self) -> int | None:
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(count) if math.isfinite(count) and count > 0 else None

    @property
    def period_ns(self) -> int:
        return round(1e9 / self._fps)

    def _pictures(self, span: Span) -> Iterator[tuple[int, str, Picture]]:
        if self._capture.get(cv2.CAP_PROP_POS_FRAMES):
            self._capture.release()  # seeking back is inexact in many files, opening is not
            self._capture = _open_video(self.path)
        index, last_ns = 0, -1
        while self._capture.grab():
            time_ns = self._time_ns(index, last_ns)
            if span.end_ns is not None and time_ns >= span.end_ns:
                return
            if time_ns >= span.offset_ns:
                good, bgr = self._capture.retrieve()
                if not good:
                    raise ConfigError(f'frame {index} of {self.path} cannot be decoded; convert '
                                      'the video (e.g. `ffmpeg -i IN -c:v libx264 OUT.mp4`).')
                yield time_ns, f'frame {index} of {self.path}', _picture(bgr)
            index, last_ns = index + 1, time_ns

    def _time_ns(self, index: int, last_ns: int) -> int:
        """Return when the grabbed frame is shown; never before the frame it follows."""
        by_rate = round(index * 1e9 / self._fps)
        shown_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        if self._options.fps is not None or not math.isfinite(shown_ms):
            return by_rate
        if index == 0:
            self._first_ms = shown_ms
        time_ns = round((shown_ms - self._first_ms) * 1e6)
        return time_ns if time_ns > last_ns else max(by_rate, last_ns + 1)


class FolderSource(FrameSource):
    """
    A folder of images in natural order (``frame2`` before ``frame10``), ``fps`` a second.

    :raises ConfigError: when it holds no image, or one that cannot be read.
    """

    def __init__(self, path: Path, options: FrameOptions) -> None:
        # Hidden files are no pictures, whatever they are called (macOS leaves ._a1.jpg about).
        files = [file for file in path.iterdir()
                 if file.is_file() and not file.name.startswith('.')]
        self._files = sorted((file for file in files if file.suffix.lower() in PICTURE_SUFFIXES),
                             key=lambda file: natural_key(file.name))
        if not self._files:
            kinds = Counter(file.suffix or 'no suffix' for file in files)
            found = ', '.join(f'{count} x {kind}' for kind, count in kinds.most_common(5))
            raise ConfigError(f'{path} holds no image ({", ".join(PICTURE_SUFFIXES)}) and no bag; '
                              f'found: {found or "no file at all"}.')
        super().__init__(path, options)

    def _count(self) -> int:
        return len(self._files)

    @property
    def period_ns(self) -> int:
        return round(1e9 / (self._options.fps or FOLDER_FPS))

    def _pictures(self, span: Span) -> Iterator[tuple[int, str, Picture]]:
        fps = self._options.fps or FOLDER_FPS
        for index, file in enumerate(self._files):
            time_ns = round(index * 1e9 / fps)
            if span.end_ns is not None and time_ns >= span.end_ns:
                return
            if time_ns >= span.offset_ns:
                yield time_ns, str(file), self._read(file)

    def _read(self, file: Path) -> Picture:
        data = file.read_bytes()
        array = np.frombuffer(data, np.uint8)
        passed_on = _PASSED_ON.get(file.suffix.lower())
        if passed_on is not None:
            try:
                height, width = inspect(array)
            except FrameError as error:
                raise ConfigError(f'{file} cannot be read: {error}. Remove or mend it.') from None
            if self._options.transport == 'compressed' and orientation(array) == 1:
                return Picture(height, width, encoded=data, format=passed_on)
        try:
            bgr = read_photo(array)
        except FrameError as error:
            raise ConfigError(f'{file} cannot be read: {error}. Remove or mend it.') from None
        if bgr is None:
            raise ConfigError(f'{file} ({len(data)} bytes) is not an image that OpenCV can read. '
                              'Remove or mend it.')
        return _picture(bgr)


def _picture(bgr: np.ndarray) -> Picture:
    return Picture(bgr.shape[0], bgr.shape[1], bgr)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which numbers in names count by value, not digit by digit."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part)
            for part in re.split(r'(\d+)', name) if part]


def _mounted_frame(calibration: CameraCalibration | None) -> str | None:
    mount = None if calibration is None else calibration.mount
    return None if mount is None else mount.frame_id


def _open_video(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path), cv2.CAP_ANY)
    if not capture.isOpened():
        raise ConfigError(f'{path} ({path.stat().st_size} bytes) cannot be opened as a video: '
                          'damaged, cut off, or a codec that OpenCV lacks. Convert it (e.g. '
                          '`ffmpeg -i IN -c:v libx264 OUT.mp4`).')
    return capture
