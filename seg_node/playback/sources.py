"""Where recorded frames come from: bags, videos and folders of images, as timed CDR messages."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)

LAST_NS = 2 ** 31 * 10 ** 9  # ROS 2 tells no later time
STORAGE_SUFFIXES = ('.db3', '.mcap')


@dataclass(frozen=True)
class Topic:
    """
    One topic of a source.

    :ivar name: absolute for bags; as given (maybe relative) for videos and folders.
    :ivar type: e.g. ``'sensor_msgs/msg/Image'``.
    :ivar count: how many messages there are; None when only playing tells.
    :ivar latched: late subscribers get the old messages too (transient local).
    :ivar on_request: sent only when it is asked for.
    """

    name: str
    type: str
    count: int | None = None
    latched: bool = False
    on_request: bool = False

    @property
    def is_image(self) -> bool:
        """Whether the messages are camera images, raw or compressed."""
        return self.type in IMAGE_TYPES


@dataclass(frozen=True, slots=True)
class Record:
    """One message: when it was recorded (ns), on which topic, and its CDR bytes."""

    topic: str
    time_ns: int
    data: bytes


@dataclass(frozen=True)
class Span:
    """Which part of a source is wanted: from ``offset_ns`` after its start, ``length_ns`` long."""

    offset_ns: int = 0
    length_ns: int | None = None

    @property
    def end_ns(self) -> int | None:
        """Return where the part ends, counted from the source's start; None = at its end."""
        return None if self.length_ns is None else self.offset_ns + self.length_ns


ALL = Span()


@dataclass(frozen=True)
class FrameOptions:
    """
    How the frames of a video or a folder of images become messages.

    :ivar topic: the image topic; ``/compressed`` is appended for the compressed transport,
        camera_info goes to its sibling ``camera_info``.
    :ivar frame_id: None = the calibration's optical frame, else ``camera_optical_frame``.
    :ivar fps: frames per second of recorded time; None = the video's own, 10 for a folder.
    :ivar transport: ``'raw'`` (bgr8) or ``'compressed'`` (JPEG and PNG files as they are,
        everything else as JPEG of quality 95).
    :ivar camera_info: name or path of a calibration, sent with each frame.
    """

    topic: str = 'camera/image_raw'
    frame_id: str | None = None
    fps: float | None = None
    transport: str = 'raw'
    camera_info: str | Path | None = None


class Source(ABC):
    """
    Recorded messages in the order of their time; a context manager.

    :ivar path: the file or folder.
    :ivar topics: what it holds.
    :ivar losses: how much of it could not be given, by kind, when it was read last.
    :ivar max_gap_ns: a source that restamps leaves no longer gap between two frames.
    :ivar restamps: the stamps are made while playing, so they can follow any clock and go on
        rising when the source is repeated. Otherwise they are the recorded ones.
    """

    path: Path
    topics: tuple[Topic, ...]
    losses: Counter[str]
    max_gap_ns = 5_000_000_000
    restamps = False

    @property
    def start_ns(self) -> int:
        """The recorded time that spans are counted from."""
        return 0

    @property
    def length_ns(self) -> int | None:
        """How long it is, as far as it says so; None = only playing tells."""
        return None

    @abstractmethod
    def records(self, topics: Collection[str], span: Span = ALL,
                epoch_ns: int | None = None) -> Iterator[Record]:
        """
        Yield the messages of some topics in the order of their time.

        :param topics: names of topics of this source; others are left out.
        :param span: which part; latched messages before it come at its start.
        :param epoch_ns: for a source that restamps: the stamp of the first frame; None = right
            after the frames of the call before.
        :raises ConfigError: when the data cannot be read on.
        """

    def problem(self, topic: Topic) -> str:
        """Return why messages of a topic cannot be sent as the installed type; '' = they can."""
        return ''

    def remarks(self) -> list[str]:
        """Return a line for each kind of thing that was not as it should be, when last read."""
        return []

    def close(self) -> None:  # noqa: B027 (not every source holds something open)
        """Free files and decoders."""

    def __enter__(self) -> 'Source':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
