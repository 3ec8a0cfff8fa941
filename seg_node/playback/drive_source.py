"""A recorded drive as camera messages, with its true labels beside the images."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from ..image.wire import build_image, Header
from ..scoring.drive import CAMERA, Drive, MANIFEST
from .frames import FrameSource, Picture
from .sources import ALL, FrameOptions, IMAGE, Record, Span, Topic

#: The last part of the topic of the true labels, beside that of the images.
TRUTH = 'labels'


def is_drive(path: Path) -> bool:
    """Return whether a path is the folder of a recorded drive."""
    return (path / MANIFEST).is_file()


class DriveSource(FrameSource):
    """
    The pictures of a drive with its camera_info and, as mono8 class ids, its truth.

    :param path: the folder; None = the drive that the package ships.
    :raises ConfigError: when a file of it is missing or damaged.
    """

    def __init__(self, path: Path | None, options: FrameOptions) -> None:
        self._drive = Drive(path)
        if options.camera_info is None:
            options = replace(options, camera_info=self._drive.path / CAMERA)
        super().__init__(self._drive.path, options)
        namespace, slash, _ = options.topic.rpartition('/')
        self._truth_topic = f'{namespace}{slash}{TRUTH}'
        self.topics += (Topic(self._truth_topic, IMAGE, len(self._drive), on_request=True),)

    def _count(self) -> int:
        return len(self._drive)

    @property
    def period_ns(self) -> int:
        return round(1e9 / (self._options.fps or self._drive.rate_hz))

    def _pictures(self, span: Span) -> Iterator[tuple[int, str, Picture]]:
        indices = self._indices(span)
        for index, image in zip(indices, self._drive.images(indices), strict=True):
            yield (index * self.period_ns, f'frame {index} of {self.path}',
                   Picture(image.shape[0], image.shape[1], image))

    def records(self, topics: Collection[str], span: Span = ALL,
                epoch_ns: int | None = None) -> Iterator[Record]:
        if set(topics) != {self._truth_topic} or epoch_ns is None:
            yield from super().records(topics, span, epoch_ns)
            return
        for index in self._indices(span):  # no picture has to be decoded
            time_ns = index * self.period_ns
            yield from self._beside(topics, time_ns, epoch_ns + time_ns - span.offset_ns)

    def _indices(self, span: Span) -> range:
        wanted = [index for index in range(len(self._drive))
                  if span.offset_ns <= index * self.period_ns
                  and (span.end_ns is None or index * self.period_ns < span.end_ns)]
        return range(wanted[0], wanted[-1] + 1) if wanted else range(0)

    def _beside(self, topics: Collection[str], time_ns: int, stamp_ns: int) -> Iterator[Record]:
        if self._truth_topic in topics:
            labels = self._drive.labels(time_ns // self.period_ns)
            height, width = labels.shape
            header = Header(*divmod(stamp_ns, 1_000_000_000), self._frame_id)
            yield Record(self._truth_topic, stamp_ns,
                         build_image(header, height, width, 'mono8', labels))
